"""Character devices that Python serves, used by real programs."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import pytest

import ring3
from ring3.vfs.pydevice import Device


class Upper(Device):
    """Gives back in capitals what was written to it; each opening has its own buffer."""

    def __init__(self) -> None:
        self.released = 0

    def open(self, flags: int) -> bytearray:
        return bytearray()

    def read(self, handle: bytearray, size: int, offset: int) -> bytes:
        data = bytes(handle[:size])
        del handle[:size]
        return data

    def write(self, handle: bytearray, data: bytes, offset: int) -> int:
        if data == b"bad":
            raise OSError(errno.EDOM, "no")
        handle += data.upper()
        return len(data)

    def ioctl(self, handle: bytearray, command: int, argument: int, memory: Any) -> int:
        if command == 0x1234:
            memory.write(argument, len(handle).to_bytes(4, "little"))
            return 7
        raise OSError(errno.ENOTTY, "no")

    def release(self, handle: bytearray) -> None:
        self.released += 1


SCRIPT = """
import array, errno, fcntl, os, select
fd = os.open("/dev/upper", os.O_RDWR)
print(os.write(fd, b"hello"))
size = array.array("i", [0])
print(fcntl.ioctl(fd, 0x1234, size), size[0])
print(os.read(fd, 3), os.read(fd, 100), os.read(fd, 100))
for call in (lambda: os.write(fd, b"bad"), lambda: fcntl.ioctl(fd, 1), lambda: os.lseek(fd, 0, 0)):
    try:
        call()
    except OSError as e:
        print(errno.errorcode[e.errno])
"""


def test_a_device() -> None:
    upper = Upper()
    with ring3.Sandbox() as box:
        box.device("/dev/upper", upper, 0o600)
        st = (box.root / "dev/upper").stat()
        assert stat.S_ISCHR(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o600 and st.st_rdev
        done = box.run(["/usr/bin/python3", "-c", SCRIPT], capture_output=True, text=True)
        assert done.stdout == "5\n7 5\nb'HEL' b'LO' b''\nEDOM\nENOTTY\nESPIPE\n", done.stderr
        with pytest.raises(ring3.SandboxError):
            box.device("/dev/upper", upper)
    assert upper.released == 1


class Slow(Device):
    async def read(self, handle: Any, size: int, offset: int) -> bytes:  # type: ignore[override]
        import asyncio

        await asyncio.sleep(0)
        return b"" if offset else b"from a coroutine\n"


class Mapped(Device):
    """Shared memory, which a host descriptor is."""

    def __init__(self) -> None:
        self.memory = os.memfd_create("device")
        os.ftruncate(self.memory, 4096)

    def open(self, flags: int) -> int:
        return os.open(f"/proc/self/fd/{self.memory}", flags & os.O_ACCMODE | os.O_CLOEXEC)


class Bell(Device):
    """Something to wait for: a pipe."""

    def open(self, flags: int) -> int:
        read, write = os.pipe()
        os.write(write, b"ding")
        os.close(write)
        return read


def test_async_mapped_and_polled_devices() -> None:
    mapped = Mapped()
    os.pwrite(mapped.memory, b"from-python", 0)
    script = """
import mmap, os, select
print(open("/dev/slow").read(), end="")
with open("/dev/mapped", "r+b", 0) as f, mmap.mmap(f.fileno(), 4096) as m:
    print(m[:11])
    m[:5] = b"GUEST"
fd = os.open("/dev/bell", os.O_RDONLY)
p = select.poll(); p.register(fd, select.POLLIN)
print(p.poll(5000)[0][1] & select.POLLIN, os.read(fd, 10))
"""
    with ring3.Sandbox() as box:
        for name, device in (("slow", Slow()), ("mapped", mapped), ("bell", Bell())):
            box.device(f"/dev/{name}", device)
        done = box.run(["/usr/bin/python3", "-c", script], capture_output=True, text=True)
    assert done.stdout == "from a coroutine\nb'from-python'\n1 b'ding'\n", done.stderr
    assert os.pread(mapped.memory, 11, 0) == b"GUESTpython"
    os.close(mapped.memory)
