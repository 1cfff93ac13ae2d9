"""The host's calls by number (vfs/hostcalls.py) against those of Python's os module, which are glibc's.

Layer: tests. Touches files of its own.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ring3.vfs import hostcalls

needs_xattrs = pytest.mark.skipif(
    not hasattr(os, "getxattr"), reason="this Python has no os.getxattr to compare with"
)


@needs_xattrs
def test_extended_attributes(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    Path(path).touch()
    try:
        os.setxattr(path, "user.one", b"1")
    except OSError as e:
        pytest.skip(f"no extended attributes in {tmp_path}: {e.strerror}")
    hostcalls.setxattr(path, b"user.two", b"a\0b" * 100, os.XATTR_CREATE)
    hostcalls.setxattr(path, b"user.none", b"", 0)
    assert os.getxattr(path, "user.two") == b"a\0b" * 100
    assert sorted(hostcalls.listxattr(path)) == sorted(map(os.fsencode, os.listxattr(path)))
    assert hostcalls.getxattr(path, b"user.one") == b"1"
    assert hostcalls.getxattr(path, b"user.none") == b""
    hostcalls.removexattr(path, b"user.one")
    with pytest.raises(OSError) as gone:
        os.getxattr(path, "user.one")
    with pytest.raises(OSError) as ours:
        hostcalls.getxattr(path, b"user.one")
    assert ours.value.errno == gone.value.errno == errno.ENODATA
    with pytest.raises(OSError) as there:
        hostcalls.setxattr(path, b"user.two", b"", os.XATTR_CREATE)
    assert there.value.errno == errno.EEXIST


def test_renameat2(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("was a")
    (tmp_path / "b").write_text("was b")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        hostcalls.renameat2(fd, b"a", fd, b"b", 2)  # RENAME_EXCHANGE
        assert (tmp_path / "a").read_text() == "was b"
        with pytest.raises(OSError) as there:
            hostcalls.renameat2(fd, b"a", fd, b"b", 1)  # RENAME_NOREPLACE
        assert there.value.errno == errno.EEXIST
    finally:
        os.close(fd)
