"""Readahead of attributes (kernel/ahead.py): what it says is what asking says, also after changes of every kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostfacts
import pytest

import ring3
from ring3.kernel import ahead
from ring3.kernel.ahead import Ahead
from ring3.kernel.answers import Answers

#: stat, lstat and extended attributes of each name in some directories, by absolute and by relative paths
LOOK = """
import os, sys
def look(at, relative):
    if relative:
        os.chdir(at)
    for name in sorted(os.listdir(at)):
        path = name if relative else at + "/" + name
        words = [name]
        for follow in True, False:
            try:
                s = os.stat(path, follow_symlinks=follow)
                words += [s.st_mode, s.st_ino, s.st_dev, s.st_nlink, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns]
            except OSError as e:
                words.append(e.errno)
            for key in "user.k", "security.selinux", "system.posix_acl_access":
                try:
                    words.append(os.getxattr(path, key, follow_symlinks=follow))
                except OSError as e:
                    words.append(e.errno)
        print(*words)
for at in sys.argv[1:]:
    look(at, False)
    look(at, True)
"""


@pytest.fixture
def foreseen(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The names that were answered for ahead."""
    names: list[bytes] = []
    foresee = Answers.foresee

    def noted(self: Answers, question: Any, name: bytes, *rest: Any) -> None:
        names.append(name)
        foresee(self, question, name, *rest)

    monkeypatch.setattr(Answers, "foresee", noted)
    return names


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    at = tmp_path / "tree"
    at.mkdir()
    for n in range(40):
        (at / f"f{n}").write_text("x" * n)
    (at / "dir").mkdir()
    (at / "to-file").symlink_to("f1")
    (at / "to-dir").symlink_to("dir")
    (at / "nowhere").symlink_to("missing")
    os.link(at / "f2", at / "second-name")
    os.chmod(at / "f3", 0o600)
    if reason := hostfacts.no_python_xattrs():
        pytest.skip(reason)
    try:
        os.setxattr(at / "f4", "user.k", b"v")
    except OSError:
        pass  # a filesystem without them: then there is one kind of file less
    yield at
    shutil.rmtree(at, ignore_errors=True)


def seen(box: ring3.Sandbox, *directories: str) -> str:
    """What a guest sees; the same however often it looks."""
    looks = {
        box.run(["python3", "-c", LOOK, *directories], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(looks) == 1
    return looks.pop()


def test_hash() -> None:
    """A question that is hashed otherwise here than in the core is never answered ahead: so some are."""
    assert ahead.hash_of(4, (0, 0), b"") != ahead.hash_of(6, (0, 0), b"")
    assert ahead.hash_of(4, (0, 0), b"12345678") != ahead.hash_of(4, (0, 0), b"123456789")


def test_what_is_said(tree: Path, foreseen: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with ring3.Sandbox() as box:
        ahead_of_time = seen(box, str(tree))
    assert {b"f10", os.fsencode(tree) + b"/f10", os.fsencode(tree) + b"/f10\0user.k"} <= set(foreseen)
    monkeypatch.setattr(Ahead, "asked", lambda *_: None)
    with ring3.Sandbox() as box:
        assert seen(box, str(tree)) == ahead_of_time


def test_the_core_finds_it(tree: Path, foreseen: list[bytes], asked: list[bytes]) -> None:
    """What was answered for ahead is not asked."""
    with ring3.Sandbox() as box:
        box.run(["ls", "-lU", str(tree)], check=True, stdout=ring3.DEVNULL)
    names = {os.fsencode(tree / f"f{n}") for n in range(40)}
    assert len(names & set(foreseen)) == 40
    assert len(names & set(asked)) < 10


CHANGES = {
    "bytes": "open('f10', 'w').write('other')",
    "more bytes": "open('f11', 'a').write('more')",
    "mode": "os.chmod('f12', 0o640)",
    "times": "os.utime('f13', (1, 1))",
    "removed": "os.unlink('f14')",
    "renamed": "os.rename('f15', 'f15-new')",
    "replaced": "os.rename('f16', 'f17')",
    "linked": "os.link('f18', 'f18-too')",
    "another name": "os.chmod('second-name', 0o600)",
    "a link now": "os.unlink('f19'); os.symlink('f20', 'f19')",
    "a directory now": "os.unlink('f21'); os.mkdir('f21')",
    "where a link leads": "os.chmod('f1', 0o600)",
    "new": "open('missing', 'w').write('new')",
    "attribute": "os.setxattr('f22', 'user.k', b'new')",
    "the directory's mode": "os.chmod('.', 0o711)",
}


def test_changes_on_the_host(tree: Path) -> None:
    """A guest sees at once what others do, as a program on the host would."""
    with ring3.Sandbox() as box:
        before = seen(box, str(tree))
        for how, change in CHANGES.items():
            changed = subprocess.run(
                [sys.executable, "-c", "import os\n" + change], cwd=tree, capture_output=True
            )
            if changed.returncode:
                assert how == "attribute"  # not every filesystem has them
                continue
            native = subprocess.run(
                [sys.executable, "-c", LOOK, str(tree)], capture_output=True, text=True, check=True
            )
            after = seen(box, str(tree))
            assert after == native.stdout, how
            assert after != before or how == "the directory's mode"
            before = after


def test_changes_by_guests(tree: Path) -> None:
    """The same when nothing is known any more."""
    with ring3.Sandbox() as box:
        before = seen(box, str(tree))
        for how, change in CHANGES.items():
            box.run(["python3", "-c", "import os\n" + change], cwd=str(tree), check=True)
            after = seen(box, str(tree))
            box._kernel.vfs.mounts.walks.clear()
            assert seen(box, str(tree)) == after, how
            assert after != before or how == "the directory's mode"
            before = after
