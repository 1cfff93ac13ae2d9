"""The virtual resolver: answers DNS queries from the zone, over UDP and TCP (RFC 1035, EDNS of RFC 6891).

Layer: netstack, above zone.py.  May touch: the segment, to send answers.

It answers at the gateway and at whatever nameserver the guest's /etc/resolv.conf names: the file stays as it is.
A name that nobody serves does not exist: NXDOMAIN, at once.
"""

from __future__ import annotations

import struct
from functools import partial

from .address import LOOPBACK4, LOOPBACK6, Endpoint
from .hosts import GATEWAY4, GATEWAY6
from .zone import ANY, Record, pack_name, unpack_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .segment import Segment

    Found = Callable[[bool, list[Record] | None], None]
    Upstream = Callable[[str, int, Found], bool]

PORT = 53
_HEADER = struct.Struct("!HHHHHH")
_NOERROR, _FORMERR, _SERVFAIL, _NXDOMAIN, _NOTIMP = 0, 1, 2, 3, 4
_OPT = 41
_SMALL, _LARGE = 512, 1232  # what fits into a datagram without EDNS, and what we say that we take
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_WANTED, _RECURSION = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_KEPT = 0x7900  # opcode and RD of the query


class Query:
    """A question, understood: `name`, `kind`, and how much may be answered at once."""

    __slots__ = ("edns", "flags", "ident", "kind", "name", "question", "room")

    def __init__(self, packet: bytes) -> None:
        self.ident, self.flags, questions, *others = _HEADER.unpack_from(packet)
        if questions != 1:
            raise ValueError("one question at a time")
        self.name, at = unpack_name(packet, 12)
        self.kind = struct.unpack_from("!H", packet, at)[0]
        at += 4
        if at > len(packet):
            raise ValueError("a short question")
        self.question = packet[12:at]
        self.edns = False
        self.room = _SMALL
        for _ in range(sum(others)):
            _, at = unpack_name(packet, at)
            kind, size, _, length = struct.unpack_from("!HHIH", packet, at)
            at += 10 + length
            if kind == _OPT:
                self.edns = True
                self.room = max(_SMALL, size)

    def reply(self, code: int, records: list[Record], room: int = 0) -> bytes:
        """The answer; cut (TC) to nothing where it does not fit into `room` bytes (0: any size will do)."""
        body = b"".join(
            (b"\xc0\x0c" if name == self.name.lower() else pack_name(name))
            + struct.pack("!HHIH", kind, 1, ttl, len(data))
            + data
            for name, kind, ttl, data in records
        )
        flags = _RESPONSE | _AUTHORITATIVE | _RECURSION | self.flags & _KEPT | code
        extra = b"\0" + struct.pack("!HHIH", _OPT, _LARGE, 0, 0) if self.edns else b""
        count = len(records)
        if room and 12 + len(self.question) + len(body) + len(extra) > room:
            body, count, flags = b"", 0, flags | _TRUNCATED
        return _HEADER.pack(self.ident, flags, 1, count, 0, int(self.edns)) + self.question + body + extra


class Resolver:
    """See the module's text.  `upstream(name, kind, done)`, if set, may answer names that the zone does not have: it
    returns whether it will, and then calls `done(exists, records)` in the loop (None: it could not find out)."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self.upstream: Upstream | None = None

    def answer(self, packet: bytes, datagram: bool, send: Callable[[bytes], None]) -> None:
        """Give `send` the answer to a query, now or later; nothing for what is none."""
        if len(packet) < 12 or packet[2] & 0x80:
            return
        try:
            query = Query(packet)
        except (ValueError, struct.error):
            ident, flags = struct.unpack_from("!HH", packet)
            send(_HEADER.pack(ident, _RESPONSE | flags & _KEPT | _FORMERR, 0, 0, 0, 0))
            return
        room = query.room if datagram else 0
        if query.flags & 0x7800:
            send(query.reply(_NOTIMP, []))
            return
        exists, records = self._segment.zone.find(query.name, query.kind)

        def found(exists: bool, more: list[Record] | None) -> None:
            code = _SERVFAIL if more is None else _NOERROR if exists else _NXDOMAIN
            send(query.reply(code, more or [], room))

        if not exists and self.upstream is not None and self.upstream(query.name, query.kind, found):
            return
        if not exists and query.kind != ANY:
            self._segment.log_once(
                f"name {query.name.lower() or '.'}: nothing of this name is on the sandbox's network (NXDOMAIN)"
            )
        send(query.reply(_NOERROR if exists else _NXDOMAIN, records, room))

    def datagram(self, data: bytes, source: Endpoint, dest: Endpoint) -> None:
        """A query over UDP."""
        self.answer(data, True, lambda reply: self._segment.deliver(dest, source, reply))

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Queries over one TCP connection (RFC 7766), in the thread of the Python services."""
        import asyncio

        loop = asyncio.get_running_loop()

        def send(reply: bytes) -> None:
            loop.call_soon_threadsafe(writer.write, struct.pack("!H", len(reply)) + reply)

        while True:
            try:
                size = struct.unpack("!H", await reader.readexactly(2))[0]
                packet = await reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            self._segment.net.loop.call_soon_threadsafe(partial(self.answer, packet, False, send))


def nameservers(resolv_conf: str) -> set[bytes]:
    """The addresses that resolv.conf(5) names, and the gateway; without any, what resolvers then take: this host."""
    from .address import parse_address

    found = set()
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            address = parse_address(words[1].partition("%")[0])
            if address is not None:
                found.add(address)
    return (found or {LOOPBACK4, LOOPBACK6}) | {GATEWAY4, GATEWAY6}
