"""Layers of images, unpacked once and kept in the user's cache directory: the next start does neither that nor lists
them.

Layer: vfs, between image.py and tarfs.py. May touch: its own directory, and what it is given to unpack.

A layer is known by the digest of its compressed bytes, which is verified when it is unpacked, so one image cannot
bring another's layer into the cache. Two files hold it: NAME.tar, the bytes with a CRC-32 of each block at the end,
and NAME.index, what tarfs.py made of the headers. Both are written under another name first, so they are whole or not
there; a block that is damaged afterwards is noticed when it is read, and then the image's own bytes are used again. A
full disk, or a directory that cannot be written, only means that nothing is kept.
"""

from __future__ import annotations

import marshal
import os
import struct
import time
import zlib

from .streams import BadArchive, FileSource, bomb, unpacked

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .streams import Source

BLOCK = 1 << 20
BOUND = 4 << 30
"""Bytes that all layers may take; those that were used longest ago go first."""
SMALL = 1 << 20
"""Compressed bytes of a layer that is not worth a file."""
_TRAILER = struct.Struct("<8sQI")  # magic, size of the bytes, CRC-32 of the blocks' CRCs
_MAGIC = b"r3layer1"
_ABANDONED = 3600.0  # seconds after which a half-written file belongs to nobody


class Damaged(Exception):
    """A kept file is not what was written."""


class LayerCache:
    """The layers kept in `directory`, at most `bound` bytes; those of fewer than `small` compressed bytes are not."""

    def __init__(self, directory: str, bound: int = BOUND, small: int = SMALL) -> None:
        self.directory = directory
        self._bound, self._small = bound, small

    def layer(self, digest: str, raw: Source, limit: int | None) -> Source:
        """What `raw` holds, whose digest is said to be `digest` ("sha256:HEX"): a CachedLayer, or `raw` itself where
        keeping it is no use or not possible. Raises BadArchive if it cannot be unpacked, or is something else."""
        if raw.size < self._small or not _compressed(raw):
            return raw
        name = digest.replace(":", "-")
        kept = self._open(name) or (self._fill(name, digest, raw, limit) and self._open(name))
        if kept and limit is not None and kept.size > limit:
            kept.close()
            raise BadArchive(bomb(limit))
        return CachedLayer(self, name, kept, raw, limit) if kept else raw

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def forget(self, name: str) -> None:
        """Remove a layer."""
        for suffix in (".tar", ".index"):
            try:
                os.unlink(self.path(name + suffix))
            except OSError:
                pass

    # -- the bytes -------------------------------------------------------------------------------------------

    def _open(self, name: str) -> _Kept | None:
        try:
            fd = _open_own(self.path(name + ".tar"))
        except OSError:
            return None
        try:
            kept = _Kept(fd)
            os.utime(fd)
        except (Damaged, OSError):
            os.close(fd)
            self.forget(name)
            return None
        return kept

    def _fill(self, name: str, digest: str, raw: Source, limit: int | None) -> bool:
        """Unpack a layer into the cache; False if it cannot be kept."""
        _verify(digest, raw)
        source = unpacked(_Borrowed(raw), limit)
        try:
            return self._write(name + ".tar", lambda fd: _copy(source, fd, self._bound))
        finally:
            source.close()

    def _write(self, name: str, fill: Callable[[int], bool]) -> bool:
        """Make a file as a whole; False if that is not possible."""
        temporary = self.path(f"tmp-{os.getpid()}-{os.urandom(6).hex()}")
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        done = False
        try:
            if done := fill(fd):
                os.rename(temporary, self.path(name))
        except OSError:
            done = False
        finally:
            os.close(fd)
            if not done:
                os.unlink(temporary)
        if done:
            self._prune(name.rpartition(".")[0])
        return done

    def _prune(self, newest: str) -> None:
        """Keep to the bound, and remove what a process left behind that was ended."""
        files = []
        for entry in os.scandir(self.directory):
            try:
                st = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if not entry.name.startswith("tmp-"):
                files.append((st.st_mtime, st.st_size, entry.name))
            elif time.time() - st.st_mtime > _ABANDONED:
                os.unlink(entry.path)
        total = sum(size for _, size, _ in files)
        for _, size, name in sorted(files):
            if total <= self._bound:
                break
            if name.endswith(".tar") and name != newest + ".tar":
                self.forget(name.removesuffix(".tar"))
                total -= size

    # -- the index -------------------------------------------------------------------------------------------

    def rows(self, name: str) -> list[Any] | None:
        """What was kept by keep_rows()."""
        try:
            fd = _open_own(self.path(name + ".index"))
        except OSError:
            return None
        with open(fd, "rb") as f:
            data = f.read()
        if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
            self.forget(name)
            return None
        rows: list[Any] = marshal.loads(data[4:])  # ours: _open_own() and the sum
        return rows

    def keep_rows(self, name: str, rows: list[Any]) -> None:
        """Keep what marshal(3) can write of a layer."""
        data = marshal.dumps(rows)
        data = zlib.crc32(data).to_bytes(4, "little") + data
        self._write(name + ".index", lambda fd: os.write(fd, data) == len(data))


def user_cache() -> LayerCache | None:
    """The cache in the user's directory; None where there is none."""
    from ..core_native.build import kept_cache_dir

    directory = kept_cache_dir()
    return LayerCache(os.path.join(directory, "layers")) if directory is not None else None


class CachedLayer:
    """The unpacked bytes of a layer: those that are kept, or if they are damaged the image's own."""

    def __init__(self, cache: LayerCache, name: str, kept: _Kept, raw: Source, limit: int | None) -> None:
        self._cache, self._name = cache, name
        self._source: Source = kept
        self._raw, self._limit = raw, limit
        self.size = kept.size

    def pread(self, count: int, offset: int) -> bytes:
        try:
            return self._source.pread(count, offset)
        except Damaged:
            self._cache.forget(self._name)
            self._source.close()
            self._source = unpacked(_Borrowed(self._raw), self._limit)
            return self._source.pread(count, offset)

    def rows(self) -> list[Any] | None:
        """The index, if it was kept."""
        return self._cache.rows(self._name)

    def keep_rows(self, rows: list[Any]) -> None:
        """Keep the index."""
        self._cache.keep_rows(self._name, rows)

    def close(self) -> None:
        self._source.close()
        self._raw.close()


class _Kept:
    """A NAME.tar. Raises Damaged, from pread() too, if it is not as it was written."""

    def __init__(self, fd: int) -> None:
        end = os.fstat(fd).st_size - _TRAILER.size
        if end < 0:
            raise Damaged
        magic, self.size, total = _TRAILER.unpack(os.pread(fd, _TRAILER.size, end))
        if magic != _MAGIC or end - self.size != 4 * -(-self.size // BLOCK):
            raise Damaged
        sums = os.pread(fd, end - self.size, self.size)
        if zlib.crc32(sums) != total:
            raise Damaged
        self._sums = struct.unpack(f"<{len(sums) // 4}I", sums)
        self._good = bytearray(len(self._sums))
        self._file = FileSource(fd)

    def pread(self, count: int, offset: int) -> bytes:
        count = min(count, self.size - offset)
        if count <= 0:
            return b""
        for block in range(offset // BLOCK, (offset + count - 1) // BLOCK + 1):
            if not self._good[block]:
                data = self._file.pread(min(BLOCK, self.size - block * BLOCK), block * BLOCK)
                if zlib.crc32(data) != self._sums[block]:
                    raise Damaged
                self._good[block] = 1
        return self._file.pread(count, offset)

    def close(self) -> None:
        self._file.close()


class _Borrowed:
    """A source that stays open when this is closed."""

    def __init__(self, source: Source) -> None:
        self.pread = source.pread
        self.size = source.size

    def close(self) -> None:
        pass


def _compressed(raw: Source) -> bool:
    head = raw.pread(262, 0)
    return len(head) == 262 and head[257:] != b"ustar"


def _verify(digest: str, raw: Source) -> None:
    """Raises BadArchive if the source is not what its digest says."""
    import hashlib

    kind, _, value = digest.partition(":")
    sum_of_all, offset = hashlib.new(kind), 0
    while data := raw.pread(BLOCK, offset):
        sum_of_all.update(data)
        offset += len(data)
    if sum_of_all.hexdigest() != value:
        raise BadArchive("it is not what its digest says")


def _copy(source: Source, fd: int, bound: int) -> bool:
    """Write what a source holds, with its sums; False if it is more than the cache may hold, or the disk too full."""
    room = os.fstatvfs(fd)
    most = min(bound, room.f_bavail * room.f_frsize // 2)
    sums, offset = bytearray(), 0
    while data := source.pread(BLOCK, offset):
        offset += len(data)
        if offset > most or os.write(fd, data) != len(data):
            return False
        sums += zlib.crc32(data).to_bytes(4, "little")
    tail = bytes(sums) + _TRAILER.pack(_MAGIC, offset, zlib.crc32(sums))
    return os.write(fd, tail) == len(tail)


def _open_own(path: str) -> int:
    """A file that nobody else could have written. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    st = os.fstat(fd)
    if st.st_uid != os.geteuid() or st.st_mode & 0o170022 != 0o100000:
        os.close(fd)
        raise PermissionError
    return fd
