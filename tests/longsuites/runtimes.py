"""Runs language runtimes, and programs that run programs, natively once and then many times under ring3.

    python tests/longsuites/runtimes.py [--repeat 20] [--mode MODE]... [--json FILE] [NAME...]

Layer: tests (long). The programs are those of tests/programs/runtimecases.py; one whose runtime is not
installed is left out with the reason. Each runs `--repeat` times in every rewrite mode, and must print what it
prints natively and end with the same status. The exit status is 1 if any run differs; the first of each is shown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "programs"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import BASE_ENV, begin_suite, run_native, run_ring3
from runtimecases import CASES, Case, usable_modes

from ring3.kernel.images import MODES


def run_case(case: Case, bin_dir: Path, modes: list[str], repeat: int) -> dict[str, list[str]]:
    """mode -> what was wrong, for each run that differs."""
    wrong: dict[str, list[str]] = {}
    case.make(bin_dir)
    argv = case.argv(bin_dir)
    with tempfile.TemporaryDirectory(prefix="ring3-runtime-") as where:
        kw = {"cwd": where, "env": {**BASE_ENV, "HOME": where}, "timeout": case.timeout}
        native = run_native(argv, **kw)  # type: ignore[arg-type]
        if native.timed_out or native.left:
            raise RuntimeError(f"natively\n{native.describe()}")
        for mode in modes:
            runs = (
                case.differs(native, run_ring3(argv, f"--rewrite={mode}", **kw))  # type: ignore[arg-type]
                for _ in range(repeat)
            )
            wrong[mode] = [words for words in runs if words]
    return wrong


def main() -> int:
    """Runs the cases that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.name for case in CASES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {' '.join(names)}")
    parser.add_argument("--repeat", type=int, default=20, metavar="N", help="runs in each mode (default 20)")
    parser.add_argument(
        "--mode", action="append", choices=MODES, help="a rewrite mode (default: every one that is safe here)"
    )
    parser.add_argument("--json", type=Path, help="write the results to a file")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no such case: {' '.join(sorted(unknown))}; there are {' '.join(names)}")
    begin_suite()
    modes: list[str] = options.mode or usable_modes()
    results: dict[str, object] = {}
    bad = 0
    with tempfile.TemporaryDirectory(prefix="ring3-runtimes-") as made:
        for case in CASES:
            if options.names and case.name not in options.names:
                continue
            if reason := case.missing():
                print(f"{case.name:<16}left out: {reason}", flush=True)
                results[case.name] = reason
                continue
            start = time.monotonic()
            try:
                wrong = run_case(case, Path(made), modes, options.repeat)
            except (subprocess.SubprocessError, RuntimeError) as e:
                words = getattr(e, "stderr", None) or str(e)
                print(f"{case.name:<16}cannot be run natively: {words}", flush=True)
                results[case.name] = words
                bad += 1
                continue
            results[case.name] = wrong
            cells = [f"{mode} {options.repeat - len(wrong[mode])}/{options.repeat}" for mode in modes]
            print(f"{case.name:<16}{'  '.join(cells)}  {time.monotonic() - start:.0f} s", flush=True)
            for mode in modes:
                bad += len(wrong[mode])
                if wrong[mode]:
                    print(f"    {mode}: {wrong[mode][0]}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"repeat": options.repeat, "results": results}, indent=1))
    print(f"{bad} runs differ" if bad else "no run differs")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
