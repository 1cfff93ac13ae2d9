// Rarer ways of threads and processes: PI futexes, membarrier, rseq, memory shared without threads, vfork on another
// stack, clone3's errors, the end of a thread whose stack is gone, cleared tids, credentials of a thread of its own.
// variants: dynamic static
// flags: -pthread
#include "sighelp.h"
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>

struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
static long clone3(struct clone3_args *a, size_t n) { return syscall(435, a, n); }

/* --- PI futexes ------------------------------------------------------------------------------------------ */
static pthread_mutex_t pi;
static long pi_count;
static void *pi_adder(void *p) {
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&pi);
        pi_count++;
        if (i % 100 == 0) sched_yield();
        pthread_mutex_unlock(&pi);
    }
    return NULL;
}
static void *pi_owner_dies(void *p) {
    pthread_mutex_lock(p);
    return NULL;
}
static void pi_futexes(void) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    EQ(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT), 0);
    EQ(pthread_mutex_init(&pi, &a), 0);
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, pi_adder, NULL);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    EQ(pi_count, 8000);
    /* the word holds the owner's tid: the kernel and we must agree on it */
    int word = 0;
    EQ(syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), 0);
    EQ(word & FUTEX_TID_MASK, syscall(SYS_gettid));
    FAILS(syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    EQ(syscall(SYS_futex, &word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), 0);
    EQ(word, 0);
    word = 0x3ffffffe;
    FAILS(syscall(SYS_futex, &word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), ESRCH);
    /* robust and PI */
    pthread_mutex_t m;
    EQ(pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST), 0);
    EQ(pthread_mutex_init(&m, &a), 0);
    pthread_create(&t[0], NULL, pi_owner_dies, &m);
    pthread_join(t[0], NULL);
    EQ(pthread_mutex_lock(&m), EOWNERDEAD);
    EQ(pthread_mutex_consistent(&m), 0);
    EQ(pthread_mutex_unlock(&m), 0);
    /* a time limit on a lock that another holds */
    pthread_mutex_lock(&m);
    IN_CHILD({
        struct timespec at;
        clock_gettime(CLOCK_REALTIME, &at);
        at.tv_nsec += 1000000;
        if (at.tv_nsec >= 1000000000) at.tv_sec++, at.tv_nsec -= 1000000000;
        int own = getppid(); /* held by somebody alive */
        FAILS(syscall(SYS_futex, &own, FUTEX_LOCK_PI, 0, &at, NULL, 0), ETIMEDOUT);
    });
    pthread_mutex_unlock(&m);
    /* FUTEX_REQUEUE, FUTEX_WAKE_OP, waitv's absence or presence */
    int one = 0, two = 5;
    EQ(syscall(SYS_futex, &one, FUTEX_WAKE_OP, 1, 1, &two, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)), 0);
    EQ(two, 8);
    FAILS(syscall(SYS_futex, &one, FUTEX_CMP_REQUEUE, 1, 1, &two, 9), EAGAIN);
}

static void barriers(void) {
    long commands = OK(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0));
    CHECK(commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    IN_CHILD({ FAILS(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), EPERM); });
    OK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
    OK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
    OK(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
    FAILS(syscall(SYS_membarrier, 1 << 30, 0, 0), EINVAL);
}

/* --- restartable sequences: an area of our own, in a thread for which libc has made none ----------------- */
struct rseq_area {
    uint32_t cpu_id_start, cpu_id;
    uint64_t cs;
    uint32_t flags, node, mm_cid, pad;
} __attribute__((aligned(32)));
static struct rseq_area area;
static volatile int rseq_result, aborts;
static char rseq_stack[65536] __attribute__((aligned(64)));

/* Spins inside of a sequence until a signal or a preemption aborts it: the kernel must then go to the abort address. */
static int sequence(struct rseq_area *r) {
    int got;
    __asm__ volatile(".pushsection .data.rseq, \"aw\"\n.balign 32\n"
                     "3: .long 0, 0\n.quad 1f, 2f - 1f, 4f\n.popsection\n"
                     "lea 3b(%%rip), %%rax\nmov %%rax, 8(%1)\n"
                     "1: pause\njmp 1b\n"
                     "2:\n.long 0x53053053\n" /* RSEQ_SIG stands before the abort address */
                     "4: mov $1, %0\n"
                     : "=&r"(got) : "r"(r) : "rax", "memory");
    return got;
}
static void on_alarm(int sig) { hits++; }
static int rseq_thread(void *p) {
    if (syscall(334, &area, 32, 0, 0x53053053)) {
        rseq_result = errno;
        return 0;
    }
    unsigned cpu;
    if (syscall(SYS_getcpu, &cpu, NULL, NULL) || area.cpu_id >= 4096) {
        rseq_result = -1;
        return 0;
    }
    for (int i = 0; i < 20 || !hits; i++) aborts += sequence(&area); /* by preemption too, where much runs beside */
    rseq_result = syscall(334, &area, 32, 1 /* UNREGISTER */, 0x53053053) ? -2 : 0;
    return 0;
}
static void restartable(void) {
    /* a CLONE_VM child has no registration; its sequences are aborted by the signals that we send */
    aborts = hits = 0;
    rseq_result = -9;
    handle(SIGALRM, on_alarm, 0);
    pid_t pid = clone(rseq_thread, rseq_stack + sizeof rseq_stack, CLONE_VM | SIGCHLD, NULL);
    int st;
    while (waitpid(pid, &st, WNOHANG) == 0) {
        kill(pid, SIGALRM);
        sched_yield();
    }
    EQ(st, 0);
    EQ(rseq_result, 0);
    CHECK(aborts >= 20);
    signal(SIGALRM, SIG_DFL);
}

/* --- memory without threads ------------------------------------------------------------------------------ */
static char vm_stack[4][32768] __attribute__((aligned(64)));
static volatile int vm_value, vm_bad;
static int vm_child(void *p) {
    int n = (int)(long)p;
    if (getppid() == getpid()) vm_bad++;
    int fd = open("/dev/null", O_RDONLY);
    if (fd < 0 || close(fd)) vm_bad++;
    signal(SIGUSR1, SIG_IGN); /* handlers are our own: the parent's stays */
    __atomic_fetch_add(&vm_value, n, __ATOMIC_SEQ_CST);
    return n;
}
static int files_child(void *p) { return dup2(1, 77) == 77 ? 0 : 1; }
static int cwd_child(void *p) { return chdir("/") ? 1 : 0; }
static void shared_memory(void) {
    handle(SIGUSR1, on_signal, 0);
    for (int round = 0; round < 5; round++) {
        pid_t pids[4];
        vm_value = 0;
        for (int i = 0; i < 4; i++)
            pids[i] = (pid_t)OK(clone(vm_child, vm_stack[i] + sizeof vm_stack[i], CLONE_VM | SIGCHLD, (void *)(long)(i + 1)));
        for (int i = 0; i < 4; i++) EXITED(pids[i], i + 1);
        EQ(vm_value, 10);
        EQ(vm_bad, 0);
    }
    hits = 0;
    raise(SIGUSR1);
    EQ(hits, 1);
    signal(SIGUSR1, SIG_DFL);
    pid_t pid = (pid_t)OK(clone(files_child, vm_stack[0] + sizeof vm_stack[0], CLONE_VM | CLONE_FILES | SIGCHLD, NULL));
    EXITED(pid, 0);
    CHECK(fcntl(77, F_GETFD) >= 0); /* the table is one */
    close(77);
    char before[PATH_MAX], after[PATH_MAX];
    CHECK(getcwd(before, sizeof before) != NULL);
    pid = (pid_t)OK(clone(cwd_child, vm_stack[0] + sizeof vm_stack[0], CLONE_VM | SIGCHLD, NULL));
    EXITED(pid, 0);
    CHECK(getcwd(after, sizeof after) != NULL);
    STREQ(after, before);
    pid = (pid_t)OK(clone(cwd_child, vm_stack[0] + sizeof vm_stack[0], CLONE_FS | SIGCHLD, NULL));
    EXITED(pid, 0);
    CHECK(getcwd(after, sizeof after) != NULL);
    STREQ(after, "/");
    OK(chdir(before));
}

static int vfork_exec(void *p) {
    vm_value = 7;
    execl("/bin/sh", "sh", "-c", "exit 19", (char *)NULL);
    return 1;
}
static int vfork_exit(void *p) {
    vm_value = 8;
    _exit(20);
}
static void vfork_on_a_stack(void) {
    for (int i = 0; i < 10; i++) {
        vm_value = 0;
        pid_t pid = clone(vfork_exec, vm_stack[0] + sizeof vm_stack[0], CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
        EQ(vm_value, 7); /* it ran before we did */
        EXITED(pid, 19);
        pid = clone(vfork_exit, vm_stack[1] + sizeof vm_stack[1], CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
        EQ(vm_value, 8);
        EXITED(pid, 20);
        struct clone3_args a = {.flags = CLONE_VFORK, .exit_signal = SIGCHLD}; /* a copy, and waited for */
        pid = (pid_t)clone3(&a, sizeof a);
        if (!pid) {
            vm_value = 9;
            _exit(21);
        }
        EQ(vm_value, 8);
        EXITED(pid, 21);
    }
}

static void clone3_errors(void) {
    struct clone3_args a = {0};
    FAILS(clone3(&a, 63), EINVAL);
    FAILS(clone3(&a, 5000), E2BIG);
    FAILS(clone3(NULL, 64), EFAULT);
    a.flags = CLONE_THREAD;
    FAILS(clone3(&a, 64), EINVAL);
    a.flags = CLONE_SIGHAND;
    FAILS(clone3(&a, 64), EINVAL);
    a.flags = CLONE_THREAD | CLONE_SIGHAND;
    FAILS(clone3(&a, 64), EINVAL);
    a.flags = 0x400000; /* CLONE_DETACHED */
    FAILS(clone3(&a, 64), EINVAL);
    a.flags = 17; /* a signal where flags are */
    FAILS(clone3(&a, 64), EINVAL);
    a.flags = 0;
    a.exit_signal = 65;
    FAILS(clone3(&a, 64), EINVAL);
    a.exit_signal = 1UL << 40;
    FAILS(clone3(&a, 64), EINVAL);
    a.exit_signal = SIGCHLD;
    a.stack = (uint64_t)vm_stack[0];
    FAILS(clone3(&a, 64), EINVAL); /* a stack without a size */
    a.stack = 0;
    a.stack_size = 4096;
    FAILS(clone3(&a, 64), EINVAL);
    a.stack_size = 0;
    a.flags = CLONE_PIDFD;
    a.pidfd = 8;
    FAILS(clone3(&a, 64), EFAULT);
    a.flags = CLONE_FS | 0x20000 /* CLONE_NEWNS */;
    if (!under_ring3()) FAILS(clone3(&a, 64), EINVAL); /* with us EPERM: no namespaces */
    a.flags = 0x100000000ULL /* CLONE_CLEAR_SIGHAND */ | CLONE_SIGHAND | CLONE_VM;
    FAILS(clone3(&a, 64), EINVAL);
    struct {
        struct clone3_args a;
        uint64_t more[4];
    } longer = {.a = {.exit_signal = SIGCHLD}};
    pid_t pid = (pid_t)OK(syscall(435, &longer, sizeof longer)); /* zeroes behind what it knows */
    if (!pid) _exit(5);
    EXITED(pid, 5);
    longer.more[3] = 1;
    FAILS(syscall(435, &longer, sizeof longer), E2BIG);
    /* exit signals: another than SIGCHLD, and none */
    handle(SIGUSR2, on_signal, SA_RESTART);
    hits = 0;
    struct clone3_args b = {.exit_signal = SIGUSR2};
    pid = (pid_t)clone3(&b, sizeof b);
    if (!pid) _exit(6);
    int st;
    EQ(waitpid(pid, &st, __WALL), pid);
    EQ(hits, 1);
    b.exit_signal = 0;
    pid = (pid_t)clone3(&b, sizeof b);
    if (!pid) _exit(7);
    FAILS(waitpid(pid, &st, 0), ECHILD);
    EQ(waitpid(pid, &st, __WCLONE), pid);
    signal(SIGUSR2, SIG_DFL);
    /* handlers are cleared, what is ignored stays */
    handle(SIGUSR1, on_signal, 0);
    signal(SIGUSR2, SIG_IGN);
    struct clone3_args c = {.flags = 0x100000000ULL, .exit_signal = SIGCHLD};
    pid = (pid_t)OK(clone3(&c, sizeof c));
    if (!pid) {
        struct sigaction one, two;
        sigaction(SIGUSR1, NULL, &one);
        sigaction(SIGUSR2, NULL, &two);
        _exit(one.sa_handler == SIG_DFL && two.sa_handler == SIG_IGN ? 8 : 9);
    }
    EXITED(pid, 8);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    /* tids in the parent's and the child's memory */
    pid_t in_parent = 0, in_child = 0;
    struct clone3_args d = {.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, .exit_signal = SIGCHLD,
                            .parent_tid = (uint64_t)&in_parent, .child_tid = (uint64_t)&in_child};
    pid = (pid_t)OK(clone3(&d, sizeof d));
    if (!pid) _exit(in_child == getpid() ? 10 : 11);
    EQ(in_parent, pid);
    EQ(in_child, 0);
    EXITED(pid, 10);
}

/* --- the end of a thread --------------------------------------------------------------------------------- */
__attribute__((used)) volatile int left;
static long raw6(long n, long a, long b, long c, long d, long e) {
    long r;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return r;
}
/* Unmaps the stack that it runs on, then futex-wakes and exits, with rsp pointing nowhere (as musl's __unmapself). */
__attribute__((noreturn)) static void unmap_and_exit(void *stack, size_t size) {
    __asm__ volatile("mov $11, %%eax\nsyscall\n"      /* munmap(stack, size) */
                     "xor %%esp, %%esp\n"
                     "mov $39, %%eax\nsyscall\n"      /* getpid, on no stack at all */
                     "mov $186, %%eax\nsyscall\n"
                     "lea left(%%rip), %%rdi\nlock incl (%%rdi)\n"
                     "mov $1, %%esi\nmov $1, %%edx\nmov $202, %%eax\nsyscall\n" /* FUTEX_WAKE, one */
                     "xor %%edi, %%edi\nmov $60, %%eax\nsyscall\nud2\n"
                     : : "D"(stack), "S"(size) : "memory");
    __builtin_unreachable();
}
static pid_t cleared;
static void gone_stacks(void) {
    for (int i = 0; i < 20; i++) {
        left = 0;
        size_t size = 65536;
        char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cleared = -1;
        long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID |
                     CLONE_PARENT_SETTID;
        void **top = (void **)(stack + size) - 4;
        top[0] = stack;
        long r;
        register long r10 __asm__("r10") = (long)&cleared;
        __asm__ volatile("syscall\ntest %%rax, %%rax\njne 1f\n"
                         "pop %%rdi\nmov $65536, %%esi\nxor %%ebp, %%ebp\nand $-16, %%rsp\ncall *%[fn]\n1:"
                         : "=a"(r) : "a"(SYS_clone), "D"(flags), "S"(top), "d"(&cleared), "r"(r10), [fn] "r"(unmap_and_exit)
                         : "rcx", "r11", "memory");
        CHECK(r > 0);
        pid_t seen; /* CLONE_CHILD_CLEARTID: cleared and woken when it has ended */
        while ((seen = __atomic_load_n(&cleared, __ATOMIC_SEQ_CST)) != 0)
            raw6(SYS_futex, (long)&cleared, FUTEX_WAIT, seen, 0, 0);
        EQ(left, 1);
        FAILS(mprotect(stack, size, PROT_READ), ENOMEM);
    }
    cleared = 1;
    IN_CHILD({ EQ(syscall(SYS_set_tid_address, &cleared), getpid()); });
}

/* --- credentials belong to threads ----------------------------------------------------------------------- */
static volatile long seen_uid[3];
static void *inner(void *p) {
    seen_uid[1] = (long)syscall(SYS_geteuid);
    seen_uid[2] = (long)syscall(SYS_getegid);
    put_file("made-by-thread", "x");
    return NULL;
}
static void *changes_ids(void *p) {
    pthread_t t;
    if (syscall(SYS_setresgid, -1, 1234, -1) || syscall(SYS_setresuid, -1, 4321, -1)) seen_uid[0] = errno;
    pthread_create(&t, NULL, inner, NULL);
    pthread_join(t, NULL);
    pid_t pid = fork();
    if (!pid) _exit(geteuid() == 4321 && getegid() == 1234 ? 0 : 1);
    int st;
    waitpid(pid, &st, 0);
    if (st) seen_uid[0] = 999;
    return NULL;
}
static void ids_of_threads(void) {
    if (geteuid()) return;
    struct stat st;
    OK(chmod(".", 0777));
    pthread_t t;
    pthread_create(&t, NULL, changes_ids, NULL);
    pthread_join(t, NULL);
    EQ(seen_uid[0], 0);
    EQ(seen_uid[1], 4321); /* the creator's, not the first thread's */
    EQ(seen_uid[2], 1234);
    OK(stat("made-by-thread", &st));
    EQ(st.st_uid, 4321);
    EQ(st.st_gid, 1234);
    EQ(geteuid(), 0);
}

MAIN(CASE(pi_futexes), CASE(barriers), CASE(restartable), CASE(shared_memory), CASE(vfork_on_a_stack), CASE(clone3_errors),
     CASE(gone_stacks), CASE(ids_of_threads))
