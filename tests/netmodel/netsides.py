"""Random sequences of socket calls, natively in a network namespace and in a guest: the two sides, and the search.

Layer: tests. Starts servant.py twice, as root or where an ordinary user may make namespaces.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import twosides
from harness import ring3_argv
from netcalls import steps, usable
from twosides import Pair

SERVANT = Path(__file__).with_name("servant.py")
AGAIN = 3  # how often the native side may change its mind, before what the guest says is called wrong


class NetPair(Pair):
    """The two sides. What Linux itself does not answer alike each time is no difference."""

    def __init__(self, options: Sequence[str] = ()) -> None:
        servant = [sys.executable, "-I", "-S", str(SERVANT)]
        native = ["unshare", *NAMESPACE, *servant, "--loopback"]
        root = ("-u", "0") if os.geteuid() else ()  # as `unshare -r` makes the native side
        super().__init__({"native": native, "ring3": ring3_argv(servant, *root, *options)})

    def ask(self, steps: Sequence[str]) -> tuple[list[str], list[str]]:
        native, guest = super().ask(steps)
        for _ in range(AGAIN if native != guest else 0):
            if (again := self.ask_one("native", steps)) != native:
                return again, again
        return native, guest


NAMESPACE = ["-n"] if os.geteuid() == 0 else ["-Urn"]


def find_difference(wanted: int, seed: int, options: Sequence[str] = ()) -> tuple[int, str]:
    """How many steps were made, and the first difference, "" for none."""
    both = NetPair(options)
    try:
        return twosides.search(both, twosides.sequences(steps(), usable), wanted, seed)
    finally:
        both.close()
