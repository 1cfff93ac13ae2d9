"""Find the guest core, or compile it.

Part of: core_native (the build side; nothing here runs inside a guest).
May touch: the C compiler and the user's cache directory. Imports nothing of ours but the exception types,
since the build backend uses it before anything is installed.

An installed wheel ships the binary as ``core`` beside this file. A checkout has only the sources: there the
core is compiled into ``$XDG_CACHE_HOME/ring3/core-<hash>``, where the hash covers every source, the flags and
the generator of the headers, so that an edited source never meets a stale binary.
"""

from __future__ import annotations

import os

from ..errors import CoreBuildError

TYPE_CHECKING = False

if TYPE_CHECKING:
    from hashlib import blake2b as _Hash

BINARY = "core"
"""Name of the binary that a wheel ships beside this file."""

# -fpie with hidden visibility, linked -no-pie: every reference is RIP-relative, so the code model stays small
# although the link address (core.ld) is far above 2 GiB. No vector registers: the guest's extended state is
# never touched.
FLAGS = (
    "-std=gnu11 -O2 -g -ffreestanding -fno-stack-protector -nostdlib -static -mgeneral-regs-only "
    "-mno-red-zone -fpie -no-pie -fvisibility=hidden -fcf-protection=none -fno-strict-aliasing "
    "-fno-asynchronous-unwind-tables -Wall -Wextra -Werror "
    "-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,norelro"
).split()
VDSO_FLAGS = (
    "-shared -nostdlib -fcf-protection=none -Wl,-soname,linux-vdso.so.1 -Wl,--hash-style=both "
    "-Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--eh-frame-hdr"
).split()
LINKER_SCRIPT = "core.ld"
"""Passed with ``-T`` when it exists."""

_COMPILED = (".c", ".S")
_HASHED = (".c", ".S", ".h", ".ld")
_KEEP_SECONDS = 30 * 86400
"""How long an unused cached core is kept once a newer one is compiled."""

_private_dirs: list[str] = []
_private_owner: list[int] = []


def source_dir() -> str:
    """The real folder of the core's sources (the package is reached through a link in a checkout)."""
    return os.path.dirname(os.path.realpath(__file__))


def core_path() -> str:
    """Return the path of an executable guest core, compiling it first if this is a source tree.

    Safe to call from several processes at once: a core is compiled into a file of its own and renamed into
    place. Raises CoreBuildError (one sentence: what is missing, what to install) if there is neither a binary
    nor a compiler.
    """
    here = source_dir()
    shipped = os.path.join(here, BINARY)
    if os.path.exists(shipped):
        return shipped if os.access(shipped, os.X_OK) else _executable_copy(shipped)
    key = source_hash(here)
    directory = cache_dir()
    path = os.path.join(directory, f"core-{key}")
    if not os.access(path, os.X_OK):
        _build_into(path, here)
        _prune(directory, path)
    return path


def source_hash(here: str) -> str:
    """Hash what decides the core's binary: sources, flags, compiler, the header generator and its tables."""
    digest = _new_hash()
    names = sorted(n for n in os.listdir(here) if n.endswith(_HASHED))
    paths = [os.path.join(here, n) for n in [*names, "gen.py", "build.py"]]
    paths += [os.path.join(here, "vdso", n) for n in ("vdso.S", "vdso.ld", "vdso.map")]
    paths += [os.path.join(os.path.dirname(here), "kernel", n) for n in ("table.py", "layout.py", "lockdown.py")]
    for path in paths:
        try:
            with open(path, "rb", 0) as f:
                data = f.read()
        except FileNotFoundError:
            continue
        digest.update(b"%d:%s\0" % (len(data), os.path.basename(path).encode()))
        digest.update(data)
    digest.update(" ".join([*_compiler(), *FLAGS]).encode())
    return digest.hexdigest()


def cache_dir() -> str:
    """Where compiled cores go: the user's cache, or else a private temporary directory removed at exit."""
    return kept_cache_dir() or _private_dir()


def kept_cache_dir() -> str | None:
    """The user's cache, None if it cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG base directory specification: relative paths are to be ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    directory = os.path.join(base, "ring3")
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        if os.stat(directory).st_uid == os.geteuid() and os.access(directory, os.W_OK | os.X_OK):
            return directory
    except OSError:
        pass
    return None


def compile_core(out: str, here: str | None = None) -> None:
    """Compile the core into the file ``out``: the same bytes, debug information included, wherever it is compiled.

    Raises CoreBuildError.
    """
    import shutil
    import tempfile

    here = here or source_dir()
    sources = sorted(os.path.join(here, n) for n in os.listdir(here) if n.endswith(_COMPILED))
    if not sources:
        raise CoreBuildError(f"the guest core's sources are missing from {here}: reinstall ring3")
    compiler = _compiler()
    if shutil.which(compiler[0]) is None:
        raise CoreBuildError(
            f"ring3 has to compile its guest core and found no C compiler ({compiler[0]}): install one "
            "(Debian, Ubuntu: apt-get install gcc; Fedora: dnf install gcc; Alpine: apk add gcc musl-dev) "
            "or a ring3 wheel"
        )
    with tempfile.TemporaryDirectory(prefix="ring3-build-") as generated:
        if os.path.exists(os.path.join(here, "gen.py")):
            from . import gen

            gen.write_headers(generated)  # the headers that are made from the Python side's tables
        root = os.path.dirname(here)
        # One locale for the messages, and nothing in the caller's environment that could change the result.
        env = {k: v for k, v in os.environ.items() if k not in ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH")}
        env.update(LC_ALL="C", TMPDIR=generated)
        vdso = os.path.join(here, "vdso")
        if os.path.exists(vdso):
            run_compiler([*compiler, *VDSO_FLAGS, "-I", generated, "-o", os.path.join(generated, "vdso.so"),
                           f"-Wl,-T,{vdso}/vdso.ld", f"-Wl,--version-script={vdso}/vdso.map", f"{vdso}/vdso.S"],
                          here, env)  # fmt: skip
        command = [*compiler, *FLAGS, f"-Wa,-I,{generated}", f"-ffile-prefix-map={root}=."]
        command += [f"-ffile-prefix-map={generated}=generated", "-I", generated, "-I", here, "-o", out]
        command += sources
        script = os.path.join(here, LINKER_SCRIPT)
        if os.path.exists(script):
            command.append(f"-Wl,-T,{script}")
        run_compiler(command, here, env)


def run_compiler(command: list[str], here: str, env: dict[str, str]) -> None:
    """Run a compiler in the folder ``here``. Raises CoreBuildError with its words if it fails or is missing."""
    import subprocess

    try:
        done = subprocess.run(command, cwd=here, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    except OSError as e:
        raise CoreBuildError(f"cannot run the C compiler {command[0]}: {e.strerror}") from None
    if done.returncode:
        detail = done.stderr.decode(errors="replace").strip()
        raise CoreBuildError(f"{os.path.basename(command[-1])} does not compile with {command[0]}:\n{detail}")


def _compiler() -> list[str]:
    chosen = os.environ.get("CC", "").split()
    if chosen:
        return chosen
    for name in ("gcc", "cc", "clang"):
        for directory in os.environ.get("PATH", os.defpath).split(":"):
            if directory and os.access(os.path.join(directory, name), os.X_OK):
                return [name]
    return ["gcc"]


def _build_into(path: str, here: str) -> None:
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        compile_core(temporary, here)
        os.chmod(temporary, 0o755)
        os.rename(temporary, path)
    finally:
        _unlink(temporary)


def _executable_copy(shipped: str) -> str:
    """An executable copy of the shipped core, for installers that drop the mode bits of a wheel's files."""
    with open(shipped, "rb") as f:
        data = f.read()
    digest = _new_hash()
    digest.update(data)
    path = os.path.join(cache_dir(), f"core-{digest.hexdigest()}")
    if not os.access(path, os.X_OK):
        temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            with open(temporary, "wb") as f:
                f.write(data)
            os.chmod(temporary, 0o755)
            os.rename(temporary, path)
        finally:
            _unlink(temporary)
    return path


def _prune(directory: str, keep: str) -> None:
    """Remove cores (and the leftovers of interrupted builds) that no build has touched for a month."""
    import time

    oldest = time.time() - _KEEP_SECONDS
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        try:
            if name.startswith("core-") and path != keep and os.stat(path).st_mtime < oldest:
                os.unlink(path)
        except OSError:
            pass


def _private_dir() -> str:
    if not _private_dirs:
        import atexit
        import tempfile

        directory = tempfile.mkdtemp(prefix="ring3-")
        _private_dirs.append(directory)
        _private_owner.append(os.getpid())
        atexit.register(remove_private_dir)
    return _private_dirs[0]


def remove_private_dir() -> None:
    """Remove this process's private directory, if it made one; a forked child leaves its parent's alone.

    For whoever ends a process by os._exit(), which does not run atexit's functions.
    """
    if _private_dirs and _private_owner[0] == os.getpid():
        import shutil

        shutil.rmtree(_private_dirs.pop(), ignore_errors=True)
        _private_owner.clear()


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _new_hash() -> _Hash:
    # hashlib costs 8 ms to import, for OpenSSL; the module beneath it 0.3 ms.
    try:
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    new: _Hash = blake2b(digest_size=16)
    return new
