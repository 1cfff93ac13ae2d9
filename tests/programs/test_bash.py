"""bash: pipelines, redirections, job control on a terminal."""

from __future__ import annotations

import re

from ptydriver import PtySession
from twin import Twin, small_tree

BASH = ["/bin/bash", "--norc", "--noprofile"]


def test_pipelines(twin: Twin) -> None:
    twin.shell(
        r"""
        set -o pipefail
        seq 1 10000 | sort -rn | head -3
        seq 1 5 | while read -r x; do echo $((x * x)); done | paste -sd+ | bc 2>/dev/null || echo no bc
        diff <(seq 1 5) <(seq 1 6); echo "diff $?"
        cat src/*.txt | tee >(wc -l >count) | md5sum; sleep 0.2; cat count
        exec 5<>fifo-less; echo five >&5; cat fifo-less
        { echo out; echo err >&2; } 2>&1 | sort
        false | true; echo "pipe ${PIPESTATUS[*]}"
        mapfile -t lines < <(ls src); echo "${#lines[@]} ${lines[0]}"
        coproc cat; echo to-coproc >&"${COPROC[1]}"; read -r x <&"${COPROC[0]}"; echo "$x"
        mkfifo p; (echo through >p &); cat p
        for i in 1 2 3; do (sleep 0.0$i; exit $i) & pids[$i]=$!; done
        for i in 1 2 3; do wait ${pids[$i]}; echo "wait $?"; done
        trap 'echo usr1' USR1; kill -USR1 $$; echo after
        shopt -s globstar; echo **/*.txt
        ulimit -n 64; ulimit -n; printf '%s\n' "$(<run.sh)"
        ./run.sh a b; bash -c 'exit 7'; echo $?; (kill -9 $BASHPID) 2>/dev/null; echo $?
        [[ -L src/link && ! -e src/dangling ]] && echo links; [[ src/file01.txt -ef src/hard ]] && echo same
        umask 027; touch um; stat -c %a um; echo $((RANDOM >= 0)); type -t cd; hash -r
        """,
        small_tree,
        sh=BASH,
        clean=lambda text: re.sub(rb"line \d+: +\d+ Killed", b"Killed", text),
    )


def test_many_commands(twin: Twin) -> None:
    twin.shell("for i in $(seq 60); do /bin/echo $i | cat; done | md5sum; echo $SHLVL >/dev/null", sh=BASH)


def test_job_control_on_a_terminal(twin: Twin) -> None:
    def drive(s: PtySession) -> list[object]:
        seen: list[object] = []
        s.expect(r"\$> ")

        def ask(line: str, answer: str, timeout: float = 20) -> re.Match[bytes]:
            s.send(line + "\n")
            found = s.expect(answer, timeout)
            s.expect(r"\$> ")
            return found

        ask("stty size", r"24 80\r\n")
        ask("test -t 0 && test -t 2 && echo is-a-tty", r"\nis-a-tty\r\n")
        ask("tty | sed s/[0-9]*$//", r"\n/dev/pts/\r\n")
        ask("sleep 300 &", r"\[1\] \d+\r\n")
        ask("jobs", r"\[1\]\+  Running +sleep 300 &\r\n")
        s.send("fg\n")
        s.expect(r"\nsleep 300\r\n")
        s.wait_foreground("sleep")
        s.send("\x1a")  # ^Z
        seen.append(s.expect(r"\[1\]\+  (\w+) +sleep 300\r\n").group(1))
        s.expect(r"\$> ")
        ask("bg", r"\[1\]\+ sleep 300 &\r\n")
        ask("kill %1; wait %1; echo st-$?", r"\nst-143\r\n")
        s.send("sleep 301\n")
        s.expect("sleep 301\r\n")
        s.wait_foreground("sleep")
        s.send("\x03")  # ^C
        s.expect(r"\^C.*\$> ")
        ask("echo st-$?", r"\nst-130\r\n")
        s.send("seq 100000 | sort -n | tail -1 | cat\n")
        s.expect(r"\n100000\r\n.*\$> ")
        s.send("cat | tr a-z A-Z\n")
        s.send("hello\n\x04")
        s.expect(r"HELLO\r\n.*\$> ")
        s.send("(sleep 0.2; echo from-background) &\n")
        s.expect(r"\[1\] \d+\r\n.*from-background\r\n")
        ask("wait; echo waited-$?", r"\nwaited-0\r\n")
        s.send("read -r -p 'name? ' name; echo got-$name\n")
        s.expect(r"got-\$name\r\nname\? ")
        s.send("bob\n")
        s.expect(r"\ngot-bob\r\n.*\$> ")
        s.send("exit 5\n")
        return seen

    twin.terminal([*BASH, "--noediting", "-i"], drive, env={"PS1": "$> "}, status=5)


def test_interrupt_ends_a_program(twin: Twin) -> None:
    def drive(s: PtySession) -> None:
        # Only when the program itself answers: dash's vforked child swallows an interrupt until it has executed it.
        s.send("here\n")
        s.expect("here\r\nhere\r\n")
        s.send("\x03")

    # ring3's own exit status tells the guest's signal as a shell's $? would
    from harness import BASE_ENV, ring3_argv

    twin.fresh(None)
    with PtySession(
        ring3_argv(["/bin/sh", "-c", "cat; echo no"]), env=BASE_ENV, cwd=twin.dir
    ) as s:
        drive(s)
        assert s.wait() == 130
        assert b"no" not in s.all
