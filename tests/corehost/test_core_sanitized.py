"""The core's marshalling under the sanitizers, fed at random; tests/longsuites/core.py goes on for as long as asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from build import build, lacks, run

SEEDS = 3
CALLS = 15000

pytestmark = pytest.mark.skipif(bool(lacks()), reason=lacks())


def test_no_sanitizer_complains(tmp_path: Path) -> None:
    binary = build(tmp_path)
    for seed in range(1, SEEDS + 1):
        found = run(binary, seed, CALLS)
        assert not found, found
