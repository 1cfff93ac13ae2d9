"""kill -9 of the supervisor, of init and of guests at random instants of a workload on a read-write bind.

    python tests/longsuites/faults.py [--rounds 500] [--seed N]

Layer: tests (long). In each round two guests append records to a file each, fsync(2) it and say so, and replace another
file by renaming, and something is killed at a random instant. Then every record that was acknowledged is on the host,
whole and in order, what was renamed is the old or the new version, and no process is left. The exit status is 1 if not.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import BASE_ENV, begin_suite, descendants, kill_tree, my_children, ring3_argv, sweep

RECORD = 100
VERSION = 5000
WORK = """
import os, sys
record, version = map(int, sys.argv[1:])
me = 0 if os.fork() else 1
log = os.open(f"/w/log{me}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
i = 0
while True:
    os.write(log, (b"%d:%d" % (me, i)).ljust(record - 1, b".") + b"\\n")
    os.fsync(log)
    os.write(1, b"%d %d\\n" % (me, i))
    if i % 4 == 0:
        new = os.open(f"/w/new{me}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.write(new, bytes([65 + i // 4 % 26]) * version)
        os.fsync(new)
        os.close(new)
        os.rename(f"/w/new{me}", f"/w/version{me}")
        os.write(1, b"%d v%d\\n" % (me, i // 4))
    i += 1
"""
VICTIMS = ("supervisor", "init", "guest", "guest")


class Wrong(Exception):
    """What was lost, or left."""


def one_round(where: Path, r: random.Random) -> str:
    """Start, kill, look; which one was killed and what was acknowledged. Raises Wrong."""
    known = my_children()
    argv = ring3_argv(
        ["/usr/bin/python3", "-I", "-S", "-c", WORK, str(RECORD), str(VERSION)], "-v", f"{where}:/w"
    )
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=BASE_ENV)
    assert process.stdout is not None
    victim = r.choice(VICTIMS)
    try:
        said = _until_ready(process)
        time.sleep(r.random() * 0.05)  # an instant, not a wait for anything
        _kill(process, victim, r)
        if victim == "guest":  # the other one lives on, and ends with its supervisor
            time.sleep(r.random() * 0.02)
            process.kill()
        said += process.stdout.read()  # ends when the last guest has
        process.wait(30)
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait()
        process.stdout.close()
    if left := sweep(known):
        raise Wrong(f"{victim}: left behind: {left}")
    return f"{victim}: {_check(where, said)} acknowledged"


def _until_ready(process: subprocess.Popen[bytes]) -> bytes:
    """Until both guests have acknowledged something."""
    said = b""
    assert process.stdout is not None
    while not (said.startswith(b"0 ") or b"\n0 " in said) or not (said.startswith(b"1 ") or b"\n1 " in said):
        ready, _, _ = select.select([process.stdout], [], [], 60)
        more = os.read(process.stdout.fileno(), 65536) if ready else b""
        if not more:
            raise Wrong(f"it did not begin: {said!r}")
        said += more
    return said


def _kill(process: subprocess.Popen[bytes], victim: str, r: random.Random) -> None:
    below = sorted(descendants(process.pid))
    try:
        init = next(
            pid for pid in below if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ring3-init")
        )
        guests = [pid for pid in below if pid != init]
        os.kill({"supervisor": process.pid, "init": init}.get(victim) or r.choice(guests), signal.SIGKILL)
    except OSError as e:
        raise Wrong(f"{victim} is not there: {e}") from None


def _check(where: Path, said: bytes) -> int:
    """Compare what was acknowledged with the host's files."""
    lines = [line.split() for line in said.split(b"\n")[:-1]]
    for me in (0, 1):
        numbers = [int(n) for who, n in lines if int(who) == me and not n.startswith(b"v")]
        versions = [int(n[1:]) for who, n in lines if int(who) == me and n.startswith(b"v")]
        data = (where / f"log{me}").read_bytes()
        for i in range(len(data) // RECORD):
            record = data[i * RECORD : (i + 1) * RECORD]
            if record != (b"%d:%d" % (me, i)).ljust(RECORD - 1, b".") + b"\n":
                raise Wrong(f"log{me}: record {i} is {record!r}")
        if numbers and len(data) < (max(numbers) + 1) * RECORD:
            raise Wrong(f"log{me}: {max(numbers)} was acknowledged, and {len(data)} bytes are there")
        if versions:
            text = (where / f"version{me}").read_bytes()
            good = [bytes([65 + (max(versions) + more) % 26]) * VERSION for more in (0, 1)]
            if text not in good:
                raise Wrong(
                    f"version{me}: {max(versions)} was acknowledged, and it is {text[:20]!r} ({len(text)})"
                )
    return len(lines)


def rounds(count: int, seed: int) -> tuple[int, str]:
    """So many rounds: how many went well, and what was wrong with the next, "" for nothing."""
    r = random.Random(seed)
    for done in range(count):
        where = Path(tempfile.mkdtemp(prefix="ring3-test-faults-"))
        try:
            print(one_round(where, r), flush=True)
        except Wrong as e:
            return done, str(e)
        finally:
            shutil.rmtree(where, ignore_errors=True)
    return count, ""


def main() -> int:
    """All rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=500, help="default 500")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    options = parser.parse_args()
    begin_suite()
    done, wrong = rounds(options.rounds, options.seed)
    print(wrong or f"{done} rounds: nothing lost, nothing left")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
