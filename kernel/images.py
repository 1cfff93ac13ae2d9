"""Rewritten text: which files have it, and how it gets into a guest.

Layer: the pretend kernel, between the loader's rewriter and the core.  May touch: the rewriter's memfds, which it only
hands out.  A file's text is rewritten once and shared by every process of every sandbox.
"""

from __future__ import annotations

import errno
import os
import stat

from .handlers import InstallFd
from .layout import CONSTANTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..loader.plan import Opened
    from ..loader.rewrite import Rewrite
    from ..loader.site_cache import RewriteCache
    from .dispatch import Request
    from .sandbox import Kernel
    from .task import Task

MODES = ("detour", "off")
_ACT_FD = CONSTANTS["ACT_FD"]


_cache: list[RewriteCache] = []


def _shared_cache() -> RewriteCache:
    """The rewritten files of this Python process, whatever the sandbox."""
    if not _cache:
        from ..loader.site_cache import RewriteCache

        _cache.append(RewriteCache())
    return _cache[0]


class Images:
    """The rewritten files of one sandbox.  `mode`: "detour", or "off" (every call traps)."""

    def __init__(self, kernel: Kernel, mode: str = "detour") -> None:
        self._kernel = kernel
        self._on = mode == "detour"

    def rewritten(self, fd: int) -> Rewrite | None:
        """The rewritten form of an open host file, None where there is none.

        Rewriting is an optimisation: where it fails, for whatever reason, the text stays as it is and its calls trap.
        """
        if not self._on:
            return None
        try:
            return _shared_cache().get(fd)
        except ImportError as e:
            self._on = False
            self._kernel.log_once(f"system calls are not rewritten, which makes them slower: {e}")
        except Exception as e:
            self._kernel.log_once(f"a file's system calls are not rewritten: {type(e).__name__}: {e}")
        return None

    def for_plan(self, opened: Opened) -> Rewrite | None:
        """What the loader asks for the program and its interpreter."""
        found = self.rewritten(opened.fd)
        if found is not None:
            self._known_as(found, os.fstat(opened.fd))
        return found

    def _known_as(self, rewrite: Rewrite, original: os.stat_result) -> None:
        """/proc/PID/maps names a mapping of the memfd after the file."""
        record = self._kernel.vfs.files.get(original.st_dev, original.st_ino)
        if record is not None:
            st = os.fstat(rewrite.memfd)
            self._kernel.vfs.files.add_native(st.st_dev, st.st_ino, record.path, record.inode, True)

    def is_candidate(self, install: InstallFd, st: os.stat_result) -> bool:
        """Shall the core ask before it maps this file executable?  ELF files that are open for reading."""
        if not self._on or not stat.S_ISREG(st.st_mode) or st.st_size < 64:
            return False
        try:
            return os.pread(install.fd, 5, 0) == b"\x7fELF\x02"
        except OSError:
            return False  # open for writing only

    def serve(self, task: Task, request: Request) -> None:
        """REQ_IMAGE: the text of file id[0], about to be mapped executable from offset args[0]."""
        channel = task.process.channel
        assert channel is not None
        found, vaddr = self._find(task, request)
        if found is None:
            channel.reply(task.slot, task.request, -errno.ENOENT)
            return
        channel.send_fds(task.slot, [found.memfd])
        values = [vaddr, found.delta, found.tramp_offset, found.tramp_length, int(found.uses_gs), 0]
        channel.reply(task.slot, task.request, 0, _ACT_FD, native=(0, values))

    def _find(self, task: Task, request: Request) -> tuple[Rewrite | None, int]:
        ref, offset = request.fds[0], request.args[0]
        if ref is None:
            return None, 0
        try:
            fd = task.host_fd(ref.fd)
        except OSError:
            return None, 0
        try:
            found = self.rewritten(fd)
            if found is not None:
                self._known_as(found, os.fstat(fd))
        finally:
            os.close(fd)
        if found is not None:
            for start, length, vaddr in found.segments:
                if (start & -4096) <= offset < start + length:
                    return found, vaddr + offset - start
        return None, 0
