"""Every way to get ring3 onto a machine ends with a guest that runs.

Layer: tests. Touches copies of the source tree in a temporary directory; installs nothing outside of it and
downloads nothing (the build runs without isolation, on the flit_core of the test environment).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SITE = sysconfig.get_path("purelib")
TAG = "py3-none-manylinux_2_5_x86_64.musllinux_1_1_x86_64"
PARTS = ("core_native", "kernel", "loader", "netstack", "vfs")
GUEST = ["run", "-u", "0", "sh", "-c", "echo written > /ring3-test-file && cat /ring3-test-file"]

pytestmark = [pytest.mark.packaging, pytest.mark.xdist_group("packaging")]


def run(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command with output captured; its output is in the failure."""
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env={**base_env(), **(env or {})}, capture_output=True, text=True
    )
    if check and done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def base_env() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "XDG_CACHE_HOME", "LANG", "TMPDIR")}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"}


def copy_of_the_sources(to: Path, source: Path = REPO) -> Path:
    ignored = shutil.ignore_patterns(".git", "__pycache__", ".venv", "*_cache", ".hypothesis", "dist", "build")
    return Path(shutil.copytree(source, to, symlinks=True, ignore=ignored))


def path_without_compilers(folder: Path) -> str:
    """A PATH with what a shell needs and no C compiler."""
    folder.mkdir(exist_ok=True)
    for name in ("sh", "cat", "env", "true"):
        found = shutil.which(name)
        assert found is not None
        if not (folder / name).exists():
            (folder / name).symlink_to(found)
    return str(folder)


def sees_a_guest_run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> None:
    done = run(*command, *GUEST, cwd=cwd, env=env)
    assert done.stdout == "written\n", done.stderr
    assert not Path("/ring3-test-file").exists()


@pytest.fixture(scope="module")
def folder(session_dir: Path) -> Iterator[Path]:
    path = session_dir / "packaging"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def libraries(folder: Path) -> str:
    """A folder for PYTHONPATH with what the test environment has installed, but for ring3 itself.

    pip would take a ring3 that it sees there for one to be replaced.
    """
    path = folder / "libraries"
    path.mkdir()
    for entry in Path(SITE).iterdir():
        if not entry.name.startswith(("ring3", "__pycache__", "pip")) and entry.suffix != ".pth":
            (path / entry.name).symlink_to(entry)
    return str(path)


@pytest.fixture(scope="module")
def sources(folder: Path) -> Path:
    return copy_of_the_sources(folder / "sources")


@pytest.fixture(scope="module")
def dist(folder: Path, sources: Path) -> Path:
    """``python -m build``: the sdist, and the wheel made from it."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=sources)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def test_the_sdist_holds_the_whole_checkout(dist: Path, sources: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {m.name.split("/", 1)[1]: m for m in archive}
    for part in PARTS:
        assert members[f"ring3/{part}"].issym() and members[f"ring3/{part}"].linkname == f"../{part}"
        for path in (sources / part).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(sources)) in members
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py", "PKG-INFO"):
        assert name in members
    assert not [n for n in members if n.endswith((".pyc", ".o"))]


def test_the_wheel_holds_real_folders_and_the_core(wheel: Path, sources: Path) -> None:
    from ring3 import __version__

    assert wheel.name == f"ring3-{__version__}-{TAG}.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        info = {i.filename: i for i in archive.infolist()}
        record = archive.read(f"ring3-{__version__}.dist-info/RECORD").decode()
        tags = re.findall("^Tag: (.*)$", archive.read(f"ring3-{__version__}.dist-info/WHEEL").decode(), re.M)
        core = archive.read("ring3/core_native/core")
    assert tags == ["py3-none-manylinux_2_5_x86_64", "py3-none-musllinux_1_1_x86_64"]
    assert core[:4] == b"\x7fELF" and info["ring3/core_native/core"].external_attr >> 16 & 0o111 == 0o111
    for part in PARTS:
        for path in (sources / part).rglob("*.py"):
            if path.name not in ("backend.py", "gen.py"):
                assert f"ring3/{path.relative_to(sources)}" in names
    assert {line.split(",")[0] for line in record.splitlines()} == names
    build_only = [n for n in names if n.split("/")[0] in PARTS or n.endswith((".c", ".h", ".pyc"))]
    assert build_only == ["ring3/core_native/ring3_hook.h"]  # native hooks are compiled against it


def test_the_wheel_is_the_same_wherever_it_is_built(folder: Path, sources: Path, wheel: Path) -> None:
    elsewhere = copy_of_the_sources(folder / "another" / "place", sources)
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        folder / "again",
        cwd=elsewhere,
    )
    (again,) = (folder / "again").glob("*.whl")
    assert again.name == wheel.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_an_installed_wheel_runs_without_a_compiler(folder: Path, wheel: Path, libraries: str) -> None:
    target = folder / "installed"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel, cwd=folder)
    env = {
        "PATH": path_without_compilers(folder / "path"),
        "PYTHONPATH": f"{target}{os.pathsep}{libraries}",
        "XDG_CACHE_HOME": str(folder / "no-cache"),
    }
    sees_a_guest_run(sys.executable, "-m", "ring3", cwd=folder, env=env)
    compiled = [path.name for path in (folder / "no-cache").glob("**/core-*")]
    assert compiled == [], "the shipped core was not used"
    where = run(sys.executable, "-c", "import ring3; print(ring3.__file__)", cwd=folder, env=env).stdout
    assert where.startswith(str(target))


def test_a_wheel_that_lost_its_mode_bits_runs_too(folder: Path, wheel: Path, libraries: str) -> None:
    target = folder / "modeless"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)  # zipfile knows no modes
    env = {"PYTHONPATH": f"{target}{os.pathsep}{libraries}", "XDG_CACHE_HOME": str(folder / "cache")}
    sees_a_guest_run(sys.executable, "-m", "ring3", cwd=folder, env=env)


@pytest.mark.parametrize("editable", [False, True])
def test_pip_install_and_the_script(folder: Path, sources: Path, libraries: str, editable: bool) -> None:
    home = folder / f"venv-{editable}"
    venv.create(home, with_pip=False, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "-q", "--no-deps")
    env = {"PYTHONPATH": libraries}
    run(*pip, "--no-build-isolation", *(["-e"] if editable else []), sources, cwd=folder, env=env)
    sees_a_guest_run(home / "bin" / "ring3", cwd=folder, env=env)
    program = "import ring3.vfs.vfs as v; print(v.__file__)"
    where = run(home / "bin" / "python", "-c", program, cwd=folder, env=env).stdout
    assert where.startswith(str(sources if editable else home))


def test_a_bare_checkout_runs(sources: Path, folder: Path, libraries: str) -> None:
    env = {"PYTHONPATH": libraries}
    sees_a_guest_run(sys.executable, "-m", "ring3", cwd=sources, env=env)
    env = {"PYTHONPATH": f"{sources}{os.pathsep}{libraries}"}
    sees_a_guest_run(sys.executable, "-m", "ring3", cwd=folder, env=env)


def test_without_a_compiler_one_sentence_says_what_to_install(
    sources: Path, folder: Path, libraries: str
) -> None:
    env = {
        "PATH": path_without_compilers(folder / "path"),
        "PYTHONPATH": libraries,
        "XDG_CACHE_HOME": str(folder / "empty-cache"),
    }
    done = run(sys.executable, "-m", "ring3", "run", "true", cwd=sources, env=env, check=False)
    assert done.returncode == 125
    assert done.stderr.count("\n") == 1 and "apt-get install gcc" in done.stderr
    install = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation")
    done = run(*install, "--target", folder / "never", sources, cwd=folder, env=env, check=False)
    assert done.returncode != 0
    assert "apt-get install gcc" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_many_at_once_compile_one_core(sources: Path, folder: Path, libraries: str) -> None:
    env = {**base_env(), "PYTHONPATH": libraries, "XDG_CACHE_HOME": str(folder / "crowded")}
    program = "from ring3.core_native.build import core_path; print(core_path())"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], cwd=sources, env=env, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    paths = {p.communicate()[0].strip() for p in started}
    assert [p.returncode for p in started] == [0] * 4
    assert len(paths) == 1 and os.listdir(folder / "crowded" / "ring3") == [os.path.basename(paths.pop())]


def test_the_version_is_in_one_place(sources: Path, libraries: str) -> None:
    from ring3 import __version__

    done = run(sys.executable, "-m", "ring3", "--version", cwd=sources, env={"PYTHONPATH": libraries})
    assert done.stdout == f"ring3 {__version__}\n"
    try:
        installed = importlib.metadata.version("ring3")
    except importlib.metadata.PackageNotFoundError:
        return
    assert installed == __version__
