"""Strategies for socket calls: what a step of the model test may be.

Layer: tests. A step is one line for servant.py: the slot of a process, the call, its arguments.
"""

from __future__ import annotations

import socket
import struct

from hypothesis import strategies as st

SLOTS = 3
NOP = ""
S = st.SearchStrategy[str]


def words(text: str) -> S:
    """One of these words; a word that is there twice is twice as likely."""
    return st.sampled_from(text.split())


sock: S = words("0 0 0 0 1 1 1 2 2 3 4 5 7")
_PORTS = ["p0", "p0", "p0", "p1", "e0", "e0", "e1", "e2", "9", "0"]
_HOSTS = {
    "4": ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2", "0.0.0.0"],
    "6": ["::1", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"],
}
_inet: S = st.sampled_from(
    [f"{family}/{host}/{port}" for family in "44466" for host in _HOSTS[family] for port in _PORTS]
)
_unix: S = st.sampled_from(["u/a", "u/a", "u/b", "u/@x", "u/@x", "u/"])
where: S = st.one_of(_inet, _inet, _unix)
size: S = words("0 1 1 5 5 10 100 3000")
room: S = words("1 5 5 5 10 100 10000 10000")
send_flags: S = st.sampled_from([0, 0, 0, 0, 0, socket.MSG_EOR]).map(str)
recv_flags: S = st.sampled_from(
    [0, 0, 0, 0, socket.MSG_PEEK, socket.MSG_TRUNC, socket.MSG_WAITALL, socket.MSG_OOB,
     socket.MSG_PEEK | socket.MSG_TRUNC]
).map(str)  # fmt: skip
backlog: S = words("5 5 5 1 0 128 -1")


def _int(value: int) -> str:
    return struct.pack("i", value).hex()


_SOL, _TCP, _IP, _IPV6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6
#: Options whose values do not depend on the machine.
_READ = [
    *[(_SOL, name) for name in (socket.SO_REUSEADDR, socket.SO_TYPE, socket.SO_ERROR, socket.SO_KEEPALIVE,
                                socket.SO_BROADCAST, socket.SO_OOBINLINE, socket.SO_ACCEPTCONN, socket.SO_PROTOCOL,
                                socket.SO_DOMAIN, socket.SO_REUSEPORT, socket.SO_RCVLOWAT, socket.SO_PASSCRED)],
    *[(_TCP, name) for name in (socket.TCP_NODELAY, socket.TCP_CORK, socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT,
                                socket.TCP_DEFER_ACCEPT, socket.TCP_USER_TIMEOUT)],
    *[(_IP, name) for name in (socket.IP_TOS, socket.IP_TTL, socket.IP_RECVTOS, 8)],
    *[(_IPV6, name) for name in (socket.IPV6_V6ONLY, socket.IPV6_UNICAST_HOPS, socket.IPV6_RECVPKTINFO,
                                 socket.IPV6_TCLASS)],
]  # fmt: skip
#: Not what holds bytes back for a while: that is a matter of time.
_WRITTEN = [one for one in _READ if one != (_TCP, socket.TCP_CORK)]
option: S = st.sampled_from(_READ).map(lambda one: f"{one[0]} {one[1]}")
get: S = st.builds(lambda o, n: f"{o} {n}", option, words("4 4 4 4 8 1"))
linger: S = st.sampled_from([struct.pack("ii", 1, 0).hex(), struct.pack("ii", 0, 5).hex()]).map(
    lambda value: f"{_SOL} {socket.SO_LINGER} {value}"
)
reuse: S = st.sampled_from([socket.SO_REUSEADDR, socket.SO_REUSEPORT]).map(
    lambda name: f"{_SOL} {name} {_int(1)}"
)
put: S = st.one_of(
    reuse,
    reuse,
    st.builds(
        lambda one, value: f"{one[0]} {one[1]} {value}",
        st.sampled_from(_WRITTEN),
        st.sampled_from([_int(1), _int(1), _int(0), _int(7), _int(-1), _int(300), "01"]),
    ),
)
events: S = st.sampled_from(
    [0x1, 0x5, 0x2005, 0x4 | 1 << 31, 0x2005 | 1 << 31, 0x5 | 1 << 30, 0x1 | 1 << 28, 0x3 | 1 << 31]
).map(hex)

#: Call -> how often, and the strategies of its arguments (one may give several words).
CALLS: dict[str, tuple[int, tuple[S, ...]]] = {
    "socket": (10, (words("4 4 4 6 6 u u"), words("s s s d d q"))),
    "socketpair": (2, (words("s d q"),)),
    "conversation": (4, (words("4 4 6 u"),)),
    "bind": (8, (sock, where)),
    "listen": (6, (sock, backlog)),
    "connect": (10, (sock, where)),
    "accept": (9, (sock,)),
    "send": (8, (sock, size, send_flags)),
    "sendto": (5, (sock, size, send_flags, where)),
    "pass": (2, (sock, words("1 5"), sock)),
    "recv": (8, (sock, room, recv_flags)),
    "recvfrom": (3, (sock, room, recv_flags)),
    "recvmsg": (4, (sock, room, recv_flags)),
    "shutdown": (4, (sock, words("0 1 2 3"))),
    "close": (4, (sock,)),
    "dup": (2, (sock,)),
    "name": (3, (sock,)),
    "peer": (3, (sock,)),
    "get": (5, (sock, get)),
    "set": (4, (sock, put)),
    "ioctl": (2, (sock, words("0x541b 0x8905"))),  # FIONREAD, SIOCATMARK
    "poll": (6, (sock,)),
    "pollall": (2, ()),
    "watch": (3, (sock, words("add add add mod del"), events)),
    "wait": (3, ()),
    "unlink": (1, (words("a b"),)),
    "fork": (2, (st.integers(0, SLOTS - 1).map(str),)),
}


def steps() -> S:
    """One step; NOP is the simplest, so a failing sequence shrinks to what it needs."""
    slot = words("0 0 0 1 1 2")
    many = [
        st.builds(lambda *all_of, call=call: " ".join([all_of[0], call, *all_of[1:]]), slot, *arguments)
        for call, (often, arguments) in CALLS.items()
        for _ in range(often)
    ]
    return st.one_of(st.just(NOP), *[st.one_of(many)] * 19)


def usable(step: str) -> bool:
    """A process does not fork into its own place."""
    parts = step.split()
    return bool(parts) and not (parts[1] == "fork" and parts[0] == parts[2])
