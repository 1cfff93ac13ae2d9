// Descriptors of directories: what a walk does with them, and everything else that may be done with one.
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <dirent.h>
#include <sys/socket.h>

static int open_dir(const char *path) { return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

static void make(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    CHECK(fd >= 0 && !close(fd));
}

/* How many entries come from here on; -errno. */
static int entries(int fd) {
    char buf[8192];
    int n = 0;
    for (;;) {
        long got = syscall(SYS_getdents64, fd, buf, sizeof buf);
        if (got < 0) return -errno;
        if (!got) return n;
        for (long at = 0; at < got; at += ((struct dirent64 *)(buf + at))->d_reclen) n++;
    }
}

static int same(int a, int b) {
    struct stat x, y;
    return !fstat(a, &x) && !fstat(b, &y) && x.st_ino == y.st_ino && x.st_dev == y.st_dev && S_ISDIR(x.st_mode);
}

static void read_to_the_end(void) {
    CHECK(!mkdir("a", 0755));
    make("a/one");
    for (int turn = 0; turn < 4; turn++) {
        int fd = open_dir("a");
        EQ(entries(fd), 3);
        EQ(entries(fd), 0);
        EQ(lseek(fd, 0, SEEK_SET), 0);
        EQ(entries(fd), 3);
        CHECK(!close(fd));
        FAILS(fstat(fd, &(struct stat){0}), EBADF);
    }
}

static void what_is_made_and_removed_is_seen(void) {
    for (int turn = 0; turn < 4; turn++) {
        make("a/two");
        int fd = open_dir("a");
        EQ(entries(fd), 4);
        CHECK(!unlink("a/two"));
        EQ(entries(fd), 0);
        close(fd);
        fd = open_dir("a");
        EQ(entries(fd), 3);
        close(fd);
    }
}

static void flags(void) {
    int fd = open("a", O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    EQ(fcntl(fd, F_GETFD), 0);
    EQ(fcntl(fd, F_GETFL), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | 0100000);
    CHECK(!fcntl(fd, F_SETFD, FD_CLOEXEC));
    CHECK(!fcntl(fd, F_SETFL, 0));
    EQ(fcntl(fd, F_GETFL), O_RDONLY | O_NOFOLLOW | 0100000);
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    fd = open_dir("a");
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
}

static void duplicates_share_the_offset(void) {
    int fd = open_dir("a"), other = fcntl(fd, F_DUPFD_CLOEXEC, 3), third = dup(fd);
    CHECK(other > fd && third > other && same(fd, other));
    EQ(entries(other), 3);
    EQ(entries(fd), 0);
    CHECK(!close(fd));
    EQ(fcntl(third, F_GETFL) & ~0100000, O_RDONLY | O_DIRECTORY);
    EQ(dup2(third, fd), fd);
    EQ(lseek(third, 0, SEEK_SET), 0);
    EQ(entries(fd), 3);
    EQ(entries(other), 0);
    close(fd), close(other), close(third);
}

static void dup2_over_it(void) {
    int fd = open_dir("a"), file = open("a/one", O_RDONLY);
    FAILS(dup2(1000, fd), EBADF);
    EQ(entries(fd), 3);
    EQ(dup2(file, fd), fd);
    EQ(entries(fd), -ENOTDIR);
    struct stat st;
    CHECK(!fstat(fd, &st) && S_ISREG(st.st_mode));
    close(fd), close(file);
}

static void paths_from_it(void) {
    struct stat st;
    for (int turn = 0; turn < 4; turn++) {
        int fd = open_dir("a");
        CHECK(!fstatat(fd, "one", &st, 0) && S_ISREG(st.st_mode));
        FAILS(fstatat(fd, "none", &st, 0), ENOENT);
        FAILS(openat(fd, "none", O_RDONLY), ENOENT);
        CHECK(!faccessat(fd, "one", R_OK, 0));
        CHECK(!mkdirat(fd, "sub", 0755));
        int sub = openat(fd, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC), up = openat(sub, "..", O_RDONLY | O_DIRECTORY);
        CHECK(same(fd, up));
        make("a/sub/x");
        CHECK(!fstatat(sub, "x", &st, 0));
        CHECK(!unlinkat(sub, "x", 0));
        FAILS(fstatat(sub, "x", &st, 0), ENOENT);
        CHECK(!unlinkat(fd, "sub", AT_REMOVEDIR));
        FAILS(fstatat(fd, "sub", &st, 0), ENOENT);
        FAILS(openat(sub, "y", O_CREAT | O_WRONLY, 0600), ENOENT);
        EQ(entries(sub), -ENOENT);
        CHECK(!fstat(sub, &st) && st.st_nlink == 0);
        close(sub), close(up), close(fd);
    }
}

static void it_goes_where_the_directory_goes(void) {
    struct stat st;
    CHECK(!mkdir("b", 0755));
    make("b/in");
    int fd = open_dir("b");
    CHECK(!fstatat(fd, "in", &st, 0));
    CHECK(!rename("b", "c") && !mkdir("b", 0755));
    CHECK(!fstatat(fd, "in", &st, 0));
    int again = open_dir("b");
    FAILS(fstatat(again, "in", &st, 0), ENOENT);
    CHECK(!same(fd, again));
    close(fd), close(again);
    CHECK(!unlink("c/in") && !rmdir("c") && !rmdir("b"));
}

static void the_working_directory(void) {
    char before[4096], now[4096];
    CHECK(getcwd(before, sizeof before) != NULL);
    int home = open_dir("."), fd = open_dir("a");
    CHECK(!fchdir(fd) && getcwd(now, sizeof now) != NULL);
    CHECK(!strcmp(now + strlen(now) - 2, "/a") && !access("one", F_OK));
    CHECK(!fchdir(home) && getcwd(now, sizeof now) != NULL && !strcmp(before, now));
    close(fd), close(home);
}

static void no_file(void) {
    int fd = open_dir("a");
    char c;
    FAILS(read(fd, &c, 1), EISDIR);
    FAILS(write(fd, &c, 1), EBADF);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == ENODEV);
    EQ(entries(fd), 3); /* whatever it is behind */
    close(fd);
    FAILS(open("a", O_WRONLY), EISDIR);
    FAILS(open("a/one", O_RDONLY | O_DIRECTORY), ENOTDIR);
}

static void a_child_shares_it(void) {
    int fd = open_dir("a"), status;
    pid_t pid = fork();
    if (!pid) _exit(entries(fd) == 3 ? 0 : 1);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    EQ(entries(fd), 0);
    close(fd);
}

static void a_program_inherits_it(void) {
    int fd = open("a", O_RDONLY | O_DIRECTORY), closed = open_dir("a"), status;
    char open_[16], shut[16];
    snprintf(open_, sizeof open_, "%d", fd), snprintf(shut, sizeof shut, "%d", closed);
    pid_t pid = fork();
    if (!pid) {
        char *self[] = {"/proc/self/exe", "inherited", open_, shut, NULL};
        execv("/proc/self/exe", self);
        _exit(99);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    EQ(status, 0);
    close(fd), close(closed);
}

static void sent_to_another(void) {
    int pair[2], fd = open_dir("a"), got = -1, status;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    char control[CMSG_SPACE(sizeof(int))] = {0}, c = 'x';
    struct iovec iov = {&c, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    pid_t pid = fork(); /* before the descriptor is anything but an open directory here */
    if (!pid) {
        if (recvmsg(pair[1], &msg, 0) != 1) _exit(1);
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof got);
        _exit(entries(got) == 3 ? 0 : 2);
    }
    int fresh = open_dir("a");
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    *head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(head), &fresh, sizeof fresh);
    EQ(sendmsg(pair[0], &msg, 0), 1);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    EQ(entries(fresh), 0);
    close(fresh), close(fd), close(pair[0]), close(pair[1]);
}

static void in_proc(void) {
    int fd = open_dir("a");
    char link[64], name[4096], line[256];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof name);
    CHECK(n > 2 && !memcmp(name + n - 2, "/a", 2));
    struct stat st;
    CHECK(!stat(link, &st) && S_ISDIR(st.st_mode));
    int again = open(link, O_RDONLY | O_DIRECTORY);
    CHECK(same(fd, again));
    EQ(entries(again), 3);
    close(again);
    snprintf(link, sizeof link, "/proc/self/fdinfo/%d", fd);
    FILE *info = fopen(link, "r");
    unsigned flags = 0;
    while (info && fgets(line, sizeof line, info)) sscanf(line, "flags: %o", &flags);
    EQ(flags, O_RDONLY | O_DIRECTORY | O_CLOEXEC | 0100000);
    if (info) fclose(info);
    close(fd);
}

static void many_at_once(void) {
    int fds[100];
    for (int i = 0; i < 100; i++) fds[i] = open_dir("a");
    for (int i = 0; i < 100; i++) EQ(entries(fds[i]), 3);
    for (int i = 0; i < 100; i++) CHECK((!i || fds[i] > fds[i - 1]) && !close(fds[i]));
}

static void a_long_one(void) {
    CHECK(!mkdir("long", 0755));
    char name[64];
    for (int i = 0; i < 2000; i++) snprintf(name, sizeof name, "long/a_name_that_takes_its_room_%d", i), make(name);
    for (int turn = 0; turn < 3; turn++) {
        int fd = open_dir("long");
        EQ(entries(fd), 2002);
        close(fd);
    }
    DIR *dir = opendir("long");
    int seen = 0;
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] == 'a' && !unlinkat(dirfd(dir), e->d_name, 0)) seen++;
    closedir(dir);
    EQ(seen, 2000);
    CHECK(!rmdir("long"));
}

static void a_small_buffer(void) {
    int fd = open_dir("a"), n = 0;
    char buf[32];
    FAILS(syscall(SYS_getdents64, fd, buf, 8), EINVAL);
    while (syscall(SYS_getdents64, fd, buf, sizeof buf) > 0) n++;
    EQ(n, 3);
    FAILS(syscall(SYS_getdents64, lseek(fd, 0, SEEK_SET) ? -1 : fd, (void *)8, 4096), EFAULT);
    close(fd);
}

static void close_range_takes_it(void) {
    int fd = open_dir("a");
    CHECK(!syscall(SYS_close_range, fd, fd, 0));
    FAILS(fstat(fd, &(struct stat){0}), EBADF);
    int file = open("a/one", O_RDONLY);
    EQ(file, fd);
    EQ(entries(file), -ENOTDIR);
    close(file);
    CHECK(!unlink("a/one") && !rmdir("a"));
}

static int inherited(int open_, int shut) {
    struct stat st;
    return entries(open_) == 3 && fstat(shut, &st) && errno == EBADF ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "inherited")) return inherited(atoi(argv[2]), atoi(argv[3]));
    static const struct check_case cases[] = {
        CASE(read_to_the_end), CASE(what_is_made_and_removed_is_seen), CASE(flags),
        CASE(duplicates_share_the_offset), CASE(dup2_over_it), CASE(paths_from_it),
        CASE(it_goes_where_the_directory_goes), CASE(the_working_directory), CASE(no_file),
        CASE(a_child_shares_it), CASE(a_program_inherits_it), CASE(sent_to_another), CASE(in_proc),
        CASE(many_at_once), CASE(a_long_one), CASE(a_small_buffer), CASE(close_range_takes_it),
    };
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
