"""A seccomp filter that refuses some calls, as a container's does or an older kernel.

Layer: tests. Touches the process that asks for it, for good.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable

#: refuses the calls in argv[2] with the errno in argv[1], and executes the rest (seccomp(2))
_FILTER = """
import ctypes, os, struct, sys
error, refused = int(sys.argv[1]), [int(x) for x in sys.argv[2].split(",")]
end = len(refused)
code = [(0x20, 0, 0, 0)] + [(0x15, end - i, 0, nr) for i, nr in enumerate(refused)]
code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | error)]
text = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *insn) for insn in code))
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(text)))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, program) == 0
os.execvp(sys.argv[3], sys.argv[3:])
"""


def refusing(numbers: Iterable[int], error: int = errno.EPERM, python: str = sys.executable) -> list[str]:
    """What to write before a command line, so that the host refuses it these calls; by this Python."""
    return [python, "-c", _FILTER, str(error), ",".join(map(str, numbers))]
