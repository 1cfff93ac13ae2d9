"""Files of Python's that are not always ready: inotify's queues, devices.

Layer: vfs, above openfile.py. May touch: the file's placeholder.

The guest polls its end of the placeholder natively. A byte in it says that there is something to read; we put it in
from our end, and have to take it back out of the guest's own.
"""

from __future__ import annotations

import errno
import os

from .inode import err
from .openfile import OpenFile

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any

    from .inode import Inode
    from .mount import Path


class PollFile(OpenFile):
    """An open file description that says when there is something to read. Readers wait for the Event `wakes`."""

    __slots__ = ("_ready", "wakes")

    pollable = True

    def __init__(self, path: Path, inode: Inode, flags: int) -> None:
        super().__init__(path, inode, flags)
        self._ready = False
        self.wakes: Any = None

    def has_data(self) -> None:
        """There is something to read now: poll(2) sees it, and who waits in read(2) looks again."""
        if not self._ready and self.sup_fd >= 0:
            try:
                os.write(self.sup_fd, b"\0")
                self._ready = True
            except OSError:
                pass  # every guest's end is closed, of which the loop has not heard yet: nobody reads it any more
        event, self.wakes = self.wakes, None
        if event is not None:
            event.set()

    def fsync(self) -> None:
        raise err(errno.EINVAL)

    async def wait(self) -> None:
        """Until has_data() is called."""
        from ..kernel.loop import Event

        if self.wakes is None:
            self.wakes = Event()
        await self.wakes

    def has_none(self, task: Any) -> None:
        """Nothing is left. `task` has just read by its descriptor `fd`."""
        if not self._ready:
            return
        try:
            fd = task.host_fd(self.fd)
        except OSError:
            return  # closed meanwhile; whoever has it else finds nothing to read
        try:
            import socket

            with socket.socket(fileno=os.dup(fd)) as end:
                end.recv(16, socket.MSG_DONTWAIT)
            self._ready = False
        except OSError:
            pass
        finally:
            os.close(fd)
