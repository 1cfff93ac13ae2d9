"""/proc/PID: what a process is doing and who it is (status, stat, statm, limits, comm, io, ids...).

Layer: vfs/procfs, entries. May touch: the Process and Task objects (reading), the host's /proc of that
process. Formats: proc(5) and its pages proc_pid_*(5).
"""

from __future__ import annotations

import errno

from ...kernel.groups import PGRP_OUTSIDE, shown_foreground
from ..inode import err
from . import host, rewrite
from .table import BOTH, PROCESS, TASK, Scope, process_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...kernel.task import Credentials

_SIGSYS = 1 << 30
_COMM_MAX = 15  # TASK_COMM_LEN less the NUL


def comm_of(scope: Scope) -> bytes:
    """The name of a thread (PR_SET_NAME); it may hold any byte but NUL.

    A name written to /proc/PID/comm is kept with the task, as "NEW NUL OLD", for the host lets only the
    thread's own process rename it. It holds until the host's name is no longer OLD: a later prctl(2) or
    execve(2) has changed it.
    """
    known = scope.read("comm")[:-1]
    task = scope.task
    if task is not None and task.comm_override is not None:
        new, _, old = task.comm_override.partition(b"\0")
        if old == known:
            return new
        task.comm_override = None
    return known


def state(scope: Scope, shown: bytes) -> bytes:
    """The state letter; a thread that reads about itself runs, although the host sees it wait for the
    supervisor."""
    reader = scope.reader
    return b"R" if reader is not None and reader.tid == (scope.tid or scope.pid) else shown


def capabilities(creds: Credentials) -> tuple[int, int, int]:
    """(permitted, effective, bounding) sets as bit masks."""
    full = (1 << last_capability() + 1) - 1
    effective = creds.caps & full
    permitted = full if 0 in (creds.uid, creds.euid, creds.suid) else effective
    return permitted, effective, full


_last_cap: int | None = None


def last_capability() -> int:
    """The highest capability number of this kernel (CAP_CHECKPOINT_RESTORE where it does not say)."""
    global _last_cap
    if _last_cap is None:
        _last_cap = int(host.read_or("/proc/sys/kernel/cap_last_cap", b"40"))
    return _last_cap


def signals(scope: Scope, text: bytes) -> dict[bytes, bytes]:
    """The signal sets: those that the sandbox keeps itself, otherwise the host's without the core's
    SIGSYS."""
    out = {}
    for name, owner, attribute in (
        (b"SigBlk", scope.task, "sig_blocked"),
        (b"SigIgn", scope.process, "sig_ignored"),
        (b"SigCgt", scope.process, "sig_caught"),
    ):
        known = getattr(owner, attribute, None)
        if isinstance(known, int):
            out[name] = b"%016x" % known
    for line in text.splitlines():
        name, _, value = line.partition(b":\t")
        if name in (b"SigBlk", b"SigIgn", b"SigCgt") and name not in out:
            out[name] = b"%016x" % (int(value, 16) & ~_SIGSYS)
    return out


def _fd_size(scope: Scope) -> int:
    """Slots of the descriptor table as if the core's own descriptors, at the top of it, were not there."""
    try:
        last = max(scope.fs.descriptors(scope.pid, scope.tid), default=0)
    except OSError:
        last = 0
    return max(64, 1 << last.bit_length())


#: Sizes that count the core's mappings on the host, and which of ProcFS.core_memory()'s numbers is to be
#: taken off
_KILOBYTES = {b"VmPeak": 0, b"VmSize": 0, b"VmData": 1}


@process_file("status")
def status(scope: Scope) -> bytes:
    """Human-readable state; identity, parent, capabilities and signals are the sandbox's own."""
    text = scope.read("status")
    pid, tid, creds = scope.pid, scope.tid or scope.pid, scope.creds
    values = {
        b"Name": comm_of(scope).replace(b"\\", b"\\\\").replace(b"\n", b"\\n"),  # as proc_task_name() escapes
        b"Umask": b"%04o" % scope.files.umask,
        b"Tgid": b"%d" % pid,
        b"Pid": b"%d" % tid,
        b"TracerPid": b"0",
        b"Uid": b"%d\t%d\t%d\t%d" % (creds.uid, creds.euid, creds.suid, creds.fsuid),
        b"Gid": b"%d\t%d\t%d\t%d" % (creds.gid, creds.egid, creds.sgid, creds.fsgid),
        b"Groups": b"".join(b"%d " % gid for gid in creds.groups) or b" ",
        b"FDSize": b"%d" % _fd_size(scope),
        b"CapInh": b"%016x" % 0,
        b"CapAmb": b"%016x" % 0,
        b"NoNewPrivs": b"%d" % scope.process.no_new_privs,
        b"Seccomp": b"0",
        b"Seccomp_filters": b"0",
    }
    for name, mask in zip((b"CapPrm", b"CapEff", b"CapBnd"), capabilities(creds), strict=True):
        values[name] = b"%016x" % mask
    values.update(signals(scope, text))
    for line in text.splitlines():
        name, _, value = line.partition(b":\t")
        if name == b"PPid":
            values[name] = b"%d" % scope.process.ppid
        elif name == b"State" and state(scope, value[:1]) != value[:1]:
            values[name] = b"R (running)"
        elif name in _KILOBYTES:
            core = scope.fs.core_memory(pid)[_KILOBYTES[name]]
            values[name] = b"%8d kB" % max(int(value.split()[0]) - core // 1024, 0)
        elif name in (b"NStgid", b"NSpid", b"NSpgid", b"NSsid"):
            number = int(value.split()[0]) or PGRP_OUTSIDE
            values[name] = b"1" if scope.is_init else b"%d" % number
    return rewrite.fields(text, values)


#: proc_pid_stat(5): number of the field, and the attribute of Process.mm that holds it
_MM_FIELDS = (
    (26, "start_code"), (27, "end_code"), (28, "start_stack"), (45, "start_data"), (46, "end_data"),
    (47, "start_brk"), (48, "arg_start"), (49, "arg_end"), (50, "env_start"), (51, "env_end"),
)  # fmt: skip


def _groups(scope: Scope, rest: list[bytes]) -> dict[int, bytes | int]:
    """The fields of stat that number groups and sessions; init's are the host's."""
    if scope.is_init:
        return {5: 1, 6: 1, 7: 0, 8: -1, 1: 1}
    terminal, foreground = int(rest[4]), int(rest[5])
    return {
        5: int(rest[2]) or PGRP_OUTSIDE,
        6: int(rest[3]) or PGRP_OUTSIDE,
        8: shown_foreground(terminal, foreground),
    }


@process_file("stat")
def stat(scope: Scope) -> bytes:
    """The one-line state that ps reads."""
    text = scope.read("stat")
    _, _, rest = rewrite.split_stat(text)
    values: dict[int, bytes | int] = {
        2: comm_of(scope),
        3: state(scope, rest[0]),
        4: scope.process.ppid,
        23: max(int(rest[20]) - scope.fs.core_memory(scope.pid)[0], 0),
        **_groups(scope, rest),
        29: 0,  # kstkesp and kstkeip: the kernel shows them of exiting processes only
        30: 0,
    }
    mm = getattr(scope.process, "mm", None)
    if rest[0] != b"Z":
        permitted = not scope.is_init and scope.fs.may_inspect(scope)
        for number, attribute in _MM_FIELDS:
            known = getattr(mm, attribute, None)
            if not permitted:
                values[number] = 1 if number in (26, 27) else 0
            elif isinstance(known, int):
                values[number] = known
    sets = signals(scope, scope.read("status"))
    for number, name in ((32, b"SigBlk"), (33, b"SigIgn"), (34, b"SigCgt")):
        values[number] = int(sets.get(name, b"0"), 16) & 0x7FFFFFFF
    return rewrite.stat(text, values)


@process_file("statm")
def statm(scope: Scope) -> bytes:
    """Sizes in pages: all, resident, shared, text, 0, data, 0."""
    sizes = [int(word) for word in scope.read("statm").split()]
    total, private = scope.fs.core_memory(scope.pid)
    sizes[0] = max(sizes[0] - total // 4096, 0)
    sizes[5] = max(sizes[5] - private // 4096, 0)
    return b" ".join(b"%d" % size for size in sizes) + b"\n"


@process_file("limits")
def limits(scope: Scope) -> bytes:
    """Resource limits; RLIMIT_NOFILE is virtual, for the core's descriptors live at the top of the host's."""
    virtual = getattr(scope.process, "rlimits", None) or {}
    changes = {}
    for number, name in ((7, b"Max open files"), (3, b"Max stack size"), (6, b"Max processes")):
        if number in virtual:
            soft, hard = virtual[number]
            changes[name] = (_unlimited(soft), _unlimited(hard))
    return rewrite.limits(scope.read("limits"), changes)


def _unlimited(value: int) -> int | None:
    return None if value < 0 or value >= (1 << 64) - 1 else value


def write_comm(scope: Scope, data: bytes) -> int:
    """Rename a thread of the writer's own process, as pthread_setname_np(3) does for another thread.

    Raises: OSError(EINVAL) for a thread of another process, as comm_write() in fs/proc/base.c.
    """
    reader = scope.reader
    if reader is None or reader.process is not scope.process:
        raise err(errno.EINVAL)
    task = scope.task
    if task is None:
        raise err(errno.ESRCH)
    old = scope.read("comm")[:-1]
    task.comm_override = data[:_COMM_MAX].partition(b"\0")[0] + b"\0" + old
    return len(data)


@process_file("comm", mode=0o644, write=write_comm)
def comm(scope: Scope) -> bytes:
    """The thread's name."""
    return comm_of(scope) + b"\n"


@process_file("children", where=TASK)
def children(scope: Scope) -> bytes:
    """Pids of the child processes; all are shown at the leader, since the sandbox keeps them by process."""
    if scope.tid != scope.pid:
        return b""
    return b"".join(b"%d " % pid for pid, p in sorted(scope.fs.processes.items()) if p.ppid == scope.pid)


def _copied(name: str, mode: int = 0o444, where: int = BOTH) -> None:
    """Declare a file whose host text holds nothing to hide."""

    @process_file(name, mode=mode, where=where)
    def read(scope: Scope) -> bytes:
        return scope.read(name)


for _name, _mode, _where in (
    ("schedstat", 0o444, BOTH), ("personality", 0o400, BOTH), ("wchan", 0o444, BOTH),
    ("io", 0o400, BOTH), ("oom_score", 0o444, BOTH), ("timers", 0o444, PROCESS),
    ("timens_offsets", 0o644, PROCESS), ("arch_status", 0o444, BOTH), ("ksm_merging_pages", 0o400, BOTH),
    ("ksm_stat", 0o400, BOTH), ("autogroup", 0o644, PROCESS),
):  # fmt: skip
    _copied(_name, _mode, _where)


@process_file("sched", mode=0o644)
def sched(scope: Scope) -> bytes:
    """The scheduler's figures; the first line names the process."""
    head, comma, rest = scope.read("sched").partition(b", #threads")
    return b"%b(%d" % (head.rpartition(b"(")[0], scope.tid or scope.pid) + comma + rest


def _forwarded(name: str, mode: int = 0o644, where: int = BOTH) -> None:
    """Declare a knob that means to the host kernel what it means to the guest: it goes through both ways."""

    def write(scope: Scope, data: bytes) -> int:
        return scope.write(name, data)

    @process_file(name, mode=mode, write=write, where=where)
    def read(scope: Scope) -> bytes:
        return scope.read(name)


for _name, _mode, _where in (
    ("oom_score_adj", 0o644, BOTH), ("oom_adj", 0o644, BOTH), ("coredump_filter", 0o644, PROCESS),
    ("timerslack_ns", 0o666, PROCESS),
):  # fmt: skip
    _forwarded(_name, _mode, _where)


def _fixed(name: str, text: bytes, mode: int = 0o444, where: int = BOTH) -> None:
    """Declare a file that says the same of every process: the sandbox has one namespace of that sort, and no
    LSM."""

    @process_file(name, mode=mode, where=where)
    def read(scope: Scope) -> bytes:
        return text


_IDENTITY_MAP = b"%10d %10d %10d\n" % (0, 0, 0xFFFFFFFF)  # the initial user namespace
for _name in ("uid_map", "gid_map", "projid_map"):
    _fixed(_name, _IDENTITY_MAP, 0o644)
_fixed("setgroups", b"allow\n", 0o644)
_fixed("sessionid", b"4294967295")  # AUDIT_SID_UNSET
_fixed("cgroup", b"0::/\n")
_fixed("cpuset", b"/\n")
_fixed("syscall", b"running\n", 0o400)


def _write_loginuid(scope: Scope, data: bytes) -> int:
    """Set the audit uid; as in the kernel without CONFIG_AUDIT_LOGINUID_IMMUTABLE it takes
    CAP_AUDIT_CONTROL."""
    reader = scope.reader
    if reader is None or reader.process is not scope.process:
        raise err(errno.EPERM)
    try:
        value = int(data.strip(b"\0\n "))
    except ValueError:
        raise err(errno.EINVAL) from None
    if not 0 <= value <= 0xFFFFFFFF:
        raise err(errno.EINVAL)
    if not reader.creds.capable(30):
        raise err(errno.EPERM)
    scope.fs.loginuids[scope.process] = value
    return len(data)


@process_file("loginuid", mode=0o644, write=_write_loginuid)
def loginuid(scope: Scope) -> bytes:
    """The audit uid of the login, unset until a login program sets it; children inherit what their parents
    had."""
    return b"%d" % scope.fs.loginuid(scope.process)


def _no_label(scope: Scope) -> bytes:
    raise err(errno.EINVAL)  # what reading a label gives where no security module answers


for _name in ("current", "exec", "fscreate", "keycreate", "sockcreate", "prev"):
    process_file(f"attr/{_name}", mode=0o444 if _name == "prev" else 0o666)(_no_label)
