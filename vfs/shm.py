"""A tmpfs of the host kernel that is mounted nowhere: where the bytes of a MemoryFS with a size limit live.

Layer: vfs, beneath memfs.py. May touch: one mount of the host's kernel that no name leads to; with an ordinary user,
a short-lived helper process that makes it.

Guests write to files natively, so nobody but the kernel can stop them at a limit: F_SEAL_GROW would give EPERM, and
RLIMIT_FSIZE is about one file. So a limited filesystem gets a tmpfs of its own with fsopen(2) and fsmount(2), size=
set: write(2), fallocate(2) and page faults then fail exactly as on Linux (ENOSPC, SIGBUS). That takes CAP_SYS_ADMIN
over a user namespace: of this one (root), or of a new one in which the helper maps the caller's own ids alone; the
mount's descriptor comes back over a socket, and files are opened relative to it. Its last descriptor closed, the
tmpfs is gone.

A file that is idle costs no descriptor and none of our memory: it keeps its bytes under a number in the tmpfs.
"""

from __future__ import annotations

import errno
import os

from .hostcalls import syscall
from .memdata import MemData, MemfdPool
from .memfd import is_idle_own, read_all, write_all

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import Blob

_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_FSPICK = 430, 431, 432, 433
_CLOEXEC, _FSPICK_EMPTY_PATH = 1, 8
_SET_STRING, _CREATE, _RECONFIGURE = 1, 6, 7

# Runs as a program of its own (unshare(2) of a user namespace is refused to a process with threads).
_HELPER = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.geteuid(), os.getegid()
def check(result):
    if result < 0:
        sys.exit(ctypes.get_errno() or 1)
    return result
check(libc.unshare(0x10000000 | 0x20000))
for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
    with open("/proc/self/" + name, "w") as f:
        f.write(text)
fs = check(libc.syscall(430, b"tmpfs", 1))
check(libc.syscall(431, fs, 1, b"size", sys.argv[2].encode(), 0))
check(libc.syscall(431, fs, 1, b"mode", b"0700", 0))
check(libc.syscall(431, fs, 6, None, None, 0))
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"x"], [check(libc.syscall(432, fs, 1, 0))])
"""


def _mount(size: int) -> int:
    """A descriptor of a new tmpfs of `size` bytes. OSError if this process may not make one."""
    fs = syscall(_SYS_FSOPEN, b"tmpfs", _CLOEXEC)
    try:
        syscall(_SYS_FSCONFIG, fs, _SET_STRING, b"size", b"%d" % size, 0)
        syscall(_SYS_FSCONFIG, fs, _SET_STRING, b"mode", b"0700", 0)
        syscall(_SYS_FSCONFIG, fs, _CREATE, None, None, 0)
        return syscall(_SYS_FSMOUNT, fs, _CLOEXEC, 0)
    finally:
        os.close(fs)


def _resize(directory: int, size: int) -> None:
    """Give the tmpfs that `directory` is the root of another size."""
    fs = syscall(_SYS_FSPICK, directory, b"", _FSPICK_EMPTY_PATH | _CLOEXEC)
    try:
        syscall(_SYS_FSCONFIG, fs, _SET_STRING, b"size", b"%d" % size, 0)
        syscall(_SYS_FSCONFIG, fs, _RECONFIGURE, None, None, 0)
    finally:
        os.close(fs)


def _mount_by_helper(size: int) -> int:
    import socket
    import subprocess
    import sys

    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-I", "-S", "-c", _HELPER, str(theirs.fileno()), str(size)]
        done = subprocess.run(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            number = done.returncode if 1 < done.returncode < 134 else errno.EPERM
            raise OSError(number, os.strerror(number))
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        os.set_inheritable(fds[0], False)
        return fds[0]


class Shm:
    """A tmpfs of `size` bytes. Raises OSError with a sentence if this host lets nobody make one."""

    def __init__(self, size: int) -> None:
        self.size = size
        try:
            try:
                self._dir = _mount(size)
            except OSError as e:
                if e.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                    raise
                self._dir = _mount_by_helper(size)
        except OSError as e:
            raise OSError(
                errno.EOPNOTSUPP,
                f"a size limit needs root or user namespaces, which this host refuses ({os.strerror(e.errno or 0)})",
            ) from None
        self._last = 0

    def resize(self, size: int) -> None:
        """Another size. EINVAL below what is in use, EPERM where the tmpfs was made in a user namespace."""
        _resize(self._dir, size)
        self.size = size

    def new_data(self, pool: MemfdPool, now: int) -> ShmData:
        """The bytes of a new file."""
        return ShmData(self, pool, now)

    def free(self) -> int:
        """Bytes that are free."""
        st = os.fstatvfs(self._dir)
        return st.f_bavail * st.f_bsize

    def name(self) -> bytes:
        self._last += 1
        return b"%x" % self._last

    def open(self, name: bytes, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o700, dir_fd=self._dir)

    def remove(self, name: bytes) -> None:
        try:
            os.unlink(name, dir_fd=self._dir)
        except OSError:
            pass  # the filesystem is closed already

    def close(self) -> None:
        fd, self._dir = self._dir, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_dir", -1) >= 0:
            self.close()


class ShmData(MemData):
    """The bytes of a file in a Shm: a named file there, open only while guests may use it.

    Our own descriptor is read-only, so that it does not count as a writer: of a program that is being executed
    (ETXTBSY), and when a lease tells whether the file is idle.
    """

    __slots__ = ("_blocks", "_made", "_name", "_shm", "_size")

    def __init__(self, shm: Shm, pool: MemfdPool, now: int) -> None:
        super().__init__(pool, now)
        self._shm = shm
        self._name = shm.name()
        self._made = False
        self._size = self._blocks = 0

    def create(self) -> Callable[[], int]:
        def opened() -> int:
            if not self._made:
                os.close(self._shm.open(self._name, os.O_RDWR | os.O_CREAT))
                self._made = True
            return self._shm.open(self._name, os.O_RDONLY)

        return opened

    def fill(self, fd: int) -> None:
        """The bytes are in there."""

    def idle_size(self) -> tuple[int, int]:
        return self._size, self._blocks

    def freeze(self) -> Blob | bytes:
        self.fd()
        return super().freeze()

    def idle(self) -> bytes | None:
        return None

    def has(self, data: bytes) -> bool:
        return False

    def _cut(self, size: int, now: int) -> None:
        if self._fd < 0 and not self._size and not size:
            self.mtime = self.ctime = now
        else:
            self.put(lambda fd: os.ftruncate(fd, size))

    def load(self, data: bytes) -> None:
        self.changing()

        def whole(fd: int) -> None:
            os.ftruncate(fd, 0)
            write_all(fd, data)

        self.put(whole)

    def put(self, write: Callable[[int], object]) -> None:
        self.fd()
        fd = self._shm.open(self._name, os.O_RDWR)
        try:
            write(fd)
        finally:
            os.close(fd)

    def is_small(self) -> bool:
        return False  # what is deleted has to be free at once

    def open(self, flags: int) -> int:
        if self._pool.orphans:
            self._pool.reap()  # room may be needed
        return super().open(flags)

    def read(self) -> bytes:
        return read_all(self.fd()) if self._made else b""

    def try_idle(self, hard: bool = False) -> bool:
        fd = self._fd
        if fd < 0:
            return True
        if self._is_watched() or not is_idle_own(fd):
            return False
        st = os.fstat(fd)
        self._size, self._blocks = st.st_size, st.st_blocks
        _, _, self.atime, self.mtime, self.ctime = self.stat()
        self._drop()
        return True

    def _drop(self) -> None:
        super()._drop()
        if not self.linked:
            self._forget()

    def unlinked(self) -> None:
        self.changing()
        self.linked = False
        if self._fd < 0:
            self._forget()
        elif not self.try_idle():
            self._pool.orphans[self] = None

    def _forget(self) -> None:
        if self._made:
            self._made = False
            self._shm.remove(self._name)
        self._size = self._blocks = 0

    def __del__(self) -> None:
        super().__del__()
        if self._made:
            self._shm.remove(self._name)
