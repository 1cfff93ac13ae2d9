"""A machine that fails: killed at any instant, out of descriptors, out of memory, a full standard output, Ctrl-C twice.

Layer: tests. tests/longsuites/faults.py kills many more; full disks are in tests/vfs/test_full.py, closed streams and
terminals that are suspended in test_cli.py and test_signals.py.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ring3

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "longsuites"))

from faults import rounds
from harness import BASE_ENV, assert_clean, ring3_argv, run
from ptydriver import PtySession

#: what a shell of the sandbox does: it forks, executes, opens and reads
WORK = "for i in 1 2 3; do /bin/true || exit 7; cat /etc/passwd | wc -l; done; echo all"


def test_nothing_acknowledged_is_lost_and_nobody_is_left() -> None:
    done, wrong = rounds(6, seed=5)
    assert not wrong, wrong
    assert done == 6


def limited(limit: int, value: int) -> subprocess.CompletedProcess[bytes]:
    """`ring3 run` where the supervisor's resource `limit` is `value`, and so its guests'."""
    program = (
        f"import os, resource, sys; resource.setrlimit({limit}, ({value}, {value})); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    done = run([sys.executable, "-c", program, *ring3_argv(["sh", "-c", WORK])], timeout=60)
    assert_clean(done)
    assert b"Traceback" not in done.err, done.describe()
    if done.status == 0:
        assert done.out.endswith(b"all\n"), done.describe()
    else:
        assert done.err.strip(), done.describe()
    return subprocess.CompletedProcess(done.cmd, done.status, done.out, done.err)


@pytest.mark.parametrize("descriptors", [8, 20, 64, 128, 136, 160, 256])
def test_few_descriptors_are_a_sentence_or_an_errno(descriptors: int) -> None:
    done = limited(resource.RLIMIT_NOFILE, descriptors)
    assert descriptors < 256 or done.returncode == 0, done.stderr


@pytest.mark.parametrize("mebibytes", [60, 100, 150, 200, 300, 1000, 4000])
def test_little_memory_is_a_sentence_or_an_errno(mebibytes: int) -> None:
    done = limited(resource.RLIMIT_AS, mebibytes << 20)
    assert mebibytes < 4000 or done.returncode == 0, done.stderr


def test_a_program_that_is_not_got_ready_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("ring3.kernel.images.Images.to_wait_for", fails)
    with ring3.Sandbox() as box:
        assert box.run(["/bin/true"]).returncode == -signal.SIGKILL
    assert "there was not enough memory while starting a program" in caplog.text


def test_a_full_standard_output() -> None:
    command = ["sh", "-c", "echo one; echo status $? >&2; cat /etc/passwd; echo status $? >&2"]
    ended = []
    for words in (command, ring3_argv(command)):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, env=BASE_ENV, timeout=60)
        ended.append((done.returncode, done.stderr))
    assert ended[0] == ended[1]


def test_ctrl_c_twice_is_two_signals_for_the_guest() -> None:
    program = "n=0; trap 'n=$((n+1)); echo got-$n; [ $n = 2 ] && exit 4' INT; echo ready; while :; do sleep 0.1; done"
    with PtySession(ring3_argv(["sh", "-c", program]), env=dict(BASE_ENV)) as s:
        s.expect("ready")
        s.send(b"\x03")
        s.expect("got-1")
        s.send(b"\x03")
        s.expect("got-2")
        assert s.wait() == 4


def test_ctrl_c_ends_a_guest_that_does_not_care_and_leaves_nobody() -> None:
    with PtySession(ring3_argv(["sh", "-c", "sleep 1000 & echo ready; wait"]), env=dict(BASE_ENV)) as s:
        s.expect("ready")
        s.send(b"\x03\x03")
        assert s.wait() == 130


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """The file of a memory cgroup of 256 MiB to write a pid to; gone at the end."""
    top = Path("/sys/fs/cgroup/memory")
    group = top / f"ring3-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as e:
        pytest.skip(f"no memory cgroup (version 1) can be made here: {e}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(256 << 20))
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


HOG = "import os; os.write(1, b'begun\\n'); kept = []\nwhile True: kept.append(bytearray(b'x' * (1 << 20)))"


def test_a_guest_that_the_host_kills_for_its_memory(small_memory: Path) -> None:
    """The supervisor lives, and says how its program ended."""
    words = ring3_argv(["sh", "-c", 'python3 -I -S -c "$1"; echo status $?', "sh", HOG])
    done = run(["sh", "-c", f'echo $$ >{small_memory}; exec "$@"', "sh", *words], timeout=100)
    assert_clean(done)
    assert (done.status, done.out) == (0, b"begun\nstatus 137\n"), done.describe()
