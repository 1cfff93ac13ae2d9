"""Rewritten text: every patch decoded again, nothing else changed, and real programs run on it.

Layer: tests. Touches the session's directory; runs gcc, go and patched copies of programs, natively: code at the
address of the core's entry that jumps back to the trampoline's own syscall stands in for the core.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import subprocess
import sys
from binascii import crc32
from pathlib import Path

import capstone
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rewriting import assemble, content, function, go_program, image, patched_copy, real_files

from ring3.kernel.layout import FAST_ENTRY, TRAMPOLINE_SIZE
from ring3.loader import text as text_module
from ring3.loader.plan import PAGE
from ring3.loader.rewrite import Mismatch, Rewrite, build, rewrite
from ring3.loader.sites import Analysis, Site
from ring3.loader.trampoline import FORMS

#: jmp *%r11: the slow way, at once
STUB = b"\x41\xff\xe3"
FILES = ["libc", "ld.so", "busybox", "musl", "go"]


def rewritten(path: Path, learned: frozenset[int] = frozenset()) -> Rewrite | None:
    with open(path, "rb") as f:
        return rewrite(f.fileno(), learned)


def must_rewrite(path: Path) -> Rewrite:
    made = rewritten(path)
    assert made is not None
    return made


class Checked:
    """A Rewrite beside its file, and the decoder that follows each patch."""

    def __init__(self, path: Path, made: Rewrite) -> None:
        self.made = made
        self.old = content(path)
        self.new = image(made)
        self.decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.touched: set[int] = set()

    def offset(self, vaddr: int) -> int:
        made = self.made
        if made.delta <= vaddr < made.delta + made.tramp_length:
            return vaddr - made.delta + made.tramp_offset
        for offset, length, start in made.segments:
            if start <= vaddr < start + length:
                return vaddr - start + offset
        raise AssertionError(f"{vaddr:#x} is not in the image")

    def decode(self, vaddr: int, mnemonic: str) -> tuple[str, int]:
        """(operands, address of the next instruction)."""
        at = self.offset(vaddr)
        instruction = next(self.decoder.disasm(self.new[at : at + 16], vaddr))
        assert instruction.mnemonic == mnemonic, f"{instruction} instead of {mnemonic} at {vaddr:#x}"
        return instruction.op_str, vaddr + instruction.size

    def target(self, vaddr: int) -> int:
        return int(self.decode(vaddr, "jmp")[0], 16)

    def touch(self, vaddr: int, length: int) -> None:
        at = self.offset(vaddr)
        spot = set(range(at, at + length))
        assert not spot & self.touched, "two patches overlap"
        self.touched |= spot

    def site(self, site: Site) -> int:
        """Follow the patch of ``site`` to its trampoline; returns that."""
        vaddr, at = site.vaddr, self.offset(site.vaddr)
        assert self.old[at : at + 2] == b"\x0f\x05"
        if site.form == "hop":
            slot = self.target(vaddr)
            assert self.new[at] == 0xEB
            assert slot == site.run + 5 * site.slot
            self.touch(vaddr, 2)
            self.touch(slot, 5)
            return self.target(slot)
        self.decode(vaddr, "syscall")
        self.touch(vaddr - site.length, site.head if site.form == "before" else site.length)
        return self.target(vaddr - site.length)

    def trampoline(self, site: Site, start: int) -> None:
        """Check the trampoline at ``start`` byte by byte of what it does."""
        made, vaddr = self.made, site.vaddr
        assert (start - made.delta) % TRAMPOLINE_SIZE == 0
        where = self.offset(start)
        tail = self.new[where + 48 : where + TRAMPOLINE_SIZE]
        if site.form == "before":
            self.displaced(site, start, tail)
            start += TRAMPOLINE_SIZE
            where += TRAMPOLINE_SIZE
            tail = self.new[where + 48 : where + TRAMPOLINE_SIZE]
        assert int.from_bytes(tail[:8], "little") == vaddr
        assert int.from_bytes(tail[8:12], "little") == FORMS[site.form]
        if site.form == "mov":
            operands, at = self.decode(start, "mov")
            old = self.offset(vaddr - site.length)
            number = self.old[old + site.length - 4 : old + site.length]
            assert operands == f"eax, {hex_or_small(int.from_bytes(number, 'little'))}"
            assert tail[12:14] == tail[14:] == site.length.to_bytes(2, "little")
        else:
            at = self.decode(start, "nop")[1]
            assert int.from_bytes(tail[12:], "little") == 0
        assert at == start + 5
        at = self.leads("lea", "rcx", at, vaddr + 2)
        at = self.leads("lea", "r11", at, start + 33)
        assert at == start + 19
        operands, after = self.decode(at, "jmp")
        assert operands == "qword ptr [rip]"
        assert int.from_bytes(self.new[where + 25 : where + 33], "little") == FAST_ENTRY
        assert after + 8 == start + 33
        assert self.decode(start + 33, "syscall")[1] == start + 35
        assert self.target(start + 35) == vaddr + 2

    def displaced(self, site: Site, start: int, tail: bytes) -> None:
        length = site.length
        fields = (0, 8), (8, 4), (12, 2), (14, 2)
        assert [int.from_bytes(tail[i : i + n], "little") for i, n in fields] == [
            site.vaddr,
            FORMS["before"],
            length,
            site.head,
        ]
        assert 5 <= site.head <= length
        old, new = self.offset(site.vaddr - length), self.offset(start)
        before = list(self.decoder.disasm(self.old[old : old + length], site.vaddr - length))
        after = list(self.decoder.disasm(self.new[new : new + length], start))
        assert sum(i.size for i in before) == sum(i.size for i in after) == length
        for a, b in zip(before, after, strict=True):
            assert (a.mnemonic, a.size) == (b.mnemonic, b.size)
            assert absolute(a) == absolute(b)
        assert self.target(start + length) == start + TRAMPOLINE_SIZE + 5

    def leads(self, mnemonic: str, register: str, at: int, to: int) -> int:
        operands, after = self.decode(at, mnemonic)
        sign = 1 if "+" in operands else -1
        distance = sign * int(operands.split("[rip ")[1].strip("+- ]"), 16) if "[rip]" not in operands else 0
        assert operands.startswith(register + ",")
        assert after + distance == to
        return after


def absolute(instruction: object) -> str:
    """The operands, with an address instead of a distance from rip."""
    operands = str(instruction.op_str)  # type: ignore[attr-defined]
    if "rip" not in operands:
        return operands
    head, rest = operands.split("[rip ")
    distance, tail = rest.split("]")
    end = instruction.address + instruction.size  # type: ignore[attr-defined]
    return f"{head}[{end + int(distance.replace(' ', ''), 16):#x}]{tail}"


def hex_or_small(n: int) -> str:
    return hex(n) if n > 9 else str(n)


@pytest.mark.parametrize("name", FILES)
def test_every_patch_leads_through_its_trampoline_and_back(name: str) -> None:
    path = real_files().get(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    made = must_rewrite(path)
    checked = Checked(path, made)
    starts = []
    for site in made.sites:
        starts.append(checked.site(site))
        checked.trampoline(site, starts[-1])
    assert len(set(starts)) == len(starts)
    for offset, length, _ in made.segments:
        old = checked.old[offset : offset + length].ljust(length, b"\0")
        changed = {
            offset + i for i, (a, b) in enumerate(zip(old, checked.new[offset:], strict=False)) if a != b
        }
        assert changed <= checked.touched
    used = sum(2 if s.form == "before" else 1 for s in made.sites) * TRAMPOLINE_SIZE
    assert not checked.new[made.tramp_offset + used :].strip(b"\xcc")
    made.close()


@pytest.mark.parametrize("name", FILES)
def test_layout_of_the_memfd(name: str) -> None:
    path = real_files().get(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    made = must_rewrite(path)
    with open(path, "rb") as f:
        found = text_module.read(f.fileno())
    assert found is not None
    end = max(h.p_vaddr + h.p_memsz for h in found.headers if h.p_type == 1)
    assert made.delta == -(-end // PAGE) * PAGE
    assert made.tramp_offset == -(-path.stat().st_size // PAGE) * PAGE
    assert made.size == made.tramp_offset + made.tramp_length == os.fstat(made.memfd).st_size
    assert made.tramp_length % PAGE == 0
    assert [(o % PAGE, n % PAGE, v % PAGE) for o, n, v in made.segments] == [(0, 0, 0)] * len(made.segments)
    assert len(made.key) == 32
    assert os.get_inheritable(made.memfd) is False
    with pytest.raises(PermissionError):
        os.pwrite(made.memfd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(made.memfd, 0)
    assert fcntl.fcntl(made.memfd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
    fd = made.memfd
    made.close()
    made.close()
    with pytest.raises(OSError) as e:
        os.fstat(fd)
    assert e.value.errno == errno.EBADF


def test_the_offset_of_the_file_stays(tmp_path: Path) -> None:
    path = assemble(tmp_path, "offset", function("f", "mov $39, %eax; syscall; ret"))
    with open(path, "rb") as f:
        os.lseek(f.fileno(), 7, os.SEEK_SET)
        made = rewrite(f.fileno())
        assert made is not None
        assert os.lseek(f.fileno(), 0, os.SEEK_CUR) == 7


MOV_39 = crc32(b"\xb8\x27\0\0\0")
FORGED = {
    "no syscall there": [Site(0x1001, "mov", length=5)],
    "outside": [Site(1 << 40, "mov", length=5)],
    "before the text": [Site(0x1000 + 2, "mov", length=5)],
    "another length": [Site(0x1005, "mov", length=4)],
    "an unknown form": [Site(0x1005, "?", length=5)],
    "twice": [Site(0x1005, "mov", length=5), Site(0x1005, "mov", length=5)],
    "out of order": [Site(0x1025, "mov", length=5), Site(0x1005, "mov", length=5)],
    "a hop to code": [Site(0x1005, "hop", length=5, run=0x1020)],
    "a hop behind its run": [Site(0x1005, "hop", length=24, run=0x1008, slot=4)],
    "a hop too far": [Site(0x1005, "hop", length=24, run=0x1088)],
    "a hop out of the file": [Site(0x1005, "hop", length=24, run=1 << 40)],
    "an endless run": [Site(0x1005, "hop", length=1 << 31, run=0x1008)],
    "slots that overlap": [
        Site(0x1005, "hop", length=24, run=0x1008),
        Site(0x1025, "hop", length=20, run=0x100C),
    ],
    "one slot twice": [
        Site(0x1005, "hop", length=24, run=0x1008),
        Site(0x1025, "hop", length=24, run=0x1008),
    ],
    "displaced bytes of another file": [Site(0x1005, "before", length=5, run=1, head=5)],
    "too much displaced": [Site(0x1085, "before", length=60, run=1, head=5)],
    "a head that is too short": [Site(0x1005, "before", length=5, run=MOV_39, head=4)],
    "a head that is too long": [Site(0x1005, "before", length=5, run=MOV_39, head=6)],
    "a displacement out of them": [Site(0x1005, "before", length=5, run=MOV_39, head=5, slot=2)],
}


@pytest.mark.parametrize("what", FORGED)
def test_sites_that_do_not_fit_the_file(what: str, tmp_path: Path) -> None:
    source = "".join(function(name, "mov $39, %eax; syscall; ret") for name in "abcde")
    path = assemble(tmp_path, "forged", source)
    with open(path, "rb") as f:
        found = text_module.read(f.fileno())
        assert found is not None
        assert found.segments[0].vaddr == 0x1000
        honest = [Site(0x1005, "mov", length=5), Site(0x1025, "hop", length=24, run=0x1008, slot=2)]
        assert build(found, Analysis(honest, [], False), "") is not None
        with pytest.raises(Mismatch):
            build(found, Analysis(FORGED[what], [], False), "")


# --- running it -----------------------------------------------------------------------------------------------


def test_functions_of_a_library_run(tmp_path: Path) -> None:
    """Mapped by hand behind a hole for the trampolines, in a process of its own, with an entry that counts."""
    far = ".fill 320, 1, 0xf4; .balign 32, 0xf4"  # from any padding
    path = assemble(
        tmp_path,
        "functions",
        function("mov5", "mov $39, %eax; syscall; ret")
        + function("mov7", ".byte 0x48, 0xc7, 0xc0, 39, 0, 0, 0; syscall; ret")
        + function("hop", "lea 39(%rdi), %rax; syscall; ret")
        + function("between", f"ret; {far}")
        + function(
            "before", f"lea before(%rip), %rdx; mov %edi, %eax; syscall; mov %rdx, %rax; ret; {far}"
        )
        + function(
            "entered",
            "movq $39, -16(%rsp); 1: mov -16(%rsp), %eax; push %rax; pop %rdx; syscall; dec %edi; jnz 1b; ret;"
            + far,
        )
        + function("flags", "mov $39, %eax; stc; syscall; sbb %rax, %rax; ret")
        + function("args", "mov $9, %eax; mov %rcx, %r10; syscall; ret"),
    )
    made = must_rewrite(path)
    assert [s.form for s in made.sites] == ["mov", "mov", "hop", "before", "before", "hop", "hop"]
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_rewrite; test_rewrite.call_functions({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr


def call_functions(path: str) -> None:
    """In a child: map the rewritten library at ``path`` and call what it has."""
    from elftools.elf.elffile import ELFFile

    made = must_rewrite(Path(path))
    with open(path, "rb") as f:
        names = {s.name: int(s["st_value"]) for s in ELFFile(f).get_section_by_name(".symtab").iter_symbols()}
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]

    def map_at(address: int, length: int, prot: int, fd: int, offset: int, fixed: int = 0x100010) -> int:
        flags = mmap.MAP_PRIVATE | (mmap.MAP_ANONYMOUS if fd < 0 else 0) | (fixed if address else 0)
        at = libc.mmap(address, length, prot, flags, fd, offset)
        assert at not in (None, ctypes.c_void_p(-1).value), os.strerror(ctypes.get_errno())
        assert not address or at == address
        return int(at)

    mmap_fixed = 0x10
    rwx = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    entry = map_at(FAST_ENTRY, PAGE, rwx, -1, 0)
    # lea 1(count),count by way of r12, which is put back: the flags are the caller's
    counter = entry + 0x100
    ctypes.memmove(
        entry,
        b"\x41\x54\x4c\x8b\x25\xf7\0\0\0\x4d\x8d\x64\x24\x01\x4c\x89\x25\xeb\0\0\0\x41\x5c" + STUB,
        26,
    )
    base = map_at(0, made.delta + made.tramp_length, 0, -1, 0)
    parts = [(v, n, o) for o, n, v in made.segments] + [(made.delta, made.tramp_length, made.tramp_offset)]
    for vaddr, length, offset in parts:
        map_at(base + vaddr, length, mmap.PROT_READ | mmap.PROT_EXEC, made.memfd, offset, mmap_fixed)

    def call(name: str, *args: int) -> int:
        kind = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 6)
        return int(kind(base + names[name])(*args, *[0] * (6 - len(args))))

    assert call("mov5") == os.getpid()
    assert call("mov7") == os.getpid()
    assert call("hop") == os.getpid()
    assert call("hop", 100000) == -errno.ENOSYS
    assert call("hop", -40) == -errno.ENOSYS
    assert call("before", 39) == base + names["before"]
    assert call("entered", 3) == os.getpid(), "twice past the jump, to instructions that still stand there"
    assert call("flags") == -1, "the carry flag is as it was before the call"
    assert ctypes.c_long.from_address(counter).value == 8
    address = call("args", 0, PAGE, 3, 0x22, -1, 0)
    assert address & -PAGE == address > 0
    print("right", flush=True)


MAIN = r"""
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* At the address of the core's entry. */
__asm__(".pushsection .fast,\"awx\"\njmp *%r11\n.popsection");
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int turn, caught;
static void on_signal(int s) { caught += s == SIGUSR1; }
static void *thread(void *p)
{
	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&m);
		while (turn % 4 != (int)(long)p)
			pthread_cond_wait(&c, &m);
		turn++;
		pthread_cond_broadcast(&c);
		pthread_mutex_unlock(&m);
	}
	return p;
}
int main(void)
{
	pthread_t t[4];
	for (long i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, thread, (void *)i);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	signal(SIGUSR1, on_signal);
	for (int i = 0; i < 5; i++)
		raise(SIGUSR1);
	int n = 0, status = 0, fds[2];
	DIR *d = opendir("/etc");
	while (d && readdir(d))
		n++;
	closedir(d);
	char line[32] = "";
	if (pipe(fds) || !fork()) {
		dup2(fds[1], 1);
		execl("/bin/echo", "echo", "hello", (char *)NULL);
		_exit(9);
	}
	close(fds[1]);
	if (read(fds[0], line, 31) < 0 || wait(&status) < 0)
		return 1;
	FILE *f = popen("exit 3", "r");
	printf("%d %d %d %s %d %d\n", turn, caught, n > 2, strtok(line, "\n"), status, WEXITSTATUS(pclose(f)));
	return system("exit 7") == 7 << 8 ? 0 : 2;
}
"""


def test_glibc_and_its_loader_run_rewritten(tmp_path: Path) -> None:
    """Threads, signals, fork and exec, all through trampolines: a program whose interpreter and libc are rewritten."""
    files = real_files()
    if not {"libc", "ld.so"} <= set(files):
        pytest.skip("this machine has no glibc where it is looked for")
    for name, file in (("libc", "libc.so.6"), ("ld.so", "ld.so")):
        patched_copy(files[name], must_rewrite(files[name]), tmp_path / file)
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-no-pie", "-O1", "-pthread", f"-Wl,--section-start=.fast={FAST_ENTRY:#x}"]
    flags += [f"-Wl,--dynamic-linker={tmp_path}/ld.so", f"-Wl,-rpath,{tmp_path}", "-Wl,--disable-new-dtags"]
    out = tmp_path / "main"
    command = ["gcc", *flags, "-Wno-unused-result", "-o", str(out), str(tmp_path / "main.c")]
    subprocess.run(command, check=True, timeout=60)
    for _ in range(5):
        done = subprocess.run([out], timeout=60, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "800 5 1 hello 0 3\n", "")


def test_busybox_runs_rewritten(tmp_path: Path) -> None:
    path = real_files().get("busybox")
    if path is None:
        pytest.skip("busybox is not on this machine")
    with open(path, "rb") as f:
        if b"ld-linux" in f.read(1024):
            pytest.skip("busybox is not static here")
    made = must_rewrite(path)
    out, script = (
        tmp_path / "busybox",
        "for i in 1 2 3; do echo $i | (read x; echo got $x); done; ls /etc | wc -l >&2",
    )
    patched_copy(path, made, out, STUB, FAST_ENTRY)
    ours = subprocess.run([out, "sh", "-c", script], timeout=60, capture_output=True)
    theirs = subprocess.run([path, "sh", "-c", script], timeout=60, capture_output=True)
    assert ours.returncode == 0
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)
    # The same copy without the stand-in for the core: the first rewritten site is its end.
    patched_copy(path, made, tmp_path / "lost")
    lost = subprocess.run([tmp_path / "lost", "true"], timeout=60, capture_output=True)
    assert lost.returncode == -11


def test_go_runs_rewritten(session_dir: Path, tmp_path: Path) -> None:
    path = go_program(session_dir / "go")
    if path is None:
        pytest.skip("there is no Go on this machine")
    patched_copy(path, must_rewrite(path), tmp_path / "go", STUB, FAST_ENTRY)
    for _ in range(5):
        done = subprocess.run([tmp_path / "go", "x"], timeout=60, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "true 2\n"), done.stderr
