/* soak.c: random work under random signals, checked as it goes.  Usage: soak SEED ROUNDS LIBRARY...
 *
 * Some threads each draw operations from a generator of their own: forks, vforks and execs, threads, libraries that come
 * and go, code that is written, protected and run, faults, pipes, files, memory, jumps out of handlers; while others and
 * timers send them signals.  Every operation knows its result.  What is printed depends on SEED and ROUNDS alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define WORKERS 4
#define PAGE 4096
extern char **environ;

struct worker {
    int nr;
    pthread_t id;
    pid_t tid;
    uint64_t state, digest;
    volatile int running;
};
static struct worker workers[WORKERS];
static int rounds, n_libraries;
static char **libraries, *self;
static volatile int bad, over;
static volatile long handled, faulted;
static __thread sigjmp_buf escape;
static __thread volatile int may_jump;
static __thread char *volatile guarded;
static __thread volatile int operation;

#define WRONG(...)                                                                        \
    do {                                                                                  \
        char line[300];                                                                   \
        int at_ = snprintf(line, sizeof line, "WRONG line %d: ", __LINE__);                 \
        at_ += snprintf(line + at_, sizeof line - (size_t)at_, __VA_ARGS__);              \
        line[at_++] = '\n';                                                                 \
        if (write(1, line, (size_t)at_) < 0) _exit(90);                                     \
        bad = 1;                                                                          \
    } while (0)
#define EXPECT(c)                                                                         \
    do {                                                                                  \
        if (!(c)) WRONG("%s (errno %d)", #c, errno);                                      \
    } while (0)

static uint64_t draw(struct worker *w) {
    w->state ^= w->state << 13;
    w->state ^= w->state >> 7;
    w->state ^= w->state << 17;
    return w->state * 0x2545f4914f6cdd1dULL;
}
static long raw(long nr, long a) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a) : "rcx", "r11", "memory");
    return r;
}
/* A wait for one child that a signal does not end. */
static int status_of(pid_t pid) {
    int st;
    while (waitpid(pid, &st, 0) < 0)
        if (errno != EINTR) {
            WRONG("waitpid: errno %d", errno);
            return -1;
        }
    return st;
}

static void on_signal(int sig, siginfo_t *si, void *uc) {
    int keep = errno;
    __m128i junk = _mm_set1_epi32(sig * 0x01010101);
    __asm__ volatile("movdqa %0, %%xmm0\nmovdqa %0, %%xmm7\nmovdqa %0, %%xmm15" : : "m"(junk) : "xmm0", "xmm7", "xmm15");
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
    if (raw(SYS_getpid, 0) <= 0) bad = 1;
    errno = keep;
    if (may_jump && sig == SIGUSR2) {
        may_jump = 0;
        siglongjmp(escape, 1);
    }
}
static void on_fault(int sig, siginfo_t *si, void *uc) {
    char *page = (char *)((uintptr_t)si->si_addr & ~(uintptr_t)(PAGE - 1));
    if (!guarded || page != guarded || mprotect(page, PAGE, PROT_READ | PROT_WRITE)) {
        greg_t *r = ((ucontext_t *)uc)->uc_mcontext.gregs;
        WRONG("a fault at %p (code %d, error %llx), rip %llx, rsp %llx; guarded %p; operation %d; main %p", si->si_addr,
              si->si_code, (long long)r[REG_ERR], (long long)r[REG_RIP], (long long)r[REG_RSP], (void *)guarded, operation,
              (void *)(uintptr_t)on_signal);
        static char map[65536];
        int fd = open("/proc/self/maps", O_RDONLY);
        for (ssize_t n; fd >= 0 && (n = read(fd, map, sizeof map)) > 0;)
            if (write(2, map, (size_t)n) < 0) break;
        _exit(91);
    }
    __atomic_fetch_add(&faulted, 1, __ATOMIC_RELAXED);
}

/* --- operations: each returns a number that depends on its argument alone -------------------------------- */
static uint64_t op_fork(uint64_t x) {
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t sum = 0;
        for (int i = 0; i < 200; i++) sum = sum * 31 + (uint64_t)raw(SYS_getuid, 0) + x;
        if (raw(SYS_getpid, 0) != raw(SYS_gettid, 0)) _exit(99);
        _exit((int)(sum & 63));
    }
    EXPECT(pid > 0);
    int st = status_of(pid);
    uint64_t sum = 0;
    for (int i = 0; i < 200; i++) sum = sum * 31 + (uint64_t)raw(SYS_getuid, 0) + x;
    EXPECT(WIFEXITED(st) && WEXITSTATUS(st) == (int)(sum & 63));
    return (uint64_t)st;
}
static uint64_t op_spawn(uint64_t x) {
    char word[32];
    snprintf(word, sizeof word, "%d", (int)(x & 127));
    char *argv[] = {self, "exit", word, NULL};
    pid_t pid;
    int r = posix_spawn(&pid, self, NULL, NULL, argv, environ);
    if (r) {
        WRONG("posix_spawn: %d", r);
        return 0;
    }
    int st = status_of(pid);
    EXPECT(WIFEXITED(st) && WEXITSTATUS(st) == (int)(x & 127));
    return (uint64_t)st;
}
static uint64_t op_killed(uint64_t x) {
    static const int how[] = {SIGKILL, SIGTERM, SIGABRT, SIGSEGV};
    int sig = how[x & 3];
    pid_t pid = fork();
    if (pid == 0) {
        signal(sig == SIGSEGV ? SIGSEGV : SIGTERM, SIG_DFL);
        if (sig == SIGSEGV) *(volatile int *)8 = 1;
        for (;;) raw(SYS_getppid, 0);
    }
    if (sig != SIGSEGV && kill(pid, sig)) {
        WRONG("kill(%d): errno %d", pid, errno);
        syscall(SYS_kill, pid, SIGKILL);
    }
    int st = status_of(pid);
    EXPECT(WIFSIGNALED(st) && WTERMSIG(st) == sig);
    return (uint64_t)sig;
}
static void *short_thread(void *p) {
    uint64_t x = (uint64_t)(uintptr_t)p;
    for (int i = 0; i < 50; i++) {
        x = x * 6364136223846793005ULL + 1;
        if (i % 10 == 0) sched_yield();
    }
    return (void *)(uintptr_t)(x >> 8);
}
static uint64_t op_threads(uint64_t x) {
    pthread_t ids[4];
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 4; i++)
        if (pthread_create(&ids[i], NULL, short_thread, (void *)(uintptr_t)(x + i))) WRONG("pthread_create");
    for (int i = 0; i < 4; i++) {
        void *r;
        pthread_join(ids[i], &r);
        sum += (uint64_t)(uintptr_t)r;
    }
    return sum;
}
static uint64_t op_library(uint64_t x) {
    void *handle = dlopen(libraries[x % (uint64_t)n_libraries], RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        WRONG("dlopen: %s", dlerror());
        return 0;
    }
    long (*f)(long) = (long (*)(long))dlsym(handle, "work");
    int *number = dlsym(handle, "number");
    long got = f((long)(x & 1023));
    EXPECT(*number == (int)(x % (uint64_t)n_libraries));
    EXPECT(got == (long)(x & 1023) * 3 + *number);
    if (dlclose(handle)) WRONG("dlclose");
    return (uint64_t)got;
}
/* mov $NUMBER, %eax; syscall (of getuid, added); add; ret -- written, protected, run, rewritten, run. */
static uint64_t op_code(uint64_t x) {
    unsigned char code[] = {0xb8, SYS_getuid, 0, 0, 0, 0x0f, 0x05, 0x05, 0, 0, 0, 0, 0xc3};
    int rwx = x & 1;
    unsigned char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | (rwx ? PROT_EXEC : 0), MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t add = (uint32_t)(x >> 8 & 0xffff) + i;
        memcpy(code + 8, &add, 4);
        if (!rwx && i) EXPECT(mprotect(at, PAGE, PROT_READ | PROT_WRITE) == 0);
        memcpy(at + 16 * i, code, sizeof code);
        if (!rwx) EXPECT(mprotect(at, PAGE, PROT_READ | PROT_EXEC) == 0);
        for (int k = 0; k < 3; k++) {
            uint32_t got = ((uint32_t(*)(void))(void *)(at + 16 * i))();
            EXPECT(got == (uint32_t)raw(SYS_getuid, 0) + add);
            sum += got;
        }
        EXPECT(memcmp(at + 16 * i, code, sizeof code) == 0);
    }
    munmap(at, PAGE);
    return sum;
}
static uint64_t op_faults(uint64_t x) {
    char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    guarded = at;
    for (int i = 0; i < 10; i++) {
        EXPECT(mprotect(at, PAGE, i & 1 ? PROT_READ : PROT_NONE) == 0);
        at[(x >> i) & 1023] = (char)i;
        EXPECT(at[(x >> i) & 1023] == (char)i);
    }
    guarded = NULL;
    munmap(at, PAGE);
    return 10;
}
static uint64_t op_pipe(uint64_t x) {
    int p[2];
    unsigned char out[3000], in[3000];
    if (pipe2(p, O_CLOEXEC)) {
        WRONG("pipe: %d", errno);
        return 0;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof out; i++) out[i] = (unsigned char)(x >> (i & 7));
    EXPECT(write(p[1], out, sizeof out) == (ssize_t)sizeof out);
    size_t have = 0;
    while (have < sizeof in) {
        ssize_t n = read(p[0], in + have, sizeof in - have);
        if (n <= 0) {
            WRONG("read: %zd, errno %d", n, errno);
            break;
        }
        have += (size_t)n;
    }
    EXPECT(memcmp(in, out, sizeof in) == 0);
    for (size_t i = 0; i < sizeof in; i++) sum += in[i];
    close(p[0]);
    close(p[1]);
    return sum;
}
static uint64_t op_file(uint64_t x, int me) {
    char name[40], other[40], buf[2000], back[2000];
    struct stat st;
    snprintf(name, sizeof name, "file-%d-%d", me, (int)(x & 7));
    snprintf(other, sizeof other, "other-%d", me);
    memset(buf, (int)(x >> 8 & 255), sizeof buf);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EXPECT(fd >= 0);
    EXPECT(write(fd, buf, sizeof buf) == (ssize_t)sizeof buf);
    EXPECT(rename(name, other) == 0);
    EXPECT(stat(name, &st) == -1 && errno == ENOENT);
    EXPECT(stat(other, &st) == 0 && st.st_size == (off_t)sizeof buf);
    EXPECT(pread(fd, back, sizeof back, 0) == (ssize_t)sizeof back && memcmp(buf, back, sizeof buf) == 0);
    EXPECT(unlink(other) == 0);
    EXPECT(fstat(fd, &st) == 0 && st.st_nlink == 0);
    close(fd);
    return (uint64_t)(unsigned char)buf[0];
}
static uint64_t op_memory(uint64_t x) {
    size_t size = ((x & 63) + 1) * PAGE;
    uint64_t sum = 0;
    unsigned char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < size; i += PAGE) at[i] = (unsigned char)(i / PAGE);
    unsigned char *moved = mremap(at, size, size * 2, MREMAP_MAYMOVE);
    EXPECT(moved != MAP_FAILED);
    for (size_t i = 0; i < size; i += PAGE) sum += moved[i];
    EXPECT(madvise(moved, size, MADV_DONTNEED) == 0 && moved[0] == 0);
    munmap(moved, size * 2);
    return sum;
}
/* The vector registers hold over calls and signals. */
static uint64_t op_registers(uint64_t x) {
    uint64_t in[4] = {x, ~x, x * 3, x * 5}, out[4];
    for (int i = 0; i < 200; i++) {
        __asm__ volatile("movups (%1), %%xmm0\nmovups 16(%1), %%xmm15\nmovups (%1), %%xmm7\n"
                         "mov $24, %%eax\nsyscall\n" /* sched_yield */
                         "mov $39, %%eax\nsyscall\n"
                         "movups %%xmm0, (%0)\nmovups %%xmm15, 16(%0)\npxor %%xmm0, %%xmm7\nmovq %%xmm7, %%rax\n"
                         "or %%rax, (%0)\n"
                         : : "r"(out), "r"(in) : "rax", "rcx", "r11", "memory", "xmm0", "xmm7", "xmm15");
        if (memcmp(in, out, sizeof in)) {
            WRONG("vector registers");
            break;
        }
    }
    return x & 255;
}
/* A loop that only a jump out of a handler ends. */
static uint64_t op_jump(struct worker *w) {
    may_jump = 0;
    if (!sigsetjmp(escape, 1)) {
        may_jump = 1;
        raw(SYS_tkill, 0); /* EINVAL: just a call */
        syscall(SYS_tgkill, getpid(), w->tid, SIGUSR2);
        for (;;) raw(SYS_getppid, 0);
    }
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    EXPECT(!sigismember(&now, SIGUSR2));
    return 1;
}
static uint64_t op_sleep(uint64_t x) {
    struct timespec ts = {0, (long)(x % 300000)};
    while (nanosleep(&ts, &ts) && errno == EINTR) { }
    return 1;
}

static void *work(void *p) {
    struct worker *w = p;
    w->tid = (pid_t)syscall(SYS_gettid);
    stack_t ss = {.ss_sp = malloc(65536), .ss_size = 65536}, off = {.ss_flags = SS_DISABLE};
    sigaltstack(&ss, NULL);
    timer_t timer;
    struct sigevent se = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1};
    se._sigev_un._tid = w->tid;
    struct itimerspec its = {{0, 700000 + 100000 * w->nr}, {0, 700000}};
    if (timer_create(CLOCK_MONOTONIC, &se, &timer) || timer_settime(timer, 0, &its, NULL)) WRONG("timer: %d", errno);
    w->running = 1;
    for (int i = 0; i < rounds && !bad; i++) {
        uint64_t x = draw(w), r;
        operation = (int)(x >> 60);
        switch (operation) {
        case 0: r = op_fork(x); break;
        case 1: r = op_spawn(x & 3 ? x : x + 1); break;
        case 2: r = op_killed(x); break;
        case 3: case 4: r = op_threads(x); break;
        case 5: case 6: r = op_library(x >> 3); break;
        case 7: r = op_code(x); break;
        case 8: r = op_faults(x); break;
        case 9: r = op_pipe(x); break;
        case 10: r = op_file(x, w->nr); break;
        case 11: r = op_memory(x); break;
        case 12: r = op_registers(x); break;
        case 13: r = op_jump(w); break;
        case 14: r = op_sleep(x); break;
        default: /* a signal for somebody */
            r = x % WORKERS;
            if (workers[r].running) syscall(SYS_tgkill, getpid(), workers[r].tid, x & 1 ? SIGUSR1 : SIGRTMIN);
        }
        w->digest = w->digest * 1099511628211ULL ^ r;
    }
    w->running = 0;
    timer_delete(timer);
    sigaltstack(&off, NULL);
    free(ss.ss_sp);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 2 && !strcmp(argv[1], "exit")) return atoi(argv[2]);
    if (argc < 4) return 2;
    self = argv[0];
    uint64_t seed = strtoull(argv[1], NULL, 10);
    rounds = atoi(argv[2]);
    libraries = argv + 3;
    n_libraries = argc - 3;
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    static const int which[] = {SIGUSR1, SIGUSR2, SIGALRM};
    for (int i = 0; i < 3; i++) sigaction(which[i], &sa, NULL);
    sigaction(SIGRTMIN, &sa, NULL);
    sa.sa_flags |= SA_ONSTACK;
    sigaction(SIGRTMIN + 1, &sa, NULL);
    sa.sa_sigaction = on_fault;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &sa, NULL);
    struct itimerval it = {{0, 3000}, {0, 3000}};
    setitimer(ITIMER_REAL, &it, NULL);
    for (int i = 0; i < WORKERS; i++) {
        workers[i].nr = i;
        workers[i].state = (seed + 1) * 0x9e3779b97f4a7c15ULL + (uint64_t)i * 0xbf58476d1ce4e5b9ULL;
        if (pthread_create(&workers[i].id, NULL, work, &workers[i])) WRONG("pthread_create");
    }
    uint64_t digest = 0;
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].id, NULL);
        digest = digest * 31 + workers[i].digest;
    }
    memset(&it, 0, sizeof it);
    setitimer(ITIMER_REAL, &it, NULL);
    fprintf(stderr, "handled %ld, faults %ld\n", handled, faulted);
    EXPECT(handled > 0);
    printf("seed %lu rounds %d digest %016lx %s\n", (unsigned long)seed, rounds, (unsigned long)digest, bad ? "WRONG" : "right");
    return bad ? 1 : 0;
}
