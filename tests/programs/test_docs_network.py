"""docs/network.md: every example in Python runs, and says what it should.

Layer: tests. Touches worlds of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import REPO

BLOCKS = re.findall(r"^```python\n(.*?)^```", (REPO / "docs/network.md").read_text(), re.M | re.S)

#: A part of each example, and what it prints.
EXAMPLES = {
    "any asyncio stream callback": ["you said hello"],
    'net.asgi("www.example.com"': ["/from/python", '[{"name": "ann"}]', "page=1 1"],
    "box.net.policy": ["stand-in", "refused"],
    "box.net.weather": [],
    "ring3.Lan()": ["HTTP/1.0 200 OK"],
}


@pytest.mark.parametrize("part", EXAMPLES)
def test_an_example(part: str, tmp_path: Path) -> None:
    if "asgi" in part:
        pytest.importorskip("uvicorn", reason="uvicorn is not installed (the extra `net`)")
        pytest.importorskip("trustme", reason="trustme is not installed (the extra `net`)")
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
    (block,) = [b for b in BLOCKS if part in b]
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in EXAMPLES[part]:
        assert line in done.stdout, done.stdout + done.stderr


def test_every_example_is_tried() -> None:
    assert len(BLOCKS) == len(EXAMPLES)
