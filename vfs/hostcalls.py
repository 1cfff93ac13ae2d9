"""Calls of the host's that Python's os module lacks, everywhere or where it was built for musl.

Layer: vfs, lowest. May touch: what its callers name.

By number, through syscall(2), which every C library has: musl has no renameat2() before 1.2.6, and Python offers the
calls on extended attributes with glibc alone (Modules/posixmodule.c, USE_XATTRS).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any

_SYS_SETXATTR, _SYS_GETXATTR, _SYS_LISTXATTR, _SYS_REMOVEXATTR, _SYS_RENAMEAT2 = 188, 191, 194, 197, 316
_libc: Any = None
_UTIME_OMIT = (1 << 30) - 2  # utimensat(2)
_LARGEST = 65536  # XATTR_SIZE_MAX and XATTR_LIST_MAX (limits.h)


def syscall(number: int, *arguments: int | bytes | bytearray | None) -> int:
    """syscall(2) with up to six numbers, texts (NUL-terminated as bytes are), or buffers to be written.

    Raises OSError.
    """
    from ..kernel._libc import ffi

    words = [ffi.from_buffer(a) if isinstance(a, (bytes, bytearray)) else a or 0 for a in arguments]
    numbers = [ffi.cast("unsigned long", word) for word in words]
    call = ffi.cast(
        f"long(*)(long{', unsigned long' * len(words)})", ffi.addressof(ffi.dlopen(None), "syscall")
    )
    result: int = call(number, *numbers)
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return result


def renameat2(olddir: int, old: bytes, newdir: int, new: bytes, flags: int) -> None:
    syscall(_SYS_RENAMEAT2, olddir, old, newdir, new, flags)


def getxattr(path: str, name: bytes) -> bytes:
    return _sized(_SYS_GETXATTR, os.fsencode(path), name)


def listxattr(path: str) -> list[bytes]:
    return _sized(_SYS_LISTXATTR, os.fsencode(path)).split(b"\0")[:-1]


def setxattr(path: str, name: bytes, value: bytes, flags: int) -> None:
    syscall(_SYS_SETXATTR, os.fsencode(path), name, value, len(value), flags)


def removexattr(path: str, name: bytes) -> None:
    syscall(_SYS_REMOVEXATTR, os.fsencode(path), name)


def set_times(fd: int, atime: int | None, mtime: int | None) -> None:
    """futimens(3), with times in ns; None: as it is."""
    from ..kernel._libc import ffi

    global _libc
    if _libc is None:
        _libc = ffi.dlopen(None)
    times = ffi.new("long[4]", [*_timespec(atime), *_timespec(mtime)])
    if _libc.futimens(fd, times) < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))


def _timespec(time: int | None) -> tuple[int, int]:
    return divmod(time, 1_000_000_000) if time is not None else (0, _UTIME_OMIT)


def _sized(number: int, *arguments: bytes) -> bytes:
    """What a call writes into the buffer that comes last."""
    room = bytearray(_LARGEST)
    return bytes(room[: syscall(number, *arguments, room, len(room))])
