"""PyFS: files that Python functions generate, and take.

Layer: vfs, on top of pathfs.py. May touch: nothing but the functions that it is given.
"""

from __future__ import annotations

import errno

from .inode import err
from .pathfs import Info, PathFS

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from typing import Any

    Text = str | bytes
    Read = Callable[[], Text | Awaitable[Text]]

__all__ = ["PyFS", "PyFile"]


class PyFile:
    """A file of a PyFS. `reader` gives the contents each time the file is opened; `@file.writer` names the function
    that gets them when a guest has written and closed it."""

    def __init__(self, reader: Read, mode: int | None) -> None:
        self.reader = reader
        self.mode = mode
        self.on_write: Callable[[bytes], Any] | None = None

    def writer(self, function: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """A decorator: `function(data)` gets the whole contents; an OSError that it raises reaches fsync(2)."""
        self.on_write = function
        return function


class PyFS(PathFS):
    """A filesystem of functions, which may be `async`.

    ```
    fs = PyFS()

    @fs.file("now")
    def now():
        return time.ctime() + "\\n"

    @fs.directory("users")
    def users():
        return {"ann": b"1\\n", "bob": lambda: "2\\n"}     # names and contents, or functions, or further mappings
    ```
    """

    fstype = "pyfs"
    ttl = 0.0

    def __init__(self, files: Mapping[str, Any] | None = None) -> None:
        """`files`: {path: text, bytes, function or mapping}, as with add()."""
        self._entries: dict[str, Any] = {}
        super().__init__("pyfs")
        self.read_only = False
        for path, what in (files or {}).items():
            self.add(path, what)

    def file(self, path: str, *, mode: int | None = None) -> Callable[[Read], PyFile]:
        """A decorator: the function gives the file's contents."""

        def decorate(function: Read) -> PyFile:
            made = PyFile(function, mode)
            self.add(path, made)
            return made

        return decorate

    def directory(
        self, path: str
    ) -> Callable[[Callable[[], Mapping[str, Any]]], Callable[[], Mapping[str, Any]]]:
        """A decorator: the function gives a mapping of names to contents, each time somebody looks."""

        def decorate(function: Callable[[], Mapping[str, Any]]) -> Callable[[], Mapping[str, Any]]:
            self.add(path, _Directory(function))
            return function

        return decorate

    def add(self, path: str, what: Any) -> None:
        """Put text, bytes, a function or a mapping at a path."""
        parts = [part for part in path.split("/") if part]
        if not parts or ".." in parts:
            raise ValueError(f"{path!r} is no path of a file")
        entries = self._entries
        for part in parts[:-1]:
            entries = entries.setdefault(part, {})
            if not isinstance(entries, dict):
                raise ValueError(f"{path!r} is beneath a file")
        entries[parts[-1]] = what

    def _find(self, path: str) -> Any:
        found: Any = self._entries
        for part in path.split("/") if path else ():
            names = _mapping(found)
            if names is None or part not in names:
                return None
            found = names[part]
        return found

    # -- PathFS ----------------------------------------------------------------------------------------------

    def info(self, path: str) -> Info | None:
        found = self._find(path)
        if found is None:
            return None
        if _mapping(found) is not None:
            return Info("directory", mode=0o555)
        if isinstance(found, (str, bytes)):
            return Info("file", len(found.encode() if isinstance(found, str) else found), mode=0o444)
        file = found if isinstance(found, PyFile) else PyFile(found, None)
        mode = file.mode if file.mode is not None else 0o444 if file.on_write is None else 0o644
        return Info("file", None, mode=mode)

    def list(self, path: str) -> Iterable[str]:
        return _mapping(self._find(path)) or ()

    def read(self, path: str, offset: int, size: int) -> Text | Awaitable[Text]:
        found = self._find(path)
        if found is None:
            raise err(errno.ENOENT)
        if isinstance(found, (str, bytes)):
            return found
        function: Read = found.reader if isinstance(found, PyFile) else found
        return function()

    def write(self, path: str, data: bytes) -> None | Awaitable[None]:
        found = self._find(path)
        if not isinstance(found, PyFile) or found.on_write is None:
            raise err(errno.EACCES)
        result: Awaitable[None] | None = found.on_write(data)
        return result


class _Directory:
    __slots__ = ("function",)

    def __init__(self, function: Callable[[], Mapping[str, Any]]) -> None:
        self.function = function


def _mapping(what: Any) -> Mapping[str, Any] | None:
    """The names in a directory, None if it is none."""
    if isinstance(what, _Directory):
        return what.function()
    if isinstance(what, dict) or (not isinstance(what, (str, bytes, PyFile)) and hasattr(what, "keys")):
        names: Mapping[str, Any] = what
        return names
    return None
