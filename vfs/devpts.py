"""DevPts: /dev/pts, the pseudoterminals that belong to this world (pts(4)).

Layer: vfs, a filesystem.  May touch: the host's /dev/ptmx and the slaves of the masters that were opened
through here.

A guest's pseudoterminal is the host's own, with the host's number: job control, line discipline and hang-up
are the kernel's.  A number is visible here while its terminal is one that this world made or that the caller
gave it; the host's other terminals are not.  Each is held by an O_PATH descriptor on its node, for the kernel
gives a number to somebody else as soon as it is free, and a node never changes its terminal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from .inode import Inode, OpenContext, SuperBlock, err
from .stat import S_IFCHR, S_IFDIR, S_IFMT, Stat, StatFs, makedev

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .inode import Inode as AnyInode

DEVPTS_SUPER_MAGIC = 0x1CD1  # statfs(2)
_TIOCGPTN = 0x80045430  # number of the slave of a master (ioctl_tty(2))
_UNIX98_MAJORS = range(
    136, 144
)  # UNIX98_PTY_SLAVE_MAJOR and the seven after it (Documentation/admin-guide/devices.txt)
_TTY_GROUP = 5  # the group of terminals on Debian, which mounts devpts with gid=5
_HANG_FREE = os.O_NONBLOCK  # a serial line would wait for its carrier


class Terminal:
    """One terminal of this world: `node`, an O_PATH descriptor on it; owner and mode as the guest sees
    them."""

    __slots__ = ("gid", "mode", "node", "rdev", "uid")

    def __init__(self, node: int, uid: int, gid: int, mode: int) -> None:
        self.node = node
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.rdev = os.fstat(node).st_rdev

    @property
    def alive(self) -> bool:
        """False once its master has been closed: devpts then removes the name."""
        return os.fstat(self.node).st_nlink > 0

    def open(self, flags: int) -> int:
        """A host descriptor on it.  Raises OSError (EIO for a slave that is locked or hung up)."""
        fd = os.open(f"/proc/self/fd/{self.node}", flags | os.O_NOCTTY | os.O_CLOEXEC | _HANG_FREE)
        if not flags & os.O_NONBLOCK:
            os.set_blocking(fd, True)
        return fd

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.node)


class TerminalInode(Inode):
    """The node of a terminal: what the host says of it, with the guest's idea of its owner."""

    __slots__ = ("terminal",)

    forgets = True

    def __init__(self, sb: SuperBlock, terminal: Terminal) -> None:
        st = os.fstat(terminal.node)
        super().__init__(
            sb, st.st_ino, S_IFCHR | terminal.mode, terminal.uid, terminal.gid, rdev=terminal.rdev
        )
        self.terminal = terminal

    def refresh(self) -> None:
        self.mode = S_IFCHR | self.terminal.mode
        self.uid, self.gid = self.terminal.uid, self.terminal.gid

    def getattr(self) -> Stat:
        st = os.fstat(self.terminal.node)
        terminal = self.terminal
        return Stat(
            st.st_dev, st.st_ino, S_IFCHR | terminal.mode, max(st.st_nlink, 1), terminal.uid, terminal.gid,
            st.st_rdev, 0, st.st_blksize, 0, st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns,
        )  # fmt: skip

    def setattr(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
    ) -> None:
        """The owner and the mode of the guest's view; a truncation does nothing, as on every terminal."""
        terminal = self.terminal
        if mode is not None:
            terminal.mode = mode & 0o7777
        if uid is not None:
            terminal.uid = uid
        if gid is not None:
            terminal.gid = gid
        self.refresh()

    def open(self, ctx: OpenContext) -> int:
        return self.terminal.open(ctx.flags)


class _Root(Inode):
    """The directory: a name for each living terminal."""

    __slots__ = ("pts",)

    def __init__(self, pts: DevPts) -> None:
        super().__init__(pts, 1, S_IFDIR | 0o755, nlink=2)
        self.pts = pts

    def lookup(self, name: bytes) -> AnyInode | None:
        if name == b"ptmx":  # what /dev/ptmx is, for those who mount a devpts of their own
            return Inode(self.sb, 2, S_IFCHR | 0o666, rdev=makedev(5, 2))
        if not name.isdigit() or (name[:1] == b"0" and name != b"0"):
            return None
        terminal = self.pts.terminal(int(name))
        return None if terminal is None else TerminalInode(self.sb, terminal)

    def readdir(self) -> list[tuple[bytes, int, int]]:
        return [(b"ptmx", 2, S_IFCHR), *((b"%d" % n, n + 3, S_IFCHR) for n in self.pts.numbers())]


class DevPts(SuperBlock):
    """The terminals of one world."""

    fstype = "devpts"
    magic = DEVPTS_SUPER_MAGIC
    stable = False

    def __init__(self) -> None:
        super().__init__("devpts")
        self._terminals: dict[int, Terminal] = {}
        self.root = _Root(self)

    @property
    def options(self) -> str:
        return f"gid={_TTY_GROUP},mode=620,ptmxmode=666"

    def statfs(self) -> StatFs:
        return StatFs(self.magic, fsid=self.dev)

    def close(self) -> None:
        for terminal in self._terminals.values():
            terminal.close()
        self._terminals.clear()

    def terminal(self, number: int) -> Terminal | None:
        """The living terminal /dev/pts/`number` of this world, or None."""
        terminal = self._terminals.get(number)
        if terminal is None:
            return None
        if not terminal.alive:
            self._terminals.pop(number).close()
            return None
        return terminal

    def numbers(self) -> list[int]:
        """The numbers of the living terminals, in order."""
        return [n for n in sorted(self._terminals) if self.terminal(n) is not None]

    def find(self, rdev: int) -> Terminal | None:
        """A living terminal by its device number."""
        number = number_of(rdev)
        return None if number is None else self.terminal(number)

    def adopt(self, fd: int, uid: int, gid: int = _TTY_GROUP) -> Terminal | None:
        """Make the terminal behind a slave's descriptor part of this world.

        Args:
            fd: a descriptor of the caller's (not taken over).
            uid, gid: whom it shall belong to in the world.

        Returns: the terminal, None if `fd` is no pseudoterminal's slave, or one of another devpts (a
        container's stdio, whose number means something else here).
        """
        st = os.fstat(fd)
        number = number_of(st.st_rdev) if st.st_mode & S_IFMT == S_IFCHR else None
        if number is None:
            return None
        known = self.terminal(number)
        if known is not None and same_node(known.node, st):
            return known
        try:
            node = os.open(f"/dev/pts/{number}", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return None
        if not same_node(node, st):
            os.close(node)
            return None
        if known is not None:
            known.close()
        terminal = self._terminals[number] = Terminal(node, uid, gid, st.st_mode & 0o777)
        return terminal

    def open_master(self, ctx: OpenContext) -> int:
        """Open /dev/ptmx: a new terminal, which belongs to whoever opens it (devpts(5), ptmx_open)."""
        master = os.open("/dev/ptmx", ctx.flags | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]
            node = os.open(f"/dev/pts/{number}", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            os.close(master)
            raise err(errno.EIO) from None
        old = self._terminals.pop(number, None)
        if old is not None:
            old.close()
        self._terminals[number] = Terminal(node, ctx.creds.fsuid, _TTY_GROUP, 0o620)
        return master


def number_of(rdev: int) -> int | None:
    """N of /dev/pts/N from its device number, None for what is no Unix98 slave."""
    major = os.major(rdev)
    if major not in _UNIX98_MAJORS:
        return None
    return (major - _UNIX98_MAJORS.start) * 256 + os.minor(rdev)


def same_node(fd: int, st: os.stat_result) -> bool:
    """Is the object behind `fd` the one that `st` describes?"""
    other = os.fstat(fd)
    return (other.st_dev, other.st_ino, other.st_rdev) == (st.st_dev, st.st_ino, st.st_rdev)
