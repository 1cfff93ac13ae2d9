"""name_to_handle_at(2), open_by_handle_at(2).

Layer: the pretend kernel, a family of system calls. May touch: the vfs.
A handle is what tmpfs gives (shmem_encode_fh): type 1, a generation and the inode number. Handles are known as long as
the world exists and the file has the name by which it was asked for, or was renamed from that.
"""

from __future__ import annotations

import errno
import os
import struct

from ..vfs.inode import err
from ..vfs.mount import Path
from ..vfs.perm import CAP_DAC_READ_SEARCH
from .handlers import Out, syscall
from .paths import AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, place, record
from .sys_open import check_flags, install

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from .handlers import Result
    from .task import FdRef, Task

_HEAD = struct.Struct("<Ii")  # struct file_handle: size in bytes, type
_HANDLE = struct.Struct("<IQ")
_TYPE, _MOST = 1, 128
_FID, _MNT_ID_UNIQUE = 0x200, 1


@syscall("name_to_handle_at")
def sys_name_to_handle_at(
    t: Task, dirfd: FdRef | None, path: bytes, handle: tuple[int, bytes | None], mount_id: int, flags: int
) -> Result:
    """name_to_handle_at(2)"""
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | _FID | _MNT_ID_UNIQUE):
        raise err(errno.EINVAL)
    follow = 0 if flags & AT_SYMLINK_FOLLOW else AT_SYMLINK_NOFOLLOW
    where = place(t, dirfd, path, flags & AT_EMPTY_PATH | follow)
    address, head = handle
    if head is None:
        raise err(errno.EFAULT)
    room = _HEAD.unpack(head)[0]
    if room > _MOST:
        raise err(errno.EINVAL)
    inode, mount = where.inode, where.mount
    if inode.sb.fstype in ("proc", "sysfs", "devpts") and not flags & _FID:
        raise err(errno.EOPNOTSUPP)
    number = struct.pack("<Q", mount.unique_id) if flags & _MNT_ID_UNIQUE else struct.pack("<i", mount.id)
    if room < _HANDLE.size:
        # EOVERFLOW, with the size and the mount told all the same
        return Out(-errno.EOVERFLOW, [(address, _HEAD.pack(_HANDLE.size, 0)), (mount_id, number)])
    t.sandbox.vfs.handles[inode.sb.dev, inode.ino] = where.dentry
    data = _HEAD.pack(_HANDLE.size, _TYPE) + _HANDLE.pack(inode.sb.dev & 0xFFFFFFFF, inode.ino)
    return Out(0, [(address, data), (mount_id, number)])


@syscall("open_by_handle_at")
def sys_open_by_handle_at(t: Task, mountfd: FdRef | None, handle: tuple[int, bytes | None], flags: int) -> Result:
    """open_by_handle_at(2): the file, on the mount that `mountfd` is in."""
    if not t.creds.capable(CAP_DAC_READ_SEARCH):
        raise err(errno.EPERM)
    address, head = handle
    if head is None:
        raise err(errno.EFAULT)
    size, kind = _HEAD.unpack(head)
    if not 0 < size <= _MOST:
        raise err(errno.EINVAL)
    if mountfd is None:
        at = t.fs.cwd
    else:
        known = record(t, mountfd)
        if known is None:
            raise err(errno.EINVAL)
        at = known.path
    data = t.peek(address + _HEAD.size, size)
    if kind != _TYPE or size != _HANDLE.size:
        raise err(errno.ESTALE)
    _generation, ino = _HANDLE.unpack(data)
    vfs = t.sandbox.vfs
    dentry = vfs.handles.get((at.mount.sb.dev, ino))
    if dentry is None or dentry.inode.sb is not at.mount.sb or dentry.deleted:
        vfs.handles.pop((at.mount.sb.dev, ino), None)
        raise err(errno.ESTALE)
    flags = check_flags(flags) & ~(os.O_CREAT | os.O_EXCL)
    path = Path(at.mount, dentry)
    if flags & os.O_DIRECTORY and not path.inode.is_dir:
        raise err(errno.ENOTDIR)
    return install(t, path, vfs.open_path(t, path, flags), flags)
