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
    from typing import Any

    #: _attributes, extended attributes, a copy of a directory's entries, a file's bytes: one flat tuple, of which so
    #: many are made that the garbage collector counts
    Saved = tuple[Any, ...]

_attributes = attrgetter("mode", "uid", "gid", "rdev", "nlink", "size", "atime", "mtime", "ctime")
_ENTRIES = 10


def _save(inode: MemInode) -> Saved:
    """What an inode is now."""
    xattrs = inode.xattrs.copy() if inode.xattrs else None
    attributes = _attributes(inode)
    if isinstance(inode, MemDir):
        return (*attributes, xattrs, inode.entries.copy(), None)
    if not isinstance(inode, MemFile):
        return (*attributes, xattrs, None, None)
    content = inode.data.freeze()
    size, _, atime, mtime, ctime = inode.data.stat()
    return (*attributes[:5], size, atime, mtime, ctime, xattrs, None, content)


def _scan(root: MemDir) -> dict[MemInode, Saved]:
    """Every inode of a tree. Most are files with one name and without a memfd, so those are read in place: a call for
    each would take twice the time."""
    saved: dict[MemInode, Saved] = {}
    todo: list[MemInode] = [root]
    while todo:
        inode = todo.pop()
        if inode in saved:
            continue
        one = saved[inode] = _save(inode)
        for child in one[_ENTRIES].values() if one[_ENTRIES] else ():
            if child.__class__ is MemFile and child.nlink == 1:
                data = child.data
                content = data.idle()
                if content is not None:
                    xattrs = child.xattrs.copy() if child.xattrs else None
                    size, atime, mtime, ctime = len(content), data.atime, data.mtime, data.ctime
                    mode, uid, gid = child.mode, child.uid, child.gid
                    saved[child] = (mode, uid, gid, 0, 1, size, atime, mtime, ctime, xattrs, None, content)
                    continue
            todo.append(child)
    return saved


def _entry(inode: MemInode, saved: Saved) -> Entry:
    *attributes, xattrs, _, content = saved
    return Entry(inode, tuple(attributes), inode.target if isinstance(inode, MemSymlink) else content, xattrs)


def _put_back(inode: MemInode, saved: Saved) -> Saved:
    """Make the inode what it was; what to save now, for whoever restores once more."""
    mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, xattrs, entries, content = saved
    inode.mode, inode.uid, inode.gid, inode.rdev, inode.nlink, inode.size = mode, uid, gid, rdev, nlink, size
    inode.atime, inode.mtime, inode.ctime = atime, mtime, ctime
    inode.xattrs = None if xattrs is None else xattrs.copy()
    if isinstance(inode, MemDir):
        assert entries is not None
        inode.entries = entries.copy()
    elif isinstance(inode, MemFile):
        data = inode.data
        if not data.linked:
            data.relinked()
        assert content is not None

        def bytes_and_times() -> None:
            put_back(data, content)
            data.set_times(ctime, atime, mtime)
            data.ctime = ctime  # which may be an earlier one

        inode.restored(bytes_and_times)
        return (*saved[:-1], inode.data.freeze())
    return saved


class MemState(FsState):
    """What a MemoryFS is now."""

    def __init__(self, sb: MemoryFS) -> None:
        self.sb = sb
        assert isinstance(sb.root, MemDir)
        with no_collection():
            self._saved = _scan(sb.root)
        self._flags = {inode: inode.iflags for inode in self._saved if inode.iflags}

    def __contains__(self, inode: object) -> bool:
        return inode in self._saved

    @cached_property
    def manifest(self) -> Manifest:
        manifest = Manifest()
        entries = {inode: _entry(inode, saved) for inode, saved in self._saved.items()}
        root = self.sb.root
        assert isinstance(root, MemDir)
        manifest.entries[b""] = entries[root]
        todo: list[tuple[bytes, MemDir]] = [(b"", root)]
        while todo:
            prefix, directory = todo.pop()
            for name, inode in (self._saved[directory][_ENTRIES] or {}).items():
                manifest.entries[prefix + name] = entries[inode]
                if isinstance(inode, MemDir):
                    todo.append((prefix + name + b"/", inode))
        return manifest

    def restore(self) -> None:
        for inode in MemState(self.sb)._saved:
            if inode not in self._saved:
                inode.nlink = 0
                inode.unlinked()
        for inode, saved in self._saved.items():
            self._saved[inode] = _put_back(inode, saved)
            inode.iflags = self._flags.get(inode, 0)
        self.sb.inodes = len(self._saved)
