"""UDP and UDP-Lite of a sandbox (udp(7)): within its own machine; what leaves it is segment.py's.

Layer: netstack, above inet.py.  May touch: the ends that datagrams are written into.
"""

from __future__ import annotations

import errno

from .address import AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_UDP, Endpoint, err, family_of
from .inet import InetSock
from .listener import peer_message
from .options import ancillary
from .sock import CONNECTED, FRESH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.task import FdRef, Task
    from .groups import Outgoing
    from .network import Network
    from .publish import PublishedDatagrams
    from .sock import Receiver

LOCAL = 0x80  # see Wire.address()
DATAGRAM_MAX = {AF_INET: 65507, AF_INET6: 65527}  # what fits into an IP packet behind the UDP header


class UdpSock(InetSock):
    """A datagram socket."""

    __slots__ = ("published",)

    def __init__(self, net: Network, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, family, kind, protocol)
        self.published: PublishedDatagrams | None = None

    def bind(self, t: Task, raw: bytes) -> None:
        super().bind(t, raw)
        if self.net.mode == "host" and self.chosen[1] and self.protocol == IPPROTO_UDP:
            self._publish()

    def _publish(self) -> None:
        """With the host's network, its port is one of the host's, unless another socket's on it is already."""
        from .publish import publish_bound

        if any(isinstance(other, UdpSock) and other.published for other in self.ports.holders(self.local.port)):
            return
        try:
            self.published = publish_bound(self.net.segment, self)
        except OSError:
            self.chosen = (False, False)
            self.unbind()
            raise

    def listen(self, t: Task, backlog: int) -> None:
        raise err(errno.EOPNOTSUPP)

    def connect(self, t: Task, raw: bytes, fd: FdRef) -> int:
        if family_of(raw) == AF_UNSPEC:
            self.state = FRESH
            self.unbind()
            return 0
        where = self.destination(raw)
        several = self.is_group(where.host)
        if self.net.policy is None and not several and self.leaves(where):
            self.net.segment.check_route(where)
        self.autobind(t)
        self.local.host = (self._outgoing(where).source if several else self.source_for(where)).host
        self.peer = where
        self.state = CONNECTED
        return 0

    def route(self, t: Task, raw: bytes | None, size: int) -> tuple[Receiver, bytes, bytes] | None:
        self.autobind(t)  # whatever comes of it (inet_send_prepare())
        if raw is None and self.peer is None:
            raise err(errno.EDESTADDRREQ)
        if raw is not None:
            where = self._meant(raw)
        else:
            assert self.peer is not None
            where = self.peer
        if not where.port and raw is not None:  # whoever is connected there is not asked
            raise err(errno.EINVAL)
        if size > DATAGRAM_MAX[self.family]:
            raise err(errno.EMSGSIZE)
        if self.error:  # the last two are sock_alloc_send_pskb()'s
            raise err(self.take_error())
        if self.shut & 2:
            raise err(errno.EPIPE)
        allowed = False
        if self.net.policy is not None:
            where, allowed = self.net.policy.decide("datagram", t, self, where)
        if self.is_group(where.host):
            wire, out = self.net.segment.wire, self._outgoing(where)
            dest = Endpoint(where.host, where.port, 0, out.index)
            return wire, out.source.pack(AF_INET6), wire.address(dest, out.ttl, out.loop)
        source = self.source_for(where)
        if self.leaves(where):
            return self.net.segment.route(self, where, source, allowed)
        found = self.net.datagram_receiver(self.ports, where, source)
        if found is None and self.peer == where:
            # The ICMP answer: told by whatever call comes next.
            self.refuse()
        if found is None or found.shut & 1:
            return None
        if self.net.captured and self.ports is self.net.udp:
            wire = self.net.segment.wire
            return wire, source.pack(AF_INET6), wire.address(where, flags=LOCAL)
        return found, source.pack(found.family), ancillary(found, self, where.host)

    def _outgoing(self, where: Endpoint) -> Outgoing:
        from .groups import Outgoing

        return Outgoing(self, where)

    def check_urgent(self, t: Task, raw: bytes | None) -> None:
        """udpv6_sendmsg() does not look at it, udp_sendmsg() does, also for IPv4 on an IPv6 socket."""
        self.autobind(t)
        if self.family == AF_INET:  # whatever the address
            raise err(errno.EOPNOTSUPP)
        where = self.peer if raw is None else self._meant(raw)
        if where is not None and len(where.host) == 4:
            raise err(errno.EOPNOTSUPP)

    def _meant(self, raw: bytes) -> Endpoint:
        """Where a datagram's address leads."""
        if self.family == AF_INET6 and family_of(raw) == AF_INET and len(raw) >= 16:
            raw = Endpoint(raw[4:8], int.from_bytes(raw[2:4], "big")).pack(AF_INET6)
        return self.destination(raw)

    def refuse(self) -> None:
        """ECONNREFUSED for the next receiving call; its message wakes who waits already."""
        if self.end is not None and not self.shut & 1:
            try:
                self.end.send(peer_message(b"", errno.ECONNREFUSED), 0x4040)  # MSG_DONTWAIT | MSG_NOSIGNAL
            except OSError:
                pass

    def released(self) -> None:
        super().released()
        if self.published is not None:
            self.published.close()
            self.published = None

    def shutdown(self, how: int) -> int:
        super().shutdown(how)
        if self.state == FRESH:
            raise err(errno.ENOTCONN)
        return 0
