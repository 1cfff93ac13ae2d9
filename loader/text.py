"""The executable segments of an ELF file: where they lie, what they hold, which of them may be rewritten.

Part of: loader (rewriting). May touch: the host fd it is given (pread only).

Only what every rewritten mapping needs is here, so that a warm cache pays for nothing else: no disassembler,
no symbol table. All numbers of the file are taken as hostile: whatever does not add up makes ``read`` give None,
and the file then stays as it is.
"""

from __future__ import annotations

import os
from struct import Struct
from struct import error as StructError

from . import elf
from .plan import PAGE

MAX_FILE = 4 << 30
MAX_TEXT = 256 << 20
"""Bytes of executable segments beyond which a file is left alone."""
_USER_END = 1 << 47
_MAX_DYNAMIC = 1 << 16

PT_DYNAMIC, PT_GNU_EH_FRAME = 2, 0x6474E550
_DT_TEXTREL, _DT_FLAGS, _DF_TEXTREL = 22, 30, 4
_DYN = Struct("<qQ")
_SHDR = Struct("<IIQQQQIIQQ")


class Segment:
    """An executable, unwritable PT_LOAD: file offset, length in the file and vaddr, as the header says."""

    __slots__ = ("length", "offset", "vaddr")

    def __init__(self, offset: int, length: int, vaddr: int) -> None:
        self.offset = offset
        self.length = length
        self.vaddr = vaddr

    def pages(self) -> tuple[int, int]:
        """(first, end) file offsets of the pages that a mapping of this segment takes in."""
        return self.offset & -PAGE, self.offset + self.length + PAGE - 1 & -PAGE


class Section:
    """An Elf64_Shdr with its name."""

    __slots__ = ("addr", "kind", "link", "name", "offset", "size")

    def __init__(self, name: bytes, kind: int, addr: int, offset: int, size: int, link: int) -> None:
        self.name = name
        self.kind = kind
        self.addr = addr
        self.offset = offset
        self.size = size
        self.link = link


class Text:
    """The executable part of the ELF file ``fd`` (borrowed).

    ``segments`` in the order of their addresses; ``size`` of the file in bytes; ``delta`` the page behind the whole
    image, as a vaddr: where trampolines go; ``headers`` all program headers; ``entry`` where it starts.
    """

    __slots__ = ("_shdrs", "delta", "entry", "fd", "headers", "segments", "size")

    def __init__(
        self,
        fd: int,
        size: int,
        segments: list[Segment],
        delta: int,
        headers: list[elf.ProgramHeader],
        shdrs: tuple[int, int, int],
        entry: int,
    ) -> None:
        self.fd = fd
        self.size = size
        self.segments = segments
        self.delta = delta
        self.headers = headers
        self._shdrs = shdrs
        self.entry = entry

    def offset_of(self, vaddr: int, length: int = 1) -> int:
        """File offset of [vaddr, vaddr + length), which must lie in one segment; -1 otherwise."""
        for s in self.segments:
            if s.vaddr <= vaddr and vaddr + length <= s.vaddr + s.length:
                return vaddr - s.vaddr + s.offset
        return -1

    def image(self, vaddr: int, size: int) -> bytes:
        """Bytes of the file's image, at most ``size``: as many as one PT_LOAD holds from ``vaddr`` on."""
        for h in self.headers:
            if h.p_type == elf.PT_LOAD and h.p_vaddr <= vaddr < h.p_vaddr + h.p_filesz:
                skip = vaddr - h.p_vaddr
                return self.content(h.p_offset + skip, min(size, h.p_filesz - skip))
        return b""

    def load(self) -> list[bytes]:
        """The bytes of each segment. Raises OSError if the file has become shorter."""
        return [elf.pread_exactly(self.fd, s.length, s.offset) for s in self.segments]

    def sections(self) -> list[Section]:
        """The section headers; an empty list when there are none or they make no sense."""
        offset, count, names_index = self._shdrs
        raw = os.pread(self.fd, count * _SHDR.size, offset) if 0 < offset < self.size else b""
        if len(raw) != count * _SHDR.size or names_index >= count:
            return []
        rows = list(_SHDR.iter_unpack(raw))
        names = self.content(rows[names_index][4], min(rows[names_index][5], 1 << 20))
        found = []
        for row in rows:
            end = names.find(b"\0", row[0])
            name = names[row[0] : end] if 0 <= end else b""
            found.append(Section(name, row[1], row[3], row[4], row[5], row[6]))
        return found

    def content(self, offset: int, size: int) -> bytes:
        """Bytes of the file; fewer, or none, where it ends before."""
        if offset >= self.size:
            return b""
        return os.pread(self.fd, min(size, self.size - offset), offset)


def read(fd: int) -> Text | None:
    """Read the headers of ``fd``. None: no x86-64 program or library, or one whose text must stay as it is
    (nothing executable, relocations in the text, segments that overlap, too large, truncated)."""
    try:
        size = os.fstat(fd).st_size
        if not elf.EHDR_SIZE <= size <= MAX_FILE:
            return None
        return _read(fd, size)
    except (OSError, StructError, OverflowError):
        return None


def _read(fd: int, size: int) -> Text | None:
    head = os.pread(fd, 1024, 0)
    if (
        head[4:6] != b"\x02\x01"
    ):  # ELFCLASS64, little-endian; Linux itself does not look, but our offsets depend on it
        return None
    image = elf.parse(fd, head)
    if image.e_type not in (elf.ET_EXEC, elf.ET_DYN):
        return None
    table = elf.pread_exactly(fd, image.e_phnum * elf.PHDR_SIZE, image.e_phoff)
    headers = [elf.ProgramHeader(raw) for raw in Struct("<IIQQQQQQ").iter_unpack(table)]
    segments = _segments(headers, size)
    if not segments or _text_relocations(fd, headers, size):
        return None
    end = max(h.p_vaddr + h.p_memsz for h in image.loads)
    delta = end + PAGE - 1 & -PAGE
    if delta >= _USER_END:
        return None
    shoff = int.from_bytes(head[40:48], "little")
    entsize, count, names = (int.from_bytes(head[i : i + 2], "little") for i in (58, 60, 62))
    shdrs = (shoff, count if entsize == _SHDR.size else 0, names)
    return Text(fd, size, segments, delta, headers, shdrs, image.e_entry)


def _segments(headers: list[elf.ProgramHeader], size: int) -> list[Segment]:
    found = []
    for h in headers:
        if h.p_type != elf.PT_LOAD:
            continue
        if (h.p_vaddr - h.p_offset) % PAGE or h.p_vaddr + h.p_memsz > _USER_END or h.p_filesz > h.p_memsz:
            return []
        if h.p_flags & elf.PF_X and not h.p_flags & elf.PF_W and h.p_filesz:
            if h.p_offset + h.p_filesz > size:
                return []
            found.append(Segment(h.p_offset, h.p_filesz, h.p_vaddr))
    found.sort(key=lambda s: s.vaddr)
    for ranges in [(s.vaddr, s.length) for s in found], sorted((s.offset, s.length) for s in found):
        if any(a + length > b for (a, length), (b, _) in zip(ranges, ranges[1:], strict=False)):
            return []
    return found if sum(s.length for s in found) <= MAX_TEXT else []


def _text_relocations(fd: int, headers: list[elf.ProgramHeader], size: int) -> bool:
    """Whether the dynamic linker will write into the text (DT_TEXTREL): then it is not ours to move."""
    for h in headers:
        if h.p_type == PT_DYNAMIC and h.p_offset < size:
            raw = os.pread(fd, min(h.p_filesz, _MAX_DYNAMIC) & -_DYN.size, h.p_offset)
            for tag, value in _DYN.iter_unpack(raw[: len(raw) & -_DYN.size]):
                if tag == 0:
                    break
                if tag == _DT_TEXTREL or (tag == _DT_FLAGS and value & _DF_TEXTREL):
                    return True
    return False
