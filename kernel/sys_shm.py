"""System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2) (ipc/shm.c).

Layer: the pretend kernel, a family of system calls.  May touch: memfds, and the host's /proc/PID/maps of guests.

A segment is a memfd.  The core maps it (core_native/mem.c), so that forks, faults and ends of processes are the host
kernel's business; who is attached is counted in the maps of the sandbox's processes when somebody asks.
"""

from __future__ import annotations

import errno
import os
import struct
import time

from ..vfs.inode import err
from .handlers import InstallFd, NativeResult, Out, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .handlers import Result
    from .sandbox import Kernel
    from .task import Process, Task

IPC_CREAT, IPC_EXCL = 0o1000, 0o2000
IPC_RMID, IPC_SET, IPC_STAT, IPC_INFO = 0, 1, 2, 3
SHM_LOCK, SHM_UNLOCK, SHM_STAT, SHM_INFO, SHM_STAT_ANY = 11, 12, 13, 14, 15
SHM_DEST, SHM_LOCKED = 0o1000, 0o2000
_SHM_RDONLY, _SHM_EXEC = 0o10000, 0o100000
_SEGMENTS_MAX = 4096  # SHMMNI
_INDEX_MASK, _SEQUENCES, _INDEX_MIN = 0x7FFF, 1 << 16, 64  # IPCMNI_SHIFT is 15, RADIX_TREE_MAP_SIZE
_SIZE_MAX = (1 << 64) - (1 << 24) - 1  # SHMMAX: ULONG_MAX - (1UL << 24)
_FILE_SIZE_MAX = (1 << 63) - 1  # MAX_LFS_FILESIZE
SHM_HUGETLB = 0o4000
_HUGE_SHIFT, _HUGE_SIZES = 26, (0, 21, 30)  # logarithms of x86-64's large pages; 0 is the default of them
_CAP_IPC_LOCK, _CAP_IPC_OWNER, _CAP_SYS_ADMIN = 14, 15, 21
_MUNMAP = 11
_DS = struct.Struct("<iIIIIIHxx4x16xQqqqiiQ16x")  # struct shmid64_ds


class Segment:
    """One shared memory segment; `key` is IPC_PRIVATE (0) once it is to be destroyed."""

    def __init__(self, t: Task, ident: int, key: int, size: int, mode: int) -> None:
        self.ident, self.key, self.size, self.mode = ident, key, size, mode
        self.fd = os.memfd_create(f"SYSV{key & 0xFFFFFFFF:08x}", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, size)
        except OSError as e:
            os.close(self.fd)
            raise err(errno.ENOMEM) from e
        self.inode = os.fstat(self.fd).st_ino
        self.uid = self.cuid = t.creds.euid
        self.gid = self.cgid = t.creds.egid
        self.cpid, self.lpid = t.process.pid, 0
        self.atime = self.dtime = 0
        self.ctime = int(time.time())

    def check(self, t: Task, wanted: int) -> None:
        """ipcperms(): EACCES unless all bits of `wanted` (0o444 | 0o222) are there."""
        creds = t.creds
        mode = self.mode
        if creds.euid in (self.uid, self.cuid):
            mode >>= 6
        elif creds.egid in (self.gid, self.cgid) or {self.gid, self.cgid} & set(creds.groups):
            mode >>= 3
        if wanted & 7 & ~mode and not creds.capable(_CAP_IPC_OWNER):
            raise err(errno.EACCES)

    def owned(self, t: Task) -> None:
        """EPERM unless the caller made or owns it."""
        if t.creds.euid not in (self.uid, self.cuid) and not t.creds.capable(_CAP_SYS_ADMIN):
            raise err(errno.EPERM)

    def pack(self, attached: int) -> bytes:
        """struct shmid64_ds"""
        return _DS.pack(
            self.key, self.uid, self.gid, self.cuid, self.cgid, self.mode, self.ident >> 15, self.size, self.atime,
            self.dtime, self.ctime, self.cpid, self.lpid, attached,
        )  # fmt: skip


class SharedMemory:
    """The segments of one sandbox."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.segments: dict[int, Segment] = {}
        self._last, self._sequence = -1, 0  # the index of the newest, and how often they began anew

    def by_key(self, key: int) -> Segment | None:
        self.reap()
        return next((s for s in self.segments.values() if s.key == key), None) if key else None

    def get(self, ident: int) -> Segment:
        """EINVAL for an id that there is not."""
        self.reap()
        found = self.segments.get(ident)
        if found is None:
            raise err(errno.EINVAL)
        return found

    def at(self, index: int) -> Segment:
        """EINVAL for an index that is free."""
        return self.get(next((ident for ident in self.segments if ident & _INDEX_MASK == index & _INDEX_MASK), -1))

    def make(self, t: Task, key: int, size: int, mode: int) -> Segment:
        """A new one.  Raises EINVAL, ENOSPC, ENOMEM."""
        if not 1 <= size <= _FILE_SIZE_MAX:
            raise err(errno.EINVAL)
        if len(self.segments) >= _SEGMENTS_MAX:
            raise err(errno.ENOSPC)
        ident = self._new_ident()
        made = self.segments[ident] = Segment(t, ident, key, size, mode)
        return made

    def _new_ident(self) -> int:
        """The next free index, round after round, and the number of the round: ipc_idr_alloc() in ipc/util.c."""
        taken = {ident & _INDEX_MASK for ident in self.segments}
        most = max(len(taken) * 3 // 2, _INDEX_MIN)
        index: int = next(at for at in (*range(self._last + 1, most), *range(most)) if at not in taken)
        if index <= self._last:
            self._sequence = (self._sequence + 1) % _SEQUENCES
        self._last = index
        return self._sequence * (_INDEX_MASK + 1) | index

    def attached(self) -> dict[int, int]:
        """How many attachments there are, by inode."""
        counts: dict[int, int] = {}
        for process in list(self._kernel.processes.values()):
            for _, inode in attachments(process):
                counts[inode] = counts.get(inode, 0) + 1
        return counts

    def reap(self) -> None:
        """Destroy those that are marked for it and that nobody has attached any more."""
        doomed = [s for s in self.segments.values() if s.mode & SHM_DEST]
        if doomed:
            counts = self.attached()
            for segment in doomed:
                if not counts.get(segment.inode):
                    self.drop(segment)

    def drop(self, segment: Segment) -> None:
        del self.segments[segment.ident]
        os.close(segment.fd)

    def close(self) -> None:
        for segment in list(self.segments.values()):
            self.drop(segment)


def attachments(process: Process) -> list[tuple[int, int]]:
    """(address, inode) of what a process has mapped of segments, from their beginning."""
    try:
        with open(f"{process.proc}/maps", "rb") as maps:
            lines = [line.split(None, 5) for line in maps if b" /memfd:SYSV" in line]
    except OSError:
        return []
    return [(int(f[0].split(b"-")[0], 16), int(f[4])) for f in lines if int(f[2], 16) == 0]


def _refuse_large_pages(t: Task, flags: int) -> NoReturn:
    """newseg() and hugetlb_file_setup() of a machine that has set none apart: EINVAL, EPERM or ENOMEM."""
    if flags >> _HUGE_SHIFT & 0x3F not in _HUGE_SIZES:
        raise err(errno.EINVAL)
    creds = t.creds
    if not creds.capable(_CAP_IPC_LOCK) and 0 not in (creds.egid, *creds.groups):  # vm.hugetlb_shm_group
        raise err(errno.EPERM)
    raise err(errno.ENOMEM)


@syscall("shmget")
def sys_shmget(t: Task, key: int, size: int, flags: int) -> Result:
    """shmget(2)"""
    shm = t.sandbox.shm
    found = shm.by_key(key)
    if found is None:
        if key and not flags & IPC_CREAT:
            raise err(errno.ENOENT)
        if flags & SHM_HUGETLB:
            _refuse_large_pages(t, flags)
        return shm.make(t, key, size, flags & 0o777).ident
    if flags & IPC_CREAT and flags & IPC_EXCL:
        raise err(errno.EEXIST)
    if size > found.size:
        raise err(errno.EINVAL)
    found.check(t, (flags & 0o777) >> 6 | (flags & 0o777) >> 3 | flags & 7)
    return found.ident


@syscall("shmat")
def sys_shmat(t: Task, ident: int, _address: int, flags: int) -> Result:
    """shmat(2): the core maps what it is given."""
    segment = t.sandbox.shm.get(ident)
    read_only = flags & _SHM_RDONLY
    segment.check(t, (4 if read_only else 6) | bool(flags & _SHM_EXEC))
    mode = os.O_RDONLY if read_only else os.O_RDWR
    fd = os.open(f"/proc/self/fd/{segment.fd}", mode | os.O_CLOEXEC)
    segment.atime, segment.lpid = int(time.time()), t.process.pid
    return InstallFd(fd, cloexec=True)


@syscall("shmdt")
def sys_shmdt(t: Task, address: int) -> Result:
    """shmdt(2)"""
    inode = dict(attachments(t.process)).get(address)
    if inode is None:
        raise err(errno.EINVAL)
    for segment in t.sandbox.shm.segments.values():
        if segment.inode == inode:
            segment.dtime, segment.lpid = int(time.time()), t.process.pid
    return NativeResult(nr=_MUNMAP, args=[address, _mapped_size(t.process, address, inode)])


def _mapped_size(process: Process, address: int, inode: int) -> int:
    """How far the mapping of a segment at `address` reaches, in one piece or (mprotect) in several."""
    end = address
    with open(f"{process.proc}/maps", "rb") as maps:
        for line in maps:
            fields = line.split(None, 5)
            start, stop = (int(n, 16) for n in fields[0].split(b"-"))
            if start == end and start >= address and int(fields[4]) == inode:
                if start > address and int(fields[2], 16) != start - address:
                    break
                end = stop
    return end - address


@syscall("shmctl")
def sys_shmctl(t: Task, ident: int, command: int, buffer: int) -> Result:
    """shmctl(2)"""
    shm = t.sandbox.shm
    if ident < 0 or command < 0:
        raise err(errno.EINVAL)
    if command in (IPC_INFO, SHM_INFO):
        highest = max((known & _INDEX_MASK for known in shm.segments), default=0)
        if command == IPC_INFO:
            limits = struct.pack("<QQQQQ32x", _SIZE_MAX, 1, _SEGMENTS_MAX, _SEGMENTS_MAX, _SIZE_MAX)
            return Out(highest, [(buffer, limits)])
        total = sum(s.size + 4095 >> 12 for s in shm.segments.values())
        return Out(highest, [(buffer, struct.pack("<i4xQQQQQ", len(shm.segments), total, total, 0, 0, 0))])
    segment = shm.at(ident) if command in (SHM_STAT, SHM_STAT_ANY) else shm.get(ident)
    if command in (IPC_STAT, SHM_STAT, SHM_STAT_ANY):
        if command != SHM_STAT_ANY:
            segment.check(t, 4)
        data = segment.pack(shm.attached().get(segment.inode, 0))
        return Out(0 if command == IPC_STAT else segment.ident, [(buffer, data)])
    if command not in (IPC_RMID, IPC_SET, SHM_LOCK, SHM_UNLOCK):
        raise err(errno.EINVAL)
    segment.owned(t)
    if command == IPC_RMID:
        segment.mode |= SHM_DEST
        segment.key = 0
        shm.reap()
    elif command == IPC_SET:
        fields = _DS.unpack(t.peek(buffer, _DS.size))
        segment.uid, segment.gid = fields[1], fields[2]
        segment.mode = segment.mode & ~0o777 | fields[5] & 0o777
        segment.ctime = int(time.time())
    elif command == SHM_LOCK:
        segment.mode |= SHM_LOCKED
    else:
        segment.mode &= ~SHM_LOCKED
    return 0
