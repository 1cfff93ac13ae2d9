"""Operations on names: mkdir, mknod, symlink, link, unlink, rmdir, rename, readlink, chdir.

Layer: vfs, on top of vfs.py. May touch: inodes and dentries.

Each function is one do_*() of fs/namei.c, with its order of checks, because the order decides which errno a
caller sees. `who` is the caller, `start` the directory of a relative name (None: the working directory).
"""

from __future__ import annotations

import errno

from . import acl
from .inode import err
from .memfs import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from .namei import LAST_DOT, LAST_DOTDOT, LAST_NORM
from .notify import IN_ATTRIB, IN_CREATE, IN_DELETE
from .perm import (
    CAP_DAC_READ_SEARCH,
    CAP_MKNOD,
    CAP_SYS_CHROOT,
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    allowed,
    check,
    check_append,
    check_fixed,
    check_sticky,
    owner_of_new,
    owner_or_capable,
)
from .stat import (
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    S_ISGID,
    S_ISUID,
    S_ISVTX,
    S_IXGRP,
)

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .dentry import Dentry
    from .inode import Inode
    from .mount import Namespace, Path
    from .namei import Caller, Walk
    from .openfile import OpenDir
    from .perm import Creds
    from .vfs import Vfs


def _start_create(vfs: Vfs, who: Caller, start: Path | None, name: bytes, want_dir: bool = False) -> Walk:
    """filename_create(): a walk that stands before a free name in a live, writable filesystem."""
    walk = vfs.walk_parent(who, start, name)
    if walk.last_type != LAST_NORM:
        raise err(errno.EEXIST, name)
    if walk.path.dentry.inode.nlink == 0:
        raise err(errno.ENOENT, name)
    if walk.last_inode() is not None:
        raise err(errno.EEXIST, name)
    if walk.trailing and not want_dir:
        raise err(errno.ENOENT, name)
    vfs.want_write(walk.path)
    return walk


def mkdir(vfs: Vfs, who: Caller, start: Path | None, name: bytes, mode: int) -> None:
    """mkdirat(2)."""
    walk = _start_create(vfs, who, start, name, want_dir=True)
    parent = walk.path.dentry.inode
    check(who.creds, parent, MAY_WRITE | MAY_EXEC)
    mode, lists = acl.inherit(parent, mode & (0o777 | S_ISVTX) | S_IFDIR, who.fs.umask)
    mode, uid, gid = owner_of_new(who.creds, parent, mode)
    vfs.mounts.walks.rename(parent, walk.last, None)
    made = parent.mkdir(walk.last, mode & 0o7777, uid, gid)
    acl.give(made, lists)
    if vfs.notify is not None:
        vfs.notify.name(parent, IN_CREATE, walk.last, True)


def check_mknod(mode: int) -> None:
    """may_mknod(): what is looked at before the name."""
    kind = mode & S_IFMT
    if kind == S_IFDIR:
        raise err(errno.EPERM)
    if kind not in (0, S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK):
        raise err(errno.EINVAL)


def mknod(vfs: Vfs, who: Caller, start: Path | None, name: bytes, mode: int, rdev: int) -> None:
    """mknodat(2)."""
    check_mknod(mode)
    kind = mode & S_IFMT
    walk = _start_create(vfs, who, start, name)
    parent = walk.path.dentry.inode
    check(who.creds, parent, MAY_WRITE | MAY_EXEC)
    if kind in (S_IFCHR, S_IFBLK):
        whiteout = kind == S_IFCHR and not rdev  # overlay filesystems' mark: anybody may make it (vfs_mknod())
        if not whiteout and not who.creds.capable(CAP_MKNOD):
            raise err(errno.EPERM, name)
    else:
        rdev = 0
    mode, lists = acl.inherit(parent, mode & 0o7777 | (kind or S_IFREG), who.fs.umask)
    mode, uid, gid = owner_of_new(who.creds, parent, mode)
    vfs.mounts.walks.rename(parent, walk.last, None)
    if mode & S_IFMT == S_IFREG:
        made = parent.create(walk.last, mode & 0o7777, uid, gid)
    else:
        made = parent.mknod(walk.last, mode, rdev, uid, gid)
    acl.give(made, lists)
    if vfs.notify is not None:
        vfs.notify.name(parent, IN_CREATE, walk.last)


def symlink(vfs: Vfs, who: Caller, target: bytes, start: Path | None, name: bytes) -> None:
    """symlinkat(2)."""
    if not target:
        raise err(errno.ENOENT)
    walk = _start_create(vfs, who, start, name)
    parent = walk.path.dentry.inode
    check(who.creds, parent, MAY_WRITE | MAY_EXEC)
    _, uid, gid = owner_of_new(who.creds, parent, S_IFLNK | 0o777)
    vfs.mounts.walks.rename(parent, walk.last, None)
    parent.symlink(walk.last, target, uid, gid)
    if vfs.notify is not None:
        vfs.notify.name(parent, IN_CREATE, walk.last)


def link(vfs: Vfs, who: Caller, old: Path, start: Path | None, name: bytes) -> None:
    """linkat(2), when the old name is resolved."""
    walk = _start_create(vfs, who, start, name)
    if old.mount is not walk.path.mount:
        raise err(errno.EXDEV, name)
    inode = old.inode
    inode.refresh()
    if (
        vfs.protected_hardlinks
        and not owner_or_capable(who.creds, inode)
        and not _safe_source(who.creds, inode)
    ):
        raise err(errno.EPERM, name)
    parent = walk.path.dentry.inode
    check(who.creds, parent, MAY_WRITE | MAY_EXEC)
    check_fixed(inode)
    if inode.is_dir:
        raise err(errno.EPERM, name)
    if inode.nlink == 0 and not inode.linkable:
        raise err(errno.ENOENT, name)
    vfs.mounts.walks.rename(parent, walk.last, inode)
    parent.link(walk.last, inode)
    inode.named()
    if vfs.notify is not None:
        vfs.notify.inode(inode, IN_ATTRIB)
        vfs.notify.name(parent, IN_CREATE, walk.last)


def _safe_source(creds: Creds, inode: Inode) -> bool:
    """safe_hardlink_source(): what fs.protected_hardlinks lets others than the owner link."""
    mode = inode.mode
    return (
        mode & S_IFMT == S_IFREG
        and not mode & S_ISUID
        and mode & (S_ISGID | S_IXGRP) != S_ISGID | S_IXGRP
        and allowed(creds, inode, MAY_READ | MAY_WRITE)
    )


def link_needs(who: Caller) -> None:
    """linkat(2) with AT_EMPTY_PATH: ENOENT without CAP_DAC_READ_SEARCH."""
    if not who.creds.capable(CAP_DAC_READ_SEARCH):
        raise err(errno.ENOENT)


def _may_delete(who: Caller, parent: Inode, victim: Inode, want_dir: bool) -> None:
    """may_delete() in fs/namei.c."""
    check(who.creds, parent, MAY_WRITE | MAY_EXEC)
    check_append(parent)
    check_sticky(who.creds, parent, victim)
    check_fixed(victim)
    if want_dir:
        if not victim.is_dir:
            raise err(errno.ENOTDIR)
    elif victim.is_dir:
        raise err(errno.EISDIR)
    if parent.nlink == 0:
        raise err(errno.ENOENT)


def _drop(walk: Walk, inode: Inode) -> Dentry | None:
    """The dentry of the last component, if anyone holds it."""
    return walk.path.dentry.cached(walk.last)


def _busy(vfs: Vfs, who: Caller, dentry: Dentry | None) -> None:
    if dentry is not None and dentry.mounted and not vfs.mounts.uncover(dentry, namespace_of(vfs, who)):
        raise err(errno.EBUSY)


def namespace_of(vfs: Vfs, who: Caller) -> Namespace:
    """The mount namespace of a caller."""
    return getattr(who.fs, "mnt_ns", None) or vfs.mounts.first


def unlink(vfs: Vfs, who: Caller, start: Path | None, name: bytes) -> None:
    """unlinkat(2)."""
    walk = vfs.walk_parent(who, start, name)
    if walk.last_type != LAST_NORM:
        raise err(errno.EISDIR, name)
    vfs.want_write(walk.path)
    inode = walk.last_inode()
    if inode is None:
        raise err(errno.ENOENT, name)
    if walk.trailing:
        raise err(errno.EISDIR if inode.is_dir else errno.ENOTDIR, name)
    parent = walk.path.dentry.inode
    _may_delete(who, parent, inode, want_dir=False)
    dentry = _drop(walk, inode)
    _busy(vfs, who, dentry)
    vfs.mounts.walks.rename(parent, walk.last, inode)
    parent.unlink(walk.last, inode)
    vfs.mounts.walks.gone(parent, walk.last)
    if dentry is not None:
        dentry.drop()
    vfs.lost_inode(inode)
    if vfs.notify is not None:
        vfs.notify.inode(inode, IN_ATTRIB)
        vfs.notify.name(parent, IN_DELETE, walk.last)
        if not inode.nlink:
            vfs.notify.removed(inode)


def rmdir(vfs: Vfs, who: Caller, start: Path | None, name: bytes) -> None:
    """unlinkat(2) with AT_REMOVEDIR."""
    walk = vfs.walk_parent(who, start, name)
    if walk.last_type != LAST_NORM:
        raise err(
            {LAST_DOTDOT: errno.ENOTEMPTY, LAST_DOT: errno.EINVAL}.get(walk.last_type, errno.EBUSY), name
        )
    vfs.want_write(walk.path)
    inode = walk.last_inode()
    if inode is None:
        raise err(errno.ENOENT, name)
    parent = walk.path.dentry.inode
    _may_delete(who, parent, inode, want_dir=True)
    dentry = _drop(walk, inode)
    _busy(vfs, who, dentry)
    vfs.mounts.walks.rename(parent, walk.last, inode)
    parent.rmdir(walk.last, inode)
    if dentry is not None:
        dentry.drop()
    if vfs.notify is not None:
        vfs.notify.name(parent, IN_DELETE, walk.last, True)
        vfs.notify.removed(inode)


def rename(
    vfs: Vfs,
    who: Caller,
    start: Path | None,
    name: bytes,
    newstart: Path | None,
    newname: bytes,
    flags: int = 0,
) -> None:
    """renameat2(2)."""
    check_rename_flags(flags)
    rename_walked(vfs, who, vfs.walk_parent(who, start, name), vfs.walk_parent(who, newstart, newname), flags)


def check_rename_flags(flags: int) -> None:
    """EINVAL for flags that mean nothing, before the names are looked at."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
        raise err(errno.EINVAL)
    if flags & RENAME_EXCHANGE and flags & (RENAME_NOREPLACE | RENAME_WHITEOUT):
        raise err(errno.EINVAL)


def rename_walked(vfs: Vfs, who: Caller, old: Walk, new: Walk, flags: int) -> None:
    """do_renameat2() and vfs_rename() of (directory, last name)."""
    name, newname = old.last, new.last
    if old.path.mount is not new.path.mount:
        raise err(errno.EXDEV, name)
    if old.last_type != LAST_NORM:
        raise err(errno.EBUSY, name)
    if new.last_type != LAST_NORM:
        raise err(errno.EEXIST if flags & RENAME_NOREPLACE else errno.EBUSY, newname)
    vfs.want_write(old.path)
    source = old.last_inode()
    if source is None:
        raise err(errno.ENOENT, name)
    target = new.last_inode()
    if flags & RENAME_NOREPLACE and target is not None:
        raise err(errno.EEXIST, newname)
    if flags & RENAME_EXCHANGE:
        if target is None:
            raise err(errno.ENOENT, newname)
        if not target.is_dir and new.trailing:
            raise err(errno.ENOTDIR, newname)
    if not source.is_dir and (old.trailing or (new.trailing and not flags & RENAME_EXCHANGE)):
        raise err(errno.ENOTDIR, name)
    olddir, newdir = old.path.dentry, new.path.dentry
    old_dentry = olddir.child(old.last, source)
    new_dentry = newdir.child(new.last, target) if target is not None else None
    if source.is_dir and newdir.is_beneath(old_dentry):
        raise err(errno.EINVAL, newname)
    if target is not None and target.is_dir and new_dentry is not None and olddir.is_beneath(new_dentry):
        raise err(errno.EINVAL if flags & RENAME_EXCHANGE else errno.ENOTEMPTY, newname)
    if source is target:
        return
    _check_rename(who, olddir.inode, source, newdir.inode, target, bool(flags & RENAME_EXCHANGE))
    _busy(vfs, who, old_dentry)
    _busy(vfs, who, new_dentry)
    if flags & RENAME_WHITEOUT and not _has_whiteouts(olddir.inode):
        raise err(errno.EINVAL)
    _forget_renamed(vfs, old, source, new, target, flags)
    olddir.inode.rename(old.last, newdir.inode, new.last, flags & ~RENAME_WHITEOUT)
    if flags & RENAME_EXCHANGE:
        assert new_dentry is not None
        old_dentry.move(newdir, new.last)
        # After the first move the name belongs to the other dentry: place this one without forgetting it.
        new_dentry.parent, new_dentry.name = olddir, b""
        new_dentry.move(olddir, old.last)
        if vfs.notify is not None and target is not None:
            vfs.notify.renamed(olddir.inode, old.last, newdir.inode, new.last, source, None)
            vfs.notify.renamed(newdir.inode, new.last, olddir.inode, old.last, target, None)
        return
    if new_dentry is not None and target is not None:
        new_dentry.drop()
        vfs.lost_inode(target)
    old_dentry.move(newdir, new.last)
    if not flags:
        vfs.mounts.walks.gone(olddir.inode, old.last)
    if flags & RENAME_WHITEOUT:
        olddir.inode.mknod(old.last, S_IFCHR, 0, who.creds.fsuid, who.creds.fsgid)
    if vfs.notify is not None:
        vfs.notify.renamed(olddir.inode, old.last, newdir.inode, new.last, source, target)


def _forget_renamed(
    vfs: Vfs, old: Walk, source: Inode, new: Walk, target: Inode | None, flags: int
) -> None:
    """What was known of both names, before they change."""
    walks = vfs.mounts.walks
    if flags:
        walks.clear()
    walks.rename(old.path.dentry.inode, old.last, source)
    walks.rename(new.path.dentry.inode, new.last, target)


def _has_whiteouts(directory: Inode) -> bool:
    """RENAME_WHITEOUT: what is in memory has them; a host directory is not asked to make device nodes."""
    from .memfs import MemoryFS

    return isinstance(directory.sb, MemoryFS) or type(directory.sb).__name__ == "CowFS"


def _check_rename(
    who: Caller, olddir: Inode, source: Inode, newdir: Inode, target: Inode | None, exchange: bool
) -> None:
    """The permission part of vfs_rename()."""
    _may_delete(who, olddir, source, source.is_dir)
    if target is None:
        if newdir.nlink == 0:
            raise err(errno.ENOENT)
        check(who.creds, newdir, MAY_WRITE | MAY_EXEC)
    else:
        _may_delete(who, newdir, target, target.is_dir if exchange else source.is_dir)
    if olddir is not newdir:
        # ".." changes, so the directory itself must be writable.
        if source.is_dir:
            check(who.creds, source, MAY_WRITE)
        if exchange and target is not None and target.is_dir:
            check(who.creds, target, MAY_WRITE)


def getdents(vfs: Vfs, file: OpenDir, room: int) -> bytes:
    """getdents64(2): OpenDir.getdents(), or what is remembered of a directory that is read from its start."""
    walks = vfs.mounts.walks
    if file.pos or not file.plain or file.path.dentry.deleted:
        return file.getdents(room)
    vfs.mounts.watch.settle()
    known = walks.listing(file.inode)
    if known is not None and len(known[0]) <= room:
        file.take_listing(known[1])
        return known[0]
    file.inode.listed()  # first, to hear of what changes from now on
    data = file.getdents(room)
    entries = file.listing()
    if file.pos == len(entries):
        walks.keep_listing(file.inode, (data, entries))
    return data


def readlink(vfs: Vfs, who: Caller, path: Path) -> bytes:
    """readlinkat(2) of a place: EINVAL if it is no symlink."""
    from .namei import caller_task

    inode = path.inode
    if not inode.is_symlink:
        raise err(errno.EINVAL)
    if path.mount.keeps_atime:
        inode.accessed()
    return inode.readlink(caller_task(who))


def check_chdir(who: Caller, path: Path) -> None:
    """May `who` make this place its working directory?"""
    inode = path.inode
    inode.refresh()
    if not inode.is_dir:
        raise err(errno.ENOTDIR)
    check(who.creds, inode, MAY_EXEC)


def check_chroot(who: Caller, path: Path) -> None:
    """May `who` make this place its root?"""
    check_chdir(who, path)
    if not who.creds.capable(CAP_SYS_CHROOT):
        raise err(errno.EPERM)
