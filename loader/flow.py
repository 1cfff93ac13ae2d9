"""The control flow of one function, by disassembly: what is certainly an instruction, and what jumps where.

Part of: loader (rewriting, cold path). May touch: nothing; imports capstone on first use.

Two passes. The linear one decodes from the function's start onwards, as objdump does; data between the
instructions can mislead it. The other follows control flow from the start (Kinder and Veith, "Jakstab", CAV
2008, call it recursive traversal): what it reaches is executed, unless a call never returns. Of jump tables those are
followed that compilers make for a switch, as far as their entries lead to instructions of the linear pass too. Code
that only another kind of table or an exception leads to is not reached.
"""

from __future__ import annotations

from .padding import is_padding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Decode = Callable[[bytes, int], Iterator[tuple[int, int, str, str]]]
    Read = Callable[[int, int], bytes]

MAX_FUNCTION = 1 << 19
"""Bytes of a function beyond which it is not disassembled."""
_MAX_TABLE = 1024
"""Entries of a jump table that are looked at."""

NEXT, JUMP, BRANCH, CALL, END, SYSCALL, INDIRECT = range(7)
"""What follows an instruction: the next one; its target; both; both (a call); nothing; the next (a system call);
what is not known (an indirect jump)."""

_ENDS = frozenset(("ret", "retf", "retfq", "ud0", "ud1", "ud2", "hlt", "int3", "iret", "iretd", "iretq"))
_NO_RETURN = (b"\xb8\x3c\0\0\0", b"\xb8\xe7\0\0\0", b"\xb8\x0f\0\0\0")
"""mov $nr,%eax for exit, exit_group, rt_sigreturn: what stands behind such a system call may be data."""


class OverBudget(Exception):
    """The file needs more disassembly than it is worth."""


class Disassembler:
    """capstone, with a budget of bytes over its lifetime. `decode` yields (address, size, mnemonic, operands).

    `read(vaddr, size)` gives bytes of the file's image for jump tables; fewer where there are none.
    """

    __slots__ = ("_read", "decode", "left")

    def __init__(self, budget: int, read: Read = lambda vaddr, size: b"") -> None:
        import capstone

        self.decode: Decode = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm_lite
        self.left = budget
        self._read = read

    def flow(self, code: bytes, start: int) -> Flow:
        """The flow of the function ``code`` at vaddr ``start``. Raises OverBudget."""
        self.left -= len(code)
        if self.left < 0 or len(code) > MAX_FUNCTION:
            raise OverBudget
        return Flow(self.decode, code, start, self._read)


class Flow:
    """One function, [start, end). ``linear`` and ``reached`` map the vaddr of an instruction to
    (size, NEXT..INDIRECT, target or -1); ``targets`` are the vaddrs in it that its branches name.

    ``broken`` says why nothing may be concluded from ``reached`` ("" if all is well).
    """

    __slots__ = ("_idle", "broken", "code", "end", "linear", "linear_end", "reached", "start", "targets")

    def __init__(self, decode: Decode, code: bytes, start: int, read: Read = lambda vaddr, size: b"") -> None:
        self.code = code
        self.start = start
        self.end = start + len(code)
        self.broken = ""
        self._idle: list[tuple[int, int]] | None = None
        self.linear: dict[int, tuple[int, int, int]] = {}
        self.reached: dict[int, tuple[int, int, int]] = {}
        self.targets: set[int] = set()
        for at, size, mnemonic, operands in decode(code, start):
            self.linear[at] = _classify(size, mnemonic, operands)
        self.linear_end = at + size if self.linear else start
        self._traverse(decode, [start])
        if not self.broken and any(kind == INDIRECT for _, kind, _ in self.reached.values()):
            self._follow_tables(decode, read)
        if not self.broken:
            self._check_overlap()

    def last(self) -> int:
        """What follows the function's last instruction; BRANCH if that is not known."""
        if self.linear_end == self.end:
            for at in range(self.end - 1, max(self.start, self.end - 16) - 1, -1):
                if at in self.linear:
                    return self.linear[at][1]
        return BRANCH

    def idle_runs(self) -> list[tuple[int, int]]:
        """Runs of padding, [start, end), behind an instruction that control flow does not pass; what comes after
        the padding is reached, the padding is not."""
        if self._idle is None:
            self._idle = []
            for at, (size, kind, _) in self.reached.items():
                if kind in (JUMP, END, INDIRECT):
                    run = at + size, self._padding_end(at + size)
                    if run[1] > run[0] and run[1] in self.reached:
                        self._idle.append(run)
            self._idle.sort()
        return self._idle

    def _padding_end(self, at: int) -> int:
        while at in self.linear and at not in self.reached and at not in self.targets:
            after = at + self.linear[at][0]
            if not is_padding(self.code[at - self.start : after - self.start]):
                break
            at = after
        return at

    def within_another(self, vaddr: int) -> bool:
        """Whether ``vaddr`` is certainly in the middle of an instruction."""
        for at in range(vaddr - 1, vaddr - 15, -1):
            if at in self.reached:
                return at + self.reached[at][0] > vaddr and vaddr not in self.reached
        return False

    def _follow_tables(self, decode: Decode, read: Read) -> None:
        done: set[int] = set()
        while not self.broken:
            tables = {t for at in self.reached if (t := self._table_of(at)) and t not in done}
            if not tables:
                return
            done |= tables
            targets = {target for table in tables for target in self._entries(table, read)}
            self.targets |= targets
            self._traverse(decode, sorted(targets))

    def _table_of(self, at: int) -> int:
        """The address that an instruction takes the entries of a jump table from, if it may be one that does; its
        sign tells the kind: positive for offsets from the table, negative for addresses."""
        here = at - self.start
        code = self.code[here : here + 8]
        if len(code) >= 7 and code[0] & 0xF8 == 0x48 and code[1] == 0x8D and code[2] & 0xC7 == 0x05:
            return at + 7 + int.from_bytes(code[3:7], "little", signed=True)  # lea table(%rip), %reg
        if code[:1] == b"\x3e":
            code = code[1:]  # notrack
        if len(code) >= 7 and code[:2] == b"\xff\x24" and code[2] & 0xC7 == 0xC5:
            return -int.from_bytes(code[3:7], "little")  # jmp *table(,%reg,8)
        return 0

    def _entries(self, table: int, read: Read) -> Iterator[int]:
        """Where the entries of a jump table lead; none if fewer than two make sense."""
        if self.start <= abs(table) < self.end:
            return
        width, base = (4, table) if table > 0 else (8, 0)
        raw = read(abs(table), width * _MAX_TABLE)
        found = []
        for i in range(0, len(raw) - width + 1, width):
            target = base + int.from_bytes(raw[i : i + width], "little", signed=True)
            if not self.start <= target < self.end or target not in self.linear:
                break
            found.append(target)
        if len(found) > 1:
            yield from found

    def _traverse(self, decode: Decode, pending: list[int]) -> None:
        known = self.linear
        while pending:
            at = pending.pop()
            while at not in self.reached:
                if not self.start <= at < self.end:
                    break  # a tail call, or a call of a function that does not return at the very end
                entry = known.get(at)
                if entry is None:
                    if known is self.linear:
                        known = dict(known)
                    entry = self._single(decode, at)
                    if entry is None:
                        self.broken = "its function does not disassemble"
                        return
                    known[at] = entry
                self.reached[at] = entry
                size, kind, target = entry
                if self.start <= target < self.end:
                    self.targets.add(target)
                    pending.append(target)
                if kind in (JUMP, END, INDIRECT) or self._stops(at, kind, target, size):
                    break
                at += size

    def _stops(self, at: int, kind: int, target: int, size: int) -> bool:
        if kind == CALL:  # a call over data: the data's address is what it is for
            return at + size < target < self.end
        here = at - self.start
        return kind == SYSCALL and here >= 5 and self.code[here - 5 : here] in _NO_RETURN

    def _single(self, decode: Decode, at: int) -> tuple[int, int, int] | None:
        here = at - self.start
        for _, size, mnemonic, operands in decode(self.code[here : here + 15], at):
            return _classify(size, mnemonic, operands)
        return None

    def _check_overlap(self) -> None:
        end, before = 0, 0
        for at in sorted(self.reached):
            if at < end and not (at == before + 1 and self.code[before - self.start] == 0xF0):
                self.broken = "its function has overlapping instructions"  # a skipped lock prefix is none
                return
            end, before = at + self.reached[at][0], at


def _classify(size: int, mnemonic: str, operands: str) -> tuple[int, int, int]:
    if " " in mnemonic:
        mnemonic = mnemonic.rsplit(" ", 1)[1]  # bnd, notrack, rep
    first = mnemonic[0]
    if first == "j" or first == "l" and mnemonic.startswith("loop") or mnemonic == "xbegin":
        direct = operands.startswith("0x")
        if mnemonic == "jmp":
            return (size, JUMP, int(operands, 16)) if direct else (size, INDIRECT, -1)
        return (size, BRANCH, int(operands, 16)) if direct else (size, NEXT, -1)
    if mnemonic == "call":
        return size, CALL, int(operands, 16) if operands.startswith("0x") else -1
    if mnemonic == "syscall":
        return size, SYSCALL if size == 2 else NEXT, -1
    return size, END if mnemonic in _ENDS else NEXT, -1
