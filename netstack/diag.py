"""What NETLINK_SOCK_DIAG answers: the sockets of the sandbox as ss(8) lists them (sock_diag(7)).

Layer: netstack, beside rtnetlink.py.  May touch: the registry of sockets.
"""

from __future__ import annotations

import errno
import struct

from .address import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SOCK_DGRAM,
    SOCK_STREAM,
    Endpoint,
    err,
)
from .proctables import inet_sockets, state_of
from .rtnetlink import attribute
from .sock import CONNECTED, LISTENING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .inet import InetSock
    from .network import Network
    from .unix import UnixSock

SOCK_DIAG_BY_FAMILY = 20
_KINDS = {IPPROTO_TCP: SOCK_STREAM, IPPROTO_UDP: SOCK_DGRAM}


def dump(net: Network, request: bytes) -> list[bytes]:
    """The payloads of the answers to a dump.  Raises ENOENT for a family without a handler, EINVAL."""
    if len(request) < 8:
        raise err(errno.EINVAL)
    family, protocol, _, states = struct.unpack_from("<BBHI", request)
    if family == AF_UNIX:
        from .unix import UnixSock

        found = [s for s in list(net.sockets.values()) if isinstance(s, UnixSock)]
        return [_unix(s) for s in found if states >> _unix_state(s) & 1]
    if family not in (AF_INET, AF_INET6):
        raise err(errno.ENOENT)
    kind = _KINDS.get(protocol)
    if kind is None:
        raise err(errno.ENOENT)
    return [_inet(s) for s in inet_sockets(net, family, kind) if states >> state_of(s) & 1]


def _inet(sock: InetSock) -> bytes:
    """struct inet_diag_msg"""
    local, peer = _end(sock.local, sock.family), _end(sock.peer, sock.family)
    ports = struct.pack("!HH", sock.local.port, sock.peer.port if sock.peer is not None else 0)
    cookie = struct.pack("<IQ", 0, sock.ident[1])  # the interface that it is bound to, the cookie
    backlog = sock.backlog
    queues = (backlog.waiting, backlog.limit) if backlog is not None else (0, 0)
    head = struct.pack("<BBBB", sock.family, state_of(sock), 0, 0)
    return (
        head
        + ports
        + local
        + peer
        + cookie
        + struct.pack("<IIIII", 0, *queues, sock.uid, sock.ident[1] & 0xFFFFFFFF)
    )


def _end(where: Endpoint | None, family: int) -> bytes:
    if where is None:
        return bytes(16)
    packed = where.pack(family)
    return packed[8:24] if family == AF_INET6 else packed[4:8] + bytes(12)


def _unix_state(sock: UnixSock) -> int:
    return 10 if sock.state == LISTENING else 1 if sock.state == CONNECTED else 7


def _unix(sock: UnixSock) -> bytes:
    """struct unix_diag_msg and its attributes"""
    inode = sock.ident[1] & 0xFFFFFFFF
    out = struct.pack("<BBBxIQ", AF_UNIX, sock.type, _unix_state(sock), inode, sock.ident[1])
    if sock.name:
        out += attribute(0, sock.name)  # UNIX_DIAG_NAME
    backlog = sock.backlog
    return out + attribute(
        4, struct.pack("<II", *((backlog.waiting, backlog.limit) if backlog else (0, 0)))
    )  # RQLEN
