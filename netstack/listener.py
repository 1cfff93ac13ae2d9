"""The queue of a listening socket: connections wait in the listener's own pair until somebody accepts them.

Layer: netstack, above sock.py.  May touch: the listener's end of its pair, the event loop.

A connection is one message of a fixed size, the peer's address (struct ring3_peer), with the new socket as
SCM_RIGHTS.  accept(2) is a recvmsg(2) in the guest's core, readiness is the host kernel's, and several
processes may accept from one listener.  How many wait is what is not yet consumed of the pair (SIOCOUTQ).
"""

from __future__ import annotations

import array
import errno
import fcntl
import select
import socket
import struct
import termios

from .address import err
from .sock import LISTENING, Sock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel.loop import Event
    from .network import Network

PEER = struct.Struct("<II128sQ120s")
SOMAXCONN = 4096
#: connections that non-blocking clients hold established towards a full queue, at most
PARKED_MAX = 1024
_FULL = (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS)


def peer_message(address: bytes, error: int = 0, control: bytes = b"") -> bytes:
    """struct ring3_peer: an address, or an error in its place, and control messages for the receiver."""
    return PEER.pack(len(address), error, address, len(control), control)


class Backlog:
    """The queue of listener `owner`."""

    _unit = 0  # what one message costs in SIOCOUTQ; the same for all

    def __init__(self, owner: Sock, limit: int) -> None:
        self.owner = owner
        self.parked: list[tuple[bytes, socket.socket]] = []
        self._waiting: list[Event] = []
        self._watching = False
        self.resize(limit)

    def resize(self, limit: int) -> None:
        """listen(2) again.  As Linux counts, one more than `limit` fits."""
        self.limit = SOMAXCONN if not 0 <= limit <= SOMAXCONN else limit
        self._wake()

    @property
    def waiting(self) -> int:
        """How many connections wait."""
        ours = self.owner.end
        if ours is None or not Backlog._unit:
            return 0
        return _outq(ours) // Backlog._unit + len(self.parked)

    def put(self, message: bytes, end: socket.socket) -> bool:
        """Queue a connection, if there is room; the caller then closes `end`."""
        return not self.parked and self._put(message, end)

    def _put(self, message: bytes, end: socket.socket) -> bool:
        ours = self.owner.end
        assert ours is not None
        waiting = _outq(ours)
        if waiting and waiting > self.limit * Backlog._unit:
            return False
        try:
            rights = array.array("i", [end.fileno()])
            ours.sendmsg(
                [message],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
                socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
            )
        except OSError as e:
            if e.errno in _FULL:
                return False
            raise err(errno.ECONNREFUSED) from e  # the listener is being closed
        if not Backlog._unit and not waiting:
            Backlog._unit = _outq(ours)
        return True

    def park(self, message: bytes, take: Callable[[], socket.socket]) -> None:
        """Keep a connection that is established for its client until there is room: `take()` gives its end.
        ECONNREFUSED beyond reason."""
        if len(self.parked) >= PARKED_MAX:
            raise err(errno.ECONNREFUSED)
        self.parked.append((message, take()))
        self._watch(True)

    async def room(self, timeout: float, late: int) -> None:
        """Wait until a connection was taken.  Raises `late` after `timeout` seconds (0: never), ECONNREFUSED when the
        listener is closed, EINTR where a signal interrupts a wait that has a timeout: such a call is not restarted
        (sock_intr_errno() in include/net/sock.h)."""
        from ..kernel.loop import Event, Interrupted

        event = Event()
        expired: list[bool] = []

        def late_now() -> None:
            expired.append(True)
            event.set()

        if timeout:
            self.owner.net.loop.call_later(timeout, late_now)
        self._waiting.append(event)
        self._watch(True)
        try:
            await event
        except Interrupted:
            if timeout:
                raise err(errno.EINTR) from None
            raise
        finally:
            if event in self._waiting:
                self._waiting.remove(event)
        if expired:
            raise err(late)
        if self.owner.state != LISTENING:
            raise err(errno.ECONNREFUSED)

    def _watch(self, on: bool) -> None:
        """Ask to be told when the queue shrinks, while anybody waits for that."""
        if on == self._watching or self.owner.end is None:
            return
        self._watching = on
        net: Network = self.owner.net
        net.unwatch(self.owner)
        extra = select.EPOLLOUT | select.EPOLLET if on else 0
        net.watch(self.owner, extra, self._wake)

    def _wake(self) -> None:
        while self.parked and self._put(*self.parked[0]):
            self.parked.pop(0)[1].close()
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()
        if not self.parked and not self._waiting:
            self._watch(False)

    def close(self) -> None:
        """The listener is gone: whoever waits is refused."""
        for _, end in self.parked:
            end.close()
        self.parked.clear()
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()


def _outq(sock: socket.socket) -> int:
    word = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, word)
    return word[0]
