"""Calls that a signal interrupts while the supervisor has them."""

from __future__ import annotations

import subprocess
import time

import pytest

import ring3
from ring3.kernel.dispatch import Request
from ring3.kernel.guests import Guests
from ring3.kernel.table import BY_NAME
from ring3.kernel.task import Process


def test_a_call_that_is_interrupted_before_it_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot of a thread is looked at without its telling; what it says, of a signal, may be read before that."""
    served: list[int] = []
    serve = Guests.serve

    def early(self: Guests, process: Process, slot: int, number: int) -> None:
        channel = process.channel
        assert channel is not None
        request = Request(channel.request(slot))
        opens = request.nr == BY_NAME["openat"].nr or request.nr == BY_NAME["open"].nr
        if opens and b"/mem/fifo\0" in channel.data(slot, 0, 100):
            served.append(number)
            if len(served) == 1:
                box._kernel.dispatcher.interrupt(process, slot, number)
        serve(self, process, slot, number)

    monkeypatch.setattr(Guests, "serve", early)
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mem")
        box.run(["mkfifo", "/mem/fifo"], check=True)
        with box.popen(["cat", "/mem/fifo"], stdout=subprocess.PIPE) as reader:
            end = time.monotonic() + 30
            while len(served) < 2 and time.monotonic() < end:
                time.sleep(0.001)
            assert len(served) == 2  # it gave up, and as there was no signal after all, it asked again
            box.run(["sh", "-c", "echo through >/mem/fifo"], check=True)
            assert reader.communicate()[0] == b"through\n"
