"""Which system calls a user means: names, numbers, strace's classes, patterns, and all but those.

Layer: the pretend kernel, hooks.  May touch: nothing (the table, reading).
"""

from __future__ import annotations

from ..table import BY_NAME, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: strace's classes that are lists of names; the others are the table's `classes`
_LISTS = {
    "%stat": "stat",
    "%lstat": "lstat",
    "%fstat": "fstat newfstatat",
    "%%stat": "stat lstat fstat newfstatat statx",
    "%statfs": "statfs",
    "%fstatfs": "fstatfs",
    "%%statfs": "statfs fstatfs ustat",
}
_CLASSES = ("ipc", "desc", "file", "process", "network", "signal", "memory", "creds", "clock", "pure")


class Numbers:
    """A set of call numbers: those in `some`, or all but those where `inverted`."""

    __slots__ = ("inverted", "some")

    def __init__(self, some: frozenset[int], inverted: bool = False) -> None:
        self.some = some
        self.inverted = inverted

    def __contains__(self, nr: int) -> bool:
        return (nr in self.some) != self.inverted

    def plus(self, more: frozenset[int]) -> Numbers:
        """These and `more`."""
        return Numbers(self.some - more if self.inverted else self.some | more, self.inverted)

    def words(self) -> list[int]:
        """The bitmap over 0..511, eight words of 64 bits."""
        out = [(1 << 64) - 1 if self.inverted else 0] * 8
        for nr in self.some:
            if 0 <= nr < 512:
                out[nr // 64] ^= 1 << nr % 64
        return out

    @property
    def beyond(self) -> bool:
        """Is any number outside 0..511 meant?"""
        return self.inverted or any(not 0 <= nr < 512 for nr in self.some)


def numbers_of(names: Iterable[str | int]) -> Numbers:
    """What `names` mean together.

    A name is that of a call ("openat"), a number (500, "10_001"), a class of strace's ("%file", "%network", ...),
    "/regular expression", or "*" (also "all").  "!name" leaves one out; if every name begins with "!", all others are
    meant.  Raises ValueError for a name that is none of these.
    """
    words: list[str | int] = []
    for name in names:
        words += [w for w in name.split(",") if w] if isinstance(name, str) else [name]
    everything = not words or all(isinstance(w, str) and w.startswith("!") for w in words)
    some: set[int] = set()
    for word in words:
        if isinstance(word, int):
            some = some - {word} if everything else some | {word}
        elif word in ("*", "all"):
            everything, some = True, set()
        elif word in ("none", "!all"):
            everything, some = False, set()
        elif word.startswith("!"):
            some = some | _one(word[1:]) if everything else some - _one(word[1:])
        else:
            some = some - _one(word) if everything else some | _one(word)
    return Numbers(frozenset(some), everything)


def _one(word: str) -> set[int]:
    optional = word.startswith("?")  # strace: no error where there is no such call
    word = word.lstrip("?")
    if word in BY_NAME:
        return {BY_NAME[word].nr}
    if word in _LISTS:
        return {BY_NAME[n].nr for n in _LISTS[word].split()}
    plain = (
        word.removeprefix("%").replace("net", "network")
        if word in ("net", "%net")
        else word.removeprefix("%")
    )
    if plain in _CLASSES:
        return {s.nr for s in TABLE.values() if plain in s.classes}
    if word.startswith("/"):
        import re

        try:
            pattern = re.compile(word[1:])
        except re.error as e:
            raise ValueError(f"{word!r} is no regular expression: {e}") from None
        return {s.nr for s in TABLE.values() if pattern.search(s.name)}
    try:
        return {int(word, 0)}
    except ValueError:
        pass
    if optional:
        return set()
    raise ValueError(f"no system call or class named {word!r}")
