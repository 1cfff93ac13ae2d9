"""inotify(7): who watches which inode, and what happened to it.

Layer: vfs, beside vfs.py, whose operations report here once a guest has asked for inotify (Vfs.notify is None until
then). May touch: nothing; notifyhost.py has the host's inotify.

Where events come from:
* What goes through us (names, attributes, opening, everything about files that Python serves) is reported by the
  operation itself, in the order of fs/namei.c.
* Reads, writes and closes of native files never reach us. So a memfd or host file that is opened while somebody watches
  it or its directory is watched on the host too, through /proc/self/fd/N; what the host queues is read before anything
  else is queued or read here, so that the order is the order in which things happened.
* What others do in a bind the host tells too (notifyhost.py). Where we make names ourselves (a `rw` bind) its word is
  taken instead of ours.
"""

from __future__ import annotations

import errno
import os
import struct

from .inode import err
from .pollfile import PollFile
from .stat import S_IFDIR, S_IFMT

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any, Protocol

    from .inode import Inode
    from .mount import Path
    from .openfile import OpenFile
    from .vfs import Vfs

    Key = tuple[int, int]  # id of the superblock, inode number

    class Listener(Protocol):
        """Who hears of events: a Group, or a Watcher of kernel/dnotify.py."""

        by_wd: dict[int, Mark]
        last_wd: int

        def put(self, wd: int, mask: int, cookie: int, name: bytes) -> None: ...
        def closed(self, file: OpenFile) -> None: ...

# include/uapi/linux/inotify.h
IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE, IN_OPEN = 1, 2, 4, 8, 16, 32
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 64, 128, 256, 512, 1024, 2048
IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x2000, 0x4000, 0x8000, 0x40000000
IN_EXCL_UNLINK, IN_ONESHOT = 0x4000000, 0x80000000
NAMES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
READ_AND_WRITTEN = IN_ACCESS | IN_MODIFY | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE
ALWAYS = IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED
EVENT = struct.Struct("<iIII")


class Mark:
    """One watch of one group on one inode, which it keeps alive."""

    __slots__ = ("group", "inode", "mask", "wd")

    def __init__(self, group: Listener, inode: Inode, wd: int, mask: int) -> None:
        self.group, self.inode, self.wd, self.mask = group, inode, wd, mask


class Group(PollFile):
    """What inotify_init1(2) gives: a queue of events."""

    __slots__ = ("by_wd", "last_wd", "notify", "owner", "queue", "queued")

    has_pread = False

    def __init__(self, notify: Notify, path: Path, flags: int, owner: int) -> None:
        super().__init__(path, path.inode, flags)
        self.notify = notify
        self.owner = owner
        self.by_wd: dict[int, Mark] = {}
        self.last_wd = 0
        self.queue: list[bytes] = []
        self.queued: tuple[int, int, bytes] | None = None  # the last one, to merge with

    def put(self, wd: int, mask: int, cookie: int, name: bytes) -> None:
        """Queue an event; the same one twice in a row counts once (event_compare() of fs/notify/inotify)."""
        what = (wd, mask, name)
        if self.queue and what == self.queued and not mask & IN_IGNORED:
            return
        if len(self.queue) >= self.notify.max_queued:
            if self.queued == (-1, IN_Q_OVERFLOW, b""):
                return
            wd, mask, cookie, name = -1, IN_Q_OVERFLOW, 0, b""
            what = (wd, mask, name)
        size = len(name) + 16 & ~15 if name else 0
        self.queue.append(EVENT.pack(wd, mask, cookie, size) + name.ljust(size, b"\0"))
        self.queued = what
        self.has_data()

    def read(self, task: Any, count: int) -> Any:
        """As many whole events as fit."""
        self.notify.settle()
        if self.queue:
            out = self._take(task, count)
            if not out:
                raise err(errno.EINVAL)
            return out
        if self.flags & os.O_NONBLOCK:
            raise err(errno.EAGAIN)
        return self._wait(task, count)

    async def _wait(self, task: Any, count: int) -> bytes:
        while not self.queue:
            await self.wait()
        out = self._take(task, count)
        if not out:
            raise err(errno.EINVAL)
        return out

    def _take(self, task: Any, count: int) -> bytes:
        done = 0
        for size in map(len, self.queue):
            if size > count:
                break
            count -= size
            done += 1
        out = b"".join(self.queue[:done])
        del self.queue[:done]
        if not self.queue:
            self.has_none(task)
        return out

    def ioctl(self, task: Any, command: int, argument: int) -> Any:
        if command != 0x541B:  # FIONREAD
            return super().ioctl(task, command, argument)
        from ..kernel.handlers import Out

        self.notify.settle()
        return Out(0, [(argument, struct.pack("<i", sum(map(len, self.queue))))])

    def pread(self, task: Any, count: int, offset: int) -> bytes:
        raise err(errno.ESPIPE)

    def seek(self, offset: int, whence: int) -> int:
        """noop_llseek()"""
        if not 0 <= whence <= os.SEEK_HOLE:
            raise err(errno.EINVAL)
        return self.pos

    def poll(self) -> int:
        return 0x41 if self.queue else 0

    def fdinfo(self) -> str:
        lines = [
            f"inotify wd:{m.wd:x} ino:{m.inode.ino:x} sdev:{m.inode.sb.dev:x} mask:{m.mask & ~ALWAYS:x} "
            "ignored_mask:0 fhandle-bytes:0 fhandle-type:0 f_handle:\n"
            for m in self.by_wd.values()
        ]
        return "".join(lines)

    def closed(self, file: OpenFile) -> None:
        """Another file is closed."""

    def release(self) -> None:
        for mark in list(self.by_wd.values()):
            self.notify.drop(mark)
        self.notify.groups.discard(self)


class Notify:
    """All watches of one world. The limits are the host's sysctls."""

    def __init__(self, vfs: Vfs) -> None:
        self.vfs = vfs
        self.groups: set[Group] = set()
        self.marks: dict[Key, list[Mark]] = {}
        self.max_queued = limit("max_queued_events", 16384)
        self.max_instances = limit("max_user_instances", 128)
        self.max_watches = limit("max_user_watches", 8192)
        self._cookie = 0
        from .notifyhost import HostEvents

        self._host = HostEvents(self)
        vfs.files.closed = self.closed

    # -- watches ---------------------------------------------------------------------------------------------

    def mark_of(self, group: Group, inode: Inode) -> Mark | None:
        return next((m for m in self.marks.get(key_of(inode), ()) if m.group is group), None)

    def add(self, group: Listener, path: Path, mask: int) -> int:
        """A new watch; returns its number."""
        group.last_wd += 1
        inode = path.inode
        mark = Mark(group, inode, group.last_wd, mask)
        group.by_wd[mark.wd] = mark
        self.marks.setdefault(key_of(inode), []).append(mark)
        self._host.look_at(path)
        return mark.wd

    def drop(self, mark: Mark, event: bool = False) -> None:
        """A watch ends; `event`: IN_IGNORED is queued."""
        marks = self.marks.get(key_of(mark.inode), [])
        if mark in marks:
            marks.remove(mark)
            if not marks:
                del self.marks[key_of(mark.inode)]
                self._host.unwatch(mark.inode)
        mark.group.by_wd.pop(mark.wd, None)
        if event:
            mark.group.put(mark.wd, IN_IGNORED, 0, b"")

    def watched(self, path: Path) -> bool:
        """Does anybody watch this place or its directory?"""
        if key_of(path.inode) in self.marks:
            return True
        above = path.dentry.parent
        return above is not None and key_of(above.inode) in self.marks

    # -- what happened ---------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Take in what the host has queued, and what has been closed."""
        self._host.drain()
        files = [f for f in self.vfs.files.placeholders() if f is not None and self.watched(f.path)]
        self.vfs.files.settle(files)

    def settle_bytes(self) -> None:
        """Take in what the host has queued."""
        if self.marks:
            self._host.drain()

    def send(self, inode: Inode, mask: int, name: bytes = b"", cookie: int = 0, unlinked: bool = False) -> None:
        for mark in list(self.marks.get(key_of(inode), ())):
            if not mark.mask & mask or (unlinked and mark.mask & IN_EXCL_UNLINK):
                continue
            shown = mask & ~IN_ISDIR if mask & (IN_DELETE_SELF | IN_MOVE_SELF) else mask
            mark.group.put(mark.wd, shown, cookie, name)
            if mark.mask & IN_ONESHOT:
                self.drop(mark, event=True)

    def on(self, path: Path, mask: int) -> None:
        """Something happened to a file: its directory hears of it with the name, then its own watches."""
        if self.marks:
            self._host.drain()
            self._on(path, mask)

    def _on(self, path: Path, mask: int) -> None:
        inode = path.inode
        if inode.mode & S_IFMT == S_IFDIR:
            mask |= IN_ISDIR
        dentry = path.dentry
        if dentry.parent is not None and dentry is not path.mount.root:
            self.send(dentry.parent.inode, mask, dentry.name, unlinked=dentry.deleted)
        self.send(inode, mask)

    def name(self, directory: Inode, mask: int, name: bytes, is_dir: bool = False, cookie: int = 0) -> None:
        """A name in a directory came or went (IN_CREATE and so on)."""
        if not self.marks:
            return
        self._host.drain()
        if mask & NAMES and self._host.tells(directory):
            return
        self.send(directory, mask | (IN_ISDIR if is_dir else 0), name, cookie)

    def inode(self, inode: Inode, mask: int) -> None:
        """Something happened to an inode that has no name (any more)."""
        if self.marks:
            self._host.drain()
            self.send(inode, mask | (IN_ISDIR if inode.mode & S_IFMT == S_IFDIR else 0))

    def removed(self, inode: Inode) -> None:
        """The last name went: IN_DELETE_SELF, now or when the last descriptor is closed."""
        if key_of(inode) in self.marks and not self._host.still_open(inode):
            self.gone(inode)

    def gone(self, inode: Inode) -> None:
        """The inode is no more: its watches end."""
        self.send(inode, IN_DELETE_SELF | (IN_ISDIR if inode.mode & S_IFMT == S_IFDIR else 0))
        for mark in list(self.marks.get(key_of(inode), ())):
            self.drop(mark, event=True)

    def renamed(
        self, olddir: Inode, old: bytes, newdir: Inode, new: bytes, source: Inode, target: Inode | None
    ) -> None:
        """fsnotify_move()"""
        if not self.marks:
            return
        self._cookie = self._cookie + 1 & 0x7FFFFFFF
        is_dir = source.mode & S_IFMT == S_IFDIR
        self.name(olddir, IN_MOVED_FROM, old, is_dir, self._cookie)
        self.name(newdir, IN_MOVED_TO, new, is_dir, self._cookie)
        if target is not None:
            self.inode(target, IN_ATTRIB)
        self.inode(source, IN_MOVE_SELF)
        if target is not None and (not target.nlink or target.mode & S_IFMT == S_IFDIR):
            self.removed(target)

    def opened(self, path: Path, flags: int, created: bool) -> None:
        """open(2) succeeded."""
        if not self.marks:
            return
        if created and path.dentry.parent is not None and not path.dentry.deleted:
            self.name(path.dentry.parent.inode, IN_CREATE, path.dentry.name)
        heard = self._host.hears(path)
        if not flags & os.O_TRUNC or created or not heard:
            self.on(path, IN_OPEN)
        if flags & os.O_TRUNC and not created:
            if heard:
                self._on(path, IN_OPEN)  # the truncation, which the host has seen too, comes after it
                self._host.drain()
            else:
                self.on(path, IN_MODIFY)

    def truncated(self, path: Path) -> None:
        """truncate(2)"""
        if self.marks and not self._host.hears(path):
            self.on(path, IN_MODIFY)

    def native(self, path: Path, fd: int) -> None:
        """A native object is handed out: what is done with it the host has to tell."""
        if self.marks and self.watched(path):
            self._host.watch(path, fd)

    def closed(self, file: OpenFile) -> None:
        """The last descriptor of a file that Python serves is closed."""
        for mark in list(self.marks.get(key_of(file.inode), ())):
            mark.group.closed(file)
        if self.marks and not isinstance(file, Group) and not file.flags & os.O_PATH:
            self.on(file.path, IN_CLOSE_WRITE if file.writable else IN_CLOSE_NOWRITE)

    def unmounted(self, sb: Any) -> None:
        """A filesystem is mounted nowhere any more."""
        for marks in list(self.marks.values()):
            for mark in [m for m in marks if m.inode.sb is sb]:
                mark.group.put(mark.wd, IN_UNMOUNT, 0, b"")
                self.drop(mark, event=True)

    def close(self) -> None:
        self._host.close()


def key_of(inode: Inode) -> Key:
    """Which inode it is, for as long as somebody watches it."""
    return id(inode.sb), inode.ino


def limit(name: str, default: int) -> int:
    """A value of the host's /proc/sys/fs/inotify."""
    try:
        with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as f:
            return int(f.read())
    except (OSError, ValueError):
        return default


__all__ = ["Group", "Mark", "Notify"]
