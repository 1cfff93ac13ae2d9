"""Structures as strace writes them, abbreviated as it does without -v.

Layer: the pretend kernel, trace.  May touch: guest memory, reading.  Layouts: include/uapi of Linux, x86-64.
"""

from __future__ import annotations

import struct

from .decode import View, file_mode, fmt, makedev, pointer, quote, sigset
from .flags import flags, one, signal_name, signal_set
from .terminals import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_INFINITY = (1 << 64) - 1


def both(name: str) -> Callable[[Callable[[View, int], str]], Callable[[View, int], str]]:
    """A structure by its address: `name_in` when the call is made, `name` when it has returned successfully."""

    def register(function: Callable[[View, int], str]) -> Callable[[View, int], str]:
        fmt(name + "_in")(lambda v, i: function(v, v.raw[i]) if v.raw[i] else "NULL")
        fmt(name, late=True)(
            lambda v, i: pointer(v.raw[i]) if v.failed or not v.raw[i] else function(v, v.raw[i])
        )
        return function

    return register


@both("timespec")
def _timespec(v: View, at: int) -> str:
    return timespec(v, at)


def timespec(v: View, at: int) -> str:
    if not at:
        return "NULL"
    sec, nsec = struct.unpack("<qq", v.bytes_at(at, 16))
    return f"{{tv_sec={sec}, tv_nsec={nsec}}}"


@both("timeval")
def timeval(v: View, at: int) -> str:
    sec, usec = struct.unpack("<qq", v.bytes_at(at, 16))
    return f"{{tv_sec={sec}, tv_usec={usec}}}"


@fmt("timespec2")
def _timespec2(v: View, i: int) -> str:
    if not v.raw[i]:
        return "NULL"
    words = struct.unpack("<4q", v.bytes_at(v.raw[i], 32))
    special = {0x3FFFFFFF: "UTIME_NOW", 0x3FFFFFFE: "UTIME_OMIT"}
    pairs = [(words[0], words[1]), (words[2], words[3])]
    return "[" + ", ".join(special.get(n) or f"{{tv_sec={s}, tv_nsec={n}}}" for s, n in pairs) + "]"


@fmt("timeval2")
def _timeval2(v: View, i: int) -> str:
    return f"[{timeval(v, v.raw[i])}, {timeval(v, v.raw[i] + 16)}]" if v.raw[i] else "NULL"


@both("itimerspec")
def _itimerspec(v: View, at: int) -> str:
    return f"{{it_interval={timespec(v, at)}, it_value={timespec(v, at + 16)}}}"


@both("itimerval")
def _itimerval(v: View, at: int) -> str:
    return f"{{it_interval={timeval(v, at)}, it_value={timeval(v, at + 16)}}}"


@fmt("rem", late=True)
def _rem(v: View, i: int) -> str:
    return timespec(v, v.raw[i]) if v.result in (-4, -516) and v.raw[i] else pointer(v.raw[i])


@both("stat")
def _stat(v: View, at: int) -> str:
    _dev, _ino, _nlink, mode, _uid, _gid, _pad, rdev, size = struct.unpack("<QQQIIIIQq", v.bytes_at(at, 56))
    if mode & 0o170000 in (0o20000, 0o60000):
        return f"{{st_mode={file_mode(mode)}, st_rdev={makedev(rdev)}, ...}}"
    return f"{{st_mode={file_mode(mode)}, st_size={size}, ...}}"


@both("statx")
def _statx(v: View, at: int) -> str:
    data = v.bytes_at(at, 256)
    mask, _block, attributes = struct.unpack_from("<IIQ", data, 0)
    mode, size = struct.unpack_from("<H", data, 28)[0], struct.unpack_from("<Q", data, 40)[0]
    return (f"{{stx_mask={flags('statx', mask)}, stx_attributes={flags('statx_attr', attributes)}, "
            f"stx_mode={file_mode(mode)}, stx_size={size}, ...}}")  # fmt: skip


@both("statfs")
def _statfs(v: View, at: int) -> str:
    (kind, bsize, blocks, bfree, bavail, files, ffree, f0, f1, namelen, frsize, fl) = struct.unpack(
        "<7QiiQQQ", v.bytes_at(at, 88)
    )
    return (f"{{f_type={one('fs_magic', kind)}, f_bsize={bsize}, f_blocks={blocks}, f_bfree={bfree}, "
            f"f_bavail={bavail}, f_files={files}, f_ffree={ffree}, f_fsid={{val=[{_hex(f0)}, "
            f"{_hex(f1)}]}}, f_namelen={namelen}, f_frsize={frsize}, f_flags={_st(fl)}}}")  # fmt: skip


def _hex(value: int) -> str:
    return hex(value & 0xFFFFFFFF) if value & 0xFFFFFFFF else "0"


def _st(value: int) -> str:
    names = {0x20: "ST_VALID", 1: "ST_RDONLY", 2: "ST_NOSUID", 4: "ST_NODEV", 8: "ST_NOEXEC", 16: "ST_SYNCHRONOUS",
             0x400: "ST_NOATIME", 0x800: "ST_NODIRATIME", 0x1000: "ST_RELATIME"}  # fmt: skip
    return "|".join(n for b, n in names.items() if value & b) or "0"


@both("rlimit")
def _rlimit(v: View, at: int) -> str:
    cur, top = struct.unpack("<QQ", v.bytes_at(at, 16))
    infinity = "RLIM64_INFINITY" if v.call.name == "prlimit64" else "RLIM_INFINITY"
    return f"{{rlim_cur={_limit(cur, infinity)}, rlim_max={_limit(top, infinity)}}}"


def _limit(value: int, infinity: str) -> str:
    if value == _INFINITY:
        return infinity
    return f"{value // 1024}*1024" if value > 1024 and value % 1024 == 0 else str(value)


@both("rusage")
def _rusage(v: View, at: int) -> str:
    return f"{{ru_utime={timeval(v, at)}, ru_stime={timeval(v, at + 16)}, ...}}"


@both("utsname")
def _utsname(v: View, at: int) -> str:
    data = v.bytes_at(at, 390)
    first = [data[n * 65 : n * 65 + 65].split(b"\0")[0] for n in range(2)]
    return f"{{sysname={quote(first[0])}, nodename={quote(first[1])}, ...}}"


@both("sysinfo")
def _sysinfo(v: View, at: int) -> str:
    up, l1, l2, l3, total, free, shared, buffers, swap, free_swap, procs = struct.unpack(
        "<10QH", v.bytes_at(at, 82)
    )
    high, free_high, unit = struct.unpack("<QQI", v.bytes_at(at + 88, 20))
    return (f"{{uptime={up}, loads=[{l1}, {l2}, {l3}], totalram={total}, freeram={free}, sharedram={shared}, "
            f"bufferram={buffers}, totalswap={swap}, freeswap={free_swap}, procs={procs}, totalhigh={high}, "
            f"freehigh={free_high}, mem_unit={unit}}}")  # fmt: skip


@both("tms")
def _tms(v: View, at: int) -> str:
    a, b, c, d = struct.unpack("<4q", v.bytes_at(at, 32))
    return f"{{tms_utime={a}, tms_stime={b}, tms_cutime={c}, tms_cstime={d}}}"


@both("sigaction")
def _sigaction(v: View, at: int) -> str:
    handler, sa_flags, restorer, mask = struct.unpack("<4Q", v.bytes_at(at, 32))
    name = {0: "SIG_DFL", 1: "SIG_IGN", _INFINITY: "SIG_ERR"}.get(handler, hex(handler))
    text = f"{{sa_handler={name}, sa_mask={signal_set(mask)}, sa_flags={flags('sa', sa_flags)}"
    return text + (f", sa_restorer={restorer:#x}}}" if sa_flags & 0x4000000 else "}")


@both("sigevent")
def _sigevent(v: View, at: int) -> str:
    value, number, notify, tid = struct.unpack("<Qiii", v.bytes_at(at, 20))
    shown = f"sigev_value={{sival_int={value & 0xFFFFFFFF}, sival_ptr={pointer(value)}}}, " if value else ""
    text = f"{{{shown}sigev_signo={signal_name(number)}, sigev_notify={one('sigev', notify)}"
    return text + (f", sigev_notify_thread_id={tid}}}" if notify == 4 else "}")


@both("sched_param")
def _sched_param(v: View, at: int) -> str:
    return f"[{struct.unpack('<i', v.bytes_at(at, 4))[0]}]"


@both("stack")
def _stack(v: View, at: int) -> str:
    sp, ss_flags, size = struct.unpack("<Qi4xQ", v.bytes_at(at, 24))
    return f"{{ss_sp={pointer(sp)}, ss_flags={flags('ss', ss_flags & 0xFFFFFFFF)}, ss_size={size}}}"


@both("epoll_event")
def epoll_event(v: View, at: int) -> str:
    events, data = struct.unpack("<IQ", v.bytes_at(at, 12))
    return f"{{events={flags('epoll', events)}, data={{u32={data & 0xFFFFFFFF}, u64={data}}}}}"


@fmt("epoll_events", late=True)
def _epoll_events(v: View, i: int) -> str:
    if v.failed or v.result is None:
        return pointer(v.raw[i])
    return "[" + ", ".join(epoll_event(v, v.raw[i] + 12 * n) for n in range(min(v.result, 32))) + "]"


@fmt("pollfds")
def _pollfds(v: View, i: int) -> str:
    count = min(v.raw[i + 1], 1024)
    if not v.raw[i]:
        return "NULL"
    out = []
    for n in range(min(count, v.options.strings)):
        fd, events, _ = struct.unpack("<ihh", v.bytes_at(v.raw[i] + 8 * n, 8))
        out.append(
            f"{{fd={v.fd(fd)}}}" if fd < 0 else f"{{fd={v.fd(fd)}, events={flags('poll', events & 0xFFFF)}}}"
        )
    return "[" + ", ".join(out) + (", ..." if count > len(out) else "") + "]"


def polled(v: View, i: int) -> str:
    """What a poll found: strace writes it after the result."""
    out = []
    for n in range(min(v.raw[i + 1], 1024)):
        fd, _, revents = struct.unpack("<ihH", v.bytes_at(v.raw[i] + 8 * n, 8))
        if revents:
            out.append(f"{{fd={v.fd(fd)}, revents={flags('poll', revents)}}}")
    return "[" + ", ".join(out) + "]"


@fmt("fdset")
def _fdset(v: View, i: int) -> str:
    return "[" + " ".join(map(str, fds_of(v, i))) + "]" if v.raw[i] else "NULL"


def fds_of(v: View, i: int) -> list[int]:
    count = min(max(v.int32(0), 0), 1024)
    data = v.bytes_at(v.raw[i], (count + 63) // 64 * 8)
    return [n for n in range(count) if data[n // 8] >> n % 8 & 1]


@fmt("fd_pair", late=True)
def _fd_pair(v: View, i: int) -> str:
    if v.failed:
        return pointer(v.raw[i])
    a, b = struct.unpack("<ii", v.bytes_at(v.raw[i], 8))
    return f"[{v.fd(a)}, {v.fd(b)}]"


@fmt("int_out", late=True)
def _int_out(v: View, i: int) -> str:
    return (
        pointer(v.raw[i])
        if v.failed or not v.raw[i]
        else f"[{struct.unpack('<i', v.bytes_at(v.raw[i], 4))[0]}]"
    )


@fmt("long_out", late=True)
def _long_out(v: View, i: int) -> str:
    return (
        pointer(v.raw[i])
        if v.failed or not v.raw[i]
        else f"[{struct.unpack('<q', v.bytes_at(v.raw[i], 8))[0]}]"
    )


@fmt("off_inout")
def _off_inout(v: View, i: int) -> str:
    return f"[{struct.unpack('<q', v.bytes_at(v.raw[i], 8))[0]}]" if v.raw[i] else "NULL"


@fmt("wstatus", late=True)
def _wstatus(v: View, i: int) -> str:
    if not v.result or v.failed or not v.raw[i]:
        return pointer(v.raw[i])
    return f"[{wait_status(struct.unpack('<i', v.bytes_at(v.raw[i], 4))[0])}]"


def wait_status(status: int) -> str:
    """As strace writes a status of wait4(2)."""
    low = status & 0x7F
    if low == 0:
        return f"{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}"
    if status == 0xFFFF:
        return "{WIFCONTINUED(s)}"
    if status & 0xFF == 0x7F:
        return f"{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal_name(status >> 8 & 0xFF)}}}"
    core = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"{{WIFSIGNALED(s) && WTERMSIG(s) == {signal_name(low)}{core}}}"


def _iov(v: View, i: int, limit: int | None) -> str:
    count = v.raw[i + 1] & 0xFFFFFFFF
    if count > 1024 or not v.raw[i]:
        return pointer(v.raw[i])
    return iovec(v, v.raw[i], count, limit)


def iovec(v: View, at: int, count: int, limit: int | None) -> str:
    """`limit` bytes are there at most; None: nothing is known of them yet."""
    out = []
    for n in range(min(count, v.options.strings)):
        base, length = struct.unpack("<QQ", v.bytes_at(at + 16 * n, 16))
        if limit is None:
            out.append(f"{{iov_base={pointer(base)}, iov_len={length}}}")
            continue
        there = min(length, limit)
        limit -= there
        data = v.bytes_at(base, min(there, v.options.strings + 1))
        out.append(f"{{iov_base={quote(data, v.options.strings)}, iov_len={length}}}")
    return "[" + ", ".join(out) + (", ..." if count > len(out) else "") + "]"


@fmt("iov_in", "iov")
def _iov_in(v: View, i: int) -> str:
    return _iov(v, i, 1 << 62)


@fmt("iov_out", late=True)
def _iov_out(v: View, i: int) -> str:
    return _iov(v, i, None if v.failed else v.result)


@fmt("dirents", late=True)
def _dirents(v: View, i: int) -> str:
    if v.failed or v.result is None:
        return pointer(v.raw[i])
    data, at, count = v.bytes_at(v.raw[i], v.result), 0, 0
    while at + 18 < len(data):
        count += 1
        at += struct.unpack_from("<H", data, at + 16)[0] or len(data)
    return f"{v.raw[i]:#x} /* {count} entr{'y' if count == 1 else 'ies'} */"


@fmt("siginfo", late=True)
def _siginfo(v: View, i: int) -> str:
    if v.failed or not v.raw[i]:
        return pointer(v.raw[i])
    return siginfo(v.bytes_at(v.raw[i], 48))


def _ticks(count: int) -> str:
    return f"{count} /* {count / 100:.2f} s */" if count else "0"


def siginfo(data: bytes) -> str:
    """A siginfo_t, 32 bytes of it at least."""
    number, _errno, code, _pad = struct.unpack_from("<iiii", data, 0)
    if not number:
        return "{}"
    pid, uid, value = struct.unpack_from("<iIi", data, 16)
    address = struct.unpack_from("<Q", data, 16)[0]
    tables = {17: "cld", 11: "segv", 7: "bus", 8: "fpe", 4: "ill", 5: "trap"}
    table = tables.get(number, "si_code") if code > 0 and code != 0x80 else "si_code"
    text = f"{{si_signo={signal_name(number)}, si_code={one(table, code)}"
    if table == "cld":
        status = str(value) if code == 1 else signal_name(value)
        times = struct.unpack_from("<qq", data, 32) if len(data) >= 48 else (0, 0)
        return (
            f"{text}, si_pid={pid}, si_uid={uid}, si_status={status}, "
            f"si_utime={_ticks(times[0])}, si_stime={_ticks(times[1])}}}"
        )
    if table != "si_code":
        return f"{text}, si_addr={pointer(address)}}}"
    if code == 0x80:
        return (
            text + ("}" if not address else f", si_addr={pointer(address)}}}")
            if number in (11, 7, 8)
            else text + "}"
        )
    if code == -2:
        return f"{text}, si_timerid={pid:#x}, si_overrun={uid}, si_int={value}}}"
    queued = (
        f", si_int={value}, si_ptr={pointer(struct.unpack_from('<Q', data, 24)[0])}" if code == -1 else ""
    )
    return f"{text}, si_pid={pid}, si_uid={uid}{queued}}}"


@fmt("gids", late=True)
def _gids(v: View, i: int) -> str:
    if v.failed or not v.raw[0] or v.result is None:
        return pointer(v.raw[i])
    return _ids(v, i, v.result)


@fmt("gids_in")
def _gids_in(v: View, i: int) -> str:
    return _ids(v, i, v.int32(0))


def _ids(v: View, i: int, count: int) -> str:
    return "[" + ", ".join(map(str, struct.unpack(f"<{count}I", v.bytes_at(v.raw[i], 4 * count)))) + "]"


@fmt("caphdr")
def _caphdr(v: View, i: int) -> str:
    version, pid = struct.unpack("<Ii", v.bytes_at(v.raw[i], 8))
    names = {0x19980330: "_LINUX_CAPABILITY_VERSION_1", 0x20071026: "_LINUX_CAPABILITY_VERSION_2",
             0x20080522: "_LINUX_CAPABILITY_VERSION_3"}  # fmt: skip
    return f"{{version={names.get(version, hex(version))}, pid={pid}}}"


@fmt("cpuset", late=True)
def _cpuset(v: View, i: int) -> str:
    return pointer(v.raw[i]) if v.failed or not v.result else _cpus(v, v.raw[i], v.result)


@fmt("cpuset_in")
def _cpuset_in(v: View, i: int) -> str:
    return _cpus(v, v.raw[i], min(v.raw[i - 1], 128))


def _cpus(v: View, at: int, size: int) -> str:
    data = v.bytes_at(at, size)
    return "[" + " ".join(str(n) for n in range(size * 8) if data[n // 8] >> n % 8 & 1) + "]"


@fmt("clone_args", late=True)
def _clone_args(v: View, i: int) -> str:
    words = struct.unpack("<8Q", v.bytes_at(v.raw[i], 64))
    value, pidfd, child, parent, exit_signal, stack, size, tls = words
    parts = [f"flags={flags('clone', value)}"]
    if value & 0x1000:
        parts.append(f"pidfd={pointer(pidfd)}")
    if value & 0x1200000:
        parts.append(f"child_tid={pointer(child)}")
    if value & 0x100000:
        parts.append(f"parent_tid={pointer(parent)}")
    parts += [f"exit_signal={signal_name(exit_signal)}", f"stack={pointer(stack)}", f"stack_size={size:#x}"
              if size else "stack_size=0"]  # fmt: skip
    if value & 0x80000:
        parts.append(f"tls={tls:#x}")
    text = "{" + ", ".join(parts) + "}"
    if value & 0x100000 and not v.failed:
        text += f" => {{parent_tid=[{v.result}]}}"
    return text


@fmt("ioctl_arg", late=True)
def _ioctl_arg(v: View, i: int) -> str:
    command, at = v.raw[1] & 0xFFFFFFFF, v.raw[i]
    if not v.failed:
        if command == 0x5413:
            return "{{ws_row={}, ws_col={}, ws_xpixel={}, ws_ypixel={}}}".format(
                *struct.unpack("<4H", v.bytes_at(at, 8))
            )
        if command in (0x5410, 0x540F, 0x541B, 0x5429, 0x5421):
            return f"[{struct.unpack('<i', v.bytes_at(at, 4))[0]}]"
        if command in (0x5401, 0x5402, 0x5403, 0x5404):
            return termios(v.bytes_at(at, 36))
    if command == 0x40049409:
        return str(v.int32(i))
    return pointer(at) if command not in (0x5450, 0x5451) else ""


__all__ = ["polled", "siginfo", "sigset", "timespec", "wait_status"]
