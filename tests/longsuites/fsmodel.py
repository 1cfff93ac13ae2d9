"""Random sequences of file calls in several processes, natively on a tmpfs and in a guest, until one differs.

    python tests/longsuites/fsmodel.py [--steps 100000] [--seed 1] [--kind memory]... [--rewrite MODE]

Layer: tests (long). Needs root and hypothesis (the test extra). The same seed gives the same sequences. What differs
is made as short as it gets and shown, and the exit status is 1. tests/fsmodel is how it works.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fsmodel"))

import twosides
from model import KINDS
from search import find_difference

if __name__ == "__main__":
    options, extra = twosides.command_line(str(__doc__), sorted(KINDS))
    for kind in options.kind or ["memory"]:
        if twosides.in_pieces(
            kind, options, lambda wanted, seed, kind=kind: find_difference(kind, wanted, seed, extra)
        ):  # type: ignore[misc]
            sys.exit(1)
