"""The runtimes that must work: for each a program that makes it do what is hard for us, and how to build and start it.

Layer: tests. Touches the directory that it is given. Used by tests/programs/test_runtimes.py (once each, what is
quick) and tests/longsuites/runtimes.py (all of them, many times). The sources are in tests/programs/runtimes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import BASE_ENV, Result

from ring3.kernel.images import MODES
from ring3.kernel.page_zero import refusal

SOURCES = Path(__file__).resolve().parent / "runtimes"
BUILD_LIMIT = 280.0  # seconds
#: where tools may be that are not in the guests' PATH
EXTRA_PATH = [os.path.expanduser("~/.cargo/bin")]


def tool(name: str) -> str | None:
    """The path of a program, or None."""
    return shutil.which(name, path=os.pathsep.join([BASE_ENV["PATH"], *EXTRA_PATH]))


@dataclass(frozen=True)
class Case:
    """One runtime: `needs` its programs (and their packages); `build` and `cmd` are argument lists, where {src} is
    the directory of the sources and {bin} that of what was built; `says` is what a guest's stderr must hold, for
    what is refused; `same` whether output and status must be the native ones."""

    name: str
    cmd: Sequence[str]
    needs: Mapping[str, str]
    build: Sequence[Sequence[str]] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False
    timeout: float = 120.0
    same: bool = True
    stderr: bool = False
    says: Sequence[str] = ()

    def missing(self) -> str:
        """Why it cannot run here, or an empty string."""
        absent = [f"{name} ({package})" for name, package in self.needs.items() if tool(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""

    def make(self, bin_dir: Path) -> None:
        """Build it.  Raises CalledProcessError with what the compiler said, or TimeoutExpired."""
        env = {
            **os.environ,
            "PATH": os.pathsep.join([BASE_ENV["PATH"], *EXTRA_PATH]),
            "GOCACHE": str(bin_dir / "gocache"),
            "GOPATH": str(bin_dir / "gopath"),
            "GOTOOLCHAIN": "local",
            "GO111MODULE": "off",
            "GOTELEMETRY": "off",
            "TMPDIR": str(bin_dir),
            **self.env,
        }
        for words in self.build:
            argv = [self.fill(word, bin_dir) for word in words]
            subprocess.run(
                argv, env=env, cwd=bin_dir, check=True, timeout=BUILD_LIMIT, capture_output=True, text=True
            )

    def argv(self, bin_dir: Path) -> list[str]:
        """The command line."""
        words = [self.fill(word, bin_dir) for word in self.cmd]
        return [tool(words[0]) or words[0], *words[1:]]

    @staticmethod
    def fill(word: str, bin_dir: Path) -> str:
        return word.replace("{src}", str(SOURCES)).replace("{bin}", str(bin_dir))

    def differs(self, native: Result, guest: Result) -> str:
        """What is wrong with the guest's run, or an empty string."""
        if guest.timed_out:
            return "time limit"
        if guest.left:
            return f"left behind: {guest.left}"
        err = guest.err.decode(errors="replace")
        for words in self.says:
            if words not in err:
                return f"stderr lacks {words!r}: {err[-1500:]}"
        if not self.same:
            return "" if guest.status > 0 else f"status {guest.status}: {err[-1500:]}"
        # ring3 run tells of a signal as a shell does
        expected = native.status if native.status >= 0 else 128 - native.status
        if guest.status != expected:
            return f"status {guest.status}, natively {native.status}: {err[-1500:]}"
        if (theirs := plain(native.out)) != (ours := plain(guest.out)):
            return f"stdout: natively {theirs!r}, here {ours!r}"
        if self.stderr and (theirs := plain(native.err)) != (ours := plain(guest.err)):
            return f"stderr: natively {theirs!r}, here {ours!r}"
        return ""


def plain(text: bytes) -> str:
    """Output without our own lines, and without the process ids that valgrind puts everywhere."""
    lines = text.decode(errors="replace").splitlines()
    return "\n".join(re.sub(r"==\d+==", "==PID==", line) for line in lines if not line.startswith("ring3:"))


def usable_modes() -> list[str]:
    """The rewrite modes that work here for every program: not zpoline where page zero would be readable, and never
    zpoline-unsafe, with which the null dereferences that half of these programs are about go unnoticed."""
    return [m for m in MODES if m in ("detour", "off") or (m == "zpoline" and not refusal(False))]


GO = {"go": "golang-go"}
JAVA = {"java": "default-jre-headless", "javac": "default-jdk-headless"}
JAVAC = ("javac", "-d", "{bin}", "{src}/Everything.java")
GXX = ("g++", "-O1", "-g", "-fnon-call-exceptions", "-std=c++17", "-pthread", "{src}/unwind.cc", "-o")
UNWIND = (*GXX, "{bin}/unwind")
STATIC_UNWIND = (*GXX, "{bin}/unwind-static", "-static")
GO_STATIC = ("go", "build", "-o", "{bin}/gostatic", "{src}/goall.go", "{src}/gostatic.go")
PAGE = "data:text/html,<p id=x></p><script>x.textContent=6*7;document.title=typeof WebAssembly</script>"
OCAML = ("-I", "+threads")

CASES = [
    Case("go-static", ["{bin}/gostatic"], GO, [GO_STATIC], {"CGO_ENABLED": "0"}, quick=True),
    Case(
        "go-cgo",
        ["{bin}/gocgo"],
        {**GO, "gcc": "gcc"},
        [("go", "build", "-o", "{bin}/gocgo", "{src}/goall.go", "{src}/gocgo.go")],
        {"CGO_ENABLED": "1"},
    ),
    Case("java", ["java", "-cp", "{bin}", "Everything"], JAVA, [JAVAC]),
    Case("java-c1", ["java", "-XX:TieredStopAtLevel=1", "-cp", "{bin}", "Everything"], JAVA, [JAVAC]),
    Case(
        "java-int", ["java", "-Xint", "-Dquick=true", "-cp", "{bin}", "Everything"], JAVA, [JAVAC], quick=True
    ),
    Case(
        "java-parallel",
        ["java", "-XX:+UseParallelGC", "-Dquick=true", "-cp", "{bin}", "Everything"],
        JAVA,
        [JAVAC],
    ),
    Case("node", ["node", "{src}/everything.js"], {"node": "nodejs"}, quick=True),
    Case("node-jitless", ["node", "--no-opt", "{src}/everything.js"], {"node": "nodejs"}),
    Case("c++", ["{bin}/unwind"], {"g++": "g++"}, [UNWIND], quick=True),
    Case("c++-static", ["{bin}/unwind-static"], {"g++": "g++"}, [STATIC_UNWIND], quick=True),
    Case(
        "rust",
        ["{bin}/panics"],
        {"rustc": "rustc"},
        [("rustc", "-O", "-o", "{bin}/panics", "{src}/panics.rs")],
        quick=True,
    ),
    Case("php", ["php", "{src}/small.php"], {"php": "php-cli"}, quick=True),
    Case("ruby", ["ruby", "{src}/small.rb"], {"ruby": "ruby"}, quick=True),
    Case("perl", ["perl", "{src}/small.pl"], {"perl": "perl"}, quick=True),
    Case(
        "ocaml",
        ["{bin}/small_ml"],
        {"ocamlopt": "ocaml-nox"},
        [
            ("cp", "{src}/small.ml", "{bin}/small.ml"),
            ("ocamlopt", *OCAML, "unix.cmxa", "threads.cmxa", "{bin}/small.ml", "-o", "{bin}/small_ml"),
        ],
        quick=True,
    ),
    Case(
        "ocaml-bytecode",
        ["ocamlrun", "{bin}/small_mlb"],
        {"ocamlc": "ocaml-nox"},
        [
            ("cp", "{src}/small.ml", "{bin}/smallb.ml"),
            ("ocamlc", *OCAML, "unix.cma", "threads.cma", "{bin}/smallb.ml", "-o", "{bin}/small_mlb"),
        ],
    ),
    Case(
        "valgrind", ["valgrind", "-q", "/bin/ls", "{src}"], {"valgrind": "valgrind"}, quick=True, stderr=True
    ),
    Case(
        "valgrind-c++",
        ["valgrind", "-q", "{bin}/unwind"],
        {"valgrind": "valgrind", "g++": "g++"},
        [UNWIND],
        stderr=True,
    ),
    Case(
        "qemu",
        ["qemu-x86_64", "/bin/bash", "-c", "ls {src}; (exit 3); echo $?; kill $$"],
        {"qemu-x86_64": "qemu-user"},
        quick=True,
    ),
    Case(
        "qemu-static", ["qemu-x86_64-static", "/bin/ls", "{src}"], {"qemu-x86_64-static": "qemu-user-static"}
    ),
    Case(
        "qemu-aarch64",
        ["qemu-aarch64", "{bin}/goarm64"],
        {"qemu-aarch64": "qemu-user", **GO},
        [("go", "build", "-o", "{bin}/goarm64", "{src}/hello.go")],
        {"CGO_ENABLED": "0", "GOARCH": "arm64"},
    ),
    Case(
        "gdb",
        ["gdb", "-batch", "-ex", "run", "/bin/true"],
        {"gdb": "gdb"},
        quick=True,
        same=False,
        says=["ring3: ptrace: refused (EPERM)", "ptrace: Operation not permitted"],
    ),
    Case(
        "strace",
        ["strace", "/bin/true"],
        {"strace": "strace"},
        quick=True,
        same=False,
        says=["ring3: ptrace: refused (EPERM)", "Operation not permitted"],
    ),
    Case(
        "chromium",
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--user-data-dir=profile",
            "--dump-dom",
            PAGE,
        ],
        {"chromium": "chromium"},
    ),
]
