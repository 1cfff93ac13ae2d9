"""/proc: the machine (meminfo, cpuinfo, stat, uptime, loadavg, version, ...).

Layer: vfs/procfs, entries. May touch: the host's /proc, for reading.

The guest runs on this machine's processors, memory and clock, and programs size themselves by what they read
here, so the host's figures are the true ones. What would show the host's other processes is left out.
"""

from __future__ import annotations

import os

from . import host
from .table import Scope, system_file


def _host(name: str, default: bytes | None = None) -> None:
    """Declare a file that this host's kernel answers; one that the host lacks is not declared.

    Args:
        default: the text where the host keeps the file from us, or lacks one that must exist.
    """
    try:
        mode = os.stat("/proc/" + name).st_mode & 0o777
    except OSError:
        if default is None:
            return
        mode = 0o444

    @system_file(name, mode=mode)
    def read(scope: Scope) -> bytes:
        return host.read("/proc/" + name) if default is None else host.read_or("/proc/" + name, default)


for _name in (
    "meminfo", "cpuinfo", "stat", "uptime", "version", "devices", "partitions", "swaps", "diskstats",
    "interrupts", "softirqs", "misc", "crypto", "execdomains", "consoles", "modules", "zoneinfo", "buddyinfo",
    "dma", "ioports",
    "iomem", "fb", "mdstat", "config.gz", "tty/drivers", "pressure/cpu", "pressure/io", "pressure/memory",
):  # fmt: skip
    _host(_name)
_host("vmstat", default=b"")


@system_file("cmdline")
def cmdline(scope: Scope) -> bytes:
    """The kernel's command line: empty, for the host's may hold secrets (a disk's key, a token)."""
    return b"\n"


@system_file("loadavg")
def loadavg(scope: Scope) -> bytes:
    """The machine's load, the sandbox's own threads, and its newest pid."""
    fields = host.read("/proc/loadavg").split()
    processes = scope.fs.processes
    threads = sum(len(process.tasks) for process in processes.values())
    running = min(int(fields[3].partition(b"/")[0]), max(threads, 1))
    return b"%b %d/%d %d\n" % (b" ".join(fields[:3]), running, threads, max(processes, default=0))


@system_file("cgroups")
def cgroups(scope: Scope) -> bytes:
    """The controllers (cgroups(7)), all on the unified hierarchy, which is not mounted here."""
    lines = [b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n"]
    for line in host.read_or("/proc/cgroups", b"").splitlines()[1:]:
        lines.append(b"%b\t0\t1\t1\n" % line.split()[0])
    return b"".join(lines)


@system_file("locks")
def locks(scope: Scope) -> bytes:
    """The record and flock locks of the sandbox's own processes (proc_locks(5)), numbered anew."""
    out: list[bytes] = []
    for line in host.read_or(f"{scope.fs.proc}/locks", b"").splitlines():
        words = line.split()
        owner = next((w for w in words[4:6] if w.lstrip(b"-").isdigit()), b"-1")
        if int(owner) in scope.fs.processes:
            out.append(b"%d:%b\n" % (len(out) + 1, scope.fs.lock_line(line.partition(b":")[2])))
    return b"".join(out)


@system_file("keys")
def keys(scope: Scope) -> bytes:
    """No keyrings: the key calls are refused."""
    return b""


@system_file("key-users")
def key_users(scope: Scope) -> bytes:
    """No keyrings."""
    return b""


_SYSVIPC = {
    "msg": (
        b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid "
        b" cuid  cgid      stime      rtime      ctime\n"
    ),
    "sem": (b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"),
    "shm": (
        b"       key      shmid perms                  size  cpid  lpid nattch   uid  "
        b" gid  cuid  cgid      atime      dtime      ctime                   rss        "
        b"          swap\n"
    ),
}


def _sysvipc(name: str, heading: bytes) -> None:
    @system_file(f"sysvipc/{name}")
    def read(scope: Scope) -> bytes:
        return heading


for _name, _heading in _SYSVIPC.items():
    _sysvipc(_name, _heading)
