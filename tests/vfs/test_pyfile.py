"""Calls on Python-backed descriptors: the same call on the host's object of the same kind is the oracle."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from procworld import World

from ring3.kernel import families, sys_pyfile
from ring3.kernel.handlers import HANDLERS, NATIVE, Out
from ring3.kernel.loop import Running
from ring3.kernel.table import BY_NAME
from ring3.kernel.task import FdRef
from ring3.vfs.openfile import OpenFile

assert families  # importing it registers the handlers

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
BUFFER = 4096
O_PATH = os.O_PATH


def native(name: str, *arguments: object) -> int:
    """The host's answer: its result, or -errno."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(_libc.syscall(BY_NAME[name].nr, *converted))
    return -ctypes.get_errno() if result < 0 else result


class Bench:
    """One world, a caller, and pairs (host descriptor, the world's) of the same kind of object."""

    def __init__(self) -> None:
        self.world = World()
        self.task = self.world.sleeper()
        self.memory = ctypes.create_string_buffer(BUFFER)
        self.address = ctypes.addressof(self.memory)
        self.pairs: dict[str, tuple[int, FdRef]] = {}
        for kind, path, flags in (
            ("directory", "/proc/sys", os.O_RDONLY | os.O_DIRECTORY),
            ("path", "/proc/sys", O_PATH),
            ("text", "/proc/sys/kernel/ostype", os.O_RDONLY),
        ):
            self.pairs[kind] = os.open(path, flags | os.O_CLOEXEC), self.ref(path, flags)

    def ref(self, path: str, flags: int) -> FdRef:
        file = self.world.open(self.task, path, flags)
        assert isinstance(file, OpenFile)
        return FdRef(1000, *file.ident, 0o140777)

    def call(self, name: str, *arguments: Any) -> int | Any:
        """Our answer in the kernel's form; what it writes to memory is written."""
        try:
            result = HANDLERS[name](self.task, *arguments)
            if hasattr(result, "send") and name in ("sendfile", "copy_file_range"):
                try:
                    result.send(None)
                except StopIteration as stop:
                    result = stop.value
        except OSError as e:
            return -(e.errno or 0)
        if isinstance(result, Out):
            for address, data in result.writes:
                ctypes.memmove(address, data, len(data))
            return result.ret
        return result

    def close(self) -> None:
        for fd, _ in self.pairs.values():
            os.close(fd)
        for record in list(self.world.vfs.files._known.values()):
            if isinstance(record, OpenFile):
                self.world.vfs.files.released(record)
        for fd in self.world._placeholders:
            os.close(fd)
        self.world.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    from ring3.kernel.task import Task

    monkeypatch.setattr(Task, "host_fd", lambda self, fd: os.dup(fd))
    monkeypatch.setattr(Task, "peek", lambda self, address, size: ctypes.string_at(address, size))
    made = Bench()
    yield made
    made.close()


B = "buffer"  # stands for the address of the shared buffer
CALLS: list[tuple[Any, ...]] = [
    ("read", B, 64), ("read", B, 0), ("pread64", B, 3, 1), ("pread64", B, 3, -1),
    ("pread64", B, 3, 1000), ("lseek", 0, 0), ("lseek", 2, 0), ("lseek", 0, 1), ("lseek", -1, 0),
    ("lseek", 0, 9), ("lseek", 1 << 40, 0), ("ftruncate", 0), ("ftruncate", -1),
    ("fallocate", 0, 0, 10), ("fallocate", 0, -1, 10), ("fallocate", 0, 0, 0), ("flock", 2),
    ("flock", 1 | 4), ("flock", 8), ("flock", 77), ("fcntl", 3, 0), ("fcntl", 4, os.O_NONBLOCK),
    ("fcntl", 4, os.O_DIRECT), ("fcntl", 1025, 0), ("fcntl", 1032, 0), ("fcntl", 99, 0),
    ("fcntl", 1034, 0), ("ioctl", 0x5401, B), ("ioctl", 0x541B, B), ("ioctl", 0x5460, B),
    ("ioctl", 0x12345, B), ("sync_file_range", 0, 0, 0), ("sync_file_range", 0, 0, 99),
    ("fadvise64", 0, 0, 1), ("fadvise64", 0, 0, 99), ("fadvise64", 0, -1, 1), ("readahead", 0, 10),
    ("vmsplice", B, 1, 0), ("syncfs",),
]  # fmt: skip


def differs(kind: str, name: str, arguments: tuple[Any, ...]) -> str | None:
    """Why our answer may be another one, None where it must be the same."""
    if name == "lseek" and kind == "directory" and (arguments[1] == 2 or arguments[0] > 1 << 32):
        return "offsets of a directory are opaque, and so is its end"
    if name == "ioctl" and arguments[0] == 0x5460 and kind != "path":
        return "the size itself"
    if name == "fcntl" and arguments[0] == 1034:
        return "F_GET_RW_HINT and its like: filesystems differ"
    return None


@pytest.mark.parametrize("kind", ["directory", "path", "text"])
@pytest.mark.parametrize("call", CALLS, ids=[" ".join(map(str, c)) for c in CALLS])
def test_answers_are_the_hosts(bench: Bench, kind: str, call: tuple[Any, ...]) -> None:
    name, *arguments = call
    reason = differs(kind, name, tuple(arguments))
    if reason is not None:
        pytest.skip(reason)
    real = [bench.address if a == B else a for a in arguments]
    fd, ref = bench.pairs[kind]
    expected = native(name, fd, *real)
    content = bench.memory.raw
    ctypes.memset(bench.address, 0, BUFFER)
    assert bench.call(name, ref, *real) == expected
    if name in ("read", "pread64") and expected > 0:
        assert bench.memory.raw[:expected] == content[:expected]


def iov(*parts: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<Qq", *part) for part in parts)


VECTORS: list[tuple[str, list[tuple[int, int]], int | None, tuple[int, ...]]] = [
    ("readv", [(0, 2), (100, 3)], None, ()),
    ("readv", [], None, ()),
    ("readv", [(0, -1)], None, ()),
    ("readv", [(0, 0), (5, 1)], None, ()),
    ("readv", [(0, 2)], 2000, ()),
    ("preadv", [(0, 2), (100, 3)], None, (1, 0)),
    ("preadv", [(0, 2)], None, (-1, 0)),
    ("preadv2", [(0, 2), (100, 30)], None, (1, 0, 0)),
    ("preadv2", [(0, 2)], None, (-1, 0, 0)),
    ("preadv2", [(0, 2)], None, (-2, 0, 0)),
    ("preadv2", [(0, 2)], None, (0, 0, 0x4000)),
    ("writev", [(0, 2)], None, ()),
    ("pwritev", [(0, 2)], None, (0, 0)),
    ("pwritev2", [(0, 2)], None, (0, 0, 0)),
]


@pytest.mark.parametrize("kind", ["directory", "path", "text"])
@pytest.mark.parametrize("vector", VECTORS, ids=[f"{v[0]} {v[1]} {v[3]}" for v in VECTORS])
def test_vectors(bench: Bench, kind: str, vector: tuple[Any, ...]) -> None:
    name, parts, count, rest = vector
    array = iov(*((bench.address + at, length) for at, length in parts))
    count = len(parts) if count is None else count
    fd, ref = bench.pairs[kind]
    expected = native(name, fd, array or ctypes.c_long(0), count, *rest)
    content = bench.memory.raw
    ctypes.memset(bench.address, 0, BUFFER)
    assert bench.call(name, ref, array or None, count, *rest) == expected
    assert bench.memory.raw == content


def test_writev_gathers(bench: Bench) -> None:
    ref = bench.ref("/proc/self/comm", os.O_RDWR)
    ctypes.memmove(bench.address, b"abXXcd", 6)
    array = iov((bench.address, 2), (0, 0), (bench.address + 4, 2))
    assert bench.call("writev", ref, array, 3) == 4
    assert bench.world.read(bench.task, "/proc/self/comm") == b"abcd\n"


def test_writing_what_cannot_be_written(bench: Bench) -> None:
    for kind in ("directory", "path", "text"):
        fd, ref = bench.pairs[kind]
        assert bench.call("write", ref, b"x", 1) == native("write", fd, b"x", 1) == -errno.EBADF
        assert bench.call("pwrite64", ref, b"x", 1, 0) == native("pwrite64", fd, b"x", 1, 0) == -errno.EBADF
    ref = bench.ref("/proc/self/comm", os.O_WRONLY)
    assert bench.call("write", ref, None, 3) == -errno.EFAULT
    assert bench.call("read", ref, bench.address, 3) == -errno.EBADF


def test_flags_of_a_description(bench: Bench) -> None:
    ref = bench.ref("/proc/self/comm", os.O_RDWR)
    large = 0o100000
    assert bench.call("fcntl", ref, 3, 0) == os.O_RDWR | large
    assert bench.call("fcntl", ref, 4, os.O_APPEND | os.O_NONBLOCK | os.O_RDONLY) == 0
    assert bench.call("fcntl", ref, 3, 0) == os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | large
    struct.pack_into("<i", bench.memory, 0, 0)
    assert bench.call("ioctl", ref, 0x5421, bench.address) == 0  # FIONBIO off
    assert bench.call("fcntl", ref, 3, 0) == os.O_RDWR | os.O_APPEND | large


def test_flags_of_the_descriptor_are_the_hosts(bench: Bench) -> None:
    _, ref = bench.pairs["directory"]
    for command in (0, 1, 2, 1030):
        assert bench.call("fcntl", ref, command, 0) is NATIVE
    assert bench.call("ioctl", ref, 0x5451, 0) is NATIVE


def test_native_descriptors_stay_native(bench: Bench) -> None:
    st = os.stat("/")
    ref = FdRef(3, st.st_dev, st.st_ino, st.st_mode)
    for name, *arguments in CALLS:
        valid = not any(isinstance(a, int) and a < 0 for a in arguments) and arguments != [77]
        if name != "syncfs" and valid:
            assert bench.call(name, ref, *(0 if a == B else a for a in arguments)) is NATIVE, name
    assert bench.call("sendfile", ref, ref, 0, 1) is NATIVE


def test_calls_between_two_descriptors(bench: Bench) -> None:
    read_end, write_end = os.pipe()
    target = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    st = os.fstat(target)
    native_ref = FdRef(target, 0, st.st_ino, st.st_mode)
    _, text = bench.pairs["text"]
    _, directory = bench.pairs["directory"]
    _, path = bench.pairs["path"]
    # What makes cat(1) and its like fall back on read(2) and write(2).
    assert bench.call("sendfile", native_ref, text, 0, 10) == -errno.EINVAL
    assert bench.call("copy_file_range", text, 0, native_ref, 0, 10, 0) == -errno.EINVAL
    assert bench.call("splice", text, 0, native_ref, 0, 10, 0) == -errno.EINVAL
    fd = bench.pairs["directory"][0]
    scratch = os.memfd_create("scratch")
    for source, ours in ((fd, directory), (bench.pairs["path"][0], path)):
        expected = native("copy_file_range", source, 0, scratch, 0, 10, 0)
        assert bench.call("copy_file_range", ours, 0, native_ref, 0, 10, 0) == expected
        expected = native("sendfile", scratch, source, 0, 10)
        assert bench.call("sendfile", native_ref, ours, 0, 10) == expected
        expected = native("sendfile", source, scratch, 0, 10)
        assert bench.call("sendfile", ours, native_ref, 0, 10) == expected
    assert bench.call("getsockopt", directory, 1, 3, 0, 0) == -errno.ENOTSOCK
    assert bench.call("recvmsg", path, 0, 0) == -errno.EBADF
    for number in (read_end, write_end, target, scratch):
        os.close(number)


def test_flock_is_between_descriptions(bench: Bench) -> None:
    first, second = (bench.ref("/proc/sys", os.O_RDONLY | os.O_DIRECTORY) for _ in range(2))
    other = bench.ref("/proc/sys/vm", os.O_RDONLY | os.O_DIRECTORY)
    assert bench.call("flock", first, 2) == 0
    assert bench.call("flock", second, 1 | 4) == -errno.EAGAIN
    assert bench.call("flock", other, 2 | 4) == 0
    assert bench.call("flock", first, 1) == 0  # converted
    assert bench.call("flock", second, 1 | 4) == 0
    assert bench.call("flock", first, 2 | 4) == -errno.EAGAIN
    # The failed conversion has cost the first lock (flock(2)), so the second may have it all.
    assert bench.call("flock", second, 2 | 4) == 0


def test_flock_waits_until_the_last_holder_goes(bench: Bench) -> None:
    first, second = (bench.ref("/proc/sys", os.O_RDONLY | os.O_DIRECTORY) for _ in range(2))
    assert bench.call("flock", first, 2) == 0
    results: list[Any] = []
    Running(bench.call("flock", second, 2), lambda value, failure: results.append((value, failure)))
    assert results == []
    holder = bench.world.vfs.files.open_file(first.dev, first.ino)
    assert holder is not None
    bench.world.vfs.files.released(holder)  # killed, say
    assert results == [(0, None)]
    third = bench.ref("/proc/sys", os.O_RDONLY | os.O_DIRECTORY)
    assert bench.call("flock", third, 1 | 4) == -errno.EAGAIN


def test_a_long_text_comes_in_pieces_that_fit_the_channel(bench: Bench) -> None:
    ref = bench.ref("/proc/self/smaps", os.O_RDONLY)
    big = ctypes.create_string_buffer(1 << 20)
    count = bench.call("read", ref, ctypes.addressof(big), 1 << 20)
    assert 0 < count <= sys_pyfile.CHUNK
    parts = [(ctypes.addressof(big) + i * 16, 16) for i in range(1000)]
    ref = bench.ref("/proc/self/smaps", os.O_RDONLY)
    result = HANDLERS["readv"](bench.task, ref, iov(*parts), 1000)
    assert isinstance(result, Out) and len(result.writes) <= 32 and result.ret == 512
