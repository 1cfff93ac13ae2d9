"""Recording what guests and the hosts outside say to each other, for replaying.py to say again.

Layer: netstack, beside relay.py.  May touch: the two ends that it is given, in the worker's thread; the file.

The file has one JSON object a line for each connection: `to` (name or address, and port), `turns`, a list of
[who, text] with who "out" for the guest's bytes and "in" for the host's ("out64", "in64": in base64, where they are no
text), and `end`: who ended it first, "out", "in" or "reset".  `tls` is true where it was opened, `sealed` where it was
not.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any, BinaryIO

    from .segment import Segment
    from .sock import Traffic

_CHUNK = 1 << 16
#: bytes of one connection that are recorded, at most
LONGEST = 1 << 26
Turn = tuple[bool, bytearray]  # the guest's?  what it said


class Recorder:
    """Writes to `file`.  TLS to the ports of `tls` is opened: `context(name)` is what the guest trusts as that name."""

    def __init__(
        self, segment: Segment, file: BinaryIO, tls: frozenset[int], context: Callable[[str], ssl.SSLContext]
    ) -> None:
        self._segment, self._file, self._tls, self._context = segment, file, tls, context

    async def converse(
        self, end: socket.socket, outside: socket.socket, where: tuple[str, int], traffic: Traffic
    ) -> None:
        """Move bytes both ways until both are done, and write them down."""
        opened = where[1] in self._tls
        said: list[Turn] = []
        ended = "reset"
        try:
            guest = await accepted(end, self._context(where[0]) if opened else None)
            host = await connected(outside, where[0] if opened else "")
            talk = _Talk(said, traffic)
            try:
                await asyncio.gather(talk.pump(guest, host, True), talk.pump(host, guest, False))
                ended = "in" if talk.first is False else "out"
            except OSError:
                self._segment.net.endings.poison(end)
            finally:
                for _, writer in (guest, host):
                    writer.transport.abort()
        except OSError as e:
            self._say(f"recording {where[0]}:{where[1]}: {e}")
        finally:
            outside.close()
            end.close()
            self._write(where, said, ended, opened)

    def _write(self, where: tuple[str, int], said: list[Turn], ended: str, opened: bool) -> None:
        if sum(len(data) for _, data in said) > LONGEST:
            self._say(f"the conversation with {where[0]}:{where[1]} is too long: it is not recorded")
            return
        turns = [_packed(*turn) for turn in said]
        line: dict[str, Any] = {"to": f"{where[0]}:{where[1]}", "turns": turns, "end": ended}
        if opened:
            line["tls"] = True
        elif said and said[0][0] and said[0][1][:2] == b"\x16\x03":
            line["sealed"] = True
            self._say(
                f"the conversation with {where[0]}:{where[1]} is TLS: it is recorded as it is, and cannot be replayed "
                f"(open-tls={where[1]} has it opened with the sandbox's own authority)"
            )
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def _say(self, line: str) -> None:
        self._segment.net.loop.call_soon_threadsafe(lambda: self._segment.log_once(line))

    def close(self) -> None:
        self._file.close()


class _Talk:
    """Two pumps that write down what they move.  `first`: did the guest end it first?"""

    def __init__(self, said: list[Turn], traffic: Traffic) -> None:
        self._said, self._traffic = said, traffic
        self._size = 0
        self.first: bool | None = None

    async def pump(self, source: Stream, sink: Stream, outward: bool) -> None:
        while data := await source[0].read(_CHUNK):
            self._traffic.add(outward, len(data))
            self._size += len(data)
            if not self._said or self._said[-1][0] != outward:
                self._said.append((outward, bytearray()))
            if self._size <= LONGEST + _CHUNK:
                self._said[-1][1].extend(data)
            sink[1].write(data)
            await sink[1].drain()
        if self.first is None:
            self.first = outward
        if sink[1].can_write_eof():
            sink[1].write_eof()
        else:
            sink[1].close()  # TLS ends both ways


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def accepted(sock: socket.socket, tls: ssl.SSLContext | None) -> Stream:
    """Streams over a connection that the other side made.  Raises OSError."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=tls)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def connected(sock: socket.socket, name: str) -> Stream:
    """Streams over a connection that we made; with TLS as `name`, if there is one.  Raises OSError."""
    if not name:
        return await asyncio.open_connection(sock=sock)
    import ssl

    return await asyncio.open_connection(sock=sock, ssl=ssl.create_default_context(), server_hostname=name)


def _packed(outward: bool, data: bytearray) -> list[str]:
    who = "out" if outward else "in"
    try:
        return [who, data.decode()]
    except UnicodeDecodeError:
        return [who + "64", base64.b64encode(data).decode()]
