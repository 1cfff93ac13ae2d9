"""Calls on names and directories: mkdir(2), unlink(2), rename(2), link(2), getdents(2), chdir(2), chroot(2),
...

Layer: the pretend kernel, a family of system calls. May touch: the vfs, the task's working directory and
root.
"""

from __future__ import annotations

import errno

from ..vfs import dirops
from ..vfs.inode import err
from ..vfs.namei import path_bytes
from ..vfs.openfile import OpenDir, OpenPath
from .handlers import Out, syscall
from .layout import VDIR_DEV
from .paths import AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, at, place, record

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .handlers import Result
    from .task import FdRef, Task

_GETDENTS_MAX = 24576  # has to fit into the channel's slot; programs ask again for more


@syscall("mkdir")
def sys_mkdir(t: Task, path: bytes, mode: int) -> Result:
    """mkdir(2)"""
    dirops.mkdir(t.sandbox.vfs, t, None, path, mode)
    return 0


@syscall("mkdirat")
def sys_mkdirat(t: Task, dirfd: FdRef | None, path: bytes, mode: int) -> Result:
    """mkdirat(2)"""
    dirops.mkdir(t.sandbox.vfs, t, at(t, dirfd, path), path, mode)
    return 0


@syscall("mknod")
def sys_mknod(t: Task, path: bytes, mode: int, dev: int) -> Result:
    """mknod(2)"""
    dirops.mknod(t.sandbox.vfs, t, None, path, mode & 0xFFFF, dev & 0xFFFFFFFF)
    return 0


@syscall("mknodat")
def sys_mknodat(t: Task, dirfd: FdRef | None, path: bytes, mode: int, dev: int) -> Result:
    """mknodat(2)"""
    dirops.check_mknod(mode)
    dirops.mknod(t.sandbox.vfs, t, at(t, dirfd, path), path, mode & 0xFFFF, dev & 0xFFFFFFFF)
    return 0


@syscall("rmdir")
def sys_rmdir(t: Task, path: bytes) -> Result:
    """rmdir(2)"""
    dirops.rmdir(t.sandbox.vfs, t, None, path)
    return 0


@syscall("unlink")
def sys_unlink(t: Task, path: bytes) -> Result:
    """unlink(2)"""
    dirops.unlink(t.sandbox.vfs, t, None, path)
    return 0


@syscall("unlinkat")
def sys_unlinkat(t: Task, dirfd: FdRef | None, path: bytes, flags: int) -> Result:
    """unlinkat(2)"""
    if flags & ~AT_REMOVEDIR:
        raise err(errno.EINVAL)
    work = dirops.rmdir if flags & AT_REMOVEDIR else dirops.unlink
    work(t.sandbox.vfs, t, at(t, dirfd, path), path)
    return 0


@syscall("rename")
def sys_rename(t: Task, old: bytes, new: bytes) -> Result:
    """rename(2)"""
    dirops.rename(t.sandbox.vfs, t, None, old, None, new)
    return 0


@syscall("renameat", "renameat2")
def sys_renameat2(
    t: Task, olddir: FdRef | None, old: bytes, newdir: FdRef | None, new: bytes, flags: int = 0
) -> Result:
    """renameat(2), renameat2(2)"""
    flags &= 0xFFFFFFFF
    dirops.check_rename_flags(flags)
    vfs = t.sandbox.vfs
    source = vfs.walk_parent(t, at(t, olddir, old), old)
    dirops.rename_walked(vfs, t, source, vfs.walk_parent(t, at(t, newdir, new), new), flags)
    return 0


@syscall("link")
def sys_link(t: Task, old: bytes, new: bytes) -> Result:
    """link(2)"""
    vfs = t.sandbox.vfs
    dirops.link(vfs, t, vfs.lookup(t, None, old, False), None, new)
    return 0


@syscall("linkat")
def sys_linkat(
    t: Task, olddir: FdRef | None, old: bytes, newdir: FdRef | None, new: bytes, flags: int
) -> Result:
    """linkat(2)"""
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise err(errno.EINVAL)
    if flags & AT_EMPTY_PATH and not old:
        dirops.link_needs(t)
    source = place(
        t,
        None if old[:1] == b"/" else olddir,
        old,
        flags & AT_EMPTY_PATH | (0 if flags & AT_SYMLINK_FOLLOW else AT_SYMLINK_NOFOLLOW),
    )
    dirops.link(t.sandbox.vfs, t, source, at(t, newdir, new), new)
    return 0


@syscall("symlink")
def sys_symlink(t: Task, target: bytes, path: bytes) -> Result:
    """symlink(2)"""
    dirops.symlink(t.sandbox.vfs, t, target, None, path)
    return 0


@syscall("symlinkat")
def sys_symlinkat(t: Task, target: bytes, dirfd: FdRef | None, path: bytes) -> Result:
    """symlinkat(2)"""
    if not target:
        raise err(errno.ENOENT)
    dirops.symlink(t.sandbox.vfs, t, target, at(t, dirfd, path), path)
    return 0


# --- reading directories -----------------------------------------------------------------------------------


def _getdents(t: Task, fd: FdRef, buf: int, count: int, old: bool) -> Result:
    file = record(t, fd)
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    if not isinstance(file, OpenDir):
        raise err(errno.ENOTDIR)
    room, vfs = max(0, min(count, _GETDENTS_MAX)), t.sandbox.vfs
    data = file.getdents(room, True) if old else dirops.getdents(vfs, file, room)
    notify = vfs.notify
    if notify is not None:
        notify.on(file.path, 1)  # IN_ACCESS
    return Out(len(data), [(buf, data)]) if data else 0


@syscall("getdents64")
def sys_getdents64(t: Task, fd: FdRef, buf: int, count: int) -> Result:
    """getdents64(2)"""
    if fd.dev == VDIR_DEV:
        return t.sandbox.directories.read(fd.ino, buf, max(0, min(count, _GETDENTS_MAX)))
    return _getdents(t, fd, buf, count, False)


@syscall("getdents")
def sys_getdents(t: Task, fd: FdRef, buf: int, count: int) -> Result:
    """getdents(2), the old layout"""
    return _getdents(t, fd, buf, count, True)


# --- working directory and root ----------------------------------------------------------------------------


_PATH_MAX = 4096


@syscall("getcwd")
def sys_getcwd(t: Task, buf: int, size: int) -> Result:
    """getcwd(2): the length with its NUL"""
    cwd = t.fs.cwd
    if t.sandbox.vfs.is_deleted(cwd):
        raise err(errno.ENOENT)
    name, reachable = path_bytes(cwd, t.fs.root)
    text = (name if reachable else b"(unreachable)" + name) + b"\0"
    if len(text) > _PATH_MAX:
        raise err(errno.ENAMETOOLONG)
    if len(text) > size:
        raise err(errno.ERANGE)
    return Out(len(text), [(buf, text)])


@syscall("chdir")
def sys_chdir(t: Task, path: bytes) -> Result:
    """chdir(2)"""
    where = t.sandbox.vfs.lookup(t, None, path)
    dirops.check_chdir(t, where)
    t.fs.cwd = where
    return 0


@syscall("fchdir")
def sys_fchdir(t: Task, fd: FdRef) -> Result:
    """fchdir(2)"""
    known = record(t, fd)
    if known is None:
        raise err(errno.ENOTDIR)
    dirops.check_chdir(t, known.path)
    t.fs.cwd = known.path
    return 0


@syscall("chroot")
def sys_chroot(t: Task, path: bytes) -> Result:
    """chroot(2)"""
    where = t.sandbox.vfs.lookup(t, None, path)
    dirops.check_chroot(t, where)
    t.fs.root = where
    return 0
