"""Fixtures of the real programs' tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from twin import Twin


@pytest.fixture
def twin(workdir: Path) -> Twin:
    """A native and a guest side in one fresh directory."""
    return Twin(workdir)
