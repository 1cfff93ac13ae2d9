"""Multicast groups: which a socket has joined, by which interface, and from whom it wants to hear (ip(7), ipv6(7)).

Layer: netstack, beside options.py.  May touch: the machine's counts of members.

The rules are those of ip_mc_join_group(), ip_mc_source() and ip_mc_sf_allow() in net/ipv4/igmp.c, and of their likes in
net/ipv6/mcast.c.
"""

from __future__ import annotations

import errno
import struct

from .address import (
    AF_INET,
    AF_INET6,
    ALL_HOSTS,
    IPPROTO_IP,
    IPPROTO_IPV6,
    SOCK_STREAM,
    Endpoint,
    err,
    is_multicast,
)
from .interfaces import ETH0, LOOP, interfaces, on_broadcast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .inet import InetSock
    from .network import Network
    from .sock import Sock

    Key = tuple[bytes, int]  # a group, and the interface's index

#: igmp_max_memberships, of IPv4 sockets
MEMBERSHIPS_MAX = 20
_JOIN, _LEAVE, _BLOCK, _UNBLOCK, _JOIN_SOURCE, _LEAVE_SOURCE = range(6)
#: IP_ADD_MEMBERSHIP and its likes, which name an interface by its address, and the older ones of IPv6
_OLD = {
    (IPPROTO_IP, 35): _JOIN, (IPPROTO_IP, 36): _LEAVE, (IPPROTO_IP, 37): _UNBLOCK, (IPPROTO_IP, 38): _BLOCK,
    (IPPROTO_IP, 39): _JOIN_SOURCE, (IPPROTO_IP, 40): _LEAVE_SOURCE,
    (IPPROTO_IPV6, 20): _JOIN, (IPPROTO_IPV6, 21): _LEAVE,
}  # fmt: skip
#: MCAST_JOIN_GROUP and its likes (RFC 3678), of both families
_MCAST = {42: _JOIN, 43: _BLOCK, 44: _UNBLOCK, 45: _LEAVE, 46: _JOIN_SOURCE, 47: _LEAVE_SOURCE}
_MULTICAST_IF = {IPPROTO_IP: 32, IPPROTO_IPV6: 17}
_MULTICAST_LOOP = {IPPROTO_IP: 34, IPPROTO_IPV6: 19}
_MULTICAST_TTL = {IPPROTO_IP: 33, IPPROTO_IPV6: 18}
IP_MULTICAST_ALL, IPV6_MULTICAST_ALL = 49, 29
_STORAGE = 128  # sizeof(struct sockaddr_storage)


class Membership:
    """In one group: `sources` are the only ones that are heard, or with `exclude` the ones that are not."""

    __slots__ = ("exclude", "sources")

    def __init__(self, exclude: bool) -> None:
        self.exclude = exclude
        self.sources: set[bytes] = set()

    def allows(self, source: bytes) -> bool:
        return (source in self.sources) != self.exclude


class Groups:
    """What one socket has joined."""

    def __init__(self, sock: InetSock) -> None:
        self._sock = sock
        self._joined: dict[Key, Membership] = {}

    def hears(self, host: bytes, index: int, source: bytes) -> bool:
        """Does the socket get what `source` sends to the group `host` by an interface?  Where others have joined, one
        that has not gets it too, unless IP_MULTICAST_ALL is 0."""
        membership = self._joined.get((host, index))
        if membership is not None:
            return membership.allows(source)
        key = (IPPROTO_IP, IP_MULTICAST_ALL) if len(host) == 4 else (IPPROTO_IPV6, IPV6_MULTICAST_ALL)
        return any(self._sock.options.get(key, b"\1"))

    def change(self, what: int, key: Key, source: bytes) -> None:
        """Join, leave, or change whom to hear.  Raises EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOBUFS."""
        if what == _JOIN:
            if key in self._joined:
                raise err(errno.EADDRINUSE)
            self._join(key, exclude=True)
        elif what == _LEAVE:
            if key not in self._joined:
                raise err(errno.EADDRNOTAVAIL)
            self._leave(key)
        else:
            self._change_source(what, key, source)

    def _change_source(self, what: int, key: Key, source: bytes) -> None:
        exclude = what in (_BLOCK, _UNBLOCK)
        membership = self._joined.get(key)
        if membership is None and what == _JOIN_SOURCE:
            membership = self._join(key, exclude=False)
        if membership is None or (membership.sources and membership.exclude != exclude):
            raise err(errno.EINVAL)
        membership.exclude = exclude
        if (what in (_BLOCK, _JOIN_SOURCE)) == (source in membership.sources):
            raise err(errno.EADDRNOTAVAIL)
        membership.sources ^= {source}
        if what == _LEAVE_SOURCE and not membership.sources:
            self._leave(key)

    def _join(self, key: Key, *, exclude: bool) -> Membership:
        if len(key[0]) == 4 and sum(len(k[0]) == 4 for k in self._joined) >= MEMBERSHIPS_MAX:
            raise err(errno.ENOBUFS)
        made = self._joined[key] = Membership(exclude)
        members = self._sock.net.members
        members[key] = members.get(key, 0) + 1
        return made

    def _leave(self, key: Key) -> None:
        del self._joined[key]
        members = self._sock.net.members
        members[key] -= 1
        if not members[key]:
            del members[key]

    def close(self) -> None:
        """The socket is no more."""
        for key in list(self._joined):
            self._leave(key)


# --- options ------------------------------------------------------------------------------------------------


def set_group_option(sock: Sock, level: int, name: int, data: bytes) -> None:
    """setsockopt(2) of one that is about groups."""
    from .inet import InetSock

    assert isinstance(sock, InetSock)
    if name == _MULTICAST_IF[level]:
        _set_interface(sock, level, data)
        return
    if sock.type == SOCK_STREAM:
        raise err(errno.EPROTO)
    old = _OLD.get((level, name))
    what = _MCAST[name] if old is None else old
    host, index, source = (_read_mcast if old is None else _read_old)(sock, level, what, data)
    if not is_multicast(host):
        raise err(errno.EINVAL)
    sock.groups.change(what, (host, index), source)


def _read_old(sock: InetSock, level: int, what: int, data: bytes) -> tuple[bytes, int, bytes]:
    """struct ip_mreq, ip_mreqn, ip_mreq_source, ipv6_mreq: the group, the interface, a source."""
    if level == IPPROTO_IPV6:
        if len(data) < 20:
            raise err(errno.EINVAL)
        return data[:16], _interface(sock.net, data[:16], struct.unpack_from("<i", data, 16)[0], b""), b""
    with_source = what not in (_JOIN, _LEAVE)
    if len(data) < (12 if with_source else 8):
        raise err(errno.EINVAL)
    host, where, source = data[:4], data[4:8], data[8:12] if with_source else b""
    index = struct.unpack_from("<i", data, 8)[0] if not with_source and len(data) >= 12 else 0
    return host, _interface(sock.net, host, index, where), source


def _read_mcast(sock: InetSock, level: int, what: int, data: bytes) -> tuple[bytes, int, bytes]:
    """struct group_req, group_source_req."""
    with_source = what not in (_JOIN, _LEAVE)
    if len(data) < 8 + _STORAGE * (1 + with_source):
        raise err(errno.EINVAL)
    index: int = struct.unpack_from("<I", data)[0]
    found = []
    for at in (8, 8 + _STORAGE)[: 1 + with_source]:
        family = struct.unpack_from("<H", data, at)[0]
        if family != (AF_INET if level == IPPROTO_IP else AF_INET6):
            raise err(errno.EADDRNOTAVAIL if at > 8 else errno.EINVAL)
        found.append(data[at + 4 : at + 8] if family == AF_INET else data[at + 8 : at + 24])
    return found[0], _interface(sock.net, found[0], index, b""), found[1] if with_source else b""


def _interface(net: Network, group: bytes, index: int, address: bytes) -> int:
    """The interface that is meant by its index, or by an address of its own, or by where the group leads.

    Raises ENODEV.
    """
    for device in interfaces(net.own):
        if (index and device.index == index) or (
            not index and any(address) and net_of(net, address) == device.index
        ):
            return device.index
    if not index and not any(address) and net.own is not None and is_multicast(group):
        return ETH0
    raise err(errno.ENODEV if is_multicast(group) else errno.EINVAL)


def net_of(net: Network, address: bytes) -> int:
    """The index of the interface that has `address`; 0: none has."""
    return 0 if not net.owns(address) else ETH0 if address in (net.own or ()) else LOOP


def _set_interface(sock: InetSock, level: int, data: bytes) -> None:
    """IP_MULTICAST_IF, IPV6_MULTICAST_IF: kept as the index of the interface."""
    if sock.type == SOCK_STREAM and level == IPPROTO_IP:
        raise err(errno.EINVAL)
    if len(data) < 4:
        raise err(errno.EINVAL)
    address = data[:4] if len(data) < 8 else data[4:8]
    index = struct.unpack_from("<i", data, 8)[0] if len(data) >= 12 else 0
    if level == IPPROTO_IPV6:
        index, address = struct.unpack_from("<i", data)[0], b""
    if index:
        if index not in [device.index for device in interfaces(sock.net.own)]:
            raise err(errno.ENODEV if level == IPPROTO_IPV6 else errno.EADDRNOTAVAIL)
    elif any(address):
        index = net_of(sock.net, address)
        if not index:
            raise err(errno.EADDRNOTAVAIL)
    sock.options[level, _MULTICAST_IF[level]] = struct.pack("<i4s", index, address.ljust(4, b"\0"))


def interface_option(sock: Sock, level: int, name: int) -> bytes:
    """getsockopt(2) of IP_MULTICAST_IF, the address that was given, and IPV6_MULTICAST_IF, the index."""
    if name != _MULTICAST_IF[level]:
        raise err(errno.ENOPROTOOPT)
    kept = sock.options.get((level, name), bytes(8))
    return kept[4:] if level == IPPROTO_IP else kept[:4]


# --- sending ------------------------------------------------------------------------------------------------


class Outgoing:
    """How a datagram to a group is sent: by which interface, from which address, how far, and back to this machine?"""

    __slots__ = ("index", "loop", "source", "ttl")

    def __init__(self, sock: InetSock, where: Endpoint) -> None:
        net = sock.net
        level = IPPROTO_IP if len(where.host) == 4 else IPPROTO_IPV6
        self.index = self._interface(sock, where, level)
        if self.index == ETH0 and net.own is None:
            raise err(errno.ENETUNREACH)
        if self.index == LOOP and level == IPPROTO_IPV6:
            raise err(errno.ENETUNREACH)  # lo has no route for ff00::/8
        self.ttl = 1
        self.loop = True
        if is_multicast(where.host):
            self.ttl = struct.unpack("<i", sock.options.get((level, _MULTICAST_TTL[level]), b"\1\0\0\0"))[0]
            self.loop = self.index == LOOP or any(sock.options.get((level, _MULTICAST_LOOP[level]), b"\1"))
        own = sock.local.host
        if not any(own) or sock.is_group(own):
            device = interfaces(net.own)[self.index - 1]
            own = device.v4 if level == IPPROTO_IP else device.v6
        self.source = Endpoint(own, sock.local.port)

    @staticmethod
    def _interface(sock: InetSock, where: Endpoint, level: int) -> int:
        if not is_multicast(where.host):
            return on_broadcast(where.host, sock.net.own) or ETH0
        kept = sock.options.get((level, _MULTICAST_IF[level]), bytes(8))
        bound = (
            0 if sock.local.wildcard or is_multicast(sock.local.host) else net_of(sock.net, sock.local.host)
        )
        return where.scope or struct.unpack_from("<i", kept)[0] or bound or ETH0


# --- tables -------------------------------------------------------------------------------------------------


def _members(net: Network, index: int, size: int) -> dict[bytes, int]:
    """The groups of an interface that this machine is in, and how many of its sockets."""
    found = {ALL_HOSTS[size == 16]: 1}
    for (host, at), count in net.members.items():
        if at == index and len(host) == size:
            found[host] = found.get(host, 0) + count
    return found


def igmp_table(net: Network) -> bytes:
    """/proc/net/igmp"""
    lines = ["Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"]
    for device in interfaces(net.own):
        groups = _members(net, device.index, 4)
        lines.append(f"{device.index}\t{device.name:<10}: {len(groups):5}      V3\n")
        lines += [
            f"\t\t\t\t{host[::-1].hex().upper()} {users:5} 0:00000000\t\t0\n"
            for host, users in groups.items()
        ]
    return "".join(lines).encode()


def igmp6_table(net: Network) -> bytes:
    """/proc/net/igmp6"""
    return "".join(
        f"{device.index:<4d} {device.name:<15} {host.hex()} {users:5} 00000004 0\n"
        for device in interfaces(net.own)
        for host, users in _members(net, device.index, 16).items()
    ).encode()
