"""Fixtures of the tests of the pretend kernel.

Layer: tests.
"""

from __future__ import annotations

from typing import Any

import pytest

from ring3.kernel.answers import Answers


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The paths of the calls that came to the supervisor although an answer to them is remembered."""
    paths: list[bytes] = []
    served = Answers.served

    def noted(self: Answers, task: Any, request: Any, args: tuple[Any, ...], result: Any) -> None:
        paths.extend(arg for arg in args if isinstance(arg, bytes))
        served(self, task, request, args, result)

    monkeypatch.setattr(Answers, "served", noted)
    return paths
