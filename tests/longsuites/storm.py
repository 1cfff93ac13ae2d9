"""The guest programs under a storm of signals, natively and under ring3: what a profiler does to a program.

    python tests/longsuites/storm.py [--times N] [--mode MODE]... [PROGRAM]...

Layer: tests (long). Needs gcc. tests/longsuites/storm.c is preloaded into the programs of tests/guests. A case that
holds natively each time has to hold under ring3; those that do not (they expect that nothing interrupts them) are left
out, and counted. The exit status is 1 if a case failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from guestbuild import Builder, Spec, all_specs
from harness import BASE_ENV, Result, begin_suite, run_native, run_ring3

from ring3.kernel.images import MODES

STORM = Path(__file__).resolve().with_suffix(".c")
#: what natively ends before the next signal comes, for the most part, and here does not
NOT_HERE = {
    "files_live": {"attributes": "its sleeps are cut short, and then two times may be of one tick"},
    "net_group": dict.fromkeys(
        ("members_get_it", "nobody_joined", "by_source", "by_protocol_independent_options", "six", "broadcast"),
        "datagrams for a group arrive a moment after they were sent",
    ),
    "rewritten": {"small_stack": "there is no room for a signal frame"},
    "signals_wait": {"interrupted_or_restarted": "it counts on a signal that comes within a call"},
    "sites": {"without_a_stack": "there is no room for a signal frame"},
    "threads": {"tiny_stacks": "there is no room for a signal frame"},
    "threads_odd": {"gone_stacks": "there is no room for a signal frame"},
}


def held(result: Result) -> set[str]:
    """The cases of which a program said that they hold."""
    lines = result.out.decode("utf-8", "replace").splitlines()
    return {line[3:] for line in lines if line.startswith("ok ")}


class Storm:
    """Runs programs; `folder` is theirs."""

    def __init__(self, folder: Path) -> None:
        self._library = folder / "storm.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", self._library, STORM], check=True)
        self._work = folder / "work"
        self._builder = Builder(folder / "bin")

    def run(self, spec: Spec, cases: list[str], *options: str) -> Result:
        """Natively without options, else under ring3; all cases if none is named."""
        program = self._builder.path(spec.name)
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        if not options:
            env = {**BASE_ENV, "LD_PRELOAD": str(self._library), "CHECK_SIDE": "native"}
            return run_native([program, *cases], cwd=self._work, env=env, timeout=spec.timeout)
        words = ["-e", f"LD_PRELOAD={self._library}", "-e", "CHECK_SIDE=ring3", "-w", str(self._work)]
        return run_ring3([program, *cases], *options, *words, timeout=spec.timeout * 2)

    def compare(self, spec: Spec, times: int, modes: list[str]) -> tuple[int, list[str]]:
        """How many cases are left out, and what is wrong."""
        natively = [held(self.run(spec, [])) for _ in range(3)]
        expected = sorted(set.intersection(*natively).difference(NOT_HERE.get(spec.name, ())))
        cases = expected if spec.name in NOT_HERE else []  # the others may look at their arguments
        wrong = []
        for mode in modes if expected else ():
            for _ in range(times):
                result = self.run(spec, cases, f"--rewrite={mode}", "-e", f"CHECK_REWRITE={mode}")
                lacking = set(expected) - held(result)
                if lacking or result.left:
                    wrong.append(f"{spec.name}, --rewrite={mode}: {', '.join(sorted(lacking))}\n{result.describe()}")
        return len(set.union(*natively)) - len(expected), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=1, help="runs of each program in each mode (default: 1)")
    parser.add_argument("--mode", action="append", choices=MODES, help="a rewrite mode (default: detour and off)")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="only these of tests/guests")
    options = parser.parse_args()
    begin_suite()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="ring3-storm-") as folder:
        os.chmod(folder, 0o755)
        storm = Storm(Path(folder))
        for spec in all_specs():
            if "dynamic" not in spec.variants or (options.programs and spec.name not in options.programs):
                continue
            for case, why in NOT_HERE.get(spec.name, {}).items():
                print(f"{spec.name}: without {case}: {why}")
            left_out, wrong = storm.compare(spec, options.times, options.mode or ["detour", "off"])
            print(f"{spec.name}: {len(wrong)} wrong, {left_out} cases left out", flush=True)
            for what in wrong:
                print(what, flush=True)
            failed += len(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
