// Timers aimed at threads, queues and their order, jumps out of nested handlers, contexts swapped in handlers,
// alternate stacks that disarm themselves, signalfd's fields, vector state in handlers of handlers.
// variants: dynamic static
// users: root nobody
// flags: -pthread
#include "sighelp.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/uio.h>
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile pid_t handled_in;
static volatile int overruns;
static void on_timer(int sig, siginfo_t *si, void *uc) {
    handled_in = (pid_t)syscall(SYS_gettid);
    last_info = *si;
    overruns += si->si_overrun;
    hits++;
}
static int told[2];
static volatile pid_t other_tid;
static void *waits_there(void *p) {
    char c;
    other_tid = (pid_t)syscall(SYS_gettid);
    if (write(told[1], "r", 1) != 1) _exit(9);
    while (hits < 5) {
        struct timespec ts = {0, 1000000};
        nanosleep(&ts, NULL);
    }
    return NULL;
}
static volatile int notified;
static void notify(union sigval v) { __atomic_fetch_add(&notified, v.sival_int, __ATOMIC_SEQ_CST); }
static void timers_to_threads(void) {
    char c;
    handle_info(SIGRTMIN + 3, on_timer, SA_RESTART);
    hits = 0;
    OK(pipe(told));
    pthread_t t;
    pthread_create(&t, NULL, waits_there, NULL);
    EQ(read(told[0], &c, 1), 1);
    struct sigevent se = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 3};
    se.sigev_notify_thread_id = other_tid;
    se.sigev_value.sival_int = 31;
    timer_t timer;
    OK(timer_create(CLOCK_MONOTONIC, &se, &timer));
    struct itimerspec its = {{0, 1000000}, {0, 1000000}};
    OK(timer_settime(timer, 0, &its, NULL));
    pthread_join(t, NULL);
    EQ(handled_in, other_tid);
    EQ(last_info.si_code, SI_TIMER);
    EQ(last_info.si_value.sival_int, 31);
    OK(timer_delete(timer));
    se.sigev_notify_thread_id = 1; /* not one of ours */
    FAILS(timer_create(CLOCK_MONOTONIC, &se, &timer), EINVAL);
    struct sigevent in_thread = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 3, .sigev_notify_function = notify};
    OK(timer_create(CLOCK_REALTIME, &in_thread, &timer));
    its.it_interval.tv_nsec = 2000000;
    OK(timer_settime(timer, 0, &its, NULL));
    while (notified < 9) sched_yield();
    OK(timer_delete(timer));
    /* expirations while blocked are one signal and an overrun */
    sigset_t s = set_of(SIGRTMIN + 3), old;
    sigprocmask(SIG_BLOCK, &s, &old);
    struct sigevent plain = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
    OK(timer_create(CLOCK_MONOTONIC, &plain, &timer));
    its = (struct itimerspec){{0, 1000000}, {0, 1000000}};
    OK(timer_settime(timer, 0, &its, NULL));
    msleep(20);
    hits = overruns = 0;
    memset(&its, 0, sizeof its);
    sigprocmask(SIG_SETMASK, &old, NULL);
    OK(timer_delete(timer));
    CHECK(hits >= 1);
    CHECK(overruns >= 5);
    close(told[0]), close(told[1]);
}

/* --- queues ---------------------------------------------------------------------------------------------- */
static int order[64], values[64], n_order;
static void note(int sig, siginfo_t *si, void *uc) {
    if (n_order < 64) {
        order[n_order] = sig;
        values[n_order++] = si->si_value.sival_int;
    }
}
static void queue(int sig, int v) {
    union sigval value = {.sival_int = v};
    OK(sigqueue(getpid(), sig, value));
}
static void queues(void) {
    sigset_t all, old;
    sigfillset(&all);
    for (int i = 0; i < 4; i++) {
        struct sigaction sa = {.sa_sigaction = note, .sa_flags = SA_SIGINFO, .sa_mask = all};
        sigaction(SIGRTMIN + i, &sa, NULL);
        sigaction(SIGUSR1, &sa, NULL);
        sigaction(SIGHUP, &sa, NULL);
    }
    sigprocmask(SIG_BLOCK, &all, &old);
    n_order = 0;
    for (int i = 0; i < 5; i++) queue(SIGRTMIN + 2, 20 + i);
    for (int i = 0; i < 5; i++) queue(SIGRTMIN + 1, 10 + i);
    for (int i = 0; i < 3; i++) queue(SIGUSR1, 1 + i); /* a standard signal is there once, with the first's value */
    queue(SIGHUP, 7);
    queue(SIGRTMIN, 0);
    sigset_t pending;
    sigpending(&pending);
    EQ(sigismember(&pending, SIGRTMIN + 2), 1);
    EQ(sigismember(&pending, SIGUSR1), 1);
    EQ(sigismember(&pending, SIGUSR2), 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
    /* the lowest number first, each in the order it was queued; with all blocked in a handler, one after another */
    EQ(n_order, 13);
    EQ(order[0], SIGHUP);
    EQ(order[1], SIGUSR1);
    EQ(values[1], 1);
    EQ(order[2], SIGRTMIN);
    for (int i = 0; i < 5; i++) {
        EQ(order[3 + i], SIGRTMIN + 1);
        EQ(values[3 + i], 10 + i);
        EQ(order[8 + i], SIGRTMIN + 2);
        EQ(values[8 + i], 20 + i);
    }
    IN_CHILD({ /* the queue has an end */
        struct rlimit rl = {3, 3};
        OK(setrlimit(RLIMIT_SIGPENDING, &rl));
        sigprocmask(SIG_BLOCK, &all, NULL);
        union sigval v = {.sival_int = 0};
        int sent = 0;
        while (sent < 10 && sigqueue(getpid(), SIGRTMIN + 1, v) == 0) sent++;
        int why = errno;
        EQ(why, EAGAIN);
        CHECK(sent <= 3);
        OK(kill(getpid(), SIGUSR1)); /* but kill always comes through */
    });
}

/* --- jumps and contexts ---------------------------------------------------------------------------------- */
static sigjmp_buf outer, inner;
static volatile int level;
static void nested(int sig) {
    level++;
    if (sig == SIGUSR1) {
        if (!sigsetjmp(inner, 1)) raise(SIGUSR2);
        level += 100;
        raise(SIGHUP);
    } else if (sig == SIGUSR2) {
        *(volatile int *)0 = 1;
    } else if (sig == SIGSEGV) {
        siglongjmp(inner, 1); /* out of two handlers */
    } else {
        siglongjmp(outer, 1); /* and out of all */
    }
}
static void jumps(void) {
    stack_t ss = {.ss_sp = malloc(65536), .ss_size = 65536}, was;
    OK(sigaltstack(&ss, NULL));
    handle(SIGUSR1, nested, 0);
    handle(SIGUSR2, nested, 0);
    handle(SIGSEGV, nested, SA_ONSTACK);
    handle(SIGHUP, nested, 0);
    sigset_t now;
    for (int i = 0; i < 300; i++) {
        level = 0;
        if (!sigsetjmp(outer, 1)) raise(SIGUSR1);
        EQ(level, 104);
        sigprocmask(SIG_SETMASK, NULL, &now);
        EQ(sigismember(&now, SIGUSR1) + sigismember(&now, SIGUSR2) + sigismember(&now, SIGSEGV) + sigismember(&now, SIGHUP), 0);
    }
    OK(sigaltstack(NULL, &was));
    EQ(was.ss_flags, 0); /* we are not on it */
    ss.ss_flags = SS_DISABLE;
    OK(sigaltstack(&ss, NULL));
    for (int sig = 0; sig < 4; sig++) signal((int[]){SIGUSR1, SIGUSR2, SIGSEGV, SIGHUP}[sig], SIG_DFL);
}

static ucontext_t threads[3], home;
static volatile int running, switches, work[3];
static void preempt(int sig, siginfo_t *si, void *p) {
    int from = running;
    running = (running + 1) % 3;
    switches++;
    swapcontext(&threads[from], &threads[running]); /* a scheduler in a handler */
}
static void worker(void) {
    int me = running;
    double x = me + 1;
    while (switches < 60 || !work[0] || !work[1] || !work[2]) { /* each has its turn */
        work[me]++;
        x = x * 1.0000001 + 1;
        if (x < me + 1) _exit(77);
    }
    setcontext(&home);
}
static void contexts(void) {
    static char stacks[3][65536] __attribute__((aligned(16)));
    volatile int back = 0;
    switches = running = 0;
    for (int i = 0; i < 3; i++) {
        work[i] = 0;
        getcontext(&threads[i]);
        threads[i].uc_stack.ss_sp = stacks[i];
        threads[i].uc_stack.ss_size = sizeof stacks[i];
        threads[i].uc_link = NULL;
        sigemptyset(&threads[i].uc_sigmask);
        makecontext(&threads[i], worker, 0);
    }
    handle_info(SIGPROF, preempt, SA_RESTART);
    struct itimerval it = {{0, 4000}, {0, 4000}}; /* of processor time: a busy machine makes no difference */
    getcontext(&home);
    if (!back) {
        back = 1;
        OK(setitimer(ITIMER_PROF, &it, NULL));
        setcontext(&threads[0]);
    }
    memset(&it, 0, sizeof it);
    OK(setitimer(ITIMER_PROF, &it, NULL));
    signal(SIGPROF, SIG_IGN);
    sigset_t none = set_of(0);
    sigprocmask(SIG_SETMASK, &none, NULL);
    CHECK(switches >= 60);
    for (int i = 0; i < 3; i++) CHECK(work[i] > 0);
    signal(SIGPROF, SIG_DFL);
}

/* --- an alternate stack that disarms itself -------------------------------------------------------------- */
static char *alt;
static volatile int on_alt, seen_flags, deeper;
static void disarmed(int sig) {
    char here;
    stack_t now;
    on_alt += &here > alt && &here < alt + 65536;
    sigaltstack(NULL, &now);
    seen_flags = now.ss_flags;
    if (!deeper++) {
        stack_t again = {.ss_sp = alt, .ss_size = 30000, .ss_flags = 0};
        if (sigaltstack(&again, NULL)) _exit(78); /* may be changed from inside, since it is not in use */
    }
}
static void autodisarm(void) {
    alt = malloc(65536);
    stack_t ss = {.ss_sp = alt, .ss_size = 65536, .ss_flags = (int)SS_AUTODISARM}, now;
    OK(sigaltstack(&ss, NULL));
    handle(SIGUSR1, disarmed, SA_ONSTACK);
    for (int i = 0; i < 5; i++) {
        raise(SIGUSR1);
        EQ(on_alt, i + 1);
        EQ(seen_flags, SS_DISABLE);
        OK(sigaltstack(NULL, &now)); /* back by the frame */
        EQ((unsigned)now.ss_flags, SS_AUTODISARM);
        EQ(now.ss_size, 65536);
    }
    ss.ss_flags = SS_DISABLE;
    OK(sigaltstack(&ss, NULL));
    ss.ss_flags = 16;
    FAILS(sigaltstack(&ss, NULL), EINVAL);
    ss.ss_flags = 0;
    ss.ss_size = 100;
    FAILS(sigaltstack(&ss, NULL), ENOMEM);
    FAILS(sigaltstack((void *)8, NULL), EFAULT);
    signal(SIGUSR1, SIG_DFL);
}

/* --- signalfd -------------------------------------------------------------------------------------------- */
static void descriptors(void) {
    sigset_t s, old;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    sigaddset(&s, SIGRTMIN + 1);
    sigaddset(&s, SIGCHLD);
    handle(SIGCHLD, on_signal, SA_RESTART);
    sigprocmask(SIG_BLOCK, &s, &old);
    int fd = OK(signalfd(-1, &s, SFD_CLOEXEC | SFD_NONBLOCK));
    struct signalfd_siginfo si[8];
    queue(SIGRTMIN + 1, 51);
    queue(SIGRTMIN + 1, 52);
    raise(SIGUSR1);
    EQ(read(fd, si, sizeof si), 3L * (long)sizeof si[0]);
    EQ(si[0].ssi_signo, SIGUSR1);
    EQ(si[0].ssi_code, SI_TKILL);
    EQ(si[0].ssi_pid, getpid());
    if (!under_ring3() || !getuid()) EQ(si[0].ssi_uid, getuid()); /* docs/design.md, Limits */
    EQ(si[1].ssi_signo, SIGRTMIN + 1);
    EQ(si[1].ssi_int, 51);
    EQ(si[1].ssi_code, SI_QUEUE);
    EQ(si[2].ssi_int, 52);
    pid_t pid = fork();
    if (!pid) _exit(17);
    struct pollfd pf = {fd, POLLIN, 0};
    EQ(poll(&pf, 1, 10000), 1);
    EQ(read(fd, si, sizeof si), (long)sizeof si[0]);
    EQ(si[0].ssi_signo, SIGCHLD);
    EQ(si[0].ssi_pid, pid);
    EQ(si[0].ssi_status, 17);
    EQ(si[0].ssi_code, CLD_EXITED);
    EXITED(pid, 17);
    FAILS(read(fd, si, sizeof si), EAGAIN);
    FAILS(read(fd, si, 10), EINVAL);
    sigdelset(&s, SIGUSR1); /* the set of an open one may change */
    EQ(signalfd(fd, &s, 0), fd);
    raise(SIGUSR1);
    FAILS(read(fd, si, sizeof si), EAGAIN);
    siginfo_t info;
    sigset_t usr1 = set_of(SIGUSR1);
    EQ(sigwaitinfo(&usr1, &info), SIGUSR1);
    EQ(info.si_uid, getuid());
    EQ(info.si_pid, getpid());
    FAILS(signalfd(0x7fff, &s, 0), EBADF);
    FAILS(signalfd(-1, &s, 0x1000), EINVAL);
    int p[2];
    OK(pipe(p));
    FAILS(signalfd(p[0], &s, 0), EINVAL);
    close(p[0]), close(p[1]), close(fd);
    sigprocmask(SIG_SETMASK, &old, NULL);
    signal(SIGCHLD, SIG_DFL);
}

/* --- sent with a siginfo of one's own -------------------------------------------------------------------- */
static void own_siginfo(void) {
    handle_info(SIGRTMIN + 4, on_info, 0);
    hits = 0;
    siginfo_t si;
    memset(&si, 0, sizeof si);
    si.si_signo = SIGRTMIN + 4;
    si.si_code = SI_QUEUE;
    si.si_pid = getpid();
    si.si_uid = getuid();
    si.si_value.sival_int = 4711;
    OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN + 4, &si));
    EQ(hits, 1);
    EQ(last_info.si_value.sival_int, 4711);
    OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGRTMIN + 4, &si));
    EQ(hits, 2);
    int pidfd = OK(syscall(434, getpid(), 0));
    si.si_value.sival_int = 4712;
    OK(syscall(424, pidfd, SIGRTMIN + 4, &si, 0));
    EQ(hits, 3);
    EQ(last_info.si_value.sival_int, 4712);
    OK(syscall(424, pidfd, SIGRTMIN + 4, NULL, 0));
    EQ(last_info.si_code, SI_USER);
    EQ(last_info.si_pid, getpid());
    si.si_code = SI_USER; /* nobody may pretend to be the kernel, or kill, to another */
    pid_t child = fork();
    if (!child) {
        pause();
        _exit(1);
    }
    FAILS(syscall(SYS_rt_sigqueueinfo, child, SIGRTMIN + 4, &si), EPERM);
    si.si_code = 1;
    FAILS(syscall(SYS_rt_sigqueueinfo, child, SIGRTMIN + 4, &si), EPERM);
    kill(child, SIGKILL);
    KILLED(child, SIGKILL);
    close(pidfd);
}

MAIN(CASE(timers_to_threads), CASE(queues), CASE(jumps), CASE(contexts), CASE(autodisarm), CASE(descriptors),
     CASE(own_siginfo))
