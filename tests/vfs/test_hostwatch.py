"""Remembered names of host directories: a change on the host shows at the next walk, whatever it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ring3.vfs.cowfs import CowFS
from ring3.vfs.hostdir import HostDir
from ring3.vfs.hostfs import HostFS
from ring3.vfs.hostwatch import WORTH
from ring3.vfs.vfs import Vfs


@pytest.fixture(params=["ro", "rw", "cow"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Vfs, Path]]:
    """A tree over a host directory whose directory `d` is watched already."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("one")
    sb = (
        CowFS(str(tmp_path))
        if request.param == "cow"
        else HostFS(str(tmp_path), read_only=request.param == "ro")
    )
    vfs = Vfs(sb)
    for _ in range(WORTH + 1):
        exists(vfs, b"/d/file")
        exists(vfs, b"/d/none")
    node = vfs.lookup(vfs.local, None, b"/d").inode
    assert isinstance(node, HostDir) and node.names == {
        b"file": vfs.lookup(vfs.local, None, b"/d/file").inode,
        b"none": None,
    }
    yield vfs, tmp_path
    vfs.close()


def exists(vfs: Vfs, path: bytes) -> bool:
    try:
        vfs.lookup(vfs.local, None, path).inode.getattr()
    except FileNotFoundError:
        return False
    return True


CHANGES: list[tuple[str, Callable[[Path], object], bytes, bool]] = [
    ("create", lambda d: (d / "none").write_text(""), b"/d/none", True),
    ("mkdir", lambda d: (d / "none").mkdir(), b"/d/none", True),
    ("symlink", lambda d: (d / "none").symlink_to("file"), b"/d/none", True),
    ("link", lambda d: os.link(d / "file", d / "none"), b"/d/none", True),
    ("unlink", lambda d: (d / "file").unlink(), b"/d/file", False),
    ("rename away", lambda d: (d / "file").rename(d.parent / "elsewhere"), b"/d/file", False),
    ("rename", lambda d: (d / "file").rename(d / "none"), b"/d/none", True),
    ("directory renamed", lambda d: d.rename(d.parent / "e"), b"/d/file", False),
    ("found in its new place", lambda d: d.rename(d.parent / "e"), b"/e/file", True),
]


@pytest.mark.parametrize("change,path,there", [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_change_shows_at_once(
    world: tuple[Vfs, Path], change: Callable[[Path], object], path: bytes, there: bool
) -> None:
    vfs, host = world
    assert exists(vfs, path) is not there
    change(host / "d")
    assert exists(vfs, path) is there


def test_another_object_under_the_name(world: tuple[Vfs, Path]) -> None:
    vfs, host = world
    before = vfs.lookup(vfs.local, None, b"/d/file").inode
    (host / "new").write_text("other")
    (host / "new").rename(host / "d" / "file")
    after = vfs.lookup(vfs.local, None, b"/d/file").inode
    assert after is not before and after.getattr().ino == (host / "d" / "file").stat().st_ino


def test_permissions(world: tuple[Vfs, Path]) -> None:
    vfs, host = world
    (host / "d" / "file").chmod(0o4751)
    assert vfs.lookup(vfs.local, None, b"/d/file").inode.mode & 0o7777 == 0o4751
    (host / "d").chmod(0o711)
    vfs.lookup(vfs.local, None, b"/d/file")
    assert vfs.lookup(vfs.local, None, b"/d").inode.mode & 0o7777 == 0o711


def test_more_events_than_the_queue_holds(world: tuple[Vfs, Path]) -> None:
    vfs, host = world
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as f:
        size = int(f.read())
    if size > 20000:
        pytest.skip(f"the queue holds {size} events, which takes long to fill")
    for i in range(size // 2 + 10):
        (host / "d" / f"x{i}").touch()
        (host / "d" / f"x{i}").unlink()
    (host / "d" / "none").touch()
    assert exists(vfs, b"/d/none")
