"""``box.net``: what a sandbox's programs find on their network.

Part of: ring3 (the front door). May touch: the network through kernel.net, and the world's certificates.
"""

from __future__ import annotations

from .errors import SandboxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable
    from typing import Any

    from .mock import Mock
    from .netstack.hosts import Host
    from .netstack.segment import Segment
    from .netstack.services import StreamHandler
    from .sandbox import Sandbox
    from .tls import Authority


class Served:
    """Something that is served on the network: ``close()`` ends it, and so does the end of ``with``."""

    def __init__(self, net: Net, host: Host, port: int, ports: dict[int, Any], name: str) -> None:
        self._net, self._host, self._ports = net, host, ports
        self.name, self.port = name, port

    @property
    def addresses(self) -> list[str]:
        """Where it is, as text."""
        from .netstack.address import address_text

        return [address_text(a) for a in self._host.addresses]

    def close(self) -> None:
        """Nobody can connect to it any more; connections that there are go on. May be called twice."""
        with self._net.lock:
            self._ports.pop(self.port, None)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Net:
    """The network of one sandbox. All of it may be used before the first program starts, and while programs run."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self.lock = box.lock
        self._authority: Authority | None = None

    @property
    def _segment(self) -> Segment:
        return self._box._kernel.net.segment

    # ---- hosts and names

    def host(self, name: str, address: str | None = None) -> list[str]:
        """Put a host on the network, and say at which addresses it is: one of IPv4 and one of IPv6, or ``address``.

        ``serve`` and its like do that by themselves. Raises UsageError when the name or the address is taken.
        """
        from .netstack.address import address_text, parse_address

        raw = parse_address(address) if address is not None else None
        if address is not None and raw is None:
            raise UsageError(f"{address!r} is not an IP address")
        with self.lock:
            try:
                host = self._segment.hosts.add(name, raw)
            except ValueError as e:
                raise UsageError(str(e)) from None
            return [address_text(a) for a in host.addresses]

    def _host(self, name: str) -> Host:
        """The host of a name or address, made if need be; the caller holds the lock."""
        from .netstack.address import parse_address
        from .netstack.zone import pack_name

        hosts = self._segment.hosts
        address = parse_address(name)
        found = hosts.by_address.get(address) if address is not None else hosts.get(name)
        if found is not None:
            return found
        try:
            if address is None:
                pack_name(name)
            return hosts.add(name, address)
        except ValueError as e:
            raise UsageError(str(e)) from None

    def record(self, name: str, kind: str, value: Any, ttl: int = 60) -> None:
        """Add a DNS record: A, AAAA, CNAME, NS, PTR, TXT with a text; MX with (preference, name); SRV with
        (priority, weight, port, name). ``ttl`` in seconds. A name may be a wildcard, ``*.example.com``.

        Raises UsageError for a type or value that makes no sense.
        """
        with self.lock:
            try:
                self._segment.zone.add(name, kind, value, ttl)
            except ValueError as e:
                raise UsageError(str(e)) from None

    # ---- services

    def serve(
        self, name: str, port: int, handler: StreamHandler, *, tls: bool | ssl.SSLContext = False
    ) -> Served:
        """Serve TCP connections to ``name`` (a host name, ``*.domain``, or an IP address) with an asyncio stream
        callback, ``async def handler(reader, writer)``.

        It runs in a thread of its own, with the event loop of all services of this sandbox; when it returns, the
        connection is closed, and when it raises, the log tells and that connection alone is reset. ``tls``: with a
        certificate for the name by the sandbox's own authority, which the guests trust; or an ssl.SSLContext.
        Raises UsageError when the port is taken.
        """
        from .netstack.services import stream_factory

        what = f"{name}:{port}"
        return self.serve_protocol(name, port, stream_factory(self._segment, what, handler), tls=tls)

    def serve_protocol(
        self,
        name: str,
        port: int,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        tls: bool | ssl.SSLContext = False,
    ) -> Served:
        """Serve TCP connections with asyncio protocols, one made by ``factory()`` for each; else as ``serve``."""
        from .netstack.services import Service

        context = self.authority.context(name) if tls is True else tls or None
        service = Service(self._segment, f"{name}:{port}", factory, context)
        return self._enter(name, port, "tcp", service)

    def serve_udp(self, name: str, port: int, handler: Callable[[bytes, Any], Any]) -> Served:
        """Answer datagrams: ``handler(data, (address, port))`` returns the answer, or None; it may be async."""
        from .netstack.services import DatagramHandler

        return self._enter(name, port, "udp", DatagramHandler(self._segment, f"{name}:{port}", handler))

    def _enter(self, name: str, port: int, kind: str, service: Any) -> Served:
        if not 0 < port < 65536:
            raise UsageError(f"{port} is not a port")
        with self.lock:
            host = self._host(name)
            ports: dict[int, Any] = getattr(host, kind)
            if port in ports:
                raise UsageError(f"{name}:{port} is served already")
            ports[port] = service
        return Served(self, host, port, ports, name)

    # ---- web sites

    def asgi(
        self, name: str, app: Any, port: int | None = None, *, tls: bool | ssl.SSLContext = False
    ) -> Served:
        """Serve an ASGI application (FastAPI, Starlette, Quart, ...) as the web site ``name``, on port 80, or 443 with
        ``tls``. Needs the extra ``ring3[net]``. Raises SandboxError when the application does not start up."""
        from .sites import asgi_site

        return asgi_site(self, name, app, port or (443 if tls else 80), tls)

    def wsgi(
        self, name: str, app: Any, port: int | None = None, *, tls: bool | ssl.SSLContext = False
    ) -> Served:
        """Serve a WSGI application (Flask, Django, ...) as a web site; else as ``asgi``."""
        from .sites import wsgi_app

        return self.asgi(name, wsgi_app(app), port, tls=tls)

    def mock(self, name: str, port: int | None = None, *, tls: bool | ssl.SSLContext = False) -> Mock:
        """A web site of static replies that records what it is asked; see ``ring3.mock.Mock``."""
        from .mock import Mock

        site = Mock(name)
        site.served = self.asgi(name, site, port, tls=tls)
        return site

    # ---- TLS

    @property
    def authority(self) -> Authority:
        """The sandbox's own certificate authority, made when it is first wanted. Programs that start from then on
        trust it: it is in the world's bundles, and in SSL_CERT_FILE and the variables like it. Needs ``ring3[net]``."""
        if self._authority is None:
            from .tls import Authority

            authority = Authority()
            with self.lock:
                authority.install(self._box)
            self._authority = authority
        return self._authority


def needs_extra(what: str, cause: ImportError) -> SandboxError:
    """The error for a library that is not there."""
    return SandboxError(f"{what} needs {cause.name or 'a library'}: pip install 'ring3[net]'")
