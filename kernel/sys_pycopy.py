"""Calls between two descriptors, of which Python serves at least one; flock(2); socket calls on what is no
socket.

Layer: the pretend kernel, a family of system calls.  May touch: the OpenFile behind a placeholder
(vfs/openfile.py).

A file made by Python has no pages to move, so splice(2) and its like say so, with the error after which programs fall
back on read(2) and write(2): EINVAL.
"""

from __future__ import annotations

import errno

from ..vfs.flock import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN
from ..vfs.inode import err
from ..vfs.openfile import OpenFile, OpenPath
from .handlers import NATIVE, syscall
from .sys_pyfile import pyfile
from .sys_pyvec import parse_iov

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .handlers import Result
    from .task import FdRef, Task

SPLICE_F_ALL = 15
_LOCK_MAND = 32


def _file(t: Task, fd: FdRef) -> OpenFile | None:
    """pyfile() of a descriptor that may not be open at all: EBADF."""
    if not fd.mode:
        raise err(errno.EBADF)
    return pyfile(t, fd)


def _must(file: OpenFile | None, *, write: bool) -> None:
    """EBADF where a file of ours is not open in the needed direction."""
    if file is None:
        return
    if isinstance(file, OpenPath) or not (file.writable if write else file.readable):
        raise err(errno.EBADF)


@syscall("splice")
def sys_splice(
    t: Task, in_fd: FdRef, in_at: int, out_fd: FdRef, out_at: int, count: int, flags: int
) -> Result:
    """splice(2): for nothing not even the descriptors are looked at."""
    if not count:
        return 0
    if flags & ~SPLICE_F_ALL:
        raise err(errno.EINVAL)
    source, sink = _file(t, in_fd), _file(t, out_fd)
    if source is None and sink is None:
        return NATIVE
    _must(source, write=False)
    _must(sink, write=True)
    raise err(errno.EINVAL)


@syscall("tee")
def sys_tee(t: Task, in_fd: FdRef, out_fd: FdRef, count: int, flags: int) -> Result:
    """tee(2): between pipes only."""
    if flags & ~SPLICE_F_ALL:
        raise err(errno.EINVAL)
    if not count:
        return 0
    source, sink = _file(t, in_fd), _file(t, out_fd)
    if source is None and sink is None:
        return NATIVE
    _must(source, write=False)
    _must(sink, write=True)
    raise err(errno.EINVAL)


@syscall("vmsplice")
def sys_vmsplice(t: Task, fd: FdRef, iov: int, count: int, flags: int) -> Result:
    """vmsplice(2): EBADF for what is no pipe, unless there is nothing to be moved."""
    file = pyfile(t, fd)
    if flags & 0xFFFFFFFF & ~SPLICE_F_ALL:
        raise err(errno.EINVAL)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath) or not (file.readable or file.writable):
        raise err(errno.EBADF)
    if any(length for _, length in parse_iov(t.peek(iov, 16 * count) if 0 < count <= 1024 else None, count)):
        raise err(errno.EBADF)
    return 0


@syscall("flock")
def sys_flock(t: Task, fd: FdRef, operation: int) -> Result:
    """flock(2) of a directory or a file of Python's: the lock belongs to the open file description."""
    if operation & _LOCK_MAND:  # ignored for whatever descriptor, with Linux 5.18 and later
        return 0
    kind = operation & ~LOCK_NB
    if kind not in (LOCK_SH, LOCK_EX, LOCK_UN):
        raise err(errno.EINVAL)
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    locks = t.sandbox.vfs.files.flocks
    if kind == LOCK_UN:
        locks.unlock(file)
        return 0
    if t.sandbox.vfs.files.try_flock(file, kind == LOCK_EX):
        return 0
    if operation & LOCK_NB:
        raise err(errno.EAGAIN)
    return _wait_for_lock(locks, file, kind == LOCK_EX)


async def _wait_for_lock(locks: Any, file: OpenFile, exclusive: bool) -> int:
    from .loop import Event

    while not locks.try_lock(file, exclusive):
        event = Event()
        locks.wait(file, event.set)
        await event
    return 0


@syscall("shutdown", "recvfrom", "sendmsg", "recvmsg", "recvmmsg")
def sys_notsock(t: Task, fd: FdRef, *args: object) -> Result:
    """A placeholder is a socket to the host kernel, but not to the guest: ENOTSOCK (EBADF for O_PATH)."""
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    raise err(errno.EBADF if isinstance(file, OpenPath) else errno.ENOTSOCK)


@syscall("epoll_ctl")
def sys_epoll_ctl(t: Task, epoll: FdRef, operation: int, fd: FdRef, _event: int) -> Result:
    """epoll_ctl(2): directories and regular files cannot be watched (EPERM)."""
    ours, file = _file(t, epoll) is not None, _file(t, fd)
    if file is not None and file.pollable and not ours:
        return NATIVE
    raise err(errno.EPERM if file is not None and not ours else errno.EINVAL)


@syscall("timerfd_settime", "timerfd_gettime")
def sys_not_a_timer(t: Task, fd: FdRef, *_rest: int) -> Result:
    """timerfd_settime(2) on what is no timer."""
    raise err(errno.EINVAL)
