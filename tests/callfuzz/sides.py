"""The two sides of the fuzzed calls, and what of their answers is compared.

Layer: tests. Starts servant.c natively, in namespaces of its own, and under `ring3 run`; ends both by
their process ids.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from fuzzcalls import MEMORY, PATHS, excused, step, usable
from harness import ring3_argv
from hypothesis import strategies as st
from twosides import Pair, search

SOURCE = Path(__file__).with_name("servant.c")
FLAGS = ["-O1", "-static", "-no-pie", "-fno-stack-protector", "-Wall", "-Wextra", "-Werror"]
OPTIONS = ["-u", "0", "--tmpfs", "/mem:mode=755", "--net", "none"]
#: Whatever a guest may turn out to be able to do, the host's other processes are out of its reach.
APART = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
#: An answer to each call that a slow machine and a timer cannot have changed takes a longer time between ticks.
PATIENT = "set 400000 1"

#: Whether they succeed, and their errno, but not the number: an address, a process, a time, an identifier.
NUMBERLESS = {
    *("mmap", "mremap", "brk", "shmat", "getpid", "gettid", "getppid", "getpgid", "getpgrp", "getsid", "setsid"),
    *("fork", "vfork", "clone", "clone3", "times", "time", "set_tid_address", "shmget", "shmctl"),
    *("sched_getaffinity", "alarm"),
}  # fmt: skip
#: What children do is theirs: whether one has ended by now, nobody knows.
UNCERTAIN = {
    "wait4",
    "waitid",
    "sched_yield",
    "restart_syscall",
    "get_robust_list",
    "rt_sigtimedwait",
    "getcwd",
}


#: Where several arguments are wrong, which is told first: the core reads what pointers lead to before anybody looks at
#: numbers. So two errors are the same if one of them is of a kind that only tells of an argument.
ARGUMENTS = {
    -errno.EFAULT,
    -errno.ENAMETOOLONG,
    -errno.ERANGE,
    -errno.EINVAL,
    -errno.EBADF,
    -errno.ENOTSOCK,
    -errno.E2BIG,
    -errno.EMSGSIZE,
}


#: how ring3 begins a line on an error of its own: of the supervisor's, of the core's
COMPLAINTS = ("ring3: internal error", "ring3: core:")


def build(where: Path) -> tuple[Path, Path]:
    """Compiles the servant and writes its memory."""
    binary, memory = where / "servant", where / "memory"
    subprocess.run(["cc", *FLAGS, "-o", str(binary), str(SOURCE)], check=True, timeout=60)
    memory.write_bytes(bytes(MEMORY.bytes))
    return binary, memory


def comparable(answer: str) -> str:
    """What has to be the same."""
    name, _, result = answer.partition(" ")
    if name in UNCERTAIN:
        return name
    return f"{name} done" if name in NUMBERLESS and not result.startswith("-") else answer


def only_order(native: str, guest: str) -> bool:
    """Do both fail, and one for an argument?"""
    (name, _, a), (other, _, b) = native.partition(" "), guest.partition(" ")
    if name != other or not (a.startswith("-") and b.startswith("-")):
        return False
    return int(a) in ARGUMENTS or int(b) in ARGUMENTS


#: How many bytes there are differs: in /proc/self/status, which counts switches of context, and in the name of
#: descriptor 3.
STATUS, LINK = 17, MEMORY.strings[PATHS.index(b"/proc/self/fd/3")]
READS = {"read": 0, "pread64": 0, "readv": 0, "preadv": 0, "preadv2": 0, "sendfile": 1}


def only_size(step: str, native: str, guest: str) -> bool:
    """Do both succeed, and say how long something is that has another length on each side?"""
    name, _, *words = step.split()
    if "-" in native.partition(" ")[2] + guest.partition(" ")[2]:
        return False
    args = [int(word, 16) for word in words]
    if name in READS:
        return args[READS[name]] & 0xFFFFFFFF == STATUS
    return name in ("readlink", "readlinkat") and LINK in args[:2]


class CallPair(Pair):
    """Both sides. What differs is asked once more, with more time, and counts if it differs in the same way again."""

    again = order = 0

    def ask(self, steps: Sequence[str]) -> tuple[list[str], list[str]]:
        first = self._once(steps)
        if first[0] == first[1]:
            return first
        self.again += 1
        second = self._once([PATIENT, *steps])
        third = self._once([PATIENT, *steps])
        if second[0] == second[1] or third[0] == third[1] or second != third:
            return first[0], first[0]
        return second

    def _once(self, steps: Sequence[str]) -> tuple[list[str], list[str]]:
        native, guest = super().ask(steps)
        asked = [line for line in steps if line != PATIENT]
        for i, (line, a, b) in enumerate(zip(asked, native, guest, strict=False)):
            if a != b and (only_order(a, b) or only_size(line, a, b)):
                self.order += 1
                guest[i] = a
        return native, guest

    def complaint(self) -> str:
        """What ring3 has said of an error of its own."""
        errors = self.sides["ring3"].errors
        text = os.pread(errors.fileno(), 1 << 20, 0).decode(errors="backslashreplace")
        at = min((text.find(words) for words in COMPLAINTS if words in text), default=-1)
        return text[at : at + 3000] if at >= 0 else ""

    def comparable(self, lines: list[str]) -> list[str]:
        return [comparable(line) for line in lines]


@contextmanager
def pair(options: Sequence[str] = ()) -> Iterator[CallPair]:
    """Both sides, gone at the end."""
    with ExitStack() as stack:
        where = Path(tempfile.mkdtemp(prefix="ring3-test-"))
        stack.callback(shutil.rmtree, where, ignore_errors=True)
        where.chmod(0o755)
        binary, memory = build(where)
        native = where / "native"
        native.mkdir()
        guest = APART + ring3_argv([binary, "-g", "/mem", memory], *OPTIONS, *options)
        made = CallPair({"native": [str(binary), "-m", str(native), str(memory)], "ring3": guest})
        stack.callback(made.close)
        yield made


def sequences(size: int = 40) -> st.SearchStrategy[list[str]]:
    """Lists of calls."""
    steps = st.lists(st.integers(0, (1 << 40) - 1).map(step), min_size=size // 2, max_size=size)
    return steps.map(lambda sequence: [line for line in sequence if usable(line) and not excused(line)])


def find_difference(wanted: int, seed: int, options: Sequence[str] = ()) -> tuple[int, str]:
    """`twosides.search` with two new sides."""
    with pair(options) as both:
        made, found = search(both, sequences(), wanted, seed)
        return made, found or both.complaint()
