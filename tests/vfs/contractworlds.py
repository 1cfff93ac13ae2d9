"""Every filesystem that there is, for the contract suite: empty ones that can be written, and filled ones.

Layer: tests. Touches the directory that it is given, and fsspec's memory filesystem.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from vfsworlds import limited, populate

from ring3.vfs.archive import open_archive
from ring3.vfs.cowfs import CowFS
from ring3.vfs.hostfs import HostFS
from ring3.vfs.image import Image
from ring3.vfs.inode import SuperBlock
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.overlayfs import OverlayFS
from ring3.vfs.pathfs import PathFS
from ring3.vfs.pyfs import PyFS
from ring3.vfs.tree import TreePath
from ring3.vfs.vfs import Vfs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "programs"))

from images import layer, oci_layout
from test_python_filesystems import Dict

Make = Callable[[Path], SuperBlock]


def _fsspec(url: str, **options: Any) -> SuperBlock:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (the extra `fsspec`)")
    from ring3.vfs.fsspecfs import FsspecFS

    fsspec.filesystem(url.partition(":")[0]).makedirs(url.partition("://")[2], exist_ok=True)
    return FsspecFS(url, **options)


def _packed(top: Path, how: str) -> SuperBlock:
    """populate()'s tree (or an empty one, for "empty ...") as an archive."""
    source = top / "source"
    source.mkdir()
    empty, _, form = how.rpartition(" ")
    if not empty:
        populate(source)
    packed = top / f"packed.{form}"
    if form == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted(source.rglob("*")):
                info = zipfile.ZipInfo(
                    str(path.relative_to(source)) + "/" * (path.is_dir() and not path.is_symlink())
                )
                info.external_attr = path.lstat().st_mode << 16
                text = (
                    str(path.readlink()) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
                )
                archive.writestr(info, text)
    else:
        if form == "xz" and shutil.which("xz") is None:
            pytest.skip("xz is not installed (xz-utils)")
        option = {"tar": "-cf", "gz": "-czf", "xz": "-cJf"}[form]
        subprocess.run(["tar", option, packed, "-C", source, "."], check=True)
    return open_archive(packed)


def _image(top: Path) -> SuperBlock:
    settings = {"Entrypoint": ["/x"]}
    layers = [
        layer({"d": None, "d/e": None, "d/e/x": b"lower", "gone": b"gone", "l": ("->", "d/e")}),
        layer({".wh.gone": b"", "d/y": b"upper", "script": "#!/bin/sh\n"}),
    ]
    return Image(str(oci_layout(top / "layout", layers, settings))).filesystem()


def _full(top: Path) -> str:
    populate(top / "top")
    return str(top / "top")


def _full_without_dangling(top: Path) -> str:
    """fsspec's local filesystem fails for a symlink that leads nowhere."""
    full = _full(top)
    (top / "top/dangling").unlink()
    return full


def _pyfs() -> SuperBlock:
    fs = PyFS({"motd": "hello\n", "bytes": bytes(1000), "d": {"x": "1\n", "y": lambda: "made\n"}})
    fs.directory("made")(lambda: {"ann": "1\n", "bob": lambda: "2\n"})
    return fs


class ReadOnlyDict(PathFS):
    """The least that a filesystem is: info(), list() and read()."""

    FILES = {"a": b"one\n", "d/b": b"two\n" * 1000, "d/e/c": b""}

    def info(self, path: str) -> Any:
        from ring3.vfs.pathfs import Info

        if path in self.FILES:
            return Info("file", len(self.FILES[path]), mtime=1.0)
        if path == "link":
            return Info("symlink", len("d/b"), target="d/b")
        return Info("directory") if any(name.startswith(path + "/") for name in self.FILES) else None

    def list(self, path: str) -> set[str]:
        start = path + "/" if path else ""
        found = {name[len(start) :].split("/")[0] for name in self.FILES if name.startswith(start)}
        return found if path else found | {"link"}

    def read(self, path: str, offset: int, size: int) -> bytes:
        return self.FILES[path][offset:] if size < 0 else self.FILES[path][offset : offset + size]


#: Empty ones that have all that Linux's own have.
UNIX: dict[str, Make] = {
    "memory": lambda top: MemoryFS(),
    "limited": lambda top: limited(size="64m", nr_inodes=1000),
    "cow": lambda top: CowFS(str(top / "top")),
    "rw": lambda top: HostFS(str(top / "top"), read_only=False),
    "overlay": lambda top: OverlayFS([MemoryFS()]),
    "oci": lambda top: OverlayFS([MemoryFS()], HostFS(str(top / "top"), read_only=False)),
    "redirect": lambda top: OverlayFS([MemoryFS(), CowFS(str(top / "top"))], redirect_dir=True),
    "cow over tar": lambda top: OverlayFS([_packed(top, "empty tar")]),
    "cow over zip": lambda top: OverlayFS([_packed(top, "empty zip")]),
    "cow over fsspec": lambda top: OverlayFS([_fsspec(f"memory://contract-{top.name}", read_only=True)]),
    "cow over ro": lambda top: OverlayFS([HostFS(str(top / "top"))]),
}

#: Empty ones whose Python makes files and directories, and nothing else.
PLAIN: dict[str, Make] = {
    "path": lambda top: Dict({}),
    "fsspec": lambda top: _fsspec(f"memory://contract-{top.name}"),
    "fsspec local": lambda top: _fsspec(f"file://{top}/top"),
}

#: Filled ones, of which many cannot be written.
FILLED: dict[str, Make] = {
    "ro": lambda top: HostFS(_full(top)),
    "rw": lambda top: HostFS(_full(top), read_only=False),
    "cow": lambda top: CowFS(_full(top)),
    "overlay": lambda top: OverlayFS([MemoryFS(), HostFS(_full(top))]),
    "tar": lambda top: _packed(top, "tar"),
    "tar.gz": lambda top: _packed(top, "gz"),
    "tar.xz": lambda top: _packed(top, "xz"),
    "zip": lambda top: _packed(top, "zip"),
    "cow over tar": lambda top: OverlayFS([_packed(top, "tar")]),
    "image": _image,
    "fsspec": lambda top: _fsspec(f"file://{_full_without_dangling(top)}", read_only=True),
    "python": lambda top: _pyfs(),
    "path": lambda top: ReadOnlyDict("least"),
}


@contextmanager
def standard_tree(name: str) -> Iterator[TreePath]:
    """/dev, /proc or /sys of a world in which nothing runs."""
    import ring3

    with ring3.Sandbox() as box:
        yield box.root / name


def forget(name: str, top: Path) -> None:
    """Empty fsspec's memory filesystem, which is one for the whole process."""
    if name in ("fsspec", "cow over fsspec"):
        import fsspec

        fs: Any = fsspec.filesystem("memory")
        if fs.exists(f"/contract-{top.name}"):
            fs.rm(f"/contract-{top.name}", recursive=True)


def mounted(make: Make, top: Path, flags: int) -> tuple[Vfs, TreePath]:
    """A filesystem in a world in memory, to be closed by its Vfs."""
    vfs = Vfs(MemoryFS(mode=0o755))
    tree = TreePath(vfs)
    (tree / "m").mkdir()
    vfs.mount(make(top), b"/m", flags)
    return vfs, tree / "m"


__all__ = ["FILLED", "PLAIN", "UNIX", "forget", "mounted", "standard_tree"]
