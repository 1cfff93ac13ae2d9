"""fcntl(2) with F_NOTIFY: a signal when something happens in a directory (fs/notify/dnotify/dnotify.c).

Layer: the pretend kernel, beneath sys_pyfile.py; a group of vfs/notify.py without a queue. May touch: host processes of
guests, by signals; who owns a descriptor, which the host kernel keeps.

Only the host kernel may say POLL_MSG to a process: the core does it for us (from_supervisor() in core_native/signal.c).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ..vfs.inode import err
from ..vfs.notify import (
    IN_ACCESS,
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONESHOT,
    Mark,
    Notify,
)

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from ..vfs.openfile import OpenFile
    from .task import Process, Task

_MULTISHOT = 0x80000000
#: DN_ACCESS and so on, in the words of inotify
_EVENTS = {
    1: IN_ACCESS,
    2: IN_MODIFY,
    4: IN_CREATE | IN_MOVED_TO,
    8: IN_DELETE | IN_MOVED_FROM,
    0x10: IN_MOVED_FROM,
    0x20: IN_ATTRIB,
}
_GETSIG, _SETOWN, _GETOWN_EX = 11, 8, 16
_OWNER_PGRP = 2
_PIDFD_SEND_SIGNAL = 424  # which Python has without the siginfo, and glibc from 2.36 on
_POLLMSG_BAND = 0x441  # POLLIN | POLLRDNORM | POLLMSG
_SIGIO, _SI_SIGIO, _POLL_MSG, _SI_KERNEL = 29, -5, 3, 0x80
_MARK = 0x52330000  # in si_errno, with the si_code that is meant: RING3_SI_CODE of core_native/linux.h
_SIGINFO = struct.Struct("<iiixxxxqi100x")  # si_signo, si_errno, si_code, si_band, si_fd


class Watcher:
    """What one process watches: a mark for each directory, by the descriptor that it named."""

    def __init__(self, notify: Notify, process: Process) -> None:
        self.notify, self.process = notify, process
        self.by_wd: dict[int, Mark] = {}
        self.last_wd = 0
        self.fds: dict[int, tuple[int, OpenFile]] = {}  # by wd

    def put(self, wd: int, mask: int, cookie: int, name: bytes) -> None:
        """An event, or the end of a watch (which nobody hears of)."""
        mark = self.by_wd.get(wd)
        if mark is None:
            self.fds.pop(wd, None)
        elif not self._tell(*self.fds[wd]):
            self.notify.drop(mark, event=True)

    def _tell(self, fd: int, file: OpenFile) -> bool:
        """The signal goes to the descriptor's owner. False: the process has closed it (dnotify_flush())."""
        try:
            host = self.process.take_fd(fd)
        except OSError:
            return False
        try:
            st = os.fstat(host)
            if (st.st_dev, st.st_ino) != file.ident:
                return False
            sig = fcntl.fcntl(host, _GETSIG)
            kind, pid = struct.unpack("<ii", fcntl.fcntl(host, _GETOWN_EX, bytes(8)))
        finally:
            os.close(host)
        for target in list(self.process.sandbox.processes.values()):
            if target.alive and _is_meant(target, kind, pid):
                _send(target, sig, fd)
        return True

    def of(self, file: OpenFile) -> Mark | None:
        """The mark of an open file description."""
        return next((mark for wd, mark in self.by_wd.items() if self.fds[wd][1] is file), None)

    def closed(self, file: OpenFile) -> None:
        """Nobody has the file open any more."""
        mark = self.of(file)
        if mark is not None:
            self.notify.drop(mark, event=True)

    def add(self, fd: int, file: OpenFile, mask: int) -> None:
        """Watch the directory, which the process calls `fd`."""
        self.fds[self.last_wd + 1] = fd, file
        self.notify.add(self, file.path, mask)


def request(t: Task, fd: int, file: OpenFile, argument: int) -> int:
    """fcntl_dirnotify()"""
    vfs = t.sandbox.vfs
    watcher = t.process.watcher
    known = watcher.of(file) if watcher is not None else None
    mask = 0
    for bit, events in _EVENTS.items():
        mask |= events if argument & bit else 0
    if not argument & 0xFFFFFFFF & ~_MULTISHOT:
        if watcher is not None and known is not None:
            watcher.notify.drop(known, event=True)
        return 0
    if not file.inode.is_dir:
        raise err(errno.ENOTDIR)
    _own(t, fd)
    if vfs.notify is None:
        vfs.notify = Notify(vfs)
    if watcher is None:
        watcher = t.process.watcher = Watcher(vfs.notify, t.process)
    if known is None:
        watcher.add(fd, file, mask | (0 if argument & _MULTISHOT else IN_ONESHOT))
    else:
        known.mask = (known.mask | mask) & ~(IN_ONESHOT if argument & _MULTISHOT else 0)
    return 0


def _own(t: Task, fd: int) -> None:
    """The caller owns the descriptor, unless somebody does already (F_SETOWN)."""
    host = t.host_fd(fd)
    try:
        if not struct.unpack("<ii", fcntl.fcntl(host, _GETOWN_EX, bytes(8)))[1]:
            fcntl.fcntl(host, _SETOWN, t.process.host_pid)
    finally:
        os.close(host)


def _is_meant(target: Process, kind: int, pid: int) -> bool:
    """`pid` is the host's number of a process, thread or group."""
    try:
        if kind == _OWNER_PGRP:
            return os.getpgid(target.host_pid) == pid
        pid = target.sandbox.pid_ns.guest(pid)
    except ProcessLookupError:
        return False
    return target.pid == pid or any(task.tid == pid for task in target.tasks.values())


def _send(target: Process, sig: int, fd: int) -> None:
    """send_sigio_to_task(): SIGIO tells nothing, a signal of F_SETSIG tells the descriptor."""
    from ._libc import ffi
    from .channel import libc

    code, band, shown = (_POLL_MSG, _POLLMSG_BAND, fd) if sig else (_SI_KERNEL, 0, 0)
    info = ffi.from_buffer(_SIGINFO.pack(sig or _SIGIO, _MARK | code, _SI_SIGIO, band, shown))
    call = ffi.cast("long(*)(long, long, long, void *, long)", ffi.addressof(libc, "syscall"))
    call(_PIDFD_SEND_SIGNAL, target.pidfd, sig or _SIGIO, info, 0)  # who is gone needs none
