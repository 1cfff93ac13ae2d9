"""setxattrat(2), getxattrat(2), listxattrat(2), removexattrat(2): extended attributes by descriptor and path.

Layer: the pretend kernel, a family of system calls. May touch: the vfs.
Checks and their order: fs/xattr.c.
"""

from __future__ import annotations

import errno
import struct

from ..vfs.inode import err
from .handlers import syscall
from .paths import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, place, record
from .sys_attr import get_xattr, list_xattr, remove_xattr, set_xattr

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from ..vfs.mount import Path
    from .handlers import Result
    from .task import FdRef, Task

_ARGS = struct.Struct("<QII")  # struct xattr_args: value, size, flags


def _args(data: bytes | None, size: int) -> tuple[int, int, int]:
    if size < _ARGS.size:
        raise err(errno.EINVAL)
    if size > 4096:
        raise err(errno.E2BIG)
    if data is None:
        raise err(errno.EFAULT)
    if any(data[_ARGS.size :]):
        raise err(errno.E2BIG)
    value, length, flags = _ARGS.unpack_from(data)
    return value, length, flags


def _place(t: Task, dirfd: FdRef | None, path: bytes | None, flags: int) -> Path:
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise err(errno.EINVAL)
    if not path and flags & AT_EMPTY_PATH and dirfd is not None:
        from ..vfs.openfile import OpenPath

        if isinstance(record(t, dirfd), OpenPath):
            raise err(errno.EBADF)
    return place(t, dirfd, path, flags)


@syscall("setxattrat")
def sys_setxattrat(
    t: Task, dirfd: FdRef | None, path: bytes | None, flags: int, name: bytes, args: bytes | None, size: int
) -> Result:
    """setxattrat(2)"""
    address, length, how = _args(args, size)
    value = t.peek(address, length) if address and 0 < length <= 65536 else b"" if not length else None
    return set_xattr(t, _place(t, dirfd, path, flags), name, value, length, how)


@syscall("getxattrat")
def sys_getxattrat(
    t: Task, dirfd: FdRef | None, path: bytes | None, flags: int, name: bytes, args: bytes | None, size: int
) -> Result:
    """getxattrat(2)"""
    address, length, how = _args(args, size)
    if how:
        raise err(errno.EINVAL)
    return get_xattr(t, _place(t, dirfd, path, flags), name, address, length)


@syscall("listxattrat")
def sys_listxattrat(t: Task, dirfd: FdRef | None, path: bytes | None, flags: int, buf: int, size: int) -> Result:
    """listxattrat(2): alone of the four it does not take the working directory for an empty path."""
    if not path and flags & ~AT_SYMLINK_NOFOLLOW == AT_EMPTY_PATH and dirfd is None:
        raise err(errno.EBADF)
    return list_xattr(t, _place(t, dirfd, path, flags), buf, size)


@syscall("removexattrat")
def sys_removexattrat(t: Task, dirfd: FdRef | None, path: bytes | None, flags: int, name: bytes) -> Result:
    """removexattrat(2)"""
    return remove_xattr(t, _place(t, dirfd, path, flags), name)
