"""Fixtures for all tests: compiled guest programs, fresh work directories, the `long` marker, time limits.

Layer: tests. Touches one temporary directory per test process, removed at the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from guestbuild import Builder
from harness import become_subreaper

TIME_LIMIT = 120  # seconds for one test, unless it says otherwise by @pytest.mark.timeout(N)


def pytest_configure(config: pytest.Config) -> None:
    become_subreaper()
    # nohup(1) has the first ignored, a script's "&" the others, and programs would inherit that.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    has_timeout = config.pluginmanager.hasplugin("timeout")
    long_wanted = "long" in (config.getoption("markexpr") or "")
    for item in items:
        # The signal method fails one test; the thread method would end the whole run.
        mark = item.get_closest_marker("timeout")
        if has_timeout and mark is None:
            item.add_marker(pytest.mark.timeout(TIME_LIMIT, method="signal"))
        elif has_timeout and mark is not None and "method" not in mark.kwargs:
            item.add_marker(
                pytest.mark.timeout(*mark.args, **{**mark.kwargs, "method": "signal"}), append=False
            )
        if item.get_closest_marker("long") and not long_wanted:
            item.add_marker(pytest.mark.skip(reason="takes more than half a minute: run it with -m long"))


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A directory that any user may enter, gone at the end of the session."""
    path = Path(tempfile.mkdtemp(prefix="ring3-tests-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def guests(session_dir: Path) -> Builder:
    """Compiles the programs of tests/guests on demand, each variant once."""
    return Builder(session_dir / "bin")


@pytest.fixture
def workdir(session_dir: Path) -> Iterator[Path]:
    """A fresh, empty work directory which any user may write."""
    path = Path(tempfile.mkdtemp(prefix="w-", dir=session_dir))
    path.chmod(0o777)
    yield path
    for base, names, _ in os.walk(path):
        for name in names:
            full = os.path.join(base, name)
            if not os.path.islink(full):
                os.chmod(full, 0o700)
    shutil.rmtree(path, ignore_errors=True)
