// What a program opened when it ran last is opened ahead when it runs again; nobody can tell.
// variants: dynamic static
// users: root nobody
#include "check.h"
#include <sys/fsuid.h>
#include <sys/resource.h>

static int is_again;
static char **args;

static ino_t ino_at(int fd) {
    struct stat st;
    return fstat(fd, &st) ? 0 : st.st_ino;
}

/* Lowest numbers, flags as asked, a position of one's own. */
static void as_ever(void) {
    char a[8], b[8];
    int lowest = OK(dup(0));
    close(lowest);
    int f = OK(open("/etc/passwd", O_RDONLY));
    EQ(f, lowest);
    EQ(fcntl(f, F_GETFD), 0);
    EQ(fcntl(f, F_GETFL) & ~0100000, O_RDONLY);
    int g = OK(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
    EQ(g, lowest + 1);
    EQ(fcntl(g, F_GETFD), FD_CLOEXEC);
    EQ(ino_at(f), ino_at(g));
    EQ(read(f, a, 8), 8);
    EQ(lseek(g, 0, SEEK_CUR), 0);
    EQ(read(g, b, 8), 8);
    EQ(memcmp(a, b, 8), 0);
    EQ(lseek(f, 0, SEEK_CUR), 8);
    FAILS(write(f, "x", 1), EBADF);
    close(f);
    int h = OK(open("/etc/group", O_RDONLY | O_CLOEXEC));
    EQ(h, f);
    CHECK(ino_at(h) != ino_at(g));
    close(g);
    close(h);
}

/* Two that open the same file after a fork do not share it. */
static void after_a_fork(void) {
    char c;
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    int f = open("/etc/services", O_RDONLY | O_CLOEXEC);
    if (f < 0) f = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    if (!pid) {
        lseek(f, 100, SEEK_SET);
        if (write(p[1], "", 1) != 1) _exit(2);
        _exit(f < 0);
    }
    EQ(read(p[0], &c, 1), 1);
    EQ(lseek(f, 0, SEEK_CUR), 0);
    EXITED(pid, 0);
    close(f);
    close(p[0]);
    close(p[1]);
}

/* Descriptors that nobody has opened are not there. */
static void nothing_else_is_open(void) {
    int before = OK(dup(0));
    close(before);
    for (int fd = before; fd < 2000; fd++) FAILS(fcntl(fd, F_GETFD), EBADF);
    FAILS(close(1024), EBADF);
    FAILS(close(1026), EBADF);
    FAILS(lseek(1027, 0, SEEK_CUR), EBADF);
    FAILS(dup2(1028, before), EBADF);
}

static void limits(void) {
    struct rlimit was, less;
    OK(getrlimit(RLIMIT_NOFILE, &was));
    int next = OK(dup(0));
    close(next);
    less = was;
    if (was.rlim_max >= 2000) {
        less.rlim_cur = 2000;
        OK(setrlimit(RLIMIT_NOFILE, &less));
        for (int fd = 1024; fd < 1064; fd++) EQ(fcntl(0, F_DUPFD, 1024), fd);
        for (int fd = 1024; fd < 1064; fd++) close(fd);
    }
    less.rlim_cur = (rlim_t)next;
    OK(setrlimit(RLIMIT_NOFILE, &less));
    FAILS(open("/etc/passwd", O_RDONLY | O_CLOEXEC), EMFILE);
    less.rlim_cur = (rlim_t)next + 1;
    OK(setrlimit(RLIMIT_NOFILE, &less));
    EQ(open("/etc/passwd", O_RDONLY | O_CLOEXEC), next);
    FAILS(open("/etc/passwd", O_RDONLY | O_CLOEXEC), EMFILE);
    close(next);
    OK(setrlimit(RLIMIT_NOFILE, &was));
}

/* What one may open as root is not there for somebody else. */
static void refused(void) {
    if (geteuid()) return;
    setfsuid(65534);
    for (int i = 0; i < 3; i++) FAILS(open("/etc/shadow", O_RDONLY | O_CLOEXEC), EACCES);
    setfsuid(0);
    close((int)OK(open("/etc/shadow", O_RDONLY | O_CLOEXEC)));
}

/* The same program, again and again: what it opens is known from its second run on. */
static void again(void) {
    static char *cases[] = {NULL, NULL, "refused", "refused", "limits", "limits", "limits", NULL};
    if (is_again) return;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *argv[] = {args[0], cases[i], NULL};
        pid_t pid = fork();
        if (!pid) {
            setenv("AGAIN", "1", 1);
            execv("/proc/self/exe", argv);
            _exit(99);
        }
        EXITED(pid, 0);
    }
}

__attribute__((constructor)) static void begin(int argc, char **argv) {
    (void)argc;
    args = argv;
    is_again = getenv("AGAIN") != NULL;
}

MAIN(CASE(as_ever), CASE(nothing_else_is_open), CASE(after_a_fork), CASE(limits), CASE(refused), CASE(again))
