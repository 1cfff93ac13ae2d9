"""From a path to a plan: execve(2) before and after its point of no return.

Part of: loader. May touch: files through the kernel side's open_exec and os.pread.

Follows fs/exec.c (limits, the loop over interpreters) and load_elf_binary, load_elf_interp, elf_load of
fs/binfmt_elf.c. What Linux reports as an errno is raised by prepare(); what Linux answers with SIGSEGV,
because the old program is gone by then, becomes a plan with ``fatal`` set.
"""

from __future__ import annotations

import errno
import os

from . import elf, script, stack
from .elf import ElfImage, ProgramHeader
from .plan import (
    ADDR_NO_RANDOMIZE,
    CORE_BASE,
    CORE_END,
    ELF_ET_DYN_BASE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    TASK_SIZE,
    LayoutContext,
    Opened,
    Plan,
    Segment,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .rewrite import Rewrite

MMAP_RND_BITS = 28
"""Default of vm.mmap_rnd_bits on x86-64: how many random bits the base of a PIE has, in pages."""
_WORD = (1 << 64) - 1
_HEAD = 1024
"""Bytes read at first: a script's line, or an ELF header and usually the program headers."""
BRK_RND = 1 << 30
"""How far above its bss a program's break may start (arch_randomize_brk)."""


class _Unmappable(Exception):
    """Linux would kill the process here."""


def prepare(
    open_exec: Callable[[bytes], Opened],
    path: bytes,
    argv: list[bytes],
    envp: list[bytes],
    *,
    stack_rlimit: int = stack.STK_LIM,
    opened: Opened | None = None,
    comm: bytes | None = None,
    path_inaccessible: bool = False,
) -> Prepared:
    """Do all of execve(2) that can fail.

    ``open_exec(path)`` opens a guest path for execution, raising OSError as execve would (ENOENT, EACCES for
    a missing x bit or no regular file, ELOOP, ENOTDIR, ...). ``stack_rlimit`` is RLIMIT_STACK's soft limit,
    -1 for infinity. For execveat with AT_EMPTY_PATH, ``opened`` is the file and ``path`` its name
    ("/dev/fd/N"); ``path_inaccessible`` says that its descriptor is close-on-exec. ``comm`` replaces the last
    component of the path as the task's name.

    Raises OSError: ENOEXEC, E2BIG, ELIBBAD, ELOOP, EIO, EINVAL, and whatever open_exec raises. Every file
    opened meanwhile is then closed, ``opened`` included.
    """
    files: list[Opened] = [opened if opened is not None else open_exec(path)]
    try:
        final, added = list(argv) or [b""], list[bytes]()
        stack.check_limits(path, argv, envp, stack_rlimit, added)
        head = os.pread(files[0].fd, _HEAD, 0)
        depth, name = 0, path
        while script.is_script(head):
            interpreter, argument = script.parse(head)
            if path_inaccessible:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            prefix = [interpreter, name] if argument is None else [interpreter, argument, name]
            added += prefix
            final[:1] = prefix
            stack.check_limits(path, argv, envp, stack_rlimit, added)
            files.append(_open_interpreter(open_exec, interpreter))
            files.pop(0).close()
            head = os.pread(files[0].fd, _HEAD, 0)
            name = interpreter
            path_inaccessible = False
            depth += 1
            if depth > script.MAX_DEPTH:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        image = elf.parse(files[0].fd, head)
        if image.e_type not in (elf.ET_EXEC, elf.ET_DYN):
            raise OSError(errno.ENOEXEC, f"ELF type {image.e_type} is no program")
        interp_image = None
        if image.interp is not None:
            files.append(_open_interpreter(open_exec, elf.interpreter_path(files[0].fd, image.interp)))
            head = os.pread(files[1].fd, _HEAD, 0)
            if len(head) < elf.EHDR_SIZE:
                raise OSError(errno.EIO, "the interpreter is truncated")
            interp_image = elf.parse(files[1].fd, head, errno.ELIBBAD)
    except BaseException:
        for f in files:
            f.close()
        raise
    prepared = Prepared(path, final, list(envp), files[0], image)
    prepared.comm = (comm if comm is not None else path.rsplit(b"/", 1)[-1])[:15]
    if interp_image is not None:
        prepared.interp, prepared.interp_image = files[1], interp_image
    return prepared


def _open_interpreter(open_exec: Callable[[bytes], Opened], path: bytes) -> Opened:
    # The kernel's own lookup of an empty name finds the working directory, which is no file to execute.
    if not path:
        raise OSError(errno.EACCES, "the interpreter's name is empty")
    return open_exec(path)


class Prepared:
    """A program that execve(2) will not refuse any more; ``layout`` turns it into a plan, once.

    ``exe`` is the file of the program that runs (the last interpreter, for a script): its owner and mode
    decide about set-user-ID. ``close`` drops it unused.
    """

    __slots__ = ("_rewrites", "argv", "comm", "envp", "exe", "filename", "image", "interp", "interp_image")

    def __init__(
        self, filename: bytes, argv: list[bytes], envp: list[bytes], exe: Opened, image: ElfImage
    ) -> None:
        self.filename = filename
        self.argv = argv
        self.envp = envp
        self.exe = exe
        self.image = image
        self.interp: Opened | None = None
        self.interp_image: ElfImage | None = None
        self.comm = b""
        self._rewrites: list[Rewrite | None] = []

    def find_rewrites(self, rewriter: Callable[[Opened], Rewrite | None]) -> None:
        """Ask for the rewritten text of the files, as ``layout`` does, which then need not."""
        if not self._rewrites:
            self._rewrites = [rewriter(self.exe), rewriter(self.interp) if self.interp is not None else None]

    def close(self) -> None:
        """Close the files, for a program that is not to run after all."""
        self.exe.close()
        if self.interp is not None:
            self.interp.close()

    def layout(self, ctx: LayoutContext, rewriter: Callable[[Opened], Rewrite | None] = lambda _: None) -> Plan:
        """Choose all addresses. Does not fail: see Plan.fatal. The plan owns the files from here on.

        ``rewriter(file)`` gives the rewritten text of a file, which stays the rewriter's, or None.
        """
        plan = Plan()
        self.find_rewrites(rewriter)
        plan.argv, plan.envp, plan.comm = self.argv, self.envp, self.comm
        plan.exe, plan.interp = self.exe, self.interp
        plan.exec_stack = self.image.exec_stack
        plan.files = [self.exe.fd] if self.interp is None else [self.exe.fd, self.interp.fd]
        at = stack.Addresses(0, self.image.e_phnum, 0, 0)
        try:
            self._map(plan, at, ctx)
        except _Unmappable as e:
            plan.fatal = str(e)
            plan.segments, plan.zero, plan.entry = [], [], 0
        stack.build(plan, self.filename, at, ctx)
        return plan

    def _map(self, plan: Plan, at: stack.Addresses, ctx: LayoutContext) -> None:
        image = self.image
        bias = self._program_bias(ctx)
        _load(plan, image, 0, bias, replace=False)
        _use_rewritten(plan, 0, bias, self._rewrites[0])
        at.phdr = image.phdr_address() + bias & _WORD
        at.entry = image.e_entry + bias & _WORD
        code = [h for h in image.loads if h.p_flags & elf.PF_X]
        plan.start_code = min((h.p_vaddr + bias for h in code), default=0)
        plan.end_code = max((h.p_vaddr + h.p_filesz + bias for h in code), default=0)
        plan.entry = at.entry
        if self.interp_image is not None:
            at.base = self._load_interpreter(plan, self.interp_image, bias, ctx) & _WORD
            plan.entry = at.base + self.interp_image.e_entry & _WORD
        if plan.entry >= TASK_SIZE:
            raise _Unmappable(f"the entry point {plan.entry:#x} is outside of user space")
        plan.brk = self._initial_break(plan, bias, ctx)

    def _program_bias(self, ctx: LayoutContext) -> int:
        """What is added to the program's own addresses (load_bias of load_elf_binary)."""
        image = self.image
        if image.e_type == elf.ET_EXEC or not image.loads:
            return 0
        size = image.total_mapping_size()
        if not 0 < size <= TASK_SIZE:
            raise _Unmappable(f"the program spans {size:#x} bytes")
        size = _with_room(size, self._rewrites[0])
        alignment = image.maximum_alignment()
        first = image.loads[0].p_vaddr
        if image.interp is not None:
            base = ELF_ET_DYN_BASE
            if not ctx.personality & ADDR_NO_RANDOMIZE:
                base += (int.from_bytes(ctx.random(4), "little") & (1 << MMAP_RND_BITS) - 1) * PAGE
            return (base & -alignment) - first & -PAGE
        # A static PIE, or ld.so started as a program: where mmap(2) would put it; but memory without a file
        # is asked for at a fixed address, which is 0 here.
        if not image.loads[0].p_filesz:
            return -first & -PAGE
        base = _below(ctx.mmap_top, size, [])
        if alignment > PAGE:
            return (base & -alignment) - first & -PAGE
        return base - (first & -PAGE)

    def _load_interpreter(self, plan: Plan, image: ElfImage, bias: int, ctx: LayoutContext) -> int:
        """Map the program's interpreter; return what AT_BASE says."""
        if image.e_type not in (elf.ET_EXEC, elf.ET_DYN):
            raise _Unmappable(f"the interpreter has ELF type {image.e_type}")
        size = image.total_mapping_size()
        if not 0 < size <= TASK_SIZE:
            raise _Unmappable(f"the interpreter spans {size:#x} bytes")
        base = 0
        if image.e_type == elf.ET_DYN:
            first = image.loads[0].p_vaddr & -PAGE
            taken = [(s.addr, s.addr + s.length) for s in plan.segments]
            hint = first if bias == 0 else 0
            if not image.loads[0].p_filesz:
                base = hint - first
            elif hint and hint + size <= TASK_SIZE and not _overlaps(hint, hint + size, taken):
                base = 0  # beside a fixed program, mmap(2) gets the interpreter's own address as a hint
            else:
                base = _below(ctx.mmap_top, _with_room(size, self._rewrites[1]), taken) - first
        _load(plan, image, 1, base, replace=True)
        _use_rewritten(plan, 1, base, self._rewrites[1])
        return base

    def _initial_break(self, plan: Plan, bias: int, ctx: LayoutContext) -> int:
        image = self.image
        end = max((h.p_vaddr + h.p_memsz + bias for h in image.loads), default=0)
        end = max([end, *(s.addr + s.length for s in plan.segments if s.trampolines and s.addr >= end)])
        moved = image.e_type == elf.ET_DYN and image.interp is None
        if moved:  # a static PIE lies among the mappings: its break goes where there is room
            end = ELF_ET_DYN_BASE
        brk = end + PAGE - 1 & -PAGE
        if not ctx.personality & ADDR_NO_RANDOMIZE:
            brk += 0 if moved else PAGE
            brk += int.from_bytes(ctx.random(4), "little") % (BRK_RND // PAGE) * PAGE
        return brk


def _load(plan: Plan, image: ElfImage, file: int, bias: int, *, replace: bool) -> None:
    """Append the mappings of the image's segments, in the file's order (the loop of load_elf_binary)."""
    for h in image.loads:
        k = h.p_vaddr
        if k >= TASK_SIZE or h.p_filesz > h.p_memsz or h.p_memsz > TASK_SIZE - k:
            raise _Unmappable(f"a segment of {h.p_filesz:#x} of {h.p_memsz:#x} bytes at {k:#x}")
        _load_segment(plan, h, file, k + bias, replace)
        replace = True  # only the first may not replace what is there: the rest is within the program's range


def _load_segment(plan: Plan, h: ProgramHeader, file: int, address: int, replace: bool) -> None:
    """One PT_LOAD: elf_load. Its file pages, the cleared rest of the last one, and anonymous pages."""
    prot = _protection(h.p_flags)
    within = h.p_vaddr & PAGE - 1
    start = address & -PAGE
    flags = MAP_PRIVATE | (MAP_FIXED if replace else MAP_FIXED_NOREPLACE)
    file_end = start + within + h.p_filesz
    end = start + within + h.p_memsz
    file_pages_end = file_end + PAGE - 1 & -PAGE if h.p_filesz else start
    pages_end = max(file_pages_end, end + PAGE - 1 & -PAGE)
    _check_range(start, pages_end)
    if h.p_filesz:
        offset = h.p_offset - within
        if offset % PAGE or not 0 <= offset <= (1 << 63) - PAGE - (file_pages_end - start):
            raise _Unmappable(f"a segment at {h.p_vaddr:#x} comes from offset {h.p_offset:#x}")
        plan.segments.append(Segment(start, file_pages_end - start, prot, flags, file, offset))
        if end > file_end and file_pages_end > file_end and prot & PROT_WRITE:
            plan.zero.append((file_end, file_pages_end - file_end))
    if h.p_memsz > h.p_filesz and pages_end > file_pages_end:
        # vm_brk_flags: always readable and writable, and replacing what is there.
        anonymous = PROT_READ | PROT_WRITE | (prot & PROT_EXEC)
        length = pages_end - file_pages_end
        plan.segments.append(Segment(file_pages_end, length, anonymous, flags | MAP_ANONYMOUS))


def _with_room(size: int, rewritten: Rewrite | None) -> int:
    """The size of an image with the trampolines that lie behind it."""
    return size if rewritten is None else (size + PAGE - 1 & -PAGE) + rewritten.tramp_length


def _use_rewritten(plan: Plan, file: int, bias: int, rewritten: Rewrite | None) -> None:
    """Take a file's executable pages from its rewritten form, and map its trampolines behind the image."""
    if rewritten is None:
        return
    at = bias + rewritten.delta
    end = at + rewritten.tramp_length
    taken = [(s.addr, s.addr + s.length) for s in plan.segments]
    if at < 0 or end > TASK_SIZE or _overlaps(at, end, taken):
        return
    plan.files.append(rewritten.memfd)
    index = len(plan.files) - 1
    for s in plan.segments:
        if s.file == file and s.prot & PROT_EXEC and not s.prot & PROT_WRITE:
            s.file = index
    flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE
    prot = PROT_READ | PROT_EXEC
    plan.segments.append(
        Segment(at, rewritten.tramp_length, prot, flags, index, rewritten.tramp_offset, trampolines=True)
    )


def _check_range(start: int, end: int) -> None:
    if start < 0 or end > TASK_SIZE:
        raise _Unmappable(f"addresses {start:#x}-{end:#x} are outside of user space")
    if start < CORE_END and end > CORE_BASE:
        raise _Unmappable(f"addresses {start:#x}-{end:#x} are ring3's own")


def _protection(p_flags: int) -> int:
    prot = PROT_READ if p_flags & elf.PF_R else 0
    prot |= PROT_WRITE if p_flags & elf.PF_W else 0
    return prot | (PROT_EXEC if p_flags & elf.PF_X else 0)


def _overlaps(start: int, end: int, taken: list[tuple[int, int]]) -> bool:
    return any(start < e and end > s for s, e in [*taken, (CORE_BASE, CORE_END)])


def _below(top: int, size: int, taken: list[tuple[int, int]]) -> int:
    """The highest page-aligned address below ``top`` where ``size`` bytes are free, as mmap(2) chooses."""
    end = top & -PAGE
    for s, e in sorted([*taken, (CORE_BASE, CORE_END)], reverse=True):
        if end - size >= e:
            break
        if end > s:
            end = min(end, s)
    start = end - size & -PAGE
    if start < PAGE:
        raise _Unmappable(f"no room for {size:#x} bytes below {top:#x}")
    return start
