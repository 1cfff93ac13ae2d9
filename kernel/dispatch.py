"""From a request in a slot to its handler and back: decoding, answering, blocking, hooks.

Layer: the pretend kernel, between the channel and the handlers.  May touch: nothing but these.
"""

from __future__ import annotations

import errno
import os
import stat

from . import channel as ch
from .handlers import (
    ERESTARTSYS,
    HANDLERS,
    NATIVE,
    SOCKET_HANDLERS,
    DirectoryOpened,
    Exec,
    InstallFd,
    KillList,
    NativeResult,
    NetCall,
    Out,
    ToBeReal,
    Via,
)
from .layout import CONSTANTS
from .loop import Interrupted, Running
from .quiet import NAMES, PIVOT_ROOT, PLACES, changes
from .table import REFUSE, SUP, TABLE, Sys
from .task import FdRef, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .sandbox import Kernel
    from .task import Process

_NULL = CONSTANTS["RING3_NULL"]
_SIGN = 1 << 63
_WORD = (1 << 64) - 1
_AT_FDCWD = -100
REQ_CALL, REQ_ENTER, REQ_EXIT = CONSTANTS["REQ_CALL"], CONSTANTS["REQ_ENTER"], CONSTANTS["REQ_EXIT"]
REQ_CLASSIFY, REQ_FORK, REQ_THREAD = CONSTANTS["REQ_CLASSIFY"], CONSTANTS["REQ_FORK"], CONSTANTS["REQ_THREAD"]
REQ_UID, REQ_SITE = CONSTANTS["REQ_UID"], CONSTANTS["REQ_SITE"]
REQ_EXEC_ARGS, REQ_IMAGE, REQ_MAP = CONSTANTS["REQ_EXEC_ARGS"], CONSTANTS["REQ_IMAGE"], CONSTANTS["REQ_MAP"]
REQ_DIR, REQ_DRAFTS = CONSTANTS["REQ_DIR"], CONSTANTS["REQ_DRAFTS"]
#: requests whose answer is no error number; 0 stands for "nothing special"
_HARMLESS = (REQ_CLASSIFY, REQ_UID, REQ_SITE, REQ_DRAFTS)
_CLONE_FS = 0x200
_PATH_MAX = 4096
_MAX_STRINGS = 8 << 20  # of argv or envp: more than MAX_TOTAL of core_native/exec.c
#: bytes for which a slot has room, whatever other arguments there are
_SURE = 16384
_LARGEST = 65536  # XATTR_SIZE_MAX: of what is read later, if a slot has no room


class Request:
    """A request as it lies in the slot; `sink` takes the answer in place of the guest (hooks)."""

    __slots__ = ("_fds", "kind", "nr", "raw", "sink")

    def __init__(self, raw: tuple[int, ...]) -> None:
        self.raw = raw
        self.kind, self.nr = raw[0], raw[1]
        self.sink: Callable[[Any], None] | None = None
        self._fds: list[FdRef | None] | None = None

    @property
    def args(self) -> tuple[int, ...]:
        """As they were in the registers: unsigned 64 bits."""
        return self.raw[2:8]

    @property
    def ip(self) -> int:
        return self.raw[8]

    @property
    def sp(self) -> int:
        return self.raw[9]

    @property
    def result(self) -> int:
        return self.raw[10]

    @property
    def in_off(self) -> tuple[int, ...]:
        return self.raw[11:17]

    @property
    def in_len(self) -> tuple[int, ...]:
        return self.raw[17:23]

    @property
    def fds(self) -> list[FdRef | None]:
        """The call's descriptors in the order of its arguments."""
        if self._fds is None:
            self._fds = [fd_ref(self.raw, 0), fd_ref(self.raw, 1)]
        return self._fds


def fd_ref(raw: tuple[int, ...], i: int) -> FdRef | None:
    """The i-th descriptor of a request: None for AT_FDCWD."""
    fd = raw[23 + i]
    return None if fd == _AT_FDCWD else FdRef(fd, raw[27 + i], raw[29 + i], raw[25 + i])


def open_fd(raw: tuple[int, ...], i: int) -> FdRef:
    """The same where AT_FDCWD means nothing.  Raises EBADF."""
    ref = fd_ref(raw, i)
    if ref is None:
        raise OSError(errno.EBADF, "")
    return ref


def text(data: bytes) -> bytes:
    """A string that came with a request: its end cannot lie within it (the core sees to that, if it is ours still)."""
    if 0 in data:
        raise OSError(errno.EINVAL, "a NUL within a string")
    return data


def path_text(data: bytes) -> bytes:
    """The same of a path, which has an end.  Raises ENAMETOOLONG as getname() does."""
    if len(data) >= _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "")
    return text(data)


def nothing() -> bytes:
    """NULL where there has to be something."""
    raise OSError(errno.EFAULT, "")


#: by number of the call: request -> the arguments as the handler wants them
_DECODERS: dict[int, Callable[[Task, Request, tuple[int, ...]], tuple[Any, ...]]] = {}


def decode(task: Task, request: Request, call: Sys) -> tuple[Any, ...]:
    """The arguments as the handlers want them (kernel/table.py, "Argument kinds")."""
    decoder = _DECODERS.get(call.nr)
    if decoder is None:
        decoder = _DECODERS[call.nr] = _decoder(call)
    return decoder(task, request, request.raw)


def _decoder(call: Sys) -> Callable[[Task, Request, tuple[int, ...]], tuple[Any, ...]]:
    """One expression for all arguments of a call: a tenth of the time that a loop over their kinds takes."""
    terms, fds = [], 0
    for i, (kind, parameter) in enumerate(call.args):
        value, data = f"raw[{2 + i}]", f"task.process.channel.data(task.slot, raw[{11 + i}], raw[{17 + i}])"
        if kind in ("path", "path?", "str", "str?"):
            data = f"{'path_text' if kind[0] == 'p' else 'text'}({data})"
        given = f"{'nothing()' if kind in ('path', 'str') else 'None'} if raw[{17 + i}] == {_NULL} else {data}"
        if kind in ("int", "pid"):
            terms.append(f"({value} & 0x7FFFFFFF) - ({value} & 0x80000000)")
        elif kind == "long":
            terms.append(f"{value} - ({value} & {_SIGN}) * 2")
        elif kind in ("uint", "ptr"):
            terms.append(value)
        elif kind == "u32":
            terms.append(f"{value} & 0xFFFFFFFF")
        elif kind in ("fd", "dirfd"):
            terms.append(f"{'open_fd' if kind == 'fd' else 'fd_ref'}(raw, {fds})")
            fds += 1
        elif kind == "strv":
            terms.append(f"exec_strings(task, request, {i})")
        elif kind in ("path", "path?", "str", "str?"):
            terms.append(given)
        else:
            count = f"raw[{2 + parameter}]" + (" & 0xFFFFFFFF" if kind in ("iov", "small") else "")
            size = {"in": f"{parameter}", "inout": f"{parameter}", "iov": f"16 * ({count})"}.get(kind, count)
            term = f"whole({data}, {size})"
            if kind == "inbuf" and call.lane == SUP:
                term = f"with_rest(task, {term}, {value}, {size})"
            given = given.replace(data, term)
            terms.append(f"({value}, {given})" if kind == "inout" else given)
    source = f"lambda task, request, raw: ({''.join(t + ', ' for t in terms)})"
    made: Callable[[Task, Request, tuple[int, ...]], tuple[Any, ...]] = eval(source, globals())
    return made


def whole(data: bytes, size: int) -> bytes:
    """A struct or buffer of `size` bytes, of which the core sends all, or what a slot has room for, or NULL: so that
    nobody else has to look whether it is there."""
    if len(data) < min(size, _SURE):
        raise OSError(errno.EFAULT, "not all of it")
    return data[:size]


def with_rest(task: Task, data: bytes, address: int, size: int) -> bytes:
    """A buffer of which a slot has no room for all, and that is of no use in part: an attribute's value."""
    have = len(data)
    return data + task.peek(address + have, size - have) if have < size <= _LARGEST else data


def exec_strings(task: Task, request: Request, i: int) -> list[bytes]:
    """argv (the first of the two) or envp: inline, or what came in pieces before."""
    assert task.process.channel is not None
    which = i - (1 if request.nr == 59 else 2)
    if request.in_len[i] == _NULL:
        data = bytes(task.exec_args.pop(which, b""))
    else:
        data = task.process.channel.data(task.slot, request.in_off[i], request.in_len[i])
    return data.split(b"\0")[:-1]


class Dispatcher:
    """Serves the requests of one sandbox."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._refused: set[str] = set()

    def serve(self, process: Process, slot: int, number: int) -> None:
        """One ring of a doorbell: request `number` waits in `slot`."""
        channel = process.channel
        assert channel is not None
        request = Request(channel.request(slot))
        task = self._task(process, slot, channel.tid(slot))
        _give_up(task)
        task.request = number
        self.kernel.current = task
        try:
            self.kernel.drafts.before(process, request)
            self._serve(task, request)
        except OSError as e:  # what the request names is not there
            self.answer(task, request, 0 if request.kind in _HARMLESS else -(e.errno or errno.EIO))
        except Exception as e:  # of ours: the guest must not wait for ever
            self.kernel.report(e, f"in request {request.kind} (call {request.nr}) of {name_of(task)}")
            self.answer(task, request, 0 if request.kind in _HARMLESS else -errno.EIO)
        finally:
            self.kernel.current = None

    def _task(self, process: Process, slot: int, tid: int) -> Task:
        task = process.tasks.get(slot)
        if task is not None and not task.tid:
            task.tid = tid  # its creator told of it before it was there
        elif task is None or task.tid != tid:
            _give_up(task)
            task = process.tasks[slot] = Task(process, tid, slot, process.main_creds)
        return task

    def _new_thread(self, task: Task, slot: int, flags: int) -> None:
        """A thread that gets its creator's credentials and directories, where threads differ in them."""
        if ch.valid_slot(slot):
            _give_up(task.process.tasks.get(slot))
            thread = task.process.tasks[slot] = Task(task.process, 0, slot, task.creds)
            thread.own_fs = task.own_fs if flags & _CLONE_FS else task.fs.copy()

    def _serve(self, task: Task, request: Request) -> None:
        kind = request.kind
        if kind == REQ_CALL:
            self._run(task, request)
        elif kind == REQ_CLASSIFY:
            fd = request.fds[0]
            self.answer(task, request, self.kernel.descriptor_class(fd.dev, fd.ino) if fd is not None else 0)
        elif kind == REQ_FORK:
            self.kernel.guests.prepare_fork(task, request.args[0])
        elif kind == REQ_THREAD:
            self._new_thread(task, *request.args[:2])
            self.answer(task, request, 0)
        elif kind == REQ_UID:
            self.answer(task, request, self.kernel.uid_of(request.args[0], task))
        elif kind == REQ_IMAGE:
            self.kernel.images.serve(task, request)
        elif kind == REQ_MAP:
            self._map(task, request)
        elif kind == REQ_DIR:
            number, flags, ended = request.args[:3]
            self.answer(task, request, self.kernel.directories.make_real(number, flags, bool(ended)))
        elif kind == REQ_DRAFTS:
            self.answer(task, request, self.kernel.drafts.was_seen(task.process, request.args[0]))
        elif kind == REQ_SITE:
            self.kernel.traps.serve(task, request)
        elif kind == REQ_EXEC_ARGS:
            self.answer(task, request, self._more_strings(task, request))
        elif kind in (REQ_ENTER, REQ_EXIT) and self.kernel.installed_hooks is not None:
            self.kernel.hooks.serve(self, task, request)
        else:
            self.answer(task, request, -errno.EIO)

    def _more_strings(self, task: Task, request: Request) -> int:
        """REQ_EXEC_ARGS: a piece of argv or envp."""
        assert task.process.channel is not None
        data = task.process.channel.data(task.slot, request.in_off[0], request.in_len[0])
        pieces = task.exec_args.setdefault(request.args[0] & 1, bytearray())
        if len(pieces) + len(data) > _MAX_STRINGS:
            task.exec_args.clear()
            return -errno.E2BIG
        pieces.extend(data)
        return 0

    def _map(self, task: Task, request: Request) -> None:
        """REQ_MAP: what is to be mapped instead of a placeholder."""
        from .sys_pyfile import map_file

        try:
            fd = request.fds[0]
            if fd is None:
                raise OSError(errno.EBADF, "")
            _, length, prot, flags, _, offset = request.args[:6]
            self.answer(task, request, map_file(task, fd, length, prot, flags, offset))
        except OSError as e:
            self.answer(task, request, -(e.errno or errno.EIO))

    def run_for(self, task: Task, request: Request, sink: Callable[[Any], None]) -> None:
        """Run the handler of a call; `sink` gets its Result."""
        request.sink = sink
        self._run(task, request)

    def _run(self, task: Task, request: Request) -> None:
        """Run the handler of a call and answer."""
        call = TABLE.get(request.nr)
        args: tuple[Any, ...] = ()
        self.kernel.vfs.found = None
        try:
            if call is None:
                raise OSError(errno.ENOSYS, "")
            if call.lane == REFUSE:
                self.say_refused(task, call)
                raise OSError(call.err, "")
            handler = HANDLERS.get(call.name)
            if call.lane != SUP and call.name in SOCKET_HANDLERS and self._on_socket(request):
                handler = SOCKET_HANDLERS[call.name]
            if handler is None:
                result: Any = self._default(task, call, request)
            else:
                args = decode(task, request, call)
                result = handler(task, *args)
        except BaseException as e:
            self._settle_names(task, request)
            if isinstance(e, OSError):
                self._note_answer(task, request, call, args, e)
            self._failed(task, request, call, e)
            return
        if hasattr(result, "send"):
            running = Running(result, lambda value, exc: self._finished(task, request, call, value, exc))
            if running.waiting:
                self._settle_names(task, request)
                task.blocked = running
            return
        self._settle_names(task, request)
        self._note_answer(task, request, call, args, result)
        self.answer(task, request, result)

    def _note_answer(
        self, task: Task, request: Request, call: Sys | None, args: tuple[Any, ...], result: Any
    ) -> None:
        """The handler of a call got `args`, and this came of it: the core may be able to say it by itself next time."""
        if call is not None and call.remember and args and request.sink is None:
            self.kernel.answers.served(task, request, args, result)

    def _settle_names(self, task: Task, request: Request) -> None:
        """Part of a call was done: what it may have changed is not remembered any more."""
        changed = changes(request.nr, request.raw[2:5])
        if changed == NAMES:
            self.kernel.vfs.mounts.walks.clear()
        elif changed:
            self.kernel.answers.forget()
        if request.nr in PLACES:
            self.kernel.answers.forget_task(task)
            if request.nr == PIVOT_ROOT:
                self.kernel.answers.forget_places()

    def _on_socket(self, request: Request) -> bool:
        """Does the call name a socket that the network knows?"""
        known = self.kernel.net.sockets
        return any(fd is not None and fd.fd >= 0 and (fd.dev, fd.ino) in known for fd in request.fds)

    def _default(self, task: Task, call: Sys, request: Request) -> Any:
        """A call that came for its `pid` alone: the host kernel may do it to processes of the sandbox."""
        for (kind, _), value in zip(call.args, request.args, strict=False):
            pid = value & 0xFFFFFFFF
            if kind == "pid" and not self.kernel.knows(pid):
                raise OSError(errno.ESRCH, "")
        if call.lane != SUP and any(kind == "pid" for kind, _ in call.args):
            return NATIVE
        self.kernel.log_once(f"{call.name}: not supported (ENOSYS) for {task.process.comm.decode('utf-8', 'replace')}")
        raise OSError(errno.ENOSYS, "")

    def say_refused(self, task: Task, call: Sys) -> None:
        """One line per call and sandbox."""
        if call.name not in self._refused:
            self._refused.add(call.name)
            why = f": {call.why}" if call.why else ""
            self.kernel.log(
                f"{call.name}: refused ({errno.errorcode.get(call.err)}) for {name_of(task)}{why}"
            )

    def _finished(
        self, task: Task, request: Request, call: Sys | None, value: Any, failure: BaseException | None
    ) -> None:
        task.blocked = None
        self._settle_names(task, request)
        if failure is not None:
            self._failed(task, request, call, failure)
        else:
            self.answer(task, request, value)

    def _failed(self, task: Task, request: Request, call: Sys | None, failure: BaseException) -> None:
        if isinstance(failure, Interrupted):
            self.answer(task, request, -ERESTARTSYS)
        elif isinstance(failure, OSError) and failure.errno:
            self.answer(task, request, -failure.errno)
        else:
            self.kernel.report(failure, f"in {call.name if call else request.nr} of {name_of(task)}")
            self.answer(task, request, -errno.EIO)

    def interrupt(self, process: Process, slot: int, number: int) -> None:
        """A signal arrived for a thread that waits for us: a call that blocks gives up."""
        task = process.tasks.get(slot)
        if task is not None and task.request == number and task.blocked is not None:
            task.blocked.throw(Interrupted(errno.EINTR, "interrupted"))

    # -- answers

    def answer(self, task: Task, request: Request, result: Any) -> None:
        """Send a Result back to the guest; where that fails, EIO: it must not wait for ever."""
        try:
            self._answer(task, request, result)
        except Exception as e:
            self.kernel.report(e, f"while answering call {request.nr} of {name_of(task)}")
            if task.process.channel is not None:
                task.process.channel.reply_result(task.slot, task.request, -errno.EIO)

    def _answer(self, task: Task, request: Request, result: Any) -> None:
        channel = task.process.channel
        if channel is None or channel.closed:
            if isinstance(result, InstallFd):
                result.drop()
            return
        if request.sink is not None:
            sink, request.sink = request.sink, None
            sink(result)
            return
        slot, number = task.slot, task.request
        if type(result) is int:
            channel.reply_result(slot, number, result)
        elif isinstance(result, int):
            channel.reply(slot, number, int(result))
        elif isinstance(result, Out):
            creds = task.creds
            ids = (creds.uid, creds.euid, creds.gid, creds.egid) if result.creds else None
            try:
                channel.reply(slot, number, result.ret, result.flags, writes=result.writes, creds=ids)
            except ValueError as e:
                self.kernel.report(e, f"in call {request.nr} of {name_of(task)}")
                channel.reply(slot, number, -errno.EIO)
        elif isinstance(result, InstallFd):
            self._install(task, result)
        elif isinstance(result, NativeResult):
            native = None
            if result.args is not None:
                args = [value & _WORD for value in (*result.args, 0, 0, 0, 0, 0, 0)[:6]]
                native = (request.nr if result.nr is None else result.nr, args)
            action = ch.ACT_NATIVE if native is None else ch.ACT_NATIVE_ARGS
            channel.reply(slot, number, 0, action | result.flags, native=native)
        elif isinstance(result, DirectoryOpened):
            channel.reply(slot, number, result.number, ch.ACT_DIR)
        elif isinstance(result, ToBeReal):
            channel.reply(slot, number, 0, ch.ACT_REAL)
        elif isinstance(result, NetCall):
            channel.reply(slot, number, result.descriptor_class, ch.ACT_NET)
        elif isinstance(result, Via):
            self._send_via(task, result)
        elif isinstance(result, KillList):
            channel.reply_kill_list(slot, number, result.pids)
        elif isinstance(result, Exec):
            channel.reply(slot, number, int(result.ahead), ch.ACT_EXEC)
        else:
            self.kernel.report(TypeError(f"a handler returned {result!r}"), f"call {request.nr}")
            channel.reply(slot, number, -errno.EIO)

    def _send_via(self, task: Task, via: Via) -> None:
        channel = task.process.channel
        assert channel is not None
        try:
            channel.send_fds(task.slot, [via.fd])
        except OSError as e:
            channel.reply(task.slot, task.request, -(e.errno or errno.EIO))
            return
        native = (0, [int(via.lossy), 0, 0, 0, 0, 0])
        channel.reply(task.slot, task.request, 0, ch.ACT_VIA, writes=[(0, via.header)], native=native)

    def _install(self, task: Task, install: InstallFd) -> None:
        channel = task.process.channel
        assert channel is not None
        flags = CONSTANTS["FD_CLOEXEC"] if install.cloexec else 0
        if install.ctty:
            flags |= CONSTANTS["FD_CTTY"]
        try:
            st = os.fstat(install.fd)
            known = self.kernel.descriptor_class(st.st_dev, st.st_ino) if stat.S_ISSOCK(st.st_mode) else 0
            if known & CONSTANTS["CLASS_SUPERVISED"]:
                flags |= CONSTANTS["FD_SUPERVISED"] | known << CONSTANTS["FD_CLASS_SHIFT"]
            elif self.kernel.images.is_rewritable(install.fd, st):
                flags |= CONSTANTS["FD_REWRITABLE_FILE"]
            elif install.keep:
                flags |= CONSTANTS["FD_KEEP"]
            channel.send_fds(task.slot, [install.fd], flags)
        except OSError as e:
            channel.reply(task.slot, task.request, -(e.errno or errno.EIO))
            return
        finally:
            install.drop()
        channel.reply(task.slot, task.request, install.keep, ch.ACT_FD)
        if install.then is not None:
            install.then()


def _give_up(task: Task | None) -> None:
    """A thread that asks again does not wait for what it asked before, nor does one that is no more."""
    if task is not None and task.blocked is not None:
        task.blocked.throw(Interrupted(errno.EINTR, "asked again"))


def name_of(task: Task) -> str:
    """For the log: program and pid."""
    return f"{task.process.comm.decode('utf-8', 'replace')}[{task.process.pid}]"
