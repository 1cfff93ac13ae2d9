"""The interfaces of a sandbox, for ioctl(2): there is lo, and nothing else (netdevice(7)).

Layer: netstack.  May touch: nothing.
"""

from __future__ import annotations

import errno
import struct

from .address import AF_INET, err

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
_NAME = b"lo".ljust(16, b"\0")
_LOOPBACK_FLAGS = 0x49  # IFF_UP | IFF_LOOPBACK | IFF_RUNNING
ARPHRD_LOOPBACK = 772


def _address(host: bytes) -> bytes:
    return struct.pack("<H2x4s8x", AF_INET, host)


_ANSWERS = {
    SIOCGIFFLAGS: struct.pack("<h", _LOOPBACK_FLAGS),
    SIOCGIFADDR: _address(b"\x7f\0\0\1"),
    SIOCGIFDSTADDR: _address(b"\x7f\0\0\1"),
    SIOCGIFBRDADDR: _address(bytes(4)),
    SIOCGIFNETMASK: _address(b"\xff\0\0\0"),
    SIOCGIFMETRIC: struct.pack("<i", 0),
    SIOCGIFMTU: struct.pack("<i", 65536),
    SIOCGIFHWADDR: struct.pack("<H14x", ARPHRD_LOOPBACK),
    SIOCGIFINDEX: struct.pack("<i", 1),
    SIOCGIFTXQLEN: struct.pack("<i", 1000),
}
KNOWN = frozenset((*_ANSWERS, SIOCGIFNAME, SIOCGIFCONF))


def interface_ioctl(command: int, request: bytes) -> bytes:
    """A SIOCGIF* request on a struct ifreq: the whole struct as it comes back.  ENODEV for all but lo."""
    if command == SIOCGIFNAME:
        if struct.unpack_from("<i", request, 16)[0] != 1:
            raise err(errno.ENODEV)
        return _NAME + request[16:]
    if request[:16].split(b"\0", 1)[0] != b"lo":
        raise err(errno.ENODEV)
    answer = _ANSWERS[command]
    return request[:16] + answer + request[16 + len(answer) :]


def interface_list(room: int, count_only: bool) -> bytes:
    """SIOCGIFCONF: the entries that fit into `room` bytes; all of them when only their size is asked for."""
    entry = (_NAME + _address(b"\x7f\0\0\1")).ljust(IFREQ, b"\0")
    return entry if count_only or room >= IFREQ else b""
