"""Operations on attributes: chmod, chown, utimensat, truncate, access, extended attributes.

Layer: vfs, on top of vfs.py. May touch: inodes.

Each function takes the resolved place, makes Linux's checks (fs/open.c, fs/attr.c, fs/utimes.c, fs/xattr.c)
in their order, and asks the inode.
"""

from __future__ import annotations

import errno

from . import acl, privileges
from .inode import Inode, err
from .inodeflags import FS_IMMUTABLE_FL
from .mount import MNT_NOEXEC
from .notify import IN_ACCESS, IN_ATTRIB, IN_MODIFY
from .perm import (
    CAP_CHOWN,
    CAP_FSETID,
    CAP_SETFCAP,
    CAP_SYS_ADMIN,
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    check,
    check_append,
    check_fixed,
    in_group,
    owner_or_capable,
)
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_ISVTX, now_ns

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    from .mount import Path
    from .namei import Caller
    from .perm import Creds
    from .vfs import Vfs

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2


def chmod(vfs: Vfs, who: Caller, path: Path, mode: int) -> None:
    """fchmodat2(2)."""
    vfs.want_write(path)
    inode = path.inode
    inode.refresh()
    if inode.is_symlink:
        raise err(errno.EOPNOTSUPP)
    check_fixed(inode)
    if not owner_or_capable(who.creds, inode):
        raise err(errno.EPERM)
    mode &= 0o7777
    if mode & S_ISGID and not in_group(who.creds, inode.gid) and not who.creds.capable(CAP_FSETID):
        mode &= ~S_ISGID
    vfs.mounts.walks.alter(inode)
    inode.setattr(mode=mode)
    if inode.acl is not None:
        inode.setxattr(acl.ACCESS, acl.after_chmod(inode.acl, mode), 0)
    if mode & (S_ISUID | S_ISGID) and inode.kind == S_IFREG:
        inode.may_be_open(privileges.lost_by_write(who.creds, inode))
    _told(vfs, path, IN_ATTRIB)


def _told(vfs: Vfs, path: Path, event: int) -> None:
    """fsnotify_change(), fsnotify_xattr()"""
    if vfs.notify is not None:
        vfs.notify.on(path, event)


def chown(vfs: Vfs, who: Caller, path: Path, uid: int, gid: int) -> None:
    """fchownat(2); -1 leaves an id alone."""
    vfs.want_write(path)
    inode = path.inode
    inode.refresh()
    check_fixed(inode)
    creds = who.creds
    capable = creds.capable(CAP_CHOWN)
    owner = creds.fsuid == inode.uid
    if uid != -1 and not (owner and uid == inode.uid) and not capable:
        raise err(errno.EPERM)
    if gid != -1 and not (owner and (gid == inode.gid or in_group(creds, gid))) and not capable:
        raise err(errno.EPERM)
    mode = None
    if inode.mode & S_IFMT not in (S_IFDIR, S_IFLNK):
        kill = privileges.set_id_bits(creds, inode)
        if kill:
            # Through notify_change() this is a chmod too, with chmod's condition.
            if not owner_or_capable(creds, inode):
                raise err(errno.EPERM)
            mode = inode.mode & 0o7777 & ~kill
        privileges.remove_capabilities(inode)
    vfs.mounts.walks.alter(inode)
    inode.setattr(uid=None if uid == -1 else uid, gid=None if gid == -1 else gid, mode=mode)
    _told(vfs, path, IN_ATTRIB)


def utimes(vfs: Vfs, who: Caller, path: Path, times: tuple[int, int, int, int] | None) -> None:
    """utimensat(2): times are (atime s, ns, mtime s, ns), None for now; ns may be UTIME_NOW or UTIME_OMIT."""
    vfs.want_write(path)
    inode = path.inode
    inode.refresh()
    vfs.mounts.walks.retime(inode)
    now = now_ns()
    if times is None or (times[1] == UTIME_NOW and times[3] == UTIME_NOW):
        if inode.iflags & FS_IMMUTABLE_FL:
            raise err(errno.EPERM)
        if not owner_or_capable(who.creds, inode):
            check(who.creds, inode, MAY_WRITE)
        inode.setattr(atime=now, mtime=now)
        _told(vfs, path, IN_ATTRIB)
        return
    check_fixed(inode)
    if not owner_or_capable(who.creds, inode):
        raise err(errno.EPERM)
    atime, mtime = _time(times[0], times[1], now), _time(times[2], times[3], now)
    inode.setattr(atime=atime, mtime=mtime)
    _told(vfs, path, IN_ACCESS if mtime is None else IN_MODIFY if atime is None else IN_ATTRIB)


def _time(seconds: int, ns: int, now: int) -> int | None:
    return None if ns == UTIME_OMIT else now if ns == UTIME_NOW else seconds * 1000000000 + ns


def truncate(
    vfs: Vfs, who: Caller, path: Path, size: int, check_size: Callable[[int], None] = lambda size: None
) -> None:
    """truncate(2): vfs_truncate(). `check_size` is asked whether the file may grow, after whether the caller may."""
    inode = path.inode
    if inode.is_dir:
        raise err(errno.EISDIR)
    if inode.kind != S_IFREG:
        raise err(errno.EINVAL)
    vfs.want_write(path)
    check(who.creds, inode, MAY_WRITE)
    check_append(inode)
    vfs.deny_executed(who, inode)
    if size > inode.getattr().size:
        check_size(size)
    vfs.mounts.walks.alter(inode)
    privileges.remove(who.creds, inode)
    inode.setattr(size=size)
    if vfs.notify is not None:
        vfs.notify.truncated(path)


def access(creds: Creds, path: Path, mask: int) -> None:
    """faccessat2(2) with the credentials that count: EACCES, EROFS."""
    inode = path.inode
    inode.refresh()
    kind = inode.kind
    if mask & MAY_EXEC and kind == S_IFREG and path.mount.flags & MNT_NOEXEC:
        raise err(errno.EACCES)
    check(creds, inode, mask)
    if mask & MAY_WRITE and path.mount.read_only and kind in (S_IFREG, S_IFDIR, S_IFLNK):
        raise err(errno.EROFS)


# -- extended attributes -------------------------------------------------------------------------------------

_PREFIXES = (b"user.", b"trusted.", b"security.", b"system.")


def _known(name: bytes) -> None:
    """EOPNOTSUPP for a name outside the four classes or without a rest (xattr(7))."""
    if not any(name.startswith(p) and len(name) > len(p) for p in _PREFIXES):
        raise err(errno.EINVAL if name in _PREFIXES else errno.EOPNOTSUPP)
    if name.startswith(b"system.") and name not in acl.NAMES:
        raise err(errno.EOPNOTSUPP)


def _permit(creds: Creds, inode: Inode, name: bytes, mask: int) -> None:
    """xattr_permission()."""
    if mask & MAY_WRITE:
        check_fixed(inode)
    if name.startswith((b"security.", b"system.")):
        return
    write = bool(mask & MAY_WRITE)
    if name.startswith(b"trusted."):
        if not creds.capable(CAP_SYS_ADMIN):
            raise err(errno.EPERM if write else errno.ENODATA)
        return
    if name.startswith(b"user."):
        if inode.kind not in (S_IFREG, S_IFDIR):
            raise err(errno.EPERM if write else errno.ENODATA)
        if write and inode.is_dir and inode.mode & S_ISVTX and not owner_or_capable(creds, inode):
            raise err(errno.EPERM)
    check(creds, inode, mask)


def _permit_security(creds: Creds, name: bytes) -> None:
    """cap_inode_setxattr()."""
    if name == privileges.CAPABILITY:
        if not creds.capable(CAP_SETFCAP):
            raise err(errno.EPERM)
    elif name.startswith(b"security.") and not creds.capable(CAP_SYS_ADMIN):
        raise err(errno.EPERM)


def setxattr(vfs: Vfs, who: Caller, path: Path, name: bytes, value: bytes, flags: int) -> None:
    """setxattr(2)."""
    vfs.want_write(path)
    inode = path.inode
    inode.refresh()
    _permit(who.creds, inode, name, MAY_WRITE)
    _permit_security(who.creds, name)
    _known(name)
    vfs.mounts.walks.alter(inode)
    if name in acl.NAMES:
        _set_acl(who.creds, inode, name, value)
    else:
        inode.setxattr(name, value, flags)
        if name == privileges.CAPABILITY and inode.kind == S_IFREG:
            inode.may_be_open(0)
    _told(vfs, path, IN_ATTRIB)


def _set_acl(creds: Creds, inode: Inode, name: bytes, value: bytes) -> None:
    """set_posix_acl(); no value takes the list away."""
    entries = acl.parse(value) if value else ()
    if inode.kind == S_IFLNK or type(inode).setxattr is Inode.setxattr:  # a filesystem without lists
        raise err(errno.EOPNOTSUPP)
    if name == acl.DEFAULT and not inode.is_dir:
        if entries:
            raise err(errno.EACCES)
        return
    if not owner_or_capable(creds, inode):
        raise err(errno.EPERM)
    plain = not entries
    if entries and name == acl.ACCESS:
        bits, plain = acl.mode_of(entries)
        mode = inode.mode & 0o7000 | bits
        if not in_group(creds, inode.gid) and not creds.capable(CAP_FSETID):
            mode &= ~S_ISGID
        inode.setattr(mode=mode)
    if not plain:
        inode.setxattr(name, acl.pack(entries), 0)
        return
    try:
        inode.removexattr(name)
    except OSError as e:
        if e.errno != errno.ENODATA:
            raise


def getxattr(who: Caller, path: Path, name: bytes) -> bytes:
    """getxattr(2)."""
    inode = path.inode
    inode.refresh()
    _permit(who.creds, inode, name, MAY_READ)
    _known(name)
    if name in acl.NAMES and inode.is_symlink:
        raise err(errno.EOPNOTSUPP)
    return inode.getxattr(name)


def listxattr(who: Caller, path: Path) -> list[bytes]:
    """listxattr(2): trusted.* shows only with CAP_SYS_ADMIN."""
    path.inode.refresh()
    names = path.inode.listxattr()
    if not who.creds.capable(CAP_SYS_ADMIN):
        names = [n for n in names if not n.startswith(b"trusted.")]
    return names


def removexattr(vfs: Vfs, who: Caller, path: Path, name: bytes) -> None:
    """removexattr(2)."""
    vfs.want_write(path)
    inode = path.inode
    inode.refresh()
    _permit(who.creds, inode, name, MAY_WRITE)
    _permit_security(who.creds, name)
    _known(name)
    vfs.mounts.walks.alter(inode)
    if name in acl.NAMES:
        _set_acl(who.creds, inode, name, b"")
    else:
        inode.removexattr(name)
    _told(vfs, path, IN_ATTRIB)
