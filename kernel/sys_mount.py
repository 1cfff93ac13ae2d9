"""Mounts: mount(2), umount2(2), pivot_root(2), and the mount namespaces of unshare(2), setns(2), clone(2).

Layer: the pretend kernel, a family of system calls. May touch: the vfs's mount table, every task's root and working
directory, the host's /proc/PID/fd of guests (who uses a mount).
"""

from __future__ import annotations

import errno
import os

from ..vfs import mountops
from ..vfs.inode import err
from ..vfs.mount import Path
from ..vfs.perm import CAP_SYS_CHROOT
from .handlers import Out, syscall
from .layout import VDIR_DEV
from .sys_signal import pid_of_pidfd

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..vfs.mount import Mount, Namespace
    from .handlers import Result
    from .sandbox import Kernel
    from .task import FdRef, FsStruct, Process, Task

_CLONE_FS, _CLONE_NEWNS, _CLONE_THREAD, _CLONE_FILES, _CLONE_SYSVSEM = 0x200, 0x20000, 0x10000, 0x400, 0x40000
_CLONE_VM, _CLONE_SIGHAND = 0x100, 0x800
#: all that unshare(2) knows: with CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME
_UNSHARE = 0x7E020080 | _CLONE_FS | _CLONE_THREAD | _CLONE_FILES | _CLONE_SYSVSEM | _CLONE_VM | _CLONE_SIGHAND


def everyone(kernel: Kernel) -> Iterator[FsStruct]:
    """Root and working directory of every task, each once."""
    seen = set()
    for process in kernel.processes.values():
        for fs in _own(process):
            if id(fs) not in seen:
                seen.add(id(fs))
                yield fs


def _own(process: Process) -> list[FsStruct]:
    if not process.alive:
        return []
    return [process.fs, *(task.own_fs for task in process.tasks.values() if task.own_fs is not None)]


def busy(kernel: Kernel, mount: Mount) -> bool:
    """Does a process use a mount: as its root or working directory, by a descriptor, or by executing a file of it?

    Of what the host kernel serves we hear no close: who has it open is read from /proc/PID/fd. (A mapping whose
    descriptor is closed is not seen, but for the program's own.)
    """
    for process in kernel.processes.values():
        places = [fs.root for fs in _own(process)] + [fs.cwd for fs in _own(process)]
        if process.exe is not None:
            places.append(process.exe)
        if any(place.mount is mount for place in places) and process.executes():
            return True
    files = kernel.vfs.files
    placeholders, natives = files.of_mount(mount)
    files.settle(placeholders)
    return any(f.sup_fd >= 0 for f in placeholders) or any(ident in natives for ident in held(kernel, natives))


def held(kernel: Kernel, wanted: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The (st_dev, st_ino) of everything that guests have open, if anything is `wanted`."""
    if not wanted:
        return
    for process in list(kernel.processes.values()):
        if not process.alive:
            continue
        for number, _ in process.directories().values():
            yield VDIR_DEV, number
        try:
            names = os.listdir(f"{process.proc}/fd")
        except OSError:
            continue
        for name in names:
            if int(name) >= process.core_fd_min:
                continue  # the core's own: none is what keeps a mount busy
            try:
                st = os.stat(f"{process.proc}/fd/{name}")
            except OSError:
                continue
            yield st.st_dev, st.st_ino


@syscall("mount")
def sys_mount(
    t: Task, source: bytes | None, target: bytes, fstype: bytes | None, flags: int, data: bytes | None
) -> Result:
    """mount(2)"""
    vfs = t.sandbox.vfs
    at = vfs.lookup(t, None, target)
    try:
        mountops.mount(vfs, t, at, source, fstype, flags & 0xFFFFFFFF, data)
    except OSError as e:
        if e.errno == errno.ENODEV:
            name = (fstype or b"").decode("utf-8", "replace")
            t.sandbox.log_once(f"mount: there is no filesystem type {name!r} here (ENODEV)")
        raise
    return 0


@syscall("umount2")
def sys_umount2(t: Task, target: bytes, flags: int) -> Result:
    """umount2(2)"""
    if flags & ~15:
        raise err(errno.EINVAL)
    vfs = t.sandbox.vfs
    at = vfs.lookup(t, None, target, not flags & mountops.UMOUNT_NOFOLLOW)
    gone = mountops.umount(vfs, t, at, flags, lambda mount: busy(t.sandbox, mount))
    if vfs.notify is not None:
        for sb in {id(mount.sb): mount.sb for mount in gone}.values():
            if not vfs.mounts.in_use(sb):
                vfs.notify.unmounted(sb)
    return 0


@syscall("pivot_root")
def sys_pivot_root(t: Task, new: bytes, put_old: bytes) -> Result:
    """pivot_root(2)"""
    mountops.may_mount(t)
    vfs = t.sandbox.vfs
    to, back = vfs.lookup(t, None, new), vfs.lookup(t, None, put_old)
    for place in (to, back):
        if not place.inode.is_dir:
            raise err(errno.ENOTDIR)
    mountops.pivot_root(vfs, t, to, back, everyone(t.sandbox))
    return 0


@syscall("unshare")
def sys_unshare(t: Task, flags: int) -> Result:
    """unshare(2): CLONE_FS and CLONE_NEWNS. What a process with one thread has for itself anyway is granted; other
    namespaces are refused."""
    if flags & ~_UNSHARE:
        raise err(errno.EINVAL)
    if flags & (_CLONE_THREAD | _CLONE_VM | _CLONE_SIGHAND):
        if len(t.process.tasks) > 1:
            raise err(errno.EINVAL)
        flags &= ~(_CLONE_THREAD | _CLONE_VM | _CLONE_SIGHAND)
    if flags & ~(_CLONE_FS | _CLONE_NEWNS | _CLONE_SYSVSEM | _CLONE_FILES) or (
        flags & _CLONE_FILES and len(t.process.tasks) > 1
    ):
        t.sandbox.log(
            f"unshare({flags:#x}): only CLONE_FS and CLONE_NEWNS are supported; refused (EPERM)"
        )
        raise err(errno.EPERM)
    if flags & _CLONE_NEWNS:
        mountops.may_mount(t)
    if flags & (_CLONE_FS | _CLONE_NEWNS):
        t.own_fs = own = t.fs.copy()
        if flags & _CLONE_NEWNS:
            mountops.unshare(t.sandbox.vfs, own)
    return Out(0, creds=True)  # from now on the core tells of new threads


@syscall("setns")
def sys_setns(t: Task, fd: FdRef, kind: int) -> Result:
    """setns(2): into another mount namespace, by its file in /proc/PID/ns or by a pidfd."""
    from ..vfs.procfs.links import OpenNs

    file = t.sandbox.vfs.files.open_file(fd.dev, fd.ino)
    if isinstance(file, OpenNs):
        if kind not in (0, _CLONE_NEWNS):
            raise err(errno.EINVAL)
        ns = file.ns
    else:
        ns = _namespace_of_pidfd(t, fd, kind)
    mountops.may_mount(t)
    if not t.creds.capable(CAP_SYS_CHROOT):
        raise err(errno.EPERM)
    if t.own_fs is None and len(t.process.tasks) > 1:
        raise err(errno.EINVAL)  # threads share root and working directory
    t.own_fs = own = t.fs.copy()
    own.enter(ns)
    root = ns.root
    own.root = own.cwd = t.sandbox.vfs.mounts.cross(Path(root, root.root))
    return Out(0, creds=True)


def _namespace_of_pidfd(t: Task, fd: FdRef, kind: int) -> Namespace:
    """EINVAL for what is no pidfd of the sandbox's; EPERM, with a line in the log, for other namespaces."""
    pid = pid_of_pidfd(t, fd.fd)
    if not pid or not kind:
        raise err(errno.EINVAL)
    process = t.sandbox.processes.get(pid)
    if process is None or not process.alive:
        raise err(errno.ESRCH)
    if kind != _CLONE_NEWNS:
        t.sandbox.log_once(f"setns({kind:#x}): only mount namespaces can be entered; refused (EPERM)")
        raise err(errno.EPERM)
    leader = next((task for task in process.tasks.values() if task.tid == pid), None)
    return (leader.fs if leader is not None else process.fs).mnt_ns or t.sandbox.vfs.mounts.first
