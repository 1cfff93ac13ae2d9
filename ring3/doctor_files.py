"""``ring3 doctor FILE...``: what becomes of each system call instruction of a program or library.

Part of: ring3 (the front door). May touch: the files (read only), the user's cache of rewritten files.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(paths: Sequence[str]) -> int:
    """Print the sites of each file; return 0, or 1 if one of them cannot be read."""
    from .kernel.site_report import details
    from .loader.site_cache import shared_cache

    status = 0
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO is not waited for
        except OSError as e:
            print(f"ring3: {path}: {e.strerror}", file=sys.stderr)
            status = 1
            continue
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "no regular file")
            print(details(path, shared_cache().look(fd)[0]))
        except OSError as e:
            print(f"ring3: {path}: {e.strerror}", file=sys.stderr)
            status = 1
        finally:
            os.close(fd)
    return status
