"""Runs one program natively and under ring3 in the same, freshly made directory, and compares.

Layer: tests. Touches one work directory. Both sides see the same absolute paths, so that outputs can be
compared byte for byte; the guest's writes must not appear there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness import BASE_ENV, Result, assert_clean, assert_same, changed, host_listing, run_native, run_ring3
from ptydriver import PtySession

Maker = Callable[[Path], None]
FIXED_TIME = 1_000_000_000  # 2001-09-09, for files whose times are printed


class Twin:
    """The two sides of one comparison in directory `dir`."""

    def __init__(self, base: Path) -> None:
        self.dir = base / "work"

    def fresh(self, make: Maker | None) -> None:
        """An empty work directory, filled by `make`."""
        if self.dir.exists():
            shutil.rmtree(self.dir)
        self.dir.mkdir(mode=0o755)
        if make is not None:
            make(self.dir)

    def both(
        self,
        cmd: Sequence[str | os.PathLike[str]],
        make: Maker | None = None,
        *,
        opts: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        input: bytes = b"",
        timeout: float = 60.0,
        err: bool = True,
        status: int = 0,
        clean: Callable[[bytes], bytes] | None = None,
    ) -> Result:
        """Runs `cmd` on both sides; the guest's result. `status` is what the native side must end with."""
        full = {**BASE_ENV, "HOME": str(self.dir), **(env or {})}
        self.fresh(make)
        native = run_native(cmd, cwd=self.dir, env=full, input=input, timeout=timeout)
        assert_clean(native)
        assert native.status == status, "natively\n" + native.describe()
        self.fresh(make)
        before = host_listing(self.dir)
        guest = run_ring3(cmd, *opts, cwd=self.dir, env=full, input=input, timeout=timeout)
        touched = changed(before, host_listing(self.dir))
        assert not touched, f"the host was written: {touched[:20]}\n{guest.describe()}"
        if clean is not None:
            for side in (native, guest):
                side.out, side.err = clean(side.out), clean(side.err)
        assert_same(native, guest, err=err)
        return guest

    def shell(
        self, script: str, make: Maker | None = None, *, sh: Sequence[str] = ("/bin/sh",), **kw: object
    ) -> Result:
        """Runs a shell script on both sides, as `sh -c SCRIPT`."""
        return self.both([*sh, "-c", script], make, **kw)  # type: ignore[arg-type]

    def terminal(
        self,
        cmd: Sequence[str],
        drive: Callable[[PtySession], object],
        make: Maker | None = None,
        *,
        env: Mapping[str, str] | None = None,
        status: int = 0,
    ) -> None:
        """Runs `cmd` on a pty on both sides; `drive` types, expects, and returns what must be equal."""
        from harness import ring3_argv

        full = {**BASE_ENV, "HOME": str(self.dir), **(env or {})}
        results = []
        for argv in (list(cmd), ring3_argv(list(cmd))):
            self.fresh(make)
            before = host_listing(self.dir)
            with PtySession(argv, env=full, cwd=self.dir) as session:
                results.append(drive(session))
                ended = session.wait()
            assert ended == status, f"{argv}: status {ended}; screen {session.all[-2000:]!r}"
            if len(results) == 2:
                touched = changed(before, host_listing(self.dir))
                assert not touched, f"the host was written: {touched[:20]}"
        assert results[0] == results[1], f"native {results[0]!r}, ring3 {results[1]!r}"


def age(top: Path) -> None:
    """Gives everything below `top` one fixed time, so that listings are the same on both sides."""
    for base, names, files in os.walk(top):
        for name in (*names, *files):
            os.utime(os.path.join(base, name), (FIXED_TIME, FIXED_TIME), follow_symlinks=False)
    os.utime(top, (FIXED_TIME, FIXED_TIME))


def small_tree(top: Path) -> None:
    """A tree with every kind of plain thing in it."""
    (top / "src" / "deep" / "er").mkdir(parents=True)
    (top / "empty").mkdir()
    for number in range(12):
        (top / "src" / f"file{number:02}.txt").write_text(f"line {number}\n" * (number * 7 + 1))
    (top / "src" / "deep" / "data.bin").write_bytes(bytes(range(256)) * 40)
    (top / "src" / "deep" / "er" / "with space").write_text("spaces\n")
    (top / "src" / "link").symlink_to("file03.txt")
    (top / "src" / "dangling").symlink_to("nowhere/at/all")
    os.link(top / "src" / "file01.txt", top / "src" / "hard")
    (top / "run.sh").write_text('#!/bin/sh\necho ran "$@"\n')
    (top / "run.sh").chmod(0o755)
    (top / "secret").write_text("s\n")
    (top / "secret").chmod(0o600)
    age(top)


def big_tree(top: Path, files: int = 2000) -> None:
    """`files` files in 40 directories."""
    tree = top / "tree"
    for number in range(files):
        folder = tree / f"d{number % 40:02}" / f"e{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number:04}").write_bytes(b"%d\n" % number * (number % 97 + 1))
    for number in range(20):
        (tree / f"link{number}").symlink_to(f"d{number:02}")
    age(top)
