"""PathFS: a filesystem in a few lines of Python, by overriding methods that get paths.

Layer: vfs, a filesystem behind inode.py's interface; pyfs.py and fsspecfs.py are made with it. May touch: memfds; the
methods run where they like: read() and write() in a thread of their own, so that other guests go on meanwhile.

How it is made: a file's bytes are read when it is opened. Up to `PathFS.whole` bytes they go into a memfd, which
guests then hold natively (mmap and execve work); a larger file is read in blocks, as guests ask. A file that is open
for writing is served through Python, from a memfd too, so that readers see what is written at once; what was written
goes to write() at fsync(2) and when the last descriptor is closed.
"""

from __future__ import annotations

import errno
import os
import time

from .inode import Inode, OpenContext, SuperBlock, err
from .memdata import MemData, MemfdPool
from .pathfile import BlockFile, WriteFile
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Stat, StatFs, now_ns
from .userwork import call, in_thread, log

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

    from .openfile import OpenFile
    from .vfs import Vfs

    Text = str | bytes

__all__ = ["Info", "PathFS"]


class Info:
    """What a path is. `kind`: "file", "directory" or "symlink"; `size` in bytes, None if it is only known when the
    file is read; `mtime` in seconds since the epoch; `mode` without type bits (by default 0644 or 0755, without the
    write bits where the filesystem cannot be written); `uid` and `gid`: by default those of this process, as a file
    has that it makes, so that an ordinary user's guest may write what is its user's."""

    __slots__ = ("gid", "kind", "mode", "mtime", "size", "target", "uid")

    def __init__(
        self,
        kind: str = "file",
        size: int | None = 0,
        *,
        mode: int | None = None,
        mtime: float | None = None,
        uid: int | None = None,
        gid: int | None = None,
        target: str = "",
    ) -> None:
        if kind not in _KINDS:
            raise ValueError(f"kind is file, directory or symlink, not {kind!r}")
        self.kind = kind
        self.size = size
        self.mode = mode
        self.mtime = mtime
        self.uid = os.geteuid() if uid is None else uid
        self.gid = os.getegid() if gid is None else gid
        self.target = target


_KINDS = {"file": S_IFREG, "directory": S_IFDIR, "symlink": S_IFLNK}


class PathFS(SuperBlock):
    """Subclass it. `path` is text without a leading slash, "" for the root. A missing path is None or
    FileNotFoundError; any OSError reaches the guest with its errno, another exception as EIO, with a line in the
    "ring3" log.

    To be overridden: info() and list(), read(), and for a filesystem that can be written those of write(),
    make_directory(), remove(), remove_directory() and rename() that it has; any of read() and write() may be `async`.
    """

    fstype = "python"
    magic = 0x52335059  # ours: "R3PY"
    stable = False
    #: Files up to this size are read as a whole when they are opened, larger ones in blocks.
    whole = 16 << 20
    #: Seconds for which info() and list() hold.
    ttl = 1.0

    def __init__(self, source: str = "python") -> None:
        super().__init__(source)
        self.pool = MemfdPool()
        self.vfs: Vfs | None = None
        self._nodes: dict[str, PathNode] = {}
        self._inos: dict[str, int] = {}
        self.root: Inode = PathNode(self, "", self.ino_of(""), Info("directory"))
        self.read_only = not any(
            getattr(type(self), name) is not getattr(PathFS, name)
            for name in ("write", "make_directory", "remove", "remove_directory", "rename")
        )

    # -- to be overridden ------------------------------------------------------------------------------------

    def info(self, path: str) -> Info | None:
        """What the path is; None if there is nothing."""
        raise err(errno.ENOSYS)

    def list(self, path: str) -> Iterable[str]:
        """The names in a directory."""
        return ()

    def read(self, path: str, offset: int, size: int) -> Text | Awaitable[Text]:
        """`size` bytes from `offset` on, fewer only at the end; `size` -1: all there are."""
        raise err(errno.EACCES)

    def write(self, path: str, data: bytes) -> None | Awaitable[None]:
        """Make the file have these contents; it may be new."""
        raise err(errno.EROFS)

    def make_directory(self, path: str) -> None:
        raise err(errno.EPERM)

    def remove(self, path: str) -> None:
        """Remove a file."""
        raise err(errno.EPERM)

    def remove_directory(self, path: str) -> None:
        """Remove a directory, which is empty."""
        raise err(errno.EPERM)

    def rename(self, old: str, new: str) -> None:
        """Rename a file or directory; a file that is at `new` is replaced."""
        raise err(errno.EXDEV)

    # -- the machinery ---------------------------------------------------------------------------------------

    def attached(self, vfs: Vfs) -> None:
        self.pool = vfs.pool
        self.vfs = vfs

    def statfs(self) -> StatFs:
        return StatFs(self.magic, fsid=self.dev)

    def sync(self) -> None:
        for node in list(self._nodes.values()):
            node.flush()

    def close(self) -> None:
        try:
            self.sync()
        except OSError as e:
            log(f"{self.fstype}: what was written could not be stored: {e}")

    def ino_of(self, path: str) -> int:
        return self._inos.setdefault(path, len(self._inos) + 1)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """One of the methods, with its exceptions as OSError; an async one is run to its end."""
        return call(self.fstype, function, *arguments)

    def node(self, path: str) -> PathNode | None:
        """The inode of a path; None if there is nothing."""
        known = self._nodes.get(path)
        if known is not None and known.fresh:
            return known
        try:
            info = self.call(self.info, path)
        except FileNotFoundError:
            info = None
        if info is None:
            if known is not None:
                if known.writers:
                    return known  # being made: it is stored when it is closed
                del self._nodes[path]
                known.nlink = 0
            return None
        if known is None or (known.mode & S_IFMT) != _KINDS[info.kind]:
            known = self._nodes[path] = PathNode(self, path, self.ino_of(path), info)
            self._forget_old()
        else:
            known.update(info)
        return known

    def _forget_old(self) -> None:
        """Bound what is remembered."""
        if len(self._nodes) > 4096:
            for path, node in list(self._nodes.items())[:1024]:
                if not node.writers:
                    del self._nodes[path]

    def moved(self, old: str, new: str) -> None:
        """A path was renamed: the objects beneath go along."""
        for path in [p for p in self._nodes if p == new or p.startswith(new + "/")]:
            self._nodes.pop(path).nlink = 0
        for path in [p for p in self._nodes if p == old or p.startswith(old + "/")]:
            node = self._nodes.pop(path)
            node.path = new + path[len(old) :]
            self._nodes[node.path] = node
            self._inos[node.path] = self._inos.pop(path, node.ino)

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """call() in a thread, while other guests go on."""
        assert self.vfs is not None
        return await in_thread(self.vfs, self.call, function, *arguments)


def _bytes(data: Text) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


class PathNode(Inode):
    """One path. Attributes that are changed (chmod, chown, utimensat) are kept as long as the node is."""

    __slots__ = ("_known_at", "_ours", "data", "dirty", "names", "path", "target", "version", "writers")

    sb: PathFS

    def __init__(self, sb: PathFS, path: str, ino: int, info: Info) -> None:
        super().__init__(
            sb, ino, _KINDS[info.kind], info.uid, info.gid, nlink=2 if info.kind == "directory" else 1
        )
        self.path = path
        self.btime = 0
        self.target = ""
        self.data: MemData | None = None  # the contents of `version`, or what is being written
        self.version: Any = None
        self.writers: list[WriteFile] = []
        self.dirty = False
        self.names: list[str] | None = None
        self._ours = False  # mode, owner, times are what was set here
        self.update(info)

    def update(self, info: Info) -> None:
        self._known_at = time.monotonic()
        self.target = info.target
        self.names = None
        if not self._ours:
            bits = (0o755 if info.kind == "directory" else 0o644) & (
                0o555 if getattr(self.sb, "read_only", 0) else -1
            )
            self.mode = _KINDS[info.kind] | (bits if info.mode is None else info.mode & 0o7777)
            self.uid, self.gid = info.uid, info.gid
        if info.mtime is not None and not self.writers:
            self.atime = self.mtime = self.ctime = int(info.mtime * 1_000_000_000)
        if info.size is not None and not self.writers:
            self.size = info.size
        self.version = (info.size, info.mtime) if info.size is not None and info.mtime is not None else None

    @property
    def fresh(self) -> bool:
        return bool(self.writers) or not self.path or time.monotonic() - self._known_at < self.sb.ttl

    @property
    def forgets(self) -> bool:  # type: ignore[override]
        return True

    def getattr(self) -> Stat:
        if self.path and not self.fresh:
            self.sb.node(self.path)
        if self.writers and self.data is not None:
            self.size, _, _, self.mtime, self.ctime = self.data.stat()
        return super().getattr()

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
        if size is not None:
            if self.mode & S_IFMT != S_IFREG:
                raise err(errno.EINVAL)
            data = self.load(b"" if size == 0 else None)
            data.truncate(size, now_ns())
            self.size = size
            self.dirty = True
            if not self.writers:
                self.flush()
        if any(value is not None for value in (mode, uid, gid, atime, mtime)):
            self._ours = True
            super().setattr(mode=mode, uid=uid, gid=gid, atime=atime, mtime=mtime)

    def readlink(self, task: Any = None) -> bytes:
        return os.fsencode(self.target)

    # -- directories -----------------------------------------------------------------------------------------

    def _below(self, name: bytes) -> str:
        text = os.fsdecode(name)
        return f"{self.path}/{text}" if self.path else text

    def lookup(self, name: bytes) -> Inode | None:
        self.settle()
        return self.sb.node(self._below(name))

    def readdir(self) -> list[tuple[bytes, int, int]]:
        sb = self.sb
        self.settle()
        names = {*sb.call(lambda: list(sb.list(self.path)))}
        prefix = f"{self.path}/" if self.path else ""
        for path, node in sb._nodes.items():  # those that are being made
            if node.writers and path.startswith(prefix) and "/" not in path[len(prefix) :]:
                names.add(path[len(prefix) :])
        found = []
        for name in sorted(names):
            known = sb._nodes.get(prefix + name)
            kind = known.mode & S_IFMT if known is not None and known.fresh else 0
            found.append((os.fsencode(name), sb.ino_of(prefix + name), kind))
        return found

    def settle(self) -> None:
        """Store what was written through descriptors that are closed already."""
        vfs = self.sb.vfs
        if vfs is not None:
            writers = [w for node in list(self.sb._nodes.values()) for w in node.writers]
            if writers:
                vfs.files.settle(writers)

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        path = self._below(name)
        self.sb.call(self.sb.write, path, b"")
        return self._made(path, mode, uid, gid)

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        path = self._below(name)
        self.sb.call(self.sb.make_directory, path)
        return self._made(path, mode, uid, gid)

    def _made(self, path: str, mode: int, uid: int, gid: int) -> Inode:
        node = self.sb.node(path)
        if node is None:
            raise err(errno.EIO)
        node.mode = node.mode & S_IFMT | mode
        node.uid, node.gid, node._ours = uid, gid, True
        self.mtime = self.ctime = now_ns()
        return node

    def unlink(self, name: bytes, inode: Inode) -> None:
        self._removed(name, inode, self.sb.remove)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        if inode.readdir():
            raise err(errno.ENOTEMPTY)
        self._removed(name, inode, self.sb.remove_directory)

    def _removed(self, name: bytes, inode: Inode, function: Callable[[str], None]) -> None:
        path = self._below(name)
        self.sb.call(function, path)
        self.sb._nodes.pop(path, None)
        self.sb._inos.pop(path, None)
        inode.nlink = 0
        self.mtime = self.ctime = now_ns()

    def rename(self, name: bytes, newdir: Inode, newname: bytes, flags: int) -> None:
        assert isinstance(newdir, PathNode)
        if flags & 2:
            raise err(errno.EINVAL)  # RENAME_EXCHANGE
        old, new = self._below(name), newdir._below(newname)
        other = self.sb.node(new)
        if other is not None and other.is_dir:
            newdir.rmdir(newname, other)
        node = self.sb.node(old)
        if node is not None:
            node.flush()
        self.sb.call(self.sb.rename, old, new)
        self.sb.moved(old, new)
        self.mtime = self.ctime = newdir.mtime = newdir.ctime = now_ns()

    # -- contents --------------------------------------------------------------------------------------------

    def load(self, contents: bytes | None = None) -> MemData:
        """The bytes as a MemData; `contents`: these, else what read() gives."""
        if self.data is None:
            if contents is None:
                contents = _bytes(self.sb.call(self.sb.read, self.path, 0, -1))
            self.keep(contents)
        assert self.data is not None
        return self.data

    def keep(self, contents: bytes) -> None:
        self.data = MemData(self.sb.pool, self.mtime)
        self.data.load(contents)
        self.size = len(contents)

    def flush(self) -> None:
        """Give what was written to write(). Raises OSError."""
        if self.dirty and self.data is not None and self.nlink:
            self.sb.call(self.sb.write, self.path, self.data.read())
        self.dirty = False
        self._known_at = 0.0

    def open(self, ctx: OpenContext) -> int | OpenFile | Awaitable[int | OpenFile]:
        if self.mode & S_IFMT != S_IFREG:
            return super().open(ctx)
        self.settle()
        if not self.writers:
            known = self.version
            self.sb.node(self.path)
            if self.version is None or self.version != known or ctx.flags & os.O_TRUNC:
                self.data = None
        if ctx.flags & os.O_TRUNC:
            self.setattr(size=0)
        writing = bool(ctx.flags & os.O_ACCMODE)
        if self.data is not None:
            return self._opened(ctx)
        if not writing and self.version is not None and self.size > self.sb.whole:
            return BlockFile(ctx.path, self, ctx.flags)
        if ctx.task is None or self.mode & 0o111:  # execve(2) does not wait
            self.load()
            return self._opened(ctx)
        return self._open_later(ctx)

    async def _open_later(self, ctx: OpenContext) -> int | OpenFile:
        contents = _bytes(await self.sb.in_thread(self.sb.read, self.path, 0, -1))
        if self.data is None:
            self.keep(contents)
        return self._opened(ctx)

    def _opened(self, ctx: OpenContext) -> int | OpenFile:
        assert self.data is not None
        if ctx.flags & os.O_ACCMODE:
            return WriteFile(ctx.path, self, ctx.flags)
        return self.data.open(ctx.flags & ~os.O_TRUNC)
