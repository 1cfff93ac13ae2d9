"""Rewriting: a file's text with its syscall sites patched, and the trampolines that they lead to, in one memfd.

Part of: loader (rewriting). May touch: the host fd of the file (read only), a memfd of its own.

Everything in the memfd is position independent: displacements between text and trampolines are constants,
because the trampolines are always mapped directly behind the image. So one memfd serves every process that maps
the file. Layout of the memfd:

    the file's executable segments at their own offsets, patched (holes elsewhere)   [0, tramp_offset)
    the trampolines                                                [tramp_offset, tramp_offset + tramp_length)

A trampoline (64 bytes) leads to the core with rcx = the address behind the syscall and r11 = the address of a
``syscall`` that traps, for the core to fall back on; both registers are the kernel's to destroy at a syscall.
A "before" site has two: the first holds the displaced instructions and jumps into the second. The tail of each
(site, form, number of displaced bytes) tells the core which guest address an interrupted trampoline stands for:
the k-th displaced byte stands for its old place, all else for the syscall itself.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from binascii import crc32
from struct import Struct

from ..kernel.layout import FAST_ENTRY, TRAMPOLINE_SIZE
from . import text as text_module
from .padding import HOP, MAX_RUN, is_padding
from .plan import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .sites import Analysis, Site
    from .text import Text

MOV, HOP_FORM, BEFORE = 1, 2, 3
FORMS = {"mov": MOV, "hop": HOP_FORM, "before": BEFORE}
"""Numbers of the forms, in trampolines and in the cache's files."""
MAX_DISPLACED = 40
_MFD_EXEC = 0x10

_NOP5 = b"\x0f\x1f\x44\0\0"
_ENTRY = b"\xff\x25\0\0\0\0" + FAST_ENTRY.to_bytes(8, "little")
#: displaced or nop; lea ret(%rip),%rcx; lea trap(%rip),%r11; jmp *FAST_ENTRY; syscall; jmp ret; site, form, displaced
_TRAMPOLINE = Struct("<5s3si7s14s3si8sQII")
_LEA_RCX, _LEA_R11, _TRAP, _INT3X8 = b"\x48\x8d\x0d", b"\x4c\x8d\x1d\x0e\0\0\0", b"\x0f\x05\xe9", b"\xcc" * 8
_RELOCATED = Struct("<48sQII")
_JMP = Struct("<BI")
_TRAP_AT, _AFTER_LEA, _AFTER_JMP = 33, 12, 40
assert _TRAMPOLINE.size == _RELOCATED.size == TRAMPOLINE_SIZE

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Rewrite:
    """A file's patched text. Owns ``memfd`` (sealed); ``close`` it, or let it be collected.

    ``size`` of the memfd in bytes; ``segments``: (file offset, length, vaddr) of what may be mapped from it, whole
    pages; ``delta``: where the trampolines go, as a vaddr of the file; ``tramp_offset`` and ``tramp_length`` in the
    memfd; ``sites`` rewritten and ``refused`` ones; ``uses_gs``: the text may contain wrgsbase; ``key``: the hash of
    the file's content, in hexadecimal.
    """

    __slots__ = (
        "delta",
        "key",
        "memfd",
        "refused",
        "segments",
        "sites",
        "size",
        "tramp_length",
        "tramp_offset",
        "uses_gs",
    )

    def __init__(self, text: Text, analysis: Analysis, key: str) -> None:
        self.memfd = -1
        self.segments = [
            (first, end - first, s.vaddr - s.offset + first)
            for s in text.segments
            for first, end in [s.pages()]
        ]
        self.delta = text.delta
        self.sites = analysis.sites
        self.refused = analysis.refused
        self.uses_gs = analysis.uses_gs
        self.key = key
        slots = sum(2 if s.form == "before" else 1 for s in self.sites)
        self.tramp_offset = text.size + PAGE - 1 & -PAGE
        self.tramp_length = slots * TRAMPOLINE_SIZE + PAGE - 1 & -PAGE
        self.size = self.tramp_offset + self.tramp_length

    def close(self) -> None:
        """Close the memfd; may be called twice."""
        fd, self.memfd = self.memfd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Mismatch(Exception):
    """The file does not hold what a site says: another file, or a wrong cache entry."""


def rewrite(fd: int, learned: frozenset[int] = frozenset()) -> Rewrite | None:
    """Analyse and rewrite the file ``fd`` (borrowed; its offset is left alone).

    ``learned`` are vaddrs of sites that trapped in this file. None: no x86-64 ELF file, no site in it, or none that
    can be rewritten. Raises OSError for what is no fault of the file: no memory, no descriptors.
    """
    from .sites import find_sites

    text = text_module.read(fd)
    if text is None:
        return None
    try:
        key = content_hash(fd, text.size)
        analysis = find_sites(text, learned)
    except OSError:
        return None
    try:
        return build(text, analysis, key)
    except Mismatch:
        return None  # it was written meanwhile


def content_hash(fd: int, size: int) -> str:
    """Hash of the first ``size`` bytes of a file, 32 hexadecimal digits. Raises OSError."""
    try:
        from _blake2 import blake2b  # hashlib costs 8 ms to import, for OpenSSL
    except ImportError:
        from hashlib import blake2b
    digest = blake2b(digest_size=16)
    at = 0
    while at < size:
        piece = os.pread(fd, min(1 << 20, size - at), at)
        if not piece:
            raise OSError("the file became shorter")
        digest.update(piece)
        at += len(piece)
    return str(digest.hexdigest())


def build(text: Text, analysis: Analysis, key: str) -> Rewrite | None:
    """Make the memfd for the sites of ``analysis``. None if there are none, or too far from the trampolines.

    Every site is checked against the bytes that are patched, in the copy, which no one else can write. Raises
    Mismatch if they are not what the site says, OSError if there is no memory.
    """
    made = Rewrite(text, analysis, key)
    low = min(s.vaddr for s in text.segments)
    if not made.sites or text.delta + made.tramp_length - low >= 1 << 31:
        return None
    try:
        made.memfd = os.memfd_create("ring3-text", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError:  # before Linux 6.3
        made.memfd = os.memfd_create("ring3-text", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(made.memfd, made.size)
    with mmap.mmap(made.memfd, made.size) as image:
        _copy_text(text, image)
        _patch(text, made, image)
    fcntl.fcntl(made.memfd, fcntl.F_ADD_SEALS, _SEALS)
    return made


def _copy_text(text: Text, image: mmap.mmap) -> None:
    with memoryview(image) as view:
        for s in text.segments:
            at, end = s.pages()
            end = min(end, text.size)
            while at < end:
                with view[at:end] as rest:
                    count = os.preadv(text.fd, [rest], at)
                if count <= 0:
                    raise Mismatch("the file became shorter")
                at += count


def _patch(text: Text, made: Rewrite, image: mmap.mmap) -> None:
    """Patch all sites of the copied text and write their trampolines."""
    delta, out = text.delta, []
    last, slots, ready = 0, set(), _Padding()
    tramp = delta
    low = high = shift = 0
    for site in made.sites:
        vaddr, length = site.vaddr, site.length
        form = FORMS.get(site.form)
        displaced = length if form in (MOV, BEFORE) else 0
        if vaddr - displaced < last or displaced > MAX_DISPLACED:
            raise Mismatch(f"{site} overlaps another")
        last = vaddr + 2
        if vaddr - displaced < low or last > high:
            low, high, shift = _segment_of(text, vaddr)
        start = vaddr - displaced + shift
        here = vaddr + shift
        if vaddr - displaced < low or last > high or image[here : here + 2] != b"\x0f\x05":
            raise Mismatch(f"there is no syscall at {vaddr:#x}")
        first = _NOP5
        if form == MOV:
            first = _displaced_mov(image[start:here])
            image[here - 5 : here] = _JMP.pack(0xE9, tramp - vaddr & 0xFFFFFFFF)
            if length == 7:
                image[start : start + 2] = b"\x66\x90"
        elif form == HOP_FORM:
            at = site.run + site.slot * HOP
            where = site.run + shift
            if (
                site.run < low
                or site.run + length > high
                or at in slots
                or not -128 <= at - last <= 127
                or at + HOP > site.run + length
            ):
                raise Mismatch(f"{site} hops out of its padding")
            slots.add(at)
            ready.check(image, where, length)
            where += at - site.run
            image[where : where + HOP] = _JMP.pack(0xE9, tramp - at - HOP & 0xFFFFFFFF)
            image[here : here + 2] = bytes((0xEB, at - last & 0xFF))
        elif form == BEFORE:
            out.append(_relocated(site, image[start:here], tramp))
            image[start:here] = _JMP.pack(0xE9, tramp - (vaddr - length + 5) & 0xFFFFFFFF) + b"\xcc" * (
                length - 5
            )
            tramp += TRAMPOLINE_SIZE
        else:
            raise Mismatch(f"{site} has no known form")
        out.append(
            _TRAMPOLINE.pack(
                first, _LEA_RCX, last - tramp - _AFTER_LEA, _LEA_R11, _ENTRY, _TRAP, last - tramp - _AFTER_JMP,
                _INT3X8, vaddr, form, 0,
            )
        )  # fmt: skip
        tramp += TRAMPOLINE_SIZE
    image[made.tramp_offset : made.size] = b"".join(out).ljust(made.tramp_length, b"\xcc")


def _segment_of(text: Text, vaddr: int) -> tuple[int, int, int]:
    """(start, end, offset - vaddr) of the segment of ``vaddr``; an empty one if there is none."""
    for s in text.segments:
        if s.vaddr <= vaddr < s.vaddr + s.length:
            return s.vaddr, s.vaddr + s.length, s.offset - s.vaddr
    return 1, 0, 0


class _Padding:
    """Checks padding runs before the first hop goes into one; a run of each content only once."""

    __slots__ = ("_checked", "_good")

    def __init__(self) -> None:
        self._checked: set[int] = set()
        self._good: set[bytes] = set()

    def check(self, image: mmap.mmap, where: int, length: int) -> None:
        """Raise Mismatch unless ``length`` bytes at ``where`` are, or were, nothing but padding."""
        if where in self._checked:
            return
        if not 0 < length <= MAX_RUN:
            raise Mismatch(f"{length} bytes of padding")
        raw = image[where : where + length]
        if raw not in self._good and not is_padding(raw):
            raise Mismatch(f"no padding at offset {where:#x}")
        self._good.add(raw)
        self._checked.add(where)


def _displaced_mov(raw: bytes) -> bytes:
    """The five-byte mov that does what ``raw`` does; Mismatch if it is none."""
    if len(raw) == 5 and raw[0] == 0xB8:
        return raw
    if len(raw) == 7 and raw[:3] == b"\x48\xc7\xc0" and raw[6] < 0x80:
        return b"\xb8" + raw[3:]
    raise Mismatch(f"no mov to eax: {raw.hex()}")


def _relocated(site: Site, raw: bytes, tramp: int) -> bytes:
    """The trampoline at ``tramp`` that holds the displaced instructions ``raw`` and jumps into the next one.

    ``site.run`` is the checksum of the bytes; ``site.slot`` says where among them a displacement from rip is (0:
    nowhere).
    """
    if len(raw) < HOP or crc32(raw) != site.run or site.slot > len(raw) - 4:
        raise Mismatch(f"other instructions before {site.vaddr:#x}")
    code = bytearray(raw)
    if site.slot:
        old = int.from_bytes(raw[site.slot : site.slot + 4], "little", signed=True)
        new = old + site.vaddr - len(raw) - tramp
        if not -1 << 31 <= new < 1 << 31:
            raise Mismatch("an operand is out of reach")
        code[site.slot : site.slot + 4] = (new & 0xFFFFFFFF).to_bytes(4, "little")
    # To +5 of the next trampoline: there is nothing displaced in that one.
    code += _JMP.pack(0xE9, TRAMPOLINE_SIZE + 5 - len(raw) - 5)
    return _RELOCATED.pack(bytes(code).ljust(48, b"\xcc"), site.vaddr, BEFORE, len(raw))


def describe(sites: Iterable[Site]) -> str:
    """How many sites there are of each form, or refused for which reason, for the log and the doctor."""
    counts: dict[str, int] = {}
    for s in sites:
        name = s.form or s.reason
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items(), key=lambda item: -item[1]))
