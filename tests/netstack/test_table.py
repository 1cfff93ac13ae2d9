"""The live table of connections: box.net.connections() and `ring3 net`.

Layer: tests. Touches guests of its own, and servers on the host's loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import threading
from typing import Any

import pytest
from guestpython import PYTHON, TIME_LIMIT

import ring3
from ring3.kernel import telling

GUEST = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 7000))
client = socket.create_connection(("127.0.0.1", 7000))
server = listener.accept()[0]
udp = socket.socket(2, 2)
udp.bind(("0.0.0.0", 7001))
far = socket.create_connection(("m.example.com", 7))
far.sendall(bytes(1000))
far.recv(2000, socket.MSG_WAITALL)
old = socket.create_connection(("127.0.0.1", 7000))
old.close()
last = listener.accept()[0]
last.recv(1)
last.close()
MORE
print("ready", flush=True)
sys.stdin.read()
"""


async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(2 * await reader.readexactly(1000))
    await reader.read()


def started(box: ring3.Sandbox, code: str = GUEST.replace("MORE", "")) -> ring3.Popen:
    guest = box.popen([PYTHON, "-I", "-S", "-c", code], stdin=ring3.PIPE, stdout=ring3.PIPE, text=True)
    assert guest.stdout is not None and guest.stdout.readline() == "ready\n"
    return guest


def end(guest: ring3.Popen) -> None:
    assert guest.stdin is not None
    guest.stdin.close()
    assert guest.wait(TIME_LIMIT) == 0


@pytest.mark.parametrize("captured", [False, True])
def test_what_is_connected(captured: bool, tmp_path: Any) -> None:
    with ring3.Sandbox() as box:
        box.net.serve("m.example.com", 7, twice)
        if captured:
            box.net.capture(tmp_path / "net.pcap")
        guest = started(box)
        rows = box.net.connections()
        by = {(row.state, row.local[1], row.remote[1] if row.remote else 0): row for row in rows}
        listening = by["LISTEN", 7000, 0]
        assert listening.local == ("127.0.0.1", 7000) and listening.protocol == "tcp"
        assert (listening.pid, listening.program) == (guest.pid, os.path.basename(PYTHON)[:15])
        far = next(row for row in rows if row.name == "m.example.com")
        assert far.remote == ("fd00::101", 7) and far.state == "ESTAB"
        assert (far.sent, far.received) == (1000, 2000)
        near = [row for row in rows if row.state == "ESTAB" and not row.name]
        assert len(near) == 2 and all(row.pid == guest.pid for row in near)
        if not captured:
            assert {row.sent for row in near} == {None}  # from program to program
        assert {row.state for row in rows if row.protocol == "udp"} == {"UNCONN"}
        waiting = [row for row in rows if row.state == "TIME-WAIT"]
        assert len(waiting) == 1 and not waiting[0].pid and waiting[0].remote == ("127.0.0.1", 7000)
        assert all(row.age is not None and 0 <= row.age < TIME_LIMIT for row in rows)
        end(guest)
        assert {row.state for row in box.net.connections()} <= {"TIME-WAIT"}


def test_bytes_of_published_and_outside_connections() -> None:
    more = """
published = socket.create_server(("0.0.0.0", 8080))
print("ready", flush=True)
inside = published.accept()[0]
inside.sendall(inside.recv(7, socket.MSG_WAITALL) * 2)
out = socket.create_connection(("127.0.0.1", PORT))
out.sendall(b"12345")
out.recv(5, socket.MSG_WAITALL)
"""
    with socket.create_server(("127.0.0.1", 0)) as outside, ring3.Sandbox() as box:
        box.net.serve("m.example.com", 7, twice)
        port = outside.getsockname()[1]
        box.net.allow(f"127.0.0.1:{port}")
        host_port = box.net.publish(8080)
        guest = started(box, GUEST.replace("MORE", more.replace("PORT", str(port))))
        client = socket.create_connection(("127.0.0.1", host_port), TIME_LIMIT)
        client.sendall(b"7 bytes")
        assert client.recv(14, socket.MSG_WAITALL) == b"7 bytes7 bytes"
        connection, _ = outside.accept()
        connection.sendall(connection.recv(5, socket.MSG_WAITALL))
        assert guest.stdout is not None and guest.stdout.readline() == "ready\n"
        rows = box.net.connections()
        came = next(row for row in rows if row.local[1] == 8080 and row.state == "ESTAB")
        assert (came.sent, came.received) == (14, 7)
        went = next(row for row in rows if row.remote == ("127.0.0.1", port))
        assert (went.sent, went.received) == (5, 5)
        end(guest)
        client.close()
        connection.close()


def command(*options: str) -> str:
    done = subprocess.run(
        [PYTHON, "-m", "ring3", "net", *options], capture_output=True, text=True, timeout=TIME_LIMIT
    )
    # Sandboxes of others may be stuck (tests/cli/test_ps.py has one), which it says.
    assert done.returncode == int("does not answer" in done.stderr), done
    assert f"process {os.getpid()} does not answer" not in done.stderr, done
    return done.stdout


def test_the_command_shows_every_sandbox() -> None:
    with ring3.Sandbox() as one, ring3.Sandbox() as two:
        two.run(["true"])  # without sockets there is nothing to tell
        one.net.serve("m.example.com", 7, twice)
        guest = started(one)
        mine = [line for line in command().splitlines() if line.split()[0] == str(os.getpid())]
        assert any("m.example.com:7" in line and " 1000 " in line and " 2000 " in line for line in mine), mine
        assert any("LISTEN" in line and f"[{guest.pid}]" in line for line in mine), mine
        told = [json.loads(line) for line in command("--json").splitlines()]
        assert {row["state"] for row in told if row["sandbox"] == os.getpid()} >= {"ESTAB", "LISTEN", "TIME-WAIT"}
        end(guest)
    assert str(os.getpid()) not in [line.split()[0] for line in command().splitlines()]


def test_names_that_are_no_sandboxes_are_passed_over() -> None:
    with contextlib.ExitStack() as stack:
        for name in (b"x%d" % os.getpid(), b"17-%d" % os.getpid()):
            s = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            s.bind(telling.NAME + name)
            s.listen()
            threading.Thread(target=nonsense, args=(s,), daemon=True).start()
        assert command().splitlines()[0].split()[0] == "SANDBOX"
    with ring3.Sandbox() as box:
        code = "import socket; s = socket.create_server(('', 0)); print('ready', flush=True); input()"
        strange = "import ctypes; ctypes.CDLL(None).prctl(15, b'a\\x1b[2Jb'); "
        guest = started(box, strange + code)
        assert f"a?[2Jb[{guest.pid}]" in command()
        assert guest.stdin is not None
        guest.stdin.write("\n")
        end(guest)


def nonsense(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection, _ = listener.accept()
        with tempfile.TemporaryFile() as file, connection:
            file.write(b'{"rows": [{"local": 1}]}')
            file.flush()
            socket.send_fds(connection, [b"host"], [file.fileno()])


def mine() -> list[dict[str, Any]]:
    return [answer for pid, answer in telling.ask_all(b"net") if pid == os.getpid()]


def test_a_name_that_is_taken_is_no_obstacle() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:  # as of another pid namespace
        other.bind(telling.NAME + b"%d-%d" % (os.getpid(), telling.Teller._made + 1))
        with ring3.Sandbox() as box:
            guest = started(box, "import socket; s = socket.socket(); print('ready', flush=True); input()")
            assert [told["hostname"] for told in mine()] == [os.uname().nodename]
            assert guest.stdin is not None
            guest.stdin.write("\n")
            end(guest)


def test_nobody_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with ring3.Sandbox() as box:
        guest = started(box, "import socket; s = socket.socket(); print('ready', flush=True); input()")
        assert mine() == [{"hostname": os.uname().nodename, "rows": []}]
        monkeypatch.setattr(telling.os, "geteuid", lambda: 4711)
        if not os.getuid():
            monkeypatch.setattr(telling.struct, "unpack", lambda *_: (1, 4712, 4712))
        assert mine() == []
        monkeypatch.undo()
        assert guest.stdin is not None
        guest.stdin.write("\n")
        end(guest)
    assert mine() == []
