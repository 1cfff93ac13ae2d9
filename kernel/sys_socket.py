"""Sockets: making, naming, connecting, listening (socket(2) and its relatives).

Layer: the pretend kernel, a family of system calls.  May touch: the sandbox's network (netstack/), which decides.

Each handler does what the kernel does before it asks the family (net/socket.c), and then asks the socket.  Data is
not here: a connected socket's is the host kernel's, what goes before is in sys_sockio.py.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from ..netstack.address import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    NETLINK_ROUTE,
    NETLINK_SOCK_DIAG,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    err,
)
from ..netstack.sock import LISTENING, socket_of
from .handlers import NATIVE, NATIVE_FD, InstallFd, NetCall, Out, socket_call, syscall
from .layout import CONSTANTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..netstack.sock import Sock
    from .handlers import Result
    from .task import FdRef, Task

_NATIVE_FD = CONSTANTS["ACT_NATIVE_FD"]
_SOCK_CLOEXEC, _SOCK_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
_AF_MAX, _SOCK_MAX, _IPPROTO_MAX = 46, 11, 263
_SOCK_PACKET = 10
#: ICMP's datagram sockets
_PINGS = ((AF_INET, SOCK_DGRAM, IPPROTO_ICMP), (AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6))
_PROTOCOLS = {SOCK_STREAM: IPPROTO_TCP, SOCK_DGRAM: IPPROTO_UDP}
_CAP_NET_RAW = 13
_ADDRESS_MAX = 128  # sizeof(struct sockaddr_storage)


def find(t: Task, fd: FdRef) -> Sock | None:
    """The socket behind a descriptor; None for one that only the host kernel knows (a socketpair(2)).

    Raises ENOTSOCK, or EBADF for an O_PATH descriptor.
    """
    sock = t.sandbox.net.get(fd.dev, fd.ino)
    if sock is not None:
        return sock
    if fd.mode & 0o170000 != 0o140000:
        raise err(errno.ENOTSOCK)
    file = t.sandbox.vfs.files.open_file(fd.dev, fd.ino)
    if file is not None:
        from ..vfs.openfile import OpenPath

        raise err(errno.EBADF if isinstance(file, OpenPath) else errno.ENOTSOCK)
    return None


def pair_type(t: Task, fd: FdRef) -> int:
    """The type of a socketpair(2), which only the host knows."""
    with socket_of(t.host_fd(fd.fd)) as copy:
        return copy.type


def _check_kind(t: Task, family: int, kind: int, protocol: int) -> tuple[int, int]:
    """Type and protocol of a new socket, or the error of inet_create(), inet6_create() and unix_create()."""
    if family == AF_UNIX:
        if protocol not in (0, AF_UNIX):
            raise err(errno.EPROTONOSUPPORT)
        if kind == SOCK_RAW:
            kind = SOCK_DGRAM  # BSD's; unix_create()
        if kind not in (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET):
            raise err(errno.ESOCKTNOSUPPORT)
        return kind, 0
    if family == AF_NETLINK:
        return _check_netlink(t, kind, protocol)
    if not 0 <= protocol < _IPPROTO_MAX:
        raise err(errno.EINVAL)
    if kind == SOCK_RAW:
        if not protocol:
            raise err(errno.EPROTONOSUPPORT)
        _may_be_raw(t, "a raw socket")
        return kind, protocol
    if (family, kind, protocol) in _PINGS:
        if not t.sandbox.net.raw:  # nobody is in net.ipv4.ping_group_range
            t.sandbox.log_once("socket(IPPROTO_ICMP): not allowed (--net-raw, box.net.raw = True); refused (EACCES)")
            raise err(errno.EACCES)
        return kind, protocol
    if kind not in _PROTOCOLS:
        raise err(errno.ESOCKTNOSUPPORT)
    if kind == SOCK_DGRAM and protocol == IPPROTO_UDPLITE:
        return kind, protocol
    if protocol not in (0, _PROTOCOLS[kind]):
        raise err(errno.EPROTONOSUPPORT)
    return kind, _PROTOCOLS[kind]


def _may_be_raw(t: Task, what: str) -> None:
    """EPERM without CAP_NET_RAW, or where raw sockets are not allowed."""
    if not t.creds.capable(_CAP_NET_RAW):
        raise err(errno.EPERM)
    if not t.sandbox.net.raw:
        t.sandbox.log_once(f"{what}: not allowed (--net-raw, box.net.raw = True); refused (EPERM)")
        raise err(errno.EPERM)


def _check_packet(t: Task, kind: int) -> None:
    """packet_create(): there are none."""
    if not t.creds.capable(_CAP_NET_RAW):
        raise err(errno.EPERM)
    if kind not in (SOCK_DGRAM, SOCK_RAW, _SOCK_PACKET):
        raise err(errno.ESOCKTNOSUPPORT)
    t.sandbox.log_once(
        "socket(AF_PACKET): sandboxes have no packet sockets; refused (EPERM).  --pcap FILE shows what would be seen"
    )
    raise err(errno.EPERM)


def _check_netlink(t: Task, kind: int, protocol: int) -> tuple[int, int]:
    """The same of netlink_create(): there are NETLINK_ROUTE and SOCK_DIAG; the others are as without the modules."""
    if kind not in (SOCK_RAW, SOCK_DGRAM):
        raise err(errno.ESOCKTNOSUPPORT)
    if protocol not in (NETLINK_ROUTE, NETLINK_SOCK_DIAG):
        t.sandbox.log_once(f"socket(AF_NETLINK, {protocol}): only ROUTE and SOCK_DIAG are there (EPROTONOSUPPORT)")
        raise err(errno.EPROTONOSUPPORT)
    return kind, protocol


@syscall("socket")
def sys_socket(t: Task, family: int, kind: int, protocol: int) -> Result:
    """socket(2): AF_UNIX, AF_INET, AF_INET6."""
    flags = kind & ~15
    kind &= 15
    if flags & ~(_SOCK_CLOEXEC | _SOCK_NONBLOCK):
        raise err(errno.EINVAL)
    if not 0 <= family < _AF_MAX:
        raise err(errno.EAFNOSUPPORT)
    if kind >= _SOCK_MAX:
        raise err(errno.EINVAL)
    if family == AF_PACKET or (family == AF_INET and kind == _SOCK_PACKET):  # its old name; __sock_create()
        _check_packet(t, kind)
    if family not in (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK):
        t.sandbox.log_once(f"socket(family {family}): sandboxes do not have it yet; refused (EAFNOSUPPORT)")
        raise err(errno.EAFNOSUPPORT)
    kind, protocol = _check_kind(t, family, kind, protocol)
    sock, end = t.sandbox.net.create(family, kind, protocol)
    sock.uid = t.creds.euid
    if flags & _SOCK_NONBLOCK:
        end.setblocking(False)
    return InstallFd(end.detach(), cloexec=bool(flags & _SOCK_CLOEXEC))


def _address(data: bytes | None, length: int) -> bytes:
    """move_addr_to_kernel()."""
    if data is None or not 0 <= length <= _ADDRESS_MAX:
        raise err(errno.EINVAL)
    return data


@syscall("bind")
def sys_bind(t: Task, fd: FdRef, address: bytes | None, length: int) -> Result:
    """bind(2)"""
    sock = find(t, fd)
    raw = _address(address, length)
    if sock is None:
        raise err(errno.EINVAL)  # one of a pair: it stays nameless
    sock.bind(t, raw)
    return 0


@syscall("connect")
def sys_connect(t: Task, fd: FdRef, address: bytes | None, length: int) -> Result:
    """connect(2)"""
    sock = find(t, fd)
    raw = _address(address, length)
    if sock is None:
        from ..netstack.unix import UnixSock

        UnixSock(t.sandbox.net, AF_UNIX, SOCK_STREAM, 0).refuse_connect(t, raw)
        return 0
    done = sock.connect(t, raw, fd)
    if isinstance(done, int):
        return _connected(sock, done)
    return InstallFd(done.detach()) if isinstance(done, socket.socket) else _connected_later(sock, done)


def _connected(sock: Sock, ret: int) -> Out:
    return Out(ret, flags=_NATIVE_FD if sock.native else 0)


async def _connected_later(sock: Sock, done: Awaitable[int]) -> Out:
    return _connected(sock, await done)


@syscall("listen")
def sys_listen(t: Task, fd: FdRef, backlog: int) -> Result:
    """listen(2)"""
    sock = find(t, fd)
    if sock is None:
        raise err(errno.EOPNOTSUPP if pair_type(t, fd) == SOCK_DGRAM else errno.EINVAL)
    before = sock.state
    sock.listen(t, backlog)
    if before != LISTENING:
        _never_writable(t, fd, sock)
    return 0


def _never_writable(t: Task, fd: FdRef, sock: Sock) -> None:
    """A listener is ready for reading at most, so the guest's end of its pair is stuffed: a program that polls it for
    writing too would spin.  What SO_SNDBUF tells is kept."""
    try:
        copy = socket.socket(fileno=t.host_fd(fd.fd))
    except OSError:
        return  # out of descriptors, or the host forbids it (Yama): everything else works without
    with copy:
        size = copy.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        sock.stuffed = size
        try:
            while True:
                copy.send(bytes(4096), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass


@syscall("accept", "accept4")
def sys_accept(t: Task, fd: FdRef, *_rest: int) -> Result:
    """accept(2): the core takes connections from a listener's pair itself, once it knows that it is one."""
    sock = find(t, fd)
    if sock is None:
        raise err(errno.EOPNOTSUPP if pair_type(t, fd) == SOCK_DGRAM else errno.EINVAL)
    if sock.connects and sock.state != LISTENING:
        raise err(errno.EINVAL)
    if not sock.connects:
        raise err(errno.EOPNOTSUPP)
    return NetCall(t.sandbox.net.descriptor_class(fd.dev, fd.ino))


@socket_call("close")
def sys_close(t: Task, fd: FdRef) -> Result:
    """close(2) of a connection with SO_LINGER of 0: its core asks before it does so (core_native/tcp.c)."""
    t.sandbox.net.endings.reset(fd.ino, lambda: t.host_fd(fd.fd))
    return NATIVE


def give_back(value: bytes, address: int, room: tuple[int, bytes | None]) -> Out:
    """A value and its length to the caller, as move_addr_to_user(): cut to the room, with the full length."""
    where, given = room
    if given is None:
        raise err(errno.EFAULT)
    size = struct.unpack("<i", given)[0]
    if size < 0:
        raise err(errno.EINVAL)
    writes = [(address, value[:size])] if size and value else []
    return Out(0, [*writes, (where, struct.pack("<i", len(value)))])


@syscall("socketpair")
def sys_socketpair(t: Task, family: int, kind: int, protocol: int, pair: int) -> Result:
    """socketpair(2) of another family than AF_UNIX, which comes to no pair on Linux: its errno is the host's."""
    number: int | None = None
    try:
        for one in socket.socketpair(family, kind, protocol):
            one.close()
    except OSError as e:
        number = e.errno
    raw = kind & 15 == SOCK_RAW and family in (AF_INET, AF_INET6)
    capable = t.creds.capable(_CAP_NET_RAW)  # a socket of that kind is made before it is asked for its pair
    if number == errno.EOPNOTSUPP and (raw or kind & 15 == _SOCK_PACKET or family == AF_PACKET) and not capable:
        number = errno.EPERM
    elif number == errno.EPERM and capable:  # who runs us may not
        odd = family == AF_PACKET and kind & 15 not in (SOCK_RAW, SOCK_DGRAM, _SOCK_PACKET)
        number = errno.ESOCKTNOSUPPORT if odd else errno.EOPNOTSUPP
    raise err(number or errno.EOPNOTSUPP)


@syscall("getsockname")
def sys_getsockname(t: Task, fd: FdRef, address: int, room: tuple[int, bytes | None]) -> Result:
    """getsockname(2)"""
    sock = find(t, fd)
    return NATIVE if sock is None else give_back(sock.sockname(), address, room)


@syscall("getpeername")
def sys_getpeername(t: Task, fd: FdRef, address: int, room: tuple[int, bytes | None]) -> Result:
    """getpeername(2)"""
    sock = find(t, fd)
    return NATIVE if sock is None else give_back(sock.peername(), address, room)


@socket_call("shutdown")
def sys_shutdown(t: Task, fd: FdRef, how: int) -> Result:
    """shutdown(2) of what is not connected, and of datagram sockets."""
    sock = find(t, fd)
    if sock is None or sock.native:
        return NATIVE_FD
    if not 0 <= how <= 2:
        raise err(errno.EINVAL)
    return sock.shutdown(how)
