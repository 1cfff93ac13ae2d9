"""Signals that no handler of the guest's gets: ignored, stopping or ending a process, as the host kernel sees to it.

Layer: the pretend kernel, trace; part of the tracer.  May touch: the host's /proc of guests.

The core hears only of signals that have a handler.  Of the others the trace knows the sender's call (kill and its
relatives), the write to a pipe that nobody reads, the child that has ended, and what a process was killed by: enough to
write the lines that strace writes.
"""

from __future__ import annotations

import struct

from ..ends import cpu_times, wait_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..hooks.call import Call
    from ..task import Process

SIGKILL, SIGPIPE, SIGCHLD = 9, 13, 17
STOPPING = (19, 20, 21, 22)  # SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
_SI_USER, _SI_KERNEL, _SI_TKILL = 0, 0x80, -6
_CLD_EXITED, _CLD_KILLED, _CLD_DUMPED = 1, 2, 3
_EPIPE = 32
_MSG_NOSIGNAL = 0x4000
#: calls that send a signal: the arguments that hold the process and the signal, and the si_code
_SENDERS = {62: (0, 1, _SI_USER), 200: (0, 1, _SI_TKILL), 234: (0, 2, _SI_TKILL)}
#: calls that fail with EPIPE and send SIGPIPE: the argument that may hold MSG_NOSIGNAL
_WRITERS = {1: -1, 20: -1, 40: -1, 44: 3, 46: 2}
#: numbers of the calls without which these signals would not be seen
CALLS = frozenset(_SENDERS)


def sent(call: Call) -> tuple[int, int, int] | None:
    """(process, signal, si_code) of a call that sends a signal to one process."""
    found = _SENDERS.get(call.nr)
    if found is None:
        return None
    target, number = call.raw[found[0]] & 0xFFFFFFFF, call.raw[found[1]] & 0xFFFFFFFF
    return (target, number, found[2]) if 0 < target < 1 << 31 and 0 < number <= 64 else None


def breaks_pipe(call: Call) -> bool:
    """Would the call, failing with EPIPE, send SIGPIPE to its own thread?"""
    flags = _WRITERS.get(call.nr)
    return flags is not None and (flags < 0 or not call.raw[flags] & _MSG_NOSIGNAL)


def of_call(call: Call, result: int) -> tuple[int, bytes] | None:
    """(process, siginfo) of the signal that a call which has returned `result` sent, None if it sent none."""
    if result == -_EPIPE and breaks_pipe(call):
        return call.pid, info(SIGPIPE, _SI_USER, call.pid, call.task.creds.uid)
    found = sent(call) if result == 0 else None
    if found is None:
        return None
    target, number, code = found
    return target, info(number, code, call.pid, call.task.creds.uid)


def info(number: int, code: int, pid: int = 0, uid: int = 0) -> bytes:
    """A siginfo_t of a sent signal."""
    return struct.pack("<iiiiiI24x", number, 0, code, 0, pid, uid)


def of_child(child: Process, code: int | None) -> bytes:
    """The siginfo_t of the SIGCHLD for a child that has ended; `code` is what exit_group was given."""
    status = wait_status(child)
    if status is not None and status & 0x7F:
        kind, value = _CLD_DUMPED if status & 0x80 else _CLD_KILLED, status & 0x7F
    else:
        kind, value = _CLD_EXITED, code if code is not None else (status or 0) >> 8 & 0xFF
    head = struct.pack("<iiiiiIi4x", SIGCHLD, 0, kind, 0, child.pid, child.main_creds.uid, value)
    return head + struct.pack("<qq", *cpu_times(child))


def of_end(process: Process, number: int, last: Call | None) -> bytes:
    """The siginfo_t of the signal that has ended a process, whose unfinished call is `last`."""
    if last is not None:
        found = sent(last)
        if found is not None and found[1] == number:
            return info(number, found[2], last.pid, last.task.creds.uid)
        if number == SIGPIPE and breaks_pipe(last):
            return info(number, _SI_USER, last.pid, last.task.creds.uid)
    return info(number, _SI_KERNEL)


def masks(process: Process) -> tuple[int, int]:
    """The signals (bit N-1 for signal N) that a process handles, and those that it blocks; none once it is gone."""
    handled = blocked = 0
    try:
        with open(f"{process.proc}/status", "rb", 0) as f:
            for line in f.read().split(b"\n"):
                if line.startswith(b"SigBlk:"):
                    blocked = int(line[7:], 16)
                elif line.startswith(b"SigCgt:"):
                    handled = int(line[7:], 16)
    except OSError:
        pass
    return handled, blocked
