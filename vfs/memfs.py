"""MemoryFS: a tree in memory that behaves as tmpfs(5) does.

Layer: vfs, a filesystem behind inode.py's interface. May touch: memdata.py (memfds).

Names and attributes are Python's; the bytes of an open file are in a memfd, so that guests read, write and
map them without us. An idle file costs no descriptor.
"""

from __future__ import annotations

import errno

from .inode import Inode, OpenContext, SuperBlock, err
from .inodeflags import INHERITED
from .memattrs import MemoryAttributes, read_by_now, relatime
from .memdata import MemData, MemfdPool
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Stat, StatFs, now_ns

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any

    from .memstate import MemState
    from .shm import Shm
    from .vfs import Vfs

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
_BOGO_DIRENT = 20  # what tmpfs counts as the size of an entry (BOGO_DIRENT_SIZE in mm/shmem.c)
_XATTR_MAX = 65536
_SHORT_SYMLINK = 128  # bytes with the nul; longer ones take a page (SHORT_SYMLINK_LEN in mm/shmem.c)


class MemoryFS(SuperBlock):
    """An empty in-memory filesystem; its root directory has `mode`, `uid`, `gid`.

    `size` and `nr_inodes` limit it as tmpfs(5)'s options of these names do: numbers, or text with a suffix ("64m",
    "1g", and for `size` "25%" of the machine's memory). Beyond them guests get ENOSPC. None: no limit. Raises
    ValueError for other text, and OSError where the host cannot enforce a size (see shm.py).
    """

    fstype = "tmpfs"
    magic = 0x01021994
    exact = True

    def __init__(
        self,
        source: str = "tmpfs",
        *,
        mode: int = 0o1777,
        uid: int = 0,
        gid: int = 0,
        size: int | str | None = None,
        nr_inodes: int | str | None = None,
    ) -> None:
        super().__init__(source)
        self.pool = MemfdPool()
        self.inodes = 0
        self.nr_inodes = None if nr_inodes is None else parse_size(nr_inodes)
        self.shm: Shm | None = None
        if size is not None:
            from .shm import Shm

            self.shm = Shm(max(4096, parse_size(size) + 4095 & ~4095))
        self._made_with = mode & 0o7777, uid, gid
        self.root = MemDir(self, mode, uid, gid)

    @property
    def lends(self) -> bool:  # type: ignore[override]
        return self.shm is None and self.pool.shm is None and self.nr_inodes is None

    def attached(self, vfs: Vfs) -> None:
        self.pool = vfs.pool

    def close(self) -> None:
        if self.shm is not None:
            self.shm.close()

    def snapshot(self) -> MemState:
        from .memstate import MemState

        return MemState(self)

    @property
    def options(self) -> str:
        words = [] if self.shm is None else [f"size={self.shm.size // 1024}k"]
        if self.nr_inodes is not None:
            words.append(f"nr_inodes={self.nr_inodes}")
        mode, uid, gid = self._made_with  # as shmem_show_options() has them: what was asked for
        words += [f"mode={mode:03o}"] if mode != 0o1777 else []
        words += [f"uid={uid}"] if uid else []
        words += [f"gid={gid}"] if gid else []
        return ",".join(words)

    def remount(self, options: dict[str, str | None]) -> None:
        """The limits may change, down to what is in use. EINVAL for a size where there was none."""
        from .fstypes import TMPFS_OPTIONS, size_options

        size, inodes = size_options(options)
        for name in TMPFS_OPTIONS:
            options.pop(name, None)
        super().remount(options)
        if inodes and inodes < self.inodes or size and self.shm is None:
            raise err(errno.EINVAL)
        if size and self.shm is not None:
            self.shm.resize(max(4096, size + 4095 & ~4095))
        if inodes is not None:
            self.nr_inodes = inodes or None

    def new_data(self, now: int) -> MemData:
        """Where the bytes of a new file go."""
        return self.pool.new_data(now) if self.shm is None else self.shm.new_data(self.pool, now)

    def count_inode(self) -> None:
        """One more inode. ENOSPC beyond nr_inodes."""
        if self.nr_inodes is not None and self.inodes >= self.nr_inodes:
            raise err(errno.ENOSPC)
        self.inodes += 1

    def statfs(self) -> StatFs:
        """As a tmpfs of half the memory, of its own size, or of that of all filesystems in memory."""
        pages = free = total_pages() // 2
        shm = self.shm or self.pool.shm
        if shm is not None:
            if self.pool.orphans:
                self.pool.reap()
            pages, free = shm.size // 4096, shm.free() // 4096
        # Without a size, what is used is not known but by asking each memfd; tools only look for "enough".
        files = total_pages() // 2 if self.nr_inodes is None else self.nr_inodes
        return StatFs(self.magic, 4096, pages, free, free, files, max(0, files - self.inodes), fsid=self.dev)


def parse_size(text: int | str) -> int:
    """A number with tmpfs' suffixes (memparse(), and % of the memory). ValueError for others."""
    if isinstance(text, int):
        value = text
    elif text.endswith("%"):
        value = total_pages() * 4096 * _number(text[:-1], text) // 100
    else:
        shift = {"k": 10, "m": 20, "g": 30, "t": 40}.get(text[-1:].lower(), 0)
        value = _number(text[:-1] if shift else text, text) << shift
    if not 0 < value < 1 << 63:
        raise ValueError(f"a limit of {text} makes no sense")
    return value


def symlink_blocks(size: int) -> int:
    """st_blocks of a symlink whose target has so many bytes, as tmpfs has it."""
    return 0 if size < _SHORT_SYMLINK else 8


def _number(digits: str, text: str) -> int:
    try:
        return int(digits, 0)
    except ValueError:
        raise ValueError(f"{text!r} is no size (512k, 64m, 2g, 10%)") from None


def total_pages() -> int:
    """The machine's memory in pages of 4 KiB."""
    import os

    return os.sysconf("SC_PHYS_PAGES") * (os.sysconf("SC_PAGE_SIZE") // 4096)


class MemInode(MemoryAttributes):
    """What all in-memory inodes share."""

    __slots__ = ("iflags", "xattrs")

    sb: MemoryFS

    def __init__(
        self, sb: MemoryFS, mode: int, uid: int, gid: int, *, nlink: int = 1, rdev: int = 0, size: int = 0
    ) -> None:
        sb.count_inode()
        super().__init__(sb, sb.new_ino(), mode, uid, gid, nlink=nlink, rdev=rdev, size=size)
        self.xattrs: dict[bytes, bytes] | None = None
        self.iflags = 0

    def touched(self, now: int) -> None:
        """The inode changed: ctime."""
        self.ctime = now

    def accessed(self) -> None:
        now = now_ns()
        if relatime(self.atime, self.mtime, self.ctime, now):
            self.atime = now

    def is_settled(self) -> bool:
        return self.mode & S_IFMT in (S_IFDIR, S_IFLNK) and read_by_now(self)

    def unlinked(self) -> None:
        """The last name went."""
        self.sb.inodes -= 1


class MemFile(MemInode):
    """A regular file."""

    __slots__ = ("data", "linkable", "lost")

    forgets = True

    def __init__(self, sb: MemoryFS, mode: int, uid: int, gid: int, *, nlink: int = 1) -> None:
        super().__init__(sb, mode & 0o7777 | S_IFREG, uid, gid, nlink=nlink)
        self.data = sb.new_data(self.ctime)
        self.linkable = False
        self.lost = 0

    def named(self) -> None:
        self.linkable = False

    def refresh(self) -> None:
        if self.lost:
            self.settle()

    def is_settled(self) -> bool:
        return bool(self.data.is_unused())

    def native_times(self) -> tuple[int, int, int] | None:
        return None if self.lost else self.data.native_times()

    def may_stay_open(self) -> bool:
        return self.nlink > 0 and self.data.is_small()

    def getattr(self) -> Stat:
        if self.lost:
            self.settle()
        size, blocks, atime, mtime, ctime = self.data.stat()
        return Stat(
            self.sb.dev,
            self.ino,
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            0,
            size,
            4096,
            blocks,
            atime,
            mtime,
            ctime,
            self.btime,
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
        now = now_ns()
        if self.lost:
            self.settle()
        if size is not None:
            self.data.truncate(size, now)
        if atime is not None or mtime is not None:
            self.data.set_times(now, atime, mtime)
        else:
            self.data.changed(now)
        super().setattr(mode=mode, uid=uid, gid=gid)

    def touched(self, now: int) -> None:
        self.data.changed(now)

    def unlinked(self) -> None:
        super().unlinked()
        self.data.unlinked()

    def open(self, ctx: OpenContext) -> int:
        fd: int = self.data.open(ctx.flags)
        return fd


class MemSymlink(MemInode):
    __slots__ = ("target",)

    def __init__(self, sb: MemoryFS, target: bytes, uid: int, gid: int) -> None:
        super().__init__(sb, S_IFLNK | 0o777, uid, gid, size=len(target))
        self.target = target

    def getattr(self) -> Stat:
        st = super().getattr()
        st.blocks = symlink_blocks(st.size)
        return st

    def readlink(self, task: Any = None) -> bytes:
        return self.target


class MemSpecial(MemInode):
    """A FIFO, socket or device node: opening one is the vfs's business."""

    __slots__ = ()


class MemDir(MemInode):
    """A directory: a dict from name to inode."""

    __slots__ = ("entries",)
    steady = True

    def __init__(self, sb: MemoryFS, mode: int, uid: int, gid: int) -> None:
        super().__init__(sb, S_IFDIR | mode & 0o7777, uid, gid, nlink=2, size=2 * _BOGO_DIRENT)
        self.entries: dict[bytes, MemInode] = {}

    def lookup(self, name: bytes) -> Inode | None:
        return self.entries.get(name)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        return [(name, i.ino, i.mode & S_IFMT) for name, i in self.entries.items()]

    def entry_count(self) -> int:
        return len(self.entries)

    def changed_at(self, when: int) -> None:
        self.mtime = self.ctime = when

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        return self._made(name, MemFile(self.sb, mode, uid, gid))

    def tmpfile(self, mode: int, uid: int, gid: int, linkable: bool) -> Inode:
        inode = MemFile(self.sb, mode, uid, gid, nlink=0)
        self.sb.inodes -= 1  # counted once it has a name: of its end nobody tells us
        inode.data.linked = False  # lives as long as someone has it open
        inode.linkable = linkable
        return inode

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        inode = self._made(name, MemDir(self.sb, mode, uid, gid))
        self.nlink += 1
        return inode

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        return self._made(name, MemSpecial(self.sb, mode, uid, gid, rdev=rdev))

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        return self._made(name, MemSymlink(self.sb, target, uid, gid))

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, MemInode)
        if inode.nlink == 0 and isinstance(inode, MemFile):
            self.sb.count_inode()
            inode.data.relinked()
        inode.nlink += 1
        self._add(name, inode)
        inode.touched(self.ctime)

    def unlink(self, name: bytes, inode: Inode) -> None:
        victim = self.entries.pop(name)
        self._changed(-1)
        self._lost(victim)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        victim = self.entries[name]
        if isinstance(victim, MemDir) and victim.entries:
            raise err(errno.ENOTEMPTY)
        del self.entries[name]
        self._changed(-1)
        self._lost(victim)

    def rename(self, name: bytes, newdir: Inode, newname: bytes, flags: int) -> None:
        assert isinstance(newdir, MemDir)
        inode = self.entries[name]
        other = newdir.entries.get(newname)
        if flags & RENAME_EXCHANGE:
            assert other is not None
            self.entries[name] = other
            newdir.entries[newname] = inode
            moved = isinstance(inode, MemDir) - isinstance(other, MemDir)
            self.nlink -= moved
            newdir.nlink += moved
            self._changed(0)
            newdir._changed(0)
            other.touched(self.ctime)
            inode.touched(self.ctime)
            return
        if isinstance(other, MemDir) and other.entries:
            raise err(errno.ENOTEMPTY)
        del self.entries[name]
        if other is not None:
            del newdir.entries[newname]  # the new name goes to the end of the listing
        newdir.entries[newname] = inode
        if isinstance(inode, MemDir):
            self.nlink -= 1
            newdir.nlink += 1
        self._changed(-1)
        newdir._changed(0 if other is not None else 1)
        if other is not None:
            newdir._lost(other)
        inode.touched(self.ctime)

    def _made(self, name: bytes, inode: MemInode) -> Inode:
        inode.iflags = self.iflags & INHERITED
        return self._add(name, inode)

    def _add(self, name: bytes, inode: MemInode) -> Inode:
        self.entries[name] = inode
        self._changed(1)
        return inode

    def _changed(self, entries: int) -> None:
        self.size += entries * _BOGO_DIRENT
        self.mtime = self.ctime = now_ns()

    def _lost(self, victim: MemInode) -> None:
        """`victim` lost its name in this directory."""
        if isinstance(victim, MemDir):
            victim.nlink = 0
            self.nlink -= 1
        else:
            victim.nlink -= 1
        victim.touched(self.ctime)
        if not victim.nlink:
            victim.unlinked()
