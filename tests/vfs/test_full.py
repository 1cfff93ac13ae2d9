"""Nothing is lost: the host's disk behind a read-write bind is full, or memory is short. The guest gets the errno, and
what was acknowledged is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import BASE_ENV, assert_clean, ring3_argv, run, run_ring3

SIZE = 2 << 20
SCRIPT = r"""
import errno, os, sys
os.chdir(sys.argv[1])
done = []                        # (name, bytes that were acknowledged)
full = set()
for i in range(64):
    name = f"f{i}"
    try:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    except OSError as e:
        full.add(errno.errorcode[e.errno])
        break
    data = bytes([65 + i % 26]) * 100_000
    written = 0
    try:
        while written < len(data):
            written += os.write(fd, data[written:])
        os.fsync(fd)
    except OSError as e:
        full.add(errno.errorcode[e.errno])
    done.append((name, data[:written]))
    os.close(fd)
    if full:
        break
try:
    fd = os.open("more", os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 0, 4 << 20)
except OSError as e:
    full.add("fallocate " + errno.errorcode[e.errno])
for name, data in done:
    with open(name, "rb") as file:
        assert file.read() == data, name
os.rename("f0", "renamed"); os.link("renamed", "linked"); os.unlink("linked")
os.truncate("f1", 1000)
fd = os.open("f2", os.O_WRONLY | os.O_APPEND)
os.write(fd, b"room again")
print(len(done), sum(len(data) for _, data in done), sorted(full), flush=True)
"""
#: Mounts a small tmpfs in a mount namespace of its own, runs a command there, then shows what is on it.
IN_A_NAMESPACE = r"""
set -e
mount -t tmpfs -o size=%d,mode=755 small "$0"
"$@"
cat "$0"/renamed | cksum
cksum <"$0"/f1
tail -c 10 "$0"/f2
ls "$0" | wc -l
"""


def can_mount() -> bool:
    asked = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return os.geteuid() == 0 and subprocess.run(asked, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(
    not can_mount(), reason="mounts a small tmpfs in a mount namespace, which needs privilege"
)
def test_a_full_disk_behind_a_bind(workdir: Path) -> None:
    small = workdir / "small"
    small.mkdir()
    script = workdir / "script.py"
    script.write_text(SCRIPT)
    python = [sys.executable, "-I", "-B", str(script)]
    inside = ["unshare", "-m", "sh", "-c", IN_A_NAMESPACE % SIZE, str(small)]
    native = run([*inside, *python, str(small)])
    bind = ["-u", "0", "--mount", f"type=bind,source={small},target=/b,rw"]
    guest = run([*inside, *ring3_argv([*python, "/b"], *bind)], env=BASE_ENV)
    for result in (native, guest):
        assert_clean(result)
        assert result.status == 0, result.describe()
    assert b"'ENOSPC', 'fallocate ENOSPC'" in native.out, native.describe()
    assert guest.out == native.out, f"{native.describe()}\n{guest.describe()}"


@pytest.mark.parametrize("size", ["2m"])
def test_a_full_memory_filesystem(workdir: Path, size: str) -> None:
    script = workdir / "script.py"
    script.write_text(SCRIPT)
    guest = run_ring3(
        [sys.executable, "-I", "-B", str(script), "/mem"], "-u", "0", "--tmpfs", f"/mem:size={size}"
    )
    if b"size=" in guest.err and guest.status:
        pytest.skip("this host lets nobody limit a memory filesystem: " + guest.err.decode())
    assert_clean(guest)
    assert guest.status == 0 and b"'ENOSPC', 'fallocate ENOSPC'" in guest.out, guest.describe()


COW = r"""
import errno, os, resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
fd = os.open("/b/lower", os.O_RDWR)
assert os.pread(fd, 5, 0) == b"lower"
assert os.pwrite(fd, b"x" * 30_000, 40_000) == 10_000
calls = [lambda: os.pwrite(fd, b"y", 50_000), lambda: os.ftruncate(fd, 60_000)]
for call in (*calls, lambda: os.truncate("/b/lower", 70_000)):
    try:
        call()
        print("no error")
    except OSError as e:
        assert e.errno == errno.EFBIG, e
assert os.fstat(fd).st_size == 50_000
assert os.pread(fd, 5, 0) == b"lower" and os.pread(fd, 10_001, 40_000) == b"x" * 10_000
print("done")
"""


@pytest.mark.parametrize("how", ["rw", "cow"])
def test_a_file_size_limit(workdir: Path, how: str) -> None:
    place = workdir / "b"
    place.mkdir()
    (place / "lower").write_bytes(b"lower")
    (place / "lower").chmod(0o666)
    code = [sys.executable, "-I", "-B", "-c", COW]
    result = run_ring3(code, "-u", "0", "--mount", f"type=bind,source={place},target=/b,{how}")
    assert_clean(result)
    assert result.out == b"done\n" and result.status == 0, result.describe()
    assert (place / "lower").stat().st_size == (50_000 if how == "rw" else 5)


FDS = r"""
import errno, os
os.chdir("/mem")
# Many files held open at once, more than the supervisor may have descriptors for: an errno, and nothing lost.
held, failed = [], 0
for i in range(400):
    try:
        fd = os.open(f"f{i}", os.O_CREAT | os.O_RDWR)
    except OSError as e:
        assert e.errno in (errno.ENFILE, errno.EMFILE), e
        failed += 1
        continue
    assert os.write(fd, b"%05d" % i * 100) == 500
    held.append((i, fd))
for i, fd in held:
    assert os.pread(fd, 600, 0) == b"%05d" % i * 100, i
    os.close(fd)
for i, _ in held:
    with open(f"f{i}", "rb") as file:
        assert file.read() == b"%05d" % i * 100, i
print("done", len(held) > 50)
"""


def test_few_descriptors_of_the_supervisor(workdir: Path) -> None:
    import resource

    argv = ring3_argv([sys.executable, "-I", "-B", "-c", FDS], "-u", "0", "--tmpfs", "/mem")
    limit = f"import os,resource,sys; resource.setrlimit({resource.RLIMIT_NOFILE}, (256, 256))"
    result = run([sys.executable, "-c", limit + "; os.execv(sys.argv[1], sys.argv[1:])", *argv])
    assert_clean(result)
    assert result.out == b"done True\n" and result.status == 0, result.describe()
