"""The watchdog: a wake-up that was lost costs some time and a line in the log, and nothing else.

Layer: tests. Touches a sandbox of its own, whose loop is made to lose things.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from guestpython import PYTHON, TIME_LIMIT

import ring3
from ring3.kernel import loop
from ring3.kernel.channel import Channel
from ring3.kernel.layout import OFFSETS, SLOT_SIZE
from ring3.kernel.task import Process

# Waits longer than anybody looks, then asks the supervisor.
GUEST = """
import os, sys
for line in sys.stdin:
    os.umask(0o22)
    print("done", flush=True)
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "WATCHDOG_NS", 100_000_000)


def talk(box: ring3.Sandbox, lose: Callable[[], None]) -> None:
    guest = box.popen([PYTHON, "-I", "-S", "-c", GUEST], stdin=ring3.PIPE, stdout=ring3.PIPE, text=True)
    assert guest.stdin is not None and guest.stdout is not None
    for turn in range(3):
        if turn == 1:
            lose()
        guest.stdin.write("x\n")
        guest.stdin.flush()
        assert guest.stdout.readline() == "done\n"
    guest.stdin.close()
    assert guest.wait(TIME_LIMIT) == 0


def test_nothing_to_say() -> None:
    said: list[str] = []
    with ring3.Sandbox(log=said.append) as box:
        talk(box, lambda: None)
    assert said == []


def test_a_request_that_nobody_hears_of(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with ring3.Sandbox(log=said.append) as box:
        guests = box._kernel.guests
        serve = guests.serve
        lost: list[int] = []

        def deaf(process: Process, slot: int, number: int) -> None:
            if lost and not said and lost[0] in (0, number):
                lost[0] = number  # neither the ring nor a look finds it
                channel = process.channel
                assert channel is not None
                guests.watch.forget(channel)
                channel.hot.clear()
                channel.words[word_of(slot, "watched")] = 0
                return
            serve(process, slot, number)

        monkeypatch.setattr(guests, "serve", deaf)
        monkeypatch.setattr(guests.watch, "_serve", deaf)
        talk(box, lambda: lost.append(0))
        assert lost[0]
    assert len(said) == 1 and said[0].startswith("watchdog: a request for call 95 of ")
    assert said[0].count("served now") == 1


def word_of(slot: int, name: str) -> int:
    return ((slot + 1) * SLOT_SIZE + OFFSETS["ring3_slot"][name]) // 4


def test_an_answer_that_nobody_is_woken_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    lost: list[int] = []
    wake = Channel._wake

    def silent(channel: Channel, base: int) -> None:
        if lost == [0]:
            lost[0] = base
            return
        wake(channel, base)

    monkeypatch.setattr(Channel, "_wake", silent)
    with ring3.Sandbox(log=said.append) as box:
        guests = box._kernel.guests
        serve = guests.serve

        def late(process: Process, slot: int, number: int) -> None:
            assert process.channel is not None
            while lost == [0] and not process.channel.words[word_of(slot, "sleeping")]:
                time.sleep(0.001)
            serve(process, slot, number)

        monkeypatch.setattr(guests, "serve", late)
        monkeypatch.setattr(guests.watch, "_serve", late)
        talk(box, lambda: lost.append(0))
    assert lost[0] and len(said) == 1 and said[0].startswith("watchdog: the answer to call ")
