"""IP sockets of a sandbox (ip(7), ipv6(7)): addresses, ports, and where something leads.

Layer: netstack, a family; its protocols are tcp.py and udp.py.  May touch: the port tables.
"""

from __future__ import annotations

import errno
import struct
from time import monotonic

from .address import (
    AF_INET,
    AF_UNSPEC,
    ANY4,
    ANY6,
    IPPROTO_UDPLITE,
    LOOPBACK4,
    LOOPBACK6,
    Endpoint,
    err,
    family_of,
    is_multicast,
    parse_inet,
)
from .interfaces import on_broadcast
from .options import IPV6_V6ONLY, SO_BROADCAST, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET
from .sock import CONNECTED, FRESH, Sock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.task import Task
    from .groups import Groups
    from .network import Network
    from .ports import Ports
    from .sock import Traffic

CAP_NET_BIND_SERVICE = 10
IPPROTO_IPV6 = 41
NAMESERVER = 53  # the port of DNS
#: ip_unprivileged_port_start
UNPRIVILEGED = 1024


class InetSock(Sock):
    """An AF_INET or AF_INET6 socket (tcp.py, udp.py).  `local.port` is 0 until it has one."""

    __slots__ = ("_groups", "chosen", "local", "peer", "shown", "traffic")

    def __init__(self, net: Network, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, family, kind, protocol)
        self.local = self._nowhere()
        self.peer: Endpoint | None = None
        self.chosen = (False, False)  # bind(2) chose the address, the port (SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK)
        self._groups: Groups | None = None
        self.traffic: Traffic | None = None  # where its bytes pass through Python
        self.shown: Endpoint | None = None  # what getpeername(2) tells where a policy has led elsewhere

    def _nowhere(self) -> Endpoint:
        return Endpoint(ANY4 if self.family == AF_INET else ANY6, 0)

    @property
    def groups(self) -> Groups:
        """The multicast groups that it has joined."""
        if self._groups is None:
            from .groups import Groups

            self._groups = Groups(self)
        return self._groups

    def is_group(self, host: bytes) -> bool:
        """Does it mean several machines: a multicast group, or a network's broadcast address?"""
        return is_multicast(host) or on_broadcast(host, self.net.own) != 0

    @property
    def ports(self) -> Ports:
        if self.connects:
            return self.net.tcp
        return self.net.udplite if self.protocol == IPPROTO_UDPLITE else self.net.udp

    def _flag(self, level: int, name: int) -> bool:
        return any(self.options.get((level, name), b""))

    @property
    def reuse_address(self) -> bool:
        return self._flag(SOL_SOCKET, SO_REUSEADDR)

    @property
    def reuse_port(self) -> bool:
        return self._flag(SOL_SOCKET, SO_REUSEPORT)

    @property
    def v6only(self) -> bool:
        return self._flag(IPPROTO_IPV6, IPV6_V6ONLY)

    def covers(self) -> tuple[bytes | None, bytes | None]:
        """The IPv4 and the IPv6 address that it is bound to: zeros for all of them, None for none."""
        host = self.local.host
        if len(host) == 4:
            return host, None
        return (ANY4 if not any(host) and not self.v6only else None), host

    def accepts(self, host: bytes) -> int:
        """How exactly the address that it is bound to means `host`: 0 not at all."""
        bound = self.covers()[len(host) == 16]
        if bound is None:
            return 0
        if not any(bound):
            return 2 if len(host) == len(self.local.host) else 1
        return 3 if bound == host else 0

    # -- names

    def bind(self, t: Task, raw: bytes) -> None:
        if len(raw) < 2:
            raise err(errno.EINVAL)
        if self.family == AF_INET and len(raw) >= 16 and family_of(raw) == AF_UNSPEC and not any(raw[4:8]):
            raw = struct.pack("<H", AF_INET) + raw[2:]  # a favour to old programs (__inet_bind)
        where = parse_inet(self.family, raw)
        if self.v6only and len(where.host) == 4:
            raise err(errno.EINVAL)
        if not (where.wildcard or self.net.owns(where.host) or self.is_group(where.host)):
            raise err(errno.EADDRNOTAVAIL)
        if where.port and where.port < UNPRIVILEGED and not t.creds.capable(CAP_NET_BIND_SERVICE):
            raise err(errno.EACCES)
        if self.state != FRESH or self.local.port:
            raise err(errno.EINVAL)
        if self.net.policy is not None:
            where, _ = self.net.policy.decide("bind", t, self, where)
        self.uid = t.creds.euid
        self.since = monotonic()
        before, self.local = self.local, Endpoint(where.host, 0, 0, where.scope)
        try:
            self.ports.bind(self, where.port)
        except OSError:
            self.local = before
            raise
        self.chosen = (not where.wildcard, where.port != 0)
        if len(where.host) == 16 and not where.wildcard:
            self.options[IPPROTO_IPV6, IPV6_V6ONLY] = struct.pack("i", 1)  # __inet6_bind()

    def autobind(self, t: Task) -> None:
        if not self.local.port:
            self.uid, self.since = t.creds.euid, monotonic()
            self.ports.claim(self, self.ports.free())

    def sockname(self) -> bytes:
        return self.local.pack(self.family)

    def peername(self) -> bytes:
        if self.peer is None or not self.peer.port or self.state != CONNECTED:
            raise err(errno.ENOTCONN)
        return (self.shown or self.peer).pack(self.family)

    def destination(self, raw: bytes) -> Endpoint:
        """Where `raw` leads."""
        return self.destination_of(parse_inet(self.family, raw))

    def destination_of(self, where: Endpoint) -> Endpoint:
        """Where an address leads."""
        if where.wildcard:
            # "This host": IPv4 on an IPv6 socket only by its mapped form.
            where = Endpoint(LOOPBACK4 if len(where.host) == 4 else LOOPBACK6, where.port)
        if (
            not self.connects
            and on_broadcast(where.host, self.net.own)
            and not self._flag(SOL_SOCKET, SO_BROADCAST)
        ):
            raise err(errno.EACCES)
        if self.v6only and len(where.host) == 4:
            raise err(errno.ENETUNREACH)
        return where

    def leaves(self, where: Endpoint) -> bool:
        """Is `where` another machine's, or a resolver's that this one stands for, or the host's loopback, allowed?"""
        if not self.net.owns(where.host):
            return True
        if where.port != NAMESERVER and not self.net.has_elsewhere or self.net.has_taker(self, where):
            return False
        return self.net.segment.stands_in(where)

    def source_for(self, where: Endpoint) -> Endpoint:
        """The address that whoever is at `where` sees (the prefsrc of the route there)."""
        host, short = self.local.host, len(where.host) == 4
        if self.local.wildcard or self.is_group(host):
            if where.loopback:
                host = LOOPBACK4 if short else LOOPBACK6
            elif self.net.owns(where.host):
                host = where.host
            else:
                host = self.net.addresses[not short]
        return Endpoint(host, self.local.port)

    def unbind(self) -> None:
        """Give back what bind(2) did not choose: the association with a peer is no more."""
        self.peer = self.shown = None
        if not self.chosen[0]:
            self.local.host = self._nowhere().host
        if not self.chosen[1]:
            self.ports.drop(self)
            self.local = Endpoint(self.local.host, 0)

    def released(self) -> None:
        super().released()
        self.ports.drop(self)
        if self._groups is not None:
            self._groups.close()
