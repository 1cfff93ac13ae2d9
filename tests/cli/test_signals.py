"""Signals and terminals: what reaches the guest, what becomes of ring3.

Layer: tests. Touches processes and pseudo-terminals of its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hostfacts
import pytest
from harness import BASE_ENV, descendants, kill_tree, ring3_argv
from ptydriver import PtySession

REPORT = "trap 'echo got-{0}; exit 3' {0}; echo ready; while :; do sleep 0.1; done"
PASSED_ON = ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM"]


@contextmanager
def started(*command: str, opts: tuple[str, ...] = (), **kw: object) -> Iterator[subprocess.Popen[str]]:
    """`ring3 run COMMAND` with pipes, killed with all below it at the end."""
    process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
        ring3_argv(command, *opts),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(BASE_ENV),
        start_new_session=True,
        **kw,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
        process.communicate(timeout=20)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("name", PASSED_ON)
def test_a_signal_for_ring3_alone_is_passed_on(name: str) -> None:
    with started("sh", "-c", REPORT.format(name)) as process:
        assert line(process) == "ready"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert line(process) == f"got-{name}"
        assert process.wait(20) == 3


COUNT = """
import os, signal, sys
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
signal.signal(signal.SIGUSR2, lambda *_: os.write(1, b"%d\\n" % len(got)))  # print() is not reentrant
os.write(1, b"%d\\n" % os.getpgrp())
while True: signal.pause()
"""


def test_a_signal_for_the_whole_group_comes_once() -> None:
    with started("/usr/bin/python3", "-c", COUNT) as process:
        assert int(line(process)) in (process.pid, 2)  # outside of the PID namespace, if there is one
        for number in range(1, 6):
            os.killpg(process.pid, signal.SIGUSR1)
            process.send_signal(signal.SIGUSR2)  # to ring3 alone: passed on, behind the other
            assert line(process) == str(number)
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGUSR2)
        assert line(process) == "6"


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_a_guest_that_dies_of_it_is_reported(name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    with started("sh", "-c", "echo ready; exec sleep 60") as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert process.wait(20) == 128 + number


def test_kill_9_of_ring3_takes_the_guests_along() -> None:
    with started("sh", "-c", "setsid sleep 61 & echo; wait") as process:
        line(process)
        pids = descendants(process.pid)
        assert len(pids) >= 3
        process.kill()
        process.wait(20)
        for pid in pids:
            wait_gone(pid)


def wait_gone(pid: int) -> None:
    """Wait until a process has ended (the time limit of the test is the limit)."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    try:
        assert select.select([fd], [], [], 20)[0], f"{pid} lives on"
    finally:
        os.close(fd)


def test_ignored_signals_stay_ignored() -> None:
    """nohup: what the caller ignores, the guest ignores; but not SIGPIPE, which is Python's own doing."""
    if reason := hostfacts.hidden_signals():
        pytest.skip(reason)
    program = "import os, signal, sys; signal.signal(1, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = ring3_argv(["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"])
    done = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, timeout=60
    )
    native = subprocess.run(
        ["env", "--ignore-signal=HUP", "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == native.stdout, done.stderr


def session(*command: str, opts: tuple[str, ...] = ()) -> PtySession:
    return PtySession(ring3_argv(command, *opts), env=dict(BASE_ENV))


def test_ctrl_c_reaches_the_guest_and_only_the_guest() -> None:
    with session("sh", "-c", REPORT.format("INT")) as s:
        s.expect("ready")
        s.send(b"\x03")
        s.expect("got-INT")
        assert s.wait() == 3


def test_ctrl_backslash_kills_the_guest() -> None:
    with session("sh", "-c", "ulimit -c 0; echo ready; exec sleep 60") as s:
        s.expect("ready")
        s.send(b"\x1c")
        assert s.wait() == 128 + signal.SIGQUIT


def test_ctrl_z_and_fg_of_the_whole_job() -> None:
    command = shlex.join(ring3_argv(["sh", "-c", "echo started; read x; echo got $x"]))
    with PtySession(["bash", "--norc", "--noprofile", "-i"], env={**BASE_ENV, "PS1": "$> "}) as s:
        s.expect(r"\$> ")
        s.send(command.encode() + b"\n")
        s.expect("started\r\n")
        s.send(b"\x1a")
        s.expect("Stopped")
        s.expect(r"\$> ")
        s.send(b"jobs\n")
        s.expect("Stopped")
        s.send(b"fg\n")
        s.expect("ring3")
        s.send(b"hello\n")
        s.expect("got hello")
        s.send(b"exit\n")


@pytest.mark.parametrize("shell", [["dash", "-i"], ["bash", "--norc", "--noediting", "-i"], ["busybox", "sh", "-i"]])
def test_job_control_within_and_without(shell: list[str]) -> None:
    """A shell that a shell has started gives the terminal to its jobs, has it itself, and gives it back at its end."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    command = shlex.join(ring3_argv(shell, "-e", "PS1=in> "))
    with PtySession(["bash", "--norc", "--noprofile", "-i"], env={**BASE_ENV, "PS1": "out> "}) as s:
        s.expect("out> ")
        s.send(command + "; echo status-$?\n")
        s.expect("in> ")
        s.send("sleep 100\n")
        s.wait_foreground("sleep")
        s.send(b"\x1a")
        s.expect("in> ")
        s.send("jobs\n")
        s.expect("Stopped")
        s.expect("in> ")
        s.send("fg\n")
        s.wait_foreground("sleep")
        s.send(b"\x03")
        s.expect("in> ")
        s.send("cat | cat\n")
        s.wait_foreground("cat")
        s.send(b"through\n\x04")  # busybox' cat may keep it until the end
        s.expect("through\r\nthrough")
        s.expect("in> ")
        s.send("exit 3\n")
        s.expect("status-3")
        s.expect("out> ")
        s.send("cat\n")
        s.wait_foreground("cat")
        s.send(b"\x1a")
        s.expect("Stopped")
        s.send("kill %1; wait; exit\n")
        s.send("exit\n")


def test_in_the_background_it_waits_for_the_terminal() -> None:
    """tcgetpgrp(3) tells a program whether it is in the foreground; who reads is stopped."""
    code = "import os; print('front', os.tcgetpgrp(0) == os.getpgrp(), flush=True); print('got', input(), flush=True)"
    command = shlex.join(ring3_argv(["/usr/bin/python3", "-c", code]))
    with PtySession(["bash", "--norc", "--noprofile", "-i"], env={**BASE_ENV, "PS1": "$> "}) as s:
        s.expect(r"\$> ")
        s.send(command + "\n")
        s.expect("front True")
        s.send("this\n")
        s.expect("got this")
        s.expect(r"\$> ")
        s.send(command + " &\n")
        s.expect("front False")
        word = b"Running"
        while word == b"Running":
            s.send("jobs\n")
            word = s.expect(r"\[1\]\+ +(Running|Stopped)")[1]
        s.send("fg\n")
        s.send("that\n")
        s.expect("got that")
        s.send("exit\n")


def test_a_terminal_is_a_terminal() -> None:
    with session("sh", "-c", "test -t 0 && test -t 1 && tty && stty size && : > /dev/tty && echo yes") as s:
        s.expect("/dev/pts/")
        s.expect("24 80")
        s.expect("yes")
        assert s.wait() == 0


def test_t_gives_a_terminal_where_there_is_none() -> None:
    with started("sh", "-c", "test -t 0 && test -t 1 && tty; echo end", opts=("-t",)) as process:
        assert line(process).startswith("/dev/pts/")
        assert line(process) == "end"
        assert process.wait(20) == 0


def test_it_relays_input_and_size() -> None:
    with session("sh", "-c", "stty size; read x; echo got-$x; exit 5", opts=("-it",)) as s:
        s.expect("24 80")
        s.send(b"typed\r")
        s.expect("got-typed")
        assert s.wait() == 5


def test_it_puts_the_terminal_back(tmp_path: Path) -> None:
    command = shlex.join(ring3_argv(["true"], "-it"))
    with PtySession(["sh", "-c", f"stty -g; {command}; stty -g; echo done"], env=dict(BASE_ENV)) as s:
        s.expect("done")
        first, second = [x for x in s.all.decode().split() if ":" in x][:2]
        assert first == second


def test_i_turns_the_end_of_input_into_the_end_of_the_terminal_s() -> None:
    with started("cat", opts=("-it",)) as process:
        out, _ = process.communicate("line\n", timeout=30)
        assert "line" in out
        assert process.returncode == 0
