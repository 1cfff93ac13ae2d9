"""Hooks: every lane, every way to answer, filters, errors, coming and going while guests run.

Layer: tests of the pretend kernel, through the front door; each test has a sandbox of its own.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import ring3
from ring3.kernel.hooks import numbers_of
from ring3.kernel.table import BY_NAME


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def box(log: list[str]) -> Iterator[ring3.Sandbox]:
    with ring3.Sandbox(log=log.append, user=0, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}) as sandbox:
        yield sandbox


def out(box: ring3.Sandbox, *args: str) -> str:
    done = box.run(args, capture_output=True, text=True, timeout=30)
    return str(done.stdout) + str(done.stderr)


def python(box: ring3.Sandbox, code: str) -> str:
    return out(box, "python3", "-S", "-c", code)


# -- names


def test_names_classes_numbers_patterns_and_exclusions() -> None:
    assert 257 in numbers_of(["openat"]) and 1 not in numbers_of(["openat"])
    files = numbers_of(["%file"])
    assert {BY_NAME[n].nr for n in ("openat", "stat", "execve", "rename")} <= files.some
    assert BY_NAME["read"].nr not in files
    assert 10_001 in numbers_of([10_001]) and numbers_of(["10001"]).beyond and not numbers_of([500]).beyond
    everything = numbers_of(["*"])
    assert everything.beyond and all(nr in everything for nr in (0, 511, 512, -1))
    most = numbers_of(["!futex", "!%memory"])
    assert 202 not in most and 9 not in most and 1 in most
    assert numbers_of(["%file", "!openat"]).some == files.some - {257}
    assert numbers_of(["/^getpg"]).some == {BY_NAME["getpgid"].nr, BY_NAME["getpgrp"].nr}
    words = numbers_of(["openat", "read"]).words()
    assert words[4] == 1 << 1 and words[0] == 1
    for wrong in ("nosuchcall", "%nosuchclass", "/("):
        with pytest.raises(ValueError):
            numbers_of([wrong])


def test_what_does_not_exist_is_a_usage_error(box: ring3.Sandbox) -> None:
    for names, options in (
        (["nosuchcall"], {"before": print}),
        (["read"], {}),
        (["read"], {"before": print, "fd": "spoon"}),
        (["read"], {"before": print, "on_error": "EWHAT"}),
    ):
        with pytest.raises(ring3.UsageError):
            box.hook(*names, **options)


# -- the call


def test_the_call_tells_everything(box: ring3.Sandbox) -> None:
    seen: list[Any] = []

    @box.syscall("openat", path="/etc/hostname")
    def look(call: Any) -> None:
        seen.append(
            (call.name, call.nr, call.pid, call.tid, os.path.basename(call.program), call.ip, call.sp)
        )
        seen.append((call.args["pathname"], call.args[1], call.args.dirfd, len(call.args), call.paths))
        seen.append(call.memory.read_str(call.raw[1]))

    with box.popen(["cat", "/etc/hostname"], stdout=ring3.PIPE) as cat:
        cat.communicate()
    (name, nr, pid, tid, program, ip, sp), (path, again, dirfd, count, paths), raw = seen
    assert (name, nr, program) == ("openat", 257, "cat") and pid == tid == cat.pid and ip and sp
    assert (
        path == again == raw == "/etc/hostname"
        and dirfd == -100
        and count == 4
        and paths == ["/etc/hostname"]
    )
    assert look.numbers.some == {257}


@pytest.mark.parametrize(
    ("name", "code", "native"),
    [
        ("getpid", "import os; print(os.getpid() == 7)", "core"),
        ("getpgrp", "import os; print(os.getpgrp() == 7)", "kernel"),
        ("chdir", "import os; print(os.chdir('/nowhere') is None)", "supervisor"),
        ("clock_gettime", "import time; time.clock_gettime(0); print(True)", "vdso"),
        ("bpf", "import ctypes; print(ctypes.CDLL(None).syscall(321, 0, 0, 0) == 7)", "refused"),
    ],
)
def test_each_lane_is_hooked(box: ring3.Sandbox, name: str, code: str, native: str) -> None:
    calls: list[str] = []

    def answer(call: Any) -> int | None:
        calls.append(call.name)
        return None if native == "vdso" else 0 if name == "chdir" else 7

    with box.hook(name, before=answer):
        assert python(box, code) == "True\n"
    assert name in calls
    before = len(calls)
    python(box, code)
    assert len(calls) == before


def test_an_answer_writes_guest_memory(box: ring3.Sandbox) -> None:
    @box.syscall("uname")
    def uname(call: Any) -> int:
        call.memory.write(
            call.args.buf, b"".join(w.ljust(65, b"\0") for w in (b"Hurd", b"n", b"9", b"v", b"vax", b"d"))
        )
        return 0

    assert out(box, "uname", "-sm") == "Hurd vax\n"


def test_arguments_are_changed_on_every_lane(box: ring3.Sandbox) -> None:
    box.write_file("/a", "first\n")
    box.write_file("/b", "second\n")

    @box.syscall("openat", path="/a")
    def other(call: Any) -> None:
        call.args["pathname"] = "/b"

    assert out(box, "cat", "/a") == "second\n"
    other.remove()

    def shout(call: Any) -> None:
        call.args["buf"] = call.args["buf"].upper()

    with box.hook("write", before=shout, fd="pipe"):
        assert out(box, "echo", "hello") == "HELLO\n"

    def shell(call: Any) -> None:
        call.args["pathname"] = "/bin/echo"

    with box.hook("execve", before=shell, program="*sh"):
        assert out(box, "sh", "-c", "/bin/false one two; exit 0") == "one two\n"


@pytest.mark.parametrize("rewrite", ["detour", "off"])
def test_a_programs_arguments_and_environment_are_replaced(rewrite: str, log: list[str]) -> None:
    def other(call: Any) -> None:
        assert call.args.argv == ["false", "one"] and "KEEP=1" in call.args.envp
        call.args["pathname"] = "/bin/sh"
        call.args["argv"] = ["sh", "-c", 'echo "$0 $1 $MADE $KEEP $#"', b"zero", "", *(["x"] * 500)]
        call.args["envp"] = ["MADE=by a hook", *call.args.envp[:0]]

    with ring3.Sandbox(rewrite=rewrite, log=log.append, env={"PATH": "/usr/bin:/bin", "KEEP": "1"}) as box:
        with box.hook("execve", before=other, program="*sh"):
            assert out(box, "bash", "-c", "exec false one") == "zero  by a hook  501\n"

        def too_much(call: Any) -> None:
            call.args["argv"] = ["x" * 100] * 10_000

        with box.hook("execve", before=too_much, program="*sh"):
            assert "Input/output error" in out(box, "bash", "-c", "exec true")
    assert len(log) == 1 and "more bytes than a call can take" in log[0]


def test_an_argv_must_be_strings(box: ring3.Sandbox, log: list[str]) -> None:
    def wrong(call: Any) -> None:
        call.args["argv"] = ["nul \0 inside"]

    with box.hook("execve", before=wrong, program="*sh"):
        assert "Input/output error" in out(box, "bash", "-c", "exec true")
    assert "has a NUL" in log[0]

    def unwritable(call: Any) -> None:
        call.args["pathname"] = "\ud800"  # no byte of a file name

    with box.hook("mkdir", before=unwritable):
        assert "Input/output error" in out(box, "mkdir", "/x")
    assert "gave an argument that it cannot have" in log[1]


def test_refusing_and_answering(box: ring3.Sandbox) -> None:
    def no(call: Any) -> None:
        raise OSError(errno.ELOOP, "")

    with box.hook("mkdir", before=no):
        assert "Too many levels of symbolic links" in out(box, "mkdir", "/x")
    assert not box.exists("/x")
    with box.hook("unlinkat", "unlink", before=lambda call: 0):
        out(box, "rm", "-f", "/etc/hostname")
    assert box.exists("/etc/hostname")


def test_a_descriptor_is_given(box: ring3.Sandbox) -> None:
    def give(call: Any) -> Any:
        read, write = os.pipe()
        os.write(write, b"made by Python\n")
        os.close(write)
        return call.give_fd(read)

    with box.hook("openat", before=give, path="/no/such/file"):
        assert out(box, "cat", "/no/such/file") == "made by Python\n"


def test_after_a_call_its_result_is_seen_and_changed(box: ring3.Sandbox) -> None:
    results: list[tuple[str, int]] = []
    with box.hook("read", after=lambda call, result: results.append((call.memory.read(call.args.buf, result), result)),
                  path="/etc/hostname"):  # fmt: skip
        out(box, "cat", "/etc/hostname")
    data = (box.root / "etc/hostname").read_bytes()
    assert results == [(data, len(data)), (b"", 0)]
    with box.hook("getppid", after=lambda call, result: 4321):
        assert python(box, "import os; print(os.getppid())") == "4321\n"


def test_a_generator_stands_around_the_call(box: ring3.Sandbox) -> None:
    def around(call: Any) -> Any:
        call.args["count"] = 4
        result = yield
        assert call.result == result == 4
        call.memory.write(call.args.buf, b"ABCD")
        return 2

    box.write_file("/four", "abcdefgh")
    with box.hook("read", before=around, path="/four"):
        assert python(box, "import os; print(os.read(os.open('/four', 0), 100))") == "b'AB'\n"


def test_hooks_nest_and_the_first_answer_wins(box: ring3.Sandbox) -> None:
    order: list[str] = []

    def outer(call: Any) -> Any:
        order.append("outer")
        result = yield
        order.append(f"outer {result}")

    def answers(call: Any) -> int:
        order.append("answers")
        return 5

    with (
        box.hook("getppid", before=outer),
        box.hook("getppid", before=answers),
        box.hook("getppid", before=print),
    ):
        assert python(box, "import os; print(os.getppid())") == "5\n"
    assert order == ["outer", "answers", "outer 5"]


def test_an_async_hook_waits_while_others_go_on(box: ring3.Sandbox) -> None:
    async def slowly(call: Any) -> int:
        await call.sleep(0.3)
        word = await call.in_thread(lambda: "done")
        assert word == "done"
        result = await call.proceed()
        return int(result)

    with box.hook("mkdir", before=slowly):
        with box.popen(["mkdir", "/slow"]) as slow:
            started = time.monotonic()
            assert out(box, "echo", "quick") == "quick\n"
            assert slow.wait(timeout=20) == 0
            assert time.monotonic() - started < 15
    assert box.is_dir("/slow")


def test_a_guests_signal_interrupts_a_waiting_hook(box: ring3.Sandbox) -> None:
    async def forever(call: Any) -> None:
        await call.sleep(3600)

    code = """
import os, signal, time
signal.signal(signal.SIGALRM, lambda *a: 1/0)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try: os.rmdir('/never')
except ZeroDivisionError: print('interrupted')
"""
    with box.hook("rmdir", before=forever):
        assert python(box, code) == "interrupted\n"


def test_a_guest_is_killed_while_its_hook_waits(box: ring3.Sandbox, log: list[str]) -> None:
    reached = threading.Event()
    ended = threading.Event()

    async def forever(call: Any) -> None:
        reached.set()
        try:
            await call.sleep(3600)
        finally:
            ended.set()

    with box.hook("rmdir", before=forever):
        with box.popen(["rmdir", "/x"]) as guest:
            assert reached.wait(20)
            guest.send_signal(signal.SIGKILL)
            assert guest.wait(timeout=20) == -signal.SIGKILL
        assert ended.wait(20)
    assert not log


# -- numbers that are nobody's


def test_custom_numbers_get_a_meaning(box: ring3.Sandbox) -> None:
    code = """
import ctypes
syscall = ctypes.CDLL(None, use_errno=True).syscall
print(syscall(500, 6), syscall(10001, 7), syscall(10002, 7), ctypes.get_errno())
"""
    with box.hook(500, "10_001", before=lambda call: call.args[0] * (10 if call.nr == 500 else 100)):
        assert python(box, code) == "60 700 -1 38\n"
    assert python(box, code) == "-1 -1 -1 38\n"


# -- filters


def test_filters_choose(box: ring3.Sandbox) -> None:
    seen: list[str] = []

    def note(call: Any) -> None:
        seen.append(f"{os.path.basename(call.program)} {call.args.pathname}")

    with box.hook("openat", before=note, path=["/etc/host*", "!/etc/hosts"]):
        out(box, "cat", "/etc/hostname", "/etc/hosts", "/etc/passwd")
    assert seen == ["cat /etc/hostname"]
    seen.clear()
    with box.hook("openat", before=note, program="!cat", path="/etc/hostname"):
        out(box, "sh", "-c", "cat /etc/hostname; head -n1 /etc/hostname")
    assert seen == ["head /etc/hostname"]
    seen.clear()
    with box.hook("openat", before=note, pid=1):
        out(box, "cat", "/etc/hostname")
    assert seen == []
    kinds: list[str] = []
    with box.hook("write", before=lambda call: kinds.extend(call.fd_kinds), fd=("pipe", "file")):
        box.run(["sh", "-c", "echo a; echo b >/tmp/file; echo c >/dev/null"], stdout=ring3.PIPE, timeout=30)
    assert kinds == ["pipe", "file"]


def test_relative_paths_are_matched_by_their_absolute_name(box: ring3.Sandbox) -> None:
    seen: list[list[str]] = []
    with box.hook("%file", before=lambda call: seen.append(call.paths), path="/etc/hostname"):
        box.run(["sh", "-c", "cd /usr; test -e ../etc/./hostname"], timeout=30)
    assert seen == [["/etc/hostname"]]


def test_block_and_allow_lists(box: ring3.Sandbox) -> None:
    with box.block("mkdir", "%network", errno="EACCES"):
        assert "Permission denied" in out(box, "mkdir", "/x")
        assert "13" in python(box, "import socket\ntry: socket.socket()\nexcept OSError as e: print(e.errno)")
    with box.allow("!mkdir"):
        assert "Operation not permitted" in out(box, "mkdir", "/x")
    out(box, "mkdir", "/x")
    assert box.is_dir("/x")


# -- errors of the hook's own


def test_a_failing_hook_fails_its_call_alone(box: ring3.Sandbox, log: list[str]) -> None:
    def broken(call: Any) -> None:
        raise RuntimeError("the hook's own mistake")

    with box.hook("mkdir", before=broken):
        assert "Input/output error" in out(box, "mkdir", "/x")
    assert (
        len(log) == 1
        and "the hook's own mistake" in log[0]
        and "Traceback" in log[0]
        and "in broken" in log[0]
    )
    with box.hook("mkdir", before=broken, on_error="ENOMEM"):
        assert "Cannot allocate memory" in out(box, "mkdir", "/x")
    with box.hook("mkdir", before=broken, on_error="pass"):
        assert out(box, "mkdir", "/x") == ""
    with box.hook("mkdir", before=lambda call: "words"):
        assert "Input/output error" in out(box, "mkdir", "/y")
    assert len(log) == 4 and out(box, "echo", "well") == "well\n"


def test_a_hook_cannot_wait_for_its_own_sandbox(box: ring3.Sandbox, log: list[str]) -> None:
    with box.hook("mkdir", before=lambda call: box.run(["true"])):
        assert "Input/output error" in out(box, "mkdir", "/x")
    assert "cannot start a program" in log[0]


# -- calls that do not return, or return twice


def test_calls_that_never_return_and_those_that_return_twice(box: ring3.Sandbox, log: list[str]) -> None:
    after: list[tuple[str, int]] = []
    with box.hook(
        "*", before=lambda call: None, after=lambda call, result: after.append((call.name, result))
    ):
        code = """
import os, signal, subprocess, threading
signal.signal(signal.SIGUSR1, lambda *a: print('handled', flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
pid = os.fork()
if pid == 0: os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
t = threading.Thread(target=lambda: None); t.start(); t.join()
subprocess.run(['/bin/echo', 'child'])
"""
        assert python(box, code) == "handled\n3\nchild\n"
    names = {name for name, _ in after}
    assert not names & {"exit", "exit_group", "rt_sigreturn"}
    assert ("execve", 0) in after  # of the child's, which nobody gets
    assert all(result > 0 for name, result in after if name in ("clone", "fork", "vfork", "clone3"))
    assert not log


def test_a_generator_of_a_call_that_never_returns_is_closed(box: ring3.Sandbox, log: list[str]) -> None:
    closed = threading.Event()

    def around(call: Any) -> Any:
        try:
            yield
        finally:
            closed.set()

    with box.hook("pause", before=around):
        with box.popen(["python3", "-c", "import signal; signal.pause()"]) as guest:
            time_limit = time.monotonic() + 20
            while not box._kernel.hooks._flights and time.monotonic() < time_limit:
                time.sleep(0.01)
            guest.kill()
            guest.wait(timeout=20)
        assert closed.wait(20)
    assert not log


# -- coming and going


def test_hooks_come_and_go_while_guests_run(box: ring3.Sandbox) -> None:
    counted: list[int] = []
    with box.popen(
        ["sh", "-c", "while read x; do umask; done"], stdin=ring3.PIPE, stdout=ring3.PIPE, text=True
    ) as sh:

        def ask() -> str:
            sh.stdin.write("go\n")
            sh.stdin.flush()
            return str(sh.stdout.readline())

        plain = ask()
        hook = box.hook("umask", before=lambda call: counted.append(1) or 0o777)
        assert ask() == "0777\n" and counted
        hook.remove()
        hook.remove()
        number = len(counted)
        assert ask() == plain and len(counted) == number
        sh.stdin.close()


def test_nothing_of_this_is_imported_at_start() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import ring3\nwith ring3.Sandbox() as box: box.run(['true'])\n"
        "print([m for m in sys.modules if m.startswith(('ring3.kernel.hooks', 'ring3.kernel.trace'))])"
    )
    path = os.path.dirname(os.path.dirname(os.path.abspath(ring3.__file__)))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[]\n", done.stderr
