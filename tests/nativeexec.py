"""What the host's own execve does with a file: the loader's oracle.

Layer: tests. Touches one child at a time, stopped by ptrace(2) before its first instruction and then killed,
so that not even a mangled program gets to run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from dataclasses import dataclass, field

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ADDR_NO_RANDOMIZE = 0x0040000
_PTRACE_TRACEME = 0


@dataclass
class Native:
    """How a native execve ended: `errno` (0: it went on), `died` if Linux killed it within execve."""

    errno: int = 0
    died: bool = False
    maps: list[tuple[int, int, str, int, str]] = field(default_factory=list)  # start, end, rwxp, offset, path
    auxv: list[tuple[int, int]] = field(default_factory=list)
    stack: bytes = b""
    sp: int = 0
    start_brk: int = 0
    comm: str = ""
    exe: str = ""


def execve(path: bytes, argv: list[bytes], envp: list[bytes]) -> Native:
    """Execute `path` without address space randomisation up to its first instruction, look, kill it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            _libc.personality(ADDR_NO_RANDOMIZE)
            if _libc.ptrace(_PTRACE_TRACEME, 0, None, None) != 0:
                os._exit(99)
            array = ctypes.c_char_p * (len(argv) + 1)
            env_array = ctypes.c_char_p * (len(envp) + 1)
            _libc.execve(ctypes.c_char_p(path), array(*argv, None), env_array(*envp, None))
            os.write(write, struct.pack("i", ctypes.get_errno()))
        finally:
            os._exit(98)
    os.close(write)
    reaped = False
    try:
        _, status = os.waitpid(pid, os.WUNTRACED)
        reaped = not os.WIFSTOPPED(status)
        with os.fdopen(read, "rb") as f:
            failure = f.read(4)
        if failure:
            return Native(errno=struct.unpack("i", failure)[0])
        if reaped:
            if os.WIFEXITED(status):
                raise RuntimeError("ptrace is not available here")
            return Native(died=True)
        if os.WSTOPSIG(status) != signal.SIGTRAP:
            return Native(died=True)
        return _look(pid)
    finally:
        if not reaped:
            os.kill(pid, signal.SIGKILL)
            while not (os.WIFSIGNALED(status) or os.WIFEXITED(status)):
                _, status = os.waitpid(pid, 0)


def _look(pid: int) -> Native:
    result = Native(exe=os.readlink(f"/proc/{pid}/exe"))
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            words = line.rstrip("\n").split(maxsplit=5)
            start, end = (int(x, 16) for x in words[0].split("-"))
            path = words[5] if len(words) > 5 else ""
            result.maps.append((start, end, words[1], int(words[2], 16), path))
    with open(f"/proc/{pid}/auxv", "rb") as b:
        raw = b.read()
    result.auxv = list(struct.iter_unpack("<QQ", raw))
    with open(f"/proc/{pid}/stat") as f:
        stat = f.read()
    result.comm = stat[stat.index("(") + 1 : stat.rindex(")")]
    numbers = stat.rpartition(")")[2].split()
    result.start_brk = int(numbers[44])  # field 47 of proc_pid_stat(5)
    stack = next(m for m in result.maps if m[4] == "[stack]")
    result.sp = int(numbers[25])  # field 28: startstack
    with open(f"/proc/{pid}/mem", "rb", 0) as b:
        b.seek(result.sp)
        result.stack = b.read(stack[1] - result.sp)
    return result
