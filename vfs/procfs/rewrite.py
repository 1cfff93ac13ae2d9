"""Turning the host's /proc text about a guest into the guest's own view of itself.

Layer: vfs/procfs, the lowest part: pure functions from bytes to bytes.  May touch: nothing (no file, no
process, no sandbox), so that each rule is tested on text alone.

The host kernel counts a guest's memory, time and mappings better than Python could, so its files stay the
source of the numbers (proc(5)); these functions replace what the sandbox virtualises and hide what belongs to
the core.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    #: (host device, host inode number, host name) -> (guest name, guest device, guest inode number), or None
    Resolver = Callable[[int, int, bytes], "tuple[bytes, int, int] | None"]

#: Column of the name in maps: seq_setwidth(m, 25 + sizeof(void *) * 6 - 1) in fs/proc/task_mmu.c, and one
#: space.
_NAME_COLUMN = 73
#: the host's vDSO and its data: guests have the core's
_HOST_VDSO = (b"[vdso]", b"[vvar]", b"[vvar_vclock]")


def fields(text: bytes, values: Mapping[bytes, bytes], drop: Iterable[bytes] = ()) -> bytes:
    """Replace the values of `Name:<tab>value` lines, as in /proc/PID/status.

    Args:
        text: the host's file.
        values: new value by field name; a name that the host does not have is not added, because a kernel
        without
            that field has programs that cope without it.
        drop: names of lines to leave out.

    Returns: the text with the same lines in the same order.
    """
    out = []
    dropped = frozenset(drop)
    for line in text.splitlines(keepends=True):
        name, colon, _ = line.partition(b":")
        if colon and name in dropped:
            continue
        value = values.get(name) if colon else None
        out.append(line if value is None else name + b":\t" + value + b"\n")
    return b"".join(out)


def split_stat(text: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """Split /proc/PID/stat into (pid, comm without its parentheses, the fields from the third on).

    comm may hold spaces and parentheses, so it ends at the last one (proc_pid_stat(5)).
    """
    left, right = text.index(b"("), text.rindex(b")")
    return text[:left].strip(), text[left + 1 : right], text[right + 1 :].split()


def stat(text: bytes, values: Mapping[int, bytes | int]) -> bytes:
    """Replace fields of /proc/PID/stat by their number in proc_pid_stat(5) (1 is pid, 2 is comm).

    Args:
        text: the host's line.
        values: new values; a number beyond the host's last field is ignored.
    """
    pid, comm, rest = split_stat(text)
    everything = [pid, b"(" + comm + b")", *rest]
    for number, value in values.items():
        if number <= len(everything):
            raw = value if isinstance(value, bytes) else b"%d" % value
            everything[number - 1] = b"(" + raw + b")" if number == 2 else raw
    return b" ".join(everything) + b"\n"


def _maps_line(line: bytes, name: bytes, dev: int, ino: int) -> bytes:
    """A line of maps with another name, device and inode number."""
    span, perms, offset = line.split(None, 3)[:3]
    head = b"%b %b %b %02x:%02x %d " % (span, perms, offset, os.major(dev), os.minor(dev), ino)
    if not name:
        return head + b"\n"
    return head.ljust(_NAME_COLUMN) + name.replace(b"\n", b"\\012") + b"\n"


def maps(text: bytes, resolve: Resolver, brk: tuple[int, int] | None, hidden: tuple[int, int]) -> bytes:
    """Rewrite /proc/PID/maps or /proc/PID/smaps.

    Args:
        text: the host's file; in smaps each mapping's line is followed by lines of details, which go with it.
        resolve: names a file mapping in the guest's tree; None keeps what the host says (the guest's own
        memfd). brk: [start, end) of the guest's heap, which the core emulates; the host's label is about the
        core's own. hidden: [start, end) of the core's area; mappings inside it are left out.

    Returns: the rewritten text.
    """
    out: list[bytes] = []
    visible = True
    for line in text.splitlines(keepends=True):
        words = line.split(None, 5)
        if words[0].endswith(b":"):  # a detail of smaps
            if visible:
                out.append(line)
            continue
        start, end = (int(word, 16) for word in words[0].split(b"-"))
        # An execute-only page zero is that of --rewrite=zpoline.
        visible = not hidden[0] <= start < hidden[1] and not (start == 0 and words[1] == b"--xp")
        if not visible:
            continue
        dev, ino = os.makedev(*(int(word, 16) for word in words[3].split(b":"))), int(words[4])
        name = words[5].rstrip(b"\n") if len(words) > 5 else b""
        if name in _HOST_VDSO:
            visible = False
            continue
        if ino:
            found = resolve(dev, ino, name)
            if found is not None:
                name, dev, ino = found
        elif name == b"[heap]":
            name = b""
        if not ino and not name and brk is not None and start < brk[1] and end > brk[0]:
            name = b"[heap]"
        out.append(_maps_line(line, name, dev, ino))
    return b"".join(out)


def area(text: bytes, hidden: tuple[int, int]) -> tuple[int, int]:
    """How much of /proc/PID/maps lies in the core's area.

    Returns: (bytes mapped there, bytes of it that are private and writable).
    """
    total = private = 0
    for line in text.splitlines():
        span, perms = line.split(b" ", 2)[:2]
        start, end = (int(x, 16) for x in span.split(b"-"))
        if hidden[0] <= start < hidden[1]:
            total += end - start
            if perms[1:2] == b"w" and perms[3:] == b"p":
                private += end - start
    return total, private


def limits(text: bytes, changes: Mapping[bytes, tuple[int | None, int | None]]) -> bytes:
    """Replace rows of /proc/PID/limits.

    Args:
        text: the host's table.
        changes: (soft, hard) by row name (`Max open files`); None is unlimited.
    """

    def show(value: int | None) -> bytes:
        return b"unlimited" if value is None else b"%d" % value

    out = []
    for line in text.splitlines(keepends=True):
        pair = changes.get(line[:26].rstrip())
        if pair is not None:
            line = b"%-25b %-20b %-20b %b" % (line[:25], show(pair[0]), show(pair[1]), line[68:])
        out.append(line)
    return b"".join(out)


def mangle(text: bytes, special: bytes = b" \t\n") -> bytes:
    """Escape a field of mounts or mountinfo in octal, the backslash always (seq_escape in
    fs/proc_namespace.c).

    Args:
        special: the characters to escape besides; for a device's name the kernel escapes `#` as well.
    """
    for char in b"\\" + special:
        text = text.replace(bytes((char,)), b"\\%03o" % char)
    return text


def title(args: bytes, env: bytes) -> bytes:
    """What /proc/PID/cmdline shows for the bytes now found where the kernel put argv and envp.

    A program that overwrites the last NUL of argv is taken to use setproctitle(3), and then what it wrote
    reaches to the first NUL, into the environment if need be (get_mm_proctitle in fs/proc/base.c).
    """
    if not args or args[-1] == 0:
        return args
    whole = args + env
    end = whole.find(b"\0")
    return whole if end < 0 else whole[: end + 1]
