"""Images run: OCI layouts and docker save archives, with their configuration, and bad and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness import Result, assert_clean, run_ring3
from images import busybox, docker_save, layer, oci_layout, pack

import ring3
from ring3.errors import SandboxError
from ring3.vfs.archive import BadArchive
from ring3.vfs.image import Image

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
        cli("-r", str(path), command=("/bin/sh", "-c", "cat /gone; echo x >/gone; cat /gone")).out
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
