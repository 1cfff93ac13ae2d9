"""Where every file of /proc is declared, and what the function that makes one is told.

Layer: vfs/procfs, between the text functions and the inodes.  May touch: the host's /proc of guests, by host.py.

An entry is one decorated function that returns the whole text:

    @process_file("comm", mode=0o644, write=write_comm)
    def comm(scope: Scope) -> bytes: ...

`process_file` declares a file of /proc/PID and of /proc/PID/task/TID (or of one of them: `where`);
`system_file` one below /proc itself, by its path ("sys/kernel/hostname": the directories follow from it).
"""

from __future__ import annotations

import errno

from ..inode import err
from . import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...kernel.task import Credentials, FsStruct, Process, Task
    from ..inode import Inode, OpenContext
    from ..openfile import OpenFile
    from .fs import ProcFS

    Open = Callable[["Scope", OpenContext, Inode], OpenFile]
    Read = Callable[["Scope"], bytes]
    Write = Callable[["Scope", bytes], int]

#: `where` of a process's entry
PROCESS, TASK = 1, 2
BOTH = PROCESS | TASK


class Scope:
    """What an entry's function may look at.

    Attributes:
        fs: the filesystem, which knows the sandbox and the mounts.
        pid, tid: whose file it is; tid is 0 in /proc/PID itself, both are 0 for the files of /proc.
        reader: the thread that opened the file, None when it is opened from Python (`box.root / "proc"`).
    """

    __slots__ = ("fs", "pid", "reader", "tid")

    def __init__(self, fs: ProcFS, pid: int = 0, tid: int = 0, reader: Task | None = None) -> None:
        self.fs = fs
        self.pid = pid
        self.tid = tid
        self.reader = reader

    @property
    def place(self) -> str:
        """The host's directory of the process or thread."""
        return self.fs.place(self.pid, self.tid)

    def read(self, name: str) -> bytes:
        """The host's file of this name about the process or thread.  Raises OSError(ESRCH) once it has gone."""
        return host.read_task(self.place, name)

    def write(self, name: str, data: bytes) -> int:
        """One write(2) to the host's file; nobody turns the knobs of init.  Raises: OSError."""
        if self.is_init:
            raise err(errno.EACCES)
        return host.write_task(self.place, name, data)

    @property
    def is_init(self) -> bool:
        """Is it about the sandbox's own init (init.py)?"""
        return self.fs.is_init(self.pid)

    @property
    def process(self) -> Process:
        """The process whose directory this is.  Raises OSError(ESRCH) once it has gone."""
        return self.fs.process(self.pid)

    @property
    def task(self) -> Task | None:
        """The thread whose directory this is (the leader in /proc/PID), None while the supervisor has not met
        it."""
        return self.fs.exact_task(self.pid, self.tid or self.pid)

    @property
    def creds(self) -> Credentials:
        """The credentials of the thread whose directory this is."""
        return self.fs.creds(self.pid, self.tid)

    @property
    def files(self) -> FsStruct:
        """Root, working directory and umask of the thread whose directory this is."""
        return self.fs.fs_of(self.pid, self.tid)


class Entry:
    """One declared file: its name, permission bits, and the functions behind read(2) and write(2).

    `open`, if set, makes the open file instead, for what is no text: it gets the scope, the OpenContext and
    the inode.
    """

    __slots__ = ("mode", "name", "open", "read", "where", "write")

    def __init__(
        self, name: bytes, mode: int, read: Read, write: Write | None, where: int, opener: Open | None = None
    ) -> None:
        self.name = name
        self.mode = mode
        self.read = read
        self.write = write
        self.where = where
        self.open = opener


PROCESS_FILES: dict[bytes, Entry] = {}
SYSTEM_FILES: dict[bytes, Entry] = {}


def process_file(
    name: str, *, mode: int = 0o444, write: Write | None = None, where: int = BOTH
) -> Callable[[Read], Read]:
    """Declare a file of every process's directory; the decorated function gives its whole text."""

    def declare(read: Read) -> Read:
        key = name.encode()
        PROCESS_FILES[key] = Entry(key, mode, read, write, where)
        return read

    return declare


def process_object(name: str, *, mode: int) -> Callable[[Open], Open]:
    """Declare an entry of every process that is no text; the decorated function opens it."""

    def declare(opener: Open) -> Open:
        key = name.encode()
        PROCESS_FILES[key] = Entry(key, mode, _no_text, None, BOTH, opener)
        return opener

    return declare


def _no_text(scope: Scope) -> bytes:
    raise AssertionError("the entry has its own open()")


def system_file(name: str, *, mode: int = 0o444, write: Write | None = None) -> Callable[[Read], Read]:
    """Declare a file below /proc by its path; the decorated function gives its whole text."""

    def declare(read: Read) -> Read:
        key = name.encode()
        SYSTEM_FILES[key] = Entry(key.rpartition(b"/")[2], mode, read, write, PROCESS)
        return read

    return declare
