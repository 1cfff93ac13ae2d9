"""`-c`: how often, how long, how many errors, as strace's table.

Layer: the pretend kernel, trace; called by the hooks in place of the tracer.  May touch: nothing.
"""

from __future__ import annotations

import time

from ..table import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..hooks.call import Call
    from ..sandbox import Kernel
    from ..task import Process
    from .options import Options

_RULE = "------ ----------- ----------- --------- --------- ----------------"
SORTS = ("time", "calls", "errors", "name", "none")


class Summary:
    """Counts calls.  `numbers` and `signals` tell the hooks what to report.

    As long as no hook is installed and nothing but names chooses, the cores count (`native`), which costs next to
    nothing; else each call is reported.
    """

    def __init__(self, kernel: Kernel, options: Options) -> None:
        self.numbers = options.numbers
        self.signals = False
        self.native = options.only is None
        self._kernel = kernel
        self._only = options.only
        self._begun: dict[tuple[Process, int], float] = {}
        self._counts: dict[str, list[Any]] = {}  # name: [calls, errors, seconds]
        self._pages: list[dict[str, tuple[int, ...]]] = []  # of processes that have ended
        for process in kernel.processes.values():
            if process.channel is not None and not process.channel.closed:
                process.channel.clear_counts()

    @property
    def counts(self) -> dict[str, list[Any]]:
        """{name: [calls, errors, seconds]} until now."""
        out = {name: list(entry) for name, entry in self._counts.items()}
        with self._kernel.lock:
            pages = [*self._pages]
            for process in self._kernel.processes.values():
                if process.channel is not None:
                    pages.append(process.channel.counts())
        for page in pages:
            for nr, calls in enumerate(page.get("calls", ())):
                if calls:
                    call = TABLE.get(nr)
                    entry = out.setdefault(call.name if call is not None else f"syscall_{nr:#x}", [0, 0, 0.0])
                    entry[0] += calls
                    entry[1] += page["errors"][nr]
                    entry[2] += page["ns"][nr] / 1e9
        return out

    def enter(self, call: Call) -> bool:
        if call.nr not in self.numbers or (self._only is not None and not self._only.match(call)):
            return False
        entry = self._counts.get(call.name)
        if entry is None:
            entry = self._counts[call.name] = [0, 0, 0.0]
        entry[0] += 1
        self._begun[call.task.process, call.tid] = time.perf_counter()
        return True

    def exit(self, call: Call, result: int) -> None:
        begun = self._begun.pop((call.task.process, call.tid), None)
        entry = self._counts[call.name]
        if begun is not None:
            entry[2] += time.perf_counter() - begun
        if -4095 <= result < 0:
            entry[1] += 1

    def executed(self, process: Process) -> None:
        pass

    def signal(self, process: Process, words: tuple[int, int, int, int]) -> None:
        pass

    def gone(self, process: Process) -> None:
        for key in [key for key in self._begun if key[0] is process]:
            del self._begun[key]
        if process.channel is not None:
            page = process.channel.counts()
            if page and any(page["calls"]):
                self._pages.append(page)

    def table(self, sort: str = "time") -> str:
        """The table; `sort` is one of SORTS."""
        rows = [(name, *entry) for name, entry in self.counts.items()]
        keys: dict[str, Any] = {
            "time": lambda r: (-r[3], -r[1]), "calls": lambda r: -r[1], "errors": lambda r: -r[2],
            "name": lambda r: r[0], "none": lambda r: 0,
        }  # fmt: skip
        rows.sort(key=keys[sort])
        total = sum(r[3] for r in rows)
        lines = ["% time     seconds  usecs/call     calls    errors syscall", _RULE]
        for name, calls, errors, seconds in rows:
            lines.append(_row(100 * seconds / total if total else 0.0, seconds, calls, errors, name))
        lines.append(_RULE)
        calls, errors = sum(r[1] for r in rows), sum(r[2] for r in rows)
        lines.append(_row(100.0, total, calls, errors, "total"))
        return "\n".join(lines) + "\n"


def _row(share: float, seconds: float, calls: int, errors: int, name: str) -> str:
    each = int(seconds * 1e6 / calls) if calls else 0
    return f"{share:6.2f} {seconds:11.6f} {each:11d} {calls:9d} {errors or '':>9} {name}"
