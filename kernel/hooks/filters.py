"""Filters of hooks: which calls of the named ones a hook is for.

Layer: the pretend kernel, hooks.  May touch: the tree, reading names.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from .call import Call

    Pattern: TypeAlias = "str | Iterable[str] | None"
    Pids: TypeAlias = "int | Iterable[int] | None"

FD_KINDS = ("file", "dir", "pipe", "socket", "char", "tty", "block", "link", "anon")


class Patterns:
    """Shell patterns, any of which is enough; those with "!" before them exclude."""

    __slots__ = ("no", "yes")

    def __init__(self, given: str | Iterable[str]) -> None:
        words = [given] if isinstance(given, str) else [os.fspath(w) for w in given]
        self.yes = [w for w in words if not w.startswith("!")]
        self.no = [w[1:] for w in words if w.startswith("!")]

    def match(self, texts: list[str]) -> bool:
        """With only exclusions, everything else matches, even nothing at all."""
        if any(fnmatchcase(t, p) for t in texts for p in self.no):
            return False
        return not self.yes or any(fnmatchcase(t, p) for t in texts for p in self.yes)


class Filter:
    """All of the given conditions together.  See Hooks.add for their meaning."""

    __slots__ = ("_fd", "_path", "_pids", "_program")

    def __init__(
        self, path: Pattern = None, fd: Pattern = None, pid: Pids = None, program: Pattern = None
    ) -> None:
        """Raises ValueError for an unknown kind of descriptor."""
        self._path = Patterns(path) if path is not None else None
        self._fd = Patterns(fd) if fd is not None else None
        for kind in (self._fd.yes + self._fd.no) if self._fd else ():
            if not any(fnmatchcase(k, kind) for k in FD_KINDS):
                raise ValueError(f"no kind of descriptor {kind!r}: there are {', '.join(FD_KINDS)}")
        self._program = Patterns(program) if program is not None else None
        self._pids = frozenset((pid,) if isinstance(pid, int) else pid) if pid is not None else None

    def match(self, call: Call) -> bool:
        if self._pids is not None and call.pid not in self._pids:
            return False
        if self._program is not None:
            program = call.program
            if not self._program.match([program, os.path.basename(program)]):
                return False
        if self._fd is not None and not self._fd.match(call.fd_kinds):
            return False
        return self._path is None or self._path.match(call.paths)
