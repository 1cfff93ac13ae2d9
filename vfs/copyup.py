"""Copying up: a host file into a memfd, an object of a lower layer into the upper one.

Layer: vfs, beneath cowfs.py and overlayfs.py. May touch: the descriptors and inodes it is given.
"""

from __future__ import annotations

import errno
import os

from .inode import OpenContext, err
from .openfile import OpenFile
from .perm import ROOT

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .inode import Inode
    from .stat import Stat
    from .vfs import Vfs

_CHUNK = 1 << 20

def copy_file(source: int, target: int, keep: int | None) -> None:
    """Copy a host file into an empty memfd: the first `keep` bytes (None: all), holes as holes."""
    size = os.fstat(source).st_size
    if keep is not None:
        size = min(size, keep)
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
            end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        except OSError as e:
            if e.errno == errno.ENXIO:
                break  # a hole to the end
            start, end = offset, size  # a filesystem that cannot tell
        if start >= size:
            break
        offset = _copy_range(source, target, start, end)
        if offset < end:
            size = offset  # shorter than it says (files of sysfs)
            break
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, end: int) -> int:
    """Copy [start, end); returns where it stopped (earlier only at the end of the file)."""
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        try:
            count = os.sendfile(target, source, start, min(end - start, 1 << 30))
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            data = os.pread(source, min(end - start, 1 << 20), start)
            count = os.write(target, data)
        if not count:
            break
        start += count
    return start


def copy_attributes(lower: Inode, made: Inode, st: Stat) -> None:
    """Extended attributes and times, as far as the upper layer takes them."""
    from .layers import is_private

    for name in lower.listxattr():
        if is_private(name):
            continue
        try:
            made.setxattr(name, lower.getxattr(name), 0)
        except OSError as e:
            if e.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.ENODATA):
                raise
    made.setattr(atime=st.atime, mtime=st.mtime)


def copy_contents(vfs: Vfs, lower: Inode, made: Inode, keep: int | None) -> None:
    """The bytes of a regular file of any filesystem, the first `keep` (None: all), into an empty one."""
    path = vfs.root  # no filesystem with bytes of its own asks where it is
    target = made.open(OpenContext(vfs, path, os.O_WRONLY, ROOT))
    assert isinstance(target, int)
    try:
        source = lower.open(OpenContext(vfs, path, os.O_RDONLY, ROOT))
        if isinstance(source, int):
            try:
                copy_file(source, target, keep)
            finally:
                os.close(source)
        elif isinstance(source, OpenFile):
            _copy_generated(source, target, keep)
        else:
            source.close()  # type: ignore[attr-defined]  # a coroutine
            raise err(errno.EIO)
    finally:
        os.close(target)


def _copy_generated(source: OpenFile, target: int, keep: int | None) -> None:
    """The bytes of a file that Python serves."""
    done = 0
    try:
        while keep is None or done < keep:
            data = source.do_read(None, _CHUNK if keep is None else min(_CHUNK, keep - done))
            if not isinstance(data, bytes):
                data.close()  # type: ignore[attr-defined]
                raise err(errno.EIO)
            if not data:
                break
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
            done += len(data)
    finally:
        source.release()
