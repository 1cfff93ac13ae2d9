"""The types that pass between the loader and the kernel side: what to map, what to write, where to start.

Part of: loader. May touch: nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 4096
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE = 0x2, 0x10, 0x20, 0x100000

TASK_SIZE = (1 << 47) - PAGE
"""TASK_SIZE_MAX of x86-64 with four-level page tables; what lies above is only had by asking for it."""
ELF_ET_DYN_BASE = TASK_SIZE // 3 * 2
"""Where Linux starts position-independent programs (arch/x86/include/asm/elf.h): in page 0x555555554000."""
CORE_BASE, CORE_END = 0x2100_0000_0000, 0x2110_0000_0000
"""The range of every guest that belongs to the native core: no program may be mapped there."""

ADDR_NO_RANDOMIZE = 0x0040000
"""personality(2) bit that turns address space randomisation off."""


class Opened:
    """An executable file that the kernel side opened for the loader.

    Arguments: ``fd`` a host fd open for reading (owned by this object), ``path`` the guest path it was opened
    by, ``vpath`` whatever the kernel side wants to find again in ``Plan.exe`` (a vfs Path), ``mode`` st_mode.
    """

    __slots__ = ("fd", "mode", "path", "vpath")

    def __init__(self, fd: int, path: bytes, vpath: object = None, mode: int = 0o100755) -> None:
        self.fd = fd
        self.path = path
        self.vpath = vpath
        self.mode = mode

    def close(self) -> None:
        """Close the host fd; may be called twice."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Segment:
    """One mmap(2) call: the raw arguments, ``file`` being an index into Plan.files or -1 (anonymous).

    ``trampolines``: these are not the program's pages but those that its rewritten text jumps through.
    """

    __slots__ = ("addr", "file", "flags", "length", "offset", "prot", "trampolines")

    def __init__(
        self,
        addr: int,
        length: int,
        prot: int,
        flags: int,
        file: int = -1,
        offset: int = 0,
        trampolines: bool = False,
    ) -> None:
        self.addr = addr
        self.length = length
        self.trampolines = trampolines
        self.prot = prot
        self.flags = flags
        self.file = file
        self.offset = offset

    def __repr__(self) -> str:
        rwx = "".join(c if self.prot & b else "-" for c, b in (("r", 1), ("w", 2), ("x", 4)))
        return f"<{self.addr:#x}+{self.length:#x} {rwx} {self.flags:#x} file {self.file} at {self.offset:#x}>"


class LayoutContext:
    """What the layout depends on and the kernel side alone knows.

    Arguments: ``stack_top`` the address below which the stack image ends (the strings of argv lie there);
    ``mmap_top`` the address below which the interpreter or a static PIE goes (both 0: they are not known yet, and the
    plan is relative to them); ``uid`` ... ``egid`` for the
    auxiliary vector; ``secure`` AT_SECURE; ``personality`` as of personality(2); ``sysinfo_ehdr`` the address
    of a vDSO or 0 for none; ``random`` gives n random bytes (os.urandom; a test passes its own).
    """

    __slots__ = (
        "egid",
        "euid",
        "gid",
        "mmap_top",
        "personality",
        "random",
        "secure",
        "stack_top",
        "sysinfo_ehdr",
        "uid",
    )

    def __init__(
        self,
        stack_top: int,
        mmap_top: int,
        *,
        uid: int = 0,
        euid: int = 0,
        gid: int = 0,
        egid: int = 0,
        secure: bool = False,
        personality: int = 0,
        sysinfo_ehdr: int = 0,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.stack_top = stack_top
        self.mmap_top = mmap_top
        self.uid, self.euid, self.gid, self.egid = uid, euid, gid, egid
        self.secure = secure
        self.personality = personality
        self.sysinfo_ehdr = sysinfo_ehdr
        self.random = random

    @property
    def relative(self) -> bool:
        """Are the places of the stack and of the mappings not known yet?"""
        return not self.stack_top


class Plan:
    """Everything that the core does to start a program, in this order.

    ``segments`` are mapped with exactly these arguments; ``zero`` ranges (address, length) are cleared (a
    fault there, as any failing mmap, ends the process by SIGSEGV, as Linux does past execve's point of no
    return); ``stack`` is written at ``sp``; then rsp = sp and the jump to ``entry``. The rest is for the
    kernel side: ``brk`` is the initial program break, ``exec_stack`` asks for an executable stack, ``comm``
    the task's name, ``auxv`` the content of /proc/PID/auxv, ``argv``/``envp`` as the program sees them,
    ``exe`` the file behind /proc/PID/exe, the other numbers are those of /proc/PID/stat.

    ``native_hook`` says that one is among the segments.

    A plan that was made without knowing where the stack and the mappings are has negative addresses (modulo 2**64 where
    they are packed) that count from there; stack.settle() makes the numbers right, but for the stack image and the
    segments, which the core moves.

    ``files`` are host fds, owned by the plan; ``close`` when the core has them. ``fatal`` is None, or says
    why this program cannot be mapped: such a plan maps nothing and starts at address 0, so that the process
    dies of SIGSEGV, as it would natively.
    """

    __slots__ = (
        "arg_end",
        "arg_start",
        "argv",
        "auxv",
        "brk",
        "comm",
        "end_code",
        "entry",
        "env_end",
        "env_start",
        "envp",
        "exe",
        "exec_stack",
        "fatal",
        "files",
        "interp",
        "native_hook",
        "segments",
        "sp",
        "stack",
        "start_code",
        "zero",
    )

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.zero: list[tuple[int, int]] = []
        self.files: list[int] = []
        self.entry = 0
        self.sp = 0
        self.stack = b""
        self.brk = 0
        self.exec_stack = False
        self.comm = b""
        self.auxv = b""
        self.argv: list[bytes] = []
        self.envp: list[bytes] = []
        self.exe: Opened | None = None
        self.interp: Opened | None = None
        self.arg_start = self.arg_end = self.env_start = self.env_end = 0
        self.start_code = self.end_code = 0
        self.fatal: str | None = None
        self.native_hook = False

    def close(self) -> None:
        """Close the plan's host fds (exe and interp stay as names)."""
        for opened in (self.exe, self.interp):
            if opened is not None:
                opened.close()
        self.files = []
