"""A line of a sandbox's table of connections.

Part of: ring3 (the front door). May touch: nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class Connection(NamedTuple):
    """A line of ``box.net.connections()``: ``protocol`` is "tcp" or "udp"; ``state`` as ss(8) calls it (ESTAB, LISTEN,
    TIME-WAIT, UNCONN); ``local`` and ``remote`` are (address, port), with the remote's ``name`` or ""; ``pid`` and
    ``program`` who holds it (0, "": nobody any more); bytes ``sent`` and ``received`` by the guest (None where they go
    from program to program without ring3); ``age`` in seconds (None: not known)."""

    protocol: str
    state: str
    local: tuple[str, int]
    remote: tuple[str, int] | None
    name: str
    pid: int
    program: str
    sent: int | None
    received: int | None
    age: float | None
