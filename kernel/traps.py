"""System call sites that trap: which file they belong to, so that they are learned, and the report of them.

Layer: the pretend kernel, beside images.  May touch: /proc/PID/maps of a guest, the cache of rewritten files.

The core tells of each site once (core_native/sites.c).  A site of a file's text is learned by the file's content, and
is rewritten from then on where loader/sites.py agrees; what a guest says is taken as hostile all the while.
"""

from __future__ import annotations

import os

from .layout import CONSTANTS, TRAP_SITES
from .world import report_traps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..loader.site_cache import Entry
    from .dispatch import Request
    from .images import Images
    from .sandbox import Kernel
    from .task import Process, Task

_NEW, _ALL = CONSTANTS["TRAPS_NEW"], CONSTANTS["TRAPS_ALL"]
FLUSH_AFTER = 0.5
"""Seconds for which learned sites are gathered before they are written to the cache."""
MAX_PENDING = 4096
ANONYMOUS = "memory that is no file's: code that the program made"
VDSO = "a clock that only the kernel can read"
NO_TEXT = "not mapped as the text of a program or library"


class Place:
    """A site: of the file `name` at `vaddr` (`entry`: what the cache knows of it), or, without an entry, an address of
    the process; `where` then says what lies there."""

    __slots__ = ("entry", "name", "rewritten", "vaddr", "where")

    def __init__(self, name: str, vaddr: int, entry: Entry | None, where: str = "") -> None:
        self.name = name
        self.vaddr = vaddr
        self.entry = entry
        self.where = where
        self.rewritten = False


class Traps:
    """See the module's text.  `counting`: sums are kept for a report, rewritten sites that trap included."""

    def __init__(self, kernel: Kernel, images: Images) -> None:
        self._kernel = kernel
        self._images = images
        self._pending: dict[str, set[int]] = {}  # learned, by content
        self._flushing = False
        self.counting = False
        self._sums: dict[tuple[str, int], list[int]] = {}
        self._places: dict[tuple[str, int], Place] = {}

    def count(self) -> None:
        """Keep sums from now on."""
        with self._kernel.lock:
            self.counting = True
            self.publish()

    def publish(self) -> None:
        """Tell the cores what to tell."""
        world = getattr(self._kernel, "world", None)
        if world is not None and not world.closed:
            report_traps(world, _NEW | _ALL if self.counting else _NEW if self._images.on else 0)

    # -- what guests say

    def serve(self, task: Task, request: Request) -> None:
        """REQ_SITE: a site trapped for the first time; its thread waits, lest the text be gone when we look."""
        self._trapped(task.process, request.args[0], request.args[1])
        if task.process.channel is not None:
            task.process.channel.reply(task.slot, task.request, 0)

    def _trapped(self, process: Process, address: int, word: int) -> None:
        index, rewritten = word & 0xFFFFFFFF, bool(word >> 32)
        if index >= TRAP_SITES:
            return
        place = self._locate(process, address)
        place.rewritten = rewritten
        process.trapped = {**process.trapped, index: place}
        entry = place.entry
        if entry is not None and not rewritten and self._images.on and entry.is_news(place.vaddr):
            pending = self._pending.setdefault(entry.key, set())
            if len(pending) < MAX_PENDING:
                pending.add(place.vaddr)
            if not self._flushing:
                self._flushing = True
                self._kernel.loop.call_later(FLUSH_AFTER, self.flush)

    def _locate(self, process: Process, address: int) -> Place:
        try:
            with open(f"{process.proc}/maps", "rb") as maps:
                lines = maps.read().splitlines()
        except OSError:
            lines = []
        for line in lines:
            fields = line.split(None, 5)
            start, end = (int(n, 16) for n in fields[0].split(b"-"))
            if start <= address < end:
                return self._place(fields, address - start + int(fields[2], 16), address)
        return Place(f"pid {process.pid}", address, None, ANONYMOUS)

    def _place(self, fields: list[bytes], offset: int, address: int) -> Place:
        inode = int(fields[4])
        if not inode:
            name = os.fsdecode(fields[5]) if len(fields) > 5 else "[anonymous]"
            return Place(name, address, None, VDSO if name == "[vdso]" else ANONYMOUS)
        major, minor = (int(n, 16) for n in fields[3].split(b":"))
        known = self._images.known(os.makedev(major, minor), inode)
        if known is None:
            return Place(os.fsdecode(fields[5]), offset, None, NO_TEXT)
        name, entry = known
        vaddr = entry.vaddr_of(offset)
        if vaddr < 0:
            return Place(name, offset, None, NO_TEXT)
        return Place(name, vaddr, entry)

    def flush(self) -> None:
        """Write what was learned to the cache."""
        self._flushing = False
        pending, self._pending = self._pending, {}
        for key, vaddrs in pending.items():
            self._images.record(key, vaddrs)

    # -- sums

    def ended(self, process: Process) -> None:
        """The process has ended or become another program."""
        self._collect(process)
        process.trapped = {}

    def _collect(self, process: Process) -> None:
        """Add what the process's core counted."""
        channel = process.channel
        if not self.counting or channel is None or channel.closed:
            return
        for index, count in enumerate(channel.take_traps()):
            if count:
                self._add(process.trapped.get(index) or Place("unknown", 0, None), count)

    def _add(self, place: Place, count: int) -> None:
        key = place.name, place.vaddr
        entry = self._sums.setdefault(key, [0])
        entry[0] += count
        self._places[key] = place

    def report(self) -> str:
        """Every site that trapped, how often and why; then each file's sites and what became of them."""
        from .site_report import report

        with self._kernel.lock:
            for process in self._kernel.processes.values():
                self._collect(process)
            rows = [(self._sums[key][0], place) for key, place in self._places.items()]
            return report(rows, self._images.files())
