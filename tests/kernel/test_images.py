"""Rewritten text is an optimisation: without it programs run all the same, and the user hears why."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import ring3
from ring3.kernel import analyses, images
from ring3.loader import site_cache
from ring3.loader.site_cache import RewriteCache


class _Broken:
    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def look(self, fd: int, limit: int) -> None:
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


def test_large_files_are_analysed_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who maps a large file waits for its analysis; other guests are served meanwhile; a failure costs traps only."""
    directory = tmp_path / "cache"
    monkeypatch.setattr(site_cache, "_shared", [RewriteCache(str(directory))])
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(site_cache, "find_sites", lambda *_: pytest.fail("analysed in the supervisor's loop"))
    lines: list[str] = []
    with ring3.Sandbox(log=lines.append) as box:
        both = [box.popen(["sh", "-c", "ls / >/dev/null && echo done"], stdout=subprocess.PIPE) for _ in range(2)]
        for process in both:
            out, _ = process.communicate(timeout=100)
            assert process.returncode == 0 and out.decode() == "done\n"
        names = {name.rpartition("/")[2]: entry for name, entry in box._kernel.images.files()}
        assert names["libc.so.6"].analysis is not None and len(names["libc.so.6"].analysis.sites) > 400
    assert lines == []
    assert [p for p in directory.iterdir() if not p.is_symlink()]


def test_an_analysis_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_cache, "_shared", [RewriteCache(str(tmp_path / "cache"))])
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(analyses, "_CODE", "# {}\nimport sys; sys.exit(1)")
    with ring3.Sandbox() as box:
        done = box.run(["sh", "-c", "ls / >/dev/null; echo done"], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_an_analysis_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program starts all the same, and nothing is left when the sandbox is closed."""
    monkeypatch.setattr(site_cache, "_shared", [RewriteCache(str(tmp_path / "cache"))])
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(analyses, "PATIENCE", 0.01)
    monkeypatch.setattr(analyses, "_CODE", "# {}\nimport signal; signal.pause()")
    with ring3.Sandbox() as box:
        done = box.run(["sh", "-c", "ls / >/dev/null; echo done"], capture_output=True, text=True, timeout=100)
        pids = [a._pid for a in box._kernel.images._analyses.values()]
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert pids and not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_no_further_python_to_analyse_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that may not be executed again (below a directory of somebody else's): the calls trap."""
    monkeypatch.setattr(site_cache, "_shared", [RewriteCache(str(tmp_path / "cache"))])
    monkeypatch.setattr(images, "LARGE", 1000)
    monkeypatch.setattr(analyses.sys, "executable", "/etc/passwd")
    lines: list[str] = []
    with ring3.Sandbox(log=lines.append) as box:
        done = box.run(["sh", "-c", "ls / >/dev/null && echo done"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n"
    assert len(lines) == 1 and "not rewritten, which makes them slower: Permission denied: /etc/passwd" in lines[0]
