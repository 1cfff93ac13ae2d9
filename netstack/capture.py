"""Captures: what goes over the sandbox's network as a pcap file, which Wireshark and tshark open.

Layer: netstack, beside link.py.  May touch: the file that it is given.

There are no packets: Ethernet, IP, UDP and TCP headers are made up around the bytes, with the sequence numbers,
acknowledgements and checksums that they would have.
"""

from __future__ import annotations

import struct
import threading
import time

from .address import Endpoint, is_multicast
from .hosts import OWN4, OWN6
from .interfaces import on_broadcast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)  # LINKTYPE_ETHERNET
_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_TCP, _UDP = 6, 17
_SEGMENT = 1440
_WINDOW = 65535
_MASK = 0xFFFFFFFF


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _hardware(host: bytes) -> bytes:
    """The Ethernet address of a host, or of a group (RFC 1112, RFC 2464)."""
    if is_multicast(host):
        return b"\x33\x33" + host[12:] if len(host) == 16 else b"\x01\x00\x5e" + bytes((host[1] & 0x7F,)) + host[2:]
    if on_broadcast(host, (OWN4, OWN6)):
        return b"\xff" * 6
    return b"\x02\x00" + (host if len(host) == 4 else OWN4 if host == OWN6 else host[-4:])


def packet(protocol: int, source: bytes, dest: bytes, segment: bytes) -> bytes:
    """A frame: Ethernet and IP headers, and the transport's `segment`."""
    if len(source) == 4:
        ip = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, protocol, 0, source, dest
        )
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        kind = 0x0800
    else:
        ip = struct.pack("!IHBB16s16s", 0x60000000, len(segment), protocol, 64, source, dest)
        kind = 0x86DD
    return _hardware(dest) + _hardware(source) + struct.pack("!H", kind) + ip + segment


def with_checksum(protocol: int, source: bytes, dest: bytes, segment: bytes, at: int) -> bytes:
    """The segment with the checksum over it and its pseudo header at offset `at`."""
    if len(source) == 4:
        pseudo = source + dest + struct.pack("!BBH", 0, protocol, len(segment))
    else:
        pseudo = source + dest + struct.pack("!IxxxB", len(segment), protocol)
    total = checksum(pseudo + segment) or (0xFFFF if protocol == _UDP else 0)
    return segment[:at] + struct.pack("!H", total) + segment[at + 2 :]


def _now() -> int:
    return time.time_ns() // 1000


class Capture:
    """A pcap file that is being written; from any thread."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        file.write(_HEADER)
        file.flush()

    def write(self, frame: bytes, now: int = 0) -> None:
        """Add a frame, of the time `now` in microseconds (by default it is)."""
        now = now or _now()
        with self._lock:
            if not self._file.closed:
                head = struct.pack("<IIII", now // 1_000_000, now % 1_000_000, len(frame), len(frame))
                self._file.write(head + frame)

    def datagram(self, source: Endpoint, dest: Endpoint, data: bytes) -> None:
        """Add a UDP datagram, in fragments of none: as one packet."""
        segment = struct.pack("!HHHH", source.port, dest.port, 8 + len(data), 0) + data
        self.write(
            packet(_UDP, source.host, dest.host, with_checksum(_UDP, source.host, dest.host, segment, 6))
        )

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Flow:
    """One TCP connection in a capture.

    `steady`: its segments do not tell in which pieces the bytes came, but are cut anew at each turn of the
    conversation, so that they are the same in each run; whoever has not settle() called for a while calls it.
    """

    def __init__(self, capture: Capture, client: Endpoint, server: Endpoint, steady: bool) -> None:
        self._capture = capture
        self._ends = (client, server)
        self._next = [0, 0]  # sequence numbers, of the client and of the server
        self._reset = False
        self._steady = steady
        self._held = (True, b"")  # what one side has said since the other has: the direction, and not yet a segment
        self._when = 0  # when that came

    def _send(self, outward: bool, flags: int, data: bytes = b"") -> None:
        me = 0 if outward else 1
        source, dest = self._ends[me], self._ends[1 - me]
        acked = self._next[1 - me] if flags & _ACK else 0
        head = struct.pack(
            "!HHIIBBHHH", source.port, dest.port, self._next[me], acked, 0x50, flags, _WINDOW, 0, 0
        )
        segment = with_checksum(_TCP, source.host, dest.host, head + data, 16)
        self._capture.write(packet(_TCP, source.host, dest.host, segment), self._when)
        self._next[me] = (self._next[me] + len(data) + bool(flags & (_SYN | _FIN))) & _MASK

    def opened(self) -> None:
        """The handshake."""
        self._send(True, _SYN)
        self._send(False, _SYN | _ACK)
        self._send(True, _ACK)

    def data(self, outward: bool, data: bytes) -> None:
        """Bytes, in segments, and the other side's acknowledgement."""
        if not self._steady:
            self._segments(outward, data)
            return
        if self._held[0] != outward:
            self.settle()
        self._when = _now()
        data = self._held[1] + data
        while len(data) > _SEGMENT:
            self._segments(outward, data[:_SEGMENT])
            data = data[_SEGMENT:]
        self._held = (outward, data)

    def settle(self) -> None:
        """What is held is a segment."""
        outward, data = self._held
        self._held = (outward, b"")
        self._segments(outward, data)
        self._when = 0

    def _segments(self, outward: bool, data: bytes) -> None:
        for i in range(0, len(data), _SEGMENT):
            part = data[i : i + _SEGMENT]
            self._send(outward, _ACK | (_PSH if i + _SEGMENT >= len(data) else 0), part)
        if data:
            self._send(not outward, _ACK)

    def finished(self, outward: bool) -> None:
        """One side sends no more."""
        self.settle()
        self._send(outward, _FIN | _ACK)
        self._send(not outward, _ACK)

    def reset(self) -> None:
        """The end of it, told once."""
        if not self._reset:
            self._reset = True
            self.settle()
            self._send(False, _RST | _ACK)
