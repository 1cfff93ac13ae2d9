"""DevFS: /dev, with the devices that a container has, and the terminals of this world.

Layer: vfs, a filesystem.  May touch: the host's null, zero, full, random and urandom, its ptmx, and the
terminals that devpts.py knows.

It is a MemoryFS that starts with those nodes, so a guest's root may add links, directories and nodes as it
may on Linux's devtmpfs; a node of an unknown device number opens with ENXIO wherever it lies.  The memory
devices are handed
out as the host's own: they have no state that one program could show another, and reads and writes cost
nothing extra.
"""

from __future__ import annotations

import errno
import os

from .devpts import DevPts, Terminal, number_of
from .inode import OpenContext, err
from .memfs import MemDir, MemoryFS, MemSpecial
from .stat import S_IFCHR, S_IFMT, makedev

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .mount import Path
    from .vfs import Driver, Vfs

#: name, major, minor (Documentation/admin-guide/devices.txt)
MEMORY_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9))
LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
         ("stderr", "/proc/self/fd/2"))  # fmt: skip
TTY = makedev(5, 0)
PTMX = makedev(5, 2)
_TTY_GROUP = 5


class DeviceNode(MemSpecial):
    """A device node whose identity stays known for as long as the world lives."""

    __slots__ = ()

    forgets = True

    def is_settled(self) -> bool:
        """Reads and writes leave the times of a device as they are (drivers/char/mem.c)."""
        return True


class TtyNode(DeviceNode):
    """/dev/tty. What it opens is another file, the terminal itself, which keeps its own name."""

    __slots__ = ()

    recorded = False

    def is_settled(self) -> bool:
        return False


class DevFS(MemoryFS):
    """/dev of one world.

    Args:
        pts: the terminals; mount it on `pts` in this filesystem.
    """

    fstype = "devtmpfs"

    def __init__(self, pts: DevPts) -> None:
        super().__init__("devtmpfs", mode=0o755)
        self.pts = pts
        self._vfs: Vfs | None = None
        self._lines: dict[
            int, Terminal
        ] = {}  # the caller's terminals that are no pseudoterminals, by device number
        root = self.root
        assert isinstance(root, MemDir)
        self._top = root
        for name, major, minor in MEMORY_DEVICES:
            self._node(name, makedev(major, minor), 0o666, 0)
        root._add(b"tty", TtyNode(self, S_IFCHR | 0o666, 0, _TTY_GROUP, rdev=TTY))
        self._node("ptmx", PTMX, 0o666, _TTY_GROUP)
        for name, target in LINKS:
            root.symlink(os.fsencode(name), os.fsencode(target), 0, 0)
        root.mkdir(b"pts", 0o755, 0, 0)
        root.mkdir(b"shm", 0o1777, 0, 0)

    def _node(self, name: str, rdev: int, mode: int, gid: int) -> DeviceNode:
        node = DeviceNode(self, S_IFCHR | mode, 0, gid, rdev=rdev)
        self._top._add(os.fsencode(name), node)
        return node

    @property
    def options(self) -> str:
        return "mode=755"

    def close(self) -> None:
        for terminal in self._lines.values():
            terminal.close()
        self._lines.clear()

    def attached(self, vfs: Vfs) -> None:
        """Mounted: device numbers get their drivers, in every filesystem of the world."""
        super().attached(vfs)
        self._vfs = vfs
        for name, major, minor in MEMORY_DEVICES:
            vfs.devices[S_IFCHR, makedev(major, minor)] = _host_device("/dev/" + name)
        vfs.devices[S_IFCHR, TTY] = self._open_tty
        vfs.devices[S_IFCHR, PTMX] = self.pts.open_master

    def identify(self, vfs: Vfs, place: Path) -> None:
        """Make the host's memory devices known as this world's, so that a descriptor which the caller passes
        in (stdin from /dev/null) is the guest's /dev/null to fstat(2) as well.

        Args:
            place: where this filesystem is mounted.
        """
        from .mount import Path

        for name, _, _ in MEMORY_DEVICES:
            try:
                st = os.stat("/dev/" + name)
            except OSError:
                continue
            inode = self._top.entries.get(os.fsencode(name))
            if inode is not None and st.st_rdev == inode.rdev:
                dentry = place.dentry.child(os.fsencode(name), inode)
                vfs.files.add_native(st.st_dev, st.st_ino, Path(place.mount, dentry), inode, False)

    def adopt_tty(self, fd: int, uid: int = 0, gid: int = _TTY_GROUP) -> None:
        """Make the caller's terminal visible in the world, so that ttyname(3) finds it and /dev/tty may open
        it.

        Args:
            fd: a descriptor of the caller's (not taken over); anything that is no terminal is left alone.
            uid, gid: whom it shall belong to in the world: the one who runs the program.
        """
        st = os.fstat(fd)
        if st.st_mode & S_IFMT != S_IFCHR or not os.isatty(fd) or self.pts.adopt(fd, uid, gid) is not None:
            return
        if number_of(st.st_rdev) is not None or st.st_rdev in self._lines:
            return
        try:
            host_name = os.ttyname(fd)
            node = os.open(f"/proc/self/fd/{fd}", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        terminal = self._lines[st.st_rdev] = Terminal(node, uid, gid, st.st_mode & 0o777)
        name = host_name.removeprefix("/dev/")
        if "/" not in name and os.fsencode(name) not in self._top.entries:
            inode = DeviceNode(self, S_IFCHR | terminal.mode, uid, gid, rdev=st.st_rdev)
            self._top._add(os.fsencode(name), inode)
        if self._vfs is not None:
            self._vfs.devices[S_IFCHR, st.st_rdev] = lambda ctx: terminal.open(ctx.flags)

    def _open_tty(self, ctx: OpenContext) -> int:
        """/dev/tty: the controlling terminal of the one who opens, if it is one of this world's (tty(4)).

        Raises: OSError(ENXIO) without one.
        """
        from ..kernel.ends import stat_fields

        task = ctx.task
        if task is None:
            raise err(errno.ENXIO)
        try:
            rdev = int(stat_fields(task.process.proc)[4])  # as new_encode_dev() has it, and so os.makedev(3)
        except OSError:
            rdev = 0
        terminal = (self.pts.find(rdev) or self._lines.get(rdev)) if rdev else None
        if terminal is None:
            raise err(errno.ENXIO)
        return terminal.open(ctx.flags)


def _host_device(path: str) -> Driver:
    """The driver of a device that the host may serve itself."""

    def opened(ctx: OpenContext) -> int:
        return os.open(path, ctx.flags | os.O_NOCTTY | os.O_CLOEXEC)

    return opened


def wants_ctty(fd: int, flags: int) -> bool:
    """May opening this make it the controlling terminal of a session leader without one (open(2), O_NOCTTY)?

    Args:
        fd: the host descriptor that was opened.
        flags: of the guest's open(2).
    """
    if flags & os.O_NOCTTY:
        return False
    st = os.fstat(fd)
    return st.st_mode & S_IFMT == S_IFCHR and st.st_rdev != PTMX and os.isatty(fd)
