"""Runs suites of Debian's libpython3.11-testsuite natively and in the guest, and prints what differs.

    python tests/longsuites/cpython.py [--log DIR] [--json FILE] [SUITE...]

Layer: tests (long). Needs /usr/bin/python3.11 and the package libpython3.11-testsuite. The table has one line for a
suite, then one for each test which does not end alike on both sides. The exit status is 1 if a test that passes
natively does not in the guest.

A suite runs in one process which tells each test's result on its own line; when the process dies or a test hangs, that
test is noted and a new process goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import BASE_ENV, Result, begin_suite, run_native, run_ring3

PYTHON = "/usr/bin/python3.11"
SUITES = [
    "test_os",
    "test_posix",
    "test_subprocess",
    "test_shutil",
    "test_pathlib",
    "test_tempfile",
    "test_mmap",
    "test_fcntl",
    "test_select",
    "test_threading",
]
MARK = "@@ring3-suite@@"
GOOD = {"ok", "skipped", "expected failure"}

#: Runs inside; arguments: the suite, seconds for one test, a file with the ids that are done already.
RUNNER = r"""
import faulthandler, json, os, sys, unittest
suite_name, limit, mark, done = sys.argv[1], float(sys.argv[2]), sys.argv[3], set(json.loads(sys.stdin.read() or "[]"))
out = os.fdopen(os.dup(1), "w", buffering=1)
keep = os.fdopen(os.dup(2), "w", buffering=1)
def say(kind, ident, text=""):
    out.write("\n" + mark + json.dumps([kind, ident, text[-1500:]]) + "\n"); out.flush()
class Result(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test); self.last = "ok", ""; say("start", test.id())
        faulthandler.dump_traceback_later(limit, exit=True, file=keep)
    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later(); say(self.last[0], test.id(), self.last[1]); super().stopTest(test)
    def addError(self, test, err): super().addError(test, err); self.set("error", test, err)
    def addFailure(self, test, err): super().addFailure(test, err); self.set("failure", test, err)
    def addSubTest(self, test, sub, err):
        if err is not None: self.set("failure", sub, err)
        super().addSubTest(test, sub, err)
    def set(self, kind, test, err):
        text = self._exc_info_to_string(err, test)
        if not hasattr(test, "_testMethodName") and not hasattr(test, "test_case"): say(kind, test.id(), text)
        self.last = kind, text
    def addSkip(self, test, reason):
        super().addSkip(test, reason); self.last = "skipped", reason
        if not hasattr(test, "_testMethodName"): say("skipped", test.id(), reason)
    def addExpectedFailure(self, test, err): self.last = "expected failure", ""
    def addUnexpectedSuccess(self, test): self.last = "unexpected success", ""
def flat(suite):
    for t in suite:
        if isinstance(t, unittest.TestSuite): yield from flat(t)
        else: yield t
from test import support
from test.support import os_helper
support.use_resources = ["network"] if suite_name in ("test_socketserver",) else []
with os_helper.temp_cwd("suite-work"):
    loaded = unittest.defaultTestLoader.loadTestsFromName("test." + suite_name)
    left = unittest.TestSuite()
    by_class = {}
    for t in flat(loaded):
        kind = type(t).__module__, type(t).__qualname__
        if t.id() not in done: by_class.setdefault(kind, unittest.TestSuite()).addTest(t)
    left.addTests(by_class.values())
    left.run(Result())
    say("end", "")
"""


def run_suite(suite: str, guest: bool, limit: float, whole: float) -> tuple[dict[str, tuple[str, str]], str]:
    """id -> (how it ended, the last words) for each test of a suite, and everything that was printed."""
    results: dict[str, tuple[str, str]] = {}
    log: list[str] = []
    for _ in range(40):  # at most so many deaths
        with tempfile.TemporaryDirectory(prefix="ring3-suite-") as where:
            cmd = [PYTHON, "-B", "-u", "-c", RUNNER, suite, str(limit), MARK]
            env = {**BASE_ENV, "HOME": "/root" if Path("/root").exists() else where, "TMPDIR": where}
            kw = {"cwd": where, "env": env, "input": json.dumps(sorted(results)).encode(), "timeout": whole}
            result: Result = run_ring3(cmd, **kw) if guest else run_native(cmd, **kw)  # type: ignore[arg-type]
        log.append(result.describe() if result.status else "")
        log.append(result.out.decode(errors="replace") + "\n" + result.err.decode(errors="replace"))
        running, ended = "", False
        for line in result.out.decode(errors="replace").splitlines():
            if not line.startswith(MARK):
                continue
            kind, ident, text = json.loads(line[len(MARK) :])
            if kind == "start":
                running = ident
            elif kind == "end":
                ended = True
            else:
                results[ident] = (kind, text)
                running = ""
        if ended:
            break
        why = "hang" if result.timed_out or b"Timeout (" in result.err else f"died ({result.status})"
        if not running:
            results[f"{suite}: outside of a test"] = (why, result.err.decode(errors="replace")[-1500:])
            break
        results[running] = (why, result.err.decode(errors="replace")[-1500:])
    return results, "\n".join(log)


def summary(results: dict[str, tuple[str, str]]) -> str:
    """`12 ok, 1 failure`"""
    counts = Counter(kind for kind, _ in results.values())
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items(), key=lambda item: -item[1]))


def last_line(text: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


def compare(
    suite: str, native: dict[str, tuple[str, str]], guest: dict[str, tuple[str, str]]
) -> list[dict[str, str]]:
    """The tests that end differently."""
    rows = []
    for ident in sorted(native.keys() | guest.keys()):
        a, b = native.get(ident, ("missing", "")), guest.get(ident, ("missing", ""))
        if a[0] != b[0]:
            rows.append(
                {"suite": suite, "test": ident, "native": a[0], "guest": b[0], "why": last_line(b[1] or a[1])}
            )
    return rows


def main() -> int:
    """Runs the suites that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "suites", nargs="*", default=SUITES, metavar="SUITE", help=f"default: {' '.join(SUITES)}"
    )
    parser.add_argument("--log", type=Path, help="a directory for what the suites print")
    parser.add_argument("--json", type=Path, help="write the results to a file")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one test (default 60)")
    parser.add_argument("--whole", type=float, default=900.0, help="seconds for one suite (default 900)")
    options = parser.parse_args()
    if not Path(PYTHON).exists() or not Path("/usr/lib/python3.11/test/test_os.py").exists():
        parser.error("needs the Debian packages python3.11 and libpython3.11-testsuite")
    begin_suite()
    if options.log:
        options.log.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    everything: dict[str, dict[str, dict[str, tuple[str, str]]]] = {}
    print(f"{'suite':<18}{'native':<44}guest")
    for suite in options.suites:
        sides = {}
        for side in ("native", "guest"):
            sides[side], log = run_suite(suite, side == "guest", options.limit, options.whole)
            if options.log:
                (options.log / f"{suite}.{side}.log").write_text(log)
        everything[suite] = sides
        print(f"{suite:<18}{summary(sides['native']):<44}{summary(sides['guest'])}", flush=True)
        rows += compare(suite, sides["native"], sides["guest"])
    worse = [row for row in rows if row["native"] in GOOD and row["guest"] not in GOOD]
    print(f"\n{len(worse)} tests are worse in the guest; {len(rows)} differ in all")
    for row in rows:
        sign = "-" if row in worse else " "
        print(f"{sign} {row['test']}: native {row['native']}, guest {row['guest']}: {row['why']}")
    if options.json:
        options.json.write_text(json.dumps({"differences": rows, "results": everything}, indent=1))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
