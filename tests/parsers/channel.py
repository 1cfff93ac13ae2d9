"""Requests in the slot of a guest that has been taken over: whatever they say, the supervisor answers.

Layer: tests. One guest for all of them; it sleeps, and we write into the slots of threads that it does not have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import ring3
from ring3.kernel.channel import REQUEST, Channel
from ring3.kernel.layout import CONSTANTS, OFFSETS, SLOT_COUNT, SLOT_DATA, SLOT_DATA_SIZE, SLOT_SIZE
from ring3.kernel.table import BY_NAME, CORE

_KIND = OFFSETS["ring3_slot"]["kind"]
#: calls that end or stop the supervisor's view of the guest: what they do is their handlers' tests' affair
_LEFT_OUT = {"exit_group", "execve", "execveat"}


class _Guest:
    """The sandbox, and the guest that sleeps in it."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.box = ring3.Sandbox("/", log=self._heard)
        self.child = self.box.popen(
            ["sleep", "100000"], stdin=ring3.DEVNULL, stdout=ring3.DEVNULL, stderr=ring3.DEVNULL
        )
        self.kernel: Any = self.box._kernel
        while not (found := [p for p in self.kernel.guests.processes.values() if p.channel is not None]):
            pass
        self.process: Any = found[0]
        self.number = 0

    def _heard(self, line: str) -> None:
        if "internal error" in line:
            self.reports.append(line)

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        self.box.close()


_guest: list[_Guest] = []


@contextmanager
def guest() -> Iterator[tuple[Any, _Guest]]:
    """The kernel, held, and the guest; fails with what the supervisor reports meanwhile."""
    if not _guest:
        _guest.append(_Guest())
    one = _guest[0]
    one.reports.clear()
    one.kernel._reports = 0
    with one.box.lock:
        yield one.kernel, one
        lives = one.process.channel is not None
    if not lives:
        end()  # the supervisor ends a guest that lies
    assert not one.reports, one.reports[0]


def end() -> None:
    """Ends the guest and its sandbox."""
    while _guest:
        _guest.pop().close()


def channel(data: bytes) -> None:
    """The request half of a slot, then its data area."""
    head, rest = data[: REQUEST.size].ljust(REQUEST.size, b"\0"), data[REQUEST.size :][:SLOT_DATA_SIZE]
    kind, nr = struct.unpack_from("<I4xq", head)
    with guest() as (kernel, one), mock.patch.object(Channel, "send_fds", _nowhere):
        known = one.process.channel
        if known is None:
            return
        slot = SLOT_COUNT - 1 - nr % 8
        at = (slot + 1) * SLOT_SIZE
        known.view[at + _KIND : at + _KIND + len(head)] = head
        known.view[at + SLOT_DATA : at + SLOT_DATA + len(rest)] = rest
        one.number += 1
        kernel.dispatcher.serve(one.process, slot, one.number)
        if one.process.channel is None:
            return
        task = one.process.tasks.get(slot)
        if task is not None and task.blocked is not None:
            kernel.dispatcher.interrupt(one.process, slot, one.number)
        answered = struct.unpack_from("<I", known.view, at + OFFSETS["ring3_slot"]["rep"])[0]
        assert answered == one.number or kind == CONSTANTS["REQ_EXIT"], f"request {kind} ({nr}) has no answer"


def _nowhere(self: Channel, slot: int, fds: list[int], flags: int = 0) -> None:
    """In place of Channel.send_fds(): nobody there would take the descriptors."""


def requests() -> list[bytes]:
    """A request of each kind, and a call of each that the supervisor answers, with nothing wrong in it."""
    kinds = [value for name, value in CONSTANTS.items() if name.startswith("REQ_")]
    calls = [call.nr for call in BY_NAME.values() if call.lane != CORE and call.name not in _LEFT_OUT]
    made = []
    for kind, nr in [(kind, 0) for kind in kinds] + [(1, nr) for nr in calls]:
        raw = [
            kind,
            nr,
            *[3] * 6,
            0x400000,
            0x7FFF00000000,
            0,
            *range(0, 48, 8),
            *[4] * 6,
            3,
            3,
            0o100644,
            0o40755,
        ]
        made.append(REQUEST.pack(*raw, 5, 5, 7, 8, 0) + b"/etc\0\0\0\0" * 8)
    return made
