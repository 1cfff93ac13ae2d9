"""Tables of what the sandboxes do that run, for ``ring3 net`` and ``ring3 ps``.

Part of: ring3 (the front door). May touch: the abstract names by which sandboxes tell (kernel/telling.py).
"""

from __future__ import annotations

import json
import sys
import time

from .errors import UsageError
from .kernel.telling import ask_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any


def options(parser: argparse.ArgumentParser, thing: str) -> argparse.ArgumentParser:
    """Add the options that all these commands have; return the parser."""
    parser.add_argument("--json", action="store_true", help=f"write one JSON object per {thing}")
    parser.add_argument(
        "-w",
        "--watch",
        metavar="SECONDS",
        nargs="?",
        const=1.0,
        type=float,
        help="again and again (every second)",
    )
    return parser


def show(
    options: argparse.Namespace,
    what: str,
    headings: tuple[str, ...],
    columns: Callable[[dict[str, Any]], tuple[str, ...]],
) -> int:
    """Ask every sandbox for ``what`` and print the rows; ``columns(row)`` makes a line's columns, or raises where it
    is no such row.  Returns the exit status: 1 where a sandbox does not answer."""
    if options.watch is not None and options.watch <= 0:
        raise UsageError("--watch takes a number of seconds above 0")
    while True:
        lines, stuck = [("SANDBOX", *headings)], ""
        told: list[dict[str, Any]] = []
        for pid, answer in ask_all(what.encode()):
            if "stuck" in answer:
                stuck += f"ring3: the sandbox of process {pid} does not answer; it is at:\n{answer['stuck']}"
            for row in answer.get("rows", ()):
                try:
                    lines.append((str(pid), *columns(row)))
                except (ValueError, TypeError, KeyError):
                    continue  # it only has such a name
                told.append({"sandbox": pid, **row})
        text = "".join(json.dumps(row) + "\n" for row in told) if options.json else _table(lines)
        clear = "\033[H\033[J" if options.watch is not None and sys.stdout.isatty() else ""
        print(clear + text, end="", flush=options.watch is not None)
        print(stuck, end="", file=sys.stderr)
        if options.watch is None:
            return 1 if stuck else 0
        time.sleep(options.watch)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)
    return "".join(
        c if c.isprintable() or c == "\n" else "?" for c in text
    )  # a program may be called anything
