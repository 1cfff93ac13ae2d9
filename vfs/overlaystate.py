"""Snapshots of OverlayFS, whose upper layer is a MemoryFS.

Layer: vfs, beside overlayfs.py; see state.py. May touch: the overlay's inodes.
"""

from __future__ import annotations

from functools import cached_property

from .layers import LINKS_DIR, OPAQUE_FILE, WH, is_private
from .memstate import MemState
from .overlaydir import OverlayDir
from .overlayfs import OverlayFS, OverlayNode
from .stat import S_IFCHR, S_IFDIR, S_IFMT
from .state import Base, Entry, FsState, Manifest


class OverlayState(FsState):
    """What an overlay is now: its upper layer, and the objects that somebody holds."""

    def __init__(self, sb: OverlayFS, upper: MemState) -> None:
        self.sb = sb
        self.upper = upper
        nodes = [node for r in list(sb.known.values()) if (node := r()) is not None]
        self._nodes = {id(n): (n, n.upper, n.base, n.place, n.nlink) for n in (*nodes, sb.root_dir)}
        self._indexed = sb.indexed.copy()
        self._origins = sb.origins.copy()

    @cached_property
    def manifest(self) -> Manifest:
        assert self.sb.vfs is not None
        return _Reading(self.upper.manifest, Base(self.sb.vfs, self.sb.base())).result

    def restore(self) -> None:
        sb = self.sb
        self.upper.restore()
        sb.origins = self._origins.copy()
        sb.indexed = self._indexed.copy()
        for r in list(sb.known.values()):
            node = r()
            if node is not None and id(node) not in self._nodes:
                self._reset(node)
        for node, upper, base, place, nlink in self._nodes.values():
            node.upper, node.base, node.place = upper, base, place
            if isinstance(node, OverlayDir):
                node.dead = nlink == 0
            node.take()

    def _reset(self, node: OverlayNode) -> None:
        """An object that nobody held at the time of the snapshot."""
        if node.upper is not None and node.upper not in self.upper:
            if node.lower is None:
                node.nlink = 0  # made since
                if isinstance(node, OverlayDir):
                    node.died()
                return
            node.upper = None
        node.base = None
        if isinstance(node, OverlayDir):
            node.dead = False
        node.take()


class _Reading:
    """What an upper layer says of the layers beneath it: a Manifest of the layer becomes one of the overlay."""

    def __init__(self, upper: Manifest, base: Base) -> None:
        self._base = base
        self._upper = upper
        self._children: dict[bytes, list[bytes]] = {}
        for path in upper.entries:
            if path:
                above, _, name = path.rpartition(b"/")
                self._children.setdefault(above, []).append(name)
        self.result = Manifest()
        root = upper.entries[b""]
        root.fresh = False
        self.result.entries[b""] = root
        self._read(b"", b"", None)

    def _read(self, path: bytes, lower: bytes | None, moved: bytes | None) -> None:
        """One directory. `lower`: its path in the layers beneath, None if they have none or it is opaque. `moved`:
        the same, where that is not its own place, so that all in it is new here."""
        names = self._children.get(path, [])
        prefix = path + b"/" if path else b""
        gone = {name[len(WH) :] for name in names if name.startswith(WH)}
        for name in names:
            if name in (LINKS_DIR, OPAQUE_FILE):
                continue
            entry = self._upper.entries[prefix + name]
            if name.startswith(WH):
                self.result.deleted.add(prefix + name[len(WH) :])
            elif entry.mode & S_IFMT == S_IFCHR and entry.rdev == 0:
                self.result.deleted.add(prefix + name)
            elif entry.mode & S_IFMT == S_IFDIR:
                beneath = None if lower is None or name in gone else _join(lower, name)
                self._directory(prefix + name, entry, beneath)
            else:
                self.result.entries[prefix + name] = entry
        if moved is not None:
            self._rest(path, moved, {name.removeprefix(WH) for name in names})

    def _directory(self, path: bytes, entry: Entry, lower: bytes | None) -> None:
        marks = {
            key.rpartition(b".")[2]: value
            for key, value in (entry.xattrs or {}).items()
            if b".overlay." in key
        }
        redirect = marks.get(b"redirect")
        if marks.get(b"opaque") == b"y" or OPAQUE_FILE in self._children.get(path, []):
            lower = None
        elif redirect:
            lower = (
                redirect.lstrip(b"/") if redirect.startswith(b"/") else _join(_above(lower or b""), redirect)
            )
        beneath = None if lower is None else self._base.find(lower)
        if beneath is None or beneath.mode & S_IFMT != S_IFDIR:
            lower = None
        moved = lower if lower is not None and lower != path else None
        entry.fresh = lower is None or moved is not None
        entry.xattrs = {k: v for k, v in (entry.xattrs or {}).items() if not is_private(k)} or None
        self.result.entries[path] = entry
        self._read(path, lower, moved)

    def _rest(self, path: bytes, lower: bytes, hidden: set[bytes]) -> None:
        """What a directory that was moved here shows of the layers beneath."""
        below = self._base.find(lower)
        assert below is not None
        for name, _, _ in below.inode.readdir():
            if name not in hidden:
                child = self._base.find(_join(lower, name))
                if child is not None:
                    self.result.entries[_join(path, name)] = child
                    if child.mode & S_IFMT == S_IFDIR:
                        self._rest(_join(path, name), _join(lower, name), set())


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
