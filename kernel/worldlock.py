"""The lock of a sandbox's world, as everybody but the loop takes it.

Layer: the pretend kernel, beside the loop.  May touch: nothing.

Who takes it is about to look at the world, or to change it: first everything becomes true that guests' cores did
without asking (drafts.py). The loop knows for itself when that is needed, and takes the lock beneath.
"""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class WorldLock:
    """A context manager, which may be entered again by the thread that is in it."""

    __slots__ = ("beneath", "settle")

    def __init__(self) -> None:
        self.beneath = threading.RLock()
        self.settle: Callable[[], object] = object  # called with the lock held, when it is entered

    def __enter__(self) -> None:
        self.beneath.acquire()
        try:
            self.settle()
        except BaseException:
            self.beneath.release()
            raise

    def __exit__(self, *_exception: object) -> None:
        self.beneath.release()
