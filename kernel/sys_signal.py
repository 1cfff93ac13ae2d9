"""Signals to others: who may be signalled.  Sending is done by the guest itself, so that si_pid is its own.

Layer: the pretend kernel, a family of system calls.  May touch: the process table; host process groups are only read.
"""

from __future__ import annotations

import errno
import os

from ..vfs.inode import err
from .groups import group_of
from .handlers import NATIVE, KillList, NativeResult, syscall
from .sys_sched import owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handlers import Result
    from .task import Process, Task


def may_signal(t: Task, target: Process, sig: int) -> bool:
    """kill_ok_by_cred() of kernel/signal.c: real or effective uid is the target's real or saved one, or CAP_KILL."""
    me, its = t.creds, target.main_creds
    if me.euid in (its.suid, its.uid) or me.uid in (its.suid, its.uid) or me.capable(5):
        return True
    return sig == 18 and os.getsid(t.process.host_pid) == os.getsid(target.host_pid)  # SIGCONT within a session


def members(t: Task, group: int | None) -> list[Process]:
    """The living processes of a process group, or (None) all of the sandbox."""
    found = []
    for process in t.sandbox.processes.values():
        try:
            if process.alive and (group is None or group_of(process) == group):
                found.append(process)
        except OSError:
            continue
    return found


@syscall("kill")
def sys_kill(t: Task, pid: int, sig: int) -> Result:
    """kill(2): processes of the sandbox only; whoever is outside does not exist."""
    pid = pid & 0xFFFFFFFF
    pid -= (pid & 0x80000000) * 2
    if not 0 <= sig & 0xFFFFFFFF <= 64:
        raise err(errno.EINVAL)
    if pid > 0:
        if _is_init(t, pid):
            # Process 1 of a PID namespace gets none of the signals that it has no handler for (pid_namespaces(7)).
            if t.creds.uid == 0 or t.creds.euid == 0 or t.creds.capable(5):
                return 0
            raise err(errno.EPERM)
        if not t.sandbox.knows(pid):
            raise err(errno.ESRCH)
        target = t.sandbox.processes.get(pid)
        if target is not None and not may_signal(t, target, sig):
            raise err(errno.EPERM)
        return NATIVE
    if pid == -1:
        everyone = [p for p in members(t, None) if p is not t.process]
    else:
        everyone = members(t, group_of(t.process) if pid == 0 else -pid)
    if not everyone:
        raise err(errno.ESRCH)
    allowed = [p.pid for p in everyone if may_signal(t, p, sig)]
    if not allowed:
        raise err(errno.EPERM)
    # The sender comes last: its own signal may end it.
    allowed.sort(key=lambda p: p == t.process.pid)
    return KillList(allowed)


@syscall("tkill", "rt_sigqueueinfo")
def sys_signal_one(t: Task, pid: int, sig: int, *_rest: int) -> Result:
    """tkill(2) and rt_sigqueueinfo(2)"""
    return _signal_to(t, pid, sig)


@syscall("tgkill", "rt_tgsigqueueinfo")
def sys_signal_thread(t: Task, pid: int, _tid: int, sig: int, *_rest: int) -> Result:
    """tgkill(2) and rt_tgsigqueueinfo(2)"""
    return _signal_to(t, pid, sig)


def _signal_to(t: Task, pid: int, sig: int) -> Result:
    """A signal to one process, or one thread, of the sandbox."""
    if pid <= 0:
        raise err(errno.EINVAL)
    target = t.sandbox.processes.get(pid)
    if target is None and not _own_thread(t, pid):
        target = owner(t, pid)
    if target is not None and not may_signal(t, target, sig):
        raise err(errno.EPERM)
    return NATIVE


@syscall("pidfd_send_signal")
def sys_pidfd_send_signal(t: Task, pidfd: int, sig: int, *_rest: int) -> Result:
    """pidfd_send_signal(2): what is no pidfd the host says."""
    pid = pid_of_pidfd(t, pidfd)
    target = t.sandbox.processes.get(pid)
    if target is not None and not may_signal(t, target, sig):
        raise err(errno.EPERM)
    return NATIVE


def pid_of_pidfd(t: Task, fd: int) -> int:
    """Whom a pidfd stands for: 0 for what is none, -1 for a process that has been waited for.  Raises EBADF."""
    host = t.host_fd(fd)
    try:
        with open(f"/proc/self/fdinfo/{host}", encoding="ascii") as info:
            pid = next((int(line[4:]) for line in info if line.startswith("Pid:")), 0)
    finally:
        os.close(host)
    try:
        return t.sandbox.pid_ns.guest(pid) if pid > 0 else pid
    except ProcessLookupError:
        return -1


def _own_thread(t: Task, tid: int) -> bool:
    """A thread that has not called the supervisor yet is known to the host only."""
    return os.path.exists(f"{t.process.proc}/task/{tid}")


def _is_init(t: Task, pid: int) -> bool:
    """Process 1, which /proc shows and the process table does not have."""
    return pid == 1 and not t.sandbox.knows(pid)


def _of_task(t: Task, pid: int) -> Result:
    """The host kernel may be asked about a task of the sandbox; ESRCH for others."""
    if not t.sandbox.knows(pid) and not _own_thread(t, pid):
        raise err(errno.ESRCH)
    return NATIVE


@syscall("get_robust_list")
def sys_of_task(t: Task, pid: int, *_rest: int) -> Result:
    """get_robust_list(2): of a task of the sandbox, or ESRCH; not of init."""
    if _is_init(t, pid):
        raise err(errno.EPERM)
    return _of_task(t, pid)


@syscall("sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_getaffinity", "sched_getattr")
def sys_about_task(t: Task, pid: int, *rest: int) -> Result:
    """Questions about one task: of the sandbox, or init."""
    if _is_init(t, pid):
        return NativeResult(args=[t.sandbox.init_pid, *rest])
    return _of_task(t, pid)


@syscall("getpgid", "getsid")
def sys_group_of_task(t: Task, pid: int) -> Result:
    """getpgid(2), getsid(2): init leads its own group and session."""
    return 1 if _is_init(t, pid) else _of_task(t, pid)


@syscall("prlimit64")
def sys_prlimit64(t: Task, pid: int, *_rest: int) -> Result:
    """prlimit(2) of another process: its limits are its own core's affair."""
    if not t.sandbox.knows(pid):
        raise err(errno.ESRCH)
    raise err(errno.EPERM)
