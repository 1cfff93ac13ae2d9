"""The bytes of in-memory files: memfds while in use, plain bytes when idle, and nothing is ever lost."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Iterator

import pytest

from ring3.vfs import attrops, dirops
from ring3.vfs.memdata import MemData, MemfdPool
from ring3.vfs.memfd import is_idle, new_memfd
from ring3.vfs.memfs import MemFile, MemoryFS
from ring3.vfs.vfs import Vfs


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def vfs() -> Iterator[Vfs]:
    gc.collect()  # other tests' garbage may hold some
    before = open_fds()
    made = Vfs(MemoryFS(mode=0o755))
    yield made
    made.close()
    assert open_fds() == before, "descriptors were left open"


def open_file(vfs: Vfs, name: bytes, flags: int) -> int:
    place, opened = vfs.open(vfs.local, None, name, flags, 0o644)
    assert isinstance(opened, int)
    return vfs.handle(place, opened)


def data_of(vfs: Vfs, name: bytes) -> MemData:
    inode = vfs.lookup(vfs.local, None, name).inode
    assert isinstance(inode, MemFile)
    return inode.data


def test_idle_is_told_apart_from_every_kind_of_use() -> None:
    fd = new_memfd()
    os.ftruncate(fd, 4096)
    try:
        assert is_idle(fd)
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            other = os.open(f"/proc/self/fd/{fd}", flags)
            assert not is_idle(fd)
            os.close(other)
            assert is_idle(fd)
        other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        mapping = mmap.mmap(other, 4096, prot=mmap.PROT_READ)
        os.close(other)
        assert not is_idle(fd), "a mapping is a use"
        mapping.close()
        assert is_idle(fd)
    finally:
        os.close(fd)


def test_a_descriptor_in_flight_is_a_use() -> None:
    import socket

    fd = new_memfd()
    a, b = socket.socketpair()
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    socket.send_fds(a, [b"x"], [other])
    os.close(other)
    assert not is_idle(fd)
    a.close()
    b.close()
    assert is_idle(fd)
    os.close(fd)


def test_idle_files_become_bytes_and_come_back(vfs: Vfs) -> None:
    vfs.pool.limit = vfs.pool._threshold = 20
    for i in range(100):
        fd = open_file(vfs, b"/f%d" % i, os.O_CREAT | os.O_RDWR)
        os.write(fd, b"content %d" % i)
        os.close(fd)
    assert len(vfs.pool) <= 21
    for i in range(100):
        st = vfs.lookup(vfs.local, None, b"/f%d" % i).inode.getattr()
        assert st.size == len(b"content %d" % i) and st.blocks == 8
        fd = open_file(vfs, b"/f%d" % i, os.O_RDONLY)
        assert os.read(fd, 100) == b"content %d" % i
        os.close(fd)
    assert len(vfs.pool) <= 21
    assert len(vfs.files) <= 21, "records of idle files have to go too"


def test_open_files_are_never_taken_away(vfs: Vfs) -> None:
    vfs.pool.limit = vfs.pool._threshold = 4
    fds = []
    for i in range(30):
        fds.append(open_file(vfs, b"/f%d" % i, os.O_CREAT | os.O_RDWR))
    for i, fd in enumerate(fds):
        os.write(fd, b"%d" % i)
    vfs.pool.sweep(0)
    for i, fd in enumerate(fds):
        again = open_file(vfs, b"/f%d" % i, os.O_RDONLY)
        assert os.read(again, 10) == b"%d" % i
        assert os.fstat(again).st_ino == os.fstat(fd).st_ino
        os.close(again)
        os.close(fd)


def test_times_survive(vfs: Vfs) -> None:
    fd = open_file(vfs, b"/f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x")
    os.close(fd)
    place = vfs.lookup(vfs.local, None, b"/f")
    attrops.utimes(vfs, vfs.local, place, (10, 11, 20, 21))
    before = place.inode.getattr()
    vfs.pool.sweep(0)
    assert len(vfs.pool) == 0
    for _ in range(2):
        st = place.inode.getattr()
        assert (st.atime, st.mtime, st.ctime) == (10_000_000_011, 20_000_000_021, before.ctime)
        os.close(open_file(vfs, b"/f", os.O_RDWR))  # a memfd again
    fd = open_file(vfs, b"/f", os.O_WRONLY)
    os.write(fd, b"y")
    os.close(fd)
    st = place.inode.getattr()
    assert st.mtime > 20_000_000_021 and st.ctime >= before.ctime


def test_sparse_and_big_files_stay(vfs: Vfs) -> None:
    fd = open_file(vfs, b"/sparse", os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 1 << 40)
    os.close(fd)
    fd = open_file(vfs, b"/big", os.O_CREAT | os.O_RDWR)
    os.write(fd, bytes(3 << 20))
    os.close(fd)
    vfs.pool.sweep(0)
    assert len(vfs.pool) == 2
    vfs.pool.sweep(0, hard=True)
    assert len(vfs.pool) == 1, "the big one goes when descriptors are short, the hole is never filled"
    assert vfs.lookup(vfs.local, None, b"/big").inode.getattr().size == 3 << 20


def test_removed_files_are_freed_when_the_last_user_closes(vfs: Vfs) -> None:
    fd = open_file(vfs, b"/f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"still here")
    dirops.unlink(vfs, vfs.local, None, b"/f")
    record = vfs.record_of(os.fstat(fd).st_dev, os.fstat(fd).st_ino)
    assert record is not None and record.inode.getattr().nlink == 0 and record.inode.getattr().size == 10
    assert vfs.path_name(record.path) == b"/f (deleted)"
    vfs.pool.reap()
    assert os.pread(fd, 10, 0) == b"still here" and len(vfs.pool) == 1
    os.close(fd)
    vfs.pool.reap()
    assert len(vfs.pool) == 0 and len(vfs.files) == 0


def test_unlinking_a_closed_file_frees_it_at_once(vfs: Vfs) -> None:
    fd = open_file(vfs, b"/f", os.O_CREAT | os.O_RDWR)
    os.close(fd)
    dirops.unlink(vfs, vfs.local, None, b"/f")
    assert len(vfs.pool) == 0


def test_tmpfile(vfs: Vfs) -> None:
    dirops.mkdir(vfs, vfs.local, None, b"/d", 0o755)
    for flags, linkable in ((os.O_TMPFILE | os.O_RDWR, True), (os.O_TMPFILE | os.O_RDWR | os.O_EXCL, False)):
        place, opened = vfs.open(vfs.local, None, b"/d", flags, 0o600)
        assert isinstance(opened, int)
        fd = vfs.handle(place, opened)
        os.write(fd, b"tmp")
        assert place.inode.getattr().nlink == 0
        if linkable:
            dirops.link(vfs, vfs.local, place, None, b"/d/named")
            os.close(fd)
            vfs.pool.reap()
            assert data_of(vfs, b"/d/named").read() == b"tmp"
        else:
            with pytest.raises(FileNotFoundError):
                dirops.link(vfs, vfs.local, place, None, b"/d/other")
            os.close(fd)
    vfs.pool.reap()
    assert len(vfs.pool) == 1


def test_sealing_is_refused_as_on_tmpfs(vfs: Vfs) -> None:
    import fcntl

    fd = open_file(vfs, b"/f", os.O_CREAT | os.O_RDWR)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(fd)


def test_no_descriptors_left(vfs: Vfs) -> None:
    """RLIMIT_NOFILE is reached: idle files are turned into bytes, and the open succeeds."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pool = MemfdPool(limit=1 << 20)
    used = open_fds()
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
    try:
        kept = []
        for i in range(100):
            data = MemData(pool, 0)
            os.pwrite(data.fd(), b"%d" % i, 0)
            kept.append(data)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [d.read() for d in kept] == [b"%d" % i for i in range(100)]
    pool.close()
