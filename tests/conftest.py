"""Fixtures for all tests: compiled guest programs, fresh work directories, the `long` marker, time limits.

Layer: tests. Touches one temporary directory per test process, removed at the end.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from guestbuild import Builder  # noqa: E402
from harness import become_subreaper  # noqa: E402

TIME_LIMIT = 120  # seconds for one test, unless it says otherwise by @pytest.mark.timeout(N)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes more than half a minute; runs only with --long")
    become_subreaper()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    has_timeout = config.pluginmanager.hasplugin("timeout")
    for item in items:
        if has_timeout and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIME_LIMIT))
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="long: run with --long"))


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
