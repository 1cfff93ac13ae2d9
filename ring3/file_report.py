"""What a run read, wrote, asked about and missed, as a build system wants it.

Part of: ring3 (the front door). May touch: hooks of the sandbox, its tree for reading.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .kernel.hooks import Hook
    from .sandbox import Sandbox

_OPENS = {"open", "openat", "openat2", "creat"}
_ASKS = {
    *(
        "stat",
        "lstat",
        "newfstatat",
        "statx",
        "access",
        "faccessat",
        "faccessat2",
        "readlink",
        "readlinkat",
        "statfs",
    ),
    *("getxattr", "lgetxattr", "listxattr", "llistxattr", "chdir", "inotify_add_watch", "name_to_handle_at"),
}
_EXECS = {"execve", "execveat", "uselib"}


class FileReport:
    """Records from its making until ``stop()``. The four sets hold absolute guest paths, symbolic links both as they
    were named and as they resolve:

    ``read``: opened for reading, or executed; ``wrote``: opened for writing, made, renamed, removed, or their
    attributes changed; ``asked``: looked at only (stat, access, readlink), and there; ``missed``: not there.
    """

    def __init__(self, box: Sandbox) -> None:
        self.read: set[str] = set()
        self.wrote: set[str] = set()
        self.asked: set[str] = set()
        self.missed: set[str] = set()
        self._vfs = box.vfs
        self._hook: Hook | None = box.hook("%file", after=self._after, on_error="pass")

    def stop(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _after(self, call: Any, result: int) -> None:
        paths = _named(call)
        if result < 0:
            if -result in (errno.ENOENT, errno.ENOTDIR):
                # of two paths (rename, link) the first is what was looked for; a symlink's text is not looked for
                self.missed.update(paths[:1])
            return
        kind = self._kind(call)
        for path in paths:
            kind.add(path)
            resolved = self._resolved(path)
            if resolved is not None:
                kind.add(resolved)

    def _kind(self, call: Any) -> set[str]:
        if call.name in _OPENS:
            flags = _flags(call)
            return self.wrote if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC) else self.read
        if call.name in _EXECS:
            return self.read
        return self.asked if call.name in _ASKS else self.wrote

    def _resolved(self, path: str) -> str | None:
        vfs = self._vfs
        try:
            return os.fsdecode(vfs.path_name(vfs.lookup(vfs.local, None, os.fsencode(path))))
        except OSError:
            return None

    def __str__(self) -> str:
        """A line a path: "read", "wrote", "asked" or "missed", and the path. What was also read is not said to be
        asked about, and what was there at some time is not missed."""
        there = self.read | self.wrote
        lines = [("read", p) for p in self.read] + [("wrote", p) for p in self.wrote]
        lines += [("asked", p) for p in self.asked - there]
        lines += [("missed", p) for p in self.missed - there - self.asked]
        return "".join(
            f"{kind} {path}\n" for kind, path in sorted(lines, key=lambda line: (line[1], line[0]))
        )


def _flags(call: Any) -> int:
    if call.name == "creat":
        return os.O_CREAT | os.O_WRONLY
    if call.name == "openat2":
        return int.from_bytes(call.memory.read(call.raw[2], 8), "little")
    return int(call.raw[1 if call.name == "open" else 2])


def _named(call: Any) -> list[str]:
    """The paths that the call names, without those of its descriptors."""
    bases = set()
    for number, (kind, _) in enumerate(call.kinds):
        if kind in ("fd", "dirfd"):
            ref = call.fd_ref(number)
            if ref is not None:
                bases.add(call.fd_path(ref))
    paths = [path for path in call.paths if path not in bases]
    if call.name in ("symlink", "symlinkat"):
        del paths[:-1]  # the target is text
    return paths
