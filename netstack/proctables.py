"""The tables of /proc/net: sockets, interfaces, routes, as text (proc_pid_net(5)).

Layer: netstack, on top.  May touch: the registry of sockets.

ss and netstat find whose a socket is by its inode: it is that of the guest's descriptor, as /proc/PID/fd shows it.
"""

from __future__ import annotations

from .address import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, Endpoint
from .interfaces import Route, interfaces, mask, routes
from .sock import CONNECTED, LISTENING, TIME_WAIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .inet import InetSock
    from .netlink import NetlinkSock
    from .network import Network
    from .unix import UnixSock

_ESTABLISHED, _TIME_WAIT, _CLOSE, _LISTEN = 1, 6, 7, 10
_STATES = {LISTENING: _LISTEN, CONNECTED: _ESTABLISHED, TIME_WAIT: _TIME_WAIT}
_INET = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
_INET6 = (
    "  sl  local_address                         remote_address                        "
    "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
)
_TAIL = " ref pointer drops"
_ROUTE = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
_UNIX = "Num       RefCount Protocol Flags    Type St Inode Path\n"
_NETLINK = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
_ACCEPTING, _UNIX_UNCONNECTED, _UNIX_CONNECTED = 0x10000, 1, 3


def inet_sockets(net: Network, family: int, kind: int) -> Iterator[InetSock]:
    """The IP sockets that Linux lists: those that listen or are connected, and datagram sockets with a port."""
    from .inet import InetSock

    net.catch_up()
    for sock in (*list(net.sockets.values()), *list(net.endings.waiting)):
        if isinstance(sock, InetSock) and sock.family == family and sock.type == kind and sock.local.port:
            if kind == SOCK_DGRAM or sock.state in _STATES:
                yield sock


def _end(where: Endpoint | None, family: int) -> str:
    if where is None:
        return "0" * (8 if family == AF_INET else 32) + ":0000"
    raw = where.pack(family)[4:8] if family == AF_INET else where.pack(family)[8:24]
    words = [raw[i : i + 4][::-1].hex().upper() for i in range(0, len(raw), 4)]
    return f"{''.join(words)}:{where.port:04X}"


def state_of(sock: InetSock) -> int:
    """TCP_ESTABLISHED, TCP_LISTEN, TCP_TIME_WAIT, or TCP_CLOSE."""
    return _STATES.get(sock.state, _CLOSE)


def _waiting(sock: InetSock) -> int:
    """rx_queue: of a listener the connections that wait."""
    return sock.backlog.waiting if sock.backlog is not None else 0


def inet_table(net: Network, family: int, kind: int) -> bytes:
    """/proc/net/tcp, tcp6, udp, udp6."""
    datagrams = kind == SOCK_DGRAM
    width = 0 if family == AF_INET6 else 127 if datagrams else 149
    heading = (_INET if family == AF_INET else _INET6) + (_TAIL if datagrams else "")
    lines = [((" " if datagrams and not family == AF_INET6 else "") + heading).ljust(width)]
    wide = 5 if datagrams and family == AF_INET else 4
    for number, sock in enumerate(inet_sockets(net, family, kind)):
        ends = f"{_end(sock.local, family)} {_end(sock.peer, family)} {state_of(sock):02X}"
        line = f"{number:{wide}}: {ends} 00000000:{_waiting(sock):08X} 00:00000000 00000000 {sock.uid:5}        0"
        line += f" {sock.ident[1]} {2 if datagrams else 1} 0000000000000000"
        lines.append((line + (" 0" if datagrams else " 100 0 0 10 0")).ljust(width))
    return "".join(line + "\n" for line in lines).encode()


def unix_table(net: Network) -> bytes:
    """/proc/net/unix"""
    from .unix import UnixSock

    net.catch_up()
    lines = [_UNIX]
    for sock in list(net.sockets.values()):
        if isinstance(sock, UnixSock):
            state = _UNIX_CONNECTED if sock.state == CONNECTED else _UNIX_UNCONNECTED
            flags = _ACCEPTING if sock.state == LISTENING else 0
            line = f"0000000000000000: 00000002 00000000 {flags:08X} {sock.type:04X} {state:02X} {sock.ident[1]:5}"
            lines.append(f"{line} {_path(sock)}".rstrip() + "\n")
    return "".join(lines).encode("latin-1")


def _path(sock: UnixSock) -> str:
    return sock.name.decode("latin-1").replace("\0", "@")


def netlink_table(net: Network) -> bytes:
    """/proc/net/netlink"""
    lines = [_NETLINK]
    for port, sock in sorted(net.netlink_ports.items()):
        what: NetlinkSock = sock
        line = f"{0:016x} {what.protocol:<3} {port:<10} {what.groups:08x} {0:<8} {0:<8} 0     {2:<8} {0:<8} "
        lines.append(f"{line}{what.ident[1]:<8}\n")
    return "".join(lines).encode()


def dev_table(net: Network) -> bytes:
    """/proc/net/dev"""
    heading = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast"
        "|bytes    packets errs drop fifo colls carrier compressed\n"
    )
    counters = "       0       0    0    0    0     0          0         0"
    counters += "        0       0    0    0    0     0       0          0"
    return (heading + "".join(f"{d.name:>6}:{counters}\n" for d in interfaces(net.own))).encode()


def _hex(address: bytes) -> str:
    return address[::-1].hex().upper()


def route_table(net: Network) -> bytes:
    """/proc/net/route: the main table's IPv4 routes"""
    lines = [_ROUTE]
    for entry in _main(net, 4):
        flags = 3 if entry.gateway else 1  # RTF_UP, RTF_GATEWAY
        fields = (
            entry.device.name,
            _hex(entry.dest),
            _hex(entry.gateway or bytes(4)),
            f"{flags:04X}",
            "0",
            "0",
            "0",
        )
        lines.append("\t".join((*fields, _hex(mask(entry.bits)), "0", "0", "0")))
    return "".join(line.ljust(127) + "\n" for line in lines).encode()


def _main(net: Network, size: int) -> list[Route]:
    return [r for r in routes(net.own, net.has_egress) if len(r.dest) == size and not r.local]


def ipv6_route_table(net: Network) -> bytes:
    """/proc/net/ipv6_route"""
    out = ""
    nothing = bytes(16).hex()
    for entry in routes(net.own, net.has_egress):
        if len(entry.dest) == 16:
            metric, flags = (0, 0x80200001) if entry.local else (0x400, 3) if entry.gateway else (0x100, 1)
            gateway = (entry.gateway or bytes(16)).hex()
            out += (
                f"{entry.dest.hex()} {entry.bits:02x} {nothing} 00 {gateway} {metric:08x} 00000001 00000000 "
            )
            out += f"{flags:08x} {entry.device.name:>8}\n"
    return out.encode()


def if_inet6_table(net: Network) -> bytes:
    """/proc/net/if_inet6"""
    return "".join(
        f"{d.v6.hex()} {d.index:02x} {d.prefix6:02x} {'10 80' if d.loopback else '00 82'} {d.name:>8}\n"
        for d in interfaces(net.own)
    ).encode()


def _in_use(net: Network, family: int) -> tuple[int, int]:
    """How many TCP and UDP sockets of a family there are."""
    tcp, udp = (len(list(inet_sockets(net, family, kind))) for kind in (SOCK_STREAM, SOCK_DGRAM))
    return tcp, udp


def sockstat_table(net: Network) -> bytes:
    """/proc/net/sockstat"""
    tcp, udp = _in_use(net, AF_INET)
    return (
        f"sockets: used {len(net.sockets)}\nTCP: inuse {tcp} orphan 0 tw {len(net.endings.waiting)} alloc {tcp} mem 0\n"
        f"UDP: inuse {udp} mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n"
    ).encode()


def sockstat6_table(net: Network) -> bytes:
    """/proc/net/sockstat6"""
    tcp, udp = _in_use(net, AF_INET6)
    return (
        f"TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n"
    ).encode()


def _igmp(net: Network) -> bytes:
    from .groups import igmp_table

    net.catch_up()
    return igmp_table(net)


def _igmp6(net: Network) -> bytes:
    from .groups import igmp6_table

    net.catch_up()
    return igmp6_table(net)


#: by the file's name
TABLES: dict[str, Callable[[Network], bytes]] = {
    "dev": dev_table,
    "igmp": _igmp,
    "igmp6": _igmp6,
    "if_inet6": if_inet6_table,
    "ipv6_route": ipv6_route_table,
    "netlink": netlink_table,
    "route": route_table,
    "sockstat": sockstat_table,
    "sockstat6": sockstat6_table,
    "tcp": lambda net: inet_table(net, AF_INET, SOCK_STREAM),
    "tcp6": lambda net: inet_table(net, AF_INET6, SOCK_STREAM),
    "udp": lambda net: inet_table(net, AF_INET, SOCK_DGRAM),
    "udp6": lambda net: inet_table(net, AF_INET6, SOCK_DGRAM),
    "unix": unix_table,
}
