"""Local sockets: names in the tree and abstract names, connections, datagrams (unix(7), net/unix/af_unix.c).

Layer: netstack, a family.  May touch: the vfs, for the nodes that paths lead to.
"""

from __future__ import annotations

import errno
import os
from weakref import ref

from .address import AF_UNSPEC, SOCK_STREAM, err, family_of, pack_unix, parse_unix
from .listener import Backlog, peer_message
from .sock import CONNECTED, FRESH, LISTENING, Creds, Sock, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from weakref import ReferenceType

    from ..kernel.task import FdRef, Task
    from .network import Network

_S_IFSOCK, _S_IFMT = 0o140000, 0o170000


def creds_of(t: Task) -> Creds:
    """What SO_PEERCRED tells of a task: pid, uid, gid."""
    return t.process.pid, t.creds.euid, t.creds.egid


def _exists(t: Task, path: bytes) -> bool:
    try:
        t.sandbox.vfs.lookup(t, None, path, False)
    except OSError:
        return False
    return True


class UnixSock(Sock):
    """An AF_UNIX socket.  `name` as address.parse_unix() gives it, b"" while it has none."""

    __slots__ = ("_inode", "_server", "listen_creds", "name", "peer", "peer_name")

    def __init__(self, net: Network, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, family, kind, protocol)
        self.name = b""
        self.peer_name: bytes | None = None
        self.peer: UnixSock | None = None  # of a connected datagram socket
        self.listen_creds: Creds = (0, 0, 0)
        self._inode: tuple[int, int] | None = None
        self._server: ReferenceType[UnixSock] | None = None  # the other side, where this one connected without a name

    # -- names

    def bind(self, t: Task, raw: bytes) -> None:
        name = parse_unix(raw)
        if len(raw) == 2:
            self._autobind()
            return
        if self.name:
            if name[:1] != b"\0" and _exists(t, name):
                raise err(errno.EADDRINUSE)  # the node is made before the socket is looked at
            raise err(errno.EINVAL)
        if name[:1] == b"\0":
            other = self.net.abstract.get((name, self.type))
            if other is not None and not self.net.gone(other):
                raise err(errno.EADDRINUSE)
            self.net.abstract[name, self.type] = self
        else:
            self._bind_path(t, name)
        self._take(name)

    def _take(self, name: bytes) -> None:
        self.name = name
        server = self._server() if self._server is not None else None
        if server is not None:
            server.peer_name = name

    def _autobind(self) -> None:
        """An abstract name of five hexadecimal digits; nothing happens to a socket that has a name."""
        if self.name:
            return
        start = int.from_bytes(os.urandom(4), "little") % (1 << 20)
        for i in range(1 << 20):
            name = b"\0%05x" % ((start + i) % (1 << 20))
            if (name, self.type) not in self.net.abstract:
                self._take(name)
                self.net.abstract[name, self.type] = self
                return
        raise err(errno.ENOSPC)

    def _bind_path(self, t: Task, path: bytes) -> None:
        from ..vfs import dirops

        vfs = t.sandbox.vfs
        try:
            dirops.mknod(vfs, t, None, path, _S_IFSOCK | 0o777, 0)
        except OSError as e:
            if e.errno == errno.EEXIST:
                raise err(errno.EADDRINUSE) from e
            raise
        inode = vfs.lookup(t, None, path, False).inode
        self._inode = (inode.sb.dev, inode.ino)
        self.net.bound_inodes[self._inode] = self

    def _find_address(self, t: Task, raw: bytes) -> UnixSock:
        """`_find` by an address as a program gives it; EINVAL for one without a name (unix_validate_addr())."""
        if len(raw) <= 2:
            raise err(errno.EINVAL)
        return self._find(t, parse_unix(raw))

    def _find(self, t: Task, name: bytes) -> UnixSock:
        """unix_find_other(): who has this name.  Raises ECONNREFUSED, EPROTOTYPE, or what the path walk raises."""
        if name[:1] == b"\0":
            found = self.net.abstract.get((name, self.type))
        else:
            from ..vfs.perm import MAY_WRITE, check

            inode = t.sandbox.vfs.lookup(t, None, name).inode
            check(t.creds, inode, MAY_WRITE)
            found = None
            if inode.mode & _S_IFMT == _S_IFSOCK:
                found = self.net.bound_inodes.get((inode.sb.dev, inode.ino))
            if found is not None and found.type != self.type:
                raise err(errno.EPROTOTYPE)
        if found is None:
            raise err(errno.ECONNREFUSED)
        return found

    def refuse_connect(self, t: Task, raw: bytes) -> None:
        """connect(2) of a socket that has been connected all along, one of a socketpair(2)."""
        if self._find_address(t, raw).state == LISTENING:
            raise err(errno.EISCONN)
        raise err(errno.ECONNREFUSED)

    def sockname(self) -> bytes:
        return pack_unix(self.name)

    def peername(self) -> bytes:
        if self.peer_name is None:
            raise err(errno.ENOTCONN)
        return pack_unix(self.peer_name)

    # -- connections

    def listen(self, t: Task, backlog: int) -> None:
        if not self.connects:
            raise err(errno.EOPNOTSUPP)
        if not self.name or self.state == CONNECTED:
            raise err(errno.EINVAL)
        self.listen_creds = self.peer_creds = creds_of(t)
        self.state = LISTENING
        if self.backlog is None:
            self.backlog = Backlog(self, backlog)
        else:
            self.backlog.resize(backlog)

    def connect(self, t: Task, raw: bytes, fd: FdRef) -> int | Awaitable[int]:
        if not self.connects:
            return self._connect_datagram(t, raw)
        name = parse_unix(raw)
        if not name:
            raise err(errno.EINVAL if len(raw) <= 2 else errno.ECONNREFUSED)
        if self._attempt(t, name):
            return 0
        if fd.nonblock:
            raise err(errno.EAGAIN)
        return self._wait(t, name)

    def _attempt(self, t: Task, name: bytes) -> bool:
        """Connect if the listener's queue has room."""
        other = self._find(t, name)
        if other.state != LISTENING or other.backlog is None:
            raise err(errno.ECONNREFUSED)
        if self.state != FRESH:
            raise err(errno.EISCONN if self.state == CONNECTED else errno.EINVAL)
        if self.end is None:  # closed while the call waited
            raise err(errno.EBADF)
        if not other.backlog.put(peer_message(self.sockname()), self.end):
            return False
        server = other.spawned()
        assert isinstance(server, UnixSock)
        server.ident = identity(self.end.fileno())
        server.name, server.peer_name, server.peer_creds = other.name, self.name, creds_of(t)
        self.peer_name, self.peer_creds = other.name, other.listen_creds
        if not self.name:
            self._server = ref(server)
        self.net.hand_over(self).close()
        self.net.connected(server)
        self.net.connected(self)
        return True

    async def _wait(self, t: Task, name: bytes) -> int:
        while True:
            other = self._find(t, name)
            if other.state != LISTENING or other.backlog is None:
                raise err(errno.ECONNREFUSED)
            await other.backlog.room(self.send_timeout, errno.EAGAIN)
            if self._attempt(t, name):
                return 0

    # -- datagrams

    def _connect_datagram(self, t: Task, raw: bytes) -> int:
        if family_of(raw) == AF_UNSPEC:
            self.peer = self.peer_name = None
            self.state = FRESH
            return 0
        other = self._find_address(t, raw)
        if other.peer is not None and other.peer is not self:
            raise err(errno.EPERM)
        self.peer, self.peer_name = other, other.name
        self.state = CONNECTED
        return 0

    def route(self, t: Task, raw: bytes | None, size: int) -> tuple[Sock, bytes, bytes]:
        if self.shut & 2:
            raise err(errno.EPIPE)
        if raw is not None:
            other = self._find_address(t, raw)
        elif self.peer is None:
            raise err(errno.ENOTCONN)
        elif self.peer.end is None or self.net.gone(self.peer):
            self.peer = self.peer_name = None
            self.state = FRESH
            raise err(errno.ECONNREFUSED)
        else:
            other = self.peer
        if other.peer is not None and other.peer is not self:
            raise err(errno.EPERM)
        if other.shut & 1:
            raise err(errno.EPIPE)
        return other, pack_unix(self.name) if self.name else b"", b""

    def check_stream_connected(self, sending: bool, flags: int = 0) -> None:
        if sending or self.type != SOCK_STREAM:
            raise err(errno.ENOTCONN)
        raise err(errno.EINVAL)  # unix_stream_read_generic()

    def released(self) -> None:
        super().released()
        if self.name[:1] == b"\0" and self.net.abstract.get((self.name, self.type)) is self:
            del self.net.abstract[self.name, self.type]
        if self._inode is not None and self.net.bound_inodes.get(self._inode) is self:
            del self.net.bound_inodes[self._inode]
