"""A client that connects to a host of Python's without end is bounded, and everybody else is served.

Layer: tests. Touches guests of its own.
"""

from __future__ import annotations

import asyncio

import pytest
from guestpython import run
from harness import fd_snapshot

import ring3

BYSTANDER = """
import socket
def bystander():
    with socket.create_connection(("calm.example.com", 7)) as s:
        s.sendall(b"still here\\n")
        return s.recv(99)
"""
#: A host of Python's is connected to, by clients that say nothing and go, and by as many as there can be that stay.
SERVED = (
    BYSTANDER
    + """
where = socket.getaddrinfo("busy.example.com", 7, socket.AF_INET)[0][4]
for i in range(COUNT):
    with socket.socket() as s:
        s.connect(where)
held = []
try:
    while True:
        s = socket.socket()
        s.connect(where)
        held.append(s)
except OSError as e:
    s.close()
    print(len(held) > 500, e.errno)
held.pop().close()
held.pop().close()
print(bystander())
"""
)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


def flood(code: str, count: int) -> tuple[str, int]:
    """What the program printed, and how many descriptors the supervisor has more than before, at its end."""
    with ring3.Sandbox(log=lambda line: None) as box:
        for name in ("calm.example.com", "busy.example.com"):
            box.net.serve(name, 7, echo)
        run(box, BYSTANDER + "bystander()")
        before = len(fd_snapshot())
        out = run(box, code.replace("COUNT", str(count)))
        return out, len(fd_snapshot()) - before


@pytest.mark.parametrize("count", [1000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_host_of_pythons(count: int) -> None:
    out, more = flood(SERVED, count)
    assert out == "True 24\nb'still here\\n'\n"
    assert more < 1100  # as many as one process may hold, until Python has heard of their end
