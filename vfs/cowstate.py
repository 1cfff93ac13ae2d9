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
    from .memdata import MemData
    from .state import Content, Entry
    from .vfs import Vfs

_SLOTS = (
    *("mode", "uid", "gid", "rdev", "nlink", "size", "atime", "mtime", "ctime"),
    *("own", "delta", "linkable", "target", "cow_parent", "cow_name", "data"),
)
_attributes = attrgetter(*_SLOTS)


class _Saved:
    """One changed object."""

    __slots__ = ("content", "entries", "node", "slots", "times", "xattrs")

    def __init__(self, node: CowNode) -> None:
        self.node = node
        self.slots = _attributes(node)
        self.xattrs = None if node.xattrs is None else node.xattrs.copy()
        self.entries = node.entries.copy() if isinstance(node, CowDir) else None
        self.content: Content | bytes | None = None
        self.times = self.slots[5:9]
        data = node.data
        if data is not None:
            self.content = data.freeze()
            size, _, atime, mtime, ctime = data.stat()
            self.times = (size, atime, mtime, ctime)

    def entry(self, vfs: Vfs, fresh: bool) -> Entry:
        """As seen from outside; what the node does not own is the host's, now."""
        node = self.node
        if not self.slots[9]:
            return entry_of(vfs, node, fresh)
        from .state import Entry

        kind = self.slots[0] & S_IFMT
        content = self.content
        if kind == S_IFLNK:
            content = node.readlink()
        elif kind == S_IFREG and content is None:
            content = InodeContent(vfs, node)
        xattrs = self.xattrs
        if xattrs is None:
            xattrs = {name: node.getxattr(name) for name in node.listxattr()}
        return Entry(node, (*self.slots[:5], *self.times, None), content, xattrs or None, fresh)

    def put_back(self) -> None:
        node = self.node
        before: MemData | None = node.data
        for name, value in zip(_SLOTS, self.slots, strict=True):
            setattr(node, name, value)
        node.xattrs = None if self.xattrs is None else self.xattrs.copy()
        if isinstance(node, CowDir) and self.entries is not None:
            node.entries = self.entries.copy()
        data = node.data
        if before is not None and before is not data:
            before.unlinked()
        if data is not None and self.content is not None:
            if node.nlink and not data.linked:
                data.relinked()
            put_back(data, self.content)
            _, atime, mtime, ctime = self.times
            data.set_times(ctime, atime, mtime)
            self.content = data.freeze()  # for whoever restores once more


class CowState(FsState):
    """What a copy-on-write view is now."""

    def __init__(self, sb: CowFS, vfs: Vfs) -> None:
        self.sb = sb
        self.vfs = vfs
        self._changed = sb.changed.copy()
        self._saved: dict[CowNode, _Saved] = {}
        root = sb.root
        assert isinstance(root, CowNode)
        with no_collection():
            todo = [root, *sb.changed.values()]
            saved = self._saved
            while todo:
                node = todo.pop()
                if node not in saved:
                    saved[node] = one = _Saved(node)
                    if one.entries:
                        todo += [child for child in one.entries.values() if child is not None]

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
            entry_of(self.vfs, node, fresh) if saved is None else saved.entry(self.vfs, fresh)
        )
        if not isinstance(node, CowDir):
            return
        prefix = path + b"/" if path else b""
        own = (saved.entries if saved is not None else None) or {}
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
        live = [node for r in list(sb._known.values()) if isinstance(node := r(), CowNode) and (node.own or node.delta)]
        for node in {*live, *CowState(sb, self.vfs)._saved}:
            if node not in self._saved:
                self._forget(node)
        sb.changed = self._changed.copy()
        for saved in self._saved.values():
            saved.put_back()

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
