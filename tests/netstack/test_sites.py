"""Web sites in a sandbox: ASGI and WSGI applications, mocks, TLS that real clients trust.

Layer: tests. Touches guests of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from typing import Any

import pytest

import ring3
from ring3.mock import Reply

pytest.importorskip("uvicorn", reason="uvicorn is not installed (the extra `net`)")
pytest.importorskip("trustme", reason="trustme is not installed (the extra `net`)")
TIME_LIMIT = 60.0


def sh(box: ring3.Sandbox, script: str) -> str:
    done = box.run(["sh", "-c", script], capture_output=True, text=True, timeout=TIME_LIMIT)
    return str(done.stdout + done.stderr)


def need(*names: str) -> None:
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["greeting"] = "hello"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return
    body = f"{scope['state']['greeting']} {scope['client'][0]} {scope['scheme']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]})
    for part in (body, b"!"):
        await send({"type": "http.response.body", "body": part, "more_body": part == body})


def test_an_asgi_application_with_its_lifespan() -> None:
    need("curl")
    with ring3.Sandbox() as box:
        box.net.asgi("www.example.com", application)
        out = sh(box, "curl -sS4 http://www.example.com/a http://www.example.com/b")
        assert out == "hello 10.0.0.2 http /a!hello 10.0.0.2 http /b!"


def test_an_application_that_does_not_start_up() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with ring3.Sandbox() as box, pytest.raises(ring3.SandboxError, match="failed to start up"):
        box.net.asgi("www.example.com", broken)


def test_a_wsgi_application() -> None:
    need("curl")
    pytest.importorskip("a2wsgi", reason="a2wsgi is not installed (the extra `net`)")

    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("201 Created", [("Content-Type", "text/plain")])
        return [environ["REQUEST_METHOD"].encode(), environ["wsgi.input"].read()]

    with ring3.Sandbox() as box:
        box.net.wsgi("w.example.com", wsgi, 8080)
        assert sh(box, "curl -sS -w '%{http_code}' -d data http://w.example.com:8080/") == "POSTdata201"


def test_clients_trust_the_sandboxs_authority_and_check_names() -> None:
    need("curl", "wget", "python3")
    python = "/usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"https://tls.example.com/\").read())'"
    with ring3.Sandbox() as box:
        site = box.net.mock("tls.example.com", tls=True).reply("GET", "/", "yes")
        box.net.mock("*.w.example.com", tls=True).reply("*", "*", "wild")
        assert sh(box, "curl -sS https://tls.example.com/") == "yes"
        assert sh(box, "env -i curl -sS https://tls.example.com/") == "yes"  # by the system's bundle
        assert sh(box, "wget -qO- https://tls.example.com/") == "yes"
        assert sh(box, python) == "b'yes'\n"
        assert sh(box, "curl -sS https://a.w.example.com/") == "wild"
        assert "(60) SSL" in sh(box, "curl -sS https://10.0.1.1/")
        assert len(site.asked("GET", "/")) == 4
        assert "BEGIN CERTIFICATE" in sh(box, "cat /run/ring3/ca.pem")
    with ring3.Sandbox(root=None) as box:
        box.net.authority  # noqa: B018  (made by being asked for)
        assert box.exists("/run/ring3/ca-bundle.pem")


def test_a_mock_records_and_answers_in_turn() -> None:
    need("curl")
    with ring3.Sandbox() as box:
        site = box.net.mock("api.example.com")
        site.reply("GET", "/n", json=[1]).reply("GET", "/n", json=[2], headers={"X-Two": "2"})
        site.reply("POST", "/echo", lambda r: {"got": r.json()})
        site.reply("*", "/teapot", lambda r: Reply(418, b"short", {"content-type": "text/plain"}))
        url = "http://api.example.com"
        assert sh(box, f"for i in 1 2 3; do curl -sS {url}/n?i=$i; done") == "[1][2][2]"
        assert json.loads(sh(box, f"""curl -sS -d '{{"a": 1}}' {url}/echo""")) == {"got": {"a": 1}}
        assert sh(box, f"curl -sS -w %{{http_code}} {url}/teapot") == "short418"
        assert sh(box, f"curl -sS -o /dev/null -w %{{http_code}} {url}/nothing") == "404"
        assert [r.query for r in site.asked(path="/n")] == ["i=1", "i=2", "i=3"]
        assert site.requests[3].body == b'{"a": 1}' and site.requests[3].headers["host"] == "api.example.com"
        site.assert_asked("POST", "/echo", times=1)
        with pytest.raises(AssertionError, match="asked were: GET /n"):
            site.assert_asked("DELETE", "/n")


JAVA = """
import java.net.URI;
import java.net.http.*;
public class Ask {
    public static void main(String[] a) throws Exception {
        var request = HttpRequest.newBuilder(URI.create("https://tls.example.com/")).build();
        System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"""


@pytest.mark.long
def test_other_runtimes_trust_it_too(tmp_path: Any) -> None:
    need("node", "java")
    with ring3.Sandbox() as box:
        box.net.mock("tls.example.com", tls=True).reply("GET", "/", "yes")
        box.write_file("/tmp/Ask.java", JAVA)
        fetch = "fetch('https://tls.example.com/').then(r => r.text()).then(console.log)"
        assert sh(box, f'node -e "{fetch}"') == "yes\n"
        assert sh(box, "java /tmp/Ask.java") == "yes\n"
