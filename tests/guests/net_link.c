// netlink(7) and rtnetlink(7), and what stands on them: getifaddrs(3), if_nameindex(3).
// variants: dynamic static
// users: root nobody
#include "check.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

static int ask(int s, int type, int flags, const void *body, size_t len)
{
    static int seq;
    char buffer[256] = {0};
    struct nlmsghdr *h = (void *)buffer;
    h->nlmsg_len = NLMSG_LENGTH(len);
    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | flags;
    h->nlmsg_seq = ++seq;
    memcpy(NLMSG_DATA(h), body, len);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    EQ(sendto(s, buffer, h->nlmsg_len, 0, (void *)&kernel, sizeof kernel), (ssize_t)h->nlmsg_len);
    return seq;
}

/* Receive an answer: its type, or minus the errno of an error. */
static int answer(int s, int seq, char *buffer, size_t size)
{
    struct sockaddr_nl from = {0};
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(s, buffer, size, 0, (void *)&from, &len);
    CHECK(n >= (ssize_t)sizeof(struct nlmsghdr));
    EQ(len, sizeof from);
    EQ(from.nl_family, AF_NETLINK);
    EQ(from.nl_pid, 0);
    struct nlmsghdr *h = (void *)buffer;
    EQ((int)h->nlmsg_seq, seq);
    if (h->nlmsg_type == NLMSG_ERROR)
        return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
    return h->nlmsg_type;
}

static void naming(void)
{
    struct sockaddr_nl me = {.nl_family = AF_NETLINK}, got;
    socklen_t len = sizeof got;
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), two, value = 0;
    CHECK(s >= 0);
    EQ(getsockname(s, (void *)&got, &len), 0);
    EQ(len, sizeof got);
    EQ(got.nl_pid, 0);
    EQ(bind(s, (void *)&me, sizeof me), 0);
    EQ(getsockname(s, (void *)&got, &len), 0);
    EQ(got.nl_pid, getpid());
    two = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE);
    EQ(bind(two, (void *)&me, sizeof me), 0);
    EQ(getsockname(two, (void *)&got, &len), 0);
    CHECK(got.nl_pid && (int)got.nl_pid != getpid());
    me.nl_pid = getpid();
    int three = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE);
    FAILS(bind(three, (void *)&me, sizeof me), EADDRINUSE);
    FAILS(bind(three, (void *)&me, 4), EINVAL);
    FAILS(listen(three, 1), EOPNOTSUPP);
    len = sizeof value;
    EQ(getsockopt(s, SOL_SOCKET, SO_TYPE, &value, &len), 0);
    EQ(value, SOCK_RAW);
    EQ(getsockopt(s, SOL_SOCKET, SO_DOMAIN, &value, &len), 0);
    EQ(value, AF_NETLINK);
    value = 1;
    EQ(setsockopt(s, SOL_NETLINK, NETLINK_EXT_ACK, &value, sizeof value), 0);
    FAILS(setsockopt(s, SOL_NETLINK, 99, &value, sizeof value), ENOPROTOOPT);
    char byte;
    FAILS(recv(s, &byte, 1, MSG_DONTWAIT), EAGAIN);
    close(s);
    close(two);
    close(three);
    FAILS(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE), ESOCKTNOSUPPORT);
}

static void dumping(void)
{
    static char buffer[65536];
    struct rtgenmsg any = {.rtgen_family = AF_UNSPEC};
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), lo = 0, done = 0;
    int seq = ask(s, RTM_GETLINK, NLM_F_DUMP, &any, sizeof any);
    /* the size first, as iproute2 does it */
    ssize_t whole = recv(s, NULL, 0, MSG_PEEK | MSG_TRUNC);
    CHECK(whole > 0);
    while (!done) {
        ssize_t n = recv(s, buffer, sizeof buffer, 0);
        CHECK(n > 0);
        if (whole)
            EQ(n, whole);
        whole = 0;
        for (struct nlmsghdr *h = (void *)buffer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            EQ((int)h->nlmsg_seq, seq);
            CHECK(h->nlmsg_flags & NLM_F_MULTI);
            if (h->nlmsg_type == NLMSG_DONE) {
                done = 1;
                break;
            }
            EQ(h->nlmsg_type, RTM_NEWLINK);
            struct ifinfomsg *i = NLMSG_DATA(h);
            int left = IFLA_PAYLOAD(h);
            for (struct rtattr *a = IFLA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left))
                if (a->rta_type == IFLA_IFNAME && !strcmp(RTA_DATA(a), "lo")) {
                    EQ(i->ifi_index, 1);
                    CHECK(i->ifi_flags & IFF_LOOPBACK);
                    lo++;
                }
            EQ(left, 0);
        }
    }
    EQ(lo, 1);
    close(s);
}

static void single(void)
{
    static char buffer[65536];
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct ifinfomsg link = {.ifi_index = 1};
    EQ(answer(s, ask(s, RTM_GETLINK, 0, &link, sizeof link), buffer, sizeof buffer), RTM_NEWLINK);
    EQ(((struct ifinfomsg *)NLMSG_DATA(buffer))->ifi_index, 1);
    link.ifi_index = 9999;
    EQ(answer(s, ask(s, RTM_GETLINK, 0, &link, sizeof link), buffer, sizeof buffer), -ENODEV);
    int seq = ask(s, RTM_GETLINK, NLM_F_ACK, &link, sizeof link);
    EQ(answer(s, seq, buffer, sizeof buffer), -ENODEV);
    link.ifi_index = 1;
    seq = ask(s, RTM_GETLINK, NLM_F_ACK, &link, sizeof link);
    EQ(answer(s, seq, buffer, sizeof buffer), RTM_NEWLINK);
    EQ(answer(s, seq, buffer, sizeof buffer), 0);
    struct {
        struct rtmsg r;
        struct rtattr a;
        struct in_addr to;
    } way = {{.rtm_family = AF_INET, .rtm_dst_len = 32}, {8, RTA_DST}, {htonl(INADDR_LOOPBACK)}};
    EQ(answer(s, ask(s, RTM_GETROUTE, 0, &way, sizeof way), buffer, sizeof buffer), RTM_NEWROUTE);
    EQ(((struct rtmsg *)NLMSG_DATA(buffer))->rtm_type, RTN_LOCAL);
    close(s);
}

static void libc(void)
{
    struct ifaddrs *all = NULL;
    int v4 = 0;
    EQ(getifaddrs(&all), 0);
    for (struct ifaddrs *i = all; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !strcmp(i->ifa_name, "lo")) {
            EQ(((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
            EQ(((struct sockaddr_in *)i->ifa_netmask)->sin_addr.s_addr, htonl(0xff000000));
            v4++;
        }
    freeifaddrs(all);
    EQ(v4, 1);
    struct if_nameindex *names = if_nameindex();
    CHECK(names && names[0].if_index == 1 && !strcmp(names[0].if_name, "lo"));
    if_freenameindex(names);
}

MAIN(CASE(naming), CASE(dumping), CASE(single), CASE(libc))
