"""What the user's own function says to each connection, bind and datagram.

Layer: netstack, between the calls and segment.py.  May touch: the function that it is given.
"""

from __future__ import annotations

import errno

from .address import Endpoint, address_text, err, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel.task import Task
    from .inet import InetSock
    from .network import Network


class Attempted:
    """What a guest is about to do: `kind` is "connect", "bind" or "datagram"; `host` an address as text and `port`,
    `name` what it was resolved from, or ""; `protocol` "tcp" or "udp"; `pid` and `program` who."""

    __slots__ = ("host", "kind", "name", "pid", "port", "program", "protocol")

    def __init__(self, kind: str, t: Task, sock: InetSock, where: Endpoint, name: str) -> None:
        self.kind, self.name = kind, name
        self.host, self.port = address_text(where.host), where.port
        self.protocol = "tcp" if sock.connects else "udp"
        self.pid, self.program = t.process.pid, t.process.comm.decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"<{self.kind} {self.protocol} {self.name or self.host}:{self.port} by {self.program}[{self.pid}]>"


class Policy:
    """`function(attempted)` returns None (what happens anyway), "allow" (also beyond the sandbox), an errno or its name
    to refuse, or (host, port) to go there instead; the guest sees the address that it asked for."""

    def __init__(self, net: Network, function: Callable[[Attempted], Any], kinds: frozenset[str]) -> None:
        self._net, self._function, self._kinds = net, function, kinds

    def decide(self, kind: str, t: Task, sock: InetSock, where: Endpoint) -> tuple[Endpoint, bool]:
        """Where to go, and whether that is allowed whatever the rules say.  Raises the OSError of a refusal, and EACCES
        where the function itself fails."""
        if kind not in self._kinds:
            return where, False
        attempted = Attempted(kind, t, sock, where, self._net.segment.name_of(where.host))
        try:
            return self._read(self._function(attempted), where)
        except Refused as e:
            self._net.log_once(f"{attempted}: refused by the policy ({errno.errorcode.get(e.number)})")
            raise err(e.number) from None
        except Exception as e:
            self._net.segment.failed(f"the policy, at {attempted}", e)
            raise err(errno.EACCES) from e

    def _read(self, verdict: Any, where: Endpoint) -> tuple[Endpoint, bool]:
        if verdict is None:
            return where, False
        if verdict == "allow" or verdict is True:
            return where, True
        if verdict is False:
            raise Refused(errno.EACCES)
        if isinstance(verdict, int):
            raise Refused(abs(verdict))
        if isinstance(verdict, str):
            raise Refused(getattr(errno, verdict))
        host, port = verdict
        address = parse_address(host)
        if address is None:
            found = self._net.segment.hosts.get(host)
            if found is None or found.v4 is None:
                raise ValueError(
                    f"the policy sends to {host!r}, which is no address and no host of this network"
                )
            address = found.v4 if len(where.host) == 4 or found.v6 is None else found.v6
        return Endpoint(address, port), False


class Refused(Exception):
    """The function refused."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
