"""What virtual hosts answer with: asyncio handlers and protocols for connections, functions for datagrams.

Layer: netstack, above worker.py.  May touch: the ends of connections that guests made.
"""

from __future__ import annotations

import socket

from .address import Endpoint, address_text
from .sock import Traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .segment import Segment

    StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]

#: connections to Python services of one sandbox at a time
CONNECTIONS_MAX = 10_000


class GuestSocket(socket.socket):
    """The other end of a guest's connection, which tells the addresses that the guest believes in."""

    client: Endpoint
    server: Endpoint
    traffic: Traffic

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(size, flags)
        self.traffic.sent += len(data)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        count = super().recv_into(buffer, nbytes, flags)
        self.traffic.sent += count
        return count

    def send(self, data: Any, flags: int = 0) -> int:
        count = super().send(data, flags)
        self.traffic.received += count
        return count

    def sendmsg(self, buffers: Any, *rest: Any) -> int:
        count = super().sendmsg(buffers, *rest)
        self.traffic.received += count
        return count

    def getpeername(self) -> tuple[Any, ...]:
        return name_tuple(self.client)

    def getsockname(self) -> tuple[Any, ...]:
        return name_tuple(self.server)


def name_tuple(where: Endpoint) -> tuple[Any, ...]:
    """An endpoint as Python's socket module shows it."""
    text = address_text(where.host)
    return (text, where.port) if len(where.host) == 4 else (text, where.port, where.flow, where.scope)


class Service:
    """One TCP port of a virtual host, served by Python.

    `factory()` makes the asyncio protocol for a connection; `tls` is an ssl.SSLContext, or None.
    """

    def __init__(
        self,
        segment: Segment,
        what: str,
        factory: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._segment = segment
        self._what = what
        self._factory = factory
        self._tls = tls

    def room(self) -> bool:
        """May one more connect?"""
        if self._segment.connections < CONNECTIONS_MAX:
            return True
        self._segment.log_once(
            f"more than {CONNECTIONS_MAX} connections to Python services at a time: refused (ECONNREFUSED)"
        )
        return False

    def connected(self, end: socket.socket, client: Endpoint, server: Endpoint) -> Traffic:
        """A guest is connected: `end` is ours from now on.  What is counted of it."""
        sock = GuestSocket(fileno=end.detach())
        sock.client, sock.server, sock.traffic = client, server, Traffic()
        sock.setblocking(False)
        self._segment.connections += 1
        self._segment.worker.start(self._serve(sock))
        return sock.traffic

    async def _serve(self, sock: GuestSocket) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        try:
            protocol = _watched(self._factory(), ended)
            await loop.connect_accepted_socket(lambda: protocol, sock, ssl=self._tls)
            await ended
        except OSError as e:  # the guest has gone, or speaks no TLS, or does not trust us
            line = f"{self._what}: a connection failed: {e}"
            self._segment.net.loop.call_soon_threadsafe(lambda: self._segment.log_once(line))
            sock.close()
        except Exception as e:
            self._segment.failed(self._what, e)
            sock.close()
        finally:
            self._segment.net.loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        self._segment.connections -= 1


def _watched(protocol: asyncio.BaseProtocol, ended: asyncio.Future[None]) -> asyncio.BaseProtocol:
    """Have `ended` tell when the connection of `protocol` is lost."""
    lost = protocol.connection_lost

    def connection_lost(exc: Exception | None) -> None:
        if not ended.done():
            ended.set_result(None)
        lost(exc)

    protocol.connection_lost = connection_lost  # type: ignore[method-assign]
    return protocol


def stream_factory(
    segment: Segment, what: str, handler: StreamHandler
) -> Callable[[], asyncio.StreamReaderProtocol]:
    """Protocols for an asyncio stream callback, as asyncio.start_server() takes one."""

    def reset(writer: asyncio.StreamWriter) -> None:
        end = writer.get_extra_info("socket")
        if end is not None and end.fileno() >= 0:
            segment.net.endings.poison(end)
        writer.transport.abort()

    def factory() -> asyncio.StreamReaderProtocol:
        import asyncio

        async def callback(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                result = handler(reader, writer)
                if result is not None:
                    await result
            except ConnectionError:
                reset(writer)
            except Exception as e:
                segment.failed(what, e)
                reset(writer)
            else:
                if result is not None:
                    writer.close()

        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), callback)

    return factory


class DatagramHandler:
    """A UDP port: `handler(data, (address, port))` returns the answer, or None; it may be a coroutine function."""

    def __init__(self, segment: Segment, what: str, handler: Callable[[bytes, Any], Any]) -> None:
        self._segment, self._what, self._handler = segment, what, handler

    def __call__(self, data: bytes, source: Endpoint, dest: Endpoint) -> None:
        self._segment.worker.start(self._serve(data, source, dest))

    async def _serve(self, data: bytes, source: Endpoint, dest: Endpoint) -> None:
        try:
            answer = self._handler(data, name_tuple(source))
            if answer is not None and not isinstance(answer, (bytes, bytearray, memoryview)):
                answer = await answer
        except Exception as e:
            self._segment.failed(self._what, e)
            return
        if answer is not None:
            reply = bytes(answer)
            self._segment.net.loop.call_soon_threadsafe(lambda: self._segment.deliver(dest, source, reply))
