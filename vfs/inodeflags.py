"""Flags of inodes as chattr(1) sets them: immutable, append-only, no dump, no access times.

Layer: vfs, beside attrops.py. May touch: inodes, through their `iflags`.

The rules are those of tmpfs since Linux 6.6 (shmem_fileattr_set() in mm/shmem.c, fs/file_attr.c; ioctl_iflags(2)).
"""

from __future__ import annotations

import errno

from .inode import err
from .perm import CAP_LINUX_IMMUTABLE, owner_or_capable
from .stat import S_IFDIR, S_IFREG, STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE, STATX_ATTR_NODUMP, now_ns

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .inode import Inode
    from .mount import Path
    from .namei import Caller
    from .vfs import Vfs

FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL, FS_NOATIME_FL = 0x10, 0x20, 0x40, 0x80
_MODIFIABLE = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL
_CAPABLE = FS_IMMUTABLE_FL | FS_APPEND_FL
#: what a new object takes from its directory
INHERITED = FS_NODUMP_FL | FS_NOATIME_FL
#: of FS_IOC_FSGETXATTR, by flag (fileattr_fill_flags())
_XFLAGS = {FS_IMMUTABLE_FL: 0x8, FS_APPEND_FL: 0x10, FS_NODUMP_FL: 0x80, FS_NOATIME_FL: 0x40}
_XFLAG_EXTSIZE, _XFLAG_EXTSZINHERIT = 0x800, 0x1000
#: the above, those that only tell (FS_XFLAGS_RDONLY_MASK), and those that mean nothing without a size
_XFLAGS_TAKEN = 0x8 | 0x10 | 0x40 | 0x80 | 0x2 | 0x80000000 | _XFLAG_EXTSIZE | _XFLAG_EXTSZINHERIT | 0x10000
_STATX = {
    FS_IMMUTABLE_FL: STATX_ATTR_IMMUTABLE,
    FS_APPEND_FL: STATX_ATTR_APPEND,
    FS_NODUMP_FL: STATX_ATTR_NODUMP,
}
STATX_MASK = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP


def _mapped(flags: int, to: dict[int, int]) -> int:
    return sum(bit for flag, bit in to.items() if flags & flag)


def statx_attributes(inode: Inode) -> int:
    """stx_attributes"""
    return _mapped(inode.iflags, _STATX)


def xflags(inode: Inode) -> int:
    """fsx_xflags of FS_IOC_FSGETXATTR."""
    return _mapped(get(inode), _XFLAGS)


def get(inode: Inode) -> int:
    """FS_IOC_GETFLAGS; ENOTTY for a file that has none."""
    if not inode.has_iflags or inode.kind not in (S_IFREG, S_IFDIR):
        raise err(errno.ENOTTY)
    return inode.iflags


def put(vfs: Vfs, who: Caller, path: Path, flags: int, xflags: int = 0, sizes: bool = False) -> None:
    """FS_IOC_SETFLAGS: EROFS, ENOTTY, EPERM, EINVAL, EOPNOTSUPP as vfs_fileattr_set() and tmpfs in their order."""
    vfs.want_write(path)
    inode = path.inode
    old = get(inode)
    if not owner_or_capable(who.creds, inode):
        raise err(errno.EPERM)
    if (flags ^ old) & _CAPABLE and not who.creds.capable(CAP_LINUX_IMMUTABLE):
        raise err(errno.EPERM)
    if xflags & (_XFLAG_EXTSIZE if inode.is_dir else _XFLAG_EXTSZINHERIT):
        raise err(errno.EINVAL)
    if flags & ~_MODIFIABLE or sizes or xflags & ~_XFLAGS_TAKEN:
        raise err(errno.EOPNOTSUPP)
    inode.set_iflags(flags, now_ns())
    vfs.mounts.walks.clear()


def put_extended(vfs: Vfs, who: Caller, path: Path, xflags: int, sizes: bool) -> None:
    """FS_IOC_FSSETXATTR; `sizes`: an extent size or a project is asked for."""
    flags = sum(flag for flag, bit in _XFLAGS.items() if xflags & bit)
    put(vfs, who, path, flags, xflags, sizes)
