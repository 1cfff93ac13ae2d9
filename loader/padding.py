"""Padding between functions: the only bytes beside a system call that a hop may overwrite.

Part of: loader (rewriting). May touch: nothing.
"""

from __future__ import annotations

MAX_RUN = 4096
_PREFIXES = b"\x66\x2e"
#: what may follow 0f 1f (nop r/m, /0): the ModRM byte and how many bytes come after it
_OPERANDS = {0x00: 0, 0x40: 1, 0x44: 2, 0x80: 4, 0x84: 5}


def is_padding(raw: bytes) -> bool:
    """Whether ``raw`` is nothing but whole nops, in the forms that assemblers pad with, and int3.

    Zeros are not padding: they may be data. (Intel SDM vol. 2B, NOP: "recommended multi-byte sequences".)
    """
    at, end = 0, len(raw)
    while at < end:
        if raw[at] == 0xCC:
            at += 1
            continue
        while at < end and raw[at] in _PREFIXES:
            at += 1
        if raw[at : at + 1] == b"\x90":
            at += 1
            continue
        operand = _OPERANDS.get(raw[at + 2], -1) if raw[at : at + 2] == b"\x0f\x1f" and at + 2 < end else -1
        if operand < 0 or at + 3 + operand > end:
            return False
        at += 3 + operand
    return True
