"""A plan that is made before it is known where the stack and the mappings are, and is moved there."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from ring3.loader import stack
from ring3.loader.plan import LayoutContext, Opened, Plan
from ring3.loader.prepare import prepare

STACK_TOP, MMAP_TOP, VDSO = 0x7FFD_1234_5670, 0x7F00_4455_6000, 0x7F00_4455_5000
ON_STACK, MAPPED, SYSINFO = (15, 25, 31), (3, 7, 9), 33


def plan_of(program: Path, *places: int) -> Plan:
    def open_exec(path: bytes) -> Opened:
        return Opened(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)

    prepared = prepare(open_exec, os.fsencode(program), [b"name", b"", b"x"], [b"A=1", b"B="])
    assert prepared.is_ordinary
    top, mmap_top, vdso = places
    plan = prepared.layout(LayoutContext(top, mmap_top, sysinfo_ehdr=vdso, random=lambda n: bytes(range(n))))
    plan.close()
    assert plan.fatal is None
    return plan


def placed(address: int, origin: int) -> int:
    """As core_native/main.c has it."""
    address &= (1 << 64) - 1
    return address + origin & (1 << 64) - 1 if address >> 63 else address


def settled_stack(image: bytes) -> list[int]:
    """The words up to the end of the auxiliary vector, as settle_stack() in core_native/main.c leaves them."""
    words = list(struct.unpack(f"<{len(image) // 8}Q", image[: len(image) & -8]))
    at = 1
    for _ in range(2):
        while words[at]:
            words[at] = placed(words[at], STACK_TOP)
            at += 1
        at += 1
    while words[at]:
        key = words[at]
        if key == SYSINFO:
            words[at + 1] = VDSO
        elif key in ON_STACK or key in MAPPED:
            words[at + 1] = placed(words[at + 1], STACK_TOP if key in ON_STACK else MMAP_TOP)
        at += 2
    return words[: at + 2]


@pytest.mark.parametrize("how", [["-pie"], ["-no-pie"], ["-static"], ["-static-pie"]])
def test_moved_is_as_made_there(tmp_path: Path, how: list[str]) -> None:
    (tmp_path / "p.c").write_text("char zeros[100000] = {1}, more[100000]; int main(void) { return more[5]; }\n")
    program = tmp_path / "p"
    subprocess.run([shutil.which("gcc") or "gcc", *how, "-o", program, tmp_path / "p.c"], check=True)
    there, moved = plan_of(program, STACK_TOP, MMAP_TOP, VDSO), plan_of(program, 0, 0, 0)
    assert [placed(s.addr, MMAP_TOP) for s in moved.segments] == [s.addr for s in there.segments]
    assert [(placed(address, MMAP_TOP), size) for address, size in moved.zero] == there.zero
    assert placed(moved.entry, MMAP_TOP) == there.entry
    assert (moved.brk, len(moved.stack)) == (there.brk, len(there.stack))
    assert settled_stack(moved.stack) == settled_stack(there.stack)
    stack.settle(moved, STACK_TOP, MMAP_TOP, VDSO)
    for name in ("sp", "arg_start", "arg_end", "env_start", "env_end", "start_code", "end_code", "auxv"):
        assert getattr(moved, name) == getattr(there, name), name
