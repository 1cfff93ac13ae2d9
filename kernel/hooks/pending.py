"""What an async hook may wait for besides the events of kernel/loop.py.

Layer: the pretend kernel, hooks.  May touch: threads that it starts, the loop.
"""

from __future__ import annotations

from ..loop import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from ..loop import Loop


class Proceed:
    """Awaited by a hook: make the call now; gives its result."""

    __slots__ = ()

    def __await__(self) -> Generator[Proceed, int, int]:
        return (yield self)


def sleep(loop: Loop, seconds: float) -> Event:
    """An event that is set after `seconds`."""
    event = Event()
    loop.call_later(seconds, event.set)
    return event


async def thread(loop: Loop, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Run `function(*args)` in a thread; what it raises is raised here."""
    import threading

    event = Event()
    outcome: list[Any] = [None, None]

    def work() -> None:
        try:
            outcome[0] = function(*args)
        except BaseException as e:
            outcome[1] = e
        loop.call_soon_threadsafe(event.set)

    threading.Thread(target=work, name="ring3-hook", daemon=True).start()
    await event
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
