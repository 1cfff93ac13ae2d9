"""Snapshots and differences: what a filesystem was, what it is, how to go back.

Layer: vfs, beside the filesystems; memstate.py, cowstate.py and overlaystate.py know the three that can be
snapshotted. May touch: inodes, memfds.

A *manifest* is a filesystem's tree as far as it differs from its *base* (the host's directory beneath a CowFS, the
lower layers of an OverlayFS, nothing beneath a MemoryFS): an Entry for each path that was made or touched, and the
paths of the base that were removed. A snapshot is a manifest and what it takes to put the very same inodes back
into that state, so that whoever holds one (a working directory, a descriptor) is in the restored tree. Bytes are
shared: a Blob copies them only when somebody is about to write (memdata.py tells it).
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from .copyup import copy_file
from .inode import Inode, OpenContext, err
from .openfile import OpenFile
from .perm import ROOT
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    from .memdata import MemData
    from .vfs import Vfs

    class Content(Protocol):
        """The bytes of a regular file at some time."""

        def chunks(self) -> Iterator[bytes]: ...


_CHUNK = 1 << 20
_SMALL = 1 << 20  # bytes objects up to here, a memfd above


class Blob:
    """The bytes of a MemData as they are now, whatever becomes of it."""

    __slots__ = ("__weakref__", "_bytes", "_data", "_fd")

    def __init__(self, data: MemData) -> None:
        self._data: MemData | None = data
        self._bytes = b""
        self._fd = -1

    @property
    def untouched(self) -> bool:
        """Does the MemData still have these bytes?"""
        return self._data is not None

    def keep(self) -> None:
        """The MemData is about to change: take a copy."""
        data, self._data = self._data, None
        if data is None:
            return
        if data.stat()[0] <= _SMALL:
            self._bytes = data.read()
            return
        from .memfd import new_memfd

        self._fd = new_memfd()
        copy_file(data.fd(), self._fd, None)

    def chunks(self) -> Iterator[bytes]:
        if self._data is not None:
            self._data.fd()
            yield from _chunks_of(self._data.fd())
        elif self._fd >= 0:
            yield from _chunks_of(self._fd)
        elif self._bytes:
            yield self._bytes

    def put_back(self, data: MemData) -> None:
        """Make the MemData have these bytes again."""
        if self._data is data:
            return  # nobody has written it
        if self._fd >= 0:
            data.load(b"")
            fd = data.open(os.O_WRONLY)
            try:
                copy_file(self._fd, fd, None)
            finally:
                os.close(fd)
        else:
            data.load(self._bytes)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def put_back(data: MemData, content: Content | bytes) -> None:
    """Make a MemData have the bytes that freeze() gave."""
    if isinstance(content, Blob):
        content.put_back(data)
    elif isinstance(content, bytes) and not data.has(content):
        data.load(content)


def _chunks(content: Content | bytes) -> Iterator[bytes]:
    return iter((content,) if content else ()) if isinstance(content, bytes) else content.chunks()


class InodeContent:
    """The bytes of a file that nobody writes through us (of a lower layer, of the host)."""

    __slots__ = ("_inode", "_vfs")

    def __init__(self, vfs: Vfs, inode: Inode) -> None:
        self._vfs = vfs
        self._inode = inode

    def chunks(self) -> Iterator[bytes]:
        return chunks_of(self._vfs, self._inode)


def _chunks_of(fd: int) -> Iterator[bytes]:
    offset = 0
    while data := os.pread(fd, _CHUNK, offset):
        yield data
        offset += len(data)


def chunks_of(vfs: Vfs, inode: Inode) -> Iterator[bytes]:
    """The bytes of a regular file of any filesystem. Raises OSError."""
    opened = inode.open(OpenContext(vfs, vfs.root, os.O_RDONLY, ROOT))
    if isinstance(opened, int):
        try:
            yield from _chunks_of(opened)
        finally:
            os.close(opened)
    elif isinstance(opened, OpenFile):
        try:
            while data := opened.do_read(None, _CHUNK):
                if not isinstance(data, bytes):
                    data.close()  # type: ignore[attr-defined]  # a coroutine
                    raise err(5)
                yield data
        finally:
            opened.release()
    else:
        opened.close()  # type: ignore[attr-defined]


def same_content(one: Content | bytes, other: Content | bytes) -> bool:
    """Compare byte for byte, however the two are cut."""
    if one is other:
        return True
    a, b = _chunks(one), _chunks(other)
    left = right = b""
    while True:
        left = left or next(a, b"")
        right = right or next(b, b"")
        if not left or not right:
            return left == right
        size = min(len(left), len(right))
        if left[:size] != right[:size]:
            return False
        left, right = left[size:], right[size:]


class Entry:
    """One path: the inode with its attributes at the time. `content` is the bytes of a regular file or a Content of
    them, a symlink's target, or None; `fresh` says of a directory that nothing of the base shows through."""

    __slots__ = (
        "atime",
        "content",
        "ctime",
        "fresh",
        "gid",
        "inode",
        "mode",
        "mtime",
        "nlink",
        "rdev",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(
        self,
        inode: Inode,
        attributes: tuple[Any, ...],
        content: Content | bytes | None,
        xattrs: dict[bytes, bytes] | None,
        fresh: bool = True,
    ) -> None:
        """`attributes`: mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, and what else there is."""
        self.inode = inode
        self.mode, self.uid, self.gid, self.rdev, self.nlink, self.size = attributes[:6]
        self.atime, self.mtime, self.ctime = attributes[6:9]
        self.content = content
        self.xattrs = xattrs
        self.fresh = fresh


@contextmanager
def no_collection() -> Iterator[None]:
    """Many objects are about to be made, and none of them is garbage: looking for it would double the time."""
    import gc

    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Manifest:
    """A filesystem against its base: `entries` {path: Entry}, parents first, and `deleted` paths of the base.
    Paths have no leading slash; the root is b""."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.deleted: set[bytes] = set()


class FsState:
    """A snapshot of one filesystem; made by SuperBlock.snapshot()."""

    @property
    def manifest(self) -> Manifest:
        """Made when it is asked for, of what was saved."""
        raise NotImplementedError

    def restore(self) -> None:
        """Put the filesystem back."""
        raise NotImplementedError


def entry_of(vfs: Vfs, inode: Inode, fresh: bool = True) -> Entry:
    """An Entry of an inode of any filesystem, as it is now."""
    st = inode.getattr()
    kind = st.mode & S_IFMT
    content: Content | bytes | None = None
    if kind == S_IFREG:
        content = InodeContent(vfs, inode)
    elif kind == S_IFLNK:
        content = inode.readlink()
    attributes = (st.mode, st.uid, st.gid, st.rdev, st.nlink, st.size, st.atime, st.mtime, st.ctime)
    xattrs = {name: inode.getxattr(name) for name in inode.listxattr()}
    return Entry(inode, attributes, content, xattrs or None, fresh)


def differences(old: Entry, new: Entry) -> list[str]:
    """What differs: "type", "content", "mode", "owner", "mtime" (not of directories), "xattrs"."""
    if (old.mode ^ new.mode) & S_IFMT or old.rdev != new.rdev:
        return ["type"]
    kind = new.mode & S_IFMT
    found = []
    if kind == S_IFREG:
        assert old.content is not None and new.content is not None
        if old.size != new.size or not same_content(old.content, new.content):
            found.append("content")
    elif kind == S_IFLNK and old.content != new.content:
        found.append("content")
    if old.mode != new.mode:
        found.append("mode")
    if (old.uid, old.gid) != (new.uid, new.gid):
        found.append("owner")
    if kind != S_IFDIR and old.mtime != new.mtime:
        found.append("mtime")
    if (old.xattrs or {}) != (new.xattrs or {}):
        found.append("xattrs")
    return found


class Base:
    """What a filesystem was before anything was changed; `root` None for nothing."""

    def __init__(self, vfs: Vfs, root: Inode | None) -> None:
        self._vfs = vfs
        self._root = root

    def find(self, path: bytes) -> Entry | None:
        inode = self._root
        for name in path.split(b"/") if path else ():
            if inode is None or not inode.is_dir:
                return None
            inode = inode.lookup(name)
        return None if inode is None else entry_of(self._vfs, inode)

    def beneath(self, path: bytes) -> Iterator[bytes]:
        """Every path beneath a directory."""
        entry = self.find(path)
        if entry is not None and entry.inode.is_dir:
            yield from _beneath(entry.inode, path)


def _beneath(directory: Inode, path: bytes) -> Iterator[bytes]:
    for name, _, _ in directory.readdir():
        child = path + b"/" + name if path else name
        yield child
        inode = directory.lookup(name)
        if inode is not None and inode.is_dir:
            yield from _beneath(inode, child)


def compare(base: Base, old: Manifest, new: Manifest) -> Iterator[tuple[str, bytes, list[str]]]:
    """("added" | "changed" | "deleted", path, what differs) between two manifests over one base."""
    paths = {*old.entries, *new.entries, *old.deleted, *new.deleted}
    for path in list(paths):
        if shadows(old, path) != shadows(new, path):
            paths.update(base.beneath(path))
    for path in paths:
        before, after = visible(base, old, path), visible(base, new, path)
        if before is None:
            if after is not None:
                yield "added", path, []
        elif after is None:
            yield "deleted", path, []
        elif before is not after and (what := differences(before, after)):
            yield "changed", path, what


def visible(base: Base, manifest: Manifest, path: bytes) -> Entry | None:
    """What is at `path`."""
    entry = manifest.entries.get(path)
    if entry is not None or path in manifest.deleted:
        return entry
    above = path
    while above:
        above = above.rpartition(b"/")[0]
        if shadows(manifest, above):
            return None
    return base.find(path)


def shadows(manifest: Manifest, path: bytes) -> bool:
    """Does the manifest hide what the base has beneath `path`?"""
    entry = manifest.entries.get(path)
    if entry is None:
        return path in manifest.deleted
    return bool(path) and (entry.fresh or entry.mode & S_IFMT != S_IFDIR)
