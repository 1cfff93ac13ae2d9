"""Packets that are neither TCP's nor UDP's: they go to the raw sockets of their destination, and an echo is answered.

Layer: netstack, beside segment.py.  May touch: the queues of raw sockets, here and on other machines of the network.
"""

from __future__ import annotations

import struct
from functools import partial

from .address import IPPROTO_ICMP, IPPROTO_ICMPV6, Endpoint
from .capture import checksum, packet, with_checksum
from .lan import UdpService
from .raw import ECHO_REPLY, ECHO_REQUEST, HEADER, PING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .segment import Segment

_ETHERNET = 14
_FAMILY = {IPPROTO_ICMP: 2, IPPROTO_ICMPV6: 10}


class Icmp:
    """The packets of one machine."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._net = segment.net

    def sent(self, data: bytes, source: Endpoint, dest: Endpoint, protocol: int, flags: int) -> None:
        """A guest has sent `data` by a raw socket, or by one of ICMP's (PING); HEADER: with the IP header before it."""
        if flags & HEADER and len(data) >= 20 and data[0] >> 4 == 4:
            protocol = data[9]
            source, dest = Endpoint(data[12:16], 0), Endpoint(data[16:20], 0)
            data = data[4 * (data[0] & 15) :]
            if not any(source.host):
                source = Endpoint(self._net.addresses[0], 0)
        if flags & PING:
            data = data[:4] + source.port.to_bytes(2, "big") + data[6:]
        if flags & PING or protocol == IPPROTO_ICMPV6:
            data = with_icmp_checksum(protocol, source.host, dest.host, data)
        self.transmit(protocol, source, dest, data)

    def transmit(self, protocol: int, source: Endpoint, dest: Endpoint, payload: bytes) -> None:
        """Send a packet to wherever its destination is."""
        self._capture(protocol, source, dest, payload)
        if self._net.owns(dest.host):
            self.received(protocol, source, dest, payload)
            return
        host = self._segment.hosts.by_address.get(dest.host)
        if host is None or self._net.mode == "none":
            return
        machine = host.udp.get(0)
        if isinstance(machine, UdpService):
            arrives = partial(machine.to_machine, protocol, source, dest, payload)
        else:
            arrives = partial(self._answer_for_host, protocol, source, dest, payload)
        self._segment.through_weather("to", dest.host, arrives)

    def _answer_for_host(self, protocol: int, source: Endpoint, dest: Endpoint, payload: bytes) -> None:
        answer = echo_reply(protocol, source, dest, payload)
        if answer is not None:
            self.arrives(protocol, dest, source, answer)

    def arrives(self, protocol: int, source: Endpoint, dest: Endpoint, payload: bytes) -> None:
        """A packet from another host comes to this machine."""

        def arrived() -> None:
            self._capture(protocol, source, dest, payload)
            self.received(protocol, source, dest, payload)

        self._segment.through_weather("from", source.host, arrived)

    def received(self, protocol: int, source: Endpoint, dest: Endpoint, payload: bytes) -> None:
        """A packet is for this machine."""
        whole = packet(protocol, source.host, dest.host, payload)[_ETHERNET:]
        for sock in list(self._net.raws):
            if sock.wants(protocol, source, dest, payload):
                header = not sock.pings and len(dest.host) == 4
                self._segment.give(sock, Endpoint(source.host, 0), dest, whole if header else payload)
        answer = echo_reply(protocol, source, dest, payload)
        if answer is not None:
            self.transmit(protocol, dest, source, answer)

    def _capture(self, protocol: int, source: Endpoint, dest: Endpoint, payload: bytes) -> None:
        if self._segment.capture is not None:
            self._segment.capture.write(packet(protocol, source.host, dest.host, payload))


def echo_reply(protocol: int, source: Endpoint, dest: Endpoint, payload: bytes) -> bytes | None:
    """What a host answers to an echo request; None to anything else."""
    family = _FAMILY.get(protocol)
    if family is None or len(payload) < 8 or payload[0] != ECHO_REQUEST[family]:
        return None
    answer = bytes((ECHO_REPLY[family],)) + payload[1:]
    return with_icmp_checksum(protocol, dest.host, source.host, answer)


def with_icmp_checksum(protocol: int, source: bytes, dest: bytes, payload: bytes) -> bytes:
    """The message with its checksum; ICMPv6's is over a pseudo header too."""
    payload = payload[:2] + bytes(2) + payload[4:]
    if protocol == IPPROTO_ICMPV6:
        return with_checksum(protocol, source, dest, payload, 2)
    return payload[:2] + struct.pack("!H", checksum(payload)) + payload[4:]
