"""Snapshots, differences and exports: against what the trees really are, after random calls on every filesystem."""

from __future__ import annotations

import io
import os
import random
import stat
import tarfile
from contextlib import nullcontext
from typing import Any

import pytest
from test_model import STEPS, step
from vfsworlds import VfsWorld, cow_world, layered_overlay, layered_world, memory_world, overlay_world, tree

from ring3.vfs.boxfiles import BoxFiles, Diff, Snapshot
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.overlayfs import OverlayFS
from ring3.vfs.tarfs import TarFS
from ring3.vfs.tree import TreePath
from ring3.vfs.vfs import Vfs

WORLDS = {
    "memory": memory_world,
    "cow": cow_world,
    "overlay": overlay_world,
    "layered cow": layered_world,
    "layered overlay": layered_overlay,
}

Tree = dict[bytes, Any]


def play(world: VfsWorld, rng: random.Random, steps: int) -> None:
    done = 0
    while done < steps:
        call = step(rng)
        if call[0] == "write" and world.call("stat", call[1])[1:] and _is_fifo(world, call[1]):
            continue
        world.call(*call)
        done += 1


def _is_fifo(world: VfsWorld, name: bytes) -> bool:
    status, value = world.call("stat", name)
    return status == "ok" and stat.S_ISFIFO(value[0])


def look(world: VfsWorld) -> Tree:
    """The tree with the times and attributes that tree() leaves out."""
    found: Tree = {}
    for path, (st, content) in world.as_user(None, lambda: tree(world)).items():
        inode = world.place(path, False).inode
        full = inode.getattr()
        xattrs = {n: inode.getxattr(n) for n in inode.listxattr()}
        found[path] = (st, content, None if stat.S_ISDIR(st[0]) else full.mtime, xattrs)
    return found


def agree(diff: Diff, before: Tree, after: Tree) -> None:
    """The difference is what the trees say; but that a file of the base was changed may be told under one of its
    names."""
    have, want = reported(diff), expected(before, after)
    linked = {"/w/t/" + os.fsdecode(path)[2:] for path, (st, *_) in before.items() if st[1] > 1}
    assert have <= want
    assert all(kind == "changed" and path in linked for kind, path in want - have), want - have


def expected(before: Tree, after: Tree) -> set[tuple[str, str]]:
    def key(entry: Any) -> Any:
        (mode, _, uid, gid, _), content, mtime, xattrs = entry
        return mode, uid, gid, content, mtime, xattrs

    changes = {("added", path) for path in after.keys() - before.keys()}
    changes |= {("deleted", path) for path in before.keys() - after.keys()}
    changes |= {("changed", path) for path in after.keys() & before.keys() if key(before[path]) != key(after[path])}
    return {(kind, "/w/t/" + os.fsdecode(path).removeprefix("./")) for kind, path in changes}


def reported(diff: Diff) -> set[tuple[str, str]]:
    return {(change.kind, change.path) for change in diff if change.path.startswith("/w/t/")}


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of other owners, which needs root")
@pytest.mark.parametrize("kind", sorted(WORLDS))
@pytest.mark.parametrize("seed", range(4))
def test_random_calls_are_told_and_undone(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    world = WORLDS[kind]()
    try:
        files = BoxFiles(world.vfs, nullcontext())
        empty = look(world)
        play(world, rng, STEPS // 2)
        first = look(world)
        if kind.startswith("layered"):
            agree(files.diff(), empty, first)
        snapshot = files.snapshot()
        assert list(files.diff(snapshot)) == []
        open_files = [world.vfs.lookup(world.who, None, b"/t"), *(_places(world, first))]
        play(world, rng, STEPS // 2)
        second = look(world)
        assert look(world) == second
        agree(files.diff(snapshot), first, second)
        for _ in range(2):
            files.restore(snapshot)
            assert look(world) == first
            assert list(files.diff(snapshot)) == []
            play(world, rng, STEPS // 4)
        files.restore(snapshot)
        assert look(world) == first
        del open_files
    finally:
        world.close()


def _places(world: VfsWorld, found: Tree) -> list[Any]:
    """Somebody holds every second object."""
    return [world.place(path, False) for path in list(found)[::2]]


class Box:
    def __init__(self, filesystem: Any) -> None:
        self.vfs = Vfs(filesystem)
        self.root = TreePath(self.vfs)
        self.files = BoxFiles(self.vfs, nullcontext())


@pytest.fixture(params=[MemoryFS, lambda: OverlayFS([MemoryFS()])], ids=["memory", "overlay"])
def box(request: pytest.FixtureRequest) -> Box:
    return Box(request.param())


def test_bytes_are_shared_until_someone_writes(box: Box) -> None:
    (box.root / "a").write_bytes(b"one")
    (box.root / "big").write_bytes(b"1" * 3_000_000)
    before = len(os.listdir("/proc/self/fd"))
    snapshot = box.files.snapshot()
    assert len(os.listdir("/proc/self/fd")) == before
    with (box.root / "a").open("ab") as f:
        f.write(b" and two")
    with (box.root / "big").open("r+b") as f:
        f.truncate(10)
    assert str(box.files.diff(snapshot)) == "C /a\nC /big\n"
    assert box.files.diff(snapshot)[0].what == ("content", "mtime")
    box.files.restore(snapshot)
    assert (box.root / "a").read_bytes() == b"one"
    assert (box.root / "big").read_bytes() == b"1" * 3_000_000


def test_a_writer_that_is_there_already(box: Box) -> None:
    with (box.root / "a").open("wb", 0) as f:
        f.write(b"before")
        snapshot = box.files.snapshot()
        f.write(b" and after")
        assert box.files.diff(snapshot).changed == ["/a"]
        box.files.restore(snapshot)
        assert (box.root / "a").read_bytes() == b"before"
        f.seek(0, os.SEEK_END)
        f.write(b"!")  # the descriptor is still this file's
    assert (box.root / "a").read_bytes() == b"before!"


def test_several_snapshots(box: Box) -> None:
    snapshots: list[Snapshot] = []
    for n in range(5):
        (box.root / "f").write_bytes(b"%d" % n)
        (box.root / f"n{n}").touch()
        snapshots.append(box.files.snapshot())
    for n in (3, 0, 4, 2, 1):
        box.files.restore(snapshots[n])
        assert (box.root / "f").read_bytes() == b"%d" % n
        assert sorted(p.name for p in box.root.iterdir()) == ["f", *(f"n{k}" for k in range(n + 1))]
    with pytest.raises(ValueError):
        Box(MemoryFS()).files.restore(snapshots[0])


@pytest.mark.parametrize("kind", ["memory", "cow"])
@pytest.mark.parametrize("opened", [False, True])
def test_restoring_brings_times_and_privileges_back(kind: str, opened: bool) -> None:
    """Also of a file that somebody has open, and whose set-id bits wait for a write."""
    world = WORLDS[kind]()
    try:
        assert world.call("write", b"f", os.O_RDWR | os.O_CREAT, 0o644, b"one")[0] == "ok"
        world.call("chmod", b"f", 0o4755)
        place = world.place(b"f")
        fd = world.open(b"f", os.O_RDWR)[0] if opened else -1
        if opened:
            place.inode.write_opened(stat.S_ISUID)
        box = BoxFiles(world.vfs, nullcontext())
        before = place.inode.getattr()
        snapshot = box.snapshot()
        while place.inode.getattr().ctime == before.ctime:
            world.call("chmod", b"f", 0o600)  # until the kernel's clock has moved on
        world.call("write", b"f", os.O_RDWR, 0, b"two, longer")
        box.restore(snapshot)
        after = place.inode.getattr()
        assert [after.mode, after.atime, after.mtime, after.ctime, after.size] == [
            before.mode, before.atime, before.mtime, before.ctime, before.size,
        ]  # fmt: skip
        if opened:
            assert isinstance(fd, int)
            os.write(fd, b"!")
            os.close(fd)
    finally:
        world.close()


def test_a_limited_filesystem() -> None:
    try:
        box = Box(MemoryFS(size="1m"))
    except OSError as e:
        pytest.skip(str(e))
    (box.root / "a").write_bytes(b"kept")
    snapshot = box.files.snapshot()
    (box.root / "a").write_bytes(b"x" * 100_000)
    box.files.restore(snapshot)
    assert (box.root / "a").read_bytes() == b"kept"
    box.vfs.close()


def test_export_and_back(box: Box) -> None:
    root = box.root
    (root / "d/e").mkdir(parents=True)
    (root / "d/f").write_bytes(os.urandom(200_000))
    (root / "h").hardlink_to(root / "d/f")
    (root / "l").symlink_to("d/f")
    (root / "d/f").chmod(0o640)
    (root / "d/f").chown(12, 34)
    inode = box.vfs.lookup(box.vfs.local, None, b"/d/f").inode
    inode.setxattr(b"user.raw", b"\xff\0\n", 0)
    inode.setattr(mtime=123_456_789_987_654_321)
    out = io.BytesIO()
    box.files.export(out)
    again = TreePath(Vfs(TarFS(source=_source(out.getvalue()), name="x")))
    assert sorted(map(str, again.walk())) == ["/d", "/d/e", "/d/f", "/h", "/l"]
    st, want = (again / "d/f").stat(), (root / "d/f").stat()
    assert (st.st_mode, st.st_uid, st.st_gid, st.st_nlink) == (want.st_mode, 12, 34, 2)
    assert st.st_mtime_ns == 123_456_789_987_654_321
    assert (again / "h").read_bytes() == (root / "d/f").read_bytes()
    assert again._vfs.lookup(again._vfs.local, None, b"/d/f").inode.getxattr(b"user.raw") == b"\xff\0\n"
    assert box.files.as_dict("/d") == {"e": None, "f": (root / "d/f").read_bytes()}
    assert box.files.as_dict()["l"] == "d/f"


def _source(data: bytes) -> Any:
    class Bytes:
        size = len(data)

        def pread(self, count: int, offset: int) -> bytes:
            return data[offset : offset + count]

        def close(self) -> None:
            pass

    return Bytes()


def test_changes_are_exported_as_a_layer() -> None:
    base = {"keep": b"1", "gone": b"2", "d/a": b"3", "d/b": b"4", "e/x": b"5"}

    def lower() -> MemoryFS:
        filesystem = MemoryFS(mode=0o755)
        top = TreePath(Vfs(filesystem))
        for name, content in base.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(content)
        return filesystem

    box = Box(OverlayFS([lower()]))
    (box.root / "gone").unlink()
    (box.root / "d/a").unlink()
    (box.root / "d/b").write_bytes(b"new")
    (box.root / "e/x").unlink()
    (box.root / "e").rmdir()
    (box.root / "made/deep").mkdir(parents=True)
    out = io.BytesIO()
    box.files.export(out, changes=True)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        names = sorted(tar.getnames())
    assert names == [".wh.e", ".wh.gone", "d/.wh.a", "d/b", "made", "made/deep"]
    again = TreePath(Vfs(OverlayFS([TarFS(source=_source(out.getvalue()), name="x"), lower()])))
    assert {str(p) for p in again.walk()} == {str(p) for p in box.root.walk()}
    assert (again / "d/b").read_bytes() == b"new"
