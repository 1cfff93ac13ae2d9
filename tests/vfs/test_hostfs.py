"""HostFS, written for real: what the contract's scenarios do not reach."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ring3.vfs import dirops
from ring3.vfs.hostfs import HostFS
from ring3.vfs.vfs import Vfs


def test_a_file_without_a_name(tmp_path: Path) -> None:
    vfs = Vfs(HostFS(str(tmp_path), read_only=False))
    try:
        place, fd = vfs.open(vfs.local, None, b"/", os.O_TMPFILE | os.O_RDWR, 0o640)
        assert isinstance(fd, int)
        os.write(fd, b"hello")
        st = place.inode.getattr()
        assert (st.nlink, st.size, st.mode & 0o777, list(tmp_path.iterdir())) == (0, 5, 0o640, [])
        for name in (b"one", b"two"):
            dirops.link(vfs, vfs.local, place, None, name)
        assert (tmp_path / "two").read_bytes() == b"hello" and os.fstat(fd).st_nlink == 2
        assert vfs.lookup(vfs.local, None, b"one").inode is place.inode
        for name in (b"one", b"two"):
            dirops.unlink(vfs, vfs.local, None, name)
        with pytest.raises(OSError):  # a file that lost its last name gets none again
            dirops.link(vfs, vfs.local, place, None, b"three")
        os.close(fd)
        place, fd = vfs.open(vfs.local, None, b"/", os.O_TMPFILE | os.O_WRONLY | os.O_EXCL, 0o600)
        with pytest.raises(FileNotFoundError):
            dirops.link(vfs, vfs.local, place, None, b"four")
        assert isinstance(fd, int)
        os.close(fd)
        assert list(tmp_path.iterdir()) == []
    finally:
        vfs.close()
