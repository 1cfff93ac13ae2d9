"""Feeds random bytes to the parsers, for as long as asked, until one breaks.

    python tests/longsuites/parsers.py [--minutes 10] [--seed N] [--mutate] [TARGET...]

Layer: tests (long). With atheris (`pip install atheris`) coverage leads it, one process a target; without, or with
--mutate, it mutates the samples at random, as the short run of tests/parsers/test_parsers.py does. An input that
breaks a target is written to parser-TARGET.bin in the working directory, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parsers"))

MEMORY = 8 << 30  # bytes of address space
INPUT_LIMIT = 20  # seconds for one input


def _hangs(_number: int, _frame: object) -> None:
    raise TimeoutError("one input takes too long")


def by_mutation(name: str, seconds: float, seed: int) -> int:
    """Mutates the samples; the exit status."""
    from channel import end
    from targets import SAMPLES, TARGETS, mutated

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _hangs)
    samples, r, runs = SAMPLES[name](), random.Random(seed), 0
    began = time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            data = mutated(r, r.choice(samples))
            signal.alarm(INPUT_LIMIT)
            try:
                TARGETS[name](data)
            except Exception:
                traceback.print_exc()
                Path(f"parser-{name}.bin").write_bytes(data)
                return 1
            finally:
                signal.alarm(0)
            runs += 1
    finally:
        end()
    print(f"{name}: {runs} inputs in {seconds:.0f} s, seed {seed}", flush=True)
    return 0


def by_coverage(name: str, seconds: float, seed: int) -> int:
    """Has atheris look for inputs that reach further; the exit status."""
    with tempfile.TemporaryDirectory(prefix="ring3-parsers-") as corpus:
        limits = [
            f"-max_total_time={seconds:.0f}",
            f"-timeout={INPUT_LIMIT}",
            "-rss_limit_mb=4096",
            f"-seed={seed}",
        ]
        words = [sys.executable, __file__, "--one", name, corpus, *limits, f"-artifact_prefix=parser-{name}-",
                 "-print_final_stats=1", "-max_len=70000"]  # fmt: skip
        done = subprocess.run(
            words, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": "0"}
        )
    stats = [line for line in done.stderr.splitlines() if "number_of_executed" in line or "DONE" in line]
    print(f"{name}: {' '.join(stats)}" if not done.returncode else done.stderr[-6000:], flush=True)
    return 1 if done.returncode else 0


def one_target(name: str, arguments: list[str]) -> None:
    """In a process of its own: instrument the parsers and run libFuzzer's loop, which does not return."""
    import atheris

    with atheris.instrument_imports(include=["ring3", "tarfile", "zipfile"]):
        from targets import SAMPLES, TARGETS
    for i, data in enumerate(SAMPLES[name]()):
        (Path(arguments[0]) / f"sample{i}").write_bytes(data)
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """Each target for its share of the time."""
    from targets import TARGETS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all together (default 10)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the clock")
    parser.add_argument("--mutate", action="store_true", help="without atheris, though it is there")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    led = importlib.util.find_spec("atheris") is not None and not options.mutate
    if not led and not options.mutate:
        print("atheris is not installed (pip install atheris): by mutation, without coverage")
    run = by_coverage if led else by_mutation
    return max(run(name, options.minutes * 60 / len(names), options.seed) for name in names)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one_target(sys.argv[2], sys.argv[3:])
    sys.exit(main())
