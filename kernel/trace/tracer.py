"""A line for each system call.

Layer: the pretend kernel, trace.  May touch: guest memory, reading.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..hooks.call import Call
    from ..sandbox import Kernel
    from ..task import Process
    from .options import Options


class Tracer:
    """Writes one line per call."""

    def __init__(self, kernel: Kernel, write: Callable[[str], object], options: Options) -> None:
        self._write = write
        self.numbers = options.numbers
        self.signals = options.signals

    def enter(self, call: Call) -> bool:
        if call.nr in (60, 231):
            self._write(f"{call.pid} {call.name}({call.raw}) = ?\n")
        return True

    def exit(self, call: Call, result: int) -> None:
        text = str(result) if result >= 0 else f"-1 {errno.errorcode.get(-result)} ({os.strerror(-result)})"
        self._write(f"{call.pid} {call.name}({call.raw}) = {text}\n")

    def executed(self, process: Process) -> None:
        pass

    def signal(self, process: Process, words: tuple[int, int, int, int]) -> None:
        self._write(f"signal {words[0] & 0xFFFFFFFF}\n")

    def gone(self, process: Process) -> None:
        self._write(f"{process.pid} +++ gone\n")
