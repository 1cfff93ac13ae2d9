"""Character devices that Python serves, used by real programs."""

from __future__ import annotations

import errno
import os
import stat
import threading
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
    with ring3.Sandbox(user=0) as box:
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


class Mailbox(Device):
    """Messages that come later, from another thread; a page of shared memory."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.memory = os.memfd_create("mailbox")
        os.ftruncate(self.memory, 8192)

    def poll(self, handle: Any) -> bool:
        return bool(self.messages)

    def read(self, handle: Any, size: int, offset: int) -> bytes:
        return self.messages.pop(0)[:size] if self.messages else b""

    def write(self, handle: Any, data: bytes, offset: int) -> None:
        """What is written comes back, a little later."""

        def deliver() -> None:
            self.messages.append(data.upper())
            self.changed()

        threading.Timer(0.01, deliver).start()

    def mmap(self, handle: Any, length: int, offset: int, writable: bool) -> int:
        if offset + length > 8192:
            raise OSError(errno.EINVAL, "beyond the end")
        return self.memory


def test_a_device_that_is_waited_for_and_mapped() -> None:
    script = """
import errno, mmap, os, select
fd = os.open("/dev/mail", os.O_RDWR | os.O_NONBLOCK)
p = select.poll(); p.register(fd, select.POLLIN | select.POLLOUT)
print(p.poll(0)[0][1] == select.POLLOUT)
try:
    os.read(fd, 10)
except BlockingIOError:
    print("nothing yet")
e = select.epoll(); e.register(fd, select.EPOLLIN)
print(e.poll(0))
os.write(fd, b"one")
print(len(e.poll(10)), os.read(fd, 10), e.poll(0))
os.set_blocking(fd, True)
os.write(fd, b"two")
print(os.read(fd, 10))                      # sleeps until it is there
print(select.select([fd], [fd], [], 0) == ([], [fd], []))
if not os.fork():
    os.write(fd, b"from a child"); os._exit(0)
print(select.select([fd], [], [], 10)[0] == [fd], os.read(fd, 100))
os.wait()
with mmap.mmap(fd, 4096, offset=4096) as m:
    print(m[:5])
    m[:3] = b"WAS"
with mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, offset=4096) as m:
    m[:3] = b"not"
for length, flags, prot in ((1 << 20, mmap.MAP_SHARED, mmap.PROT_READ),):
    try:
        mmap.mmap(fd, length, flags, prot)
    except OSError as x:
        print(errno.errorcode[x.errno])
ro = os.open("/dev/mail", os.O_RDONLY)
try:
    mmap.mmap(ro, 4096, mmap.MAP_SHARED, mmap.PROT_WRITE | mmap.PROT_READ)
except OSError as x:
    print(errno.errorcode[x.errno])
"""
    mail = Mailbox()
    os.pwrite(mail.memory, b"there", 4096)
    with ring3.Sandbox() as box:
        box.device("/dev/mail", mail)
        done = box.run(["/usr/bin/python3", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines() == [
        *("True", "nothing yet", "[]", "1 b'ONE' []", "b'TWO'", "True", "True b'FROM A CHILD'", "b'there'"),
        *("EINVAL", "EACCES"),
    ], done.stderr
    assert os.pread(mail.memory, 5, 4096) == b"WASre"
    os.close(mail.memory)
