"""fcntl(2)'s record locks on files that Python serves.

Layer: the pretend kernel, beneath sys_pyfile.py.  May touch: the world's table of locks (vfs/recordlocks.py), the
guest's struct flock.
"""

from __future__ import annotations

import errno
import struct

from ..vfs.inode import err
from ..vfs.recordlocks import F_RDLCK, F_UNLCK, F_WRLCK, RecordLock
from .handlers import Out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..vfs.openfile import OpenFile
    from .handlers import Result
    from .task import Task

F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 5, 6, 7, 36, 37, 38
COMMANDS = (F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW)
_FLOCK = struct.Struct("<hh4xqqi4x")
_MAX = (1 << 63) - 1


def record_lock(t: Task, file: OpenFile, command: int, address: int) -> Result:
    """fcntl_getlk(), fcntl_setlk()"""
    kind, whence, start, length, pid = _FLOCK.unpack(t.peek(address, _FLOCK.size))
    own = command >= F_OFD_GETLK
    asks = command in (F_GETLK, F_OFD_GETLK)
    if asks and kind not in (F_RDLCK, F_WRLCK) and not (own and kind == F_UNLCK):
        raise err(errno.EINVAL)
    first, last = _range(file, whence, start, length)
    if own and pid:
        raise err(errno.EINVAL)
    if kind not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise err(errno.EINVAL)
    if not asks and ((kind == F_RDLCK and not file.readable) or (kind == F_WRLCK and not file.writable)):
        raise err(errno.EBADF)
    want = RecordLock(file if own else t.process, -1 if own else t.process.pid, file, kind, first, last)
    other = _conflict(t, want) if kind != F_UNLCK else None
    if asks:
        if other is None:
            return Out(0, [(address, struct.pack("<h", F_UNLCK))])
        size = 0 if other.end == _MAX else other.end - other.start + 1
        return Out(0, [(address, _FLOCK.pack(other.kind, 0, other.start, size, other.pid))])
    if other is None:
        t.sandbox.vfs.files.records.set(want)
        return 0
    if command in (F_SETLK, F_OFD_SETLK):
        raise err(errno.EAGAIN)
    return _wait(t, want)


def _range(file: OpenFile, whence: int, start: int, length: int) -> tuple[int, int]:
    """flock64_to_posix_lock(): the first and the last byte."""
    if whence == 1:
        start += file.pos
    elif whence == 2:
        start += file.inode.getattr().size
    elif whence:
        raise err(errno.EINVAL)
    if start > _MAX:
        raise err(errno.EOVERFLOW)
    if start < 0:
        raise err(errno.EINVAL)
    if length > 0:
        if start + length - 1 > _MAX:
            raise err(errno.EOVERFLOW)
        return start, start + length - 1
    if length < 0:
        if start + length < 0:
            raise err(errno.EINVAL)
        return start + length, start - 1
    return start, _MAX


def _conflict(t: Task, want: RecordLock) -> RecordLock | None:
    """What is in the way, when those that are closed already have been released."""
    files = t.sandbox.vfs.files
    if files.records.conflict(want) is None:
        return None
    files.settle(files.records.holders(want.file))
    return files.records.conflict(want)


async def _wait(t: Task, want: RecordLock) -> int:
    from .loop import Event

    records = t.sandbox.vfs.files.records
    try:
        while (other := _conflict(t, want)) is not None:
            event = Event()
            records.wait(want, other, event.set)
            await event
    finally:
        records.waits_no_more(want)
    records.set(want)
    return 0
