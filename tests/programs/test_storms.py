"""Storms of forks, threads and execs end right and leak nothing; SIGKILL at random moments neither.

Through the Python API, in this very process, so that what the supervisor holds can be counted.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest
from guestbuild import Builder
from harness import assert_ok, descendants, run_native
from stormhelp import count, settle

if TYPE_CHECKING:
    from ring3 import Sandbox
    from ring3.process import Popen

STORMS = {"fork": 1000, "threads": 500, "exec": 500}


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox with an empty memory filesystem at /mem; everything must be free after it."""
    from ring3 import Sandbox

    with Sandbox() as warm:  # what the first sandbox of a process allocates for good is no leak
        warm.run(["/bin/true"])
    gc.collect()
    before = count()
    loan = Loan(Sandbox())
    with loan.box:
        loan.box.mount_tmpfs("/mem")
        yield loan  # type: ignore[misc]
    # `root` stays readable after close(), as long as the object lives
    loan.box = None
    gc.collect()
    more = settle(before)
    assert not more, f"left after close(): {more}"


class Loan:
    """Stands for the sandbox where pytest keeps references to it for longer than we want."""

    def __init__(self, box: Any) -> None:
        self.box = box

    def __getattr__(self, name: str) -> Any:
        return getattr(self.box, name)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("kind", STORMS)
def test_storm(kind: str, guests: Builder, box: Sandbox, workdir: Path) -> None:
    program = os.fspath(guests.path("storm"))
    number = STORMS[kind]
    native = run_native([program, kind, str(number)], cwd=workdir)
    assert_ok(native)
    # the second run is measured: the first may fill caches which are kept on purpose
    assert box.run([program, kind, "10"], cwd="/mem", timeout=60).returncode == 0
    before = count()
    guest = box.run([program, kind, str(number)], cwd="/mem", capture_output=True, timeout=120)
    assert (guest.returncode, guest.stdout) == (0, native.out), guest
    more = settle(before)
    assert not more, f"left after the storm, the sandbox alive: {more}"
    assert not list((box.root / "mem").iterdir())


@pytest.mark.timeout(150)
def test_exec_storm_from_a_shell(box: Sandbox) -> None:
    script = "i=0; while [ $i -lt 500 ]; do /bin/true || exit 1; i=$((i+1)); done; echo $i"
    box.run(["/bin/sh", "-c", "/bin/true"])
    before = count()
    guest = box.run(["/bin/sh", "-c", script], capture_output=True, timeout=120)
    assert (guest.returncode, guest.stdout, guest.stderr) == (0, b"500\n", b"")
    more = settle(before)
    assert not more, f"left: {more}"


def session(leader: int) -> list[int]:
    """The processes of a guest that was started with new_session, orphans too."""
    found = []
    for pid in descendants(os.getpid()):
        try:
            if pid == leader or os.getsid(pid) == leader:
                found.append(pid)
        except ProcessLookupError:
            pass
    return found


def kill(pid: int) -> None:
    """SIGKILL for a guest's process that may be gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def end_session(guest: Popen) -> None:
    """Kills a guest and all that it started."""
    deadline = time.monotonic() + 10
    kill(guest.host_pid)
    guest.wait(timeout=10)
    while left := [pid for pid in session(guest.host_pid) if pid != guest.host_pid]:
        for pid in left:
            kill(pid)
        assert time.monotonic() < deadline, f"{left} do not end"
        time.sleep(0.002)


def kill_at_random(box: Sandbox, words: list[str], rounds: int, seed: int) -> None:
    """Starts a guest, lets it work for a random time, kills some of its processes and then all; `rounds` times."""
    dice = random.Random(seed)
    for _ in range(rounds):
        guest = box.popen(words, cwd="/mem", new_session=True)
        time.sleep(dice.random() * dice.choice([0.002, 0.02, 0.1]))
        # at any moment of their lives: before the first instruction, in a call, in an exec
        victims = session(guest.host_pid)
        dice.shuffle(victims)
        for pid in victims[: dice.randrange(len(victims) + 1)]:
            kill(pid)
            time.sleep(dice.random() * 0.002)
        end_session(guest)


@pytest.mark.timeout(300)
def test_kill_200_times(guests: Builder, box: Sandbox) -> None:
    """The supervisor lives, a bystander goes on unharmed, everything is freed."""
    from ring3 import Sandbox

    program = os.fspath(guests.path("storm"))
    script = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i >count; /bin/true || exit 9; sleep 0.05; done; echo $i"
    (box.root / "mem" / "by").mkdir()
    (box.root / "mem" / "by").chmod(0o777)
    bystander = box.popen(
        ["/bin/sh", "-c", script], cwd="/mem/by", stdout=PIPE, stderr=PIPE, new_session=True
    )
    wait_for((box.root / "mem/by/count").exists)
    with Sandbox() as other:  # the victims live in a world of their own, and in the bystander's
        other.mount_tmpfs("/mem")
        shell = "while :; do /bin/true; echo x >f; cat f | cat >g; mkdir d; rmdir d; ls / >/dev/null; done"
        for world in (other, box):  # the names and directories which they use are cached on purpose
            for words in ([program, "work"], ["/bin/sh", "-c", shell]):
                warm = world.popen(words, cwd="/mem", new_session=True)
                time.sleep(0.5)
                end_session(warm)
        before = count()
        kill_at_random(other, [program, "work"], 70, seed=1)
        kill_at_random(box, [program, "work"], 70, seed=2)
        kill_at_random(box, ["/bin/sh", "-c", shell], 60, seed=3)
        assert other.run(["/bin/echo", "alive"], capture_output=True, timeout=20).stdout == b"alive\n"
        for path in (other.root / "mem", box.root / "mem"):
            for entry in path.iterdir():
                if entry.name != "by" and entry.is_file():
                    entry.unlink()
        left = settle(before, ignore=bystander.host_pid)
        assert not left, f"left after 200 kills: {left}"
    (box.root / "mem/by/stop").write_bytes(b"")
    out, err = bystander.communicate(timeout=30)
    assert bystander.returncode == 0, err
    assert int(out) > 5 and not err


def wait_for(condition: Callable[[], bool], limit: float = 20.0) -> None:
    """Waits until `condition()` holds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "time limit"
        time.sleep(0.01)
