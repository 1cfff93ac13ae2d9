"""Root of a user namespace with but one user, as in a container without privilege: guests may still be anybody.

Layer: tests. Touches a directory of its own; runs unshare(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import hostfacts
import pytest

UNSHARE = ["unshare", "--user", "--map-root-user"]
SCRIPT = """
import os
print(os.getuid())
open("made", "w").write("by nobody")
os.mkdir("folder")
os.symlink("made", "link")
fd = os.open(".", os.O_TMPFILE | os.O_RDWR)
os.write(fd, b"x")
memfd = os.memfd_create("mine")
print(os.write(memfd, b"abc"))
"""


@pytest.fixture(autouse=True)
def needs_namespaces() -> None:
    if subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no user namespaces here")


def test_a_guest_of_another_user_makes_files(workdir: Path) -> None:
    mount = f"{workdir}:/mnt:rw"
    words = [sys.executable, "-m", "ring3", "run", "-u", "65534:65534", "-v", mount, "-w", "/mnt"]
    python = ["/usr/bin/python3", "-I", "-S", "-c", SCRIPT]
    done = subprocess.run([*UNSHARE, *words, "--", *python], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("65534\n3\n", "", 0)
    assert sorted(path.name for path in workdir.iterdir()) == ["folder", "link", "made"]
    assert (workdir / "made").read_text() == "by nobody"


@pytest.mark.skipif(
    bool(hostfacts.not_root()), reason=f"makes a file of another user's: {hostfacts.not_root()}"
)
def test_a_program_of_an_unknown_user_changes_nobody(workdir: Path) -> None:
    """bprm_fill_uid() in fs/exec.c: set-user-ID and set-group-ID of ids that the namespace lacks are ignored."""
    program = workdir / "id"
    shutil.copy("/usr/bin/id", program)
    os.chown(program, 1234, 1234)
    program.chmod(0o6755)
    for start in [], [sys.executable, "-m", "ring3", "run", "--"]:
        done = subprocess.run([*UNSHARE, *start, program], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "euid" not in done.stdout and "egid" not in done.stdout, done
