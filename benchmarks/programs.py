"""`python -m benchmarks programs`: whole programs natively, in ring3, and under the peers that are installed.

Layer: benchmarks. Touches child processes of its own and one temporary directory.

A shell runs the program once or several times more; the difference, for one run, is what counts, so that nobody's own
start-up does, nor what is done only the first time.  All samples of a program are interleaved, so that a machine that
slows down slows all columns.  ring3 is as it comes; "unlocked" is ring3 with `--lockdown=off`, for the price of the
lock-down.  Everybody works on the same files of the host (ring3 copies on write).
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .__main__ import under_ring3, unit, wall

#: seconds that all runs of a sample should take, so that start-ups, which differ, do not count; and runs at most
ENOUGH, MOST_TIMES = 0.6, 400
#: seconds: who needs longer for a program is asked once
PATIENCE = 20.0

#: column -> samples, in seconds
Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Program:
    """`command` is run in the work directory by sh, at least `times` times in a sample; $i is its turn. `most`: the
    ratio that is wanted."""

    name: str
    command: str
    times: int
    most: float
    needs: str = ""


PROGRAMS = (
    Program("find, 5,000 files", "find tree >/dev/null", 5, 1.5),
    Program("ls -lR, 5,000 files", "ls -lR tree >/dev/null", 3, 1.5),
    Program("git status, 2,000 files", "git -C repo status >/dev/null", 5, 1.5, "git"),
    Program("tar xf, 2,000 files", "mkdir out$i && tar xf repo.tar -C out$i", 3, 2.0),
    Program("cp -rl, rm -r, 2,000 files", "cp -rl repo gone$i && rm -r gone$i", 2, 6.0),
    Program("python3 -c pass", "/usr/bin/python3 -c pass", 10, 1.3),
    Program("gcc -c, one file", "gcc -O1 -c one.c -o one$i.o", 5, 1.3, "gcc"),
    Program("make -j2, 100 files", "make -s -j2 -C project O=o$i", 1, 1.4, "make"),
    Program("sqlite3, 10,000 transactions", "sqlite3 base$i.db <transactions.sql", 1, 1.3, "sqlite3"),
    Program("fork+exec of true", "/bin/true", 100, 2.0),
)
NOTHING = Program("nothing", ":", 1, 1)
MAKEFILE = """
OBJECTS = $(foreach n,$(shell seq 100),$(O)/f$(n).o)
all: $(O)/all
$(O)/all: $(OBJECTS)
\tgcc -o $@ $^
$(O)/%.o: %.c common.h
\t@mkdir -p $(O)
\tgcc -O1 -c -o $@ $<
"""


def make_files(at: Path) -> None:
    """What the programs work on."""
    for i in range(50):
        folder = at / "tree" / f"d{i}"
        folder.mkdir(parents=True)
        for k in range(100):
            (folder / f"file{k}").write_text(f"{i} {k}\n")
    for i in range(40):
        folder = at / "repo" / f"d{i}"
        folder.mkdir(parents=True)
        for k in range(50):
            (folder / f"file{k}.txt").write_text(f"{i} {k}\n" * 20)
    git = ["git", "-C", str(at / "repo"), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    if shutil.which("git"):
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"], ["status"]):
            subprocess.run([*git, *words], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "cf", at / "repo.tar", "--exclude=.git", "repo"], cwd=at, check=True)
    (at / "one.c").write_text('#include <stdio.h>\n#include <stdlib.h>\nint main(void) { puts("x"); return 0; }\n')
    project = at / "project"
    project.mkdir()
    (project / "common.h").write_text("#include <stdio.h>\n#include <string.h>\nint f1(void);\n")
    (project / "Makefile").write_text(MAKEFILE)
    for n in range(1, 101):
        main = "int main(void) { return f1(); }\n" if n == 1 else ""
        (project / f"f{n}.c").write_text(f'#include "common.h"\nint f{n}(void) {{ return {n} - 1; }}\n{main}')
    rows = "".join(f"insert into t values ({i}, 'row {i}');\n" for i in range(10_000))
    (at / "transactions.sql").write_text("pragma synchronous=off;\ncreate table t (a int, b text);\n" + rows)


def peers(cwd: Path) -> dict[str, list[str]]:
    """Column -> what starts a command there, in `cwd`."""
    found = {"native": [], "ring3": under_ring3([], cwd), "unlocked": under_ring3([], cwd, "--lockdown=off")}
    candidates = {
        "bubblewrap": ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--unshare-net"],
        "proot": ["proot", "-r", "/"],
        "gVisor": ["runsc", "--rootless", "--network=none", "--ignore-cgroups", "do", "--cwd", str(cwd)],
        "strace": ["strace", "-f", "-o", "/dev/null"],
    }
    return {**found, **{name: start for name, start in candidates.items() if shutil.which(start[0])}}


def sample(start: list[str], program: Program, count: int, cwd: Path) -> tuple[float, float]:
    """Seconds for one run of the program, of `count`; and for a shell that runs it once."""
    loop = f"i={{first}}; while [ $i -lt {{last}} ]; do {program.command} || exit 1; i=$((i+1)); done"
    times = []
    for first, last in ((0, 1), (1, count + 2)):
        times.append(wall([*start, "/bin/sh", "-c", loop.format(first=first, last=last)], cwd))
        for name in ("out", "gone", "base", "one", "project/o"):
            for left in cwd.glob(f"{name}[0-9]*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return (times[1] - times[0]) / count, times[0]


def compare(samples: int, report: str | None, names: list[str]) -> int:
    """Measure everything, print the table, write `report` (JSON) if asked for."""
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="ring3-bench-") as folder:
        cwd = Path(folder)
        make_files(cwd)
        starts = {name: start for name, start in peers(cwd).items() if not names or name in (*names, "native")}
        print(f"{'program':<30}" + "".join(f"{name:>20}" for name in starts))
        for program in PROGRAMS:
            if program.needs and not shutil.which(program.needs):
                print(f"{program.name:<30}{'-':>20}   there is no {program.needs} here")
                continue
            taken, _ = measure(program, starts, samples, cwd)
            results[program.name] = {name: statistics.median(some) for name, some in taken.items()}
            print(line(program, results[program.name], list(starts)), flush=True)
    print("`-`: it could not run the program")
    if report:
        Path(report).write_text(json.dumps({"programs": results}, indent=1) + "\n")
    return 0


def measure(program: Program, starts: dict[str, list[str]], samples: int, cwd: Path) -> tuple[Samples, Samples]:
    """The samples of each column that can run the program: for one run, and for the first one with the start-up of all.
    One more of each does not count, but says how many runs are long enough for the next ones; who needs longer than
    PATIENCE is not asked again."""
    counts = dict.fromkeys(starts, program.times)
    times: Samples = {name: [] for name in starts}
    first: Samples = {name: [] for name in starts}
    slow: set[str] = set()
    for turn in range(samples + 1):
        names = [name for name in times if name not in slow]
        first_one = turn % len(names)  # what one leaves to the disk, the next one waits for: each comes behind each
        for name in names[first_one:] + names[:first_one]:
            try:
                one, whole = sample(starts[name], program, counts[name], cwd)
            except subprocess.CalledProcessError:
                del times[name]
                continue
            if one * program.times > PATIENCE:
                slow.add(name)
            if turn or name in slow:
                times[name].append(one)
                first[name].append(whole)
            else:
                counts[name] = max(program.times, min(MOST_TIMES, int(ENOUGH / max(one, 1e-4))))
    return times, {name: first[name] for name in times}


def line(program: Program, result: dict[str, float], names: list[str]) -> str:
    """A row of the table."""
    native = result["native"]
    cells = []
    for name in names:
        taken = result.get(name)
        ratio = "" if taken is None or name == "native" else f" {taken / native:6.2f}x"
        cells.append("-" if taken is None else unit(taken) + ratio)
    met = "" if "ring3" not in result else "met" if result["ring3"] / native <= program.most else "MISSED"
    return f"{program.name:<30}" + "".join(f"{cell:>20}" for cell in cells) + f"   at most {program.most} x: {met}"


if __name__ == "__main__":
    sys.exit("run it as: python -m benchmarks programs")
