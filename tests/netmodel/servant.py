"""Does socket calls in several processes, one after the other, and tells how each ended.

Layer: tests. Runs natively, in a network namespace of its own, and in a guest; touches sockets, and a directory that it
makes and removes. Reads steps from its standard input, `SLOT CALL ARGUMENT...`, and answers each with a line; after
`end` it answers "end", and the next sequence begins with new processes and other ports.

A process has its sockets by number, all of them non-blocking. Ports and names that the system picked are shown as the
how-many-th they were (`e0`, `e1`, ...), and steps may name them so; p0 to p2 are three ports of the sequence's own.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import select
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable

SLOTS = 3
FIRST_PORT = 10000
UNUSED_PORT = 9
LIMIT = 12  # sockets of a process
Table = dict[int, socket.socket]

FAMILIES = {"4": socket.AF_INET, "6": socket.AF_INET6, "u": socket.AF_UNIX}
KINDS = {"s": socket.SOCK_STREAM, "d": socket.SOCK_DGRAM, "q": socket.SOCK_SEQPACKET}


def address(word: str) -> object:
    """`4/127.0.0.1/80`, `6/::1/80`, `u/path`, `u/@name`, `u/` (no name at all)."""
    kind, _, rest = word.partition("/")
    if kind == "u":
        return "\0" + rest[1:] if rest.startswith("@") else rest
    host, _, port = rest.partition("/")
    return (host, int(port)) if kind == "4" else (host, int(port), 0, 0)


def show(where: object) -> str:
    """An address; what the system may have picked in angle brackets."""
    if isinstance(where, bytes):  # an abstract name
        return "@" + re.sub(r"^([0-9a-f]{5})$", r"<x\1>", where[1:].decode())
    if isinstance(where, tuple):
        return f"{where[0]}/<{where[1]}>" + "".join(f"/{n}" for n in where[2:])
    return repr(where)


def payload(size: int) -> bytes:
    return bytes(97 + i * 7 % 26 for i in range(size))


def received(s: socket.socket, data: bytes, flags: str) -> str:
    """What a receiving call gave; TCP leaves the buffer as it was with MSG_TRUNC."""
    if int(flags) & socket.MSG_TRUNC and s.type == socket.SOCK_STREAM and s.family != socket.AF_UNIX:
        return str(len(data))
    return digest(data)


def sender(s: socket.socket, where: object) -> str:
    """The address that came with something; connected local sockets tell none in a guest (docs/network.md)."""
    return "-" if s.family == socket.AF_UNIX and s.type != socket.SOCK_DGRAM else show(where)


def digest(data: bytes) -> str:
    """Short data itself, long data by its length and ends."""
    return data.decode() if len(data) < 20 else f"{len(data)}:{data[:3].decode()}..{data[-3:].decode()}"


def settled(s: socket.socket) -> bool:
    """Whether readiness is comparable: in a guest a stream socket that was not connected yet polls without POLLHUP, one
    whose connect failed without POLLERR and POLLHUP (docs/network.md, What differs from Linux)."""
    if s.type == socket.SOCK_DGRAM or s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return True
    try:
        s.getpeername()
        return True
    except OSError:
        return False


def one_of_a_pair(s: socket.socket) -> bool:
    """Whether it comes from socketpair(2): in a guest these have no names but the empty one (docs/network.md)."""
    try:
        return s.family == socket.AF_UNIX and not s.getsockname() and not s.getpeername()
    except OSError:
        return False


def ready(s: socket.socket, events: int) -> int:
    """Events as both sides tell them: an error that waits on a UDP socket is something to read in a guest, the end of a
    TCP connection is POLLHUP when one side has closed."""
    if s.type == socket.SOCK_DGRAM and events & select.POLLERR:
        events = events & ~select.POLLERR | select.POLLIN
    if s.type == socket.SOCK_STREAM and s.family != socket.AF_UNIX:
        events &= ~select.POLLHUP
    return events if settled(s) else events & select.POLLOUT


def hear(s: socket.socket) -> None:
    """Take an ECONNREFUSED that waits on a UDP socket: in a guest only receiving calls tell it (docs/network.md)."""
    s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    try:
        s.recv(1, socket.MSG_PEEK)
    except OSError:
        pass


def over(s: socket.socket) -> bool:
    """Whether it had a TCP connection, which has ended: natively its port is free then, and bind(2) gives another."""
    if s.type != socket.SOCK_STREAM or s.family == socket.AF_UNIX or settled(s):
        return False
    try:
        s.recv(1, socket.MSG_PEEK)
        return True
    except OSError as exc:
        return exc.errno in (errno.ECONNRESET, errno.EPIPE)


class Process:
    """One of the processes: its sockets, its epoll instance, and the calls."""

    def __init__(self) -> None:
        self.sockets: Table = {}
        self.epoll: select.epoll | None = None

    def add(self, made: socket.socket) -> int:
        made.setblocking(False)
        number = next(n for n in range(1000) if n not in self.sockets)
        self.sockets[number] = made
        if number >= LIMIT:
            self.sockets.pop(number).close()
        return number

    def do(self, call: str, words: list[str]) -> str:
        """The answer to a step."""
        method: Callable[..., object] = getattr(self, "do_" + call)
        arguments: list[object] = list(words)
        if call not in ("socket", "socketpair", "conversation", "unlink", "pollall", "wait"):
            found = self.sockets.get(int(words[0]))
            if found is None:
                return "-"
            arguments[0] = found
            if call in ("bind", "sendto", "connect") and one_of_a_pair(found):
                return "-"
            if call.startswith("recv") and found.type == socket.SOCK_DGRAM and int(words[2]) & socket.MSG_OOB:
                return "-"  # refused for local sockets, ignored for UDP, which is a local one in a guest
            if call in ("send", "sendto", "pass", "get") and found.type == socket.SOCK_DGRAM:
                hear(found)
        try:
            return str(method(*arguments))
        except OSError as exc:
            return f"E{exc.errno}"
        except Exception as exc:
            return repr(exc)

    def do_socket(self, family: str, kind: str) -> int:
        return self.add(socket.socket(FAMILIES[family], KINDS[kind]))

    def do_socketpair(self, kind: str) -> str:
        return " ".join(str(self.add(made)) for made in socket.socketpair(socket.AF_UNIX, KINDS[kind]))

    def do_conversation(self, family: str) -> str:
        """A connection all at once, so that sequences have some: the client's number, the server's, their addresses."""
        with socket.socket(FAMILIES[family], KINDS["s"]) as listener:
            listener.bind({"4": ("127.0.0.1", 0), "6": ("::1", 0), "u": ""}[family])
            listener.listen()
            client = socket.socket(FAMILIES[family], KINDS["s"])
            client.connect(listener.getsockname())
            server, where = listener.accept()
        numbers = f"{self.add(client)} {self.add(server)}"
        return f"{numbers} {show(where)} {show(server.getsockname())}"

    def do_bind(self, s: socket.socket, where: str) -> str:
        if over(s):
            return "-"
        s.bind(address(where))  # type: ignore[arg-type]
        return show(s.getsockname())

    def do_listen(self, s: socket.socket, backlog: str) -> None:
        s.listen(int(backlog))

    def do_connect(self, s: socket.socket, where: str) -> None:
        s.connect(address(where))  # type: ignore[arg-type]

    def do_accept(self, s: socket.socket) -> str:
        made, where = s.accept()
        return f"{self.add(made)} {show(where)}"

    def do_send(self, s: socket.socket, size: str, flags: str) -> int:
        return s.send(payload(int(size)), int(flags) | socket.MSG_NOSIGNAL)

    def do_sendto(self, s: socket.socket, size: str, flags: str, where: str) -> int:
        return s.sendto(payload(int(size)), int(flags) | socket.MSG_NOSIGNAL, address(where))  # type: ignore[arg-type]

    def do_pass(self, s: socket.socket, size: str, which: str) -> str:
        given = self.sockets.get(int(which))
        if given is None:
            return "-"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [given.fileno()]))]
        return str(s.sendmsg([payload(int(size))], rights, socket.MSG_NOSIGNAL))

    def do_recv(self, s: socket.socket, size: str, flags: str) -> str:
        return received(s, s.recv(int(size), int(flags)), flags)

    def do_recvfrom(self, s: socket.socket, size: str, flags: str) -> str:
        data, where = s.recvfrom(int(size), int(flags))
        return f"{received(s, data, flags)} {sender(s, where)}"

    def do_recvmsg(self, s: socket.socket, size: str, flags: str) -> str:
        room = socket.CMSG_SPACE(4)
        data, control, told, where = s.recvmsg(int(size), room, int(flags))
        made = []
        for level, kind, raw in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                for (fd,) in struct.iter_unpack("i", raw[: len(raw) // 4 * 4]):
                    made.append(str(self.add(socket.socket(fileno=fd))))
            else:
                made.append(f"{level}.{kind}:{raw.hex()}")
        return f"{received(s, data, flags)} {sender(s, where)} {told & ~socket.MSG_CMSG_CLOEXEC:#x} [{' '.join(made)}]"

    def do_shutdown(self, s: socket.socket, how: str) -> str | None:
        if s.type == socket.SOCK_DGRAM and how in "02":
            return "-"  # POLLHUP, and errors that come later: the same page
        if s.type == socket.SOCK_STREAM and s.family != socket.AF_UNIX and how in "02" and settled(s):
            return "-"  # what comes in after that: the same page
        s.shutdown(int(how))
        return None

    def do_close(self, s: socket.socket) -> None:
        if self.epoll is not None:  # one of a dup may be left, and would be reported until it goes too
            try:
                self.epoll.unregister(s)
            except OSError:
                pass
        del self.sockets[next(n for n, other in self.sockets.items() if other is s)]
        s.close()

    def do_dup(self, s: socket.socket) -> int:
        return self.add(s.dup())

    def do_name(self, s: socket.socket) -> str:
        return show(s.getsockname())

    def do_peer(self, s: socket.socket) -> str:
        return show(s.getpeername())

    def do_get(self, s: socket.socket, level: str, name: str, size: str) -> str:
        return s.getsockopt(int(level), int(name), int(size)).hex()

    def do_set(self, s: socket.socket, level: str, name: str, value: str) -> None:
        s.setsockopt(int(level), int(name), bytes.fromhex(value))

    def do_ioctl(self, s: socket.socket, request: str) -> int:
        room = bytearray(4)
        fcntl.ioctl(s, int(request, 0), room)
        return int(struct.unpack("i", room)[0])

    def do_poll(self, s: socket.socket) -> str:
        poller = select.poll()
        poller.register(s, 0xFF | select.POLLRDHUP)
        return "".join(f"{ready(s, events):#x}" for _, events in poller.poll(0))

    def do_pollall(self) -> str:
        poller = select.poll()
        numbers = {s.fileno(): (n, s) for n, s in self.sockets.items()}
        for s in filter(settled, self.sockets.values()):
            poller.register(s, select.POLLIN | select.POLLOUT)
        found = sorted((*numbers[fd], events) for fd, events in poller.poll(0))
        return " ".join(f"{n}:{ready(s, events):#x}" for n, s, events in found)

    def do_watch(self, s: socket.socket, operation: str, events: str) -> str | None:
        if not settled(s):
            return "-"
        if self.epoll is None:
            self.epoll = select.epoll()
        if operation == "del":
            self.epoll.unregister(s)
        elif operation == "mod":
            self.epoll.modify(s, int(events, 0))
        else:
            self.epoll.register(s, int(events, 0))
        return None

    def do_wait(self) -> str:
        if self.epoll is None:
            return "-"
        numbers = {s.fileno(): (n, s) for n, s in self.sockets.items()}
        told = self.epoll.poll(0)
        found = sorted((*numbers[fd], events) for fd, events in told if fd in numbers)
        gone = [f"{events:#x}" for fd, events in told if fd not in numbers]
        return " ".join([f"{n}:{ready(s, events):#x}" for n, s, events in found] + gone)

    def do_unlink(self, path: str) -> None:
        os.unlink(path)

    def leave(self) -> None:
        """Ends all sockets, so that they are gone when the answer is read."""
        if self.epoll is not None:
            self.epoll.close()
        for s in self.sockets.values():
            s.close()


class Slots:
    """The processes of one sequence, each behind a pipe for steps and one for answers."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.seen: dict[str, int] = {}
        self.steps = [os.pipe() for _ in range(SLOTS)]
        self.answers = [os.pipe() for _ in range(SLOTS)]
        for slot in range(SLOTS):
            if os.fork() == 0:
                self.serve(slot, Process())

    def serve(self, slot: int, process: Process) -> None:
        """In a process: answers until it is told to leave, or the first process is gone."""
        for fd in (*(pair[1] for pair in self.steps), *(pair[0] for pair in self.answers)):
            os.close(fd)
        steps = os.fdopen(self.steps[slot][0], "rb", 0, closefd=False)
        while True:
            call, *words = steps.readline().decode().rstrip("\n").split(" ")
            answer = "None"
            if call in ("leave", ""):
                process.leave()
            elif call == "fork":
                if os.fork() == 0:
                    slot = int(words[0])
                    steps = os.fdopen(self.steps[slot][0], "rb", 0, closefd=False)
                    if process.epoll is not None:  # shared with the other; none of the model's business
                        process.epoll.close()
                        process.epoll = None
                    continue
            else:
                answer = process.do(call, words)
            os.write(self.answers[slot][1], answer.encode() + b"\n")
            if call in ("leave", ""):
                os._exit(0)

    def tell(self, slot: int, line: str) -> str:
        """One step of one process, and its answer."""
        os.write(self.steps[slot][1], line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += os.read(self.answers[slot][0], 1 << 16)
        return answer[:-1].decode()

    def number(self, match: re.Match[str]) -> str:
        """What the system picked becomes the how-many-th it was."""
        word = match[1]
        if word.isdigit() and len(word) < 6:
            port = int(word)
            if port in (0, UNUSED_PORT):
                return word
            if 0 <= port - self.base < 3:
                return f"p{port - self.base}"
        return f"e{self.seen.setdefault(word, len(self.seen))}"

    def named(self, match: re.Match[str]) -> str:
        """p0 or e0 in a step."""
        if match[1] == "p":
            return f"/{self.base + int(match[2])}"
        ports = [word for word in self.seen if len(word) < 6 and word.isdigit()]
        return f"/{ports[int(match[2])] if int(match[2]) < len(ports) else UNUSED_PORT}"

    def step(self, line: str) -> str:
        slot, what = line.split(" ", 1)
        if what.startswith("fork "):
            self.tell(int(what[5:]), "leave")
        answer = self.tell(int(slot), re.sub(r"/([pe])(\d)\b", self.named, what))
        return re.sub(r"<(\w+)>", self.number, answer)

    def close(self) -> None:
        for slot in range(SLOTS):
            self.tell(slot, "leave")
        for pair in (*self.steps, *self.answers):
            for fd in pair:
                os.close(fd)


def loopback_up() -> None:
    """lo of a new network namespace (netdevice(7): SIOCSIFFLAGS, IFF_UP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))


def main() -> None:
    if "--loopback" in sys.argv:
        loopback_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    base = FIRST_PORT
    with tempfile.TemporaryDirectory() as where:
        os.chdir(where)
        print("ready", flush=True)
        slots: Slots | None = None
        for line in sys.stdin:
            slots = slots or Slots(base)
            if line == "end\n":
                slots.close()
                slots = None
                base = base + 3 if base < 30000 else FIRST_PORT
                for name in os.listdir():
                    os.unlink(name)
                print("end", flush=True)
            else:
                print(slots.step(line.rstrip("\n")), flush=True)
        os.chdir("/")


main()
