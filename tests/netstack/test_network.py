"""The network of a sandbox from outside: nothing leaks, nothing leaves, sandboxes do not meet.

Layer: tests. Touches guests of its own, and a listener of the host's that no guest may reach.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
from collections.abc import Callable

import pytest
from harness import fd_snapshot, my_children

import ring3
from ring3.netstack.endings import WAITING_MAX
from ring3.netstack.listener import PARKED_MAX
from ring3.netstack.network import Network

PYTHON = sys.executable
TIME_LIMIT = 90.0


def ports_held(net: Network) -> set[int]:
    """TCP ports in use, but for those of sockets in TIME_WAIT."""
    return set(net.tcp.ports_in_use()) - {sock.local.port for sock in net.endings.waiting}


def python(box: ring3.Sandbox, code: str, timeout: float = TIME_LIMIT) -> str:
    """Run Python code in a guest; what it printed."""
    done = box.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done
    return str(done.stdout)


def network(box: ring3.Sandbox) -> Network:
    return box._kernel.net


def host_sockets() -> int:
    """How many sockets this process holds: the supervisor's ends among them."""
    return sum(what.startswith("socket:") for what in fd_snapshot().values())


#: the sockets of the channel that is kept for the next fork, and the one by which `ring3 net` asks
SPARE = 3


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait for the loop to hear of what guests did."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


CONNECTS = """
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "\\0name")):
    s = socket.socket(family)
    s.bind(address)
    s.listen(16)
    for i in range(5000):
        c = socket.socket(family)
        c.connect(s.getsockname())
        p, _ = s.accept()
        c.close()
        p.close()
print("done")
"""


def test_ten_thousand_connections_leave_nothing() -> None:
    with ring3.Sandbox() as box:
        box.run(["true"])
        before = host_sockets()
        assert python(box, CONNECTS) == "done\n"
        net = network(box)
        assert until(lambda: host_sockets() <= before + SPARE), fd_snapshot()
        with box.lock:
            assert len(net.sockets) < 2100  # the records of connections that have ended are bounded
            net.sweep()
            assert not net.sockets
            assert not net.abstract
            assert not ports_held(net) and len(net.endings.waiting) <= WAITING_MAX


KILLED = """
import os, socket, time
for i in range(20):
    if not os.fork():
        keep = [socket.socket() for _ in range(10)]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        s.listen()
        for c in keep[:5]:
            c.connect(s.getsockname())
        keep.append(s.accept())
        os.kill(os.getpid(), 9)
for i in range(20):
    os.wait()
print("done")
"""


def test_killed_guests_leave_nothing() -> None:
    with ring3.Sandbox() as box:
        box.run(["true"])
        before = host_sockets()
        assert python(box, KILLED) == "done\n"
        net = network(box)

        def swept() -> bool:
            with box.lock:
                net.sweep()
                return not net.sockets

        assert until(swept)
        assert until(lambda: host_sockets() <= before + SPARE), fd_snapshot()
        assert not net.tcp.ports_in_use()
        assert not net.udp.ports_in_use()


STORM = """
import os, random, signal, socket, threading, time
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(64)

def echo(c):
    with c:
        try:
            while data := c.recv(4096):
                c.sendall(data)
        except OSError:
            pass

def serve():
    while True:
        threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()

def client():
    for i in range(100):
        try:
            with socket.create_connection(s.getsockname(), timeout=30) as c:
                sent = os.urandom(1 + i * 29)
                c.sendall(sent)
                got = b""
                while len(got) < len(sent) and (data := c.recv(4096)):
                    got += data
                assert sent.startswith(got)
        except ConnectionError:
            pass

def start(work):
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid

servers, clients = [start(serve) for _ in range(3)], [start(client) for _ in range(6)]
time.sleep(0.2)
for victim in [*clients[:3], servers[0]]:
    os.kill(victim, signal.SIGKILL)
    time.sleep(0.05)
assert not any(os.waitpid(pid, 0)[1] for pid in clients[3:])
for pid in servers[1:]:
    os.kill(pid, signal.SIGKILL)
for pid in servers + clients[:3]:
    os.waitpid(pid, 0)
print("done")
"""


def test_servers_and_clients_killed_in_a_storm() -> None:
    with ring3.Sandbox() as box:
        box.run(["true"])
        before = host_sockets()
        assert python(box, STORM) == "done\n"
        net = network(box)

        def swept() -> bool:
            with box.lock:
                net.sweep()
                return not net.sockets and not ports_held(net)

        assert until(swept)
        assert until(lambda: host_sockets() <= before + SPARE), fd_snapshot()


OUTSIDE = """
import errno, socket
def attempt(kind, address, family=socket.AF_INET):
    s = socket.socket(family, kind)
    try:
        s.connect(address)
        return "connected"
    except OSError as e:
        return errno.errorcode[e.errno]
print(attempt(socket.SOCK_STREAM, ("192.0.2.7", 8123)))
print(attempt(socket.SOCK_DGRAM, ("192.0.2.7", 8124)))
print(attempt(socket.SOCK_STREAM, ("2001:db8::7", 8125), socket.AF_INET6))
print(attempt(socket.SOCK_STREAM, ("127.0.0.1", HOST_PORT)))
print(attempt(socket.SOCK_STREAM, "\\0HOST_NAME", socket.AF_UNIX))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    u.sendto(b"x", ("192.0.2.7", 8126))
except OSError as e:
    print(errno.errorcode[e.errno])
"""


def test_the_host_cannot_be_reached() -> None:
    log: list[str] = []
    name = f"ring3-test-{id(log)}"
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local, ring3.Sandbox(log=log.append) as box:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        local.bind("\0" + name)
        local.listen()
        code = OUTSIDE.replace("HOST_PORT", str(tcp.getsockname()[1])).replace("HOST_NAME", name)
        started = time.monotonic()
        assert python(box, code).split() == [
            "ENETUNREACH", "ENETUNREACH", "ENETUNREACH", "ECONNREFUSED", "ECONNREFUSED", "ENETUNREACH",
        ]  # fmt: skip
        assert time.monotonic() - started < 30
    lines = "\n".join(log)
    for where in ("192.0.2.7:8123", "192.0.2.7:8124", "[2001:db8::7]:8125", "192.0.2.7:8126"):
        assert where in lines


SERVER = """
import socket, sys
s = socket.socket()
s.bind(("127.0.0.1", 7777))
a = socket.socket(socket.AF_UNIX)
a.bind("\\0here")
print("bound", flush=True)
sys.stdin.read()
"""


def test_sandboxes_have_ports_and_names_of_their_own() -> None:
    with ring3.Sandbox() as one, ring3.Sandbox() as two:
        servers = [box.popen([PYTHON, "-c", SERVER], stdin=-1, stdout=-1, text=True) for box in (one, two)]
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == "bound\n"
        for server in servers:
            server.communicate("", timeout=30)
            assert server.returncode == 0


def test_a_closed_sandbox_leaves_nothing() -> None:
    ring3.run(["true"])
    gc.collect()
    before, children = fd_snapshot(), my_children()
    with ring3.Sandbox() as box:
        server = box.popen([PYTHON, "-c", SERVER], stdin=-1, stdout=-1, text=True)
        assert server.stdout is not None
        assert server.stdout.readline() == "bound\n"
    server.wait(timeout=30)
    server.stdout.close()
    if server.stdin is not None:
        server.stdin.close()
    del server, box
    gc.collect()
    assert my_children() == children
    assert not {fd: what for fd, what in fd_snapshot().items() if before.get(fd) != what}


FLOOD = """
import collections, socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(16)
told = collections.Counter()
for i in range(COUNT):
    s = socket.socket()
    s.setblocking(False)
    told[s.connect_ex(listener.getsockname())] += 1
    s.close()
print(dict(told), flush=True)
sys.stdin.read()
"""


def test_a_flood_leaves_no_records_behind() -> None:
    count = 3000
    with ring3.Sandbox() as box:
        box.run(["true"])
        before = host_sockets()
        code = FLOOD.replace("COUNT", str(count))
        guest = box.popen([PYTHON, "-I", "-S", "-c", code], stdin=ring3.PIPE, stdout=ring3.PIPE, text=True)
        assert guest.stdout is not None and guest.stdin is not None
        assert guest.stdout.readline() == f"{{115: {count}}}\n"  # EINPROGRESS
        assert host_sockets() <= before + SPARE + PARKED_MAX + 8
        net = network(box)
        with box.lock:
            net.sweep()
            assert len(net.sockets) <= PARKED_MAX + 64
            assert len(net.endings.waiting) <= WAITING_MAX
        # whoever comes now is served as ever
        assert "hello" in python(box, ECHO_ONCE)
        guest.stdin.close()
        assert guest.wait(60) == 0
        assert until(lambda: host_sockets() <= before + SPARE), fd_snapshot()


ECHO_ONCE = """
import socket
s = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(s.getsockname())
c.sendall(b"hello")
print(s.accept()[0].recv(9))
"""

HALF = """
import os, signal, socket
s = socket.create_server(("127.0.0.1", 0))
pid = os.fork()
if not pid:
    inside, outside = socket.create_connection(s.getsockname()), socket.create_connection(("m.example.com", 7))
    outside.sendall(b"x")
    outside.recv(1)
    inside.sendall(b"ready")
    signal.pause()
c, _ = s.accept()
print(c.recv(9))
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
print(c.recv(9))
"""


@pytest.mark.parametrize("weather", [{}, {"latency": 0.001}])
def test_half_open_connections_end(weather: dict[str, float]) -> None:
    """Of a client that is killed: its server hears the end, in the sandbox and in Python, and nothing is left."""
    ended = threading.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        try:
            await reader.read()
        finally:
            ended.set()

    with ring3.Sandbox() as box:
        box.net.serve("m.example.com", 7, handler)
        box.net.weather(**weather)
        counts = []
        for _ in range(2):
            ended.clear()
            assert python(box, HALF) == "b'ready'\nb''\n"
            assert ended.wait(60)
            assert until(lambda: not network(box).segment.connections)
            counts.append(host_sockets())
        assert until(lambda: host_sockets() <= counts[0]), fd_snapshot()
