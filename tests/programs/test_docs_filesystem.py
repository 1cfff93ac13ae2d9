"""docs/filesystem.md: every example in Python runs, and says what it should.

Layer: tests. Touches worlds of its own and a temporary directory.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import REPO
from images import busybox, docker_save, layer

BLOCKS = re.findall(r"^```python\n(.*?)^```", (REPO / "docs/filesystem.md").read_text(), re.M | re.S)

#: A part of each example, and what it prints.
EXAMPLES = {
    "OverlayFS([HostFS": ["b'new'"],
    "open_archive(": ["/src/d/x.gz"],
    'Sandbox(image="app.tar")': [
        "by default",
        "dpkg ran",
        "a release",
        "['/bin/sh', '-c', 'echo by default']",
    ],
    "box.snapshot()": ["changed /etc/issue ('mode',)", "b'hello\\n'", "'/etc/hosts'"],
    "PyFS(": ["20", "1", "2", "5"],
    "class Dictionary": ["one", "two", "./b/d"],
    "class Shout": ["HELLO"],
    "FsspecFS(": ["b'1,2\\n'", "['/tmp/out/n']", "b'7\\n'"],
    "class Clock": [],
}


def prepare(folder: Path) -> None:
    """What the examples name."""
    (folder / "patches").mkdir()
    (folder / "d").mkdir()
    (folder / "d/x.gz").touch()
    subprocess.run(["tar", "-czf", folder / "release.tar.gz", "-C", folder, "d"], check=True)
    (folder / "src.tar.gz").write_bytes((folder / "release.tar.gz").read_bytes())
    files = {
        "bin/busybox": busybox() or b"",
        "bin/sh": ("->", "busybox"),
        "bin/dpkg": "#!/bin/sh\necho dpkg ran\n",
    }
    docker_save(
        folder / "app.tar",
        [layer(files | {"etc/os-release": b"a release\n"})],
        {"Entrypoint": ["/bin/sh", "-c", "echo by default"], "Env": ["PATH=/bin"]},
    )


@pytest.mark.parametrize("part", EXAMPLES)
def test_an_example(part: str, tmp_path: Path) -> None:
    if "FsspecFS" in part:
        pytest.importorskip("fsspec", reason="fsspec is not installed (the extra `fsspec`)")
    if "image" in part and busybox() is None:
        pytest.skip("a static busybox is not installed (busybox-static)")
    (code,) = [block for block in BLOCKS if part in block]
    prepare(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPO)!r})\n{code}"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    for text in EXAMPLES[part]:
        assert text in done.stdout, done.stdout


def test_every_example_is_run() -> None:
    assert len(BLOCKS) == len(EXAMPLES)
