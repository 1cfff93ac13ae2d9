"""Regular files of the host that are opened for reading again and again: found once, opened anew each time.

Layer: vfs, beneath vfs.py.  May touch: a descriptor (O_PATH) of each such file, which is no open file to anybody.

What a walk led to stays true until the name or the object changes, which remembered.py is told of: then permission to
read has been checked for everybody of those credentials, and the file itself is at hand. Each open(2) still gets an
open file description of its own. A file counts from its second open on.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .remembered import Known

_O_LARGEFILE = 0o100000
#: the flags that such an open may have beside O_RDONLY
PLAIN = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | _O_LARGEFILE
#: walks that are known to have led to a file that was opened, and files that are held
MOST, MOST_FILES = 2048, 192


class HeldFile:
    """`fd`: -1 until the second open. `quiet`: O_NOATIME where the host lets us."""

    __slots__ = ("about", "fd", "known", "quiet")

    def __init__(self, known: Known, about: tuple[object, ...]) -> None:
        self.known = known  # so that nobody else gets its id
        self.about = about
        self.fd = -1
        self.quiet = 0


class Held:
    """Those of one world."""

    def __init__(self) -> None:
        self._files: dict[int, HeldFile] = {}  # by the id of the walk's result; oldest first
        self._about: dict[object, set[int]] = {}  # by what they depend on: a name in a directory, an object
        self._count = 0

    def open(self, known: Known, flags: int) -> int | None:
        """A new open file description of what the walk led to, None if it is not held.  Raises OSError."""
        held = self._files.get(id(known))
        if held is None or held.fd < 0:
            return None
        return os.open(f"/proc/self/fd/{held.fd}", flags & ~os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | held.quiet)

    def opened(self, known: Known, opened: int, ident: tuple[int, int]) -> None:
        """The walk led to a file of the host's, which was opened for reading: `opened`."""
        held = self._files.get(id(known))
        if held is not None:
            self._hold(held, opened)
            return
        if len(self._files) >= MOST:
            self.clear()
        about: tuple[object, ...] = (ident,) if known[3] is None else (ident, known[3])
        self._files[id(known)] = HeldFile(known, about)
        for what in about:
            self._about.setdefault(what, set()).add(id(known))

    def _hold(self, held: HeldFile, opened: int) -> None:
        if self._count >= MOST_FILES:
            oldest = next(one for one in self._files.values() if one.fd >= 0)
            self._forget(id(oldest.known))
        try:
            held.fd = os.open(f"/proc/self/fd/{opened}", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return  # too many are open
        held.quiet = fcntl.fcntl(opened, fcntl.F_GETFL) & os.O_NOATIME
        self._count += 1

    def drop(self, what: object) -> None:
        """A name in a directory means something else, or an object has changed."""
        known: Iterable[int] = self._about.pop(what, ())
        for one in known:
            self._forget(one)

    def _forget(self, known: int) -> None:
        held = self._files.pop(known, None)
        if held is None:
            return
        for what in held.about:
            if others := self._about.get(what):
                others.discard(known)
                if not others:
                    del self._about[what]
        if held.fd >= 0:
            os.close(held.fd)
            self._count -= 1

    def clear(self) -> None:
        """Anything may have changed."""
        for held in self._files.values():
            if held.fd >= 0:
                os.close(held.fd)
        self._files.clear()
        self._about.clear()
        self._count = 0
