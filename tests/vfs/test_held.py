"""Files that are opened again and again: what they mean changes as if each open were the first."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

import ring3

PROGRAM = """
import os, sys
def read(name):
    fd = os.open(name, os.O_RDONLY)
    try:
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)
def often(name):
    return {read(name) for _ in range(5)}
where = sys.argv[1]
name = where + "/file"
assert often(name) == {"old"}
with open(name, "w") as f:                       # copied up
    f.write("new")
assert often(name) == {"new"}
other = where + "/other"
assert often(other) == {"other"}
os.rename(other, name)                           # another file of that name
assert often(name) == {"other"}
try:
    read(other)
    raise SystemExit("it is still there")
except FileNotFoundError:
    pass
link = where + "/link"
assert often(link) == {"linked"}
os.unlink(link)                                  # a symlink
os.symlink("file", link)
assert often(link) == {"other"}
deep = where + "/a/b/deep"
assert often(deep) == {"deep"}
os.rename(where + "/a", where + "/c")            # a directory above
os.mkdir(where + "/a"), os.mkdir(where + "/a/b")
try:
    read(deep)
    raise SystemExit("it is still there")
except FileNotFoundError:
    pass
secret = where + "/secret"
assert often(secret) == {"secret"}
os.chmod(secret, 0o600)                          # who may
if os.fork() == 0:
    os.setuid(12345)
    for path in secret, where + "/c/b/deep":
        try:
            print(path.rsplit("/")[-1], often(path), flush=True)
        except PermissionError:
            print("no", flush=True)
    os._exit(0)
assert os.wait()[1] == 0
first, second = os.open(where + "/twice", os.O_RDONLY), os.open(where + "/twice", os.O_RDONLY)
third = os.open(where + "/twice", os.O_RDONLY)
assert [os.read(fd, 2) for fd in (first, third, second, third)] == [b"tw", b"tw", b"tw", b"ic"]  # offsets of their own
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "file other secret twice linked".split():
        (tmp_path / name).write_text({"file": "old"}.get(name, name))
    (tmp_path / "link").symlink_to("linked")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep").write_text("deep")
    for path in tmp_path.rglob("*"):
        path.chmod(0o755)
    for above in (tmp_path, *tmp_path.parents):  # pytest's own are for their owner alone
        if above.stat().st_uid == os.getuid() and above.stat().st_mode & 0o777 == 0o700:
            above.chmod(0o755)
    return tmp_path


def test_changes_within(folder: Path) -> None:
    with ring3.Sandbox(user=(0, 0)) as box:
        script = textwrap.dedent(PROGRAM)
        done = box.run(["/usr/bin/python3", "-c", script, str(folder)], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "no\ndeep {'deep'}\n"), done.stderr


def test_changes_on_the_host(folder: Path) -> None:
    file = folder / "file"
    with ring3.Sandbox() as box:

        def read() -> str:
            script = f"for i in 1 2 3; do read -r x <{file}; done; echo $x"
            done = box.run(["/bin/sh", "-c", script], capture_output=True)
            return done.stdout.decode().strip()

        assert read() == "old"
        file.write_text("changed")
        assert read() == "changed"
        (folder / "other").rename(file)
        assert read() == "other"
        file.unlink()
        assert read() == ""
        file.write_text("again")
        assert read() == "again"


def test_descriptors_are_bounded_and_given_back(tmp_path: Path) -> None:
    for i in range(300):
        (tmp_path / f"f{i}").write_text("x\n")
    with ring3.Sandbox(cwd=str(tmp_path)) as box:
        box.run(["/bin/sh", "-c", "for k in 1 2 3; do for f in f*; do read -r x <$f; done; done"], check=True)
        held = box.vfs.mounts.walks.held
        assert 0 < sum(one.fd >= 0 for one in held._files.values()) == held._count <= 192
        held.clear()
        assert held._count == 0 and not held._about
