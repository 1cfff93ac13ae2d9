"""Ports of one transport protocol: who holds which, what conflicts, which are free, who listens.

Layer: netstack, beside inet.py.  May touch: nothing.

The rules are those of inet_csk_bind_conflict() and inet_hash_connect() in net/ipv4/inet_connection_sock.c and
inet_hashtables.c, and of udp_lib_lport_inuse() for datagrams.
"""

from __future__ import annotations

import errno
import os

from .address import AF_INET, err
from .sock import LISTENING, TIME_WAIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    from .inet import InetSock
    from .network import Network
    from .tcp import TcpSock

#: ip_local_port_range
EPHEMERAL = range(32768, 61000)


class Ports:
    """The port table of TCP or UDP."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._held: dict[int, dict[InetSock, None]] = {}
        self._turn = 0
        self._dice: Random | None = None

    def seed(self, dice: Random) -> None:
        """From now on ephemeral ports are thrown with `dice`."""
        self._dice = dice

    def _throw(self) -> int:
        if self._dice is not None:
            return self._dice.randrange(len(EPHEMERAL))
        return int.from_bytes(os.urandom(4), "little") % len(EPHEMERAL)

    def holders(self, port: int) -> list[InetSock]:
        """Every socket on `port`, the oldest first."""
        return list(self._held.get(port, ()))

    def ports_in_use(self) -> list[int]:
        """Every port that some socket is on."""
        return sorted(self._held)

    def claim(self, sock: InetSock, port: int) -> None:
        """`sock` is on `port` from now on; its caller has looked for conflicts."""
        sock.local.port = port
        self._held.setdefault(port, {})[sock] = None

    def drop(self, sock: InetSock) -> None:
        """`sock` gives its port back."""
        held = self._held.get(sock.local.port)
        if held is not None and held.pop(sock, 0) is None and not held:
            del self._held[sock.local.port]

    def bind(self, sock: InetSock, port: int) -> None:
        """Take `port` (0: a free one) for the address that `sock` has.  Raises EADDRINUSE."""
        if not port:
            self.claim(sock, self.free())
            return
        if self._conflict(sock, port):
            self._bury(port)
            if self._conflict(sock, port):
                raise err(errno.EADDRINUSE)
        self.claim(sock, port)

    def may_listen(self, sock: InetSock) -> None:
        """listen(2) looks again: EADDRINUSE when another socket listens there by now."""
        if self._conflict(sock, sock.local.port, listening_only=True):
            self._bury(sock.local.port)
            if self._conflict(sock, sock.local.port, listening_only=True):
                raise err(errno.EADDRINUSE)

    def _bury(self, port: int) -> None:
        """Let go of what is on `port` and has been closed by now."""
        connections = bool(self._net.endings.waiting)
        for other in self.holders(port):
            connections |= other.native
            if not other.native:
                self._net.gone(other)
        if connections:
            self._net.sweep()

    def free(self) -> int:
        """A free ephemeral port.  Raises EADDRNOTAVAIL when there is none."""
        for attempt in range(2):
            start = self._throw()
            for i in range(len(EPHEMERAL)):
                port = EPHEMERAL[(start + i) % len(EPHEMERAL)]
                if port not in self._held:
                    return port
            if not attempt:
                self._net.sweep()
        raise err(errno.EADDRNOTAVAIL)

    def _conflict(self, sock: InetSock, port: int, listening_only: bool = False) -> bool:
        for other in self._held.get(port, ()):
            if other is sock or not overlap(sock, other):
                continue
            if sock.reuse_address and other.reuse_address and other.state != LISTENING:
                continue
            if sock.reuse_port and other.reuse_port and (other.state == TIME_WAIT or sock.uid == other.uid):
                continue
            if listening_only and other.state != LISTENING:
                continue
            return True
        return False

    def listener(self, host: bytes, port: int) -> TcpSock | None:
        """Who gets a connection to (host, port): the most exact address; among equals (SO_REUSEPORT) in turn."""
        best = 0
        found: list[TcpSock] = []
        for sock in self._held.get(port, ()):
            score = sock.accepts(host) if sock.state == LISTENING else 0
            if score > best:
                best, found = score, []
            if score and score == best:
                found.append(sock)  # type: ignore[arg-type]  # only streams listen
        if not found:
            return None
        self._turn += 1
        return found[self._turn % len(found)]


def overlap(a: InetSock, b: InetSock) -> bool:
    """Would `a`, which is being bound, and `b` both get what is sent to some address?"""
    if a.family == AF_INET and a.local.wildcard and not b.v6only:
        return True  # ipv4_rcv_saddr_equal(): whatever address of IPv6 a connection gave to `b`
    return any(
        x is not None and y is not None and (not any(x) or not any(y) or x == y)
        for x, y in zip(a.covers(), b.covers(), strict=True)
    )
