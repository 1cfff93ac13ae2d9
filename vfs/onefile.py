"""A filesystem that is one regular file in memory, to be mounted on a file: what container engines do with /etc/hosts.

Layer: vfs, on top of memfs.py.  May touch: nothing.
"""

from __future__ import annotations

from .memfs import MemFile, MemoryFS
from .stat import now_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .vfs import Vfs


class OneFileFS(MemoryFS):
    """See the module's text. The file belongs to root and has `mode`; its contents are
    no part of snapshots and diffs."""

    def __init__(self, content: bytes, mode: int = 0o644) -> None:
        super().__init__(mode=0o755)
        self._content = content
        self.root = self._file = MemFile(self, mode, 0, 0)

    def attached(self, vfs: Vfs) -> None:
        super().attached(vfs)
        self._file.data = self.new_data(now_ns())  # of the world's own pool
        self._file.data.load(self._content)

    def snapshot(self) -> None:  # type: ignore[override]
        return None
