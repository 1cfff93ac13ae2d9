"""The parsers that read what others made, each as a function of bytes, and samples to begin with.

Layer: tests. A target returns for whatever bytes: what it may raise (our own exceptions, or the errno that Linux has
for it) it catches by itself, so that anything else is a fault of ours. Memory is bounded by `LIMIT` where it can be
asked for.
"""

from __future__ import annotations

import io
import os
import random
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from channel import channel, guest, requests

from ring3.errors import Ring3Error
from ring3.loader import prepare, text
from ring3.loader.plan import LayoutContext, Opened
from ring3.loader.sites import find_sites
from ring3.netstack import dns, netlink
from ring3.netstack.hosts import GATEWAY4
from ring3.vfs.archive import ArchiveDir, ArchiveFS, BadArchive
from ring3.vfs.image import Image
from ring3.vfs.tarfs import TarFS
from ring3.vfs.zipfs import ZipFS

LIMIT = 8 << 20  # bytes that an archive may unpack to


@contextmanager
def _file(data: bytes) -> Any:
    fd = os.memfd_create("parsed", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def _read_all(fs: ArchiveFS) -> None:
    """Each file of it: EIO for what turns out to be damaged."""
    todo: list[Any] = [fs.top]
    while todo:
        node = todo.pop()
        if isinstance(node, ArchiveDir):
            todo += node.entries.values()
        elif node.member is not None and node.mode & 0o170000 == 0o100000:
            with _file(b"") as fd:
                try:
                    fs.unpack(node.member, fd)
                except (BadArchive, EOFError):
                    pass  # ArchiveData.fill() makes EIO of it
                except OSError as e:
                    assert e.errno, e


def tar(data: bytes) -> None:
    with _file(data) as fd:
        try:
            fs = TarFS(f"/proc/self/fd/{fd}", limit=LIMIT)
        except BadArchive:
            return
        _read_all(fs)
        fs.close()


def zip_(data: bytes) -> None:
    with _file(data) as fd:
        try:
            fs = ZipFS(f"/proc/self/fd/{fd}", limit=LIMIT)
        except BadArchive:
            return
        _read_all(fs)
        fs.close()


def image(data: bytes) -> None:
    """An OCI layout as a tar archive."""
    with _file(data) as fd:
        try:
            found = Image(f"/proc/self/fd/{fd}", limit=LIMIT)
        except BadArchive:
            return
        try:
            found.command()
            found.filesystem()
        except (BadArchive, Ring3Error):
            pass
        found.close()


class _NoFile(OSError):
    """What opening an interpreter answers here: only the fuzzed file is there."""


def execute(data: bytes) -> None:
    """A file as execve(2) takes it: an ELF program, its own interpreter, or a script."""

    def open_exec(path: bytes) -> Opened:
        fd = os.memfd_create("program", os.MFD_CLOEXEC)
        os.write(fd, data)
        if path not in (b"/program", b"/lib64/ld-linux-x86-64.so.2"):
            os.close(fd)
            raise _NoFile(2, "no such file")
        return Opened(fd, path)

    try:
        ready = prepare.prepare(open_exec, b"/program", [b"program"], [])
    except OSError as e:
        assert e.errno, e
        return
    ready.layout(LayoutContext(0x7FFF_FFFF_F000, 0x7FFF_F7FF_F000)).close()


def sites(data: bytes) -> None:
    """An ELF file's text, as it is disassembled and rewritten: whatever is odd is left alone."""
    with _file(data) as fd:
        found = text.read(fd)
        if found is not None:
            find_sites(found)


class _Zone:
    def find(self, name: str, kind: int) -> tuple[bool, list[Any]]:
        return bool(kind & 1), [(name.lower(), kind, 60, GATEWAY4)] if kind == 1 else []


class _Segment:
    zone = _Zone()

    def log_once(self, line: str) -> None:
        pass


def query(data: bytes) -> None:
    """A DNS query, from a guest."""
    answers: list[bytes] = []
    dns.Resolver(_Segment()).answer(data, True, answers.append)  # type: ignore[arg-type]
    assert len(answers) <= 1 and all(len(answer) <= 65535 for answer in answers)


def request(data: bytes) -> None:
    """A netlink datagram, from a guest: the first byte says which protocol, and who sends it."""
    with guest() as (kernel, _):
        sock = netlink.NetlinkSock.__new__(netlink.NetlinkSock)
        sock.net, sock.end, sock.port = kernel.net, None, 1
        sock.protocol = netlink.NETLINK_SOCK_DIAG if data[:1] > b"\x80" else 0
        sock.admin = data[:1] > b"\x40"
        sock.asked(data[1:])


# -- samples ------------------------------------------------------------------------------------------------------


def _tar_sample(kind: int) -> bytes:
    out = io.BytesIO()
    long = "n" * (90 if kind == tarfile.USTAR_FORMAT else 120)
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, what in (("d", tarfile.DIRTYPE), ("d/f", tarfile.REGTYPE), ("d/" + long, tarfile.REGTYPE),
                           ("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("dev", tarfile.CHRTYPE)):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.linkname = (
                what,
                12,
                "d/f" if what in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "",
            )
            info.size = 700 if what == tarfile.REGTYPE else 0
            if kind == tarfile.PAX_FORMAT:
                info.pax_headers = {
                    "SCHILY.xattr.user.x": "y",
                    "mtime": "12.5",
                    "LIBARCHIVE.xattr.user.z": "eA",
                }
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return out.getvalue()


def _sparse() -> bytes:
    """GNU's sparse files, of version 1.0, whose map is in the data."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("sparse")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s",
                            "GNU.sparse.realsize": "9000"}  # fmt: skip
        body = b"1\n8000\n3\n".ljust(512, b"\0") + b"abc"
        info.size = len(body)
        archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def _zip_sample() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("d/", b"")
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            archive.writestr(f"d/f{method}", b"text " * 100, method)
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "d/f0")
    return out.getvalue()


def _image_sample() -> bytes:
    import gzip
    import hashlib
    import json

    layer = gzip.compress(_tar_sample(tarfile.GNU_FORMAT), mtime=0)
    blobs = {}

    def blob(data: bytes, media: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    plain = hashlib.sha256(gzip.decompress(layer)).hexdigest()
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["A=b"], "WorkingDir": "/d"},
              "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain}"]}}  # fmt: skip
    prefix = "application/vnd.oci.image."
    manifest = {"schemaVersion": 2, "config": blob(json.dumps(config).encode(), prefix + "config.v1+json"),
                "layers": [blob(layer, prefix + "layer.v1.tar+gzip")]}  # fmt: skip
    index = {
        "schemaVersion": 2,
        "manifests": [blob(json.dumps(manifest).encode(), prefix + "manifest.v1+json")],
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **blobs,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _program(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 20)


def _netlink(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("<IHHII", 16 + len(body), kind, flags, 7, 0) + body


def _samples() -> dict[str, Callable[[], list[bytes]]]:
    question = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 1) + b"\3www\7example\0" + struct.pack("!HH", 1, 1)
    edns = b"\0" + struct.pack("!HHIH", 41, 4096, 0, 0)
    link = struct.pack("<BBHiII", 0, 0, 0, 1, 1, 1) + struct.pack("<HH", 7, 3) + b"lo\0\0"
    route = struct.pack("<8BI", 2, 32, 0, 0, 0, 0, 0, 0, 0) + struct.pack("<HH4s", 8, 1, bytes([10, 0, 0, 1]))
    messages = [(18, 0x301, link), (18, 1, link), (26, 1, route), (26, 0x301, route), (22, 0x301, b"\2"), (16, 5, link),
                (20, 0x301, struct.pack("<BBHI", 2, 6, 0, 0xFFFFFFFF) + bytes(48)), (34, 0x301, b"\0")]  # fmt: skip
    compressed = {
        module: __import__(module).compress(_tar_sample(tarfile.GNU_FORMAT))
        for module in ("gzip", "bz2", "lzma")
    }
    return {
        "tar": lambda: [*map(_tar_sample, (0, 1, 2)), _sparse(), *compressed.values()],
        "zip": lambda: [_zip_sample()],
        "image": lambda: [_image_sample()],
        "execute": lambda: [
            _program("/bin/true"),
            b"#! /program -x y\n",
            _program("/lib64/ld-linux-x86-64.so.2"),
        ],
        "sites": lambda: [_program("/bin/true")],
        "query": lambda: [question + edns, question[:-4] + b"\xc0\x0c" + question[-4:]],
        "request": lambda: [
            first + _netlink(*each) for first in (b"\0", b"\x50", b"\x90") for each in messages
        ],
        "channel": requests,
    }


TARGETS: dict[str, Callable[[bytes], None]] = {
    "tar": tar, "zip": zip_, "image": image, "execute": execute, "sites": sites, "query": query, "request": request,
    "channel": channel,
}  # fmt: skip
SAMPLES = _samples()

_ODD = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1, 4096]


def mutated(r: random.Random, sample: bytes) -> bytes:
    """A sample with a few changes: bits, odd numbers, pieces removed, repeated, moved; it may end early."""
    data = bytearray(sample)
    focus = r.choice([64, 600, 2000, 1 << 30])  # headers matter most
    for _ in range(r.choice([1, 1, 2, 4, 16])):
        if not data:
            return b""
        at = r.randrange(min(len(data), focus))
        at = len(data) - 1 - at if r.random() < 0.15 else at
        what = r.randrange(7)
        if what == 0:
            data[at] ^= 1 << r.randrange(8)
        elif what == 1:
            data[at] = r.randrange(256)
        elif what == 2:
            size = r.choice([1, 2, 4, 8])
            data[at : at + size] = (r.choice(_ODD) & (1 << 8 * size) - 1).to_bytes(
                size, r.choice(["little", "big"])
            )
        elif what == 3:
            del data[at : at + r.choice([1, 4, 100, 512])]
        elif what == 4:
            piece = data[at : at + r.choice([1, 16, 512])]
            data[at:at] = piece * r.choice([1, 2, 50])
        elif what == 5:
            data[at : at + 4] = r.choice(
                [b"9999", b"-1\0\0", b"\xff\xff\xff\xff", b"7777", b"    ", b'"\\ud', b"[[[["]
            )
        else:
            del data[at:]
    return bytes(data)
