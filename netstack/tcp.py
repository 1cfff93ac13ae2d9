"""TCP of a sandbox (tcp(7)): within its own machine; what leaves it is segment.py's.

Layer: netstack, above inet.py.  May touch: listeners, host socket pairs.

The bytes of a connection go over the pair, without segments, windows or checksums; what a program can ask
about them is answered here and in options.py.
"""

from __future__ import annotations

import errno

from .address import AF_UNSPEC, Endpoint, err, family_of
from .inet import InetSock
from .listener import Backlog, peer_message
from .options import ABORT, HOSTED, SO_LINGER, SOL_SOCKET, apply_inherited
from .sock import CONNECTED, FRESH, LISTENING, MSG_OOB, identity, socket_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable

    from ..kernel.task import FdRef, Task
    from .link import Tap
    from .network import Network
    from .publish import PublishedStream


class TcpSock(InetSock):
    """A stream socket."""

    __slots__ = ("_asked", "_left", "_refused", "_stuck", "connecting", "published")

    def __init__(self, net: Network, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, family, kind, protocol)
        self._asked = False  # connect(2) said EINPROGRESS: the next one tells the end of it
        self._refused = False  # a connection that was not waited for failed
        self._stuck = False  # and was shut down after that: no other connection (SS_DISCONNECTING)
        self._left: Endpoint | None = None  # getsockname(2) after that tells what was given back already
        self.connecting = False  # one that was not waited for is in the making
        self.published: PublishedStream | None = None

    def bind(self, t: Task, raw: bytes) -> None:
        super().bind(t, raw)
        self._left = None

    def sockname(self) -> bytes:
        return (self._left or self.local).pack(self.family)

    def listen(self, t: Task, backlog: int) -> None:
        if self.state == CONNECTED or self.connecting or self._refused or self._stuck:  # not SS_UNCONNECTED
            raise err(errno.EINVAL)
        if self.backlog is not None:
            self.backlog.resize(backlog)
            return
        if self.local.port:
            self.ports.may_listen(self)
        else:
            self.autobind(t)
        if self.net.mode == "host":
            from .publish import publish_listener

            self.published = publish_listener(self.net.segment, self)
        self.state, self._left = LISTENING, None
        self.backlog = Backlog(self, backlog)

    def connect(self, t: Task, raw: bytes, fd: FdRef) -> int | socket.socket | Awaitable[int]:
        family = family_of(raw)
        if family == AF_UNSPEC:
            return self._disconnect(t, fd)
        if self.state != FRESH:
            if self._asked:
                self._asked = False
                return 0
            raise err(errno.EISCONN)
        if self.connecting:
            raise err(errno.EALREADY)
        if self._stuck:
            raise err(errno.EINVAL)
        if self._refused:  # SS_CONNECTING, although the socket is closed
            self._refused = False
            if self._left is not None:  # the address is given back now too, and the port is still shown
                self._left = Endpoint(self.local.host, self._left.port)
            raise err(self.take_error() or errno.ECONNABORTED)
        self.error, self._left = 0, None
        where = asked = self.destination(raw)
        allowed = False
        if self.is_group(where.host):
            raise err(errno.ENETUNREACH)
        if self.net.policy is not None:
            where, allowed = self.net.policy.decide("connect", t, self, where)
        self.shown = asked if where is not asked else None
        if self.leaves(where) or (allowed and not self.net.has_taker(self, where)):
            return self.net.segment.connect(self, t, where, fd, allowed)
        nonblock = fd.nonblock
        try:
            done = self._attempt(t, where, nonblock)
        except OSError as e:
            if not nonblock or e.errno != errno.ECONNREFUSED:
                raise
            self.autobind(t)
            self.local.host = self.source_for(where).host
            self._left = Endpoint(self.local.host, self.local.port)
            self.unbind()
            return self.fail_later(errno.ECONNREFUSED)
        if not done:
            return self._wait(t, where)
        self._asked = nonblock
        return -errno.EINPROGRESS if nonblock else 0

    def _disconnect(self, t: Task, fd: FdRef) -> int | socket.socket:
        """connect(AF_UNSPEC): be unconnected again; a peer is reset (tcp_disconnect())."""
        self._refused = self._stuck = False
        if self.state == FRESH:
            return 0
        if self.state == CONNECTED:
            self.error = errno.ECONNRESET
            if self.hosted:
                with socket_of(t.host_fd(fd.fd)) as copy:
                    copy.setsockopt(SOL_SOCKET, SO_LINGER, ABORT)
            else:
                self.net.endings.reset(self.ident[1], lambda: t.host_fd(fd.fd))
        end = self.net.renew(self)
        end.setblocking(not fd.nonblock)
        apply_inherited(end, self.options)
        self.hosted = self._asked = False
        self._close_published()
        self.unbind()
        return end

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
            self._park(listener.backlog, message, link)
        else:
            if link is not None:
                link.drop()
            return False
        self.peer = where
        self.ports.claim(server, where.port)
        self.net.connected(server)
        self.net.connected(self)
        return True

    def _park(self, backlog: Backlog, message: bytes, link: Tap | None) -> None:
        if link is None:
            backlog.park(message, lambda: self.net.hand_over(self))
            return
        try:
            backlog.park(message, link.near.dup)
        except OSError:
            link.drop()
            raise
        self._handed_over(link)

    def _handed_over(self, link: Tap | None) -> None:
        """The peer has its end: ours is closed, or the link's."""
        end = self.net.hand_over(self)
        if link is None:
            end.close()
        else:
            link.start(end)

    def accepted(self, fd: int, local: Endpoint, peer: Endpoint) -> TcpSock:
        """The socket that accept(2) of this listener is to give: descriptor `fd` of ours is (a copy of) it."""
        server = self.spawned()
        assert isinstance(server, TcpSock)
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
        self.autobind(t)
        self.local.host = self.source_for(where).host  # the address that the answer comes back to
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

    def check_stream_connected(self, sending: bool, flags: int = 0) -> None:
        if flags & MSG_OOB and not sending and self.state != LISTENING:
            raise err(errno.EINVAL)  # tcp_recv_urg()
        if self.connecting:
            raise err(errno.EAGAIN)
        if self.error:
            raise err(self.take_error())
        if (self.shut & 1 or self._refused) and not sending and self.state != LISTENING:
            return  # the end; a reset shuts both ways (tcp_done())
        raise err(errno.EPIPE if sending else errno.ENOTCONN)

    def shutdown(self, how: int) -> int:
        if self.state == FRESH:
            self.shut |= how + 1  # all the same (inet_shutdown())
            self._stuck |= self._refused
            raise err(errno.ENOTCONN)
        if self.state == LISTENING:
            if how != 1:
                super().shutdown(how)
                self.shut = 0  # as new (tcp_disconnect())
            return 0
        return super().shutdown(how)

    def released(self) -> None:
        super().released()
        self._close_published()

    def _close_published(self) -> None:
        if self.published is not None:
            self.published.close()
            self.published = None
