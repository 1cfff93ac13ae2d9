"""Hooks: Python code of the user's that sees a system call before and after it is made.

Layer: the pretend kernel, beside dispatch.  Imported when the first hook, fault or trace is installed, and not before.
"""

from .call import Arguments, Call, Memory
from .hook import Hook
from .inject import Injection, When
from .names import numbers_of
from .registry import Hooks

__all__ = ["Arguments", "Call", "Hook", "Hooks", "Injection", "Memory", "When", "numbers_of"]
