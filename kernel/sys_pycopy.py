"""Calls between two descriptors, of which Python serves at least one; flock(2); socket calls on what is no
socket.

Layer: the pretend kernel, a family of system calls.  May touch: the OpenFile behind a placeholder
(vfs/openfile.py).

A file made by Python has no pages to move, so these calls say so, with the errors after which programs fall
back on read(2) and write(2): EINVAL, or EXDEV for copy_file_range(2).
"""

from __future__ import annotations

import errno
import fcntl
import os

from ..vfs.flock import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN
from ..vfs.inode import err
from ..vfs.openfile import OpenFile, OpenPath
from ..vfs.stat import S_IFDIR, S_IFIFO, S_IFMT
from .handlers import NATIVE, syscall
from .sys_pyfile import pyfile

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


@syscall("sendfile")
def sys_sendfile(t: Task, out_fd: FdRef, in_fd: FdRef, offset: int, count: int) -> Result:
    """sendfile(2)"""
    source, sink = _file(t, in_fd), _file(t, out_fd)
    if source is None and sink is None:
        return NATIVE
    _must(source, write=False)
    _must(sink, write=True)
    flags = sink.flags if sink is not None else _native_flags(t, out_fd)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise err(errno.EBADF)
    if sink is not None or out_fd.mode & S_IFMT != S_IFIFO:
        if flags & os.O_APPEND:
            raise err(errno.EINVAL)
        # splice_direct_to_actor() counts it as an access, although vfs_splice_read() fails or has nothing to do.
        if source is not None and not source.flags & os.O_NOATIME and source.path.mount.keeps_atime:
            source.inode.accessed()
    if not count:
        return 0
    raise err(errno.EINVAL)


def _native_flags(t: Task, fd: FdRef) -> int:
    """What F_GETFL says of a native descriptor."""
    out = t.host_fd(fd.fd)
    try:
        return fcntl.fcntl(out, fcntl.F_GETFL)
    finally:
        os.close(out)


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
    """vmsplice(2): EBADF for what is no pipe."""
    if pyfile(t, fd) is None:
        return NATIVE
    raise err(errno.EBADF)


@syscall("copy_file_range")
def sys_copy_file_range(
    t: Task, in_fd: FdRef, in_at: int, out_fd: FdRef, out_at: int, count: int, flags: int
) -> Result:
    """copy_file_range(2), checked in the order of generic_file_rw_checks()."""
    source, sink = _file(t, in_fd), _file(t, out_fd)
    if source is None and sink is None:
        return NATIVE
    if isinstance(source, OpenPath) or isinstance(sink, OpenPath):
        raise err(errno.EBADF)
    if flags:
        raise err(errno.EINVAL)
    for file in (source, sink):
        if file is not None and file.inode.kind == S_IFDIR:
            raise err(errno.EISDIR)
    _must(source, write=False)
    _must(sink, write=True)
    if sink is not None and sink.flags & os.O_APPEND:
        raise err(errno.EBADF)
    raise err(errno.EXDEV)


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
