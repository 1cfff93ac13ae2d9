"""Whether page zero may be used (--rewrite=zpoline), found by trying it.

Layer: the pretend kernel, beneath images.  May touch: a short-lived child of its own.
"""

from __future__ import annotations

import os

from ._libc import ffi

_PROT_EXEC, _FLAGS = 4, 0x32  # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
_NOT_MAPPED, _READABLE = 1, 2


def refusal(unsafe: bool) -> str:
    """Why page zero is not to be used, as a sentence; "" if it may.  `unsafe`: reads of null may go unnoticed."""
    result = _try()
    if result == _NOT_MAPPED:
        return "--rewrite=zpoline: page zero cannot be mapped here (vm.mmap_min_addr); use --rewrite=detour"
    if result == _READABLE and not unsafe:
        return (
            "--rewrite=zpoline: this processor has no protection keys, so programs would read from null unnoticed; "
            "use --rewrite=detour, or --rewrite=zpoline-unsafe to accept that"
        )
    return ""


def _try() -> int:
    """_NOT_MAPPED, _READABLE, or another number where an execute-only page zero faults when it is read."""
    pid = os.fork()
    if pid == 0:
        code = _NOT_MAPPED
        try:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            at = ffi.dlopen(None).mmap(ffi.NULL, 4096, _PROT_EXEC, _FLAGS, -1, 0)
            if int(ffi.cast("long", at)) == 0:
                code = _READABLE + ffi.cast("unsigned char *", 1)[0] * 0  # or SIGSEGV
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)
