"""What the processes of a sandbox use together, looked at now and then: processor time and memory.

Layer: the pretend kernel, beside guests.  May touch: the host's /proc of guests; it signals them.

The host kernel bounds each process (limits.py). Together only a cgroup would, which few users may make: so the
supervisor adds up, as often as the limit could be reached since, and ends them all, or the largest, when it is.
"""

from __future__ import annotations

import os
import signal

from .ends import stat_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sandbox import Kernel
    from .task import Process

_HZ = os.sysconf("SC_CLK_TCK")
#: bytes that one processor may fill in a second; seconds between looks: the least, and the most where nothing runs
_FILLS, _SOONEST, _LATEST = 4 << 30, 0.02, 5.0
#: of an anonymous and of a shared page, in /proc/PID/status and in /proc/PID/smaps_rollup
_RESIDENT, _SHARES = (b"RssAnon:", b"RssShmem:"), (b"Pss_Anon:", b"Pss_Shmem:")
_UTIME, _STIME, _CUTIME, _CSTIME = 11, 12, 13, 14  # as ends.stat_fields() counts


class Usage:
    """Of one sandbox: `cpu_time` seconds, `memory` bytes, or None; `init`: its init's pid on the host."""

    def __init__(self, kernel: Kernel, init: int, cpu_time: float | None, memory: int | None) -> None:
        self._kernel, self._init = kernel, init
        self._cpu_time, self._memory = cpu_time, memory
        self._processors = len(os.sched_getaffinity(0))
        self._ended = 0  # ticks of processes that are gone
        self._seen = -1  # ticks of all at the last look
        self._pause = _SOONEST
        self._over = False
        self._look()

    def gone(self, process: Process) -> None:
        """It has ended, and is not yet waited for, if we are in time."""
        ticks = self._ticks(process)
        self._ended += ticks[0] if ticks is not None else 0

    def _look(self) -> None:
        kernel = self._kernel
        alive = [process for process in list(kernel.processes.values()) if process.alive]
        used = self._used(alive)
        pause = _LATEST
        if self._cpu_time is not None:
            left = self._cpu_time - used / _HZ
            if left <= 0:
                self._end(alive)
            pause = left / self._processors if left > 0 else 1.0
        if self._memory is not None:
            held = self._held(alive)
            soon = (self._memory - held) / _FILLS / self._processors
            self._pause = _SOONEST if used != self._seen else min(_LATEST, self._pause * 2)
            pause = min(pause, max(soon, self._pause))
        self._seen = used
        kernel.loop.call_later(max(pause, _SOONEST), self._look)

    # -- processor time

    def _ticks(self, process: Process) -> tuple[int, int] | None:
        """Its own, and with those of children that it has waited for; None when it is not there any more."""
        try:
            words = stat_fields(process.proc)
            own = int(words[_UTIME]) + int(words[_STIME])
            return own, own + int(words[_CUTIME]) + int(words[_CSTIME])
        except (OSError, IndexError):
            return None

    def _used(self, alive: list[Process]) -> int:
        """Ticks of all. A process that is waited for at once is in its parent's account, or in init's; one that nobody
        waits for, in ours."""
        found = [ticks for ticks in map(self._ticks, alive) if ticks is not None]
        try:
            init = stat_fields(f"/proc/{self._init}")
            waited_for = int(init[_CUTIME]) + int(init[_CSTIME])
        except (OSError, IndexError):
            waited_for = 0
        return max(self._ended + sum(own for own, _ in found), waited_for + sum(tree for _, tree in found))

    def _end(self, alive: list[Process]) -> None:
        """SIGXCPU once, SIGKILL from then on."""
        if not self._over:
            self._kernel.log(f"the sandbox has used {self._cpu_time:g} s of processor time (--cpu-time); it is ended")
        for process in alive:
            _send(process, signal.SIGKILL if self._over else signal.SIGXCPU)
        self._over = True

    # -- memory

    def _held(self, alive: list[Process]) -> int:
        """Bytes in memory of all, but for files; when these are too many, the process with the most is killed, as by a
        cgroup (Documentation/admin-guide/cgroup-v2.rst, memory.max)."""
        assert self._memory is not None
        held = sum(_sum(f"{process.proc}/status", _RESIDENT) for process in alive)
        if held <= self._memory:
            return held
        shares = [(_sum(f"{process.proc}/smaps_rollup", _SHARES), process) for process in alive]
        held = sum(size for size, _ in shares)
        if held > self._memory:
            size, largest = max(shares, key=lambda one: one[0])
            name = largest.comm.decode("utf-8", "replace")
            self._kernel.log(
                f"the sandbox's processes have {held >> 20} MiB of memory and may have {self._memory >> 20} (--memory):"
                f" {name}[{largest.pid}], which has {size >> 20}, was killed"
            )
            _send(largest, signal.SIGKILL)
        return held


def _sum(path: str, names: tuple[bytes, ...]) -> int:
    """Bytes in the lines of `names` of such a file; 0 when its process is not there any more."""
    try:
        with open(path, "rb") as lines:
            return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(names))
    except (OSError, ValueError, IndexError):
        return 0


def _send(process: Process, sig: int) -> None:
    try:
        signal.pidfd_send_signal(process.pidfd, sig)
    except OSError:
        pass  # it has ended
