// poll, select, epoll, eventfd, timerfd, socket pairs and fds sent over them, inotify's absence of surprises.
// variants: dynamic musl-static
// users: root nobody
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

static void polls(void) {
    int p[2];
    OK(pipe(p));
    struct pollfd f[3] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {-1, POLLIN, 7}};
    EQ(poll(f, 3, 0), 1);
    EQ(f[0].revents, 0);
    EQ(f[1].revents, POLLOUT);
    EQ(f[2].revents, 0);
    EQ(write(p[1], "x", 1), 1);
    EQ(poll(f, 1, -1), 1);
    EQ(f[0].revents, POLLIN);
    close(p[1]);
    EQ(poll(f, 1, -1), 1);
    EQ(f[0].revents, POLLIN | POLLHUP);
    f[1].fd = 999;
    EQ(poll(f + 1, 1, 0), 1);
    EQ(f[1].revents, POLLNVAL);
    long t = now_ms();
    EQ(poll(NULL, 0, 30), 0);
    CHECK(now_ms() - t >= 29);
    close(p[0]);
    put_file("plain", "x"); /* a regular file and a directory are always ready */
    int fd = (int)OK(open("plain", O_RDWR)), d = (int)OK(open(".", O_RDONLY));
    struct pollfd r[2] = {{fd, POLLIN | POLLOUT, 0}, {d, POLLIN, 0}};
    EQ(poll(r, 2, 0), 2);
    EQ(r[0].revents, POLLIN | POLLOUT);
    EQ(r[1].revents, POLLIN);
    close(fd);
    close(d);
}

static void selects(void) {
    int p[2];
    OK(pipe(p));
    fd_set r, w;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(p[0], &r);
    FD_SET(p[1], &w);
    struct timeval tv = {1, 0};
    EQ(select(p[1] + 1, &r, &w, NULL, &tv), 1);
    EQ(FD_ISSET(p[0], &r), 0);
    CHECK(FD_ISSET(p[1], &w));
    CHECK(tv.tv_sec == 0 || tv.tv_sec == 1);
    tv = (struct timeval){0, 20000};
    FD_SET(p[0], &r);
    EQ(syscall(SYS_select, p[0] + 1, &r, NULL, NULL, &tv), 0); /* Linux tells what is left */
    EQ(tv.tv_usec, 0);
    close(p[0]);
    close(p[1]);
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    FAILS(select(p[0] + 1, &r, NULL, NULL, NULL), EBADF);
}

static void epolls(void) {
    int p[2], ep = (int)OK(epoll_create1(EPOLL_CLOEXEC));
    OK(pipe(p));
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0x1122334455667788}, out[4];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
    FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev), EEXIST);
    FAILS(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL), ENOENT);
    EQ(epoll_wait(ep, out, 4, 0), 0);
    EQ(write(p[1], "x", 1), 1);
    EQ(epoll_wait(ep, out, 4, -1), 1);
    EQ(out[0].data.u64, 0x1122334455667788);
    EQ(out[0].events, EPOLLIN);
    ev.events = EPOLLIN | EPOLLET;
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
    EQ(epoll_wait(ep, out, 4, 0), 1);
    EQ(epoll_wait(ep, out, 4, 0), 0);
    EQ(write(p[1], "x", 1), 1);
    EQ(epoll_wait(ep, out, 4, 0), 1);
    ev.events = EPOLLIN | EPOLLONESHOT;
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
    EQ(epoll_wait(ep, out, 4, 0), 1);
    EQ(epoll_wait(ep, out, 4, 0), 0);
    put_file("reg", "x");
    int fd = (int)OK(open("reg", O_RDONLY));
    FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), EPERM);
    FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev), EINVAL);
    FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, 999, &ev), EBADF);
    FAILS(epoll_wait(ep, out, 0, 0), EINVAL);
    int dir = (int)OK(open(".", O_RDONLY));
    FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, dir, &ev), EPERM);
    close(dir);
    close(fd);
    close(ep);
    close(p[0]);
    close(p[1]);
}

static void eventfds(void) {
    int e = (int)OK(eventfd(3, EFD_NONBLOCK));
    uint64_t v = 4;
    EQ(write(e, &v, 8), 8);
    EQ(read(e, &v, 8), 8);
    EQ(v, 7);
    FAILS(read(e, &v, 8), EAGAIN);
    FAILS(read(e, &v, 4), EINVAL);
    close(e);
    e = (int)OK(eventfd(2, EFD_SEMAPHORE));
    EQ(read(e, &v, 8), 8);
    EQ(v, 1);
    pid_t pid = fork();
    if (!pid) {
        v = 5;
        msleep(20);
        _exit(write(e, &v, 8) != 8);
    }
    EQ(read(e, &v, 8), 8);
    EQ(read(e, &v, 8), 8);
    EXITED(pid, 0);
    close(e);
}

static void timerfds(void) {
    int t = (int)OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    struct itimerspec its = {{0, 5000000}, {0, 5000000}}, cur;
    uint64_t v;
    FAILS(read(t, &v, 8), EAGAIN);
    OK(timerfd_settime(t, 0, &its, NULL));
    struct pollfd pf = {t, POLLIN, 0};
    EQ(poll(&pf, 1, 2000), 1);
    EQ(read(t, &v, 8), 8);
    CHECK(v >= 1);
    OK(timerfd_gettime(t, &cur));
    EQ(cur.it_interval.tv_nsec, 5000000);
    close(t);
}

static int send_fd(int s, int fd, const char *text) {
    char ctl[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec v = {(void *)text, strlen(text)};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    return (int)sendmsg(s, &m, 0);
}
static int recv_fd(int s, int flags) {
    char ctl[CMSG_SPACE(sizeof(int))], text[64];
    struct iovec v = {text, sizeof text};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
    if (recvmsg(s, &m, flags) <= 0) return -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int fd = -1;
    if (c && c->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static void socket_pairs(void) {
    int s[2];
    char b[32];
    OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
    EQ(fcntl(s[0], F_GETFD), FD_CLOEXEC);
    EQ(write(s[0], "hello", 5), 5);
    EQ(recv(s[1], b, sizeof b, MSG_PEEK), 5);
    EQ(recv(s[1], b, 2, 0), 2);
    EQ(recv(s[1], b, sizeof b, MSG_DONTWAIT), 3);
    FAILS(recv(s[1], b, sizeof b, MSG_DONTWAIT), EAGAIN);
    struct ucred cr;
    socklen_t n = sizeof cr;
    OK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &cr, &n));
    EQ(cr.pid, getpid());
    EQ(cr.uid, geteuid());
    int type = 0;
    n = sizeof type;
    OK(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &type, &n));
    EQ(type, SOCK_STREAM);
    OK(shutdown(s[0], SHUT_WR));
    EQ(read(s[1], b, 1), 0);
    EQ(send(s[1], "x", 1, MSG_NOSIGNAL), 1);
    close(s[0]);
    FAILS(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    close(s[1]);
    OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    EQ(write(s[0], "one", 3), 3);
    EQ(write(s[0], "three", 5), 5);
    EQ(read(s[1], b, sizeof b), 3);
    EQ(read(s[1], b, 2), 2);
    close(s[0]);
    close(s[1]);
    OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    EQ(write(s[0], "abc", 3), 3);
    EQ(read(s[1], b, sizeof b), 3);
    close(s[0]);
    EQ(read(s[1], b, sizeof b), 0);
    close(s[1]);
    FAILS(socketpair(AF_INET, SOCK_STREAM, 0, s), EOPNOTSUPP);
}

static void passed_fds(void) {
    int s[2];
    char b[16];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    put_file("passed", "0123456789");
    OK(mkdir("dir", 0755));
    put_file("dir/in", "inside");
    pid_t pid = fork();
    if (!pid) {
        int fd = open("passed", O_RDWR), d = open("dir", O_RDONLY | O_DIRECTORY), p[2];
        lseek(fd, 3, SEEK_SET);
        if (pipe(p) || write(p[1], "pipe", 4) != 4) _exit(1);
        _exit(send_fd(s[1], fd, "a") != 1 || send_fd(s[1], d, "b") != 1 || send_fd(s[1], p[0], "c") != 1);
    }
    EXITED(pid, 0);
    char c;
    int fd = recv_fd(s[0], MSG_CMSG_CLOEXEC);
    CHECK(fd >= 0);
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQ(read(fd, b, 2), 2); /* the sender's offset, and access mode */
    EQ(b[0], '3');
    EQ(write(fd, "X", 1), 1);
    close(fd);
    STREQ(get_file("passed"), "01234X6789");
    int d = recv_fd(s[0], 0);
    CHECK(d >= 0);
    fd = (int)OK(openat(d, "in", O_RDONLY));
    EQ(read(fd, b, 16), 6);
    close(fd);
    struct stat st;
    OK(fstat(d, &st));
    CHECK(S_ISDIR(st.st_mode));
    close(d);
    fd = recv_fd(s[0], 0);
    EQ(read(fd, b, 16), 4);
    close(fd);
    close(s[0]);
    close(s[1]);
    (void)c;
}

MAIN(CASE(polls), CASE(selects), CASE(epolls), CASE(eventfds), CASE(timerfds), CASE(socket_pairs), CASE(passed_fds))
