"""How a process ended.

Layer: the pretend kernel, trace.  May touch: the host's /proc of the guest, its pidfd.
"""

from __future__ import annotations

import struct

from .flags import signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..task import Process


def how_it_ended(process: Process, code: int | None) -> str:
    """`exited with 0`, `killed by SIGTERM`: `code` is what exit_group was given."""
    status = wait_status(process)
    if status is not None and status & 0x7F:
        return f"killed by {signal_name(status & 0x7F)}" + (" (core dumped)" if status & 0x80 else "")
    if code is not None:
        return f"exited with {code}"
    return f"exited with {status >> 8 & 0xFF}" if status is not None else "exited"


def cpu_times(process: Process) -> tuple[int, int]:
    """User and system time in clock ticks, of one that is not waited for yet: proc(5), fields 14 and 15."""
    try:
        with open(f"/proc/{process.pid}/stat", "rb", 0) as f:
            words = f.read().rpartition(b")")[2].split()
            return int(words[11]), int(words[12])
    except (OSError, ValueError, IndexError):
        return 0, 0


def wait_status(process: Process) -> int | None:
    """The raw wait status: of a zombie in /proc/PID/stat (proc(5), field 52), of one that was waited for by its pidfd
    (PIDFD_GET_INFO, Linux 6.15); None where neither tells."""
    try:
        with open(f"/proc/{process.pid}/stat", "rb", 0) as f:
            return int(f.read().rpartition(b")")[2].split()[49])
    except (OSError, ValueError, IndexError):
        pass
    import fcntl

    info = bytearray(64)
    struct.pack_into("<Q", info, 0, 8)  # PIDFD_INFO_EXIT
    try:
        fcntl.ioctl(process.pidfd, 0xC040FF0B, info)
    except (OSError, ValueError):
        return None
    mask, status = struct.unpack_from("<Q", info)[0], struct.unpack_from("<i", info, 60)[0]
    return int(status) if mask & 8 else None
