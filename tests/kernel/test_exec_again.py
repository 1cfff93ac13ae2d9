"""Programs that are executed again: opened ahead (kernel/gifts.py) and planned ahead (kernel/sys_exec.py).

The guest's side is tests/guests/exec_again.c.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import ring3
from ring3.kernel import sys_exec
from ring3.kernel.gifts import Gifts

#: shell: runs the program $1 some times, says so, runs it once more after an answer, and tells of its status
AGAIN = """
for i in 1 2 3 4 5; do $1 || exit 9; done
echo ran; read answer; eval "$answer" || exit 8; $1; echo $?
"""


class Counts:
    def __init__(self) -> None:
        self.opened_ahead = self.planned_ahead = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """How often a program was open before it was asked for, and its plan sent before the core asked."""
    found = Counts()
    program, send = Gifts.program, sys_exec._send_ahead

    def noted(self: Gifts, *words: Any) -> Any:
        result = program(self, *words)
        found.opened_ahead += result is not None
        return result

    def sent(*words: Any) -> None:
        send(*words)
        found.planned_ahead += 1

    monkeypatch.setattr(Gifts, "program", noted)
    monkeypatch.setattr(sys_exec, "_send_ahead", sent)
    return found


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with two programs: `good` succeeds, `bad` does not."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, real in ("good", "true"), ("bad", "false"):
        shutil.copy(shutil.which(real) or "", folder / name)
    return folder


def last_status(box: ring3.Sandbox, program: str, then: str, host: Any = None) -> int:
    """Of the run after `then`, which the guest's shell does; or after `host()`, which we do."""
    with box.popen(
        ["sh", "-c", AGAIN, "sh", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as guest:
        assert guest.stdout.readline() == "ran\n"
        if host is not None:
            host()
        guest.stdin.write(then + "\n")
        guest.stdin.flush()
        return int(guest.stdout.readline())


@pytest.mark.parametrize(
    ("then", "status"),
    [
        ("true", 0),
        ("mv @bad @good", 1),
        ("ln -sf bad @good", 1),
        ("cat @bad >@new; chmod +x @new; mv @new @good", 1),
        ("cat @bad >@good", 1),
        ("chmod -x @good", 126),
        ("rm @good", 127),
        ("mv @ @elsewhere; mkdir @; cp @elsewhere/bad @good", 1),
        ("exec 3>>@good", 126),
    ],
)
def test_what_is_changed_in_the_guest(counts: Counts, programs: Path, then: str, status: int) -> None:
    then = then.replace("@elsewhere", f"{programs}.old").replace("@ ", f"{programs} ").replace("@;", f"{programs};")
    then = then.replace("@", f"{programs}/")
    with ring3.Sandbox() as box:
        assert last_status(box, f"{programs}/good", then) == status
    assert counts.opened_ahead > 1
    assert counts.planned_ahead > 3


@pytest.mark.parametrize("how", ["replaced", "written", "mode"])
def test_what_the_host_changes(counts: Counts, programs: Path, how: str) -> None:
    good, bad = programs / "good", programs / "bad"

    def change() -> None:
        if how == "replaced":
            bad.rename(good)
        elif how == "written":
            good.write_bytes(bad.read_bytes())
        else:
            good.chmod(0o644)

    with ring3.Sandbox() as box:
        assert last_status(box, str(good), "true", change) == (126 if how == "mode" else 1)
    assert counts.opened_ahead > 1


def test_names_that_mean_something_else_to_everybody(counts: Counts) -> None:
    script = "for i in 1 2 3 4 5 6; do /proc/self/exe -c 'echo $0' $i; done"
    with ring3.Sandbox() as box:
        assert box.run(["dash", "-c", script], capture_output=True, text=True).stdout.split() == list("123456")
    assert counts.opened_ahead == 0


def test_not_with_hooks(counts: Counts) -> None:
    with ring3.Sandbox() as box:
        box.hook("execve", before=lambda call: None)
        assert box.run(["sh", "-c", "for i in 1 2 3; do /bin/true; done"]).returncode == 0
    assert counts.planned_ahead == 0


def test_who_has_ended_executes_nothing(monkeypatch: pytest.MonkeyPatch, programs: Path) -> None:
    """A shell that has waited for a program may write to its file, even if we have not heard of the end yet."""
    with ring3.Sandbox() as box:
        kernel = box._kernel
        gone = kernel.guests.gone
        monkeypatch.setattr(kernel.guests, "gone", lambda process: kernel.loop.call_later(0.5, lambda: gone(process)))
        script = "$0; echo >>$0; echo $?"
        done = box.run(["dash", "-c", script, f"{programs}/good"], capture_output=True, text=True)
    assert done.stdout == "0\n", done
