// Signals and blocking calls: EINTR and SA_RESTART, sigsuspend, sigtimedwait, signalfd, masks of polls, timers.
// variants: dynamic musl-static
// users: root nobody
// flags: -pthread
#include "sighelp.h"

static void interrupted_or_restarted(void) {
    int p[2];
    char c;
    OK(pipe(p));
    /* without SA_RESTART: EINTR */
    handle(SIGUSR1, on_signal, 0);
    pid_t k = kick(SIGUSR1, 1);
    FAILS(read(p[0], &c, 1), EINTR);
    EXITED(k, 0);
    k = kick(SIGUSR1, 1);
    struct timespec ts = {10, 0}, left = {0, 0};
    FAILS(nanosleep(&ts, &left), EINTR);
    CHECK(left.tv_sec == 9);
    EXITED(k, 0);
    k = kick(SIGUSR1, 1);
    FAILS(pause(), EINTR);
    EXITED(k, 0);
    pid_t idle = fork();
    if (!idle) {
        pause();
        _exit(0);
    }
    k = kick(SIGUSR1, 1);
    int st;
    FAILS(waitpid(idle, &st, 0), EINTR);
    EXITED(k, 0);
    int word = 0;
    k = kick(SIGUSR1, 1);
    FAILS(syscall(SYS_futex, &word, 0, 0, NULL, NULL, 0), EINTR);
    EXITED(k, 0);
    struct pollfd pf = {p[0], POLLIN, 0};
    k = kick(SIGUSR1, 1);
    FAILS(poll(&pf, 1, -1), EINTR);
    EXITED(k, 0);
    /* with SA_RESTART: read and wait go on; sleeps and polls do not */
    handle(SIGUSR1, on_signal, SA_RESTART);
    hits = 0;
    pid_t me = getpid(), w = fork();
    if (!w) {
        for (int i = 0; i < 3; i++) {
            msleep(20);
            kill(me, SIGUSR1);
        }
        msleep(20);
        _exit(write(p[1], "x", 1) == 1 ? 0 : 1);
    }
    EQ(read(p[0], &c, 1), 1);
    EQ(hits, 3);
    EXITED(w, 0);
    k = kick(SIGUSR1, 1);
    FAILS(poll(&pf, 1, -1), EINTR);
    EXITED(k, 0);
    k = kick(SIGUSR1, 1);
    FAILS(nanosleep(&ts, &left), EINTR);
    EXITED(k, 0);
    hits = 0;
    w = fork();
    if (!w) {
        msleep(20);
        kill(me, SIGUSR1);
        msleep(60);
        kill(idle, SIGTERM);
        _exit(0);
    }
    EQ(waitpid(idle, &st, 0), idle);
    EQ(hits, 1);
    EXITED(w, 0);
    signal(SIGUSR1, SIG_DFL);
    close(p[0]);
    close(p[1]);
}

static void waiting_for_signals(void) {
    sigset_t s = set_of(SIGUSR1), old, none = set_of(0);
    sigaddset(&s, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &s, &old);
    siginfo_t si;
    struct timespec ts = {0, 10000000};
    FAILS(sigtimedwait(&s, &si, &ts), EAGAIN);
    pid_t k = kick(SIGUSR1, 1);
    EQ(sigwaitinfo(&s, &si), SIGUSR1);
    EQ(si.si_pid, k);
    EQ(si.si_code, SI_USER);
    EXITED(k, 0);
    union sigval v = {.sival_ptr = &s};
    sigqueue(getpid(), SIGRTMIN, v);
    EQ(sigtimedwait(&s, &si, &ts), SIGRTMIN);
    CHECK(si.si_value.sival_ptr == &s);
    int got = 0;
    raise(SIGUSR1);
    EQ(sigwait(&s, &got), 0);
    EQ(got, SIGUSR1);
    handle(SIGUSR1, on_signal, 0);
    hits = 0;
    k = kick(SIGUSR1, 1);
    FAILS(sigsuspend(&none), EINTR);
    EQ(hits, 1);
    EXITED(k, 0);
    raise(SIGUSR1);
    EQ(hits, 1); /* the mask is back */
    FAILS(sigsuspend(&none), EINTR);
    EQ(hits, 2);
    sigprocmask(SIG_SETMASK, &old, NULL);
    signal(SIGUSR1, SIG_DFL);
}

static void signal_fds(void) {
    sigset_t s = set_of(SIGUSR1), old;
    sigprocmask(SIG_BLOCK, &s, &old);
    int fd = OK(signalfd(-1, &s, SFD_NONBLOCK | SFD_CLOEXEC));
    struct signalfd_siginfo si;
    FAILS(read(fd, &si, sizeof si), EAGAIN);
    pid_t k = kick(SIGUSR1, 1);
    struct pollfd pf = {fd, POLLIN, 0};
    EQ(poll(&pf, 1, 5000), 1);
    EQ(read(fd, &si, sizeof si), (long)sizeof si);
    EQ(si.ssi_signo, SIGUSR1);
    EQ(si.ssi_pid, k);
    EXITED(k, 0);
    close(fd);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void masks_of_polls(void) {
    int p[2];
    OK(pipe(p));
    sigset_t s = set_of(SIGUSR1), old, none = set_of(0);
    sigprocmask(SIG_BLOCK, &s, &old);
    handle(SIGUSR1, on_signal, SA_RESTART);
    struct pollfd pf = {p[0], POLLIN, 0};
    struct timespec ts = {5, 0};
    hits = 0;
    raise(SIGUSR1);
    EQ(hits, 0);
    FAILS(ppoll(&pf, 1, &ts, &none), EINTR);
    EQ(hits, 1);
    raise(SIGUSR1);
    fd_set r;
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    FAILS(pselect(p[0] + 1, &r, NULL, NULL, &ts, &none), EINTR);
    EQ(hits, 2);
    int ep = OK(epoll_create1(0));
    struct epoll_event ev = {.events = EPOLLIN};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
    raise(SIGUSR1);
    FAILS(epoll_pwait(ep, &ev, 1, 5000, &none), EINTR);
    EQ(hits, 3);
    sigset_t all;
    sigfillset(&all); /* with all masked, SIGSYS too, calls go on */
    ts = (struct timespec){0, 2000000};
    EQ(ppoll(&pf, 1, &ts, &all), 0);
    FD_ZERO(&r);
    EQ(pselect(0, NULL, NULL, NULL, &ts, &all), 0);
    EQ(epoll_pwait(ep, &ev, 1, 2, &all), 0);
    struct stat st;
    OK(stat("/", &st));
    sigprocmask(SIG_SETMASK, &old, NULL);
    close(ep);
    close(p[0]);
    close(p[1]);
    signal(SIGUSR1, SIG_DFL);
}

static void timers(void) {
    handle(SIGALRM, on_signal, 0);
    hits = 0;
    struct itimerval it = {{0, 5000}, {0, 5000}}, was;
    OK(setitimer(ITIMER_REAL, &it, NULL));
    while (hits < 3) pause();
    memset(&it, 0, sizeof it);
    OK(setitimer(ITIMER_REAL, &it, &was));
    EQ(was.it_interval.tv_usec, 5000);
    EQ(alarm(100), 0);
    CHECK(alarm(0) > 98);
    /* interrupting pure computation */
    hits = 0;
    it.it_value.tv_usec = 20000;
    OK(setitimer(ITIMER_REAL, &it, NULL));
    long end = now_ms() + 5000;
    volatile unsigned long spin = 0;
    while (!hits && (spin++ % 1000000 || now_ms() < end)) { }
    EQ(hits, 1);
    handle(SIGVTALRM, on_signal, 0);
    hits = 0;
    it.it_value.tv_usec = 10000;
    OK(setitimer(ITIMER_VIRTUAL, &it, NULL));
    end = now_ms() + 10000;
    while (!hits && (spin++ % 1000000 || now_ms() < end)) { }
    EQ(hits, 1);
    handle_info(SIGRTMIN + 2, on_info, 0);
    timer_t t;
    struct sigevent se;
    memset(&se, 0, sizeof se);
    se.sigev_notify = SIGEV_SIGNAL;
    se.sigev_signo = SIGRTMIN + 2;
    se.sigev_value.sival_int = 99;
    OK(timer_create(CLOCK_MONOTONIC, &se, &t));
    struct itimerspec its = {{0, 0}, {0, 5000000}};
    hits = 0;
    OK(timer_settime(t, 0, &its, NULL));
    end = now_ms() + 5000;
    while (!hits && now_ms() < end) msleep(1);
    EQ(hits, 1);
    EQ(last_info.si_code, SI_TIMER);
    EQ(last_info.si_value.sival_int, 99);
    OK(timer_delete(t));
    signal(SIGALRM, SIG_DFL);
}

static void during_calls(void) {
    /* a storm of signals while calls of every lane run; none is lost and none returns a wrong result */
    handle(SIGALRM, on_signal, SA_RESTART);
    struct itimerval it = {{0, 500}, {0, 500}};
    hits = 0;
    OK(setitimer(ITIMER_REAL, &it, NULL));
    put_file("during", "0123456789");
    long end = now_ms() + 300;
    int bad = 0, rounds = 0;
    while (now_ms() < end) {
        struct stat st;
        char b[10];
        if (stat("during", &st) || st.st_size != 10) bad++;
        int fd = open("during", O_RDONLY);
        if (fd < 0 || read(fd, b, 10) != 10 || memcmp(b, "0123456789", 10) || close(fd)) bad++;
        if (getpid() != getpid()) bad++;
        if (access("nowhere", F_OK) != -1 || errno != ENOENT) bad++;
        rounds++;
    }
    memset(&it, 0, sizeof it);
    OK(setitimer(ITIMER_REAL, &it, NULL));
    EQ(bad, 0);
    CHECK(hits > 20);
    CHECK(rounds > 0);
    signal(SIGALRM, SIG_DFL);
}

MAIN(CASE(interrupted_or_restarted), CASE(waiting_for_signals), CASE(signal_fds), CASE(masks_of_polls),
     CASE(timers), CASE(during_calls))
