"""Directories by numbers: those that guests have open without us (core_native/vdir.c).

Layer: the pretend kernel, beside answers.py.  May touch: nothing.

A directory that a program opens for reading gets a number instead of a placeholder, and the core makes the descriptor.
A number stands for a place, like a working directory's (both are the same numbers), and says nothing of what may be
done there. A guest names it in a request as the inode of the device VDIR_DEV. REQ_DIR opens the directory after all,
when it needs more than that. While somebody watches files (inotify) all directories are opened from the start.
"""

from __future__ import annotations

import errno
import os
from collections import deque

from ..vfs.dirops import getdents
from ..vfs.inode import err
from ..vfs.openfile import FileRecord, OpenDir
from .handlers import DirectoryOpened, InstallFd, Out, ToBeReal
from .layout import LISTINGS_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..vfs.mount import Mount, Path
    from ..vfs.openfile import OpenFile
    from .sandbox import Kernel

_O_LARGEFILE = 0o100000
#: the flags that such an open may have beside O_RDONLY
_PLAIN = os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | _O_LARGEFILE
#: numbers that are known at once; then those that nobody uses are forgotten, if they are not among the last
MOST = 16384


class Directories:
    """The numbers of one sandbox's places."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._numbers: dict[Path, int] = {}
        self._places: dict[int, FileRecord] = {}
        self._before: dict[int, FileRecord] = {}  # those that were forgotten last: some core may be about to use one
        self._last = 0
        kernel.vfs.files.numbered, kernel.vfs.files.numbers = self._get, self._of_mount

    def number(self, path: Path) -> int:
        """The number of a place; its own as long as somebody uses it."""
        known = self._numbers.get(path)
        if known is None:
            if len(self._places) >= MOST:
                self._forget_unused()
            self._last += 1
            known = self._numbers[path] = self._last
            self._places[known] = FileRecord(path, path.inode)
        return known

    def forget(self) -> None:
        """Every place gets another number when it is asked for; the old ones stay good."""
        self._numbers.clear()

    def _forget_unused(self) -> None:
        kernel = self._kernel
        used = {number for process in kernel.processes.values() for number, _ in process.directories().values()}
        recent = self._last - MOST // 4
        kept = {n: record for n, record in self._places.items() if n in used or n > recent}
        self._before = {n: record for n, record in self._places.items() if n not in kept}
        self._places = kept
        self._numbers = {record.path: n for n, record in kept.items()}
        kernel.answers.forget()  # no answer gives a number that is unknown

    def _get(self, number: int) -> FileRecord | None:
        return self._places.get(number) or self._before.get(number)

    def _of_mount(self, mount: Mount) -> list[int]:
        return [number for number, record in self._places.items() if record.path.mount is mount]

    # -- requests

    def opened(self, path: Path, opened: OpenFile, flags: int) -> DirectoryOpened | None:
        """What open(2) gives for a directory that the core may have by itself; None for others."""
        kernel = self._kernel
        if type(opened) is not OpenDir or flags & ~_PLAIN:
            return None
        if kernel.vfs.notify is not None or kernel.installed_hooks is not None:
            return None  # who wants to hear of each call, and of what it gives
        return DirectoryOpened(self.number(path))

    def make_real(self, number: int, flags: int, ended: bool) -> InstallFd:
        """REQ_DIR.  Raises EBADF for a number that is not known."""
        record = self._get(number)
        if record is None:
            raise err(errno.EBADF)
        file = OpenDir(record.path, record.inode, flags)
        if ended:
            file.take_listing(file.listing())
        return InstallFd(self._kernel.vfs.handle(record.path, file), cloexec=True)

    def read(self, number: int, buffer: int, room: int) -> Out | ToBeReal:
        """getdents64(2) from the start, if all fits.  Raises what OpenDir.getdents() raises."""
        record = self._get(number)
        if record is None:
            raise err(errno.EBADF)
        file = OpenDir(record.path, record.inode, 0)
        data = getdents(self._kernel.vfs, file, room)
        if file.pos < len(file.listing()):
            return ToBeReal()
        return Out(len(data), [(buffer, data)])


class Listings:
    """The entries of directories, for the core to give out: a ring, in which the oldest make room for new ones."""

    def __init__(self) -> None:
        self._at = 0
        self._held: deque[tuple[int, int, int]] = deque()  # start, end, place of the answer that points there

    def room(self, data: bytes) -> tuple[int, list[int]]:
        """Where in the ring `data` may lie now, and the answers that have to go before it is written there."""
        held, gone = self._held, []
        if self._at + len(data) > LISTINGS_SIZE:  # what is behind is older than what the ring begins with
            while held and held[0][0] >= self._at:
                gone.append(held.popleft()[2])
            self._at = 0
        start, end = self._at, self._at + len(data)
        while held and start <= held[0][0] < end:
            gone.append(held.popleft()[2])
        self._at = end
        return start, gone

    def is_at(self, start: int, end: int, place: int) -> None:
        """The answer at `place` of the table points to [start, end) of the ring."""
        self._held.append((start, end, place))
