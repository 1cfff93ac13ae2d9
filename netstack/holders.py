"""Who holds which socket: descriptors as the host's /proc shows them.

Layer: netstack, lowest.  May touch: /proc/PID/fd of the sandbox's processes, and of this one.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PREFIX = "socket:["


def sockets_of(places: Iterable[tuple[int, str]]) -> Iterator[tuple[int, int, int]]:
    """Every descriptor of these processes (pid, directory in /proc) that is a socket: pid, number, inode number."""
    for pid, place in places:
        try:
            numbers = os.listdir(f"{place}/fd")
        except OSError:
            continue
        for number in numbers:
            try:
                what = os.readlink(f"{place}/fd/{number}")
            except OSError:
                continue
            if what.startswith(_PREFIX):
                yield pid, int(number), int(what[len(_PREFIX) : -1])
