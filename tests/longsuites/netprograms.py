"""Runs real network programs natively and in the guest, and shows where what they print differs.

    python tests/longsuites/netprograms.py [--repeat 3] [--json FILE] [NAME...]

Layer: tests (long). The programs are those of tests/programs/netcases.py; one that is not installed is left out, with
the reason. The exit status is 1 if any run differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "programs"))

from harness import BASE_ENV, Result, begin_suite, run_native, run_ring3
from netcases import CASES, PRELUDE, Case, free_ports


def run_once(case: Case, kind: str) -> Result:
    """One run, natively or in a guest."""
    with tempfile.TemporaryDirectory(prefix="ring3-net-") as where:
        ports = {f"P{i}": str(port) for i, port in enumerate(free_ports(), 1)}
        env = {**BASE_ENV, **ports, "HOME": where}
        run = run_native if kind == "native" else run_ring3
        return run(["bash", "-c", PRELUDE + case.script], cwd=where, env=env, timeout=case.timeout)  # type: ignore[operator]


def differs(native: Result, guest: Result) -> bool:
    return guest.timed_out or bool(guest.left) or (native.status, native.out) != (guest.status, guest.out)


def main() -> int:
    """Run the command line; its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="these only")
    parser.add_argument("--repeat", type=int, default=1, help="runs in the guest of each")
    parser.add_argument("--json", type=Path, help="write the results there too")
    options = parser.parse_args()
    begin_suite()
    results: dict[str, str] = {}
    for case in CASES:
        if options.names and case.name not in options.names:
            continue
        missing = [name for name in case.needs if shutil.which(name) is None]
        if missing or (case.root and os.getuid()):
            results[case.name] = "left out: " + (
                f"{', '.join(missing)} not installed" if missing else "only root can"
            )
            print(f"{case.name:12} {results[case.name]}", flush=True)
            continue
        native = run_once(case, "native")
        bad = None
        for _ in range(options.repeat):
            guest = run_once(case, "guest")
            if differs(native, guest):
                bad = guest
                break
        results[case.name] = "differs" if bad else "same"
        print(f"{case.name:12} {results[case.name]}", flush=True)
        if bad is not None:
            print("natively", native.describe(), "in the guest", bad.describe(), sep="\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return int("differs" in results.values())


if __name__ == "__main__":
    sys.exit(main())
