"""The trace: the same calls as the real strace, and its format line by line.

Layer: tests of the pretend kernel, through the front door and the command line.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import hostfacts
import pytest
from harness import ring3_argv

import ring3

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/nonexistent", "TZ": "UTC"}
#: what docs/trace.md says: the vDSO's calls, which strace cannot see
VDSO = {"clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"}


def trace(program: list[str], *options: str, status: int | None = 0) -> str:
    """What ring3 trace writes."""
    argv = ring3_argv([])
    argv[argv.index("run") :] = ["trace", *options, "--", *program]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          env={**ENV, "XDG_CACHE_HOME": str(Path.home() / ".cache")}, timeout=60)  # fmt: skip
    assert status is None or done.returncode == status, done.stderr
    return done.stderr.decode("utf-8", "surrogateescape")


def in_box(program: list[str], *names: str, **options: object) -> list[str]:
    """The lines that Sandbox.trace gives."""
    lines: list[str] = []
    with ring3.Sandbox(env=ENV, user=0) as box:
        box.trace(lines.append, *names, **options)
        box.run(program, stdin=ring3.DEVNULL, stdout=ring3.DEVNULL, stderr=ring3.DEVNULL, timeout=30)
    return "".join(lines).splitlines()


def calls(text: str) -> list[str]:
    """The names of the calls, in their order."""
    return [m[1] for line in text.splitlines() if (m := re.match(r"(?:\d+ +)?(\w+)\(", line))]


def shape(line: str) -> str:
    """A line without what differs from run to run: addresses, pids, sizes of the machine."""
    line = re.sub(r"0x[0-9a-f]{6,}", "PTR", re.sub(r"^\d+ +", "", line))
    return re.sub(r" +=", " =", line)


PROGRAMS = [
    ["true"],
    ["echo", "hello"],
    ["cat", "/etc/hostname"],
    ["ls", "/usr"],
    ["pwd"],
    ["uname", "-a"],
    ["id", "-u"],
    ["head", "-n1", "/etc/passwd"],
    ["wc", "/etc/passwd"],
    ["sort", "/etc/passwd"],
    ["basename", "/a/b"],
    ["md5sum", "/etc/passwd"],
    ["grep", "root", "/etc/passwd"],
    ["sed", "s/a/b/", "/etc/hostname"],
    ["sh", "-c", "echo a; cd /; test -e /nowhere"],
    ["date"],
    ["tr", "a", "b"],
    ["find", "/etc/apt"],
]
#: arguments and results that are the same in both worlds and must be written alike
ALIKE = ("openat", "close", "newfstatat", "mprotect", "access", "write", "lseek", "fcntl", "exit_group", "arch_prctl",
         "prlimit64", "rt_sigaction", "ioctl", "mmap", "munmap", "rseq", "set_robust_list", "pread64")  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p[0])
def test_the_same_calls_as_strace(program: list[str], workdir: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    if reason := hostfacts.words_of_errors():
        pytest.skip(reason)
    file = workdir / "strace"
    done = subprocess.run([strace, "-f", "-o", str(file), *program], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV, timeout=60)  # fmt: skip
    ours_file = workdir / "ring3"
    trace(program, "-o", str(ours_file), "-E", "XDG_CACHE_HOME", status=done.returncode)
    real = file.read_text("utf-8", "surrogateescape")
    ours = ours_file.read_text("utf-8", "surrogateescape")
    assert [n for n in calls(ours) if n not in VDSO] == [n for n in calls(real) if n not in VDSO]
    pairs = zip(
        [line for line in ours.splitlines() if (calls(line) or ["-"])[0] not in VDSO],
        [line for line in real.splitlines() if (calls(line) or ["-"])[0] not in VDSO],
        strict=True,
    )
    different = [
        (shape(a), shape(b)) for a, b in pairs if calls(a) and calls(a)[0] in ALIKE and shape(a) != shape(b)
    ]
    # Flags of the supervisor's own open, the text of which differs by world, times in the output.
    different = [d for d in different if not re.match(r"fcntl\(\d+, F_GETFL|write\(1, ", d[0])]
    assert not different


def test_a_line_in_each_way_of_ending() -> None:
    text = trace(["sh", "-c", "kill -TERM $$"], "-e", "trace=%process,%signal", status=143)
    lines = text.splitlines()
    assert lines[0].startswith('execve("/usr/bin/sh", ["sh", "-c", "kill -TERM $$"], ')
    assert re.match(r"kill\(\d+, SIGTERM\) += 0$", lines[-3]) and lines[-2].startswith("--- SIGTERM {")
    assert lines[-1] == "+++ killed by SIGTERM +++"
    text = trace(["sh", "-c", "exit 7"], "-e", "trace=exit_group", status=7)
    assert text == "exit_group(7)".ljust(40) + "= ?\n+++ exited with 7 +++\n"


def test_children_signals_and_unfinished_calls() -> None:
    code = "trap 'echo' USR1; (sleep 0.2; kill -USR1 $$) & wait; wait"
    text = trace(["bash", "-c", code], "-e", "trace=wait4,kill,clone,rt_sigreturn,clock_nanosleep")
    assert re.search(r"^clone\(child_stack=NULL, flags=CLONE_CHILD_CLEARTID\|CLONE_CHILD_SETTID\|SIGCHLD, "
                     r"child_tidptr=0x\w+\) = \d+$", text, re.M)  # fmt: skip
    assert re.search(r"^\[pid +\d+\] wait4\(-1,  <unfinished \.\.\.>$", text, re.M)
    assert re.search(r"<\.\.\. wait4 resumed>.*(= \d+|ERESTARTSYS)", text)
    assert re.search(r"--- SIGUSR1 \{si_signo=SIGUSR1, si_code=SI_USER, si_pid=\d+, si_uid=\d+\} ---", text)
    assert re.search(r"rt_sigreturn\(\{mask=\[.*\]\}\)", text)
    assert re.search(r"--- SIGCHLD \{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=\d+, .*si_status=0", text)


def test_structures() -> None:
    code = """
import os, select, signal, socket, struct, time, resource, fcntl
a, b = os.pipe()
p = select.poll(); p.register(a, select.POLLIN); p.poll(0); os.write(b, b'x'); p.poll(1000)
e = select.epoll(); e.register(a, select.EPOLLIN); e.poll(1); select.select([a], [b], [], 1)
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(5)
c = socket.create_connection(s.getsockname())
u, v = socket.socketpair(); u.send(b'hello'); v.recv(9)
socket.send_fds(u, [b'fd'], [a]); v.recvmsg(9, 100)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
resource.getrusage(resource.RUSAGE_SELF); os.uname(); os.readv(a, [bytearray(1)]); os.writev(b, [b'yy', b'z'])
os.utime('/tmp', (1, 2)); os.stat('/etc'); fcntl.fcntl(a, fcntl.F_GETFD)
time.sleep(0.001); os.sched_getaffinity(0); os.getcwd()
pid = os.fork()
if not pid: os._exit(5)
os.waitpid(pid, 0)
"""
    text = re.sub(r" +=", " =", "\n".join(in_box(["/usr/bin/python3", "-S", "-c", code])))
    for pattern in (
        r"pipe2\(\[3, 4\], O_CLOEXEC\) = 0",
        r"poll\(\[\{fd=3, events=POLLIN\}\], 1, 0\) = 0 \(Timeout\)",
        r"poll\(\[\{fd=3, events=POLLIN\}\], 1, 1000\) = 1 \(\[\{fd=3, revents=POLLIN\}\]\)",
        r"epoll_ctl\(5, EPOLL_CTL_ADD, 3, \{events=EPOLLIN, data=\{u32=\d+, u64=\d+\}\}\) = 0",
        r"epoll_wait\(5, \[\{events=EPOLLIN, data=\{u32=\d+, u64=\d+\}\}\], \d+, 1000\) = 1",
        r"pselect6\(5, \[3\], \[4\], (NULL|\[\]), \{tv_sec=1, tv_nsec=0\}, NULL\) = 2 "
        r"\(in \[3\], out \[4\], left \{tv_sec=0, tv_nsec=\d+\}\)",
        r"socket\(AF_INET, SOCK_STREAM\|SOCK_CLOEXEC, IPPROTO_IP\) = 6",
        r'bind\(6, \{sa_family=AF_INET, sin_port=htons\(0\), sin_addr=inet_addr\("127.0.0.1"\)\}, 16\) = 0',
        r"getsockname\(6, \{sa_family=AF_INET, sin_port=htons\(\d+\), .*\}, \[16\]\) = 0",
        r"socketpair\(AF_UNIX, SOCK_STREAM\|SOCK_CLOEXEC, 0, \[\d+, \d+\]\) = 0",
        r'sendto\(\d+, "hello", 5, 0, NULL, 0\) = 5',
        r'recvfrom\(\d+, "hello", 9, 0, NULL, NULL\) = 5',
        r'sendmsg\(\d+, \{msg_name=NULL, msg_namelen=0, msg_iov=\[\{iov_base="fd", iov_len=2\}\], msg_iovlen=1, '
        r"msg_control=\[\{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=\[3\]\}\], "
        r"msg_controllen=\d+, msg_flags=0\}, 0\) = 2",
        r"rt_sigprocmask\(SIG_BLOCK, \[USR1 TERM\], \[\], 8\) = 0",
        r"getrusage\(RUSAGE_SELF, \{ru_utime=\{tv_sec=\d+, tv_usec=\d+\}, ru_stime=\{.*\}, \.\.\.\}\) = 0",
        r'uname\(\{sysname="Linux", nodename="[^"]*", \.\.\.\}\) = 0',
        r'readv\(3, \[\{iov_base="x", iov_len=1\}\], 1\) = 1',
        r'writev\(4, \[\{iov_base="yy", iov_len=2\}, \{iov_base="z", iov_len=1\}\], 2\) = 3',
        r'utimensat\(AT_FDCWD, "/tmp", \[\{tv_sec=1, tv_nsec=0\}, \{tv_sec=2, tv_nsec=0\}\], 0\) = 0',
        r'newfstatat\(AT_FDCWD, "/etc", \{st_mode=S_IFDIR\|0755, st_size=\d+, \.\.\.\}, 0\) = 0',
        r"fcntl\(3, F_GETFD\) = 0x1 \(flags FD_CLOEXEC\)",
        r"clock_nanosleep\(CLOCK_MONOTONIC, TIMER_ABSTIME, \{tv_sec=\d+, tv_nsec=\d+\}, NULL\) = 0",
        r"sched_getaffinity\(0, \d+, \[[\d ]+\]\) = \d+",
        r'getcwd\("/[^"]*", \d+\) = \d+',
        r"(wait4\(\d+, |<\.\.\. wait4 resumed>)\[\{WIFEXITED\(s\) && WEXITSTATUS\(s\) == 5\}\], 0, NULL\) = \d+",
    ):
        assert re.search(pattern, text), pattern + "\n" + text[text.index("pipe2(") :]


def test_descriptors_times_strings_and_columns() -> None:
    text = trace(
        ["head", "-c9", "/etc/passwd"], "-y", "-T", "-tt", "-s", "4", "-a", "60", "-e", "trace=openat,read"
    )
    line = next(x for x in text.splitlines() if '"/etc/passwd"' in x)
    stamp, rest = line.split(" ", 1)
    assert re.match(r"\d\d:\d\d:\d\d\.\d{6}$", stamp)
    assert re.match(
        r'openat\(AT_FDCWD</[^>]*>, "/etc/passwd", O_RDONLY\) += 3</etc/passwd> <\d\.\d{6}>$', rest
    )
    assert re.search(r'read\(3</etc/passwd>, "root"\.\.\., \d+\)', text)


def test_only_some_calls() -> None:
    text = trace(["cat", "/etc/hostname"], "-P", "/etc/hostname", "-e", "trace=!read")
    assert calls(text)[:1] == ["openat"] and "read" not in calls(text) and "ld.so" not in text
    text = trace(["cat", "/nowhere"], "-Z", "-q", "-e", "trace=%file", status=1)
    assert set(re.findall(r"= (\S+ \w+)", text)) == {"-1 ENOENT"}
    text = trace(
        ["sh", "-c", "echo a || exit 9; /bin/echo b || echo c"],
        *("--only", "echo", "-e", "inject=write:error=ENOSPC:when=1", "-e", "write"),
    )
    written = [line for line in text.splitlines() if "write(1," in line]  # of echo's alone, which alone fails
    assert len(written) == 1 and '"b\\n"' in written[0] and "ENOSPC" in written[0] and "INJECTED" in written[0]
    text = trace(["sh", "-c", "/bin/true; exec /bin/echo"], "--only", "echo", "-e", "exit_group")
    assert calls(re.sub(r"\[pid +\d+\] ", "", text)) == ["exit_group"]


def test_faults_are_marked() -> None:
    text = trace(
        ["sh", "-c", "echo a; echo b"],
        "-e",
        "trace=write",
        "-e",
        "inject=write:error=ENOSPC:when=2",
        status=1,
    )
    assert 'write(1, "b\\n", 2)'.ljust(40) + "= -1 ENOSPC (No space left on device) (INJECTED)\n" in text
    assert 'write(1, "a\\n", 2)'.ljust(40) + "= 2\n" in text


def test_the_summary() -> None:
    text = trace(["cat", "/nowhere"], "-c", status=1)
    head, rule, *rows = text[text.index("% time") :].splitlines()
    assert head == "% time     seconds  usecs/call     calls    errors syscall" and set(rule) == {"-", " "}
    assert any(re.match(r" *\d+\.\d\d +\d+\.\d{6} +\d+ +\d+ +\d+ openat$", row) for row in rows)
    assert re.match(r"100\.00 +\d+\.\d{6} +\d+ +\d+ +\d+ total$", rows[-1])


def test_the_summary_of_a_program_without_a_time_stamp_counter() -> None:
    """PR_SET_TSC: whoever counts has no use of rdtsc then (core_native/util.c, clock_ns)."""
    code = "import ctypes, os; ctypes.CDLL(None).prctl(26, 2); os.path.exists('/nowhere'); os._exit(5)"
    rows = trace(["/usr/bin/python3", "-S", "-c", code], "-c", status=5).splitlines()
    assert any(re.search(r" 1 +prctl$", row) for row in rows)


def test_json() -> None:
    items = [json.loads(line) for line in trace(["true"], "--json").splitlines()]
    access = next(i for i in items if i.get("name") == "access")
    assert access["args"] == {"pathname": '"/etc/ld.so.preload"', "mode": "R_OK"}
    assert access["result"] == -2 and access["errno"] == "ENOENT" and access["pid"] > 0
    assert items[-1]["end"] == "exited with 0"


def test_mistakes_say_what_there_is() -> None:
    for options in (["-e", "trace=nosuch"], ["-e", "inject=read"], ["-e", "colour=red"], ["-c", "-S", "beauty"],
                    ["-o", "/nowhere/file"]):  # fmt: skip
        text = trace(["true"], *options, status=125)
        assert text.startswith("ring3: ") and text.count("\n") == 1


def test_a_trace_comes_and_goes() -> None:
    lines: list[str] = []
    with ring3.Sandbox(env=ENV) as box:
        box.trace(lines.append, "openat")
        box.run(["cat", "/etc/hostname"], stdout=ring3.DEVNULL, timeout=30)
        assert lines and all(line.endswith("\n") for line in lines)
        box.trace(None)
        lines.clear()
        box.run(["cat", "/etc/hostname"], stdout=ring3.DEVNULL, timeout=30)
        assert not lines
        counts = box.count("openat")
        box.run(["cat", "/etc/hostname"], stdout=ring3.DEVNULL, timeout=30)
        assert counts.counts["openat"][0] >= 3


# -- structures and flags, beside strace's


def plain(text: str) -> list[str]:
    """Lines without what differs between two runs: addresses, ids, clocks; and without the child's."""
    out = []
    cut: dict[str, str] = {}  # what was left unfinished, by pid
    pids = "|".join({line.split()[0] for line in text.splitlines()})
    for line in text.splitlines():
        pid, line = re.split(r" +", line, maxsplit=1)
        if line.endswith(" <unfinished ...>"):
            cut[pid] = line.removesuffix(" <unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", line):
            line = cut.pop(pid) + line[resumed.end() :]
        if re.match(r"[-+]{3} |exit_group\(3|waitid", line):
            continue
        line = re.sub(r"0x[0-9a-f]{6,}", "PTR", re.sub(r" +=", " =", line))
        line = re.sub(rf"\b({pids})\b", "N", line)
        line = re.sub(r"left \{[^}]*\}", "left N", line)  # what a wait leaves of its limit, 0 on a slow machine
        out.append(re.sub(r"\b\d{4,}\b", "N", re.sub(r"tv_u?n?sec=\d{3,}", "tv=N", line)))
    return out[next(i for i, x in enumerate(out) if x.startswith("socketpair")) :]


def test_structures_and_flags_read_as_straces(workdir: Path) -> None:
    strace, gcc = shutil.which("strace"), shutil.which("gcc")
    if strace is None or gcc is None:
        pytest.skip("strace or gcc is not installed")
    if reason := hostfacts.words_of_errors():
        pytest.skip(reason)
    program = workdir / "structs"
    source = Path(__file__).parent / "programs" / "structs.c"
    subprocess.run([gcc, "-w", "-o", program, source], check=True, timeout=60)
    subprocess.run([strace, "-f", "-o", workdir / "theirs", program], check=True, timeout=60, env=ENV)
    trace([str(program)], "--lockdown", "off", "-o", str(workdir / "ours"))  # pids that are no other number
    theirs, ours = (plain((workdir / name).read_text()) for name in ("theirs", "ours"))
    theirs, ours = ([x for x in t if not x.startswith("getrandom")] for t in (theirs, ours))
    # Parent and child may come in any order, and which comes first is up to the scheduler.
    assert len(ours) > 80 and sorted(ours) == sorted(theirs)


def test_terminals_settings() -> None:
    from ring3.kernel.trace.terminals import termios

    raw = bytes.fromhex("000500000500 0000bf0000003b8a0000".replace(" ", "")) + bytes(20)
    assert termios(raw) == (
        "{c_iflag=ICRNL|IXON, c_oflag=NL0|CR0|TAB0|BS0|VT0|FF0|OPOST|ONLCR, c_cflag=B38400|CS8|CREAD, "
        "c_lflag=ISIG|ICANON|ECHO|ECHOE|ECHOK|IEXTEN|ECHOCTL|ECHOKE, ...}"
    )
    raw = bytes.fromhex("0040000000180000" "b2100000" "10800000") + bytes(20)
    assert "c_iflag=IUTF8, c_oflag=NL0|CR0|XTABS|BS0|VT0|FF0, c_cflag=B115200|CS8|CREAD, " in termios(raw)


# -- signals that no handler gets


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("kill -TERM $$", 143, ["kill(P, SIGTERM) = 0", "--- SIGTERM {si_signo=SIGTERM, {USER}} ---",
                                "+++ killed by SIGTERM +++"]),
        ("trap '' USR1; kill -USR1 $$; exit", 0,
         ["kill(P, SIGUSR1) = 0", "--- SIGUSR1 {si_signo=SIGUSR1, {USER}} ---"]),
        ("/bin/true; exit", 0,
         ["+++ exited with 0 +++", "--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=P, "]),
        ("python3 -c 'import signal; signal.setitimer(0, 0.01); signal.pause()'; exit 0", 0,
         ["pause() = ? ERESTARTNOHAND (To be restarted if no handler)",
          "--- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---", "+++ killed by SIGALRM +++"]),
        ("seq 99999 | :; exit 0", 0, ["= -1 EPIPE (Broken pipe)", "--- SIGPIPE {si_signo=SIGPIPE, {USER}} ---",
                                      "+++ killed by SIGPIPE +++"]),
        ("sleep 5 & kill -STOP $!; kill -KILL $!; wait", 0,
         ["kill(P, SIGSTOP) = 0", "--- SIGSTOP {si_signo=SIGSTOP, {USER}} ---", "--- stopped by SIGSTOP ---",
          "+++ killed by SIGKILL +++"]),
    ],
    ids=["fatal", "ignored", "child", "timer", "pipe", "stop"],
)  # fmt: skip
def test_signals_without_a_handler(code: str, status: int, says: list[str], workdir: Path) -> None:
    """In strace's words and in its order."""
    words = ["bash", "-c", code]
    trace(words, "-e", "trace=kill,write,pause,wait4", "-o", str(workdir / "t"), status=status)
    lines = (workdir / "t").read_text().splitlines()
    text = "\n".join(re.sub(r" +=", " =", re.sub(r"^\d+ +", "", x)) for x in lines)
    text = re.sub(r"(si_pid=|kill\()\d+", r"\1P", re.sub(r"si_uid=\d+", "si_uid=U", text))
    at = 0
    for line in says:
        line = line.replace("{USER}", "si_code=SI_USER, si_pid=P, si_uid=U")
        assert line in text[at:], f"{line!r} is not behind {text[:at][-200:]!r} in\n{text}"
        at = text.index(line, at)
