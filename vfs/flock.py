"""flock(2) on objects without a kernel object of their own: directories and files that Python makes.

Layer: vfs, beside openfile.py. May touch: nothing else. Files with a kernel object are locked by the kernel.

A lock belongs to an open file description and is on an inode; a lock is converted by asking again, which
gives the old one up first and may therefore lose it (flock(2)).
"""

from __future__ import annotations

LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .openfile import OpenFile


class _Locks:
    __slots__ = ("exclusive", "holders", "waiters")

    def __init__(self) -> None:
        self.holders: set[OpenFile] = set()
        self.exclusive = False
        self.waiters: list[Callable[[], None]] = []


class FlockTable:
    """All such locks of one world."""

    def __init__(self) -> None:
        self._locks: dict[tuple[int, int], _Locks] = {}

    @staticmethod
    def _key(file: OpenFile) -> tuple[int, int]:
        return id(file.inode.sb), file.inode.ino

    def try_lock(self, file: OpenFile, exclusive: bool) -> bool:
        """Take or convert the lock of `file` if that needs no waiting; False leaves `file` without one."""
        self.unlock(file)
        locks = self._locks.setdefault(self._key(file), _Locks())
        if locks.holders and (exclusive or locks.exclusive):
            return False
        locks.holders.add(file)
        locks.exclusive = exclusive
        return True

    def holders(self, file: OpenFile) -> list[OpenFile]:
        """Who holds a lock on the same object."""
        locks = self._locks.get(self._key(file))
        return [] if locks is None else list(locks.holders)

    def unlock(self, file: OpenFile) -> None:
        """Give the lock up, if there is one; also called when the description is released."""
        key = self._key(file)
        locks = self._locks.get(key)
        if locks is None or file not in locks.holders:
            return
        locks.holders.discard(file)
        if not locks.holders:
            del self._locks[key]
        waiters, locks.waiters = locks.waiters, []
        for wake in waiters:
            wake()

    def wait(self, file: OpenFile, wake: Callable[[], None]) -> None:
        """Call `wake` once, when someone gives up a lock on the same object."""
        self._locks.setdefault(self._key(file), _Locks()).waiters.append(wake)
