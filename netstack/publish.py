"""Published ports: clients of the host reach a server in the sandbox.

Layer: netstack, beside segment.py.  May touch: listening sockets and datagram sockets of the host.

A connection is accepted on the host, and the TCP socket itself is put into the guest listener's queue: from then on the
host kernel moves the bytes between the two programs, and nothing of ours is between them.
"""

from __future__ import annotations

import errno
import select
import socket

from .address import AF_INET, AF_INET6, LOOPBACK4, LOOPBACK6, Endpoint, err, parse_address
from .hosts import GATEWAY4, GATEWAY6
from .listener import peer_message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .inet import InetSock
    from .network import Network
    from .segment import Segment
    from .tcp import TcpSock
    from .udp import UdpSock

_AT_A_TIME = 64
#: clients of a published datagram port that are remembered
CLIENTS_MAX = 1024
_FIRST_PORT = 61000  # of the gateway's, behind which clients of datagram ports stand


def host_socket(address: str, port: int, kind: int, reuse: bool = False) -> socket.socket:
    """A socket of the host, bound; `reuse`: with SO_REUSEADDR, which a stream socket has anyway.  Raises OSError."""
    family = AF_INET6 if ":" in address else AF_INET
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if reuse or kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(4096)
    except BaseException:
        made.close()
        raise
    return made


def hand_in(net: Network, connection: socket.socket, client: Endpoint, where: Endpoint) -> TcpSock | None:
    """Put a connection that came from elsewhere into the queue of whoever listens at `where`; the caller closes its
    copy.  None: nobody does, or there are too many."""
    while True:
        listener = net.tcp.listener(where.host, where.port)
        if listener is None or listener.backlog is None:
            return None
        if not net.gone(listener):
            break
    server = listener.accepted(connection.fileno(), where, client)
    message = peer_message(client.pack(listener.family))
    try:
        if not listener.backlog.put(message, connection):
            listener.backlog.park(message, connection.dup)
    except OSError:
        return None
    net.tcp.claim(server, where.port)
    net.connected(server)
    return server


class PublishedStream:
    """A TCP port of the host for `port` of the sandbox."""

    def __init__(self, segment: Segment, sock: socket.socket, port: int) -> None:
        self._segment, self._sock, self.port = segment, sock, port
        self.host_port: int = sock.getsockname()[1]
        segment.net.loop.add(sock.fileno(), self._ready, select.EPOLLIN)

    def _ready(self, _events: int) -> None:
        for _ in range(_AT_A_TIME):
            try:
                connection, client = self._sock.accept()
            except OSError as e:
                if e.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR):
                    self._segment.log_once(f"published port {self.host_port}: {e.strerror}")
                return
            with connection:
                if not self._hand_in(connection, _seen_as(client)):
                    from .relay import close_resets  # asyncio costs start-up time

                    close_resets(connection)

    def _hand_in(self, connection: socket.socket, client: Endpoint) -> bool:
        net = self._segment.net
        for target in (*net.addresses, LOOPBACK4, LOOPBACK6):
            if net.tcp.listener(target, self.port) is not None:
                break
        if len(target) != len(client.host):  # a server that knows one family alone
            client = Endpoint(GATEWAY4 if len(target) == 4 else GATEWAY6, client.port)
        server = hand_in(net, connection, client, Endpoint(target, self.port))
        if server is None:
            return False
        server.hosted = True
        server.hand_down(connection)
        return True

    def close(self) -> None:
        """Free the host's port."""
        self._segment.net.loop.remove(self._sock.fileno())
        self._sock.close()


class PublishedDatagrams:
    """A UDP port of the host for `port` of the sandbox: each client has a port of the gateway's there."""

    def __init__(self, segment: Segment, sock: socket.socket, port: int) -> None:
        self._segment, self._sock, self.port = segment, sock, port
        self.host_port: int = sock.getsockname()[1]
        self._clients: dict[tuple[object, ...], int] = {}
        segment.net.loop.add(sock.fileno(), self._ready, select.EPOLLIN)

    def _ready(self, _events: int) -> None:
        net = self._segment.net
        for _ in range(_AT_A_TIME):
            try:
                data, client = self._sock.recvfrom(65536)
            except OSError:
                return
            source = Endpoint(GATEWAY4, self._port_of(client))
            for target in (net.addresses[0], LOOPBACK4):
                dest = Endpoint(target, self.port)
                if net.datagram_receiver(net.udp, dest, source) is not None:
                    self._segment.deliver(source, dest, data)
                    break

    def _port_of(self, client: tuple[object, ...]) -> int:
        port = self._clients.get(client)
        udp = self._segment.hosts.gateway.udp
        if port is None:
            if len(self._clients) >= CLIENTS_MAX:
                oldest = next(iter(self._clients))
                udp.pop(self._clients.pop(oldest), None)
            port = next(p for p in range(_FIRST_PORT, 65536) if p not in udp)
            self._clients[client] = port
            udp[port] = lambda data, _source, _dest: self._answer(data, client)
        return port

    def _answer(self, data: bytes, client: tuple[object, ...]) -> None:
        try:
            self._sock.sendto(data, client)
        except OSError:
            pass

    def close(self) -> None:
        """Free the host's port."""
        for port in self._clients.values():
            self._segment.hosts.gateway.udp.pop(port, None)
        self._segment.net.loop.remove(self._sock.fileno())
        self._sock.close()


def _seen_as(client: tuple[object, ...]) -> Endpoint:
    """The address that the guest sees: the client's, or the gateway's for what comes from the host itself."""
    host = parse_address(str(client[0]).partition("%")[0]) or GATEWAY4
    if host[0] == 127 if len(host) == 4 else host == LOOPBACK6:
        host = GATEWAY4 if len(host) == 4 else GATEWAY6
    return Endpoint(host, int(str(client[1])))


def publish(
    segment: Segment, address: str, host_port: int, port: int, kind: str
) -> PublishedStream | PublishedDatagrams:
    """Publish `port` of the sandbox at (address, host_port; 0: any) of the host.  Raises OSError."""
    if kind == "udp":
        return PublishedDatagrams(segment, host_socket(address, host_port, socket.SOCK_DGRAM), port)
    return PublishedStream(segment, host_socket(address, host_port, socket.SOCK_STREAM), port)


def publish_listener(segment: Segment, sock: TcpSock) -> PublishedStream:
    """With the host's network (--net host): have the host's clients reach a guest's listener at its own port.

    Raises EADDRINUSE, EACCES as listen(2) and bind(2) of the host do.
    """
    return PublishedStream(segment, _same_port(sock, socket.SOCK_STREAM), sock.local.port)


def publish_bound(segment: Segment, sock: UdpSock) -> PublishedDatagrams:
    """The same for a datagram socket that was bound to a port."""
    return PublishedDatagrams(segment, _same_port(sock, socket.SOCK_DGRAM), sock.local.port)


def _same_port(sock: InetSock, kind: int) -> socket.socket:
    address = "127.0.0.1" if sock.local.loopback else "0.0.0.0"
    try:
        return host_socket(address, sock.local.port, kind, sock.reuse_address)
    except OSError as e:
        raise err(e.errno or errno.EADDRINUSE) from e
