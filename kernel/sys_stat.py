"""stat(2) and its relatives: reading attributes, access(2), readlink(2), statfs(2).

Layer: the pretend kernel, a family of system calls. May touch: the vfs.
"""

from __future__ import annotations

import errno
import os

from ..vfs import attrops, dirops
from ..vfs.inode import err
from ..vfs.inodeflags import STATX_MASK, statx_attributes
from ..vfs.perm import SimpleCreds
from ..vfs.stat import STATX_ATTR_MOUNT_ROOT, STATX_MNT_ID_UNIQUE, Stat
from .handlers import NATIVE, NativeResult, Out, syscall
from .paths import (
    AT_EACCESS,
    AT_EMPTY_PATH,
    AT_NO_AUTOMOUNT,
    AT_STATX_SYNC_TYPE,
    AT_SYMLINK_NOFOLLOW,
    at,
    place,
    record,
)
from .table import BY_NAME

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from ..vfs.inode import Inode
    from ..vfs.mount import Mount, Path
    from ..vfs.perm import Creds
    from .handlers import Result
    from .task import FdRef, Task

_STATX_RESERVED = 0x80000000
_ST_VALID = 0x20
_FSTAT = BY_NAME["fstat"].nr


@syscall("stat")
def sys_stat(t: Task, path: bytes, buf: int) -> Result:
    """stat(2)"""
    return Out(0, [(buf, t.sandbox.vfs.lookup(t, None, path).inode.getattr().pack())])


@syscall("lstat")
def sys_lstat(t: Task, path: bytes, buf: int) -> Result:
    """lstat(2)"""
    return Out(0, [(buf, t.sandbox.vfs.lookup(t, None, path, False).inode.getattr().pack())])


def _stat_fd(t: Task, fd: FdRef) -> Stat | None:
    """Attributes of a descriptor; None: the host kernel knows best."""
    known = record(t, fd)
    if known is None:
        return None
    try:
        return known.inode.getattr()
    except OSError:
        return None  # a host file that was removed or moved meanwhile; the descriptor itself still works


def _host_stat(t: Task, fd: FdRef) -> Stat:
    """What the host kernel knows of a descriptor."""
    from ..vfs.anon import from_host

    host = t.host_fd(fd.fd)
    try:
        return from_host(os.fstat(host))
    finally:
        os.close(host)


@syscall("fstat")
def sys_fstat(t: Task, fd: FdRef, buf: int) -> Result:
    """fstat(2)"""
    st = _stat_fd(t, fd)
    return NATIVE if st is None else Out(0, [(buf, st.pack())])


@syscall("newfstatat")
def sys_newfstatat(t: Task, dirfd: FdRef | None, path: bytes | None, buf: int, flags: int) -> Result:
    """fstatat(2)"""
    if not path and flags & AT_EMPTY_PATH and dirfd is not None:  # vfs_fstat(): other flags do not matter
        st = _stat_fd(t, dirfd)
        # No call with a path is made on the host: fstat(2) says the same.
        return NativeResult(nr=_FSTAT, args=[dirfd.fd, buf]) if st is None else Out(0, [(buf, st.pack())])
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE):
        raise err(errno.EINVAL)
    return Out(0, [(buf, place(t, dirfd, path, flags).inode.getattr().pack())])


@syscall("statx")
def sys_statx(t: Task, dirfd: FdRef | None, path: bytes | None, flags: int, mask: int, buf: int) -> Result:
    """statx(2)"""
    if mask & _STATX_RESERVED or flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE:
        raise err(errno.EINVAL)
    if not path and flags & AT_EMPTY_PATH and dirfd is not None:  # do_statx_fd(): other flags do not matter
        known = record(t, dirfd)
        where = t.sandbox.vfs.path_of_fd(t, dirfd.fd) if known is None else known.path
        st = _stat_fd(t, dirfd) or _host_stat(t, dirfd)
    elif flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE):
        raise err(errno.EINVAL)
    else:
        where = place(t, dirfd, path, flags)
        st = where.inode.getattr()
    at_root = where.dentry is where.mount.root
    return Out(0, [(buf, statx_reply(where.mount, where.inode, st, mask, at_root))])


def statx_reply(mount: Mount, inode: Inode, st: Stat, mask: int, at_root: bool) -> bytes:
    """The struct statx of an object with the attributes `st`; `at_root`: it is what is mounted."""
    attributes, known_attributes = 0, 0
    if inode.has_iflags:
        attributes, known_attributes = statx_attributes(inode), STATX_MASK
    if at_root:
        attributes |= STATX_ATTR_MOUNT_ROOT
    ident = mount.unique_id if mask & STATX_MNT_ID_UNIQUE else mount.id
    return st.pack_statx(ident, attributes, mask, known_attributes)


# --- access ------------------------------------------------------------------------------------------------


def _real(t: Task) -> Creds:
    """access_override_creds(): the real ids, and all capabilities only for a real root."""
    creds = t.creds
    return SimpleCreds(creds.uid, creds.gid, creds.groups, creds.uid == 0)


def _access(t: Task, dirfd: FdRef | None, path: bytes, mask: int, flags: int) -> Result:
    if mask & ~7:
        raise err(errno.EINVAL)
    if flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise err(errno.EINVAL)
    creds: Creds = t.creds if flags & AT_EACCESS else _real(t)
    if creds.fsuid == t.creds.fsuid and creds.fsgid == t.creds.fsgid:
        where = place(t, dirfd, path, flags)
    else:
        # The walk itself is done with the real ids too.
        from ..vfs.vfs import LocalCaller

        who = LocalCaller(t.fs, creds)
        if not path and flags & AT_EMPTY_PATH:
            where = place(t, dirfd, path, flags)
        else:
            where = t.sandbox.vfs.lookup(who, at(t, dirfd, path), path, not flags & AT_SYMLINK_NOFOLLOW)
    if mask:
        attrops.access(creds, where, mask)
    return 0


@syscall("access")
def sys_access(t: Task, path: bytes, mode: int) -> Result:
    """access(2)"""
    return _access(t, None, path, mode, 0)


@syscall("faccessat")
def sys_faccessat(t: Task, dirfd: FdRef | None, path: bytes, mode: int) -> Result:
    """faccessat(2) of the kernel, which has no flags"""
    return _access(t, dirfd, path, mode, 0)


@syscall("faccessat2")
def sys_faccessat2(t: Task, dirfd: FdRef | None, path: bytes, mode: int, flags: int) -> Result:
    """faccessat2(2)"""
    return _access(t, dirfd, path, mode, flags)


# --- readlink ----------------------------------------------------------------------------------------------


def _readlink(t: Task, where: Path, buf: int, size: int) -> Result:
    target = dirops.readlink(t.sandbox.vfs, t, where)[:size]
    return Out(len(target), [(buf, target)])


@syscall("readlink")
def sys_readlink(t: Task, path: bytes, buf: int, size: int) -> Result:
    """readlink(2)"""
    if size <= 0:
        raise err(errno.EINVAL)
    return _readlink(t, t.sandbox.vfs.lookup(t, None, path, False), buf, size)


@syscall("readlinkat")
def sys_readlinkat(t: Task, dirfd: FdRef | None, path: bytes, buf: int, size: int) -> Result:
    """readlinkat(2): an empty path means the symlink that an O_PATH descriptor stands for."""
    if size <= 0:
        raise err(errno.EINVAL)
    if not path:
        known = record(t, dirfd) if dirfd is not None else None
        if known is None or not known.inode.is_symlink:
            raise err(errno.ENOENT)
        return _readlink(t, known.path, buf, size)
    return _readlink(t, t.sandbox.vfs.lookup(t, at(t, dirfd, path), path, False), buf, size)


# --- statfs ------------------------------------------------------------------------------------------------


def _statfs(mount: Mount, buf: int) -> Result:
    st = mount.sb.statfs()
    st.flags |= mount.flags & 0x1FFF | _ST_VALID | mount.read_only
    return Out(0, [(buf, st.pack())])


@syscall("statfs")
def sys_statfs(t: Task, path: bytes, buf: int) -> Result:
    """statfs(2)"""
    return _statfs(t.sandbox.vfs.lookup(t, None, path).mount, buf)


@syscall("fstatfs")
def sys_fstatfs(t: Task, fd: FdRef, buf: int) -> Result:
    """fstatfs(2)"""
    known = record(t, fd)
    return NATIVE if known is None else _statfs(known.path.mount, buf)


@syscall("syncfs")
def sys_syncfs(t: Task, fd: FdRef) -> Result:
    """syncfs(2)"""
    known = record(t, fd)
    if known is not None:
        from ..vfs.openfile import OpenPath

        if isinstance(known, OpenPath):
            raise err(errno.EBADF)
        known.path.mount.sb.sync()
    return 0
