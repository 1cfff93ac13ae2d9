"""The bytes of trampolines, and of the jumps that lead to them.

Part of: loader (rewriting). May touch: nothing.

A trampoline is 64 bytes, and aligned so (core_native/tramps.c reads them, core_native/entry.S is where they lead):

    +0   the displaced mov, or a nop of 5 bytes
    +5   lea ret(%rip),%rcx        ret: behind the site's syscall
    +12  lea trap(%rip),%r11       trap: +33
    +19  jmp *FAST_ENTRY
    +33  syscall                   the slow way: it traps
    +35  jmp ret
    +48  u64 the site (the vaddr of its syscall), u32 the form, u16 how many bytes of the text are copied here,
         u16 how many of those are overwritten there

rcx and r11 are the kernel's to destroy at a syscall. A site with displaced instructions other than that mov has two:
the first is those instructions, a jump to +5 of the second, at +46 and +47 where among them displacements from rip are
(0: none), and the same tail.
"""

from __future__ import annotations

from struct import Struct

from ..kernel.layout import FAST_ENTRY, TRAMPOLINE_SIZE

MOV, HOP, BEFORE, ZPOLINE = 1, 2, 3, 4
FORMS = {"mov": MOV, "hop": HOP, "before": BEFORE, "zpoline": ZPOLINE}
"""Numbers of the forms, in trampolines and in the cache's files."""
JUMP_SIZE = 5
MAX_DISPLACED = 40
MAX_RIPS = 2
"""Displacements from rip among the displaced instructions."""
NOP5 = b"\x0f\x1f\x44\0\0"

_ENTRY = b"\xff\x25\0\0\0\0" + FAST_ENTRY.to_bytes(8, "little")
_TRAMPOLINE = Struct("<5s3si7s14s3si8sQIHH")
_LEA_RCX, _LEA_R11, _TRAP, _INT3X8 = b"\x48\x8d\x0d", b"\x4c\x8d\x1d\x0e\0\0\0", b"\x0f\x05\xe9", b"\xcc" * 8
_AFTER_LEA, _AFTER_JMP = 12, 40
_RELOCATED = Struct("<46s2BQIHH")
_JMP = Struct("<BI")
assert _TRAMPOLINE.size == _RELOCATED.size == TRAMPOLINE_SIZE


def jump(at: int, to: int, length: int = JUMP_SIZE) -> bytes:
    """A jump from ``at`` to ``to``, followed by int3 up to ``length`` bytes."""
    return _JMP.pack(0xE9, to - at - JUMP_SIZE & 0xFFFFFFFF).ljust(length, b"\xcc")


def trampoline(at: int, site: int, form: int, first: bytes = NOP5, displaced: int = 0) -> bytes:
    """The trampoline at ``at`` for the syscall instruction at ``site``; ``first`` are its first 5 bytes, which
    stand for ``displaced`` bytes of the text."""
    ret = site + 2 - at
    return _TRAMPOLINE.pack(
        first,
        _LEA_RCX,
        ret - _AFTER_LEA,
        _LEA_R11,
        _ENTRY,
        _TRAP,
        ret - _AFTER_JMP,
        _INT3X8,
        site,
        form,
        displaced,
        displaced,
    )


def relocated(at: int, site: int, code: bytes, head: int, rips: list[int]) -> bytes | None:
    """The trampoline at ``at`` with the instructions ``code`` from before ``site``, the first ``head`` bytes of which
    are overwritten there; it jumps into the next one. ``rips``: where in ``code`` displacements from rip are. None if
    what they lead to is out of reach."""
    moved = bytearray(code)
    for rip_at in rips:
        old = int.from_bytes(code[rip_at : rip_at + 4], "little", signed=True)
        new = old + site - len(code) - at
        if not -1 << 31 <= new < 1 << 31:
            return None
        moved[rip_at : rip_at + 4] = (new & 0xFFFFFFFF).to_bytes(4, "little")
    # Into the next one behind its nop: an address in this one stands for a displaced byte or the site itself.
    moved += jump(at + len(code), at + TRAMPOLINE_SIZE + 5)
    first, second, *_ = [*rips, 0, 0]
    return _RELOCATED.pack(bytes(moved).ljust(46, b"\xcc"), first, second, site, BEFORE, len(code), head)


def pack_rips(rips: list[int]) -> int:
    """Displacements' places in one number; none is at 0."""
    return sum(rip << 6 * i for i, rip in enumerate(rips))


def unpack_rips(packed: int) -> list[int]:
    """What pack_rips was given."""
    return [rip for i in range(MAX_RIPS) if (rip := packed >> 6 * i & 63)]


def short_mov(code: bytes) -> bytes | None:
    """The five-byte ``mov $imm32,%eax`` that does what the mov to eax or rax in ``code`` does; None if it is none."""
    if len(code) == 5 and code[0] == 0xB8:
        return code
    if len(code) == 7 and code[:3] == b"\x48\xc7\xc0" and code[6] < 0x80:
        return b"\xb8" + code[3:]
    return None
