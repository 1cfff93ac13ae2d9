"""What the core answers by itself (kernel/answers.py): how often it asks, and what ends an answer's life.

The guest's side is tests/guests/remembered.c.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ring3
from ring3.kernel.answers import Answers

ASKS = "for i in 1 2 3 4 5 6 7 8 9; do test -e /mem/here; test -e /mem/nowhere; done; true"


def test_asked_once(asked: list[bytes]) -> None:
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mem")
        (box.root / "mem/here").write_bytes(b"")
        box.run(["sh", "-c", f"{ASKS}; sh -c '{ASKS}'; ({ASKS})"], check=True)  # other processes: the same answers
        assert asked.count(b"/mem/here") == asked.count(b"/mem/nowhere") == 1
        (box.root / "mem/nowhere").write_bytes(b"")  # a change by the user's Python
        box.run(["sh", "-c", ASKS], check=True)
        assert asked.count(b"/mem/here") == 1 and asked.count(b"/mem/nowhere") == 2


def test_changes_by_the_users_python() -> None:
    """Whatever is done from outside shows at once: what a guest has asked before is asked again."""
    look = "stat -c '%n %s %a %h %u' /mem/f /mem/g /mem/d/x 2>/dev/null; readlink /mem/l; ls /mem /mem/d"
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mem")
        mem = box.root / "mem"

        def seen() -> list[str]:
            found = {box.run(["sh", "-c", f"{look}; {look}"], capture_output=True, text=True).stdout for _ in range(3)}
            assert len(found) == 1
            lines = found.pop().splitlines()
            assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
            return lines[: len(lines) // 2]

        def listed(*names: str) -> list[str]:
            return ["/mem:", *names]

        assert seen() == listed()
        (mem / "f").write_bytes(b"one")
        assert seen() == ["/mem/f 3 644 1 0", *listed("f")]
        (mem / "f").chmod(0o600)
        (mem / "f").write_bytes(b"longer")
        assert seen() == ["/mem/f 6 600 1 0", *listed("f")]
        (mem / "f").rename(mem / "g")
        assert seen() == ["/mem/g 6 600 1 0", *listed("g")]
        (mem / "d").mkdir()
        (mem / "d/x").write_bytes(b"")
        (mem / "l").symlink_to("g")
        assert seen() == ["/mem/g 6 600 1 0", "/mem/d/x 0 644 1 0", "g", *listed("d", "g", "l"), "", "/mem/d:", "x"]
        (mem / "d").rename(mem / "e")
        (mem / "l").unlink()
        assert seen() == ["/mem/g 6 600 1 0", *listed("e", "g")]


def test_what_the_host_changes(tmp_path: Path, asked: list[bytes]) -> None:
    (tmp_path / "here").write_bytes(b"12345")
    with ring3.Sandbox(mounts={"/mem": (str(tmp_path), "ro")}) as box:
        box.run(["sh", "-c", ASKS], check=True)
        before = asked.count(b"/mem/here")
        assert before < 9
        size = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do stat -c %s /mem/here; done"]
        assert set(box.run(size, capture_output=True, text=True).stdout.split()) == {"5"}
        (tmp_path / "here").write_bytes(b"123")
        (tmp_path / "here").chmod(0o600)
        (tmp_path / "nowhere").write_bytes(b"")
        # The answers end when the supervisor has read inotify's event, at the latest when it is asked anything.
        done = box.run(
            ["sh", "-c", "cat /proc/uptime /mem/nothing; test -e /mem/nowhere && stat -c %s,%a /mem/here"],
            capture_output=True,
            text=True,
        )
        assert done.stdout.endswith("3,600\n")


def test_a_mistake_of_ours_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception where none was expected: that call fails, the user hears of it, and the world goes on."""
    served = Answers.served

    def broken(self: Answers, task: Any, request: Any, args: tuple[Any, ...], result: Any) -> None:
        if b"/etc/passwd" in args:
            raise ZeroDivisionError
        served(self, task, request, args, result)

    monkeypatch.setattr(Answers, "served", broken)
    lines: list[str] = []
    with ring3.Sandbox(log=lines.append) as box:
        script = "test -e /etc/passwd; echo $?; test -e /etc/group; echo $?"
        done = box.run(["sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n0\n"
    assert len(lines) == 1 and "ZeroDivisionError" in lines[0]
