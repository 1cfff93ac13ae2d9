"""The file calls, case by case, in a filesystem of ours and on the host's own tmpfs: the same results and
errnos."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import hostfacts
import pytest
from vfsworlds import WORLDS, NativeWorld, VfsWorld, tree

W, C, X, T, A = os.O_WRONLY, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND
RW, DIR, NOFOLLOW = os.O_RDWR, os.O_DIRECTORY, os.O_NOFOLLOW
LONG = b"n" * 255
TOO_LONG = b"n" * 256
NOREPLACE, EXCHANGE = 1, 2
ALICE, BOB = 1234, 1235

Step = tuple[Any, ...]

# What every scenario starts from: files f and g, directory d with file d/x and directory d/s, links l (to f),
# dl (to d), broken, loop, abs-free paths only.
SETUP: list[Step] = [
    ("write", b"f", W | C, 0o644, b"hello"),
    ("write", b"g", W | C, 0o600, b"other"),
    ("mkdir", b"d"),
    ("mkdir", b"d/s"),
    ("write", b"d/x", W | C, 0o666, b"inner"),
    ("mkdir", b"e"),
    ("symlink", b"f", b"l"),
    ("symlink", b"d", b"dl"),
    ("symlink", b"nothing", b"broken"),
    ("symlink", b"loop", b"loop"),
    ("symlink", b"d/", b"dslash"),
    ("symlink", b"l", b"ll"),
    ("mkfifo", b"p"),
    ("mksock", b"s"),
]

NAMES = [
    b"f",
    b"f/",
    b"f/.",
    b"f/..",
    b"d",
    b"d/",
    b"d/.",
    b"d/..",
    b".",
    b"..",
    b"d/s/..",
    b"no",
    b"no/",
    b"no/x",
    b"f/x",
    b"l",
    b"l/",
    b"dl",
    b"dl/",
    b"dl/.",
    b"dl/x",
    b"dl/no",
    b"broken",
    b"broken/",
    b"broken/x",
    b"loop",
    b"loop/",
    b"loop/x",
    b"dslash",
    b"dslash/x",
    b"ll",
    b"ll/",
    b"p",
    b"p/",
    b"s",
    b"s/x",
    b"e",
    b"e/",
    b"d//x",
    b"./d/./x",
    LONG,
    TOO_LONG,
    TOO_LONG + b"/x",
    b"d/" + TOO_LONG,
    b"//d",
    b"/",
]

SCENARIOS: dict[str, list[Step]] = {}
for _name in NAMES:
    _n = _name.decode()[:20]
    SCENARIOS[f"stat {_n}"] = [("stat", _name), ("stat", _name, False), ("readlink", _name), ("list", _name)]
    SCENARIOS[f"mkdir {_n}"] = [("mkdir", _name)]
    SCENARIOS[f"rmdir {_n}"] = [("rmdir", _name)]
    SCENARIOS[f"unlink {_n}"] = [("unlink", _name)]
    SCENARIOS[f"symlink {_n}"] = [("symlink", b"f", _name)]
    SCENARIOS[f"mkfifo {_n}"] = [("mkfifo", _name)]
    SCENARIOS[f"link to {_n}"] = [("link", b"f", _name)]
    SCENARIOS[f"link from {_n}"] = [("link", _name, b"new")]
    SCENARIOS[f"rename to {_n}"] = [("rename", b"f", _name)]
    SCENARIOS[f"rename d to {_n}"] = [("rename", b"d", _name)]
    SCENARIOS[f"rename e to {_n}"] = [("rename", b"e", _name)]
    SCENARIOS[f"rename from {_n}"] = [("rename", _name, b"new")]
    SCENARIOS[f"rename slash from {_n}"] = [("rename", _name, b"new/")]
    SCENARIOS[f"noreplace {_n}"] = [("rename", b"f", _name, NOREPLACE)]
    SCENARIOS[f"exchange {_n}"] = [("rename", b"d/x", _name, EXCHANGE)]
    SCENARIOS[f"exchange d {_n}"] = [("rename", b"d", _name, EXCHANGE)]
    SCENARIOS[f"truncate {_n}"] = [("truncate", _name, 2)]
    SCENARIOS[f"chmod {_n}"] = [("chmod", _name, 0o704)]
    SCENARIOS[f"utime {_n}"] = [("utime", _name, 1_000_000_001, 5_123_456_789)]
    SCENARIOS[f"access {_n}"] = [("access", _name, 7), ("access", _name, 4)]
    SCENARIOS[f"read {_n}"] = [("read", _name), ("read", _name, NOFOLLOW), ("read", _name, DIR)]
    SCENARIOS[f"rdwr {_n}"] = [("read", _name, RW)] if _name != b"p" else []
    for _flags, _label in (
        (C, "creat"),
        (C | X, "excl"),
        (C | T, "creat trunc"),
        (T, "trunc"),
        (C | NOFOLLOW, "nofollow"),
        (C | DIR, "creat dir"),
        (A, "append"),
        (DIR, "dir"),
        (C | X | NOFOLLOW, "excl nofollow"),
    ):
        if _name.rstrip(b"/") != b"p":  # opening a FIFO for writing waits
            SCENARIOS[f"{_label} {_n}"] = [("write", _name, W | _flags, 0o640, b"new")]

SCENARIOS |= {
    "rename file over file": [("rename", b"f", b"g"), ("read", b"g"), ("stat", b"f")],
    "rename onto hard link": [("link", b"f", b"h"), ("rename", b"f", b"h"), ("stat", b"f"), ("unlink", b"f")],
    "rename into itself": [
        ("rename", b"d", b"d/s/new"),
        ("rename", b"d", b"d/new"),
        ("rename", b"d/s", b"d"),
    ],
    "rename dir over empty": [("rename", b"d", b"e"), ("list", b"e"), ("stat", b".")],
    "rename dir over full": [("rename", b"e", b"d"), ("rename", b"e", b"d/s")],
    "rename moves the cwd's children": [
        ("rename", b"d", b"e/d2"),
        ("read", b"e/d2/x"),
        ("stat", b"e/d2/s/.."),
    ],
    "exchange": [
        ("rename", b"f", b"d", EXCHANGE),
        ("stat", b"f"),
        ("read", b"d"),
        ("read", b"f/x"),
        ("stat", b"."),
    ],
    "exchange dirs": [
        ("rename", b"d", b"e", EXCHANGE),
        ("list", b"d"),
        ("list", b"e"),
        ("stat", b"d"),
        ("stat", b"e"),
    ],
    "exchange up": [
        ("rename", b"d/s", b"e", EXCHANGE),
        ("rename", b"d", b"d/x", EXCHANGE),
        ("rename", b"d/s", b"d", EXCHANGE),
    ],
    "bad rename flags": [("rename", b"f", b"g", 8), ("rename", b"f", b"g", 3), ("rename", b"f", b"g", 6)],
    "hard links": [
        ("link", b"f", b"h"),
        ("stat", b"h"),
        ("write", b"h", W | A, 0, b"!"),
        ("read", b"f"),
        ("unlink", b"f"),
        ("stat", b"h"),
        ("link", b"l", b"l2"),
        ("stat", b"l2", False),
    ],
    "link count of directories": [
        ("mkdir", b"d/t"),
        ("stat", b"d"),
        ("rmdir", b"d/s"),
        ("stat", b"d"),
        ("rename", b"d/t", b"t"),
        ("stat", b"d"),
        ("stat", b"."),
        ("rename", b"t", b"e"),
        ("stat", b"."),
    ],
    "name reuse": [
        ("unlink", b"f"),
        ("mkdir", b"f"),
        ("write", b"f/y", W | C, 0o644, b"1"),
        ("unlink", b"f"),
        ("rmdir", b"f"),
        ("unlink", b"f/y"),
        ("rmdir", b"f"),
        ("write", b"f", W | C, 0o644, b"2"),
        ("read", b"f"),
    ],
    "truncate": [
        ("truncate", b"f", 2),
        ("read", b"f"),
        ("truncate", b"f", 10),
        ("read", b"f"),
        ("truncate", b"f", 0),
        ("stat", b"f"),
        ("truncate", b"f", 1 << 40),
        ("stat", b"f"),
    ],
    "forty links": [("symlink", b"f", b"k0")]
    + [("symlink", b"k%d" % i, b"k%d" % (i + 1)) for i in range(41)]
    + [("read", b"k39"), ("read", b"k40"), ("read", b"k41"), ("stat", b"k41", False)],
    "setgid directory": [
        ("chmod", b"d", 0o2777),
        ("mkdir", b"d/n"),
        ("stat", b"d/n"),
        ("write", b"d/m", W | C, 0o644, b""),
        ("stat", b"d/m"),
    ],
    "umask": [("mkdir", b"n", 0o7777), ("stat", b"n"), ("write", b"m", W | C, 0o7777, b""), ("stat", b"m")],
    "xattrs": [
        ("setxattr", b"f", b"user.a", b"1", 0),
        ("getxattr", b"f", b"user.a"),
        ("listxattr", b"f"),
        ("setxattr", b"f", b"user.a", b"2", 1),
        ("setxattr", b"f", b"user.b", b"2", 2),
        ("setxattr", b"f", b"user.a", b"", 2),
        ("getxattr", b"f", b"user.a"),
        ("getxattr", b"f", b"user.no"),
        ("removexattr", b"f", b"user.a"),
        ("removexattr", b"f", b"user.a"),
        ("listxattr", b"f"),
        ("setxattr", b"f", b"nope", b"1", 0),
        ("setxattr", b"f", b"user.", b"1", 0),
        ("setxattr", b"p", b"user.a", b"1", 0),
        ("getxattr", b"p", b"user.a"),
        ("getxattr", b"f", b"bogus.x"),
        ("setxattr", b"d", b"user.d", b"1", 0),
        ("listxattr", b"d"),
    ],
    "old times": [("utime", b"f", -5_000_000_001, -1), ("utime", b"d", 1, 2), ("utime", b"l", 10**18, 3)],
}

# As root natively: (uid, step).
USERS: dict[str, list[tuple[int | None, Step]]] = {
    "others may not": [
        (None, ("chmod", b"f", 0o600)),
        (ALICE, ("read", b"f")),
        (ALICE, ("write", b"f", W, 0, b"x")),
        (ALICE, ("chmod", b"f", 0o666)),
        (ALICE, ("truncate", b"f", 0)),
        (ALICE, ("touch", b"f")),
        (ALICE, ("utime", b"f", 1, 2)),
        (ALICE, ("chown", b"f", ALICE, -1)),
        (ALICE, ("unlink", b"f")),
        (ALICE, ("mkdir", b"n")),
        (ALICE, ("write", b"n", W | C, 0o644, b"")),
        (ALICE, ("rename", b"f", b"n")),
        (ALICE, ("symlink", b"f", b"n")),
        (ALICE, ("rmdir", b"e")),
        (ALICE, ("link", b"g", b"n")),
        (ALICE, ("access", b"f", 4)),
        (ALICE, ("access", b"d", 5)),
        (ALICE, ("access", b"d", 2)),
        (ALICE, ("setxattr", b"f", b"user.a", b"1", 0)),
        (ALICE, ("getxattr", b"f", b"user.a")),
    ],
    "world writable": [
        (None, ("chmod", b"f", 0o666)),
        (ALICE, ("write", b"f", W, 0, b"x")),
        (ALICE, ("touch", b"f")),
        (ALICE, ("utime", b"f", 1, 2)),
        (ALICE, ("truncate", b"f", 0)),
        (ALICE, ("chmod", b"f", 0o600)),
        (ALICE, ("setxattr", b"f", b"user.a", b"1", 0)),
        (ALICE, ("setxattr", b"f", b"trusted.a", b"1", 0)),
        (ALICE, ("getxattr", b"f", b"trusted.a")),
        (None, ("setxattr", b"f", b"trusted.a", b"1", 0)),
        (ALICE, ("listxattr", b"f")),
        (None, ("listxattr", b"f")),
    ],
    "search permission": [
        (None, ("chmod", b"d", 0o644)),
        (ALICE, ("stat", b"d/x")),
        (ALICE, ("stat", b"d/no")),
        (ALICE, ("list", b"d")),
        (ALICE, ("stat", b"d/.")),
        (ALICE, ("stat", b"d/..")),
        (ALICE, ("stat", b"dl/x")),
        (None, ("chmod", b"d", 0o711)),
        (ALICE, ("stat", b"d/x")),
        (ALICE, ("list", b"d")),
        (None, ("chmod", b"d", 0)),
        (None, ("stat", b"d/x")),
        (None, ("list", b"d")),
    ],
    "sticky": [
        (None, ("mkdir", b"t")),
        (None, ("chmod", b"t", 0o1777)),
        (ALICE, ("write", b"t/a", W | C, 0o666, b"a")),
        (ALICE, ("mkdir", b"t/ad")),
        (BOB, ("unlink", b"t/a")),
        (BOB, ("rmdir", b"t/ad")),
        (BOB, ("rename", b"t/a", b"t/b")),
        (BOB, ("write", b"t/b", W | C, 0o666, b"b")),
        (BOB, ("rename", b"t/b", b"t/a")),
        (ALICE, ("rename", b"t/a", b"t/b")),
        (ALICE, ("rename", b"t/a", b"t/c")),
        (BOB, ("rename", b"t/b", b"t/c", EXCHANGE)),
        (ALICE, ("unlink", b"t/c")),
        (None, ("unlink", b"t/b")),
        (ALICE, ("setxattr", b"t", b"user.a", b"1", 0)),
    ],
    "chown": [
        (None, ("chown", b"f", ALICE, BOB)),
        (ALICE, ("chown", b"f", BOB, -1)),
        (ALICE, ("chown", b"f", ALICE, -1)),
        (ALICE, ("chown", b"f", -1, BOB)),
        (ALICE, ("chown", b"f", -1, ALICE)),
        (ALICE, ("chown", b"f", -1, 99)),
        (ALICE, ("chown", b"f", -1, -1)),
        (BOB, ("chown", b"f", -1, -1)),
        (BOB, ("chown", b"f", BOB, BOB)),
        (ALICE, ("stat", b"f")),
        (None, ("chown", b"l", 7, 8, False)),
        (None, ("stat", b"l", False)),
    ],
    "set-id bits": [
        (None, ("chown", b"f", ALICE, ALICE)),
        (ALICE, ("chmod", b"f", 0o6755)),
        (ALICE, ("stat", b"f")),
        (ALICE, ("chown", b"f", -1, -1)),
        (ALICE, ("stat", b"f")),
        (None, ("chmod", b"f", 0o6755)),
        (None, ("chown", b"f", ALICE, BOB)),
        (None, ("stat", b"f")),
        (ALICE, ("chmod", b"f", 0o2755)),
        (ALICE, ("stat", b"f")),
        (None, ("chmod", b"f", 0o2644)),
        (None, ("chown", b"f", ALICE, BOB)),
        (None, ("stat", b"f")),
        (ALICE, ("chown", b"f", -1, -1)),
        (None, ("stat", b"f")),
        (None, ("chmod", b"f", 0o6777)),
        (BOB, ("truncate", b"f", 1)),
        (None, ("stat", b"f")),
        (None, ("chmod", b"f", 0o6777)),
        (BOB, ("write", b"f", W | T, 0, b"")),
        (None, ("stat", b"f")),
    ],
    "setgid inheritance": [
        (None, ("mkdir", b"t")),
        (None, ("chown", b"t", ALICE, BOB)),
        (None, ("chmod", b"t", 0o2777)),
        (ALICE, ("mkdir", b"t/d")),
        (ALICE, ("stat", b"t/d")),
        (ALICE, ("write", b"t/f", W | C, 0o2755, b"")),
        (ALICE, ("stat", b"t/f")),
        (ALICE, ("write", b"t/g", W | C, 0o2644, b"")),
        (ALICE, ("stat", b"t/g")),
        (None, ("write", b"t/h", W | C, 0o2755, b"")),
        (None, ("stat", b"t/h")),
        (ALICE, ("symlink", b"x", b"t/l")),
        (ALICE, ("stat", b"t/l", False)),
        (ALICE, ("mkfifo", b"t/p")),
        (ALICE, ("stat", b"t/p")),
    ],
    "owner class counts first": [
        (None, ("chown", b"f", ALICE, ALICE)),
        (None, ("chmod", b"f", 0o066)),
        (ALICE, ("read", b"f")),
        (BOB, ("read", b"f")),
        (None, ("chmod", b"f", 0o606)),
        (BOB, ("read", b"f")),
        (None, ("chown", b"f", 0, ALICE)),
        (ALICE, ("read", b"f")),
        (None, ("access", b"f", 1)),
        (None, ("chmod", b"f", 0o001)),
        (None, ("access", b"f", 1)),
    ],
    "created without permission to itself": [
        (None, ("chmod", b"e", 0o777)),
        (ALICE, ("write", b"e/r", RW | C | X, 0o444, b"data")),
        (ALICE, ("write", b"e/r", W, 0, b"no")),
        (ALICE, ("read", b"e/r")),
        (ALICE, ("write", b"e/z", W | C, 0, b"d")),
        (ALICE, ("read", b"e/z")),
        (None, ("read", b"e/z")),
    ],
    "rename needs the directory itself": [
        (None, ("chmod", b".", 0o777)),
        (None, ("chmod", b"e", 0o777)),
        (ALICE, ("rename", b"d", b"e/d")),
        (ALICE, ("rename", b"d", b"d2")),
        (ALICE, ("rename", b"f", b"e/f")),
        (ALICE, ("rename", b"d2/x", b"x")),
        (None, ("chmod", b".", 0o755)),
    ],
    "O_NOATIME": [(ALICE, ("read", b"f", os.O_NOATIME)), (None, ("read", b"f", os.O_NOATIME))],
}


def scenario_steps(name: str) -> list[tuple[int | None, Step]]:
    return USERS[name] if name in USERS else [(None, s) for s in SCENARIOS[name]]


def play(world: NativeWorld | VfsWorld, name: str) -> list[Any]:
    """The outcome of every step, and the tree that is left."""
    for step in SETUP:
        assert world.call(*step)[0] == "ok", step
    outcomes: list[Any] = [(step, world.call(*step, uid=uid)) for uid, step in scenario_steps(name)]
    outcomes.append(("tree", world.as_user(None, lambda: tree(world))))
    return outcomes


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest) -> Iterator[VfsWorld]:
    made = WORLDS[request.param]()
    yield made
    made.close()


@functools.cache
def expected(name: str) -> list[Any]:
    """What the host's own tmpfs does."""
    native = NativeWorld()
    try:
        return play(native, name)
    finally:
        native.close()


def compare(world: VfsWorld, name: str) -> None:
    for have, want in zip(play(world, name), expected(name), strict=True):
        assert have == want


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_same_as_linux(world: VfsWorld, name: str) -> None:
    compare(world, name)


@pytest.mark.skipif(bool(hostfacts.not_root()), reason=f"changes its user id: {hostfacts.not_root()}")
@pytest.mark.parametrize("name", sorted(USERS))
def test_permissions_same_as_linux(world: VfsWorld, name: str) -> None:
    compare(world, name)
