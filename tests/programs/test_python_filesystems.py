"""Filesystems in Python (PathFS, PyFS, FsspecFS), used by real programs, and the tree as an fsspec filesystem."""

from __future__ import annotations

import asyncio
import errno
import http.server
import threading
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ring3
from ring3.vfs.pathfs import Info, PathFS
from ring3.vfs.pyfs import PyFS

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (the extra `fsspec`)")

from ring3.vfs.fsspecfs import FsspecFS  # noqa: E402  needs fsspec


def shell(filesystem: Any, script: str, *, status: int = 0) -> str:
    """The output of a script whose working directory is the filesystem."""
    with ring3.Sandbox(mounts={"/m": filesystem}, user=0) as box:
        done = box.run(["/bin/sh", "-c", script], cwd="/m", capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return str(done.stdout) + str(done.stderr)


class Dict(PathFS):
    """The example of the documentation: a dictionary as a filesystem."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__("dict")
        self.files = files
        self.folders = {""}
        self.calls: list[str] = []

    def info(self, path: str) -> Info | None:
        if path in self.files:
            return Info("file", len(self.files[path]), mtime=len(self.calls))
        return Info("directory") if path in self.folders else None

    def list(self, path: str) -> Iterable[str]:
        return [
            p.rpartition("/")[2] for p in (*self.files, *self.folders) if p and p.rpartition("/")[0] == path
        ]

    def read(self, path: str, offset: int, size: int) -> bytes:
        self.calls.append(f"read {path} {offset} {size}")
        return self.files[path][offset:] if size < 0 else self.files[path][offset : offset + size]

    def write(self, path: str, data: bytes) -> None:
        if b"poison" in data:
            raise OSError(errno.EDQUOT, "no")
        self.calls.append(f"write {path} {len(data)}")
        self.files[path] = data

    def make_directory(self, path: str) -> None:
        self.folders.add(path)

    def remove(self, path: str) -> None:
        del self.files[path]

    def remove_directory(self, path: str) -> None:
        self.folders.remove(path)

    def rename(self, old: str, new: str) -> None:
        for path in [p for p in self.files if p == old or p.startswith(old + "/")]:
            self.files[new + path[len(old) :]] = self.files.pop(path)
        for path in [p for p in self.folders if p == old or p.startswith(old + "/")]:
            self.folders.remove(path)
            self.folders.add(new + path[len(old) :])


def test_programs_on_a_dictionary() -> None:
    filesystem = Dict({"a": b"one\n"})
    shown = shell(
        filesystem,
        """
        set -e
        cat a; echo two >>a; cat a
        mkdir d; echo three >d/b; cp d/b d/c; mv d/c d/e; ls d; mv d f; cat f/b
        (echo x; cat a) >g; sed -i s/x/y/ g; cat g
        rm f/b f/e; rmdir f; ls
        printf 1234567890 >h; truncate -s 4 h; cat h; echo; wc -c <h
        dd if=/dev/zero of=h bs=1 seek=2 count=1 conv=notrunc 2>/dev/null; od -c h | head -1
        """,
    )
    assert shown.split("\n") == [
        *("one", "one", "two", "b", "e", "three", "y", "one", "two", "a", "g", "1234", "4"),
        *("0000000   1   2  \\0   4", ""),
    ]
    assert filesystem.files == {"a": b"one\ntwo\n", "g": b"y\none\ntwo\n", "h": b"12\x004"}


def test_readers_see_what_is_written_at_once() -> None:
    script = """
exec 3>f
echo one >&3
cat f
exec 4<f
echo two >&3
cat <&4
exec 3>&-
cat f
"""
    assert shell(Dict({}), script) == "one\none\ntwo\none\ntwo\n"


def test_calls_on_a_file_that_is_being_written() -> None:
    """As on Linux, whoever serves the file: flags of one write, allocation, limits, copies, private mappings."""
    script = """
import errno, mmap, os, resource, signal
def fails(call, *arguments):
    try:
        call(*arguments)
    except OSError as e:
        return errno.errorcode[e.errno]
fd = os.open("f", os.O_RDWR | os.O_CREAT)
os.write(fd, b"0123456789")
print(os.pwritev(fd, [b"ab", b"c"], 0, 0x10), os.pread(fd, 20, 0))                      # RWF_APPEND
app = os.open("f", os.O_WRONLY | os.O_APPEND)
print(os.pwritev(app, [b"X"], 1, 0x20), os.pread(fd, 20, 0))                            # RWF_NOAPPEND
print(fails(os.pwritev, fd, [b"x"], 0, 0x30), fails(os.pwritev, fd, [b"x"], 0, 8))      # both; RWF_NOWAIT
print(os.pwritev(fd, [b"Y"], 2, 4))                                                     # RWF_SYNC
with mmap.mmap(fd, 13, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as m:
    m[0] = 90
    print(m[:4], os.pread(fd, 1, 0))
print(fails(mmap.mmap, fd, 13, mmap.MAP_SHARED))
os.posix_fallocate(fd, 0, 20)
print(os.fstat(fd).st_size)
other = os.open("g", os.O_RDWR | os.O_CREAT)
print(os.copy_file_range(fd, other, 5, 0), os.copy_file_range(fd, other, 100, 10, 0), os.fstat(other).st_size)
print(os.sendfile(other, fd, 0, 3), os.pread(other, 20, 0))
print(fails(os.copy_file_range, os.open("/etc/hostname", os.O_RDONLY), fd, 5))
signal.signal(signal.SIGXFSZ, lambda *_: print("SIGXFSZ"))
resource.setrlimit(resource.RLIMIT_FSIZE, (25, 25))
print(os.pwrite(fd, b"123456789", 18), fails(os.pwrite, fd, b"1", 25), fails(os.ftruncate, fd, 26))
"""
    with ring3.Sandbox(mounts={"/m": Dict({})}) as box:
        done = box.run(["/usr/bin/python3", "-c", script], cwd="/m", capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        *("3 b'0123456789abc'", "1 b'0X23456789abc'", "EINVAL ENOTSUP", "1", "b'ZXY3' b'0'", "ENODEV", "20"),
        *("5 10 10", "3 b'abc\\x00\\x000XY\\x00\\x00'", "EXDEV", "SIGXFSZ", "SIGXFSZ", "7 EFBIG EFBIG"),
    ], done.stderr


def test_record_locks_are_between_processes() -> None:
    """POSIX and OFD locks on a file that Python serves: conflicts, waiting, deadlocks, what an end releases."""
    script = """
import errno, fcntl, os, struct
def flock(fd, command, kind, start=0, length=1, pid=0):
    data = fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, 0, start, length, pid))
    return struct.unpack("hhqqi4x", data)
def attempt(*arguments):
    try:
        return flock(*arguments)[0]
    except OSError as e:
        return errno.errorcode[e.errno]
def child(work):
    pid = os.fork()
    if not pid:
        os._exit(work() or 0)
    return pid
RD, WR, UN, OFD_GET, OFD_SET, OFD_WAIT = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK, 36, 37, 38
fd = os.open("f", os.O_RDWR | os.O_CREAT)
flock(fd, fcntl.F_SETLK, WR, 10, 10)
flock(fd, fcntl.F_SETLK, UN, 12, 2)
def look():
    other = os.open("f", os.O_RDWR)
    print(flock(other, fcntl.F_GETLK, WR, 0, 0)[2:4], flock(other, fcntl.F_GETLK, RD, 12, 2)[0] == UN)
    print(flock(other, fcntl.F_GETLK, WR, 15)[2:5] == (14, 6, os.getppid()))
    print(attempt(other, fcntl.F_SETLK, RD, 11), attempt(other, fcntl.F_SETLK, WR, 12, 2))
    os._exit(0)
os.waitpid(child(look), 0)
flock(fd, fcntl.F_SETLK, UN, 0, 0)
r, w = os.pipe()
def waits():
    other = os.open("f", os.O_RDWR)
    flock(other, fcntl.F_SETLK, WR, 1)
    os.write(w, b"1")
    return {"EDEADLOCK": 7}.get(attempt(other, fcntl.F_SETLKW, WR, 0), 0)
flock(fd, fcntl.F_SETLK, WR, 0)
pid = child(waits)
os.read(r, 1)
mine = attempt(fd, fcntl.F_SETLKW, WR, 1)
flock(fd, fcntl.F_SETLK, UN, 0, 0)
theirs = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print((mine == "EDEADLOCK") != (theirs == 7))  # as errno.errorcode names it
a, b = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
flock(a, OFD_SET, WR)
print(attempt(b, OFD_SET, WR), flock(b, OFD_GET, WR)[4], attempt(b, OFD_SET, WR, 0, 1, 5))
pid = child(lambda: os.close(a) or flock(os.open("f", os.O_RDWR), OFD_WAIT, WR) and 0)
os.close(a)
print(os.waitpid(pid, 0)[1], attempt(b, OFD_SET, WR))
ro = os.open("/proc/self/comm", os.O_RDONLY)
print(attempt(ro, fcntl.F_SETLK, WR), attempt(ro, fcntl.F_SETLK, RD), attempt(fd, fcntl.F_SETLK, RD, -1))
"""
    with ring3.Sandbox(mounts={"/m": Dict({})}) as box:
        done = box.run(["/usr/bin/python3", "-u", "-c", script], cwd="/m", capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        *("(10, 2) True", "True", "EAGAIN 1", "True", "EAGAIN -1 EINVAL", "0 1", "EBADF 0 EINVAL"),
    ], done.stderr


def test_errors_reach_the_program() -> None:
    script = """
import os
f = open("f", "wb", 0)
f.write(b"poison")
try:
    os.fsync(f.fileno())
except OSError as e:
    print(e.errno)
os.ftruncate(f.fileno(), 0)
try:
    open("sub/none")
except FileNotFoundError:
    print("none")
"""
    with ring3.Sandbox(mounts={"/m": Dict({})}) as box:
        done = box.run(["/usr/bin/python3", "-c", script], cwd="/m", capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{errno.EDQUOT}\nnone\n", "")


def test_large_files_are_read_in_blocks() -> None:
    data = bytes(range(256)) * 40_000
    filesystem = Dict({"big": data})
    filesystem.whole = 1 << 20
    assert shell(filesystem, "tail -c 3 big | od -An -tu1; head -c 2 big | od -An -tu1; md5sum <big") == (
        " 253 254 255\n   0   1\n" + _md5(data) + "  -\n"
    )
    assert all(call.endswith(f" {1 << 20}") for call in filesystem.calls)


def _md5(data: bytes) -> str:
    import hashlib

    return hashlib.md5(data).hexdigest()


def test_a_program_of_a_python_filesystem_runs() -> None:
    filesystem = Dict({"echo": Path("/bin/echo").read_bytes(), "script": b"#!/bin/sh\necho script $1\n"})
    assert shell(filesystem, "chmod 755 echo script; ./echo mapped; ./script runs") == "mapped\nscript runs\n"


def test_generated_files() -> None:
    fs = PyFS({"fixed": "text\n", "deep/er": b"bytes\n"})
    count = 0
    taken: list[bytes] = []

    @fs.file("count")
    def counter() -> str:
        nonlocal count
        count += 1
        return f"{count}\n"

    @fs.file("slow")
    async def slow() -> str:
        await asyncio.sleep(0)
        return "from a coroutine\n"

    @counter.writer
    def take(data: bytes) -> None:
        taken.append(data)

    @fs.directory("people")
    def people() -> dict[str, Any]:
        return {"ann": b"1\n", "bob": lambda: "2\n", "more": {"eve": "3\n"}}

    @fs.file("broken")
    def broken() -> str:
        raise RuntimeError("no")

    shown = shell(
        fs,
        """
        cat fixed deep/er count count slow people/* people/more/eve 2>/dev/null
        ls; ls people; echo 5 >count; cat broken; echo x >fixed; rm fixed
        """,
        status=1,
    )
    lines = shown.splitlines()
    assert lines[:8] == ["text", "bytes", "1", "2", "from a coroutine", "1", "2", "3"]
    assert lines[8:17] == ["broken", "count", "deep", "fixed", "people", "slow", "ann", "bob", "more"]
    assert taken[-1] == b"5\n"
    assert (
        "Input/output error" in shown and "Permission denied" in shown and "Operation not permitted" in shown
    )


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.rm("/", recursive=True)


def test_fsspec_memory(memory: Any) -> None:
    memory.pipe("/bucket/a.txt", b"from python\n")
    shown = shell(
        FsspecFS("memory://bucket"),
        "cat a.txt; mkdir d; echo guest >d/b; cp a.txt d/; mv d/b d/c; rm a.txt; ls d; stat -c %s d/c",
    )
    assert shown == "from python\na.txt\nc\n6\n"
    assert memory.cat("/bucket/d/c") == b"guest\n"
    assert not memory.exists("/bucket/a.txt")


def test_fsspec_zip_and_local(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as z:
        z.writestr("d/f", "zipped\n")
    assert shell(
        FsspecFS(f"zip://::{tmp_path}/x.zip", read_only=True), "cat d/f; find . | sort; echo x >y", status=2
    )
    (tmp_path / "real").write_text("local\n")
    shown = shell(FsspecFS(f"file://{tmp_path}"), "cat real; echo more >>real; ls")
    assert shown == "local\nreal\nx.zip\n"
    assert (tmp_path / "real").read_text() == "local\nmore\n"


class _Ranges(http.server.BaseHTTPRequestHandler):
    data = bytes(range(256)) * 20_000
    seen: list[str] = []

    def _head(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_HEAD(self) -> None:
        self._head(200 if self.path == "/data" else 404, len(self.data))

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        if self.path != "/data":
            self._head(404, 0)
        elif wanted is None:
            self._head(200, len(self.data))
            self.wfile.write(self.data)
        else:
            self.seen.append(wanted)
            first, last = wanted.removeprefix("bytes=").split("-")
            part = self.data[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(self.data)}")
            self.end_headers()
            self.wfile.write(part)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def test_fsspec_http() -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed (fsspec's http filesystem needs it)")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ranges)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        filesystem = FsspecFS(f"http://127.0.0.1:{server.server_port}", read_only=True)
        filesystem.whole = 1 << 20
        assert (
            shell(filesystem, "md5sum <data; cat none 2>/dev/null || echo none")
            == f"{_md5(_Ranges.data)}  -\nnone\n"
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_tree_is_an_fsspec_filesystem() -> None:
    from ring3.fsspec_adapter import Ring3FileSystem

    with ring3.Sandbox(None) as box:
        fs = Ring3FileSystem(box)
        fs.makedirs("/data/in")
        with fs.open("ring3:///data/in/a.csv", "w") as f:
            f.write("x,y\n1,2\n")
        fs.pipe("/data/b", b"0123456789")
        assert fs.cat_file("/data/b", start=2, end=5) == b"234"
        assert fs.find("/data") == ["/data/b", "/data/in/a.csv"]
        assert fs.glob("/data/*/*.csv") == ["/data/in/a.csv"]
        assert fs.info("/data/in")["type"] == "directory" and fs.size("/data/b") == 10
        fs.cp("/data/b", "/data/c")
        fs.mv("/data/c", "/data/d")
        assert (box.root / "data/d").read_bytes() == b"0123456789"
        fs.rm("/data/in", recursive=True)
        assert fs.ls("/data", detail=False) == ["/data/b", "/data/d"]
        assert fs.exists("/data/b") and not fs.exists("/data/none")
        with pytest.raises(FileNotFoundError):
            fs.ls("/none")
        assert fs.open("/data/b").read() == b"0123456789"


def test_the_user_s_python_writes_files_that_python_serves() -> None:
    filesystem = Dict({"a": b"one"})
    with ring3.Sandbox(mounts={"/m": filesystem}) as box:
        box.write_file("/m/new", "from write_file\n")
        (box.root / "m/t").touch()
        with (box.root / "m/a").open("r+") as f:
            assert f.read() == "one"
            f.write(" two")
        with (box.root / "m/log").open("a") as f:
            f.write("line\n")
        assert box.run(
            ["cat", "/m/a", "/m/new", "/m/t", "/m/log"], capture_output=True, text=True
        ).stdout == ("one twofrom write_file\nline\n")
    assert filesystem.files == {"a": b"one two", "new": b"from write_file\n", "t": b"", "log": b"line\n"}
