"""What ring3 cannot do without, asked of the running kernel.

Part of: ring3 (the front door). May touch: nothing; asking changes nothing.
"""

from __future__ import annotations

import errno

_PR_SET_SYSCALL_USER_DISPATCH = 59
_PR_SYS_DISPATCH_OFF = 0


def sud_errno() -> int:
    """0 if this process could use Syscall User Dispatch, else the errno of the refusal.

    Turning off what is not on succeeds where it exists (Documentation/admin-guide/syscall-user-dispatch.rst)
    and is EINVAL before Linux 5.11.
    """
    from .kernel._libc import ffi

    if ffi.dlopen(None).prctl(_PR_SET_SYSCALL_USER_DISPATCH, _PR_SYS_DISPATCH_OFF, 0, 0, 0) == 0:
        return 0
    return int(ffi.errno) or errno.ENOSYS
