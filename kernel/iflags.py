"""ioctl(2) on the flags of an inode: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR.

Layer: the pretend kernel, beneath sys_pyfile.py. May touch: guest memory, the vfs.
"""

from __future__ import annotations

import errno
import struct

from ..vfs import inodeflags
from ..vfs.inode import err
from .handlers import Out

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .handlers import Result
    from .task import FdRef, Task

_GETFLAGS, _SETFLAGS, _FSGETXATTR, _FSSETXATTR = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
FLAG_COMMANDS = frozenset((_GETFLAGS, _SETFLAGS, _FSGETXATTR, _FSSETXATTR))
_FSXATTR = struct.Struct("<5I8x")


def flags_ioctl(t: Task, fd: FdRef, command: int, argument: int) -> Result:
    """ioctl_getflags() and its like in fs/file_attr.c; ENOTTY for what is no file of a filesystem."""
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
        t.peek(argument, _FSXATTR.size)
        inodeflags.put_extended(vfs, t, known.path)
    return 0
