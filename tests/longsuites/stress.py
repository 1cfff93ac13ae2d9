"""Runs stress-ng's filesystem class with --verify natively and in the guest, side by side.

    python tests/longsuites/stress.py [--seconds 60] [--json FILE] [STRESSOR...]

Layer: tests (long). Needs the Debian package stress-ng. Each stressor runs alone, with one worker, in a directory of
its own (in the guest on a memory filesystem). The exit status is 1 if one that ends well natively does not in the
guest.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import Result, begin_suite, run_native, run_ring3

#: Exit statuses of stress-ng (its manual page).
MEANING = {0: "ok", 1: "bad options", 2: "FAILED", 3: "no resources", 4: "not implemented", 5: "killed", 6: "bad exit",
           7: "bad metrics"}  # fmt: skip
GRACE = 90  # seconds beyond its time until a stressor counts as hung


def stressors() -> list[str]:
    """The names of the class."""
    said = subprocess.run(["stress-ng", "--class", "filesystem?"], capture_output=True, text=True, check=False)
    return re.sub(r".*stressors:", "", said.stdout + said.stderr, flags=re.S).split()


def outcome(result: Result) -> tuple[str, str]:
    """(how it ended, what it complained about)"""
    text = (result.out + result.err).decode(errors="replace")
    said = [line for line in text.splitlines() if re.search(r"fail:|error:|skipp|no such|ring3:", line)]
    if result.timed_out:
        return "hang", "\n".join(said[:5])
    how = MEANING.get(result.status, f"status {result.status}")
    if how == "ok" and "skipped: 1" in text:
        how = "skipped"
    return how + (f", left {result.left}" if result.left else ""), "\n".join(said[:5])


def main() -> int:
    """Runs the stressors that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stressors", nargs="*", metavar="STRESSOR", help="default: the whole class")
    parser.add_argument("--seconds", type=int, default=60, help="for each stressor (default 60)")
    parser.add_argument("--json", type=Path, help="write the results to a file")
    options = parser.parse_args()
    if shutil.which("stress-ng") is None:
        parser.error("needs the Debian package stress-ng")
    begin_suite()
    everything, worse = {}, 0
    print(f"{'stressor':<16}{'native':<18}guest")
    for name in options.stressors or stressors():
        words = ["stress-ng", f"--{name}", "1", "--verify", "--timeout", f"{options.seconds}s", "--skip-silent"]
        sides = {}
        with tempfile.TemporaryDirectory(prefix="ring3-stress-", dir="/dev/shm") as where:
            limit = float(options.seconds + GRACE)
            sides["native"] = outcome(run_native([*words, "--temp-path", where], cwd=where, timeout=limit))
        guest = [*words, "--temp-path", "/mem"]
        sides["guest"] = outcome(run_ring3(guest, "-u", "0", "--tmpfs", "/mem", "-w", "/mem", timeout=limit))
        everything[name] = sides
        bad = sides["native"][0] == "ok" and sides["guest"][0] != "ok"
        worse += bad
        print(f"{name:<16}{sides['native'][0]:<18}{sides['guest'][0]}", flush=True)
        if bad:
            print("      " + sides["guest"][1].replace("\n", "\n      "))
    print(f"\n{worse} stressors are worse in the guest")
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
