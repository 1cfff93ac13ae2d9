"""/proc/PID/mounts, mountinfo, mountstats and /proc/filesystems: the mount table of the sandbox.

Layer: vfs/procfs, entries. May touch: the mount table of the Vfs, for reading.
Formats: proc_pid_mountinfo(5), fstab(5); show_vfsmnt and show_mountinfo in fs/proc_namespace.c.
"""

from __future__ import annotations

import os

from ..propagation import fields
from .rewrite import mangle
from .table import PROCESS, Scope, process_file, system_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..mount import Mount

_DEVICE = b" \t\n#"


def _visible(scope: Scope) -> Iterator[tuple[Mount, bytes]]:
    """The mounts below the process's root, with the place of each."""
    root = scope.files.root
    ns = getattr(scope.files, "mnt_ns", None) or scope.fs.vfs.mounts.first
    for mount in ns.mounts:
        place = scope.fs.mountpoint(mount, root)
        if place is not None:
            yield mount, place


def _source(mount: Mount) -> bytes:
    return mangle(os.fsencode(mount.source), _DEVICE)


def _super_options(mount: Mount) -> bytes:
    options = mount.sb.options
    return b"," + mangle(os.fsencode(options)) if options else b""


def _fstype(mount: Mount) -> bytes:
    return mangle(os.fsencode(mount.sb.fstype), _DEVICE)


def _root(scope: Scope, mount: Mount) -> bytes:
    """What of its filesystem a mount shows; "//deleted" once the name is gone (seq_dentry())."""
    name = mangle(scope.fs.within(mount.root))
    return name + b"//deleted" if mount.root.deleted else name


@process_file("mounts")
def mounts(scope: Scope) -> bytes:
    """source, place, type, options, 0 0"""
    out = []
    for mount, place in _visible(scope):
        words = mount.option_string().split(",")
        words[0] = "ro" if mount.read_only else "rw"
        options = ",".join(words).encode() + _super_options(mount)
        out.append(b"%b %b %b %b 0 0\n" % (_source(mount), mangle(place), _fstype(mount), options))
    return b"".join(out)


@process_file("mountinfo")
def mountinfo(scope: Scope) -> bytes:
    """id, parent, device, root, place, mount options, -, type, source, superblock options"""
    out = []
    for mount, place in _visible(scope):
        dev = mount.sb.dev
        parent = mount.parent.id if mount.parent is not None else 1
        out.append(
            b"%d %d %d:%d %b %b %b%b - %b %b %b\n"
            % (
                mount.id, parent, os.major(dev), os.minor(dev), _root(scope, mount),
                mangle(place), mount.option_string().encode(), fields(mount), _fstype(mount), _source(mount),
                (b"ro" if mount.sb.read_only else b"rw") + _super_options(mount),
            )
        )  # fmt: skip
    return b"".join(out)


@process_file("mountstats", mode=0o400, where=PROCESS)
def mountstats(scope: Scope) -> bytes:
    """device SOURCE mounted on PLACE with fstype TYPE"""
    return b"".join(
        b"device %b mounted on %b with fstype %b\n" % (_source(mount), mangle(place), _fstype(mount))
        for mount, place in _visible(scope)
    )


@system_file("filesystems")
def filesystems(scope: Scope) -> bytes:
    """The filesystem types of this world: those that mount(2) would know and those that are mounted."""
    known = ["sysfs", "tmpfs", "proc", "devtmpfs", "devpts", *scope.fs.vfs.fstypes]
    known += [m.sb.fstype for m in scope.fs.vfs.mounts.mounts if m.sb.fstype not in known]
    return b"".join(b"nodev\t%b\n" % os.fsencode(name) for name in dict.fromkeys(known))
