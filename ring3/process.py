"""Popen: a guest program as seen by its caller, in the shape of ``subprocess.Popen``.

Part of: ring3 (the front door). May touch: its own pipes, and the guest through kernel.initproc.Child.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import selectors
import signal
import time
from subprocess import DEVNULL, PIPE, STDOUT, CompletedProcess
from subprocess import CalledProcessError as _CalledProcessError
from subprocess import TimeoutExpired as _TimeoutExpired
from typing import IO, TYPE_CHECKING, Any

from .errors import Ring3Error, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from .kernel.initproc import Child

    Stream = int | IO[Any] | None
    Spawn = Callable[[tuple[int, int, int]], Child]

__all__ = ["DEVNULL", "PIPE", "STDOUT", "CalledProcessError", "CompletedProcess", "Popen", "TimeoutExpired"]


class TimeoutExpired(Ring3Error, _TimeoutExpired):
    """The guest ran longer than ``timeout`` seconds; also a ``subprocess.TimeoutExpired``."""


class CalledProcessError(Ring3Error, _CalledProcessError):
    """``check=True`` and the guest's exit status was not 0; also a ``subprocess.CalledProcessError``."""


class Popen:
    """A running guest program. Made by ``Sandbox.popen``.

    Attributes: ``args``; ``pid`` the process ID as guests see it, ``host_pid`` as the host does (for a debugger; they
    differ where the sandbox has a PID namespace); ``returncode`` None while it runs, then its exit
    status or -N if signal N ended it; ``stdin``, ``stdout``, ``stderr`` file objects where PIPE was given.
    """

    def __init__(
        self,
        args: Sequence[str | bytes | os.PathLike[str]],
        spawn: Spawn,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
    ) -> None:
        self.args = list(args)
        self.returncode: int | None = None
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        self._encoding = encoding or ("utf-8" if text or errors else None)
        self._errors = errors or "strict"
        self._communicating = False
        self._unsent = memoryview(b"")
        self._received: dict[int, list[bytes]] = {1: [], 2: []}
        ours: list[int] = [-1, -1, -1]
        to_close: list[int] = []
        try:
            stdio = _guest_stdio((stdin, stdout, stderr), ours, to_close)
            self._child = spawn(stdio)
        except BaseException:
            for fd in ours:
                if fd >= 0:
                    os.close(fd)
            raise
        finally:
            for fd in to_close:
                os.close(fd)
        self.pid, self.host_pid = self._child.pid, self._child.host_pid
        self.stdin = self._file(ours[0], "wb", bufsize)
        self.stdout = self._file(ours[1], "rb", bufsize)
        self.stderr = self._file(ours[2], "rb", bufsize)

    def _file(self, fd: int, mode: str, bufsize: int) -> IO[Any] | None:
        if fd < 0:
            return None
        raw = os.fdopen(fd, mode, bufsize)
        if self._encoding is None:
            return raw
        return io.TextIOWrapper(
            raw, self._encoding, self._errors, write_through=mode == "wb", line_buffering=bufsize == 1
        )

    def poll(self) -> int | None:
        """The return code if the guest has ended, else None."""
        if self.returncode is None:
            status = self._child.poll()
            if status is not None:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the guest's end, at most ``timeout`` seconds (TimeoutExpired; it runs on then)."""
        if self.returncode is None:
            try:
                status = self._child.wait(timeout)
            except TimeoutError:
                raise TimeoutExpired(self.args, timeout or 0.0) from None
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal to the guest; nothing happens if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill(sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Send ``input``, read stdout and stderr to their ends, wait. Returns (stdout, stderr).

        What is no pipe gives None. After a TimeoutExpired the call may be repeated (without ``input``), and
        nothing is lost.
        """
        if not self._communicating:
            self._communicating = True
            if isinstance(input, str):
                input = input.encode(self._encoding or "utf-8", self._errors)
            if input is not None and self.stdin is None:
                raise UsageError("input needs stdin=PIPE")
            self._unsent = memoryview(input or b"")
            if self.stdin is not None and not self._unsent:
                self.stdin.close()
        elif input is not None:
            raise UsageError("communicate() was called before: it cannot take input again")
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self._exchange(deadline)
            self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except (TimeoutError, TimeoutExpired):
            partial = [self._gathered(i, raw=True) for i in (1, 2)]
            raise TimeoutExpired(self.args, timeout or 0.0, *partial) from None
        return self._gathered(1), self._gathered(2)

    def _exchange(self, deadline: float | None) -> None:
        """Move bytes until every pipe is at its end. TimeoutError at the deadline (time.monotonic)."""
        with selectors.PollSelector() as selector:
            if self.stdin is not None and not self.stdin.closed:
                selector.register(self.stdin.fileno(), selectors.EVENT_WRITE, self.stdin)
            for stream in (self.stdout, self.stderr):
                if stream is not None and not stream.closed:
                    selector.register(stream.fileno(), selectors.EVENT_READ, stream)
            while selector.get_map():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                for key, _ in selector.select(left):
                    stream = key.data
                    done = self._send(key.fd) if stream is self.stdin else self._receive(key.fd, stream)
                    if done:
                        selector.unregister(key.fd)
                        with contextlib.suppress(BrokenPipeError):
                            stream.close()

    def _send(self, fd: int) -> bool:
        # A writable pipe takes PIPE_BUF bytes without blocking. A guest may close its end once it has read
        # enough (EPIPE).
        try:
            self._unsent = self._unsent[os.write(fd, self._unsent[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            return True
        return not self._unsent

    def _receive(self, fd: int, stream: object) -> bool:
        data = os.read(fd, 65536)
        self._received[1 if stream is self.stdout else 2].append(data)
        return not data

    def _gathered(self, index: int, raw: bool = False) -> Any:
        if (self.stdout, self.stderr)[index - 1] is None:
            return None
        data = b"".join(self._received[index])
        if self._encoding is None or raw:
            return data
        return data.decode(self._encoding, self._errors).replace("\r\n", "\n").replace("\r", "\n")

    def __enter__(self) -> Popen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.wait()

    def __repr__(self) -> str:
        return f"<ring3.Popen pid={self.pid} returncode={self.returncode} args={self.args!r}>"


def _guest_stdio(
    streams: tuple[Stream, Stream, Stream], ours: list[int], to_close: list[int]
) -> tuple[int, int, int]:
    """The host fds that become the guest's 0, 1, 2. Pipes' other ends go to ``ours``."""
    guest = [-1, -1, -1]
    for i, stream in enumerate(streams):
        if stream is None:
            guest[i] = i
        elif isinstance(stream, int) and stream == PIPE:
            read, write = os.pipe()
            ours[i], guest[i] = (write, read) if i == 0 else (read, write)
            to_close.append(guest[i])
        elif isinstance(stream, int) and stream == DEVNULL:
            guest[i] = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            to_close.append(guest[i])
        elif isinstance(stream, int) and stream == STDOUT:
            if i != 2:
                raise UsageError("STDOUT is for stderr only")
            guest[i] = guest[1]
        else:
            guest[i] = stream if isinstance(stream, int) else stream.fileno()
    return guest[0], guest[1], guest[2]


def finish(
    process: Popen,
    input: Any,
    timeout: float | None,
    check: bool,
) -> CompletedProcess[Any]:
    """Wait as ``subprocess.run`` does: on a timeout or any other exception the guest is killed first."""
    with process:
        try:
            out, err = process.communicate(input, timeout)
        except TimeoutExpired as e:
            process.kill()
            process.wait()
            # The pipes may be held by descendants: what has arrived by now is what there is.
            e.stdout, e.stderr = process._gathered(1, raw=True), process._gathered(2, raw=True)
            raise
        except BaseException:
            process.kill()
            raise
        code = process.wait()
    if check and code:
        raise CalledProcessError(code, process.args, out, err)
    return CompletedProcess(process.args, code, out, err)
