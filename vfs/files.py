"""The registry of open files: from the identity of a host object to what we know of it (see openfile.py).

Layer: vfs, above openfile.py. May touch: host sockets (placeholders), and the event loop through HupLoop.
"""

from __future__ import annotations

import os

from .flock import FlockTable
from .openfile import FileRecord, OpenFile
from .recordlocks import RecordLocks
from .remembered import ident as ident_of

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from typing import Any, Protocol

    from .inode import Inode
    from .mount import Mount, Path

    class HupLoop(Protocol):
        """The part of the event loop that placeholders need."""

        def watch_hup(self, fd: int, callback: Callable[[], None]) -> None:
            """Call once, when the peer of `fd` has been closed everywhere."""

        def add(self, fd: int, callback: Callable[[int], None]) -> None:
            """Call whenever there is something to read."""

        def remove(self, fd: int) -> None:
            """Forget `fd`, whether or not it is known."""


#: the device of directories that are known by their number: VDIR_DEV of kernel/layout.py
NUMBERED = (1 << 64) - 1


def _nothing(_number: int) -> None:
    return None


def _nobody(_inode: Inode) -> None:
    pass


def _no_numbers(_mount: Mount) -> Iterable[int]:
    return ()


class FileRegistry:
    """From the identity of a host object to what we know of it."""

    #: Host files (dev, ino) are never reported closed: only so many of the last opened are remembered. An
    #: older one is then answered by the host kernel itself, which for a host file knows nearly everything.
    HOST_LIMIT = 8192

    def __init__(self, loop: HupLoop | None = None) -> None:
        self.loop = loop
        self.flocks = FlockTable()
        self.records = RecordLocks()
        self.closed: Callable[[OpenFile], None] | None = None  # hears of files that Python serves
        self.numbered: Callable[[int], FileRecord | None] = _nothing  # a directory that a guest's core opened by itself
        self.numbers: Callable[[Mount], Iterable[int]] = _no_numbers  # those of a mount
        self.replaced: Callable[[Inode], None] = _nobody  # a native object is another inode's now
        self.pinned: Container[tuple[int, int]] = ()  # native objects that are watched (notify.py)
        self._known: dict[tuple[int, int], FileRecord] = {}
        self._host: dict[tuple[int, int], None] = {}  # insertion-ordered: oldest first

    def get(self, dev: int, ino: int) -> FileRecord | None:
        return self._known.get((dev, ino)) if dev != NUMBERED else self.numbered(ino)

    def open_file(self, dev: int, ino: int) -> OpenFile | None:
        """The placeholder's OpenFile, None for everything native."""
        record = self._known.get((dev, ino))
        return record if isinstance(record, OpenFile) else None

    def add_native(self, dev: int, ino: int, path: Path, inode: Inode, bounded: bool) -> FileRecord:
        """Remember a native object that is being handed to a guest.

        `bounded`: a host file (forgotten some time after); else the caller calls forget().
        """
        ident = (dev, ino)
        record = self._known.get(ident)
        if record is None:
            record = FileRecord(path, inode)
            record.ident = ident
            self._known[ident] = record
        else:
            if ident_of(record.inode) != ident_of(inode):
                self.replaced(record.inode)
            record.path = path
            record.inode = inode
        if bounded:
            self._host.pop(ident, None)
            self._host[ident] = None
            if len(self._host) > self.HOST_LIMIT:
                oldest = next(iter(self._host))
                del self._host[oldest]
                self._known.pop(oldest, None)
        return record

    def forget(self, dev: int, ino: int) -> None:
        self._known.pop((dev, ino), None)
        self._host.pop((dev, ino), None)

    def add_placeholder(self, file: OpenFile) -> int:
        """Make the placeholder of an OpenFile; returns the guest's end, which the caller hands over and
        closes."""
        import socket  # already loaded by the channel

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        if file.pollable:
            if not file.always_writable:
                _fill(theirs)
        else:
            # A regular file or directory is always ready: one byte that nobody ever reads makes poll(2) say so.
            ours.send(b"\0")
        st = os.fstat(theirs.fileno())
        file.ident = (st.st_dev, st.st_ino)
        file.sup_fd = ours.detach()
        self._known[file.ident] = file
        if self.loop is not None:
            self.loop.watch_hup(file.sup_fd, lambda: self.released(file))
        file.placed()
        return theirs.detach()

    def placeholders(self) -> list[OpenFile]:
        """Everything open that Python serves."""
        return [record for record in self._known.values() if isinstance(record, OpenFile)]

    def natives(self) -> list[FileRecord]:
        """Native objects that may be open."""
        return [record for record in self._known.values() if not isinstance(record, OpenFile)]

    def of_mount(self, mount: Mount) -> tuple[list[OpenFile], set[tuple[int, int]]]:
        """What was last opened by way of a mount: files that Python serves, and the identities of native objects (which
        may be closed since)."""
        found = [record for record in self._known.values() if record.path.mount is mount]
        files = [record for record in found if isinstance(record, OpenFile)]
        directories = {(NUMBERED, number) for number in self.numbers(mount)}
        return files, {record.ident for record in found if not isinstance(record, OpenFile)} | directories

    def settle(self, files: Iterable[OpenFile]) -> None:
        """Release those whose last descriptor is closed already, though the loop has not come to tell us: for
        what a guest may see at once, such as a lock."""
        import select

        poll = select.poll()
        for file in list(files):
            if file.sup_fd >= 0:
                fd = file.sup_fd
                poll.register(fd, select.POLLHUP)
                if poll.poll(0):
                    self.released(file)
                poll.unregister(fd)

    def try_flock(self, file: OpenFile, exclusive: bool) -> bool:
        """flock(2) without waiting: see FlockTable.try_lock()."""
        if self.flocks.try_lock(file, exclusive):
            return True
        self.settle(self.flocks.holders(file))
        return self.flocks.try_lock(file, exclusive)

    def released(self, file: OpenFile) -> None:
        """The last copy of the guest's end was closed."""
        if file.sup_fd < 0:
            return
        fd, file.sup_fd = file.sup_fd, -1
        if self.loop is not None:
            self.loop.remove(fd)
        os.close(fd)
        self._known.pop(file.ident, None)
        self.flocks.unlock(file)
        self.records.closed(file)
        if self.closed is not None:
            self.closed(file)
        file.release()

    def close(self) -> None:
        """The sandbox ends: release everything."""
        for record in list(self._known.values()):
            if isinstance(record, OpenFile):
                self.released(record)
        self._known.clear()
        self._host.clear()

    def __len__(self) -> int:
        return len(self._known)


def _fill(end: Any) -> None:
    """Fill what a socket may send, so that poll(2) never says that it can be written."""
    import socket

    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that there is
    try:
        while True:
            end.send(bytes(1024), socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass
