"""Copying a host file into a memfd, for copy-on-write.

Layer: vfs, beneath cowfs.py. May touch: the two descriptors it is given.
"""

from __future__ import annotations

import errno
import os


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
