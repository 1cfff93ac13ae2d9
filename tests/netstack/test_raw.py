"""Raw sockets and ICMP's datagram sockets: who gets one, ping, and what goes over the network.

Layer: tests. Touches guests of its own; the same code runs natively where that is allowed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from guestpython import PYTHON, TIME_LIMIT

import ring3

NOBODY = 65534
ASK = """
import errno, socket
for args in ((2, 3, 1), (2, 3, 0), (2, 3, 6), (2, 3, 255), (2, 3, 300), (10, 3, 58), (10, 3, 0), (2, 2, 1), (10, 2, 58),
             (2, 2, 58), (10, 2, 1), (2, 1, 1), (17, 3, 0x300), (17, 2, 0x300), (17, 5, 0), (17, 10, 0)):
    try:
        socket.socket(*args).close()
        print(*args, "yes")
    except OSError as e:
        print(*args, errno.errorcode[e.errno])
"""
QUIET = {"log": lambda _: None}
EVERYBODYS = ("/usr/bin/python3", "-I", "-S", "-c")


def run(box: ring3.Sandbox, code: str) -> str:
    """By the system's Python, which anybody may run; what it printed."""
    done = box.run([*EVERYBODYS, code], capture_output=True, text=True, timeout=TIME_LIMIT)
    assert done.returncode == 0, done
    return str(done.stdout)


def guest(code: str, *, raw: bool, user: int) -> str:
    with ring3.Sandbox(user=user, **QUIET) as box:
        box.net.raw = raw
        return run(box, code)


def natively(code: str, user: int) -> str:
    if user != os.geteuid() and os.geteuid():
        pytest.skip("needs uid 0 on the native side")
    who = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user != os.geteuid() else []
    if subprocess.run([*who, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip(f"the native side may not become user {user}: root of a user namespace that has no such user")
    if user == 0 and not may_be_raw():
        pytest.skip("the native side has no CAP_NET_RAW: root of a user namespace, on the host's network")
    return subprocess.run([*who, *EVERYBODYS, code], capture_output=True, text=True, check=True).stdout


def may_be_raw() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except PermissionError:
        return False
    return True


def without_pings(text: str) -> list[str]:
    """But for ICMP's datagram sockets, of which net.ipv4.ping_group_range decides."""
    return [line for line in text.splitlines() if not line.startswith(("2 2 1 ", "10 2 58 "))]


@pytest.mark.parametrize("raw", [False, True])
def test_nobody_gets_what_nobody_gets_natively(raw: bool) -> None:
    assert without_pings(guest(ASK, raw=raw, user=NOBODY)) == without_pings(natively(ASK, NOBODY))


def test_root_gets_what_is_allowed() -> None:
    refused = guest(ASK, raw=False, user=0)
    assert "yes" not in refused and "2 3 1 EPERM" in refused and "2 2 1 EACCES" in refused
    allowed = guest(ASK, raw=True, user=0).splitlines()
    assert [line for line in allowed if line.endswith("yes")] == [
        "2 3 1 yes", "2 3 6 yes", "2 3 255 yes", "10 3 58 yes", "2 2 1 yes", "10 2 58 yes",
    ]  # fmt: skip
    native = natively(ASK, 0).splitlines()
    packets = [line for line in native if line.startswith("17")]
    assert without_pings("\n".join(line for line in allowed if not line.startswith("17"))) == without_pings(
        "\n".join(line for line in native if line not in packets)
    )


ECHO = """
import select, socket, struct
def sum16(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def echo(number, checked=True):
    message = struct.pack("!BBHHH", 8, 0, 0, 4711, number) + b"payload!"
    return message[:2] + struct.pack("!H", sum16(message)) + message[4:] if checked else message
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
other = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
other.setsockopt(255, 1, struct.pack("<I", ~(1 << 0) & 0xffffffff))  # ICMP_FILTER: echo replies alone
print(other.getsockopt(255, 1, 8).hex(), other.getsockname())
print(s.sendto(echo(1), ("127.0.0.1", 0)))
for _ in range(2):
    data, who = s.recvfrom(999)
    print(len(data), data[0], data[8:10].hex(), data[12:20].hex(), who)
    print(data[20:22].hex(), data[24:].hex(), sum16(data[20:]))
print(other.recv(999)[20])
print(select.select([other], [], [], 0)[0])
other.connect(("127.0.0.2", 0))
print(other.getsockname())
try: other.getpeername()
except OSError as e: print(e.errno)
s.sendto(echo(2), ("127.0.0.1", 0))
s.recv(999), s.recv(999)
print(select.select([other], [], [], 0)[0])
six = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
six.setsockopt(58, 1, struct.pack("<8I", *[0xffffffff] * 4, ~(1 << 1) & 0xffffffff, *[0xffffffff] * 3))
six.sendto(b"\\x80\\0" + echo(3, False)[2:], ("::1", 0))
data, who = six.recvfrom(999)
print(data[:2].hex(), data[4:].hex(), who[0])
header = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
lo = bytes((127, 0, 0, 1))
whole = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 36, 0, 0, 64, 1, 0, lo, lo) + echo(5)
print(header.sendto(whole, ("127.0.0.1", 0)), s.recv(999)[26:28].hex())
try: s.listen()
except OSError as e: print(e.errno)
try: other.send(b"x" * 65516)
except OSError as e: print(e.errno)
"""


def test_raw_sockets_do_what_they_do_natively() -> None:
    if os.geteuid():
        pytest.skip("needs uid 0 on the native side")
    native = natively(ECHO, 0)
    assert guest(ECHO, raw=True, user=0) == native


PINGS = """
import errno, socket, struct
for family, protocol, host in ((2, 1, "127.0.0.1"), (2, 1, "10.0.1.1"), (10, 58, "fd00::101"), (2, 1, "10.0.0.2")):
    s = socket.socket(family, socket.SOCK_DGRAM, protocol)
    s.connect((host, 0))
    s.send(struct.pack("!BBHHH", 8 if family == 2 else 128, 0, 0, 0, 7) + b"abc")
    data, who = s.recvfrom(99)
    print(data[:2].hex(), int.from_bytes(data[4:6], "big") == s.getsockname()[1], data[6:], who[0])
s = socket.socket(2, 2, 1)
for where, data in (("10.0.0.77", b"8" * 8), ("192.0.2.1", b"8" * 8), ("127.0.0.1", b"short")):
    try: print(s.sendto(data, (where, 0)))
    except OSError as e: print(errno.errorcode[e.errno])
print(open("/proc/sys/net/ipv4/ping_group_range").read().split())
"""


def test_everybody_may_ping_where_raw_sockets_are_allowed() -> None:
    with ring3.Sandbox(user=NOBODY, **QUIET) as box:
        box.net.raw = True
        box.net.host("web.example.com")
        assert run(box, PINGS).splitlines() == [
            "0000 True b'\\x00\\x07abc' 127.0.0.1",
            "0000 True b'\\x00\\x07abc' 10.0.1.1",
            "8100 True b'\\x00\\x07abc' fd00::101",
            "0000 True b'\\x00\\x07abc' 10.0.0.2",
            "EHOSTUNREACH",
            "ENETUNREACH",
            "EINVAL",
            "['0', '2147483647']",
        ]


def ping(box: ring3.Sandbox, *args: str) -> str:
    if shutil.which("ping") is None:
        pytest.skip("ping is not installed")
    done = box.run(["ping", "-n", *args], capture_output=True, text=True, timeout=TIME_LIMIT)
    assert not done.stderr, done
    return str(done.stdout)


def test_ping_reaches_hosts_machines_and_itself(tmp_path: Path) -> None:
    lan = ring3.Lan()
    with ring3.Sandbox(**QUIET) as box, ring3.Sandbox(**QUIET) as other:
        lan.join(box, "box")
        lan.join(other, "other.example.com")
        box.net.raw = True
        box.net.host("web.example.com")
        box.net.capture(tmp_path / "net.pcap")
        for where in (
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "fd00::1",
            "web.example.com",
            "other.example.com",
            "10.0.0.2",
        ):
            assert "1 packets transmitted, 1 received, 0% packet loss" in ping(box, "-c1", "-W30", where)
        box.net.weather("web.example.com", cut=True)
        assert "1 packets transmitted, 0 received" in ping(box, "-c1", "-W0.1", "web.example.com")
    if shutil.which("tshark") is not None:
        command = [
            "tshark",
            "-r",
            str(tmp_path / "net.pcap"),
            "-Y",
            "icmp or icmpv6",
            "-o",
            "ip.check_checksum:TRUE",
        ]
        fields = ["-T", "fields", "-e", "_ws.col.Info", "-e", "_ws.expert"]
        told = subprocess.run([*command, *fields], capture_output=True, text=True, check=True).stdout
        assert told.count("reply") == 7 and "bad" not in told, told


def test_raw_packets_do_not_leave() -> None:
    heard: list[str] = []
    code = """
import errno, socket
s = socket.socket(2, 2, 1)
try: s.sendto(b"8" * 8, ("127.0.0.1", 0)); s.sendto(b"8" * 8, ("192.0.2.1", 0))
except OSError as e: print(errno.errorcode[e.errno])
"""
    with ring3.Sandbox(log=heard.append) as box:
        box.net.raw = True
        box.net.allow("192.0.2.1")
        assert run(box, code) == "EPERM\n"
    assert any("raw sockets do not reach beyond" in line for line in heard)


def test_the_command_line_allows_it() -> None:
    if shutil.which("ping") is None:
        pytest.skip("ping is not installed")
    for options, status in (([], 2), (["--net-raw"], 0)):
        command = [PYTHON, "-m", "ring3", "run", *options, "ping", "-c1", "127.0.0.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
        assert done.returncode == status, done
        assert ("--net-raw" in done.stderr) == (status != 0)
