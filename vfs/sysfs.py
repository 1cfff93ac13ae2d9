"""SysFS: the parts of /sys by which programs size themselves (sysfs(5)).

Layer: vfs, a filesystem.  May touch: the host's /sys below the directories of SHOWN, for reading.

The guest runs on the host's processors and memory, so what glibc, Python, the JVM, Go, lscpu and numactl read
about them is the host's own text; the rest of the host's devices is not here.  Nothing can be changed.
"""

from __future__ import annotations

import errno
import os

from .inode import Inode, OpenContext, SuperBlock, err
from .openfile import O_ACCMODE, SeqFile
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, StatFs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .openfile import OpenFile

SYSFS_MAGIC = 0x62656572  # statfs(2)

#: Directories of the host that are shown with everything below them.
SHOWN = ("devices/system/cpu", "devices/system/node", "kernel/mm/transparent_hugepage", "kernel/mm/hugepages")
#: Directories that exist, with nothing but what lies above in them.
EMPTY = ("block", "bus", "class", "class/net", "dev", "dev/block", "dev/char", "devices/virtual", "firmware",
"fs",
         "fs/cgroup", "module", "power")  # fmt: skip


class _Dir(Inode):
    """A directory that exists by declaration."""

    __slots__ = ("entries",)
    steady = True

    def __init__(self, fs: SysFS, ino: int) -> None:
        super().__init__(fs, ino, S_IFDIR | 0o555, nlink=2)
        self.entries: dict[bytes, Inode] = {}

    def lookup(self, name: bytes) -> Inode | None:
        return self.entries.get(name)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        return [(name, inode.ino, inode.kind) for name, inode in self.entries.items()]

    def setattr(self, **changes: int | None) -> None:
        raise err(errno.EPERM)


class _Mirror(Inode):
    """An object of the host's /sys: the type and mode are the host's, the owner is virtual root."""

    __slots__ = ("source",)

    def __init__(self, sb: SuperBlock, source: bytes, st: os.stat_result) -> None:
        super().__init__(sb, st.st_ino, st.st_mode, nlink=st.st_nlink, size=st.st_size)
        self.source = source

    def lookup(self, name: bytes) -> Inode | None:
        return mirror(self.sb, self.source + b"/" + name)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        out = []
        with os.scandir(self.source) as entries:
            for entry in entries:
                kind = S_IFLNK if entry.is_symlink() else S_IFDIR if entry.is_dir() else S_IFREG
                if kind != S_IFLNK or mirror(self.sb, entry.path) is not None:
                    out.append((entry.name, entry.inode(), kind))
        return out

    def readlink(self, task: Any = None) -> bytes:
        return os.readlink(self.source)

    def setattr(self, **changes: int | None) -> None:
        raise err(errno.EPERM)

    def open(self, ctx: OpenContext) -> OpenFile:
        if self.kind == S_IFDIR:
            opened = super().open(ctx)
            assert not isinstance(opened, int)
            return opened  # type: ignore[return-value]  # a directory opens at once
        if ctx.flags & O_ACCMODE != os.O_RDONLY:
            raise err(errno.EROFS)
        source = self.source

        def text(task: Any) -> bytes:
            from .procfs.host import read

            return read(os.fsdecode(source))

        return SeqFile(ctx.path, self, ctx.flags, text)


def mirror(sb: SuperBlock, source: bytes) -> Inode | None:
    """The mirror of a host object; None for what is missing, is no file, directory or link, or leads out of
    SHOWN."""
    try:
        st = os.lstat(source)
    except OSError:
        return None
    kind = st.st_mode & S_IFMT
    if kind == S_IFLNK and not os.path.realpath(source).startswith(_PREFIXES):
        return None
    return _Mirror(sb, source, st) if kind in (S_IFDIR, S_IFREG, S_IFLNK) else None


_PREFIXES = tuple(b"/sys/" + os.fsencode(name) for name in SHOWN)


class SysFS(SuperBlock):
    """/sys of one world."""

    fstype = "sysfs"
    magic = SYSFS_MAGIC

    def __init__(self) -> None:
        super().__init__("sysfs")
        self.root: Inode = _Dir(self, 1)
        self._made = 1
        for name in sorted(SHOWN + EMPTY):
            self._place(os.fsencode(name), name in SHOWN)

    def statfs(self) -> StatFs:
        return StatFs(self.magic, fsid=self.dev)

    def _place(self, name: bytes, shown: bool) -> None:
        *parents, last = name.split(b"/")
        at = self.root
        assert isinstance(at, _Dir)
        for part in parents if shown else [*parents, last]:
            below = at.entries.get(part)
            if below is None:
                self._made += 1
                below = at.entries[part] = _Dir(
                    self, (1 << 40) + self._made
                )  # beyond the host's inode numbers
                at.nlink += 1
            assert isinstance(below, _Dir)
            at = below
        if shown:
            inode = mirror(self, b"/sys/" + name)
            if inode is not None:
                at.entries[last] = inode
                at.nlink += 1
