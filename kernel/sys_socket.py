"""Sockets, as far as they exist before there is a network: pairs are the host kernel's; addresses lead nowhere.

Layer: the pretend kernel, a family of system calls.  May touch: names in the tree (a local socket's path).

A local socket can be made, so that programs which only look for a name service daemon (nscd) get Linux's answer for
"nobody is there"; connecting it finds nobody, and it cannot be bound.
"""

from __future__ import annotations

import errno
import os
import struct

from .handlers import NATIVE, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handlers import Result
    from .task import FdRef, Task

AF_UNIX = 1


def _err(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _placeholder(t: Task, fd: FdRef) -> bool:
    return t.sandbox.vfs.files.open_file(fd.dev, fd.ino) is not None


@syscall("socket")
def sys_socket(t: Task, family: int, kind: int, protocol: int) -> Result:
    """socket(2): AF_UNIX only."""
    if family == AF_UNIX:
        return NATIVE
    t.sandbox.log_once(f"socket(family {family}): sandboxes have no network yet; refused (EAFNOSUPPORT)")
    raise _err(errno.EAFNOSUPPORT)


@syscall("connect")
def sys_connect(t: Task, fd: FdRef, address: bytes | None, length: int) -> Result:
    """connect(2): the errors of a name that is missing or that nobody listens on."""
    if fd.mode & 0o170000 != 0o140000 or _placeholder(t, fd):
        raise _err(errno.ENOTSOCK)
    if address is None or len(address) < 3 or struct.unpack_from("<H", address)[0] != AF_UNIX:
        raise _err(errno.EINVAL)
    path = address[2:].split(b"\0", 1)[0]
    if path:
        t.sandbox.vfs.lookup(t, None, path)
    t.sandbox.log_once(f"connect({os.fsdecode(path)!r}): sandboxes have no network yet; refused (ECONNREFUSED)")
    raise _err(errno.ECONNREFUSED)


@syscall("bind", "listen", "accept", "accept4", "sendmmsg")
def sys_unnamed(t: Task, fd: FdRef, *_rest: object) -> Result:
    """What needs a name or a network."""
    if fd.mode & 0o170000 != 0o140000 or _placeholder(t, fd):
        raise _err(errno.ENOTSOCK)
    t.sandbox.log_once("bind, listen, accept, sendmmsg: sandboxes have no network yet; refused (EOPNOTSUPP)")
    raise _err(errno.EOPNOTSUPP)
