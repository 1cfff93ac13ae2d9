"""The machines on a sandbox's network: their names and addresses, and what each answers on its ports.

Layer: netstack, above address.py.  May touch: nothing.

The sandbox itself is 10.0.0.2 and fd00::2; at 10.0.0.1 and fd00::1 is the gateway, which resolves names.  A virtual
host gets the next free address from 10.0.1.1 and fd00::101 on, unless it is told its own.
"""

from __future__ import annotations

from .address import Endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Protocol

    from .sock import Traffic

    class StreamService(Protocol):
        """What takes the connections to one TCP port."""

        def room(self) -> bool:
            """May one more connect?"""

        def connected(self, end: socket.socket, client: Endpoint, server: Endpoint) -> Traffic:
            """Take a connection, and `end` with it; what is counted of it."""

    #: gets a datagram, where it came from and where it went to
    DatagramService = Callable[[bytes, Endpoint, Endpoint], None]

PREFIX4, PREFIX6 = 16, 64
GATEWAY4, GATEWAY6 = bytes((10, 0, 0, 1)), b"\xfd" + bytes(14) + b"\1"
OWN4, OWN6 = bytes((10, 0, 0, 2)), b"\xfd" + bytes(14) + b"\2"  # of a machine that is alone
_FIRST = 0x0101  # of the addresses that are given out: 10.0.1.1, fd00::101
_LAST = 0xFEFE


class Host:
    """A virtual host.  `v4` and `v6` are its addresses (bytes; None: none of that family)."""

    __slots__ = ("groups", "name", "tcp", "udp", "v4", "v6")

    def __init__(self, name: str, v4: bytes | None, v6: bytes | None) -> None:
        self.name = name
        self.v4, self.v6 = v4, v6
        self.groups: set[bytes] = set()  # the multicast groups that it is in
        self.tcp: dict[int, StreamService] = {}
        self.udp: dict[int, DatagramService] = {}

    @property
    def addresses(self) -> list[bytes]:
        return [a for a in (self.v4, self.v6) if a is not None]


class Hosts:
    """Every virtual host of a network, by name and by address."""

    def __init__(self) -> None:
        self.by_name: dict[str, Host] = {}
        self.by_address: dict[bytes, Host] = {}
        self._next = _FIRST
        self.on_loopback = False  # is there one at an address of the sandbox's own loopback?
        self.gateway = Host("gateway.ring3.internal", GATEWAY4, GATEWAY6)
        self.enter(self.gateway)

    def enter(self, host: Host) -> None:
        """Put a host on the network."""
        self.by_name[host.name] = host
        for address in host.addresses:
            self.by_address[address] = host
            self.on_loopback |= Endpoint(address, 0).loopback

    def get(self, name: str) -> Host | None:
        """The host called `name` (without regard to case, or to a dot at its end)."""
        return self.by_name.get(normal(name))

    def add(self, name: str, address: bytes | None = None) -> Host:
        """A new host.  Raises ValueError when the name or the address is taken or there are no more addresses."""
        name = normal(name)
        if name in self.by_name:
            raise ValueError(f"there is a host {name} already")
        v4: bytes | None
        v6: bytes | None
        if address is None:
            v4, v6 = self._fresh()
        else:
            v4, v6 = (address, None) if len(address) == 4 else (None, address)
            if address in self.by_address:
                raise ValueError(f"the address of {name} is taken")
        host = Host(name, v4, v6)
        self.enter(host)
        return host

    def forget(self, name: str) -> None:
        """Take the host called `name` off the network, if there is one."""
        host = self.by_name.get(name)
        if host is not None:
            self.remove(host)

    def remove(self, host: Host) -> None:
        """Take a host off the network."""
        self.by_name.pop(host.name, None)
        for address in host.addresses:
            self.by_address.pop(address, None)

    def _fresh(self) -> tuple[bytes, bytes]:
        while self._next <= _LAST:
            number, self._next = self._next, self._next + 1
            low = number.to_bytes(2, "big")
            v4, v6 = b"\x0a\0" + low, b"\xfd" + bytes(13) + low
            if low[1] not in (0, 255) and v4 not in self.by_address and v6 not in self.by_address:
                return v4, v6
        raise ValueError("the network 10.0.0.0/16 is full: there are no more addresses for hosts")

    def name_at(self, address: bytes) -> str:
        """For messages: the name of the host at `address`, or ""."""
        host = self.by_address.get(address)
        return host.name if host is not None else ""


def normal(name: str) -> str:
    """A name as it is compared."""
    return name.rstrip(".").lower()


def on_segment(address: bytes) -> bool:
    """Is `address` in the sandbox's own subnet (10.0.0.0/16, fd00::/64)?"""
    return address[:2] == OWN4[:2] if len(address) == 4 else address[:8] == OWN6[:8]
