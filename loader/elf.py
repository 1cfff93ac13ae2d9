"""ELF executables: what fs/binfmt_elf.c reads of one, checked as it checks.

Part of: loader. May touch: the host fd it is given (pread only).

struct, not pyelftools: this runs at every execve, and the import alone of elftools.elf.elffile costs as much
as parsing a thousand programs (docs/loader.md). The tests compare both on the system's binaries.
"""

from __future__ import annotations

import errno
import os
from struct import Struct

from .plan import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .mapping import Mapping
    from .rewrite import Rewrite

ET_EXEC, ET_DYN = 2, 3
EM_X86_64 = 62
PT_LOAD, PT_INTERP, PT_GNU_STACK = 1, 3, 0x6474E551
PF_X, PF_W, PF_R = 1, 2, 4
PATH_MAX = 4096
MAX_PHDRS_BYTES = 65536

_EHDR = Struct("<16sHHIQQQIHHHHHH")
_PHDR = Struct("<IIQQQQQQ")
EHDR_SIZE, PHDR_SIZE = _EHDR.size, _PHDR.size


class ProgramHeader:
    """An Elf64_Phdr; numbers as in the file, unchecked."""

    __slots__ = ("p_align", "p_filesz", "p_flags", "p_memsz", "p_offset", "p_type", "p_vaddr")

    def __init__(self, raw: tuple[int, ...]) -> None:
        (
            self.p_type,
            self.p_flags,
            self.p_offset,
            self.p_vaddr,
            _paddr,
            self.p_filesz,
            self.p_memsz,
            self.p_align,
        ) = raw


class ElfImage:
    """The headers of an executable or of its interpreter.

    ``loads`` are the PT_LOAD headers in the file's order; ``interp`` the first PT_INTERP or None;
    ``exec_stack`` what the last PT_GNU_STACK says (without one, x86-64 gives no executable stack).
    """

    __slots__ = ("e_entry", "e_phnum", "e_phoff", "e_type", "exec_stack", "interp", "loads", "mapping")

    def __init__(self, e_type: int, e_entry: int, e_phoff: int, headers: list[ProgramHeader]) -> None:
        self.mapping: tuple[Rewrite | None, Mapping] | None = None  # mapping.py's
        self.e_type = e_type
        self.e_entry = e_entry
        self.e_phoff = e_phoff
        self.e_phnum = len(headers)
        self.loads = [h for h in headers if h.p_type == PT_LOAD]
        self.interp = next((h for h in headers if h.p_type == PT_INTERP), None)
        self.exec_stack = False
        for h in headers:
            if h.p_type == PT_GNU_STACK:
                self.exec_stack = bool(h.p_flags & PF_X)

    def total_mapping_size(self) -> int:
        """Bytes from the first page of the lowest segment to the end of the highest; 0 without segments."""
        if not self.loads:
            return 0
        return max(h.p_vaddr + h.p_memsz for h in self.loads) - min(h.p_vaddr & -PAGE for h in self.loads)

    def maximum_alignment(self) -> int:
        """The strictest p_align of the segments, at least a page; what is no power of two is ignored."""
        powers = [h.p_align for h in self.loads if h.p_align and not h.p_align & (h.p_align - 1)]
        return max(powers, default=PAGE) + PAGE - 1 & -PAGE

    def phdr_address(self) -> int:
        """The unbiased address of the program headers, by the segment that contains them (0 if none does)."""
        address = 0
        for h in self.loads:
            if h.p_offset <= self.e_phoff < h.p_offset + h.p_filesz:
                address = self.e_phoff - h.p_offset + h.p_vaddr
        return address


#: images by the bytes that they were made of: the same few programs are started again and again
_images: dict[bytes, ElfImage] = {}
MAX_IMAGES = 256


def is_elf(head: bytes) -> bool:
    """True if a file that begins with ``head`` claims to be ELF."""
    return head.startswith(b"\x7fELF")


def parse(fd: int, head: bytes, bad: int = errno.ENOEXEC) -> ElfImage:
    """Read the headers of the ELF file ``fd``, which begins with the bytes ``head``.

    Raises OSError with errno ``bad`` (ENOEXEC; ELIBBAD for an interpreter) for what Linux refuses: another
    machine, a type that cannot be executed, program headers of another size, too many or missing.
    Like Linux, it does not look at e_ident beyond the magic number, nor at e_version or e_flags.
    """
    if len(head) < EHDR_SIZE:
        head = head.ljust(EHDR_SIZE, b"\0")
    ident, e_type, machine, _, entry, phoff, _, _, _, phentsize, phnum, _, _, _ = _EHDR.unpack_from(head)
    if not is_elf(ident):
        raise OSError(bad, "not an ELF file")
    if machine != EM_X86_64:
        raise OSError(bad, f"made for another machine (ELF machine {machine})")
    size = phnum * PHDR_SIZE
    if phentsize != PHDR_SIZE or size == 0 or size > MAX_PHDRS_BYTES:
        raise OSError(bad, f"{phnum} program headers of {phentsize} bytes")
    if phoff + size <= len(head):
        table = head[phoff : phoff + size]
    else:
        try:
            table = pread_exactly(fd, size, phoff)
        except OSError:
            raise OSError(bad, "the program headers are not in the file") from None
    key = head[:EHDR_SIZE] + table  # everything that an image depends on
    known = _images.get(key)
    if known is None:
        if len(_images) > MAX_IMAGES:
            _images.clear()
        known = ElfImage(e_type, entry, phoff, [ProgramHeader(raw) for raw in _PHDR.iter_unpack(table)])
        _images[key] = known
    return known


def interpreter_path(fd: int, header: ProgramHeader) -> bytes:
    """Read the path that a PT_INTERP header names. Raises OSError ENOEXEC, EIO, EINVAL as Linux does."""
    if not 2 <= header.p_filesz <= PATH_MAX:
        raise OSError(errno.ENOEXEC, f"PT_INTERP of {header.p_filesz} bytes")
    raw = pread_exactly(fd, header.p_filesz, header.p_offset)
    if raw[-1]:
        raise OSError(errno.ENOEXEC, "PT_INTERP has no end")
    return raw.split(b"\0", 1)[0]


def pread_exactly(fd: int, size: int, offset: int) -> bytes:
    """Read ``size`` bytes at ``offset``; EIO if the file ends before, EINVAL if no file can be that long."""
    if offset >= 1 << 63:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    data = os.pread(fd, size, offset)
    if len(data) != size:
        raise OSError(errno.EIO, "the file is truncated")
    return data
