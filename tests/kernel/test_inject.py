"""Faults: which invocations, what they get, from Python and from strace's expressions.

Layer: tests of the pretend kernel, through the front door; each test has a sandbox of its own.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

import ring3
from ring3.kernel.hooks.inject import Injection, When, parse, seconds_of

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
WRITES = "for i in 1 2 3 4 5 6; do echo $i; done 2>/dev/null"


@pytest.mark.parametrize(
    ("text", "which"),
    [
        ("1", [1]),
        ("3", [3]),
        ("3+", [3, 4, 5, 6, 7, 8]),
        ("2+3", [2, 5, 8]),
        ("2..4", [2, 3, 4]),
        ("1..7+3", [1, 4, 7]),
    ],
)
def test_when(text: str, which: list[int]) -> None:
    call: Any = SimpleNamespace(task=SimpleNamespace(process=1), tid=1)
    when = When(text)
    assert [n for n in range(1, 9) if when.now(call)] == which


@pytest.mark.parametrize("text", ["0", "+", "a", "3-4", "4..2", "1+0", ""])
def test_when_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        When(text)


def test_each_thread_counts_for_itself_unless_shared() -> None:
    one: Any = SimpleNamespace(task=SimpleNamespace(process=1), tid=1)
    two: Any = SimpleNamespace(task=SimpleNamespace(process=1), tid=2)
    assert When("1").now(one) and When("1").now(two)
    when = When("2")
    assert [when.now(c) for c in (one, two, one, two)] == [False, False, True, True]
    when = When("2", shared=True)
    assert [when.now(c) for c in (one, two, one, two)] == [False, True, False, False]


def test_straces_expressions() -> None:
    names, injection = parse("write,%file:error=ENOSPC:when=3+")
    assert names == ["write", "%file"] and injection.result == -28
    assert parse("read:retval=0x10")[1].result == 16
    assert parse("read:delay_enter=5ms:delay_exit=7")[1].delay_enter == 0.005
    assert seconds_of("7") == 7e-6 and seconds_of("2s") == 2
    assert parse("read:signal=TERM")[1].signal == 15
    for wrong in ("read", "read:error=EWHAT", "read:colour=red", "read:error=EIO:retval=1", "read:when=1",
                  "read:signal=X",
                                    "read:retval=-1", "read:delay_enter=soon", "read:syscall=unlink"):  # fmt: skip
        with pytest.raises(ValueError):
            parse(wrong)
    with pytest.raises(ValueError):
        Injection()


def test_a_call_fails_from_the_third_on() -> None:
    with ring3.Sandbox(env=PATH) as box:
        box.inject("write", error="ENOSPC", when="3+", fd="pipe")
        done = box.run(["sh", "-c", WRITES], capture_output=True, text=True, timeout=30)
        assert done.stdout == "1\n2\n"


def test_a_path_alone_fails_and_what_is_left_out_is_not_counted() -> None:
    with ring3.Sandbox(env=PATH) as box:
        box.inject("openat", error="EMFILE", when="2", path="/etc/hostname")
        code = "cat /etc/passwd /etc/hostname /etc/hostname /etc/hostname >/dev/null"
        done = box.run(["sh", "-c", code], capture_output=True, text=True, timeout=30)
        assert done.stderr == "cat: /etc/hostname: Too many open files\n"


def test_a_result_without_the_call() -> None:
    with ring3.Sandbox(env=PATH) as box:
        with box.inject("unlinkat", retval=0):
            assert box.run(["rm", "/etc/hostname"], timeout=30).returncode == 0
        assert box.exists("/etc/hostname")


def test_a_signal_comes_with_the_call() -> None:
    with ring3.Sandbox(env=PATH) as box:
        with box.inject("umask", signal="USR1", when=1):
            code = "trap 'echo caught' USR1; umask >/dev/null; echo after"
            done = box.run(["sh", "-c", code], capture_output=True, text=True, timeout=30)
            assert done.stdout == "caught\nafter\n"
        with box.inject("chdir", signal="KILL"):
            assert box.run(["sh", "-c", "cd /usr; echo no"], timeout=30).returncode == -9


def test_delays() -> None:
    with ring3.Sandbox(env=PATH) as box:
        box.inject("umask", delay_enter=0.2, delay_exit=0.2, when="1")
        started = time.monotonic()
        assert (
            box.run(["sh", "-c", "umask 27; umask"], capture_output=True, text=True, timeout=30).stdout
            == "0027\n"
        )
        assert time.monotonic() - started >= 0.4


def test_mistakes_are_usage_errors() -> None:
    with ring3.Sandbox(env=PATH) as box:
        for options in ({}, {"error": "EWHAT"}, {"retval": -1}, {"error": "EIO", "when": "x"}):
            with pytest.raises(ring3.UsageError):
                box.inject("write", **options)
        with pytest.raises(ring3.UsageError):
            box.inject("wriet", error="EIO")
