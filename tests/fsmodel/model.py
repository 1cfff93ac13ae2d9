"""Random sequences of file calls, natively on a tmpfs and in a guest: the two sides, and what makes them comparable.

Layer: tests. Starts servant.c twice, natively as root in a mount namespace of its own and under `ring3 run`; ends
both by their process ids.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import ring3_argv
from twosides import Pair

SOURCE = Path(__file__).with_name("servant.c")
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


def build(target: Path) -> Path:
    """Compiles the servant."""
    words = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(SOURCE)]
    subprocess.run(words, check=True, timeout=60)
    return target


def canonical(lines: list[str]) -> list[str]:
    """Inode and device numbers become the order in which they were first seen."""
    seen: dict[tuple[str, str], int] = {}

    def number(match: re.Match[str]) -> str:
        if match[2] == "0":
            return match[0]
        return f"{match[1]}=#{seen.setdefault((match[1], match[2]), len(seen))}"

    return [_NUMBERED.sub(number, line) for line in lines]


class FilePair(Pair):
    """The two sides on filesystems of a kind."""

    def __init__(self, servant: Path, where: Path, kind: str, options: Sequence[str] = ()) -> None:
        native_dir, host = where / "native", where / "host"
        native_dir.mkdir()
        host.mkdir()
        extra, guest_dir = KINDS[kind](str(host))
        self.allowed = [(re.compile(pattern), text) for pattern, text in _ALLOWED.get(kind, [])]
        guest = ring3_argv([servant, guest_dir], "-u", "0", *extra, *options)
        super().__init__({"native": [str(servant), "-m", str(native_dir)], "ring3": guest})

    def comparable(self, lines: list[str]) -> list[str]:
        lines = canonical(lines)
        for pattern, text in self.allowed:
            lines = [pattern.sub(text, line) for line in lines]
        return lines


@contextmanager
def pair(kind: str, options: Sequence[str] = ()) -> Iterator[FilePair]:
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
        made = FilePair(binary, where, kind, options)
        stack.callback(made.close)
        yield made
