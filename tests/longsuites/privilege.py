"""Runs the tests with less privilege: as an ordinary user, without user namespaces, in a namespace, in a container.

    python tests/longsuites/privilege.py [--world NAME]... [PYTEST ARGUMENT]...

Layer: tests (long). Touches a temporary copy of the sources with a virtual environment of its own, and for its time the
host's vm.mmap_min_addr (65536, as users have it).  To be run as root, with Debian's python3 and, for their worlds,
bubblewrap and runsc.  The exit status is 1 if a test fails in one of the worlds.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import exit_when_terminated
from refusing import refusing

REPO = Path(__file__).resolve().parents[2]
MIN_ADDR = Path("/proc/sys/vm/mmap_min_addr")
DEBIANS = "/usr/bin/python3"
USER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
_UNSHARE, _SETNS, _PRCTL, _CHROOT = 272, 308, 157, 161
#: what came after Linux 5.11: from mount_setattr(2) on (arch/x86/entry/syscalls/syscall_64.tbl)
_NEWER = range(442, 500)

WORLDS: dict[str, list[str]] = {
    "ordinary user": USER,
    "no user namespaces": [*USER, *refusing((_UNSHARE, _SETNS, _CHROOT), errno.EPERM, DEBIANS)],
    "calls of Linux 5.11": refusing(_NEWER, errno.ENOSYS, DEBIANS),
    "a fresh user namespace": ["unshare", "--user", "--map-root-user"],
    "bubblewrap": [
        "bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-user", "--unshare-pid", "--die-with-parent",
    ],
    "bubblewrap of an ordinary user": [
        *USER, "bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-all", "--die-with-parent",
    ],
}  # fmt: skip
#: where ring3 cannot run, and has to say so in a sentence
REFUSED: dict[str, list[str]] = {
    "no Syscall User Dispatch": [*USER, *refusing((_PRCTL,), errno.EINVAL, DEBIANS)],
    "runsc": ["runsc", "--network=none", "--ignore-cgroups", "do"],
}


@contextlib.contextmanager
def as_users_have_it() -> Iterator[Path]:
    """A copy that anybody can read, with a virtual environment; the lowest address as on users' machines."""
    had = MIN_ADDR.read_text()
    with tempfile.TemporaryDirectory(prefix="ring3-privilege-") as folder:
        os.chmod(folder, 0o755)
        try:
            MIN_ADDR.write_text("65536")
        except OSError as e:
            print(f"vm.mmap_min_addr stays {had.strip()}: {e}", flush=True)
        try:
            yield Path(folder)
        finally:
            with contextlib.suppress(OSError):
                MIN_ADDR.write_text(had)


def prepare(folder: Path) -> Path:
    """The copy of the sources; its environment is beside it."""
    copy = folder / "ring3"
    subprocess.run(["git", "clone", "-q", REPO, copy], check=True)
    environ = {**os.environ, "PYTHON": DEBIANS}
    subprocess.run(["sh", "setup.sh", folder / "venv", "test"], cwd=copy, check=True, env=environ)
    return copy


def run(world: str, start: list[str], copy: Path, arguments: list[str]) -> tuple[Path, bool]:
    """Run the tests in a world, with a home that is its own: what pytest wrote, and whether none failed."""
    home = copy.parent / re.sub(r"\W+", "-", world)
    home.mkdir()
    os.chmod(home, 0o777)
    log = home.with_suffix(".log")
    environ = {
        "HOME": str(home), "TMPDIR": str(home), "PATH": f"{copy.parent}/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(home / ".hypothesis"),
    }  # fmt: skip
    words = [*start, f"{copy.parent}/venv/bin/python", "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider"]
    begun = time.monotonic()
    with log.open("wb") as out:
        done = subprocess.run([*words, *arguments], cwd=copy, env=environ, stdout=out, stderr=subprocess.STDOUT)
    lines = log.read_text(errors="replace").splitlines()
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(f"  {world}: {line}")
    print(f"{world}: {lines[-1] if lines else 'nothing was said'} ({time.monotonic() - begun:.0f} s)", flush=True)
    if done.returncode > 1:
        print("\n".join(lines[-20:]))
    return log, done.returncode == 0


def refuses(world: str, start: list[str], copy: Path) -> bool:
    """Does ring3 say in a sentence why it does not run there?"""
    words = [*start, f"{copy.parent}/venv/bin/python", "-m", "ring3", "run", "--", "/bin/true"]
    environ = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, timeout=120, env=environ)
    said = done.stderr.strip()
    print(f"{world}: exit status {done.returncode}: {said}", flush=True)
    return done.returncode == 125 and said.startswith("ring3: ") and "\n" not in said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--logs", metavar="DIR", type=Path, help="leave what pytest wrote there")
    parser.add_argument("--world", action="append", choices=[*WORLDS, *REFUSED], help="only this one (may be repeated)")
    options, arguments = parser.parse_known_args()
    if options.logs is not None:
        options.logs.mkdir(exist_ok=True)
    chosen = options.world or [*WORLDS, *REFUSED]
    good = True
    exit_when_terminated()
    with as_users_have_it() as folder:
        copy = prepare(folder)
        for world in chosen:
            start = WORLDS.get(world) or REFUSED[world]
            if missing := [word for word in start if word in ("bwrap", "runsc") and not shutil.which(word)]:
                print(f"{world}: not tried: there is no {missing[0]} here")
            elif world in WORLDS:
                log, passed = run(world, start, copy, arguments or ["-n", "2", "--dist", "loadgroup"])
                good &= passed
                if options.logs is not None:
                    shutil.copy(log, options.logs)
            else:
                good &= refuses(world, start, copy)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
