"""A sandbox with a bystander in it, that runs one hostile case after the other: the process that must survive them.

Layer: tests. Touches the sandbox, and a process and an abstract socket of the host's that the cases try to reach.

    keeper.py DIRECTORY OPTIONS

DIRECTORY has the compiled programs, OPTIONS are Sandbox's as JSON. Each line of stdin is a JSON object, run()'s
arguments; it is answered by a line: status and output, whether the bystander then still answers, and so on.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

import ring3


def unhurt(victim: subprocess.Popen[bytes]) -> bool:
    """Is the process of the host's as it was?"""
    return (
        victim.poll() is None
        and os.getpriority(os.PRIO_PROCESS, victim.pid) == os.getpriority(os.PRIO_PROCESS, 0)
        and os.sched_getscheduler(victim.pid) == os.sched_getscheduler(0)
        and os.sched_getaffinity(victim.pid) == os.sched_getaffinity(0)
    )


def heard(host: socket.socket) -> bool:
    """Has something come to the host's socket?"""
    try:
        return bool(host.recv(100))
    except BlockingIOError:
        return False


def serve(directory: str, box: ring3.Sandbox, victim: Any, host: socket.socket, said: list[str]) -> None:
    env = {**box.env, "SUPERVISOR": str(os.getpid()), "VICTIM": str(victim.pid)}
    env["ABSTRACT"] = host.getsockname()[1:].decode()
    bystander = box.popen([f"{directory}/bystander"], stdin=ring3.PIPE, stdout=ring3.PIPE)
    assert bystander.stdin is not None and bystander.stdout is not None
    for number, line in enumerate(sys.stdin):
        command = json.loads(line)
        command["env"] = env | command.get("env", {})
        done = box.run(capture_output=True, **command)
        bystander.stdin.write(b"%d\n" % number)
        bystander.stdin.flush()
        answer = {
            "status": done.returncode,
            "out": done.stdout.decode(errors="replace"),
            "err": done.stderr.decode(errors="replace"),
            "bystander": bystander.stdout.readline() == b"alive %d\n" % number,
            "victim": unhurt(victim),
            "heard": heard(host),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "log": said[:],
        }
        print(json.dumps(answer), flush=True)
        said.clear()
    bystander.stdin.close()
    bystander.wait()


def main(directory: str, options: dict[str, Any]) -> None:
    said: list[str] = []
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
            host.bind(f"\0ring3-test-{os.getpid()}")
            host.setblocking(False)
            with ring3.Sandbox(log=said.append, user=0, **options) as box:  # some cases need root
                serve(directory, box, victim, host, said)
    finally:
        victim.kill()
        victim.wait()


main(sys.argv[1], json.loads(sys.argv[2]))
