"""Socket options: setsockopt(2) and getsockopt(2).

Layer: the pretend kernel, a family of system calls.  May touch: netstack/options.py, which knows the options.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from ..netstack.address import err
from ..netstack.options import SO_PEERCRED, SO_PEERNAME, SOL_SOCKET, get_option, set_option
from .handlers import NATIVE, Out, syscall
from .sys_socket import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handlers import Result
    from .task import FdRef, Task


@syscall("setsockopt")
def sys_setsockopt(t: Task, fd: FdRef, level: int, name: int, data: bytes | None, length: int) -> Result:
    """setsockopt(2)"""
    sock = find(t, fd)
    if sock is None and level != SOL_SOCKET:
        raise err(errno.EINVAL if length < 0 else errno.EOPNOTSUPP)  # a local socket; do_sock_setsockopt()
    if sock is None or not set_option(t, sock, level, name, data, length):
        return NATIVE
    return 0


@syscall("getsockopt")
def sys_getsockopt(
    t: Task, fd: FdRef, level: int, name: int, address: int, room: tuple[int, bytes | None]
) -> Result:
    """getsockopt(2): a value is cut to the room there is, and its length is that of what was given."""
    sock = find(t, fd)
    where, given = room
    if given is None:
        raise err(errno.EFAULT)
    size = struct.unpack("<i", given)[0]
    if size < 0:
        raise err(errno.EINVAL)
    value: bytes | None
    if sock is None:
        if (level, name) != (SOL_SOCKET, SO_PEERCRED):
            return NATIVE
        value = _pair_creds(t, fd)
    else:
        value = get_option(t, sock, level, name, size)
    if value is None:
        return NATIVE
    if (level, name) == (SOL_SOCKET, SO_PEERNAME) and len(value) < size:
        raise err(errno.EINVAL)
    value = value[:size]
    return Out(0, [*([(address, value)] if value else []), (where, struct.pack("<i", len(value)))])


def _pair_creds(t: Task, fd: FdRef) -> bytes | None:
    """SO_PEERCRED of a socketpair(2): who made it, with the virtual ids of that process; None where the host kernel
    alone knows its number."""
    copy = socket.socket(fileno=t.host_fd(fd.fd))
    with copy:
        pid = struct.unpack("<iII", copy.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))[0]
    if pid == os.getpid():
        pid = 0
    else:
        try:
            pid = t.sandbox.pid_ns.guest(pid)
        except ProcessLookupError:
            return None
    maker = t.sandbox.processes.get(pid)
    creds = maker.main_creds if maker is not None else t.creds
    return struct.pack("<iII", pid, creds.euid, creds.egid)
