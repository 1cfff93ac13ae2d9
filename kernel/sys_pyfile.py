"""Calls on descriptors that Python serves: directories, O_PATH descriptors, files of /proc and of Python's
filesystems.

Layer: the pretend kernel, a family of system calls.  May touch: the OpenFile behind a placeholder
(vfs/openfile.py).

The core sends these calls here only when the descriptor is a placeholder; where a hook brings one for a
native descriptor, the answer is NATIVE.  Each handler does what the kernel does before it asks the file
(fs/read_write.c, fs/fcntl.c, fs/ioctl.c, fs/splice.c), and then asks the file.
"""

from __future__ import annotations

import errno
import os
import struct

from ..netstack.address import AF_UNIX
from ..vfs.inode import err
from ..vfs.mount import MNT_NOEXEC
from ..vfs.openfile import OpenFile, OpenPath
from ..vfs.perm import MAY_WRITE, allowed, owner_or_capable
from ..vfs.stat import S_IFDIR, S_IFMT, S_IFREG, S_IFSOCK
from .filesize import check_size, room
from .groups import FOREGROUND, foreground_ioctl
from .handlers import NATIVE, InstallFd, Out, syscall
from .layout import VDIR_DEV
from .paths import record
from .sys_fileattr import FLAG_COMMANDS, flags_ioctl
from .sys_lock import COMMANDS as LOCK_COMMANDS
from .sys_lock import record_lock
from .sys_sched import owner
from .sys_signal import members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .handlers import Result
    from .task import FdRef, Task

#: What one call moves at most: it has to fit into the slot of the channel. A short count is legal (read(2),
#: write(2)).
CHUNK = 24576
USER_END = 0x7FFF_FFFF_F000  # what access_ok() takes for a program's
_MAX_RW = 0x7FFFF000  # MAX_RW_COUNT
_O_LARGEFILE = 0o100000  # what every 64-bit open has (force_o_largefile)


def pyfile(t: Task, fd: FdRef) -> OpenFile | None:
    """The OpenFile behind a descriptor, None for a native one."""
    return t.sandbox.vfs.files.open_file(fd.dev, fd.ino)


def then(value: Any, convert: Callable[[Any], Result]) -> Result:
    """Convert what a file gave, now or when it is there."""
    if hasattr(value, "__await__"):
        return _later(value, convert)
    return convert(value)


async def _later(value: Awaitable[Any], convert: Callable[[Any], Result]) -> Any:
    return convert(await value)


# --- read and write -------------------------------------------------------------------------------------


def _read(t: Task, fd: FdRef, address: int, count: int, offset: int | None) -> Result:
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if file.readable and not 0 <= count <= USER_END - address:
        raise err(errno.EFAULT)  # access_ok()
    if file.readable and (offset or 0) + count >= 1 << 63:
        raise err(errno.EINVAL)  # rw_verify_area()
    about_to(t, file, fd, 1)  # IN_ACCESS
    data = file.do_read(t, min(count, CHUNK), offset)
    return then(data, lambda got: Out(len(got), [(address, got)]) if got else 0)


@syscall("read")
def sys_read(t: Task, fd: FdRef, address: int, count: int) -> Result:
    """read(2)"""
    return _read(t, fd, address, count, None)


@syscall("pread64")
def sys_pread64(t: Task, fd: FdRef, address: int, count: int, offset: int) -> Result:
    """pread(2): a bad offset is found before a bad descriptor (ksys_pread64)."""
    if offset < 0:
        raise err(errno.EINVAL)
    return _read(t, fd, address, count, offset)


def _write(t: Task, fd: FdRef, data: bytes | None, count: int, offset: int | None) -> Result:
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if data is None:  # a NULL buffer
        if not file.writable or isinstance(file, OpenPath):
            raise err(errno.EBADF)
        if count:
            raise err(errno.EFAULT)
        data = b""
    about_to(t, file, fd, 2)  # IN_MODIFY
    return then(file.do_write(t, within_limit(t, file, data, offset), offset), int)


def within_limit(t: Task, file: OpenFile, data: bytes, offset: int | None) -> bytes:
    """What RLIMIT_FSIZE lets through: of a regular file that is open for writing."""
    if not data or file.inode.kind != S_IFREG or not file.writable:
        return data
    if file.flags & os.O_APPEND:
        offset = file.inode.getattr().size
    return data[: room(t, file.pos if offset is None else offset, len(data))]


def about_to(t: Task, file: OpenFile, fd: FdRef, event: int) -> None:
    """A read or write is coming: whoever watches the file hears of it."""
    if file.pollable:
        file.fd = fd.fd
    elif t.sandbox.vfs.notify is not None:
        t.sandbox.vfs.notify.on(file.path, event)


@syscall("write")
def sys_write(t: Task, fd: FdRef, data: bytes | None, count: int) -> Result:
    """write(2)"""
    return _write(t, fd, data, count, None)


@syscall("pwrite64")
def sys_pwrite64(t: Task, fd: FdRef, data: bytes | None, count: int, offset: int) -> Result:
    """pwrite(2)"""
    if offset < 0:
        raise err(errno.EINVAL)
    return _write(t, fd, data, count, offset)


@syscall("lseek")
def sys_lseek(t: Task, fd: FdRef, offset: int, whence: int) -> Result:
    """lseek(2)"""
    file = pyfile(t, fd)
    return NATIVE if file is None else file.seek(offset, whence)


# --- control --------------------------------------------------------------------------------------------

_FIONCLEX, _FIOCLEX, _FIONBIO, _FIOASYNC, _FIOQSIZE, _FIONREAD, _FIGETBSZ = (
    0x5450, 0x5451, 0x5421, 0x5452, 0x5460, 0x541B, 2,
)  # fmt: skip


@syscall("ioctl")
def sys_ioctl(t: Task, fd: FdRef, command: int, argument: int) -> Result:
    """ioctl(2): what every file answers (do_vfs_ioctl), then the file's own."""
    file = pyfile(t, fd)
    command &= 0xFFFFFFFF
    if command in FLAG_COMMANDS and not isinstance(file, OpenPath):
        return flags_ioctl(t, fd, command, argument)
    if file is None and command in FOREGROUND:
        return foreground_ioctl(t, fd, command, argument)
    if file is None:
        from .sys_sockio import socket_ioctl

        answer: Result = socket_ioctl(t, fd, command, argument)
        return answer
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    kind = file.inode.kind
    if command in (_FIOCLEX, _FIONCLEX):
        return NATIVE  # a flag of the descriptor, not of the file
    if command in (_FIONBIO, _FIOASYNC):
        on = struct.unpack("<i", t.peek(argument, 4))[0]
        if command == _FIOASYNC:
            if on:
                raise err(errno.ENOTTY)
            return 0
        file.flags = file.flags | os.O_NONBLOCK if on else file.flags & ~os.O_NONBLOCK
        return 0
    if command == _FIOQSIZE and kind in (S_IFDIR, S_IFREG):
        return Out(0, [(argument, struct.pack("<q", file.inode.getattr().size))])
    if command == _FIGETBSZ:
        return Out(0, [(argument, struct.pack("<i", file.inode.getattr().blksize))])
    if command == _FIONREAD and kind == S_IFREG:
        left = file.inode.getattr().size - file.pos
        return Out(0, [(argument, struct.pack("<i", max(min(left, 0x7FFFFFFF), -0x80000000)))])
    result: Result = file.ioctl(t, command, argument)
    return result


_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL = range(5)
_F_SETOWN, _F_GETOWN, _F_SETSIG, _F_GETSIG, _F_SETOWN_EX, _F_GETOWN_EX = 8, 9, 10, 11, 15, 16
_F_SETLEASE, _F_GETLEASE, _F_NOTIFY = 1024, 1025, 1026
_F_DUPFD_QUERY, _F_CREATED_QUERY, _F_DUPFD_CLOEXEC = 1027, 1028, 1030
_F_SETPIPE_SZ, _F_GETPIPE_SZ, _F_ADD_SEALS, _F_GET_RW_HINT = 1031, 1032, 1033, 1035
_F_SET_RW_HINT = 1036
_OF_DESCRIPTOR = (_F_DUPFD, _F_DUPFD_CLOEXEC, _F_GETFD, _F_SETFD, _F_DUPFD_QUERY)
_SETFL_MASK = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME
_F_UNLCK = 2
_FALLOC_FL_KEEP_SIZE = 1
_PROT_WRITE, _PROT_EXEC, _MAP_PRIVATE = 2, 4, 2


def _check_owner(t: Task, command: int, argument: int) -> None:
    """Whom a descriptor may signal: threads, processes and groups of the sandbox.  Raises ESRCH."""
    kind, who = 1, argument & 0xFFFFFFFF  # F_OWNER_PID
    if command == _F_SETOWN_EX:
        kind, who = struct.unpack("<iI", t.peek(argument, 8))
    who -= (who & 0x80000000) * 2
    if who < 0 or kind == 2:  # F_OWNER_PGRP
        if not members(t, abs(who)) and who:
            raise err(errno.ESRCH)
    elif who not in (0, t.tid):
        owner(t, who)


@syscall("fcntl")
def sys_fcntl(t: Task, fd: FdRef, command: int, argument: int) -> Result:
    """fcntl(2)"""
    file = pyfile(t, fd)
    if file is None and (command == _F_SETFL and argument & os.O_NOATIME or command == _F_SET_RW_HINT):
        known = t.sandbox.vfs.files.get(fd.dev, fd.ino)
        if known is not None and not owner_or_capable(t.creds, known.inode):
            raise err(errno.EPERM)
    if command == _F_SETLEASE and not isinstance(file, OpenPath):
        t.sandbox.log_once("fcntl(F_SETLEASE): not supported; refused (EINVAL)")
        raise err(errno.EINVAL)
    if command == _F_NOTIFY and file is None:
        if argument & 0x7FFFFFFF:
            raise err(errno.ENOTDIR)
        return 0
    if command in (_F_SETOWN, _F_SETOWN_EX) and not isinstance(file, OpenPath):
        _check_owner(t, command, argument)
    if file is None or command in _OF_DESCRIPTOR:
        return NATIVE
    if command == _F_GETFL:
        return file.flags | (0 if isinstance(file, OpenPath) else _O_LARGEFILE)
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    if command == _F_SETFL:
        if argument & os.O_DIRECT:
            raise err(errno.EINVAL)
        if (
            argument & os.O_NOATIME & ~file.flags
            and t.creds.fsuid != file.inode.uid
            and not t.creds.capable(3)
        ):
            raise err(errno.EPERM)
        file.flags = file.flags & ~_SETFL_MASK | argument & _SETFL_MASK
        return 0
    if command == _F_NOTIFY:
        from .dnotify import request

        return request(t, fd.fd, file, argument)
    if command in LOCK_COMMANDS:
        return record_lock(t, file, command, argument)
    if command in (_F_SETOWN, _F_GETOWN, _F_SETSIG, _F_GETSIG, _F_SETOWN_EX, _F_GETOWN_EX):
        return NATIVE
    if command == _F_GETLEASE:
        return _F_UNLCK
    if command == _F_CREATED_QUERY:
        return 0
    if command in (_F_SETPIPE_SZ, _F_GETPIPE_SZ):
        raise err(errno.EBADF)
    if command == _F_ADD_SEALS and not file.writable:
        raise err(errno.EPERM)
    if command == _F_GET_RW_HINT:
        return Out(0, [(argument, bytes(8))])
    raise err(errno.EINVAL)


# --- size and storage -----------------------------------------------------------------------------------


@syscall("ftruncate")
def sys_ftruncate(t: Task, fd: FdRef, size: int) -> Result:
    """ftruncate(2)"""
    if size < 0:
        raise err(errno.EINVAL)
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if file.writable and size > file.inode.getattr().size:
        check_size(t, size)
    file.do_truncate(size)
    return 0


@syscall("fallocate")
def sys_fallocate(t: Task, fd: FdRef, mode: int, offset: int, length: int) -> Result:
    """fallocate(2), in the order of vfs_fallocate(): what of it a Python-backed file can is its own affair."""
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    if offset < 0 or length <= 0:
        raise err(errno.EINVAL)
    if mode not in _FALLOC_MODES:
        raise err(errno.EOPNOTSUPP)
    if not file.writable:
        raise err(errno.EBADF)
    if file.inode.kind != S_IFREG:
        raise err(errno.ENODEV)
    if not mode & _FALLOC_FL_KEEP_SIZE and offset + length > file.inode.getattr().size:
        check_size(t, offset + length)
    file.fallocate(mode, offset, length)
    return 0


#: FALLOC_FL_* that go together: KEEP_SIZE (1), which PUNCH_HOLE (2) needs and COLLAPSE_RANGE (8), INSERT_RANGE (0x20),
#: WRITE_ZEROES (0x80) do not bear; ZERO_RANGE (0x10), UNSHARE_RANGE (0x40)
_FALLOC_MODES = {0, 1, 3, 8, 0x10, 0x11, 0x20, 0x40, 0x41, 0x80}


@syscall("fsync", "fdatasync")
def sys_fsync(t: Task, fd: FdRef) -> Result:
    """fsync(2), fdatasync(2)"""
    file = pyfile(t, fd)
    if file is not None:
        file.fsync()
        return 0
    if fd.dev == VDIR_DEV and (known := record(t, fd)) is not None:
        known.inode.sync_directory()
        return 0
    return NATIVE


@syscall("sync_file_range")
def sys_sync_file_range(t: Task, fd: FdRef, offset: int, length: int, flags: int) -> Result:
    """sync_file_range(2)"""
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    if flags & ~7 or offset < 0 or length < 0:
        raise err(errno.EINVAL)
    if file.pollable:
        raise err(errno.ESPIPE)
    return 0


@syscall("readahead")
def sys_readahead(t: Task, fd: FdRef, offset: int, count: int) -> Result:
    """readahead(2): nothing to do; EBADF unless open for reading, EINVAL for what is no regular file."""
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath) or not file.readable:
        raise err(errno.EBADF)
    if file.inode.kind != S_IFREG or count >> 63:
        raise err(errno.EINVAL)
    return 0


@syscall("fadvise64")
def sys_fadvise64(t: Task, fd: FdRef, offset: int, length: int, advice: int) -> Result:
    """posix_fadvise(2): advice about a file without a page cache is checked and forgotten."""
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    if length < 0 or not 0 <= advice <= 5:
        raise err(errno.EINVAL)
    return 0


@syscall("cachestat")
def sys_cachestat(t: Task, fd: FdRef, span: int, result: int, flags: int) -> Result:
    """cachestat(2): nothing is cached. Only who might write a file is told (can_do_cachestat())."""
    file = pyfile(t, fd)
    if file is None:
        return NATIVE
    if isinstance(file, OpenPath):
        raise err(errno.EBADF)
    t.peek(span, 16)
    if not file.writable and not owner_or_capable(t.creds, file.inode) and not allowed(t.creds, file.inode, MAY_WRITE):
        raise err(errno.EPERM)
    if flags:
        raise err(errno.EINVAL)
    return Out(0, [(result, bytes(40))])


# --- mapping --------------------------------------------------------------------------------------------


def map_file(t: Task, fd: FdRef, length: int, prot: int, flags: int, offset: int) -> Result:
    """mmap(2) of a file that Python serves, in the order of do_mmap(): the descriptor that is mapped in its place."""
    file = pyfile(t, fd)
    if file is None and fd.mode & S_IFMT == S_IFSOCK:
        sock = t.sandbox.net.get(fd.dev, fd.ino)
        never = _PROT_EXEC | (_PROT_WRITE if sock is not None and sock.family != AF_UNIX and sock.connects else 0)
        raise err(errno.EPERM if prot & never else errno.ENODEV)  # path_noexec(), tcp_mmap(); nothing to be read so
    if file is None or isinstance(file, OpenPath):
        raise err(errno.EBADF)
    if not file.readable:
        raise err(errno.EACCES)
    shared, writable = flags & 15 != _MAP_PRIVATE, bool(prot & _PROT_WRITE)
    if shared and writable and not file.writable:
        raise err(errno.EACCES)
    if prot & _PROT_EXEC and file.path.mount.flags & MNT_NOEXEC:
        raise err(errno.EPERM)
    return InstallFd(file.mmap(length, offset, shared, writable), cloexec=True, close=False)


__all__ = ["CHUNK", "about_to", "map_file", "pyfile", "then", "within_limit"]
