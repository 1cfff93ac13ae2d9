"""The registry of system call handlers, and what a handler may answer.

Layer: the pretend kernel; every kernel/sys_*.py registers here.  May touch: nothing.

A handler is a plain function `handler(task, *arguments)`; its arguments follow the call's line in kernel/table.py.  It
returns a Result or raises OSError.
"""

from __future__ import annotations

import os

from .layout import CONSTANTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any, TypeAlias

    Result: TypeAlias = (
        "int | Out | InstallFd | DirectoryOpened | ToBeReal | KillList | Exec | NativeResult | NetCall | Via |"
        "Awaitable[Any]"
    )

#: What Linux uses inside for "restart after the signal, if its handler says so" (include/linux/errno.h).
ERESTARTSYS = 512


class NativeResult:
    """Let the host kernel do the call exactly as the guest made it (with other arguments, if `args` is given).

    `flags`: ACT_* flags of kernel/layout.py that come with the answer.
    """

    __slots__ = ("args", "flags", "nr")

    def __init__(self, nr: int | None = None, args: Sequence[int] | None = None, flags: int = 0) -> None:
        self.nr = nr
        self.args = args
        self.flags = flags


NATIVE = NativeResult()
#: the same, and the descriptor is the host kernel's from now on (a socket that is connected)
NATIVE_FD = NativeResult(flags=CONSTANTS["ACT_NATIVE_FD"])


class Out:
    """A return value and guest memory to write: [(address, bytes), ...].  The core writes it; EFAULT if it cannot."""

    __slots__ = ("creds", "flags", "ret", "writes")

    def __init__(
        self, ret: int, writes: Sequence[tuple[int, bytes]] = (), creds: bool = False, flags: int = 0
    ) -> None:
        self.ret = ret
        self.writes = writes
        self.flags = flags  # ACT_* flags of kernel/layout.py
        self.creds = creds  # the task's uids or gids changed: tell the core


class InstallFd:
    """The guest gets a copy of the supervisor's descriptor `fd` at its lowest free number.

    `cloexec` as O_CLOEXEC; `ctty`: make it the controlling terminal, if the guest leads a session without one; `close`:
    the supervisor's copy is closed when it is sent; `then(...)` runs afterwards. `keep`: the epoch of the answers in
    which the core may keep it when the guest closes it (kernel/kept.py); 0: it may not.
    """

    __slots__ = ("close", "cloexec", "ctty", "fd", "keep", "then")

    def __init__(
        self,
        fd: int,
        cloexec: bool = False,
        ctty: bool = False,
        close: bool = True,
        then: Callable[[], None] | None = None,
    ) -> None:
        self.fd = fd
        self.cloexec = cloexec
        self.ctty = ctty
        self.close = close
        self.then = then
        self.keep = 0

    def drop(self) -> None:
        """The guest will not take it."""
        if self.close and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class KillList:
    """kill(2) for each of these processes, done by the guest itself so that si_pid is its own."""

    __slots__ = ("pids",)

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids


class NetCall:
    """The core does the call itself (core_native/net.c): it takes a connection, or a datagram, from the pair."""

    __slots__ = ("descriptor_class",)

    def __init__(self, descriptor_class: int) -> None:
        self.descriptor_class = descriptor_class


class Via:
    """A datagram: the guest sends it itself, with `header` before it, over the supervisor's descriptor `fd`.

    `lossy`: a full queue drops it silently, as a network does.
    """

    __slots__ = ("fd", "header", "lossy")

    def __init__(self, fd: int, header: bytes, lossy: bool) -> None:
        self.fd, self.header, self.lossy = fd, header, lossy


class DirectoryOpened:
    """open(2) of the directory `number` (kernel/directories.py): the core makes the descriptor."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class ToBeReal:
    """The directory that the call is about has to be opened first (REQ_DIR); then the call is made again."""

    __slots__ = ()


class Exec:
    """execve(2) may go on: the core executes itself and asks for the plan.  `ahead`: which is sent before that."""

    __slots__ = ("ahead",)

    def __init__(self, ahead: bool) -> None:
        self.ahead = ahead


HANDLERS: dict[str, Callable[..., Any]] = {}
#: what answers instead when the call's lane is not SUP and it names a socket of the network (kernel/sys_sockio.py)
SOCKET_HANDLERS: dict[str, Callable[..., Any]] = {}


def socket_call(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a handler for the calls `names` on a socket that is not the host kernel's alone."""

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            SOCKET_HANDLERS[name] = handler
        return handler

    return register


def syscall(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a handler for the calls `names`.  Raises KeyError for a name that the table does not have."""
    from .table import BY_NAME

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            if name not in BY_NAME:
                raise KeyError(f"no system call named {name!r} in kernel/table.py")
            if name in HANDLERS:
                raise KeyError(f"{name} has two handlers")
            HANDLERS[name] = handler
        return handler

    return register
