"""Snapshots of MemoryFS.

Layer: vfs, beside memfs.py; see state.py. May touch: the filesystem's inodes.
"""

from __future__ import annotations

from functools import cached_property
from operator import attrgetter

from .memfs import MemDir, MemFile, MemInode, MemoryFS, MemSymlink
from .state import Entry, FsState, Manifest, no_collection, put_back

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .state import Content

_attributes = attrgetter("mode", "uid", "gid", "rdev", "nlink", "size", "atime", "mtime", "ctime")


class _Saved:
    """One inode: its attributes, and of a file its bytes, of a directory a copy of its entries."""

    __slots__ = ("attributes", "content", "entries", "inode", "xattrs")

    def __init__(self, inode: MemInode) -> None:
        self.inode = inode
        self.attributes = _attributes(inode)
        self.xattrs = None if not inode.xattrs else inode.xattrs.copy()
        self.entries: dict[bytes, MemInode] | None = None
        self.content: Content | bytes | None = None
        if isinstance(inode, MemDir):
            self.entries = inode.entries.copy()
        elif isinstance(inode, MemFile):
            content = self.content = inode.data.freeze()
            data = inode.data
            if isinstance(content, bytes):  # idle (the call of stat() would cost a third of the time)
                self.attributes = (*self.attributes[:5], len(content), data.atime, data.mtime, data.ctime)
            else:
                size, _, atime, mtime, ctime = data.stat()
                self.attributes = (*self.attributes[:5], size, atime, mtime, ctime)

    def entry(self) -> Entry:
        content = self.inode.target if isinstance(self.inode, MemSymlink) else self.content
        return Entry(self.inode, self.attributes, content, self.xattrs)

    def put_back(self) -> None:
        inode = self.inode
        inode.mode, inode.uid, inode.gid, inode.rdev, inode.nlink, inode.size, atime, mtime, ctime = (
            self.attributes
        )
        inode.atime, inode.mtime, inode.ctime = atime, mtime, ctime
        inode.xattrs = None if self.xattrs is None else self.xattrs.copy()
        if isinstance(inode, MemDir):
            assert self.entries is not None
            inode.entries = self.entries.copy()
        elif isinstance(inode, MemFile):
            if not inode.data.linked:
                inode.data.relinked()
            assert self.content is not None
            put_back(inode.data, self.content)
            inode.data.set_times(ctime, atime, mtime)
            self.content = inode.data.freeze()  # for whoever restores once more


class MemState(FsState):
    """What a MemoryFS is now."""

    def __init__(self, sb: MemoryFS) -> None:
        self.sb = sb
        self._saved: dict[MemInode, _Saved] = {}
        assert isinstance(sb.root, MemDir)
        with no_collection():
            todo: list[MemInode] = [sb.root]
            saved = self._saved
            while todo:
                inode = todo.pop()
                saved[inode] = one = _Saved(inode)
                if one.entries:
                    todo += [i for i in one.entries.values() if i.nlink < 2 or i not in saved]

    def __contains__(self, inode: object) -> bool:
        return inode in self._saved

    @cached_property
    def manifest(self) -> Manifest:
        manifest = Manifest()
        entries = {inode: saved.entry() for inode, saved in self._saved.items()}
        root = self.sb.root
        assert isinstance(root, MemDir)
        manifest.entries[b""] = entries[root]
        todo: list[tuple[bytes, MemDir]] = [(b"", root)]
        while todo:
            prefix, directory = todo.pop()
            for name, inode in (self._saved[directory].entries or {}).items():
                manifest.entries[prefix + name] = entries[inode]
                if isinstance(inode, MemDir):
                    todo.append((prefix + name + b"/", inode))
        return manifest

    def restore(self) -> None:
        for inode in MemState(self.sb)._saved:
            if inode not in self._saved:
                inode.nlink = 0
                inode.unlinked()
        for saved in self._saved.values():
            saved.put_back()
        self.sb.inodes = len(self._saved)
