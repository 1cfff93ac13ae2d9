"""Debian's static busybox: shell, ls, tar, find, vi."""

from __future__ import annotations

import shutil

import pytest
from ptydriver import PtySession
from twin import Twin, small_tree

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
pytestmark = pytest.mark.skipif(
    shutil.which("busybox") is None, reason="busybox is not installed (busybox-static)"
)


def test_true(twin: Twin) -> None:
    twin.both([BUSYBOX, "true"])
    twin.both([BUSYBOX, "false"], status=1)


def test_shell(twin: Twin) -> None:
    twin.shell(
        """
        set -e
        x=5; while [ $x -gt 0 ]; do echo "x=$x"; x=$((x-1)); done
        echo one >a; echo two >>a; cat a; wc -c <a
        (echo sub; exit 3) || echo "status $?"
        for f in $(ls /usr | sort | head -3); do echo "$f"; done
        echo pipe | tr a-z A-Z | sed s/P/Q/ | cat
        cat <<END
        here $x
END
        trap 'echo bye' EXIT
        f() { local y=$1; echo "f $y"; }; f arg
        sh -c 'kill -TERM $$' || echo "killed $?"
        pwd; cd /; pwd; test -d tmp && echo tmp
        """,
        sh=[BUSYBOX, "sh"],
    )


@pytest.mark.parametrize(
    "args", [["ls", "-lR"], ["ls", "-la"], ["ls", "-li1", "src/file00.txt"], ["ls", "-F"]]
)
def test_ls(twin: Twin, args: list[str]) -> None:
    clean = None
    if "-li1" in args:
        clean = lambda text: b" ".join(text.split()[1:])  # noqa: E731  the inode number is of another copy

    def normal(text: bytes) -> bytes:
        # of the work directory's parent: its link count and times belong to the run
        return b"\n".join(line for line in text.splitlines() if not line.endswith(b" .."))

    twin.both([BUSYBOX, *args], small_tree, clean=clean or normal)


def test_find(twin: Twin) -> None:
    twin.shell(
        f"""
        {BUSYBOX} find . | {BUSYBOX} sort
        {BUSYBOX} find src -type f -size +1k -exec {BUSYBOX} md5sum '{{}}' ';' | {BUSYBOX} sort
        {BUSYBOX} find . -type l -print | {BUSYBOX} sort
        {BUSYBOX} find . -name '*.txt' -print0 | {BUSYBOX} xargs -0 {BUSYBOX} cat | {BUSYBOX} md5sum
        {BUSYBOX} find . -type f -perm 600; {BUSYBOX} find . -empty | {BUSYBOX} sort
        {BUSYBOX} find src -name 'file0*' -delete; {BUSYBOX} ls src
        """,
        small_tree,
        sh=[BUSYBOX, "sh"],
    )


def test_tar(twin: Twin) -> None:
    twin.shell(
        """
        set -e
        busybox tar -cf t.tar src run.sh
        busybox tar -tvf t.tar | sort
        mkdir out; busybox tar -xf t.tar -C out
        busybox diff -r src out/src && echo same
        busybox stat -c '%a %F %N' out/src/link out/run.sh
        busybox gzip t.tar; busybox gunzip -c t.tar.gz | busybox tar -t | wc -l
        """,
        small_tree,
    )


def test_vi_on_a_terminal(twin: Twin) -> None:
    def drive(session: PtySession) -> bytes:
        # an Escape and the next key typed at once would be Alt and that key: wait for the mode to change
        session.expect("- f ")
        session.send("ihello from vi")
        session.expect("hello from vi")
        session.send("\x1b")
        session.expect("- f ")
        session.send("osecond line")
        session.expect("second line")
        session.send("\x1b")
        session.expect("- f ")
        session.send(":wq\r")
        session.expect("END:")
        text = session.expect("hello from vi\r\nsecond line\r\n.*DONE").group(0)
        return text

    twin.terminal([BUSYBOX, "sh", "-c", "busybox vi f; echo END:; cat f; echo DONE"], drive)
