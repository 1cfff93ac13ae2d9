// How TCP connections end: resets, connect(AF_UNSPEC), who is left in TIME_WAIT.
// variants: dynamic musl-static
// users: root nobody
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static struct sockaddr_in at(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}
#define BIND(s, port) ({ struct sockaddr_in a_ = at(port); bind(s, (void *)&a_, sizeof a_); })
#define CONNECT(s, port) ({ struct sockaddr_in a_ = at(port); connect(s, (void *)&a_, sizeof a_); })
#define DISCONNECT(s) ({ struct sockaddr a_ = {.sa_family = AF_UNSPEC}; connect(s, &a_, sizeof a_); })

static int tcp(void) { return (int)OK(socket(AF_INET, SOCK_STREAM, 0)); }
static int port_of(int s) {
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    OK(getsockname(s, (void *)&a, &n));
    return ntohs(a.sin_port);
}
static int error_of(int s) {
    int value = -99;
    socklen_t n = sizeof value;
    OK(getsockopt(s, SOL_SOCKET, SO_ERROR, &value, &n));
    return value;
}
static void linger(int s, int on, int seconds) {
    struct linger l = {on, seconds};
    OK(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l));
}
static void set(int s, int option) { OK(setsockopt(s, SOL_SOCKET, option, &(int){1}, sizeof(int))); }
static void reuse(int s) { set(s, SO_REUSEADDR); }

struct ends {
    int listener, client, server, port;
};
static struct ends connected(void) {
    struct ends e;
    e.listener = tcp();
    OK(BIND(e.listener, 0));
    OK(listen(e.listener, 4));
    e.port = port_of(e.listener);
    e.client = tcp();
    OK(CONNECT(e.client, e.port));
    e.server = (int)OK(accept(e.listener, NULL, NULL));
    return e;
}
static int events_of(int s) {
    struct pollfd p = {.fd = s, .events = POLLIN | POLLOUT | POLLRDHUP};
    EQ(poll(&p, 1, 10000), 1);
    return p.revents;
}
/* What a reset looks like to whoever has `s`. */
static void is_reset(int s) {
    char b[4];
    int ep = (int)OK(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
    EQ(epoll_wait(ep, &e, 1, 10000), 1);
    EQ(e.events, EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP);
    FAILS(read(s, b, 4), ECONNRESET);
    EQ(read(s, b, 4), 0);
    FAILS(send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
    EQ(events_of(s), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
    close(ep);
}

static void lingering_for_nothing_resets(void) {
    struct ends e = connected();
    linger(e.client, 1, 0);
    close(e.client);
    is_reset(e.server);
    close(e.server), close(e.listener);
    e = connected();
    linger(e.server, 1, 0);
    close(e.server);
    is_reset(e.client);
    close(e.client), close(e.listener);
    /* What had been sent before is read first; SO_ERROR tells once. */
    e = connected();
    linger(e.client, 1, 0);
    EQ(write(e.client, "abc", 3), 3);
    close(e.client);
    char b[8];
    EQ(events_of(e.server), POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
    EQ(read(e.server, b, 8), 3);
    EQ(error_of(e.server), ECONNRESET);
    EQ(error_of(e.server), 0);
    EQ(read(e.server, b, 8), 0);
    close(e.server), close(e.listener);
}

static void lingering_is_handed_down_and_taken_back(void) {
    struct ends e = {.listener = tcp()};
    linger(e.listener, 1, 0);
    OK(BIND(e.listener, 0)), OK(listen(e.listener, 4));
    e.client = tcp();
    OK(CONNECT(e.client, port_of(e.listener)));
    e.server = (int)OK(accept(e.listener, NULL, NULL));
    close(e.server);
    is_reset(e.client);
    close(e.client), close(e.listener);
    e = connected();
    linger(e.client, 1, 0), linger(e.client, 1, 5);
    close(e.client);
    EQ(events_of(e.server) & POLLERR, 0);
    char b[4];
    EQ(read(e.server, b, 4), 0);
    close(e.server), close(e.listener);
}

static void the_last_descriptor_resets(void) {
    struct ends e = connected();
    linger(e.client, 1, 0);
    int copy = (int)OK(dup(e.client));
    close(e.client);
    EQ(write(copy, "abc", 3), 3);
    EQ(write(e.server, "def", 3), 3);
    char b[8];
    EQ(read(e.server, b, 8), 3);
    EQ(read(copy, b, 8), 3);
    IN_CHILD(close(copy));
    EQ(write(copy, "abc", 3), 3);
    EQ(read(e.server, b, 8), 3);
    close(copy);
    is_reset(e.server);
    close(e.server), close(e.listener);
    /* By the end of the process too. */
    e = connected();
    linger(e.client, 1, 0);
    pid_t pid = fork();
    if (!pid) _exit(0);
    EXITED(pid, 0);
    EQ(write(e.client, "abc", 3), 3);
    EQ(read(e.server, b, 8), 3);
    int server = e.server;
    pid = fork();
    if (!pid) {
        close(server);
        int c = tcp();
        if (CONNECT(c, e.port)) _exit(1);
        linger(c, 1, 0);
        exit(0);
    }
    int other = (int)OK(accept(e.listener, NULL, NULL));
    EXITED(pid, 0);
    is_reset(other);
    close(other), close(e.client), close(e.server), close(e.listener);
}

static void unread_data_resets(void) {
    struct ends e = connected();
    EQ(write(e.client, "abc", 3), 3);
    struct pollfd p = {.fd = e.server, .events = POLLIN};
    EQ(poll(&p, 1, 10000), 1);
    close(e.server);
    is_reset(e.client);
    close(e.client), close(e.listener);
}

static void disconnecting_datagrams(void) {
    int a = (int)OK(socket(AF_INET, SOCK_DGRAM, 0)), b = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
    OK(BIND(b, 0));
    OK(CONNECT(a, port_of(b)));
    CHECK(port_of(a));
    OK(DISCONNECT(a));
    EQ(port_of(a), 0);
    struct sockaddr_in who;
    socklen_t n = sizeof who;
    FAILS(getpeername(a, (void *)&who, &n), ENOTCONN);
    FAILS(send(a, "x", 1, 0), EDESTADDRREQ);
    OK(CONNECT(a, port_of(b)));
    EQ(send(a, "x", 1, 0), 1);
    close(a), close(b);
    /* A port that was asked for stays, and one that was given to it does not. */
    a = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
    OK(BIND(a, 0));
    int port = port_of(a);
    OK(CONNECT(a, 9));
    OK(DISCONNECT(a));
    EQ(port_of(a), 0);
    close(a);
    a = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
    OK(BIND(a, port));
    OK(CONNECT(a, 9));
    OK(DISCONNECT(a));
    EQ(port_of(a), port);
    close(a);
}

static void connected_to_no_port(void) {
    int s = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in nowhere = at(0);
    char b[4];
    OK(CONNECT(s, 0));
    EQ(send(s, "x", 1, 0), 1);
    FAILS(recv(s, b, 4, 0), ECONNREFUSED);
    FAILS(sendto(s, "x", 1, 0, (void *)&nowhere, sizeof nowhere), EINVAL);
    close(s);
}

static void disconnecting_streams(void) {
    struct ends e = connected();
    struct sockaddr_in who;
    socklen_t n = sizeof who;
    OK(fcntl(e.client, F_SETFD, FD_CLOEXEC));
    OK(fcntl(e.client, F_SETFL, O_NONBLOCK));
    OK(DISCONNECT(e.client));
    FAILS(getpeername(e.client, (void *)&who, &n), ENOTCONN);
    EQ(error_of(e.client), ECONNRESET);
    EQ(error_of(e.client), 0);
    EQ(fcntl(e.client, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(e.client, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    OK(fcntl(e.client, F_SETFL, 0));
    FAILS(send(e.client, "x", 1, MSG_NOSIGNAL), EPIPE);
    is_reset(e.server);
    close(e.server);
    OK(CONNECT(e.client, e.port));
    e.server = (int)OK(accept(e.listener, NULL, NULL));
    char b[4];
    EQ(write(e.client, "abc", 3), 3);
    EQ(read(e.server, b, 4), 3);
    EQ(write(e.server, "def", 3), 3);
    EQ(read(e.client, b, 4), 3);
    /* The error stays for whoever looks, and a new connection forgets it. */
    OK(DISCONNECT(e.client));
    OK(CONNECT(e.client, e.port));
    EQ(error_of(e.client), 0);
    close(e.client), close(e.server);
    /* One that listens listens no more; a port that was asked for stays. */
    int s = tcp();
    OK(BIND(s, 0));
    int port = port_of(s);
    close(s), s = tcp();
    OK(BIND(s, port));
    OK(listen(s, 1));
    OK(DISCONNECT(s));
    EQ(port_of(s), port);
    int c = tcp();
    FAILS(CONNECT(c, port), ECONNREFUSED);
    OK(listen(s, 1));
    OK(CONNECT(c, port));
    close(s), close(c), close(e.listener);
    s = tcp();
    OK(DISCONNECT(s));
    close(s);
}

/* The state of the connection from local port `port` in /proc/net/tcp, or 0. */
static int state_in_table(int port, int peer) {
    static char line[512];
    FILE *f = fopen("/proc/net/tcp", "r");
    int found = 0;
    while (f && fgets(line, sizeof line, f)) {
        unsigned local, remote, state;
        if (sscanf(line, "%*s %*x:%x %*x:%x %x", &local, &remote, &state) == 3 && (int)local == port &&
            (int)remote == peer)
            found = (int)state;
    }
    if (f) fclose(f);
    return found;
}

static int end_connection(int server_first, int reused, int *other) {
    int s = tcp(), c = tcp();
    if (reused) set(s, reused);
    OK(BIND(s, 0)), OK(listen(s, 1));
    int port = port_of(s);
    OK(CONNECT(c, port));
    *other = port_of(c);
    int a = (int)OK(accept(s, NULL, NULL));
    char b[4];
    if (server_first) {
        close(a);
        EQ(read(c, b, 4), 0);
        close(c);
    } else {
        close(c);
        EQ(read(a, b, 4), 0);
        close(a);
    }
    close(s);
    return port;
}

static void whoever_closes_first_waits(void) {
    int other, port = end_connection(1, 0, &other), s = tcp();
    EQ(state_in_table(port, other), 6);
    EQ(state_in_table(other, port), 0);
    FAILS(BIND(s, port), EADDRINUSE);
    reuse(s); /* the one before had it not */
    FAILS(BIND(s, port), EADDRINUSE);
    close(s);
    for (int how = SO_REUSEADDR; how; how = how == SO_REUSEADDR ? SO_REUSEPORT : 0) {
        port = end_connection(1, how, &other), s = tcp();
        FAILS(BIND(s, port), EADDRINUSE);
        set(s, how == SO_REUSEADDR ? SO_REUSEPORT : SO_REUSEADDR); /* not the same */
        FAILS(BIND(s, port), EADDRINUSE);
        set(s, how);
        OK(BIND(s, port)), OK(listen(s, 1));
        close(s);
    }
    port = end_connection(0, 0, &other), s = tcp();
    EQ(state_in_table(other, port), 6);
    OK(BIND(s, port)), OK(listen(s, 1));
    close(s), s = tcp();
    FAILS(BIND(s, other), EADDRINUSE);
    close(s);
}

static void nobody_waits_after_a_reset(void) {
    struct ends e = connected();
    int other = port_of(e.client);
    linger(e.server, 1, 0);
    close(e.server), close(e.client), close(e.listener);
    EQ(state_in_table(e.port, other), 0);
    int s = tcp();
    OK(BIND(s, e.port));
    close(s);
}

static void shutting_down_first_counts(void) {
    struct ends e = connected();
    int other = port_of(e.client);
    char b[4];
    OK(shutdown(e.server, SHUT_WR));
    EQ(read(e.client, b, 4), 0);
    close(e.client);
    EQ(read(e.server, b, 4), 0);
    close(e.server), close(e.listener);
    EQ(state_in_table(e.port, other), 6);
    int s = tcp();
    FAILS(BIND(s, e.port), EADDRINUSE);
    close(s);
}

static void a_server_that_exits_waits(void) {
    int s = tcp(), c = tcp(), c2 = tcp();
    OK(BIND(s, 0)), OK(listen(s, 4));
    int port = port_of(s);
    pid_t pid = fork();
    if (!pid) {
        int a = accept(s, NULL, NULL);
        _exit(a < 0);
    }
    OK(CONNECT(c, port));
    int other = port_of(c);
    EXITED(pid, 0);
    char b[4];
    EQ(read(c, b, 4), 0);
    close(c), close(s), close(c2);
    EQ(state_in_table(port, other), 6);
    s = tcp();
    FAILS(BIND(s, port), EADDRINUSE);
    close(s);
}

static void expect_peer(int s, int error) {
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    if (error) FAILS(getpeername(s, (void *)&a, &n), error);
    else OK(getpeername(s, (void *)&a, &n));
}

/* getpeername(2) and shutdown(2) know the end of a connection (TCP_CLOSE), not that of one side. */
static void what_is_over_has_no_peer(void) {
    struct ends e = connected();
    OK(shutdown(e.client, SHUT_WR));
    events_of(e.server);
    expect_peer(e.client, 0), expect_peer(e.server, 0);
    OK(shutdown(e.server, SHUT_WR));
    EQ(events_of(e.client) & POLLRDHUP, POLLRDHUP);
    expect_peer(e.client, ENOTCONN), expect_peer(e.server, ENOTCONN);
    FAILS(shutdown(e.client, SHUT_RDWR), ENOTCONN);
    close(e.client), close(e.server), close(e.listener);

    e = connected();
    close(e.server);
    EQ(events_of(e.client) & POLLRDHUP, POLLRDHUP);
    expect_peer(e.client, 0);
    EQ(send(e.client, "x", 1, MSG_NOSIGNAL), 1); /* answered with a RST */
    EQ(events_of(e.client) & POLLHUP, POLLHUP);
    expect_peer(e.client, ENOTCONN);
    EQ(error_of(e.client), EPIPE);
    EQ(error_of(e.client), 0);
    FAILS(send(e.client, "x", 1, MSG_NOSIGNAL), EPIPE);
    close(e.client), close(e.listener);

    e = connected();
    OK(shutdown(e.server, SHUT_RD)); /* is not told to the peer */
    for (int i = 0; i < 3; i++) EQ(send(e.client, "x", 1, MSG_NOSIGNAL), 1);
    EQ(events_of(e.client), POLLOUT);
    expect_peer(e.client, 0);
    close(e.client), close(e.server), close(e.listener);

    for (int how = 0; how < 2; how++) {
        e = connected();
        EQ(write(e.client, "abc", 3), 3);
        struct pollfd p = {.fd = e.server, .events = POLLIN};
        EQ(poll(&p, 1, 10000), 1);
        close(e.server);
        EQ(events_of(e.client) & POLLERR, POLLERR);
        expect_peer(e.client, ENOTCONN); /* whether the error has been told or not */
        char b[4];
        if (how) EQ(error_of(e.client), ECONNRESET);
        else FAILS(read(e.client, b, 4), ECONNRESET);
        expect_peer(e.client, ENOTCONN);
        FAILS(shutdown(e.client, SHUT_WR), ENOTCONN);
        close(e.client), close(e.listener);
    }
}

static void what_is_not_wanted_is_thrown_away(void) {
    struct ends e = connected();
    char b[8], much[5000] = "";
    EQ(send(e.client, "abcdefgh", 8, 0), 8);
    EQ(recv(e.server, NULL, 3, MSG_TRUNC), 3);
    EQ(recv(e.server, b, 2, 0), 2);
    EQ(memcmp(b, "de", 2), 0);
    EQ(recv(e.server, NULL, 1 << 30, MSG_TRUNC), 3);
    FAILS(recv(e.server, NULL, 1, MSG_TRUNC | MSG_DONTWAIT), EAGAIN);
    EQ(send(e.client, much, sizeof much, 0), sizeof much);
    EQ(recv(e.server, NULL, sizeof much, MSG_TRUNC | MSG_WAITALL), sizeof much);
    close(e.client);
    EQ(recv(e.server, NULL, 1, MSG_TRUNC), 0);
    close(e.server), close(e.listener);
}

static void descriptors_do_not_go_over_it(void) {
    struct ends e = connected();
    char room[CMSG_SPACE(sizeof(int))] = "", b[2];
    struct iovec one = {(void *)"x", 1}, got = {b, 2};
    struct msghdr m = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    *CMSG_FIRSTHDR(&m) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    EQ(sendmsg(e.client, &m, 0), 1);
    struct msghdr r = {.msg_iov = &got, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    EQ(recvmsg(e.server, &r, 0), 1);
    EQ(r.msg_controllen, 0);
    EQ(r.msg_flags, 0);
    close(e.client), close(e.server), close(e.listener);
}

/* One that was refused while nobody waited is still connecting, as the socket sees it; shut down, for good. */
static void refused_and_shut_down(void) {
    int s = tcp(), port;
    OK(BIND(s, 0));
    port = port_of(s);
    close(s), s = tcp();
    OK(fcntl(s, F_SETFL, O_NONBLOCK));
    FAILS(CONNECT(s, port), EINPROGRESS);
    int own = port_of(s);
    FAILS(CONNECT(s, port), ECONNREFUSED);
    EQ(port_of(s), own); /* shown, although it is anybody's */
    FAILS(CONNECT(s, port), EINPROGRESS);
    FAILS(shutdown(s, SHUT_RD), ENOTCONN);
    FAILS(CONNECT(s, port), EINVAL);
    FAILS(listen(s, 1), EINVAL);
    EQ(error_of(s), ECONNREFUSED);
    FAILS(CONNECT(s, port), EINVAL);
    OK(DISCONNECT(s));
    OK(listen(s, 1));
    int c = tcp();
    OK(CONNECT(c, port_of(s)));
    close(c), close(s);
}

MAIN(CASE(lingering_for_nothing_resets), CASE(lingering_is_handed_down_and_taken_back), CASE(the_last_descriptor_resets),
     CASE(unread_data_resets), CASE(what_is_over_has_no_peer), CASE(disconnecting_datagrams), CASE(disconnecting_streams), CASE(connected_to_no_port),
     CASE(whoever_closes_first_waits), CASE(nobody_waits_after_a_reset), CASE(shutting_down_first_counts),
     CASE(a_server_that_exits_waits), CASE(refused_and_shut_down),
     CASE(what_is_not_wanted_is_thrown_away), CASE(descriptors_do_not_go_over_it))
