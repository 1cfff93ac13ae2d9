"""System call sites of an ELF file: find them, prove that they are instructions, choose how to rewrite each.

Part of: loader (rewriting, cold path). May touch: the host fd of the file (pread only).

A site is patched only if it is certain that its bytes are the instruction that they look like, and that no one
jumps between the overwritten bytes: anything else is refused, with the reason, and stays on the trap. The
forms, and what each needs:

mov     ``mov $nr,%eax; syscall``: the mov becomes a jump, the syscall stays, so that whoever branches to it traps.
hop     ``syscall`` becomes a jump to padding between functions, which jumps on; nothing else moves.
zpoline ``syscall`` becomes ``call *%rax``, where that is wanted and right (page_zero.py).
before  other instructions before the syscall are copied, and a jump overwrites the first of them (displace.py).
"""

from __future__ import annotations

from binascii import crc32
from itertools import islice

from .callers import called, computed
from .displace import (
    MAX_SCANNED,
    Displaced,
    displaceable,
    displacements_to,
    has_indirect_jump,
    leads_elsewhere,
)
from .flow import END, INDIRECT, JUMP, NEXT, SYSCALL, Disassembler, Flow, OverBudget
from .functions import Functions, Range, pointers, read_functions
from .padding import MAX_RUN, is_padding
from .page_zero import may_call
from .text import Text
from .trampoline import JUMP_SIZE, pack_rips

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SITES = 4096
"""Rewritten in one file: their trampolines must fit where the core makes room for them (core_native/rewrite.c)."""
_MAX_CANDIDATES = 2 * MAX_SITES
_BUDGET = 4 << 20
"""Bytes of functions disassembled for one file: 3 s and 250 MB at most; glibc needs 0.08 and 6 MB."""
_MOV7 = b"\x48\xc7\xc0"
_SIGRETURN = (b"\xb8\x0f\0\0\0", b"\x48\xc7\xc0\x0f\0\0\0")
"""What stands before the syscall of a signal's restorer; libgcc's unwinder and gdb look for these bytes."""

NO_FUNCTION = "no function start known"
NOT_REACHED = "no direct control flow from its function's start"
INSIDE = "inside another instruction"
OVERLAPPING = "its function has overlapping instructions"
UNDECODED = "its function does not disassemble"
SIGRETURN = "rt_sigreturn: unwinders recognise it by its bytes"
NO_ROOM = "no padding within reach, no instructions to displace before it"
BUDGET = "its function is too large to disassemble"
TOO_MANY = "too many sites in one file"
OUT_OF_REACH = "the trampolines are out of reach"
REASONS = (
    "", NO_FUNCTION, NOT_REACHED, INSIDE, OVERLAPPING, UNDECODED, SIGRETURN, NO_ROOM, BUDGET, TOO_MANY, OUT_OF_REACH,
)  # fmt: skip
"""Why a site is refused. The order is that of the cache's files: append only, or change its version."""


LEARNABLE = frozenset((NO_FUNCTION, NOT_REACHED, TOO_MANY))
"""Reasons that may no longer hold once the site is known to have been executed."""


class Site:
    """A syscall instruction at ``vaddr``: ``form`` is how it is rewritten ("mov", "hop", "before"), or "" with
    the ``reason``.

    ``length``: bytes displaced before the instruction (mov, before), or of the padding run at ``run``, whose
    slot number ``slot`` the hop uses. before: ``head``, how many of those bytes are overwritten; ``run``, their
    checksum; ``slot``, pack_rips().
    """

    __slots__ = ("form", "head", "length", "reason", "run", "slot", "vaddr")

    def __init__(
        self,
        vaddr: int,
        form: str = "",
        reason: str = "",
        length: int = 0,
        run: int = 0,
        slot: int = 0,
        head: int = 0,
    ) -> None:
        self.vaddr = vaddr
        self.form = form
        self.reason = reason
        self.length = length
        self.run = run
        self.slot = slot
        self.head = head

    def __repr__(self) -> str:
        return f"<{self.vaddr:#x} {self.form or self.reason}>"


class Analysis:
    """What is known of a file: ``sites`` to be rewritten, ``refused`` ones, both by vaddr; ``uses_gs``."""

    __slots__ = ("refused", "sites", "uses_gs")

    def __init__(self, sites: list[Site], refused: list[Site], uses_gs: bool) -> None:
        self.sites = sites
        self.refused = refused
        self.uses_gs = uses_gs


def find_sites(text: Text, learned: frozenset[int] = frozenset(), zpoline: bool = False) -> Analysis:
    """Find the sites of ``text``. ``learned`` are vaddrs whose syscall was executed: it is enough then
    that the linear pass takes them for instructions too. (A guest may jump to any bytes: that alone proves nothing.)

    Raises OSError if the file shrinks meanwhile.
    """
    data = text.load()
    candidates: list[int] = []
    for s, code in zip(text.segments, data, strict=True):
        room = _MAX_CANDIDATES - len(candidates)
        candidates += [s.vaddr + at for at in islice(_occurrences(code), room)]
    uses_gs = any(_writes_gs(code) for code in data)
    if not candidates:
        return Analysis([], [], uses_gs)
    finder = _Finder(text, data, read_functions(text, candidates, data), zpoline)
    finder.find_called(candidates)
    sites: list[Site] = []
    refused: list[Site] = []
    candidates.sort(key=lambda v: v not in learned)  # what is executed has the first claim on the bounds
    for vaddr in candidates[:MAX_SITES]:
        site = finder.examine(vaddr, vaddr in learned)
        if site is not None:
            (sites if site.form else refused).append(site)
    refused += [Site(v, reason=TOO_MANY) for v in candidates[MAX_SITES:]]
    finder.displace()
    left = finder.place_hops(sorted(finder.hops))
    sites += finder.placed
    refused += left
    sites.sort(key=lambda s: s.vaddr)
    refused.sort(key=lambda s: s.vaddr)
    return Analysis(sites, refused, uses_gs)


def _occurrences(code: bytes) -> Iterator[int]:
    at = code.find(b"\x0f\x05")
    while at >= 0:
        yield at
        at = code.find(b"\x0f\x05", at + 2)


def _writes_gs(code: bytes) -> bool:
    """Whether the bytes of a wrgsbase (register form of f3 [REX] 0f ae /3) occur anywhere."""
    import re

    return re.search(rb"\xf3[\x40-\x4f]?\x0f\xae[\xd8-\xdf]", code) is not None


class _Finder:
    """The analysis of one file, as far as it has come."""

    def __init__(self, text: Text, data: list[bytes], functions: Functions, zpoline: bool = False) -> None:
        self.text = text
        self.data = data
        self.functions = functions
        self.disassembler = Disassembler(_BUDGET, text.image)
        self.flows: dict[Range, Flow | None] = {}
        self.hops: dict[int, Site | None] = {}  # vaddr: what to do if no hop has room
        self.placed: list[Site] = []
        self.runs: dict[Range, int] = {}  # padding: slots in use
        self.called: list[Range] = []
        self.zpoline = zpoline

    def bytes_at(self, start: int, end: int) -> bytes:
        """The bytes of [start, end), or b"" if they are not all in one segment."""
        for s, code in zip(self.text.segments, self.data, strict=True):
            if s.vaddr <= start and end <= s.vaddr + s.length:
                return code[start - s.vaddr : end - s.vaddr]
        return b""

    def flow(self, r: Range) -> Flow | None:
        """The flow of the function ``r``; None if it is too large."""
        if r not in self.flows:
            try:
                self.flows[r] = self.disassembler.flow(self.bytes_at(*r), r[0])
            except OverBudget:
                self.flows[r] = None
        return self.flows[r]

    def examine(self, vaddr: int, executed: bool) -> Site | None:
        """Decide about one candidate. None: it is no site, or a hop whose place is chosen later."""
        if self.bytes_at(vaddr - 5, vaddr) in _SIGRETURN or self.bytes_at(vaddr - 7, vaddr) in _SIGRETURN:
            return Site(vaddr, reason=SIGRETURN)
        covering = self._covering(vaddr)
        if covering is None and executed:
            covering = computed(self._segments(), self.functions, self.flow, vaddr)
            if covering is not None:
                self.called.append(covering)
        if covering is None:
            return Site(vaddr, reason=NO_FUNCTION)
        flow = self.flow(covering)
        if flow is None:
            return Site(vaddr, reason=BUDGET)
        if not flow.broken and flow.within_another(vaddr):
            return Site(vaddr, reason=INSIDE) if executed else None
        if vaddr not in flow.linear and vaddr not in flow.reached:
            return Site(vaddr, reason=INSIDE) if executed else None  # an operand, as far as anyone knows
        if flow.broken:
            return Site(vaddr, reason=flow.broken)
        if flow.reached.get(vaddr, (0, 0, 0))[1] != SYSCALL:
            # Executed, and an instruction to the linear pass too: what stands before it is as uncertain as ever.
            return self._want_hop(vaddr, None) if executed else Site(vaddr, reason=NOT_REACHED)
        if self.zpoline and may_call(self.disassembler.decode, flow, vaddr):
            return Site(vaddr, "zpoline")
        before = self._before(flow, vaddr)
        if before is None or executed or vaddr in flow.targets:
            return self._want_hop(vaddr, before)
        return before

    def _covering(self, vaddr: int) -> Range | None:
        """The function that ``vaddr`` is examined in: that of a table, or one that is called and reaches it."""
        known = self.functions.covering(vaddr) or self._continued(vaddr)
        if known is not None:
            return known
        covering = None
        for r in self.called:
            if r[0] <= vaddr < r[1]:
                covering = r
                flow = self.flow(r)
                if flow is not None and not flow.broken and vaddr in flow.reached:
                    return r
        return covering

    def find_called(self, vaddrs: list[int]) -> None:
        """Look for functions around those of ``vaddrs`` that no table covers."""
        missing = [v for v in vaddrs if self._covering(v) is None]
        if missing:
            known = [self.text.entry, *pointers(self.text)]
            self.called = called(self._segments(), known, self.functions, self.flow, missing)

    def _segments(self) -> list[tuple[int, bytes]]:
        return [(s.vaddr, code) for s, code in zip(self.text.segments, self.data, strict=True)]

    def _continued(self, vaddr: int) -> Range | None:
        """A function whose frame information ends before its code does, as that of glibc's clone3: there no
        unwinder is to go on."""
        found = self.functions.before_gap(vaddr)
        flow = self.flow(found[0]) if found else None
        if found is None or flow is None or flow.broken or flow.last() != NEXT:
            return None
        return found[0][0], found[1]

    def _want_hop(self, vaddr: int, otherwise: Site | None) -> Site | None:
        self.hops[vaddr] = otherwise
        return None  # not yet

    def _before(self, flow: Flow, vaddr: int) -> Site | None:
        """The form that displaces what stands before the syscall, if that does."""
        code = flow.code
        here = vaddr - flow.start
        known = flow.linear if flow.broken or vaddr not in flow.reached else flow.reached
        for length, head in ((5, b"\xb8"), (7, _MOV7)):
            number = code[here - 4 : here]
            if here < length or code[here - length : here - length + len(head)] != head or number[3] & 0x80:
                continue
            if known.get(vaddr - length, (0,))[0] != length or vaddr not in known:
                continue
            if not self._entered(flow, vaddr, length):
                return Site(vaddr, "mov", length=length)
        return None

    @staticmethod
    def _entered(flow: Flow, vaddr: int, length: int) -> bool:
        """Whether a branch is known that leads between the displaced bytes."""
        return any(at in flow.targets or (at in flow.reached) for at in range(vaddr - length + 1, vaddr))

    # --- displaced instructions ---------------------------------------------------------------------------------

    def displace(self) -> None:
        """Find the sites for which the form "before" is an alternative to a hop."""
        found: list[tuple[Displaced, Range]] = []
        for vaddr in [v for v, otherwise in self.hops.items() if otherwise is None]:
            covering = self._covering(vaddr)
            flow = self.flow(covering) if covering else None
            if covering is None or flow is None or flow.broken or vaddr not in flow.reached:
                continue
            for displaced in displaceable(self.disassembler.decode, flow, vaddr):
                if not displaced.inside:
                    self._may_displace(displaced)
                    break
                if self._is_closed(flow, covering):
                    found.append((displaced, covering))
                    break
        own = {at: covering for displaced, covering in found for at in displaced.inside}
        entered = self._entered_from_anywhere(own)
        for displaced, _ in found:
            if entered.isdisjoint(displaced.inside):
                self._may_displace(displaced)

    def _may_displace(self, d: Displaced) -> None:
        code = self.bytes_at(d.vaddr - d.length, d.vaddr)
        rips = pack_rips(d.rips)
        self.hops[d.vaddr] = Site(d.vaddr, "before", "", d.length, crc32(code), rips, d.head)

    def _is_closed(self, flow: Flow, covering: Range) -> bool:
        """Whether every way into the middle of the function is a branch that is seen."""
        if covering[0] in self.functions.guarded or has_indirect_jump(flow):
            return False
        for target in leads_elsewhere(flow):
            other = self.functions.covering(target)
            there = self.flow(other) if other else None
            if there is None or there.broken or has_indirect_jump(there):
                return False
        return True

    def _entered_from_anywhere(self, own: dict[int, Range]) -> set[int]:
        if not own or sum(map(len, self.data)) > MAX_SCANNED:
            return set(own)
        entered: set[int] = set()
        for s, code in zip(self.text.segments, self.data, strict=True):
            entered |= displacements_to(code, s.vaddr, set(own), own)
        return entered

    # --- hops -------------------------------------------------------------------------------------------------

    def place_hops(self, vaddrs: list[int]) -> list[Site]:
        """Give each of ``vaddrs`` (ascending) the lowest free slot that it reaches, those first that have no
        other form. Returns the sites refused; the others are in ``placed``."""
        refused = []
        for first in (True, False):
            for vaddr in vaddrs:
                otherwise = self.hops[vaddr]
                if (otherwise is None) is first:
                    site = self._place(vaddr) or otherwise
                    if site is None:
                        refused.append(Site(vaddr, reason=NO_ROOM))
                    else:
                        self.placed.append(site)
        return refused

    def _place(self, vaddr: int) -> Site | None:
        low, high = vaddr + 2 - 128, vaddr + 2 + 127
        gaps = self.functions.gaps(low, high + 1) if self.functions.complete else []
        runs = [run for run in gaps if self._usable(run)]
        for start, end in [*runs, *self._idle(vaddr, low, high)]:
            run = start, end
            slot = self.runs.get(run, 0)
            slot = max(slot, -(-(low - start) // JUMP_SIZE))
            at = start + slot * JUMP_SIZE
            if (
                at + JUMP_SIZE <= end
                and at <= high
                and self.text.offset_of(min(at, vaddr), abs(at - vaddr) + JUMP_SIZE) >= 0
            ):
                self.runs[run] = slot + 1
                return Site(vaddr, "hop", length=end - start, run=start, slot=slot)
        return None

    def _idle(self, vaddr: int, low: int, high: int) -> list[Range]:
        """Padding within the function of ``vaddr``: nops behind what does not go on, that no control flow reaches.

        Compilers align the targets of jumps with them. A jump table leads to such a target, not to its padding.
        """
        covering = self._covering(vaddr)
        flow = self.flow(covering) if covering is not None else None
        if flow is None or flow.broken:
            return []
        return [r for r in flow.idle_runs() if r[1] > low and r[0] <= high and JUMP_SIZE <= r[1] - r[0] <= MAX_RUN]

    def _usable(self, run: Range) -> bool:
        """Whether ``run`` is padding that nothing falls into."""
        if run[1] - run[0] < JUMP_SIZE or run[1] - run[0] > MAX_RUN or not is_padding(self.bytes_at(*run)):
            return False
        before = self.functions.covering(run[0] - 1)
        flow = None if before is None else self.flow(before)
        return flow is not None and flow.end == run[0] and flow.last() in (JUMP, END, INDIRECT)
