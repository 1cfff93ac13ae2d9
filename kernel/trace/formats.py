"""Names and formats of the arguments, one line for each call: what the table does not say.

Layer: the pretend kernel, trace and hooks.  May touch: nothing.

    "openat": "dirfd pathname flags:open mode:mode"

An argument is `name` or `name:format`; decode.py has the formats.  Without one, the table's kind decides.
"""

from __future__ import annotations

from ..table import TABLE

FORMATS: dict[str, str] = {
}


def argument_names(nr: int) -> tuple[str, ...]:
    """The names of a call's arguments, as in its manual page; arg0 to arg5 of an unknown one."""
    return _NAMES.get(nr, _UNKNOWN)


_UNKNOWN = tuple(f"arg{i}" for i in range(6))
_NAMES: dict[int, tuple[str, ...]] = {}
#: format of each argument, "" where the table's kind decides
HINTS: dict[int, tuple[str, ...]] = {}
for _sys in TABLE.values():
    _words = FORMATS.get(_sys.name, "").split()
    _words += [f"arg{_i}" for _i in range(len(_words), len(_sys.args))]
    _NAMES[_sys.nr] = tuple(w.partition(":")[0] for w in _words)
    HINTS[_sys.nr] = tuple(w.partition(":")[2] for w in _words)
