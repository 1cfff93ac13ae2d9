"""What is mapped for one ELF image, whatever its address: made once per image, then only moved.

Part of: loader. May touch: nothing.

Follows elf_load of fs/binfmt_elf.c. The same few programs are started again and again, with another base each time.
"""

from __future__ import annotations

from .elf import PF_R, PF_W, PF_X, ElfImage, ProgramHeader
from .plan import (
    CORE_BASE,
    CORE_END,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    TASK_SIZE,
    Plan,
    Segment,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .rewrite import Rewrite

Range = tuple[int, int]
CORE: Range = CORE_BASE, CORE_END


class Unmappable(Exception):
    """Linux would kill the process here."""


class Mapping:
    """The mappings of an image at its own addresses.

    ``segments`` and ``zero`` as in a Plan, files being 0 for the image's own and 1 for its rewritten form; ``ranges``:
    the addresses that they take; ``start`` and ``end`` of all of them; ``size``: total_mapping_size with the
    trampolines that lie behind; ``code``: start and end of the executable segments, (0, 0) without one.

    Raises Unmappable.
    """

    __slots__ = ("code", "end", "ranges", "rewritten", "segments", "size", "start", "zero")

    def __init__(self, image: ElfImage, rewritten: Rewrite | None) -> None:
        self.rewritten = rewritten
        self.segments: list[Segment] = []
        self.zero: list[Range] = []
        for h in image.loads:
            if h.p_vaddr >= TASK_SIZE or h.p_filesz > h.p_memsz or h.p_memsz > TASK_SIZE - h.p_vaddr:
                raise Unmappable(f"a segment of {h.p_filesz:#x} of {h.p_memsz:#x} bytes at {h.p_vaddr:#x}")
            self._load_segment(h)
        self.size = image.total_mapping_size()
        if rewritten is not None:
            self._use(rewritten)
        self.ranges = [(s.addr, s.addr + s.length) for s in self.segments]
        self.start = min((start for start, _ in self.ranges), default=0)
        self.end = max((end for _, end in self.ranges), default=0)
        code = [h for h in image.loads if h.p_flags & PF_X]
        self.code = (
            min((h.p_vaddr for h in code), default=0),
            max((h.p_vaddr + h.p_filesz for h in code), default=0),
        )

    def _load_segment(self, h: ProgramHeader) -> None:
        """One PT_LOAD: elf_load. Its file pages, the cleared rest of the last one, and anonymous pages."""
        prot = _protection(h.p_flags)
        within = h.p_vaddr & PAGE - 1
        start = h.p_vaddr & -PAGE
        file_end = start + within + h.p_filesz
        end = start + within + h.p_memsz
        file_pages_end = file_end + PAGE - 1 & -PAGE if h.p_filesz else start
        pages_end = max(file_pages_end, end + PAGE - 1 & -PAGE)
        if h.p_filesz:
            offset = h.p_offset - within
            if offset % PAGE or not 0 <= offset <= (1 << 63) - PAGE - (file_pages_end - start):
                raise Unmappable(f"a segment at {h.p_vaddr:#x} comes from offset {h.p_offset:#x}")
            self._add(start, file_pages_end, prot, 0, offset)
            if end > file_end and file_pages_end > file_end and prot & PROT_WRITE:
                self.zero.append((file_end, file_pages_end - file_end))
        if h.p_memsz > h.p_filesz and pages_end > file_pages_end:
            # vm_brk_flags: always readable and writable, and replacing what is there.
            self._add(file_pages_end, pages_end, PROT_READ | PROT_WRITE | (prot & PROT_EXEC), -1, 0)

    def _add(self, start: int, end: int, prot: int, file: int, offset: int) -> None:
        # Only the first may not replace what is there: the rest is within the program's range.
        flags = MAP_PRIVATE | (MAP_FIXED if self.segments else MAP_FIXED_NOREPLACE)
        flags |= 0 if file >= 0 else MAP_ANONYMOUS
        self.segments.append(Segment(start, end - start, prot, flags, file, offset))

    def _use(self, rewritten: Rewrite) -> None:
        """Take the executable pages from the rewritten form, and map the trampolines behind the image."""
        at, length = rewritten.delta, rewritten.tramp_length
        if at < 0 or overlap(at, at + length, [(s.addr, s.addr + s.length) for s in self.segments]):
            self.rewritten = None
            return
        for s in self.segments:
            if s.file == 0 and s.prot & PROT_EXEC and not s.prot & PROT_WRITE:
                s.file = 1
        flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE
        self.segments.append(
            Segment(at, length, PROT_READ | PROT_EXEC, flags, 1, rewritten.tramp_offset, trampolines=True)
        )
        self.size = (self.size + PAGE - 1 & -PAGE) + length

    def clash(self, bias: int, others: list[Range]) -> str | None:
        """Why it cannot lie there: outside of user space, in the core's range, or in the others'."""
        start, end = self.start + bias, self.end + bias
        if bias < 0 and end <= 0:
            return None  # it counts from where mappings are, far from all the others
        if start < 0 or end > TASK_SIZE:
            return f"{start:#x}-{end:#x} is outside of user space"
        if not overlap(start, end, [CORE, *others]):
            return None
        for s, e in self.ranges:
            if overlap(s + bias, e + bias, [CORE, *others]):
                return f"{s + bias:#x}-{e + bias:#x} takes addresses of ring3's own"
        return None

    def place(self, plan: Plan, file: int, bias: int, *, replace: bool) -> None:
        """Add it to a plan, ``bias`` bytes above its own addresses, its file being number ``file`` there."""
        files = {0: file, -1: -1}
        if self.rewritten is not None:
            files[1] = len(plan.files)
            plan.files.append(self.rewritten.memfd)
        plan.segments += [
            Segment(s.addr + bias, s.length, s.prot, s.flags, files[s.file], s.offset, s.trampolines)
            for s in self.segments
        ]
        if replace and self.segments:
            first = plan.segments[-len(self.segments)]
            first.flags = first.flags & ~MAP_FIXED_NOREPLACE | MAP_FIXED
        plan.zero += [(address + bias, length) for address, length in self.zero]


def mapping(image: ElfImage, rewritten: Rewrite | None) -> Mapping:
    """The Mapping of an image with this rewritten form, or none.  Raises Unmappable."""
    known = image.mapping
    if known is None or known[0] is not rewritten:
        known = image.mapping = rewritten, Mapping(image, rewritten)
    return known[1]


def put(plan: Plan, image: ElfImage, rewritten: Rewrite | None, file: int, bias: int) -> Mapping:
    """Place an image in a plan: with its trampolines if they fit, else without.  Raises Unmappable."""
    chosen = mapping(image, rewritten)
    why = chosen.clash(bias, [(s.addr, s.addr + s.length) for s in plan.segments if s.trampolines])
    if why is not None and chosen.rewritten is not None:
        chosen = Mapping(image, None)
        why = chosen.clash(bias, [])
    if why is not None:
        raise Unmappable(why)
    chosen.place(plan, file, bias, replace=file > 0)
    return chosen


def below(top: int, size: int, taken: list[Range]) -> int:
    """The highest page-aligned address below ``top`` where ``size`` bytes are free, as mmap(2) chooses; a negative one
    if ``top`` is 0, which stands for an address that is not known yet."""
    if not top:
        return -size & -PAGE
    end = top & -PAGE
    for s, e in sorted([*taken, CORE], reverse=True):
        if end - size >= e:
            break
        if end > s:
            end = min(end, s)
    start = end - size & -PAGE
    if start < PAGE:
        raise Unmappable(f"no room for {size:#x} bytes below {top:#x}")
    return start


def overlap(start: int, end: int, taken: list[Range]) -> bool:
    return any(start < e and end > s for s, e in taken)


def _protection(p_flags: int) -> int:
    prot = PROT_READ if p_flags & PF_R else 0
    prot |= PROT_WRITE if p_flags & PF_W else 0
    return prot | (PROT_EXEC if p_flags & PF_X else 0)
