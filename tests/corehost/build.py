"""Builds the core's C files for the host, with AddressSanitizer and UndefinedBehaviorSanitizer, and runs the harness.

Layer: tests. Needs gcc with libasan and libubsan. Of the core, those files are left out that are about its own start,
stack and signal frames (entry.S's side): main, clone, exec, init, signal, frame, mem, rewrite, tramps, zpoline.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ring3.core_native import gen

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "core_native"
FILES = "channel dispatch answers vdir gifts kept drafts net fds seccomp hooked tcp misc pgrp sigwait".split()
FLAGS = """-std=gnu11 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -fno-builtin
    -fno-tree-loop-distribute-patterns -Wall -Wextra -Werror""".split()


def lacks() -> str:
    """Why it cannot be built here, or an empty string."""
    if shutil.which("gcc") is None:
        return "needs gcc"
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return "" if os.sep in found.stdout.strip() else "needs gcc's AddressSanitizer (libasan)"


def build(where: Path) -> Path:
    """The harness, compiled into `where`."""
    gen.write_headers(str(where))
    words = ["gcc", *FLAGS, "-I", str(where), "-I", str(CORE), "-include", str(HERE / "shim.h")]
    subprocess.run([*words, "-DUTIL", "-c", "-o", where / "util.o", CORE / "util.c"], check=True, timeout=120)
    sources = [CORE / f"{name}.c" for name in FILES]
    binary = where / "harness"
    subprocess.run(
        [*words, "-o", binary, *sources, HERE / "harness.c", where / "util.o"], check=True, timeout=300
    )
    return binary


def run(binary: Path, seed: int, calls: int) -> str:
    """What the harness said of an error, or an empty string."""
    env = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "detect_leaks=0"}
    words = [str(binary), str(seed), str(calls)]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=600, env=env)
    return f"seed {seed}: {done.stdout[-300:]}{done.stderr[-6000:]}" if done.returncode else ""
