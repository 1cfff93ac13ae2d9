"""Snapshots of CowFS.

Layer: vfs, beside cowfs.py; see state.py. May touch: the filesystem's inodes; the host's directory for reading.
"""

from __future__ import annotations

from functools import cached_property
from operator import attrgetter

from .cowdir import CowDir
from .cowfs import CowFS, CowNode
from .stat import S_IFLNK, S_IFMT, S_IFREG
from .state import FsState, InodeContent, Manifest, entry_of, no_collection, put_back

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any

    from .memdata import MemData
    from .state import Entry
    from .vfs import Vfs

    #: _SLOTS, then size, atime, mtime, ctime, extended attributes, a copy of a directory's entries, a file's bytes: one
    #: flat tuple, of which so many are made that the garbage collector counts
    Saved = tuple[Any, ...]

_SLOTS = (
    *("mode", "uid", "gid", "rdev", "nlink", "size", "atime", "mtime", "ctime"),
    *("own", "delta", "linkable", "target", "cow_parent", "cow_name", "data", "iflags"),
)
_attributes = attrgetter(*_SLOTS)
_N = len(_SLOTS)
_ENTRIES = _N + 5
_EMPTY: dict[bytes, bytes] = {}


def _save(node: CowNode) -> Saved:
    """What a changed object is now."""
    slots = _attributes(node)
    xattrs = node.xattrs
    if xattrs is not None:
        xattrs = xattrs.copy() if xattrs else _EMPTY
    entries = node.entries.copy() if isinstance(node, CowDir) else None
    data = node.data
    if data is None:
        return (*slots, *slots[5:9], xattrs, entries, None)
    content = data.idle()
    if content is not None:
        return (*slots, len(content), data.atime, data.mtime, data.ctime, xattrs, entries, content)
    blob = data.freeze()
    size, _, atime, mtime, ctime = data.stat()
    return (*slots, size, atime, mtime, ctime, xattrs, entries, blob)


def _entry(node: CowNode, saved: Saved, vfs: Vfs, fresh: bool) -> Entry:
    """As seen from outside; what the node does not own is the host's, now."""
    slots, times, (xattrs, _, content) = saved[:_N], saved[_N : _N + 4], saved[_N + 4 :]
    if not slots[9]:
        return entry_of(vfs, node, fresh)
    from .state import Entry

    kind = slots[0] & S_IFMT
    shown: Any = content
    if kind == S_IFLNK:
        shown = node.readlink()
    elif kind == S_IFREG and content is None:
        shown = InodeContent(vfs, node)
    if xattrs is None:
        xattrs = {name: node.getxattr(name) for name in node.listxattr()}
    return Entry(node, (*slots[:5], *times, None), shown, xattrs or None, fresh)


def _put_back(node: CowNode, saved: Saved) -> Saved:
    """Make the object what it was; what to save now, for whoever restores once more."""
    slots, times, (xattrs, entries, content) = saved[:_N], saved[_N : _N + 4], saved[_N + 4 :]
    before: MemData | None = node.data
    for name, value in zip(_SLOTS, slots, strict=True):
        setattr(node, name, value)
    node.xattrs = None if xattrs is None else xattrs.copy()
    if isinstance(node, CowDir) and entries is not None:
        node.entries = entries.copy()
    data = node.data
    if before is not None and before is not data:
        before.unlinked()
    if data is not None and content is not None:
        if node.nlink and not data.linked:
            data.relinked()

        def bytes_and_times() -> None:
            put_back(data, content)
            _, atime, mtime, ctime = times
            data.set_times(ctime, atime, mtime)
            data.ctime = ctime  # which may be an earlier one

        node.restored(bytes_and_times)
        content = data.freeze()
    return (*saved[:-1], content)


class CowState(FsState):
    """What a copy-on-write view is now."""

    def __init__(self, sb: CowFS, vfs: Vfs) -> None:
        self.sb = sb
        self.vfs = vfs
        self._changed = sb.changed.copy()
        self._saved: dict[CowNode, Saved] = {}
        root = sb.root
        assert isinstance(root, CowNode)
        with no_collection():
            todo = [root, *sb.changed.values()]
            saved = self._saved
            while todo:
                node = todo.pop()
                if node not in saved:
                    saved[node] = one = _save(node)
                    if one[_ENTRIES]:
                        todo += [child for child in one[_ENTRIES].values() if child is not None]

    @cached_property
    def manifest(self) -> Manifest:
        manifest = Manifest()
        root = self.sb.root
        assert isinstance(root, CowNode)
        self._read(manifest, b"", root, False)
        return manifest

    def _read(self, manifest: Manifest, path: bytes, node: CowNode, fresh: bool) -> None:
        """An object and what is changed beneath; `fresh`: all beneath is new here."""
        saved = self._saved.get(node)
        manifest.entries[path] = (
            entry_of(self.vfs, node, fresh) if saved is None else _entry(node, saved, self.vfs, fresh)
        )
        if not isinstance(node, CowDir):
            return
        prefix = path + b"/" if path else b""
        own = (saved[_ENTRIES] if saved is not None else None) or {}
        if fresh and node.lower:
            for name, _, _ in node.host_list():
                child = None if name in own else node._lower(name)
                if child is not None:
                    self._read(manifest, prefix + name, child, True)
        for name, child in own.items():
            if child is None:
                manifest.deleted.add(prefix + name)
            else:
                here = child.lower and child.parent is node and child.name == name
                self._read(manifest, prefix + name, child, fresh or not here)

    def restore(self) -> None:
        sb = self.sb
        live = [
            node
            for r in list(sb._known.values())
            if isinstance(node := r(), CowNode) and (node.own or node.delta)
        ]
        for node in {*live, *CowState(sb, self.vfs)._saved}:
            if node not in self._saved:
                self._forget(node)
        sb.changed = self._changed.copy()
        for node, saved in self._saved.items():
            self._saved[node] = _put_back(node, saved)

    def _forget(self, node: CowNode) -> None:
        """An object that had not been changed at the time of the snapshot, or did not exist."""
        if node.data is not None:
            node.data.unlinked()
            if node.lower:
                node.data = None
        node.cow_parent = None
        if isinstance(node, CowDir):
            node.entries = {}
        if node.lower:
            node.own = False
            node.delta = 0
            node.xattrs = None
            try:
                node.refresh()
            except OSError:
                node.nlink = 0  # gone on the host
        else:
            node.nlink = 0
