"""Random sequences of file calls in several processes, natively on a tmpfs and in a guest, until one differs.

    python tests/longsuites/fsmodel.py [--steps 100000] [--seed 1] [--kind memory]... [--rewrite MODE]

Layer: tests (long). Needs root and hypothesis (the test extra). The same seed gives the same sequences. What differs
is made as short as it gets and shown, and the exit status is 1. tests/fsmodel is how it works.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fsmodel"))

from harness import become_subreaper
from model import KINDS
from search import find_difference

PIECE = 20000  # steps for which both sides live


def main() -> int:
    """Makes the steps in pieces, each with a seed of its own and two new sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100_000, help="steps for each kind (default 100000)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument(
        "--kind", action="append", choices=sorted(KINDS), help="the guest's filesystem (default: memory)"
    )
    parser.add_argument("--rewrite", help="ring3's way of interception (default: its own default)")
    options = parser.parse_args()
    become_subreaper()
    for kind in options.kind or ["memory"]:
        done, seed = 0, options.seed
        while done < options.steps:
            began = time.monotonic()
            extra = [f"--rewrite={options.rewrite}"] if options.rewrite else []
            made, found = find_difference(kind, min(PIECE, options.steps - done), seed, extra)
            done += made
            print(
                f"{kind}: seed {seed}: {made} steps in {time.monotonic() - began:.0f} s, {done} in all",
                flush=True,
            )
            if found:
                print(found)
                return 1
            seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
