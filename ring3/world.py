"""What a sandbox's world is made of: root, mounts, users, environment.

Part of: ring3 (the front door), the half of sandbox.py that speaks to the vfs. May touch: the tree.
"""

from __future__ import annotations

import os

from .errors import SandboxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .kernel.limits import Limits
    from .kernel.task import Credentials
    from .sandbox import Sandbox
    from .vfs.image import Image
    from .vfs.inode import SuperBlock
    from .vfs.standard import Standard
    from .vfs.vfs import Vfs

    MountSpec = str | os.PathLike[str] | tuple[str | os.PathLike[str], str] | SuperBlock
    User = int | str | tuple[int, int]

_RDONLY, _RELATIME = 1, 4096  # mount(2) flags
MODES = ("cow", "ro", "rw")


def limits(pids: int | None, memory: int | str | None, nofile: int | None, cpu_time: float | None) -> Limits:
    """What the guests may use.  Raises UsageError for what makes no sense."""
    from .kernel.limits import Limits
    from .vfs.memfs import parse_size

    try:
        size = None if memory is None else parse_size(memory)
    except ValueError as e:
        raise UsageError(f"memory: {e}") from None
    for name, value in (("pids", pids), ("nofile", nofile), ("cpu_time", cpu_time)):
        if value is not None and value <= 0:
            raise UsageError(f"{name}={value}: nothing could run")
    return Limits(pids, size, nofile, cpu_time)


def make_vfs(root: Any, tmpfs_size: int | str | None) -> tuple[Vfs, Standard]:
    """A Vfs with ``root`` (see Sandbox) at / and the standard filesystems on it; files in memory take ``tmpfs_size`` at
    most.  Raises UsageError for a text that is no size, SandboxError where the host cannot enforce it."""
    from .vfs.standard import mount_standard
    from .vfs.vfs import Vfs

    vfs = Vfs(_root_filesystem(root))
    if tmpfs_size is not None:
        from .vfs.memfs import parse_size
        from .vfs.shm import Shm

        try:
            vfs.pool.shm = Shm(max(4096, parse_size(tmpfs_size) + 4095 & ~4095))
        except ValueError as e:
            raise UsageError(f"tmpfs_size: {e}") from None
        except OSError as e:
            raise SandboxError(f"tmpfs_size: {e.strerror}") from None
    try:
        return vfs, mount_standard(vfs)
    except OSError as e:
        vfs.close()
        where = f" {os.fspath(root)}" if isinstance(root, (str, os.PathLike)) else ""
        raise SandboxError(f"the root{where}: {(e.strerror or str(e)).lower()}") from None


def _root_filesystem(root: Any) -> SuperBlock:
    if root is None:
        from .vfs.memfs import MemoryFS

        return MemoryFS(mode=0o755)
    if isinstance(root, (str, os.PathLike)):
        if os.path.isfile(root):
            return _archive_root(os.fspath(root))
        return host_filesystem(os.fspath(root), "cow", "the root")
    filesystem: SuperBlock = root
    return filesystem


def _archive_root(path: str) -> SuperBlock:
    """A tar or zip archive of a tree, with changes in memory."""
    from .vfs.archive import BadArchive, open_archive
    from .vfs.overlayfs import OverlayFS

    try:
        return OverlayFS([open_archive(path)], redirect_dir=True)
    except BadArchive as e:
        raise SandboxError(f"the root: {e}") from None
    except OSError as e:
        raise SandboxError(f"the root: cannot open {path}: {e.strerror}") from None


def open_image(image: str | os.PathLike[str] | Image) -> Image:
    """An image, or the one at a host path, with ``#NAME`` if it holds several. Raises SandboxError."""
    if not isinstance(image, (str, os.PathLike)):
        return image
    from .vfs.image import Image
    from .vfs.streams import BadArchive

    path = os.fspath(image)
    if not path:
        raise UsageError("the image has an empty name")
    name = None
    if not os.path.exists(path) and "#" in path:
        path, _, name = path.rpartition("#")
    from .vfs.layercache import user_cache

    try:
        return Image(path, name, cache=user_cache())
    except BadArchive as e:
        raise SandboxError(str(e)) from None
    except OSError as e:
        raise SandboxError(f"the image {path}: {(e.strerror or str(e)).lower()}") from None


def image_environment(image: Image) -> dict[str, str]:
    """What docker gives a container: a PATH, and what the image says."""
    base = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return base | {k: os.environ[k] for k in ("TERM",) if k in os.environ} | image.env


def prepare_image(vfs: Vfs, image: Image, hostname: str) -> None:
    """What docker adds to the tree: the working directory, /etc/hosts, /etc/hostname. As far as that is possible."""
    from .vfs.tree import TreePath

    root = TreePath(vfs)
    hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n"
    try:
        (root / image.cwd).mkdir(0o755, parents=True, exist_ok=True)
        (root / "etc").mkdir(0o755, parents=True, exist_ok=True)
        for path, text in (("etc/hosts", hosts), ("etc/hostname", f"{hostname}\n")):
            file = root / path
            if not file.exists() or file.is_file() and file.stat().st_size == 0:
                file.write_text(text)
    except OSError:
        return  # an image that has a file there: the programs will tell


def home_of(creds: Credentials, read_file: Callable[[str], str]) -> str:
    """The home directory of a user of the world, "/" if passwd(5) does not know it."""
    for line in read_file("/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == str(creds.uid):
            return fields[5] or "/"
    return "/"


def host_filesystem(path: str, mode: str, what: str) -> SuperBlock:
    """A host directory (or file) as a filesystem. SandboxError if there is none or the mode is unknown."""
    if mode not in MODES:
        raise SandboxError(f"{what}: the mode is cow, ro or rw, not {mode!r}")
    try:
        os.stat(path)
    except OSError as e:
        raise SandboxError(f"{what}: {path}: {(e.strerror or str(e)).lower()} on the host") from None
    try:
        if mode == "cow":
            from .vfs.cowfs import CowFS

            return CowFS(path)
        from .vfs.hostfs import HostFS

        return HostFS(path, read_only=mode == "ro")
    except OSError as e:
        raise SandboxError(f"{what}: cannot open {path}: {e.strerror}") from None


def mount(vfs: Vfs, path: str, what: Any, mode: str | None) -> None:
    """See Sandbox.mount; the caller holds the lock."""
    if not path.startswith("/"):
        raise SandboxError(f"the mount point {path!r} is not an absolute path")
    if isinstance(what, tuple):
        what, mode = what
    if isinstance(what, (str, os.PathLike)):
        filesystem = host_filesystem(os.fspath(what), mode or "cow", f"mount on {path}")
    elif mode in (None, "ro"):
        filesystem = what
    elif mode == "cow":
        from .vfs.overlayfs import OverlayFS

        filesystem = OverlayFS([what], redirect_dir=True)
    else:
        raise SandboxError(f"mount on {path}: the mode of a filesystem object is cow or ro, not {mode!r}")
    name = os.fsencode(path)
    try:
        make_directories(vfs, name if filesystem.root.is_dir else os.path.dirname(name))
        if not filesystem.root.is_dir:
            _make_file(vfs, name)
        vfs.mount(filesystem, name, _RDONLY | _RELATIME if mode == "ro" else _RELATIME)
    except OSError as e:
        raise SandboxError(f"cannot mount on {path}: {e.strerror}") from None


def make_directories(vfs: Vfs, path: bytes) -> None:
    """mkdir -p in the guest's tree. Raises OSError."""
    from .vfs.dirops import mkdir

    done = b""
    for part in path.split(b"/"):
        done += b"/" + part
        if part:
            try:
                mkdir(vfs, vfs.local, None, done, 0o755)
            except FileExistsError:
                continue


def _make_file(vfs: Vfs, path: bytes) -> None:
    try:
        vfs.lookup(vfs.local, None, path)
    except FileNotFoundError:
        from .vfs.tree import TreePath

        TreePath(vfs, path).touch(0o644)


def stat_mode(box: Sandbox, path: str | bytes) -> int | None:
    """st_mode of a guest path, symbolic links followed, or None if there is nothing."""
    name = os.path.join(b"/", os.fsencode(path))
    with box.lock:
        try:
            mode: int = box.vfs.lookup(box.vfs.local, None, name).inode.mode
            return mode
        except OSError:
            return None


def write_file(box: Sandbox, path: str, content: bytes) -> None:
    """See Sandbox.write_file."""
    from .vfs.attrops import chown

    name = os.path.join(b"/", os.fsencode(path))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with box.lock:
        vfs = box.vfs
        try:
            new = stat_mode(box, name) is None
            make_directories(vfs, os.path.dirname(name))
            place, opened = vfs.open(vfs.local, None, name, flags, 0o666)
            from .vfs.openfile import OpenFile

            if isinstance(opened, OpenFile):
                from .vfs.pyio import OpenFileIO

                f: Any = OpenFileIO(opened, box.lock, path)
            elif isinstance(opened, int):
                f = open(opened, "wb")
            else:
                raise SandboxError(f"{path} is not a regular file in the world")
            with f:
                f.write(content)
            if new:
                chown(vfs, vfs.local, place, box.creds.uid, box.creds.gid)
        except OSError as e:
            raise SandboxError(f"cannot write {path} into the world: {e.strerror}") from e


def environment(root: Any, image: Image | None = None) -> dict[str, str]:
    """The default environment: the caller's if the guest sees the host's root, else the image's or a bare one."""
    if image is not None:
        return image_environment(image)
    if root == "/":
        return dict(os.environ)
    kept = {k: os.environ[k] for k in ("TERM", "TZ", "LANG") if k in os.environ}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", **kept}


def credentials(user: User | None, read_file: Callable[[str], str]) -> Credentials:
    """Who a guest is: the caller, or what ``user`` says. ``read_file`` reads the guest's /etc/passwd.

    Raises UsageError for a malformed number or an unknown name.
    """
    from .kernel.task import Credentials

    if user is None:
        return Credentials(os.getuid(), os.getgid(), tuple(os.getgroups()))
    if isinstance(user, tuple):
        return Credentials(_checked(user[0], user), _checked(user[1], user))
    name, colon, group = str(user).partition(":")
    entry = None
    if not name.isdecimal() or not colon:
        entry = _entry(read_file("/etc/passwd"), name)
    if name.isdecimal():
        uid = _checked(int(name), user)
    elif entry is not None:
        uid = int(entry[2])
    else:
        raise UsageError(f"user {name!r} is no number and not in the world's /etc/passwd")
    if not colon:
        gid = int(entry[3]) if entry is not None else 0
    elif group.isdecimal():
        gid = _checked(int(group), user)
    else:
        found = _entry(read_file("/etc/group"), group)
        if found is None:
            raise UsageError(f"group {group!r} is no number and not in the world's /etc/group")
        gid = int(found[2])
    return Credentials(uid, gid)


def _checked(number: int, user: object) -> int:
    if not 0 <= number < 0xFFFFFFFF:
        raise UsageError(f"user {user!r}: ids lie between 0 and 4294967294")
    return number


def _entry(database: str, key: str) -> list[str] | None:
    """The line of passwd(5) or group(5) with this name or number."""
    for line in database.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and fields[2].isdecimal() and key in (fields[0], fields[2]):
            if len(fields) < 4 or not fields[3].isdecimal():
                fields[3:] = ["0"]
            return fields
    return None
