"""`python -m benchmarks [--json FILE] [--quick] [NAME...]`: native and ring3 side by side, a table, JSON.

`python -m benchmarks interposers` compares ring3 with bare SUD and with strace, its hooks too (interposers.py);
`python -m benchmarks files` its files with a tmpfs, gVisor and proot (files.py); `python -m benchmarks net` its network
with the loopback interface (net.py); `python -m benchmarks fairness` a quiet guest with one beside a noisy one;
`python -m benchmarks programs` whole programs with every peer that is installed (programs.py);
`python -m benchmarks report` the same, pinned to one CPU too, with a noise gate, as docs/benchmarks.md (report.py);
`python -m benchmarks growth` costs as files, processes and sandboxes become many, `growth page` as docs/growth.md
(growth.py).

Layer: benchmarks. Native and guest runs are interleaved within one run, so that a machine which slows down
slows both; what is printed are medians, their ratio, and the spread (the quartiles) of the guest's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
#: name -> calls in one sample natively, in the guest
LOOPS = {
    "getpid": (300_000, 300_000),
    "unknown": (300_000, 300_000),
    "call500": (300_000, 300_000),
    "clock": (1_000_000, 1_000_000),
    "futex-wake": (300_000, 300_000),
    "read": (200_000, 200_000),
    "pread4k": (100_000, 100_000),
    "write4k": (100_000, 100_000),
    "pipe-echo": (50_000, 50_000),
    "mmap": (30_000, 30_000),
    "stat": (100_000, 5_000),
    "stat-missing": (100_000, 5_000),
    "open-close": (50_000, 3_000),
    "create-unlink": (20_000, 2_000),
    "fork-wait": (500, 200),
    "vfork-exec": (200, 60),
}
SHELL_LOOP = "i=0; while [ $i -lt {n} ]; do /bin/true; i=$((i+1)); done"


@dataclass
class Row:
    """One line of the table; times in seconds."""

    name: str
    native: float
    guest: float
    ratio: float
    extra: float  # guest - native
    low: float  # the guest's first quartile
    high: float  # and its third
    samples: int
    target: str = ""
    met: bool | None = None


def launcher() -> list[str]:
    """How to start ring3: the installed one, else this checkout's."""
    found = subprocess.run([sys.executable, "-c", "import ring3"], cwd="/", capture_output=True, check=False)
    if found.returncode == 0:
        return [sys.executable, "-m", "ring3"]
    return [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(REPO)!r}); from ring3.cli import entry; entry()",
    ]


def under_ring3(cmd: list[str], cwd: Path, *options: str) -> list[str]:
    """The command line for `cmd` in the guest, its work directory in memory (copy-on-write)."""
    return [*launcher(), "run", *options, "-w", str(cwd), "--", *cmd]


def wall(cmd: list[str], cwd: Path) -> float:
    """Seconds of real time that a command takes.

    Not subprocess's own time limit: with one it polls for the end, in steps of up to 50 ms.
    """
    start = time.perf_counter()
    child = subprocess.Popen(cmd, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    limit = threading.Timer(300, child.kill)
    limit.start()
    status = child.wait()
    taken = time.perf_counter() - start
    limit.cancel()
    if status:
        raise subprocess.CalledProcessError(status, cmd)
    return taken


def said(cmd: list[str], cwd: Path) -> float:
    """Seconds for one call, as benchmarks/loops prints them in nanoseconds."""
    done = subprocess.run(
        cmd, cwd=cwd, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300
    )
    return float(done.stdout) / 1e9


def measure(name: str, native: Callable[[], float], guest: Callable[[], float], samples: int) -> Row:
    """Interleaved samples of both sides, after one of each that does not count."""
    native(), guest()
    n, g = [], []
    for _ in range(samples):
        n.append(native())
        g.append(guest())
    a, b = statistics.median(n), statistics.median(g)
    low, _, high = statistics.quantiles(g, n=4) if len(g) > 1 else (b, b, b)
    return Row(name, a, b, b / a, b - a, low, high, samples)


def start_up(cwd: Path, samples: int) -> Row:
    """`ring3 run /bin/true` beside `/bin/true`, Python's own start included."""
    cmd = ["/bin/true"]
    row = measure(
        "start-up /bin/true", lambda: wall(cmd, cwd), lambda: wall(under_ring3(cmd, cwd), cwd), samples
    )
    row.target, row.met = "at most +120 ms", row.extra <= 0.120
    return row


def shell_loop(name: str, shell: list[str], cwd: Path, samples: int, n: int) -> Row:
    """fork + exec + wait of /bin/true from a shell's loop: the slope, without the shell's own start."""

    def one(wrap: Callable[[list[str]], list[str]]) -> float:
        few, many = (wall(wrap([*shell, "-c", SHELL_LOOP.format(n=k)]), cwd) for k in (0, n))
        return (many - few) / n

    row = measure(name, lambda: one(list), lambda: one(lambda c: under_ring3(c, cwd)), samples)
    row.target, row.met = "at most 3 x", row.ratio <= 3
    return row


def unit(seconds: float) -> str:
    """A time for people."""
    for scale, word in ((1e-6, "ns"), (1e-3, "us"), (1, "ms")):
        if seconds < scale:
            return f"{seconds / scale * 1000:.3g} {word}"
    return f"{seconds:.3g} s"


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    lines = [f"{'benchmark':<24}{'native':>10}{'ring3':>10}{'ratio':>9}{'quartiles':>20}   target"]
    for r in rows:
        verdict = "" if r.met is None else f"{r.target}: {'met' if r.met else 'MISSED'}"
        spread = f"{unit(r.low)}..{unit(r.high)}"
        lines.append(
            f"{r.name:<24}{unit(r.native):>10}{unit(r.guest):>10}{r.ratio:>8.2f}x{spread:>20}   {verdict}"
        )
    return "\n".join(lines)


def main() -> int:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="interposers, files, net, fairness, programs, report or growth (alone), start, shell, or a loop: "
        + " ".join(LOOPS)
        + " (default: all)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--samples", type=int, default=7, help="samples of each (default 7)")
    parser.add_argument("--quick", action="store_true", help="3 samples, loops a fifth as long")
    options = parser.parse_args()
    samples = 3 if options.quick else options.samples
    share = 5 if options.quick else 1
    if options.names == ["fairness"]:
        from .fairness import fairness

        return fairness(samples, share)
    if options.names == ["interposers"]:
        from .interposers import compare

        return compare(samples, share, options.json)
    if options.names[:1] == ["programs"]:
        from . import programs

        return programs.compare(samples, options.json, options.names[1:])
    if options.names[:1] == ["report"]:
        from . import report

        return report.report(samples, options.names[1:])
    if options.names in (["growth"], ["growth", "page"]):
        from . import growth

        return growth.compare(samples, options.json, "page" in options.names)
    if options.names == ["net"]:
        from . import net

        return net.compare(samples, share, options.json)
    if options.names == ["files"]:
        from . import files

        return files.compare(samples, share, options.json)
    wanted = set(options.names)
    unknown = wanted - {"start", "shell", *LOOPS}
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        print(table([row]).splitlines()[1], flush=True)

    print(table([]))
    with tempfile.TemporaryDirectory(prefix="ring3-bench-") as name:
        cwd = Path(name)
        if not wanted or "start" in wanted:
            add(start_up(cwd, samples * 2))
        if not wanted or "shell" in wanted:
            add(shell_loop("fork+exec, dash", ["/bin/sh"], cwd, samples, 100 // share))
            if busybox := shutil.which("busybox"):
                add(shell_loop("fork+exec, busybox", [busybox, "sh"], cwd, samples, 100 // share))
        loops = [loop for loop in LOOPS if not wanted or loop in wanted]
        if loops:
            program = str(cwd / "loops")
            subprocess.run(["gcc", "-O2", "-Wall", "-o", program, str(HERE / "loops.c")], check=True)
            for loop in loops:
                few, many = (max(10, count // share) for count in reversed(LOOPS[loop]))
                native = [program, loop, str(many)]
                guest = under_ring3([program, loop, str(few)], cwd)
                add(measure(loop, lambda n=native: said(n, cwd), lambda g=guest: said(g, cwd), samples))
    if options.json:
        machine = {
            "kernel": platform.release(),
            "cpu": cpu_name(),
            "cpus": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        report = {"machine": machine, "rows": [asdict(r) for r in rows]}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


def cpu_name() -> str:
    """The model name of the first CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
