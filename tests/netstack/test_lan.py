"""Several sandboxes on one network.

Layer: tests. Touches guests of its own.
"""

from __future__ import annotations

import sys

import pytest

import ring3

PYTHON = sys.executable
TIME_LIMIT = 90.0

SERVER = """
import socket
s = socket.create_server(("", 5432), family=socket.AF_INET6, dualstack_ipv6=True)
u = socket.socket(2, 2)
u.bind(("0.0.0.0", 5432))
print("ready", socket.gethostname(), flush=True)
for i in range(2):
    c, who = s.accept()
    data = b"".join(iter(lambda: c.recv(1 << 16), b""))
    c.sendall(f"{len(data)} from {socket.getnameinfo(who, 2)[0]} at {c.getsockname()[0]}".encode())
    c.close()
data, who = u.recvfrom(99)
u.sendto(data.upper(), who)
"""

CLIENT = """
import errno, select, socket
def talk(s):
    s.sendall(bytes(1000000))
    s.shutdown(1)
    print(s.makefile().read())
talk(socket.create_connection(("db.example.com", 5432)))
s = socket.socket()
s.setblocking(False)
print(errno.errorcode[s.connect_ex(("10.0.0.2", 5432))], select.select([], [s], [], 60)[1] == [s], s.getsockopt(1, 4))
s.setblocking(True)
talk(s)
u = socket.socket(2, 2)
u.sendto(b"datagram", ("db.example.com", 5432))
print(u.recvfrom(99))
print(errno.errorcode[socket.socket().connect_ex(("db.example.com", 1))])
s = socket.socket()
s.setblocking(False)
s.connect_ex(("db.example.com", 1))
select.select([], [s], [], 60)
print(errno.errorcode[s.getsockopt(1, 4)])
print(errno.errorcode[socket.socket().connect_ex(("10.0.0.9", 1))])
print(socket.getaddrinfo("client.example.com", 1, 2, 1)[0][4][0], socket.gethostname())
"""


def test_two_machines_talk_and_a_third_is_apart() -> None:
    lan = ring3.Lan()
    quiet = {"log": lambda _: None}
    with ring3.Sandbox(**quiet) as db, ring3.Sandbox(**quiet) as client, ring3.Sandbox(**quiet) as apart:  # type: ignore[arg-type]
        assert lan.join(db, "db.example.com") == ["10.0.0.2", "fd00::2"]
        assert lan.join(client, "client.example.com") == ["10.0.0.3", "fd00::3"]
        server = db.popen([PYTHON, "-I", "-S", "-c", SERVER], stdout=ring3.PIPE, text=True)
        assert server.stdout is not None and server.stdout.readline() == "ready db\n"
        done = client.run(
            [PYTHON, "-I", "-S", "-c", CLIENT], capture_output=True, text=True, timeout=TIME_LIMIT
        )
        assert done.stdout.splitlines() == [
            "1000000 from client.example.com at fd00::2",
            "EINPROGRESS True 0",
            "1000000 from client.example.com at ::ffff:10.0.0.2",
            "(b'DATAGRAM', ('10.0.0.2', 5432))",
            "ECONNREFUSED",
            "ECONNREFUSED",
            "EHOSTUNREACH",
            "10.0.0.3 client",
        ], done
        assert server.wait(TIME_LIMIT) == 0
        code = "import socket\ntry: socket.gethostbyname('db.example.com')\nexcept OSError as e: print(e.errno)"
        away = apart.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=TIME_LIMIT)
        assert away.stdout == "-2\n"
        with ring3.Sandbox() as late, pytest.raises(ring3.UsageError, match="already"):
            lan.join(late, "DB.example.com")


def test_a_machine_that_is_switched_off_is_gone_and_one_comes_in_its_place() -> None:
    code = "import errno, socket\nn = socket.socket().connect_ex(('web', 1080))\nprint(errno.errorcode.get(n, n))"
    serve = "import socket\ns = socket.create_server(('', 1080))\nprint('up', flush=True)\ns.accept()"
    lan = ring3.Lan()

    def ask(box: ring3.Sandbox) -> str:
        done = box.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=TIME_LIMIT)
        return str(done.stdout.strip() or done.stderr.strip().splitlines()[-1])

    with ring3.Sandbox(log=lambda _: None) as client:
        lan.join(client, "client")
        for _ in range(2):
            with ring3.Sandbox() as web:
                lan.join(web, "web")
                server = web.popen([PYTHON, "-I", "-S", "-c", serve], stdout=ring3.PIPE, text=True)
                assert server.stdout is not None and server.stdout.readline() == "up\n"
                assert ask(client) == "0"
            assert "Name or service not known" in ask(client)
        with pytest.raises(ring3.UsageError, match="before anything"):
            lan.join(client, "again")
