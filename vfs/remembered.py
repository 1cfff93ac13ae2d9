"""What names meant in past walks, and who else has to hear when they may mean something else.

Layer: vfs, beneath mount.py. May touch: nothing but held.py's descriptors.
"""

from __future__ import annotations

from .held import Held
from .stat import S_IFDIR, S_IFLNK, S_IFMT

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    from .inode import Inode
    from .mount import Path

    #: by name, whether a last symlink is followed, who asks and where it starts
    Key = tuple[bytes, bool, tuple[object, ...]]
    #: a name in a directory: st_dev, inode number, name
    Where = tuple[int, int, bytes]
    #: what getdents64(2) gives of a directory from its start to its end, and the entries: name, inode number, type
    Listing = tuple[bytes, list[tuple[bytes, int, int]]]
    #: the place, None if there is none; base and root of the walk, so that nobody else gets their ids; the name that
    #: the walk came to last, or that was missing (None: it is a root, or "." of one)
    Known = tuple[Path | None, Path, Path, Where | None]

#: walks that are remembered at most; directories whose entries are, and how many entries one of them may have
MOST, MOST_LISTINGS, MOST_ENTRIES = 4096, 1024, 1024


def _nobody(*_: object) -> None:
    pass


def ident(inode: Inode) -> tuple[int, int]:
    """What stays of an object when its Inode is made anew: st_dev and inode number."""
    return getattr(inode, "dev", 0) or inode.sb.dev, inode.ino


class Walks(dict["Key", "Known"]):
    """Past walks, and what is told of changes.

    `cleared()` is called whenever any name, permission or attribute may have changed; `named(where)` when one name in a
    directory does, and `removed(where)` when after that it means nothing; `listed(ident)` when the entries of a
    directory do, and its size, links and times with them; `changed(ident)` when the attributes of one object do;
    `opened(inode)` when the bytes and times of one file may change from now on without anybody being told.
    """

    __slots__ = ("_by_where", "_listings", "changed", "cleared", "held", "listed", "named", "opened", "removed")

    def __init__(self) -> None:
        super().__init__()
        self.cleared: Callable[[], None] = _nobody
        self.named: Callable[[Where], None] = _nobody
        self.removed: Callable[[Where], None] = _nobody
        self.changed: Callable[[tuple[int, int]], None] = _nobody
        self.listed: Callable[[tuple[int, int]], None] = _nobody
        self.opened: Callable[[Inode], None] = _nobody
        self.held = Held()
        self._by_where: dict[Where, list[Key]] = {}
        self._listings: dict[tuple[int, int], Listing] = {}  # by the identity of the directory

    def clear(self) -> None:
        """Forget everything: something has changed, or is about to."""
        self._empty()
        self.cleared()

    def _empty(self) -> None:
        super().clear()
        self._by_where.clear()
        self._listings.clear()
        self.held.clear()

    def keep(self, key: Key, known: Known) -> None:
        """Remember a walk; if there are too many, the others are forgotten."""
        if len(self) >= MOST:
            self._empty()
        self[key] = known
        if (where := known[3]) is not None:
            self._by_where.setdefault(where, []).append(key)

    def keep_listing(self, directory: Inode, listing: Listing) -> None:
        """Remember all entries of a directory, until one changes."""
        if directory.steady and len(listing[1]) <= MOST_ENTRIES:
            if len(self._listings) >= MOST_LISTINGS:
                self._listings.clear()
            self._listings[ident(directory)] = listing

    def listing(self, directory: Inode) -> Listing | None:
        """All entries of a directory, if they are known."""
        return self._listings.get(ident(directory))

    def rename(self, directory: Inode, name: bytes, inode: Inode | None) -> None:
        """`name` in `directory` comes to mean something else; it did mean `inode`, whose names change.

        Walks that end there are forgotten. Others could go through it only if it is a directory or a symlink; then
        everything is forgotten, as it is where the same objects have other Inodes too.
        """
        if not directory.sb.exact:
            self.clear()
        else:
            self.host_changed(directory, name, inode)

    def host_changed(self, directory: Inode, name: bytes, inode: Inode | None, names: bool = True) -> None:
        """As rename(), of what others did in a directory of the host's; or, if not `names`, only the bytes changed."""
        if not names and inode is not None:
            self._changed(inode)
            return
        if inode is not None and inode.mode & S_IFMT in (S_IFDIR, S_IFLNK):
            self.clear()
            return
        above = ident(directory)
        self._listings.pop(above, None)
        where = (*above, name)
        for key in self._by_where.pop(where, ()):
            self.pop(key, None)
        self.held.drop(where)
        self.named(where)
        self.listed(above)
        if inode is not None:
            self._changed(inode)

    def gone(self, directory: Inode, name: bytes) -> None:
        """After rename(): the name means nothing now."""
        if directory.sb.exact:
            self.removed((*ident(directory), name))

    def copied_up(self, inode: Inode) -> None:
        """`inode` is about to have its bytes elsewhere: who opened it before does not see what is written now."""
        self.held.drop(ident(inode))
        self.cleared()

    def _changed(self, inode: Inode) -> None:
        what = ident(inode)
        self.held.drop(what)
        self.changed(what)

    def alter(self, inode: Inode) -> None:
        """Mode, owner or other attributes of `inode` change; those of a directory decide on who walks through it."""
        if inode.mode & S_IFMT == S_IFDIR:
            self.clear()
        else:
            self.retime(inode)

    def retime(self, inode: Inode) -> None:
        """The times of `inode` change."""
        if inode.sb.exact:
            self._changed(inode)
        else:
            self.clear()
