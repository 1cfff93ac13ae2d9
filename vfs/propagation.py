"""Mount propagation: peer groups, slaves, and how mounts travel to them (mount_namespaces(7), fs/pnode.c).

Layer: vfs, beside mount.py; mountops.py calls it. May touch: the mount table.

A shared mount belongs to a group of peers; a slave has a group as its master; a mount may be both. What is mounted on
a peer, or taken away there, is so on all of them and on the group's slaves, in whatever namespace they are.
"""

from __future__ import annotations

import errno

from .inode import err

TYPE_CHECKING = False  # the typing module costs start-up time
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .mount import Mount, MountTable

# mount(2)
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20


class PeerGroup:
    """`id` is the number in mountinfo; `mounts` are the peers, `slaves` the mounts whose master it is."""

    __slots__ = ("id", "mounts", "slaves")

    def __init__(self, ident: int) -> None:
        self.id = ident
        self.mounts: list[Mount] = []
        self.slaves: list[Mount] = []


def make_shared(table: MountTable, mount: Mount) -> None:
    """set_mnt_shared(): a group of its own, unless it has one."""
    if mount.group is None:
        table.last_group += 1
        _join(mount, PeerGroup(table.last_group))


def _join(mount: Mount, group: PeerGroup) -> None:
    mount.group = group
    group.mounts.append(mount)


def _follow(mount: Mount, master: PeerGroup | None) -> None:
    """Make the mount a slave of `master`, or of none."""
    if mount.master is not None:
        mount.master.slaves.remove(mount)
    mount.master = master
    if master is not None:
        master.slaves.append(mount)


def change(table: MountTable, mount: Mount, kind: int) -> None:
    """change_mnt_propagation(): MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE."""
    if kind == MS_SHARED:
        mount.unbindable = False
        make_shared(table, mount)
        return
    _leave(mount)
    if kind != MS_SLAVE:
        _follow(mount, None)
    mount.unbindable = kind == MS_UNBINDABLE


def _leave(mount: Mount) -> None:
    """do_make_slave(): out of the group, whose slave it becomes; the last one hands the group's slaves to its own
    master."""
    group, mount.group = mount.group, None
    if group is None:
        return
    group.mounts.remove(mount)
    if group.mounts:
        _follow(mount, group)
        return
    for slave in list(group.slaves):
        _follow(slave, mount.master)


def forget(mount: Mount) -> None:
    """The mount is gone."""
    _leave(mount)
    _follow(mount, None)


def inherit(new: Mount, old: Mount) -> None:
    """clone_mnt(): the copy of a shared mount is its peer, that of a slave a slave of the same master."""
    if old.group is not None:
        _join(new, old.group)
    if old.master is not None:
        _follow(new, old.master)
    new.unbindable = old.unbindable


def receivers(mount: Mount) -> Iterator[Mount]:
    """propagation_next(): the other peers, their slaves, the peers of those, and so on."""
    if mount.group is None:
        return
    todo, seen = [mount.group], {mount.group}
    while todo:
        group = todo.pop()
        for peer in group.mounts:
            if peer is not mount:
                yield peer
        for slave in group.slaves:
            if slave.group is None:
                yield slave
            elif slave.group not in seen:
                seen.add(slave.group)
                todo.append(slave.group)


def attached(table: MountTable, tree: Mount) -> None:
    """attach_recursive_mnt(): `tree` has been put on a place; where that is shared, copies go to all who receive from
    there. ENOSPC is not known here."""
    parent, dentry = tree.parent, tree.mountpoint
    if parent is None or dentry is None or parent.group is None:
        return
    for one in tree.tree():
        make_shared(table, one)
    _spread(table, parent.group, tree, parent)


def _spread(table: MountTable, group: PeerGroup, tree: Mount, done: Mount | None) -> None:
    """Copies of `tree`, whose mounts are peers of what is mounted in `group`, to all of the group but `done`, and to
    its slaves."""
    for peer in list(group.mounts):
        if peer is not done:
            _put(table, tree, peer, slave=False)
    groups: list[PeerGroup] = []
    for slave in list(group.slaves):
        if slave.group is None:
            _put(table, tree, slave, slave=True)
        elif slave.group not in groups:
            groups.append(slave.group)
            first = _put(table, tree, slave, slave=True)
            if first is not None:
                for one in first.tree():
                    make_shared(table, one)
                _spread(table, slave.group, first, slave)


def _put(table: MountTable, tree: Mount, on: Mount, slave: bool) -> Mount | None:
    """propagate_one(): a copy of the tree on the same place of another mount, where that shows it."""
    from .mount import Path

    dentry = tree.mountpoint
    assert dentry is not None
    if not dentry.is_beneath(on.root):
        return None
    made = table.copy_tree(tree, None, everything=False)
    if slave:
        for old, new in made.items():
            if new.group is not None:
                new.group.mounts.remove(new)
                new.group = None
            _follow(new, old.group)
    for new in made.values():
        new.locked = False
    table.attach(made[tree], table.cross(Path(on, dentry)))
    return made[tree]


def gone_too(mount: Mount) -> list[Mount]:
    """propagate_umount(): what is to be unmounted elsewhere with this mount; not what has other mounts on it."""
    parent, dentry = mount.parent, mount.mountpoint
    if parent is None or dentry is None:
        return []
    found = []
    for receiver in receivers(parent):
        child = receiver.children.get(dentry)
        if child is not None and not child.children and not child.locked:
            found.append(child)
    return found


def check_movable(tree: Mount, parent: Mount) -> None:
    """do_move_mount(): EINVAL for an unbindable mount that would be copied to peers."""
    if parent.group is not None and any(one.unbindable for one in tree.tree()):
        raise err(errno.EINVAL)


def fields(mount: Mount) -> bytes:
    """The optional fields of /proc/PID/mountinfo."""
    text = b""
    if mount.group is not None:
        text += b" shared:%d" % mount.group.id
    if mount.master is not None:
        text += b" master:%d" % mount.master.id
    return text + b" unbindable" if mount.unbindable else text
