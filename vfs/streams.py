"""Bytes of archives at any offset: of a host file, of a part of one, and of what they hold compressed.

Layer: vfs, beneath archive.py. May touch: host files it is given, an unnamed temporary file; nothing else.

A *source* has pread(count, offset), `size` and close(). gzip, which most layers and archives are compressed
with, is read lazily: on the first pass a copy of the decoder is kept every _SPAN bytes, and a later read starts from
the nearest one (the idea of zlib's examples/zran.c). bzip2, xz and zstd cannot be entered in the middle: they are
unpacked once into a temporary file without a name.

Bombs: a source never gives more than `limit` bytes, by default 1 GiB and 256 times what it is made from.
"""

from __future__ import annotations

import errno
import io
import os

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Source(Protocol):
        """Bytes at offsets."""

        size: int

        def pread(self, count: int, offset: int) -> bytes: ...
        def close(self) -> None: ...


_CHUNK = 1 << 16
_SPAN = 2 << 20
_FREE = 1 << 30  # what any archive may unpack to
_RATIO = 256  # and how many times its own size


class BadArchive(ValueError):
    """An archive that cannot be used; the text says why, in one sentence."""


class FileSource:
    """A host file, by path or (owned) descriptor. Raises the host's OSError."""

    def __init__(self, file: str | bytes | int) -> None:
        self._fd = file if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size

    def pread(self, count: int, offset: int) -> bytes:
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return os.pread(self._fd, count, offset)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Window:
    """`size` bytes of a source from `start` on. Closing it leaves the source open: it belongs to another."""

    def __init__(self, source: Source, start: int, size: int) -> None:
        self._source = source
        self._start = start
        self.size = size

    def pread(self, count: int, offset: int) -> bytes:
        count = min(count, self.size - offset)
        return self._source.pread(count, self._start + offset) if count > 0 else b""

    def close(self) -> None:
        pass


class GzipSource:
    """What a gzip source holds, all its members. `size` is known once the end was reached (till then huge)."""

    def __init__(self, raw: Source, limit: int) -> None:
        import zlib

        self._zlib = zlib
        self._raw = raw
        self._limit = limit
        self.size = 1 << 62
        self._points: list[tuple[int, int, Any]] = []  # (offset, offset in raw, decoder), ascending
        self._begin(0, 0, zlib.decompressobj(31))

    def _begin(self, offset: int, raw_offset: int, decoder: Any) -> None:
        self._next = offset  # the offset of what the decoder gives next
        self._in = raw_offset
        self._decoder = decoder
        self._chunk = b""  # what it gave last, which ends at self._next

    def pread(self, count: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while count > 0 and offset < self.size:
            start = self._next - len(self._chunk)
            if start <= offset < self._next:
                part = self._chunk[offset - start : offset - start + count]
                parts.append(part)
                offset += len(part)
                count -= len(part)
                continue
            self._approach(offset)
            if not self._advance():
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _approach(self, offset: int) -> None:
        """Go to the nearest place at or before `offset`, which may be where we are."""
        from bisect import bisect_right

        position = bisect_right(self._points, offset, key=lambda point: point[0])
        if self._next <= offset and (not position or self._points[position - 1][0] <= self._next):
            return
        if position:
            point = self._points[position - 1]
            self._begin(point[0], point[1], point[2].copy())
        else:
            self._begin(0, 0, self._zlib.decompressobj(31))

    def _advance(self) -> bool:
        """Decode the next chunk; False at the end."""
        decoder = self._decoder
        out = b""
        try:
            while not out:
                if decoder.eof:
                    self._in -= len(decoder.unused_data)
                    if self._raw.pread(2, self._in) != b"\x1f\x8b":  # no further member, or padding
                        self.size = self._next
                        return False
                    decoder = self._decoder = self._zlib.decompressobj(31)
                data = decoder.unconsumed_tail
                if not data:
                    data = self._raw.pread(_CHUNK, self._in)
                    self._in += len(data)
                    if not data:
                        raise BadArchive("the gzip data ends early")
                out = decoder.decompress(data, _CHUNK)
        except self._zlib.error as e:
            raise BadArchive(f"the gzip data is damaged ({e})") from None
        self._chunk = out
        self._next += len(out)
        if self._next > self._limit:
            raise BadArchive(bomb(self._limit))
        if self._next - (self._points[-1][0] if self._points else 0) >= _SPAN:
            self._points.append((self._next, self._in, decoder.copy()))
        return True

    def close(self) -> None:
        self._points.clear()
        self._raw.close()


def bomb(limit: int) -> str:
    """Why more than `limit` bytes are not unpacked."""
    return f"it unpacks to more than {limit} bytes, far more than its own size (a larger limit= allows it)"


def _spill(
    raw: Source, decoder: Callable[[], Any], limit: int, errors: tuple[type[Exception], ...]
) -> FileSource:
    """Unpack into a temporary file without a name."""
    import tempfile

    offset = done = 0
    with tempfile.TemporaryFile(buffering=0) as file:
        current = decoder()
        while True:
            data = raw.pread(1 << 20, offset)
            offset += len(data)
            try:
                while data:
                    if current.eof:
                        current = decoder()
                    out = current.decompress(data)
                    data = current.unused_data if current.eof else b""
                    done += len(out)
                    if done > limit:
                        raise BadArchive(bomb(limit))
                    view = memoryview(out)
                    while view:
                        view = view[file.write(view) or 0 :]
            except errors as e:
                if done and current.eof:
                    break  # padding after the end
                raise BadArchive(f"the compressed data is damaged ({e})") from None
            if offset >= raw.size:
                if not current.eof:
                    raise BadArchive("the compressed data ends early")
                break
        raw.close()
        return FileSource(os.dup(file.fileno()))


def unpacked(raw: Source, limit: int | None = None) -> Source:
    """The source itself, or what it holds if it is compressed (told by its first bytes).

    Raises BadArchive for damaged data, for more than `limit` bytes, and for zstd where nothing can read it.
    """
    magic = raw.pread(6, 0)
    if limit is None:
        limit = _FREE + _RATIO * raw.size
    if magic[:2] == b"\x1f\x8b":
        return GzipSource(raw, limit)
    if magic[:3] == b"BZh":
        import bz2

        return _spill(raw, bz2.BZ2Decompressor, limit, (OSError, ValueError, EOFError))
    if magic == b"\xfd7zXZ\0" or magic[:3] == b"]\0\0":
        import lzma

        return _spill(raw, lambda: lzma.LZMADecompressor(memlimit=1 << 30), limit, (lzma.LZMAError, EOFError))
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        decoder, errors = _zstd()
        return _spill(raw, decoder, limit, errors)
    return raw


def _zstd() -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    import importlib

    try:  # Python 3.14
        module = importlib.import_module("compression.zstd")
        return module.ZstdDecompressor, (module.ZstdError,)
    except ImportError:
        pass
    try:
        module = importlib.import_module("zstandard")
    except ImportError:
        raise BadArchive(
            "it is compressed with zstd, which needs the package zstandard or Python 3.14"
        ) from None
    return lambda: module.ZstdDecompressor().decompressobj(), (module.ZstdError,)


class SourceFile(io.RawIOBase):
    """A source as a file object, for tarfile and zipfile. One read may ask for `most` bytes at most: nothing in
    an archive that is read as a whole (a header, a name) is larger."""

    def __init__(self, source: Source, most: int = 16 << 20) -> None:
        super().__init__()
        self._source = source
        self._most = most
        self._pos = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._pos

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._pos, self._source.size)[whence]
        self._pos = max(0, base + offset)
        return self._pos

    def read(self, count: int = -1) -> bytes:
        if count is None or count < 0:
            count = max(0, self._source.size - self._pos)
        if count > self._most:
            if self._source.size - self._pos < self._most:
                count = self._source.size - self._pos
            else:
                raise BadArchive(f"a header in it claims {count} bytes")
        parts: list[bytes] = []
        while count > 0:
            part = self._source.pread(count, self._pos)
            if not part:
                break
            parts.append(part)
            self._pos += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
