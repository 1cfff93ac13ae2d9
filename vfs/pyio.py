"""A file that Python serves, as a Python file object: for TreePath.open().

Layer: top of the vfs, beside tree.py. May touch: the OpenFile that it is given, under the world's lock.
"""

from __future__ import annotations

import errno
import io
import os

from .inode import err

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

    from .openfile import OpenFile


class OpenFileIO(io.RawIOBase):
    """Unbuffered; its end releases the file. `name` is the guest's path."""

    def __init__(self, file: OpenFile, lock: AbstractContextManager[Any], name: str) -> None:
        super().__init__()
        self._file = file
        self._lock = lock
        self.name = name

    def _call(self, function: Any, *arguments: Any) -> Any:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        with self._lock:
            result = function(*arguments)
            if hasattr(result, "__await__"):
                result.close()
                raise err(errno.EAGAIN, os.fsencode(self.name))
            return result

    def readable(self) -> bool:
        return self._file.readable

    def writable(self) -> bool:
        return self._file.writable

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data: bytes = self._call(self._file.do_read, None, len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        count: int = self._call(self._file.do_write, None, bytes(data))
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        position: int = self._call(self._file.seek, offset, whence)
        return position

    def truncate(self, size: int | None = None) -> int:
        size = self._file.pos if size is None else size
        self._call(self._file.do_truncate, size)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            with self._lock:
                self._file.release()
