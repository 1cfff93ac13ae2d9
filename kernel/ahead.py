"""Answers before the questions: the attributes of a directory's other files, when some of them were asked for.

Layer: the pretend kernel, beside answers.py.  May touch: the vfs, for reading.

Programs that walk trees (ls -l, find, git status, tar) ask the same of each file of a directory, one after the other.
Who asks a second time for what stands in a directory that was listed, or a third time where it was not, gets the
answers for the others too, as page cache readahead does it for the bytes of a file (mm/readahead.c): the whole
directory if it is small, else the next ones of whoever goes through it in order.
"""

from __future__ import annotations

import errno
import struct

from ..vfs.remembered import ident
from ..vfs.stat import S_IFLNK, S_IFMT
from .layout import VDIR_DEV
from .paths import AT_SYMLINK_NOFOLLOW
from .sys_stat import statx_reply
from .table import BY_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..vfs.inode import Inode
    from ..vfs.mount import Path
    from ..vfs.remembered import Where
    from .answers import Answers
    from .dispatch import Request
    from .sandbox import Kernel
    from .task import Task

#: files that are looked at for one question; directories with up to so many are not asked in which order they are read
WINDOW = 128
#: an unlisted directory that is larger (st_size) is not listed for this; nor are series remembered beyond so many
_MAX_SIZE, _MAX_SERIES = 32768, 256
#: so far may the next question be from the last, for who goes through in order
_STRIDE = 8
_STATX = BY_NAME["statx"].nr
_STATS = frozenset(BY_NAME[name].nr for name in ("stat", "lstat", "newfstatat", "statx"))
_XATTRS = frozenset(BY_NAME[name].nr for name in ("getxattr", "lgetxattr"))
#: what such a call says of a file, and whether the others are likely to be asked about too
CALLS = {**dict.fromkeys(_STATS, (0,)), **dict.fromkeys(_XATTRS, (-errno.ENODATA, -errno.EOPNOTSUPP))}
#: the argument with AT_* flags
_FLAGS = {BY_NAME["newfstatat"].nr: 3, _STATX: 2}
_NOFOLLOW = frozenset(BY_NAME[name].nr for name in ("lstat", "lgetxattr"))
_M64 = (1 << 64) - 1
_WORD = struct.Struct("<Q")


def hash_of(nr: int, keys: tuple[int, int], name: bytes) -> int:
    """hash_of() of core_native/answers.c."""
    h = (nr * 0x9E3779B97F4A7C15 & _M64) ^ keys[0] ^ keys[1] << 32
    for (word,) in _WORD.iter_unpack(name + bytes(-len(name) & 7)):
        h = (h ^ word) * 0xFF51AFD7ED558CCD & _M64
        h ^= h >> 32
    return (h * 0xC4CEB9FE1A85EC53 & _M64) >> 32


class Question:
    """What was asked of one name, and may be asked of the others: all but the name."""

    __slots__ = ("context", "cwd", "follow", "keys", "nr", "prefix", "text")

    def __init__(
        self, request: Request, keys: tuple[int, int], context: int, cwd: int, prefix: bytes, text: bytes
    ) -> None:
        self.nr = request.nr
        self.keys = keys
        self.context, self.cwd = context, cwd
        self.prefix, self.text = prefix, text  # before the name, and behind it
        flags = request.args[_FLAGS[request.nr]] if request.nr in _FLAGS else 0
        self.follow = request.nr not in _NOFOLLOW and not flags & AT_SYMLINK_NOFOLLOW


class Ahead:
    """What one sandbox's programs go through now."""

    def __init__(self, kernel: Kernel, answers: Answers) -> None:
        self._kernel = kernel
        self._answers = answers
        self._series: dict[tuple[object, ...], list[int]] = {}  # by what is asked: how often, where the last one was
        self._epoch = 0

    def asked(self, task: Task, request: Request, question: Question, path: Path, where: Where, error: int) -> None:
        """`question` was put of `path`, the name of `where`; the answer was `error`, 0 for none."""
        above = path.dentry.parent
        if above is None or path.dentry is path.mount.root or ident(above.inode) != where[:2]:
            return
        if self._epoch != self._answers.epoch or len(self._series) > _MAX_SERIES:
            self._epoch = self._answers.epoch
            self._series.clear()
        key = question.nr, question.keys, question.context, question.cwd, question.prefix, question.text
        series = self._series.setdefault(key, [0, -1])
        series[0] += 1
        names = self._due(series, above.inode, where[2])
        if not names or self._kernel.installed_hooks is not None or not self._is_there(task, question, path):
            return
        if hash_of(question.nr, question.keys, question.prefix + where[2] + question.text) != request.raw[-1]:
            return
        series[0] = -len(names) // 4  # some of them may be asked for again, when they have changed
        for name in names:
            child = above.cached(name)
            if child is None or not child.mounted:
                self._answer(question, path, above.inode, name, error)

    def _due(self, series: list[int], directory: Inode, name: bytes) -> list[bytes]:
        """The names to answer for now: none if it is too early."""
        if series[0] < 2:
            return []
        known = self._kernel.vfs.mounts.walks.listing(directory)
        if known is None and (series[0] != 3 or directory.size > _MAX_SIZE):
            return []
        if known is None:
            directory.listed()
        names = [entry[0] for entry in (known[1][2:] if known else directory.readdir())]  # without "." and ".."
        if len(names) <= WINDOW:
            return names
        if known is None:
            names.sort()
        try:
            at = names.index(name)
        except ValueError:
            return []
        before, series[1] = series[1], at
        return names[at : at + WINDOW] if before <= at < before + _STRIDE else []

    def _is_there(self, task: Task, question: Question, path: Path) -> bool:
        """Does what stands before the name lead to the directory where it was found? A link would lead elsewhere."""
        vfs, start = self._kernel.vfs, None
        if question.cwd and (known := vfs.files.get(VDIR_DEV, question.cwd)) is not None:
            start = known.path
        place = vfs.lookup(task, start, question.prefix) if question.prefix else start or task.fs.cwd
        return place.mount is path.mount and place.dentry is path.dentry.parent

    def _answer(self, question: Question, path: Path, directory: Inode, name: bytes, error: int) -> None:
        """The answer for one name more, if it is one that stays true."""
        inode, first = directory.lookup(name), path.inode
        if inode is None or (question.follow and inode.mode & S_IFMT == S_IFLNK) or not inode.is_settled():
            return
        what = ident(inode)
        data = b""
        if question.nr in _XATTRS:
            # What the first one lacked another one lacks too, who has none at all, and is as open to who asks.
            alike = (inode.mode, inode.uid, inode.gid, what[0]) == (first.mode, first.uid, first.gid, ident(first)[0])
            if not alike or not inode.is_bare():
                return
        elif question.nr == _STATX:
            data = statx_reply(path.mount, inode, inode.getattr(), question.keys[1], False)
        else:
            data = inode.getattr().pack()
        words = question.prefix + name + question.text
        where = (*ident(directory), name)
        hashed = hash_of(question.nr, question.keys, words)
        self._answers.foresee(question, words, hashed, error, data, where, what)
