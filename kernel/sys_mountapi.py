"""The mount API by descriptors: fsopen(2), fsconfig(2), fsmount(2), fspick(2), move_mount(2), open_tree(2),
mount_setattr(2), statmount(2), listmount(2).

Layer: the pretend kernel, a family of system calls. May touch: the vfs's mount table.
Checks and their order: fs/fsopen.c and fs/namespace.c.
"""

from __future__ import annotations

import errno
import os
import struct

from ..vfs import mountops
from ..vfs.dirops import namespace_of
from ..vfs.fstypes import knows
from ..vfs.inode import err
from ..vfs.mount import (
    MNT_NOATIME,
    MNT_NODIRATIME,
    MNT_NOSYMFOLLOW,
    MNT_RELATIME,
    Path,
)
from ..vfs.openfile import OpenFile, OpenPath
from ..vfs.propagation import change as change_propagation
from ..vfs.stat import major, minor
from .handlers import InstallFd, Out, syscall
from .paths import AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, place, record

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any

    from ..vfs.inode import SuperBlock
    from ..vfs.mount import Mount
    from .handlers import Result
    from .task import FdRef, Task

    Options = dict[str, str | None]

_AT_RECURSIVE, _OPEN_TREE_CLONE = 0x8000, 1
_SET_FLAG, _SET_STRING, _SET_BINARY, _SET_PATH, _SET_PATH_EMPTY, _SET_FD, _CREATE, _RECONFIGURE, _CREATE_EXCL = range(9)
# MOUNT_ATTR_*: the first four are MS_*'s
_ATTR_ATIME, _ATTR_NOATIME, _ATTR_STRICTATIME, _ATTR_NODIRATIME = 0x70, 0x10, 0x20, 0x80
_ATTR_IDMAP, _ATTR_NOSYMFOLLOW = 0x100000, 0x200000
_ATTR_VALID = 15 | _ATTR_ATIME | _ATTR_NODIRATIME | _ATTR_NOSYMFOLLOW
_PROPAGATION = 0xF << 17
_MOUNT_ATTR = struct.Struct("<4Q")


class FsContext(OpenFile):
    """What fsopen(2) and fspick(2) give: the options of a filesystem that is being made or changed. Reading it gives
    the messages of failures, one a read."""

    __slots__ = ("fstype", "made", "messages", "options", "phase", "read_only", "sb", "source")

    def __init__(self, path: Path, fstype: str, sb: SuperBlock | None = None) -> None:
        super().__init__(path, path.inode, os.O_RDWR)
        self.fstype = fstype
        self.sb = sb
        self.options: Options = {}
        self.messages: list[bytes] = []
        self.source = "none"
        self.read_only = sb.read_only if sb is not None else False
        self.phase = "create" if sb is None else "reconfigure"
        self.made = False

    def read(self, task: Any, count: int) -> bytes:
        if not self.messages:
            raise err(errno.ENODATA)
        if len(self.messages[0]) > count:
            del self.messages[0]
            raise err(errno.EMSGSIZE)
        return self.messages.pop(0)

    def fail(self, number: int, message: str) -> OSError:
        """The error, with a line for who reads the descriptor."""
        self.messages = [*self.messages[-7:], f"e {self.fstype}: {message}\n".encode()]
        return err(number)

    def set(self, name: str, value: str | None) -> None:
        """vfs_parse_fs_param()"""
        if self.phase not in ("create", "reconfigure"):
            raise err(errno.EBUSY)
        if name in ("ro", "rw"):
            self.read_only = name == "ro"
        elif name == "source":
            if value is None:
                raise err(errno.EINVAL)
            self.source = value
        elif name == "lowerdir+" and self.fstype == "overlay":
            had = self.options.get("lowerdir")
            value = (value or "").replace("\\", "\\\\").replace(":", "\\:")
            self.options["lowerdir"] = f"{had}:{value}" if had else value
        elif not knows(self.fstype, name):
            raise self.fail(errno.EINVAL, f"Unknown parameter '{name}'")
        else:
            self.options[name] = value


class DetachedTree(OpenPath):
    """A tree of mounts that is nowhere yet: fsmount(2), open_tree(2) with OPEN_TREE_CLONE. If it has been moved nowhere
    when the last descriptor is closed, it goes."""

    __slots__ = ("_table",)

    def __init__(self, t: Task, mount: Mount) -> None:
        path = Path(mount, mount.root)
        super().__init__(path, path.inode, os.O_PATH)
        self._table = t.sandbox.vfs.mounts

    def release(self) -> None:
        mount = self.path.mount
        if mount.ns is None and mount.parent is None:
            self._table.dissolve(mount)


def _give(t: Task, file: OpenFile, cloexec: bool) -> InstallFd:
    return InstallFd(t.sandbox.vfs.files.add_placeholder(file), cloexec)


@syscall("fsopen")
def sys_fsopen(t: Task, name: bytes, flags: int) -> Result:
    """fsopen(2)"""
    mountops.may_mount(t)
    if flags & ~1:
        raise err(errno.EINVAL)
    vfs = t.sandbox.vfs
    fstype = name.decode("utf-8", "replace")
    if fstype not in vfs.fstypes:
        t.sandbox.log_once(f"fsopen: there is no filesystem type {fstype!r} here (ENODEV)")
        raise err(errno.ENODEV)
    return _give(t, FsContext(vfs.anon_path(b"anon_inode:[fscontext]"), fstype), bool(flags & 1))


def _context(t: Task, fd: FdRef) -> FsContext:
    file = record(t, fd)
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    if not isinstance(file, FsContext):
        raise err(errno.EINVAL)
    return file


@syscall("fsconfig")
def sys_fsconfig(t: Task, fd: FdRef, command: int, key: bytes | None, value: bytes | None, aux: int) -> Result:
    """fsconfig(2)"""
    wants_key = command <= _SET_FD
    wants_value = command in (_SET_STRING, _SET_BINARY, _SET_PATH, _SET_PATH_EMPTY)
    if not 0 <= command <= _CREATE_EXCL:
        raise err(errno.EOPNOTSUPP)
    if (key is not None) != wants_key or (value is not None) != wants_value:
        raise err(errno.EINVAL)
    if command in (_SET_PATH, _SET_PATH_EMPTY, _SET_FD):
        if aux < 0 and not (aux == -100 and command != _SET_FD):
            raise err(errno.EINVAL)
    elif aux and (command != _SET_BINARY or not 0 < aux <= 1 << 20):
        raise err(errno.EINVAL)
    context = _context(t, fd)
    name = (key or b"").decode("utf-8", "surrogateescape")
    text = None if value is None else value.decode("utf-8", "surrogateescape")
    if command in (_SET_FLAG, _SET_STRING):
        context.set(name, text)
    elif command in (_SET_PATH, _SET_PATH_EMPTY, _SET_FD, _SET_BINARY):
        if aux == -100 and text and command == _SET_PATH:
            context.set(name, text)
        else:
            raise context.fail(errno.EINVAL, f"Unexpected value for '{name}'")
    elif command == _RECONFIGURE:
        if context.phase != "reconfigure":
            raise err(errno.EBUSY)
        assert context.sb is not None
        mountops.remount(context.sb, context.read_only, context.options)
        context.options = {}
    else:
        _create(t, context)
    return 0


def _create(t: Task, context: FsContext) -> None:
    if context.phase != "create":
        raise err(errno.EBUSY)
    mountops.may_mount(t)
    context.phase = "failed"
    try:
        context.sb = mountops.make(t.sandbox.vfs, t, context.fstype, context.options)
    except OSError as e:
        raise context.fail(e.errno or errno.EINVAL, "cannot be made with these options") from None
    if context.read_only and not context.sb.read_only and context.fstype in ("tmpfs", "ramfs", "overlay"):
        context.sb.read_only, context.sb.was_writable = True, True
    context.phase = "mount"


def _mnt_flags(attributes: int) -> int:
    """MNT_* of MOUNT_ATTR_*; EINVAL for what is none."""
    if attributes & ~_ATTR_VALID:
        raise err(errno.EINVAL)
    atime = {0: MNT_RELATIME, _ATTR_NOATIME: MNT_NOATIME, _ATTR_STRICTATIME: 0}.get(attributes & _ATTR_ATIME)
    if atime is None:
        raise err(errno.EINVAL)
    return atime | _plain(attributes)


def _plain(attributes: int) -> int:
    flags = attributes & 15
    if attributes & _ATTR_NODIRATIME:
        flags |= MNT_NODIRATIME
    return flags | MNT_NOSYMFOLLOW if attributes & _ATTR_NOSYMFOLLOW else flags


@syscall("fsmount")
def sys_fsmount(t: Task, fd: FdRef, flags: int, attributes: int) -> Result:
    """fsmount(2)"""
    mountops.may_mount(t)
    if flags & ~1:
        raise err(errno.EINVAL)
    wanted = _mnt_flags(attributes)
    context = _context(t, fd)
    if context.sb is None:
        raise err(errno.EINVAL)
    if context.phase != "mount":
        raise err(errno.EBUSY)
    mount = t.sandbox.vfs.mounts.create(context.sb, wanted)
    mount.source = context.source
    context.phase = "reconfigure"
    return _give(t, DetachedTree(t, mount), bool(flags & 1))


@syscall("fspick")
def sys_fspick(t: Task, dirfd: FdRef | None, path: bytes, flags: int) -> Result:
    """fspick(2)"""
    mountops.may_mount(t)
    if flags & ~15:
        raise err(errno.EINVAL)
    at = place(t, dirfd, path, (AT_SYMLINK_NOFOLLOW if flags & 2 else 0) | (AT_EMPTY_PATH if flags & 8 else 0))
    if not mountops.is_mounted(at):
        raise err(errno.EINVAL)
    sb = at.mount.sb
    return _give(t, FsContext(t.sandbox.vfs.anon_path(b"anon_inode:[fscontext]"), sb.fstype, sb), bool(flags & 1))


@syscall("move_mount")
def sys_move_mount(t: Task, dirfd: FdRef | None, old: bytes, newfd: FdRef | None, new: bytes, flags: int) -> Result:
    """move_mount(2)"""
    mountops.may_mount(t)
    if flags & ~0x377 or flags & 0x300 == 0x300:
        raise err(errno.EINVAL)
    if flags & 0x300:
        t.sandbox.log_once("move_mount: MOVE_MOUNT_BENEATH and _SET_GROUP are not supported; refused (EINVAL)")
        raise err(errno.EINVAL)
    source = place(t, dirfd, old, (0 if flags & 1 else AT_SYMLINK_NOFOLLOW) | (AT_EMPTY_PATH if flags & 4 else 0))
    target = place(t, newfd, new, (0 if flags & 16 else AT_SYMLINK_NOFOLLOW) | (AT_EMPTY_PATH if flags & 64 else 0))
    mountops.move(t.sandbox.vfs, t, source, target)
    return 0


@syscall("open_tree")
def sys_open_tree(t: Task, dirfd: FdRef | None, path: bytes, flags: int) -> Result:
    """open_tree(2)"""
    file = _open_tree(t, dirfd, path, flags)
    return _give(t, file, bool(flags & os.O_CLOEXEC))


def _open_tree(t: Task, dirfd: FdRef | None, path: bytes, flags: int) -> OpenPath:
    known = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | _AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | _OPEN_TREE_CLONE | os.O_CLOEXEC
    if flags & ~known or flags & (_AT_RECURSIVE | _OPEN_TREE_CLONE) == _AT_RECURSIVE:
        raise err(errno.EINVAL)
    if flags & _OPEN_TREE_CLONE:
        mountops.may_mount(t)
    at = place(t, dirfd, path, flags & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
    if not flags & _OPEN_TREE_CLONE:
        return OpenPath(at, at.inode, os.O_PATH)
    return DetachedTree(t, mountops.copy(t.sandbox.vfs, t, at, bool(flags & _AT_RECURSIVE)))


@syscall("open_tree_attr")
def sys_open_tree_attr(
    t: Task, dirfd: FdRef | None, path: bytes, flags: int, attributes: bytes | None, size: int
) -> Result:
    """open_tree_attr(2): open_tree(2) and mount_setattr(2) in one."""
    if attributes is None and size:
        raise err(errno.EINVAL)
    file = _open_tree(t, dirfd, path, flags)
    if attributes is not None:
        try:
            change = _attributes(t, attributes, size)
            if change is not None:
                _change(t, file.path, change, bool(flags & _AT_RECURSIVE))
        except OSError:
            file.release()
            raise
    return _give(t, file, bool(flags & os.O_CLOEXEC))


def _attributes(t: Task, data: bytes | None, size: int) -> tuple[int, int, int] | None:
    """struct mount_attr: (set, clear, propagation), None where nothing is asked for."""
    if size > 4096:
        raise err(errno.E2BIG)
    if size < _MOUNT_ATTR.size:
        raise err(errno.EINVAL)
    mountops.may_mount(t)
    if data is None:
        raise err(errno.EFAULT)
    if any(data[_MOUNT_ATTR.size :]):
        raise err(errno.E2BIG)
    to_set, to_clear, propagation, _userns = _MOUNT_ATTR.unpack_from(data)
    if not to_set and not to_clear and not propagation:
        return None
    if propagation & ~_PROPAGATION or propagation & propagation - 1:
        raise err(errno.EINVAL)
    if (to_set | to_clear) & ~(_ATTR_VALID | _ATTR_IDMAP):
        raise err(errno.EINVAL)
    if to_clear & _ATTR_ATIME:
        if to_clear & _ATTR_ATIME != _ATTR_ATIME or to_set & _ATTR_ATIME not in (0, _ATTR_NOATIME, _ATTR_STRICTATIME):
            raise err(errno.EINVAL)
    elif to_set & _ATTR_ATIME:
        raise err(errno.EINVAL)
    if (to_set | to_clear) & _ATTR_IDMAP:
        t.sandbox.log_once("mount_setattr: mounts with mapped ids are not supported; refused (EINVAL)")
        raise err(errno.EINVAL)
    return to_set, to_clear, propagation


def _change(t: Task, at: Path, change: tuple[int, int, int], recursive: bool) -> None:
    """do_mount_setattr(): all of the mounts or none."""
    to_set, to_clear, propagation = change
    if not mountops.is_mounted(at):
        raise err(errno.EINVAL)
    if at.mount.ns is not None:
        mountops.ours(t.sandbox.vfs, t, at.mount)
    mounts = list(at.mount.tree()) if recursive else [at.mount]
    flags = {}
    for mount in mounts:
        new = mount.flags & ~_plain(to_clear) | _plain(to_set)
        if to_clear & _ATTR_ATIME:
            new = new & ~(MNT_NOATIME | MNT_RELATIME) | _mnt_flags(to_set & _ATTR_ATIME)
        mountops.check_locked(mount, new)
        flags[mount] = new
    for mount, new in flags.items():
        mount.flags = new
    if propagation:
        for mount in mounts:
            change_propagation(t.sandbox.vfs.mounts, mount, propagation)


@syscall("mount_setattr")
def sys_mount_setattr(
    t: Task, dirfd: FdRef | None, path: bytes, flags: int, attributes: bytes | None, size: int
) -> Result:
    """mount_setattr(2)"""
    if flags & ~(AT_EMPTY_PATH | _AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT):
        raise err(errno.EINVAL)
    change = _attributes(t, attributes, size)
    if change is None:
        return 0
    at = place(t, dirfd, path, flags & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
    _change(t, at, change, bool(flags & _AT_RECURSIVE))
    return 0


# --- statmount(2), listmount(2) ------------------------------------------------------------------------------

_REQUEST = struct.Struct("<IIQQ")  # struct mnt_id_req
_LEAST_ID, _LSMT_ROOT = 1 << 31, (1 << 64) - 1
_SB_BASIC, _MNT_BASIC, _PROPAGATE_FROM, _MNT_ROOT, _MNT_POINT, _FS_TYPE, _MNT_NS_ID, _MNT_OPTS = (
    1 << bit for bit in range(8)
)
_SB_SOURCE, _OPT_ARRAY, _SUPPORTED = 0x200, 0x400, 0x1000
_ALL = 0xFF | _SB_SOURCE | _OPT_ARRAY | _SUPPORTED
#: struct statmount up to supported_mask (include/uapi/linux/mount.h), 512 bytes in all before the strings
_STATMOUNT = struct.Struct("<IIQIIQII QQIIQQQQQ II Q II II II Q")
_HEADER = 512


def _request(data: tuple[int, bytes | None]) -> tuple[int, int]:
    """(mnt_id, param); copy_mnt_id_req()."""
    if data[1] is None:
        raise err(errno.EFAULT)
    size, spare, ident, param = _REQUEST.unpack(data[1])
    if size > 4096:
        raise err(errno.E2BIG)
    if size < _REQUEST.size or spare or ident <= _LEAST_ID:
        raise err(errno.EINVAL)
    return ident, param


def _find(t: Task, ident: int) -> Mount:
    for mount in namespace_of(t.sandbox.vfs, t).mounts:
        if mount.unique_id == ident:
            return mount
    raise err(errno.ENOENT)


def _attr_flags(mount: Mount) -> int:
    """MOUNT_ATTR_* of a mount's flags (mnt_to_attr_flags())."""
    flags = mount.flags & 15
    if mount.flags & MNT_NODIRATIME:
        flags |= _ATTR_NODIRATIME
    if mount.flags & MNT_NOSYMFOLLOW:
        flags |= _ATTR_NOSYMFOLLOW
    if mount.flags & MNT_NOATIME:
        return flags | _ATTR_NOATIME
    return flags if mount.flags & MNT_RELATIME else flags | _ATTR_STRICTATIME


@syscall("statmount")
def sys_statmount(t: Task, request: tuple[int, bytes | None], buf: int, size: int, flags: int) -> Result:
    """statmount(2)"""
    from ..vfs.procfs.fs import ProcFS

    if flags:
        raise err(errno.EINVAL)
    ident, want = _request(request)
    mount = _find(t, ident)
    proc = t.sandbox.vfs.proc
    assert isinstance(proc, ProcFS)
    point = proc.mountpoint(mount, t.fs.root)
    if point is None and not t.creds.capable(21):
        raise err(errno.EPERM)
    sb, text, at = mount.sb, bytearray(), dict.fromkeys((_MNT_OPTS, _FS_TYPE, _MNT_ROOT, _MNT_POINT, _SB_SOURCE), 0)
    options = os.fsencode(sb.options)
    strings = {
        _FS_TYPE: os.fsencode(sb.fstype),
        _MNT_ROOT: proc.within(mount.root),
        _MNT_POINT: point or b"",
        _MNT_OPTS: options,
        _SB_SOURCE: os.fsencode(mount.source),
    }
    mask = want & (_SB_BASIC | _MNT_BASIC | _PROPAGATE_FROM | _MNT_NS_ID | _SUPPORTED)
    for bit, string in strings.items():
        if want & bit and (string or bit in (_MNT_POINT, _FS_TYPE)):
            at[bit] = len(text)
            text += string + b"\0"
            mask |= bit
    count, array = 0, 0
    if want & _OPT_ARRAY and options:
        count, array = options.count(b",") + 1, len(text)
        text += options.replace(b",", b"\0") + b"\0"
        mask |= _OPT_ARRAY
    if _HEADER + len(text) > size:
        raise err(errno.EOVERFLOW)
    basic, own = bool(want & _SB_BASIC), bool(want & _MNT_BASIC)
    parent = mount.parent or mount
    group = mount.group.id if mount.group is not None else 0
    master = mount.master.id if mount.master is not None else 0
    ns = namespace_of(t.sandbox.vfs, t)
    head = _STATMOUNT.pack(
        _HEADER + len(text), at[_MNT_OPTS], mask,
        major(sb.dev) * basic, minor(sb.dev) * basic, sb.magic * basic, int(sb.read_only) * basic, at[_FS_TYPE],
        mount.unique_id * own, parent.unique_id * own, mount.id * own, parent.id * own, _attr_flags(mount) * own,
        mount.propagation * own, group * own, master * own, 0,
        at[_MNT_ROOT], at[_MNT_POINT], (ns.id or 1) if want & _MNT_NS_ID else 0, 0, at[_SB_SOURCE],
        count, array, 0, 0, _ALL if want & _SUPPORTED else 0,
    )  # fmt: skip
    return Out(0, [(buf, head.ljust(_HEADER, b"\0") + bytes(text))])


@syscall("listmount")
def sys_listmount(t: Task, request: tuple[int, bytes | None], ids: int, count: int, flags: int) -> Result:
    """listmount(2)"""
    if flags & ~1:
        raise err(errno.EINVAL)
    if count > 1000000:
        raise err(errno.EOVERFLOW)
    ident, last = _request(request)
    if last and last <= _LEAST_ID:
        raise err(errno.EINVAL)
    if ident == _LSMT_ROOT:
        start = t.fs.root
    else:
        mount = _find(t, ident)
        start = Path(mount, mount.root)
    found = [
        m.unique_id for m in namespace_of(t.sandbox.vfs, t).mounts
        if m.unique_id != ident and mountops.reachable(Path(m, m.root), start)
    ]  # fmt: skip
    if flags:
        found = [i for i in reversed(found) if not last or i < last]
    else:
        found = [i for i in found if i > last]
    found = found[: min(count, 3000)]
    return Out(len(found), [(ids, struct.pack(f"<{len(found)}Q", *found))]) if found else 0
