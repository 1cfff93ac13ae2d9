"""``ring3 run -t``: a new terminal for the guest, relayed to the caller's.

Part of: ring3 (the front door). May touch: the caller's terminal, which it puts into raw mode and back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import termios
import threading
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .sandbox import Sandbox

_CHUNK = 16384


def run_on_terminal(
    box: Sandbox, command: list[str], *, interactive: bool, ignored: int, timeout: float | None = None
) -> int:
    """Run ``command`` in a new session on a new pseudo-terminal; return the exit status.

    With ``interactive``, what is typed (or comes from standard input) goes to the guest; its end becomes an
    end-of-file character. Without, the guest's terminal gets no input.
    """
    from .run_command import exit_status, wait_and_pass_signals

    master, slave = os.openpty()
    os.set_inheritable(master, False)
    try:
        _copy_size(master)
        child = box.spawn(command, (slave, slave, slave), ignored=ignored, new_session=True, ctty=True)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    raw = _raw_mode() if interactive else None
    wake_read, wake_write = os.pipe()
    relay = threading.Thread(target=_relay, args=(master, wake_read, interactive), daemon=True)
    relay.start()
    try:
        status = wait_and_pass_signals(child, on_winch=lambda: _copy_size(master), timeout=timeout)
    finally:
        os.close(wake_write)
        relay.join()
        if raw is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, raw)
        os.close(wake_read)
        os.close(master)
    return exit_status(status)


def _raw_mode() -> list[Any] | None:
    """Put standard input into raw mode if it is a terminal; return what to restore."""
    try:
        before = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSADRAIN)
        return before
    except termios.error:
        return None


def _copy_size(master: int) -> None:
    for fd in (0, 1, 2):
        try:
            size = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(master, termios.TIOCSWINSZ, size)
            return
        except OSError:
            continue


def _relay(master: int, wake: int, interactive: bool) -> None:
    """Move bytes both ways until ``wake`` hangs up and the guest's last output is out.

    Terminals are not non-blocking: a reader of ours that stops reading stops the guest, as it should.
    """
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(wake, select.POLLIN)
    if interactive:
        poll.register(0, select.POLLIN)
    ended = False
    while True:
        events = dict(poll.poll(0 if ended else None))
        if wake in events and not ended:
            ended = True
            poll.unregister(wake)
            continue
        if master in events and not _copy_output(master):
            return
        if 0 in events and not _copy_input(master):
            poll.unregister(0)
        if ended and master not in events:
            return


def _copy_output(master: int) -> bool:
    try:
        data = os.read(master, _CHUNK)
    except OSError as e:
        if e.errno == errno.EIO:  # no process has the terminal open any more
            return False
        raise
    return bool(data) and _write_all(1, data)


def _copy_input(master: int) -> bool:
    try:
        data = os.read(0, _CHUNK)
    except OSError:
        data = b""
    if not data:
        # The end of our input is the end-of-file character of a terminal (VEOF, by default Ctrl-D).
        _write_all(master, b"\x04")
        return False
    return _write_all(master, data)


def _write_all(fd: int, data: bytes) -> bool:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BlockingIOError:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.poll()
        return _write_all(fd, data)
    except OSError:
        # Our reader is gone: a terminal that loses its other side hangs up.
        os.kill(os.getpid(), signal.SIGHUP)
        return False
    return True
