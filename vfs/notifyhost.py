"""What the host's inotify(7) tells: of native files that guests have open, and of directories of binds.

Layer: vfs, the other half of notify.py. May touch: one inotify descriptor of the host.

A watched file or directory of a bind is watched on the host too, since programs of the host change it. Three kinds of
events are left out: what a guest does through a descriptor that has a watch of its own; in a directory of a
copy-on-write bind what happens to a file that has been changed in memory, which hides the host's; and all reading,
since we read ourselves.
"""

from __future__ import annotations

import os
import select

from .notify import (
    EVENT,
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_MODIFY,
    NAMES,
    READ_AND_WRITTEN,
    key_of,
)
from .stat import S_IFDIR, S_IFMT, S_IFREG

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .inode import Inode
    from .mount import Path
    from .notify import Key, Notify

_WRITTEN = IN_MODIFY | IN_CLOSE_WRITE


class HostEvents:
    """The host's inotify: of native files that guests have open, and of directories that the host changes too."""

    def __init__(self, notify: Notify) -> None:
        from ..kernel._libc import ffi

        self._notify = notify
        self._libc = ffi.dlopen(None)
        self._files: dict[int, Path] = {}  # by watch descriptor
        self._dirs: dict[int, Inode] = {}
        self._wds: dict[Key, int] = {}
        self._unopened: set[int] = set()  # files that the host may change and no guest has opened
        self._idents: dict[tuple[int, int], Key] = {}
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        files = notify.vfs.files
        files.pinned = self._idents
        if self._fd >= 0:
            self._poll.register(self._fd, select.POLLIN)
            if files.loop is not None:
                files.loop.add(self._fd, lambda _events: self.drain())

    def _add(self, fd: int, mask: int) -> int:
        if self._fd < 0:
            return -1
        wd: int = self._libc.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, mask)
        return wd

    def watch(self, path: Path, fd: int, mask: int = READ_AND_WRITTEN) -> None:
        """Hear what is done with the native object `fd`, which is the file at `path`."""
        st = os.fstat(fd)
        key = key_of(path.inode)
        if (known := self._wds.get(key)) is not None:
            if self._idents.get((st.st_dev, st.st_ino)) == key:
                self._files[known] = path
                if known in self._unopened and mask == READ_AND_WRITTEN:
                    self._unopened.discard(known)
                    self._add(fd, mask)
                return
            self._forget(known)  # its bytes are in memory now
        self.drain()
        wd = self._add(fd, mask)
        if wd >= 0 and mask != READ_AND_WRITTEN:
            self._unopened.add(wd)
        if wd >= 0:
            self._files[wd] = path
            self._wds[key] = wd
            self._idents[st.st_dev, st.st_ino] = key

    def look_at(self, path: Path) -> None:
        """A new watch on `path`: files that are open already, and the directory on the host."""
        inode = path.inode
        is_dir = inode.mode & S_IFMT == S_IFDIR
        for record in self._notify.vfs.files.natives():
            above = record.path.dentry.parent
            if record.inode is inode or (is_dir and above is not None and key_of(above.inode) == key_of(inode)):
                fd = _reopen(record.inode)
                if fd >= 0:
                    self.watch(record.path, fd)
                    os.close(fd)
        from .hostfs import HostFS

        if not isinstance(inode.sb, HostFS) or key_of(inode) in self._wds:
            return
        attributes = IN_ATTRIB if inode.sb.untouched else 0  # else they are changed by us, who tell of it
        if inode.mode & S_IFMT == S_IFREG:
            fd = _reopen(inode)
            if fd >= 0:
                self.watch(path, fd, _WRITTEN | attributes)
                os.close(fd)
        elif is_dir:
            try:
                fd = inode.dirfd()  # type: ignore[attr-defined]
            except (OSError, AttributeError):
                return  # it is in memory alone
            wd = self._add(fd, NAMES | _WRITTEN | attributes)
            if wd >= 0:
                self._dirs[wd] = inode
                self._wds[key_of(inode)] = wd

    def hears(self, path: Path) -> bool:
        """Does the host report what is done with the bytes of this file?"""
        inode = path.inode
        wd = self._wds.get(key_of(inode))
        data = getattr(inode, "data", None)
        if wd is not None and data is not None and data.live:
            return self._idents.get(data.ident) == key_of(inode)
        above = path.dentry.parent
        in_directory = above is not None and self.tells(above.inode)
        return in_directory or (wd is not None and wd not in self._unopened)

    def tells(self, directory: Inode) -> bool:
        """Is what we do in this directory seen by the host's watch on it?"""
        from .cowfs import CowFS

        return key_of(directory) in self._wds and not isinstance(directory.sb, CowFS)

    def unwatch(self, inode: Inode) -> None:
        """Nobody watches the inode itself any more. (Its directory may still be watched: until the next event.)"""
        wd = self._wds.get(key_of(inode))
        if wd is not None and (wd in self._dirs or not self._notify.watched(self._files[wd])):
            self._forget(wd)

    def _forget(self, wd: int) -> None:
        path, directory = self._files.pop(wd, None), self._dirs.pop(wd, None)
        inode = path.inode if path is not None else directory
        self._unopened.discard(wd)
        if inode is None:
            return
        self._wds.pop(key_of(inode), None)
        for ident in [i for i, key in self._idents.items() if key == key_of(inode)]:
            del self._idents[ident]
        self._libc.inotify_rm_watch(self._fd, wd)

    def still_open(self, inode: Inode) -> bool:
        """Does a guest have the removed file open? Its watch on the host would keep it alive: it is taken away, and put
        back if so."""
        wd = self._wds.get(key_of(inode))
        data = getattr(inode, "data", None)
        if wd is None or wd not in self._files or data is None:
            return data is not None and data.live
        path = self._files[wd]
        self._forget(wd)
        fd = _reopen(inode)
        if data.try_idle():
            if fd >= 0:
                os.close(fd)
            return False
        if fd >= 0:
            self.watch(path, fd)
            os.close(fd)
        if data.try_idle():
            return False
        return True

    def drain(self) -> None:
        """Pass on what the host has queued."""
        if self._fd < 0:
            return
        while self._poll.poll(0):
            data, at = os.read(self._fd, 65536), 0
            while at < len(data):
                wd, mask, cookie, size = EVENT.unpack_from(data, at)
                name = data[at + 16 : at + 16 + size].rstrip(b"\0")
                at += 16 + size
                if wd in self._dirs:
                    if mask & NAMES:
                        self._notify.send(self._dirs[wd], mask, name, cookie | 1 << 31 if cookie else 0)
                    elif name and self._is_the_hosts(self._dirs[wd], name):
                        self._notify.send(self._dirs[wd], mask, name)
                elif wd in self._files and mask & (READ_AND_WRITTEN | IN_ATTRIB):
                    self._file(self._files[wd], mask & (READ_AND_WRITTEN | IN_ATTRIB))

    def _is_the_hosts(self, directory: Inode, name: bytes) -> bool:
        """Was a file of this directory changed by the host, and do guests see it?"""
        try:
            child = directory.lookup(name)
        except OSError:
            return False
        if child is None or key_of(child) in self._wds:
            return False
        return not getattr(child, "own", False) and getattr(child, "data", None) is None

    def _file(self, path: Path, mask: int) -> None:
        dentry = path.dentry
        if dentry.parent is not None and dentry is not path.mount.root:
            self._notify.send(dentry.parent.inode, mask, dentry.name, unlinked=dentry.deleted)
        self._notify.send(path.inode, mask)
        if mask & (IN_CLOSE_WRITE | IN_CLOSE_NOWRITE):
            if not self._notify.watched(path):
                self._forget(self._wds.get(key_of(path.inode), -1))
            elif not path.inode.nlink and key_of(path.inode) in self._notify.marks:
                self._notify.removed(path.inode)

    def close(self) -> None:
        if self._fd >= 0:
            loop = self._notify.vfs.files.loop
            if loop is not None:
                loop.remove(self._fd)
            os.close(self._fd)
            self._fd = -1


def _reopen(inode: Inode) -> int:
    """An O_PATH descriptor of the native object that an inode has now, -1 if it has none. (Opening it in another way
    would be an event.)"""
    data = getattr(inode, "data", None)
    try:
        if data is not None and data.live:
            return os.open(f"/proc/self/fd/{data.fd()}", os.O_PATH | os.O_CLOEXEC)
        path_fd = getattr(inode, "path_fd", None)
        fd: int = path_fd() if path_fd is not None and data is None else -1
        return fd
    except OSError:
        return -1
