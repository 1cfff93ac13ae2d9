"""--rewrite=zpoline: where it is refused and why, and that page zero is the guest's own business otherwise."""

from __future__ import annotations

import pytest

import ring3
from ring3.errors import UsageError
from ring3.kernel import page_zero


@pytest.mark.parametrize(
    ("result", "unsafe", "words"),
    [
        (page_zero._NOT_MAPPED, False, "page zero cannot be mapped here"),
        (page_zero._NOT_MAPPED, True, "page zero cannot be mapped here"),
        (page_zero._READABLE, False, "no protection keys"),
        (page_zero._READABLE, True, ""),
        (-11, False, ""),
        (-11, True, ""),
    ],
)
def test_when_it_is_refused(monkeypatch: pytest.MonkeyPatch, result: int, unsafe: bool, words: str) -> None:
    monkeypatch.setattr(page_zero, "_try", lambda: result)
    why = page_zero.refusal(unsafe)
    assert words in why and bool(why) == bool(words) and "\n" not in why


def test_a_mode_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="there are detour, zpoline, zpoline-unsafe, off"):
        ring3.Sandbox(rewrite="zpolin")


def test_programs_and_what_they_see_of_it() -> None:
    mode = next((m for m in ("zpoline", "zpoline-unsafe") if not page_zero.refusal(m == "zpoline-unsafe")), "")
    if not mode:
        pytest.skip(page_zero.refusal(True))
    with ring3.Sandbox(rewrite=mode) as box:
        box._kernel.traps.count()
        done = box.run(["sh", "-c", "cat /proc/self/maps; ls / | wc -l"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0
    assert not [line for line in done.stdout.splitlines() if line.startswith("00000000-")]
    files = dict(box._kernel.images.files())
    libc = next(entry for name, entry in files.items() if name.endswith("libc.so.6"))
    assert libc.analysis is not None
    forms = [s.form for s in libc.analysis.sites]
    assert forms.count("zpoline") > len(forms) / 2 and "hop" in forms
