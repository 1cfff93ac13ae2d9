"""Multicast and broadcast on the sandbox's network: eth0, hosts in Python, several machines.

Layer: tests. Touches guests of its own.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from guestpython import PYTHON, TIME_LIMIT, run

import ring3

LOOP = """
import socket, struct
a, s = socket.socket(FAMILY, 2), socket.socket(FAMILY, 2)
a.bind(("", 5000))
LEVEL, JOIN, IF, LOOP, TTL = OPTIONS
a.setsockopt(LEVEL, JOIN, socket.inet_pton(FAMILY, "GROUP") + (bytes(4) if FAMILY == 2 else struct.pack("i", 2)))
s.sendto(b"one", ("GROUP", 5000))
print(a.recvfrom(9)[0], a.getsockname()[1])
s.setsockopt(LEVEL, LOOP, 0)
s.sendto(b"two", ("GROUP", 5000))
s.setsockopt(LEVEL, LOOP, 1)
s.setsockopt(LEVEL, TTL, 0)
s.sendto(b"three", ("GROUP", 5000))
data, who = a.recvfrom(9)
print(data, who[0])
"""


@pytest.mark.parametrize(
    ("family", "group", "options", "source"),
    [(2, "239.1.2.3", (0, 35, 32, 34, 33), "10.0.0.2"), (10, "ff02::4711", (41, 20, 17, 19, 18), "fd00::2")],
)
def test_what_is_sent_comes_back_unless_it_is_not_wanted(
    family: int, group: str, options: tuple[int, ...], source: str
) -> None:
    with ring3.Sandbox() as box:
        code = LOOP.replace("FAMILY", str(family)).replace("GROUP", group).replace("OPTIONS", repr(options))
        assert run(box, code) == f"b'one' 5000\nb'three' {source}\n"


ASK = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for where in ("239.255.255.250", "10.0.255.255", "255.255.255.255"):
    s.sendto(b"who", (where, 1900))
    answers = sorted(s.recvfrom(99) for _ in range(1 if where[0] == "2" and where[1] == "3" else 2))
    print([(data.decode(), who[0]) for data, who in answers])
s.sendto(b"last", ("10.0.1.1", 1900))
print(s.recv(99))
"""


def test_hosts_in_python_answer_from_their_own_addresses(tmp_path: Path) -> None:
    with ring3.Sandbox() as box:
        box.net.serve_udp("tv.example.com", 1900, lambda data, _: b"tv " + data, group="239.255.255.250")
        box.net.serve_udp("lamp.example.com", 1900, lambda data, _: b"lamp " + data)
        box.net.capture(tmp_path / "net.pcap")
        assert run(box, ASK).splitlines() == [
            "[('tv who', '10.0.1.1')]",
            "[('lamp who', '10.0.1.2'), ('tv who', '10.0.1.1')]",
            "[('lamp who', '10.0.1.2'), ('tv who', '10.0.1.1')]",
            "b'tv last'",
        ]
        with pytest.raises(ring3.UsageError):
            box.net.serve_udp("tv.example.com", 1901, lambda data, _: data, group="10.0.0.1")
    capture = (tmp_path / "net.pcap").read_bytes()
    assert capture.count(b"\x01\x00\x5e\x7f\xff\xfa") == 1  # the group's Ethernet address
    assert capture.count(b"\xff" * 6 + b"\x02\x00") == 2


MEMBER = """
import socket
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("", 6000))
JOIN
print("ready", flush=True)
while True:
    data, who = a.recvfrom(99)
    print(data.decode(), who[0], flush=True)
    if data == b"end":
        break
"""
SENDER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(0, 33, 0)
s.sendto(b"ttl 0", ("239.1.2.3", 6000))
s.setsockopt(0, 33, 1)
s.sendto(b"multicast", ("239.1.2.3", 6000))
s.sendto(b"broadcast", ("255.255.255.255", 6000))
s.sendto(b"end", ("10.0.255.255", 6000))
"""


def test_members_on_other_machines_get_it() -> None:
    lan = ring3.Lan()
    join = 'a.setsockopt(0, 35, socket.inet_aton("239.1.2.3") + bytes(4))'
    with ring3.Sandbox() as one, ring3.Sandbox() as two, ring3.Sandbox() as three:
        for box, name in ((one, "one"), (two, "two"), (three, "three")):
            lan.join(box, name)
        listening = [
            box.popen([PYTHON, "-I", "-S", "-c", MEMBER.replace("JOIN", how)], stdout=ring3.PIPE, text=True)
            for box, how in ((two, join), (three, ""))
        ]
        for guest in listening:
            assert guest.stdout is not None and guest.stdout.readline() == "ready\n"
        run(one, SENDER)
        heard = [guest.stdout.read().splitlines() for guest in listening if guest.stdout is not None]
        assert [guest.wait(TIME_LIMIT) for guest in listening] == [0, 0]
        broadcasts = ["broadcast 10.0.0.2", "end 10.0.0.2"]
        assert heard == [["multicast 10.0.0.2", *broadcasts], broadcasts]


def test_without_a_network_no_group_is_reached() -> None:
    code = """
import errno, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for where in ("239.1.2.3", "10.0.255.255"):
    try: print(s.sendto(b"x", (where, 9)))
    except OSError as e: print(errno.errorcode[e.errno])
try: s.setsockopt(0, 35, socket.inet_aton("239.1.2.3") + bytes(4))
except OSError as e: print(errno.errorcode[e.errno])
"""
    with ring3.Sandbox(log=lambda _: None) as box:
        box.net.mode = "none"
        assert run(box, code).split() == ["ENETUNREACH", "ENETUNREACH", "ENODEV"]


def test_what_a_member_is_told_of_where_it_went() -> None:
    code = """
import socket, struct
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("", 5000))
a.setsockopt(0, 35, socket.inet_aton("239.1.2.3") + bytes(4))
a.setsockopt(0, 8, 1)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("239.1.2.3", 5000))
print(a.recvmsg(9, 99)[1][0][2].hex())
"""
    with ring3.Sandbox() as box:
        told = bytes.fromhex(run(box, code))
        assert told == struct.pack("<i4s4s", 2, bytes((239, 1, 2, 3)), bytes((239, 1, 2, 3)))
