"""A sandbox's tree as an fsspec filesystem: ``fsspec.filesystem("ring3", box=box)``.

Part of: ring3 (the front door). May touch: the sandbox's tree; needs the optional package fsspec.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

if TYPE_CHECKING:
    from .sandbox import Sandbox

__all__ = ["Ring3FileSystem"]


class Ring3FileSystem(AbstractFileSystem):  # type: ignore[misc]
    """``box``: the Sandbox. Paths are the guest's, absolute; errors are those of ``os``."""

    protocol = "ring3"
    root_marker = "/"
    cachable = False

    def __init__(self, box: Sandbox, **options: Any) -> None:
        super().__init__(**options)
        self.box = box

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(p) for p in path]
        text = os.fspath(path)
        for prefix in ("ring3://", "ring3:"):
            text = text.removeprefix(prefix)
        return "/" + text.strip("/")

    def _at(self, path: str) -> Any:
        return self.box.root / self._strip_protocol(path)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """As AbstractFileSystem.info(), with mode, uid, gid, ino, nlink, mtime."""
        place = self._at(path)
        st = place.lstat()
        link = stat.S_ISLNK(st.st_mode)
        if link:
            try:
                st = place.stat()
            except OSError:
                pass  # a dangling link is described itself
        kind = "directory" if stat.S_ISDIR(st.st_mode) else "file" if stat.S_ISREG(st.st_mode) else "other"
        found = {"name": str(place), "size": st.st_size, "type": kind, "islink": link}
        found |= {name: getattr(st, f"st_{name}") for name in ("mode", "uid", "gid", "ino", "nlink", "mtime")}
        return found

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """As AbstractFileSystem.ls()."""
        place = self._at(path)
        children = sorted(place.iterdir()) if place.is_dir() else [place]
        if not children and not place.exists():
            raise FileNotFoundError(path)
        return [self.info(str(child)) for child in children] if detail else [str(child) for child in children]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return self._at(path).open(mode if "b" in mode else mode + "b")

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        self._at(path).mkdir(parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._at(path).mkdir(parents=True, exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        self._at(path).rmdir()

    def rm_file(self, path: str) -> None:
        self._at(path).unlink()

    _rm = rm_file

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """As AbstractFileSystem.rm()."""
        for each in reversed(self.expand_path(path, recursive=recursive, maxdepth=maxdepth)):
            place = self._at(each)
            if place.is_dir() and not place.is_symlink():
                place.rmdir()
            else:
                place.unlink()

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        source, target = self._at(path1), self._at(path2)
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            return
        with source.open("rb") as f, target.open("wb") as g:
            while data := f.read(1 << 20):
                g.write(data)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        self._at(path1).rename(self._at(path2))

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        if truncate:
            self._at(path).write_bytes(b"")
        else:
            self._at(path).touch()

    def created(self, path: str) -> Any:
        return self.modified(path)

    def modified(self, path: str) -> Any:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self._at(path).stat().st_mtime, tz=UTC)
