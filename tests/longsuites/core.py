"""The core's C files on the host under AddressSanitizer and UndefinedBehaviorSanitizer, fed at random.

    python tests/longsuites/core.py [--minutes 10] [--seed 1] [--calls 500000]

Layer: tests (long). Needs gcc with libasan. tests/corehost is how it works: a harness plays the host kernel, the
guest's memory and the supervisor. A seed whose run a sanitizer ends is printed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "corehost"))

from build import build, lacks, run


def main() -> int:
    """One seed after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--calls", type=int, default=500_000, help="calls of each seed (default 500000)")
    options = parser.parse_args()
    if lacks():
        parser.error(lacks())
    end, seed = time.monotonic() + options.minutes * 60, options.seed
    with tempfile.TemporaryDirectory(prefix="ring3-core-") as where:
        binary = build(Path(where))
        while True:
            if found := run(binary, seed, options.calls):
                print(found)
                return 1
            seed += 1
            if time.monotonic() >= end:
                break
    print(f"{seed - options.seed} seeds of {options.calls} calls, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
