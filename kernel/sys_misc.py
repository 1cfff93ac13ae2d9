"""The rest: prctl, priorities, host names, clocks.

Layer: the pretend kernel, a family of system calls.  May touch: the world page (uname), the calling task.
"""

from __future__ import annotations

import errno
import os
import struct

from ..vfs.inode import err
from .handlers import NATIVE, syscall

_ADJ_ADJTIME, _ADJ_READ = 0x8000, 0xA001  # adjtime(3), and with ADJ_OFFSET_READONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handlers import Result
    from .task import Task


@syscall("prctl")
def sys_prctl(t: Task, option: int, a: int, b: int, c: int, d: int) -> Result:
    """prctl(2): what is virtual because credentials are; the core answers the rest."""
    process = t.process
    if option == 3:  # PR_GET_DUMPABLE
        return process.dumpable
    if option == 38:  # PR_SET_NO_NEW_PRIVS, of a thread: the core knows of which
        process.no_new_privs = True
        return 0
    if option == 4:  # PR_SET_DUMPABLE: virtual, or the supervisor could not look into the guest any more
        if a not in (0, 1):
            raise err(errno.EINVAL)
        process.dumpable = a
        return 0
    if option == 7:  # PR_GET_KEEPCAPS
        return int(t.creds.keepcaps)
    if option == 8:  # PR_SET_KEEPCAPS
        if a > 1:
            raise err(errno.EINVAL)
        new = t.creds.copy()
        new.keepcaps = bool(a)
        t.creds = new
        return 0
    if option == 23:  # PR_CAPBSET_READ
        if a > 40:
            raise err(errno.EINVAL)
        return 1
    if option == 27:  # PR_GET_SECUREBITS
        return 0
    if option == 47:  # PR_CAP_AMBIENT: the set is empty and stays so
        if a == 1 and b <= 40:
            return 0
        if a == 4:
            return 0
        raise err(errno.EPERM if a in (2, 3) and b <= 40 else errno.EINVAL)
    if option in (65, 66) and not (a or b or c or d):  # PR_SET_MDWE, PR_GET_MDWE: none is set
        return 0
    if option in (24, 28):  # PR_CAPBSET_DROP, PR_SET_SECUREBITS
        t.sandbox.log(
            f"prctl({option}): the bounding set and securebits are not virtual yet; refused (EPERM)"
        )
        raise err(errno.EPERM)
    raise err(errno.EINVAL)


@syscall("sethostname")
def sys_sethostname(t: Task, name: bytes | None, length: int) -> Result:
    """sethostname(2): the sandbox's, as uname(2) tells it."""
    return _set_name(t, "hostname", name, length)


@syscall("setdomainname")
def sys_setdomainname(t: Task, name: bytes | None, length: int) -> Result:
    """setdomainname(2)"""
    return _set_name(t, "domainname", name, length)


def _set_name(t: Task, which: str, name: bytes | None, length: int) -> Result:
    if not t.creds.capable(21):  # CAP_SYS_ADMIN
        raise err(errno.EPERM)
    if not 0 <= length <= 64:
        raise err(errno.EINVAL)
    if name is None:
        raise err(errno.EFAULT)
    setattr(t.sandbox, which, os.fsdecode(name))
    t.sandbox.write_uts()
    return 0


@syscall("adjtimex")
def sys_adjtimex(t: Task, timex: bytes | None) -> Result:
    """adjtimex(2): reading is the host's affair, setting is refused."""
    return _adjust(timex)


def _adjust(timex: bytes | None) -> Result:
    if timex is None:
        raise err(errno.EFAULT)
    modes = struct.unpack_from("<I", timex)[0]
    if modes & _ADJ_ADJTIME and not modes & 1:  # ADJ_OFFSET_SINGLESHOT is of both
        raise err(errno.EINVAL)
    if modes & _ADJ_READ != _ADJ_READ and modes:
        raise err(errno.EPERM)
    return NATIVE


@syscall("clock_adjtime")
def sys_clock_adjtime(t: Task, clock: int, timex: bytes | None) -> Result:
    """clock_adjtime(2): of the clocks that there are, CLOCK_REALTIME alone can be adjusted."""
    if timex is None:
        raise err(errno.EFAULT)
    if clock != 0:
        exists = clock in (*range(1, 10), 11) or (clock < 0 and clock & 3 != 3)
        raise err(errno.EOPNOTSUPP if exists else errno.EINVAL)
    return _adjust(timex)
