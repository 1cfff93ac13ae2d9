"""Drives a program on a pseudo-terminal: type, wait for a pattern, read the screen's raw bytes.

Layer: tests. Touches one pty and one process tree, both of which it ends.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from harness import kill_tree, my_children, sweep


class PtyTimeout(AssertionError):
    """The awaited pattern did not appear; the message carries what did."""


class PtySession:
    """`cmd` on a new terminal of 24 x 80, as its session leader. A context manager."""

    def __init__(
        self,
        cmd: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] | None = None,
        rows: int = 24,
        cols: int = 80,
    ) -> None:
        self.cmd = list(cmd)
        self._known = my_children()
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        self.all = b""  # everything the program wrote
        self._seen = 0  # how much of it expect() has consumed
        try:
            self.proc = subprocess.Popen(
                self.cmd,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
        except BaseException:
            os.close(self.master)
            raise
        finally:
            os.close(slave)

    def send(self, text: str | bytes) -> None:
        """Types `text`."""
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.master, data) :]

    def _fill(self, deadline: float) -> bool:
        """Reads what is there, waiting until `deadline`; False at the end of the terminal."""
        wait = max(0.0, deadline - time.monotonic())
        if not select.select([self.master], [], [], wait)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the last slave was closed
            return False
        self.all += data
        return bool(data)

    def expect(self, pattern: str | bytes, timeout: float = 20.0) -> re.Match[bytes]:
        """Waits until `pattern` appears in what was not consumed yet, and consumes up to its end."""
        rx = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.S)
        deadline = time.monotonic() + timeout
        alive = True
        while True:
            match = rx.search(self.all, self._seen)
            if match:
                self._seen = match.end()
                return match
            if not alive or time.monotonic() > deadline:
                why = "terminal closed" if not alive else f"{timeout} s passed"
                tail = self.all[self._seen :][-2000:]
                raise PtyTimeout(
                    f"{why} before {pattern!r} of {self.cmd}; unread: {tail!r}; all: {self.all[-3000:]!r}"
                )
            alive = self._fill(deadline)

    def foreground(self) -> int:
        """The terminal's foreground process group."""
        return os.tcgetpgrp(self.master)

    def wait_foreground(self, program: str, timeout: float = 20.0) -> None:
        """Waits until a group whose leader runs `program` has the foreground: what keys like ^Z go to.

        A shell's child has the terminal before it has the program, and the shell's signal handlers until then.
        """
        deadline = time.monotonic() + timeout
        while self._comm(self.foreground()) != program:
            if time.monotonic() > deadline:
                raise PtyTimeout(f"{program} never has the foreground; all: {self.all[-2000:]!r}")
            self._fill(time.monotonic() + 0.005)

    @staticmethod
    def _comm(pid: int) -> str:
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
                return f.read().strip()
        except OSError:
            return ""

    def wait(self, timeout: float = 20.0) -> int:
        """Waits for the end of the program, reading on; its return code as subprocess has it."""
        deadline = time.monotonic() + timeout
        while self.proc.poll() is None:
            if time.monotonic() > deadline:
                raise PtyTimeout(f"{self.cmd} did not end; all: {self.all[-3000:]!r}")
            if not self._fill(min(deadline, time.monotonic() + 0.05)):
                time.sleep(0.01)
        while self._fill(time.monotonic()) and select.select([self.master], [], [], 0)[0]:
            pass
        return self.proc.returncode

    def close(self) -> list[str]:
        """Ends everything; what had outlived the program."""
        if self.proc.poll() is None:
            kill_tree(self.proc.pid)
            self.proc.wait()
        os.close(self.master)
        return sweep(self._known)

    def __enter__(self) -> PtySession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        left = self.close()
        if kind is None:
            assert not left, f"left processes behind: {left}"
