"""Every call of the table with plausible and hostile arguments, natively and in a guest: the same results and errnos;
and any call with any argument in a guest, which has to survive. tests/longsuites/callfuzz.py makes many more."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import hostfacts
import pytest

sys.path.insert(0, str(Path(__file__).parent))

pytest.importorskip("hypothesis", reason="hypothesis is not installed: the test extra has it")
from sides import find_difference
from wild import survive

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="both sides are confined by namespaces, which needs root"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)"),
]
MODES = ["detour", "off"]


@pytest.mark.parametrize("mode", MODES)
def test_no_difference(mode: str) -> None:
    if reason := hostfacts.not_root() or hostfacts.no_device_nodes():
        pytest.skip(f"the native side has users and devices: {reason}")
    made, found = find_difference(400, seed=MODES.index(mode) + 1, options=[f"--rewrite={mode}"])
    assert not found, found
    assert made >= 400


@pytest.mark.parametrize("mode", MODES)
def test_survives_anything(mode: str) -> None:
    made, found = survive(800, seed=MODES.index(mode) + 1, options=[f"--rewrite={mode}"])
    assert not found, found
    assert made >= 800
