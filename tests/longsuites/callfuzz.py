"""Every system call with plausible and hostile arguments, natively and in a guest, until one differs; then any call
with any argument in a guest, until something breaks.

    python tests/longsuites/callfuzz.py [--steps 100000] [--seed 1] [--kind compared|wild]... [--rewrite MODE]

Layer: tests (long). Needs root, unshare(1) and hypothesis (the test extra). The same seed gives the same calls. What
differs is made as short as it gets and shown, and the exit status is 1. tests/callfuzz is how it works.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "callfuzz"))

import twosides
from sides import find_difference
from wild import survive

KINDS = {"compared": find_difference, "wild": survive}

if __name__ == "__main__":
    options, extra = twosides.command_line(str(__doc__), sorted(KINDS))
    for kind in options.kind or KINDS:
        if twosides.in_pieces(
            kind, options, lambda wanted, seed, kind=kind: KINDS[kind](wanted, seed, extra)
        ):  # type: ignore[misc]
            sys.exit(1)
