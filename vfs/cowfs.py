"""CowFS: a copy-on-write view of a host directory. Reads come from the host, every change stays in memory.

Layer: vfs, a filesystem behind inode.py's interface, on top of hostfs.py and memdata.py. May touch: the
host's files beneath its directory, for reading only; memfds.

How it is made:
* A CowNode is a HostNode (its *lower* object) with changes on top, or an object that exists in memory alone.
  It stays the same object when it is copied up, so inode number, device and hard links stay too.
* A CowDir (cowdir.py) has `entries`: the names that changed here. None is a whiteout. What is not in there is
  the host's.
* Whatever was changed is *pinned*: entered by name in its directory and so on up to the root, and by identity
  in `CowFS.changed`, so that a change outlives the walk that made it and another hard link of the file shows
  it too.
* A renamed directory keeps its lower directory, wherever the new name is: nothing is copied.
* A descriptor opened for reading before the first write keeps showing the host's bytes, as with overlayfs.
"""

from __future__ import annotations

import errno
import os

from .anon import from_host
from .copyup import copy_file
from .hostfs import HostFS, HostNode
from .inode import Inode, OpenContext, err
from .inodeflags import INHERITED
from .memattrs import MemoryAttributes, read_by_now, relatime
from .memdata import MemfdPool
from .memfs import symlink_blocks
from .privileges import CAPABILITY
from .stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, Stat, now_ns

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from .cowdir import CowDir
    from .cowstate import CowState
    from .hostdir import HostDir
    from .memdata import MemData
    from .openfile import OpenFile
    from .vfs import Vfs

# Inode numbers of new objects: far above what disks give out, so that they collide with none of the host's.
_FIRST_INO = 1 << 48


class CowFS(HostFS):
    """The host's `path`, copy-on-write. Raises the host's OSError if it cannot be opened."""

    exact = True

    def __init__(self, path: str | bytes) -> None:
        self.pool = MemfdPool()
        self.changed: dict[tuple[int, int], CowNode] = {}
        self._path = os.path.realpath(os.fsencode(path))
        self._vfs: Vfs | None = None
        self._pristine: HostFS | None = None
        super().__init__(path, read_only=True)
        self.read_only = False
        self._last_ino = _FIRST_INO

    @property
    def lends(self) -> bool:  # type: ignore[override]
        return self.pool.shm is None

    def attached(self, vfs: Vfs) -> None:
        super().attached(vfs)
        self.pool = vfs.pool
        self._vfs = vfs

    def snapshot(self) -> CowState | None:
        if self._vfs is None:
            return None
        from .cowstate import CowState

        return CowState(self, self._vfs)

    def base(self) -> Inode:
        """The host's own tree, as it is now."""
        if self._pristine is None:
            self._pristine = HostFS(self._path, read_only=True)
        return self._pristine.root

    def new_node(self, st: os.stat_result, parent: HostDir | None, name: bytes) -> HostNode:
        if st.st_mode & S_IFMT != S_IFDIR:
            return CowNode(self, st, parent, name)
        from .cowdir import CowDir

        return CowDir(self, st, parent, name)

    def close(self) -> None:
        self.changed.clear()
        if self._pristine is not None:
            self._pristine.close()
        super().close()


class CowNode(MemoryAttributes, HostNode):
    """An object that may have a lower one (`lower`), may own its attributes (`own`) and may own its bytes
    (`data`)."""

    __slots__ = (
        *("cow_name", "cow_parent", "data", "delta", "iflags", "linkable", "lost", "lower", "own", "target"),
        "xattrs",
    )

    sb: CowFS

    def __init__(self, sb: CowFS, st: os.stat_result, parent: HostDir | None, name: bytes) -> None:
        self.lower = True
        self._init_cow()
        super().__init__(sb, st, parent, name)

    def _init_cow(self) -> None:
        self.own = not self.lower
        self.data: MemData | None = None
        self.delta = 0  # links made and removed here
        self.linkable = False
        self.lost = 0
        self.iflags = 0
        self.target = b""
        self.xattrs: dict[bytes, bytes] | None = None if self.lower else {}
        self.cow_parent: CowDir | None = None
        self.cow_name = b""

    @classmethod
    def fresh(
        cls,
        sb: CowFS,
        directory: CowDir,
        mode: int,
        uid: int,
        gid: int,
        *,
        nlink: int = 1,
        rdev: int = 0,
        size: int = 0,
    ) -> CowNode:
        """An object that exists in memory alone; its st_dev is its directory's."""
        node = cls.__new__(cls)
        Inode.__init__(node, sb, sb.new_ino(), mode, uid, gid, nlink=nlink, rdev=rdev, size=size)
        node.dev = directory.dev
        node.parent = None
        node.name = b""
        node.lower = False
        node._init_cow()
        node.iflags = directory.iflags & INHERITED
        if mode & S_IFMT == S_IFREG:
            node.data = sb.pool.new_data(node.ctime)
        return node

    def __del__(self) -> None:
        if self.lower:
            super().__del__()

    @property
    def forgets(self) -> bool:  # type: ignore[override]
        return self.data is not None

    # -- attributes ------------------------------------------------------------------------------------------

    def update(self, st: os.stat_result) -> None:
        self.nlink = max(0, st.st_nlink + self.delta)
        if self.own:
            return
        self.mode = st.st_mode
        self.uid = st.st_uid
        self.gid = st.st_gid
        self.size = st.st_size
        self.rdev = st.st_rdev

    def named(self) -> None:
        self.linkable = False

    def refresh(self) -> None:
        if not self.own:
            self.update(self.host_stat())
        elif self.lost:
            self.settle()

    def getattr(self) -> Stat:
        if self.lost:
            self.settle()
        if not self.own:
            st = self.host_stat()
            self.update(st)
            result = from_host(st)
            result.nlink = self.nlink
            return result
        size, blocks, atime, mtime, ctime = self.size, 0, self.atime, self.mtime, self.ctime
        if self.data is not None:
            size, blocks, atime, mtime, ctime = self.data.stat()
        elif self.target:
            blocks = symlink_blocks(size)
        elif self.lower:
            try:
                st = self.host_stat()
                self.nlink = max(0, st.st_nlink + self.delta)
                size, blocks = st.st_size, st.st_blocks
            except OSError:
                pass  # gone on the host: what we know stays true
        return Stat(
            self.dev,
            self.ino,
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            self.rdev,
            size,
            4096,
            blocks,
            atime,
            mtime,
            ctime,
            self.btime or None,
        )

    def pin(self) -> None:
        """This object is changed: keep it, under its name and by its identity."""
        if self.lower:
            self.sb.changed[self.dev, self.ino] = self
        parent = self.cow_parent
        if parent is not None and parent.entries.get(self.cow_name) is not self:
            parent.entries[self.cow_name] = self
            parent.pin()

    def own_attributes(self) -> None:
        """Copy the attributes up: from now on they are ours."""
        if not self.own:
            st = self.host_stat()
            self.update(st)
            self.atime, self.mtime, self.ctime = st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns
            self.btime = 0
            self.own = True
        self.pin()

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
            self.copy_up(size).truncate(size, now)
        self.own_attributes()
        if mode is not None:
            self.mode = self.mode & S_IFMT | mode & 0o7777
        if uid is not None:
            self.uid = uid
        if gid is not None:
            self.gid = gid
        if self.data is not None:
            self.data.set_times(
                now, atime, mtime
            ) if atime is not None or mtime is not None else self.data.changed(now)
        if atime is not None:
            self.atime = atime
        if mtime is not None:
            self.mtime = mtime
        self.ctime = now

    def accessed(self) -> None:
        now = now_ns()
        if not self.lower and relatime(self.atime, self.mtime, self.ctime, now):
            self.atime = now

    @property
    def reads_show(self) -> bool:  # type: ignore[override]
        return self.data is not None

    def is_settled(self) -> bool:
        if self.data is not None:
            return self.data.is_unused()
        return super().is_settled() if self.lower else self.kind in (S_IFDIR, S_IFLNK) and read_by_now(self)

    def native_times(self) -> tuple[int, int, int] | None:
        return None if self.lost or self.data is None else self.data.native_times()

    def may_stay_open(self) -> bool:
        return super().may_stay_open() if self.data is None else self.nlink > 0 and self.data.is_small()

    def touched(self, now: int) -> None:
        self.own_attributes()
        self.ctime = now
        if self.data is not None:
            self.data.changed(now)

    def linked(self, count: int) -> None:
        """`count` more names."""
        if self.lower:
            self.delta += count
        self.nlink = max(0, self.nlink + count)

    # -- contents --------------------------------------------------------------------------------------------

    def copy_up(self, keep: int | None = None) -> MemData:
        """The contents in memory; of a lower file at most `keep` bytes are copied. EACCES if we may not read
        it."""
        if self.data is None:
            if self.mode & S_IFMT != S_IFREG:
                raise err(errno.EINVAL)
            self.own_attributes()
            data = self.sb.pool.new_data(self.ctime)
            data.linked = self.nlink > 0
            if keep != 0:
                source = self.host_open(os.O_RDONLY)
                try:
                    data.put(lambda fd: copy_file(source, fd, keep))
                except OSError:
                    data.unlinked()
                    raise
                finally:
                    os.close(source)
            data.set_times(self.ctime, self.atime, self.mtime)
            self.data = data
        return self.data

    def open(self, ctx: OpenContext) -> int | OpenFile | Awaitable[int | OpenFile]:
        kind = self.mode & S_IFMT
        if kind == S_IFREG:
            flags = ctx.flags
            if flags & (os.O_ACCMODE | os.O_TRUNC):
                return self.copy_up(0 if flags & os.O_TRUNC else None).open(flags)
            return self.host_open(flags) if self.data is None else self.data.open(flags)
        if self.lower and kind in (S_IFCHR, S_IFBLK, S_IFIFO):
            raise err(errno.EACCES, self.name)  # never the host's own
        if self.lower and kind == S_IFDIR:
            self.check_readable()
        return Inode.open(self, ctx)

    def readlink(self, task: Any = None) -> bytes:
        return super().readlink() if self.lower else self.target

    # -- extended attributes ---------------------------------------------------------------------------------

    def own_xattrs(self) -> dict[bytes, bytes]:
        """The attributes in memory, copied from the host at the first change."""
        if self.xattrs is None:
            self.xattrs = {name: HostNode.getxattr(self, name) for name in HostNode.listxattr(self)}
        return self.xattrs

    @property
    def has_capabilities(self) -> bool:  # type: ignore[override]
        if self.xattrs is not None or not self.lower:
            return super().has_capabilities
        try:
            return bool(HostNode.getxattr(self, CAPABILITY))
        except OSError:
            return False

    def getxattr(self, name: bytes) -> bytes:
        return HostNode.getxattr(self, name) if self.xattrs is None else super().getxattr(name)

    def listxattr(self) -> list[bytes]:
        return HostNode.listxattr(self) if self.xattrs is None else super().listxattr()

    def is_bare(self) -> bool:
        return super().is_bare() if self.xattrs is None else not self.xattrs

    def removexattr(self, name: bytes) -> None:
        self.own_xattrs()
        super().removexattr(name)
