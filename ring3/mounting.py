"""``--mount type=TYPE,...``: filesystems named in one line of text, as docker's option of this name.

Part of: ring3 (the front door). May touch: the host's files that are named, to open them.
"""

from __future__ import annotations

import os

from .errors import SandboxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .sandbox import Sandbox
    from .vfs.inode import SuperBlock

    Options = dict[str, str]

_FLAGS = ("ro", "rw", "cow", "redirect_dir")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "readonly": "ro"}


def mount(box: Sandbox, spec: str) -> None:
    """Carry out one ``--mount``. Raises UsageError for a malformed one, SandboxError if it cannot be mounted."""
    options = parse(spec)
    target = options.pop("target", "")
    if not target.startswith("/"):
        raise UsageError(f"--mount {spec!r}: target= has to be an absolute path of the guest")
    kind = options.pop("type", "bind")
    make = _TYPES.get(kind)
    if make is None:
        raise UsageError(
            f"--mount {spec!r}: there is no type {kind!r} (there are {', '.join(sorted(_TYPES))})"
        )
    mode = [flag for flag in ("ro", "rw", "cow") if options.pop(flag, None) is not None]
    if len(mode) > 1:
        raise UsageError(f"--mount {spec!r}: one of {' and '.join(mode)} only")
    try:
        if kind == "bind":
            box.mount(target, _needed(options, "source"), mode[0] if mode else "rw")
        else:
            box.mount(target, make(options), mode[0] if mode and mode[0] != "rw" else None)
    except KeyError as e:
        raise UsageError(f"--mount {spec!r}: type {kind} needs {e.args[0]}=") from None
    except ValueError as e:
        raise UsageError(f"--mount {spec!r}: {e}") from None
    except OSError as e:
        raise SandboxError(f"--mount {spec!r}: {e.filename or target}: {e.strerror or e}") from None
    if options:
        raise UsageError(f"--mount {spec!r}: type {kind} has no {next(iter(options))}=")


def parse(spec: str) -> Options:
    """``a=1,b=2,flag`` as a dictionary. UsageError for what is neither."""
    options: Options = {}
    for word in spec.split(","):
        name, equals, value = word.partition("=")
        name = _ALIASES.get(name, name)
        if not name or (not equals and name not in _FLAGS) or name in options:
            raise UsageError(f"--mount {spec!r}: {word!r} is not NAME=VALUE, or is there twice")
        options[name] = value
    return options


def _needed(options: Options, name: str) -> str:
    value = options.pop(name)
    if not value:
        raise KeyError(name)
    return value


def tree(path: str) -> SuperBlock:
    """A host directory or an archive as a read-only filesystem: what a layer of an overlay is."""
    if os.path.isdir(path):
        from .vfs.hostfs import HostFS

        return HostFS(path, read_only=True)
    from .vfs.archive import open_archive

    return open_archive(path)


def _overlay(options: Options) -> SuperBlock:
    from .vfs.hostfs import HostFS
    from .vfs.overlayfs import OverlayFS

    lower = [tree(path) for path in _needed(options, "lowerdir").split(":")]
    upper = options.pop("upperdir", None)
    return OverlayFS(
        lower,
        HostFS(upper, read_only=False) if upper else None,
        redirect_dir=options.pop("redirect_dir", "off") in ("", "on"),
    )


def _archive(options: Options) -> SuperBlock:
    from .vfs.archive import open_archive

    return open_archive(_needed(options, "source"))


def _tar(options: Options) -> SuperBlock:
    from .vfs.tarfs import TarFS

    return TarFS(_needed(options, "source"))


def _zip(options: Options) -> SuperBlock:
    from .vfs.zipfs import ZipFS

    return ZipFS(_needed(options, "source"))


def _tmpfs(options: Options) -> SuperBlock:
    from .vfs.memfs import MemoryFS

    size, inodes = options.pop("size", None), options.pop("nr_inodes", None)
    mode = options.pop("mode", "1777")
    if not mode or set(mode) - set("01234567"):
        raise ValueError(f"mode={mode} is no octal number")
    return MemoryFS(mode=int(mode, 8), size=size, nr_inodes=inodes)


def _bind(options: Options) -> SuperBlock:
    raise AssertionError("Sandbox.mount() makes it")


_TYPES: dict[str, Callable[[Options], SuperBlock]] = {
    "archive": _archive,
    "bind": _bind,
    "overlay": _overlay,
    "tar": _tar,
    "tmpfs": _tmpfs,
    "zip": _zip,
}
