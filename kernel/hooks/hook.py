"""One hook: the user's function, and how it is led through a call.

Layer: the pretend kernel, hooks.  May touch: nothing but the user's function.
"""

from __future__ import annotations

import errno

from ..loop import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from .call import Call
    from .filters import Filter
    from .names import Numbers
    from .registry import Flight, Hooks

PASS = "pass"


class Hook:
    """A hook that is installed until `remove()` (or until the end of `with hook:`).

    `before` is called as `before(call)`; it may be a plain function, a generator function or an async function.
    `after(call, result)` is called with the result.  `on_error` is the errno for the guest when the hook itself fails,
    or None: then the call goes on as if there were no hook.
    """

    __slots__ = ("_hooks", "after", "before", "filter", "numbers", "on_error", "removed", "simple")

    def __init__(
        self,
        hooks: Hooks,
        numbers: Numbers,
        selection: Filter,
        before: Callable[..., Any] | None,
        after: Callable[..., Any] | None,
        on_error: str = "EIO",
    ) -> None:
        """Raises ValueError for an errno that does not exist."""
        self._hooks = hooks
        self.numbers = numbers
        self.filter = selection
        self.before = before
        self.after = after
        self.on_error = None if on_error == PASS else errno_of(on_error)
        self.removed = False
        self.simple = before is not None and after is None  # kernel/hooks/registry.py has a short way for these

    def remove(self) -> None:
        """Take it away; calls that have begun still finish with it.  May be called twice, from any thread."""
        self._hooks.remove(self)

    def __enter__(self) -> Hook:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __call__(self, *args: Any) -> Any:
        """The user's function itself."""
        function = self.before if self.before is not None else self.after
        assert function is not None
        return function(*args)

    async def begin(self, flight: Flight) -> Any:
        """The part before the call: an answer, or None when the call is to be made."""
        if self.before is not None:
            return await self.lead(flight, self.before(flight.call))
        flight.after.append((self, None))
        return None

    async def lead(self, flight: Flight, outcome: Any) -> Any:
        """The same from what `before` has returned: an answer, None, or something to be driven."""
        answer = outcome
        if hasattr(outcome, "send"):
            done, answer = await _advance(outcome, None)
            if not done:
                flight.after.append((self, outcome))
                return None
        if answer is None and self.after is not None:
            flight.after.append((self, None))
        return answer

    async def finish(self, call: Call, waiting: Any, result: int) -> Any:
        """The part after the call: another result, or None."""
        if waiting is not None:
            done, answer = await _advance(waiting, result)
            if not done:
                waiting.close()
                raise RuntimeError("a hook lets its call be made only once: yield, or await proceed(), once")
            return answer
        assert self.after is not None
        answer = self.after(call, result)
        return await answer if hasattr(answer, "send") else answer


async def _advance(running: Any, value: Any) -> tuple[bool, Any]:
    """Drive a generator or coroutine up to its end (True, what it returned), or to where it lets the call be made."""
    failure: BaseException | None = None
    while True:
        try:
            step = running.throw(failure) if failure is not None else running.send(value)
        except StopIteration as stop:
            return True, stop.value
        if not isinstance(step, Event):
            return False, None
        failure, value = None, None
        try:
            await step
        except GeneratorExit:
            running.close()
            raise
        except BaseException as e:
            failure = e


def errno_of(name: str | int) -> int:
    """ "ENOSPC", "28" or 28: 28.  Raises ValueError."""
    if isinstance(name, str) and not name.isdecimal():
        number = getattr(errno, name.upper(), None)
        if not isinstance(number, int):
            raise ValueError(f"no errno is called {name!r}")
        return number
    if not 0 < int(name) < 4096:
        raise ValueError(f"an errno lies between 1 and 4095, not {name}")
    return int(name)
