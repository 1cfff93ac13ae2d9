"""The lock-down: what a process of the sandbox may ask of the host, whatever runs in it.

Layer: tests. Touches processes of its own, a compiled attacker in a temporary directory, an abstract socket.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from refusing import refusing

from ring3.kernel import lockdown
from ring3.kernel.table import BY_NAME

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = ROOT / "tests" / "hostile" / "host_calls.c"
NUMBERS = {name: call.nr for name, call in BY_NAME.items()}
TEXT = 0x2100_0000_1000
ALLOW, KILL, EPERM, EINVAL = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050016


# -- the filter ----------------------------------------------------------------------------------------------


def run_filter(nr: int, *args: int, ip: int = TEXT + 8, arch: int = 0xC000003E) -> int:
    """What the filter says, by the rules of Documentation/networking/filter.rst."""
    data = struct.pack(
        "<2IQ6Q", nr & 0xFFFFFFFF, arch, ip, *(x & (1 << 64) - 1 for x in [*args, 0, 0, 0, 0, 0, 0][:6])
    )
    ends = {lockdown.TEXT_HIGH: TEXT >> 32, lockdown.TEXT_START: TEXT & 0xFFFFFFFF, lockdown.TEXT_END: 0x9000}
    acc, at, program = 0, 0, lockdown.program(NUMBERS)
    while True:
        code, yes, no, k = program[at]
        k, at = ends.get(k, k), at + 1
        if code == 0x06:
            return k
        if code == 0x20:
            acc = int(struct.unpack_from("<I", data, k)[0])
        elif code == 0x54:
            acc &= k
        elif code == 0x05:
            at += k
        else:
            at += yes if {0x15: acc == k, 0x25: acc > k, 0x35: acc >= k}[code] else no


def test_every_number() -> None:
    allowed = {NUMBERS[name]: name for name in lockdown.allowed()}
    for nr in [*range(700), -1, 1 << 30, 0x40000000 | 39]:
        name = allowed.get(nr)
        said = run_filter(nr)
        if name is None:
            assert said == KILL, nr
        elif name not in lockdown.CHECKED:
            assert said == ALLOW, name
        else:
            assert said in (ALLOW, EPERM, EINVAL), name


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("clone", (0x3D0F00,), ALLOW),
        ("clone", (0x10000011,), EPERM),
        ("clone", (0x2011,), EPERM),
        ("execveat", (3, 0, 0, 0, 0x1000), ALLOW),
        ("execveat", (3, 0, 0, 0, 0), EPERM),
        ("fcntl", (3, 6), ALLOW),
        ("fcntl", (3, 1024), EINVAL),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x80045430), ALLOW),
        ("ioctl", (0, 0x5412), EPERM),
        ("ioctl", (0, 0x8902), ALLOW),
        ("ioctl", (0, 0x8914), EPERM),
        ("prctl", (59,), ALLOW),
        ("prctl", (22,), EPERM),
        ("prlimit64", (0,), ALLOW),
        ("prlimit64", (1,), EPERM),
        ("socketpair", (1,), ALLOW),
        ("socketpair", (2,), EPERM),
        ("setsockopt", (3, 1), ALLOW),
        ("setsockopt", (3, 0), EPERM),
    ],
)
def test_arguments(name: str, args: tuple[int, ...], says: int) -> None:
    assert run_filter(NUMBERS[name], *args) == says


def test_only_from_the_text_of_the_core() -> None:
    getpid = NUMBERS["getpid"]
    for ip, says in ((TEXT, ALLOW), (0x2100_0000_9000, ALLOW), (TEXT - 1, KILL), (0x2100_0000_9001, KILL)):
        assert run_filter(getpid, ip=ip) == says
    assert run_filter(getpid, ip=0x2000) == run_filter(getpid, ip=TEXT + (1 << 32)) == KILL
    assert run_filter(getpid, arch=0x40000003) == KILL  # i386
    for name in lockdown.HOT.split():
        assert run_filter(NUMBERS[name], ip=0x2000) == ALLOW and name in lockdown.allowed()


def make_host_calls() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_host_calls", ROOT / "docs" / "make_host_calls.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_document_lists_the_filter() -> None:
    """Whoever lets a call through says so in the document."""
    page = (ROOT / "docs" / "host-calls.md").read_text()
    assert page == make_host_calls().page(), "run `python docs/make_host_calls.py`"


# -- attacks -------------------------------------------------------------------------------------------------

REFUSED = {
    "socketpair inet", "execveat path", "execveat memfd", "prlimit64 of another", "clone into a namespace",
    "clone traced", "prctl seccomp", "prctl ambient", "prctl securebits", "prctl dumpable", "typing into a terminal",
    "signal to all", "signal to the group", "console keys", "line discipline", "interfaces", "loop device",
    "file flags",
}  # fmt: skip
#: what Landlock is for, from its sixth version on (Linux 6.12)
SCOPED = {
    "signal to the supervisor",
    "tgkill to the supervisor",
    "sigqueue to the supervisor",
    "a name of the host's",
}


def landlock_version() -> int:
    import ctypes

    return int(ctypes.CDLL(None).syscall(444, None, 0, 1))


def test_a_guest_that_has_got_around_the_core(tmp_path: Path) -> None:
    """Each attack fails, and the supervisor serves on."""
    program = tmp_path / "host_calls"
    subprocess.run(["cc", "-O1", "-o", program, HOSTILE], check=True)
    name = f"ring3-test-{os.getpid()}"
    code = (
        "import os, ring3, sys\n"
        "with ring3.Sandbox() as box:\n"
        "    for words in [sys.argv[1], str(os.getpid()), sys.argv[2]], ['/bin/echo', 'alive']:\n"
        "        print(box.run(words, capture_output=True).stdout.decode())\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.bind("\0" + name)
        host.setblocking(False)
        done = subprocess.run(
            [sys.executable, "-c", code, program, name], capture_output=True, text=True, timeout=100
        )
        try:
            heard = len(host.recv(100))
        except BlockingIOError:
            heard = 0
        assert not heard or landlock_version() < 6
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[-1] == "alive", done
    said = dict(line.split(": ", 1) for line in lines[:-1])
    assert said.pop("every number") == "done 0" and len(said) > 115 and heard <= 3
    for attack, outcome in said.items():
        if attack in SCOPED:
            # in a network namespace of one's own there is no such name, in a PID namespace no such process
            assert outcome in ("EPERM", "ECONNREFUSED", "ESRCH") or landlock_version() < 6, attack
        else:
            refused = "EINVAL" if attack in ("lease", "dnotify") else "EPERM" if attack in REFUSED else "ended"
            assert outcome == refused, f"{attack}: {outcome}"


# -- levels --------------------------------------------------------------------------------------------------

CHROOT, SECCOMP, CAPSET, LANDLOCK, UNSHARE, FSOPEN = (
    NUMBERS[x] for x in ("chroot", "seccomp", "capset", "landlock_create_ruleset", "unshare", "fsopen")
)


def test_namespaces() -> None:
    """Where the level is full, a guest's process shares none of these with who started it."""
    code = (
        "import os, ring3\n"
        "with ring3.Sandbox(require='full') as box:\n"
        "    guest = box.popen(['/bin/cat'], stdin=ring3.PIPE)\n"
        "    for name in 'net', 'ipc', 'uts', 'cgroup', 'pid':\n"
        "        print(name, *(os.readlink(f'/proc/{pid}/ns/{name}') for pid in (os.getpid(), guest.host_pid)))\n"
        "    guest.communicate()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    if "full is required" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 5 and all(ours != theirs for _, ours, theirs in rows), done


def test_without_a_proc_there_is_no_pid_namespace() -> None:
    """Guests have the host's pids then, and of the try nothing is left."""
    code = (
        "import os, ring3\n"
        "with ring3.Sandbox() as box:\n"
        "    with box.popen(['/bin/sh', '-c', 'echo $$'], stdout=ring3.PIPE, text=True) as guest:\n"
        "        print(guest.pid == guest.host_pid == int(guest.stdout.readline()))\n"
        "    tasks = os.listdir('/proc/self/task')\n"
        "    print(sum(len(open(f'/proc/self/task/{task}/children').read().split()) for task in tasks))\n"
    )
    start = [*refusing([FSOPEN]), sys.executable]
    done = subprocess.run([*start, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n1\n", done


@pytest.mark.parametrize(
    ("refused", "level", "says"),
    [
        ((LANDLOCK,), "filter", ""),
        ((CHROOT,), "scoped", ""),
        ((UNSHARE,), "scoped", ""),
        ((FSOPEN,), "scoped", ""),
        ((SECCOMP,), "none", "the host refuses a seccomp filter"),
        ((CAPSET, LANDLOCK), "none", "the host refuses no_new_privs and no capabilities"),
    ],
)
def test_where_the_host_allows_less(refused: tuple[int, ...], level: str, says: str) -> None:
    """ring3 runs there; it says what it lacks, and refuses where more is required."""
    if level == "scoped" and landlock_version() < 6:
        pytest.skip("Landlock has no scopes here (Linux 6.12)")
    start = [*refusing(refused), sys.executable, "-m", "ring3"]
    done = subprocess.run([*start, "run", "--", "/bin/echo", "ran"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ran\n") and says in done.stderr
    assert bool(done.stderr) == bool(says), done.stderr
    for require, status in (level, 0), ("full", 125):
        done = subprocess.run(
            [*start, "run", "--require", require, "--", "/bin/true"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stderr
    assert f"comes to {level} here, and full is required" in done.stderr
    doctor = subprocess.run([*start, "doctor"], capture_output=True, text=True, timeout=60)
    assert "lock-down" in doctor.stdout and f"{level}; there is not" in doctor.stdout, doctor.stdout
