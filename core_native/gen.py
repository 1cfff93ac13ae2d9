"""Writes the C headers that the core shares with the supervisor.

Layer: build time only.  May touch: kernel/layout.py and kernel/table.py, loaded by path (the package is not
installed yet when the core is built), and the directory it is given.
"""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType

_KERNEL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kernel")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_ring3_gen_{name}", os.path.join(_KERNEL, f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_headers(directory: str) -> None:
    """Write `gen_layout.h`, `gen_layout_asm.h`, `gen_table.h` and `gen_lockdown.h` into `directory`."""
    for name in ("layout", "table"):
        with open(os.path.join(directory, f"gen_{name}.h"), "w", encoding="ascii") as out:
            out.write(_load(name).c_header())
    numbers = {name: call.nr for name, call in _load("table").BY_NAME.items()}
    with open(os.path.join(directory, "gen_lockdown.h"), "w", encoding="ascii") as out:
        out.write(_load("lockdown").c_header(numbers))
    with open(os.path.join(directory, "gen_layout_asm.h"), "w", encoding="ascii") as out:
        out.write(_load("layout").asm_header())
