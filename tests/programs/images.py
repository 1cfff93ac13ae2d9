"""Makes small images for the tests, in the three forms that are in use.

Layer: tests. Touches the directory that it is given.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

Files = dict[str, "bytes | str | None | tuple[str, str]"]


def layer(files: Files) -> bytes:
    """A layer's tar: bytes of a file, text of an executable script, None for a directory, ("->", target) for a
    symlink."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o755, 1_000_000_000
            data = b""
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, content[1]
            elif isinstance(content, str):
                data = content.encode()
            else:
                data = content
                info.mode = 0o755 if data[:4] == b"\x7fELF" else 0o644
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def busybox() -> bytes | None:
    """Debian's static busybox, None where it is not installed."""
    path = shutil.which("busybox")
    data = Path(path).read_bytes() if path else b""
    return data if data and b"/ld-linux" not in data[:4096] else None


def blob(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of(layers: list[bytes], settings: dict[str, Any], **more: Any) -> bytes:
    document = {"architecture": "amd64", "os": "linux", "config": settings}
    document["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{blob(data)}" for data in layers]}
    return json.dumps(document | more).encode()


def oci_layout(
    top: Path,
    layers: list[bytes],
    settings: dict[str, Any],
    *,
    name: str = "app:1",
    nested: bool = False,
    **more: Any,
) -> Path:
    """An OCI layout in a directory; gzip layers; `nested`: behind an index for several machines."""
    folder = top / "blobs/sha256"
    folder.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        (folder / blob(data)).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{blob(data)}", "size": len(data)}

    packed = [gzip.compress(data, 1, mtime=0) for data in layers]  # one digest whenever it is made
    manifest = {
        "schemaVersion": 2,
        "config": put(config_of(layers, settings, **more), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(data, "application/vnd.oci.image.layer.v1.tar+gzip") for data in packed],
    }
    entry = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    if nested:
        other = entry | {"platform": {"os": "linux", "architecture": "arm64"}, "digest": "sha256:" + "0" * 64}
        entry = entry | {"platform": {"os": "linux", "architecture": "amd64"}}
        index = {"schemaVersion": 2, "manifests": [other, entry]}
        entry = put(json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    (top / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (top / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return top


def pack(folder: Path, archive: Path, option: str = "-cf") -> Path:
    """A directory as a tar archive."""
    subprocess.run(["tar", option, archive, "-C", folder, "."], check=True)
    return archive


def docker_save(
    path: Path, layers: list[bytes], settings: dict[str, Any], *, tags: tuple[str, ...] = ("app:1",)
) -> Path:
    """What `docker save` wrote before version 25: a directory for each layer."""
    top = path.parent / f"{path.name}.d"
    names = []
    for number, data in enumerate(layers):
        (top / f"{number:064}").mkdir(parents=True)
        (top / f"{number:064}/layer.tar").write_bytes(data)
        names.append(f"{number:064}/layer.tar")
    config = config_of(layers, settings)
    (top / f"{blob(config)}.json").write_bytes(config)
    manifest = [{"Config": f"{blob(config)}.json", "RepoTags": list(tags), "Layers": names}]
    (top / "manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(path, "w") as tar:
        for name in sorted(os.listdir(top)):
            tar.add(top / name, name)
    return path
