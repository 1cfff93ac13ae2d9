"""`python -m benchmarks report [COLUMN]...`: docs/benchmarks.md, its plot (PNG) and its numbers (JSON), from one run.

Layer: benchmarks. Touches docs/benchmarks.*, child processes of its own and one temporary directory. The plot needs
matplotlib (the extra `bench`); without it there is none, and that is said.

Names and whole programs, natively, in ring3 and under every peer that is installed, interleaved.  Every figure is
taken twice: as the host's scheduler has it, and pinned to one CPU, where whoever wakes another process does not wait
for a CPU to wake up.  A row whose native samples differ too much is taken again, and marked if they
still do.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import programs
from .__main__ import HERE, REPO, cpu_name, said, unit
from .programs import Samples

#: name -> calls natively, in ring3, under a peer, and the ratio that is wanted
CALLS = {
    "stat": (100_000, 50_000, 2_000, 0.7),
    "open-close": (50_000, 20_000, 2_000, 3.0),
    "create-unlink": (10_000, 2_000, 1_000, 6.0),
}
#: the quartiles of the native samples may differ by so much of their median
NOISE = 0.25
TRIES = 2
VERSIONS = {"bubblewrap": ["bwrap"], "proot": ["proot"], "gVisor": ["runsc"], "strace": ["strace"]}
DOCS = REPO / "docs"
PEERS = ("native", "ring3", *VERSIONS)

@dataclass
class Row:
    """One line of the tables: medians in seconds by column; `most`: the ratio that is wanted of ring3; `first`: seconds
    for the first run in a new sandbox, without the start-up."""

    most: float
    alike: bool
    seconds: dict[str, float]
    first: float | None

    @property
    def ratios(self) -> dict[str, float]:
        """To native, by column."""
        native = self.seconds["native"]
        return {column: value / native for column, value in self.seconds.items() if column != "native"}


def columns_of(rows: dict[str, Row]) -> list[str]:
    """Every column that some row has, in order."""
    return list(dict.fromkeys(column for row in rows.values() for column in row.ratios))


def is_noisy(some: list[float]) -> bool:
    """Do the samples differ more than they should?"""
    low, middle, high = statistics.quantiles(some, n=4) if len(some) > 1 else (some * 3)[:3]
    return (high - low) / middle > NOISE


def settled(measure: Callable[[], tuple[Samples, Samples]]) -> tuple[Samples, Samples, bool]:
    """Samples whose native ones are alike, and whether they are."""
    for _ in range(TRIES):
        taken, first = measure()
        if not is_noisy(taken["native"]):
            return taken, first, True
    return taken, first, False


def calls(name: str, starts: dict[str, list[str]], program: str, samples: int, cwd: Path) -> Samples:
    """Seconds for one call of a loop."""
    times: Samples = {column: [] for column in starts}
    native, ring3, peer, _ = CALLS[name]
    counts = {"native": native, "ring3": ring3}
    for _ in range(samples):
        for column in list(times):
            try:
                times[column].append(said([*starts[column], program, name, str(counts.get(column, peer))], cwd))
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired, ValueError):
                del times[column]
    return times


def take(samples: int, pinned: bool, columns: list[str]) -> dict[str, Row]:
    """Measure every row; `columns`: these alone, if there are any."""
    rows: dict[str, Row] = {}

    def loop(name: str) -> Callable[[], tuple[Samples, Samples]]:
        return lambda: (calls(name, starts, loops, samples, cwd), {})

    def whole(program: programs.Program) -> Callable[[], tuple[Samples, Samples]]:
        return lambda: programs.measure(program, starts, samples, cwd)

    with tempfile.TemporaryDirectory(prefix="ring3-bench-") as folder:
        cwd = Path(folder)
        programs.make_files(cwd)
        loops = str(cwd / "loops")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", loops, str(HERE / "loops.c")], check=True)
        starts = {name: start for name, start in programs.peers(cwd).items() if name in (columns or PEERS)}
        if pinned:
            cpu = str(max(os.sched_getaffinity(0)))
            starts = {name: ["taskset", "-c", cpu, *start] for name, start in starts.items()}
        wanted = [(name, CALLS[name][3], loop(name)) for name in CALLS]
        there = [one for one in programs.PROGRAMS if not one.needs or shutil.which(one.needs)]
        wanted += [(one.name, one.most, whole(one)) for one in there]
        _, empty = programs.measure(programs.NOTHING, starts, samples, cwd)
        for name, most, measure in wanted:
            taken, whole_first, alike = settled(measure)
            medians = {column: statistics.median(some) for column, some in taken.items()}
            first = None
            if "ring3" in whole_first:
                first = statistics.median(whole_first["ring3"]) - statistics.median(empty["ring3"])
            row = rows[name] = Row(most, alike, medians, first)
            shown = "  ".join(f"{column} {ratio:.2f}x" for column, ratio in row.ratios.items())
            print(f"{name:<30} native {unit(row.seconds['native'])}  {shown}{'' if alike else '  (noisy)'}", flush=True)
    return rows


def version(command: str) -> str:
    """The first number that a program says of itself."""
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).replace(",", " ").split()
    return next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), "?")


def machine(columns: Sequence[str]) -> dict[str, Any]:
    """What the figures are true of."""
    import ring3

    return {
        "kernel": platform.release().partition("-")[0],
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "ring3": ring3.__version__,
        "load": os.getloadavg()[0],
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {
            name: version(word) for name, (word,) in VERSIONS.items() if name in columns and shutil.which(word)
        },
    }


def table(rows: dict[str, Row]) -> str:
    """A Markdown table of ratios."""
    columns = columns_of(rows)
    titles = ["", "native", *columns, "wanted", "ring3, the first time"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name, row in rows.items():
        cells = [f"{row.ratios[c]:.2f} x" if c in row.ratios else "-" for c in columns]
        mark = "" if row.alike else " ~"
        once = "-" if row.first is None else f"{row.first / row.seconds['native']:.1f} x"
        cells = [name + mark, unit(row.seconds["native"]), *cells, f"{row.most} x", once]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(found: dict[str, Any], free: str, pinned: str, plotted: bool) -> str:
    """docs/benchmarks.md."""
    peers = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    plot = "\n![ratios to native, logarithmic](benchmarks.png)\n" if plotted else ""
    return f"""# Benchmarks

    python -m benchmarks report

writes this page. Each figure is the ratio to native in the same run: medians of interleaved samples, the machine's own
speed taken out. ring3 is as it comes, [locked down](lockdown.md); what it needs to start is not in a program's figure.
What a sandbox learns in a program's first run (what is looked up, opened and rewritten) it has for all the next ones:
the last column is that first run, without the start-up of ring3. `-`: could not run it. `~`: the native samples
differed by more than {NOISE:.0%} (quartiles), twice in a row.

{found["cpu"]}, {found["cpus"]} CPUs, Linux {found["kernel"]}, Python {found["python"]},
load {found["load"]:.1f} at the start; {peers}; {found["when"]}.
{plot}
{free}

`bubblewrap` interposes on nothing: it is what a container costs. `create-unlink` is a file that is made and removed;
`stat` is of a file that is open for writing.

## Pinned to one CPU

Waking another process on another CPU takes several times as long as on the same one, so whatever asks a supervisor is
better off here, and whatever works in parallel is not.

{pinned}

What becomes of a call as files, descriptors, processes, mounts and sandboxes become many: `python -m benchmarks growth`
(with `page`, as growth.md beside this page).
"""


def plot(rows: dict[str, Row], file: Path) -> bool:
    """Ratios as bars, logarithmic.  False if there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is not installed (the extra `bench`)")
        return False
    columns = columns_of(rows)
    figure = Figure(figsize=(9, 0.55 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    high = 0.8 / len(columns)
    for k, column in enumerate(columns):
        there = [(i + k * high, row.ratios[column]) for i, row in enumerate(rows.values()) if column in row.ratios]
        axes.barh([at for at, _ in there], [ratio for _, ratio in there], high, label=column)
    axes.set_yticks([i + 0.4 for i in range(len(rows))], list(rows))
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("times native (less is better)")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(file, dpi=110)
    return True


def report(samples: int, columns: list[str]) -> int:
    """Measure, and write the page, the plot and the numbers; of `columns` beside the native one, or of all peers."""
    wanted = ["native", *columns] if columns else []
    found = machine(wanted or PEERS)
    free = take(samples, False, wanted)
    print("pinned to one CPU:")
    pinned = take(samples, True, wanted)
    plotted = plot(free, DOCS / "benchmarks.png")
    (DOCS / "benchmarks.md").write_text(page(found, table(free), table(pinned), plotted))
    numbers = {"machine": found}
    for name, rows in ("free", free), ("pinned", pinned):
        numbers[name] = {row: asdict(one) for row, one in rows.items()}
    (DOCS / "benchmarks.json").write_text(json.dumps(numbers, indent=1) + "\n")
    return 0
