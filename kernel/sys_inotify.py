"""inotify_init1(2), inotify_add_watch(2), inotify_rm_watch(2).

Layer: the pretend kernel, a family of system calls. May touch: vfs/notify.py.

The descriptor is a placeholder, read through us: so every read gives whole events, as many as fit, a short buffer
is EINVAL and FIONREAD tells the bytes, as inotify(7) has it. poll(2) and epoll(7) on it are the host kernel's.
"""

from __future__ import annotations

import errno
import os

from ..vfs.inode import err
from ..vfs.notify import IN_ONESHOT, Group, Notify
from ..vfs.perm import MAY_READ, check
from .handlers import InstallFd, syscall
from .paths import record

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .handlers import Result
    from .task import FdRef, Task

_ONLYDIR, _DONT_FOLLOW, _MASK_CREATE, _MASK_ADD = 0x1000000, 0x2000000, 0x10000000, 0x20000000
_EVENTS = 0xFFF
_KEPT = _EVENTS | 0x4000000 | IN_ONESHOT  # IN_EXCL_UNLINK
_KNOWN = _KEPT | _ONLYDIR | _DONT_FOLLOW | _MASK_CREATE | _MASK_ADD | 0x4000E000


@syscall("inotify_init", "inotify_init1")
def sys_inotify_init1(t: Task, flags: int = 0) -> Result:
    """inotify_init1(2)"""
    if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK):
        raise err(errno.EINVAL)
    vfs = t.sandbox.vfs
    if vfs.notify is None:
        vfs.notify = Notify(vfs)
    notify = vfs.notify
    vfs.files.settle(list(notify.groups))  # closed ones count no more
    uid = t.creds.uid
    if sum(group.owner == uid for group in notify.groups) >= notify.max_instances:
        raise err(errno.EMFILE)
    group = Group(notify, vfs.anon_path(b"anon_inode:inotify"), flags & os.O_NONBLOCK, uid)
    fd = vfs.files.add_placeholder(group)
    notify.groups.add(group)
    return InstallFd(fd, bool(flags & os.O_CLOEXEC))


def _group(t: Task, fd: FdRef) -> Group:
    file = record(t, fd)
    if not isinstance(file, Group):
        from ..vfs.openfile import OpenPath

        raise err(errno.EBADF if isinstance(file, OpenPath) else errno.EINVAL)
    return file


@syscall("inotify_add_watch")
def sys_inotify_add_watch(t: Task, fd: FdRef, path: bytes, mask: int) -> Result:
    """inotify_add_watch(2)"""
    mask &= 0xFFFFFFFF
    if not mask or mask & ~_KNOWN or mask & (_MASK_ADD | _MASK_CREATE) == _MASK_ADD | _MASK_CREATE:
        raise err(errno.EINVAL)
    group = _group(t, fd)
    where = t.sandbox.vfs.lookup(t, None, path, not mask & _DONT_FOLLOW)
    inode = where.inode
    if mask & _ONLYDIR and not inode.is_dir:
        raise err(errno.ENOTDIR)
    check(t.creds, inode, MAY_READ)
    notify = group.notify
    known = notify.mark_of(group, inode)
    if known is not None:
        if mask & _MASK_CREATE:
            raise err(errno.EEXIST)
        known.mask = (known.mask if mask & _MASK_ADD else 0) | mask & _KEPT
        return known.wd
    if sum(len(g.by_wd) for g in notify.groups if g.owner == group.owner) >= notify.max_watches:
        raise err(errno.ENOSPC)
    return notify.add(group, where, mask & _KEPT)


@syscall("inotify_rm_watch")
def sys_inotify_rm_watch(t: Task, fd: FdRef, wd: int) -> Result:
    """inotify_rm_watch(2)"""
    group = _group(t, fd)
    mark = group.by_wd.get(wd)
    if mark is None:
        raise err(errno.EINVAL)
    group.notify.settle()
    group.notify.drop(mark, event=True)
    return 0
