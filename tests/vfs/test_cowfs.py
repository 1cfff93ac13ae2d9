"""What is special about host directories: the host shows through, copy-on-write never writes it, nothing is
copied without need, read-write stays inside."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hostfacts
import pytest
from vfsworlds import populate

from ring3.vfs import attrops, dirops
from ring3.vfs.cowfs import CowFS
from ring3.vfs.hostfs import HostFS
from ring3.vfs.mount import MNT_RDONLY
from ring3.vfs.openfile import OpenDir
from ring3.vfs.perm import SimpleCreds
from ring3.vfs.vfs import LocalCaller, LocalFs, Vfs


class Box:
    """A world whose root is a bind of `host`."""

    def __init__(self, host: Path, kind: str) -> None:
        self.host = host
        filesystem = CowFS(str(host)) if kind == "cow" else HostFS(str(host), read_only=kind == "ro")
        self.vfs = Vfs(filesystem)
        self.who = self.vfs.local

    def read(self, name: str) -> bytes:
        fd = self.open(name, os.O_RDONLY)
        try:
            return os.read(fd, 1 << 20)
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes, flags: int = os.O_CREAT | os.O_TRUNC) -> None:
        fd = self.open(name, os.O_WRONLY | flags)
        os.write(fd, data)
        os.close(fd)

    def open(self, name: str, flags: int) -> int:
        place, opened = self.vfs.open(self.who, None, name.encode(), flags, 0o644)
        assert isinstance(opened, int)
        return self.vfs.handle(place, opened)

    def stat(self, name: str) -> tuple[int, int, int, int, int]:
        st = self.vfs.lookup(self.who, None, name.encode(), False).inode.getattr()
        return st.dev, st.ino, st.mode, st.nlink, st.size

    def list(self, name: str) -> set[bytes]:
        return {n for n, _, _ in self.vfs.lookup(self.who, None, name.encode()).inode.readdir()}

    def rename(self, old: str, new: str) -> None:
        dirops.rename(self.vfs, self.who, None, old.encode(), None, new.encode())

    def unlink(self, name: str) -> None:
        dirops.unlink(self.vfs, self.who, None, name.encode())


@pytest.fixture
def host(tmp_path: Path) -> Path:
    populate(tmp_path)
    return tmp_path


@pytest.fixture(params=["cow", "ro", "rw"])
def any_box(request: pytest.FixtureRequest, host: Path) -> Iterator[Box]:
    box = Box(host, request.param)
    yield box
    box.vfs.close()


@pytest.fixture
def box(host: Path) -> Iterator[Box]:
    made = Box(host, "cow")
    yield made
    made.vfs.close()


def test_changes_on_the_host_show_up(any_box: Box) -> None:
    box, host = any_box, any_box.host
    assert box.read("/d/file") == b"lower file\n" and b"new" not in box.list("/d")
    (host / "d/file").write_bytes(b"changed")
    (host / "d/new").write_bytes(b"new")
    (host / "d/e/deep").unlink()
    (host / "d/file").chmod(0o604)
    assert box.read("/d/file") == b"changed" and box.read("/d/new") == b"new" and b"new" in box.list("/d")
    assert stat.S_IMODE(box.stat("/d/file")[2]) == 0o604
    with pytest.raises(FileNotFoundError):
        box.stat("/d/e/deep")
    (host / "d").rename(host / "d2")
    assert box.read("/d2/new") == b"new"
    with pytest.raises(FileNotFoundError):
        box.stat("/d/new")
    (host / "d").mkdir()
    assert box.list("/d") == set()


def test_identity_is_the_hosts_and_survives_copy_up(box: Box) -> None:
    real = os.lstat(box.host / "d/file")
    assert box.stat("/d/file")[:2] == (real.st_dev, real.st_ino)
    box.write("/d/file", b"+", os.O_APPEND)
    assert box.stat("/d/file")[:2] == (real.st_dev, real.st_ino)
    assert box.read("/d/file") == b"lower file\n+" and (box.host / "d/file").read_bytes() == b"lower file\n"
    box.write("/fresh", b"")
    dev, ino = box.stat("/fresh")[:2]
    assert dev == os.lstat(box.host).st_dev and ino >= 1 << 48


def test_hard_links_of_the_host_stay_one_file(box: Box) -> None:
    box.write("/d/file", b"through one name")
    assert box.read("/hard") == b"through one name"
    attrops.chmod(box.vfs, box.who, box.vfs.lookup(box.who, None, b"/hard"), 0o600)
    assert stat.S_IMODE(box.stat("/d/file")[2]) == 0o600
    box.unlink("/d/file")
    assert box.read("/hard") == b"through one name" and box.stat("/hard")[3] == 1
    assert (box.host / "d/file").stat().st_nlink == 2


def test_changes_outlive_the_walk_that_made_them(box: Box) -> None:
    import gc

    attrops.chmod(box.vfs, box.who, box.vfs.lookup(box.who, None, b"/d/e/deep"), 0o600)
    box.write("/d/e/deep", b"ours", os.O_TRUNC)
    gc.collect()
    assert box.read("/d/e/deep") == b"ours" and stat.S_IMODE(box.stat("/d/e/deep")[2]) == 0o600


def test_a_changed_file_stays_when_the_host_removes_its_own(box: Box) -> None:
    box.write("/d/file", b"ours")
    (box.host / "hard").unlink()
    (box.host / "d/file").unlink()
    assert box.read("/d/file") == b"ours" and b"file" in box.list("/d")


def test_renaming_a_directory_copies_nothing(box: Box) -> None:
    box.rename("/d", "/empty/moved")
    assert len(box.vfs.pool) == 0
    assert box.read("/empty/moved/e/deep") == b"x" * 10000
    assert b"d" not in box.list("/")
    (box.host / "d/later").write_bytes(b"later")
    assert box.read("/empty/moved/later") == b"later", "it still shows the host's directory"
    box.write("/empty/moved/e/new", b"n")
    box.rename("/empty/moved/e", "/e2")
    assert box.list("/e2") == {b"deep", b"f", b"new"} and box.list("/empty/moved") == {b"file", b"later"}
    assert sorted(os.listdir(box.host / "d/e")) == ["deep", "f"]
    place = box.vfs.lookup(box.who, None, b"/e2/deep")
    assert box.vfs.path_name(place) == b"/e2/deep"


def test_removed_names_stay_removed_and_may_come_back(box: Box) -> None:
    box.unlink("/d/file")
    (box.host / "d/file").write_bytes(b"the host writes it again")
    with pytest.raises(FileNotFoundError):
        box.read("/d/file")
    box.write("/d/file", b"ours")
    assert box.read("/d/file") == b"ours"
    with pytest.raises(OSError) as failed:
        dirops.rmdir(box.vfs, box.who, None, b"/d/e")
    assert failed.value.errno == errno.ENOTEMPTY
    box.unlink("/d/e/deep")
    dirops.rmdir(box.vfs, box.who, None, b"/d/e/f")
    dirops.rmdir(box.vfs, box.who, None, b"/d/e")
    dirops.mkdir(box.vfs, box.who, None, b"/d/e", 0o755)
    assert box.list("/d/e") == set(), "a new directory does not show the old one's files"


def test_truncation_copies_only_what_stays(box: Box) -> None:
    box.write("/d/e/deep", b"", os.O_TRUNC)
    assert box.stat("/d/e/deep")[4] == 0
    attrops.truncate(box.vfs, box.who, box.vfs.lookup(box.who, None, b"/d/file"), 5)
    assert box.read("/d/file") == b"lower"


def test_holes_stay_holes(box: Box) -> None:
    with open(box.host / "sparse", "wb") as f:
        f.truncate(1 << 32)
        f.seek(1 << 31)
        f.write(b"island")
    fd = box.open("/sparse", os.O_RDWR)
    st = os.fstat(fd)
    assert st.st_size == 1 << 32 and st.st_blocks * 512 < 1 << 20
    assert os.pread(fd, 6, 1 << 31) == b"island"
    os.close(fd)


def test_read_only(host: Path) -> None:
    box = Box(host, "ro")
    with pytest.raises(OSError) as failed:
        box.write("/d/file", b"no")
    assert failed.value.errno == errno.EROFS
    with pytest.raises(OSError) as failed:
        box.unlink("/nowhere")
    assert failed.value.errno == errno.EROFS, "as Linux: before the name is looked up"
    box.vfs.close()


def test_read_only_mount_flag(host: Path) -> None:
    box = Box(host, "cow")
    box.vfs.mount(CowFS(str(host / "d")), b"/empty", MNT_RDONLY)
    with pytest.raises(OSError) as failed:
        box.write("/empty/file", b"no", 0)
    assert failed.value.errno == errno.EROFS
    with pytest.raises(OSError) as failed:
        dirops.rmdir(box.vfs, box.who, None, b"/empty")
    assert failed.value.errno == errno.EBUSY
    with pytest.raises(OSError) as failed:
        dirops.link(box.vfs, box.who, box.vfs.lookup(box.who, None, b"/script"), None, b"/empty/x")
    assert failed.value.errno == errno.EROFS
    box.vfs.close()


def test_special_files_of_the_host_are_seen_and_not_opened(any_box: Box) -> None:
    os.mkfifo(any_box.host / "pipe")
    assert stat.S_ISFIFO(any_box.stat("/pipe")[2])
    if any_box.vfs.root.mount.sb.read_only or isinstance(any_box.vfs.root.mount.sb, CowFS):
        with pytest.raises(PermissionError):
            any_box.open("/pipe", os.O_RDONLY | os.O_NONBLOCK)


def test_symlinks_of_the_host_mean_the_guests_tree(
    any_box: Box, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("outside") / "secret"
    secret.write_bytes(b"outside")
    (any_box.host / "escape").symlink_to(secret)
    (any_box.host / "up").symlink_to("../../../../../../../../etc")
    with pytest.raises(FileNotFoundError):
        any_box.read("/escape")
    with pytest.raises(FileNotFoundError):
        any_box.list("/up")
    assert any_box.list("/..") == any_box.list("/")


def test_a_swapped_directory_is_never_followed_out(
    host: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Between the lookup and the use, the host turns a directory into a symlink that leads out."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "file").write_bytes(b"outside")
    box = Box(host, "rw")
    walk = box.vfs.walk_parent(box.who, None, b"/d/e/new")
    inode = box.vfs.lookup(box.who, None, b"/d/file").inode
    (host / "d").rename(host / "kept")
    (host / "d").symlink_to(outside)
    walk.path.inode.create(b"new", 0o644, 0, 0)
    assert (host / "kept/e/new").exists() and os.listdir(outside) == ["file"]
    inode.setattr(mode=0o600)
    assert stat.S_IMODE((outside / "file").stat().st_mode) == 0o644
    (host / "kept/file").unlink()
    (host / "kept/file").symlink_to(outside / "file")
    with pytest.raises(OSError) as failed:
        inode.setattr(size=0)
    assert failed.value.errno == errno.ESTALE and (outside / "file").read_bytes() == b"outside"
    box.vfs.close()


def test_no_device_node_is_made_on_the_host(host: Path) -> None:
    box = Box(host, "rw")
    with pytest.raises(PermissionError):
        dirops.mknod(box.vfs, box.who, None, b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert not (host / "null").exists()
    box.vfs.close()


@pytest.mark.parametrize("kind", ["cow", "ro"])
def test_reading_leaves_access_times_alone(host: Path, kind: str) -> None:
    """Where nothing is to be written; in an rw bind they are kept as the host's mount says."""
    box = Box(host, kind)
    os.utime(host / "d/file", ns=(1, 2))
    os.utime(host / "d", ns=(1, 2))
    box.read("/d/file")
    box.list("/d")
    assert os.stat(host / "d/file").st_atime_ns == 1
    assert os.stat(host / "d").st_atime_ns == 1
    box.vfs.close()


def test_a_single_file(host: Path) -> None:
    box = Box(host, "cow")
    box.vfs.mount(HostFS(str(host / "script")), b"/d/file")
    assert box.read("/d/file") == b"#!/bin/sh\n" and box.read("/hard") == b"lower file\n"
    assert stat.S_IMODE(box.stat("/d/file")[2]) == 0o755
    box.vfs.close()


def test_descriptors_are_bounded_and_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for i in range(700):
        (tmp_path / f"dir{i}/sub").mkdir(parents=True)
    box = Box(tmp_path, "cow")
    for i in range(700):
        box.stat(f"/dir{i}/sub/..")
        box.write(f"/dir{i}/sub/f", b"%d" % i)
    assert len(os.listdir("/proc/self/fd")) < before + 520 + len(box.vfs.pool)
    for i in range(700):
        assert box.read(f"/dir{i}/sub/f") == b"%d" % i
    box.vfs.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_virtual_user_meets_the_hosts_modes(box: Box) -> None:
    (box.host / "d/file").chmod(0o600)
    (box.host / "d/e").chmod(0o700)
    box.who = LocalCaller(LocalFs(box.vfs.root), SimpleCreds(4321, 4321))
    with pytest.raises(PermissionError):
        box.read("/d/file")
    with pytest.raises(PermissionError):
        box.stat("/d/e/deep")
    with pytest.raises(PermissionError):
        box.write("/new", b"")


def test_listing_keeps_its_place_while_entries_come_and_go(box: Box) -> None:
    import struct

    def names(data: bytes) -> list[bytes]:
        found = []
        while data:
            length = struct.unpack_from("<H", data, 16)[0]
            found.append(data[19:length].rstrip(b"\0"))
            data = data[length:]
        return found

    for i in range(50):
        box.write(f"/empty/{i:02}", b"")
    place = box.vfs.lookup(box.who, None, b"/empty")
    listing = OpenDir(place, place.inode, 0)
    first = names(listing.getdents(600))
    box.write("/empty/later", b"")
    for name in first[2:]:
        box.unlink("/empty/" + name.decode())
    rest = []
    while data := listing.getdents(600):
        rest += names(data)
    assert first[:2] == [b".", b".."]
    assert {b"%02d" % i for i in range(50)} <= set(first + rest) and len(set(rest)) == len(rest)
    listing.seek(0, os.SEEK_SET)
    assert b"later" in names(listing.getdents(1 << 16))
    with pytest.raises(OSError) as failed:
        OpenDir(place, place.inode, 0).getdents(10)
    assert failed.value.errno == errno.EINVAL


def test_a_remembered_name_of_a_hard_link_outlives_the_others(any_box: Box) -> None:
    """The names of a busy directory are remembered; a file is still reached by the name it was looked up by."""
    (any_box.host / "busy").mkdir()
    (any_box.host / "busy/one").write_bytes(b"bytes")
    os.link(any_box.host / "busy/one", any_box.host / "busy/two")
    for _ in range(50):
        any_box.stat("/busy/one")
    any_box.stat("/busy/two")
    (any_box.host / "busy/two").unlink()
    any_box.vfs.lookup(any_box.who, None, b"/busy/one").inode.refresh()
    assert any_box.read("/busy/one") == b"bytes"


def test_a_file_that_its_owner_may_not_read_keeps_its_mode() -> None:
    """Only where writes are real may a mode be changed for an instant.  Seen as an ordinary user: root may read all."""
    if os.geteuid() == 0 and (reason := hostfacts.few_users()):
        pytest.skip(f"root cannot become an ordinary user: {reason}")

    def look(path: str) -> bool:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        box = Box(Path(path), "cow")
        before = os.stat(f"{path}/own").st_ctime_ns
        try:
            box.read("/own")
        except PermissionError:
            return os.stat(f"{path}/own").st_ctime_ns == before
        return False

    with tempfile.TemporaryDirectory() as path:  # that the ordinary user can reach
        os.chmod(path, 0o755)
        (Path(path) / "own").write_text("secret")
        if os.geteuid() == 0:
            os.chown(f"{path}/own", 65534, 65534)
        os.chmod(f"{path}/own", 0)
        child = os.fork()
        if not child:
            try:
                os._exit(0 if look(path) else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
