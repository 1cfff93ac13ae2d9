"""What is special about overlays: marks of both families, copy-up, hard links across layers, renames, offsets."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import pytest

from ring3.vfs import attrops, dirops, inodeflags
from ring3.vfs.inode import Inode, OpenContext, SuperBlock
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.openfile import OpenDir, SeqFile
from ring3.vfs.overlayfs import OverlayFS
from ring3.vfs.tree import TreePath
from ring3.vfs.vfs import Vfs


def layer(files: dict[str, bytes | None]) -> MemoryFS:
    """A layer with these files; None makes a whiteout of overlayfs, a name that ends in "/" a directory."""
    filesystem = MemoryFS(mode=0o755)
    vfs = Vfs(filesystem)
    root = TreePath(vfs)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif content is None:
            dirops.mknod(vfs, vfs.local, None, bytes(path), stat.S_IFCHR, 0)
        else:
            path.write_bytes(content)
    return filesystem


class Box:
    def __init__(self, *lower: SuperBlock, **options: object) -> None:
        self.overlay = OverlayFS(lower, **options)  # type: ignore[arg-type]
        self.vfs = Vfs(self.overlay)
        self.root = TreePath(self.vfs)

    def upper(self) -> TreePath:
        return TreePath(Vfs(self.overlay.layers[0]))

    def inode(self, name: str) -> Inode:
        return self.vfs.lookup(self.vfs.local, None, name.encode(), False).inode

    def tree(self) -> dict[str, bytes | None]:
        return {str(p): p.read_bytes() if p.is_file() else None for p in self.root.walk()}


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box(
        layer(
            {"both": b"top", "d/new": b"2", "gone": None, ".wh.left": b""}
            | {"shut/.wh..wh..opq": b"", "shut/in": b"i"}
        ),
        layer({"both": b"old", "d/old": b"1", "gone": b"x", "left": b"x", "shut/hidden": b"x", "keep": b"k"}),
        layer({"deep": b"3", "d/deep": b"4", "gone/never": b"x", "keep/never": b"x"}),
    )
    yield made
    made.vfs.close()


def test_marks_of_both_families(box: Box) -> None:
    assert box.tree() == {
        "/both": b"top",
        "/d": None,
        "/d/deep": b"4",
        "/d/new": b"2",
        "/d/old": b"1",
        "/deep": b"3",
        "/keep": b"k",
        "/shut": None,
        "/shut/in": b"i",
    }


def test_overlay_opaque_attribute() -> None:
    top = layer({"d/a": b""})
    directory = top.root.lookup(b"d")
    assert directory is not None
    directory.setxattr(b"user.overlay.opaque", b"y", 0)
    box = Box(top, layer({"d/b": b""}))
    assert box.tree() == {"/d": None, "/d/a": b""}
    assert box.inode("/d").listxattr() == []  # the overlay's own marks are not the guest's business
    with pytest.raises(OSError) as e:
        box.inode("/d").getxattr(b"user.overlay.opaque")
    assert e.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("whiteouts", ["overlay", "oci"])
def test_the_upper_layer_alone_says_what_changed(whiteouts: str) -> None:
    """A second overlay over the same layers, with the first one's upper layer as a lower one, shows the same."""
    lower = {"d/a": b"1", "d/b": b"2", "e/c": b"3", "f": b"4"}
    box = Box(layer(lower), whiteouts=whiteouts)
    (box.root / "d/a").unlink()
    (box.root / "e/c").unlink()
    (box.root / "e").rmdir()
    (box.root / "e").mkdir()
    (box.root / "f").unlink()
    (box.root / "f").mkdir()
    (box.root / "f/new").write_bytes(b"n")
    (box.root / "d/b").write_bytes(b"changed")
    assert box.tree() == {"/d": None, "/d/b": b"changed", "/e": None, "/f": None, "/f/new": b"n"}
    again = Box(box.overlay.layers[0], layer(lower))
    assert again.tree() == box.tree()
    marks = [str(p) for p in box.upper().walk() if p.name.startswith(".wh.")]
    assert bool(marks) == (whiteouts == "oci")


def test_reserved_names_are_refused(box: Box) -> None:
    for name in (".wh.x", ".wh..wh..opq"):
        with pytest.raises(PermissionError):
            (box.root / name).write_bytes(b"")
    with pytest.raises(PermissionError):
        dirops.mknod(box.vfs, box.vfs.local, None, b"/c", stat.S_IFCHR, 0)


def test_copy_up_keeps_the_identity() -> None:
    lower = layer({"f": b"lower"})
    box = Box(lower)
    before = box.inode("/f").getattr()
    listed = {n: i for n, i, _ in box.overlay.root.readdir()}
    reader = (box.root / "f").open("rb")
    (box.root / "f").write_bytes(b"changed")
    after = box.inode("/f").getattr()
    assert (after.ino, after.dev, after.nlink) == (before.ino, before.dev, before.nlink)
    assert {n: i for n, i, _ in box.overlay.root.readdir()} == listed == {b"f": before.ino}
    assert reader.read() == b"lower"  # "Non-standard behavior" of overlayfs
    reader.close()
    assert TreePath(Vfs(lower), "/f").read_bytes() == b"lower"


def test_flags_of_inodes_copy_up() -> None:
    lower = layer({"f": b"x", "fixed": b"y"})
    vfs = Vfs(lower)
    vfs.lookup(vfs.local, None, b"/fixed").inode.set_iflags(inodeflags.FS_IMMUTABLE_FL, 0)
    box = Box(lower)
    with pytest.raises(PermissionError):
        (box.root / "fixed").unlink()
    path = box.vfs.lookup(box.vfs.local, None, b"/f")
    inodeflags.put(box.vfs, box.vfs.local, path, inodeflags.FS_APPEND_FL)
    assert inodeflags.get(path.inode) == inodeflags.FS_APPEND_FL
    assert [str(p) for p in box.upper().walk()] == ["/f"]
    with pytest.raises(PermissionError):
        (box.root / "f").write_bytes(b"z")
    assert vfs.lookup(vfs.local, None, b"/f").inode.iflags == 0


def test_hard_links_across_the_copy_up() -> None:
    lower = layer({"a": b"one"})
    tree = TreePath(Vfs(lower))
    (tree / "b").hardlink_to(tree / "a")
    box = Box(lower)
    (box.root / "a").write_bytes(b"two")
    assert (box.root / "b").read_bytes() == b"two"
    a, b = (box.root / "a").stat(), (box.root / "b").stat()
    assert (a.st_ino, a.st_nlink) == (b.st_ino, b.st_nlink) == (b.st_ino, 2)
    (box.root / "c").hardlink_to(box.root / "b")
    assert (box.root / "a").stat().st_nlink == 3
    (box.root / "a").unlink()
    (box.root / "c").unlink()
    assert (box.root / "b").stat().st_nlink == 1
    assert (box.root / "b").read_bytes() == b"two"  # though the upper layer has no visible name of it
    (box.root / "b").rename("d")
    assert box.tree() == {"/d": b"two"}
    (box.root / "d").unlink()
    assert [str(p) for p in box.upper().walk() if p.is_file()] == []


def test_a_removed_file_that_is_still_open() -> None:
    box = Box(layer({"f": b"bytes"}))
    place = box.vfs.lookup(box.vfs.local, None, b"/f")
    with (box.root / "f").open("rb") as f:
        (box.root / "f").unlink()
        attrops.chmod(box.vfs, box.vfs.local, place, 0o600)  # as fchmod(2) of the descriptor
        assert f.read() == b"bytes"
    assert stat.S_IMODE(place.inode.getattr().mode) == 0o600
    assert place.inode.getattr().nlink == 0
    assert box.tree() == {}


def test_a_failed_copy_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(layer({"f": b"bytes"}))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("ring3.vfs.overlayfs.copy_contents", fail)
    with pytest.raises(OSError) as e, (box.root / "f").open("r+b"):
        pass
    assert e.value.errno == errno.ENOSPC
    assert list(box.upper().iterdir()) == []
    assert (box.root / "f").read_bytes() == b"bytes"


def test_renaming_a_lower_directory() -> None:
    files = {"d/a": b"1", "d/sub/b": b"2"}
    with pytest.raises(OSError) as e:
        (Box(layer(files)).root / "d").rename("e")
    assert e.value.errno == errno.EXDEV
    box = Box(layer(files), layer({"d/c": b"3", "e/under": b"x"}), redirect_dir=True)
    (box.root / "e/under").unlink()
    (box.root / "e").rmdir()
    before = (box.root / "d").stat().st_ino
    (box.root / "d").rename("e")
    (box.root / "e/sub").rename(box.root / "up")
    (box.root / "up/b").write_bytes(b"new")
    want = {"/e": None, "/e/a": b"1", "/e/c": b"3", "/up": None, "/up/b": b"new"}
    assert box.tree() == want
    assert (box.root / "e").stat().st_ino == before
    assert Box(box.overlay.layers[0], layer(files), layer({"d/c": b"3", "e/under": b"x"})).tree() == want


def test_offsets_stay_while_the_directory_changes() -> None:
    box = Box(layer({f"l{n}": b"" for n in range(50)}), layer({f"m{n}": b"" for n in range(50)}))
    place = box.vfs.lookup(box.vfs.local, None, b"/")
    directory = OpenDir(place, place.inode, 0)
    first = directory.getdents(1000)
    middle = directory.seek(0, os.SEEK_CUR)
    (box.root / "l3").unlink()
    (box.root / "new").write_bytes(b"")
    rest = directory.getdents(1 << 20)
    directory.seek(middle, os.SEEK_SET)
    assert directory.getdents(1 << 20) == rest
    names = [n for n, _, _ in directory.listing()]
    assert len(names) == len(set(names)) == 102
    assert first and rest


def test_a_python_filesystem_as_a_layer() -> None:
    class Text(Inode):
        def open(self, ctx: OpenContext) -> SeqFile:
            return SeqFile(ctx.path, self, ctx.flags, lambda task: b"generated\n")

    class Top(Inode):
        def lookup(self, name: bytes) -> Inode | None:
            return Text(self.sb, 2, stat.S_IFREG | 0o644, size=10) if name == b"text" else None

        def readdir(self) -> list[tuple[bytes, int, int]]:
            return [(b"text", 2, stat.S_IFREG)]

    class Generated(SuperBlock):
        def __init__(self) -> None:
            super().__init__("generated")
            self.root = Top(self, 1, stat.S_IFDIR | 0o755, nlink=2)

    box = Box(Generated())
    assert (box.root / "text").read_bytes() == b"generated\n"
    with (box.root / "text").open("ab") as f:
        f.write(b"more\n")
    assert (box.root / "text").read_bytes() == b"generated\nmore\n"


def test_a_read_only_overlay(box: Box) -> None:
    fixed = Box(layer({"a": b"1"}), layer({"b": b"2"}), read_only=True)
    assert fixed.tree() == {"/a": b"1", "/b": b"2"}
    with pytest.raises(OSError) as e:
        (fixed.root / "a").write_bytes(b"x")
    assert e.value.errno == errno.EROFS
    with pytest.raises(ValueError):
        OverlayFS([])
