"""OverlayFS: any number of read-only trees under one that takes the changes, seen as one tree.

Layer: vfs, a filesystem behind inode.py's interface on top of other filesystems. May touch: the layers' inodes;
its own bytes it has none.

How it is made:
* An OverlayNode stands for one object: the one in the upper layer if there is one (`upper`), else the topmost of
  the lower layers (`lower`). A copy-up fills `upper` in and changes nothing else, so inode number, link count and
  whoever holds the object stay. A descriptor that was opened for reading before keeps showing the lower bytes,
  as overlayfs documents it ("Non-standard behavior").
* An OverlayDir (overlaydir.py) has a stack of directories, merged.
* Inode numbers are composed of the layer and the layer's own number (overlayfs: xino); an object that was copied
  up keeps its lower number (`origins`).
* Hard links: the names that a lower file has beside the one it was copied up under lead to the same object
  (overlayfs: index=on): `indexed` keeps it, and so that the bytes live as long as any of its names, lower ones
  included, the copy has an additional name in a hidden directory of the upper layer (layers.LINKS_DIR).
* Renaming a directory that has a lower part is EXDEV, as with overlayfs' defaults, unless `redirect_dir`.
"""

from __future__ import annotations

import errno
import os
from _weakref import ref  # the module weakref costs start-up time

from .copyup import copy_attributes, copy_contents
from .inode import Inode, OpenContext, SuperBlock, err
from .layers import is_private
from .memfs import MemoryFS
from .openfile import OpenFile
from .privileges import CAPABILITY
from .stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Stat, StatFs

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from typing import Any

    from .layers import Stack
    from .overlaydir import OverlayDir
    from .overlaystate import OverlayState
    from .vfs import Vfs

    Key = tuple[int, int, int]  # layer, st_dev and inode number there

_LAYER_SHIFT = 48
_OTHER_INO = 1 << 60  # numbers of objects that do not fit (other devices beneath a host directory)


class OverlayFS(SuperBlock):
    """The `lower` filesystems (topmost first) with the changes in `upper`.

    Arguments: `upper`, by default a MemoryFS of its own; `read_only`, no upper layer at all; `redirect_dir`,
    directories of the lower layers can be renamed (overlayfs' option of this name; else that is EXDEV, which mv
    answers by copying); `whiteouts`, what marks are written: "overlay" or "oci" (those of container layers, which
    need no device nodes: the default for a host directory). The layers are the overlay's own from now on: it closes
    them. Raises ValueError without a layer or for another word.
    """

    fstype = "overlay"
    magic = 0x794C7630

    def __init__(
        self,
        lower: Sequence[SuperBlock],
        upper: SuperBlock | None = None,
        *,
        read_only: bool = False,
        redirect_dir: bool = False,
        whiteouts: str | None = None,
        source: str = "overlay",
    ) -> None:
        from .hostfs import HostFS
        from .overlaydir import OverlayDir

        super().__init__(source)
        if not lower:
            raise ValueError("an overlay needs at least one lower layer")
        if whiteouts not in (None, "overlay", "oci"):
            raise ValueError(f"whiteouts are written as 'overlay' or 'oci', not {whiteouts!r}")
        top = lower[0].root
        if upper is None:
            upper = MemoryFS(mode=top.mode & 0o7777, uid=top.uid, gid=top.gid)
        self.layers = [upper, *lower]
        for layer in self.layers:
            layer.exact = False  # what changes in it changes here too
        self.read_only = read_only or upper.read_only
        self.oci = isinstance(upper, HostFS) if whiteouts is None else whiteouts == "oci"
        self.redirect_dir = redirect_dir and not self.oci
        self.vfs: Vfs | None = None
        self.known: dict[Key, ref[OverlayNode]] = {}
        self.indexed: dict[Key, OverlayNode] = {}
        self.origins: dict[tuple[int, int], int] = {}  # (dev, ino) of a copy -> the number it shows
        self._others: dict[Key, int] = {}
        self.roots = [layer.root for layer in self.layers]
        self.stack: Stack = list(enumerate(self.roots))
        root = OverlayDir(self, self.stack, b"/")
        self.root_dir = root
        self.root: Inode = root

    def attached(self, vfs: Vfs) -> None:
        self.vfs = vfs
        for layer in self.layers:
            layer.attached(vfs)

    @property
    def options(self) -> str:
        words = ["lowerdir=" + ":".join(layer.source for layer in self.layers[1:])]
        if not self.read_only:
            words.append(f"upperdir={self.layers[0].source}")
        if self.redirect_dir:
            words.append("redirect_dir=on")
        return ",".join(words)

    def snapshot(self) -> OverlayState | None:
        """None with a host directory on top."""
        upper = self.layers[0].snapshot()
        from .memstate import MemState

        if not isinstance(upper, MemState) or self.vfs is None:
            return None
        from .overlaystate import OverlayState

        return OverlayState(self, upper)

    def base(self) -> Inode:
        """The lower layers alone."""
        lower = OverlayFS(self.layers[1:], read_only=True)
        lower.vfs = self.vfs
        return lower.root

    def statfs(self) -> StatFs:
        """The upper layer's room."""
        st = self.layers[0].statfs()
        st.magic = self.magic
        st.fsid = self.dev
        return st

    def sync(self) -> None:
        self.layers[0].sync()

    def close(self) -> None:
        self.indexed.clear()
        for layer in self.layers:
            layer.close()

    # -- which object is which -------------------------------------------------------------------------------

    def key(self, layer: int, inode: Inode) -> Key:
        return layer, getattr(inode, "dev", inode.sb.dev), inode.ino

    def number(self, key: Key) -> int:
        """The inode number that the object `key` shows."""
        layer, dev, ino = key
        if layer == 0:
            origin = self.origins.get((dev, ino))
            if origin is not None:
                return origin
        if dev == self.layers[layer].dev and ino < 1 << _LAYER_SHIFT:
            return layer << _LAYER_SHIFT | ino
        return self._others.setdefault(key, _OTHER_INO + len(self._others))

    def remember(self, key: Key, node: OverlayNode) -> None:
        self.known[key] = ref(node)

    def recall(self, key: Key) -> OverlayNode | None:
        r = self.known.get(key)
        return None if r is None else r()

    def wrap(self, found: Stack, parent: OverlayDir, name: bytes) -> OverlayNode:
        """The object of what layers.find() found as `name` in `parent`."""
        from .overlaydir import OverlayDir

        layer, real = found[0]
        is_dir = real.mode & S_IFMT == S_IFDIR
        if is_dir and layer == 0 and len(found) > 1:
            key = self.key(*found[1])  # as before the copy-up
        else:
            key = self.key(layer, real)
        node = self.recall(key)
        if node is not None and (node.mode ^ real.mode) & S_IFMT:
            node = None  # a number that was used again
        if node is None:
            if is_dir:
                node = OverlayDir(self, found, parent.lower_path_of(name, found))
            else:
                node = OverlayNode(self, found)
            self.remember(key, node)
        elif isinstance(node, OverlayDir) and layer == 0 and node.upper is None:
            node.upper = real
        node.place = (parent, name)
        node.take()
        return node


class OverlayNode(Inode):
    """An object that is no directory: `upper` or `lower` or both (then the upper one counts)."""

    __slots__ = ("base", "key", "lower", "place", "upper")

    sb: OverlayFS

    def __init__(self, sb: OverlayFS, found: Stack) -> None:
        layer, real = found[0]
        self.key = sb.key(layer, real)
        super().__init__(sb, sb.number(self.key), real.mode, time=0)
        self.upper = real if layer == 0 else None
        self.lower = None if layer == 0 else real
        #: Names that the copy does not know of: of an indexed object; None where the real link count holds.
        self.base: int | None = None
        self.place: tuple[OverlayDir, bytes] | None = None
        self.take()

    def __del__(self) -> None:
        r = self.sb.known.get(self.key)
        if r is not None and r() in (self, None):
            del self.sb.known[self.key]

    @property
    def real(self) -> Inode:
        """The object that counts."""
        real = self.upper or self.lower
        assert real is not None
        return real

    @property
    def forgets(self) -> bool:  # type: ignore[override]
        return self.real.forgets

    @property
    def linkable(self) -> bool:  # type: ignore[override]
        return self.upper is not None and self.upper.linkable

    @property
    def reads_show(self) -> bool:  # type: ignore[override]
        return self.real.reads_show

    def is_settled(self) -> bool:
        return self.real.is_settled()

    def native_times(self) -> tuple[int, int, int] | None:
        return self.real.native_times()

    def may_stay_open(self) -> bool:
        return self.real.may_stay_open()

    # -- attributes ------------------------------------------------------------------------------------------

    def take(self) -> None:
        """Bring the slots up to date with the real object's."""
        real = self.real
        self.mode = real.mode
        self.uid = real.uid
        self.gid = real.gid
        self.size = real.size
        self.rdev = real.rdev
        self.nlink = self.links()

    def links(self) -> int:
        """The link count to show."""
        return self.real.nlink if self.base is None else self.base

    def refresh(self) -> None:
        self.real.refresh()
        self.take()

    def getattr(self) -> Stat:
        st = self.real.getattr()
        self.take()
        st.dev = self.sb.dev
        st.ino = self.ino
        st.nlink = self.nlink
        return st

    def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
    ) -> None:
        if size is not None and self.mode & S_IFMT != S_IFREG:
            raise err(errno.EINVAL)
        upper = self.copy_up(size)
        upper.setattr(mode=mode, uid=uid, gid=gid, size=size, atime=atime, mtime=mtime)
        self.take()

    @property
    def has_capabilities(self) -> bool:  # type: ignore[override]
        try:
            return bool(self.real.getxattr(CAPABILITY))
        except OSError:
            return False

    @property
    def has_iflags(self) -> bool:  # type: ignore[override]
        return (self.upper or self.sb.layers[0].root).has_iflags

    @property
    def iflags(self) -> int:  # type: ignore[override]
        return self.real.iflags

    def set_iflags(self, flags: int, now: int) -> None:
        self.copy_up().set_iflags(flags, now)

    def write_opened(self, lost: int) -> None:
        if self.upper is not None:
            self.upper.write_opened(lost)

    def named(self) -> None:
        if self.upper is not None:
            self.upper.named()

    def may_be_open(self, lost: int) -> None:
        if self.upper is not None:
            self.upper.may_be_open(lost)

    def accessed(self) -> None:
        """ovl_update_time(): a lower layer keeps its access times."""
        if self.upper is not None:
            self.upper.accessed()

    def count(self, names: int) -> None:
        """`names` more names. The real link count counts those in the upper layer; an object that has further ones
        is counted here."""
        if self.base is None and self.upper is None:
            self.base = self.real.nlink
            self.sb.indexed[self.key] = self
        if self.base is not None:
            self.base = max(0, self.base + names)
        self.take()
        if not self.nlink:
            self.place = None
            self.forget()

    def unnamed(self, parent: OverlayDir, name: bytes) -> None:
        """The name `name` in `parent` is gone."""
        if self.place is not None and self.place[0] is parent and self.place[1] == name:
            self.place = None
        self.count(-1)

    def forget(self) -> None:
        """The last name is gone."""
        sb = self.sb
        sb.indexed.pop(self.key, None)
        if self.upper is not None:
            if self.base is not None and self.key[0]:
                sb.root_dir.drop_extra_name(self.upper)
            sb.origins.pop(sb.key(0, self.upper)[1:], None)

    # -- copying up ------------------------------------------------------------------------------------------

    def copy_up(self, keep: int | None = None) -> Inode:
        """The object in the upper layer, made now if need be; of its bytes at most `keep` are copied.

        Raises what the upper layer raises (ENOSPC...); then nothing has changed.
        """
        if self.upper is not None:
            return self.upper
        lower = self.real
        place = self.place
        if place is not None:
            parent, name = place[0].copy_up(), place[1]
        elif self.nlink:
            parent, name = (
                self.sb.root_dir.links_dir(),
                b"new",
            )  # the name it was found by is gone, others are not
        else:
            # Removed, and still open somewhere: a copy without a name, outside the upper layer's tree.
            scratch = MemoryFS()
            if self.sb.vfs is not None:
                scratch.attached(self.sb.vfs)
            parent, name = scratch.root, b"new"
        before = parent.getattr()
        made = self._duplicate(lower, parent, name, keep)
        if self.nlink > 1 or self.base:
            if self.base is None:
                self.base = lower.nlink
            self.sb.indexed[self.key] = self
            self.sb.root_dir.add_extra_name(made)
        if place is None:
            parent.unlink(name, made)
        key = self.sb.key(0, made)
        self.sb.origins[key[1:]] = self.ino
        self.sb.remember(key, self)
        self.upper = made
        parent.setattr(atime=before.atime, mtime=before.mtime)
        self.take()
        return made

    def _duplicate(self, lower: Inode, parent: Inode, name: bytes, keep: int | None) -> Inode:
        """A copy of `lower` as `name` in `parent`, of the upper layer."""
        st = lower.getattr()
        kind = st.mode & S_IFMT
        if kind == S_IFREG:
            made = parent.create(name, st.mode & 0o7777, st.uid, st.gid)
        elif kind == S_IFLNK:
            made = parent.symlink(name, lower.readlink(), st.uid, st.gid)
        else:
            made = parent.mknod(name, st.mode, st.rdev, st.uid, st.gid)
        try:
            if kind == S_IFREG and keep != 0 and st.size:
                if self.sb.vfs is None:
                    raise err(errno.EROFS)  # mounted nowhere: nobody can write
                copy_contents(self.sb.vfs, lower, made, keep)
            copy_attributes(lower, made, st)
        except BaseException:
            parent.unlink(name, made)
            raise
        return made

    # -- opening ---------------------------------------------------------------------------------------------

    def open(self, ctx: OpenContext) -> int | OpenFile | Awaitable[int | OpenFile]:
        kind = self.mode & S_IFMT
        if kind == S_IFREG:
            if ctx.flags & (os.O_ACCMODE | os.O_TRUNC):
                self.copy_up(0 if ctx.flags & os.O_TRUNC else None)
            return self.real.open(ctx)
        if kind in (S_IFCHR, S_IFBLK):
            from .hostfs import HostNode

            if isinstance(self.real, HostNode):
                raise err(errno.EACCES)  # never the host's own
        return Inode.open(self, ctx)

    def readlink(self, task: Any = None) -> bytes:
        return self.real.readlink(task)

    # -- extended attributes ---------------------------------------------------------------------------------

    @property
    def acl(self) -> bytes | None:  # type: ignore[override]
        return self.real.acl

    @property
    def default_acl(self) -> bytes | None:  # type: ignore[override]
        return self.real.default_acl

    def getxattr(self, name: bytes) -> bytes:
        if is_private(name):
            raise err(errno.EOPNOTSUPP)
        return self.real.getxattr(name)

    def listxattr(self) -> list[bytes]:
        return [name for name in self.real.listxattr() if not is_private(name)]

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        if is_private(name):
            raise err(errno.EOPNOTSUPP)
        if flags and self.upper is None:
            have = name in self.real.listxattr()
            if flags & 1 and have:
                raise err(errno.EEXIST)
            if flags & 2 and not have:
                raise err(errno.ENODATA)
        self.copy_up().setxattr(name, value, flags)

    def removexattr(self, name: bytes) -> None:
        if is_private(name):
            raise err(errno.EOPNOTSUPP)
        if self.upper is None:
            self.real.getxattr(name)  # ENODATA before anything is copied
        self.copy_up().removexattr(name)
