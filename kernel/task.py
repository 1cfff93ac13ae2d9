"""Tasks, processes, credentials: what the pretend kernel knows of who calls.

Layer: the pretend kernel.  May touch: the host's /proc/PID/fd of a guest and, where permitted, its memory.
"""

from __future__ import annotations

import errno
import os
from _weakref import ref  # the module weakref costs start-up time

from .ends import has_ended, runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..loader.plan import Plan
    from ..vfs.mount import Namespace, Path
    from ..vfs.vfs import Vfs
    from .channel import Channel
    from .dnotify import Watcher
    from .drafts import Grant, Habit
    from .loop import Running
    from .sandbox import Kernel
    from .traps import Place


#: bytes that a call reads at most beyond what came with it
MOST_PEEKED = 4 << 20


class FdRef:
    """A descriptor as the core identified it: number, and (st_dev, st_ino, st_mode) of the host object; a directory
    to start from, or one of two descriptors, that is not open has mode 0 (paths.start() refuses it)."""

    __slots__ = ("dev", "fd", "ino", "mode")

    def __init__(self, fd: int, dev: int, ino: int, mode: int) -> None:
        self.fd, self.dev, self.ino, self.mode = fd, dev, ino, mode

    @property
    def nonblock(self) -> bool:
        """O_NONBLOCK of a socket: the core sends it in st_mode's unused top bit."""
        return bool(self.mode >> 31)

    def __repr__(self) -> str:
        return f"<fd {self.fd} {self.dev:x}:{self.ino}>"


_DECIDE_ON_FILES = "fsuid", "fsgid", "uid", "gid", "groups", "caps"


class Credentials:
    """credentials(7): virtual ids of a task.  Replaced, never changed in place, as Linux's struct cred."""

    __slots__ = ("caps", "egid", "euid", "fsgid", "fsuid", "gid", "groups", "keepcaps", "sgid", "suid", "uid")

    #: every capability of Linux 6.18 (CAP_LAST_CAP is 40)
    ALL = (1 << 41) - 1

    def __init__(self, uid: int = 0, gid: int = 0, groups: tuple[int, ...] = ()) -> None:
        self.uid = self.euid = self.suid = self.fsuid = uid
        self.gid = self.egid = self.sgid = self.fsgid = gid
        self.groups = groups
        self.caps = self.ALL if uid == 0 else 0  # the effective set
        self.keepcaps = False

    def copy(self) -> Credentials:
        new = Credentials.__new__(Credentials)
        for name in Credentials.__slots__:
            setattr(new, name, getattr(self, name))
        return new

    def sees_as(self, other: Credentials) -> bool:
        """Does whoever has these find files as who has the others does?"""
        return all(getattr(self, name) == getattr(other, name) for name in _DECIDE_ON_FILES)

    def capable(self, cap: int) -> bool:
        """Is capability number `cap` in the effective set (capabilities(7))?"""
        return bool(self.caps >> cap & 1)


class FsStruct:
    """Root, working directory, umask and mount namespace: shared by clone(CLONE_FS), else copied.

    `shared`: by another process, or it was. `mnt_ns` None is the world's first one. (Linux has it in struct nsproxy;
    but who shares the one shares the other, since CLONE_NEWNS implies an fs_struct of one's own.)
    """

    __slots__ = ("__weakref__", "cwd", "mnt_ns", "root", "shared", "umask")

    def __init__(self, root: Path, cwd: Path, umask: int, mnt_ns: Namespace | None = None) -> None:
        self.root, self.cwd, self.umask = root, cwd, umask
        self.shared = False
        self.mnt_ns: Namespace | None = None
        if mnt_ns is not None:
            self.enter(mnt_ns)

    def enter(self, mnt_ns: Namespace) -> None:
        """Belong to another mount namespace."""
        if self.mnt_ns is not None:
            self.mnt_ns.users = [r for r in self.mnt_ns.users if r() is not self]
        self.mnt_ns = mnt_ns if mnt_ns.id else None
        mnt_ns.users.append(ref(self))

    def copy(self) -> FsStruct:
        return FsStruct(self.root, self.cwd, self.umask, self.mnt_ns)


class MmLayout:
    """Where a program's parts lie (struct mm_struct), for /proc/PID/stat and the like."""

    __slots__ = (
        "arg_end", "arg_start", "end_code", "end_data", "env_end", "env_start", "start_brk", "start_code",
        "start_data", "start_stack",
    )  # fmt: skip

    def __init__(self, plan: Plan) -> None:
        self.start_code, self.end_code = plan.start_code, plan.end_code
        self.start_data = self.end_data = plan.end_code
        self.start_brk = plan.brk
        self.start_stack = plan.sp
        self.arg_start, self.arg_end = plan.arg_start, plan.arg_end
        self.env_start, self.env_end = plan.env_start, plan.env_end


class Task:
    """A thread of a guest.  `creds` are its own, `fs` its process's unless unshared."""

    __slots__ = (
        "blocked",
        "comm_override",
        "creds",
        "exec_args",
        "own_fs",
        "process",
        "request",
        "slot",
        "tid",
    )

    def __init__(self, process: Process, tid: int, slot: int, creds: Credentials) -> None:
        self.process = process
        self.tid = tid
        self.slot = slot
        self.creds = creds
        self.own_fs: FsStruct | None = None
        self.blocked: Running | None = None  # the call that waits, if one does
        self.request = 0
        self.exec_args: dict[int, bytearray] = {}
        self.comm_override: bytes | None = None

    @property
    def sandbox(self) -> Kernel:
        return self.process.sandbox

    @property
    def fs(self) -> FsStruct:
        return self.own_fs or self.process.fs

    def peek(self, address: int, size: int) -> bytes:
        """Read guest memory that did not come with the request.  Raises EFAULT, also where the host forbids it, and
        ENOMEM for more than any call needs."""
        from .channel import read_memory

        if size > MOST_PEEKED:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        data = read_memory(self.process.host_pid, address, size)
        if not self.process.exists():  # so that the pid may have been somebody else's
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return data

    def poke(self, address: int, data: bytes) -> None:
        """Write guest memory, where it is more than a reply holds.  Raises EFAULT, also where the host forbids it."""
        from .channel import write_memory

        if not self.process.exists():
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        write_memory(self.process.host_pid, address, data)

    def host_fd(self, fd: int) -> int:
        """A duplicate of the guest's descriptor `fd`, which the caller closes.  Raises EBADF."""
        process = self.process
        if fd < 0 or fd in process.core_fds:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return process.take_fd(fd)


class Process:
    """A thread group of the sandbox.

    `pid` is its number for guests; `host_pid` the one for us, which differs where they have a PID namespace.
    """

    def __init__(self, sandbox: Kernel, fs: FsStruct, creds: Credentials, token: int) -> None:
        self.sandbox = sandbox
        self.fs = fs
        self.token = token
        self.pid = self.host_pid = 0
        self.parent: Process | None = None
        self._children: set[Process] = set()
        self.forked_by: Process | None = None  # who made it, and may say what became of it
        self.pidfd = -1
        self.channel: Channel | None = None
        self.alive = True
        self.initial = False
        self.stop_at_start = False  # for a debugger
        self.exe: Path | None = None
        self.comm = b""
        self.cmdline = b""
        self.environ = b""
        self.auxv = b""
        self.mm: MmLayout | None = None
        self.watcher: Watcher | None = None  # of F_NOTIFY
        self.main_creds = creds
        self.tasks: dict[int, Task] = {}  # by slot
        self.pending_exec: Any = None
        self.sent_plan = False  # one was sent ahead (sys_exec.py), and the core that it is for has not said hello
        # gifts.py: what was opened ahead for its program, and what it asked for itself
        self.gifts: list[tuple[bytes, int, int]] = []
        self.first_opens: list[tuple[bytes, int, int]] | None = None
        self.opened: set[tuple[bytes, int]] = set()  # by name and flags: kept.py
        # answers.py: files that change which it has opened (st_dev, st_ino), and whether it made them
        self.live_files: dict[tuple[int, int], bool] = {}
        # drafts.py: how it makes files, and what was lent to it last
        self.habit: Habit | None = None
        self.grant: Grant | None = None
        self.dumpable = 1
        self.no_new_privs = False  # has one of its threads said so (prctl(2)), or the process that it comes from?
        self.trapped: dict[int, Place] = {}  # sites that trapped, by their place in the core's table

    @property
    def proc(self) -> str:
        """Its directory in a /proc that tells guests' numbers; for this process of ours alone."""
        return f"{self.sandbox.pid_ns.proc}/{self.pid}"

    @property
    def ppid(self) -> int:
        """The parent's pid as guests see it: 0 for those whom the sandbox started, 1 for orphans."""
        if self.initial:
            return 0
        return self.parent.pid if self.parent is not None and self.parent.alive else 1

    def born(self, by: Process, parent: Process | None) -> None:
        """`by` forks it, whose image it has; `parent` becomes its parent."""
        self.forked_by, self.parent = by, parent
        if parent is not None:
            parent._children.add(self)
        self.exe, self.mm, self.comm, self.auxv = by.exe, by.mm, by.comm, by.auxv
        self.cmdline, self.environ = by.cmdline, by.environ
        self.dumpable, self.no_new_privs, self.trapped = by.dumpable, by.no_new_privs, by.trapped

    def left_alone(self) -> None:
        """It has ended: its children are nobody's any more, and it is nobody's child when it is forgotten."""
        for child in self._children:
            child.parent = None
        self._children.clear()

    def forgotten(self) -> None:
        """It is waited for."""
        if self.parent is not None:
            self.parent._children.discard(self)

    def directories(self) -> dict[int, tuple[int, int]]:
        """The directories that its core has opened by itself, by descriptor: number and flags."""
        return self.channel.directories() if self.channel is not None else {}

    @property
    def core_fds(self) -> tuple[int, int]:
        return self.channel.core_fds() if self.channel is not None else (-1, -1)

    @property
    def core_fd_min(self) -> int:
        """Descriptors from here on are the core's (both lie side by side above the soft limit)."""
        return min((fd for fd in self.core_fds if fd > 2), default=1 << 30)

    @property
    def brk_range(self) -> tuple[int, int] | None:
        return self.channel.brk_range() if self.channel is not None else None

    @property
    def vfs(self) -> Vfs:
        return self.sandbox.vfs

    def take_fd(self, fd: int) -> int:
        """A duplicate of the process's descriptor.  Raises EBADF."""
        try:
            return pidfd_getfd(self.pidfd, fd)
        except OSError as e:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from e

    def interrupt_all(self) -> None:
        """Calls that wait for something end: their threads are gone."""
        for task in list(self.tasks.values()):
            if task.blocked is not None:
                from .loop import Interrupted

                task.blocked.throw(Interrupted(errno.EINTR, "gone"))

    def exists(self) -> bool:
        """Is it running, or a zombie that nobody has waited for yet?"""
        return self.pidfd >= 0 and runs(self.pidfd)

    def executes(self) -> bool:
        """Has its program not ended? Who waited for it knows sooner than we, and a zombie executes nothing."""
        return self.alive and self.exists() and not has_ended(self.proc)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2), Linux 5.6; the host lets a process do this to its descendants (ptrace(2), Yama 0 and 1)."""
    from .channel import libc_syscall

    result = libc_syscall(438, pidfd, fd, 0)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
