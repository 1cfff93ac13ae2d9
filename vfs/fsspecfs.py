"""FsspecFS: any fsspec filesystem in the guest's world (memory://, zip://, http://, s3://, ...).

Layer: vfs, on top of pathfs.py. May touch: the fsspec filesystem that it is given; fsspec is an optional extra.
"""

from __future__ import annotations

import errno
import os

from .inode import err
from .pathfs import Info, PathFS

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["FsspecFS"]


class FsspecFS(PathFS):
    """`target`: an fsspec filesystem, or a URL ("memory://bucket/folder", with the filesystem's own `options`).

    `path`: the directory in it that becomes the root; `read_only`: refuse changes (EROFS); `ttl`: seconds for which
    attributes are believed. Small files are read as a whole, large ones in ranges; what a guest writes is stored when
    it closes the file or calls fsync(2). Raises ImportError without fsspec.
    """

    fstype = "fsspec"

    def __init__(
        self, target: Any, path: str = "", *, read_only: bool = False, ttl: float = 1.0, **options: Any
    ) -> None:
        if isinstance(target, str):
            from fsspec.core import url_to_fs

            self._fs, path = url_to_fs(target, **options)
            source = target
        else:
            self._fs = target
            protocol = target.protocol
            source = f"{protocol if isinstance(protocol, str) else protocol[0]}://{path}"
        self._top = path.rstrip("/")
        super().__init__(source)
        self.ttl = ttl
        self.read_only = read_only

    def _at(self, path: str) -> str:
        return f"{self._top}/{path}" if path and self._top else path or self._top

    def info(self, path: str) -> Info | None:
        found = self._fs.info(self._at(path))
        kind = found.get("type", "file")
        mtime = next(
            (found[key] for key in ("mtime", "LastModified", "modified", "created") if found.get(key)), None
        )
        if mtime is not None and hasattr(mtime, "timestamp"):
            mtime = mtime.timestamp()
        if not isinstance(mtime, (int, float)):
            mtime = None
        mode = found.get("mode")
        target = found.get("destination") if found.get("islink") else None
        if target:  # of a local filesystem: it leads where it leads in the guest's world
            text = os.fsdecode(target)
            return Info("symlink", len(os.fsencode(text)), mode=0o777, mtime=mtime, target=text)
        return Info(
            "directory" if kind == "directory" else "file",
            found.get("size"),
            mode=mode if isinstance(mode, int) and mode & 0o7777 else None,
            mtime=mtime,
        )

    def list(self, path: str) -> Iterable[str]:
        here = self._at(path)
        names = {entry.rstrip("/").rpartition("/")[2] for entry in self._fs.ls(here, detail=False)}
        return names - {""}

    def read(self, path: str, offset: int, size: int) -> bytes:
        end = None if size < 0 else offset + size
        data: bytes = self._fs.cat_file(self._at(path), start=offset or None, end=end)
        return data

    def _changed(self) -> None:
        self._fs.invalidate_cache()

    def write(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(self._at(path), data)
        self._changed()

    def make_directory(self, path: str) -> None:
        self._fs.mkdir(self._at(path), create_parents=False)
        self._changed()

    def remove(self, path: str) -> None:
        self._fs.rm_file(self._at(path))
        self._changed()

    def remove_directory(self, path: str) -> None:
        self._fs.rmdir(self._at(path))
        self._changed()

    def rename(self, old: str, new: str) -> None:
        source, target = self._at(old), self._at(new)
        if self._fs.isdir(source):
            if self._fs.exists(target):
                raise err(errno.EXDEV)
            self._fs.mv(source, target, recursive=True)
        else:
            self._fs.mv(source, target)
        self._changed()
