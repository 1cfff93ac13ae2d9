"""The loader against the host's own execve: the same errno, the same mappings, the same stack.

Each file, sound or mangled, is given to both. The host's process is stopped before its first instruction.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import nativeexec
import pytest

from ring3.loader import plan as P
from ring3.loader.elf import ElfImage
from ring3.loader.plan import LayoutContext, Opened, Plan
from ring3.loader.prepare import prepare

NO_RANDOM = 0x0040000
ENV = [b"PATH=/bin:/usr/bin", b"EMPTY=", b"LANG=C.UTF-8"]
IGNORED_AUX = {33}  # AT_SYSINFO_EHDR: the host's vDSO is hidden
STACK_ADDRESSES = {15, 25, 31}  # AT_PLATFORM, AT_RANDOM, AT_EXECFN: compared by what they point to

PROGRAM = r"""
__attribute__((section(".data"))) char data[5000] = "data";
char bss[20000];
void _start(void) { __asm__ volatile("mov $60, %eax; mov $42, %edi; syscall; hlt"); }
"""


def open_exec(path: bytes) -> Opened:
    """What the kernel side does, in terms of the host: permission and type as execve checks them."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if not mode & 0o111 or mode & 0o170000 != 0o100000:
        os.close(fd)
        raise OSError(errno.EACCES, "not executable")
    return Opened(fd, path, None, mode)


def ours(path: bytes, argv: list[bytes], envp: list[bytes], native: nativeexec.Native) -> Plan | int:
    """The plan for the same addresses as the host's, or the errno."""
    try:
        prepared = prepare(open_exec, path, argv, envp)
    except OSError as e:
        return e.errno or -1
    stack_top = next((m[1] for m in native.maps if m[4] == "[stack]"), P.TASK_SIZE)
    top = 0x7FFFF7FFF000
    # The host places an interpreter or a static PIE by its own map of the address space: take its word.
    aux = dict(native.auxv)
    if native.maps and prepared.interp_image is not None:
        top = _top(aux[7], prepared.interp_image, top)
    elif native.maps:
        top = _top(aux[9] - prepared.image.e_entry, prepared.image, top)
    ids = {"uid": os.getuid(), "euid": os.geteuid(), "gid": os.getgid(), "egid": os.getegid()}
    result = prepared.layout(LayoutContext(stack_top, top, personality=NO_RANDOM, **ids))
    result.close()
    return result


def _top(bias: int, image: ElfImage, default: int) -> int:
    """The address below which the host placed an image that it found room for."""
    if not image.loads:
        return default
    base = bias + (image.loads[0].p_vaddr & -P.PAGE)
    return base + (image.total_mapping_size() + P.PAGE - 1 & -P.PAGE) if base >= 1 << 40 else default


def pages_of(plan: Plan, names: list[str]) -> dict[int, tuple[str, int, str]]:
    """Page address -> (rwx, file offset, file) after the plan's mmaps, in their order."""
    pages: dict[int, tuple[str, int, str]] = {}
    for s in plan.segments:
        rwx = "".join(c if s.prot & b else "-" for c, b in (("r", 1), ("w", 2), ("x", 4)))
        for at in range(0, s.length, P.PAGE):
            file = (rwx, s.offset + at, names[s.file]) if s.file >= 0 else (rwx, 0, "")
            pages[s.addr + at] = file
    return pages


def pages_of_native(native: nativeexec.Native) -> dict[int, tuple[str, int, str]]:
    pages: dict[int, tuple[str, int, str]] = {}
    for start, end, perms, offset, path in native.maps:
        if path.startswith("[") and path != "[heap]":
            continue
        for at in range(0, end - start, P.PAGE):
            anonymous = path in ("", "[heap]")
            pages[start + at] = (perms[:3], 0, "") if anonymous else (perms[:3], offset + at, path)
    return pages


def agree(path: Path, argv: list[bytes] | None = None, envp: list[bytes] | None = None) -> str:
    """Compare both; return what happened ("errno NAME", "died", "ran"). Raises AssertionError."""
    argv, envp = argv if argv is not None else [b"name", b"arg"], envp if envp is not None else ENV
    native = nativeexec.execve(bytes(path), argv, envp)
    plan = ours(bytes(path), argv, envp, native)
    if isinstance(plan, int):
        assert native.errno == plan, f"ring3 says {errno.errorcode[plan]}, Linux {native}"
        return f"errno {errno.errorcode[plan]}"
    assert native.errno == 0, f"ring3 goes on ({plan.fatal}), Linux says {errno.errorcode[native.errno]}"
    if plan.fatal is not None:
        assert native.died or "ring3's own" in plan.fatal, f"{plan.fatal}: Linux goes on: {native.maps}"
        return "died"
    if native.died:
        # Only the mmaps themselves can still fail: below vm.mmap_min_addr, into the stack, no file page.
        return "died later"
    names = [native.exe]
    if len(plan.segments) and any(s.file == 1 for s in plan.segments):
        names.append(next(m[4] for m in native.maps if m[0] == dict(native.auxv)[7]))
    assert pages_of(plan, names) == pages_of_native(native)
    assert plan.brk == native.start_brk
    assert [a for a in _auxv(plan.auxv) if a[0] not in STACK_ADDRESSES] == [
        a for a in native.auxv if a[0] not in STACK_ADDRESSES | IGNORED_AUX
    ]
    return "ran"


def _auxv(raw: bytes) -> list[tuple[int, int]]:
    return list(struct.iter_unpack("<QQ", raw))


@pytest.fixture(scope="module")
def programs(session_dir: Path) -> dict[str, Path]:
    """A tiny program as ET_EXEC, static PIE, and dynamic PIE."""
    folder = session_dir / "loader"
    folder.mkdir()
    source = folder / "tiny.c"
    source.write_text(PROGRAM)
    flags = {
        "exec": ["-static", "-no-pie", "-nostdlib"],
        "static-pie": ["-static-pie", "-fPIE", "-nostdlib"],
        "pie": ["-pie", "-fPIE", "-nostdlib", "-Wl,--dynamic-linker=/lib64/ld-linux-x86-64.so.2"],
        "aligned": ["-pie", "-fPIE", "-nostdlib", "-Wl,-z,max-page-size=0x200000"],
        "exec-stack": ["-static", "-no-pie", "-nostdlib", "-Wl,-z,execstack"],
    }
    result = {}
    for name, options in flags.items():
        result[name] = folder / name
        subprocess.run(
            ["gcc", "-O1", *options, "-o", result[name], source], check=True, stderr=subprocess.DEVNULL
        )
    return result


@pytest.mark.parametrize("kind", ["exec", "static-pie", "pie", "aligned", "exec-stack"])
def test_each_kind_is_mapped_as_linux_maps_it(programs: dict[str, Path], kind: str) -> None:
    assert agree(programs[kind]) == "ran"


def test_system_programs_are_mapped_as_linux_maps_them() -> None:
    checked = 0
    for name in ("true", "ls", "bash", "python3", "gcc", "git", "busybox", "perl", "tar", "ld.so"):
        found = shutil.which(name)
        if found is not None and Path(found).read_bytes()[:4] == b"\x7fELF":
            assert agree(Path(os.path.realpath(found))) == "ran"
            checked += 1
    assert agree(Path(os.path.realpath("/lib64/ld-linux-x86-64.so.2"))) == "ran"
    assert checked >= 3


@pytest.mark.parametrize("argv", [[], [b""], [b"a"], [b"x" * 131071, b"b"], [b"%d" % i for i in range(1000)]])
def test_the_stack_is_built_as_linux_builds_it(programs: dict[str, Path], argv: list[bytes]) -> None:
    native = nativeexec.execve(bytes(programs["exec"]), argv, ENV)
    plan = ours(bytes(programs["exec"]), argv, ENV, native)
    assert isinstance(plan, Plan)
    # Without the host's vDSO our vector is one pair shorter; sp keeps its alignment.
    theirs, mine = _words(native.stack, native.sp), _words(plan.stack, plan.sp)
    assert plan.sp % 16 == 0
    assert mine[:3] == theirs[:3] == (argv or [b""], ENV, bytes(programs["exec"]))
    assert mine[3] == theirs[3] == b"x86_64"
    assert len(plan.stack) + plan.sp == len(native.stack) + native.sp
    assert plan.stack[-8:] == native.stack[-8:] == bytes(8)


def _words(stack: bytes, sp: int) -> tuple[list[bytes], list[bytes], bytes, bytes]:
    """argv, envp, the strings of AT_EXECFN and AT_PLATFORM, read as a program reads them."""

    def string(address: int) -> bytes:
        at = address - sp
        return stack[at : stack.index(b"\0", at)]

    def word(at: int) -> int:
        value: int = struct.unpack_from("<Q", stack, at)[0]
        return value

    argc, at = word(0), 8
    argv = [string(word(at + 8 * i)) for i in range(argc)]
    at += 8 * argc
    assert word(at) == 0
    at += 8
    envp = []
    while word(at):
        envp.append(string(word(at)))
        at += 8
    at += 8
    aux = {}
    while word(at):
        aux[word(at)] = word(at + 8)
        at += 16
    assert any(stack[aux[25] - sp : aux[25] - sp + 16])
    return argv, envp, string(aux[31]), string(aux[15])


SCRIPTS: dict[str, bytes] = {
    "plain": b"#!/bin/sh\n",
    "argument": b"#!/bin/sh -e\n",
    "blanks": b"#! \t /bin/sh \t -e  x \t \n",
    "no newline": b"#!/bin/sh",
    "no newline, argument": b"#!/bin/sh -x",
    "empty": b"#!",
    "empty line": b"#!\n",
    "only blanks": b"#!   \t \n",
    "only blanks to the end": b"#!" + b" " * 300,
    "nul": b"#!/bin/sh\0-e\n",
    "nul first": b"#!\0\n",
    "nul in argument": b"#!/bin/sh a\0b\n",
    "nul argument": b"#!/bin/sh \0b\n",
    "254": b"#!" + b"/" * 245 + b"bin/sh" + b"\n",
    "truncated name": b"#!" + b"/" * 300 + b"bin/sh\n",
    "name to 255": b"#!" + b"/" * 246 + b"bin/sh",
    "name to 255, blank after": b"#!" + b"/" * 247 + b"bin/sh" + b" \n",
    "name to 254, blank": b"#!" + b"/" * 246 + b"bin/sh" + b" x\n",
    "long argument": b"#!/bin/sh " + b"a" * 400 + b"\n",
    "missing": b"#!/no/such/interpreter\n",
    "directory": b"#!/bin\n",
    "relative": b"#!no-such\n",
    "carriage return": b"#!/bin/sh\r\n",
    "no magic": b"/bin/sh\n",
    "nothing": b"",
    "short elf": b"\x7fELF",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_start_as_linux_starts_them(tmp_path: Path, name: str) -> None:
    script = tmp_path / "script"
    script.write_bytes(SCRIPTS[name])
    script.chmod(0o755)
    compare_script(script)


def compare_script(script: Path) -> int:
    """Return the errno that both give, or 0 and the same argv, task name and program."""
    argv = [b"zero", b"one", b"two"]
    native = nativeexec.execve(bytes(script), argv, ENV)
    plan = ours(bytes(script), argv, ENV, native)
    if isinstance(plan, int):
        assert plan == native.errno, f"ring3 {errno.errorcode[plan]}, Linux {native.errno}"
        return plan
    assert native.errno == 0
    assert _words(plan.stack, plan.sp)[:3] == _words(native.stack, native.sp)[:3]
    assert plan.exe is not None and os.path.realpath(plan.exe.path) == os.fsencode(native.exe)
    assert plan.comm.decode() == native.comm
    return 0


@pytest.mark.parametrize(("depth", "expected"), [(1, 0), (4, 0), (5, 0), (6, errno.ELOOP), (9, errno.ELOOP)])
def test_scripts_nest_as_deep_as_linux_lets_them(tmp_path: Path, depth: int, expected: int) -> None:
    target = "/bin/sh"
    for i in range(depth):
        script = tmp_path / f"s{i}"
        script.write_text(f"#!{target} arg{i}\n")
        script.chmod(0o755)
        target = str(script)
    assert compare_script(Path(target)) == expected


def test_fuzzed_scripts_start_as_linux_starts_them(tmp_path: Path) -> None:
    rng = random.Random(2)
    script = tmp_path / "script"
    for _ in range(150):
        line = b"".join(
            rng.choice([b" ", b"\t", b"/bin/sh", b"\0", b"\n", b"x", b"/", b"a" * 60]) for _ in range(8)
        )
        script.write_bytes(b"#!" + line)
        script.chmod(0o755)
        compare_script(script)


def test_the_limits_of_arguments_are_linux_s(programs: dict[str, Path]) -> None:
    program = programs["exec"]
    string = 131072  # MAX_ARG_STRLEN, its NUL included
    assert agree(program, [b"x" * (string - 1)]) == "ran"
    assert agree(program, [b"x" * string]) == "errno E2BIG"
    assert agree(program, [b"a"], [b"E=" + b"x" * (string - 3)]) == "ran"
    assert agree(program, [b"a"], [b"E=" + b"x" * (string - 2)]) == "errno E2BIG"
    # RLIMIT_STACK / 4 bytes in all, the pointers included; the tests' own limit is the host's.
    import resource

    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    limit = 6 << 20 if soft == resource.RLIM_INFINITY else max(min(6 << 20, soft // 4), 131072)
    name = len(bytes(program)) + 1
    for spare, expected in ((0, "ran"), (-1, "errno E2BIG")):
        count = 40
        rest = limit - 8 * count - name - spare
        per = rest // count
        if per > string:
            pytest.skip(f"RLIMIT_STACK is {soft}")
        argv = [b"x" * (per - 1)] * (count - 1)
        argv.append(b"y" * (rest - per * (count - 1) - 1))
        assert agree(program, argv, []) == expected


def _mutations(data: bytes, rng: random.Random, phoff: int, phnum: int) -> bytes:
    """One to three changes to the headers: random bytes, interesting numbers, truncation."""
    image = bytearray(data)
    interesting = [0, 1, 2, 3, 63, 64, 4095, 4096, 4097, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    interesting += [
        1 << 46,
        (1 << 47) - 4096,
        1 << 47,
        (1 << 47) - 8192,
        1 << 63,
        (1 << 64) - 1,
        (1 << 64) - 4096,
    ]
    interesting += [0x210000000000, 0x400000, 0x401000, 0x3FF000]
    for _ in range(rng.randint(1, 3)):
        choice = rng.random()
        if choice < 0.25:
            image[rng.randrange(64)] = rng.randrange(256)
        elif choice < 0.35:
            field = rng.choice([(16, "H"), (18, "H"), (24, "Q"), (32, "Q"), (54, "H"), (56, "H")])
            value = rng.choice(interesting) & (0xFFFF if field[1] == "H" else (1 << 64) - 1)
            struct.pack_into("<" + field[1], image, field[0], value)
        elif choice < 0.95:
            header = phoff + 56 * rng.randrange(phnum)
            offset, code, bits = rng.choice(
                [
                    (0, "I", 32),
                    (4, "I", 32),
                    (8, "Q", 64),
                    (16, "Q", 64),
                    (32, "Q", 64),
                    (40, "Q", 64),
                    (48, "Q", 64),
                ]
            )
            old = struct.unpack_from("<" + code, image, header + offset)[0]
            new = rng.choice(
                [
                    rng.choice(interesting),
                    old + rng.choice([-4096, -1, 1, 8, 4096, 1 << 20]),
                    old ^ 1 << rng.randrange(bits),
                ]
            )
            if offset == 0 and rng.random() < 0.8:
                new = rng.choice([0, 1, 2, 3, 6, 0x6474E551, 0x6474E553])
            struct.pack_into("<" + code, image, header + offset, new & (1 << bits) - 1)
        else:
            del image[rng.randrange(len(image)) :]
            if len(image) < phoff + 56 * phnum:
                break
    return bytes(image)


@pytest.mark.parametrize("kind", ["exec", "static-pie", "pie", "aligned"])
def test_mangled_programs_end_as_on_linux(programs: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Seeded changes to the headers: the same errno, death or mappings as the host's."""
    data = programs[kind].read_bytes()
    count = int(os.environ.get("RING3_FUZZ", "120"))
    rng = random.Random(f"ring3 {kind}")
    phoff, phnum = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    seen: dict[str, int] = {}
    for i in range(count):
        mangled = tmp_path / f"m{i}"
        mangled.write_bytes(_mutations(data, rng, phoff, phnum))
        mangled.chmod(0o755)
        try:
            outcome = agree(mangled)
        except AssertionError as e:
            raise AssertionError(f"mutation {i} of {kind}: {e}") from None
        seen[outcome] = seen.get(outcome, 0) + 1
        mangled.unlink()
    assert {"ran", "errno ENOEXEC", "died"} <= set(seen), seen


def test_a_bad_interpreter_is_refused_as_linux_refuses_it(programs: dict[str, Path], tmp_path: Path) -> None:
    data = programs["pie"].read_bytes()
    name = b"/lib64/ld-linux-x86-64.so.2\0"
    at = data.index(name)
    interpreter = tmp_path / "i"
    os.symlink(tmp_path, link := Path(f"/tmp/r3-{os.getpid()}"))
    try:
        target = bytes(link / "i")
        program = tmp_path / "p"
        program.write_bytes(data[:at] + (target + b"\0").ljust(len(name), b"\0") + data[at + len(name) :])
        program.chmod(0o755)
        seen = set()
        changes: list[Callable[[bytes], bytes]] = [
            lambda d: d,
            lambda d: d[:63],
            lambda d: d[:64],
            lambda d: b"",
            lambda d: b"#!/bin/sh\n" + d,
            lambda d: d[:18] + b"\x03\0" + d[20:],
            lambda d: d[:16] + b"\x01\0" + d[18:],
            lambda d: d[:56] + b"\0\0" + d[58:],
        ]
        for change in changes:
            interpreter.write_bytes(change(programs["static-pie"].read_bytes()))
            interpreter.chmod(0o755)
            seen.add(agree(program))
        interpreter.chmod(0o644)
        seen.add(agree(program))
        interpreter.unlink()
        seen.add(agree(program))
        assert {"ran", "died", "errno ELIBBAD", "errno EIO", "errno EACCES", "errno ENOENT"} <= seen
    finally:
        link.unlink()


@pytest.mark.parametrize("phnum", [73, 74, 500, 1170, 1171])
def test_the_number_of_program_headers(programs: dict[str, Path], tmp_path: Path, phnum: int) -> None:
    data = bytearray(programs["exec"].read_bytes())
    phoff, old = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    table = bytes(data[phoff : phoff + 56 * old]) + bytes(56 * (phnum - old))
    struct.pack_into("<Q", data, 32, len(data))
    struct.pack_into("<H", data, 56, phnum)
    program = tmp_path / "many"
    program.write_bytes(bytes(data) + table)
    program.chmod(0o755)
    agree(program)
