"""What mount(2) and fsopen(2) of a guest can make: one function for each filesystem type.

Layer: vfs, beneath mountops.py. May touch: the filesystems, which are imported when the first of a kind is made.

A function gets the world, who mounts, and the options as {name: value or None}; it takes those it knows out, and what
is left is EINVAL (the caller sees to that). /proc, /sys, /dev and /dev/pts of a world exist once, and every further
mount shows the same (`shared`).
"""

from __future__ import annotations

import errno

from .inode import SuperBlock, err
from .stat import S_IFDIR

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    from .mount import Path
    from .namei import Caller
    from .vfs import Vfs

    Options = dict[str, str | None]
    FsType = Callable[[Vfs, Caller, Options], SuperBlock]


def number(options: Options, name: str, base: int = 10) -> int | None:
    """Take an option that is a number. EINVAL for other text."""
    if name not in options:
        return None
    try:
        return int(options.pop(name) or "", base)
    except ValueError:
        raise err(errno.EINVAL) from None


def size_options(options: Options) -> tuple[int | None, int | None]:
    """Take tmpfs' limits, (bytes, inodes): None where nothing is said, 0 for no limit. EINVAL for other text."""
    from .memfs import parse_size

    def amount(name: str, unit: int) -> int | None:
        if name not in options:
            return None
        text = options.pop(name) or ""
        try:
            return 0 if text == "0" else parse_size(text) * unit
        except ValueError:
            raise err(errno.EINVAL) from None

    size, blocks = amount("size", 1), amount("nr_blocks", 4096)
    return (blocks if size is None else size), amount("nr_inodes", 1)


def _tmpfs(vfs: Vfs, who: Caller, options: Options) -> SuperBlock:
    """tmpfs(5)"""
    from .memfs import MemoryFS

    size, inodes = size_options(options)
    for accepted in TMPFS_OPTIONS[6:]:  # about memory, which is the host's affair
        options.pop(accepted, None)
    mode, uid, gid = number(options, "mode", 8), number(options, "uid"), number(options, "gid")
    return MemoryFS(
        mode=0o1777 if mode is None else mode & 0o7777,
        uid=who.creds.fsuid if uid is None else uid,
        gid=who.creds.fsgid if gid is None else gid,
        size=size or None,
        nr_inodes=inodes or None,
    )


def _ramfs(vfs: Vfs, who: Caller, options: Options) -> SuperBlock:
    """ramfs: a tmpfs without limits, which ignores what it does not know (fs/ramfs/inode.c)"""
    from .memfs import MemoryFS

    mode = number(options, "mode", 8)
    options.clear()
    made = MemoryFS(mode=0o755 if mode is None else mode & 0o7777)
    made.fstype, made.magic = "ramfs", 0x858458F6
    return made


class Subtree(SuperBlock):
    """A directory of some filesystem as a layer of an overlay, which neither owns nor closes it."""

    def __init__(self, place: Path, name: str) -> None:
        super().__init__(name, place.inode.sb.dev)
        self.root = place.inode
        self.read_only = place.mount.read_only


def _overlay(vfs: Vfs, who: Caller, options: Options) -> SuperBlock:
    """overlayfs (Documentation/filesystems/overlayfs.rst)"""
    from .hostfs import HostFS
    from .overlayfs import OverlayFS

    def layer(name: str) -> Subtree:
        place = vfs.lookup(who, None, name.encode("utf-8", "surrogateescape"))
        if place.inode.kind != S_IFDIR:
            raise err(errno.ENOTDIR)
        if any(child.locked for child in place.mount.children.values()):
            raise err(errno.EINVAL)  # clone_private_mount(): it would show what they cover
        return Subtree(place, name)

    lower = [layer(name) for name in split_colons(options.pop("lowerdir", None) or "")]
    upper, work = options.pop("upperdir", None), options.pop("workdir", None)
    if not lower or bool(upper) != bool(work):
        raise err(errno.EINVAL)
    redirect = options.pop("redirect_dir", "off") == "on"
    for accepted in _OVERLAY[4:]:
        options.pop(accepted, None)
    if not upper or not work:
        if len(lower) < 2:
            raise err(errno.EINVAL)
        return OverlayFS(lower, Subtree(vfs.root, "none"), read_only=True)
    top, scratch = layer(upper), layer(work)
    if top.read_only:
        raise err(errno.EROFS)
    if top.root.sb is not scratch.root.sb or top.root is scratch.root:
        raise err(errno.EINVAL)
    marks = "oci" if isinstance(top.root.sb, HostFS) else "overlay"
    return OverlayFS(lower, top, redirect_dir=redirect, whiteouts=marks)


def split_colons(text: str) -> list[str]:
    """lowerdir=: names between colons; a backslash before a colon makes it part of the name."""
    parts, current, escaped = [], "", False
    for char in text:
        if escaped or char not in ":\\":
            current += char
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            parts.append(current)
            current = ""
    parts.append(current)
    return [part for part in parts if part]


TMPFS_OPTIONS = "size nr_blocks nr_inodes mode uid gid huge mpol noswap inode32 inode64".split()
_OVERLAY = "lowerdir upperdir workdir redirect_dir index xino metacopy userxattr nfs_export volatile uuid fsync".split()


def knows(fstype: str, option: str) -> bool:
    """Has a filesystem type an option of this name?"""
    if fstype == "ramfs":
        return True
    known = {"tmpfs": TMPFS_OPTIONS, "overlay": _OVERLAY}.get(fstype)
    return option in (_SHARED.get(fstype, ()) if known is None else known) or (fstype, option) == ("proc", "hidepid")


#: options of /proc, /dev/pts and /dev that change nothing here or say what is so anyway
_SHARED = {
    "proc": ("gid", "hidepid=0", "hidepid=off"),
    "devpts": ("newinstance", "gid", "uid", "mode", "ptmxmode", "max"),
    "devtmpfs": ("size", "nr_blocks", "nr_inodes", "mode", "inode32", "inode64"),
}


def shared(filesystem: SuperBlock) -> FsType:
    """A type of which the world has one instance."""

    def mount(vfs: Vfs, who: Caller, options: Options) -> SuperBlock:
        for name, value in list(options.items()):
            known = _SHARED.get(filesystem.fstype, ())
            if name in known or f"{name}={value}" in known:
                del options[name]
        return filesystem

    return mount


FSTYPES: dict[str, FsType] = {"tmpfs": _tmpfs, "ramfs": _ramfs, "overlay": _overlay}

__all__ = ["FSTYPES", "knows", "Subtree", "number", "shared", "size_options", "split_colons"]
