"""The exceptions that ring3 raises at its users.

Part of: ring3 (the front door). May touch: nothing; imported by every part.

A guest's failures are its own business (an errno, a signal, an exit status); these are for the person who
runs it. The two that mirror ``subprocess`` are also subclasses of its exceptions: see ``ring3.api``.
"""

from __future__ import annotations


class Ring3Error(Exception):
    """Base of ring3's own exceptions. The text is one sentence: what happened, to what, and what to do."""


class CoreBuildError(Ring3Error):
    """The native core is neither installed nor can it be compiled."""


class UnsupportedHost(Ring3Error):
    """The machine lacks something that ring3 cannot do without (``ring3 doctor`` names it)."""


class SandboxError(Ring3Error):
    """A sandbox was asked for something impossible: a mount of a missing directory, a call after its end."""


class SandboxClosed(SandboxError):
    """The sandbox was closed, or its supervisor ended, before the call could be carried out."""


class TimeLimit(Ring3Error):
    """The program was ended, since its time was over (``ring3 run --timeout``)."""


class UsageError(Ring3Error):
    """Arguments that make no sense, on the command line or in a call."""


class ExecError(Ring3Error, OSError):
    """The program could not be started. ``errno`` is what execve(2) answered, ``filename`` the program."""


class ProgramNotFound(ExecError, FileNotFoundError):
    """No such program in the guest's world."""


class ProgramNotExecutable(ExecError, PermissionError):
    """The program is there, and the guest may not execute it."""
