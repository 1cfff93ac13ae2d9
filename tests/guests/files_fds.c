// File descriptors: numbering, dup, limits, exec, locks, /proc/self/fd.
// users: root nobody
#include "check.h"
#include <sys/file.h>
#include <sys/mman.h>

static void lowest_free(void) {
    int a = OK(open(".", O_RDONLY)), b = OK(open("/dev/null", O_RDONLY)), c = OK(dup(a));
    EQ(b, a + 1);
    EQ(c, a + 2);
    close(a);
    int p[2];
    OK(pipe(p));
    EQ(p[0], a);
    EQ(p[1], c + 1);
    close(b);
    EQ(OK(open("x", O_CREAT | O_RDWR, 0600)), b);
    close(0);
    EQ(OK(open("x", O_RDONLY)), 0);
    for (int i = a; i <= c + 1; i++) close(i);
}

static void dup_rules(void) {
    int fd = OK(open("/dev/null", O_RDONLY));
    EQ(dup2(fd, fd), fd);
    FAILS(dup3(fd, fd, 0), EINVAL);
    EQ(dup2(fd, 50), 50);
    EQ(dup3(fd, 51, O_CLOEXEC), 51);
    EQ(fcntl(51, F_GETFD), FD_CLOEXEC);
    FAILS(dup2(999, 50), EBADF);
    FAILS(dup2(fd, -1), EBADF);
    FAILS(dup(-1), EBADF);
    FAILS(close(52), EBADF);
    FAILS(close(-1), EBADF);
    OK(close(50));
    FAILS(close(50), EBADF);
    OK(syscall(SYS_close_range, 51, 60, 0));
    FAILS(fcntl(51, F_GETFD), EBADF);
    close(fd);
}

static void limit(void) {
    struct rlimit rl, was;
    OK(getrlimit(RLIMIT_NOFILE, &was));
    CHECK(was.rlim_cur >= 64 && was.rlim_max >= was.rlim_cur);
    rl = was;
    rl.rlim_cur = 20;
    OK(setrlimit(RLIMIT_NOFILE, &rl));
    OK(getrlimit(RLIMIT_NOFILE, &rl));
    EQ(rl.rlim_cur, 20);
    EQ(rl.rlim_max, was.rlim_max);
    int last = -1, fd, p[2];
    while ((fd = open("/dev/null", O_RDONLY)) >= 0) last = fd;
    int why = errno;
    EQ(why, EMFILE);
    EQ(last, 19);
    FAILS(open(".", O_RDONLY), EMFILE);
    FAILS(open("limit-new", O_RDWR | O_CREAT, 0600), EMFILE);
    FAILS(dup(0), EMFILE);
    FAILS(pipe(p), EMFILE);
    FAILS(dup2(0, 20), EBADF);
    FAILS(fcntl(0, F_DUPFD, 20), EINVAL);
    for (int i = 3; i < 20; i++) close(i);
    OK(setrlimit(RLIMIT_NOFILE, &was));
    EQ(dup2(0, 30), 30);
    close(30);
    EQ(sysconf(_SC_OPEN_MAX), (long)was.rlim_cur);
}

static void at_the_top(void) {
    /* the highest number that the limit allows is a plain fd; nothing sits there already */
    struct rlimit rl;
    OK(getrlimit(RLIMIT_NOFILE, &rl));
    int top = (int)rl.rlim_cur - 1;
    FAILS(fcntl(top, F_GETFD), EBADF);
    EQ(dup2(1, top), top);
    EQ(write(top, "", 0), 0);
    OK(close(top));
    FAILS(dup2(1, top + 1), EBADF);
    if (rl.rlim_cur < rl.rlim_max) {
        struct rlimit up = {rl.rlim_max, rl.rlim_max};
        OK(setrlimit(RLIMIT_NOFILE, &up));
        top = (int)up.rlim_cur - 1;
        FAILS(fcntl(top, F_GETFD), EBADF);
        EQ(dup2(1, top), top);
        OK(close(top));
    }
}

static void survives_exec(void) {
    int keep = OK(open("keep", O_CREAT | O_RDWR, 0600)), gone = OK(open("keep", O_RDONLY | O_CLOEXEC));
    int dir = OK(open(".", O_RDONLY)), dird = OK(open(".", O_RDONLY | O_CLOEXEC));
    EQ(write(keep, "12345", 5), 5);
    EQ(lseek(keep, 2, SEEK_SET), 2);
    char script[300];
    snprintf(script, sizeof script,
             "read x <&%d; [ \"$x\" = 345 ] || exit 11; [ -e /proc/self/fd/%d ] && exit 12;"
             "[ -d /proc/self/fd/%d ] || exit 13; [ -e /proc/self/fd/%d ] && exit 14; exit 0",
             keep, gone, dir, dird);
    pid_t pid = fork();
    if (!pid) {
        execl("/bin/sh", "sh", "-c", script, (char *)NULL);
        _exit(99);
    }
    EXITED(pid, 0);
    close(keep);
    close(gone);
    close(dir);
    close(dird);
}

static void flocks(void) {
    int a = OK(open("fl", O_CREAT | O_RDWR, 0600)), b = OK(open("fl", O_RDWR));
    OK(flock(a, LOCK_EX));
    FAILS(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    FAILS(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    int d = OK(dup(a));
    close(a); /* the lock belongs to the open file description */
    FAILS(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    IN_CHILD({
        int c = open("fl", O_RDWR);
        FAILS(flock(c, LOCK_EX | LOCK_NB), EWOULDBLOCK);
        OK(flock(d, LOCK_UN)); /* inherited: this releases the parent's */
    });
    OK(flock(b, LOCK_EX | LOCK_NB));
    close(b);
    close(d);
    int dir = OK(open(".", O_RDONLY)), dir2 = OK(open(".", O_RDONLY));
    OK(flock(dir, LOCK_EX));
    FAILS(flock(dir2, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    close(dir);
    OK(flock(dir2, LOCK_EX | LOCK_NB));
    close(dir2);
}

static void posix_locks(void) {
    put_file("pl", "0123456789");
    int a = OK(open("pl", O_RDWR));
    struct flock w = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 4};
    OK(fcntl(a, F_SETLK, &w));
    pid_t parent = getpid();
    IN_CHILD({
        int b = open("pl", O_RDWR);
        struct flock q = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
        OK(fcntl(b, F_GETLK, &q));
        EQ(q.l_type, F_WRLCK);
        EQ(q.l_start, 2);
        EQ(q.l_len, 4);
        EQ(q.l_pid, parent);
        struct flock t = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 1};
        CHECK(fcntl(b, F_SETLK, &t) == -1 && (errno == EAGAIN || errno == EACCES));
        t.l_start = 6;
        OK(fcntl(b, F_SETLK, &t));
        /* fork does not inherit record locks: closing any fd of the file in the child keeps the parent's */
        close(b);
        close(a);
    });
    IN_CHILD({
        int b = open("pl", O_RDWR);
        struct flock t = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 1};
        CHECK(fcntl(b, F_SETLK, &t) == -1);
    });
    int other = OK(open("pl", O_RDONLY));
    close(other); /* closing any fd of ours drops all of our record locks */
    IN_CHILD({
        int b = open("pl", O_RDWR);
        struct flock t = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 1};
        OK(fcntl(b, F_SETLK, &t));
    });
    /* F_SETLKW waits */
    OK(fcntl(a, F_SETLK, &w));
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (!pid) {
        int b = open("pl", O_RDWR);
        if (write(p[1], "r", 1) != 1) _exit(1);
        struct flock t = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 1};
        _exit(fcntl(b, F_SETLKW, &t) ? 2 : 0);
    }
    char c;
    EQ(read(p[0], &c, 1), 1);
    msleep(50);
    EQ(waitpid(pid, NULL, WNOHANG), 0);
    w.l_type = F_UNLCK;
    OK(fcntl(a, F_SETLK, &w));
    EXITED(pid, 0);
    close(a);
    close(p[0]);
    close(p[1]);
}

static void proc_self_fd(void) {
    char cwd[PATH_MAX], want[PATH_MAX + 16], got[PATH_MAX + 16], p[64];
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    int fd = OK(open("pf", O_CREAT | O_RDWR, 0600));
    EQ(write(fd, "data", 4), 4);
    snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
    ssize_t n = OK(readlink(p, got, sizeof got - 1));
    got[n < 0 ? 0 : n] = 0;
    snprintf(want, sizeof want, "%s/pf", cwd);
    STREQ(got, want);
    OK(rename("pf", "pf2"));
    n = OK(readlink(p, got, sizeof got - 1));
    got[n < 0 ? 0 : n] = 0;
    snprintf(want, sizeof want, "%s/pf2", cwd);
    STREQ(got, want);
    int re = OK(open(p, O_WRONLY | O_TRUNC));
    struct stat a, b;
    OK(fstat(fd, &a));
    OK(fstat(re, &b));
    EQ(a.st_ino, b.st_ino);
    EQ(a.st_dev, b.st_dev);
    EQ(a.st_size, 0);
    close(re);
    OK(stat(p, &b));
    EQ(a.st_ino, b.st_ino);
    close(fd);
    FAILS(open(p, O_RDONLY), ENOENT);
    int dir = OK(open(".", O_RDONLY));
    snprintf(p, sizeof p, "/proc/self/fd/%d", dir);
    n = OK(readlink(p, got, sizeof got - 1));
    got[n < 0 ? 0 : n] = 0;
    STREQ(got, cwd);
    snprintf(p, sizeof p, "/proc/self/fd/%d/pf2", dir);
    OK(access(p, F_OK));
    close(dir);
    int pi[2];
    OK(pipe(pi));
    snprintf(p, sizeof p, "/proc/self/fd/%d", pi[0]);
    n = OK(readlink(p, got, sizeof got - 1));
    got[n < 0 ? 0 : n] = 0;
    EQ(strncmp(got, "pipe:[", 6), 0);
    close(pi[0]);
    close(pi[1]);
}

static void o_path(void) {
    put_file("op", "x");
    int fd = OK(open("op", O_PATH));
    char b[4], p[32];
    FAILS(read(fd, b, 1), EBADF);
    FAILS(fchmod(fd, 0600), EBADF);
    FAILS(lseek(fd, 0, SEEK_SET), EBADF);
    struct stat st;
    OK(fstat(fd, &st));
    CHECK(S_ISREG(st.st_mode));
    EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
    int re = OK(open(p, O_RDONLY));
    EQ(read(re, b, 1), 1);
    close(re);
    close(fd);
    fd = OK(open(".", O_PATH));
    re = OK(openat(fd, "op", O_RDONLY));
    close(re);
    OK(fchdir(fd));
    FAILS(syscall(SYS_getdents64, fd, b, sizeof b), EBADF);
    close(fd);
}

static void status_flags(void) {
    int p[2];
    char b;
    OK(pipe2(p, O_NONBLOCK | O_CLOEXEC));
    EQ(fcntl(p[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    EQ(fcntl(p[0], F_GETFD), FD_CLOEXEC);
    FAILS(read(p[0], &b, 1), EAGAIN);
    close(p[0]);
    close(p[1]);
    FAILS(pipe2(p, 0x10000000), EINVAL);
    int fd = OK(open("sf", O_CREAT | O_RDWR | O_APPEND | O_NONBLOCK, 0600));
    EQ(fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK | O_ACCMODE), O_APPEND | O_NONBLOCK | O_RDWR);
    FAILS(fcntl(fd, 9999), EINVAL);
    FAILS(fcntl(999, F_GETFL), EBADF);
    close(fd);
    fd = OK(open(".", O_RDONLY | O_DIRECTORY));
    EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    EQ(fcntl(fd, F_GETFL) & O_DIRECTORY, O_DIRECTORY);
    close(fd);
}

/* A memfd belongs to who made it. */
static void memfd_owner(void) {
    char name[300];
    memset(name, 'n', sizeof name);
    name[299] = 0;
    FAILS(memfd_create(name, 0), EINVAL);
    FAILS(memfd_create("x", 1 << 20), EINVAL);
    IN_CHILD({
        if (!geteuid()) OK(setgid(1002)), OK(setuid(1001));
        int fd = OK(memfd_create("mine", MFD_CLOEXEC));
        EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
        struct stat st;
        OK(fstat(fd, &st));
        EQ(st.st_uid, geteuid());
        EQ(st.st_gid, getegid());
        EQ(st.st_mode, S_IFREG | 0777);
        FAILS(fchown(fd, -1, 7), EPERM);
        FAILS(fchown(fd, 7, -1), EPERM);
        OK(fchown(fd, geteuid(), getegid()));
        OK(fchmod(fd, 0640));
        struct timespec times[2] = {{5, 6}, {0, UTIME_OMIT}};
        OK(futimens(fd, times));
        OK(fstat(fd, &st));
        EQ(st.st_mode, S_IFREG | 0640);
        EQ(st.st_atim.tv_sec, 5);
        EQ(st.st_atim.tv_nsec, 6);
        CHECK(st.st_mtim.tv_sec > 5);
    });
}

MAIN(CASE(lowest_free), CASE(dup_rules), CASE(limit), CASE(at_the_top), CASE(survives_exec), CASE(flocks),
     CASE(posix_locks), CASE(proc_self_fd), CASE(o_path), CASE(status_flags), CASE(memfd_owner))
