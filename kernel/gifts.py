"""Files that are opened ahead for a program that starts, since it opened them when it ran last.

Layer: the pretend kernel, beside sys_exec.  May touch: the vfs, as the program that is to be.

What a program is likely to need again is opened when the supervisor is idle, or else while the host kernel executes the
core. The descriptors (of ld.so's cache and the libraries, for most) come with the plan, and core_native/gifts.c gives
them out, without asking, where open(2) means just them. Only regular files of the host's that nobody changes in here,
opened for reading: that they are open a little longer is seen by nobody.
"""

from __future__ import annotations

import errno
import os
import resource
import struct

from ..loader.prepare import load
from ..vfs.inode import err
from ..vfs.stat import S_IFMT, S_IFREG
from .execfile import open_exec_path, opened_for_writing
from .images import identity
from .layout import MAX_GIFTS, OFFSETS, SIZES, VDIR_DEV
from .task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..loader.plan import Opened
    from ..loader.prepare import Program
    from ..loader.rewrite import Rewrite
    from ..vfs.inode import Inode
    from ..vfs.remembered import Known
    from .sandbox import Kernel
    from .sys_exec import PendingExec
    from .task import Process

    #: path and flags of an open, and the number of the directory where it began (0 for an absolute path)
    Open = tuple[bytes, int, int]

#: the flags that such an open may have beside O_RDONLY; 0o100000 is O_LARGEFILE, which musl sets
_PLAIN = os.O_CLOEXEC | os.O_NOCTTY | 0o100000
_MAX_PROGRAMS, _MAX_KNOWN = 256, 4096
#: files that are open for programs that may be executed; and who may not have so many descriptors opens none
_MOST_READY, _ENOUGH_FDS = 256, 2048
_AT = OFFSETS["ring3_gift"]
_SIZE = SIZES["ring3_gift"]
_MAX_PATH = _SIZE - _AT["path"]
_HEAD = struct.Struct("<2i2I8Q3I")
assert _HEAD.size == _AT["path"]


class Gift:
    """One opened file; whoever has it closes it."""

    __slots__ = ("fd", "ident", "image", "inode", "rewritable", "wanted")

    def __init__(
        self, wanted: Open, inode: Inode, fd: int, ident: tuple[int, int], rewritable: bool, image: Rewrite | None
    ) -> None:
        self.wanted = wanted
        self.inode = inode
        self.fd = fd
        self.rewritable = rewritable
        self.image = image
        self.ident = ident

    def again(self, fd: int) -> Gift:
        """The same, of another open file description."""
        return Gift(self.wanted, self.inode, fd, self.ident, self.rewritable, self.image)

    def pack(self, file: int, image: int) -> bytes:
        """struct ring3_gift; `file` and `image` are indices into the plan's files."""
        found = self.image
        start, length, vaddr = found.segments[0] if found is not None else (0, 0, 0)
        moved = (found.delta, found.tramp_offset, found.tramp_length) if found is not None else (0, 0, 0)
        gs = int(found.uses_gs) if found is not None else 0
        path, flags, cwd = self.wanted
        numbers = *self.ident, start, length, vaddr, *moved, gs, cwd
        head = _HEAD.pack(file, image, flags, int(self.rewritable), *numbers, len(path))
        return head + path.ljust(_MAX_PATH, b"\0")


class Ready:
    """What was opened for a program that is not yet executed: good for one context, in one epoch of the answers.

    `program`: itself and its interpreter, by `name`; then `identified` says what these files were when they were read.
    """

    __slots__ = ("context", "epoch", "gifts", "identified", "program")

    def __init__(self, context: int, epoch: int, gifts: list[Gift]) -> None:
        self.context, self.epoch = context, epoch
        self.gifts = gifts
        self.program: Program | None = None
        self.identified: list[tuple[int, ...]] = []

    def close(self) -> None:
        close(self.gifts)
        if self.program is not None:
            self.program.close()


def close(gifts: list[Gift]) -> None:
    """Nobody gets them any more."""
    for gift in gifts:
        os.close(gift.fd)


class Gifts:
    """What the programs of one sandbox opened first when they ran last."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._learned: dict[Inode, list[Open]] = {}
        self._no_program: dict[Open, tuple[int, ...]] = {}  # files with nothing to rewrite, and what they were then
        self._ready: dict[Inode, Ready] = {}  # the one that was made last at the end
        self._made: dict[tuple[Open, int], tuple[Known, Gift, tuple[int, ...]]] = {}  # in this epoch, for a context
        self._epochs: dict[Inode, int] = {}  # in which a program was executed last
        self._named: dict[bytes, Inode] = {}  # programs that are ready, by their absolute paths

    def opened(self, task: Task, name: bytes, flags: int, start: int, inode: Inode) -> None:
        """A program has opened a file, which we were asked for; `start`: as in Open."""
        asked = task.process.first_opens
        if asked is None or len(asked) >= MAX_GIFTS:
            return
        if len(name) <= _MAX_PATH and not flags & ~_PLAIN and _is_plain(inode):
            asked.append((name, flags, start))

    def prepare(self, process: Process, pending: PendingExec) -> None:
        """Open what the program will open, or take what is open."""
        task = Task(process, process.pid, 0, pending.creds)
        task.own_fs = pending.task.own_fs
        context, _ = self._kernel.answers.place(task.creds, task.fs)
        ready = self._ready.pop(pending.path.inode, None)
        if ready is not None and (ready.context, ready.epoch) != (context, self._kernel.answers.epoch):
            ready.close()
            ready = None
        if ready is None:
            ready = self._open(task, context, pending.path.inode)
        elif ready.program is not None:
            ready.program.close()
        pending.gifts, pending.gifts_epoch = ready.gifts, ready.epoch

    def program(self, task: Task, name: bytes) -> Program | None:
        """The program that `name` means to the task, if it is open already, which then is the caller's."""
        self._kernel.vfs.mounts.watch.settle()
        inode = self._named.pop(name, None)
        ready = self._ready.get(inode) if inode is not None else None
        if ready is None or ready.program is None:
            return None
        program, ready.program = ready.program, None
        now = ready.context, ready.epoch
        opened = program.files()
        if (
            now == (self._kernel.answers.place(task.creds, task.fs)[0], self._kernel.answers.epoch)
            and [identity(os.fstat(one.fd)) for one in opened] == ready.identified
            and not any(opened_for_writing(one.fd) for one in opened)
        ):
            return program
        program.close()
        return None

    def executed(self, process: Process, inode: Inode, name: bytes | None) -> None:
        """A program starts, by `name` if that is an absolute path of its own: have what it needs ready for the next
        time, if such things do not change all the time."""
        epoch = self._kernel.answers.epoch
        if len(self._epochs) >= _MAX_PROGRAMS:
            self._epochs.clear()
        if self._epochs.get(inode) == epoch:
            task = Task(process, process.pid, 0, process.main_creds)
            self._kernel.loop.when_idle(lambda: self._make_ready(task, inode, name))
        self._epochs[inode] = epoch

    def _make_ready(self, task: Task, inode: Inode, name: bytes | None) -> None:
        if inode in self._ready or resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _ENOUGH_FDS:
            return
        context, _ = self._kernel.answers.place(task.creds, task.fs)
        ready = self._open(task, context, inode)
        if name is not None and self._kernel.vfs.notify is None:
            self._load(task, ready, name)
        if ready.epoch != self._kernel.answers.epoch:  # we have heard of a change meanwhile
            ready.close()
            return
        self._ready[inode] = ready
        while sum(2 + len(ready.gifts) for ready in self._ready.values()) > _MOST_READY:
            self._ready.pop(next(iter(self._ready))).close()

    def _load(self, task: Task, ready: Ready, name: bytes) -> None:
        """Open the program, too, and its interpreter, if their names mean them for as long as the epoch lasts."""
        vfs = self._kernel.vfs
        inodes: list[Inode] = []

        def open_exec(path: bytes) -> Opened:
            place = vfs.lookup(task, None, path)
            if vfs.found is None or not _is_plain(place.inode):
                raise err(errno.ENOENT)
            inodes.append(place.inode)
            return open_exec_path(task, place, path)

        try:
            ready.program = program = load(open_exec, open_exec(name))
        except OSError:
            return
        ready.identified = [identity(os.fstat(one.fd)) for one in program.files()]
        if not self._kernel.images.to_wait_for(program.files()):
            program.find_rewrites(self._kernel.images.for_plan)
        self._kernel.answers.lasting(*inodes)
        self._named[name] = inodes[0]

    def drop(self) -> None:
        """Close what nobody has asked for yet: a new epoch begins."""
        self._made.clear()
        self._named.clear()
        while self._ready:
            self._ready.popitem()[1].close()

    def _open(self, task: Task, context: int, inode: Inode) -> Ready:
        kernel = self._kernel
        wanted = self._learned.get(inode)
        if wanted is None or kernel.vfs.notify is not None:
            return Ready(context, kernel.answers.epoch, [])
        gifts = [gift for gift in (self._make(task, one, context) for one in wanted) if gift is not None]
        return Ready(context, kernel.answers.lasting(*(gift.inode for gift in gifts)), gifts)

    def _again(self, wanted: Open, context: int) -> Gift | None:
        """What was opened before in this epoch, opened again: its name means the same, to the same."""
        made = self._made.get((wanted, context))
        if made is None:
            return None
        known, gift, identified = made
        fd = self._kernel.vfs.mounts.walks.held.open(known, wanted[1])
        if fd is None:
            return None
        if identity(os.fstat(fd)) == identified:
            return gift.again(fd)
        os.close(fd)
        return None

    def _make(self, task: Task, wanted: Open, context: int) -> Gift | None:
        gift = self._again(wanted, context)
        if gift is not None:
            return gift
        kernel = self._kernel
        name, flags, number = wanted
        start = None
        if number:
            place = kernel.vfs.files.get(VDIR_DEV, number)
            if place is None:
                return None
            start = place.path
        try:
            path, opened = kernel.vfs.open(task, start, name, flags)
        except OSError:
            return None
        if not isinstance(opened, int):
            return None
        fd, found = kernel.vfs.handle(path, opened), kernel.vfs.found
        if found is None or not _is_plain(path.inode):
            os.close(fd)
            return None
        st = os.fstat(fd)
        identified = identity(st)
        gift = Gift(wanted, path.inode, fd, (st.st_dev, st.st_ino), *self._program(wanted, fd, st, identified))
        if len(self._made) >= _MAX_KNOWN:
            self._made.clear()
        self._made[wanted, context] = found, gift.again(-1), identified
        return gift

    def _program(
        self, wanted: Open, fd: int, st: os.stat_result, identified: tuple[int, ...]
    ) -> tuple[bool, Rewrite | None]:
        """May the file have text to rewrite, and its rewritten text."""
        images = self._kernel.images
        if self._no_program.get(wanted) == identified:
            return False, None
        image = images.rewritten(fd) if images.is_rewritable(fd, st) else None
        rewritable = images.is_rewritable(fd, st)  # it may have been found that there is nothing to rewrite
        if not rewritable:
            if len(self._no_program) >= _MAX_KNOWN:
                self._no_program.clear()
            self._no_program[wanted] = identified
        return rewritable, image

    def ended(self, process: Process) -> None:
        """A program ends, or executes another: what it opened first it is given when it runs again."""
        asked, exe = process.first_opens, process.exe
        if asked is None or exe is None:
            return
        bits = 0 if process.channel is None else process.channel.gifts_used()
        used = [one for i, one in enumerate(process.gifts) if bits >> i & 1]
        if exe.inode not in self._learned and len(self._learned) >= _MAX_PROGRAMS:
            del self._learned[next(iter(self._learned))]
        self._learned[exe.inode] = wanted = [*used, *asked][:MAX_GIFTS]
        ready = self._ready.get(exe.inode)
        if ready is not None and len(set(wanted).difference(gift.wanted for gift in ready.gifts)) > len(wanted) // 8:
            del self._ready[exe.inode]  # it has learned more since
            ready.close()


def _is_plain(inode: Inode) -> bool:
    return inode.mode & S_IFMT == S_IFREG and inode.is_plain()
