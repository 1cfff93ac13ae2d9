"""Real programs on extended attributes and inotify: getfacl, setfacl, setcap, getcap, inotifywait, tail -f."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import ring3


def shell(script: str) -> str:
    """What a script writes, run as virtual root in a directory in memory."""
    with ring3.Sandbox(user=0) as box:
        box.mount_tmpfs("/mnt")
        done = box.run(["sh", "-c", "cd /mnt; { " + script + "; } 2>&1"], capture_output=True, timeout=60)
        assert isinstance(done.stdout, bytes)
        return done.stdout.decode()


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [p for p in programs if shutil.which(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {' '.join(missing)}")


@needs("setfacl", "getfacl")
def test_acls() -> None:
    script = "mkdir d; setfacl -m u:7:rwx,d:g:9:r-x d; touch d/f; mkdir d/s; cp -p -r d e; getfacl -nEc e e/f e/s"
    assert shell(script) == (
        "user::rwx\nuser:7:rwx\ngroup::r-x\nmask::rwx\nother::r-x\ndefault:user::rwx\ndefault:group::r-x\n"
        "default:group:9:r-x\ndefault:mask::r-x\ndefault:other::r-x\n\n"
        "user::rw-\ngroup::r-x\ngroup:9:r-x\nmask::r--\nother::r--\n\n"
        "user::rwx\ngroup::r-x\ngroup:9:r-x\nmask::r-x\nother::r-x\ndefault:user::rwx\ndefault:group::r-x\n"
        "default:group:9:r-x\ndefault:mask::r-x\ndefault:other::r-x\n\n"
    )


@needs("setcap", "getcap")
def test_file_capabilities_are_kept() -> None:
    assert shell("cp /bin/true .; setcap cap_net_raw+ep true; getcap true") == "true cap_net_raw=ep\n"


@needs("inotifywait")
def test_inotifywait() -> None:
    wait = "inotifywait -qm -o /mnt/out --format '%e %f' w & p=$!; until grep -qs inotify /proc/$p/fdinfo/*; do :; done"
    work = "echo x >w/f; mv w/f w/g; rm w/g; touch w/end; until grep -q 'CLOSE.*end' out; do :; done"
    assert shell(f"mkdir w; {wait}; {work}; kill $p; cat out").splitlines() == [
        "CREATE f", "OPEN f", "MODIFY f", "CLOSE_WRITE,CLOSE f", "MOVED_FROM f", "MOVED_TO g", "DELETE g",
        "CREATE end", "OPEN end", "ATTRIB end", "CLOSE_WRITE,CLOSE end",
    ]  # fmt: skip


@needs("tail")
def test_tail_follows() -> None:
    wait = "until grep -q one out; do :; done; echo two >>log; until grep -q two out; do :; done"
    assert shell(f"echo one >log; : >out; tail -f log >out & p=$!; {wait}; kill $p; cat out") == "one\ntwo\n"


WAIT_FOR_HOST = """
inotifywait -qm -o /mnt/out --format '%e %f' /w /w/watched & p=$!
until [ "$(cat /proc/$p/fdinfo/* 2>/dev/null | grep -c '^inotify')" = 2 ]; do :; done
echo ready
until grep -q 'ISDIR end' /mnt/out; do :; done
SCRIPT
until grep -q 'CREATE done' /mnt/out; do :; done
kill $p
cat /mnt/out
"""


@needs("inotifywait")
@pytest.mark.parametrize("mode", ["ro", "cow", "rw"])
def test_changes_by_the_host(mode: str, tmp_path: Path) -> None:
    """What programs of the host write in a bound directory is reported; what guests write there is reported once."""
    for name in ("closed", "watched", "open"):
        (tmp_path / name).write_text("old\n")
    guests = "echo x >>/w/closed; chmod 600 /w/watched; : >/w/open; truncate -s 1 /w/open; touch /w/done"
    script = WAIT_FOR_HOST.replace("SCRIPT", guests if mode != "ro" else "echo CREATE done >>/mnt/out")
    with ring3.Sandbox(user=0) as box:
        box.mount_tmpfs("/mnt")
        box.mount("/w", str(tmp_path), mode)
        with box.popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with (tmp_path / "closed").open("a") as f:
                f.write("more\n")
            (tmp_path / "watched").write_text("new\n")
            (tmp_path / "made").mkdir()
            (tmp_path / "end").mkdir()
            lines = process.stdout.read().decode().splitlines()
    twice = ["MODIFY watched", "MODIFY "]  # by its name in the directory, and its own watch
    assert lines[: lines.index("CREATE,ISDIR end")] == [
        *("MODIFY closed", "CLOSE_WRITE,CLOSE closed"),
        *(*twice, *twice, "CLOSE_WRITE,CLOSE watched", "CLOSE_WRITE,CLOSE "),
        "CREATE,ISDIR made",
    ]
    opened = ["OPEN done", "ATTRIB done", "CLOSE_WRITE,CLOSE done"]
    if mode != "ro":
        assert lines[lines.index("CREATE,ISDIR end") + 1 :] == [
            *("OPEN closed", "MODIFY closed", "CLOSE_WRITE,CLOSE closed"),
            *("ATTRIB watched", "ATTRIB "),
            *("OPEN open", "MODIFY open", "CLOSE_WRITE,CLOSE open"),
            *("OPEN open", "MODIFY open", "CLOSE_WRITE,CLOSE open"),
            "CREATE done",
            *opened[: len(lines) - lines.index("CREATE done") - 1],
        ]
