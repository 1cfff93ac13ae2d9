"""The slots that the loop looks at by itself, so that the guests need not ring.

Layer: the pretend kernel, between the loop and the channels.  May touch: the words `req`, `watched` of slots.

A doorbell costs the guest a sendmsg and us an epoll_wait and a recv; with a slot that was served a moment ago the next
request is likely to come at once.  The protocol is Dekker's: the guest stores `req` and then reads `watched`, we store
0 in `watched` and then read `req`, with a full barrier in between on both sides, so that one of them sees the other.
A request that comes both ways is served once (Channel.taken).
"""

from __future__ import annotations

import threading

from .layout import OFFSETS, SLOT_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .channel import Channel
    from .task import Process

_SLOT, _PAGE = OFFSETS["ring3_slot"], OFFSETS["ring3_proc_page"]
_REQ, _WATCHED, _POSTED = _SLOT["req"] // 4, _SLOT["watched"] // 4, _PAGE["posted"] // 4
_WORDS = SLOT_SIZE // 4
#: more would make each look slow; the one that was served longest ago has to ring again
MOST = 6
#: of one process beside others: who has many threads is not to drive them out
MOST_BESIDE = 2
#: Before a request of one process is served, the process that was served last is looked at a moment more if it asked
#: for less than two thirds as much (of the last WINDOW): so many looks, for so many requests in a row.  They take about
#: what a guest needs from an answer to its next request; in strict alternation a burst of calls would take more than
#: twice as long.  (Iyer and Druschel, Anticipatory scheduling, SOSP 2001.)
LOOKS, IN_A_ROW, WINDOW = 80, 3, 64
_lock = threading.Lock()


def barrier() -> None:
    """A full memory barrier: taking a free lock is an atomic read-modify-write in every C library."""
    _lock.acquire(False)
    _lock.release()


class Watched:
    """A slot that is looked at."""

    __slots__ = ("channel", "process", "req", "slot", "watched", "words")

    def __init__(self, process: Process, channel: Channel, slot: int) -> None:
        self.process, self.channel, self.slot = process, channel, slot
        self.words = channel.words
        self.req = (slot + 1) * _WORDS + _REQ
        self.watched = (slot + 1) * _WORDS + _WATCHED


class Watch:
    """All of a sandbox's.  `serve(process, slot, number)` takes a request, `drain(process)` reads its socket."""

    def __init__(
        self, serve: Callable[[Process, int, int], None], drain: Callable[[Process], None]
    ) -> None:
        self.hot: list[Watched] = []  # who was served longest ago comes first
        self._had: set[Channel] = set()  # who was served in this turn
        self._recent: dict[Channel, int] = {}  # how many requests of each were served of late
        self._counted = 0
        self._last: Watched | None = None  # who was served last
        self._serve, self._drain = serve, drain

    def has_room(self, channel: Channel) -> bool:
        """May one more slot of this process be looked at?  Some, and more where no other process wants to be."""
        return len(channel.hot) < MOST_BESIDE or len(channel.hot) >= len(self.hot)

    def add(self, process: Process, channel: Channel, slot: int) -> None:
        """Look at this slot from now on."""
        channel.hot.add(slot)
        one = Watched(process, channel, slot)
        one.words[one.watched] = 1
        self.hot.append(one)

    def taken(self, channel: Channel, slot: int) -> None:
        """A request is about to be served: then come other processes before this one, its other threads before this.

        Whoever asks for less may come before it even now, and end the process: see `_give_way`.
        """
        self._give_way(channel)
        self._had.add(channel)
        self._last = None
        if len(self.hot) < 2:
            return
        self.hot.sort(key=lambda one: (one.channel is channel) + (one.channel is channel and one.slot == slot))
        if (one := self.hot[-1]).channel is channel and one.slot == slot:
            self._last = one
        self._recent[channel] = self._recent.get(channel, 0) + 1
        self._counted += 1
        if self._counted == WINDOW:
            self._counted = 0
            self._recent = {each: count // 2 for each, count in self._recent.items() if count > 1}

    def _give_way(self, channel: Channel) -> None:
        """Serve first what comes in a moment from who was served last, if it asks for less than this process."""
        last, recent = self._last, self._recent
        if last is None or last.channel is channel:
            return
        if recent.get(last.channel, 0) * 3 >= recent.get(channel, 0) * 2:
            return
        words, number = last.words, last.channel.taken.get(last.slot)
        for _ in range(IN_A_ROW):
            for _ in range(LOOKS):
                if words[last.req] != number:
                    break
            else:
                return
            if last.process.channel is not last.channel or last.channel.closed:
                return
            if words[_POSTED] != last.channel.received:
                return  # its socket is read first: look()
            number = words[last.req]
            self._serve(last.process, last.slot, number)
            self._had.discard(last.channel)  # it has its turn yet

    def look(self) -> bool:
        """Serve what has come, one request of each process that had none in this turn; False if nothing has."""
        served = False
        had = self._had
        for one in self.hot[:]:
            channel = one.channel
            if one.process.channel is not channel or channel.closed:
                continue
            if (number := one.words[one.req]) == channel.taken.get(one.slot):
                continue
            served = True
            if channel in had:
                continue
            if one.words[_POSTED] != channel.received:
                self._drain(one.process)  # which may serve it, and the next one too
                if one.process.channel is not channel or not channel.asks(one.slot, number):
                    continue
            self._serve(one.process, one.slot, number)
        had.clear()
        if len(self.hot) > MOST:
            served |= self._drop(self.hot[: len(self.hot) - MOST])
        return served

    def rest(self) -> bool:
        """Stop looking at anything; True if something has come meanwhile and was served."""
        return self._drop(self.hot[:])

    def _drop(self, some: list[Watched]) -> bool:
        for one in some:
            self.hot.remove(one)
            if not one.channel.closed:
                one.channel.hot.discard(one.slot)
                one.words[one.watched] = 0
        barrier()
        served = False
        for one in some:
            if one.process.channel is not one.channel or one.channel.closed:
                continue
            if (number := one.words[one.req]) == one.channel.taken.get(one.slot):
                continue
            if one.words[_POSTED] != one.channel.received:
                self._drain(one.process)
            if one.process.channel is one.channel and one.channel.asks(one.slot, number):
                self._serve(one.process, one.slot, number)
                served = True
        return served

    def forget(self, channel: Channel) -> None:
        """A channel is about to be closed."""
        self.hot = [one for one in self.hot if one.channel is not channel]
        self._had.discard(channel)
        self._recent.pop(channel, None)
        self._last = None
