"""docs/hooks.md and docs/trace.md: every example runs.

Layer: tests. Touches what the examples name, in worlds of their own, and files of its own.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ring3_argv

REPO = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (REPO / "docs" / page).read_text(), re.M | re.S)


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPO)!r})\n{code}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


HOOKS = blocks("hooks.md", "python")
COMMANDS = "".join(blocks("trace.md", "sh")).splitlines()


def test_the_first_hook() -> None:
    text = run_python(HOOKS[0])
    assert "/usr/bin/cat opens /etc/shadow" in text and "Permission denied" in text


def test_what_a_hook_may_do() -> None:
    text = run_python(HOOKS[1])
    hostname = Path("/etc/hostname").read_text()
    assert hostname in text and hostname.upper() in text
    assert (
        "4242\n" in text and "made by Python\n" in text and "['/etc/hostname'] " in text and "\n42\n" in text
    )


@pytest.mark.parametrize("number", range(2, len(HOOKS)))
def test_further_hooks(number: int) -> None:
    code = HOOKS[number]
    text = run_python(code)
    assert "ENETDOWN" not in code or "Network is down" in text


def test_a_trace_from_python() -> None:
    (code,) = blocks("trace.md", "python")
    text = run_python(code)
    assert '"/etc/hostname", O_RDONLY' in text and "% time" in text and "getdents64" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands(command: str, workdir: Path) -> None:
    words = shlex.split(command.replace("/tmp/trace.txt", str(workdir / "trace.txt")))
    assert words[:2] == ["ring3", "trace"]
    argv = ring3_argv([])
    argv[argv.index("run") :] = words[1:]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, cwd="/",
                          errors="replace", env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = (workdir / "trace.txt").read_text() if "-o" in words else done.stderr
    assert re.search(r"= (0|3|-1|\?)|% time|\"name\"|<\.\.\.", written), written
