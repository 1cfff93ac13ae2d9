"""``box.net``: what a sandbox's programs find on their network.

Part of: ring3 (the front door). May touch: the network through kernel.net, and the world's certificates.
"""

from __future__ import annotations

import os

from .errors import SandboxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable, Iterable
    from typing import Any

    from .connection import Connection
    from .mock import Mock
    from .netstack.hosts import Host
    from .netstack.policy import Attempted
    from .netstack.segment import Segment
    from .netstack.services import StreamHandler
    from .replay import Replay
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


class Lan:
    """A network of several sandboxes: each is a machine with a name and addresses, and reaches the others' servers.

    ```
    lan = ring3.Lan()
    with ring3.Sandbox() as server, ring3.Sandbox() as client:
        lan.join(server, "db.example.com")
        lan.join(client, "client.example.com")
    ```
    """

    def __init__(self) -> None:
        from .netstack.lan import Lan as Machines

        self._machines = Machines()

    def join(self, box: Sandbox, name: str) -> list[str]:
        """Make ``box`` a machine of this network, before anything is served or run in it; its addresses. It leaves when
        it is closed. Its way to another can have weather: ``box.net.weather("db.example.com", cut=True)``.

        Raises UsageError when the name is taken, or it is too late.
        """
        from .netstack.address import address_text
        from .netstack.zone import pack_name

        with box.lock:
            net = box._kernel.net
            try:
                pack_name(name)
                net.join(self._machines, name)
            except ValueError as e:
                raise UsageError(str(e)) from None
            return [address_text(a) for a in net.addresses]


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

    def serve_udp(
        self, name: str, port: int, handler: Callable[[bytes, Any], Any], *, group: str = ""
    ) -> Served:
        """Answer datagrams: ``handler(data, (address, port))`` returns the answer, or None; it may be async. It gets
        broadcasts too, and what is sent to the multicast ``group``, if one is given. Raises UsageError."""
        from .netstack.address import is_multicast, parse_address
        from .netstack.services import DatagramHandler

        joined = parse_address(group)
        if group and (joined is None or not is_multicast(joined)):
            raise UsageError(f"{group!r} is not the address of a multicast group")
        served = self._enter(name, port, "udp", DatagramHandler(self._segment, f"{name}:{port}", handler))
        if joined is not None:
            served._host.groups.add(joined)
        return served

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

    # ---- the host

    def publish(self, port: int, host_port: int = 0, *, address: str = "127.0.0.1", udp: bool = False) -> int:
        """Let programs of the host reach the sandbox's server on ``port`` at ``host_port`` (0: any free one) of
        ``address`` ("0.0.0.0": from elsewhere too). Returns the host's port. Raises SandboxError if it cannot be had.
        """
        from .netstack.publish import publish

        if not 0 < port < 65536 or not 0 <= host_port < 65536:
            raise UsageError(f"publish {host_port}:{port}: ports lie between 1 and 65535")
        with self.lock:
            try:
                made = publish(self._segment, address, host_port, port, "udp" if udp else "tcp")
            except OSError as e:
                raise SandboxError(f"cannot publish {address}:{host_port}: {e.strerror}") from None
            self._segment.published.append(made)
            return made.host_port

    def allow(self, *rules: str) -> None:
        """Let guests reach hosts outside: "api.example.com:443", "*.example.com", "10.0.0.0/8:5432", "192.0.2.7", "*".

        Names are resolved by the host, and what it answers is what they may reach. The host's own loopback is reached
        by an explicit address, "127.0.0.1:5432". Raises UsageError for a rule that cannot be read.
        """
        with self.lock:
            try:
                for rule in rules:
                    self._segment.allow(rule)
            except ValueError as e:
                raise UsageError(str(e)) from None

    @property
    def mode(self) -> str:
        """ "virtual" (the default): the hosts that are made in Python; "none": nothing but lo; "host": all that the
        host can reach, and the TCP ports that guests listen on and the UDP ports that they bind are the host's."""
        return self._box._kernel.net.mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in ("virtual", "none", "host"):
            raise UsageError(f"the network is virtual, none or host, not {mode!r}")
        with self.lock:
            self._box._kernel.net.set_mode(mode)

    @property
    def raw(self) -> bool:
        """May programs with CAP_NET_RAW have raw sockets, and all of them ICMP's datagram sockets, as ping wants them?
        They reach the sandbox's own network and nothing beyond. By default not: EPERM."""
        return self._box._kernel.net.raw

    @raw.setter
    def raw(self, allowed: bool) -> None:
        with self.lock:
            self._box._kernel.net.raw = bool(allowed)

    def policy(
        self, function: Callable[[Attempted], Any], kinds: Iterable[str] = ("connect", "bind", "datagram")
    ) -> Callable[[Attempted], Any]:
        """Ask ``function(attempted)`` about each TCP connect, bind and datagram of IP sockets; also as a decorator.

        It returns None (what happens anyway), "allow" (also beyond the sandbox), an errno or its name to refuse with,
        or (host, port) to go there instead, which the guest does not see. Where it raises, the guest gets EACCES. It
        runs in the sandbox's own thread: while it does, no call of the sandbox is served.
        """
        from .netstack.policy import Policy

        with self.lock:
            net = self._box._kernel.net
            net.policy = Policy(net, function, frozenset(kinds))
        return function

    def connections(self) -> list[Connection]:
        """What the sandbox's programs are connected to now, and where they listen; see ``Connection``."""
        from .connection import Connection

        with self.lock:
            return [Connection(**row) for row in self._box._kernel.net.connections()]

    # ---- weather, captures

    def weather(self, name: str = "", *, seed: int | None = None, **weather: Any) -> None:
        """Give the way to the host ``name`` (by default to all) weather, from now on: ``latency`` and ``jitter`` in
        seconds each way, ``bandwidth`` in bytes a second, ``loss``, ``duplicate`` and ``reorder`` of datagrams as
        probabilities, ``reset_after`` and ``stall_after`` so many bytes of a connection, ``cut=True``. Without any it
        is fair again. It may change while programs run, also for connections that began in some weather. The same
        ``seed`` gives the same weather. There is none within the sandbox's own machine. Raises UsageError for what
        makes no sense.
        """
        from .netstack.hosts import normal
        from .netstack.weather import Weather

        try:
            made = Weather(**weather)
        except (TypeError, ValueError) as e:
            raise UsageError(f"weather: {e}") from None
        with self.lock:
            self._segment.set_weather(normal(name), made, seed)

    def capture(self, file: str | os.PathLike[str]) -> None:
        """Write what goes over the network from now on to a pcap file: connections, datagrams and pings, also
        those between the sandbox's own programs. It ends with the sandbox. Raises SandboxError."""
        from .netstack.capture import Capture

        with self.lock:
            if self._segment.capture is not None:
                raise UsageError("there is a capture already")
            try:
                self._segment.capture = Capture(open(file, "wb"))
            except OSError as e:
                raise SandboxError(f"cannot write the capture {os.fspath(file)}: {e.strerror}") from None

    def tls_keys(self, file: str | os.PathLike[str]) -> None:
        """Append the TLS secrets of the sandbox's own sites (``tls=True``) to a key log file, from now on: with it
        Wireshark and tshark decrypt a capture (``-o tls.keylog_file:FILE``). Raises SandboxError."""
        path = os.path.abspath(os.fspath(file))
        try:
            with open(path, "a"):
                pass
            self.authority.log_keys(path)
        except OSError as e:
            raise SandboxError(f"cannot write the TLS keys to {os.fspath(file)}: {e.strerror}") from None

    # ---- record and replay

    def record_to(self, file: str | os.PathLike[str], *, open_tls: Iterable[int] = ()) -> None:
        """Write down what programs and the hosts outside (``allow``) say to each other over TCP, from now on.

        TLS is recorded as it is, which cannot be replayed; but to the ports of ``open_tls`` it ends here: the guest
        speaks with the sandbox's own authority, and ring3 with the real host, whose certificate it checks. Raises
        SandboxError, UsageError.
        """
        from .replay import start_recording

        start_recording(self, file, open_tls)

    def replay(self, file: str | os.PathLike[str]) -> Replay:
        """Have the hosts of a record answer as they did then, without a network. HTTP requests are found by method,
        target, Host and body; anything else a program has to say as it was recorded. Each is answered once. What
        differs is refused: the connection is reset, the log tells, and ``refused`` of the result has it.

        Raises SandboxError for a file that is no record, UsageError when a host is there already.
        """
        from .replay import start_replay

        return start_replay(self, file)

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
