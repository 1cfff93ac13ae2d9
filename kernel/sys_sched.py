"""Scheduling of one thread by another: guests may ask the host for themselves alone (lockdown.py), so we ask for them.

Layer: the pretend kernel, a family of system calls.  May touch: policy, priority and processors of the sandbox's
threads, as a process without CAP_SYS_NICE may touch its own (sched(7), setpriority(2), ioprio_set(2)).
"""

from __future__ import annotations

import errno
import os
import struct

from ..vfs.inode import err
from .channel import libc_syscall
from .groups import PGRP_OUTSIDE, group_of
from .handlers import NATIVE, NativeResult, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .handlers import Result
    from .task import Process, Task

_ORDINARY = (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)
_RESET_ON_FORK = 0x40000000
_ATTR = struct.Struct("<IIQiI")  # struct sched_attr: size, policy, flags, nice, priority
_IOPRIO_SET = 251
_BEST_EFFORT, _IDLE = 2, 3  # classes of I/O priorities
_MAX_MASK = 1024  # bytes of a mask of processors that are looked at


def owner(t: Task, tid: int) -> Process:
    """The process whose thread `tid` is, by what the host says: a guest's word may be a lie.  Raises ESRCH."""
    others = (process for process in t.sandbox.processes.values() if process is not t.process)
    for process in (t.process, *others):
        if process.alive and tid > 0 and os.path.exists(f"{process.proc}/task/{tid}"):
            return process
    raise err(errno.ESRCH)


def _do(t: Task, tid: int, change: Callable[[int], None]) -> Result:
    """Change a thread that is not the caller's own: `change()` gets the host's number of it."""
    if tid == 1 and not t.sandbox.knows(1):
        raise err(errno.EPERM)  # init
    its = owner(t, tid).main_creds
    if t.creds.euid not in (its.uid, its.euid) and not t.creds.capable(23):  # CAP_SYS_NICE
        raise err(errno.EPERM)
    change(t.sandbox.pid_ns.host(tid))
    return 0


def _policy(tid: int, policy: int, priority: int) -> None:
    if policy & ~_RESET_ON_FORK not in _ORDINARY:
        raise err(errno.EPERM if policy in (os.SCHED_FIFO, os.SCHED_RR) else errno.EINVAL)
    if priority:
        raise err(errno.EINVAL)
    if os.sched_getscheduler(tid) == os.SCHED_IDLE and policy & ~_RESET_ON_FORK != os.SCHED_IDLE:
        raise err(errno.EPERM)  # can_nice()
    os.sched_setscheduler(tid, policy, os.sched_param(0))


def _plausible(good: bool) -> None:
    """kernel/sched/syscalls.c: a number below 0, no structure or flags are EINVAL before the structure is looked at."""
    if not good:
        raise err(errno.EINVAL)


@syscall("sched_setscheduler")
def sys_sched_setscheduler(t: Task, tid: int, policy: int, param: int) -> Result:
    """sched_setscheduler(2)"""
    if tid in (0, t.tid):
        return NativeResult(args=[0, policy, param])
    _plausible(tid > 0 and param != 0 and policy >= 0)
    priority = struct.unpack("<i", t.peek(param, 4))[0]
    return _do(t, tid, lambda host: _policy(host, policy, priority))


@syscall("sched_setparam")
def sys_sched_setparam(t: Task, tid: int, param: int) -> Result:
    """sched_setparam(2)"""
    if tid in (0, t.tid):
        return NativeResult(args=[0, param])
    _plausible(tid > 0 and param != 0)
    priority = struct.unpack("<i", t.peek(param, 4))[0]
    return _do(t, tid, lambda host: _policy(host, os.sched_getscheduler(host), priority))


@syscall("sched_setaffinity")
def sys_sched_setaffinity(t: Task, tid: int, size: int, mask: int) -> Result:
    """sched_setaffinity(2)"""
    if tid in (0, t.tid):
        return NativeResult(args=[0, size, mask])
    data = t.peek(mask, min(size & 0xFFFFFFFF, _MAX_MASK)) if size else b""
    cpus = [8 * i + bit for i, byte in enumerate(data) for bit in range(8) if byte >> bit & 1]

    def change(host: int) -> None:
        try:
            os.sched_setaffinity(host, cpus)
        except ValueError:
            raise err(errno.EINVAL) from None

    return _do(t, tid, change)


@syscall("sched_setattr")
def sys_sched_setattr(t: Task, tid: int, attr: int, flags: int) -> Result:
    """sched_setattr(2): the policy and the nice value; the others need rights that nobody has."""
    if tid in (0, t.tid):
        return NativeResult(args=[0, attr, flags])
    _plausible(tid > 0 and attr != 0 and not flags)
    _size, policy, _flags, nice, priority = _ATTR.unpack(t.peek(attr, _ATTR.size))

    def change(host: int) -> None:
        if policy != os.sched_getscheduler(host):
            _policy(host, policy, priority)
        _nice(host, nice)

    return _do(t, tid, change)


def _nice(tid: int, value: int) -> None:
    value = max(-20, min(19, value))
    if value < os.getpriority(os.PRIO_PROCESS, tid):
        raise err(errno.EACCES)
    os.setpriority(os.PRIO_PROCESS, tid, value)


@syscall("setpriority")
def sys_setpriority(t: Task, which: int, who: int, value: int) -> Result:
    """setpriority(2): for processes; a whole group or user would include host processes."""
    if which != 0:
        raise err(errno.EPERM if which in (1, 2) else errno.EINVAL)
    if who in (0, t.tid):
        return NativeResult(args=[0, 0, value])
    return _do(t, who, lambda host: _nice(host, value))


@syscall("ioprio_set")
def sys_ioprio_set(t: Task, which: int, who: int, value: int) -> Result:
    """ioprio_set(2)"""
    if which != 1:
        raise err(errno.EPERM if which in (2, 3) else errno.EINVAL)
    if who in (0, t.tid):
        return NativeResult(args=[1, 0, value])

    def change(host: int) -> None:
        if value >> 13 not in (0, _BEST_EFFORT, _IDLE):
            raise err(errno.EPERM if value >> 13 == 1 else errno.EINVAL)
        result = libc_syscall(_IOPRIO_SET, 1, host, value)
        if result < 0:
            raise err(-result)

    return _do(t, who, change)


def _asked(t: Task, which: int, who: int, first: int) -> Result:
    """PRIO_PROCESS of the sandbox's threads, and one's own group and user; others do not exist. `first` is PRIO_PROCESS
    or IOPRIO_WHO_PROCESS."""
    which -= first
    if which not in (0, 1, 2):
        raise err(errno.EINVAL)
    if which == 0 and who not in (0, t.tid):
        owner(t, who)
    if which == 2 and who not in (0, t.creds.uid):
        raise err(errno.ESRCH)
    if which == 1 and who == PGRP_OUTSIDE == group_of(t.process):
        return NativeResult(args=[which + first, 0])
    return NATIVE


@syscall("getpriority")
def sys_getpriority(t: Task, which: int, who: int) -> Result:
    """getpriority(2)"""
    return _asked(t, which, who, 0)


@syscall("ioprio_get")
def sys_ioprio_get(t: Task, which: int, who: int) -> Result:
    """ioprio_get(2): IOPRIO_WHO_* count from 1."""
    return _asked(t, which, who, 1)
