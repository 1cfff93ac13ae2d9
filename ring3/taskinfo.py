"""What a thread of a sandbox does.

Part of: ring3 (the front door). May touch: nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class TaskInfo(NamedTuple):
    """An entry of ``box.tasks()``: ``pid`` and ``tid``; ``state``, the letter of proc(5)'s /proc/pid/stat (R, S, D, T,
    Z); ``program``; ``doing``: "runs", "CALL" of the host kernel, or "ring3: CALL" that the supervisor has not answered
    yet."""

    pid: int
    tid: int
    state: str
    program: str
    doing: str
