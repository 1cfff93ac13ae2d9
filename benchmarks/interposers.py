"""`python -m benchmarks interposers`: loops natively, under ring3, under bare SUD and under strace, in one run.

Layer: benchmarks. Touches child processes of its own and one temporary directory.

The core is ring3 with `--lockdown=off`: the price of interposition alone. ring3 is as it comes, with the host's
filter beneath; then with a native hook on the call (which sees it, or, of call 500, answers it), and a Python hook.
Bare SUD is loops.c's own: the least handler that there can be. All samples of a loop are interleaved, so that a
machine that slows down slows all columns.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .__main__ import HERE, REPO, said, under_ring3, unit

#: loop -> its calls in one sample: natively and in ring3, under SUD, with Python hooks or strace; the call's name
LOOPS = {
    "getpid": (300_000, 100_000, 5_000, "getpid"),
    "call500": (300_000, 100_000, 5_000, "500"),
    "read": (200_000, 100_000, 5_000, "read"),
    "futex-wake": (300_000, 100_000, 5_000, "futex"),
    "clock": (1_000_000, 1_000_000, 5_000, "clock_gettime"),
}
COLUMNS = ("native", "core", "ring3", "native hook", "Python hook", "bare SUD", "strace")
PASSES = """
#include "ring3_hook.h"
static long seen;
int ring3_hook(struct ring3_call *call) { (void)call; seen++; return RING3_CONTINUE; }
"""
ANSWERS = """
#include "ring3_hook.h"
int ring3_hook(struct ring3_call *call)
{
	call->result = 42;
	return RING3_ANSWERED;
}
"""
#: runs a loop with a hook: argv is the kind, the hook (a file, or "python"), the call, the directory, the command
HOOKED = """
import sys
sys.path.insert(0, {repo!r})
import ring3
hook, name, cwd, *command = sys.argv[1:]
with ring3.Sandbox(cwd=cwd) as box:
    if hook == "python":
        box.hook(int(name) if name.isdigit() else name, before=lambda call: None)
    elif hook != "none":
        box.native_hook(hook, [name])
    sys.exit(box.run(command).returncode)
"""


def columns(
    program: str, loop: str, hook: str, cwd: Path, share: int
) -> list[tuple[str, Callable[[], float]]]:
    """How to take one sample of each column."""
    many, some, few, name = LOOPS[loop]
    many, some, few = (max(10, n // share) for n in (many, some, few))
    hooked = [sys.executable, "-c", HOOKED.format(repo=str(REPO))]
    strace = shutil.which("strace")
    made = [
        ("native", [program, loop, str(many)]),
        ("core", under_ring3([program, loop, str(many)], cwd, "--lockdown=off")),
        ("ring3", under_ring3([program, loop, str(many)], cwd)),
        ("native hook", [*hooked, hook, name, str(cwd), program, loop, str(many)]),
        ("Python hook", [*hooked, "python", name, str(cwd), program, loop, str(few)]),
        ("bare SUD", [program, loop, str(some), "sud"]),
    ]
    if strace is not None:
        made.append(("strace", [strace, "-f", "-o", "/dev/null", program, loop, str(few)]))
    return [(column, lambda c=command: said(c, cwd)) for column, command in made]


def compare(samples: int, share: int, report: str | None) -> int:
    """Measure everything, print the table, write `report` (JSON) if asked for."""
    print(f"{'loop':<18}" + "".join(f"{c:>20}" for c in COLUMNS))
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="ring3-bench-") as name:
        cwd = Path(name)
        program = str(cwd / "loops")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, str(HERE / "loops.c")], check=True)
        hooks = {kind: compiled(cwd, kind, source) for kind, source in (("passes", PASSES), ("answers", ANSWERS))}
        for loop in LOOPS:
            measured: dict[str, list[float]] = {}
            takers = columns(program, loop, hooks["answers" if loop == "call500" else "passes"], cwd, share)
            for _, take in takers:
                take()  # of each one that does not count
            for _ in range(samples):
                for column, take in takers:
                    measured.setdefault(column, []).append(take())
            results[loop] = {column: statistics.median(times) for column, times in measured.items()}
            native = results[loop]["native"]
            cells = [(results[loop].get(c), c) for c in COLUMNS]
            print(f"{loop:<18}" + "".join(
                f"{'-' if t is None else unit(t) if c == 'native' else f'{unit(t)} {t / native:6.2f}x':>20}"
                for t, c in cells
            ), flush=True)  # fmt: skip
    print("strace sees no time calls, which the vDSO answers; `-` where a program is not installed")
    if report:
        Path(report).write_text(json.dumps({"interposers": results}, indent=1) + "\n")
    return 0


def compiled(cwd: Path, name: str, source: str) -> str:
    """A native hook for the loops."""
    (cwd / f"{name}.c").write_text(source)
    code = f"import sys; sys.path.insert(0, {str(REPO)!r}); import ring3.native as n; n.compile(*sys.argv[1:])"
    words = [sys.executable, "-c", code, str(cwd / f"{name}.c"), str(cwd / f"{name}.so")]
    subprocess.run(words, cwd="/", check=True)
    return str(cwd / f"{name}.so")
