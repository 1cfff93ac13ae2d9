"""Open files of a PathFS: those that guests write, and large ones that are read in blocks.

Layer: vfs, the other half of pathfs.py. May touch: the node's memfd; the filesystem's read() and write().
"""

from __future__ import annotations

import os
from collections import OrderedDict

from .openfile import OpenFile
from .userwork import log

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from .mount import Path
    from .pathfs import PathNode

_BLOCK = 1 << 20
_BLOCKS = 16


class WriteFile(OpenFile):
    """An open file description that writes: to the memfd, and to write() when it is closed or synchronised."""

    __slots__ = ("_fd",)

    inode: PathNode

    def __init__(self, path: Path, inode: PathNode, flags: int) -> None:
        super().__init__(path, inode, flags)
        assert inode.data is not None
        self._fd = inode.data.open(os.O_RDWR)
        inode.writers.append(self)

    def pread(self, task: Any, count: int, offset: int) -> bytes:
        return os.pread(self._fd, count, offset)

    def write(self, task: Any, data: bytes) -> int:
        if self.flags & os.O_APPEND:
            self.pos = os.fstat(self._fd).st_size
        count = self.pwrite(task, data, self.pos)
        self.pos += count
        return count

    def pwrite(self, task: Any, data: bytes, offset: int) -> int:
        if self.flags & os.O_APPEND:
            offset = os.fstat(self._fd).st_size  # pwrite(2), "BUGS"
        self.inode.dirty = True
        return os.pwrite(self._fd, data, offset)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self.inode.dirty = True

    def mmap(self, length: int, offset: int, shared: bool, writable: bool) -> int:
        """Nobody tells us of writes through a shared mapping, nor of its end: they could not be stored."""
        if shared and writable:
            return super().mmap(length, offset, shared, writable)
        return self._fd

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        from ..kernel._libc import ffi

        self.inode.dirty = True
        if ffi.dlopen(None).fallocate(self._fd, mode, offset, length):
            raise OSError(ffi.errno, os.strerror(ffi.errno))

    def fsync(self) -> None:
        self.inode.flush()

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        os.close(fd)
        node = self.inode
        node.size = node.data.stat()[0] if node.data is not None else 0
        try:
            if self in node.writers:
                node.flush()
        except OSError as e:
            log(f"{node.sb.fstype}: {node.path} could not be stored when it was closed: {e.strerror}")
        finally:
            if self in node.writers:
                node.writers.remove(self)
            if not node.writers:
                node.data = None


class BlockFile(OpenFile):
    """A large file, read in blocks as they are asked for."""

    __slots__ = ("_blocks",)

    inode: PathNode

    def __init__(self, path: Path, inode: PathNode, flags: int) -> None:
        super().__init__(path, inode, flags)
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def pread(self, task: Any, count: int, offset: int) -> bytes | Awaitable[bytes]:
        number = offset // _BLOCK
        block = self._blocks.get(number)
        if block is not None:
            self._blocks.move_to_end(number)
            return block[offset % _BLOCK : offset % _BLOCK + count]
        sb = self.inode.sb
        if task is None:
            return self._cut(
                number, sb.call(sb.read, self.inode.path, number * _BLOCK, _BLOCK), count, offset
            )
        return self._later(number, count, offset)

    async def _later(self, number: int, count: int, offset: int) -> bytes:
        sb = self.inode.sb
        data = await sb.in_thread(sb.read, self.inode.path, number * _BLOCK, _BLOCK)
        return self._cut(number, data, count, offset)

    def _cut(self, number: int, data: str | bytes, count: int, offset: int) -> bytes:
        block = self._blocks[number] = data.encode() if isinstance(data, str) else bytes(data)
        if len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
        return block[offset % _BLOCK : offset % _BLOCK + count]
