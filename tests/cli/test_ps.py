"""`ring3 ps` and box.tasks(): what each task waits for.

Layer: tests. Touches guests of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable

from guestpython import PYTHON, TIME_LIMIT

import ring3
from ring3.kernel import telling

GUEST = """
import os, sys
os.mkfifo("/tmp/fifo")
if os.fork() == 0:
    open("/tmp/fifo", "rb").read()
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
open("/tmp/fifo", "wb").close()
"""


def ps(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", "ring3", "ps", *options], capture_output=True, text=True, timeout=TIME_LIMIT
    )


def test_who_waits_for_what() -> None:
    with ring3.Sandbox() as box:
        guest = box.popen([PYTHON, "-I", "-S", "-c", GUEST], stdin=ring3.PIPE, stdout=ring3.PIPE, text=True)
        assert guest.stdout is not None and guest.stdin is not None and guest.stdout.readline() == "ready\n"
        doing = ({"read", "ring3: openat"}, {"read", "ring3: open"})  # musl's open(3) is open(2)
        until(lambda: {row.doing.partition("(")[0] for row in box.tasks()} in doing)
        by_pid = {row.pid: row for row in box.tasks()}
        assert by_pid[guest.pid].doing.startswith("read(0, 0x") and by_pid[guest.pid].state == "S"
        name = os.path.basename(PYTHON)[:15]
        assert {row.program for row in by_pid.values()} == {name}
        done = ps("--json")
        assert done.returncode == 0 and not done.stderr
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert {row["pid"] for row in told if row["sandbox"] == os.getpid()} == set(by_pid)
        lines = ps().stdout.splitlines()
        assert lines[0].split() == ["SANDBOX", "PID", "TID", "STATE", "PROGRAM", "DOING"]
        assert any(re.search(r"ring3: open(at)?\((-100, )?'/tmp/fifo', ", line) for line in lines), lines
        guest.stdin.close()
        assert guest.wait(TIME_LIMIT) == 0
        until(lambda: not box.tasks())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIME_LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_supervisor_that_does_not_answer_says_where_it_is() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def thinks_for_ever() -> None:
        inside.set()
        go_on.wait(TIME_LIMIT)

    with ring3.Sandbox() as box:
        box.run(["true"])
        box._kernel.loop.call_soon_threadsafe(thinks_for_ever)
        assert inside.wait(TIME_LIMIT)
        done = ps()
        go_on.set()
        assert done.returncode == 1
        assert f"the sandbox of process {os.getpid()} does not answer" in done.stderr
        assert "in thinks_for_ever" in done.stderr
        assert [pid for pid, answer in telling.ask_all(b"ps") if "rows" in answer and pid == os.getpid()]
