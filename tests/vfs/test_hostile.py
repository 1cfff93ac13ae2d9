"""Nothing outside of a bind is ever read or written: names that are swapped while a guest uses them, by another guest
or by somebody on the host; device nodes, magic links, directories that are moved away."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hostfacts
import pytest
from harness import assert_clean, changed, host_listing, run_ring3
from vfsworlds import remove_tree, shared_memory_dir

ROUNDS = 60
LONG_ROUNDS = 5000
AT_FDCWD, RENAME_EXCHANGE = -100, 2
SECRET = b"OUTSIDE".ljust(7777, b"!")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def hostile(session_dir: Path) -> Path:
    target = session_dir / "swapper"
    source = Path(__file__).with_name("hostile.c")
    words = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result", "-o", str(target), str(source)]
    subprocess.run(words, check=True, timeout=60)
    return target


@pytest.fixture
def places() -> Iterator[tuple[Path, Path]]:
    """The bound directory, and what is outside beside it: where guests have no other way to (/dev/shm is their own)."""
    top = Path(shared_memory_dir())
    top.chmod(0o755)
    inside, outside = top / "d", top / "o"
    for place, text in ((inside / "x", b"inside"), (outside, SECRET)):
        (place / "sub").mkdir(parents=True)
        for name in ("secret", "sub/secret"):
            (place / name).write_bytes(text)
            (place / name).chmod(0o604 if text == SECRET else 0o644)
    (outside / "OUTSIDE").write_bytes(SECRET)
    (outside / "OUTSIDE-link").symlink_to("OUTSIDE")
    yield inside, outside
    remove_tree(str(top))


@contextmanager
def swapping(inside: Path, target: str) -> Iterator[None]:
    """Somebody on the host swaps x with a symlink all the time."""
    (inside / "y").symlink_to(target)
    libc = ctypes.CDLL(None)
    one, other = os.fsencode(inside / "x"), os.fsencode(inside / "y")
    pid = os.fork()
    if pid == 0:
        while os.getppid() != 1:
            libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def bound(inside: Path, how: str) -> list[str]:
    return ["-u", "0", "--mount", f"type=bind,source={inside},target=/b,{how}"]


def attack(hostile: Path, places: tuple[Path, Path], how: str, target: str, by: str, rounds: int) -> None:
    inside, outside = places
    target = target.replace("OUT", str(outside))
    before = host_listing(outside)
    words = [hostile, "/b", str(rounds), target]
    if by == "guest":
        result = run_ring3([*words, "swap"], *bound(inside, how), timeout=60 + rounds)
    else:
        with swapping(inside, target):
            result = run_ring3(words, *bound(inside, how), timeout=60 + rounds)
    assert_clean(result)
    assert not changed(before, host_listing(outside)), "what is outside was written\n" + result.describe()
    assert b"LEAK" not in result.out, result.describe()
    assert result.out.endswith(b"some calls worked\ndone\n"), result.describe()


@pytest.mark.parametrize("how", ["rw", "cow"])
@pytest.mark.parametrize("by", ["guest", "host"])
@pytest.mark.parametrize("target", ["../o", "OUT"])
def test_swapped_symlink(hostile: Path, places: tuple[Path, Path], how: str, by: str, target: str) -> None:
    attack(hostile, places, how, target, by, ROUNDS)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("how", ["rw", "cow"])
@pytest.mark.parametrize("by", ["guest", "host"])
@pytest.mark.parametrize("target", ["../o", "OUT", "/proc/self/root/OUT", "/proc/1/root/OUT"])
def test_swapped_symlink_long(
    hostile: Path, places: tuple[Path, Path], how: str, by: str, target: str
) -> None:
    attack(hostile, places, how, target, by, LONG_ROUNDS)


SCRIPT = """
cd /b
for name in {names}; do
    cat <"$name" 2>/dev/null | head -c 100
    echo guest 2>/dev/null >>"$name"
    cp "$name" copy 2>/dev/null && head -c 100 copy
    ln "$name" other-link 2>/dev/null && head -c 100 other-link
    ls "$name/" 2>/dev/null
    rm -f copy other-link
done
echo done
"""


@pytest.mark.parametrize("how", ["rw", "cow"])
def test_links_that_lead_out(places: tuple[Path, Path], how: str) -> None:
    inside, outside = places
    held = os.open(outside / "secret", os.O_RDWR)
    try:
        targets = {
            "up": "../o/secret",
            "absolute": str(outside / "secret"),
            "up-directory": "../o",
            "magic": f"/proc/{os.getpid()}/fd/{held}",
            "magic-root": f"/proc/{os.getpid()}/root{outside}/secret",
            "thread": f"/proc/{os.getppid()}/task/{os.getppid()}/root{outside}",
            "through": "x/../../o/secret",
        }
        for name, target in targets.items():
            (inside / name).symlink_to(target)
        before = host_listing(outside)
        script = SCRIPT.format(names=" ".join([*targets, "up-directory/secret"]))
        result = run_ring3(["sh", "-c", script], *bound(inside, how))
    finally:
        os.close(held)
    assert_clean(result)
    assert not changed(before, host_listing(outside)), "what is outside was written"
    assert b"OUTSIDE" not in result.out and result.out.endswith(b"done\n"), result.describe()


@pytest.mark.skipif(bool(hostfacts.no_device_nodes()), reason=hostfacts.no_device_nodes())
@pytest.mark.parametrize("how", ["rw", "cow"])
def test_device_nodes_of_the_host_are_not_opened(places: tuple[Path, Path], how: str) -> None:
    inside, _ = places
    os.mknod(inside / "kmsg", stat.S_IFCHR | 0o666, os.makedev(1, 11))
    os.mknod(inside / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mknod(inside / "disk", stat.S_IFBLK | 0o666, os.makedev(254, 0))
    code = (
        "import os,errno\n"
        "for n in ('kmsg','zero','disk'):\n"
        "    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):\n"
        "        try: os.open('/b/'+n, flags|os.O_NONBLOCK); print('opened', n)\n"
        "        except OSError as e: assert e.errno in (errno.EACCES, errno.ENXIO), e\n"
        "print('done')\n"
    )
    result = run_ring3([sys.executable, "-I", "-c", code], *bound(inside, how))
    assert_clean(result)
    assert result.out == b"done\n", result.describe()


@pytest.mark.parametrize("how", ["rw", "cow"])
def test_a_directory_that_is_moved_out(places: tuple[Path, Path], how: str) -> None:
    """Its ".." is outside on the host; for the guest that stands in it, it is not."""
    inside, outside = places
    code = (
        "import os,sys\n"
        "os.chdir('/b/x/sub'); up=os.open('..', os.O_RDONLY)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for p in ('../secret','../../secret','../../OUTSIDE','../../o/secret','../../../o/secret'):\n"
        "    for start in (None, up):\n"
        "        try: print(os.read(os.open(p, os.O_RDONLY, dir_fd=start), 100))\n"
        "        except OSError: pass\n"
        "        try: os.close(os.open(os.path.dirname(p)+'/new', os.O_CREAT|os.O_WRONLY, dir_fd=start))\n"
        "        except OSError: pass\n"
        "print('done')\n"
    )
    from harness import BASE_ENV, kill_tree, ring3_argv

    argv = ring3_argv([sys.executable, "-I", "-c", code], *bound(inside, how))
    box = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=BASE_ENV, start_new_session=True
    )
    assert box.stdin is not None and box.stdout is not None
    try:
        assert box.stdout.readline() == b"ready\n"
        before = host_listing(outside)
        os.rename(inside / "x", outside / "sub/moved")
        said, _ = box.communicate(b"\n", timeout=60)
    finally:
        if box.poll() is None:
            kill_tree(box.pid)
            box.wait()
    assert b"OUTSIDE" not in said and said.endswith(b"done\n"), said
    moved = str(outside / "sub")
    after = {path: what for path, what in host_listing(outside).items() if not path.startswith(moved)}
    assert not changed({p: w for p, w in before.items() if not p.startswith(moved)}, after)
