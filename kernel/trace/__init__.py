"""The trace: strace's view of a sandbox.

Layer: the pretend kernel, a client of the hooks.  Imported when a trace is wanted, and not before.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..sandbox import Kernel
    from .options import Options
    from .summary import Summary
    from .tracer import Tracer


def start(kernel: Kernel, write: Callable[[str], object], options: Options | None = None) -> Tracer:
    """Give `write` the lines of a trace of `kernel`'s guests from now on, as `options` say."""
    from .options import Options
    from .tracer import Tracer

    tracer = Tracer(kernel, write, options or Options())
    kernel.hooks.trace(tracer)
    return tracer


def count(kernel: Kernel, options: Options | None = None) -> Summary:
    """Count calls from now on."""
    from .options import Options
    from .summary import Summary

    summary = Summary(kernel, options or Options())
    kernel.hooks.trace(summary)
    return summary
