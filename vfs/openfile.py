"""Open files: what the supervisor remembers of the descriptors that guests hold, found by identity.

Layer: vfs, above inode.py. May touch: host sockets for placeholders, and the event loop through `watch_hup`.

A guest's descriptor is a host descriptor. Its identity (st_dev, st_ino) leads here to one of

* FileRecord: a native object (a memfd, a host file). The kernel serves its reads and writes; we remember
  which inode it belongs to and by which path it was opened last. One record an object, however often it is
  open.
* OpenFile: an open file description that Python serves (a directory, an O_PATH descriptor, a file of a
  Python-backed filesystem). The guest holds a *placeholder*, one end of a socket pair; we hold the other, and
  when the last copy of the guest's end is closed anywhere, ours hangs up: that calls release().

An identity that is not here belongs to something native that no filesystem of ours made (a pipe, the caller's
stdio).

How to write a Python-backed file: subclass OpenFile (or SeqFile for generated text), override what the file
can do, and return an instance from Inode.open(). The methods below get the calls of kernel/sys_pyfile.py;
`task` is the calling task. read, write and ioctl may return an awaitable when they block.
"""

from __future__ import annotations

import errno
import os
import struct

from .inode import err
from .stat import S_IFDIR

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .inode import Inode
    from .mount import Path


O_ACCMODE = 3
SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE = range(5)
POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM = 1, 4, 0x40, 0x100
_MAX_OFFSET = (1 << 63) - 1


class FileRecord:
    """A native object that guests may have open: its inode and the path it was opened by last."""

    __slots__ = ("__weakref__", "ident", "inode", "path")

    def __init__(self, path: Path, inode: Inode) -> None:
        self.path = path
        self.inode = inode
        self.ident: tuple[int, int] = (0, 0)


class OpenFile(FileRecord):
    """An open file description served by Python: shared by every dup and fork, like Linux's `struct file`.

    `flags` are open(2)'s access mode and status flags (F_SETFL changes them), `pos` the file offset.
    """

    __slots__ = ("fd", "flags", "pos", "sup_fd")

    def __init__(self, path: Path, inode: Inode, flags: int) -> None:
        super().__init__(path, inode)
        self.flags = flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC | os.O_CLOEXEC)
        self.pos = 0
        self.sup_fd = -1  # our end of the placeholder
        self.fd = -1

    #: False: it is always ready, as a regular file. True: it makes poll(2) right itself, by what lies in its
    #: placeholder, and may be added to an epoll; `fd` is then the number by which it is being read.
    pollable = False
    #: FMODE_PREAD: may it be read at an offset?
    has_pread = True
    #: Of a pollable one: may it always be written?
    always_writable = False

    @property
    def readable(self) -> bool:
        return self.flags & O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writable(self) -> bool:
        return self.flags & O_ACCMODE in (os.O_WRONLY, os.O_RDWR)

    # What a file can do. The defaults are those of a file without the operation. Callers use do_* below.

    def read(self, task: Any, count: int) -> bytes | Awaitable[bytes]:
        """Up to `count` bytes at the file offset, which moves. Default: in terms of pread()."""
        data = self.pread(task, count, self.pos)
        if isinstance(data, bytes):
            self.pos += len(data)
            return data
        return self._advance(data)

    async def _advance(self, data: Awaitable[bytes]) -> bytes:
        result = await data
        self.pos += len(result)
        return result

    def pread(self, task: Any, count: int, offset: int) -> bytes | Awaitable[bytes]:
        """Up to `count` bytes at `offset`; b"" at the end. EINVAL by default."""
        raise err(errno.EINVAL)

    def write(self, task: Any, data: bytes) -> int | Awaitable[int]:
        """Write at the file offset (at the end with O_APPEND). Default: in terms of pwrite()."""
        count = self.pwrite(task, data, self.pos)
        if isinstance(count, int):
            self.pos += count
            return count
        return self._advance_write(count)

    async def _advance_write(self, count: Awaitable[int]) -> int:
        result = await count
        self.pos += result
        return result

    def pwrite(self, task: Any, data: bytes, offset: int) -> int | Awaitable[int]:
        raise err(errno.EINVAL)

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) of a file whose size is the inode's; EINVAL, or ENXIO for SEEK_DATA beyond the end."""
        size = self.inode.getattr().size if whence in (SEEK_END, SEEK_DATA, SEEK_HOLE) else 0
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence == SEEK_END:
            offset += size
        elif whence in (SEEK_DATA, SEEK_HOLE):
            if not 0 <= offset < size:
                raise err(errno.ENXIO)
            if whence == SEEK_HOLE:
                offset = size
        elif whence != SEEK_SET:
            raise err(errno.EINVAL)
        if not 0 <= offset <= _MAX_OFFSET:
            raise err(errno.EINVAL)
        self.pos = offset
        return offset

    def ioctl(self, task: Any, command: int, argument: int) -> Any:
        """A Result of kernel/handlers.py; ENOTTY by default."""
        raise err(errno.ENOTTY)

    def truncate(self, size: int) -> None:
        """ftruncate(2), for a file open for writing."""
        self.inode.setattr(size=size)

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        """fallocate(2); EOPNOTSUPP for a file without blocks."""
        raise err(errno.EOPNOTSUPP)

    def fsync(self) -> None:
        """fsync(2) and fdatasync(2)."""

    def poll(self) -> int:
        """The ready events; a file that is not always ready also has to keep its placeholder's readiness
        true."""
        return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM

    def mmap(self, length: int, offset: int, shared: bool, writable: bool) -> int:
        """mmap(2) of a part of the file: the host descriptor that is mapped instead, which stays ours. `writable`:
        through the mapping. ENODEV for a file that cannot be mapped."""
        raise err(errno.ENODEV)

    def placed(self) -> None:
        """The file has its placeholder now."""

    def fdinfo(self) -> str:
        """Further lines for /proc/PID/fdinfo/N."""
        return ""

    def release(self) -> None:
        """The last descriptor is gone."""

    # What a call does: the checks that Linux makes before it asks the file.

    def do_read(self, task: Any, count: int, offset: int | None = None) -> bytes | Awaitable[bytes]:
        """read(2), or pread(2) when `offset` is given."""
        if not self.readable:
            raise err(errno.EBADF)
        if offset is None:
            return self.read(task, count)
        if offset < 0:
            raise err(errno.EINVAL)
        return self.pread(task, count, offset)

    def do_write(self, task: Any, data: bytes, offset: int | None = None) -> int | Awaitable[int]:
        """write(2), or pwrite(2) when `offset` is given."""
        if not self.writable:
            raise err(errno.EBADF)
        if offset is None:
            return self.write(task, data)
        if offset < 0:
            raise err(errno.EINVAL)
        return self.pwrite(task, data, offset)

    def do_truncate(self, size: int) -> None:
        """ftruncate(2)."""
        if size < 0 or not self.writable:
            raise err(errno.EINVAL)
        self.truncate(size)


class OpenPath(OpenFile):
    """An O_PATH descriptor: a place, not a file. Every operation on the file itself is EBADF (open(2),
    "O_PATH")."""

    __slots__ = ()

    def __init__(self, path: Path, inode: Inode, flags: int) -> None:
        super().__init__(path, inode, flags & (os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW))

    def do_read(self, task: Any, count: int, offset: int | None = None) -> bytes | Awaitable[bytes]:
        raise err(errno.EBADF)

    def do_write(self, task: Any, data: bytes, offset: int | None = None) -> int | Awaitable[int]:
        raise err(errno.EBADF)

    def do_truncate(self, size: int) -> None:
        raise err(errno.EBADF)

    def seek(self, offset: int, whence: int) -> int:
        raise err(errno.EBADF)

    def ioctl(self, task: Any, command: int, argument: int) -> Any:
        raise err(errno.EBADF)

    def fsync(self) -> None:
        raise err(errno.EBADF)


_DIRENT64 = struct.Struct("<QqHB")
_DIRENT = struct.Struct("<QqH")


class OpenDir(OpenFile):
    """An open directory. The listing is taken when it is first read and after each rewind, so offsets stay
    valid while entries come and go; entries that went are left out, those that came may be (getdents(2),
    readdir(3p))."""

    __slots__ = ("_entries",)

    def __init__(self, path: Path, inode: Inode, flags: int) -> None:
        super().__init__(path, inode, flags)
        self._entries: list[tuple[bytes, int, int]] | None = None

    def pread(self, task: Any, count: int, offset: int) -> bytes:
        raise err(errno.EISDIR)

    def write(self, task: Any, data: bytes) -> int:
        raise err(errno.EBADF)

    def truncate(self, size: int) -> None:
        raise err(errno.EINVAL)

    def fsync(self) -> None:
        self.inode.sync_directory()

    def seek(self, offset: int, whence: int) -> int:
        """dcache_dir_lseek(): offsets are entry numbers; no SEEK_END, but of /proc, as of an empty file."""
        if whence in (SEEK_END, SEEK_DATA, SEEK_HOLE) and self.inode.sb.fstype == "proc":
            return super().seek(offset, whence)
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence != SEEK_SET:
            raise err(errno.EINVAL)
        if offset < 0:
            raise err(errno.EINVAL)
        if offset == 0:
            self._entries = None
        self.pos = offset
        return offset

    def listing(self) -> list[tuple[bytes, int, int]]:
        """(name, ino, type bits) of every entry, "." and ".." first."""
        if self._entries is None:
            dentry = self.path.dentry
            up = dentry.parent
            if up is None and self.path.mount.mountpoint is not None:
                up = self.path.mount.mountpoint.parent
            parent = (up or dentry).inode
            self._entries = [
                (b".", self.inode.ino, S_IFDIR),
                (b"..", parent.ino, S_IFDIR),
                *self.inode.readdir(),
            ]
        return self._entries

    @property
    def plain(self) -> bool:
        """Is ".." the same whatever mount it is seen through?"""
        return self.path.dentry is not self.path.mount.root

    def take_listing(self, entries: list[tuple[bytes, int, int]]) -> None:
        """All entries were read at once, these."""
        if not self.flags & os.O_NOATIME and self.path.mount.keeps_atime:
            self.inode.accessed()
        self._entries = entries
        self.pos = len(entries)

    def getdents(self, room: int, old: bool = False) -> bytes:
        """The next entries, at most `room` bytes of `struct linux_dirent64` (linux_dirent if `old`).

        b"" at the end; EINVAL if not one entry fits; ENOENT in a directory that was removed.
        """
        if self.path.dentry.deleted and self.inode.nlink == 0:
            raise err(errno.ENOENT)
        if self.pos == 0:
            self._entries = None
        entries = self.listing()
        if not self.flags & os.O_NOATIME and self.path.mount.keeps_atime:
            self.inode.accessed()
        out: list[bytes] = []
        pos = self.pos
        while pos < len(entries):  # (not a slice: a big directory is read in many calls)
            name, ino, kind = entries[pos]
            # ino, offset of the next entry, record length, type, name, padding to 8 (fs/readdir.c)
            if old:
                length = 18 + len(name) + 2 + 7 & ~7
                head = _DIRENT.pack(ino, pos + 1, length)
                record = (head + name).ljust(length - 1, b"\0") + bytes((kind >> 12,))
            else:
                length = 19 + len(name) + 1 + 7 & ~7
                record = (_DIRENT64.pack(ino, pos + 1, length, kind >> 12) + name).ljust(length, b"\0")
            if length > room:
                if not out:
                    raise err(errno.EINVAL)
                break
            room -= length
            pos += 1
            out.append(record)
        self.pos = pos
        return b"".join(out)


class SeqFile(OpenFile):
    """Generated text, as Linux's seq_file: made when reading at offset 0, then the same until the reader
    rewinds."""

    __slots__ = ("_data", "_render")

    def __init__(self, path: Path, inode: Inode, flags: int, render: Callable[[Any], bytes]) -> None:
        """`render(task)` gives the whole content for the task that reads."""
        super().__init__(path, inode, flags)
        self._render = render
        self._data: bytes | None = None

    def pread(self, task: Any, count: int, offset: int) -> bytes:
        if offset == 0 or self._data is None:
            self._data = self._render(task)
        return self._data[offset : offset + count]

    def fsync(self) -> None:
        raise err(errno.EINVAL)
