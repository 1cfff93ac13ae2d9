"""The hooks of a sandbox: which calls the core reports, and what becomes of a reported call.

Layer: the pretend kernel, hooks; called by dispatch.  May touch: the world page's bitmap.

A reported call comes twice: before it is made (REQ_ENTER), when hooks run in the order of their installation until one
answers, and, if somebody wants its result, after (REQ_EXIT), when those that have begun finish in reverse order.
What the core still has to do in between (let the kernel do it, install a descriptor) is the core's.
Everything runs in the loop's thread, with the sandbox's lock held.
"""

from __future__ import annotations

import errno
import struct

from ..handlers import ERESTARTSYS, InstallFd, NativeResult, Out
from ..layout import CONSTANTS, OFFSETS
from ..loop import Interrupted, Running
from ..table import SUP
from .call import Call
from .filters import Filter
from .hook import Hook
from .names import numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from ..dispatch import Dispatcher, Request
    from ..sandbox import Kernel
    from ..task import Process, Task
    from ..trace.summary import Summary
    from ..trace.tracer import Tracer
    from .filters import Pattern, Pids

_ENTER = CONSTANTS["REQ_ENTER"]
_NATIVE, _NATIVE_ARGS = CONSTANTS["ACT_NATIVE"], CONSTANTS["ACT_NATIVE_ARGS"]
_REPORT, _BUFFERS, _HANDLED = CONSTANTS["ACT_REPORT"], CONSTANTS["ACT_BUFFERS"], CONSTANTS["ACT_HANDLED"]
_HEAD = OFFSETS["ring3_world"]
EXIT, EXIT_GROUP, RT_SIGRETURN = 60, 231, 15
#: calls without a result
NEVER_RETURN = (EXIT, EXIT_GROUP, RT_SIGRETURN)
_EXECVE, _EXECVEAT = 59, 322


class Flight:
    """A reported call on its way: `after` are the hooks that wait for its result."""

    __slots__ = ("after", "call", "request", "task", "traced")

    def __init__(self, task: Task, request: Request, call: Call, traced: bool) -> None:
        self.task = task
        self.request = request
        self.call = call
        self.traced = traced
        self.after: list[tuple[Hook, Any]] = []

    @property
    def wanted(self) -> bool:
        return bool(self.after or self.traced or self.call.signal) and self.call.nr not in NEVER_RETURN


class Hooks:
    """See the module's text."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._hooks: list[Hook] = []
        self._tracer: Tracer | Summary | None = None
        self._flights: dict[tuple[Process, int], Flight] = {}

    # -- installing

    def add(
        self,
        names: Iterable[str | int],
        before: Callable[..., Any] | None = None,
        *,
        after: Callable[..., Any] | None = None,
        path: Pattern = None,
        fd: Pattern = None,
        pid: Pids = None,
        program: Pattern = None,
        on_error: str = "EIO",
    ) -> Hook:
        """Install a hook for the calls `names` (names.numbers_of says how they are written).

        Each filter is one pattern or several, shell-style; one that begins with "!" excludes.  `path`: absolute paths
        that the call names or that its descriptors were opened by; `fd`: kinds of its descriptors (filters.FD_KINDS);
        `pid`: process ids; `program`: the program's path or its last part.  `on_error`: the errno when the hook itself
        fails, or "pass".  Raises ValueError for a name, kind or errno that does not exist, TypeError for no function.
        """
        for function in (before, after):
            if function is not None and not callable(function):
                raise TypeError(f"a hook is a function, not {function!r}")
        if before is None and after is None:
            raise TypeError("a hook needs a function: before the call, or after= it")
        hook = Hook(self, numbers_of(names), Filter(path, fd, pid, program), before, after, on_error)
        with self._kernel.lock:
            self._hooks.append(hook)
            self.publish()
        return hook

    def remove(self, hook: Hook) -> None:
        """Hook.remove()."""
        with self._kernel.lock:
            if not hook.removed:
                hook.removed = True
                self._hooks = [h for h in self._hooks if h is not hook]
                self.publish()

    def trace(self, tracer: Tracer | Summary | None) -> None:
        """Let `tracer` see calls, or none any more."""
        with self._kernel.lock:
            self._tracer = tracer
            self.publish()

    def publish(self) -> None:
        """Tell the cores which calls to report."""
        world = getattr(self._kernel, "world", None)
        if world is None or world.closed:
            return
        wanted = [hook.numbers for hook in self._hooks]
        flags = 0
        if self._tracer is not None:
            wanted.append(self._tracer.numbers)
            flags |= CONSTANTS["HOOK_SIGNALS"] if self._tracer.signals else 0
            flags |= CONSTANTS["HOOK_COUNT"] if self._tracer.native and not self._hooks else 0
        words = [0] * 8
        for numbers in wanted:
            flags |= CONSTANTS["HOOK_UNKNOWN"] if numbers.beyond else 0
            for i, word in enumerate(numbers.words()):
                words[i] |= word
        struct.pack_into("<8Q", world, _HEAD["hook_enter"], *words)
        struct.pack_into("<Q", world, _HEAD["hook_flags"], flags)

    # -- a call

    def serve(self, dispatcher: Dispatcher, task: Task, request: Request) -> None:
        """A reported call: REQ_ENTER or REQ_EXIT."""
        if request.kind == _ENTER:
            self._enter(task, request)
        else:
            self._exit(task, request)

    def _enter(self, task: Task, request: Request) -> None:
        self._drop((task.process, task.slot))
        call = Call(task, request)
        tracer = self._tracer
        traced = tracer is not None and tracer.enter(call)
        flight = Flight(task, request, call, traced)
        hooks = [hook for hook in self._hooks if call.nr in hook.numbers and hook.filter.match(call)]
        if len(hooks) == 1 and hooks[0].simple:
            self._ask_simple(flight, hooks[0])
        elif hooks:
            self._drive(task, self._before(flight, hooks), lambda v, e: self._begun(flight, v, e))
        else:
            self._make(flight)

    def _ask_simple(self, flight: Flight, hook: Hook) -> None:
        """The usual case, a plain function before the call, without a coroutine around it."""
        assert hook.before is not None
        try:
            answer = hook.before(flight.call)
        except OSError as e:
            answer = -(e.errno or errno.EIO)
        except BaseException as e:
            answer = self._broken(hook, flight.call, e)
        if type(answer) is int and flight.call.nr != RT_SIGRETURN:
            self._finish(flight, answer)
        elif answer is None:
            self._make(flight)
        else:
            self._drive(
                flight.task, self._before(flight, [hook], answer), lambda v, e: self._begun(flight, v, e)
            )

    @staticmethod
    def _drive(
        task: Task, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any, BaseException | None], None]
    ) -> None:
        def ended(value: Any, failure: BaseException | None) -> None:
            task.blocked = None
            done(value, failure)

        running = Running(coroutine, ended)
        if running.waiting:
            task.blocked = running

    async def _before(self, flight: Flight, hooks: list[Hook], outcome: Any = None) -> Any:
        """The first answer of a hook; None when the call is to be made.  `outcome`: what the first has returned."""
        for hook in hooks:
            try:
                if outcome is None:
                    answer = await hook.begin(flight)
                else:
                    answer, outcome = await hook.lead(flight, outcome), None
                if answer is not None and not isinstance(answer, (int, Out, InstallFd, NativeResult)):
                    raise TypeError(f"a hook answers with an int (or give_fd()), not {answer!r}")
            except (Interrupted, GeneratorExit):
                raise
            except OSError as e:
                answer = -(e.errno or errno.EIO)
            except BaseException as e:
                answer = self._broken(hook, flight.call, e)
            if answer is not None:
                return answer
        return None

    def _broken(self, hook: Hook, call: Call, failure: BaseException) -> int | None:
        """A hook failed: the user hears of it, the guest gets the hook's errno."""
        self._say(failure, f"error in a hook of {call.name}, called by process {call.pid}")
        return -hook.on_error if hook.on_error is not None else None

    def _say(self, failure: BaseException, what: str) -> None:
        import traceback

        self._kernel.log(f"{what}: {failure!r}", "".join(traceback.format_exception(failure)).rstrip())

    def _begun(self, flight: Flight, answer: Any, failure: BaseException | None) -> None:
        """The hooks before the call are through."""
        if isinstance(failure, Interrupted):
            self._close(flight)
            flight.after.clear()
            self._finish(flight, -ERESTARTSYS)
        elif failure is not None:
            self._kernel.report(failure, f"in the hooks of {flight.call.name}")
            self._finish(flight, -errno.EIO)
        elif answer is None:
            self._make(flight)
        elif flight.call.nr == RT_SIGRETURN:
            self._kernel.log_once("a hook answered rt_sigreturn, which cannot be prevented")
            self._make(flight)
        elif isinstance(answer, int):
            self._settle(flight, int(answer))
        elif isinstance(answer, NativeResult):
            args = list(answer.args) if answer.args is not None else list(flight.call.raw)
            self._make(flight, (flight.call.nr if answer.nr is None else answer.nr, args))
        else:
            self._answer(flight, answer)

    def _answer(self, flight: Flight, answer: Any) -> None:
        """An answer with which the core has work to do: its result is known only afterwards."""
        task, channel = flight.task, flight.task.process.channel
        if channel is None or channel.closed:
            return
        channel.also = _HANDLED
        if flight.wanted:
            self._keep(flight)
            channel.also |= _REPORT
        try:
            self._kernel.dispatcher.answer(task, flight.request, answer)
        finally:
            channel.also = 0

    def _keep(self, flight: Flight) -> None:
        """It will be reported again; its inputs are read now, since the slot is used for the answer."""
        _ = flight.call.args
        self._flights[flight.task.process, flight.task.slot] = flight

    def _make(self, flight: Flight, native: tuple[int, list[int]] | None = None) -> None:
        """Let the call be made."""
        task, call = flight.task, flight.call
        channel = task.process.channel
        if channel is None or channel.closed:
            return
        try:
            changes = call.args.changes() if call.changed else None
        except Exception as e:  # a str that is no file name, say
            self._say(e, f"a hook of {call.name} gave an argument that it cannot have")
            self._finish(flight, -errno.EIO)
            return
        buffers: list[tuple[int, bytes]] = []
        if native is None and changes is not None:
            native, buffers = (call.nr, changes[0]), changes[1]
        if native is None and call.valid and call.sys is not None and call.sys.lane == SUP:
            self._handle(flight)
            return
        action = _NATIVE if native is None else _NATIVE_ARGS
        if flight.wanted:
            self._keep(flight)
            action |= _REPORT
        if buffers:
            action |= _BUFFERS
        try:
            channel.reply(task.slot, task.request, 0, action, writes=buffers, native=native)
        except ValueError as e:
            self._say(e, f"a hook of {call.name} gave more bytes than a call can take")
            self._flights.pop((task.process, task.slot), None)
            self._finish(flight, -errno.EIO)

    def _handle(self, flight: Flight) -> None:
        """A call of the supervisor's lane that nobody changed: its handler runs now, which saves two round trips."""

        def answered(result: Any) -> None:
            if isinstance(result, int):
                self._settle(flight, result)
            elif isinstance(result, Out) and not flight.after:
                if flight.traced:
                    flight.call.memory._pending = list(result.writes)
                    assert self._tracer is not None
                    self._tracer.exit(flight.call, result.ret)
                flight.traced = False
                self._answer(flight, result)
            else:
                self._answer(flight, result)

        _ = flight.call.args  # as _keep()
        self._kernel.dispatcher.run_for(flight.task, flight.request, answered)

    def _exit(self, task: Task, request: Request) -> None:
        flight = self._flights.pop((task.process, task.slot), None)
        if flight is None:
            if task.process.channel is not None:
                task.process.channel.reply(task.slot, task.request, request.result)
        elif request.result == -ERESTARTSYS:
            # It was interrupted and will be made anew, as a new call.
            self._close(flight)
            self._finish(flight, request.result)
        else:
            self._settle(flight, request.result)

    def _settle(self, flight: Flight, result: int) -> None:
        """The result is there: hooks after the call, then the guest."""
        if not flight.after:
            self._finish(flight, result)
            return

        def done(value: Any, failure: BaseException | None) -> None:
            self._finish(flight, result if failure is not None else value)

        self._drive(flight.task, self._after(flight, result), done)

    async def _after(self, flight: Flight, result: int) -> int:
        call = flight.call
        while flight.after:
            hook, waiting = flight.after.pop()
            call.result = result
            try:
                answer = await hook.finish(call, waiting, result)
                if answer is not None and not isinstance(answer, int):
                    raise TypeError(f"a result is an int, not {answer!r}")
            except (Interrupted, GeneratorExit):
                raise
            except OSError as e:
                answer = -(e.errno or errno.EIO)
            except BaseException as e:
                answer = self._broken(hook, call, e)
            if answer is not None:
                result = int(answer)
        return result

    def _finish(self, flight: Flight, result: int) -> None:
        task, call = flight.task, flight.call
        call.result = result
        if flight.traced and self._tracer is not None:
            self._tracer.exit(call, result)
        if call.signal:
            self._send(task, call.signal)
        channel = task.process.channel
        if channel is not None and not channel.closed:
            channel.reply(task.slot, task.request, result)

    def _send(self, task: Task, sig: int) -> None:
        from ..channel import libc_syscall

        try:
            tid = task.sandbox.pid_ns.host(task.tid)
        except ProcessLookupError:
            return  # it has ended
        libc_syscall(234, task.process.host_pid, tid, sig)  # tgkill

    # -- calls that do not come back

    def _close(self, flight: Flight) -> None:
        for _hook, waiting in flight.after:
            if waiting is not None:
                try:
                    waiting.close()
                except BaseException as e:
                    self._say(e, f"error in a hook of {flight.call.name} that was closed")
        flight.after.clear()

    def _drop(self, key: tuple[Process, int]) -> None:
        flight = self._flights.pop(key, None)
        if flight is not None:
            self._close(flight)

    def executed(self, process: Process) -> None:
        """A successful execve(2): its hooks hear of the 0 that nobody gets; other threads' calls are gone."""
        for key in [key for key in self._flights if key[0] is process]:
            flight = self._flights.pop(key)
            if flight.call.nr not in (_EXECVE, _EXECVEAT):
                self._close(flight)
                continue
            if flight.after:
                Running(self._after(flight, 0), lambda value, failure: None)
            if flight.traced and self._tracer is not None:
                self._tracer.exit(flight.call, 0)
        if self._tracer is not None:
            self._shielded(self._tracer.executed, process)

    def signalled(self, process: Process, slot: int, words: tuple[int, int, int, int]) -> None:
        """A handler of the guest's is about to get a signal: MSG_SIGNAL."""
        if self._tracer is not None:
            self._shielded(self._tracer.signal, process, words)

    def gone(self, process: Process) -> None:
        """A process has ended."""
        for key in [key for key in self._flights if key[0] is process]:
            self._drop(key)
        if self._tracer is not None:
            self._shielded(self._tracer.gone, process)

    def _shielded(self, tell: Callable[..., None], *args: Any) -> None:
        try:
            tell(*args)
        except Exception as e:
            self._kernel.report(e, "while writing the trace")


__all__ = ["Flight", "Hooks"]
