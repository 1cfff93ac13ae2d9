"""Mounts: which filesystem is seen where. A Path is a place in the tree, as Linux's `struct path`.

Layer: vfs, above dentry.py. May touch: dentry.py, inode.py.
"""

from __future__ import annotations

import errno

from .dentry import Dentry
from .hostwatch import HostWatch
from .inode import err

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .inode import Inode, SuperBlock

# mount(2) flags that a mount keeps, with the values of statfs(2)'s f_flags (they agree for these).
MNT_RDONLY = 1
MNT_NOSUID = 2
MNT_NODEV = 4
MNT_NOEXEC = 8
MNT_NOATIME = 1024
MNT_RELATIME = 4096

_NAMES = (
    (MNT_NOSUID, "nosuid"),
    (MNT_NODEV, "nodev"),
    (MNT_NOEXEC, "noexec"),
    (MNT_NOATIME, "noatime"),
    (MNT_RELATIME, "relatime"),
)


class Path:
    """(mount, dentry): immutable, equal when both are the same objects."""

    __slots__ = ("dentry", "mount")

    def __init__(self, mount: Mount, dentry: Dentry) -> None:
        self.mount = mount
        self.dentry = dentry

    @property
    def inode(self) -> Inode:
        return self.dentry.inode

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Path) and self.mount is other.mount and self.dentry is other.dentry

    def __hash__(self) -> int:
        return hash((id(self.mount), id(self.dentry)))

    def __repr__(self) -> str:
        return f"<Path {self.mount.id}:{self.dentry!r}>"


class Mount:
    """A filesystem (from `root` downwards) seen at `mountpoint`; `parent` and `mountpoint` are None for the
    root."""

    __slots__ = ("flags", "id", "mountpoint", "parent", "root", "sb", "unique_id")

    def __init__(self, sb: SuperBlock, root: Dentry, flags: int, ident: int) -> None:
        self.sb = sb
        self.root = root
        self.flags = flags
        self.id = ident
        # listmount(2) and STATX_MNT_ID_UNIQUE: never reused, begins above 32 bits (fs/namespace.c).
        self.unique_id = (1 << 32) + ident
        self.parent: Mount | None = None
        self.mountpoint: Dentry | None = None

    @property
    def read_only(self) -> bool:
        return bool(self.flags & MNT_RDONLY) or self.sb.read_only

    def option_string(self) -> str:
        """The per-mount options of /proc/mounts: "rw,nosuid,relatime"."""
        words = ["ro" if self.flags & MNT_RDONLY else "rw"]
        words += [name for bit, name in _NAMES if self.flags & bit]
        return ",".join(words)


class MountTable:
    """All mounts of one world (a mount namespace)."""

    def __init__(self) -> None:
        self._next_id = 20
        self.watch = HostWatch()
        self.mounts: list[Mount] = []  # in the order of mounting, as /proc/self/mountinfo lists them
        self._at: dict[tuple[int, int], Mount] = {}

    def create(self, sb: SuperBlock, flags: int = MNT_RELATIME, root: Dentry | None = None) -> Mount:
        """A mount that is not attached anywhere yet."""
        self._next_id += 1
        return Mount(sb, root or Dentry(b"/", None, sb.root), flags, self._next_id)

    def attach(self, mount: Mount, at: Path | None) -> None:
        """Put `mount` on top of `at` (None: the root of the world)."""
        if at is not None:
            mount.parent = at.mount
            mount.mountpoint = at.dentry
            at.dentry.mounted += 1
            self._at[id(at.mount), id(at.dentry)] = mount
        self.mounts.append(mount)

    def detach(self, mount: Mount) -> None:
        """Take a mount away; EBUSY while others are mounted on it, EINVAL for the root."""
        if mount.parent is None or mount.mountpoint is None:
            raise err(errno.EINVAL)
        if any(m.parent is mount for m in self.mounts):
            raise err(errno.EBUSY)
        self.mounts.remove(mount)
        del self._at[id(mount.parent), id(mount.mountpoint)]
        mount.mountpoint.mounted -= 1
        mount.parent = mount.mountpoint = None

    def cross(self, path: Path) -> Path:
        """Step onto whatever is mounted on `path`, however high the stack."""
        while path.dentry.mounted:
            top = self._at.get((id(path.mount), id(path.dentry)))
            if top is None:
                break
            path = Path(top, top.root)
        return path

    def in_use(self, sb: SuperBlock) -> bool:
        return any(m.sb is sb for m in self.mounts)
