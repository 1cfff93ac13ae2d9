"""Several sandboxes on one network: each is a host with a name and addresses, and reaches the others' servers.

Layer: netstack, on top.  May touch: the networks of its members, each in its own loop's thread.

A connection is one end of a pair, as within a machine: the asking side's loop sends a copy of it to the other's, which
puts it into the listener's queue and says whether that went well.  Nobody holds two sandboxes' locks.
"""

from __future__ import annotations

import errno
import socket
import threading

from .address import Endpoint, err
from .hosts import Host, normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..kernel.task import FdRef, Task
    from .network import Network
    from .tcp import TcpSock

_FIRST, _LAST = 2, 250  # 10.0.0.2 and on


class Lan:
    """The members of a network, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._next = _FIRST

    def join(self, net: Network, name: str) -> Member:
        """Put a machine, which has not run anything, on the network.  Raises ValueError."""
        name = normal(name)
        with self._lock:
            if name in self._members:
                raise ValueError(f"there is a machine {name} on this network already")
            if self._next > _LAST:
                raise ValueError("this network is full")
            number, self._next = self._next, self._next + 1
            others = list(self._members.values())
            member = self._members[name] = Member(self, net, name, number)
            net.addresses = member.addresses
        for other in others:
            net.segment.hosts.enter(other.seen_by(net))
            other.post(lambda other=other: other.net.segment.hosts.enter(member.seen_by(other.net)))  # type: ignore[misc]
        return member

    def leave(self, member: Member) -> None:
        """A machine is switched off."""
        with self._lock:
            self._members.pop(member.name, None)
            others = list(self._members.values())
        for other in others:
            other.post(lambda other=other: other.net.segment.hosts.forget(member.name))  # type: ignore[misc]


class Member:
    """One machine.  `post()` runs something in its loop's thread."""

    def __init__(self, lan: Lan, net: Network, name: str, number: int) -> None:
        self._lan, self.net, self.name = lan, net, name
        self.addresses = (bytes((10, 0, 0, number)), b"\xfd" + bytes(14) + bytes((number,)))
        self._lock = threading.Lock()
        self._open = True
        self._asked: dict[Attempt, None] = {}

    def post(self, call: Callable[[], None]) -> bool:
        """Have the machine do something soon; False when it is off."""
        with self._lock:
            if self._open:
                self.net.loop.call_soon_threadsafe(call)
            return self._open

    def seen_by(self, net: Network) -> Host:
        """The host that another machine has of this one."""
        host = Host(self.name, *self.addresses)
        host.tcp = Ports(TcpService(net, self))  # type: ignore[assignment]
        host.udp = Ports(UdpService(self))  # type: ignore[assignment]
        return host

    def ask(self, attempt: Attempt) -> None:
        """Have a connection put into the queue of whoever listens here; `attempt` is told in its own loop."""
        with self._lock:
            self._asked[attempt] = None
        if not self.post(lambda: self._take(attempt)):
            self._done(attempt, errno.EHOSTUNREACH)

    def _take(self, attempt: Attempt) -> None:
        from .publish import hand_in

        made = hand_in(self.net, attempt.end, attempt.client, attempt.where)
        self._done(attempt, 0 if made is not None else errno.ECONNREFUSED)

    def _done(self, attempt: Attempt, error: int) -> None:
        with self._lock:
            if self._asked.pop(attempt, 0) is not None:
                return
        attempt.tell(error)

    def close(self) -> None:
        """The machine is switched off; its loop has ended."""
        with self._lock:
            self._open = False
            left = list(self._asked)
        for attempt in left:
            self._done(attempt, errno.ECONNREFUSED)
        self._lan.leave(self)


class Ports(dict[int, object]):
    """Stands for all ports: who listens is the other machine's to know."""

    def __init__(self, service: object) -> None:
        super().__init__()
        self._service = service

    def get(self, _port: int, _default: object = None) -> object:
        return self._service

    def __contains__(self, _port: object) -> bool:
        return True


class UdpService:
    """Datagrams to a machine."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def __call__(self, data: bytes, source: Endpoint, dest: Endpoint) -> None:
        self._member.post(lambda: self._member.net.segment.deliver(source, dest, data))

    def to_machine(self, protocol: int, source: Endpoint, dest: Endpoint, payload: bytes) -> None:
        """A packet of another protocol."""
        self._member.post(lambda: self._member.net.segment.icmp.arrives(protocol, source, dest, payload))


class TcpService:
    """Connections of `net`'s programs to a machine."""

    def __init__(self, net: Network, member: Member) -> None:
        self._net, self._member = net, member

    def room(self) -> bool:
        return True

    def connect(self, sock: TcpSock, t: Task, where: Endpoint, fd: FdRef) -> int | Awaitable[int]:
        """connect(2), also one that is not to wait: for the other machine's answer, which comes at once."""
        attempt = Attempt(self._net, sock, where)
        self._member.ask(attempt)
        return attempt.wait(fd.nonblock)


class Attempt:
    """One connection that is being made: `end` is the copy of the socket's end, or of a link's, for the listener."""

    def __init__(self, net: Network, sock: TcpSock, where: Endpoint) -> None:
        from ..kernel.loop import Event

        self._net, self._sock, self.where = net, sock, where
        self.client = Endpoint(sock.local.host, sock.local.port)
        self._answered = Event()
        self._error = 0
        self._near: socket.socket | None = None
        if net.segment.interferes:
            self._near, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        else:
            assert sock.end is not None
            self.end = sock.end.dup()

    def tell(self, error: int) -> None:
        """The other machine's answer, in its thread."""

        def told() -> None:
            self.end.close()
            self._error = error
            self._answered.set()

        self._net.loop.call_soon_threadsafe(told)

    async def wait(self, nonblock: bool) -> int:
        """What connect(2) answers.  Raises its error."""
        await self._answered
        sock = self._sock
        if self._error or sock.end is None:
            if self._near is not None:
                self._near.close()
            if self._error and nonblock:
                return sock.fail_later(self._error)
            raise err(self._error or errno.EBADF)
        end = self._net.hand_over(sock)
        if self._near is None:
            end.close()
        else:
            sock.traffic = self._net.segment.start_link(end, self._near, self.client, self.where)
        return sock.established(self.where, nonblock)
