"""The path walk: from bytes to a Path, as path_resolution(7) and fs/namei.c do it.

Layer: vfs, above dentries and mounts, below vfs.py. May touch: inodes (lookup, readlink, follow), the mount
table.
"""

from __future__ import annotations

import errno

from .inode import err
from .mount import MNT_NOSYMFOLLOW, Path
from .perm import MAY_EXEC, allowed
from .remembered import ident
from .stat import S_IFDIR, S_IFLNK, S_IFMT, S_ISVTX, S_IWOTH

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from typing import Any, Protocol

    from .dentry import Dentry
    from .inode import Inode
    from .mount import Mount, MountTable, Namespace
    from .perm import Creds
    from .remembered import Where

    class Fs(Protocol):
        """What the vfs needs of kernel.task.FsStruct."""

        root: Path
        cwd: Path
        umask: int

        def enter(self, mnt_ns: Namespace) -> None: ...

    class Caller(Protocol):
        """Who walks: kernel.task.Task, or LocalCaller for the user's own Python."""

        @property
        def creds(self) -> Creds: ...
        @property
        def fs(self) -> Fs: ...


NAME_MAX = 255
MAX_LINKS = 40  # MAXSYMLINKS

# openat2(2) resolve flags; the walk understands them itself.
RESOLVE_NO_XDEV = 1
RESOLVE_NO_MAGICLINKS = 2
RESOLVE_NO_SYMLINKS = 4
RESOLVE_BENEATH = 8
RESOLVE_IN_ROOT = 16
RESOLVE_CACHED = 32
_SCOPED = RESOLVE_BENEATH | RESOLVE_IN_ROOT

# What the last component of a parent walk is (enum in include/linux/namei.h).
LAST_NORM, LAST_ROOT, LAST_DOT, LAST_DOTDOT, LAST_JUMPED = range(5)


class Walk:
    """The state of one walk (Linux: struct nameidata).

    parent() stops before the last component: `path` is its directory, `last` its name, `last_type` says
    whether it is an ordinary name, and `trailing` whether slashes follow it. lookup() goes all the way.
    """

    __slots__ = (
        "at",
        "caller",
        "creds",
        "depth",
        "last",
        "last_type",
        "links",
        "mounts",
        "path",
        "resolve",
        "root",
        "root_known",
        "start",
        "steady",
        "trailing",
    )

    def __init__(self, mounts: MountTable, caller: Caller, start: Path | None, resolve: int = 0) -> None:
        """`start`: where a relative path begins (None: the working directory); `resolve`: RESOLVE_* flags."""
        fs = caller.fs
        mounts.watch.settle()
        self.steady = not resolve  # may the result be remembered?
        self.mounts = mounts
        self.caller = caller
        self.creds = caller.creds
        self.path = self.start = start if start is not None else fs.cwd
        self.root = self.start if resolve & _SCOPED else fs.root
        self.root_known = bool(resolve & _SCOPED)  # was the root looked up (nd->root)? RESOLVE_NO_XDEV depends on it
        self.resolve = resolve
        self.links = 0
        self.at: Where | None = None  # the name that it came to last, or that is missing
        self.depth = 0  # directories that it went down by name, and may come up again
        self.last = b""
        self.last_type = LAST_ROOT
        self.trailing = False

    # -- the two walks ---------------------------------------------------------------------------------------

    def lookup(self, name: bytes, follow: bool = True) -> Path:
        """Resolve `name` completely; a final symlink only if `follow` or if slashes follow it."""
        self.parent(name)
        while True:
            inode = self.last_inode()
            if self.last_type == LAST_NORM:
                self.at = (*ident(self.path.dentry.inode), self.last)
            if inode is None:
                raise err(errno.ENOENT, name)
            if inode.mode & S_IFMT == S_IFLNK and self.last_type == LAST_NORM and (follow or self.trailing):
                self.follow(inode)
                continue
            path = self.step(inode)
            if self.trailing and path.inode.mode & S_IFMT != S_IFDIR:
                raise err(errno.ENOTDIR, name)
            return path

    def parent(self, name: bytes) -> None:
        """Resolve all but the last component of `name`."""
        if not name:
            raise err(errno.ENOENT)
        if name[0] == 47:
            self._jump_to_root(first=True)
        else:
            self.path.dentry.inode.refresh()
        self._walk(name)

    def last_inode(self) -> Inode | None:
        """The inode of the last component, without following it or crossing onto a mount; None if missing."""
        path = self.path
        if self.last_type != LAST_NORM:
            if self.last_type == LAST_DOTDOT:
                self._dotdot()
                self.last_type = LAST_DOT
            return self.path.dentry.inode
        name = self.last
        dentry = path.dentry
        known = dentry.cached(name)
        if known is not None and known.mounted:
            return known.inode  # pinned by the mount, whatever is beneath
        if len(name) > NAME_MAX:
            raise err(errno.ENAMETOOLONG)
        return dentry.inode.lookup(name)

    def step(self, inode: Inode) -> Path:
        """Go onto the last component, which is `inode`, and over any mount on it; returns the place."""
        if self.last_type == LAST_NORM:
            path = self.path
            child = path.dentry.child(self.last, inode)
            path = Path(path.mount, child)
            if child.mounted:
                path = self._cross(path)
            self.path = path
            self.last_type = LAST_JUMPED
        return self.path

    def follow(self, inode: Inode) -> None:
        """The last component is this symlink: walk its target, up to the target's last component."""
        if self.resolve & RESOLVE_NO_SYMLINKS:
            raise err(errno.ELOOP)
        if self.mounts.protected_symlinks:
            self._may_follow(inode)
        target = self._target(inode)
        if target is None:
            self.last_type = LAST_JUMPED
            return
        trailing = self.trailing
        self._walk(target)
        self.trailing |= trailing

    # -- the parts -------------------------------------------------------------------------------------------

    def _walk(self, name: bytes) -> None:
        """link_path_walk(): the components of `name` from self.path on."""
        self.trailing = name.endswith(b"/")
        todo = [c for c in name.split(b"/") if c]
        todo.reverse()
        if not todo:
            self.last_type = LAST_ROOT
            return
        creds = self.creds
        while True:
            comp = todo.pop()
            dentry = self.path.dentry
            inode = dentry.inode
            if inode.mode & S_IFMT != S_IFDIR:
                raise err(errno.ENOTDIR)
            if not allowed(creds, inode, MAY_EXEC):
                raise err(errno.EACCES)
            if not inode.steady and comp != b"..":
                self.steady = False
            if not todo:
                self.last = comp
                self.last_type = LAST_DOT if comp == b"." else LAST_DOTDOT if comp == b".." else LAST_NORM
                return
            if comp == b".":
                continue
            if comp == b"..":
                self._dotdot()
                continue
            known = dentry.cached(comp)
            if known is not None and known.mounted:
                self.path = self._cross(Path(self.path.mount, known))
                self.depth += 1
                continue
            if len(comp) > NAME_MAX:
                raise err(errno.ENAMETOOLONG)
            child = inode.lookup(comp)
            if child is None:
                self.at = (*ident(inode), comp)
                raise err(errno.ENOENT)
            if child.mode & S_IFMT == S_IFLNK:
                if self.resolve & RESOLVE_NO_SYMLINKS:
                    raise err(errno.ELOOP)
                target = self._target(child)
                if target is not None:
                    todo += [c for c in reversed(target.split(b"/")) if c]
                continue
            self.path = Path(self.path.mount, dentry.child(comp, child))
            self.depth += 1

    def _target(self, link: Inode) -> bytes | None:
        """Follow a symlink: its text (self.path is where it starts), or None after a jump by a magic link."""
        self.links += 1
        if self.links > MAX_LINKS or self.path.mount.flags & MNT_NOSYMFOLLOW:
            raise err(errno.ELOOP)
        task = caller_task(self.caller)
        jump = link.follow(task)
        if jump is not None:
            if self.resolve & RESOLVE_NO_MAGICLINKS:
                raise err(errno.ELOOP)
            if self.resolve & _SCOPED or (
                self.resolve & RESOLVE_NO_XDEV and jump.mount is not self.path.mount
            ):
                raise err(errno.EXDEV)
            self.path = jump
            self.steady = False
            return None
        if self.path.mount.keeps_atime:
            link.accessed()
        target = link.readlink(task)
        if not target:
            raise err(errno.ENOENT)
        if target[0] == 47:
            self._jump_to_root()
        return target

    def _may_follow(self, link: Inode) -> None:
        """may_follow_link(): as the last component in a sticky directory that all may write, only one's own links and
        those of its owner."""
        above = self.path.dentry.inode
        if (
            above.mode & (S_ISVTX | S_IWOTH) == S_ISVTX | S_IWOTH
            and link.uid not in (self.creds.fsuid, above.uid)
            and link.sb is above.sb
        ):
            raise err(errno.EACCES)

    def _jump_to_root(self, first: bool = False) -> None:
        """nd_jump_root(): a symlink to an absolute path crosses a mount also if the root is not known yet."""
        if self.resolve & RESOLVE_BENEATH:
            raise err(errno.EXDEV)
        if self.resolve & RESOLVE_NO_XDEV and not first:
            if not self.root_known or self.root.mount is not self.path.mount:
                raise err(errno.EXDEV)
        self.root_known = True
        self.path = self.root
        self.depth = 0
        self.root.dentry.inode.refresh()

    def _cross(self, path: Path) -> Path:
        top = self.mounts.cross(path)
        if self.resolve & RESOLVE_NO_XDEV and top.mount is not path.mount:
            raise err(errno.EXDEV)
        return top

    def _dotdot(self) -> None:
        """follow_dotdot(): up, out of mounts, but never above the root."""
        # Who moves a directory that the walk came down by moves a name in the one above, of which we hear.
        self.depth -= 1
        if self.depth < 0:
            self.steady = False
        self.root_known = True
        mount = self.path.mount
        dentry: Dentry = self.path.dentry
        root = self.root
        while True:
            if mount is root.mount and dentry is root.dentry:
                if self.resolve & RESOLVE_BENEATH:
                    raise err(errno.EXDEV)
                break
            if dentry is not mount.root and dentry.parent is not None:
                dentry = dentry.parent
                break
            if mount.parent is None or mount.mountpoint is None:
                break  # the root of the world
            if self.resolve & RESOLVE_NO_XDEV:
                raise err(errno.EXDEV)
            dentry = mount.mountpoint
            mount = mount.parent
        self.path = Path(mount, dentry)
        if dentry.mounted:
            self.path = self._cross(self.path)
        self.path.dentry.inode.refresh()


def caller_task(caller: Any) -> Any:
    """The Task behind a Caller, None when the user's own Python calls."""
    return getattr(caller, "task", caller)


def path_bytes(path: Path, root: Path | None = None) -> tuple[bytes, bool]:
    """The path of a place as seen from `root` (d_path()), and whether it is reachable from there.

    A removed name is shown as it was; the caller adds " (deleted)" where Linux does.
    """
    names: list[bytes] = []
    mount: Mount = path.mount
    dentry: Dentry = path.dentry
    while root is None or mount is not root.mount or dentry is not root.dentry:
        if dentry is mount.root or dentry.parent is None:
            if mount.parent is None or mount.mountpoint is None:
                return b"/" + b"/".join(reversed(names)), root is None
            dentry = mount.mountpoint
            mount = mount.parent
            continue
        names.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(reversed(names)), True
