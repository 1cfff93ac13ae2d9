"""How connections end: resets, and who is left in TIME_WAIT.

Layer: netstack, above tcp.py.  May touch: what the guests' cores note of closed sockets, descriptors of the sandbox's
processes, the host's sock_diag(7).

The host kernel ends a connection when the last descriptor is closed, and the supervisor does not hear of it.  Which
side did so first is noted by the core in its channel (core_native/tcp.c), and read when somebody asks for the port.  To
reset its peer, a socket must be closed with something unread (unix_release_sock()): a byte is put there, from the
peer's end.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from .address import AF_UNIX
from .holders import sockets_of
from .sock import TIME_WAIT, identity, socket_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..kernel.sandbox import Kernel
    from ..kernel.task import Process
    from .inet import InetSock
    from .network import Network
    from .sock import Sock

#: TCP_TIMEWAIT_LEN, in seconds
TIMEWAIT_LEN = 60
#: sockets in TIME_WAIT (tcp_max_tw_buckets), and closed ones of ended processes, at most: the oldest go first
WAITING_MAX, NOTED_MAX = 4096, 4096
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_UDIAG_SHOW_PEER, _UNIX_DIAG_PEER = 4, 2
_HERE = 0  # for a pid: this process
_FIRST_LOOK, _LAST_LOOK = 0.001, 16.0  # seconds
_MSG = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Endings:
    """The ends of a network's connections."""

    def __init__(self, net: Network, kernel: Kernel) -> None:
        self._net, self._kernel = net, kernel
        self._of_ended: dict[int, int] = {}  # what processes noted that have ended since
        self._kept: set[socket.socket] = set()  # closed by the guest, until somebody has accepted their peers
        #: sockets in TIME_WAIT, and when that ends (time.monotonic())
        self.waiting: dict[InetSock, float] = {}

    def process_ended(self, process: Process) -> None:
        """Keep what its core noted."""
        if process.channel is not None:
            self._of_ended.update(process.channel.closed_sockets())
            while len(self._of_ended) > NOTED_MAX:
                del self._of_ended[next(iter(self._of_ended))]

    def noted(self) -> dict[int, int]:
        """By inode: when a socket was closed (nanoseconds of CLOCK_MONOTONIC), with bit 0 if its side was first."""
        found = dict(self._of_ended)
        for process in list(self._kernel.processes.values()):
            if process.channel is not None:
                for ino, when in process.channel.closed_sockets():
                    found[ino] = max(when, found.get(ino, 0))
        return found

    def waits(self, sock: Sock, noted: dict[int, int]) -> bool:
        """`sock` no longer exists: is it left in TIME_WAIT?"""
        from .inet import InetSock

        when = noted.get(sock.ident[1], 0)
        ends = when / 1e9 + TIMEWAIT_LEN
        if not isinstance(sock, InetSock) or not when & 1 or sock.hosted or ends <= time.monotonic():
            return False
        sock.state, sock.ident, sock.uid = TIME_WAIT, (0, 0), 0
        self.waiting[sock] = ends
        if len(self.waiting) > WAITING_MAX:
            self._end(next(iter(self.waiting)))
        return True

    def expire(self) -> None:
        """Let go of those that have waited long enough."""
        now = time.monotonic()
        for sock in [s for s, ends in self.waiting.items() if ends <= now]:
            self._end(sock)

    def _end(self, sock: InetSock) -> None:
        del self.waiting[sock]
        sock.released()

    # -- resets

    def reset(self, ino: int, take: Callable[[], int]) -> None:
        """One descriptor of the socket `ino` is about to be closed: if it is the last, have that reset its peer.
        `take()` gives a copy of it; that is kept while the peer waits to be accepted."""
        if len(list(self._holders(ino))) < 2:
            peer = _peer(ino)
            if peer and not self._put(peer):
                self._later(socket_of(take()), peer, _FIRST_LOOK)

    def _later(self, copy: socket.socket, peer: int, delay: float) -> None:
        """Look again after `delay` seconds whether somebody has accepted `peer`, and then less and less often."""
        self._kept.add(copy)

        def look() -> None:
            self._kept.discard(copy)
            if copy.fileno() >= 0 and not self._put(peer) and delay < _LAST_LOOK and not _hung_up(copy):
                self._later(copy, peer, 2 * delay)
            else:
                copy.close()

        self._net.loop.call_later(delay, look)

    def close(self) -> None:
        """The sandbox ends."""
        for copy in self._kept:
            copy.close()

    def poison(self, end: socket.socket) -> None:
        """Have closing `end`, one of our own, reset its peer.  From any thread."""
        self._put(_peer(identity(end.fileno())[1]))

    def _put(self, peer: int) -> bool:
        """Have something unread in the queue that the socket `peer` sends to.  False: nobody has taken it yet."""
        for pid, number in self._holders(peer) if peer else ():
            try:
                copy = os.dup(number) if pid == _HERE else self._kernel.processes[pid].take_fd(number)
            except (KeyError, OSError):
                continue
            with socket_of(copy) as end:
                try:
                    end.send(b"\0", _MSG)
                except OSError:
                    pass  # it has shut its side down, or there is something unread anyway
            return True
        return False

    def _holders(self, ino: int) -> Iterator[tuple[int, int]]:
        """Descriptors of the socket `ino`, here (pid _HERE) and in the sandbox's processes: pid and number."""
        guests = [(pid, process.proc) for pid, process in self._kernel.processes.items()]
        for pid, number, found in sockets_of([(_HERE, "/proc/self"), *guests]):
            if found == ino:
                yield pid, number


def _hung_up(end: socket.socket) -> bool:
    poll = select.poll()
    poll.register(end, select.POLLRDHUP)
    return bool(poll.poll(0))


def _peer(ino: int) -> int:
    """The inode number of the other end of a local socket; 0 where the host does not tell."""
    request = struct.pack(
        "<BBHIIIII", AF_UNIX, 0, 0, 0xFFFFFFFF, ino, _UDIAG_SHOW_PEER, 0xFFFFFFFF, 0xFFFFFFFF
    )
    head = struct.pack("<IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        ) as asking:
            asking.send(head + request)
            answer = asking.recv(4096)
    except OSError:
        return 0
    if struct.unpack_from("<H", answer, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return 0
    at = 16 + 16  # nlmsghdr, unix_diag_msg
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("<HH", answer, at)
        if kind == _UNIX_DIAG_PEER:
            return int(struct.unpack_from("<I", answer, at + 4)[0])
        at += max(4, (length + 3) & ~3)
    return 0
