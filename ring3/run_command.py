"""``ring3 run``: one guest on the caller's own streams and terminal.

Part of: ring3 (the front door). May touch: the signal mask of this process, its terminal (only with -t).

The guest is in ring3's own process group, so what the terminal sends (Ctrl-C, Ctrl-\\, Ctrl-Z) reaches it
natively; ring3 must only survive it. What another process sends to ring3 alone is passed on. To tell the two
apart, signals are not handled but blocked and taken with sigwaitinfo(2), which gives their si_code; and for
one that a process sent, the sandbox's init tells whether the whole group got it.
"""

from __future__ import annotations

import os
import signal
import sys

from .cli import NOT_EXECUTABLE, NOT_FOUND, OWN_FAILURE, TIMED_OUT, complain
from .errors import ExecError, ProgramNotFound, TimeLimit, UsageError
from .sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from .kernel.initproc import Child

_SI_KERNEL = 0x80
_STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_PASSED_ON = {
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGCONT,
}
_TAKEN = _STOPS | _PASSED_ON | {signal.SIGCHLD}


def run(options: argparse.Namespace) -> int:
    """Carry out ``ring3 run``; return the exit status."""
    command = options.command
    if command and command[0] == "--":
        command = command[1:]
    check_command(command, options)
    stdio = _standard_streams()
    ignored = _ignored_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)  # before any thread is started
    trace_file = _open_trace(options)
    try:
        with _sandbox(options, trace_file) as box:
            with _Afterwards(box, options):
                return _run(box, _command(box, command, options), options, ignored, stdio)
    except ExecError as e:
        return complain(f"cannot run {e.filename!r}: {e.strerror}", _status_of(e))
    except TimeLimit as e:
        return complain(str(e), TIMED_OUT)
    finally:
        if trace_file is not None and trace_file is not sys.stderr:
            trace_file.close()
        signals_back(before)


def signals_back(before: set[signal.Signals | int]) -> None:
    """Unblock what was not blocked before. What still waits came too late for the program, which it was for: the
    terminal's SIGQUIT, say, which had ended it before we got to take ours (a thread's own SIGCHLD is taken first)."""
    while signal.sigtimedwait(_TAKEN, 0) is not None:
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _status_of(e: ExecError) -> int:
    if isinstance(e, ProgramNotFound):
        return NOT_FOUND
    # A working directory that is none (in words of our own) is the caller's mistake, not the program's.
    return NOT_EXECUTABLE if e.strerror in (os.strerror(e.errno or 0), "it is a directory") else OWN_FAILURE


class _Afterwards:
    """What is told about the files when the program has ended: --diff, --export, --report."""

    def __init__(self, box: Sandbox, options: argparse.Namespace) -> None:
        self.box = box
        self.options = options
        kind, _, report_file = (options.report or "").partition("=")
        self.report_file = report_file or "-"
        if kind not in ("", "files"):
            raise UsageError(f"--report {options.report}: there is no report but files")
        self.exports = [_export_spec(spec) for spec in options.export]

    def __enter__(self) -> None:
        whole = self.options.diff is not None or any(path is None for _, path in self.exports)
        self.before = self.box.snapshot() if whole else None
        self.report = self.box.report_files() if self.options.report else None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: Any) -> None:
        if kind is not None:
            return
        if self.report is not None:
            self.report.stop()
            _tell("--report", self.report_file, str(self.report))
        if self.options.diff is not None:
            _tell("--diff", self.options.diff, str(self.box.diff(self.before)))
        for file, path in self.exports:
            try:
                if path is None:
                    self.box.export(file, since=self.before)
                else:
                    self.box.export(file, path)
            except OSError as e:
                raise UsageError(f"--export {file}: {e.filename or path}: {e.strerror}") from None


def _export_spec(spec: str) -> tuple[str, str | None]:
    file, colon, path = spec.rpartition(":")
    return (file, path) if colon and file and path.startswith("/") else (spec, None)


def _tell(option: str, file: str, text: str) -> None:
    if file == "-":
        sys.stderr.write(text)
        sys.stderr.flush()
        return
    try:
        with open(file, "w", encoding="utf-8", errors="surrogateescape") as f:
            f.write(text)
    except OSError as e:
        raise UsageError(f"{option} {file}: {e.strerror}") from None


def check_command(command: list[str], options: argparse.Namespace, verb: str = "run") -> None:
    """UsageError unless there is something to run, in one world."""
    if not command and options.image is None:
        raise UsageError(f"no program given (try: ring3 {verb} --help)")
    if options.image is not None and options.root is not None:
        raise UsageError("--root and --image exclude each other")
    if options.entrypoint is not None and options.image is None:
        raise UsageError("--entrypoint is for images (--image)")


def _command(box: Sandbox, command: list[str], options: argparse.Namespace) -> list[str]:
    """What to run: with an image what docker run would, the entrypoint with these arguments or its own."""
    if box.image is None:
        return command
    if options.entrypoint is not None:
        box.image.entrypoint = [options.entrypoint] if options.entrypoint else []
        box.image.cmd = []  # as docker: the image's arguments are for its own entrypoint
    whole = box.image.command(command)
    if not whole:
        raise UsageError(f"the image {options.image} does not say what to run: give a program")
    return whole


def _sandbox(options: argparse.Namespace, trace_file: Any) -> Sandbox:
    box = Sandbox(
        options.root if options.root is not None else "/",
        image=options.image,
        user=options.user,
        hostname=options.hostname,
        cwd=options.workdir,
        trace=trace_file if not options.only else None,
        rewrite=options.rewrite,
        lockdown=options.lockdown == "on",
        pids=options.pids,
        memory=options.memory,
        nofile=options.nofile,
        cpu_time=options.cpu_time,
        tmpfs_size=options.tmpfs_size,
        require=options.require,
        log=_complain,
    )
    if options.native_hook is not None:
        box.native_hook(options.native_hook, program=options.only or None)
    if options.only and trace_file is not None:
        from .kernel.hooks.filters import Filter

        box.trace(trace_file.write, only=Filter(program=options.only))
    for spec in options.volume:
        host, guest, mode = _volume(spec)
        box.mount(guest, host, mode)
    for spec in options.tmpfs:
        guest, colon, rest = spec.partition(":")
        if colon:
            from . import mounting

            mounting.mount(box, f"type=tmpfs,target={guest},{rest}")
        else:
            box.mount_tmpfs(guest)
    for spec in options.mount:
        from . import mounting

        mounting.mount(box, spec)
    if options.net or options.publish or options.net_raw or options.pcap or options.tls_keys:
        from .net_options import apply

        apply(box, options)
    for item in options.env:
        name, equals, value = item.partition("=")
        if not name:
            raise UsageError(f"-e {item!r} has no name (write NAME=VALUE)")
        if equals:
            box.env[name] = value
        elif name in os.environ:  # docker's -e NAME: the caller's value
            box.env[name] = os.environ[name]
    return box


def _complain(line: str) -> None:
    complain(line)


def _volume(spec: str) -> tuple[str, str, str]:
    parts = spec.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise UsageError(f"-v {spec!r} is not HOST:GUEST or HOST:GUEST:MODE")
    mode = parts[2] if len(parts) == 3 else "rw"
    if mode not in ("ro", "rw", "cow"):
        raise UsageError(f"-v {spec!r}: the mode is ro, rw or cow, not {mode!r}")
    if not parts[1].startswith("/"):
        raise UsageError(f"-v {spec!r}: the guest's path {parts[1]!r} is not absolute")
    return parts[0], parts[1], mode


class TraceFile:
    """A trace's file. A full disk is told of at the end: meanwhile the program goes on."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "w", encoding="utf-8", errors="surrogateescape")
        self._failure: OSError | None = None

    def write(self, text: str) -> None:
        """Append; nothing, once that has failed."""
        self._try(lambda: self._file.write(text))

    def flush(self) -> None:
        """Hand over what was written."""
        self._try(self._file.flush)

    def close(self) -> None:
        """The end: complains of what could not be written."""
        self.flush()
        try:
            self._file.close()
        except OSError:
            pass  # known
        if self._failure is not None:
            complain(f"cannot write the trace to {self.path}: {self._failure.strerror}")

    def _try(self, job: Callable[[], object]) -> None:
        if self._failure is None:
            try:
                job()
            except OSError as e:
                self._failure = e


def _open_trace(options: argparse.Namespace) -> Any:
    if options.trace_file is not None:
        try:
            return TraceFile(options.trace_file)
        except OSError as e:
            raise UsageError(f"cannot write the trace to {options.trace_file}: {e.strerror}") from None
    return sys.stderr if options.trace else None


def _ignored_signals() -> int:
    """The signals that the caller ignores (nohup), which a program inherits; SIGPIPE and SIGXFSZ are Python's
    own doing, and SIGINT's handler too."""
    mask = 0
    for sig in range(1, 65):
        if sig not in (signal.SIGPIPE, signal.SIGXFSZ) and signal.getsignal(sig) is signal.SIG_IGN:
            mask |= 1 << (sig - 1)
    return mask


def _standard_streams() -> tuple[int, int, int]:
    """0, 1, 2; -1 for what the caller closed, whose number is then taken so that nothing of ours gets it."""
    streams = []
    for fd in range(3):
        try:
            os.fstat(fd)
            streams.append(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            streams.append(-1)
    return streams[0], streams[1], streams[2]


def _run(
    box: Sandbox,
    command: list[str],
    options: argparse.Namespace,
    ignored: int,
    stdio: tuple[int, int, int],
) -> int:
    if options.tty:
        from .terminal import run_on_terminal

        return run_on_terminal(
            box, command, interactive=options.interactive, ignored=ignored, timeout=options.timeout
        )
    child = box.spawn(command, stdio, ignored=ignored)
    return exit_status(wait_and_pass_signals(child, timeout=options.timeout))


def exit_status(status: int) -> int:
    """A raw wait status as a shell's $?."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def wait_and_pass_signals(
    child: Child, on_winch: Callable[[], None] | None = None, timeout: float | None = None
) -> int:
    """Wait for the guest's end and return its raw wait status; meanwhile pass signals on.  Raises TimeLimit when it had
    to be ended after `timeout` seconds.

    The signals of _TAKEN must be blocked in every thread. A second thread waits and wakes this one.
    """
    import gc
    import threading

    from .kernel.ends import state

    gc.freeze()  # what start-up made is there to stay
    gc.enable()  # entry() in cli.py had turned it off
    here = threading.get_ident()
    late: list[float] = []

    def watch() -> None:
        try:
            child.wait(timeout)
        except TimeoutError:
            late.append(timeout or 0)
            child.kill(signal.SIGKILL)
            child.wait()
        signal.pthread_kill(here, signal.SIGCHLD)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    while True:
        info = signal.sigwaitinfo(_TAKEN)
        number = signal.Signals(info.si_signo)
        if number == signal.SIGCHLD:
            status = child.poll()
            if status is not None:
                watcher.join()
                if late:
                    raise TimeLimit(f"the program was ended after {late[0]:g} seconds (--timeout)")
                return status
        elif number == signal.SIGWINCH and on_winch is not None:
            on_winch()
        elif number in _STOPS:
            _stop_with(child, number, from_terminal=info.si_code == _SI_KERNEL)
        elif info.si_code == _SI_KERNEL or child.has_had(number, info.si_pid):
            continue
        elif number != signal.SIGCONT or state(f"/proc/{child.host_pid}") in "Tt":
            _kill(child, number)


def _stop_with(child: Child, number: signal.Signals, *, from_terminal: bool) -> None:
    """Stop as the guest stops, so that the caller's shell sees the whole job stopped.

    The guest may take its time (an editor restores the terminal first) or decide not to stop at all, and
    until then it needs us. So ring3 stops only once the guest has.
    """
    if not from_terminal:
        _kill(child, number)
    import time

    from .kernel.ends import state

    for _ in range(200):
        if state(f"/proc/{child.host_pid}") in "TtZX" or child.poll() is not None:
            break
        time.sleep(0.005)
    else:
        return
    if child.poll() is None:
        os.kill(os.getpid(), signal.SIGSTOP)


def _kill(child: Child, number: int) -> None:
    try:
        child.kill(number)
    except ProcessLookupError:
        return
