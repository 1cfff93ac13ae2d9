"""From what a call names (a descriptor, a path, both) to a place in the tree: shared by the file handlers.

Layer: the pretend kernel, below the sys_* files of the filesystem. May touch: the vfs.
"""

from __future__ import annotations

import errno

from ..vfs.inode import err
from ..vfs.stat import S_IFDIR, S_IFMT

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from ..vfs.mount import Path
    from ..vfs.openfile import FileRecord
    from ..vfs.vfs import Vfs
    from .task import FdRef, Task

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_REMOVEDIR = 0x200
AT_EACCESS = 0x200
AT_SYMLINK_FOLLOW = 0x400
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_STATX_SYNC_TYPE = 0x6000


def record(t: Task, fd: FdRef) -> FileRecord | None:
    """What we know of a descriptor; None for a native object that no filesystem of ours made.
    EBADF for a directory to start from that is not open."""
    if not fd.mode:
        raise err(errno.EBADF)
    vfs: Vfs = t.sandbox.vfs
    return vfs.files.get(fd.dev, fd.ino)


def start(t: Task, dirfd: FdRef | None) -> Path | None:
    """Where a relative path begins: None for the working directory. ENOTDIR if it is not a directory."""
    if dirfd is None:
        return None
    known = record(t, dirfd)
    if known is None:
        # A directory that the caller of the sandbox handed in as stdio is no part of this world.
        raise err(errno.ENOTDIR)
    if known.inode.mode & S_IFMT != S_IFDIR:
        raise err(errno.ENOTDIR)
    return known.path


def place(t: Task, dirfd: FdRef | None, path: bytes | None, flags: int) -> Path:
    """The place that (dirfd, path, AT_* flags) names: AT_SYMLINK_NOFOLLOW, and AT_EMPTY_PATH for the
    descriptor itself (None, a NULL path, counts as empty)."""
    if not path and flags & AT_EMPTY_PATH:
        if dirfd is None:
            return t.fs.cwd
        known = record(t, dirfd)
        return known.path if known is not None else t.sandbox.vfs.path_of_fd(t, dirfd.fd)
    if path is None:
        raise err(errno.EFAULT)
    vfs: Vfs = t.sandbox.vfs
    return vfs.lookup(t, at(t, dirfd, path), path, not flags & AT_SYMLINK_NOFOLLOW)


def at(t: Task, dirfd: FdRef | None, path: bytes) -> Path | None:
    """start() for a call that takes an absolute path with any dirfd. ENOENT for an empty path, which is found
    out before the descriptor is looked at (getname() in fs/namei.c)."""
    if not path:
        raise err(errno.ENOENT)
    return None if path[:1] == b"/" else start(t, dirfd)
