"""Process 1: the sandbox's init as guests see it in /proc, so that who asks which init runs gets an answer.

Layer: vfs/procfs. May touch: nothing; its numbers are those of the host process that init is.

Init runs outside of the guest's world and holds the sandbox together: nobody looks into its memory or descriptors, and
what is written about it is refused.
"""

from __future__ import annotations

import os

from ...kernel.task import Credentials, FsStruct, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...kernel.sandbox import Kernel

PID = 1


class InitProcess(Process):
    """The process table has no such entry: it cannot be waited for, signalled or traced."""

    def __init__(self, kernel: Kernel) -> None:
        root = kernel.vfs.root
        super().__init__(kernel, FsStruct(root, root, 0o022), Credentials(), 0)
        self.pid = PID
        self.initial = True
        self.comm = b"ring3-init"
        self.cmdline = b"ring3-init\0"

    @property
    def core_fd_min(self) -> int:
        """None of its descriptors is a guest's."""
        return 0

    def exists(self) -> bool:
        return os.path.exists(f"{self.sandbox.pid_ns.proc}/{self.sandbox.init_pid}")
