"""Places for native objects that have none: pipes, sockets, terminals, the caller's stdio (Linux: pipefs,
sockfs, anon_inodefs).

Layer: vfs, an internal filesystem that is mounted nowhere. May touch: a duplicate of the guest's descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from .dentry import Dentry
from .inode import Inode, OpenContext, SuperBlock, err
from .stat import S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, Stat

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .perm import Creds


class AnonFS(SuperBlock):
    fstype = "anon_inodefs"
    magic = 0x09041934

    def __init__(self) -> None:
        super().__init__(self.fstype)
        self.root = Inode(self, 1, S_IFDIR | 0o555)  # nothing below: the objects have their own dentries


class NativeInode(Inode):
    """A host object that a guest holds; owns the duplicate `fd`. `own`: a guest made it, so guests may change it as far
    as the host lets us."""

    __slots__ = ("fd", "own")

    def __init__(self, sb: SuperBlock, fd: int, holder: Creds, own: bool) -> None:
        st = os.fstat(fd)
        uid, gid = st.st_uid, st.st_gid
        self.own = own
        if uid == os.geteuid() and not (own and stat.S_ISREG(st.st_mode) and not uid):
            # Made by a guest or passed in by the caller: ours to the host, the holder's in the world. (A memfd has its
            # right owner from its beginning, where we may give it one.)
            uid, gid = holder.fsuid, holder.fsgid
        super().__init__(sb, st.st_ino, st.st_mode, uid, gid, rdev=st.st_rdev, time=st.st_ctime_ns)
        self.fd = fd

    def getattr(self) -> Stat:
        return from_host(os.fstat(self.fd))

    def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
    ) -> None:
        if not self.own:
            raise err(errno.EPERM)  # it may be the caller's own
        if uid is not None or gid is not None:
            os.fchown(self.fd, -1 if uid is None else uid, -1 if gid is None else gid)
        if mode is not None:
            os.fchmod(self.fd, mode)
        if atime is not None or mtime is not None:
            st = os.fstat(self.fd)
            times = st.st_atime_ns if atime is None else atime, st.st_mtime_ns if mtime is None else mtime
            os.utime(self.fd, ns=times)

    def readlink(self, task: object = None) -> bytes:
        return os.readlink(os.fsencode(f"/proc/self/fd/{self.fd}"))

    def open(self, ctx: OpenContext) -> int:
        """Open the object anew, with no more access than the descriptor has (a pipe may be opened either way,
        as on Linux: whoever holds one end may have the other)."""
        kind = self.mode & S_IFMT
        if kind == S_IFSOCK:
            raise err(errno.ENXIO)
        have = fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_ACCMODE
        want = ctx.flags & os.O_ACCMODE
        if kind != S_IFIFO and have != os.O_RDWR and want != have:
            raise err(errno.EACCES)
        if kind == S_IFREG and ctx.flags & os.O_TRUNC and have == os.O_RDONLY:
            raise err(errno.EACCES)
        # A FIFO's peer may be gone for good: never block on it.
        flags = ctx.flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        fd = os.open(f"/proc/self/fd/{self.fd}", flags)
        if not ctx.flags & os.O_NONBLOCK:
            os.set_blocking(fd, True)
        return fd

    def __del__(self) -> None:
        os.close(self.fd)


def from_host(st: os.stat_result) -> Stat:
    """A host stat as ours."""
    return Stat(
        st.st_dev,
        st.st_ino,
        st.st_mode,
        st.st_nlink,
        st.st_uid,
        st.st_gid,
        st.st_rdev,
        st.st_size,
        st.st_blksize,
        st.st_blocks,
        st.st_atime_ns,
        st.st_mtime_ns,
        st.st_ctime_ns,
    )


def native_dentry(sb: SuperBlock, fd: int, holder: Creds, own: bool) -> Dentry:
    """The dentry of a native object that a guest with the credentials `holder` has open; its name is what
    /proc/PID/fd/N shows. Takes over `fd`."""
    inode = NativeInode(sb, fd, holder, own)
    return Dentry(inode.readlink(), None, inode)
