"""``ring3 gdb``: gdb on a guest, started for it or already running.

Part of: ring3 (the front door). May touch: what run_command.py may; gdb, as a child on the caller's terminal.

gdb runs on the host and traces the guest as any process: its calls go to the host kernel. The guest has told the host
who it is (core_native/main.c, describe_to_host), so gdb finds its program and libraries by itself; gdb_guest.py tells
the rest. A guest that is started here is stopped before its first instruction.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time

from .cli import add_limits, add_net_extras
from .errors import ExecError, Ring3Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from .kernel.initproc import Child

DESCRIPTION = """\
Debug a guest with gdb. With a PID (see ps: a guest shows as the program that it is) gdb attaches to a running guest;
with a program, that is started in a world of its own, as ring3 run does, and gdb stops at its entry point, when its
libraries are loaded.
"""
EPILOG = """\
examples:
  ring3 gdb -- ./program ARGUMENT     then: break main, continue
  ring3 gdb 4711
  ring3 gdb -x "break write" -x continue -x bt --batch -- ls
"""
_CORE_RANGE = (0x2100_0000_0000, 0x2110_0000_0000)
_SYMBOLS = ("sigsys_entry", "tail_end", "signal_entry", "safe_syscall", "clone_call", "fast_path", "fast_last",
            "enter_guest", "debugger_is_there")  # fmt: skip
_AT_PHDR, _AT_BASE, _AT_ENTRY, _AT_EXECFN = 3, 7, 9, 31


def parser_of(make: Callable[[str, str], argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The command line's parser; ``make(prog, description)`` makes an empty one."""
    parser = make("ring3 gdb", DESCRIPTION)
    parser.usage = "ring3 gdb [OPTION]... PID | ring3 gdb [OPTION]... -- PROGRAM [ARGUMENT]..."
    parser.epilog = EPILOG
    add = parser.add_argument
    add("-x", dest="commands", metavar="COMMAND", action="append", default=[], help="have gdb do COMMAND first")
    add("--batch", action="store_true", help="gdb ends after these commands")
    add("--starti", action="store_true", help="stop at the interpreter's (ld.so's) first instruction")
    add("--core", action="store_true", help="also load the symbols of ring3's own core")
    add("--gdb", metavar="FILE", default="gdb", help="which gdb (default: gdb)")
    add("-E", "--env", metavar="K[=V]", action="append", default=[], help="set an environment variable")
    add("-u", "--user", metavar="UID[:GID]", help="who the program is")
    add("--root", metavar="DIR", help="the host directory to see copy-on-write as / (default: /)")
    add("--volume", metavar="HOST:GUEST[:MODE]", action="append", default=[], help="as ring3 run -v")
    add("--net", metavar="MODE", action="append", default=[], help="as ring3 run --net")
    add("--publish", metavar="HOST:GUEST", action="append", default=[], help="as ring3 run -p")
    add_net_extras(parser, brief=True)
    add("--tmpfs", metavar="DIR", action="append", default=[], help="mount an empty memory filesystem")
    add("--workdir", metavar="DIR", help="the working directory in the world")
    add("--hostname", metavar="NAME", help="what the world's host is called")
    add("--rewrite", choices=("detour", "zpoline", "zpoline-unsafe", "off"), default="detour", help="as ring3 run")
    add_limits(parser, brief=True)
    add("--lockdown", choices=("on", "off"), default="on", help="as ring3 run")
    add("--require", choices=("none", "filter", "scoped", "full"), default="none", help="as ring3 run")
    add("command", nargs="...", metavar="PID | -- PROGRAM [ARGUMENT]...", help="what to debug")
    return parser


def debug(options: argparse.Namespace) -> int:
    """Carry out ``ring3 gdb``; return gdb's exit status."""
    command = options.command
    gdb = shutil.which(options.gdb)
    if gdb is None:
        raise UsageError(f"{options.gdb} is not installed (Debian, Ubuntu: apt-get install gdb)")
    if command and command[0] == "--":
        command = command[1:]
    elif len(command) == 1 and command[0].isdigit():
        return _attach(gdb, int(command[0]), options)
    if not command:
        raise UsageError("no process and no program given (try: ring3 gdb --help)")
    return _start(gdb, command, options)


def _attach(gdb: str, pid: int, options: argparse.Namespace) -> int:
    if not _is_guest(pid):
        raise UsageError(f"process {pid} is not a guest of ring3, or not yours to debug")
    return _run_gdb(gdb, pid, options)


def _start(gdb: str, command: list[str], options: argparse.Namespace) -> int:
    from . import run_command as run
    from .trace_command import fill_defaults

    stdio = run._standard_streams()
    fill_defaults(options)
    # Ctrl-C is for the guest and for gdb; nothing here may end by it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with run._sandbox(options, None) as box:
            child = box.spawn(command, stdio, stopped=True)
            _until_stopped(child)
            child.kill(signal.SIGCONT)  # it waits on for the debugger
            first = _first_instruction(child.host_pid, options.starti)
            return _run_gdb(gdb, child.host_pid, options, first)
    except ExecError as e:
        from .cli import complain

        return complain(f"cannot run {e.filename!r}: {e.strerror}", run._status_of(e))
    finally:
        signal.signal(signal.SIGINT, before)


def _until_stopped(child: Child) -> None:
    """Nobody tells who is not the parent; the core needs some milliseconds."""
    from .kernel.ends import state

    place = f"/proc/{child.host_pid}"
    while (letter := state(place)) not in "TtZX":
        time.sleep(0.002)
    if letter in "ZX":
        raise Ring3Error("the program ended before gdb could attach to it")


def _run_gdb(gdb: str, pid: int, options: argparse.Namespace, first: str | None = None) -> int:
    maps = list(_mappings(pid))
    core = next((name for start, _, name in maps if _CORE_RANGE[0] <= start < _CORE_RANGE[1] and name), "")
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gdb_guest.py")
    with tempfile.TemporaryDirectory(prefix="ring3-gdb-") as scratch:
        program = _program(pid, maps, scratch)
        words = [gdb, "-q", *(["--batch"] if options.batch else [])]
        for setting in (
            "set confirm off",
            "handle SIGSYS nostop noprint pass",
            "set startup-with-shell off",
            # where a guest is in a mount namespace of init's, gdb may not enter it
            f"set sysroot {options.root or '/'}",
        ):
            words += ["-iex", setting]
        words += [program, "-p", str(pid)]
        symbols = core_symbols(core)
        symbols["frames"] = core if options.core else _frames_only(core, scratch)
        setup = [f"python ring3_core = {symbols!r}", f"source {script}"]
        if first is not None:
            setup += [f"set {{int}}{symbols['debugger_is_there']:#x} = 1", f"tbreak *{first}", "continue"]
        for command in (*setup, *options.commands):
            words += ["-ex", command]
        return subprocess.run(words, check=False).returncode


def core_symbols(core: str) -> dict[str, str | int]:
    """What gdb_guest.py needs to know of the core's file: {"file": its path, symbol: address}."""
    from elftools.elf.elffile import ELFFile

    with open(core, "rb") as f:
        table: Any = ELFFile(f).get_section_by_name(".symtab")
        symbols = table.iter_symbols() if table is not None else ()
        found = {s.name: int(s["st_value"]) for s in symbols if s.name in _SYMBOLS}
    missing = [n for n in _SYMBOLS if n not in found]
    if missing:
        raise Ring3Error(f"{core} has no symbol {missing[0]}: was it stripped?")
    return {"file": core, **found}


def _frames_only(core: str, scratch: str) -> str:
    """A copy of the core in which gdb finds how to unwind it, but no names: `break write` is not to find ours."""
    from elftools.elf.elffile import ELFFile

    with open(core, "rb") as f:
        elf = ELFFile(f)
        header, size = elf["e_shoff"], elf["e_shentsize"]
        data = bytearray(f.seek(0) or f.read())
        for i, section in enumerate(elf.iter_sections()):
            name = section.name
            if name in (".symtab", ".strtab") or (name.startswith(".debug_") and name != ".debug_frame"):
                data[header + i * size + 4 : header + i * size + 8] = bytes(4)  # sh_type: SHT_NULL
    copy = os.path.join(scratch, "ring3-core-frames")
    with open(copy, "wb") as out:
        out.write(data)
    return copy


def _mappings(pid: int) -> Iterator[tuple[int, int, str]]:
    """(start, file offset, file's path) of each mapping."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as f:
            for line in f:
                words = line.rstrip("\n").split(maxsplit=5)
                yield int(words[0].partition("-")[0], 16), int(words[2], 16), words[5] if len(words) > 5 else ""
    except OSError:
        return


def _is_guest(pid: int) -> bool:
    return any(
        _CORE_RANGE[0] <= start < _CORE_RANGE[1] and "ring3-world" in name for start, _, name in _mappings(pid)
    )


def _auxv(pid: int) -> dict[int, int]:
    try:
        with open(f"/proc/{pid}/auxv", "rb") as f:
            data = f.read()
    except OSError:
        return {}
    return dict(struct.iter_unpack("<QQ", data[: len(data) & -16]))


def _first_instruction(pid: int, starti: bool) -> str:
    """A gdb expression: where the program starts, or, for `starti`, where its interpreter does."""
    auxv = _auxv(pid)
    base = auxv.get(_AT_BASE, 0)
    if starti and base:
        return f"({base:#x} + *(unsigned long *){base + 24:#x})"  # e_entry of its ELF header
    return f"{auxv.get(_AT_ENTRY, 0):#x}"


def _program(pid: int, maps: list[tuple[int, int, str]], scratch: str) -> str:
    """A file with the symbols of the program of `pid`: its own on the host, or a copy out of the guest's world."""
    phdr = _auxv(pid).get(_AT_PHDR, 0)
    name = next((name for start, _, name in reversed(maps) if start <= phdr), "")
    if name.startswith("/") and not name.startswith("/memfd:") and os.path.exists(name):
        return name
    name = os.fsdecode(_execfn(pid))
    if "ring3-text" not in name and os.path.exists(name) and not name.startswith("/dev/fd/"):
        return name
    copy = os.path.join(scratch, os.path.basename(name) or "program")
    start = next(start for start, _, _ in reversed(maps) if start <= phdr)
    try:
        where = next(n for n in os.listdir(f"/proc/{pid}/map_files") if int(n.partition("-")[0], 16) == start)
        shutil.copyfile(f"/proc/{pid}/map_files/{where}", copy)  # for those who have CAP_SYS_ADMIN
    except (OSError, StopIteration):
        raise Ring3Error(
            f"the program {name} lies in the guest's memory: copy it to the host, or debug as root"
        ) from None
    return copy


def _execfn(pid: int) -> bytes:
    """AT_EXECFN: the name by which the program was executed, in the guest's world."""
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as mem:
            mem.seek(_auxv(pid).get(_AT_EXECFN, 0))
            return mem.read(4096).partition(b"\0")[0]
    except OSError:
        return b""
