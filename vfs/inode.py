"""Inodes and superblocks: the interface that every filesystem implements.

Layer: vfs, below the path walk (namei.py) and above nothing: a filesystem is a SuperBlock and its Inode
classes. May touch: stat.py. It never sees paths, mounts or guests, except through the OpenContext that open()
gets.

How to write a filesystem
-------------------------
* Subclass Inode; fill its attribute slots (`mode` with the type bits, `uid`, `gid`, `size`, times in ns).
  The generic code reads the slots for permission checks right after lookup() returned the inode; a filesystem
  whose attributes change behind our back overrides refresh() (brings the slots up to date) and getattr().
* A directory implements lookup() and readdir(). lookup() should return the same object for the same file as
  long as anyone holds it; where that is too much, equal (`sb`, `ino`) is accepted as "the same file".
* The generic layer (vfs.py) has checked permissions, existence, type, read-only mounts and the sticky bit
  before it calls an operation: an implementation only does the work, and raises OSError for what it alone
  knows (ENOSPC...).
* Names are bytes, without "/", never b"." or b"..".
* The defaults below are what Linux answers for a filesystem that lacks the operation (EPERM, EACCES,
  EOPNOTSUPP).
"""

from __future__ import annotations

import errno

from .stat import (
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    Stat,
    StatFs,
    makedev,
    now_ns,
)

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from .dentry import Dentry
    from .mount import Path
    from .openfile import OpenFile
    from .perm import Creds
    from .state import FsState
    from .vfs import Vfs

__all__ = ["Inode", "OpenContext", "Stat", "StatFs", "SuperBlock", "err"]


def err(number: int, name: bytes = b"") -> OSError:
    """The OSError of an errno, with its text and, for the user's log, the name at fault."""
    import os

    return OSError(number, os.strerror(number), name) if name else OSError(number, os.strerror(number))


# Anonymous device numbers (major 0), as get_anon_bdev() gives to filesystems without a disk. They begin far
# above those that a host uses, since copy-on-write binds report the host's own numbers beside ours.
_next_minor = 0x1000


def alloc_anon_dev() -> int:
    """A fresh st_dev for a filesystem without a disk."""
    global _next_minor
    _next_minor += 1
    return makedev(0, _next_minor)


class SuperBlock:
    """One filesystem instance.

    `fstype` is the name in /proc/mounts ("tmpfs"), `source` its first column, `magic` f_type of statfs(2),
    `dev` the st_dev of its objects, `root` the root Inode (set by the filesystem), `options` the fs-specific
    options shown in /proc/mounts ("size=64k").
    """

    fstype = "none"
    magic = 0
    read_only = False
    #: False where lookups must ask the filesystem each time (host directories); informational.
    stable = True
    #: Did a guest make it read-only (remount,ro)? Then a guest may make it writable again.
    was_writable = False
    #: Do names and attributes in it change through its own inodes alone, with the vfs being told of each
    #: (Walks.rename(), alter())? Then a change concerns what it changed and nothing else.
    exact = False
    #: May files be made in it without our hearing of it at once (kernel/drafts.py)?
    lends = False
    #: The dentry of the root, which all mounts of it share (MountTable.create()).
    root_dentry: Dentry | None = None

    def __init__(self, source: str = "none", dev: int | None = None) -> None:
        self.source = source
        self.dev = alloc_anon_dev() if dev is None else dev
        self.root: Inode
        self._last_ino = 0

    @property
    def options(self) -> str:
        return ""

    def new_ino(self) -> int:
        """The next unused inode number (the first is 1, as on tmpfs)."""
        self._last_ino += 1
        return self._last_ino

    def statfs(self) -> StatFs:
        return StatFs(self.magic, fsid=self.dev)

    def attached(self, vfs: Vfs) -> None:
        """Called when the filesystem is mounted in a world."""

    def sync(self) -> None:
        """sync(2), syncfs(2); nothing to do in memory."""

    def snapshot(self) -> FsState | None:
        """The state of the tree, to be compared with and restored (state.py). None: there is nothing to save in a
        generated filesystem, and a host directory that is written for real cannot be."""
        return None

    def base(self) -> Inode | None:
        """The root of what was there before any change, as a tree of its own: see state.Manifest."""
        return None

    def remount(self, options: dict[str, str | None]) -> None:
        """mount(2) with MS_REMOUNT: take these options over. EINVAL for one that cannot be changed; by default none."""
        if options:
            raise err(errno.EINVAL)

    def close(self) -> None:
        """Unmounted for good, or the sandbox ends: give back every host fd."""


class OpenContext:
    """What an open needs to know: who (`creds`, `task`, None when the user's own Python opens), what
    (`path`), how (`flags` as open(2), creation flags already dealt with), and where (`vfs`)."""

    __slots__ = ("creds", "flags", "path", "task", "vfs")

    def __init__(self, vfs: Vfs, path: Path, flags: int, creds: Creds, task: Any = None) -> None:
        self.vfs = vfs
        self.path = path
        self.flags = flags
        self.creds = creds
        self.task = task


class Inode:
    """A file of any type. Times are nanoseconds; `btime` 0 means unknown."""

    __slots__ = (
        "__weakref__",
        "atime",
        "btime",
        "ctime",
        "gid",
        "ino",
        "mode",
        "mtime",
        "nlink",
        "rdev",
        "sb",
        "size",
        "uid",
    )

    def __init__(
        self,
        sb: SuperBlock,
        ino: int,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        *,
        nlink: int = 1,
        rdev: int = 0,
        size: int = 0,
        time: int | None = None,
    ) -> None:
        self.sb = sb
        self.ino = ino
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = nlink
        self.rdev = rdev
        self.size = size
        self.atime = self.mtime = self.ctime = self.btime = now_ns() if time is None else time

    #: Native objects of this inode: does the filesystem forget their FileRecord itself when they go (memfds),
    #: or is nobody told (host files)?
    forgets = False
    #: Does what open() gives belong to this inode? Not for /dev/tty, which opens another file, the terminal.
    recorded = True
    #: system.posix_acl_access and _default, where the filesystem keeps them and there are any (acl.py)
    acl: bytes | None = None
    default_acl: bytes | None = None
    #: Of a regular file: do reads that we are not told of change what getattr() says?
    reads_show = True
    #: May a file without a name be given one (O_TMPFILE without O_EXCL)?
    linkable = False
    #: Of a directory: do its names and permissions change by the calls of guests and the user alone? Then walks
    #: through it are remembered (Vfs.lookup).
    steady = False
    #: Is there a security.capability that a write takes away? (False where a host kernel sees to it.)
    has_capabilities = False

    #: chattr(1)'s flags (inodeflags.py), where the filesystem keeps them
    has_iflags = False
    iflags = 0

    # -- attributes ------------------------------------------------------------------------------------------

    @property
    def kind(self) -> int:
        """The S_IFMT bits of the mode."""
        return self.mode & S_IFMT

    @property
    def is_dir(self) -> bool:
        return self.mode & S_IFMT == S_IFDIR

    @property
    def is_symlink(self) -> bool:
        return self.mode & S_IFMT == S_IFLNK

    def refresh(self) -> None:
        """Bring mode, uid and gid up to date; raises ESTALE or ENOENT when the object is gone."""

    def getattr(self) -> Stat:
        """Attributes as stat(2) shows them."""
        return Stat(
            self.sb.dev,
            self.ino,
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            self.rdev,
            self.size,
            4096,
            (self.size + 4095 >> 12 << 3) if self.mode & S_IFMT == S_IFREG else 0,
            self.atime,
            self.mtime,
            self.ctime,
            self.btime or None,
        )

    def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
    ) -> None:
        """Change what is not None, all or nothing; `mode` without type bits; ctime becomes now.

        The default changes the slots and refuses a size (EINVAL, as truncate(2) of a file that has none).
        """
        if size is not None:
            raise err(errno.EINVAL)
        if mode is not None:
            self.mode = self.mode & S_IFMT | mode & 0o7777
        if uid is not None:
            self.uid = uid
        if gid is not None:
            self.gid = gid
        if atime is not None:
            self.atime = atime
        if mtime is not None:
            self.mtime = mtime
        self.ctime = now_ns()

    def set_iflags(self, flags: int, now: int) -> None:
        """Flags that were checked, where has_iflags; `now` is the new ctime."""
        raise err(errno.ENOTTY)

    def write_opened(self, lost: int) -> None:
        """The file was opened for writing; these set-id bits go when it is written (privileges.py). Here at once,
        for a filesystem that does not know when."""
        if lost:
            self.setattr(mode=self.mode & 0o7777 & ~lost)

    def may_be_open(self, lost: int) -> None:
        """Set-id bits or file capabilities were set, maybe while the file is open for writing: as write_opened(), where
        the filesystem knows when the file is written."""

    def named(self) -> None:
        """linkat(2) gave it a name: a file that loses its last one again cannot be given another (I_LINKABLE)."""

    def accessed(self) -> None:
        """A directory's entries or a symlink's target were read: what the filesystem does to atime. (Files are
        read without us.) Nothing by default."""

    def listed(self) -> None:
        """Of a directory: its entries are about to be read."""

    def is_settled(self) -> bool:
        """Does what getattr() says stay true until somebody opens or changes the file with our knowledge? Reads of a
        directory or a symlink change nothing either, that is. In doubt, as by default, it does not."""
        return False

    def native_times(self) -> tuple[int, int, int] | None:
        """Of a regular file that somebody may be writing to: st_dev and st_ino of the host's object that has its size,
        blocks and times, and the change time in ns that this had when getattr() was right. None where that is not all
        that may change, as by default."""
        return None

    def may_stay_open(self) -> bool:
        """Of a regular file: may a descriptor for reading stay open a while when its user has closed it? Where nobody
        can tell, that is: as by default, files of the host's that nobody has open for writing in here."""
        return self.is_plain()

    def is_plain(self) -> bool:
        """A file whose bytes and times nobody in here changes, and of whose change by others we are told."""
        return not self.reads_show and self.is_settled()

    # -- directory operations --------------------------------------------------------------------------------

    def entry_count(self) -> int:
        """How many entries it has."""
        return len(self.readdir())

    def changed_at(self, when: int) -> None:
        """Of a directory in memory: its entries changed, at this time (ns)."""

    def sync_directory(self) -> None:
        """fsync(2) of an open directory: its names are where they survive."""

    def lookup(self, name: bytes) -> Inode | None:
        """The child of this name, None when there is none."""
        raise err(errno.ENOTDIR)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        """Every entry but "." and "..": (name, ino, S_IFMT type bits or 0 when unknown)."""
        raise err(errno.ENOTDIR)

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        """A new regular file."""
        raise err(errno.EACCES)

    def tmpfile(self, mode: int, uid: int, gid: int, linkable: bool) -> Inode:
        """A new regular file without a name and with nlink 0 (O_TMPFILE); `linkable`: it may be given one."""
        raise err(errno.EOPNOTSUPP)

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        raise err(errno.EPERM)

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        """A FIFO, socket or device node; `mode` has the type bits. (A bound socket is made with it too.)"""
        raise err(errno.EPERM)

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        raise err(errno.EPERM)

    def link(self, name: bytes, inode: Inode) -> None:
        """A further name for `inode`, which is of this filesystem."""
        raise err(errno.EPERM)

    def unlink(self, name: bytes, inode: Inode) -> None:
        """Remove the name of a non-directory."""
        raise err(errno.EPERM)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        """Remove a directory; the filesystem answers ENOTEMPTY."""
        raise err(errno.EPERM)

    def rename(self, name: bytes, newdir: Inode, newname: bytes, flags: int) -> None:
        """Move `name` to (`newdir`, `newname`), replacing a file or an empty directory there.

        `flags`: 0, RENAME_NOREPLACE (already checked) or RENAME_EXCHANGE. Types are already checked; the
        filesystem answers ENOTEMPTY. `newdir` is of this filesystem.
        """
        raise err(errno.EPERM)

    # -- links -----------------------------------------------------------------------------------------------

    def readlink(self, task: Any = None) -> bytes:
        """The target of a symbolic link as readlink(2) shows it to `task` (which /proc/self depends on; None
        when the user's own Python reads it)."""
        raise err(errno.EINVAL)

    def follow(self, task: Any) -> Path | None:
        """For a magic link (/proc/self/exe): the place to jump to, whatever readlink() says. None: an
        ordinary symlink. An object that has no place (a pipe, a terminal) gets one from Vfs.path_of_fd().
        `task` is the task that walks, or None."""
        return None

    # -- opening ---------------------------------------------------------------------------------------------

    def open(self, ctx: OpenContext) -> int | OpenFile | Awaitable[int | OpenFile]:
        """Open the object; permissions were checked and O_PATH dealt with.

        Returns a host fd (the guest gets exactly that open file description; ownership passes to the caller),
        or an OpenFile that Python serves through a placeholder, or an awaitable of either if opening blocks.
        """
        kind = self.mode & S_IFMT
        if kind == S_IFDIR:
            from .openfile import OpenDir

            return OpenDir(ctx.path, self, ctx.flags)
        if kind in (S_IFCHR, S_IFBLK):
            return ctx.vfs.open_device(self, ctx)
        if kind == S_IFIFO:
            return ctx.vfs.open_fifo(self, ctx)
        if kind == S_IFSOCK:
            raise err(errno.ENXIO)
        if kind == S_IFLNK:
            raise err(errno.ELOOP)
        raise err(errno.EINVAL)

    # -- extended attributes (xattr(7)); names carry their prefix --------------------------------------------

    def getxattr(self, name: bytes) -> bytes:
        """The value; ENODATA when absent, EOPNOTSUPP when the filesystem has none."""
        raise err(errno.EOPNOTSUPP)

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        """flags: 0, XATTR_CREATE (1, EEXIST) or XATTR_REPLACE (2, ENODATA)."""
        raise err(errno.EOPNOTSUPP)

    def listxattr(self) -> list[bytes]:
        return []

    def is_bare(self) -> bool:
        """Has it no extended attributes at all?"""
        return not self.listxattr()

    def removexattr(self, name: bytes) -> None:
        raise err(errno.EOPNOTSUPP)
