"""Whatever bytes a parser gets: it reads them, or says in a way of ours what is wrong, and takes neither long nor much
memory. tests/longsuites/parsers.py goes on for as long as asked, led by coverage."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from channel import end
from targets import SAMPLES, TARGETS, mutated

RUNS = {"channel": 6000, "request": 6000, "query": 6000, "image": 400, "sites": 600}
INPUT_LIMIT = 10  # seconds for one input: a hang, whatever the machine


@pytest.fixture(scope="module", autouse=True)
def _end_of_the_guest() -> Iterator[None]:
    yield
    end()


def _hangs(_number: int, _frame: object) -> None:
    raise TimeoutError("one input takes too long")


@pytest.fixture
def _limited() -> Iterator[None]:
    before = signal.signal(signal.SIGVTALRM, _hangs)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.usefixtures("_limited")
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_any_bytes(name: str) -> None:
    samples = SAMPLES[name]()
    r = random.Random(1)
    inputs = [*samples]
    inputs += (mutated(r, r.choice(samples)) for _ in range(RUNS.get(name, 1500)))
    for data in inputs:
        signal.setitimer(signal.ITIMER_VIRTUAL, INPUT_LIMIT)
        try:
            TARGETS[name](data)
        except Exception as e:
            e.add_note(f"{name} of {data[:4000]!r}")
            raise
