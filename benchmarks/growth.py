"""`python -m benchmarks growth`: what a call costs as files, depth, processes, mounts and sandboxes grow in number.

Layer: benchmarks. Touches guests of its own, and one temporary directory.

A line for each kind: nanoseconds for one call at each size, and the exponent of the power of the size that fits them
best (least squares of the logarithms): 0 where the size does not matter, 1 where the cost is in proportion.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .__main__ import HERE

#: kind -> sizes, the call, how many of it
KINDS: dict[str, tuple[tuple[int, ...], str, int]] = {
    "first lookup, files in a directory": ((100, 1_000, 10_000, 100_000), "lookup", 0),
    "lookup again, files in a directory": ((10, 100, 1_000, 10_000), "lookup", 20_000),
    "create+unlink, files in a directory": ((10, 100, 1_000, 10_000, 100_000), "create", 500),
    "first lookup, depth of the path": ((1, 4, 16, 64), "lookup", 0),
    "create+unlink, mounts": ((1, 10, 100, 1_000), "create", 500),
    "create+unlink, processes": ((1, 10, 100, 500), "create", 500),
    "fork, processes": ((1, 10, 100, 500), "fork", 200),
    "create+unlink, sandboxes": ((1, 10, 50), "create", 500),
}
#: lookups that nobody asked for before
FRESH = 100
IDLE = ["/bin/sleep", "1000"]


def exponent(cost: dict[int, float]) -> float:
    """The slope of log(cost) over log(size)."""
    points = [(math.log(size), math.log(ns)) for size, ns in cost.items()]
    x, y = (statistics.mean(values) for values in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


@contextmanager
def world(kind: str, size: int) -> Iterator[tuple[object, str, int]]:
    """A sandbox in which there are so many: the sandbox, the directory to work in, and the files in it."""
    import ring3

    what = kind.partition(", ")[2]
    with ExitStack() as stack:
        box = stack.enter_context(ring3.Sandbox())
        box.mount_tmpfs("/mem")
        directory = box.root / "mem"
        for _ in range(size if what == "depth of the path" else 0):
            directory = directory / "deeper"
            directory.mkdir()
        files = size if what == "files in a directory" else FRESH
        for i in range(files):
            (directory / f"f{i}").write_bytes(b"")
        for i in range(size if what == "mounts" else 0):
            (box.root / "mem" / f"m{i}").mkdir()
            box.mount_tmpfs(f"/mem/m{i}")
        boxes = [stack.enter_context(ring3.Sandbox()) for _ in range(size - 1 if what == "sandboxes" else 0)]
        idle = [one.popen(IDLE) for one in boxes] + [
            box.popen(IDLE) for _ in range(size - 1 if what == "processes" else 0)
        ]
        yield box, str(directory), files
        for process in idle:
            process.kill()
            process.wait()


def cost(kind: str, size: int, program: str) -> float:
    """Nanoseconds for one call."""
    _, call, calls = KINDS[kind]
    with world(kind, size) as (box, directory, files):
        run: Callable[..., subprocess.CompletedProcess[str]] = box.run  # type: ignore[attr-defined]
        words = [program, call, directory, str(files), str(calls or FRESH)]
        if calls and call == "lookup":
            run([*words[:-1], str(files)], capture_output=True, text=True, check=True)
        return float(run(words, capture_output=True, text=True, check=True).stdout)


def compare(samples: int, report: str | None) -> int:
    """Measure everything, print a line for each kind, write `report` (JSON) if asked for."""
    results: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(prefix="ring3-bench-") as folder:
        program = str(Path(folder) / "growth")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, str(HERE / "growth.c")], check=True)
        for kind, (sizes, _, _) in KINDS.items():
            measured = {size: statistics.median(cost(kind, size, program) for _ in range(samples)) for size in sizes}
            slope = exponent(measured)
            results[kind] = {"ns": measured, "exponent": round(slope, 3)}
            cells = "".join(f"{size:>10,}: {ns:,.0f}" for size, ns in measured.items())
            print(f"{kind:<38} exponent {slope:6.2f} {cells}", flush=True)
    if report:
        Path(report).write_text(json.dumps({"growth": results}, indent=1) + "\n")
    return 0
