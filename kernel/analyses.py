"""Large files are analysed by processes of their own: who maps such a file waits for it, nobody else does.

Layer: the pretend kernel, beneath images.  May touch: processes of its own (loader/analyse.py), pipes to them.
"""

from __future__ import annotations

import os
import sys

from .loop import EPOLLIN, Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..loader.site_cache import RewriteCache
    from .sandbox import Kernel

PATIENCE = 20.0
"""Seconds that a program waits; then its calls trap, and the next one to map the file finds it analysed."""
_CODE = """import sys
sys.path[:] = sys.argv[2].split("\\n")
from {} import main
main(sys.argv[1], sys.argv[3] == "zpoline")
"""


class Analysis:
    """The analysis of the file `fd` (borrowed) under way; `cache` gets what comes of it, and `done` is set."""

    def __init__(self, kernel: Kernel, fd: int, cache: RewriteCache) -> None:
        self.done = Event()
        self._kernel = kernel
        self._cache = cache
        self._raw = b""
        module = __name__.rpartition(".")[0].rpartition(".")[0] + ".loader.analyse"
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, 3), (os.POSIX_SPAWN_DUP2, theirs, 1),
            (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 2),
        ]  # fmt: skip
        given = [cache.directory, "\n".join(sys.path), cache.kind]
        argv = [sys.executable, "-S", "-E", "-c", _CODE.format(module), *given]
        try:
            self._pid = os.posix_spawn(
                sys.executable, argv, os.environ, file_actions=actions, setpgroup=0, setsigmask=[]
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
            os.close(null)
        self._fd = os.dup(fd)
        self._pipe = ours
        kernel.loop.add(ours, self._readable, EPOLLIN)

    @property
    def over(self) -> bool:
        """Has it ended?"""
        return self._pipe < 0

    async def wait(self) -> None:
        """Until it is over, or PATIENCE is."""
        self._kernel.loop.call_later(PATIENCE, self.done.wake)
        await self.done

    def _readable(self, _events: int) -> None:
        piece = os.read(self._pipe, 1 << 16)
        self._raw += piece
        if not piece:
            try:
                self._cache.adopt(self._fd, self._raw)
            finally:
                self._finish()
                self.done.set()

    def _finish(self) -> None:
        self._kernel.loop.remove(self._pipe)
        os.close(self._pipe)
        os.close(self._fd)
        self._pipe = -1
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # somebody else in this Python process waits for whatever ends

    def close(self) -> None:
        """End it, if it is still under way."""
        import signal

        if self._pipe >= 0:
            os.kill(self._pid, signal.SIGKILL)  # not waited for yet, so the pid is still its own
            self._finish()
