"""The hostile battery: its cases, read from the sources, and the sandbox that they are run in.

Layer: tests. Touches gcc, a directory of binaries, and processes of its own (keeper.py and what it starts).
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ring3.kernel import layout

HERE = Path(__file__).resolve().parent
PROGRAMS = ("entrances", "core_memory", "channel", "descriptors", "neighbours", "paths", "bombs")
#: what a sandbox is given, so that a bomb hits its own walls and not the host's
LIMITS: dict[str, Any] = {"pids": 64, "memory": 256 << 20, "nofile": 1024}
#: cases that may do whatever their user may do in the sandbox, so that it had better be no friend of the bystander's
AS_STRANGER = {"forged_at_random"}
STRANGER = 4321  # not nobody: in a user namespace what is root's may be shown as nobody's
_CASE = re.compile(r'^CASE\((\w+),\s*"([^"]*)",\s*"([^"]*)"\)', re.M)


class Case(NamedTuple):
    """One attack: of which program, its name, what it tries, and what stands against it."""

    program: str
    name: str
    tries: str
    against: str


def cases() -> list[Case]:
    """All of them, in the order of the sources."""
    return [
        Case(program, *match)
        for program in PROGRAMS
        for match in _CASE.findall((HERE / f"{program}.c").read_text())
    ]


def compile_all(out: Path) -> None:
    """Build every program into `out`, with the layout of the channel as the core has it."""
    (out / "gen_layout.h").write_text(layout.c_header())
    flags = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-I", str(out)]
    flags += [f"-Wno-{w}" for w in ("unused-function", "nonnull", "stringop-overflow", "array-bounds")]
    for name in (*PROGRAMS, "bystander"):
        subprocess.run(["gcc", *flags, "-o", out / name, HERE / f"{name}.c"], check=True)


class Keeper:
    """A process with a sandbox and a bystander in it: see keeper.py."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "keeper.py"), str(directory), json.dumps(LIMITS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=directory,
        )

    def run(self, case: Case, limit: float = 110, **env: str) -> dict[str, Any]:
        """Run a case in the sandbox.  Raises AssertionError when no answer comes: the supervisor hangs or died."""
        assert self._process.stdin is not None and self._process.stdout is not None
        command: dict[str, Any] = {"args": [str(self.directory / case.program), case.name], "env": env}
        if case.name in AS_STRANGER:
            command["user"] = STRANGER
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        line = self._process.stdout.readline() if ready else ""
        assert line, f"the supervisor {'died' if ready else 'hangs'}: {self._process.poll()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> int:
        """End the sandbox: the process's exit status."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            return self._process.wait(20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            return -1
        finally:
            self._process.kill()
            self._process.wait()


def check(answer: dict[str, Any]) -> None:
    """The attack has failed, and nobody else was hurt."""
    assert answer["status"] == 0 and answer["out"].endswith("held\n"), answer
    assert answer["bystander"], answer
    assert answer["victim"], answer
    assert not answer["heard"], answer
    internal = [line for line in answer["log"] if "internal error" in line]
    assert not internal, internal[0]
