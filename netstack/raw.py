"""Raw sockets, and ICMP's own datagram sockets, where they are allowed (raw(7), icmp(7)).

Layer: netstack, above inet.py.  May touch: nothing; where their packets go is icmp.py's.

A raw socket's protocol stands in for its port, as in Linux.  An ICMP datagram socket's port is the identifier of its
echo requests (net/ipv4/ping.c).
"""

from __future__ import annotations

import errno
import struct

from .address import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IP,
    IPPROTO_RAW,
    SOCK_RAW,
    Endpoint,
    err,
    family_of,
    parse_inet,
)
from .inet import InetSock
from .options import ICMP_FILTER, SOL_RAW
from .sock import CONNECTED, FRESH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.task import FdRef, Task
    from .network import Network
    from .ports import Ports
    from .sock import Receiver

IP_HDRINCL, IP_TTL, IPV6_UNICAST_HOPS = 3, 2, 16
PACKET_MAX = {AF_INET: 65515, AF_INET6: 65535}
ECHO_REQUEST = {AF_INET: 8, AF_INET6: 128}
ECHO_REPLY = {AF_INET: 0, AF_INET6: 129}
#: what a packet's way over the wire says of it (Wire.address(), `flags`)
PING, HEADER = 1, 2


class RawSock(InetSock):
    """A raw socket, or with SOCK_DGRAM one of ICMP's (`pings`)."""

    __slots__ = ()

    def __init__(self, net: Network, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, family, kind, protocol)
        net.raws[self] = None
        if not self.pings:
            self.local.port = protocol

    @property
    def pings(self) -> bool:
        return self.type != SOCK_RAW

    @property
    def ports(self) -> Ports:
        return self.net.pings

    def listen(self, t: Task, backlog: int) -> None:
        raise err(errno.EOPNOTSUPP)

    def bind(self, t: Task, raw: bytes) -> None:
        if self.pings:
            super().bind(t, raw)
            return
        where = parse_inet(self.family, raw)
        if not (where.wildcard or self.net.owns(where.host) or self.is_group(where.host)):
            raise err(errno.EADDRNOTAVAIL)
        self.local = Endpoint(where.host, self.protocol)

    def connect(self, t: Task, raw: bytes, fd: FdRef) -> int:
        if family_of(raw) == AF_UNSPEC:
            self.state, self.peer = FRESH, None
            return 0
        where = self._reach(parse_inet(self.family, raw))
        if self.pings:
            self.autobind(t)
        self.local.host = self.source_for(where).host
        self.peer, self.state = where, CONNECTED
        return 0

    def _reach(self, where: Endpoint) -> Endpoint:
        """The destination, if there is a way to it.  Raises ENETUNREACH, EHOSTUNREACH."""
        where = self.destination_of(where)
        if not self.net.owns(where.host) and not self.is_group(where.host):
            self.net.segment.check_host(where)
        return where

    def route(self, t: Task, raw: bytes | None, size: int) -> tuple[Receiver, bytes, bytes] | None:
        if self.error:
            raise err(self.take_error())
        if raw is None and self.peer is None:
            raise err(errno.EDESTADDRREQ)
        if size > PACKET_MAX[self.family]:
            raise err(errno.EMSGSIZE)
        if self.pings and size < 8:
            raise err(errno.EINVAL)
        if raw is None:
            assert self.peer is not None
            where = self.peer
        else:
            where = self._reach(parse_inet(self.family, raw))
        if self.pings:
            self.autobind(t)
        header = self._flag(IPPROTO_IP, IP_HDRINCL) if self.family == AF_INET else False
        flags = PING * self.pings | HEADER * (header or self.protocol == IPPROTO_RAW)
        wire = self.net.segment.wire
        source = self.source_for(where)
        return (
            wire,
            source.pack(AF_INET6),
            wire.address(where, self._ttl(), protocol=self.protocol, flags=flags),
        )

    def _ttl(self) -> int:
        key = (IPPROTO_IP, IP_TTL) if self.family == AF_INET else (41, IPV6_UNICAST_HOPS)
        kept = self.options.get(key)
        return struct.unpack("<i", kept)[0] & 0xFF if kept else 64

    def wants(self, protocol: int, source: Endpoint, dest: Endpoint, payload: bytes) -> bool:
        """Does it get a packet with this payload?"""
        if self.protocol != protocol or len(dest.host) != len(self._nowhere().host):
            return False
        if not self.local.wildcard and self.local.host != dest.host:
            return False
        if self.peer is not None and self.peer.host != source.host:
            return False
        if self.pings:
            answers = payload[:1] == bytes((ECHO_REPLY[self.family],))
            return answers and payload[4:6] == self.local.port.to_bytes(2, "big")
        return not self._filtered(payload[0] if payload else 0)

    def _filtered(self, kind: int) -> bool:
        """ICMP_FILTER: bits of those of the first 32 types that are not wanted; of IPv6 of all 256."""
        kept = self.options.get((SOL_RAW if self.family == AF_INET else IPPROTO_ICMPV6, ICMP_FILTER))
        if not kept or (self.protocol == IPPROTO_ICMP and kind >= 32):
            return False
        word: int = struct.unpack_from("<I", kept.ljust(32, b"\0"), kind // 32 * 4)[0]
        return bool(word >> (kind % 32) & 1)

    def shutdown(self, how: int) -> int:
        if self.state == FRESH:
            raise err(errno.ENOTCONN)
        return super().shutdown(how)

    def released(self) -> None:
        self.net.raws.pop(self, None)
        super().released()
