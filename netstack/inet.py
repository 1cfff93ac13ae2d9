"""TCP and UDP of a sandbox (ip(7), tcp(7), udp(7)): within its own machine; what leaves it is segment.py's.

Layer: netstack, a family.  May touch: the port tables, listeners, host socket pairs.

The bytes of a connection go over the pair, without segments, windows or checksums; what a program can ask
about them is answered here and in options.py.
"""

from __future__ import annotations

import errno
import struct

from .address import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    ANY4,
    ANY6,
    IPPROTO_UDPLITE,
    LOOPBACK4,
    LOOPBACK6,
    Endpoint,
    err,
    family_of,
    parse_inet,
)
from .listener import Backlog, peer_message
from .options import (
    HOSTED,
    IPV6_V6ONLY,
    SO_BROADCAST,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOL_SOCKET,
    ancillary,
    apply_inherited,
)
from .sock import CONNECTED, FRESH, LISTENING, Sock, identity, socket_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable

    from ..kernel.task import FdRef, Task
    from .link import Tap
    from .network import Network
    from .ports import Ports
    from .publish import PublishedStream
    from .sock import Receiver

CAP_NET_BIND_SERVICE = 10
IPPROTO_IPV6 = 41
NAMESERVER = 53  # the port of DNS
DATAGRAM_MAX = {AF_INET: 65507, AF_INET6: 65527}  # what fits into an IP packet behind the UDP header
#: ip_unprivileged_port_start
UNPRIVILEGED = 1024


class InetSock(Sock):
    """An AF_INET or AF_INET6 stream or datagram socket.  `local.port` is 0 until it has one."""

    __slots__ = ("_asked", "_given", "_refused", "connecting", "local", "peer", "published", "shown")

    def __init__(self, net: Network, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, family, kind, protocol)
        self.local = self._nowhere()
        self.peer: Endpoint | None = None
        self._asked = False  # connect(2) said EINPROGRESS: the next one tells the end of it
        self._given = False  # bind(2) chose the address
        self._refused = False  # a connection that was not waited for failed
        self.connecting = False  # one that was not waited for is in the making
        self.shown: Endpoint | None = None  # what getpeername(2) tells where a policy has led elsewhere
        self.published: PublishedStream | None = None

    def _nowhere(self) -> Endpoint:
        return Endpoint(ANY4 if self.family == AF_INET else ANY6, 0)

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
        if not where.wildcard and not self.net.owns(where.host):
            raise err(errno.EADDRNOTAVAIL)
        if where.port and where.port < UNPRIVILEGED and not t.creds.capable(CAP_NET_BIND_SERVICE):
            raise err(errno.EACCES)
        if self.state != FRESH or self.local.port:
            raise err(errno.EINVAL)
        if self.net.policy is not None:
            where, _ = self.net.policy.decide("bind", t, self, where)
        self.uid = t.creds.euid
        before, self.local = self.local, Endpoint(where.host, 0, 0, where.scope)
        try:
            self.ports.bind(self, where.port)
        except OSError:
            self.local = before
            raise
        self._given = True

    def _autobind(self, t: Task) -> None:
        if not self.local.port:
            self.uid = t.creds.euid
            self.ports.claim(self, self.ports.free())

    def sockname(self) -> bytes:
        return self.local.pack(self.family)

    def peername(self) -> bytes:
        if self.peer is None or self.state != CONNECTED:
            raise err(errno.ENOTCONN)
        return (self.shown or self.peer).pack(self.family)

    # -- connections

    def listen(self, t: Task, backlog: int) -> None:
        if not self.connects:
            raise err(errno.EOPNOTSUPP)
        if self.state == CONNECTED:
            raise err(errno.EINVAL)
        if self.backlog is not None:
            self.backlog.resize(backlog)
            return
        if self.local.port:
            self.ports.may_listen(self)
        else:
            self._autobind(t)
        if self.net.mode == "host":
            from .publish import publish_listener

            self.published = publish_listener(self.net.segment, self)
        self.state = LISTENING
        self.backlog = Backlog(self, backlog)

    def _destination(self, raw: bytes) -> Endpoint:
        """Where `raw` leads."""
        where = parse_inet(self.family, raw)
        if where.wildcard:
            # "This host": IPv4 on an IPv6 socket only by its mapped form.
            where = Endpoint(LOOPBACK4 if len(where.host) == 4 else LOOPBACK6, where.port)
        if (
            not self.connects
            and where.host == b"\xff\xff\xff\xff"
            and not self._flag(SOL_SOCKET, SO_BROADCAST)
        ):
            raise err(errno.EACCES)
        if self.v6only and len(where.host) == 4:
            raise err(errno.ENETUNREACH)
        return where

    def _set_source(self, where: Endpoint) -> None:
        """The address that the answer to `where` comes back to."""
        self.local.host = self.source_for(where).host

    def _leaves(self, where: Endpoint) -> bool:
        """Is `where` another machine's, or a resolver's that this one stands for, or the host's loopback, allowed?"""
        if not self.net.owns(where.host):
            return True
        if where.port != NAMESERVER and not self.net.has_egress or self.net.has_taker(self, where):
            return False
        return self.net.segment.stands_in(where)

    def connect(self, t: Task, raw: bytes, fd: FdRef) -> int | Awaitable[int]:
        family = family_of(raw)
        if not self.connects:
            return self._connect_datagram(t, raw, family)
        if family == AF_UNSPEC:
            return self._disconnect()
        if self.state != FRESH:
            if self._asked:
                self._asked = False
                return 0
            raise err(errno.EISCONN)
        if self.connecting:
            raise err(errno.EALREADY)
        if self._refused:  # SS_CONNECTING, although the socket is closed
            self._refused = False
            raise err(self.take_error() or errno.ECONNABORTED)
        where = asked = self._destination(raw)
        allowed = False
        if self.net.policy is not None:
            where, allowed = self.net.policy.decide("connect", t, self, where)
        self.shown = asked if where is not asked else None
        if self._leaves(where) or (allowed and not self.net.has_taker(self, where)):
            return self.net.segment.connect(self, t, where, fd, allowed)
        nonblock = fd.nonblock
        try:
            done = self._attempt(t, where, nonblock)
        except OSError as e:
            if not nonblock or e.errno != errno.ECONNREFUSED:
                raise
            return self.fail_later(errno.ECONNREFUSED)
        if not done:
            return self._wait(t, where)
        self._asked = nonblock
        return -errno.EINPROGRESS if nonblock else 0

    def _disconnect(self) -> int:
        """connect(AF_UNSPEC) of a stream socket: what is connected cannot become unconnected again here."""
        if self.state == CONNECTED:
            self.net.log_once("connect(AF_UNSPEC) on a connected stream socket: not supported (EOPNOTSUPP)")
            raise err(errno.EOPNOTSUPP)
        return 0

    def _attempt(self, t: Task, where: Endpoint, park: bool) -> bool:
        """Connect if the listener's queue has room; `park`: or keep the connection until it has."""
        listener = self.ports.listener(where.host, where.port)
        if listener is None or listener.backlog is None:
            raise err(errno.ECONNREFUSED)
        end = self.prepare(t, where)
        message = peer_message(self.local.pack(listener.family))
        server = listener.accepted(
            end.fileno(), Endpoint(where.host, where.port), Endpoint(self.local.host, self.local.port)
        )
        link = self.net.tap(self.local, where)
        if link is not None:
            end = link.near
            server.ident = identity(end.fileno())
        apply_inherited(end, server.options)
        if listener.backlog.put(message, end):
            self._handed_over(link)
        elif park:
            listener.backlog.park(message, end.dup() if link is not None else self.net.hand_over(self))
            if link is not None:
                self._handed_over(link)
        else:
            if link is not None:
                link.drop()
            return False
        self.peer = where
        self.ports.claim(server, where.port)
        self.net.connected(server)
        self.net.connected(self)
        return True

    def _handed_over(self, link: Tap | None) -> None:
        """The peer has its end: ours is closed, or the link's."""
        end = self.net.hand_over(self)
        if link is None:
            end.close()
        else:
            link.start(end)

    def accepted(self, fd: int, local: Endpoint, peer: Endpoint) -> InetSock:
        """The socket that accept(2) of this listener is to give: descriptor `fd` of ours is (a copy of) it."""
        server = self.spawned()
        assert isinstance(server, InetSock)
        server.ident = identity(fd)
        server.local, server.peer = local, peer
        return server

    def hand_down(self, connection: socket.socket) -> None:
        """Set the options that this socket has from its listener on the host's own."""
        for (level, name), value in self.options.items():
            if (level, name) in HOSTED:
                connection.setsockopt(level, name, value)

    def hold_back(self, t: Task, fd: FdRef) -> int:
        """A connection comes about later: have the guest's end not be writable till then.  The bytes that fill it."""
        stuffed = 0
        with socket_of(t.host_fd(fd.fd)) as copy:
            self.connecting = True
            try:
                while True:
                    stuffed += copy.send(bytes(1 << 16), 0x4040)  # MSG_DONTWAIT | MSG_NOSIGNAL
            except BlockingIOError:
                return stuffed

    def let_go(self, stuffed: int, error: int) -> None:
        """It has come about, or failed with `error`: the guest's end is writable."""
        assert self.end is not None
        while stuffed > 0:
            stuffed -= len(self.end.recv(min(stuffed, 1 << 20), 0x40)) or stuffed
        if error:
            self.connecting = False
            self.fail_later(error)

    def prepare(self, t: Task, where: Endpoint) -> socket.socket:
        """Have an address and a port to connect to `where` from; the end of the pair that the peer is to get."""
        self._autobind(t)
        self._set_source(where)
        if self.end is None:  # closed, or connected by another thread, while this one waited
            raise err(errno.EISCONN if self.state == CONNECTED else errno.EBADF)
        return self.end

    def fail_later(self, error: int) -> int:
        """A connection that is not waited for has failed: SO_ERROR or the next connect(2) tells."""
        self.error, self._refused = error, True
        return -errno.EINPROGRESS

    def established(self, where: Endpoint, nonblock: bool) -> int:
        """What connect(2) says when another machine has taken the connection."""
        self.peer = where
        self.connecting = False
        self.net.connected(self)
        self._asked = nonblock
        return -errno.EINPROGRESS if nonblock else 0

    async def _wait(self, t: Task, where: Endpoint) -> int:
        while True:
            listener = self.ports.listener(where.host, where.port)
            if listener is None or listener.backlog is None:
                raise err(errno.ECONNREFUSED)
            await listener.backlog.room(self.send_timeout, errno.EINPROGRESS)
            if self._attempt(t, where, False):
                return 0

    # -- datagrams

    def _connect_datagram(self, t: Task, raw: bytes, family: int) -> int:
        if family == AF_UNSPEC:
            self.peer = None
            self.state = FRESH
            if not self._given:
                self.ports.drop(self)
                self.local = self._nowhere()
            return 0
        where = self._destination(raw)
        if self.net.policy is None and self._leaves(where):
            self.net.segment.check_route(where)
        self._autobind(t)
        self._set_source(where)
        self.peer = where
        self.state = CONNECTED
        return 0

    def route(self, t: Task, raw: bytes | None, size: int) -> tuple[Receiver, bytes, bytes] | None:
        if self.shut & 2:
            raise err(errno.EPIPE)
        if self.error:
            raise err(self.take_error())
        if raw is None and self.peer is None:
            raise err(errno.EDESTADDRREQ)
        if size > DATAGRAM_MAX[self.family]:
            raise err(errno.EMSGSIZE)
        if raw is not None:
            if self.family == AF_INET6 and family_of(raw) == AF_INET and len(raw) >= 16:
                raw = Endpoint(raw[4:8], int.from_bytes(raw[2:4], "big")).pack(AF_INET6)
            where = self._destination(raw)
        else:
            assert self.peer is not None
            where = self.peer
        if not where.port:
            raise err(errno.EINVAL)
        allowed = False
        if self.net.policy is not None:
            where, allowed = self.net.policy.decide("datagram", t, self, where)
        self._autobind(t)
        source = self.source_for(where)
        if self._leaves(where):
            return self.net.segment.route(self, where, source, allowed)
        found = self.net.datagram_receiver(self.ports, where, source)
        if found is None and self.peer == where:
            # The ICMP answer: told by whatever call comes next.
            self.refuse()
        if found is None or found.shut & 1:
            return None
        return found, source.pack(found.family), ancillary(found, self, where.host)

    def source_for(self, where: Endpoint) -> Endpoint:
        """The address that whoever is at `where` sees (the prefsrc of the route there)."""
        host, short = self.local.host, len(where.host) == 4
        if self.local.wildcard:
            if where.loopback:
                host = LOOPBACK4 if short else LOOPBACK6
            elif self.net.owns(where.host):
                host = where.host
            else:
                host = self.net.addresses[not short]
        return Endpoint(host, self.local.port)

    def refuse(self) -> None:
        """ECONNREFUSED for the next receiving call; its message wakes who waits already."""
        if self.end is not None and not self.shut & 1:
            try:
                self.end.send(peer_message(b"", errno.ECONNREFUSED), 0x4040)  # MSG_DONTWAIT | MSG_NOSIGNAL
            except OSError:
                pass

    def check_stream_connected(self, sending: bool) -> None:
        if self.connecting:
            raise err(errno.EAGAIN)
        if self.error:
            raise err(self.take_error())
        raise err(errno.EPIPE if sending else errno.ENOTCONN)

    def shutdown(self, how: int) -> int:
        if self.state == FRESH or (self.state == LISTENING and how == 1):
            if not self.connects:
                super().shutdown(how)
            if self.state == FRESH:
                raise err(errno.ENOTCONN)
            return 0
        return super().shutdown(how)

    def released(self) -> None:
        super().released()
        self.ports.drop(self)
        if self.published is not None:
            self.published.close()
            self.published = None
