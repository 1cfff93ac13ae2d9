"""The build backend: flit_core, plus what flit has no notion of: linked folders and a compiled core.

Part of: core_native (build time only; never imported by ring3). May touch: the C compiler, the output
directory.

* ``build_wheel`` takes flit's wheel, which has the front door only, and adds the parts (real folders in place
  of the links of a checkout) and the compiled core. The wheel is tagged for every x86-64 Linux: the core is a
  freestanding static program, so it depends on no libc.
* ``build_sdist`` takes flit's sdist and adds the links, which make an unpacked sdist look like a checkout.
* ``build_editable`` is flit's; it compiles the core once, so that a missing compiler is noticed at once.

There is no ``prepare_metadata_for_build_wheel``: pip would take flit's tag from it and then refuse ours.
"""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import os
import sys
import tarfile
import tempfile
import time
import zipfile
from typing import Any

from flit_core import buildapi

PARTS = ("core_native", "kernel", "loader", "netstack", "vfs")
TAG = "py3-none-manylinux_2_5_x86_64.musllinux_1_1_x86_64"
# What of a part is for building only.
# ring3_hook.h is for users: native hooks include it.
_NOT_SHIPPED = (".c", ".S", ".h", ".ld", ".map", ".md", ".o", ".pyc")
_NOT_SHIPPED_NAMES = ("backend.py", "gen.py", "core")

_Settings = dict[str, Any] | None

get_requires_for_build_wheel = buildapi.get_requires_for_build_wheel
get_requires_for_build_sdist = buildapi.get_requires_for_build_sdist
get_requires_for_build_editable = buildapi.get_requires_for_build_editable


def build_wheel(directory: str, settings: _Settings = None, metadata_directory: str | None = None) -> str:
    """PEP 517: build the wheel in ``directory`` and return its file name."""
    with tempfile.TemporaryDirectory() as scratch:
        core = os.path.join(scratch, "core")
        _builder().compile_core(core)
        flit = os.path.join(scratch, buildapi.build_wheel(scratch, settings))
        name = os.path.basename(flit).replace("py3-none-any", TAG)
        with zipfile.ZipFile(flit) as source:
            files = {i.filename: (source.read(i), i.external_attr >> 16) for i in source.infolist()}
        for path in _part_files():
            with open(path, "rb") as f:
                files[f"ring3/{path}"] = (f.read(), 0o100644)
        with open(core, "rb") as f:
            files["ring3/core_native/core"] = (f.read(), 0o100755)
        _retag(files)
        _write_wheel(os.path.join(directory, name), files)
    return name


def build_sdist(directory: str, settings: _Settings = None) -> str:
    """PEP 517: build the sdist in ``directory`` and return its file name."""
    name = buildapi.build_sdist(directory, settings)
    path = os.path.join(directory, name)
    with tarfile.open(path) as source:
        members = [(m, source.extractfile(m).read() if m.isfile() else b"") for m in source]  # type: ignore
    top = members[0][0].name.split("/", 1)[0]
    when = max(m.mtime for m, _ in members)
    present = {m.name for m, _ in members}
    for part in PARTS:
        link = tarfile.TarInfo(f"{top}/ring3/{part}")
        link.type, link.linkname, link.mtime, link.mode = tarfile.SYMTYPE, f"../{part}", when, 0o777
        if link.name not in present:
            members.append((link, b""))
    members.sort(key=lambda member: member[0].name)
    # gzip by hand, so that no time and no name of ours gets into its header.
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=when) as packed:
        with tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as target:
            for member, data in members:
                target.addfile(member, io.BytesIO(data) if member.isfile() else None)
    return name


def build_editable(directory: str, settings: _Settings = None, metadata_directory: str | None = None) -> str:
    """PEP 660: flit's editable wheel, a path to this source tree."""
    _builder().core_path()
    return buildapi.build_editable(directory, settings)


def _builder() -> Any:
    """core_native/build.py as the module that it is when ring3 runs."""
    root = os.getcwd()  # PEP 517: the root of the source tree
    sys.path.insert(0, root)
    try:
        from ring3.core_native import build
        from ring3.errors import CoreBuildError
    finally:
        sys.path.remove(root)

    class Builder:
        @staticmethod
        def compile_core(out: str) -> None:
            _in_one_sentence(CoreBuildError, lambda: build.compile_core(out))

        @staticmethod
        def core_path() -> None:
            _in_one_sentence(CoreBuildError, build.core_path)

    return Builder


def _in_one_sentence(error: type[Exception], job: Any) -> None:
    try:
        job()
    except error as e:
        sys.stderr.write(f"\nring3: {e}\n")
        sys.stderr.flush()
        raise SystemExit(1) from None  # a traceback would bury the sentence


def _part_files() -> list[str]:
    found = []
    for part in PARTS:
        for folder, folders, names in os.walk(part):
            folders[:] = sorted(d for d in folders if d != "__pycache__" and not d.startswith("."))
            for name in sorted(names):
                built_only = name.endswith(_NOT_SHIPPED) and name != "ring3_hook.h" or name.startswith(".")
                if not built_only and not (folder == "core_native" and name in _NOT_SHIPPED_NAMES):
                    found.append(os.path.join(folder, name))
    return found


def _retag(files: dict[str, tuple[bytes, int]]) -> None:
    """Put our tags into WHEEL: the compressed tag set of the file name, one line for each."""
    name = next(n for n in files if n.endswith(".dist-info/WHEEL"))
    lines = [
        line
        for line in files[name][0].decode().splitlines()
        if line and not line.startswith(("Tag:", "Root-Is-"))
    ]
    python, abi, platforms = TAG.split("-")
    lines.append("Root-Is-Purelib: false")
    lines += [f"Tag: {python}-{abi}-{platform}" for platform in platforms.split(".")]
    files[name] = ("\n".join(lines).encode() + b"\n", files[name][1])


def _write_wheel(path: str, files: dict[str, tuple[bytes, int]]) -> None:
    """Write the archive and its RECORD; the same bytes for the same sources."""
    record = next(n for n in files if n.endswith(".dist-info/RECORD"))
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    names = sorted((n for n in files if n != record), key=lambda n: (".dist-info/" in n, n))
    for name in names:
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name][0]).digest()).rstrip(b"=")
        rows.writerow((name, f"sha256={digest.decode()}", len(files[name][0])))
    rows.writerow((record, "", ""))
    files[record] = (table.getvalue().encode(), 0o100644)
    epoch = max(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), 315532800)  # zip knows no time before 1980
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in [*names, record]:
            entry = zipfile.ZipInfo(name, time.gmtime(epoch)[:6])
            entry.external_attr = (files[name][1] or 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name][0])
