"""A world with real host processes as its guests, for tests of /proc, /dev and the calls on Python's files.

Layer: tests. Starts processes and ends them; the supervisor's tables are the real classes, filled by hand,
with no core and no loop.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from ring3.kernel.pidns import PidNamespace
from ring3.kernel.task import Credentials, FsStruct, Process, Task
from ring3.netstack.network import Network
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.openfile import OpenFile
from ring3.vfs.standard import mount_standard
from ring3.vfs.vfs import Vfs


class World:
    """A memory filesystem with the standard mounts, and guests in it."""

    def __init__(self) -> None:
        self.vfs = Vfs(MemoryFS(mode=0o755))
        self.standard = mount_standard(self.vfs)
        self.uts_written = 0
        self.kernel: Any = SimpleNamespace(
            processes={}, vfs=self.vfs, hostname="box", domainname="(none)", init_pid=0, pid_ns=PidNamespace(),
            write_uts=self._write_uts,
        )  # fmt: skip
        self.standard.bind(self.kernel)
        self._children: list[subprocess.Popen[bytes]] = []

    def _write_uts(self) -> None:
        self.uts_written += 1

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
        for process in self.kernel.processes.values():
            os.close(process.pidfd)
        self.vfs.close()

    def guest(self, pid: int, uid: int = 0, parent: Process | None = None) -> Task:
        """Declare a host process a guest; returns its leader."""
        creds = Credentials(uid, uid)
        process = Process(self.kernel, FsStruct(self.vfs.root, self.vfs.root, 0o22), creds, pid)
        process.pid = process.host_pid = pid
        process.pidfd = os.pidfd_open(pid)
        process.initial = parent is None
        process.parent = parent
        task = Task(process, pid, 0, creds)
        process.tasks[0] = task
        self.kernel.processes[pid] = process
        return task

    def python(self, code: str, uid: int = 0, **popen: Any) -> tuple[Task, subprocess.Popen[bytes]]:
        """A guest that is a host Python which runs `code` and then waits; it ends with the world."""
        child = subprocess.Popen(
            [sys.executable, "-c", code + "\nprint('ready', flush=True)\nimport sys\nsys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **popen,
        )
        self.kernel.net = Network(
            SimpleNamespace(loop=None, log=print, log_once=print, hostname="x", vfs=None, processes={})  # type: ignore[arg-type]
        )
        self._children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return self.guest(child.pid, uid), child

    def sleeper(self, uid: int = 0) -> Task:
        """A guest that waits."""
        return self.python("", uid)[0]

    def end(self, child: subprocess.Popen[bytes], wait: bool = True) -> None:
        """Kill a child of python(); without `wait` it stays a zombie."""
        child.kill()
        if wait:
            child.wait()
        else:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def open(self, who: Any, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int | OpenFile:
        """What opening gives: a host descriptor, or a registered OpenFile."""
        place, opened = self.vfs.open(who, None, path.encode(), flags, mode)
        assert isinstance(opened, (int, OpenFile))
        fd = self.vfs.handle(place, opened)
        if isinstance(opened, OpenFile):
            opened_fd = fd
            self._placeholders.append(opened_fd)
        return opened

    @property
    def _placeholders(self) -> list[int]:
        return self.__dict__.setdefault("placeholders", [])  # type: ignore[no-any-return]

    def read(self, who: Any, path: str) -> bytes:
        """The whole of a Python-made file."""
        file = self.open(who, path)
        assert isinstance(file, OpenFile), path
        out = b""
        try:
            while chunk := file.do_read(who, 4096):
                assert isinstance(chunk, bytes)
                out += chunk
        finally:
            self.vfs.files.released(file)
            os.close(self._placeholders.pop())
        return out

    def write(self, who: Any, path: str, data: bytes) -> int:
        """One write(2)."""
        file = self.open(who, path, os.O_WRONLY)
        assert isinstance(file, OpenFile), path
        try:
            count = file.do_write(who, data)
        finally:
            self.vfs.files.released(file)
            os.close(self._placeholders.pop())
        assert isinstance(count, int)
        return count

    def lookup(self, who: Any, path: str, follow: bool = False) -> Any:
        """The inode at a path."""
        return self.vfs.lookup(who, None, path.encode(), follow).inode

    def names(self, who: Any, path: str) -> list[str]:
        """The listing of a directory."""
        return [name.decode() for name, _, _ in self.lookup(who, path, True).readdir()]

    def readlink(self, who: Any, path: str) -> str:
        """The text of a link."""
        text = self.lookup(who, path).readlink(who)
        assert isinstance(text, bytes)
        return text.decode()
