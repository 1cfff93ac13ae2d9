"""The resolver's packets, read back by dnslib, and packets that are broken.

Layer: tests. Touches nothing.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from ring3.netstack.dns import Resolver, nameservers
from ring3.netstack.hosts import Hosts
from ring3.netstack.zone import Zone, reverse_address, reverse_name

dnslib = pytest.importorskip("dnslib", reason="dnslib is not installed")


class Segment:
    """As much of one as the resolver wants."""

    def __init__(self) -> None:
        self.hosts = Hosts()
        self.zone = Zone(self.hosts, "box")
        self.told: list[str] = []

    def log_once(self, line: str) -> None:
        self.told.append(line)


@pytest.fixture
def segment() -> Segment:
    made = Segment()
    made.hosts.add("a.example.com")
    made.zone.add("alias.example.com", "CNAME", "b.example.com")
    made.zone.add("b.example.com", "CNAME", "a.example.com")
    made.zone.add("loop.example.com", "CNAME", "loop.example.com")
    made.zone.add("m.example.com", "MX", (5, "a.example.com"))
    made.zone.add("*.w.example.com", "TXT", b"\xff" * 300)
    made.zone.add("x.w.example.com", "A", "192.0.2.9")
    return made


def ask(segment: Segment, packet: bytes, datagram: bool = True) -> Any:
    answers: list[bytes] = []
    Resolver(segment).answer(packet, datagram, answers.append)  # type: ignore[arg-type]
    return dnslib.DNSRecord.parse(answers[0]) if answers else None


@pytest.mark.parametrize(
    ("name", "kind", "code", "data"),
    [
        ("A.Example.com.", "A", 0, ["10.0.1.1"]),
        ("a.example.com", "AAAA", 0, ["fd00::101"]),
        ("a.example.com", "ANY", 0, ["10.0.1.1", "fd00::101"]),
        ("alias.example.com", "A", 0, ["b.example.com.", "a.example.com.", "10.0.1.1"]),
        ("m.example.com", "MX", 0, ["5 a.example.com."]),
        ("m.example.com", "A", 0, []),
        ("example.com", "A", 0, []),
        ("box", "A", 0, ["10.0.0.2"]),
        ("localhost", "AAAA", 0, ["::1"]),
        ("no.example.com", "A", 3, []),
        ("y.x.w.example.com", "TXT", 3, []),
        ("1.1.0.10.in-addr.arpa", "PTR", 0, ["a.example.com."]),
        ("2.1.0.10.in-addr.arpa", "PTR", 3, []),
    ],
)
def test_an_answer(segment: Segment, name: str, kind: str, code: int, data: list[str]) -> None:
    reply = ask(segment, dnslib.DNSRecord.question(name, kind).pack())
    assert reply.header.rcode == code
    assert [str(r.rdata) for r in reply.rr] == data
    assert reply.header.ra and reply.header.rd and reply.header.qr
    assert str(reply.q.qname).rstrip(".").lower() == name.rstrip(".").lower()


def test_aliases_in_a_circle_end(segment: Segment) -> None:
    reply = ask(segment, dnslib.DNSRecord.question("loop.example.com", "A").pack())
    assert reply.header.rcode == 0 and 0 < len(reply.rr) < 32


def test_truncation_follows_edns(segment: Segment) -> None:
    question = dnslib.DNSRecord.question("q.w.example.com", "TXT")
    for _ in range(2):
        segment.zone.add("*.w.example.com", "TXT", b"z" * 250)
    assert ask(segment, question.pack()).header.tc
    assert not ask(segment, question.pack(), datagram=False).header.tc
    question.add_ar(dnslib.EDNS0(udp_len=4096))
    reply = ask(segment, question.pack())
    assert not reply.header.tc and len(reply.rr) == 3 and reply.ar[0].rtype == 41


def test_broken_queries_do_no_harm(segment: Segment) -> None:
    whole = dnslib.DNSRecord.question("a.example.com", "A").pack()
    dice = random.Random(1)
    for size in range(len(whole)):
        reply = ask(segment, whole[:size])
        assert reply is None or reply.header.rcode == 1
    for _ in range(2000):
        broken = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        Resolver(segment).answer(bytes(broken), True, lambda _: None)  # type: ignore[arg-type]
    assert ask(segment, whole[:12] + b"\xc0\x0c\0\1\0\1").header.rcode == 1  # a pointer to itself


def test_reverse_names() -> None:
    for address in (b"\x0a\0\1\2", bytes(range(16))):
        assert reverse_address(reverse_name(address)) == address
    for name in ("x.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "300.1.1.1.in-addr.arpa", "g" * 3 + ".ip6.arpa"):
        assert reverse_address(name) is None


def test_nameservers_of_a_resolv_conf() -> None:
    gateway = {b"\x0a\0\0\1", b"\xfd" + bytes(14) + b"\1"}
    assert nameservers("# x\nnameserver 1.2.3.4\nnameserver fe80::1%eth0\nsearch a\nnameserver q\n") == {
        b"\1\2\3\4", b"\xfe\x80" + bytes(13) + b"\1", *gateway,
    }  # fmt: skip
    assert nameservers("") == {b"\x7f\0\0\1", bytes(15) + b"\1", *gateway}
