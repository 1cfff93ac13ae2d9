"""``ring3 net``: the connections of the sandboxes that run.

Part of: ring3 (the front door). May touch: the abstract names by which sandboxes tell (netstack/table.py).
"""

from __future__ import annotations

import json
import sys
import time

from .connection import Connection
from .errors import UsageError
from .netstack.table import NAME, ask, running

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

DESCRIPTION = """\
Show the connections of the sandboxes that run, of this user; root sees everybody's. Bytes are "-" where they go
from program to program without ring3.
"""
HEADINGS = ("SANDBOX", "PROTO", "STATE", "LOCAL", "REMOTE", "PROGRAM", "SENT", "RECEIVED", "AGE")


def parser_of(make: Callable[[str, str], argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The command line's parser; ``make(prog, description)`` makes an empty one."""
    parser = make("ring3 net", DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="write one JSON object per connection")
    parser.add_argument(
        "-w", "--watch", metavar="SECONDS", nargs="?", const=1.0, type=float, help="again and again (every second)"
    )
    return parser


def show(options: argparse.Namespace) -> int:
    """Carry out ``ring3 net``; return the exit status."""
    if options.watch is not None and options.watch <= 0:
        raise UsageError("--watch takes a number of seconds above 0")
    while True:
        if options.json:
            text = "".join(json.dumps({"sandbox": pid, **row}) + "\n" for pid, row in _rows())
        else:
            text = _table([HEADINGS, *(_columns(pid, row) for pid, row in _rows())])
        clear = "\033[H\033[J" if options.watch is not None and sys.stdout.isatty() else ""
        sys.stdout.write(clear + text)
        sys.stdout.flush()
        if options.watch is None:
            return 0
        time.sleep(options.watch)


def _rows() -> Iterator[tuple[int, dict[str, Any]]]:
    """Every connection, with the pid of its sandbox's ring3."""
    for name in running():
        pid = name[len(NAME) :].partition(b"-")[0].decode("latin-1")
        try:
            answer = ask(name)
            rows = [Connection(**row)._asdict() for row in answer[1]] if answer is not None else []
        except (ValueError, TypeError):
            continue  # it only has such a name
        for row in rows if pid.isdecimal() else ():
            yield int(pid), row


def _columns(pid: int, row: dict[str, Any]) -> tuple[str, ...]:
    remote = _place(row["remote"], row["name"]) if row["remote"] else "-"
    program = f"{row['program']}[{row['pid']}]" if row["pid"] else "-"
    amounts = [_size(row[way]) for way in ("sent", "received")]
    local = _place(row["local"], "")
    return str(pid), row["protocol"], row["state"], local, remote, program, *amounts, _age(row["age"])


def _place(where: list[Any], name: str) -> str:
    host, port = where
    return f"{name or (f'[{host}]' if ':' in host else host)}:{port}"


def _size(count: int | None) -> str:
    if count is None:
        return "-"
    amount, units = float(count), iter(("", "K", "M", "G", "T"))
    unit = next(units)
    while amount >= 10240 and unit != "T":
        amount, unit = amount / 1024, next(units)
    return f"{amount:.0f}{unit}"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    text = "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)  # a program may be called anything
