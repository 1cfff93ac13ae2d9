"""``ring3 ps``: what the tasks of the sandboxes that run do or wait for.

Part of: ring3 (the front door), on live.py. May touch: nothing.
"""

from __future__ import annotations

from . import live
from .taskinfo import TaskInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

DESCRIPTION = """\
Show every thread in the sandboxes that run, of this user (root sees everybody's), and what it waits for: "ring3: CALL"
is a system call that the supervisor has not answered yet, "CALL" one that the host kernel does.
"""
HEADINGS = ("PID", "TID", "STATE", "PROGRAM", "DOING")


def parser_of(make: Callable[[str, str], argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The command line's parser; ``make(prog, description)`` makes an empty one."""
    return live.options(make("ring3 ps", DESCRIPTION), "thread")


def show(options: argparse.Namespace) -> int:
    """Carry out ``ring3 ps``; return the exit status."""
    return live.show(options, "ps", HEADINGS, _columns)


def _columns(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(map(str, TaskInfo(**row)))  # raises where it is none
