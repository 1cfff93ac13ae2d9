"""Random sequences of file calls in several processes, on a real tmpfs and in a guest: the same results, errnos,
attributes and trees. tests/longsuites/fsmodel.py makes many more."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import hostfacts
import pytest

sys.path.insert(0, str(Path(__file__).parent))

pytest.importorskip("hypothesis", reason="hypothesis is not installed: the test extra has it")
from search import find_difference

pytestmark = [
    pytest.mark.skipif(
        bool(hostfacts.not_root()), reason=f"the native half is confined by chroot: {hostfacts.not_root()}"
    ),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.mark.parametrize(("kind", "steps"), [("memory", 2000), ("cow", 300), ("rw", 300), ("overlay", 300)])
def test_no_difference(kind: str, steps: int) -> None:
    made, found = find_difference(kind, steps, seed=1)
    assert not found, found
    assert made >= steps
