"""RLIMIT_FSIZE, for changes of files that the supervisor makes for a guest.

Layer: the pretend kernel, beneath the families of calls.  May touch: the host's limits of a guest, and its signals.
"""

from __future__ import annotations

import errno

from ..vfs.inode import err

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task

_UNLIMITED = (1 << 64) - 1


def _limit(t: Task) -> int:
    """In bytes; the host process has the same one."""
    import resource

    try:
        soft = resource.prlimit(t.process.host_pid, resource.RLIMIT_FSIZE)[0]
    except OSError:
        return _UNLIMITED  # it is just ending
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def _exceeded(t: Task) -> OSError:
    import signal

    signal.pidfd_send_signal(t.process.pidfd, signal.SIGXFSZ)
    return err(errno.EFBIG)


def check_size(t: Task, size: int) -> None:
    """inode_newsize_ok(): a file may not grow to more than the limit. SIGXFSZ and EFBIG."""
    if size > _limit(t):
        raise _exceeded(t)


def room(t: Task, offset: int, count: int) -> int:
    """generic_write_check_limits(): how many of `count` bytes fit at `offset`. SIGXFSZ and EFBIG if none."""
    limit = _limit(t)
    if count and offset >= limit:
        raise _exceeded(t)
    return min(count, limit - offset)
