"""Saying again what recording.py wrote down, without a network.

Layer: netstack, beside services.py.  May touch: the streams that it is given, in the worker's thread.

A connection is answered as one that was recorded to the same place went.  Where both sides spoke HTTP/1.1, requests are
looked for one by one, by method, target, Host and body, whatever connection they were on; else a guest has to send
exactly what was recorded.  Each is said once.  Anything else is refused: the connection is reset, and the log tells.
"""

from __future__ import annotations

import base64
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from typing import Any

_CHUNK = 1 << 16
Key = tuple[bytes, bytes, bytes, bytes]


class Conversation:
    """One recorded connection: `turns` as (the guest's?, bytes)."""

    def __init__(self, line: dict[str, Any]) -> None:
        host, _, port = line["to"].rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        self.turns = [
            (who.startswith("out"), base64.b64decode(text) if who.endswith("64") else text.encode())
            for who, text in line["turns"]
        ]
        self.end: str = line["end"]
        self.tls = bool(line.get("tls"))
        self.sealed = bool(line.get("sealed"))
        self.taken = False
        self.asked = b"".join(data for outward, data in self.turns if outward)

    def answer_after(self, asked: int, told: int) -> bytes:
        """What the host had said when the guest had sent `asked` bytes, from the `told`th byte on."""
        sent, answer = 0, b""
        for outward, data in self.turns:
            if outward:
                sent += len(data)
            elif sent <= asked:
                answer += data
        return answer[told:]


class Exchange:
    """One HTTP request and its answer; `last`: the host then ended the connection."""

    def __init__(self, key: Key, answer: bytes, last: bool) -> None:
        self.key, self.answer, self.last = key, answer, last
        self.taken = False


class Place:
    """Everything that was recorded to one host and port."""

    def __init__(self, what: str, refuse: Callable[[str], None]) -> None:
        self.what = what
        self._refuse = refuse
        self.streams: list[Conversation] = []
        self.exchanges: list[Exchange] = []

    def add(self, conversation: Conversation) -> None:
        """Learn a conversation."""
        exchanges = list(exchanges_of(conversation))
        if exchanges:
            self.exchanges += exchanges
        elif not conversation.sealed:
            self.streams.append(conversation)

    def left(self) -> list[str]:
        """What nobody has asked for."""
        texts = [_short(b" ".join(e.key[:2])) for e in self.exchanges if not e.taken]
        return [
            f"{self.what}: {text}" for text in texts + [_short(s.asked) for s in self.streams if not s.taken]
        ]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection."""
        if self.exchanges and not self.streams:
            refused = await self._answer_http(reader, writer, b"")
        else:
            refused = await self._answer_stream(reader, writer)
        if refused is None:
            return
        self._refuse(f"{self.what}: {refused}")
        raise ConnectionResetError  # services.py resets it

    async def _answer_http(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes
    ) -> str | None:
        parser = RequestParser()
        data = begun or await reader.read(_CHUNK)
        while data:
            for key in parser.feed(data):
                found = next((e for e in self.exchanges if e.key == key and not e.taken), None)
                if found is None:
                    known = any(e.key == key for e in self.exchanges)
                    why = "was asked more often than it was recorded" if known else "is not in the record"
                    return f"{_short(b' '.join(key[:2]))} {why}"
                found.taken = True
                writer.write(found.answer)
                await writer.drain()
                if found.last:
                    return None
            if parser.broken:
                return f"{_short(data)} is not HTTP, as what was recorded"
            data = await reader.read(_CHUNK)
        return None

    async def _answer_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
        asked, told = b"", b""
        current: Conversation | None = None
        while True:
            current = self._choose(current, asked, told)
            if current is None:
                if self.exchanges and not told and RequestParser.begins(asked):
                    return await self._answer_http(reader, writer, asked)
                return f"{_short(asked)} is not what was recorded"
            answer = current.answer_after(len(asked), len(told))
            told += answer
            writer.write(answer)
            await writer.drain()
            if len(asked) == len(current.asked) and current.end != "out":
                if current.end == "reset":
                    raise ConnectionResetError
                return None
            data = await reader.read(_CHUNK)
            if not data:
                return (
                    None
                    if len(asked) == len(current.asked)
                    else f"{_short(asked)} is not all that was recorded"
                )
            asked += data

    def _choose(self, current: Conversation | None, asked: bytes, told: bytes) -> Conversation | None:
        """The conversation that goes so: the one that was taken, or another one that is free."""
        if current is not None:
            current.taken = False
        for found in self.streams:
            whole = b"".join(data for outward, data in found.turns if not outward)
            if not found.taken and found.asked.startswith(asked) and whole.startswith(told):
                found.taken = True
                return found
        return None


class RequestParser:
    """HTTP/1.1 requests out of bytes, by h11; without that library, none."""

    def __init__(self) -> None:
        import h11

        self._h11 = h11
        self._connection = h11.Connection(h11.SERVER)
        self.broken = False
        self._head: Any = None
        self._body = b""

    @staticmethod
    def begins(data: bytes) -> bool:
        """Could it be the beginning of a request?"""
        return data[:1].isalpha() and data.split(b" ", 1)[0].isupper()

    def feed(self, data: bytes) -> Iterator[Key]:
        """The requests that are complete by now."""
        h11 = self._h11
        try:
            self._connection.receive_data(data)
            while True:
                event = self._connection.next_event()
                if isinstance(event, h11.Request):
                    self._head, self._body = event, b""
                elif isinstance(event, h11.Data):
                    self._body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    host = dict(self._head.headers).get(b"host", b"")
                    yield bytes(self._head.method), bytes(self._head.target), bytes(host), self._body
                    self._next()
                else:
                    return
        except h11.RemoteProtocolError:
            self.broken = True

    def _next(self) -> None:
        """To h11 we are a server: it wants an answer before the next request."""
        h11 = self._h11
        connection = self._connection
        left = connection.trailing_data[0]
        connection.send(h11.Response(status_code=204, headers=[]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
        else:
            self._connection = h11.Connection(h11.SERVER)
            self._connection.receive_data(left)


def exchanges_of(conversation: Conversation) -> Iterator[Exchange]:
    """The requests of a conversation with their answers; none, if it is not HTTP with one answer after each request."""
    turns = conversation.turns
    if not turns or not turns[0][0] or not RequestParser.begins(turns[0][1]):
        return
    try:
        parser = RequestParser()
    except ImportError:
        return
    found: list[list[Any]] = []
    for outward, data in turns:
        if outward:
            found += [[key, b""] for key in parser.feed(data)]
        elif not found or not data.startswith(b"HTTP/1.") and not found[-1][1]:
            return
        else:
            found[-1][1] += data
    if parser.broken or not all(answer for _, answer in found):
        return
    for number, (key, answer) in enumerate(found, 1):
        yield Exchange(key, answer, number == len(found) and conversation.end != "out")


def load(lines: list[bytes]) -> list[Conversation]:
    """The conversations of a file.  Raises ValueError for what is no record."""
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Conversation(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"line {number} is no recorded conversation ({e})") from None
    return found


def _short(data: bytes) -> str:
    text = data[:100].decode("utf-8", "backslashreplace")
    return repr(text + ("..." if len(data) > 100 else ""))
