"""What the virtual resolver knows: the hosts of the network, and the records that the user adds.

Layer: netstack, above hosts.py.  May touch: nothing.
"""

from __future__ import annotations

import socket
import struct

from .hosts import OWN4, OWN6, Hosts, normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, ANY = 1, 2, 5, 6, 12, 15, 16, 28, 33, 255
TYPES = {"A": A, "AAAA": AAAA, "CNAME": CNAME, "MX": MX, "NS": NS, "PTR": PTR, "SRV": SRV, "TXT": TXT}
TTL = 60
_CHAIN = 16  # of CNAMEs that are followed
#: owner, type, time to live in seconds, data as it goes over the wire
Record = tuple[str, int, int, bytes]


def pack_name(name: str) -> bytes:
    """A domain name as labels (RFC 1035, 3.1).  Raises ValueError for one that is none."""
    out = b""
    for label in name.rstrip(".").split(".") if name.rstrip(".") else ():
        raw = label.encode("ascii" if label.isascii() else "idna")
        if not 0 < len(raw) < 64:
            raise ValueError(f"{name!r} is no domain name: a label has 1 to 63 characters")
        out += bytes((len(raw),)) + raw
    if len(out) > 254:
        raise ValueError(f"{name[:40]!r}... is no domain name: it is longer than 253 characters")
    return out + b"\0"


def pack_data(kind: int, value: Any) -> bytes:
    """The data of a record of type `kind`: an address, a name, a text (or several), (preference, name) for MX,
    (priority, weight, port, name) for SRV.  Raises ValueError."""
    try:
        if kind in (A, AAAA):
            return socket.inet_pton(socket.AF_INET if kind == A else socket.AF_INET6, str(value))
        if kind in (CNAME, NS, PTR):
            return pack_name(str(value))
        if kind == MX:
            return struct.pack("!H", *value[:-1]) + pack_name(value[-1])
        if kind == SRV:
            return struct.pack("!HHH", *value[:-1]) + pack_name(value[-1])
    except (OSError, TypeError, struct.error) as e:
        raise ValueError(f"{value!r} is no data for a record of this type: {e}") from None
    texts = [value] if isinstance(value, (str, bytes)) else list(value)
    out = b""
    for text in texts:
        raw = text.encode() if isinstance(text, str) else text
        for i in range(0, len(raw) or 1, 255):
            out += bytes((len(raw[i : i + 255]),)) + raw[i : i + 255]
    return out


class Zone:
    """Names and their records.  `hostname` and `addresses` are the sandbox's own."""

    def __init__(self, hosts: Hosts, hostname: str, addresses: tuple[bytes, bytes] = (OWN4, OWN6)) -> None:
        self._hosts = hosts
        self._records: dict[str, list[Record]] = {}
        own = normal(hostname)
        for name in {own, "localhost"}:
            v4, v6 = addresses if name == own else (b"\x7f\0\0\1", bytes(15) + b"\1")
            self._records[name] = [(name, A, TTL, v4), (name, AAAA, TTL, v6)]
        for address in addresses:
            back = reverse_name(address)
            self._records[back] = [(back, PTR, TTL, pack_name(own or "localhost"))]

    def add(self, name: str, kind: str, value: object, ttl: int = TTL) -> None:
        """Add a record.  Raises ValueError for a type or data that it does not know."""
        number = TYPES.get(kind.upper())
        if number is None:
            raise ValueError(f"there are records of the types {', '.join(TYPES)}, not {kind!r}")
        name = normal(name)
        pack_name(name)
        self._records.setdefault(name, []).append((name, number, ttl, pack_data(number, value)))

    def remove(self, name: str, kind: str | None = None) -> None:
        """Drop what was added for `name`, or its records of one type."""
        name = normal(name)
        number = TYPES.get(kind.upper()) if kind else None
        self._records[name] = [r for r in self._records.get(name, ()) if number and r[1] != number]

    def _at(self, name: str) -> list[Record]:
        found = list(self._records.get(name, ()))
        host = self._hosts.by_name.get(name)
        if host is not None:
            kinds = {4: A, 16: AAAA}
            found += [(name, kinds[len(a)], TTL, a) for a in host.addresses]
        if not found and name.endswith(".arpa"):
            address = reverse_address(name)
            owner = self._hosts.name_at(address) if address else ""
            if owner and not owner.startswith("*"):
                found.append((name, PTR, TTL, pack_name(owner)))
        return found

    def _match(self, name: str) -> list[Record]:
        """All records of `name`, by a wildcard (RFC 4592) where it has none of its own."""
        found = self._at(name)
        rest = name
        while not found and "." in rest:
            rest = rest.partition(".")[2]
            found = [(name, *r[1:]) for r in self._at("*." + rest)]
            if not found and self._at(rest):
                break  # the closest encloser has no wildcard
        return found

    def find(self, name: str, kind: int) -> tuple[bool, list[Record]]:
        """Is there such a name, and the answer for `kind`: aliases are followed."""
        name = normal(name)
        answer: list[Record] = []
        for _ in range(_CHAIN):
            records = self._match(name)
            if not records:
                below = any(n.endswith("." + name) for n in (*self._records, *self._hosts.by_name))
                return below or bool(answer), answer
            answer += [r for r in records if kind in (r[1], ANY)]
            alias = next((r for r in records if r[1] == CNAME), None)
            if alias is None or alias in answer or kind in (CNAME, ANY):
                break
            answer.append(alias)
            name = normal(unpack_name(alias[3], 0)[0])
        return True, answer


def unpack_name(packet: bytes, at: int) -> tuple[str, int]:
    """The name at an offset, pointers followed, and the offset behind it.  Raises ValueError."""
    labels: list[str] = []
    end = -1
    for _ in range(128):
        if at >= len(packet):
            break
        size = packet[at]
        if size >= 0xC0:
            if at + 1 >= len(packet):
                break
            end = at + 2 if end < 0 else end
            at = (size & 0x3F) << 8 | packet[at + 1]
            continue
        at += 1 + size
        if not size:
            return ".".join(labels), at if end < 0 else end
        labels.append(packet[at - size : at].decode("latin-1"))
    raise ValueError("a broken name")


def reverse_name(address: bytes) -> str:
    """The name below which PTR records of an address are."""
    if len(address) == 4:
        return ".".join(str(b) for b in reversed(address)) + ".in-addr.arpa"
    return ".".join(reversed(address.hex())) + ".ip6.arpa"


def reverse_address(name: str) -> bytes | None:
    """The address that a name in in-addr.arpa or ip6.arpa means."""
    labels = name.split(".")[:-2][::-1]
    try:
        if name.endswith(".in-addr.arpa") and len(labels) == 4:
            return bytes(int(x) for x in labels)
        if name.endswith(".ip6.arpa") and len(labels) == 32:
            return bytes.fromhex("".join(labels))
    except ValueError:
        pass
    return None
