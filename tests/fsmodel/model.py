"""Random sequences of file calls, natively on a tmpfs and in a guest: the two sides, and what makes them comparable.

Layer: tests. Starts servant.c twice, natively as root in a mount namespace of its own and under `ring3 run`; ends
both by their process ids.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import BASE_ENV, kill_tree, ring3_argv

SOURCE = Path(__file__).with_name("servant.c")
ANSWER_LIMIT = 60.0  # seconds for a whole sequence
_NUMBERED = re.compile(r"\b(ino|dev)=([0-9a-f]+)")

#: What the guest's side may be: `ring3 run` options for a directory of the host, and where the guest finds it.
KINDS: dict[str, Callable[[str], tuple[list[str], str]]] = {
    "memory": lambda host: (["--tmpfs", "/mem"], "/mem"),
    "limited": lambda host: (["--tmpfs", "/mem:size=1g"], "/mem"),
    "cow": lambda host: (["--mount", f"type=bind,source={host},target=/mem,cow"], "/mem"),
    "rw": lambda host: (["--mount", f"type=bind,source={host},target=/mem,rw"], "/mem"),
    "overlay": lambda host: (["--mount", f"type=overlay,lowerdir={host},target=/mem"], "/mem"),
}

#: What differs by the nature of a kind: a copy-on-write view is not written by reading it, and makes up the sizes of
#: its directories; a host's filesystem may know no time of birth.
_ALLOWED: dict[str, list[tuple[str, str]]] = {
    "cow": [(r" atime=\S+", ""), (r"(mode=4\d{4} .*?size=)\d+", r"\1?")],
    "rw": [(r" mask=\w+", ""), (r" btime=\S+", "")],
}


class Dead(Exception):
    """A servant ended or did not answer; says what it last said."""


def build(target: Path) -> Path:
    """Compiles the servant."""
    words = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(SOURCE)]
    subprocess.run(words, check=True, timeout=60)
    return target


class Servant:
    """One side: answers sequences of steps."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=BASE_ENV,
            start_new_session=True,
        )
        self.rest = b""
        self._read_until(b"ready\n", 60.0)

    def ask(self, steps: Sequence[str]) -> list[str]:
        """The answers to a sequence, then the lines of the tree that it left."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("".join(f"{step}\n" for step in [*steps, "end"]).encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Dead(self._last_words()) from None
        lines = self._read_until(b"end\n", ANSWER_LIMIT).decode(errors="backslashreplace").splitlines()
        return canonical(lines)

    def _read_until(self, mark: bytes, limit: float) -> bytes:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        deadline = time.monotonic() + limit
        data = self.rest
        while not (data == mark or data.endswith(b"\n" + mark)):
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(fd, 1 << 16) if ready else b""
            if not more:
                raise Dead(
                    ("ended" if ready else "no answer") + " after " + repr(data[-300:]) + self._last_words()
                )
            data += more
        return data[: -len(mark)]

    def _last_words(self) -> str:
        self.errors.seek(0)
        return "\n" + self.errors.read().decode(errors="backslashreplace")[-3000:]

    def close(self) -> None:
        """Ends the servant and everything below it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                kill_tree(self.process.pid)
                self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def canonical(lines: list[str]) -> list[str]:
    """Inode and device numbers become the order in which they were first seen."""
    seen: dict[tuple[str, str], int] = {}

    def number(match: re.Match[str]) -> str:
        if match[2] == "0":
            return match[0]
        return f"{match[1]}=#{seen.setdefault((match[1], match[2]), len(seen))}"

    return [_NUMBERED.sub(number, line) for line in lines]


class Pair:
    """Both sides. A side that died is started anew for the next sequence."""

    def __init__(self, servant: Path, where: Path, kind: str, options: Sequence[str] = ()) -> None:
        native_dir, host = where / "native", where / "host"
        native_dir.mkdir()
        host.mkdir()
        extra, guest_dir = KINDS[kind](str(host))
        self.allowed = [(re.compile(pattern), text) for pattern, text in _ALLOWED.get(kind, [])]
        guest = ring3_argv([servant, guest_dir], "-u", "0", *extra, *options)
        self.argv = {"native": [str(servant), "-m", str(native_dir)], "ring3": guest}
        self.sides: dict[str, Servant] = {}

    def ask(self, steps: Sequence[str]) -> tuple[list[str], list[str]]:
        """The answers of both sides; a servant's end is the last of its answers."""
        answers = []
        for side, argv in self.argv.items():
            try:
                if side not in self.sides:
                    self.sides[side] = Servant(argv)
                answers.append(self.sides[side].ask(steps))
            except Dead as exc:
                if side in self.sides:
                    self.sides.pop(side).close()
                answers.append([f"{side} {exc}"])
        for pattern, text in self.allowed:
            answers = [[pattern.sub(text, line) for line in lines] for lines in answers]
        return answers[0], answers[1]

    def close(self) -> None:
        for side in self.sides.values():
            side.close()


@contextmanager
def pair(kind: str, options: Sequence[str] = ()) -> Iterator[Pair]:
    """Both sides, with directories of their own on the host's tmpfs, gone at the end."""
    with ExitStack() as stack:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        where = Path(tempfile.mkdtemp(prefix="ring3-test-", dir=base))
        stack.callback(shutil.rmtree, where, ignore_errors=True)
        where.chmod(0o755)
        programs = Path(tempfile.mkdtemp(prefix="ring3-test-"))  # /dev/shm is the guest's own
        stack.callback(shutil.rmtree, programs, ignore_errors=True)
        programs.chmod(0o755)
        binary = build(programs / "servant")
        made = Pair(binary, where, kind, options)
        stack.callback(made.close)
        yield made


def difference(steps: Sequence[str], native: list[str], guest: list[str]) -> str:
    """The steps up to the first answer that differs, as text; "" if all are the same."""
    if native == guest:
        return ""
    at = next(
        (i for i, (a, b) in enumerate(zip(native, guest, strict=False)) if a != b),
        min(len(native), len(guest)),
    )
    shown = [f"    {step:<60} -> {answer}" for step, answer in zip(steps[:at], native, strict=False)]
    what = steps[at] if at < len(steps) else "(the tree that was left)"
    last = [lines[at] if at < len(lines) else "(nothing)" for lines in (native, guest)]
    return "\n".join([*shown, f"  {what}", f"    native: {last[0]}", f"    ring3:  {last[1]}"])
