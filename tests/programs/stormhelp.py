"""What the storm tests share: the resources of the supervisor and of its guests, counted before and after.

Layer: tests. Reads /proc of this process and of its descendants.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass

from harness import descendants, fd_snapshot, mounts_snapshot, shm_snapshot


@dataclass
class Resources:
    """A count of everything that could leak."""

    fds: dict[int, str]
    processes: list[int]
    threads: int
    memfds: int
    shm: set[str]
    mounts: str

    def __sub__(self, other: Resources) -> list[str]:
        """What this has that `other` had not, in words."""
        words = []
        if len(self.fds) > len(other.fds):
            was, now = (
                Counter(re.sub(r"[0-9]+", "N", what) for what in side.fds.values()) for side in (other, self)
            )
            words.append(f"{len(self.fds) - len(other.fds)} more fds of {len(self.fds)}: {dict(now - was)}")
        if len(self.processes) > len(other.processes):
            words.append(f"processes {sorted(set(self.processes) - set(other.processes))}")
        if self.threads > other.threads:
            words.append(
                f"{self.threads - other.threads} more threads: {[t.name for t in threading.enumerate()]}"
            )
        if self.memfds > other.memfds:
            words.append(f"{self.memfds - other.memfds} more memory mappings of memfds")
        if self.shm - other.shm:
            words.append(f"/dev/shm: {sorted(self.shm - other.shm)}")
        if self.mounts != other.mounts:
            words.append("the mount table changed")
        return words


def count() -> Resources:
    """What this process, which is the supervisor, holds now."""
    with open("/proc/self/maps") as maps:
        memfds = sum("/memfd:" in line for line in maps)
    return Resources(
        fd_snapshot(),
        descendants(os.getpid()),
        len(os.listdir("/proc/self/task")),
        memfds,
        shm_snapshot(),
        mounts_snapshot(),
    )


def settle(before: Resources, limit: float = 10.0, ignore: int | None = None) -> list[str]:
    """What is still more than `before` after at most `limit` seconds; releases may be a moment late.

    A guest process `ignore` that lives on may have its children come and go.
    """
    deadline = time.monotonic() + limit
    while True:
        now = count()
        if ignore is not None:
            mine = set(descendants(ignore))
            now.processes = [pid for pid in now.processes if pid not in mine]
        more = now - before
        if not more or time.monotonic() > deadline:
            return more
        time.sleep(0.02)
