"""The zpoline form: which system calls may become ``call *%rax``.

Part of: loader (rewriting, cold path). May touch: nothing.

The call goes to the address in rax and writes eight bytes below the stack pointer. So rax must be known to be a small
number, and nothing may be kept below the stack pointer (System V ABI, 3.2.2: the red zone, which leaf functions have).
"""

from __future__ import annotations

from .flow import CALL, NEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .flow import Decode, Flow

NUMBERS = 512
"""What page zero's slide is long enough for (core_native/zpoline.c)."""
_REACH = 64
_RAX = ("al", "ah", "ax", "eax", "rax")
_KEEP_RAX = frozenset("mov lea xor movabs movsxd movzx nop push test cmp and or add sub".split())
"""Instructions that change rax only if it is their first operand."""


def may_call(decode: Decode, flow: Flow, vaddr: int) -> bool:
    """Whether the syscall at ``vaddr``, which is reached in ``flow``, always has a number below NUMBERS in rax, and
    the function nothing in the red zone."""
    return _has_number(decode, flow, vaddr) and not _uses_red_zone(decode, flow)


def _has_number(decode: Decode, flow: Flow, vaddr: int) -> bool:
    ends = {at + e[0]: at for at, e in flow.reached.items() if vaddr - _REACH <= at < vaddr}
    at = vaddr
    while at in ends and at not in flow.targets:
        at = ends[at]
        size, kind, _ = flow.reached[at]
        here = at - flow.start
        code = flow.code[here : here + size]
        if size == 5 and code[0] == 0xB8:  # mov $imm32,%eax
            return int.from_bytes(code[1:], "little") < NUMBERS
        _, _, mnemonic, operands = next(decode(code, at))
        written = operands.split(",")[0].strip()
        if kind != NEXT or mnemonic not in _KEEP_RAX or written in _RAX:
            return False
    return False


def _uses_red_zone(decode: Decode, flow: Flow) -> bool:
    leaf = not any(kind == CALL for _, kind, _ in flow.reached.values())
    for _, _, _, operands in decode(flow.code, flow.start):
        if "[rsp - " in operands or (leaf and "[rbp - " in operands):
            return True
    # What the linear pass does not get to see is not known.
    return flow.linear_end != flow.end or any(at not in flow.linear for at in flow.reached)
