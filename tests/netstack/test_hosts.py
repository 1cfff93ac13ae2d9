"""Virtual hosts: names, connections to Python handlers, datagrams, refusals.

Layer: tests. Touches guests of its own.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from typing import Any

import pytest
from guestpython import TIME_LIMIT, run

import ring3


def tool(name: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer, here = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    line = await reader.readline()
    writer.write(f"{peer[0]} {here[0]} {here[1]} ".encode() + line)
    await writer.drain()


CLIENT = """
import socket
for host in ("echo.example.com", "10.0.1.1", "93.184.216.34"):
    s = socket.create_connection((host, 7))
    s.sendall(b"hello\\n")
    print(s.makefile().read().strip(), s.getpeername()[0], socket.getfqdn(host))
"""


def test_a_handler_is_a_host_with_a_name_and_addresses() -> None:
    with ring3.Sandbox() as box:
        served = box.net.serve("echo.example.com", 7, echo)
        box.net.serve("93.184.216.34", 7, echo)
        assert served.addresses == ["10.0.1.1", "fd00::101"]
        assert run(box, CLIENT).splitlines() == [
            "fd00::2 fd00::101 7 hello fd00::101 echo.example.com",
            "10.0.0.2 10.0.1.1 7 hello 10.0.1.1 echo.example.com",
            "10.0.0.2 93.184.216.34 7 hello 93.184.216.34 93.184.216.34",
        ]


REFUSED = """
import errno, socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    for host, port in (("10.0.1.1", 8), ("10.0.1.77", 7), ("8.8.8.8", 53), ("2001:db8::1", 80)):
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        try:
            s.connect((host, port))
            s.send(b"x")
            s.recv(1)
        except OSError as e:
            print(errno.errorcode[e.errno])
try:
    socket.getaddrinfo("nobody.example.com", 80)
except socket.gaierror as e:
    print(e.errno == socket.EAI_NONAME)
"""


def test_everything_else_is_refused_at_once_and_told_by_name_and_port() -> None:
    lines: list[str] = []
    with ring3.Sandbox(log=lines.append) as box:
        box.net.serve("echo.example.com", 7, echo)
        assert run(box, REFUSED).split() == [
            "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENETUNREACH",
            "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENETUNREACH", "True",
        ]  # fmt: skip
    told = "\n".join(lines)
    for part in ("echo.example.com:8 (10.0.1.1:8)", "10.0.1.77:7", "8.8.8.8:53", "nobody.example.com"):
        assert part in told, told


def test_datagrams_reach_python_and_are_answered() -> None:
    async def later(data: bytes, source: Any) -> bytes:
        await asyncio.sleep(0)
        return data[::-1] + source[0].encode()

    with ring3.Sandbox() as box:
        box.net.serve_udp("10.5.5.5", 99, later)
        code = "import socket\ns = socket.socket(2, 2)\ns.sendto(b'abc', ('10.5.5.5', 99))\nprint(s.recvfrom(99))"
        out = run(box, code)
        assert out == "(b'cba10.0.0.2', ('10.5.5.5', 99))\n"


FAILING = """
import socket
def ask(port):
    s = socket.create_connection(("bad.example.com", port))
    s.settimeout(30)
    try:
        s.sendall(b"x\\n")
        return s.recv(99)
    except ConnectionResetError:
        return b"reset"
print(ask(1), ask(3)[-2:], ask(1), ask(3)[-2:])
hanging = socket.create_connection(("bad.example.com", 2))
print(ask(3)[-2:])
"""


def test_a_handler_that_fails_or_hangs_harms_its_own_connection_alone() -> None:
    lines: list[str] = []
    began = threading.Event()

    async def failing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        raise KeyError("oops")

    async def hanging(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        began.set()
        await asyncio.Event().wait()

    with ring3.Sandbox(log=lines.append) as box:
        for port, handler in ((1, failing), (2, hanging), (3, echo)):
            box.net.serve("bad.example.com", port, handler)
        out = run(box, FAILING)
        assert out.count("b'x\\n'") == 3 and out.startswith("b'reset'"), out
        assert began.wait(10)
    assert any("bad.example.com:1: its handler failed" in line and "oops" in line for line in lines), lines


def test_a_service_can_end_and_a_port_is_served_once() -> None:
    with ring3.Sandbox() as box:
        with box.net.serve("a.example.com", 80, echo):
            with pytest.raises(ring3.UsageError, match="served already"):
                box.net.serve("A.example.com.", 80, echo)
        code = "import socket\nprint(socket.socket().connect_ex(('a.example.com', 80)))"
        assert run(box, code) == "111\n"
        with pytest.raises(ring3.UsageError):
            box.net.serve("b.example.com", 0, echo)
        with pytest.raises(ring3.UsageError):
            box.net.serve("x" * 64, 1, echo)
        with pytest.raises(ring3.UsageError):
            box.net.host("c.example.com", "10.0.0")


RECORDS = """
dig +noall +answer example.com MX
dig +noall +answer example.com TXT
dig +noall +answer www.example.com A
dig +noall +answer _sip._tcp.example.com SRV
dig +noall +answer any.wild.example.com A
dig +noall +answer +tcp -x 10.0.1.1
dig +noall +answer -x fd00::101
dig +noall +answer +tcp big.example.com TXT | wc -c
dig +noall +answer +bufsize=512 big.example.com TXT | wc -c
dig +noall +comments example.com SRV | grep -o 'status: [A-Z]*'
dig +noall +comments no.example.com A | grep -o 'status: [A-Z]*'
dig +noall +comments +opcode=status example.com A | grep -o 'status: [A-Z]*'
"""


def test_every_kind_of_record_over_udp_and_tcp() -> None:
    tool("dig")
    with ring3.Sandbox(log=lambda _: None) as box:
        net = box.net
        net.host("example.com")
        net.record("example.com", "MX", (10, "mail.example.com"))
        net.record("example.com", "TXT", ["v=spf1 -all", "two"])
        net.record("www.example.com", "CNAME", "example.com", ttl=5)
        net.record("_sip._tcp.example.com", "SRV", (1, 2, 5060, "example.com"))
        net.record("*.wild.example.com", "A", "192.0.2.1")
        net.record("big.example.com", "TXT", "x" * 3000)
        for bad in (("a", "A", "1.2.3"), ("a", "XYZ", "1"), ("a", "MX", "mail"), ("a..b", "TXT", "x")):
            with pytest.raises(ring3.UsageError):
                net.record(*bad)
        done = box.run(["sh", "-c", RECORDS], capture_output=True, text=True, timeout=TIME_LIMIT)
        out = [" ".join(line.split()) for line in done.stdout.splitlines()]
        assert out == [
            "example.com. 60 IN MX 10 mail.example.com.",
            'example.com. 60 IN TXT "v=spf1 -all" "two"',
            "www.example.com. 5 IN CNAME example.com.",
            "example.com. 60 IN A 10.0.1.1",
            "_sip._tcp.example.com. 60 IN SRV 1 2 5060 example.com.",
            "any.wild.example.com. 60 IN A 192.0.2.1",
            "1.1.0.10.in-addr.arpa. 60 IN PTR example.com.",
            out[7],
            out[8],
            out[9],
            "status: NOERROR",
            "status: NXDOMAIN",
            "status: NOTIMP",
        ], done
        assert out[7].endswith("ip6.arpa. 60 IN PTR example.com.")
        assert int(out[8]) > 3000 and out[8] == out[9], "what does not fit into a datagram comes over TCP"


def test_a_handler_that_waits_for_the_sandbox_does_not_hold_up_its_end() -> None:
    entered = threading.Event()

    async def writes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        entered.set()
        while True:
            box.write_file("/tmp/x", b"x")  # wants the sandbox's lock
            await asyncio.sleep(0)

    box = ring3.Sandbox()
    with box:
        box.net.serve("w.example.com", 1, writes)
        assert run(box, "import socket\nsocket.create_connection(('w.example.com', 1))\nprint('there')") == "there\n"
        assert entered.wait(10)
    assert not [t for t in threading.enumerate() if t.name == "ring3-services"]


def test_a_sandbox_that_never_ran_anything_leaves_no_thread() -> None:
    box = ring3.Sandbox()
    box.net.serve("a.example.com", 1, echo)
    _ = box._kernel.net.segment.worker.loop
    box.close()
    assert not [t for t in threading.enumerate() if t.name == "ring3-services"]


def test_a_name_outside_does_not_lead_to_the_hosts_loopback() -> None:
    lines: list[str] = []
    with ring3.Sandbox(log=lines.append) as box:
        box.net.allow("rebinding.example.com")
        egress = box._kernel.net.segment.egress
        given: list[Any] = []
        records = [("rebinding.example.com", 1, 60, b"\x7f\0\0\1"), ("rebinding.example.com", 1, 60, b"\xc0\0\2\1")]
        egress._resolved("rebinding.example.com", True, records, lambda *answer: given.append(answer))
        assert [r[3] for r in given[0][1]] == [b"\xc0\0\2\1"]
        assert egress.name_of(b"\xc0\0\2\1") and not egress.name_of(b"\x7f\0\0\1")
    assert any("rebinding.example.com" in line for line in lines)
