"""Weather on the way to virtual hosts, and captures of what goes there.

Layer: tests. Touches guests of its own and a temporary directory. Nothing limits how long something may take: that it
takes as long as the weather wants is what is asked.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from guestpython import PYTHON, TIME_LIMIT, run

import ring3
from ring3.netstack.capture import checksum
from ring3.netstack.weather import Climate, Weather


async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


TALK = """
import select, socket, time
began = time.monotonic()
s = socket.create_connection(("m.example.com", 7))
connected = time.monotonic()
s.sendall(b"x")
s.recv(1)
answered = time.monotonic()
print(connected - began >= LEAST, answered - connected >= LEAST)
s.sendall(bytes(100000))
got = 0
while got < 100000:
    got += len(s.recv(1 << 16))
print(got)
s.shutdown(1)
print(s.recv(1))
s = socket.socket(socket.AF_INET6)
s.setblocking(False)
began = time.monotonic()
print(s.connect_ex(("fd00::101", 7)), bool(select.select([], [s], [], 60)[1]), time.monotonic() - began >= LEAST)
print(s.getsockopt(1, 4), s.getpeername()[1])
"""


def test_latency_is_a_round_trip_to_connect_and_one_to_answer() -> None:
    with ring3.Sandbox() as box:
        box.net.serve("m.example.com", 7, mirror)
        for least in (0.0, 0.2):
            box.net.weather("m.example.com", latency=least / 2)
            out = run(box, TALK.replace("LEAST", repr(least)))
            assert out.splitlines() == ["True True", "100000", "b''", "115 True True", "0 7"]


def test_a_reset_and_a_stall_after_so_many_bytes() -> None:
    code = """
import socket
s = socket.create_connection(("m.example.com", 7))
s.settimeout(SECONDS)
s.sendall(bytes(5000))
got = 0
try:
    while data := s.recv(1 << 16):
        got += len(data)
    print(got, "end")
except (ConnectionResetError, TimeoutError) as e:
    print(got, type(e).__name__)
"""
    with ring3.Sandbox() as box:
        box.net.serve("m.example.com", 7, mirror)
        box.net.weather(reset_after=7000)
        got, how = run(box, code.replace("SECONDS", "60")).split()
        assert int(got) <= 2000 and how == "ConnectionResetError"
        box.net.weather(stall_after=5000)
        assert run(box, code.replace("SECONDS", "1")) == "0 TimeoutError\n"
        box.net.weather()
        assert run(box, code.replace("SECONDS", "1")) == "5000 TimeoutError\n"


def test_a_host_that_is_cut_off_is_reached_when_it_is_back() -> None:
    with ring3.Sandbox() as box:
        box.net.serve("m.example.com", 7, mirror)
        box.net.serve("other.example.com", 7, mirror)
        box.net.weather("m.example.com", cut=True)
        code = "import socket\ns = socket.create_connection(('%s', 7))\ns.sendall(b'x')\nprint(s.recv(1), flush=True)"
        waiting = box.popen([PYTHON, "-I", "-S", "-c", code % "m.example.com"], stdout=ring3.PIPE, text=True)
        assert run(box, code % "other.example.com") == "b'x'\n"
        assert waiting.poll() is None
        box.net.weather("m.example.com")
        assert waiting.stdout is not None and waiting.stdout.read() == "b'x'\n"
        assert waiting.wait(TIME_LIMIT) == 0


LOSSY = """
import socket
s = socket.socket(2, 2)
for i in range(200):
    s.sendto(b"%d" % i, ("10.0.1.1", 9))
fair = socket.socket(2, 2)
fair.sendto(b"end", ("10.0.1.2", 9))
print(fair.recv(9))
"""


def test_the_same_seed_loses_the_same_datagrams() -> None:
    def once(seed: int) -> str:
        with ring3.Sandbox() as box:
            box.net.serve_udp("u.example.com", 9, lambda data, _: data)
            box.net.serve_udp("fair.example.com", 9, lambda data, _: data)
            box.net.weather("u.example.com", loss=0.3, duplicate=0.1, seed=seed)
            seen: list[bytes] = []
            segment = box._kernel.net.segment
            take = segment._take
            segment._take = lambda data, *ends: seen.append(data) or take(data, *ends)  # type: ignore[func-returns-value]
            assert run(box, LOSSY) == "b'end'\n"  # what was sent before has come by then
            return b" ".join(d for d in seen if d.isdigit()).decode()

    first = once(1)
    assert once(1) == first
    assert once(2) != first
    assert 80 < len(set(first.split())) < 180


def test_weather_is_repeatable_and_checked() -> None:
    climate = Climate()
    climate.set("a", Weather(latency=1, jitter=1), 7)
    first = [climate.at("a").delay(climate.dice("a")) for _ in range(5)]
    climate.set("a", Weather(latency=1, jitter=1), 7)
    assert [climate.at("a").delay(climate.dice("a")) for _ in range(5)] == first
    assert len(set(first)) == 5 and all(1 <= d <= 2 for d in first)
    assert Weather(loss=1).deliveries(random.Random(1)) == []
    assert Weather(cut=True).deliveries(random.Random(1)) == []
    assert len(Weather(duplicate=1).deliveries(random.Random(1))) == 2
    with ring3.Sandbox() as box:
        for bad in ({"latency": -1}, {"loss": 2}, {"rain": 1}):
            with pytest.raises(ring3.UsageError):
                box.net.weather(**bad)


def frames(file: Path) -> list[bytes]:
    raw = file.read_bytes()
    assert raw[:4] == b"\xd4\xc3\xb2\xa1"
    found, at = [], 24
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at + 8)[0]
        found.append(raw[at + 16 : at + 16 + size])
        at += 16 + size
    return found


def test_a_capture_has_whole_conversations(tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    code = """
import socket, threading
s = socket.create_connection(("m.example.com", 7)); s.sendall(b"over the net"); s.recv(99); s.shutdown(1); s.recv(1)
l = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(l.getsockname()); a = l.accept()[0]
c.sendall(bytes(4000) + b"inside"); c.shutdown(1)
got = 0
while data := a.recv(9999): got += len(data)
print(got); a.close(); c.recv(1)
u = socket.socket(2, 2); u.bind(("127.0.0.1", 9999)); v = socket.socket(2, 2); v.connect(u.getsockname())
v.send(b"query inside"); data, who = u.recvfrom(99); u.sendto(b"answer " + data, who); print(v.recv(99))
u.close(); v.send(b"nobody")
try: v.recv(1)
except OSError as e: print(e.errno)
"""
    with ring3.Sandbox() as box:
        box.net.serve("m.example.com", 7, mirror)
        box.net.capture(file)
        assert run(box, code) == "4006\nb'answer query inside'\n111\n"
        with pytest.raises(ring3.UsageError):
            box.net.capture(file)
    got = frames(file)
    udp4 = [f for f in got if f[12:14] == b"\x08\x00" and f[23] == 17]
    tcp4 = [f for f in got if f[12:14] == b"\x08\x00" and f[23] == 6]
    tcp6 = [f for f in got if f[12:14] == b"\x86\xdd" and f[20] == 6]
    assert udp4 or any(f[20] == 17 for f in got if f[12:14] == b"\x86\xdd"), "the queries for the name"
    assert any(b"over the net" in f for f in tcp6 + tcp4)
    assert any(f.endswith(b"inside") for f in tcp4)
    assert [f[42:] for f in udp4 if b"inside" in f] == [b"query inside", b"answer query inside"]
    for frame in tcp4:
        assert checksum(frame[14:34]) == 0
        pseudo = frame[26:34] + struct.pack("!BBH", 0, 6, len(frame) - 34)
        assert checksum(pseudo + frame[34:]) == 0
    flags = [f[47] & 0x3F for f in tcp4]
    assert flags[:3] == [0x02, 0x12, 0x10] and 0x11 in flags
    if shutil.which("tshark"):
        told = subprocess.run(
            ["tshark", "-r", file, "-Y", "_ws.expert.severity >= 0x600000", "-o", "tcp.check_checksum:TRUE"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert not told.stdout


def test_a_capture_that_cannot_be_written(tmp_path: Path) -> None:
    with ring3.Sandbox() as box, pytest.raises(ring3.SandboxError, match="cannot write the capture"):
        box.net.capture(tmp_path / "no" / "file")


TLS_CLIENT = """
import os, socket, ssl
context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context.minimum_version = context.maximum_version = version
    s = context.wrap_socket(socket.create_connection(("m.example.com", 443)), server_hostname="m.example.com")
    s.sendall(b"GET /secret HTTP/1.0\\r\\n\\r\\n")
    print(s.makefile("rb").read())
"""


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhidden")
    await writer.drain()


def test_a_capture_is_decrypted_with_the_key_log(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    keys, capture = tmp_path / "keys.log", tmp_path / "net.pcap"
    with ring3.Sandbox() as box:
        box.net.serve("m.example.com", 443, page, tls=True)
        box.net.tls_keys(keys)
        box.net.capture(capture)
        assert run(box, TLS_CLIENT).count("hidden") == 2
        with pytest.raises(ring3.SandboxError):
            box.net.tls_keys(tmp_path / "no" / "such")
    command = ["tshark", "-r", str(capture), "-Y", "http", "-T", "fields"]
    command += ["-e", "http.request.uri", "-e", "http.file_data"]
    sealed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert not sealed.strip(), sealed
    option = ["-o", f"tls.keylog_file:{keys}"]
    opened = subprocess.run([*command, *option], capture_output=True, text=True, check=True).stdout
    assert opened.count("/secret") == 2 and opened.count("hidden") == 2, opened


REPEATED = """
import socket
def client(kind, port):
    s = socket.socket(2, kind)
    s.setsockopt(1, 2, 1)
    s.bind(("", port))
    return s
for i in range(3):
    s = client(1, 4000 + i)
    s.connect(("10.0.1.1", 7))
    try:
        s.sendall(bytes(range(256)) * 4)
        s.shutdown(1)
        while s.recv(99): pass
    except OSError:
        pass
    s.close()
u = client(2, 5000)
for i in range(100):
    u.sendto(b"%d" % i, ("10.0.1.1", 9))
fair = client(2, 5001)
fair.sendto(b"end", ("10.0.1.2", 9))
print(fair.recv(9))
"""


def test_the_same_seed_gives_the_same_capture(tmp_path: Path) -> None:
    def once(seed: int, file: Path) -> list[bytes]:
        with ring3.Sandbox() as box:
            heard: list[bytes] = []
            box.net.serve("far.example.com", 7, mirror)
            box.net.serve_udp("far.example.com", 9, lambda data, _: heard.append(data) or data)  # type: ignore[func-returns-value]
            box.net.serve_udp("fair.example.com", 9, lambda data, _: data)
            box.net.capture(file)
            weather = {"loss": 0.2, "duplicate": 0.1}  # delays would leave the order of answers to the clock
            box.net.weather("far.example.com", **weather, seed=seed)
            assert run(box, REPEATED) == "b'end'\n"
            count = 0
            while count < len(heard):  # what is still on its way
                count = len(heard)
                run(box, "import time; time.sleep(0.05)")
        # when answers come is the affair of the machine, which of them come is not
        return sorted(frame for frame in frames(file) if frame[23] == 17)

    first = once(5, tmp_path / "1")
    assert once(5, tmp_path / "2") == first
    assert once(6, tmp_path / "3") != first


TURNS = """
import socket
for i in range(4):
    s = socket.create_connection(("10.0.1.1" if i != 2 else "10.0.1.2", 7))
    try:
        for turn in range(3):
            for piece in range(20):  # how many of these are read at once is the machine's affair
                s.send(bytes([turn]) * (10 + 100 * piece * turn))
            s.sendall(b"\\n")
            got = b""
            while not got.endswith(b"\\n"):
                more = s.recv(1 << 16)
                if not more: raise OSError
                got += more
        s.shutdown(1)
        s.recv(1)
    except OSError:
        pass
    s.close()
"""


async def in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a line with two."""
    while line := await reader.readline():
        for at in range(0, len(line), 500):
            writer.write(line[at : at + 500].replace(b"\n", b"."))
            await writer.drain()
        writer.write(line)
    writer.close()


def test_the_same_seed_gives_the_same_connections(tmp_path: Path) -> None:
    def once(seed: int, file: Path) -> list[bytes]:
        with ring3.Sandbox() as box:
            box.net.serve("far.example.com", 7, in_pieces)
            box.net.serve("bad.example.com", 7, in_pieces)
            box.net.capture(file)
            box.net.weather("far.example.com", latency=0.001, jitter=0.002, bandwidth=4e6, seed=seed)
            box.net.weather("bad.example.com", reset_after=30000)
            run(box, TURNS)
        return frames(file)

    first = once(5, tmp_path / "1")
    assert sum(frame[47] & 2 for frame in first) == 2 * 2 * 4  # SYN, of both sides
    assert sum(frame[47] & 4 for frame in first) == 4  # RST, of one
    assert len(first) > 400
    assert once(5, tmp_path / "2") == first
    assert once(6, tmp_path / "3") != first
