"""The part of Sandbox that concerns system calls: hooks, faults, allow- and block-lists, the trace.

Part of: ring3 (the front door). May touch: the kernel side's hooks, which are imported when the first is wanted.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .kernel.hooks import Hook
    from .kernel.hooks.filters import Pattern, Pids
    from .kernel.sandbox import Kernel
    from .kernel.trace.summary import Summary
    from .kernel.trace.tracer import Tracer


class Hooking:
    """Mixed into Sandbox. Everything here may be used before the first guest runs and while guests run."""

    _kernel: Kernel

    def hook(
        self,
        *names: str | int,
        before: Callable[..., Any] | None = None,
        after: Callable[..., Any] | None = None,
        path: Pattern = None,
        fd: Pattern = None,
        pid: Pids = None,
        program: Pattern = None,
        on_error: str = "EIO",
    ) -> Hook:
        """Call ``before(call)`` before and ``after(call, result)`` after the system calls ``names``.

        A name is a call's ("openat"), a number (10_001), one of strace's classes ("%file"), a "/regular
        expression" or "*"; "!name" leaves one out. ``before`` returns None to let the call through (with the
        arguments that it may have changed), or the result; it raises OSError to refuse. It may also be a
        generator function (``result = yield``) or an async function (``result = await call.proceed()``).
        ``after`` returns None, or another result.

        ``path``, ``fd``, ``program`` are shell patterns, one or several, "!pattern" to exclude; ``pid`` one or
        several process ids. ``on_error`` is the errno that the guest gets when the hook itself fails, or
        "pass". The hook stays until its ``remove()``, or the end of ``with box.hook(...):``. It runs in the
        sandbox's own thread: while it does, no other call of the sandbox is served.

        Raises UsageError for a name, kind or errno that does not exist.
        """
        from .errors import UsageError

        try:
            return self._kernel.hooks.add(
                names, before, after=after, path=path, fd=fd, pid=pid, program=program, on_error=on_error
            )
        except (ValueError, TypeError) as e:
            raise UsageError(str(e)) from None

    def syscall(self, *names: str | int, **options: Any) -> Callable[[Callable[..., Any]], Hook]:
        """``hook`` as a decorator: ``@box.syscall("openat", path="/etc/*")``. The name becomes the Hook."""

        def install(function: Callable[..., Any]) -> Hook:
            return self.hook(*names, before=function, **options)

        return install

    def block(self, *names: str | int, errno: str | int = "EPERM", **filters: Any) -> Hook:
        """Refuse the calls ``names`` (``filters`` as those of ``hook``)."""
        return self.inject(*names, error=errno, **filters)

    def allow(self, *names: str | int, errno: str | int = "EPERM", **filters: Any) -> Hook:
        """Refuse every call but ``names``; a program needs more of them than one thinks."""
        from .errors import UsageError

        try:
            from .kernel.hooks import numbers_of

            allowed = numbers_of(names)
        except ValueError as e:
            raise UsageError(str(e)) from None
        number = _errno(errno)
        exits = (15, 60, 231)  # rt_sigreturn, exit, exit_group: as seccomp's strict mode
        return self.hook(
            "*", before=lambda call: None if call.nr in allowed or call.nr in exits else -number, **filters
        )

    def inject(
        self,
        *names: str | int,
        error: str | int | None = None,
        retval: int | None = None,
        signal: str | int | None = None,
        delay_enter: float = 0.0,
        delay_exit: float = 0.0,
        when: str | int = "1+",
        shared: bool = False,
        **filters: Any,
    ) -> Hook:
        """Make the calls ``names`` fail, or be slow: ``box.inject("write", error="ENOSPC", when="3+")``.

        ``error``: the errno; ``retval``: a result, without the call; ``signal``: sent when the call has returned;
        delays in seconds. ``when`` is strace's: "3", "3+", "3+2", "2..4"; counted for each thread, or for all
        together if ``shared``. ``filters`` are those of ``hook``; calls that they leave out are not counted.
        """
        from .errors import UsageError
        from .kernel.hooks import Injection

        try:
            injection = Injection(
                error=error, retval=retval, signal=signal, delay_enter=delay_enter, delay_exit=delay_exit, when=when,
                shared=shared,
            )  # fmt: skip
        except ValueError as e:
            raise UsageError(str(e)) from None
        return self.hook(*names, before=injection.before, **filters)

    def trace(
        self, write: Callable[[str], object] | None, *names: str | int, **options: Any
    ) -> Tracer | None:
        """Give ``write`` a line for each call of ``names`` (all by default), as strace writes it; None ends it.

        ``options`` are those of kernel.trace.options.Options: ``paths=True``, ``strings=100``, ``json=True``, ...
        """
        from .errors import UsageError
        from .kernel.trace import start
        from .kernel.trace.options import Options

        if write is None:
            self._kernel.hooks.trace(None)
            return None
        try:
            return start(self._kernel, write, Options(names or ("*",), **options))
        except ValueError as e:
            raise UsageError(str(e)) from None

    def count(self, *names: str | int) -> Summary:
        """Count calls from now on, in place of a trace: ``.counts`` {name: [calls, errors, seconds]}, ``.table()``."""
        from .kernel.trace import count
        from .kernel.trace.options import Options

        return count(self._kernel, Options(names or ("*",)))


def _errno(errno: str | int) -> int:
    from .errors import UsageError
    from .kernel.hooks.hook import errno_of

    try:
        return errno_of(errno)
    except ValueError as e:
        raise UsageError(str(e)) from None
