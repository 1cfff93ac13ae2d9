// A program's own filters: seccomp in both modes, over threads, fork and exec; its own Syscall User Dispatch.
// variants: dynamic static
// users: root nobody
// flags: -pthread
#include "sighelp.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH 16
#endif
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(action) BPF_STMT(BPF_RET | BPF_K, action)
#define ON(nr, action) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), ANSWER(action)
#define ERRNO(e) (SECCOMP_RET_ERRNO | (e))

static long install_n(unsigned flags, struct sock_filter *insns, unsigned n) {
    struct sock_fprog prog = {(unsigned short)n, insns};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}
#define PROGRAM(...)                                                                                                  \
    (struct sock_filter[]){__VA_ARGS__}, sizeof((struct sock_filter[]){__VA_ARGS__}) / sizeof(struct sock_filter)
static void no_new_privs(void) { OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }

/* getpriority: nobody but us calls it; natively it is answered with 20 - nice, so here never less than 1 */
static long probe(long which) { return syscall(SYS_getpriority, which, 0L); }

static void errnos(void) {
    IN_CHILD({
        no_new_privs();
        EQ(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 0);
        OK(install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, ERRNO(77)), ON(SYS_getpgid, ERRNO(0)),
                                ON(SYS_getsid, ERRNO(5000)), ANSWER(SECCOMP_RET_ALLOW))));
        EQ(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 2);
        FAILS(probe(0), 77);
        EQ(syscall(SYS_getpgid, 0), 0);
        FAILS(syscall(SYS_getsid, 0), 4095);
        CHECK(getppid() > 0);
        /* a child process has it too, a grandchild also, and nobody can take it away */
        IN_CHILD({
            FAILS(probe(0), 77);
            IN_CHILD({ FAILS(probe(0), 77); });
            FAILS(prctl(PR_SET_SECCOMP, 1, 0, 0, 0), EINVAL);
        });
        /* a second one: the stricter answer counts; of equals, the newer */
        OK(install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, SECCOMP_RET_ALLOW), ON(SYS_getpgid, ERRNO(78)),
                                ON(SYS_setpgid, ERRNO(79)), ANSWER(SECCOMP_RET_ALLOW))));
        FAILS(probe(0), 77);
        FAILS(syscall(SYS_getpgid, 0), 78);
        FAILS(setpgid(0, 0), 79);
    });
    EQ(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 0);
    CHECK(probe(0) > 0);
}

/* All of the machine: loads of each field, arithmetic, memory, jumps, the index register. */
static void the_machine(void) {
    IN_CHILD({
        no_new_privs();
        struct sock_filter insns[] = {
            LOAD(arch),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
            ANSWER(SECCOMP_RET_KILL_PROCESS),
            LOAD(nr),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 1, 0),
            ANSWER(SECCOMP_RET_ALLOW),
            LOAD(args[0]),                                   /* a = low word of the first argument */
            BPF_STMT(BPF_ST, 3),
            BPF_STMT(BPF_LDX | BPF_MEM, 3),                  /* x = it */
            BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 3),
            BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),          /* 4 * it */
            BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 4),          /* 64 * it */
            BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, 1),
            BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 1),
            BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 0xff),
            BPF_STMT(BPF_ALU | BPF_OR | BPF_K, 0x100),
            BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfff),
            BPF_STMT(BPF_STX, 4),
            BPF_STMT(BPF_MISC | BPF_TAX, 0),
            BPF_STMT(BPF_LD | BPF_MEM, 4),
            BPF_STMT(BPF_ALU | BPF_NEG, 0),
            BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
            BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 1000, 4, 0),
            BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x80, 0, 3),
            BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 2),
            BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
            BPF_STMT(BPF_RET | BPF_A, 0),
            BPF_STMT(BPF_JMP | BPF_JA, 1),
            ANSWER(SECCOMP_RET_KILL_PROCESS),
            BPF_STMT(BPF_LD | BPF_LEN, 0),
            BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
            BPF_STMT(BPF_RET | BPF_A, 0),
        };
        OK(install_n(0, insns, sizeof insns / sizeof *insns));
        for (unsigned a = 0; a < 40; a++) {
            unsigned v = (((((a * 3 + a) << 4) - 1) >> 1 ^ 0xff) | 0x100) & 0xfff, w = v - a, want;
            want = w <= 1000 && (w & 0x80) ? w / 2 : sizeof(struct seccomp_data);
            errno = 0;
            probe(a);
            int got = errno;
            EQ(got, want);
        }
        EQ(getpid() > 0, 1);
    });
    /* the high half of an argument, and the address of the call */
    IN_CHILD({
        no_new_privs();
        OK(install_n(0, PROGRAM(LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 1, 0),
                                ANSWER(SECCOMP_RET_ALLOW),
                                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4),
                                BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO), BPF_STMT(BPF_RET | BPF_A, 0))));
        FAILS(syscall(SYS_getpriority, 0L, 0x2500000000L), 0x25);
    });
    IN_CHILD({ /* a division by an index of zero ends the thread */
        no_new_privs();
        IN_CHILD({});
        pid_t pid = fork();
        if (!pid) {
            install_n(0, PROGRAM(LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 2),
                                 BPF_STMT(BPF_LDX | BPF_IMM, 0), BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
                                 ANSWER(SECCOMP_RET_ALLOW)));
            probe(0);
            _exit(1);
        }
        KILLED(pid, SIGSYS);
    });
}

static void refused_programs(void) {
    IN_CHILD({
        no_new_privs();
        FAILS(install_n(0, PROGRAM(LOAD(nr))), EINVAL);                                          /* no return */
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), ANSWER(0))), EINVAL); /* behind the data */
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_JUMP(BPF_JMP | BPF_JEQ, 0, 1, 0), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_JMP | BPF_JA, 1), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_JMP | BPF_JA, (unsigned)-1), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_ST, 16), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_LD | BPF_MEM, 1), ANSWER(0))), EINVAL); /* never written */
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_ALU | BPF_DIV, 0), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_ALU | BPF_LSH, 32), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_STMT(BPF_ALU | BPF_MOD, 3), ANSWER(0))), EINVAL);
        FAILS(install_n(0, PROGRAM(BPF_STMT(0xff, 3), ANSWER(0))), EINVAL);
        FAILS(install_n(0, NULL, 0), EINVAL);
        FAILS(install_n(0, NULL, 5000), EINVAL);
        FAILS(install_n(0, NULL, 5), EINVAL);
        FAILS(install_n(0, (void *)16, 5), EFAULT);
        FAILS(install_n(0x8000, PROGRAM(ANSWER(SECCOMP_RET_ALLOW))), EINVAL);
        FAILS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL), EFAULT);
        FAILS(syscall(SYS_seccomp, 99, 0, NULL), EINVAL);
        FAILS(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
        unsigned action = SECCOMP_RET_ERRNO, none = 0x12340000;
        EQ(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action), 0);
        FAILS(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &none), EOPNOTSUPP);
        EQ(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 0);
        struct sock_filter big[4096];
        for (int i = 0; i < 4096; i++) big[i] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
        for (int i = 0; i < 3; i++) OK(install_n(0, big, 4096));
        FAILS(install_n(0, big, 4096), ENOMEM); /* 32768 for all, as the kernel's own machine has them */
    });
    if (geteuid()) IN_CHILD({ FAILS(install_n(0, PROGRAM(ANSWER(SECCOMP_RET_ALLOW))), EACCES); });
}

static volatile int trapped_nr, trapped_errno, trapped_arch, trapped_code, answer;
static void *volatile trapped_ip;
static void on_sigsys(int sig, siginfo_t *si, void *p) {
    ucontext_t *uc = p;
    hits++;
    trapped_code = si->si_code;
    trapped_nr = si->si_syscall;
    trapped_errno = si->si_errno;
    trapped_arch = (int)si->si_arch;
    trapped_ip = si->si_call_addr;
    CHECK((void *)uc->uc_mcontext.gregs[REG_RIP] == si->si_call_addr);
    EQ(uc->uc_mcontext.gregs[REG_RAX], si->si_syscall);
    uc->uc_mcontext.gregs[REG_RAX] = answer;
}

static void traps(void) {
    IN_CHILD({
        no_new_privs();
        handle_info(SIGSYS, on_sigsys, 0);
        OK(install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, SECCOMP_RET_TRAP | 123), ON(500, SECCOMP_RET_TRAP),
                                ANSWER(SECCOMP_RET_ALLOW))));
        for (int i = 1; i <= 100; i++) {
            answer = i * 7;
            EQ(probe(0), i * 7); /* emulated by the handler */
            EQ(hits, i);
        }
        EQ(trapped_code, SYS_SECCOMP);
        EQ(trapped_nr, SYS_getpriority);
        EQ(trapped_errno, 123);
        EQ((unsigned)trapped_arch, AUDIT_ARCH_X86_64);
        answer = -ENOTTY;
        FAILS(syscall(500), ENOTTY);
        EQ(trapped_nr, 500);
    });
    /* blocked or ignored: the process dies of it */
    for (int how = 0; how < 3; how++) {
        pid_t pid = fork();
        if (!pid) {
            no_new_privs();
            sigset_t set = set_of(SIGSYS);
            if (how == 0) handle_info(SIGSYS, on_sigsys, 0), sigprocmask(SIG_BLOCK, &set, NULL);
            if (how == 1) signal(SIGSYS, SIG_IGN);
            install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, SECCOMP_RET_TRAP), ANSWER(SECCOMP_RET_ALLOW)));
            probe(0);
            _exit(1);
        }
        KILLED(pid, SIGSYS);
    }
}

static void *killed_alone(void *p) {
    OK(install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, SECCOMP_RET_KILL_THREAD), ANSWER(SECCOMP_RET_ALLOW))));
    probe(0);
    return p;
}
static void kills(void) {
    unsigned actions[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD};
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (!pid) {
            no_new_privs();
            install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, actions[i]), ANSWER(SECCOMP_RET_ALLOW)));
            probe(0);
            _exit(1);
        }
        KILLED(pid, SIGSYS);
    }
    IN_CHILD({ /* one thread of several: the others live */
        no_new_privs();
        pthread_t id;
        EQ(pthread_create(&id, NULL, killed_alone, NULL), 0);
        void *r;
        EQ(pthread_join(id, &r), 0);
        CHECK(probe(0) > 0);
    });
    /* nobody traces, nobody listens: the call is not there */
    IN_CHILD({
        no_new_privs();
        OK(install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, SECCOMP_RET_TRACE), ON(SYS_getpgid, SECCOMP_RET_LOG),
                                ANSWER(SECCOMP_RET_ALLOW))));
        FAILS(probe(0), ENOSYS);
        CHECK(getpgid(0) >= 0);
    });
}

static int go[2], done[2];
static void *sees_filter(void *p) {
    char c;
    if (read(go[0], &c, 1) != 1) _exit(9);
    errno = 0;
    long r = probe(0);
    return (void *)(long)(r == -1 ? errno : 0);
}
static void threads(void) {
    IN_CHILD({ /* a thread's filter is its own, and that of the threads it makes */
        no_new_privs();
        pthread_t before, after;
        void *r;
        OK(pipe(go));
        pthread_create(&before, NULL, sees_filter, NULL);
        OK(install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, ERRNO(66)), ANSWER(SECCOMP_RET_ALLOW))));
        pthread_create(&after, NULL, sees_filter, NULL);
        EQ(write(go[1], "xx", 2), 2);
        pthread_join(before, &r);
        EQ((long)r, 0);
        pthread_join(after, &r);
        EQ((long)r, 66);
    });
    IN_CHILD({ /* TSYNC: all of them */
        no_new_privs();
        pthread_t all[4];
        void *r;
        OK(pipe(go));
        for (int i = 0; i < 4; i++) pthread_create(&all[i], NULL, sees_filter, NULL);
        EQ(install_n(SECCOMP_FILTER_FLAG_TSYNC, PROGRAM(LOAD(nr), ON(SYS_getpriority, ERRNO(67)),
                                                        ANSWER(SECCOMP_RET_ALLOW))), 0);
        EQ(write(go[1], "xxxx", 4), 4);
        for (int i = 0; i < 4; i++) {
            pthread_join(all[i], &r);
            EQ((long)r, 67);
        }
    });
}

static void *diverges(void *p) {
    char c;
    OK(install_n(0, PROGRAM(ANSWER(SECCOMP_RET_ALLOW))));
    if (write(done[1], "x", 1) != 1 || read(go[0], &c, 1) != 1) _exit(9);
    return (void *)(long)syscall(SYS_gettid);
}
static void tsync_refused(void) {
    IN_CHILD({
        no_new_privs();
        pthread_t other;
        void *r;
        char c;
        OK(pipe(go));
        OK(pipe(done));
        pthread_create(&other, NULL, diverges, NULL);
        EQ(read(done[0], &c, 1), 1);
        long tid = install_n(SECCOMP_FILTER_FLAG_TSYNC, PROGRAM(ANSWER(SECCOMP_RET_ALLOW)));
        CHECK(tid > 0);
        FAILS(install_n(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH, PROGRAM(ANSWER(SECCOMP_RET_ALLOW))),
              ESRCH);
        EQ(write(go[1], "x", 1), 1);
        pthread_join(other, &r);
        EQ((long)r, tid);
        EQ(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 0);
    });
}

static void over_exec(void) {
    if (getenv("FILTERED")) { /* what the child below becomes */
        FAILS(probe(0), 61);
        FAILS(syscall(SYS_getpgid, 0), 62);
        EQ(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 2);
        CHECK(fcntl(3, F_GETFD) == -1 && errno == EBADF);
        _exit(check_bad ? 1 : 42);
    }
    pid_t pid = fork();
    if (!pid) {
        no_new_privs();
        install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, ERRNO(60)), ON(SYS_getpgid, ERRNO(62)),
                             ANSWER(SECCOMP_RET_ALLOW)));
        install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, ERRNO(61)), ANSWER(SECCOMP_RET_ALLOW)));
        setenv("FILTERED", "1", 1);
        close(3);
        execl("/proc/self/exe", "filters", "over_exec", NULL);
        _exit(3);
    }
    EXITED(pid, 42);
    pid = fork(); /* execve itself refused */
    if (!pid) {
        no_new_privs();
        install_n(0, PROGRAM(LOAD(nr), ON(SYS_execve, ERRNO(EPERM)), ANSWER(SECCOMP_RET_ALLOW)));
        execl("/bin/true", "true", NULL);
        _exit(errno == EPERM ? 43 : 1);
    }
    EXITED(pid, 43);
}

static void strict(void) {
    pid_t pid = fork();
    int p[2];
    OK(pipe(p));
    if (!pid) {
        OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
        char c;
        if (write(p[1], "a", 1) != 1 || read(p[0], &c, 1) != 1) syscall(SYS_exit, 1);
        syscall(SYS_exit, 44);
    }
    EXITED(pid, 44);
    pid = fork();
    if (!pid) {
        syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL);
        getppid();
        syscall(SYS_exit, 1);
    }
    KILLED(pid, SIGKILL);
}

static int told;
static void on_signal_tell(int sig) {
    on_signal(sig);
    if (write(told, "", 1) != 1) _exit(9);
}

/* Signals and restarts under a filter: handlers, interrupted and restarted calls, rt_sigreturn are as ever. */
static void signals(void) {
    IN_CHILD({
        no_new_privs();
        OK(install_n(0, PROGRAM(LOAD(nr), ON(SYS_getpriority, ERRNO(50)), ANSWER(SECCOMP_RET_ALLOW))));
        int p[2], heard[2];
        char c;
        OK(pipe(p));
        OK(pipe(heard));
        told = heard[1];
        handle(SIGUSR1, on_signal_tell, SA_RESTART);
        hits = 0;
        pid_t me = getpid(), w = fork();
        if (!w) {
            for (int i = 0; i < 3; i++) { /* one after the other: like signals that wait become one */
                msleep(10);
                kill(me, SIGUSR1);
                EQ(read(heard[0], &c, 1), 1);
            }
            _exit(write(p[1], "x", 1) == 1 ? 0 : 1);
        }
        EQ(read(p[0], &c, 1), 1);
        EQ(hits, 3);
        EXITED(w, 0);
        FAILS(probe(0), 50);
    });
}

/* --- Syscall User Dispatch ------------------------------------------------------------------------------- */
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
static volatile char selector;
extern char dispatch_free[], dispatch_free_end[];
long free_call(long nr);
__asm__(".text\n.globl free_call, dispatch_free, dispatch_free_end\ndispatch_free:\nfree_call: mov %rdi, %rax\nsyscall\nret\n"
        "nop\ndispatch_free_end:\n");
static long raw(long nr) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "0"(nr) : "rcx", "r11", "memory");
    return r;
}
static void on_dispatch(int sig, siginfo_t *si, void *p) {
    ucontext_t *uc = p;
    selector = 0;
    hits++;
    trapped_code = si->si_code;
    trapped_nr = si->si_syscall;
    if ((void *)uc->uc_mcontext.gregs[REG_RIP] != si->si_call_addr) trapped_nr = -1;
    uc->uc_mcontext.gregs[REG_RAX] = 4242;
}
static void user_dispatch(void) {
    FAILS(prctl(PR_SET_SYSCALL_USER_DISPATCH, 7, 0, 0, 0), EINVAL);
    FAILS(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 1, 0, 0), EINVAL);
    FAILS(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 1000, 0, 0), EINVAL);
    FAILS(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, -1L), EFAULT);
    IN_CHILD({
        handle_info(SIGSYS, on_dispatch, 0);
        long size = dispatch_free_end - dispatch_free;
        OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, dispatch_free, size, &selector));
        long me = getpid();
        hits = 0;
        for (int i = 0; i < 50; i++) {
            selector = 1;
            long own = free_call(SYS_getpid), theirs = raw(SYS_getpid);
            EQ(selector, 0);
            EQ(own, me);
            EQ(theirs, 4242);
        }
        EQ(hits, 50);
        EQ(trapped_code, 2); /* SYS_USER_DISPATCH */
        EQ(trapped_nr, SYS_getpid);
        selector = 1;
        long any = raw(12345678);
        selector = 0;
        EQ(any, 4242);
        EQ(trapped_nr, 12345678);
        /* a child has none */
        selector = 1;
        long pid = free_call(SYS_fork);
        if (!pid) {
            long r = raw(SYS_getppid) == me ? 0 : 1;
            free_call(SYS_exit_group + 0 * r);
            _exit(1);
        }
        selector = 0;
        int st;
        EQ(waitpid((pid_t)pid, &st, 0), pid);
        OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0));
        selector = 1;
        EQ(raw(SYS_getpid), me);
    });
    pid_t pid = fork(); /* a selector of neither value */
    if (!pid) {
        OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, dispatch_free, dispatch_free_end - dispatch_free, &selector));
        selector = 5;
        raw(SYS_getpid);
        free_call(SYS_exit);
    }
    KILLED(pid, SIGSYS);
    pid = fork(); /* one that cannot be read */
    if (!pid) {
        OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, dispatch_free, dispatch_free_end - dispatch_free, 4096));
        raw(SYS_getpid);
        free_call(SYS_exit);
    }
    KILLED(pid, SIGSEGV);
}

MAIN(CASE(errnos), CASE(the_machine), CASE(refused_programs), CASE(traps), CASE(kills), CASE(threads), CASE(tsync_refused),
     CASE(over_exec), CASE(strict), CASE(signals), CASE(user_dispatch))
