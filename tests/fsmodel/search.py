"""Looks for a sequence of file calls that ends differently natively and in a guest.

Layer: tests. The sequences are hypothesis's, the same for the same seed; one that differs is made as short as it gets.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import hypothesis
from calls import steps, usable
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from model import Pair, difference, pair

SEQUENCE = 60  # steps at most, 20 less or more; in the mean it is half of that


class Differs(AssertionError):
    """What was done, and the two answers."""


def search(both: Pair, wanted: int, seed: int, shrink: bool = True) -> tuple[int, str]:
    """Makes `wanted` steps; how many it made, and the first difference, "" for none."""
    made = 0
    failed = False

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max(1, wanted // 10),
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
    @hypothesis.given(st.lists(steps(), min_size=SEQUENCE - 20, max_size=SEQUENCE + 20))
    def same(sequence: list[str]) -> None:
        nonlocal made, failed
        if made >= wanted and not failed:
            return
        lines = [step for step in sequence if usable(step)]
        if not lines:
            return
        words = difference(lines, *both.ask(lines))
        if words:
            failed = True
            raise Differs(words)
        made += len(lines)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hypothesis.errors.HypothesisWarning)  # a large strategy
            same()
    except Differs as exc:
        return made, str(exc)
    return made, ""


def find_difference(kind: str, wanted: int, seed: int, options: Sequence[str] = ()) -> tuple[int, str]:
    """`search` with two new sides."""
    with pair(kind, options) as both:
        return search(both, wanted, seed)
