"""HostFS: a directory (or file) of the host, seen read-only or read-write; also the lower half of cowfs.py.

Layer: vfs, a filesystem behind inode.py's interface. May touch: the host's files beneath the directory it was
given, and nothing else.

Confined by construction: every object is reached from its parent's O_PATH descriptor by one name and without
following a symlink, and a descriptor that is to be used is checked to be the object that was looked up
(st_dev, st_ino). The walk (namei.py) resolves symlinks and ".." in the guest's world; neither ever reaches
the host.

Each getattr asks the host, and so does each lookup, except in directories that hostwatch.py watches. Directory
descriptors are kept for the most recent ones.
"""

from __future__ import annotations

import errno
import os
from _weakref import ref  # the module weakref costs start-up time

from . import hostcalls
from .anon import from_host
from .inode import Inode, OpenContext, SuperBlock, err
from .stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, Stat, StatFs

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from .hostdir import HostDir
    from .hostwatch import HostWatch
    from .openfile import OpenFile
    from .vfs import Vfs

DIR_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: has the calls on extended attributes, which Python's os has with glibc alone
XATTRS: Any = os if hasattr(os, "getxattr") else hostcalls
_NODE_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRS = 512  # directory descriptors that are kept
_FS_NAMES = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlay",
    0x6969: "nfs",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
    0x65735546: "fuse",
    0x9FA0: "proc",
    0x62656572: "sysfs",
}


class HostFS(SuperBlock):
    """The host's `path`. Raises the host's OSError if it cannot be opened."""

    stable = False

    def __init__(self, path: str | bytes, *, read_only: bool = True) -> None:
        source = os.path.realpath(os.fsencode(path))
        fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
        st = os.fstat(fd)
        super().__init__(os.fsdecode(source), st.st_dev)
        self.read_only = read_only
        self.untouched = read_only  # nothing of the host's is changed, access times included
        self._known: dict[tuple[int, int], ref[HostNode]] = {}
        self._open_dirs: dict[HostDir, None] = {}
        self.watch: HostWatch | None = None
        if st.st_mode & S_IFMT == S_IFDIR:
            self.root_dir = self._base(fd)
            self.root: Inode = self.root_dir
        else:
            os.close(fd)
            # A single file: its directory only lends the descriptor.
            folder, name = os.path.split(source)
            fd = os.open(folder, DIR_FLAGS)
            self.root_dir = self._base(fd)
            self.root = self.new_node(st, self.root_dir, name)
        self._statfs_fd = fd

    @property
    def fstype(self) -> str:  # type: ignore[override]
        """The host's filesystem type. Not asked for at start-up, where it would cost the import of ctypes."""
        return _FS_NAMES.get(self.statfs().magic, "hostfs")

    def _base(self, fd: int) -> HostDir:
        """The directory from whose descriptor everything is reached."""
        from .hostdir import HostDir

        node = self.new_node(os.fstat(fd), None, b"/")
        assert isinstance(node, HostDir)
        node.keep_fd(fd)
        return node

    def new_node(self, st: os.stat_result, parent: HostDir | None, name: bytes) -> HostNode:
        """An inode for a host object."""
        if st.st_mode & S_IFMT != S_IFDIR:
            return HostNode(self, st, parent, name)
        from .hostdir import HostDir

        return HostDir(self, st, parent, name)

    def node(self, st: os.stat_result, parent: HostDir, name: bytes) -> HostNode:
        """The inode of a host object that was found as `name` in `parent`: one object per (st_dev,
        st_ino)."""
        key = (st.st_dev, st.st_ino)
        r = self._known.get(key)
        node = None if r is None else r()
        if node is not None and (node.mode ^ st.st_mode) & S_IFMT == 0:
            node.parent = parent
            node.name = name
            node.update(st)
            return node
        node = self.new_node(st, parent, name)
        self.know(node)
        return node

    def know(self, node: HostNode) -> None:
        """Whoever finds this object again gets this inode."""
        self._known[node.dev, node.ino] = ref(node)

    def attached(self, vfs: Vfs) -> None:
        self.watch = vfs.mounts.watch

    def forget(self, node: HostNode) -> None:
        """The inode object dies."""
        key = (node.dev, node.ino)
        r = self._known.get(key)
        if r is not None and r() in (node, None):
            del self._known[key]

    def opened_dir(self, node: HostDir) -> None:
        """Bound the directory descriptors: the one opened longest ago goes (it is opened again if need
        be)."""
        self._open_dirs[node] = None
        if len(self._open_dirs) > _OPEN_DIRS:
            oldest = next(iter(self._open_dirs))
            del self._open_dirs[oldest]
            oldest.drop_fd()

    def statfs(self) -> StatFs:
        """The host's own numbers (statfs(2) through libc, since os.statvfs leaves f_type out)."""
        import struct

        from ..kernel._libc import ffi

        buf = ffi.new("char[]", 120)
        if ffi.dlopen(None).fstatfs(self._statfs_fd, buf) != 0:
            raise err(ffi.errno)
        v = struct.unpack("<7q2I3q", bytes(ffi.buffer(buf, 88)))
        return StatFs(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[9], v[7] | v[8] << 32)

    def close(self) -> None:
        for node in list(self._open_dirs):
            node.drop_fd()
        self._open_dirs.clear()
        self.root_dir.drop_fd()


def give(what: int | bytes, uid: int, gid: int, *, dir_fd: int | None = None) -> None:
    """Make what we made, a descriptor or a name, belong to the virtual ids, where we may: as root with CAP_CHOWN, in
    a user namespace that has these ids (user_namespaces(7): EINVAL for others)."""
    if os.geteuid():
        return
    try:
        os.chown(what, uid, gid, dir_fd=dir_fd, follow_symlinks=isinstance(what, int))
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.EPERM):
            raise


class HostNode(Inode):
    """A host object: found by `name` in `parent`, known by (dev, ino)."""

    __slots__ = (
        "_fd",
        "dev",
        "looks",
        "name",
        "names",
        "parent",
        "tells_bytes",
    )  # _fd, looks, names and tells_bytes are HostDir's: here, so that CowDir can inherit from two

    sb: HostFS

    def __init__(self, sb: HostFS, st: os.stat_result, parent: HostDir | None, name: bytes) -> None:
        super().__init__(sb, st.st_ino, st.st_mode, time=0)
        self.dev = st.st_dev
        self.parent = parent
        self.name = name
        self.update(st)

    def __del__(self) -> None:
        self.sb.forget(self)

    # -- attributes: always the host's -----------------------------------------------------------------------

    def update(self, st: os.stat_result) -> None:
        """Take over what the host says now."""
        self.mode = st.st_mode
        self.uid = st.st_uid
        self.gid = st.st_gid
        self.nlink = st.st_nlink
        self.size = st.st_size
        self.rdev = st.st_rdev

    def host_stat(self) -> os.stat_result:
        """lstat of the object; ESTALE when another one, or none, has its name now."""
        assert self.parent is not None
        try:
            st = os.stat(self.name, dir_fd=self.parent.dirfd(), follow_symlinks=False)
        except FileNotFoundError:
            raise err(errno.ESTALE, self.name) from None
        if st.st_ino != self.ino or st.st_dev != self.dev:
            raise err(errno.ESTALE, self.name)
        return st

    def refresh(self) -> None:
        self.update(self.host_stat())

    def getattr(self) -> Stat:
        st = self.host_stat()
        self.update(st)
        return from_host(st)

    def path_fd(self) -> int:
        """A new O_PATH descriptor of exactly this object; the caller closes it."""
        assert self.parent is not None
        return self._verified(os.open(self.name, _NODE_FLAGS, dir_fd=self.parent.dirfd()))

    def _verified(self, fd: int) -> int:
        st = os.fstat(fd)
        if st.st_ino != self.ino or st.st_dev != self.dev:
            os.close(fd)
            raise err(errno.ESTALE, self.name)
        return fd

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
        """Done on the host for real."""
        fd = self.path_fd()
        try:
            path = f"/proc/self/fd/{fd}"  # a magic link: leads to the object itself, wherever its name is now
            if size is not None:
                opened = self.host_open(os.O_WRONLY)
                try:
                    os.ftruncate(opened, size)
                finally:
                    os.close(opened)
            if uid is not None or gid is not None:
                os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
            if mode is not None:
                os.chmod(path, mode)
            if atime is not None or mtime is not None:
                st = os.fstat(fd)
                os.utime(
                    path,
                    ns=(
                        st.st_atime_ns if atime is None else atime,
                        st.st_mtime_ns if mtime is None else mtime,
                    ),
                )
        finally:
            os.close(fd)

    def readlink(self, task: Any = None) -> bytes:
        assert self.parent is not None
        return os.readlink(self.name, dir_fd=self.parent.dirfd())

    @property
    def reads_show(self) -> bool:  # type: ignore[override]
        return not self.sb.untouched

    def is_settled(self) -> bool:
        """What nobody changes in here, and the watch tells of what others do."""
        parent = self.parent
        if not self.sb.untouched or self.sb.watch is None or parent is None:
            return False
        if parent.names is None:
            parent.looked()  # who is asked this again and again is worth a watch
            if parent.names is None:
                return False
        kind = self.mode & S_IFMT
        if kind == S_IFREG:
            self.sb.watch.watch_bytes(parent)
        return kind in (S_IFREG, S_IFDIR, S_IFLNK)

    # -- opening ---------------------------------------------------------------------------------------------

    def open(self, ctx: OpenContext) -> int | OpenFile | Awaitable[int | OpenFile]:
        kind = self.mode & S_IFMT
        if kind in (S_IFCHR, S_IFBLK):
            raise err(errno.EACCES, self.name)  # devices come from devfs, never from a bind
        if kind == S_IFIFO and self.sb.read_only:
            raise err(errno.EACCES, self.name)
        if kind == S_IFDIR:
            self.check_readable()
        if kind != S_IFREG:
            return super().open(ctx)
        return self.host_open(ctx.flags)

    def check_readable(self) -> None:
        """A directory that we may not list cannot be opened: EACCES, whatever the guest's virtual ids
        allow."""

    def host_open(self, flags: int) -> int:
        """Open the regular file on the host; where it is not to be written, without touching its access time if the
        host lets us."""
        assert self.parent is not None
        parent = self.parent.dirfd()
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        quiet = os.O_NOATIME if self.sb.untouched else 0
        # O_NONBLOCK: should a FIFO have taken the name meanwhile, the supervisor must not wait for it.
        try:
            fd = os.open(self.name, flags | os.O_NONBLOCK | quiet, dir_fd=parent)
        except PermissionError as e:
            fd = self._open_again(e, flags, parent)
        self._verified(fd)
        if not flags & os.O_NONBLOCK:
            os.set_blocking(fd, True)
        return fd

    def _open_again(self, error: PermissionError, flags: int, parent: int) -> int:
        """EPERM: O_NOATIME is for the owner only. EACCES on our own file: the guest may (it was checked),
        though the mode does not let us, as with a file just created read-only; the owner may change that for
        an instant."""
        if error.errno == errno.EPERM and not flags & os.O_NOATIME:
            try:
                return os.open(self.name, flags | os.O_NONBLOCK, dir_fd=parent)
            except PermissionError as e:
                error = e
        if self.sb.untouched or error.errno != errno.EACCES:
            raise error
        fd = self.path_fd()
        try:
            st = os.fstat(fd)
            if st.st_uid != os.geteuid():
                raise error
            os.chmod(f"/proc/self/fd/{fd}", st.st_mode & 0o7777 | 0o600)
            try:
                return os.open(self.name, flags | os.O_NONBLOCK, dir_fd=parent)
            finally:
                os.chmod(f"/proc/self/fd/{fd}", st.st_mode & 0o7777)
        finally:
            os.close(fd)

    def write_opened(self, lost: int) -> None:
        """The host kernel does it, at the write; unless guests are the host's root, who keeps such bits."""
        if os.geteuid() == 0:
            super().write_opened(lost)

    # -- extended attributes ---------------------------------------------------------------------------------

    def getxattr(self, name: bytes) -> bytes:
        fd = self.path_fd()
        try:
            value: bytes = XATTRS.getxattr(f"/proc/self/fd/{fd}", name)
            return value
        finally:
            os.close(fd)

    def setxattr(self, name: bytes, value: bytes, flags: int) -> None:
        fd = self.path_fd()
        try:
            XATTRS.setxattr(f"/proc/self/fd/{fd}", name, value, flags)
        finally:
            os.close(fd)

    def listxattr(self) -> list[bytes]:
        fd = self.path_fd()
        try:
            return [os.fsencode(n) for n in XATTRS.listxattr(f"/proc/self/fd/{fd}")]
        finally:
            os.close(fd)

    def is_bare(self) -> bool:
        """Without a descriptor of its own: whose names are watched is still who was looked up."""
        if self.parent is None or self.parent.names is None or XATTRS is not os:
            return super().is_bare()
        return not os.listxattr(b"/proc/self/fd/%d/%s" % (self.parent.dirfd(), self.name), follow_symlinks=False)

    def removexattr(self, name: bytes) -> None:
        fd = self.path_fd()
        try:
            XATTRS.removexattr(f"/proc/self/fd/{fd}", name)
        finally:
            os.close(fd)
