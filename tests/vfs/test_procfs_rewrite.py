"""The pure text functions of /proc, on text alone."""

from __future__ import annotations

import os

from ring3.vfs.procfs import rewrite

MAPS = b"""\
555500000000-555500001000 r--p 00000000 00:01 77                         /memfd:ring3 (deleted)
555500002000-555500004000 rw-p 00000000 00:00 0 \n\
555500004000-555500005000 rw-p 00000000 00:00 0                          [heap]
210000000000-210000010000 r-xp 00000000 fe:00 99                         /usr/lib/core
7fff00000000-7fff00021000 rw-p 00000000 00:00 0                          [stack]
7fff00030000-7fff00031000 rw-s 00000000 00:01 78                         /memfd:mine (deleted)
"""
CORE = (0x210000000000, 0x211000000000)


def resolve(dev: int, ino: int, shown: bytes) -> tuple[bytes, int, int] | None:
    assert dev == os.makedev(0, 1)
    return (b"/bin/a b\nc", os.makedev(0, 0x1001), 5) if ino == 77 else None


def test_maps_names_files_hides_the_core_and_moves_the_heap() -> None:
    out = rewrite.maps(MAPS, resolve, (0x555500002000, 0x555500003000), CORE)
    lines = out.split(b"\n")
    assert lines[0] == b"555500000000-555500001000 r--p 00000000 00:1001 5 ".ljust(73) + rb"/bin/a b\012c"
    assert lines[1] == b"555500002000-555500004000 rw-p 00000000 00:00 0 ".ljust(73) + b"[heap]"
    assert (
        lines[2] == b"555500004000-555500005000 rw-p 00000000 00:00 0 "
    )  # the core's own label is not the guest's
    assert lines[3].endswith(b"[stack]") and lines[4].endswith(b"/memfd:mine (deleted)")
    assert len(lines) == 6 and b"core" not in out


def test_maps_without_changes_is_byte_for_byte_the_hosts() -> None:
    with open("/proc/self/maps", "rb") as f:
        lines = f.readlines()
    # but for the host's vDSO and its data, which guests never see
    hidden = (b"[vdso]\n", b"[vvar]\n", b"[vvar_vclock]\n")
    everything, text = b"".join(lines), b"".join(line for line in lines if not line.endswith(hidden))
    assert text != everything
    heap = [line for line in text.splitlines() if line.endswith(b"[heap]")]
    bounds = [int(x, 16) for x in heap[0].split()[0].split(b"-")] if heap else [0, 0]
    assert rewrite.maps(everything, lambda *_: None, (bounds[0], bounds[1]), CORE) == text


def test_smaps_details_go_with_their_mapping() -> None:
    text = MAPS.replace(b"/usr/lib/core\n", b"/usr/lib/core\nSize: 4 kB\nRss: 1 kB\n").replace(
        b"[stack]\n", b"[stack]\nSize: 132 kB\n"
    )
    out = rewrite.maps(text, resolve, None, CORE)
    assert b"Size: 4 kB" not in out and b"Rss: 1 kB" not in out
    assert b"[stack]\nSize: 132 kB\n" in out


def test_area_counts_what_is_hidden() -> None:
    assert rewrite.area(MAPS, CORE) == (0x10000, 0)
    more = MAPS + b"210000010000-210000030000 rw-p 00000000 00:00 0 \n"
    assert rewrite.area(more, CORE) == (0x30000, 0x20000)


def test_stat_survives_any_comm() -> None:
    text = b"12 (a) b (c) S 1 2 3\n"
    assert rewrite.split_stat(text) == (b"12", b"a) b (c", [b"S", b"1", b"2", b"3"])
    assert rewrite.stat(text, {2: b"x)", 3: b"R", 4: 0, 99: 7}) == b"12 (x)) R 0 2 3\n"


def test_fields_keep_order_and_unknown_lines() -> None:
    text = b"Name:\tx\nPPid:\t7\nodd line\nSeccomp:\t2\n"
    assert (
        rewrite.fields(text, {b"PPid": b"0", b"New": b"1"}, drop=[b"Seccomp"])
        == b"Name:\tx\nPPid:\t0\nodd line\n"
    )


def test_limits_rows_keep_the_kernels_columns() -> None:
    with open("/proc/self/limits", "rb") as f:
        text = f.read()
    out = rewrite.limits(text, {b"Max open files": (1024, None)})
    old, new = text.splitlines(), out.splitlines()
    assert len(old) == len(new)
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert len(changed) <= 1
    row = next(line for line in new if line.startswith(b"Max open files"))
    assert row.split()[3:6] == [b"1024", b"unlimited", b"files"]
    assert row.index(b"files", 20) == old[0].index(b"Units")


def test_title() -> None:
    assert rewrite.title(b"a\0b\0", b"E=1\0") == b"a\0b\0"
    assert rewrite.title(b"title here", b" goes on\0E=1\0") == b"title here goes on\0"
    assert rewrite.title(b"short\0xxx", b"") == b"short\0"
    assert rewrite.title(b"", b"E=1\0") == b""


def test_mangle() -> None:
    assert rewrite.mangle(b"a b\\c\td\ne#") == rb"a\040b\134c\011d\012e#"
    assert rewrite.mangle(b"#", b"#") == rb"\043"
