"""What a change of a file's bytes or owner takes away: set-id bits and file capabilities.

Layer: vfs, beneath vfs.py and attrops.py. May touch: inodes.

file_remove_privs() and notify_change() of Linux do it at the write itself, of which nobody tells us: what is lost is
settled when somebody opens the file for writing (Inode.write_opened), and goes once the file was written.
"""

from __future__ import annotations

from .perm import CAP_FSETID, in_group
from .stat import S_IFDIR, S_IFMT, S_ISGID, S_ISUID, S_IXGRP

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .inode import Inode
    from .perm import Creds

CAPABILITY = b"security.capability"


def set_id_bits(creds: Creds, inode: Inode) -> int:
    """The bits that a change by `creds` takes (setattr_should_drop_sgid(); set-user-ID always)."""
    mode = inode.mode
    kill = mode & S_ISUID
    if mode & S_ISGID and (mode & S_IXGRP or not (in_group(creds, inode.gid) or creds.capable(CAP_FSETID))):
        kill |= S_ISGID
    return kill


def lost_by_write(creds: Creds, inode: Inode) -> int:
    """The set-id bits that a write by `creds` takes: none with CAP_FSETID (setattr_should_drop_suidgid())."""
    if not inode.mode & (S_ISUID | S_ISGID) or creds.capable(CAP_FSETID):
        return 0
    return set_id_bits(creds, inode)


def remove(creds: Creds, inode: Inode) -> None:
    """The bytes are being changed now, by truncation."""
    kill = lost_by_write(creds, inode)
    if kill:
        inode.setattr(mode=inode.mode & 0o7777 & ~kill)
    remove_capabilities(inode)


def remove_capabilities(inode: Inode) -> None:
    """cap_inode_killpriv()"""
    if inode.mode & S_IFMT != S_IFDIR and inode.has_capabilities:
        inode.removexattr(CAPABILITY)
