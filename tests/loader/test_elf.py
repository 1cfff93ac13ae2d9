"""The loader by itself: its reader against pyelftools, its bounds, its determinism.

Layer: tests. Touches files in temporary directories.
"""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from ring3.loader import elf, script, stack
from ring3.loader.plan import CORE_BASE, CORE_END, PAGE, TASK_SIZE, LayoutContext, Opened, Plan
from ring3.loader.prepare import prepare

FOLDERS = ["/bin", "/usr/bin", "/usr/sbin", "/usr/libexec", "/usr/lib/x86_64-linux-gnu"]


def system_binaries(limit: int) -> list[Path]:
    """x86-64 ELF files of this machine, spread over its folders."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for entry in sorted(os.scandir(folder), key=lambda e: e.name) if os.path.isdir(folder) else []:
            if entry.is_file() and os.access(entry.path, os.R_OK):
                with open(entry.path, "rb") as f:
                    if f.read(5) == b"\x7fELF\x02":
                        found.setdefault(os.path.realpath(entry.path), Path(entry.path))
    paths = list(found.values())
    return paths[:: max(1, len(paths) // limit)]


def open_exec(path: bytes) -> Opened:
    return Opened(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)


def context(seed: int = 1, personality: int = 0) -> LayoutContext:
    return LayoutContext(
        0x7FFFFFFFF000, 0x7FFFF7FFF000, personality=personality, random=random.Random(seed).randbytes
    )


def test_headers_are_read_as_pyelftools_reads_them() -> None:
    compared = 0
    for path in system_binaries(150):
        with open(path, "rb") as f:
            theirs = ELFFile(f)
            if theirs["e_phnum"] == 0 or theirs["e_type"] not in ("ET_EXEC", "ET_DYN"):
                continue
            ours = elf.parse(f.fileno(), os.pread(f.fileno(), 1024, 0))
            assert (ours.e_entry, ours.e_phoff, ours.e_phnum) == (
                theirs["e_entry"],
                theirs["e_phoff"],
                theirs["e_phnum"],
            )
            loads = [s.header for s in theirs.iter_segments("PT_LOAD")]
            assert [
                (h.p_vaddr, h.p_offset, h.p_filesz, h.p_memsz, h.p_flags, h.p_align) for h in ours.loads
            ] == [(h.p_vaddr, h.p_offset, h.p_filesz, h.p_memsz, h.p_flags, h.p_align) for h in loads]
            interp = next(iter(theirs.iter_segments("PT_INTERP")), None)
            assert (ours.interp is None) == (interp is None)
            if interp is not None and ours.interp is not None:
                name = elf.interpreter_path(f.fileno(), ours.interp)
                assert name.decode() == interp.get_interp_name()
            for header in theirs.iter_segments("PT_GNU_STACK"):
                assert ours.exec_stack == bool(header["p_flags"] & 1)
            compared += 1
    assert compared >= 50


def test_pyelftools_is_not_imported_to_start_a_program() -> None:
    program = "import sys, ring3.loader.prepare; print('elftools' in sys.modules, 'struct' in sys.modules)"
    repo = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True\n"


def test_the_same_random_bytes_give_the_same_plan() -> None:
    plans = []
    for seed in (1, 1, 2):
        plan = prepare(open_exec, b"/bin/sh", [b"sh"], [b"A=B"]).layout(context(seed))
        plan.close()
        plans.append((repr(plan.segments), plan.entry, plan.sp, plan.stack, plan.brk))
    assert plans[0] == plans[1] != plans[2]


def test_addresses_are_random_unless_the_personality_says_no() -> None:
    def entries(personality: int) -> set[int]:
        found = set()
        for seed in range(20):
            plan = prepare(open_exec, b"/bin/sh", [b"sh"], []).layout(context(seed, personality))
            plan.close()
            found.add(plan.segments[0].addr)
            assert 0x555555554000 <= plan.segments[0].addr < 0x555555554000 + (1 << 40)
            end = max(s.addr + s.length for s in plan.segments if s.file == 0)
            assert end <= plan.brk < end + (1 << 30) + 2 * PAGE and plan.brk % PAGE == 0
        return found

    assert len(entries(0)) == 20 and entries(0x0040000) == {0x555555554000}


def test_a_refused_program_leaves_no_descriptor(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x7fELF")
    looping = tmp_path / "loop"
    looping.write_text(f"#!{looping}\n")
    opened: list[Opened] = []

    def recorded(path: bytes) -> Opened:
        opened.append(open_exec(path))
        return opened[-1]

    for path, number in ((bad, errno.ENOEXEC), (looping, errno.ELOOP)):
        with pytest.raises(OSError) as caught:
            prepare(recorded, bytes(path), [b"x"], [])
        assert caught.value.errno == number
    with pytest.raises(OSError):
        prepare(recorded, b"/bin/sh", [b"x" * stack.MAX_ARG_STRLEN], [])
    assert opened and all(o.fd == -1 for o in opened)


def test_a_close_on_exec_script_by_descriptor_is_enoent(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\n")
    with pytest.raises(OSError) as caught:
        prepare(open_exec, b"/dev/fd/3", [b"x"], [], opened=open_exec(bytes(path)), path_inaccessible=True)
    assert caught.value.errno == errno.ENOENT
    prepared = prepare(open_exec, b"/dev/fd/3", [b"x", b"y"], [], opened=open_exec(bytes(path)))
    assert prepared.argv == [b"/bin/sh", b"/dev/fd/3", b"y"]
    prepared.close()


def test_nothing_is_planned_on_the_core_s_addresses(tmp_path: Path) -> None:
    data = bytearray(Path(os.path.realpath("/bin/sh")).read_bytes())
    phoff = struct.unpack_from("<Q", data, 32)[0]
    struct.pack_into("<H", data, 16, elf.ET_EXEC)
    for i in range(struct.unpack_from("<H", data, 56)[0]):
        at = phoff + 56 * i
        if struct.unpack_from("<I", data, at)[0] == elf.PT_LOAD:
            vaddr = struct.unpack_from("<Q", data, at + 16)[0]
            struct.pack_into("<Q", data, at + 16, CORE_BASE + 0x5000 + vaddr)
    path = tmp_path / "greedy"
    path.write_bytes(data)
    plan = prepare(open_exec, bytes(path), [b"x"], []).layout(context())
    plan.close()
    assert plan.fatal is not None and plan.segments == [] and plan.entry == 0 and len(plan.stack) > 100


@pytest.mark.timeout(100)
def test_mangled_binaries_give_an_errno_or_a_plan_in_bounded_time() -> None:
    """Thousands of seeded changes anywhere in the first pages of real programs."""
    allowed = {
        errno.ENOEXEC,
        errno.ELIBBAD,
        errno.EIO,
        errno.EINVAL,
        errno.ENOENT,
        errno.EACCES,
        errno.ENOTDIR,
    }
    allowed |= {errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP}
    rng = random.Random(33)
    programs = [p.read_bytes()[:20000] for p in system_binaries(12)]
    count = int(os.environ.get("RING3_FUZZ", "4000"))
    fd = os.memfd_create("mangled")
    outcomes = {"plan": 0, "fatal": 0, "errno": 0}
    for _ in range(count):
        image = bytearray(rng.choice(programs))
        for _ in range(rng.choice([1, 2, 3, 8, 64])):
            at = rng.randrange(rng.choice([64, 1024, 1024, len(image)]))
            if rng.random() < 0.5:
                image[at] = rng.randrange(256)
            else:
                width = rng.choice([2, 4, 8])
                value = rng.choice(
                    [0, 1, (1 << 8 * width) - 1, 1 << 8 * width - 1, rng.getrandbits(8 * width)]
                )
                image[at : at + width] = value.to_bytes(width, "little")
        if rng.random() < 0.1:
            del image[rng.randrange(len(image)) :]
        os.ftruncate(fd, 0)
        os.pwrite(fd, image, 0)
        began = time.process_time()
        try:
            opened = Opened(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY), b"/mangled")
            plan = prepare(interpreter_only, b"/mangled", [b"x"], [b"A=B"], opened=opened).layout(context())
        except OSError as e:
            assert e.errno in allowed, e
            outcomes["errno"] += 1
        else:
            plan.close()
            check_plan(plan)
            outcomes["fatal" if plan.fatal else "plan"] += 1
        assert time.process_time() - began < 1.0
    os.close(fd)
    assert min(outcomes.values()) > count // 100, outcomes


def interpreter_only(path: bytes) -> Opened:
    if b"\0" in path:
        raise AssertionError("a path with a NUL")
    return open_exec(path)


def check_plan(plan: Plan) -> None:
    """Whatever the file says, the core is asked for nothing outside of user space or on its own range."""
    assert plan.sp % 16 == 0 and len(plan.stack) < 1 << 20 and len(plan.segments) < 3000
    if plan.fatal is not None:
        assert plan.segments == []
        return
    for s in plan.segments:
        assert s.addr % PAGE == 0 and s.length % PAGE == 0 and s.length > 0 and s.offset % PAGE == 0
        assert s.addr >= 0 and s.addr + s.length <= TASK_SIZE
        assert s.addr + s.length <= CORE_BASE or s.addr >= CORE_END
        assert 0 <= s.offset < 1 << 63 and s.file < len(plan.auxv)
    for address, length in plan.zero:
        assert 0 < length < PAGE and address + length <= TASK_SIZE
        assert any(s.addr <= address < s.addr + s.length for s in plan.segments)
    assert 0 <= plan.entry < TASK_SIZE and 0 < plan.brk < 1 << 47


def test_scripts_of_every_shape_parse_or_are_refused() -> None:
    rng = random.Random(5)
    for _ in range(5000):
        head = b"#!" + bytes(rng.choice(b" \t\n\0/ab#!") for _ in range(rng.randrange(300)))
        try:
            name, argument = script.parse(head)
        except OSError as e:
            assert e.errno == errno.ENOEXEC
            continue
        assert len(name) <= 253 and not set(name) & set(b" \t\n\0")
        assert argument is None or (b"\0" not in argument and b"\n" not in argument)
