"""What a sandbox may use at most.

Layer: the pretend kernel, beneath sandbox.  May touch: the limits of init, which its children inherit (getrlimit(2)).

The host kernel enforces what can be said of one process, and nobody can raise it: guests have no capability. How many
processes there are the supervisor counts (guests.py), and what they use together it looks at (usage.py).
"""

from __future__ import annotations

import resource

from .layout import RESERVED_FDS

#: processes of a sandbox that was told no number, and descriptors of ours that each of them takes at most by itself
_PIDS, _FDS_EACH = 4096, 4


class Limits:
    """`pids`: processes at once; and of each process: `memory` bytes that it alone may write (RLIMIT_DATA), `nofile`
    descriptors, `cpu_time` seconds of processor time. All together may have no more memory and processor time than one.
    None: no limit; of pids, what the supervisor has room for."""

    __slots__ = ("cpu_time", "memory", "nofile", "pids")

    def __init__(
        self,
        pids: int | None = None,
        memory: int | None = None,
        nofile: int | None = None,
        cpu_time: float | None = None,
    ) -> None:
        self.pids, self.memory, self.nofile, self.cpu_time = pids, memory, nofile, cpu_time

    def most_pids(self) -> int:
        """How many processes there may be: as many as asked for, or as we have descriptors for."""
        if self.pids is not None:
            return self.pids
        return max(16, min(_PIDS, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // _FDS_EACH))

    def put_on(self, pid: int) -> None:
        """Limit process `pid`, and whoever it starts from now on. No limit is raised by it."""
        if self.memory is not None:
            _lower(pid, resource.RLIMIT_DATA, self.memory, self.memory)
        if self.nofile is not None:
            _lower(pid, resource.RLIMIT_NOFILE, self.nofile + RESERVED_FDS, self.nofile + RESERVED_FDS)
        if self.cpu_time is not None:
            seconds = int(-(-self.cpu_time // 1))  # whole ones, rounded up
            _lower(pid, resource.RLIMIT_CPU, seconds, seconds + 1)  # SIGXCPU first, then SIGKILL


def _lower(pid: int, which: int, soft: int, hard: int) -> None:
    highest = resource.prlimit(pid, which)[1]
    if highest != resource.RLIM_INFINITY:
        soft, hard = min(soft, highest), min(hard, highest)
    resource.prlimit(pid, which, (soft, hard))
