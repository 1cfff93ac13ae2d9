"""Language runtimes, and programs that run programs: once each, natively and under every rewrite mode.

tests/longsuites/runtimes.py runs these and the slower ones many times.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import BASE_ENV, assert_clean, run_native, run_ring3
from runtimecases import CASES, Case, usable_modes


@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.quick])
def test_runtime(case: Case, session_dir: Path, workdir: Path) -> None:
    if reason := case.missing():
        pytest.skip(reason)
    bin_dir = session_dir / "runtimes"
    bin_dir.mkdir(exist_ok=True)
    case.make(bin_dir)
    argv = case.argv(bin_dir)
    env = {**BASE_ENV, "HOME": str(workdir)}
    native = run_native(argv, cwd=workdir, env=env, timeout=case.timeout)
    assert_clean(native)
    for mode in usable_modes():
        guest = run_ring3(argv, f"--rewrite={mode}", cwd=workdir, env=env, timeout=case.timeout)
        wrong = case.differs(native, guest)
        assert not wrong, f"{mode}: {wrong}\n{guest.describe()}"
