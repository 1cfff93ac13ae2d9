"""FIFOs: a named pipe of the guest's world is an anonymous one of the host (fifo(7)).

Layer: vfs, beside vfs.py. May touch: a private temporary directory for an instant, the FIFO's descriptor.

The node is made with mkfifo, held with O_PATH and unlinked, so nobody else can ever name it. Reads, writes
and polls are then the kernel's own. Only open(2) is ours: it must wait for the other side without blocking
the supervisor, as fifo_open() in fs/pipe.c does.
"""

from __future__ import annotations

import errno
import os
import select

from .inode import err

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..kernel.loop import Event
    from .openfile import OpenFile

_SPLICE_F_NONBLOCK = 2


class Fifo:
    """The pipe behind one FIFO inode, and who waits to open it."""

    def __init__(self, fd: int = -1) -> None:
        """`fd`: an O_PATH descriptor of a FIFO of the host, which is taken over; by default a new one is
        made."""
        self._fd = fd if fd >= 0 else _make()
        self._readers: list[Event] = []  # opens for reading that wait for a writer
        self._writers: list[Event] = []

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _reopen(self, flags: int) -> int:
        return os.open(f"/proc/self/fd/{self._fd}", flags | os.O_NONBLOCK | os.O_CLOEXEC)

    def open(self, flags: int) -> int | Awaitable[int | OpenFile]:
        """open(2): a host descriptor, or a coroutine that waits for the other side. ENXIO as Linux."""
        accmode = flags & os.O_ACCMODE
        blocking = not flags & os.O_NONBLOCK
        if accmode == os.O_RDONLY:
            fd = self._reopen(flags)
            # A writer that waited for us is a partner, even if it has written and closed by now.
            met = self._wake(self._writers)
            if blocking and not met and not self._has_writer(fd):
                return self._wait(fd, self._readers)
        elif accmode == os.O_WRONLY:
            try:
                fd = self._reopen(flags)  # ENXIO: there is no reader
            except OSError as e:
                if e.errno != errno.ENXIO or not blocking:
                    raise
                return self._wait_for_reader(flags)
            self._wake(self._readers)
        else:
            fd = self._reopen(flags)
            self._wake(self._readers)
            self._wake(self._writers)
        if blocking:
            os.set_blocking(fd, True)
        return fd

    @staticmethod
    def _wake(waiting: list[Event]) -> bool:
        """Let those who wait go on; were there any?"""
        events = waiting[:]
        waiting.clear()
        for event in events:
            event.set()
        return bool(events)

    async def _wait(self, fd: int, queue: list[Event]) -> int:
        """Keep `fd` open and wait for the other side."""
        from ..kernel.loop import Event

        event = Event()
        queue.append(event)
        try:
            await event
        except BaseException:
            os.close(fd)
            if event in queue:
                queue.remove(event)
            raise
        os.set_blocking(fd, True)
        return fd

    async def _wait_for_reader(self, flags: int) -> int:
        """Wait for a reader. Until one comes nobody can hold a write end; a reader that opens meanwhile wakes
        us before it looks for writers, and Event.set() runs us at once, so it finds us."""
        from ..kernel.loop import Event

        while True:
            event = Event()
            self._writers.append(event)
            try:
                await event
            finally:
                if event in self._writers:
                    self._writers.remove(event)
            try:
                fd = self._reopen(flags)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                continue  # the reader went away again
            self._wake(self._readers)
            os.set_blocking(fd, True)
            return fd

    def _has_writer(self, fd: int) -> bool:
        """Has anyone the FIFO open for writing? `fd` is our read end, just opened.

        tee(2) tells without taking a byte away: 0 means empty and no writer, EAGAIN empty with a writer. If
        there are bytes, a writer of our own that comes and goes makes poll(2) say POLLHUP only if it was the
        last.
        """
        got = _tee(fd)
        if got == 0:
            return False
        if got < 0:
            return True
        os.close(self._reopen(os.O_WRONLY))
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not any(events & select.POLLHUP for _, events in poll.poll(0))


def _make() -> int:
    """An O_PATH descriptor of a FIFO that has no name."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ring3-") as directory:
        name = os.path.join(directory, "fifo")
        os.mkfifo(name, 0o600)
        return os.open(name, os.O_PATH | os.O_CLOEXEC)


def _tee(fd: int) -> int:
    """tee(2) of one byte from `fd` into a scratch pipe: the count, or -1 for EAGAIN."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    r, w = os.pipe2(os.O_CLOEXEC)
    try:
        count: int = libc.tee(fd, w, ctypes.c_size_t(1), _SPLICE_F_NONBLOCK)
        if count < 0 and ctypes.get_errno() != errno.EAGAIN:
            raise err(ctypes.get_errno())
        return count
    finally:
        os.close(r)
        os.close(w)
