/* loops.c: `loops NAME N` makes N calls of one kind and prints the nanoseconds that one took.
 * `loops NAME N sud` does so under Syscall User Dispatch with the least handler that there can be: the call is made and
 * its result put into the frame. That is the floor for an interposer that only traps.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Bare SUD. The calls of these two leave from the range that the kernel exempts. */
long exempt_call(long nr, long a, long b, long c, long d, long e, long f);
extern char exempt_start[], exempt_end[];
__asm__(".text\n.globl exempt_call, exempt_start, exempt_end\nexempt_start:\n"
        "exempt_call: mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n mov %r8,%r10\n mov %r9,%r8\n"
        " mov 8(%rsp),%r9\n syscall\n ret\n"
        "exempt_return: mov $15,%eax\n syscall\n ud2\nexempt_end:\n");
extern char exempt_return[];

static void on_sigsys(int sig, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)sig, (void)info;
    r[REG_RAX] = exempt_call(r[REG_RAX], r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]);
}

static void arm(void) {
    struct {
        void (*handler)(int, siginfo_t *, void *);
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } act = {on_sigsys, SA_SIGINFO | SA_NODEFER | 0x04000000 /* SA_RESTORER */, exempt_return, 0};
    if (syscall(SYS_rt_sigaction, SIGSYS, &act, NULL, 8)) die("rt_sigaction");
    if (prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, exempt_start, exempt_end - exempt_start, NULL))
        die("Syscall User Dispatch");
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4) return 2;
    const char *name = argv[1];
    long n = atol(argv[2]);
    char buf[4096];
    struct stat st;
    int zero = open("/dev/zero", O_RDONLY), fd = open("bench-file", O_CREAT | O_RDWR | O_TRUNC, 0600), p[2];
    if (zero < 0 || fd < 0 || pipe(p) || write(fd, buf, sizeof buf) < 0) die("setup");
    static unsigned word;
    struct timespec ts;
    if (argc == 4) arm();
    double start = now();
    for (long i = 0; i < n; i++) {
        if (!strcmp(name, "getpid")) {
            if (syscall(SYS_getpid) <= 0) die(name);
        } else if (!strcmp(name, "call500")) {
            if (syscall(500) == 0 && errno == 0) die(name);
        } else if (!strcmp(name, "futex-wake")) {
            if (syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0)) die(name);
        } else if (!strcmp(name, "clock")) {
            if (clock_gettime(CLOCK_MONOTONIC, &ts)) die(name);
        } else if (!strcmp(name, "read")) {
            if (read(zero, buf, 1) != 1) die(name);
        } else if (!strcmp(name, "pread4k")) {
            if (pread(fd, buf, sizeof buf, 0) != (ssize_t)sizeof buf) die(name);
        } else if (!strcmp(name, "write4k")) {
            if (pwrite(fd, buf, sizeof buf, 0) != (ssize_t)sizeof buf) die(name);
        } else if (!strcmp(name, "unknown")) {
            if (syscall(9999) != -1) die(name);
        } else if (!strcmp(name, "stat")) {
            if (stat("bench-file", &st)) die(name);
        } else if (!strcmp(name, "stat-missing")) {
            if (!stat("no-such-file", &st)) die(name);
        } else if (!strcmp(name, "open-close")) {
            int f = open("bench-file", O_RDONLY);
            if (f < 0 || close(f)) die(name);
        } else if (!strcmp(name, "create-unlink")) {
            int f = open("bench-new", O_CREAT | O_EXCL | O_WRONLY, 0600);
            if (f < 0 || close(f) || unlink("bench-new")) die(name);
        } else if (!strcmp(name, "pipe-echo")) {
            if (write(p[1], buf, 1) != 1 || read(p[0], buf, 1) != 1) die(name);
        } else if (!strcmp(name, "mmap")) {
            void *m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
            if (m == MAP_FAILED || munmap(m, 4096)) die(name);
        } else if (!strcmp(name, "fork-wait")) {
            pid_t pid = fork();
            if (pid == 0) _exit(0);
            if (waitpid(pid, NULL, 0) != pid) die(name);
        } else if (!strcmp(name, "vfork-exec")) {
            pid_t pid = vfork();
            if (pid == 0) {
                execl("/bin/true", "true", (char *)NULL);
                _exit(1);
            }
            if (waitpid(pid, NULL, 0) != pid) die(name);
        } else
            return 2;
    }
    printf("%.1f\n", (now() - start) / (double)n);
    unlink("bench-file");
    return 0;
}
