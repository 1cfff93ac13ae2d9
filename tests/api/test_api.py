"""The Python API: ring3.run, Sandbox, Popen, and the tree.

Layer: tests. Touches guests of its own; every test checks at its end that nothing of them is left.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import fd_snapshot, host_listing, my_children

import ring3


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    ring3.run(["true"])  # what is opened once and kept (caches) is open now
    gc.collect()
    processes, descriptors, threads = my_children(), fd_snapshot(), threading.active_count()
    yield
    gc.collect()
    assert my_children() == processes
    assert threading.active_count() == threads
    left = {fd: what for fd, what in fd_snapshot().items() if descriptors.get(fd) != what}
    # rewritten text belongs to the Python process, not to a sandbox: one memfd a file (loader/site_cache.py)
    left = {fd: what for fd, what in left.items() if not what.startswith("/memfd:ring3-text")}
    assert not left


def out(*args: str, **kw: object) -> str:
    """The output of a program in a world of its own."""
    result: str = ring3.run(args, capture_output=True, text=True, check=True, **kw).stdout  # type: ignore[arg-type]
    return result


def test_run_is_shaped_like_subprocess_run() -> None:
    command = ["sh", "-c", "cat; echo err >&2; exit 3"]
    native = subprocess.run(command, input="in", capture_output=True, text=True)
    guest = ring3.run(command, input="in", capture_output=True, text=True)
    assert isinstance(guest, subprocess.CompletedProcess)
    assert (guest.args, guest.returncode, guest.stdout, guest.stderr) == (
        native.args,
        native.returncode,
        native.stdout,
        native.stderr,
    )
    assert ring3.run(["sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL
    assert ring3.run(["true"]).stdout is None


def test_bytes_text_and_encodings() -> None:
    data = bytes(range(256)) * 5000
    assert ring3.run(["cat"], input=data, capture_output=True).stdout == data
    assert ring3.run(["cat"], input="é", capture_output=True, encoding="latin-1").stdout == "é"
    assert (
        ring3.run(["printf", r"a\r\nb\377"], capture_output=True, text=True, errors="replace").stdout
        == "a\nb�"
    )


def test_streams_go_where_they_are_told(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as f:
        ring3.run(["sh", "-c", "echo a; echo b >&2"], stdout=f, stderr=ring3.STDOUT)
    assert (tmp_path / "out").read_text() == "a\nb\n"
    with open("/etc/passwd", "rb") as f:
        assert ring3.run(["cat"], stdin=f, stdout=ring3.PIPE).stdout == Path("/etc/passwd").read_bytes()
    assert ring3.run(["cat"], stdin=ring3.DEVNULL, stdout=ring3.PIPE).stdout == b""


def test_files_are_there_and_never_on_the_host() -> None:
    files: dict[str, bytes | str] = {"/no-such/dir/a.txt": "text\n", "/etc/ring3-test": b"\0bytes"}
    assert out("cat", "/no-such/dir/a.txt", files=files) == "text\n"
    assert out("stat", "-c", "%u %a %s", "/etc/ring3-test", files=files) == f"{os.getuid()} 644 6\n"
    assert out("stat", "-c", "%u", "/etc/ring3-test", files=files, user=1234) == "1234\n"
    assert not Path("/no-such").exists() and not Path("/etc/ring3-test").exists()


def test_a_file_of_the_host_is_replaced_in_the_world_only() -> None:
    before = Path("/etc/hostname").read_bytes()
    assert out("cat", "/etc/hostname", files={"/etc/hostname": "replaced\n"}) == "replaced\n"
    assert Path("/etc/hostname").read_bytes() == before


def test_cwd_env_and_user(tmp_path: Path) -> None:
    assert out("pwd") == f"{os.getcwd()}\n"
    assert out("pwd", cwd="/usr") == "/usr\n"
    assert out("env", env={"ONLY": "this"}) == "ONLY=this\n"
    assert out("id", "-u", user=77) == "77\n"
    assert out("id", "-g", user=(77, 78)) == "78\n"
    assert out("id", "-un", user="nobody") == "nobody\n"


def test_a_timeout_kills_the_guest_and_keeps_what_it_said() -> None:
    began = time.monotonic()
    with pytest.raises(ring3.TimeoutExpired) as caught:
        ring3.run(["sh", "-c", "echo said; sleep 60"], capture_output=True, timeout=0.5)
    assert time.monotonic() - began < 20
    assert caught.value.stdout == b"said\n" and caught.value.timeout == 0.5
    assert isinstance(caught.value, (subprocess.TimeoutExpired, ring3.Ring3Error))


def test_a_timeout_with_a_descendant_that_holds_the_pipe() -> None:
    with pytest.raises(ring3.TimeoutExpired):
        ring3.run(["sh", "-c", "setsid sleep 60 & exec sleep 60"], capture_output=True, timeout=0.5)


def test_check() -> None:
    with pytest.raises(ring3.CalledProcessError) as caught:
        ring3.run(["sh", "-c", "echo said; exit 9"], check=True, capture_output=True, text=True)
    assert isinstance(caught.value, subprocess.CalledProcessError) and isinstance(
        caught.value, ring3.Ring3Error
    )
    assert (caught.value.returncode, caught.value.stdout) == (9, "said\n")
    assert "exit status 9" in str(caught.value)


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("no-such-program", FileNotFoundError),
        ("/no/such/program", FileNotFoundError),
        ("/etc", PermissionError),
        ("/etc/passwd", PermissionError),
    ],
)
def test_programs_that_cannot_start(program: str, kind: type[OSError]) -> None:
    with pytest.raises(ring3.ExecError) as caught:
        ring3.run([program])
    assert isinstance(caught.value, kind) and isinstance(caught.value, ring3.Ring3Error)
    assert caught.value.filename == program


def test_senseless_calls_are_refused() -> None:
    with pytest.raises(ring3.UsageError):
        ring3.run("true")  # type: ignore[arg-type]
    with pytest.raises(ring3.UsageError):
        ring3.run([])
    with pytest.raises(ring3.UsageError):
        ring3.run(["true"], input=b"x", stdin=ring3.PIPE)
    with pytest.raises(ring3.UsageError):
        ring3.run(["true"], capture_output=True, stdout=ring3.PIPE)
    with pytest.raises(ring3.UsageError):
        ring3.run(["true"], user="no-such-user")
    with pytest.raises(ring3.SandboxError):
        ring3.run(["true"], root="/no/such/dir")
    with pytest.raises(ring3.SandboxError):
        ring3.run(["true"], mounts={"/x": "/no/such/dir"})
    with pytest.raises(ring3.SandboxError):
        ring3.run(["true"], mounts={"relative": "/tmp"})
    with pytest.raises(ring3.SandboxError):
        ring3.run(["true"], mounts={"/x": ("/tmp", "rx")})


def test_a_sandbox_keeps_its_world_between_programs(tmp_path: Path) -> None:
    before = host_listing(tmp_path)
    with ring3.Sandbox(cwd=tmp_path) as box:
        box.run(["sh", "-c", "echo one > file"], check=True)
        assert box.run(["cat", "file"], stdout=ring3.PIPE).stdout == b"one\n"
        assert (box.root / str(tmp_path) / "file").read_text() == "one\n"
        (box.root / str(tmp_path) / "from-python").write_text("two\n")
        assert box.run(["cat", "from-python"], stdout=ring3.PIPE).stdout == b"two\n"
        assert sorted(p.name for p in (box.root / str(tmp_path)).iterdir()) == ["file", "from-python"]
    # The tree can be read after the end, the guests cannot go on.
    assert (box.root / str(tmp_path) / "file").read_text() == "one\n"
    with pytest.raises(ring3.SandboxClosed):
        box.run(["true"])
    box.close()
    assert host_listing(tmp_path) == before


def test_an_empty_world_runs_a_static_program() -> None:
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("needs busybox-static")
    with ring3.Sandbox(None) as box:
        (box.root / "bin").mkdir()
        (box.root / "bin/busybox").write_bytes(busybox.read_bytes())
        (box.root / "bin/busybox").chmod(0o755)
        done = box.run(
            ["/bin/busybox", "sh", "-c", "echo /*; echo $HOME; env"], capture_output=True, text=True
        )
        assert done.stdout.splitlines()[:2] == ["/bin /dev /proc /sys", "/"], done
        with pytest.raises(ring3.ProgramNotFound):
            box.run(["ls"])


def test_mounts(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    with ring3.Sandbox(mounts={"/m/cow": str(tmp_path), "/m/ro": (tmp_path, "ro")}) as box:
        box.mount("/m/rw", tmp_path, "rw")
        box.mount_tmpfs("/m/tmp")
        done = box.run(
            ["sh", "-c", "cat /m/*/f; echo 1 > /m/cow/1; echo 2 > /m/ro/2; echo 3 > /m/rw/3; echo > /m/tmp/4"]
        )
        assert done.returncode == 0
        assert (box.root / "m/cow/1").read_text() == "1\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "f"]


def test_popen_talks_while_it_runs() -> None:
    with ring3.Sandbox() as box:
        with box.popen(["cat"], stdin=ring3.PIPE, stdout=ring3.PIPE, text=True) as p:
            assert p.stdin is not None and p.stdout is not None
            p.stdin.write("line\n")
            p.stdin.flush()
            assert p.stdout.readline() == "line\n"
            assert p.poll() is None and p.pid > 0 and p.returncode is None
            p.stdin.close()
            assert p.wait(20) == 0
        p = box.popen(["sleep", "60"])
        with pytest.raises(ring3.TimeoutExpired):
            p.wait(0.05)
        p.terminate()
        assert p.wait(20) == -signal.SIGTERM
        p.terminate()  # after the end: nothing happens
        p = box.popen(
            ["sh", "-c", "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done"], stdout=ring3.PIPE
        )
        assert p.stdout is not None and p.stdout.readline() == b"ready\n"
        p.send_signal(signal.SIGUSR1)
        assert p.communicate(timeout=20) == (b"", None) and p.returncode == 7


def test_communicate_can_be_tried_again_after_a_timeout() -> None:
    with ring3.Sandbox() as box:
        p = box.popen(["sh", "-c", "read x; echo $x; read y; echo $y"], stdin=ring3.PIPE, stdout=ring3.PIPE)
        with pytest.raises(ring3.TimeoutExpired):
            p.communicate(b"1\n" + b"", timeout=0.0)
        assert p.communicate(timeout=20) == (b"1\n\n", None)


def test_a_guest_that_reads_nothing_does_not_block_its_caller() -> None:
    assert ring3.run(["true"], input=b"x" * 5_000_000).returncode == 0


def test_closing_a_sandbox_ends_its_guests() -> None:
    box = ring3.Sandbox()
    p = box.popen(["sh", "-c", "sleep 60 & sleep 60"])
    box.close()
    assert p.wait(20) == -signal.SIGKILL


def test_a_caller_with_many_descriptors() -> None:
    """Descriptors above FD_SETSIZE, which select(2) cannot look at."""
    code = (
        "import os, resource, ring3\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n"
        "kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(min(1100, hard // 2))]\n"
        "with ring3.Sandbox() as box:\n"
        "    print(box.run(['/bin/echo', 'ran'], capture_output=True, text=True).stdout, end='')\n"
        "print('closed')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("ran\nclosed\n", "")


def test_several_sandboxes_from_several_threads() -> None:
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            with ring3.Sandbox(hostname=f"box{n}", user=0) as box:
                for i in range(5):
                    done = box.run(
                        ["sh", "-c", f"uname -n; echo {i} >> /count; cat /count"], capture_output=True
                    )
                    expected = f"box{n}\n" + "".join(f"{k}\n" for k in range(i + 1))
                    assert done.stdout.decode() == expected, done
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures


def test_one_sandbox_from_several_threads() -> None:
    with ring3.Sandbox() as box:
        results: list[bytes] = []

        def work(n: int) -> None:
            results.append(box.run(["sh", "-c", f"echo {n}"], stdout=ring3.PIPE).stdout)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert sorted(results) == sorted(b"%d\n" % n for n in range(8))


def test_trace_and_log() -> None:
    lines: list[str] = []
    with ring3.Sandbox(trace=lines.append) as box:
        box.run(["true"])
    assert any("execve" in x or "openat" in x for x in lines)


def test_importing_ring3_costs_little() -> None:
    """The front door imports nothing heavy: the command line's start-up stands on it."""
    program = "import sys; before = set(sys.modules); import ring3; print(len(set(sys.modules) - before))"
    repo = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=repo, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 2  # ring3, and __future__
