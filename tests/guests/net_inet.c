// TCP and UDP over loopback: names, ports, connections, datagrams, options, and their errors.
// variants: dynamic musl-static
// users: root nobody
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static struct sockaddr_in v4(const char *host, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &a.sin_addr);
    return a;
}
static struct sockaddr_in6 v6(const char *host, int port) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    inet_pton(AF_INET6, host, &a.sin6_addr);
    return a;
}
#define BIND4(s, host, port) ({ struct sockaddr_in a4 = v4(host, port); bind(s, (void *)&a4, sizeof a4); })
#define BIND6(s, host, port) ({ struct sockaddr_in6 a6 = v6(host, port); bind(s, (void *)&a6, sizeof a6); })
#define CONNECT4(s, host, port) ({ struct sockaddr_in a4 = v4(host, port); connect(s, (void *)&a4, sizeof a4); })
#define CONNECT6(s, host, port) ({ struct sockaddr_in6 a6 = v6(host, port); connect(s, (void *)&a6, sizeof a6); })

static int tcp(void) { return (int)OK(socket(AF_INET, SOCK_STREAM, 0)); }
static int tcp6(void) { return (int)OK(socket(AF_INET6, SOCK_STREAM, 0)); }
static int udp(void) { return (int)OK(socket(AF_INET, SOCK_DGRAM, 0)); }
static int port_of(int s) {
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    OK(getsockname(s, (void *)&a, &n));
    return ntohs(((struct sockaddr_in *)&a)->sin_port);
}
static int option(int s, int level, int name) {
    int value = -99;
    socklen_t n = sizeof value;
    if (getsockopt(s, level, name, &value, &n)) return -errno;
    return value;
}
static int set(int s, int level, int name, int value) { return setsockopt(s, level, name, &value, sizeof value); }
static int listener(const char *host, int backlog) {
    int s = tcp();
    OK(BIND4(s, host, 0));
    OK(listen(s, backlog));
    return s;
}

static void making(void) {
    FAILS(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    FAILS(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
    FAILS(socket(AF_INET, SOCK_STREAM, -1), EINVAL);
    int s = (int)OK(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP));
    EQ(option(s, SOL_SOCKET, SO_DOMAIN), AF_INET6);
    EQ(option(s, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    EQ(option(s, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
    close(s);
}

static void binding(void) {
    int s = tcp(), t = tcp();
    FAILS(BIND4(s, "192.0.2.1", 0), EADDRNOTAVAIL);
    struct sockaddr_in a = v4("127.0.0.1", 0);
    FAILS(bind(s, (void *)&a, 10), EINVAL);
    a.sin_family = AF_INET6;
    FAILS(bind(s, (void *)&a, sizeof a), EAFNOSUPPORT);
    if (geteuid()) FAILS(BIND4(s, "127.0.0.1", 80), EACCES);
    EQ(port_of(s), 0);
    OK(BIND4(s, "127.0.0.1", 0));
    int port = port_of(s);
    CHECK(port >= 1024);
    FAILS(BIND4(s, "127.0.0.1", 0), EINVAL);
    FAILS(BIND4(t, "127.0.0.1", port), EADDRINUSE);
    FAILS(BIND4(t, "0.0.0.0", port), EADDRINUSE);
    int other = tcp();
    OK(BIND4(other, "127.0.0.2", port));
    close(other);
    int six = tcp6();
    OK(set(six, IPPROTO_IPV6, IPV6_V6ONLY, 0));
    FAILS(BIND6(six, "::", port), EADDRINUSE);
    FAILS(BIND6(six, "2001:db8::1", 0), EADDRNOTAVAIL);
    OK(set(six, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    OK(BIND6(six, "::", port));
    FAILS(set(six, IPPROTO_IPV6, IPV6_V6ONLY, 0), EINVAL);
    close(six), close(s);
    /* SO_REUSEADDR: as long as nobody listens. */
    s = tcp();
    OK(set(s, SOL_SOCKET, SO_REUSEADDR, 1)), OK(set(t, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(BIND4(s, "127.0.0.1", port));
    OK(BIND4(t, "127.0.0.1", port));
    OK(listen(s, 1));
    FAILS(listen(t, 1), EADDRINUSE);
    int u = tcp();
    OK(set(u, SOL_SOCKET, SO_REUSEADDR, 1));
    FAILS(BIND4(u, "127.0.0.1", port), EADDRINUSE);
    close(s), close(t), close(u);
    /* SO_REUSEPORT: both listen. */
    s = tcp(), t = tcp();
    OK(set(s, SOL_SOCKET, SO_REUSEPORT, 1)), OK(set(t, SOL_SOCKET, SO_REUSEPORT, 1));
    OK(BIND4(s, "127.0.0.1", port)), OK(BIND4(t, "127.0.0.1", port));
    OK(listen(s, 1)), OK(listen(t, 1));
    close(s), close(t);
}

static void not_connected(void) {
    char b[4];
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int s = tcp();
    FAILS(read(s, b, 4), ENOTCONN);
    FAILS(recv(s, b, 4, MSG_DONTWAIT), ENOTCONN);
    FAILS(send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
    FAILS(shutdown(s, SHUT_RDWR), ENOTCONN);
    FAILS(getpeername(s, (void *)&a, &n), ENOTCONN);
    FAILS(accept(s, NULL, NULL), EINVAL);
    FAILS(lseek(s, 0, SEEK_SET), ESPIPE);
    IN_CHILD({ signal(SIGPIPE, SIG_IGN); FAILS(write(s, "x", 1), EPIPE); });
    pid_t pid = fork();
    if (!pid) {
        if (write(s, "x", 1) < 0) _exit(1);
        _exit(2);
    }
    KILLED(pid, SIGPIPE);
    OK(listen(s, 1));
    CHECK(port_of(s));
    EQ(option(s, SOL_SOCKET, SO_ACCEPTCONN), 1);
    FAILS(read(s, b, 4), ENOTCONN);
    FAILS(CONNECT4(s, "127.0.0.1", 9), EISCONN);
    close(s);
    s = udp();
    FAILS(write(s, "x", 1), EDESTADDRREQ);
    FAILS(listen(s, 1), EOPNOTSUPP);
    FAILS(accept(s, NULL, NULL), EOPNOTSUPP);
    FAILS(recv(s, b, 4, MSG_DONTWAIT), EAGAIN);
    close(s);
}

static void connecting(void) {
    struct sockaddr_in a, b;
    socklen_t n = sizeof a;
    char buf[32];
    int s = listener("127.0.0.1", 5), port = port_of(s), c = tcp();
    FAILS(CONNECT4(c, "127.0.0.1", 1), ECONNREFUSED);
    FAILS(CONNECT4(c, "127.0.0.2", port), ECONNREFUSED);
    OK(CONNECT4(c, "127.0.0.1", port));
    FAILS(CONNECT4(c, "127.0.0.1", port), EISCONN);
    int p = (int)OK(accept(s, (void *)&a, &n));
    EQ(n, sizeof a);
    EQ(ntohs(a.sin_port), port_of(c));
    EQ(ntohl(a.sin_addr.s_addr), INADDR_LOOPBACK);
    EQ(port_of(p), port);
    n = sizeof b;
    OK(getpeername(c, (void *)&b, &n));
    EQ(ntohs(b.sin_port), port);
    EQ(write(c, "ping", 4), 4);
    n = sizeof b;
    EQ(recvfrom(p, buf, sizeof buf, 0, (void *)&b, &n), 4);
    EQ(n, 0);
    EQ(sendto(p, "pong", 4, 0, (void *)&a, sizeof a), 4);
    EQ(read(c, buf, sizeof buf), 4);
    EQ(option(c, SOL_SOCKET, SO_ERROR), 0);
    OK(shutdown(c, SHUT_WR));
    EQ(read(p, buf, 4), 0);
    EQ(write(p, "late", 4), 4);
    EQ(read(c, buf, 8), 4);
    close(p);
    EQ(read(c, buf, 4), 0);
    close(c);
    /* The wildcard is this host; its own address for other loopback addresses is 127.0.0.1. */
    close(s);
    s = listener("0.0.0.0", 5), port = port_of(s);
    c = tcp();
    OK(CONNECT4(c, "0.0.0.0", port));
    n = sizeof b;
    OK(getpeername(c, (void *)&b, &n));
    EQ(ntohl(b.sin_addr.s_addr), INADDR_LOOPBACK);
    close(c);
    c = tcp();
    OK(CONNECT4(c, "127.0.0.9", port));
    n = sizeof b;
    OK(getsockname(c, (void *)&b, &n));
    EQ(ntohl(b.sin_addr.s_addr), INADDR_LOOPBACK);
    p = (int)OK(accept(s, NULL, NULL));
    close(p);
    p = (int)OK(accept(s, NULL, NULL));
    n = sizeof b;
    OK(getsockname(p, (void *)&b, &n));
    EQ(ntohl(b.sin_addr.s_addr), 0x7f000009);
    close(p), close(c);
    /* Unread data at close resets. */
    c = tcp();
    OK(CONNECT4(c, "127.0.0.1", port));
    p = (int)OK(accept(s, NULL, NULL));
    EQ(write(c, "unread", 6), 6);
    struct pollfd there = {p, POLLIN, 0};
    EQ(poll(&there, 1, 5000), 1);
    close(p);
    FAILS(read(c, buf, 4), ECONNRESET);
    close(c), close(s);
}

static void nonblocking(void) {
    int s = listener("127.0.0.1", 5), port = port_of(s);
    int c = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLOUT | EPOLLIN | EPOLLET, .data.u32 = 7};
    FAILS(CONNECT4(c, "127.0.0.1", port), EINPROGRESS);
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev));
    EQ(epoll_wait(ep, &ev, 1, 5000), 1);
    EQ(ev.events, EPOLLOUT);
    EQ(option(c, SOL_SOCKET, SO_ERROR), 0);
    OK(CONNECT4(c, "127.0.0.1", port));
    FAILS(CONNECT4(c, "127.0.0.1", port), EISCONN);
    struct pollfd ready = {s, POLLIN, 0};
    EQ(poll(&ready, 1, 5000), 1);
    int p = (int)OK(accept4(s, NULL, NULL, SOCK_NONBLOCK));
    EQ(write(p, "x", 1), 1);
    EQ(epoll_wait(ep, &ev, 1, 5000), 1);
    CHECK(ev.events & EPOLLIN);
    close(p), close(c), close(ep);
    c = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    FAILS(CONNECT4(c, "127.0.0.1", 1), EINPROGRESS);
    ready = (struct pollfd){c, POLLOUT, 0};
    EQ(poll(&ready, 1, 5000), 1);
    EQ(option(c, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    EQ(option(c, SOL_SOCKET, SO_ERROR), 0);
    FAILS(CONNECT4(c, "127.0.0.1", port), ECONNABORTED);
    FAILS(CONNECT4(c, "127.0.0.1", port), EINPROGRESS);
    ready = (struct pollfd){c, POLLOUT, 0};
    EQ(poll(&ready, 1, 5000), 1);
    EQ(option(c, SOL_SOCKET, SO_ERROR), 0);
    OK(fcntl(s, F_SETFL, O_NONBLOCK));
    close((int)OK(accept(s, NULL, NULL)));
    FAILS(accept(s, NULL, NULL), EAGAIN);
    int on = 1;
    close(c);
    c = tcp();
    OK(ioctl(c, FIONBIO, &on));
    FAILS(CONNECT4(c, "127.0.0.1", port), EINPROGRESS);
    close(c), close(s);
}

static void six(void) {
    struct sockaddr_in6 a;
    socklen_t n = sizeof a;
    char text[64];
    int s = tcp6();
    OK(set(s, IPPROTO_IPV6, IPV6_V6ONLY, 0));
    OK(BIND6(s, "::", 0));
    OK(listen(s, 5));
    int port = port_of(s), c = tcp();
    OK(CONNECT4(c, "127.0.0.1", port));
    int p = (int)OK(accept(s, (void *)&a, &n));
    EQ(n, sizeof a);
    STREQ(inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof text), "::ffff:127.0.0.1");
    n = sizeof a;
    OK(getsockname(p, (void *)&a, &n));
    STREQ(inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof text), "::ffff:127.0.0.1");
    close(c), close(p);
    c = tcp6();
    OK(CONNECT6(c, "::1", port));
    n = sizeof a;
    p = (int)OK(accept(s, (void *)&a, &n));
    STREQ(inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof text), "::1");
    EQ(ntohs(a.sin6_port), port_of(c));
    close(c), close(p);
    c = tcp6();
    OK(CONNECT6(c, "::ffff:127.0.0.1", port));
    close(c);
    c = tcp6();
    struct sockaddr_in6 shorter = v6("::1", port);
    FAILS(connect(c, (void *)&shorter, 20), EINVAL);
    OK(CONNECT6(c, "::", port));
    close(c), close(s);
}

static void datagrams(void) {
    struct sockaddr_in a, from;
    socklen_t n = sizeof from;
    char buf[64];
    static char huge[70000];
    int s = udp(), c = udp();
    OK(BIND4(s, "127.0.0.1", 0));
    a = v4("127.0.0.1", port_of(s));
    EQ(sendto(c, "hello", 5, 0, (void *)&a, sizeof a), 5);
    CHECK(port_of(c));
    EQ(recvfrom(s, buf, sizeof buf, 0, (void *)&from, &n), 5);
    EQ(n, sizeof from);
    EQ(ntohs(from.sin_port), port_of(c));
    EQ(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
    FAILS(sendto(c, huge, 65508, 0, (void *)&a, sizeof a), EMSGSIZE);
    EQ(sendto(c, huge, 65507, 0, (void *)&a, sizeof a), 65507);
    EQ(recv(s, buf, 4, MSG_TRUNC), 65507);
    EQ(sendto(c, "", 0, 0, (void *)&a, sizeof a), 0);
    EQ(recv(s, buf, 4, 0), 0);
    from = v4("127.0.0.1", 0);
    FAILS(sendto(c, "x", 1, 0, (void *)&from, sizeof from), EINVAL);
    FAILS(sendto(c, "x", 1, 0, (void *)&a, 3), EINVAL);
    FAILS(sendto(c, "x", 1, MSG_OOB, (void *)&a, sizeof a), EOPNOTSUPP);
    OK(connect(s, (void *)&(struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(c)),
                                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, sizeof a));
    int o = udp();
    EQ(sendto(o, "stranger", 8, 0, (void *)&a, sizeof a), 8);
    EQ(sendto(c, "friend", 6, 0, (void *)&a, sizeof a), 6);
    EQ(read(s, buf, sizeof buf), 6);
    FAILS(recv(s, buf, 4, MSG_DONTWAIT), EAGAIN);
    close(s);
    /* Nobody there: nothing for a sender without a peer, ECONNREFUSED for one with. */
    EQ(sendto(c, "x", 1, 0, (void *)&a, sizeof a), 1);
    EQ(sendto(c, "x", 1, 0, (void *)&a, sizeof a), 1);
    OK(connect(c, (void *)&a, sizeof a));
    n = sizeof from;
    OK(getpeername(c, (void *)&from, &n));
    EQ(from.sin_port, a.sin_port);
    EQ(write(c, "x", 1), 1);
    FAILS(recv(c, buf, 4, 0), ECONNREFUSED);
    FAILS(recv(c, buf, 4, MSG_DONTWAIT), EAGAIN);
    a.sin_family = AF_UNSPEC;
    OK(connect(c, (void *)&a, sizeof a));
    FAILS(write(c, "x", 1), EDESTADDRREQ);
    FAILS(getpeername(c, (void *)&from, &n), ENOTCONN);
    close(c), close(o);
    s = udp(), c = udp();
    OK(BIND4(s, "127.0.0.1", 0));
    FAILS(BIND4(c, "127.0.0.1", port_of(s)), EADDRINUSE);
    a = v4("255.255.255.255", 9);
    FAILS(sendto(c, "x", 1, 0, (void *)&a, sizeof a), EACCES);
    struct timeval soon = {0, 30000};
    OK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
    FAILS(recv(s, buf, 4, 0), EAGAIN);
    FAILS(shutdown(s, SHUT_RD), ENOTCONN);
    close(s), close(c);
}

/* recvmmsg(2): what is left of the limit is told, if there was a message. */
static void datagrams_in_time(void) {
    int s = udp();
    OK(BIND4(s, "127.0.0.1", 0));
    OK(CONNECT4(s, "127.0.0.1", port_of(s)));
    char bytes[4];
    struct iovec iov = {bytes, sizeof bytes};
    struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}}};
    for (int i = 0; i < 5; i++) EQ(send(s, "ab", 2, 0), 2);
    struct timespec limit = {1L << 60, 0};
    EQ(recvmmsg(s, m, 2, 0, &limit), 2);
    CHECK(limit.tv_sec == (1L << 60) - 1 && limit.tv_nsec > 0);
    limit = (struct timespec){9, 999999999};
    EQ(recvmmsg(s, m, 2, 0, &limit), 2);
    CHECK(limit.tv_sec == 9 && limit.tv_nsec > 0 && limit.tv_nsec < 999999999);
    limit = (struct timespec){0, 0};
    EQ(recvmmsg(s, m, 2, 0, &limit), 1);
    EQ(limit.tv_nsec, 0);
    limit = (struct timespec){5, 6};
    FAILS(recvmmsg(s, m, 2, MSG_DONTWAIT, &limit), EAGAIN);
    CHECK(limit.tv_sec == 5 && limit.tv_nsec == 6);
    close(s);
}

static void packet_information(void) {
    char buf[16];
    union { char room[256]; struct cmsghdr align; } control;
    int s = udp(), c = udp(), ttl = -1;
    OK(BIND4(s, "0.0.0.0", 0));
    OK(set(s, IPPROTO_IP, IP_PKTINFO, 1)), OK(set(s, IPPROTO_IP, IP_RECVTTL, 1)), OK(set(s, IPPROTO_IP, IP_RECVTOS, 1));
    OK(set(c, IPPROTO_IP, IP_TTL, 9));
    struct sockaddr_in a = v4("127.0.0.7", port_of(s));
    struct iovec iov = {buf, sizeof buf};
    EQ(sendto(c, "info", 4, 0, (void *)&a, sizeof a), 4);
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    EQ(recvmsg(s, &m, 0), 4);
    EQ(m.msg_controllen, CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(1));
    struct in_pktinfo info;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    EQ(h->cmsg_type, IP_PKTINFO);
    memcpy(&info, CMSG_DATA(h), sizeof info);
    EQ(info.ipi_ifindex, 1);
    EQ(ntohl(info.ipi_addr.s_addr), 0x7f000007);
    h = CMSG_NXTHDR(&m, h);
    EQ(h->cmsg_type, IP_TTL);
    memcpy(&ttl, CMSG_DATA(h), sizeof ttl);
    EQ(ttl, 9);
    /* Too little room: cut, and said so. */
    EQ(sendto(c, "info", 4, 0, (void *)&a, sizeof a), 4);
    m = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = 20};
    EQ(recvmsg(s, &m, 0), 4);
    EQ(m.msg_flags, MSG_CTRUNC);
    EQ(m.msg_controllen, 20);
    close(s), close(c);
}

static void listener_readiness(void) {
    int s = listener("127.0.0.1", 2), size = option(s, SOL_SOCKET, SO_SNDBUF);
    struct pollfd both = {s, POLLIN | POLLOUT, 0};
    EQ(poll(&both, 1, 0), 0);
    FAILS(ioctl(s, FIONREAD, &(int){0}), EINVAL);
    FAILS(ioctl(s, TIOCOUTQ, &(int){0}), EINVAL);
    CHECK(size >= 16384);
    OK(set(s, SOL_SOCKET, SO_SNDBUF, 40000));
    EQ(option(s, SOL_SOCKET, SO_SNDBUF), 80000);
    EQ(poll(&both, 1, 0), 0);
    int c = tcp();
    OK(CONNECT4(c, "127.0.0.1", port_of(s)));
    EQ(poll(&both, 1, 5000), 1);
    EQ(both.revents, POLLIN);
    int p = (int)OK(accept(s, NULL, NULL));
    EQ(poll(&both, 1, 0), 0);
    EQ(option(p, SOL_SOCKET, SO_SNDBUF), 80000);
    close(p), close(c), close(s);
}

static void socket_options(void) {
    int s = tcp(), u = udp();
    static const struct { int level, name, value; } defaults[] = {
        {SOL_SOCKET, SO_REUSEADDR, 0}, {SOL_SOCKET, SO_KEEPALIVE, 0}, {SOL_SOCKET, SO_BROADCAST, 0},
        {SOL_SOCKET, SO_SNDLOWAT, 1}, {SOL_SOCKET, SO_RCVLOWAT, 1}, {SOL_SOCKET, SO_OOBINLINE, 0},
        {SOL_SOCKET, SO_PRIORITY, 0}, {SOL_SOCKET, SO_ACCEPTCONN, 0}, {SOL_SOCKET, SO_ERROR, 0},
        {IPPROTO_TCP, TCP_NODELAY, 0}, {IPPROTO_TCP, TCP_CORK, 0}, {IPPROTO_TCP, TCP_KEEPIDLE, 7200},
        {IPPROTO_TCP, TCP_KEEPINTVL, 75}, {IPPROTO_TCP, TCP_KEEPCNT, 9}, {IPPROTO_TCP, TCP_SYNCNT, 6},
        {IPPROTO_TCP, TCP_LINGER2, 60}, {IPPROTO_TCP, TCP_QUICKACK, 1}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 0},
        {IPPROTO_TCP, TCP_DEFER_ACCEPT, 0}, {IPPROTO_TCP, TCP_MAXSEG, 536},
        {IPPROTO_IP, IP_TOS, 0}, {IPPROTO_IP, IP_TTL, 64}, {IPPROTO_IP, IP_MULTICAST_TTL, 1},
        {IPPROTO_IP, IP_MULTICAST_LOOP, 1}, {IPPROTO_IP, IP_MTU_DISCOVER, 1},
    };
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        int got = option(s, defaults[i].level, defaults[i].name);
        if (got != defaults[i].value)
            COMPLAIN("option %d/%d is %d, want %d", defaults[i].level, defaults[i].name, got, defaults[i].value);
    }
    OK(set(s, SOL_SOCKET, SO_KEEPALIVE, 5));
    EQ(option(s, SOL_SOCKET, SO_KEEPALIVE), 1);
    OK(set(s, IPPROTO_TCP, TCP_NODELAY, 7));
    EQ(option(s, IPPROTO_TCP, TCP_NODELAY), 1);
    OK(set(s, IPPROTO_TCP, TCP_KEEPIDLE, 30));
    EQ(option(s, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    FAILS(set(s, IPPROTO_TCP, TCP_KEEPIDLE, 0), EINVAL);
    FAILS(set(s, IPPROTO_TCP, TCP_KEEPCNT, 128), EINVAL);
    FAILS(set(s, IPPROTO_TCP, 9999, 1), ENOPROTOOPT);
    FAILS(set(s, SOL_SOCKET, 9999, 1), ENOPROTOOPT);
    FAILS(set(s, SOL_SOCKET, SO_TYPE, 1), ENOPROTOOPT);
    FAILS(set(s, SOL_SOCKET, SO_ERROR, 1), ENOPROTOOPT);
    FAILS(set(s, 12345, 1, 1), ENOPROTOOPT);
    FAILS(set(s, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT);
    FAILS(set(u, IPPROTO_TCP, TCP_NODELAY, 1), ENOPROTOOPT);
    FAILS(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, "x", 1), EINVAL);
    FAILS(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, "x", (socklen_t)-1), EINVAL);
    FAILS(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4), EFAULT);
    EQ(option(s, SOL_SOCKET, 9999), -ENOPROTOOPT);
    OK(set(s, IPPROTO_IP, IP_TOS, 0x10));
    EQ(option(s, IPPROTO_IP, IP_TOS), 0x10);
    FAILS(set(s, IPPROTO_IP, IP_TTL, 256), EINVAL);
    FAILS(set(s, IPPROTO_IP, IP_TTL, 0), EINVAL);
    char one = 0;
    socklen_t n = 1;
    OK(getsockopt(s, IPPROTO_IP, IP_TTL, &one, &n));
    EQ(one, 64);
    EQ(n, 1);
    n = 2;
    short part = -1;
    OK(getsockopt(s, SOL_SOCKET, SO_TYPE, &part, &n));
    EQ(part, SOCK_STREAM);
    EQ(n, 2);
    n = (socklen_t)-1;
    FAILS(getsockopt(s, SOL_SOCKET, SO_TYPE, &part, &n), EINVAL);
    FAILS(getsockopt(s, SOL_SOCKET, SO_TYPE, &part, NULL), EFAULT);
    struct linger linger = {-1, -1}, want = {1, 9};
    n = sizeof linger;
    OK(getsockopt(s, SOL_SOCKET, SO_LINGER, &linger, &n));
    EQ(linger.l_onoff, 0);
    OK(setsockopt(s, SOL_SOCKET, SO_LINGER, &want, sizeof want));
    OK(getsockopt(s, SOL_SOCKET, SO_LINGER, &linger, &n));
    EQ(linger.l_linger, 9);
    FAILS(setsockopt(s, SOL_SOCKET, SO_LINGER, &want, 4), EINVAL);
    OK(set(s, SOL_SOCKET, SO_RCVBUF, 20000));
    EQ(option(s, SOL_SOCKET, SO_RCVBUF), 40000);
    OK(set(s, SOL_SOCKET, SO_SNDBUF, 30000));
    EQ(option(s, SOL_SOCKET, SO_SNDBUF), 60000);
    struct timeval tv = {1, 500000}, back = {0, 0};
    n = sizeof back;
    OK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    OK(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &back, &n));
    EQ(back.tv_sec, 1);
    tv.tv_usec = 1000000;
    FAILS(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), EDOM);
    struct ucred who;
    n = sizeof who;
    OK(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &n));
    EQ(who.pid, 0);
    EQ(who.uid, (uid_t)-1);
    char name[32] = "";
    n = sizeof name;
    OK(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &n));
    CHECK(name[0]);
    EQ(n, 16);
    FAILS(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "nonsense", 8), ENOENT);
    struct tcp_info info;
    n = sizeof info;
    OK(getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &n));
    EQ(info.tcpi_state, TCP_CLOSE);
    EQ(option(s, SOL_SOCKET, SO_PASSCRED), -EOPNOTSUPP);
    close(s), close(u);
    /* What a connection has of its listener. */
    s = listener("127.0.0.1", 1);
    OK(set(s, IPPROTO_TCP, TCP_NODELAY, 1)), OK(set(s, SOL_SOCKET, SO_KEEPALIVE, 1));
    int c = tcp();
    OK(CONNECT4(c, "127.0.0.1", port_of(s)));
    int p = (int)OK(accept(s, NULL, NULL));
    EQ(option(p, IPPROTO_TCP, TCP_NODELAY), 1);
    EQ(option(p, SOL_SOCKET, SO_KEEPALIVE), 1);
    EQ(option(p, SOL_SOCKET, SO_ACCEPTCONN), 0);
    EQ(option(c, IPPROTO_TCP, TCP_NODELAY), 0);
    n = sizeof info;
    OK(getsockopt(p, IPPROTO_TCP, TCP_INFO, &info, &n));
    EQ(info.tcpi_state, TCP_ESTABLISHED);
    close(p), close(c), close(s);
}

static void moving_data(void) {
    int s = listener("127.0.0.1", 1), c = tcp(), more = -1;
    OK(CONNECT4(c, "127.0.0.1", port_of(s)));
    int p = (int)OK(accept(s, NULL, NULL));
    put_file("data", "0123456789");
    int fd = open("data", O_RDONLY);
    off_t at = 2;
    EQ(sendfile(c, fd, &at, 5), 5);
    char buf[64];
    EQ(recv(p, buf, 2, MSG_PEEK), 2);
    EQ(recv(p, buf, 5, MSG_WAITALL), 5);
    CHECK(!memcmp(buf, "23456", 5));
    EQ(write(c, "abc", 3), 3);
    OK(ioctl(p, FIONREAD, &more));
    EQ(more, 3);
    int u = tcp();
    at = 0;
    signal(SIGPIPE, SIG_IGN);
    CHECK(sendfile(u, fd, &at, 5) < 0);
    struct iovec iov[2] = {{"de", 2}, {"f", 1}};
    struct sockaddr_in a = v4("127.0.0.1", 9);
    struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = iov, .msg_iovlen = 2};
    EQ(sendmsg(c, &m, 0), 3);
    EQ(recv(p, buf, sizeof buf, MSG_DONTWAIT), 6);
    FAILS(recv(p, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    int mark = -1;
    EQ(send(c, "u", 1, MSG_OOB), 1);
    struct pollfd urgent = {p, POLLPRI, 0};
    EQ(poll(&urgent, 1, 5000), 1);
    OK(ioctl(p, SIOCATMARK, &mark));
    EQ(mark, 1);
    EQ(recv(p, buf, 1, MSG_OOB), 1);
    EQ(buf[0], 'u');
    close(u), close(fd), close(c), close(p), close(s);
    OK(unlink("data"));
}

static void outlives_the_child(void) {
    /* A connection made in a child is used by the parent, and a listener by the child. */
    int s = listener("127.0.0.1", 4), port = port_of(s), c = tcp();
    char b[4];
    IN_CHILD({ OK(CONNECT4(c, "127.0.0.1", port)); });
    int p = (int)OK(accept(s, NULL, NULL));
    EQ(write(c, "hi", 2), 2);
    EQ(read(p, b, 4), 2);
    FAILS(CONNECT4(c, "127.0.0.1", port), EISCONN);
    close(c), close(p);
    c = tcp();
    int copy = dup(c);
    OK(CONNECT4(copy, "127.0.0.1", port));
    IN_CHILD({
        int q = (int)OK(accept(s, NULL, NULL));
        close(s);
        EQ(write(q, "yo", 2), 2);
    });
    EQ(read(c, b, 4), 2);
    close(c), close(copy), close(s);
    c = tcp();
    FAILS(CONNECT4(c, "127.0.0.1", port), ECONNREFUSED);
    close(c);
}

static void crowded(void) {
    /* Many short connections, one after the other: nothing is used up. */
    int s = listener("127.0.0.1", 128), port = port_of(s);
    char b[2];
    for (int i = 0; i < 3000; i++) {
        int c = tcp();
        OK(CONNECT4(c, "127.0.0.1", port));
        int p = (int)OK(accept(s, NULL, NULL));
        close(c);
        EQ(read(p, b, 2), 0);
        close(p);
        if (check_bad) break;
    }
    close(s);
}

static int tcp_flag(int s, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    OK(getsockopt(s, IPPROTO_TCP, name, &value, &size));
    EQ(size, sizeof value);
    return value;
}
static void set_tcp_flag(int s, int name, int value) { OK(setsockopt(s, IPPROTO_TCP, name, &value, sizeof value)); }

// What is set before connect(2) and on a listener, by whom a socket is shared with, and beside SO_PRIORITY.
static void tcp_flags(void) {
    int s = tcp(), c = tcp(), pair[2], one = 1, priority = 3;
    set_tcp_flag(s, TCP_NODELAY, 1);
    OK(BIND4(s, "127.0.0.1", 0));
    OK(listen(s, 1));
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    OK(getsockname(s, (void *)&at, &size));
    set_tcp_flag(c, TCP_CORK, 1);
    EQ(tcp_flag(c, TCP_CORK), 1);
    EQ(tcp_flag(c, TCP_NODELAY), 0);
    OK(connect(c, (void *)&at, sizeof at));
    int p = (int)OK(accept(s, NULL, NULL));
    EQ(tcp_flag(p, TCP_NODELAY), 1);
    EQ(tcp_flag(p, TCP_CORK), 0);
    EQ(tcp_flag(c, TCP_CORK), 1);
    set_tcp_flag(c, TCP_NODELAY, 5);
    set_tcp_flag(c, TCP_CORK, 0);
    OK(setsockopt(c, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority));
    IN_CHILD({
        EQ(tcp_flag(c, TCP_NODELAY), 1);
        set_tcp_flag(c, TCP_NODELAY, 0);
        set_tcp_flag(c, TCP_CORK, 1);
    });
    EQ(tcp_flag(c, TCP_NODELAY), 0);
    EQ(tcp_flag(c, TCP_CORK), 1);
    priority = 0;
    size = sizeof priority;
    OK(getsockopt(c, SOL_SOCKET, SO_PRIORITY, &priority, &size));
    EQ(priority, 3);
    size = 2;
    one = 0x01010101;
    OK(getsockopt(c, IPPROTO_TCP, TCP_CORK, &one, &size));
    EQ(size, 2);
    EQ(one, 0x01010001);
    FAILS(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, 3), EINVAL);
    FAILS(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, NULL, 4), EFAULT);
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    FAILS(setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), EOPNOTSUPP);
    close(s), close(c), close(p), close(pair[0]), close(pair[1]);
}

static void tcp_pair(int *client, int *server) {
    int s = tcp();
    OK(BIND4(s, "127.0.0.1", 0));
    OK(listen(s, 1));
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    OK(getsockname(s, (void *)&at, &size));
    *client = tcp();
    OK(connect(*client, (void *)&at, sizeof at));
    *server = (int)OK(accept(s, NULL, NULL));
    close(s);
}

// One write goes to a peer that has closed; the next is EPIPE, with SIGPIPE unless MSG_NOSIGNAL. What it had not read: a reset.
static volatile sig_atomic_t pipes;
static void count_pipe(int sig) { pipes += sig == SIGPIPE; }
static void peer_gone(void) {
    int c, p;
    struct iovec two[2] = {{(void *)"ab", 2}, {(void *)"cde", 3}};
    struct msghdr m = {.msg_iov = two, .msg_iovlen = 2};
    signal(SIGPIPE, count_pipe);
    for (int how = 0; how < 4; how++) {
        tcp_pair(&c, &p);
        close(p);
        char b;
        EQ(read(c, &b, 1), 0);
        if (how == 0) EQ(write(c, "hello", 5), 5);
        if (how == 1) EQ(writev(c, two, 2), 5);
        if (how == 2) EQ(send(c, "hello", 5, 0), 5);
        if (how == 3) EQ(sendmsg(c, &m, 0), 5);
        pipes = 0;
        FAILS(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
        EQ(pipes, 0);
        if (how == 0) FAILS(write(c, "x", 1), EPIPE);
        if (how == 1) FAILS(writev(c, two, 2), EPIPE);
        if (how == 2) FAILS(send(c, "x", 1, 0), EPIPE);
        if (how == 3) FAILS(sendmsg(c, &m, 0), EPIPE);
        EQ(pipes, 1);
        EQ(read(c, &b, 1), 0);
        close(c);
    }
    tcp_pair(&c, &p); // as much as is sent before the reset comes
    close(p);
    static char much[16 << 20];
    ssize_t sent = send(c, much, sizeof much, MSG_NOSIGNAL);
    CHECK(sent > 0 && sent < (ssize_t)sizeof much);
    FAILS(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
    close(c);
    tcp_pair(&c, &p); // our own doing
    OK(shutdown(c, SHUT_WR));
    FAILS(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
    EQ(send(p, "x", 1, 0), 1);
    close(c), close(p);
    tcp_pair(&c, &p); // half-closed by the peer, who still reads
    OK(shutdown(p, SHUT_WR));
    for (int i = 0; i < 3; i++) EQ(write(c, "x", 1), 1);
    char some[4];
    EQ(recv(p, some, 3, MSG_WAITALL), 3);
    close(c), close(p);
    tcp_pair(&c, &p); // what the peer had not read
    EQ(write(c, "x", 1), 1);
    struct pollfd ready = {.fd = p, .events = POLLIN};
    EQ(poll(&ready, 1, 10000), 1);
    close(p);
    FAILS(read(c, some, 1), ECONNRESET);
    EQ(read(c, some, 1), 0);
    FAILS(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
    close(c);
    signal(SIGPIPE, SIG_DFL);
}

MAIN(CASE(peer_gone), CASE(tcp_flags), CASE(making), CASE(binding), CASE(not_connected), CASE(connecting), CASE(nonblocking), CASE(six), CASE(datagrams),
     CASE(datagrams_in_time), CASE(packet_information), CASE(listener_readiness), CASE(socket_options), CASE(moving_data), CASE(outlives_the_child), CASE(crowded))
