"""POSIX access control lists: acl(5), fs/posix_acl.c.

Layer: vfs, beneath perm.py and attrops.py. May touch: nothing; an ACL is the bytes of its extended attribute.

A list is kept by the filesystem as the attribute that guests see, system.posix_acl_access or _default: a version and
entries (tag, permissions, id) in the order of acl(5).
"""

from __future__ import annotations

import errno
import struct
from functools import lru_cache

from .inode import err
from .stat import S_IFDIR, S_IFLNK, S_IFMT

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .inode import Inode
    from .perm import Creds

    Entry = tuple[int, int, int]
    Acl = tuple[Entry, ...]

ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
NAMES = (ACCESS, DEFAULT)
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
_ENTRY = struct.Struct("<HHI")
_VERSION = struct.pack("<I", 2)
_UNDEFINED = 0xFFFFFFFF


@lru_cache(maxsize=256)
def parse(value: bytes) -> Acl:
    """The entries, none for a version alone, which takes a list away (posix_acl_from_xattr()). EOPNOTSUPP for another
    version, EINVAL for what is no list (posix_acl_valid())."""
    if len(value) < 4:
        raise err(errno.EINVAL)
    if value[:4] != _VERSION:
        raise err(errno.EOPNOTSUPP)
    if len(value) == 4:
        return ()
    if (len(value) - 4) % 8:
        raise err(errno.EINVAL)
    acl = tuple(_ENTRY.iter_unpack(value[4:]))
    tags = [tag for tag, _, _ in acl]
    order = sorted(tags) == tags and all(tags.count(tag) == 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER))
    known = all(tag in (USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER) for tag in tags)
    needs_mask = USER in tags or GROUP in tags
    if not order or not known or tags.count(MASK) > 1 or (needs_mask and MASK not in tags):
        raise err(errno.EINVAL)
    for tag, perm, ident in acl:
        if perm & ~7 or (tag in (USER, GROUP) and ident == _UNDEFINED):
            raise err(errno.EINVAL)
    return acl


def pack(acl: Acl) -> bytes:
    """The bytes of the attribute."""
    return _VERSION + b"".join(_ENTRY.pack(t, p, i if t in (USER, GROUP) else _UNDEFINED) for t, p, i in acl)


def permits(value: bytes, creds: Creds, inode: Inode, want: int) -> bool:
    """posix_acl_permission(): may `creds`, who do not own the inode, do `want` (MAY_*)?"""
    acl = parse(value)
    mask = next((perm for tag, perm, _ in acl if tag == MASK), 7)
    found = False
    for tag, perm, ident in acl:
        if tag == USER and ident == creds.fsuid:
            return not want & ~(perm & mask)
        if tag in (GROUP_OBJ, GROUP):
            group = inode.gid if tag == GROUP_OBJ else ident
            if creds.fsgid == group or group in creds.groups:
                found = True
                if not want & ~perm:
                    return not want & ~(perm & mask)
        elif tag == OTHER:
            return not found and not want & ~perm
    return False


def mode_of(acl: Acl) -> tuple[int, bool]:
    """posix_acl_equiv_mode(): the permission bits, and whether they say all that the list says."""
    mode, mask = 0, None
    for tag, perm, _ in acl:
        mode |= perm << {USER_OBJ: 6, GROUP_OBJ: 3, OTHER: 0}.get(tag, 12)
        if tag == MASK:
            mask = perm
    mode &= 0o777
    if mask is not None:
        mode = mode & ~0o70 | mask << 3
    return mode, len(acl) == 3


def after_chmod(value: bytes, mode: int) -> bytes:
    """The list when the permission bits become `mode` (__posix_acl_chmod_masq())."""
    acl = parse(value)
    group = MASK if any(tag == MASK for tag, _, _ in acl) else GROUP_OBJ
    new = {USER_OBJ: mode >> 6 & 7, group: mode >> 3 & 7, OTHER: mode & 7}
    return pack(tuple((tag, new.get(tag, perm), ident) for tag, perm, ident in acl))


def inherit(directory: Inode, mode: int, umask: int) -> tuple[int, dict[bytes, bytes]]:
    """What a new object in `directory` gets (posix_acl_create()): its mode, and its lists. `mode` has the type bits;
    the umask counts only where the directory has no default list."""
    default = directory.default_acl
    if default is None or mode & S_IFMT == S_IFLNK:
        return mode & ~umask, {}
    acl = parse(default)
    group = MASK if any(tag == MASK for tag, _, _ in acl) else GROUP_OBJ
    limits = {USER_OBJ: mode >> 6 & 7, group: mode >> 3 & 7, OTHER: mode & 7}
    made = tuple((tag, perm & limits.get(tag, 7), ident) for tag, perm, ident in acl)
    bits, plain = mode_of(made)
    lists = {} if plain else {ACCESS: pack(made)}
    if mode & S_IFMT == S_IFDIR:
        lists[DEFAULT] = default
    return mode & ~0o777 | bits, lists


def give(inode: Inode, lists: dict[bytes, bytes]) -> None:
    """Put inherited lists on a new object."""
    for name, value in lists.items():
        inode.setxattr(name, value, 0)
