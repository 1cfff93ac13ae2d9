"""/sys: the processors and the memory are the host's, the rest of the host is not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest
from procworld import World

from ring3.vfs.openfile import OpenFile


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.mark.parametrize("name", ["online", "possible", "present"])
def test_processors(world: World, name: str) -> None:
    path = f"/sys/devices/system/cpu/{name}"
    with open(path, "rb") as f:
        assert world.read(world.vfs.local, path) == f.read()
    assert oct(world.lookup(world.vfs.local, path).getattr().mode) == oct(os.lstat(path).st_mode)


def test_a_directory_lists_what_the_host_has_and_links_stay_inside(world: World) -> None:
    who = world.vfs.local
    cpu0 = set(world.names(who, "/sys/devices/system/cpu/cpu0"))
    assert "topology" in cpu0 and cpu0 <= set(os.listdir("/sys/devices/system/cpu/cpu0"))
    for name in cpu0:
        world.lookup(who, f"/sys/devices/system/cpu/cpu0/{name}", follow=True)  # no link leads nowhere


def test_the_rest_is_empty(world: World) -> None:
    assert world.names(world.vfs.local, "/sys/block") == [] == world.names(world.vfs.local, "/sys/fs/cgroup")
    with pytest.raises(FileNotFoundError):
        world.lookup(world.vfs.local, "/sys/kernel/security")


def test_nothing_can_be_changed(world: World) -> None:
    who = world.sleeper(0)
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    if not os.path.exists(path):
        pytest.skip("the host's kernel has no transparent huge pages")
    assert isinstance(world.open(who, path), OpenFile)
    with pytest.raises(OSError) as caught:
        world.open(who, path, os.O_WRONLY)
    assert caught.value.errno == errno.EROFS
    with pytest.raises(PermissionError):
        world.lookup(who, path).setattr(mode=0o777)
