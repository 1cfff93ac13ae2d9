"""Forges a sandbox's channel at random for as long as one likes, or jumps into each byte of the core's text.

    python tests/longsuites/forge.py [--seconds 600] [--seed N] [--bytes]

Layer: tests (long). A guest that has taken over its core writes random words, lengths, descriptors, addresses, numbers
and messages into its channel; every twenty seconds the supervisor has to answer a bystander in the same sandbox. The
exit status is 1 when it did not, when a process of the host's was hurt, or when it logged an internal error. What it
prints repeats a round: the seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import begin_suite, my_children, sweep
from hostile.battery import Case, Keeper, cases, check, compile_all

ROUND = 20  # seconds


def one(keeper: Keeper, case: Case, limit: float, **env: str) -> bool:
    """One case in the keeper's sandbox: did it hold?"""
    said = " ".join(f"{name}={value}" for name, value in env.items())
    try:
        answer = keeper.run(case, limit, **env)
        check(answer)
    except AssertionError as e:
        print(f"FAILED {case.name} {said}: {e}", flush=True)
        return False
    first = answer["out"].splitlines()[0]
    print(f"ok {case.name} {said}: {first}, {answer['descriptors']} descriptors", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--bytes", action="store_true", help="jump into each byte of the core's text instead")
    options = parser.parse_args()
    begin_suite()
    known = my_children()
    with tempfile.TemporaryDirectory(prefix="ring3-forge-") as directory:
        Path(directory).chmod(0o755)
        compile_all(Path(directory))
        keeper = Keeper(Path(directory))
        if options.bytes:
            jumps = [
                case for case in cases() if case.name.startswith("jump_into") and "channel" not in case.name
            ]
            held = all(one(keeper, case, 3600, HOSTILE_STEP="1") for case in jumps)
        else:
            case = next(case for case in cases() if case.name == "forged_at_random")
            held, end, seed = True, time.monotonic() + options.seconds, options.seed
            while held and time.monotonic() < end:
                held = one(keeper, case, 10 * ROUND, FORGE_SEED=str(seed), FORGE_SECONDS=str(ROUND))
                seed += 1
        held = keeper.close() == 0 and held
    left = sweep(known)
    if left:
        print("left behind:", *left)
    return 0 if held and not left else 1


if __name__ == "__main__":
    sys.exit(main())
