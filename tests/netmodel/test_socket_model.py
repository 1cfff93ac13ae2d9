"""Random sequences of socket calls in several processes, on the host's loopback and in a guest: the same results,
errnos, addresses, options and readiness. tests/longsuites/netmodel.py makes many more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

pytest.importorskip("hypothesis", reason="hypothesis is not installed: the test extra has it")
from netsides import NAMESPACE, find_difference


def test_no_difference() -> None:
    try:
        subprocess.run(["unshare", *NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the native half needs a network namespace of its own")
    made, found = find_difference(1000, seed=1)
    assert not found, found
    assert made >= 1000
