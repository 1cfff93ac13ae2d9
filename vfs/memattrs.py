"""Attributes of inodes that are kept in memory: extended ones in a dictionary, and relatime.

Layer: vfs, beneath memfs.py and cowfs.py. May touch: nothing.
"""

from __future__ import annotations

import errno

from .acl import ACCESS, DEFAULT
from .inode import Inode, err
from .stat import now_ns

_DAY = 86400 * 10**9  # in ns


def relatime(atime: int, mtime: int, ctime: int, now: int) -> bool:
    """relatime_need_update() in fs/inode.c: does a read change the access time? (All in ns.)"""
    return atime <= mtime or atime <= ctime or now - atime >= _DAY


class MemoryAttributes(Inode):
    """For an Inode class with the slot `xattrs`: None while there are none of ours."""

    __slots__ = ()

    xattrs: dict[bytes, bytes] | None

    def own_xattrs(self) -> dict[bytes, bytes]:
        """The dictionary, made now if there is none."""
        if self.xattrs is None:
            self.xattrs = {}  # type: ignore[misc]  # the slot is the subclass's
        return self.xattrs

    def touched(self, now: int) -> None:
        """The inode changed: ctime."""
        raise NotImplementedError

    @property
    def acl(self) -> bytes | None:  # type: ignore[override]
        return None if self.xattrs is None else self.xattrs.get(ACCESS)

    @property
    def default_acl(self) -> bytes | None:  # type: ignore[override]
        return None if self.xattrs is None else self.xattrs.get(DEFAULT)

    def getxattr(self, name: bytes) -> bytes:
        if self.xattrs is None or name not in self.xattrs:
            raise err(errno.ENODATA)
        return self.xattrs[name]

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        xattrs = self.own_xattrs()
        if flags & 1 and name in xattrs:
            raise err(errno.EEXIST)
        if flags & 2 and name not in xattrs:
            raise err(errno.ENODATA)
        xattrs[name] = value
        self.touched(now_ns())

    def listxattr(self) -> list[bytes]:
        return list(self.xattrs or ())

    def removexattr(self, name: bytes) -> None:
        if self.xattrs is None or name not in self.own_xattrs():
            raise err(errno.ENODATA)
        del self.xattrs[name]
        self.touched(now_ns())
