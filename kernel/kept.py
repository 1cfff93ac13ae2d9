"""Which opened files the core may keep, to give them out again without asking: core_native/kept.c.

Layer: the pretend kernel, beside answers.  May touch: what a process has opened so far.

A web server opens the same pages again and again, a shell's script its configuration. From the second time on that a
program opens a file for reading, its descriptor goes with the epoch of the answers: as long as that lasts, a descriptor
that the guest has closed, and that nobody else has, is what the next open(2) of the same words would give. Who watches
files (inotify) wants to hear of each, and gets none kept.
"""

from __future__ import annotations

import os

from ..vfs.stat import S_IFMT, S_IFREG
from .handlers import InstallFd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..vfs.inode import Inode
    from .task import Task

_O_LARGEFILE = 0o100000
#: the flags that such an open may have beside O_RDONLY
_PLAIN = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | _O_LARGEFILE
#: opens of a process that are remembered
_MOST = 64


def opened(task: Task, name: bytes, flags: int, inode: Inode, result: Any) -> None:
    """A program has opened a file by `name`, absolute or from its working directory; `result` goes to it."""
    process = task.process
    if flags & ~_PLAIN or inode.mode & S_IFMT != S_IFREG or not isinstance(result, InstallFd):
        return
    seen = process.opened
    if (name, flags) not in seen:
        if len(seen) >= _MOST:
            seen.clear()
        seen.add((name, flags))
        return
    sandbox = process.sandbox
    if sandbox.vfs.notify is None and inode.may_stay_open():
        sandbox.answers.put_place(task)
        result.keep = sandbox.answers.lasting(inode)
