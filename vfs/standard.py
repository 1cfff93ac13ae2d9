"""The filesystems that every Linux world has: /dev, /dev/pts, /dev/shm, /proc and /sys.

Layer: vfs, on top of the filesystems; called by the front when it makes a world.  May touch: the Vfs's tree
and mounts.
"""

from __future__ import annotations

import errno

from .devfs import DevFS
from .devpts import DevPts
from .fstypes import shared
from .memfs import MemoryFS
from .mount import MNT_NODEV, MNT_NOEXEC, MNT_NOSUID, MNT_RELATIME
from .procfs import ProcFS
from .sysfs import SysFS

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from ..kernel.sandbox import Kernel
    from .inode import SuperBlock
    from .vfs import Vfs

_SAFE = MNT_RELATIME | MNT_NOSUID | MNT_NODEV | MNT_NOEXEC


class Standard:
    """What was mounted: `dev`, `pts`, `proc`."""

    __slots__ = ("dev", "proc", "pts")

    def __init__(self) -> None:
        self.pts = DevPts()
        self.dev = DevFS(self.pts)
        self.proc = ProcFS()

    def bind(self, kernel: Kernel) -> None:
        """The pretend kernel exists: /proc shows its processes."""
        self.proc.sandbox = kernel

    def adopt_tty(self, fd: int, uid: int, gid: int = 5) -> None:
        """The caller passes this descriptor to a guest: if it is a terminal, the world gets it (see
        DevFS)."""
        self.dev.adopt_tty(fd, uid, gid)


def mount_standard(vfs: Vfs) -> Standard:
    """Mount the standard filesystems where Linux distributions have them, making the directories that are
    missing.

    Raises: OSError if the root filesystem cannot make a directory (it is read-only and has none).
    """
    standard = Standard()
    vfs.proc = standard.proc
    plan: list[tuple[bytes, SuperBlock, int]] = [
        (b"/dev", standard.dev, MNT_RELATIME | MNT_NOSUID | MNT_NOEXEC),
        (b"/dev/pts", standard.pts, MNT_RELATIME | MNT_NOSUID | MNT_NOEXEC),
        (b"/dev/shm", MemoryFS(), MNT_RELATIME | MNT_NOSUID | MNT_NODEV),
        (b"/proc", standard.proc, _SAFE),
        (b"/sys", SysFS(), _SAFE),
    ]
    for place, filesystem, flags in plan:
        if place != b"/dev/shm":
            vfs.fstypes[filesystem.fstype] = shared(filesystem)
        _make_directory(vfs, place)
        mount = vfs.mount(filesystem, place, flags, locked=False)
        if filesystem is standard.dev:
            from .mount import Path

            standard.dev.identify(vfs, Path(mount, mount.root))
    return standard


def _make_directory(vfs: Vfs, place: bytes) -> None:
    try:
        vfs.lookup(vfs.local, None, place)
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise
        walk = vfs.walk_parent(vfs.local, None, place)
        vfs.mounts.walks.rename(walk.path.inode, walk.last, None)
        walk.path.inode.mkdir(walk.last, 0o755, 0, 0)
