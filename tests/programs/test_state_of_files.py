"""Snapshots, differences, exports and the report of files, with real programs."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest
from harness import assert_clean, run_ring3

import ring3

SCRIPT = (
    "cd {0} && echo more >>kept && mkdir new && echo made >new/file && rm gone && cat nothing;"
    "ln -s new link && cat link/file"
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    top = tmp_path / "work"
    top.mkdir()
    (top / "kept").write_text("kept\n")
    (top / "gone").write_text("gone\n")
    return top


def test_diff_and_export_from_the_command_line(work: Path, tmp_path: Path) -> None:
    options = [
        *("--diff", str(tmp_path / "diff"), "--export", str(tmp_path / "layer.tar")),
        *("--export", f"{tmp_path}/tree.tar.gz:{work}", "--report", f"files={tmp_path}/report"),
    ]
    result = run_ring3(["/bin/sh", "-c", SCRIPT.format(work)], *options)
    assert_clean(result)
    assert result.out == b"made\n", result.describe()
    assert (tmp_path / "diff").read_text().splitlines() == [
        f"D {work}/gone",
        f"C {work}/kept",
        f"A {work}/link",
        f"A {work}/new",
        f"A {work}/new/file",
    ]
    base = str(work).lstrip("/")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        names = sorted(tar.getnames())
        assert names == sorted(base + end for end in ("/.wh.gone", "/kept", "/link", "/new", "/new/file"))
        kept = tar.extractfile(f"{base}/kept")
        assert kept is not None and kept.read() == b"kept\nmore\n"
    with tarfile.open(tmp_path / "tree.tar.gz") as tar:
        assert sorted(tar.getnames()) == ["kept", "link", "new", "new/file"]
    report = set((tmp_path / "report").read_text().splitlines())
    assert {
        f"wrote {work}/kept",
        f"wrote {work}/new",
        f"wrote {work}/new/file",
        f"wrote {work}/gone",
        f"wrote {work}/link",
        f"read {work}/link/file",
        f"read {work}/new/file",
        f"missed {work}/nothing",
    } <= report
    assert (work / "gone").exists() and not (work / "new").exists()


def test_the_exported_layer_makes_the_same_tree(work: Path, tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    assert_clean(run_ring3(["/bin/sh", "-c", SCRIPT.format(work)], "--export", str(layer)))
    shown = run_ring3(
        ["/bin/sh", "-c", f"cd /mnt/{work} && ls && cat kept"],
        "--mount",
        f"type=overlay,lowerdir={layer}:/,target=/mnt",
    )
    assert shown.out == b"kept\nlink\nnew\nkept\nmore\n", shown.describe()


def test_snapshots_while_a_program_runs(work: Path) -> None:
    script = """
import os, sys
f = open("file", "w+", buffering=1)
f.write("one\\n")
os.mkdir("dir"); os.chdir("dir")
print("ready", flush=True); sys.stdin.readline()
f.write("two\\n")
open("inner", "w").write("x")
os.unlink("../kept")
print("changed", flush=True); sys.stdin.readline()
f.seek(0); print(repr(f.read()), os.listdir("."), sorted(os.listdir("..")), os.getcwd(), flush=True)
"""
    with ring3.Sandbox(mounts={"/work": str(work)}) as box:
        command = [sys.executable, "-c", script]
        with box.popen(command, cwd="/work", stdin=ring3.PIPE, stdout=ring3.PIPE, text=True) as p:
            assert p.stdin is not None and p.stdout is not None
            assert p.stdout.readline() == "ready\n"
            snapshot = box.snapshot()
            p.stdin.write("\n")
            p.stdin.flush()
            assert p.stdout.readline() == "changed\n"
            assert str(box.diff(snapshot)) == "A /work/dir/inner\nC /work/file\nD /work/kept\n"
            box.restore(snapshot)
            assert list(box.diff(snapshot)) == []
            p.stdin.write("\n")
            p.stdin.flush()
            assert p.stdout.readline() == "'one\\n' [] ['dir', 'file', 'gone', 'kept'] /work/dir\n"
        assert p.returncode == 0


def test_the_state_of_a_world_from_python(work: Path, tmp_path: Path) -> None:
    with ring3.Sandbox(mounts={"/work": str(work)}, cwd="/work") as box:
        report = box.report_files()
        before = box.snapshot()
        box.run(["/bin/sh", "-c", "echo 1 >a; rm gone; chmod 600 kept; cat missing 2>&-; true"], check=True)
        report.stop()
        diff = box.diff(before)
        assert (diff.added, diff.changed, diff.deleted) == (["/work/a"], ["/work/kept"], ["/work/gone"])
        assert next(change.what for change in diff if change.kind == "changed") == ("mode",)
        assert {"/work/a", "/work/gone", "/work/kept"} <= report.wrote and "/work/missing" in report.missed
        assert box.fs.as_dict("/work") == {"a": b"1\n", "kept": b"kept\n"}
        box.export(tmp_path / "x.tar", "/work")
        box.restore(before)
        assert box.run(["ls"], capture_output=True).stdout == b"gone\nkept\n"
    assert before.left_out == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--diff", "/nonexistent/x"], "No such file"),
        (["--export", "/nonexistent/x"], "No such file"),
        (["--export", "/tmp/x.tar:/nonexistent"], "No such file"),
        (["--report", "moon"], "there is no report but files"),
    ],
)
def test_one_sentence_for_what_cannot_be_told(options: list[str], why: str, tmp_path: Path) -> None:
    options = [option.replace("/tmp/", f"{tmp_path}/") for option in options]
    result = run_ring3(["/bin/true"], *options)
    text = result.err.decode()
    assert result.status == 125 and text.startswith("ring3: ") and text.count("\n") == 1 and why in text
