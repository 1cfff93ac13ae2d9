"""What names meant in past walks, and who else has to hear when they may mean something else.

Layer: vfs, beneath mount.py. May touch: nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    from .inode import Inode
    from .mount import Path

    #: by name, whether a last symlink is followed, who asks and where it starts
    Key = tuple[bytes, bool, tuple[object, ...]]
    #: the place, None if there is none; base and root of the walk, so that nobody else gets their ids
    Known = tuple[Path | None, Path, Path]

#: walks that are remembered at most
MOST = 4096


def _nobody(*_: object) -> None:
    pass


class Walks(dict["Key", "Known"]):
    """Past walks. `cleared()` is called whenever names, permissions or attributes may have changed; `opened(inode)`
    when the bytes and times of one file may change from now on without anybody being told."""

    __slots__ = ("cleared", "opened")

    def __init__(self) -> None:
        super().__init__()
        self.cleared: Callable[[], None] = _nobody
        self.opened: Callable[[Inode], None] = _nobody

    def clear(self) -> None:
        """Forget everything: something has changed, or is about to."""
        super().clear()
        self.cleared()

    def keep(self, key: Key, known: Known) -> None:
        """Remember a walk; if there are too many, the others are forgotten."""
        if len(self) >= MOST:
            super().clear()
        self[key] = known
