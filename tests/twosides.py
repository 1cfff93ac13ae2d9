"""Random sequences of calls, natively and in a guest: the two sides, and the search for one that ends differently.

Layer: tests. Each side is a servant, a process that does the steps it reads from its standard input, answers each with
a line, and "end" with the line "end"; both are ended by their process ids. The sequences are hypothesis's, the same
for the same seed; one that differs is made as short as it gets. Used by tests/fsmodel and tests/netmodel.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence

import hypothesis
from harness import BASE_ENV, become_subreaper, kill_tree
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

ANSWER_LIMIT = 60.0  # seconds for a whole sequence
PIECE = 20000  # steps for which both sides live
SEQUENCE = 60  # steps at most, 20 less or more; in the mean it is half of that


class Dead(Exception):
    """A servant ended or did not answer; says what it last said."""


class Servant:
    """One side: answers sequences of steps."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=BASE_ENV,
            start_new_session=True,
        )
        self.rest = b""
        self._read_until(b"ready\n", 60.0)

    def ask(self, steps: Sequence[str]) -> list[str]:
        """The answers to a sequence, and what else it has to say at its end."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("".join(f"{step}\n" for step in [*steps, "end"]).encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Dead(self._last_words()) from None
        return self._read_until(b"end\n", ANSWER_LIMIT).decode(errors="backslashreplace").splitlines()

    def _read_until(self, mark: bytes, limit: float) -> bytes:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        deadline = time.monotonic() + limit
        data = self.rest
        while not (data == mark or data.endswith(b"\n" + mark)):
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(fd, 1 << 16) if ready else b""
            if not more:
                raise Dead(
                    ("ended" if ready else "no answer") + " after " + repr(data[-300:]) + self._last_words()
                )
            data += more
        return data[: -len(mark)]

    def _last_words(self) -> str:
        self.errors.seek(0)
        return "\n" + self.errors.read().decode(errors="backslashreplace")[-3000:]

    def close(self) -> None:
        """Ends the servant and everything below it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                kill_tree(self.process.pid)
                self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class Pair:
    """Both sides. A side that died is started anew for the next sequence."""

    def __init__(self, argv: dict[str, list[str]]) -> None:
        self.argv = argv
        self.sides: dict[str, Servant] = {}

    def ask(self, steps: Sequence[str]) -> tuple[list[str], list[str]]:
        """The answers of both sides; a servant's end is the last of its answers."""
        native, guest = (self.comparable(self.ask_one(side, steps)) for side in self.argv)
        return native, guest

    def ask_one(self, side: str, steps: Sequence[str]) -> list[str]:
        """One side's answers as they come."""
        try:
            if side not in self.sides:
                self.sides[side] = Servant(self.argv[side])
            return self.sides[side].ask(steps)
        except Dead as exc:
            if side in self.sides:
                self.sides.pop(side).close()
            return [f"{side} {exc}"]

    def comparable(self, lines: list[str]) -> list[str]:
        """Without what may differ."""
        return lines

    def close(self) -> None:
        for side in self.sides.values():
            side.close()


def difference(steps: Sequence[str], native: list[str], guest: list[str]) -> str:
    """The steps up to the first answer that differs, as text; "" if all are the same."""
    if native == guest:
        return ""
    at = next(
        (i for i, (a, b) in enumerate(zip(native, guest, strict=False)) if a != b),
        min(len(native), len(guest)),
    )
    shown = [f"    {step:<60} -> {answer}" for step, answer in zip(steps[:at], native, strict=False)]
    what = steps[at] if at < len(steps) else "(what was left at the end)"
    last = [lines[at] if at < len(lines) else "(nothing)" for lines in (native, guest)]
    return "\n".join([*shown, f"  {what}", f"    native: {last[0]}", f"    ring3:  {last[1]}"])


class Differs(AssertionError):
    """What was done, and the two answers."""


def search(both: Pair, lines_of: st.SearchStrategy[list[str]], wanted: int, seed: int) -> tuple[int, str]:
    """Makes `wanted` steps of such sequences; how many it made, and the first difference, "" for none."""
    made = 0
    failed = False

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max(1, wanted // 10),
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @hypothesis.given(lines_of)
    def same(lines: list[str]) -> None:
        nonlocal made, failed
        if not lines or (made >= wanted and not failed):
            return
        words = difference(lines, *both.ask(lines))
        if words:
            failed = True
            raise Differs(words)
        made += len(lines)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hypothesis.errors.HypothesisWarning)  # a large strategy
            same()
    except Differs as exc:
        return made, str(exc)
    except hypothesis.errors.Flaky as exc:  # an ExceptionGroup where hypothesis has them
        return made, "\n".join(["not each time:", *map(str, getattr(exc, "exceptions", (exc,)))])
    return made, ""


def sequences(step: st.SearchStrategy[str], usable: Callable[[str], bool]) -> st.SearchStrategy[list[str]]:
    """Lists of usable steps."""
    steps = st.lists(step, min_size=SEQUENCE - 20, max_size=SEQUENCE + 20)
    return steps.map(lambda sequence: [line for line in sequence if usable(line)])


def command_line(doc: str, kinds: Sequence[str] = ()) -> tuple[argparse.Namespace, list[str]]:
    """What the long form of a model test takes, and ring3's options in it."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="steps, for each kind (default 100000)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    if kinds:
        parser.add_argument(
            "--kind", action="append", choices=kinds, help="the guest's filesystem (default: memory)"
        )
    parser.add_argument("--rewrite", help="ring3's way of interception (default: its own default)")
    options = parser.parse_args()
    become_subreaper()
    return options, [f"--rewrite={options.rewrite}"] if options.rewrite else []


def in_pieces(what: str, options: argparse.Namespace, find: Callable[[int, int], tuple[int, str]]) -> int:
    """Makes the steps in pieces, each with a seed of its own and two new sides; the exit status."""
    done, seed = 0, options.seed
    while done < options.steps:
        began = time.monotonic()
        made, found = find(min(PIECE, options.steps - done), seed)
        done += made
        print(
            f"{what}: seed {seed}: {made} steps in {time.monotonic() - began:.0f} s, {done} in all",
            flush=True,
        )
        if found:
            print(found)
            return 1
        seed += 1
    return 0
