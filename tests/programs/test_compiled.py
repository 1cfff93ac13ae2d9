"""Static and dynamic musl binaries, a static Go binary, the first system call."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from guestbuild import Builder
from harness import BASE_ENV, assert_ok, run_native, run_ring3
from twin import Twin

HELLO = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv) {
    FILE *f = fopen("made", "w");
    fprintf(f, "%d\n", argc);
    fclose(f);
    struct stat st;
    stat("made", &st);
    printf("%s %d %ld\n", argv[argc - 1], argc, (long)st.st_size);
    char cwd[4096];
    puts(strrchr(getcwd(cwd, sizeof cwd), '/'));
    fflush(stdout);
    return system("exit 6") >> 8;
}
"""


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="musl-gcc is not installed (musl-tools)")
@pytest.mark.parametrize("variant", ["musl", "musl-static", "static", "static-pie", "no-pie", "dynamic"])
def test_hello(twin: Twin, guests: Builder, session_dir: Path, variant: str) -> None:
    source = session_dir / "hello.c"
    source.write_text(HELLO)
    program = session_dir / f"hello-{variant}"
    guests.compile(source, program, variant)
    twin.both([program, "an", "argument"], status=6)


@pytest.fixture(scope="module")
def go_program(session_dir: Path) -> Path:
    """The Go program, built once."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed (golang-go)")
    target = session_dir / "go_program"
    env = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(session_dir / "gocache"),
        "GOPATH": str(session_dir / "gopath"),
        "GOTOOLCHAIN": "local",
        "GO111MODULE": "off",
        "GOTELEMETRY": "off",
        "HOME": str(session_dir),
    }
    source = Path(__file__).with_name("go_program.go")
    subprocess.run(["go", "build", "-o", str(target), str(source)], env=env, check=True, timeout=280)
    return target


@pytest.mark.timeout(300)
def test_static_go(twin: Twin, go_program: Path) -> None:
    result = twin.both([go_program])
    assert result.out.endswith(b"ok\n")


def test_first_call_is_answered_by_us(guests: Builder, workdir: Path) -> None:
    """`_start` makes one raw uname(2): natively the host's name, under ring3 the one we chose."""
    program = guests.path("first_call", "bare")
    native = run_native([program], cwd=workdir)
    assert_ok(native)
    assert native.out == f"ok {os.uname().nodename}\n".encode()
    guest = run_ring3([program], "--hostname", "named-by-us", cwd=workdir)
    assert_ok(guest)
    assert guest.out == b"ok named-by-us\n"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (strace)")
def test_trace_shows_every_call_of_the_loader(workdir: Path) -> None:
    """The calls of /bin/true, from ld.so's first on, by name, as strace sees them natively."""
    native_file, guest_file = workdir / "native", workdir / "guest"
    native = run_native(["strace", "-o", native_file, "/bin/true"], cwd=workdir)
    if native.status != 0:
        pytest.skip(f"strace does not work here: {native.err.decode()}")
    guest = run_ring3(["/bin/true"], "--trace-file", str(guest_file), cwd=workdir, env=BASE_ENV)
    assert_ok(guest)
    want, got = call_names(native_file.read_text()), call_names(guest_file.read_text())
    assert want[:2] == ["execve", "brk"]
    # the first execve is that of strace's own child, which is no call of the program's
    assert [c for c in got if c != "execve"] == want[1:], guest_file.read_text()


def call_names(trace: str) -> list[str]:
    """The system calls' names in a trace, strace's or ours: the word before the first parenthesis.

    ld.so's first heap page is left out: it is taken earlier where there is a vDSO to be described.
    """
    names = []
    for line in trace.splitlines():
        head, paren, rest = line.partition("(")
        if paren and head.split() and not rest.startswith("NULL, 8192, "):
            names.append(head.split()[-1])
    return names
