"""Sites that trap: they are learned, listed with why, and from the second run on a dynamic program has none.

Layer: tests. Touches temporary directories; runs gcc and guests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import ring3_argv

import ring3
from ring3.loader import site_cache
from ring3.loader.site_cache import RewriteCache

HIDDEN = r"""
/* Its system call is reached by a computed jump only: the disassembly cannot prove it, running it can. */
long hidden(void);
__asm__(".text; .balign 32; .globl hidden; .type hidden, @function; hidden: .cfi_startproc;"
        "lea 1f(%rip), %rax; jmp *%rax; nop; 1: lea 39, %rax; syscall; ret; .cfi_endproc;"
        ".size hidden, .-hidden; .balign 64; .globl after; after: .cfi_startproc; ret; .cfi_endproc");
int main(void) { for (int i = 0; i < 7; i++) if (hidden() < 1) return 1; return 0; }
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the cache of rewritten files, which is empty."""
    monkeypatch.setattr(site_cache, "_shared", [RewriteCache(str(tmp_path / "cache"))])
    return tmp_path / "cache"


def run(cache: Path, command: list[str], mode: str = "detour") -> tuple[int, str]:
    """Run in a world of its own, as a process that has seen nothing yet; (traps that need not be, the report)."""
    site_cache._shared[:] = [RewriteCache(str(cache))]
    with ring3.Sandbox(rewrite=mode) as box:
        box._kernel.traps.count()
        done = box.run(command, capture_output=True, timeout=100)
        assert done.returncode == 0, done.stderr
    report = box._kernel.traps.report()
    match = re.match(r"(\d+) traps at (\d+) sites", report)
    assert match is not None, report
    return int(match[1]), report


def program(tmp_path: Path, source: str, *flags: str) -> str:
    (tmp_path / "program.c").write_text(source)
    out = tmp_path / "program"
    subprocess.run(["gcc", "-O1", *flags, "-o", out, tmp_path / "program.c"], check=True, timeout=60)
    return str(out)


def test_a_site_that_traps_is_rewritten_in_the_next_run(tmp_path: Path, cache: Path) -> None:
    path = program(tmp_path, HIDDEN)
    traps, report = run(cache, [path])
    assert traps == 7
    assert re.search(rf"^ +7  {path}\+0x[0-9a-f]+  learned", report, re.MULTILINE), report
    traps, report = run(cache, [path])
    assert traps == 0, report
    assert re.search(rf"^{path}: 1 sites, 1 rewritten \(1 hop\), 1 learned$", report, re.MULTILINE), report


def test_what_a_child_executes_is_learned_too(tmp_path: Path, cache: Path) -> None:
    path = program(tmp_path, HIDDEN)
    command = ["sh", "-c", f"{path}; ({path}); true"]
    assert re.search(rf"^ +14  {path}\+0x[0-9a-f]+  learned", run(cache, command)[1], re.MULTILINE)
    assert re.search(rf"^ +[0-9]+  {path}", run(cache, command)[1], re.MULTILINE) is None


@pytest.mark.parametrize(
    "command",
    [
        ["true"],
        ["ls", "-lR", "/etc/alternatives"],
        ["/usr/bin/python3", "-c", "pass"],
        ["node", "-e", "0"],
        ["java", "-version"],
    ],
    ids=lambda c: Path(c[0]).name,
)
def test_no_traps_from_the_second_run_on(command: list[str], cache: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} on this machine")
    run(cache, command)
    _, report = run(cache, command)
    places = [line for line in report.splitlines()[1:] if re.match(r" +\d+  ", line) and "  rewritten (" not in line]
    # What is no file's text is the program's own; a signal's restorer stays as unwinders know it.
    explained = "rt_sigreturn", "no file's", "[vdso]"
    assert [line for line in places if not any(why in line for why in explained)] == [], report


def test_off_counts_every_trap(tmp_path: Path, cache: Path) -> None:
    path = program(tmp_path, HIDDEN)
    traps, report = run(cache, [path], "off")
    assert traps > 20, report
    assert not cache.exists(), "nothing is learned"


def test_generated_code_is_named_as_such(tmp_path: Path, cache: Path) -> None:
    path = program(
        tmp_path,
        """
        #include <string.h>
        #include <sys/mman.h>
        int main(void) {
            char *m = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memcpy(m, "\\xb8\\x27\\0\\0\\0\\x0f\\x05\\xc3", 8);
            for (int i = 0; i < 3; i++) ((int (*)(void))m)();
            return 0;
        }""",
    )
    traps, report = run(cache, [path])
    assert traps == 3 and re.search(r"^ +3  .*no file's: code that the program made$", report, re.MULTILINE), report


def test_addresses_that_are_used_again(tmp_path: Path, cache: Path) -> None:
    """Two libraries at the same address, one after the other: each site belongs to its own."""
    libraries = []
    for i in range(2):
        source = HIDDEN.split("int main", maxsplit=1)[0].replace("nop;", "nop; nop;" if i else "nop;")
        (tmp_path / f"{i}.c").write_text(source)
        libraries.append(str(tmp_path / f"lib{i}.so"))
        subprocess.run(["gcc", "-shared", "-o", libraries[-1], tmp_path / f"{i}.c"], check=True, timeout=60)
    path = program(
        tmp_path,
        """
        #include <dlfcn.h>
        int main(int argc, char **argv) {
            void *at[2];
            for (int i = 0; i < 4; i++) {
                void *h = dlopen(argv[1 + i % 2], RTLD_NOW);
                long (*f)(void) = (long (*)(void))dlsym(h, "hidden");
                at[i % 2] = (void *)f;
                if (f() < 1) return 1;
                dlclose(h);
            }
            return at[0] != at[1];
        }""",
    )
    _, report = run(cache, [path, *libraries])
    for library in libraries:
        assert re.search(rf"^ +2  {library}\+0x[0-9a-f]+  learned", report, re.MULTILINE), report
    assert run(cache, [path, *libraries])[0] == 0


def test_the_command_lines(tmp_path: Path) -> None:
    argv = ring3_argv(["/bin/true"])
    launcher = argv[: argv.index("run")]
    done = subprocess.run([*launcher, "trace", "--sites", "/bin/true"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and re.match(r"\d+ traps at \d+ sites", done.stderr), done.stderr
    assert "libc.so.6: " in done.stderr
    path = program(tmp_path, HIDDEN)
    done = subprocess.run([*launcher, "doctor", path, "/no/such/file"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "ring3: /no/such/file: No such file or directory\n"
    assert re.fullmatch(
        rf"{path}: 1 sites, 1 refused .*\n +0x[0-9a-f]+  refused: no direct control flow .*\n", done.stdout
    ), done.stdout
