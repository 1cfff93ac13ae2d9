"""Opening a FIFO waits for the other side, and never blocks the supervisor (fifo(7))."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ring3.kernel.loop import Interrupted, Running
from ring3.vfs.fifo import Fifo


class Opening:
    """An open in progress: `fd` when it is done."""

    def __init__(self, fifo: Fifo, flags: int) -> None:
        self.fd = -1
        self.error: BaseException | None = None
        self.running: Running | None = None
        opened: Any = fifo.open(flags)
        if isinstance(opened, int):
            self.fd = opened
        else:
            self.running = Running(opened, self._done)

    def _done(self, fd: int | None, error: BaseException | None) -> None:
        self.fd = -1 if fd is None else fd
        self.error = error

    @property
    def waits(self) -> bool:
        return self.fd < 0 and self.error is None


@pytest.fixture
def fifo() -> Iterator[Fifo]:
    before = len(os.listdir("/proc/self/fd"))
    made = Fifo()
    yield made
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_writer_then_reader(fifo: Fifo) -> None:
    writer = Opening(fifo, os.O_WRONLY)
    assert writer.waits
    reader = Opening(fifo, os.O_RDONLY)
    assert not writer.waits and not reader.waits
    os.write(writer.fd, b"x")
    assert os.read(reader.fd, 10) == b"x" and os.get_blocking(reader.fd)
    os.close(writer.fd)
    assert os.read(reader.fd, 10) == b""
    os.close(reader.fd)


def test_reader_then_writer(fifo: Fifo) -> None:
    reader = Opening(fifo, os.O_RDONLY)
    assert reader.waits
    second = Opening(fifo, os.O_RDONLY)
    assert second.waits
    writer = Opening(fifo, os.O_WRONLY)
    assert not (reader.waits or second.waits or writer.waits)
    for one in (reader, second, writer):
        os.close(one.fd)


def test_without_waiting(fifo: Fifo) -> None:
    with pytest.raises(OSError) as failed:
        fifo.open(os.O_WRONLY | os.O_NONBLOCK)
    assert failed.value.errno == errno.ENXIO
    reader = Opening(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader.fd, 1) == b""
    writer = Opening(fifo, os.O_WRONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(reader.fd, 1)
    os.close(reader.fd)
    os.close(writer.fd)
    both = Opening(fifo, os.O_RDWR)
    assert not both.waits
    os.close(both.fd)


def test_a_reader_waits_although_bytes_are_left(fifo: Fifo) -> None:
    """What an earlier writer left in the pipe is no writer."""
    holder = Opening(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = Opening(fifo, os.O_WRONLY)
    os.write(writer.fd, b"left")
    late = Opening(fifo, os.O_RDONLY)
    assert not late.waits
    os.close(late.fd)
    os.close(writer.fd)
    reader = Opening(fifo, os.O_RDONLY)
    assert reader.waits
    again = Opening(fifo, os.O_WRONLY)
    assert not reader.waits and os.read(reader.fd, 10) == b"left"
    for one in (holder, reader, again):
        os.close(one.fd)


def test_a_writer_that_has_gone_again_was_a_partner(fifo: Fifo) -> None:
    """The waiting writer is let go by the reader, writes and closes before the reader looks."""
    done: list[int] = []

    def write_and_close(fd: int | None, _error: BaseException | None) -> None:
        assert fd is not None
        os.write(fd, b"late")
        os.close(fd)
        done.append(fd)

    opening: Any = fifo.open(os.O_WRONLY)
    Running(opening, write_and_close)
    reader = Opening(fifo, os.O_RDONLY)
    assert done and not reader.waits and os.read(reader.fd, 10) == b"late"
    os.close(reader.fd)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY])
def test_an_interrupted_open_leaves_nothing(fifo: Fifo, flags: int) -> None:
    opening = Opening(fifo, flags)
    assert opening.running is not None
    opening.running.throw(Interrupted(errno.EINTR, "a signal"))
    assert isinstance(opening.error, Interrupted)
    other = Opening(fifo, os.O_WRONLY if flags == os.O_RDONLY else os.O_RDONLY)
    assert other.waits, "the interrupted one is no partner"
    last = Opening(fifo, flags)
    assert not other.waits
    os.close(other.fd)
    os.close(last.fd)
