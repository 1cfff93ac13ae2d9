"""Permission checks with virtual credentials (path_resolution(7), capabilities(7), fs/namei.c).

Layer: vfs, above inode.py. May touch: inode.py's attribute slots.
"""

from __future__ import annotations

import errno

from .inode import err
from .stat import S_IFDIR, S_IFMT, S_ISGID, S_ISVTX, S_IXGRP

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Protocol

    from .inode import Inode

    class Creds(Protocol):
        """What the vfs needs of kernel.task.Credentials."""

        @property
        def fsuid(self) -> int: ...
        @property
        def fsgid(self) -> int: ...
        @property
        def groups(self) -> tuple[int, ...]: ...
        def capable(self, cap: int) -> bool: ...


CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_LINUX_IMMUTABLE = 9
CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
CAP_MKNOD = 27
CAP_SETFCAP = 31

MAY_EXEC = 1
MAY_WRITE = 2
MAY_READ = 4

_IMMUTABLE, _APPEND = 0x10, 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL (inodeflags.py)


class SimpleCreds:
    """Credentials made by hand: the user's own Python (virtual root), access(2)'s real ids, tests."""

    __slots__ = ("fsgid", "fsuid", "groups", "root")

    def __init__(
        self, fsuid: int = 0, fsgid: int = 0, groups: tuple[int, ...] = (), root: bool | None = None
    ) -> None:
        self.fsuid = fsuid
        self.fsgid = fsgid
        self.groups = groups
        self.root = fsuid == 0 if root is None else root

    def capable(self, cap: int) -> bool:
        return self.root


ROOT = SimpleCreds()


def in_group(creds: Creds, gid: int) -> bool:
    return creds.fsgid == gid or gid in creds.groups


def allowed(creds: Creds, inode: Inode, mask: int) -> bool:
    """generic_permission(): may `creds` do `mask` (MAY_*) to the inode? Mode bits, then capabilities."""
    mode = inode.mode
    if creds.fsuid == inode.uid:
        bits = mode >> 6
    elif mode & 0o70 and inode.acl is not None:
        from .acl import permits

        bits = mask if permits(inode.acl, creds, inode, mask) else 0
    elif in_group(creds, inode.gid):
        bits = mode >> 3
    else:
        bits = mode
    if not mask & ~bits & 7:
        return True
    if mode & S_IFMT == S_IFDIR:
        if not mask & MAY_WRITE and creds.capable(CAP_DAC_READ_SEARCH):
            return True
        return creds.capable(CAP_DAC_OVERRIDE)
    if mask == MAY_READ and creds.capable(CAP_DAC_READ_SEARCH):
        return True
    # Execution needs an execute bit for someone, even for root.
    return (not mask & MAY_EXEC or bool(mode & 0o111)) and creds.capable(CAP_DAC_OVERRIDE)


def check(creds: Creds, inode: Inode, mask: int) -> None:
    """inode_permission(): EACCES unless allowed(); nobody writes what is immutable (EPERM)."""
    if mask & MAY_WRITE and inode.iflags & _IMMUTABLE:
        raise err(errno.EPERM)
    if not allowed(creds, inode, mask):
        raise err(errno.EACCES)


def owner_or_capable(creds: Creds, inode: Inode) -> bool:
    """inode_owner_or_capable(): chmod, utimes with times, O_NOATIME, sticky deletion."""
    return creds.fsuid == inode.uid or creds.capable(CAP_FOWNER)


def check_fixed(inode: Inode) -> None:
    """EPERM for an immutable or append-only file: its name and attributes stay."""
    if inode.iflags & (_IMMUTABLE | _APPEND):
        raise err(errno.EPERM)


def check_append(inode: Inode) -> None:
    """EPERM for an append-only file or directory."""
    if inode.iflags & _APPEND:
        raise err(errno.EPERM)


def check_sticky(creds: Creds, directory: Inode, victim: Inode) -> None:
    """EPERM where a sticky directory protects the victim (check_sticky() in fs/namei.c)."""
    if (
        directory.mode & S_ISVTX
        and creds.fsuid not in (victim.uid, directory.uid)
        and not creds.capable(CAP_FOWNER)
    ):
        raise err(errno.EPERM)


def owner_of_new(creds: Creds, directory: Inode, mode: int) -> tuple[int, int, int]:
    """(mode, uid, gid) of a new object in `directory`: setgid directories hand down their group, and the bit
    itself to directories (inode_init_owner(), mode_strip_sgid() in fs/inode.c). `mode` has the type bits."""
    if not directory.mode & S_ISGID:
        return mode, creds.fsuid, creds.fsgid
    gid = directory.gid
    if mode & S_IFMT == S_IFDIR:
        mode |= S_ISGID
    elif (
        mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP
        and not in_group(creds, gid)
        and not creds.capable(CAP_FSETID)
    ):
        mode &= ~S_ISGID
    return mode, creds.fsuid, gid
