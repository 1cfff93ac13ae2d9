"""The way out and the way in: what is allowed is reached, nothing else is; published ports; the policy.

Layer: tests. Touches guests of its own, and servers on the host's loopback.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from typing import Any

import pytest
from guestpython import PYTHON, TIME_LIMIT, run
from hostserver import host_server

import ring3
from ring3.netstack.address import Endpoint, parse_address
from ring3.netstack.egress import Rule


def mirror(connection: socket.socket) -> None:
    """Send back what comes, until the end of it."""
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize(
    ("rule", "address", "allowed"),
    [
        ("192.0.2.1", "192.0.2.1:80", True),
        ("192.0.2.1", "192.0.2.2:80", False),
        ("192.0.2.1:443", "192.0.2.1:80", False),
        ("192.0.2.0/24:80", "192.0.2.77:80", True),
        ("192.0.2.0/25", "192.0.2.129:80", False),
        ("0.0.0.0/0", "8.8.8.8:1", True),
        ("0.0.0.0/0", "[2001:db8::1]:1", False),
        ("[2001:db8::]/32:443", "[2001:db8:1::1]:443", True),
        ("2001:db8::1", "[2001:db8::1]:9", True),
        ("[2001:db8::1]:9", "[2001:db8::1]:8", False),
        ("*", "8.8.8.8:1", True),
        ("*", "127.0.0.1:1", False),
        ("*:443", "8.8.8.8:80", False),
        ("example.com", "8.8.8.8:80", False),
    ],
)
def test_a_rule(rule: str, address: str, allowed: bool) -> None:
    host, _, port = address.rpartition(":")
    raw = parse_address(host.strip("[]"))
    assert raw is not None
    assert Rule(rule).allows_address(Endpoint(raw, int(port))) is allowed


@pytest.mark.parametrize("bad", ["", "192.0.2.0/33", "192.0.2.0/x", "host:0", "host:http", "host/8", "a b"])
def test_a_rule_that_is_none(bad: str) -> None:
    with pytest.raises(ValueError):
        Rule(bad)
    with ring3.Sandbox() as box, pytest.raises(ring3.UsageError):
        box.net.allow(bad)


TALK = """
import errno, hashlib, select, socket, threading
def refused(port):
    s = socket.socket()
    return errno.errorcode[s.connect_ex(("127.0.0.1", port))]
s = socket.create_connection(("127.0.0.1", {port}))
peer = s.getpeername()[1]
data = bytes(range(256)) * 20000
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(1))).start()
got = b"".join(iter(lambda: s.recv(1 << 16), b""))
print(got == data, peer == {port}, refused({closed}), refused({other}))
s = socket.socket()
s.setblocking(False)
print(errno.errorcode[s.connect_ex(("127.0.0.1", {port}))], select.select([], [s], [], 20)[1] == [s])
print(s.getsockopt(1, 4))
s.setblocking(True)
s.sendall(b"x")
print(s.recv(1))
s = socket.socket()
s.setblocking(False)
print(errno.errorcode[s.connect_ex(("127.0.0.1", {closed}))], select.select([], [s], [], 20)[1] == [s])
print(errno.errorcode[s.getsockopt(1, 4)])
"""


def test_an_allowed_port_is_reached_and_no_other() -> None:
    with host_server(mirror) as port, host_server(mirror) as other, ring3.Sandbox(log=lambda _: None) as box:
        closed = closed_port()
        box.net.allow(f"127.0.0.1:{port}", f"127.0.0.1:{closed}")
        assert run(box, TALK.format(port=port, closed=closed, other=other)).splitlines() == [
            "True True ECONNREFUSED ECONNREFUSED",
            "EINPROGRESS True",
            "0",
            "b'x'",
            "EINPROGRESS True",
            "ECONNREFUSED",
        ]


def test_a_reset_outside_is_one_inside() -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    code = "import socket\ns = socket.create_connection(('127.0.0.1', %d))\ns.sendall(b'x')\n"
    code += "try: print(s.recv(1))\nexcept OSError as e: print(e.errno)"
    with host_server(reset) as port, ring3.Sandbox() as box:
        box.net.allow(f"127.0.0.1:{port}")
        assert run(box, code % port).strip() == str(errno.ECONNRESET)


def test_datagrams_go_out_and_only_answers_come_in() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, ring3.Sandbox(log=lambda _: None) as box:
        server.bind(("127.0.0.1", 0))
        server.settimeout(TIME_LIMIT)
        port = server.getsockname()[1]

        def answer() -> None:
            data, client = server.recvfrom(99)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"from a stranger", client)
            server.sendto(data[::-1], client)

        thread = threading.Thread(target=answer)
        thread.start()
        box.net.allow(f"127.0.0.1:{port}")
        code = f"import socket\ns = socket.socket(2, 2)\ns.sendto(b'abc', ('127.0.0.1', {port}))\nprint(s.recvfrom(99))"
        assert run(box, code) == f"(b'cba', ('127.0.0.1', {port}))\n"
        thread.join()


def test_a_name_is_resolved_by_the_host_and_pinned() -> None:
    name = socket.gethostname()
    try:
        address = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except OSError:
        pytest.skip("the host does not know its own name")
    with ring3.Sandbox(
        hostname="elsewhere", root=None, mounts={"/usr": "/usr", "/lib": "/lib", "/lib64": "/lib64"}
    ) as box:
        code = "import socket\ntry: print(socket.gethostbyname(%r))\nexcept OSError as e: print(e.errno)"
        python = ["/usr/bin/python3", "-I", "-S", "-c", code % name]
        if not box.exists("/usr/bin/python3"):
            pytest.skip("the host has no /usr/bin/python3")
        refused = box.run(python, capture_output=True, text=True, timeout=TIME_LIMIT)
        assert refused.stdout.strip() == str(socket.EAI_NONAME), refused
        box.net.allow(f"{name}:80")
        found = box.run(python, capture_output=True, text=True, timeout=TIME_LIMIT)
        assert found.stdout.strip() == address, found
        net = box._kernel.net.segment
        raw = parse_address(str(address))
        assert raw is not None
        assert net.egress.allows(Endpoint(raw, 80)) and not net.egress.allows(Endpoint(raw, 81))


SERVER = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
s = socket.socket(socket.AF_INET, kind)
s.bind((sys.argv[2], 7000))
if sys.argv[1] == "udp":
    print("ready", flush=True)
    for i in range(2):
        data, client = s.recvfrom(99)
        s.sendto(data.upper() + client[0].encode(), client)
else:
    s.listen(5)
    print("ready", flush=True)
    for i in range(3):
        c, client = s.accept()
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        told = [c.getpeername() == client, c.getsockname(), c.getsockopt(6, socket.TCP_NODELAY)]
        data = b"".join(iter(lambda: c.recv(1 << 16), b""))
        c.sendall(f"{len(data)} {client[0]} {told}".encode())
        c.close()
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "10.0.0.2"])
def test_a_published_server_is_reached_from_the_host(address: str) -> None:
    with ring3.Sandbox() as box:
        port = box.net.publish(7000)
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as early:
            early.sendall(b"x")
            if not early.recv(1):
                raise ConnectionError
        server = box.popen([PYTHON, "-I", "-S", "-c", SERVER, "tcp", address], stdout=ring3.PIPE, text=True)
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        for size in (0, 10, 3_000_000):
            with socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as s:
                s.sendall(bytes(size))
                s.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda s=s: s.recv(999), b"")).decode()  # type: ignore[misc]
            here = "127.0.0.1" if address == "127.0.0.1" else "10.0.0.2"
            assert answer == f"{size} 10.0.0.1 [True, ('{here}', 7000), 1]"
        assert server.wait(TIME_LIMIT) == 0
        with pytest.raises(ring3.SandboxError, match="cannot publish"):
            box.net.publish(7000, port)
        with pytest.raises(ring3.UsageError):
            box.net.publish(0)


def test_a_published_datagram_port() -> None:
    with ring3.Sandbox() as box:
        port = box.net.publish(7000, udp=True)
        server = box.popen([PYTHON, "-I", "-S", "-c", SERVER, "udp", "0.0.0.0"], stdout=ring3.PIPE, text=True)
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        for word in (b"one", b"two"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(TIME_LIMIT)
                s.sendto(word, ("127.0.0.1", port))
                assert s.recv(99) == word.upper() + b"10.0.0.1"
        assert server.wait(TIME_LIMIT) == 0


def test_the_policy_refuses_leads_elsewhere_and_allows() -> None:
    seen: list[str] = []
    lines: list[str] = []

    def decide(attempted: Any) -> Any:
        seen.append(
            f"{attempted.kind} {attempted.name or attempted.host}:{attempted.port} {attempted.protocol}"
        )
        if attempted.port == 1:
            return "EHOSTDOWN"
        if attempted.port == 2:
            return ("10.0.1.1", 9)
        if attempted.port == 3:
            raise KeyError("oops")
        return "allow" if attempted.port == port else None

    code = """
import errno, socket
def connect(host, port):
    s = socket.socket()
    number = s.connect_ex((host, port))
    print(errno.errorcode.get(number) or s.getpeername()[0])
    return s
connect("a.example.com", 1), connect("192.0.2.1", 3)
print(connect("192.0.2.1", 2).recv(9))
s = connect("127.0.0.1", PORT); s.sendall(b"hi"); print(s.recv(2))
socket.socket().bind(("127.0.0.1", 4000))
socket.socket(2, 2).sendto(b"", ("127.0.0.1", 4001))
"""

    async def nine(_reader: Any, writer: Any) -> None:
        writer.write(b"nine")

    with host_server(mirror) as port, ring3.Sandbox(log=lines.append) as box:
        box.net.serve("a.example.com", 9, nine)
        box.net.policy(decide)
        out = run(box, code.replace("PORT", str(port))).splitlines()
        assert out == ["EHOSTDOWN", "EACCES", "192.0.2.1", "b'nine'", "127.0.0.1", "b'hi'"]
    for part in ("connect a.example.com:1 tcp", "bind 127.0.0.1:4000 tcp", "datagram 127.0.0.1:4001 udp"):
        assert part in seen, seen
    assert any("EHOSTDOWN" in line and "a.example.com:1" in line for line in lines)
    assert any("oops" in line for line in lines)


def test_the_mode_none_has_lo_alone() -> None:
    code = "import errno, socket\nprint(errno.errorcode[socket.socket().connect_ex(('10.0.0.1', 53))])\n"
    code += (
        "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); print('lo')\n"
    )
    code += "try: socket.socket().bind(('10.0.0.2', 0))\nexcept OSError as e: print(errno.errorcode[e.errno])"
    with ring3.Sandbox(log=lambda _: None) as box:
        box.net.mode = "none"
        assert run(box, code).split() == ["ENETUNREACH", "lo", "EADDRNOTAVAIL"]
        with pytest.raises(ring3.UsageError):
            box.net.mode = "bridge"


UDP_SERVER = """
import errno, socket, sys
port = int(sys.argv[1])
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("0.0.0.0", port))
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", int(sys.argv[2])))
except OSError as e: print(errno.errorcode[e.errno])
print("ready", flush=True)
data, who = a.recvfrom(99)
a.sendto(data.upper(), who)
a.close()
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.bind(("127.0.0.1", port))
print("again", flush=True)
data, who = b.recvfrom(99)
b.sendto(data + data, who)
"""


def test_the_mode_host_has_datagram_ports() -> None:
    with contextlib.ExitStack() as stack:
        free, taken, client = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)
        )
        for s in (free, taken, client):
            s.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        client.settimeout(TIME_LIMIT)
        box = stack.enter_context(ring3.Sandbox())
        box.net.mode = "host"
        command = [PYTHON, "-I", "-S", "-c", UDP_SERVER, str(port), str(taken.getsockname()[1])]
        guest = box.popen(command, stdout=ring3.PIPE, text=True)
        assert guest.stdout is not None
        assert [guest.stdout.readline() for _ in range(2)] == ["EADDRINUSE\n", "ready\n"]
        client.sendto(b"from outside", ("127.0.0.1", port))
        assert client.recv(99) == b"FROM OUTSIDE"
        assert guest.stdout.readline() == "again\n"
        client.sendto(b"x", ("127.0.0.1", port))
        assert client.recv(99) == b"xx"
        assert guest.wait(TIME_LIMIT) == 0


def test_the_mode_host_reaches_and_is_reached() -> None:
    code = """
import socket, sys
print(socket.create_connection(("127.0.0.1", int(sys.argv[1]))).send(b"x"))
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
c.sendall(b"from inside")
c.close()
s.close()
"""
    with host_server(mirror) as port, ring3.Sandbox() as box:
        box.net.mode = "host"
        guest = box.popen([PYTHON, "-I", "-S", "-c", code, str(port)], stdout=ring3.PIPE, text=True)
        assert guest.stdout is not None and guest.stdout.readline() == "1\n"
        inside = int(guest.stdout.readline())
        with socket.create_connection(("127.0.0.1", inside), TIME_LIMIT) as s:
            assert s.recv(99) == b"from inside"
        assert guest.wait(TIME_LIMIT) == 0
