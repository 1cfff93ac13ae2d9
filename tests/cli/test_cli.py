"""`ring3 run` and `ring3 doctor` as a user at a shell meets them: options, exit statuses, sentences.

Layer: tests. Touches temporary directories and processes of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import hostfacts
import pytest
from harness import (
    BASE_ENV,
    NOBODY,
    REPO,
    Result,
    assert_clean,
    assert_ok,
    assert_same,
    host_listing,
    ring3_argv,
    run,
    run_native,
    run_ring3,
)

RING3 = ring3_argv([])[: ring3_argv([]).index("run")]


def ring3(*arguments: str, **kw: object) -> Result:
    """`ring3 ARGUMENTS`."""
    return run([*RING3, *arguments], **kw)  # type: ignore[arg-type]


def sentence(result: Result, status: int) -> str:
    """The one line that a failure prints."""
    assert_clean(result)
    assert result.status == status, result.describe()
    text = result.err.decode()
    assert text.startswith("ring3: ") and text.count("\n") == 1 and "Traceback" not in text, result.describe()
    return text


@pytest.mark.parametrize("status", [0, 1, 2, 125, 126, 127, 130, 255])
def test_the_exit_status_is_the_program_s(status: int) -> None:
    assert ring3("run", "sh", "-c", f"exit {status}").status == status


@pytest.mark.parametrize(
    "sig", [signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]
)
def test_a_signal_gives_128_and_its_number(sig: int) -> None:
    assert ring3("run", "sh", "-c", f"kill -{int(sig)} $$").status == 128 + sig


def test_failures_are_one_sentence_and_a_status(workdir: Path) -> None:
    plain = workdir / "plain"
    plain.write_text("#!/bin/sh\n")
    broken = workdir / "broken"
    broken.write_text("\x7fELF")
    lost = workdir / "lost"
    lost.write_text("#!/no/such/interpreter\n")
    for path in (broken, lost):
        path.chmod(0o755)
    cases = [
        (["no-such-program"], 127, "not found in the guest's PATH"),
        (["/no/such/program"], 127, "no such file"),
        ([str(lost)], 127, "interpreter"),
        (["/etc"], 126, "directory"),
        ([str(plain)], 126, "Permission denied"),
        ([str(broken)], 126, "Exec format error"),
        (["/etc/passwd/x"], 126, "Not a directory"),
        (["-w", "/no/such/dir", "true"], 125, "working directory"),
        (["-w", "/etc/passwd", "true"], 125, "is not a directory"),
        (["-w", "", "true"], 125, "working directory"),
        (["--hostname", "a" * 65, "true"], 125, "longer than 64"),
        (["--memory", str(1 << 64), "true"], 125, "--memory"),
        (["--tmpfs", "/x:size=banana", "true"], 125, "'banana' is no size"),
        (["--tmpfs", "/x:mode=999", "true"], 125, "octal"),
        (["--image", "", "true"], 125, "empty name"),
        (["-r", "/dev/null", "true"], 125, "/dev/null: not a directory"),
        (["--trace-file", "/dev/full", "true"], 0, "No space left"),
        (["-Z", "true"], 125, "-Z"),
        (["--volum", "true"], 125, "--volum"),
        ([], 125, "no program"),
        (["--"], 125, "no program"),
        (["-r", "/no/such/dir", "true"], 125, "/no/such/dir"),
        (["-v", "/no/such/dir:/x", "true"], 125, "/no/such/dir"),
        (["-v", "/tmp", "true"], 125, "HOST:GUEST"),
        (["-v", "/tmp:/x:rx", "true"], 125, "'rx'"),
        (["-v", "/tmp:x", "true"], 125, "not absolute"),
        (["--tmpfs", "x", "true"], 125, "not an absolute path"),
        (["--tmpfs", "/etc/passwd/x", "true"], 125, "/etc/passwd/x"),
        (["-u", "nobody-of-that-name", "true"], 125, "nobody-of-that-name"),
        (["-u", "1:no-such-group", "true"], 125, "no-such-group"),
        (["-u", "-1", "true"], 125, ""),
        (["-u", "4294967295", "true"], 125, "4294967295"),
        (["-e", "=x", "true"], 125, "=x"),
        (["--trace-file", "/no/such/dir/trace", "true"], 125, "/no/such/dir/trace"),
    ]
    for arguments, status, words in cases:
        said = sentence(ring3("run", *arguments), status)
        assert words in said, (arguments, said)
    assert "frobnicate" in sentence(ring3("frobnicate"), 125)


def test_an_ordinary_user_s_failures_are_sentences_too(workdir: Path) -> None:
    secret = workdir / "secret"
    secret.mkdir(mode=0o700)
    (secret / "program").write_text("#!/bin/sh\n")
    (secret / "program").chmod(0o755)
    if reason := hostfacts.not_root():
        pytest.skip(f"becomes an ordinary user who may not read a directory: {reason}")
    env = {
        **BASE_ENV,
        "XDG_CACHE_HOME": str(workdir),
        "PYTHONPATH": os.pathsep.join([str(REPO), sysconfig.get_path("purelib")]),
    }
    python = interpreter_of(NOBODY, env)
    said = sentence(
        run([python, "-m", "ring3", "run", str(secret / "program")], uid=NOBODY, env=env, cwd=workdir), 126
    )
    assert "Permission denied" in said
    done = run([python, "-m", "ring3", "run", "-r", "/", "id", "-u"], uid=NOBODY, env=env, cwd=workdir)
    assert_ok(done)
    assert done.out == b"%d\n" % NOBODY


def interpreter_of(uid: int, env: dict[str, str]) -> str:
    """A Python that this user may run ring3 with."""
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            if run([python, "-c", "import ring3.kernel.sandbox"], uid=uid, env=env, cwd="/").status == 0:
                return python
    pytest.skip(f"no Python here that user {uid} may execute and that has cffi")


def test_without_sud_one_sentence_says_so() -> None:
    """A seccomp filter stands in for a kernel before 5.11: prctl(59) is EINVAL."""
    program = textwrap.dedent(
        """
        import ctypes, os, struct, sys
        def op(code, jt, jf, k): return struct.pack("<HBBI", code, jt, jf, k)
        program = b"".join([op(0x20, 0, 0, 0), op(0x15, 0, 3, 157), op(0x20, 0, 0, 16), op(0x15, 0, 1, 59),
                            op(6, 0, 0, 0x50016), op(6, 0, 0, 0x7FFF0000)])
        code = ctypes.create_string_buffer(program)
        header = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
        filter = ctypes.create_string_buffer(header)
        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.addressof(filter), 0, 0): sys.exit(77)
        os.execv(sys.argv[1], sys.argv[1:])
        """
    )
    result = run([sys.executable, "-c", program, *RING3, "run", "true"])
    if result.status == 77:
        pytest.skip("seccomp filters cannot be installed here")
    assert "Syscall User Dispatch" in sentence(result, 125)
    doctor = run([sys.executable, "-c", program, *RING3, "doctor"])
    assert doctor.status == 1 and b"cannot run here" in doctor.out and not doctor.err, doctor.describe()


def test_doctor_says_that_it_runs_here() -> None:
    result = ring3("doctor")
    assert_ok(result)
    for word in (
        b"syscall user dispatch",
        b"user namespaces",
        b"page zero",
        b"memfd",
        b"seccomp",
        b"can run here",
    ):
        assert word in result.out
    assert b"fail" not in result.out


def test_version_and_help() -> None:
    from ring3 import __version__

    assert ring3("--version").out.decode() == f"ring3 {__version__}\n"
    help_text = ring3("run", "--help")
    assert help_text.status == 0
    for option in (
        b"--root",
        b"--volume",
        b"--tmpfs",
        b"--env",
        b"--workdir",
        b"--user",
        b"--tty",
        b"--trace",
    ):
        assert option in help_text.out
    assert sentence_count(ring3()) > 3


def sentence_count(result: Result) -> int:
    assert result.status == 125
    return result.err.count(b"\n")


def test_options_end_at_the_program() -> None:
    assert (
        ring3("run", "echo", "-e", "x", "--", "-v").out
        == run_native(["/bin/echo", "-e", "x", "--", "-v"]).out
    )
    assert ring3("run", "--", "echo", "--", "-r").out == b"-- -r\n"


def test_the_environment_and_the_directory_are_the_caller_s(workdir: Path) -> None:
    env = {**BASE_ENV, "ODD": "a=b\nc", "EMPTY": ""}
    command = ["sh", "-c", 'pwd; env | sort; printf %s "$ODD"']
    native = run_native(command, env=env, cwd=workdir)
    assert_same(native, run_ring3(command, env=env, cwd=workdir))


def test_e_and_w() -> None:
    out = ring3(
        "run", "-e", "A=1=2", "-e", "HOME", "-e", "NOT_SET", "-w", "/usr", "sh", "-c", "pwd; env | sort"
    ).out
    lines = out.decode().splitlines()
    assert lines[0] == "/usr" and "A=1=2" in lines and f"HOME={BASE_ENV['HOME']}" in lines
    assert not [x for x in lines if x.startswith("NOT_SET")]


def test_volumes_in_all_modes(workdir: Path) -> None:
    for mode in ("ro", "rw", "cow"):
        (workdir / mode).mkdir()
        (workdir / mode / "there").write_text(mode)
    single = workdir / "single"
    single.write_text("one file\n")
    script = "for m in ro rw cow; do cat /m/$m/there; echo new > /m/$m/new; ls /m/$m; done 2>&1; cat /m/one"
    options = [x for m in ("ro", "rw", "cow") for x in ("-v", f"{workdir / m}:/m/{m}:{m}")]
    result = ring3("run", *options, "-v", f"{single}:/m/one:ro", "sh", "-c", script)
    assert_ok(result)
    out = result.out.decode()
    assert "Read-only file system" in out and out.endswith("one file\n")
    assert out.count("new\n") == 2
    assert not (workdir / "ro" / "new").exists() and not (workdir / "cow" / "new").exists()
    assert (workdir / "rw" / "new").read_text() == "new\n"
    assert not Path("/m").exists()


def test_the_default_mode_of_a_volume_is_docker_s(workdir: Path) -> None:
    assert_ok(ring3("run", "-v", f"{workdir}:/data", "sh", "-c", "echo written > /data/file"))
    assert (workdir / "file").read_text() == "written\n"


def test_a_relative_volume_is_relative_to_the_caller(workdir: Path) -> None:
    (workdir / "sub").mkdir()
    (workdir / "sub" / "f").write_text("found\n")
    assert ring3("run", "-v", "sub:/s:ro", "cat", "/s/f", cwd=workdir).out == b"found\n"


def test_tmpfs_is_empty_and_everybody_s(workdir: Path) -> None:
    (workdir / "hidden").write_text("")
    result = ring3(
        "run", "-u", "1234:5678", "--tmpfs", str(workdir), "sh", "-c", f"cd {workdir}; ls; echo > f; ls"
    )
    assert_ok(result)
    assert result.out == b"f\n"
    assert os.listdir(workdir) == ["hidden"]


def test_a_root_of_one_s_own(workdir: Path, guests: object) -> None:
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("needs busybox-static")
    (workdir / "bin").mkdir()
    (workdir / "bin" / "sh").write_bytes(busybox.read_bytes())
    (workdir / "bin" / "sh").chmod(0o755)
    before = host_listing(workdir)
    result = ring3("run", "-r", str(workdir), "/bin/sh", "-c", "echo /*; echo > /made; pwd; echo $PATH")
    assert_ok(result)
    lines = result.out.decode().splitlines()
    assert lines[0].split() == ["/bin", "/dev", "/proc", "/sys"] and lines[1] == "/"
    assert host_listing(workdir) == before


def test_users() -> None:
    assert ring3("run", "-u", "1234:5678", "id", "-u").out == b"1234\n"
    assert ring3("run", "-u", "1234:5678", "id", "-g").out == b"5678\n"
    assert ring3("run", "-u", "nobody", "id", "-un").out == b"nobody\n"
    assert ring3("run", "-u", "nobody", "id", "-g").out == run_native(["id", "-g", "nobody"]).out
    assert ring3("run", "-u", "0", "id", "-u").out == b"0\n"
    me = run_native(["id"])
    assert ring3("run", "id").out == me.out


def test_an_ordinary_guest_may_not_write_root_s_files() -> None:
    result = ring3("run", "-u", "1234", "sh", "-c", "echo x >> /etc/passwd")
    assert result.status != 0 and b"Permission denied" in result.err


def test_hostname() -> None:
    assert ring3("run", "--hostname", "elsewhere", "uname", "-n").out == b"elsewhere\n"
    assert ring3("run", "uname", "-n").out == run_native(["uname", "-n"]).out


def test_standard_streams_are_the_caller_s(workdir: Path) -> None:
    data = os.urandom(300_000)
    assert run_ring3(["cat"], input=data).out == data
    target = workdir / "out"
    command = shlex.join(ring3_argv(["sh", "-c", "cat; echo err >&2"]))
    done = subprocess.run(
        f"{command} < /etc/passwd >> {target} 2>&1", shell=True, env=dict(BASE_ENV), timeout=60, check=False
    )
    assert done.returncode == 0
    assert target.read_bytes() == Path("/etc/passwd").read_bytes() + b"err\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_hurt_nobody(closed: str) -> None:
    command = shlex.join(ring3_argv(["true"]))
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], env=dict(BASE_ENV), timeout=60, check=False)
    assert done.returncode == 0


def test_a_reader_that_leaves_ends_the_program() -> None:
    command = shlex.join(ring3_argv(["yes"]))
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -2; echo ${{PIPESTATUS[0]}}"],
        env=dict(BASE_ENV),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == b"y\ny\n141\n" and done.stderr == b""


def test_trace_shows_calls(workdir: Path) -> None:
    result = ring3("run", "--trace", "cat", "/etc/hostname")
    assert result.status == 0
    assert re.search(rb'openat\(AT_FDCWD, "/etc/hostname", O_RDONLY\) += \d+', result.err), result.describe()
    trace = workdir / "trace"
    assert_ok(ring3("run", "--trace-file", str(trace), "true"))
    assert "exit_group(0)" in trace.read_text()


def test_too_few_descriptors_are_one_sentence() -> None:
    command = shlex.join(ring3_argv(["true"]))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -n 60; exec {command}"],
        env=dict(BASE_ENV),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 125
    assert done.stderr.startswith(b"ring3: at most 60 descriptors") and done.stderr.count(b"\n") == 1


def test_without_a_cache_nothing_is_left(workdir: Path) -> None:
    env = {**BASE_ENV, "HOME": "/proc/no-home", "TMPDIR": str(workdir)}
    env.pop("XDG_CACHE_HOME", None)
    done = subprocess.run(
        [*ring3_argv(["echo", "hi"])], env=env, capture_output=True, timeout=100, check=False, cwd=workdir
    )
    assert done.stdout == b"hi\n", done.stderr
    assert os.listdir(workdir) == []


def test_the_network_options() -> None:
    assert "not [ADDRESS:]HOST:GUEST" in sentence(ring3("run", "-p", "80", "--", "true"), 125)
    assert "there are virtual, none, host" in sentence(ring3("run", "--net", "bridge", "--", "true"), 125)
    assert "is no port" in sentence(ring3("run", "--net", "allow=a:b", "--", "true"), 125)
    assert "port 80 of the sandbox is 127.0.0.1:" in sentence(ring3("run", "-p", "0:80", "--", "true"), 0)


def test_a_time_limit() -> None:
    """As timeout(1): 124, whatever the program does about it."""
    done = ring3("run", "--timeout", "0.3", "--", "bash", "-c", "trap '' TERM INT; sleep 1000 & sleep 1000; sleep 1000")
    assert (done.status, done.out) == (124, b""), done.describe()
    assert done.err == b"ring3: the program was ended after 0.3 seconds (--timeout)\n" and not done.left
    assert ring3("run", "--timeout", "100", "--", "bash", "-c", "exit 3").status == 3
    for wrong in ("0", "-1", "soon", "nan"):
        assert ring3("run", "--timeout", wrong, "--", "true").status == 125


def test_a_limit_of_processes() -> None:
    code = """if True:
        import os, signal
        children = []
        try:
            while len(children) < 50:
                pid = os.fork()
                if not pid:
                    signal.pause()
                children.append(pid)
        except BlockingIOError as e:
            print(len(children), e.errno)
        os.kill(children.pop(), signal.SIGKILL)
        os.wait()
        if not os.fork():
            os._exit(0)
        print("again")
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        """
    done = ring3("run", "--pids", "4", "--", "python3", "-c", code)
    assert (done.status, done.out) == (0, b"3 11\nagain\n"), done.describe()
    assert done.err == b"ring3: fork: there may be 4 processes (--pids), and there are; EAGAIN\n"
    assert ring3("run", "--pids", "0", "--", "true").status == 125


def test_limit_of_files_in_memory(tmp_path: Path) -> None:
    """--tmpfs-size: of all filesystems together, whether a file is new or copied up; what is removed is free again."""
    (tmp_path / "large").write_bytes(bytes(range(256)) * (5 << 12))  # 5 MiB
    script = """
        fill() { head -c $1 /dev/zero > $2 && echo full; }
        fill 3m /tmp/ring3-a && fill 3m /dev/shm/ring3-b
        echo more >> large; wc -c < large
        fill 6m /tmp/ring3-c; wc -c < /tmp/ring3-c
        rm /tmp/ring3-a /dev/shm/ring3-b /tmp/ring3-c; echo more >> large && tail -c 5 large && fill 2m /tmp/ring3-c
        fill 16k /limited/d; wc -c < /limited/d
        """
    options = ["--tmpfs-size", "8m", "--tmpfs", "/limited:size=8k", "-w", str(tmp_path)]
    done = ring3("run", *options, "--", "bash", "-c", textwrap.dedent(script))
    if done.status == 125 and b"a size limit needs root or user namespaces" in done.err:
        pytest.skip(done.err.decode().strip())
    told = b"full\nfull\n5242880\n2097152\nmore\nfull\n8192\n"
    assert (done.status, done.out) == (0, told), done.describe()
    assert done.err.count(b"No space left on device") == 3, done.describe()
    assert (tmp_path / "large").stat().st_size == 5 << 20
    assert ring3("run", "--tmpfs-size", "much", "--", "true").status == 125


def test_limits_of_each_process() -> None:
    """--memory, --nofile, --cpu-time: nobody can raise them."""
    code = """
        import resource
        try:
            bytearray(200 << 20)
        except MemoryError:
            print("no memory")
        for which in resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU:
            limits = resource.getrlimit(which)
            try:
                resource.setrlimit(which, (limits[0], resource.RLIM_INFINITY))
            except (ValueError, PermissionError):
                print(*limits)
        """
    limits = ["--memory", "100m", "--nofile", "40", "--cpu-time", "30"]
    done = ring3("run", *limits, "--", "python3", "-c", textwrap.dedent(code))
    assert (done.status, done.out) == (0, b"no memory\n104857600 104857600\n40 40\n30 31\n"), done.describe()
    done = ring3("run", "--cpu-time", "1", "--", "sh", "-c", "while :; do :; done")
    assert done.status == 128 + signal.SIGXCPU, done.describe()
    for wrong in ("--memory", "x"), ("--nofile", "0"), ("--cpu-time", "-1"):
        assert ring3("run", *wrong, "--", "true").status == 125


def test_limits_of_all_processes() -> None:
    """--memory and --cpu-time: what processes use together is bounded, too."""
    busy = "for i in 1 2 3 4; do (while :; do :; done) & done; wait; echo over"
    done = ring3("run", "--cpu-time", "1", "--", "sh", "-c", busy)
    assert done.status == 128 + signal.SIGXCPU, done.describe()
    assert b"processor time" in done.err and not done.out, done.describe()
    short = "while :; do (i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done); done"  # none is there for long
    done = ring3("run", "--cpu-time", "1", "--", "sh", "-c", short)
    assert done.status == 128 + signal.SIGXCPU, done.describe()
    holds = "import sys, time; x = b'x' * (int(sys.argv[1]) << 20); time.sleep(3); print(sys.argv[1])"
    three = f"for i in 20 30 150; do python3 -c {shlex.quote(holds)} $i & done; wait; echo over"
    done = ring3("run", "--memory", "180m", "--", "sh", "-c", three)
    assert (done.status, sorted(done.out.split())) == (0, [b"20", b"30", b"over"]), done.describe()
    assert b"was killed" in done.err, done.describe()
