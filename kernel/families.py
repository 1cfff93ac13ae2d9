"""Importing this module registers every handler: one import per family of system calls.

Layer: the pretend kernel.  May touch: nothing.
"""

from . import (  # noqa: F401
    sys_attr,
    sys_copy,
    sys_dir,
    sys_exec,
    sys_fileattr,
    sys_handle,
    sys_ids,
    sys_inotify,
    sys_misc,
    sys_mount,
    sys_mountapi,
    sys_open,
    sys_pycopy,
    sys_pyfile,
    sys_pyvec,
    sys_sched,
    sys_shm,
    sys_signal,
    sys_socket,
    sys_sockio,
    sys_sockopt,
    sys_stat,
    sys_xattrat,
)
