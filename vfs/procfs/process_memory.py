"""/proc/PID: what a process has mapped and what the loader gave it (maps, smaps, mem, auxv, cmdline,
environ).

Layer: vfs/procfs, entries. May touch: the Process object (reading), the host's /proc of that process, and
through `mem` that process's memory.  The core's area is never shown, read or written.
"""

from __future__ import annotations

import errno
import os

from ...kernel.layout import CORE_BASE, CORE_END
from ..inode import err
from ..openfile import SEEK_CUR, SEEK_SET, OpenFile
from . import host, rewrite
from .table import Scope, process_file, process_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..inode import Inode, OpenContext
    from ..mount import Path

_PAGE = 4096
_CORE = (CORE_BASE, CORE_END)


def _mapped(scope: Scope, name: str) -> bytes:
    if not scope.fs.may_inspect(scope):
        raise err(errno.EACCES)  # Linux checks at open(2); the file has the same owner in either case
    if scope.is_init:
        return b""  # as of a process without memory of its own (a kernel thread)
    text = scope.read(name)
    root = scope.reader.fs.root if scope.reader is not None else None

    def resolve(dev: int, ino: int, shown: bytes) -> tuple[bytes, int, int] | None:
        if (dev, ino) == getattr(scope.process.sandbox, "core_ident", None):
            return b"[vdso]", 0, 0  # all that is mapped of the core's file outside the core's area
        return scope.fs.identify(dev, ino, shown, root)

    return rewrite.maps(text, resolve, scope.process.brk_range, _CORE)


@process_file("maps")
def maps(scope: Scope) -> bytes:
    """The mappings, named by the guest's paths."""
    return _mapped(scope, "maps")


@process_file("smaps")
def smaps(scope: Scope) -> bytes:
    """The mappings with their memory use."""
    return _mapped(scope, "smaps")


@process_file("smaps_rollup")
def smaps_rollup(scope: Scope) -> bytes:
    """The sums over all mappings, the core's few pages included."""
    return scope.read("smaps_rollup")


@process_file("auxv", mode=0o400)
def auxv(scope: Scope) -> bytes:
    """The auxiliary vector that the loader put on the stack."""
    return scope.process.auxv


def _area(scope: Scope, first: str, last: str) -> bytes | None:
    """The bytes of [mm.first, mm.last) as they are now, None where they cannot be had."""
    mm = getattr(scope.process, "mm", None)
    start, end = getattr(mm, first, None), getattr(mm, last, None)
    if not isinstance(start, int) or not isinstance(end, int) or not start:
        return None
    try:
        data = host.memory(scope.place, start, end - start)
    except OSError:
        return None
    return data if len(data) == end - start else None


def _gone(scope: Scope) -> bool:
    """Is it a zombie: its memory freed, its status not yet collected?"""
    return not scope.read("statm").strip(b"0 \n")


@process_file("cmdline")
def cmdline(scope: Scope) -> bytes:
    """The arguments, or the title that the program wrote over them."""
    args = _area(scope, "arg_start", "arg_end")
    if args is None:
        return b"" if _gone(scope) else scope.process.cmdline
    if args[-1:] != b"\0":
        return rewrite.title(args, _area(scope, "env_start", "env_end") or b"")
    return args


@process_file("environ", mode=0o400)
def environ(scope: Scope) -> bytes:
    """The environment that execve(2) gave, as the program left it."""
    found = _area(scope, "env_start", "env_end")
    if found is not None:
        return found
    return b"" if _gone(scope) else scope.process.environ


class OpenMem(OpenFile):
    """/proc/PID/mem: the process's memory by address, without the core's area (mem_rw in fs/proc/base.c)."""

    __slots__ = ("_place",)

    def __init__(self, path: Path, inode: Inode, flags: int, place: str) -> None:
        super().__init__(path, inode, flags)
        self._place = place

    def _open(self, flags: int, start: int, count: int) -> int:
        if start < CORE_END and start + count > CORE_BASE:
            raise err(errno.EIO)
        try:
            return os.open(f"{self._place}/mem", flags | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            raise err(errno.ESRCH) from None

    def pread(self, task: Any, count: int, offset: int) -> bytes:
        fd = self._open(os.O_RDONLY, offset, count)
        try:
            return os.pread(fd, count, offset)
        finally:
            os.close(fd)

    def pwrite(self, task: Any, data: bytes, offset: int) -> int:
        fd = self._open(os.O_RDWR, offset, len(data))
        try:
            return os.pwrite(fd, data, offset)
        finally:
            os.close(fd)

    def seek(self, offset: int, whence: int) -> int:
        """mem_lseek(): any offset, none relative to an end."""
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence != SEEK_SET:
            raise err(errno.EINVAL)
        self.pos = offset
        return offset


@process_object("mem", mode=0o600)
def mem(scope: Scope, ctx: OpenContext, inode: Inode) -> OpenFile:
    """The process's memory, for those who may trace it."""
    if scope.is_init or not scope.fs.may_inspect(scope):
        raise err(errno.EACCES)
    return OpenMem(ctx.path, inode, ctx.flags, scope.place)
