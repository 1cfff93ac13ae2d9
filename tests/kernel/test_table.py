"""The declarative table against the host's own headers, and against the handlers."""

from __future__ import annotations

import os
import re

import pytest

from ring3.kernel import families  # noqa: F401
from ring3.kernel.handlers import HANDLERS
from ring3.kernel.table import BY_NAME, KERNEL, REFUSE, SUP, TABLE

HEADERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h")


def _host_numbers() -> dict[str, int]:
    path = next((h for h in HEADERS if os.path.exists(h)), None)
    if path is None:
        pytest.skip("the kernel's headers (linux-libc-dev) are not installed")
    with open(path, encoding="ascii") as text:
        return {m[1]: int(m[2]) for m in re.finditer(r"#define __NR_(\w+)\s+(\d+)", text.read())}


def test_numbers_are_the_kernels() -> None:
    host = _host_numbers()
    assert len(host) > 330
    assert {name: BY_NAME[name].nr for name in host if name in BY_NAME} == {
        n: v for n, v in host.items() if n in BY_NAME
    }
    newest = max(TABLE)  # headers of a newer Linux may have more
    assert sorted(name for name in set(host) - set(BY_NAME) if host[name] <= newest) == []


def test_every_number_up_to_334_is_declared() -> None:
    assert [n for n in [*range(335), *range(424, 470)] if n not in TABLE] == []


def test_every_supervisor_call_has_a_handler() -> None:
    assert [s.name for s in TABLE.values() if s.lane == SUP and s.name not in HANDLERS] == []


def test_every_refused_call_has_none() -> None:
    assert [s.name for s in TABLE.values() if s.lane == REFUSE and s.name in HANDLERS] == []


def test_kernel_calls_on_descriptors_have_a_handler_for_placeholders() -> None:
    missing = [
        s.name
        for s in TABLE.values()
        if s.lane == KERNEL and s.args and s.args[0][0] == "fd" and s.name not in HANDLERS
    ]
    # timerfd calls on anything but a timerfd are EINVAL: the dispatcher's default must not say ENOSYS for them
    assert missing == []


def test_the_documentation_is_fresh() -> None:
    import importlib.util

    path = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "make_syscalls.py")
    spec = importlib.util.spec_from_file_location("make_syscalls", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with open(module.PAGE, encoding="utf-8") as page:
        assert page.read() == module.page(), "run `python docs/make_syscalls.py`"
