"""The cache of rewritten files: what it keeps, when it looks again, and that nothing on disk can mislead it.

Layer: tests. Touches temporary directories and memfds; runs gcc.
"""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
from binascii import crc32
from pathlib import Path

import hostfacts
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rewriting import assemble, content, function, image, real_files

from ring3.loader import site_cache, sites
from ring3.loader.site_cache import RewriteCache, shared_cache

SOURCE = (
    function("f", "mov $39, %eax; syscall; ret")
    + function("g", "lea 39(%rdi), %rax; syscall; ret")
    + function("h", "lea 1f(%rip), %rax; jmp *%rax; 1: mov $39, %eax; syscall; ret")
)
OLD = 1_600_000_000_000_000_000


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = assemble(tmp_path / "lib", "cached", SOURCE)
    os.utime(path, ns=(OLD, OLD))
    return path


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's directory. Files count as steady although they were just made, and lie in memory perhaps."""
    monkeypatch.setattr(site_cache, "_RACY", -(10**12))
    monkeypatch.setattr(site_cache, "_plain_devices", {tmp_path.stat().st_dev})
    return tmp_path / "cache"


def entry(directory: Path) -> Path:
    """The only entry of a cache."""
    found = [p for p in directory.iterdir() if not p.is_symlink()]
    assert len(found) == 1
    return found[0]


class Get:
    """Opens a file and asks a fresh cache for it; counts the analyses."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.analyses = self.hashes = 0
        find, digest = site_cache.find_sites, site_cache.content_hash

        def counted(*args: object) -> sites.Analysis:
            self.analyses += 1
            return find(*args)  # type: ignore[arg-type]

        def hashed(*args: object) -> str:
            self.hashes += 1
            return digest(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(site_cache, "find_sites", counted)
        monkeypatch.setattr(site_cache, "content_hash", hashed)

    def __call__(self, path: Path | int, cache: RewriteCache | None = None) -> bytes:
        """The memfd's content; b"" for None."""
        fd = path if isinstance(path, int) else os.open(path, os.O_RDONLY)
        try:
            made = (cache or RewriteCache(str(self.directory))).get(fd)
            return b"" if made is None else image(made)
        finally:
            if not isinstance(path, int):
                os.close(fd)


@pytest.fixture
def get(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Get:
    return Get(directory, monkeypatch)


def test_in_memory_by_identity(library: Path, get: Get) -> None:
    cache = RewriteCache(str(get.directory))
    first = get(library, cache)
    assert first
    assert get(library, cache) == first
    assert (get.analyses, get.hashes) == (1, 1)
    with open(library, "rb") as f:
        made = cache.get(f.fileno())
        assert made is cache.get(f.fileno())
        assert made is not None
    cache.close()
    assert made.memfd == -1


def test_on_disk_by_content(library: Path, get: Get, tmp_path: Path) -> None:
    first = get(library)
    assert get(library) == first
    assert (get.analyses, get.hashes) == (1, 1), "a file with a known identity is not hashed"
    copy = tmp_path / "copy.so"
    copy.write_bytes(content(library))
    assert get(copy) == first
    assert (get.analyses, get.hashes) == (1, 2)


def test_a_changed_file_is_another(library: Path, get: Get) -> None:
    first = get(library)
    changed = content(library).replace(b"\xb8\x27\0\0\0\x0f\x05\xc3", b"\xb8\x66\0\0\0\x0f\x05\xc3")
    library.write_bytes(changed)
    second = get(library)
    assert second and second != first
    assert get.analyses == 2


def test_files_without_sites_are_remembered(get: Get, tmp_path: Path) -> None:
    path = assemble(tmp_path, "none", function("f", "wrgsbase %rdi; ret"))
    assert get(path) == get(path) == b""
    assert get.analyses == 1
    with open(path, "rb") as f:
        info = RewriteCache(str(get.directory)).info(f.fileno())
    assert info is not None and info.uses_gs and not info.sites
    other = tmp_path / "script"
    other.write_bytes(b"#!/bin/sh\n")
    assert get(other) == b""
    assert get.analyses == 1
    with open(other, "rb") as f:
        assert RewriteCache(str(get.directory)).info(f.fileno()) is None


def test_a_file_that_just_changed_is_hashed_again(
    library: Path, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_cache, "_RACY", 2_000_000_000)
    get(library)
    get(library)
    assert (get.analyses, get.hashes) == (1, 2)


def test_a_memfd_is_not_judged_by_its_times(library: Path, get: Get) -> None:
    import mmap

    cache, data = RewriteCache(str(get.directory)), content(library)
    fd = os.memfd_create("library", os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, data)
        first = get(fd, cache)
        assert get(fd, cache) == first
        before = os.fstat(fd)
        with mmap.mmap(fd, len(data)) as shared:
            at = data.index(b"\xb8\x27\0\0\0\x0f\x05\xc3")
            shared[at + 1] = 39  # the first store to a page is noted, later ones are not
            assert get(fd, cache) == first
            before = os.fstat(fd)
            shared[at + 1] = 102
        after = os.fstat(fd)
        assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
        assert get(fd, cache) not in (first, b"")
        hashes = get.hashes
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        assert get(fd, cache) == get(fd, cache) != b""
        assert get.hashes <= hashes + 1, "a sealed one cannot change"
    finally:
        os.close(fd)


def test_learned_sites_come_with_the_next_run(library: Path, get: Get) -> None:
    cache = RewriteCache(str(get.directory))
    first = get(library, cache)
    with open(library, "rb") as f:
        info = cache.info(f.fileno())
        made = cache.get(f.fileno())
    assert info is not None and made is not None
    assert [s.reason for s in info.refused] == [sites.NOT_REACHED]
    hidden = info.refused[0].vaddr
    assert cache.record(made.key, [hidden])
    assert not cache.record(made.key, [hidden])
    assert not cache.record("0" * 32, [hidden])
    assert get(library, cache) == first
    second = get(library)
    assert second != first
    assert get(library) == second
    assert get.analyses == 2
    with open(library, "rb") as f:
        info = RewriteCache(str(get.directory)).info(f.fileno())
    assert info is not None and hidden in {s.vaddr for s in info.sites}


def test_a_file_that_has_no_rewrite_learns_too(get: Get, tmp_path: Path) -> None:
    hidden = "lea 1f(%rip), %rax; jmp *%rax; 1: mov $39, %eax; syscall; ret"
    path = assemble(tmp_path, "all_hidden", function("f", hidden) + function("g", "ret"))
    assert get(path) == b""
    with open(path, "rb") as f:
        cache = RewriteCache(str(get.directory))
        info = cache.info(f.fileno())
        assert info is not None
        assert cache.learn(f.fileno(), [s.vaddr for s in info.refused])
    assert get(path) != b""


def damaged(raw: bytes) -> dict[str, bytes]:
    head, row, body = site_cache._HEAD, site_cache._SITE, raw[site_cache._HEAD.size :]
    fields = list(head.unpack_from(raw))

    def forged(new: bytes, **changes: int) -> bytes:
        names = ("magic", "version", "flags", "sites", "learned", "sum", "zero", "key")
        changed = [changes.get(name, value) for name, value in zip(names, fields, strict=True)]
        if "sum" not in changes:
            changed[5] = crc32(new)
        return head.pack(*changed) + new

    first = list(row.unpack_from(body))
    return {
        "empty": b"",
        "truncated head": raw[:20],
        "truncated": raw[:-9],
        "one byte more": raw + b"\0",
        "a flipped bit": raw[:-20] + bytes([raw[-20] ^ 4]) + raw[-19:],
        "another version": forged(body, version=site_cache.VERSION + 1),
        "a wrong checksum": forged(body, sum=1),
        "many sites": forged(body, sites=0xFFFFFFFF),
        "many learned": forged(body, learned=0xFFFFFFFF),
        "no such form": forged(row.pack(*first[:5], 9, 0) + body[row.size :]),
        "no such reason": forged(row.pack(*first[:5], 0, 200) + body[row.size :]),
        "an operand as a site": forged(row.pack(first[0] + 1, *first[1:]) + body[row.size :]),
        "far away": forged(row.pack(1 << 63, *first[1:]) + body[row.size :]),
        "everything": os.urandom(len(raw)),
        "huge": b"\0" * (site_cache.MAX_FILE_BYTES + 10),
    }


def test_damaged_and_forged_entries_are_made_anew(library: Path, get: Get) -> None:
    good = get(library)
    path = entry(get.directory)
    raw = path.read_bytes()
    for i, (what, bad) in enumerate(damaged(raw).items()):
        path.write_bytes(bad)
        assert get(library) == good, what
        assert get.analyses == i + 2, what
        assert path.read_bytes() == raw, what


def test_random_damage(library: Path, get: Get) -> None:
    """Numbers that are wrong but well-formed: whatever is patched then is a site or padding still."""
    get(library)
    path, data = entry(get.directory), content(library)
    with open(library, "rb") as f:
        found = RewriteCache(str(get.directory)).info(f.fileno())
    assert found is not None
    allowed = set()
    for site in (*found.sites, *found.refused):
        at = site.vaddr  # the only segment with code lies at its own offset
        assert data[at : at + 2] == b"\x0f\x05"
        allowed |= set(range(at - 5, at + 2) if data[at - 5] == 0xB8 else range(at, at + 2))
        end = data.index(b"\xc3", at) + 1
        allowed |= set(range(end, -(-end // 32) * 32))
    raw = path.read_bytes()
    head, rng = site_cache._HEAD, random.Random(1)
    patched = 0
    for _ in range(400):
        body = bytearray(raw[head.size :])
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] = rng.choice((rng.randrange(256), rng.randrange(8)))
        fields = list(head.unpack_from(raw))
        fields[5] = crc32(body)
        path.write_bytes(head.pack(*fields) + body)
        made = get(library)
        changed = {i for i, b in enumerate(made[0x1000:0x2000], 0x1000) if i < len(data) and data[i] != b}
        assert changed <= allowed
        patched += bool(changed)
        path.write_bytes(raw)
    assert patched > 100


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "unreadable"])
def test_strange_things_in_the_directory(kind: str, library: Path, get: Get) -> None:
    good = get(library)
    path = entry(get.directory)
    raw = path.read_bytes()
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        other = get.directory.parent / "elsewhere"
        other.write_bytes(raw)
        path.symlink_to(other)
    else:
        path.write_bytes(raw)
        path.chmod(0)
    assert get(library) == good


def test_what_another_user_made_or_may_write(library: Path, get: Get) -> None:
    """An entry that is well-formed, but not ours: the analysis is made anew."""
    good = get(library)
    path = entry(get.directory)
    link = next(p for p in get.directory.iterdir() if p.is_symlink())
    raw = path.read_bytes()
    path.chmod(0o666)
    assert get(library) == good and get.analyses == 2
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_bytes() == raw
    if not hostfacts.not_root():
        os.chown(path, 65534, 65534)
        assert get(library) == good and get.analyses == 3
        assert path.stat().st_uid == 0
        os.lchown(link, 65534, 65534)
        hashes = get.hashes
        assert get(library) == good and (get.analyses, get.hashes) == (3, hashes + 1)


def test_forged_lessons_prove_nothing(get: Get, tmp_path: Path) -> None:
    """Well-formed entries that say of operands and of data that they were executed."""
    path = assemble(
        tmp_path,
        "lessons",
        function("f", "mov $39, %eax; syscall; ret")
        + function("operand", "lea 1f(%rip), %rax; jmp *%rax; 1: mov $0x050f, %eax; ret")
        + function("table", "ret; .byte 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3")
        + ".byte 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3\n",
    )
    os.utime(path, ns=(OLD, OLD))
    good = get(path)
    data = content(path)
    operand = data.index(b"\xb8\x0f\x05\0\0") + 1
    last = data.rindex(b"\x0f\x05\xc3")
    with open(path, "rb") as f:
        cache = RewriteCache(str(get.directory))
        assert cache.learn(f.fileno(), [operand, last, 0, 1 << 46, *range(0x1000, 0x1040)])
        learned = get(path)
        info = RewriteCache(str(get.directory)).info(f.fileno())
    assert info is not None
    changed = {i for i, (a, b) in enumerate(zip(good[:0x2000], learned, strict=False)) if a != b}
    assert changed <= set(range(0x1000, 0x1020)), "nothing but the function that has a system call"
    assert operand not in {s.vaddr for s in info.sites} and last not in {s.vaddr for s in info.sites}


def test_writers_at_the_same_time(library: Path, directory: Path) -> None:
    """Processes that read and write one directory without a lock: every one of them gets the same text."""
    code = """if True:
        import os, sys
        sys.path[:] = sys.argv[3].split("\\n")
        from ring3.loader import site_cache
        site_cache._RACY = -(10**12)
        for i in range(25):
            cache = site_cache.RewriteCache(sys.argv[2])
            fd = os.open(sys.argv[1], os.O_RDONLY)
            made = cache.get(fd)
            assert made is not None and len(made.sites) in (2, 3), made
            cache.learn(fd, [made.refused[0].vaddr] if made.refused else [i])
            if i % 5 == int(sys.argv[4]):
                for name in os.listdir(sys.argv[2]):
                    try:
                        os.unlink(os.path.join(sys.argv[2], name))
                    except FileNotFoundError:
                        pass
            os.close(fd)
    """
    argv = [sys.executable, "-c", code, str(library), str(directory), "\n".join(sys.path)]
    running = [subprocess.Popen([*argv, str(i)], stderr=subprocess.PIPE, text=True) for i in range(4)]
    for process in running:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    assert not [p for p in directory.iterdir() if p.name.count(".")], "temporary files are left"


def test_a_link_that_lies(library: Path, get: Get, tmp_path: Path) -> None:
    """A file of which it is said that it has the content of another one."""
    other = assemble(tmp_path, "other", function("f", "mov $1, %eax; mov $39, %eax; syscall; ret"))
    os.utime(other, ns=(OLD, OLD))
    right, others = get(library), get(other)
    links = {os.readlink(p): p for p in get.directory.iterdir() if p.is_symlink()}
    (a, at_a), (b, at_b) = links.items()
    for at, to in ((at_a, b), (at_b, a)):
        at.unlink()
        at.symlink_to(to)
    assert get(library) == right
    assert get(other) == others
    for at in (at_a, at_b):
        at.unlink()
        at.symlink_to("../../../etc/passwd")
    assert get(library) == right


def test_a_directory_that_cannot_be_used(library: Path, get: Get, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/self/cache")):
        cache = RewriteCache(str(place))
        made = get(library, cache)
        assert made
        assert get(library, cache) == made
        with open(library, "rb") as f:
            assert cache.learn(f.fileno(), [1]) is False


def test_what_is_kept_is_bounded(get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_cache, "MAX_ENTRIES", 4)
    monkeypatch.setattr(site_cache, "MAX_FILES", 10)
    cache = RewriteCache(str(get.directory))
    data = content(assemble(tmp_path, "many", SOURCE))
    kept = []
    for i in range(12):
        path = tmp_path / f"{i}.so"
        path.write_bytes(data + bytes([i]))
        with open(path, "rb") as f:
            kept.append(cache.get(f.fileno()))
        assert len(list(get.directory.iterdir())) <= 12
    assert len(cache._entries) == 4
    assert cache._bytes == sum(made.size for made in kept[-4:] if made)
    assert all(made is not None and image(made) for made in kept), "those in use stay"


def test_many_writers(library: Path, tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    code = (
        "import os, sys; from ring3.loader.site_cache import RewriteCache\n"
        f"fd = os.open({str(library)!r}, os.O_RDONLY)\n"
        "for i in range(40):\n"
        f"    cache = RewriteCache({str(directory)!r}); made = cache.get(fd); assert made\n"
        "    cache.record(made.key, [int(sys.argv[1]) * 1000 + i])\n"
    )
    root = Path(__file__).parents[2]
    running = [subprocess.Popen([sys.executable, "-c", code, str(i)], cwd=root) for i in range(4)]
    assert [p.wait(timeout=60) for p in running] == [0] * 4
    left = list(directory.iterdir())
    assert [p for p in left if p.name.count(".")] == [], "no temporary file stays"
    with open(library, "rb") as f:
        made = RewriteCache(str(directory)).get(f.fileno())
        assert made is not None
        loaded = RewriteCache(str(directory))._load(made.key)
    assert loaded is not None and len(loaded[1]) > 20


def test_libc_from_a_warm_cache_needs_no_disassembler(tmp_path: Path) -> None:
    path = real_files().get("libc")
    if path is None:
        pytest.skip("libc is not where it is looked for")
    code = (
        "import os, sys; from ring3.loader.site_cache import RewriteCache\n"
        f"made = RewriteCache({str(tmp_path / 'c')!r}).get(os.open({str(path)!r}, os.O_RDONLY))\n"
        "print(len(made.sites), 'capstone' in sys.modules)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=p
        )
        for p in [Path(__file__).parents[2]] * 2
    ]
    count = runs[0].stdout.split()[0]
    assert [r.stdout for r in runs] == [f"{count} True\n", f"{count} False\n"]


def test_one_cache_for_a_process() -> None:
    assert shared_cache() is shared_cache()
