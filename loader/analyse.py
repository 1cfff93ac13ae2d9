"""A process that analyses one file, so that the supervisor need not: disassembling a large one takes seconds.

Part of: loader (rewriting, cold path). May touch: the file (descriptor 3, read only), the cache's directory.

Started by kernel/analyses.py. Writes what is found to standard output, as an entry of the cache, and keeps it there.
"""

from __future__ import annotations

import os
import resource

MAX_SECONDS, MAX_MEMORY = 60, 4 << 30
"""CPU time and memory that a file is worth."""


def main(directory: str, zpoline: bool) -> None:
    """Analyse the file behind descriptor 3 with the cache in ``directory``."""
    from .site_cache import RewriteCache, encode

    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    entry, _ = RewriteCache(directory, zpoline).look(3)
    raw = encode(entry)
    while raw:
        raw = raw[os.write(1, raw) :]

