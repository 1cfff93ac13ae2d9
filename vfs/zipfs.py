"""ZipFS: a zip archive as a read-only filesystem.

Layer: vfs, on top of archive.py. May touch: the archive.

The standard library's zipfile reads the central directory and the members (stored, deflate, bzip2, lzma). Modes,
types and symlinks are those that Info-ZIP and its likes write (the upper half of the external attributes), owners
and times come from the extra fields "ux" and "UT"; a zip made elsewhere gives files 0644 and directories 0755.
"""

from __future__ import annotations

import errno
import os
import struct

from .archive import ArchiveDir, ArchiveFS, ArchiveNode, host_source
from .inode import err
from .stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK
from .streams import BadArchive, SourceFile

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    import zipfile

_UNIX = 3  # create_system
_FREE, _RATIO = 1 << 30, 256


class ZipFS(ArchiveFS):
    """The zip archive `path` (a host file).

    `limit`: bytes that it may unpack to at most, which bombs exceed (by default 1 GiB + 256 times its own size).
    Raises BadArchive if it is no zip archive, damaged or hostile; the host's OSError if it cannot be read. A member
    with a password cannot be opened (EACCES). What has no owner in the archive belongs to this process's user, as if
    unpacked.
    """

    fstype = "zipfs"

    def __init__(self, path: str | os.PathLike[str], *, limit: int | None = None) -> None:
        source, time = host_source(path)
        super().__init__(os.fspath(path), time, (os.geteuid(), os.getegid()))
        self._source = source
        damage = _damage()
        import zipfile

        try:
            try:
                self._zip = zipfile.ZipFile(SourceFile(source, most=1 << 30))
                infos = self._zip.infolist()
                total = sum(info.file_size for info in infos)
                if total > (_FREE + _RATIO * source.size if limit is None else limit):
                    raise BadArchive(f"it unpacks to {total} bytes (a larger limit= allows it)")
                for info in infos:
                    self._add(info)
            except damage as e:
                raise BadArchive(f"{os.fspath(path)} cannot be used as a zip archive: {e}") from None
        except BaseException:
            self.close()
            raise

    def _add(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "surrogateescape")
        mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
        kind = mode & S_IFMT or (S_IFDIR if name.endswith(b"/") else S_IFREG)
        mtime, uid, gid = _extra(info, *self.owner)
        if kind == S_IFDIR:
            self.add(name, ArchiveDir(self, mode & 0o7777 or 0o755, mtime, uid, gid))
        elif kind == S_IFLNK:
            if not 0 < info.file_size < 4096:
                raise BadArchive(f"{info.filename!r} is a symlink of {info.file_size} bytes")
            target = self._read_target(info)
            self.add(name, ArchiveNode(self, S_IFLNK | 0o777, mtime, uid, gid, target=target))
        elif kind in (S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK):
            self.add(name, ArchiveNode(self, mode, mtime, uid, gid))
        else:
            mode = S_IFREG | (mode & 0o7777 or 0o644)
            self.add(name, ArchiveNode(self, mode, mtime, uid, gid, size=info.file_size, member=info))

    def _read_target(self, info: zipfile.ZipInfo) -> bytes:
        try:
            return self._zip.read(info)
        except OSError as e:
            raise BadArchive(str(e)) from None

    def unpack(self, member: zipfile.ZipInfo, fd: int) -> None:
        if member.flag_bits & 1:
            raise err(errno.EACCES)
        try:
            with self._zip.open(member) as f:
                done = 0
                while data := f.read(1 << 20):
                    done += os.pwrite(fd, data, done)
        except _damage() as e:
            raise BadArchive(str(e)) from None
        except OSError as e:
            if e.errno:
                raise
            raise BadArchive(str(e)) from None  # bz2's

    def close(self) -> None:
        self._source.close()


def _damage() -> tuple[type[Exception], ...]:
    """What zipfile raises for an archive that is damaged, encrypted or of a kind that it does not know."""
    import lzma
    import zipfile
    import zlib

    return (
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, ValueError, EOFError, IndexError
    )  # fmt: skip


def _extra(info: zipfile.ZipInfo, uid: int, gid: int) -> tuple[int, int, int]:
    """(mtime in ns, uid, gid) of a member: extra fields 0x5455 ("UT") and 0x7875 ("ux"), else the DOS time, taken
    for UTC; `uid` and `gid` where the member names no owner."""
    import calendar

    mtime = calendar.timegm((*info.date_time, 0, 0, 0)) * 1000000000
    data = info.extra
    while len(data) >= 4:
        tag, size = struct.unpack_from("<HH", data)
        field = data[4 : 4 + size]
        data = data[4 + size :]
        if tag == 0x5455 and len(field) >= 5 and field[0] & 1:
            mtime = struct.unpack_from("<i", field, 1)[0] * 1000000000
        elif tag == 0x7875 and len(field) >= 3:
            width = field[1]
            if len(field) >= 3 + width:
                uid = int.from_bytes(field[2 : 2 + width], "little")
                rest = field[2 + width :]
                gid = int.from_bytes(rest[1 : 1 + rest[0]], "little")
    return mtime, uid & 0xFFFFFFFF, gid & 0xFFFFFFFF
