"""ring3.vfs.contract, which users run on their own filesystems: on all of ours, in every mode of mounting, and on
Linux's own."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import hostfacts
import pytest
from contractworlds import FILLED, PLAIN, UNIX, forget, mounted, standard_tree
from vfsworlds import populate, remove_tree, shared_memory_dir

from ring3.vfs import attrops
from ring3.vfs.contract import CHECKS, fails, run_check
from ring3.vfs.contract_more import READING_CHECKS, UNIX_CHECKS, read_only
from ring3.vfs.inode import SuperBlock
from ring3.vfs.mount import MNT_NOATIME, MNT_NODEV, MNT_NOEXEC, MNT_NOSYMFOLLOW, MNT_RDONLY, MNT_RELATIME
from ring3.vfs.stat import S_IFCHR, makedev
from ring3.vfs.tree import TreePath

ALL_CHECKS = CHECKS | UNIX_CHECKS
#: In /sys the size of every file is a page, on Linux too; /proc/self leads nowhere for who is no guest.
NOT_ASKED = {("sys", "contents_and_sizes"), ("proc", "symlinks_are_read")}
MODES = {"relatime": MNT_RELATIME, "noatime": MNT_NOATIME, "nodev": MNT_NODEV, "noexec": MNT_NOEXEC}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "top").mkdir()
    return tmp_path


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    path = shared_memory_dir()
    yield Path(path)
    remove_tree(path)


@pytest.mark.parametrize("check", ALL_CHECKS)
def test_linux_itself(check: str, tmpfs: Path) -> None:
    ALL_CHECKS[check](tmpfs)


@pytest.mark.parametrize("check", READING_CHECKS)
def test_a_tree_of_linux(check: str, tmpfs: Path) -> None:
    populate(tmpfs)
    READING_CHECKS[check](tmpfs)


@pytest.fixture(params=[*UNIX])
def unix(request: pytest.FixtureRequest, top: Path) -> Iterator[Callable[[], SuperBlock]]:
    yield lambda: UNIX[request.param](top)
    forget(request.param, top)


@pytest.mark.parametrize("check", ALL_CHECKS)
def test_whole_filesystems(check: str, unix: Callable[[], SuperBlock]) -> None:
    run_check(ALL_CHECKS[check], unix)


@pytest.mark.parametrize("mode", [m for m in MODES if m != "relatime"])
@pytest.mark.parametrize("name", UNIX)
def test_mount_modes_change_nothing_else(mode: str, name: str, top: Path) -> None:
    for check in ("contents", "directories", "renaming", "hard_links", "modes_and_times"):
        place = top / check
        (place / "top").mkdir(parents=True)
        run_check(ALL_CHECKS[check], lambda place=place: UNIX[name](place), MODES[mode])  # type: ignore[misc]
        forget(name, place)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", PLAIN)
def test_python_filesystems(check: str, name: str, top: Path) -> None:
    run_check(check, lambda: PLAIN[name](top))
    forget(name, top)


@pytest.mark.parametrize("check", READING_CHECKS)
@pytest.mark.parametrize("name", FILLED)
def test_filled_trees(check: str, name: str, top: Path) -> None:
    run_check(READING_CHECKS[check], lambda: FILLED[name](top))


@pytest.mark.parametrize("check", READING_CHECKS)
@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_generated_trees(check: str, name: str) -> None:
    if (name, check) in NOT_ASKED:
        return
    with standard_tree(name) as tree:
        READING_CHECKS[check](tree)


@pytest.mark.parametrize("name", FILLED)
def test_mounted_read_only(name: str, top: Path) -> None:
    run_check(read_only, lambda: FILLED[name](top), MNT_RDONLY | MNT_RELATIME)


@pytest.mark.parametrize("name", UNIX)
def test_mounted_nodev_noexec_nosymfollow(name: str, top: Path) -> None:
    if name in ("rw", "oci") and (reason := hostfacts.no_device_nodes()):
        pytest.skip(reason)
    vfs, tree = mounted(UNIX[name], top, MNT_RELATIME)
    try:
        (tree / "script").write_bytes(b"#!/bin/sh\n")
        (tree / "script").chmod(0o755)
        (tree / "link").symlink_to("script")
        where = vfs.lookup(vfs.local, None, b"/m/script")
        attrops.access(vfs.local.creds, where, 1)
        from ring3.vfs.dirops import mknod

        if name not in ("rw", "oci"):
            mknod(vfs, vfs.local, None, b"/m/null", S_IFCHR | 0o666, makedev(1, 3))
            where.mount.flags |= MNT_NODEV
            fails(errno.EACCES, lambda: vfs.open(vfs.local, None, b"/m/null", os.O_RDONLY))
        where.mount.flags |= MNT_NOEXEC | MNT_NOSYMFOLLOW
        fails(errno.EACCES, lambda: attrops.access(vfs.local.creds, where, 1))
        assert not vfs.may_exec_mount(where)
        fails(errno.ELOOP, (tree / "link").read_bytes)
        assert stat.S_ISLNK((tree / "link").lstat().st_mode)
    finally:
        vfs.close()
        forget(name, top)


@pytest.mark.parametrize("name", UNIX)
def test_access_times_follow_the_mount(name: str, top: Path) -> None:
    """relatime: once after a change; noatime: never (mount(8))."""
    vfs, tree = mounted(UNIX[name], top, MNT_RELATIME)

    def listed(folder: TreePath) -> int:
        before = folder.stat().st_atime_ns
        place = folder._place()
        from ring3.vfs.openfile import OpenDir

        OpenDir(place, place.inode, os.O_RDONLY).getdents(4096)
        return folder.stat().st_atime_ns - before

    try:
        (tree / "d").mkdir()
        (tree / "d/x").write_bytes(b"")
        place = vfs.lookup(vfs.local, None, b"/m/d")
        attrops.utimes(vfs, vfs.local, place, (1, 0, 2, 0))
        place.mount.flags = MNT_NOATIME
        assert listed(tree / "d") == 0
        place.mount.flags = MNT_RELATIME
        assert listed(tree / "d") > 0
        while (tree / "d").stat().st_atime_ns <= (tree / "d").stat().st_ctime_ns:
            listed(tree / "d")  # within one tick of the clock every reading counts
        assert listed(tree / "d") == 0
    finally:
        vfs.close()
        forget(name, top)
