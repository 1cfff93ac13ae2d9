"""How a process ended.

Layer: the pretend kernel, trace.  May touch: nothing.
"""

from __future__ import annotations

from ..ends import wait_status
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
