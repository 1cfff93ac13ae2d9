"""Where the functions of an ELF file begin and end: call frame information, symbols, Go's function table.

Part of: loader (rewriting, cold path). May touch: the host fd of the file (pread only).

Disassembly proves a syscall site only when it starts where a function does. Sources, the best first:
.eh_frame (LSB Core, "Exception Frames"; DWARF 5, 6.4.1), which compilers write for every function; Go's
.gopclntab (src/debug/gosym/pclntab.go); the symbol tables. pyelftools reads all of these, but decodes each
FDE's program as well: [measured] 0.7 s for glibc's, where the ranges alone take 12 ms.
"""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct
from struct import error as StructError

from .text import PT_GNU_EH_FRAME, Section, Text

MAX_FUNCTIONS = 2_000_000
_MAX_TABLE = 256 << 20
_U32X2, _S32X2, _U64, _U32 = Struct("<II"), Struct("<ii"), Struct("<Q"), Struct("<I")
_SYM = Struct("<IBBHQQ")
_RELA = Struct("<QQq")
_SHT_SYMTAB, _SHT_RELA, _SHT_DYNSYM = 2, 4, 11
#: pointer encodings (DW_EH_PE_*, low four bits): size in bytes and whether it is signed
_ENCODINGS = {0x0: (8, False), 0x3: (4, False), 0x4: (8, False), 0xB: (4, True), 0xC: (8, True)}
_PCREL, _OMIT = 0x10, 0xFF

Range = tuple[int, int]


class Functions:
    """The functions of a file, as [start, end) vaddrs in ascending order.

    ``guarded`` are the starts of those with landing pads for exceptions. ``complete`` says that every function with
    frame information is known, so that what lies outside of all of them may be padding.
    """

    __slots__ = ("_furthest", "complete", "guarded", "ranges", "starts")

    def __init__(self, ranges: list[Range], complete: bool) -> None:
        longest: dict[int, int] = {}
        for start, end in ranges:
            if longest.get(start, 0) < end:
                longest[start] = end
        self.starts = sorted(longest)
        self.ranges = [(start, longest[start]) for start in self.starts]
        self.complete = complete
        self.guarded: set[int] = set()
        self._furthest: list[int] = []
        furthest = 0
        for _, end in self.ranges:
            furthest = max(furthest, end)
            self._furthest.append(furthest)

    def covering(self, vaddr: int) -> Range | None:
        """The function that ``vaddr`` lies in, or None."""
        i = bisect_right(self.starts, vaddr) - 1
        for j in range(i, max(-1, i - 3), -1):
            if vaddr < self.ranges[j][1]:
                return self.ranges[j]
        return None

    def before_gap(self, vaddr: int) -> tuple[Range, int] | None:
        """The function before the gap that ``vaddr`` lies in, and where the gap ends; None if there is none."""
        i = bisect_right(self.starts, vaddr)
        if not 0 < i < len(self.starts) or self._furthest[i - 1] > vaddr:
            return None
        return self.ranges[i - 1], self.starts[i]

    def gap_around(self, vaddr: int) -> Range:
        """The range without functions that ``vaddr``, which lies in none, belongs to."""
        i = bisect_right(self.starts, vaddr)
        before = self._furthest[i - 1] if i else 0
        return before, self.starts[i] if i < len(self.starts) else 1 << 64

    def overlaps(self, r: Range) -> bool:
        """Whether a function has a byte in the range ``r``."""
        i = bisect_right(self.starts, r[1] - 1) - 1
        return i >= 0 and self._furthest[i] > r[0]

    def gaps(self, low: int, high: int) -> list[Range]:
        """The ranges between two functions that begin where one ends and end where the next begins, and that
        have a byte in [low, high)."""
        found = []
        i = max(1, bisect_right(self.starts, low))
        while i < len(self.starts):
            before, after = self._furthest[i - 1], self.starts[i]
            if low < after and before < high and before < after:
                found.append((before, after))
            if after >= high:
                break
            i += 1
        return found


def read_functions(text: Text, wanted: list[int], data: list[bytes]) -> Functions:
    """The functions of ``text``; symbols are read only if some vaddr of ``wanted`` has no frame information.

    ``data`` are the segments' bytes.
    """
    sections = text.sections()
    ranges, guarded, complete = _frame_ranges(text, sections)
    functions = Functions(ranges, complete)
    functions.guarded = guarded
    missing = [v for v in wanted if not functions.covering(v)]
    if any(s.name == b"__patchable_function_entries" for s in sections):
        functions.complete = False  # nops before a function are there to be patched by others
    if not missing:
        return functions
    others = _go_ranges(text, sections, data) or _symbol_ranges(text, sections)
    # glibc ends the FDE of clone before its system call, so that no unwinder goes on from there: a symbol is
    # taken where no FDE is, or where an address is wanted that none covers.
    found = Functions(others, True)
    needed = {found.covering(v) for v in missing}
    added = [r for r in others if r in needed or not functions.overlaps(r)]
    merged = Functions(functions.ranges + added, functions.complete)
    merged.guarded = guarded
    return merged


def _inside(text: Text, start: int, end: int) -> bool:
    return start < end and any(s.vaddr <= start and end <= s.vaddr + s.length for s in text.segments)


# --- .eh_frame ------------------------------------------------------------------------------------------------


def _frame_ranges(text: Text, sections: list[Section]) -> tuple[list[Range], set[int], bool]:
    where = _frame_section(text, sections)
    if where is None:
        return [], set(), True
    vaddr, offset, size = where
    raw = text.content(offset, min(size, _MAX_TABLE))
    try:
        found, guarded, complete = _parse_frames(raw, vaddr)
    except (StructError, IndexError):
        return [], set(), False
    return [r for r in found if _inside(text, *r)], guarded, complete


def _frame_section(text: Text, sections: list[Section]) -> tuple[int, int, int] | None:
    """(vaddr, file offset, size) of .eh_frame, by its section or else by PT_GNU_EH_FRAME."""
    for s in sections:
        if s.name == b".eh_frame" and s.kind != 8:  # SHT_NOBITS: a file of debug information only
            return s.addr, s.offset, s.size
    for h in text.headers:
        if h.p_type == PT_GNU_EH_FRAME:
            head = text.content(h.p_offset, 8)
            if len(head) == 8 and head[0] == 1 and head[1] == _PCREL | 0xB:
                return _in_load(text, h.p_vaddr + 4 + int.from_bytes(head[4:], "little", signed=True))
    return None


def _in_load(text: Text, vaddr: int) -> tuple[int, int, int] | None:
    for h in text.headers:
        if h.p_type == 1 and h.p_vaddr <= vaddr < h.p_vaddr + h.p_filesz:
            skip = vaddr - h.p_vaddr
            return vaddr, h.p_offset + skip, h.p_filesz - skip
    return None


def _parse_frames(raw: bytes, base: int) -> tuple[list[Range], set[int], bool]:
    """The ranges of all FDEs of the .eh_frame ``raw`` at vaddr ``base``, the starts of those with a table of landing
    pads, and whether all could be read."""
    found: list[Range] = []
    guarded: set[int] = set()
    encodings: dict[int, tuple[int, int]] = {}
    at, end, complete = 0, len(raw), True
    while at + 8 <= end:
        length, pointer = _U32X2.unpack_from(raw, at)
        following = at + 4 + length
        if length == 0:
            break
        if length >= 0xFFFFFFF0 or following > end or len(found) >= MAX_FUNCTIONS:
            return found, guarded, False
        if pointer:  # an FDE; else a CIE, read when an FDE names it
            cie = at + 4 - pointer
            known = encodings.get(cie)
            if known is None:
                known = encodings[cie] = _cie_encodings(raw, cie)
            encoding, table = known
            if encoding == _PCREL | 0xB:
                start, size = _S32X2.unpack_from(raw, at + 8)
                start += base + at + 8
                size &= 0xFFFFFFFF
                width = 4
            elif encoding & 0xF in _ENCODINGS and encoding & 0xF0 in (0, _PCREL):
                width, signed = _ENCODINGS[encoding & 0xF]
                start = int.from_bytes(raw[at + 8 : at + 8 + width], "little", signed=signed)
                start += base + at + 8 if encoding & _PCREL else 0
                size = int.from_bytes(raw[at + 8 + width : at + 8 + 2 * width], "little")
            else:
                complete = False
                at = following
                continue
            found.append((start, start + size))
            if table != _OMIT:
                tail = at + 8 + 2 * width  # the length of what the CIE announced, and that: the pointer
                if raw[tail] and any(raw[tail + 1 : tail + 1 + _width(table)]):
                    guarded.add(start)
        at = following
    return found, guarded, complete


def _width(encoding: int) -> int:
    return _ENCODINGS.get(encoding & 0xF, (8, False))[0]


def _cie_encodings(raw: bytes, at: int) -> tuple[int, int]:
    """How the FDEs of the CIE at ``at`` encode addresses, and their pointer to a table of landing pads; _OMIT for
    what is not there or cannot be read."""
    if at < 0 or _U32.unpack_from(raw, at + 4)[0] != 0:
        return _OMIT, _OMIT
    end = at + 4 + int(_U32.unpack_from(raw, at)[0])
    version = raw[at + 8]
    zero = raw.find(0, at + 9, at + 32)
    augmentation = raw[at + 9 : zero]
    if zero < 0 or version not in (1, 3):
        return _OMIT, _OMIT
    if not augmentation:
        return 0, _OMIT
    if augmentation[:1] != b"z":
        return _OMIT, _OMIT
    at = _skip_leb(raw, _skip_leb(raw, zero + 1, end), end)  # code and data alignment factors
    at = at + 1 if version == 1 else _skip_leb(raw, at, end)  # the return address column
    at = _skip_leb(raw, at, end)  # the augmentation's length
    addresses, table = 0, _OMIT
    for letter in augmentation[1:].decode("latin-1"):
        if letter == "R":
            addresses = raw[at]
            at += 1
        elif letter == "P":
            if raw[at] & 0xF not in _ENCODINGS:
                return _OMIT, _OMIT
            at += 1 + _width(raw[at])
        elif letter == "L":
            table = raw[at]
            at += 1
        elif letter not in "SB":
            return _OMIT, _OMIT
    return addresses, table


def _skip_leb(raw: bytes, at: int, end: int) -> int:
    while at < end and raw[at] & 0x80:
        at += 1
    return at + 1


# --- Go's function table --------------------------------------------------------------------------------------


def _go_ranges(text: Text, sections: list[Section], data: list[bytes]) -> list[Range]:
    for s in sections:
        if s.name in (b".gopclntab", b".data.rel.ro.gopclntab"):
            try:
                starts = _go_starts(text.content(s.offset, min(s.size, _MAX_TABLE)))
            except StructError:
                return []
            if starts != sorted(starts):
                return []
            pairs = zip(starts, starts[1:], strict=False)
            return [(a, _without_int3(text, data, a, b)) for a, b in pairs if _inside(text, a, b)]
    return []


def _go_starts(table: bytes) -> list[int]:
    """The entry points, and last the end of the text, of a .gopclntab of Go 1.2 or later; [] if unknown."""
    magic, zero = Struct("<IH").unpack_from(table)
    if zero or table[7:8] != b"\x08":  # the size of a pointer
        return []
    count = _U64.unpack_from(table, 8)[0]
    if count > MAX_FUNCTIONS:
        return []
    if magic in (0xFFFFFFF0, 0xFFFFFFF1):  # Go 1.18, 1.20: offsets from the start of the text
        base, functab = _U64.unpack_from(table, 24)[0], _U64.unpack_from(table, 64)[0]
        entries = Struct(f"<{2 * count + 1}I").unpack_from(table, functab)
        return [base + e for e in entries[::2]]
    if magic in (0xFFFFFFFB, 0xFFFFFFFA):  # Go 1.2, 1.16
        functab = 16 if magic == 0xFFFFFFFB else _U64.unpack_from(table, 56)[0]
        return list(Struct(f"<{2 * count + 1}Q").unpack_from(table, functab)[::2])
    return []


def _without_int3(text: Text, data: list[bytes], start: int, end: int) -> int:
    """``end`` without the int3 that Go's linker pads functions with."""
    for s, code in zip(text.segments, data, strict=True):
        if s.vaddr <= start < s.vaddr + s.length:
            at = end - s.vaddr
            while at > start - s.vaddr + 1 and code[at - 1] == 0xCC:
                at -= 1
            return at + s.vaddr
    return end


# --- pointers -------------------------------------------------------------------------------------------------


def pointers(text: Text) -> list[int]:
    """What the file's relative relocations (R_X86_64_RELATIVE) point to in its text: functions, most of them."""
    found = set()
    for s in text.sections():
        if s.kind == _SHT_RELA:
            raw = text.content(s.offset, min(s.size, MAX_FUNCTIONS * _RELA.size))
            for _, info, addend in _RELA.iter_unpack(raw[: len(raw) // _RELA.size * _RELA.size]):
                if info & 0xFFFFFFFF == 8 and text.offset_of(addend) >= 0:
                    found.add(addend)
    return sorted(found)


# --- symbols --------------------------------------------------------------------------------------------------


def _symbol_ranges(text: Text, sections: list[Section]) -> list[Range]:
    """Functions with a size, of .symtab or else .dynsym; what lies within another is dropped."""
    for kind in (_SHT_SYMTAB, _SHT_DYNSYM):
        best: dict[int, int] = {}
        for s in sections:
            if s.kind == kind:
                raw = text.content(s.offset, min(s.size, MAX_FUNCTIONS * _SYM.size))
                for _, info, _, index, value, size in _SYM.iter_unpack(
                    raw[: len(raw) // _SYM.size * _SYM.size]
                ):
                    if size and index and info & 0xF in (2, 10) and best.get(value, 0) < value + size:
                        best[value] = value + size  # STT_FUNC, STT_GNU_IFUNC
        found: list[Range] = []
        for start in sorted(best):
            if _inside(text, start, best[start]) and (not found or found[-1][1] <= start):
                found.append((start, best[start]))
        if found:
            return found
    return []
