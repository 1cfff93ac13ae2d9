"""Answers that the core may give again by itself: what stat(2), access(2) and their like said of a name.

Layer: the pretend kernel, beside dispatch.  May touch: the table behind the world page, which guests map read-only.

As Linux's dcache answers for a filesystem, and FUSE's entry and attribute caches for its server, the core
(core_native/answers.c) answers here for the supervisor, to the byte as that did. Calls with `remember` in
kernel/table.py take part. An entry is found by the call, its flags, the path as the guest wrote it, the *context*
(whose credentials, and which root) and, for a relative path, the working directory; both are numbers that stand in the
slot of the thread.

An entry is taken away when the name that its walk came to last means something else, or the object there has other
attributes (vfs/remembered.py tells of both, before the call that did it returns; and of what the host's inotify
reports); an open takes away what is known of that one file, whose times and size then change without our being told.
And an entry counts only as long as its epoch is the table's. What may change the meaning of more names than one (a
directory or a symlink that is moved, a directory's mode, a mount), a call that is not known to change nothing else
(kernel/quiet.py) and any change of a file that a guest's core holds open (`lasting`) begins a new epoch. Nothing is
kept of what is not steady: open files, /proc, filesystems in Python. What the host does not report is true again
after hostwatch.LIFETIME. Whoever writes holds the sandbox's lock: the loop, or the user's Python; a reader that meets
a write (`seq` odd, or changed) asks as if there were no entry.

With RING3_CHECK_ANSWERS=1 in the environment of ring3 the core asks nevertheless, and ends the process at the first
difference.
"""

from __future__ import annotations

import errno
import os
import struct

from ..vfs.hostwatch import LIFETIME
from ..vfs.remembered import ident
from . import kept
from .ahead import CALLS, Ahead, Question, hash_of
from .directories import Listings
from .handlers import DirectoryOpened, InstallFd, Out
from .layout import (
    ANSWER_PLACES,
    ANSWERS,
    ANSWERS_OFFSET,
    CONSTANTS,
    LISTINGS_OFFSET,
    OFFSETS,
    SIZES,
    VDIR_DEV,
)
from .paths import record
from .table import BY_NAME, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable
    from typing import Any

    from ..vfs.inode import Inode
    from ..vfs.mount import Path
    from ..vfs.remembered import Where
    from .dispatch import Request
    from .sandbox import Kernel
    from .table import Sys
    from .task import Credentials, FdRef, FsStruct, Task

_AT = OFFSETS["ring3_answer"]
_SIZE = SIZES["ring3_answer"]
_EPOCH = OFFSETS["ring3_world"]["epoch"]
_CHANGES = OFFSETS["ring3_world"]["changes"]
_KEY = _AT["out_len"] - _AT["epoch"]  # what stands before that is what an entry is found by
_MAX_PATH = _AT["out"] - _AT["path"]
_MAX_OUT = _SIZE - _AT["out"]
#: epoch nr key[2] context cwd path_len out_len live result; `seq` is before it
_ENTRY = struct.Struct("<9Iq")
_LIVE = struct.Struct("<4Q")
assert _LIVE.size == SIZES["ring3_live"]
assert _AT["result"] + 8 - _AT["epoch"] == _ENTRY.size
_U32 = struct.Struct("<I")
#: what follows the key of an answer that there is no such name: out_len, live, result
_ABSENT = struct.pack("<2Iq", 0, 0, -errno.ENOENT)
#: errors that follow from what was found; ENOENT from there being nothing
_FOUND_ERRORS = (errno.EACCES, errno.EROFS, errno.EINVAL, errno.ENODATA, errno.EOPNOTSUPP, errno.ERANGE)
_MAX_CONTEXTS, _MAX_ABSENT = 4096, 1024
_GETDENTS64 = BY_NAME["getdents64"].nr
_GETCWD = BY_NAME["getcwd"].nr
_STATFS = BY_NAME["statfs"].nr
_EXECVE = BY_NAME["execve"].nr
_STAT = frozenset(BY_NAME[name].nr for name in ("stat", "lstat", "fstat", "newfstatat"))
STAT_SIZE = CONSTANTS["RING3_STAT_SIZE"]
#: seconds for which an answer is good that no host has a part in: relatime looks at whole days (fs/inode.c)
_LONG = 3600.0
_MAX_LOOKS, _MAX_LIVE = 512, 8


class Shape:
    """Which argument of a call is what: the path, a further string, the directory to start from, and the numbers."""

    __slots__ = ("dirfd", "keys", "opens", "path", "settled", "text")

    def __init__(self, call: Sys) -> None:
        kinds = [kind for kind, _ in call.args]
        self.dirfd = next((i for i, kind in enumerate(kinds) if kind in ("fd", "dirfd")), -1)
        self.path = next((i for i, kind in enumerate(kinds) if kind.startswith("path")), -1)
        self.text = kinds.index("str") if "str" in kinds else -1
        self.keys = [i for i, kind in enumerate(kinds) if kind in ("int", "uint")]
        # The answer has times, a size or file capabilities, which change without our being told.
        self.settled = "stat" in call.name or "xattr" in call.name
        self.opens = call.name.startswith("open")  # only its failures are remembered

    def numbers(self, request: Request) -> tuple[int, int]:
        """What an answer is found by beside names."""
        keys = [request.args[i] & 0xFFFFFFFF for i in self.keys] + [0, 0]
        return keys[0], keys[1]


def live(nr: int, inode: Inode) -> bytes:
    """struct ring3_live of a file that somebody may be writing to: where its size and times are to be had."""
    found = inode.native_times() if nr in _STAT else None
    return _LIVE.pack(*found[:2], *divmod(found[2], 1_000_000_000)) if found is not None else b""


SHAPES = {call.nr: Shape(call) for call in TABLE.values() if call.remember}


class Answers:
    """The table of one sandbox."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._view: mmap.mmap | None = None
        self.epoch = 1
        self._changes = 0  # how often something was forgotten
        self._any = False  # is there an entry of this epoch?
        self._by_object: dict[tuple[int, int], set[int]] = {}  # by st_dev and inode number
        self._by_times: dict[tuple[int, int], set[int]] = {}  # the same, of what tells of size, links, times or entries
        self._by_name: dict[Where, set[int]] = {}
        self._missing: dict[int, Where] = {}  # by place: the name of an answer that there is none
        self._absent: dict[Where, list[tuple[int, bytes]]] = {}  # such answers that are not true now: places and keys
        self._taken: dict[int, bytes] = {}  # by place in the table: the key of the entry there
        self._lasting: set[tuple[int, int]] = set()  # files that guests' cores hold for as long as this epoch lasts
        self._contexts: dict[tuple[object, ...], tuple[int, object]] = {}
        self._listings = Listings()
        self._ahead = Ahead(kernel, self)
        self._watched = -1  # the inotify descriptor that the loop looks at
        self._ageing = False
        self._last = 0
        # by program, and whether it makes the file: by which call (and numbers) it looks at what it has opened
        self._looks: dict[tuple[tuple[int, int], bool], tuple[int, tuple[int, int]]] = {}
        self._lent: tuple[int, int] | None = None  # the directory that is lent to a process: drafts.py
        names = kernel.vfs.mounts.walks
        names.cleared, names.opened = self.forget, self._opened
        names.named, names.changed, names.listed = self._named, self._changed, self._listed
        names.removed = self._removed

    def start(self, world: mmap.mmap) -> None:
        """The table is there."""
        self._view = world
        _U32.pack_into(world, OFFSETS["ring3_world"]["check_answers"], os.environ.get("RING3_CHECK_ANSWERS") == "1")
        self._put_epoch()

    def close(self) -> None:
        """It will not be there any more."""
        self._view = None

    # -- forgetting ------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Any name or attribute may have changed."""
        if self._lent is not None:
            self._kernel.drafts.end()
        if self._any:
            self._any = False
            self._kernel.gifts.drop()
            self._by_object.clear()
            self._by_times.clear()
            self._by_name.clear()
            self._missing.clear()
            self._absent.clear()
            self._taken.clear()
            self._lasting.clear()
            self.epoch = self.epoch + 1 & 0xFFFFFFFF or 1
            self._put_epoch()

    def lasting(self, *inodes: Inode) -> int:
        """The epoch, which ends when anything of these files changes: their names, modes, owners."""
        self._lasting.update(map(ident, inodes))
        self._any = True
        self._look_after()
        return self.epoch

    def _put_epoch(self) -> None:
        if self._view is not None:
            _U32.pack_into(self._view, _EPOCH, self.epoch)
            self._count_change()

    def _count_change(self) -> None:
        self._changes = self._changes + 1 & 0xFFFFFFFF
        if self._view is not None:
            _U32.pack_into(self._view, _CHANGES, self._changes)

    def _opened(self, inode: Inode) -> None:
        """The times and the size of a file may change from now on."""
        self._drop(self._by_times.pop(ident(inode), ()))

    def _changed(self, what: tuple[int, int]) -> None:
        """An object has other attributes, or other names."""
        if what in self._lasting:
            self.forget()
        self._drop(self._by_object.pop(what, ()))
        self._drop(self._by_times.pop(what, ()))

    def _listed(self, directory: tuple[int, int]) -> None:
        """A directory has other entries: who may do what with it stays."""
        self._drop(self._by_times.pop(directory, ()))

    def _named(self, where: Where) -> None:
        """A name means something else.  That it was missing may be true again soon: lock files, journals."""
        if self._lent is not None:
            self._kernel.drafts.named(where)
        entries = self._by_name.pop(where, ())
        absent = [(at, self._taken[at]) for at in entries if self._missing.pop(at, None) == where and at in self._taken]
        if absent:
            if len(self._absent) >= _MAX_ABSENT:
                self._absent.clear()
            self._absent[where] = absent
        self._drop(entries)

    def _removed(self, where: Where) -> None:
        """A name means nothing any more: what was said of it when it did not yet mean anything is true again."""
        if self._lent is not None:
            self._kernel.drafts.removed(where)
        for at, key in self._absent.pop(where, ()):
            if at not in self._taken:
                self._taken[at], self._missing[at] = key, where
                self._write(at, key[:_KEY] + _ABSENT, key[_KEY:], b"")
                self._by_name.setdefault(where, set()).add(at)

    def lend(self, directory: tuple[int, int] | None) -> None:
        """This directory is lent to a process (None: none is any more): nothing is said of its entries and times, nor
        of names that it lacks."""
        self._lent = directory
        if directory is not None:
            self._drop(self._by_times.pop(directory, ()))
            for where in {where for where in self._missing.values() if where[:2] == directory}:
                for at in self._by_name.pop(where, ()):
                    self._missing.pop(at, None)
                    self._drop((at,))
            for where in [where for where in self._absent if where[:2] == directory]:
                del self._absent[where]

    def _drop(self, entries: Iterable[int]) -> None:
        self._count_change()
        for at in entries:
            self._taken.pop(at, None)
            self._write(at, bytes(_ENTRY.size), b"", b"")

    def forget_places(self) -> None:
        """Anybody may be somewhere else now (pivot_root): all get other numbers."""
        self._contexts.clear()
        self._kernel.directories.forget()

    def forget_task(self, task: Task) -> None:
        """A task's credentials, root or working directory may be others now: so for all that share the latter."""
        fs = task.fs
        for process in self._kernel.processes.values() if fs.shared else (task.process,):
            channel = process.channel
            if channel is None or channel.closed:
                continue
            for other in process.tasks.values():
                if other is task or other.fs is fs:
                    self._set_place(other, 0, 0)

    @staticmethod
    def _set_place(task: Task, context: int, cwd: int) -> None:
        channel = task.process.channel
        if channel is not None and not channel.closed:
            channel.set_place(task.slot, context, cwd)

    # -- remembering -----------------------------------------------------------------------------------------

    def served(self, task: Task, request: Request, args: tuple[Any, ...], result: Any) -> None:
        """A call that takes part was answered: by a handler's result, or by the OSError that it raised."""
        if self._view is None:
            return
        shape = SHAPES[request.nr]
        name: bytes | None = None if shape.path < 0 else args[shape.path]
        if request.nr == _GETDENTS64:
            self._remember_entries(task, request, args[0], result)
            return
        if request.nr == _GETCWD:
            if isinstance(result, Out):  # another name of the directory, or of one above it, begins a new epoch
                self._remember(task, request, shape, b"", self.put_place(task)[1], result.ret, result.writes[0][1])
            return
        if not name:
            self._served_by_fd(task, request, shape, args, result)
            return
        found = self._kernel.vfs.found
        if shape.opens and isinstance(result, InstallFd):
            makes = bool(request.args[shape.keys[0]] & os.O_CREAT)
            if makes or (found is not None and found[0] is not None and not found[0].inode.is_settled()):
                self._has_opened(task, result.fd, makes)
        if found is None:
            return
        path = found[0]
        if self._lent is not None and self._is_of_lent(path, found[3], shape):
            return
        start = self.start_of(task, name, None if shape.dirfd < 0 else args[shape.dirfd])
        if start is None:
            return
        data = extra = b""
        if shape.settled and path is not None and not (path.mount.settled and path.inode.is_settled()):
            extra = live(request.nr, path.inode)
            if not extra:
                return
        if request.nr == _EXECVE:
            if path is not None or not isinstance(result, OSError) or result.filename != name:
                return  # the one that is missing may be its interpreter
        if isinstance(result, OSError):
            if result.errno != errno.ENOENT if path is None else result.errno not in _FOUND_ERRORS:
                return
            value = -(result.errno or errno.EIO)
        elif path is None or request.nr == _STATFS:  # how much is free changes without our being told
            return
        elif shape.opens:
            flags = request.args[shape.keys[0]]
            if not isinstance(result, DirectoryOpened):
                self._kernel.gifts.opened(task, name, flags, start, path.inode)
                if shape.dirfd < 0 or args[shape.dirfd] is None or name[0] == 47:
                    kept.opened(task, name, flags, path.inode, result)
                return
            value = result.number
        elif isinstance(result, Out):
            value, data = result.ret, result.writes[0][1] + extra if result.writes else b""
        else:
            value = int(result)
        text = b"" if shape.text < 0 else b"\0" + args[shape.text]
        at = self._remember(task, request, shape, name + text, start, value, data)
        if at and path is not None and not isinstance(result, DirectoryOpened):
            about = self._by_times if shape.settled else self._by_object
            about.setdefault(ident(path.inode), set()).add(at)
        if at and found[3] is not None:
            self._by_name.setdefault(found[3], set()).add(at)
            if path is None:
                self._missing[at] = found[3]
            elif value in CALLS.get(request.nr, ()) and not extra and name.endswith(found[3][2]):
                prefix = name[: -len(found[3][2])]
                question = Question(request, shape.numbers(request), self.put_place(task)[0], start, prefix, text)
                self._ahead.asked(task, request, question, path, found[3], value)

    def _is_of_lent(self, path: Path | None, where: Where | None, shape: Shape) -> bool:
        """Would an answer tell of the directory that is lent?"""
        if path is None:
            return where is not None and where[:2] == self._lent
        return shape.settled and ident(path.inode) == self._lent

    def _served_by_fd(
        self, task: Task, request: Request, shape: Shape, args: tuple[Any, ...], result: Any
    ) -> None:
        """The like for an object that a descriptor stands for."""
        fd: FdRef | None = args[shape.dirfd] if shape.dirfd >= 0 else None
        if fd is None or not isinstance(result, Out) or not shape.settled:
            return
        known = record(task, fd)
        if known is None or ident(known.inode) == self._lent:
            return
        extra = b""
        if known.path.mount.settled and known.inode.is_settled() or (extra := live(request.nr, known.inode)):
            numbered = fd.dev == VDIR_DEV
            name, start = (b"", fd.ino) if numbered else (struct.pack("<2Q", fd.dev, fd.ino), 0)
            at = self._remember(task, request, shape, name, start, result.ret, result.writes[0][1] + extra)
            if at:
                self._by_times.setdefault(ident(known.inode), set()).add(at)
            exe, which = task.process.exe, task.process.live_files.get((fd.dev, fd.ino))
            if extra and exe is not None and which is not None:
                if len(self._looks) >= _MAX_LOOKS:
                    self._looks.clear()
                self._looks[ident(exe.inode), which] = request.nr, shape.numbers(request)

    def _has_opened(self, task: Task, fd: int, makes: bool) -> None:
        """A file was opened that changes, or it was made. Some programs look at each of these at once (stdio, sqlite,
        cp; tar does not): they get the answer before, and so do others that run the same program."""
        process, st = task.process, os.fstat(fd)
        if len(process.live_files) >= _MAX_LIVE:
            process.live_files.clear()
        process.live_files[st.st_dev, st.st_ino] = makes
        known = self._kernel.vfs.files.get(st.st_dev, st.st_ino)
        if process.exe is None or known is None:
            return
        looks = self._looks.get((ident(process.exe.inode), makes))
        extra = live(looks[0], known.inode) if looks is not None else b""
        if looks is not None and extra:
            name = struct.pack("<2Q", st.st_dev, st.st_ino)
            data = known.inode.getattr().pack() + extra
            at = self._put(task, *looks, name, 0, 0, data, hash_of(*looks, name))
            self._by_times.setdefault(ident(known.inode), set()).add(at)

    def _remember(
        self,
        task: Task,
        request: Request,
        shape: Shape,
        name: bytes,
        start: int,
        value: int,
        data: bytes,
    ) -> int:
        """Write an entry; where it is, 0 if it does not fit."""
        if len(name) > _MAX_PATH or len(data) > _MAX_OUT:
            return 0
        return self._put(task, request.nr, shape.numbers(request), name, start, value, data, request.raw[-1])

    def start_of(self, task: Task, name: bytes, dirfd: FdRef | None) -> int | None:
        """The number of the directory that a path is relative to, 0 for an absolute one; None for one without."""
        if name[0] == 47:
            return 0
        if dirfd is None:
            return self.put_place(task)[1]
        return dirfd.ino if dirfd.dev == VDIR_DEV else None

    def _remember_entries(self, task: Task, request: Request, fd: FdRef, result: Any) -> None:
        """All entries of a directory that the core has by its number were given to it."""
        record = self._kernel.vfs.files.get(fd.dev, fd.ino)
        if fd.dev != VDIR_DEV or record is None or not isinstance(result, Out) or self._view is None:
            return
        if ident(record.inode) == self._lent:
            return
        if self._kernel.vfs.mounts.walks.listing(record.inode) is None:
            return  # it may change without our being told
        data = result.writes[0][1]
        start, gone = self._listings.room(data)
        self._drop(gone)
        at = LISTINGS_OFFSET + start
        self._view[at : at + len(data)] = data
        place = self._put(task, request.nr, (0, 0), b"", fd.ino, len(data), _U32.pack(start), request.raw[-1])
        self._listings.is_at(start, start + len(data), place)
        self._by_times.setdefault(ident(record.inode), set()).add(place)

    def _put(
        self, task: Task, nr: int, keys: tuple[int, int], name: bytes, cwd: int, value: int, data: bytes, hashed: int
    ) -> int:
        """Write an entry for all who are as `task` is; where it is."""
        context, _ = self.put_place(task)
        return self._enter(context, nr, keys, name, cwd, value, data, hashed)

    def foresee(
        self, question: Question, name: bytes, hashed: int, value: int, data: bytes, where: Where, what: tuple[int, int]
    ) -> None:
        """Write the answer to a question that nobody has put yet: `name` is the one of `where` and means `what`."""
        if len(name) <= _MAX_PATH and len(data) <= _MAX_OUT:
            context, nr, keys, cwd = question.context, question.nr, question.keys, question.cwd
            at = self._enter(context, nr, keys, name, cwd, value, data, hashed)
            self._by_times.setdefault(what, set()).add(at)
            self._by_name.setdefault(where, set()).add(at)

    def _enter(
        self, context: int, nr: int, keys: tuple[int, int], name: bytes, cwd: int, value: int, data: bytes, hashed: int
    ) -> int:
        first = (hashed + context * 0x9E3779B1 + cwd * 0x85EBCA6B & 0xFFFFFFFF) % ANSWERS
        live = int(nr in _STAT and len(data) > STAT_SIZE)
        head = _ENTRY.pack(self.epoch, nr, *keys, context, cwd, len(name), len(data), live, value)
        at = self._room(first, head, name)
        self._missing.pop(at, None)
        self._write(at, head, name, data)
        self._any = True
        self._look_after()
        return at

    def _room(self, first: int, head: bytes, name: bytes) -> int:
        """Of the places for an entry: the one that has it or is free, else the first."""
        taken, wanted = self._taken, head[:_KEY] + name
        places = [ANSWERS_OFFSET + _SIZE * (first ^ i) for i in range(ANSWER_PLACES)]
        chosen = places[0]
        for at in reversed(places):
            known = taken.get(at)
            if known == wanted:
                return at
            if known is None:
                chosen = at
        taken[chosen] = wanted
        return chosen

    def _write(self, at: int, head: bytes, name: bytes, data: bytes) -> None:
        """Replace an entry.  x86 keeps stores in order, and so does the interpreter."""
        view = self._view
        assert view is not None
        seq = _U32.unpack_from(view, at)[0]
        _U32.pack_into(view, at, seq + 1 & 0xFFFFFFFF)
        view[at + _AT["epoch"] : at + _AT["epoch"] + len(head)] = head
        path = at + _AT["path"]
        view[path : path + len(name)] = name
        view[at + _AT["out"] : at + _AT["out"] + len(data)] = data
        _U32.pack_into(view, at, seq + 2 & 0xFFFFFFFF)

    def put_place(self, task: Task) -> tuple[int, int]:
        """Tell the task's slot its context and its working directory."""
        context, cwd = self.place(task.creds, task.fs)
        self._set_place(task, context, cwd)
        return context, cwd

    def place(self, creds: Credentials, fs: FsStruct) -> tuple[int, int]:
        """The context and the working directory of a task as numbers, for its slot."""
        root = fs.root
        key = (
            creds.fsuid, creds.fsgid, creds.uid, creds.gid, creds.groups, creds.caps, id(root.mount), id(root.dentry)
        )  # fmt: skip
        known = self._contexts.get(key)
        if known is None:
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            self._last += 1  # a number that no context had before
            known = self._contexts[key] = (self._last, root)  # root: so that nobody else gets its ids
        return known[0], self._kernel.directories.number(fs.cwd)

    # -- the host --------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Hear of the host's changes also while no guest asks us anything."""
        if self._ageing:
            return
        self._ageing = True
        watch, loop = self._kernel.vfs.mounts.watch, self._kernel.loop
        if watch.fd >= 0 and self._watched != watch.fd:
            self._watched = watch.fd
            loop.add(watch.fd, lambda _events: watch.settle())
        loop.call_later(LIFETIME if watch.fd >= 0 else _LONG, self._aged)

    def _aged(self) -> None:
        self._ageing = False
        self._kernel.vfs.mounts.watch.settle()
        self.forget()
