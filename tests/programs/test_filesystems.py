"""Real programs on tar, zip, overlay and limited memory filesystems, from the command line and from Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from harness import assert_clean, run_ring3

import ring3
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.overlayfs import OverlayFS
from ring3.vfs.tarfs import TarFS


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "bin").mkdir(parents=True)
    (top / "text").write_text("from the archive\n")
    (top / "link").symlink_to("text")
    os.link(top / "text", top / "hard")
    shutil.copy(shutil.which("echo") or "/bin/echo", top / "bin/say")
    return top


def guest(script: str, *options: str, status: int = 0, err: bytes = b"") -> str:
    result = run_ring3(["/bin/sh", "-c", script], *options)
    assert_clean(result)
    assert result.status == status, result.describe()
    assert result.err == err or err and err in result.err, result.describe()
    return result.out.decode()


@pytest.mark.parametrize("compress", ["", "z", "J"])
def test_a_tar_is_mounted(tree: Path, compress: str) -> None:
    archive = tree.parent / "x.tar"
    subprocess.run(["tar", f"-c{compress}f", archive, "-C", tree, "."], check=True)
    shown = guest(
        "cd /mnt && cat link && bin/say runs && stat -c %h text && find . | sort && (echo x >text; true)",
        "--mount",
        f"type=tar,source={archive},target=/mnt",
        err=b"Read-only file system",
    )
    assert shown == "from the archive\nruns\n2\n.\n./bin\n./bin/say\n./hard\n./link\n./text\n"


def test_a_zip_is_written_through_an_overlay(tree: Path) -> None:
    archive = tree.parent / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        z.write(tree / "text", "d/text")
        z.write(tree / "bin/say", "say")
    before = archive.read_bytes()
    shown = guest(
        "cd /mnt && echo more >>d/text && cat d/text && mv d e && rm -r e && ./say runs && ls",
        "--mount",
        f"type=zip,source={archive},target=/mnt,cow",
    )
    assert shown == "from the archive\nmore\nruns\nsay\n"
    assert archive.read_bytes() == before


def test_an_overlay_from_the_command_line(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "second/text").write_text("beneath\n")
    (tmp_path / "second/other").write_text("other\n")
    options = (
        "--mount",
        f"type=overlay,lowerdir={tree}:{tmp_path}/second,upperdir={tmp_path}/upper,target=/mnt",
    )
    assert guest("cd /mnt && cat text other && rm text && echo new >made && ls", *options) == (
        "from the archive\nother\nbin\nhard\nlink\nmade\nother\n"
    )
    assert sorted(p.name for p in (tmp_path / "upper").iterdir() if p.name != ".wh..wh.plnk") == [
        ".wh.text",
        "made",
    ]
    assert (tree / "text").exists()
    assert guest("ls /mnt", *options) == "bin\nhard\nlink\nmade\nother\n"


def test_hard_links_and_open_descriptors_in_an_overlay(tree: Path) -> None:
    script = """
import os
r = os.open("hard", os.O_RDONLY)
w = os.open("text", os.O_RDWR | os.O_APPEND)
os.write(w, b"more\\n")
st = [os.stat("text"), os.stat("hard"), os.fstat(w), os.fstat(r)]
assert len({(s.st_ino, s.st_dev, s.st_nlink, s.st_size) for s in st}) == 1, st
os.rename("text", "renamed"); os.unlink("hard")
os.write(w, b"end\\n"); os.lseek(w, 0, 0)
assert os.fstat(w).st_nlink == 1
print(os.read(w, 100), open("renamed").read().count("\\n"), os.readlink(f"/proc/self/fd/{w}"))
"""
    with ring3.Sandbox(mounts={"/mnt": OverlayFS([TarFS(_tar(tree))])}) as box:
        done = box.run([sys.executable, "-c", script], cwd="/mnt", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "b'from the archive\\nmore\\nend\\n' 3 /mnt/renamed\n"


def _tar(tree: Path) -> Path:
    archive = tree.parent / "x.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tree, "."], check=True)
    return archive


def test_a_limited_tmpfs() -> None:
    try:
        MemoryFS(size=4096)
    except OSError as e:
        pytest.skip(str(e))
    shown = guest(
        "head -c 2m /dev/zero >/mnt/x; stat -c %s /mnt/x; rm /mnt/x; mkdir /mnt/a /mnt/b /mnt/c;"
        "df -k --output=size,avail,itotal,iavail /mnt | tail -1; cp /bin/echo /mnt/a/ && /mnt/a/echo runs",
        "--tmpfs",
        "/mnt:size=1m,nr_inodes=4",
        status=1,
        err=b"No space left on device",
    )
    assert shown.split() == ["1048576", "1024", "1024", "4", "0"]
    with ring3.Sandbox() as box:
        box.mount_tmpfs("/mnt", size="64k")
        script = "f = open('/mnt/f', 'wb', 0); print(f.write(bytes(70000))); f.write(b'x')"
        done = box.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "65536\n" and "Errno 28" in done.stderr


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("type=tar,source=/nonexistent,target=/mnt", "No such file"),
        ("type=tar,source=/etc/passwd,target=/mnt", "cannot be used as a tar archive"),
        ("type=zip,source=/etc/passwd,target=/mnt", "cannot be used as a zip archive"),
        ("type=tar,target=/mnt", "needs source="),
        ("type=what,target=/mnt", "there is no type 'what'"),
        ("type=tmpfs,target=mnt", "absolute path"),
        ("type=tmpfs,target=/mnt,size=lots", "lots"),
        ("type=tmpfs,target=/mnt,colour=red", "has no colour="),
        ("nonsense", "is not NAME=VALUE"),
        ("type=bind,source=/etc,target=/mnt,ro,cow", "ro and cow only"),
    ],
)
def test_a_bad_mount_is_one_sentence(spec: str, why: str) -> None:
    result = run_ring3(["/bin/true"], "--mount", spec)
    assert_clean(result)
    assert result.status == 125 and result.out == b""
    text = result.err.decode()
    assert text.startswith("ring3: ") and text.count("\n") == 1 and why in text
