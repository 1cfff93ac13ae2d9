"""The command line: ``ring3 run``, ``trace``, ``gdb``, ``net``, ``ps``, ``doctor`` and ``--version``.

Part of: ring3 (the front door). May touch: the caller's standard streams; the rest is run_command.py's.

Errors are one sentence on stderr and an exit status as docker's: 125 our own failure, 126 the program cannot
be executed, 127 it was not found; else the program's own, 128+N if signal N ended it. Never a traceback,
unless RING3_DEBUG is set.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from . import __version__
from .errors import Ring3Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import NoReturn

TIMED_OUT, OWN_FAILURE, NOT_EXECUTABLE, NOT_FOUND = 124, 125, 126, 127

RUN_DESCRIPTION = """\
Run a program against a world made in Python. By default it sees the host's root copy-on-write: it reads
the host's files, and everything that it writes lies in memory and is gone afterwards. Its standard streams
are the caller's, and so are its environment and, if it exists in the world, its working directory.
"""

RUN_EPILOG = """\
exit status: the program's own, 128+N if signal N ended it; 125 if ring3 itself failed, 126 if the program
cannot be executed, 127 if it was not found.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (sys.argv[1:] by default) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except UsageError as e:
        return complain(str(e))
    except Ring3Error as e:
        if os.environ.get("RING3_DEBUG"):
            raise
        return complain(str(e))
    except BrokenPipeError:
        return OWN_FAILURE
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        if os.environ.get("RING3_DEBUG"):
            raise
        what = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
        return complain(f"internal error: {what} (RING3_DEBUG=1 shows where)")


def entry() -> NoReturn:
    """The ``ring3`` script: main(), and out without the interpreter's own tidying, which costs 10 ms."""
    gc.disable()  # start-up makes no garbage, and looking for it costs 15 ms; run_command.py ends this
    # What was closed from the start is None: what is said there is for nobody.
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    try:
        status = main()
    except SystemExit as e:  # argparse's, after --help
        status = e.code if isinstance(e.code, int) else 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as e:
            if stream is sys.stdout and not isinstance(e, BrokenPipeError):
                complain(f"cannot write: {e.strerror if isinstance(e, OSError) else e}")
            status = status or OWN_FAILURE
    build = sys.modules.get("ring3.core_native.build")
    if build is not None:
        build.remove_private_dir()
    os._exit(status)


def complain(message: str, status: int = OWN_FAILURE) -> int:
    """Print one sentence to stderr; return the status to exit with."""
    try:
        print(f"ring3: {message}", file=sys.stderr, flush=True)
    except OSError:
        pass
    return status


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command == "run":
        from .run_command import run

        return run(_run_parser().parse_args(arguments[1:]))
    if command == "trace":
        from .trace_command import parser_of, trace

        return trace(parser_of(_parser).parse_args(arguments[1:]))
    if command == "gdb":
        from .gdb_command import debug
        from .gdb_command import parser_of as gdb_parser

        return debug(gdb_parser(_parser).parse_args(arguments[1:]))
    if command in ("net", "ps"):
        if command == "net":
            from .net_command import parser_of, show
        else:
            from .ps_command import parser_of, show
        return show(parser_of(_parser).parse_args(arguments[1:]))
    if command == "doctor":
        parser = _parser("ring3 doctor", "Say what this machine offers and what ring3 will use.")
        parser.add_argument(
            "files",
            nargs="*",
            metavar="FILE",
            help="say instead how the system call instructions of these programs and libraries are rewritten",
        )
        files = parser.parse_args(arguments[1:]).files
        if files:
            from .doctor_files import main as sites

            return sites(files)
        from .doctor import main as doctor

        return doctor()
    return _top_level(arguments)


def _top_level(arguments: list[str]) -> int:
    parser = _parser("ring3", "Run unmodified Linux programs against a world made in Python.")
    parser.add_argument("--version", action="version", version=f"ring3 {__version__}")
    parser.epilog = (
        "commands:\n  run     run a program (ring3 run --help)\n"
        "  trace   run a program and write its system calls, as strace does (ring3 trace --help)\n"
        "  gdb     debug a program, or a running guest, with gdb (ring3 gdb --help)\n"
        "  net     show the connections of the sandboxes that run (ring3 net --help)\n"
        "  ps      show what the programs in them wait for (ring3 ps --help)\n"
        "  doctor  say what this machine offers and what ring3 will use\n"
    )
    parser.add_argument("command", nargs="?", metavar="run | trace | gdb | net | ps | doctor", help="what to do")
    parser.add_argument("rest", nargs="...", metavar="...", help="its options and arguments")
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return OWN_FAILURE
    raise UsageError(f"no such command: {options.command!r} (there are run, trace, gdb, net, ps and doctor)")


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(f"{message} (try: {self.prog} --help)")

    return Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        formatter_class=_formatter,
    )


def seconds(text: str) -> float:
    """A time on the command line."""
    if not 0 < float(text) <= 1e9:
        raise ValueError(text)
    return float(text)


def count(text: str) -> int:
    """A number of at least one on the command line."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def size(text: str) -> int:
    """A number of bytes on the command line: 64m, 1g, 25% of the memory."""
    from .vfs.memfs import parse_size

    return parse_size(text)


def add_limits(parser: argparse.ArgumentParser, brief: bool = False) -> None:
    """What the sandbox's programs may use."""
    for option, metavar, kind, text in (
        ("--pids", "N", count, "at most so many processes at once; more are EAGAIN (default: 4096)"),
        ("--memory", "SIZE", size, "bytes that each process may write, and all together have in memory: 512m, 2g"),
        ("--tmpfs-size", "SIZE", size, "bytes that all files in memory may take together; more are ENOSPC"),
        ("--nofile", "N", count, "descriptors that each process may have"),
        ("--cpu-time", "SECONDS", seconds, "processor time that all processes may take; then SIGXCPU, and SIGKILL"),
    ):
        parser.add_argument(option, metavar=metavar, type=kind, help="as ring3 run" if brief else text)


def _formatter(prog: str) -> argparse.HelpFormatter:
    """argparse makes one for each option; told its width, it does not import shutil, which takes 3 ms."""
    import argparse

    try:
        width = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    except (OSError, ValueError):
        width = 80
    return argparse.RawDescriptionHelpFormatter(prog, width=max(width - 2, 11))


#: options of the network that run, trace and gdb have alike, and what they mean
NET_EXTRAS = (
    ("--pcap", "FILE", "write what goes over the sandbox's network to FILE, for Wireshark"),
    ("--tls-keys", "FILE", "write the TLS keys of the sandbox's own web sites to FILE, with which Wireshark decrypts"),
)


def add_net_extras(parser: argparse.ArgumentParser, *, brief: bool = False) -> None:
    """Declare them; `brief`: what they mean is said elsewhere."""
    for name, metavar, text in NET_EXTRAS:
        parser.add_argument(name, metavar=metavar, help=f"as ring3 run {name}" if brief else text)
    text = "allow raw sockets and ICMP's datagram sockets, for ping"
    parser.add_argument("--net-raw", action="store_true", help="as ring3 run --net-raw" if brief else text)


def _run_parser() -> argparse.ArgumentParser:
    parser = _parser("ring3 run", RUN_DESCRIPTION)
    parser.usage = (
        "ring3 run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
        "       ring3 run --image FILE [OPTION]... [--] [ARGUMENT]..."
    )
    parser.epilog = RUN_EPILOG
    add = parser.add_argument
    add(
        "-r",
        "--root",
        metavar="DIR",
        help="the host directory, or tar or zip archive, to see copy-on-write as / (default: /)",
    )
    add(
        "--image",
        metavar="FILE[#NAME]",
        help="run an image: an OCI layout (a directory or a tar) or a docker save archive; no PROGRAM, or "
        "arguments alone, run what it says",
    )
    add("--entrypoint", metavar="PROGRAM", help="with --image: run this instead of the image's entrypoint")
    add(
        "-v",
        "--volume",
        metavar="HOST:GUEST[:MODE]",
        action="append",
        default=[],
        help="see a host path in the world; MODE is rw (the default: writes reach the host), ro, or cow",
    )
    add(
        "--tmpfs",
        metavar="DIR[:OPTIONS]",
        action="append",
        default=[],
        help="mount an empty memory filesystem; OPTIONS are size=64m,nr_inodes=1k,mode=755 (as docker)",
    )
    add(
        "--mount",
        metavar="type=TYPE,target=DIR,...",
        action="append",
        default=[],
        help="mount a filesystem: bind, tmpfs, tar, zip, overlay (docs/filesystem.md has their options)",
    )
    add(
        "--net",
        metavar="MODE",
        action="append",
        default=[],
        help="virtual (the default): a network of the sandbox's own; none: lo alone; host: all that the host reaches; "
        "allow=RULE[,RULE]...: virtual, and these hosts (HOST[:PORT], CIDR[:PORT], *.DOMAIN, *); record=FILE: write "
        "down what is said to them; replay=FILE: have it said again, without a network; open-tls=PORT[,PORT]...: "
        "record TLS to these ports in clear",
    )
    add(
        "-p",
        "--publish",
        metavar="[ADDRESS:]HOST:GUEST[/udp]",
        action="append",
        default=[],
        help="let the host's clients reach port GUEST at port HOST (0: a free one, told) of 127.0.0.1 or ADDRESS",
    )
    add_net_extras(parser)
    add("-e", "--env", metavar="K[=V]", action="append", default=[], help="set an environment variable")
    add("-w", "--workdir", metavar="DIR", help="the working directory in the world")
    add("-u", "--user", metavar="UID[:GID]", help="who the program is (names of the world work too)")
    add("--hostname", metavar="NAME", help="what the world's host is called")
    add("-i", "--interactive", action="store_true", help="with -t: connect standard input too")
    add("-t", "--tty", action="store_true", help="give the program a new terminal of its own")
    add(
        "--rewrite",
        choices=("detour", "zpoline", "zpoline-unsafe", "off"),
        default="detour",
        help="how system call sites are rewritten before they run: detour (the default); zpoline, by page zero, where "
        "that can be execute-only (zpoline-unsafe: also where reads of null then go unnoticed); off: every call traps",
    )
    add("--timeout", metavar="SECONDS", type=seconds, help="end the program after so long; the exit status is 124")
    add_limits(parser)
    add(
        "--lockdown",
        choices=("on", "off"),
        default="on",
        help="off: the program's processes keep the caller's rights on the host (docs/lockdown.md)",
    )
    add(
        "--require",
        choices=("none", "filter", "scoped", "full"),
        default="none",
        help="refuse to run where the host allows less lock-down than this (ring3 doctor tells how much)",
    )
    add(
        "--native-hook",
        metavar="FILE",
        help="run with a native hook (docs/native-hooks.md) around every call",
    )
    add(
        "--only",
        metavar="PROGRAM",
        action="append",
        default=[],
        help="the native hook and the trace are for this program alone (a pattern)",
    )
    add(
        "--diff",
        metavar="FILE",
        help="write to FILE (- is standard error) what the run added, changed and deleted in memory: A, C, D and path",
    )
    add(
        "--export",
        metavar="FILE[:DIR]",
        action="append",
        default=[],
        help="write what the run changed as a tar archive, a container layer; with :DIR that directory of the world",
    )
    add(
        "--report",
        metavar="files[=FILE]",
        help="write to FILE (or standard error) which files the run read, wrote, asked about and missed",
    )
    add("--trace", action="store_true", help="print each system call to standard error")
    add("--trace-file", metavar="FILE", help="write each system call to FILE")
    add("command", nargs="...", metavar="PROGRAM [ARGUMENT]...", help="what to run; looked up in PATH")
    return parser
