"""Nothing escapes: a program that tries everything sends no packet and reaches no socket of the host.

Layer: tests. Touches a network namespace of its own, in which a raw socket hears every packet, and listeners wait on TCP,
UDP, an abstract name and a path. Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

# ruff: noqa: E501
HOSTILE = r"""
import itertools, os, socket, struct, sys
path, port = sys.argv[1], int(sys.argv[2])
reached = []
def attempt(what, function):
    try:
        function()
        reached.append(what)
    except OSError:
        pass
hosts = ["127.0.0.1", "127.0.0.53", "10.9.8.7", "10.9.8.1", "255.255.255.255", "224.0.0.1", "0.0.0.0", "::1", "fe80::1%lo", "ff02::1",
         "::ffff:127.0.0.1", "fd12::7"]
for host, p, kind in itertools.product(hosts, (port, 53, 80, 9), (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
    def talk(host=host, p=p, kind=kind):
        for family, _, _, _, where in socket.getaddrinfo(host, p, type=kind, flags=socket.AI_NUMERICHOST):
            with socket.socket(family, kind) as s:
                s.settimeout(0.2)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                for name, value in ((socket.SO_MARK, 1), (socket.SO_BINDTODEVICE, b"lo\0"), (socket.SO_BINDTODEVICE, b"dummy0\0")):
                    try:
                        s.setsockopt(socket.SOL_SOCKET, name, value)
                    except OSError:
                        pass
                if kind == socket.SOCK_DGRAM:
                    s.sendto(b"escape", where)
                    s.connect(where)
                    s.send(b"escape")
                    s.recv(1)
                else:
                    try:
                        s.sendto(b"escape", socket.MSG_FASTOPEN, where)
                    except OSError:
                        s.connect(where)
                    s.sendall(b"escape")
                    s.recv(1)
    attempt((host, p, kind), talk)
for family, kind, protocol in itertools.product(range(46), (1, 2, 3, 5, 10), (0, 1, 6, 17, 58, 132, 255, 262)):
    def raw(family=family, kind=kind, protocol=protocol):
        if family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK) and kind != socket.SOCK_RAW or family == socket.AF_UNIX:
            raise OSError
        if family == socket.AF_NETLINK and protocol == 0:
            raise OSError
        socket.socket(family, kind, protocol).close()
    attempt(("socket", family, kind, protocol), raw)
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    for name in ("\0ring3-escape", path, path + ".dgram", "/proc/1/root" + path):
        with socket.socket(socket.AF_UNIX, kind) as s:
            attempt((kind, name), lambda: (s.connect(name), s.send(b"escape")))
            attempt((kind, name, "to"), lambda: s.sendto(b"escape", name))
# a connected pair is not what one thinks: turn it into something else
a, b = socket.socketpair()
for where in ("\0ring3-escape", path):
    attempt(("pair", where), lambda: a.connect(where))
print("reached", reached)
"""

LISTENERS = r"""
import os, socket, subprocess, sys, tempfile
import ring3
subprocess.run("ip link set lo up; ip link add dummy0 type dummy && ip addr add 10.9.8.7/24 dev dummy0 && ip link set dummy0 up",
               shell=True, stderr=subprocess.DEVNULL)
folder = tempfile.mkdtemp()
path = folder + "/s"
listening = [socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)]
port = listening[0].getsockname()[1]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", port))
for name in ("\0ring3-escape", path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(name)
    s.listen()
    listening.append(s)
for name, kind in (("\0ring3-escape", socket.SOCK_DGRAM), (path + ".dgram", socket.SOCK_DGRAM)):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind(name)
    listening.append(s)
ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
everything = [ear, udp, *listening]
for s in everything:
    s.setblocking(False)
def heard():
    found = []
    for s in everything:
        try:
            got = s.accept() if s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else s.recv(2000)
            # the kernel's own talk on a new interface: neighbour and router solicitations, multicast listener reports
            if s is ear and len(got) > 54 and got[12:14] == b"\x86\xdd" and (got[20] == 58 or got[54] in (143, 135, 133)):
                continue
            found.append((s, got))
        except BlockingIOError:
            pass
    return found
with socket.create_connection(("127.0.0.1", port)):
    pass
assert heard(), "the listeners hear nothing at all"
while heard():
    pass
with ring3.Sandbox(log=lambda line: None) as box:
    for mode in ("virtual", "none"):
        box.net.mode = mode
        done = box.run([sys.executable, "-I", "-S", "-c", sys.argv[1], path, str(port)], capture_output=True, text=True)
        print(done.stdout, done.stderr, heard())
import shutil
shutil.rmtree(folder)
"""


def test_a_program_that_tries_everything_reaches_nothing() -> None:
    if os.getuid() or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs root, unshare and ip for a network namespace")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the host allows no network namespaces")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", LISTENERS, HOSTILE],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["reached []", "  []", "reached []", "  []", ""], (
        done.stdout + done.stderr
    )
