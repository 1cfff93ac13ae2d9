"""The interfaces of a sandbox, lo and eth0, and their addresses and routes; for ioctl(2), netlink and /proc/net alike.

Layer: netstack.  May touch: nothing.
"""

from __future__ import annotations

import errno
import struct

from .address import AF_INET, LOOPBACK4, LOOPBACK6, err
from .hosts import GATEWAY4, GATEWAY6, PREFIX4, PREFIX6

SIOCGIFNAME, SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFDSTADDR = 0x8910, 0x8912, 0x8913, 0x8915, 0x8917
SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFHWADDR = (
    0x8919,
    0x891B,
    0x891D,
    0x8921,
    0x8927,
)
SIOCGIFINDEX, SIOCGIFTXQLEN = 0x8933, 0x8942
IFREQ = 40
IFF_UP, IFF_BROADCAST, IFF_LOOPBACK, IFF_RUNNING, IFF_MULTICAST, IFF_LOWER_UP = 1, 2, 8, 0x40, 0x1000, 0x10000
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
HOST_SCOPE, LINK_SCOPE, GLOBAL_SCOPE = 254, 253, 0


class Interface:
    """A network device: `v4` and `v6` are its addresses, with `prefix4` and `prefix6` bits of network."""

    __slots__ = (
        "arphrd", "flags", "hardware", "index", "mtu", "name", "prefix4", "prefix6", "qlen", "v4", "v6",
    )  # fmt: skip

    def __init__(
        self, index: int, name: str, flags: int, mtu: int, arphrd: int, hardware: bytes,
        v4: tuple[bytes, int], v6: tuple[bytes, int],
    ) -> None:  # fmt: skip
        self.index, self.name, self.flags, self.mtu = index, name, flags, mtu
        self.arphrd, self.hardware, self.qlen = arphrd, hardware, 1000
        self.v4, self.prefix4 = v4
        self.v6, self.prefix6 = v6

    @property
    def loopback(self) -> bool:
        return bool(self.flags & IFF_LOOPBACK)

    @property
    def scope(self) -> int:
        """RT_SCOPE_* of its addresses."""
        return HOST_SCOPE if self.loopback else GLOBAL_SCOPE

    @property
    def netmask(self) -> bytes:
        return mask(self.prefix4)

    @property
    def network(self) -> bytes:
        """The IPv4 network that it is in."""
        return bytes(a & m for a, m in zip(self.v4, self.netmask, strict=True))

    @property
    def broadcast(self) -> bytes:
        """The broadcast address of that."""
        return bytes(a | ~m & 0xFF for a, m in zip(self.v4, self.netmask, strict=True))


LOOP, ETH0 = 1, 2  # their indices

LO = Interface(
    LOOP, "lo", IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP, 65536, ARPHRD_LOOPBACK, bytes(6),
    (LOOPBACK4, 8), (LOOPBACK6, 128),
)  # fmt: skip


def eth0(own: tuple[bytes, bytes]) -> Interface:
    """The card of the machine with these addresses."""
    flags = IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_MULTICAST | IFF_LOWER_UP
    hardware = b"\x02\x00" + own[0]
    return Interface(ETH0, "eth0", flags, 1500, ARPHRD_ETHER, hardware, (own[0], PREFIX4), (own[1], PREFIX6))


class Route:
    """One line of a routing table: a destination (its address and prefix), what it goes through, and where from."""

    __slots__ = ("bits", "dest", "device", "gateway", "kind", "local", "scope", "source")

    def __init__(
        self, dest: bytes, bits: int, device: Interface, *, scope: int = LINK_SCOPE, kind: int = 1,
        gateway: bytes | None = None, source: bytes | None = None,
    ) -> None:  # fmt: skip
        self.dest, self.bits, self.device, self.scope = dest, bits, device, scope
        self.kind, self.gateway, self.source = kind, gateway, source  # RTN_UNICAST 1, LOCAL 2, BROADCAST 3
        self.local = kind != 1  # in the table "local"

    def leads_to(self, host: bytes) -> bool:
        """Is `host` one of the destinations?"""
        shift = 8 * len(host) - self.bits
        return len(host) == len(self.dest) and (
            int.from_bytes(host, "big") >> shift == int.from_bytes(self.dest, "big") >> shift
        )


def mask(bits: int) -> bytes:
    """An IPv4 netmask."""
    return (0xFFFFFFFF << 32 - bits & 0xFFFFFFFF).to_bytes(4, "big")


#: the addresses of a machine on the network, of IPv4 and IPv6; None: it is on none
Own = tuple[bytes, bytes] | None


def interfaces(own: Own) -> list[Interface]:
    """All of them: lo alone without a network."""
    return [LO, eth0(own)] if own else [LO]


def routes(own: Own, outside: bool) -> list[Route]:
    """The routing tables; `outside`: with a way out of the segment."""
    found = []
    devices = interfaces(own)
    card = devices[-1]
    if own and outside:
        found.append(Route(bytes(4), 0, card, scope=GLOBAL_SCOPE, gateway=GATEWAY4))
    if own:
        found.append(Route(card.network, PREFIX4, card, source=card.v4))
    for device in devices:
        if device.loopback:
            found.append(Route(device.network, 8, device, scope=HOST_SCOPE, kind=2, source=device.v4))
        found.append(Route(device.v4, 32, device, scope=HOST_SCOPE, kind=2, source=device.v4))
        found.append(Route(device.broadcast, 32, device, kind=3, source=device.v4))
    if own:
        found.append(Route(card.v6[:8] + bytes(8), PREFIX6, card, scope=GLOBAL_SCOPE))
    if own and outside:
        found.append(Route(bytes(16), 0, card, scope=GLOBAL_SCOPE, gateway=GATEWAY6))
    return found + [Route(d.v6, 128, d, scope=GLOBAL_SCOPE, kind=2) for d in devices]


def on_broadcast(host: bytes, own: Own) -> int:
    """The index of the interface whose network `host` is the broadcast address of; 0: of none."""
    if len(host) == 16 or host[3] != 255:
        return 0
    devices = interfaces(own)
    if host == b"\xff\xff\xff\xff":
        return devices[-1].index
    return next((device.index for device in devices if device.broadcast == host), 0)


# -- ioctl(2), netdevice(7)


def _address(host: bytes) -> bytes:
    return struct.pack("<H2x4s8x", AF_INET, host)


def _answers(device: Interface) -> dict[int, bytes]:
    return {
        SIOCGIFFLAGS: struct.pack("<H", device.flags & 0xFFFF),
        SIOCGIFADDR: _address(device.v4),
        SIOCGIFDSTADDR: _address(device.v4),
        SIOCGIFBRDADDR: _address(bytes(4) if device.loopback else device.broadcast),
        SIOCGIFNETMASK: _address(device.netmask),
        SIOCGIFMETRIC: struct.pack("<i", 0),
        SIOCGIFMTU: struct.pack("<i", device.mtu),
        SIOCGIFHWADDR: struct.pack("<H6s8x", device.arphrd, device.hardware),
        SIOCGIFINDEX: struct.pack("<i", device.index),
        SIOCGIFTXQLEN: struct.pack("<i", device.qlen),
    }


KNOWN = frozenset((*_answers(LO), SIOCGIFNAME, SIOCGIFCONF))


def interface_ioctl(command: int, request: bytes, own: Own) -> bytes:
    """A SIOCGIF* request on a struct ifreq: the whole struct as it comes back.  ENODEV for an unknown device."""
    if command == SIOCGIFNAME:
        index = struct.unpack_from("<i", request, 16)[0]
        for device in interfaces(own):
            if device.index == index:
                return device.name.encode().ljust(16, b"\0") + request[16:]
        raise err(errno.ENODEV)
    name = request[:16].split(b"\0", 1)[0].partition(b":")[0]
    for device in interfaces(own):
        if device.name.encode() == name:
            answer = _answers(device)[command]
            return request[:16] + answer + request[16 + len(answer) :]
    raise err(errno.ENODEV)


def interface_list(room: int, count_only: bool, own: Own) -> bytes:
    """SIOCGIFCONF: the entries that fit into `room` bytes; all of them when only their size is asked for."""
    entries = [
        (device.name.encode().ljust(16, b"\0") + _address(device.v4)).ljust(IFREQ, b"\0")
        for device in interfaces(own)
    ]
    return b"".join(entries if count_only else entries[: max(room, 0) // IFREQ])
