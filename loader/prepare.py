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
from .elf import ElfImage
from .mapping import CORE, Mapping, Unmappable, below, mapping, overlap, put
from .plan import ADDR_NO_RANDOMIZE, ELF_ET_DYN_BASE, PAGE, TASK_SIZE, LayoutContext, Opened, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .rewrite import Rewrite

MMAP_RND_BITS = 28
"""Default of vm.mmap_rnd_bits on x86-64: how many random bits the base of a PIE has, in pages."""
_WORD = (1 << 64) - 1
_HEAD = 1024
"""Bytes read at first: a script's line, or an ELF header and usually the program headers."""
_ORDINARY = 1 << 32
"""An address that real programs' own segments lie below."""
BRK_RND = 1 << 30
"""How far above its bss a program's break may start (arch_randomize_brk)."""


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
    except BaseException:
        for f in files:
            f.close()
        raise
    return Prepared(path, final, envp, load(open_exec, files[0], head), comm)


def load(open_exec: Callable[[bytes], Opened], exe: Opened, head: bytes | None = None) -> Program:
    """Read the headers of an opened program, whose first bytes may be known, and of its interpreter, which is opened.

    Raises OSError as prepare() does; the files are then closed.
    """
    program = Program(exe)
    try:
        program.image = elf.parse(exe.fd, head if head is not None else os.pread(exe.fd, _HEAD, 0))
        if program.image.e_type not in (elf.ET_EXEC, elf.ET_DYN):
            raise OSError(errno.ENOEXEC, f"ELF type {program.image.e_type} is no program")
        if program.image.interp is not None:
            program.interp = _open_interpreter(open_exec, elf.interpreter_path(exe.fd, program.image.interp))
            head = os.pread(program.interp.fd, _HEAD, 0)
            if len(head) < elf.EHDR_SIZE:
                raise OSError(errno.EIO, "the interpreter is truncated")
            program.interp_image = elf.parse(program.interp.fd, head, errno.ELIBBAD)
    except BaseException:
        program.close()
        raise
    return program


def prepare_again(path: bytes, argv: list[bytes], envp: list[bytes], program: Program, stack_rlimit: int) -> Prepared:
    """As prepare(), of a program that is no script and was loaded before.  Raises OSError E2BIG; the program is then
    closed."""
    try:
        stack.check_limits(path, argv, envp, stack_rlimit, [])
    except BaseException:
        program.close()
        raise
    return Prepared(path, list(argv) or [b""], envp, program)


def _open_interpreter(open_exec: Callable[[bytes], Opened], path: bytes) -> Opened:
    # The kernel's own lookup of an empty name finds the working directory, which is no file to execute.
    if not path:
        raise OSError(errno.EACCES, "the interpreter's name is empty")
    return open_exec(path)


class Program:
    """An opened program and its opened interpreter, if it has one, with their headers.  ``close`` drops them.

    ``rewrites``: the rewritten text of each, when ``find_rewrites`` has asked for it.
    """

    __slots__ = ("exe", "image", "interp", "interp_image", "rewrites")
    image: ElfImage

    def __init__(self, exe: Opened) -> None:
        self.exe = exe
        self.interp: Opened | None = None
        self.interp_image: ElfImage | None = None
        self.rewrites: list[Rewrite | None] = []

    def find_rewrites(self, rewriter: Callable[[Opened], Rewrite | None]) -> None:
        """Ask for the rewritten text of the files, unless it is known."""
        if not self.rewrites:
            self.rewrites = [rewriter(one) for one in self.files()]

    def files(self) -> list[Opened]:
        """The one, or both."""
        return [self.exe] if self.interp is None else [self.exe, self.interp]

    def close(self) -> None:
        """Close them; may be called twice."""
        for one in self.files():
            one.close()


class Prepared:
    """A program that execve(2) will not refuse any more; ``layout`` turns it into a plan, once.

    ``exe`` is the file of the program that runs (the last interpreter, for a script): its owner and mode
    decide about set-user-ID. ``close`` drops it unused.
    """

    __slots__ = ("argv", "comm", "envp", "exe", "filename", "image", "interp", "interp_image", "program")

    def __init__(
        self, filename: bytes, argv: list[bytes], envp: list[bytes], program: Program, comm: bytes | None = None
    ) -> None:
        self.filename = filename
        self.argv = argv
        self.envp = list(envp)
        self.program = program
        self.exe, self.image = program.exe, program.image
        self.interp, self.interp_image = program.interp, program.interp_image
        self.comm = (comm if comm is not None else filename.rsplit(b"/", 1)[-1])[:15]

    @property
    def ready(self) -> bool:
        """Is the rewritten text found?"""
        return bool(self.program.rewrites)

    def close(self) -> None:
        """Close the files, for a program that is not to run after all."""
        self.program.close()

    @property
    def is_ordinary(self) -> bool:
        """May all that has no addresses of its own lie at the top of the mappings, wherever that is?  Not where the
        program or its interpreter is larger, or wants to be higher, than any real one, or to be aligned there."""
        images = [image for image in (self.image, self.interp_image) if image is not None]
        if any(not i.loads or not i.loads[0].p_filesz or i.loads[-1].p_vaddr > _ORDINARY for i in images):
            return False
        if self.interp_image is not None:
            return self.interp_image.e_type == elf.ET_DYN
        return self.image.e_type == elf.ET_EXEC or self.image.maximum_alignment() == PAGE

    def layout(self, ctx: LayoutContext, rewriter: Callable[[Opened], Rewrite | None] = lambda _: None) -> Plan:
        """Choose all addresses. Does not fail: see Plan.fatal. The plan owns the files from here on.

        ``rewriter(file)`` gives the rewritten text of a file, which stays the rewriter's, or None.
        """
        plan = Plan()
        self.program.find_rewrites(rewriter)
        plan.argv, plan.envp, plan.comm = self.argv, self.envp, self.comm
        plan.exe, plan.interp = self.exe, self.interp
        plan.exec_stack = self.image.exec_stack
        plan.files = [self.exe.fd] if self.interp is None else [self.exe.fd, self.interp.fd]
        at = stack.Addresses(0, self.image.e_phnum, 0, 0)
        try:
            self._map(plan, at, ctx)
        except Unmappable as e:
            plan.fatal = str(e)
            plan.segments, plan.zero, plan.entry = [], [], 0
        stack.build(plan, self.filename, at, ctx)
        return plan

    def _map(self, plan: Plan, at: stack.Addresses, ctx: LayoutContext) -> None:
        image = self.image
        bias = self._program_bias(ctx)
        program = put(plan, image, self.program.rewrites[0], 0, bias)
        at.phdr = image.phdr_address() + bias & _WORD
        at.entry = image.e_entry + bias & _WORD
        if program.code != (0, 0):
            plan.start_code, plan.end_code = program.code[0] + bias, program.code[1] + bias
        plan.entry = at.entry
        if self.interp_image is not None:
            at.base = self._load_interpreter(plan, self.interp_image, program, bias, ctx) & _WORD
            plan.entry = at.base + self.interp_image.e_entry & _WORD
        if plan.entry >= TASK_SIZE and not (ctx.relative and plan.entry >> 63):
            raise Unmappable(f"the entry point {plan.entry:#x} is outside of user space")
        plan.brk = self._initial_break(program.end + bias, ctx)

    def _program_bias(self, ctx: LayoutContext) -> int:
        """What is added to the program's own addresses (load_bias of load_elf_binary)."""
        image = self.image
        if image.e_type == elf.ET_EXEC or not image.loads:
            return 0
        size = mapping(image, self.program.rewrites[0]).size
        if not 0 < size <= TASK_SIZE:
            raise Unmappable(f"the program spans {size:#x} bytes")
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
        base = below(ctx.mmap_top, size, [])
        if alignment > PAGE:
            return (base & -alignment) - first & -PAGE
        return base - (first & -PAGE)

    def _load_interpreter(
        self, plan: Plan, image: ElfImage, program: Mapping, bias: int, ctx: LayoutContext
    ) -> int:
        """Map the program's interpreter; return what AT_BASE says."""
        if image.e_type not in (elf.ET_EXEC, elf.ET_DYN):
            raise Unmappable(f"the interpreter has ELF type {image.e_type}")
        rewritten = self.program.rewrites[1]
        size = mapping(image, rewritten).size
        if not 0 < size <= TASK_SIZE:
            raise Unmappable(f"the interpreter spans {size:#x} bytes")
        base = 0
        if image.e_type == elf.ET_DYN:
            first = image.loads[0].p_vaddr & -PAGE
            taken = [(start + bias, end + bias) for start, end in program.ranges]
            hint = first if bias == 0 else 0
            if not image.loads[0].p_filesz:
                base = hint - first
            elif hint and hint + size <= TASK_SIZE and not overlap(hint, hint + size, [*taken, CORE]):
                base = 0  # beside a fixed program, mmap(2) gets the interpreter's own address as a hint
            else:
                base = below(ctx.mmap_top, size, taken) - first
        put(plan, image, rewritten, 1, base)
        return base

    def _initial_break(self, end: int, ctx: LayoutContext) -> int:
        """Where the heap starts, for a program that ends at ``end``, its trampolines included."""
        moved = self.image.e_type == elf.ET_DYN and self.image.interp is None
        if moved:  # a static PIE lies among the mappings: its break goes where there is room
            end = ELF_ET_DYN_BASE
        brk = end + PAGE - 1 & -PAGE
        if not ctx.personality & ADDR_NO_RANDOMIZE:
            brk += 0 if moved else PAGE
            brk += int.from_bytes(ctx.random(4), "little") % (BRK_RND // PAGE) * PAGE
        return brk
