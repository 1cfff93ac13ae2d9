"""More of the contract of a filesystem (contract.py): what a full Unix filesystem has, and what any tree promises.

Layer: top of the vfs, beside contract.py. May touch: the filesystem it is given.

UNIX_CHECKS start from an empty filesystem that can be written; READING_CHECKS look at any tree, generated or packed or
read-only, and change nothing; read_only() is for a tree that was mounted so.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import partial

from .contract import entries, fails, names
from .tree import TreePath

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .contract import Check, Top

__all__ = ["READING_CHECKS", "UNIX_CHECKS", "read_only"]

UNIX_CHECKS: dict[str, Check] = {}
READING_CHECKS: dict[str, Check] = {}


def _unix(function: Check) -> Check:
    UNIX_CHECKS[function.__name__.strip("_")] = function
    return function


def _reading(function: Check) -> Check:
    READING_CHECKS[function.__name__.strip("_")] = function
    return function


# -- a full Unix filesystem ----------------------------------------------------------------------------------


@_unix
def _symlinks(top: Top) -> None:
    (top / "f").write_bytes(b"data")
    (top / "d").mkdir()
    (top / "l").symlink_to("f")
    (top / "dl").symlink_to("d")
    (top / "broken").symlink_to("x/" * 500)
    (top / "loop").symlink_to("loop")
    assert str((top / "l").readlink()) == "f" and (top / "l").read_bytes() == b"data"
    assert (top / "l").lstat().st_size == 1 and (top / "broken").lstat().st_size == 1000
    assert (top / "l").is_symlink() and (top / "dl").is_dir() and not (top / "broken").exists()
    (top / "dl/new").write_bytes(b"through")
    assert (top / "d/new").read_bytes() == b"through"
    fails(errno.ELOOP, lambda: (top / "loop").read_bytes())
    fails(errno.EEXIST, lambda: (top / "l").symlink_to("other"))
    fails(errno.ENOTDIR, lambda: (top / "dl").rmdir())
    (top / "l").rename(top / "l2")
    assert (top / "l2").is_symlink() and (top / "f").read_bytes() == b"data"
    (top / "dl").unlink()
    assert names(top / "d") == ["new"]


@_unix
def _hard_links(top: Top) -> None:
    (top / "a").write_bytes(b"one")
    (top / "d").mkdir()
    (top / "d/b").hardlink_to(top / "a")
    assert (top / "a").stat().st_ino == (top / "d/b").stat().st_ino
    assert (top / "a").stat().st_nlink == (top / "d/b").stat().st_nlink == 2
    (top / "d/b").write_bytes(b"two")
    assert (top / "a").read_bytes() == b"two"
    (top / "a").chmod(0o600)
    assert stat.S_IMODE((top / "d/b").stat().st_mode) == 0o600
    fails(errno.EEXIST, lambda: (top / "d/b").hardlink_to(top / "a"))
    fails(errno.EPERM, lambda: (top / "x").hardlink_to(top / "d"))
    fails(errno.ENOENT, lambda: (top / "x").hardlink_to(top / "none"))
    (top / "a").rename(top / "d/b")  # two names of one file: nothing happens (rename(2))
    assert names(top) == ["a", "d"]
    (top / "a").unlink()
    assert (top / "d/b").read_bytes() == b"two" and (top / "d/b").stat().st_nlink == 1


@_unix
def _modes_and_times(top: Top) -> None:
    (top / "f").write_bytes(b"x")
    (top / "d").mkdir()
    for mode in (0, 0o600, 0o4711, 0o7777, 0o640):
        (top / "f").chmod(mode)
        assert stat.S_IMODE((top / "f").stat().st_mode) == mode
    (top / "d").chmod(0o1700)
    assert stat.S_IMODE((top / "d").stat().st_mode) == 0o1700 and (top / "d").is_dir()
    before = (top / "f").stat()
    assert before.st_mtime_ns <= before.st_ctime_ns
    (top / "f").write_bytes(b"longer")
    after = (top / "f").stat()
    assert after.st_mtime_ns >= before.st_mtime_ns and after.st_ctime_ns >= before.st_ctime_ns
    (top / "f").chmod(0o644)
    assert (top / "f").stat().st_mtime_ns == after.st_mtime_ns
    folder = (top / "d").stat()
    (top / "d/x").write_bytes(b"")
    assert (top / "d").stat().st_mtime_ns >= folder.st_mtime_ns


@_unix
def _open_and_unlinked(top: Top) -> None:
    (top / "f").write_bytes(b"old")
    with (top / "f").open("r+b", 0) as f:
        (top / "f").unlink()
        (top / "f").write_bytes(b"new")
        assert f.read(10) == b"old" and os.fstat(f.fileno()).st_nlink in (0, 1)
        f.write(b" and more")
        f.seek(0)
        assert f.read(20) == b"old and more"
    assert (top / "f").read_bytes() == b"new"
    (top / "g").write_bytes(b"g")
    with (top / "f").open("rb", 0) as f:
        (top / "g").rename(top / "f")
        assert f.read(10) == b"new" and (top / "f").read_bytes() == b"g"


@_unix
def _holes(top: Top) -> None:
    with (top / "f").open("w+b", 0) as f:
        f.truncate(1 << 20)
        f.seek(1 << 21)
        f.write(b"end")
        f.seek(1 << 19)
        assert f.read(4096) == bytes(4096)
    st = (top / "f").stat()
    assert st.st_size == (1 << 21) + 3 and st.st_blocks * 512 < 1 << 20
    with (top / "f").open("rb", 0) as f:
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) >= 1 << 20


@_unix
def _link_counts_of_directories(top: Top) -> None:
    """2 and one for each directory in it; or 1 everywhere, where a filesystem does not count (overlayfs, btrfs)."""
    before = top.stat().st_nlink
    (top / "a").mkdir()
    (top / "a/b").mkdir()
    assert top.stat().st_nlink == (1 if before == 1 else before + 1)
    assert (top / "a").stat().st_nlink in (1, 3) and (top / "a/b").stat().st_nlink in (1, 2)
    (top / "a/b").rename(top / "b")
    assert (top / "a").stat().st_nlink in (1, 2)
    (top / "a").rmdir()
    (top / "b").rmdir()
    assert top.stat().st_nlink == before


@_unix
def _mapped(top: Top) -> None:
    """mmap(2) and write(2) show each other's bytes."""
    import mmap

    (top / "f").write_bytes(bytes(8192))
    with (top / "f").open("r+b", 0) as f, mmap.mmap(f.fileno(), 8192) as m:
        f.write(b"written")
        assert m[:7] == b"written"
        m[4096:4099] = b"map"
        f.seek(4096)
        assert f.read(3) == b"map"
        assert (top / "f").read_bytes()[4096:4099] == b"map"


# -- any tree --------------------------------------------------------------------------------------------------


def _everything(top: Top, limit: int = 3000) -> Iterator[Top]:
    """What is beneath, parents first, up to a number."""
    todo: list[Top] = [top]
    while todo and limit > 0:
        folder = todo.pop()
        for name in names(folder):
            limit -= 1
            child: Top = folder / name
            yield child
            if stat.S_ISDIR(child.lstat().st_mode):
                todo.append(child)


def _folders(top: Top) -> Iterator[Top]:
    yield top
    for path in _everything(top):
        if stat.S_ISDIR(path.lstat().st_mode):
            yield path


@_reading
def _what_is_listed_is_there(top: Top) -> None:
    for folder in _folders(top):
        for name, (ino, kind) in entries(folder).items():
            st = (folder / name).lstat()
            if st.st_dev != folder.stat().st_dev:
                continue  # what is listed is beneath the mount
            assert ino == st.st_ino, f"{folder / name}: listed as inode {ino}, is {st.st_ino}"
            assert kind in (0, stat.S_IFMT(st.st_mode)), f"{folder / name}: listed as another type"


@_reading
def _numbers_are_unique_and_stable(top: Top) -> None:
    first = {str(path): path.lstat() for path in _everything(top)}
    owners: dict[tuple[int, int], str] = {}
    for path, st in first.items():
        assert st.st_ino > 0
        if st.st_nlink == 1 or stat.S_ISDIR(st.st_mode):
            other = owners.setdefault((st.st_dev, st.st_ino), path)
            assert other == path, f"{path} and {other} have one inode number"
    for path, st in first.items():
        again = (top / path).lstat()
        assert (again.st_ino, again.st_dev, again.st_mode) == (st.st_ino, st.st_dev, st.st_mode), path


@_reading
def _missing(top: Top) -> None:
    fails(errno.ENOENT, lambda: (top / "no such name").lstat())
    fails(errno.ENOENT, lambda: (top / "no such name/x").lstat())
    fails(errno.ENAMETOOLONG, lambda: (top / ("x" * 256)).lstat())
    for path in _everything(top):
        if stat.S_ISREG(path.lstat().st_mode):
            fails(errno.ENOTDIR, (path / "x").lstat)
            fails(errno.ENOTDIR, partial(names, path))
            break


@_reading
def _dots(top: Top) -> None:
    for folder in _folders(top):
        if folder == top:
            continue
        assert _same(folder / ".", folder) and _same(folder / "..", folder.parent)


def _same(one: Top, other: Top) -> bool:
    a, b = one.lstat(), other.lstat()
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


@_reading
def _symlinks_are_read(top: Top) -> None:
    for path in _everything(top):
        st = path.lstat()
        if stat.S_ISLNK(st.st_mode):
            text = os.fsencode(str(path.readlink()))
            assert text and st.st_size in (0, len(text)), path
        else:
            fails(errno.EINVAL, path.readlink)


@_reading
def _contents_and_sizes(top: Top) -> None:
    """Files that tell a size have as many bytes, and the same from any offset."""
    looked_at = 0
    for path in _everything(top):
        st = path.lstat()
        if not stat.S_ISREG(st.st_mode) or not st.st_size or st.st_size > 1 << 22 or looked_at > 200:
            continue
        looked_at += 1
        data = path.read_bytes()
        assert len(data) == path.lstat().st_size, path
        half = len(data) // 2
        with path.open("rb") as f:
            f.seek(half)
            assert f.read() == data[half:], path
            assert f.read(1) == b""


def read_only(top: Top) -> None:
    """Every change of a tree that is mounted read-only is EROFS, and nothing is changed."""
    before = [(str(path), path.lstat()) for path in _everything(top)]
    new = top / "new name"
    changes: list[Callable[[], object]] = [
        lambda: new.write_bytes(b""),
        new.mkdir,
        lambda: new.symlink_to("x"),
        lambda: top.chmod(0o700),
        lambda: os.utime(top) if not isinstance(top, TreePath) else top.touch(),
    ]
    for path in list(_everything(top))[:50]:
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind != stat.S_IFLNK:
            changes.append(partial(path.chmod, 0o600))
        if kind == stat.S_IFREG:
            changes += [
                partial(path.open, "r+b", 0),
                partial(path.open, "wb", 0),
                path.unlink,
                partial(path.rename, new),
                partial(new.hardlink_to, path),
            ]
        elif kind == stat.S_IFDIR:
            changes.append(path.rmdir)
    for change in changes:
        fails(errno.EROFS, change)
    after = [(str(path), path.lstat()) for path in _everything(top)]
    assert [(p, s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns) for p, s in before] == [
        (p, s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns) for p, s in after
    ]
