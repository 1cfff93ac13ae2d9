"""/proc/PID/net: the network of the sandbox as programs that read text see it (proc_pid_net(5)).

Layer: vfs/procfs, entries. May touch: nothing of the host's network: its interfaces and connections are not
the guest's.

There is one interface, lo. The tables of sockets have their headings and no rows: the virtual network does
not list its sockets here yet, and a program that looks finds none rather than the host's.
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
_ROUTE = b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"

TABLES = {
    "arp": b"IP address       HW type     Flags       HW address            Mask     Device\n",
    "dev": b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast"
    b"|bytes    packets errs drop fifo colls carrier compressed\n"
    b"    lo:       0       0    0    0    0     0          0         0"
    b"        0       0    0    0    0     0       0          0\n",
    "icmp": _UDP[1:].ljust(127) + b"\n",
    "if_inet6": b"00000000000000000000000000000001 01 80 10 80       lo\n",
    "igmp": b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n",
    "ipv6_route": b"",
    "netlink": b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n",
    "packet": b"sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n",
    "protocols": b"protocol  size sockets  memory press maxhdr  slab module     "
    b"cl co di ac io in de sh ss gs se re bi br ha uh gp em\n",
    "ptype": b"Type Device      Function\n",
    "raw": _INET + b" ref pointer drops\n",
    "raw6": _UDP6 + b"\n",
    "route": _ROUTE.ljust(127) + b"\n",
    "sockstat": b"sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\n"
    b"UDPLITE: inuse 0\n"
    b"RAW: inuse 0\nFRAG: inuse 0 memory 0\n",
    "sockstat6": b"TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n",
    "tcp": _INET.ljust(149) + b"\n",
    "tcp6": _INET6 + b"\n",
    "udp": _UDP.ljust(127) + b"\n",
    "udp6": _UDP6 + b"\n",
    "unix": b"Num       RefCount Protocol Flags    Type St Inode Path\n",
}  # fmt: skip


def _table(name: str, text: bytes) -> None:
    @process_file(f"net/{name}")
    def read(scope: Scope) -> bytes:
        return text


for _name, _text in TABLES.items():
    _table(_name, _text)
