"""The supervisor's end of a process's channel: requests are read from the slots, replies are written to them.

Layer: the pretend kernel, lowest.  May touch: the shared memory (nothing in it is trusted: each word is read
once, and lengths are bounded), the process's socket, futexes in the shared memory.  Layout: kernel/layout.py.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct

from ._libc import ffi
from .layout import (
    CHANNEL_SIZE,
    CLOSED_SOCKETS,
    CONSTANTS,
    LARGE_PLAN_OFFSET,
    MAX_OUT,
    OFFSETS,
    PLAN_OFFSET,
    SIZES,
    SLOT_COUNT,
    SLOT_DATA,
    SLOT_DATA_SIZE,
    SLOT_SIZE,
    TRAP_SITES,
    VDIRS,
)
from .watch import barrier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

libc = ffi.dlopen(None)
_SYS_FUTEX, _FUTEX_WAKE = 202, 1
_ALL = 1 << 30

_SLOT = OFFSETS["ring3_slot"]
#: kind .. hash in one go
REQUEST = struct.Struct("<I4xq6QQQq6I6I2i2I2Q2QI")
_REQUEST_AT = _SLOT["kind"]
assert _SLOT["hash"] + 4 - _REQUEST_AT == REQUEST.size
_REPLY = struct.Struct("<qII")  # r_result r_action r_nout
_REPLY_AT = _SLOT["r_result"]
_CONTEXT, _CWD = _SLOT["context"] // 4, _SLOT["cwd"] // 4
_SLEEPING, _REP = _SLOT["sleeping"] // 4, _SLOT["rep"] // 4
assert _SLOT["req"] == 0
_ARGS = struct.Struct("<q6Q")
_CREDS = struct.Struct("<4I")
_U32 = struct.Struct("<I")
_VDIRS = struct.Struct(f"<{VDIRS}I")
_FDMSG = struct.Struct("<4I")
_PROC = OFFSETS["ring3_proc_page"]
MSG = struct.Struct("<IIQQQQ")
assert MSG.size == SIZES["ring3_msg"]

_FDS_PLAN = CONSTANTS["FDS_PLAN"]
ACT_NATIVE, ACT_NATIVE_ARGS = CONSTANTS["ACT_NATIVE"], CONSTANTS["ACT_NATIVE_ARGS"]
ACT_FD, ACT_KILL_LIST, ACT_EXEC = CONSTANTS["ACT_FD"], CONSTANTS["ACT_KILL_LIST"], CONSTANTS["ACT_EXEC"]
ACT_DIR, ACT_REAL = CONSTANTS["ACT_DIR"], CONSTANTS["ACT_REAL"]
ACT_CREDS, ACT_NET, ACT_VIA = CONSTANTS["ACT_CREDS"], CONSTANTS["ACT_NET"], CONSTANTS["ACT_VIA"]


def libc_syscall(number: int, a: int, b: int, c: int) -> int:
    """A raw system call with up to three integer arguments: the result, or -errno."""
    result = libc.syscall(number, ffi.cast("void *", a), b, c)
    return int(result) if result >= 0 else -int(ffi.errno)


def read_memory(pid: int, address: int, size: int) -> bytes:
    """process_vm_readv(2).  Raises EFAULT."""
    buffer = ffi.new("char[]", size)
    local = ffi.new("unsigned long[2]", [int(ffi.cast("unsigned long", buffer)), size])
    remote = ffi.new("unsigned long[2]", [address, size])
    got = libc.process_vm_readv(pid, local, 1, remote, 1, 0)
    if got != size:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    return bytes(ffi.buffer(buffer, size))


def write_memory(pid: int, address: int, data: bytes) -> None:
    """process_vm_writev(2).  Raises EFAULT."""
    buffer = ffi.from_buffer("char[]", data)
    local = ffi.new("unsigned long[2]", [int(ffi.cast("unsigned long", buffer)), len(data)])
    remote = ffi.new("unsigned long[2]", [address, len(data)])
    if libc.process_vm_writev(pid, local, 1, remote, 1, 0) != len(data):
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))


class Channel:
    """The shared memory and the socket of one process, for its whole life: a program that it executes uses them on.

    The guest gets `memfd` and the other end of the socket; it cannot change the memory's size (it is sealed).
    """

    __slots__ = ("_base", "also", "closed", "hot", "memfd", "received", "sock", "taken", "view", "words")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.closed = False
        self.also = 0  # flags that hooks add to the next reply's action
        self.taken: dict[int, int] = {}  # by slot: the number of the request that was served last
        self.hot: set[int] = set()  # slots that kernel/watch.py looks at
        self.received = 0  # messages that were no doorbells
        self.memfd = new_channel_memfd()
        base = libc.mmap(ffi.NULL, CHANNEL_SIZE, 3, 1, self.memfd, 0)  # PROT_READ|PROT_WRITE, MAP_SHARED
        if int(ffi.cast("long", base)) == -1:
            os.close(self.memfd)
            raise OSError(errno.ENOMEM, f"cannot map a channel: {os.strerror(ffi.errno)}")
        self._base = int(ffi.cast("unsigned long", base))
        self.view = memoryview(ffi.buffer(base, CHANNEL_SIZE)).cast("B")
        self.words = self.view.cast("I")

    def close(self) -> None:
        """Free everything; may be called twice."""
        if self.closed:
            return
        self.closed = True
        self.words.release()
        self.view.release()
        libc.munmap(ffi.cast("void *", self._base), CHANNEL_SIZE)
        os.close(self.memfd)
        self.sock.close()

    def fresh(self) -> None:
        """A new program begins: what threads of the old one asked and said is of no account."""
        words = self.words
        for slot in self.taken:
            at = (slot + 1) * SLOT_SIZE >> 2
            self.taken[slot] = words[at + _REP] = words[at]
        self.received = words[_PROC["posted"] // 4]
        at = _PROC["vdir_fd"]
        self.view[at : at + 4 * VDIRS] = bytes(4 * VDIRS)

    def set_place(self, slot: int, context: int, cwd: int) -> None:
        """Which of the answers the thread of `slot` may use: see kernel/answers.py."""
        at = (slot + 1) * SLOT_SIZE >> 2
        self.words[at + _CONTEXT], self.words[at + _CWD] = context, cwd

    def takes_plan_ahead(self, slot: int) -> bool:
        """Says the thread of `slot`, which asks for an exec, that the plan may come before the core is executed?"""
        return int.from_bytes(self.view[(at := (slot + 1) * SLOT_SIZE + _SLOT["args"] + 40) : at + 8], "little") == 1

    def send_no_plan(self) -> None:
        """There is no plan yet: the core is to ask for it."""
        self.send_fds(0, [], kind=_FDS_PLAN)

    def send_plan(self, plan: bytes, fds: list[int]) -> None:
        """Tell the fresh core of the process what to do (struct ring3_plan and what is behind it)."""
        at = PLAN_OFFSET if len(plan) <= SLOT_DATA_SIZE else LARGE_PLAN_OFFSET
        self.view[at : at + len(plan)] = plan
        self.view[_PROC["gifts_used"] : _PROC["gifts_used"] + 16] = bytes(16)
        self.send_fds(0, fds, at, _FDS_PLAN)

    # -- what the core tells about the process

    def brk_range(self) -> tuple[int, int] | None:
        if self.closed:
            return None
        start, end = struct.unpack_from("<QQ", self.view, _PROC["brk_start"])
        return start, end

    def gifts_used(self) -> int:
        """Which of the files that were opened ahead the program has opened: by bits, in their order."""
        at = _PROC["gifts_used"]
        return 0 if self.closed else int.from_bytes(self.view[at : at + 16], "little")

    def ends(self) -> bool:
        """Has it ended by exit_group(2)?  If it says so."""
        return not self.closed and bool(self.words[_PROC["ends"] // 4])

    def directories(self) -> dict[int, tuple[int, int]]:
        """The directories that the core has opened by itself, by descriptor: number (kernel/directories.py), flags."""
        if self.closed:
            return {}
        columns = (_VDIRS.unpack_from(self.view, _PROC[name]) for name in ("vdir_fd", "vdir_number", "vdir_flags"))
        return {fd - 1: (number, flags) for fd, number, flags in zip(*columns, strict=True) if fd}

    def core_fds(self) -> tuple[int, int]:
        if self.closed:
            return -1, -1
        first, second = struct.unpack_from("<ii", self.view, _PROC["core_fds"])
        return first, second

    def counts(self) -> dict[str, tuple[int, ...]]:
        """What the core counted: calls, errors, nanoseconds by number (core_native/count.c)."""
        if self.closed:
            return {}
        return {name: struct.unpack_from("<512Q", self.view, _PROC[name]) for name in ("calls", "errors", "ns")}

    def clear_counts(self) -> None:
        start, end = _PROC["calls"], _PROC["ns"] + 8 * 512
        self.view[start:end] = bytes(end - start)

    def take_traps(self) -> tuple[int, ...]:
        """How often each site trapped, by its place in the core's table (core_native/sites.c); set back to 0."""
        at, size = _PROC["trap_count"], 8 * TRAP_SITES
        counts = struct.unpack_from(f"<{TRAP_SITES}Q", self.view, at)
        self.view[at : at + size] = bytes(size)
        return counts

    def closed_sockets(self) -> list[tuple[int, int]]:
        """The TCP sockets that were closed last: inode number, and when (see ring3_proc_page)."""
        at = _PROC["closed_count"]
        if self.closed or not any(self.view[at : at + 8]):
            return []
        inodes, times = (
            struct.unpack_from(f"<{CLOSED_SOCKETS}Q", self.view, _PROC[n]) for n in ("closed_ino", "closed_at")
        )
        return [(ino, when) for ino, when in zip(inodes, times, strict=True) if ino]

    # -- requests

    def asks(self, slot: int, number: int) -> bool:
        """Is this the request that waits in the slot? Not one that was served, and others after it."""
        return self.words[(slot + 1) * SLOT_SIZE >> 2] == number != self.taken.get(slot)

    def waits(self, slot: int) -> bool:
        """Has the latest request in a slot not been answered yet?"""
        at = (slot + 1) * SLOT_SIZE >> 2
        return self.words[at] != self.words[at + _REP]

    def progress(self) -> Iterator[tuple[int, int, int, int]]:
        """Of each slot: its number, those of the latest request and of the latest answer, and whether its thread
        sleeps."""
        for slot in range(SLOT_COUNT):
            at = (slot + 1) * SLOT_SIZE >> 2
            yield slot, self.words[at], self.words[at + _REP], self.words[at + _SLEEPING]

    def wake(self, slot: int) -> None:
        """Wake the thread of a slot, if it sleeps."""
        self._wake((slot + 1) * SLOT_SIZE)

    def tid(self, slot: int) -> int:
        return int(_U32.unpack_from(self.view, (slot + 1) * SLOT_SIZE + 4)[0])

    def request(self, slot: int) -> tuple[int, ...]:
        """The request in a slot, read once: kind, nr, args[6], ip, sp, result, in_off[6], in_len[6], id_fd[2],
        id_mode[2], id_dev[2], id_ino[2], hash."""
        return REQUEST.unpack_from(self.view, (slot + 1) * SLOT_SIZE + _REQUEST_AT)

    def data(self, slot: int, offset: int, length: int) -> bytes:
        """Input bytes of a request, bounded.  Raises EFAULT for a range outside the slot."""
        if offset > SLOT_DATA_SIZE or length > SLOT_DATA_SIZE - offset:
            raise OSError(errno.EFAULT, "outside the slot")
        at = (slot + 1) * SLOT_SIZE + SLOT_DATA + offset
        return bytes(self.view[at : at + length])

    # -- replies

    def reply(
        self,
        slot: int,
        request: int,
        result: int,
        action: int = 0,
        writes: Sequence[tuple[int, bytes]] = (),
        creds: tuple[int, int, int, int] | None = None,
        native: tuple[int, Sequence[int]] | None = None,
    ) -> None:
        """Answer request number `request` of `slot`, and wake the thread."""
        if self.closed:
            return
        view, base = self.view, (slot + 1) * SLOT_SIZE
        at = 0
        if len(writes) > MAX_OUT or sum(len(data) for _, data in writes) > SLOT_DATA_SIZE:
            raise ValueError("a reply writes more than a slot holds")
        for i, (address, data) in enumerate(writes):
            view[base + SLOT_DATA + at : base + SLOT_DATA + at + len(data)] = data
            struct.pack_into("<Q", view, base + _SLOT["out_addr"] + 8 * i, address)
            _U32.pack_into(view, base + _SLOT["out_off"] + 4 * i, at)
            _U32.pack_into(view, base + _SLOT["out_len"] + 4 * i, len(data))
            at += len(data)
        if creds is not None:
            _CREDS.pack_into(view, base + _SLOT["r_creds"], *creds)
            action |= ACT_CREDS
        if native is not None:
            _ARGS.pack_into(view, base + _SLOT["r_nr"], native[0], *native[1])
        self._publish(base, request, result, action, len(writes))

    def reply_result(self, slot: int, request: int, result: int) -> None:
        """Answer with a number alone."""
        if not self.closed:
            self._publish((slot + 1) * SLOT_SIZE, request, result, 0, 0)

    def reply_kill_list(self, slot: int, request: int, pids: list[int]) -> None:
        base = (slot + 1) * SLOT_SIZE
        pids = pids[: SLOT_DATA_SIZE // 4]
        struct.pack_into(f"<{len(pids)}I", self.view, base + SLOT_DATA, *pids)
        self._publish(base, request, 0, ACT_KILL_LIST, len(pids))

    def _publish(self, base: int, request: int, result: int, action: int, count: int) -> None:
        view = self.view
        _REPLY.pack_into(view, base + _REPLY_AT, result, action | self.also, count)
        words, at = self.words, base >> 2
        words[at + _REP] = request  # x86 keeps stores in order
        barrier()  # the guest stores `sleeping` before it reads `rep` for the last time
        if words[at + _SLEEPING]:
            self._wake(base)

    def _wake(self, base: int) -> None:
        libc.syscall(_SYS_FUTEX, ffi.cast("void *", self._base + base + _SLOT["rep"]), _FUTEX_WAKE, _ALL)

    def send_fds(self, slot: int, fds: list[int], flags: int = 0, kind: int = 0) -> None:
        """Send descriptors for the thread of `slot`; it takes them after its reply.  `kind`: FDS_*."""
        self.sock.sendmsg(
            [_FDMSG.pack(kind, slot, flags, len(fds))],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [],
            socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
        )


def new_channel_memfd() -> int:
    """A memfd of a channel's size, sealed against anything that would let a guest crash the supervisor."""
    import fcntl

    fd = os.memfd_create("ring3-channel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, CHANNEL_SIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def valid_slot(slot: int) -> bool:
    return 0 <= slot < SLOT_COUNT
