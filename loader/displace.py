"""The "before" form: which instructions in front of a syscall may be moved into a trampoline.

Part of: loader (rewriting, cold path). May touch: nothing.

Whole instructions up to the syscall, which follow one another and do not care where they stand, are copied into the
trampoline; a jump overwrites the first of them, the *head*, of five bytes or more. All others stay where they
were, so that whoever branches to one finds it, and whoever is interrupted in the copy goes on at the original, by
way of the trap at last. An instruction of five bytes or more at the head leaves nothing that could be entered.

Otherwise the head is several instructions. Then no branch of the function may lead between them, no displacement
anywhere in the text may, the function must have no landing pads, and neither it nor a part of it that stands
elsewhere (gcc's .cold) an indirect jump whose targets are not known. None but the first of them may fault, and the
core holds a signal back that comes between them (core_native/tramps.c): their own places are gone.
"""

from __future__ import annotations

from .flow import BRANCH, INDIRECT, JUMP, NEXT
from .trampoline import JUMP_SIZE, MAX_DISPLACED, MAX_RIPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .flow import Decode, Flow

MAX_SCANNED = 64 << 20
"""Bytes of text beyond which it is not searched for displacements."""

_PURE = frozenset(
    "mov movabs movzx movsx movsxd lea xor or and add sub adc sbb inc dec neg not shl shr sar rol ror test cmp nop "
    "bswap cdqe cdq cqo cwde xchg imul".split()
)
"""Instructions that change registers and flags only, if they have no memory operand. lea and nop read none."""
_MOVABLE = _PURE | frozenset(
    "push pop movaps movups movapd movupd movdqa movdqu movq movd movhps movlps movhpd movlpd punpcklqdq pxor xorps "
    "xorpd endbr64 bt bts btr".split()
)
"""Instructions that do the same wherever they stand."""


class Displaced:
    """``length`` bytes before the syscall at ``vaddr``, the first ``head`` of which are overwritten; ``rips``: where
    among them displacements from rip are; ``inside``: the addresses of all instructions of the head but the first."""

    __slots__ = ("head", "inside", "length", "rips", "vaddr")

    def __init__(self, vaddr: int, length: int, head: int, rips: list[int], inside: list[int]) -> None:
        self.vaddr = vaddr
        self.length = length
        self.head = head
        self.rips = rips
        self.inside = inside


def displaceable(decode: Decode, flow: Flow, vaddr: int) -> list[Displaced]:
    """The ways to move what stands before the syscall at ``vaddr``, which is reached in ``flow``, as far as the
    function itself can tell; the best first."""
    moved = _movable_before(decode, flow, vaddr)
    ways = []
    for i in range(len(moved)):
        sequence = moved[i:]
        rips = [at - sequence[0][0] + offset for at, _, _, offset in sequence if offset]
        if len(rips) > MAX_RIPS:
            continue
        head, inside, faults = 0, [], False
        for at, size, pure, _ in sequence:
            if head:
                inside.append(at)
                faults = faults or not pure
            head += size
            if head >= JUMP_SIZE:
                break
        start = sequence[0][0]
        if head < JUMP_SIZE or (faults and inside) or _entered(flow, start, head):
            continue
        ways.append(Displaced(vaddr, vaddr - start, head, rips, inside))
    ways.sort(key=lambda d: (len(d.inside), d.length))
    return ways


def _movable_before(decode: Decode, flow: Flow, vaddr: int) -> list[tuple[int, int, bool, int]]:
    """The movable instructions that end at ``vaddr``, in their order: (address, size, whether it is pure, where its
    displacement from rip is or 0)."""
    ends = {at + entry[0]: at for at, entry in flow.reached.items() if vaddr - MAX_DISPLACED <= at < vaddr}
    found: list[tuple[int, int, bool, int]] = []
    at = vaddr
    while at in ends and vaddr - ends[at] <= MAX_DISPLACED:
        at = ends[at]
        size, kind, _ = flow.reached[at]
        here = at - flow.start
        code = flow.code[here : here + size]
        _, _, mnemonic, operands = next(decode(code, at))
        offset = _rip_offset(code, operands) if "rip" in operands else 0
        if kind != NEXT or offset < 0 or not _movable(mnemonic, operands):
            break
        found.append((at, size, _pure(mnemonic, operands), offset))
    found.reverse()
    return found


def _entered(flow: Flow, start: int, head: int) -> bool:
    """Whether the function enters the head anywhere but at its start, or decodes it in two ways."""
    inside = {at for at in range(start + 1, start + head) if at in flow.targets}
    if inside:
        return True
    end = start
    for at in range(start, start + head):
        if at in flow.reached:
            if at < end:
                return True
            end = at + flow.reached[at][0]
    return False


def _rip_offset(code: bytes, operands: str) -> int:
    """Where in an instruction its displacement from rip is; -1 if that is not its last four bytes."""
    inside = operands.split("[rip", 1)[-1].split("]", 1)[0].replace(" ", "")
    try:
        shown = int(inside, 16) if inside else 0
    except ValueError:
        return -1
    last = int.from_bytes(code[-4:], "little", signed=True)
    # An immediate would stand behind it.
    others = [o.strip() for o in operands.split(",") if "[" not in o]
    plain = all(o.isalnum() and o[:1].isalpha() for o in others)
    return len(code) - 4 if plain and shown == last and len(code) >= 6 else -1


def _movable(mnemonic: str, operands: str) -> bool:
    if mnemonic not in _MOVABLE and not mnemonic.startswith(("cmov", "set")):
        return False
    return _general(operands)


def _pure(mnemonic: str, operands: str) -> bool:
    """Whether the instruction cannot fault and leaves the stack pointer alone."""
    if mnemonic in ("lea", "nop"):
        return "sp," not in operands.split("[")[0]
    if mnemonic not in _PURE and not mnemonic.startswith(("cmov", "set")):
        return False
    return "[" not in operands and not operands.split(",")[0].endswith("sp")


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
