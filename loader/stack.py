"""The initial stack of a program, as create_elf_tables of fs/binfmt_elf.c lays it out.

Part of: loader. May touch: the host's auxiliary vector (/proc/self/auxv), for what describes the machine.

From the top: eight zero bytes, the file name (AT_EXECFN), the strings of envp, the strings of argv; then a
random gap, "x86_64", sixteen random bytes; then, 16-byte aligned, auxv, envp, argv and, at sp, argc.
"""

from __future__ import annotations

import errno
import os
import struct
from itertools import accumulate

from .plan import ADDR_NO_RANDOMIZE, LayoutContext, Plan

MAX_ARG_STRLEN = 131072
"""Bytes that one argument or environment string may have, its NUL included (include/uapi/linux/binfmts.h)."""
STK_LIM = 8 << 20
ARG_MAX = 131072

# include/uapi/linux/auxvec.h
AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK = 11, 12, 13, 14, 15, 16, 17
AT_SECURE, AT_RANDOM, AT_HWCAP2, AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN = 23, 25, 26, 27, 28
AT_HWCAP3, AT_HWCAP4, AT_EXECFN, AT_SYSINFO_EHDR, AT_MINSIGSTKSZ = 29, 30, 31, 33, 51

PLATFORM = b"x86_64\0"

_ON_STACK, _MAPPED = (AT_RANDOM, AT_EXECFN, AT_PLATFORM), (AT_PHDR, AT_BASE, AT_ENTRY)
_WORD = (1 << 64) - 1

_host: dict[int, int] = {}


def host_auxv() -> dict[int, int]:
    """The host's auxiliary vector as {AT_*: value}; read once."""
    if not _host:
        with open("/proc/self/auxv", "rb", 0) as f:
            raw = f.read()
        _host.update(struct.iter_unpack("<QQ", raw[: len(raw) & -16]))
    return _host


def check_limits(
    filename: bytes, argv: list[bytes], envp: list[bytes], stack_rlimit: int, scripts: list[bytes]
) -> None:
    """Raise OSError E2BIG where fs/exec.c does (bprm_stack_limits, copy_strings).

    ``stack_rlimit`` is RLIMIT_STACK's soft limit in bytes (-1 for infinity); ``scripts`` are the strings that
    ``#!`` lines added, which count as argv does. argv is the program's, as passed to execve.
    """
    limit = STK_LIM // 4 * 3
    if stack_rlimit >= 0:
        limit = min(limit, stack_rlimit // 4)
    limit = max(limit, ARG_MAX)
    limit -= 8 * (max(len(argv), 1) + len(envp))
    if limit <= 0:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    total = 0
    for strings in ((filename,), envp, argv or (b"",), scripts):
        for s in strings:
            size = len(s) + 1
            total += size
            if size > MAX_ARG_STRLEN or total > limit:
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))


def settle(plan: Plan, stack_top: int, mmap_top: int, vdso: int) -> None:
    """A plan that was made without these three is told of them: see LayoutContext and Plan."""
    for name in ("sp", "arg_start", "arg_end", "env_start", "env_end"):
        setattr(plan, name, getattr(plan, name) + stack_top)
    if plan.start_code < 0:
        plan.start_code += mmap_top
        plan.end_code += mmap_top
    words = list(struct.unpack(f"<{len(plan.auxv) // 8}Q", plan.auxv))
    for i in range(0, len(words), 2):
        key, value = words[i], words[i + 1]
        if key == AT_SYSINFO_EHDR:
            words[i + 1] = vdso
        elif value >> 63 and (key in _ON_STACK or key in _MAPPED):
            words[i + 1] = value + (stack_top if key in _ON_STACK else mmap_top) & _WORD
    plan.auxv = struct.pack(f"<{len(words)}Q", *words)


class Addresses:
    """What the auxiliary vector says about the mapped program."""

    __slots__ = ("base", "entry", "phdr", "phnum")

    def __init__(self, phdr: int, phnum: int, base: int, entry: int) -> None:
        self.phdr = phdr
        self.phnum = phnum
        self.base = base
        self.entry = entry


def build(plan: Plan, filename: bytes, at: Addresses, ctx: LayoutContext) -> None:
    """Fill in the plan's stack, sp, auxv and the ranges of its strings, from its argv and envp."""
    argv, envp = plan.argv, plan.envp
    strings = b"\0".join([*argv, *envp, filename, b""])
    top = ctx.stack_top & -8
    execfn = top - 8 - len(filename) - 1
    first = top - 8 - len(strings)

    # Addresses of the strings, in order.
    places = list(accumulate([len(s) + 1 for s in argv + envp], initial=first))
    plan.arg_start, plan.env_end = first, places.pop()
    plan.arg_end = plan.env_start = places[len(argv)] if envp else plan.env_end
    words = [len(argv), *places[: len(argv)], 0, *places[len(argv) :], 0]

    # arch_align_stack (arch/x86/kernel/process.c): up to 8 KiB, so that siblings share no cache sets.
    low = first
    if not ctx.personality & ADDR_NO_RANDOMIZE:
        low -= int.from_bytes(ctx.random(2), "little") % 8192
    low &= -16
    platform = low - len(PLATFORM)
    seed = platform - 16
    auxv = _auxv(at, execfn, platform, seed, ctx)
    words += auxv
    plan.sp = seed - 8 * len(words) & -16
    image = bytearray(top - plan.sp)
    struct.pack_into(f"<{len(words)}Q", image, 0, *([w & _WORD for w in words] if ctx.relative else words))
    plan.auxv = bytes(image[8 * (len(words) - len(auxv)) : 8 * len(words)])
    image[seed - plan.sp : low - plan.sp] = ctx.random(16) + PLATFORM
    image[first - plan.sp : top - 8 - plan.sp] = strings
    plan.stack = bytes(image)


def _auxv(at: Addresses, execfn: int, platform: int, seed: int, ctx: LayoutContext) -> list[int]:
    """The vector in Linux's order. What describes the machine is the host's own."""
    host = host_auxv()
    entries: list[int] = []
    if ctx.sysinfo_ehdr or ctx.relative:
        entries += (AT_SYSINFO_EHDR, ctx.sysinfo_ehdr)
    for key in (AT_MINSIGSTKSZ, AT_HWCAP, AT_PAGESZ, AT_CLKTCK):
        if key in host:
            entries += (key, host[key])
    entries += (AT_PHDR, at.phdr, AT_PHENT, 56, AT_PHNUM, at.phnum, AT_BASE, at.base, AT_FLAGS, 0)
    entries += (AT_ENTRY, at.entry, AT_UID, ctx.uid, AT_EUID, ctx.euid, AT_GID, ctx.gid, AT_EGID, ctx.egid)
    entries += (AT_SECURE, int(ctx.secure), AT_RANDOM, seed)
    for key in (AT_HWCAP2, AT_HWCAP3, AT_HWCAP4):
        if key in host:
            entries += (key, host[key])
    entries += (AT_EXECFN, execfn, AT_PLATFORM, platform)
    for key in (AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN):
        if key in host:
            entries += (key, host[key])
    entries += (AT_NULL, 0)
    return entries
