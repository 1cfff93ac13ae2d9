"""Arguments as strace writes them: numbers, strings, flags, descriptors; structs.py has the structures.

Layer: the pretend kernel, trace.  May touch: guest memory, reading.

A format is a function of a View and an argument's position that gives its text, or None for an argument that is not
shown.  Those declared with `late` are written when the call has returned.
"""

from __future__ import annotations

import struct

from .flags import TABLES, flags, one, signal_name, signal_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ..hooks.call import Call
    from .options import Options

    Format: TypeAlias = "Callable[[View, int], str | None]"

_AT_FDCWD = -100
_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
del _ESCAPES[7], _ESCAPES[8]  # strace writes these two in octal


class View:
    """A call that is being written: `result` is None until it has returned."""

    __slots__ = ("call", "note", "options", "raw", "result")

    def __init__(self, call: Call, options: Options) -> None:
        self.call = call
        self.options = options
        self.raw = call.raw
        self.result: int | None = None
        self.note = ""  # what follows the result in parentheses

    @property
    def failed(self) -> bool:
        return self.result is not None and self.result < 0

    def int32(self, i: int) -> int:
        return (self.raw[i] & 0x7FFFFFFF) - (self.raw[i] & 0x80000000)

    def int64(self, i: int) -> int:
        return self.raw[i] - (self.raw[i] >> 63 << 64)

    def bytes_at(self, address: int, size: int) -> bytes:
        """Guest memory; raises OSError."""
        return self.call.memory.read(address, size)

    def fd(self, number: int, ref_of: int = -1) -> str:
        """A descriptor's number, and with -y what it is."""
        text = str(number)
        if not self.options.paths or number < 0:
            return text
        name = self.fd_name(number, ref_of)
        return f"{text}<{name}>" if name else text

    def fd_name(self, number: int, ref_of: int = -1) -> str | None:
        import os

        call = self.call
        ref = call.fd_ref(ref_of) if ref_of >= 0 else None
        if ref is not None:
            path = call.fd_path(ref)
            if path is not None:
                return path
        try:
            host = f"{call.task.process.proc}/fd/{number}"
            st = os.stat(host)
            record = call.task.sandbox.vfs.files.get(st.st_dev, st.st_ino)
            if record is not None:
                return os.fsdecode(call.task.sandbox.vfs.path_name(record.path))
            return os.readlink(host)
        except OSError:
            return None


FORMATS: dict[str, tuple[Format, bool]] = {}


def fmt(*names: str, late: bool = False) -> Callable[[Format], Format]:
    """Register a format under `names`."""

    def register(function: Format) -> Format:
        for name in names:
            FORMATS[name] = (function, late)
        return function

    return register


def quote(data: bytes, limit: int | None = None, hexadecimal: bool = False) -> str:
    """A string as C writes it, cut at `limit` bytes, octal as short as can be."""
    shown = data if limit is None else data[:limit]
    if hexadecimal:
        text = "".join(f"\\x{b:02x}" for b in shown)
    else:
        out = []
        for at, b in enumerate(shown):
            if b in _ESCAPES:
                out.append(_ESCAPES[b])
            elif 32 <= b < 127:
                out.append(chr(b))
            else:
                digit_follows = at + 1 < len(shown) and 48 <= shown[at + 1] <= 57
                out.append(f"\\{b:03o}" if digit_follows else f"\\{b:o}")
        text = "".join(out)
    return f'"{text}"' + ("..." if limit is not None and len(data) > limit else "")


def pointer(value: int) -> str:
    return hex(value) if value else "NULL"


@fmt("p", "ptr")
def _pointer(v: View, i: int) -> str:
    return pointer(v.raw[i])


@fmt("d", "int", "pid")
def _int(v: View, i: int) -> str:
    return str(v.int32(i))


@fmt("long")
def _long(v: View, i: int) -> str:
    return str(v.int64(i))


@fmt("u", "uint", "u32")
def _uint(v: View, i: int) -> str:
    return str(v.raw[i])


@fmt("x")
def _hex(v: View, i: int) -> str:
    return hex(v.raw[i]) if v.raw[i] else "0"


@fmt("offset")
def _offset(v: View, i: int) -> str:
    return hex(v.raw[i]) if v.raw[i] else "0"


@fmt("o")
def _octal(v: View, i: int) -> str:
    value = v.raw[i] & 0xFFFFFFFF
    return f"0{value:o}" if value > 7 else f"0{value:o}" if value else "000"


@fmt("none")
def _none(v: View, i: int) -> None:
    return None


@fmt("fd")
def _fd(v: View, i: int) -> str:
    return v.fd(v.int32(i), i)


@fmt("dirfd")
def _dirfd(v: View, i: int) -> str:
    import os

    number = v.int32(i)
    if number != _AT_FDCWD:
        return v.fd(number, i)
    if not v.options.paths:
        return "AT_FDCWD"
    task = v.call.task
    return f"AT_FDCWD<{os.fsdecode(task.sandbox.vfs.path_name(task.fs.cwd, task.fs.root))}>"


@fmt("path", "path?", "str", "str?")
def _path(v: View, i: int) -> str:
    data = v.call.input(i)
    return quote(data) if data is not None else pointer(v.raw[i])


@fmt("cstr_in")
def _cstr(v: View, i: int) -> str:
    return quote(v.call.memory.read_cstring(v.raw[i])) if v.raw[i] else "NULL"


@fmt("data", "inbuf", "small")
def _data(v: View, i: int) -> str:
    data = v.call.input(i)
    if data is not None and v.raw[i]:
        return quote(data, v.options.strings)
    parameter = i + 1
    if not v.raw[i]:
        return "NULL"
    size = min(v.raw[parameter], v.options.strings + 1) if parameter < len(v.raw) else 0
    return quote(v.bytes_at(v.raw[i], size), v.options.strings)


def _returned(v: View, i: int, hexadecimal: bool) -> str:
    if v.failed or v.result is None or not v.raw[i]:
        return pointer(v.raw[i])
    limit = v.options.strings
    if i + 1 < len(v.raw) and not v.raw[i + 1]:
        return pointer(v.raw[i]) if v.result else '""'
    data = v.bytes_at(v.raw[i], min(v.result, limit + 1))
    return quote(data, limit, hexadecimal)


@fmt("buf", late=True)
def _buf(v: View, i: int) -> str:
    return _returned(v, i, False)


@fmt("hexbuf", late=True)
def _hexbuf(v: View, i: int) -> str:
    return _returned(v, i, True)


@fmt("cwd", late=True)
def _cwd(v: View, i: int) -> str:
    if v.failed or not v.result:
        return pointer(v.raw[i])
    return quote(v.bytes_at(v.raw[i], v.result - 1))


@fmt("open")
def _open(v: View, i: int) -> str:
    value = v.raw[i] & 0xFFFFFFFF
    access = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[value & 3]
    rest = flags("open", value & ~3, "")
    return f"{access}|{rest}" if rest else access


@fmt("createmode")
def _createmode(v: View, i: int) -> str | None:
    return _octal(v, i) if v.raw[i - 1] & 0o100 or v.raw[i - 1] & 0x410000 == 0x410000 else None


@fmt("access")
def _access(v: View, i: int) -> str:
    return flags("access", v.raw[i] & 0xFFFFFFFF, "F_OK")


def file_mode(mode: int) -> str:
    kind = TABLES["file_type"].get(mode & 0o170000)
    bits = "|".join(
        name for bit, name in ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX")) if mode & bit
    )
    return "|".join(p for p in (kind, bits, f"0{mode & 0o777:03o}") if p)


@fmt("filemode")
def _filemode(v: View, i: int) -> str:
    return file_mode(v.raw[i] & 0xFFFF)


@fmt("mkdev")
def _mkdev(v: View, i: int) -> str | None:
    if v.raw[i - 1] & 0o170000 not in (0o20000, 0o60000):
        return None
    return makedev(v.raw[i])


def makedev(rdev: int) -> str:
    import os

    return f"makedev({os.major(rdev):#x}, {os.minor(rdev):#x})"


@fmt("mmap")
def _mmap(v: View, i: int) -> str:
    value = v.raw[i] & 0xFFFFFFFF
    kind = TABLES["map_type"].get(value & 3, hex(value & 3))
    rest = flags("map", value & ~3, "")
    return f"{kind}|{rest}" if rest else kind


@fmt("mremap_to")
def _mremap_to(v: View, i: int) -> str | None:
    return pointer(v.raw[i]) if v.raw[3] & 6 else None


@fmt("clone", late=True)
def _clone(v: View, i: int) -> str:
    """All of clone's arguments at once: strace names them."""
    value, stack, parent, child, tls = v.raw[0], v.raw[1], v.raw[2], v.raw[3], v.raw[4]
    named = flags("clone", value & ~0xFF, "")
    exit_signal = signal_name(value & 0xFF) if value & 0xFF else ""
    parts = [
        f"child_stack={pointer(stack)}",
        f"flags={'|'.join(p for p in (named, exit_signal) if p) or '0'}",
    ]
    if value & 0x101000:
        known = not v.failed and v.result is not None
        parts.append(f"parent_tid=[{v.result}]" if known else f"parent_tid={pointer(parent)}")
    if value & 0x80000:
        parts.append(f"tls={tls:#x}")
    if value & 0x1200000:
        parts.append(f"child_tidptr={pointer(child)}")
    return ", ".join(parts)


@fmt("argv")
def _argv(v: View, i: int) -> str:
    if not v.raw[i]:
        return "NULL"
    strings = v.call.memory.read_vector(v.raw[i])
    shown = [quote(s, v.options.strings) for s in strings[: v.options.strings]]
    return "[" + ", ".join(shown) + (", ..." if len(strings) > len(shown) else "") + "]"


@fmt("envp")
def _envp(v: View, i: int) -> str:
    if not v.raw[i]:
        return "NULL"
    count = len(v.call.memory.read_vector(v.raw[i]))
    return f"{v.raw[i]:#x} /* {count} var{'' if count == 1 else 's'} */"


@fmt("sig")
def _sig(v: View, i: int) -> str:
    return signal_name(v.int32(i))


@fmt("sigset_in")
def _sigset_in(v: View, i: int) -> str:
    return sigset(v, v.raw[i])


@fmt("sigset", late=True)
def _sigset(v: View, i: int) -> str:
    return pointer(v.raw[i]) if v.failed else sigset(v, v.raw[i])


def sigset(v: View, address: int) -> str:
    return signal_set(struct.unpack("<Q", v.bytes_at(address, 8))[0]) if address else "NULL"


@fmt("ioctl")
def _ioctl(v: View, i: int) -> str:
    value = v.raw[i] & 0xFFFFFFFF
    name = TABLES["ioctl"].get(value)
    if name is not None:
        return name
    way = ("_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE")[value >> 30]
    return f"_IOC({way}, {value >> 8 & 0xFF:#x}, {value & 0xFF:#x}, {value >> 16 & 0x3FFF:#x})"


@fmt("socktype")
def _socktype(v: View, i: int) -> str:
    value = v.raw[i] & 0xFFFFFFFF
    rest = flags("sock", value & ~0xF, "")
    return one("sock_type", value & 0xF) + (f"|{rest}" if rest else "")


@fmt("protocol")
def _protocol(v: View, i: int) -> str:
    family, value = v.raw[0], v.int32(i)
    if family in (2, 10):
        return one("ipproto", value)
    return one("netlink", value) if family == 16 else str(value)


@fmt("sockopt")
def _sockopt(v: View, i: int) -> str:
    table = f"opt{v.int32(i - 1)}"
    return one(table, v.int32(i)) if table in TABLES else str(v.int32(i))


@fmt("futex_op")
def _futex_op(v: View, i: int) -> str:
    value = v.raw[i] & 0xFFFFFFFF
    private = "_PRIVATE" if value & 128 else ""
    realtime = "|FUTEX_CLOCK_REALTIME" if value & 256 else ""
    return one("futex", value & 127) + private + realtime


@fmt("futex_val")
def _futex_val(v: View, i: int) -> str | None:
    return None if v.raw[1] & 127 == 7 else str(v.raw[i] & 0xFFFFFFFF)


@fmt("futex_timeout")
def _futex_timeout(v: View, i: int) -> str | None:
    op = v.raw[1] & 127
    if op in (0, 6, 9, 11, 13):
        from .structs import timespec

        return timespec(v, v.raw[i])
    return str(v.raw[i]) if op in (3, 4, 5, 12) else None


@fmt("futex_uaddr2")
def _futex_uaddr2(v: View, i: int) -> str | None:
    op = v.raw[1] & 127
    if op == 9:
        return "NULL" if not v.raw[i] else hex(v.raw[i])
    return hex(v.raw[i]) if op in (3, 4, 5, 11, 12) else None


@fmt("futex_val3")
def _futex_val3(v: View, i: int) -> str | None:
    op, value = v.raw[1] & 127, v.raw[i] & 0xFFFFFFFF
    if op in (9, 10):
        return "FUTEX_BITSET_MATCH_ANY" if value == 0xFFFFFFFF else hex(value)
    return str(value) if op in (4, 12) else hex(value) if op == 5 else None


@fmt("timer_flags")
def _timer_flags(v: View, i: int) -> str:
    return flags("timer", v.raw[i] & 0xFFFFFFFF)


@fmt("statx_flags")
def _statx_flags(v: View, i: int) -> str:
    value = v.raw[i] & 0xFFFFFFFF
    sync = {0: "AT_STATX_SYNC_AS_STAT", 0x2000: "AT_STATX_FORCE_SYNC", 0x4000: "AT_STATX_DONT_SYNC"}
    rest = flags("at", value & ~0x6000, "")
    return sync.get(value & 0x6000, "AT_STATX_SYNC_TYPE") + (f"|{rest}" if rest else "")


@fmt("fcntl_arg")
def _fcntl_arg(v: View, i: int) -> str | None:
    command, value = v.int32(1), v.raw[i]
    if command in (1, 3, 9, 11, 1025, 1032, 1034):
        return None
    if command == 2:
        return "FD_CLOEXEC" if value == 1 else str(value)
    if command == 4:
        return _open(v, i)
    if command in (1033,):
        return flags("seals", value)
    if command in (5, 6, 7, 36, 37, 38):
        kind, whence, start, length, pid = struct.unpack("<hh4xqqi4x", v.bytes_at(value, 32))
        return (f"{{l_type={one('lock', kind)}, l_whence={one('whence', whence)}, l_start={start}, l_len={length}"
                + (f", l_pid={pid}" if command in (5, 36) and v.result is not None else "") + "}")  # fmt: skip
    return str(v.int32(i)) if command in (0, 1030, 8, 10, 1031) else hex(value)


@fmt("prctl_arg")
def _prctl_arg(v: View, i: int) -> str | None:
    option, value = v.int32(0), v.raw[i]
    if option in (3, 7, 21, 27, 30, 39, 37):
        return None if option not in (37, 39) else pointer(value) if option == 37 else "0"
    if option in (15,):
        return quote(v.call.memory.read_cstring(value, 16))
    if option == 1:
        return signal_name(value & 0xFF)
    if option in (4, 8, 36, 38, 29):
        return str(value)
    return pointer(value) if option in (2, 16, 40) else hex(value)


@fmt("prctl_rest")
def _prctl_rest(v: View, i: int) -> str | None:
    option = v.int32(0)
    if option in (38, 39, 47, 59, 0x53564D41, 35):
        return hex(v.raw[i]) if v.raw[i] else "0"
    return None


def write(v: View, i: int, hint: str, kind: str) -> str | None:
    """The text of argument `i`."""
    if hint[1:2] == "." and hint[0] in "fe":
        value = v.raw[i]
        table = hint[2:]
        if hint[0] == "f":
            if table == "wait" and v.call.name == "wait4":
                table = "wait4"
            return flags(
                table,
                value if table == "clone" else value & 0xFFFFFFFF,
                "PROT_NONE" if table == "prot" else "0",
            )
        value = v.int32(i)
        return one(table, value if value in TABLES[table] or value < 0 else value & 0xFFFFFFFF)
    try:
        return FORMATS.get(hint or kind, FORMATS["p"])[0](v, i)
    except (OSError, struct.error):
        return pointer(v.raw[i])


def is_late(view: View, hint: str, kind: str) -> bool:
    """Is the argument known only when the call has returned?"""
    if hint == "fcntl_arg":
        return view.int32(1) in (5, 36)  # F_GETLK, F_OFD_GETLK
    return FORMATS.get(hint or kind, (None, False))[1]
