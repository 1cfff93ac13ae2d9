"""The "before" form: which instructions in front of a syscall may be moved into a trampoline.

Part of: loader (rewriting, cold path). May touch: nothing.

Moved are whole instructions of together at least five bytes, which then are a jump. That is right only if none of
them cares where it stands or can fault, and if nobody enters between them. A first instruction of five bytes or
more leaves nothing to enter; otherwise no branch of the function may lead there, no displacement anywhere in the
text may, the function must have no landing pads, and neither it nor a part of it that stands elsewhere
(gcc's .cold) an indirect jump, whose table could.

A signal in moved instructions after the first is for the core to hold back until the call that follows at once:
the old place of the rest is gone, so the guest could not go on from there.
"""

from __future__ import annotations

from .flow import BRANCH, INDIRECT, JUMP, NEXT
from .trampoline import JUMP_SIZE, MAX_DISPLACED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .flow import Decode, Flow

MAX_SCANNED = 64 << 20
"""Bytes of text beyond which it is not searched for displacements."""

_MOVABLE = frozenset(
    "mov movabs movzx movsx movsxd lea xor or and add sub inc dec neg not shl shr sar rol ror test cmp nop bswap "
    "cdqe cdq cqo cwde xchg imul".split()
)
"""Instructions that change registers and flags only, if they have no memory operand. lea and nop read none."""


class Displaced:
    """``length`` bytes before the syscall at ``vaddr``; ``rip_at``: where among them a displacement from rip is
    (0: nowhere); ``inside``: the addresses of all moved instructions but the first."""

    __slots__ = ("inside", "length", "rip_at", "vaddr")

    def __init__(self, vaddr: int, length: int, rip_at: int, inside: list[int]) -> None:
        self.vaddr = vaddr
        self.length = length
        self.rip_at = rip_at
        self.inside = inside


def displaceable(decode: Decode, flow: Flow, vaddr: int) -> Displaced | None:
    """What to move from before the syscall at ``vaddr``, which is reached in ``flow``; None if that is not safe as
    far as the function itself can tell."""
    ends = {at + entry[0]: at for at, entry in flow.reached.items() if vaddr - MAX_DISPLACED <= at < vaddr}
    moved: list[int] = []
    at = vaddr
    while vaddr - at < JUMP_SIZE:
        if at not in ends or (moved and at in flow.targets):
            return None
        at = ends[at]
        moved.append(at)
    if vaddr - at > MAX_DISPLACED or any(
        b in flow.targets or b in flow.reached for b in _middles(moved, vaddr)
    ):
        return None
    rip_at = 0
    for start in moved:
        size, kind, _ = flow.reached[start]
        here = start - flow.start
        _, _, mnemonic, operands = next(decode(flow.code[here : here + size], start))
        if kind != NEXT or not _movable(mnemonic, operands):
            return None
        if "rip" in operands.split("[")[-1]:
            if rip_at:
                return None
            rip_at = start + size - 4 - at  # lea has no immediate behind its displacement
    return Displaced(vaddr, vaddr - at, rip_at, moved[:-1])


def _middles(moved: list[int], vaddr: int) -> Iterable[int]:
    """The addresses between the first moved instruction and the syscall at which none begins."""
    return (at for at in range(moved[-1] + 1, vaddr) if at not in moved)


def _movable(mnemonic: str, operands: str) -> bool:
    if mnemonic in ("lea", "nop"):
        return "sp," not in operands.split("[")[0]
    if mnemonic not in _MOVABLE and not mnemonic.startswith(("cmov", "set")):
        return False
    written = operands.split(",")[0]
    return "[" not in operands and not written.endswith("sp") and _general(operands)


def _general(operands: str) -> bool:
    """Whether no operand is a segment, control or debug register."""
    return not any(
        o.strip() in ("cs", "ds", "es", "fs", "gs", "ss") or o.strip()[:2] in ("cr", "dr")
        for o in operands.split(",")
    )


def leads_elsewhere(flow: Flow) -> Iterable[int]:
    """Where the function jumps to outside of itself: tails of others, and parts of its own that stand elsewhere."""
    for _, kind, target in flow.reached.values():
        if kind in (JUMP, BRANCH) and not flow.start <= target < flow.end:
            yield target


def has_indirect_jump(flow: Flow) -> bool:
    """Whether a jump of the function goes where its disassembly does not tell."""
    return any(kind == INDIRECT for _, kind, _ in (*flow.reached.values(), *flow.linear.values()))


def displacements_to(code: bytes, base: int, wanted: set[int], own: dict[int, tuple[int, int]]) -> set[int]:
    """Which of the vaddrs ``wanted`` any bytes of ``code`` (at vaddr ``base``) lead to, if they are a branch: all
    32-bit displacements behind an opcode of call, jmp and jcc, and the short branches near by. ``own`` gives the
    function of each, [start, end), whose short branches are known."""
    import re

    found = set()
    for match in re.finditer(rb"[\xe8\xe9]|\x0f[\x80-\x8f]", code):
        end = match.end() + 4
        target = base + end + int.from_bytes(code[end - 4 : end], "little", signed=True)
        if target in wanted:
            found.add(target)
    for target in wanted:
        start, stop = own[target]
        for at in range(max(0, target - base - 129), min(len(code) - 1, target - base + 127)):
            if start <= base + at < stop or not _short_branch(code[at]):
                continue
            if base + at + 2 + int.from_bytes(code[at + 1 : at + 2], signed=True) == target:
                found.add(target)
    return found


def _short_branch(opcode: int) -> bool:
    return 0x70 <= opcode <= 0x7F or 0xE0 <= opcode <= 0xE3 or opcode == 0xEB
