"""Root of a user namespace with but one user, as in a container without privilege: guests may still be anybody.

Layer: tests. Touches a directory of its own; runs unshare(1).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_guest_of_another_user_makes_files(workdir: Path) -> None:
    start = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*start, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no user namespaces here")
    mount = f"{workdir}:/mnt:rw"
    words = [sys.executable, "-m", "ring3", "run", "-u", "65534:65534", "-v", mount, "-w", "/mnt"]
    python = ["/usr/bin/python3", "-I", "-S", "-c", SCRIPT]
    done = subprocess.run([*start, *words, "--", *python], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("65534\n3\n", "", 0)
    assert sorted(path.name for path in workdir.iterdir()) == ["folder", "link", "made"]
    assert (workdir / "made").read_text() == "by nobody"
