"""The user's log: what guests bring into its lines cannot steer a terminal, forge a line or fill the memory.

Layer: the pretend kernel, beneath everything.  May touch: nothing but the function that takes the lines.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: lines that are told once, by sandbox; a guest chooses the names in them
MOST_ONCE = 4096
_LINE = 1000
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_BUT_NEWLINE = {code: text for code, text in _CONTROLS.items() if code != 10}


def harmless(text: str, controls: dict[int, str] = _CONTROLS) -> str:
    """Without control characters and without what cannot be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode().translate(controls)


class UserLog:
    """One sandbox's: called with a line, and with further text that may have several."""

    __slots__ = ("_said", "_tell")

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._said: set[str] = set()

    def __call__(self, line: str, details: str = "") -> None:
        """Tell `line`, which becomes one line of at most 1,000 characters whatever is in it, and `details` (a
        traceback) below it."""
        line = harmless(line)
        if len(line) > _LINE:
            line = line[:_LINE] + "..."
        self._tell(line + ("\n" + harmless(details, _BUT_NEWLINE) if details else ""))

    def once(self, line: str) -> None:
        """Tell a line that would otherwise come again and again; after MOST_ONCE different ones no more."""
        if line in self._said or len(self._said) > MOST_ONCE:
            return
        if len(self._said) == MOST_ONCE:
            self._said.add("")
            self(f"{MOST_ONCE} different lines of this kind; further ones are not told")
            return
        self._said.add(line)
        self(line)
