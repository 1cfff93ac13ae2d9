"""Native hooks: the user's shared object, linked for its place in the core's area and mapped into every guest.

Layer: the pretend kernel, beside the hooks; used only when a sandbox has one.  May touch: the file it is given, a
memfd, the world page.  core_native/ring3_hook.h is the interface.
"""

from __future__ import annotations

import os
import struct

from ..errors import UsageError
from ..loader.plan import MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE, Segment
from .layout import NATIVE_HOOK, NATIVE_HOOK_SIZE, OFFSETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..loader.plan import Plan
    from .hooks.filters import Pattern

_PAGE = 4096
_R_64, _R_GLOB_DAT, _R_JUMP_SLOT, _R_RELATIVE = 1, 6, 7, 8
_WORLD = OFFSETS["ring3_world"]


class NativeHook:
    """A linked hook.  Raises UsageError for a file that is no such thing, saying what is wrong with it.

    Arguments: `path` of the shared object; `names` of the calls that go through it (hooks/names.py; "*": every call,
    numbers that Linux does not know included); `program`: patterns of the programs that have it (hooks/filters.py).
    """

    def __init__(self, path: str, names: Iterable[str | int] = ("*",), program: Pattern = None) -> None:
        from .hooks.filters import Patterns
        from .hooks.names import numbers_of

        self.path = path
        try:
            self.numbers = numbers_of(names)
        except ValueError as e:
            raise UsageError(str(e)) from None
        self._programs = Patterns(program) if program is not None else None
        self.before = self.after = 0
        self.segments: list[
            tuple[int, int, int, int]
        ] = []  # address, length, protection, offset in the memfd
        self.memfd = os.memfd_create("ring3-native-hook", os.MFD_CLOEXEC)
        try:
            self._link()
        except UsageError:
            self.close()
            raise
        except Exception as e:  # whatever the ELF library makes of a broken file
            self.close()
            raise UsageError(f"{path} is not a usable shared object: {e}") from e

    def close(self) -> None:
        """Free the memfd; may be called twice."""
        fd, self.memfd = self.memfd, -1
        if fd >= 0:
            os.close(fd)

    def _link(self) -> None:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile

        try:
            file = open(self.path, "rb")
        except OSError as e:
            raise UsageError(f"cannot read the native hook {self.path}: {e.strerror}") from None
        with file:
            try:
                elf = ELFFile(file)
            except ELFError as e:
                raise UsageError(f"{self.path} is not an ELF file: {e}") from None
            if elf["e_machine"] != "EM_X86_64" or elf["e_type"] != "ET_DYN":
                raise UsageError(
                    f"{self.path} is not an x86-64 shared object (docs/native-hooks.md says how to compile one)"
                )
            image = self._load(elf)
            self._relocate(elf, image)
            os.pwrite(self.memfd, image, 0)

    def _load(self, elf: Any) -> bytearray:
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_memsz"]]
        size = max((s["p_vaddr"] + s["p_memsz"] for s in loads), default=0)
        if not 0 < size <= NATIVE_HOOK_SIZE:
            raise UsageError(
                f"{self.path} needs {size} bytes of memory; a native hook has {NATIVE_HOOK_SIZE} at most"
            )
        image = bytearray(size + _PAGE - 1 & -_PAGE)
        for s in loads:
            data = s.data()
            image[s["p_vaddr"] : s["p_vaddr"] + len(data)] = data
            start, end = s["p_vaddr"] & -_PAGE, s["p_vaddr"] + s["p_memsz"] + _PAGE - 1 & -_PAGE
            flags = s["p_flags"]
            prot = (
                (PROT_READ if flags & 4 else 0)
                | (PROT_WRITE if flags & 2 else 0)
                | (PROT_EXEC if flags & 1 else 0)
            )
            self.segments.append((NATIVE_HOOK + start, end - start, prot, start))
        return image

    def _relocate(self, elf: Any, image: bytearray) -> None:
        symbols = elf.get_section_by_name(".dynsym")
        if symbols is None:
            raise UsageError(f"{self.path} has no dynamic symbols: neither ring3_hook nor ring3_hook_after")
        for section in elf.iter_sections():
            if section["sh_type"] != "SHT_RELA" or not section["sh_flags"] & 2:
                continue
            for r in section.iter_relocations():
                kind, addend = r["r_info_type"], r["r_addend"]
                symbol = symbols.get_symbol(r["r_info_sym"])
                if kind == _R_RELATIVE:
                    value = NATIVE_HOOK + addend
                elif kind in (_R_64, _R_GLOB_DAT, _R_JUMP_SLOT) and symbol["st_shndx"] != "SHN_UNDEF":
                    value = NATIVE_HOOK + symbol["st_value"] + (addend if kind == _R_64 else 0)
                else:
                    raise UsageError(
                        f"{self.path} needs {symbol.name or 'a relocation'} from outside: a native hook has no libc"
                    )
                struct.pack_into("<Q", image, r["r_offset"], value)
        found = {
            s.name: NATIVE_HOOK + s["st_value"]
            for s in symbols.iter_symbols()
            if s["st_shndx"] != "SHN_UNDEF"
        }
        self.before, self.after = found.get("ring3_hook", 0), found.get("ring3_hook_after", 0)
        if not self.before and not self.after:
            raise UsageError(f"{self.path} defines neither ring3_hook nor ring3_hook_after")

    def install(self, world: Any) -> None:
        """Name the calls and the functions in the world page."""
        struct.pack_into("<8Q", world, _WORLD["native_calls"], *self.numbers.words())
        struct.pack_into("<Q", world, _WORLD["native_beyond"], int(self.numbers.beyond))
        struct.pack_into("<QQ", world, _WORLD["native_before"], self.before, self.after)

    def is_for(self, program: str) -> bool:
        """Does the program of this path have it?"""
        return self._programs is None or self._programs.match([program, os.path.basename(program)])

    def add_to(self, plan: Plan) -> None:
        """A program that starts gets the hook mapped."""
        plan.native_hook = True
        plan.files.append(self.memfd)
        index = len(plan.files) - 1
        plan.segments += [
            Segment(address, length, prot, MAP_PRIVATE | MAP_FIXED, index, offset)
            for address, length, prot, offset in self.segments
        ]
