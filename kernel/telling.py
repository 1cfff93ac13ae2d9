"""Tells of a sandbox that runs: to `ring3 net` and `ring3 ps`, by an abstract name of the host's.

Layer: the pretend kernel, beside sandbox.py.  May touch: an abstract name of the host's, a thread of its own.  Only
this process's user, and root, are answered.

The thread is there so that somebody answers when the loop does not: then the answer is where the loop is.  What is told
goes out as JSON in a memfd, so that nobody who reads slowly holds up anything.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .sandbox import Kernel

#: what the abstract names begin with; the pid and a number follow
NAME = b"\0ring3-sandbox-"
_PATIENCE = 3.0  # seconds for the loop, and for who asks to say what he wants


class Teller:
    """Answers whoever asks from outside."""

    _made = 0

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._closed = False
        self._lock = threading.Lock()
        Teller._made += 1
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            self._sock.bind(NAME + b"%d-%d" % (os.getpid(), Teller._made))
        except OSError as e:  # pid_namespaces(7): another process may have this pid in a namespace of its own
            if e.errno != errno.EADDRINUSE:
                raise
            self._sock.bind(NAME + b"%d-%d" % (os.getpid(), int.from_bytes(os.urandom(8), "little")))
        self._sock.listen(16)
        self._thread = threading.Thread(target=self._run, name="ring3-teller", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Before the loop is closed."""
        with self._lock:
            self._closed = True
        self._sock.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """After close(): whoever was being answered has his answer, and the name is free."""
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        with self._sock:
            while True:
                try:
                    asking, _ = self._sock.accept()
                except OSError:
                    return
                with asking:
                    try:
                        self._answer(asking)
                    except OSError:
                        pass  # he has gone

    def _answer(self, asking: socket.socket) -> None:
        uid = struct.unpack("iII", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.geteuid()):
            return
        asking.settimeout(_PATIENCE)
        answer = self._ask_loop(asking.recv(16))
        import json  # costs start-up time

        fd = os.memfd_create("ring3-told", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(json.dumps(answer).encode())
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            asking.sendmsg([b"told"], rights, socket.MSG_NOSIGNAL)
        finally:
            os.close(fd)

    def _ask_loop(self, what: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = {"hostname": self._kernel.hostname}
        told = threading.Event()

        def tell() -> None:
            try:
                answer["rows"] = _TOLD[what](self._kernel) if what in _TOLD else []
            finally:
                told.set()

        with self._lock:
            if self._closed:
                return answer
            self._kernel.loop.call_soon_threadsafe(tell)
        if not told.wait(_PATIENCE):
            return {"hostname": self._kernel.hostname, "stuck": _where_threads_are()}
        return answer


def _net(kernel: Kernel) -> list[dict[str, Any]]:
    return kernel.net.connections()


def _ps(kernel: Kernel) -> list[dict[str, Any]]:
    from .taskstate import tasks

    return tasks(kernel)


_TOLD: dict[bytes, Callable[[Kernel], list[dict[str, Any]]]] = {b"net": _net, b"ps": _ps}


def _where_threads_are() -> str:
    """The stacks of this process's threads."""
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    return "".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != own
    )


# -- who asks ------------------------------------------------------------------------------------------------


def ask_all(what: bytes) -> list[tuple[int, dict[str, Any]]]:
    """What each sandbox that runs tells of `what` ("net" or "ps"), with its supervisor's pid: {"hostname", "rows"}, or
    {"hostname", "stuck"}.  Blocks until they have answered."""
    with open("/proc/net/unix", "rb") as table:
        names = sorted({line.rsplit(None, 1)[-1] for line in table if b" @" + NAME[1:] in line})
    told = []
    for name in names:
        pid = name[len(NAME) :].partition(b"-")[0]
        answer = _ask(b"\0" + name[1:], what) if pid.isdigit() else None
        if answer is not None:
            told.append((int(pid), answer))
    return told


def _ask(name: bytes, what: bytes) -> dict[str, Any] | None:
    """None if it has ended, does not tell us, or only has such a name."""
    import json

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(4 * _PATIENCE)
        try:
            asking.connect(name)
            asking.send(what)
            _, fds, _, _ = socket.recv_fds(asking, 256, 1)
        except OSError:
            return None
    if not fds:
        return None
    with open(fds[0], "rb") as file:
        file.seek(0)
        try:
            answer = json.load(file)
        except ValueError:
            return None
    return answer if isinstance(answer, dict) else None
