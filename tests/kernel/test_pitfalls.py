"""What goes wrong in interposers when hooks, signals and locks meet, and what a second run does with learned sites.

Layer: tests of the pretend kernel, through the front door.  tests/guests/pitfalls.c and xstate.c have the cases that
need no hook; docs/pitfalls.md is the table.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from guestbuild import Builder
from harness import REPO

import ring3
import ring3.native
from ring3.loader.sites import find_sites
from ring3.loader.text import read

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CHECK_SIDE": "ring3"}
MODES = pytest.mark.parametrize("rewrite", ["detour", "off"])


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    yield lines
    assert not lines


def python(box: ring3.Sandbox, code: str) -> str:
    done = box.run(["/usr/bin/python3", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


# -- startup and vDSO calls missed


def test_the_very_first_call_is_seen(guests: Builder, log: list[str]) -> None:
    """Before any library, any constructor, any dynamic loader."""
    seen: list[tuple[str, int]] = []
    with ring3.Sandbox(log=log.append, env=ENV) as box:
        with box.hook("*", before=lambda call: seen.append((call.name, call.pid))):
            with box.popen([guests.path("first_call", "bare")], stdout=ring3.PIPE) as first:
                first.communicate(timeout=30)
            assert seen and seen[0][0] == "uname" and {pid for _, pid in seen} == {first.pid}
            seen.clear()
            box.run(["/bin/true"], timeout=30)
    names = [name for name, _ in seen]
    # ld.so's own calls, from its first on, which no preloaded library sees
    assert names[0] == "brk" and "openat" in names[: names.index("arch_prctl")], names


@MODES
def test_time_of_the_vdso_is_seen_and_answered(rewrite: str, log: list[str]) -> None:
    def later(call: Any) -> int:
        call.memory.write(call.args[1], (86400).to_bytes(8, "little") + (5).to_bytes(8, "little"))
        return 0

    code = "import time; print(time.clock_gettime_ns(time.CLOCK_REALTIME))"
    with ring3.Sandbox(rewrite=rewrite, log=log.append, env=ENV) as box:
        with box.hook("clock_gettime", before=later):
            assert python(box, code) == "86400000000005\n"
        assert int(python(box, code)) > 10**18


# -- rewriting: a second and a third run, in which sites have been learned


def test_what_a_run_learns_harms_no_later_one(
    guests: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")))
    program = guests.path("pitfalls")
    cases = ["data_is_not_code", "induced_rewrite", "racing_rewrites", "permissions_stay"]
    for _ in range(3):
        with ring3.Sandbox(log=log.append, env=ENV, cwd="/tmp") as box:
            done = box.run([program, *cases], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout == "".join(f"ok {c}\n" for c in cases), done.stdout


def test_the_guest_programs_have_the_sites_that_they_are_about(guests: Builder) -> None:
    """Their rewritten sites are rewritten, and what only looks like one is not."""
    for name, rewritten, left in (
        ("xstate", ["at_a_site"], []),
        ("pitfalls", ["red_zone_around"], ["number", "table_in_text", "hidden_displacement"]),
    ):
        with open(guests.path(name), "rb") as f:
            text = read(f.fileno())
            assert text is not None
            found = find_sites(text)
            table: Any = ELFFile(f).get_section_by_name(".symtab")
            for wanted in (*rewritten, *left):
                (start,) = [s["st_value"] for s in table.get_symbol_by_name(wanted)]
                inside = [s for s in found.sites if start <= s.vaddr < start + 32]
                assert bool(inside) is (wanted in rewritten), (wanted, found.sites, found.refused)


# -- the extended state, with hooks around the calls


@MODES
@pytest.mark.parametrize("kind", ["before", "after", "async", "native"])
def test_hooks_leave_the_extended_state_alone(
    guests: Builder, tmp_path: Path, rewrite: str, kind: str, log: list[str]
) -> None:
    seen: list[str] = []

    async def waits(call: Any) -> Any:
        seen.append(call.name)
        await call.sleep(0)
        return await call.proceed()

    with ring3.Sandbox(rewrite=rewrite, log=log.append, env=ENV, cwd="/tmp") as box:
        names = ("getppid", "read", "stat")
        if kind == "native":
            box.native_hook(compiled(tmp_path, PASSES_ON), names)
            seen += names
        elif kind == "after":
            box.hook(*names, after=lambda call, result: seen.append(call.name))
        else:
            box.hook(*names, before=waits if kind == "async" else lambda call: seen.append(call.name))
        done = box.run([guests.path("xstate"), "hooked"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout == "ok hooked\n", done.stdout
    assert set(names) <= set(seen)


# -- a nested signal in a hook

NESTED = """
import os, signal
seen = []
def handler(*_):
    seen.append(os.getppid() == parent)   # a hooked call inside of the handler
    os.umask(0o22)
parent = os.getppid()
signal.signal(signal.SIGUSR1, handler)
for _ in range(20):
    os.umask(0o22)                         # its hook sends SIGUSR1 while it runs
assert seen and all(seen), seen
print('handled', len(seen))
"""
#: long enough in its own code that signals arrive there, and sends one itself
SIGNALS = """
#include "ring3_hook.h"
static volatile int inside, nested, sent;
int ring3_hook(struct ring3_call *call)
{
	const unsigned long kill[6] = {call->pid, 10};
	if (call->nr != 95)
		return RING3_CONTINUE;
	if (inside)
		nested++;
	inside++;
	if (sent < 20 && ++sent)
		call->syscall(call, 62, kill);
	for (volatile int i = 0; i < 1000000; i++)
		;
	inside--;
	call->result = nested;
	return RING3_ANSWERED;
}
"""
PASSES_ON = """
#include "ring3_hook.h"
static long seen;
int ring3_hook(struct ring3_call *call) { (void)call; seen++; return RING3_CONTINUE; }
void ring3_hook_after(struct ring3_call *call) { (void)call; seen++; }
"""
COUNTS_NESTED = """
import ctypes, signal
umask = ctypes.CDLL(None).syscall
seen = []
for number in (signal.SIGUSR1, signal.SIGALRM):
    signal.signal(number, lambda *_: seen.append(umask(95, 0o22)))
nested = []
for _ in range(40):
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    nested.append(umask(95, 0o22))
signal.setitimer(signal.ITIMER_REAL, 0)
assert seen, 'no handler ran'
print(max(nested + seen))
"""


def compiled(tmp_path: Path, source: str) -> str:
    (tmp_path / "hook.c").write_text(source)
    return ring3.native.compile(tmp_path / "hook.c", tmp_path / "hook.so")


@MODES
def test_a_signal_in_a_python_hook(rewrite: str, log: list[str]) -> None:
    """The handler makes hooked calls of its own, while the hook of the interrupted call is still under way."""
    depth = [0]
    sent = [0]

    def sends(call: Any) -> Any:
        if sent[0] < 20:
            sent[0] += 1
            os.kill(call.host_pid, 10)
        depth[0] += 1
        yield
        depth[0] -= 1

    with ring3.Sandbox(rewrite=rewrite, log=log.append, env=ENV) as box:
        with box.hook("umask", before=sends), box.hook("getppid", before=lambda call: None):
            assert python(box, NESTED).startswith("handled ")
    assert depth == [0]


@MODES
def test_a_signal_in_a_native_hook(tmp_path: Path, rewrite: str, log: list[str]) -> None:
    """The guest's handler runs when the hook is over, never inside of it."""
    with ring3.Sandbox(rewrite=rewrite, log=log.append, env=ENV) as box:
        box.native_hook(compiled(tmp_path, SIGNALS), ["umask"])
        assert python(box, COUNTS_NESTED) == "0\n"


# -- deadlock of hook and guest lock

LOCKED = """
import os, threading, ctypes
libc = ctypes.PyDLL(None)                  # the interpreter's lock is held during the calls
lock = threading.Lock()
def first():
    with lock:
        os.mkdir('/tmp/first')             # held by its hook until the other thread has been heard
def second():
    os.mkdir('/tmp/second')
    with lock:
        pass
threads = [threading.Thread(target=f) for f in (first, second)]
for t in threads: t.start()
for t in threads: t.join()
print(sorted(os.listdir('/tmp')))
"""
#: malloc's arenas, stdio's locks and futexes, with a hook on every call that they make
ALLOCATES = """
import threading
def work(n):
    held = []
    for i in range(200):
        held.append(bytearray(1 << (10 + i % 12)))
        if i % 20 == 19: held.clear()
        print(n, i, file=out)
out = open('/tmp/log', 'w')
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
out.close()
print(len(open('/tmp/log').readlines()))
"""


@MODES
def test_a_hook_that_waits_for_another_threads_call(rewrite: str, log: list[str]) -> None:
    """The guest holds a lock of its own meanwhile; a hook that keeps others from being served never ends."""
    second = threading.Event()

    async def waits(call: Any) -> None:
        if call.args.pathname == "/tmp/second":
            second.set()
        else:
            await call.in_thread(lambda: second.wait(50))
            assert second.is_set()

    with ring3.Sandbox(rewrite=rewrite, log=log.append, env=ENV) as box:
        box.mount_tmpfs("/tmp")
        with box.hook("mkdir", before=waits):
            assert python(box, LOCKED) == "['first', 'second']\n"


@MODES
def test_hooks_take_none_of_the_guests_locks(rewrite: str, log: list[str]) -> None:
    """Every call is hooked, those that are made with malloc's lock held too, and the hook allocates and reads files."""
    count = [0]

    def busy(call: Any) -> None:
        count[0] += 1
        bytearray(1 << 16)
        if count[0] % 50 == 0:
            (box.root / "etc/hostname").read_bytes()

    with ring3.Sandbox(rewrite=rewrite, log=log.append, env=ENV) as box:
        box.mount_tmpfs("/tmp")
        with box.hook("*", before=busy):
            assert python(box, ALLOCATES) == "800\n"
    assert count[0] > 100


def test_a_native_hook_cannot_take_the_guests_locks(tmp_path: Path) -> None:
    """malloc, printf and what else belongs to the guest's libc cannot even be named."""
    source = '#include "ring3_hook.h"\nvoid *malloc(unsigned long);\n'
    source += "int ring3_hook(struct ring3_call *c) { c->result = (long)malloc(8); return RING3_ANSWERED; }\n"
    with ring3.Sandbox(env=ENV) as box, pytest.raises(ring3.UsageError, match="a native hook has no libc"):
        box.native_hook(compiled(tmp_path, source))


# -- the table


def test_the_table_names_every_case() -> None:
    page = (REPO / "docs" / "pitfalls.md").read_text()
    cases = re.findall(r"CASE\((\w+)\)", (REPO / "tests" / "guests" / "pitfalls.c").read_text())
    assert len(cases) == 12
    own = re.findall(r"^def test_(time_of_the_vdso|a_signal_in_a_\w+)", Path(__file__).read_text(), re.M)
    for name in [*cases, *own]:
        assert name in page, f"docs/pitfalls.md does not name {name}"
    for file in re.findall(r"\(`((?:core_native|loader)/[\w.]+)`\)", page):
        assert (REPO / file).exists(), file
