"""What a hook gets: the call, its arguments by name, the guest's memory.

Layer: the pretend kernel, hooks.  May touch: guest memory (process_vm_readv and _writev), the tree, reading.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from ..handlers import InstallFd
from ..layout import CONSTANTS
from ..table import TABLE, Sys
from ..trace.formats import argument_names
from .pending import Proceed, sleep, thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..dispatch import Request
    from ..loop import Event
    from ..task import FdRef, Task

_NULL = CONSTANTS["RING3_NULL"]
_VECTOR = CONSTANTS["BUFFER_VECTOR"]
_MASK = (1 << 64) - 1
_MARSHALLED = ("small", "path", "path?", "str", "str?", "in", "inbuf", "iov", "inout")
_UNKNOWN_ARGS = [("uint", 0)] * 6
#: which arguments come with their bytes, by number of the call
_INPUTS: dict[int, list[int]] = {
    nr: [i for i, (kind, _) in enumerate(s.args) if kind in _MARSHALLED] for nr, s in TABLE.items()
}


class Memory:
    """The memory of the process that makes the call.

    Addresses are the guest's.  Everything raises OSError(EFAULT) where the guest has no such memory: let it pass, and
    the guest's call fails with EFAULT, as it would by the kernel's own hand.
    """

    __slots__ = ("_pid", "_pending")

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._pending: list[tuple[int, bytes]] = []  # what an answer is about to write

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        from ..channel import read_memory

        for at, data in self._pending:
            if at <= address and address + size <= at + len(data):
                return data[address - at : address - at + size]
        return read_memory(self._pid, address, size) if size else b""

    def write(self, address: int, data: bytes) -> None:
        """Write `data` at `address`, which must be memory that the guest itself may write."""
        from ..channel import write_memory

        if data:
            write_memory(self._pid, address, bytes(data))

    def read_str(self, address: int, limit: int = 4096) -> str:
        """The string at `address`, up to its NUL or `limit` bytes; as os.fsdecode."""
        return os.fsdecode(self.read_cstring(address, limit))

    def read_cstring(self, address: int, limit: int = 4096) -> bytes:
        """The same as bytes."""
        out = b""
        while len(out) < limit:
            step = min(limit - len(out), 4096 - address % 4096)  # never over the end of a page
            piece = self.read(address, step)
            end = piece.find(b"\0")
            if end >= 0:
                return out + piece[:end]
            out += piece
            address += step
        return out

    def read_words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` unsigned 64-bit words."""
        return struct.unpack(f"<{count}Q", self.read(address, 8 * count))

    def read_vector(self, address: int, limit: int = 4096) -> list[bytes]:
        """A vector of strings that ends with NULL (argv, envp)."""
        out: list[bytes] = []
        while address and len(out) < limit:
            (at,) = self.read_words(address, 1)
            if not at:
                break
            out.append(self.read_cstring(at, 131072))
            address += 8
        return out


class Arguments:
    """The decoded arguments of a call, by position and by name (those of the manual pages).

    int, and for a descriptor its number; str for a path or a name; bytes for a buffer that the call reads; a list of
    (address, length) for iovecs; a list of str for argv and envp; an address for memory that the call writes; None for
    NULL.  Setting one changes the call: an int is the raw argument, str and bytes become a buffer that the argument
    points to (and the argument that holds its length follows), a list of str or bytes an argv or envp.
    """

    __slots__ = ("_call", "_given", "_inputs", "names")

    def __init__(self, call: Call, inputs: dict[int, bytes]) -> None:
        self._call = call
        self._inputs = inputs
        self._given: dict[int, Any] = {}
        self.names = argument_names(call.nr)

    def _index(self, key: int | str) -> int:
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"{self._call.name} has no argument {key!r}: {', '.join(self.names)}")
            return self.names.index(key)
        if not -len(self.names) <= key < len(self.names):
            raise IndexError(f"{self._call.name} has {len(self.names)} arguments")
        return key % len(self.names)

    def __getitem__(self, key: int | str) -> Any:
        i = self._index(key)
        return self._given[i] if i in self._given else self._decode(i)

    def __setitem__(self, key: int | str, value: int | str | bytes | Sequence[str | bytes]) -> None:
        i = self._index(key)
        if isinstance(value, (list, tuple)) and self._call.kinds[i][0] == "strv":
            strings = [os.fsencode(s) for s in value]
            if any(b"\0" in s for s in strings):
                raise ValueError(f"a string of {key} has a NUL: {value!r}")
            self._given[i] = strings
            return
        if not isinstance(value, (int, str, bytes, bytearray, memoryview, os.PathLike)):
            raise TypeError(f"an argument is an int, a str or bytes (a list of them for argv), not {value!r}")
        self._given[i] = (
            value
            if isinstance(value, (int, str))
            else os.fspath(value)
            if isinstance(value, os.PathLike)
            else bytes(value)
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as e:
            raise AttributeError(str(e)) from None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self.names)))

    def __repr__(self) -> str:
        return ", ".join(f"{n}={v!r}" for n, v in zip(self.names, self, strict=True))

    def _decode(self, i: int) -> Any:
        kind, value = self._call.kinds[i][0], self._call.raw[i]
        if kind in ("int", "pid", "fd", "dirfd"):
            return (value & 0x7FFFFFFF) - (value & 0x80000000)
        if kind == "u32":
            return value & 0xFFFFFFFF
        if kind == "long":
            return value - (value >> 63 << 64)
        if kind == "strv":
            return [os.fsdecode(s) for s in self._call.memory.read_vector(value)]
        if kind not in _MARSHALLED or kind == "inout":
            return value
        data = self._inputs.get(i)
        if data is None:
            return None
        if kind in ("inbuf", "small", "in"):
            return data
        if kind == "iov":
            return [struct.unpack_from("<QQ", data, at) for at in range(0, len(data) - 15, 16)]
        return os.fsdecode(data)

    def changes(self) -> tuple[list[int], list[tuple[int, bytes]]] | None:
        """The raw arguments and the buffers [(argument, bytes)] of a changed call; None of an unchanged one."""
        if not self._given:
            return None
        raw, buffers = list(self._call.raw), []
        for i, value in self._given.items():
            if isinstance(value, int):
                raw[i] = value & _MASK
                continue
            if isinstance(value, list):
                buffers.append((i | _VECTOR, _vector(value)))
                continue
            kind, parameter = self._call.kinds[i]
            data = os.fsencode(value) if isinstance(value, str) else value
            if kind in ("inbuf", "small") and parameter not in self._given:
                raw[parameter] = len(data)
            # An address has no length: what is a string for the call ends with NUL, and elsewhere it does no harm.
            buffers.append((i, data + b"\0"))
        return raw, buffers


def _vector(strings: list[bytes]) -> bytes:
    """argv or envp as the core takes it: offsets of the strings, 0, the strings."""
    at = 8 * (len(strings) + 1)
    offsets = []
    for s in strings:
        offsets.append(at)
        at += len(s) + 1
    return struct.pack(f"<{len(offsets) + 1}Q", *offsets, 0) + b"".join(s + b"\0" for s in strings)


class Call:
    """A system call that a guest makes.

    `name` and `nr`; `args` (see Arguments); `pid`, `tid`, `program` (the path of the program's file), `ip` and `sp`
    (instruction and stack pointer); `memory`; `result` once it has been made: what the guest will get, -errno for an
    error.  `task` is the pretend kernel's own view.
    """

    __slots__ = ("_args", "_memory", "_paths", "_request", "kinds", "name", "note", "nr", "raw", "result", "signal",
                 "sys", "task", "valid")  # fmt: skip

    def __init__(self, task: Task, request: Request) -> None:
        self.task = task
        self.nr = request.nr
        self.sys: Sys | None = TABLE.get(request.nr)
        self.name = self.sys.name if self.sys is not None else f"syscall_{request.nr & _MASK:#x}"
        self.kinds = self.sys.args if self.sys is not None else _UNKNOWN_ARGS
        self.raw = request.args
        self.valid = request.result == 0  # every argument could be read
        self.result: int | None = None
        self.signal = 0  # to be sent with the result
        self.note = ""  # what the trace says of a fault
        self._request = request
        self._paths: list[str] | None = None
        self._args: Arguments | None = None
        self._memory: Memory | None = None

    @property
    def ip(self) -> int:
        return self._request.ip

    @property
    def sp(self) -> int:
        return self._request.sp

    @property
    def memory(self) -> Memory:
        if self._memory is None:
            self._memory = Memory(self.task.process.host_pid)
        return self._memory

    @property
    def args(self) -> Arguments:
        """Made when first asked for, or when the slot is about to be used for the call's answer (registry.py)."""
        if self._args is None:
            self._args = Arguments(self, self._inputs())
        return self._args

    def _inputs(self) -> dict[int, bytes]:
        channel, raw, inputs = self.task.process.channel, self._request.raw, {}
        for i in _INPUTS.get(self.nr, ()):
            if raw[17 + i] != _NULL and channel is not None and not channel.closed:
                inputs[i] = channel.data(self.task.slot, raw[11 + i], raw[17 + i])
        return inputs

    @property
    def changed(self) -> bool:
        """Has a hook set an argument?"""
        return self._args is not None and bool(self._args._given)

    @property
    def pid(self) -> int:
        return self.task.process.pid

    @property
    def host_pid(self) -> int:
        """The process's number on the host, which may be another (docs/lockdown.md)."""
        return self.task.process.host_pid

    @property
    def tid(self) -> int:
        return self.task.tid

    @property
    def program(self) -> str:
        """The path of the program's file in the guest's world."""
        process = self.task.process
        if process.exe is None:
            return os.fsdecode(process.comm)
        return os.fsdecode(self.task.sandbox.vfs.path_name(process.exe))

    @property
    def error(self) -> str | None:
        """The name of the errno with which the call failed: "ENOENT"; None before it is made and for success."""
        if self.result is None or self.result >= 0:
            return None
        return errno.errorcode.get(-self.result, str(-self.result))

    def input(self, i: int) -> bytes | None:
        """The bytes that argument `i` pointed to when the call was made."""
        return self.args._inputs.get(i)

    def fd_ref(self, i: int) -> FdRef | None:
        """What the descriptor of argument `i` is; None if it is none, or AT_FDCWD, or not open."""
        fds = iter(self._request.fds)
        for k, (kind, _) in enumerate(self.kinds):
            if kind in ("fd", "dirfd"):
                ref = next(fds, None)
                if k == i:
                    return ref if ref is not None and ref.ino else None
        return None

    def fd_path(self, ref: FdRef) -> str | None:
        """The path that a descriptor was opened by, None for what has no name in the world."""
        vfs = self.task.sandbox.vfs
        record = vfs.files.get(ref.dev, ref.ino)
        return os.fsdecode(vfs.path_name(record.path)) if record is not None else None

    @property
    def paths(self) -> list[str]:
        """Every path that the call names, absolute, and the paths of its descriptors."""
        if self._paths is None:
            self._paths = self._find_paths()
        return self._paths

    def _find_paths(self) -> list[str]:
        out: list[str] = []
        base: str | None = None
        vfs, task = self.task.sandbox.vfs, self.task
        cwd = os.fsdecode(vfs.path_name(task.fs.cwd, task.fs.root))
        for i, (kind, _) in enumerate(self.kinds):
            if kind in ("fd", "dirfd"):
                ref = self.fd_ref(i)
                base = self.fd_path(ref) if ref is not None else None
                if base is not None:
                    out.append(base)
            elif kind in ("path", "path?"):
                data = self.input(i)
                if data:
                    out.append(os.path.normpath(os.path.join(base or cwd, os.fsdecode(data))))
        return out

    @property
    def fd_kinds(self) -> list[str]:
        """What the descriptors of the call are: see filters.FD_KINDS."""
        return [self._kind(ref) for i in range(len(self.kinds)) if (ref := self.fd_ref(i)) is not None]

    def _kind(self, ref: FdRef) -> str:
        record = self.task.sandbox.vfs.files.get(ref.dev, ref.ino)
        mode = record.inode.mode if record is not None else ref.mode
        if stat.S_ISCHR(mode):
            path = self.fd_path(ref) or ""
            return "tty" if path.startswith(("/dev/pts/", "/dev/tty", "/dev/console")) else "char"
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket",
                 stat.S_IFBLK: "block", stat.S_IFLNK: "link"}  # fmt: skip
        return kinds.get(stat.S_IFMT(mode), "anon")

    # -- what a hook may answer with, and wait for

    def give_fd(self, fd: int, *, cloexec: bool = False, close: bool = True) -> InstallFd:
        """An answer: the guest gets a copy of the host descriptor `fd`, which is closed here if `close`."""
        return InstallFd(fd, cloexec=cloexec, close=close)

    def proceed(self) -> Proceed:
        """In an async hook: `result = await call.proceed()` makes the call and goes on after it."""
        return Proceed()

    def sleep(self, seconds: float) -> Event:
        """In an async hook: `await call.sleep(0.5)`; the other guests go on meanwhile."""
        return sleep(self.task.sandbox.loop, seconds)

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """In an async hook: run something slow in a thread of its own, and wait for what it returns."""
        return await thread(self.task.sandbox.loop, function, args)

    def __repr__(self) -> str:
        return f"<{self.name}({self.args!r}) of {self.pid}>"
