"""Directories of CowFS: the host's entries with the changes made here on top.

Layer: vfs, the other half of cowfs.py. May touch: the host's directories, for reading only.
"""

from __future__ import annotations

import errno

from .cowfs import CowFS, CowNode
from .hostdir import HostDir
from .inode import Inode, err
from .memfs import RENAME_EXCHANGE
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, now_ns

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    import os

_DEAD = -(1 << 30)  # nlink delta of a removed directory


class CowDir(CowNode, HostDir):
    """A directory: the host's entries, with `entries` on top (None: removed)."""

    __slots__ = ("entries",)

    def __init__(self, sb: CowFS, st: os.stat_result, parent: HostDir | None, name: bytes) -> None:
        self.entries: dict[bytes, CowNode | None] = {}
        self._init_dir()
        CowNode.__init__(self, sb, st, parent, name)

    def __del__(self) -> None:
        self.drop_fd()
        CowNode.__del__(self)

    @property
    def steady(self) -> bool:  # type: ignore[override]
        return not self.lower or self.names is not None

    def lookup(self, name: bytes) -> Inode | None:
        entries = self.entries
        if name in entries:
            if self.lower:
                self.looked()
            return entries[name]
        if not self.lower:
            return None
        node = self._lower(name)
        if node is not None:
            node.cow_parent = self
            node.cow_name = name
        return node

    def _lower(self, name: bytes) -> CowNode | None:
        """What the host has under this name."""
        if not self.lower:
            return None
        try:
            node = HostDir.lookup(self, name)
        except OSError as e:
            if e.errno == errno.ESTALE:
                return None  # the lower directory itself is gone
            raise
        assert node is None or isinstance(node, CowNode)
        return node

    def readdir(self) -> list[tuple[bytes, int, int]]:
        found: list[tuple[bytes, int, int]] = []
        entries = self.entries
        if self.lower:
            found = self.host_list()
            if entries:
                found = [e for e in found if e[0] not in entries]
        found += [(name, node.ino, node.mode & S_IFMT) for name, node in entries.items() if node is not None]
        return found

    def listed(self) -> None:
        if self.lower:
            HostDir.listed(self)

    def host_list(self) -> list[tuple[bytes, int, int]]:
        """What the host has in the directory; nothing if that is gone."""
        try:
            return HostDir.readdir(self)
        except OSError as e:
            if e.errno != errno.ESTALE:
                raise
            return []

    # -- changes ---------------------------------------------------------------------------------------------

    def _changed(self, now: int) -> None:
        self.own_attributes()
        self.mtime = self.ctime = now

    def entry_count(self) -> int:
        return len(self.readdir()) if self.lower else len(self.entries)

    def changed_at(self, when: int) -> None:
        self._changed(when)

    def _put(self, name: bytes, node: CowNode) -> CowNode:
        """`node` is `name` from now on."""
        self._changed(now_ns())
        self.entries[name] = node
        node.cow_parent = self
        node.cow_name = name
        return node

    def _take(self, name: bytes, node: CowNode) -> None:
        """`name`, which was `node`, is nobody's from now on."""
        self._changed(now_ns())
        if self._lower(name) is not None:
            self.entries[name] = None
        else:
            self.entries.pop(name, None)
        if node.cow_parent is self and node.cow_name == name:
            node.cow_parent = None

    def _subdirectory(self, node: CowNode, count: int) -> None:
        """`count` more links from "..", unless the host does not count them (btrfs, overlayfs)."""
        if isinstance(node, CowDir) and not (self.lower and self.nlink - self.delta < 2):
            self.linked(count)

    def _lost(self, victim: CowNode, now: int) -> None:
        """`victim` lost a name in this directory."""
        victim.own_attributes()
        if isinstance(victim, CowDir):
            victim.delta = _DEAD
            victim.nlink = 0
            self._subdirectory(victim, -1)
        else:
            victim.linked(-1)
        victim.touched(now)
        if not victim.nlink:
            self.sb.changed.pop((victim.dev, victim.ino), None)
            if victim.data is not None:
                victim.data.unlinked()

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        return self._put(name, CowNode.fresh(self.sb, self, S_IFREG | mode, uid, gid))

    def tmpfile(self, mode: int, uid: int, gid: int, linkable: bool) -> Inode:
        node = CowNode.fresh(self.sb, self, S_IFREG | mode, uid, gid, nlink=0)
        node.linkable = linkable
        assert node.data is not None
        node.data.linked = False
        return node

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        node = CowDir.fresh(self.sb, self, S_IFDIR | mode, uid, gid, nlink=2, size=4096)
        assert isinstance(node, CowDir)
        node.entries = {}
        node._fd = -1
        self._put(name, node)
        self._subdirectory(node, 1)
        return node

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        return self._put(name, CowNode.fresh(self.sb, self, mode, uid, gid, rdev=rdev))

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        node = CowNode.fresh(self.sb, self, S_IFLNK | 0o777, uid, gid, size=len(target))
        node.target = target
        return self._put(name, node)

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, CowNode)
        inode.own_attributes()
        if inode.nlink == 0 and inode.data is not None:
            inode.data.relinked()
        inode.linked(1)
        self._put(name, inode)
        inode.touched(self.ctime)

    def unlink(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, CowNode)
        inode.own_attributes()
        self._take(name, inode)
        self._lost(inode, self.ctime)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        if inode.readdir():
            raise err(errno.ENOTEMPTY)
        self.unlink(name, inode)

    def rename(self, name: bytes, newdir: Inode, newname: bytes, flags: int) -> None:
        assert isinstance(newdir, CowDir)
        node, other = self.lookup(name), newdir.lookup(newname)
        assert isinstance(node, CowNode)
        node.own_attributes()
        if flags & RENAME_EXCHANGE:
            assert isinstance(other, CowNode)
            other.own_attributes()
            self._put(name, other)
            newdir._put(newname, node)
            newdir._subdirectory(node, 1)
            self._subdirectory(node, -1)
            newdir._subdirectory(other, -1)
            self._subdirectory(other, 1)
            other.touched(self.ctime)
            node.touched(self.ctime)
            return
        if isinstance(other, CowNode):
            if isinstance(other, CowDir) and other.readdir():
                raise err(errno.ENOTEMPTY)
            other.own_attributes()
            newdir._take(newname, other)
            newdir._lost(other, newdir.ctime)
        self._take(name, node)
        newdir._put(newname, node)
        self._subdirectory(node, -1)
        newdir._subdirectory(node, 1)
        node.touched(newdir.ctime)
