"""What the host tells of a process of the sandbox, also when it has ended: /proc/PID/stat and its pidfd.

Layer: the pretend kernel, beneath guests.  May touch: the host's /proc, pidfds.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Process


def stat_fields(place: str) -> list[bytes]:
    """The fields of /proc/PID/stat behind the name: [0] is the third, the state (proc_pid_stat(5)).  Raises OSError."""
    fd = os.open(f"{place}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    finally:
        os.close(fd)


def state(place: str) -> str:
    """The letter of its state; X when it is not there any more."""
    words = _known(place)
    return words[0].decode() if words else "X"


def has_ended(place: str) -> bool:
    """Is it not there any more, or a zombie whose other threads (field 20) have ended too?"""
    words = _known(place)
    return not words or (words[0] in b"ZX" and int(words[17]) < 2)


def _known(place: str) -> list[bytes]:
    """Its fields, none when it is not there any more."""
    try:
        return stat_fields(place)
    except OSError:
        return []


def descends(pid: int, ancestor: int) -> bool:
    """Is `ancestor` the parent of process `pid` (the host's numbers), or its parent's parent and so on?"""
    for _ in range(1 << 16):
        words = _known(f"/proc/{pid}")
        pid = int(words[1]) if words else 0
        if pid <= 1 or pid == ancestor:
            return pid == ancestor
    return False


def runs(pidfd: int) -> bool:
    """Is there still such a process, a zombie included?"""
    import signal

    try:
        signal.pidfd_send_signal(pidfd, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def cpu_times(process: Process) -> tuple[int, int]:
    """User and system time in clock ticks, of one that is not waited for yet: proc(5), fields 14 and 15."""
    words = _known(process.proc)
    return (int(words[11]), int(words[12])) if words else (0, 0)


def wait_status(process: Process) -> int | None:
    """The raw wait status: of a zombie in /proc/PID/stat (proc(5), field 52), of one that was waited for by its pidfd
    (PIDFD_GET_INFO, Linux 6.15); None where neither tells."""
    words = _known(process.proc)
    if words:
        return int(words[49])
    import fcntl

    info = bytearray(64)
    struct.pack_into("<Q", info, 0, 8)  # PIDFD_INFO_EXIT
    try:
        fcntl.ioctl(process.pidfd, 0xC040FF0B, info)
    except (OSError, ValueError):
        return None
    mask, status = struct.unpack_from("<Q", info)[0], struct.unpack_from("<i", info, 60)[0]
    return int(status) if mask & 8 else None
