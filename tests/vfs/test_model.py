"""Random sequences of file calls in a filesystem of ours and on the host's tmpfs at the same time: no
difference."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostfacts
import pytest
from vfsworlds import WORLDS, JailedWorld, VfsWorld, layered_overlay, layered_world, populate, tree

W, C, X, T, A = os.O_WRONLY, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND
NAMES = [b"a", b"b", b"c", b"d", b"d", b"e", b"empty", b"link", b"hard", b"script", b"dirlink", b"pipe"]
FILES = [b"file", b"deep", b"x"]
STEPS = 400

# A random path with ".." may lead anywhere; natively it is tried only in a chroot.
pytestmark = pytest.mark.skipif(
    bool(hostfacts.not_root()), reason=f"the native half is confined by chroot: {hostfacts.not_root()}"
)


def name(rng: random.Random) -> bytes:
    """A path of one to three components, now and then with dots and trailing slashes."""
    parts = [rng.choice(NAMES)]
    while rng.random() < 0.45 and len(parts) < 4:
        parts.append(rng.choice(NAMES + FILES + [b".", b".."]))
    return b"/".join(parts) + (b"/" if rng.random() < 0.05 else b"")


def safe_name(rng: random.Random) -> bytes:
    """A path that is not the FIFO, whose opening for writing would wait."""
    while True:
        path = name(rng)
        if b"pipe" not in path:
            return path


def step(rng: random.Random) -> tuple[Any, ...]:
    one: dict[str, Callable[[], tuple[Any, ...]]] = {
        "mkdir": lambda: (name(rng), rng.choice([0o777, 0o700, 0o1755])),
        "rmdir": lambda: (name(rng),),
        "unlink": lambda: (name(rng),),
        "symlink": lambda: (name(rng), name(rng)),
        "link": lambda: (name(rng), name(rng)),
        "rename": lambda: (name(rng), name(rng), rng.choice([0, 0, 0, 0, 1, 2])),
        "stat": lambda: (name(rng), rng.random() < 0.5),
        "chmod": lambda: (safe_name(rng), rng.choice([0o755, 0o644, 0o700, 0o1777])),
        "chown": lambda: (name(rng), rng.choice([-1, 0, 7]), rng.choice([-1, 0, 8]), rng.random() < 0.5),
        "utime": lambda: (name(rng), rng.randrange(10**18), rng.randrange(10**18)),
        "truncate": lambda: (safe_name(rng), rng.choice([0, 1, 5, 4096, 9000])),
        "write": lambda: (
            safe_name(rng),
            W | rng.choice([0, C, C | X, C | T, A, C | A, T]),
            0o644,
            rng.randbytes(rng.choice([0, 3, 5000])),
        ),
        "read": lambda: (name(rng),),
        "list": lambda: (name(rng),),
        "readlink": lambda: (name(rng),),
        "mkfifo": lambda: (name(rng),),
        "setxattr": lambda: (safe_name(rng), b"user.k", rng.randbytes(3), rng.choice([0, 1, 2])),
        "getxattr": lambda: (safe_name(rng), b"user.k"),
        "removexattr": lambda: (safe_name(rng), b"user.k"),
    }
    weights = {"write": 5, "rename": 5, "mkdir": 4, "link": 2, "unlink": 2, "symlink": 2}
    kind = rng.choices(list(one), [weights.get(k, 1) for k in one])[0]
    return (kind, *one[kind]())


def fifo_like(native: JailedWorld, call: tuple[Any, ...]) -> bool:
    """Would this open a FIFO for writing, and wait?"""
    if call[0] not in ("write",):
        return False
    status, value = native.call("stat", call[1])
    return status == "ok" and value[0] & 0o170000 == 0o010000


def run(native: JailedWorld, world: VfsWorld, seed: int, steps: int) -> None:
    rng = random.Random(seed)
    history: list[Any] = []
    for _ in range(steps):
        call = step(rng)
        if fifo_like(native, call):
            continue
        uid = rng.choice([None, None, None, 7])
        want = native.call(*call, uid=uid)
        have = world.call(*call, uid=uid)
        history.append((call, want))
        assert have == want, f"seed {seed}, step {len(history)}: {call} as {uid} gave {have}, natively {want}"
    assert world.as_user(None, lambda: tree(world)) == native.call("tree"), f"seed {seed}: {history[-20:]}"


@pytest.mark.parametrize("kind", sorted(WORLDS))
@pytest.mark.parametrize("seed", range(4))
def test_random_calls(kind: str, seed: int) -> None:
    native, world = JailedWorld(), WORLDS[kind]()
    try:
        run(native, world, seed, STEPS)
    finally:
        native.close()
        world.close()


@pytest.mark.parametrize("kind", ["cow", "overlay"])
@pytest.mark.parametrize("seed", range(100, 108))
def test_random_calls_on_a_lower_tree(kind: str, seed: int) -> None:
    """The same on a copy-on-write view of a directory, and on layers, that have something in them."""
    native, world = JailedWorld(), layered_world() if kind == "cow" else layered_overlay()
    populate(Path(os.fsdecode(native.base)))
    try:
        run(native, world, seed, STEPS)
    finally:
        native.close()
        world.close()
