"""The slots that the loop looks at: whose turn it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import ring3
from ring3.kernel import channel
from ring3.kernel.watch import _POSTED, _REQ, _WORDS, Watch

THREADS = 8


class Guest(SimpleNamespace):
    """A process whose threads ask again as soon as they are served; `pauses`: but later after each tenth request."""

    def __init__(self, name: str, threads: int, pauses: bool = False) -> None:
        self.name = name
        self.channel: Any = Channel()
        self.threads = list(range(threads))
        self.pauses = pauses


class Channel:
    def __init__(self) -> None:
        self.words = [0] * ((THREADS + 1) * _WORDS)
        self.words[_POSTED] = self.received = 0
        self.taken: dict[int, int] = {}
        self.hot: set[int] = set()
        self.closed = False

    def ask(self, slot: int) -> None:
        self.words[(slot + 1) * _WORDS + _REQ] += 1

    asks = channel.Channel.asks  # the real one


def turns(guests: list[Guest], number: int) -> list[tuple[str, int]]:
    """Who was served, in `number` looks; each second of them comes after a ring of each guest's threads in turn."""
    order: list[tuple[str, int]] = []

    def serve(guest: Any, slot: int, request: int) -> None:
        channel = guest.channel
        channel.taken[slot] = request
        if slot not in channel.hot and watch.has_room(channel):
            watch.add(guest, channel, slot)
        watch.taken(channel, slot)
        order.append((guest.name, slot))
        if not (guest.pauses and request % 10 == 0):
            channel.ask(slot)

    watch = Watch(serve, lambda process: None)
    for guest in guests:
        for slot in guest.threads:
            guest.channel.ask(slot)
    for turn in range(number):
        for guest in guests:
            ringing = [slot for slot in guest.threads if slot not in guest.channel.hot]
            if turn % 2 == 0 and ringing:
                serve(guest, ringing[turn // 2 % len(ringing)], 1)
            if guest.pauses and turn % 20 == 0 and guest.channel.taken.get(0, 0) % 10 == 0:
                guest.channel.ask(0)
        watch.look()
    return order


def test_one_request_of_a_noisy_process_between_two_of_a_quiet_one() -> None:
    order = turns([Guest("noisy", THREADS), Guest("quiet", 1)], 100)
    names = [name for name, _ in order][20:]
    assert names.count("quiet") > 20
    assert "noisy noisy" not in " ".join(names)


def test_a_burst_of_a_quiet_process_has_more_than_each_second_turn() -> None:
    order = turns([Guest("noisy", THREADS), Guest("quiet", 1, pauses=True)], 1000)
    after = [(one, other) for (one, _), (other, _) in zip(order, order[1:], strict=False)][50:]
    assert after.count(("quiet", "quiet")) > after.count(("quiet", "noisy"))
    assert after.count(("noisy", "noisy")) > len(after) / 4, "it is no quiet process then"


def test_neither_of_two_like_ones_comes_twice() -> None:
    names = [name for name, _ in turns([Guest("one", 1), Guest("other", 1)], 200)][20:]
    assert " one one" not in " ".join(names) and "other other" not in " ".join(names)


def test_each_thread_has_its_turn() -> None:
    order = turns([Guest("noisy", THREADS), Guest("quiet", 1)], 200)
    assert {slot for name, slot in order[-100:] if name == "noisy"} == set(range(THREADS))


def test_a_process_that_is_gone_is_not_looked_at() -> None:
    served = []
    watch = Watch(lambda process, slot, number: served.append(slot), lambda process: None)
    guest: Any = Guest("gone", 1)
    watch.add(guest, guest.channel, 0)
    guest.channel.ask(0)
    watch.forget(guest.channel)
    assert not watch.look()
    assert served == []


@pytest.mark.parametrize("looks", [Watch.look, Watch.rest])
def test_what_the_socket_tells_of_is_not_served_again(looks: Callable[[Watch], bool]) -> None:
    """A request and the next were cancelled, and so served, as the socket was read: a profiler's signals do that."""
    served = []
    guest: Any = Guest("interrupted", 1)
    channel = guest.channel

    def drain(process: Any) -> None:
        for number in 1, 2:
            served.append(number)
            channel.taken[0] = number
            channel.ask(0)
        channel.received += 2

    watch = Watch(lambda process, slot, number: served.append(number), drain)
    watch.add(guest, channel, 0)
    channel.ask(0)
    channel.words[_POSTED] += 2
    looks(watch)
    assert served[:2] == [1, 2] and 1 not in served[2:]


INTERRUPTED = """
import os, signal
class Over(Exception): pass
def over(*_): raise Over
signal.signal(signal.SIGALRM, over)
os.mkfifo('/tmp/fifo')
for _ in range(100):
    for _ in range(20): os.stat('/tmp/fifo')   # what asks often is looked at, and rings no bell
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        os.open('/tmp/fifo', os.O_WRONLY)
    except Over: pass
"""


def test_a_signal_before_its_call_was_seen() -> None:
    """A busy supervisor hears that a call is interrupted before it has looked at the call, which ends all the same."""
    args = ["/usr/bin/python3", "-S", "-c", INTERRUPTED]
    with ring3.Sandbox(None, mounts={"/usr": "/usr", "/lib": "/lib", "/lib64": "/lib64"}) as box:
        box.mount_tmpfs("/tmp")
        with box.popen(args) as guest:
            end = time.monotonic() + 30
            while guest.poll() is None and time.monotonic() < end:
                with box.lock:
                    time.sleep(0.003)
                time.sleep(0.001)
            guest.kill()
        assert guest.returncode == 0
