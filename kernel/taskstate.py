"""What each task of a sandbox does or waits for, for `ring3 ps` and box.tasks().

Layer: the pretend kernel, beside guests.py.  May touch: the words of channels, the host's /proc of guests' processes.
"""

from __future__ import annotations

import os

from .dispatch import REQ_CALL, Request
from .ends import state
from .layout import CONSTANTS
from .table import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .sandbox import Kernel
    from .task import Process, Task

_SHOWN = 60  # characters of a path
_KINDS = {value: name for name, value in CONSTANTS.items() if name.startswith("REQ_")}


def tasks(kernel: Kernel) -> list[dict[str, Any]]:
    """Every thread of every process that has not been waited for: `pid`, `tid`, `state` (the letter of proc(5),
    /proc/pid/stat), `program`, `doing`: "runs", or what it waits for: "ring3: CALL" for a call that the
    supervisor has not answered, "CALL" for one in the host kernel."""
    rows: list[dict[str, Any]] = []
    for process in sorted(kernel.processes.values(), key=lambda p: p.pid):
        rows += _of_process(process)
    return rows


def state_of(process: Process, tid: int) -> str:
    """The letter of a thread, "X" if it is gone."""
    return next((state(folder) for number, folder in _threads(process) if number == tid), "X")


def _threads(process: Process) -> list[tuple[int, str]]:
    """Numbers, and folders in the host's /proc."""
    folder = f"{process.proc}/task"
    try:
        return [(tid, f"{folder}/{tid}") for tid in sorted(map(int, os.listdir(folder)))]
    except OSError:
        return []


def _of_process(process: Process) -> list[dict[str, Any]]:
    by_tid = {task.tid: task for task in process.tasks.values()}
    program = process.comm.decode("utf-8", "replace")
    return [
        {"pid": process.pid, "tid": tid, "state": state(folder), "program": program, "doing": doing}
        for tid, folder in _threads(process)
        for doing in [_doing(by_tid.get(tid), folder)]
    ]


def _read(path: str) -> str:
    try:
        with open(path, "rb", 0) as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _doing(task: Task | None, folder: str) -> str:
    channel = task.process.channel if task is not None else None
    if task is not None and channel is not None and not channel.closed and channel.waits(task.slot):
        request = Request(channel.request(task.slot))
        if request.kind == REQ_CALL:
            return f"ring3: {_asked(task, request)}"
        return f"ring3: {_KINDS.get(request.kind, request.kind)}"
    words = _read(f"{folder}/syscall").split()
    if not words:
        return "?"  # it has ended, or the host does not tell
    if not words[0].isdigit():
        return "runs" if words[0] == "running" else "between calls"
    return _call(int(words[0]), [int(word, 16) for word in words[1:7]])


def _asked(task: Task, request: Request) -> str:
    """A call as it lies in a slot, with the paths in it."""
    channel, call = task.process.channel, TABLE.get(request.nr)
    texts: dict[int, str] = {}
    for i, (kind, _) in enumerate(call.args if call is not None else ()):
        if kind.startswith(("path", "str")) and channel is not None:
            try:
                data = channel.data(task.slot, request.in_off[i], request.in_len[i])
            except OSError:
                continue  # there is none
            texts[i] = repr(data.rstrip(b"\0")[:_SHOWN].decode("utf-8", "replace"))
    return _call(request.nr, list(request.args), texts)


def _call(nr: int, args: list[int], texts: dict[int, str] | None = None) -> str:
    call = TABLE.get(nr)
    if call is None:
        return f"call {nr}"
    shown = (texts or {}).get
    count = len(call.args) if call.args else 0
    return f"{call.name}({', '.join(shown(i) or _number(value) for i, value in enumerate(args[:count]))})"


def _number(value: int) -> str:
    """Small numbers as they are, also negative ones; what may be an address in base 16."""
    for bits in (64, 32):
        if value >> 12 == (1 << bits - 12) - 1:
            return str(value - (1 << bits))
    return str(value) if value < 1 << 16 else hex(value)
