"""The pretend kernel of one sandbox: its processes, its init, its loop, its world page.

Layer: the pretend kernel, on top.  May touch: host processes that it started, their sockets, memfds.
"""

from __future__ import annotations

import errno
import os
import threading

from ..netstack.network import Network
from .answers import Answers
from .directories import Directories
from .dispatch import Dispatcher
from .drafts import Drafts
from .gifts import Gifts
from .guests import Guests
from .images import Images
from .initproc import Child, Init
from .layout import CONSTANTS
from .limits import Limits
from .loop import Loop
from .pidns import PidNamespace
from .task import Credentials, FsStruct, Task
from .traps import Traps
from .userlog import UserLog
from .world import make_world, note_init, note_virtual_uid, use_page_zero, write_uts
from .worldlock import WorldLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..vfs.vfs import Vfs
    from .hooks import Hooks
    from .hooks.filters import Pattern
    from .native_hook import NativeHook
    from .sys_shm import SharedMemory
    from .telling import Teller
    from .usage import Usage
    from .watchdog import Watchdog


#: internal errors that are told of, and lines that are told once each
MOST_REPORTS = 32
NO_LIMITS = Limits()
_CAP_SYS_RAWIO = 1 << 17  # to map page zero (vm.mmap_min_addr)


class Kernel:
    """See the module's text.

    Arguments: `vfs` the tree; `hostname` for uname(2); `log` gets one line per thing the user should know; `core` the
    path of the guest core; `trace` a callable that gets one line per call, or None; `rewrite` one of images.MODES;
    `lockdown`: guests' processes may ask the host for nothing but what kernel/lockdown.py lists; `require` the least
    that it has to come to, one of locklevels.LEVELS; `limits` what guests may use.
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
        lockdown: bool = True,
        require: str = "none",
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.vfs = vfs
        self.log = UserLog(log)
        self.lock = WorldLock()
        self.loop = Loop(self.lock.beneath, self._loop_failed)
        vfs.files.loop = self.loop
        self.current: Task | None = None
        uts = os.uname()
        self.hostname = hostname or uts.nodename
        self.domainname = "(none)"
        self._core = core
        self._lockdown, self._require = lockdown, require
        self._limits = limits
        self.pids = limits.most_pids()
        self._trace = trace
        self._thread: threading.Thread | None = None
        self._closed = False
        self._reports = 0
        self.net = Network(self)
        self._spawns: dict[int, Child] = {}
        self._init_made, self._world_made = threading.Event(), threading.Event()
        self._init_failure: BaseException | None = None
        self.init_pid = 0
        self.pid_ns = PidNamespace()
        self.core_ident = (0, 0)  # of the core's file, for /proc/PID/maps
        self.dispatcher = Dispatcher(self)
        self.guests = Guests(self)
        self.processes = self.guests.processes
        self.answers = Answers(self)
        self.directories = Directories(self)
        self.drafts = Drafts(self)
        self.gifts = Gifts(self)
        self.images = Images(self, rewrite)
        self.traps = Traps(self, self.images)
        self._shm: SharedMemory | None = None
        self._hooks: Hooks | None = None
        self._dog: Watchdog | None = None
        self._teller: Teller | None = None
        self.usage: Usage | None = None
        self.native_hook: NativeHook | None = None

    @property
    def hooks(self) -> Hooks:
        """Hooks, faults and the trace; imported when the first is wanted."""
        if self._hooks is None:
            from .hooks import Hooks

            self._hooks = Hooks(self)
            self.answers.forget()  # of what a hook may want to hear
        return self._hooks

    @property
    def shm(self) -> SharedMemory:
        """System V shared memory."""
        if self._shm is None:
            from .sys_shm import SharedMemory

            self._shm = SharedMemory(self)
        return self._shm

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start init and the loop.  Raises OSError when the core cannot be executed, or CoreBuildError."""
        from . import families  # noqa: F401  (registers the handlers)

        if self._core is None:
            from ..core_native.build import core_path

            self._core = core_path()
        self._thread = threading.Thread(target=self._run, name="ring3", daemon=True)
        self._thread.start()
        self._init_made.wait()
        if self._init_failure is not None:
            self._thread = None
            raise self._init_failure
        self.core_ident = self._init.core_ident
        try:
            self._make_world()
            self._settle()
        except BaseException:
            self._init.end()
            self.loop.stop()
            self._thread = None
            raise
        finally:
            self._world_made.set()

    def _run(self) -> None:
        """The loop's thread: it makes init, which has to have a parent that lives as long."""
        assert self._core is not None
        kept = (_CAP_SYS_RAWIO if self.images.page_zero else 0) if self._lockdown else None
        try:
            self._init = Init(self._core, kept, self._limits.nofile, self._started, self._init_died)
        except BaseException as e:
            self._init_failure = e
            return
        finally:
            self._init_made.set()
        self._world_made.wait()
        self.loop.run(self.guests.watch, self._watchdog)

    def _watchdog(self) -> bool:
        """Some seconds after work: is all of it done?  True where another look is wanted."""
        if self._dog is None:
            from .watchdog import Watchdog

            self._dog = Watchdog(self)
        return self._dog.look()

    def _be_told(self) -> None:
        """From now on `ring3 ps` and `ring3 net` may ask."""
        if not self._closed:
            from .telling import Teller

            try:
                self._teller = Teller(self)
            except (RuntimeError, MemoryError) as e:  # no thread
                self.log(f"ring3 ps and ring3 net cannot ask this sandbox: {e}")

    def _settle(self) -> None:
        """Wait until init is ready; then its pid is known."""
        self._check_level(self._init.settle())
        self._limits.put_on(self._init.pid)
        self.init_pid, self.pid_ns = self._init.guest_pid, self._init.pid_ns
        note_init(self.world, self.init_pid)
        self._init.watch(self.loop)
        self.loop.when_idle(self._be_told)
        if self._limits.cpu_time is not None or self._limits.memory is not None:
            self.loop.call_soon_threadsafe(self._watch_usage)

    def _watch_usage(self) -> None:
        from .usage import Usage

        self.usage = Usage(self, self._init.pid, self._limits.cpu_time, self._limits.memory)

    def _check_level(self, bits: int) -> None:
        """Raises SandboxError where the host gives less than is required."""
        from .locklevels import LEVELS, lacks, level_of

        if self._lockdown and LEVELS["filter"] & ~bits:
            self.log(f"lock-down: the host refuses {' and '.join(lacks(bits, 'filter'))}")
        if LEVELS[self._require] & ~bits:
            from ..errors import SandboxError

            raise SandboxError(
                f"the lock-down comes to {level_of(bits)} here, and {self._require} is required: there is not "
                + ", nor ".join(lacks(bits, self._require))
            )

    def _make_world(self) -> None:
        self.world, self.world_fd = make_world()
        self.answers.start(self.world)
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

    def set_hostname(self, hostname: str) -> None:
        """Be called `hostname` from now on."""
        self.hostname = hostname
        if self._thread is not None:
            self.write_uts()

    def close(self) -> None:
        """Kill every guest and free everything.  May be called twice, from any thread."""
        if self._closed:
            return
        self._closed = True
        if self._thread is None:
            return
        self._init.end()
        with self.lock:
            if self._teller is not None:
                self._teller.close()
        self.loop.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        if self._teller is not None:
            self._teller.join()
        self.net.close_services()
        with self.lock:
            self.traps.flush()
            self.images.close()
            self._end_spawns()
            self._init.end_children(9)
            self.guests.close()
            self.loop.finish()
            self.net.close()
            if self._shm is not None:
                self._shm.close()
            self.vfs.files.close()
            self._init.close()
            os.close(self.world_fd)
            self.answers.close()
            self.gifts.drop()
            self.world.close()
            if self.native_hook is not None:
                self.native_hook.close()
            self.loop.close()

    def log_once(self, message: str) -> None:
        """Log a line that would otherwise come again and again."""
        self.log.once(message)

    def descriptor_class(self, dev: int, ino: int) -> int:
        """CLASS_* of a socket of the host: 0 where the host kernel may do with it what a guest asks."""
        if self.vfs.files.open_file(dev, ino) is not None:
            return CONSTANTS["CLASS_SUPERVISED"]
        return self.net.descriptor_class(dev, ino)

    def report(self, failure: BaseException, where: str) -> None:
        """An error of ours: one line and its traceback for the log; a guest that brings about many fills no disk."""
        self._reports += 1
        if self._reports > MOST_REPORTS:
            self.log_once(f"there were more than {MOST_REPORTS} internal errors; further ones are not told")
            return
        if isinstance(failure, MemoryError):
            self.log(f"there was not enough memory {where}")
            return
        try:
            import traceback

            details = "".join(traceback.format_exception(failure)).rstrip()
        except Exception:  # there may be no memory for it
            details = ""
        self.log(f"internal error {where}: {failure!r}", details)

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
            process = self.guests.new(fs, creds)
            process.initial = True
            process.stop_at_start = stopped
            task = Task(process, 0, 0, creds)
            try:
                fs.cwd = self.vfs.lookup(task, None, cwd)
                if not fs.cwd.inode.is_dir:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                process.pending_exec = prepare_program(task, None, path, argv, env, 0)
                theirs = self.guests.open_channel(process)
            except BaseException:
                self.guests.unborn(process)
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
        process = self.guests.by_token(token)
        if child is None or process is None:
            return
        if pid < 0:
            child.error = error
            self.guests.unborn(process)
        else:
            self.guests.register(process, pid)
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

    # -- what others ask ------------------------------------------------------------------------------------

    @property
    def installed_hooks(self) -> Hooks | None:
        """The hooks, if there were ever any."""
        return self._hooks

    def knows(self, pid: int) -> bool:
        """Is `pid` a process or thread of this sandbox (a zombie included)?"""
        return self.guests.knows(pid)

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
