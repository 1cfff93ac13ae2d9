"""Many sandboxes, processes, files and runs; the supervisor's memory and descriptors afterwards, and what is left.

    python tests/longsuites/load.py [--sandboxes 200] [--processes 1000] [--files 10000] [--runs 5000] [--commands 300]

Layer: tests (long). Prints a line for each part: what was done, resident memory (MiB) and descriptors of the supervisor
when it began, at half (of the runs) and at the end. The exit status is 1 if memory has grown by more than SLACK_MIB
between half and end, descriptors by more than SLACK_FDS, if anything failed, or if a process, mount, file of /dev/shm
or /tmp, or memfd is left.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import BASE_ENV, begin_suite, mounts_snapshot, my_children, ring3_argv

import ring3

SLACK_MIB, SLACK_FDS = 8.0, 8
FORKS = """
import os, sys
ready, go = os.pipe(), os.pipe()
pids = []
for i in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        os.close(go[1])
        os.write(ready[1], b"r")
        os.read(go[0], 1)
        os._exit(i % 100)
    pids.append(pid)
seen = 0
while seen < len(pids):
    seen += len(os.read(ready[0], 4096))
there = sum(os.path.exists(f"/proc/{pid}/stat") for pid in pids)
os.close(go[1])
sums = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == i % 100 for i, pid in enumerate(pids))
print(there, sums)
"""
FILES = """
import os, resource, sys
n = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (n + 100, n + 100))
fds = []
for i in range(n):
    fd = os.open(f"/mem/{i % 100}/{i}", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    os.write(fd, b"%d" % i)
    fds.append(fd)
print(sum(os.pread(fd, 20, 0) == b"%d" % i for i, fd in enumerate(fds)))
"""


def state() -> tuple[float, int]:
    """Resident memory in MiB and open descriptors of this process, the supervisor."""
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return round(resident / (1 << 20), 1), len(os.listdir("/proc/self/fd"))


def left_on_host() -> dict[str, set[str]]:
    """What a run may leave behind."""
    memfds = {
        link
        for name in os.listdir("/proc/self/fd")
        if (link := _readlink(f"/proc/self/fd/{name}")).startswith("/memfd:")
    }
    return {
        "processes": {str(pid) for pid in my_children()},
        "mounts": set(mounts_snapshot().splitlines()),
        "/dev/shm": {name for name in os.listdir("/dev/shm") if "ring3" in name},
        "/tmp": {name for name in os.listdir("/tmp") if name.startswith("ring3") and _ours(f"/tmp/{name}")},
        "memfds": memfds,
    }


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _ours(path: str) -> bool:
    """Not of somebody else's tests at the same time."""
    return not any(word in path for word in ("test", "bench", "soak", "stress", "build", "suite"))


def sandboxes(count: int) -> str:
    """All at once, each with a guest that waits, then each is asked."""
    boxes = [ring3.Sandbox() for _ in range(count)]
    try:
        guests = [box.popen(["cat"], stdin=ring3.PIPE, stdout=ring3.PIPE) for box in boxes]
        answers = 0
        for i, guest in enumerate(guests):
            answers += guest.communicate(b"%d" % i, timeout=120)[0] == b"%d" % i
    finally:
        for box in boxes:
            box.close()
    assert answers == count, f"{answers} of {count} have answered"
    return f"{count} sandboxes at once"


def one_guest(what: str, program: str, count: int, expected: str) -> str:
    """One guest that does `count` of something."""
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mem")
        for i in range(100):
            box.run(["/bin/true"]) if i < 2 else None
            (box.root / "mem" / str(i)).mkdir()
        done = box.run(
            ["/usr/bin/python3", "-I", "-S", "-c", program, str(count)], capture_output=True, timeout=600
        )
    assert done.stdout.decode().strip() == expected, (done.stdout[-300:], done.stderr[-1000:])
    return f"{count} {what} in one sandbox"


def runs(count: int, note: Callable[[], None]) -> str:
    """One after the other, with one supervisor; every tenth in a sandbox of its own."""
    with ring3.Sandbox() as box:
        for i in range(count):
            if i % 10:
                done = box.run(["/bin/echo", str(i)], capture_output=True)
            else:
                done = ring3.run(["/bin/echo", str(i)], capture_output=True)
            assert done.stdout == b"%d\n" % i, done
            if i == count // 2:
                note()
    return f"{count} runs in a row"


def commands(count: int) -> str:
    """The command line."""
    for i in range(count):
        done = subprocess.run(
            ring3_argv(["/bin/echo", str(i)]), capture_output=True, env=BASE_ENV, timeout=60
        )
        assert done.stdout == b"%d\n" % i and not done.stderr, done
    return f"{count} command lines in a row"


def part(name: str, work: Callable[[Callable[[], None]], str]) -> bool:
    """Do one part and print its figures; False if something grew or is left."""
    before, began = left_on_host(), time.monotonic()
    states = [state()]
    said = work(lambda: states.append(state()))
    states.append(state())
    shown = " -> ".join(f"{memory} MiB, {fds} fds" for memory, fds in states)
    print(f"{name}: {said} in {time.monotonic() - began:.0f} s; supervisor {shown}", flush=True)
    good = states[-1][1] - states[0][1] <= SLACK_FDS and (
        len(states) == 2 or states[-1][0] - states[1][0] <= SLACK_MIB
    )
    for what, now in left_on_host().items():
        if new := now - before[what]:
            good = False
            print(f"  left: {what}: {sorted(new)[:10]}", flush=True)
    return good


def main() -> int:
    """All parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (
        ("sandboxes", 200),
        ("processes", 1000),
        ("files", 10000),
        ("runs", 5000),
        ("commands", 300),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}; 0: leave it out")
    o = parser.parse_args()
    begin_suite()
    ring3.run(["/bin/true"])  # what is loaded once
    parts: list[tuple[int, str, Callable[[Callable[[], None]], str]]] = [
        (o.sandboxes, "sandboxes", lambda _: sandboxes(o.sandboxes)),
        (o.processes, "processes",
         lambda _: one_guest("processes", FORKS, o.processes, f"{o.processes} {o.processes}")),
        (o.files, "files", lambda _: one_guest("open files", FILES, o.files, str(o.files))),
        (o.runs, "runs", lambda note: runs(o.runs, note)),
        (o.commands, "commands", lambda _: commands(o.commands)),
    ]  # fmt: skip
    good = [part(name, work) for count, name, work in parts if count]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
