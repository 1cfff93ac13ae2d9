"""MemoryFS with size= and nr_inodes=: the limits hold, room comes back, idle files cost nothing."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from vfsworlds import VfsWorld, limited

import ring3
from ring3.vfs.memfs import MemoryFS, parse_size
from ring3.vfs.openfile import OpenDir
from ring3.vfs.tree import TreePath
from ring3.vfs.vfs import Vfs

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def root() -> Iterator[TreePath]:
    vfs = Vfs(limited(size="1m"))
    yield TreePath(vfs)
    vfs.close()


def full(root: TreePath, name: str, size: int) -> int:
    """Write until it fails with ENOSPC; returns how many bytes were taken."""
    done = 0
    with (root / name).open("wb", 0) as f:
        try:
            while done < size:
                done += f.write(bytes(min(65536, size - done)))
        except OSError as e:
            assert e.errno == errno.ENOSPC
    return done


def test_the_size_holds(root: TreePath) -> None:
    assert full(root, "a", 2 << 20) == 1 << 20
    assert full(root, "b", 4096) == 0
    assert (root / "b").stat().st_size == 0
    (root / "a").unlink()
    assert full(root, "b", 2 << 20) == 1 << 20
    assert (root / "b").read_bytes() == bytes(1 << 20)


def test_room_comes_back_when_the_last_user_closes(root: TreePath) -> None:
    f = (root / "a").open("wb", 0)
    f.write(bytes(1 << 20))
    (root / "a").unlink()
    assert full(root, "b", 4096) == 0
    f.close()
    assert full(root, "b", 4096) == 4096


def test_an_idle_file_can_be_told_from_one_in_use(root: TreePath) -> None:
    (root / "f").write_bytes(b"x")
    vfs = root._vfs
    for mode in ("rb", "r+b"):
        with (root / "f").open(mode) as f:
            vfs.pool.sweep(0)
            assert len(vfs.pool) == 1
            mapped = mmap.mmap(f.fileno(), 1, prot=mmap.PROT_READ)
        vfs.pool.sweep(0)
        assert len(vfs.pool) == 1  # the mapping alone
        mapped.close()
        vfs.pool.sweep(0)
        assert len(vfs.pool) == 0


def test_statfs_and_options(root: TreePath) -> None:
    sb = root._vfs.root.mount.sb
    before = sb.statfs()
    assert before.blocks == 256 and before.bfree == 256
    full(root, "a", 40960)
    assert sb.statfs().bfree == 246
    assert sb.options == "size=1024k,mode=755"  # as tmpfs: the mode where it is not 1777
    assert MemoryFS(nr_inodes="2k").options == "nr_inodes=2048"


def test_files_keep_their_bytes_and_times_while_idle(root: TreePath) -> None:
    vfs = root._vfs
    for n in range(50):
        (root / f"f{n}").write_bytes(b"%d" % n)
    before = {p.name: p.stat() for p in root.iterdir()}
    assert vfs.pool.sweep(0) == 50 and len(vfs.pool) == 0
    for p in root.iterdir():
        st = p.stat()
        assert (st.st_size, st.st_mtime_ns, st.st_blocks) == (
            before[p.name].st_size,
            before[p.name].st_mtime_ns,
            before[p.name].st_blocks,
        )
        assert p.read_bytes() == p.name[1:].encode()
    (root / "f1").write_bytes(b"")
    vfs.pool.sweep(0)
    assert (root / "f1").stat().st_size == 0
    with (root / "f2").open("ab") as f:
        f.write(b"more")
    assert (root / "f2").read_bytes() == b"2more"


def test_nr_inodes() -> None:
    vfs = Vfs(MemoryFS(nr_inodes=4))  # the root is one
    root = TreePath(vfs)
    (root / "d").mkdir()
    (root / "l").symlink_to("x")
    (root / "f").write_bytes(b"")
    for make in (
        lambda: (root / "g").touch(),
        lambda: (root / "e").mkdir(),
        lambda: (root / "m").symlink_to("x"),
    ):
        with pytest.raises(OSError) as e:
            make()
        assert e.value.errno == errno.ENOSPC
    (root / "g").hardlink_to(root / "f")
    (root / "l").unlink()
    (root / "e").mkdir()
    assert sorted(p.name for p in root.iterdir()) == ["d", "e", "f", "g"]
    vfs.close()


def test_the_contract_with_a_limit() -> None:
    from test_contract import SCENARIOS, compare

    for name in ("hard links", "truncate", "rename file over file", "name reuse", "xattrs"):
        options = {} if name != "truncate" else {"size": 1 << 41}
        world = VfsWorld(limited(**{"size": "1m", "uid": os.geteuid(), "gid": os.getegid(), **options}))
        try:
            assert name in SCENARIOS
            compare(world, name)
        finally:
            world.close()


@pytest.mark.parametrize(
    ("text", "value"), [("4096", 4096), ("1k", 1024), ("2M", 2 << 20), ("1g", 1 << 30), (5, 5), ("0x10", 16)]
)
def test_sizes(text: int | str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1q"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize("folders", [10, pytest.param(100, marks=pytest.mark.long)])
def test_many_small_files(folders: int) -> None:
    """100,000 files of 1 KiB in at most 1.5 GiB (15 KiB each), and no descriptor for an idle file: in a process of
    its own, whose memory is measured."""
    code = f"""
FOLDERS = {folders}
import os
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.tree import TreePath
from ring3.vfs.vfs import Vfs
vfs = Vfs(MemoryFS())
root = TreePath(vfs)
for d in range(FOLDERS):
    (root / f"d{{d}}").mkdir()
    for n in range(1000):
        (root / f"d{{d}}/f{{n}}").write_bytes(b"x" * 1024)
vfs.pool.sweep(0)
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(len(os.listdir("/proc/self/fd")), peak[0])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    descriptors, kilobytes = map(int, done.stdout.split())
    assert descriptors < 32
    assert kilobytes < folders * 1000 * 15 + 50_000


def test_a_big_directory_is_read_in_linear_time() -> None:
    """Counted, not timed: each entry of the listing is touched once in all calls together."""

    class Counting(list):  # type: ignore[type-arg]
        touched = 0

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            Counting.touched += 1 if isinstance(index, int) else len(range(*index.indices(len(self))))
            return super().__getitem__(index)

    vfs = Vfs(MemoryFS())
    root = TreePath(vfs)
    for n in range(2000):
        (root / f"f{n}").touch()
    directory = OpenDir(vfs.root, vfs.root.inode, os.O_RDONLY)
    directory.getdents(100)
    directory._entries = Counting(directory.listing())
    while directory.getdents(512):
        pass
    assert 2000 <= Counting.touched <= 3000
    vfs.close()


def test_where_no_size_can_be_enforced_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int) -> int:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr("ring3.vfs.shm._mount", refuse)
    monkeypatch.setattr("ring3.vfs.shm._mount_by_helper", refuse)
    with pytest.raises(OSError, match="user namespaces") as e:
        MemoryFS(size="1m")
    assert e.value.errno == errno.EOPNOTSUPP
    MemoryFS(nr_inodes=10)
    box = ring3.Sandbox(None)
    with pytest.raises(ring3.SandboxError, match="user namespaces"):
        box.mount_tmpfs("/mnt", size="1m")
    box.close()


def test_an_ordinary_user_s_way_works_too() -> None:
    """The helper in a user namespace, which root does not need."""
    from ring3.vfs import shm

    try:
        fd = shm._mount_by_helper(65536)
    except OSError as e:
        pytest.skip(f"this host refuses user namespaces: {e}")
    try:
        assert os.fstatvfs(fd).f_blocks == 16 and not os.get_inheritable(fd)
    finally:
        os.close(fd)
