// Multicast and broadcast over lo: who gets a datagram, and the errors of joining and sending.
// variants: dynamic musl-static
// users: root nobody
#include "check.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define GROUP "239.7.7.7"
#define GROUP6 "ff15::7:7"

static struct sockaddr_in v4(const char *host, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &a.sin_addr);
    return a;
}
static struct sockaddr_in6 v6(const char *host, int port, int scope) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_scope_id = (uint32_t)scope};
    inet_pton(AF_INET6, host, &a.sin6_addr);
    return a;
}
#define BIND(s, host, port) ({ struct sockaddr_in a_ = v4(host, port); bind(s, (void *)&a_, sizeof a_); })
#define SEND(s, host, port) ({ struct sockaddr_in a_ = v4(host, port); sendto(s, "x", 1, 0, (void *)&a_, sizeof a_); })
#define SEND6(s, host, port, scope) \
    ({ struct sockaddr_in6 a_ = v6(host, port, scope); sendto(s, "x", 1, 0, (void *)&a_, sizeof a_); })

static int set(int s, int level, int name, int value) { return setsockopt(s, level, name, &value, sizeof value); }
static int get(int s, int level, int name) {
    int value = 0;
    socklen_t n = sizeof value;
    return getsockopt(s, level, name, &value, &n) ? -errno : value;
}
static int udp(void) {
    int s = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
    OK(set(s, SOL_SOCKET, SO_REUSEADDR, 1));
    return s;
}
static int port_of(int s) {
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    OK(getsockname(s, (void *)&a, &n));
    return ntohs(((struct sockaddr_in *)&a)->sin_port);
}
static int membership(int s, int what, const char *group, const char *interface) {
    struct ip_mreq m;
    inet_pton(AF_INET, group, &m.imr_multiaddr), inet_pton(AF_INET, interface, &m.imr_interface);
    return setsockopt(s, IPPROTO_IP, what, &m, sizeof m);
}
static int membership6(int s, int what, const char *group, int interface) {
    struct ipv6_mreq m = {.ipv6mr_interface = (unsigned)interface};
    inet_pton(AF_INET6, group, &m.ipv6mr_multiaddr);
    return setsockopt(s, IPPROTO_IPV6, what, &m, sizeof m);
}
static int source_membership(int s, int what, const char *group, const char *source) {
    struct ip_mreq_source m;
    inet_pton(AF_INET, group, &m.imr_multiaddr), inet_pton(AF_INET, source, &m.imr_sourceaddr);
    inet_pton(AF_INET, "127.0.0.1", &m.imr_interface);
    return setsockopt(s, IPPROTO_IP, what, &m, sizeof m);
}
static void through_lo(int s) {
    struct in_addr lo = {htonl(INADDR_LOOPBACK)};
    OK(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof lo));
}
/* Does something come?  What was sent before has come by then, as `last` was sent after it. */
static int comes(int s) {
    char b[4];
    struct pollfd p = {.fd = s, .events = POLLIN};
    if (poll(&p, 1, 10000) != 1) return -1;
    return recv(s, b, 4, 0) == 1 && b[0] == 'x' ? 1 : b[0] == 'e' ? 0 : -1;
}
static void send_end(int s, int port) {
    struct sockaddr_in a = v4("127.0.0.1", port);
    EQ(sendto(s, "end", 3, 0, (void *)&a, sizeof a), 3);
}

static void joining(void) {
    int s = udp(), t = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
    FAILS(membership(s, IP_ADD_MEMBERSHIP, "10.1.1.1", "127.0.0.1"), EINVAL);
    FAILS(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, "abcdefg", 7), EINVAL);
    FAILS(membership(s, IP_ADD_MEMBERSHIP, GROUP, "203.0.113.9"), ENODEV);
    OK(membership(s, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"));
    FAILS(membership(s, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"), EADDRINUSE);
    OK(membership(s, IP_DROP_MEMBERSHIP, GROUP, "127.0.0.1"));
    FAILS(membership(s, IP_DROP_MEMBERSHIP, GROUP, "127.0.0.1"), EADDRNOTAVAIL);
    struct ip_mreqn n = {.imr_ifindex = (int)if_nametoindex("lo")};
    inet_pton(AF_INET, GROUP, &n.imr_multiaddr);
    OK(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &n, sizeof n));
    n.imr_ifindex = 4711;
    FAILS(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &n, sizeof n), ENODEV);
    FAILS(membership(t, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"), EPROTO);
    for (int i = 0; i < 19; i++) {
        char group[20];
        snprintf(group, sizeof group, "239.8.0.%d", i);
        OK(membership(s, IP_ADD_MEMBERSHIP, group, "127.0.0.1"));
    }
    FAILS(membership(s, IP_ADD_MEMBERSHIP, "239.8.1.1", "127.0.0.1"), ENOBUFS);
    close(s), close(t);
    s = (int)OK(socket(AF_INET6, SOCK_DGRAM, 0));
    int lo = (int)if_nametoindex("lo");
    FAILS(membership6(s, IPV6_JOIN_GROUP, "2001:db8::1", lo), EINVAL);
    FAILS(membership6(s, IPV6_JOIN_GROUP, GROUP6, 4711), ENODEV);
    OK(membership6(s, IPV6_JOIN_GROUP, GROUP6, lo));
    FAILS(membership6(s, IPV6_JOIN_GROUP, GROUP6, lo), EADDRINUSE);
    OK(membership6(s, IPV6_LEAVE_GROUP, GROUP6, lo));
    FAILS(membership6(s, IPV6_LEAVE_GROUP, GROUP6, lo), EADDRNOTAVAIL);
    close(s);
}

static void options(void) {
    int s = udp(), t = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
    EQ(get(s, IPPROTO_IP, IP_MULTICAST_TTL), 1);
    EQ(get(s, IPPROTO_IP, IP_MULTICAST_LOOP), 1);
    EQ(get(s, IPPROTO_IP, IP_MULTICAST_IF), 0);
    EQ(get(s, IPPROTO_IP, 49 /* IP_MULTICAST_ALL */), 1);
    OK(set(s, IPPROTO_IP, IP_MULTICAST_TTL, 0));
    EQ(get(s, IPPROTO_IP, IP_MULTICAST_TTL), 0);
    FAILS(set(s, IPPROTO_IP, IP_MULTICAST_TTL, 256), EINVAL);
    through_lo(s);
    EQ(get(s, IPPROTO_IP, IP_MULTICAST_IF), (int)htonl(INADDR_LOOPBACK));
    struct in_addr nobody;
    inet_pton(AF_INET, "203.0.113.9", &nobody);
    FAILS(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &nobody, sizeof nobody), EADDRNOTAVAIL);
    FAILS(setsockopt(t, IPPROTO_IP, IP_MULTICAST_IF, &nobody, sizeof nobody), EINVAL);
    close(s), close(t);
    s = (int)OK(socket(AF_INET6, SOCK_DGRAM, 0));
    EQ(get(s, IPPROTO_IPV6, IPV6_MULTICAST_HOPS), 1);
    EQ(get(s, IPPROTO_IPV6, IPV6_MULTICAST_LOOP), 1);
    EQ(get(s, IPPROTO_IPV6, IPV6_MULTICAST_IF), 0);
    OK(set(s, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)if_nametoindex("lo")));
    EQ(get(s, IPPROTO_IPV6, IPV6_MULTICAST_IF), (int)if_nametoindex("lo"));
    FAILS(set(s, IPPROTO_IPV6, IPV6_MULTICAST_IF, 4711), ENODEV);
    close(s);
}

static void members_get_it(void) {
    int a = udp(), b = udp(), c = udp(), other = udp(), s = udp();
    OK(BIND(a, "0.0.0.0", 0));
    int port = port_of(a);
    OK(BIND(b, GROUP, port));
    OK(BIND(c, "127.0.0.1", port));
    OK(BIND(other, "239.7.7.8", port));
    OK(membership(a, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"));
    through_lo(s);
    EQ(SEND(s, GROUP, port), 1);
    EQ(comes(a), 1);
    EQ(comes(b), 1); /* bound to the group, and somebody here is a member */
    char buffer[4];
    struct sockaddr_in who;
    socklen_t n = sizeof who;
    EQ(SEND(s, GROUP, port), 1);
    EQ(recvfrom(a, buffer, 4, 0, (void *)&who, &n), 1);
    EQ(who.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    EQ(ntohs(who.sin_port), port_of(s));
    EQ(comes(b), 1);
    send_end(s, port);
    EQ(comes(c), 0);
    FAILS(recv(other, buffer, 4, MSG_DONTWAIT), EAGAIN);
    FAILS(recv(a, buffer, 4, MSG_DONTWAIT), EAGAIN);
    /* Connected to somebody else: not. */
    struct sockaddr_in to = v4("127.0.0.1", 9);
    OK(connect(b, (void *)&to, sizeof to));
    EQ(SEND(s, GROUP, port), 1);
    EQ(comes(a), 1);
    FAILS(recv(b, buffer, 4, MSG_DONTWAIT), EAGAIN);
    /* A member that leaves gets what others joined for, unless it says that it does not want to. */
    OK(membership(c, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"));
    OK(membership(a, IP_DROP_MEMBERSHIP, GROUP, "127.0.0.1"));
    EQ(SEND(s, GROUP, port), 1);
    EQ(comes(a), 1);
    OK(set(a, IPPROTO_IP, 49, 0));
    EQ(SEND(s, GROUP, port), 1);
    OK(set(a, IPPROTO_IP, 49, 1));
    EQ(SEND(s, GROUP, port), 1);
    EQ(comes(a), 1);
    FAILS(recv(a, buffer, 4, MSG_DONTWAIT), EAGAIN);
    close(a), close(b), close(c), close(other), close(s);
}

static void nobody_joined(void) {
    int a = udp(), s = udp();
    OK(BIND(a, "0.0.0.0", 0));
    through_lo(s);
    EQ(SEND(s, GROUP, port_of(a)), 1);
    send_end(s, port_of(a));
    EQ(comes(a), 0);
    OK(membership(a, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"));
    /* On lo it comes back anyway. */
    OK(set(s, IPPROTO_IP, IP_MULTICAST_LOOP, 0));
    EQ(SEND(s, GROUP, port_of(a)), 1);
    EQ(comes(a), 1);
    OK(set(s, IPPROTO_IP, IP_MULTICAST_TTL, 0));
    EQ(SEND(s, GROUP, port_of(a)), 1);
    EQ(comes(a), 1);
    close(a), close(s);
}

static void by_source(void) {
    int a = udp(), s = udp();
    OK(BIND(a, "0.0.0.0", 0));
    int port = port_of(a);
    through_lo(s);
    FAILS(source_membership(a, IP_DROP_SOURCE_MEMBERSHIP, GROUP, "127.0.0.1"), EINVAL);
    OK(source_membership(a, IP_ADD_SOURCE_MEMBERSHIP, GROUP, "127.0.0.1"));
    FAILS(source_membership(a, IP_ADD_SOURCE_MEMBERSHIP, GROUP, "127.0.0.1"), EADDRNOTAVAIL);
    EQ(SEND(s, GROUP, port), 1);
    EQ(comes(a), 1);
    OK(source_membership(a, IP_ADD_SOURCE_MEMBERSHIP, GROUP, "203.0.113.9"));
    OK(source_membership(a, IP_DROP_SOURCE_MEMBERSHIP, GROUP, "127.0.0.1"));
    EQ(SEND(s, GROUP, port), 1);
    send_end(s, port);
    EQ(comes(a), 0);
    OK(source_membership(a, IP_DROP_SOURCE_MEMBERSHIP, GROUP, "203.0.113.9"));
    OK(membership(a, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"));
    OK(source_membership(a, IP_BLOCK_SOURCE, GROUP, "127.0.0.1"));
    EQ(SEND(s, GROUP, port), 1);
    send_end(s, port);
    EQ(comes(a), 0);
    OK(source_membership(a, IP_UNBLOCK_SOURCE, GROUP, "127.0.0.1"));
    EQ(SEND(s, GROUP, port), 1);
    EQ(comes(a), 1);
    close(a), close(s);
}

static void by_protocol_independent_options(void) {
    int a = udp(), s = udp();
    OK(BIND(a, "0.0.0.0", 0));
    through_lo(s);
    struct group_req g = {.gr_interface = if_nametoindex("lo")};
    struct sockaddr_in group = v4(GROUP, 0);
    memcpy(&g.gr_group, &group, sizeof group);
    OK(setsockopt(a, IPPROTO_IP, MCAST_JOIN_GROUP, &g, sizeof g));
    FAILS(setsockopt(a, IPPROTO_IP, MCAST_JOIN_GROUP, &g, sizeof g), EADDRINUSE);
    FAILS(setsockopt(a, IPPROTO_IP, MCAST_JOIN_GROUP, &g, 100), EINVAL);
    EQ(SEND(s, GROUP, port_of(a)), 1);
    EQ(comes(a), 1);
    OK(setsockopt(a, IPPROTO_IP, MCAST_LEAVE_GROUP, &g, sizeof g));
    FAILS(setsockopt(a, IPPROTO_IP, MCAST_LEAVE_GROUP, &g, sizeof g), EADDRNOTAVAIL);
    close(a), close(s);
}

static void six(void) {
    int a = (int)OK(socket(AF_INET6, SOCK_DGRAM, 0));
    struct sockaddr_in6 any = v6("::", 0, 0);
    OK(bind(a, (void *)&any, sizeof any));
    /* lo has no route for IPv6's groups. */
    int lo = (int)if_nametoindex("lo"), s = (int)OK(socket(AF_INET6, SOCK_DGRAM, 0));
    OK(membership6(a, IPV6_JOIN_GROUP, "ff02::7:7", lo));
    FAILS(SEND6(s, "ff02::7:7", port_of(a), lo), ENETUNREACH);
    /* A dual-stack socket is in IPv4's groups too. */
    OK(membership(a, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"));
    int four = udp();
    through_lo(four);
    EQ(SEND(four, GROUP, port_of(a)), 1);
    EQ(comes(a), 1);
    close(a), close(s), close(four);
}

static void broadcast(void) {
    int a = udp(), b = udp(), c = udp(), s = udp();
    OK(BIND(a, "0.0.0.0", 0));
    int port = port_of(a);
    OK(BIND(b, "127.255.255.255", port));
    OK(BIND(c, "127.0.0.1", port));
    FAILS(SEND(s, "255.255.255.255", port), EACCES);
    FAILS(SEND(s, "127.255.255.255", port), EACCES);
    struct sockaddr_in to = v4("127.255.255.255", port);
    FAILS(connect(s, (void *)&to, sizeof to), EACCES);
    OK(set(s, SOL_SOCKET, SO_BROADCAST, 1));
    EQ(SEND(s, "127.255.255.255", port), 1);
    EQ(comes(a), 1);
    EQ(comes(b), 1);
    send_end(s, port);
    EQ(comes(c), 0);
    OK(connect(s, (void *)&to, sizeof to));
    EQ(send(s, "x", 1, 0), 1);
    EQ(comes(a), 1);
    close(a), close(b), close(c), close(s);
}

static void told_in_proc(void) {
    int s = udp();
    OK(membership(s, IP_ADD_MEMBERSHIP, GROUP, "127.0.0.1"));
    CHECK(strstr(get_file("/proc/net/igmp"), "070707EF"));
    close(s);
    CHECK(!strstr(get_file("/proc/net/igmp"), "070707EF"));
    CHECK(strstr(get_file("/proc/net/igmp"), "010000E0"));
    s = (int)OK(socket(AF_INET6, SOCK_DGRAM, 0));
    OK(membership6(s, IPV6_JOIN_GROUP, GROUP6, (int)if_nametoindex("lo")));
    CHECK(strstr(get_file("/proc/net/igmp6"), "ff150000000000000000000000070007"));
    close(s);
}

MAIN(CASE(joining), CASE(options), CASE(members_get_it), CASE(nobody_joined), CASE(by_source),
     CASE(by_protocol_independent_options), CASE(six), CASE(broadcast), CASE(told_in_proc))
