"""The contract of a filesystem, for whoever writes one: what programs rely on, checked without a guest.

Layer: top of the vfs, beside tree.py; a part of a user's tests. May touch: the filesystem it is given.

CHECKS are what every filesystem that can be written has to pass, starting from an empty one. contract_more.py has
UNIX_CHECKS, for those with links, owners and attributes too, and READING_CHECKS, for any tree whatever. A check gets
a directory and uses what TreePath and pathlib.Path have in common, so that Linux itself can be asked the same
questions: `CHECKS[name](pathlib.Path("/tmp/empty"))`.

```python
import pytest
from ring3.vfs.contract import CHECKS, run_check

@pytest.mark.parametrize("check", CHECKS)
def test_contract(check):
    run_check(check, lambda: MyFS())        # an empty filesystem that can be written
```
"""

from __future__ import annotations

import errno
import os
import stat

from .inode import SuperBlock
from .memfs import MemoryFS
from .mount import MNT_RELATIME
from .openfile import OpenDir
from .tree import TreePath
from .vfs import Vfs

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Top = Any  # TreePath or pathlib.Path, whose methods are spelt alike
    Check = Callable[[Top], None]

__all__ = ["CHECKS", "entries", "fails", "names", "run_check"]

CHECKS: dict[str, Check] = {}


def _check(function: Check) -> Check:
    CHECKS[function.__name__.strip("_")] = function
    return function


def run_check(check: str | Check, make: Callable[[], SuperBlock], flags: int = MNT_RELATIME) -> None:
    """Run a check (one of CHECKS by its name, or any function) on a fresh filesystem, mounted in a world in memory
    with these flags (MNT_*). Raises AssertionError, or what the filesystem raised and should not have."""
    vfs = Vfs(MemoryFS(mode=0o755))
    top = TreePath(vfs)
    (top / "m").mkdir()
    vfs.mount(make(), b"/m", flags)
    try:
        (CHECKS[check] if isinstance(check, str) else check)(top / "m")
    finally:
        vfs.close()


def fails(number: int, function: Callable[[], object]) -> None:
    """`function()` raises OSError with this errno."""
    try:
        function()
    except OSError as e:
        have = errno.errorcode.get(e.errno or 0, str(e.errno))
        assert e.errno == number, f"{errno.errorcode[number]} was expected, not {have}"
    else:
        raise AssertionError(f"{errno.errorcode[number]} was expected, and it worked")


def names(path: Top) -> list[str]:
    """What a directory lists, in order."""
    return sorted(child.name for child in path.iterdir())


def entries(path: Top) -> dict[str, tuple[int, int]]:
    """What a directory lists: inode number and type bits (0 where they are not told) by name."""
    if isinstance(path, TreePath):
        place = path._place()
        listed = [(os.fsdecode(name), ino, kind) for name, ino, kind in place.inode.readdir()]
    else:
        with os.scandir(path) as found:
            listed = [(e.name, e.inode(), stat.S_IFMT(e.stat(follow_symlinks=False).st_mode)) for e in found]
    known = {name: (ino, kind) for name, ino, kind in listed}
    assert len(known) == len(listed), "a name is listed twice"
    return known


@_check
def _empty_root(top: Top) -> None:
    assert top.is_dir() and names(top) == []
    assert top.stat().st_ino > 0


@_check
def _contents(top: Top) -> None:
    for data in (b"", b"one\n", bytes(range(256)) * 1000):
        (top / "f").write_bytes(data)
        assert (top / "f").read_bytes() == data
        assert (top / "f").stat().st_size == len(data)
    assert stat.S_ISREG((top / "f").stat().st_mode)


@_check
def _missing_names(top: Top) -> None:
    (top / "f").write_bytes(b"")
    fails(errno.ENOENT, lambda: (top / "none").stat())
    fails(errno.ENOENT, lambda: (top / "none").read_bytes())
    fails(errno.ENOENT, lambda: (top / "none").unlink())
    fails(errno.ENOENT, lambda: (top / "none/f").write_bytes(b""))
    fails(errno.ENOTDIR, lambda: (top / "f/x").stat())
    fails(errno.EEXIST, lambda: (top / "f").open("x"))


@_check
def _writing_in_place(top: Top) -> None:
    (top / "f").write_bytes(b"0123456789")
    with (top / "f").open("r+b", 0) as f:
        f.seek(3)
        f.write(b"abc")
    assert (top / "f").read_bytes() == b"012abc6789"
    with (top / "f").open("ab", 0) as f:
        f.write(b"!")
    assert (top / "f").read_bytes() == b"012abc6789!"
    with (top / "f").open("r+b", 0) as f:
        f.truncate(4)
    assert (top / "f").read_bytes() == b"012a"
    with (top / "f").open("r+b", 0) as f:
        f.seek(6)
        f.write(b"x")
    assert (top / "f").read_bytes() == b"012a\0\0x"


@_check
def _readers_see_writes(top: Top) -> None:
    with (top / "f").open("wb", 0) as w, (top / "f").open("rb", 0) as r:
        w.write(b"one")
        assert r.read(10) == b"one"
        assert (top / "f").stat().st_size == 3


@_check
def _directories(top: Top) -> None:
    (top / "d/e").mkdir(parents=True)
    assert (top / "d").is_dir() and names(top) == ["d"] and names(top / "d") == ["e"]
    fails(errno.EEXIST, lambda: (top / "d").mkdir())
    fails(errno.ENOTEMPTY, lambda: (top / "d").rmdir())
    fails(errno.EISDIR, lambda: (top / "d").unlink())
    fails(errno.EISDIR, lambda: (top / "d").write_bytes(b""))
    (top / "d/e").rmdir()
    (top / "d").rmdir()
    assert names(top) == []
    (top / "f").write_bytes(b"")
    fails(errno.ENOTDIR, lambda: (top / "f").rmdir())


@_check
def _removing(top: Top) -> None:
    (top / "f").write_bytes(b"x")
    (top / "f").unlink()
    assert not (top / "f").exists() and names(top) == []
    (top / "f").write_bytes(b"new")
    assert (top / "f").read_bytes() == b"new"


@_check
def _renaming(top: Top) -> None:
    (top / "d").mkdir()
    (top / "a").write_bytes(b"a")
    (top / "b").write_bytes(b"b")
    (top / "a").rename(top / "b")
    assert names(top) == ["b", "d"] and (top / "b").read_bytes() == b"a"
    (top / "b").rename(top / "d/c")
    assert names(top) == ["d"] and (top / "d/c").read_bytes() == b"a"
    (top / "d").rename(top / "e")
    assert names(top) == ["e"] and (top / "e/c").read_bytes() == b"a"
    fails(errno.ENOENT, lambda: (top / "none").rename(top / "x"))
    fails(errno.EINVAL, lambda: (top / "e").rename(top / "e/inside"))


@_check
def _inode_numbers(top: Top) -> None:
    for name in ("a", "b", "c"):
        (top / name).write_bytes(b"")
    numbers = {name: (top / name).stat().st_ino for name in ("a", "b", "c")}
    assert len(set(numbers.values())) == 3
    assert {name: ino for name, (ino, _) in entries(top).items()} == numbers
    assert {name: (top / name).stat().st_ino for name in numbers} == numbers


@_check
def _odd_names(top: Top) -> None:
    odd = ["with space", "n\N{SNOWMAN}", "-x", "..x", "a" * 200, "tab\there", "%41", "#1", "a+b"]
    for name in odd:
        (top / name).write_bytes(name.encode())
    assert names(top) == sorted(odd)
    for name in odd:
        assert (top / name).read_bytes() == name.encode()
    fails(errno.ENAMETOOLONG, lambda: (top / ("x" * 256)).write_bytes(b""))


def _read_slowly(top: Top) -> Iterator[str]:
    """A directory's names, of which only some have been read while others are still to be asked for."""
    if isinstance(top, TreePath):
        place = top._place()
        directory = OpenDir(place, place.inode, os.O_RDONLY)
        while directory.getdents(400):
            yield from [os.fsdecode(name) for name, _, _ in directory.listing()[2 : directory.pos]]
    else:
        with os.scandir(top) as found:
            yield from (entry.name for entry in found)


@_check
def _listing_while_it_changes(top: Top) -> None:
    for n in range(40):
        (top / f"f{n:02}").write_bytes(b"")
    reader = _read_slowly(top)
    seen = {next(reader)}
    for n in range(0, 40, 2):
        (top / f"f{n:02}").unlink()
    (top / "new").write_bytes(b"")
    seen.update(reader)
    assert {f"f{n:02}" for n in range(1, 40, 2)} <= seen
    assert seen <= {"new", *(f"f{n:02}" for n in range(40))}


@_check
def _many_files(top: Top) -> None:
    for n in range(300):
        (top / f"f{n}").write_bytes(b"%d" % n)
    assert len(names(top)) == 300
    assert all((top / f"f{n}").read_bytes() == b"%d" % n for n in range(0, 300, 7))
