"""sendfile(2) and copy_file_range(2), where the host kernel cannot do them as the guest's kernel would.

Layer: the pretend kernel, a family of system calls.  May touch: the OpenFile behind a placeholder, duplicates of
the guest's descriptors.

Two files of one filesystem of the guest's may be of two on the host's: one still the host's own file, the other in
memory; or Python serves one of them. Then the bytes are copied here, through the very open file descriptions.
"""

from __future__ import annotations

import errno
import os
import struct

from ..vfs.inode import err
from ..vfs.notify import IN_ACCESS, IN_MODIFY
from ..vfs.openfile import OpenPath
from ..vfs.stat import S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK
from .filesize import room
from .handlers import NATIVE, Out, syscall
from .sys_pyfile import pyfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..vfs.openfile import FileRecord
    from .handlers import Result
    from .task import FdRef, Task

_PART = 1 << 18
_MOST = 8 << 20  # by one call: a short count is legal, and others wait meanwhile
_LOFF = struct.Struct("<q")
_MAX_OFFSET = (1 << 63) - 1


class End:
    """One side of a copy: an open file of the guest's. To be closed."""

    def __init__(self, t: Task, ref: FdRef) -> None:
        if not ref.mode:
            raise err(errno.EBADF)
        self.file = pyfile(t, ref)
        record = t.sandbox.vfs.files.get(ref.dev, ref.ino)
        self.filesystem: object = ref.dev if record is None else record.inode.sb
        self.inode = None if record is None else record.inode
        self.kind = ref.mode & S_IFMT if self.file is None else self.file.inode.kind
        self.fd = -1
        if self.file is None:
            import fcntl

            self.fd = t.host_fd(ref.fd)
            self.flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        else:
            self.flags = self.file.flags
        if isinstance(self.file, OpenPath) or self.flags & os.O_PATH:
            self.close()
            raise err(errno.EBADF)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)

    @property
    def position(self) -> int:
        if self.kind != S_IFREG:
            return 0
        return os.lseek(self.fd, 0, os.SEEK_CUR) if self.file is None else self.file.pos

    @position.setter
    def position(self, offset: int) -> None:
        if self.file is None:
            os.lseek(self.fd, offset, os.SEEK_SET)
        else:
            self.file.pos = offset

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size if self.file is None else self.file.inode.getattr().size

    async def read(self, t: Task, count: int, offset: int) -> bytes:
        if self.file is None:
            return os.pread(self.fd, count, offset)
        data: Any = self.file.do_read(t, count, offset)
        return data if isinstance(data, bytes) else await data

    async def write(self, t: Task, data: bytes, offset: int) -> int:
        if self.file is None:
            return os.pwrite(self.fd, data, offset)
        count: Any = self.file.do_write(t, data, offset)
        return count if isinstance(count, int) else await count


async def _copy(t: Task, source: End, at: int, sink: End, to: int, count: int) -> int:
    """Copy until the source ends; an error after the first byte is a short count."""
    done = 0
    try:
        while done < count:
            data = await source.read(t, min(count - done, _PART), at + done)
            if not data:
                break
            written = await sink.write(t, data, to + done)
            done += written
            if written < len(data):
                break
    except OSError:
        if not done:
            raise
    notify = t.sandbox.vfs.notify
    if done and notify is not None:
        for end, event in ((source, IN_ACCESS), (sink, IN_MODIFY)):
            if end.file is not None:  # of native ones the host tells
                notify.on(end.file.path, event)
    return done


def _offset(t: Task, address: int, end: End) -> int:
    """The offset that a pointer gives, or the file's own."""
    return _LOFF.unpack(t.peek(address, 8))[0] if address else end.position


def can_pread(t: Task, ref: FdRef) -> bool:
    """FMODE_PREAD: not of pipes, sockets, event queues (whose type is none), terminals and the like."""
    file = pyfile(t, ref)
    if file is not None:
        return file.has_pread
    kind = ref.mode & S_IFMT
    if kind == S_IFCHR:
        fd = t.host_fd(ref.fd)
        try:
            return not os.isatty(fd)
        finally:
            os.close(fd)
    return kind not in (0, S_IFIFO, S_IFSOCK)


def _finish(done: int, ends: list[tuple[End, int, int]]) -> Result:
    """Move on the offsets: (end, address or 0, offset at the start)."""
    writes = []
    for end, address, offset in ends:
        if address:
            writes.append((address, _LOFF.pack(offset + done)))
        else:
            end.position = offset + done
    return Out(done, writes) if writes and done else done


def _alike(a: FileRecord | None, b: FileRecord | None) -> bool:
    """Are both the host kernel's alone (memfd_create), or both of one filesystem here, which keeps them there?"""
    if a is None or b is None:
        return a is b
    return not hasattr(a, "flags") and not hasattr(b, "flags") and a.inode.sb is b.inode.sb


@syscall("copy_file_range")
def sys_copy_file_range(
    t: Task, in_fd: FdRef, in_at: int, out_fd: FdRef, out_at: int, count: int, flags: int
) -> Result:
    """copy_file_range(2), checked in the order of fs/read_write.c."""
    files = t.sandbox.vfs.files
    records = files.get(in_fd.dev, in_fd.ino), files.get(out_fd.dev, out_fd.ino)
    if in_fd.dev == out_fd.dev and _alike(*records):
        return NATIVE
    return _copy_file_range(t, in_fd, in_at, out_fd, out_at, count, flags)


async def _copy_file_range(
    t: Task, in_fd: FdRef, in_at: int, out_fd: FdRef, out_at: int, count: int, flags: int
) -> Result:
    source = End(t, in_fd)
    try:
        sink = End(t, out_fd)
        try:
            at, to = _offset(t, in_at, source), _offset(t, out_at, sink)
            if flags:
                raise err(errno.EINVAL)
            if S_IFDIR in (source.kind, sink.kind):
                raise err(errno.EISDIR)
            if source.kind != S_IFREG or sink.kind != S_IFREG:
                raise err(errno.EINVAL)
            if not source.readable or not sink.writable or sink.flags & os.O_APPEND:
                raise err(errno.EBADF)
            if source.filesystem is not sink.filesystem:
                raise err(errno.EXDEV)
            if not 0 <= at + count <= _MAX_OFFSET or not 0 <= to + count <= _MAX_OFFSET:
                raise err(errno.EOVERFLOW)
            count = room(t, to, max(0, min(count, source.size - at)))
            if source.inode is sink.inode and at < to + count and to < at + count:
                raise err(errno.EINVAL)
            done = await _copy(t, source, at, sink, to, min(count, _MOST))
            return _finish(done, [(source, in_at, at), (sink, out_at, to)])
        finally:
            sink.close()
    finally:
        source.close()


def nothing_to_send(t: Task, in_fd: FdRef, offset: int, count: int) -> bool:
    """Does a sendfile(2) end before anybody looks at where it goes?  EBADF, EINVAL for what cannot be read so."""
    source = End(t, in_fd)
    try:
        if not source.readable:
            raise err(errno.EBADF)
        at = _offset(t, offset, source)
        if at < 0:
            raise err(errno.EINVAL)
        return not count or (source.kind == S_IFREG and at >= source.size)
    finally:
        source.close()


@syscall("sendfile")
def sys_sendfile(t: Task, out_fd: FdRef, in_fd: FdRef, offset: int, count: int) -> Result:
    """sendfile(2)"""
    if pyfile(t, in_fd) is None and pyfile(t, out_fd) is None:
        return NATIVE
    return _sendfile(t, out_fd, in_fd, offset, count)


async def _sendfile(t: Task, out_fd: FdRef, in_fd: FdRef, offset: int, count: int) -> Result:
    """do_sendfile(): between regular files. A pipe or a socket cannot take the bytes without waiting, so it is EINVAL,
    after which programs use read(2) and write(2)."""
    source = End(t, in_fd)
    try:
        if not source.readable:
            raise err(errno.EBADF)
        if offset and not can_pread(t, in_fd):
            raise err(errno.ESPIPE)
        at = _offset(t, offset, source)
        if at < 0:
            raise err(errno.EINVAL)
        sink = End(t, out_fd)
        try:
            if not sink.writable:
                raise err(errno.EBADF)
            if sink.kind != S_IFIFO or sink.file is not None:
                if sink.flags & os.O_APPEND:
                    raise err(errno.EINVAL)
                _looked_at(source)
            if not count:
                return 0
            if S_IFREG != source.kind or S_IFREG != sink.kind:
                raise err(errno.EINVAL)
            to = sink.position
            count = room(t, to, min(count, _MOST))
            done = await _copy(t, source, at, sink, to, count)
            return _finish(done, [(source, offset, at), (sink, 0, to)])
        finally:
            sink.close()
    finally:
        source.close()


def _looked_at(source: End) -> None:
    """splice_direct_to_actor() counts it as an access, although vfs_splice_read() fails or has nothing to do."""
    file = source.file
    if file is not None and not file.flags & os.O_NOATIME and file.path.mount.keeps_atime:
        file.inode.accessed()
