"""The PID namespace of a sandbox's guests, seen from the supervisor, which lies outside of it.

Layer: the pretend kernel, lowest.  May touch: the directory /proc of the namespace, which init hands over
(core_native/lockdown.c).

Where the host allows none, guests' pids are the host's, and all this is the identity.
"""

from __future__ import annotations

import errno
import os

# NS_GET_PID_FROM_PIDNS, NS_GET_PID_IN_PIDNS (ioctl_nsfs(2), Linux 6.11)
_FROM_PIDNS, _IN_PIDNS = 0x8004B706, 0x8004B708


class PidNamespace:
    """`directory` is a descriptor of the namespace's /proc, which is ours to close; None: it is the host's.

    Attributes: `proc` the path of a /proc whose numbers are those of guests, good in this process alone.
    """

    __slots__ = ("_directory", "_ns", "proc")

    def __init__(self, directory: int | None = None) -> None:
        self._directory, self._ns = directory, -1
        self.proc = "/proc" if directory is None else f"/proc/self/fd/{directory}"
        if directory is not None:
            try:
                self._ns = os.open(f"{self.proc}/1/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # it has ended already
                os.close(directory)
                raise

    @property
    def separate(self) -> bool:
        """Are guests' pids other numbers than the host's?"""
        return self._directory is not None

    def host(self, number: int) -> int:
        """The host's number of a process or thread of guests.  Raises ProcessLookupError when there is none."""
        return self._ask(_FROM_PIDNS, number)

    def guest(self, number: int) -> int:
        """Guests' number of a process or thread of the host.  Raises ProcessLookupError when they have none."""
        found = self._ask(_IN_PIDNS, number)
        if not found:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return found

    def _ask(self, request: int, number: int) -> int:
        if self._directory is None:
            return number
        import fcntl

        return fcntl.ioctl(self._ns, request, number)

    def close(self) -> None:
        """Free the descriptors; may be called twice."""
        if self._directory is not None and self._ns >= 0:
            os.close(self._directory)
            os.close(self._ns)
            self._ns = -1
            self.proc = "/proc/self/fd/-1"  # of no other that gets the number
