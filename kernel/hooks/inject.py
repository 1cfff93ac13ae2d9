"""Faults: errors, results, delays and signals that calls get on purpose, as strace's -e inject.

Layer: the pretend kernel, hooks; built on Hook.  May touch: nothing.
"""

from __future__ import annotations

import re

from .hook import errno_of
from .pending import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .call import Call

_WHEN = re.compile(r"(\d+)(?:\.\.(\d+))?(?:(\+)(\d+)?)?$")
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s)?$")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, None: 1e-6}


class When:
    """Which invocations: "3" the third, "3+" from the third on, "3+2" the third and each second from there, "2..4",
    "2..8+3".  Counted for each thread on its own, as strace does, or all together where `shared`."""

    __slots__ = ("_first", "_last", "_seen", "_shared", "_step")

    def __init__(self, text: str | int, shared: bool = False) -> None:
        """Raises ValueError."""
        found = _WHEN.match(str(text))
        if found is None or int(found[1]) < 1:
            raise ValueError(f"when={text!r} is not FIRST, FIRST+, FIRST+STEP or FIRST..LAST[+STEP] (from 1)")
        self._first = int(found[1])
        self._step = int(found[4] or 1) if found[3] else 1
        self._last = int(found[2]) if found[2] else None if found[3] else self._first
        if self._step < 1 or (self._last is not None and self._last < self._first):
            raise ValueError(f"when={text!r} never happens")
        self._shared = shared
        self._seen: dict[Any, int] = {}

    def now(self, call: Call) -> bool:
        """Count this invocation: is it one of those?"""
        key = None if self._shared else (call.task.process, call.tid)
        count = self._seen[key] = self._seen.get(key, 0) + 1
        if count < self._first or (self._last is not None and count > self._last):
            return False
        return (count - self._first) % self._step == 0


class Injection:
    """What to do to a call.  All durations are in seconds."""

    __slots__ = ("delay_enter", "delay_exit", "result", "signal", "syscall", "when")

    def __init__(
        self,
        *,
        error: str | int | None = None,
        retval: int | None = None,
        signal: str | int | None = None,
        syscall: str | None = None,
        delay_enter: float = 0.0,
        delay_exit: float = 0.0,
        when: str | int = "1+",
        shared: bool = False,
    ) -> None:
        """Raises ValueError for what does not exist, does not go together, or is nothing at all."""
        if sum(x is not None for x in (error, retval, syscall)) > 1:
            raise ValueError("error, retval and syscall exclude each other")
        if (
            error is None
            and retval is None
            and syscall is None
            and signal is None
            and not (delay_enter or delay_exit)
        ):
            raise ValueError("nothing to inject: error, retval, signal, syscall, delay_enter or delay_exit")
        if retval is not None and retval < 0:
            raise ValueError("retval is not negative (error= makes a call fail)")
        self.result = -errno_of(error) if error is not None else retval
        self.signal = signal_of(signal) if signal is not None else 0
        self.syscall = harmless_of(syscall) if syscall is not None else None
        self.delay_enter = delay_enter
        self.delay_exit = delay_exit
        self.when = When(when, shared)

    def before(self, call: Call) -> Any:
        """The hook."""
        if not self.when.now(call):
            return None
        if self.delay_enter or self.delay_exit:
            return self._slowly(call)
        return self._at_once(call)

    def _at_once(self, call: Call) -> Any:
        from ..handlers import NativeResult

        if self.signal:
            call.signal = self.signal
        if self.result is not None:
            call.note = "INJECTED"
            return self.result
        if self.syscall is not None:
            call.note = "INJECTED"
            return NativeResult(self.syscall, (0,) * 6)
        return None

    async def _slowly(self, call: Call) -> Any:
        loop = call.task.sandbox.loop
        if self.delay_enter:
            await sleep(loop, self.delay_enter)
        answer = self._at_once(call)
        call.note = (call.note + ", DELAYED") if call.note else "DELAYED"
        if self.delay_exit:
            if answer is None or not isinstance(answer, int):
                result = await call.proceed()
            else:
                result = answer
            await sleep(loop, self.delay_exit)
            return result
        return answer


def signal_of(name: str | int) -> int:
    """ "SIGTERM", "TERM", "15" or 15: 15.  Raises ValueError."""
    import signal

    if isinstance(name, str) and not name.isdecimal():
        word = name.upper() if name.upper().startswith("SIG") else "SIG" + name.upper()
        number = getattr(signal, word, None)
        if number is None:
            raise ValueError(f"no signal is called {name!r}")
        return int(number)
    if not 0 < int(name) <= 64:
        raise ValueError(f"a signal lies between 1 and 64, not {name}")
    return int(name)


def harmless_of(name: str) -> int:
    """A call without arguments to be made instead (strace allows only such).  Raises ValueError."""
    from ..table import BY_NAME

    call = BY_NAME.get(name)
    if call is None or "pure" not in call.classes:
        raise ValueError(f"syscall={name!r} is not a call that has no effect, such as getpid")
    return call.nr


def seconds_of(text: str) -> float:
    """strace's TIME: microseconds, or with a unit (ns, us, ms, s).  Raises ValueError."""
    found = _TIME.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not a duration (a number and ns, us, ms or s)")
    return float(found[1]) * _UNITS[found[2]]


def parse(text: str) -> tuple[list[str], Injection]:
    """strace's expression `SET:error=E:when=3+...`: the calls and what happens to them.  Raises ValueError."""
    names, *options = text.split(":")
    if not names:
        raise ValueError(f"inject={text}: no call is named")
    given: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in (
            "error",
            "retval",
            "signal",
            "syscall",
            "delay_enter",
            "delay_exit",
            "when",
        ):
            raise ValueError(f"inject={text}: {option!r} is none of error=, retval=, signal=, syscall=, delay_enter=, "
                             "delay_exit=, when=")  # fmt: skip
        if key == "retval":
            given[key] = int(value, 0)
        elif key.startswith("delay"):
            given[key] = seconds_of(value)
        else:
            given[key] = value
    return names.split(","), Injection(**given)
