"""Rewritten text is an optimisation: without it programs run all the same, and the user hears why."""

from __future__ import annotations

import pytest

import ring3
from ring3.kernel import images


class _Broken:
    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def look(self, fd: int) -> None:
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ModuleNotFoundError("No module named 'capstone'"), "not rewritten, which makes them slower: No module named"),
        (OSError(24, "Too many open files"), "a file's system calls are not rewritten: OSError"),
        (ValueError("odd"), "a file's system calls are not rewritten: ValueError: odd"),
    ],
)
def test_programs_run_when_rewriting_fails(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, words: str
) -> None:
    monkeypatch.setattr(images, "_shared_cache", lambda: _Broken(failure))
    lines: list[str] = []
    with ring3.Sandbox(log=lines.append) as box:
        done = box.run(["sh", "-c", "ls / | wc -l; echo done"], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("done\n") and done.returncode == 0
    assert len(lines) == 1 and words in lines[0]


def test_off_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_shared_cache", lambda: pytest.fail("asked for rewritten text"))
    with ring3.Sandbox(rewrite="off") as box:
        assert box.run(["true"]).returncode == 0
