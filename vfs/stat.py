"""The attribute records that stat(2), statx(2) and statfs(2) give out.

Layer: bottom of the vfs; knows the kernel's struct layouts and nothing else.
May touch: nothing outside this file.
"""

from __future__ import annotations

import struct
import time

_CLOCK_REALTIME_COARSE = 5  # absent from Python's time module

S_IFMT = 0o170000
S_IFSOCK = 0o140000
S_IFLNK = 0o120000
S_IFREG = 0o100000
S_IFBLK = 0o060000
S_IFDIR = 0o040000
S_IFCHR = 0o020000
S_IFIFO = 0o010000
S_ISUID = 0o4000
S_ISGID = 0o2000
S_ISVTX = 0o1000
S_IXGRP = 0o010
S_IWGRP = 0o020
S_IWOTH = 0o002

# statx(2) request bits and attributes (include/uapi/linux/stat.h).
STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800
STATX_MNT_ID = 0x1000
STATX_MNT_ID_UNIQUE = 0x4000
STATX_ATTR_MOUNT_ROOT = 0x2000
STATX_ATTR_IMMUTABLE = 0x10
STATX_ATTR_APPEND = 0x20
STATX_ATTR_NODUMP = 0x40

# x86-64 `struct stat` (arch/x86/include/uapi/asm/stat.h), 144 bytes.
_STAT = struct.Struct("<QQQIIIxxxxQqqqqqqqqq24x")
# `struct statx`, 256 bytes.
_STATX = struct.Struct("<IIQIIIHxxQQQQqIxxxxqIxxxxqIxxxxqIxxxxIIIIQII96x")
# x86-64 `struct statfs`, 120 bytes.
_STATFS = struct.Struct("<qqQQQQQIIqqq32x")


def now_ns() -> int:
    """The time of file timestamps: the kernel's coarse clock, which the memfds' own timestamps use too
    (current_time() in fs/inode.c), so that both kinds compare rightly."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


def major(dev: int) -> int:
    """Major number of an encoded device, as glibc's gnu_dev_major."""
    return (dev >> 8) & 0xFFF | (dev >> 32) & 0xFFFFF000


def minor(dev: int) -> int:
    """Minor number of an encoded device, as glibc's gnu_dev_minor."""
    return dev & 0xFF | (dev >> 12) & 0xFFFFFF00


def makedev(maj: int, mnr: int) -> int:
    """The encoding of st_dev and st_rdev on x86-64 (major below 4096)."""
    return (mnr & 0xFF) | ((maj & 0xFFF) << 8) | ((mnr & 0xFFFFFF00) << 12)


class Stat:
    """Attributes of one object. Times are nanoseconds since the epoch; `btime` may be None (unknown).

    `blocks` is in units of 512 bytes; `mode` has the type bits.
    """

    __slots__ = (
        "atime",
        "blksize",
        "blocks",
        "btime",
        "ctime",
        "dev",
        "gid",
        "ino",
        "mode",
        "mtime",
        "nlink",
        "rdev",
        "size",
        "uid",
    )

    def __init__(
        self,
        dev: int,
        ino: int,
        mode: int,
        nlink: int,
        uid: int,
        gid: int,
        rdev: int,
        size: int,
        blksize: int,
        blocks: int,
        atime: int,
        mtime: int,
        ctime: int,
        btime: int | None = None,
    ) -> None:
        self.dev = dev
        self.ino = ino
        self.mode = mode
        self.nlink = nlink
        self.uid = uid
        self.gid = gid
        self.rdev = rdev
        self.size = size
        self.blksize = blksize
        self.blocks = blocks
        self.atime = atime
        self.mtime = mtime
        self.ctime = ctime
        self.btime = btime

    def pack(self) -> bytes:
        """The 144 bytes of x86-64 `struct stat`."""
        a, m, c = self.atime, self.mtime, self.ctime
        return _STAT.pack(
            self.dev,
            self.ino,
            self.nlink,
            self.mode,
            self.uid,
            self.gid,
            self.rdev,
            self.size,
            self.blksize,
            self.blocks,
            a // 1000000000,
            a % 1000000000,
            m // 1000000000,
            m % 1000000000,
            c // 1000000000,
            c % 1000000000,
        )

    def pack_statx(self, mnt_id: int = 0, attributes: int = 0, want: int = 0, known: int = 0) -> bytes:
        """The 256 bytes of `struct statx`; `mnt_id` 0 leaves STATX_MNT_ID out. `known`: attributes that the filesystem
        has beside STATX_ATTR_MOUNT_ROOT."""
        mask = STATX_BASIC_STATS
        btime = self.btime
        if btime is not None:
            mask |= STATX_BTIME
        if mnt_id:
            mask |= STATX_MNT_ID_UNIQUE if want & STATX_MNT_ID_UNIQUE else STATX_MNT_ID
        b = btime or 0
        a, m, c, g = self.atime, self.mtime, self.ctime, 1000000000
        return _STATX.pack(
            mask,
            self.blksize,
            attributes,
            self.nlink,
            self.uid,
            self.gid,
            self.mode,
            self.ino,
            self.size,
            self.blocks,
            STATX_ATTR_MOUNT_ROOT | known,
            a // g,
            a % g,
            b // g,
            b % g,
            c // g,
            c % g,
            m // g,
            m % g,
            major(self.rdev),
            minor(self.rdev),
            major(self.dev),
            minor(self.dev),
            mnt_id,
            0,
            0,
        )


class StatFs:
    """What statfs(2) reports of a filesystem; block counts are in units of `bsize` bytes."""

    __slots__ = ("bavail", "bfree", "blocks", "bsize", "ffree", "files", "flags", "fsid", "magic", "namelen")

    def __init__(
        self,
        magic: int,
        bsize: int = 4096,
        blocks: int = 0,
        bfree: int = 0,
        bavail: int = 0,
        files: int = 0,
        ffree: int = 0,
        namelen: int = 255,
        fsid: int = 0,
        flags: int = 0,
    ) -> None:
        self.magic = magic
        self.bsize = bsize
        self.blocks = blocks
        self.bfree = bfree
        self.bavail = bavail
        self.files = files
        self.ffree = ffree
        self.namelen = namelen
        self.fsid = fsid
        self.flags = flags

    def pack(self) -> bytes:
        """The 120 bytes of x86-64 `struct statfs`."""
        return _STATFS.pack(
            self.magic,
            self.bsize,
            self.blocks,
            self.bfree,
            self.bavail,
            self.files,
            self.ffree,
            self.fsid & 0xFFFFFFFF,
            self.fsid >> 32 & 0xFFFFFFFF,
            self.namelen,
            self.bsize,
            self.flags,
        )
