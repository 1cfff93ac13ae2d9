"""Mounts: which filesystem is seen where. A Path is a place in the tree, as Linux's `struct path`.

Layer: vfs, above dentry.py. May touch: dentry.py, inode.py.
"""

from __future__ import annotations

import errno
from _weakref import ref  # the module weakref costs start-up time

from .dentry import Dentry
from .hostwatch import HostWatch
from .inode import err
from .propagation import MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, forget, inherit
from .remembered import Walks

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .inode import Inode, SuperBlock
    from .propagation import PeerGroup

# mount(2) flags that a mount keeps, with the values of statfs(2)'s f_flags (they agree for these).
MNT_RDONLY = 1
MNT_NOSUID = 2
MNT_NODEV = 4
MNT_NOEXEC = 8
MNT_NOATIME = 1024
MNT_NODIRATIME = 2048
MNT_RELATIME = 4096
MNT_NOSYMFOLLOW = 8192

#: mounts that there may be: fs.mount-max, whose default is 100,000
MOUNT_MAX = 8192

_NAMES = (
    (MNT_NOSUID, "nosuid"),
    (MNT_NODEV, "nodev"),
    (MNT_NOEXEC, "noexec"),
    (MNT_NOATIME, "noatime"),
    (MNT_NODIRATIME, "nodiratime"),
    (MNT_RELATIME, "relatime"),
    (MNT_NOSYMFOLLOW, "nosymfollow"),
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
    """A filesystem (from `root` downwards) seen at `mountpoint`.

    `parent` and `mountpoint` are None for the root of a tree; `children` are the mounts on this one, by the dentry that
    they cover; `ns` is the namespace, None while it is in none (detached). `source` is the first column of
    /proc/mounts. `locked`: made by the sandbox's owner, so no guest uncovers what is beneath (MNT_LOCKED);
    `lock_readonly`: nor makes it, or a copy of it, writable (MNT_LOCK_READONLY).
    """

    __slots__ = (
        "__weakref__",
        "children",
        "expiring",
        "flags",
        "group",
        "id",
        "lock_readonly",
        "locked",
        "master",
        "mountpoint",
        "ns",
        "parent",
        "root",
        "sb",
        "source",
        "unbindable",
        "unique_id",
    )

    def __init__(self, sb: SuperBlock, root: Dentry, flags: int, ident: int) -> None:
        self.sb = sb
        self.root = root
        self.flags = flags
        self.id = ident
        # listmount(2) and STATX_MNT_ID_UNIQUE: never reused, begins above 32 bits (fs/namespace.c).
        self.unique_id = (1 << 32) + ident
        self.parent: Mount | None = None
        self.mountpoint: Dentry | None = None
        self.children: dict[Dentry, Mount] = {}
        self.ns: Namespace | None = None
        self.source = sb.source or "none"
        self.locked = False
        self.lock_readonly = False
        self.expiring = False  # umount2(2) with MNT_EXPIRE was here once
        self.group: PeerGroup | None = None  # propagation.py
        self.master: PeerGroup | None = None
        self.unbindable = False

    @property
    def propagation(self) -> int:
        """MS_SHARED, MS_SLAVE or both, MS_UNBINDABLE, else MS_PRIVATE."""
        kind = (MS_SHARED if self.group is not None else 0) | (MS_SLAVE if self.master is not None else 0)
        return kind or (MS_UNBINDABLE if self.unbindable else MS_PRIVATE)

    @property
    def keeps_atime(self) -> bool:
        """Do reads change atime?"""
        return not self.flags & (MNT_RDONLY | MNT_NOATIME) and not self.sb.read_only

    @property
    def settled(self) -> bool:
        """Do reads of something change its atime at most once, until it is changed itself?"""
        return bool(self.flags & (MNT_RDONLY | MNT_NOATIME | MNT_RELATIME)) or self.sb.read_only

    @property
    def read_only(self) -> bool:
        return bool(self.flags & MNT_RDONLY) or self.sb.read_only

    def option_string(self) -> str:
        """The per-mount options of /proc/mounts: "rw,nosuid,relatime"."""
        words = ["ro" if self.flags & MNT_RDONLY else "rw"]
        words += [name for bit, name in _NAMES if self.flags & bit]
        return ",".join(words)

    def tree(self) -> Iterator[Mount]:
        """This mount and all that are on it, parents first."""
        left = [self]  # however deep they lie
        while left:
            one = left.pop()
            yield one
            left.extend(reversed(one.children.values()))

    def reaches(self, place: Path) -> bool:
        """Is `place` in this mount or in one beneath it?"""
        at: Mount | None = place.mount
        while at is not None and at is not self:
            at = at.parent
        return at is self


class Namespace:
    """A mount namespace: the mounts that a process sees, in the order of their ids.

    `users` are the FsStructs that belong to it (the first namespace has none listed: it stays until the world ends).
    """

    __slots__ = ("id", "mounts", "users")

    def __init__(self, ident: int) -> None:
        self.id = ident
        self.mounts: list[Mount] = []
        self.users: list[ref[Any]] = []

    @property
    def root(self) -> Mount:
        return next(m for m in self.mounts if m.parent is None)


class MountTable:
    """All mounts of one world. `mounts` are those of its first namespace, in the order of /proc/self/mountinfo."""

    #: inode numbers of nsfs: where the kernel's own dynamic ones begin (PROC_DYNAMIC_FIRST)
    FIRST_NS = 0xF0000000

    def __init__(self) -> None:
        self._next_id = 20
        self.last_group = 0
        self.protected_symlinks = False  # fs.protected_symlinks, as the host has it
        #: what names meant in past walks (Vfs.lookup); emptied whenever one may mean something else
        self.walks = Walks()
        self.watch = HostWatch(self.walks)
        self.first = Namespace(0)
        self.mounts = self.first.mounts
        self.namespaces = [self.first]
        self._last_ns = self.FIRST_NS

    def create(self, sb: SuperBlock, flags: int = MNT_RELATIME, root: Dentry | None = None) -> Mount:
        """A mount that is not attached anywhere yet."""
        self._next_id += 1
        if root is None:
            root = sb.root_dentry
            if root is None:  # every mount of a filesystem shows the same dentries
                root = sb.root_dentry = Dentry(b"/", None, sb.root)
        return Mount(sb, root, flags, self._next_id)

    def attach(self, mount: Mount, at: Path | None, ns: Namespace | None = None) -> None:
        """Put `mount`, with what is on it, on top of `at` (None: as the root of `ns`, by default the world's).

        `at.mount` decides on the namespace; in a detached tree it is none. Raises ENOSPC where there are too many.
        """
        self.walks.clear()
        ns = at.mount.ns if at is not None else ns or self.first
        if ns is not None and len(ns.mounts) >= MOUNT_MAX:
            raise err(errno.ENOSPC)
        if at is not None:
            mount.parent = at.mount
            mount.mountpoint = at.dentry
            at.dentry.mounted += 1
            at.mount.children[at.dentry] = mount
        for one in mount.tree():
            one.ns = ns
            if ns is not None:
                ns.mounts.append(one)
        if ns is not None:
            ns.mounts.sort(key=lambda m: m.id)

    def detach(self, mount: Mount) -> None:
        """Take a mount away; EBUSY while others are mounted on it, EINVAL for the root."""
        if mount.parent is None or mount.mountpoint is None:
            raise err(errno.EINVAL)
        if mount.children:
            raise err(errno.EBUSY)
        self.unhook(mount)
        forget(mount)

    def unhook(self, mount: Mount) -> None:
        """Take a mount, with what is on it, out of its place and namespace."""
        self.walks.clear()
        gone = set(mount.tree())
        for ns in {one.ns for one in gone if one.ns is not None}:
            ns.mounts[:] = [one for one in ns.mounts if one not in gone]
        for one in gone:
            one.ns = None
        self._uncover(mount)

    @staticmethod
    def _uncover(mount: Mount) -> None:
        parent, dentry = mount.parent, mount.mountpoint
        if parent is not None and dentry is not None:
            if parent.children.get(dentry) is mount:
                del parent.children[dentry]
            dentry.mounted -= 1
            mount.parent = mount.mountpoint = None

    def dissolve(self, mount: Mount) -> None:
        """A lazy umount: this mount and all that are on it are gone from every name; whoever is inside stays there, and
        what is locked goes on covering what it covered (umount_tree(), disconnect_mount())."""
        gone = list(mount.tree())
        self.unhook(mount)
        for one in gone:
            forget(one)
            if not one.locked:
                self._uncover(one)

    def clone(self, old: Mount, root: Dentry | None = None) -> Mount:
        """clone_mnt(): another mount of the same tree, from `root` on."""
        new = self.create(old.sb, old.flags, root or old.root)
        new.source = old.source
        inherit(new, old)
        new.locked, new.lock_readonly = old.locked, old.lock_readonly
        return new

    def copy_tree(self, old: Mount, root: Dentry | None = None, everything: bool = True) -> dict[Mount, Mount]:
        """copy_tree(): clones of `old` (from `root` on) and of what is on it, old to new. `everything`: unbindable ones
        too. Raises ENOSPC where there are too many."""
        room = MOUNT_MAX - sum(len(ns.mounts) for ns in self.namespaces)
        found: list[tuple[Mount, Mount]] = []  # and whose children they are
        left = [(old, old)]
        while left:
            one, parent = left.pop()
            found.append((one, parent))
            if len(found) > room:
                raise err(errno.ENOSPC)
            for child in reversed(one.children.values()):
                assert child.mountpoint is not None
                beneath = root is None or one is not old or child.mountpoint.is_beneath(root)
                if beneath and (everything or not child.unbindable):
                    left.append((child, one))
        made = {old: self.clone(old, root)}
        for child, parent in found[1:]:
            made[child] = self.clone(child)
            assert child.mountpoint is not None
            self.attach(made[child], Path(made[parent], child.mountpoint))
        return made

    def copy_namespace(self, old: Namespace) -> tuple[Namespace, dict[Mount, Mount]]:
        """copy_mnt_ns(): a namespace with clones of all mounts, and which is whose."""
        self._last_ns += 1
        ns = Namespace(self._last_ns)
        made = self.copy_tree(old.root)
        self.attach(made[old.root], None, ns)
        self.namespaces.append(ns)
        return ns, made

    def reap(self) -> None:
        """Namespaces that no process is in any more go, and their mounts with them."""
        for ns in self.namespaces[1:]:
            ns.users = [r for r in ns.users if r() is not None]
            if not ns.users:
                self.namespaces.remove(ns)
                self.dissolve(ns.root)

    def cross(self, path: Path) -> Path:
        """Step onto whatever is mounted on `path`, however high the stack."""
        while path.dentry.mounted:
            top = path.mount.children.get(path.dentry)
            if top is None:
                break
            path = Path(top, top.root)
        return path

    def in_use(self, sb: SuperBlock) -> bool:
        return any(m.sb is sb for ns in self.namespaces for m in ns.mounts)

    def uncover(self, dentry: Dentry, ns: Namespace) -> bool:
        """A name is about to go: False if `ns` has something mounted on it. What other namespaces have there is
        unmounted (detach_mounts() in fs/namespace.c)."""
        self.reap()
        if any(m.mountpoint is dentry for m in ns.mounts):
            return False
        for other in self.namespaces:
            for mount in [m for m in other.mounts if m.mountpoint is dentry]:
                self.dissolve(mount)
        return True
