"""The cache of rewritten files: in memory by file identity, on disk by content.

Part of: loader (rewriting). May touch: the user's cache directory, the host fds it is given (read only).

On disk (below ``rewrite/`` of the cache directory) lies one small file per content: the sites, how each is
rewritten or why not, and those that were learned because they trapped; never text. A symbolic link named after a
file's identity (device, inode, times, size) says which content it has, so that a known file is not read to be
hashed. Files and links appear by rename, so writers need no lock: of two, the later wins, and what the other
had learned is learned again. Nothing read from disk is believed: a file of another version, with a wrong
checksum or wrong numbers, or that another user made or may write, is ignored and made anew, and build() compares each
patch with the bytes it replaces. What was learned from guests is no proof either (sites.py).
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from binascii import crc32
from struct import Struct
from struct import error as StructError

from . import text as text_module
from .rewrite import Mismatch, Rewrite, build, content_hash
from .sites import LEARNABLE, REASONS, Analysis, Site, find_sites
from .trampoline import FORMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .text import Text

VERSION = 7
"""Of the files and of the rules by which sites are judged: change it with either, and everything is made anew."""
MAX_ENTRIES, MAX_BYTES = 256, 1 << 30
"""Bounds of what is kept in memory: files, and bytes of their memfds."""
MAX_FILES, MAX_FILE_BYTES = 4096, 4 << 20
"""Bounds of the directory: entries in it, and bytes of one."""
MAX_LEARNED = 16384
_RACY = 2_000_000_000
"""A file changed less than these nanoseconds ago may change again without its times telling."""

_HEAD = Struct(
    "<8sHHIIII16s"
)  # magic, version, flags, sites, learned, checksum of all behind the head, 0, key
_SITE = Struct("<QQHHHBB")  # vaddr, run, length, head, slot, form, reason
_MAGIC = b"r3sites\0"
_USES_GS, _STALE = 1, 2
_FORM_NAMES = {number: name for name, number in FORMS.items()}
_REASON_NUMBERS = {reason: i for i, reason in enumerate(REASONS)}

Identity = tuple[int, int, int, int, int]

_shared: list[RewriteCache] = []


def shared_cache() -> RewriteCache:
    """The cache of this process, for all its sandboxes."""
    if not _shared:
        _shared.append(RewriteCache())
    return _shared[0]


class Entry:
    """What is known of a file: ``key``, the hash of its content, "" for what is no program or library of ours;
    ``analysis``, None then; ``learned``, the vaddrs that the analysis knew to have trapped; ``segments``, (file
    offset, length, vaddr) of its executable pages."""

    __slots__ = ("_by_vaddr", "analysis", "key", "learned", "segments")

    def __init__(self, key: str, analysis: Analysis | None, learned: frozenset[int], text: Text | None) -> None:
        self.key = key
        self.analysis = analysis
        self.learned = learned
        self.segments = [] if text is None else [(s.offset, s.length, s.vaddr) for s in text.segments]
        self._by_vaddr: dict[int, Site] | None = None

    def vaddr_of(self, offset: int) -> int:
        """The vaddr of a byte of the file; -1 if that is not in its text."""
        for start, length, vaddr in self.segments:
            if start <= offset < start + length:
                return offset - start + vaddr
        return -1

    def site(self, vaddr: int) -> Site | None:
        """What was decided about the site at ``vaddr``; None if it was not taken for one."""
        if self._by_vaddr is None:
            found = (*self.analysis.sites, *self.analysis.refused) if self.analysis is not None else ()
            self._by_vaddr = {s.vaddr: s for s in found}
        return self._by_vaddr.get(vaddr)

    def is_news(self, vaddr: int) -> bool:
        """Whether it changes what is known that the syscall at ``vaddr`` trapped."""
        if not self.key or vaddr in self.learned:
            return False
        site = self.site(vaddr)
        return site is None or site.reason in LEARNABLE


_NOTHING = Entry("", None, frozenset(), None)


class Large(Exception):
    """The file is to be analysed first, and has more text than the caller has patience for."""


def encode(entry: Entry) -> bytes:
    """What ``RewriteCache.adopt`` takes."""
    if entry.analysis is None:
        return b""
    return _encode(bytes.fromhex(entry.key), entry.analysis, entry.learned, stale=False)


class RewriteCache:
    """Gives the Rewrite of a file, made at most once per content. May be used from several threads.

    ``directory``: where the entries are kept, made if missing; None: the user's cache directory. A directory that
    cannot be used costs time in the next run, nothing else.
    """

    def __init__(self, directory: str | None = None, zpoline: bool = False) -> None:
        self._zpoline = zpoline
        self._directory = directory
        self._lock = threading.Lock()
        self._entries: dict[Identity, tuple[Entry, Rewrite | None]] = {}  # the least recently used first
        self._bytes = 0

    def get(self, fd: int) -> Rewrite | None:
        """The rewritten form of the file ``fd`` (borrowed), or None if it stays as it is.

        The cache owns the Rewrite, and drops it when it is full: keep the reference while the memfd is needed.
        Raises OSError if the host has no memory or descriptors left.
        """
        return self.look(fd)[1]

    def look(self, fd: int, limit: int = 1 << 62) -> tuple[Entry, Rewrite | None]:
        """What is known of the file ``fd`` (borrowed), and what ``get`` gives.

        Raises Large if that would take the analysis of more than ``limit`` bytes of text.
        """
        return self._entry(fd, limit)

    @property
    def kind(self) -> str:
        """ "zpoline" if sites may call page zero, else "detour"."""
        return "zpoline" if self._zpoline else "detour"

    @property
    def directory(self) -> str:
        """Where the entries are kept."""
        return os.path.dirname(self._path("x"))

    def adopt(self, fd: int, raw: bytes) -> None:
        """Another process has analysed the file ``fd``, with the result ``raw``; b"" if it could not."""
        st = os.fstat(fd)
        text = text_module.read(fd)
        made: tuple[Entry, Rewrite | None] = (_NOTHING, None)
        try:
            key = raw[_HEAD.size - 16 : _HEAD.size]
            found = _decode(raw, key)
            if found is not None and text is not None:
                entry = Entry(key.hex(), found[0], found[1], text)
                made = entry, build(text, found[0], entry.key)
        except (Mismatch, StructError, OSError):
            made = _NOTHING, None
        with self._lock:
            self._keep((st.st_dev, st.st_ino, st.st_mtime_ns, st.st_ctime_ns, st.st_size), made)

    def info(self, fd: int) -> Analysis | None:
        """What is known of the sites of ``fd``, also where ``get`` gives None; None if that is no file of ours."""
        return self._entry(fd)[0].analysis

    def learn(self, fd: int, vaddrs: Iterable[int]) -> bool:
        """``record`` for the file ``fd``, also where ``get`` gives None."""
        key = self._entry(fd)[0].key
        return bool(key) and self.record(key, vaddrs)

    def record(self, key: str, vaddrs: Iterable[int]) -> bool:
        """Remember that the syscalls at ``vaddrs`` trapped in the file with the content ``key``.

        They count from the next analysis on, in another run. Returns whether any was new.
        """
        with self._lock:
            analysis, learned, _ = self._load(key) or (None, frozenset[int](), True)
            new = (learned | frozenset(v for v in vaddrs if 0 <= v < 1 << 47)) - learned
            if not new or analysis is None or len(learned) + len(new) > MAX_LEARNED:
                return False
            self._save(key, analysis, learned | new, stale=True)
            return True

    def close(self) -> None:
        """Drop everything that is kept in memory."""
        with self._lock:
            for _, made in self._entries.values():
                if made is not None:
                    made.close()
            self._entries.clear()
            self._bytes = 0

    # --- in memory --------------------------------------------------------------------------------------------

    def _entry(self, fd: int, limit: int = 1 << 62) -> tuple[Entry, Rewrite | None]:
        st = os.fstat(fd)
        identity = (st.st_dev, st.st_ino, st.st_mtime_ns, st.st_ctime_ns, st.st_size)
        with self._lock:
            known = self._entries.get(identity)
            steady = _steady(fd, st.st_dev)
            if known is not None and (
                steady or not known[0].key or self._same(fd, st.st_size, known[0].key)
            ):
                self._entries[identity] = self._entries.pop(identity)
                return known
            made = self._make(fd, identity if steady else None, limit)
            self._keep(identity, made)
            return made

    def _keep(self, identity: Identity, made: tuple[Entry, Rewrite | None]) -> None:
        old = self._entries.pop(identity, None)
        self._entries[identity] = made
        self._bytes += _size(made[1]) - (_size(old[1]) if old else 0)
        while len(self._entries) > MAX_ENTRIES or (self._bytes > MAX_BYTES and len(self._entries) > 1):
            dropped = self._entries.pop(next(iter(self._entries)))
            self._bytes -= _size(dropped[1])

    @staticmethod
    def _same(fd: int, size: int, key: str) -> bool:
        try:
            return content_hash(fd, size) == key
        except OSError:
            return False

    def _make(self, fd: int, identity: Identity | None, limit: int) -> tuple[Entry, Rewrite | None]:
        text = text_module.read(fd)
        if text is None:
            return _NOTHING, None
        try:
            key = self._known_key(identity)
            made = self._from_disk(text, key) if key else None
            if made is None:
                large = sum(s.length for s in text.segments) > limit
                if large and not key:
                    raise Large
                key = content_hash(fd, text.size)
                made = self._from_disk(text, key)
                if made is None and large:
                    raise Large
                made = made or self._analyse(text, key)
                if identity is not None:
                    self._link(identity, key)
            return made
        except Mismatch:  # written while we looked at it
            return _NOTHING, None

    def _from_disk(self, text: Text, key: str) -> tuple[Entry, Rewrite | None] | None:
        loaded = self._load(key)
        if loaded is None or loaded[2]:
            return None
        try:
            return Entry(key, loaded[0], loaded[1], text), build(text, loaded[0], key)
        except Mismatch:
            return None

    def _analyse(self, text: Text, key: str) -> tuple[Entry, Rewrite | None]:
        loaded = self._load(key)
        learned = loaded[1] if loaded else frozenset[int]()
        try:
            analysis = find_sites(text, learned, True) if self._zpoline else find_sites(text, learned)
        except OSError as e:
            raise Mismatch("the file became shorter") from e
        made = build(text, analysis, key)
        loaded = self._load(key)  # another process may have learned more meanwhile
        known = learned | loaded[1] if loaded else learned
        self._save(key, analysis, known, stale=known != learned)
        return Entry(key, analysis, learned, text), made

    # --- on disk ----------------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        if self._directory is None:
            from ..core_native.build import cache_dir

            self._directory = os.path.join(cache_dir(), "zpoline" if self._zpoline else "rewrite")
        return os.path.join(self._directory, name)

    def _known_key(self, identity: Identity | None) -> str:
        """The content that a file had when it was seen last, with the same identity; "" if unknown."""
        if identity is None:
            return ""
        path = self._path(_link_name(identity))
        try:
            if not _is_ours(os.lstat(path)):
                return ""
            key = os.readlink(path)
        except OSError:
            return ""
        return key if _is_key(key) else ""

    def _link(self, identity: Identity, key: str) -> None:
        import time

        if max(identity[2], identity[3]) > time.time_ns() - _RACY:
            return
        self._publish(_link_name(identity), lambda path: os.symlink(key, path))

    def _load(self, key: str) -> tuple[Analysis, frozenset[int], bool] | None:
        """The entry of ``key``: the analysis, what was learned, and whether that came later. None: no usable one."""
        try:
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            if not _is_ours(os.fstat(fd)):
                return None
            raw = os.read(fd, MAX_FILE_BYTES + 1)
            return _decode(raw, bytes.fromhex(key))
        except (OSError, ValueError, StructError):
            return None
        finally:
            os.close(fd)

    def _save(self, key: str, analysis: Analysis, learned: frozenset[int], *, stale: bool) -> None:
        raw = _encode(bytes.fromhex(key), analysis, learned, stale)

        def write(path: str) -> None:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if os.write(fd, raw) != len(raw):
                    raise OSError("the disk is full")
            finally:
                os.close(fd)

        if len(raw) <= MAX_FILE_BYTES:
            self._publish(key, write)
            self._prune()

    def _publish(self, name: str, make: _Make) -> None:
        """Let ``make`` create a file under a name of its own, then put it into place; failing is no error."""
        path = self._path(name)
        temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            try:
                make(temporary)
                os.rename(temporary, path)
            except OSError:
                os.unlink(temporary)
        except OSError:
            return

    def _prune(self) -> None:
        """Remove the older half of the directory when it has become too full."""
        try:
            with os.scandir(os.path.dirname(self._path("x"))) as found:
                names = list(found)
            if len(names) > MAX_FILES:
                names.sort(key=lambda e: e.stat(follow_symlinks=False).st_mtime)
                for entry in names[: len(names) // 2]:
                    os.unlink(entry.path)
        except OSError:
            return


if TYPE_CHECKING:
    from collections.abc import Callable

    _Make = Callable[[str], None]


def _size(made: Rewrite | None) -> int:
    return 0 if made is None else made.size


_plain_devices: set[int] = set()
"""Filesystems whose files cannot be sealed."""


def _steady(fd: int, device: int) -> bool:
    """Whether the file's times tell of every change. Those of tmpfs and memfds do not: only the first store to a
    page through a shared mapping is noted (mm/shmem.c never writes back), unless the file is sealed against it."""
    if device in _plain_devices:
        return True
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
    except OSError:
        _plain_devices.add(device)
        return True  # not of that kind


def _is_ours(st: os.stat_result) -> bool:
    """Whether nobody else made the file or link, or may write it."""
    return st.st_uid == os.geteuid() and (stat.S_ISLNK(st.st_mode) or not st.st_mode & 0o022)


def _link_name(identity: Identity) -> str:
    return "i-" + "-".join(f"{n & (1 << 64) - 1:x}" for n in identity)


def _is_key(key: str) -> bool:
    return len(key) == 32 and all(c in "0123456789abcdef" for c in key)


def _encode(key: bytes, analysis: Analysis, learned: frozenset[int], stale: bool) -> bytes:
    rows = [
        _SITE.pack(s.vaddr, s.run, s.length, s.head, s.slot, FORMS.get(s.form, 0), _REASON_NUMBERS[s.reason])
        for s in (*analysis.sites, *analysis.refused)
    ]
    body = b"".join(rows) + Struct(f"<{len(learned)}Q").pack(*sorted(learned))
    flags = (_USES_GS if analysis.uses_gs else 0) | (_STALE if stale else 0)
    return _HEAD.pack(_MAGIC, VERSION, flags, len(rows), len(learned), crc32(body), 0, key) + body


def _decode(raw: bytes, key: bytes) -> tuple[Analysis, frozenset[int], bool] | None:
    magic, version, flags, count, learned_count, checksum, _, theirs = _HEAD.unpack_from(raw)
    split = _HEAD.size + count * _SITE.size
    if magic != _MAGIC or version != VERSION or theirs != key or len(raw) != split + 8 * learned_count:
        return None
    if crc32(memoryview(raw)[_HEAD.size :]) != checksum:
        return None
    sites: list[Site] = []
    refused: list[Site] = []
    for vaddr, run, length, head, slot, form, reason in _SITE.iter_unpack(memoryview(raw)[_HEAD.size : split]):
        if form:
            sites.append(Site(vaddr, _FORM_NAMES.get(form, "?"), "", length, run, slot, head))
        elif 0 < reason < len(REASONS):
            refused.append(Site(vaddr, "", REASONS[reason]))
        else:
            return None
    learned = frozenset(Struct(f"<{learned_count}Q").unpack_from(raw, split))
    return Analysis(sites, refused, bool(flags & _USES_GS)), learned, bool(flags & _STALE)
