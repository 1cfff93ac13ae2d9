"""Images run: OCI layouts and docker save archives, with their configuration, and bad and hostile ones."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from harness import Result, assert_clean, run_ring3
from images import busybox, docker_save, layer, oci_layout, pack

import ring3
from ring3.errors import SandboxError
from ring3.vfs.archive import BadArchive
from ring3.vfs.image import Image
from ring3.vfs.layercache import LayerCache

BUSYBOX = busybox()
SETTINGS: dict[str, Any] = {
    "Env": ["GREETING=hello world", "PATH=/bin:/opt", "EMPTY="],
    "WorkingDir": "/made/here",
    "User": "app",
    "Entrypoint": ["/bin/sh", "-c", 'echo "$GREETING: $*"', "entry"],
    "Cmd": ["default", "arguments"],
    "Labels": {"a": "b"},
}

needs_busybox = pytest.mark.skipif(
    BUSYBOX is None, reason="a static busybox is not installed (busybox-static)"
)


def layers() -> list[bytes]:
    tools = {
        f"bin/{name}": ("->", "busybox")
        for name in ("sh", "id", "cat", "ls", "pwd", "env", "rm", "mv", "find")
    }
    return [
        layer(
            {"bin": None, "bin/busybox": BUSYBOX or b"", **tools}
            | {"etc/passwd": b"root:x:0:0::/root:/bin/sh\napp:x:1234:5678::/home/app:/bin/sh\n"}
            | {
                "etc/group": b"root:x:0:\nstaff:x:77:\n",
                "data/old": b"old\n",
                "data/sub/x": b"x\n",
                "gone": b"gone\n",
            }
        ),
        layer({".wh.gone": b"", "data/sub/.wh..wh..opq": b"", "data/sub/y": b"y\n", "data/new": b"new\n"}),
    ]


@pytest.fixture(params=["oci directory", "oci tar", "oci tar.gz", "docker save"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "docker save":
        return docker_save(tmp_path / "app.tar", layers(), SETTINGS)
    top = oci_layout(tmp_path / "layout", layers(), SETTINGS, nested=request.param == "oci tar")
    if request.param == "oci directory":
        return top
    return pack(top, tmp_path / "app.tar", "-czf" if request.param.endswith("gz") else "-cf")


def cli(*options: str, command: tuple[str, ...] = ()) -> Result:
    result = run_ring3(command, *options)
    assert_clean(result)
    return result


@needs_busybox
def test_the_configuration_is_honoured(image: Path) -> None:
    assert cli("--image", str(image)).out == b"hello world: default arguments\n"
    assert cli("--image", str(image), command=("one", "two")).out == b"hello world: one two\n"
    shown = cli(
        "--image", str(image), "--entrypoint", "", command=("sh", "-c", "id -u; id -g; pwd; env | sort")
    )
    assert shown.status == 0, shown.describe()
    lines = shown.out.decode().splitlines()
    assert lines[:3] == ["1234", "5678", "/made/here"]
    assert {"GREETING=hello world", "PATH=/bin:/opt", "EMPTY=", "HOME=/home/app"} <= set(lines)
    assert cli("--image", str(image), "--entrypoint", "id", command=("-u",)).out == b"1234\n"
    options = ("--image", str(image), "-u", "0", "-e", "GREETING=bye", "-w", "/")
    assert cli(*options).out == b"bye: default arguments\n"


@needs_busybox
def test_the_layers_are_one_tree(image: Path) -> None:
    script = "find /data /gone | sort; cat /data/old; rm -r /data; echo x >/data; cat /data; cat /etc/hosts | head -1"
    shown = cli("--image", str(image), "-u", "0", "--entrypoint", "", command=("busybox", "sh", "-c", script))
    assert shown.out.decode().splitlines()[:-1] == [
        "/data",
        "/data/new",
        "/data/old",
        "/data/sub",
        "/data/sub/y",
        "old",
        "x",
    ]
    assert b"/gone" in shown.err
    assert cli("--image", str(image), command=("again",)).out == b"hello world: again\n"


@needs_busybox
def test_the_python_interface(image: Path) -> None:
    with ring3.Sandbox(image=image, user=0) as box:
        assert box.image is not None and box.image.labels == {"a": "b"}
        assert box.run(capture_output=True).stdout == b"hello world: default arguments\n"
        assert box.run(["mv", "/data", "/moved"]).returncode == 0
        assert (box.root / "moved/sub/y").read_text() == "y\n"
        assert box.run(["pwd"], capture_output=True).stdout == b"/made/here\n"
    with pytest.raises(ring3.UsageError):
        ring3.Sandbox("/usr", image=image)


@needs_busybox
def test_a_plain_tree_in_an_archive_is_a_root(tmp_path: Path) -> None:
    path = tmp_path / "root.tar"
    path.write_bytes(layers()[0])
    assert (
        cli("-r", str(path), "-u", "0", command=("/bin/sh", "-c", "cat /gone; echo x >/gone; cat /gone")).out
        == b"gone\nx\n"
    )


def test_one_of_several_by_name(tmp_path: Path) -> None:
    top = docker_save(tmp_path / "a.tar", [layer({"a": b""})], {}, tags=("one:latest", "uno:1"))
    folder = tmp_path / "a.tar.d"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps([*manifest, manifest[0] | {"RepoTags": ["two:2"]}]))
    pack(folder, top)
    assert Image(top, "one").name == "one"
    assert Image(top, "two:2").name == "two:2"
    with pytest.raises(BadArchive, match=r"several images \(there are: one:latest, two:2, uno:1\)"):
        Image(top)
    with pytest.raises(SandboxError, match="no image 'three'"):
        ring3.Sandbox(image=f"{top}#three")
    ring3.Sandbox(image=f"{top}#uno:1").close()


def change(folder: Path, key: str, value: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[0][key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def spoil(folder: Path, how: str) -> None:
    """Make something of a docker save directory that must not work."""
    config = next(p for p in folder.iterdir() if p.suffix == ".json" and p.name != "manifest.json")
    if how == "the layer leads out":
        change(folder, "Layers", ["../../../../etc/passwd"])
    elif how == "the layer is absolute":
        change(folder, "Layers", ["/etc/passwd"])
    elif how == "the layer is a symlink out":
        (folder / "link").symlink_to("/etc/passwd")
        change(folder, "Layers", ["link"])
    elif how == "the config leads out":
        change(folder, "Config", "../../../../../../etc/passwd")
    elif how == "no list":
        change(folder, "Layers", {"a": 1})
    elif how == "numbers":
        change(folder, "Layers", [1, 2])
    elif how == "no JSON":
        (folder / "manifest.json").write_text("{")
    elif how == "deep JSON":
        (folder / "manifest.json").write_text("[" * 200_000)
    elif how == "another machine":
        config.write_text(json.dumps({"architecture": "arm64", "os": "linux"}))
    elif how == "an odd environment":
        config.write_text(json.dumps({"config": {"Env": [{"a": 1}]}}))
    elif how == "a layer that is no tar":
        (folder / f"{0:064}/layer.tar").write_bytes(b"hello" * 1000)
    elif how == "a hostile layer":
        (folder / f"{0:064}/layer.tar").write_bytes(layer({"../../up": b""}))
    elif how == "no manifest":
        (folder / "manifest.json").unlink()


SPOILS = [
    "the layer leads out",
    "the layer is absolute",
    "the layer is a symlink out",
    "the config leads out",
    "no list",
    "numbers",
    "no JSON",
    "deep JSON",
    "another machine",
    "an odd environment",
    "a layer that is no tar",
    "a hostile layer",
    "no manifest",
]


@pytest.mark.parametrize("how", SPOILS)
@pytest.mark.parametrize("form", ["directory", "tar"])
def test_bad_images_are_refused_in_one_sentence(tmp_path: Path, how: str, form: str) -> None:
    docker_save(tmp_path / "a.tar", [layer({"a": b""})], {})
    path = folder = tmp_path / "a.tar.d"
    spoil(folder, how)
    if form == "tar":
        path = pack(folder, tmp_path / "b.tar")
    with pytest.raises(BadArchive) as e:
        Image(path)
    assert "\n" not in str(e.value) and str(path) in str(e.value)


def test_digests_of_documents_are_verified(tmp_path: Path) -> None:
    top = oci_layout(tmp_path / "x", [layer({"a": b""})], {})
    for file in (top / "blobs/sha256").iterdir():
        if b"rootfs" in file.read_bytes():
            file.write_bytes(file.read_bytes().replace(b"layers", b"Layers"))
    with pytest.raises(BadArchive, match="not what its digest says"):
        Image(top)
    index = json.loads((top / "index.json").read_text())
    index["manifests"][0]["digest"] = "sha256:../../../../etc/passwd"
    (top / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadArchive, match="digest that is none"):
        Image(top)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--image", "/nonexistent.tar"], "no such file"),
        (["--image", "/etc/passwd"], "cannot be used as"),
        (["--image", "/etc"], "neither a manifest.json"),
        (["--image", "/etc", "-r", "/"], "exclude each other"),
    ],
)
def test_the_command_line_gives_one_sentence(options: list[str], why: str) -> None:
    result = cli(*options)
    text = result.err.decode()
    assert result.status == 125 and text.startswith("ring3: ") and text.count("\n") == 1 and why in text


def test_an_image_that_does_not_say_what_to_run(tmp_path: Path) -> None:
    path = docker_save(tmp_path / "a.tar", [layer({"a": b""})], {})
    result = cli("--image", str(path))
    assert result.status == 125 and b"does not say what to run" in result.err
    assert cli("--image", str(path), command=("/none",)).status == 127


@needs_busybox
def test_tracing_an_image(tmp_path: Path) -> None:
    from harness import ring3_argv, run

    path = docker_save(tmp_path / "a.tar", layers(), SETTINGS)
    start = ring3_argv([])[: ring3_argv([]).index("run")]
    result = run([*start, "trace", "--image", str(path), "--mount", "type=tmpfs,target=/mnt", "--", "traced"])
    assert result.status == 0 and result.out == b"hello world: traced\n", result.describe()
    assert b'execve("/bin/sh", ["/bin/sh", "-c"' in result.err


def big_layer(tag: bytes) -> bytes:
    """A layer that does not compress to less than a megabyte, with all that an index has to keep."""
    import random

    noise = random.Random(tag).randbytes(1_500_000)
    return layer({"noise": noise, "tag": tag, "sub/deep/x": b"x", "link": ("->", "sub/deep"), "empty": None})


def tree_of(image: Image) -> dict[str, Any]:
    """Everything that can be seen of an image, with a sum of its bytes."""
    from ring3.vfs.tree import TreePath
    from ring3.vfs.vfs import Vfs

    world = Vfs(image.filesystem())
    found: dict[str, Any] = {}
    try:
        todo = [TreePath(world)]
        while todo:
            for child in todo.pop().iterdir():
                st = child.lstat()
                data = zlib.crc32(child.read_bytes()) if child.is_file() else None
                found[str(child)] = (st.st_mode, st.st_uid, st.st_size, st.st_mtime_ns, st.st_nlink, data)
                if child.is_dir() and not child.is_symlink():
                    todo.append(child)
    finally:
        world.close()
    return found


def test_unpacked_layers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = oci_layout(tmp_path / "layout", [big_layer(b"one"), layer({"small": b"s"})], {})
    expected = tree_of(Image(top))
    cache = LayerCache(str(tmp_path / "cache"))
    assert tree_of(Image(top, cache=cache)) == expected
    kept = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert kept == [".index", ".tar"]  # nothing else, and not the small layer

    def never(*_: Any) -> None:
        raise AssertionError("it was unpacked again")

    with monkeypatch.context() as patch:
        patch.setattr("ring3.vfs.layercache.unpacked", never)
        patch.setattr("ring3.vfs.tarfs._row", never)
        large = Image(oci_layout(tmp_path / "alone", [big_layer(b"one")], {}), cache=cache)
        assert "/noise" in tree_of(large)


@pytest.mark.parametrize("damage", ["a block", "the end", "cut short", "empty", "the index", "another's"])
def test_damaged_layers_are_unpacked_again(tmp_path: Path, damage: str) -> None:
    top = oci_layout(tmp_path / "layout", [big_layer(b"two")], {})
    cache = LayerCache(str(tmp_path / "cache"))
    expected = tree_of(Image(top, cache=cache))
    (bytes_of_it,) = (tmp_path / "cache").glob("*.tar")
    (index,) = (tmp_path / "cache").glob("*.index")
    victim = index if damage == "the index" else bytes_of_it
    data = bytearray(victim.read_bytes())
    if damage in ("a block", "the index"):
        data[len(data) // 2] ^= 1
    elif damage == "the end":
        data[-1] ^= 1
    elif damage == "another's":
        victim.chmod(0o666)
    else:
        del data[0 if damage == "empty" else len(data) // 2 :]
    victim.write_bytes(data)
    assert tree_of(Image(top, cache=cache)) == expected
    assert tree_of(Image(top, cache=cache)) == expected


def test_the_limit_holds_for_what_is_kept(tmp_path: Path) -> None:
    top = oci_layout(tmp_path / "layout", [big_layer(b"seven")], {})
    cache = LayerCache(str(tmp_path / "cache"))
    Image(top, cache=cache).close()
    for kept in (cache, None):
        with pytest.raises(BadArchive, match="unpacks to more"):
            Image(top, cache=kept, limit=1_000_000)


def test_a_layer_with_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    top = oci_layout(tmp_path / "layout", [big_layer(b"three")], {})
    blob = max((top / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(gzip.compress(big_layer(b"four"), 1))
    cache = LayerCache(str(tmp_path / "cache"))
    with pytest.raises(BadArchive, match="not what its digest says"):
        Image(top, cache=cache)
    assert not (tmp_path / "cache").exists()


def test_the_cache_keeps_to_its_bound(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    cache = LayerCache(str(directory), bound=4_000_000)
    tops = [oci_layout(tmp_path / str(n), [big_layer(b"%d" % n)], {}) for n in range(3)]
    for n, top in enumerate(tops):
        Image(top, cache=cache).close()
        for path in directory.glob("*.tar"):
            os.utime(path, (1000 + n, 1000 + n)) if path.stat().st_mtime > 2000 else None
    assert len(list(directory.glob("*.tar"))) == 2
    (directory / "tmp-1-dead").write_bytes(b"x")
    os.utime(directory / "tmp-1-dead", (1000, 1000))
    cache = LayerCache(str(directory), bound=100_000)
    assert "/noise" in tree_of(Image(tops[0], cache=cache))  # too large to be kept
    assert "/noise" in tree_of(Image(tops[2], cache=cache))


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    top = oci_layout(tmp_path / "layout", [big_layer(b"five")], {})
    (tmp_path / "cache").write_bytes(b"no directory")
    assert "/noise" in tree_of(Image(top, cache=LayerCache(str(tmp_path / "cache"))))


def test_two_that_fill_the_cache_at_once(tmp_path: Path) -> None:
    top = oci_layout(tmp_path / "layout", [big_layer(b"six")], {})
    code = (
        "import sys; from ring3.vfs.image import Image; from ring3.vfs.layercache import LayerCache\n"
        "sys.stdin.read(1); Image(sys.argv[1], cache=LayerCache(sys.argv[2])).close()"
    )
    words = [sys.executable, "-c", code, str(top), str(tmp_path / "cache")]
    writers = [subprocess.Popen(words, stdin=subprocess.PIPE) for _ in range(3)]
    for writer in writers:
        writer.communicate(b"x", timeout=60)
        assert writer.returncode == 0
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".index", ".tar"]
    assert tree_of(Image(top, cache=LayerCache(str(tmp_path / "cache")))) == tree_of(Image(top))
