"""Writes docs/syscalls.md from kernel/table.py and the registered handlers: `python docs/make_syscalls.py`.

Layer: documentation; run from a checkout.  A test (tests/kernel/test_docs.py) fails when the page is stale.
"""

from __future__ import annotations

import errno
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "syscalls.md")

HEAD = """# System calls

Written by `docs/make_syscalls.py` from `kernel/table.py`; not by hand. Every x86-64 call of Linux up to 6.18 is
here; any other number is ENOSYS, as on Linux.

* **core**: answered by the guest core, without the host kernel.
* **kernel**: done by the host kernel on objects that the guest holds; by the supervisor where a descriptor is one that
  Python serves.
* **supervisor**: answered by Python.
* **refused**: the guest gets the errno, the user one line in the log.

| nr | call | lane | arguments | support |
| ---: | --- | --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    from ring3.kernel import families  # noqa: F401  (registers the handlers)
    from ring3.kernel.handlers import HANDLERS
    from ring3.kernel.table import CORE, LANES, REFUSE, SUP, TABLE

    rows = []
    for nr, call in sorted(TABLE.items()):
        lane = LANES[call.lane]
        if call.lane == REFUSE:
            support = f"refused: {errno.errorcode[call.err]}"
        elif call.lane == SUP and call.name not in HANDLERS:
            support = "not yet: ENOSYS"
        elif call.lane == CORE and call.fn == "enosys":
            support = "ENOSYS, as on Linux"
        else:
            support = "full"
        if call.why:
            support = f"{support}: {call.why}" if support != "full" else f"partial: {call.why}"
        kinds = ", ".join(kind if not parameter else f"{kind}:{parameter}" for kind, parameter in call.args)
        rows.append(f"| {nr} | {call.name} | {lane} | {kinds} | {support} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(HERE))
    with open(PAGE, "w", encoding="utf-8") as out:
        out.write(page())
