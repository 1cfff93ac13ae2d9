"""``ring3 doctor``: what this machine offers, what ring3 will use, what to change.

Part of: ring3 (the front door). May touch: short-lived children of its own, in which it tries things out.

Every line is the result of trying, not of a version number. Only what is marked as needed decides the exit
status: 0 if ring3 can run here, 1 if not.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import resource
import sys
from typing import TYPE_CHECKING, NamedTuple

from . import __version__
from .host import sud_errno

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_GET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 21, 38, 22
_CLONE_NEWUSER = 0x10000000
_MFD_EXEC = 0x10
_MINIMUM_FDS = 1024


class Finding(NamedTuple):
    """One line of the report; ``state``: "ok", "note" (it could be better) or "fail" (ring3 cannot run)."""

    state: str
    name: str
    text: str


def main() -> int:
    """Print the report; return 0 if ring3 can run here, else 1."""
    machine = f"{platform.release()} {platform.machine()}"
    print(f"ring3 {__version__} on {machine}, Python {platform.python_version()}")
    findings = [check() for check in CHECKS]
    width = max(len(f.name) for f in findings)
    for finding in findings:
        print(f"  {finding.state:4}  {finding.name:{width}}  {finding.text}")
    failed = [f.name for f in findings if f.state == "fail"]
    if failed:
        print(f"ring3 cannot run here: see {', '.join(failed)} above.")
        return 1
    print("ring3 can run here.")
    return 0


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    return libc


def in_child(job: Callable[[], int]) -> int:
    """Run ``job`` in a forked child; its result (an errno, 0 for success), or -N if signal N ended it."""
    with contextlib.suppress(OSError):  # who cannot write is told at the end
        sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            code = job()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check_machine() -> Finding:
    """x86-64 Linux, and a Python that may address it."""
    if sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 1 << 32:
        return Finding("ok", "machine", "x86-64 Linux")
    return Finding("fail", "machine", "ring3 runs on x86-64 Linux only, with a 64-bit Python")


def check_sud() -> Finding:
    """Syscall User Dispatch (Linux 5.11)."""
    name = "syscall user dispatch"
    result = sud_errno()
    if result == 0:
        return Finding("ok", name, "used to intercept every system call")
    if result == errno.EINVAL:
        return Finding("fail", name, "missing: Linux 5.11 or newer is needed")
    return Finding(
        "fail", name, f"refused ({os.strerror(result)}): a seccomp filter around this shell forbids prctl(59)"
    )


def check_core() -> Finding:
    """The guest core is there, or can be compiled, and runs."""
    from .core_native.build import core_path
    from .errors import CoreBuildError

    try:
        path = core_path()
    except CoreBuildError as e:
        return Finding("fail", "guest core", str(e))
    if not os.access(path, os.X_OK):
        return Finding("fail", "guest core", f"{path} may not be executed")
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return Finding(
            "fail",
            "guest core",
            f"{path} lies on a noexec mount: set XDG_CACHE_HOME to a directory elsewhere",
        )
    return Finding("ok", "guest core", path)


def check_guest() -> Finding:
    """The proof of it all: one guest, started and waited for."""
    from .errors import Ring3Error
    from .sandbox import Sandbox

    said: list[str] = []
    try:
        with Sandbox("/", log=said.append) as box, open(os.devnull, "r+b") as null:
            child = box.spawn(["/bin/true"], (null.fileno(),) * 3, env={})
            status = child.wait(20)
    except (Ring3Error, OSError, TimeoutError) as e:
        return Finding("fail", "a guest", f"/bin/true does not run: {e}")
    if status:
        return Finding(
            "fail", "a guest", f"/bin/true ended with wait status {status:#x} {' '.join(said)}".rstrip()
        )
    return Finding("ok", "a guest", "/bin/true ran")


def check_lockdown() -> Finding:
    """How far the processes of a guest can be locked down: a real init says it."""
    from .kernel.locklevels import lacks, level_of

    name = "lock-down"
    try:
        bits = _lockdown_bits()
    except (OSError, RuntimeError) as e:
        return Finding("note", name, f"cannot be tried: {e}")
    level = level_of(bits)
    if level == "full":
        return Finding("ok", name, "full: guests have no rights on the host")
    return Finding("note", name, f"{level}; there is not {', nor '.join(lacks(bits))} (docs/lockdown.md)")


def _lockdown_bits() -> int:
    from .core_native.build import core_path
    from .kernel.initproc import Init

    init = Init(core_path(), 0, None, lambda *_: None, lambda: None)
    try:
        return init.settle()
    finally:
        init.end()
        init.close()


def check_memfd() -> Finding:
    """memfd_create, and whether its files may be mapped executable (sysctl vm.memfd_noexec)."""
    name = "memfd"
    try:
        try:
            fd = os.memfd_create("ring3-doctor", os.MFD_CLOEXEC | _MFD_EXEC)
        except OSError as e:
            if e.errno != errno.EINVAL:  # before Linux 6.3 there is no MFD_EXEC, and no need for it
                raise
            fd = os.memfd_create("ring3-doctor", os.MFD_CLOEXEC)
    except OSError as e:
        why = "sysctl vm.memfd_noexec=2 forbids executable ones" if e.errno == errno.EACCES else e.strerror
        return Finding("fail", name, f"files in memory cannot be made: {why}")
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    except (OSError, ValueError) as e:
        return Finding("note", name, f"used for files in memory; programs written there cannot run ({e})")
    finally:
        os.close(fd)
    return Finding("ok", name, "used for files in memory, programs included")


def check_user_namespaces() -> Finding:
    """unshare(CLONE_NEWUSER) as this user."""
    name = "user namespaces"
    result = in_child(lambda: 0 if _libc().unshare(_CLONE_NEWUSER) == 0 else ctypes.get_errno())
    if result == 0:
        return Finding("ok", name, "available; ring3 does not need them")
    return Finding("note", name, "not available to this user; ring3 does not need them")


def check_page_zero() -> Finding:
    """Whether page zero can be mapped (vm.mmap_min_addr, CAP_SYS_RAWIO), which --rewrite=zpoline would need."""
    from .kernel.page_zero import refusal

    if not refusal(unsafe=True):
        return Finding("ok", "page zero", "could be mapped by this user; ring3 leaves it alone")
    text = "protected (vm.mmap_min_addr), as it should be; ring3 leaves it alone"
    return Finding("ok", "page zero", text)


def check_seccomp() -> Finding:
    """Whether a seccomp filter may be installed, and whether one is on already."""

    class Filter(ctypes.Structure):
        _fields_ = [
            ("code", ctypes.c_uint16),
            ("jt", ctypes.c_uint8),
            ("jf", ctypes.c_uint8),
            ("k", ctypes.c_uint32),
        ]

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(Filter))]

    def job() -> int:
        libc = _libc()
        allow = Filter(0x06, 0, 0, 0x7FFF0000)  # BPF_RET | BPF_K, SECCOMP_RET_ALLOW
        program = Program(1, ctypes.pointer(allow))
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return (
            0 if libc.prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(program), 0, 0) == 0 else ctypes.get_errno()
        )

    already = _libc().prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) == 2
    around = "; a filter is already around this shell" if already else ""
    if in_child(job) == 0:
        return Finding("ok", "seccomp", f"filters can be installed{around}")
    return Finding(
        "note", "seccomp", f"filters cannot be installed: nothing is left beneath the guest core{around}"
    )


def check_ptrace() -> Finding:
    """Whether a parent may read its child's memory (process_vm_readv; Yama lets it up to ptrace_scope 1)."""
    name = "guests' memory"
    libc = _libc()

    class Iovec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]

    value = ctypes.create_string_buffer(b"ring3", 5)
    copy = ctypes.create_string_buffer(5)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    local, remote = Iovec(ctypes.addressof(copy), 5), Iovec(ctypes.addressof(value), 5)
    got = libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    os.close(read)
    os.close(write)
    os.waitpid(pid, 0)
    if got == 5:
        return Finding("ok", name, "may be read by their parent")
    return Finding(
        "note",
        name,
        "may not be read (kernel.yama.ptrace_scope is 2 or more): fewer details in traces and /proc",
    )


def check_descriptors() -> Finding:
    """RLIMIT_NOFILE: the supervisor needs a few for each guest process and open directory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < _MINIMUM_FDS:
        return Finding(
            "note", "descriptors", f"only {hard} (ulimit -Hn): many guests at once will fail with EMFILE"
        )
    return Finding("ok", "descriptors", f"soft limit {soft}, raised to the hard limit {hard}")


def check_terminals() -> Finding:
    """A pseudo-terminal, for -t and for the guests' own."""
    try:
        master, slave = os.openpty()
    except OSError as e:
        return Finding(
            "note", "terminals", f"/dev/ptmx cannot be opened ({e.strerror}): no -t, no ptys for guests"
        )
    os.close(master)
    os.close(slave)
    return Finding("ok", "terminals", "pseudo-terminals can be made")


def check_cache() -> Finding:
    """Where compiled cores go, in a checkout."""
    from .core_native.build import BINARY, cache_dir, source_dir

    if os.path.exists(os.path.join(source_dir(), BINARY)):
        return Finding("ok", "cache", "not needed: the core came with the package")
    directory = cache_dir()
    if os.path.basename(directory) != "ring3":
        return Finding(
            "note",
            "cache",
            "no cache directory: the core is compiled at every start (set XDG_CACHE_HOME to keep it)",
        )
    return Finding("ok", "cache", directory)


CHECKS: list[Callable[[], Finding]] = [
    check_machine,
    check_sud,
    check_core,
    check_cache,
    check_memfd,
    check_seccomp,
    check_user_namespaces,
    check_page_zero,
    check_ptrace,
    check_descriptors,
    check_terminals,
    check_guest,
    check_lockdown,
]
