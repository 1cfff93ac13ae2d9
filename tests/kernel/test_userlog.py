"""What guests bring into the user's log."""

from __future__ import annotations

from ring3.kernel.userlog import MOST_ONCE, UserLog


def test_a_line_is_one_line_without_control_characters() -> None:
    said: list[str] = []
    log = UserLog(said.append)
    log("name a\x1b[2Jb\nring3: forged\r\x9b\udcff: nothing")
    log("x" * 5000)
    log("internal error", "Traceback\n  File \x1b]0;title\x07")
    assert said[0] == "name a\\x1b[2Jb\\x0aring3: forged\\x0d\\x9b\\udcff: nothing"
    assert len(said[1]) < 1100
    assert said[2] == "internal error\nTraceback\n  File \\x1b]0;title\\x07"


def test_what_is_told_once_is_bounded() -> None:
    said: list[str] = []
    log = UserLog(said.append)
    for i in range(3 * MOST_ONCE):
        log.once(f"name {i // 2}: nothing")
    assert len(said) == MOST_ONCE + 1
    assert "not told" in said[-1]
    assert said[0] == "name 0: nothing" and said[1] == "name 1: nothing"
