"""Files to execute: opened as execve(2) opens them.

Layer: the pretend kernel, beneath sys_exec.  May touch: files of the tree.
"""

from __future__ import annotations

import errno
import os

from ..loader.plan import Opened
from ..vfs.inode import OpenContext, err
from ..vfs.perm import MAY_EXEC, check
from ..vfs.stat import S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..vfs.mount import Path
    from .task import Task


def open_exec_path(t: Task, path: Path, name: bytes) -> Opened:
    """do_open_execat(): a regular file with execute permission, which nobody writes."""
    inode = path.inode
    if inode.mode & S_IFMT != S_IFREG or not t.sandbox.vfs.may_exec_mount(path):
        raise err(errno.EACCES)
    check(t.creds, inode, MAY_EXEC)
    if not inode.mode & 0o111:
        raise err(errno.EACCES)  # not even root executes what has no x bit at all
    vfs = t.sandbox.vfs
    if inode.reads_show:
        vfs.mounts.walks.opened(inode)
    opened = inode.open(OpenContext(vfs, path, os.O_RDONLY, t.creds, t))
    if not isinstance(opened, int):
        raise err(errno.EACCES)  # a file that Python serves cannot be mapped
    if opened_for_writing(opened):
        os.close(opened)
        raise err(errno.ETXTBSY)
    vfs.handle(path, opened)
    return Opened(opened, name, path, inode.mode)


def opened_for_writing(fd: int) -> bool:
    """deny_write_access() would fail.  A read lease is given only on a file that nobody writes (fcntl(2))."""
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as e:
        return e.errno == errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
