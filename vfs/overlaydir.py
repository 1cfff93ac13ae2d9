"""Directories of OverlayFS: merged listings, and changes, which are made in the upper layer.

Layer: vfs, the other half of overlayfs.py. May touch: the layers' directories.
"""

from __future__ import annotations

import errno

from .copyup import copy_attributes
from .inode import Inode, OpenContext, err
from .layers import LINKS_DIR, OPAQUE_FILE, WH, find, is_whiteout, listing, mark_of, set_mark
from .memfs import RENAME_EXCHANGE
from .openfile import OpenDir
from .overlayfs import OverlayFS, OverlayNode
from .stat import S_IFCHR, S_IFDIR, S_IFMT

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .layers import Stack


class OverlayDir(OverlayNode):
    """A directory: `upper` (None before the copy-up) over `lowers`.

    `lower_path`: where the lower layers have it, which is what a redirect says after a rename.
    """

    __slots__ = ("dead", "lower_path", "lowers")

    def __init__(self, sb: OverlayFS, found: Stack, lower_path: bytes) -> None:
        self.lowers = [entry for entry in found if entry[0]]
        self.lower_path = lower_path
        self.dead = False
        super().__init__(sb, found)
        if found[0][0] == 0 and self.lowers:
            self.key = sb.key(*self.lowers[0])
            self.ino = sb.number(self.key)
            self.lower = self.lowers[0][1]

    @property
    def steady(self) -> bool:  # type: ignore[override]
        return not self.dead and all(directory.steady for _, directory in self.stack)

    def links(self) -> int:
        """Of a merged directory 1, which tells find(1) that nobody counted (as overlayfs)."""
        if self.dead:
            return 0
        return 1 if len(self.lowers) + (self.upper is not None) > 1 else self.real.nlink

    @property
    def stack(self) -> Stack:
        return self.lowers if self.upper is None else [(0, self.upper), *self.lowers]

    def lower_path_of(self, name: bytes, found: Stack) -> bytes:
        """Where the lower layers have the directory that was found here as `name`."""
        redirect = mark_of(found[0][1], b"redirect") if found[0][0] == 0 and len(found) > 1 else None
        if redirect and redirect.startswith(b"/"):
            return redirect
        return self.lower_path.rstrip(b"/") + b"/" + (redirect or name)

    def lookup(self, name: bytes) -> Inode | None:
        if self.dead or name.startswith(WH):
            return None
        found = find(self.stack, name, self.sb.roots)
        return self.sb.wrap(found, self, name) if found else None

    def readdir(self) -> list[tuple[bytes, int, int]]:
        if self.dead:
            return []
        sb = self.sb
        devs = [layer.dev for layer in sb.layers]
        maybe_merged = bool(self.lowers) or sb.redirect_dir
        result = []
        for name, (layer, ino, kind) in listing(self.stack).items():
            if layer == 0 and kind == S_IFDIR and maybe_merged:
                child = self.lookup(name)
                if child is None:
                    continue
                number = child.ino
            else:
                number = sb.number((layer, devs[layer], ino))
            result.append((name, number, kind))
        return result

    def open(self, ctx: OpenContext) -> OpenDir:
        for _, directory in self.stack:
            check = getattr(directory, "check_readable", None)
            if check is not None:
                check()
        return OpenDir(ctx.path, self, ctx.flags)

    # -- the upper directory ---------------------------------------------------------------------------------

    def copy_up(self, keep: int | None = None) -> Inode:
        if self.upper is None:
            if self.place is None:
                raise err(errno.ENOENT)  # removed
            parent, name = self.place
            above = parent.copy_up()
            before, st = above.getattr(), self.real.getattr()
            made = above.mkdir(name, st.mode & 0o7777, st.uid, st.gid)
            try:
                copy_attributes(self.real, made, st)
                if self.lower_path != parent.lower_path.rstrip(b"/") + b"/" + name:
                    set_mark(made, b"redirect", self.lower_path)
                above.setattr(atime=before.atime, mtime=before.mtime)
            except BaseException:
                above.rmdir(name, made)
                raise
            self.upper = made
            self.take()
        return self.upper

    def _hides(self, name: bytes) -> bool:
        """Is there something in the lower layers that `name` would show, were it not marked here?"""
        return bool(self.lowers and find(self.lowers, name, self.sb.roots))

    def _whiteout(self, name: bytes) -> None:
        upper = self.copy_up()
        if self.sb.oci:
            if upper.lookup(WH + name) is None:
                upper.create(WH + name, 0o600, self.uid, self.gid)
        else:
            upper.mknod(name, S_IFCHR, 0, 0, 0)

    def _unmark(self, name: bytes) -> bool:
        """Take a whiteout of `name` away, so that the name is free; True if there was one."""
        upper = self.copy_up()
        mark = upper.lookup(WH + name)
        if mark is not None:
            upper.unlink(WH + name, mark)
            return True
        child = upper.lookup(name)
        if child is not None and is_whiteout(child):
            upper.unlink(name, child)
            return True
        return False

    def _make_opaque(self, directory: Inode) -> None:
        if self.sb.oci:
            if directory.lookup(OPAQUE_FILE) is None:
                directory.create(OPAQUE_FILE, 0o600, directory.uid, directory.gid)
        else:
            set_mark(directory, b"opaque", b"y")

    def _purge(self, directory: Inode) -> None:
        """Take the marks out of an upper directory that is to go; all else was found to be gone."""
        for name, _, _ in directory.readdir():
            child = directory.lookup(name)
            if child is not None:
                directory.unlink(name, child)

    def links_dir(self) -> Inode:
        """The hidden directory of such copies (of the root directory)."""
        upper = self.copy_up()
        return upper.lookup(LINKS_DIR) or upper.mkdir(LINKS_DIR, 0o700, 0, 0)

    def add_extra_name(self, inode: Inode) -> None:
        """Keep a copy whose other names are in lower layers alive (of the root directory)."""
        self.links_dir().link(b"%d" % inode.ino, inode)

    def drop_extra_name(self, inode: Inode) -> None:
        folder = self.copy_up().lookup(LINKS_DIR)
        if folder is not None and folder.lookup(b"%d" % inode.ino) is not None:
            folder.unlink(b"%d" % inode.ino, inode)

    # -- making ----------------------------------------------------------------------------------------------

    def _free(self, name: bytes) -> Inode:
        """The upper directory, with `name` free in it."""
        if name.startswith(WH):
            raise err(errno.EPERM, name)  # reserved, as with aufs
        self._unmark(name)
        return self.copy_up()

    def _made(self, name: bytes, real: Inode) -> Inode:
        self.take()
        return self.sb.wrap([(0, real)], self, name)

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        return self._made(name, self._free(name).create(name, mode, uid, gid))

    def tmpfile(self, mode: int, uid: int, gid: int, linkable: bool) -> Inode:
        node = OverlayNode(self.sb, [(0, self.copy_up().tmpfile(mode, uid, gid, linkable))])
        self.sb.remember(node.key, node)
        return node

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        upper = self._free(name)
        real = upper.mkdir(name, mode, uid, gid)
        if self._hides(name):
            self._make_opaque(real)
        return self._made(name, real)

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        if mode & S_IFMT == S_IFCHR and rdev == 0:
            raise err(errno.EPERM, name)  # ovl_mknod(): that would be a whiteout
        return self._made(name, self._free(name).mknod(name, mode, rdev, uid, gid))

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        return self._made(name, self._free(name).symlink(name, target, uid, gid))

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, OverlayNode)
        real = inode.copy_up()
        self._free(name).link(name, real)
        inode.count(1)
        inode.place = (self, name)
        self.take()

    # -- removing --------------------------------------------------------------------------------------------

    def unlink(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, OverlayNode)
        self._remove(name)
        inode.unnamed(self, name)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, OverlayDir)
        if inode.readdir():
            raise err(errno.ENOTEMPTY)
        if inode.upper is not None:
            self._purge(inode.upper)
        self._remove(name)
        inode.died()

    def _remove(self, name: bytes) -> None:
        """Take `name` out of the upper directory, and hide what is beneath."""
        upper = self.copy_up()
        real = upper.lookup(name)
        if real is not None:
            if real.is_dir:
                upper.rmdir(name, real)
            else:
                upper.unlink(name, real)
        if self._hides(name):
            self._whiteout(name)
        self.take()

    def died(self) -> None:
        """This directory was removed."""
        self.dead = True
        self.place = None
        self.take()

    # -- renaming --------------------------------------------------------------------------------------------

    def rename(self, name: bytes, newdir: Inode, newname: bytes, flags: int) -> None:
        assert isinstance(newdir, OverlayDir)
        node, other = self.lookup(name), newdir.lookup(newname)
        assert isinstance(node, OverlayNode)
        assert other is None or isinstance(other, OverlayNode)
        if newname.startswith(WH):
            raise err(errno.EPERM, newname)
        self._may_move(node)
        if flags & RENAME_EXCHANGE:
            assert other is not None
            self._may_move(other)
            self._exchange(name, node, newdir, newname, other)
            return
        if isinstance(other, OverlayDir) and other.readdir():
            raise err(errno.ENOTEMPTY)
        self._bring_up(name, node)
        target = newdir.copy_up()
        if isinstance(other, OverlayDir):
            if other.upper is not None:
                self._purge(other.upper)
        covered = newdir._hides(newname)
        newdir._unmark(newname)
        self.copy_up().rename(name, target, newname, 0)
        newdir._settle(newname, node, covered)
        if self._hides(name):
            self._whiteout(name)
        if isinstance(other, OverlayDir):
            other.died()
        elif other is not None:
            other.unnamed(newdir, newname)
        self.take()
        newdir.take()

    def _exchange(
        self, name: bytes, node: OverlayNode, newdir: OverlayDir, newname: bytes, other: OverlayNode
    ) -> None:
        """RENAME_EXCHANGE."""
        self._bring_up(name, node)
        newdir._bring_up(newname, other)
        self.copy_up().rename(name, newdir.copy_up(), newname, RENAME_EXCHANGE)
        newdir._settle(newname, node, newdir._hides(newname))
        self._settle(name, other, self._hides(name))
        self.take()
        newdir.take()

    def _may_move(self, node: OverlayNode) -> None:
        if isinstance(node, OverlayDir) and node.lowers and not self.sb.redirect_dir:
            raise err(errno.EXDEV)  # ovl_can_move()

    def _bring_up(self, name: bytes, node: OverlayNode) -> None:
        """See to it that the upper directory has `node` under `name`."""
        real = node.copy_up()
        upper = self.copy_up()
        if upper.lookup(name) is None:
            upper.link(name, real)  # copied up under another of its names

    def _settle(self, name: bytes, node: OverlayNode, covered: bool) -> None:
        """`node` is `name` here from now on; `covered`: the lower layers have something of this name."""
        node.place = (self, name)
        if isinstance(node, OverlayDir):
            assert node.upper is not None
            if node.lowers:
                set_mark(node.upper, b"redirect", node.lower_path)
            elif covered:
                self._make_opaque(node.upper)
        node.take()
