"""A socket of the guest's world, whatever its family: the pair behind it, its state, who it is found by.

Layer: netstack, above address.py and below the families (unix.py, inet.py).  May touch: host socket pairs.

The guest's descriptor is end A of a host pair; `end` is B, which the supervisor holds until the socket is
connected.  Then B is the peer's, and the socket is the host kernel's business but for its names and options.
A datagram socket keeps B for good: whoever sends to it writes into B, and A's queue is its receive queue.
"""

from __future__ import annotations

import errno
import os

from .address import SOCK_SEQPACKET, SOCK_STREAM, err

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable
    from typing import Protocol

    from ..kernel.task import FdRef, Task
    from .listener import Backlog
    from .network import Network

    class Receiver(Protocol):
        """What a datagram can be sent to: whoever writes into `end`."""

        @property
        def end(self) -> socket.socket | None: ...


FRESH, LISTENING, CONNECTED, CLOSED, TIME_WAIT = range(5)
MSG_OOB = 1
Creds = tuple[int, int, int]
NOBODY: Creds = (0, 0xFFFFFFFF, 0xFFFFFFFF)  # SO_PEERCRED before there is a peer


class Traffic:
    """Bytes of a connection that pass through Python: `sent` by the guest, and `received`."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.sent = self.received = 0

    def add(self, outward: bool, count: int) -> None:
        if outward:
            self.sent += count
        else:
            self.received += count


class Sock:
    """See the module's text.  `family`, `type` and `protocol` as socket(2) was given them."""

    __slots__ = (
        "__weakref__", "backlog", "end", "error", "family", "hosted", "ident", "net", "options", "peer_creds",
        "protocol", "send_timeout", "shut", "since", "state", "stuffed", "type", "uid",
    )  # fmt: skip

    def __init__(self, net: Network, family: int, kind: int, protocol: int) -> None:
        self.net = net
        self.family, self.type, self.protocol = family, kind, protocol
        self.state = FRESH
        self.ident = (0, 0)
        self.end: socket.socket | None = None
        self.backlog: Backlog | None = None
        self.error = 0  # sk_err: told once, by the next call or by SO_ERROR
        self.options: dict[tuple[int, int], bytes] = {}
        self.peer_creds: Creds = NOBODY
        self.send_timeout = 0.0  # SO_SNDTIMEO in seconds; 0: none
        self.stuffed = 0  # SO_SNDBUF of a listener, whose own is made small
        self.shut = 0  # bit 0: no more is received, bit 1: no more is sent
        self.uid = 0
        self.since = 0.0  # when it got its port, or was connected (time.monotonic())
        self.hosted = False  # the guest's descriptor is a TCP socket of the host's (publish.py)

    @property
    def connects(self) -> bool:
        """Is it of a type that has connections?"""
        return self.type in (SOCK_STREAM, SOCK_SEQPACKET)

    @property
    def native(self) -> bool:
        """May the host kernel answer its reads and writes?"""
        return self.state == CONNECTED and self.connects

    def take_error(self) -> int:
        """sock_error(): the pending error, which is then none any more."""
        number, self.error = self.error, 0
        return number

    # What the families do.

    def bind(self, t: Task, raw: bytes) -> None:
        """bind(2)"""
        raise NotImplementedError

    def connect(self, t: Task, raw: bytes, fd: FdRef) -> int | socket.socket | Awaitable[int]:
        """connect(2): 0 or -EINPROGRESS; or the end of a new pair, for the guest to have in place of the one it has."""
        raise NotImplementedError

    def listen(self, t: Task, backlog: int) -> None:
        """listen(2)"""
        raise NotImplementedError

    def sockname(self) -> bytes:
        """getsockname(2)"""
        raise NotImplementedError

    def peername(self) -> bytes:
        """getpeername(2).  Raises ENOTCONN."""
        raise NotImplementedError

    def route(self, t: Task, raw: bytes | None, size: int) -> tuple[Receiver, bytes, bytes] | None:
        """Whom a datagram of `size` bytes for `raw` (None: for the connected peer) goes to, with our address and the
        control messages as they are shown there; None: it is lost on the way."""
        raise NotImplementedError

    def shutdown(self, how: int) -> int:
        """shutdown(2) of what is not connected (0 SHUT_RD, 1 SHUT_WR, 2 both), and of datagram sockets."""
        self.shut |= how + 1
        if self.end is not None and self.shut & 1 and (self.state == LISTENING or not self.connects):
            # Whoever waits on the pair, or comes to, finds its end.
            self.net.unwatch(self)
            self.end.shutdown(1)
            self.net.watch(self)
            if self.backlog is not None:
                self.backlog.close()
                self.backlog = None
                self.state = FRESH
        return 0

    def spawned(self) -> Sock:
        """A new socket of the same kind with the options that a listener hands down."""
        new = type(self)(self.net, self.family, self.type, self.protocol)
        new.options = dict(self.options)
        new.uid = self.uid
        return new

    def released(self) -> None:
        """Every descriptor is closed, or the socket is no more: give back names and ports."""
        self.state = CLOSED

    def check_urgent(self, t: Task, raw: bytes | None) -> None:
        """The error of MSG_OOB with a datagram for `raw` (None: for the connected peer)."""
        raise err(errno.EOPNOTSUPP)

    def check_stream_connected(self, sending: bool, flags: int = 0) -> None:
        """The error of reading from or writing to what is not connected."""
        raise err(errno.ENOTCONN)


def socket_of(fd: int) -> socket.socket:
    """A descriptor of ours as a socket object, which closes it."""
    import socket

    return socket.socket(fileno=fd)


def identity(fd: int) -> tuple[int, int]:
    """(st_dev, st_ino) of a descriptor."""
    st = os.fstat(fd)
    return st.st_dev, st.st_ino
