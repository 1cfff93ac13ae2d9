"""The pretend kernel of one sandbox: its processes, its init, its loop, its world page.

Layer: the pretend kernel, on top.  May touch: host processes that it started, their sockets, memfds.
"""

from __future__ import annotations

import errno
import os
import socket
import threading

from ..netstack.network import Network
from .channel import MSG, Channel, valid_slot
from .dispatch import Dispatcher
from .images import Images
from .initproc import Child, Init
from .layout import CONSTANTS
from .loop import Loop, Running
from .task import Credentials, FsStruct, Process, Task
from .traps import Traps
from .watch import Watch
from .world import make_world, note_virtual_uid, use_page_zero, write_uts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..vfs.vfs import Vfs
    from .hooks import Hooks
    from .hooks.filters import Pattern
    from .native_hook import NativeHook

_CLONE_NEWNS = 0x20000
_CLONE_VM, _CLONE_FS, _CLONE_THREAD, _CLONE_PARENT = 0x100, 0x200, 0x10000, 0x8000


class Kernel:
    """See the module's text.

    Arguments: `vfs` the tree; `hostname` for uname(2); `log` gets one line per thing the user should know; `core` the
    path of the guest core; `trace` a callable that gets one line per call, or None; `rewrite` one of images.MODES.
    """

    def __init__(
        self,
        vfs: Vfs,
        *,
        hostname: str | None = None,
        log: Callable[[str], None],
        core: str | None = None,
        trace: Any = None,
        rewrite: str = "detour",
    ) -> None:
        self.vfs = vfs
        self.log = log
        self.lock = threading.RLock()
        self.loop = Loop(self.lock, self._loop_failed)
        vfs.files.loop = self.loop
        self.processes: dict[int, Process] = {}
        self.current: Task | None = None
        uts = os.uname()
        self.hostname = hostname or uts.nodename
        self.domainname = "(none)"
        self._core = core
        self._trace = trace
        self._thread: threading.Thread | None = None
        self._closed = False
        self._said: set[str] = set()
        self._next_token = 0
        self.net = Network(self.loop, self.log_once)
        self._forks: dict[int, Process] = {}
        self._spare: tuple[Channel, socket.socket] | None = None
        self._spawns: dict[int, Child] = {}
        self.init_pid = 0
        self.core_ident = (0, 0)  # of the core's file, for /proc/PID/maps
        self.dispatcher = Dispatcher(self)
        self.watch = Watch(self._serve, lambda process: self._guest_says(process, 0))
        self.images = Images(self, rewrite)
        self.traps = Traps(self, self.images)
        self._hooks: Hooks | None = None
        self.native_hook: NativeHook | None = None

    @property
    def hooks(self) -> Hooks:
        """Hooks, faults and the trace; imported when the first is wanted."""
        if self._hooks is None:
            from .hooks import Hooks

            self._hooks = Hooks(self)
        return self._hooks

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start init and the loop.  Raises OSError when the core cannot be executed, or CoreBuildError."""
        from . import families  # noqa: F401  (registers the handlers)

        if self._core is None:
            from ..core_native.build import core_path

            self._core = core_path()
        self._init = Init(self._core, self._started, self._init_died)
        self.init_pid, self.core_ident = self._init.pid, self._init.core_ident
        self._make_world()
        self._init.watch(self.loop)
        self._thread = threading.Thread(target=self.loop.run, args=(self.watch,), name="ring3", daemon=True)
        self._thread.start()

    def _make_world(self) -> None:
        self.world, self._world_fd = make_world(self.init_pid)
        self.write_uts()
        self.traps.publish()
        if self.images.page_zero:
            use_page_zero(self.world)
        if self._trace is not None:
            from .trace import start

            start(self, self._trace)
        if self._hooks is not None:
            self._hooks.publish()
        if self.native_hook is not None:
            self.native_hook.install(self.world)

    def write_uts(self) -> None:
        """Put uname(2)'s fields into the world page."""
        write_uts(self.world, self.hostname, self.domainname)

    def close(self) -> None:
        """Kill every guest and free everything.  May be called twice, from any thread."""
        if self._closed:
            return
        self._closed = True
        if self._thread is None:
            return
        self._init.end()
        self.loop.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with self.lock:
            self.traps.flush()
            self.images.close()
            self._end_spawns()
            self._init.end_children(9)
            for process in [*self.processes.values(), *self._forks.values()]:
                self._free(process)
            self.processes.clear()
            self.loop.finish()
            if self._spare is not None:
                self._spare[0].close()
                self._spare[1].close()
            self.net.close()
            self.vfs.files.close()
            self._init.close()
            os.close(self._world_fd)
            self.world.close()
            if self.native_hook is not None:
                self.native_hook.close()
            self.loop.close()

    def log_once(self, message: str) -> None:
        """Log a line that would otherwise come again and again."""
        if message not in self._said:
            self._said.add(message)
            self.log(message)

    def descriptor_class(self, dev: int, ino: int) -> int:
        """CLASS_* of a socket of the host: 0 where the host kernel may do with it what a guest asks."""
        if self.vfs.files.open_file(dev, ino) is not None:
            return CONSTANTS["CLASS_SUPERVISED"]
        return self.net.descriptor_class(dev, ino)

    def report(self, failure: BaseException, where: str) -> None:
        """An error of ours: one line and its traceback for the log."""
        import traceback

        self.log(
            f"internal error {where}: {failure!r}\n{''.join(traceback.format_exception(failure)).rstrip()}"
        )

    def _loop_failed(self, failure: BaseException) -> None:
        self.report(failure, "in the event loop")

    # -- starting programs ----------------------------------------------------------------------------------

    def spawn(
        self,
        path: bytes,
        argv: list[bytes],
        env: list[bytes],
        *,
        cwd: bytes = b"/",
        stdio: tuple[int, int, int],
        creds: Credentials,
        new_session: bool = False,
        ctty: bool = False,
        new_pgrp: bool = False,
        ignored: int = 0,
        umask: int = 0o22,
        stopped: bool = False,
    ) -> Child:
        """Start a program with the host descriptors `stdio` (-1: closed).  Raises OSError as execve(2).

        `stopped`: it stops (SIGSTOP) before its first instruction, and any process of the user may trace it.
        """
        from .sys_exec import prepare_program

        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a hook cannot start a program in its own sandbox: the sandbox waits for the hook"
            )
        with self.lock:
            self.note_uid(creds.uid)
            fs = FsStruct(self.vfs.root, self.vfs.root, umask)
            process = self._new_process(fs, creds)
            process.initial = True
            process.stop_at_start = stopped
            task = Task(process, 0, 0, creds)
            try:
                fs.cwd = self.vfs.lookup(task, None, cwd)
                process.pending_exec = prepare_program(task, None, path, argv, env, 0)
                theirs = self._open_channel(process)
            except BaseException:
                self._forks.pop(process.token, None)
                self._free(process)
                raise
            child = Child(process)
            self._spawns[process.token] = child
        flags = CONSTANTS["SPAWN_NEW_SESSION"] if new_session else 0
        flags |= (CONSTANTS["SPAWN_CTTY"] if ctty else 0) | (CONSTANTS["SPAWN_NEW_PGRP"] if new_pgrp else 0)
        self._init.spawn(process.token, flags, ignored, stdio, theirs)
        child.started.wait()
        if child.error:
            raise OSError(child.error, os.strerror(child.error))
        return child

    def group_got(self, sig: int, sender: int) -> bool:
        """Init.group_got()"""
        return self._init.group_got(sig, sender)

    def _started(self, token: int, pid: int, error: int) -> None:
        """Init has started a program, or could not."""
        child = self._spawns.pop(token, None)
        process = self._forks.get(token) or next(
            (p for p in self.processes.values() if p.token == token), None
        )
        if child is None or process is None:
            return
        if pid < 0:
            child.error = error
            self._forks.pop(token, None)
            self._free(process)
        else:
            self._register(process, pid)
            self._init.adopt(pid, child)
        child.started.set()

    def _init_died(self) -> None:
        """Somebody killed init: the guests that we know of go with it."""
        self.log("the sandbox's init was killed; ending every guest")
        import signal

        for process in list(self.processes.values()):
            try:
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            except OSError:
                pass
        self._end_spawns()

    def _end_spawns(self) -> None:
        """Programs that init was asked for and will not start any more."""
        for child in self._spawns.values():
            child.ended(9)
            child.started.set()
        self._spawns.clear()

    # -- processes ------------------------------------------------------------------------------------------

    def _new_process(self, fs: FsStruct, creds: Credentials) -> Process:
        self._next_token += 1
        process = Process(self, fs, creds, self._next_token)
        self._forks[process.token] = process
        return process

    def _open_channel(self, process: Process) -> socket.socket:
        """Give a process its channel; returns the guest's end of the socket, which the caller closes."""
        spare, self._spare = self._spare, None
        channel, theirs = spare or self._make_channel()
        process.channel = channel
        self.loop.add(channel.sock.fileno(), lambda events: self._guest_says(process, events))
        return theirs

    @staticmethod
    def _make_channel() -> tuple[Channel, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            return Channel(ours), theirs
        except OSError:
            ours.close()
            theirs.close()
            raise

    def _keep_spare(self) -> None:
        """Where one process was forked another will be; its channel is made while nobody waits for it."""
        if self._spare is None and not self._closed:
            try:
                self._spare = self._make_channel()
            except OSError:
                pass  # who needs one hears of it

    def _register(self, process: Process, pid: int) -> None:
        """A process's pid is known."""
        if process.pid or not process.alive:
            return
        process.pid = pid
        stale = self.processes.get(pid)
        if stale is not None and stale is not process:
            self._free(stale)
        try:
            process.pidfd = os.pidfd_open(pid)
        except OSError:
            pass  # it has ended and was waited for already
        self.processes[pid] = process
        self._forks.pop(process.token, None)

    def knows(self, pid: int) -> bool:
        """Is `pid` a process or thread of this sandbox (a zombie included)?"""
        process = self.processes.get(pid)
        if process is not None:
            if process.alive or process.exists():
                return True
            self._forget(process)
            return False
        return any(task.tid == pid for p in self.processes.values() for task in p.tasks.values())

    def use_native_hook(
        self, path: str, names: Iterable[str | int] = ("*",), program: Pattern = None
    ) -> None:
        """Programs that start from now on run with the native hook `path` around the calls `names`.

        `program`: patterns of the programs that do.  Raises UsageError for a file that is no hook, or when there is one
        already.
        """
        from ..errors import UsageError
        from .native_hook import NativeHook

        if self.native_hook is not None:
            raise UsageError(f"the sandbox has a native hook already: {self.native_hook.path}")
        self.native_hook = NativeHook(path, names, program)
        if self._thread is not None:
            self.native_hook.install(self.world)

    def uid_of(self, pid: int, asking: Task) -> int:
        """The real uid of a process for a siginfo: what guests see, not the host's."""
        process = self.processes.get(pid)
        return process.main_creds.uid if process is not None else asking.creds.uid

    def note_uid(self, uid: int) -> None:
        """Some guest runs as `uid`: from when it is not the host's, the core asks before it shows a sender's uid."""
        if uid != os.getuid():
            note_virtual_uid(self.world)

    def prepare_fork(self, task: Task, flags: int) -> None:
        """A clone(2) without CLONE_THREAD is about to be made: the child's socket and channel go out."""
        parent = task.process
        channel = parent.channel
        assert channel is not None
        if flags & _CLONE_NEWNS and not task.creds.capable(21):  # CAP_SYS_ADMIN
            channel.reply(task.slot, task.request, -errno.EPERM)
            return
        fs = task.fs if flags & _CLONE_FS else task.fs.copy()
        if flags & _CLONE_NEWNS:
            from ..vfs.mountops import unshare

            unshare(self.vfs, fs)
        try:
            child = self._new_process(fs, task.creds)
            theirs = self._open_channel(child)
        except OSError as e:
            self._forks.pop(self._next_token, None)
            channel.reply(
                task.slot, task.request, -(errno.EAGAIN if e.errno == errno.EMFILE else e.errno or errno.EIO)
            )
            return
        child.parent = parent.parent if flags & _CLONE_PARENT else parent
        for name in ("exe", "comm", "cmdline", "environ", "auxv", "mm", "dumpable", "trapped"):
            setattr(child, name, getattr(parent, name))
        assert child.channel is not None
        try:
            channel.send_fds(task.slot, [theirs.fileno(), child.channel.memfd])
        except BrokenPipeError:
            return  # the parent was killed meanwhile; with `theirs` closed, the child's channel goes too
        finally:
            theirs.close()
        channel.reply(task.slot, task.request, child.token, CONSTANTS["ACT_FD"])
        self.loop.when_idle(self._keep_spare)

    # -- messages of guests ---------------------------------------------------------------------------------

    def _guest_says(self, process: Process, events: int) -> None:
        """Read what a guest sent: doorbells mostly."""
        channel = process.channel
        if channel is None or channel.closed:
            return
        sock = channel.sock
        for _ in range(64):  # then the others have their turn
            try:
                data = sock.recv(MSG.size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if len(data) != MSG.size:
                self._gone(process)
                return
            kind, slot, a, b, c, d = MSG.unpack(data)
            if kind == 1:
                # It may come late, after its request was seen in the slot itself.  A further one there is not
                # its business: what the guest said before that one (of a fork, say) may stand behind this ring.
                number = a & 0xFFFFFFFF
                if valid_slot(slot) and channel.latest(slot) == number != channel.taken.get(slot):
                    self._serve(process, slot, number)
                if channel.closed:
                    return
                continue
            if kind != 3:
                channel.received = channel.received + 1 & 0xFFFFFFFF
            if kind == 2:
                self.dispatcher.interrupt(process, slot, a & 0xFFFFFFFF)
            elif kind == 3:
                self._hello(process, a, b, c, d, slot)
            elif kind == 4:
                self._forked(process, a, b)
            elif kind == 5:
                self._register(process, a)
            elif kind == CONSTANTS["MSG_SIGNAL"]:
                if self._hooks is not None:
                    self._hooks.signalled(process, slot, (a, b, c, d))
            elif kind == CONSTANTS["MSG_UNSUPPORTED"]:
                name = process.comm.decode("utf-8", "replace")
                self.log_once(f"seccomp: no listener (SECCOMP_FILTER_FLAG_NEW_LISTENER) for {name}; refused (EINVAL)")
            elif kind == 6:
                name = process.comm.decode("utf-8", "replace")
                self.log_once(f"{name}: calls by int 0x80 (the 32-bit interface) are not supported; ENOSYS")
            if channel.closed:
                return

    def _serve(self, process: Process, slot: int, number: int) -> None:
        """Take request `number` of a slot."""
        channel = process.channel
        assert channel is not None
        channel.taken[slot] = number
        if slot not in channel.hot:
            self.watch.add(process, channel, slot)
        self.dispatcher.serve(process, slot, number)

    def _forked(self, parent: Process, pid: int, token: int) -> None:
        """A parent's word on its fork: the child's pid, or 0 when it failed."""
        child = self._forks.get(token)
        if child is None:
            return
        if pid:
            self._register(child, pid)
        else:
            del self._forks[token]
            self._free(child)

    def _hello(
        self, process: Process, stack_top: int, mmap_top: int, pid: int, vdso: int, personality: int
    ) -> None:
        """A fresh core asks for its plan: this is where execve(2) takes effect."""
        if process.channel is not None:
            process.channel.fresh()
        if not process.pid:
            self._register(process, pid)
        self.traps.ended(process)
        pending = process.pending_exec
        waiting = self.images.to_wait_for((pending.prepared.exe, pending.prepared.interp)) if pending else []
        if waiting:

            async def later() -> None:
                for analysis in waiting:
                    await analysis.wait()
                if process.pending_exec is pending:  # else it was killed meanwhile
                    self._commit(process, stack_top, mmap_top, vdso, personality)

            Running(later(), lambda _result, failure: self._loop_failed(failure) if failure else None)
        else:
            self._commit(process, stack_top, mmap_top, vdso, personality)

    def _commit(self, process: Process, stack_top: int, mmap_top: int, vdso: int, personality: int) -> None:
        from .sys_exec import commit_exec

        try:
            if self._hooks is not None:
                self._hooks.executed(process)
            commit_exec(process, stack_top, mmap_top, vdso, personality, self._world_fd)
        except BrokenPipeError:
            self._gone(process)  # killed meanwhile
        except BaseException as e:
            self.report(e, f"while starting a program in process {process.pid}")
            self._kill(process)

    def _kill(self, process: Process) -> None:
        import signal

        if process.pidfd >= 0:
            try:
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            except OSError:
                pass
        self._gone(process)

    def _gone(self, process: Process) -> None:
        """The last copy of a process's socket is closed: it has ended (a zombie may remain)."""
        process.alive = False
        process.interrupt_all()
        self.traps.ended(process)
        if self._hooks is not None:
            self._hooks.gone(process)
        self.vfs.pool.reap()  # files that were unlinked while it had them open
        self._free_channel(process)
        self._forks.pop(process.token, None)
        process.tasks.clear()
        if len(self.vfs.mounts.namespaces) > 1:
            process.fs = FsStruct(self.vfs.root, self.vfs.root, process.fs.umask)  # a zombie is in no namespace
            self.vfs.mounts.reap()
        for other in list(self.processes.values()):
            if other.parent is process:
                other.parent = None
        if process.pid and process.pidfd >= 0 and self.processes.get(process.pid) is process:
            # Until it is waited for it has a pid, which may be signalled; then the pidfd says so.
            self.loop.call_later(1.0, lambda: self._reap_check(process, 1.0))

    def _reap_check(self, process: Process, delay: float) -> None:
        if self.processes.get(process.pid) is not process:
            return
        if process.exists():
            delay = min(delay * 2, 60.0)
            self.loop.call_later(delay, lambda: self._reap_check(process, delay))
        else:
            self._forget(process)

    def _forget(self, process: Process) -> None:
        if self.processes.get(process.pid) is process:
            del self.processes[process.pid]
        self._free(process)

    def _free_channel(self, process: Process) -> None:
        channel, process.channel = process.channel, None
        if channel is not None:
            self.loop.remove(channel.sock.fileno())
            self.watch.forget(channel)
            if self._closed:
                channel.close()
            else:
                self.loop.when_idle(channel.close)
        if process.pending_exec is not None:
            process.pending_exec.close()
            process.pending_exec = None

    def _free(self, process: Process) -> None:
        process.alive = False
        self._free_channel(process)
        if process.pidfd >= 0:
            os.close(process.pidfd)
            process.pidfd = -1
