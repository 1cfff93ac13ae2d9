"""A connection with something on its way: weather, or a capture that sees its bytes.

Layer: netstack, above weather.py and capture.py.  May touch: the two ends that it is given, in the worker's thread.
"""

from __future__ import annotations

import asyncio
import socket
from random import Random

from .relay import both_ways
from .sock import Traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from .address import Endpoint
    from .capture import Flow
    from .segment import Segment
    from .weather import Weather

_CHUNK = 1 << 16
_SLICES = 50  # a second: how finely a bandwidth is dealt out
_SETTLED = 1.0  # seconds of silence after which a steady capture shows what has been said
_LOOK_AGAIN = 0.02  # seconds after which what is cut or stalled looks at the weather again


class Reset(ConnectionResetError):
    """The weather ends the connection."""


class Link:
    """Moves bytes between a guest's `end` and the `far` one.  `weather()` is asked again and again."""

    def __init__(
        self,
        weather: Callable[[], Weather],
        dice: Random,
        flow: Flow | None,
        poison: Callable[[socket.socket], None],
    ) -> None:
        self._weather, self._flow, self._poison = weather, flow, poison
        self._dice = tuple(Random(dice.random()) for _ in range(2))  # a way's delays are not the other's affair
        self._silence: asyncio.TimerHandle | None = None
        self.traffic = Traffic()

    async def run(self, end: socket.socket, far: socket.socket) -> None:
        """Until both ways are done; what breaks on one side breaks on the other."""
        for side in (end, far):
            side.setblocking(False)
        if self._flow is not None:
            self._flow.opened()
        try:
            await both_ways(end, far, self._pump(end, far, True), self._pump(far, end, False), self._broken)
        finally:
            if self._silence is not None:
                self._silence.cancel()
            if self._flow is not None:
                self._flow.settle()

    def _broken(self, side: socket.socket) -> None:
        if self._flow is not None:
            self._flow.reset()
        self._poison(side)

    def _passed(self, outward: bool, data: bytes) -> None:
        """Count it and write it down."""
        self.traffic.add(outward, len(data))
        if self._flow is not None:
            self._flow.data(outward, data)
            if self._silence is not None:
                self._silence.cancel()
            self._silence = asyncio.get_running_loop().call_later(_SETTLED, self._flow.settle)

    async def _pump(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        delivery = asyncio.ensure_future(self._deliver(queue, sink, outward))
        free = last = 0.0
        try:
            while True:
                bandwidth = self._weather().bandwidth
                room = min(_CHUNK, max(1, int(bandwidth / _SLICES))) if bandwidth else _CHUNK
                data = await loop.sock_recv(source, room)
                weather = self._weather()
                now = loop.time()
                if weather.bandwidth:
                    free = max(now, free) + len(data) / weather.bandwidth
                last = max(last, max(now, free) + weather.delay(self._dice[outward]))
                await _or_failed(queue.put((last, data)), delivery)
                if not data:
                    await delivery
                    return
        finally:
            delivery.cancel()

    async def _deliver(
        self, queue: asyncio.Queue[tuple[float, bytes]], sink: socket.socket, outward: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            when, data = await queue.get()
            if when > loop.time():
                await asyncio.sleep(when - loop.time())
            while self._stuck():
                await asyncio.sleep(_LOOK_AGAIN)
            if not data:
                if self._flow is not None:
                    self._flow.finished(outward)
                sink.shutdown(socket.SHUT_WR)
                return
            limit = self._weather().reset_after
            left = limit - self._moved() if limit else len(data) + 1
            if left > 0:
                self._passed(outward, data[:left])
                await loop.sock_sendall(sink, data[:left])
            if left <= len(data):
                raise Reset

    def _moved(self) -> int:
        return self.traffic.sent + self.traffic.received

    def _stuck(self) -> bool:
        weather = self._weather()
        return weather.cut or bool(weather.stall_after and self._moved() >= weather.stall_after)


async def _or_failed(waiting: Coroutine[Any, Any, None], delivery: asyncio.Future[None]) -> None:
    """Wait for room in the queue, unless the delivery has failed meanwhile."""
    put = asyncio.ensure_future(waiting)
    await asyncio.wait((put, delivery), return_when=asyncio.FIRST_COMPLETED)
    if delivery.done():
        put.cancel()
        delivery.result()
    await put


class Tap:
    """A link within the sandbox's own machine: `near` is the end for the listener, and closed by start() or drop()."""

    def __init__(self, segment: Segment, client: Endpoint, server: Endpoint) -> None:
        self._segment, self._client, self._server = segment, client, server
        self.near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)

    def start(self, end: socket.socket) -> None:
        """The listener has its end; `end` is the other's."""
        self.near.close()
        self._segment.start_link(end, self._far, self._client, self._server)

    def drop(self) -> None:
        """There was no room."""
        self.near.close()
        self._far.close()
