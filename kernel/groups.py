"""Process groups and sessions as guests number them; those outside of their PID namespace are PGRP_OUTSIDE.

Layer: the pretend kernel, below the families of system calls.  May touch: /proc/PID/stat of guests and of this process,
its controlling terminal's foreground.  The core's part of it is core_native/pgrp.c.
"""

from __future__ import annotations

import os
import struct

from .ends import stat_fields
from .handlers import Out
from .layout import CONSTANTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handlers import Result
    from .task import FdRef, Process, Task

PGRP_OUTSIDE = CONSTANTS["PGRP_OUTSIDE"]
_TIOCGPGRP, _TIOCSPGRP = 0x540F, 0x5410
FOREGROUND = (_TIOCGPGRP, _TIOCSPGRP)


def group_of(process: Process) -> int:
    """The process group's number.  Raises OSError when the process is gone."""
    return int(stat_fields(process.proc)[2]) or PGRP_OUTSIDE


def shown_foreground(terminal: int, group: int) -> int:
    """What a process sees for the foreground `group` of its controlling `terminal` (a device number): of those outside,
    which are 0, that of the sandbox is PGRP_OUTSIDE."""
    if group or not terminal:
        return group
    ours = stat_fields("/proc/self")
    return PGRP_OUTSIDE if int(ours[4]) == terminal and ours[5] == ours[2] else 0


def foreground_ioctl(t: Task, fd: FdRef, command: int, argument: int) -> Result:
    """TIOCGPGRP where the group is outside; TIOCSPGRP to PGRP_OUTSIDE, by one who may do that, as the host has said."""
    import signal

    terminal = t.host_fd(fd.fd)
    try:
        if command == _TIOCGPGRP:
            number = PGRP_OUTSIDE if os.tcgetpgrp(terminal) == os.getpgrp() else 0
            return Out(0, [(argument, struct.pack("<i", number))])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            os.tcsetpgrp(terminal, os.getpgrp())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return 0
    finally:
        os.close(terminal)
