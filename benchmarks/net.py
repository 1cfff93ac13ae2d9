"""`python -m benchmarks net`: the network natively on the loopback interface, between two programs in ring3, and in
gVisor (its own network stack, Debian's package runsc).

Layer: benchmarks. Touches child processes of its own, a temporary directory, free ports of the loopback interface.

The programs that are not installed are left out. All samples of a line are interleaved, so that a machine that slows
down slows both. As root everything runs with real-time priority (chrt -r), so that other work disturbs less.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from .__main__ import HERE, launcher
from .files import GVISOR, why_not

#: what of net.c -> how many in one sample, and how many times native's time it may take
OPERATIONS = {
    "tcp-pingpong": (20_000, 0.7),
    "stream": (20_000, 0.67),
    "udp-pingpong": (5_000, None),
    "connect": (3_000, None),
}
TOLERANCE = 1.1
_SECONDS = 2
_NGINX = """
user root; worker_processes 2; daemon off; pid {d}/pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {d}/b; proxy_temp_path {d}/p;
fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; sendfile on; tcp_nopush on; root {d};
server {{ listen 127.0.0.1:{port}; location /text {{ return 200 "hello"; }}
location /cached/ {{ alias {d}/; open_file_cache max=100; }} }} }}
"""
_WRK = "wrk -t1 -c16 -d{s}s http://127.0.0.1:{port}{path} | sed -n 's/Requests.sec: *//p'"
_WITH_NGINX = (
    "nginx -c {d}/conf & s=$!; until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep .05; done; "
)
_REDIS = (
    "redis-server --port {port} --save '' --daemonize no >/dev/null & s=$!; "
    "until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep .05; done; "
    "redis-benchmark -p {port} -n {n} -P {p} -t get -q --csv | tail -1 | cut -d, -f2 | tr -d '\"'; kill $s; wait"
)
_IPERF = (
    "iperf3 -s -1 -p {port} >/dev/null & until [ -n \"$(ss -Hltn 'sport = :{port}')\" ]; do sleep .05; done; "
    "iperf3 -c 127.0.0.1 -p {port} -t {s} -f m | sed -n 's/.* \\([0-9.]*\\) Mbits.sec *receiver/\\1/p'; wait"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def rates(directory: Path) -> dict[str, tuple[tuple[str, ...], str, float]]:
    """name -> the programs that it needs, a bash script that prints a rate, and how many times native's it is to be."""
    found: dict[str, tuple[tuple[str, ...], str, float]] = {}
    nginx = _WITH_NGINX + _WRK + "; kill -QUIT $s; wait"
    for name, path in (("text", "/text"), ("cached file", "/cached/index"), ("file", "/index")):
        script = nginx.replace("{path}", path).replace("{s}", str(_SECONDS))
        found[f"nginx+wrk {name}"] = (("nginx", "wrk"), script, 1.0)
    for pipeline, count in ((1, 40_000), (16, 400_000)):
        script = _REDIS.replace("{n}", str(count)).replace("{p}", str(pipeline))
        found[f"redis -P {pipeline}"] = (("redis-server", "redis-benchmark"), script, 1.0)
    found["iperf3 Mbit/s"] = (("iperf3", "ss"), _IPERF.replace("{s}", str(_SECONDS)), 1.5)
    return found


def said(words: list[str], cwd: Path) -> float:
    """Run a command that prints one number."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def measure(samples: int, takers: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each, samples taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in takers}
    for _ in range(samples):
        for name, take in takers.items():
            times[name].append(take())
    return {name: statistics.median(found) for name, found in times.items()}


def line(name: str, got: dict[str, float], target: float | None, higher: bool) -> str:
    ratio = got["ring3"] / got["native"]
    text = f"{name:<24}{got['native']:>14,.0f}{got['ring3']:>14,.0f}{ratio:>9.2f} x"
    for other in ("published", "gVisor"):
        if other in got:
            text += f"{got[other]:>14,.0f}{got[other] / got['native']:>9.2f} x"
    if target is None:
        return text
    met = ratio * TOLERANCE >= target if higher else ratio <= target * TOLERANCE
    return f"{text}   at {'least' if higher else 'most'} {target} x: {'met' if met else 'MISSED'}"


def published_nginx(priority: list[str], directory: Path, path: str) -> float:
    """wrk on the host, nginx in ring3."""
    inside, outside = free_port(), free_port()
    (directory / "conf").write_text(_NGINX.format(d=directory, port=inside))
    words = [
        *priority,
        *launcher(),
        "run",
        "-p",
        f"{outside}:{inside}",
        "--",
        "nginx",
        "-c",
        f"{directory}/conf",
    ]
    server = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        ready = f"until curl -so /dev/null http://127.0.0.1:{outside}/text; do sleep .05; done; "
        script = ready + _WRK.format(s=_SECONDS, port=outside, path=path)
        return said([*priority, "bash", "-c", script], directory)
    finally:
        server.terminate()
        server.wait()


def compare(samples: int, share: int, report: str | None) -> int:
    """Measure everything, print the table, write `report` (JSON) if asked for."""
    priority = ["chrt", "-r", "5"] if os.getuid() == 0 and shutil.which("chrt") else []
    ring3 = [*launcher(), "run", "--"]
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="ring3-bench-") as where:
        directory = Path(where)
        directory.chmod(0o755)
        (directory / "index").write_bytes(b"x" * 612)
        program = str(directory / "net")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, str(HERE / "net.c")], check=True)
        peer = [*GVISOR, "/"]
        if reason := why_not([*peer, program, "tcp-pingpong", "10"], directory):
            print(f"gVisor: left out: {reason}")
            peer = []
        print(f"{'nanoseconds for one':<24}{'native':>14}{'ring3':>14}{'':>11}{'gVisor' if peer else '':>14}")
        for name, (count, target) in OPERATIONS.items():
            words = [program, name, str(max(count // share, 10))]
            takers = {
                "native": lambda w=words: said([*priority, *w], directory),  # type: ignore[misc]
                "ring3": lambda w=words: said([*priority, *ring3, *w], directory),  # type: ignore[misc]
            }
            if peer:
                takers["gVisor"] = lambda w=words: said([*priority, *peer, *w], directory)  # type: ignore[misc]
            results[name] = measure(samples, takers)
            print(line(name, results[name], target, False), flush=True)
        print(f"\n{'a second':<24}{'native':>14}{'ring3':>14}{'':>11}{'published':>14}")
        for name, (needs, script, target) in rates(directory).items():
            if missing := [n for n in needs if shutil.which(n) is None]:
                print(f"{name}: left out: {', '.join(missing)} not installed")
                continue
            results[name] = measure(samples, _takers(name, script, priority, ring3, directory))
            print(line(name, results[name], target, True), flush=True)
    if report:
        Path(report).write_text(json.dumps({"net": results}, indent=1) + "\n")
    return 0


def _takers(
    name: str, script: str, priority: list[str], ring3: list[str], directory: Path
) -> dict[str, Callable[[], float]]:
    def take(prefix: list[str]) -> float:
        port = free_port()
        (directory / "conf").write_text(_NGINX.format(d=directory, port=port))
        text = script.replace("{port}", str(port)).replace("{d}", str(directory))
        return said([*priority, *prefix, "bash", "-c", text], directory)

    takers = {"native": lambda: take([]), "ring3": lambda: take(ring3)}
    if name.startswith("nginx") and shutil.which("curl"):
        path = {"text": "/text", "cached file": "/cached/index", "file": "/index"}[name.partition(" ")[2]]
        takers["published"] = lambda: published_nginx(priority, directory, path)
    return takers
