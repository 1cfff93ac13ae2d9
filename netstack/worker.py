"""The thread in which virtual hosts written in Python run: an asyncio event loop of its own.

Layer: netstack, beneath services.py.  May touch: one thread.

Apart from the sandbox's own loop, so that a handler which takes its time or hangs delays no system call.  It is started
when the first connection is for it; asyncio is imported then.
"""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from typing import Any


#: seconds that a handler which does not await may still take when the sandbox ends
PATIENCE = 5.0


class Worker:
    """See the module's text."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, running.  Raises RuntimeError when the sandbox has ended."""
        with self._starting:
            if self._closed:
                raise RuntimeError("the sandbox is closed")
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, name="ring3-services", daemon=True)
                self._thread.start()
            return self._loop

    def _run(self) -> None:
        import asyncio

        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call `function(*args)` in the thread; from any thread."""
        self.loop.call_soon_threadsafe(function, *args)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in the thread, which handles its own errors; from any thread."""
        self.call(self._spawn, coroutine)

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the thread and wait for its result; not from the thread itself."""
        import asyncio

        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        with self._starting:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if threading.current_thread() is self._thread:
            return
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            return  # a handler that hangs without awaiting: the thread is a daemon, and ends with the process
        try:
            loop.run_until_complete(_end_all(loop))
        finally:
            loop.close()


async def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    tasks = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=2)
    await loop.shutdown_asyncgens()
    await asyncio.wait_for(loop.shutdown_default_executor(), PATIENCE)
