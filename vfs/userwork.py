"""Calling the user's functions: their exceptions as errnos, async ones run to their end, slow ones in a thread.

Layer: vfs, beneath pathfs.py and pydevice.py. May touch: threads; the world's event loop, to say that one has ended.
"""

from __future__ import annotations

import errno
import os

from .inode import err

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .vfs import Vfs

_ERRNOS: dict[type, int] = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    TimeoutError: errno.ETIMEDOUT,
    ConnectionRefusedError: errno.ECONNREFUSED,
}


def log(line: str) -> None:
    """One line for the user."""
    import logging

    logging.getLogger("ring3").warning("%s", line)


def call(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`; an async one is run to its end here. An OSError keeps its errno (FileNotFoundError()
    and its like have theirs by their type); anything else is EIO, and a line in the log that begins with `what`."""
    import inspect

    try:
        result = function(*arguments)
        if inspect.isawaitable(result):
            import asyncio

            result = asyncio.run(_finish(result))
        return result
    except OSError as e:
        number = e.errno or next((n for kind, n in _ERRNOS.items() if isinstance(e, kind)), errno.EIO)
        raise OSError(number, os.strerror(number)) from e
    except Exception as e:
        log(f"{what}: {getattr(function, '__qualname__', function)}: {e!r}")
        raise err(errno.EIO) from e


async def _finish(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def in_thread(vfs: Vfs, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in a thread, while other guests go on. A signal interrupts the wait, not the thread."""
    from ..kernel.loop import Event

    loop: Any = vfs.files.loop
    if loop is None:
        return function(*arguments)
    event = Event()
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome[:] = True, function(*arguments)
        except BaseException as e:
            outcome[:] = False, e
        loop.call_soon_threadsafe(event.set)

    import threading

    threading.Thread(target=work, daemon=True).start()
    await event
    good, value = outcome
    if not good:
        raise value
    return value
