"""Images: an OCI layout (a directory or a tar archive) or a `docker save` archive, opened as layers.

Layer: vfs, on top of overlayfs.py and tarfs.py. May touch: the image's files on the host, for reading only.

References: image-spec (image-layout.md, image-index.md, manifest.md, config.md, layer.md) and, for `docker save`,
moby's image/spec (manifest.json). No daemon is asked: each layer is a TarFS, unpacked at most into the user's cache
(layercache.py), and an OverlayFS lays them over each other. What the image says is not trusted: names are looked up in
a filesystem of ours that contains nothing but the image, documents are bounded and checked for their types, and digests
of documents are verified; those of layers are when they come into the cache.
"""

from __future__ import annotations

import os
import re

from .archive import ArchiveNode
from .hostfs import HostFS
from .overlayfs import OverlayFS
from .streams import BadArchive, FileSource, Window
from .tarfs import TarFS
from .tree import TreePath
from .vfs import Vfs

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any

    from .inode import SuperBlock
    from .layercache import LayerCache
    from .streams import Source

_MAX_DOCUMENT = 16 << 20
_MAX_LAYERS = 1000
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z|sha512:([0-9a-f]{128})\Z")
_BLOB = re.compile(r"\Ablobs/(sha256|sha512)/((?<=256/)[0-9a-f]{64}|(?<=512/)[0-9a-f]{128})\Z")
_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"


class Image:
    """The image at the host's `path`, a directory or an archive.

    `name` chooses among several ("repository:tag"); `cache` keeps unpacked layers for the next time
    (layercache.user_cache() is the user's). Attributes: `name`; `env` {name: value}; `cwd`; `user`
    ("" for root); `entrypoint` and `cmd`, lists; `labels`. `filesystem()` gives the root. Raises BadArchive, with
    one sentence, for what is no image, is damaged, or is for other machines; the host's OSError if it cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        *,
        limit: int | None = None,
        cache: LayerCache | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self._limit = limit
        self._cache = cache
        self._layers: list[TarFS] = []
        self._store = TarFS(path) if os.path.isfile(path) else HostFS(self.path, read_only=True)
        self._vfs = Vfs(self._store)
        self._root = TreePath(self._vfs)
        try:
            self._read(name)
        except BadArchive as e:
            self.close()
            text = str(e)
            raise BadArchive(
                text if self.path in text else f"{self.path} cannot be used as an image: {text}"
            ) from None
        except (OSError, RecursionError) as e:
            self.close()
            raise BadArchive(f"{self.path} cannot be used as an image: {e}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give back every descriptor; filesystem()'s own close() does it too."""
        for layer in self._layers:
            layer.close()
        self._vfs.close()

    def filesystem(self) -> OverlayFS:
        """The image's tree, writable in memory. It may be asked for once: closing it closes the image."""
        return _ImageFS(self)

    def command(self, arguments: list[str] | None = None) -> list[str]:
        """What to run: the entrypoint with `arguments`, or with the image's own (docker run's rule)."""
        return [*self.entrypoint, *(arguments or self.cmd)]

    # -- reading ---------------------------------------------------------------------------------------------

    def _read(self, name: str | None) -> None:
        if (self._root / "manifest.json").is_file():
            config, layers = self._saved(name)
        elif (self._root / "index.json").is_file():
            config, layers = self._layout(name)
        else:
            raise BadArchive(
                "it has neither a manifest.json (docker save) nor an index.json (OCI layout); "
                "a plain tree is what --root is for"
            )
        if len(layers) > _MAX_LAYERS:
            raise BadArchive(f"it has {len(layers)} layers")
        self._configure(config)
        for number, layer in enumerate(layers):
            what = f"layer {number + 1} of {self.path}"
            self._layers.append(TarFS(source=self._layer(layer, what), name=what, limit=self._limit))

    def _saved(self, name: str | None) -> tuple[dict[str, Any], list[str]]:
        """docker save: manifest.json lists the images. Returns the config and the paths of the layers."""
        entries = [
            _dict(e, "an entry of manifest.json") for e in _list(self._json("manifest.json"), "manifest.json")
        ]
        names = [[str(tag) for tag in _list(e.get("RepoTags") or [], "RepoTags")] for e in entries]
        chosen = _choose(names, name)
        self.name = name or (names[chosen] or [""])[0]
        entry = entries[chosen]
        config = _dict(self._json(_str(entry.get("Config"), "Config")), "the config")
        return config, [_str(layer, "a layer") for layer in _list(entry.get("Layers"), "Layers")]

    def _layout(self, name: str | None) -> tuple[dict[str, Any], list[str]]:
        """OCI: index.json, down to the manifest for this machine."""
        index = _dict(self._json("index.json"), "index.json")
        entries = self._for_us(index)
        names = []
        for entry in entries:
            notes = _dict(entry.get("annotations") or {}, "annotations")
            names.append([str(notes[key]) for key in (_FULL_NAME, _NAME) if key in notes])
        chosen = _choose(names, name)
        self.name = name or (names[chosen] or [""])[0]
        entry = entries[chosen]
        for _ in range(4):
            document = _dict(self._json(_blob(entry), entry), "a manifest")
            if "manifests" not in document:
                break
            below = self._for_us(document)
            if not below:
                raise BadArchive("it has nothing for linux/amd64")
            entry = below[0]
        if "config" not in document:
            raise BadArchive("its manifest names no config")
        descriptor = _dict(document["config"], "the config's descriptor")
        config = _dict(self._json(_blob(descriptor), descriptor), "the config")
        layers = _list(document.get("layers"), "layers")
        return config, [_blob(_dict(layer, "a layer's descriptor")) for layer in layers]

    def _for_us(self, index: dict[str, Any]) -> list[dict[str, Any]]:
        """The entries of an index that are for x86-64 Linux, or do not say."""
        found = []
        for entry in _list(index.get("manifests"), "manifests"):
            entry = _dict(entry, "a manifest's descriptor")
            platform = _dict(entry.get("platform") or {}, "platform")
            if platform.get("os", "linux") == "linux" and platform.get("architecture", "amd64") == "amd64":
                found.append(entry)
        return found

    def _configure(self, config: dict[str, Any]) -> None:
        machine, system = config.get("architecture") or "amd64", config.get("os") or "linux"
        if (system, machine) != ("linux", "amd64"):
            raise BadArchive(f"it is for {system}/{machine}, and programs run on linux/amd64 here")
        inner = _dict(config.get("config") or {}, "config")
        self.env: dict[str, str] = {}
        for item in _strings(inner.get("Env"), "Env"):
            variable, _, value = item.partition("=")
            if variable:
                self.env[variable] = value
        self.cwd = os.path.join("/", _str(inner.get("WorkingDir") or "/", "WorkingDir"))
        self.user = _str(inner.get("User") or "", "User")
        self.entrypoint = _strings(inner.get("Entrypoint"), "Entrypoint")
        self.cmd = _strings(inner.get("Cmd"), "Cmd")
        self.labels = _dict(inner.get("Labels") or {}, "Labels")
        for text in (*self.env, *self.env.values(), self.cwd, self.user, *self.entrypoint, *self.cmd):
            if "\0" in text:
                raise BadArchive("its config has a text with a zero byte")

    # -- the image's files -----------------------------------------------------------------------------------

    def _json(self, path: str, descriptor: dict[str, Any] | None = None) -> Any:
        """A document; its digest is checked where a descriptor gives one."""
        import hashlib
        import json

        file = self._find(path)
        if file.stat().st_size > _MAX_DOCUMENT:
            raise BadArchive(f"{path} in it is larger than {_MAX_DOCUMENT} bytes")
        data = file.read_bytes()
        if descriptor is not None:
            kind, _, digest = str(descriptor.get("digest")).partition(":")
            if hashlib.new(kind, data).hexdigest() != digest:
                raise BadArchive(f"{path} in it is not what its digest says")
        try:
            return json.loads(data)
        except ValueError as e:
            raise BadArchive(f"{path} in it is no JSON ({e})") from None

    def _find(self, path: str) -> TreePath:
        if not path or "\0" in path:
            raise BadArchive("it names a file without a name")
        file = self._root / path
        if not file.is_file():
            raise BadArchive(f"{path!r} is missing in it")
        return file

    def _layer(self, path: str, what: str) -> Source:
        """The bytes of a layer, from the cache of unpacked ones where it has a digest."""
        source = self._source(path)
        match = _BLOB.search(path)
        if match is None or self._cache is None:
            return source
        try:
            return self._cache.layer(f"{match[1]}:{match[2]}", source, self._limit)
        except BadArchive as e:
            source.close()
            raise BadArchive(f"{what} cannot be used as a tar archive: {e}") from None

    def _source(self, path: str) -> Source:
        """The bytes of a layer."""
        file = self._find(path)
        node = self._vfs.lookup(self._vfs.local, None, bytes(file)).inode
        if isinstance(node, ArchiveNode):
            assert isinstance(self._store, TarFS)
            offset, size, sparse = node.member
            if sparse is not None:
                raise BadArchive(f"{path!r} in it is stored as a sparse file")
            return Window(self._store.bytes_of_all, offset, size)
        with file.open("rb", 0) as f:
            return FileSource(os.dup(f.fileno()))


class _ImageFS(OverlayFS):
    """The overlay of an image's layers."""

    def __init__(self, image: Image) -> None:
        from .memfs import MemoryFS

        layers: list[SuperBlock] = [*reversed(image._layers)] or [MemoryFS(mode=0o755)]
        super().__init__(layers, redirect_dir=True, source=image.name or image.path)
        self.image = image

    def close(self) -> None:
        super().close()
        self.image.close()


def _blob(descriptor: dict[str, Any]) -> str:
    """The path of a descriptor's blob (image-layout.md)."""
    digest = descriptor.get("digest")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise BadArchive(f"it has a digest that is none: {str(digest)[:80]!r}")
    kind, _, value = digest.partition(":")
    return f"blobs/{kind}/{value}"


def _choose(names: list[list[str]], wanted: str | None) -> int:
    """Which of the images: the one of that name, or the only one."""
    if not names:
        raise BadArchive("it has no image for linux/amd64")
    if wanted is not None:
        for number, known in enumerate(names):
            if wanted in known or f"{wanted}:latest" in known:
                return number
    elif len(names) == 1:
        return 0
    have = ", ".join(sorted({name for known in names for name in known})[:10]) or "none with a name"
    raise BadArchive(f"it has {f'no image {wanted!r}' if wanted else 'several images'} (there are: {have})")


def _dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadArchive(f"{what} in it is no object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadArchive(f"{what} in it is no list")
    return value


def _str(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadArchive(f"{what} in it is no text")
    return value


def _strings(value: Any, what: str) -> list[str]:
    """A list of texts; null is an empty one, and one text is what a shell runs (old images)."""
    if isinstance(value, str):
        return ["/bin/sh", "-c", value]
    return [_str(item, what) for item in _list(value or [], what)]
