"""Layers: how one directory is found in a stack of trees, with the marks that hide what is beneath.

Layer: vfs, beneath overlayfs.py and image.py. May touch: inodes of any filesystem, through inode.py's interface.

Two families of marks are understood in every layer, and either may be written:

* overlayfs' own (Documentation/filesystems/overlayfs.rst): a *whiteout* is a character device 0/0; an *opaque*
  directory has the attribute trusted.overlay.opaque (or user.overlay.opaque, as with the option userxattr) "y";
  a directory that was renamed has trusted.overlay.redirect, the path that it has in the layers beneath.
* OCI's (image-spec, layer.md, "Whiteouts"): an empty file `.wh.NAME` hides NAME; `.wh..wh..opq` in a directory
  makes it opaque. Both concern the layers beneath alone, never the one that they are in.

A *stack* is a list of (layer number, directory), topmost first; layer 0 is the upper one.
"""

from __future__ import annotations

import errno

from .inode import err
from .stat import S_IFCHR, S_IFDIR, S_IFMT

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .inode import Inode

    Stack = list[tuple[int, Inode]]

WH = b".wh."
OPAQUE_FILE = b".wh..wh..opq"
LINKS_DIR = b".wh..wh.plnk"  # where aufs keeps files whose names are not all in the layer; ours too
_PREFIXES = (b"trusted.overlay.", b"user.overlay.")


def is_private(name: bytes) -> bool:
    """An extended attribute of the overlay itself, which guests do not see?"""
    return name.startswith(_PREFIXES)


def is_whiteout(inode: Inode) -> bool:
    """overlayfs' whiteout: a character device 0/0."""
    return inode.mode & S_IFMT == S_IFCHR and inode.rdev == 0


def mark_of(directory: Inode, mark: bytes) -> bytes | None:
    """The value of overlay attribute `mark` (b"opaque", b"redirect"), None without it."""
    for prefix in _PREFIXES:
        try:
            return directory.getxattr(prefix + mark)
        except OSError:
            continue
    return None


def set_mark(directory: Inode, mark: bytes, value: bytes) -> None:
    """Set an overlay attribute: trusted where that is allowed, else user (which needs no privilege)."""
    try:
        directory.setxattr(_PREFIXES[0] + mark, value, 0)
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.EACCES):
            raise
        directory.setxattr(_PREFIXES[1] + mark, value, 0)


def is_opaque(directory: Inode) -> bool:
    """Does the directory hide what the layers beneath have in it?"""
    return directory.lookup(OPAQUE_FILE) is not None or mark_of(directory, b"opaque") == b"y"


def find(stack: Stack, name: bytes, roots: Sequence[Inode]) -> Stack:
    """What `name` is in the merged directory `stack`: [] for nothing, one entry for what is no directory, else
    the stack of the directory itself. `roots` are the layers' root directories, which redirects start from."""
    found: Stack = []
    bottom = len(roots) - 1
    position = 0
    while position < len(stack):
        layer, directory = stack[position]
        position += 1
        child = directory.lookup(name)
        if child is not None and is_whiteout(child):
            break
        hides = directory.lookup(WH + name) is not None
        if child is None:
            if hides:
                break
            continue
        if child.mode & S_IFMT != S_IFDIR:
            if not found:
                found.append((layer, child))
            break
        found.append((layer, child))
        if layer == bottom or hides or is_opaque(child):
            break
        redirect = mark_of(child, b"redirect")
        if redirect:
            head, _, name = redirect.rpartition(b"/")
            if head or redirect.startswith(b"/"):
                stack = descend([(n, roots[n]) for n in range(layer + 1, bottom + 1)], head, roots)
                position = 0
    return found


def descend(stack: Stack, path: bytes, roots: Sequence[Inode]) -> Stack:
    """The stack of the directory `path`, whose components are looked up one by one; [] if there is none."""
    for name in path.split(b"/"):
        if name in (b"", b"."):
            continue
        if name == b"..":
            raise err(errno.EIO, path)  # no overlay writes such a redirect
        stack = [entry for entry in find(stack, name, roots) if entry[1].is_dir]
    return stack


def listing(stack: Stack) -> dict[bytes, tuple[int, int, int]]:
    """The merged entries: name -> (layer, inode number there, type bits), those of upper layers first."""
    merged: dict[bytes, tuple[int, int, int]] = {}
    hidden: set[bytes] = set()
    for layer, directory in stack:
        here: set[bytes] = set()
        for name, ino, kind in directory.readdir():
            if name.startswith(WH):
                here.add(name[len(WH) :])
                continue
            if name in merged or name in hidden:
                continue
            if kind in (0, S_IFCHR):
                child = directory.lookup(name)
                if child is None:
                    continue
                kind = child.mode & S_IFMT
                if is_whiteout(child):
                    hidden.add(name)
                    continue
            merged[name] = (layer, ino, kind)
        hidden |= here  # of the layers beneath only
    return merged
