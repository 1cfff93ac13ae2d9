"""Identity: user and group ids, supplementary groups, capabilities.  All of them virtual.

Layer: the pretend kernel, a family of system calls.  May touch: the credentials of the calling task.
Rules after kernel/sys.c, kernel/groups.c, kernel/capability.c and security/commoncap.c.
"""

from __future__ import annotations

import errno
import struct

from ..vfs.inode import err
from .handlers import Out, syscall
from .task import Credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handlers import Result
    from .task import Task

CAP_SETGID, CAP_SETUID = 6, 7
_NOBODY = 0xFFFFFFFF


def _commit(t: Task, new: Credentials, ret: int = 0) -> Out:
    """Install new credentials; cap_emulate_setxuid() adjusts the capabilities."""
    old = t.creds
    roots_before = 0 in (old.uid, old.euid, old.suid)
    roots_after = 0 in (new.uid, new.euid, new.suid)
    if roots_before and not roots_after and not old.keepcaps:
        new.caps = 0
    elif old.euid == 0 and new.euid != 0:
        new.caps = 0
    elif old.euid != 0 and new.euid == 0:
        new.caps = Credentials.ALL
    t.creds = new
    if t.tid == t.process.pid:
        t.process.main_creds = new
    t.sandbox.note_uid(new.uid)
    return Out(ret, creds=True)


@syscall("getresuid")
def sys_getresuid(t: Task, ruid: int, euid: int, suid: int) -> Result:
    """getresuid(2)"""
    c = t.creds
    return Out(0, [(a, struct.pack("<I", v)) for a, v in ((ruid, c.uid), (euid, c.euid), (suid, c.suid))])


@syscall("getresgid")
def sys_getresgid(t: Task, rgid: int, egid: int, sgid: int) -> Result:
    """getresgid(2)"""
    c = t.creds
    return Out(0, [(a, struct.pack("<I", v)) for a, v in ((rgid, c.gid), (egid, c.egid), (sgid, c.sgid))])


@syscall("setuid")
def sys_setuid(t: Task, uid: int) -> Result:
    """setuid(2)"""
    uid &= _NOBODY
    if uid == _NOBODY:
        raise err(errno.EINVAL)
    new = t.creds.copy()
    if t.creds.capable(CAP_SETUID):
        new.uid = new.suid = uid
    elif uid not in (new.uid, new.suid):
        raise err(errno.EPERM)
    new.euid = new.fsuid = uid
    return _commit(t, new)


@syscall("setgid")
def sys_setgid(t: Task, gid: int) -> Result:
    """setgid(2)"""
    gid &= _NOBODY
    if gid == _NOBODY:
        raise err(errno.EINVAL)
    new = t.creds.copy()
    if t.creds.capable(CAP_SETGID):
        new.gid = new.sgid = gid
    elif gid not in (new.gid, new.sgid):
        raise err(errno.EPERM)
    new.egid = new.fsgid = gid
    return _commit(t, new)


@syscall("setreuid")
def sys_setreuid(t: Task, ruid: int, euid: int) -> Result:
    """setreuid(2)"""
    ruid, euid = ruid & _NOBODY, euid & _NOBODY
    old, new = t.creds, t.creds.copy()
    able = old.capable(CAP_SETUID)
    if ruid != _NOBODY:
        if not able and ruid not in (old.uid, old.euid):
            raise err(errno.EPERM)
        new.uid = ruid
    if euid != _NOBODY:
        if not able and euid not in (old.uid, old.euid, old.suid):
            raise err(errno.EPERM)
        new.euid = euid
    if ruid != _NOBODY or (euid != _NOBODY and euid != old.uid):
        new.suid = new.euid
    new.fsuid = new.euid
    return _commit(t, new)


@syscall("setregid")
def sys_setregid(t: Task, rgid: int, egid: int) -> Result:
    """setregid(2)"""
    rgid, egid = rgid & _NOBODY, egid & _NOBODY
    old, new = t.creds, t.creds.copy()
    able = old.capable(CAP_SETGID)
    if rgid != _NOBODY:
        if not able and rgid not in (old.gid, old.egid):
            raise err(errno.EPERM)
        new.gid = rgid
    if egid != _NOBODY:
        if not able and egid not in (old.gid, old.egid, old.sgid):
            raise err(errno.EPERM)
        new.egid = egid
    if rgid != _NOBODY or (egid != _NOBODY and egid != old.gid):
        new.sgid = new.egid
    new.fsgid = new.egid
    return _commit(t, new)


@syscall("setresuid")
def sys_setresuid(t: Task, ruid: int, euid: int, suid: int) -> Result:
    """setresuid(2)"""
    old, new = t.creds, t.creds.copy()
    for name, value in (("uid", ruid), ("euid", euid), ("suid", suid)):
        value &= _NOBODY
        if value == _NOBODY:
            continue
        if not old.capable(CAP_SETUID) and value not in (old.uid, old.euid, old.suid):
            raise err(errno.EPERM)
        setattr(new, name, value)
    new.fsuid = new.euid
    return _commit(t, new)


@syscall("setresgid")
def sys_setresgid(t: Task, rgid: int, egid: int, sgid: int) -> Result:
    """setresgid(2)"""
    old, new = t.creds, t.creds.copy()
    for name, value in (("gid", rgid), ("egid", egid), ("sgid", sgid)):
        value &= _NOBODY
        if value == _NOBODY:
            continue
        if not old.capable(CAP_SETGID) and value not in (old.gid, old.egid, old.sgid):
            raise err(errno.EPERM)
        setattr(new, name, value)
    new.fsgid = new.egid
    return _commit(t, new)


#: what privilege over files is (include/linux/capability.h): CHOWN to FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE
_CAP_FS_SET = 0b11111 | 1 << 9 | 1 << 27 | 1 << 32


@syscall("setfsuid")
def sys_setfsuid(t: Task, uid: int) -> Result:
    """setfsuid(2): always returns the previous value."""
    old, uid = t.creds, uid & _NOBODY
    if uid == _NOBODY or not (old.capable(CAP_SETUID) or uid in (old.uid, old.euid, old.suid, old.fsuid)):
        return old.fsuid
    new = old.copy()
    new.fsuid = uid
    # cap_task_fix_setuid() in security/commoncap.c
    if old.fsuid == 0 and uid != 0:
        new.caps &= ~_CAP_FS_SET
    elif old.fsuid != 0 and uid == 0 and 0 in (old.uid, old.euid, old.suid):
        new.caps |= _CAP_FS_SET
    return _commit(t, new, old.fsuid)


@syscall("setfsgid")
def sys_setfsgid(t: Task, gid: int) -> Result:
    """setfsgid(2): always returns the previous value."""
    old, gid = t.creds, gid & _NOBODY
    if gid == _NOBODY or not (old.capable(CAP_SETGID) or gid in (old.gid, old.egid, old.sgid, old.fsgid)):
        return old.fsgid
    new = old.copy()
    new.fsgid = gid
    return _commit(t, new, old.fsgid)


@syscall("getgroups")
def sys_getgroups(t: Task, size: int, address: int) -> Result:
    """getgroups(2)"""
    groups = t.creds.groups
    if size < 0:
        raise err(errno.EINVAL)
    if size == 0:
        return len(groups)
    if size < len(groups):
        raise err(errno.EINVAL)
    return Out(len(groups), [(address, struct.pack(f"<{len(groups)}I", *groups))] if groups else [])


@syscall("setgroups")
def sys_setgroups(t: Task, size: int, address: int) -> Result:
    """setgroups(2)"""
    if not t.creds.capable(CAP_SETGID):
        raise err(errno.EPERM)
    if not 0 <= size <= 65536:
        raise err(errno.EINVAL)
    new = t.creds.copy()
    new.groups = tuple(sorted(struct.unpack(f"<{size}I", t.peek(address, 4 * size)))) if size else ()
    return _commit(t, new)


# -- capabilities: the three versions of capget(2)'s header --------------------------------------------------------

_VERSION = 0x20080522  # what is answered to whoever names none of them
_VERSIONS = {0x19980330: 1, 0x20071026: 2, _VERSION: 2}


def _header(t: Task, address: int) -> tuple[int, int]:
    """(how many data structs, pid) of a capget or capset header."""
    version, pid = struct.unpack("<Ii", t.peek(address, 8))
    return _VERSIONS.get(version, 0), pid


@syscall("capget")
def sys_capget(t: Task, header: int, data: int) -> Result:
    """capget(2)"""
    count, pid = _header(t, header)
    if not count:
        if data:
            t.poke(header, struct.pack("<I", _VERSION))
            raise err(errno.EINVAL)
        return Out(0, [(header, struct.pack("<I", _VERSION))])
    if not data:
        return 0  # nobody asks whose
    if pid < 0:
        raise err(errno.EINVAL)
    creds = t.creds
    if pid not in (0, t.process.pid, t.tid):
        other = t.sandbox.processes.get(pid)
        if other is None:
            raise err(errno.ESRCH)
        creds = other.main_creds
    permitted = Credentials.ALL if 0 in (creds.uid, creds.euid, creds.suid) else creds.caps
    words = [struct.pack("<3I", creds.caps >> s & _NOBODY, permitted >> s & _NOBODY, 0) for s in (0, 32)]
    return Out(0, [(data, b"".join(words[:count]))])


@syscall("capset")
def sys_capset(t: Task, header: int, data: int) -> Result:
    """capset(2): the effective set, within the permitted one."""
    count, pid = _header(t, header)
    if not count:
        t.poke(header, struct.pack("<I", _VERSION))
        raise err(errno.EINVAL)
    if pid not in (0, t.process.pid, t.tid):
        raise err(errno.EPERM)
    words = struct.unpack(f"<{3 * count}I", t.peek(data, 12 * count))
    effective = words[0] | (words[3] << 32 if count == 2 else 0)
    permitted = words[1] | (words[4] << 32 if count == 2 else 0)
    had = Credentials.ALL if 0 in (t.creds.uid, t.creds.euid, t.creds.suid) else t.creds.caps
    inheritable = words[2] | (words[5] << 32 if count == 2 else 0)
    if permitted & ~had or effective & ~permitted or inheritable & ~had:
        raise err(errno.EPERM)
    new = t.creds.copy()
    new.caps = effective & Credentials.ALL
    t.creds = new
    return 0
