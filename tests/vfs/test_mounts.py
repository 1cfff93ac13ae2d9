"""What a guest's mounts may not do to its owner's, and util-linux' own programs. (Linux's rules: guests/mounts.c.)"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ring3

needs_util_linux = pytest.mark.skipif(
    not all(map(shutil.which, ("mount", "umount", "findmnt", "unshare"))), reason="util-linux is not installed"
)


def shell(box: ring3.Sandbox, script: str) -> str:
    done = box.run(["sh", "-c", "{ " + script + "; } 2>&1"], capture_output=True)
    assert isinstance(done.stdout, bytes)
    return done.stdout.decode()


@needs_util_linux
def test_what_the_owner_mounted_stays(workdir: Path) -> None:
    (workdir / "secret").mkdir()
    (workdir / "secret" / "key").write_text("hidden")
    (workdir / "ro").mkdir()
    with ring3.Sandbox(user=0) as box:
        box.mount_tmpfs(workdir / "secret")
        box.mount(workdir / "ro", workdir / "ro", "ro")
        box.run(["mkdir", "-p", "/mnt/a", "/mnt/work", "/mnt/upper"], check=True)
        for script in (
            f"umount {workdir}/secret",
            f"umount -l {workdir}/secret",
            f"mount --move {workdir}/secret /mnt/a",
            f"mount --bind {workdir} /mnt/a",
            f"mount -t overlay -o lowerdir={workdir},upperdir=/mnt/upper,workdir=/mnt/work none /mnt/a",
            f"unshare -m umount {workdir}/secret",
            f"mount -o remount,bind,rw {workdir}/ro && touch {workdir}/ro/new",
            f"mount -o remount,rw {workdir}/ro && touch {workdir}/ro/new",
            f"mount --bind {workdir}/ro /mnt/a && mount -o remount,bind,rw /mnt/a && touch /mnt/a/new",
        ):
            assert box.run(["sh", "-c", script]).returncode != 0, script
        assert shell(box, f"mount --rbind {workdir} /mnt/a && ls /mnt/a/secret") == ""
        assert "hidden" not in shell(box, "cd /mnt/a/secret; umount -l /mnt/a; cat key ../secret/key")
    assert not list((workdir / "ro").iterdir())


@needs_util_linux
def test_real_programs() -> None:
    with ring3.Sandbox(user=0) as box:
        box.run(["mkdir", "-p", "/mnt/t", "/mnt/b"], check=True)
        script = "mount -t tmpfs -o mode=700 none /mnt/t; mount --bind /mnt/t /mnt/b; findmnt -rno TARGET,FSTYPE /mnt/b"
        assert shell(box, script) == "/mnt/b tmpfs\n"
        inside = "unshare -m sh -c 'umount /mnt/b; mount -t tmpfs none /mnt/t; mount' | grep -c /mnt/"
        assert shell(box, inside) == "2\n"
        assert shell(box, "mount | grep -c /mnt/; umount /mnt/b; umount /mnt/t; mount | grep -c /mnt/") == "2\n0\n"


@needs_util_linux
def test_a_namespace_ends_with_its_processes() -> None:
    with ring3.Sandbox(user=0) as box:
        box.run(["mkdir", "/mnt/t"], check=True)
        for _ in range(3):
            box.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt/t"], check=True)
        box.run(["rmdir", "/mnt/t"], check=True)
        with box.lock:
            box.vfs.mounts.reap()
            assert len(box.vfs.mounts.namespaces) <= 2  # the last one's end may not have been heard of yet
