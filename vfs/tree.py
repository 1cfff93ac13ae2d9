"""TreePath: the guest's tree for the user's own Python, shaped like pathlib.Path.

Layer: top of the vfs; what `Sandbox.root` gives out. May touch: the Vfs, under the world's lock.

A TreePath acts as virtual root and sees what guests see, while they run and after. Paths are joined as text;
".." and symlinks are resolved by the world, so nothing here ever reaches the host's own tree.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import stat

from . import attrops, dirops
from .inode import err
from .openfile import OpenDir, OpenFile
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import IO, Any

    from .mount import Path
    from .stat import Stat
    from .vfs import Vfs


class TreePath:
    """A path in a world's tree. `box.root / "etc/hosts"`; immutable, comparable, hashable.

    Every method that touches the tree raises OSError (FileNotFoundError, ...) as os and pathlib do.
    """

    __slots__ = ("_lock", "_path", "_vfs")

    def __init__(
        self, vfs: Vfs, path: str | bytes = "/", *, lock: AbstractContextManager[Any] | None = None
    ) -> None:
        """`lock` is held around each access (the Sandbox's); it must be reentrant and reusable."""
        from contextlib import nullcontext

        text = os.fsdecode(path)
        self._vfs = vfs
        self._lock: AbstractContextManager[Any] = lock if lock is not None else nullcontext()
        self._path = "/" + "/".join(p for p in text.split("/") if p not in ("", "."))

    def _new(self, path: str) -> TreePath:
        return TreePath(self._vfs, path, lock=self._lock)

    # -- the path as text ------------------------------------------------------------------------------------

    def __truediv__(self, other: str | bytes | TreePath) -> TreePath:
        """Join; an absolute `other` starts again at the world's root."""
        if isinstance(other, TreePath):
            return other
        text = os.fsdecode(other)
        return self._new(text if text.startswith("/") else f"{self._path}/{text}")

    def joinpath(self, *others: str | bytes) -> TreePath:
        path = self
        for other in others:
            path = path / other
        return path

    def __str__(self) -> str:
        return self._path

    def __bytes__(self) -> bytes:
        return os.fsencode(self._path)

    def __repr__(self) -> str:
        return f"TreePath({self._path!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TreePath) and self._vfs is other._vfs and self._path == other._path

    def __hash__(self) -> int:
        return hash((id(self._vfs), self._path))

    def __lt__(self, other: TreePath) -> bool:
        return self.parts < other.parts

    @property
    def parts(self) -> tuple[str, ...]:
        return ("/", *(p for p in self._path.split("/") if p))

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1]

    @property
    def stem(self) -> str:
        return os.path.splitext(self.name)[0]

    @property
    def parent(self) -> TreePath:
        return self._new(self._path.rpartition("/")[0] or "/")

    def with_name(self, name: str) -> TreePath:
        return self.parent / name

    def relative_to(self, other: TreePath) -> str:
        """The text that leads from `other` to this path; ValueError if this is not beneath it."""
        mine, base = self.parts, other.parts
        if mine[: len(base)] != base:
            raise ValueError(f"{self} is not beneath {other}")
        return "/".join(mine[len(base) :]) or "."

    # -- asking ----------------------------------------------------------------------------------------------

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(...)` under the lock, with this path in the exception's text."""
        with self._lock:
            try:
                return function(*arguments)
            except OSError as e:
                raise OSError(e.errno, os.strerror(e.errno or errno.EIO), self._path) from None

    def _place(self, follow: bool = True) -> Path:
        return self._vfs.lookup(self._vfs.local, None, bytes(self), follow)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As os.stat()."""
        return _stat_result(self._call(lambda: self._place(follow_symlinks).inode.getattr()))

    def lstat(self) -> os.stat_result:
        return self.stat(follow_symlinks=False)

    def _kind(self, follow: bool = True) -> int:
        """The S_IFMT bits, 0 if there is nothing."""
        with self._lock:
            try:
                return self._place(follow).inode.mode & S_IFMT
            except OSError:
                return 0

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return bool(self._kind(follow_symlinks))

    def is_file(self) -> bool:
        return self._kind() == S_IFREG

    def is_dir(self) -> bool:
        return self._kind() == S_IFDIR

    def is_symlink(self) -> bool:
        return self._kind(False) == S_IFLNK

    def readlink(self) -> str:
        return os.fsdecode(
            self._call(lambda: dirops.readlink(self._vfs, self._vfs.local, self._place(False)))
        )

    def resolve(self) -> TreePath:
        """The path without symlinks and ".."; the object has to exist."""
        return self._new(os.fsdecode(self._call(lambda: self._vfs.path_name(self._place()))))

    # -- directories -----------------------------------------------------------------------------------------

    def iterdir(self) -> Iterator[TreePath]:
        """The entries of the directory, as they are now."""

        def names() -> list[bytes]:
            place = self._place()
            if not place.inode.is_dir:
                raise err(errno.ENOTDIR)
            return [name for name, _, _ in OpenDir(place, place.inode, 0).listing()[2:]]

        for name in self._call(names):
            yield self / name

    def walk(self) -> Iterator[TreePath]:
        """Everything beneath this directory, parents first; symlinks are not followed."""
        for child in sorted(self.iterdir()):
            yield child
            if child._kind(False) == S_IFDIR:
                yield from child.walk()

    def rglob(self, pattern: str) -> Iterator[TreePath]:
        """Everything beneath this directory whose last parts match `pattern` (fnmatch, part by part)."""
        wanted = [p for p in pattern.split("/") if p]
        for path in self.walk():
            if _matches(path.parts[len(self.parts) :], wanted):
                yield path

    def glob(self, pattern: str) -> Iterator[TreePath]:
        """Entries that match `pattern` part by part; "**" stands for any directories."""
        first, _, rest = pattern.strip("/").partition("/")
        if first == "**":
            yield from self.rglob(rest or "*")
            return
        for child in sorted(self.iterdir()):
            if fnmatch.fnmatchcase(child.name, first):
                if not rest:
                    yield child
                elif child.is_dir():
                    yield from child.glob(rest)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the directory, with its parents if asked."""
        try:
            self._call(dirops.mkdir, self._vfs, self._vfs.local, None, bytes(self), mode)
        except FileNotFoundError:
            if not parents or self._path == "/":
                raise
            self.parent.mkdir(parents=True, exist_ok=True)
            self.mkdir(mode, exist_ok=exist_ok)
        except FileExistsError:
            if not exist_ok or not self.is_dir():
                raise

    def rmdir(self) -> None:
        self._call(dirops.rmdir, self._vfs, self._vfs.local, None, bytes(self))

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._call(dirops.unlink, self._vfs, self._vfs.local, None, bytes(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: str | TreePath) -> TreePath:
        """Rename, replacing a file that is there; returns the new path."""
        new = self.parent / target
        self._call(dirops.rename, self._vfs, self._vfs.local, None, bytes(self), None, bytes(new))
        return new

    replace = rename

    def symlink_to(self, target: str | bytes | TreePath) -> None:
        """Make this path a symlink to `target`."""
        text = bytes(target) if isinstance(target, TreePath) else os.fsencode(target)
        self._call(dirops.symlink, self._vfs, self._vfs.local, text, None, bytes(self))

    def hardlink_to(self, target: TreePath) -> None:
        """Make this path a further name of the file `target`."""
        self._call(lambda: dirops.link(self._vfs, self._vfs.local, target._place(False), None, bytes(self)))

    # -- attributes ------------------------------------------------------------------------------------------

    def chmod(self, mode: int) -> None:
        self._call(lambda: attrops.chmod(self._vfs, self._vfs.local, self._place(), mode))

    def chown(self, uid: int, gid: int = -1, *, follow_symlinks: bool = True) -> None:
        self._call(lambda: attrops.chown(self._vfs, self._vfs.local, self._place(follow_symlinks), uid, gid))

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file, or set the times of an existing one to now."""
        flags = os.O_CREAT | os.O_WRONLY | (0 if exist_ok else os.O_EXCL)
        with self._lock:
            if exist_ok and self.exists():
                self._call(lambda: attrops.utimes(self._vfs, self._vfs.local, self._place(), None))
            else:
                opened = self._open_native(flags, mode)
                if isinstance(opened, int):
                    os.close(opened)
                else:
                    opened.release()

    # -- contents --------------------------------------------------------------------------------------------

    def _open_native(self, flags: int, mode: int = 0o666) -> int | OpenFile:
        def opened() -> Any:
            _, result = self._vfs.open(self._vfs.local, None, bytes(self), flags, mode)
            if isinstance(result, (int, OpenFile)):
                return result
            result.close()  # type: ignore[attr-defined]  # a coroutine: a FIFO without a peer
            raise err(errno.EAGAIN)

        result: int | OpenFile = self._call(opened)
        return result

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A Python file object, as the built-in open(). Text is UTF-8 unless `encoding` says otherwise.

        A regular file of memory or of the host is the very object that guests see; one that Python serves is read
        once if it is opened for reading only (/proc), else call by call.
        """
        result = self._open_native(_open_flags(mode))
        text = "b" not in mode
        encoding = encoding or "utf-8" if text else None
        if isinstance(result, int):
            if stat.S_ISDIR(os.fstat(result).st_mode):
                os.close(result)
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
            return open(result, mode.replace("x", "w"), buffering, encoding, errors, newline)
        raw: IO[bytes]
        if result.writable:
            from .pyio import OpenFileIO

            served = OpenFileIO(result, self._lock, self._path)
            if buffering == 0 and not text:
                return served  # type: ignore[return-value]
            raw = io.BufferedRandom(served) if result.readable else io.BufferedWriter(served)
        else:
            raw = io.BytesIO(self._call(_read_generated, result))
        return io.TextIOWrapper(raw, encoding, errors, newline) if text else raw

    def read_bytes(self) -> bytes:
        with self.open("rb") as f:
            data: bytes = f.read()
            return data

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        with self.open("r", encoding=encoding, errors=errors) as f:
            text: str = f.read()
            return text

    def write_bytes(self, data: bytes) -> int:
        """Replace the contents; the file is made if it is missing."""
        with self.open("wb") as f:
            return f.write(data)

    def write_text(
        self, text: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        with self.open("w", encoding=encoding, errors=errors, newline=newline) as f:
            return f.write(text)


def _matches(parts: tuple[str, ...], wanted: list[str]) -> bool:
    """Do the last parts match the pattern's parts?"""
    if len(parts) < len(wanted):
        return False
    return all(
        fnmatch.fnmatchcase(p, w) for p, w in zip(parts[len(parts) - len(wanted) :], wanted, strict=True)
    )


def _open_flags(mode: str) -> int:
    """open(2)'s flags for a mode of the built-in open(); ValueError for others."""
    kinds = {"r": 0, "w": os.O_CREAT | os.O_TRUNC, "x": os.O_CREAT | os.O_EXCL, "a": os.O_CREAT | os.O_APPEND}
    kind = [c for c in mode if c in kinds]
    if len(kind) != 1 or set(mode) - set("rwxabt+") or len(set(mode)) != len(mode) or {"b", "t"} <= set(mode):
        raise ValueError(f"invalid mode: {mode!r}")
    access = os.O_RDWR if "+" in mode else os.O_RDONLY if kind[0] == "r" else os.O_WRONLY
    return access | kinds[kind[0]] | os.O_CLOEXEC


def _read_generated(file: OpenFile) -> bytes:
    """All of a Python-backed file."""
    parts: list[bytes] = []
    try:
        while True:
            data = file.do_read(None, 65536)
            if not isinstance(data, bytes):
                data.close()  # type: ignore[attr-defined]
                raise err(errno.EAGAIN)
            if not data:
                return b"".join(parts)
            parts.append(data)
    finally:
        file.release()


def _stat_result(st: Stat) -> os.stat_result:
    """Our Stat as os.stat() would give it."""
    a, m, c = st.atime, st.mtime, st.ctime
    seconds = (a // 1000000000, m // 1000000000, c // 1000000000)
    return os.stat_result(
        (st.mode, st.ino, st.dev, st.nlink, st.uid, st.gid, st.size, *seconds),
        {
            "st_atime": a / 1e9,
            "st_mtime": m / 1e9,
            "st_ctime": c / 1e9,
            "st_atime_ns": a,
            "st_mtime_ns": m,
            "st_ctime_ns": c,
            "st_blksize": st.blksize,
            "st_blocks": st.blocks,
            "st_rdev": st.rdev,
        },
    )
