"""Python code in a guest, for tests that look at the network from inside."""

from __future__ import annotations

import sys

import ring3

PYTHON = sys.executable
TIME_LIMIT = 90.0


def run(box: ring3.Sandbox, code: str) -> str:
    """Run Python code in a guest; what it printed."""
    done = box.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=TIME_LIMIT)
    assert done.returncode == 0, done
    return str(done.stdout)
