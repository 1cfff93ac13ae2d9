"""Looks for a sequence of file calls that ends differently natively and in a guest.

Layer: tests.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import twosides
from calls import steps, usable
from model import pair


def find_difference(kind: str, wanted: int, seed: int, options: Sequence[str] = ()) -> tuple[int, str]:
    """`twosides.search` with two new sides."""
    with pair(kind, options) as both:
        return twosides.search(both, twosides.sequences(steps(), partial(usable, kind=kind)), wanted, seed)
