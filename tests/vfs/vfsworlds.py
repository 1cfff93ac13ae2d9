"""Two worlds with one interface: the host's tmpfs through the os module, and a filesystem of ours through the
vfs.

Layer: tests. A test makes the same calls in both and compares results, errnos and trees: Linux is the oracle.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ring3.vfs import attrops, dirops
from ring3.vfs.cowfs import CowFS
from ring3.vfs.hostfs import HostFS
from ring3.vfs.inode import SuperBlock
from ring3.vfs.memfs import MemoryFS
from ring3.vfs.openfile import OpenDir, OpenFile, OpenPath
from ring3.vfs.overlayfs import OverlayFS
from ring3.vfs.perm import SimpleCreds
from ring3.vfs.vfs import LocalCaller, LocalFs, Vfs

Outcome = tuple[str, Any]  # ("ok", value) or ("error", errno's name)


def limited(**options: int | str) -> MemoryFS:
    """A memory filesystem with a size; the test is skipped where the host lets nobody have one."""
    try:
        return MemoryFS(mode=0o755, **options)  # type: ignore[arg-type]
    except OSError as e:
        pytest.skip(str(e))


def shared_memory_dir() -> str:
    """A fresh directory on tmpfs where the host has one (its rules are the reference), else anywhere."""
    usable = os.access("/dev/shm", os.W_OK) and (os.geteuid() != 0 or os.stat("/dev/shm").st_mode & 0o1)
    base = "/dev/shm" if usable else None
    return tempfile.mkdtemp(prefix="ring3-test-", dir=base)


def remove_tree(path: str) -> None:
    """Remove a tree in which directories may be closed to us."""
    os.chmod(path, 0o755)
    for folder, dirs, _ in os.walk(path):
        for name in dirs:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o755)
    shutil.rmtree(path)


class World:
    """Calls on names below one directory; `call` turns their end into an Outcome. `uid` None: as the test
    runs."""

    def call(self, name: str, *arguments: Any, uid: int | None = None) -> Outcome:
        try:
            value = self.as_user(uid, lambda: getattr(self, name)(*arguments))
        except OSError as e:
            return "error", errno.errorcode[e.errno or 0]
        return "ok", value

    def as_user(self, uid: int | None, work: Callable[[], Any]) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class NativeWorld(World):
    """The host itself."""

    def __init__(self) -> None:
        self.top = os.fsencode(shared_memory_dir())
        os.chmod(self.top, 0o755)
        self.base = self.top + b"/t"
        os.mkdir(self.base, 0o755)
        self.old_umask = os.umask(0o22)

    def close(self) -> None:
        os.umask(self.old_umask)
        remove_tree(os.fsdecode(self.top))

    def as_user(self, uid: int | None, work: Callable[[], Any]) -> Any:
        if uid is None:
            return work()
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(uid)
        os.seteuid(uid)
        try:
            return work()
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    def at(self, name: bytes) -> bytes:
        return self.base + b"/" + name

    def mkdir(self, name: bytes, mode: int = 0o777) -> None:
        os.mkdir(self.at(name), mode)

    def rmdir(self, name: bytes) -> None:
        os.rmdir(self.at(name))

    def unlink(self, name: bytes) -> None:
        os.unlink(self.at(name))

    def symlink(self, target: bytes, name: bytes) -> None:
        os.symlink(target, self.at(name))

    def link(self, old: bytes, new: bytes) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(-100, self.at(old), -100, self.at(new), flags) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")

    def mkfifo(self, name: bytes) -> None:
        os.mkfifo(self.at(name), 0o644)

    def mksock(self, name: bytes) -> None:
        os.mknod(self.at(name), stat.S_IFSOCK | 0o755)

    def readlink(self, name: bytes) -> bytes:
        return os.readlink(self.at(name))

    def stat(self, name: bytes, follow: bool = True) -> tuple[Any, ...]:
        st = os.stat(self.at(name), follow_symlinks=follow)
        return (
            st.st_mode,
            st.st_nlink,
            st.st_uid,
            st.st_gid,
            None if stat.S_ISDIR(st.st_mode) else st.st_size,
        )

    def chmod(self, name: bytes, mode: int) -> None:
        os.chmod(self.at(name), mode)

    def chown(self, name: bytes, uid: int, gid: int, follow: bool = True) -> None:
        os.chown(self.at(name), uid, gid, follow_symlinks=follow)

    def utime(self, name: bytes, atime: int, mtime: int) -> tuple[int, int]:
        os.utime(self.at(name), ns=(atime, mtime))
        st = os.stat(self.at(name))
        return st.st_atime_ns, st.st_mtime_ns

    def touch(self, name: bytes) -> None:
        os.utime(self.at(name))

    def truncate(self, name: bytes, size: int) -> None:
        os.truncate(self.at(name), size)

    def access(self, name: bytes, mask: int) -> None:
        if not os.access(self.at(name), mask, effective_ids=True):
            raise OSError(self._access_errno(name, mask), "")

    def _access_errno(self, name: bytes, mask: int) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.faccessat(-100, self.at(name), mask, 0x200)
        return ctypes.get_errno()

    def write(self, name: bytes, flags: int, mode: int, data: bytes) -> int:
        """open, write, close"""
        fd = os.open(self.at(name), flags, mode)
        try:
            return os.write(fd, data)
        finally:
            os.close(fd)

    def read(self, name: bytes, flags: int = 0) -> bytes:
        fd = os.open(self.at(name), flags | os.O_NONBLOCK)
        try:
            return os.read(fd, 1 << 20)
        finally:
            os.close(fd)

    def list(self, name: bytes) -> list[bytes]:
        return sorted(os.listdir(self.at(name)))

    def setxattr(self, name: bytes, key: bytes, value: bytes, flags: int) -> None:
        os.setxattr(self.at(name), key, value, flags)

    def getxattr(self, name: bytes, key: bytes) -> bytes:
        return os.getxattr(self.at(name), key)

    def listxattr(self, name: bytes) -> list[str]:
        return sorted(n for n in os.listxattr(self.at(name)) if not n.startswith("security."))

    def removexattr(self, name: bytes, key: bytes) -> None:
        os.removexattr(self.at(name), key)


class JailedWorld(World):
    """The host's tmpfs in a child process that is confined to the directory by chroot(2), so that random
    paths with ".." and symlinks reach nothing else. Needs root."""

    def __init__(self) -> None:
        self.native = NativeWorld()
        self.base = self.native.base
        ask_r, ask_w = os.pipe()
        answer_r, answer_w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ask_w)
            os.close(answer_r)
            self._serve(ask_r, answer_w)
        os.close(ask_r)
        os.close(answer_w)
        self.ask, self.answer = os.fdopen(ask_w, "wb"), os.fdopen(answer_r, "rb")

    def _serve(self, ask: int, answer: int) -> NoReturn:
        try:
            os.chroot(self.native.top)
            os.chdir("/")
            self.native.base = b"/t"
            with os.fdopen(ask, "rb") as requests, os.fdopen(answer, "wb") as answers:
                while True:
                    name, arguments, uid = pickle.load(requests)
                    reply = (
                        tree(self.native) if name == "tree" else self.native.call(name, *arguments, uid=uid)
                    )
                    pickle.dump(reply, answers)
                    answers.flush()
        except EOFError:
            os._exit(0)
        finally:
            os._exit(1)

    def call(self, name: str, *arguments: Any, uid: int | None = None) -> Any:
        pickle.dump((name, arguments, uid), self.ask)
        self.ask.flush()
        return pickle.load(self.answer)

    def close(self) -> None:
        self.ask.close()
        self.answer.close()
        os.waitpid(self.pid, 0)
        self.native.close()


class VfsWorld(World):
    """A filesystem of ours, mounted below the root of a world in memory."""

    def __init__(self, filesystem: SuperBlock, cleanup: Callable[[], None] = lambda: None) -> None:
        self.vfs = Vfs(MemoryFS(mode=0o755))
        self.filesystem = filesystem
        self.cleanup = cleanup
        dirops.mkdir(self.vfs, self.vfs.local, None, b"/w", 0o755)
        self.vfs.mount(filesystem, b"/w")
        self.root = self.vfs.lookup(self.vfs.local, None, b"/w")  # the callers' root, as in JailedWorld
        self.who = self.caller(None)
        if filesystem.root.lookup(b"t") is None:
            dirops.mkdir(self.vfs, self.who, None, b"/t", 0o755)

    def caller(self, uid: int | None) -> LocalCaller:
        creds = (
            SimpleCreds(os.geteuid(), os.getegid(), tuple(os.getgroups()))
            if uid is None
            else SimpleCreds(uid, uid)
        )
        return LocalCaller(LocalFs(self.root, umask=0o22), creds)

    def close(self) -> None:
        self.vfs.close()
        self.cleanup()

    def as_user(self, uid: int | None, work: Callable[[], Any]) -> Any:
        self.who = self.caller(uid)
        return work()

    def at(self, name: bytes) -> bytes:
        return b"/t/" + name

    def place(self, name: bytes, follow: bool = True) -> Any:
        return self.vfs.lookup(self.who, None, self.at(name), follow)

    def mkdir(self, name: bytes, mode: int = 0o777) -> None:
        dirops.mkdir(self.vfs, self.who, None, self.at(name), mode)

    def rmdir(self, name: bytes) -> None:
        dirops.rmdir(self.vfs, self.who, None, self.at(name))

    def unlink(self, name: bytes) -> None:
        dirops.unlink(self.vfs, self.who, None, self.at(name))

    def symlink(self, target: bytes, name: bytes) -> None:
        dirops.symlink(self.vfs, self.who, target, None, self.at(name))

    def link(self, old: bytes, new: bytes) -> None:
        dirops.link(self.vfs, self.who, self.place(old, False), None, self.at(new))

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        dirops.rename(self.vfs, self.who, None, self.at(old), None, self.at(new), flags)

    def mkfifo(self, name: bytes) -> None:
        dirops.mknod(self.vfs, self.who, None, self.at(name), stat.S_IFIFO | 0o644, 0)

    def mksock(self, name: bytes) -> None:
        dirops.mknod(self.vfs, self.who, None, self.at(name), stat.S_IFSOCK | 0o755, 0)

    def readlink(self, name: bytes) -> bytes:
        return dirops.readlink(self.vfs, self.who, self.place(name, False))

    def stat(self, name: bytes, follow: bool = True) -> tuple[Any, ...]:
        st = self.place(name, follow).inode.getattr()
        return (st.mode, st.nlink, st.uid, st.gid, None if stat.S_ISDIR(st.mode) else st.size)

    def chmod(self, name: bytes, mode: int) -> None:
        attrops.chmod(self.vfs, self.who, self.place(name), mode)

    def chown(self, name: bytes, uid: int, gid: int, follow: bool = True) -> None:
        attrops.chown(self.vfs, self.who, self.place(name, follow), uid, gid)

    def utime(self, name: bytes, atime: int, mtime: int) -> tuple[int, int]:
        g = 1000000000
        attrops.utimes(self.vfs, self.who, self.place(name), (atime // g, atime % g, mtime // g, mtime % g))
        st = self.place(name).inode.getattr()
        return st.atime, st.mtime

    def touch(self, name: bytes) -> None:
        attrops.utimes(self.vfs, self.who, self.place(name), None)

    def truncate(self, name: bytes, size: int) -> None:
        attrops.truncate(self.vfs, self.who, self.place(name), size)

    def access(self, name: bytes, mask: int) -> None:
        attrops.access(self.who.creds, self.place(name), mask)

    def open(self, name: bytes, flags: int, mode: int = 0) -> tuple[int | OpenFile, Any]:
        from ring3.kernel.sys_open import check_flags

        place, opened = self.vfs.open(self.who, None, self.at(name), check_flags(flags), mode)
        assert isinstance(opened, (int, OpenFile))
        return opened, place

    def write(self, name: bytes, flags: int, mode: int, data: bytes) -> int:
        opened, place = self.open(name, flags, mode)
        if isinstance(opened, OpenFile):
            result = opened.do_write(None, data)
            assert isinstance(result, int)
            return result
        try:
            self.vfs.handle(place, opened)
            return os.write(opened, data)
        finally:
            os.close(opened)

    def read(self, name: bytes, flags: int = 0) -> bytes:
        opened, place = self.open(name, flags | os.O_NONBLOCK)
        if isinstance(opened, OpenFile):
            data = opened.do_read(None, 1 << 20)
            assert isinstance(data, bytes)
            return data
        try:
            self.vfs.handle(place, opened)
            return os.read(opened, 1 << 20)
        finally:
            os.close(opened)

    def list(self, name: bytes) -> list[bytes]:
        opened, _ = self.open(name, os.O_RDONLY | os.O_DIRECTORY)
        assert isinstance(opened, OpenDir) and not isinstance(opened, OpenPath)
        return sorted(n for n, _, _ in opened.listing()[2:])

    def setxattr(self, name: bytes, key: bytes, value: bytes, flags: int) -> None:
        attrops.setxattr(self.vfs, self.who, self.place(name), key, value, flags)

    def getxattr(self, name: bytes, key: bytes) -> bytes:
        return attrops.getxattr(self.who, self.place(name), key)

    def listxattr(self, name: bytes) -> list[str]:
        names = attrops.listxattr(self.who, self.place(name))
        return sorted(os.fsdecode(n) for n in names if not n.startswith(b"security."))

    def removexattr(self, name: bytes, key: bytes) -> None:
        attrops.removexattr(self.vfs, self.who, self.place(name), key)


def memory_world() -> VfsWorld:
    return VfsWorld(MemoryFS(mode=0o755, uid=os.geteuid(), gid=os.getegid()))


def _empty_dir() -> tuple[str, Callable[[], None]]:
    path = shared_memory_dir()
    os.chmod(path, 0o755)

    return path, lambda: remove_tree(path)


def cow_world() -> VfsWorld:
    """Copy-on-write over an empty host directory, which has to stay empty."""
    path, cleanup = _empty_dir()

    def check() -> None:
        left = os.listdir(path)
        cleanup()
        assert not left, f"the host was written: {left}"

    return VfsWorld(CowFS(path), check)


def layered_world() -> VfsWorld:
    """Copy-on-write over populate()'s tree, which has to stay as it is."""
    path, cleanup = _empty_dir()
    (Path(path) / "t").mkdir()
    populate(Path(path) / "t")
    before = _host_listing(path)

    def check() -> None:
        after = _host_listing(path)
        cleanup()
        assert after == before, "the host was written"

    return VfsWorld(CowFS(path), check)


def _host_listing(path: str) -> list[tuple[Any, ...]]:
    """Names, attributes, times and contents."""
    found: list[tuple[Any, ...]] = []
    for folder, dirs, files in os.walk(path):
        for entry in sorted(dirs + files):
            full = os.path.join(folder, entry)
            st = os.lstat(full)
            data = Path(full).read_bytes() if stat.S_ISREG(st.st_mode) else b""
            found.append(
                (full, st.st_mode, st.st_uid, st.st_nlink, st.st_size, st.st_mtime_ns, st.st_ctime_ns, data)
            )
    return found


def host_world() -> VfsWorld:
    """A read-write bind."""
    path, cleanup = _empty_dir()
    return VfsWorld(HostFS(path, read_only=False), cleanup)


class OverlayWorld(VfsWorld):
    """An overlay. The link count of a merged directory is 1 there, as overlayfs has it; here it is counted, to be
    comparable."""

    def stat(self, name: bytes, follow: bool = True) -> tuple[Any, ...]:
        st = super().stat(name, follow)
        if stat.S_ISDIR(st[0]) and st[1] == 1:
            place = self.place(name, follow)
            folders = sum(kind == stat.S_IFDIR for _, _, kind in place.inode.readdir())
            return (st[0], 2 + folders, *st[2:])
        return st


def overlay_world() -> VfsWorld:
    """An overlay over two empty layers."""
    own = {"mode": 0o755, "uid": os.geteuid(), "gid": os.getegid()}
    return OverlayWorld(OverlayFS([MemoryFS(**own), MemoryFS(**own)]))


def oci_world() -> VfsWorld:
    """An overlay whose upper layer is a host directory, marked as container layers are."""
    path, cleanup = _empty_dir()
    own = {"mode": 0o755, "uid": os.geteuid(), "gid": os.getegid()}
    return OverlayWorld(OverlayFS([MemoryFS(**own)], HostFS(path, read_only=False)), cleanup)


def layered_overlay() -> VfsWorld:
    """An overlay over populate()'s tree, split over two layers and a third with what they hide."""
    tops = [_empty_dir() for _ in range(2)]
    top, bottom = (Path(path) for path, _ in tops)
    (bottom / "t").mkdir()
    populate(bottom / "t")
    (bottom / "t/gone").mkdir()
    (bottom / "t/gone/x").write_bytes(b"hidden")
    (bottom / "t/d/hidden").write_bytes(b"hidden")
    (bottom / "t/empty/hidden").write_bytes(b"hidden")
    (top / "t/d").mkdir(parents=True)
    (top / "t/empty").mkdir()
    (top / "t/.wh.gone").touch()
    (top / "t/d/.wh.hidden").touch()
    (top / "t/empty/.wh..wh..opq").touch()
    (bottom / "t/script").unlink()
    (top / "t/script").write_bytes(b"#!/bin/sh\n")
    (top / "t/script").chmod(0o755)
    before = [_host_listing(path) for path, _ in tops]

    def check() -> None:
        after = [_host_listing(path) for path, _ in tops]
        for _, cleanup in tops:
            cleanup()
        assert after == before, "a lower layer was written"

    return OverlayWorld(OverlayFS([HostFS(top), HostFS(bottom)], redirect_dir=True), check)


WORLDS = {
    "memory": memory_world,
    "cow": cow_world,
    "rw": host_world,
    "overlay": overlay_world,
    "oci": oci_world,
}


def populate(base: Path) -> None:
    """A small host tree: what a copy-on-write view starts from, and its native twin too."""
    (base / "d/e/f").mkdir(parents=True)
    (base / "d/file").write_bytes(b"lower file\n")
    (base / "d/e/deep").write_bytes(b"x" * 10000)
    (base / "script").write_bytes(b"#!/bin/sh\n")
    (base / "script").chmod(0o755)
    (base / "link").symlink_to("d/file")
    (base / "dangling").symlink_to("nowhere")
    (base / "dirlink").symlink_to("d/e")
    os.link(base / "d/file", base / "hard")
    (base / "empty").mkdir()


def tree(world: World, name: bytes = b".") -> dict[bytes, Any]:
    """Everything below a directory: attributes, link targets, contents."""
    result: dict[bytes, Any] = {}
    for entry in world.list(name):  # type: ignore[attr-defined]
        path = name + b"/" + entry
        st = world.stat(path, False)  # type: ignore[attr-defined]
        kind = stat.S_IFMT(st[0])
        extra: Any = None
        if kind == stat.S_IFLNK:
            extra = world.readlink(path)  # type: ignore[attr-defined]
        elif kind == stat.S_IFREG:
            extra = world.call("read", path)
        result[path] = (st, extra)
        if kind == stat.S_IFDIR:
            result.update(tree(world, path))
    return result
