"""The bytes of an in-memory regular file: plain `bytes` while idle, a memfd while guests may have it open.

Layer: vfs, beneath memfs.py and cowfs.py. May touch: memfds and nothing else on the host; the FileRegistry.

A guest gets a new open file description of the memfd (open of /proc/self/fd/N), so offsets, locks, mappings,
holes and coherence are the kernel's own, and we are never told of a write or a close. Size and times
therefore come from the memfd while it exists. MFD_ALLOW_SEALING is left out: F_ADD_SEALS is then EPERM, as it
is on tmpfs.
"""

from __future__ import annotations

import errno
import fcntl
import os
from _weakref import ref  # the module weakref costs start-up time

from .hostcalls import set_times
from .inode import err
from .memfd import has_writer, is_idle, new_memfd, read_all, write_all

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from .files import FileRegistry
    from .shm import Shm
    from .state import Blob

    _T = TypeVar("_T")

_KEEP_SIZE = 1 << 20  # idle files above this stay memfds unless descriptors run out
_SMALL = 2048  # blocks of 512 bytes
_MOST_LIVE = 8192  # memfds of one world; each costs some 6 KiB of kernel memory, and making bytes of it 25 us
_last_mark = 1  # ns after the epoch: see MemData.watch_writes()


class MemData:
    """Contents and times of one file. `atime`, `mtime`, `ctime` hold while idle; the memfd's while it
    exists."""

    __slots__ = (
        "__weakref__",
        "_base_ctime",
        "_blob",
        "_data",
        "_fd",
        "_ident",
        "_kept",
        "_pool",
        "_written",
        "atime",
        "ctime",
        "linked",
        "mtime",
    )

    def __init__(self, pool: MemfdPool, now: int) -> None:
        self._pool = pool
        self._data = b""
        self._fd = -1
        self._ident = (0, 0)
        self._base_ctime = 0
        self._kept: int | None = None  # mtime, while the memfd's is a mark
        self._written = False
        self._blob: ref[Blob] | None = None
        self.atime = self.mtime = self.ctime = now
        self.linked = True  # False: no name is left; the bytes may go when the last user is gone

    def fd(self) -> int:
        """Our own descriptor of the memfd, made now if the file was idle."""
        if self._fd < 0:
            fd = self._pool.make(self.create())
            try:
                fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NOATIME)  # what we read for ourselves is no access
                self.fill(fd)
            except BaseException:
                os.close(fd)
                raise
            st = os.fstat(fd)
            self._fd = fd
            self._ident = (st.st_dev, st.st_ino)
            self._put_times()
            self._pool.add(self)
            if not self.linked:
                self._pool.orphans[self] = None
        return self._fd

    def create(self) -> Callable[[], int]:
        """What makes the descriptor."""
        return new_memfd

    def fill(self, fd: int) -> None:
        """Put the bytes into the new memfd, whose they are from then on."""
        data = self._data
        if data:
            write_all(fd, data)
            self._data = b""

    # -- snapshots -------------------------------------------------------------------------------------------

    def freeze(self) -> Blob | bytes:
        """The bytes as they are now: shared while idle, else copied before the next change, or at once if a guest
        may write."""
        if self._fd < 0:
            return self._data
        blob = None if self._blob is None else self._blob()
        if blob is None or not blob.untouched:
            from .state import Blob

            blob = Blob(self)
            if has_writer(self._fd):
                blob.keep()
            else:
                self._blob = ref(blob)
        return blob

    def idle(self) -> bytes | None:
        """The bytes while there is no memfd, None while there is one."""
        return self._data if self._fd < 0 else None

    def has(self, data: bytes) -> bool:
        """Are these the bytes? (Cheap if not; False when in doubt.)"""
        return self._fd < 0 and self._data == data

    def changing(self) -> None:
        """The bytes may change from now on."""
        if self._blob is not None:
            blob, self._blob = self._blob(), None
            if blob is not None:
                blob.keep()

    # -- use -------------------------------------------------------------------------------------------------

    def open(self, flags: int) -> int:
        """A new open file description with open(2)'s access mode and status flags, and O_TRUNC."""
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self.changing()
        flags = (
            flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_DIRECTORY) | os.O_CLOEXEC | os.O_NOCTTY
        )

        def opened() -> int:
            # self.fd() each time: to make room, idle memfds go, and this one is idle still.
            return os.open(f"/proc/self/fd/{self.fd()}", flags)

        try:
            return self._unseen(lambda: self._pool.retry(opened)) if flags & os.O_TRUNC else self._pool.retry(opened)
        except OSError as e:
            # tmpfs takes O_DIRECT only from Linux 6.6 on.
            if e.errno != errno.EINVAL or not flags & os.O_DIRECT:
                raise
            return os.open(f"/proc/self/fd/{self.fd()}", flags & ~os.O_DIRECT)

    def stat(self) -> tuple[int, int, int, int, int]:
        """(size in bytes, 512-byte blocks, atime, mtime, ctime)."""
        if self._fd < 0:
            size, blocks = self.idle_size()
            return size, blocks, self.atime, self.mtime, self.ctime
        st = os.fstat(self._fd)
        if st.st_ctime_ns != self._base_ctime:  # a guest wrote
            self._base_ctime = st.st_ctime_ns
            self.ctime = max(self.ctime, st.st_ctime_ns)
        mtime = st.st_mtime_ns
        if self._kept is not None:
            if mtime > _last_mark:
                self._kept, self._written = None, True
            else:
                mtime = self._kept
        return st.st_size, st.st_blocks, st.st_atime_ns, mtime, self.ctime

    def native_times(self) -> tuple[int, int, int] | None:
        """Of a file that has a memfd: st_dev, st_ino, and the change time in ns with which stat() was right last.
        None where its modification time is a mark."""
        return (*self._ident, self._base_ctime) if self._fd >= 0 and self._kept is None else None

    def idle_size(self) -> tuple[int, int]:
        """(size, 512-byte blocks) while there is no memfd."""
        size = len(self._data)
        return size, size + 4095 >> 12 << 3

    def set_times(self, now: int, atime: int | None = None, mtime: int | None = None) -> None:
        """utimensat(2); `now` is the new ctime."""
        if self._fd >= 0:
            _, _, self.atime, self.mtime, _ = self.stat()
        if atime is not None:
            self.atime = atime
        if mtime is not None:
            self.mtime = mtime
        self.ctime = max(self.ctime, now)
        if self._fd >= 0:
            self._put_times()

    def changed(self, now: int) -> None:
        """The inode changed (chmod, link): ctime, which never goes back (the memfd's clock may be a finer one)."""
        if self._fd >= 0:
            self.stat()
        self.ctime = max(self.ctime, now)

    def draft(self, flags: int) -> int:
        """As open() with these flags, of a file that nobody has seen yet and that has no name; its times are those of
        its memfd until begun()."""
        fd = self._pool.make(self.create())
        try:
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NOATIME)
            opened = self._pool.retry(lambda: os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC | os.O_NOCTTY))
        except BaseException:
            os.close(fd)
            raise
        st = os.fstat(fd)
        self._fd, self._ident = fd, (st.st_dev, st.st_ino)
        self._pool.add(self)
        return opened

    def begun(self, born: int, ctime: int, timed: tuple[int, int, int, int] | None) -> None:
        """The file was made at `born`, without us, and a guest may have it open; attributes changed last at `ctime`.
        `timed`: the access time that was set then, and the memfd's at that moment; likewise the modification time."""
        st = os.fstat(self._fd)
        atime, mtime = max(born, st.st_atime_ns), None
        if timed is not None:
            atime = timed[0] if st.st_atime_ns == timed[1] else st.st_atime_ns
            mtime = timed[2] if st.st_mtime_ns == timed[3] else None
        set_times(self._fd, atime, mtime)
        self.ctime = max(ctime, st.st_ctime_ns)
        self._base_ctime = os.fstat(self._fd).st_ctime_ns

    def discard(self) -> None:
        """Nobody will open it again, whoever has it open now."""
        self._drop()

    def _put_times(self, mark: bool = False) -> None:
        global _last_mark
        mtime = self.mtime
        if mark or self._kept is not None:
            self._kept = mtime
            mtime = _last_mark = _last_mark + 1  # each time another, since images are known by their mtime
        os.utime(self._fd, ns=(self.atime, mtime))
        self._base_ctime = os.fstat(self._fd).st_ctime_ns

    # -- was it written? -------------------------------------------------------------------------------------

    def watch_writes(self) -> None:
        """From now on written() tells whether a guest has written. The memfd's mtime is a mark meanwhile, which every
        write replaces; comparing times would miss a write within one tick of the kernel's clock."""
        if self._kept is None:
            self.fd()
            _, _, self.atime, self.mtime, _ = self.stat()
            self._written = False
            self._put_times(mark=True)

    def watch_no_more(self) -> None:
        """Forget that somebody watches, and what he might have seen."""
        if self._kept is not None:
            _, _, self.atime, self.mtime, self.ctime = self.stat()
        self._kept, self._written = None, False

    def written(self) -> bool | None:
        """Has anybody written since watch_writes()? None: nobody has, and nobody who could has it open any more."""
        if self._kept is not None:
            self.stat()
        if self._kept is not None:
            return False
        written, self._written = self._written, False
        return True if written else None

    def _unseen(self, change: Callable[[], _T]) -> _T:
        """`change()` alters the bytes for somebody whose privileges are settled: written() does not tell of it."""
        _, _, atime, mtime, _ = self.stat()
        if self._kept is None:
            return change()
        self._kept, self.atime, self.mtime = None, atime, mtime
        self._put_times()
        try:
            return change()
        finally:
            self.watch_writes()

    def truncate(self, size: int, now: int) -> None:
        """Cut or extend with a hole; mtime and ctime become now."""
        self.changing()
        self._unseen(lambda: self._cut(size, now))

    def _cut(self, size: int, now: int) -> None:
        if self._fd < 0 and size == 0:
            self._data = b""
            self.mtime = self.ctime = now
            return
        os.ftruncate(self.fd(), size)

    def put(self, write: Callable[[int], object]) -> None:
        """Have `write(fd)` fill the file."""
        write(self.fd())

    def load(self, data: bytes) -> None:
        """Set the contents without touching the times (restoring, copying up)."""
        self.changing()
        if self._fd < 0:
            self._data = data
        else:
            os.ftruncate(self._fd, 0)
            write_all(self._fd, data)

    def read(self) -> bytes:
        """The whole contents."""
        return self._data if self._fd < 0 else read_all(self._fd)

    @property
    def ident(self) -> tuple[int, int]:
        """(st_dev, st_ino) of the memfd."""
        return self._ident

    @property
    def live(self) -> bool:
        """Is there a memfd now?"""
        return self._fd >= 0

    def is_small(self) -> bool:
        """Does it cost little if the bytes stay when they are deleted?"""
        return self.stat()[1] <= _SMALL

    def is_unused(self) -> bool:
        """Does nobody but us have the bytes open, by descriptor or mapping?"""
        return self._fd < 0 or (not self._is_watched() and is_idle(self._fd))

    def _is_watched(self) -> bool:
        """Would a guest's inotify see us open the memfd?"""
        return self._pool.registry is not None and self._ident in self._pool.registry.pinned

    def try_idle(self, hard: bool = False) -> bool:
        """Turn the memfd back into bytes if nobody uses it; True if the descriptor was given back.

        Big and sparse files stay, unless `hard` (big ones then go too; a hole is never filled).
        """
        fd = self._fd
        if fd < 0:
            return True
        if self._is_watched():
            return False
        if self.linked:
            st = os.fstat(fd)
            if (st.st_size > _KEEP_SIZE and not hard) or st.st_blocks * 512 < st.st_size:
                return False
        if not is_idle(fd):
            return False
        if self.linked:
            _, _, self.atime, self.mtime, self.ctime = self.stat()
            self._data = read_all(fd)
        self._drop()
        return True

    def _drop(self) -> None:
        self._kept = None
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._pool.remove(self, self._ident)
            os.close(fd)

    def unlinked(self) -> None:
        """No name is left: free the bytes as soon as no guest has the file open."""
        self.changing()
        self.linked = False
        if self._fd < 0:
            self._data = b""
        elif not self.try_idle():
            self._pool.orphans[self] = None

    def relinked(self) -> None:
        """A name came back (linkat of an O_TMPFILE)."""
        self.linked = True
        self._pool.orphans.pop(self, None)

    def __del__(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class MemfdPool:
    """The memfds that exist now: bounds the descriptors that idle files cost. One per world."""

    def __init__(self, registry: FileRegistry | None = None, limit: int | None = None) -> None:
        """`limit`: how many memfds may exist before idle ones are looked for (default: from
        RLIMIT_NOFILE)."""
        if limit is None:
            import resource

            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            limit = max(64, min(_MOST_LIVE, soft // 3))
        self.registry = registry
        self.limit = limit
        self._threshold = limit
        self._live: dict[MemData, None] = {}  # insertion-ordered: oldest first
        self.orphans: dict[MemData, None] = {}
        self._reap_at = 0
        self._spare = -1
        self.shm: Shm | None = None  # where all bytes go, if there is a limit for them

    def new_data(self, now: int) -> MemData:
        """The bytes of a new file."""
        return MemData(self, now) if self.shm is None else self.shm.new_data(self, now)

    def make(self, create: Callable[[], int] = new_memfd) -> int:
        """A new memfd (or what `create` gives); sweeps when there are too many, and when the process has no
        descriptor left."""
        if len(self._live) >= self._threshold:
            self.sweep(self.limit * 3 // 4)
            self._threshold = max(self.limit, len(self._live) * 5 // 4)
        if self.orphans:
            self._reap_at += 1
            if self._reap_at >= 32:
                self.reap()
        if self._spare < 0:
            self._spare = os.open("/", os.O_PATH | os.O_CLOEXEC)
        return self.retry(create)

    def retry(self, make: Callable[[], int]) -> int:
        """`make()` a descriptor; when there is none left, free idle memfds and try again. ENFILE if that
        fails."""
        try:
            return make()
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE) or self._spare < 0:
                raise
            # is_idle() needs a descriptor itself.
            os.close(self._spare)
            self._spare = -1
            if not self.sweep(len(self._live) // 2, hard=True):
                raise err(errno.ENFILE) from e
            self._spare = os.open("/", os.O_PATH | os.O_CLOEXEC)
            return make()

    def add(self, data: MemData) -> None:
        self._live[data] = None

    def remove(self, data: MemData, ident: tuple[int, int]) -> None:
        self._live.pop(data, None)
        self.orphans.pop(data, None)
        if self.registry is not None:
            self.registry.forget(*ident)

    def sweep(self, goal: int, hard: bool = False) -> int:
        """Turn idle memfds into bytes, oldest first, until `goal` are left; returns how many went."""
        gone = 0
        for data in list(self._live):
            if len(self._live) <= goal:
                break
            gone += data.try_idle(hard)
        return gone

    def reap(self) -> None:
        """Free removed files that nobody has open any more; also called when a process has ended."""
        self._reap_at = 0
        for data in list(self.orphans):
            data.try_idle()

    def close(self) -> None:
        """The world ends: every memfd of ours is closed, the bytes are gone."""
        for data in list(self._live):
            data._drop()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        if self.shm is not None:
            self.shm.close()

    def __len__(self) -> int:
        return len(self._live)
