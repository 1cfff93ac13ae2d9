"""Proves that the test of each pitfall can fail: takes the defence out of a copy of the sources, and runs the test.

    python tests/longsuites/pitfalls.py [NAME...]

Layer: tests (long). Touches a temporary copy of the sources, with a cache of its own. One line for each proof: the
test must fail in the copy (and passes here, as the ordinary test run shows). The exit status is 1 if one does not
fail, or if the text that a proof replaces is not there any more. docs/pitfalls.md is the table that this stands behind.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
HOOKED = "tests/kernel/test_pitfalls.py"


@dataclass(frozen=True)
class Proof:
    """`edits`: (file, text, what stands there instead); `test`: pytest's words; `says`: found in what it prints."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    test: tuple[str, ...]
    says: str


#: What lazypoline and zpoline do at a site: rewrite the live page, whatever it is, to a call through page zero.
LAZY = """
static void lazily(u64 at)
{
	static u32 done;
	static const u8 call[2] = {0xff, 0xd0};
	u8 *zero = 0;
	__asm__("" : "+r"(zero));
	if (!done) {
		done = 1;
		sys(NR_mmap, 0, PAGE, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		memset(zero, 0x90, 512);
		zero[512] = 0x0f, zero[513] = 0x05, zero[514] = 0xc3;
	}
	if (at < PAGE || *(volatile u8 *)at != 0x0f)
		return;
	sys(NR_mprotect, ALIGN_DOWN(at, PAGE), PAGE, PROT_READ | PROT_WRITE);
	*(volatile u8 *)at = call[0];
	*(volatile u8 *)(at + 1) = call[1];
	sys(NR_mprotect, ALIGN_DOWN(at, PAGE), PAGE, PROT_READ | PROT_EXEC);
}

static void trapped_call(struct thread *t, struct ucontext_ *uc)
{
"""
LAZILY = (
    ("core_native/signal.c", "static void trapped_call(struct thread *t, struct ucontext_ *uc)\n{\n", LAZY),
    ("core_native/signal.c", "		r->rip = r->rcx = ret;\n",
     "		r->rip = r->rcx = ret;\n	else\n		lazily(r->rip - 2);\n"),
)  # fmt: skip


def guest(program: str, case: str) -> tuple[str, ...]:
    """One case of a guest program, as tests/test_guests.py runs all of them."""
    return ("-c", RUN_ONE, program, case)


RUN_ONE = """
import os, sys, tempfile
sys.path.insert(0, "tests")
from pathlib import Path
from guestbuild import Builder
from harness import BASE_ENV, host_listing, run_native, run_ring3
program, case = sys.argv[1:]
with tempfile.TemporaryDirectory() as name:
    binary = Builder(Path(name) / "bin").path(program)
    env = {**BASE_ENV, "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}
    (Path(name) / "native").mkdir()
    native = run_native([binary, case], cwd=Path(name) / "native", env={**env, "CHECK_SIDE": "native"})
    assert native.status == 0, "fails natively: " + native.describe()
    failed = 0
    for mode in ("detour", "off"):
        (Path(name) / mode).mkdir()
        words = f"--rewrite={mode}", "-e", "CHECK_SIDE=ring3"
        result = run_ring3([binary, case], *words, cwd=Path(name) / mode, env=env)
        print(result.describe())
        if host_listing(Path(name) / mode):
            print("the host was written")
            failed = 1
        failed |= result.status != 0 or bool(result.left) or result.timed_out
sys.exit(failed)
"""


PROOFS = (
    Proof(
        "environment cleared on exec",
        (("core_native/exec.c", "s64 fn_execve(struct thread *t, struct call *c) { return do_exec(t, c, 0); }",
          "s64 fn_execve(struct thread *t, struct call *c)\n{\n	u64 first = 0;\n"
          "	if (c->a[2])\n		copy_in(&first, c->a[2], 8);\n"
          "	return first ? do_exec(t, c, 0) : native(t, c);\n}"),),
        guest("pitfalls", "environment_cleared"), "environment_cleared|the host was written",
    ),
    Proof(
        "SUD switched off by prctl",
        (("core_native/misc.c", "	case 59: /* SYSCALL_USER_DISPATCH */\n",
          "	case 59:\n		if (c->a[1] < 2)\n			return native(t, c);\n"),),
        guest("pitfalls", "dispatch_switched_off"), "dispatch_switched_off|the host was written",
    ),
    Proof(
        "startup calls missed",
        (("core_native/main.c", "	arm();\n", ""),),
        (HOOKED, "-k", "first_call"), "test_the_very_first_call_is_seen",
    ),
    Proof(
        "vDSO calls missed",
        (("core_native/main.c", "map_vdso(p->exe, host_vdso((u64 *)stack_top))", "host_vdso((u64 *)stack_top)"),),
        (HOOKED, "-k", "vdso"), "test_time_of_the_vdso_is_seen",
    ),
    Proof(
        "data mistaken for code",
        (("loader/sites.py", "    def examine(self, vaddr: int, executed: bool) -> Site | None:\n",
          "    def examine(self, vaddr: int, executed: bool) -> Site | None:\n"
          "        return self._want_hop(vaddr, None)\n"),),
        guest("pitfalls", "data_is_not_code"), "data_is_not_code",
    ),
    Proof("a rewrite induced by the guest in its own data", LAZILY, guest("pitfalls", "induced_rewrite"),
          "induced_rewrite"),
    Proof("jump to null", LAZILY, guest("pitfalls", "jump_to_null"), "jump_to_null"),
    Proof("torn or racing rewrites", LAZILY, guest("pitfalls", "racing_rewrites"), "racing_rewrites|status -11"),
    Proof("permissions lost after a rewrite", LAZILY, guest("pitfalls", "permissions_stay"), "permissions_stay"),
    Proof(
        "xstate clobbered at a site",
        (("core_native/rewrite.c", "	t->fast_nr = f->rax;\n",
          '	t->fast_nr = f->rax;\n	__asm__ volatile("pxor %xmm9, %xmm9");\n'),),
        guest("xstate", "each_lane"), "changed vector register 9",
    ),
    Proof(
        "xstate lost on sigreturn",
        (("core_native/frame.c", "	uc->mc.fpstate = in.mc.fpstate ? keep_fp : 0;\n",
          "	uc->mc.fpstate = in.mc.fpstate && !keep_fp;\n"),),
        guest("xstate", "signals"), "changed st|changed vector",
    ),
    Proof(
        "flags lost on sigreturn",
        (("core_native/frame.c", "	uc->mc.cs = keep.mc.cs;\n",
          "	uc->mc.cs = keep.mc.cs;\n	uc->mc.eflags = keep.mc.eflags;\n"),),
        guest("pitfalls", "flags_after_sigreturn"), "flags_after_sigreturn",
    ),
    Proof(
        "SIGSYS masked",
        (("core_native/signal.c", "	uc->sigmask = mask & ~NEVER_BLOCKED;\n", "	uc->sigmask = mask;\n"),),
        guest("pitfalls", "sigsys_masked"), "sigsys_masked|status -31",
    ),
    Proof(
        "nested signal in a hook",
        (("core_native/signal.c", "	return rip >= RING3_NATIVE_HOOK && rip < RING3_NATIVE_HOOK_END;", "	return 0;"),),
        (HOOKED, "-k", "native_hook and signal"), "test_a_signal_in_a_native_hook",
    ),
    Proof(
        "deadlock of hook and guest lock",
        (("kernel/hooks/call.py", "        return await thread(self.task.sandbox.loop, function, args)",
          "        return function(*args)"),),
        (HOOKED, "-k", "waits_for_another"), "test_a_hook_that_waits",
    ),
    Proof(
        "vfork's shared frame",
        (("core_native/clone.c", "	struct start *s = prepare_stack(nt, c->uc, a);\n",
          "	struct start *s = prepare_stack(a->flags & CLONE_VFORK ? t : nt, c->uc, a);\n"),),
        guest("pitfalls", "vfork_frame"), "vfork_frame|status -",
    ),
    Proof(
        "red zone, at a site",
        (("core_native/entry.S", "fast_path:\n", "fast_path:\n	mov %rcx, -8(%rsp)\n"),),
        guest("pitfalls", "red_zone"), "red_zone",
    ),
    Proof(
        "red zone, under a signal",
        (("core_native/frame.c", "	u64 sp = uc->mc.rsp - 128,", "	u64 sp = uc->mc.rsp,"),),
        guest("pitfalls", "flags_after_sigreturn"), "flags_after_sigreturn|red_zone",
    ),
    Proof(
        "errno of clone3",
        (("core_native/clone.c", "	if (size < 64)\n		return -EINVAL;",
          "	if (size < 64)\n		return -ENOSYS;"),),
        guest("pitfalls", "errno_of_clone3"), "errno_of_clone3",
    ),
)  # fmt: skip


def copy_sources(to: Path) -> None:
    """What the tests need of the checkout, without what it has built."""
    skip = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info", "core")
    shutil.copytree(REPO, to, symlinks=True, ignore=skip)


def without_defence(proof: Proof, scratch: Path) -> str:
    """Runs the proof; "" if the test fails as it should, else what is wrong."""
    copy = scratch / "copy"
    copy_sources(copy)
    for name, old, new in proof.edits:
        text = (copy / name).read_text()
        if old not in text:
            return f"{name} has no more {old.strip()!r}: write the proof anew"
        (copy / name).write_text(text.replace(old, new, 1))
    env = {**os.environ, "XDG_CACHE_HOME": str(scratch / "cache")}
    env.pop("PYTHONPATH", None)
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=110"]
    command = [sys.executable, *(pytest if proof.test[0] != "-c" else []), *proof.test]
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=400)
    if "does not compile" in done.stdout or "fails natively" in done.stderr:
        return "the mutated core does not compile:\n" + done.stdout[-3000:] + done.stderr[-1000:]
    if done.returncode != 1:
        return f"the test did not fail (pytest's status {done.returncode}):\n" + done.stdout[-2000:]
    if not re.search(proof.says, done.stdout):
        return f"it fails, but not by {proof.says!r}:\n" + done.stdout[-3000:]
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of the names of proofs (default: all)")
    names = parser.parse_args().names
    status = 0
    for proof in PROOFS:
        if names and not any(n in proof.name for n in names):
            continue
        with tempfile.TemporaryDirectory(prefix="ring3-proof-") as scratch:
            wrong = without_defence(proof, Path(scratch))
        print(f"{'NOT PROVED' if wrong else 'proved':10}  {proof.name}", flush=True)
        if wrong:
            print("    " + wrong.replace("\n", "\n    "), flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
