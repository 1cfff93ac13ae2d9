/* check.h: the few macros that the self-verifying guest programs share.
 *
 * A program is a list of cases. Each case prints "ok NAME" when all of its checks held, and
 * "FAIL NAME file:line: what" for each one that did not. The exit status is 0 only if all held.
 * `prog CASE...` runs just these cases. Exit status 77 with a line "SKIP why" means that the
 * machine cannot run the program at all.
 */
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *check_name = "?";
static int check_bad, check_total_bad, check_ran;

#define COMPLAIN(...)                                                                       \
    do {                                                                                    \
        char check_buf[600];                                                                \
        int check_n = snprintf(check_buf, sizeof check_buf - 2, "FAIL %s %s:%d: ",          \
                               check_name, strrchr("/" __FILE__, '/') + 1, __LINE__);       \
        check_n += snprintf(check_buf + check_n, sizeof check_buf - 2 - (size_t)check_n,    \
                            __VA_ARGS__);                                                   \
        if (check_n > (int)sizeof check_buf - 3) check_n = (int)sizeof check_buf - 3;       \
        check_buf[check_n++] = '\n';                                                        \
        if (write(1, check_buf, (size_t)check_n) < 0) _exit(99);                            \
        check_bad++;                                                                        \
    } while (0)

/* The condition holds. */
#define CHECK(c)                                                                            \
    do {                                                                                    \
        errno = 0;                                                                          \
        if (!(c)) COMPLAIN("%s (errno %d)", #c, errno);                                     \
    } while (0)

/* Two integers are equal. */
#define EQ(a, b)                                                                            \
    do {                                                                                    \
        errno = 0;                                                                          \
        long long check_a = (long long)(a), check_b = (long long)(b);                       \
        if (check_a != check_b)                                                             \
            COMPLAIN("%s is %lld, want %s = %lld (errno %d)", #a, check_a, #b, check_b, errno); \
    } while (0)

/* A call which must not return -1; its value. */
#define OK(call)                                                                            \
    ({                                                                                      \
        errno = 0;                                                                          \
        long long check_r = (long long)(call);                                              \
        if (check_r == -1) COMPLAIN("%s: errno %d (%s)", #call, errno, strerror(errno));    \
        check_r;                                                                            \
    })

/* A call which must return -1 with this errno. */
#define FAILS(call, e)                                                                      \
    do {                                                                                    \
        errno = 0;                                                                          \
        long long check_r = (long long)(call);                                              \
        int check_e = errno;                                                                \
        if (check_r != -1) COMPLAIN("%s is %lld, want errno %s", #call, check_r, #e);       \
        else if (check_e != (e))                                                            \
            COMPLAIN("%s: errno %d (%s), want %s", #call, check_e, strerror(check_e), #e);  \
    } while (0)

/* Two strings are equal. */
#define STREQ(a, b)                                                                         \
    do {                                                                                    \
        const char *check_a = (a), *check_b = (b);                                          \
        if (strcmp(check_a, check_b)) COMPLAIN("%s is \"%s\", want \"%s\"", #a, check_a, check_b); \
    } while (0)

/* The child ended by exit(code). */
#define EXITED(pid, code)                                                                   \
    do {                                                                                    \
        int check_st = -1;                                                                  \
        pid_t check_p;                                                                      \
        while ((check_p = waitpid((pid), &check_st, 0)) < 0 && errno == EINTR) { }          \
        if (check_p < 0) COMPLAIN("waitpid: errno %d", errno);                              \
        else if (!WIFEXITED(check_st) || WEXITSTATUS(check_st) != (code))                   \
            COMPLAIN("child status 0x%x, want exit %d", check_st, (int)(code));             \
    } while (0)

/* The child was ended by a signal. */
#define KILLED(pid, sig)                                                                    \
    do {                                                                                    \
        int check_st = -1;                                                                  \
        if (waitpid((pid), &check_st, 0) < 0) COMPLAIN("waitpid: errno %d", errno);         \
        else if (!WIFSIGNALED(check_st) || WTERMSIG(check_st) != (sig))                     \
            COMPLAIN("child status 0x%x, want signal %d", check_st, (int)(sig));            \
    } while (0)

/* Runs { body } in a forked child which exits with its number of failed checks. */
#define IN_CHILD(...)                                                                       \
    do {                                                                                    \
        fflush(stdout);                                                                     \
        pid_t check_pid = fork();                                                           \
        if (check_pid == 0) {                                                               \
            check_bad = 0;                                                                  \
            __VA_ARGS__;                                                                    \
            _exit(check_bad ? 1 : 0);                                                       \
        }                                                                                   \
        CHECK(check_pid > 0);                                                               \
        EXITED(check_pid, 0);                                                               \
    } while (0)

struct check_case {
    const char *name;
    void (*run)(void);
};
#define CASE(f) {#f, f}

static void put_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        COMPLAIN("cannot write %s: errno %d", path, errno);
    if (fd >= 0) close(fd);
}

static const char *get_file(const char *path) {
    static char buf[8][4096];
    static int turn;
    char *b = buf[turn++ & 7];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return "(cannot open)";
    ssize_t n = read(fd, b, 4095);
    close(fd);
    b[n < 0 ? 0 : n] = 0;
    return b;
}

static void msleep(long ms) {
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&ts, &ts) && errno == EINTR) { }
}

static long now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* "native" or "ring3": only for the few differences that the documentation names. */
static int under_ring3(void) {
    const char *s = getenv("CHECK_SIDE");
    return s && !strcmp(s, "ring3");
}

static int check_main(const struct check_case *cases, size_t n, int argc, char **argv) {
    for (size_t i = 0; i < n; i++) {
        int wanted = argc < 2;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], cases[i].name);
        if (!wanted) continue;
        check_name = cases[i].name;
        check_bad = 0;
        check_ran++;
        cases[i].run();
        if (!check_bad) printf("ok %s\n", check_name);
        fflush(stdout);
        check_total_bad += check_bad;
    }
    if (!check_ran) {
        printf("FAIL no such case\n");
        return 2;
    }
    return check_total_bad ? 1 : 0;
}

static inline void check_unused(void) {
    (void)put_file; (void)get_file; (void)msleep; (void)now_ms; (void)under_ring3; (void)check_main;
}

#define MAIN(...)                                                                           \
    int main(int argc, char **argv) {                                                       \
        static const struct check_case cases[] = {__VA_ARGS__};                             \
        return check_main(cases, sizeof cases / sizeof *cases, argc, argv);                 \
    }
#endif
