"""The event loop: descriptors, hang-ups, timers, calls that wait and are interrupted."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from ring3.kernel.loop import Event, Interrupted, Loop, Running
from ring3.kernel.watch import Watch


@pytest.fixture
def loop() -> Iterator[Loop]:
    failures: list[BaseException] = []
    loop = Loop(threading.RLock(), failures.append)
    thread = threading.Thread(target=loop.run, args=(Watch(lambda p, s, n: None, lambda p: None), lambda: False))
    thread.start()
    yield loop
    loop.stop()
    thread.join(5)
    loop.close()
    assert failures == []


def test_calls_from_other_threads(loop: Loop) -> None:
    done = threading.Event()
    loop.call_soon_threadsafe(done.set)
    assert done.wait(5)


def test_readable(loop: Loop) -> None:
    r, w = os.pipe()
    got = threading.Event()

    def ready(_events: int) -> None:
        os.read(r, 1)
        got.set()

    loop.call_soon_threadsafe(lambda: loop.add(r, ready))
    os.write(w, b"x")
    assert got.wait(5)
    loop.remove(r)
    os.close(r)
    os.close(w)


def test_hang_up_is_told_once_and_not_before(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    copy = os.dup(theirs.fileno())
    told = threading.Event()
    loop.call_soon_threadsafe(lambda: loop.watch_hup(ours.fileno(), told.set))
    theirs.close()
    probe = threading.Event()
    loop.call_soon_threadsafe(probe.set)
    assert probe.wait(5)
    assert not told.is_set()
    os.close(copy)
    assert told.wait(5)
    ours.close()


def test_timer(loop: Loop) -> None:
    order: list[int] = []
    done = threading.Event()
    loop.call_soon_threadsafe(lambda: loop.call_later(0.02, lambda: (order.append(2), done.set())))
    loop.call_soon_threadsafe(lambda: loop.call_later(0.0, lambda: order.append(1)))
    assert done.wait(5)
    assert order == [1, 2]


def test_a_blocked_call_waits_and_goes_on() -> None:
    event, results = Event(), []

    async def call() -> int:
        await event
        return 7

    running = Running(call(), lambda value, failure: results.append((value, failure)))
    assert running.waiting
    assert results == []
    event.set()
    assert results == [(7, None)]
    assert not running.waiting


def test_a_blocked_call_is_interrupted() -> None:
    event, results = Event(), []

    async def call() -> int:
        await event
        return 7

    running = Running(call(), lambda value, failure: results.append(failure))
    running.throw(Interrupted(4, "signal"))
    assert isinstance(results[0], Interrupted)
    event.set()
    assert len(results) == 1
