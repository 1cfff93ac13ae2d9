"""The test harness: runs a command natively and under ring3, with hard time limits, and compares.

Layer: tests. Touches processes that it started itself (ended by pid, never by name) and temporary
directories. Nothing that a command starts outlives it: the test process is a child subreaper
(prctl(2), PR_SET_CHILD_SUBREAPER), so that even a daemonised orphan is found, reported and ended.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
GUESTS = REPO / "tests" / "guests"
DEFAULT_TIMEOUT = 60.0
NOBODY = 65534
PR_SET_CHILD_SUBREAPER = 36

#: What a guest program gets as its environment on both sides, so that outputs can be compared.
BASE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "TERM": "xterm",
    "TZ": "UTC",
    # where ring3 keeps the core that it compiles in a checkout: once, and not below a test's HOME
    "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
}


@dataclass
class Result:
    """How a command ended: `status` is the exit code, or -N for signal N, as subprocess has it."""

    cmd: list[str]
    status: int
    out: bytes
    err: bytes
    timed_out: bool = False
    left: list[str] = field(default_factory=list)  # processes which outlived the command

    def describe(self) -> str:
        """The whole story for an assertion message."""
        lines = [
            f"$ {' '.join(self.cmd)}",
            f"status {self.status}" + (" (time limit)" if self.timed_out else ""),
        ]
        lines += ["--- stdout", _tail(self.out), "--- stderr", _tail(self.err)]
        if self.left:
            lines += ["--- left behind", *self.left]
        return "\n".join(lines)


def _tail(data: bytes, limit: int = 6000) -> str:
    text = data.decode(errors="backslashreplace")
    return text if len(text) <= limit else "[...]" + text[-limit:]


def become_subreaper() -> None:
    """Makes orphans of our commands children of this process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def exit_when_terminated() -> None:
    """SIGTERM ends this process as an exception does: what was begun is undone, and what was started is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def begin_suite() -> None:
    """What a long suite does first: both of these."""
    become_subreaper()
    exit_when_terminated()


def _stat_fields(pid: int) -> tuple[int, str, str] | None:
    """(ppid, state, comm) of a process, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    comm, rest = text[text.index("(") + 1 :].rsplit(")", 1)
    parts = rest.split()
    return int(parts[1]), parts[0], comm


def process_table() -> dict[int, tuple[int, str, str]]:
    """pid -> (ppid, state, comm) of every process that can be seen."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat_fields(int(name))) is not None:
            table[int(name)] = fields
    return table


def descendants(root: int) -> list[int]:
    """All processes below `root`, children before grandchildren, without `root` itself."""
    children: dict[int, list[int]] = {}
    for pid, (ppid, _, _) in process_table().items():
        children.setdefault(ppid, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), []):
            found.append(pid)
            todo.append(pid)
    return found


def my_children() -> set[int]:
    """The direct children of this process."""
    me = os.getpid()
    return {pid for pid, (ppid, _, _) in process_table().items() if ppid == me}


def kill_tree(root: int) -> None:
    """SIGKILL for `root` (not yet reaped, so the number is still ours) and everything below it."""
    for pid in [root, *descendants(root)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def sweep(known: set[int], grace: float = 2.0) -> list[str]:
    """Ends and names each child which is not in `known`: what a command left behind.

    A process that is just on its way out gets `grace` seconds; only then is it called left behind.
    """
    left: list[str] = []
    deadline = time.monotonic() + grace
    while True:
        new = my_children() - known
        for pid in list(new):
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    new.discard(pid)
            except ChildProcessError:
                new.discard(pid)
        if not new:
            return left
        if time.monotonic() > deadline:
            for pid in new:
                fields = _stat_fields(pid)
                cmdline = _cmdline(pid)
                left.append(f"pid {pid} {fields[2] if fields else '?'}: {cmdline}")
                kill_tree(pid)
            deadline = time.monotonic() + 5.0
        time.sleep(0.01)


def _cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def run(
    cmd: Sequence[str | os.PathLike[str]],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes = b"",
    timeout: float = DEFAULT_TIMEOUT,
    uid: int | None = None,
) -> Result:
    """Runs `cmd` in its own session with captured output; whatever happens, nothing of it is left.

    `timeout` is in seconds of real time. `uid` (also used as gid) drops to an ordinary user.
    """
    words = [os.fspath(c) for c in cmd]
    known = my_children()
    drop = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    proc = subprocess.Popen(
        words,
        cwd=cwd,
        env=dict(BASE_ENV if env is None else env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **drop,  # type: ignore[arg-type]
    )
    timed_out = False
    try:
        try:
            out, err = proc.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            kill_tree(proc.pid)
            sweep(known | {proc.pid}, grace=0.0)
            out, err = proc.communicate(timeout=10)
    finally:
        if proc.poll() is None:
            kill_tree(proc.pid)
            proc.wait()
        left = sweep(known)
    return Result(words, proc.returncode, out, err, timed_out, left)


def run_native(cmd: Sequence[str | os.PathLike[str]], **kw: object) -> Result:
    """Runs `cmd` on the host itself: the oracle."""
    return run(cmd, **kw)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def _launcher() -> tuple[str, ...]:
    """How to start ring3: `python -m ring3` where it is installed, else from the checkout, without PYTHONPATH.

    The guest inherits the environment, so nothing may be put there.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    installed = subprocess.run(
        [sys.executable, "-c", "import ring3"], cwd="/", env=env, capture_output=True, check=False
    )
    if installed.returncode == 0:
        return (sys.executable, "-m", "ring3")
    code = f"import sys; sys.path.insert(0, {str(REPO)!r}); from ring3.cli import entry; entry()"
    return (sys.executable, "-c", code)


def ring3_argv(cmd: Sequence[str | os.PathLike[str]], *opts: str) -> list[str]:
    """The command line which runs `cmd` under ring3."""
    return [*_launcher(), "run", *opts, "--", *[os.fspath(c) for c in cmd]]


def run_ring3(
    cmd: Sequence[str | os.PathLike[str]],
    *opts: str,
    env: Mapping[str, str] | None = None,
    **kw: object,
) -> Result:
    """Runs `cmd` under `ring3 run OPTS`; keywords as in `run`."""
    return run(ring3_argv(cmd, *opts), env=env, **kw)  # type: ignore[arg-type]


def assert_clean(result: Result) -> None:
    """Fails when the command ran into its time limit or left a process behind."""
    assert not result.timed_out, "time limit\n" + result.describe()
    assert not result.left, "left processes behind\n" + result.describe()


def assert_ok(result: Result) -> None:
    """Fails unless the command ended with status 0 and left nothing."""
    assert_clean(result)
    assert result.status == 0, result.describe()


def assert_same(native: Result, guest: Result, *, err: bool = True) -> None:
    """Fails unless stdout, status and (if `err`) stderr are the same on both sides."""
    assert_clean(native)
    assert_clean(guest)
    what = []
    if native.status != guest.status:
        what.append(f"status {native.status} != {guest.status}")
    if native.out != guest.out:
        what.append("stdout differs: " + first_difference(native.out, guest.out))
    if err and native.err != guest.err:
        what.append("stderr differs: " + first_difference(native.err, guest.err))
    assert not what, (
        "; ".join(what) + "\n=== native\n" + native.describe() + "\n=== ring3\n" + guest.describe()
    )


def first_difference(native: bytes, guest: bytes) -> str:
    """The first line where two outputs part."""
    a, b = native.splitlines(), guest.splitlines()
    for number, (x, y) in enumerate(zip(a, b, strict=False), 1):
        if x != y:
            return f"line {number}: native {x!r}, ring3 {y!r}"
    return f"native has {len(a)} lines, ring3 {len(b)}"


def host_listing(*dirs: str | os.PathLike[str]) -> dict[str, tuple[object, ...]]:
    """Everything below the directories: path -> (type and mode, owner, links, size, mtime, content or target).

    Compare two of them to prove that the host is untouched.
    """
    listing: dict[str, tuple[object, ...]] = {}
    for top in dirs:
        _list_one(os.fspath(top), listing)
        for base, names, files in os.walk(top):
            for name in (*names, *files):
                _list_one(os.path.join(base, name), listing)
    return listing


def _list_one(path: str, listing: dict[str, tuple[object, ...]]) -> None:
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return
    body: object = None
    if stat.S_ISLNK(st.st_mode):
        body = os.readlink(path)
    elif stat.S_ISREG(st.st_mode):
        with open(path, "rb") as file:
            body = hashlib.blake2b(file.read()).hexdigest()
    listing[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size, st.st_mtime_ns, body)


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """The paths in which two listings differ."""
    return sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))


def fd_snapshot(pid: int | str = "self") -> dict[int, str]:
    """fd -> what it is, of a process."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            pass
    return found


def shm_snapshot() -> set[str]:
    """The names in /dev/shm, without those of tests that use it as a work directory at the same time."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("ring3-test-")}


def mounts_snapshot() -> str:
    """The host's mount table, as this process sees it."""
    return Path("/proc/self/mountinfo").read_text()
