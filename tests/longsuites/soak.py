"""Random work under random signals, natively and under ring3, for as long as asked.

    python tests/longsuites/soak.py [--minutes 30] [--seed N] [--rounds N] [--mode MODE]...

Layer: tests (long). Needs gcc. tests/longsuites/soak.c does the work: threads that fork, exec, make threads, load and
unload libraries, write and run code, fault, jump out of handlers, use files and memory, under timers and signals to
each other, each operation checked by itself. One seed runs natively and then in the rewrite modes, and all must print
the same; the next seed follows until the time is up. A seed that differs is printed; `--seed N --minutes 0` runs it
again. The exit status is 1 if any did.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import Result, begin_suite, run_native, run_ring3

from ring3.kernel.images import MODES

HERE = Path(__file__).resolve().parent
LIBRARIES = 6
LIMIT = 300.0  # seconds for one run


def build(where: Path) -> list[str]:
    """Compile the program and its libraries into `where`: the command line, without seed and rounds."""
    program = where / "soak"
    flags = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
    subprocess.run(["gcc", *flags, "-pthread", "-o", program, HERE / "soak.c"], check=True)
    libraries = []
    for number in range(LIBRARIES):
        library = where / f"lib{number}.so"
        defines = [f"-DNUMBER={number}", f"-DPAD={number * 5000}"]
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O1", *defines, "-o", library, HERE / "soaklib.c"], check=True
        )
        libraries.append(str(library))
    return [str(program), *libraries]


def wrong(result: Result, native: Result | None) -> str:
    """What is wrong with a run, or an empty string."""
    if result.timed_out or result.left or result.status != 0:
        return result.describe()
    if native is not None and result.out != native.out:
        return f"natively {native.out.decode()}here {result.out.decode()}"
    return ""


def main() -> int:
    """Soak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="the first seed (default: the clock)"
    )
    parser.add_argument("--rounds", type=int, default=1000, help="operations of each thread (default 1000)")
    parser.add_argument(
        "--mode", action="append", choices=MODES, help="a rewrite mode (default: detour and off)"
    )
    options = parser.parse_args()
    begin_suite()
    bad = runs = 0
    seed = options.seed
    end = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="ring3-soak-") as made:
        program, *libraries = build(Path(made))
        while True:
            argv = [program, str(seed), str(options.rounds), *libraries]
            native = run_native(argv, cwd=made, timeout=LIMIT)
            if words := wrong(native, None):
                print(f"seed {seed} natively: {words}", flush=True)
                bad += 1
            for mode in options.mode or ("detour", "off"):
                runs += 1
                if words := wrong(run_ring3(argv, f"--rewrite={mode}", cwd=made, timeout=LIMIT), native):
                    print(f"seed {seed}, {mode}: {words}", flush=True)
                    bad += 1
            seed += 1
            if time.monotonic() >= end:
                break
    print(f"{runs} runs of {seed - options.seed} seeds, {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
