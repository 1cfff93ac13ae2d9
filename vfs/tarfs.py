"""TarFS: a tar archive, plain or compressed, as a read-only filesystem.

Layer: vfs, on top of archive.py. May touch: the archive.

The standard library's tarfile reads the headers (ustar, GNU with long names and sparse files, pax); of those all
are kept that Linux has a place for: times in ns, devices, hard links, extended attributes (SCHILY.xattr.*, which GNU
tar, star and container tools write, and LIBARCHIVE.xattr.*, bsdtar's).
"""

from __future__ import annotations

import os

from .archive import MAX_MEMBERS, ArchiveDir, ArchiveFS, ArchiveNode, copy_range, host_source
from .stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from .streams import BadArchive, SourceFile, unpacked

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    import tarfile
    from typing import Any

    from .streams import Source

    Row = tuple[bytes, int, int, bytes, int, Any, dict[str, Any], dict[str, int]]
    """A member: name, mode (0: a further name of `target`), mtime in ns, target, size, (offset, size, sparse), what
    ArchiveNode takes besides, atime and ctime."""

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
            for row in self._index():
                self._add(row)
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

    def _index(self) -> list[Row]:
        """What the headers say; read from where it was kept, if the source keeps it (layercache.py)."""
        keeper: Any = self._source if hasattr(self._source, "keep_rows") else None
        rows: list[Row] | None = keeper.rows() if keeper is not None else None
        if rows is None:
            rows = self._read_headers()
            if keeper is not None:
                keeper.keep_rows(rows)
        return rows

    def _read_headers(self) -> list[Row]:
        import tarfile

        rows = []

        try:
            tar = tarfile.open(
                fileobj=SourceFile(self._source), mode="r:", encoding="utf-8", errors="surrogateescape"
            )
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
                rows.append(_row(info))
                if len(rows) > MAX_MEMBERS:
                    raise BadArchive(f"it has more than {MAX_MEMBERS} members")
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as e:
            raise BadArchive(str(e) or "it is damaged") from None
        return rows

    def _add(self, row: Row) -> None:
        name, mode, mtime, target, size, member, common, times = row
        kind = mode & S_IFMT
        if not kind:
            self.add_link(name, target)
            return
        node: ArchiveNode
        if kind == S_IFDIR:
            node = ArchiveDir(self, mode & 0o7777, mtime, **common)
        else:
            node = ArchiveNode(self, mode, mtime, target=target, size=size, member=member, **common)
        for attribute, value in times.items():
            setattr(node, attribute, value)
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


def _row(info: tarfile.TarInfo) -> Row:
    """A member as plain values."""
    name = os.fsencode(info.name)
    if info.islnk():
        return name, 0, 0, os.fsencode(info.linkname), 0, None, {}, {}
    common: dict[str, Any] = {"uid": _ident(info.uid), "gid": _ident(info.gid)}
    if xattrs := _xattrs(info.pax_headers):
        common["xattrs"] = xattrs
    mode, target, size, member = info.mode & 0o7777, b"", 0, None
    if info.isdir():
        mode |= S_IFDIR
    elif info.issym():
        mode, target = S_IFLNK | 0o777, os.fsencode(info.linkname) or b"."
    elif info.ischr() or info.isblk():
        mode |= S_IFCHR if info.ischr() else S_IFBLK
        common["rdev"] = (info.devmajor & 0xFFF, info.devminor & 0xFFFFF)
    elif info.isfifo():
        mode |= S_IFIFO
    else:
        if not 0 <= info.size < 1 << 62:
            raise BadArchive(f"{info.name!r} has a size of {info.size} bytes")
        mode |= S_IFREG
        size, member = info.size, (info.offset_data, info.size, info.sparse)
    times = {n: _time(info.pax_headers[n], 0) for n in ("atime", "ctime") if n in info.pax_headers}
    mtime = _time(info.pax_headers.get("mtime"), info.mtime)
    return name, mode, mtime, target, size, member, common, times


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
