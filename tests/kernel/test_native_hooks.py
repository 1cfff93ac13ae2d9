"""Native hooks: C inside the core, in guests started through the Python API."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import assert_ok, run_ring3

import ring3
import ring3.native
from ring3.errors import CoreBuildError, UsageError

BEFORE = """
#include "ring3_hook.h"
static long seen;
int ring3_hook(struct ring3_call *call)
{
	seen++;
	if (call->nr == 39) {
		call->result = 42;
		return RING3_ANSWERED;
	}
	if (call->nr == 500) {
		call->result = seen;
		return RING3_ANSWERED;
	}
	if (call->nr == 501) { /* becomes getppid, asked of the core directly */
		unsigned long none[6] = {0};
		call->result = 1000 + call->syscall(call, 110, none);
		return RING3_ANSWERED;
	}
	if (call->nr == 502)
		call->nr = 39; /* continued as another call: hooks are over, so the true pid */
	return RING3_CONTINUE;
}
"""
AFTER = """
#include "ring3_hook.h"
void ring3_hook_after(struct ring3_call *call)
{
	char name[8] = {0};
	if (call->nr == 89 && !call->read(name, call->args[0], 5) && name[1] == 'n')
		call->result = -13;
	if (call->nr == 39)
		call->result = -call->result;
}
"""
CALLS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print([libc.syscall(nr) for nr in (39, 500, 501, 502)])
pid = os.fork()
if pid == 0:
    os._exit(libc.syscall(39))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def compiled(tmp_path: Path, source: str) -> str:
    file = tmp_path / "hook.c"
    file.write_text(source)
    return ring3.native.compile(file, tmp_path / "hook.so")


@pytest.mark.parametrize("rewrite", ["detour", "off"])
def test_before(tmp_path: Path, rewrite: str) -> None:
    with ring3.Sandbox(rewrite=rewrite) as box:
        box.native_hook(compiled(tmp_path, BEFORE))
        got = box.run(["/usr/bin/python3", "-c", CALLS], capture_output=True, text=True, timeout=60)
        assert got.returncode == 0, got.stderr
        values, child = got.stdout.splitlines()
        pid, seen, parent, true_pid = eval(values)
        assert pid == 42 and seen > 10 and parent == 1000
        assert true_pid > 1 and true_pid != 42
        assert child == "42"


def test_after_and_only_the_calls_named(tmp_path: Path) -> None:
    with ring3.Sandbox() as box:
        box.native_hook(compiled(tmp_path, AFTER), ["getpid", "readlink"])
        program = (
            "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True)\n"
            "buffer = ctypes.create_string_buffer(64)\n"
            "os.symlink('x', '/tmp-one'); os.symlink('y', '/none')\n"
            "print(libc.syscall(39) < 0, libc.syscall(186) > 0)\n"
            "print(libc.syscall(89, b'/tmp-one', buffer, 64), end=' ')\n"
            "print(libc.syscall(89, b'/none', buffer, 64), ctypes.get_errno())\n"
        )
        got = box.run(["/usr/bin/python3", "-c", program], capture_output=True, text=True, timeout=60, user=0)
        assert got.stdout.splitlines() == ["True True", "1 -1 13"], got.stderr


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("int other(void) { return 1; }", "defines neither ring3_hook nor ring3_hook_after"),
        (
            '#include "ring3_hook.h"\nint puts(const char *);\n'
            'int ring3_hook(struct ring3_call *c) { return puts("x") + (int)c->nr; }',
            "a native hook has no libc",
        ),
    ],
)
def test_what_is_no_hook_is_refused(tmp_path: Path, source: str, words: str) -> None:
    box = ring3.Sandbox()
    try:
        with pytest.raises(UsageError, match=words):
            box.native_hook(compiled(tmp_path, source))
    finally:
        box.close()


def test_bad_files_are_refused(tmp_path: Path) -> None:
    box = ring3.Sandbox()
    try:
        with pytest.raises(UsageError, match="cannot read"):
            box.native_hook(tmp_path / "missing.so")
        (tmp_path / "text.so").write_text("no ELF file")
        with pytest.raises(UsageError, match="not an ELF file"):
            box.native_hook(tmp_path / "text.so")
        with pytest.raises(UsageError, match="no system call or class named"):
            box.native_hook(compiled(tmp_path, BEFORE), ["getpidd"])
    finally:
        box.close()
    with pytest.raises(CoreBuildError, match="does not compile"):
        compiled(tmp_path, "this is not C")


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "native-hooks.md").read_text()
    source = page.split("```c\n", 1)[1].split("```", 1)[0]
    with ring3.Sandbox() as box:
        box.native_hook(compiled(tmp_path, source), ["getdents64", "getpid"])
        assert "not supported" in box.run(["ls", "/"], capture_output=True, text=True).stderr
        assert box.run(["sh", "-c", "echo $$"], capture_output=True, text=True).stdout == "42\n"


def shell(box: ring3.Sandbox, code: str) -> list[str]:
    done = box.run(["/bin/sh", "-c", code], capture_output=True, text=True, timeout=60)
    return str(done.stdout).split()


def test_a_hook_for_some_programs_of_a_tree(tmp_path: Path) -> None:
    """Patterns on the path or its last part, as Python's hooks have them; a fork inherits, an exec decides anew."""
    code = "echo $$; dash -c 'echo $$'; bash -c 'echo $$; (echo $BASHPID)'"
    for program, expected in (("dash", [True, True, False, False]), ("!dash", [False, False, True, True])):
        with ring3.Sandbox() as box:
            box.native_hook(compiled(tmp_path, BEFORE), ["getpid"], program=program)
            assert [pid == "42" for pid in shell(box, code)] == expected


def test_numbers_classes_and_patterns(tmp_path: Path) -> None:
    answers = '#include "ring3_hook.h"\n'
    answers += "int ring3_hook(struct ring3_call *c) { c->result = 1000 + c->nr; return RING3_ANSWERED; }\n"
    program = "import ctypes; f = ctypes.CDLL(None).syscall; print(f(500), f(10001), f(10002), f(110), f(-5))"
    for calls, expected in (
        ([500, "10_001"], "1500 11001 11002 {ppid} 995"),  # beyond the table there is one switch for all
        (["/^getppid$"], "-1 -1 -1 1110 -1"),
    ):
        with ring3.Sandbox() as box:
            box.native_hook(compiled(tmp_path, answers), calls)
            got = box.run(["/usr/bin/python3", "-c", program], capture_output=True, text=True, timeout=60)
            assert got.stdout == expected.format(ppid=0) + "\n", got.stderr


def test_programs_that_run_already_go_on_without_it(tmp_path: Path) -> None:
    with ring3.Sandbox() as box:
        words = ["bash", "-c", "read x; echo $BASHPID; exec dash -c 'echo $$'"]
        with box.popen(words, stdin=ring3.PIPE, stdout=ring3.PIPE, text=True) as running:
            box.native_hook(compiled(tmp_path, BEFORE), ["getpid"])
            out, _ = running.communicate("go\n", timeout=60)
        assert out == f"{running.pid}\n42\n"


def test_the_command_lines_filter(tmp_path: Path) -> None:
    code = "bash -c 'echo $BASHPID'; dash -c 'echo $$'"
    hook = compiled(tmp_path, BEFORE)
    result = run_ring3(["bash", "-c", code], "--native-hook", hook, "--only", "dash")
    assert_ok(result)
    first, second = result.out.split()
    assert first != b"42" and second == b"42"
    log = tmp_path / "trace"
    assert_ok(run_ring3(["bash", "-c", code], "--only", "*/dash", "--trace-file", str(log)))
    assert "exit_group(0)" in log.read_text() and log.read_text().count("exit_group(") == 1
