"""BoxFiles: a world's files as a whole: snapshots, differences, export. What `Sandbox.fs` gives out.

Layer: top of the vfs, beside tree.py. May touch: the Vfs, under the world's lock; the file that is exported to.
"""

from __future__ import annotations

import io
import os
from typing import IO, TYPE_CHECKING, NamedTuple

from .mount import Path
from .namei import path_bytes
from .stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, major, minor
from .state import Base, Entry, FsState, Manifest, chunks_of, compare, entry_of

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any

    from .inode import Inode, SuperBlock
    from .mount import Mount
    from .vfs import Vfs

__all__ = ["BoxFiles", "Change", "Diff", "Snapshot"]

_GENERATED = {"proc", "sysfs", "devtmpfs", "devpts", "cgroup2", "mqueue"}


class Change(NamedTuple):
    """`kind` is "added", "changed" or "deleted"; `what` says what was changed: "content", "mode", "owner", "mtime",
    "xattrs", "type"."""

    kind: str
    path: str
    what: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind[0].upper()} {self.path}"


class Diff(list[Change]):
    """Changes by path. `str()` lists them as docker diff does: A, C or D and the path."""

    def _of(self, kind: str) -> list[str]:
        return [change.path for change in self if change.kind == kind]

    @property
    def added(self) -> list[str]:
        return self._of("added")

    @property
    def changed(self) -> list[str]:
        return self._of("changed")

    @property
    def deleted(self) -> list[str]:
        return self._of("deleted")

    def __str__(self) -> str:
        return "".join(f"{change}\n" for change in self)


class Snapshot:
    """The files of a world at one time. `left_out`: mount points of host directories that are written for real, which
    no snapshot can bring back."""

    def __init__(
        self, owner: BoxFiles, states: list[tuple[SuperBlock, bytes, FsState]], left_out: list[str]
    ) -> None:
        self.owner = owner
        self.states = states
        self.left_out = left_out

    def __repr__(self) -> str:
        return f"<Snapshot of {sum(len(state.manifest.entries) for _, _, state in self.states)} paths>"


class BoxFiles:
    """`vfs`: the world; `lock`: held around each operation (the Sandbox's)."""

    def __init__(self, vfs: Vfs, lock: AbstractContextManager[Any]) -> None:
        self._vfs = vfs
        self._lock = lock

    # -- snapshots -------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The state of every filesystem that the world writes in memory. No bytes are copied until someone writes,
        but of files that a guest has open for writing at this moment."""
        with self._lock:
            states = []
            left_out = []
            for mount, place in self._mounts():
                state = mount.sb.snapshot()
                if state is not None:
                    states.append((mount.sb, place, state))
                elif not mount.read_only and mount.sb.fstype not in _GENERATED:
                    left_out.append(os.fsdecode(place) or "/")
            return Snapshot(self, states, left_out)

    def restore(self, snapshot: Snapshot) -> None:
        """Put all files back as they were. Guests may be running: their descriptors and directories are those of
        the restored tree. Mounts stay as they are. Raises ValueError for a snapshot of another sandbox."""
        if snapshot.owner is not self:
            raise ValueError("the snapshot is of another sandbox")
        with self._lock:
            for _, _, state in snapshot.states:
                state.restore()
            self._vfs.mounts.walks.clear()

    def _mounts(self) -> Iterator[tuple[Mount, bytes]]:
        """Each filesystem once, with the path it is mounted on ("" for the root)."""
        seen: set[int] = set()
        for mount in self._vfs.mounts.mounts:
            if id(mount.sb) not in seen:
                seen.add(id(mount.sb))
                place, _ = path_bytes(Path(mount, mount.root))
                yield mount, b"" if place == b"/" else place

    # -- differences -----------------------------------------------------------------------------------------

    def diff(self, since: Snapshot | None = None) -> Diff:
        """What was added, changed and deleted since a snapshot, or against what the world was made of (the host's
        tree, an image's layers; a memory filesystem was empty)."""
        with self._lock:
            then = {} if since is None else {id(sb): state.manifest for sb, _, state in since.states}
            changes = []
            points = {place for _, place in self._mounts()}
            for mount, place in self._mounts():
                state = mount.sb.snapshot()
                if state is None:
                    continue
                old = then.get(id(mount.sb))
                base = Base(self._vfs, mount.sb.base())
                for kind, path, what in compare(base, old or _empty(state.manifest), state.manifest):
                    full = place + b"/" + path
                    if full not in points:
                        changes.append(Change(kind, os.fsdecode(full), tuple(what)))
            return Diff(sorted(changes, key=lambda change: change.path))

    # -- export ----------------------------------------------------------------------------------------------

    def as_dict(self, path: str | os.PathLike[str] = "/") -> dict[str, bytes | str | None]:
        """Everything beneath a directory: {path from there: bytes of a file, text of a symlink, None}."""
        found: dict[str, bytes | str | None] = {}
        with self._lock:
            for name, inode in self._beneath(os.fsencode(path)):
                kind = inode.mode & S_IFMT
                value: bytes | str | None = None
                if kind == S_IFREG:
                    value = b"".join(chunks_of(self._vfs, inode))
                elif kind == S_IFLNK:
                    value = os.fsdecode(inode.readlink())
                found[os.fsdecode(name)] = value
        return found

    def export(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        path: str | os.PathLike[str] = "/",
        *,
        changes: bool = False,
        since: Snapshot | None = None,
    ) -> None:
        """Write a tar archive (pax: owners, times in ns, links, devices, extended attributes).

        Of everything beneath `path`, other than what ring3 generates (/proc, /sys, /dev); or with `changes` of what
        diff(since) tells, as a container layer, in which `.wh.NAME` stands for what was deleted. A path that ends in
        .gz, .bz2 or .xz is compressed.
        """
        import tarfile

        target: dict[str, Any] = {"fileobj": file}
        mode = "w|"
        if isinstance(file, (str, os.PathLike)):
            ending = os.path.splitext(os.fspath(file))[1][1:]
            target, mode = {"name": os.fspath(file)}, f"w:{ending}" if ending in ("gz", "bz2", "xz") else "w"
        opener: Any = tarfile.open
        with self._lock, opener(mode=mode, format=tarfile.PAX_FORMAT, **target) as tar:
            writer = _TarWriter(self._vfs, tar)
            if changes or since is not None:
                self._export_changes(writer, self.diff(since))
            else:
                for name, inode in self._beneath(os.fsencode(path)):
                    writer.add(name, inode)

    def _export_changes(self, writer: _TarWriter, diff: Diff) -> None:
        gone: set[str] = set()
        for change in diff:
            path = change.path
            if change.kind == "deleted":
                above, _, name = path.rpartition("/")
                if above not in gone:
                    writer.whiteout(os.fsencode(f"{above}/.wh.{name}".lstrip("/")))
                gone.add(path)
                continue
            place = self._vfs.lookup(self._vfs.local, None, os.fsencode(path), False)
            if path != "/":
                writer.add(os.fsencode(path.lstrip("/")), place.inode)

    def _beneath(self, path: bytes) -> Iterator[tuple[bytes, Inode]]:
        """Everything beneath a directory, parents first, by path from there; over mounts, not into generated ones."""
        vfs = self._vfs
        todo = [(b"", vfs.lookup(vfs.local, None, path))]
        while todo:
            prefix, place = todo.pop()
            names = sorted(name for name, _, _ in place.inode.readdir())
            for name in names:
                full = (path.rstrip(b"/") or b"") + b"/" + prefix + name
                try:
                    child = vfs.lookup(vfs.local, None, full, False)
                except FileNotFoundError:
                    continue
                yield prefix + name, child.inode
                if child.inode.is_dir and child.mount.sb.fstype not in _GENERATED:
                    todo.append((prefix + name + b"/", child))


def _empty(manifest: Manifest) -> Manifest:
    """The manifest of a filesystem that nobody has touched: only the root is there."""
    nothing = Manifest()
    if b"" in manifest.entries:
        nothing.entries[b""] = manifest.entries[b""]
    return nothing


class _TarWriter:
    """Writes inodes into a tar archive, hard links as links."""

    def __init__(self, vfs: Vfs, tar: tarfile.TarFile) -> None:
        self._vfs = vfs
        self._tar = tar
        self._names: dict[tuple[int, int], str] = {}

    def add(self, name: bytes, inode: Inode) -> None:
        import tarfile

        entry = entry_of(self._vfs, inode)
        kind = entry.mode & S_IFMT
        types = {
            S_IFREG: tarfile.REGTYPE,
            S_IFDIR: tarfile.DIRTYPE,
            S_IFLNK: tarfile.SYMTYPE,
            S_IFCHR: tarfile.CHRTYPE,
            S_IFBLK: tarfile.BLKTYPE,
            S_IFIFO: tarfile.FIFOTYPE,
        }
        if kind not in types:
            return  # a socket: no tar holds one
        info = self._info(name, entry)
        info.type = types[kind]
        key = (inode.getattr().dev, inode.ino)
        if kind != S_IFDIR and entry.nlink > 1:
            if key in self._names:
                info.type, info.linkname = tarfile.LNKTYPE, self._names[key]
                self._tar.addfile(info)
                return
            self._names[key] = info.name
        if kind == S_IFLNK:
            assert isinstance(entry.content, bytes)
            info.linkname = os.fsdecode(entry.content)
        elif kind in (S_IFCHR, S_IFBLK):
            info.devmajor, info.devminor = major(entry.rdev), minor(entry.rdev)
        if kind == S_IFREG:
            info.size = entry.size
            self._tar.addfile(info, _Reader(chunks_of(self._vfs, inode), info.name))
        else:
            self._tar.addfile(info)

    def _info(self, name: bytes, entry: Entry) -> tarfile.TarInfo:
        import tarfile

        info = tarfile.TarInfo(os.fsdecode(name))
        info.mode, info.uid, info.gid = entry.mode & 0o7777, entry.uid, entry.gid
        info.mtime = entry.mtime // 1000000000
        headers = {}
        if entry.mtime % 1000000000:
            headers["mtime"] = f"{entry.mtime // 1000000000}.{entry.mtime % 1000000000:09}"
        for key, value in (entry.xattrs or {}).items():
            headers[f"SCHILY.xattr.{os.fsdecode(key)}"] = value.decode("utf-8", "surrogateescape")
        info.pax_headers = headers
        return info

    def whiteout(self, name: bytes) -> None:
        import tarfile

        info = tarfile.TarInfo(os.fsdecode(name))
        info.mode = 0o600
        self._tar.addfile(info)


class _Reader(io.RawIOBase):
    """Chunks as a file, for tarfile."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._name = name
        self._left = b""

    def read(self, count: int = -1) -> bytes:
        while len(self._left) < count:
            try:
                more = next(self._chunks, b"")
            except OSError as e:  # an ordinary user may not read every file of the host
                raise OSError(e.errno, e.strerror, f"/{self._name}") from None
            if not more:
                break
            self._left += more
        data, self._left = self._left[:count], self._left[count:]
        return data
