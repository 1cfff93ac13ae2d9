"""execve and execveat: checked here, planned by the loader, carried out by a fresh core.

Layer: the pretend kernel, a family of system calls.  May touch: files of the tree, the loader, a process's channel.
"""

from __future__ import annotations

import errno
import os
import resource
import struct

from ..loader.plan import LayoutContext, Opened
from ..loader.prepare import prepare, prepare_again
from ..loader.stack import settle
from ..vfs.inode import err
from ..vfs.mount import MNT_NOSUID
from ..vfs.unmapped import is_unmapped
from .execfile import open_exec_path
from .gifts import close
from .handlers import Exec, syscall
from .layout import OFFSETS, SIZES, VERSION
from .task import Credentials, MmLayout, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..loader.plan import Plan
    from ..loader.prepare import Prepared
    from ..vfs.mount import Path
    from .gifts import Gift, Open
    from .task import FdRef, Process

AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
_S_ISUID, _S_ISGID, _S_IXGRP = 0o4000, 0o2000, 0o010
_WORD = (1 << 64) - 1
_SEG = struct.Struct("<3Q2IiI")
assert _SEG.size == SIZES["ring3_seg"]


def close_on_exec(t: Task, fd: int) -> bool:
    """BINPRM_FLAGS_PATH_INACCESSIBLE: an interpreter could not open the script by this descriptor any more."""
    try:
        with open(f"{t.process.proc}/fdinfo/{fd}", encoding="ascii") as info:
            for line in info:
                if line.startswith("flags:"):
                    return bool(int(line[6:], 8) & os.O_CLOEXEC)
    except OSError:
        pass
    return False


class PendingExec:
    """An exec that was granted and waits for the fresh core: the prepared program and the credentials it gets."""

    __slots__ = (
        "ahead", "asked", "creds", "found", "gifts", "gifts_epoch", "given", "path", "plan", "prepared", "secure",
        "task",
    )  # fmt: skip

    def __init__(self, prepared: Prepared, task: Task, creds: Credentials, secure: bool, path: Path) -> None:
        self.prepared = prepared
        self.task = task
        self.creds = creds
        self.secure = secure
        self.path = path
        self.found = False  # what the plan needs
        self.gifts: list[Gift] = []
        self.gifts_epoch = 0
        self.given: list[Open] = []  # what those that went with the plan are for
        self.asked = False  # the fresh core has said hello
        self.ahead = False  # the plan is sent before that ...
        self.plan: Plan | None = None  # ... and it was

    def close(self) -> None:
        self.prepared.close()
        self.close_gifts()

    def close_gifts(self) -> None:
        close(self.gifts)
        self.gifts = []


def prepare_program(
    t: Task, start: FdRef | None, name: bytes, argv: list[bytes], envp: list[bytes], flags: int
) -> PendingExec:
    """Everything of execve(2) that can fail.  Raises OSError."""
    vfs = t.sandbox.vfs
    base = None
    opened = None
    filename = name
    if start is not None and (name or flags & AT_EMPTY_PATH):
        base = vfs.path_of_fd(t, start.fd)
        if not name:
            opened = open_exec_path(t, base, b"/dev/fd/%d" % start.fd)
            filename = opened.path
        elif not name.startswith(b"/"):
            filename = b"/dev/fd/%d/%s" % (start.fd, name)

    def open_exec(path: bytes) -> Opened:
        if path is filename and opened is None:
            place = vfs.lookup(t, base, name, not flags & AT_SYMLINK_NOFOLLOW)
            if flags & AT_SYMLINK_NOFOLLOW and place.inode.is_symlink:
                raise err(errno.ELOOP)
        else:
            place = vfs.lookup(t, None, path)
        return open_exec_path(t, place, path)

    if not name and opened is None:
        raise err(errno.ENOENT)
    limit = resource.getrlimit(resource.RLIMIT_STACK)[0]
    limit = limit if limit >= 0 else -1
    again = t.sandbox.gifts.program(t, name) if start is None and not flags and name.startswith(b"/") else None
    prepared = prepare_again(name, argv, envp, again, limit) if again is not None else prepare(
        open_exec, filename, argv, envp, stack_rlimit=limit, opened=opened,
        comm=None if opened is None or start is None else b"%d" % start.fd,
        path_inaccessible=start is not None and not name.startswith(b"/") and close_on_exec(t, start.fd),
    )  # fmt: skip
    exe = prepared.exe.vpath
    creds, secure = exec_creds(t, exe)  # type: ignore[arg-type]
    return PendingExec(prepared, t, creds, secure, exe)  # type: ignore[arg-type]


def exec_creds(t: Task, path: Path) -> tuple[Credentials, bool]:
    """bprm_fill_uid() and cap_bprm_creds_from_file(): the credentials after the exec, and AT_SECURE."""
    new = t.creds.copy()
    inode = path.inode
    marked = inode.mode & (_S_ISUID | _S_ISGID)
    if marked and not path.mount.flags & MNT_NOSUID and not t.process.no_new_privs:
        inode.refresh()  # a write since then has taken them
        known = not is_unmapped(inode.uid, inode.gid)
        if known and inode.mode & _S_ISUID:
            new.euid = inode.uid
        if known and inode.mode & (_S_ISGID | _S_IXGRP) == _S_ISGID | _S_IXGRP:
            new.egid = inode.gid
    new.suid = new.fsuid = new.euid
    new.sgid = new.fsgid = new.egid
    new.caps = Credentials.ALL if new.euid == 0 else 0
    new.keepcaps = False
    return new, new.euid != new.uid or new.egid != new.gid


@syscall("execve")
def sys_execve(t: Task, path: bytes, argv: list[bytes], envp: list[bytes]) -> Exec:
    """execve(2)"""
    return _exec(t, None, path, argv, envp, 0)


@syscall("execveat")
def sys_execveat(
    t: Task, dirfd: FdRef | None, path: bytes, argv: list[bytes], envp: list[bytes], flags: int
) -> Exec:
    """execveat(2)"""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise err(errno.EINVAL)
    return _exec(t, dirfd, path, argv, envp, flags)


def _exec(
    t: Task, start: FdRef | None, path: bytes, argv: list[bytes], envp: list[bytes], flags: int
) -> Exec:
    pending = prepare_program(t, start, path, argv, envp, flags)
    process = t.process
    if process.pending_exec is not None:
        process.pending_exec.close()
    process.pending_exec = pending
    pending.ahead = _goes_ahead(t, pending)
    t.sandbox.loop.when_idle(lambda: _prepare_more(process, pending), first=True)
    return Exec(pending.ahead)


def _goes_ahead(t: Task, pending: PendingExec) -> bool:
    """May the plan be sent before the fresh core asks for it?  What the process may do meanwhile it still does as the
    old program, so the credentials have to be the same; and whoever never executes it is sent no more than one."""
    process, kernel = t.process, t.sandbox
    channel, creds = process.channel, pending.creds
    return (
        channel is not None
        and not process.sent_plan
        and channel.takes_plan_ahead(t.slot)
        and kernel.installed_hooks is None
        and kernel.native_hook is None
        and not process.stop_at_start
        and pending.prepared.is_ordinary
        and creds.sees_as(t.creds)
        and (pending.prepared.ready or not kernel.images.to_wait_for(pending.prepared.program.files()))
    )


def _prepare_more(process: Process, pending: PendingExec) -> None:
    """While the host kernel executes the core: send the plan, or prepare what does not depend on the address space."""
    if process.pending_exec is not pending or pending.asked:
        return
    if pending.ahead:
        _send_ahead(process, pending)
    elif not process.sandbox.images.to_wait_for(pending.prepared.program.files()):
        _find_files(process, pending)


def _send_ahead(process: Process, pending: PendingExec) -> None:
    kernel, channel = process.sandbox, process.channel
    assert channel is not None
    try:
        kernel.traps.ended(process)
        channel.fresh()
        pending.plan = make_plan(process, pending, 0, 0, 0, 0)
        process.sent_plan = True
    except Exception as e:  # it will be made when the core asks
        if not isinstance(e, OSError):
            kernel.report(e, f"while a program was prepared for process {process.pid}")
        try:
            channel.send_no_plan()
        except OSError:
            pass  # it is gone: its end is heard of


def _find_files(process: Process, pending: PendingExec) -> None:
    """Unless that was done: the rewritten text of the program, and what it will open."""
    if not pending.found:
        pending.prepared.program.find_rewrites(process.sandbox.images.for_plan)
        process.sandbox.gifts.prepare(process, pending)
        pending.found = True


# -- the point of no return -----------------------------------------------------------------------------------


def commit_exec(process: Process, stack_top: int, mmap_top: int, vdso: int, personality: int) -> None:
    """The fresh core of `process` has asked for its plan: it gets it, if it has not, and the process becomes the new
    program."""
    pending, process.pending_exec = process.pending_exec, None
    if pending is None:
        raise RuntimeError("a core asked for a plan that nobody made")
    plan = pending.plan
    process.sent_plan = False
    if plan is not None:
        settle(plan, stack_top, mmap_top, vdso)
    else:
        try:
            plan = make_plan(process, pending, stack_top, mmap_top, vdso, personality)
        except BaseException:
            pending.close()
            raise
    process.stop_at_start = False
    _become(process, pending, plan)
    name = pending.prepared.filename if pending.prepared.exe.path == pending.prepared.filename else b""
    process.sandbox.gifts.executed(process, pending.path.inode, name if name.startswith(b"/") else None)


def make_plan(
    process: Process, pending: PendingExec, stack_top: int, mmap_top: int, vdso: int, personality: int
) -> Plan:
    """Make the plan, send it, and close what went with it.  The first two numbers may be 0: see LayoutContext.
    Raises OSError where it could not be sent; nothing is closed then."""
    _find_files(process, pending)  # where the loop had other things to do; each that is missing would be asked for
    kernel, creds, channel = process.sandbox, pending.creds, process.channel
    assert channel is not None
    context = LayoutContext(
        stack_top,
        mmap_top,
        uid=creds.uid,
        euid=creds.euid,
        gid=creds.gid,
        egid=creds.egid,
        secure=pending.secure,
        personality=personality,
        sysinfo_ehdr=vdso,
    )
    plan = pending.prepared.layout(context, kernel.images.for_plan)
    hook = kernel.native_hook
    if hook is not None and hook.is_for(os.fsdecode(kernel.vfs.path_name(pending.path))):
        hook.add_to(plan)
    if plan.fatal is not None:
        kernel.log(f"{os.fsdecode(pending.prepared.filename)}: {plan.fatal}")
    kernel.gifts.ended(process)
    if pending.gifts_epoch != kernel.answers.epoch:
        pending.close_gifts()  # something has changed meanwhile
    pending.given = [gift.wanted for gift in pending.gifts]
    files, gifts = _with_gifts(plan.files, pending.gifts)
    packed = pack_plan(plan, creds, process, gifts, pending.gifts_epoch)
    channel.set_place(0, *kernel.answers.place(creds, pending.task.own_fs or process.fs))
    channel.send_plan(packed, [channel.memfd, kernel.world_fd, *files])
    plan.close()
    pending.close_gifts()
    return plan


def _become(process: Process, pending: PendingExec, plan: Plan) -> None:
    process.gifts, process.first_opens = pending.given, []
    process.exe = pending.path
    process.comm = plan.comm
    process.cmdline = b"".join(a + b"\0" for a in plan.argv)
    process.environ = b"".join(e + b"\0" for e in plan.envp)
    process.auxv = plan.auxv
    process.mm = MmLayout(plan)
    process.main_creds = pending.creds
    own_fs = pending.task.own_fs
    if own_fs is not None:
        process.fs = own_fs
    process.interrupt_all()  # calls of threads that the exec has ended
    process.tasks.clear()
    process.tasks[0] = Task(process, process.pid, 0, pending.creds)


def _with_gifts(files: list[int], gifts: list[Gift]) -> tuple[list[int], list[bytes]]:
    """The descriptors that go to the core, and the gifts as it reads them."""
    files, packed = list(files), []
    for gift in gifts:
        file, image = len(files), -1
        files.append(gift.fd)
        if gift.image is not None:
            image = len(files)
            files.append(gift.image.memfd)
        packed.append(gift.pack(file, image))
    return files, packed


def pack_plan(
    plan: Plan, creds: Credentials, process: Process, gifts: list[bytes], gifts_epoch: int
) -> bytes:
    """The plan as the core reads it: struct ring3_plan, segments, zero ranges, gifts, the stack image."""
    at = OFFSETS["ring3_plan"]
    head = bytearray(SIZES["ring3_plan"])
    struct.pack_into("<4I", head, 0, VERSION, len(plan.segments), len(plan.zero), int(plan.exec_stack))
    gifts_off = len(head) + _SEG.size * len(plan.segments) + 16 * len(plan.zero)
    stack_off = gifts_off + sum(len(gift) for gift in gifts)
    struct.pack_into("<3I", head, at["ngifts"], len(gifts), gifts_off, gifts_epoch)
    struct.pack_into("<5Q", head, at["entry"], plan.entry, plan.sp & _WORD, plan.brk, stack_off, len(plan.stack))
    head[at["comm"] : at["comm"] + 16] = plan.comm[:15].ljust(16, b"\0")
    struct.pack_into("<5I", head, at["creds"], creds.uid, creds.euid, creds.gid, creds.egid, process.initial)
    flags = plan.native_hook, process.no_new_privs, process.stop_at_start
    struct.pack_into("<3I", head, at["native_hook"], *flags)
    if plan.auxv:
        auxv = plan.sp + 8 * (len(plan.argv) + len(plan.envp) + 3)  # behind argc and both vectors with their NULLs
        ends = auxv & _WORD, len(plan.auxv), plan.arg_start & _WORD, plan.arg_end & _WORD, plan.env_end & _WORD
        struct.pack_into("<5Q", head, at["auxv"], *ends)
    parts = [bytes(head)]
    parts += [
        _SEG.pack(s.addr & _WORD, s.length, s.offset, s.prot, s.flags, s.file, s.trampolines) for s in plan.segments
    ]
    parts += [struct.pack("<QQ", addr & _WORD, length) for addr, length in plan.zero]
    parts += gifts
    parts.append(plan.stack)
    return b"".join(parts)
