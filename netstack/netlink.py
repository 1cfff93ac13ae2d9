"""AF_NETLINK: sockets that ask the kernel about its network (netlink(7)).

Layer: netstack, a family.  May touch: the wire by which requests come, the sockets' own pairs for the answers.

A request is a datagram to the kernel, port 0: it comes over one pair for all netlink sockets, and the answers are put
into the asking socket's queue as the datagrams that Linux would send.
"""

from __future__ import annotations

import errno
import select
import socket
import struct

from .address import AF_NETLINK, NETLINK_SOCK_DIAG, err, family_of
from .listener import PEER, peer_message
from .sock import Sock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..kernel.task import FdRef, Task
    from .network import Network
    from .sock import Receiver

_HEAD = struct.Struct("<IHHII")
_ADDRESS = struct.Struct("<HHII")
_CONTROL = struct.Struct("<QiiQQ")
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_F_REQUEST, _F_MULTI, _F_ACK, _F_DUMP, _F_DUMP_FILTERED = 1, 2, 4, 0x300, 0x20
_DATAGRAM = 8192  # how much of a dump goes into one datagram
CAP_NET_ADMIN = 12
#: the types of rtnetlink come in fours: new, delete, get, set
_GET = 2


class NetlinkSock(Sock):
    """A NETLINK_ROUTE or NETLINK_SOCK_DIAG socket: `port` is its nl_pid, 0 until it has one."""

    __slots__ = ("admin", "groups", "port")

    def __init__(self, net: Network, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, family, kind, protocol)
        self.port = self.groups = 0
        self.admin = False

    def bind(self, t: Task, raw: bytes) -> None:
        if len(raw) < _ADDRESS.size or family_of(raw) != AF_NETLINK:
            raise err(errno.EINVAL)
        _, _, port, groups = _ADDRESS.unpack_from(raw)
        if self.port and port != self.port and port:
            raise err(errno.EINVAL)
        if not self.port:
            if port and port in self.net.netlink_ports:
                raise err(errno.EADDRINUSE)
            self._take(t, port)
        self.groups = groups

    def _take(self, t: Task, port: int = 0) -> None:
        """netlink_autobind(): the process id, or any where that is taken."""
        taken = self.net.netlink_ports
        port = port or t.process.pid
        while port in taken:
            port = (port - 4096) & 0xFFFFFFFF or 0xFFFFF000
        self.port = port
        taken[port] = self

    def connect(self, t: Task, raw: bytes, fd: FdRef) -> int | Awaitable[int]:
        if len(raw) < 2:
            raise err(errno.EINVAL)
        if family_of(raw) not in (0, AF_NETLINK):
            raise err(errno.EINVAL)
        if not self.port:
            self._take(t)
        return 0

    def listen(self, t: Task, backlog: int) -> None:
        raise err(errno.EOPNOTSUPP)

    def sockname(self) -> bytes:
        return _ADDRESS.pack(AF_NETLINK, 0, self.port, self.groups)

    def peername(self) -> bytes:
        return _ADDRESS.pack(AF_NETLINK, 0, 0, 0)

    def route(self, t: Task, raw: bytes | None, size: int) -> tuple[Receiver, bytes, bytes] | None:
        if raw is not None:
            if len(raw) < _ADDRESS.size or family_of(raw) != AF_NETLINK:
                raise err(errno.EINVAL)
            if _ADDRESS.unpack_from(raw)[2]:
                raise err(errno.ECONNREFUSED)  # no other program's
        if not self.port:
            self._take(t)
        self.admin = t.creds.capable(CAP_NET_ADMIN)
        return self.net.netlink_wire, b"", _CONTROL.pack(_CONTROL.size, AF_NETLINK, 0, *self.ident)

    def shutdown(self, how: int) -> int:
        raise err(errno.EOPNOTSUPP)

    def released(self) -> None:
        super().released()
        if self.net.netlink_ports.get(self.port) is self:
            del self.net.netlink_ports[self.port]

    # -- answers

    def send(self, data: bytes) -> None:
        """A datagram from the kernel; one that finds no room is lost."""
        if self.end is not None:
            try:
                self.end.send(
                    peer_message(_ADDRESS.pack(AF_NETLINK, 0, 0, 0)) + data,
                    socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
                )
            except OSError:
                pass

    def asked(self, data: bytes) -> None:
        """A datagram for the kernel: requests, one after the other (netlink_rcv_skb())."""
        while len(data) >= _HEAD.size:
            size, kind, flags, seq, _ = _HEAD.unpack_from(data)
            if not _HEAD.size <= size <= len(data):
                return
            if flags & _F_REQUEST and kind >= 16:
                self._request(data[:size], kind, flags, seq)
            data = data[size + 3 & ~3 :]

    def _request(self, message: bytes, kind: int, flags: int, seq: int) -> None:
        payload = message[_HEAD.size :]
        try:
            if self.protocol == NETLINK_SOCK_DIAG:
                self._diagnose(kind, payload, flags, seq)
                return
            if kind & 3 == _GET and flags & _F_DUMP == _F_DUMP:
                self._dump(kind, payload[0] if payload else 0, seq)
                return
            self._single(kind, payload, seq)
        except OSError as e:
            self._error(message, e.errno or errno.EINVAL, seq)
            return
        if flags & _F_ACK:
            self._error(message, 0, seq)

    def _error(self, message: bytes, number: int, seq: int) -> None:
        body = struct.pack("<i", -number) + (message if number else message[: _HEAD.size])
        head = _HEAD.pack(_HEAD.size + len(body), _NLMSG_ERROR, 0 if number else 0x100, seq, self.port)
        self.send(head + body)

    def _single(self, kind: int, payload: bytes, seq: int) -> None:
        answers = self.net.route_answers()
        if kind & 3 != _GET:
            if not self.admin:
                raise err(errno.EPERM)
            try:
                answers.change(kind, payload)
            except PermissionError:
                self.net.log_once(
                    "rtnetlink: interfaces and routes of a sandbox cannot be changed; refused (EPERM)"
                )
                raise
            return
        new, body = answers.one(kind, payload)
        self.send(_HEAD.pack(_HEAD.size + len(body), new, 0, seq, self.port) + body)

    def _diagnose(self, kind: int, payload: bytes, flags: int, seq: int) -> None:
        from .diag import SOCK_DIAG_BY_FAMILY, dump

        if kind != SOCK_DIAG_BY_FAMILY or flags & _F_DUMP != _F_DUMP:
            raise err(errno.EINVAL if kind != SOCK_DIAG_BY_FAMILY else errno.ENOENT)
        self._send_all(kind, dump(self.net, payload), seq)

    def _dump(self, kind: int, family: int, seq: int) -> None:
        new, bodies = self.net.route_answers().dump(kind, family)
        self._send_all(new, bodies, seq)

    def _send_all(self, new: int, bodies: list[bytes], seq: int) -> None:
        """The parts of a dump, and its end."""
        batch = b""
        for body in bodies:
            one = _HEAD.pack(_HEAD.size + len(body), new, _F_MULTI, seq, self.port) + body
            if batch and len(batch) + len(one) > _DATAGRAM:
                self.send(batch)
                batch = b""
            batch += one + bytes(-len(one) % 4)
        if batch:
            self.send(batch)
        self.send(_HEAD.pack(_HEAD.size + 4, _NLMSG_DONE, _F_MULTI, seq, self.port) + bytes(4))


class NetlinkWire:
    """Where all requests come: `end` is lent to the senders."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self.end, self._reader = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        self._reader.setblocking(False)
        net.loop.add(self._reader.fileno(), self._ready, select.EPOLLIN)

    def _ready(self, _events: int) -> None:
        for _ in range(64):
            try:
                packet = self._reader.recv(PEER.size + 65536)
            except OSError:
                return
            if len(packet) < PEER.size:
                return
            dev, ino = _CONTROL.unpack_from(PEER.unpack_from(packet)[4])[3:]
            sock = self._net.get(dev, ino)
            if isinstance(sock, NetlinkSock):
                sock.asked(packet[PEER.size :])

    def close(self) -> None:
        self._net.loop.remove(self._reader.fileno())
        self._reader.close()
        self.end.close()
