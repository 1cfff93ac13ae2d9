"""Files that are opened ahead for a program that starts, since it opened them when it ran last.

Layer: the pretend kernel, beside sys_exec.  May touch: the vfs, as the program that is to be.

While the host kernel executes the core, nobody waits for us. The descriptors (of ld.so's cache and the libraries, for
most) come with the plan, and core_native/gifts.c gives them out, without asking, where open(2) means just them. Only
regular files of the host's that nobody changes in here, opened for reading by absolute paths: that they are open a
little longer is seen by nobody.
"""

from __future__ import annotations

import os
import struct

from ..vfs.stat import S_IFMT, S_IFREG
from .images import identity
from .layout import MAX_GIFTS, OFFSETS, SIZES
from .task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..loader.rewrite import Rewrite
    from ..vfs.inode import Inode
    from .sandbox import Kernel
    from .sys_exec import PendingExec
    from .task import Process

    #: path and flags of an open
    Open = tuple[bytes, int]

#: the flags that such an open may have beside O_RDONLY; 0o100000 is O_LARGEFILE, which musl sets
_PLAIN = os.O_CLOEXEC | os.O_NOCTTY | 0o100000
_MAX_PROGRAMS, _MAX_KNOWN = 256, 4096
_AT = OFFSETS["ring3_gift"]
_SIZE = SIZES["ring3_gift"]
_MAX_PATH = _SIZE - _AT["path"]
_HEAD = struct.Struct("<2i2I8Q2I")
assert _HEAD.size == _AT["path"]


class Gift:
    """One opened file; whoever has it closes it."""

    __slots__ = ("fd", "flags", "ident", "image", "inode", "path", "rewritable")

    def __init__(
        self, wanted: Open, inode: Inode, fd: int, st: os.stat_result, rewritable: bool, image: Rewrite | None
    ) -> None:
        self.path, self.flags = wanted
        self.inode = inode
        self.fd = fd
        self.rewritable = rewritable
        self.image = image
        self.ident = st.st_dev, st.st_ino

    def pack(self, file: int, image: int) -> bytes:
        """struct ring3_gift; `file` and `image` are indices into the plan's files."""
        found = self.image
        start, length, vaddr = found.segments[0] if found is not None else (0, 0, 0)
        moved = (found.delta, found.tramp_offset, found.tramp_length) if found is not None else (0, 0, 0)
        gs = int(found.uses_gs) if found is not None else 0
        head = _HEAD.pack(
            file, image, self.flags, int(self.rewritable), *self.ident, start, length, vaddr, *moved, gs, len(self.path)
        )  # fmt: skip
        return head + self.path.ljust(_MAX_PATH, b"\0")


class Gifts:
    """What the programs of one sandbox opened first when they ran last."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._learned: dict[Inode, list[Open]] = {}
        self._no_program: dict[Open, tuple[int, ...]] = {}  # files with nothing to rewrite, and what they were then

    def opened(self, task: Task, name: bytes, flags: int, inode: Inode) -> None:
        """A program has opened a file, which we were asked for."""
        asked = task.process.first_opens
        if asked is None or len(asked) >= MAX_GIFTS:
            return
        if name[0] == 47 and len(name) <= _MAX_PATH and not flags & ~_PLAIN and _is_plain(inode):
            asked.append((name, flags))

    def prepare(self, process: Process, pending: PendingExec) -> None:
        """Open what the program will open."""
        kernel = self._kernel
        wanted = self._learned.get(pending.path.inode)
        if wanted is None or kernel.vfs.notify is not None:
            return
        task = Task(process, process.pid, 0, pending.creds)
        task.own_fs = pending.task.own_fs
        pending.gifts = [gift for gift in (self._make(task, one) for one in wanted) if gift is not None]
        pending.gifts_epoch = kernel.answers.lasting(*(gift.inode for gift in pending.gifts))

    def _make(self, task: Task, wanted: Open) -> Gift | None:
        kernel = self._kernel
        try:
            path, opened = kernel.vfs.open(task, None, *wanted)
        except OSError:
            return None
        if not isinstance(opened, int):
            return None
        fd = kernel.vfs.handle(path, opened)
        if kernel.vfs.found is None or not _is_plain(path.inode):
            os.close(fd)
            return None
        st, images = os.fstat(fd), kernel.images
        if self._no_program.get(wanted) == (known := identity(st)):
            return Gift(wanted, path.inode, fd, st, False, None)
        image = images.rewritten(fd) if images.is_rewritable(fd, st) else None
        rewritable = images.is_rewritable(fd, st)  # it may have been found that there is nothing to rewrite
        if not rewritable:
            if len(self._no_program) >= _MAX_KNOWN:
                self._no_program.clear()
            self._no_program[wanted] = known
        return Gift(wanted, path.inode, fd, st, rewritable, image)

    def ended(self, process: Process) -> None:
        """A program ends, or executes another: what it opened first it is given when it runs again."""
        asked, exe = process.first_opens, process.exe
        if asked is None or exe is None:
            return
        bits = 0 if process.channel is None else process.channel.gifts_used()
        used = [wanted for i, wanted in enumerate(process.gifts) if bits >> i & 1]
        if exe.inode not in self._learned and len(self._learned) >= _MAX_PROGRAMS:
            del self._learned[next(iter(self._learned))]
        self._learned[exe.inode] = [*used, *asked][:MAX_GIFTS]


def _is_plain(inode: Inode) -> bool:
    return inode.mode & S_IFMT == S_IFREG and inode.is_plain()
