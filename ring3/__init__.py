"""Run unmodified Linux programs against a world made in Python."""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs 5 ms to import; type checkers know this name
__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import DEVNULL, PIPE, STDOUT, CalledProcessError, CompletedProcess, TimeoutExpired, run
    from .connection import Connection
    from .errors import (
        CoreBuildError,
        ExecError,
        ProgramNotExecutable,
        ProgramNotFound,
        Ring3Error,
        SandboxClosed,
        SandboxError,
        UnsupportedHost,
        UsageError,
    )
    from .networking import Lan
    from .process import Popen
    from .sandbox import Sandbox

_LAZY = {
    "run": "api",
    "CompletedProcess": "api",
    "CalledProcessError": "api",
    "TimeoutExpired": "api",
    "DEVNULL": "api",
    "PIPE": "api",
    "STDOUT": "api",
    "Sandbox": "sandbox",
    "Popen": "process",
    "Lan": "networking",
    "Connection": "connection",
    "Ring3Error": "errors",
    "CoreBuildError": "errors",
    "UnsupportedHost": "errors",
    "SandboxError": "errors",
    "SandboxClosed": "errors",
    "UsageError": "errors",
    "ExecError": "errors",
    "ProgramNotExecutable": "errors",
    "ProgramNotFound": "errors",
}

__all__ = [
    "__version__",
    "run",
    "CompletedProcess",
    "CalledProcessError",
    "TimeoutExpired",
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Sandbox",
    "Connection",
    "Lan",
    "Popen",
    "Ring3Error",
    "CoreBuildError",
    "UnsupportedHost",
    "SandboxError",
    "SandboxClosed",
    "UsageError",
    "ExecError",
    "ProgramNotExecutable",
    "ProgramNotFound",
]


def __getattr__(name: str) -> object:
    # PEP 562: the command line imports this module too, and its start-up would pay for eager imports.
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
