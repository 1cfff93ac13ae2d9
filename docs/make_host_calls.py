"""Writes docs/host-calls.md from kernel/lockdown.py: `python docs/make_host_calls.py`.

Layer: documentation; run from a checkout.  A test (tests/kernel/test_lockdown.py) fails when the page is stale.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "host-calls.md")

HEAD = """# What a sandbox may ask of the host

Written by `docs/make_host_calls.py` from `kernel/lockdown.py`; not by hand. A process of a sandbox can make these
system calls on the host, from the text of the guest core alone (those that are made most often, from any); any other
number, any other place and any other entrance ends the process (SIGSYS). Where arguments are checked, another one is
EPERM.

| call | why | arguments |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    from ring3.kernel.lockdown import ALL, CHECKED, allowed

    rows = []
    for name, why in sorted(allowed().items()):
        alternatives = []
        for tests in CHECKED.get(name, ((), ""))[0]:
            words = []
            for test in tests:
                masked = "" if test.mask == ALL else f" & {test.mask:#x}"
                values = ", ".join(hex(value) for value in test.values)
                words.append(f"{test.argument}{masked} {'in' if test.among else 'not in'} {{{values}}}")
            alternatives.append(" and ".join(words))
        rows.append(f"| {name} | {why} | {'; or '.join(alternatives)} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(HERE))
    with open(PAGE, "w", encoding="utf-8") as out:
        out.write(page())
