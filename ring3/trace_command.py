"""``ring3 trace``: run a program and write what it asks of the system, as strace does.

Part of: ring3 (the front door). May touch: what run_command.py may; the file of ``-o``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from .cli import add_limits, add_net_extras
from .errors import ExecError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .sandbox import Sandbox

DESCRIPTION = """\
Run a program in a world of its own, as ring3 run does, and write each of its system calls to standard error, in
strace's format. Children and threads are followed.
"""
EPILOG = """\
EXPR is one of
  trace=SET         only these calls: names, classes (%file, %process, %network, %signal, %desc, %memory, ...),
                    /regular expressions, numbers; !SET for all others. `-e SET' is short for it.
  inject=SET[:error=E|:retval=N][:signal=S][:delay_enter=T][:delay_exit=T][:when=FIRST[..LAST][+[STEP]]]
                    make these calls fail; T is in microseconds, or with a unit (ns, us, ms, s)
  fault=SET[:error=E][:when=...]   the same with ENOSYS by default
  status=successful|failed         only calls with this outcome
  signal=none       no signals
"""


def parser_of(make: Callable[[str, str], argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The command line's parser; ``make(prog, description)`` makes an empty one."""
    parser = make("ring3 trace", DESCRIPTION)
    parser.usage = "ring3 trace [OPTION]... [--] PROGRAM [ARGUMENT]..."
    parser.epilog = EPILOG
    add = parser.add_argument
    add("-e", dest="expressions", metavar="EXPR", action="append", default=[], help="see below")
    add("-P", dest="paths", metavar="PATTERN", action="append", default=[], help="only calls on these paths")
    add(
        "--only",
        metavar="PROGRAM",
        action="append",
        default=[],
        help="only calls of this program (a pattern)",
    )
    add(
        "-c", "--summary-only", dest="count", action="store_true", help="count calls, errors and time instead"
    )
    add(
        "--sites",
        action="store_true",
        help="report the system call instructions that trapped instead, and what became of those of each file",
    )
    add("-S", dest="sort", metavar="BY", default="time", help="with -c: sort by time, calls, errors or name")
    add("-o", "--output", metavar="FILE", help="write to FILE")
    add("-y", "--decode-fds", action="count", default=0, help="show the paths of descriptors")
    add("-T", "--syscall-times", action="store_true", help="show the time spent in each call")
    add(
        "-t",
        dest="stamp",
        action="count",
        default=0,
        help="time of day; -tt with microseconds; -ttt since 1970",
    )
    add("-r", "--relative-timestamps", action="store_true", help="time since the line before")
    add(
        "-s",
        "--string-limit",
        metavar="N",
        type=int,
        default=32,
        help="show N bytes of a string (default: 32)",
    )
    add("-a", "--columns", metavar="N", type=int, default=40, help="where results begin (default: 40)")
    add("-z", dest="successful", action="store_true", help="only calls that succeed")
    add("-Z", dest="failed", action="store_true", help="only calls that fail")
    add("-q", "--quiet", action="count", default=0, help="no lines for the ends of processes")
    add("-f", "--follow-forks", action="count", default=0, help="(always so)")
    add("--json", action="store_true", help="an object a line")
    add("-E", "--env", metavar="K[=V]", action="append", default=[], help="set an environment variable")
    add("-u", "--user", metavar="UID[:GID]", help="who the program is")
    add("--root", metavar="DIR", help="the host directory to see copy-on-write as / (default: /)")
    add("--volume", metavar="HOST:GUEST[:MODE]", action="append", default=[], help="as ring3 run -v")
    add("--net", metavar="MODE", action="append", default=[], help="as ring3 run --net")
    add("--publish", metavar="HOST:GUEST", action="append", default=[], help="as ring3 run -p")
    add_net_extras(parser, brief=True)
    add("--tmpfs", metavar="DIR[:OPTIONS]", action="append", default=[], help="as ring3 run")
    add("--mount", metavar="type=TYPE,...", action="append", default=[], help="as ring3 run")
    add("--image", metavar="FILE[#NAME]", help="as ring3 run")
    add("--entrypoint", metavar="PROGRAM", help="as ring3 run")
    add("--workdir", metavar="DIR", help="the working directory in the world")
    add("--hostname", metavar="NAME", help="what the world's host is called")
    add("--rewrite", choices=("detour", "zpoline", "zpoline-unsafe", "off"), default="detour", help="as ring3 run")
    add_limits(parser, brief=True)
    add("--lockdown", choices=("on", "off"), default="on", help="as ring3 run")
    add("--require", choices=("none", "filter", "scoped", "full"), default="none", help="as ring3 run")
    add("command", nargs="...", metavar="PROGRAM [ARGUMENT]...", help="what to run; looked up in PATH")
    return parser


def trace(options: argparse.Namespace) -> int:
    """Carry out ``ring3 trace``; return the exit status."""
    from . import run_command as run

    command = options.command
    if command and command[0] == "--":
        command = command[1:]
    run.check_command(command, options, "trace")
    stdio = run._standard_streams()
    fill_defaults(options)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, run._TAKEN)
    out = _output(options)
    try:
        box = run._sandbox(options, None)
        finish = install(box, options, out)
        with box:
            status = run._run(box, run._command(box, command, options), options, run._ignored_signals(), stdio)
        finish()
        return status
    except ExecError as e:
        from .cli import complain

        return complain(f"cannot run {e.filename!r}: {e.strerror}", run._status_of(e))
    finally:
        out.flush()
        if out is not sys.stderr:
            out.close()
        run.signals_back(before)


def fill_defaults(options: argparse.Namespace) -> None:
    """What ``ring3 run`` has an option for and this command has not: as by default there."""
    from .cli import _run_parser

    for name, value in vars(_run_parser().parse_args([])).items():
        if not hasattr(options, name):
            setattr(options, name, value)


def _output(options: argparse.Namespace) -> Any:
    if options.output is None:
        return sys.stderr
    try:
        from .run_command import TraceFile

        return TraceFile(options.output)
    except OSError as e:
        raise UsageError(f"cannot write the trace to {options.output}: {e.strerror}") from None


def install(box: Sandbox, options: argparse.Namespace, out: Any) -> Callable[[], None]:
    """Install what the options ask for; the result is to be called at the end."""
    from .kernel.hooks.inject import parse
    from .kernel.trace import count, start
    from .kernel.trace.options import Options
    from .kernel.trace.summary import SORTS

    kernel = box._kernel
    try:
        shown, injections, settings = _expressions(options)
        settings["only"] = _filter(options)
        wanted = Options(shown, **settings)
        for text in injections:
            names, injection = parse(text)
            kernel.hooks.add(
                names, injection.before, path=options.paths or None, program=options.only or None
            )
        if options.sort not in SORTS:
            raise ValueError(f"-S {options.sort}: there are {', '.join(SORTS)}")
    except ValueError as e:
        raise UsageError(str(e)) from None
    if options.sites:
        kernel.traps.count()
        return lambda: out.write(kernel.traps.report())
    if options.count:
        summary = count(kernel, wanted)
        return lambda: out.write(summary.table(options.sort))
    partial = out is sys.stderr
    start(kernel, _unbuffered(out) if partial else out.write, wanted)
    return lambda: None


def _unbuffered(out: Any) -> Callable[[str], object]:
    """To standard error at once, also the begin of a line."""

    def write(text: str) -> None:
        data = text.encode("utf-8", "surrogateescape")
        try:
            while data:
                data = data[os.write(2, data) :]
        except OSError:
            pass  # nobody reads the trace: the program goes on, as under strace

    return write


def _filter(options: argparse.Namespace) -> Any:
    from .kernel.hooks.filters import Filter

    if not options.paths and not options.only:
        return None
    return Filter(path=options.paths or None, program=options.only or None)


def _expressions(options: argparse.Namespace) -> tuple[list[str], list[str], dict[str, Any]]:
    """-e: (calls to show, injections, further options of the trace).  Raises ValueError."""
    shown: list[str] = []
    injections: list[str] = []
    status = {"successful"} if options.successful else {"failed"} if options.failed else None
    signals_shown = True
    for text in options.expressions:
        key, equals, value = text.partition("=")
        if not equals:
            key, value = "trace", text
        if key in ("trace", "t"):
            shown += _set(value)
        elif key == "inject":
            injections.append(value)
        elif key == "fault":
            injections.append(value if ":error=" in value else value + ":error=ENOSYS")
        elif key == "status":
            status = set(value.split(","))
        elif key in ("signal", "signals", "s"):
            signals_shown = value not in ("none", "!all")
        elif key not in ("abbrev", "verbose", "raw", "read", "write", "quiet", "decode-fds"):
            raise ValueError(f"-e {text}: {key!r} is none of trace, inject, fault, status, signal")
        else:
            raise ValueError(f"-e {key}= is not supported")
    if status is not None and not status <= {"successful", "failed", "unfinished"}:
        raise ValueError(f"-e status={','.join(sorted(status))}: there are successful and failed")
    stamps = "r" if options.relative_timestamps else "t" * min(options.stamp, 3)
    settings: dict[str, Any] = {
        "strings": max(options.string_limit, 0), "paths": bool(options.decode_fds), "spent": options.syscall_times,
        "stamp": stamps, "pids": "column" if options.output is not None else "auto", "signals": signals_shown,
        "exits": not options.quiet, "column": options.columns, "json": options.json,
        "status": frozenset(status) if status is not None else None, "partial": options.output is None,
    }  # fmt: skip
    return shown or ["*"], injections, settings


def _set(value: str) -> list[str]:
    """strace's SET: a leading "!" is for all of it."""
    if value.startswith("!"):
        return ["!" + word for word in value[1:].split(",")]
    return value.split(",")
