"""/dev and /dev/pts: the host's devices and terminals, as many of them as belong to the world."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import stat
import struct
from collections.abc import Iterator

import pytest
from procworld import World

from ring3.kernel.task import Task
from ring3.vfs.devfs import wants_ctty
from ring3.vfs.stat import makedev

_TIOCGPTN, _TIOCSPTLCK = 0x80045430, 0x40045431


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def open_fd(world: World, who: object, path: str, flags: int = os.O_RDWR) -> int:
    fd = world.open(who, path, flags)
    assert isinstance(fd, int)
    return fd


def new_terminal(world: World, who: Task, unlock: bool = True) -> tuple[int, int]:
    """(master descriptor, number) of a terminal that `who` made."""
    master = open_fd(world, who, "/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    if unlock:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    return master, struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]


# -- devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["null", "zero", "full", "random", "urandom", "tty", "ptmx"])
def test_nodes_are_the_hosts(world: World, name: str) -> None:
    ours, theirs = world.lookup(world.vfs.local, f"/dev/{name}").getattr(), os.lstat(f"/dev/{name}")
    if stat.S_ISLNK(theirs.st_mode):
        theirs = os.stat(f"/dev/{name}")  # a container's ptmx is a link into its devpts
    assert (oct(ours.mode), ours.rdev) == (oct(theirs.st_mode), theirs.st_rdev)


def test_devices_do_what_they_do(world: World) -> None:
    who = world.sleeper()
    null, zero, full = (open_fd(world, who, f"/dev/{name}") for name in ("null", "zero", "full"))
    assert os.write(null, b"x") == 1 and os.read(null, 5) == b"" and os.read(zero, 3) == bytes(3)
    with pytest.raises(OSError, match="No space left"):
        os.write(full, b"x")
    random = open_fd(world, who, "/dev/urandom", os.O_RDONLY)
    assert os.read(random, 16) != os.read(random, 16)
    for fd in (null, zero, full, random):
        os.close(fd)


def test_what_is_open_is_what_stat_shows(world: World) -> None:
    who = world.sleeper()
    fd = open_fd(world, who, "/dev/null")
    st = os.fstat(fd)
    record = world.vfs.files.get(st.st_dev, st.st_ino)
    assert record is not None and world.vfs.path_name(record.path) == b"/dev/null"
    assert record.inode.ino == world.lookup(who, "/dev/null").ino
    os.close(fd)


def test_the_callers_null_is_the_guests(world: World) -> None:
    """stdin from the host's /dev/null, which no open of the guest's ever handed out."""
    st = os.stat("/dev/null")
    record = world.vfs.files.get(st.st_dev, st.st_ino)
    assert record is not None and world.vfs.path_name(record.path) == b"/dev/null"


def test_a_node_elsewhere_opens_too_and_an_unknown_one_does_not(world: World) -> None:
    who = world.sleeper()
    root = world.vfs.root.inode
    root.mknod(b"zero", stat.S_IFCHR | 0o600, makedev(1, 5), 0, 0)
    root.mknod(b"odd", stat.S_IFCHR | 0o600, makedev(240, 9), 0, 0)
    root.mknod(b"disk", stat.S_IFBLK | 0o600, makedev(8, 0), 0, 0)
    fd = open_fd(world, who, "/zero")
    assert os.read(fd, 2) == bytes(2)
    os.close(fd)
    for name in ("/odd", "/disk"):
        with pytest.raises(OSError) as caught:
            world.open(who, name)
        assert caught.value.errno == errno.ENXIO


def test_links(world: World) -> None:
    who = world.sleeper()
    assert world.readlink(who, "/dev/fd") == "/proc/self/fd"
    assert world.readlink(who, "/dev/stderr") == "/proc/self/fd/2"
    assert "0" in world.names(who, "/dev/fd")


def test_root_may_add_to_dev_and_users_may_not(world: World) -> None:
    root, user = world.sleeper(0), world.sleeper(1000)
    os.close(open_fd(world, root, "/dev/mine", os.O_RDWR | os.O_CREAT))
    with pytest.raises(PermissionError):
        world.open(user, "/dev/theirs", os.O_RDWR | os.O_CREAT)
    os.close(open_fd(world, user, "/dev/shm/ours", os.O_RDWR | os.O_CREAT))


# -- terminals -------------------------------------------------------------------------------------


def test_a_terminal_comes_and_goes_with_its_master(world: World) -> None:
    who = world.sleeper(1000)
    assert world.names(who, "/dev/pts") == ["ptmx"]
    master, number = new_terminal(world, who)
    assert world.names(who, "/dev/pts") == ["ptmx", str(number)]
    st = world.lookup(who, f"/dev/pts/{number}").getattr()
    assert (st.uid, oct(st.mode)) == (1000, oct(stat.S_IFCHR | 0o620))
    slave = open_fd(world, who, f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    native = os.fstat(slave)
    assert (st.dev, st.ino, st.rdev) == (native.st_dev, native.st_ino, native.st_rdev)
    os.write(slave, b"hello\n")
    assert os.read(master, 10) == b"hello\r\n"
    os.close(slave)
    os.close(master)
    assert world.names(who, "/dev/pts") == ["ptmx"]
    with pytest.raises(FileNotFoundError):
        world.lookup(who, f"/dev/pts/{number}")


def test_a_locked_terminal_cannot_be_opened(world: World) -> None:
    who = world.sleeper()
    master, number = new_terminal(world, who, unlock=False)
    with pytest.raises(OSError) as caught:
        world.open(who, f"/dev/pts/{number}", os.O_RDWR)
    assert caught.value.errno == errno.EIO
    os.close(master)


def test_the_hosts_terminals_are_invisible_also_when_a_number_is_used_again(world: World) -> None:
    who = world.sleeper()
    master, number = new_terminal(world, who)
    foreign_master, foreign = pty.openpty()
    try:
        host_number = os.path.basename(os.ttyname(foreign))
        assert host_number not in world.names(who, "/dev/pts")
        with pytest.raises(FileNotFoundError):
            world.open(who, f"/dev/pts/{host_number}")
        os.close(master)
        again, same = pty.openpty()
        try:
            # The kernel hands out the lowest free number, likely ours; whoever has it now is no guest.
            assert os.path.basename(os.ttyname(same)) not in world.names(who, "/dev/pts")
            assert world.names(who, "/dev/pts") == ["ptmx"]
        finally:
            os.close(again)
            os.close(same)
    finally:
        os.close(foreign_master)
        os.close(foreign)


def test_the_owner_may_change_the_mode(world: World) -> None:
    who = world.sleeper(1000)
    master, number = new_terminal(world, who)
    world.lookup(who, f"/dev/pts/{number}").setattr(mode=0o600, gid=7)
    st = world.lookup(who, f"/dev/pts/{number}").getattr()
    assert (st.mode & 0o777, st.gid) == (0o600, 7)
    with pytest.raises(PermissionError):
        world.open(world.sleeper(1001), f"/dev/pts/{number}", os.O_RDWR)
    os.close(master)


def test_the_callers_terminal_is_adopted(world: World) -> None:
    who = world.sleeper(1000)
    master, slave = pty.openpty()
    try:
        world.standard.adopt_tty(slave, 1000)
        world.standard.adopt_tty(slave, 1000)
        with open("/dev/null", "rb") as null:
            world.standard.adopt_tty(null.fileno(), 1000)
        name = os.ttyname(slave)
        assert world.names(who, "/dev/pts") == ["ptmx", os.path.basename(name)]
        st, native = world.lookup(who, name).getattr(), os.fstat(slave)
        assert (st.dev, st.ino, st.rdev, st.uid) == (native.st_dev, native.st_ino, native.st_rdev, 1000)
        os.close(open_fd(world, who, name, os.O_RDWR | os.O_NOCTTY))
    finally:
        os.close(master)
        os.close(slave)
    assert world.names(who, "/dev/pts") == ["ptmx"]


def test_dev_tty_is_the_controlling_terminal(world: World) -> None:
    watcher = world.sleeper()
    master, number = new_terminal(world, watcher)
    slave = open_fd(world, watcher, f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    who, child = world.python(
        f"import os, fcntl, termios\nos.setsid()\nfcntl.ioctl({slave}, termios.TIOCSCTTY, 0)",
        pass_fds=(slave,),
    )
    tty = open_fd(world, who, "/dev/tty")
    assert os.fstat(tty).st_rdev == os.fstat(slave).st_rdev
    os.write(tty, b"x")
    assert os.read(master, 5) == b"x"
    # Opening it must not give the terminal another name: ttyname(3) compares.
    assert world.readlink(who, f"/proc/self/fd/{slave}") == f"/dev/pts/{number}"
    os.close(tty)
    alone, _ = world.python("import os\nos.setsid()")
    for nobody in (alone, world.vfs.local):
        with pytest.raises(OSError) as caught:
            world.open(nobody, "/dev/tty")
        assert caught.value.errno == errno.ENXIO
    os.close(slave)
    os.close(master)


def test_a_foreign_controlling_terminal_is_not_reachable(world: World) -> None:
    master, slave = pty.openpty()
    who, child = world.python(
        f"import os, fcntl, termios\nos.setsid()\nfcntl.ioctl({slave}, termios.TIOCSCTTY, 0)",
        pass_fds=(slave,),
    )
    with pytest.raises(OSError) as caught:
        world.open(who, "/dev/tty")
    assert caught.value.errno == errno.ENXIO
    world.standard.adopt_tty(slave, 0)
    os.close(open_fd(world, who, "/dev/tty"))
    os.close(slave)
    os.close(master)


def test_which_opens_may_give_a_controlling_terminal(world: World) -> None:
    who = world.sleeper()
    master, number = new_terminal(world, who)
    slave = open_fd(world, who, f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    null = open_fd(world, who, "/dev/null")
    assert wants_ctty(slave, os.O_RDWR) and not wants_ctty(slave, os.O_RDWR | os.O_NOCTTY)
    assert not wants_ctty(master, os.O_RDWR) and not wants_ctty(null, os.O_RDWR)
    for fd in (null, slave, master):
        os.close(fd)


def test_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    world = World()
    who = world.sleeper()
    master, _ = new_terminal(world, who)
    other, slave = pty.openpty()
    world.standard.adopt_tty(slave, 0)
    for fd in (master, other, slave):
        os.close(fd)
    world.close()
    assert len(os.listdir("/proc/self/fd")) == before
