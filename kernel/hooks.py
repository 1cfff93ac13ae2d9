"""Calls that are looked at before and after: the trace, and the seam where hooks and faults will stand.

Layer: the pretend kernel.  May touch: the world page's bitmaps, which make the core report a call.
"""

from __future__ import annotations

import struct

from .layout import CONSTANTS, OFFSETS
from .table import BY_NAME, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .dispatch import Dispatcher, Request
    from .sandbox import Kernel
    from .task import Task

_ENTER = CONSTANTS["REQ_ENTER"]


class Hooks:
    """Which calls the core reports, and to whom."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._tracer: Any = None

    def trace(self, write: Callable[[str], object], names: Iterable[str] | None = None) -> None:
        """Give `write` one line for each call (of `names`, or every call there is)."""
        from .trace import Tracer

        self._tracer = Tracer(write)
        numbers = [BY_NAME[n].nr for n in names] if names is not None else range(512)
        words = [0] * 8
        for nr in numbers:
            words[nr // 64] |= 1 << nr % 64
        struct.pack_into("<8Q", self._kernel.world, OFFSETS["ring3_world"]["hook_enter"], *words)

    def serve(self, dispatcher: Dispatcher, task: Task, request: Request) -> None:
        """A reported call: REQ_ENTER or REQ_EXIT."""
        call = TABLE.get(request.nr)
        if request.kind == _ENTER:
            if self._tracer is not None:
                self._tracer.enter(task, request, call)
            assert task.process.channel is not None
            task.process.channel.reply(task.slot, task.request, 0, CONSTANTS["ACT_REPORT"] | CONSTANTS["ACT_NATIVE"])
            return
        if self._tracer is not None:
            self._tracer.exit(task, request, call)
        result = request.result
        assert task.process.channel is not None
        task.process.channel.reply(task.slot, task.request, result)
