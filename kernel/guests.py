"""The processes of one sandbox: how they come (fork, spawn), what they say over their sockets, how they go.

Layer: the pretend kernel, between sandbox.py and dispatch.py.  May touch: processes' sockets, channels and pidfds.
"""

from __future__ import annotations

import errno
import os
import socket

from .channel import MSG, Channel, valid_slot
from .ends import descends, runs, wait_status
from .layout import CONSTANTS
from .loop import Running
from .task import FsStruct, Process
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sandbox import Kernel
    from .task import Credentials, Task

#: that are read of one process before others have their turn
MOST_MESSAGES = 64
_RING, _CANCEL, _HELLO, _FORKED, _CHILD, _INT80, _SIGNAL, _UNSUPPORTED = (
    CONSTANTS[f"MSG_{kind}"] for kind in "RING CANCEL HELLO FORKED CHILD INT80 SIGNAL UNSUPPORTED".split()
)
_SIGSYS = 31
_USER_END = 1 << 47  # of every address space
_CLONE_FS, _CLONE_PARENT, _CLONE_NEWNS = 0x200, 0x8000, 0x20000


class Guests:
    """See the module's text.  `processes`: those whose pid is known, zombies included; `watch`: kernel/watch.py."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.processes: dict[int, Process] = {}
        self.watch = Watch(self.serve, self._drain)
        self._forks: dict[int, Process] = {}  # by token: their pid is not known yet
        self._spare: tuple[Channel, socket.socket] | None = None
        self._last_token = 0
        self._closed = False

    def close(self) -> None:
        """Free everything, when the loop has ended."""
        self._closed = True
        for process in [*self.processes.values(), *self._forks.values()]:
            self.free(process)
        self.processes.clear()
        if self._spare is not None:
            self._spare[0].close()
            self._spare[1].close()

    def by_token(self, token: int) -> Process | None:
        """The process that was made with this token."""
        known = self._forks.get(token)
        return known or next((p for p in self.processes.values() if p.token == token), None)

    def unborn(self, process: Process) -> None:
        """It was never started."""
        self._forks.pop(process.token, None)
        self.free(process)

    def new(self, fs: FsStruct, creds: Credentials) -> Process:
        self._last_token += 1
        process = Process(self._kernel, fs, creds, self._last_token)
        self._forks[process.token] = process
        return process

    def open_channel(self, process: Process) -> socket.socket:
        """Give a process its channel; returns the guest's end of the socket, which the caller closes."""
        spare, self._spare = self._spare, None
        channel, theirs = spare or self._make_channel()
        process.channel = channel
        self._kernel.loop.add(channel.sock.fileno(), lambda _events: self._says(process))
        return theirs

    @staticmethod
    def _make_channel() -> tuple[Channel, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            return Channel(ours), theirs
        except OSError:
            ours.close()
            theirs.close()
            raise

    def _keep_spare(self) -> None:
        """Where one process was forked another will be; its channel is made while nobody waits for it."""
        if self._spare is None and not self._closed:
            try:
                self._spare = self._make_channel()
            except OSError:
                pass  # who needs one hears of it

    def register(self, process: Process, pid: int) -> None:
        """A process's pid is known, from init."""
        if process.pid or not process.alive:
            return
        try:
            host = self._kernel.pid_ns.host(pid)
            self._is(process, pid, host, os.pidfd_open(host))
        except OSError:
            self._is(process, pid, 0, -1)  # it has ended and was waited for already

    def _is(self, process: Process, pid: int, host_pid: int, pidfd: int) -> None:
        process.pid, process.host_pid, process.pidfd = pid, host_pid, pidfd
        stale = self.processes.get(pid)
        if stale is not None and stale is not process:
            self.free(stale)
        self.processes[pid] = process
        self._forks.pop(process.token, None)
        if pidfd >= 0:
            self._kernel.loop.add(pidfd, lambda _events: self._ended(process))

    def _claim(self, process: Process, pid: int) -> None:
        """A guest says that `process` is `pid`, which we would then act upon: its memory, its descriptors, its end.

        True of a child of init's that no other process of ours is; for anything else whoever says so is ended.
        """
        if process.pid or not process.alive:
            return
        try:
            host = self._kernel.pid_ns.host(pid)
            pidfd = os.pidfd_open(host)
        except (OSError, OverflowError):
            self.gone(process)  # it has ended and was waited for already, or there never was such a process
            return
        other = self.processes.get(pid)
        if self._in_sandbox(pid) and (other is None or not other.exists()):
            self._is(process, pid, host, pidfd)
            return
        ended = not runs(pidfd)  # and was waited for while we looked
        os.close(pidfd)
        if ended:
            return
        self._kernel.log_once(f"a guest claimed to be process {pid}, which it is not; it was ended")
        self.gone(process)

    def _in_sandbox(self, pid: int) -> bool:
        """Does it come from init?  In a PID namespace everybody else does."""
        init = self._kernel.init_pid
        return pid != init if self._kernel.pid_ns.separate else descends(pid, init)

    def knows(self, pid: int) -> bool:
        """Is `pid` a process or thread of this sandbox (a zombie included)?"""
        process = self.processes.get(pid)
        if process is not None:
            if process.alive or process.exists():
                return True
            self._forget(process)
            return False
        return any(task.tid == pid for p in self.processes.values() for task in p.tasks.values())

    def _full(self) -> bool:
        """Are there as many processes as there may be? (fork(2): EAGAIN of a cgroup's pids.max)"""
        limit = self._kernel.pids
        if limit is None or len(self.processes) + len(self._forks) < limit:
            return False
        if sum(p.exists() for p in self.processes.values()) + len(self._forks) < limit:
            return False  # we have not heard of some ends yet
        self._kernel.log_once(f"fork: there may be {limit} processes (--pids), and there are; EAGAIN")
        return True

    def prepare_fork(self, task: Task, flags: int) -> None:
        """A clone(2) without CLONE_THREAD is about to be made: the child's socket and channel go out."""
        parent = task.process
        channel = parent.channel
        assert channel is not None
        if flags & _CLONE_NEWNS and not task.creds.capable(21):  # CAP_SYS_ADMIN
            channel.reply(task.slot, task.request, -errno.EPERM)
            return
        if self._full():
            channel.reply(task.slot, task.request, -errno.EAGAIN)
            return
        fs = task.fs if flags & _CLONE_FS else task.fs.copy()
        fs.shared = bool(flags & _CLONE_FS)
        if flags & _CLONE_NEWNS:
            from ..vfs.mountops import unshare

            unshare(self._kernel.vfs, fs)
        try:
            child = self.new(fs, task.creds)
            theirs = self.open_channel(child)
        except OSError as e:
            self._forks.pop(self._last_token, None)
            channel.reply(
                task.slot, task.request, -(errno.EAGAIN if e.errno == errno.EMFILE else e.errno or errno.EIO)
            )
            return
        assert child.channel is not None
        if not flags & _CLONE_FS:
            child.channel.set_place(0, *self._kernel.answers.place(child.main_creds, fs))
        try:
            channel.send_fds(task.slot, [theirs.fileno(), child.channel.memfd])
            channel.reply(task.slot, task.request, child.token, CONSTANTS["ACT_FD"])
        except BrokenPipeError:
            return  # the parent was killed meanwhile; with `theirs` closed, the child's channel goes too
        finally:
            theirs.close()
        child.born(parent, parent.parent if flags & _CLONE_PARENT else parent)
        self._kernel.loop.when_idle(self._keep_spare)

    # -- messages of guests ---------------------------------------------------------------------------------

    def _says(self, process: Process) -> None:
        """Something has come on a guest's socket: read up to the first request, then others have their turn."""
        for _ in range(MOST_MESSAGES):
            if self._message(process) is not False:
                return

    def _drain(self, process: Process) -> None:
        """Read all that a guest has sent so far, within reason."""
        for _ in range(MOST_MESSAGES):
            if self._message(process) is None:
                return

    def _message(self, process: Process) -> bool | None:
        """Read one message: was it a doorbell that was answered?  None where there is none."""
        channel = process.channel
        if channel is None or channel.closed:
            return None
        try:
            data = channel.sock.recv(MSG.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if len(data) != MSG.size:
            self.gone(process)
            return None
        kind, slot, a, b, c, d = MSG.unpack(data)
        if kind == _RING:
            # It may come late, after its request was seen in the slot itself.  A further one there is not
            # its business: what the guest said before that one (of a fork, say) may stand behind this ring.
            return self._serve_latest(process, channel, slot, a & 0xFFFFFFFF)
        else:
            self._other_message(process, channel, kind, slot, (a, b, c, d))
        return False

    def _other_message(
        self, process: Process, channel: Channel, kind: int, slot: int, words: tuple[int, int, int, int]
    ) -> None:
        a, b, c, d = words
        if kind == _HELLO:
            self._hello(process, a, b, c, d, slot)
            return
        channel.received = channel.received + 1 & 0xFFFFFFFF
        if kind == _CANCEL:
            # It may overtake its request, which rings no bell where slots are looked at.
            self._serve_latest(process, channel, slot, a & 0xFFFFFFFF)
            self._kernel.dispatcher.interrupt(process, slot, a & 0xFFFFFFFF)
        elif kind == _FORKED:
            self._forked(process, a, b)
        elif kind == _CHILD:
            self._claim(process, a)
        elif kind == _SIGNAL:
            if (hooks := self._kernel.installed_hooks) is not None:
                hooks.signalled(process, slot, words)
        elif kind == _UNSUPPORTED:
            name = process.comm.decode("utf-8", "replace")
            self._kernel.log_once(
                f"seccomp: no listener (SECCOMP_FILTER_FLAG_NEW_LISTENER) for {name}; refused (EINVAL)"
            )
        elif kind == _INT80:
            name = process.comm.decode("utf-8", "replace")
            self._kernel.log_once(f"{name}: calls by int 0x80 (the 32-bit interface) are not supported; ENOSYS")

    def _serve_latest(self, process: Process, channel: Channel, slot: int, number: int) -> bool:
        """Take request `number` unless that is done."""
        if not valid_slot(slot) or not channel.asks(slot, number):
            return False
        self.serve(process, slot, number)
        return True

    def serve(self, process: Process, slot: int, number: int) -> None:
        """Take request `number` of a slot."""
        channel, pending = process.channel, process.pending_exec
        if channel is None:
            return  # it has ended; its channel is closed when nobody waits for an answer
        if pending is not None and pending.plan is not None:
            self._drain(process)  # the core has its plan already, and its program asks: its hello comes first
            if process.channel is not channel or not channel.asks(slot, number):
                return
        channel.taken[slot] = number
        if slot not in channel.hot and self.watch.has_room(channel):
            self.watch.add(process, channel, slot)
        self.watch.taken(channel, slot)
        if process.channel is not channel:
            return  # what came before this one has ended the process
        self._kernel.dispatcher.serve(process, slot, number)

    def _forked(self, parent: Process, pid: int, token: int) -> None:
        """A parent's word on its fork: the child's pid, or 0 when it failed."""
        child = self._forks.get(token)
        if child is None or child.forked_by is not parent:
            return
        if pid:
            self._claim(child, pid)
        else:
            self.unborn(child)

    def _hello(
        self, process: Process, stack_top: int, mmap_top: int, pid: int, vdso: int, personality: int
    ) -> None:
        """A fresh core asks for its plan: this is where execve(2) takes effect."""
        pending = process.pending_exec
        sent = pending is not None and pending.plan is not None
        if process.channel is not None and not sent:
            process.channel.fresh()
        self._claim(process, pid)
        if not process.pid:
            self.gone(process)
            return
        if not sent:
            self._kernel.traps.ended(process)
        lies = not 1 << 30 <= stack_top < _USER_END or max(mmap_top, vdso) >= _USER_END
        if pending is None or pending.asked or lies:
            self._kernel.log_once(f"process {process.pid} asked for a program out of turn; it was ended")
            self._kill(process)
            return
        pending.asked = True
        prepared, waiting = pending.prepared, []
        if not sent and not prepared.ready:
            try:
                waiting = self._kernel.images.to_wait_for(prepared.program.files())
            except Exception as e:
                self._cannot_start(process, e)
                return
        if waiting:

            async def later() -> None:
                for analysis in waiting:
                    await analysis.wait()
                if process.pending_exec is pending:  # else it was killed meanwhile
                    self._commit(process, stack_top, mmap_top, vdso, personality)

            Running(
                later(),
                lambda _result, failure: self._cannot_start(process, failure) if failure else None,
            )
        else:
            self._commit(process, stack_top, mmap_top, vdso, personality)

    def _commit(self, process: Process, stack_top: int, mmap_top: int, vdso: int, personality: int) -> None:
        from .sys_exec import commit_exec

        try:
            if (hooks := self._kernel.installed_hooks) is not None:
                hooks.executed(process)
            commit_exec(process, stack_top, mmap_top, vdso, personality)
        except BrokenPipeError:
            self.gone(process)  # killed meanwhile
        except BaseException as e:
            self._cannot_start(process, e)

    def _cannot_start(self, process: Process, failure: BaseException) -> None:
        """A core that waits for its plan would wait for ever."""
        self._kernel.report(failure, f"while starting a program in process {process.pid}")
        self._kill(process)

    def _kill(self, process: Process) -> None:
        import signal

        if process.pidfd >= 0:
            try:
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            except OSError:
                pass
        self.gone(process)

    def _ended(self, process: Process) -> None:
        """Its pidfd says so, whoever else may still hold its socket; what it said last is heard."""
        self._kernel.loop.remove(process.pidfd)
        self._drain(process)
        self.gone(process)

    def gone(self, process: Process) -> None:
        """The last copy of a process's socket is closed: it has ended (a zombie may remain)."""
        if not process.alive:
            return
        process.alive = False
        if self._kernel.usage is not None:
            self._kernel.usage.gone(process)
        self._kernel.drafts.gone(process)
        self._say_sigsys(process)
        process.interrupt_all()
        self._kernel.traps.ended(process)
        self._kernel.net.endings.process_ended(process)
        if (hooks := self._kernel.installed_hooks) is not None:
            hooks.gone(process)
        self._kernel.gifts.ended(process)
        self._kernel.vfs.files.records.ended(process)
        self._kernel.vfs.pool.reap()  # files that were unlinked while it had them open
        self._free_channel(process)
        self._forks.pop(process.token, None)
        process.tasks.clear()
        if len(self._kernel.vfs.mounts.namespaces) > 1:
            process.fs = FsStruct(
                self._kernel.vfs.root, self._kernel.vfs.root, process.fs.umask
            )  # a zombie is in no namespace
            self._kernel.vfs.mounts.reap()
        process.left_alone()
        if process.pid and process.pidfd >= 0 and self.processes.get(process.pid) is process:
            # Until it is waited for it has a pid, which may be signalled; then the pidfd says so.
            self._kernel.loop.call_later(1.0, lambda: self._reap_check(process, 1.0))

    def _say_sigsys(self, process: Process) -> None:
        """The lock-down's filter ends a process without a word: see kernel/lockdown.py."""
        if process.channel is not None and process.channel.ends():
            return
        status = wait_status(process) if process.pid else None
        if status is not None and status & 0x7F == _SIGSYS:
            name = process.comm.decode("utf-8", "replace")
            self._kernel.log_once(
                f"{name}[{process.pid}] was ended by SIGSYS, as the lock-down does with a call that it does not let"
                " through (docs/host-calls.md)"
            )

    def _reap_check(self, process: Process, delay: float) -> None:
        if self.processes.get(process.pid) is not process:
            return
        if process.exists():
            delay = min(delay * 2, 60.0)
            self._kernel.loop.call_later(delay, lambda: self._reap_check(process, delay))
        else:
            self._forget(process)

    def _forget(self, process: Process) -> None:
        if self.processes.get(process.pid) is process:
            del self.processes[process.pid]
        self.free(process)

    def _free_channel(self, process: Process) -> None:
        channel, process.channel = process.channel, None
        if channel is not None:
            self._kernel.loop.remove(channel.sock.fileno())
            self.watch.forget(channel)
            if self._closed:
                channel.close()
            else:
                self._kernel.loop.when_idle(channel.close)
        if process.pending_exec is not None:
            process.pending_exec.close()
            process.pending_exec = None

    def free(self, process: Process) -> None:
        process.alive = False
        process.forgotten()
        self._free_channel(process)
        if process.pidfd >= 0:
            self._kernel.loop.remove(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = -1
