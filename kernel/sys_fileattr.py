"""Flags of inodes: file_getattr(2), file_setattr(2), and ioctl(2) with FS_IOC_GETFLAGS and its like.

Layer: the pretend kernel, a family of system calls. May touch: guest memory, the vfs.
Checks and their order: fs/file_attr.c.
"""

from __future__ import annotations

import errno
import struct

from ..vfs import inodeflags
from ..vfs.inode import err
from .handlers import Out, syscall
from .paths import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, place, record

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from ..vfs.mount import Path
    from .handlers import Result
    from .task import FdRef, Task

_GETFLAGS, _SETFLAGS, _FSGETXATTR, _FSSETXATTR = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
FLAG_COMMANDS = frozenset((_GETFLAGS, _SETFLAGS, _FSGETXATTR, _FSSETXATTR))
_FSXATTR = struct.Struct("<5I8x")  # xflags, extsize, nextents, projid, cowextsize
_FILE_ATTR = struct.Struct("<Q4I")  # the same
_XFLAGS_MASK = 0x8001FFFB  # FS_XFLAGS_MASK


def flags_ioctl(t: Task, fd: FdRef, command: int, argument: int) -> Result:
    """ioctl_getflags() and its like; ENOTTY for what is no file of a filesystem."""
    vfs = t.sandbox.vfs
    known = vfs.files.get(fd.dev, fd.ino)
    if known is None:
        raise err(errno.ENOTTY)
    if command == _GETFLAGS:
        return Out(0, [(argument, struct.pack("<I", inodeflags.get(known.inode)))])
    if command == _FSGETXATTR:
        return Out(0, [(argument, _FSXATTR.pack(inodeflags.xflags(known.inode), 0, 0, 0, 0))])
    if command == _SETFLAGS:
        inodeflags.put(vfs, t, known.path, struct.unpack("<I", t.peek(argument, 4))[0])
    else:
        xflags, extsize, _, projid, cowextsize = _FSXATTR.unpack(t.peek(argument, _FSXATTR.size))
        inodeflags.put_extended(vfs, t, known.path, xflags, bool(extsize or projid or cowextsize))
    return 0


def _place(t: Task, dirfd: FdRef | None, path: bytes | None, size: int, flags: int) -> Path:
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise err(errno.EINVAL)
    if size > 4096:
        raise err(errno.E2BIG)
    if size < _FILE_ATTR.size:
        raise err(errno.EINVAL)
    return _found(t, dirfd, path, flags)


def _found(t: Task, dirfd: FdRef | None, path: bytes | None, flags: int) -> Path:
    if not path and flags & AT_EMPTY_PATH and dirfd is not None:
        from ..vfs.openfile import OpenPath

        if isinstance(record(t, dirfd), OpenPath):
            raise err(errno.EBADF)
    return place(t, dirfd, path, flags)


@syscall("file_getattr")
def sys_file_getattr(
    t: Task, dirfd: FdRef | None, path: bytes | None, buf: int, size: int, flags: int
) -> Result:
    """file_getattr(2), Linux 6.17"""
    inode = _place(t, dirfd, path, size, flags).inode
    try:
        xflags = inodeflags.xflags(inode)
    except OSError as e:
        raise err(errno.EOPNOTSUPP) from e  # where the ioctl is ENOTTY
    return Out(0, [(buf, _FILE_ATTR.pack(xflags, 0, 0, 0, 0).ljust(size, b"\0"))])


@syscall("file_setattr")
def sys_file_setattr(
    t: Task, dirfd: FdRef | None, path: bytes | None, buf: int, size: int, flags: int
) -> Result:
    """file_setattr(2), Linux 6.17"""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) or size < _FILE_ATTR.size:
        raise err(errno.EINVAL)
    if size > 4096:
        raise err(errno.E2BIG)
    data = t.peek(buf, size)
    if any(data[_FILE_ATTR.size :]):
        raise err(errno.E2BIG)
    xflags, extsize, _, projid, cowextsize = _FILE_ATTR.unpack_from(data)
    if xflags & ~_XFLAGS_MASK:
        raise err(errno.EINVAL)
    where = _found(t, dirfd, path, flags)
    try:
        inodeflags.put_extended(t.sandbox.vfs, t, where, xflags, bool(extsize or projid or cowextsize))
    except OSError as e:
        if e.errno == errno.ENOTTY:
            raise err(errno.EOPNOTSUPP) from e
        raise
    return 0
