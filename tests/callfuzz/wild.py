"""Any call with any argument in a guest: nothing is compared, all has to be survived.

Layer: tests. servant.c makes the calls under `ring3 run`, half of the sequences as the guest's root.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzzcalls import usable, wild_step
from sides import pair

SIZE = 40  # calls in a sequence
ALIVE = "getpid 39 0 0 0 0 0 0"


def survive(wanted: int, seed: int, options: Sequence[str] = ()) -> tuple[int, str]:
    """Makes `wanted` calls: how many were put to the guest, and what went wrong, "" for nothing: the servant, its guest
    or the supervisor ended or hung, or ring3 reported an error of its own."""
    r = random.Random(seed)
    made = 0
    with pair(options) as both:
        while made < wanted:
            steps = [text for text in (wild_step(r.getrandbits(48)) for _ in range(SIZE)) if usable(text)]
            ordinary = r.randrange(2)
            both.ask_one("ring3", [f"set 20000 {ordinary}", *steps])
            answers = both.ask_one("ring3", ["set 20000 1", ALIVE])
            made += len(steps)
            who = "nobody" if ordinary else "root"
            if not answers or not answers[-1].startswith("exit "):
                return made, "\n".join([*answers, f"after, as {who}:", *steps])
            if complaint := both.complaint():
                return made, "\n".join([complaint, f"after, as {who}:", *steps])
            if answers[-1] != "exit 0 -":  # root has removed what the servant's files need: another world
                assert "exit 3" in answers[-1] and not ordinary, answers
                both.sides.pop("ring3").close()
    return made, ""
