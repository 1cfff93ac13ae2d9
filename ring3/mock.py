"""A web site of static replies, which records what it is asked: ``box.net.mock(name)``.

Part of: ring3 (the front door). May touch: nothing; it is an ASGI application.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .networking import Served


@dataclass
class Request:
    """What a guest asked: ``query`` without the question mark; ``headers`` by names in small letters."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        import json

        return json.loads(self.body)


@dataclass
class Reply:
    """What a guest is answered."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Mock:
    """See the module's text.

    ```
    site = box.net.mock("api.example.com", tls=True)
    site.reply("GET", "/users", json=[{"name": "ann"}])
    box.run(["curl", "-s", "https://api.example.com/users?x=1"])
    assert site.requests[0].query == "x=1"
    ```

    A request for which there is no reply gets 404. ``requests`` is everything that was asked, in order.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests: list[Request] = []
        self.served: Served | None = None
        self._replies: dict[tuple[str, str], list[Reply | Callable[[Request], Any]]] = {}
        self._lock = threading.Lock()

    def reply(
        self,
        method: str,
        path: str,
        body: str | bytes | Callable[[Request], Any] = b"",
        *,
        json: Any = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Mock:
        """Answer ``method`` ("*": any) on ``path`` ("*": any) with ``body``, or ``json`` as JSON, or what a function of
        the Request returns (a body, or a Reply). Given several times, the replies come one after the other, and the
        last one stays."""
        what: Reply | Callable[[Request], Any]
        if callable(body):
            what = body
        else:
            what = _reply_of(body if json is None else _Json(json), status, dict(headers or {}))
        with self._lock:
            self._replies.setdefault((method.upper(), path), []).append(what)
        return self

    def asked(self, method: str | None = None, path: str | None = None) -> list[Request]:
        """The requests with this method and path."""
        return [
            r
            for r in self.requests
            if (method is None or r.method == method.upper()) and (path is None or r.path == path)
        ]

    def assert_asked(self, method: str, path: str, times: int | None = None) -> None:
        """Raise AssertionError unless this was asked (so many times)."""
        count = len(self.asked(method, path))
        if count == times or (times is None and count):
            return
        wanted = "" if times is None else f" {times} times, but {count}"
        seen = ", ".join(f"{r.method} {r.path}" for r in self.requests) or "nothing"
        raise AssertionError(f"{self.name}: {method} {path} was not asked{wanted}; asked were: {seen}")

    def _find(self, request: Request) -> Any:
        with self._lock:
            for key in (
                (request.method, request.path),
                ("*", request.path),
                (request.method, "*"),
                ("*", "*"),
            ):
                replies = self._replies.get(key)
                if replies:
                    return replies.pop(0) if len(replies) > 1 else replies[0]
        return Reply(404, b"ring3: this mock has no such reply\n", {"content-type": "text/plain"})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if scope["type"] != "http":
            raise ValueError("a mock answers HTTP alone")
        request = await _read_request(scope, receive)
        self.requests.append(request)
        found = self._find(request)
        if callable(found):
            found = found(request)
            found = found if isinstance(found, Reply) else _reply_of(found, 200, {})
        headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in found.headers.items()]
        if not any(k == b"content-length" for k, _ in headers):
            headers.append((b"content-length", str(len(found.body)).encode()))
        await send({"type": "http.response.start", "status": found.status, "headers": headers})
        await send({"type": "http.response.body", "body": found.body})


class _Json:
    def __init__(self, value: Any) -> None:
        self.value = value


def _reply_of(body: Any, status: int, headers: dict[str, str]) -> Reply:
    kind = "text/plain; charset=utf-8"
    if isinstance(body, _Json) or not isinstance(body, (str, bytes)):
        import json

        body, kind = json.dumps(body.value if isinstance(body, _Json) else body), "application/json"
    elif isinstance(body, bytes):
        kind = "application/octet-stream"
    if not any(name.lower() == "content-type" for name in headers):
        headers["content-type"] = kind
    return Reply(status, body.encode() if isinstance(body, str) else body, headers)


async def _read_request(scope: Any, receive: Any) -> Request:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
    query = scope["query_string"].decode("latin-1")
    return Request(scope["method"], scope["path"], query, headers, body)
