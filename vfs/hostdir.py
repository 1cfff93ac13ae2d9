"""Directories of HostFS: looking up, listing and changing, relative to an O_PATH descriptor of the directory.

Layer: vfs, the other half of hostfs.py. May touch: the host's directory it stands for, one name at a time.
"""

from __future__ import annotations

import errno
import os

from .hostfs import DIR_FLAGS, HostFS, HostNode, give
from .hostwatch import WORTH
from .inode import Inode, err
from .memattrs import relatime
from .memfs import RENAME_EXCHANGE
from .stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, now_ns

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any


_UNKNOWN: Any = object()


class HostDir(HostNode):
    """A host directory."""

    __slots__ = ()

    def __init__(self, sb: HostFS, st: os.stat_result, parent: HostDir | None, name: bytes) -> None:
        self._init_dir()
        super().__init__(sb, st, parent, name)

    def _init_dir(self) -> None:
        self._fd = -1
        self.looks = 0  # lookups so far
        self.names: dict[bytes, HostNode | None] | None = None  # what they found; None: it is not watched
        self.tells_bytes = False  # the watch tells of writes too

    @property
    def steady(self) -> bool:  # type: ignore[override]
        """What the host changes, the watch notices."""
        return self.names is not None

    def keep_fd(self, fd: int) -> None:
        self._fd = fd

    def drop_fd(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.drop_fd()
        super().__del__()

    def dirfd(self) -> int:
        """Our O_PATH descriptor of the directory, which stays ours."""
        if self._fd < 0:
            if self.parent is None:
                raise err(errno.ENOENT)  # closed
            try:
                fd = os.open(self.name, DIR_FLAGS, dir_fd=self.parent.dirfd())
            except (FileNotFoundError, NotADirectoryError):
                raise err(errno.ESTALE, self.name) from None
            self._fd = self._verified(fd)
            self.sb.opened_dir(self)
        return self._fd

    def host_stat(self) -> os.stat_result:
        return os.fstat(self._fd) if self._fd >= 0 else super().host_stat()

    def is_settled(self) -> bool:
        """Its times and links change with the names in it, of which its own watch tells."""
        self.looked()
        return self.names is not None and super().is_settled()

    def path_fd(self) -> int:
        return os.dup(self.dirfd())

    def sync_directory(self) -> None:
        if self.sb.untouched:
            return
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.dirfd())
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def check_readable(self) -> None:
        if os.geteuid() != 0 and not os.access(".", os.R_OK, dir_fd=self.dirfd(), effective_ids=True):
            raise err(errno.EACCES, self.name)

    def lookup(self, name: bytes) -> Inode | None:
        names, watch = self.names, self.sb.watch
        if names is not None:
            known: HostNode | None = names.get(name, _UNKNOWN)
            if known is not _UNKNOWN:
                if known is not None:
                    # a file with several names is reached by the one that it was looked up by last
                    known.parent, known.name = self, name
                return known
        elif watch is not None:
            self.looked()
            names = self.names
        node = self._look(name)
        if names is not None and watch is not None:
            watch.count += 1
            names[name] = node
        return node

    def listed(self) -> None:
        """Its entries are read: who does so may ask about each of them, and then read them again."""
        self.looked(WORTH)

    def looked(self, times: int = 1) -> None:
        """It is used; a directory that is used again and again is watched."""
        if self.names is None and self.sb.watch is not None:
            self.looks += times
            if self.looks >= WORTH:
                self.sb.watch.watch(self)

    def _look(self, name: bytes) -> HostNode | None:
        """What the host says."""
        try:
            st = os.stat(name, dir_fd=self.dirfd(), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return self.sb.node(st, self, name)

    def _changed_here(self, *names: bytes) -> None:
        """We have changed these ourselves; the event comes later."""
        if self.names is not None:
            for name in names:
                self.names.pop(name, None)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        """Without a trace in the access time, where the host lets us: that is for accessed()."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            fd = os.open(".", flags | os.O_NOATIME, dir_fd=self.dirfd())
        except PermissionError as e:
            if e.errno != errno.EPERM:
                raise
            fd = os.open(".", flags, dir_fd=self.dirfd())
        try:
            with os.scandir(fd) as entries:
                return [(os.fsencode(e.name), e.inode(), _kind(e)) for e in entries]
        finally:
            os.close(fd)

    def accessed(self) -> None:
        """A little of it is read again, for the host to do what it does to the access time."""
        if self.sb.untouched or self.sb.read_only:
            return
        st = self.host_stat()
        if relatime(st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns, now_ns()):
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.dirfd())
            try:
                with os.scandir(fd) as entries:
                    next(entries, None)
            finally:
                os.close(fd)

    # -- changes, done on the host for real ------------------------------------------------------------------

    def _made(self, name: bytes, mode: int | None, uid: int, gid: int) -> HostNode:
        """The inode of what was just made: with the mode asked for whatever our umask, and, where we may,
        owned by the virtual ids."""
        self._changed_here(name)
        node = self.lookup(name)
        if not isinstance(node, HostNode):
            raise err(errno.ESTALE, name)
        if node.uid != uid or node.gid != gid:
            give(name, uid, gid, dir_fd=self.dirfd())
        if mode is not None and (node.mode & 0o7777) != mode:
            node.setattr(mode=mode)
        node.refresh()
        return node

    def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        os.mknod(name, S_IFREG | mode, dir_fd=self.dirfd())  # open(2) and close(2) would be seen by inotify(7)
        return self._made(name, mode, uid, gid)

    def tmpfile(self, mode: int, uid: int, gid: int, linkable: bool) -> Inode:
        exclusive = 0 if linkable else os.O_EXCL
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | exclusive, mode, dir_fd=self.dirfd())
        node = Nameless(self.sb, os.fstat(fd), self, fd)
        if node.uid != uid or node.gid != gid:
            give(fd, uid, gid)
        os.fchmod(fd, mode)
        node.refresh()
        node.linkable = linkable
        self.sb.know(node)
        return node

    def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        os.mkdir(name, mode, dir_fd=self.dirfd())
        return self._made(name, mode, uid, gid)

    def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        if mode & S_IFMT not in (S_IFIFO, S_IFSOCK):
            raise err(errno.EPERM, name)  # a real device node is never made
        os.mknod(name, mode, dir_fd=self.dirfd())
        return self._made(name, mode & 0o7777, uid, gid)

    def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        os.symlink(target, name, dir_fd=self.dirfd())
        return self._made(name, None, uid, gid)

    def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, HostNode) and inode.parent is not None
        inode.refresh()  # that it is still the one that was looked up
        if isinstance(inode, Nameless) and inode.nameless:
            inode.place(self, name)
        else:
            os.link(
                inode.name,
                name,
                src_dir_fd=inode.parent.dirfd(),
                dst_dir_fd=self.dirfd(),
                follow_symlinks=False,
            )
        self._changed_here(name)

    def unlink(self, name: bytes, inode: Inode) -> None:
        os.unlink(name, dir_fd=self.dirfd())
        self._changed_here(name)
        inode.nlink = max(0, inode.nlink - 1)

    def rmdir(self, name: bytes, inode: Inode) -> None:
        os.rmdir(name, dir_fd=self.dirfd())
        self._changed_here(name)
        inode.nlink = 0

    def rename(self, name: bytes, newdir: Inode, newname: bytes, flags: int) -> None:
        assert isinstance(newdir, HostDir)
        node, other = self.lookup(name), newdir.lookup(newname)
        if flags & RENAME_EXCHANGE:
            _exchange(self.dirfd(), name, newdir.dirfd(), newname)
            if isinstance(other, HostNode):
                other.parent, other.name = self, name
        else:
            os.rename(name, newname, src_dir_fd=self.dirfd(), dst_dir_fd=newdir.dirfd())
            if other is not None:
                other.nlink = 0 if other.is_dir else max(0, other.nlink - 1)
        if isinstance(node, HostNode):
            node.parent, node.name = newdir, newname
        self._changed_here(name)
        newdir._changed_here(newname)


class Nameless(HostNode):
    """A file of O_TMPFILE: reached by a descriptor of ours until it gets a name."""

    __slots__ = ("linkable",)

    def __init__(self, sb: HostFS, st: os.stat_result, parent: HostDir, fd: int) -> None:
        self._fd: int = fd
        super().__init__(sb, st, parent, b"#%d" % st.st_ino)

    @property
    def nameless(self) -> bool:
        return self._fd >= 0

    def place(self, parent: HostDir, name: bytes) -> None:
        """Give it a name; then it is a file like others."""
        os.link(b"/proc/self/fd/%d" % self._fd, name, dst_dir_fd=parent.dirfd(), follow_symlinks=True)
        self._drop()
        self.parent, self.name = parent, name

    def named(self) -> None:
        self.linkable = False

    def _drop(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self._drop()
        super().__del__()

    def host_stat(self) -> os.stat_result:
        return os.fstat(self._fd) if self._fd >= 0 else super().host_stat()

    def path_fd(self) -> int:
        return os.dup(self._fd) if self._fd >= 0 else super().path_fd()

    def host_open(self, flags: int) -> int:
        if self._fd < 0:
            return super().host_open(flags)
        return os.open(f"/proc/self/fd/{self._fd}", flags & ~os.O_NOFOLLOW | os.O_CLOEXEC)


def _kind(entry: os.DirEntry[str]) -> int:
    """The type bits of a directory entry, 0 where telling would cost a stat."""
    if entry.is_symlink():
        return S_IFLNK
    if entry.is_file(follow_symlinks=False):
        return S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return S_IFDIR
    return 0


def _exchange(olddir: int, old: bytes, newdir: int, new: bytes) -> None:
    """renameat2(2) with RENAME_EXCHANGE, which the os module lacks."""
    from .hostcalls import renameat2

    try:
        renameat2(olddir, old, newdir, new, RENAME_EXCHANGE)
    except OSError as e:
        raise err(e.errno or errno.EIO, old) from None
