"""The supervisor's end of init: programs that the front starts, and how they end.

Layer: the pretend kernel, beneath sandbox.py.  May touch: the init process and its control socket
(core_native/init.c is the other end; struct ring3_spawn goes there, struct ring3_event comes back).
"""

from __future__ import annotations

import array
import os
import resource
import select
import signal
import socket
import struct
import threading

from .layout import CONSTANTS, RESERVED_FDS, SIZES
from .loop import EPOLLIN, Loop
from .pidns import PidNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .task import Process

#: seconds after which init, which is to end, is told to go on
_PATIENCE = 0.5
_SPAWN = struct.Struct("<4I2Q")
_EVENT = struct.Struct("<2I2i")
assert _SPAWN.size == SIZES["ring3_spawn"] and _EVENT.size == SIZES["ring3_event"]


class Child:
    """A program that the front started: `pid`, and its raw wait status when it has ended."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self.started = threading.Event()
        self.error = 0
        self.status: int | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def host_pid(self) -> int:
        """Its pid on the host, where `pid` may be that of a PID namespace."""
        return self._process.host_pid

    def ended(self, status: int) -> None:
        self.status = status
        self._ended.set()

    def poll(self) -> int | None:
        """The raw wait status (os.WIFEXITED and so on read it), None while it runs."""
        return self.status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end: the raw wait status.  Raises TimeoutError."""
        if not self._ended.wait(timeout):
            raise TimeoutError(f"process {self.pid} still runs")
        assert self.status is not None
        return self.status

    def has_had(self, sig: int, sender: int) -> bool:
        """Was a signal that came to this process sent to its whole process group, and so to the program too?"""
        return self._process.sandbox.group_got(sig, sender)

    def kill(self, sig: int) -> None:
        """Send a signal.  Nothing happens when it has ended."""
        if self.status is None and self._process.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._process.pidfd, sig)
            except ProcessLookupError:
                pass


class Init:
    """One sandbox's init process.

    Arguments: `core` the path of its executable; `kept` the capabilities that guests' processes keep on the host, as
    bits, None for no lock-down at all; `nofile` how many descriptors they may have, None: as the caller;
    `started(token, pid, errno)` is called in the loop's thread when a program was started or could not be (pid < 0);
    `died()` when somebody else ended init.  Raises OSError if it cannot be executed. The thread that makes one has to
    live until its end: a child that asks for it dies with the thread that it comes from (PR_SET_PDEATHSIG, prctl(2)).

    Attributes: `pid` the host's number; `pid_ns` and `guest_pid`, its number there, count when it is settle()d.
    """

    def __init__(
        self,
        core: str,
        kept: int | None,
        nofile: int | None,
        started: Callable[[int, int, int], None],
        died: Callable[[], None],
    ) -> None:
        self._on_started, self._on_died = started, died
        self._locks = kept is not None
        self.pid_ns = PidNamespace()
        self._children: dict[int, Child] = {}
        self._closing = False
        self._asking = threading.Lock()
        self._witnessed = threading.Event()
        self._group_signals: set[tuple[int, int]] = set()
        self._soft_limit = raise_fd_limit()
        self._hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - RESERVED_FDS
        if nofile is not None:
            self._soft_limit = self._hard_limit = min(nofile, self._hard_limit)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        exe = os.open(core, os.O_RDONLY | os.O_CLOEXEC)
        st = os.fstat(exe)
        self.core_ident = (st.st_dev, st.st_ino)
        high = [_above_standard(theirs.fileno()), _above_standard(exe)]
        try:
            actions = [(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]
            self.pid = os.posix_spawn(
                core, ["ring3-init", "init", *([] if kept is None else [str(kept)])], {}, file_actions=actions
            )
        finally:
            theirs.close()
            os.close(exe)
            for fd in high:
                os.close(fd)

    def settle(self) -> int:
        """Wait for what the lock-down has come to: LOCKED_*.  To be called once, before watch()."""
        self.guest_pid = self.pid
        if not self._locks:
            return 0
        data, fds, _, _ = socket.recv_fds(self._control, _EVENT.size, 1, socket.MSG_CMSG_CLOEXEC)
        if len(data) != _EVENT.size:
            return 0
        _, _, ended, bits = _EVENT.unpack(data)
        if fds:
            self.pid_ns = PidNamespace(fds[0])
            self.guest_pid, ended, self.pid = 1, self.pid, self.pid_ns.host(1)
        if ended:
            _reap(ended)
        return int(bits)

    def watch(self, loop: Loop) -> None:
        """Hear of init's events in `loop`."""
        self._loop = loop
        loop.add(self._control.fileno(), self._says)

    def spawn(
        self, token: int, flags: int, ignored: int, stdio: tuple[int, int, int], theirs: socket.socket
    ) -> None:
        """Ask for a program: `flags` SPAWN_*, `stdio` host descriptors (-1: closed); `theirs` is its channel's end,
        which is closed."""
        soft = min(self._soft_limit, self._hard_limit)
        null = -1
        fds = []
        for fd in stdio:
            if fd < 0 and null < 0:
                null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            fds.append(null if fd < 0 else fd)
        fds.append(theirs.fileno())
        message = _SPAWN.pack(CONSTANTS["SPAWN_START"], token, flags, soft, ignored, 0)
        try:
            self._control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        finally:
            theirs.close()
            if null >= 0:
                os.close(null)

    def group_got(self, sig: int, sender: int) -> bool:
        """Did process `sender` send signal `sig` to the whole process group?  Init, which is in it, then got it too.
        (In a PID namespace it is not told who has sent a signal from outside.)

        Not to be called in the loop's thread, which hears of it.
        """
        with self._asking:
            self._witnessed.clear()
            try:
                self._control.send(_SPAWN.pack(CONSTANTS["SPAWN_WITNESS"], 0, 0, 0, 0, 0))
            except OSError:
                return False  # init is gone
            self._witnessed.wait(5.0)
            said = (sig, 0 if self.pid_ns.separate else sender)
            found = said in self._group_signals
            self._group_signals.discard(said)
            return found

    def adopt(self, pid: int, child: Child) -> None:
        """`child` runs as `pid`: it hears of its end."""
        self._children[pid] = child

    def _says(self, events: int) -> None:
        """An event: a guest was started, or a child of init's ended."""
        data = self._control.recv(_EVENT.size, socket.MSG_DONTWAIT) if events & EPOLLIN else b""
        if len(data) != _EVENT.size:
            self._loop.remove(self._control.fileno())
            if not self._closing:
                self._on_died()
                self.end_children(9)
            return
        kind, token, pid, status = _EVENT.unpack(data)
        if kind == CONSTANTS["EVENT_STARTED"]:
            self._on_started(token, pid, -status)
        elif kind == CONSTANTS["EVENT_SIGNAL"]:
            if not (pid and self.pid_ns.separate):  # a guest's own doing
                self._group_signals.add((status, pid))
        elif kind == CONSTANTS["EVENT_WITNESSED"]:
            self._witnessed.set()
        elif kind == CONSTANTS["EVENT_EXITED"]:
            child = self._children.pop(pid, None)
            if child is not None:
                child.ended(status)

    def end_children(self, status: int) -> None:
        """Whoever waits for a program hears of an end."""
        for child in self._children.values():
            if child.status is None:
                child.ended(status)
        self._children.clear()

    def end(self) -> None:
        """Have init end every guest, then itself, and wait for that."""
        self._closing = True
        self._control.shutdown(socket.SHUT_RDWR)
        pidfd = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        try:
            # A guest that got around the core may have stopped it, and may do so again.
            while not poll.poll(int(_PATIENCE * 1000)):
                os.kill(self.pid, signal.SIGCONT)
        finally:
            os.close(pidfd)
        _reap(self.pid)

    def close(self) -> None:
        self._control.close()
        self.pid_ns.close()


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # the caller ignores SIGCHLD, and the kernel has waited for it


def _above_standard(fd: int) -> int:
    """A duplicate that the two dup2 calls to 3 and 4 cannot overwrite."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 5)


#: The soft limit of a guest is at most this, as after a login on most systems; it may be raised up to the hard limit.
#: The core's descriptors lie just above it, and each fork copies a table of that many entries (dup_fd() in fs/file.c).
GUEST_NOFILE = 1024
_original_soft: list[int] = []


def raise_fd_limit() -> int:
    """The supervisor holds some descriptors for each process and file, so its soft limit becomes the hard one.

    Returns the soft limit for guests: what it was at first, or GUEST_NOFILE.  Raises SandboxError where the hard limit
    leaves guests nothing beside the core's own.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * RESERVED_FDS:
        from ..errors import SandboxError

        raise SandboxError(
            f"at most {hard} descriptors may be open here, and ring3 needs {2 * RESERVED_FDS}: "
            "raise the hard limit (ulimit -Hn)"
        )
    if not _original_soft:
        _original_soft.append(soft)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass
    return min(_original_soft[0], GUEST_NOFILE)
