"""Rewritten text: which files have it, and how it gets into a guest.

Layer: the pretend kernel, between the loader's rewriter and the core.  May touch: the rewriter's memfds, which it only
hands out.  A file's text is rewritten once and shared by every process of every sandbox.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from .layout import CONSTANTS
from .loop import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..loader.plan import Opened
    from ..loader.rewrite import Rewrite
    from ..loader.site_cache import Entry, RewriteCache
    from .analyses import Analysis
    from .dispatch import Request
    from .sandbox import Kernel
    from .task import Task

MODES = ("detour", "zpoline", "zpoline-unsafe", "off")
_ACT_FD = CONSTANTS["ACT_FD"]


LARGE = 512 << 10
"""Bytes of text from which on a file is analysed by a process of its own."""
MAX_KNOWN = 4096
"""Files whose sites can be named."""
MOST_AT_ONCE = 8
"""Analyses under way: each is a process of ours, and guests make files as they like."""


def _shared_cache() -> RewriteCache:
    """The rewritten files of this Python process, whatever the sandbox."""
    from ..loader.site_cache import shared_cache

    return shared_cache()


_zpoline: list[RewriteCache] = []


def _zpoline_cache() -> RewriteCache:
    """The same with sites that call page zero."""
    from ..loader.site_cache import RewriteCache

    if not _zpoline:
        _zpoline.append(RewriteCache(zpoline=True))
    return _zpoline[0]


def _check(mode: str) -> None:
    if mode in ("detour", "off"):
        return
    from ..errors import UsageError

    if mode not in MODES:
        raise UsageError(f"rewrite={mode!r}: there are {', '.join(MODES)}")
    from .page_zero import refusal

    if why := refusal(mode == "zpoline-unsafe"):
        raise UsageError(why)


def identity(st: os.stat_result) -> tuple[int, ...]:
    """What changes when a file's bytes do."""
    return st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


class Images:
    """The rewritten files of one sandbox.  `mode`: one of MODES; "off": every call traps.

    Raises UsageError for a mode that does not exist, or that does not work on this machine.
    """

    def __init__(self, kernel: Kernel, mode: str = "detour") -> None:
        self._kernel = kernel
        self.on = mode != "off"
        self.page_zero = mode.startswith("zpoline")
        _check(mode)
        self._analyses: dict[tuple[int, int, int], Analysis] = {}
        self._ready: set[tuple[int, int, int]] = set()  # files that nobody has to wait for
        self._plain: set[tuple[int, ...]] = set()  # files without anything to rewrite (many libraries make no calls)
        self._known: dict[tuple[int, int], tuple[str, Entry]] = {}  # by (st_dev, st_ino), also of the memfd

    def _look(self, fd: int, name: str | None = None) -> Rewrite | None:
        """The rewritten form of an open host file, None where there is none.

        Rewriting is an optimisation: where it fails, for whatever reason, the text stays as it is and its calls trap.
        """
        if not self.on or not self._can_rewrite():
            return None
        from ..loader.site_cache import Large

        try:
            entry, found = self._cache().look(fd, LARGE)
        except Large:
            return None  # whose analysis takes long, or failed
        except ImportError as e:
            self._turn_off(e)
        except Exception as e:
            self._kernel.log_once(f"a file's system calls are not rewritten: {type(e).__name__}: {e}")
        else:
            st = os.fstat(fd)
            if entry.key:
                self._known_as(st, entry, found, name)
            if found is None:
                if len(self._plain) > MAX_KNOWN:
                    self._plain.clear()
                self._plain.add(identity(st))
            return found
        return None

    def _can_rewrite(self) -> bool:
        """Are the modules there?  A library may be missing, or the memory to load it."""
        try:
            from ..loader import site_cache  # noqa: F401
        except ImportError as e:
            self._turn_off(e)
        return self.on

    def _turn_off(self, failure: ImportError) -> None:
        self.on = False
        self._kernel.log_once(f"system calls are not rewritten, which makes them slower: {failure}")

    def _analysis(self, fd: int) -> Analysis | None:
        """The analysis of a large file under way, begun if need be; None where nobody has to wait."""
        st = os.fstat(fd)
        identity = st.st_dev, st.st_ino, st.st_mtime_ns
        if not self.on or identity in self._ready or not self._can_rewrite():
            return None
        from ..loader.site_cache import Large

        try:
            cache = self._cache()
            cache.look(fd, LARGE)
        except Large:
            known = self._analyses.get(identity)
            if known is None:
                if sum(not one.over for one in self._analyses.values()) >= MOST_AT_ONCE:
                    return None  # who makes ever more such files has their calls trap
                if len(self._analyses) >= MAX_KNOWN:
                    self._analyses = {key: one for key, one in self._analyses.items() if not one.over}
                known = self._begin(fd, cache)
                if known is None:
                    return None
                self._analyses[identity] = known
            return None if known.over else known
        except Exception:
            return None  # who asks for the file says so
        if len(self._ready) > MAX_KNOWN:
            self._ready.clear()
        self._ready.add(identity)
        return None

    def _begin(self, fd: int, cache: RewriteCache) -> Analysis | None:
        """Begin an analysis; None where no further Python can be started, and all calls of the file trap."""
        from .analyses import Analysis

        try:
            return Analysis(self._kernel, fd, cache)
        except OSError as e:
            self._kernel.log_once(
                f"large files' system calls are not rewritten, which makes them slower: {e.strerror}: {e.filename}"
            )
            return None

    def to_wait_for(self, files: Iterable[Opened]) -> list[Analysis]:
        """The analyses that a program waits for before it starts: of itself and of its interpreter."""
        found = [self._analysis(opened.fd) for opened in files]
        return [analysis for analysis in found if analysis is not None]

    def close(self) -> None:
        """End what is under way."""
        for analysis in self._analyses.values():
            analysis.close()

    def for_plan(self, opened: Opened) -> Rewrite | None:
        """What the loader asks for the program and its interpreter."""
        return self._look(opened.fd, os.fsdecode(opened.path))

    def rewritten(self, fd: int) -> Rewrite | None:
        """The rewritten form of a file, if there is one and nobody has to wait for it."""
        return self._look(fd)

    def _known_as(
        self, original: os.stat_result, entry: Entry, found: Rewrite | None, name: str | None
    ) -> None:
        """/proc/PID/maps names a mapping of the memfd after the file, and so does a report of sites."""
        files = self._kernel.vfs.files
        record = files.get(original.st_dev, original.st_ino)
        old = self._known.get((original.st_dev, original.st_ino))
        if old is not None and old[1] is entry and record is not None:
            if found is None or (shown := files.get(*found.ident)) is not None and shown.path == record.path:
                return  # as before
        if record is not None:
            name = os.fsdecode(self._kernel.vfs.path_name(record.path))
        known = name or "?", entry
        while len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[original.st_dev, original.st_ino] = known
        if found is not None:
            self._known[found.ident] = known
            if record is not None:
                files.add_native(*found.ident, record.path, record.inode, True)

    def known(self, dev: int, ino: int) -> tuple[str, Entry] | None:
        """Path and sites of a file that was mapped for execution, or of its rewritten form."""
        return self._known.get((dev, ino))

    def files(self) -> list[tuple[str, Entry]]:
        """Path and sites of all of them."""
        return list(dict(self._known.values()).items())

    def _cache(self) -> RewriteCache:
        return _zpoline_cache() if self.page_zero else _shared_cache()

    def record(self, key: str, vaddrs: set[int]) -> None:
        """The syscalls at `vaddrs` of the file with the content `key` trapped."""
        self._cache().record(key, vaddrs)

    def is_rewritable(self, fd: int, st: os.stat_result) -> bool:
        """Shall the core ask before it maps this file executable?  ELF files that are open for reading, unless nothing
        was found to rewrite in them."""
        if not self.on or not stat.S_ISREG(st.st_mode) or st.st_size < 64 or identity(st) in self._plain:
            return False
        try:
            return _first_bytes(fd) == b"\x7fELF\x02"
        except OSError:
            return False  # open for writing only

    def serve(self, task: Task, request: Request) -> None:
        """REQ_IMAGE: the text of file id[0], about to be mapped executable from offset args[0]."""
        fd = self._file(task, request)
        analysis = self._analysis(fd) if fd >= 0 else None
        if analysis is None:
            self._answer(task, request, fd)
            return
        number = task.request

        def over(_result: object, _failure: BaseException | None) -> None:
            task.blocked = None
            if task.request == number:
                self._answer(task, request, fd)  # interrupted: the text as it is
            else:
                os.close(fd)

        running = Running(analysis.wait(), over)
        if running.waiting:
            task.blocked = running

    def _file(self, task: Task, request: Request) -> int:
        """A duplicate of the guest's descriptor, -1 if there is none."""
        ref = request.fds[0]
        try:
            return -1 if ref is None or not self.on else task.host_fd(ref.fd)
        except OSError:
            return -1

    def _answer(self, task: Task, request: Request, fd: int) -> None:
        """Answer with the rewritten form of `fd`, which is closed."""
        channel = task.process.channel
        found = None
        if fd >= 0:
            found = self._look(fd)
            os.close(fd)
        if channel is None or channel.closed:
            return
        offset = request.args[0]
        for start, length, vaddr in found.segments if found is not None else ():
            if (start & -4096) <= offset < start + length:
                assert found is not None
                channel.send_fds(task.slot, [found.memfd])
                values = [
                    vaddr + offset - start,
                    found.delta,
                    found.tramp_offset,
                    found.tramp_length,
                    int(found.uses_gs),
                    0,
                ]
                channel.reply(task.slot, task.request, 0, _ACT_FD, native=(0, values))
                return
        channel.reply(task.slot, task.request, -errno.ENOENT)


def _first_bytes(fd: int) -> bytes:
    """The start of a file, without a trace of it in atime where that is ours to decide."""
    status = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, status | os.O_NOATIME)
    except PermissionError:  # a host file of somebody else
        return os.pread(fd, 5, 0)
    try:
        return os.pread(fd, 5, 0)
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, status)
