// What stat(2) says of a file that is being written, again and again, by its descriptors and by its names.
// users: root nobody
// places: cow tmpfs
#include "check.h"

static struct stat of(int fd) {
    struct stat st = {0};
    OK(fstat(fd, &st));
    return st;
}

static struct stat named(const char *name) {
    struct stat st = {0};
    OK(stat(name, &st));
    return st;
}

static int same(struct stat a, struct stat b) {
    return a.st_size == b.st_size && a.st_blocks == b.st_blocks && a.st_ino == b.st_ino && a.st_dev == b.st_dev &&
           a.st_mode == b.st_mode && a.st_nlink == b.st_nlink && a.st_uid == b.st_uid &&
           a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec &&
           a.st_ctim.tv_sec == b.st_ctim.tv_sec && a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

static int before(struct timespec a, struct timespec b) {
    return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

static void let_time_pass(void) { nanosleep(&(struct timespec){0, 12000000}, NULL); } /* two ticks of any kernel */

static void size_and_times(void) {
    int fd = OK(open("f", O_CREAT | O_RDWR | O_TRUNC, 0644));
    for (int i = 0; i < 5; i++) {
        EQ(of(fd).st_size, 100 * i);
        struct stat was = named("f");
        CHECK(same(was, of(fd)));
        let_time_pass();
        EQ(pwrite(fd, (char[100]){0}, 100, 100 * i), 100);
        struct stat is = named("f");
        EQ(is.st_size, 100 * i + 100);
        CHECK(before(was.st_mtim, is.st_mtim) && before(was.st_ctim, is.st_ctim));
        CHECK(same(is, of(fd)));
    }
    OK(ftruncate(fd, 7));
    EQ(named("f").st_size, 7);
    EQ(of(fd).st_size, 7);
    OK(ftruncate(fd, 1 << 20));
    EQ(of(fd).st_size, 1 << 20);
    EQ(of(fd).st_blocks, named("f").st_blocks);
    OK(close(fd));
    EQ(named("f").st_size, 1 << 20);
}

static void attributes(void) {
    int fd = OK(open("g", O_CREAT | O_RDWR | O_TRUNC, 0644));
    for (int i = 0; i < 3; i++) {
        EQ(write(fd, "x", 1), 1);
        CHECK(same(of(fd), named("g")));
        struct stat was = of(fd);
        let_time_pass();
        OK(fchmod(fd, i & 1 ? 0600 : 0640));
        EQ(of(fd).st_mode & 0777, i & 1 ? 0600 : 0640);
        CHECK(before(was.st_ctim, of(fd).st_ctim) && !before(was.st_mtim, of(fd).st_mtim));
        OK(link("g", "g2"));
        EQ(of(fd).st_nlink, 2);
        OK(unlink("g2"));
        EQ(named("g").st_nlink, 1);
        struct timespec times[2] = {{1000 + i, 5}, {2000 + i, 7}};
        OK(futimens(fd, times));
        EQ(of(fd).st_mtim.tv_sec, 2000 + i);
        EQ(named("g").st_mtim.tv_nsec, 7);
        EQ(named("g").st_atim.tv_sec, 1000 + i);
        EQ(of(fd).st_size, i + 1);
    }
    OK(close(fd));
}

static void privileges_go_with_a_write(void) {
    int fd = OK(open("s", O_CREAT | O_RDWR | O_TRUNC, 0644));
    EQ(of(fd).st_mode & 07777, 0644);
    OK(chmod("s", 06755));
    EQ(of(fd).st_mode & 07777, 06755);
    EQ(named("s").st_mode & 07777, 06755);
    EQ(write(fd, "x", 1), 1);
    mode_t left = geteuid() ? 0755 : 06755; /* CAP_FSETID */
    EQ(of(fd).st_mode & 07777, left);
    EQ(named("s").st_mode & 07777, left);
    OK(close(fd));
}

/* The name means another file, while the old one is still open. */
static void another_of_the_name(void) {
    int old = OK(open("n", O_CREAT | O_RDWR | O_TRUNC, 0644));
    EQ(write(old, "12345", 5), 5);
    EQ(of(old).st_size, 5);
    EQ(named("n").st_size, 5);
    int new = OK(open("m", O_CREAT | O_RDWR | O_TRUNC, 0644));
    EQ(of(new).st_size, 0);
    OK(rename("m", "n"));
    EQ(named("n").st_size, 0);
    EQ(named("n").st_ino, of(new).st_ino);
    EQ(of(old).st_nlink, 0);
    EQ(of(old).st_size, 5);
    EQ(write(old, "6", 1), 1);
    EQ(of(old).st_size, 6);
    EQ(named("n").st_size, 0);
    /* numbers of descriptors are used again */
    OK(dup2(old, new));
    EQ(named("n").st_size, 0);
    EQ(of(new).st_size, 6);
    OK(close(new)), OK(close(old));
    EQ(named("n").st_size, 0);
}

static void written_by_another_process(void) {
    int fd = OK(open("o", O_CREAT | O_RDWR | O_TRUNC, 0644));
    for (int i = 0; i < 4; i++) {
        EQ(named("o").st_size, 10 * i);
        EQ(of(fd).st_size, 10 * i);
        IN_CHILD({
            int other = OK(open("o", O_WRONLY | O_APPEND));
            EQ(write(other, "0123456789", 10), 10);
            EQ(named("o").st_size, 10 * i + 10);
        });
        EQ(named("o").st_size, 10 * i + 10);
        CHECK(same(named("o"), of(fd)));
    }
    OK(close(fd));
}

static void through_a_mapping(void) {
    int fd = OK(open("p", O_CREAT | O_RDWR | O_TRUNC, 0644));
    OK(ftruncate(fd, 8192));
    CHECK(same(of(fd), named("p")));
    char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    at[0] = at[4096] = 1;
    CHECK(same(of(fd), named("p")));
    EQ(of(fd).st_size, 8192);
    OK(munmap(at, 8192)), OK(close(fd));
}

int main(int argc, char **argv) {
    static const struct check_case cases[] = {
        CASE(size_and_times), CASE(attributes), CASE(privileges_go_with_a_write), CASE(another_of_the_name),
        CASE(written_by_another_process), CASE(through_a_mapping),
    };
    umask(0);
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
