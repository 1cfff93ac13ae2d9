"""Guests in a PID namespace: the same numbers in each run, none of the host's, and an end of all with init."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from harness import BASE_ENV, descendants, kill_tree, ring3_argv

import ring3
from ring3.kernel.layout import CONSTANTS


@pytest.fixture(autouse=True)
def _needs_a_namespace() -> None:
    if not _bits() & CONSTANTS["LOCKED_PIDS"]:
        pytest.skip("the host allows no PID namespace (ring3 doctor)")


_known: list[int] = []


def _bits() -> int:
    if not _known:
        from ring3.doctor import _lockdown_bits

        _known.append(_lockdown_bits())
    return _known[0]


NUMBERS = """
echo $$ $PPID; sh -c 'echo $$ $PPID'; (sleep 0 & echo $!; wait)
set -- $(cat /proc/self/stat); echo $1 $4 $5 $6; echo /proc/[0-9]*; cut -d' ' -f5 /proc/loadavg
cat /proc/sys/kernel/ns_last_pid
"""


def test_the_same_numbers_in_each_run() -> None:
    said = [
        subprocess.run(ring3_argv(["sh", "-c", NUMBERS]), capture_output=True, env=BASE_ENV, timeout=60)
        for _ in range(2)
    ]
    assert said[0].stdout == said[1].stdout and said[0].stdout.startswith(b"3 0\n4 3\n"), said


TOLD = r"""
import fcntl, os, re, sys, tempfile
def text(name):
    return open(f"/proc/{name}").read()
told = [n for n in os.listdir("/proc") if n.isdigit()]
for pid in list(told):
    told += os.listdir(f"/proc/{pid}/task")
    for place in (pid, f"{pid}/task/{pid}"):
        told += re.findall(r"^(?:Tgid|Pid|PPid|TracerPid|NS\w*):(.*)", text(place + "/status"), re.M)
        told += [text(place + "/stat").split()[0], text(place + "/sched").partition("(")[2].partition(",")[0]]
        told += [text(place + "/stat").rpartition(")")[2].split()[i] for i in (1, 2, 3, 5)]
    told.append(text(f"{pid}/task/{pid}/children"))
told += [text("loadavg").split()[-1], text("sys/kernel/ns_last_pid"), os.readlink("/proc/self")]
told += os.readlink("/proc/thread-self").split("/task/")
with tempfile.TemporaryFile() as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    told += re.findall(r"WRITE +(\S+)", text("locks"))
    told += re.findall(r"WRITE +(\S+)", text(f"self/fdinfo/{file.fileno()}"))
fd = os.pidfd_open(os.getppid() or os.getpid())
told += re.findall(r"^(?:NS)?pid:(.*)", text(f"self/fdinfo/{fd}"), re.M | re.I)
told += [os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0), fcntl.fcntl(0, fcntl.F_GETOWN)]
print(*(" ".join(map(str, told)).split()))
"""


def test_no_number_of_the_hosts() -> None:
    """Neither a guest's own nor anybody else's is in /proc, and none can be signalled or asked about."""
    with ring3.Sandbox() as box, subprocess.Popen(["sleep", "100"]) as outsider:
        try:
            with box.popen(["/bin/cat"], stdin=ring3.PIPE) as guest:
                assert guest.pid == 3 and guest.host_pid > 3
                with open(f"/proc/{guest.host_pid}/status") as status:
                    assert re.search(r"NSpid:.*\t3\n", status.read())
                seen = box.run(["/usr/bin/python3", "-c", TOLD], capture_output=True, text=True, timeout=100)
                told = {int(word) for word in seen.stdout.split()}
                assert {1, 2, 3} < told and all(-1 <= number < 50 for number in told), seen
                hosts = {os.getpid(), outsider.pid, guest.host_pid, *descendants(os.getpid())}
                code = "import os, sys\nfor x in sys.argv[1:]:\n for call in (os.getpgid, os.getsid, os.pidfd_open, "
                code += "lambda x: os.kill(x, 0), lambda x: os.killpg(x, 0), os.sched_getaffinity):\n"
                code += "  try: print(x, call(int(x)))\n  except ProcessLookupError: pass"
                gone = [str(n) for n in hosts if n > 100]
                done = box.run(["/usr/bin/python3", "-c", code, *gone], capture_output=True, timeout=60)
                assert (done.returncode, done.stdout) == (0, b""), done
                assert guest.stdin is not None
                guest.stdin.close()
        finally:
            outsider.kill()


SESSIONS = """
setsid sh -c 'setsid sh -c "echo; exec sleep 1000" & echo; exec sleep 1001' &
(setsid sh -c 'echo; exec sleep 1002' &)
wait"""


@contextmanager
def below(lines: int, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[int, int]]]:
    """A process, and a pidfd of each that is below it when so many lines have been written; all of them have to end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=BASE_ENV)
    fds: dict[int, int] = {}
    try:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        for pid in descendants(process.pid):
            fds[pid] = os.pidfd_open(pid)
        yield process, fds
        process.wait(20)
        for pid, fd in fds.items():
            assert select.select([fd], [], [], 20)[0], f"{pid} lives on"
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
        process.communicate()
        for fd in fds.values():
            os.close(fd)


def init_of(pids: dict[int, int]) -> int:
    for pid in pids:
        with open(f"/proc/{pid}/comm") as comm:
            if comm.read() == "ring3-init\n":
                return pid
    raise AssertionError("no init")


@pytest.mark.parametrize("who", ["supervisor", "init", "both", "stopped init"])
def test_kill_9_ends_all_sessions(who: str) -> None:
    with below(3, *ring3_argv(["sh", "-c", SESSIONS])) as (process, pids):
        assert len(pids) >= 5
        init = init_of(pids)
        if who == "stopped init":
            os.kill(init, signal.SIGSTOP)
        if who in ("init", "both"):
            os.kill(init, signal.SIGKILL)
        if who != "init":
            process.kill()


def test_a_copy_of_the_supervisor_keeps_nobody_alive() -> None:
    """It has the control socket of init, too."""
    code = (
        "import os, ring3, signal\n"
        "box = ring3.Sandbox()\n"
        f"box.popen(['/bin/sh', '-c', {SESSIONS!r}])\n"
        "if not os.fork():\n    print(flush=True)\n    signal.pause()\n"
        "signal.pause()\n"
    )
    with below(4, sys.executable, "-c", code) as (process, pids):
        copy = next(
            pid for pid in descendants(process.pid) if _ppid(pid) == process.pid and pid != init_of(pids)
        )
        os.close(pids.pop(copy))
        process.kill()
        try:
            for fd in pids.values():
                assert select.select([fd], [], [], 20)[0]
        finally:
            os.kill(copy, signal.SIGKILL)


def _ppid(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def test_a_sandbox_outlives_the_thread_that_made_it() -> None:
    """Init dies with the thread that is its parent: that is not this one."""
    made: list[tuple[ring3.Sandbox, ring3.Popen]] = []

    def make() -> None:
        box = ring3.Sandbox()
        made.append((box, box.popen(["/bin/cat"], stdin=ring3.PIPE, stdout=ring3.PIPE)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    box, guest = made[0]
    with box:
        assert guest.communicate(b"alive")[0] == b"alive" and guest.returncode == 0


def test_without_lockdown_they_are_the_hosts() -> None:
    with ring3.Sandbox(lockdown=False) as box, box.popen(["/bin/cat"], stdin=ring3.PIPE) as guest:
        assert guest.pid == guest.host_pid
        assert guest.stdin is not None
        guest.stdin.close()
