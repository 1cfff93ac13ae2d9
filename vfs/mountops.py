"""Operations on mounts by a guest: mount(2), umount2(2), pivot_root(2) and the calls of the new mount API.

Layer: vfs, on top of vfs.py, beside dirops.py. May touch: the mount table, superblocks.

Each function is one of fs/namespace.c, with its order of checks. What the sandbox's owner mounted is locked, as what a
more privileged namespace mounted is on Linux: it can neither be taken away nor be made writable.
"""

from __future__ import annotations

import errno

from . import propagation
from .dirops import namespace_of
from .inode import err
from .mount import (
    MNT_NOATIME,
    MNT_NODIRATIME,
    MNT_NOSYMFOLLOW,
    MNT_RDONLY,
    MNT_RELATIME,
    Path,
)
from .perm import CAP_SYS_ADMIN
from .propagation import MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE
from .stat import S_IFDIR

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .inode import SuperBlock
    from .mount import Mount
    from .namei import Caller, Fs
    from .vfs import Vfs

    Options = dict[str, str | None]
    Busy = Callable[[Mount], bool]

# mount(2), include/uapi/linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS, MS_REMOUNT = 1, 2, 4, 8, 16, 32
MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_MOVE, MS_REC = 256, 1024, 2048, 4096, 8192, 16384
MS_SILENT, MS_RELATIME, MS_STRICTATIME, MS_NOUSER = 1 << 15, 1 << 21, 1 << 24, 1 << 31
_MGC_VAL, _MGC_MASK = 0xC0ED0000, 0xFFFF0000
_PROPAGATION = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE
_ATIME = MNT_NOATIME | MNT_NODIRATIME | MNT_RELATIME
# umount2(2)
MNT_FORCE, MNT_DETACH, MNT_EXPIRE, UMOUNT_NOFOLLOW = 1, 2, 4, 8


def may_mount(who: Caller) -> None:
    """EPERM without CAP_SYS_ADMIN."""
    if not who.creds.capable(CAP_SYS_ADMIN):
        raise err(errno.EPERM)


def ours(vfs: Vfs, who: Caller, mount: Mount) -> None:
    """check_mnt(): EINVAL for a mount of another namespace or of none."""
    if mount.ns is not namespace_of(vfs, who):
        raise err(errno.EINVAL)


def is_mounted(path: Path) -> bool:
    """path_mounted(): is the place the root of its mount?"""
    return path.dentry is path.mount.root


def parse_options(data: bytes | None) -> Options:
    """generic_parse_monolithic(): "size=64k,mode=755" as a dictionary."""
    options: Options = {}
    for word in (data or b"").decode("utf-8", "surrogateescape").split(","):
        name, equals, value = word.partition("=")
        if word and not name:
            raise err(errno.EINVAL)
        if name:
            options[name] = value if equals else None
    return options


def _mount_flags(flags: int) -> int:
    """The MNT_* flags of mount(2)'s MS_* (path_mount())."""
    mnt = flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NODIRATIME | MS_NOATIME)
    if flags & MS_NOSYMFOLLOW:
        mnt |= MNT_NOSYMFOLLOW
    if not flags & MS_NOATIME:
        mnt |= MNT_RELATIME
    if flags & MS_STRICTATIME:
        mnt &= ~(MNT_RELATIME | MNT_NOATIME)
    return mnt


def mount(
    vfs: Vfs, who: Caller, at: Path, source: bytes | None, fstype: bytes | None, flags: int, data: bytes | None
) -> None:
    """path_mount(): mount(2) when the mount point is resolved."""
    if flags & _MGC_MASK == _MGC_VAL:
        flags &= ~_MGC_MASK
    if flags & MS_NOUSER:
        raise err(errno.EINVAL)
    may_mount(who)
    mnt = _mount_flags(flags)
    if flags & MS_REMOUNT and not flags & (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME):
        mnt = mnt & ~_ATIME | at.mount.flags & _ATIME
    if flags & (MS_REMOUNT | MS_BIND) == MS_REMOUNT | MS_BIND:
        _changeable(vfs, who, at)
        set_flags(at.mount, mnt)
    elif flags & MS_REMOUNT:
        _changeable(vfs, who, at)
        check_locked(at.mount, mnt)
        remount(at.mount.sb, bool(flags & MS_RDONLY), parse_options(data))
        set_flags(at.mount, mnt)
    elif flags & MS_BIND:
        _bind(vfs, who, at, source, bool(flags & MS_REC))
    elif flags & _PROPAGATION:
        change_type(vfs, who, at, flags)
    elif flags & MS_MOVE:
        if not source:
            raise err(errno.EINVAL)
        move(vfs, who, vfs.lookup(who, None, source), at)
    else:
        _new_mount(vfs, who, at, source, fstype, flags, mnt, data)


def _changeable(vfs: Vfs, who: Caller, at: Path) -> None:
    ours(vfs, who, at.mount)
    if not is_mounted(at):
        raise err(errno.EINVAL)


def check_locked(mount: Mount, flags: int) -> None:
    """can_change_locked_flags(): EPERM where read-only, as the owner mounted it, would become writable."""
    if mount.lock_readonly and not flags & MNT_RDONLY:
        raise err(errno.EPERM)


def set_flags(mount: Mount, flags: int) -> None:
    """New MNT_* flags for one mount."""
    check_locked(mount, flags)
    mount.flags = flags


def remount(sb: SuperBlock, read_only: bool, options: Options) -> None:
    """reconfigure_super(). EROFS for a filesystem that was never writable."""
    if sb.read_only and not read_only and not sb.was_writable:
        raise err(errno.EROFS)
    sb.remount(options)
    if read_only != sb.read_only:
        sb.was_writable = True
        sb.read_only = read_only


def make(vfs: Vfs, who: Caller, fstype: str, options: Options) -> SuperBlock:
    """A filesystem of a type, with its options. ENODEV for a type that there is not, EINVAL for other options."""
    maker = vfs.fstypes.get(fstype)
    if maker is None:
        raise err(errno.ENODEV)
    options.pop("source", None)
    sb = maker(vfs, who, options)
    if options:
        raise err(errno.EINVAL)
    sb.attached(vfs)
    return sb


def _new_mount(
    vfs: Vfs,
    who: Caller,
    at: Path,
    source: bytes | None,
    fstype: bytes | None,
    flags: int,
    mnt: int,
    data: bytes | None,
) -> None:
    if fstype is None:
        raise err(errno.EINVAL)
    name = fstype.decode("utf-8", "replace")
    if name not in vfs.fstypes:
        raise err(errno.ENODEV)
    options = parse_options(data)
    sb = make(vfs, who, name, options)
    new = vfs.mounts.create(sb, mnt)
    new.source = (source or b"none").decode("utf-8", "surrogateescape")
    at = vfs.mounts.cross(at)
    if at.mount.sb is sb and is_mounted(at) and name != "proc":  # each mount of proc is a new one (since Linux 5.8)
        raise err(errno.EBUSY)
    if flags & MS_RDONLY and not sb.read_only and name not in ("proc", "sysfs", "devpts", "devtmpfs"):
        sb.read_only, sb.was_writable = True, True
    graft(vfs, who, new, at)


def graft(vfs: Vfs, who: Caller, new: Mount, at: Path) -> None:
    """graft_tree(): put a mount that is nowhere on a place. ENOTDIR where one is a directory and the other not."""
    at = vfs.mounts.cross(at)
    if vfs.is_deleted(at):
        raise err(errno.ENOENT)
    ours(vfs, who, at.mount)
    if (new.root.inode.kind == S_IFDIR) != (at.inode.kind == S_IFDIR):
        raise err(errno.ENOTDIR)
    vfs.mounts.attach(new, at)
    propagation.attached(vfs.mounts, new)


def copy(vfs: Vfs, who: Caller, old: Path, recursive: bool) -> Mount:
    """__do_loopback(): a copy of the tree at `old`, attached nowhere."""
    if old.mount.unbindable:
        raise err(errno.EINVAL)
    ours(vfs, who, old.mount)
    if recursive:
        new = vfs.mounts.copy_tree(old.mount, old.dentry, everything=False)[old.mount]
        new.locked = False  # itself it may be taken away; what is on it stays
        return new
    if any(m.locked and m.mountpoint is not None and m.mountpoint.is_beneath(old.dentry)
           for m in old.mount.children.values()):  # fmt: skip
        raise err(errno.EINVAL)  # it would show what they cover
    new = vfs.mounts.clone(old.mount, old.dentry)
    new.locked = False
    return new


def _bind(vfs: Vfs, who: Caller, at: Path, source: bytes | None, recursive: bool) -> None:
    if not source:
        raise err(errno.EINVAL)
    graft(vfs, who, copy(vfs, who, vfs.lookup(who, None, source), recursive), at)


def change_type(vfs: Vfs, who: Caller, at: Path, flags: int) -> None:
    """do_change_type(): MS_SHARED and its like."""
    if not is_mounted(at):
        raise err(errno.EINVAL)
    kind = flags & ~(MS_REC | MS_SILENT)
    if kind & ~_PROPAGATION or kind & kind - 1:
        raise err(errno.EINVAL)
    ours(vfs, who, at.mount)
    for one in at.mount.tree() if flags & MS_REC else (at.mount,):
        propagation.change(vfs.mounts, one, kind)


def move(vfs: Vfs, who: Caller, old: Path, at: Path) -> None:
    """do_move_mount(): from one place to another, or from nowhere (a detached tree)."""
    moved = old.mount
    at = vfs.mounts.cross(at)
    if moved.ns is not None:
        ours(vfs, who, moved)
    ours(vfs, who, at.mount)
    if not is_mounted(old):
        raise err(errno.EINVAL)
    if moved.ns is not None and moved.parent is None:
        raise err(errno.EINVAL)
    if moved.ns is not None and moved.locked:
        raise err(errno.EINVAL)
    if (moved.root.inode.kind == S_IFDIR) != (at.inode.kind == S_IFDIR):
        raise err(errno.EINVAL)
    if vfs.is_deleted(at):
        raise err(errno.ENOENT)
    if moved.reaches(at):
        raise err(errno.ELOOP)
    if moved.parent is not None and moved.parent.group is not None:
        raise err(errno.EINVAL)
    propagation.check_movable(moved, at.mount)
    vfs.mounts.unhook(moved)
    vfs.mounts.attach(moved, at)
    propagation.attached(vfs.mounts, moved)


def umount(vfs: Vfs, who: Caller, at: Path, flags: int, busy: Busy) -> list[Mount]:
    """path_umount(): returns the mounts that are gone. `busy(mount)` says whether any process uses it."""
    may_mount(who)
    if not is_mounted(at):
        raise err(errno.EINVAL)
    mount = at.mount
    ours(vfs, who, mount)
    if mount.locked:
        raise err(errno.EINVAL)
    root = who.fs.root.mount
    if flags & MNT_EXPIRE:
        if mount is root or flags & (MNT_FORCE | MNT_DETACH):
            raise err(errno.EINVAL)
        if mount.children or busy(mount):
            raise err(errno.EBUSY)
        if not mount.expiring:
            mount.expiring = True
            raise err(errno.EAGAIN)
    if mount.parent is None:
        raise err(errno.EINVAL if flags & MNT_DETACH else errno.EBUSY)
    if mount is root and not flags & MNT_DETACH:
        raise err(errno.EBUSY)
    gone = list(mount.tree())
    if flags & MNT_DETACH:
        for one in reversed(gone):
            elsewhere = propagation.gone_too(one)
            for other in elsewhere:
                if other not in gone:
                    gone.append(other)
                    vfs.mounts.dissolve(other)
        vfs.mounts.dissolve(mount)
        return gone
    elsewhere = propagation.gone_too(mount)
    if mount.children or busy(mount) or any(busy(other) for other in elsewhere):
        raise err(errno.EBUSY)
    for one in (mount, *elsewhere):
        vfs.mounts.detach(one)
    return gone + elsewhere


def unshare(vfs: Vfs, fs: Fs) -> None:
    """CLONE_NEWNS: `fs` (kernel.task.FsStruct, its process's own) gets a copy of its mount namespace."""
    ns, made = vfs.mounts.copy_namespace(getattr(fs, "mnt_ns", None) or vfs.mounts.first)
    fs.enter(ns)
    fs.root = Path(made.get(fs.root.mount, fs.root.mount), fs.root.dentry)
    fs.cwd = Path(made.get(fs.cwd.mount, fs.cwd.mount), fs.cwd.dentry)


def pivot_root(vfs: Vfs, who: Caller, new: Path, put_old: Path, everyone: Iterable[Fs]) -> None:
    """pivot_root(2). `everyone`: root and working directory of all tasks; those at the old root go to the new one."""
    root = who.fs.root
    old = vfs.mounts.cross(put_old)
    for place in (new, old):
        ours(vfs, who, place.mount)
    ours(vfs, who, root.mount)
    if new.mount.locked:
        raise err(errno.EINVAL)
    if vfs.is_deleted(new):
        raise err(errno.ENOENT)
    if old.mount.group is not None or any(
        m.parent is not None and m.parent.group is not None for m in (new.mount, root.mount)
    ):
        raise err(errno.EINVAL)  # a mount would move to peers
    if new.mount is root.mount or old.mount is root.mount:
        raise err(errno.EBUSY)
    if not is_mounted(root) or not is_mounted(new) or new.mount.parent is None:
        raise err(errno.EINVAL)
    if not reachable(old, new) or not reachable(new, root):
        raise err(errno.EINVAL)
    table, above, ns = vfs.mounts, root.mount, root.mount.ns
    under = Path(above.parent, above.mountpoint) if above.parent and above.mountpoint else None
    top = new.mount
    table.unhook(top)
    table.unhook(above)
    table.attach(top, under, ns)
    table.attach(above, old)
    for fs in everyone:
        if fs.root == root:
            fs.root = new
        if fs.cwd == root:
            fs.cwd = new
    if under is None and ns is table.first:
        vfs.root = new
        vfs.local.fs.root = new


def reachable(place: Path, root: Path) -> bool:
    """is_pathreachable(): is `place` at `root` or below it?"""
    mount, dentry = place.mount, place.dentry
    while mount is not root.mount and mount.parent is not None and mount.mountpoint is not None:
        dentry, mount = mount.mountpoint, mount.parent
    return mount is root.mount and dentry.is_beneath(root.dentry)
