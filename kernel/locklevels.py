"""How far guests' processes are locked down on this host: names for what core_native/lockdown.c has achieved.

Layer: the pretend kernel, beside initproc.  May touch: nothing.
"""

from __future__ import annotations

from .layout import CONSTANTS

_FILTER = CONSTANTS["LOCKED_FILTER"] | CONSTANTS["LOCKED_RIGHTS"]
_SCOPED = _FILTER | CONSTANTS["LOCKED_PATHS"] | CONSTANTS["LOCKED_SCOPE"]
_FULL = _SCOPED | CONSTANTS["LOCKED_ROOT"] | CONSTANTS["LOCKED_SPACES"] | CONSTANTS["LOCKED_PIDS"]
#: the names, each with what it takes, from the least to the most
LEVELS = {"none": 0, "filter": _FILTER, "scoped": _SCOPED, "full": _FULL}
_LACKS = {
    "LOCKED_FILTER": "a seccomp filter",
    "LOCKED_RIGHTS": "no_new_privs and no capabilities",
    "LOCKED_PATHS": "Landlock (Linux 5.13)",
    "LOCKED_SCOPE": "Landlock's scopes (Linux 6.12), for signals and abstract sockets",
    "LOCKED_ROOT": "an empty root directory (root, or user namespaces)",
    "LOCKED_SPACES": "namespaces of its own: network, IPC, UTS and cgroup (root, or user namespaces)",
    "LOCKED_PIDS": "a PID namespace of its own (Linux 6.11; root, or user namespaces; the whole of /proc)",
}


def level_of(bits: int) -> str:
    """The highest level that LOCKED_* bits amount to."""
    return max((name for name, takes in LEVELS.items() if takes & ~bits == 0), key=lambda name: LEVELS[name])


def lacks(bits: int, level: str = "full") -> list[str]:
    """What is not there for a level, in words."""
    return [words for name, words in _LACKS.items() if LEVELS[level] & ~bits & CONSTANTS[name]]
