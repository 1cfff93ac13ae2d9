"""Strategies for file calls: what a step of the model test may be.

Layer: tests. A step is one line for servant.c: the slot of a process, the call, its arguments.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from hostfacts import has_call
from hypothesis import strategies as st

SLOTS = 4
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, AT_SYMLINK_FOLLOW = -100, 0x100, 0x200, 0x400
AT_EMPTY_PATH, AT_EACCESS, AT_NO_AUTOMOUNT = 0x1000, 0x200, 0x800
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
NOP = ""
S = st.SearchStrategy[str]

#: Names: few, so that calls meet each other. 255 bytes may be a name, 256 may not.
_component = st.sampled_from(
    [*"aadddwwtshpefun", "e", "f", "l", "u", "n", "m", "x", ".", "..", "..", "L" * 255, "T" * 256]
)
_USUAL = "a d d/e d/f w w/u t s h p n m d/n w/n t/n d/e/n w/m t/m d/l d/l/u s/x . .. / /d /w/n d/ a/ n/ d/.. d/. w/. e"
_usual = st.sampled_from(_USUAL.split())
path: S = st.one_of(
    _usual,
    _usual,
    st.lists(_component, min_size=1, max_size=4).map("/".join),
    st.sampled_from(["", "//d//e/", "x/" * 12 + "y", "d/e/../../w/../t/n"]),
).map(lambda text: "s" + text)
name: S = st.sampled_from(
    [f"s{text}" for text in "a d e f w u t s n m x d/e d/f w/n .. . n/ d/ /d".split()] + ["s"]
)
fd: S = st.sampled_from([0, 0, 0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 11, 63, -1, AT_FDCWD]).map(str)
# The f*xattr calls of Linux 6.13 and later take AT_FDCWD for the working directory by accident.
xattr_fd: S = fd.filter(lambda text: text != str(AT_FDCWD))
dirfd: S = st.sampled_from([AT_FDCWD, AT_FDCWD, 1, 1, 2, 3, 4, 5, 0, 7, -1]).map(str)
mode: S = st.sampled_from(
    [0o644, 0o755, 0o777, 0o700, 0o600, 0, 0o444, 0o1777, 0o2755, 0o4755, 0o6711, 0o2664, 0o37777]
).map(str)
size: S = st.sampled_from([0, 1, 5, 100, 4095, 4096, 4097, 5000, 9000, 70000]).map(str)
offset: S = st.sampled_from([0, 0, 1, 10, 4096, 5000, 8192, 100000, 1 << 33, (1 << 62) + 5, -1]).map(str)
length: S = st.sampled_from([0, 1, 10, 4095, 4096, 5000, 8192, 12288, 100000, 1 << 33, -1]).map(str)
seed: S = st.integers(0, 9).map(str)
uid: S = st.sampled_from([-1, 0, 1001, 1002, 7]).map(str)
key: S = st.sampled_from(
    ["suser.a", "suser.a", "suser.b", "strusted.a", "suser.", "snope", "sbogus.a", "suser." + "k" * 250]
)


def flags(*values: int, often: int = 3) -> S:
    """A few of these bits, mostly none or one."""
    return st.lists(st.sampled_from([0, *values]), min_size=0, max_size=often).map(
        lambda bits: str(functools.reduce(int.__or__, bits, 0))
    )


def _open_flags(access: int, bits: list[int]) -> int:
    value = access | os.O_NONBLOCK
    for bit in bits:
        value |= bit
    return value


_bits = [
    os.O_CREAT, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_CLOEXEC,
    os.O_PATH, os.O_NOATIME, os.O_SYNC, os.O_DSYNC, os.O_TMPFILE, os.O_TMPFILE, os.O_NOCTTY,
]  # fmt: skip
open_flags: S = st.builds(
    _open_flags, st.sampled_from([0, 1, 2, 2, 3]), st.lists(st.sampled_from(_bits), max_size=3)
).map(str)
resolve: S = flags(0x01, 0x02, 0x04, 0x08, 0x10, often=2)
how: S = st.builds(
    lambda f, m, r: f"h{f},{m},{r}", open_flags, st.sampled_from(["0", "0", "420", "511", "4096"]), resolve
)
times: S = st.builds(
    lambda a, an, m, mn: f"t{a},{an},{m},{mn}",
    st.sampled_from([0, 1, 86400, 10**9, -5]),
    st.sampled_from([0, 1, 999999999, UTIME_NOW, UTIME_OMIT, UTIME_OMIT, 10**9]),
    st.sampled_from([0, 1, 86400, 10**9]),
    st.sampled_from([0, 1, 123456789, UTIME_NOW, UTIME_OMIT]),
)
lock: S = st.builds(
    lambda kind, whence, start, span: f"f{kind},{whence},{start},{span}",
    st.sampled_from([0, 1, 2, 2, 3]),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([0, 0, 5, 10, -5]),
    st.sampled_from([0, 1, 10, -3]),
)
nofollow: S = st.sampled_from(
    [0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, 0x8000]
).map(str)


def bytes_in(limit: int = 1 << 17) -> S:
    """Bytes to write, and their number."""
    return st.builds(lambda n, s: f"b{n}:{s} {n}", size, seed)


room: S = size.map(lambda n: f"o{n} {n}")
iov_in: S = st.lists(st.builds(lambda n, s: f"{n}:{s}", size, seed), min_size=0, max_size=3).map(
    lambda parts: f"v{','.join(parts)} {len(parts)}"
)
iov_out: S = st.lists(size, min_size=0, max_size=3).map(lambda parts: f"w{','.join(parts)} {len(parts)}")
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK = 0, 1, 2, 3, 4, 5, 6
F_OFD_GETLK, F_OFD_SETLK, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS = 36, 37, 1030, 1033, 1034
status_flags: S = flags(os.O_APPEND, os.O_NOATIME).map(lambda text: str(int(text) | os.O_NONBLOCK))
xflags: S = st.sampled_from("00123").map(str)
position: S = st.one_of(offset.map(lambda text: "q" + text), st.just("0"))
rename_flags: S = st.sampled_from([0, 0, 0, 1, 2, 2, 4, 5, 3, 8]).map(str)
WHITEOUT = "8630"
device: S = st.sampled_from(["4534 0", "4516 0", "49572 0", "33188 0", "420 0", "16877 0", f"{WHITEOUT} 0"])
value: S = st.builds(lambda n, s: f"b{n}:{s} {n}", st.sampled_from([0, 1, 3, 50, 3000]), seed)
small_room: S = st.sampled_from([0, 1, 3, 64, 4096]).map(lambda n: f"o{n} {n}")
list_room: S = st.sampled_from([0, 3, 4096, 4096]).map(lambda n: f"L{n} {n}")
statx_flags: S = flags(AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, 0x2000, 0x4000)
statx_mask: S = st.just("4095")  # what else a filesystem tells is its own affair

#: Call -> the strategies of its arguments (one may give several words).
CALLS: dict[str, tuple[S, ...]] = {
    "open": (path, open_flags, mode),
    "openat": (dirfd, path, open_flags, mode),
    "openat2": (dirfd, path, how, st.just("24")),
    "creat": (path, mode),
    "close": (fd,),
    "read": (fd, room),
    "write": (fd, bytes_in()),
    "pread64": (fd, room, offset),
    "pwrite64": (fd, bytes_in(), offset),
    "readv": (fd, iov_out),
    "writev": (fd, iov_in),
    "preadv2": (fd, iov_out, offset, st.just("0"), flags(1, 2, 4, 8, often=1)),
    "pwritev2": (fd, iov_in, offset, st.just("0"), flags(2, 4, 16, often=1)),
    "lseek": (fd, offset, st.sampled_from("0012345")),
    "truncate": (path, offset),
    "ftruncate": (fd, offset),
    "fallocate": (fd, flags(1, 2, 3, 8, 16, often=2), offset, length.filter(lambda text: text != str(1 << 33))),
    "rename": (path, path),
    "renameat": (dirfd, name, dirfd, name),
    "renameat2": (dirfd, path, dirfd, path, rename_flags),
    "link": (path, path),
    "linkat": (dirfd, path, dirfd, path, flags(AT_SYMLINK_FOLLOW, often=1)),  # AT_EMPTY_PATH: by kernel version
    "symlink": (path, path),
    "symlinkat": (path, dirfd, name),
    "readlink": (path, small_room),
    "readlinkat": (dirfd, path, small_room),
    "unlink": (path,),
    "unlinkat": (dirfd, path, st.sampled_from(["0", "512", "1"])),
    "rmdir": (path,),
    "mkdir": (path, mode),
    "mkdirat": (dirfd, path, mode),
    "mknod": (path, device),
    "mknodat": (dirfd, path, device),
    "chmod": (path, mode),
    "fchmod": (fd, mode),
    "fchmodat": (dirfd, path, mode),
    "fchmodat2": (dirfd, path, mode, nofollow),
    "chown": (path, uid, uid),
    "lchown": (path, uid, uid),
    "fchown": (fd, uid, uid),
    "fchownat": (dirfd, path, uid, uid, nofollow),
    "utimensat": (dirfd, st.one_of(path, st.just("0")), st.one_of(times, times, st.just("0")), nofollow),
    "stat": (path, st.just("S")),
    "lstat": (path, st.just("S")),
    "fstat": (fd, st.just("S")),
    "newfstatat": (dirfd, path, st.just("S"), nofollow),
    "statx": (dirfd, path, statx_flags, statx_mask, st.just("X")),
    "access": (path, st.sampled_from("01234567")),
    "faccessat2": (dirfd, path, st.sampled_from("01234567"), flags(AT_EACCESS, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW)),
    "list": (fd,),
    "chdir": (path,),
    "fchdir": (fd,),
    "getcwd": (small_room,),
    "chroot": (st.sampled_from(["sd", "sw", "s.", "sa", "sn", "s/"]),),
    "dup": (fd,),
    "dup2": (fd, fd),
    "dup3": (fd, fd, st.sampled_from(["0", str(os.O_CLOEXEC), "1"])),
    "fcntl": (
        fd,
        st.one_of(
            st.sampled_from([f"{F_DUPFD} 0", f"{F_DUPFD} 5", f"{F_DUPFD_CLOEXEC} 3", f"{F_GETFD} 0", f"{F_SETFD} 1",
                             f"{F_GETFL} 0", f"{F_GET_SEALS} 0", f"{F_ADD_SEALS} 2"]),
            status_flags.map(lambda text: f"{F_SETFL} {text}"),
            st.builds(lambda command, what: f"{command} {what}",
                      st.sampled_from([F_GETLK, F_SETLK, F_SETLK, F_OFD_GETLK, F_OFD_SETLK]), lock),
        ),
    ),
    "flock": (fd, st.sampled_from(["5", "6", "6", "8", "4", "32"])),
    "setxattr": (path, key, value, xflags),
    "lsetxattr": (path, key, value, xflags),
    "fsetxattr": (xattr_fd, key, value, xflags),
    "getxattr": (path, key, small_room),
    "lgetxattr": (path, key, small_room),
    "fgetxattr": (xattr_fd, key, small_room),
    "listxattr": (path, list_room),
    "flistxattr": (xattr_fd, list_room),
    "removexattr": (path, key),
    "fremovexattr": (xattr_fd, key),
    "copy_file_range": (fd, position, fd, position, size, st.sampled_from("0001")),
    "sendfile": (fd, fd, position, size),
    "splice": (fd, position, fd, position, size, st.just("2")),
    "umask": (st.sampled_from(["0", "18", "63", "511"]),),
    "fsync": (fd,),
    "fdatasync": (fd,),
    "sync_file_range": (fd, offset, length, st.sampled_from("0127")),
    "syncfs": (fd,),
    "fadvise64": (fd, offset, length, st.sampled_from("0123459")),
    "readahead": (fd, offset, size),
    "close_range": (st.sampled_from("3569"), st.sampled_from(["8", "20", "2"]), st.sampled_from("0047")),
    "memfd_create": (st.just("sname"), flags(1, 2, 8, often=2)),
    "nofile": (st.sampled_from(["6", "64", "64"]),),
    "user": (),
    "fork": (st.integers(0, SLOTS - 1).map(str),),
    "map": (st.sampled_from("012"), fd, st.sampled_from("1333"), st.sampled_from("1112")),
    "peek": (st.sampled_from("012"), st.sampled_from(["0", "100", "4090", "4096", "9000"])),
    "poke": (st.sampled_from("012"), st.sampled_from(["0", "100", "4090", "4096", "9000"]), seed),
}  # fmt: skip
#: How often a call is made, beside 2.
_RARE = dict.fromkeys(["chroot", "user", "nofile", "umask", "close_range", "memfd_create"], 1)
WEIGHTS = {"open": 7, "openat": 6, "rename": 4, "mkdir": 4, "write": 4, "close": 3, "lstat": 3, "list": 3, "fstat": 3,
           "symlink": 3, **_RARE}  # fmt: skip


def _line(call: str) -> Callable[..., str]:
    return lambda *words: " ".join([call, *words])


def steps() -> S:
    """One step; NOP is the simplest, so a failing sequence shrinks to what it needs."""
    made = {call: st.builds(_line(call), *arguments) for call, arguments in CALLS.items()}
    many = [strategy for call, strategy in made.items() for _ in range(WEIGHTS.get(call, 2))]
    slot = st.sampled_from("0001123")
    step: S = st.builds(lambda who, what: f"{who} {what}", slot, st.one_of(many))
    return st.one_of(st.just(NOP), *[step] * 19)


def usable(step: str, kind: str) -> bool:
    """A process does not fork into its own place; a whiteout (device 0/0) is made in memory only, as an overlay of
    Linux's makes none, and ring3 no device node of the host's; a call that the host lacks is not made."""
    words = step.split()
    if kind in ("rw", "overlay") and words[1:2] in (["mknod"], ["mknodat"]) and words[-2] == WHITEOUT:
        return False
    if words[1:2] == ["fchmodat2"] and not has_call("fchmodat2"):
        return False
    return bool(words) and not (words[1] == "fork" and words[0] == words[2])
