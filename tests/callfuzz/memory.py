"""The memory that fuzzed calls' pointers lead to: what lies where in it.

Layer: tests. servant.c maps it at ARENA: writable pages, one that is read-only, one that is forbidden, nothing. All
of it is made here from a fixed seed, so that both sides have the same.
"""

# ruff: noqa: E501
from __future__ import annotations

import random
import struct

ARENA = 0x5_0000_0000
WRITABLE, READABLE, FORBIDDEN = 16 * 4096, 4096, 4096
SCRAP, SCRAP_SIZE = ARENA + 0x100000, 16 * 4096
EDGE = ARENA + WRITABLE + READABLE  # the first byte that cannot be read
OUT = ARENA + 8 * 4096  # half of the writable part: for what calls write

PATHS = [
    *(b"f", b"exe", b"d", b"d/g", b"d/e", b"link", b"dirlink", b"dirlink/g", b"dangling", b"loop", b"fifo", b"sock"),
    *(b"new1", b"new2", b"d/new", b"dangling/x", b"f/x", b"nothing/x", b".", b"..", b"/", b"", b"d/", b"f/", b"d/.."),
    *(b"/proc/self/status", b"/proc/self/fd/3", b"/proc/self", b"/dev/null", b"/dev/full", b"/dev/zero"),
    *(b"/nonexistent/x", b"n" * 255, b"n" * 256, b"d/" * 2047 + b"f", b"d/" * 2048 + b"f", b"\xff\xfe\x01", b"//f"),
]  # fmt: skip
NAMES = [b"user.x", b"user.y", b"user.", b"user", b"trusted.x", b"security.x", b"system.posix_acl_access", b"bad.x",
         b"", b"user." + b"n" * 250, b"user." + b"n" * 251, b"tmpfs", b"proc", b"source"]  # fmt: skip


def _sockaddrs() -> list[bytes]:
    loopback = bytes([127, 0, 0, 1])
    return [
        struct.pack("<H", 2) + struct.pack(">H", 0) + loopback + bytes(8),
        struct.pack("<H", 2) + struct.pack(">H", 9) + loopback + bytes(8),
        struct.pack("<H", 2) + struct.pack(">H", 4444) + bytes(12),
        struct.pack("<H", 10) + struct.pack(">H", 9) + bytes(4) + bytes(15) + b"\1" + bytes(4),
        struct.pack("<H", 1) + b"sock\0",
        struct.pack("<H", 1) + b"new1\0",
        struct.pack("<H", 1) + b"\0abstract",
        struct.pack("<HHII", 16, 0, 0, 0),
        struct.pack("<H", 0) + bytes(14),
        struct.pack("<H", 99) + bytes(100),
    ]


class Memory:
    """The bytes, and where each kind of thing is: `strings`, `names`, `structs` by name (addresses)."""

    def __init__(self) -> None:
        self.bytes = bytearray(random.Random(0).randbytes(WRITABLE + READABLE))
        self.bytes[:64] = bytes(64)
        self.at = 64
        self.lengths: dict[int, int] = {}
        self.strings = [self._put(path + b"\0") for path in PATHS]
        self.names = [self._put(name + b"\0") for name in NAMES]
        self.structs: dict[str, list[int]] = {"zero": [self._put(bytes(1024))]}
        for name, values in self._make().items():
            self.structs[name] = [self._put(value) for value in values]
        assert self.at < OUT - ARENA
        # strings whose end nobody sees, and one that the last byte ends
        self.bytes[-8:] = b"readable"
        self.strings.append(EDGE - 8)
        self.bytes[WRITABLE : WRITABLE + 2] = b"f\0"
        self.strings.append(ARENA + WRITABLE)

    def _put(self, data: bytes) -> int:
        at = self.at
        self.bytes[at : at + len(data)] = data
        self.at = at + len(data) + 7 & ~7
        self.lengths[ARENA + at] = len(data)
        return ARENA + at

    def _make(self) -> dict[str, list[bytes]]:
        q = struct.Struct("<2q").pack
        iov = q(OUT, 5) + q(OUT + 100, 0) + q(OUT + 4096, 300)
        addresses = _sockaddrs()
        to = self._put(addresses[1])
        vector = self._put(iov)
        rights = self._put(struct.pack("<Qiii", 20, 1, 1, 3) + bytes(4))
        argv = self._put(b"word\0")
        message = struct.Struct("<QIIQQQQII").pack
        return {
            "time": [q(0, 1000), q(0, 0), q(0, 10**9), q(-1, 0), q(0, -1), q(1, 0), q(1 << 62, 0), q(0, 1073741823)],
            "times": [q(1000, 5) * 2, q(0, 1073741822) + q(0, 1073741823), q(5, 10**9) * 2, q(0, -5) * 2],
            "itimer": [q(0, 0) + q(0, 0), q(0, 5) + q(1000, 0), q(-1, 0) * 2, q(0, 10**9) * 2],
            "iov": [iov, q(OUT, -1), q(OUT, 1 << 62) * 2, q(EDGE - 4, 8) + iov, q(1, 1), q(0, 0) * 3],
            "sockaddr": addresses,
            "message": [
                message(0, 0, 0, vector, 3, 0, 0, 0, 0),
                message(to, 16, 0, vector, 3, 0, 0, 0, 0),
                message(0, 0, 0, vector, 3, rights, 24, 0, 0),
                message(0, 0, 0, vector, 2000, 0, 0, 0, 0),
                message(to, 1 << 31, 0, 1, 1, 1, 1 << 40, 0, 0),
                message(OUT, 128, 0, vector, 1, OUT + 200, 64, 0, 0),
            ],
            "sigset": [bytes(8), b"\xff\xdf" + b"\xff" * 6, struct.pack("<Q", 1 << 9)],
            "act": [
                struct.pack("<4Q", 0, 0, 0, 0), struct.pack("<4Q", 1, 0, 0, 0),
                struct.pack("<4Q", 1, 0x14000000, 0, (1 << 64) - 1), struct.pack("<4Q", 0, 1 << 40, 0, 0),
            ],
            "poll": [struct.pack("<ihhihhihh", 3, 1, 0, 5, 5, 0, 6, 4, 0), struct.pack("<ihh", -1, 1, 0) * 3,
                     struct.pack("<ihh", 999, 1, 0) * 2],
            "fdset": [b"\xf8" + bytes(127), bytes(128), b"\xff" * 128],
            "epoll": [struct.pack("<Iq", 1, 5), struct.pack("<Iq", 1 << 31 | 5, 6), struct.pack("<Iq", 1 << 28, 7)],
            "limit": [q(10, 100), q(100, 10), q(1 << 20, 1 << 20), q(-1, -1), q(0, 0)],
            "lock": [struct.pack("<hhxxxxqqixxxx", kind, whence, start, length, 0) for kind, whence, start, length in
                     ((0, 0, 0, 0), (1, 0, 5, 10), (2, 0, 0, 0), (1, 2, -5, 5), (1, 0, -1, 0), (7, 0, 0, 0), (1, 9, 0, 0))],
            "numbers": [struct.pack("<I", n) for n in (0, 1, 4, 16, 128, 1 << 20, 1 << 31, (1 << 32) - 1)],
            "offset": [struct.pack("<q", n) for n in (0, 1, 9999, 10000, -1, 1 << 62)],
            "how": [struct.pack("<3Q", f, m, r) for f, m, r in
                    ((0, 0, 0), (0, 0, 8), (0, 0, 16), (64 | 1, 0o644, 0), (1 << 40, 0, 0), (0, 0o644, 0), (0, 0, 1 << 20),
                     (2, 0, 4), (1 << 21, 0, 0))],
            "pair": [struct.pack("<2I", 4, 4), struct.pack("<2I", 0, 0), struct.pack("<2I", 128, 1)],
            "argv": [struct.pack("<2Q", argv, 0), struct.pack("<Q", 0), struct.pack("<2Q", 1, 0),
                     struct.pack("<Q", argv) * 20 + bytes(8)],
            "cap": [struct.pack("<Ii", v, p) for v in (0x20080522, 0x19980330, 7) for p in (0, -1, 999999)],
            "clone": [struct.pack("<11Q", f, 0, 0, 0, s, 0, 0, 0, 0, 0, 0) for f, s in
                      ((0, 17), (0x100, 17), (0x10000, 17), (0, 99), (1 << 40, 17), (0x4000, 0))],
            "sched": [struct.pack("<IIQiIQQQ", 48, p, 0, n, 0, 0, 0, 0) for p, n in ((0, 0), (3, 5), (1, 0), (99, 0))],
        }  # fmt: skip

    def hostile(self) -> list[int]:
        """Pointers to where nothing, or not enough, can be read or written."""
        return [
            *(0, 1, 4095, EDGE - 1, EDGE - 4, EDGE, ARENA + WRITABLE, ARENA + WRITABLE - 3, EDGE + FORBIDDEN),
            *(SCRAP + SCRAP_SIZE - 1, 0x7FFF_FFFF_F000, 0x8000_0000_0000, 0xFFFF_8000_0000_0000, (1 << 64) - 1),
            *((1 << 64) - 4096, (1 << 63), OUT + 1),
        ]  # fmt: skip


#: of the core: EFAULT in a guest also where Linux would not look at the pointer
CORE = [
    0x2100_0000_0000,
    0x2100_1000_0000,
    0x2100_4000_0000,
    0x2104_0000_0000,
    0x2104_0010_0000,
    0x210F_0000_0000,
]
