"""What a call may change for others: names and permissions, attributes of files, or nothing that is not told.

After a call that changes no name the remembered walks stay (vfs/remembered.py); after one that changes nothing the
answers stay too (kernel/answers.py).  The calls of _TOLD change what they change by the vfs' dirops.py and attrops.py,
which tell of it exactly (Walks.rename(), alter()).

Layer: the pretend kernel, beside dispatch.  May touch: nothing.

A call that is not in here costs at most what was remembered, so what is in doubt stays out.
"""

from __future__ import annotations

import os

from .table import BY_NAME

_NOTHING = """
stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir umask
getdents getdents64 statfs fstatfs execve execveat close
read pread64 readv preadv preadv2 lseek fcntl flock ioctl fsync fdatasync
socket connect accept accept4 listen getsockname getpeername getsockopt setsockopt shutdown socketpair
sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg poll ppoll select pselect6
kill tkill tgkill wait4 waitid getpgid getsid setpgid setsid getpriority setpriority prlimit64
sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler sched_getparam sched_setparam
getuid geteuid getgid getegid getresuid getresgid getgroups capget
setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset
getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr prctl
"""
_TOLD = """
mkdir mkdirat mknod mknodat symlink symlinkat link linkat unlink unlinkat rmdir rename renameat renameat2
chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes futimesat utimensat truncate
setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
"""
_ATTRIBUTES = """
write pwrite64 writev pwritev pwritev2 sendfile splice tee copy_file_range mmap ftruncate fallocate
"""
_BLIND = """
poll ppoll select pselect6 kill tkill tgkill wait4 waitid getpgid getsid setpgid setsid getpriority setpriority
sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler sched_getparam sched_setparam
getuid geteuid getgid getegid getresuid getresgid getgroups capget getsockname getpeername getsockopt setsockopt
shutdown listen accept accept4 fsync fdatasync
"""
NOTHING, ATTRIBUTES, NAMES = range(3)
#: calls that look at no name, nor at what a name means
BLIND = frozenset(BY_NAME[name].nr for name in _BLIND.split())
_CHANGES = {
    **{BY_NAME[name].nr: NOTHING for name in (_NOTHING + _TOLD).split()},
    **{BY_NAME[name].nr: ATTRIBUTES for name in _ATTRIBUTES.split()},
}
PIVOT_ROOT = BY_NAME["pivot_root"].nr  # which moves other tasks too
#: calls after which a task may be somebody else, or somewhere else
PLACES = frozenset(
    BY_NAME[name].nr
    for name in """
chdir fchdir chroot pivot_root unshare setns setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid
setgroups capset execve execveat
""".split()
)
_OPEN, _OPENAT = BY_NAME["open"].nr, BY_NAME["openat"].nr
_TMPFILE = os.O_TMPFILE & ~os.O_DIRECTORY


def changes(nr: int, args: tuple[int, ...]) -> int:
    """What call `nr` with these raw arguments may change: NOTHING, ATTRIBUTES or NAMES."""
    known = _CHANGES.get(nr)
    if known is not None:
        return known
    if nr == _OPENAT or nr == _OPEN:
        # A name that is made, and a file whose bytes may change, the vfs tells of by itself (create(), open_path()).
        return NAMES if args[2 if nr == _OPENAT else 1] & _TMPFILE else NOTHING
    return NAMES
