"""What the host around the tests lacks, found by looking: each is a sentence, or "" where nothing is lacking.

Layer: tests. Touches nothing; reads /proc, tries a route, a device node in a temporary directory, and calls
that can only fail.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

from harness import NOBODY

from ring3.kernel.table import BY_NAME

OLDEST = 442  # the calls below are those of Linux 5.11, the oldest kernel that ring3 supports


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


@lru_cache(maxsize=1)
def few_users() -> str:
    """user_namespaces(7): who is not in the namespace's map is nobody, and setuid(2) to it is EINVAL."""
    ranges = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    if any(first <= 0 and NOBODY < first + count for first, _, count in ranges):
        return ""
    return "this user namespace has not every user"


@lru_cache(maxsize=1)
def not_root() -> str:
    """Root that may become everybody is the host's."""
    return "the tests are not run by root" if os.geteuid() else few_users()


@lru_cache(maxsize=1)
def no_device_nodes() -> str:
    """mknod(2): EPERM for who is not the host's root."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            os.mknod(f"{directory}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            return "the tests may make no device nodes"
    return ""


@lru_cache(maxsize=1)
def own_init() -> str:
    """In a container process 1 may be the user's: it can be signalled and looked at."""
    owned = os.getuid() != 0 and os.stat("/proc/1").st_uid == os.getuid()
    return "process 1 belongs to the user that runs the tests" if owned else ""


@lru_cache(maxsize=1)
def shows_as_own() -> str:
    """In a user namespace of nobody's files of root are shown as nobody's (user_namespaces(7))."""
    same = os.getuid() != 0 and os.stat("/").st_uid == os.getuid()
    return "files of root's are shown as those of the user that runs the tests" if same else ""


@lru_cache(maxsize=1)
def no_route() -> str:
    """A network namespace of one's own has at most the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        found = s.connect_ex(("192.0.2.1", 9))
    return "the host has no route to other machines" if found == errno.ENETUNREACH else ""


def words_of_errors() -> str:
    """strerror(3) of another libc (musl) says "Not a tty", where strace has glibc's words."""
    same = os.strerror(errno.ENOTTY) == "Inappropriate ioctl for device"
    return "" if same else "Python's libc has other words for errors than strace's"


def no_python_xattrs() -> str:
    """os.setxattr() and its like are there where Python was built for glibc."""
    return "" if hasattr(os, "setxattr") else "this Python has no os.setxattr()"


def hidden_signals() -> str:
    """musl keeps signals 32 to 34 to itself, tells nobody, and leaves 34 ignored."""
    return "" if signal.SIGRTMIN == 34 else "the host's libc hides signal 34, and ignores it"


@lru_cache(maxsize=1)
def filtered() -> str:
    """A seccomp filter around the tests answers natively before the kernel does."""
    return "a seccomp filter is around the tests" if _status("Seccomp") != "0" else ""


@lru_cache(maxsize=1)
def no_chroot() -> str:
    """chroot(2) looks at the path before it looks at rights (fs/open.c); a seccomp filter does not."""
    try:
        os.chroot("/nonexistent/ring3")
    except FileNotFoundError:
        return ""
    except OSError:
        return "chroot(2) is refused whatever its path, by a seccomp filter"
    raise AssertionError("there is a directory that cannot be")


@lru_cache(maxsize=1)
def no_new_privs() -> str:
    """PR_SET_NO_NEW_PRIVS(2const): cannot be taken back, and lets an ordinary user install seccomp filters."""
    return "no_new_privs is set around the tests" if _status("NoNewPrivs") == "1" else ""


@lru_cache
def has_call(name: str) -> bool:
    """Does the host's kernel have this system call?  Newer ones are tried, with arguments that each of them refuses."""
    number = BY_NAME[name].nr
    if number < OLDEST:
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
    return ctypes.get_errno() != errno.ENOSYS


def missing_calls(*names: str) -> str:
    """What of these the host's kernel lacks: natively they are ENOSYS, while ring3 has them all the same."""
    missing = [name for name in names if not has_call(name)]
    return f"the host's kernel has no {', '.join(missing)}" if missing else ""
