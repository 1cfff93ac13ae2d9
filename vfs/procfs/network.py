"""/proc/PID/net: the network of the sandbox as programs that read text see it (proc_pid_net(5)).

Layer: vfs/procfs, entries. May touch: the sandbox's network, by netstack/proctables.py; nothing of the host's, whose
interfaces and connections are not the guest's.
"""

from __future__ import annotations

from .table import Scope, process_file

_INET = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
_UDP = b" " + _INET + b" ref pointer drops"
_INET6 = (
    b"  sl  local_address                         remote_address                        "
    b"st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
)
_UDP6 = _INET6 + b" ref pointer drops"

#: those that netstack/proctables.py makes
LIVE = (
    "dev", "if_inet6", "igmp", "igmp6", "ipv6_route", "netlink", "route", "sockstat", "sockstat6", "tcp",
    "tcp6", "udp", "udp6", "unix",
)  # fmt: skip

TABLES = {
    "arp": b"IP address       HW type     Flags       HW address            Mask     Device\n",
    "icmp": _UDP[1:].ljust(127) + b"\n",
    "packet": b"sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n",
    "protocols": b"protocol  size sockets  memory press maxhdr  slab module     "
    b"cl co di ac io in de sh ss gs se re bi br ha uh gp em\n",
    "ptype": b"Type Device      Function\n",
    "raw": _INET + b" ref pointer drops\n",
    "raw6": _UDP6 + b"\n",
}  # fmt: skip


def _table(name: str, text: bytes) -> None:
    @process_file(f"net/{name}")
    def read(scope: Scope) -> bytes:
        return text


def _live(name: str) -> None:
    @process_file(f"net/{name}")
    def read(scope: Scope) -> bytes:
        if scope.fs.sandbox is None:
            return b""
        from ...netstack import proctables

        return proctables.TABLES[name](scope.fs.sandbox.net)


for _name in LIVE:
    _live(_name)
for _name, _text in TABLES.items():
    _table(_name, _text)
