"""What tools tell of a sandbox's network: ip, ss, netstat, ifconfig; by netlink, /proc/net and ioctl.

Layer: tests. Touches guests of its own.
"""

from __future__ import annotations

import json
import shutil
import sys

import pytest

import ring3

PYTHON = sys.executable
TIME_LIMIT = 60.0


def sh(box: ring3.Sandbox, script: str) -> str:
    done = box.run(["sh", "-c", script], capture_output=True, text=True, timeout=TIME_LIMIT)
    assert not done.stderr, done
    return str(done.stdout)


def need(*names: str) -> None:
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


def test_ip_shows_links_addresses_and_routes() -> None:
    need("ip")
    with ring3.Sandbox(log=lambda _: None) as box:
        links = {link["ifname"]: link for link in json.loads(sh(box, "ip -j addr"))}
        assert set(links) == {"lo", "eth0"}
        assert links["lo"]["flags"] == ["LOOPBACK", "UP", "LOWER_UP"] and links["lo"]["mtu"] == 65536
        assert links["eth0"]["operstate"] == "UP" and links["eth0"]["address"] == "02:00:0a:00:00:02"
        told = {
            (a["local"], a["prefixlen"], a["scope"]) for link in links.values() for a in link["addr_info"]
        }
        assert told == {
            ("127.0.0.1", 8, "host"), ("::1", 128, "host"), ("10.0.0.2", 16, "global"), ("fd00::2", 64, "global"),
        }  # fmt: skip
        routes = [(r["dst"], r["dev"]) for r in json.loads(sh(box, "ip -j route"))]
        assert routes == [("10.0.0.0/16", "eth0")]
        box.net.allow("192.0.2.1")
        assert "default via 10.0.0.1 dev eth0" in sh(box, "ip route")
        assert "192.0.2.1 via 10.0.0.1 dev eth0 src 10.0.0.2" in sh(box, "ip route get 192.0.2.1")
        box.net.mode = "none"
        assert [link["ifname"] for link in json.loads(sh(box, "ip -j link"))] == ["lo"]


LISTENERS = f"""exec {PYTHON} -I -S -c '
import socket, subprocess, sys
a = socket.create_server(("", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
b = socket.create_connection(("127.0.0.1", 8080))
c = a.accept()[0]
d = socket.create_server(("127.0.0.1", 9000), backlog=7)
e = socket.socket(2, 2)
e.bind(("0.0.0.0", 5353))
f = socket.socket(1)
f.bind("/tmp/a-socket")
f.listen()
subprocess.run(sys.argv[1], shell=True)
' """


def test_ss_lists_the_sockets_and_whose_they_are() -> None:
    need("ss")
    with ring3.Sandbox() as box:
        out = sh(box, LISTENERS + "'ss -H -tlnp; ss -H -tn; ss -H -uan; ss -H -xl'")
        rows = [" ".join(line.split()) for line in out.splitlines()]
        assert rows[0].startswith("LISTEN 0 7 127.0.0.1:9000 0.0.0.0:* users:((") and "fd=6" in rows[0], out
        assert rows[1].startswith("LISTEN 0 128 *:8080 *:* users:(("), out
        assert rows[2].startswith("ESTAB 0 0 127.0.0.1:") and rows[2].endswith("127.0.0.1:8080"), out
        assert rows[3].startswith("ESTAB 0 0 [::ffff:127.0.0.1]:8080 "), out
        assert rows[4] == "UNCONN 0 0 0.0.0.0:5353 0.0.0.0:*", out
        assert "/tmp/a-socket" in rows[5], out


def test_proc_net_has_the_same() -> None:
    with ring3.Sandbox() as box:
        out = sh(
            box, LISTENERS + "'cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/unix /proc/net/route'"
        )
        assert "0100007F:2328 00000000:0000 0A " in out
        assert "00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A " in out
        assert "00000000:14E9 00000000:0000 07 " in out
        assert " 00010000 0001 01 " in out and " /tmp/a-socket\n" in out
        assert "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0" in out


def test_netstat_and_ifconfig_read_them() -> None:
    need("netstat", "ifconfig")
    with ring3.Sandbox() as box:
        out = sh(box, LISTENERS + "'netstat -tuln'")
        rows = [" ".join(line.split()) for line in out.splitlines()]
        assert "tcp 0 0 127.0.0.1:9000 0.0.0.0:* LISTEN" in rows and "tcp6 0 0 :::8080 :::* LISTEN" in rows
        assert "udp 0 0 0.0.0.0:5353 0.0.0.0:*" in rows
        assert "inet 10.0.0.2 netmask 255.255.0.0 broadcast 10.0.255.255" in " ".join(
            sh(box, "ifconfig eth0").split()
        )
