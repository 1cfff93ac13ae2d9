"""A line for each system call, signal and end of a process, as strace writes them.

Layer: the pretend kernel, trace; called by the hooks.  May touch: guest memory, reading; /proc of the host, for how a
process ended.

Arguments that the kernel reads are written when the call is made, the others when it has returned.  If another thread
has something to say in between, the call is cut: `<unfinished ...>`, `<... read resumed>`.
"""

from __future__ import annotations

import os
import struct
import time

from ..ends import wait_status
from . import addresses, structs, unhandled
from .decode import View, is_late, write
from .ends import how_it_ended
from .flags import errno_name, flags, one, signal_name, signal_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..hooks.call import Call
    from ..sandbox import Kernel
    from ..task import Process
    from .options import Options

assert addresses  # registers its formats
_HEX_RESULT = ("mmap", "brk", "mremap")
_FD_RESULT = (
    "open", "openat", "openat2", "creat", "dup", "dup2", "dup3", "socket", "accept", "accept4", "epoll_create",
    "epoll_create1", "eventfd", "eventfd2", "pidfd_open", "memfd_create", "signalfd", "signalfd4", "timerfd_create",
    "inotify_init", "inotify_init1",
)  # fmt: skip
_FORKS = ("fork", "vfork", "clone", "clone3")
_RESTARTS = {
    512: "ERESTARTSYS (To be restarted if SA_RESTART is set)",
    513: "ERESTARTNOINTR (To be restarted)",
    514: "ERESTARTNOHAND (To be restarted if no handler)",
    516: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}
#: calls for which a signal that interrupts them before they begin leaves this (signal(7))
_TIMED = ("nanosleep", "clock_nanosleep", "poll")
_NOHAND = ("rt_sigsuspend", "pause", "ppoll", "pselect6", "select")


class Begun:
    """A call whose line is being written: `text` so far, `cut` once it has been left unfinished."""

    __slots__ = ("clock", "cut", "known", "left", "name", "shown", "start", "text", "view")

    def __init__(self, view: View, name: str) -> None:
        self.view = view
        self.name = name
        self.start = time.time()
        self.clock = time.perf_counter()
        self.text = ""  # the arguments that are known
        self.left = 0  # the first argument that is not
        self.known: dict[int, str | None] = {}  # those behind it that are
        self.cut = False
        self.shown = ""  # what of the arguments has been written out


class Tracer:
    """See the module's text.  `numbers` and `signals` tell the hooks what to report."""

    def __init__(self, kernel: Kernel, out: Callable[[str], object], options: Options) -> None:
        self._kernel = kernel
        self._out = out
        self._options = options
        self._begun: dict[tuple[Process, int], Begun] = {}  # by process and thread
        self._tids: dict[Process, set[int]] = {}
        self._codes: dict[Process, int] = {}  # what exit_group was given
        self._open: Begun | None = None  # the last thing written was the begin of this call's line
        self._last = 0.0
        self._pending: dict[Process, list[bytes]] = {}  # signals without a handler, to be shown at the next call
        self._sent: dict[Process, bytes] = {}  # the last signal that a call of another's sent
        self._shown: dict[Process, int] = {}  # the last signal shown
        self.numbers = options.numbers.plus(unhandled.CALLS) if options.signals else options.numbers
        self.native = False  # each call is reported
        self.signals = options.signals

    # -- what the hooks tell

    def enter(self, call: Call) -> bool:
        """A call is about to be made; says whether its result is wanted."""
        options = self._options
        tids = self._tids.setdefault(call.task.process, set())
        tids.add(call.tid)
        self._show_pending(call)
        if call.nr not in options.numbers or (options.only is not None and not options.only.match(call)):
            self._note_exit(call)
            return call.nr in unhandled.CALLS
        try:
            return self._enter(call)
        except Exception as e:
            self._kernel.report(e, f"while writing the trace of {call.name}")
            return False

    def _enter(self, call: Call) -> bool:
        view = View(call, self._options)
        begun = Begun(view, call.name)
        self._write_arguments(begun, late=False)
        if call.nr == 15:
            self._line(call, begun, f"rt_sigreturn({_restored_mask(view)})", _restored(view))
            return False
        if call.nr in (60, 231):
            self._line(call, begun, f"{call.name}({begun.text})", "?")
            self._note_exit(call)
            return False
        self._begun[call.task.process, call.tid] = begun
        self._begin(call, begun)
        return True

    def _note_exit(self, call: Call) -> None:
        process = call.task.process
        if call.nr == 231:
            self._codes[process] = call.raw[0] & 0xFF
        elif call.nr == 60:
            if len(self._tids.get(process, ())) > 1:
                self._ended(process, call.tid, f"exited with {call.raw[0] & 0xFF}")
            else:
                self._codes[process] = call.raw[0] & 0xFF

    def exit(self, call: Call, result: int) -> None:
        """The call has returned."""
        begun = self._begun.pop((call.task.process, call.tid), None)
        try:
            if begun is None:
                self._note_sent(call, result)
                return
            view = begun.view
            view.result = result
            if call.name in _FORKS and result > 0:
                thread = call.raw[0] & 0x10000 if call.name == "clone" else False
                if thread:
                    self._tids[call.task.process].add(result)
            self._write_arguments(begun, late=True)
            self._end(call, begun, self._result(view))
            self._note_sent(call, result)
            self._show_pending(call)
        except Exception as e:
            self._kernel.report(e, f"while writing the trace of {call.name}")

    def executed(self, process: Process) -> None:
        """A program starts; the first of a tree was executed by the supervisor, not by a call."""
        pending = process.pending_exec
        first = process not in self._tids
        self._tids[process] = {process.pid}
        if (
            not first
            or not process.initial
            or pending is None
            or 59 not in self.numbers
            or self._options.only
        ):
            return
        from .decode import quote

        prepared = pending.prepared
        argv = "[" + ", ".join(quote(a, self._options.strings) for a in prepared.argv) + "]"
        count = len(prepared.envp)
        self._raw_line(
            process, process.pid, f"execve({quote(prepared.filename)}, {argv}, /* {count} vars */)", "0"
        )

    def signal(self, process: Process, words: tuple[int, int, int, int]) -> None:
        """A handler gets a signal."""
        info = struct.pack("<IIIIQQQQ", words[0] & 0xFFFFFFFF, 0, words[0] >> 32, 0, words[1], words[2], 0, 0)
        name = signal_name(words[0] & 0xFFFFFFFF)
        self._shown[process] = words[0] & 0xFFFFFFFF
        self._event(
            process, words[3] & 0xFFFFFFFF, f"--- {name} {structs.siginfo(info)} ---", {"signal": name}
        )

    # -- signals that no handler gets

    def _note_sent(self, call: Call, result: int) -> None:
        """Show a signal that a call sent, if nobody else will: the core tells of those that have a handler."""
        found = unhandled.of_call(call, result) if self.signals else None
        if found is None:
            return
        target = self._kernel.processes.get(found[0])
        if target is None or not self._follows(target):
            return
        bit = 1 << struct.unpack_from("<i", found[1])[0] - 1
        handled, blocked = unhandled.masks(target)
        self._sent[target] = found[1]
        if bit & ~handled & ~blocked & ~(1 << unhandled.SIGKILL - 1):
            self._show(target, found[1])

    def _follows(self, process: Process) -> bool:
        """Is a process shown?  One none of whose calls was is so, too, as long as every program is."""
        if process not in self._tids and self._options.only is None:
            self._tids[process] = {process.pid}
        return process in self._tids

    def _show(self, process: Process, info: bytes) -> None:
        number = struct.unpack_from("<i", info)[0]
        name = signal_name(number)
        self._shown[process] = number
        self._event(process, process.pid, f"--- {name} {structs.siginfo(info)} ---", {"signal": name})
        if number in unhandled.STOPPING:
            self._event(process, process.pid, f"--- stopped by {name} ---", {"stopped": name})

    def _show_pending(self, call: Call) -> None:
        """The children of the caller's that have ended, once it does not block SIGCHLD."""
        process = call.task.process
        if process in self._pending and not unhandled.masks(process)[1] >> unhandled.SIGCHLD - 1 & 1:
            for info in self._pending.pop(process):
                self._show(process, info)

    def _child_ended(self, child: Process, code: int | None) -> None:
        parent = child.parent
        if not self.signals or parent is None or not parent.alive or not self._follows(parent):
            return
        if not unhandled.masks(parent)[0] >> unhandled.SIGCHLD - 1 & 1:
            self._pending.setdefault(parent, []).append(unhandled.of_child(child, code))

    def _show_end(self, process: Process, number: int) -> None:
        """What has ended a process, unless it has been shown."""
        begun = self._begun.get((process, process.pid))
        last = begun.view.call if begun is not None else None
        sent = self._sent.get(process, b"")
        if not sent or struct.unpack_from("<i", sent)[0] != number:
            sent = unhandled.of_end(process, number, last)
        if begun is not None and last is not None and not self._options.json:
            result = "?"
            if unhandled.sent(last) in ((process.pid, number, 0), (process.pid, number, -6)):
                result = "0"
            elif number == unhandled.SIGPIPE and unhandled.breaks_pipe(last):
                result = "-1 EPIPE (Broken pipe)"
            elif number != unhandled.SIGKILL:
                result = "? " + _RESTARTS[516 if last.name in _TIMED else 514 if last.name in _NOHAND else 512]
            if result != "?":
                del self._begun[process, process.pid]
                self._write_end(process, process.pid, begun, begun.text, result)
        if number != unhandled.SIGKILL and self._shown.get(process) != number:
            self._show(process, sent)

    def gone(self, process: Process) -> None:
        """A process has ended."""
        if not self._follows(process):
            return
        tids = self._tids[process]
        code = self._codes.pop(process, None)
        status = how_it_ended(process, code)
        self._child_ended(process, code)
        killed = wait_status(process)
        if self.signals and killed is not None and killed & 0x7F:
            self._show_end(process, killed & 0x7F)
        for table in (self._tids, self._pending, self._sent, self._shown):
            table.pop(process, None)
        for tid in sorted(tids, key=lambda tid: (tid == process.pid, tid)):
            begun = self._begun.pop((process, tid), None)
            if begun is not None and not self._options.json:
                text = begun.text + " <unfinished ...>" if not begun.cut else ""
                self._write_end(process, tid, begun, text, "?")
            self._tids[process] = tids  # still alive, for the prefix
            self._ended(process, tid, status)
        self._tids.pop(process, None)

    def _ended(self, process: Process, tid: int, how: str) -> None:
        if self._options.exits:
            self._event(process, tid, f"+++ {how} +++", {"end": how})
        self._tids.get(process, set()).discard(tid)

    # -- lines

    def _write_arguments(self, begun: Begun, late: bool) -> None:
        """Go on writing arguments; up to the first that is not known yet, unless `late`."""
        from .formats import HINTS

        view = begun.view
        call = view.call
        hints = HINTS.get(call.nr, ("x",) * 6)
        kinds = call.kinds
        while begun.left < len(hints):
            i = begun.left
            hint, kind = hints[i], kinds[i][0] if i < len(kinds) else "ptr"
            if not late and is_late(view, hint, kind):
                begun.text += ", " if begun.text else ""
                # What the call reads behind that is written down now: it may be something else afterwards.
                for k in range(i + 1, len(hints)):
                    kind = kinds[k][0] if k < len(kinds) else "ptr"
                    if not is_late(view, hints[k], kind):
                        begun.known[k] = write(view, k, hints[k], kind)
                return
            begun.left = i + 1
            text = begun.known[i] if i in begun.known else write(view, i, hint, kind)
            if text:
                begun.text += (", " if begun.text and not begun.text.endswith(", ") else "") + text

    def _begin(self, call: Call, begun: Begun) -> None:
        if self._options.partial and not self._options.json:
            self._cut()
            begun.shown = begun.text
            self._out(f"{self._prefix(call.task.process, call.tid, begun.start)}{begun.name}({begun.text}")
        self._open = begun

    def _cut(self) -> None:
        """Somebody else is to write: leave the line that has begun."""
        begun, self._open = self._open, None
        if begun is None or begun.cut or begun.view.result is not None:
            return
        key = (begun.view.call.task.process, begun.view.call.tid)
        if self._begun.get(key) is not begun:
            return
        begun.cut = True
        if self._options.partial:
            self._out(" <unfinished ...>\n")
        else:
            prefix = self._prefix(*key, begun.start)
            self._out(f"{prefix}{begun.name}({begun.text} <unfinished ...>\n")
        begun.text = ""

    def _end(self, call: Call, begun: Begun, result: str) -> None:
        spent = time.perf_counter() - begun.clock
        view = begun.view
        if not self._wanted(view):
            self._open = None if self._open is begun else self._open
            return
        if self._options.json:
            self._json_call(call, begun, spent)
            return
        if self._options.spent:
            result += f" <{spent:.6f}>"
        self._write_end(call.task.process, call.tid, begun, begun.text, result)

    def _write_end(self, process: Process, tid: int, begun: Begun, text: str, result: str) -> None:
        """The rest of a call's line: on the line that has begun, on one of its own, or on a resumed one."""
        prefix = self._prefix(process, tid, begun.start)
        if self._open is begun and self._options.partial:
            line = self._padded(f"{prefix}{begun.name}({text})", result)
            self._out(line[len(f"{prefix}{begun.name}({begun.shown}") :] + "\n")
        else:
            self._cut()
            head = (
                f"<... {begun.name} resumed>{text.removeprefix(', ')})"
                if begun.cut
                else f"{begun.name}({text})"
            )
            self._out(self._padded(prefix + head, result) + "\n")
        self._open = None

    def _line(self, call: Call, begun: Begun, text: str, result: str) -> None:
        """A call without a result."""
        if self._options.json:
            self._json_call(call, begun, 0.0)
            return
        if self._options.status is not None:
            return
        self._raw_line(call.task.process, call.tid, text, result)

    def _raw_line(self, process: Process, tid: int, text: str, result: str) -> None:
        if self._options.json:
            return
        self._cut()
        self._out(self._padded(self._prefix(process, tid, time.time()) + text, result) + "\n")

    def _event(self, process: Process, tid: int, text: str, what: dict[str, Any]) -> None:
        if self._options.json:
            import json

            self._out(json.dumps({"time": time.time(), "pid": process.pid, "tid": tid, **what}) + "\n")
            return
        self._cut()
        self._out(f"{self._prefix(process, tid, time.time())}{text}\n")

    def _padded(self, text: str, result: str) -> str:
        return f"{text} ".ljust(self._options.column) + f"= {result}"

    def _prefix(self, process: Process, tid: int, now: float) -> str:
        options = self._options
        stamp = ""
        if options.stamp == "r":
            stamp = f"{now - self._last if self._last else 0.0:12.6f} "
            self._last = now
        elif options.stamp == "ttt":
            stamp = f"{now:.6f} "
        elif options.stamp:
            stamp = time.strftime("%H:%M:%S", time.localtime(now))
            stamp += f".{int(now * 1e6) % 1000000:06d} " if options.stamp == "tt" else " "
        if options.pids == "column":
            return f"{tid:<5} {stamp}"
        alone = options.pids == "auto" and sum(map(len, self._tids.values())) <= 1
        return stamp if alone or options.pids == "none" else f"[pid {tid:5}] {stamp}"

    def _wanted(self, view: View) -> bool:
        status = self._options.status
        return status is None or ("failed" if view.failed else "successful") in status

    def _json_call(self, call: Call, begun: Begun, spent: float) -> None:
        import json

        from .formats import HINTS

        view = begun.view
        hints = HINTS.get(call.nr, ("x",) * 6)
        texts = [
            write(view, i, h, call.kinds[i][0] if i < len(call.kinds) else "ptr") for i, h in enumerate(hints)
        ]
        names = call.args.names
        item: dict[str, Any] = {
            "time": begun.start, "pid": call.pid, "tid": call.tid, "name": call.name, "nr": call.nr,
            "args": {n: t for n, t in zip(names, texts, strict=False) if t is not None}, "raw": list(call.raw),
            "result": view.result,
        }  # fmt: skip
        if view.failed and view.result is not None:
            item["errno"] = errno_name(-view.result)
        if call.note:
            item["note"] = call.note
        item["spent"] = round(spent, 6)
        self._out(json.dumps(item) + "\n")

    def _result(self, view: View) -> str:
        call, result = view.call, view.result
        assert result is not None
        note = f" ({call.note})" if call.note else ""
        if -4095 <= result < 0:
            if -result in _RESTARTS:
                return "? " + _RESTARTS[514 if call.name in _NOHAND else -result]
            return f"-1 {errno_name(-result)} ({os.strerror(-result)}){note}"
        return _success(view, result) + note


def _success(view: View, result: int) -> str:
    name = view.call.name
    if name in _HEX_RESULT:
        return hex(result & (1 << 64) - 1)
    if name == "umask":
        return f"0{result:o}" if result else "000"
    if name in _FD_RESULT:
        return view.fd(result)
    if name in ("poll", "ppoll"):
        return f"{result} (Timeout)" if not result else f"{result} ({structs.polled(view, 0)})"
    if name in ("select", "pselect6"):
        return _selected(view, result)
    if name == "rt_sigtimedwait":
        return f"{result} ({signal_name(result)})"
    if name == "sched_getscheduler":
        return f"{result} ({one('sched', result & ~0x40000000)})"
    if name == "prctl" and view.int32(0) == 3:
        return f"{result} ({('SUID_DUMP_DISABLE', 'SUID_DUMP_USER', 'SUID_DUMP_ROOT')[result]})"
    if name == "recvmmsg" and result > 0 and view.raw[4]:
        return f"{result} (left {structs.timespec(view, view.raw[4])})"
    if name == "fcntl":
        command = view.int32(1)
        if command == 1 and result:
            return f"{result:#x} (flags FD_CLOEXEC)"
        if command == 3:
            access = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[result & 3]
            rest = flags("open", result & ~3, "")
            return f"{result:#x} (flags {access}{'|' + rest if rest else ''})"
        if command in (0, 1030):
            return view.fd(result)
        if command == 1034:
            return f"{result:#x} (seals {flags('seals', result)})"
    return str(result)


def _selected(view: View, result: int) -> str:
    if not result:
        return "0 (Timeout)"
    found = [
        f"{name} [{' '.join(map(str, structs.fds_of(view, i)))}]"
        for i, name in ((1, "in"), (2, "out"), (3, "except"))
        if view.raw[i] and structs.fds_of(view, i)
    ]
    if view.raw[4]:
        left = structs.timespec if view.call.name == "pselect6" else structs.timeval
        found.append(f"left {left(view, view.raw[4])}")
    return f"{result} ({', '.join(found)})"


def _restored_mask(view: View) -> str:
    """rt_sigreturn's frame: the mask (arch/x86/include/uapi/asm/ucontext.h)."""
    try:
        return f"{{mask={signal_set(struct.unpack('<Q', view.bytes_at(view.call.sp + 296, 8))[0])}}}"
    except OSError:
        return ""


def _restored(view: View) -> str:
    """... and the rax that it restores, which is what strace shows as its result."""
    try:
        rax = struct.unpack("<q", view.bytes_at(view.call.sp + 144, 8))[0]
    except OSError:
        return "?"
    return f"-1 {errno_name(-rax)} ({os.strerror(-rax)})" if -4095 <= rax < 0 else str(rax)
