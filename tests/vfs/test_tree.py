"""The guest's tree as pathlib-shaped paths: the same as pathlib on the host, and what is particular."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ring3.vfs.memfs import MemoryFS
from ring3.vfs.tree import TreePath
from ring3.vfs.vfs import Vfs


@pytest.fixture
def root() -> Iterator[TreePath]:
    vfs = Vfs(MemoryFS(mode=0o755))
    yield TreePath(vfs, lock=threading.RLock())
    vfs.close()


def use(base: Any) -> list[Any]:
    """What a user does; `base` is a pathlib.Path or a TreePath."""
    seen: list[Any] = []

    def attempt(what: Any) -> None:
        try:
            seen.append(what())
        except OSError as e:
            seen.append((type(e).__name__, e.errno))

    out = base / "out"
    (out / "a" / "b").mkdir(parents=True)
    attempt(lambda: out.mkdir())
    attempt(lambda: out.mkdir(exist_ok=True))
    attempt(lambda: (base / "no/deep").mkdir())
    attempt(lambda: (out / "t.txt").write_text("grün\nzwei\n"))
    attempt(lambda: (out / "t.txt").read_text())
    attempt(lambda: (out / "t.txt").read_bytes())
    attempt(lambda: (out / "b.bin").write_bytes(bytes(range(256))))
    with (out / "t.txt").open("a") as f:
        f.write("drei")
    with (out / "t.txt").open() as f:
        seen.append(list(f))
    with (out / "b.bin").open("r+b") as f:
        f.seek(10)
        f.write(b"!")
    attempt(lambda: (out / "b.bin").read_bytes()[9:12])
    attempt(lambda: (out / "new").open("x").close())
    attempt(lambda: (out / "new").open("x").close())
    attempt(lambda: (out / "missing").read_bytes())
    attempt(lambda: out.read_bytes())
    attempt(lambda: (out / "t.txt" / "x").read_bytes())
    (out / "link").symlink_to("t.txt")
    (out / "broken").symlink_to("nothing")
    for name in ("link", "broken", "t.txt", "a", "nope"):
        path = out / name
        seen.append((path.exists(), path.is_file(), path.is_dir(), path.is_symlink()))
    seen.append(str((out / "link").readlink()))
    seen.append(sorted(p.name for p in out.iterdir()))
    seen.append(sorted(str(p)[len(str(base)) :].lstrip("/") for p in base.rglob("*")))
    seen.append(sorted(p.name for p in out.glob("*.txt")))
    seen.append(sorted(p.name for p in base.glob("out/a*/*")))
    (out / "t.txt").chmod(0o600)
    seen.append((out / "t.txt").stat().st_mode)
    seen.append((out / "link").lstat().st_size)
    (out / "t.txt").rename(out / "moved")
    attempt(lambda: (out / "link").read_text())
    (out / "touched").touch()
    attempt(lambda: (out / "touched").touch(exist_ok=False))
    attempt(lambda: out.rmdir())
    attempt(lambda: (out / "a").unlink())
    (out / "a/b").rmdir()
    (out / "moved").unlink()
    attempt(lambda: (out / "moved").unlink())
    (out / "moved").unlink(missing_ok=True)
    seen.append(((out / "x.tar.gz").suffix, (out / "x.tar.gz").stem, (out / "x").parent.name))
    seen.append(sorted(p.name for p in out.iterdir()))
    return seen


def test_the_same_as_pathlib(root: TreePath, tmp_path: Path) -> None:
    assert use(root) == use(tmp_path)


def test_errors_name_the_path(root: TreePath) -> None:
    with pytest.raises(FileNotFoundError) as failed:
        (root / "a/b").read_text()
    assert failed.value.filename == "/a/b"
    with pytest.raises(ValueError, match="invalid mode"):
        (root / "f").open("rw")


def test_paths(root: TreePath) -> None:
    assert str(root / "a" / "b") == "/a/b" and root / "a/b" == (root / "a").joinpath("b")
    assert str(root / "a" / "/etc") == "/etc" and (root / "a/b").relative_to(root / "a") == "b"
    assert len({root / "x", root / "x/", root / "./x"}) == 1
    with pytest.raises(ValueError, match="not beneath"):
        (root / "a").relative_to(root / "b")


def test_resolve(root: TreePath) -> None:
    (root / "d").mkdir()
    (root / "l").symlink_to("/d")
    (root / "d/f").write_text("")
    assert str((root / "l/../l/f").resolve()) == "/d/f"


def test_a_generated_file_is_read_whole(root: TreePath) -> None:
    from ring3.vfs.inode import Inode, OpenContext
    from ring3.vfs.memfs import MemDir
    from ring3.vfs.openfile import SeqFile

    class Generated(Inode):
        __slots__ = ()

        def open(self, ctx: OpenContext) -> SeqFile:
            return SeqFile(ctx.path, self, ctx.flags, lambda task: b"line\n" * 50000)

    top = root._vfs.root.inode
    assert isinstance(top, MemDir)
    top.entries[b"gen"] = Generated(top.sb, 99, 0o100444)  # type: ignore[assignment]
    assert (root / "gen").read_text() == "line\n" * 50000
