"""Finding sites: what is proved, what is refused and why, and that nothing else is ever taken for a site.

Layer: tests. Touches the session's directory; runs gcc and go.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

sys.path.insert(0, str(Path(__file__).parent))

from rewriting import assemble, content, function, go_program, real_files

from ring3.loader import sites, text
from ring3.loader.functions import Functions, read_functions
from ring3.loader.padding import is_padding
from ring3.loader.rewrite import describe, rewrite

#: the least share of what looks like a site that has to be patched
COVERAGE = {"libc": 0.9, "ld.so": 0.8, "busybox": 0.85, "musl": 0.5, "go": 0.9}


def analyse(path: Path, learned: frozenset[int] = frozenset()) -> sites.Analysis:
    with open(path, "rb") as f:
        found = text.read(f.fileno())
        assert found is not None
        return sites.find_sites(found, learned)


def symbol(path: Path, name: str) -> int:
    with open(path, "rb") as f:
        table = ELFFile(f).get_section_by_name(".symtab")
        return int(table.get_symbol_by_name(name)[0]["st_value"])


def forms(path: Path, learned: frozenset[int] = frozenset()) -> dict[int, str]:
    found = analyse(path, learned)
    return {s.vaddr: s.form or s.reason for s in (*found.sites, *found.refused)}


@pytest.mark.parametrize("name", [*COVERAGE, "go-static"])
def test_coverage(name: str, session_dir: Path) -> None:
    path = go_program(session_dir / "go") if name == "go-static" else real_files().get(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    found = analyse(path)
    total = len(found.sites) + len(found.refused)
    print(f"\n{name}: {len(found.sites)} of {total}: {describe([*found.sites, *found.refused])}")
    assert total > 20
    assert len(found.sites) / total >= COVERAGE.get(name, 0.9)
    assert all(s.form and not s.reason for s in found.sites)
    assert all(s.reason in sites.REASONS and s.reason and not s.form for s in found.refused)


@pytest.mark.parametrize("name", ["python3", "dash"])
def test_programs_without_sites(name: str) -> None:
    path = real_files().get(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    assert analyse(path).sites == []


@pytest.mark.parametrize("name", ["ld.so", "dash", "busybox"])
def test_function_ranges_are_those_that_pyelftools_reads(name: str) -> None:
    path = real_files().get(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    with open(path, "rb") as f:
        found = text.read(f.fileno())
        assert found is not None
        ours = read_functions(found, [], [])
        theirs = {}
        for entry in ELFFile(f).get_dwarf_info().EH_CFI_entries():
            if isinstance(entry, FDE) and entry.header["address_range"]:
                start = entry.header["initial_location"]
                theirs[start] = max(theirs.get(start, 0), start + entry.header["address_range"])
    inside = {a: b for a, b in theirs.items() if found.offset_of(a, b - a) >= 0}
    assert dict(ours.ranges) == inside
    assert len(inside) > 100
    assert ours.complete


def test_each_form(tmp_path: Path) -> None:
    path = assemble(
        tmp_path,
        "forms",
        function("mov5", "mov $39, %eax; syscall; ret")
        + function("mov7", ".byte 0x48, 0xc7, 0xc0, 39, 0, 0, 0; syscall; ret")
        + function("hop", "lea 39(%rdi), %rax; syscall; ret")
        + function("backward", "lea 39(%rdi), %rax; syscall; ret")
        + function(
            "negative", ".byte 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff; syscall; .fill 26, 1, 0x90; ret"
        )
        + function("end", "ret"),
    )
    got = forms(path)
    assert got[symbol(path, "mov5") + 5] == "mov"
    assert got[symbol(path, "mov7") + 7] == "mov"
    assert got[symbol(path, "hop") + 4] == "hop"
    assert got[symbol(path, "backward") + 4] == "hop"
    assert got[symbol(path, "negative") + 7] == "hop", "rax is -1 there and not 0xffffffff"
    assert len(got) == 5


def test_a_padding_run_holds_several_hops(tmp_path: Path) -> None:
    body = "; ".join(["lea 39(%rdi), %rax; syscall"] * 9) + "; ret; .fill 5, 1, 0xcc"
    path = assemble(tmp_path, "several", function("f", body[: body.rindex("; .fill")]) + function("g", "ret"))
    start = symbol(path, "f")
    got = analyse(path)
    gap = symbol(path, "g") - (start + 9 * 6 + 1)
    assert [s.form for s in got.sites] == ["hop"] * (gap // 5)
    assert len({s.run + 5 * s.slot for s in got.sites}) == len(got.sites)
    assert {s.reason for s in got.refused} == {sites.NO_ROOM}
    assert len(got.sites) + len(got.refused) == 9


FILL = "; .balign 32, 0xf4"  # no padding within reach

MOVED = {
    "one": ("lea 0x1000(%rbx), %rsi; syscall; ret", 7, 7),
    "one that counts from rip": ("lea f(%rip), %rsi; syscall; ret", 7, 7),
    "a load that counts from rip": ("mov f(%rip), %rsi; syscall; ret", 7, 7),
    "a store": ("movups %xmm0, 0x2d8(%rbx); syscall; ret", 7, 7),
    "of the stack pointer": ("sub $0x1000, %rsp; syscall; ret", 7, 7),
    "of the stack pointer, by lea": ("lea 0x1000(%rsp), %rsp; syscall; ret", 8, 8),
    "one of two": ("mov $1, %esi; mov (%rdi), %edi; syscall; ret", 7, 5),
    "entered behind it": ("mov $60, %edx; 1: xor %edi, %edi; mov %edx, %eax; syscall; jmp 1b", 9, 5),
    "the nearest": ("mov $1, %esi; mov $2, %edx; mov %r9d, %eax; syscall; ret", 8, 5),
    "two from rip": ("mov f(%rip), %rsi; lea f(%rip), %rdx; mov (%rdx), %eax; syscall; ret", 9, 7),
    "several": ("mov %r9d, %eax; mov %r9, %rdi; syscall; ret", 6, 6),
    "several, of which the first may fault": ("mov (%r9), %eax; mov %r9, %rdi; syscall; ret", 6, 6),
    "several with an operand from rip": ("xor %eax, %eax; mov %edi, %esi; xor %edx, %edx; syscall; ret", 6, 6),
    "several, the first being branched to": ("1: mov %r9d, %eax; mov %r9, %rdi; syscall; jmp 1b", 6, 6),
    "before a branch to the syscall": ("mov %r9d, %eax; mov %r9, %rdi; 1: syscall; jmp 1b", 6, 6),
    "several, entered behind them": (
        "mov %r9d, %eax; mov %r9, %rdi; 1: mov (%rsi), %edx; syscall; jmp 1b",
        8,
        6,
    ),
    "behind a call": ("call g; mov (%rdi), %eax; mov %eax, %edx; xor %esi, %esi; syscall; ret", 6, 6),
}
NOT_MOVED = {
    "what may fault, not at first": "xor %eax, %eax; mov (%rdi), %rdx; syscall; ret",
    "the thread's register": "rdfsbase %rdi; syscall; ret",
    "a pop, not at first": "pop %rax; pop %rdi; pop %rsi; pop %rdx; pop %r10; syscall; ret",
    "a segment": "mov %eax, %fs; mov %eax, %ds; mov %eax, %es; syscall; ret",
    "a call": "call f; syscall; ret",
    "an immediate behind a displacement from rip": "cmpl $5, f(%rip); syscall; ret",
    "a branch between": "mov %r9d, %eax; 1: mov %r9, %rdi; syscall; jmp 1b",
    "a branch out of them": "mov %r9d, %eax; jz f + 1000; syscall; ret",
    "an indirect jump": "test %edi, %edi; jz 1f; jmp *%rsi; 1: mov %r9d, %eax; mov %r9, %rdi; syscall; ret",
    "two syscalls": "nop; syscall; xor %eax, %eax; syscall; ret",
    "too many": "mov $5, %eax; " + "push %rax; pop %rax; " * 18 + "syscall; ret",
}


@pytest.mark.parametrize("what", MOVED)
def test_instructions_that_may_be_moved(what: str, tmp_path: Path) -> None:
    body, length, head = MOVED[what]
    path = assemble(tmp_path, "moved", function("f", body + FILL) + function("g", "ret" + FILL))
    assert [(s.form, s.length, s.head) for s in analyse(path).sites] == [("before", length, head)]


@pytest.mark.parametrize("what", NOT_MOVED)
def test_instructions_that_may_not_be_moved(what: str, tmp_path: Path) -> None:
    path = assemble(tmp_path, "unmoved", function("f", NOT_MOVED[what] + FILL))
    got = analyse(path)
    assert got.sites == []
    assert {s.reason for s in got.refused} == {sites.NO_ROOM}


def test_entries_from_elsewhere_forbid_a_move(tmp_path: Path) -> None:
    body = function("f", "mov %r9d, %eax; inside: mov %r9, %rdi; syscall; ret" + FILL)
    near, far = "; ret" + FILL, "; ret; .fill 300, 1, 0xf4" + FILL
    table = (
        ".section .gcc_except_table; lsda: .byte 0xff, 0xff, 1, 4; .uleb128 f - f, 4, inside - f, 0; .text"
    )
    cases = {
        "nothing": (body + function("g", "nop" + near), ["before"]),
        "a short branch": (body + function("g", "jz inside" + near), []),
        "a short branch from before": (function("g", "jz inside" + near) + body, []),
        "a far jump": (function("g", "jmp inside" + far) + body, []),
        "a far branch": (function("g", "jz inside" + far) + body, []),
        "a call": (body + function("g", "call inside" + far), []),
        "a part elsewhere that jumps anywhere": (
            body.replace("mov %r9d", "test %edi, %edi; jz g; mov %r9d") + function("g", "jmp *%rax" + far),
            [],
        ),
        "landing pads": (body.replace(".cfi_startproc", ".cfi_startproc; .cfi_lsda 0x1b, lsda") + table, []),
    }
    for name, (source, expected) in cases.items():
        path = assemble(tmp_path, name.replace(" ", "_"), source)
        assert [s.form for s in analyse(path).sites] == expected, name


NOT_SITES = {
    "an immediate": "mov $0x050f, %eax; mov $0x050f9090, %ecx; ret",
    "a displacement": "mov 0x050f(%rdi), %eax; lea 0x050f0000(%rip), %rax; ret",
    "a branch": ".byte 0xe8, 0x0f, 0x05, 0, 0; ret",
    "a longer instruction": "lock; cmpxchg %al, (%rdi); .byte 0x38, 0x44, 0x0f, 0x05; ret",
    "behind a return": "ret; 1: .byte 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3",
    "behind a jump": "jmp 2f; 1: .byte 0xb8, 39, 0, 0, 0, 0x0f, 0x05; 2: ret",
    "behind a call that steps over it": "call 2f; .byte 0xb8, 39, 0, 0, 0, 0x0f, 0x05; 2: pop %rax; ret",
    "behind exit": "mov $60, %edi; .byte 0x90; jmp 3f; .asciz \"\\xb8'''\\017\\005\"; 3: ret",
    "after ud2": "ud2; .byte 0xb8, 39, 0, 0, 0, 0x0f, 0x05",
    "in overlapping code": "jz 1f + 1; 1: .byte 0xb8, 0x90, 0x90, 0x90, 0x0f, 0x05, 0x00, 0x00, 0x00, 0x00; ret",
}


@pytest.mark.parametrize("what", NOT_SITES)
def test_data_is_never_patched(what: str, tmp_path: Path) -> None:
    source = function("f", NOT_SITES[what]) + function("g", "mov $39, %eax; syscall; ret")
    path = assemble(tmp_path, "data", source)
    assert content(path).count(b"\x0f\x05") >= 2
    assert [s.vaddr for s in analyse(path).sites] == [symbol(path, "g") + 5]


def test_data_between_functions_is_never_patched(tmp_path: Path) -> None:
    path = assemble(
        tmp_path,
        "between",
        function("f", "ret")
        + ".byte 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3\n"
        + function("g", "mov $39, %eax; syscall; ret"),
    )
    got = analyse(path)
    assert [s.vaddr for s in got.sites] == [symbol(path, "g") + 5]
    assert [s.reason for s in got.refused] == [sites.NO_FUNCTION]


def test_padding_within_a_function_takes_a_hop(tmp_path: Path) -> None:
    body = "lea 39(%rdi), %rax; syscall; jz 1f; ret; .balign 32; 1: neg %eax; ret; .fill 25, 1, 0xf4"
    path = assemble(tmp_path, "aligned", function("f", body))
    assert [s.form for s in analyse(path).sites] == ["hop"]


def test_padding_that_is_none_is_left_alone(tmp_path: Path) -> None:
    site = "lea 39(%rdi), %rax; syscall; ret"
    cases = {
        "zeros": function("f", site) + ".fill 32, 1, 0\n" + function("g", "ret"),
        "within, passed through": function(
            "f", "lea 39(%rdi), %rax; syscall; jz 1f; .fill 24, 1, 0x90; 1: ret; .fill 25, 1, 0xf4"
        ),
        "within, jumped into": function(
            "f",
            "lea 39(%rdi), %rax; syscall; jz 2f; jmp 1f; .fill 3, 1, 0x90; 2: .fill 4, 1, 0x90; 1: ret;"
            ".fill 25, 1, 0xf4",
        ),
        "within, before what nothing reaches": function(
            "f", "lea 39(%rdi), %rax; syscall; ret; .fill 24, 1, 0x90; 1: .quad 7; .fill 25, 1, 0xf4"
        ),
        "fallen into": function("f", "lea 39(%rdi), %rax; syscall; cmp $1, %eax") + function("g", "ret"),
        "after a branch": function("f", "1: lea 39(%rdi), %rax; syscall; jz 1b") + function("g", "ret"),
        "code": function("f", site).rsplit(".balign", 1)[0]
        + ".fill 6, 1, 0x90; ret\n"
        + function("g", "ret"),
        "patchable": function("f", site)
        + '.section __patchable_function_entries, "aw"; .quad 0; .text\n'
        + function("g", "ret"),
    }
    for name, source in cases.items():
        path = assemble(tmp_path, name.replace(" ", "_"), source)
        got = analyse(path)
        assert [s.reason for s in got.refused] == [sites.NO_ROOM], name
        assert got.sites == [], name


def test_a_branch_to_the_syscall_prefers_a_hop(tmp_path: Path) -> None:
    body = "test %edi, %edi; mov $102, %eax; jz 1f; mov $39, %eax; 1: syscall; ret"
    path = assemble(tmp_path, "both", function("f", body) + function("g", "ret"))
    assert list(forms(path).values()) == ["hop"]
    alone = assemble(tmp_path, "alone", function("f", body + "; .fill 15, 1, 0xf4"))
    assert list(forms(alone).values()) == ["mov"], "the branch to the syscall itself traps, and may"


def test_a_branch_into_the_mov_is_respected(tmp_path: Path) -> None:
    body = "test %edi, %edi; jz 1f + 1; nop; 1: mov $0x27b0, %eax; syscall; ret"
    path = assemble(tmp_path, "into", function("f", body + "; .fill 30, 1, 0xf4"))
    assert "mov" not in forms(path).values()


@pytest.mark.parametrize("mov", ["mov $15, %eax", ".byte 0x48, 0xc7, 0xc0, 15, 0, 0, 0"])
def test_the_restorer_of_signals_keeps_its_bytes(mov: str, tmp_path: Path) -> None:
    path = assemble(tmp_path, "restorer", function("f", f"{mov}; syscall; ret") + function("g", "ret"))
    assert list(forms(path).values()) == [sites.SIGRETURN]


def test_learned_sites_need_no_proof_but_are_no_licence(tmp_path: Path) -> None:
    path = assemble(
        tmp_path,
        "learned",
        function(
            "f", "lea 1f(%rip), %rax; jmp *%rax; .byte 0x90; 1: mov $39, %eax; xor %edi, %edi; syscall; ret"
        )
        + function("g", "mov $0x050f, %eax; ret")
        + function("h", "ret"),
    )
    hidden, operand = symbol(path, "f") + 17, symbol(path, "g") + 1
    before = forms(path)
    assert before == {hidden: sites.NOT_REACHED}
    after = forms(path, frozenset((hidden, operand, 0, 1 << 46)))
    assert after == {hidden: "hop", operand: sites.INSIDE}


def test_symbols_serve_where_frame_information_is_missing(tmp_path: Path) -> None:
    source = function("f", "mov $39, %eax; syscall; ret", frame=False)
    path = assemble(tmp_path, "symbols", source)
    assert forms(path) == {symbol(path, "f") + 5: "mov"}
    subprocess.run(["strip", "-s", path], check=True, timeout=60)
    assert list(forms(path).values()) == ["mov"], "by the dynamic symbols"
    local = assemble(tmp_path, "local", source.replace(".globl", ".local"))
    subprocess.run(["strip", "-s", local], check=True, timeout=60)
    assert list(forms(local).values()) == [sites.NO_FUNCTION]


def test_go_without_symbols(session_dir: Path, tmp_path: Path) -> None:
    path = go_program(session_dir / "go")
    if path is None:
        pytest.skip("there is no Go on this machine")
    stripped = tmp_path / "stripped"
    shutil.copy(path, stripped)
    subprocess.run(["strip", "-s", stripped], check=True, timeout=60)
    assert [s.vaddr for s in analyse(stripped).sites] == [s.vaddr for s in analyse(path).sites]


def test_wrgsbase_is_seen(tmp_path: Path) -> None:
    plain = function("f", "mov $39, %eax; syscall; ret")
    assert not analyse(assemble(tmp_path, "plain", plain)).uses_gs
    for body in ("wrgsbase %rdi", "wrgsbase %r9d", "wrgsbase %eax"):
        assert analyse(assemble(tmp_path, "gs", plain + function("g", body + "; ret"))).uses_gs
    for body in ("wrfsbase %rdi", "rdgsbase %rdi", "swapgs"):
        assert not analyse(assemble(tmp_path, "gs", plain + function("g", body + "; ret"))).uses_gs


@pytest.mark.parametrize(
    ("raw", "padding"),
    [
        ("90", True),
        ("cc" * 9, True),
        ("6690", True),
        ("662e0f1f840000000000", True),
        ("6666666666662e0f1f840000000000" + "0f1f4400000f1f8000000000" + "0f1f400090", True),
        ("", True),
        ("0f1f84000000000", False),
        ("662e0f1f8400000000", False),
        ("0000", False),
        ("f390", False),
        ("0f1f", False),
        ("66", False),
        ("c3", False),
        ("0f1fc8", False),
    ],
)
def test_padding(raw: str, padding: bool) -> None:
    assert is_padding(bytes.fromhex(raw if len(raw) % 2 == 0 else raw[:-1])) is padding


def test_gaps_between_functions() -> None:
    functions = Functions([(100, 110), (120, 200), (130, 140), (205, 210), (210, 220), (300, 310)], True)
    assert functions.gaps(0, 1000) == [(110, 120), (200, 205), (220, 300)]
    assert functions.gaps(202, 203) == [(200, 205)]
    assert functions.gaps(110, 111) == [(110, 120)]
    assert functions.gaps(112, 205) == [(110, 120), (200, 205)]
    assert functions.gaps(120, 130) == []
    assert functions.covering(135) == (130, 140)
    assert functions.covering(150) == (120, 200)
    assert functions.covering(112) is None


@pytest.mark.parametrize("seed", range(4))
def test_mangled_files_do_no_harm(seed: int, tmp_path: Path) -> None:
    """Truncated and overwritten files: None or a Rewrite, never an exception, in bounded time."""
    good = content(
        assemble(
            tmp_path,
            "good",
            function("f", "mov $39, %eax; syscall; ret") + function("g", "lea 39(%rdi), %rax; syscall; ret"),
        )
    )
    rng = random.Random(seed)
    fd = os.memfd_create("mangled")
    survived = 0
    try:
        for _ in range(250):
            bad = bytearray(good[: rng.randrange(len(good))] if rng.random() < 0.2 else good)
            for _ in range(rng.randrange(1, 12)):
                if bad:
                    at = rng.choice((rng.randrange(len(bad)), rng.randrange(min(len(bad), 0x250))))
                    width = rng.choice((1, 2, 4, 8))
                    bad[at : at + width] = rng.choice(
                        (b"\xff" * width, b"\0" * width, rng.randbytes(width), b"\x7f" * width)
                    )[: len(bad) - at]
            os.ftruncate(fd, 0)
            os.pwrite(fd, bad, 0)
            made = rewrite(fd)
            survived += made is not None
            if made is not None:
                made.close()
    finally:
        os.close(fd)
    assert survived > 10


def test_what_is_no_x86_64_elf_file_is_left_alone(tmp_path: Path) -> None:
    cases = {
        "empty": b"",
        "script": b"#!/bin/sh\nexit\n" * 20,
        "magic": b"\x7fELF" * 40,
        "zeros": bytes(4096),
    }
    for name, raw in cases.items():
        (tmp_path / name).write_bytes(raw)
        with open(tmp_path / name, "rb") as f:
            assert rewrite(f.fileno()) is None, name
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert rewrite(folder) is None
    finally:
        os.close(folder)


def test_text_that_the_linker_will_write_is_left_alone(tmp_path: Path) -> None:
    body = function("f", "mov $39, %eax; syscall; ret; .quad f")
    path = assemble(tmp_path, "textrel", body, "-Wl,-z,notext")
    with open(path, "rb") as f:
        assert rewrite(f.fileno()) is None


def test_importing_costs_no_disassembler() -> None:
    code = (
        "import sys; from ring3.loader import site_cache, rewrite, sites;"
        "sys.exit(bool({'capstone', 'elftools', 're', 'hashlib', 'subprocess'} & set(sys.modules)))"
    )
    subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2]
    )


def test_functions_that_only_calls_tell_of(tmp_path: Path) -> None:
    """As in a stripped musl: no frame information, no symbols but the exported ones."""
    site = "mov $39, %eax; syscall; ret"

    def hidden(name: str, body: str) -> str:
        return function(name, body, frame=False).replace(f".globl {name}", "")

    cases = {
        "called": (function("f", "call inner; ret") + hidden("inner", site), "mov"),
        "called by one that is called": (
            function("f", "call outer; ret") + hidden("outer", "nop; call inner; ret") + hidden("inner", site),
            "mov",
        ),
        "a tail call": (
            function("f", "test %edi, %edi; .byte 0x0f, 0x84; .long inner - . - 4; ret") + hidden("inner", site),
            "mov",
        ),
        "pointed to": (
            hidden("inner", site) + function("f", "ret") + '.section .data.rel, "aw"; .quad inner; .text\n',
            "mov",
        ),
        "not called": (function("f", "ret") + hidden("inner", site), sites.NO_FUNCTION),
        "called by data": (
            function("f", "ret; call inner; nop") + hidden("inner", site),
            sites.NO_FUNCTION,
        ),
        "called by what is not called": (
            function("f", "ret") + hidden("outer", "call inner; ret") + hidden("inner", site),
            sites.NO_FUNCTION,
        ),
        "its address is taken": (
            function("f", "lea inner(%rip), %rax; ret") + hidden("inner", site),
            sites.NO_FUNCTION,
        ),
    }
    for name, (source, expected) in cases.items():
        path = assemble(tmp_path, name.replace(" ", "_"), source)
        subprocess.run(["strip", "-s", path], check=True, timeout=60)
        assert list(forms(path).values()) == [expected], name
        learned = forms(path, frozenset(forms(path)))
        proved = expected == "mov" or name == "its address is taken"
        assert (sites.NO_FUNCTION not in learned.values()) is proved, name


def test_jump_tables_are_followed(tmp_path: Path) -> None:
    cases = "; ".join(f"{i}: mov ${i + 100}, %eax; xor %edx, %edx; syscall; ret" for i in range(1, 5))
    body = (
        "cmp $3, %edi; ja 9f; mov %edi, %edi; lea table(%rip), %rdx; movslq (%rdx,%rdi,4), %rax; add %rdx, %rax;"
        f"notrack jmp *%rax; {cases}; 9: ret;"
    )
    table = ".section .rodata; table: " + "; ".join(f".long case{i} - table" for i in range(1, 5)) + "; .text\n"
    named = re.sub(r"\b([1-4]): mov", r"case\1: mov", body)
    path = assemble(tmp_path, "switch", table + function("f", named) + function("g", "ret"))
    assert len(forms(path)) == 4
    assert set(forms(path).values()) <= {"hop", "before", sites.NO_ROOM}, forms(path)
    # A table whose entries lead into the middle of instructions tells nothing.
    broken = table.replace("case2 -", "1 + case2 -").replace("case1 -", "1 + case1 -")
    path = assemble(tmp_path, "broken", broken + function("f", named) + function("g", "ret"))
    assert set(forms(path).values()) == {sites.NOT_REACHED}


PAGE_ZERO = {
    "a number just before": ("mov $39, %eax; syscall; ret", True),
    "a number before other instructions": ("mov $39, %eax; mov %rdi, %rsi; xor %edi, %edi; syscall; ret", True),
    "from memory": ("mov (%rdi), %eax; syscall; ret", False),
    "an argument": ("mov %edi, %eax; syscall; ret", False),
    "too large a number": ("mov $512, %eax; syscall; ret", False),
    "changed meanwhile": ("mov $39, %eax; add %edi, %eax; syscall; ret", False),
    "a byte of it changed": ("mov $39, %eax; mov %dil, %al; syscall; ret", False),
    "a branch to the call": ("mov $39, %eax; jmp 1f; 2: mov $40, %eax; 1: syscall; jz 2b; ret", False),
    "a branch between": ("mov $39, %eax; 1: mov %rdi, %rsi; syscall; dec %eax; jnz 1b; ret", False),
    "across a call": ("mov $39, %eax; call g; syscall; ret", False),
    "the red zone": ("mov %edi, -8(%rsp); mov $39, %eax; syscall; mov -8(%rsp), %eax; ret", False),
    "the red zone, by rbp": (
        "push %rbp; mov %rsp, %rbp; mov %edi, -8(%rbp); mov $39, %eax; syscall; pop %rbp; ret",
        False,
    ),
    "a frame of its own": (
        "push %rbp; mov %rsp, %rbp; sub $16, %rsp; mov %edi, -8(%rbp); call g; mov $39, %eax; syscall; leave; ret",
        True,
    ),
}


@pytest.mark.parametrize("what", PAGE_ZERO)
def test_what_may_call_page_zero(what: str, tmp_path: Path) -> None:
    body, may = PAGE_ZERO[what]
    path = assemble(tmp_path, "zero", function("f", body) + function("g", "ret"))
    with open(path, "rb") as f:
        found = text.read(f.fileno())
        assert found is not None
        got = [s.form for s in sites.find_sites(found, frozenset(), True).sites]
    assert ("zpoline" in got) is may and got, got
