"""The network of one sandbox: every socket, found by the identity of its descriptor.

Layer: netstack, on top of the families.  May touch: host socket pairs, the event loop, /proc/self/net/unix.

A socket that is not connected is watched: its pair hangs up when the last descriptor is closed.  A connected
one costs the supervisor no descriptor, so nothing tells of its end; its record (names, options) is dropped by
a sweep that compares with the host's list of live sockets whenever the records have doubled.
"""

from __future__ import annotations

import os
import select
import socket
from time import monotonic

from ..kernel.layout import CONSTANTS
from .address import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNIX,
    ALL_HOSTS,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    LOOPBACK6,
    SOCK_RAW,
    SOCK_STREAM,
    Endpoint,
    address_text,
    is_multicast,
)
from .endings import Endings
from .hosts import OWN4, OWN6
from .ports import Ports
from .sock import CLOSED, CONNECTED, FRESH, LISTENING, Sock, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel.loop import Loop
    from ..kernel.sandbox import Kernel
    from .inet import InetSock
    from .interfaces import Own
    from .lan import Lan, Member
    from .link import Tap
    from .netlink import NetlinkSock, NetlinkWire
    from .policy import Policy
    from .raw import RawSock
    from .rtnetlink import Answers
    from .segment import Segment
    from .unix import UnixSock

_HUP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
#: records of connected sockets before the first sweep
_SWEEP_MIN = 1024


class Network:
    """See the module's text.  `kernel` has the loop and the log; `addresses` are the machine's on the network."""

    def __init__(self, kernel: Kernel) -> None:
        self.loop: Loop = kernel.loop
        self.log, self.log_once = kernel.log, kernel.log_once
        self.addresses = (OWN4, OWN6)
        self._kernel = kernel
        self._segment: Segment | None = None
        self.mode = "virtual"  # or "none", or "host"
        self.policy: Policy | None = None
        self.members: dict[tuple[bytes, int], int] = {}  # multicast groups by interface: how many sockets have joined
        self.member: Member | None = None
        self.sockets: dict[tuple[int, int], Sock] = {}
        self.tcp, self.udp, self.udplite, self.pings = Ports(self), Ports(self), Ports(self), Ports(self)
        self.raw = False  # are raw sockets allowed?
        self.raws: dict[RawSock, None] = {}
        self.abstract: dict[tuple[bytes, int], UnixSock] = {}
        self.bound_inodes: dict[tuple[int, int], UnixSock] = {}
        self.netlink_ports: dict[int, NetlinkSock] = {}
        self._netlink_wire: NetlinkWire | None = None
        self.endings = Endings(self, kernel)
        self._connected = 0
        self._sweep_at = _SWEEP_MIN

    # -- the world around ------------------------------------------------------------------------------------

    @property
    def segment(self) -> Segment:
        """What lies beyond this machine; made when something first looks."""
        if self._segment is None:
            from .segment import Segment

            self._segment = Segment(self)
        return self._segment

    def join(self, lan: Lan, name: str) -> None:
        """Be a machine of a network, called `name`; before anything has been done with this one.  Raises ValueError."""
        if self._segment is not None or self.sockets:
            raise ValueError("a machine joins a network before anything is served or run on it")
        self._kernel.set_hostname(name.partition(".")[0])
        self.member = lan.join(self, name)
        for kind, address in zip(("A", "AAAA"), self.addresses, strict=True):
            self.segment.zone.add(name, kind, address_text(address))

    def set_mode(self, mode: str) -> None:
        """"virtual": a network of Python's hosts; "none": nothing but lo; "host": all that the host reaches."""
        self.mode = mode
        if mode == "host":
            self.segment.allow("*", loopback=True)

    @property
    def own(self) -> Own:
        """The machine's addresses but for lo's, of IPv4 and IPv6; None while it has no network."""
        return None if self.mode == "none" else self.addresses

    @property
    def netlink_wire(self) -> NetlinkWire:
        """Where requests to the kernel's rtnetlink go."""
        if self._netlink_wire is None:
            from .netlink import NetlinkWire

            self._netlink_wire = NetlinkWire(self)
        return self._netlink_wire

    def route_answers(self) -> Answers:
        """The interfaces and routes as rtnetlink tells them."""
        from .rtnetlink import Answers

        return Answers(self.own, self.has_egress)

    @property
    def has_egress(self) -> bool:
        """May anything outside be reached?"""
        return self._segment is not None and self._segment.has_egress

    @property
    def has_elsewhere(self) -> bool:
        """May something else than this machine's programs answer at its own addresses?"""
        return self._segment is not None and (self._segment.has_egress or self._segment.hosts.on_loopback)

    @property
    def hostname(self) -> str:
        return self._kernel.hostname

    def resolv_conf(self) -> str:
        """The guest's /etc/resolv.conf, "" without one."""
        from ..vfs.tree import TreePath

        try:
            return str((TreePath(self._kernel.vfs) / "etc/resolv.conf").read_text(errors="replace"))
        except OSError:
            return ""

    def owns(self, host: bytes) -> bool:
        """Is `host` an address of this machine?"""
        return host in (self.own or ()) or (host[0] == 127 if len(host) == 4 else host == LOOPBACK6)

    @property
    def captured(self) -> bool:
        """Is everything written to a capture?"""
        return self._segment is not None and self._segment.capture is not None

    def tap(self, client: Endpoint, server: Endpoint) -> Tap | None:
        """What a connection within this machine goes through while everything is captured."""
        if not self.captured:
            return None
        from .link import Tap

        return Tap(self.segment, Endpoint(client.host, client.port), Endpoint(server.host, server.port))

    def name_of(self, address: bytes) -> str:
        """What a host is called, "" if nobody knows."""
        return self._segment.name_of(address) if self._segment is not None else ""

    def connections(self) -> list[dict[str, Any]]:
        """The live table of IP sockets; see table.py."""
        from .table import connections

        return connections(self, self._kernel)

    def refused(self, what: str, where: Endpoint, errname: str, why: str) -> None:
        """Tell the user of an attempt that led nowhere: where to, by name if it has one."""
        name = self.name_of(where.host)
        self.log_once(f"{what} {f'{name}:{where.port} ({where})' if name else where}: {why}; refused ({errname})")

    # -- a socket's life -------------------------------------------------------------------------------------

    def create(self, family: int, kind: int, protocol: int) -> tuple[Sock, socket.socket]:
        """A new socket, and the end that the guest gets.  The arguments have been checked."""
        if family == AF_UNIX:
            from .unix import UnixSock

            sock: Sock = UnixSock(self, family, kind, protocol)
        elif family == AF_NETLINK:
            from .netlink import NetlinkSock

            sock = NetlinkSock(self, family, kind, protocol)
        else:
            sock = _inet_class(kind, protocol)(self, family, kind, protocol)
        return sock, self._pair(sock)

    def _pair(self, sock: Sock) -> socket.socket:
        """A new pair for `sock`; the guest's end."""
        # Datagrams too go over a pair that says when its other end is closed.
        host = socket.SOCK_STREAM if sock.type == SOCK_STREAM else socket.SOCK_SEQPACKET
        theirs, sock.end = socket.socketpair(socket.AF_UNIX, host | socket.SOCK_CLOEXEC)
        sock.ident = identity(theirs.fileno())
        self.sockets[sock.ident] = sock
        self.watch(sock)
        return theirs

    def renew(self, sock: Sock) -> socket.socket:
        """`sock` is connected, or listens, and is to be as it was at first; the guest's end of its new pair."""
        self._forget(sock)
        sock.state, sock.stuffed = FRESH, 0
        return self._pair(sock)

    def watch(self, sock: Sock, extra: int = 0, ready: Callable[[], None] | None = None) -> None:
        """Release `sock` when its pair hangs up; call `ready()` on the events `extra`."""
        assert sock.end is not None

        def happened(events: int) -> None:
            if events & _HUP:
                self.release(sock)
            elif ready is not None:
                ready()

        self.loop.add(sock.end.fileno(), happened, select.EPOLLRDHUP | extra)

    def unwatch(self, sock: Sock) -> None:
        if sock.end is not None:
            self.loop.remove(sock.end.fileno())

    def release(self, sock: Sock) -> None:
        """The last descriptor of `sock` was closed: forget it."""
        self._forget(sock)
        sock.released()

    def _forget(self, sock: Sock) -> None:
        """What `sock` has of the host's is given back."""
        self.unwatch(sock)
        if self.sockets.pop(sock.ident, None) is not None and sock.native:
            self._connected -= 1
        sock.state = CLOSED
        backlog, sock.backlog = sock.backlog, None
        if backlog is not None:
            backlog.close()
        if sock.end is not None:
            sock.end.close()
            sock.end = None

    def gone(self, sock: Sock) -> bool:
        """Has `sock` been closed, though the loop has not come to hear of it yet?  Then it is released."""
        if sock.end is None:
            if sock.native:
                self.sweep()
            return sock.state == CLOSED
        poll = select.poll()
        poll.register(sock.end.fileno(), select.POLLRDHUP)
        if not poll.poll(0):
            return False
        self.release(sock)
        return True

    def catch_up(self) -> None:
        """Forget every socket that has been closed, also those of which the loop has not come to hear yet."""
        self.sweep()
        for sock in [s for s in self.sockets.values() if s.end is not None]:
            self.gone(sock)

    def hand_over(self, sock: Sock) -> socket.socket:
        """`sock` is being connected: its other end, which is the peer's from now on."""
        self.unwatch(sock)
        end, sock.end = sock.end, None
        assert end is not None
        return end

    def connected(self, sock: Sock) -> None:
        """`sock` (with its ident) is connected: remember it until it is swept."""
        sock.since = monotonic()
        sock.state = CONNECTED
        self.sockets[sock.ident] = sock
        self._connected += 1
        if self._connected > self._sweep_at:
            self.sweep()

    def sweep(self) -> None:
        """Drop the records of connected sockets that no longer exist."""
        self.endings.expire()
        live = _live_sockets()
        if live is None:
            return
        noted = self.endings.noted()
        for sock in [s for s in self.sockets.values() if s.native and s.ident[1] not in live]:
            del self.sockets[sock.ident]
            self._connected -= 1
            if not self.endings.waits(sock, noted):
                sock.released()
        self._sweep_at = max(_SWEEP_MIN, 2 * self._connected)

    # -- finding ---------------------------------------------------------------------------------------------

    def get(self, dev: int, ino: int) -> Sock | None:
        return self.sockets.get((dev, ino))

    def descriptor_class(self, dev: int, ino: int) -> int:
        """What the core should take a descriptor for (core.h, FD_*): 0 when the host kernel may have it."""
        sock = self.sockets.get((dev, ino))
        if sock is None:
            return 0
        tcp = CONSTANTS["CLASS_TCP"] if sock.type == SOCK_STREAM and sock.family in (AF_INET, AF_INET6) else 0
        if sock.native:
            return tcp and tcp | CONSTANTS["CLASS_NATIVE"]
        bits = tcp | CONSTANTS["CLASS_SUPERVISED"] | CONSTANTS["CLASS_SOCKET"]
        if not sock.connects:
            bits |= CONSTANTS["CLASS_DATAGRAM"]
        elif sock.state == LISTENING:
            bits |= CONSTANTS["CLASS_LISTENER"]
        return bits

    def has_taker(self, sock: InetSock, where: Endpoint) -> bool:
        """Would some socket of this machine get what `sock` sends, or its connection, to `where`?"""
        if sock.connects:
            return self.tcp.listener(where.host, where.port) is not None
        return self.datagram_receiver(sock.ports, where, sock.source_for(where)) is not None

    def datagram_receiver(self, ports: Ports, where: Endpoint, source: Endpoint) -> InetSock | None:
        """Who gets a datagram: the one that is connected to `source`, else the most exact address, the latest bound."""
        while True:
            best = 0
            found: InetSock | None = None
            for sock in ports.holders(where.port):
                score = sock.accepts(where.host)
                if score and sock.peer is not None:
                    score = 4 if sock.peer == source else 0
                if score and score >= best:
                    best, found = score, sock
            if found is None or not self.gone(found):
                return found

    def group_receivers(self, where: Endpoint, source: Endpoint, index: int) -> list[InetSock]:
        """Who gets a datagram that came by an interface for a multicast group or a broadcast address."""
        several = is_multicast(where.host)
        if several and (where.host, index) not in self.members and where.host not in ALL_HOSTS:
            return []
        return [
            sock
            for sock in self.udp.holders(where.port)
            if sock.accepts(where.host)
            and (sock.peer is None or sock.peer == source)
            and (not several or sock.groups.hears(where.host, index, source.host))
            and not self.gone(sock)
        ]

    def close_services(self) -> None:
        """The sandbox ends: end what Python serves.  Without the sandbox's lock, for which a handler may be waiting."""
        if self._segment is not None:
            self._segment.worker.close()

    def close(self) -> None:
        """The sandbox ends."""
        for sock in list(self.sockets.values()):
            if sock.state != CLOSED:
                self.release(sock)
        self.sockets.clear()
        self.endings.close()
        if self._netlink_wire is not None:
            self._netlink_wire.close()
        if self.member is not None:
            self.member.close()
        if self._segment is not None:
            self._segment.close()


def _inet_class(kind: int, protocol: int) -> type[InetSock]:
    if kind == SOCK_RAW or protocol in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        from .raw import RawSock

        return RawSock
    if kind == SOCK_STREAM:
        from .tcp import TcpSock

        return TcpSock
    from .udp import UdpSock

    return UdpSock


def _live_sockets() -> set[int] | None:
    """Inode numbers of all local and TCP sockets of the host's network namespace; None where /proc does not tell."""
    found: set[int] = set()
    try:
        for name, field in (("unix", 6), ("tcp", 9), ("tcp6", 9)):
            if name == "tcp6" and not os.path.exists("/proc/self/net/tcp6"):
                continue
            with open(f"/proc/self/net/{name}", "rb", buffering=1 << 16) as table:
                next(table)
                found.update(int(line.split(None, field + 1)[field]) for line in table)
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    return found
