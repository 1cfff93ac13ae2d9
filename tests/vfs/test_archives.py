"""Tar and zip archives as filesystems: everything that the formats hold, laziness, and hostile archives."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ring3.vfs.archive import ArchiveFS, BadArchive, open_archive
from ring3.vfs.inode import Inode
from ring3.vfs.memdata import MemfdPool
from ring3.vfs.overlayfs import OverlayFS
from ring3.vfs.streams import FileSource, GzipSource, SourceFile, unpacked
from ring3.vfs.tarfs import TarFS
from ring3.vfs.tree import TreePath
from ring3.vfs.vfs import Vfs
from ring3.vfs.zipfs import ZipFS

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", **attributes: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def symlink(name: str, target: str) -> Member:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Member:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def directory(name: str, mode: int = 0o755) -> Member:
    return member(name, type=tarfile.DIRTYPE, mode=mode)


def make_tar(path: Path, members: list[Member], mode: str = "w", **options: object) -> Path:
    with tarfile.open(path, mode, **options) as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def tree_of(filesystem: ArchiveFS | OverlayFS) -> TreePath:
    return TreePath(Vfs(filesystem))


def contents(root: TreePath) -> dict[str, object]:
    """Everything beneath: bytes of files, targets of symlinks, None for directories."""
    found: dict[str, object] = {}
    for path in root.walk():
        kind = stat.S_IFMT(path.lstat().st_mode)
        found[str(path)] = (
            path.read_bytes() if kind == stat.S_IFREG else path.readlink() if kind == stat.S_IFLNK else None
        )
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with every kind of thing that an ordinary user can make."""
    top = tmp_path / "src"
    (top / "d/e").mkdir(parents=True)
    (top / "d/big").write_bytes(os.urandom(300_000) + bytes(3_000_000))
    (top / "d/e/small").write_bytes(b"small")
    (top / "empty").touch()
    (top / "n\N{SNOWMAN}").write_bytes(b"snow")
    (top / ("long" * 60)).write_bytes(b"long")
    (top / "link").symlink_to("d/e/small")
    (top / "away").symlink_to("/etc/passwd")
    os.link(top / "d/e/small", top / "hard")
    os.mkfifo(top / "pipe")
    (top / "run").write_bytes(b"#!/bin/sh\n")
    (top / "run").chmod(0o4755)
    with (top / "sparse").open("wb") as f:
        f.truncate(5_000_000)
        f.seek(4_000_000)
        f.write(b"data")
    for path in top.rglob("*"):
        os.utime(path, ns=(10**18, 10**18 + 123_456_789), follow_symlinks=False)
    return top


@pytest.mark.parametrize("option", ["", "z", "j", "J"])
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_what_tar_writes(source: Path, tmp_path: Path, form: str, option: str) -> None:
    packer = {"j": "bzip2", "J": "xz"}.get(option, "tar")
    if shutil.which(packer) is None:
        pytest.skip(f"{packer} is not installed")
    if form == "ustar":
        next(source.glob("longlong*")).unlink()  # this format cannot hold the name
    elif not option and form == "gnu":
        form = "gnu --sparse"
    path = tmp_path / "x.tar"
    subprocess.run(["tar", "--format", *form.split(), f"-c{option}f", path, "-C", source, "."], check=True)
    root = tree_of(TarFS(path))
    for native in source.rglob("*"):
        path_here = root / str(native.relative_to(source))
        want, have = native.lstat(), path_here.lstat()
        assert (have.st_mode, have.st_uid, have.st_gid) == (want.st_mode, want.st_uid, want.st_gid), native
        if not stat.S_ISDIR(want.st_mode):
            assert (have.st_size, have.st_nlink) == (want.st_size, want.st_nlink), native
        if form == "pax":
            assert have.st_mtime_ns == want.st_mtime_ns
        if native.is_symlink():
            assert path_here.readlink() == os.readlink(native)
        elif native.is_file():
            assert path_here.read_bytes() == native.read_bytes()
    assert len(list(root.walk())) == len(list(source.rglob("*")))


def test_the_archive_is_read_only_and_an_overlay_writes(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    subprocess.run(["tar", "-cf", path, "-C", source, "."], check=True)
    with pytest.raises(OSError) as e:
        (tree_of(TarFS(path)) / "empty").write_bytes(b"x")
    assert e.value.errno == errno.EROFS
    root = tree_of(OverlayFS([TarFS(path)]))
    with (root / "d/e/small").open("ab") as f:
        f.write(b" and more")
    assert (root / "hard").read_bytes() == b"small and more"
    (root / "d/big").unlink()
    assert [p.name for p in (root / "d").iterdir()] == ["e"]


def test_devices_and_attributes(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "x.tar",
        [
            member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            member(
                "f",
                b"x",
                pax_headers={
                    "SCHILY.xattr.user.a": "value",
                    "SCHILY.xattr.user.raw": b"\xff\x00\n=".decode("utf-8", "surrogateescape"),
                    "LIBARCHIVE.xattr.user.b": "AAEC",
                    "atime": "12.5",
                },
            ),
            member("mine", b"", uid=1234, gid=5678),
        ],
        format=tarfile.PAX_FORMAT,
    )
    filesystem = TarFS(path)
    null, f, mine = (filesystem.root.lookup(n) for n in (b"null", b"f", b"mine"))
    assert null is not None and f is not None and mine is not None
    assert (null.kind, os.major(null.rdev), os.minor(null.rdev)) == (stat.S_IFCHR, 1, 3)
    assert f.getxattr(b"user.a") == b"value"
    assert f.getxattr(b"user.raw") == b"\xff\x00\n="
    assert f.getxattr(b"user.b") == b"\0\1\2"
    assert sorted(f.listxattr()) == [b"user.a", b"user.b", b"user.raw"]
    assert f.atime == 12_500_000_000
    assert (mine.uid, mine.gid) == (1234, 5678)


def test_the_later_of_two_members_counts(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "x.tar",
        [
            member("a", b"old"),
            member("a", b"new"),
            member("d/in", b"kept"),
            directory("d", 0o700),
            directory("e"),
            member("e/in", b""),
            member("e", b"a file now"),
            member("g", b""),
            directory("g"),
            member("/abs", b"1"),
            member("./dot/./x", b"2"),
        ],
    )
    root = tree_of(TarFS(path))
    assert contents(root) == {
        "/a": b"new",
        "/abs": b"1",
        "/d": None,
        "/d/in": b"kept",
        "/dot": None,
        "/dot/x": b"2",
        "/e": b"a file now",
        "/g": None,
    }
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o700
    assert root.stat().st_nlink == 2 + 3


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    """A member beneath a symlink goes where that leads within the archive."""
    path = make_tar(
        tmp_path / "x.tar",
        [
            symlink("out", str(tmp_path)),
            member("out/planted", b"x"),
            symlink("up", "../../../.."),
            member("up/top", b"y"),
        ],
    )
    root = tree_of(TarFS(path))
    assert not (tmp_path / "planted").exists()
    assert (root / str(tmp_path) / "planted").read_bytes() == b"x"
    assert (root / "top").read_bytes() == b"y"


HOSTILE: dict[str, list[Member]] = {
    "leads out of it": [member("../../etc/passwd", b"x")],
    "leads out": [member("a/../../b", b"x")],
    "no file in it": [hardlink("a", "/etc/passwd")],
    "no file": [directory("d"), hardlink("a", "d")],
    "beneath something that is no directory": [member("a", b""), member("a/b", b"")],
    "beneath something": [symlink("loop", "loop"), member("loop/x", b"")],
    "more than 255 bytes": [member("x" * 256, b"")],
    "impossible name": [member("d/" * 3000 + "x", b"")],
}


@pytest.mark.parametrize("why", sorted(HOSTILE))
def test_hostile_tar(tmp_path: Path, why: str) -> None:
    path = make_tar(tmp_path / "x.tar", HOSTILE[why], format=tarfile.PAX_FORMAT)
    with pytest.raises(BadArchive, match=why) as e:
        TarFS(path)
    assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_bombs(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    info = tarfile.TarInfo("zeros")
    info.size = 200 << 20
    with gzip.open(path, "wb", compresslevel=1) as f:
        f.write(info.tobuf())
        for _ in range(200):
            f.write(bytes(1 << 20))
        f.write(bytes(1024))
    with pytest.raises(BadArchive, match="unpacks to more than"):
        TarFS(path, limit=100 << 20)
    TarFS(path).close()
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("zeros", bytes(1 << 20))
    with pytest.raises(BadArchive, match="unpacks to"):
        ZipFS(tmp_path / "x.zip", limit=1000)
    header = tarfile.TarInfo("x")
    header.type, header.size = b"x", 1 << 40  # a pax header of a tebibyte
    (tmp_path / "y.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(BadArchive):
        TarFS(tmp_path / "y.tar")


def _truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    return data[:1000] + bytes([data[1000] ^ 255]) + data[1001:]


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("damage", [_truncate, _flip])
def test_damaged_archives_give_a_sentence_or_eio(
    tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "x"
    data = os.urandom(100_000)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as z:
            z.writestr("f", data)
    else:
        make_tar(path, [member("f", data), member("g", data)], kind)
    path.write_bytes(damage(path.read_bytes()))
    try:
        root = tree_of(open_archive(path))
    except BadArchive as e:
        assert str(path) in str(e)
        return
    try:
        assert (root / "f").read_bytes() != data or damage is _truncate
    except OSError as e:
        assert e.errno == errno.EIO


@pytest.mark.parametrize(
    "content", [b"", b"hello\n" * 200, b"PK\x03\x04" + bytes(500), b"\x1f\x8b" + bytes(500)]
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(BadArchive):
        open_archive(path)
    with pytest.raises(BadArchive):
        TarFS(tmp_path)
    with pytest.raises(FileNotFoundError):
        TarFS(tmp_path / "missing")


def test_idle_members_cost_no_descriptor(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", [member(f"f{n}", b"%d" % n) for n in range(200)])
    filesystem = TarFS(path)
    vfs = Vfs(filesystem)
    filesystem.pool = vfs.pool = MemfdPool(vfs.files, limit=64)
    root = TreePath(vfs)
    for _ in range(2):
        for n in range(200):
            assert (root / f"f{n}").read_bytes() == b"%d" % n
            assert len(vfs.pool) <= 64


def test_gzip_is_entered_in_the_middle(tmp_path: Path) -> None:
    plain = b"".join(b"%09d\n" % n for n in range(1_000_000))
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(plain[:4_000_000], 1) + gzip.compress(plain[4_000_000:], 1) + bytes(512))
    source = unpacked(FileSource(str(path)))
    assert isinstance(source, GzipSource)
    f = SourceFile(source)
    for offset in (9_999_990, 0, 5_000_000, 3_999_995, 7_000_001, 10, 9_000_000):
        f.seek(offset)
        assert f.read(10) == plain[offset : offset + 10]
    assert source.pread(100, 10_000_000) == b""
    assert source.size == 10_000_000
    assert source.pread(10_000_000, 0) == plain


def test_zip(source: Path, tmp_path: Path) -> None:
    if shutil.which("zip"):
        subprocess.run(["zip", "-qry", tmp_path / "x.zip", ".", "-x", "pipe"], cwd=source, check=True)
    else:
        with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as z:
            for native in source.rglob("*"):
                info = zipfile.ZipInfo(str(native.relative_to(source)) + "/" * native.is_dir())
                info.external_attr = native.lstat().st_mode << 16
                if native.is_symlink():
                    z.writestr(info, os.readlink(native))
                elif native.is_dir() or native.is_file():
                    z.writestr(info, b"" if native.is_dir() else native.read_bytes())
    root = tree_of(ZipFS(tmp_path / "x.zip"))
    for native in source.rglob("*"):
        here = root / str(native.relative_to(source))
        if native.name == "pipe":
            continue
        assert here.lstat().st_mode == native.lstat().st_mode, native
        if native.is_symlink():
            assert here.readlink() == os.readlink(native)
        elif native.is_file():
            assert here.read_bytes() == native.read_bytes()


def test_a_zip_from_elsewhere(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as z:
        info = zipfile.ZipInfo("dir/file.txt", (2001, 2, 3, 4, 5, 6))
        info.create_system = 0  # MS-DOS
        z.writestr(info, b"text")
    root = tree_of(open_archive(tmp_path / "x.zip"))
    st = (root / "dir/file.txt").stat()
    assert stat.S_IMODE(st.st_mode) == 0o644 and st.st_mtime == 981173106
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as z:
        z.writestr("../up", b"")
    with pytest.raises(BadArchive, match="leads out"):
        ZipFS(tmp_path / "y.zip")


def test_an_inode_of_an_archive_refuses_changes(tmp_path: Path) -> None:
    root: Inode = TarFS(make_tar(tmp_path / "x.tar", [member("f", b"1")])).root
    with pytest.raises(OSError):
        root.create(b"x", 0o644, 0, 0)
    with pytest.raises(OSError):
        root.setxattr(b"user.x", b"", 0)
