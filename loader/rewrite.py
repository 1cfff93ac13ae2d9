"""Rewriting: a file's text with its syscall sites patched, and the trampolines that they lead to, in one memfd.

Part of: loader (rewriting). May touch: the host fd of the file (read only), a memfd of its own.

Everything in the memfd is position independent: displacements between text and trampolines are constants,
because the trampolines are always mapped directly behind the image. So one memfd serves every process that maps
the file. Layout of the memfd:

    the file's executable segments at their own offsets, patched (holes elsewhere)   [0, tramp_offset)
    the trampolines                                                [tramp_offset, tramp_offset + tramp_length)
"""

from __future__ import annotations

import fcntl
import mmap
import os
from binascii import crc32

from ..kernel.layout import TRAMPOLINE_SIZE
from . import text as text_module
from .padding import MAX_RUN, is_padding
from .plan import PAGE
from .trampoline import (
    BEFORE,
    FORMS,
    HOP,
    JUMP_SIZE,
    MAX_DISPLACED,
    MOV,
    NOP5,
    ZPOLINE,
    jump,
    relocated,
    short_mov,
    trampoline,
    unpack_rips,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .sites import Analysis, Site
    from .text import Text

_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Rewrite:
    """A file's patched text. Owns ``memfd`` (sealed); ``close`` it, or let it be collected.

    ``size`` of the memfd in bytes; ``segments``: (file offset, length, vaddr) of what may be mapped from it, whole
    pages; ``delta``: where the trampolines go, as a vaddr of the file; ``tramp_offset`` and ``tramp_length`` in the
    memfd; ``sites`` rewritten and ``refused`` ones; ``uses_gs``: the text may contain wrgsbase; ``key``: the hash of
    the file's content, in hexadecimal; ``ident``: (st_dev, st_ino) of the memfd.
    """

    __slots__ = (
        "delta",
        "ident",
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
        self.ident = (0, 0)
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

    def close(self, close: Callable[[int], None] = os.close) -> None:
        """Close the memfd; may be called twice.  (`close` is bound here: at interpreter exit `os` may be gone.)"""
        fd, self.memfd = self.memfd, -1
        if fd >= 0:
            close(fd)

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
    st = os.fstat(made.memfd)
    made.ident = st.st_dev, st.st_ino
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
    patcher, out = _Patcher(text, image), []
    at = text.delta
    for site in made.sites:
        code = patcher.patch(site, at)
        at += len(code)
        out.append(code)
    image[made.tramp_offset : made.size] = b"".join(out).ljust(made.tramp_length, b"\xcc")


class _Patcher:
    """Patches one site after another, in the order of their addresses; Mismatch where the text is another one."""

    __slots__ = ("_end", "_high", "_image", "_low", "_padding", "_runs", "_shift", "_text")

    def __init__(self, text: Text, image: mmap.mmap) -> None:
        self._text = text
        self._image = image
        self._end = 0  # of the latest site
        self._low = self._high = self._shift = 0  # its segment, and what makes its vaddrs offsets
        self._runs: dict[int, bytes] = {}  # padding in use: vaddr, bytes
        self._padding: set[bytes] = set()  # contents known to be padding

    def patch(self, site: Site, tramp: int) -> bytes:
        """Patch ``site``; returns its trampoline, or both, for the vaddr ``tramp``."""
        form = FORMS.get(site.form, 0)
        vaddr = site.vaddr
        start = vaddr if form in (HOP, ZPOLINE) else vaddr - site.length
        if start < self._end or vaddr - start > MAX_DISPLACED:
            raise Mismatch(f"{site} overlaps another")
        self._end = vaddr + 2
        if self._end > self._high:
            self._find_segment(vaddr)
        here = vaddr + self._shift
        if start < self._low or self._image[here : here + 2] != b"\x0f\x05":
            raise Mismatch(f"there is no syscall at {vaddr:#x}")
        if form == ZPOLINE:
            self._image[here : here + 2] = b"\xff\xd0"  # call *%rax
            return trampoline(tramp, vaddr, ZPOLINE)
        if form == HOP:
            self._hop(site, here, tramp)
            return trampoline(tramp, vaddr, HOP)
        where = start + self._shift
        code = self._image[where:here]
        if form == MOV and (first := short_mov(code)) is not None:
            self._image[where:here] = jump(start, tramp, len(code))
            return trampoline(tramp, vaddr, MOV, first, len(code))
        if (
            form == BEFORE
            and JUMP_SIZE <= site.head <= len(code)
            and crc32(code) == site.run
            and all(rip <= len(code) - 4 for rip in unpack_rips(site.slot))
        ):
            moved = relocated(tramp, vaddr, code, site.head, unpack_rips(site.slot))
            if moved is not None:
                self._image[where : where + site.head] = jump(start, tramp, site.head)
                return moved + trampoline(tramp + TRAMPOLINE_SIZE, vaddr, BEFORE, NOP5)
        raise Mismatch(f"other instructions before {vaddr:#x}")

    def _find_segment(self, vaddr: int) -> None:
        for s in self._text.segments:
            if s.vaddr <= vaddr and vaddr + 2 <= s.vaddr + s.length:
                self._low, self._high, self._shift = s.vaddr, s.vaddr + s.length, s.offset - s.vaddr
                return
        raise Mismatch(f"{vaddr:#x} is in no segment")

    def _hop(self, site: Site, here: int, tramp: int) -> None:
        at, run = site.run + site.slot * JUMP_SIZE, self._run(site.run, site.length)
        where = at + self._shift
        # A slot in use differs from what the run was: no padding contains the opcode of a jump.
        slot = run[at - site.run : at - site.run + JUMP_SIZE]
        distance = at - self._end
        if (
            len(slot) != JUMP_SIZE
            or self._image[where : where + JUMP_SIZE] != slot
            or not -128 <= distance <= 127
        ):
            raise Mismatch(f"{site} hops out of its padding")
        self._image[where : where + JUMP_SIZE] = jump(at, tramp)
        self._image[here : here + 2] = bytes((0xEB, distance & 0xFF))

    def _run(self, vaddr: int, length: int) -> bytes:
        """The padding at ``vaddr`` as it was before the first hop went into it."""
        raw = self._runs.get(vaddr)
        if raw is None:
            if not self._low <= vaddr or vaddr + length > self._high or length > MAX_RUN:
                raise Mismatch(f"there is no padding at {vaddr:#x}")
            raw = self._image[vaddr + self._shift : vaddr + self._shift + length]
            if raw not in self._padding and not is_padding(raw):
                raise Mismatch(f"there is no padding at {vaddr:#x}")
            self._padding.add(raw)
            self._runs[vaddr] = raw
        return raw


def describe(sites: Iterable[Site]) -> str:
    """How many sites there are of each form, or refused for which reason, for the log and the doctor."""
    counts: dict[str, int] = {}
    for s in sites:
        name = s.form or s.reason
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items(), key=lambda item: -item[1]))
