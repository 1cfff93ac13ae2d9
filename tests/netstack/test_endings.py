"""How connections end, where no program can tell: when TIME_WAIT is over, and resets that go through something.

Layer: tests. Touches guests of its own, and the clock that netstack/endings.py reads.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest
from guestpython import run

import ring3
from ring3.netstack import endings

SERVE_ONCE = """
import socket
s = socket.socket()
try:
    s.bind(("127.0.0.1", 7777))
    s.listen()
    c = socket.create_connection(("127.0.0.1", 7777))
    s.accept()[0].close()
    print(c.recv(1))
except OSError as e:
    print(e.errno)
"""


def test_time_wait_is_over_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    real, ahead = time.monotonic, [0.0]
    with ring3.Sandbox() as box:
        monkeypatch.setattr(endings.time, "monotonic", lambda: real() + ahead[0])
        assert run(box, SERVE_ONCE) == "b''\n"
        assert run(box, SERVE_ONCE) == "98\n"  # EADDRINUSE
        ahead[0] = endings.TIMEWAIT_LEN / 2
        assert run(box, SERVE_ONCE) == "98\n"
        ahead[0] = endings.TIMEWAIT_LEN + 1
        assert run(box, SERVE_ONCE) == "b''\n"


def test_ss_shows_who_waits() -> None:
    if shutil.which("ss") is None:
        pytest.skip("ss is not installed")
    with ring3.Sandbox() as box:
        run(box, SERVE_ONCE)
        told = box.run(["ss", "-Htan"], capture_output=True, text=True, timeout=60).stdout
        assert [line.split()[0] for line in told.splitlines()] == ["TIME-WAIT"], told
        assert "127.0.0.1:7777" in told


def test_the_number_of_those_that_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "WAITING_MAX", 3)
    code = SERVE_ONCE.replace('("127.0.0.1", 7777)', '("127.0.0.1", 0)', 1).replace(
        '("127.0.0.1", 7777)', "s.getsockname()"
    )
    with ring3.Sandbox() as box:
        for _ in range(5):
            assert run(box, code) == "b''\n"
        table = run(box, "print(open('/proc/net/tcp').read())")
        assert sum(line.split()[3] == "06" for line in table.splitlines()[1:] if line) == 3


RESET = """
import socket
s = socket.create_connection(("m.example.com", 7))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
s.sendall(b"x")
s.recv(1)
s.close()
"""


@pytest.mark.parametrize("captured", [False, True])
def test_a_python_host_is_reset(captured: bool, tmp_path: Path) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        try:
            heard.put_nowait(repr(await reader.read(1)))
        except ConnectionResetError:
            heard.put_nowait("reset")

    with ring3.Sandbox() as box:
        box.net.serve("m.example.com", 7, handler)
        if captured:
            box.net.capture(tmp_path / "net.pcap")
        run(box, RESET)
        assert box._kernel.net.segment.worker.wait(heard.get()) == "reset"
