"""What a trace shows, and how: the command line's options, parsed.

Layer: the pretend kernel, trace.  May touch: nothing.
"""

from __future__ import annotations

from ..hooks.filters import Filter
from ..hooks.names import Numbers, numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Options:
    """How a trace reads.

    `calls`: which calls (names.numbers_of); `only`: a Filter; `strings`: how many bytes of a string are shown (-s);
    `paths`: the paths of descriptors (-y); `spent`: the time spent in each call (-T); `stamp`: "" or one of "t",
    "tt", "ttt", "r"; `pids`: "auto" as strace -f, "all" on every line, "none", "column" as with -o; `partial`: write
    the begin of a line at once, so that a call that blocks is seen; `signals`: also signals; `exits`: also ends of
    processes; `status`: None or a set of "successful", "failed", "unfinished"; `column` where results begin; `json`:
    an object a line.
    """

    def __init__(
        self,
        calls: Iterable[str | int] = ("*",),
        *,
        only: Filter | None = None,
        strings: int = 32,
        paths: bool = False,
        spent: bool = False,
        stamp: str = "",
        pids: str = "auto",
        signals: bool = True,
        exits: bool = True,
        status: frozenset[str] | None = None,
        column: int = 40,
        json: bool = False,
        partial: bool = False,
    ) -> None:
        self.numbers: Numbers = numbers_of(calls)
        self.only = only
        self.strings = strings
        self.paths = paths
        self.spent = spent
        self.stamp = stamp
        self.pids = pids
        self.signals = signals
        self.exits = exits
        self.status = status
        self.column = column
        self.json = json
        self.partial = partial
