// Faults: alternate stacks, SIGSEGV and friends with their siginfo, edited contexts, siglongjmp.
// variants: dynamic musl-static
// users: root nobody
// flags: -pthread
#include "sighelp.h"

static char alt[65536];
static volatile int on_alt;
static void where(int sig) {
    char here;
    on_alt = &here >= alt && &here < alt + sizeof alt;
    stack_t ss;
    sigaltstack(NULL, &ss);
    hits = ss.ss_flags;
}
static sigjmp_buf env;
static void overflow_handler(int sig, siginfo_t *si, void *uc) {
    char here;
    on_alt = &here >= alt && &here < alt + sizeof alt;
    last_info = *si;
    siglongjmp(env, 1);
}
static int recurse(volatile char *p) {
    volatile char big[4096];
    big[0] = p ? p[0] : 1;
    return recurse(big) + big[0];
}

static void alternate_stack(void) {
    stack_t ss, old;
    OK(sigaltstack(NULL, &old));
    EQ(old.ss_flags & SS_DISABLE, SS_DISABLE);
    ss.ss_sp = alt;
    ss.ss_size = sizeof alt;
    ss.ss_flags = 0;
    OK(sigaltstack(&ss, NULL));
    OK(sigaltstack(NULL, &old));
    CHECK(old.ss_sp == alt);
    EQ(old.ss_size, sizeof alt);
    EQ(old.ss_flags, 0);
    handle(SIGUSR1, where, SA_ONSTACK);
    raise(SIGUSR1);
    EQ(on_alt, 1);
    EQ(hits & SS_ONSTACK, SS_ONSTACK);
    handle(SIGUSR1, where, 0);
    raise(SIGUSR1);
    EQ(on_alt, 0);
    EQ(hits, 0);
    ss.ss_size = 100;
    FAILS(sigaltstack(&ss, NULL), ENOMEM);
    ss.ss_size = sizeof alt;
    ss.ss_flags = 77;
    FAILS(sigaltstack(&ss, NULL), EINVAL);
    for (int i = 0; i < 3; i++) { /* again and again: siglongjmp leaves nothing behind */
        handle_info(SIGSEGV, overflow_handler, SA_ONSTACK);
        on_alt = 0;
        if (!sigsetjmp(env, 1)) recurse(NULL);
        EQ(on_alt, 1);
        EQ(last_info.si_signo, SIGSEGV);
    }
    signal(SIGSEGV, SIG_DFL);
    pid_t pid = fork(); /* without a handler it is the end */
    if (!pid) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        recurse(NULL);
    }
    KILLED(pid, SIGSEGV);
    ss.ss_flags = SS_DISABLE;
    OK(sigaltstack(&ss, NULL));
    signal(SIGUSR1, SIG_DFL);
}

static void fault_handler(int sig, siginfo_t *si, void *uc) {
    last_sig = sig;
    last_info = *si;
    siglongjmp(env, 1);
}
static volatile long zero;

static void faults(void) {
    handle_info(SIGSEGV, fault_handler, 0);
    handle_info(SIGFPE, fault_handler, 0);
    handle_info(SIGBUS, fault_handler, 0);
    handle_info(SIGILL, fault_handler, 0);
    handle_info(SIGTRAP, fault_handler, 0);
    if (!sigsetjmp(env, 1)) *(volatile int *)0x1234 = 1;
    EQ(last_sig, SIGSEGV);
    EQ((long)last_info.si_addr, 0x1234);
    EQ(last_info.si_code, SEGV_MAPERR);
    char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sigsetjmp(env, 1)) *(volatile char *)(ro + 5) = 1;
    EQ((long)last_info.si_addr, (long)ro + 5);
    EQ(last_info.si_code, SEGV_ACCERR);
    if (!sigsetjmp(env, 1)) ((void (*)(void))ro)();
    EQ((long)last_info.si_addr, (long)ro);
    EQ(last_info.si_code, SEGV_ACCERR);
    OK(munmap(ro, 4096));
    if (!sigsetjmp(env, 1)) __asm__ volatile("xor %%edx,%%edx\n mov $1,%%eax\n xor %%ecx,%%ecx\n idiv %%ecx" ::: "rax", "rcx", "rdx");
    EQ(last_sig, SIGFPE);
    EQ(last_info.si_code, FPE_INTDIV);
    if (!sigsetjmp(env, 1)) __asm__ volatile("ud2");
    EQ(last_sig, SIGILL);
    EQ(last_info.si_code, ILL_ILLOPN);
    if (!sigsetjmp(env, 1)) __asm__ volatile("int3");
    EQ(last_sig, SIGTRAP);
    EQ(last_info.si_code, SI_KERNEL);
    if (!sigsetjmp(env, 1)) *(volatile char *)0x8000000000000000ull = 1; /* not canonical */
    EQ(last_sig, SIGSEGV);
    EQ((long)last_info.si_addr, 0);
    EQ(last_info.si_code, SI_KERNEL);
    if (!sigsetjmp(env, 1)) __asm__ volatile("hlt");
    EQ(last_sig, SIGSEGV);
    int fd = OK(open("bus", O_CREAT | O_RDWR, 0600));
    char *m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (!sigsetjmp(env, 1)) zero = *(volatile char *)m;
    EQ(last_sig, SIGBUS);
    EQ(last_info.si_code, BUS_ADRERR);
    EQ((long)last_info.si_addr, (long)m);
    OK(munmap(m, 4096));
    close(fd);
    zero = 0;
    int sigs[] = {SIGSEGV, SIGFPE, SIGBUS, SIGILL, SIGTRAP};
    for (int i = 0; i < 5; i++) signal(sigs[i], SIG_DFL);
    pid_t pid = fork();
    if (!pid) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        sigset_t s = set_of(SIGSEGV);
        sigprocmask(SIG_BLOCK, &s, NULL); /* a blocked fault kills all the same */
        *(volatile int *)0 = 1;
        _exit(1);
    }
    KILLED(pid, SIGSEGV);
    pid = fork();
    if (!pid) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_IGN);
        *(volatile int *)0 = 1;
        _exit(1);
    }
    KILLED(pid, SIGSEGV);
}

static void skip_fault(int sig, siginfo_t *si, void *p) {
    ucontext_t *uc = p;
    hits++;
    last_info = *si;
    uc->uc_mcontext.gregs[REG_RIP] += 2; /* mov (%rax),%ecx is 2 bytes */
    uc->uc_mcontext.gregs[REG_RCX] = 0x1122334455667788;
    uc->uc_mcontext.gregs[REG_R15] = 0x5555;
    max_depth = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
    sigaddset(&uc->uc_sigmask, SIGUSR2);
}

static void edited_context(void) {
    handle_info(SIGSEGV, skip_fault, 0);
    hits = 0;
    long rcx = 0, r15 = 0;
    __asm__ volatile("mov $64,%%eax\n mov (%%rax),%%ecx\n mov %%rcx,%0\n mov %%r15,%1"
                     : "=&r"(rcx), "=&r"(r15)
                     :
                     : "rax", "rcx", "r15", "memory");
    EQ(hits, 1);
    EQ(rcx, 0x1122334455667788);
    EQ(r15, 0x5555);
    EQ((long)last_info.si_addr, 64);
    EQ(max_depth, 14); /* page fault: databases look at trapno */
    sigset_t s;
    sigprocmask(SIG_BLOCK, NULL, &s);
    EQ(sigismember(&s, SIGUSR2), 1); /* the mask in the context is what comes back */
    s = set_of(0);
    sigprocmask(SIG_SETMASK, &s, NULL);
    signal(SIGSEGV, SIG_DFL);
}

static void jump_out(int sig) { siglongjmp(env, sig); }

static void longjmp_loop(void) {
    handle(SIGUSR1, jump_out, 0);
    volatile int n = 0;
    for (volatile int i = 0; i < 5000; i++) {
        if (!sigsetjmp(env, 1)) {
            kill(getpid(), SIGUSR1);
            COMPLAIN("returned");
        } else
            n++;
    }
    EQ(n, 5000);
    signal(SIGUSR1, SIG_DFL);
}

MAIN(CASE(alternate_stack), CASE(faults), CASE(edited_context), CASE(longjmp_loop))
