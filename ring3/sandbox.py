"""Sandbox: a world and the guests that run in it.

Part of: ring3 (the front door). May touch: the kernel side through kernel.sandbox, the tree through vfs.

This module is on the command line's start-up path: it imports next to nothing.
"""

from __future__ import annotations

import errno
import os
import threading

from . import world
from .errors import (
    ExecError,
    ProgramNotExecutable,
    ProgramNotFound,
    SandboxClosed,
    SandboxError,
    UnsupportedHost,
    UsageError,
)
from .hooking import Hooking
from .host import sud_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from .file_report import FileReport
    from .kernel.initproc import Child
    from .kernel.sandbox import Kernel
    from .networking import Net
    from .process import CompletedProcess, Popen, Stream
    from .taskinfo import TaskInfo
    from .vfs.boxfiles import BoxFiles, Diff, Snapshot
    from .vfs.image import Image
    from .vfs.pydevice import Device
    from .vfs.tree import TreePath
    from .world import MountSpec, User

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Sandbox(Hooking):
    """A world made in Python, and the programs that run in it; a context manager.

    Arguments:
        root: what the guests see at "/": the host's root copy-on-write by default; a host directory, seen
            copy-on-write; a tar or zip archive; None for an empty filesystem in memory; or a filesystem object of
            ring3.vfs.
        image: instead of a root, an OCI layout or a `docker save` archive on the host (`PATH#NAME` if it holds
            several), or a ring3.vfs.image.Image. Environment, user and working directory are then the image's,
            unless given; the user is root where the image names none.
        mounts: {guest path: what}; see ``mount``.
        user: who the guests are: a uid, (uid, gid), or "uid[:gid]" (names of the guest's /etc/passwd work
            too). The caller by default.
        env: the guests' environment. By default the caller's if the host's root is seen, else only PATH,
            HOME and TERM.
        hostname: what uname(2) tells; the host's by default.
        cwd: where guests start; the caller's directory if the world has it, else "/".
        rewrite: "detour" rewrites system call sites before they run; "zpoline" does so by way of
            page zero (docs/loader.md); "off" lets every call trap.
        lockdown: guests' processes have no privilege on the host and may ask it for little (docs/lockdown.md); False
            is for who looks for the reason of a difference.
        require: the least level of lock-down that will do: "filter", "scoped" or "full"; SandboxError when the first
            program starts and the host gives less.
        pids: how many processes there may be at once; fork(2) beyond that is EAGAIN. None: 4096, or fewer where the
            caller may have few descriptors.
        memory: bytes that each process alone may write (RLIMIT_DATA), or "512m"; ENOMEM beyond that. And what all have
            in memory together; when it is more, the process with the most is killed.
        nofile: descriptors that each process may have.
        cpu_time: seconds of processor time that each process may take, and all together; then they get SIGXCPU, and
            SIGKILL.
        tmpfs_size: bytes, or "64m", that all files in memory may take together; a filesystem with a size of its own
            does not count. ENOSPC beyond that.
        trace: a writable text file that gets one line for each system call, or a callable that gets the line.
        log: gets one line for each thing that the user should know (a call that is not supported, ...); the
            "ring3" logger by default.

    Every sandbox is a world of its own: several may live in one process, used from several threads.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | object | None = "/",
        *,
        image: str | os.PathLike[str] | Image | None = None,
        mounts: Mapping[str, MountSpec] | None = None,
        user: User | None = None,
        env: Mapping[str, str] | None = None,
        hostname: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        trace: Any = None,
        rewrite: str = "detour",
        lockdown: bool = True,
        require: str = "none",
        pids: int | None = None,
        memory: int | str | None = None,
        nofile: int | None = None,
        cpu_time: float | None = None,
        tmpfs_size: int | str | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        from .kernel.sandbox import Kernel

        if hostname is not None and len(os.fsencode(hostname)) > 64:  # __NEW_UTS_LEN
            raise UsageError(f"the hostname {hostname!r} is longer than 64 bytes")
        self._closed = self._started = False
        self._starting = threading.Lock()
        self._cwd = os.fspath(cwd) if cwd is not None else None
        self.image: Image | None = None
        self._files: BoxFiles | None = None
        self._net: Net | None = None
        if image is not None:
            if root != "/":
                raise UsageError("a sandbox has a root or an image, not both")
            self.image = world.open_image(image)
            root = self.image.filesystem()
            self._cwd = self._cwd or self.image.cwd
            user = user if user is not None else self.image.user or (0, 0)
        self.env: dict[str, str] = dict(env) if env is not None else world.environment(root, self.image)
        self.vfs, self._standard = world.make_vfs(root, tmpfs_size)
        write = getattr(trace, "write", trace)
        self._kernel = Kernel(
            self.vfs, hostname=hostname, log=log or _log, trace=write, rewrite=rewrite, lockdown=lockdown,
            require=require, limits=world.limits(pids, memory, nofile, cpu_time),
        )  # fmt: skip
        self._standard.bind(self._kernel)
        self.lock = self._kernel.lock
        try:
            for path, what in (mounts or {}).items():
                self.mount(path, what)
            self.creds = world.credentials(user, self._read_guest_file)
            if self.image is not None:
                world.prepare_image(self.vfs, self.image, hostname or os.uname().nodename)
                if env is None:
                    self.env.setdefault("HOME", world.home_of(self.creds, self._read_guest_file))
        except BaseException:
            self._free()
            raise

    def native_hook(
        self,
        path: str | os.PathLike[str],
        calls: Sequence[str | int] = ("*",),
        program: str | Sequence[str] | None = None,
    ) -> None:
        """Run programs that are started from now on with a native hook around ``calls`` ("*": all).

        ``path`` is what ring3.native.compile() made; ``calls`` and ``program`` are those of ``hook``: without
        ``program`` every program has it. Raises UsageError for a file that is no native hook.
        """
        with self.lock:
            self._kernel.use_native_hook(os.fspath(path), calls, program)

    # ---- the world

    def mount(self, path: str | os.PathLike[str], what: MountSpec, mode: str | None = None) -> None:
        """Mount ``what`` at the guest's ``path``, which is made if it is not there.

        ``what`` is a host directory or file, or a filesystem object of ring3.vfs. ``mode`` for a host path:
        "cow" (the default: writes stay in memory), "ro", or "rw" (writes reach the host); for a filesystem
        object: "cow" (an overlay over it takes the writes) or "ro". Raises SandboxError if the host path does
        not exist or the mode is unknown.
        """
        if self._closed:
            raise SandboxClosed("the sandbox is closed")
        with self.lock:
            world.mount(self.vfs, os.fspath(path), what, mode)

    def mount_tmpfs(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | str | None = None,
        nr_inodes: int | str | None = None,
    ) -> None:
        """Mount an empty filesystem in memory, which everybody may write, at the guest's ``path``.

        ``size`` and ``nr_inodes`` limit it as tmpfs(5)'s options do (bytes and inodes, or "64m", "10%"): beyond them
        guests get ENOSPC. Raises SandboxError where the host cannot enforce a size.
        """
        from .vfs.memfs import MemoryFS

        try:
            filesystem = MemoryFS(size=size, nr_inodes=nr_inodes)
        except (OSError, ValueError) as e:
            raise SandboxError(f"mount on {os.fspath(path)}: {getattr(e, 'strerror', None) or e}") from None
        self.mount(path, filesystem)

    def device(self, path: str | os.PathLike[str], device: Device, mode: int = 0o666) -> None:
        """Make a character device at the guest's ``path``, which ``device`` (see ring3.vfs.pydevice.Device) serves.

        Raises SandboxError if the node cannot be made.
        """
        from .vfs.pydevice import add_device

        with self.lock:
            try:
                add_device(self.vfs, os.fsencode(path), device, mode)
            except OSError as e:
                raise SandboxError(f"cannot make the device {os.fspath(path)}: {e.strerror}") from None

    @property
    def root(self) -> TreePath:
        """The guest's "/" as a pathlib-shaped path: read, write and iterate, while guests run and after."""
        from .vfs.tree import TreePath

        return TreePath(self.vfs, lock=self.lock)

    @property
    def fs(self) -> BoxFiles:
        """The files as a whole: ``fs.snapshot()``, ``fs.restore()``, ``fs.diff()``, ``fs.export()``."""
        if self._files is None:
            from .vfs.boxfiles import BoxFiles

            self._files = BoxFiles(self.vfs, self.lock)
        return self._files

    def snapshot(self) -> Snapshot:
        """The state of all files that are written in memory; see ``ring3.vfs.boxfiles.BoxFiles``."""
        return self.fs.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Put all files back as they were in a snapshot, also while guests run."""
        self.fs.restore(snapshot)

    def diff(self, since: Snapshot | None = None) -> Diff:
        """What was added, changed and deleted, since a snapshot or at all."""
        return self.fs.diff(since)

    def export(
        self, file: str | os.PathLike[str], path: str | os.PathLike[str] = "/", **options: Any
    ) -> None:
        """Write a directory of the world, or its ``changes=True``, as a tar archive."""
        self.fs.export(file, path, **options)

    def report_files(self) -> FileReport:
        """Record from now on what guests read, write, ask about and miss; see ``FileReport``. While it records, every
        call that names a file goes through Python."""
        from .file_report import FileReport

        return FileReport(self)

    def write_file(self, path: str, content: bytes | str) -> None:
        """Write a file into the world, making its folders; it belongs to the sandbox's user."""
        world.write_file(self, path, content.encode() if isinstance(content, str) else content)

    @property
    def net(self) -> Net:
        """The network that guests see: ``net.serve()``, ``net.asgi()``, ``net.mock()``, ``net.record()``, ..."""
        if self._net is None:
            from .networking import Net

            self._net = Net(self)
        return self._net

    # ---- guests

    def tasks(self) -> list[TaskInfo]:
        """Every thread of every program in it, and what it does or waits for; ``ring3 ps`` shows the same."""
        from .kernel.taskstate import tasks
        from .taskinfo import TaskInfo

        with self._kernel.lock:
            return [TaskInfo(**row) for row in tasks(self._kernel)]

    def run(
        self,
        args: Sequence[str | bytes | os.PathLike[str]] | None = None,
        *,
        input: bytes | str | None = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        **popen: Any,
    ) -> CompletedProcess[Any]:
        """Run a program and wait for it: ``subprocess.run``. Further arguments are those of ``popen``.

        Without ``args`` an image runs what it says, its entrypoint and command.
        """
        from .process import PIPE, finish

        if capture_output:
            if stdout is not None or stderr is not None:
                raise UsageError("stdout and stderr may not be used with capture_output")
            stdout = stderr = PIPE
        if input is not None:
            if stdin is not None:
                raise UsageError("stdin may not be used with input")
            stdin = PIPE
        process = self.popen(args, stdin=stdin, stdout=stdout, stderr=stderr, **popen)
        return finish(process, input, timeout, check)

    def popen(
        self,
        args: Sequence[str | bytes | os.PathLike[str]] | None = None,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        executable: str | None = None,
        user: User | None = None,
        new_session: bool = False,
    ) -> Popen:
        """Start a program: ``subprocess.Popen``. ``user`` replaces the sandbox's user for this program."""
        from .process import Popen

        if args is None:
            args = self.image.command() if self.image is not None else None
        if isinstance(args, (str, bytes)) or not args:
            raise UsageError("args must be a list: the program and its arguments")
        argv: Sequence[str | bytes | os.PathLike[str]] = args

        def spawn(stdio: tuple[int, int, int]) -> Child:
            return self.spawn(
                argv, stdio, cwd=cwd, env=env, executable=executable, user=user, new_session=new_session
            )

        return Popen(
            argv,
            spawn,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=text,
            encoding=encoding,
            errors=errors,
            bufsize=bufsize,
        )

    def spawn(
        self,
        args: Sequence[str | bytes | os.PathLike[str]],
        stdio: tuple[int, int, int] = (0, 1, 2),
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        executable: str | None = None,
        user: User | None = None,
        new_session: bool = False,
        ctty: bool = False,
        ignored: int = 0,
        umask: int | None = None,
        stopped: bool = False,
    ) -> Child:
        """Start a program on host descriptors; the level below ``popen``, which the command line uses.

        ``stdio`` are host fds (-1: closed); ``ctty`` makes fd 0 the new session's terminal; ``ignored`` is a
        mask of signals that start ignored (bit N-1 for signal N); ``stopped`` has it stop (SIGSTOP) before its
        first instruction, for a debugger. The program is looked up in the guest's PATH as execvp(3) does.
        Raises ProgramNotFound, ProgramNotExecutable, ExecError, SandboxError.
        """
        kernel = self._running_kernel()
        environ = self._environment(env)
        argv = [os.fsencode(a) for a in args]
        program = os.fsencode(executable) if executable is not None else argv[0]
        directory = os.fsencode(cwd) if cwd is not None else self._start_directory()
        creds = self.creds if user is None else world.credentials(user, self._read_guest_file)
        for fd in stdio:
            if fd >= 0 and os.isatty(fd):
                self._standard.adopt_tty(fd, creds.uid)
        envp = [os.fsencode(k) + b"=" + os.fsencode(v) for k, v in environ.items()]
        refused: OSError | None = None
        for candidate in _candidates(program, environ.get("PATH", DEFAULT_PATH)):
            try:
                return kernel.spawn(
                    candidate,
                    argv,
                    envp,
                    cwd=directory,
                    stdio=stdio,
                    creds=creds,
                    new_session=new_session,
                    ctty=ctty,
                    ignored=ignored,
                    umask=_umask() if umask is None else umask,
                    stopped=stopped,
                )
            except OSError as e:
                # execvp(3): go on after what may be right elsewhere in PATH; report EACCES in the end.
                if e.errno == errno.EACCES or (refused is None and e.errno in (errno.ENOENT, errno.ENOTDIR)):
                    refused = e
                elif e.errno not in (errno.ENOENT, errno.ENOTDIR):
                    refused = e
                    break
        raise self._exec_error(program, directory, refused)

    def _exec_error(self, program: bytes, directory: bytes, cause: OSError | None) -> ExecError:
        number = cause.errno if cause is not None and cause.errno else errno.ENOENT
        name = os.fsdecode(program)
        if number in (errno.ENOENT, errno.ENOTDIR) and not (directory and self.is_dir(directory)):
            wrong = "is not a directory" if self.exists(directory) and directory else "does not exist"
            return ExecError(number, f"the working directory {os.fsdecode(directory)!r} {wrong}", name)
        if number == errno.ENOENT:
            if b"/" in program and self.exists(os.path.join(os.fsdecode(directory), name)):
                return ProgramNotFound(number, "the interpreter that it names was not found", name)
            where = "no such file" if b"/" in program else "not found in the guest's PATH"
            return ProgramNotFound(number, where, name)
        if number == errno.EACCES:
            if self.is_dir(os.path.join(os.fsdecode(directory), name)):
                return ProgramNotExecutable(number, "it is a directory", name)
            return ProgramNotExecutable(number, os.strerror(number), name)
        return ExecError(number, os.strerror(number), name)

    # ---- life

    def __enter__(self) -> Sandbox:
        self._running_kernel()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every guest, free what they held. ``root`` stays readable. May be called twice."""
        with self._starting:
            if self._closed:
                return
            self._closed = True
        if self._started:
            self._kernel.close()
        else:
            self._kernel.net.close_services()
            self._kernel.net.close()
            self._kernel.loop.close()

    def _free(self) -> None:
        self.close()
        self.vfs.close()

    def __del__(self) -> None:
        # The files live as long as the sandbox, so that they can be read after its end.
        if hasattr(self, "creds"):
            self._free()

    def _running_kernel(self) -> Kernel:
        with self._starting:
            if self._closed:
                raise SandboxClosed("the sandbox is closed")
            if not self._started:
                if sud_errno():
                    raise UnsupportedHost(
                        "this kernel has no Syscall User Dispatch, or forbids it: "
                        "Linux 5.11 or newer is needed (see: ring3 doctor)"
                    )
                try:
                    self._kernel.start()
                except OSError as e:
                    raise UnsupportedHost(f"the guest core cannot be started: {e} (see: ring3 doctor)") from e
                self._started = True
        return self._kernel

    def _start_directory(self) -> bytes:
        if self._cwd is not None:
            return os.fsencode(self._cwd)
        try:
            here = os.getcwdb()
        except OSError:  # the caller's directory was removed
            return b"/"
        return here if self.is_dir(here) else b"/"

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return dict(self.env if env is None else env)

    def _read_guest_file(self, path: str) -> str:
        try:
            return str((self.root / path).read_text(errors="replace"))
        except OSError:
            return ""

    # ---- lookups in the world, with the supervisor's eyes

    def exists(self, path: str | bytes) -> bool:
        """Whether the guest path leads to something (symbolic links followed)."""
        return world.stat_mode(self, path) is not None

    def is_dir(self, path: str | bytes) -> bool:
        """Whether the guest path leads to a directory."""
        mode = world.stat_mode(self, path)
        return mode is not None and mode & 0o170000 == 0o040000


def _candidates(program: bytes, search: str) -> list[bytes]:
    """What execvp(3) tries: the name itself if it has a slash, else it in each directory of PATH."""
    if b"/" in program or not program:
        return [program]
    return [os.path.join(os.fsencode(d) or b".", program) for d in search.split(":")]


def _umask() -> int:
    """The caller's umask, which only /proc tells without changing it (umask(2), for all threads)."""
    with open("/proc/self/status", "rb", 0) as f:
        for line in f.read(512).split(b"\n"):
            if line.startswith(b"Umask:"):
                return int(line[6:], 8)
    return 0o22


def _log(line: str) -> None:
    import logging

    logging.getLogger("ring3").warning("%s", line)
