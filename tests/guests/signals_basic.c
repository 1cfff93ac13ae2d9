// Signals: handlers, siginfo, masks, groups, threads, SIGSYS as the guest's own.
// variants: dynamic musl-static
// users: root nobody
// flags: -pthread
#include "sighelp.h"

static void handlers(void) {
    hits = 0;
    handle(SIGUSR1, on_signal, 0);
    raise(SIGUSR1);
    EQ(hits, 1);
    EQ(last_sig, SIGUSR1);
    OK(kill(getpid(), SIGUSR1));
    EQ(hits, 2);
    struct sigaction sa;
    OK(sigaction(SIGUSR1, NULL, &sa));
    CHECK(sa.sa_handler == on_signal);
    handle(SIGUSR1, on_signal, SA_RESETHAND);
    raise(SIGUSR1);
    EQ(hits, 3);
    OK(sigaction(SIGUSR1, NULL, &sa));
    CHECK(sa.sa_handler == SIG_DFL);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    EQ(hits, 3);
    FAILS(sigaction(SIGKILL, &sa, NULL), EINVAL);
    FAILS(sigaction(SIGSTOP, &sa, NULL), EINVAL);
    FAILS(sigaction(0, &sa, NULL), EINVAL);
    FAILS(sigaction(65, &sa, NULL), EINVAL);
    FAILS(kill(getpid(), 65), EINVAL);
    FAILS(kill(getpid(), -1), EINVAL);
    OK(kill(getpid(), 0));
    signal(SIGUSR1, SIG_DFL);
}

static void siginfo_fields(void) {
    handle_info(SIGUSR1, on_info, 0);
    memset(&last_info, 0xff, sizeof last_info);
    OK(kill(getpid(), SIGUSR1));
    EQ(last_info.si_signo, SIGUSR1);
    EQ(last_info.si_code, SI_USER);
    EQ(last_info.si_pid, getpid());
    EQ(last_info.si_uid, getuid());
    EQ(last_info.si_errno, 0);
    OK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
    EQ(last_info.si_code, SI_TKILL);
    union sigval v = {.sival_int = 12345};
    OK(sigqueue(getpid(), SIGUSR1, v));
    EQ(last_info.si_code, SI_QUEUE);
    EQ(last_info.si_value.sival_int, 12345);
    handle_info(SIGCHLD, on_info, 0);
    hits = 0;
    sigset_t chld = set_of(SIGCHLD), old;
    sigprocmask(SIG_BLOCK, &chld, &old);
    pid_t pid = fork();
    if (!pid) _exit(7);
    while (!hits) sigsuspend(&old);
    sigprocmask(SIG_SETMASK, &old, NULL);
    EQ(last_info.si_signo, SIGCHLD);
    EQ(last_info.si_code, CLD_EXITED);
    EQ(last_info.si_pid, pid);
    EQ(last_info.si_status, 7);
    EXITED(pid, 7);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
}

static void nest(int sig) {
    depth++;
    if (depth > max_depth) max_depth = depth;
    if (sig == SIGUSR1) raise(SIGUSR2);
    hits++;
    depth--;
}

static void masks_and_nesting(void) {
    hits = depth = max_depth = 0;
    handle(SIGUSR1, nest, 0);
    handle(SIGUSR2, nest, 0);
    raise(SIGUSR1);
    EQ(hits, 2);
    EQ(max_depth, 2);
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = nest;
    sa.sa_mask = set_of(SIGUSR2);
    OK(sigaction(SIGUSR1, &sa, NULL));
    hits = max_depth = 0;
    raise(SIGUSR1); /* USR2 waits until the handler has returned */
    EQ(hits, 2);
    EQ(max_depth, 1);
    sigset_t s = set_of(SIGUSR1), old, pend;
    OK(sigprocmask(SIG_BLOCK, &s, &old));
    hits = 0;
    raise(SIGUSR1);
    raise(SIGUSR1);
    EQ(hits, 0);
    OK(sigpending(&pend));
    EQ(sigismember(&pend, SIGUSR1), 1);
    OK(sigprocmask(SIG_SETMASK, &old, NULL));
    EQ(hits, 2); /* one USR1 (standard signals do not queue), one USR2 */
    handle(SIGRTMIN + 1, on_signal, 0);
    s = set_of(SIGRTMIN + 1);
    OK(sigprocmask(SIG_BLOCK, &s, NULL));
    hits = 0;
    for (int i = 0; i < 5; i++) raise(SIGRTMIN + 1);
    OK(sigprocmask(SIG_UNBLOCK, &s, NULL));
    EQ(hits, 5);
    /* SIGKILL and SIGSTOP cannot be blocked; SIGSYS can, and reads back so */
    sigfillset(&s);
    OK(sigprocmask(SIG_SETMASK, &s, &old));
    OK(sigprocmask(SIG_BLOCK, NULL, &s));
    EQ(sigismember(&s, SIGKILL), 0);
    EQ(sigismember(&s, SIGSTOP), 0);
    EQ(sigismember(&s, SIGSYS), 1);
    EQ(sigismember(&s, SIGSEGV), 1);
    EQ(getpid() > 0, 1); /* calls work on while everything is blocked */
    struct stat st;
    OK(stat("/", &st));
    OK(sigprocmask(SIG_SETMASK, &old, NULL));
    FAILS(sigprocmask(77, &s, NULL), EINVAL);
    FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &s, NULL, 4), EINVAL);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
}

static void blocked_inside(int sig) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    hits = sigismember(&now, SIGUSR1) + 10 * sigismember(&now, SIGUSR2);
}

static void mask_in_handler(void) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = blocked_inside;
    sa.sa_mask = set_of(SIGUSR2);
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    EQ(hits, 11);
    sa.sa_flags = SA_NODEFER;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    EQ(hits, 0);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    EQ(sigismember(&now, SIGUSR1), 0);
    signal(SIGUSR1, SIG_DFL);
}

static void stop_and_continue(void) {
    pid_t pid = fork();
    if (!pid)
        for (;;) pause();
    int st;
    OK(setpgid(pid, pid)); /* SIGTSTP stops nobody in an orphaned process group, which ours may be */
    OK(kill(pid, SIGSTOP));
    EQ(waitpid(pid, &st, WUNTRACED), pid);
    CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
    EQ(waitpid(pid, &st, WNOHANG | WUNTRACED), 0);
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/stat", pid);
    const char *stat_line = get_file(name);
    const char *close_paren = strrchr(stat_line, ')');
    EQ(close_paren ? close_paren[2] : 0, 'T');
    OK(kill(pid, SIGCONT));
    EQ(waitpid(pid, &st, WCONTINUED), pid);
    CHECK(WIFCONTINUED(st));
    OK(kill(pid, SIGTSTP));
    siginfo_t si;
    OK(waitid(P_PID, pid, &si, WSTOPPED));
    EQ(si.si_code, CLD_STOPPED);
    EQ(si.si_status, SIGTSTP);
    OK(kill(pid, SIGKILL)); /* kills a stopped one */
    EQ(waitpid(pid, &st, 0), pid);
    EQ(WTERMSIG(st), SIGKILL);
}

static void to_groups(void) {
    pid_t a = fork();
    if (!a) {
        setpgid(0, 0);
        for (;;) pause();
    }
    setpgid(a, a);
    pid_t b = fork();
    if (!b)
        for (;;) pause();
    OK(setpgid(b, a));
    OK(kill(-a, SIGTERM));
    KILLED(a, SIGTERM);
    KILLED(b, SIGTERM);
    IN_CHILD({
        setpgid(0, 0);
        handle(SIGUSR1, on_signal, 0);
        hits = 0;
        OK(kill(0, SIGUSR1)); /* the whole group, with ourselves */
        EQ(hits, 1);
    });
    if (geteuid() == 0) return;
    IN_CHILD(FAILS(kill(getppid() > 1 ? 1 : 1, SIGTERM), EPERM));
}

static void sigsys_by_the_guest(void) {
    pid_t pid = fork();
    if (!pid) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        kill(getpid(), SIGSYS);
        _exit(1);
    }
    KILLED(pid, SIGSYS);
    handle_info(SIGSYS, on_info, 0);
    hits = 0;
    OK(kill(getpid(), SIGSYS));
    EQ(hits, 1);
    EQ(last_info.si_code, SI_USER);
    sigset_t s = set_of(SIGSYS), pend;
    OK(sigprocmask(SIG_BLOCK, &s, NULL));
    raise(SIGSYS);
    EQ(hits, 1);
    OK(sigpending(&pend));
    EQ(sigismember(&pend, SIGSYS), 1);
    EQ(getppid() >= 0, 1);
    OK(sigprocmask(SIG_UNBLOCK, &s, NULL));
    EQ(hits, 2);
    signal(SIGSYS, SIG_IGN);
    raise(SIGSYS);
    OK(access("/", F_OK)); /* ignored: calls work on */
    signal(SIGSYS, SIG_DFL);
    OK(access("/", F_OK));
}

static pthread_t main_thread;
static void *thread_kicker(void *p) {
    msleep(20);
    pthread_kill(main_thread, SIGUSR1);
    return NULL;
}
static volatile pid_t handled_by;
static void note_tid(int sig) { handled_by = (pid_t)syscall(SYS_gettid); }
static void *target(void *p) {
    *(volatile pid_t *)p = (pid_t)syscall(SYS_gettid);
    while (!handled_by) msleep(1);
    return NULL;
}

static void to_threads(void) {
    main_thread = pthread_self();
    handle(SIGUSR1, on_signal, 0);
    hits = 0;
    pthread_t t;
    pthread_create(&t, NULL, thread_kicker, NULL);
    pause();
    EQ(hits, 1);
    pthread_join(t, NULL);
    handle(SIGUSR2, note_tid, 0);
    volatile pid_t tid = 0;
    pthread_create(&t, NULL, target, (void *)&tid);
    while (!tid) msleep(1);
    pthread_kill(t, SIGUSR2);
    pthread_join(t, NULL);
    EQ(handled_by, tid);
    /* a process signal goes to a thread that does not block it */
    sigset_t s = set_of(SIGUSR2), old;
    handled_by = 0;
    tid = 0;
    pthread_create(&t, NULL, target, (void *)&tid);
    while (!tid) msleep(1);
    pthread_sigmask(SIG_BLOCK, &s, &old);
    kill(getpid(), SIGUSR2);
    pthread_join(t, NULL);
    EQ(handled_by, tid);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
}

MAIN(CASE(handlers), CASE(siginfo_fields), CASE(masks_and_nesting), CASE(mask_in_handler),
     CASE(stop_and_continue), CASE(to_groups), CASE(sigsys_by_the_guest), CASE(to_threads))
