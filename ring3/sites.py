"""ASGI and WSGI applications as web sites of a sandbox; uvicorn speaks HTTP, a2wsgi turns the one into the other.

Part of: ring3 (the front door). May touch: box.net's worker thread.
"""

from __future__ import annotations

from .errors import SandboxError
from .networking import needs_extra

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .networking import Net, Served


def asgi_site(net: Net, name: str, app: Any, port: int, tls: Any) -> Served:
    """See Net.asgi()."""
    try:
        from uvicorn.config import Config
        from uvicorn.server import ServerState
    except ImportError as e:
        raise needs_extra("serving a web site", e) from None
    config = Config(app, log_config=None, access_log=False, proxy_headers=False, server_header=False)
    state = ServerState()
    worker = net._segment.worker

    async def start_up() -> Any:
        if not config.loaded:
            config.load()
        lifespan = config.lifespan_class(config)
        await lifespan.startup()
        if lifespan.should_exit:
            raise SandboxError(f"the application of {name} failed to start up (its own log tells why)")
        return lifespan

    lifespan = worker.wait(start_up())

    protocol: Any = config.http_protocol_class

    def factory() -> Any:
        return protocol(
            config=config, server_state=state, app_state=lifespan.state, _loop=worker.loop
        )

    return net.serve_protocol(name, port, factory, tls=tls)


def wsgi_app(app: Any) -> Any:
    """A WSGI application as an ASGI one."""
    try:
        from a2wsgi import WSGIMiddleware
    except ImportError as e:
        raise needs_extra("serving a WSGI application", e) from None
    return WSGIMiddleware(app)
