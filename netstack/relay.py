"""Bytes that go both ways between a guest's end and another one.

Layer: netstack, beneath egress.py, publish.py and link.py.  May touch: the two ends, in the worker's thread.
"""

from __future__ import annotations

import asyncio
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from .sock import Traffic

_CHUNK = 1 << 18
_LINGER_NONE = struct.pack("ii", 1, 0)  # struct linger


def close_resets(connection: socket.socket) -> None:
    """Closing it will tell the peer by a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)


async def both_ways(
    end: socket.socket,
    far: socket.socket,
    outward: Coroutine[Any, Any, None],
    inward: Coroutine[Any, Any, None],
    poison: Callable[[socket.socket], None],
) -> None:
    """Run the two directions until both are done, then close both ends; when one fails (OSError), what breaks on one
    side breaks on the other: `poison(side)` has closing a local one reset its peer (Endings.reset())."""
    pumps = [asyncio.ensure_future(outward), asyncio.ensure_future(inward)]
    try:
        await asyncio.gather(*pumps)
    except OSError:
        for side in (end, far):
            (poison if side.family == socket.AF_UNIX else close_resets)(side)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
        far.close()
        end.close()


async def relay(
    end: socket.socket, outside: socket.socket, poison: Callable[[socket.socket], None], traffic: Traffic
) -> None:
    """Move bytes both ways until both are done, and count them."""
    outward, inward = _pump(end, outside, traffic, True), _pump(outside, end, traffic, False)
    await both_ways(end, outside, outward, inward, poison)


async def _pump(source: socket.socket, sink: socket.socket, traffic: Traffic, outward: bool) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        traffic.add(outward, len(data))
        await loop.sock_sendall(sink, data)
    sink.shutdown(socket.SHUT_WR)
