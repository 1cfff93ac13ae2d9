"""fs.protected_symlinks and its like: switches of the host's, so that they are tested on a tree in memory, set and not
set."""

from __future__ import annotations

import os

import pytest

from ring3.vfs import dirops
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.perm import SimpleCreds
from ring3.vfs.stat import S_IFIFO, S_IFREG
from ring3.vfs.vfs import LocalCaller, LocalFs, Vfs


@pytest.mark.parametrize("protected", [True, False])
def test_symlinks_of_others_in_a_sticky_directory(protected: bool) -> None:
    vfs = Vfs(MemoryFS(mode=0o755))
    vfs.mounts.protected_symlinks = protected
    try:
        dirops.mkdir(vfs, vfs.local, None, b"/tmp", 0o777)
        vfs.lookup(vfs.local, None, b"/tmp").inode.setattr(mode=0o1777)
        dirops.mkdir(vfs, vfs.local, None, b"/target", 0o755)
        one, other = (LocalCaller(LocalFs(vfs.root), SimpleCreds(uid, uid)) for uid in (1000, 1001))
        dirops.symlink(vfs, one, b"/target", None, b"/tmp/ones")
        dirops.symlink(vfs, vfs.local, b"/target", None, b"/tmp/roots")
        target = vfs.lookup(one, None, b"/target")
        assert vfs.lookup(one, None, b"/tmp/ones") == target
        assert vfs.lookup(other, None, b"/tmp/roots") == target
        assert vfs.lookup(other, None, b"/tmp/ones", False).inode.is_symlink
        for who in (other, vfs.local):
            assert vfs.lookup(who, None, b"/tmp/ones/.") == target  # on the way it is always followed
            if protected:
                with pytest.raises(PermissionError):
                    vfs.lookup(who, None, b"/tmp/ones")
            else:
                assert vfs.lookup(who, None, b"/tmp/ones") == target
    finally:
        vfs.close()


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("kind", ["regular", "fifo"])
def test_files_of_others_in_a_sticky_directory(kind: str, level: int) -> None:
    """proc_sys_fs(5): 1 protects in directories that all may write, 2 in those of a group too; only with O_CREAT."""
    vfs = Vfs(MemoryFS(mode=0o755))
    vfs.protected = {S_IFREG: 0, S_IFIFO: 0}
    file_type = S_IFREG if kind == "regular" else S_IFIFO
    vfs.protected[file_type] = level
    try:
        one, other = (LocalCaller(LocalFs(vfs.root, umask=0), SimpleCreds(uid, 100)) for uid in (1000, 1001))
        for name, mode in ((b"/all", 0o1777), (b"/group", 0o1775), (b"/plain", 0o777)):
            dirops.mkdir(vfs, vfs.local, None, name, 0o777)
            folder = vfs.lookup(vfs.local, None, name).inode
            folder.setattr(mode=mode, gid=100)
            dirops.mknod(vfs, one, None, name + b"/f", file_type | 0o666, 0)
            refused = level >= {b"/all": 1, b"/group": 2, b"/plain": 3}[name]
            for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT):
                for who in (one, other, vfs.local):
                    if refused and flags & os.O_CREAT and who is not one:
                        with pytest.raises(PermissionError):
                            vfs.open(who, None, name + b"/f", flags | os.O_NONBLOCK, 0o600)
                        continue
                    _, opened = vfs.open(who, None, name + b"/f", flags | os.O_NONBLOCK, 0o600)
                    assert isinstance(opened, int)
                    os.close(opened)
    finally:
        vfs.close()
