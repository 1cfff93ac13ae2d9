"""Directories that are lent to processes, which make and remove files there without asking: core_native/drafts.c.

Layer: the pretend kernel, beside answers.  May touch: the vfs, memfds, processes' channels behind DRAFTS_OFFSET (where
it trusts nothing).

As an NFSv4 server delegates to one client what nobody else uses (RFC 8881, section 10), the supervisor lends a
directory to a process that makes files there one after the other: which names there may be, and some files without a
name (as O_TMPFILE makes them), the *drafts*, each open as the guest is to have it. The core gives them out, notes name,
mode, owner and times in the process's page, and takes them back when they are removed: a journal comes and goes without
our hearing of it.

Nobody sees a directory that is lent. Before any request is served that might look at names, or at the drafts
(`before`), and before the user's Python enters the world (worldlock.py), what was made becomes true: the drafts get
their names. The process itself goes on with the drafts that are left; for anybody else's sake the directory is lent no
more. `live` and `made` in the page are the two words of Dekker's protocol. While it is lent, no answer tells of the
directory, nor of names that it lacks (Answers.lend): the core says the latter itself.

Lent are directories in memory that have no limits of their own, to one process at a time, which has one thread, while
nobody hooks, traces or watches; and to those whom it has not helped, ever later.
"""

from __future__ import annotations

import os
import struct
import time

from ..vfs.mount import Path
from ..vfs.remembered import ident
from ..vfs.stat import S_IFREG, S_ISGID
from .layout import (
    CHANNEL_SIZE,
    CONSTANTS,
    DRAFT_BITS,
    DRAFT_NAME,
    DRAFT_NAMES_OFFSET,
    DRAFT_NAMES_SIZE,
    DRAFT_PREFIX,
    DRAFTS,
    DRAFTS_OFFSET,
    OFFSETS,
    SIZES,
    VDIR_DEV,
)
from .quiet import BLIND, PLACES
from .table import BY_NAME
from .task import Credentials
from .watch import barrier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..vfs.remembered import Where
    from .channel import Channel
    from .dispatch import Request
    from .sandbox import Kernel
    from .task import Process, Task

_AT = {name: DRAFTS_OFFSET + at for name, at in OFFSETS["ring3_drafts"].items()}
_MADE, _LIVE, _TAKEN, _SERIAL, _DROPPED = (_AT[n] // 4 for n in ("made", "live", "taken", "serial", "dropped"))
_TURN = _AT["turn"] // 4
_NOTES, _NOTE_SIZE = DRAFTS_OFFSET + SIZES["ring3_drafts"], SIZES["ring3_draft"]
_NOTE = struct.Struct(f"<6I6q{DRAFT_NAME}s")
assert _NOTE.size == _NOTE_SIZE
_HEAD = struct.Struct("<8I")  # context .. prefix_len
assert _AT["context"] + _HEAD.size == _AT["serial"]
_INOS = struct.Struct(f"<{DRAFTS + 1}Q")  # dev, ino
assert _AT["dev"] + _INOS.size == _AT["prefix"]
_ALL = (1 << DRAFTS) - 1
#: of open(2)'s flags, what says nothing of the open file description; 0o100000 is O_LARGEFILE, which every open gets
_FOR_OPENING = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW | 0o100000
_ODD = os.O_PATH | os.O_DIRECTORY | os.O_DIRECT | os.O_TMPFILE | os.O_NOATIME
#: files that a process makes in a row before it is lent anything; at most so many, for those whom it has not helped
_FIRST, _MOST_PATIENCE = 2, 64
#: of what somebody was lent, so many were to be used
_WORTHWHILE = 4
#: drafts that a process gets first
_FEW = 4
#: entries that a directory may have: with more of them, too few names are certainly missing
_MOST_ENTRIES = DRAFT_BITS // 4
#: so many entries are found out in the time that a file which is made without us saves
_ENTRIES_EACH = 512
#: of so many it is found out whether a name that is removed was the only one with its bit
_FEW_ENTRIES = 128
_CALL, _FORK, _THREAD = (CONSTANTS[f"REQ_{name}"] for name in ("CALL", "FORK", "THREAD"))
_BLIND = frozenset(CONSTANTS[f"REQ_{name}"] for name in ("CLASSIFY", "UID", "SITE", "DRAFTS", "EXEC_ARGS"))
#: calls after which the process may be somebody else, or somewhere else, or watch the directory
_EXECS = frozenset(BY_NAME[name].nr for name in ("execve", "execveat"))
_ENDS = PLACES | {BY_NAME[name].nr for name in ("umask", "fcntl", "inotify_add_watch")}
_FDS_DRAFTS = CONSTANTS["FDS_DRAFTS"]


def _bit(name: bytes) -> int:
    """may_be() of core_native/drafts.c."""
    return int.from_bytes(name, "big") % DRAFT_BITS


class Habit:
    """How a process makes files."""

    __slots__ = ("above", "count", "patience")

    def __init__(self) -> None:
        self.above: object = None  # the filesystem of the last one, and its status flags; how many were so in a row
        self.count = 0
        self.patience = _FIRST

    def discourage(self) -> None:
        """It has not helped."""
        self.count, self.patience = 0, min(self.patience * 2, _MOST_PATIENCE)


class Terms:
    """What is lent, and how files are made by it: the directory; what stands before a name, and the number of the
    directory where that begins; flags of the open file descriptions; whose it is; and the umask."""

    __slots__ = ("context", "place", "prefix", "start", "status", "umask")

    def __init__(self, place: Path, prefix: bytes, start: int, status: int, context: int, umask: int) -> None:
        self.place = place
        self.prefix, self.start = prefix, start
        self.status, self.context, self.umask = status, context, umask

    def fit(self, other: Terms) -> bool:
        """May drafts that were made on these terms serve on the others too?"""
        return self.place.mount is other.place.mount and (self.status, self.context) == (other.status, other.context)

    def names_as(self, other: Terms) -> bool:
        """Do both say the same of names?"""
        same_place = self.place.dentry is other.place.dentry
        return same_place and (self.prefix, self.start) == (other.prefix, other.start)


class Grant:
    """What is lent to a process."""

    __slots__ = ("any_owner", "changed", "channel", "drafts", "most", "process", "seen", "terms", "turn")

    def __init__(self, process: Process, channel: Channel, terms: Terms) -> None:
        self.process, self.channel = process, channel
        self.terms = terms
        self.drafts: dict[int, Any] = {}  # inodes without a name, by their number in the page
        self.most = _FEW  # how many there are to be next
        self.any_owner = False  # may it give files away?
        self.changed = 0  # when the process was last seen to have changed the directory
        self.seen = 0  # which drafts were made when it ended, by bits
        self.turn = channel.words[_TURN]  # how many files it had made before

    @property
    def directory(self) -> Any:
        """The inode."""
        return self.terms.place.inode


class Drafts:
    """What one sandbox lends: to one process at a time, as whoever else makes a file has it taken back."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._grant: Grant | None = None  # the one that is live
        self._drafts_of: Grant | None = None  # who has drafts: it, or the one that was live last
        kernel.lock.settle = self.end

    # -- lending ---------------------------------------------------------------------------------------------

    def created(self, task: Task, place: Path, name: bytes, start: int | None, flags: int) -> None:
        """A task has made a file in `place` by open(2) of `name`, which begins at directory number `start`."""
        process = task.process
        habit = process.habit = process.habit or Habit()
        status = flags & ~_FOR_OPENING
        above = place.mount, status
        habit.count = habit.count + 1 if habit.above == above else 1
        habit.above = above
        if start is None or habit.count < habit.patience:
            return
        if not self._may_lend(task, place, flags):
            habit.count = -_MOST_PATIENCE  # finding out costs something
            return
        channel = process.channel
        assert channel is not None
        if channel.words[_DROPPED]:
            channel.words[_DROPPED] = 0
            self.gone(process)
            habit.discourage()
            return
        prefix = name[: name.rfind(b"/") + 1]
        if len(prefix) > DRAFT_PREFIX or not self._leads_to(task, prefix, start, place):
            return
        context, _ = self._kernel.answers.put_place(task)
        terms = Terms(place, prefix, start, status, context, task.fs.umask)
        grant = self._grant
        if grant is None or grant.process is not process or not grant.terms.names_as(terms):
            if habit.count < place.inode.entry_count() // _ENTRIES_EACH:
                return
            habit.count = habit.patience
        self._lend(task, channel, terms)

    def _may_lend(self, task: Task, place: Path, flags: int) -> bool:
        kernel, directory, process = self._kernel, place.inode, task.process
        if kernel.installed_hooks is not None or kernel.vfs.notify is not None or kernel.native_hook is not None:
            return False
        if flags & _ODD or not flags & os.O_ACCMODE or process.channel is None or process.channel.closed:
            return False
        if len(process.tasks) != 1 or task.own_fs is not None or task.fs.shared:
            return False
        if directory.mode & S_ISGID or directory.default_acl is not None or directory.iflags:
            return False  # which new files inherit
        if not directory.sb.lends or not directory.steady or not directory.nlink:
            return False
        return bool(directory.entry_count() <= _MOST_ENTRIES)

    def _leads_to(self, task: Task, prefix: bytes, start: int, place: Path) -> bool:
        """Does what stands before the name lead to the directory? (A link at the end leads elsewhere.)"""
        vfs, there = self._kernel.vfs, None
        if start:
            known = vfs.files.get(VDIR_DEV, start)
            if known is None:
                return False
            there = known.path
        if prefix:
            found = vfs.found
            try:
                there = vfs.lookup(task, there, prefix)
            except OSError:
                return False
            vfs.found = found
        return there is not None and there.mount is place.mount and there.dentry is place.dentry

    def _lend(self, task: Task, channel: Channel, terms: Terms) -> None:
        """Give the process what it lacks of drafts, on these terms, now that it waits for an answer."""
        before, grant = self._grant, self._drafts_of
        if grant is None or grant.process is not task.process or not grant.terms.fit(terms):
            self.end()
            self._discard(grant)
            grant = Grant(task.process, channel, terms)
        elif before is not None:
            self._take(grant)
        if before is None:
            grant.turn = channel.words[_TURN]
        moved = grant is not before or not grant.terms.names_as(terms)
        grant.terms, self._drafts_of = terms, grant
        if not self._fill(task, grant):
            self.end()
            self._discard(grant)
            return
        self._write(grant, task.creds, moved)
        self._grant = task.process.grant = grant
        self._kernel.answers.lend(ident(grant.directory))
        channel.words[_LIVE] = 1

    def _fill(self, task: Task, grant: Grant) -> bool:
        """Make and send the drafts that are missing.  False where that is impossible now."""
        wanted = [i for i in range(grant.most) if i not in grant.drafts]
        grant.most = min(grant.most * 2, DRAFTS)
        fds: list[int] = []
        try:
            for i in wanted:
                grant.drafts[i], fd = self._draft(grant.terms, task.creds)
                fds.append(fd)
            if fds:
                grant.channel.send_fds(task.slot, fds, sum(1 << i for i in wanted), _FDS_DRAFTS)
                words = grant.channel.words
                words[_SERIAL] = words[_SERIAL] + 1 & 0xFFFFFFFF
        except OSError:  # no descriptor is left, or the process's socket is full
            return False
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _draft(self, terms: Terms, creds: Credentials) -> tuple[Any, int]:
        """A file without a name, and a descriptor of it as the guest is to have it."""
        inode: Any = terms.place.inode.tmpfile(0o600, creds.fsuid, creds.fsgid, True)
        return inode, inode.data.draft(terms.status)

    def _write(self, grant: Grant, creds: Credentials, moved: bool) -> None:
        """The terms, into the page."""
        view, words, terms = grant.channel.view, grant.channel.words, grant.terms
        prefix = terms.prefix
        words[_MADE] = words[_TAKEN] = 0
        grant.any_owner = creds.caps == Credentials.ALL
        dev = ident(grant.directory)[0]
        for inode in grant.drafts.values():
            if getattr(inode, "dev", dev) != dev:
                inode.dev = dev
        _HEAD.pack_into(
            view, _AT["context"], terms.context, terms.start, terms.status, terms.umask, creds.fsuid, creds.fsgid,
            grant.any_owner, len(prefix),
        )  # fmt: skip
        inos = (grant.drafts[i].ino if i in grant.drafts else 0 for i in range(DRAFTS))
        _INOS.pack_into(view, _AT["dev"], dev, *inos)
        if moved:
            view[_AT["prefix"] : _AT["prefix"] + len(prefix)] = prefix
            names = bytearray(DRAFT_NAMES_SIZE)
            for entry in grant.directory.readdir():
                bit = _bit(entry[0])
                names[bit >> 3] |= 1 << (bit & 7)
            view[DRAFT_NAMES_OFFSET:CHANNEL_SIZE] = names

    def named(self, where: Where) -> None:
        """A name is about to mean something else: from now on there may be one."""
        grant = self._grant
        if grant is not None and ident(grant.directory) == where[:2]:
            bit = _bit(where[2])
            grant.channel.view[DRAFT_NAMES_OFFSET + (bit >> 3)] |= 1 << (bit & 7)

    def removed(self, where: Where) -> None:
        """A name means nothing any more: such a name may be made without asking again."""
        grant = self._grant
        if grant is not None and ident(grant.directory) == where[:2]:
            directory, bit = grant.directory, _bit(where[2])
            if directory.entry_count() <= _FEW_ENTRIES and all(_bit(e[0]) != bit for e in directory.readdir()):
                grant.channel.view[DRAFT_NAMES_OFFSET + (bit >> 3)] &= ~(1 << (bit & 7)) & 0xFF

    # -- making true -----------------------------------------------------------------------------------------

    def before(self, process: Process, request: Request) -> None:
        """A request is about to be served."""
        if self._drafts_of is None:
            return
        kind, nr = request.kind, request.nr
        if kind in _BLIND or (kind == _CALL and nr in BLIND):
            return
        if kind == _CALL and nr in _EXECS:
            self.gone(process)
        grant = self._grant
        if grant is None:
            return
        if grant.process is not process:
            self._judge(grant)
            self.end()
        elif kind in (_FORK, _THREAD) or (kind == _CALL and nr in _ENDS):
            self.end()
        else:
            self._take(grant)

    def _judge(self, grant: Grant) -> None:
        """Others come in between: has it helped?"""
        habit = grant.process.habit
        if habit is None:
            return
        if grant.channel.words[_TURN] - grant.turn & 0xFFFFFFFF < _WORTHWHILE:
            habit.discourage()
        else:
            habit.patience = _FIRST

    def gone(self, process: Process) -> None:
        """A process has ended, or has no drafts any more."""
        if self._drafts_of is not None and self._drafts_of.process is process:
            self.end()
            self._discard(self._drafts_of)

    def end(self) -> None:
        """Nothing is lent any more: somebody is about to look, or names come to mean something else."""
        grant, self._grant = self._grant, None
        if grant is None:
            return
        self._kernel.answers.lend(None)
        if grant.channel.closed:
            return
        grant.channel.words[_LIVE] = 0
        barrier()
        grant.seen = self._take(grant)

    def was_seen(self, process: Process, number: int) -> int:
        """REQ_DRAFTS: had the process made this one, when its directory was taken back?"""
        grant = process.grant
        return 0 if grant is None else grant.seen >> (number & 31) & 1

    def _discard(self, grant: Grant | None) -> None:
        """Nobody will name the drafts that are left."""
        if grant is not None:
            for inode in grant.drafts.values():
                inode.data.discard()
            grant.drafts.clear()
            if self._drafts_of is grant:
                self._drafts_of = None

    def _take(self, grant: Grant) -> int:
        """What the process has made becomes true: by bits, the drafts that it had made."""
        words, view = grant.channel.words, grant.channel.view
        made = words[_MADE] & ~words[_TAKEN] & _ALL
        changed = int.from_bytes(view[_AT["changed"] : _AT["changed"] + 8], "little", signed=True)
        if not made and changed == grant.changed:
            return 0
        notes = []
        words[_TAKEN] |= made
        for i in range(DRAFTS):
            if made >> i & 1 and i in grant.drafts:
                at = _NOTES + i * _NOTE_SIZE
                notes.append((_NOTE.unpack(bytes(view[at : at + _NOTE_SIZE])), grant.drafts.pop(i)))
        for note, inode in sorted(notes, key=lambda one: one[0][0]):
            self._name(grant, note, inode)
        grant.changed = changed
        directory = grant.directory
        directory.changed_at(max(directory.mtime, min(changed, time.time_ns())))
        return made

    def _name(self, grant: Grant, note: tuple[Any, ...], inode: Any) -> None:
        """A draft gets its name; nothing is true that the process could not have brought about by calls."""
        _, mode, uid, gid, timed, length, born, ctime, atime, mtime, base_atime, base_mtime, name = note
        name, place, directory = name[:length], grant.terms.place, grant.directory
        if not 0 < length <= DRAFT_NAME or 0 in name or 47 in name or name in (b".", b".."):
            inode.data.discard()
            return
        if directory.nlink == 0 or directory.lookup(name) is not None:
            inode.data.discard()
            return
        walks = self._kernel.vfs.mounts.walks
        walks.rename(directory, name, None)
        inode.mode = S_IFREG | mode & 0o777
        if grant.any_owner:
            inode.uid, inode.gid = uid, gid
        directory.link(name, inode)
        inode.named()
        now = time.time_ns()  # not now_ns(), as files' times may be finer than its clock
        inode.btime = max(inode.btime, min(born, now))
        inode.data.begun(inode.btime, min(ctime, now), (atime, base_atime, mtime, base_mtime) if timed else None)
        path = Path(place.mount, place.dentry.child(name, inode))
        dev, ino = inode.data.ident
        self._kernel.vfs.files.add_native(dev, ino, path, inode, False)
