"""Compiling native hooks: C that runs inside the core (core_native/ring3_hook.h).

Part of: ring3 (the front door). May touch: the C compiler, the user's cache directory.
"""

from __future__ import annotations

import os

from .core_native.build import cache_dir, run_compiler, source_dir
from .errors import CoreBuildError

FLAGS = (
    "-std=gnu11 -O2 -shared -fpic -ffreestanding -nostdlib -fno-stack-protector -mgeneral-regs-only -mno-red-zone "
    "-fcf-protection=none -fno-asynchronous-unwind-tables -Wl,-z,noexecstack -Wl,--build-id=none -Wl,-z,norelro"
).split()


def compile(source: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> str:
    """Compile the hook ``source`` and return the shared object's path: ``out``, or a file in the user's cache.

    Raises CoreBuildError with the compiler's words if it does not compile, or if there is no compiler.
    """
    source = os.path.abspath(os.fspath(source))
    if out is None:
        name = os.path.splitext(os.path.basename(source))[0]
        out = os.path.join(cache_dir(), f"hook-{name}-{os.getpid()}-{os.urandom(4).hex()}.so")
    out = os.path.abspath(os.fspath(out))
    header = source_dir()
    if not os.path.exists(os.path.join(header, "ring3_hook.h")):
        raise CoreBuildError(f"ring3_hook.h is missing from {header}: reinstall ring3")
    compiler = os.environ.get("CC", "gcc").split()
    run_compiler([*compiler, *FLAGS, "-I", header, "-o", out, source], header, dict(os.environ))
    return out
