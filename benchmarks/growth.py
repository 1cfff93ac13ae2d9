"""`python -m benchmarks growth [page]`: what a call costs as files, depth, descriptors, processes, mounts and sandboxes
grow in number; with `page`, docs/growth.md is written.

Layer: benchmarks. Touches guests of its own, one temporary directory, and that page.

A line for each kind: nanoseconds for one call at each size, and the exponent of the power of the size that fits them
best (least squares of the logarithms): 0 where the size does not matter, 1 where the cost is in proportion.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .__main__ import HERE, REPO, cpu_name

FILES = (1_000, 10_000, 100_000, 1_000_000)
DESCRIPTORS = (1, 10, 100, 1_000, 10_000)
PROCESSES = (1, 10, 100, 1_000)
#: kind -> sizes, the call, how many of it
KINDS: dict[str, tuple[tuple[int, ...], str, int]] = {
    "first lookup, files in a directory": (FILES, "lookup", 0),
    "lookup again, files in a directory": ((10, 100, 1_000, 10_000), "lookup", 20_000),
    "create+unlink, files in a directory": ((10, 100, *FILES), "create", 500),
    "first lookup, depth of the path": ((1, 4, 16, 64), "lookup", 0),
    "first lookup, open descriptors": (DESCRIPTORS, "lookup", 0),
    "create+unlink, open descriptors": (DESCRIPTORS, "create", 500),
    "fork, open descriptors": (DESCRIPTORS, "fork", 200),
    "first lookup, mounts": ((1, 10, 100, 1_000), "lookup", 0),
    "create+unlink, mounts": ((1, 10, 100, 1_000), "create", 500),
    "first lookup, processes": (PROCESSES, "lookup", 0),
    "create+unlink, processes": (PROCESSES, "create", 500),
    "fork, processes": (PROCESSES, "fork", 200),
    "first lookup, sandboxes": ((1, 10, 50), "lookup", 0),
    "create+unlink, sandboxes": ((1, 10, 50), "create", 500),
}
#: lookups that nobody asked for before: so many that what else the supervisor does meanwhile counts for little
FRESH = 1_000
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
        if kind.endswith("open descriptors"):
            words.append(str(size))
        return float(run(words, capture_output=True, text=True, check=True).stdout)


def compare(samples: int, json_file: str | None, page: bool) -> int:
    """Measure everything, print a line for each kind; write `json_file` and, if asked for, the `page`."""
    results: dict[str, tuple[dict[int, float], float]] = {}
    with tempfile.TemporaryDirectory(prefix="ring3-bench-") as folder:
        program = str(Path(folder) / "growth")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, str(HERE / "growth.c")], check=True)
        for kind, (sizes, _, _) in KINDS.items():
            measured = {size: statistics.median(cost(kind, size, program) for _ in range(samples)) for size in sizes}
            slope = exponent(measured)
            results[kind] = measured, slope
            cells = "".join(f"{size:>10,}: {ns:,.0f}" for size, ns in measured.items())
            print(f"{kind:<38} exponent {slope:6.2f} {cells}", flush=True)
    if json_file:
        rows = {kind: {"ns": measured, "exponent": round(slope, 3)} for kind, (measured, slope) in results.items()}
        Path(json_file).write_text(json.dumps({"growth": rows}, indent=1) + "\n")
    if page:
        (REPO / "docs" / "growth.md").write_text(markdown(results, samples))
    return 0


def markdown(results: dict[str, tuple[dict[int, float], float]], samples: int) -> str:
    """The page docs/growth.md."""
    kernel = platform.release().partition("-")[0]
    lines = [
        "# What a call costs as things become many",
        "",
        "Written by `python -m benchmarks growth page`, not by hand. Nothing here is compared with another program:",
        "[benchmarks.md](benchmarks.md) does that.",
        "",
        f"Machine: {cpu_name()}, {len(os.sched_getaffinity(0))} CPUs, Linux {kernel}, Python "
        f"{platform.python_version()}. Medians of {samples} samples, in a guest on a filesystem in memory.",
        "",
        "The exponent is the slope of log(time) over log(number): 0 where the number does not matter, 1 where the cost",
        "is in proportion to it. What asks the supervisor wakes another CPU, which takes 20 to 100 microseconds as the",
        "machine likes.",
        "",
        "| call, what becomes many | exponent | number: microseconds a call |",
        "|---|---|---|",
    ]
    for kind, (measured, slope) in results.items():
        cells = ", ".join(f"{size:,}: {ns / 1000:{',.0f' if ns >= 1e5 else '.3g'}}" for size, ns in measured.items())
        lines.append(f"| {kind} | {slope:.2f} | {cells} |")
    lines += [
        "",
        f"A first lookup is a `stat` of a name that nobody has asked about ({FRESH:,} of them, in no order);",
        "`lookup again` goes through all the names again and again.",
    ]
    return "\n".join(lines) + "\n"
