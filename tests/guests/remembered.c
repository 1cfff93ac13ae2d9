// What was said of a name is not said again after it has changed: each question is put several times before a change.
// variants: dynamic static
// flags: -pthread
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <dirent.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/xattr.h>

#define TIMES 6 /* as often as it takes for anybody to begin remembering */

static struct stat last;
/* 0 or the errno of stat(2), which is the same each time. */
static int look(const char *path) {
    int first = 0;
    for (int i = 0; i < TIMES; i++) {
        struct stat st;
        memset(&st, 0, sizeof st);
        int e = stat(path, &st) ? errno : 0;
        if (i) EQ(e, first);
        first = e;
        last = st;
    }
    return first;
}
static int may(const char *path, int mode) {
    int e = 0;
    for (int i = 0; i < TIMES; i++) e = access(path, mode) ? errno : 0;
    return e;
}
static int opens(const char *path) {
    int e = 0;
    for (int i = 0; i < TIMES; i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        e = fd < 0 ? errno : 0;
        close(fd);
    }
    return e;
}
static const char *target(const char *path) {
    static char b[PATH_MAX];
    ssize_t n = -1;
    for (int i = 0; i < TIMES; i++) n = readlink(path, b, sizeof b - 1);
    b[n < 0 ? 0 : n] = 0;
    return b;
}

static void names_come_and_go(void) {
    EQ(look("f"), ENOENT);
    EQ(opens("f"), ENOENT);
    EQ(may("f", F_OK), ENOENT);
    put_file("f", "one");
    EQ(look("f"), 0);
    EQ(opens("f"), 0);
    EQ(may("f", R_OK), 0);
    EQ(look("g"), ENOENT);
    OK(rename("f", "g"));
    EQ(look("f"), ENOENT);
    EQ(look("g"), 0);
    OK(link("g", "f"));
    EQ(look("g"), 0);
    EQ(last.st_nlink, 2);
    OK(unlink("g"));
    EQ(look("g"), ENOENT);
    EQ(look("f"), 0);
    EQ(last.st_nlink, 1);
    OK(unlink("f"));
    EQ(look("f"), ENOENT);
}

static void directories(void) {
    EQ(look("d/e/f"), ENOENT);
    OK(mkdir("d", 0755));
    EQ(look("d/e/f"), ENOENT);
    EQ(look("d"), 0);
    nlink_t links = last.st_nlink;
    OK(mkdir("d/e", 0755));
    EQ(look("d"), 0);
    CHECK(last.st_nlink == links || last.st_nlink == links + 1); /* some filesystems do not count */
    put_file("d/e/f", "x");
    EQ(look("d/e/f"), 0);
    EQ(look("d/e/f/"), ENOTDIR);
    EQ(look("d/e/f/g"), ENOTDIR);
    OK(rename("d", "moved"));
    EQ(look("d/e/f"), ENOENT);
    EQ(look("moved/e/f"), 0);
    OK(unlink("moved/e/f"));
    OK(rmdir("moved/e"));
    EQ(look("moved/e"), ENOENT);
    OK(rmdir("moved"));
}

static void symlinks(void) {
    put_file("one", "1");
    put_file("two", "22");
    OK(symlink("one", "l"));
    STREQ(target("l"), "one");
    EQ(look("l"), 0);
    EQ(last.st_size, 1);
    OK(unlink("l"));
    OK(symlink("two", "l"));
    STREQ(target("l"), "two");
    EQ(look("l"), 0);
    EQ(last.st_size, 2);
    OK(unlink("two"));
    EQ(look("l"), ENOENT);
    EQ(opens("l"), ENOENT);
    OK(unlink("l"));
    STREQ(target("l"), "");
    char b[3];
    for (int i = 0; i < TIMES; i++) FAILS(readlink("one", b, 3), EINVAL);
    OK(unlink("one"));
    OK(symlink("abcdef", "one"));
    for (int i = 0; i < TIMES; i++) EQ(readlink("one", b, 3), 3);
    EQ(strlen(target("one")), 6);
    OK(unlink("one"));
}

static void attributes(void) {
    put_file("a", "x");
    EQ(look("a"), 0);
    OK(chmod("a", 0600));
    EQ(look("a"), 0);
    EQ(last.st_mode & 07777, 0600);
    struct timespec ts[2] = {{1000, 7}, {2000, 8}};
    OK(utimensat(AT_FDCWD, "a", ts, 0));
    EQ(look("a"), 0);
    EQ(last.st_mtim.tv_sec, 2000);
    EQ(last.st_mtim.tv_nsec, 8);
    int fd = OK(open("a", O_RDWR | O_CLOEXEC));
    ts[1].tv_sec = 3000;
    EQ(look("a"), 0);
    OK(futimens(fd, ts));
    EQ(look("a"), 0);
    EQ(last.st_mtim.tv_sec, 3000);
    OK(fchmod(fd, 0640));
    EQ(look("a"), 0);
    EQ(last.st_mode & 07777, 0640);
    OK(ftruncate(fd, 100));
    EQ(look("a"), 0);
    EQ(last.st_size, 100);
    OK(truncate("a", 50));
    EQ(look("a"), 0);
    EQ(last.st_size, 50);
    close(fd);
    EQ(look("a"), 0);
    OK(truncate("a", 7));
    EQ(look("a"), 0);
    EQ(last.st_size, 7);
    if (!geteuid()) {
        OK(chown("a", 12, 34));
        EQ(look("a"), 0);
        EQ(last.st_uid * 100 + last.st_gid, 1234);
    }
    OK(unlink("a"));
}

/* Sizes and times change by calls that nobody is asked about. */
static void written(void) {
    put_file("w", "");
    EQ(look("w"), 0);
    int fd = OK(open("w", O_WRONLY | O_APPEND | O_CLOEXEC));
    for (int i = 1; i <= 5; i++) {
        EQ(write(fd, "12345", 5), 5);
        EQ(look("w"), 0);
        EQ(last.st_size, 5 * i);
    }
    close(fd);
    EQ(look("w"), 0);
    fd = OK(open("w", O_RDWR | O_CLOEXEC));
    char *m = mmap(NULL, 25, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    close(fd);
    struct timespec ts[2] = {{1000, 0}, {1000, 0}};
    OK(utimensat(AT_FDCWD, "w", ts, 0));
    EQ(look("w"), 0);
    m[3] = 'x';
    OK(msync(m, 25, MS_SYNC));
    OK(munmap(m, 25));
    STREQ(get_file("w"), "123x5123451234512345" "12345");
    fd = OK(open("w", O_WRONLY | O_TRUNC | O_CLOEXEC));
    EQ(look("w"), 0);
    EQ(last.st_size, 0);
    int copy = OK(dup(fd));
    close(fd);
    EQ(look("w"), 0);
    EQ(write(copy, "abc", 3), 3);
    close(copy);
    EQ(look("w"), 0);
    EQ(last.st_size, 3);
    OK(unlink("w"));
}

/* A read shows in the access time (relatime: when it is not after the last change). */
static void access_times(void) {
    put_file("r", "some text");
    struct timespec ts[2] = {{1000, 0}, {2000, 0}};
    OK(utimensat(AT_FDCWD, "r", ts, 0));
    EQ(look("r"), 0);
    EQ(last.st_atim.tv_sec, 1000);
    int fd = OK(open("r", O_RDONLY | O_CLOEXEC));
    EQ(look("r"), 0);
    EQ(last.st_atim.tv_sec, 1000);
    char c;
    EQ(read(fd, &c, 1), 1);
    EQ(look("r"), 0);
    CHECK(last.st_atim.tv_sec > 2000);
    close(fd);
    EQ(look("r"), 0);
    CHECK(last.st_atim.tv_sec > 2000);
    OK(unlink("r"));
}

static void permissions(void) {
    OK(mkdir("p", 0755));
    put_file("p/f", "x");
    int root = !geteuid();
    EQ(may("p/f", R_OK), 0);
    OK(chmod("p/f", 0));
    EQ(may("p/f", R_OK), root ? 0 : EACCES);
    EQ(opens("p/f"), root ? 0 : EACCES);
    EQ(may("p/f", X_OK), EACCES);
    OK(chmod("p/f", 0755));
    EQ(may("p/f", X_OK), 0);
    EQ(opens("p/f"), 0);
    OK(chmod("p", 0600));
    EQ(look("p/f"), root ? 0 : EACCES);
    EQ(may("p/f", F_OK), root ? 0 : EACCES);
    OK(chmod("p", 0700));
    EQ(look("p/f"), 0);
    if (root) {
        IN_CHILD({
            EQ(look("p/f"), 0);
            OK(setresuid(-1, 65534, -1));
            EQ(look("p/f"), EACCES);
            EQ(opens("p/f"), EACCES);
            EQ(may("p/f", F_OK), 0); /* access(2) goes by the real id */
            OK(setresuid(-1, 0, -1));
            EQ(look("p/f"), 0);
            OK(setresgid(5, 5, 5));
            OK(setresuid(5, 5, 5));
            EQ(look("p/f"), EACCES);
            EQ(may("p/f", F_OK), EACCES);
        });
        IN_CHILD({
            EQ(setfsuid(65534), 0);
            EQ(look("p/f"), EACCES);
        });
    }
    OK(unlink("p/f"));
    OK(rmdir("p"));
}

static void *goes(void *to) {
    return (void *)(long)chdir(to);
}

static void directories_to_start_from(void) {
    char here[PATH_MAX], other[PATH_MAX + 8];
    CHECK(getcwd(here, sizeof here));
    OK(mkdir("x", 0755));
    OK(mkdir("y", 0755));
    put_file("x/f", "1");
    put_file("y/f", "22");
    OK(chdir("x"));
    EQ(look("f"), 0);
    EQ(last.st_size, 1);
    OK(chdir("../y"));
    EQ(look("f"), 0);
    EQ(last.st_size, 2);
    int up = OK(open("..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    OK(fchdir(up));
    EQ(look("f"), ENOENT);
    /* another thread goes somewhere else, and so do we */
    pthread_t th;
    void *r;
    snprintf(other, sizeof other, "%s/x", here);
    CHECK(!pthread_create(&th, NULL, goes, other));
    CHECK(!pthread_join(th, &r));
    EQ((long)r, 0);
    EQ(look("f"), 0);
    EQ(last.st_size, 1);
    /* a child that goes away leaves us where we are */
    IN_CHILD({
        OK(chdir("../y"));
        EQ(look("f"), 0);
        EQ(last.st_size, 2);
    });
    EQ(look("f"), 0);
    EQ(last.st_size, 1);
    /* a directory's descriptor, which others have the number of later */
    int dir = OK(openat(up, "y", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct stat st;
    for (int i = 0; i < TIMES; i++) OK(fstatat(dir, "f", &st, 0));
    EQ(st.st_size, 2);
    close(dir);
    EQ(openat(up, "x", O_RDONLY | O_DIRECTORY | O_CLOEXEC), dir);
    for (int i = 0; i < TIMES; i++) OK(fstatat(dir, "f", &st, 0));
    EQ(st.st_size, 1);
    close(dir);
    if (!geteuid()) {
        snprintf(other, sizeof other, "%s/y", here);
        IN_CHILD({
            EQ(look("/f"), ENOENT);
            OK(chroot(other));
            EQ(look("/f"), 0);
            EQ(last.st_size, 2);
        });
        EQ(look("/f"), ENOENT);
    }
    OK(fchdir(up));
    close(up);
    OK(unlink("x/f"));
    OK(unlink("y/f"));
    OK(rmdir("x"));
    OK(rmdir("y"));
}

/* Another process changes what we have asked about. */
static void up_again(void) {
    OK(mkdir("a", 0755));
    OK(mkdir("a/b", 0755));
    put_file("a/f", "one");
    EQ(look("a/b/../f"), 0);
    EQ(look("a/b/../b/../f"), 0);
    OK(rename("a/b", "c"));
    EQ(look("a/b/../f"), ENOENT);
    EQ(look("c/../f"), ENOENT);
    EQ(look("c/../a/f"), 0);
    OK(rename("c", "a/c"));
    EQ(look("a/c/../f"), 0);
    OK(symlink("../a/c", "a/s"));
    EQ(look("a/s/../f"), 0);
    OK(unlink("a/f"));
    EQ(look("a/s/../f"), ENOENT);
    EQ(look("a/c/../f"), ENOENT);
    OK(rmdir("a/c"));
    EQ(look("a/s/.."), ENOENT);
    OK(unlink("a/s"));
    OK(mkdir("a/q", 0755));
    OK(mkdir("o", 0755));
    put_file("a/f", "two");
    int back = open(".", O_RDONLY | O_DIRECTORY);
    OK(chdir("a/q"));
    EQ(look("../f"), 0);
    OK(rename("../../a", "../../p"));
    EQ(look("../f"), 0);
    OK(rename("../q", "../../o/q"));
    EQ(look("../f"), ENOENT);
    put_file("../f", "three");
    EQ(look("../f"), 0);
    OK(fchdir(back));
    close(back);
    EQ(look("o/f"), 0);
    OK(unlink("o/f"));
    OK(unlink("p/f"));
    OK(rmdir("o/q"));
    OK(rmdir("o"));
    OK(rmdir("p"));
}

/* The entries of a directory, beside "." and "..": how many, the sum of their inode numbers, and the one of "..". */
static int listed(const char *path, unsigned long *sum, unsigned long *up) {
    int count = -1;
    for (int i = 0; i < TIMES; i++) {
        int found = 0;
        *sum = *up = 0;
        DIR *d = opendir(path);
        CHECK(d != NULL);
        for (struct dirent *e; (e = readdir(d));) {
            if (!strcmp(e->d_name, "..")) *up = e->d_ino;
            if (e->d_name[0] == '.') continue;
            found++;
            *sum += e->d_ino;
        }
        OK(closedir(d));
        if (count >= 0) EQ(found, count);
        count = found;
    }
    return count;
}

static void listings(void) {
    unsigned long sum, up, other;
    struct stat st;
    OK(mkdir("l", 0755));
    EQ(listed("l", &sum, &up), 0);
    OK(stat(".", &st));
    EQ(up, st.st_ino);
    put_file("l/x", "");
    OK(stat("l/x", &st));
    EQ(listed("l", &sum, &up), 1);
    EQ(sum, st.st_ino);
    put_file("y", "");
    OK(rename("y", "l/x")); /* another file of the same name */
    EQ(listed("l", &sum, &up), 1);
    OK(stat("l/x", &st));
    EQ(sum, st.st_ino);
    OK(link("l/x", "l/z"));
    EQ(listed("l", &sum, &up), 2);
    EQ(sum, 2 * st.st_ino);
    OK(rename("l/z", "l/w"));
    EQ(listed("l", &sum, &up), 2);
    OK(mkdir("l/d", 0755));
    OK(symlink("d", "l/s"));
    EQ(listed("l/s", &sum, &up), 0);
    EQ(listed("l", &sum, &up), 4);
    DIR *open_one = opendir("l");
    CHECK(open_one != NULL);
    while (readdir(open_one)) {}
    OK(unlink("l/w"));
    OK(unlink("l/s"));
    rewinddir(open_one);
    int seen = 0;
    while (readdir(open_one)) seen++;
    EQ(seen, 4);
    OK(closedir(open_one));
    EQ(listed("l", &sum, &up), 2);
    OK(rename("l/d", "d"));
    EQ(listed("d", &sum, &up), 0);
    OK(stat(".", &st));
    EQ(up, st.st_ino);
    OK(rename("d", "l/d"));
    EQ(listed("l/d", &sum, &up), 0);
    OK(stat("l", &st));
    EQ(up, st.st_ino);
    EQ(listed("l", &other, &up), 2);
    OK(rmdir("l/d"));
    OK(unlink("l/x"));
    EQ(listed("l", &other, &up), 0);
    OK(rmdir("l"));
}

static void by_others(void) {
    int go[2], done[2];
    char c;
    OK(pipe(go));
    OK(pipe(done));
    pid_t pid = fork();
    if (!pid) {
        close(go[1]);
        for (int step = 0; read(go[0], &c, 1) == 1; step++) {
            switch (step) {
            case 0: put_file("o", "by another"); break;
            case 1: chmod("o", 0600); break;
            case 2: rename("o", "o2"); break;
            case 3: unlink("o2"); break;
            }
            if (write(done[1], "", 1) != 1) _exit(2);
        }
        _exit(check_bad);
    }
    close(go[0]);
#define STEP() CHECK(write(go[1], "", 1) == 1 && read(done[0], &c, 1) == 1)
    EQ(look("o"), ENOENT);
    STEP();
    EQ(look("o"), 0);
    EQ(last.st_size, 10);
    STEP();
    EQ(look("o"), 0);
    EQ(last.st_mode & 07777, 0600);
    EQ(look("o2"), ENOENT);
    STEP();
    EQ(look("o"), ENOENT);
    EQ(look("o2"), 0);
    STEP();
    EQ(look("o2"), ENOENT);
    close(go[1]);
    EXITED(pid, 0);
}

static void many(void) {
    char name[300];
    for (int i = 0; i < 400; i++) {
        sprintf(name, "file number %d", i);
        put_file(name, name);
    }
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 400; i++) {
            struct stat st;
            int n = sprintf(name, "file number %d", i);
            OK(stat(name, &st));
            EQ(st.st_size, n);
        }
    for (int i = 0; i < 400; i++) {
        sprintf(name, "file number %d", i);
        OK(unlink(name));
        FAILS(access(name, F_OK), ENOENT);
    }
    memset(name, 'n', 255);
    name[255] = 0;
    EQ(look(name), ENOENT);
    put_file(name, "long");
    EQ(look(name), 0);
    OK(unlink(name));
    EQ(look(name), ENOENT);
    name[255] = 'n';
    name[256] = 0;
    EQ(look(name), ENAMETOOLONG);
}

static long value(const char *path, const char *name) {
    char b[100];
    long n = 0;
    for (int i = 0; i < TIMES; i++) n = getxattr(path, name, b, sizeof b);
    return n < 0 ? -errno : n;
}

static void extended_attributes(void) {
    put_file("e", "x");
    EQ(value("e", "user.a"), -ENODATA);
    EQ(value("e", "user.ab"), -ENODATA);
    OK(setxattr("e", "user.a", "123", 3, 0));
    EQ(value("e", "user.a"), 3);
    EQ(value("e", "user.ab"), -ENODATA);
    EQ(getxattr("e", "user.a", NULL, 0), 3);
    FAILS(getxattr("e", "user.a", (char[2]){0}, 2), ERANGE);
    int fd = OK(open("e", O_RDONLY | O_CLOEXEC));
    OK(fsetxattr(fd, "user.ab", "12345", 5, 0));
    EQ(value("e", "user.ab"), 5);
    OK(fremovexattr(fd, "user.a"));
    close(fd);
    EQ(value("e", "user.a"), -ENODATA);
    OK(unlink("e"));
    EQ(value("e", "user.ab"), -ENOENT);
}

static void bad_arguments(void) {
    struct stat st;
    put_file("b", "x");
    for (int i = 0; i < TIMES; i++) {
        OK(syscall(SYS_newfstatat, AT_FDCWD, "b", &st, 0));
        FAILS(syscall(SYS_newfstatat, AT_FDCWD, "b", (void *)8, 0), EFAULT);
        FAILS(syscall(SYS_newfstatat, AT_FDCWD, (void *)8, &st, 0), EFAULT);
        FAILS(syscall(SYS_newfstatat, AT_FDCWD, "b", &st, 0x80), EINVAL);
        FAILS(syscall(SYS_newfstatat, -1, "b", &st, 0), EBADF);
        FAILS(access("b", 8), EINVAL);
    }
    OK(unlink("b"));
}

static long st_size(const char *path) {
    struct stat st = {0};
    OK(stat(path, &st));
    return st.st_size;
}

/* A lock file, a journal: there, gone, there again. */
static void there_and_gone(void) {
    struct stat st;
    for (int i = 0; i < 6; i++) {
        FAILS(stat("lock", &st), ENOENT);
        FAILS(access("lock", F_OK), ENOENT);
        EQ(opens("lock"), ENOENT);
        put_file("lock", "x");
        EQ(st_size("lock"), 1);
        EQ(opens("lock"), 0);
        if (i % 3 == 0) OK(unlink("lock"));
        else if (i % 3 == 1) OK(rename("lock", "was_lock"));
        else {
            OK(unlink("lock")), OK(mkdir("lock", 0755));
            OK(stat("lock", &st)), OK(rmdir("lock"));
        }
        FAILS(stat("lock", &st), ENOENT);
        FAILS(access("lock", F_OK), ENOENT);
    }
    put_file("lock", "x"), put_file("other", "other");
    OK(rename("other", "lock")); /* never missing */
    EQ(st_size("lock"), 5);
    FAILS(stat("other", &st), ENOENT);
    OK(link("lock", "other"));
    EQ(st_size("other"), 5);
    OK(unlink("lock")), OK(unlink("other")), OK(unlink("was_lock"));
    FAILS(stat("other", &st), ENOENT);
    FAILS(stat("lock", &st), ENOENT);
}

static void names_that_cannot_be_executed(void) {
    char *const none[] = {NULL};
    char *const words[] = {"program", NULL};
    for (int i = 0; i < 4; i++) {
        FAILS(execve("./program", words, none), ENOENT);
        put_file("program", "#!/no/such/interpreter\n");
        OK(chmod("program", 0644));
        FAILS(execve("./program", words, none), EACCES);
        OK(chmod("program", 0755));
        FAILS(execve("./program", words, none), ENOENT); /* the interpreter */
        put_file("program", "text");
        FAILS(execve("./program", words, none), ENOEXEC);
        OK(unlink("program"));
    }
    FAILS(execve("./program", words, none), ENOENT);
    OK(symlink("/bin/true", "program"));
    IN_CHILD(execve("./program", words, none); check_bad++);
    OK(unlink("program"));
}

MAIN(CASE(names_come_and_go), CASE(there_and_gone), CASE(names_that_cannot_be_executed), CASE(directories), CASE(symlinks),
     CASE(attributes), CASE(written), CASE(access_times), CASE(permissions), CASE(directories_to_start_from), CASE(up_again),
     CASE(listings), CASE(by_others), CASE(many), CASE(extended_attributes), CASE(bad_arguments))
