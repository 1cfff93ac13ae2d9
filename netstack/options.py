"""Socket options: what a program reads back is what it set, with Linux's defaults, limits and errors.

Layer: netstack, beside the families.  May touch: a socket's record, and the pair's end for what is handed down.

An option that the host kernel honours on the pair itself (timeouts, buffer sizes, peeking) is left to it: the
answer is None, "native".  The others have no effect on a connection that has no segments; they are checked, kept
and told (socket(7), tcp(7), ip(7), ipv6(7); sk_setsockopt, do_tcp_setsockopt, do_ip_setsockopt).
"""

from __future__ import annotations

import errno
import struct

from .address import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNIX,
    IPPROTO_ICMPV6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    err,
)
from .sock import CONNECTED, LISTENING, Sock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from ..kernel.task import Task

SOL_SOCKET = 1
SO_DEBUG, SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_DONTROUTE, SO_BROADCAST = 1, 2, 3, 4, 5, 6
SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_OOBINLINE, SO_PRIORITY, SO_LINGER = 7, 8, 9, 10, 12, 13
SO_REUSEPORT, SO_PASSCRED, SO_PEERCRED, SO_SNDLOWAT, SO_RCVTIMEO, SO_SNDTIMEO = 15, 16, 17, 19, 20, 21
SO_BINDTODEVICE, SO_PEERNAME, SO_ACCEPTCONN, SO_MARK, SO_PROTOCOL, SO_DOMAIN = 25, 28, 30, 36, 38, 39
SO_COOKIE, SO_PEERGROUPS, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW = 57, 59, 66, 67
IPV6_V6ONLY = 26
TCP_MAXSEG, TCP_INFO, TCP_CONGESTION, TCP_ULP = 2, 11, 13, 31
CAP_NET_ADMIN = 12

BOOL, INT, CONST = range(3)
_I = struct.Struct("<i")
_TIMEVAL = struct.Struct("<qq")
ABORT = struct.pack("<ii", 1, 0)  # SO_LINGER by which closing resets


class Option:
    """One that is kept: `default`, its kind, and the range of what may be set."""

    __slots__ = ("default", "high", "kind", "low")

    def __init__(
        self, default: int, kind: int = BOOL, low: int = -(1 << 31), high: int = (1 << 31) - 1
    ) -> None:
        self.default, self.kind, self.low, self.high = default, kind, low, high


#: SOL_SOCKET's, of every family
_SOCKET: dict[int, Option] = {
    SO_DEBUG: Option(0), SO_REUSEADDR: Option(0), SO_DONTROUTE: Option(0), SO_BROADCAST: Option(0),
    SO_KEEPALIVE: Option(0), SO_REUSEPORT: Option(0), 11: Option(0),  # SO_NO_CHECK
    SO_PRIORITY: Option(0, INT), SO_SNDLOWAT: Option(1, CONST), 14: Option(0),  # SO_BSDCOMPAT
    SO_MARK: Option(0, INT), 40: Option(0), 41: Option(0),  # SO_RXQ_OVFL, SO_WIFI_STATUS
    46: Option(0, INT, 0), 49: Option(-1, INT), 56: Option(0, CONST),  # SO_BUSY_POLL, INCOMING_CPU, NAPI_ID
    60: Option(0, INT, 0, 0), 69: Option(0), 70: Option(0, INT),  # SO_ZEROCOPY, PREFER_BUSY_POLL, BUDGET
    74: Option(0, INT, -1, 1),  # SO_TXREHASH
}  # fmt: skip
#: what the pair does as the kernel would: buffers, low-water mark, timestamps, filters, peeking, credentials
_NATIVE = frozenset((
    SO_SNDBUF, SO_RCVBUF, SO_OOBINLINE, SO_PASSCRED, 18, SO_RCVTIMEO, SO_SNDTIMEO, 26, 27, 29, 31, 32, 33, 34, 35,
    37, 42, 43, 44, 45, 47, 48, 50, 51, 55, SO_COOKIE, 61, 62, 63, 64, 65, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW, 68, 71,
    72, 73, 75, 76, 77, 78, 79, 80, 81, 82, 83,
))  # fmt: skip
_TCP: dict[int, Option] = {
    1: Option(0), 3: Option(0), TCP_MAXSEG: Option(536, INT, 0, 32767),  # NODELAY, CORK
    4: Option(7200, INT, 1, 32767), 5: Option(75, INT, 1, 32767), 6: Option(9, INT, 1, 127),  # KEEPIDLE, INTVL, CNT
    7: Option(6, INT, 1, 127), 8: Option(60, INT), 9: Option(0, INT), 10: Option(0, INT, 0),  # SYNCNT, LINGER2,
    12: Option(1), 16: Option(0, INT, 0, 1), 17: Option(0, INT, 0, 1), 18: Option(0, INT, 0),  # QUICKACK, THIN, TIMEOUT
    19: Option(0, INT), 23: Option(0, INT, 0), 24: Option(0, INT), 25: Option(-1, INT),  # FASTOPEN, NOTSENT_LOWAT
    30: Option(0), 34: Option(0), 36: Option(0, INT, 0, 1), 37: Option(0, INT),  # FASTOPEN_CONNECT, NO_COOKIE, INQ
}  # fmt: skip
_IP: dict[int, Option] = {
    1: Option(0, INT, 0, 255), 2: Option(64, INT, -1, 255), 3: Option(0), 5: Option(0, CONST), 6: Option(0),
    7: Option(0), 8: Option(0), 10: Option(1, INT, 0, 5), 11: Option(0), 12: Option(0), 13: Option(0), 15: Option(0),
    18: Option(0), 20: Option(0), 22: Option(0), 23: Option(0), 24: Option(0), 25: Option(0),
    33: Option(1, INT, -1, 255), 34: Option(1), 49: Option(1), 50: Option(0, INT), 51: Option(0, INT),
}  # fmt: skip
_IP_RAW = (3, 22)  # IP_HDRINCL, IP_NODEFRAG: of raw sockets, although others answer that they are off
_IP_TTL, _IP_MULTICAST_TTL, _IP_MTU, _IP_ROUTER_ALERT = 2, 33, 14, 5
_IP6: dict[int, Option] = {
    IPV6_V6ONLY: Option(0), 16: Option(64, INT, -1, 255), 17: Option(0, INT, 0, 1), 18: Option(1, INT, -1, 255),
    19: Option(1), 23: Option(1, INT, 0, 5), 25: Option(0), 29: Option(1), 30: Option(1), 33: Option(0), 36: Option(0),
    49: Option(0), 51: Option(0), 53: Option(0), 56: Option(0), 58: Option(0), 60: Option(0), 62: Option(0),
    66: Option(0), 67: Option(0, INT, -1, 255), 70: Option(0), 72: Option(0, INT, 0), 73: Option(0, INT), 74: Option(0),
    76: Option(0, INT), 78: Option(0),
}  # fmt: skip
#: IPV6_CHECKSUM; ICMP_FILTER and ICMPV6_FILTER are kept as they are
_RAW: dict[int, Option] = {7: Option(-1, INT)}
SOL_RAW, ICMP_FILTER = 255, 1
_UDP: dict[int, Option] = {}  # corking and segmentation are not kept
_UDPLITE: dict[int, Option] = {10: Option(8, INT, 0), 11: Option(8, INT, 0)}  # UDPLITE_SEND_CSCOV, RECV_CSCOV
SOL_NETLINK = 270
#: membership (1, 2), PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, CAP_ACK, EXT_ACK; not GET_STRICT_CHK: dumps are not filtered
_NETLINK: dict[int, Option] = {n: Option(0, INT if n < 3 else BOOL) for n in (1, 2, 3, 4, 5, 10, 11)}
#: groups.py's: the interface, joining and leaving
_GROUPS = {
    IPPROTO_IP: frozenset((32, *range(35, 41), *range(42, 48))),
    IPPROTO_IPV6: frozenset((17, 20, 21, *range(42, 48))),
}
_SNDBUF_MIN, _SNDBUF_MAX = 4608, 212992  # SOCK_MIN_SNDBUF, wmem_max
#: tcp_wmem[1], tcp_rmem[1]: what a TCP socket starts with
_TCP_BUFFERS = {SO_SNDBUF: 16384, SO_RCVBUF: 131072}
#: what is set on the host's own socket where a guest has one (publish.py): nothing by which it could go elsewhere
HOSTED = frozenset((
    *((SOL_SOCKET, n) for n in (SO_KEEPALIVE, SO_LINGER, SO_SNDBUF, SO_RCVBUF, SO_OOBINLINE)),
    *((IPPROTO_TCP, n) for n in (1, 3, 4, 5, 6, 12, 18)),
))  # fmt: skip


def _table(sock: Sock, level: int) -> dict[int, Option]:
    """The options that are kept at `level`.  EOPNOTSUPP or ENOPROTOOPT for a level that the family does not have."""
    if level == SOL_SOCKET:
        return _SOCKET
    if sock.family == AF_UNIX:
        raise err(errno.EOPNOTSUPP)
    if sock.family == AF_NETLINK:
        if level == SOL_NETLINK:
            return _NETLINK
        raise err(errno.ENOPROTOOPT)
    if level == IPPROTO_TCP and sock.type == SOCK_STREAM:
        return _TCP
    if level == IPPROTO_UDP and sock.type == SOCK_DGRAM:
        return _UDP
    if level == IPPROTO_UDPLITE and sock.protocol == IPPROTO_UDPLITE:
        return _UDPLITE
    if level == IPPROTO_IP:
        return _IP
    if level == IPPROTO_IPV6 and sock.family == AF_INET6:
        return _IP6
    if sock.type == SOCK_RAW and level in (SOL_RAW, IPPROTO_ICMPV6):
        return _RAW
    raise err(errno.ENOPROTOOPT)


# --- set ---------------------------------------------------------------------------------------------------


def set_option(t: Task, sock: Sock, level: int, name: int, data: bytes | None, length: int) -> bool:
    """setsockopt(2).  False: the host kernel does it to the pair (and what we need to know of it is noted)."""
    if length < 0:
        raise err(errno.EINVAL)
    table = _table(sock, level)
    data = data or b""
    if level == SOL_SOCKET and _set_socket(t, sock, name, data):
        if sock.hosted and (level, name) in HOSTED:
            return False
        return name not in _NATIVE or (name == SO_SNDBUF and sock.stuffed != 0)
    if level == IPPROTO_TCP and name == TCP_CONGESTION:
        if data.rstrip(b"\0") not in (b"cubic", b"reno"):
            raise err(errno.ENOENT)
        sock.options[level, name] = data.rstrip(b"\0")
        return True
    if level == IPPROTO_TCP and name == TCP_ULP:  # no upper layer (tls) is there
        raise err(errno.ENOENT if data else errno.EINVAL)
    if table is _RAW and name == ICMP_FILTER:
        sock.options[level, name] = data[:32]
        return True
    option = table.get(name)
    if name in _GROUPS.get(level, ()):
        from .groups import set_group_option

        set_group_option(sock, level, name, data)
        return True
    if option is None:
        raise err(errno.ENOPROTOOPT)
    if level == IPPROTO_IP and 1 <= len(data) < 4:
        value = data[0]
    elif len(data) < 4:
        raise err(errno.EINVAL)
    else:
        value = _I.unpack_from(data)[0]
    _keep(t, sock, level, name, option, value)
    return not (sock.hosted and (level, name) in HOSTED)


def _keep(t: Task, sock: Sock, level: int, name: int, option: Option, value: int) -> None:
    if level == IPPROTO_IP and name == _IP_ROUTER_ALERT and sock.type != SOCK_RAW:
        raise err(errno.EINVAL)  # ip_ra_control()
    if option.kind == CONST:
        raise err(errno.ENOPROTOOPT)
    if level == IPPROTO_IP and name in _IP_RAW and sock.type != SOCK_RAW:
        raise err(errno.ENOPROTOOPT)
    if option.kind == BOOL:
        value = int(value != 0)
    elif not option.low <= value <= option.high and not (level == IPPROTO_IP and name == 1):
        raise err(errno.EINVAL)
    if (level, name) == (IPPROTO_IPV6, IPV6_V6ONLY) and getattr(sock, "local").port:  # noqa: B009
        raise err(errno.EINVAL)
    if level == SOL_SOCKET and name in (SO_DEBUG, SO_MARK) and value and not t.creds.capable(CAP_NET_ADMIN):
        raise err(errno.EACCES if name == SO_DEBUG else errno.EPERM)
    if (
        level == SOL_SOCKET
        and name == SO_PRIORITY
        and not 0 <= value <= 6
        and not t.creds.capable(CAP_NET_ADMIN)
    ):
        raise err(errno.EPERM)
    if level == IPPROTO_IP:
        if name == 1:
            value &= 0xFF if sock.type != SOCK_STREAM else 0xFC
        elif name in (_IP_TTL, _IP_MULTICAST_TTL):
            if value == 0 and name == _IP_TTL:
                raise err(errno.EINVAL)
            value = value if value != -1 else 64 if name == _IP_TTL else 1
    if level == IPPROTO_IPV6 and value == -1 and name in (16, 18, 67):
        value = option.default
    sock.options[level, name] = _I.pack(value)


def _set_socket(t: Task, sock: Sock, name: int, data: bytes) -> bool:
    """SOL_SOCKET's special ones; False where the table says enough."""
    if name == SO_BINDTODEVICE:
        device = data[:15].split(b"\0", 1)[0]
        if device not in (b"", b"lo", b"eth0"):
            raise err(errno.ENODEV)
        sock.options[SOL_SOCKET, name] = device
        return True
    if len(data) < 4:
        raise err(errno.EINVAL)
    if name in (
        SO_TYPE,
        SO_ERROR,
        SO_PROTOCOL,
        SO_DOMAIN,
        SO_ACCEPTCONN,
        SO_PEERCRED,
        SO_PEERNAME,
        SO_PEERGROUPS,
    ):
        raise err(errno.ENOPROTOOPT)
    if name == SO_LINGER:
        if len(data) < 8:
            raise err(errno.EINVAL)
        on, seconds = struct.unpack_from("<ii", data)
        sock.options[SOL_SOCKET, name] = struct.pack("<ii", on != 0, seconds if on else _linger(sock)[1])
        return True
    if name == SO_REUSEPORT and sock.family == AF_UNIX and _I.unpack_from(data)[0]:
        raise err(errno.EOPNOTSUPP)
    if name in (SO_SNDTIMEO, SO_SNDTIMEO_NEW) and len(data) >= 16:
        seconds, micros = _TIMEVAL.unpack_from(data)
        if 0 <= micros < 1000000:
            sock.send_timeout = max(0.0, seconds + micros / 1e6)
    elif name in (SO_SNDBUF, SO_RCVBUF):
        sock.options[SOL_SOCKET, name] = data[:4]
        if name == SO_SNDBUF and sock.stuffed:
            sock.stuffed = max(_SNDBUF_MIN, 2 * min(_I.unpack_from(data)[0], _SNDBUF_MAX))
    _check_family(sock, name)
    return name in _NATIVE


def _check_family(sock: Sock, name: int) -> None:
    """What only local sockets have: SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD, SO_PASSRIGHTS."""
    if name in (SO_PASSCRED, 34, 76, 83) and sock.family != AF_UNIX:
        raise err(errno.EOPNOTSUPP)


def _linger(sock: Sock) -> tuple[int, int]:
    on, seconds = struct.unpack("<ii", sock.options.get((SOL_SOCKET, SO_LINGER), bytes(8)))
    return on, seconds


# --- get ---------------------------------------------------------------------------------------------------


def get_option(t: Task, sock: Sock, level: int, name: int, room: int) -> bytes | None:
    """getsockopt(2): the value, not yet cut to `room`; None: the host kernel knows it of the pair."""
    if level == SOL_SOCKET:
        value = _get_socket(sock, name)
        if value is not None:
            return value
        if name in _NATIVE or name == SO_ERROR:
            _check_family(sock, name)
            return None
    try:
        table = _table(sock, level)
    except OSError:
        if sock.family == AF_INET:
            raise err(errno.EOPNOTSUPP) from None  # ip_getsockopt(); the others say ENOPROTOOPT here too
        raise
    if level == IPPROTO_TCP and name == TCP_CONGESTION:
        return sock.options.get((level, name), b"cubic").ljust(16, b"\0")
    if level == IPPROTO_TCP and name == TCP_ULP:
        return b""
    if level == IPPROTO_TCP and name == TCP_INFO:
        if sock.hosted:
            return None
        return _tcp_info(sock)
    if level in (IPPROTO_IP, IPPROTO_IPV6) and name == (_IP_MTU if level == IPPROTO_IP else 24):
        if sock.state != CONNECTED:
            raise err(errno.ENOTCONN)
        return _I.pack(65536)
    if level == IPPROTO_IP and name == 4:
        return b""  # IP_OPTIONS
    if table is _RAW and name == ICMP_FILTER:
        return sock.options.get((level, name), bytes(4 if level == SOL_RAW else 32))
    if name in _GROUPS.get(level, ()):
        from .groups import interface_option

        return interface_option(sock, level, name)
    option = table.get(name)
    if option is None:
        raise err(errno.ENOPROTOOPT)
    kept = sock.options.get((level, name))
    value = kept if kept is not None else _I.pack(_default(sock, level, name, option))
    if level == IPPROTO_IP and 0 < room < 4 and 0 <= _I.unpack(value)[0] <= 255:
        return value[:1]
    return value


def _default(sock: Sock, level: int, name: int, option: Option) -> int:
    if level == IPPROTO_TCP and name == TCP_MAXSEG and sock.state == CONNECTED:
        return 32768
    return option.default


def _get_socket(sock: Sock, name: int) -> bytes | None:
    if name == SO_TYPE:
        return _I.pack(sock.type)
    if name == SO_DOMAIN:
        return _I.pack(sock.family)
    if name == SO_PROTOCOL:
        return _I.pack(sock.protocol)
    if name == SO_ACCEPTCONN:
        return _I.pack(sock.state == LISTENING)
    if name == SO_ERROR:
        number = sock.take_error()
        return None if not number and sock.native else _I.pack(number)
    if name == SO_LINGER:
        return struct.pack("<ii", *_linger(sock))
    if name == SO_SNDBUF and sock.stuffed and (sock.family == AF_UNIX or (SOL_SOCKET, name) in sock.options):
        return _I.pack(sock.stuffed)
    if name == SO_PEERCRED:
        return struct.pack("<iII", *sock.peer_creds)
    if name == SO_PEERGROUPS and sock.peer_creds[1] == 0xFFFFFFFF:
        raise err(errno.ENODATA)
    if name == SO_PEERNAME:
        return sock.peername()
    if name == SO_BINDTODEVICE:
        device = sock.options.get((SOL_SOCKET, name), b"")
        return device + b"\0" if device else b""
    if name in _TCP_BUFFERS and sock.family in (AF_INET, AF_INET6) and sock.type == SOCK_STREAM:
        return None if (SOL_SOCKET, name) in sock.options else _I.pack(_TCP_BUFFERS[name])
    return None


def _tcp_info(sock: Sock) -> bytes:
    """struct tcp_info of a connection without loss: state, segment sizes, a round trip of 25 microseconds."""
    state = {CONNECTED: 1, LISTENING: 10}.get(sock.state, 7)
    info = bytearray(248)
    info[0] = state
    struct.pack_into("<IIII", info, 8, 200000, 40000, 32768, 536)  # rto, ato, snd_mss, rcv_mss
    struct.pack_into(
        "<IIIIII", info, 60, 65535, 65483, 25, 12, 0x7FFFFFFF, 10
    )  # pmtu .. rtt, rttvar, ssthresh, cwnd
    return bytes(info)


def ancillary(receiver: Sock, sender: Sock, host: bytes, index: int = 1) -> bytes:
    """The control messages that `receiver` asked for about a datagram to `host`, whole (ip_cmsg_recv,
    ip6_datagram_recv_ctl): where it went and by which interface, its time to live, its class."""
    out = b""
    for level, wanted, kind in _ANCILLARY.get(receiver.family, ()):
        if not any(receiver.options.get((level, wanted), b"")):
            continue
        out += _control(level, kind, _about(level, kind, sender, host, index))
    return out


#: per family: level, the option that asks, the type of the control message
_ANCILLARY = {
    AF_INET: ((IPPROTO_IP, 8, 8), (IPPROTO_IP, 12, 2), (IPPROTO_IP, 13, 1)),
    AF_INET6: ((IPPROTO_IPV6, 49, 50), (IPPROTO_IPV6, 51, 52), (IPPROTO_IPV6, 66, 67)),
}


def _control(level: int, kind: int, data: bytes) -> bytes:
    return struct.pack("<Qii", 16 + len(data), level, kind) + data + bytes(-len(data) % 8)


def _about(level: int, kind: int, sender: Sock, host: bytes, index: int) -> bytes:
    if (level, kind) == (IPPROTO_IP, 8):
        return struct.pack("<i4s4s", index, host[-4:], host[-4:])
    if (level, kind) == (IPPROTO_IPV6, 50):
        mapped = bytes(10) + b"\xff\xff" + host if len(host) == 4 else host
        return mapped + struct.pack("<i", index)
    if (level, kind) == (IPPROTO_IP, 1):
        return sender.options.get((IPPROTO_IP, 1), bytes(4))[:1]
    if level == IPPROTO_IP:
        return sender.options.get((IPPROTO_IP, 2), _I.pack(64))
    return sender.options.get((IPPROTO_IPV6, 16 if kind == 52 else 67), _I.pack(64 if kind == 52 else 0))


def apply_inherited(end: socket.socket, options: dict[tuple[int, int], bytes]) -> None:
    """What a listener hands down to a connection and the pair has to honour: its buffer sizes."""
    for name in (SO_SNDBUF, SO_RCVBUF):
        size = options.get((SOL_SOCKET, name))
        if size is not None:
            end.setsockopt(SOL_SOCKET, name, _I.unpack(size)[0])
    flags = sum(bit for name, bit in ((1, 1), (3, 2)) if any(options.get((IPPROTO_TCP, name), b"")))
    if options.get((SOL_SOCKET, SO_LINGER)) == ABORT:
        flags |= 16
    if flags:
        end.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("<ii", 1, flags))  # where core_native/tcp.c looks
