"""connect(2) through weather: it takes a round trip, and as long as nothing gets through it does not come about.

Layer: netstack, beside egress.py.  May touch: the guest's socket while it connects.
"""

from __future__ import annotations

import errno
import socket

from .address import Endpoint, err

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..kernel.task import FdRef, Task
    from .hosts import StreamService
    from .segment import Segment
    from .tcp import TcpSock

#: seconds after which Linux gives up (tcp_syn_retries of 6)
TIMEOUT = 127.0


class Crossing:
    """One connection that is being made to a virtual host."""

    def __init__(self, segment: Segment, sock: TcpSock, where: Endpoint, service: StreamService) -> None:
        self._segment, self._sock, self._where, self._service = segment, sock, where, service
        self._name = segment.climate_name(where.host)

    def begin(self, t: Task, fd: FdRef) -> int | Awaitable[int]:
        """What connect(2) answers, now or later."""
        weather = self._segment.climate.at(self._name)
        delay = 2 * weather.delay(self._segment.climate.datagram_dice(f"connect to {self._name}"))
        if not delay and not weather.cut:
            self._join()
            return self._sock.established(self._where, fd.nonblock)
        if fd.nonblock:
            try:
                stuffed = self._sock.hold_back(t, fd)
            except OSError:  # out of descriptors, or the host forbids it (Yama): let the caller wait instead
                return self._wait(delay)
            from ..kernel.loop import Running

            Running(self._wait(delay), lambda _result, failure: self._settle(stuffed, failure))
            return -errno.EINPROGRESS
        return self._wait(delay)

    async def _wait(self, delay: float) -> int:
        from ..kernel.loop import Event

        loop = self._segment.net.loop
        if delay:
            arrived = Event()
            loop.call_later(delay, arrived.set)
            await arrived
        expired: list[bool] = []
        while self._segment.climate.at(self._name).cut:
            changed = Event()
            self._segment.climate.wake_when_changed(changed)
            if not expired:
                expired.append(False)

                def late(event: Event = changed) -> None:
                    expired[0] = True
                    event.set()

                loop.call_later(TIMEOUT, late)
            await changed
            if expired[0]:
                raise err(errno.ETIMEDOUT)
        if self._sock.connecting:
            return 0
        if self._sock.end is None:
            raise err(errno.EBADF)
        self._join()
        return self._sock.established(self._where, False)

    def _settle(self, stuffed: int, failure: BaseException | None) -> None:
        """A connection that is not waited for has come about, or not."""
        sock = self._sock
        if sock.end is None:
            return
        sock.let_go(stuffed, getattr(failure, "errno", None) or errno.ETIMEDOUT if failure is not None else 0)
        if failure is None:
            self._join()
            sock.established(self._where, True)

    def _join(self) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        client = Endpoint(self._sock.local.host, self._sock.local.port)
        end = self._segment.net.hand_over(self._sock)
        self._sock.traffic = self._segment.start_link(end, near, client, self._where)
        self._service.connected(far, client, self._where)
