"""inotify(7): who watches which inode, and what happened to it.

Layer: vfs, beside vfs.py, whose operations report here once a guest has asked for inotify (Vfs.notify is None until
then). May touch: one inotify descriptor of the host.

Where events come from:
* What goes through us (names, attributes, opening, everything about files that Python serves) is reported by the
  operation itself, in the order of fs/namei.c.
* Reads, writes and closes of native files never reach us. So a memfd or host file that is opened while somebody watches
  it or its directory is watched on the host too, through /proc/self/fd/N; what the host queues is read before anything
  else is queued or read here, so that the order is the order in which things happened.
* A watched directory of a bind is watched on the host as well, for names that others make and remove there. Where
  we make them ourselves (a `rw` bind) the host's word is taken instead of ours.
"""

from __future__ import annotations

import os
import select
import struct

from .openfile import OpenFile
from .stat import S_IFDIR, S_IFMT

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any

    from .inode import Inode
    from .mount import Path
    from .vfs import Vfs

    Key = tuple[int, int]  # id of the superblock, inode number

# include/uapi/linux/inotify.h
IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE, IN_OPEN = 1, 2, 4, 8, 16, 32
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 64, 128, 256, 512, 1024, 2048
IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x2000, 0x4000, 0x8000, 0x40000000
IN_EXCL_UNLINK, IN_ONESHOT = 0x4000000, 0x80000000
_NAMES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_BYTES = IN_ACCESS | IN_MODIFY | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE
ALWAYS = IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED
_EVENT = struct.Struct("<iIII")


class Mark:
    """One watch of one group on one inode, which it keeps alive."""

    __slots__ = ("group", "inode", "mask", "wd")

    def __init__(self, group: Group, inode: Inode, wd: int, mask: int) -> None:
        self.group, self.inode, self.wd, self.mask = group, inode, wd, mask


class Group(OpenFile):
    """What inotify_init1(2) gives: a queue of events."""

    __slots__ = ("_event", "_ready", "by_wd", "last_wd", "notify", "owner", "queue", "queued")

    pollable = True

    def __init__(self, notify: Notify, path: Path, flags: int, owner: int) -> None:
        super().__init__(path, path.inode, flags)
        self.notify = notify
        self.owner = owner
        self.by_wd: dict[int, Mark] = {}
        self.last_wd = 0
        self.queue: list[bytes] = []
        self.queued: tuple[int, int, bytes] | None = None  # the last one, to merge with
        self._ready = False
        self._event: Any = None

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
        self.queue.append(_EVENT.pack(wd, mask, cookie, size) + name.ljust(size, b"\0"))
        self.queued = what
        if not self._ready and self.sup_fd >= 0:
            os.write(self.sup_fd, b"\0")  # poll(2) on the guest's end sees it
            self._ready = True
        event, self._event = self._event, None
        if event is not None:
            event.set()

    def read(self, task: Any, count: int) -> Any:
        """As many whole events as fit."""
        import errno

        from .inode import err

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
        import errno

        from ..kernel.loop import Event
        from .inode import err

        while not self.queue:
            if self._event is None:
                self._event = Event()
            await self._event
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
        if not self.queue and self._ready:
            self._unready(task)
        return out

    def _unready(self, task: Any) -> None:
        """Take the byte back that makes poll(2) say "ready": out of the guest's own end."""
        try:
            fd = task.host_fd(self.fd)
        except OSError:
            return  # closed meanwhile; whoever has it else finds nothing to read
        try:
            import socket

            with socket.socket(fileno=os.dup(fd)) as end:
                end.recv(16, socket.MSG_DONTWAIT)
            self._ready = False
        except OSError:
            pass
        finally:
            os.close(fd)

    def ioctl(self, task: Any, command: int, argument: int) -> Any:
        if command != 0x541B:  # FIONREAD
            return super().ioctl(task, command, argument)
        from ..kernel.handlers import Out

        self.notify.settle()
        return Out(0, [(argument, struct.pack("<i", sum(map(len, self.queue))))])

    def seek(self, offset: int, whence: int) -> int:
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
        self._host = HostEvents(self)
        vfs.files.closed = self.closed

    # -- watches ---------------------------------------------------------------------------------------------

    def mark_of(self, group: Group, inode: Inode) -> Mark | None:
        return next((m for m in self.marks.get(_key(inode), ()) if m.group is group), None)

    def add(self, group: Group, path: Path, mask: int) -> int:
        """A new watch; returns its number."""
        group.last_wd += 1
        inode = path.inode
        mark = Mark(group, inode, group.last_wd, mask)
        group.by_wd[mark.wd] = mark
        self.marks.setdefault(_key(inode), []).append(mark)
        self._host.look_at(path)
        return mark.wd

    def drop(self, mark: Mark, event: bool = False) -> None:
        """A watch ends; `event`: IN_IGNORED is queued."""
        marks = self.marks.get(_key(mark.inode), [])
        if mark in marks:
            marks.remove(mark)
            if not marks:
                del self.marks[_key(mark.inode)]
                self._host.unwatch(mark.inode)
        mark.group.by_wd.pop(mark.wd, None)
        if event:
            mark.group.put(mark.wd, IN_IGNORED, 0, b"")

    def watched(self, path: Path) -> bool:
        """Does anybody watch this place or its directory?"""
        if _key(path.inode) in self.marks:
            return True
        above = path.dentry.parent
        return above is not None and _key(above.inode) in self.marks

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

    def _send(self, inode: Inode, mask: int, name: bytes = b"", cookie: int = 0, unlinked: bool = False) -> None:
        for mark in list(self.marks.get(_key(inode), ())):
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
            self._send(dentry.parent.inode, mask, dentry.name, unlinked=dentry.deleted)
        self._send(inode, mask)

    def name(self, directory: Inode, mask: int, name: bytes, is_dir: bool = False, cookie: int = 0) -> None:
        """A name in a directory came or went (IN_CREATE and so on)."""
        if not self.marks:
            return
        self._host.drain()
        if mask & _NAMES and self._host.tells(directory):
            return
        self._send(directory, mask | (IN_ISDIR if is_dir else 0), name, cookie)

    def inode(self, inode: Inode, mask: int) -> None:
        """Something happened to an inode that has no name (any more)."""
        if self.marks:
            self._host.drain()
            self._send(inode, mask | (IN_ISDIR if inode.mode & S_IFMT == S_IFDIR else 0))

    def removed(self, inode: Inode) -> None:
        """The last name went: IN_DELETE_SELF, now or when the last descriptor is closed."""
        if _key(inode) in self.marks and not self._host.still_open(inode):
            self.gone(inode)

    def gone(self, inode: Inode) -> None:
        """The inode is no more: its watches end."""
        self._send(inode, IN_DELETE_SELF | (IN_ISDIR if inode.mode & S_IFMT == S_IFDIR else 0))
        for mark in list(self.marks.get(_key(inode), ())):
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
        if not flags & os.O_TRUNC or created or not self._host.has(path.inode):
            self.on(path, IN_OPEN)
        if flags & os.O_TRUNC and not created:
            if self._host.has(path.inode):
                self._on(path, IN_OPEN)  # the truncation, which the host has seen too, comes after it
                self._host.drain()
            else:
                self.on(path, IN_MODIFY)

    def native(self, path: Path, fd: int) -> None:
        """A native object is handed out: what is done with it the host has to tell."""
        if self.marks and self.watched(path):
            self._host.watch(path, fd)

    def closed(self, file: OpenFile) -> None:
        """The last descriptor of a file that Python serves is closed."""
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


class HostEvents:
    """The host's inotify: of native files that guests have open, and of directories that the host changes too."""

    def __init__(self, notify: Notify) -> None:
        from ..kernel._libc import ffi

        self._notify = notify
        self._libc = ffi.dlopen(None)
        self._files: dict[int, Path] = {}  # by watch descriptor
        self._dirs: dict[int, Inode] = {}
        self._wds: dict[Key, int] = {}
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

    def watch(self, path: Path, fd: int) -> None:
        """Hear what is done with the native object `fd`, which is the file at `path`."""
        if (known := self._wds.get(_key(path.inode))) is not None:
            self._files[known] = path
            return
        self.drain()
        wd = self._add(fd, _BYTES)
        if wd >= 0:
            st = os.fstat(fd)
            self._files[wd] = path
            self._wds[_key(path.inode)] = wd
            self._idents[st.st_dev, st.st_ino] = _key(path.inode)

    def look_at(self, path: Path) -> None:
        """A new watch on `path`: files that are open already, and the directory on the host."""
        inode = path.inode
        is_dir = inode.mode & S_IFMT == S_IFDIR
        for record in self._notify.vfs.files.natives():
            above = record.path.dentry.parent
            if record.inode is inode or (is_dir and above is not None and _key(above.inode) == _key(inode)):
                fd = _reopen(record.inode)
                if fd >= 0:
                    self.watch(record.path, fd)
                    os.close(fd)
        from .hostfs import HostFS

        if is_dir and isinstance(inode.sb, HostFS) and _key(inode) not in self._wds:
            try:
                fd = inode.dirfd()  # type: ignore[attr-defined]
            except (OSError, AttributeError):
                return  # it is in memory alone
            wd = self._add(fd, _NAMES)
            if wd >= 0:
                self._dirs[wd] = inode
                self._wds[_key(inode)] = wd

    def has(self, inode: Inode) -> bool:
        """Does the host report what is done with this inode's bytes?"""
        return _key(inode) in self._wds

    def tells(self, directory: Inode) -> bool:
        """Is what we do in this directory seen by the host's watch on it?"""
        from .cowfs import CowFS

        return _key(directory) in self._wds and not isinstance(directory.sb, CowFS)

    def unwatch(self, inode: Inode) -> None:
        """Nobody watches the inode itself any more. (Its directory may still be watched: until the next event.)"""
        wd = self._wds.get(_key(inode))
        if wd is not None and (wd in self._dirs or not self._notify.watched(self._files[wd])):
            self._forget(wd)

    def _forget(self, wd: int) -> None:
        path, directory = self._files.pop(wd, None), self._dirs.pop(wd, None)
        inode = path.inode if path is not None else directory
        if inode is None:
            return
        self._wds.pop(_key(inode), None)
        for ident in [i for i, key in self._idents.items() if key == _key(inode)]:
            del self._idents[ident]
        self._libc.inotify_rm_watch(self._fd, wd)

    def still_open(self, inode: Inode) -> bool:
        """Does a guest have the removed file open? Its watch on the host would keep it alive: it is taken away, and put
        back if so."""
        wd = self._wds.get(_key(inode))
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
                wd, mask, cookie, size = _EVENT.unpack_from(data, at)
                name = data[at + 16 : at + 16 + size].rstrip(b"\0")
                at += 16 + size
                if wd in self._dirs:
                    if mask & _NAMES:
                        self._notify._send(self._dirs[wd], mask, name, cookie | 1 << 31 if cookie else 0)
                elif wd in self._files and mask & _BYTES:
                    self._file(self._files[wd], mask & _BYTES)

    def _file(self, path: Path, mask: int) -> None:
        dentry = path.dentry
        if dentry.parent is not None and dentry is not path.mount.root:
            self._notify._send(dentry.parent.inode, mask, dentry.name, unlinked=dentry.deleted)
        self._notify._send(path.inode, mask)
        if mask & (IN_CLOSE_WRITE | IN_CLOSE_NOWRITE):
            if not self._notify.watched(path):
                self._forget(self._wds.get(_key(path.inode), -1))
            elif not path.inode.nlink and _key(path.inode) in self._notify.marks:
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


def _key(inode: Inode) -> Key:
    return id(inode.sb), inode.ino


def limit(name: str, default: int) -> int:
    """A value of the host's /proc/sys/fs/inotify."""
    try:
        with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as f:
            return int(f.read())
    except (OSError, ValueError):
        return default


__all__ = ["Group", "Mark", "Notify"]
