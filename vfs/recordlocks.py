"""Record locks (fcntl(2), "Advisory record locking") on files and directories that Python serves; fs/locks.c.

Layer: vfs, beside flock.py. May touch: nothing else. Files with a kernel object are locked by the kernel.

The host kernel would keep such a lock on the placeholder, of which each opening has its own, so it is kept here. An
owner is a process (POSIX locks) or an open file description (OFD locks). Of a close we hear when it is the last one: a
POSIX lock goes with the description by which it was taken, or with its process.
"""

from __future__ import annotations

import errno

from .inode import err

F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

    from .openfile import OpenFile

    Key = tuple[int, int]


class RecordLock:
    """Bytes `start` to `end`, inclusive. `pid` is told by F_GETLK (-1 for an OFD lock)."""

    __slots__ = ("end", "file", "kind", "owner", "pid", "start")

    def __init__(self, owner: Hashable, pid: int, file: OpenFile, kind: int, start: int, end: int) -> None:
        self.owner, self.pid, self.file = owner, pid, file
        self.kind, self.start, self.end = kind, start, end

    def part(self, start: int, end: int) -> RecordLock:
        return RecordLock(self.owner, self.pid, self.file, self.kind, start, end)


class RecordLocks:
    """All such locks of one world."""

    def __init__(self) -> None:
        self._locks: dict[Key, list[RecordLock]] = {}
        self._waiting: dict[Key, list[Callable[[], None]]] = {}
        self._blocked: dict[Hashable, RecordLock] = {}  # a process: the lock that it waits for

    def conflict(self, want: RecordLock) -> RecordLock | None:
        """posix_test_lock(): a lock of another owner in the way."""
        for lock in self._locks.get(_key(want.file), ()):
            if (
                lock.owner != want.owner
                and lock.start <= want.end
                and want.start <= lock.end
                and F_WRLCK in (lock.kind, want.kind)
            ):
                return lock
        return None

    def set(self, want: RecordLock) -> None:
        """posix_lock_inode(): take, convert or (F_UNLCK) give up; nothing must be in the way."""
        key = _key(want.file)
        kept: list[RecordLock] = []
        for lock in self._locks.get(key, ()):
            if lock.owner != want.owner or lock.end < want.start or want.end < lock.start:
                kept.append(lock)
                continue
            if lock.start < want.start:
                kept.append(lock.part(lock.start, want.start - 1))
            if want.end < lock.end:
                kept.append(lock.part(want.end + 1, lock.end))
        if want.kind != F_UNLCK:
            kept.append(want)
        self._put(key, kept)

    def _put(self, key: Key, locks: list[RecordLock]) -> None:
        if locks:
            self._locks[key] = locks
        else:
            self._locks.pop(key, None)
        for wake in self._waiting.pop(key, ()):
            wake()

    def wait(self, want: RecordLock, other: RecordLock, wake: Callable[[], None]) -> None:
        """`want` waits for `other`: call `wake` once locks on the file have changed. EDEADLK if that waits for us
        (posix_locks_deadlock(); OFD locks have no such check)."""
        if want.pid != -1:
            blocker: Any = other.owner
            for _ in range(10):  # MAX_DEADLK_ITERATIONS
                next_one = self._blocked.get(blocker)
                waits_for = None if next_one is None else self.conflict(next_one)
                if waits_for is None:
                    break
                blocker = waits_for.owner
                if blocker == want.owner:
                    raise err(errno.EDEADLK)
            self._blocked[want.owner] = want
        self._waiting.setdefault(_key(want.file), []).append(wake)

    def waits_no_more(self, want: RecordLock) -> None:
        if self._blocked.get(want.owner) is want:
            del self._blocked[want.owner]

    def holders(self, file: OpenFile) -> list[OpenFile]:
        """By which descriptions locks on the same object are held."""
        return [lock.file for lock in self._locks.get(_key(file), ())]

    def closed(self, file: OpenFile) -> None:
        """The description is released."""
        key = _key(file)
        locks = self._locks.get(key)
        if locks is not None and any(lock.file is file for lock in locks):
            self._put(key, [lock for lock in locks if lock.file is not file])

    def ended(self, owner: Hashable) -> None:
        """The process is gone."""
        self._blocked.pop(owner, None)
        for key, locks in list(self._locks.items()):
            if any(lock.owner == owner for lock in locks):
                self._put(key, [lock for lock in locks if lock.owner != owner])


def _key(file: OpenFile) -> Key:
    return id(file.inode.sb), file.inode.ino
