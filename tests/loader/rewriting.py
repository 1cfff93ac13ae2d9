"""What the tests of rewriting share: files of this machine to rewrite, small ones made with gcc, patched copies.

Layer: tests. Touches the session's directory; runs gcc, musl-gcc and go.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from ring3.loader import elf
from ring3.loader.plan import PAGE
from ring3.loader.rewrite import Rewrite

PT_NOTE, PT_GNU_PROPERTY, PT_GNU_STACK = 4, 0x6474E553, 0x6474E551
_PHDR = struct.Struct("<IIQQQQQQ")


def real_files() -> dict[str, Path]:
    """Programs and libraries of this machine, by a short name; only those that are there."""
    wanted = {
        "libc": ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"],
        "ld.so": ["/lib64/ld-linux-x86-64.so.2"],
        "busybox": ["/bin/busybox", "/usr/bin/busybox"],
        "python3": ["/usr/bin/python3"],
        "dash": ["/bin/dash"],
        "musl": ["/lib/ld-musl-x86_64.so.1"],
        "go": ["/usr/lib/go/bin/go", "/usr/lib/go-1.19/bin/go", "/usr/local/go/bin/go"],
    }
    found = {}
    for name, places in wanted.items():
        for place in places:
            if os.path.exists(place):
                found[name] = Path(place).resolve()
                break
    return found


def assemble(directory: Path, name: str, source: str, *flags: str) -> Path:
    """Make a shared library without libc from assembly; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    text, out = directory / f"{name}.S", directory / f"{name}.so"
    text.write_text(source)
    command = [
        "gcc",
        "-shared",
        "-nostdlib",
        "-Wl,-z,noexecstack",
        "-Wl,--build-id=none",
        "-Wl,-Bsymbolic",
        *flags,
    ]
    subprocess.run([*command, "-o", str(out), str(text)], check=True, timeout=60)
    return out


def function(name: str, body: str, frame: bool = True) -> str:
    """The assembly of a global function, aligned to 32 and padded with nops behind."""
    start, end = (".cfi_startproc", ".cfi_endproc") if frame else ("", "")
    return f"""
        .text
        .balign 32
        .globl {name}
        .type {name}, @function
{name}: {start}
        {body}
        {end}
        .size {name}, . - {name}
        .balign 32
"""


def content(path: Path) -> bytes:
    """The whole file."""
    return path.read_bytes()


def image(made: Rewrite) -> bytes:
    """The whole memfd."""
    return os.pread(made.memfd, made.size, 0)


def patched_copy(source: Path, made: Rewrite, out: Path, entry_stub: bytes = b"", entry_at: int = 0) -> None:
    """Write an ELF file that is ``source`` rewritten, for the kernel to load: the trampolines are a segment more.

    ``entry_stub`` is code for the page of ``entry_at``, if the file is to bring it along.
    """
    data = bytearray(content(source).ljust(made.tramp_offset, b"\0"))
    patched = image(made)
    for offset, length, _ in made.segments:
        data[offset : offset + length] = patched[offset : offset + length]
    data += patched[made.tramp_offset :]
    added = [(made.delta, made.tramp_offset, made.tramp_length)]
    if entry_stub:
        added.append((entry_at & -PAGE, len(data), PAGE))
        data += b"\xcc" * (entry_at % PAGE) + entry_stub.ljust(PAGE - entry_at % PAGE, b"\xcc")
    phoff = int.from_bytes(data[32:40], "little")
    count = int.from_bytes(data[56:58], "little")
    headers = [_PHDR.unpack_from(data, phoff + i * _PHDR.size) for i in range(count)]
    victims = [h for kind in (PT_NOTE, PT_GNU_PROPERTY, PT_GNU_STACK) for h in headers if h[0] == kind]
    for victim in victims[: len(added)]:
        headers.remove(victim)
    assert len(victims) >= len(added), "no program header to spare"
    last = max(i for i, h in enumerate(headers) if h[0] == elf.PT_LOAD)
    rows = [(elf.PT_LOAD, elf.PF_R | elf.PF_X, off, at, at, size, size, PAGE) for at, off, size in added]
    headers[last + 1 : last + 1] = rows
    for i, h in enumerate(headers):
        _PHDR.pack_into(data, phoff + i * _PHDR.size, *h)
    out.write_bytes(data)
    out.chmod(0o755)


def go_program(directory: Path) -> Path | None:
    """A static Go program that reads a directory and uses goroutines; None without Go."""
    go = shutil.which("go")
    if go is None:
        return None
    out = directory / "gohello"
    if not out.exists():
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "hello.go").write_text(
            'package main\nimport ("fmt"; "os"; "sync")\nfunc main() {\n\tvar g sync.WaitGroup\n'
            '\tfor i := 0; i < 8; i++ { g.Add(1); go func() { defer g.Done(); os.ReadDir("/etc") }() }\n'
            "\tg.Wait()\n\tfmt.Println(os.Getpid() > 0, len(os.Args))\n}\n"
        )
        env = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(directory / "gocache"), "GO111MODULE": "off"}
        subprocess.run(["go", "build", "-o", out, directory / "hello.go"], check=True, env=env, timeout=110)
        shutil.rmtree(directory / "gocache", ignore_errors=True)
    return out
