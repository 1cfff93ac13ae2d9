"""The way out: connections and datagrams to hosts that are allowed, through the host's network.

Layer: netstack, beside segment.py.  May touch: sockets of the host, towards what a rule allows and nothing else.

A guest's socket stays one end of its pair; a relay in the worker's thread moves the bytes between the other end and a
TCP socket of the host.  Names are resolved by the host's own resolver, and what it answers is pinned: a rule with a
name allows those addresses.
"""

from __future__ import annotations

import errno
import select
import socket

from .address import AF_INET, AF_INET6, Endpoint, address_text, err, parse_address
from .hosts import normal
from .sock import Traffic
from .zone import AAAA, TTL, A, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..kernel.task import FdRef, Task
    from .dns import Found
    from .segment import Segment
    from .tcp import TcpSock

FLOWS_MAX = 512


class Rule:
    """What may be reached: `*`, an address or CIDR, or a name (`*.domain`), each with `:port` or any port.

    Raises ValueError for text that is none of these.
    """

    def __init__(self, text: str, loopback: bool = False) -> None:
        self.text = text
        self.loopback = loopback  # does `*` mean the host's own loopback too?
        where, self.port = _split_port(text)
        self.name = ""
        self.network = b""
        self.bits = 0
        address, slash, bits = where.partition("/")
        raw = parse_address(address)
        if raw is not None:
            self.network = raw
            self.bits = int(bits) if slash and bits.isdecimal() else 8 * len(raw)
            if (slash and not bits.isdecimal()) or self.bits > 8 * len(raw):
                raise ValueError(f"{text!r}: {bits!r} is no prefix length")
        elif slash or not where or any(c.isspace() for c in where):
            raise ValueError(f"{text!r} is no host, HOST:PORT, address or CIDR")
        else:
            self.name = normal(where)

    def allows_address(self, where: Endpoint) -> bool:
        """By its address?"""
        if self.port and self.port != where.port:
            return False
        if self.name == "*":
            return self.loopback or not where.loopback
        if len(self.network) != len(where.host):
            return False
        shift = 8 * len(self.network) - self.bits
        return int.from_bytes(self.network, "big") >> shift == int.from_bytes(where.host, "big") >> shift

    def allows_name(self, name: str) -> bool:
        """Is it about this name?"""
        if self.name.startswith("*."):
            return name.endswith(self.name[1:])
        return self.name in ("*", name)


def _split_port(text: str) -> tuple[str, int]:
    where, colon, port = text.rpartition(":")
    if where.startswith("[") and where.partition("]")[2][:1] in ("", "/"):
        where = where.replace("[", "").replace("]", "")
    elif text.startswith("["):
        return text.replace("[", "").replace("]", ""), 0
    elif not colon or ":" in where:
        return text, 0
    if port == "*":
        return where, 0
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: {port!r} is no port")
    return where, int(port)


def _is_local(name: str) -> bool:
    """Is it a name of the host itself?"""
    return name in ("localhost", normal(socket.gethostname())) or name.endswith(".localhost")


class Egress:
    """See the module's text."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self.rules: list[Rule] = []
        self._pins: dict[bytes, set[str]] = {}
        self._flows: dict[tuple[bytes, int], Flow] = {}
        segment.resolver.upstream = self.resolve

    def allows(self, where: Endpoint) -> bool:
        """May a guest reach `where`?"""
        names = self._pins.get(where.host, ())
        for rule in self.rules:
            if rule.allows_address(where):
                return True
            if where.loopback and rule.name == "*" and not rule.loopback:
                continue
            if rule.name and rule.port in (0, where.port) and any(rule.allows_name(name) for name in names):
                return True
        return False

    def name_of(self, address: bytes) -> str:
        """A name that was resolved to `address`."""
        return next(iter(sorted(self._pins.get(address, ()))), "")

    # -- names

    def resolve(self, name: str, kind: int, done: Found) -> bool:
        """Ask the host's resolver for a name that a rule is about; see Resolver.upstream."""
        name = normal(name)
        if not any(rule.name and rule.allows_name(name) for rule in self.rules):
            return False
        if kind not in (A, AAAA):
            done(True, [])
        else:
            self._segment.worker.start(self._resolve(name, kind, done))
        return True

    async def _resolve(self, name: str, kind: int, done: Found) -> None:
        import asyncio

        family = AF_INET if kind == A else AF_INET6
        exists = True
        records: list[Record] | None = None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                name, None, family=family, type=socket.SOCK_STREAM
            )
        except socket.gaierror as e:
            exists = e.errno != socket.EAI_NONAME
            records = None if e.errno in (socket.EAI_AGAIN, socket.EAI_FAIL) else []
        else:
            records = [
                (name, kind, TTL, socket.inet_pton(family, str(f[4][0]).partition("%")[0])) for f in found
            ]
        self._segment.net.loop.call_soon_threadsafe(lambda: self._resolved(name, exists, records, done))

    def _resolved(
        self,
        name: str,
        exists: bool,
        records: list[Record] | None,
        done: Found,
    ) -> None:
        for record in list(records or ()):
            if Endpoint(record[3], 0).loopback and not _is_local(name):
                # Whoever owns the name would decide what of this host's is reached.
                self._segment.log_once(f"name {name}: its address is the host's own loopback; left out")
                assert records is not None
                records.remove(record)
            else:
                self._pins.setdefault(record[3], set()).add(name)
        done(exists, records)

    # -- connections

    def connect(self, sock: TcpSock, t: Task, where: Endpoint, fd: FdRef) -> int | Awaitable[int]:
        """connect(2) to a host outside."""
        sock.prepare(t, where)
        attempt = Attempt(self._segment, where)
        if not fd.nonblock:
            return self._wait(sock, where, attempt)
        try:
            stuffed = sock.hold_back(t, fd)
        except OSError:  # out of descriptors, or the host forbids it (Yama): let the caller wait instead
            return self._wait(sock, where, attempt)
        attempt.then = lambda: self._settle(sock, where, attempt, stuffed)
        return -errno.EINPROGRESS

    async def _wait(self, sock: TcpSock, where: Endpoint, attempt: Attempt) -> int:
        await attempt.ended
        if attempt.error:
            raise err(attempt.error)
        if sock.end is None:
            attempt.drop()
            raise err(errno.EBADF)
        self._join(sock, where, attempt)
        return 0

    def _settle(self, sock: TcpSock, where: Endpoint, attempt: Attempt, stuffed: int) -> None:
        """A connection that is not waited for has come about, or not."""
        if sock.end is None:  # closed meanwhile
            attempt.drop()
            return
        sock.let_go(stuffed, attempt.error)
        if not attempt.error:
            self._join(sock, where, attempt)

    def _join(self, sock: TcpSock, where: Endpoint, attempt: Attempt) -> None:
        end = self._segment.net.hand_over(sock)
        sock.established(where, sock.connecting)
        end.setblocking(False)
        segment, outside = self._segment, attempt.socket
        if segment.interferes:
            client = Endpoint(sock.local.host, sock.local.port)
            near = outside
            if segment.recorder is not None:
                near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            sock.traffic = segment.start_link(end, near, client, where)
            if segment.recorder is None:
                return
            end = far
        traffic = Traffic()
        sock.traffic = sock.traffic or traffic
        end.setblocking(False)
        if segment.recorder is not None:
            name = self.name_of(where.host) or address_text(where.host)
            segment.worker.start(segment.recorder.converse(end, outside, (name, where.port), traffic))
            return
        from .relay import relay  # asyncio costs start-up time

        segment.worker.start(relay(end, outside, segment.net.endings.poison, traffic))

    # -- datagrams

    def datagram(self, data: bytes, source: Endpoint, dest: Endpoint) -> None:
        """A guest's datagram for outside."""
        key = source.host, source.port
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= FLOWS_MAX:
                self._flows.pop(next(iter(self._flows))).close()
            try:
                flow = self._flows[key] = Flow(self._segment, source)
            except OSError as e:
                self._segment.log_once(f"a datagram to {dest}: {e.strerror}")
                return
        flow.send(data, dest)

    def close(self) -> None:
        for flow in self._flows.values():
            flow.close()


class Attempt:
    """A TCP connection of the host's in the making.  `ended` is set, and `then()` called, in the sandbox's loop."""

    def __init__(self, segment: Segment, where: Endpoint) -> None:
        from ..kernel.loop import Event

        self._segment = segment
        self.ended = Event()
        self.error = 0
        self.then: Callable[[], None] | None = None
        family = AF_INET if len(where.host) == 4 else AF_INET6
        self.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        segment.worker.start(self._connect((address_text(where.host), where.port)))

    async def _connect(self, where: tuple[str, int]) -> None:
        import asyncio

        try:
            await asyncio.get_running_loop().sock_connect(self.socket, where)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as e:
            self.error = e.errno or errno.ECONNREFUSED
            self.socket.close()
        self._segment.net.loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self.ended.set()
        if self.then is not None:
            self.then()

    def drop(self) -> None:
        """Nobody wants it any more."""
        self.socket.close()


class Flow:
    """The datagrams of one guest socket: a UDP socket of the host, which hears whom it has spoken to."""

    def __init__(self, segment: Segment, source: Endpoint) -> None:
        self._segment, self._source = segment, source
        family = AF_INET if len(source.host) == 4 else AF_INET6
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._spoken: dict[tuple[bytes, int], None] = {}
        segment.net.loop.add(self._socket.fileno(), self._ready, select.EPOLLIN)

    def send(self, data: bytes, dest: Endpoint) -> None:
        self._spoken[dest.host, dest.port] = None
        try:
            self._socket.sendto(data, (address_text(dest.host), dest.port))
        except OSError:
            pass

    def _ready(self, _events: int) -> None:
        for _ in range(64):
            try:
                data, sender = self._socket.recvfrom(65536)
            except OSError:
                return
            host = parse_address(sender[0].partition("%")[0])
            if host is not None and (host, sender[1]) in self._spoken:
                self._segment.deliver(Endpoint(host, sender[1]), self._source, data)

    def close(self) -> None:
        self._segment.net.loop.remove(self._socket.fileno())
        self._socket.close()
