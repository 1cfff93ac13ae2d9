"""The directories and files of /proc, made from the declarations of table.py.

Layer: vfs/procfs, inodes. May touch: the pretend kernel's tables (reading).

An inode here is made anew by each lookup and is equal to its like by number (inode.py allows that): the
number says which process, thread and entry it is, so it stays the same for as long as the process lives.
"""

from __future__ import annotations

import errno
import os

from ..inode import Inode, OpenContext, err
from ..inodeflags import FS_IMMUTABLE_FL
from ..openfile import O_ACCMODE, OpenFile, SeqFile
from ..stat import S_IFDIR, S_IFREG, Stat
from . import host
from .fs import INIT
from .table import PROCESS, PROCESS_FILES, SYSTEM_FILES, TASK, Entry, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..mount import Path
    from .fs import ProcFS

_names: dict[bytes, int] = {}
_LARGE = 1 << 62
#: files whose lseek(2) is not seq_lseek(), besides those of /proc/sys
_PLAIN = frozenset((b"cmdline", b"environ", b"auxv", b"mem", b"pagemap", b"oom_score_adj", b"oom_adj"))


def ino_of(pid: int, tid: int, name: bytes) -> int:
    """A stable inode number: pid and tid have at most 22 bits (PID_MAX_LIMIT), names are numbered as they
    come up."""
    head, slash, tail = name.partition(b"/")
    if slash and tail.isdigit() and head in (b"fd", b"fdinfo"):
        return _LARGE | (head == b"fdinfo") << 61 | bool(tid) << 60 | (tid or pid) << 32 | int(tail)
    index = _names.setdefault(name, len(_names) + 2)  # 1 is the root
    return (tid or pid) << 24 | bool(tid) << 23 | index


def found(inode: Inode | None) -> Inode:
    """A missing name is an error to every call here, also to one that would make it: mkdir(2) gives ENOENT."""
    if inode is None:
        raise err(errno.ENOENT)
    return inode


def setattr_of_proc(changes: dict[str, int | None]) -> None:
    """proc_setattr(): no other mode (EPERM). Owners and times are taken, and forgotten with the next look, as with a
    process's files on Linux; a truncation does nothing, so that `echo x > FILE` works."""
    if changes.get("mode") is not None:
        raise err(errno.EPERM)


class ProcDir(Inode):
    """A directory of a process. Owned by the process's effective ids."""

    __slots__ = ("name", "pid", "tid")

    def __init__(self, fs: ProcFS, pid: int, tid: int, name: bytes, mode: int = 0o555) -> None:
        creds = fs.creds(pid, tid)
        super().__init__(fs, ino_of(pid, tid, name), S_IFDIR | mode, creds.euid, creds.egid, nlink=2)
        self.pid = pid
        self.tid = tid
        self.name = name

    @property
    def fs(self) -> ProcFS:
        """The filesystem, by its own type."""
        sb: Any = self.sb
        fs: ProcFS = sb
        return fs

    def find(self, name: bytes) -> Inode | None:
        """The entry of this name, or None."""
        raise NotImplementedError

    def lookup(self, name: bytes) -> Inode:
        return found(self.find(name))

    def setattr(self, **changes: int | None) -> None:
        setattr_of_proc(changes)


class ProcFile(Inode):
    """A generated file: `entry` says how."""

    __slots__ = ("entry", "pid", "tid")

    def __init__(self, fs: ProcFS, pid: int, tid: int, entry: Entry, ino: int = 0) -> None:
        uid = gid = 0
        if pid:
            creds = fs.creds(pid, tid)
            uid, gid = creds.euid, creds.egid
        super().__init__(fs, ino or ino_of(pid, tid, entry.name), S_IFREG | entry.mode, uid, gid)
        self.entry = entry
        self.pid = pid
        self.tid = tid

    def setattr(self, **changes: int | None) -> None:
        setattr_of_proc(changes)

    def open(self, ctx: OpenContext) -> OpenFile:
        sb: Any = self.sb
        fs: ProcFS = sb
        if self.entry.open is not None:
            return self.entry.open(Scope(fs, self.pid, self.tid, ctx.task), ctx, self)
        if ctx.flags & O_ACCMODE != os.O_RDONLY and self.entry.write is None and self.mode & 0o222:
            # A knob of the host's kernel: shown, but not for a guest to turn.
            raise err(errno.EROFS)
        return OpenProc(ctx.path, self, ctx.flags, fs, self)


class OpenProc(SeqFile):
    """An open file of /proc: text, made when reading begins; a write goes to the entry's function."""

    __slots__ = ("_file", "_fs")

    def __init__(self, path: Path, inode: Inode, flags: int, fs: ProcFS, file: ProcFile) -> None:
        self._fs = fs
        self._file = file
        super().__init__(path, inode, flags, self._text)

    def _scope(self, task: Any) -> Scope:
        return Scope(self._fs, self._file.pid, self._file.tid, task)

    def _text(self, task: Any) -> bytes:
        if self._file.pid and self._fs.living(self._file.pid) is None:
            raise err(errno.ESRCH)
        return self._file.entry.read(self._scope(task))

    def pwrite(self, task: Any, data: bytes, offset: int) -> int:
        write = self._file.entry.write
        if write is None:
            raise err(errno.EIO)  # proc_reg_write() without an operation
        return write(self._scope(task), data)

    @property
    def _seq(self) -> bool:
        """Is it a seq_file on Linux?"""
        name = self._file.entry.name
        return not name.startswith(b"sys/") and name not in _PLAIN

    def do_write(self, task: Any, data: bytes, offset: int | None = None) -> int | Awaitable[int]:
        """seq_open() takes the right to pwrite(2)."""
        if offset is not None and self.writable and self._seq:
            raise err(errno.ESPIPE)
        return super().do_write(task, data, offset)

    def seek(self, offset: int, whence: int) -> int:
        """seq_lseek() has no end; other files of /proc have one, at 0."""
        if whence > 1 and self._seq:
            raise err(errno.EINVAL)
        return super().seek(offset, whence)

    def fsync(self) -> None:
        """There is no fsync operation here (vfs_fsync_range)."""
        raise err(errno.EINVAL)


class StaticDir(Inode):
    """A directory whose entries are fixed: below /proc itself, /proc/sys and the like."""

    __slots__ = ("entries",)

    def __init__(self, fs: ProcFS, ino: int, mode: int = 0o555) -> None:
        super().__init__(fs, ino, S_IFDIR | mode, nlink=2)
        self.entries: dict[bytes, Inode] = {}

    def find(self, name: bytes) -> Inode | None:
        """The entry of this name, or None."""
        return self.entries.get(name)

    def lookup(self, name: bytes) -> Inode:
        return found(self.find(name))

    def readdir(self) -> list[tuple[bytes, int, int]]:
        return [(name, inode.ino, inode.kind) for name, inode in self.entries.items()]

    def setattr(self, **changes: int | None) -> None:
        setattr_of_proc(changes)


class SubDir(ProcDir):
    """attr and net of a process: the declared files whose names begin with the directory's."""

    __slots__ = ()

    def find(self, name: bytes) -> Inode | None:
        entry = PROCESS_FILES.get(self.name + b"/" + name)
        return (
            ProcFile(self.fs, self.pid, self.tid, entry, ino_of(self.pid, self.tid, self.name + b"/" + name))
            if entry is not None
            else None
        )

    def readdir(self) -> list[tuple[bytes, int, int]]:
        prefix = self.name + b"/"
        return [
            (name[len(prefix) :], ino_of(self.pid, self.tid, name), S_IFREG)
            for name in PROCESS_FILES
            if name.startswith(prefix)
        ]


class PidDir(ProcDir):
    """/proc/PID (tid 0) or /proc/PID/task/TID. Immutable, which statx(2) does not tell: proc_pid_instantiate()."""

    __slots__ = ()

    iflags = FS_IMMUTABLE_FL

    def find(self, name: bytes) -> Inode | None:
        if self.fs.living(self.pid) is None or not self.fs.has_thread(self.pid, self.tid):
            raise err(errno.ESRCH)  # proc_pid_permission()
        entry = PROCESS_FILES.get(name)
        if entry is not None and entry.where & (TASK if self.tid else PROCESS):
            return ProcFile(self.fs, self.pid, self.tid, entry)
        if name == b"task" and not self.tid:
            return TaskDir(self.fs, self.pid, 0, name)
        if name in _SUBDIRS:
            return SubDir(self.fs, self.pid, self.tid, name)
        from .links import special

        return special(self.fs, self.pid, self.tid, name)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        from .links import SPECIAL

        where = TASK if self.tid else PROCESS
        out = [(name, S_IFREG) for name, e in PROCESS_FILES.items() if e.where & where and b"/" not in name]
        out += SPECIAL.items()
        out += [(name, S_IFDIR) for name in _SUBDIRS]
        if not self.tid:
            out.append((b"task", S_IFDIR))
        return [(name, ino_of(self.pid, self.tid, name), kind) for name, kind in out]

    def getattr(self) -> Stat:
        st = super().getattr()
        st.nlink = 9 if not self.tid else 7  # what the kernel's fixed list of entries comes to
        return st


_SUBDIRS = (b"attr", b"net")


class TaskDir(ProcDir):
    """/proc/PID/task."""

    __slots__ = ()

    def find(self, name: bytes) -> Inode | None:
        if not name.isdigit() or self.fs.living(self.pid) is None or not self.fs.has_thread(self.pid, int(name)):
            return None
        return PidDir(self.fs, self.pid, int(name), b".")

    def readdir(self) -> list[tuple[bytes, int, int]]:
        return [(b"%d" % tid, ino_of(self.pid, tid, b"."), S_IFDIR) for tid in self._tids()]

    def _tids(self) -> list[int]:
        if self.fs.living(self.pid) is None:
            raise err(errno.ENOENT)
        if self.fs.is_init(self.pid):
            return [self.pid]
        return host.numbers(f"{self.fs.place(self.pid)}/task")

    def getattr(self) -> Stat:
        st = super().getattr()
        st.nlink = 2 + len(self._tids())
        return st


class ProcRoot(StaticDir):
    """/proc itself: the fixed files and a directory for each process of the sandbox."""

    __slots__ = ()

    def __init__(self, fs: ProcFS) -> None:
        super().__init__(fs, 1)

    @property
    def fs(self) -> ProcFS:
        """The filesystem, by its own type."""
        sb: Any = self.sb
        fs: ProcFS = sb
        return fs

    def _fill(self) -> None:
        """Make the fixed part, at the first use: a program that never looks at /proc does not pay for it."""
        from . import network, process_mounts, process_state, sysctl, system  # noqa: F401  (they declare)
        from . import process_memory as _memory  # noqa: F401
        from .links import TextLink, self_target, thread_self_target

        fs = self.fs
        fixed: dict[bytes, Callable[[Any], bytes]] = {
            b"self": self_target,
            b"thread-self": thread_self_target,
            b"mounts": lambda task: b"self/mounts",
            b"net": lambda task: b"self/net",
        }
        for name, text in fixed.items():
            self.entries[name] = TextLink(fs, ino_of(0, 0, name), text)
        for path, entry in SYSTEM_FILES.items():
            *parents, name = path.split(b"/")
            at: StaticDir = self
            for depth, parent in enumerate(parents):
                below = at.entries.get(parent)
                if not isinstance(below, StaticDir):
                    below = at.entries[parent] = StaticDir(fs, ino_of(0, 0, b"/".join(parents[: depth + 1])))
                    at.nlink += 1
                at = below
            at.entries[name] = ProcFile(fs, 0, 0, entry, ino_of(0, 0, path))

    def _alive(self) -> list[int]:
        return [pid for pid in sorted({INIT, *self.fs.processes}) if self.fs.living(pid) is not None]

    def find(self, name: bytes) -> Inode | None:
        if not self.entries:
            self._fill()
        known = self.entries.get(name)
        if known is not None:
            return known
        if not name.isdigit() or name[:1] == b"0":
            return None
        pid = int(name)
        if self.fs.living(pid) is not None:
            return PidDir(self.fs, pid, 0, b".")
        # A thread's id may be looked up although it is not listed (proc_pid_lookup).
        for process in self.fs.processes.values():
            if any(task.tid == pid for task in process.tasks.values()) and self.fs.has_thread(process.pid, pid):
                return PidDir(self.fs, process.pid, 0, b".")
        return None

    def readdir(self) -> list[tuple[bytes, int, int]]:
        if not self.entries:
            self._fill()
        fixed = super().readdir()
        return fixed + [(b"%d" % pid, ino_of(pid, 0, b"."), S_IFDIR) for pid in self._alive()]

    def getattr(self) -> Stat:
        st = super().getattr()
        st.nlink += len(self.fs.processes)
        return st
