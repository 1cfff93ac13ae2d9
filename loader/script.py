"""``#!`` lines, by the rules of fs/binfmt_script.c (load_script, next_non_spacetab, next_terminator).

Part of: loader. May touch: nothing.
"""

from __future__ import annotations

import errno

BINPRM_BUF_SIZE = 256
"""How much of a file decides what it is (include/uapi/linux/binfmts.h)."""
MAX_DEPTH = 5
"""How many scripts may be each other's interpreters (fs/exec.c, exec_binprm)."""

_BLANKS = b" \t"


def is_script(head: bytes) -> bool:
    """True if a file that begins with ``head`` is a script."""
    return head.startswith(b"#!")


def parse(head: bytes) -> tuple[bytes, bytes | None]:
    """Split a script's first line into the interpreter's path and its one optional argument.

    ``head`` is the start of the file, at most BINPRM_BUF_SIZE bytes. Raises OSError ENOEXEC if there is no
    interpreter's name or if it may be truncated.
    """
    buf = head[:BINPRM_BUF_SIZE].ljust(BINPRM_BUF_SIZE, b"\0")
    end = buf.find(b"\n")
    if end < 0:
        # No newline: the name must end within the buffer, since a truncated name could be another program's.
        # An argument may be cut short: an interpreter that cares reads the line again.
        name = _skip_blanks(buf, 2, BINPRM_BUF_SIZE)
        if name == BINPRM_BUF_SIZE or not any(c in b" \t\0" for c in buf[name:]):
            raise OSError(errno.ENOEXEC, "the interpreter's name does not end within 256 bytes")
        end = BINPRM_BUF_SIZE - 1
    while buf[end - 1] in _BLANKS:
        end -= 1
    start = _skip_blanks(buf, 2, end)
    if start >= end:
        raise OSError(errno.ENOEXEC, "no interpreter's name after #!")
    line = buf[start:end]
    stop = next((i for i, c in enumerate(line) if c in b" \t\0"), len(line))
    name_, rest = line[:stop], line[stop:]
    if not rest or rest[0] == 0:
        return name_, None
    # A C string: it ends at the first NUL, blanks within it stay.
    return name_, rest.lstrip(_BLANKS).split(b"\0", 1)[0]


def _skip_blanks(buf: bytes, start: int, end: int) -> int:
    while start < end and buf[start] in _BLANKS:
        start += 1
    return start
