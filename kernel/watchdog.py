"""Finds wake-ups that were lost: a request that nobody serves, an answer that nobody takes.

Layer: the pretend kernel, beside watch.py.  May touch: the words of channels, the host's /proc of guests' processes.

There should be none, and a guest that waits for ever without a word would be the worst of all failures.  So some
seconds after work the loop looks at every slot, once: what stands still in it, as it stood at the look before, is told
and mended.  A sandbox in which nothing goes on is not looked at.
"""

from __future__ import annotations

from .dispatch import Request
from .taskstate import state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sandbox import Kernel
    from .task import Process

#: slots that nobody ever used, after which no further one is expected
_UNUSED = 4


class Watchdog:
    """One sandbox's."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._seen: set[tuple[int, int, int, bool]] = set()

    def look(self) -> bool:
        """Look at every slot.  True if something stands still, so that another look is wanted."""
        found = set(self._standing())
        for token, slot, number, answered in found & self._seen:
            process = self._kernel.guests.by_token(token)
            if process is not None:
                self._mend(process, slot, number, answered)
        self._seen = found - self._seen
        return bool(self._seen)

    def _standing(self) -> Iterator[tuple[int, int, int, bool]]:
        for process in list(self._kernel.processes.values()):
            channel = process.channel
            if channel is None or channel.closed:
                continue
            unused = 0
            for slot, asked, answered, sleeping in channel.progress():
                unused = unused + 1 if not asked else 0
                if unused > _UNUSED:
                    break
                if asked != channel.taken.get(slot, 0):
                    yield process.token, slot, asked, False
                elif sleeping and asked and asked == answered:
                    yield process.token, slot, asked, True

    def _mend(self, process: Process, slot: int, number: int, answered: bool) -> None:
        channel = process.channel
        if channel is None or state_of(process, channel.tid(slot)) != "S":
            return  # it is stopped, traced or gone, and may well stand still
        call = Request(channel.request(slot)).nr
        self._kernel.log(
            f"watchdog: {'the answer to' if answered else 'a request for'} call {call} of "
            f"{process.comm.decode('utf-8', 'replace')}[{process.pid}] stood still (slot {slot}, number {number}, "
            f"taken {channel.taken.get(slot)}); {'woken' if answered else 'served'} now. "
            "This is a mistake of ring3's: please report it"
        )
        if answered:
            channel.wake(slot)
        else:
            self._kernel.guests.serve(process, slot, number)
