"""What the README promises: its first command and its Python example do what it says.

Layer: tests. Touches nothing on the host; the set-up half of the commands is what CI itself did.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from harness import assert_ok, ring3_argv, run, run_ring3

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_the_first_command_runs_a_program_on_files_that_never_exist() -> None:
    first, second = blocks("sh")[:2]
    assert first.count("\n") == second.count("\n") == 1
    setup, _, guest = first.strip().partition(" && .venv/bin/ring3 run ")
    assert setup == "sh setup.sh" and second.strip() == "sh tests/run"
    assert (REPO / "setup.sh").exists() and (REPO / "tests" / "run").exists()
    result = run([*ring3_argv([])[:-1], *shlex.split(guest)])
    assert_ok(result)
    assert b" today\n" in result.out and b"UTC" in result.out
    assert not Path("/report").exists()


def test_the_python_example_works(workdir: Path) -> None:
    (code,) = blocks("python")
    (workdir / "src").mkdir()
    code = code.replace('"/home/me/src"', repr(str(workdir / "src")))
    launcher = ring3_argv([])[: ring3_argv([]).index("run")]
    if "-c" in launcher:  # a checkout that is not installed
        code = f"import sys; sys.path.insert(0, {str(REPO)!r})\n{code}"
    result = run([launcher[0], "-c", code])
    assert_ok(result)
    assert result.out == b"8\n9\n10\n\ntyped\n\nhello from Python\n\n"


def test_the_options_of_the_examples_exist() -> None:
    for line in blocks("console")[0].splitlines():
        if line.startswith("$ ring3 run") and "-v ~" not in line:
            words = shlex.split(line.partition("#")[0])[2:]
            assert_ok(run_ring3(["true"], *[w for w in words if w.startswith("--trace")]))
