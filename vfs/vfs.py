"""The Vfs: one world's mounts, open files and devices, and opening.

Layer: vfs, on top of namei.py; the syscall handlers, the front and /proc stand on it. Name and attribute
operations are the functions of dirops.py and attrops.py. May touch: everything below; no guest memory.

Everything here runs under the world's lock (Sandbox.lock); nothing here blocks.
"""

from __future__ import annotations

import errno
import os

from . import privileges
from .acl import give, inherit
from .files import FileRegistry
from .fstypes import FSTYPES
from .held import PLAIN as HELD_FLAGS
from .inode import OpenContext, err
from .memdata import MemfdPool
from .mount import MNT_NODEV, MNT_NOEXEC, MNT_RDONLY, MNT_RELATIME, Mount, MountTable, Path
from .namei import LAST_NORM, Walk, caller_task, path_bytes
from .openfile import OpenFile, OpenPath
from .perm import (
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    ROOT,
    check,
    check_append,
    owner_of_new,
    owner_or_capable,
)
from .remembered import ident
from .stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_ISVTX, S_IWGRP, S_IWOTH

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .dentry import Dentry
    from .fifo import Fifo
    from .files import HupLoop
    from .fstypes import FsType
    from .inode import Inode, SuperBlock
    from .mount import Namespace
    from .namei import Caller, Fs
    from .notify import Notify
    from .openfile import FileRecord
    from .perm import Creds
    from .remembered import Known

    Opened = int | OpenFile | Awaitable[int | OpenFile]
    Driver = Callable[[OpenContext], Opened]

O_TMPFILE = os.O_TMPFILE
_TMPFILE_BIT = 0o20000000  # __O_TMPFILE
# What O_PATH keeps (O_PATH_FLAGS in fs/open.c).
_GENERATED = ("proc", "sysfs")  # filesystems whose files have no pages
_O_PATH_FLAGS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_PATH | os.O_CLOEXEC


class LocalFs:
    """Root, working directory and umask of the user's own Python (shaped like kernel.task.FsStruct)."""

    __slots__ = ("cwd", "root", "umask")

    def __init__(self, root: Path, cwd: Path | None = None, umask: int = 0o22) -> None:
        self.root = root
        self.cwd = cwd or root
        self.umask = umask

    def enter(self, mnt_ns: Namespace) -> None:
        """The user's own Python stays in the world's first mount namespace."""
        raise err(errno.EPERM)


class LocalCaller:
    """The user's own Python as a caller: virtual root unless told otherwise."""

    __slots__ = ("creds", "fs")

    task = None

    def __init__(self, fs: Fs, creds: Creds = ROOT) -> None:
        self.fs = fs
        self.creds = creds


class Vfs:
    """The tree of one world.

    Arguments: `root`, the filesystem at "/"; `loop`, which tells when placeholders are closed (set
    `files.loop` later if it does not exist yet).
    """

    def __init__(self, root: SuperBlock, loop: HupLoop | None = None, flags: int = MNT_RELATIME) -> None:
        self.files = FileRegistry(loop)
        self.pool = MemfdPool(self.files)
        self.mounts = MountTable()
        self.files.replaced = self.mounts.walks.retime
        self.fstypes: dict[str, FsType] = dict(FSTYPES)  # what mount(2) of a guest can make
        self.handles: dict[tuple[int, int], Dentry] = {}  # (st_dev, ino): what name_to_handle_at(2) was asked for
        self.notify: Notify | None = None  # from the first inotify_init1(2) on
        self.devices: dict[tuple[int, int], Driver] = {}  # (S_IFCHR or S_IFBLK, rdev) -> its open
        self.fifos: dict[Inode, Fifo] = {}
        self.protected_hardlinks = _sysctl("protected_hardlinks")
        self.mounts.protected_symlinks = bool(_sysctl("protected_symlinks"))
        #: fs.protected_regular and fs.protected_fifos, by the type that they protect
        self.protected = {S_IFREG: _sysctl("protected_regular"), S_IFIFO: _sysctl("protected_fifos")}
        self._anon: Mount | None = None
        self.found: Known | None = None  # the last lookup, if its result may be remembered
        self.made_in: Path | None = None  # the directory of the file that an open made last
        self.proc: SuperBlock | None = None  # the world's /proc, which names mounts
        mount = self.mounts.create(root, flags)
        root.attached(self)
        self.mounts.attach(mount, None)
        self.root = Path(mount, mount.root)
        self.local = LocalCaller(LocalFs(self.root))

    def close(self) -> None:
        """The world ends: give back every descriptor and all memory."""
        self.mounts.walks.held.clear()
        self.files.close()
        if self.notify is not None:
            self.notify.close()
        self.pool.close()
        for fifo in self.fifos.values():
            fifo.close()
        self.fifos.clear()
        for sb in {id(m.sb): m.sb for ns in self.mounts.namespaces for m in ns.mounts}.values():
            sb.close()
        self.mounts.watch.close()

    # -- mounts ----------------------------------------------------------------------------------------------

    def mount(self, sb: SuperBlock, at: bytes, flags: int = MNT_RELATIME, locked: bool = True) -> Mount:
        """Mount a filesystem on the absolute path `at`, which exists. `locked`: no guest may take it away.

        A filesystem whose root is a regular file may be mounted on a non-directory (a bind of one file).
        Raises ENOENT, ENOTDIR as mount(2).
        """
        path = self.mounts.cross(self.lookup(self.local, None, at))
        if (path.inode.mode ^ sb.root.mode) & S_IFMT and S_IFDIR in (path.inode.kind, sb.root.kind):
            raise err(errno.ENOTDIR, at)
        mount = self.mounts.create(sb, flags)
        mount.locked = locked
        mount.lock_readonly = locked and bool(flags & MNT_RDONLY)
        sb.attached(self)
        self.mounts.attach(mount, path)
        return mount

    def unmount(self, at: bytes) -> None:
        """Take away the topmost mount at `at`. EINVAL when nothing is mounted there, EBUSY when others are on
        it."""
        path = self.lookup(self.local, None, at)
        if path.dentry is not path.mount.root:
            raise err(errno.EINVAL, at)
        sb = path.mount.sb
        self.mounts.detach(path.mount)
        if not self.mounts.in_use(sb):
            sb.close()

    # -- names -----------------------------------------------------------------------------------------------

    def lookup(
        self, who: Caller, start: Path | None, name: bytes, follow: bool = True, resolve: int = 0
    ) -> Path:
        """The place that `name` means to `who`, from `start` (None: the working directory). `resolve`:
        RESOLVE_*."""
        caps = getattr(who.creds, "caps", None)  # only tasks have them
        if resolve or caps is None:
            return Walk(self.mounts, who, start, resolve).lookup(name, follow)
        fs, creds, walks = who.fs, who.creds, self.mounts.walks
        self.mounts.watch.settle()
        root = fs.root
        base = root if name[:1] == b"/" else start if start is not None else fs.cwd
        who_and_where = (
            creds.fsuid,
            creds.fsgid,
            creds.groups,
            caps,
            id(root.mount),
            id(root.dentry),
            id(base.mount),
            id(base.dentry),
        )
        key = (name, follow, who_and_where)
        known = self.found = walks.get(key)
        if known is None:
            walk, path = Walk(self.mounts, who, start), None
            try:
                path = walk.lookup(name, follow)
            except FileNotFoundError:
                pass
            known = path, base, root, walk.at  # the middle two so that nobody else gets their ids
            if walk.steady:
                self.found = known
                walks.keep(key, known)
        if known[0] is None:
            raise err(errno.ENOENT, name)
        return known[0]

    def walk_parent(self, who: Caller, start: Path | None, name: bytes) -> Walk:
        """A walk that stopped before the last component, whose name is about to be made or taken away."""
        walk = Walk(self.mounts, who, start)
        walk.parent(name)
        return walk

    def path_name(self, path: Path, root: Path | None = None) -> bytes:
        """The absolute name of a place, with " (deleted)" as /proc/self/fd shows it."""
        if self._anon is not None and path.mount is self._anon:
            return path.dentry.name
        name, _ = path_bytes(path, root or self.root)
        return name + b" (deleted)" if self.is_deleted(path) else name

    def is_deleted(self, path: Path) -> bool:
        dentry = path.dentry
        return dentry.deleted and dentry is not path.mount.root

    def want_write(self, path: Path) -> None:
        """mnt_want_write(): EROFS on a read-only mount or filesystem."""
        if path.mount.read_only:
            raise err(errno.EROFS)

    # -- opening ---------------------------------------------------------------------------------------------

    def open(
        self, who: Caller, start: Path | None, name: bytes, flags: int, mode: int = 0, resolve: int = 0
    ) -> tuple[Path, Opened]:
        """open(2) up to the point where there is something to hand out: see Inode.open() for what comes back.

        `flags` are valid (sys_open.check_flags); `mode` is applied with the umask.
        """
        if not flags & (os.O_CREAT | _TMPFILE_BIT | os.O_PATH) and not resolve:
            path = self.lookup(who, start, name, not flags & os.O_NOFOLLOW)
            if flags & os.O_DIRECTORY and not path.inode.is_dir:
                raise err(errno.ENOTDIR, name)
            if not flags & ~HELD_FLAGS and self.found is not None and self.notify is None:
                return path, self._open_again(who, path, flags, self.found)
            return path, self._open_and_tell(who, path, flags, False)
        walk = Walk(self.mounts, who, start, resolve)
        if flags & _TMPFILE_BIT:
            return self._open_tmpfile(walk, name, flags, mode)
        if flags & os.O_PATH:
            path = walk.lookup(name, not flags & os.O_NOFOLLOW)
            if flags & os.O_DIRECTORY and not path.inode.is_dir:
                raise err(errno.ENOTDIR, name)
            return path, OpenPath(path, path.inode, flags & _O_PATH_FLAGS)
        walk.parent(name)
        follow = not flags & os.O_NOFOLLOW and flags & (os.O_CREAT | os.O_EXCL) != os.O_CREAT | os.O_EXCL
        created = False
        while True:
            if flags & os.O_CREAT and walk.trailing and walk.last_type == LAST_NORM:
                raise err(errno.EISDIR, name)
            inode = walk.last_inode()
            if inode is None:
                if not flags & os.O_CREAT:
                    raise err(errno.ENOENT, name)
                inode = self.create(walk, mode)
                created = True
                break
            if inode.mode & S_IFMT == S_IFLNK and walk.last_type == LAST_NORM and (follow or walk.trailing):
                walk.follow(inode)
                continue
            break
        above = walk.path.dentry.inode
        path = walk.step(inode)
        if (walk.trailing or flags & os.O_DIRECTORY) and not path.inode.is_dir:
            raise err(
                errno.ELOOP if path.inode.is_symlink and not flags & os.O_DIRECTORY else errno.ENOTDIR, name
            )
        if flags & os.O_CREAT and not created:
            if flags & os.O_EXCL:
                raise err(errno.EEXIST, name)
            if path.inode.is_dir:
                raise err(errno.EISDIR, name)
            self._may_create_in_sticky(who, above, path.inode)
        return path, self._open_and_tell(who, path, flags, created)

    def _may_create_in_sticky(self, who: Caller, above: Inode, inode: Inode) -> None:
        """may_create_in_sticky(): O_CREAT that finds what others have put into a sticky directory (proc_sys_fs(5),
        "protected_regular")."""
        level = self.protected.get(inode.mode & S_IFMT, 1)
        if not above.mode & S_ISVTX or not level or inode.uid in (above.uid, who.creds.fsuid):
            return
        if above.mode & S_IWOTH or (above.mode & S_IWGRP and level >= 2 and inode.kind in self.protected):
            raise err(errno.EACCES)

    def _open_again(self, who: Caller, path: Path, flags: int, known: Known) -> Opened:
        """open_path() for reading, of what is perhaps opened again and again."""
        held = self.mounts.walks.held
        opened: Opened | None = held.open(known, flags)
        if opened is None:
            opened = self.open_path(who, path, flags)
            inode = path.inode
            if isinstance(opened, int) and inode.mode & S_IFMT == S_IFREG and inode.is_plain():
                held.opened(known, opened, ident(inode))
        return opened

    def _open_and_tell(self, who: Caller, path: Path, flags: int, created: bool) -> Opened:
        """open_path(), for who watches with inotify too."""
        if self.notify is None:
            return self.open_path(who, path, flags, created)
        self.notify.settle_bytes()
        opened = self.open_path(who, path, flags, created)
        self.notify.opened(path, flags, created)
        return opened

    def create(self, walk: Walk, mode: int) -> Inode:
        """The missing last component of `walk` becomes an empty regular file (lookup_open())."""
        parent = walk.path.dentry.inode
        if parent.nlink == 0:
            raise err(errno.ENOENT)
        self.want_write(walk.path)
        check(walk.creds, parent, MAY_WRITE | MAY_EXEC)
        mode, lists = inherit(parent, mode & 0o7777 | S_IFREG, walk.caller.fs.umask)
        mode, uid, gid = owner_of_new(walk.creds, parent, mode)
        self.mounts.walks.rename(parent, walk.last, None)
        made = parent.create(walk.last, mode & 0o7777, uid, gid)
        self.made_in = walk.path
        give(made, lists)
        return made

    def _open_tmpfile(self, walk: Walk, name: bytes, flags: int, mode: int) -> tuple[Path, Opened]:
        """O_TMPFILE: a file without a name in the directory `name`."""
        from .dentry import Dentry

        path = walk.lookup(name, not flags & os.O_NOFOLLOW)
        parent = path.inode
        if not parent.is_dir:
            raise err(errno.ENOTDIR, name)
        self.want_write(path)
        check(walk.creds, parent, MAY_WRITE | MAY_EXEC)
        mode, lists = inherit(parent, mode & 0o7777 | S_IFREG, walk.caller.fs.umask)
        mode, uid, gid = owner_of_new(walk.creds, parent, mode)
        inode = parent.tmpfile(mode & 0o7777, uid, gid, not flags & os.O_EXCL)
        give(inode, lists)
        dentry = Dentry(b"#%d" % inode.ino, path.dentry, inode)
        dentry.deleted = True
        new = Path(path.mount, dentry)
        return new, self.open_path(walk.caller, new, flags & ~(O_TMPFILE | os.O_EXCL), True)

    def open_path(self, who: Caller, path: Path, flags: int, created: bool = False) -> Opened:
        """Open a place that was found or just created: may_open() and what follows it in fs/namei.c."""
        inode = path.inode
        kind = inode.mode & S_IFMT
        accmode = flags & os.O_ACCMODE
        want = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)[accmode]
        if flags & os.O_TRUNC:
            want |= MAY_WRITE
        if kind == S_IFLNK:
            raise err(errno.ELOOP)
        if kind == S_IFDIR and want & MAY_WRITE:
            raise err(errno.EISDIR)
        if kind in (S_IFCHR, S_IFBLK) and path.mount.flags & MNT_NODEV:
            raise err(errno.EACCES)
        if not created:
            check(who.creds, inode, want)
            if (accmode and not flags & os.O_APPEND) or flags & os.O_TRUNC:
                check_append(inode)
            if flags & os.O_NOATIME and not owner_or_capable(who.creds, inode):
                raise err(errno.EPERM)
        if want & MAY_WRITE and kind == S_IFREG:
            if not created:
                self.want_write(path)
            self.deny_executed(who, inode)
            if flags & os.O_TRUNC and not created:
                privileges.remove(who.creds, inode)
        if kind == S_IFREG:
            if inode.reads_show:
                self.mounts.walks.opened(inode)
            elif want & MAY_WRITE:
                self.mounts.walks.copied_up(inode)
        else:
            flags &= ~os.O_TRUNC
        if flags & os.O_DIRECT and (kind == S_IFDIR or inode.sb.fstype in _GENERATED):
            raise err(errno.EINVAL)  # do_dentry_open()
        keep = ~(os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_CLOEXEC)
        if kind in (S_IFCHR, S_IFBLK):
            keep |= os.O_NOCTTY
        if kind != S_IFDIR:
            keep &= ~(
                os.O_NOFOLLOW | os.O_DIRECTORY
            )  # the host object is reached through a link of /proc/self/fd
        opened = inode.open(OpenContext(self, path, flags & keep, who.creds, caller_task(who)))
        if want & MAY_WRITE and kind == S_IFREG:
            lost = privileges.lost_by_write(who.creds, inode)
            if created:
                inode.may_be_open(lost)
            else:
                inode.write_opened(lost)
        return opened

    def handle(self, path: Path, opened: int | OpenFile) -> int:
        """Register what was opened; returns the host fd to hand to the guest (which the caller then
        closes)."""
        if isinstance(opened, OpenFile):
            return self.files.add_placeholder(opened)
        st = os.fstat(opened)
        if path.inode.recorded and (self._anon is None or path.mount is not self._anon):
            self.files.add_native(st.st_dev, st.st_ino, path, path.inode, not path.inode.forgets)
            if self.notify is not None:
                self.notify.native(path, opened)
        return opened

    def deny_executed(self, who: Caller, inode: Inode) -> None:
        """get_write_access(): ETXTBSY while a process executes the file."""
        if not inode.mode & 0o111:
            return
        sandbox = getattr(caller_task(who), "sandbox", None)
        if sandbox is None:
            return
        for process in sandbox.processes.values():
            exe = process.exe
            if exe is not None and exe.dentry.inode is inode and process.executes():
                raise err(errno.ETXTBSY)

    # -- objects without a place in a filesystem, and those that have no bytes -------------------------------

    def open_device(self, inode: Inode, ctx: OpenContext) -> Opened:
        """A device node: by its driver; ENXIO without one, as Linux."""
        driver = self.devices.get((inode.mode & S_IFMT, inode.rdev))
        if driver is None:
            raise err(errno.ENXIO)
        return driver(ctx)

    def open_fifo(self, inode: Inode, ctx: OpenContext) -> Opened:
        """A FIFO: a host pipe that all who open this inode share."""
        from .fifo import Fifo

        fifo = self.fifos.get(inode)
        if fifo is None:
            fifo = self.fifos[inode] = Fifo()
        return fifo.open(ctx.flags)

    def lost_inode(self, inode: Inode) -> None:
        """A name of `inode` was removed: drop what is kept for it if it was the last."""
        if inode.mode & S_IFMT == S_IFIFO and inode.nlink == 0:
            fifo = self.fifos.pop(inode, None)
            if fifo is not None:
                fifo.close()

    def path_of_fd(self, task: Any, fd: int, own: bool = False) -> Path:
        """The place of a task's descriptor, whatever it is (for /proc/PID/fd/N and the *at calls with an
        empty path).

        A native object that no filesystem of ours made (a pipe, a socket, the caller's terminal) gets a place
        on an internal mount, whose inode reopens it; `own` if it is known to be a guest's. Raises EBADF.
        """
        host = task.host_fd(fd)
        st = os.fstat(host)
        record = self.files.get(st.st_dev, st.st_ino)
        if record is not None:
            os.close(host)
            return record.path
        from .anon import AnonFS, native_dentry

        if self._anon is None:
            self._anon = self.mounts.create(AnonFS(), 0)
        return Path(self._anon, native_dentry(self._anon.sb, host, task.creds, own))

    def anon_path(self, name: bytes) -> Path:
        """A place for an object that only has descriptors (anon_inode_getfile()): mode 0600 and no type."""
        from .anon import AnonFS
        from .dentry import Dentry
        from .inode import Inode

        if self._anon is None:
            self._anon = self.mounts.create(AnonFS(), 0)
        sb = self._anon.sb
        return Path(self._anon, Dentry(name, None, Inode(sb, sb.new_ino(), 0o600)))

    def record_of(self, dev: int, ino: int) -> FileRecord | None:
        """What a guest's descriptor is, by its identity; None for a native object that is not ours."""
        return self.files.get(dev, ino)

    def may_exec_mount(self, path: Path) -> bool:
        """False where the mount is noexec."""
        return not path.mount.flags & MNT_NOEXEC


def _sysctl(name: str) -> int:
    """A switch of the host's /proc/sys/fs, so that the guest's world behaves as the host would."""
    try:
        with open(f"/proc/sys/fs/{name}", "rb", buffering=0) as f:
            return int(f.read(8))
    except (OSError, ValueError):
        return 1
