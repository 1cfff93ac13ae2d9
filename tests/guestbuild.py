"""Compiles the self-verifying guest programs, and reads what each asks for in its first lines.

Layer: tests. Touches gcc, musl-gcc and the session's directory of binaries.

A program says how it wants to be run in comment lines of its first 30 lines:
    // variants: dynamic static musl musl-static      (default: dynamic)
    // flags: -pthread -O2                            (more compiler flags)
    // users: root nobody                             (default: root; nobody is uid 65534)
    // places: cow tmpfs                              (default: cow; where the work directory is under ring3)
    // timeout: 60                                    (seconds for one run)
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import GUESTS

VARIANTS = {
    "dynamic": ["gcc"],
    "static": ["gcc", "-static"],
    "static-pie": ["gcc", "-static-pie"],
    "no-pie": ["gcc", "-no-pie"],
    "musl": ["musl-gcc"],
    "musl-static": ["musl-gcc", "-static"],
    "bare": ["gcc", "-nostdlib", "-static"],
}
WARN = ["-Wall", "-Wextra", "-Werror"]
# The programs pass wrong pointers and lengths on purpose.
WARN += [
    f"-Wno-{w}" for w in ("unused-function", "unused-variable", "unused-parameter", "cast-function-type")
]
WARN += [f"-Wno-{w}" for w in ("stringop-overread", "stringop-overflow", "nonnull", "infinite-recursion")]


@dataclass(frozen=True)
class Spec:
    """What a guest program's header says."""

    name: str
    source: Path
    variants: tuple[str, ...]
    flags: tuple[str, ...]
    users: tuple[str, ...]
    places: tuple[str, ...]
    timeout: float


def read_spec(source: Path) -> Spec:
    """Parses the directives in the first lines of a guest program."""
    found: dict[str, list[str]] = {}
    for line in source.read_text().splitlines()[:30]:
        match = re.match(r"(?://|#)\s*(variants|flags|users|places|timeout):\s*(.*)", line)
        if match:
            found[match[1]] = match[2].split()
    unknown = set(found.get("variants", [])) - set(VARIANTS)
    if unknown:
        raise ValueError(f"{source}: unknown variants {unknown}")
    return Spec(
        source.stem,
        source,
        tuple(found.get("variants", ["dynamic"])),
        tuple(found.get("flags", [])),
        tuple(found.get("users", ["root"])),
        tuple(found.get("places", ["cow"])),
        float(found.get("timeout", ["60"])[0]),
    )


def all_specs() -> list[Spec]:
    """Every guest program, by name."""
    return [read_spec(p) for p in sorted([*GUESTS.glob("*.c"), *GUESTS.glob("*.S")])]


class MissingCompiler(Exception):
    """A variant needs a compiler that is not installed; the message names the Debian package."""


class Builder:
    """Compiles on demand into one directory and remembers."""

    def __init__(self, out: Path) -> None:
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        out.chmod(0o755)

    def path(self, name: str, variant: str = "dynamic") -> Path:
        """The binary of guest program `name` in `variant`."""
        source = next(GUESTS / f"{name}{ext}" for ext in (".c", ".S") if (GUESTS / f"{name}{ext}").exists())
        spec = read_spec(source)
        target = self.out / f"{name}-{variant}"
        if not target.exists():
            self.compile(source, target, variant, spec.flags)
        return target

    def compile(self, source: Path, target: Path, variant: str, flags: tuple[str, ...] = ()) -> None:
        """Compiles one file; raises AssertionError with the compiler's words, MissingCompiler without one."""
        words = VARIANTS[variant]
        if shutil.which(words[0]) is None:
            raise MissingCompiler(f"{words[0]} is not installed (apt-get install musl-tools gcc)")
        half = target.with_suffix(".tmp")
        cmd = [*words, "-g", "-O1", *WARN, "-I", str(GUESTS), "-o", str(half), str(source), *flags]
        done = subprocess.run(cmd, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{' '.join(cmd)}\n{done.stderr}"
        half.chmod(0o755)
        half.rename(target)
