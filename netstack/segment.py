"""What lies beyond the sandbox's own machine: virtual hosts, the resolver, and the ways to them.

Layer: netstack, above hosts.py, dns.py and services.py; made by network.py when something looks beyond.  May touch: the
wire, a host socket pair by which datagrams for Python arrive.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from functools import partial

from . import dns
from .address import AF_INET6, Endpoint, address_text, err, is_multicast, parse_inet
from .hosts import Hosts, on_segment
from .interfaces import ETH0, on_broadcast
from .lan import TcpService, UdpService
from .listener import PEER, peer_message
from .options import ancillary
from .services import Service, stream_factory
from .udp import LOCAL
from .weather import Climate
from .worker import Worker
from .zone import Zone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..kernel.task import FdRef, Task
    from .capture import Capture
    from .egress import Egress
    from .hosts import Host, StreamService
    from .icmp import Icmp
    from .inet import InetSock
    from .network import Network
    from .publish import PublishedDatagrams, PublishedStream
    from .recording import Recorder
    from .sock import Receiver, Traffic
    from .tcp import TcpSock
    from .udp import UdpSock
    from .weather import Weather

_DATAGRAM_MAX = 65536
_DEST_LEVEL = 0x7233  # of the control message that tells the wire's reader where a datagram went
_CONTROL = struct.Struct("<Qii")


class Wire:
    """Where datagrams for Python go: `end` is lent to senders as that of a socket is (core_native/net.c, send_via)."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self.end, self._reader = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        self._reader.setblocking(False)
        segment.net.loop.add(self._reader.fileno(), self._ready, select.EPOLLIN)

    @staticmethod
    def address(
        dest: Endpoint, ttl: int = 0, loop: bool = False, protocol: int = 0, flags: int = 0
    ) -> bytes:
        """A control message by which the reader knows where a datagram was sent to; if to a group, with the interface
        as its scope, how far, and whether it comes back; if by a raw socket, which protocol's (see raw.py); or LOCAL,
        if it stays on the machine and comes by here to be captured."""
        packed = dest.pack(AF_INET6) + bytes((ttl, loop, protocol, flags))
        return _CONTROL.pack(_CONTROL.size + len(packed), _DEST_LEVEL, 0) + packed

    def _ready(self, _events: int) -> None:
        for _ in range(64):  # others want their turn
            try:
                packet = self._reader.recv(PEER.size + _DATAGRAM_MAX)
            except OSError:
                return
            if len(packet) < PEER.size:
                return
            size, _, address, _, control = PEER.unpack_from(packet)
            source = parse_inet(AF_INET6, address[:size])
            dest = parse_inet(AF_INET6, control[_CONTROL.size : _CONTROL.size + 28])
            data = packet[PEER.size :]
            ttl, loop, protocol, flags = control[_CONTROL.size + 28 : _CONTROL.size + 32]
            if flags == LOCAL:
                self._segment.put(source, dest, data)
            elif protocol:
                self._segment.icmp.sent(data, source, dest, protocol, flags)
            elif dest.scope:
                self._segment.arrived_for_group(data, source, dest, ttl, bool(loop))
            else:
                self._segment.arrived(data, source, dest)

    def close(self) -> None:
        self._segment.net.loop.remove(self._reader.fileno())
        self._reader.close()
        self.end.close()


class Segment:
    """See the module's text.  `connections` counts those to Python services."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.hosts = Hosts()
        self.zone = Zone(self.hosts, net.hostname, net.addresses)
        self.resolver: dns.Resolver = dns.Resolver(self)
        self.worker: Worker = Worker()
        self.connections = 0
        self._wire: Wire | None = None
        self._icmp: Icmp | None = None
        self._egress: Egress | None = None
        self.climate = Climate()
        self.capture: Capture | None = None
        self.recorder: Recorder | None = None
        self.published: list[PublishedStream | PublishedDatagrams] = []
        gateway = self.hosts.gateway
        self._dns = Service(self, "the resolver", stream_factory(self, "the resolver", self.resolver.stream))
        gateway.tcp[dns.PORT] = self._dns
        gateway.udp[dns.PORT] = self.resolver.datagram

    @property
    def wire(self) -> Wire:
        if self._wire is None:
            self._wire = Wire(self)
        return self._wire

    @property
    def icmp(self) -> Icmp:
        """What raw sockets send and get."""
        if self._icmp is None:
            from .icmp import Icmp

            self._icmp = Icmp(self)
        return self._icmp

    def failed(self, what: str, failure: BaseException) -> None:
        """A handler of the user's raised; from any thread."""
        import traceback

        text = "".join(traceback.format_exception(failure)).rstrip()
        self.net.loop.call_soon_threadsafe(lambda: self.net.log(f"{what}: its handler failed: {text}"))

    def name_of(self, address: bytes) -> str:
        """What a host is called, "" if nobody knows."""
        return self.hosts.name_at(address) or (self._egress.name_of(address) if self._egress else "")

    # -- the way out

    @property
    def egress(self) -> Egress:
        """The way out; made when something is allowed."""
        if self._egress is None:
            from .egress import Egress

            self._egress = Egress(self)
        return self._egress

    @property
    def has_egress(self) -> bool:
        return self._egress is not None

    def allow(self, rule: str, loopback: bool = False) -> None:
        """Let guests reach what `rule` says (egress.Rule).  Raises ValueError."""
        from .egress import Rule

        self.egress.rules.append(Rule(rule, loopback))

    def _allows(self, where: Endpoint) -> bool:
        return self._egress is not None and self._egress.allows(where)

    def stands_in(self, where: Endpoint) -> bool:
        """Does something else answer at an address of the sandbox's own where no program listens?"""
        host = self._host_at(where)
        return self.is_nameserver(where) or self._allows(where) or (host is not None and where.port in host.tcp)

    def is_nameserver(self, where: Endpoint) -> bool:
        """Does the guest's resolv.conf send queries there?"""
        if where.port != dns.PORT or self.net.mode == "none":
            return False
        return where.host in dns.nameservers(self.net.resolv_conf())

    def _host_at(self, where: Endpoint) -> Host | None:
        return self.hosts.by_address.get(where.host) if self.net.mode != "none" else None

    def check_route(self, where: Endpoint, allowed: bool = False) -> None:
        """Raises ENETUNREACH where no route leads, EHOSTUNREACH where there is nobody; and tells the user."""
        if allowed or self._host_at(where) is not None or self.stands_in(where):
            return
        if on_segment(where.host) and self.net.mode != "none":
            self.net.refused("reaching", where, "EHOSTUNREACH", "there is no such host")
            raise err(errno.EHOSTUNREACH)
        self.net.refused("reaching", where, "ENETUNREACH", "it is not on the sandbox's network")
        raise err(errno.ENETUNREACH)

    def check_host(self, where: Endpoint) -> None:
        """The same for a raw socket: EPERM for what lies outside, whatever is allowed there."""
        if self._host_at(where) is None and self._egress is not None and not on_segment(where.host):
            self.net.refused("a packet to", where, "EPERM", "raw sockets do not reach beyond the sandbox's network")
            raise err(errno.EPERM)
        if self._host_at(where) is None:
            self.check_route(where)

    # -- connections

    def _service(self, where: Endpoint) -> StreamService | None:
        """Who takes a TCP connection to `where`.  Raises ECONNREFUSED; None: it is a way out."""
        host = self._host_at(where)
        if host is None:
            return self._dns if self.is_nameserver(where) else None
        service = host.tcp.get(where.port)
        if service is None or not service.room():
            self.net.refused("connect to", where, "ECONNREFUSED", "nothing is served at this port")
            raise err(errno.ECONNREFUSED)
        return service

    def connect(
        self, sock: TcpSock, t: Task, where: Endpoint, fd: FdRef, allowed: bool
    ) -> int | Awaitable[int]:
        """connect(2) of a stream socket to another machine; `allowed`: whatever the rules say."""
        self.check_route(where, allowed)
        service = self._service(where)
        if service is None:
            if not allowed and not self._allows(where):
                raise err(errno.ENETUNREACH)  # whatever check_route() came to think: nothing leaves without a rule
            return self.egress.connect(sock, t, where, fd)
        sock.prepare(t, where)
        if isinstance(service, TcpService):
            return service.connect(sock, t, where, fd)
        if self.interferes:
            from .crossing import Crossing

            return Crossing(self, sock, where, service).begin(t, fd)
        sock.traffic = service.connected(self.net.hand_over(sock), Endpoint(sock.local.host, sock.local.port), where)
        return sock.established(where, fd.nonblock)

    @property
    def interferes(self) -> bool:
        """Is there weather, or a capture, so that connections go by a link?"""
        return self.capture is not None or not self.climate.fair

    def climate_name(self, address: bytes) -> str:
        """What the weather knows a host as: its name, else its address."""
        return self.name_of(address) or address_text(address)

    def set_weather(self, name: str, weather: Weather, seed: int | None) -> None:
        """The weather of a host, "" for all; a seed also says which ephemeral ports there will be."""
        self.climate.set(name, weather, seed)
        if seed is not None:
            from random import Random

            for protocol, ports in (("tcp", self.net.tcp), ("udp", self.net.udp)):
                ports.seed(Random(f"{seed} {protocol}"))

    def start_link(
        self, end: socket.socket, far: socket.socket, client: Endpoint, server: Endpoint
    ) -> Traffic:
        """Move a connection's bytes in the worker, through weather and capture; what is counted of them."""
        from .capture import Flow
        from .link import Link

        name = self.climate_name(server.host)
        steady = self.climate.seeded
        flow = Flow(self.capture, client, server, steady) if self.capture is not None else None
        link = Link(lambda: self.climate.at(name), self.climate.dice(name), flow, self.net.endings.poison)
        self.worker.start(link.run(end, far))
        return link.traffic

    # -- datagrams

    def route(
        self, sock: UdpSock, where: Endpoint, source: Endpoint, allowed: bool
    ) -> tuple[Receiver, bytes, bytes] | None:
        """Where a datagram to another machine goes; see Sock.route()."""
        self.check_route(where, allowed)
        host = self._host_at(where)
        if host is None and allowed and not self.stands_in(where):
            self.allow(str(where))
        elif host is not None and where.port not in host.udp:
            self.net.refused("a datagram to", where, "ECONNREFUSED", "nothing is served at this port")
            if sock.peer == where:
                sock.refuse()
            return None
        return self.wire, source.pack(AF_INET6), Wire.address(where)

    def arrived(self, data: bytes, source: Endpoint, dest: Endpoint) -> None:
        """A datagram from a guest came over the wire."""
        if self.capture is not None:
            self.capture.datagram(source, dest, data)
        self.through_weather("to", dest.host, partial(self._take, data, source, dest))

    def arrived_for_group(self, data: bytes, source: Endpoint, dest: Endpoint, ttl: int, loop: bool) -> None:
        """A guest's datagram for several: for this machine's sockets, and all other hosts' on the network."""
        if self.capture is not None:
            self.capture.datagram(source, dest, data)
        if loop:
            self._put_to_group(source, dest, data)
        if dest.scope != ETH0 or not ttl:
            return
        for host in list(self.hosts.by_name.values()):
            service = host.udp.get(dest.port)
            address = host.v4 if len(dest.host) == 4 else host.v6
            if service is None or address is None:
                continue
            to = dest
            if not isinstance(service, UdpService):  # another machine knows its members itself
                if is_multicast(dest.host) and dest.host not in host.groups:
                    continue
                to = Endpoint(address, dest.port)
            self.through_weather("to", address, partial(service, data, source, to))

    def through_weather(self, way: str, host: bytes, arrives: Callable[[], None]) -> None:
        """A datagram to or from a host arrives as often, and as late, as the weather there has it."""
        if self.climate.fair:
            arrives()
            return
        name = self.climate_name(host)
        for delay in self.climate.at(name).deliveries(self.climate.datagram_dice(f"{way} {name}")):
            self.net.loop.call_later(delay, arrives)

    def _take(self, data: bytes, source: Endpoint, dest: Endpoint) -> None:
        host = self._host_at(dest)
        service = host.udp.get(dest.port) if host is not None else None
        if service is None and self.is_nameserver(dest):
            service = self.resolver.datagram
        if service is not None:
            service(data, source, dest)
        elif self._allows(dest):
            self.egress.datagram(data, source, dest)

    def deliver(self, source: Endpoint, dest: Endpoint, data: bytes) -> None:
        """A datagram from a virtual host to the guest; in the loop's thread.  Nobody there: it is lost."""
        self.through_weather("from", source.host, partial(self.put, source, dest, data))

    def put(self, source: Endpoint, dest: Endpoint, data: bytes) -> None:
        """A datagram to the sockets of this machine that it is for."""
        if self.capture is not None:
            self.capture.datagram(source, dest, data)
        if is_multicast(dest.host) or on_broadcast(dest.host, self.net.own):
            self._put_to_group(source, Endpoint(dest.host, dest.port, 0, ETH0), data)
            return
        found = self.net.datagram_receiver(self.net.udp, dest, source)
        if found is not None:
            self.give(found, source, dest, data)

    def _put_to_group(self, source: Endpoint, dest: Endpoint, data: bytes) -> None:
        for found in self.net.group_receivers(dest, source, dest.scope):
            self.give(found, source, dest, data)

    def give(self, found: InetSock, source: Endpoint, dest: Endpoint, data: bytes) -> None:
        """Into a socket's queue, if there is room."""
        if found.end is None or found.shut & 1:
            return
        control = ancillary(found, found, dest.host, dest.scope or ETH0)
        header = peer_message(source.pack(found.family), control=control)
        try:
            found.end.send(header + data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass

    def log_once(self, line: str) -> None:
        self.net.log_once(line)

    def close(self) -> None:
        """The sandbox ends; the loop has stopped, and so has the worker."""
        for published in self.published:
            published.close()
        if self._egress is not None:
            self._egress.close()
        if self.capture is not None:
            self.capture.close()
        if self.recorder is not None:
            self.recorder.close()
        if self._wire is not None:
            self._wire.close()
