"""Directories that are lent (kernel/drafts.py): how seldom the core asks, and that everybody sees what it made.

The guest's side is tests/guests/drafts.c.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import ring3
from ring3.kernel.dispatch import Dispatcher
from ring3.kernel.drafts import Drafts
from ring3.kernel.table import TABLE

#: shell: makes $1 files with what they are called in them, and says so
MAKES = "i=0; while [ $i -lt $1 ]; do echo $i >f$i; i=$((i+1)); done; echo made; read answer"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls that came to the supervisor."""
    names: list[str] = []
    serve = Dispatcher._serve

    def noted(self: Dispatcher, task: Any, request: Any) -> None:
        if request.kind == 1 and request.nr in TABLE:
            names.append(TABLE[request.nr].name)
        serve(self, task, request)

    monkeypatch.setattr(Dispatcher, "_serve", noted)
    return names


def shell(box: ring3.Sandbox, script: str, *arguments: str) -> Any:
    return box.popen(
        ["sh", "-c", script, "sh", *arguments], cwd="/mem", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_files_that_are_made_in_a_row(calls: list[str]) -> None:
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mem")
        with shell(box, MAKES, "200") as guest:
            assert guest.stdout.readline() == "made\n"
            assert 10 < calls.count("openat") < 50
            found = {path.name: path.read_text() for path in (box.root / "mem").iterdir()}
            assert found == {f"f{i}": f"{i}\n" for i in range(200)}
            assert [path.name for path in (box.root / "mem").iterdir()] == list(found)  # in the order of their making
            guest.communicate("\n")


def test_a_file_that_comes_and_goes(calls: list[str]) -> None:
    script = "import os\nfor _ in range(500):\n    os.close(os.open('f', os.O_RDWR | os.O_CREAT))\n    os.unlink('f')\n"
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mem")
        box.run(["/usr/bin/python3", "-c", script], cwd="/mem", check=True)
        assert 0 < calls.count("unlink") < 20
        assert list((box.root / "mem").iterdir()) == []


def test_what_the_users_python_does_meanwhile() -> None:
    script = f"set -- 20; {MAKES}; test -e f3 || echo gone; cat f4; test -e new && cat new; echo again >f5; cat f5"
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mem")
        mem = box.root / "mem"
        with shell(box, script) as guest:
            assert guest.stdout.readline() == "made\n"
            (mem / "f3").unlink()
            (mem / "f4").write_text("other\n")
            (mem / "f4").chmod(0o604)
            (mem / "new").write_text("new\n")
            out, _ = guest.communicate("\n")
        assert out == "gone\nother\nnew\nagain\n"
        assert (mem / "f4").stat().st_mode == 0o100604
        assert (mem / "f5").read_text() == "again\n"


def test_snapshots_have_what_was_made() -> None:
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mem")
        with shell(box, f"{MAKES}; cat f1 || echo none; ls | wc -l", "20") as guest:
            assert guest.stdout.readline() == "made\n"
            before = box.snapshot()
            assert (box.root / "mem/f19").read_text() == "19\n"
            (box.root / "mem/f1").unlink()
            box.restore(before)
            out, _ = guest.communicate("\n")
        assert out == "1\n20\n"


@pytest.mark.parametrize("way", ["hook", "size", "cow", "nr_inodes"])
def test_where_it_is_lent(way: str, calls: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lent: list[Any] = []
    lend = Drafts._lend
    monkeypatch.setattr(Drafts, "_lend", lambda self, *words: (lent.append(words), lend(self, *words)))
    with ring3.Sandbox(mounts={"/mem": (str(tmp_path), "cow")}) as box:
        heard: list[Any] = []
        if way == "hook":
            box.hook("openat", before=heard.append)
        elif way == "nr_inodes":
            box.mount_tmpfs("/mem", nr_inodes=10000000)
        elif way == "size":
            try:
                box.mount_tmpfs("/mem", size=10000000)
            except ring3.SandboxError as e:
                pytest.skip(str(e))  # who runs us may mount nothing to hold it
        with shell(box, MAKES, "20") as guest:
            assert guest.stdout.readline() == "made\n"
            assert len(list((box.root / "mem").iterdir())) == 20
            guest.communicate("\n")
        assert bool(lent) == (way == "cow")
        assert not list(tmp_path.iterdir())
        if way == "hook":
            assert len(heard) > 20
