"""Socket addresses: from the bytes that a program gives to values and back (ip(7), ipv6(7), unix(7)).

Layer: netstack, lowest.  May touch: nothing.

An IPv4 address is 4 bytes wherever it came from: an IPv6 socket's v4-mapped address is one, and becomes
::ffff:a.b.c.d again only where such a socket shows it.
"""

from __future__ import annotations

import errno
import os
import struct

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 0, 1, 2, 10, 16, 17
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET = 1, 2, 3, 4, 5
NETLINK_ROUTE, NETLINK_SOCK_DIAG = 0, 4
IPPROTO_IP, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6 = 0, 1, 6, 17, 41
IPPROTO_ICMPV6, IPPROTO_UDPLITE, IPPROTO_RAW = 58, 136, 255

ANY4, ANY6 = bytes(4), bytes(16)
LOOPBACK4, LOOPBACK6 = b"\x7f\0\0\1", bytes(15) + b"\1"
ALL_HOSTS = (bytes((224, 0, 0, 1)), b"\xff\2" + bytes(13) + b"\1")  # groups that every machine is in
_MAPPED = bytes(10) + b"\xff\xff"
_IN = struct.Struct("!H4s8x")
_IN6 = struct.Struct("!HI16s")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_SUN_MAX = 110  # sizeof(struct sockaddr_un)


def is_multicast(host: bytes) -> bool:
    """224.0.0.0/4 or ff00::/8."""
    return host[0] >> 4 == 14 if len(host) == 4 else host[0] == 0xFF


def err(number: int) -> OSError:
    """The OSError for an errno."""
    return OSError(number, os.strerror(number))


class Endpoint:
    """An internet address and port; `host` is 4 or 16 bytes, `flow` and `scope` are IPv6's."""

    __slots__ = ("flow", "host", "port", "scope")

    def __init__(self, host: bytes, port: int, flow: int = 0, scope: int = 0) -> None:
        self.host, self.port, self.flow, self.scope = host, port, flow, scope

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and (self.host, self.port) == (other.host, other.port)

    def __hash__(self) -> int:
        return hash((self.host, self.port))

    @property
    def wildcard(self) -> bool:
        return not any(self.host)

    @property
    def loopback(self) -> bool:
        """127.0.0.0/8 or ::1."""
        return self.host[0] == 127 if len(self.host) == 4 else self.host == LOOPBACK6

    def pack(self, family: int) -> bytes:
        """As a socket of `family` shows it: struct sockaddr_in or sockaddr_in6."""
        if family == AF_INET:
            return _U16.pack(AF_INET) + _IN.pack(self.port, self.host[-4:])
        host = _MAPPED + self.host if len(self.host) == 4 else self.host
        return _U16.pack(AF_INET6) + _IN6.pack(self.port, self.flow, host) + _U32.pack(self.scope)

    def __str__(self) -> str:
        text = address_text(self.host)
        return f"{text}:{self.port}" if len(self.host) == 4 else f"[{text}]:{self.port}"


def parse_address(text: str) -> bytes | None:
    """An address in digits as 4 or 16 bytes (4 for a v4-mapped one); None for what is none."""
    import socket

    for family in (AF_INET, AF_INET6):
        try:
            host = socket.inet_pton(family, text)
        except OSError:
            continue
        return host[12:] if host.startswith(_MAPPED) else host
    return None


def address_text(host: bytes) -> str:
    """4 or 16 bytes in digits."""
    import socket

    return socket.inet_ntop(AF_INET if len(host) == 4 else AF_INET6, host)


def family_of(raw: bytes) -> int:
    """sa_family.  Raises EINVAL for less than that."""
    if len(raw) < 2:
        raise err(errno.EINVAL)
    family: int = _U16.unpack_from(raw)[0]
    return family


def parse_inet(family: int, raw: bytes) -> Endpoint:
    """The address that a socket of `family` was given.

    Raises EINVAL for one that is too short, EAFNOSUPPORT for another family (inet_bind, tcp_v6_connect).
    """
    if len(raw) < (16 if family == AF_INET else 24):
        raise err(errno.EINVAL)
    if _U16.unpack_from(raw)[0] != family:
        raise err(errno.EAFNOSUPPORT)
    if family == AF_INET:
        port, host = _IN.unpack_from(raw, 2)
        return Endpoint(host, port)
    port, flow, host = _IN6.unpack_from(raw, 2)
    scope = _U32.unpack_from(raw, 24)[0] if len(raw) >= 28 else 0
    return Endpoint(host[12:] if host.startswith(_MAPPED) else host, port, flow, scope)


def parse_unix(raw: bytes) -> bytes:
    """sun_path: b"" for none (autobind), a leading NUL for an abstract name, else a path.

    Raises EINVAL as unix_validate_addr().
    """
    if not 2 <= len(raw) <= _SUN_MAX or _U16.unpack_from(raw)[0] != AF_UNIX:
        raise err(errno.EINVAL)
    name = raw[2:]
    return name if name[:1] == b"\0" else name.split(b"\0", 1)[0]


def pack_unix(name: bytes) -> bytes:
    """struct sockaddr_un as Linux returns it: a path with its NUL, an abstract name as it is."""
    if name and name[:1] != b"\0":
        name += b"\0"
    return _U16.pack(AF_UNIX) + name
