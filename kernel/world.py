"""The world page: what every guest of a sandbox may read without asking.

Layer: the pretend kernel, beneath sandbox.py.  May touch: one memfd; guests map it read-only (struct ring3_world of
kernel/layout.py).
"""

from __future__ import annotations

import mmap
import os
import struct

from .layout import LISTINGS_OFFSET, LISTINGS_SIZE, OFFSETS, VERSION

_WORLD = OFFSETS["ring3_world"]
_SIZE = LISTINGS_OFFSET + LISTINGS_SIZE


def make_world() -> tuple[mmap.mmap, int]:
    """A fresh page, an empty table of answers and room for listings behind it, and a read-only descriptor of them for
    the guests; the caller closes both."""
    fd = os.memfd_create("ring3-world", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, _SIZE)
        read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        page = mmap.mmap(fd, _SIZE)
    finally:
        os.close(fd)
    struct.pack_into("<I", page, 0, VERSION)
    return page, read_only


def note_init(page: mmap.mmap, pid: int) -> None:
    """Init's pid, as the host kernel gives it to guests whose parent it is."""
    struct.pack_into("<I", page, _WORLD["init_pid"], pid)


def write_uts(page: mmap.mmap, hostname: str, domainname: str) -> None:
    """uname(2)'s fields: the host's but for the names, each in 65 bytes (struct new_utsname)."""
    uts = os.uname()
    fields = (uts.sysname, hostname, uts.release, uts.version, uts.machine, domainname)
    data = b"".join(os.fsencode(f)[:64].ljust(65, b"\0") for f in fields)
    page[_WORLD["uts"] : _WORLD["uts"] + len(data)] = data


def report_traps(page: mmap.mmap, which: int) -> None:
    """Which sites that trap the core tells of: TRAPS_*."""
    struct.pack_into("<I", page, _WORLD["trap_reports"], which)


def use_page_zero(page: mmap.mmap) -> None:
    """Programs that start from now on have page zero mapped, for --rewrite=zpoline."""
    struct.pack_into("<I", page, _WORLD["page_zero"], 1)


def note_virtual_uid(page: mmap.mmap) -> None:
    """From now on the core asks before it shows a sender's uid in a siginfo."""
    struct.pack_into("<I", page, _WORLD["virtual_uids"], 1)
