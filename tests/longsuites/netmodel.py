"""Random sequences of socket calls in several processes, natively on loopback and in a guest, until one differs.

    python tests/longsuites/netmodel.py [--steps 100000] [--seed 1] [--rewrite MODE]

Layer: tests (long). Needs root or user namespaces, and hypothesis (the test extra). tests/netmodel is how it works.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "netmodel"))

import twosides
from netsides import find_difference

if __name__ == "__main__":
    options, extra = twosides.command_line(str(__doc__))
    sys.exit(
        twosides.in_pieces("sockets", options, lambda wanted, seed: find_difference(wanted, seed, extra))
    )
