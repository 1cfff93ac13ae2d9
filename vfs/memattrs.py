"""Attributes of inodes that are kept in memory: extended ones in a dictionary, relatime, and set-id bits that go when
a guest writes.

Layer: vfs, beneath memfs.py and cowfs.py. May touch: the times of a memfd, through memdata.py.
"""

from __future__ import annotations

import errno

from .acl import ACCESS, DEFAULT
from .inode import Inode, err
from .privileges import CAPABILITY
from .stat import now_ns

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: bytes of names and values that one inode may have: they lie in the supervisor's memory
MAX_XATTRS = 1 << 20
_DAY = 86400 * 10**9  # in ns
_CAPABILITIES = 1 << 16  # beside the set-id bits


def relatime(atime: int, mtime: int, ctime: int, now: int) -> bool:
    """relatime_need_update() in fs/inode.c: does a read change the access time? (All in ns.)"""
    return atime <= mtime or atime <= ctime or now - atime >= _DAY


def read_by_now(inode: Inode) -> bool:
    """Was it read since it was changed, so that reads of the next hours leave its access time alone?"""
    return not relatime(inode.atime, inode.mtime, inode.ctime, now_ns() + _DAY // 2)


class MemoryAttributes(Inode):
    """For an Inode class with the slots `xattrs` (None while there are none of ours), `data` (of a regular file) and
    `lost` (what the first write takes)."""

    __slots__ = ()

    xattrs: dict[bytes, bytes] | None
    data: Any  # MemData, or None
    lost: int
    iflags: int
    has_iflags = True

    def set_iflags(self, flags: int, now: int) -> None:
        self.touched(now)
        self.iflags = flags  # type: ignore[misc]

    def own_xattrs(self) -> dict[bytes, bytes]:
        """The dictionary, made now if there is none."""
        if self.xattrs is None:
            self.xattrs = {}  # type: ignore[misc]  # the slot is the subclass's
        return self.xattrs

    def touched(self, now: int) -> None:
        """The inode changed: ctime."""
        raise NotImplementedError

    # -- privileges that a write takes -----------------------------------------------------------------------

    @property
    def has_capabilities(self) -> bool:  # type: ignore[override]
        return self.xattrs is not None and CAPABILITY in self.xattrs

    def write_opened(self, lost: int) -> None:
        if self.has_capabilities:
            lost |= _CAPABILITIES
        if lost and self.data is not None:
            self.settle()
            self.lost |= lost  # type: ignore[misc]
            self.data.watch_writes()

    def may_be_open(self, lost: int) -> None:
        if self.data is not None and self.data.live:
            self.write_opened(lost)

    def settle(self) -> None:
        """Was it written since? Then what a write takes is gone."""
        if not self.lost or self.data is None:
            return
        written = self.data.written()
        if written:
            self.mode &= ~self.lost | ~0o7777
            if self.lost & _CAPABILITIES and self.xattrs is not None:
                self.xattrs.pop(CAPABILITY, None)
        if written is not False:
            self.lost = 0  # type: ignore[misc]

    def restored(self, put_back: Callable[[], None]) -> None:
        """`put_back()` makes the bytes what they were, which is no write of a guest's."""
        lost = self.lost
        self.data.watch_no_more()
        put_back()
        self.lost = 0  # type: ignore[misc]
        if lost:
            self.write_opened(lost)

    # -- extended attributes ---------------------------------------------------------------------------------

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
        others = sum(len(n) + len(v) for n, v in xattrs.items() if n != name)
        if others + len(name) + len(value) > MAX_XATTRS:
            raise err(errno.ENOSPC)
        xattrs[name] = value
        self.touched(now_ns())

    def listxattr(self) -> list[bytes]:
        return list(self.xattrs or ())

    def removexattr(self, name: bytes) -> None:
        if self.xattrs is None or name not in self.own_xattrs():
            raise err(errno.ENODATA)
        del self.xattrs[name]
        self.touched(now_ns())
