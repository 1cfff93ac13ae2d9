"""The contract of a filesystem, for whoever writes one: what programs rely on, checked without a guest.

Layer: top of the vfs, beside tree.py; a part of a user's tests. May touch: the filesystem it is given.

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
from .openfile import OpenDir
from .tree import TreePath
from .vfs import Vfs

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[TreePath], None]

__all__ = ["CHECKS", "run_check"]

CHECKS: dict[str, Check] = {}


def _check(function: Check) -> Check:
    CHECKS[function.__name__.strip("_")] = function
    return function


def run_check(name: str, make: Callable[[], SuperBlock]) -> None:
    """Run one of CHECKS on a fresh filesystem, mounted in a world in memory. Raises AssertionError, or what the
    filesystem raised and should not have."""
    vfs = Vfs(MemoryFS(mode=0o755))
    top = TreePath(vfs)
    (top / "m").mkdir()
    vfs.mount(make(), b"/m")
    try:
        CHECKS[name](top / "m")
    finally:
        vfs.close()


def _fails(number: int, function: Callable[[], object]) -> None:
    try:
        function()
    except OSError as e:
        have = errno.errorcode.get(e.errno or 0, str(e.errno))
        assert e.errno == number, f"{errno.errorcode[number]} was expected, not {have}"
    else:
        raise AssertionError(f"{errno.errorcode[number]} was expected, and it worked")


def _names(path: TreePath) -> list[str]:
    return sorted(child.name for child in path.iterdir())


@_check
def _empty_root(top: TreePath) -> None:
    assert top.is_dir() and _names(top) == []
    assert top.stat().st_ino > 0


@_check
def _contents(top: TreePath) -> None:
    for data in (b"", b"one\n", bytes(range(256)) * 1000):
        (top / "f").write_bytes(data)
        assert (top / "f").read_bytes() == data
        assert (top / "f").stat().st_size == len(data)
    assert stat.S_ISREG((top / "f").stat().st_mode)


@_check
def _missing_names(top: TreePath) -> None:
    (top / "f").write_bytes(b"")
    _fails(errno.ENOENT, lambda: (top / "none").stat())
    _fails(errno.ENOENT, lambda: (top / "none").read_bytes())
    _fails(errno.ENOENT, lambda: (top / "none").unlink())
    _fails(errno.ENOENT, lambda: (top / "none/f").write_bytes(b""))
    _fails(errno.ENOTDIR, lambda: (top / "f/x").stat())
    _fails(errno.EEXIST, lambda: (top / "f").open("x"))


@_check
def _writing_in_place(top: TreePath) -> None:
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
def _readers_see_writes(top: TreePath) -> None:
    with (top / "f").open("wb", 0) as w, (top / "f").open("rb", 0) as r:
        w.write(b"one")
        assert r.read(10) == b"one"
        assert (top / "f").stat().st_size == 3


@_check
def _directories(top: TreePath) -> None:
    (top / "d/e").mkdir(parents=True)
    assert (top / "d").is_dir() and _names(top) == ["d"] and _names(top / "d") == ["e"]
    _fails(errno.EEXIST, lambda: (top / "d").mkdir())
    _fails(errno.ENOTEMPTY, lambda: (top / "d").rmdir())
    _fails(errno.EISDIR, lambda: (top / "d").unlink())
    _fails(errno.EISDIR, lambda: (top / "d").write_bytes(b""))
    (top / "d/e").rmdir()
    (top / "d").rmdir()
    assert _names(top) == []
    (top / "f").write_bytes(b"")
    _fails(errno.ENOTDIR, lambda: (top / "f").rmdir())


@_check
def _removing(top: TreePath) -> None:
    (top / "f").write_bytes(b"x")
    (top / "f").unlink()
    assert not (top / "f").exists() and _names(top) == []
    (top / "f").write_bytes(b"new")
    assert (top / "f").read_bytes() == b"new"


@_check
def _renaming(top: TreePath) -> None:
    (top / "d").mkdir()
    (top / "a").write_bytes(b"a")
    (top / "b").write_bytes(b"b")
    (top / "a").rename("b")
    assert _names(top) == ["b", "d"] and (top / "b").read_bytes() == b"a"
    (top / "b").rename(top / "d/c")
    assert _names(top) == ["d"] and (top / "d/c").read_bytes() == b"a"
    (top / "d").rename("e")
    assert _names(top) == ["e"] and (top / "e/c").read_bytes() == b"a"
    _fails(errno.ENOENT, lambda: (top / "none").rename("x"))
    _fails(errno.EINVAL, lambda: (top / "e").rename(top / "e/inside"))


@_check
def _inode_numbers(top: TreePath) -> None:
    for name in ("a", "b", "c"):
        (top / name).write_bytes(b"")
    numbers = {name: (top / name).stat().st_ino for name in ("a", "b", "c")}
    assert len(set(numbers.values())) == 3
    place = top._place()
    listed = {os.fsdecode(name): ino for name, ino, _ in place.inode.readdir()}
    assert listed == numbers
    assert {name: (top / name).stat().st_ino for name in numbers} == numbers


@_check
def _odd_names(top: TreePath) -> None:
    names = ["with space", "n\N{SNOWMAN}", "-x", "..x", "a" * 200, "tab\there", "%41", "#1", "a+b"]
    for name in names:
        (top / name).write_bytes(name.encode())
    assert _names(top) == sorted(names)
    for name in names:
        assert (top / name).read_bytes() == name.encode()
    _fails(errno.ENAMETOOLONG, lambda: (top / ("x" * 256)).write_bytes(b""))


@_check
def _listing_while_it_changes(top: TreePath) -> None:
    for n in range(40):
        (top / f"f{n:02}").write_bytes(b"")
    place = top._place()
    directory = OpenDir(place, place.inode, os.O_RDONLY)
    first = directory.getdents(400)
    for n in range(0, 40, 2):
        (top / f"f{n:02}").unlink()
    (top / "new").write_bytes(b"")
    while directory.getdents(400):
        pass
    names = [name for name, _, _ in directory.listing()]
    assert first and len(names) == len(set(names))
    assert {b"f%02d" % n for n in range(1, 40, 2)} <= set(names)


@_check
def _many_files(top: TreePath) -> None:
    for n in range(300):
        (top / f"f{n}").write_bytes(b"%d" % n)
    assert len(_names(top)) == 300
    assert all((top / f"f{n}").read_bytes() == b"%d" % n for n in range(0, 300, 7))
