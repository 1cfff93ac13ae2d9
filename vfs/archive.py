"""ArchiveFS: what tar and zip filesystems share: a read-only tree of members, unpacked when they are opened.

Layer: vfs, a filesystem behind inode.py's interface; tarfs.py and zipfs.py fill it. May touch: memfds, and the
archive through streams.py.

The tree exists in memory alone, so an archive cannot reach anything by its names: a member called "../x" is refused
with the archive, a leading "/" is dropped, a member "link/x" beneath a symlink goes where the link leads *in the
archive*, and of two members with one name the later counts, as when tar extracts. The bytes of a file are put into
a memfd when it is opened, and dropped again when nobody has it open.
"""

from __future__ import annotations

import errno
import os

from .inode import Inode, OpenContext, SuperBlock, err
from .memdata import MemData, MemfdPool
from .memfd import is_idle
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, StatFs, makedev
from .streams import BadArchive, FileSource

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .openfile import OpenFile
    from .streams import Source
    from .vfs import Vfs

__all__ = ["ArchiveFS", "ArchiveNode", "BadArchive", "open_archive"]

_PATH_MAX, _NAME_MAX, _MAX_LINKS = 4096, 255, 40
MAX_MEMBERS = 4_000_000
_CHUNK = 1 << 20


def open_archive(path: str | os.PathLike[str], limit: int | None = None) -> ArchiveFS:
    """The tar or zip file `path` as a filesystem. Raises BadArchive, or the host's OSError."""
    with open(path, "rb", buffering=0) as f:
        magic = f.read(4)
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):
        from .zipfs import ZipFS

        return ZipFS(path, limit=limit)
    from .tarfs import TarFS

    return TarFS(path, limit=limit)


class ArchiveFS(SuperBlock):
    """The tree of an archive's members; see tarfs.TarFS and zipfs.ZipFS."""

    fstype = "archive"
    magic = 0x52334152  # ours: "R3AR"
    read_only = True

    def __init__(self, source: str, time: int, owner: tuple[int, int] = (0, 0)) -> None:
        super().__init__(source)
        self.pool = MemfdPool()
        self.time = time  # ns: of directories that no member describes
        self.owner = owner  # uid and gid of these
        self.members = 0
        self.bytes = 0
        self.top = ArchiveDir(self, 0o755, time, *owner)
        self.root: Inode = self.top

    def attached(self, vfs: Vfs) -> None:
        self.pool = vfs.pool

    def statfs(self) -> StatFs:
        blocks = self.bytes + 4095 >> 12
        return StatFs(self.magic, 4096, blocks, 0, 0, self.members, 0, fsid=self.dev)

    # -- what the formats implement --------------------------------------------------------------------------

    def unpack(self, member: Any, fd: int) -> None:
        """Write a member's bytes into an empty memfd."""
        raise NotImplementedError

    # -- building the tree -----------------------------------------------------------------------------------

    def add(self, name: bytes, node: ArchiveNode) -> None:
        """Put a member into the tree. Raises BadArchive for a name that no tree can have."""
        self._counted()
        folder, last = self._place(name)
        if last is None:
            if isinstance(node, ArchiveDir):
                folder.describe(node)
            return
        old = folder.entries.get(last)
        if isinstance(old, ArchiveDir) and isinstance(node, ArchiveDir):
            old.describe(node)
            return
        self._drop(folder, last)
        folder.put(last, node)

    def add_link(self, name: bytes, target: bytes) -> None:
        """A further name for the member `target`. BadArchive if that is not there or a directory."""
        self._counted()
        folder, last = self._place(target)
        node = None if last is None else folder.entries.get(last)
        if node is None or isinstance(node, ArchiveDir):
            raise BadArchive(f"{name!r} is a hard link to {target!r}, which is no file in it")
        folder, last = self._place(name)
        if last is None:
            raise BadArchive(f"a member has the name {name!r}")
        if folder.entries.get(last) is not node:
            self._drop(folder, last)
            node.nlink += 1
            folder.put(last, node)

    def _counted(self) -> None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise BadArchive(f"it has more than {MAX_MEMBERS} members")

    def _drop(self, folder: ArchiveDir, name: bytes) -> None:
        old = folder.entries.pop(name, None)
        if old is not None:
            old.nlink -= 1
            folder.nlink -= isinstance(old, ArchiveDir)

    def _place(self, name: bytes) -> tuple[ArchiveDir, bytes | None]:
        """The directory that the member is in, with those that are missing made, and its name there (None: the
        member is the directory itself)."""
        if len(name) > _PATH_MAX or b"\0" in name:
            raise BadArchive(f"a member has an impossible name: {name[:40]!r}...")
        folder = self.top
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise BadArchive(f"a member leads out of it: {name!r}")
        if not parts:
            return folder, None
        for part in parts[:-1]:
            folder = self._enter(folder, part, name)
        if len(parts[-1]) > _NAME_MAX:
            raise BadArchive(f"a member has a name of more than {_NAME_MAX} bytes: {parts[-1][:40]!r}...")
        return folder, parts[-1]

    def _enter(self, folder: ArchiveDir, part: bytes, name: bytes) -> ArchiveDir:
        """Subdirectory `part`; a symlink is followed within the tree."""
        todo = [part]
        links = 0
        while todo:
            part = todo.pop()
            if part == b"..":
                folder = folder.above or folder
                continue
            child = folder.entries.get(part)
            if child is None:
                if len(part) > _NAME_MAX:
                    raise BadArchive(f"a member has a name of more than {_NAME_MAX} bytes: {part[:40]!r}...")
                self._counted()
                child = ArchiveDir(self, 0o755, self.time, *self.owner)
                folder.put(part, child)
            if isinstance(child, ArchiveDir):
                folder = child
                continue
            links += 1
            if child.mode & S_IFMT != S_IFLNK or links > _MAX_LINKS:
                raise BadArchive(f"{name!r} is beneath something that is no directory")
            target = child.readlink()
            if target.startswith(b"/"):
                folder = self.top
            todo += [p for p in reversed(target.split(b"/")) if p not in (b"", b".")]
        return folder


class ArchiveData(MemData):
    """The bytes of a member that is open, in a memfd."""

    __slots__ = ("node",)

    def __init__(self, node: ArchiveNode) -> None:
        super().__init__(node.sb.pool, node.mtime)
        self.node = node

    def fill(self, fd: int) -> None:
        node = self.node
        try:
            node.sb.unpack(node.member, fd)
        except (BadArchive, EOFError) as e:
            raise OSError(errno.EIO, f"the archive is damaged: {e}") from None
        if os.fstat(fd).st_size != node.size:
            raise err(errno.EIO)

    def try_idle(self, hard: bool = False) -> bool:
        if self._fd >= 0:
            if not is_idle(self._fd):
                return False
            self._drop()
        return True


class ArchiveNode(Inode):
    """A member; `member` is what the format needs to find its bytes."""

    __slots__ = ("data", "member", "target", "xattrs")

    sb: ArchiveFS
    forgets = True
    reads_show = False

    def is_settled(self) -> bool:
        return self.mode & S_IFMT in (S_IFREG, S_IFDIR, S_IFLNK)  # an archive never changes

    def __init__(
        self,
        sb: ArchiveFS,
        mode: int,
        time: int,
        uid: int = 0,
        gid: int = 0,
        *,
        nlink: int = 1,
        size: int = 0,
        rdev: tuple[int, int] = (0, 0),
        member: Any = None,
        target: bytes = b"",
        xattrs: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """`mode` has the type bits; `time` is the mtime in ns; `target` is a symlink's."""
        device = makedev(*rdev) if rdev != (0, 0) else 0
        super().__init__(
            sb, sb.new_ino(), mode, uid, gid, nlink=nlink, size=size or len(target), rdev=device, time=time
        )
        self.btime = 0
        self.member = member
        self.target = target
        self.xattrs = xattrs
        self.data: ArchiveData | None = None
        sb.bytes += size

    def readlink(self, task: Any = None) -> bytes:
        return self.target

    def open(self, ctx: OpenContext) -> int | OpenFile | Any:
        if self.mode & S_IFMT != S_IFREG:
            return super().open(ctx)
        if self.data is None:
            self.data = ArchiveData(self)
        return self.data.open(ctx.flags & ~(os.O_ACCMODE | os.O_TRUNC | os.O_APPEND))

    def getxattr(self, name: bytes) -> bytes:
        if self.xattrs is None or name not in self.xattrs:
            raise err(errno.ENODATA)
        return self.xattrs[name]

    def listxattr(self) -> list[bytes]:
        return list(self.xattrs or ())


class ArchiveDir(ArchiveNode):
    """A directory, described by a member or made for those beneath it."""

    __slots__ = ("above", "entries")

    steady = True

    def __init__(self, sb: ArchiveFS, mode: int, time: int, uid: int = 0, gid: int = 0, **more: Any) -> None:
        super().__init__(sb, S_IFDIR | mode & 0o7777, time, uid, gid, nlink=2, **more)
        self.entries: dict[bytes, ArchiveNode] = {}
        self.above: ArchiveDir | None = None
        self.size = 4096

    def describe(self, other: ArchiveDir) -> None:
        """Take over the attributes of a later member of the same name."""
        self.mode, self.uid, self.gid, self.xattrs = other.mode, other.uid, other.gid, other.xattrs
        self.atime, self.mtime, self.ctime = other.atime, other.mtime, other.ctime

    def put(self, name: bytes, node: ArchiveNode) -> None:
        self.entries[name] = node
        if isinstance(node, ArchiveDir):
            node.above = self
            self.nlink += 1

    def lookup(self, name: bytes) -> Inode | None:
        return self.entries.get(name)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        return [(name, node.ino, node.mode & S_IFMT) for name, node in self.entries.items()]


def copy_range(source: Source, offset: int, size: int, fd: int, at: int) -> None:
    """Copy `size` bytes of a source to `fd` at `at`. BadArchive if there are fewer."""
    while size > 0:
        data = source.pread(min(size, _CHUNK), offset)
        if not data:
            raise BadArchive("it ends early")
        view = memoryview(data)
        while view:
            count = os.pwrite(fd, view, at)
            view = view[count:]
            at += count
        offset += len(data)
        size -= len(data)


def host_source(path: str | os.PathLike[str]) -> tuple[FileSource, int]:
    """A host file as a source, and its mtime in ns."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    st = os.fstat(fd)
    if st.st_mode & S_IFMT != S_IFREG:
        os.close(fd)
        raise BadArchive(f"{os.fspath(path)} is no regular file")
    return FileSource(fd), st.st_mtime_ns
