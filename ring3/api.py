"""``ring3.run``: one program in a fresh world, in the shape of ``subprocess.run``.

Part of: ring3 (the front door). May touch: ring3.sandbox only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .process import DEVNULL, PIPE, STDOUT, CalledProcessError, CompletedProcess, TimeoutExpired
from .sandbox import Sandbox

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from .process import Stream
    from .world import MountSpec, User

__all__ = ["DEVNULL", "PIPE", "STDOUT", "CalledProcessError", "CompletedProcess", "TimeoutExpired", "run"]


def run(
    args: Sequence[str | bytes | os.PathLike[str]],
    *,
    files: Mapping[str, bytes | str] | None = None,
    root: str | os.PathLike[str] | None = "/",
    mounts: Mapping[str, MountSpec] | None = None,
    input: bytes | str | None = None,
    capture_output: bool = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    timeout: float | None = None,
    check: bool = False,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    user: User | None = None,
) -> CompletedProcess[Any]:
    """Run a program in a world of its own and wait for it.

    The world is the host's root seen copy-on-write: the program reads the host's files, and all that it
    writes lies in memory and is gone afterwards. ``root`` and ``mounts`` are those of ``Sandbox``.

    Arguments: ``files`` {guest path: content} are written before the start (str as UTF-8; folders are made;
    they belong to the user that runs). ``timeout`` in seconds; ``env`` replaces the whole environment;
    ``user`` a uid, a (uid, gid) pair or a "uid:gid" string. The others are those of ``subprocess.run``.

    Returns a ``subprocess.CompletedProcess``. Raises TimeoutExpired (the guest is killed), CalledProcessError
    with ``check``, ProgramNotFound, ProgramNotExecutable or ExecError if it cannot start, other Ring3Errors.
    """
    with Sandbox(root, mounts=mounts, user=user) as box:
        for path, content in (files or {}).items():
            box.write_file(path, content)
        return box.run(
            args,
            input=input,
            capture_output=capture_output,
            text=text,
            encoding=encoding,
            errors=errors,
            timeout=timeout,
            check=check,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
