// Who may bind beside an IPv6 socket: what bind(2) and a connection make of IPV6_V6ONLY.
// variants: dynamic
// users: root
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static struct sockaddr_in6 v6(const char *host, int port) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    CHECK(inet_pton(AF_INET6, host, &a.sin6_addr) == 1);
    return a;
}
static int bind6(int s, const char *host, int port) {
    struct sockaddr_in6 a = v6(host, port);
    return bind(s, (void *)&a, sizeof a);
}
static int bind4(int s, const char *host, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    CHECK(inet_pton(AF_INET, host, &a.sin_addr) == 1);
    return bind(s, (void *)&a, sizeof a);
}
static int port_of(int s) {
    struct sockaddr_in6 a;
    socklen_t n = sizeof a;
    OK(getsockname(s, (void *)&a, &n));
    return ntohs(a.sin6_port);
}
static int only6(int s) {
    int value = -1;
    socklen_t n = sizeof value;
    OK(getsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &value, &n));
    return value;
}
static int make(int family, int type) { return (int)OK(socket(family, type, 0)); }

/* A socket that is connected to ::1, bound to `host` before (NULL: not); `accepted`: the other side of it. */
static int connected(int type, const char *host, int v6only, int accepted) {
    int l = make(AF_INET6, type), c = make(AF_INET6, type), s = -1;
    OK(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only));
    OK(setsockopt(c, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only));
    OK(bind6(l, "::", 0));
    if (type == SOCK_STREAM) OK(listen(l, 1));
    if (host) OK(bind6(c, host, 0));
    struct sockaddr_in6 a = v6("::1", port_of(l));
    OK(connect(c, (void *)&a, sizeof a));
    if (type == SOCK_STREAM) s = (int)OK(accept(l, NULL, NULL));
    close(l);
    if (accepted) close(c);
    else close(s);
    return accepted ? s : c;
}
/* Are there sockets of that kind beside which IPv4 is free, but for 0.0.0.0 where `error` is that?  Others of this machine
 * may be on the port of one, so the first is not believed. */
static int beside(int type, const char *host, int v6only, int accepted, int error) {
    for (int i = 0; i < 20; i++) {
        int s = connected(type, host, v6only, accepted), any = make(AF_INET, type), one = make(AF_INET, type);
        int got = bind4(any, "0.0.0.0", port_of(s)) ? errno : 0;
        close(any);
        int good = got == error && !bind4(one, "127.0.0.1", port_of(s));
        close(one), close(s);
        if (good) return 1;
    }
    return 0;
}

static void not_bound_by_name_keeps_ipv4_off(void) {
    int types[] = {SOCK_STREAM, SOCK_DGRAM};
    for (int i = 0; i < 2; i++) {
        CHECK(beside(types[i], NULL, 0, 0, EADDRINUSE));
        CHECK(beside(types[i], "::", 0, 0, EADDRINUSE));
        CHECK(beside(types[i], NULL, 1, 0, 0));
        CHECK(beside(types[i], "::1", 0, 0, 0));
    }
    CHECK(beside(SOCK_STREAM, NULL, 0, 1, EADDRINUSE));
    CHECK(beside(SOCK_STREAM, NULL, 1, 1, 0));
}

static void an_address_of_ipv6_makes_it_ipv6_only(void) {
    int s = make(AF_INET6, SOCK_STREAM);
    int zero = 0;
    OK(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero));
    FAILS(bind6(s, "2001:db8::1", 0), EADDRNOTAVAIL);
    EQ(only6(s), 0);
    OK(bind6(s, "::1", 0));
    EQ(only6(s), 1);
    struct sockaddr_in6 a = v6("::ffff:127.0.0.1", 9);
    FAILS(connect(s, (void *)&a, sizeof a), ENETUNREACH);
    close(s);
    s = make(AF_INET6, SOCK_STREAM);
    OK(bind6(s, "::ffff:127.0.0.1", 0));
    EQ(only6(s), zero);
    close(s);
}

MAIN(CASE(not_bound_by_name_keeps_ipv4_off), CASE(an_address_of_ipv6_makes_it_ipv6_only))
