"""Real network programs in a guest print what they print natively (tests/longsuites/netprograms.py runs all of them).

Layer: tests. Touches temporary directories, and natively free ports of the loopback interface.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import hostfacts
import pytest
from harness import BASE_ENV, assert_clean, run_native, run_ring3
from netcases import CASES, PRELUDE, Case, free_ports

CHANGES_USER = {"rsync"}
SHORT = [case for case in CASES if case.short]


@pytest.mark.parametrize("case", SHORT, ids=[case.name for case in SHORT])
def test_a_program(case: Case, tmp_path: Path) -> None:
    for name in case.needs:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    if case.root and os.getuid():
        pytest.skip("only root can run it")
    if case.name in CHANGES_USER and not os.getuid() and (reason := hostfacts.few_users()):
        pytest.skip(f"as root it becomes nobody: {reason}")
    ports = {f"P{i}": str(port) for i, port in enumerate(free_ports(), 1)}
    command = ["bash", "-c", PRELUDE + case.script]
    results = []
    for kind, run in (("native", run_native), ("guest", run_ring3)):
        (tmp_path / kind).mkdir()
        env = {**BASE_ENV, **ports, "HOME": str(tmp_path / kind)}
        result = run(command, cwd=tmp_path / kind, env=env, timeout=case.timeout)  # type: ignore[operator]
        assert_clean(result)
        results.append(result)
    native, guest = results
    assert native.status == guest.status and native.out == guest.out, (
        native.describe() + "\n" + guest.describe()
    )
