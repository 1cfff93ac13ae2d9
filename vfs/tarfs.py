"""TarFS: a tar archive, plain or compressed, as a read-only filesystem.

Layer: vfs, on top of archive.py. May touch: the archive.

The standard library's tarfile reads the headers (ustar, GNU with long names and sparse files, pax); of those all
are kept that Linux has a place for: times in ns, devices, hard links, extended attributes (SCHILY.xattr.*, which GNU
tar, star and container tools write, and LIBARCHIVE.xattr.*, bsdtar's).
"""

from __future__ import annotations

import os

from .archive import ArchiveDir, ArchiveFS, ArchiveNode, copy_range, host_source
from .stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFLNK, S_IFREG
from .streams import BadArchive, SourceFile, unpacked

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    import tarfile
    from typing import Any

    from .streams import Source

_XATTR = "SCHILY.xattr."
_XATTR_BASE64 = "LIBARCHIVE.xattr."
_MAX_TIME = 1 << 62


class TarFS(ArchiveFS):
    """The tar archive `path` (a host file), compressed with gzip, bzip2, xz, zstd or not at all.

    `limit`: bytes that it may unpack to at most, which bombs exceed (by default 1 GiB + 256 times its own size).
    Raises BadArchive if it is no tar archive, damaged or hostile; the host's OSError if it cannot be read.
    """

    fstype = "tarfs"

    def __init__(
        self,
        path: str | os.PathLike[str] = "",
        *,
        limit: int | None = None,
        source: Source | None = None,
        name: str | None = None,
    ) -> None:
        """`source`: the archive's bytes, instead of a path (then `name` is what messages call it)."""
        time = 0
        if source is None:
            source, time = host_source(path)
        super().__init__(name or os.fspath(path), time)
        self.what = name or os.fspath(path)
        self._source = source
        try:
            self._source = unpacked(source, limit)
            self._index()
        except BadArchive as e:
            self.close()
            raise BadArchive(f"{self.what} cannot be used as a tar archive: {e}") from None
        except BaseException:
            self.close()
            raise

    @property
    def bytes_of_all(self) -> Source:
        """The archive itself, unpacked: what the members' offsets are in."""
        return self._source

    def _index(self) -> None:
        import tarfile

        try:
            tar = tarfile.open(
                fileobj=SourceFile(self._source), mode="r:", encoding="utf-8", errors="surrogateescape"
            )
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
                self._add(info)
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as e:
            raise BadArchive(str(e) or "it is damaged") from None

    def _add(self, info: tarfile.TarInfo) -> None:
        name = os.fsencode(info.name)
        if info.islnk():
            self.add_link(name, os.fsencode(info.linkname))
            return
        common: dict[str, Any] = {
            "uid": _ident(info.uid),
            "gid": _ident(info.gid),
            "xattrs": _xattrs(info.pax_headers),
        }
        mode = info.mode & 0o7777
        mtime = _time(info.pax_headers.get("mtime"), info.mtime)
        node: ArchiveNode
        if info.isdir():
            node = ArchiveDir(self, mode, mtime, **common)
        elif info.issym():
            node = ArchiveNode(
                self, S_IFLNK | 0o777, mtime, target=os.fsencode(info.linkname) or b".", **common
            )
        elif info.ischr() or info.isblk():
            device = (info.devmajor & 0xFFF, info.devminor & 0xFFFFF)
            node = ArchiveNode(
                self, mode | (S_IFCHR if info.ischr() else S_IFBLK), mtime, rdev=device, **common
            )
        elif info.isfifo():
            node = ArchiveNode(self, mode | S_IFIFO, mtime, **common)
        else:
            if not 0 <= info.size < 1 << 62:
                raise BadArchive(f"{info.name!r} has a size of {info.size} bytes")
            place = (info.offset_data, info.size, info.sparse)
            node = ArchiveNode(self, mode | S_IFREG, mtime, size=info.size, member=place, **common)
        for attribute in ("atime", "ctime"):
            if attribute in info.pax_headers:
                setattr(node, attribute, _time(info.pax_headers[attribute], 0))
        self.add(name, node)

    def unpack(self, member: tuple[int, int, list[tuple[int, int]] | None], fd: int) -> None:
        offset, size, sparse = member
        os.ftruncate(fd, size)
        if size:
            for start, length in sparse if sparse is not None else ((0, size),):
                copy_range(self._source, offset, length, fd, start)
                offset += length

    def close(self) -> None:
        self._source.close()


def _ident(number: int) -> int:
    """A uid or gid; the headers can hold larger ones than Linux has."""
    return number if 0 <= number < 0xFFFFFFFF else 65534


def _time(text: str | None, fallback: float) -> int:
    """Nanoseconds of a pax time ("1700000000.123456789") or of a header's."""
    try:
        if text:
            from decimal import Decimal

            value = int(Decimal(text) * 1000000000)
        else:
            value = int(fallback) * 1000000000
    except (ArithmeticError, ValueError):
        return 0
    return value if -_MAX_TIME < value < _MAX_TIME else 0


def _xattrs(headers: Any) -> dict[bytes, bytes] | None:
    """The extended attributes of pax headers."""
    found: dict[bytes, bytes] = {}
    for key, value in headers.items():
        if key.startswith(_XATTR):
            found[os.fsencode(key[len(_XATTR) :])] = value.encode("utf-8", "surrogateescape")
        elif key.startswith(_XATTR_BASE64):
            import base64
            from urllib.parse import unquote_to_bytes

            try:
                data = base64.b64decode(value + "=" * (-len(value) % 4))
            except ValueError:
                continue
            found.setdefault(unquote_to_bytes(key[len(_XATTR_BASE64) :]), data)
    return found or None
