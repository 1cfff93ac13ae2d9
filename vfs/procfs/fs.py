"""The filesystem object of /proc: who is shown, and how host objects are named in the guest's tree.

Layer: vfs/procfs.  May touch: the pretend kernel's tables (reading), the Vfs's mounts and registry (reading),
the host's /proc of guests.
"""

from __future__ import annotations

import errno
import os

from ...kernel.layout import CORE_BASE, CORE_END
from ..files import NUMBERED
from ..inode import SuperBlock, err
from ..stat import StatFs
from . import host, rewrite
from .table import Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from weakref import WeakKeyDictionary

    from ...kernel.sandbox import Kernel
    from ...kernel.task import Credentials, FsStruct, Process, Task
    from ..dentry import Dentry
    from ..mount import Mount, Path
    from ..vfs import Vfs

PROC_SUPER_MAGIC = 0x9FA0  # statfs(2)
_CAP_SYS_PTRACE = 19
_AUDIT_UID_UNSET = 0xFFFFFFFF
INIT = 1


class ProcFS(SuperBlock):
    """/proc of one world.

    Attributes:
        sandbox: the pretend kernel whose `processes` are shown (by the pids that guests see), None until it
        exists. vfs: the tree, for the names of files and mounts; set when the filesystem is mounted.
    """

    vfs: Vfs

    fstype = "proc"
    magic = PROC_SUPER_MAGIC
    stable = False

    def __init__(self, sandbox: Kernel | None = None) -> None:
        super().__init__("proc")
        from weakref import WeakKeyDictionary

        from .nodes import ProcRoot

        self.sandbox = sandbox
        self._core_memory: tuple[int, int] | None = None
        self._init: Process | None = None
        self.loginuids: WeakKeyDictionary[Process, int] = WeakKeyDictionary()
        self.root = ProcRoot(self)

    def statfs(self) -> StatFs:
        """As proc on Linux: no blocks, no inodes."""
        return StatFs(self.magic, fsid=self.dev)

    def attached(self, vfs: Vfs) -> None:
        """Mounted."""
        self.vfs = vfs

    # -- who ---------------------------------------------------------------------------------------------

    @property
    def processes(self) -> dict[int, Process]:
        """The processes of the sandbox by pid."""
        return self.sandbox.processes if self.sandbox is not None else {}

    def process(self, pid: int) -> Process:
        """A process of the sandbox.  Raises OSError(ESRCH) once it has gone."""
        process = self.processes.get(pid) or (self.init if pid == INIT else None)
        if process is None:
            raise err(errno.ESRCH)
        return process

    @property
    def init(self) -> Process | None:
        """Process 1, which the process table does not have."""
        if self._init is None and self.sandbox is not None and self.sandbox.init_pid:
            from .init import InitProcess

            self._init = InitProcess(self.sandbox)
        return self._init

    @property
    def proc(self) -> str:
        """A /proc of the host's that has guests' numbers."""
        return self.sandbox.pid_ns.proc if self.sandbox is not None else "/proc"

    def is_init(self, pid: int) -> bool:
        """Is it the sandbox's own init (init.py)?"""
        return pid == INIT and INIT not in self.processes and self.init is not None

    def place(self, pid: int, tid: int = 0) -> str:
        """The directory of a process (tid 0) or thread in a /proc of the host's that has guests' numbers; init's is
        another where they have no PID namespace."""
        if self.sandbox is not None and self.is_init(pid):
            pid = self.sandbox.init_pid
            tid = tid and pid
        place = f"{self.proc}/{pid}"
        return f"{place}/task/{tid}" if tid else place

    def living(self, pid: int) -> Process | None:
        """A process that still runs or waits to be waited for, else None: its pid may be someone else's by
        now."""
        process = self.processes.get(pid) or (self.init if pid == INIT else None)
        return process if process is not None and process.exists() else None

    def has_thread(self, pid: int, tid: int) -> bool:
        """Is the thread still there, as a zombie at least? (tid 0: its process is asked for)"""
        return not tid or os.path.exists(self.place(pid, tid))

    def exact_task(self, pid: int, tid: int) -> Task | None:
        """The thread with this id, None while the supervisor has not met it."""
        for task in self.process(pid).tasks.values():
            if task.tid == tid:
                return task
        return None

    def creds(self, pid: int, tid: int) -> Credentials:
        """The credentials of a thread; those of its process while the supervisor has not met it (or no
        more)."""
        task = self.exact_task(pid, tid or pid)
        if task is None:
            task = next(iter(self.process(pid).tasks.values()), None)
        return task.creds if task is not None else self.process(pid).main_creds

    def fs_of(self, pid: int, tid: int) -> FsStruct:
        """Root, working directory and umask of a thread."""
        task = self.exact_task(pid, tid or pid)
        return task.fs if task is not None else self.process(pid).fs

    def may_inspect(self, scope: Scope) -> bool:
        """ptrace_may_access(PTRACE_MODE_READ_FSCREDS): the same process, the same ids, or CAP_SYS_PTRACE."""
        reader = scope.reader
        if reader is None or reader.process is scope.process:
            return True
        mine, theirs = reader.creds, scope.creds
        same_user = {theirs.uid, theirs.euid, theirs.suid} == {mine.fsuid}
        same_group = {theirs.gid, theirs.egid, theirs.sgid} == {mine.fsgid}
        return same_user and same_group or mine.capable(_CAP_SYS_PTRACE)

    def loginuid(self, process: Process) -> int:
        """The audit uid: the process's own or that of the nearest ancestor that has one."""
        seen: Process | None = process
        while seen is not None:
            if seen in self.loginuids:
                return self.loginuids[seen]
            seen = self.processes.get(seen.ppid)
        return _AUDIT_UID_UNSET

    def core_memory(self, pid: int) -> tuple[int, int]:
        """Bytes that the core has mapped in a guest, and those of them that are private and writable.

        Every guest has the same core, so the first one that can be measured answers for all.
        """
        if self.is_init(pid):
            return 0, 0
        if self._core_memory is None:
            try:
                found = rewrite.area(host.read_task(self.place(pid), "maps"), (CORE_BASE, CORE_END))
            except OSError:
                return 0, 0
            if not found[0]:
                return found
            self._core_memory = found
        return self._core_memory

    def descriptors(self, pid: int, tid: int = 0) -> list[int]:
        """The guest's own descriptor numbers, in order.  Raises: OSError (EACCES, ESRCH)."""
        limit = self.process(pid).core_fd_min
        if not limit:
            return []
        try:
            return [fd for fd in host.numbers(f"{self.place(pid, tid or pid)}/fd") if fd < limit]
        except FileNotFoundError:
            raise err(errno.ESRCH) from None

    # -- names of objects --------------------------------------------------------------------------------

    def show(self, path: Path, root: Path | None = None) -> bytes:
        """d_path(): the name of a place as seen from `root`, with " (deleted)" once the name is gone."""
        return self.vfs.path_name(path, root)

    def within(self, dentry: Dentry) -> bytes:
        """The name of a dentry inside its own filesystem, for mountinfo's root field."""
        names: list[bytes] = []
        at: Dentry | None = dentry
        while at is not None and at.parent is not None:
            names.append(at.name)
            at = at.parent
        return b"/" + b"/".join(reversed(names))

    def mountpoint(self, mount: Mount, root: Path) -> bytes | None:
        """Where a mount is, seen from `root`; None if it is not below it."""
        if mount is root.mount:
            return b"/"
        place: list[bytes] = []
        at: Mount | None = mount
        while at is not None:
            dentry = at.mountpoint
            at = at.parent
            if at is None or dentry is None:
                return None
            while dentry is not at.root:
                if at is root.mount and dentry is root.dentry:
                    return b"/" + b"/".join(reversed(place))
                place.append(dentry.name)
                if dentry.parent is None:
                    return None
                dentry = dentry.parent
            if at is root.mount and dentry is root.dentry:
                return b"/" + b"/".join(reversed(place))
        return None

    def identify(self, dev: int, ino: int, shown: bytes, root: Path | None) -> tuple[bytes, int, int] | None:
        """What a host object is in the guest's tree.

        Args:
            dev, ino: the host object's identity, as in the host's maps.
            shown: the host's name of it.
            root: the root directory of whoever looks.

        Returns: (name, device, inode number) as the guest's own stat(2) gives them, None for what no
        filesystem of the sandbox made (a memfd of the guest's own, a System V segment).
        """
        record = self.vfs.files.get(dev, ino)
        if record is None:
            return None
        try:
            st = record.inode.getattr()
        except OSError:
            return None
        return self.show(record.path, root), st.dev, st.ino

    def lock_line(self, line: bytes) -> bytes:
        """A line of /proc/locks, or of fdinfo, with the device and inode number that the guest's stat(2) gives."""
        words = line.split(b" ")
        for i, word in enumerate(words):
            parts = word.split(b":")
            if len(parts) == 3 and parts[2].isdigit():
                device = os.makedev(int(parts[0], 16), int(parts[1], 16))
                if found := self.identify(device, int(parts[2]), b"", None):
                    words[i] = b"%02x:%02x:%d" % (os.major(found[1]), os.minor(found[1]), found[2])
        return b" ".join(words)

    def identify_fd(self, pid: int, tid: int, fd: int) -> tuple[int, int]:
        """(st_dev, st_ino) of the host object behind a guest's descriptor.  Raises OSError(ENOENT,
        EACCES)."""
        if directory := self.process(pid).directories().get(fd):
            return NUMBERED, directory[0]
        st = os.stat(f"{self.place(pid, tid or pid)}/fd/{fd}")
        return st.st_dev, st.st_ino
