"""open(2) and its relatives.

Layer: the pretend kernel, a family of system calls. May touch: the vfs, and the host descriptors it hands
over.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from ..vfs.inode import err
from ..vfs.namei import RESOLVE_BENEATH, RESOLVE_CACHED, RESOLVE_IN_ROOT
from ..vfs.openfile import OpenFile
from .handlers import InstallFd, syscall
from .paths import at, start

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from ..vfs.mount import Path
    from ..vfs.vfs import Opened
    from .handlers import Result
    from .task import FdRef, Task

_TMPFILE_BIT = 0o20000000  # __O_TMPFILE: O_TMPFILE without O_DIRECTORY
_O_LARGEFILE = 0o100000
_FASYNC = 0o20000
# VALID_OPEN_FLAGS in include/linux/fcntl.h; open(2) ignores others, openat2(2) refuses them.
_VALID = (
    os.O_ACCMODE
    | os.O_CREAT
    | os.O_EXCL
    | os.O_NOCTTY
    | os.O_TRUNC
    | os.O_APPEND
    | os.O_NONBLOCK
    | os.O_SYNC
    | os.O_DSYNC
    | _FASYNC
    | os.O_DIRECT
    | _O_LARGEFILE
    | os.O_DIRECTORY
    | os.O_NOFOLLOW
    | os.O_NOATIME
    | os.O_CLOEXEC
    | os.O_PATH
    | _TMPFILE_BIT
)
_PATH_FLAGS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_PATH | os.O_CLOEXEC
_HOW = struct.Struct("<QQQ")
_RESOLVE_ALL = 0x3F


def check_flags(flags: int) -> int:
    """build_open_flags(): EINVAL for combinations that mean nothing; returns the flags that count."""
    if flags & os.O_PATH:
        return flags & _PATH_FLAGS
    if flags & (os.O_DIRECTORY | os.O_CREAT) == os.O_DIRECTORY | os.O_CREAT:
        raise err(errno.EINVAL)
    if flags & _TMPFILE_BIT and (not flags & os.O_DIRECTORY or flags & os.O_ACCMODE == os.O_RDONLY):
        raise err(errno.EINVAL)
    return flags


def open_at(t: Task, base: Path | None, path: bytes, flags: int, mode: int, resolve: int = 0) -> Result:
    """Open for a guest: the descriptor to install, or a coroutine that yields it."""
    return _open(t, base, path, check_flags(flags & _VALID), mode, resolve)


def _open(t: Task, base: Path | None, path: bytes, flags: int, mode: int, resolve: int = 0) -> Result:
    """open_at() with flags that are checked: they are before the descriptor to start from is looked at."""
    place, opened = t.sandbox.vfs.open(t, base, path, flags, mode, resolve)
    return install(t, place, opened, flags)


def install(t: Task, place: Path, opened: Opened, flags: int) -> Result:
    """Hand out what was opened: the descriptor to install, or a coroutine that yields it."""
    if isinstance(opened, (int, OpenFile)):
        return _install(t, place, opened, flags)
    return _install_later(t, place, opened, flags)


def _install(t: Task, place: Path, opened: int | OpenFile, flags: int) -> InstallFd:
    fd = t.sandbox.vfs.handle(place, opened)
    # A session leader without a terminal gets the one that it opens; the core makes the TIOCSCTTY.
    ctty = False
    if isinstance(opened, int) and stat.S_ISCHR(place.inode.mode):
        from ..vfs.devfs import wants_ctty

        ctty = wants_ctty(opened, flags)
    return InstallFd(fd, cloexec=bool(flags & os.O_CLOEXEC), ctty=ctty)


async def _install_later(t: Task, place: Path, opened: Awaitable[Any], flags: int) -> InstallFd:
    return _install(t, place, await opened, flags)


def _open_quickly(t: Task, dirfd: FdRef | None, path: bytes, flags: int, mode: int) -> Result:
    """open(2) and openat(2): of a directory the core may make the descriptor, and in one that is lent to it files."""
    vfs = t.sandbox.vfs
    vfs.made_in = None
    place, opened = vfs.open(t, at(t, dirfd, path), path, flags, mode)
    if vfs.made_in is not None:
        start = t.sandbox.answers.start_of(t, path, dirfd)
        t.sandbox.drafts.created(t, vfs.made_in, path, start, flags)
    known = t.sandbox.directories.opened(place, opened, flags) if isinstance(opened, OpenFile) else None
    return install(t, place, opened, flags) if known is None else known


@syscall("open")
def sys_open(t: Task, path: bytes, flags: int, mode: int) -> Result:
    """open(2)"""
    return _open_quickly(t, None, path, check_flags(flags & _VALID), mode)


@syscall("openat")
def sys_openat(t: Task, dirfd: FdRef | None, path: bytes, flags: int, mode: int) -> Result:
    """openat(2)"""
    return _open_quickly(t, dirfd, path, check_flags(flags & _VALID), mode)


@syscall("creat")
def sys_creat(t: Task, path: bytes, mode: int) -> Result:
    """creat(2)"""
    return open_at(t, None, path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)


@syscall("openat2")
def sys_openat2(t: Task, dirfd: FdRef | None, path: bytes, how: bytes | None, size: int) -> Result:
    """openat2(2): strict about everything that open(2) ignores."""
    if size < _HOW.size:
        raise err(errno.EINVAL)
    if size > 4096:
        raise err(errno.E2BIG)
    if how is None:
        raise err(errno.EFAULT)
    if any(how[_HOW.size :]):
        raise err(errno.E2BIG)
    flags, mode, resolve = _HOW.unpack_from(how)
    if flags & ~_VALID or resolve & ~_RESOLVE_ALL:
        raise err(errno.EINVAL)
    if resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT) == RESOLVE_BENEATH | RESOLVE_IN_ROOT:
        raise err(errno.EINVAL)
    if mode & ~0o7777 or (mode and not flags & (os.O_CREAT | _TMPFILE_BIT)):
        raise err(errno.EINVAL)
    if flags & os.O_PATH and flags & ~_PATH_FLAGS:
        raise err(errno.EINVAL)
    if resolve & RESOLVE_CACHED:
        if flags & (os.O_TRUNC | os.O_CREAT | _TMPFILE_BIT):
            raise err(errno.EAGAIN)
        resolve &= ~RESOLVE_CACHED  # a hint: everything is in memory here
    flags = check_flags(flags)
    if resolve & RESOLVE_BENEATH and path[:1] == b"/":
        raise err(errno.EXDEV)  # before the descriptor is looked at
    # RESOLVE_IN_ROOT makes the descriptor the root of absolute paths too.
    base = start(t, dirfd) if path and resolve & RESOLVE_IN_ROOT else at(t, dirfd, path)
    return _open(t, base, path, flags, mode, resolve)
