"""Devices in Python: what a character device node does when guests use it.

Layer: vfs, beside openfile.py. May touch: the Vfs's table of drivers; the user's object.
"""

from __future__ import annotations

import errno
import os
from inspect import iscoroutinefunction

from .inode import err
from .pollfile import PollFile
from .stat import S_IFCHR, makedev
from .userwork import call, in_thread

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from .inode import OpenContext
    from .openfile import OpenFile
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

    def poll(self, handle: Any) -> bool:
        """Is there something to read? Override it for a device that guests may wait for: they sleep in read(2) and
        poll(2) until it is true, and with O_NONBLOCK get EAGAIN. When it may have become true, call changed()."""
        return True

    def changed(self) -> None:
        """poll() may have another answer now. From any thread."""
        for file in list(self.__dict__.get("_opened", ())):
            file.look_again()

    def mmap(self, handle: Any, length: int, offset: int, writable: bool) -> int:
        """A host descriptor whose bytes from `offset` on are mapped: a memfd that you keep; ENODEV by default."""
        raise err(errno.ENODEV)

    def release(self, handle: Any) -> None:
        """The last descriptor was closed."""


class _OpenDevice(PollFile):
    """An open file description of a Device."""

    __slots__ = ("_device", "_handle", "_vfs")

    always_writable = True

    def __init__(self, ctx: OpenContext, device: Device, handle: Any) -> None:
        super().__init__(ctx.path, ctx.path.inode, ctx.flags)
        self._device = device
        self._handle = handle
        self._vfs = ctx.vfs
        device.__dict__.setdefault("_opened", []).append(self)

    @property
    def pollable(self) -> bool:  # type: ignore[override]
        return type(self._device).poll is not Device.poll

    def _do(self, task: Any, function: Any, *arguments: Any) -> Any:
        what = f"device {type(self._device).__name__}"
        if task is not None and (self._device.threaded or iscoroutinefunction(function)):
            return in_thread(self._vfs, call, what, function, self._handle, *arguments)
        return call(what, function, self._handle, *arguments)

    # -- readiness -------------------------------------------------------------------------------------------

    def placed(self) -> None:
        if self.pollable:
            self._look(None)

    def _look(self, task: Any) -> bool:
        """Ask the device, and let poll(2) know."""
        ready = bool(self._do(None, self._device.poll))
        if ready:
            self.has_data()
        elif task is not None:
            self.has_none(task)
        return ready

    def look_again(self) -> None:
        """Device.changed()"""
        loop: Any = self._vfs.files.loop
        if loop is not None and self.pollable:
            loop.call_soon_threadsafe(lambda: self.sup_fd >= 0 and self._look(None))

    async def _when_ready(self, task: Any, count: int, offset: int) -> bytes:
        while not self._look(task):
            await self.wait()
        data = self._do(task, self._device.read, count, offset)
        data = await data if hasattr(data, "__await__") else data
        self._look(task)
        return bytes(data[:count])

    # -- what a call does ------------------------------------------------------------------------------------

    def pread(self, task: Any, count: int, offset: int) -> bytes | Awaitable[bytes]:
        if self.pollable and task is not None:
            if self.flags & os.O_NONBLOCK and not self._look(task):
                raise err(errno.EAGAIN)
            return self._when_ready(task, count, offset)
        data = self._do(task, self._device.read, count, offset)
        if hasattr(data, "__await__"):
            return _cut(data, count)
        return bytes(data[:count])

    def pwrite(self, task: Any, data: bytes, offset: int) -> int | Awaitable[int]:
        count = self._do(task, self._device.write, data, offset)
        if self.pollable and not hasattr(count, "__await__"):
            self._look(task)
        if hasattr(count, "__await__"):
            return _counted(count, len(data))
        return len(data) if count is None else int(count)

    def seek(self, offset: int, whence: int) -> int:
        raise err(errno.ESPIPE)

    def truncate(self, size: int) -> None:
        raise err(errno.EINVAL)

    def ioctl(self, task: Any, command: int, argument: int) -> Any:
        from ..kernel.hooks.call import Memory

        memory = Memory(task.process.host_pid) if task is not None else None
        return self._do(task, self._device.ioctl, command, argument, memory)

    def mmap(self, length: int, offset: int, shared: bool, writable: bool) -> int:
        fd = self._do(None, self._device.mmap, length, offset, shared and writable)
        return int(fd)

    def release(self) -> None:
        self._device.__dict__.get("_opened", []).remove(self)
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
