"""Data calls on sockets that the host kernel does not serve alone: unconnected ones, and those with datagrams.

Layer: the pretend kernel, a family of system calls.  May touch: the sandbox's network (netstack/).

These handlers stand in for others where a call names a socket of the network (kernel/handlers.py, SOCKET_HANDLERS).
Receiving is the core's, from the socket's own pair; sending is put here as a sendto(2) without the bytes, whichever
call it was, and a datagram's receiver is lent to the core for it (core_native/net.c).
"""

from __future__ import annotations

import errno
import struct

from ..netstack.address import AF_NETLINK, AF_UNIX, SOCK_STREAM, err
from ..netstack.interfaces import IFREQ, KNOWN, SIOCGIFCONF, interface_ioctl, interface_list
from ..netstack.listener import peer_message
from ..netstack.sock import LISTENING, MSG_OOB
from ..vfs.stat import S_IFIFO, S_IFMT
from .handlers import HANDLERS, NATIVE, NATIVE_FD, NetCall, Out, Via, socket_call, syscall
from .layout import CONSTANTS
from .sys_copy import can_pread, nothing_to_send
from .sys_pyvec import RWF, RWF_NOWAIT, check_rwf, parse_iov
from .sys_socket import find, pair_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..netstack.sock import Sock
    from .handlers import Result
    from .task import FdRef, Task

_MSG_NOSIGNAL, _MSG_FASTOPEN = 0x4000, 0x20000000
_FIONREAD, _TIOCOUTQ, _SIOCATMARK = 0x541B, 0x5411, 0x8905
_MSGHDR_ANSWERS = ((8, 4), (40, 8), (48, 4))  # msg_namelen, msg_controllen and msg_flags of struct msghdr
_OWNER = (0x8901, 0x8902, 0x8903, 0x8904)  # FIOSETOWN, SIOCSPGRP, FIOGETOWN, SIOCGPGRP
_EVERY_FILE = (0x5421, 0x5450, 0x5451, 0x5452)  # FIONBIO, FIONCLEX, FIOCLEX, FIOASYNC


@socket_call("recvfrom")
def sock_recvfrom(
    t: Task, fd: FdRef, _buffer: int, _size: int, flags: int, address: int, length: int
) -> Result:
    """recvfrom(2)"""
    done: Result = sock_receive(t, fd, flags=flags)
    return Out(0, [(length, bytes(4))]) if done == 0 and address else done


@socket_call("recvmsg")
def sock_recvmsg(t: Task, fd: FdRef, message: int, flags: int) -> Result:
    """recvmsg(2)"""
    done: Result = sock_receive(t, fd, flags=flags)
    if done != 0:
        return done
    return Out(0, [(message + where, bytes(size)) for where, size in _MSGHDR_ANSWERS])


@socket_call("read", "readv", "recvmmsg")
def sock_receive(t: Task, fd: FdRef, *_rest: object, flags: int = 0) -> Result:
    """Receiving: a connected socket's is the host kernel's, a datagram's the core's; else there is an error."""
    sock = find(t, fd)
    if sock is None or sock.native:
        return NATIVE_FD
    if not sock.connects:
        return NetCall(t.sandbox.net.descriptor_class(fd.dev, fd.ino))
    sock.check_stream_connected(False, flags)
    return 0


@syscall("sendto")
def sys_sendto(
    t: Task, fd: FdRef, _buffer: int, size: int, flags: int, address: bytes | None, length: int
) -> Result:
    """Sending, by whatever call: see the module's text."""
    sock = find(t, fd)
    if address is None or not 0 <= length <= 128:
        raise err(errno.EINVAL)
    if sock is None:
        if pair_type(t, fd) == SOCK_STREAM:
            if flags & MSG_OOB and not size:
                raise err(errno.EOPNOTSUPP)
            raise err(errno.EISCONN)  # one of a socketpair(2), with an address
        return NATIVE_FD
    if not sock.connects:
        return _send_datagram(t, sock, size, flags, address or None)
    if sock.native:
        if address and sock.family == AF_UNIX and sock.type == SOCK_STREAM:
            raise err(errno.EISCONN)
        return NATIVE_FD
    local_stream = sock.family == AF_UNIX and sock.type == SOCK_STREAM
    if flags & _MSG_FASTOPEN or (local_stream and (address or (flags & MSG_OOB and not size))):
        raise err(errno.EOPNOTSUPP)
    return _check_connected(sock, True, flags)


def _send_datagram(t: Task, sock: Sock, size: int, flags: int, address: bytes | None) -> Result:
    if flags & MSG_OOB:
        sock.check_urgent(t, address)
    if not size and sock.family == AF_NETLINK:
        raise err(errno.ENODATA)  # netlink_sendmsg()
    found = sock.route(t, address, size)
    if found is None:
        return size
    receiver, source, control = found
    if receiver.end is None:
        raise err(errno.ECONNREFUSED)
    return Via(receiver.end.fileno(), peer_message(source, control=control), sock.family != AF_UNIX)


@socket_call("preadv2")
def sock_preadv2(t: Task, fd: FdRef, iov: bytes | None, count: int, low: int, _high: int, flags: int) -> Result:
    """preadv2(2)"""
    return _positioned(t, fd, iov, count, low, flags, False)


@socket_call("pwritev2")
def sock_pwritev2(t: Task, fd: FdRef, iov: bytes | None, count: int, low: int, _high: int, flags: int) -> Result:
    """pwritev2(2)"""
    return _positioned(t, fd, iov, count, low, flags, True)


def _positioned(t: Task, fd: FdRef, iov: bytes | None, count: int, low: int, flags: int, sending: bool) -> Result:
    """A socket has no position, and datagrams go by other calls."""
    sock = find(t, fd)
    if sock is None or sock.native:
        return NATIVE_FD
    if low != -1:
        raise err(errno.EINVAL if low < 0 else errno.ESPIPE)
    if not any(length for _, length in parse_iov(iov, count)):
        return 0
    check_rwf(flags, RWF | RWF_NOWAIT)
    if not sock.connects:
        raise err(errno.EOPNOTSUPP)
    return _check_connected(sock, sending, 0)


def _check_connected(sock: Sock, sending: bool, flags: int) -> Result:
    """The error of a stream that is not connected; who sends gets SIGPIPE with EPIPE."""
    try:
        sock.check_stream_connected(sending, flags)
    except BrokenPipeError:
        if not flags & _MSG_NOSIGNAL:
            return Out(-errno.EPIPE, flags=CONSTANTS["ACT_SIGPIPE"])
        raise
    return 0


@socket_call("sendfile", "splice")
def sock_splice(t: Task, *args: object) -> Result:
    """sendfile(2) and splice(2): between native descriptors only."""
    name = "sendfile" if len(args) == 4 else "splice"
    if name == "sendfile":
        if args[2] and not can_pread(t, args[1]):  # type: ignore[arg-type]
            raise err(errno.ESPIPE)
        if nothing_to_send(t, *args[1:]):  # type: ignore[arg-type]
            return 0
    elif not args[4]:
        return 0
    elif any(args[i + 1] and args[i].mode & S_IFMT == S_IFIFO for i in (0, 2)):  # type: ignore[attr-defined]
        raise err(errno.ESPIPE)
    for i, which in enumerate((0, 1) if name == "sendfile" else (0, 2)):
        ref: FdRef = args[which]  # type: ignore[assignment]
        sock = t.sandbox.net.get(ref.dev, ref.ino)
        if sock is None or sock.native:
            continue
        if not sock.connects:
            raise err(errno.EINVAL)
        sock.check_stream_connected(i == 0 if name == "sendfile" else i == 1)
    result: Result = HANDLERS[name](t, *args)
    return result


@socket_call("epoll_ctl")
def sock_epoll_ctl(t: Task, *_args: object) -> Result:
    """epoll_ctl(2): readiness is the pair's own."""
    return NATIVE


@socket_call("ioctl")
def socket_ioctl(t: Task, fd: FdRef, command: int, argument: int) -> Result:
    """ioctl(2) on a socket, also on one that only the host kernel knows: never its own interfaces and routes."""
    command &= 0xFFFFFFFF
    sock = t.sandbox.net.get(fd.dev, fd.ino)
    if command >> 8 != 0x89:
        if sock is not None and sock.state == LISTENING and command in (_FIONREAD, _TIOCOUTQ):
            if sock.family != AF_UNIX or command == _FIONREAD:  # tcp_ioctl(), unix_inq_len()
                raise err(errno.EINVAL)
            return Out(0, [(argument, bytes(4))])
        if sock is None or command in (_FIONREAD, _TIOCOUTQ, *_EVERY_FILE):
            return NATIVE
        raise err(errno.ENOTTY)
    if fd.mode & 0o170000 != 0o140000:
        raise err(errno.ENOTTY)
    if command == _SIOCATMARK and sock is not None and sock.family != AF_UNIX and not sock.connects:
        raise err(errno.ENOTTY)
    if command in (_SIOCATMARK, *_OWNER):
        return NATIVE
    if command == SIOCGIFCONF:
        return _interfaces(t, argument)
    if command in KNOWN:
        answer = interface_ioctl(command, t.peek(argument, IFREQ), t.sandbox.net.own)
        return Out(0, [(argument, answer)])
    raise err(errno.ENOTTY)


def _interfaces(t: Task, argument: int) -> Result:
    """SIOCGIFCONF: struct ifconf, the list's size and address."""
    room, address = struct.unpack("<i4xQ", t.peek(argument, 16))
    found = interface_list(room, not address, t.sandbox.net.own)
    writes = [(address, found)] if address and found else []
    return Out(0, [*writes, (argument, struct.pack("<i", len(found)))])
