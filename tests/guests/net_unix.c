// Local sockets: names, connections, datagrams, credentials, the errors of af_unix.c.
// variants: dynamic musl-static
// users: root nobody
// places: cow tmpfs
// flags: -pthread
#include "check.h"
#include <sys/ioctl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/uio.h>
#include <stddef.h>
#include <pthread.h>

static socklen_t named(struct sockaddr_un *a, const char *path) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path, path);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

static socklen_t abstract(struct sockaddr_un *a, const char *name) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path + 1, name);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static int make(int type, const char *path, int backlog) {
    struct sockaddr_un a;
    socklen_t n = path[0] == '@' ? abstract(&a, path + 1) : named(&a, path);
    int s = (int)OK(socket(AF_UNIX, type, 0));
    OK(bind(s, (void *)&a, n));
    if (backlog >= 0) OK(listen(s, backlog));
    return s;
}

static int dial(int type, const char *path) {
    struct sockaddr_un a;
    socklen_t n = path[0] == '@' ? abstract(&a, path + 1) : named(&a, path);
    int s = (int)OK(socket(AF_UNIX, type, 0));
    OK(connect(s, (void *)&a, n));
    return s;
}

static void making(void) {
    FAILS(socket(AF_UNIX, 77, 0), EINVAL);
    FAILS(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT);
    FAILS(socket(AF_UNIX, SOCK_STREAM, 5), EPROTONOSUPPORT);
    FAILS(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
    FAILS(socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
    FAILS(socket(AF_UNIX, SOCK_STREAM | 0x40000, 0), EINVAL);
    int s = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(s, F_GETFL), O_RDWR | O_NONBLOCK);
    struct stat st;
    OK(fstat(s, &st));
    CHECK(S_ISSOCK(st.st_mode));
    close(s);
    int raw = (int)OK(socket(AF_UNIX, SOCK_RAW, 0)), type = 0;
    socklen_t len = sizeof type;
    OK(getsockopt(raw, SOL_SOCKET, SO_TYPE, &type, &len));
    EQ(type, SOCK_DGRAM);
    close(raw);
}

static void not_connected(void) {
    char buf[4];
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    int s = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    FAILS(read(s, buf, 4), EINVAL);
    FAILS(recv(s, buf, 4, 0), EINVAL);
    FAILS(write(s, "x", 1), ENOTCONN);
    FAILS(send(s, "x", 1, 0), ENOTCONN);
    FAILS(getpeername(s, (void *)&a, &n), ENOTCONN);
    FAILS(listen(s, 5), EINVAL);
    FAILS(accept(s, NULL, NULL), EINVAL);
    FAILS(accept4(s, NULL, NULL, 0x40), EINVAL);
    n = sizeof a;
    OK(getsockname(s, (void *)&a, &n));
    EQ(n, 2);
    EQ(a.sun_family, AF_UNIX);
    named(&a, "nobody");
    FAILS(sendto(s, "x", 1, 0, (void *)&a, sizeof a), EOPNOTSUPP);
    close(s);
    s = (int)OK(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    FAILS(read(s, buf, 4), ENOTCONN);
    FAILS(write(s, "x", 1), ENOTCONN);
    close(s);
    s = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    FAILS(write(s, "x", 1), ENOTCONN);
    FAILS(listen(s, 5), EOPNOTSUPP);
    FAILS(accept(s, NULL, NULL), EOPNOTSUPP);
    FAILS(recv(s, buf, 4, MSG_DONTWAIT), EAGAIN);
    close(s);
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    FAILS(listen(fd, 1), ENOTSOCK);
    FAILS(accept(fd, NULL, NULL), ENOTSOCK);
    FAILS(send(fd, "x", 1, 0), ENOTSOCK);
    FAILS(getsockopt(fd, SOL_SOCKET, SO_TYPE, buf, &n), ENOTSOCK);
    close(fd);
    FAILS(bind(fd, (void *)&a, sizeof a), EBADF);
    FAILS(accept(fd, NULL, NULL), EBADF);
    FAILS(connect(fd, (void *)&a, sizeof a), EBADF);
}

static void path_names(void) {
    struct sockaddr_un a, b;
    struct stat st;
    socklen_t n = named(&a, "sock");
    umask(022);
    int s = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    FAILS(bind(s, (void *)&a, 200), EINVAL);
    FAILS(bind(s, (void *)&a, 1), EINVAL);
    FAILS(bind(s, (void *)&a, (socklen_t)-1), EINVAL);
    FAILS(bind(s, NULL, n), EFAULT);
    OK(bind(s, (void *)&a, n));
    FAILS(bind(s, (void *)&a, n), EADDRINUSE);
    FAILS(bind(s, (void *)&b, named(&b, "second")), EINVAL);
    FAILS(access("second", F_OK), ENOENT);
    OK(lstat("sock", &st));
    CHECK(S_ISSOCK(st.st_mode));
    EQ(st.st_mode & 0777, 0755);
    n = sizeof b;
    OK(getsockname(s, (void *)&b, &n));
    EQ(n, 2 + 5);
    STREQ(b.sun_path, "sock");
    n = 4;
    memset(&b, 0, sizeof b);
    OK(getsockname(s, (void *)&b, &n));
    EQ(n, 7);
    EQ(b.sun_path[1], 'o');
    EQ(b.sun_path[2], 0);
    n = (socklen_t)-1;
    FAILS(getsockname(s, (void *)&b, &n), EINVAL);
    FAILS(getsockname(s, (void *)&b, NULL), EFAULT);
    int t = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    FAILS(bind(t, (void *)&a, named(&a, "sock")), EADDRINUSE);
    FAILS(bind(t, (void *)&a, named(&a, "none/sock")), ENOENT);
    FAILS(bind(t, (void *)&a, named(&a, "sock/x")), ENOTDIR);
    FAILS(connect(t, (void *)&a, named(&a, "sock")), ECONNREFUSED);
    OK(listen(s, 5));
    FAILS(connect(t, (void *)&a, named(&a, "missing")), ENOENT);
    FAILS(connect(t, (void *)&a, named(&a, ".")), ECONNREFUSED);
    int d = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    FAILS(connect(d, (void *)&a, named(&a, "sock")), EPROTOTYPE);
    FAILS(open("sock", O_RDWR), ENXIO);
    OK(rename("sock", "moved"));
    OK(connect(t, (void *)&a, named(&a, "moved")));
    FAILS(connect(t, (void *)&a, named(&a, "moved")), EISCONN);
    n = sizeof b;
    OK(getpeername(t, (void *)&b, &n));
    STREQ(b.sun_path, "sock");
    close(s);
    int u = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    FAILS(connect(u, (void *)&a, named(&a, "moved")), ECONNREFUSED);
    OK(unlink("moved"));
    close(t), close(u), close(d);
    a.sun_family = AF_UNIX;
    memset(a.sun_path, 'n', sizeof a.sun_path);
    s = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(bind(s, (void *)&a, sizeof a));
    struct { struct sockaddr_un un; char room[8]; } big;
    n = sizeof big;
    OK(getsockname(s, (void *)&big, &n));
    EQ(n, sizeof a + 1);
    char name[109];
    memset(name, 'n', 108);
    name[108] = 0;
    OK(unlink(name));
    close(s);
}

static void permission(void) {
    if (geteuid() == 0) return;
    struct sockaddr_un a;
    int s = make(SOCK_STREAM, "closed", 1), c = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(chmod("closed", 0500));
    FAILS(connect(c, (void *)&a, named(&a, "closed")), EACCES);
    OK(chmod("closed", 0700));
    OK(connect(c, (void *)&a, named(&a, "closed")));
    OK(unlink("closed"));
    close(s), close(c);
}

static void abstract_names(void) {
    struct sockaddr_un a, b;
    char name[40];
    sprintf(name, "@check-%d", getpid());
    int s = make(SOCK_STREAM, name, 5), t = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    socklen_t n = abstract(&a, name + 1), m = sizeof b;
    FAILS(bind(t, (void *)&a, n), EADDRINUSE);
    OK(getsockname(s, (void *)&b, &m));
    EQ(m, n);
    CHECK(!memcmp(&a, &b, n));
    FAILS(connect(t, (void *)&a, n + 1), ECONNREFUSED);
    OK(connect(t, (void *)&a, n));
    close(s);
    int u = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    FAILS(connect(u, (void *)&a, n), ECONNREFUSED);
    OK(bind(u, (void *)&a, n));
    close(t), close(u);
    s = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    a.sun_family = AF_UNIX;
    OK(bind(s, (void *)&a, 2));
    m = sizeof b;
    OK(getsockname(s, (void *)&b, &m));
    EQ(m, 2 + 6);
    EQ(b.sun_path[0], 0);
    OK(bind(s, (void *)&a, 2));
    close(s);
}

static void conversation(int type) {
    struct sockaddr_un a;
    char buf[64];
    socklen_t n;
    int s = make(type, "talk", 5), c = dial(type, "talk");
    n = sizeof a;
    memset(&a, 'z', sizeof a);
    int p = (int)OK(accept4(s, (void *)&a, &n, SOCK_CLOEXEC | SOCK_NONBLOCK));
    EQ(n, 2);
    EQ(fcntl(p, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(p, F_GETFL), O_RDWR | O_NONBLOCK);
    EQ(fcntl(c, F_GETFL), O_RDWR);
    FAILS(read(p, buf, 8), EAGAIN);
    EQ(write(c, "hello", 5), 5);
    EQ(read(p, buf, sizeof buf), 5);
    n = sizeof a;
    OK(getsockname(p, (void *)&a, &n));
    STREQ(a.sun_path, "talk");
    n = sizeof a;
    OK(getpeername(p, (void *)&a, &n));
    EQ(n, 2);
    struct ucred who;
    n = sizeof who;
    OK(getsockopt(p, SOL_SOCKET, SO_PEERCRED, &who, &n));
    EQ(who.pid, getpid());
    EQ(who.uid, geteuid());
    EQ(who.gid, getegid());
    FAILS(listen(c, 1), EINVAL);
    if (type == SOCK_STREAM) FAILS(sendto(c, "x", 1, 0, (void *)&a, sizeof a), EISCONN);
    int more = -1;
    EQ(write(c, "abc", 3), 3);
    OK(ioctl(p, FIONREAD, &more));
    EQ(more, 3);
    EQ(read(p, buf, 8), 3);
    OK(shutdown(c, SHUT_WR));
    EQ(read(p, buf, 8), 0);
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(c, "x", 1), EPIPE);
    close(p);
    close(c);
    close(s);
    OK(unlink("talk"));
}
static void stream(void) { conversation(SOCK_STREAM); }
static void seqpacket(void) { conversation(SOCK_SEQPACKET); }

static void backlog(void) {
    struct sockaddr_un a;
    int s = make(SOCK_STREAM, "queue", 1), c[3];
    for (int i = 0; i < 2; i++) c[i] = dial(SOCK_STREAM, "queue");
    c[2] = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    FAILS(connect(c[2], (void *)&a, named(&a, "queue")), EAGAIN);
    struct pollfd ready = {s, POLLIN, 0};
    EQ(poll(&ready, 1, 0), 1);
    EQ(ready.revents, POLLIN);
    int p = (int)OK(accept(s, NULL, NULL));
    close(p);
    OK(connect(c[2], (void *)&a, named(&a, "queue")));
    /* A blocking connect waits for room, and for no longer than SO_SNDTIMEO. */
    int w = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    struct timeval soon = {0, 50000};
    OK(setsockopt(w, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    FAILS(connect(w, (void *)&a, named(&a, "queue")), EAGAIN);
    pid_t pid = fork();
    if (!pid) {
        usleep(30000);
        _exit(accept(s, NULL, NULL) < 0);
    }
    soon.tv_sec = 20;
    OK(setsockopt(w, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    OK(connect(w, (void *)&a, named(&a, "queue")));
    EXITED(pid, 0);
    for (int i = 0; i < 3; i++) close(c[i]);
    OK(fcntl(s, F_SETFL, O_NONBLOCK));
    for (int i = 0; i < 2; i++) close((int)OK(accept(s, NULL, NULL)));
    FAILS(accept(s, NULL, NULL), EAGAIN);
    close(w), close(s);
    OK(unlink("queue"));
}

static void datagrams(void) {
    struct sockaddr_un a, from;
    char buf[64];
    int s = make(SOCK_DGRAM, "box", -1), c = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    socklen_t n;
    OK(sendto(c, "one", 3, 0, (void *)&a, named(&a, "box")));
    OK(sendto(c, "", 0, 0, (void *)&a, named(&a, "box")));
    int more = -1;
    OK(ioctl(s, FIONREAD, &more));
    EQ(more, 3);
    n = sizeof from;
    EQ(recvfrom(s, buf, sizeof buf, MSG_PEEK, (void *)&from, &n), 3);
    EQ(n, 0);
    EQ(read(s, buf, sizeof buf), 3);
    EQ(recv(s, buf, sizeof buf, 0), 0);
    FAILS(recv(s, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    OK(bind(c, (void *)&a, named(&a, "me")));
    OK(connect(c, (void *)&a, named(&a, "box")));
    EQ(write(c, "a longer one", 12), 12);
    n = sizeof from;
    EQ(recvfrom(s, buf, 4, MSG_TRUNC, (void *)&from, &n), 12);
    EQ(n, 2 + 3);
    STREQ(from.sun_path, "me");
    struct iovec iov[2] = {{"ab", 2}, {"cde", 3}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    EQ(sendmsg(c, &m, 0), 5);
    struct iovec in[2] = {{buf, 1}, {buf + 8, 2}};
    m = (struct msghdr){.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = in, .msg_iovlen = 2};
    EQ(recvmsg(s, &m, 0), 3);
    EQ(m.msg_flags, MSG_TRUNC);
    EQ(m.msg_namelen, 5);
    EQ(buf[0], 'a');
    EQ(buf[8], 'b');
    EQ(writev(c, iov, 2), 5);
    EQ(readv(s, in, 2), 3);
    /* An open descriptor travels with a datagram. */
    int pipes[2], got;
    OK(pipe(pipes));
    union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {{0}};
    m = (struct msghdr){.msg_iov = iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&m);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &pipes[1], sizeof(int));
    EQ(sendmsg(c, &m, 0), 2);
    memset(&control, 0, sizeof control);
    m = (struct msghdr){.msg_iov = in, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    EQ(recvmsg(s, &m, MSG_CMSG_CLOEXEC), 2);
    EQ(m.msg_controllen, CMSG_SPACE(sizeof(int)));
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
    EQ(fcntl(got, F_GETFD), FD_CLOEXEC);
    EQ(write(got, "!", 1), 1);
    EQ(read(pipes[0], buf, 4), 1);
    close(got), close(pipes[0]), close(pipes[1]);
    /* A receiver that has a peer takes from nobody else. */
    OK(connect(s, (void *)&a, named(&a, "me")));
    int o = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    FAILS(connect(o, (void *)&a, named(&a, "box")), EPERM);
    FAILS(sendto(o, "x", 1, 0, (void *)&a, named(&a, "box")), EPERM);
    close(s);
    FAILS(write(c, "x", 1), ECONNREFUSED);
    FAILS(write(c, "x", 1), ENOTCONN);
    FAILS(sendto(c, "x", 1, 0, (void *)&a, named(&a, "box")), ECONNREFUSED);
    close(c), close(o);
    OK(unlink("me")), OK(unlink("box"));
}

static void many_messages(void) {
    char buf[4][16];
    int s = make(SOCK_DGRAM, "many", -1), c = dial(SOCK_DGRAM, "many");
    struct mmsghdr m[4];
    struct iovec iov[4];
    for (int i = 0; i < 4; i++) {
        iov[i] = (struct iovec){"message" + i, (size_t)(7 - i)};
        m[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
    }
    EQ(sendmmsg(c, m, 4, 0), 4);
    EQ(m[3].msg_len, 4);
    for (int i = 0; i < 4; i++) iov[i] = (struct iovec){buf[i], 16};
    struct timespec limit = {0, 0};
    EQ(recvmmsg(s, m, 2, 0, NULL), 2);
    EQ(m[1].msg_len, 6);
    EQ(recvmmsg(s, m, 4, MSG_WAITFORONE, NULL), 2);
    FAILS(recvmmsg(s, m, 4, MSG_DONTWAIT, NULL), EAGAIN);
    close(c), close(s);
    OK(unlink("many"));
}

static void two_acceptors(void) {
    int s = make(SOCK_STREAM, "pool", 10);
    pid_t child[3];
    for (int i = 0; i < 3; i++) {
        child[i] = fork();
        if (!child[i]) {
            int p = accept(s, NULL, NULL);
            char who = (char)('0' + i);
            _exit(p < 0 || write(p, &who, 1) != 1);
        }
    }
    int seen = 0;
    for (int i = 0; i < 3; i++) {
        char who = 0;
        int c = dial(SOCK_STREAM, "pool");
        EQ(read(c, &who, 1), 1);
        seen |= 1 << (who - '0');
        close(c);
    }
    EQ(seen, 7);
    for (int i = 0; i < 3; i++) EXITED(child[i], 0);
    close(s);
    OK(unlink("pool"));
}

static void on_alarm(int sig) { (void)sig; }
static void interrupted(void) {
    int s = make(SOCK_STREAM, "calm", 1);
    struct sigaction act = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &act, NULL);
    struct itimerval soon = {{0, 0}, {0, 30000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    FAILS(accept(s, NULL, NULL), EINTR);
    struct timeval limit = {0, 40000};
    OK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    FAILS(accept(s, NULL, NULL), EAGAIN);
    limit.tv_usec = 0;
    OK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    act.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &act, NULL);
    pid_t pid = fork();
    if (!pid) {
        usleep(90000);
        int c = dial(SOCK_STREAM, "calm");
        _exit(check_bad);
    }
    setitimer(ITIMER_REAL, &soon, NULL);
    close((int)OK(accept(s, NULL, NULL)));
    EXITED(pid, 0);
    /* What has a timeout is not restarted, whatever the handler says (signal(7)). */
    limit.tv_sec = 10;
    OK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    setitimer(ITIMER_REAL, &soon, NULL);
    FAILS(accept(s, NULL, NULL), EINTR);
    int first = dial(SOCK_STREAM, "calm"), second = dial(SOCK_STREAM, "calm");
    int c = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
    struct sockaddr_un to;
    setitimer(ITIMER_REAL, &soon, NULL);
    FAILS(connect(c, (void *)&to, named(&to, "calm")), EINTR);
    close(first), close(second), close(c), close(s);
    OK(unlink("calm"));
}

/* Signals do not part messages that need not wait (net/socket.c looks for none between them). */
static void many_under_signals(void) {
    struct sockaddr_un to;
    int s = make(SOCK_DGRAM, "storm", -1), c = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    char buffer[4][8];
    struct iovec iov[4];
    struct mmsghdr m[4];
    struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int round = 0; round < 300 && !check_bad; round++) {
        memset(m, 0, sizeof m);
        for (int i = 0; i < 4; i++) {
            iov[i] = (struct iovec){buffer[i], 4};
            m[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = named(&to, "storm"), .msg_iov = &iov[i], .msg_iovlen = 1};
        }
        EQ(sendmmsg(c, m, 4, 0), 4);
        for (int i = 0; i < 4; i++) m[i].msg_hdr.msg_name = NULL, m[i].msg_hdr.msg_namelen = 0;
        EQ(recvmmsg(s, m, 4, 0, NULL), 4);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    close(c), close(s);
    OK(unlink("storm"));
}

static void descriptors_run_out(void) {
    int s = make(SOCK_STREAM, "full", 5), c = dial(SOCK_STREAM, "full");
    struct rlimit old, few;
    getrlimit(RLIMIT_NOFILE, &old);
    few = old;
    few.rlim_cur = (rlim_t)c + 1;
    setrlimit(RLIMIT_NOFILE, &few);
    FAILS(accept(s, NULL, NULL), EMFILE);
    FAILS(socket(AF_UNIX, SOCK_STREAM, 0), EMFILE);
    setrlimit(RLIMIT_NOFILE, &old);
    close((int)OK(accept(s, NULL, NULL)));
    close(c), close(s);
    OK(unlink("full"));
}

static void pairs(void) {
    int type[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int i = 0; i < 3; i++) {
        int p[2];
        OK(socketpair(AF_UNIX, type[i], 0, p));
        FAILS(listen(p[0], 5), type[i] == SOCK_DGRAM ? EOPNOTSUPP : EINVAL);
        FAILS(accept(p[0], NULL, NULL), type[i] == SOCK_DGRAM ? EOPNOTSUPP : EINVAL);
        FAILS(setsockopt(p[0], IPPROTO_IP, 1, &(int){1}, sizeof(int)), EOPNOTSUPP);
        close(p[0]), close(p[1]);
    }
    int v[2];
    struct ucred who;
    socklen_t n = sizeof who;
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
    OK(getsockopt(v[0], SOL_SOCKET, SO_PEERCRED, &who, &n));
    EQ(who.pid, getpid());
    EQ(who.uid, geteuid());
    struct sockaddr_un a;
    FAILS(connect(v[0], (void *)&a, named(&a, "x")), ENOENT);
    close(v[0]), close(v[1]);
}

static void a_pair_stays(void) {
    int v[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, v));
    FAILS(accept(v[0], NULL, NULL), EINVAL);
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    OK(getpeername(v[0], (void *)&a, &n));
    EQ(n, 2);
    FAILS(sendto(v[0], "x", 1, 0, (void *)&a, sizeof a), EISCONN);
    close(v[0]), close(v[1]);
}

static void listener_shut(void) {
    struct sockaddr_un a;
    int s = make(SOCK_STREAM, "shut", 5), c = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0)), waits = -1;
    FAILS(ioctl(s, FIONREAD, &waits), EINVAL);
    OK(ioctl(s, TIOCOUTQ, &waits));
    EQ(waits, 0);
    OK(shutdown(s, SHUT_RD));
    FAILS(connect(c, (void *)&a, named(&a, "shut")), ECONNREFUSED);
    FAILS(accept(s, NULL, NULL), EINVAL);
    close(c), close(s);
    OK(unlink("shut"));
}

static void named_after_it_connected(void) {
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    int s = make(SOCK_STREAM, "first", 5), c = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(connect(c, (void *)&a, named(&a, "first")));
    int p = (int)OK(accept(s, NULL, NULL));
    OK(getpeername(p, (void *)&a, &n));
    EQ(n, 2);
    OK(bind(c, (void *)&a, named(&a, "late")));
    n = sizeof a;
    OK(getpeername(p, (void *)&a, &n));
    STREQ(a.sun_path, "late");
    close(c), close(p);
    for (int i = 0; i < 3; i++) { /* what is closed has no name any more */
        c = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
        memset(&a, 0, sizeof a);
        a.sun_family = AF_UNIX;
        strcpy(a.sun_path + 1, "net_unix late");
        if (i) OK(bind(c, (void *)&a, 16));
        struct sockaddr_un to;
        OK(connect(c, (void *)&to, named(&to, "first")));
        if (!i) OK(bind(c, (void *)&a, 16));
        close((int)OK(accept(s, NULL, NULL))), close(c);
    }
    close(s);
    OK(unlink("first")), OK(unlink("late"));
}

MAIN(CASE(making), CASE(not_connected), CASE(path_names), CASE(permission), CASE(abstract_names), CASE(stream),
     CASE(seqpacket), CASE(backlog), CASE(datagrams), CASE(many_messages), CASE(two_acceptors), CASE(interrupted),
     CASE(many_under_signals),
     CASE(descriptors_run_out), CASE(pairs), CASE(a_pair_stays), CASE(listener_shut), CASE(named_after_it_connected))
