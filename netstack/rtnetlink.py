"""What NETLINK_ROUTE answers: links, addresses, routes, rules, neighbours (rtnetlink(7)).

Layer: netstack, above interfaces.py.  May touch: nothing.

Attributes are those that ip(8), glibc's getifaddrs() and Go's net package read, in the order that Linux has them in.
"""

from __future__ import annotations

import errno
import struct

from .address import AF_INET, AF_INET6, err
from .interfaces import GLOBAL_SCOPE, Interface, Own, Route, interfaces, routes

RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 16, 18, 20, 22, 24, 26
RTM_GETNEIGH, RTM_NEWRULE, RTM_GETRULE = 30, 32, 34
#: dumps that are empty: neighbours, queueing disciplines, classes, filters, neighbour tables, namespaces
_EMPTY = (RTM_GETNEIGH, 38, 42, 46, 66, 74, 82, 90)
_MAIN, _LOCAL, _DEFAULT = 254, 255, 253
_FOREVER = struct.pack("<IIII", 0xFFFFFFFF, 0xFFFFFFFF, 0, 0)


def attribute(kind: int, data: bytes) -> bytes:
    """struct rtattr and its data."""
    return struct.pack("<HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("<I", value))


def _u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def link(device: Interface) -> bytes:
    """The payload of RTM_NEWLINK."""
    head = struct.pack("<BxHiII", 0, device.arphrd, device.index, device.flags, 0)
    return head + b"".join((
        attribute(3, device.name.encode() + b"\0"), _u32(13, device.qlen),  # IFLA_IFNAME, TXQLEN
        _u8(16, 0 if device.loopback else 6), _u8(17, 0),  # OPERSTATE, LINKMODE
        _u32(4, device.mtu), _u32(50, 0), _u32(51, 0), _u32(27, 0),  # MTU, MIN_MTU, MAX_MTU, GROUP
        _u32(30, 0), _u32(31, 1), _u32(32, 1), _u8(33, 1),  # PROMISCUITY, NUM_TX_QUEUES, NUM_RX_QUEUES, CARRIER
        attribute(6, b"noqueue\0"), _u32(35, 1), _u8(39, 0),  # QDISC, CARRIER_CHANGES, PROTO_DOWN
        attribute(1, device.hardware),  # ADDRESS
        attribute(2, bytes(6) if device.loopback else b"\xff" * 6),  # BROADCAST
        attribute(23, bytes(200)), attribute(7, bytes(96)),  # STATS64, STATS
    ))  # fmt: skip


def address4(device: Interface) -> bytes:
    """The payload of RTM_NEWADDR for its IPv4 address."""
    out = struct.pack("<BBBBi", AF_INET, device.prefix4, 0x80, device.scope, device.index)
    out += attribute(1, device.v4) + attribute(2, device.v4)
    if not device.loopback:
        out += attribute(4, device.broadcast)
    return out + attribute(3, device.name.encode() + b"\0") + _u32(8, 0x80) + attribute(6, _FOREVER)


def address6(device: Interface) -> bytes:
    """The payload of RTM_NEWADDR for its IPv6 address."""
    flags = 0x80 if device.loopback else 0x82  # IFA_F_PERMANENT, NODAD
    head = struct.pack("<BBBBi", AF_INET6, device.prefix6, flags, device.scope, device.index)
    return head + attribute(1, device.v6) + attribute(6, _FOREVER) + _u32(8, flags)


def route(entry: Route, asked: bytes | None = None) -> bytes:
    """The payload of RTM_NEWROUTE; `asked`: of the answer to "how to get there"."""
    family = AF_INET if len(entry.dest) == 4 else AF_INET6
    table = _LOCAL if entry.local else _MAIN
    bits = 8 * len(asked) if asked else entry.bits
    boot = 3 if entry.gateway else 2  # RTPROT_BOOT, KERNEL
    flags = 0x200 if asked else 0  # RTM_F_CLONED
    out = struct.pack(
        "<BBBBBBBBI", family, bits, 0, 0, table, boot if not asked else 0, entry.scope, entry.kind, flags
    )
    out += _u32(15, table)
    if bits:
        out += attribute(1, asked or entry.dest)
    if family == AF_INET6:
        out += _u32(6, 0 if entry.local else 1024 if entry.gateway else 256)
    if entry.gateway:
        out += attribute(5, entry.gateway)
    source = entry.source or (entry.device.v4 if family == AF_INET else entry.device.v6 if asked else None)
    if source and (entry.source or asked):
        out += attribute(7, source)
    return out + _u32(4, entry.device.index) + (_u8(20, 0) if family == AF_INET6 else b"")


def rule(family: int, priority: int, table: int) -> bytes:
    """The payload of RTM_NEWRULE: one of the three that there are from the start."""
    out = struct.pack("<BBBBBBBBI", family, 0, 0, 0, table, 0, 0, 1, 0) + _u32(15, table)
    return out + _u32(14, 0xFFFFFFFF) + _u8(21, 2) + (_u32(6, priority) if priority else b"")


class Answers:
    """What the interfaces are at the moment: `own` and `outside` as interfaces.routes() has them."""

    def __init__(self, own: Own, outside: bool) -> None:
        self.devices = interfaces(own)
        self.routes = routes(own, outside)

    def dump(self, kind: int, family: int) -> tuple[int, list[bytes]]:
        """The type of the answers, and their payloads.  Raises EOPNOTSUPP."""
        if kind == RTM_GETLINK:
            return RTM_NEWLINK, [link(d) for d in self.devices]
        if kind == RTM_GETADDR:
            found = [address4(d) for d in self.devices] if family in (0, AF_INET) else []
            found += [address6(d) for d in self.devices] if family in (0, AF_INET6) else []
            return RTM_NEWADDR, found
        if kind == RTM_GETROUTE:
            sizes = {AF_INET: (4,), AF_INET6: (16,)}.get(family, (4, 16))
            return RTM_NEWROUTE, [route(r) for r in self.routes if len(r.dest) in sizes]
        if kind == RTM_GETRULE:
            tables = ((0, _LOCAL), (32766, _MAIN), (32767, _DEFAULT))
            families = (family,) if family else (AF_INET, AF_INET6)
            return RTM_NEWRULE, [
                rule(f, *t) for f in families for t in tables if f == AF_INET or t[1] != _DEFAULT
            ]
        if kind in _EMPTY:
            return kind - 2, []
        raise err(errno.EOPNOTSUPP)

    def one(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        """The answer to a request that is no dump.  Raises OSError."""
        if kind == RTM_GETLINK and len(payload) >= 16:
            index = struct.unpack_from("<i", payload, 4)[0]
            given = attributes(payload[16:])
            name = given.get(3, given.get(53, b"")).rstrip(b"\0").decode("latin-1")
            for device in self.devices:
                if device.index == index or (not index and device.name == name):
                    return RTM_NEWLINK, link(device)
            raise err(errno.ENODEV)
        if kind == RTM_GETROUTE and len(payload) >= 12:
            dest = attributes(payload[12:]).get(1, b"")
            if len(dest) not in (4, 16):
                raise err(errno.EINVAL)
            reached = [r for r in self.routes if r.leads_to(dest)]
            if not reached:
                raise err(errno.ENETUNREACH)
            best = max(reached, key=lambda r: (r.local, r.bits))
            shown = Route(
                dest, 8 * len(dest), best.device, scope=GLOBAL_SCOPE, kind=best.kind, gateway=best.gateway,
                source=best.source,
            )  # fmt: skip
            shown.local = best.local
            return RTM_NEWROUTE, route(shown, dest)
        raise err(errno.EOPNOTSUPP)

    def change(self, kind: int, payload: bytes) -> None:
        """A request to change something: what is so already may be set again.  Raises EPERM."""
        if kind in (RTM_NEWLINK, 19) and len(payload) >= 16:  # RTM_SETLINK
            index, flags, change = struct.unpack_from("<iII", payload, 4)
            name = attributes(payload[16:]).get(3, b"").rstrip(b"\0").decode("latin-1")
            for device in self.devices:
                if (device.index == index or device.name == name) and flags & change == device.flags & change:
                    return
        raise err(errno.EPERM)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message, without what is malformed."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("<HH", data, at)
        if size < 4 or at + size > len(data):
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += size + 3 & ~3
    return found
