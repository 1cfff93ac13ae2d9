"""Calls after which every name still means what it meant before: they leave the remembered walks alone (vfs/namei.py).

Layer: the pretend kernel, beside dispatch.  May touch: nothing.

A call that is not in here costs at most the memory of past walks, so what is in doubt stays out.
"""

from __future__ import annotations

import os

from .table import BY_NAME

_NAMES = """
stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir umask
getdents getdents64 statfs fstatfs execve execveat close
read pread64 readv preadv preadv2 write pwrite64 writev pwritev pwritev2 lseek fcntl flock ioctl fsync fdatasync
sendfile splice tee copy_file_range mmap
socket connect accept accept4 listen getsockname getpeername getsockopt setsockopt shutdown socketpair
sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg poll ppoll select pselect6
kill tkill tgkill wait4 waitid getpgid getsid setpgid setsid getpriority setpriority prlimit64
sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler sched_getparam sched_setparam
getuid geteuid getgid getegid getresuid getresgid getgroups capget
setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset
getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
utime utimes futimesat utimensat truncate ftruncate fallocate
"""
_QUIET = frozenset(BY_NAME[name].nr for name in _NAMES.split())
_OPEN, _OPENAT = BY_NAME["open"].nr, BY_NAME["openat"].nr
_MAKES = os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY


def is_quiet(nr: int, args: tuple[int, ...]) -> bool:
    """Can call `nr` with these raw arguments change what a name means, or who may go there?"""
    if nr in _QUIET:
        return True
    return (nr == _OPENAT and not args[2] & _MAKES) or (nr == _OPEN and not args[1] & _MAKES)
