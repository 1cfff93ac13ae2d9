"""`ring3 gdb`: the host's gdb on a guest that it starts, and on one that runs.

Layer: tests of the front door.  Touches gdb, gcc, a work directory.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import BASE_ENV, REPO, assert_ok, ring3_argv, run

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed (apt-get install gdb)")

LIBRARY = """
int doubled(int n)
{
    return n * 2; /* in the library */
}
"""
PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
int doubled(int);
static pthread_barrier_t ready;
static void *worker(void *arg)
{
    pthread_barrier_wait(&ready);
    pause();
    return arg;
}
static int waits(int n)
{
    pthread_t thread;
    pthread_barrier_init(&ready, NULL, 2);
    pthread_create(&thread, NULL, worker, NULL);
    pthread_barrier_wait(&ready);
    printf("waiting %d\n", n);
    fflush(stdout);
    pause();
    return n;
}
int main(int argc, char **argv)
{
    int n = doubled(argc);
    printf("doubled %d\n", n);
    fflush(stdout);
    return argc > 1 ? waits(n) : 0;
}
"""


@pytest.fixture
def program(workdir: Path) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (workdir / "lib.c").write_text(LIBRARY)
    (workdir / "program.c").write_text(PROGRAM)
    for words in (
        ["-shared", "-fpic", "-o", "libdouble.so", "lib.c"],
        ["-o", "program", "program.c", "-pthread", "-L.", "-ldouble", f"-Wl,-rpath,{workdir}"],
    ):
        subprocess.run(["gcc", "-g", "-O0", *words], cwd=workdir, check=True, timeout=60)
    return workdir / "program"


def launcher() -> list[str]:
    words = ring3_argv([])
    return words[: words.index("run")]


def gdb(*words: str, cwd: Path) -> str:
    result = run([*launcher(), "gdb", "--batch", *words], cwd=cwd, timeout=100)
    assert_ok(result)
    return result.out.decode()


def commands(*lines: str) -> list[str]:
    return [word for line in lines for word in ("-x", line)]


@pytest.mark.parametrize("rewrite", ["detour", "off"])
def test_a_program_from_its_start_to_its_end(program: Path, rewrite: str) -> None:
    text = gdb(
        *commands("break main", "break doubled", "continue", "info sharedlibrary", "continue", "bt", "print n",
                  "break write", "continue", "bt", "finish", "delete", "continue"),
        f"--rewrite={rewrite}", "--", str(program), cwd=program.parent,
    )  # fmt: skip
    assert "SIGSYS" not in text and "SIGSTOP" not in text
    assert re.search(r"Breakpoint \d, main \(argc=1, argv=0x\w+\) at .*program.c:\d+", text)
    assert re.search(r"Yes +.*/libdouble.so$", text, re.M) and re.search(r"Yes .*/libc.so.6$", text, re.M)
    assert re.search(r"Breakpoint \d, doubled \(n=1\) at .*lib.c:4", text)
    assert re.search(r"#1  0x\w+ in main \(argc=1, .*program.c", text) and "$1 = 1" in text
    assert re.search(r"Breakpoint \d, .*write \(", text)
    assert "doubled 2\n" in text and "exited normally" in text


def test_the_first_instruction_of_all(program: Path) -> None:
    text = gdb(*commands("x/i $pc", "info sharedlibrary"), "--starti", "--", str(program), cwd=program.parent)
    assert "ld-linux" in text and "libdouble" not in text


def test_an_exec_is_followed(program: Path) -> None:
    text = gdb(
        *commands("set breakpoint pending on", "break doubled", "continue", "continue", "bt", "continue"),
        "--", "/bin/sh", "-c", f"exec {program}", cwd=program.parent,
    )  # fmt: skip
    assert f"ring3: {program} is about to start" in text
    assert re.search(r"Breakpoint \d, doubled \(n=1\) at .*lib.c:4", text)
    assert re.search(r"#1  0x\w+ in main \(argc=1, ", text) and "exited normally" in text


@pytest.fixture(params=["detour", "off"])
def waiting(request: pytest.FixtureRequest, program: Path) -> Iterator[tuple[int, Path]]:
    """A guest whose two threads sleep: its pid, found as a user finds it."""
    words = ring3_argv([program, "x"], f"--rewrite={request.param}")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=BASE_ENV) as ring3:
        try:
            assert ring3.stdout is not None
            assert [ring3.stdout.readline() for _ in range(2)] == [b"doubled 4\n", b"waiting 4\n"]
            found = subprocess.run(["pgrep", "-x", "-f", f"{program} x"], capture_output=True, text=True)
            assert found.stdout.count("\n") == 1, found
            yield int(found.stdout), program
        finally:
            ring3.kill()


def test_a_running_guest(waiting: tuple[int, Path]) -> None:
    pid, program = waiting
    text = gdb(*commands("bt", "info threads", "thread apply all bt", "up 2", "info locals",
                         "info sharedlibrary"), str(pid), cwd=program.parent)  # fmt: skip
    assert len(re.findall(r"^[* ] +\d+ +Thread 0x\w+ \(LWP \d+\)", text, re.M)) == 2
    assert re.search(r"^#0 .*\[ring3's core\] \(\)$", text, re.M)
    assert re.search(r"^#\d+ .* in waits \(n=4\)", text, re.M) and re.search(r"^#\d+ .* in main \(argc=2", text, re.M)
    assert re.search(r"^#\d+ .* in worker \(arg=0x0\)", text, re.M)
    assert re.search(r"Yes +.*/libdouble.so$", text, re.M)
    assert "warning: " not in text
    text = gdb("--core", *commands("bt"), str(pid), cwd=program.parent)
    assert re.search(r"^#0  safe_insn \(\) at .*entry.S:\d+$", text, re.M)
    assert re.search(r"^#\d+ .* in waits \(n=4\)", text, re.M)


def test_mistakes_are_one_sentence(workdir: Path) -> None:
    for words, says in (
        ([], "no process and no program"),
        ([str(os.getpid())], "is not a guest of ring3"),
        (["--", "/no/such/program"], "cannot run '/no/such/program'"),
        (["--gdb", "no-such-gdb", "1"], "no-such-gdb is not installed"),
    ):
        result = run([*launcher(), "gdb", *words], cwd=workdir)
        assert result.status in (125, 127) and result.err.count(b"\n") == 1 and says in result.err.decode()


def test_the_script_is_python_that_gdb_can_read() -> None:
    """It may import nothing of ours: gdb has a Python of its own."""
    text = (REPO / "ring3" / "gdb_guest.py").read_text()
    compile(text, "gdb_guest.py", "exec")
    assert not re.search(r"^from \.|^import ring3", text, re.M) and sys.version_info >= (3, 11)
