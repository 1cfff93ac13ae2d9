"""The links of /proc/PID: exe, cwd, root, fd/N and ns/X, which lead to objects and not to names (proc(5)).

Layer: vfs/procfs, inodes. May touch: the Process object (reading), the Vfs's registry (reading), the host's
/proc of the guest, for what its descriptors are.
"""

from __future__ import annotations

import errno
import os
from _weakref import ref  # the module weakref costs start-up time

from ..inode import Inode, err
from ..openfile import OpenFile
from ..stat import S_IFDIR, S_IFLNK, S_IFREG, Stat
from . import host
from .nodes import ProcDir, ProcFile, ino_of
from .table import BOTH, Entry, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..inode import OpenContext, SuperBlock
    from ..mount import Namespace, Path
    from ..openfile import FileRecord
    from .fs import ProcFS


class TextLink(Inode):
    """A symbolic link whose text depends on who reads it: /proc/self, /proc/thread-self."""

    __slots__ = ("_text",)

    def __init__(self, fs: ProcFS, ino: int, text: Any) -> None:
        """`text(task)` gives the target; `task` is None when the user's own Python reads."""
        super().__init__(fs, ino, S_IFLNK | 0o777)
        self._text = text

    def readlink(self, task: Any = None) -> bytes:
        text = self._text(task)
        assert isinstance(text, bytes)
        return text


def self_target(task: Any) -> bytes:
    """/proc/self; ENOENT for one who is no process of the sandbox."""
    if task is None:
        raise err(errno.ENOENT)
    return b"%d" % task.process.pid


def thread_self_target(task: Any) -> bytes:
    """/proc/thread-self."""
    if task is None:
        raise err(errno.ENOENT)
    return b"%d/task/%d" % (task.process.pid, task.tid)


class MagicLink(Inode):
    """A link of a process: subclasses say where it leads. Its owner is the process's."""

    __slots__ = ("name", "pid", "tid")

    def __init__(self, fs: ProcFS, pid: int, tid: int, name: bytes, mode: int = 0o777, ino: int = 0) -> None:
        creds = fs.creds(pid, tid)
        super().__init__(fs, ino or ino_of(pid, tid, name), S_IFLNK | mode, creds.euid, creds.egid)
        self.pid = pid
        self.tid = tid
        self.name = name

    @property
    def fs(self) -> ProcFS:
        """The filesystem, by its own type."""
        sb: Any = self.sb
        fs: ProcFS = sb
        return fs

    def check(self, task: Any) -> Scope:
        """proc_fd_access_allowed(): EACCES unless `task` may look into the process."""
        scope = Scope(self.fs, self.pid, self.tid, task)
        if not self.fs.may_inspect(scope):
            raise err(errno.EACCES)
        return scope


class PlaceLink(MagicLink):
    """exe, cwd, root."""

    __slots__ = ()

    def _place(self, scope: Scope) -> Path:
        files = scope.files
        place = scope.process.exe if self.name == b"exe" else files.cwd if self.name == b"cwd" else files.root
        if place is None:
            raise err(errno.ENOENT)
        if self.name == b"exe" and not host.read_task(self.fs.place(self.pid), "statm").strip(b"0 \n"):
            raise err(errno.ENOENT)  # a zombie has no memory, thus no program
        return place

    def readlink(self, task: Any = None) -> bytes:
        root = task.fs.root if task is not None else None
        return self.fs.show(self._place(self.check(task)), root)

    def follow(self, task: Any) -> Path:
        return self._place(self.check(task))


class FdLink(MagicLink):
    """fd/N. The mode shows how the descriptor was opened (tid_fd_update_inode in fs/proc/fd.c)."""

    __slots__ = ("fd",)

    def __init__(self, fs: ProcFS, pid: int, tid: int, fd: int, mode: int) -> None:
        super().__init__(fs, pid, tid, b"fd/%d" % fd, mode)
        self.fd = fd

    def _record(self) -> FileRecord | None:
        return self.fs.vfs.files.get(*self.fs.identify_fd(self.pid, self.tid, self.fd))

    def readlink(self, task: Any = None) -> bytes:
        self.check(task)
        record = self._record()
        if record is not None:
            return self.fs.show(record.path, task.fs.root if task is not None else None)
        # A pipe, a socket, a terminal, the caller's stdio: the host's own name for it.
        return os.fsencode(os.readlink(f"{self.fs.place(self.pid, self.tid or self.pid)}/fd/{self.fd}"))

    def follow(self, task: Any) -> Path | None:
        self.check(task)
        record = self._record()
        if record is not None:
            return record.path
        owner = self.fs.exact_task(self.pid, self.tid or self.pid)
        if owner is None:
            raise err(errno.ENOENT)
        return self.fs.vfs.path_of_fd(owner, self.fd)

    def getattr(self) -> Stat:
        st = super().getattr()
        st.size = 64  # what ls(1) shows of every magic link
        return st


def _open_mode(fs: ProcFS, pid: int, tid: int, fd: int) -> int | None:
    """Permission bits of fd/N, None when there is no such descriptor."""
    if fd >= fs.process(pid).core_fd_min:
        return None
    try:
        mode = os.lstat(f"{fs.place(pid, tid or pid)}/fd/{fd}").st_mode
        file = fs.vfs.files.open_file(*fs.identify_fd(pid, tid, fd))
    except (FileNotFoundError, ProcessLookupError):
        return None
    if file is None:
        return mode & 0o777
    return (0o500 if file.readable else 0) | (0o300 if file.writable else 0)


class FdDir(ProcDir):
    """fd and fdinfo: the guest's own descriptors."""

    __slots__ = ("info",)

    def __init__(self, fs: ProcFS, pid: int, tid: int, info: bool) -> None:
        super().__init__(fs, pid, tid, b"fdinfo" if info else b"fd", 0o555 if info else 0o500)
        self.info = info

    def find(self, name: bytes) -> Inode | None:
        if not name.isdigit() or (name[:1] == b"0" and name != b"0"):
            return None
        fd = int(name)
        mode = _open_mode(self.fs, self.pid, self.tid, fd)
        if mode is None:
            return None
        if self.info:
            return ProcFile(
                self.fs, self.pid, self.tid, Entry(b"fdinfo/" + name, 0o444, fdinfo_of(fd), None, BOTH)
            )
        return FdLink(self.fs, self.pid, self.tid, fd, mode)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        kind, sort = (b"fdinfo/%d", S_IFREG) if self.info else (b"fd/%d", S_IFLNK)
        return [
            (b"%d" % fd, ino_of(self.pid, self.tid, kind % fd), sort)
            for fd in self.fs.descriptors(self.pid, self.tid)
        ]


def fdinfo_of(fd: int) -> Any:
    """The reader of fdinfo/FD: the host's text, with the offset, flags, mount and inode of the guest's
    file."""

    def read(scope: Scope) -> bytes:
        fs = scope.fs
        if not fs.may_inspect(scope):
            raise err(errno.EACCES)
        text = host.read_task(fs.place(scope.pid, scope.tid or scope.pid), f"fdinfo/{fd}")
        record = fs.vfs.files.get(*fs.identify_fd(scope.pid, scope.tid, fd))
        if record is None:
            return text
        values = {b"mnt_id": b"%d" % record.path.mount.id, b"ino": b"%d" % record.inode.ino}
        further = b""
        if isinstance(record, OpenFile):
            cloexec = next((int(n, 8) & os.O_CLOEXEC for n in _values(text, b"flags")), 0)
            values[b"pos"] = b"%d" % record.pos
            values[b"flags"] = b"0%o" % (
                record.flags | 0o100000 | cloexec
            )  # O_LARGEFILE, as in every 64-bit open
            further = record.fdinfo().encode()
        elif directory := fs.process(scope.pid).directories().get(fd):
            cloexec = next((int(n, 8) & os.O_CLOEXEC for n in _values(text, b"flags")), 0)
            values[b"flags"] = b"0%o" % (directory[1] | cloexec)
        lines = [
            b"%b:\t%b\n" % (name, fs.lock_line(value) if name == b"lock" else values.get(name, value))
            for name, _, value in (line.partition(b":\t") for line in text.splitlines())
        ]
        return b"".join(lines) + further

    return read


def _values(text: bytes, wanted: bytes) -> list[bytes]:
    return [v for n, _, v in (line.partition(b":\t") for line in text.splitlines()) if n == wanted]


#: The namespaces of ns/, with the inode numbers of the initial ones (include/linux/proc_ns.h) where the
#: host's are out of reach.
NAMESPACES = {
    b"cgroup": 4026531835, b"ipc": 4026531839, b"mnt": 4026531841, b"net": 4026531840, b"pid": 4026531836,
    b"pid_for_children": 4026531836, b"time": 4026531834, b"time_for_children": 4026531834, b"user":
    4026531837, b"uts": 4026531838,
}  # fmt: skip


class OpenNs(OpenFile):
    """A descriptor of a mount namespace, for setns(2). It keeps the namespace."""

    __slots__ = ("ns",)

    def __init__(self, path: Path, inode: Inode, flags: int, ns: Namespace) -> None:
        super().__init__(path, inode, flags)
        self.ns = ns
        ns.users.append(ref(self))


class NsInode(Inode):
    """A namespace as nsfs shows it: a file with the number of the namespace. Only mount namespaces can be opened."""

    __slots__ = ("ns",)

    def __init__(self, sb: SuperBlock, ino: int, ns: Namespace | None) -> None:
        super().__init__(sb, ino, S_IFREG | 0o444)
        self.ns = ns

    def open(self, ctx: OpenContext) -> OpenFile:
        if self.ns is None:
            raise err(errno.EACCES)
        if ctx.flags & 3:
            raise err(errno.EPERM)
        return OpenNs(ctx.path, self, ctx.flags, self.ns)


class NsLink(MagicLink):
    """ns/X: named, so that programs can compare them; only mnt, of which a sandbox may have several, can be opened."""

    __slots__ = ()

    def readlink(self, task: Any = None) -> bytes:
        self.check(task)
        kind = self.name.rpartition(b"/")[2]
        ns = getattr(self.fs.fs_of(self.pid, self.tid), "mnt_ns", None)
        if kind == b"mnt" and ns is not None:
            return b"mnt:[%d]" % ns.id
        try:
            return os.readlink(b"/proc/self/ns/" + kind)
        except OSError:
            return b"%b:[%d]" % (kind.partition(b"_")[0], NAMESPACES[kind])

    def follow(self, task: Any) -> Path | None:
        from ..dentry import Dentry
        from ..mount import Path

        name = self.readlink(task)
        mount = self.fs.vfs.anon_path(name).mount
        number = int(name.partition(b"[")[2][:-1])
        files = self.fs.fs_of(self.pid, self.tid)
        ns = (getattr(files, "mnt_ns", None) or self.fs.vfs.mounts.first) if name.startswith(b"mnt:") else None
        return Path(mount, Dentry(name, None, NsInode(mount.sb, number, ns)))


class NsDir(ProcDir):
    """ns."""

    __slots__ = ()

    def find(self, name: bytes) -> Inode | None:
        return NsLink(self.fs, self.pid, self.tid, b"ns/" + name) if name in NAMESPACES else None

    def readdir(self) -> list[tuple[bytes, int, int]]:
        return [(name, ino_of(self.pid, self.tid, b"ns/" + name), S_IFLNK) for name in NAMESPACES]


def special(fs: ProcFS, pid: int, tid: int, name: bytes) -> Inode | None:
    """The entries of a process that are no generated text."""
    if name in (b"exe", b"cwd", b"root"):
        return PlaceLink(fs, pid, tid, name)
    if name in (b"fd", b"fdinfo"):
        return FdDir(fs, pid, tid, name == b"fdinfo")
    if name == b"ns":
        return NsDir(fs, pid, tid, name, 0o511)
    return None


SPECIAL = {
    b"exe": S_IFLNK,
    b"cwd": S_IFLNK,
    b"root": S_IFLNK,
    b"fd": S_IFDIR,
    b"fdinfo": S_IFDIR,
    b"ns": S_IFDIR,
}
