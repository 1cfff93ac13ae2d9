"""Writes docs/hostile.md from the sources of the hostile battery: `python docs/make_hostile.py`.

Layer: documentation; run from a checkout.  A test (tests/hostile/test_battery.py) fails when the page is stale.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "hostile.md")
ABOUT = {
    "entrances": "Entrances into the kernel",
    "core_memory": "The core's memory",
    "channel": "Forged words in the channel",
    "descriptors": "Descriptors",
    "neighbours": "Other processes, and what the host shares by name",
    "paths": "Names",
    "bombs": "Bombs",
}

HEAD = """# The hostile battery

Written by `docs/make_hostile.py` from `tests/hostile/*.c`; not by hand. Each of these {count} attacks fails, and after
each the supervisor lives, a second guest of the same sandbox is served, a process of the host's is unhurt, and the
supervisor's log has no internal error; at the end no process and no changed file is left on the host.

    sh tests/run tests/hostile                                   # all of them
    python tests/longsuites/forge.py --seconds 600 --seed 1      # forged channels for ten minutes
    python tests/longsuites/forge.py --bytes                     # jumps into each byte of the core's text

*Past the core* is by the core's own system call instruction, which is what a program has that has got around it; then
the host kernel's filter decides ([which calls](host-calls.md), [the lock-down](lockdown.md)).
`tests/kernel/test_lockdown.py` makes 119 more calls that way, one by one.
"""


def page() -> str:
    """The whole page."""
    sys.path[:0] = [os.path.join(os.path.dirname(HERE), "tests", *more) for more in ((), ("hostile",))]
    from battery import cases

    found = cases()
    parts = [HEAD.format(count=len(found))]
    program = ""
    for case in found:
        if case.program != program:
            program = case.program
            parts.append(f"\n## {ABOUT[program]}\n\n| case | what it tries | what stands against it |\n")
            parts.append("| --- | --- | --- |\n")
        parts.append(f"| {case.name} | {case.tries} | {case.against} |\n")
    return "".join(parts)


if __name__ == "__main__":
    text = page()
    with open(PAGE, "w", encoding="utf-8") as out:
        out.write(text)
