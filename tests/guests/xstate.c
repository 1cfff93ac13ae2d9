// All of the processor's extended state across calls: x87, MXCSR, XMM, YMM, ZMM, opmask.
// variants: dynamic static
// flags: -pthread -mno-red-zone
// timeout: 100
#include "check.h"
#include <pthread.h>
#include <ucontext.h>

/* Fills every register from `in` (kind 0 SSE, 1 AVX, 2 AVX-512), makes the call (nr -2: waits until *a != 0; entry: at which
 * address there is a syscall instruction with a ret), and stores every register to `out`. */
struct state {
    unsigned char vector[32][64]; /* 0 */
    uint64_t mask[8];             /* 2048 */
    unsigned char x87[8][16];     /* 2112: as 80-bit values, 16 bytes each */
    uint32_t mxcsr, pad;          /* 2240 */
    uint16_t control, status;     /* 2248 */
};
long with_state(const struct state *in, struct state *out, long nr, long a, long b, long c, long kind, const void *entry);
__asm__(".text\n.globl with_state, at_a_site\n"
        "with_state: push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov %rdi,%rbx\n mov %rsi,%r12\n mov %rdx,%rax\n mov %rcx,%rdi\n mov %r8,%rsi\n mov %r9,%rdx\n"
        " mov 56(%rsp),%r13\n mov 64(%rsp),%r14\n xor %r10d,%r10d\n xor %r8d,%r8d\n xor %r9d,%r9d\n"
        " sub $24,%rsp\n stmxcsr (%rsp)\n fnstcw 8(%rsp)\n"
        " fninit\n"
        ".irp n,7,6,5,4,3,2,1,0\n fldt 2112+16*\\n(%rbx)\n.endr\n"
        " fldcw 2248(%rbx)\n ldmxcsr 2240(%rbx)\n"
        " cmp $2,%r13\n je 2f\n cmp $1,%r13\n je 1f\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu 64*\\n(%rbx),%xmm\\n\n.endr\n jmp 3f\n"
        "1:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu 64*\\n(%rbx),%ymm\\n\n.endr\n jmp 3f\n"
        "2:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        " vmovdqu64 64*\\n(%rbx),%zmm\\n\n.endr\n"
        ".irp n,0,1,2,3,4,5,6,7\n kmovw 2048+8*\\n(%rbx),%k\\n\n.endr\n"
        "3: cmp $-2,%rax\n je 4f\n call *%r14\n jmp 5f\n"
        "4: cmpl $0,(%rdi)\n je 4b\n"
        "5: cmp $2,%r13\n je 2f\n cmp $1,%r13\n je 1f\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu %xmm\\n,64*\\n(%r12)\n.endr\n jmp 3f\n"
        "1:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %ymm\\n,64*\\n(%r12)\n.endr\n vzeroupper\n jmp 3f\n"
        "2:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        " vmovdqu64 %zmm\\n,64*\\n(%r12)\n.endr\n"
        ".irp n,0,1,2,3,4,5,6,7\n kmovw %k\\n,%ecx\n mov %rcx,2048+8*\\n(%r12)\n.endr\n vzeroupper\n"
        "3: stmxcsr 2240(%r12)\n fnstcw 2248(%r12)\n fnstsw 2250(%r12)\n"
        ".irp n,0,1,2,3,4,5,6,7\n fstpt 2112+16*\\n(%r12)\n.endr\n"
        " fninit\n ldmxcsr (%rsp)\n fldcw 8(%rsp)\n add $24,%rsp\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n"
        /* a site that is rewritten: a function with frame information and padding behind it (loader/sites.py) */
        ".balign 32\nat_a_site: .cfi_startproc\n syscall\n ret\n.cfi_endproc\n.balign 32\n"
        "behind_it: .cfi_startproc\n ret\n.cfi_endproc\n");
void at_a_site(void);
static void *on_the_trap;

static int widest(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
}

static void fill(struct state *s, unsigned seed) {
    memset(s, 0, sizeof *s);
    for (int i = 0; i < 32; i++)
        for (int k = 0; k < 64; k++) s->vector[i][k] = (unsigned char)(seed + (unsigned)(i * 67 + k * 13) + 1);
    for (int i = 0; i < 8; i++) s->mask[i] = (seed * 2654435761u + (unsigned)i * 0x1111) & 0xffff;
    for (int i = 0; i < 8; i++) {
        long double v = 1.0L / (long double)(seed + 3 + (unsigned)i);
        memcpy(s->x87[i], &v, 10);
    }
    s->mxcsr = 0x1f80 | (seed & 3) << 13 | (seed & 1) << 15; /* rounding, flush to zero */
    s->control = (uint16_t)(0x007f | (seed & 3) << 10 | (seed & 1 ? 0x300 : 0x200)); /* rounding, precision */
}

static void compare(const char *what, const struct state *a, const struct state *b, int kind) {
    size_t width = kind == 2 ? 64 : kind == 1 ? 32 : 16;
    for (int i = 0; i < (kind == 2 ? 32 : 16); i++)
        if (memcmp(a->vector[i], b->vector[i], width)) COMPLAIN("%s changed vector register %d", what, i);
    for (int i = 0; kind == 2 && i < 8; i++)
        if (a->mask[i] != b->mask[i]) COMPLAIN("%s changed k%d: %lx", what, i, (long)b->mask[i]);
    for (int i = 0; i < 8; i++)
        if (memcmp(a->x87[i], b->x87[i], 10)) COMPLAIN("%s changed st(%d)", what, i);
    if ((a->mxcsr & 0xffc0) != (b->mxcsr & 0xffc0)) COMPLAIN("%s: mxcsr %x, not %x", what, b->mxcsr, a->mxcsr);
    if (a->control != b->control) COMPLAIN("%s: x87 control %x, not %x", what, b->control, a->control);
    if (b->status & 0x3800) COMPLAIN("%s: x87 stack top %x", what, b->status); /* all eight are in use: top is 0 */
}

static volatile int flag;
static int handled;
static void clobber(int sig) {
    struct state junk, out;
    fill(&junk, 0x55);
    with_state(&junk, &out, SYS_getpid, 0, 0, 0, widest(), (void *)at_a_site);
    struct stat st;
    stat("/", &st);
    handled++;
    flag = 1;
}

static long one(const char *what, unsigned seed, int kind, long nr, long a, long b, long c) {
    struct state in, out;
    void *const entries[] = {(void *)at_a_site, on_the_trap};
    long r = 0;
    for (int way = 0; way < 2; way++) {
        char name[64];
        snprintf(name, sizeof name, "%s %s", what, way ? "on the trap" : "at a site");
        fill(&in, seed + (unsigned)way);
        memset(&out, 0, sizeof out);
        r = with_state(&in, &out, nr, a, b, c, kind, entries[way]);
        compare(name, &in, &out, kind);
    }
    return r;
}

static void each_lane(void) {
    struct stat st;
    struct timespec ts = {0, 1000000}, now;
    char buf[64];
    int p[2];
    OK(pipe(p));
    for (int kind = 0; kind <= widest(); kind++) {
        unsigned seed = (unsigned)kind * 17;
        EQ(one("getpid", seed + 1, kind, SYS_getpid, 0, 0, 0), getpid());
        EQ(one("an unknown call", seed + 2, kind, 500, 0, 0, 0), -ENOSYS);
        EQ(one("write", seed + 3, kind, SYS_write, p[1], (long)"abc", 3), 3);
        EQ(one("read", seed + 4, kind, SYS_read, p[0], (long)buf, 3), 3);
        EQ(one("nanosleep", seed + 5, kind, SYS_nanosleep, (long)&ts, 0, 0), 0);
        EQ(one("sched_yield", seed + 6, kind, SYS_sched_yield, 0, 0, 0), 0);
        EQ(one("stat", seed + 7, kind, SYS_stat, (long)"/", (long)&st, 0), 0);
        EQ(one("open", seed + 8, kind, SYS_open, (long)"/no/such/file", O_RDONLY, 0), -ENOENT);
        EQ(one("clock_gettime", seed + 9, kind, SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0), 0);
        EQ(one("rt_sigprocmask", seed + 10, kind, SYS_rt_sigprocmask, SIG_BLOCK, 0, 0), -EINVAL);
    }
    close(p[0]);
    close(p[1]);
}

static void new_processes(void) {
    for (int kind = 0; kind <= widest(); kind++) {
        struct state in, out;
        void *const entries[] = {(void *)at_a_site, on_the_trap};
        for (int way = 0; way < 2; way++) {
            fill(&in, 60 + (unsigned)kind);
            long pid = with_state(&in, &out, SYS_fork, 0, 0, 0, kind, entries[way]);
            compare("fork", &in, &out, kind);
            if (pid == 0) _exit(check_bad ? 1 : 0);
            EXITED((pid_t)pid, 0);
        }
    }
}

static void signals(void) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = clobber;
    sigaction(SIGALRM, &sa, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    for (int kind = 0; kind <= widest(); kind++) {
        struct state in, out;
        for (int round = 0; round < 5; round++) {
            struct itimerval it = {{0, 0}, {0, 2000 + round * 700}};
            fill(&in, 80 + (unsigned)(kind * 5 + round));
            flag = 0;
            setitimer(ITIMER_REAL, &it, NULL);
            with_state(&in, &out, -2, (long)&flag, 0, 0, kind, NULL);
            compare("a signal", &in, &out, kind);
        }
        EQ(one("kill", 90, kind, SYS_kill, getpid(), SIGUSR1, 0), 0);
        struct timespec ts = {0, 30000000};
        struct itimerval it = {{0, 0}, {0, 5000}};
        fill(&in, 99);
        setitimer(ITIMER_REAL, &it, NULL);
        EQ(with_state(&in, &out, SYS_nanosleep, (long)&ts, 0, 0, kind, (void *)at_a_site), -EINTR);
        compare("an interrupted call", &in, &out, kind);
    }
    CHECK(handled >= 3);
    signal(SIGALRM, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
}

/* Many calls of every lane while a timer interrupts them anywhere: fast path, trap, core. */
static void storm(void) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = clobber;
    sa.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {{0, 300}, {0, 300}}, off = {{0, 0}, {0, 0}};
    static const long numbers[] = {SYS_getpid, SYS_sched_yield, SYS_umask, SYS_close};
    struct stat st;
    int kind = widest(), pid = getpid();
    setitimer(ITIMER_REAL, &it, NULL);
    for (unsigned i = 0; i < 1500 && !check_bad; i++) {
        struct state in, out;
        fill(&in, i);
        long nr = numbers[i & 3];
        long r = with_state(&in, &out, nr, nr == SYS_umask ? 022 : -1, 0, 0, kind, i & 4 ? on_the_trap : (void *)at_a_site);
        if (nr == SYS_getpid && r != pid) COMPLAIN("getpid gives %ld", r);
        compare("a call in a storm of signals", &in, &out, kind);
    }
    setitimer(ITIMER_REAL, &off, NULL);
    signal(SIGALRM, SIG_DFL);
}

/* By the hook of the test, where there is one (tests/kernel/test_pitfalls.py): calls that Python sees before and after. */
static void hooked(void) {
    struct stat st;
    char buf[8];
    int zero = (int)OK(open("/dev/zero", O_RDONLY));
    for (int kind = 0; kind <= widest(); kind++)
        for (unsigned i = 0; i < 5; i++) {
            EQ(one("a hooked getppid", 100 + i, kind, SYS_getppid, 0, 0, 0), getppid());
            EQ(one("a hooked read", 110 + i, kind, SYS_read, zero, (long)buf, 8), 8);
            EQ(one("a hooked stat", 120 + i, kind, SYS_stat, (long)"/", (long)&st, 0), 0);
        }
    close(zero);
}

static void *in_a_thread(void *arg) {
    struct state in, out;
    for (unsigned i = 0; i < 300; i++) {
        fill(&in, (unsigned)(uintptr_t)arg + i);
        with_state(&in, &out, i & 1 ? SYS_getpid : SYS_sched_yield, 0, 0, 0, widest(), i & 2 ? on_the_trap : (void *)at_a_site);
        compare("a call in a thread", &in, &out, widest());
    }
    return NULL;
}

static void threads(void) {
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++) EQ(pthread_create(&t[i], NULL, in_a_thread, (void *)(i * 1000)), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
}

int main(int argc, char **argv) {
    static const unsigned char code[] = {0x0f, 0x05, 0xc3};
    void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(m, code, sizeof code);
    if (mprotect(m, 4096, PROT_READ | PROT_EXEC)) return 99;
    on_the_trap = m;
    static const struct check_case cases[] = {CASE(each_lane), CASE(new_processes), CASE(signals), CASE(storm), CASE(hooked), CASE(threads)};
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
