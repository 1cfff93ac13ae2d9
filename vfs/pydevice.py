"""Devices in Python: what a character device node does when guests use it.

Layer: vfs, beside openfile.py. May touch: the Vfs's table of drivers; the user's object.
"""

from __future__ import annotations

import errno
from inspect import iscoroutinefunction

from .inode import err
from .openfile import OpenFile
from .stat import S_IFCHR, makedev
from .userwork import call, in_thread

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from .inode import OpenContext
    from .vfs import Vfs

__all__ = ["Device"]

_MAJOR = 240  # 240-254: local use (Documentation/admin-guide/devices.txt)


class Device:
    """Subclass it, and override what the device can do; `ring3.Sandbox.device()` makes its node.

    Each method may be `async`; then, and with `threaded = True`, it runs in a thread, and may take its time. An
    OSError reaches the guest with its errno. `handle` is what open() returned, None without one.
    """

    threaded = False

    def open(self, flags: int) -> Any:
        """A guest opens the device. An `int` is a host descriptor, which the guest gets as it is and which passes to
        it: a memfd that it maps, a pipe or eventfd that it polls. Anything else is handed to the other methods."""
        return None

    def read(self, handle: Any, size: int, offset: int) -> bytes:
        """At most `size` bytes; b"" is the end. `offset` counts what was read and written so far."""
        raise err(errno.EINVAL)

    def write(self, handle: Any, data: bytes, offset: int) -> int | None:
        """Take the bytes; returns how many (None: all)."""
        raise err(errno.EINVAL)

    def ioctl(self, handle: Any, command: int, argument: int, memory: Any) -> int:
        """`memory.read(address, size)` and `memory.write(address, data)` reach the guest's; ENOTTY by default."""
        raise err(errno.ENOTTY)

    def release(self, handle: Any) -> None:
        """The last descriptor was closed."""


class _OpenDevice(OpenFile):
    """An open file description of a Device."""

    __slots__ = ("_device", "_handle", "_vfs")

    def __init__(self, ctx: OpenContext, device: Device, handle: Any) -> None:
        super().__init__(ctx.path, ctx.path.inode, ctx.flags)
        self._device = device
        self._handle = handle
        self._vfs = ctx.vfs

    def _do(self, task: Any, function: Any, *arguments: Any) -> Any:
        what = f"device {type(self._device).__name__}"
        if task is not None and (self._device.threaded or iscoroutinefunction(function)):
            return in_thread(self._vfs, call, what, function, self._handle, *arguments)
        return call(what, function, self._handle, *arguments)

    def pread(self, task: Any, count: int, offset: int) -> bytes | Awaitable[bytes]:
        data = self._do(task, self._device.read, count, offset)
        if hasattr(data, "__await__"):
            return _cut(data, count)
        return bytes(data[:count])

    def pwrite(self, task: Any, data: bytes, offset: int) -> int | Awaitable[int]:
        count = self._do(task, self._device.write, data, offset)
        if hasattr(count, "__await__"):
            return _counted(count, len(data))
        return len(data) if count is None else int(count)

    def seek(self, offset: int, whence: int) -> int:
        raise err(errno.ESPIPE)

    def truncate(self, size: int) -> None:
        raise err(errno.EINVAL)

    def ioctl(self, task: Any, command: int, argument: int) -> Any:
        from ..kernel.hooks.call import Memory

        memory = Memory(task.process.pid) if task is not None else None
        return self._do(task, self._device.ioctl, command, argument, memory)

    def release(self) -> None:
        try:
            self._do(None, self._device.release)
        except OSError:
            pass  # nobody is there to be told; call() has logged what was no OSError


async def _cut(data: Awaitable[bytes], count: int) -> bytes:
    return bytes((await data)[:count])


async def _counted(count: Awaitable[int | None], size: int) -> int:
    taken = await count
    return size if taken is None else taken


def add_device(vfs: Vfs, path: bytes, device: Device, mode: int) -> None:
    """Make the node of a device and its driver. Raises OSError if the node cannot be made."""
    from .dirops import mknod

    minor = sum(1 for kind, _ in vfs.devices if kind == S_IFCHR)
    rdev = makedev(_MAJOR + (minor >> 8) % 15, minor & 0xFF)

    def driver(ctx: OpenContext) -> int | OpenFile:
        handle = call(f"device {type(device).__name__}", device.open, ctx.flags)
        if isinstance(handle, int) and not isinstance(handle, bool):
            return handle
        return _OpenDevice(ctx, device, handle)

    old, vfs.local.fs.umask = vfs.local.fs.umask, 0
    try:
        mknod(vfs, vfs.local, None, path, S_IFCHR | mode, rdev)
    finally:
        vfs.local.fs.umask = old
    vfs.devices[S_IFCHR, rdev] = driver
