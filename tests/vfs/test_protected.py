"""fs.protected_symlinks: a switch of the host's, so that it is tested on a tree in memory, set and not set."""

from __future__ import annotations

import pytest

from ring3.vfs import dirops
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.perm import SimpleCreds
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
