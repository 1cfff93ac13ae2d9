"""readv(2), writev(2) and their relatives on files that Python serves.

Layer: the pretend kernel, a family of system calls.  May touch: the OpenFile behind a placeholder (vfs/openfile.py).
"""

from __future__ import annotations

import errno
import os
import struct

from ..vfs.inode import err
from ..vfs.openfile import OpenPath, SeqFile
from ..vfs.pollfile import PollFile
from ..vfs.stat import S_IFDIR
from .handlers import NATIVE, Out, syscall
from .layout import MAX_OUT
from .sys_pyfile import CHUNK, USER_END, about_to, pyfile, then, within_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handlers import Result
    from .task import FdRef, Task

_IOV = struct.Struct("<Qq")
_MAX_COUNT = 0x7FFFF000  # MAX_RW_COUNT


def parse_iov(raw: bytes | None, count: int) -> list[tuple[int, int]]:
    """The (address, length) pairs of an array of struct iovec, as import_iovec() checks them.

    Raises: OSError(EINVAL) for more than UIO_MAXIOV entries, a length below 0 or a sum beyond ssize_t, EFAULT
    for a NULL array and for addresses of no program.
    """
    if not 0 <= count <= 1024:
        raise err(errno.EINVAL)
    if count and len(raw or b"") < 16 * count:
        raise err(errno.EFAULT)
    pairs = [_IOV.unpack_from(raw or b"", at * 16) for at in range(count)]
    if any(length < 0 for _, length in pairs):
        raise err(errno.EINVAL)
    if count == 1:  # a single one is cut before it is looked at: import_ubuf()
        pairs = [(address, min(length, _MAX_COUNT)) for address, length in pairs]
    if any(address + length > USER_END for address, length in pairs):
        raise err(errno.EFAULT)
    return pairs


#: preadv2(2): what a file that never waits and has no direct I/O can honour
_RWF_HIPRI, _RWF_DSYNC, _RWF_SYNC, _RWF_APPEND, _RWF_NOAPPEND, _RWF_NOSIGNAL = 1, 2, 4, 0x10, 0x20, 0x100
RWF_NOWAIT = 8
RWF = _RWF_HIPRI | _RWF_DSYNC | _RWF_SYNC | _RWF_APPEND | _RWF_NOAPPEND | _RWF_NOSIGNAL


def _readv(t: Task, fd: FdRef, iov: bytes | None, count: int, offset: int | None, flags: int = 0) -> Result:
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath) or not file.readable:
        raise err(errno.EBADF)
    if offset is not None and not file.has_pread:
        raise err(errno.ESPIPE)
    pairs = [pair for pair in parse_iov(iov, count) if pair[1]][:MAX_OUT]
    if not pairs:
        return 0
    # without read_iter there is no place for the others: do_loop_readv_writev()
    check_rwf(flags, _RWF_HIPRI if isinstance(file, SeqFile | PollFile) or file.inode.kind == S_IFDIR else RWF)
    about_to(t, file, fd, 1)

    def scatter(data: bytes) -> Result:
        parts, at = [], 0
        for address, length in pairs:
            if at >= len(data):
                break
            parts.append((address, data[at : at + length]))
            at += length
        return Out(len(data), parts) if parts else len(data)

    return then(file.do_read(t, min(sum(length for _, length in pairs), CHUNK), offset), scatter)


def _writev(t: Task, fd: FdRef, iov: bytes | None, count: int, offset: int | None, flags: int = 0) -> Result:
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath) or not file.writable:
        raise err(errno.EBADF)
    pairs = parse_iov(iov, count)
    if not any(length for _, length in pairs):
        return 0
    check_rwf(flags, RWF)
    data, left = b"", 1 << 20
    for address, length in pairs:
        part = min(length, left)
        data += t.peek(address, part) if part else b""
        left -= part
    before = file.flags
    if flags & _RWF_APPEND:
        file.flags |= os.O_APPEND
    elif flags & _RWF_NOAPPEND:
        file.flags &= ~os.O_APPEND
    try:
        done = file.do_write(t, within_limit(t, file, data, offset), offset)
    finally:
        file.flags = before
    if flags & (_RWF_DSYNC | _RWF_SYNC) and isinstance(done, int):
        file.fsync()
    return then(done, int)


def check_rwf(flags: int, known: int) -> None:
    """kiocb_set_rw_flags()"""
    if flags & ~known:
        raise err(errno.EOPNOTSUPP)
    if flags & _RWF_APPEND and flags & _RWF_NOAPPEND:
        raise err(errno.EINVAL)


def _position(low: int, flags_allowed: bool) -> int | None:
    """The offset of preadv and its like: the low word is all of it on 64 bits (pos_from_hilo); -1 means the
    file offset where flags may be given."""
    if low == -1 and flags_allowed:
        return None
    if low < 0:
        raise err(errno.EINVAL)
    return low


@syscall("readv")
def sys_readv(t: Task, fd: FdRef, iov: bytes | None, count: int) -> Result:
    """readv(2)"""
    return _readv(t, fd, iov, count, None)


@syscall("writev")
def sys_writev(t: Task, fd: FdRef, iov: bytes | None, count: int) -> Result:
    """writev(2)"""
    return _writev(t, fd, iov, count, None)


@syscall("preadv")
def sys_preadv(t: Task, fd: FdRef, iov: bytes | None, count: int, low: int, high: int) -> Result:
    """preadv(2)"""
    return _readv(t, fd, iov, count, _position(low, False))


@syscall("pwritev")
def sys_pwritev(t: Task, fd: FdRef, iov: bytes | None, count: int, low: int, high: int) -> Result:
    """pwritev(2)"""
    return _writev(t, fd, iov, count, _position(low, False))


@syscall("preadv2")
def sys_preadv2(t: Task, fd: FdRef, iov: bytes | None, count: int, low: int, high: int, flags: int) -> Result:
    """preadv2(2)"""
    return _readv(t, fd, iov, count, _position(low, True), flags)


@syscall("pwritev2")
def sys_pwritev2(
    t: Task, fd: FdRef, iov: bytes | None, count: int, low: int, high: int, flags: int
) -> Result:
    """pwritev2(2)"""
    return _writev(t, fd, iov, count, _position(low, True), flags)
