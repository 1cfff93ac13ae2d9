"""Reading the host's own /proc, the source of the numbers that the guest's /proc shows.

Layer: vfs/procfs, below the entries.  May touch: the host's /proc, for reading, and the few writable files of
a guest's own directory there (oom_score_adj and its like), never another process's.
"""

from __future__ import annotations

import errno
import os

_CHUNK = 1 << 16


def read(path: str) -> bytes:
    """The whole of a generated host file, which has no size to ask for.

    Raises: OSError as open(2) and read(2) give it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while chunk := os.read(fd, _CHUNK):
            parts.append(chunk)
        return b"".join(parts)
    finally:
        os.close(fd)


def read_or(path: str, default: bytes) -> bytes:
    """Like `read`, but `default` where this host has no such file or keeps it from us."""
    try:
        return read(path)
    except OSError:
        return default


def read_task(place: str, name: str) -> bytes:
    """A file of the directory of a process or thread, `place`.

    Raises: OSError(ESRCH) when the process or thread has gone, which is what reading such a file gives
    natively.
    """
    try:
        return read(f"{place}/{name}")
    except (FileNotFoundError, ProcessLookupError):
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH)) from None


def write_task(place: str, name: str, data: bytes) -> int:
    """Write a file of a guest's host directory in one write(2).

    Returns: the number of bytes taken.  Raises: OSError as the host gives it.
    """
    fd = os.open(f"{place}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def memory(place: str, start: int, length: int) -> bytes:
    """Bytes of a guest's memory, fewer than asked for where it ends.

    Raises: OSError(EIO) where nothing is mapped at `start`, EACCES or EPERM where the host forbids it.
    """
    if length <= 0:
        return b""
    fd = os.open(f"{place}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, length, start)
    finally:
        os.close(fd)


def numbers(path: str) -> list[int]:
    """The numeric names in a host directory, in order: pids, tids or descriptors.

    Raises: OSError as opendir(3) gives it.
    """
    return sorted(int(name) for name in os.listdir(path) if name.isdigit())
