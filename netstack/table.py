"""The live table of a sandbox's connections, for box.net.connections() and `ring3 net`.

Layer: netstack, on top.  May touch: the registry of sockets, an abstract name of the host's by which the table is asked
for from outside; only this process's user, and root, get it.

The table goes out as JSON in a memfd, so that nobody who reads slowly holds up the sandbox.
"""

from __future__ import annotations

import array
import os
import select
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

#: what the abstract names begin with; the pid and a number follow
NAME = b"\0ring3-net-"
_STATES = {1: "ESTAB", 6: "TIME-WAIT", 7: "UNCONN", 10: "LISTEN"}


def connections(net: Network, kernel: Kernel) -> list[dict[str, Any]]:
    """Every IP socket with a port: `protocol`, `state`, `local` and `remote` as (address, port), the remote's `name`,
    `pid` and `program`, bytes `sent` and `received` (None where the host kernel moves them from program to program),
    `age` in seconds (None: not known)."""
    from .inet import InetSock

    net.sweep()
    holders = {ino: (pid, number) for pid, number, ino in sockets_of(list(kernel.processes))}
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
        "program": _program(pid) if pid else "",
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


def _program(pid: int) -> str:
    """What it calls itself by now (prctl(2), PR_SET_NAME)."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n").decode("utf-8", "replace")
    except OSError:
        return ""


def _pair(where: Endpoint) -> tuple[str, int]:
    return address_text(where.host), where.port


class Teller:
    """Answers whoever asks for a sandbox's table from outside."""

    _made = 0

    def __init__(self, net: Network, kernel: Kernel) -> None:
        self._net, self._kernel = net, kernel
        Teller._made += 1
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._sock.setblocking(False)
        self._sock.bind(NAME + b"%d-%d" % (os.getpid(), Teller._made))
        self._sock.listen(16)
        net.loop.add(self._sock.fileno(), self._ready, select.EPOLLIN)

    def _ready(self, _events: int) -> None:
        try:
            asking, _ = self._sock.accept()
        except OSError:
            return
        with asking:
            uid = struct.unpack("iII", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if uid not in (0, os.geteuid()):
                return
            import json  # costs start-up time

            fd = os.memfd_create("ring3-connections", os.MFD_CLOEXEC)
            try:
                with open(fd, "wb", closefd=False) as file:
                    file.write(json.dumps(connections(self._net, self._kernel)).encode())
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
                asking.sendmsg([self._net.hostname.encode()], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                pass
            finally:
                os.close(fd)

    def close(self) -> None:
        self._net.loop.remove(self._sock.fileno())
        self._sock.close()


def running() -> list[bytes]:
    """The names by which the tables of running sandboxes are asked for."""
    with open("/proc/net/unix", "rb") as table:
        names = (line.rsplit(None, 1)[-1] for line in table)
        return sorted({b"\0" + name[1:] for name in names if name.startswith(b"@" + NAME[1:])})


def ask(name: bytes) -> tuple[str, list[dict[str, Any]]] | None:
    """The sandbox's hostname and its table; None if it has ended, or does not tell us.  Blocks until it answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(10)
        try:
            asking.connect(name)
            data, fds, _, _ = socket.recv_fds(asking, 256, 1)
        except OSError:
            return None
    if not fds:
        return None
    import json

    with open(fds[0], "rb") as file:
        file.seek(0)
        return data.decode("utf-8", "replace"), json.load(file)
