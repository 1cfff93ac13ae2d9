"""memfds of the host: making, reading and writing them, and telling who uses them.

Layer: vfs, beneath memdata.py. May touch: memfds and nothing else on the host.

How an idle memfd is recognised: F_SETLEASE with F_WRLCK succeeds only if nobody else has the object open, by
descriptor, mapping or message in flight (check_conflicting_open() in fs/locks.c). It has to be tried on a
*reopened* descriptor: memfd_create's own is not counted as a writer, so that there it always fails with
EAGAIN.
"""

from __future__ import annotations

import errno
import fcntl
import os

_MFD_EXEC = 0x10  # Linux 6.3; without it vm.memfd_noexec may take the right to be mapped executable away
_flags = os.MFD_CLOEXEC | _MFD_EXEC
_CHUNK = 1 << 24


def new_memfd() -> int:
    """An empty memfd, which may be mapped executable."""
    global _flags
    try:
        return os.memfd_create("ring3", _flags)
    except OSError as e:
        if e.errno != errno.EINVAL or not _flags & _MFD_EXEC:
            raise
        _flags = os.MFD_CLOEXEC
        return os.memfd_create("ring3", _flags)


def _granted(fd: int, kind: int) -> bool:
    """Would this lease be given on the descriptor (fcntl(2), "Leases")?"""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return True
    except OSError:
        return False


def _granted_anew(fd: int, flags: int, kind: int) -> bool:
    """The same on the object opened once more; False when in doubt."""
    try:
        probe = os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _granted(probe, kind)
    finally:
        os.close(probe)


def is_idle(fd: int) -> bool:
    """Does nobody but this descriptor use the memfd? False when in doubt."""
    return _granted_anew(fd, os.O_RDWR, fcntl.F_WRLCK)


def has_writer(fd: int) -> bool:
    """May somebody else write the memfd, by descriptor or mapping? A read lease is given only if not. True when in
    doubt."""
    return not _granted_anew(fd, os.O_RDONLY, fcntl.F_RDLCK)


def is_idle_own(fd: int) -> bool:
    """is_idle() of an ordinary tmpfs file: there our own descriptor counts (memfd_create's does not), so that the
    lease is tried on it."""
    return _granted(fd, fcntl.F_WRLCK)


def write_all(fd: int, data: bytes) -> None:
    """Write at offset 0 of a fresh or truncated memfd, in spite of short writes."""
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done : done + _CHUNK], done)


def read_all(fd: int) -> bytes:
    """The whole contents of a memfd."""
    size = os.fstat(fd).st_size
    parts: list[bytes] = []
    done = 0
    while done < size:
        part = os.pread(fd, min(_CHUNK, size - done), done)
        if not part:
            break
        parts.append(part)
        done += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
