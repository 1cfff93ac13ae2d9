"""Calls that change attributes: chmod(2), chown(2), utimensat(2), truncate(2), umask(2), extended attributes.

Layer: the pretend kernel, a family of system calls. May touch: the vfs.
"""

from __future__ import annotations

import errno
import os
import struct

from ..vfs import attrops
from ..vfs.attrops import UTIME_NOW, UTIME_OMIT
from ..vfs.hostfs import give
from ..vfs.inode import err
from ..vfs.openfile import OpenPath
from ..vfs.perm import CAP_SYS_ADMIN
from ..vfs.stat import S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK
from .filesize import check_size
from .handlers import NATIVE, InstallFd, Out, syscall
from .layout import SLOT_DATA_SIZE
from .paths import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, place, record

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from ..vfs.mount import Path
    from .handlers import Result
    from .task import FdRef, Task

    Times = tuple[int, int, int, int]

_PAIR = struct.Struct("<qq")
_QUAD = struct.Struct("<qqqq")
_XATTR_NAME_MAX = 255
_XATTR_SIZE_MAX = 65536


def _own_place(t: Task, fd: FdRef) -> Path:
    """_fd_place() for a change that the host kernel would judge by our ids and not by the guest's."""
    where = _fd_place(t, fd)
    return t.sandbox.vfs.path_of_fd(t, fd.fd, own=True) if where is None else where


def _place_to_change(t: Task, dirfd: FdRef | None, path: bytes, flags: int) -> Path:
    """place() for such a change: AT_EMPTY_PATH reaches the guest's own objects too."""
    if path or not flags & AT_EMPTY_PATH or dirfd is None or record(t, dirfd) is not None:
        return place(t, dirfd, path, flags)
    return _own_place(t, dirfd)


def _fd_place(t: Task, fd: FdRef) -> Path | None:
    """The place of a descriptor to change. None: a native object of the guest's own, which the host kernel
    may change (its memfds, pipes, sockets). EPERM for the caller's stdio, which is not the guest's. EBADF for
    O_PATH."""
    known = record(t, fd)
    if known is not None:
        if isinstance(known, OpenPath):
            raise err(errno.EBADF)
        return known.path
    kind = fd.mode & S_IFMT
    if kind in (S_IFIFO, S_IFSOCK) or (kind == S_IFREG and fd.dev == _memfd_dev()):
        return None
    raise err(errno.EPERM)


@syscall("memfd_create")
def sys_memfd_create(t: Task, name: bytes, flags: int) -> Result:
    """memfd_create(2): the host kernel's, but with the guest's owner, as far as we may give files away."""
    creds = t.creds
    if os.geteuid() or not (creds.fsuid or creds.fsgid):
        return NATIVE
    fd = os.memfd_create(os.fsdecode(name), flags & 0xFFFFFFFF | os.MFD_CLOEXEC)
    give(fd, creds.fsuid, creds.fsgid)
    return InstallFd(fd, cloexec=bool(flags & os.MFD_CLOEXEC))


_memfd_device = 0


def _memfd_dev() -> int:
    """st_dev of all memfds (the kernel's internal tmpfs)."""
    global _memfd_device
    if not _memfd_device:
        from ..vfs.memfd import new_memfd

        fd = new_memfd()
        _memfd_device = os.fstat(fd).st_dev
        os.close(fd)
    return _memfd_device


# --- mode and owner ----------------------------------------------------------------------------------------


def _chmod(t: Task, where: Path, mode: int) -> Result:
    attrops.chmod(t.sandbox.vfs, t, where, mode)
    return 0


@syscall("chmod")
def sys_chmod(t: Task, path: bytes, mode: int) -> Result:
    """chmod(2)"""
    return _chmod(t, place(t, None, path, 0), mode)


@syscall("fchmodat")
def sys_fchmodat(t: Task, dirfd: FdRef | None, path: bytes, mode: int) -> Result:
    """fchmodat(2) of the kernel, which has no flags"""
    return _chmod(t, place(t, dirfd, path, 0), mode)


@syscall("fchmodat2")
def sys_fchmodat2(t: Task, dirfd: FdRef | None, path: bytes, mode: int, flags: int) -> Result:
    """fchmodat2(2)"""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise err(errno.EINVAL)
    return _chmod(t, _place_to_change(t, dirfd, path, flags), mode)


@syscall("fchmod")
def sys_fchmod(t: Task, fd: FdRef, mode: int) -> Result:
    """fchmod(2)"""
    return _chmod(t, _own_place(t, fd), mode)


def _id(value: int) -> int:
    """A uid_t or gid_t argument: 32 bits, all ones meaning "leave alone"."""
    value &= 0xFFFFFFFF
    return -1 if value == 0xFFFFFFFF else value


def _chown(t: Task, where: Path, uid: int, gid: int) -> Result:
    attrops.chown(t.sandbox.vfs, t, where, _id(uid), _id(gid))
    return 0


@syscall("fchownat")
def sys_fchownat(t: Task, dirfd: FdRef | None, path: bytes, uid: int, gid: int, flags: int) -> Result:
    """fchownat(2)"""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise err(errno.EINVAL)
    return _chown(t, _place_to_change(t, dirfd, path, flags), uid, gid)


@syscall("chown")
def sys_chown(t: Task, path: bytes, uid: int, gid: int) -> Result:
    """chown(2)"""
    return _chown(t, place(t, None, path, 0), uid, gid)


@syscall("lchown")
def sys_lchown(t: Task, path: bytes, uid: int, gid: int) -> Result:
    """lchown(2)"""
    return _chown(t, place(t, None, path, AT_SYMLINK_NOFOLLOW), uid, gid)


@syscall("fchown")
def sys_fchown(t: Task, fd: FdRef, uid: int, gid: int) -> Result:
    """fchown(2)"""
    return _chown(t, _own_place(t, fd), uid, gid)


# --- times -------------------------------------------------------------------------------------------------


def _timespecs(data: bytes | None) -> Times | None:
    """Two struct timespec, unchecked."""
    return None if data is None else _QUAD.unpack(data)


def _timevals(data: bytes | None) -> Times | None:
    """Two struct timeval; EINVAL for microseconds out of range."""
    if data is None:
        return None
    a, au, m, mu = _QUAD.unpack(data)
    if not (0 <= au < 1000000 and 0 <= mu < 1000000):
        raise err(errno.EINVAL)
    return a, au * 1000, m, mu * 1000


def _utimes(t: Task, dirfd: FdRef | None, path: bytes | None, times: Times | None, flags: int) -> Result:
    if path is None and dirfd is not None:
        if flags:
            raise err(errno.EINVAL)
        where = _own_place(t, dirfd)
    elif path is None:  # AT_EMPTY_PATH is no excuse for it: user_path_at()
        raise err(errno.EFAULT)
    else:
        where = place(t, dirfd, path, flags)
    for ns in () if times is None else times[1::2]:  # looked at only now: vfs_utimes()
        if not 0 <= ns < 1000000000 and ns not in (UTIME_NOW, UTIME_OMIT):
            raise err(errno.EINVAL)
    attrops.utimes(t.sandbox.vfs, t, where, times)
    return 0


@syscall("utimensat")
def sys_utimensat(
    t: Task, dirfd: FdRef | None, path: bytes | None, times: bytes | None, flags: int
) -> Result:
    """utimensat(2), and futimens(3) with a NULL path"""
    specs = _timespecs(times)
    if specs is not None and specs[1] == UTIME_OMIT and specs[3] == UTIME_OMIT:
        return 0  # not even the path is looked at
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise err(errno.EINVAL)
    return _utimes(t, dirfd, path, specs, flags)


@syscall("utime")
def sys_utime(t: Task, path: bytes, times: bytes | None) -> Result:
    """utime(2)"""
    if times is None:
        return _utimes(t, None, path, None, 0)
    atime, mtime = _PAIR.unpack(times)
    return _utimes(t, None, path, (atime, 0, mtime, 0), 0)


@syscall("utimes")
def sys_utimes(t: Task, path: bytes, times: bytes | None) -> Result:
    """utimes(2)"""
    return _utimes(t, None, path, _timevals(times), 0)


@syscall("futimesat")
def sys_futimesat(t: Task, dirfd: FdRef | None, path: bytes | None, times: bytes | None) -> Result:
    """futimesat(2)"""
    return _utimes(t, dirfd, path, _timevals(times), 0)


# --- size and umask ----------------------------------------------------------------------------------------


@syscall("truncate")
def sys_truncate(t: Task, path: bytes, size: int) -> Result:
    """truncate(2)"""
    if size < 0:
        raise err(errno.EINVAL)
    where = t.sandbox.vfs.lookup(t, None, path)
    attrops.truncate(t.sandbox.vfs, t, where, size, lambda size: check_size(t, size))
    return 0


@syscall("umask")
def sys_umask(t: Task, mask: int) -> Result:
    """umask(2)"""
    old: int = t.fs.umask
    t.fs.umask = mask & 0o777
    return old


# --- extended attributes -----------------------------------------------------------------------------------


def _name(name: bytes) -> bytes:
    if not 0 < len(name) <= _XATTR_NAME_MAX:
        raise err(errno.ERANGE)
    return name


def set_xattr(t: Task, where: Path, name: bytes, value: bytes | None, size: int, flags: int) -> Result:
    if flags & ~3:
        raise err(errno.EINVAL)
    _name(name)
    if size & 0xFFFFFFFFFFFFFFFF > _XATTR_SIZE_MAX:
        raise err(errno.E2BIG)
    if value is None and size:
        raise err(errno.EFAULT)
    attrops.setxattr(t.sandbox.vfs, t, where, name, value or b"", flags)
    return 0


def get_xattr(t: Task, where: Path, name: bytes, buf: int, size: int) -> Result:
    value = attrops.getxattr(t, where, _name(name))
    if not size:
        return len(value)
    if len(value) > size:
        raise err(errno.ERANGE)
    return _give(t, buf, value)


def _give(t: Task, buf: int, data: bytes) -> Result:
    """All of it, although a reply holds half of the largest attribute."""
    if len(data) > SLOT_DATA_SIZE:
        t.poke(buf + SLOT_DATA_SIZE, data[SLOT_DATA_SIZE:])
    return Out(len(data), [(buf, data[:SLOT_DATA_SIZE])])


def list_xattr(t: Task, where: Path, buf: int, size: int) -> Result:
    data = b"".join(n + b"\0" for n in attrops.listxattr(t, where))
    if not size:
        return len(data)
    if len(data) > size:
        raise err(errno.ERANGE)
    return _give(t, buf, data) if data else 0


def remove_xattr(t: Task, where: Path, name: bytes) -> Result:
    attrops.removexattr(t.sandbox.vfs, t, where, _name(name))
    return 0


#: classes of attributes that a tmpfs keeps (shmem_xattr_handlers of mm/shmem.c)
_KEPT = (b"trusted.", b"security.", b"user.")


def _unchangeable(t: Task, fd: FdRef, name: bytes) -> OSError:
    """What xattr_permission() says of an attribute of a pipe, a socket or a memfd. Else EOPNOTSUPP: the host is not
    asked, since whoever may read a file of its own might change it so."""
    _name(name)
    if name.startswith((b"trusted.", b"security.")) and not t.creds.capable(CAP_SYS_ADMIN):
        return err(errno.EPERM)
    if name.startswith(b"user.") and fd.mode & S_IFMT != S_IFREG:
        return err(errno.EPERM)
    return err(errno.EOPNOTSUPP)


@syscall("setxattr")
def sys_setxattr(t: Task, path: bytes, name: bytes, value: bytes | None, size: int, flags: int) -> Result:
    """setxattr(2)"""
    return set_xattr(t, place(t, None, path, 0), name, value, size, flags)


@syscall("lsetxattr")
def sys_lsetxattr(t: Task, path: bytes, name: bytes, value: bytes | None, size: int, flags: int) -> Result:
    """lsetxattr(2)"""
    return set_xattr(t, place(t, None, path, AT_SYMLINK_NOFOLLOW), name, value, size, flags)


@syscall("fsetxattr")
def sys_fsetxattr(t: Task, fd: FdRef, name: bytes, value: bytes | None, size: int, flags: int) -> Result:
    """fsetxattr(2)"""
    where = _fd_place(t, fd)
    if where is None:
        raise _unchangeable(t, fd, name)
    return set_xattr(t, where, name, value, size, flags)


@syscall("getxattr")
def sys_getxattr(t: Task, path: bytes, name: bytes, buf: int, size: int) -> Result:
    """getxattr(2)"""
    return get_xattr(t, place(t, None, path, 0), name, buf, size)


@syscall("lgetxattr")
def sys_lgetxattr(t: Task, path: bytes, name: bytes, buf: int, size: int) -> Result:
    """lgetxattr(2)"""
    return get_xattr(t, place(t, None, path, AT_SYMLINK_NOFOLLOW), name, buf, size)


@syscall("fgetxattr")
def sys_fgetxattr(t: Task, fd: FdRef, name: bytes, buf: int, size: int) -> Result:
    """fgetxattr(2)"""
    if record(t, fd) is None:
        return NATIVE
    where = _fd_place(t, fd)
    return NATIVE if where is None else get_xattr(t, where, name, buf, size)


@syscall("listxattr")
def sys_listxattr(t: Task, path: bytes, buf: int, size: int) -> Result:
    """listxattr(2)"""
    return list_xattr(t, place(t, None, path, 0), buf, size)


@syscall("llistxattr")
def sys_llistxattr(t: Task, path: bytes, buf: int, size: int) -> Result:
    """llistxattr(2)"""
    return list_xattr(t, place(t, None, path, AT_SYMLINK_NOFOLLOW), buf, size)


@syscall("flistxattr")
def sys_flistxattr(t: Task, fd: FdRef, buf: int, size: int) -> Result:
    """flistxattr(2)"""
    if record(t, fd) is None:
        return NATIVE
    where = _fd_place(t, fd)
    return NATIVE if where is None else list_xattr(t, where, buf, size)


@syscall("removexattr")
def sys_removexattr(t: Task, path: bytes, name: bytes) -> Result:
    """removexattr(2)"""
    return remove_xattr(t, place(t, None, path, 0), name)


@syscall("lremovexattr")
def sys_lremovexattr(t: Task, path: bytes, name: bytes) -> Result:
    """lremovexattr(2)"""
    return remove_xattr(t, place(t, None, path, AT_SYMLINK_NOFOLLOW), name)


@syscall("fremovexattr")
def sys_fremovexattr(t: Task, fd: FdRef, name: bytes) -> Result:
    """fremovexattr(2)"""
    where = _fd_place(t, fd)
    if where is None:
        refusal = _unchangeable(t, fd, name)
        if refusal.errno == errno.EOPNOTSUPP and fd.mode & S_IFMT == S_IFREG and name.startswith(_KEPT):
            # a memfd has none here, since nobody can set any; a prefix alone is no name (xattr_resolve_name())
            raise err(errno.EINVAL if name in _KEPT else errno.ENODATA)
        raise refusal
    return remove_xattr(t, where, name)
