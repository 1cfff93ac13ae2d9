"""`python -m benchmarks files`: operations on files natively on a tmpfs, in ring3's memory, in gVisor and under proot.

Layer: benchmarks. Touches child processes of its own and two temporary directories.

gVisor is Debian's package runsc, with its own tmpfs; proot is given the native directory. What is not installed, or
does not start here, is left out with its reason. All samples of an operation are interleaved, so that a machine that
slows down slows all columns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from .__main__ import HERE, launcher, said, unit

#: operation -> how many of it in one sample: native or ring3's kernel lane, elsewhere; what ring3 is to reach
OPERATIONS: dict[str, tuple[int, int, float | None]] = {
    "pread4k": (200_000, 3_000, 1.3),
    "pread1m": (1_000, 300, 1.3),
    "write4k": (200_000, 3_000, 1.3),
    "write1m": (1_000, 300, 1.3),
    "fault": (200_000, 20_000, 1.0),
    "mmap": (50_000, 2_000, 1.0),
    "open-close": (3_000, 1_000, None),
    "stat": (5_000, 3_000, None),
    "rename": (3_000, 1_000, None),
    "create-unlink": (2_000, 500, None),
    "getdents1000": (100, 50, None),
}
COLUMNS = ("native", "ring3", "gVisor", "proot")
#: the start of a command line; then the working directory and the program
GVISOR = ["runsc", "--network=none", "--ignore-cgroups", "do", "-cwd"]
TOLERANCE = 1.1  # what two runs of the same differ by


def columns(program: str, tmpfs: Path) -> dict[str, list[str]]:
    """column -> the start of its command line; says which are left out."""
    made = {
        "native": [program],
        "ring3": [*launcher(), "run", "--tmpfs", "/mem", "-w", "/mem", "--", program],
        "gVisor": [*GVISOR, "/dev/shm", program],
        "proot": ["proot", "-w", str(tmpfs), program],
    }
    for column, words in [*made.items()]:
        if column in ("gVisor", "proot") and (reason := why_not([*words, "stat", "1"], tmpfs)):
            print(f"{column}: left out: {reason}")
            del made[column]
    return made


def why_not(words: list[str], cwd: Path) -> str:
    """Why a program cannot be measured; "" if it can."""
    if shutil.which(words[0]) is None:
        return f"{words[0]} is not installed (apt-get install {words[0]})"
    try:
        said(words, cwd)
    except subprocess.TimeoutExpired:
        return f"{words[0]} did not end"
    except (subprocess.CalledProcessError, ValueError) as exc:
        text = getattr(exc, "stderr", b"") or b""
        return f"{words[0]} does not work here: {text.decode(errors='replace').strip()[-200:] or exc}"
    return ""


def row(name: str, measured: dict[str, float]) -> str:
    """A line of the table."""
    native, target = measured["native"], OPERATIONS[name][2]
    cells = [f"{name:<16}{unit(native):>10}"]
    for column in COLUMNS[1:]:
        time = measured.get(column)
        cells.append(f"{'-' if time is None else f'{unit(time)} {time / native:7.2f}x':>20}")
    if target is not None:
        met = measured["ring3"] / native <= target * TOLERANCE
        cells.append(f"   at most {target} x: {'met' if met else 'MISSED'}")
    return "".join(cells)


def compare(samples: int, share: int, report: str | None) -> int:
    """Measure everything, print the table, write `report` (JSON) if asked for."""
    results: dict[str, dict[str, float]] = {}
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="ring3-bench-") as programs,
        tempfile.TemporaryDirectory(prefix="ring3-bench-", dir=shm) as tmpfs,
    ):
        cwd, program = Path(tmpfs), str(Path(programs) / "files")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, str(HERE / "files.c")], check=True)
        commands = columns(program, cwd)
        print(f"{'operation':<16}{'native':>10}" + "".join(f"{c:>20}" for c in COLUMNS[1:]))
        for name, (many, few, _) in OPERATIONS.items():
            takers: dict[str, Callable[[], float]] = {}
            for column, words in commands.items():
                count = many if column in ("native", "ring3") else few
                line = [*words, name, str(max(10, count // share))]
                takers[column] = lambda line=line: said(line, cwd)  # type: ignore[misc]
            times: dict[str, list[float]] = {column: [] for column in takers}
            for take in takers.values():
                take()  # of each one that does not count
            for _ in range(samples):
                for column, take in takers.items():
                    times[column].append(take())
            results[name] = {column: statistics.median(found) for column, found in times.items()}
            print(row(name, results[name]), flush=True)
    if report:
        Path(report).write_text(json.dumps({"files": results}, indent=1) + "\n")
    return 0
