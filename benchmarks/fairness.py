"""`python -m benchmarks fairness`: what a noisy guest costs a quiet one of the same sandbox.

Layer: benchmarks. The quiet guest asks the supervisor in bursts of ten calls; beside it, none, then guests that ask all
the time, with one thread and with eight. What is printed are a call's median and 95th percentile and their ratios.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NOISES = {"alone": 0, "beside one thread": 1, "beside eight threads": 8}


def quiet(box: Any, program: str, calls: int, threads: int) -> tuple[float, float]:
    """Median and 95th percentile of a call, in seconds, beside a guest with so many noisy threads."""
    other = box.popen([program, "noisy", str(threads)]) if threads else None
    try:
        done = box.run([program, "quiet", str(calls)], capture_output=True, check=True)
    finally:
        if other is not None:
            other.kill()
            other.wait()
    median, late = (float(word) / 1e9 for word in done.stdout.split())
    return median, late


def fairness(samples: int, share: int) -> int:
    """Measure and print."""
    sys.path.insert(0, str(HERE.parent))
    import ring3

    with tempfile.TemporaryDirectory(prefix="ring3-bench-") as name:
        program = f"{name}/fairness"
        subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-o", program, HERE / "fairness.c"], check=True)
        with ring3.Sandbox() as box:
            measured: dict[str, list[tuple[float, float]]] = {noise: [] for noise in NOISES}
            for _ in range(samples):
                for noise, threads in NOISES.items():
                    measured[noise].append(quiet(box, program, 20_000 // share, threads))
    alone = [statistics.median(column) for column in zip(*measured["alone"], strict=True)]
    print(f"{'a quiet guest':<24}{'median':>22}{'95th percentile':>22}")
    for noise, taken in measured.items():
        times = [statistics.median(column) for column in zip(*taken, strict=True)]
        cells = [f"{t * 1e6:.1f} us {t / base:6.2f}x" for t, base in zip(times, alone, strict=True)]
        print(f"{noise:<24}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    return 0
