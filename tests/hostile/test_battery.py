"""The hostile battery: each attack fails, the supervisor lives and its other guests are served, the host is as it was.

Layer: tests. Touches processes of its own, compiled attackers in a temporary directory.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from battery import HERE, Case, Keeper, cases, check, compile_all
from harness import changed, host_listing, my_children, sweep

pytestmark = pytest.mark.xdist_group("hostile")
SKIP = 77


class Keepers:
    """One keeper after the other: one that died or hangs is replaced."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.current: Keeper | None = None

    def get(self) -> Keeper:
        if self.current is None:
            self.current = Keeper(self._directory)
        return self.current

    def drop(self) -> int:
        keeper, self.current = self.current, None
        return keeper.close() if keeper is not None else 0


@pytest.fixture(scope="module")
def keepers(session_dir: Path) -> Iterator[Keepers]:
    directory = session_dir / "hostile"
    directory.mkdir()
    (directory / "precious").write_text("what the host has\n")
    compile_all(directory)
    before, known = host_listing(directory), my_children()
    found = Keepers(directory)
    try:
        yield found
        assert found.drop() == 0, "the supervisor did not end well"
        assert not changed(before, host_listing(directory))
    finally:
        found.drop()
        left = sweep(known)
    assert not left, left


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.program}-{case.name}")
def test_attack(case: Case, keepers: Keepers) -> None:
    if case.name.startswith("drafts"):
        keepers.drop()  # nothing is lent in a sandbox in which somebody has watched files
    keeper = keepers.get()
    try:
        answer = keeper.run(case)
    except AssertionError:
        keepers.drop()
        raise
    if answer["status"] == SKIP and "SKIP" in answer["out"]:
        pytest.skip(answer["out"].strip())
    try:
        check(answer)
    except AssertionError:
        keepers.drop()  # the next one is not to suffer for it
        raise


def test_a_stopped_init(keepers: Keepers) -> None:
    """A sandbox whose init a guest stops all the time can still be closed."""
    code = (
        "import ring3, sys\n"
        "with ring3.Sandbox() as box:\n"
        "    print(box.popen([sys.argv[1], 'stop_init'], stdout=ring3.PIPE).stdout.readline().decode())\n"
        "print('closed')\n"
    )
    program = keepers.get().directory / "neighbours"
    done = subprocess.run([sys.executable, "-c", code, program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["stopped", "closed"], done


def test_the_document_lists_the_battery() -> None:
    """Each has a name of its own, and docs/hostile.md has them all."""
    found = cases()
    assert len({case.name for case in found}) == len(found) >= 120
    docs = HERE.parents[1] / "docs"
    spec = importlib.util.spec_from_file_location("make_hostile", docs / "make_hostile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (docs / "hostile.md").read_text() == module.page(), "run `python docs/make_hostile.py`"
