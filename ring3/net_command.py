"""``ring3 net``: the connections of the sandboxes that run.

Part of: ring3 (the front door), on live.py. May touch: nothing.
"""

from __future__ import annotations

from . import live
from .connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

DESCRIPTION = """\
Show the connections of the sandboxes that run, of this user; root sees everybody's. Bytes are "-" where they go
from program to program without ring3.
"""
HEADINGS = ("PROTO", "STATE", "LOCAL", "REMOTE", "PROGRAM", "SENT", "RECEIVED", "AGE")


def parser_of(make: Callable[[str, str], argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The command line's parser; ``make(prog, description)`` makes an empty one."""
    return live.options(make("ring3 net", DESCRIPTION), "connection")


def show(options: argparse.Namespace) -> int:
    """Carry out ``ring3 net``; return the exit status."""
    return live.show(options, "net", HEADINGS, _columns)


def _columns(told: dict[str, Any]) -> tuple[str, ...]:
    row = Connection(**told)._asdict()  # raises where it is none
    remote = _place(row["remote"], row["name"]) if row["remote"] else "-"
    program = f"{row['program']}[{row['pid']}]" if row["pid"] else "-"
    amounts = [_size(row[way]) for way in ("sent", "received")]
    local = _place(row["local"], "")
    return row["protocol"], row["state"], local, remote, program, *amounts, _age(row["age"])


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
