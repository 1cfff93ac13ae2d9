"""ring3.vfs.contract, which users run on their own filesystems, on all of ours."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ring3.vfs.contract import CHECKS, run_check
from ring3.vfs.cowfs import CowFS
from ring3.vfs.hostfs import HostFS
from ring3.vfs.inode import SuperBlock
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.overlayfs import OverlayFS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "programs"))

from test_python_filesystems import Dict


@pytest.fixture(
    params=["memory", "limited", "cow", "rw", "overlay", "oci", "redirect", "path", "fsspec", "fsspec local"]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], SuperBlock]]:
    top = tmp_path / "top"
    top.mkdir()
    bucket = f"memory://contract-{tmp_path.name}"

    def fsspec_filesystem(url: str) -> SuperBlock:
        fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (the extra `fsspec`)")
        from ring3.vfs.fsspecfs import FsspecFS

        fsspec.filesystem(url.partition(":")[0]).makedirs(url.partition("://")[2], exist_ok=True)
        return FsspecFS(url)

    makers: dict[str, Callable[[], SuperBlock]] = {
        "memory": MemoryFS,
        "limited": lambda: MemoryFS(size="64m", nr_inodes=1000),
        "cow": lambda: CowFS(str(top)),
        "rw": lambda: HostFS(str(top), read_only=False),
        "overlay": lambda: OverlayFS([MemoryFS()]),
        "oci": lambda: OverlayFS([MemoryFS()], HostFS(str(top), read_only=False)),
        "redirect": lambda: OverlayFS([MemoryFS(), CowFS(str(top))], redirect_dir=True),
        "path": lambda: Dict({}),
        "fsspec": lambda: fsspec_filesystem(bucket),
        "fsspec local": lambda: fsspec_filesystem(f"file://{top}"),
    }
    yield makers[request.param]
    if request.param == "fsspec":
        import fsspec

        fs: Any = fsspec.filesystem("memory")
        fs.rm(bucket, recursive=True)
    shutil.rmtree(top)


@pytest.mark.parametrize("check", CHECKS)
def test_contract(check: str, make: Callable[[], SuperBlock]) -> None:
    run_check(check, make)
