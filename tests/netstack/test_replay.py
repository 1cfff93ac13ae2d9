"""Recording what guests say to real hosts, here servers on the host's loopback, and replaying it without them.

Layer: tests. Touches guests of its own, servers on the host's loopback, a temporary directory.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guestpython import PYTHON, TIME_LIMIT, run
from hostserver import host_server

import ring3


def greeter(connection: socket.socket) -> None:
    """A line protocol: a greeting first, then an answer to each line."""
    with connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"220 ready\r\n")
        for line in connection.makefile("rb"):
            if line == b"QUIT\r\n":
                connection.sendall(b"221 bye\r\n")
                return
            if line == b"RESET\r\n":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
                return
            connection.sendall(b"250 " + line[::-1].strip() + b"\xff\r\n")


class Pages(http.server.BaseHTTPRequestHandler):
    """Says how often it was asked, so that nothing but a record says the same again."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        Pages.asked += 1
        self.answer(f"{self.path} number {Pages.asked}".encode())

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"]))[::-1])

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def http_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


LINES = """
import socket
s = socket.create_connection(("127.0.0.1", PORT))
f = s.makefile("rb")
print(f.readline())
for line in WORDS:
    s.sendall(line.encode() + b"\\r\\n")
    try: print(f.readline())
    except OSError as e: print(e.errno)
"""


def lines(box: ring3.Sandbox, port: int, *words: str) -> str:
    return run(box, LINES.replace("PORT", str(port)).replace("WORDS", repr(words)))


def test_a_line_protocol(tmp_path: Path) -> None:
    record = tmp_path / "record"
    heard: list[str] = []
    with host_server(greeter) as port:
        with ring3.Sandbox() as box:
            box.net.allow(f"127.0.0.1:{port}")
            box.net.record_to(record)
            first = lines(box, port, "HELLO", "MAIL", "QUIT")
            second = lines(box, port, "HELLO", "RESET")
            assert (
                "220 ready" in first and "250 OLLEH\\xff" in first and "221 bye" in first and "104" in second
            )
    told = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["end"] for line in told] == ["in", "reset"]
    assert told[0]["to"] == f"127.0.0.1:{port}" and told[0]["turns"][1] == ["out", "HELLO\r\n"]
    with ring3.Sandbox(log=heard.append) as box:
        replay = box.net.replay(record)
        assert lines(box, port, "HELLO", "RESET") == second  # in another order than then
        assert len(replay.left) == 1
        assert lines(box, port, "HELLO", "MAIL", "QUIT") == first
        assert not replay.refused and not replay.left and not heard
        with pytest.raises(AssertionError, match="ConnectionResetError"):  # said once, and no more
            lines(box, port, "HELLO")
    with ring3.Sandbox(log=heard.append) as box:
        replay = box.net.replay(record)
        refused = lines(box, port, "HELLO", "SOMETHING ELSE").splitlines()
        assert refused[:2] == first.splitlines()[:2] and refused[2] == "104"
        assert len(replay.refused) == 1 and "SOMETHING ELSE" in replay.refused[0]
        assert any("SOMETHING ELSE" in line and "refused" in line for line in heard)
        with pytest.raises(ring3.UsageError):
            box.net.replay(record)


ASK = """
import http.client
c = http.client.HTTPConnection("127.0.0.1", PORT)
for method, path, body in REQUESTS:
    try:
        c.request(method, path, body, {"X-Nonce": "NONCE"})
        print(c.getresponse().read().decode())
    except OSError as e:
        print(type(e).__name__)
    if NEW: c.close()
"""


def ask(
    box: ring3.Sandbox,
    port: int,
    *requests: tuple[str, str, bytes | None],
    nonce: str = "1",
    new: bool = False,
) -> str:
    code = ASK.replace("PORT", str(port)).replace("REQUESTS", repr(requests))
    return run(box, code.replace("NONCE", nonce).replace("NEW", repr(new)))


def test_http_is_found_request_by_request(tmp_path: Path) -> None:
    pytest.importorskip("h11")
    record = tmp_path / "record"
    a, b, post = ("GET", "/a?x=1", None), ("GET", "/b", None), ("POST", "/p", b"abc" * 1000)
    with http_server() as port, ring3.Sandbox() as box:
        box.net.allow(f"127.0.0.1:{port}")
        box.net.record_to(record)
        told = ask(box, port, a, a, b, post).splitlines()
        assert told[0] != told[1] and told[3] == "cba" * 1000
        box.net.capture(tmp_path / "net.pcap")  # beside a capture too
        ask(box, port, b)
    heard: list[str] = []
    with ring3.Sandbox(log=heard.append) as box:
        replay = box.net.replay(record)
        # other headers, another order, other connections
        again = ask(box, port, post, b, a, a, nonce="2", new=True).splitlines()
        assert again == [told[3], told[2], told[0], told[1]]
        assert replay.left == [f"127.0.0.1:{port}: 'GET /b'"] and not replay.refused and not heard
        for request in (a, ("GET", "/c", None), ("POST", "/p", b"abd" * 1000)):
            assert ask(box, port, request) == "ConnectionResetError\n"
        assert [why.split(": ", 1)[1] for why in replay.refused] == [
            "'GET /a?x=1' was asked more often than it was recorded",
            "'GET /c' is not in the record",
            "'POST /p' is not in the record",
        ]
        assert len(heard) == 3
        # hosts that are not in the record are refused as ever
        assert "ConnectionRefusedError" in ask(box, 1, a)


TLS = """
import os, socket, ssl
context = ssl.create_default_context(cafile=CA or os.environ["SSL_CERT_FILE"])
s = context.wrap_socket(socket.create_connection(("127.0.0.1", PORT)), server_hostname="127.0.0.1")
f = s.makefile("rb")
print(f.readline())
s.sendall(b"HELLO\\r\\n")
print(f.readline())
s.sendall(b"QUIT\\r\\n")
print(f.readline())
"""


def real_site(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """TLS of a real host, and the file of its authority."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return context, str(tmp_path / "ca.pem")


def test_tls_is_opened_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, ca = real_site(tmp_path)
    record = tmp_path / "record"
    code = TLS.replace("CA or ", "")
    with host_server(greeter, context) as port:
        monkeypatch.setenv("SSL_CERT_FILE", ca)  # whom ring3 itself trusts
        with ring3.Sandbox() as box:
            box.net.allow(f"127.0.0.1:{port}")
            box.net.record_to(record, open_tls=[port])
            box.env["SSL_CERT_FILE"] = "/run/ring3/ca.pem"
            told = run(box, code.replace("PORT", str(port)))
            assert "250 OLLEH" in told and "221 bye" in told
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        heard: list[str] = []
        with ring3.Sandbox(log=heard.append) as box:
            box.net.allow(f"127.0.0.1:{port}")
            box.net.record_to(tmp_path / "other", open_tls=[port])
            box.env["SSL_CERT_FILE"] = "/run/ring3/ca.pem"
            done = box.run(
                [PYTHON, "-c", code.replace("PORT", str(port))], capture_output=True, timeout=TIME_LIMIT
            )
            assert done.returncode  # the real host's certificate is checked
        assert any("certificate verify failed" in line.lower() for line in heard), heard
    assert json.loads(record.read_text())["tls"] is True
    with ring3.Sandbox() as box:
        replay = box.net.replay(record)
        box.env["SSL_CERT_FILE"] = "/run/ring3/ca.pem"
        assert run(box, code.replace("PORT", str(port))) == told
        assert not replay.left and not replay.refused


def test_tls_that_is_not_opened_is_told_of(tmp_path: Path) -> None:
    context, ca = real_site(tmp_path)
    record = tmp_path / "record"
    heard: list[str] = []
    with host_server(greeter, context) as port:
        code = TLS.replace("PORT", str(port)).replace("CA or", f"{ca!r} or")
        with ring3.Sandbox(log=heard.append) as box:
            box.net.allow(f"127.0.0.1:{port}")
            box.net.record_to(record)
            assert "221 bye" in run(box, code)
    assert any("cannot be replayed" in line for line in heard)
    assert json.loads(record.read_text())["sealed"] is True
    heard.clear()
    with ring3.Sandbox(log=heard.append) as box:
        replay = box.net.replay(record)
        assert any("cannot be said again" in line for line in heard)
        assert box.run([PYTHON, "-c", code], capture_output=True, timeout=TIME_LIMIT).returncode
        assert len(replay.refused) == 1


def test_names_are_found_without_a_resolver(tmp_path: Path) -> None:
    record = tmp_path / "record"
    line = {"to": "api.example.com:80", "turns": [["out", "hi\n"], ["in64", "//4="]], "end": "out"}
    record.write_text(json.dumps(line) + "\n")
    code = """
import socket
s = socket.create_connection(("api.example.com", 80))
s.sendall(b"h")
s.sendall(b"i\\n")
print(s.recv(9), s.recv(9) if s.shutdown(1) else s.recv(9))
"""
    with ring3.Sandbox() as box:
        replay = box.net.replay(record)
        assert run(box, code) == "b'\\xff\\xfe' b''\n"
        assert not replay.left


@pytest.mark.parametrize("text", ["nonsense", "{}", '{"to": "x", "turns": [], "end": "in"}', "[1]"])
def test_a_file_that_is_no_record(text: str, tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.write_text(text)
    with ring3.Sandbox() as box:
        with pytest.raises(ring3.SandboxError, match="line 1"):
            box.net.replay(record)
        with pytest.raises(ring3.SandboxError):
            box.net.replay(tmp_path / "missing")
        with pytest.raises(ring3.SandboxError):
            box.net.record_to(tmp_path / "no" / "such")
        with pytest.raises(ring3.UsageError):
            box.net.record_to(tmp_path / "r", open_tls=[99999])


def test_the_command_line_records_and_replays(tmp_path: Path) -> None:
    record = tmp_path / "record"
    code = LINES.replace("WORDS", "['HELLO', 'QUIT']")

    def ring3_run(*options: str, port: int) -> str:
        program = [PYTHON, "-I", "-S", "-c", code.replace("PORT", str(port))]
        command = [PYTHON, "-m", "ring3", "run", *options, *program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
        assert done.returncode == 0 and not done.stderr, done
        return done.stdout

    with host_server(greeter) as port:
        first = ring3_run("--net", f"allow=127.0.0.1:{port}", "--net", f"record={record}", port=port)
    assert ring3_run("--net", f"replay={record}", port=port) == first
    bad = subprocess.run(
        [PYTHON, "-m", "ring3", "run", "--net", "open-tls=x", "true"], capture_output=True, text=True
    )
    assert bad.returncode == 125 and "ports" in bad.stderr
