"""Random system calls with plausible and hostile arguments, from the declarative table (kernel/table.py).

Layer: tests. A call is a line for servant.c. What an argument may be follows from its kind in the table; PLAUSIBLE says
more of those for which a number or a pointer at random would only ever be EINVAL or EFAULT.
"""

# ruff: noqa: E501
from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hostfacts import has_call
from memory import CORE, EDGE, OUT, PATHS, SCRAP, SCRAP_SIZE, Memory

from ring3.kernel.table import BY_NAME, REFUSE, TABLE, Sys

MEMORY = Memory()
MASK = (1 << 64) - 1
FDS = 31  # servant.c opens 3 .. 33 or so
HOSTILE = MEMORY.hostile()
NUMBERS = [0, 1, 2, 3, 4, 5, 8, 10, 16, 64, 100, 128, 255, 256, 511, 4095, 4096, 4097, 9999, 10000, 65536]
EXTREMES = [
    -1,
    -2,
    -4096,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 32,
    1 << 62,
    1 << 63,
    MASK >> 1,
    0xDEAD_BEEF_0000_0001,
]
MODES = [0, 0o644, 0o755, 0o777, 0o4755, 0o7777, 0o170777, 0o100644, 0o010644, 0o020644, 0o140644]
OPEN = [
    0,
    1,
    2,
    0o100,
    0o102,
    0o300,
    0o1102,
    0o2001,
    0o4000,
    0o200000,
    0o400000,
    0o10000000,
    0o20200002,
    0o40000,
    3,
    0o101,
]
AT = [0, 0x100, 0x200, 0x400, 0x800, 0x1000, 0x1100, 0x2000, 0x4000, 0x8000]
SIGNALS = [0, 10, 12, 14, 17, 18, 23, 32, 64, 65, -1, 28]
SIZES = [0, 1, 2, 4096, 4097, 8192, SCRAP_SIZE, 1 << 47, MASK, MASK - 4095]
CLOCKS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 99, -1, -6, -2]
SOCKET = (
    [1, 2, 10, 16, 0, 17, 99],
    [1, 2, 3, 5, 0o4001, 0o2000002, 6, 10, 99],
    [0, 6, 17, 1, 132, 255, -1, 15],
)
FCNTL = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 36, 37, 38, 1024, 1025, 1026, 1030, 1031, 1032, 1033, 1034, 1035,
         1036, 1037, 1038, 99]  # fmt: skip
IOCTL = [0x5401, 0x5402, 0x5403, 0x540B, 0x540F, 0x5410, 0x5413, 0x5414, 0x541B, 0x5421, 0x5450, 0x5451, 0x5452, 0x5422,
         0x80045430, 0x40045431, 0x8008_6601, 0x8910, 0x8912, 0x8913, 0x8927, 0x12, 0, MASK >> 32, 0x4020940D]  # fmt: skip
LEVELS, OPTIONS = [1, 0, 6, 17, 41, 270, 99, -1], [*range(40), 41, 49, 50, 59, 71, 72, 82, -1]
PRCTL = [*range(1, 11), 13, 14, 15, 16, 19, 20, 21, 22, 23, 25, 26, 28, 29, 30, 33, 34, 36, 37, 38, 39, 40, 41, 47, 51, 53,
         65, 66, 67, 99, -1, 0x53564D41]  # fmt: skip

#: kinds of structure in MEMORY, or numbers, by call and argument
PLAUSIBLE: dict[str, dict[int, str | Sequence[int]]] = {
    "open": {1: OPEN, 2: MODES}, "openat": {2: OPEN, 3: MODES}, "creat": {1: MODES},
    "openat2": {2: "how", 3: [24, 24, 24, 0, 23, 32, 4097]},
    "mkdir": {1: MODES}, "mkdirat": {2: MODES}, "mknod": {1: MODES, 2: [0, 0x103]}, "mknodat": {2: MODES, 3: [0, 0x103]},
    "chmod": {1: MODES}, "fchmod": {1: MODES}, "fchmodat": {2: MODES}, "fchmodat2": {2: MODES, 3: AT},
    "access": {1: [0, 1, 2, 4, 7, 8, -1]}, "faccessat": {2: [0, 4, 7, 8]}, "faccessat2": {2: [0, 4, 7, 8], 3: AT},
    "newfstatat": {3: AT}, "statx": {2: [*AT, 0x6000], 3: [0x7FF, 0xFFF, 1 << 31, 0]}, "unlinkat": {2: AT},
    "linkat": {4: AT}, "fchownat": {4: AT}, "utimensat": {2: "times", 3: AT}, "utime": {1: "times"},
    "utimes": {1: "times"}, "futimesat": {2: "times"}, "renameat2": {4: [0, 1, 2, 4, 3, 8]},
    "name_to_handle_at": {2: "pair", 4: AT}, "open_by_handle_at": {1: "pair", 2: OPEN},
    "setxattr": {4: [0, 1, 2, 3]}, "fsetxattr": {4: [0, 1, 2, 3]}, "lsetxattr": {4: [0, 1, 2, 3]},
    "chown": {1: [-1, 65534, 0], 2: [-1, 65534, 0]}, "fchown": {1: [-1, 65534, 0], 2: [-1, 65534, 0]},
    "truncate": {1: [0, 5, 100000, -1, 1 << 40]}, "ftruncate": {1: [0, 5, 100000, -1, 1 << 40]},
    "fallocate": {1: [0, 1, 2, 3, 8, 16, 32, 64, 99], 2: [0, 4096, -1], 3: [0, 4096, 5, -1]},
    "lseek": {1: [0, 5, -5, 10000, -1], 2: [0, 1, 2, 3, 4, 5, -1]}, "fadvise64": {3: [0, 1, 2, 3, 4, 5, 6, 7]},
    "readv": {1: "iov", 2: [0, 1, 3, 1024, 1025, -1]}, "writev": {1: "iov", 2: [0, 1, 3, 1024, 1025, -1]},
    "preadv": {1: "iov", 2: [0, 1, 3, 1025]}, "pwritev": {1: "iov", 2: [0, 1, 3, 1025]},
    "preadv2": {1: "iov", 2: [0, 1, 3], 3: [0, -1, 5], 4: [0], 5: [0, 1, 2, 4, 8, 16, 32, 64, 1 << 20]},
    "pwritev2": {1: "iov", 2: [0, 1, 3], 3: [0, -1, 5], 4: [0], 5: [0, 1, 2, 4, 8, 16, 32, 64, 1 << 20]},
    "vmsplice": {1: "iov", 2: [0, 1, 3]}, "sendfile": {2: "offset"}, "splice": {1: "offset", 3: "offset", 5: [0, 1, 2, 15, 16]},
    "copy_file_range": {1: "offset", 3: "offset", 5: [0, 0, 1]}, "tee": {3: [0, 2, 16]},
    "fcntl": {1: FCNTL, 2: "lock"}, "flock": {1: [1, 2, 4, 5, 6, 8, 12, 0, 99]}, "ioctl": {1: IOCTL, 2: "numbers"},
    "dup3": {2: [0, 0o2000000, 1]}, "pipe2": {1: [0, 0o4000, 0o2000000, 0o40000, 1]}, "eventfd2": {1: [0, 1, 0o4000, 2]},
    "signalfd": {1: "sigset", 2: [8]}, "signalfd4": {1: "sigset", 2: [8, 8, 4], 3: [0, 0o4000, 1]},
    "timerfd_create": {0: CLOCKS, 1: [0, 0o4000, 1]}, "timerfd_settime": {1: [0, 1, 2, 3, 4], 2: "itimer"},
    "poll": {0: "poll", 1: [0, 1, 3], 2: [0, 1, -1]}, "ppoll": {0: "poll", 1: [0, 1, 3], 2: "time", 3: "sigset", 4: [8]},
    "select": {0: [0, 5, 40, 1024, -1], 1: "fdset", 2: "fdset", 3: "fdset", 4: "time"},
    "pselect6": {0: [0, 5, 40, -1], 1: "fdset", 2: "fdset", 3: "fdset", 4: "time"},
    "epoll_ctl": {1: [1, 2, 3, 4], 3: "epoll"}, "epoll_create1": {0: [0, 0o2000000, 1]}, "epoll_create": {0: [1, 0, -1]},
    "epoll_wait": {0: [10], 2: [1, 10, 0, -1], 3: [0, 1, -1]}, "epoll_pwait": {0: [10], 2: [1, 5], 3: [0], 4: "sigset", 5: [8]},
    "epoll_pwait2": {0: [10], 2: [1, 5], 3: "time", 4: "sigset", 5: [8]},
    "inotify_init1": {0: [0, 0o4000, 1]}, "inotify_add_watch": {0: [12], 2: [0xFFF, 2, 0x1000_0002, 0x2000_0002, 0]},
    "memfd_create": {1: [0, 1, 2, 3, 8, 16, 4, 32]}, "umask": {0: MODES}, "fsopen": {1: [0, 1, 2]},
    "mmap": {1: SIZES, 2: [0, 1, 3, 5, 7, 8, 99], 3: [0x22, 0x21, 2, 1, 0x32, 0x100022, 0, 3, 0x10000], 4: range(-1, 34),
             5: [0, 4096, 1, -4096]},
    "munmap": {1: SIZES}, "mprotect": {1: SIZES, 2: [0, 1, 3, 5, 7, 99, 0x01000001]}, "madvise": {1: SIZES, 2: range(26)},
    "mremap": {1: SIZES, 2: SIZES, 3: [0, 1, 3, 2, 5, 8]}, "msync": {1: SIZES, 2: [0, 1, 2, 4, 5, 6]}, "mincore": {1: SIZES},
    "mlock": {1: SIZES}, "mlock2": {1: SIZES, 2: [0, 1, 2]}, "munlock": {1: SIZES}, "mlockall": {0: [1, 2, 4, 0, 8]},
    "pkey_mprotect": {1: SIZES, 2: [1, 3], 3: [-1, 0, 1]}, "pkey_alloc": {0: [0, 1], 1: [0, 1, 2, 4]}, "mseal": {1: SIZES},
    "mbind": {1: SIZES}, "set_mempolicy": {0: [0, 1, 2, 3, 4, 99]}, "remap_file_pages": {1: SIZES},
    "wait4": {0: [-1, 0, 99999], 2: [1, 2, 3, 1 << 31]}, "waitid": {0: [0, 1, 2, 3], 3: [4, 5, 1, 0, 0x1000005]},
    "prctl": {0: PRCTL, 1: [0, 1, 2, 9, 17, OUT, -1], 2: [0, 1, OUT], 3: [0, 0, 1], 4: [0, 0, 1]},
    "arch_prctl": {0: [0x1001, 0x1003, 0x1004, 0x1011, 0x1012, 0x1021, 99], 1: [OUT]},
    "personality": {0: [0xFFFFFFFF, 0, 0x40000]}, "seccomp": {0: [0, 1, 2, 3, 99], 1: [0, 1, 2, 8, 16, 32]},
    "futex": {1: [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 128, 129, 256, 99], 3: "time", 4: "numbers"},
    "set_robust_list": {1: [24]}, "rseq": {1: [32]}, "membarrier": {0: [0, 1, 2, 4, 8, 16, 99], 1: [0]},
    "pidfd_open": {1: [0, 0o4000, 0o200, 1]}, "pidfd_send_signal": {0: [19], 1: SIGNALS, 3: [0, 0, 1]},
    "kill": {1: SIGNALS}, "tkill": {1: SIGNALS}, "tgkill": {2: SIGNALS}, "rt_sigqueueinfo": {1: SIGNALS},
    "rt_sigaction": {0: range(67), 1: "act", 3: [8, 8, 8, 4]}, "rt_sigprocmask": {0: [0, 1, 2, 3], 1: "sigset", 3: [8, 8, 4]},
    "rt_sigpending": {1: [8, 4, 0, 9]}, "rt_sigtimedwait": {0: "sigset", 2: "time", 3: [8, 4]},
    "rt_sigsuspend": {0: "sigset", 1: [8, 8, 4]}, "nanosleep": {0: "time"},
    "clock_nanosleep": {0: CLOCKS, 1: [0, 1, 2], 2: "time"}, "clock_gettime": {0: CLOCKS}, "clock_getres": {0: CLOCKS},
    "setitimer": {0: [1, 2, 3, -1], 1: "itimer"}, "getitimer": {0: [0, 1, 2, 3, -1]}, "alarm": {0: [0, 5, MASK]},
    "timer_create": {0: CLOCKS}, "timer_settime": {0: [0, 1], 1: [0, 1, 2], 2: "itimer"}, "timer_delete": {0: [0, 1, 99]},
    "timer_gettime": {0: [0, 1]}, "timer_getoverrun": {0: [0, 1]},
    "sched_setscheduler": {1: [0, 3, 1, 2, 99, 0x40000000], 2: "zero"}, "sched_setattr": {1: "sched", 2: [0, 1]},
    "sched_setparam": {1: "zero"}, "sched_get_priority_max": {0: range(-1, 8)}, "sched_get_priority_min": {0: range(-1, 8)},
    "getpriority": {0: [0, 1, 2, 3], 1: [0]}, "setpriority": {0: [0, 1, 2, 3], 1: [0], 2: [0, 5, 19, 100, -5]},
    "ioprio_get": {0: [1, 2, 3, 4], 1: [0]}, "ioprio_set": {0: [1, 2, 3], 1: [0], 2: [0, 0x4004, 0x2000, 0x6007, 0x9000]},
    "getrlimit": {0: range(18)}, "setrlimit": {0: range(18), 1: "limit"}, "prlimit64": {1: range(18), 2: "limit"},
    "getrusage": {0: [0, -1, 1, -2, 99]}, "getrandom": {1: [0, 8, 256, 1000], 2: [0, 1, 2, 4, 6, 8]},
    "setuid": {0: [65534, 0, -1]}, "setgid": {0: [65534, 0, -1]}, "setreuid": {0: [65534, -1, 0], 1: [65534, -1, 0]},
    "setresuid": {i: [65534, -1, 0] for i in range(3)}, "setresgid": {i: [65534, -1, 0] for i in range(3)},
    "capget": {0: "cap"}, "capset": {0: "cap"}, "adjtimex": {0: "zero"}, "clock_adjtime": {0: CLOCKS, 1: "zero"},
    "socket": dict(enumerate(SOCKET)), "socketpair": dict(enumerate(SOCKET)),
    "connect": {1: "sockaddr", 2: [16, 28, 110, 0, 1, 2, 3, 111, 129, -1]}, "bind": {1: "sockaddr", 2: [16, 28, 110, 2, 7, -1]},
    "listen": {1: [0, 5, -1]}, "accept": {2: "numbers"}, "accept4": {2: "numbers", 3: [0, 0o4000, 0o2000000, 1]},
    "sendto": {2: [0, 1, 100, 70000], 3: [0, 0x40, 0x4000, 1, 0x40000000, 0x20000000], 4: "sockaddr", 5: [0, 16, 28, 110, -1]},
    "sendmsg": {1: "message", 2: [0, 0x40, 0x4000, 1]}, "sendmmsg": {1: "message", 2: [0, 1, 2], 3: [0, 0x40]},
    "recvfrom": {2: [0, 1, 100], 3: [0x40, 0x42, 0x60, 0x41, 0x2040], 5: "numbers"}, "recvmsg": {1: "message", 2: [0x40, 0x42]},
    "recvmmsg": {1: "message", 2: [0, 1, 2], 3: [0x40], 4: "time"}, "shutdown": {1: [0, 1, 2, 3, -1]},
    "getsockname": {2: "numbers"}, "getpeername": {2: "numbers"},
    "setsockopt": {1: LEVELS, 2: OPTIONS, 3: "numbers", 4: [4, 0, 1, 3, 8, 16, 128, -1]},
    "getsockopt": {1: LEVELS, 2: OPTIONS, 4: "numbers"},
    "shmget": {0: [0, 5], 1: [0, 1, 4096, MASK], 2: [0o600, 0o1600, 0o3600]}, "shmat": {0: [0, 1, -1], 2: [0, 0o10000, 0o20000]},
    "shmctl": {0: [0, 1, -1], 1: [0, 1, 2, 3, 13, 14, 15, 99]}, "shmdt": {0: [SCRAP]},
    "unshare": {0: [0, 0x200, 0x400, 0x10000, 0x20000, 1]}, "clone": {0: [17, 0x100011, 0, 0x10000, 0x4011, 0x11 | 1 << 33]},
    "clone3": {0: "clone", 1: [88, 64, 63, 0, 4097]}, "execve": {1: "argv", 2: "argv"},
    "execveat": {2: "argv", 3: "argv", 4: AT}, "close_range": {0: [40, 100, 30], 1: [50, 10, MASK >> 32], 2: [0, 2, 4, 6, 1]},
    "cachestat": {1: "offset"}, "fsconfig": {1: range(10)}, "umount2": {1: [0, 2, 4, 8, 16]}, "sethostname": {1: [0, 5, 65]},
    "sync_file_range": {1: [0, -1], 2: [0, 5, -1], 3: [0, 1, 2, 4, 7, 8]}, "getgroups": {0: [0, 1, -1, 100]},
    "setgroups": {0: [0, 1, -1, 65537]}, "set_tid_address": {0: [OUT]}, "brk": {0: [0, 1]},
}  # fmt: skip

#: what these write differs from one side to the other: it must not become the argument of a later call
VARYING = {"statfs", "fstatfs", "stat", "fstat", "lstat", "newfstatat", "statx", "uname", "sysinfo", "getrusage", "times", "getcwd",
           "clock_gettime", "gettimeofday", "getrandom"}  # fmt: skip
_ADDRESS = ("mmap", "munmap", "mprotect", "mremap", "madvise", "mbind", "pkey_mprotect", "mseal", "remap_file_pages",
            "msync", "mlock", "munlock", "mlock2", "mincore", "shmat", "brk", "set_mempolicy_home_node")  # fmt: skip
_PLACES = [SCRAP, SCRAP + 4096, SCRAP + 3 * 4096, SCRAP + 1, SCRAP + SCRAP_SIZE, 0, EDGE, MASK - 4095]


def _number(r: random.Random) -> int:
    roll = r.random()
    if roll < 0.6:
        return r.choice(NUMBERS)
    return 1 << r.randrange(64) if roll < 0.75 else r.choice(EXTREMES) if roll < 0.95 else r.getrandbits(64)


def _pointer(r: random.Random) -> int:
    roll = r.random()
    if roll < 0.2:
        return r.choice(HOSTILE)
    if roll < 0.7:
        return OUT + 8 * r.randrange(2048)
    return r.choice(MEMORY.structs[r.choice(list(MEMORY.structs))])


def _fd(r: random.Random) -> int:
    roll = r.random()
    return (
        r.randrange(3, 3 + FDS)
        if roll < 0.9
        else r.choice([-1, -100, 99, 1023, 1 << 31, 0x1_0000_0003, MASK])
    )


def _string(r: random.Random, what: list[int]) -> int:
    return r.choice(HOSTILE) if r.random() < 0.06 else r.choice(what)


_BY_KIND: dict[str, Callable[[random.Random], int]] = {
    "int": _number, "long": _number, "uint": _number, "u32": _number, "ptr": _pointer, "fd": _fd, "inout": _pointer, "in": _pointer,
    "inbuf": _pointer, "small": _pointer, "iov": _pointer, "strv": _pointer,
    "dirfd": lambda r: _fd(r) if r.random() < 0.5 else r.choice([-100, 4, 26, 24]),
    "path": lambda r: _string(r, MEMORY.strings), "path?": lambda r: _string(r, MEMORY.strings),
    "str": lambda r: _string(r, MEMORY.names), "str?": lambda r: _string(r, MEMORY.names),
    "pid": lambda r: r.choice([0, 0, 0, 4_000_000, -5, 1 << 31, 0x1_0000_0000]),
}  # fmt: skip


def _argument(r: random.Random, call: Sys, i: int, kind: str) -> int:
    hint = PLAUSIBLE.get(call.name, {}).get(i)
    if call.name in _ADDRESS and kind == "ptr" and (call.name, i) not in (("mincore", 2), ("mbind", 3)):
        return r.choice(_PLACES)
    if kind == "ptr" and call.name in VARYING:
        return r.choice(HOSTILE) if r.random() < 0.2 else OUT + 8 * r.randrange(2048)
    if hint is None or (r.random() < 0.12 and kind not in ("pid",)):
        return _BY_KIND[kind](r)
    value = r.choice(MEMORY.structs[hint]) if isinstance(hint, str) else r.choice(hint)
    return value | 0x1234_5678 << 32 if kind == "int" and r.random() < 0.05 else value


#: never called: what ends or replaces the process at once, what reads its frame, what stops it
UNCALLED = {"exit", "exit_group", "rt_sigreturn", "vhangup", "pause", "rt_sigsuspend"}
NAMES = [name for name in BY_NAME if name not in UNCALLED]
COMPARED = [name for name in NAMES if BY_NAME[name].lane != REFUSE]


def line(name: str, number: int, args: Sequence[int]) -> str:
    words = [f"{value & MASK:x}" for value in [*args, 0, 0, 0, 0, 0, 0][:6]]
    return f"{name} {number} {' '.join(words)}"


def step(seed: int, names: Sequence[str] = COMPARED) -> str:
    """The call that a number stands for."""
    r = random.Random(seed)
    call = BY_NAME[names[r.randrange(len(names))]]
    args = [_argument(r, call, i, kind) for i, (kind, _) in enumerate(call.args)]
    return line(call.name, call.nr, args)


def wild_step(seed: int) -> str:
    """Any number from 0 to 600 or none at all, any argument: not to be compared, only to be survived."""
    r = random.Random(seed)
    number = r.choice(
        [r.randrange(0, 601), r.choice([*TABLE]), r.choice([-1, 1 << 30, (1 << 30) + 39, 1 << 63])]
    )
    if r.random() < 0.6 and number in TABLE and TABLE[number].name not in UNCALLED:
        return step(seed, [TABLE[number].name])
    kinds = list(_BY_KIND)
    args = [r.choice(CORE) if r.random() < 0.1 else _BY_KIND[r.choice(kinds)](r) for _ in range(6)]
    return line(f"#{number}", number & MASK, args)


def usable(text: str) -> bool:
    """Not those that would reach the servant itself, or that end everything there is."""
    name, number, *words = text.split()
    args = [int(word, 16) for word in words]
    low = args[0] & 0xFFFFFFFF
    if int(number) in (62, 129) and low in (0xFFFFFFFF, 1):  # kill(2), rt_sigqueueinfo(2)
        return False
    if name == "mmap" and args[3] & 0x8000 and args[1] >= 1 << 30:
        return False
    return int(number) not in (60, 231, 15)


#: what is not virtual (docs/syscalls.md says so), or differs between kernels: calls that are not compared where this holds
_ANONYMOUS = {9, 10, 12, 13, 14, 19}  # attributes of these are EOPNOTSUPP from Linux 6.17 on
_PROC = {address for address, path in zip(MEMORY.strings, PATHS, strict=False) if path.startswith(b"/proc")}
_EXCUSED: dict[str, Callable[[list[int]], bool]] = {
    "setpriority": lambda a: a[0] & 0xFFFFFFFF in (1, 2) or 0 < a[1] & 0xFFFFFFFF <= 1 << 22,  # who else there is
    "ioprio_set": lambda a: a[0] & 0xFFFFFFFF in (2, 3) or a[1] & 0xFFFFFFFF != 0,
    "ioprio_get": lambda a: a[0] & 0xFFFFFFFF in (2, 3) or a[1] & 0xFFFFFFFF != 0, "clone": lambda a: a[0] & 0xFF not in (0, 17),
    "unshare": lambda a: bool(a[0] & 0x7E020000), "arch_prctl": lambda a: a[0] & 0xFFFFFFFE == 0x1012,
    "rt_sigqueueinfo": lambda a: a[0] != 0, "rt_tgsigqueueinfo": lambda a: a[0] != 0,
    "mlockall": lambda a: bool(a[0] & 2),  # what comes: ring3's guests have no CAP_IPC_LOCK
    "seccomp": lambda a: a[0] & 0xFFFFFFFF == 3, "shmget": lambda a: a[1] >= 1 << 30,
    "socketpair": lambda a: a[0] & 0xFFFFFFFF == 17, "recvfrom": lambda a: bool(a[3] & 0x2001),
    "getdents": lambda a: a[0] == 24, "getdents64": lambda a: a[0] == 24, "fdatasync": lambda a: a[0] == 24,
    "fsync": lambda a: a[0] == 24, "readv": lambda a: a[0] in (28, 31), "writev": lambda a: a[0] in (28, 31),
    "prctl": lambda a: a[0] & 0xFFFFFFFF in (24, 28, 67, 68),  # PR_SET_MEMORY_MERGE needs a kernel with KSM
    # hints for generated files, and for what is the host's root's; leases, which nobody is given
    "fcntl": lambda a: (a[1] & 0xFFFFFFFF in (1036, 1038) and a[0] & 0xFFFFFFFF in (17, *_ANONYMOUS))
    or (a[1] & 0xFFFFFFFF == 1024 and a[2] & 0xFFFFFFFF < 3),
    # options of packet filters (IPT_BASE_CTL and on) depend on the modules
    **{name: lambda a: a[1] & 0xFFFFFFFF in (0, 41) and 64 <= a[2] & 0xFFFFFFFF < 128 for name in
       ("getsockopt", "setsockopt")},
    # the core lies somewhere above
    **{name: lambda a: a[1] >= 1 << 40 for name in ("munmap", "mprotect", "madvise", "mremap", "pkey_mprotect", "mseal", "mbind")},
    "open_by_handle_at": lambda a: a[0] & 0xFFFFFFFF == 19,  # pidfds have handles from Linux 6.14 on
    **{name: lambda a: a[0] & 0xFFFFFFFF in _ANONYMOUS or a[0] & 0xFFFFFFFF > 32 for name in
       ("fchmod", "fchown", "fgetxattr", "flistxattr")},
    # attributes of a memfd and of a terminal cannot be set: docs/lockdown.md
    **{name: lambda a: a[0] & 0xFFFFFFFF in (*_ANONYMOUS, 15, 21) or a[0] & 0xFFFFFFFF > 32 for name in
       ("fsetxattr", "fremovexattr")},
    # bits of descriptors beyond the kernel's table are ignored, and how large that is depends on what was open once
    **{name: lambda a: a[0] & 0xFFFFFFFF > 64 for name in ("select", "pselect6")},
    # RLIMIT_NPROC counts the processes of the host's user; RLIMIT_DATA and _AS the core's memory too
    "setrlimit": lambda a: a[0] & 0xFFFFFFFF in (2, 6, 9), "prlimit64": lambda a: a[1] & 0xFFFFFFFF in (2, 6, 9),
    # AT_EMPTY_PATH needs the credentials with which the directory was opened, even where there is a path
    "linkat": lambda a: bool(a[4] & 0x1000),
    # which protocols netlink has depends on the modules; SCM_RIGHTS over it is not looked at
    "socket": lambda a: a[0] & 0xFFFFFFFF == 16 and a[2] & 0xFFFFFFFF not in (0, 4),
    "sendmsg": lambda a: a[0] & 0xFFFFFFFF == 32 or bool(a[2] & 0x20000000),
    "sendmmsg": lambda a: a[0] & 0xFFFFFFFF == 32 or bool(a[3] & 0x20000000),
    # Linux maps what TCP has received
    "mmap": lambda a: a[4] & 0xFFFFFFFF in (28, 31) and not a[2] & 6,
    "bind": lambda a: a[0] & 0xFFFFFFFF in (7, 8),  # one of a pair stays nameless
    # FICLONE, FICLONERANGE: EOPNOTSUPP, where Linux may look first at what is to be shared; FIBMAP: of no use to
    # anybody but root
    "ioctl": lambda a: a[1] & 0xFFFFFFFF in (0x40049409, 0x4020940D, 1),
    # to datagram sockets: EINVAL, whatever there is to be sent; of /proc/self/status more than Linux does
    "sendfile": lambda a: a[0] & 0xFFFFFFFF in (27, 30, 32) or a[1] & 0xFFFFFFFF == 17,
    # MSG_FASTOPEN: as where net.ipv4.tcp_fastopen is 0
    "sendto": lambda a: bool(a[3] & 0x20000000) and a[0] & 0xFFFFFFFF in (28, 31),
    "getpriority": lambda a: a[1] & 0xFFFFFFFF != 0,  # who else there is
    **{name: lambda a: bool(_PROC & set(a[:4])) for name in
       ("rmdir", "unlink", "unlinkat", "utime", "utimes", "futimesat", "utimensat", "access", "faccessat", "faccessat2",
        "setxattr", "lsetxattr", "setxattrat", "removexattr", "lremovexattr", "removexattrat", "chown", "lchown",
        "fchownat", "rename", "renameat", "renameat2")},
}  # fmt: skip


def excused(text: str) -> bool:
    name, _, *words = text.split()
    return not has_call(name) or name in _EXCUSED and _EXCUSED[name]([int(word, 16) for word in words])
