// Which calls a handler interrupts for good and which go on, with SA_RESTART and without (signal(7)).
// variants: dynamic musl-static
// flags: -pthread
#include "sighelp.h"
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

/* Shared with the child that sends the signals. */
static struct shared {
    volatile int hits, over;
    int word;
    sem_t sem;
} *shared;
static int ends[2], pair[2];
static pid_t kicker;

static void count(int sig) { shared->hits++; }

/* A child that signals us, every few milliseconds, until `over`; or three times, and then does `finish`. */
static void start(void (*finish)(void)) {
    pid_t me = getpid();
    shared->hits = shared->over = 0;
    kicker = fork();
    if (kicker) return;
    while (finish ? shared->hits < 3 : !shared->over) {
        kill(me, SIGUSR1);
        msleep(3);
    }
    if (finish) finish();
    _exit(0);
}
static void stop(void) {
    shared->over = 1;
    int st;
    while (waitpid(kicker, &st, 0) < 0 && errno == EINTR) { }
    if (!WIFEXITED(st) || WEXITSTATUS(st)) COMPLAIN("the kicker ended with 0x%x", st);
}

#define INTERRUPTED(call)                                                                   \
    do {                                                                                    \
        start(NULL);                                                                        \
        FAILS(call, EINTR);                                                                 \
        stop();                                                                             \
    } while (0)
#define RESTARTED(finish, call, result)                                                     \
    do {                                                                                    \
        start(finish);                                                                      \
        errno = 0;                                                                          \
        long long got = (long long)(call);                                                  \
        if (got != (result)) COMPLAIN("%s is %lld (errno %d)", #call, got, errno);          \
        CHECK(shared->hits >= 3);                                                           \
        stop();                                                                             \
    } while (0)

static void give(void) { if (write(ends[1], "x", 1) != 1) _exit(1); }
static void send_one(void) { if (send(pair[1], "x", 1, 0) != 1) _exit(1); }
static void drain(void) {
    char b[65536];
    if (read(ends[0], b, sizeof b) <= 0) _exit(1);
}
static void drain_socket(void) {
    char b[65536];
    for (int i = 0; i < 40; i++) if (recv(pair[1], b, sizeof b, MSG_DONTWAIT) < 0) break;
}
static void wake(void) { /* the word stays: who is late sleeps all the same */
    while (syscall(SYS_futex, &shared->word, 1, 1, NULL, NULL, 0) < 1 && getppid() > 1) sched_yield();
}
static void post(void) { sem_post(&shared->sem); }
static void nothing(void) { }

static void fill(int fd) {
    char b[4096] = {0};
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    while (write(fd, b, sizeof b) > 0) { }
    while (write(fd, b, 1) > 0) { }
    OK(fcntl(fd, F_SETFL, 0));
}

static void pipes_and_sockets(void) {
    char b[16];
    struct iovec iov = {b, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    for (int restart = 0; restart < 2; restart++) {
        handle(SIGUSR1, count, restart ? SA_RESTART : 0);
        OK(pipe(ends));
        OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        if (restart) {
            RESTARTED(give, read(ends[0], b, 1), 1);
            RESTARTED(give, readv(ends[0], &iov, 1), 1);
            RESTARTED(send_one, recv(pair[0], b, 1, 0), 1);
            RESTARTED(send_one, recvmsg(pair[0], &msg, 0), 1);
            RESTARTED(send_one, recvfrom(pair[0], b, 1, 0, NULL, NULL), 1);
            fill(ends[1]);
            RESTARTED(drain, write(ends[1], b, 1), 1);
            fill(ends[1]);
            RESTARTED(drain, writev(ends[1], &iov, 1), 1);
            fill(pair[0]);
            RESTARTED(drain_socket, send(pair[0], b, 1, 0), 1);
            fill(pair[0]);
            RESTARTED(drain_socket, sendmsg(pair[0], &msg, 0), 1);
        } else {
            INTERRUPTED(read(ends[0], b, 1));
            INTERRUPTED(readv(ends[0], &iov, 1));
            INTERRUPTED(recv(pair[0], b, 1, 0));
            INTERRUPTED(recvmsg(pair[0], &msg, 0));
            fill(ends[1]);
            INTERRUPTED(write(ends[1], b, 1));
            fill(pair[0]);
            INTERRUPTED(send(pair[0], b, 1, 0));
            INTERRUPTED(sendmsg(pair[0], &msg, 0));
        }
        close(ends[0]), close(ends[1]), close(pair[0]), close(pair[1]);
    }
    /* with a time limit: never restarted */
    handle(SIGUSR1, count, SA_RESTART);
    struct timeval tv = {100, 0};
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    OK(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
    INTERRUPTED(recv(pair[0], b, 1, 0));
    fill(pair[0]);
    INTERRUPTED(send(pair[0], b, 1, 0));
    close(pair[0]), close(pair[1]);
}

static struct sockaddr_in where;
static void call_in(void) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&where, sizeof where)) _exit(1);
}
static void listeners(void) {
    int s = OK(socket(AF_INET, SOCK_STREAM, 0)), d = OK(socket(AF_INET, SOCK_DGRAM, 0));
    socklen_t len = sizeof where;
    where = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    OK(bind(s, (struct sockaddr *)&where, sizeof where));
    OK(getsockname(s, (struct sockaddr *)&where, &len));
    OK(listen(s, 5));
    handle(SIGUSR1, count, 0);
    char b[4];
    INTERRUPTED(accept(s, NULL, NULL));
    INTERRUPTED(recv(d, b, 1, 0));
    handle(SIGUSR1, count, SA_RESTART);
    start(call_in);
    int got = OK(accept(s, NULL, NULL));
    CHECK(shared->hits >= 3);
    stop();
    close(got);
    close(s);
    close(d);
}

static pid_t idle_child(void) {
    pid_t pid = fork();
    if (!pid) {
        char c;
        close(ends[1]);
        _exit(read(ends[0], &c, 1) < 0);
    }
    return pid;
}
static void waits(void) {
    int st;
    siginfo_t si;
    for (int which = 0; which < 2; which++) {
        OK(pipe(ends));
        pid_t pid = idle_child();
        handle(SIGUSR1, count, 0);
        if (which) INTERRUPTED(waitid(P_PID, (id_t)pid, &si, WEXITED));
        else INTERRUPTED(waitpid(pid, &st, 0));
        handle(SIGUSR1, count, SA_RESTART);
        if (which) RESTARTED(give, waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
        else RESTARTED(give, waitpid(pid, &st, 0), pid);
        close(ends[0]), close(ends[1]);
    }
}

static void open_reader(void) { close(open("fifo", O_RDONLY)); }
static void files(void) {
    OK(mkfifo("fifo", 0600));
    handle(SIGUSR1, count, 0);
    INTERRUPTED(open("fifo", O_WRONLY));
    handle(SIGUSR1, count, SA_RESTART);
    start(open_reader);
    int fd = OK(open("fifo", O_WRONLY));
    CHECK(shared->hits >= 3);
    close(fd);
    stop();
    /* locks, which a child holds until it is told */
    put_file("locked", "x");
    for (int how = 0; how < 3; how++) {
        struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int told[2], ready[2];
        OK(pipe(told));
        OK(pipe(ready));
        pid_t holder = fork();
        if (!holder) {
            char c;
            close(told[1]);
            int own = open("locked", O_RDWR);
            if (how == 0 ? flock(own, LOCK_EX) : fcntl(own, how == 1 ? F_SETLK : 37 /* F_OFD_SETLK */, &fl)) _exit(1);
            if (write(ready[1], "r", 1) != 1) _exit(2);
            _exit(read(told[0], &c, 1) < 0);
        }
        char c;
        EQ(read(ready[0], &c, 1), 1);
        int own = OK(open("locked", O_RDWR));
        handle(SIGUSR1, count, 0);
        if (how == 0) INTERRUPTED(flock(own, LOCK_EX));
        else INTERRUPTED(fcntl(own, how == 1 ? F_SETLKW : 38, &fl));
        handle(SIGUSR1, count, SA_RESTART);
        start(nothing);
        /* the kicker ends after three signals, then so does the holder: it hears the end of its pipe */
        pid_t freer = fork();
        if (!freer) {
            while (shared->hits < 3) msleep(1);
            _exit(write(told[1], "x", 1) != 1);
        }
        EQ(how == 0 ? flock(own, LOCK_EX) : fcntl(own, how == 1 ? F_SETLKW : 38, &fl), 0);
        CHECK(shared->hits >= 3);
        stop();
        EXITED(freer, 0);
        EXITED(holder, 0);
        close(own);
        close(told[0]), close(told[1]), close(ready[0]), close(ready[1]);
    }
}

static void futexes(void) {
    struct timespec late = {1000, 0};
    shared->word = 0;
    handle(SIGUSR1, count, 0);
    INTERRUPTED(syscall(SYS_futex, &shared->word, 0 /* WAIT */, 0, NULL, NULL, 0));
    INTERRUPTED(syscall(SYS_futex, &shared->word, 9 /* WAIT_BITSET */, 0, NULL, NULL, 1));
    INTERRUPTED(syscall(SYS_futex, &shared->word, 0, 0, &late, NULL, 0));
    handle(SIGUSR1, count, SA_RESTART);
    RESTARTED(wake, syscall(SYS_futex, &shared->word, 0, 0, NULL, NULL, 0), 0);
    shared->word = 0;
    INTERRUPTED(syscall(SYS_futex, &shared->word, 0, 0, &late, NULL, 0));
    RESTARTED(wake, syscall(SYS_futex, &shared->word, 9, 0, NULL, NULL, 1), 0);
    sem_init(&shared->sem, 1, 0);
    RESTARTED(post, sem_wait(&shared->sem), 0);
}

/* Never restarted, whatever the handler asked for. */
static void never(void) {
    char b[16];
    sigset_t none = set_of(0), usr2 = set_of(SIGUSR2);
    siginfo_t si;
    struct timespec ts = {1000, 0}, left;
    struct timeval tv = {1000, 0};
    struct pollfd pf = {-1, POLLIN, 0};
    struct epoll_event ev;
    int ep = OK(epoll_create1(0));
    for (int restart = 0; restart < 2; restart++) {
        handle(SIGUSR1, count, restart ? SA_RESTART : 0);
        INTERRUPTED(pause());
        INTERRUPTED(sigsuspend(&none));
        INTERRUPTED(syscall(SYS_rt_sigtimedwait, &usr2, &si, NULL, 8)); /* musl's own goes on by itself */
        INTERRUPTED(syscall(SYS_rt_sigtimedwait, &usr2, &si, &ts, 8));
        INTERRUPTED(poll(&pf, 1, -1));
        INTERRUPTED(poll(&pf, 1, 1000000));
        INTERRUPTED(ppoll(&pf, 1, &ts, &none));
        INTERRUPTED(select(0, NULL, NULL, NULL, &tv));
        INTERRUPTED(pselect(0, NULL, NULL, NULL, &ts, &none));
        INTERRUPTED(epoll_wait(ep, &ev, 1, -1));
        INTERRUPTED(epoll_pwait(ep, &ev, 1, 1000000, &none));
        INTERRUPTED(nanosleep(&ts, &left));
        CHECK(left.tv_sec >= 999);
        start(NULL);
        EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &left), EINTR);
        stop();
        struct timespec at;
        clock_gettime(CLOCK_REALTIME, &at);
        at.tv_sec += 1000;
        start(NULL);
        EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL), EINTR);
        stop();
    }
    close(ep);
}

/* A handler that is set with SA_RESTART after one without, and a signal that nobody handles: it does not count. */
static void ignored_ones(void) {
    char c;
    OK(pipe(ends));
    pid_t me = getpid();
    signal(SIGUSR2, SIG_IGN);
    signal(SIGWINCH, SIG_DFL);
    pid_t w = fork();
    if (!w) {
        for (int i = 0; i < 5; i++) kill(me, SIGUSR2), kill(me, SIGWINCH), kill(me, SIGCONT), msleep(2);
        give();
        _exit(0);
    }
    EQ(read(ends[0], &c, 1), 1);
    EXITED(w, 0);
    close(ends[0]), close(ends[1]);
}

static void setup(void) {
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
}

MAIN(CASE(setup), CASE(pipes_and_sockets), CASE(listeners), CASE(waits), CASE(files), CASE(futexes), CASE(never),
     CASE(ignored_ones))
