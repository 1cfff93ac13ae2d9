"""The command line's --net and -p.

Part of: ring3 (the front door). May touch: box.net.
"""

from __future__ import annotations

from .cli import complain
from .errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .sandbox import Sandbox


_OTHERS = "record=FILE, replay=FILE and open-tls=PORT[,PORT]..."


def apply(box: Sandbox, options: argparse.Namespace) -> None:
    """Set up the network that the options ask for. Raises UsageError, SandboxError."""
    opened = _opened(options.net)
    for mode in options.net:
        kind, equals, rules = mode.partition("=")
        if kind == "allow" and equals:
            box.net.allow(*[rule.strip() for rule in rules.split(",") if rule.strip()])
        elif kind == "record" and rules:
            box.net.record_to(rules, open_tls=opened)
        elif kind == "replay" and rules:
            box.net.replay(rules)
        elif kind == "open-tls" and rules:
            continue
        elif mode in ("virtual", "none", "host"):
            box.net.mode = mode
        else:
            raise UsageError(f"--net {mode}: there are virtual, none, host, allow=RULE[,RULE]..., {_OTHERS}")
    if options.net_raw:
        box.net.raw = True
    if options.pcap is not None:
        box.net.capture(options.pcap)
    if options.tls_keys is not None:
        box.net.tls_keys(options.tls_keys)
    for spec in options.publish:
        address, host_port, port, udp = _published(spec)
        got = box.net.publish(port, host_port, address=address, udp=udp)
        if not host_port:
            complain(f"port {port} of the sandbox is {address}:{got} of the host")


def _opened(modes: list[str]) -> list[int]:
    """The ports of --net open-tls=PORT[,PORT]."""
    texts = [text for mode in modes if mode.startswith("open-tls=") for text in mode[9:].split(",")]
    if not all(text.isdecimal() for text in texts):
        raise UsageError(f"--net open-tls={','.join(texts)}: those are no ports")
    return [int(text) for text in texts]


def _published(spec: str) -> tuple[str, int, int, bool]:
    ports, slash, kind = spec.partition("/")
    before, _, port = ports.rpartition(":")
    address, _, host_port = before.rpartition(":")
    if (
        kind not in ("", "tcp", "udp")
        or (slash and not kind)
        or not port.isdecimal()
        or not host_port.isdecimal()
    ):
        raise UsageError(f"-p {spec!r} is not [ADDRESS:]HOST:GUEST or [ADDRESS:]HOST:GUEST/udp")
    return address.strip("[]") or "127.0.0.1", int(host_port), int(port), kind == "udp"
