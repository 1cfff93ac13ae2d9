"""Read by gdb (its Python): what a debugger has to know about a guest. `ring3 gdb` has gdb source this file.

Part of: ring3 (the front door), but runs inside gdb. May touch: the inferior, through gdb; it imports nothing of ring3.

* A thread that is inside of a system call runs on its core stack. The unwinder knows where the core keeps the guest's
  registers (core_native/core.h: struct fast_frame, struct thread; linux.h: struct ucontext_), so that a backtrace
  goes on in the guest.
* After an execve(2) gdb takes the core, which the host kernel executed, for the program. Once the program is mapped,
  gdb stops and is told which it is.

Before this file gdb reads `python ring3_core = {...}`: the core's file under "file", a copy with nothing
but .debug_frame under "frames", addresses of symbols.
"""

from __future__ import annotations

import struct
from typing import Any

import gdb
from gdb.FrameDecorator import FrameDecorator
from gdb.unwinder import Unwinder

_CORE: dict[str, Any] = globals()["ring3_core"]
_CORE_BASE, _CORE_END = 0x2100_0000_0000, 0x2110_0000_0000
_BLOCK = 65536  # THREAD_SIZE: the core stack, and struct thread in the last KiB
_FAST_FRAME = struct.Struct("<10Q")
_FAST_NAMES = ("r9", "r8", "r10", "rdx", "rsi", "rdi", "rax", "r11", "rip", "eflags")
_KEPT = ("rbx", "rbp", "r12", "r13", "r14", "r15")
#: struct sigcontext_64 behind uc_flags, uc_link and uc_stack (arch/x86/include/uapi/asm/sigcontext.h)
_NAMES = ("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx",
          "rsp", "rip", "eflags")  # fmt: skip
_CONTEXT_AT = 40
#: of the core's symbols, first and behind the last
_FAST = ("fast_path", "fast_last")
_TRAPS = (("sigsys_entry", "tail_end"), ("signal_entry", "safe_syscall"))
_LEAVES = ("safe_syscall", "clone_call")


class _FrameId:
    def __init__(self, sp: int, pc: int) -> None:
        pointer = gdb.lookup_type("char").pointer()
        self.sp, self.pc = gdb.Value(sp).cast(pointer), gdb.Value(pc).cast(pointer)


def _within(pc: int, symbols: tuple[str, str]) -> bool:
    return bool(_CORE[symbols[0]] <= pc < _CORE[symbols[1]])


def _words(address: int, count: int) -> tuple[int, ...]:
    data = gdb.selected_inferior().read_memory(address, 8 * count)
    return struct.unpack(f"<{count}Q", bytes(data))


class GuestUnwinder(Unwinder):  # type: ignore[misc]
    """The core's assembly, which says nothing about its frames: leaves, and the way back to the guest's code.

    The core's C is described by its .debug_frame.
    """

    def __init__(self) -> None:
        super().__init__("ring3-core")

    def __call__(self, frame: Any) -> Any:
        pc = int(frame.read_register("rip"))
        if not _CORE_BASE <= pc < _CORE_END:
            return None
        sp = int(frame.read_register("rsp"))
        thread = (sp & -_BLOCK) + _BLOCK - 1024
        if not _CORE_BASE <= thread < _CORE_END:
            return None
        try:
            if _within(pc, _FAST):
                return self._fast(frame, pc, thread)
            if any(_within(pc, trap) for trap in _TRAPS):
                return self._trapped(frame, pc)
            if _within(pc, _LEAVES):
                return self._leaf(frame, pc, sp)
        except gdb.MemoryError:
            pass
        return None

    def _leaf(self, frame: Any, pc: int, sp: int) -> Any:
        found = frame.create_unwind_info(_FrameId(sp, pc))
        for name in _NAMES:
            if name not in ("rip", "rsp"):
                found.add_saved_register(name, frame.read_register(name))
        return self._finish(found, {"rip": _words(sp, 1)[0], "rsp": sp + 8})

    def _fast(self, frame: Any, pc: int, thread: int) -> Any:
        """Entered from a rewritten site: the guest's registers lie at the top of the core stack."""
        saved = dict(zip(_FAST_NAMES, _words(thread - _FAST_FRAME.size, 10), strict=True))
        (saved["rsp"],) = _words(thread + 8, 1)
        saved["rcx"] = saved["rip"]
        found = frame.create_unwind_info(_FrameId(thread, pc))
        for name in _KEPT:
            found.add_saved_register(name, frame.read_register(name))
        return self._finish(found, saved)

    def _trapped(self, frame: Any, pc: int) -> Any:
        """Entered by a signal: rbx is the ucontext's address."""
        context = int(frame.read_register("rbx"))
        if not _CORE_BASE <= context < _CORE_END:
            return None
        saved = dict(zip(_NAMES, _words(context + _CONTEXT_AT, 18), strict=True))
        return self._finish(frame.create_unwind_info(_FrameId(context, pc)), saved)

    @staticmethod
    def _finish(found: Any, saved: dict[str, int]) -> Any:
        word, pointer, flags = (gdb.lookup_type(n) for n in ("unsigned long", "char", "int"))
        kinds = {"rip": pointer.pointer(), "rsp": pointer.pointer(), "eflags": flags}
        for name, value in saved.items():
            number = value & 0xFFFFFFFF if name == "eflags" else value
            found.add_saved_register(name, gdb.Value(number).cast(kinds.get(name, word)))
        return found


class _CoreFrame(FrameDecorator):  # type: ignore[misc]
    """A frame of the core without symbols says what it is."""

    def function(self) -> Any:
        frame = self.inferior_frame()
        unnamed = _CORE_BASE <= frame.pc() < _CORE_END and frame.name() is None
        return "[ring3's core]" if unnamed else super().function()


class _CoreFrames:
    """A frame filter (gdb's manual, Frame Filter API): what the core calls within itself is one frame."""

    name, enabled, priority = "ring3-core", True, 100

    def filter(self, frames: Any) -> Any:
        before = False
        for frame in map(_CoreFrame, frames):
            inner = frame.inferior_frame()
            unnamed = _CORE_BASE <= inner.pc() < _CORE_END and inner.name() is None
            if not (unnamed and before):
                yield frame
            before = unnamed


# -- execve


def _program() -> str | None:
    """The file of the program that the inferior now is."""
    pid = gdb.selected_inferior().pid
    with open(f"/proc/{pid}/auxv", "rb") as f:
        data = f.read()
    phdr = dict(struct.iter_unpack("<QQ", data[: len(data) & -16])).get(3, 0)
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            words = line.rstrip("\n").split(maxsplit=5)
            low, _, high = words[0].partition("-")
            if int(low, 16) <= phdr < int(high, 16) and len(words) > 5:
                return words[5] if words[5].startswith("/") and "memfd:" not in words[5] else None
    return None


class _Executed(gdb.Breakpoint):  # type: ignore[misc]
    """At the core's last step: its program is mapped, and the host knows it."""

    def __init__(self) -> None:
        super().__init__(f"*{_CORE['enter_guest']:#x}", internal=True)
        self.silent = True


def _loaded(event: Any) -> None:
    if event.new_objfile.filename == _CORE["file"] == gdb.current_progspace().filename:
        _Executed()  # at once: the program may be there before a posted event is looked at


def _stopped(event: Any) -> None:
    mine = [b for b in getattr(event, "breakpoints", ()) if isinstance(b, _Executed)]
    if not mine:
        return
    for breakpoint in mine:
        gdb.post_event(breakpoint.delete)
    _add_frames()
    program = _program()
    if program is None:
        gdb.write("ring3: a new program, whose file is not on the host\n")
    else:
        gdb.execute(f"file {program}", to_string=True)
        gdb.write(f"ring3: {program} is about to start; continue when you are ready\n")


def _add_frames() -> None:
    if all(o.filename != _CORE["frames"] for o in gdb.objfiles()):
        gdb.execute(f"add-symbol-file {_CORE['frames']}", to_string=True)


_add_frames()
gdb.unwinder.register_unwinder(None, GuestUnwinder(), replace=True)
gdb.frame_filters["ring3-core"] = _CoreFrames()
gdb.events.new_objfile.connect(_loaded)
gdb.events.stop.connect(_stopped)
