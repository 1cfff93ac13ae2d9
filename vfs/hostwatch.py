"""Names of host directories that are remembered between lookups, and how they are forgotten in time: inotify(7).

Layer: vfs, beneath hostdir.py. May touch: one inotify descriptor.

A directory in which names are looked up again and again is watched; from then on what its lookups found is kept in
HostDir.names. The host's kernel queues an event before the call that changed a name returns, so whoever reads the
queue before each walk (`settle`, Walk.__init__) never sees less than asking the host anew would have shown. What
inotify does not report (a mount over a name, a mode that was changed through another hard link, bytes that were written
through a mapping) shows after LIFETIME. Filesystems on which others make changes behind this kernel's back (nfs, fuse,
proc) are not watched.
"""

from __future__ import annotations

import os
import select
import struct
import time
from _weakref import ref  # the module weakref costs start-up time

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any

    from .hostdir import HostDir
    from .remembered import Walks

#: seconds
LIFETIME = 10.0
#: names and directories that are kept at most, over all
MOST_NAMES, MOST_DIRS = 65536, 4096
#: as many lookups make a directory worth watching
WORTH = 2
#: reads of the queue at a time, and bytes of each: one that is half full is not worth a look at each event
MOST_READS, _READ = 8, 8192
_EVENT = struct.Struct("<iIII")
# include/uapi/linux/inotify.h
_ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x4, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _ONLYDIR = 0x400, 0x800, 0x1000000
_UNMOUNT, _Q_OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_MODIFY = 0x2
_MASK = _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
#: f_type of filesystems that change through this kernel alone: ext4, xfs, btrfs, tmpfs, ramfs, overlay, f2fs, zfs,
#: squashfs, erofs, iso9660
_LOCAL = frozenset(
    (0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x858458F6, 0x794C7630, 0xF2F52010, 0x2FC12FC1, 0x73717368,
     0xE0F5E1E2, 0x9660)
)  # fmt: skip


class HostWatch:
    """All watched directories of one world. `walks` hears of what is forgotten."""

    def __init__(self, walks: Walks) -> None:
        self._walks = walks
        self.fd = -1  # inotify's; below 0: there is none
        self._libc: Any = None
        self._poll = select.poll()
        self._dirs: dict[int, ref[HostDir]] = {}  # by watch descriptor
        self._local: dict[int, bool] = {}  # by st_dev
        self._expires = 0.0
        self.count = 0  # names that are kept

    def watch(self, directory: HostDir) -> None:
        """Keep the names of `directory` from now on, where that is possible."""
        if self.fd == -1:
            from ..kernel._libc import ffi

            self._libc = ffi.dlopen(None)
            self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self.fd < 0:
                self.fd = -2  # as many as the user may have: every lookup asks the host
                return
            self._poll.register(self.fd, select.POLLIN)
        if self.fd < 0 or not self._is_local(directory):
            return
        if len(self._dirs) >= MOST_DIRS:
            self.forget_all()
        wd = self._add(directory, _MASK)
        if wd >= 0:
            self._dirs[wd] = ref(directory)
            directory.names = {}
            directory.tells_bytes = False

    def _add(self, directory: HostDir, mask: int) -> int:
        path = b"/proc/self/fd/%d" % directory.dirfd()
        return int(self._libc.inotify_add_watch(self.fd, path, mask))

    def watch_bytes(self, directory: HostDir) -> None:
        """Of a directory that is watched: hear of writes to its files too."""
        if directory.names is not None and not directory.tells_bytes:
            directory.tells_bytes = True
            self._add(directory, _MASK | _MODIFY)

    def _is_local(self, directory: HostDir) -> bool:
        known = self._local.get(directory.dev)
        if known is None:
            from ..kernel._libc import ffi

            buf = ffi.new("char[]", 120)
            done = self._libc.fstatfs(directory.dirfd(), buf) == 0
            known = done and struct.unpack_from("<q", bytes(ffi.buffer(buf, 8)))[0] in _LOCAL
            self._local[directory.dev] = known
        return known

    def settle(self) -> None:
        """Forget what has changed: before each walk."""
        if self.fd < 0 or not self._dirs:
            return
        now = time.monotonic()
        if now > self._expires or self.count > MOST_NAMES:
            self._expires = now + LIFETIME
            self._drop_names()
        for _ in range(MOST_READS):
            if not self._poll.poll(0):
                return
            try:
                events = os.read(self.fd, _READ)
            except BlockingIOError:
                return
            self._apply(events)
        self._drop_names()  # they come as fast as we read them; what is looked up from now on is asked anew

    def _apply(self, events: bytes) -> None:
        at, many = 0, len(events) > _READ // 2
        if many:
            self._drop_names()
        while at < len(events):
            wd, mask, _cookie, size = _EVENT.unpack_from(events, at)
            name = events[at + 16 : at + 16 + size].rstrip(b"\0")
            at += 16 + size
            if mask & _Q_OVERFLOW:
                self._drop_names()
                continue
            r = self._dirs.get(wd)
            directory = None if r is None else r()
            if mask & (_IGNORED | _UNMOUNT) or directory is None:
                self._walks.clear()
                self._dirs.pop(wd, None)
                if directory is not None:
                    directory.names = None
                    directory.looks = 0
            elif directory.names is not None and not many:
                if name:
                    was = directory.names.pop(name, None)
                    self._walks.host_changed(directory, name, was, not mask & _MODIFY)
                    if mask & _CREATE:
                        self._maybe_linked(directory, name)
                else:
                    self._walks.clear()
                    directory.names.clear()

    def _maybe_linked(self, directory: HostDir, name: bytes) -> None:
        """A new name: if it is one more for a file, that has more links now, of which its other directories do not hear
        (fsnotify_link_count() in include/linux/fsnotify.h)."""
        try:
            st = os.stat(name, dir_fd=directory.dirfd(), follow_symlinks=False)
        except OSError:
            return
        if st.st_nlink > 1:
            self._walks.changed((st.st_dev, st.st_ino))

    def _drop_names(self) -> None:
        self._walks.clear()
        self.count = 0
        for wd, r in list(self._dirs.items()):
            directory = r()
            if directory is None:
                self._unwatch(wd)
            elif directory.names:
                directory.names = {}

    def _unwatch(self, wd: int) -> None:
        self._dirs.pop(wd, None)
        self._libc.inotify_rm_watch(self.fd, wd)

    def forget_all(self) -> None:
        """Watch nothing any more, until it is worth it again."""
        self._walks.clear()
        for wd, r in list(self._dirs.items()):
            directory = r()
            if directory is not None:
                directory.names = None
                directory.looks = 0
            self._unwatch(wd)
        self.count = 0

    def close(self) -> None:
        if self.fd >= 0:
            self.forget_all()
            self._poll.unregister(self.fd)
            os.close(self.fd)
        self.fd = -2
