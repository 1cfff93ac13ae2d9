"""A line for each system call, in strace's manner: `pid name(arguments) = result`.

Layer: the pretend kernel, a client of the hooks.  May touch: nothing but the request it is shown.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .dispatch import Request
    from .table import Sys
    from .task import Task

_AT_FDCWD = -100


def quote(data: bytes, limit: int = 256) -> str:
    """A string as C would write it."""
    text = data[:limit].decode("latin-1").encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{text}"' + ("..." if len(data) > limit else "")


class Tracer:
    """Writes one line per call, when it has returned; what never returns (exit, a successful execve) at its start."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._begun: dict[tuple[int, int], str] = {}

    def enter(self, task: Task, request: Request, call: Sys | None) -> None:
        line = f"{task.process.pid} {self._call(task, request, call)}"
        if call is not None and call.name in ("execve", "execveat", "exit", "exit_group", "rt_sigreturn"):
            self._write(line + " = ?\n" if call.name.startswith("exit") else line + "\n")
        else:
            self._begun[task.process.pid, task.slot] = line

    def exit(self, task: Task, request: Request, call: Sys | None) -> None:
        begun = self._begun.pop((task.process.pid, task.slot), None)
        if begun is None:
            begun = f"{task.process.pid} {self._call(task, request, call)}"
        self._write(f"{begun} = {result_text(request.result, call)}\n")

    def _call(self, task: Task, request: Request, call: Sys | None) -> str:
        if call is None:
            return f"syscall_{request.nr:#x}({', '.join(hex(a) for a in request.args)})"
        return f"{call.name}({', '.join(self._arguments(task, request, call))})"

    def _arguments(self, task: Task, request: Request, call: Sys) -> list[str]:
        assert task.process.channel is not None
        out = []
        for i, (kind, _) in enumerate(call.args):
            value = request.args[i]
            number = value & 0xFFFFFFFF
            small = number - (number & 0x80000000) * 2
            if request.in_len[i] != 0xFFFFFFFF and kind not in (
                "int",
                "long",
                "uint",
                "ptr",
                "fd",
                "dirfd",
                "pid",
                "iov",
                "in",
            ):
                out.append(quote(task.process.channel.data(task.slot, request.in_off[i], request.in_len[i])))
            elif kind in ("fd", "dirfd", "pid"):
                out.append("AT_FDCWD" if small == _AT_FDCWD else str(small))
            elif kind == "ptr" or value > 0xFFFFFF:
                out.append("NULL" if not value else hex(value))
            else:
                out.append(str(value))
        return out


def result_text(result: int, call: Sys | None) -> str:
    """`3`, `0x7f...`, or `-1 ENOENT (No such file or directory)`."""
    import os

    if -4095 <= result < 0:
        if result == -512:
            return "? ERESTARTSYS (To be restarted)"
        return f"-1 {errno.errorcode.get(-result, str(-result))} ({os.strerror(-result)})"
    if call is not None and call.name in ("mmap", "brk", "mremap"):
        return hex(result)
    return str(result)
