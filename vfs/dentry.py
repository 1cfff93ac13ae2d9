"""Dentries: names in the tree, so that an object knows where it is (getcwd, "..", /proc/self/fd).

Layer: vfs, beside inode.py. May touch: nothing else.

A dentry holds its parent; the parent knows its children only weakly, so a walk over a million files keeps
none of them. Whoever needs a place to stay (a working directory, an open directory, a mount) holds the
dentry.
"""

from __future__ import annotations

from _weakref import ref  # the module weakref costs start-up time

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .inode import Inode


class Dentry:
    """A name in a directory. `mounted` counts the mounts on top of it; `deleted` says that the name is
    gone."""

    __slots__ = ("__weakref__", "children", "deleted", "inode", "mounted", "name", "parent")

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode) -> None:
        self.name = name
        self.parent = parent  # None for the root of a filesystem
        self.inode = inode
        self.children: dict[bytes, ref[Dentry]] | None = None
        self.mounted = 0
        self.deleted = False

    def cached(self, name: bytes) -> Dentry | None:
        """The live dentry of a child, if anyone holds one."""
        if self.children is None:
            return None
        r = self.children.get(name)
        return None if r is None else r()

    def child(self, name: bytes, inode: Inode) -> Dentry:
        """The dentry of child `name`, which the filesystem says is `inode` now."""
        if self.children is not None:
            r = self.children.get(name)
            old = None if r is None else r()
            if old is not None:
                known = old.inode
                if known is inode or (known.ino == inode.ino and known.sb is inode.sb):
                    old.inode = inode  # a generated filesystem may make a new object for each lookup
                    return old
                old.deleted = True  # replaced behind our back
        else:
            self.children = {}
        new = Dentry(name, self, inode)
        self.children[name] = ref(new)
        return new

    def drop(self) -> None:
        """The name was removed (unlink, rmdir, replaced by a rename)."""
        self.deleted = True
        self._forget()

    def move(self, parent: Dentry, name: bytes) -> None:
        """The name was renamed; what lives beneath moves along."""
        self._forget()
        self.parent = parent
        self.name = name
        if parent.children is None:
            parent.children = {}
        parent.children[name] = ref(self)

    def _forget(self) -> None:
        parent = self.parent
        if parent is not None and parent.children is not None:
            r = parent.children.get(self.name)
            if r is not None and r() in (self, None):
                del parent.children[self.name]

    def __del__(self) -> None:
        self._forget()

    def is_beneath(self, other: Dentry) -> bool:
        """Is this `other` itself or a descendant of it?"""
        d: Dentry | None = self
        while d is not None:
            if d is other:
                return True
            d = d.parent
        return False

    def __repr__(self) -> str:
        return f"<Dentry {self.name!r}{' (deleted)' if self.deleted else ''}>"
