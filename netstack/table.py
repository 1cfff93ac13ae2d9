"""The live table of a sandbox's connections, for box.net.connections() and `ring3 net` (which asks kernel/telling.py).

Layer: netstack, on top.  May touch: the registry of sockets, the host's /proc of guests' processes.
"""

from __future__ import annotations

import socket
import struct
import time

from .address import SOCK_STREAM, Endpoint, address_text
from .holders import sockets_of
from .proctables import state_of
from .sock import socket_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel.sandbox import Kernel
    from .inet import InetSock
    from .network import Network

_STATES = {1: "ESTAB", 6: "TIME-WAIT", 7: "UNCONN", 10: "LISTEN"}


def connections(net: Network, kernel: Kernel) -> list[dict[str, Any]]:
    """Every IP socket with a port: `protocol`, `state`, `local` and `remote` as (address, port), the remote's `name`,
    `pid` and `program`, bytes `sent` and `received` (None where the host kernel moves them from program to program),
    `age` in seconds (None: not known)."""
    from .inet import InetSock

    net.sweep()
    places = [(pid, process.proc) for pid, process in kernel.processes.items()]
    holders = {ino: (pid, number) for pid, number, ino in sockets_of(places)}
    now = time.monotonic()
    found = [s for s in (*net.sockets.values(), *net.endings.waiting) if isinstance(s, InetSock) and s.local.port]
    return [
        _row(net, kernel, sock, holders.get(sock.ident[1], (0, -1)), now)
        for sock in found
        if sock.type != SOCK_STREAM or _STATES[state_of(sock)] != "UNCONN"
    ]


def _row(net: Network, kernel: Kernel, sock: InetSock, holder: tuple[int, int], now: float) -> dict[str, Any]:
    pid, number = holder
    remote = sock.shown or sock.peer
    sent, received = _amounts(kernel, sock, pid, number)
    return {
        "protocol": "tcp" if sock.connects else "udp",
        "state": _STATES[state_of(sock)],
        "local": _pair(sock.local),
        "remote": _pair(remote) if remote is not None else None,
        "name": net.name_of(remote.host) if remote is not None else "",
        "pid": pid,
        "program": _program(kernel.processes[pid].proc) if pid in kernel.processes else "",
        "sent": sent,
        "received": received,
        "age": round(now - sock.since, 3) if sock.since else None,
    }


def _amounts(kernel: Kernel, sock: InetSock, pid: int, number: int) -> tuple[int | None, int | None]:
    if sock.traffic is not None:
        return sock.traffic.sent, sock.traffic.received
    if not sock.hosted or pid not in kernel.processes:
        return None, None
    try:
        with socket_of(kernel.processes[pid].take_fd(number)) as copy:
            info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
    except OSError:
        return None, None
    acked, received = struct.unpack_from("<QQ", info, 120)  # tcpi_bytes_acked, tcpi_bytes_received
    return acked, received


def _program(place: str) -> str:
    """What it calls itself by now (prctl(2), PR_SET_NAME)."""
    try:
        with open(f"{place}/comm", "rb") as file:
            return file.read().rstrip(b"\n").decode("utf-8", "replace")
    except OSError:
        return ""


def _pair(where: Endpoint) -> tuple[str, int]:
    return address_text(where.host), where.port
