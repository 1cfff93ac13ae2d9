// What interposers of this family get wrong, one case each; docs/pitfalls.md is the table.  The vector state is in xstate.c.
// variants: dynamic no-pie static musl-static
// flags: -pthread -mno-red-zone
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <ucontext.h>

/* mov %rdi,%rax; mov %rsi,%rdi; mov %rdx,%rsi; mov %rcx,%rdx; syscall; ret: never rewritten, so it traps */
static const unsigned char stub[] = {0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6,
                                     0x48, 0x89, 0xca, 0x0f, 0x05, 0xc3};
typedef long (*call_fn)(long nr, long a, long b, long c);
static call_fn trapped;
static char self[PATH_MAX];

static void *fresh(int prot) {
    unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(m, stub, sizeof stub);
    OK(mprotect(m, 4096, prot));
    return m;
}

/* A directory that is on the host's disk, where the test looks, only if a call escaped. */
static int made;
static void intercepted(void) {
    char name[48];
    snprintf(name, sizeof name, "made-%d-%d", getpid(), made++);
    EQ(trapped(SYS_mkdir, (long)name, 0700, 0), 0);
    OK(mkdir(strcat(name, "b"), 0700));
}

/* ---- environment cleared on exec */

static void environment_cleared(void) {
    char *argv[] = {self, "leaf", NULL}, *none[] = {NULL};
    for (int way = 0; way < 3; way++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (way == 0) execve(self, argv, none);
            if (way == 1) syscall(SYS_execveat, AT_FDCWD, self, argv, none, 0);
            if (way == 2) execve(self, argv, NULL);
            _exit(9);
        }
        EXITED(pid, 0);
    }
}

static int leaf(void) {
    trapped = fresh(PROT_READ | PROT_EXEC);
    intercepted();
    return environ && environ[0] ? 1 : check_bad;
}

/* ---- SUD switched off by prctl */

static void dispatch_switched_off(void) {
    static char selector; /* SYSCALL_DISPATCH_FILTER_ALLOW */
    OK(syscall(SYS_prctl, 59, 0, 0, 0, 0));
    intercepted();
    OK(syscall(SYS_prctl, 59, 1, 0, ~0ul, 0)); /* wherever it is made: allowed */
    intercepted();
    OK(syscall(SYS_prctl, 59, 1, 0, 0, &selector));
    intercepted();
    OK(syscall(SYS_prctl, 59, 0, 0, 0, 0));
    EQ(trapped(SYS_prctl, 59, 0, 0), 0);
    intercepted();
}

/* ---- data mistaken for code; a rewrite induced by the guest in its own data */

long number(void), number_as_code(long nr);
extern const unsigned char number_end[], table_in_text[];
unsigned table_sum(void), hidden_displacement(const unsigned char *base);
__asm__(".text\n"
        ".globl number, number_as_code, number_end, table_in_text, table_sum, hidden_displacement\n"
        ".balign 32\nnumber: .cfi_startproc\n .byte 0xb8\n" /* mov $0xc3050f,%eax: its immediate reads `syscall; ret` */
        "1: .byte 0x0f,0x05,0xc3,0x00\n ret\n number_end:\n.cfi_endproc\n"
        ".balign 32\nnumber_as_code: .cfi_startproc\n mov %rdi,%rax\n jmp 1b\n.cfi_endproc\n" /* to the immediate */
        ".balign 32\n"
        "table_in_text: .byte 0xb8,0x27,0,0,0,0x0f,0x05, 0x0f,0x05, 0x90,0x0f,0x05,0xeb,0xfe\n"
        ".balign 32\ntable_sum: .cfi_startproc\n xor %eax,%eax\n lea table_in_text(%rip),%rdx\n xor %ecx,%ecx\n"
        "1: movzbl (%rdx,%rcx),%esi\n imul $31,%eax\n add %esi,%eax\n inc %ecx\n cmp $14,%ecx\n jb 1b\n ret\n.cfi_endproc\n"
        ".balign 32\nhidden_displacement: .cfi_startproc\n .byte 0x8b,0x87,0x0f,0x05,0,0\n" /* mov 0x50f(%rdi),%eax */
        " ret\n.cfi_endproc\n.balign 32\n");

static unsigned sum_of(const unsigned char *p, int n) {
    unsigned s = 0;
    for (int i = 0; i < n; i++) s = s * 31 + p[i];
    return s;
}

static void data_is_not_code(void) {
    static const unsigned char expected[] = {0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x05, 0x90, 0x0f, 0x05, 0xeb, 0xfe};
    static unsigned char field[0x600];
    field[0x50f] = 77;
    for (int i = 0; i < 3; i++) {
        EQ(number(), 0xc3050f);
        EQ(memcmp(table_in_text, expected, sizeof expected), 0);
        EQ(table_sum(), sum_of(expected, sizeof expected));
        EQ(hidden_displacement(field), 77);
        getpid();
    }
}

static void induced_rewrite(void) {
    unsigned char *heap = fresh(PROT_READ | PROT_WRITE | PROT_EXEC);
    static const unsigned char in_data[] = {0xb8, 0x0f, 0x05, 0xc3, 0x00, 0xc3};
    memcpy(heap + 64, in_data, sizeof in_data);
    long (*as_number)(void) = (void *)(heap + 64);
    for (int i = 0; i < 200; i++) {
        EQ(number_as_code(SYS_getpid), getpid());
        EQ(number(), 0xc3050f);
        EQ(memcmp(number_end - 6, in_data, 6), 0);
        long r;
        __asm__ volatile("call *%[at]" : "=a"(r) : "a"(SYS_getpid), [at] "r"(heap + 65) : "rcx", "r11", "memory");
        EQ(r, getpid());
        EQ(as_number(), 0xc3050f);
        EQ(memcmp(heap + 64, in_data, sizeof in_data), 0);
    }
}

/* ---- jump to null */

static sigjmp_buf out;
static volatile uintptr_t fault_at, fault_ip;
static volatile int fault_sig;
static void caught(int sig, siginfo_t *si, void *uc) {
    fault_sig = sig;
    fault_at = (uintptr_t)si->si_addr;
    fault_ip = (uintptr_t)((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP];
    siglongjmp(out, 1);
}
static void catch(int sig) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = caught;
    sa.sa_flags = SA_SIGINFO;
    sigaction(sig, &sa, NULL);
}

static void jump_to_null(void) {
    catch(SIGSEGV);
    static const long numbers[] = {0, 1, SYS_getpid, SYS_mkdir, 200, 335, 500, 511, 4095, -1};
    for (volatile size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        for (volatile long to = 0; to < 512; to += 255) {
            fault_sig = 0;
            if (!sigsetjmp(out, 1))
                __asm__ volatile("call *%[to]" ::"a"(numbers[i]), "D"("null-made"), "S"(0700L), [to] "r"(to)
                                 : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory");
            EQ(fault_sig, SIGSEGV);
            EQ(fault_at, to);
            EQ(fault_ip, to);
        }
    if (!sigsetjmp(out, 1)) {
        volatile char c = *(volatile char *)(intptr_t)(made & 0);
        (void)c;
        COMPLAIN("page zero is readable");
    }
    EQ(fault_at, 0);
    struct stat st;
    FAILS(stat("null-made", &st), ENOENT);
    signal(SIGSEGV, SIG_DFL);
}

/* ---- torn or racing rewrites */

static pthread_barrier_t gate;
static void *racer(void *arg) {
    call_fn f = (call_fn)arg;
    long bad = 0;
    pthread_barrier_wait(&gate);
    for (int i = 0; i < 200; i++) {
        bad += f(SYS_getpid, 0, 0, 0) != getpid();
        bad += f(SYS_close, -1, 0, 0) != -EBADF;
    }
    return (void *)bad;
}

static void racing_rewrites(void) {
    static const int prots[] = {PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC};
    for (int round = 0; round < 40; round++) {
        unsigned char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int at = round % 4 == 0 ? 4096 - 13 : round % 4 == 1 ? 64 - 13 : 100 + round; /* across a page, a cache line */
        memcpy(m + at, stub, sizeof stub);
        OK(mprotect(m, 8192, prots[round % 2]));
        pthread_t t[4];
        pthread_barrier_init(&gate, NULL, 4);
        for (int i = 0; i < 4; i++) EQ(pthread_create(&t[i], NULL, racer, m + at), 0);
        for (int i = 0; i < 4; i++) {
            void *bad;
            pthread_join(t[i], &bad);
            EQ((long)bad, 0);
        }
        EQ(memcmp(m + at, stub, sizeof stub), 0);
        OK(munmap(m, 8192));
    }
}

/* ---- permissions lost after a rewrite */

static const char *permissions(const void *at) {
    static char perms[8];
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    strcpy(perms, "none");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long a, b;
        char p[8];
        if (sscanf(line, "%lx-%lx %7s", &a, &b, p) == 3 && (uintptr_t)at >= a && (uintptr_t)at < b) strcpy(perms, p);
    }
    if (f) fclose(f);
    return perms;
}

static void permissions_stay(void) {
    catch(SIGSEGV);
    static const struct { int prot; const char *shown; } kinds[] = {
        {PROT_READ | PROT_EXEC, "r-xp"},
        {PROT_READ | PROT_WRITE | PROT_EXEC, "rwxp"},
        {PROT_EXEC, "--xp"},
    };
    for (volatile int k = 0; k < 3; k++) {
        volatile unsigned char *volatile m = fresh(kinds[k].prot);
        for (volatile int i = 0; i < 3; i++) {
            EQ(((call_fn)(uintptr_t)m)(SYS_getpid, 0, 0, 0), getpid());
            STREQ(permissions((void *)m), kinds[k].shown);
            fault_sig = 0;
            if (!sigsetjmp(out, 1)) m[200] = 1;
            EQ(fault_sig, k == 1 ? 0 : SIGSEGV);
        }
        munmap((void *)m, 4096);
    }
    STREQ(permissions((void *)(uintptr_t)number), "r-xp");
    fault_sig = 0;
    if (!sigsetjmp(out, 1)) *(volatile unsigned char *)(uintptr_t)number = 1;
    EQ(fault_sig, SIGSEGV);
    EQ(number(), 0xc3050f);
    signal(SIGSEGV, SIG_DFL);
}

/* ---- flags lost on sigreturn; the red zone under a signal */

static volatile int flag;
static uint64_t set_in_handler;
static void clobber(int sig, siginfo_t *si, void *uc) {
    char big[512];
    memset(big, 0xee, sizeof big);
    __asm__ volatile("" ::"r"(big) : "memory");
    struct stat st;
    stat("/", &st);
    if (set_in_handler) ((ucontext_t *)uc)->uc_mcontext.gregs[REG_EFL] = (long long)set_in_handler;
    flag = 1;
}

/* Loads the flags, fills the red zone, waits for the flag without touching either; the flags; *bad: the red zone changed. */
uint64_t spin_with_flags(uint64_t flags, const volatile int *until, uint64_t *bad);
uint64_t call_with_flags(uint64_t flags, long nr, long a, long b);
__asm__(".text\n.globl spin_with_flags, call_with_flags\n"
        "spin_with_flags: push %rbx\n push %r12\n mov %rdx,%r12\n"
        " xor %ecx,%ecx\n"
        "1: lea 0x77(%rcx),%r8\n mov %r8,-128(%rsp,%rcx,8)\n inc %ecx\n cmp $14,%ecx\n jb 1b\n"
        " push %rdi\n popfq\n"
        "2: movslq (%rsi),%rcx\n jrcxz 2b\n"
        " mov %rsp,%rbx\n lea -256(%rsp),%rsp\n pushfq\n pop %rax\n mov %rbx,%rsp\n cld\n"
        " xor %ecx,%ecx\n xor %edx,%edx\n"
        "3: lea 0x77(%rcx),%r8\n cmp %r8,-128(%rsp,%rcx,8)\n je 4f\n inc %edx\n"
        "4: inc %ecx\n cmp $14,%ecx\n jb 3b\n"
        " mov %rdx,(%r12)\n pop %r12\n pop %rbx\n ret\n"
        "call_with_flags: mov %rsi,%rax\n push %rdi\n mov %rdx,%rdi\n mov %rcx,%rsi\n popfq\n syscall\n"
        " pushfq\n pop %rax\n cld\n ret\n");
#define FLAGS 0xcd5 /* CF PF AF ZF SF DF OF */

static void flags_after_sigreturn(void) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = clobber;
    sa.sa_flags = SA_SIGINFO;
    sigaction(SIGALRM, &sa, NULL);
    static const uint64_t sets[] = {0x202, 0x202 | FLAGS, 0x202 | 0x400, 0x202 | 0x41};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        uint64_t bad = 1;
        struct itimerval it = {{0, 0}, {0, 3000}};
        flag = 0;
        set_in_handler = 0;
        setitimer(ITIMER_REAL, &it, NULL);
        EQ(spin_with_flags(sets[i], &flag, &bad) & FLAGS, sets[i] & FLAGS);
        EQ(bad, 0);
        EQ(call_with_flags(sets[i], SYS_kill, getpid(), SIGALRM) & FLAGS, sets[i] & FLAGS);
        set_in_handler = 0x202 | (~sets[i] & FLAGS);
        EQ(call_with_flags(sets[i], SYS_kill, getpid(), SIGALRM) & FLAGS, set_in_handler & FLAGS);
        flag = 0;
        setitimer(ITIMER_REAL, &it, NULL);
        EQ(spin_with_flags(sets[i], &flag, &bad) & FLAGS, set_in_handler & FLAGS);
        EQ(bad, 0);
    }
    signal(SIGALRM, SIG_DFL);
}

uint64_t red_zone_around(long nr, long a, long b);
__asm__(".text\n.globl red_zone_around\n.balign 32\n"
        "red_zone_around: .cfi_startproc\n mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n xor %r9d,%r9d\n"
        "1: lea 0x55(%r9),%r8\n mov %r8,-128(%rsp,%r9,8)\n inc %r9d\n cmp $16,%r9d\n jb 1b\n"
        " syscall\n xor %eax,%eax\n xor %r9d,%r9d\n"
        "2: lea 0x55(%r9),%r8\n cmp %r8,-128(%rsp,%r9,8)\n je 3f\n inc %eax\n"
        "3: inc %r9d\n cmp $16,%r9d\n jb 2b\n ret\n.cfi_endproc\n.fill 16,1,0xcc\n"
        "behind_red_zone: .cfi_startproc\n ret\n.cfi_endproc\n");

static void red_zone(void) {
    struct stat st;
    signal(SIGUSR1, (void (*)(int))(uintptr_t)clobber);
    for (int i = 0; i < 20; i++) {
        EQ(red_zone_around(SYS_getpid, 0, 0), 0);
        EQ(red_zone_around(SYS_close, -1, 0), 0);
        EQ(red_zone_around(SYS_stat, (long)"/", (long)&st), 0);
        set_in_handler = 0;
        EQ(red_zone_around(SYS_kill, getpid(), SIGUSR1), 0);
    }
    signal(SIGUSR1, SIG_DFL);
}

/* ---- SIGSYS masked */

static volatile long from_handler;
static void traps(int sig) { from_handler = trapped(SYS_getpid, 0, 0, 0); }
static void masks_all(int sig, siginfo_t *si, void *uc) {
    memset(&((ucontext_t *)uc)->uc_sigmask, 0xff, 8);
    from_handler = trapped(SYS_getpid, 0, 0, 0);
}
static void *with_all_blocked(void *arg) { return (void *)(trapped(SYS_getpid, 0, 0, 0) - getpid()); }

static void sigsys_masked(void) {
    uint64_t all = ~0ul, old, now, none = 0;
    OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8));
    EQ(trapped(SYS_getpid, 0, 0, 0), getpid());
    intercepted();
    OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &now, 8));
    EQ(now, all & ~((1ul << (SIGKILL - 1)) | (1ul << (SIGSTOP - 1)))); /* the guest sees what it asked for */
    pthread_t t;
    void *r;
    EQ(pthread_create(&t, NULL, with_all_blocked, NULL), 0);
    pthread_join(t, &r);
    EQ((long)r, 0);
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {self, "leaf", NULL}, *empty[] = {NULL};
        execve(self, argv, empty);
        _exit(9);
    }
    EXITED(pid, 0);
    OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8));
    /* everything blocked by sa_mask; by the waiting calls' masks; by the frame of a handler */
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = traps;
    memset(&sa.sa_mask, 0xff, sizeof sa.sa_mask);
    sigaction(SIGUSR1, &sa, NULL);
    from_handler = 0;
    raise(SIGUSR1);
    EQ(from_handler, getpid());
    uint64_t but_usr1 = ~(1ul << (SIGUSR1 - 1)), usr1 = ~but_usr1;
    int e = OK(epoll_create1(0));
    struct epoll_event ev;
    struct timespec zero = {0, 0};
    struct { void *set; size_t size; } set6 = {&but_usr1, 8};
    OK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &usr1, NULL, 8));
    for (int way = 0; way < 4; way++) {
        OK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
        from_handler = 0;
        if (way == 0) syscall(SYS_rt_sigsuspend, &but_usr1, 8);
        if (way == 1) syscall(SYS_ppoll, NULL, 0, NULL, &but_usr1, 8);
        if (way == 2) syscall(SYS_pselect6, 0, NULL, NULL, NULL, NULL, &set6);
        if (way == 3) syscall(SYS_epoll_pwait, e, &ev, 1, -1, &but_usr1, 8);
        EQ(from_handler, getpid());
        EQ(trapped(SYS_getpid, 0, 0, 0), getpid());
    }
    close(e);
    OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8));
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = masks_all;
    sa.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    EQ(trapped(SYS_getpid, 0, 0, 0), getpid());
    intercepted();
    OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8));
    signal(SIGUSR1, SIG_DFL);
}

/* ---- vfork's shared frame */

/* vfork; the child fills 8 KiB below the stack pointer, makes calls there, and execs or exits. */
long vfork_and_scribble(const char *path, char **argv, char **envp);
__asm__(".text\n.globl vfork_and_scribble\n"
        "vfork_and_scribble: push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov %rdi,%r12\n mov %rsi,%r13\n mov %rdx,%r14\n"
        " mov $0x1111,%ebx\n mov $0x2222,%ebp\n mov $0x3333,%r15d\n"
        " mov $58,%eax\n syscall\n test %rax,%rax\n jne 2f\n"
        " mov %rsp,%rbp\n sub $8192,%rsp\n mov %rsp,%rdi\n mov $1024,%ecx\n mov $0xdeadbeef,%eax\n rep stosq\n"
        " mov $39,%eax\n syscall\n mov $9999,%edi\n mov $3,%eax\n syscall\n xor %ebx,%ebx\n xor %r15d,%r15d\n"
        " mov %r12,%rdi\n mov %r13,%rsi\n mov %r14,%rdx\n test %rdi,%rdi\n je 1f\n"
        " mov $59,%eax\n syscall\n"
        "1: mov $7,%edi\n mov $60,%eax\n syscall\n ud2\n"
        "2: cmp $0x1111,%ebx\n jne 3f\n cmp $0x2222,%ebp\n jne 3f\n cmp $0x3333,%r15d\n je 4f\n"
        "3: mov $-1,%rax\n"
        "4: pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

static void vfork_frame(void) {
    char *argv[] = {self, "leaf", NULL}, *none[] = {NULL};
    for (int i = 0; i < 30; i++) {
        volatile unsigned guard[64];
        for (int k = 0; k < 64; k++) guard[k] = (unsigned)(k * 3 + i);
        long pid = vfork_and_scribble(i % 10 == 9 ? self : NULL, argv, none);
        CHECK(pid > 0);
        if (pid <= 0) return;
        for (int k = 0; k < 64; k++)
            if (guard[k] != (unsigned)(k * 3 + i)) COMPLAIN("word %d of the frame is %x", k, guard[k]);
        EXITED(pid, i % 10 == 9 ? 0 : 7);
        EQ(getpid() > 0, 1);
    }
}

/* ---- errno of clone3 */

#define CLEAR_SIGHAND 0x100000000ul
struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* Without libc, so that errno is nobody's but the program's. */
static long raw(long nr, long a, long b) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return r;
}

static void errno_of_clone3(void) {
    struct clone3_args a;
    static char page[8192] __attribute__((aligned(4096)));
    memset(&a, 0, sizeof a);
    errno = 4242;
    long results[10];
    results[0] = raw(SYS_clone3, (long)&a, 0);
    results[1] = raw(SYS_clone3, (long)&a, 63);
    results[2] = raw(SYS_clone3, (long)page, 4097);
    results[3] = raw(SYS_clone3, 16, 64);
    page[200] = 1;
    results[4] = raw(SYS_clone3, (long)page, 256); /* a field of the future that is set */
    a.flags = CLONE_SIGHAND;
    results[5] = raw(SYS_clone3, (long)&a, sizeof a);
    a.flags = CLONE_THREAD;
    results[6] = raw(SYS_clone3, (long)&a, sizeof a);
    a.flags = 0;
    a.exit_signal = 65;
    results[7] = raw(SYS_clone3, (long)&a, sizeof a);
    a.exit_signal = SIGCHLD;
    a.stack = (uintptr_t)page;
    results[8] = raw(SYS_clone3, (long)&a, sizeof a);
    a.stack = 0;
    a.flags = CLONE_SIGHAND | CLONE_VM | CLEAR_SIGHAND;
    results[9] = raw(SYS_clone3, (long)&a, sizeof a);
    int kept = errno;
    static const int wanted[] = {EINVAL, EINVAL, E2BIG, EFAULT, E2BIG, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL};
    EQ(kept, 4242);
    for (int i = 0; i < 10; i++)
        if (results[i] != -wanted[i]) COMPLAIN("clone3 number %d gives %ld, want -%d", i, results[i], wanted[i]);
    memset(&a, 0, sizeof a);
    a.exit_signal = SIGCHLD;
    errno = 4242;
    long pid = raw(SYS_clone3, (long)&a, sizeof a);
    kept = errno;
    if (pid == 0) raw(SYS_exit, kept == 4242 ? 5 : 6, 0);
    EQ(kept, 4242);
    EXITED((pid_t)pid, 5);
    FAILS(syscall(SYS_clone3, &a, 1), EINVAL);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "leaf")) return leaf();
    if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0) return 99;
    trapped = fresh(PROT_READ | PROT_EXEC);
    static const struct check_case cases[] = {
        CASE(environment_cleared), CASE(dispatch_switched_off), CASE(data_is_not_code), CASE(induced_rewrite),
        CASE(jump_to_null), CASE(racing_rewrites), CASE(permissions_stay), CASE(flags_after_sigreturn),
        CASE(red_zone), CASE(sigsys_masked), CASE(vfork_frame), CASE(errno_of_clone3)};
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
