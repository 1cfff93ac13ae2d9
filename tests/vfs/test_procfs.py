"""/proc of a world whose guests are real host processes, whose own /proc is the oracle of its shape."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator

import pytest
from procworld import World

from ring3.kernel.task import MmLayout
from ring3.vfs.openfile import OpenFile
from ring3.vfs.procfs import rewrite


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def host(path: str) -> bytes:
    with open(path, "rb") as f:
        return f.read()


def keys(text: bytes) -> list[bytes]:
    return [line.partition(b":")[0] for line in text.splitlines()]


def fails(number: int, function: object, *arguments: object) -> None:
    with pytest.raises(OSError) as caught:
        function(*arguments)  # type: ignore[operator]
    assert caught.value.errno == number


# -- who is shown ----------------------------------------------------------------------------------


def test_only_the_sandboxs_processes_exist(world: World) -> None:
    a, b = world.sleeper(), world.sleeper()
    shown = {name for name in world.names(a, "/proc") if name.isdigit()}
    assert shown == {str(a.process.pid), str(b.process.pid)}
    for outsider in (1, os.getpid()):
        fails(errno.ENOENT, world.lookup, a, f"/proc/{outsider}")
    fails(errno.ENOENT, world.lookup, a, f"/proc/0{a.process.pid}")


def test_init_shows_itself_but_nothing_of_its_own(world: World) -> None:
    a = world.sleeper()
    init, _ = world.python("")
    os.close(world.kernel.processes.pop(init.process.pid).pidfd)
    world.kernel.init_pid = init.process.pid
    assert "1" in world.names(a, "/proc") and world.names(a, "/proc/1/task") == ["1"]
    line = world.read(a, "/proc/1/stat")
    assert line.startswith(b"1 (python") and line.partition(b") ")[2][1:].startswith(b" 0 1 1 0 -1 ")
    status = dict(line.split(b":\t", 1) for line in world.read(a, "/proc/1/status").splitlines())
    assert (status[b"Pid"], status[b"PPid"], status[b"NSpid"], status[b"NSsid"]) == (b"1", b"0", b"1", b"1")
    unreadable = ("mem",) if os.geteuid() == 0 else ("mem", "timerslack_ns")  # of others: CAP_SYS_NICE
    for name in world.names(a, "/proc/1"):  # no host number of it is anywhere
        if name not in unreadable and stat.S_ISREG(world.lookup(a, f"/proc/1/{name}").mode):
            assert b"%d" % init.process.pid not in world.read(a, f"/proc/1/{name}").split(), name
    assert world.names(a, "/proc/1/fd") == [] and world.read(a, "/proc/1/maps") == b""
    fails(errno.EACCES, world.open, a, "/proc/1/mem", os.O_RDWR)
    fails(errno.EACCES, world.write, a, "/proc/1/oom_score_adj", b"5")


def test_self_is_who_looks(world: World) -> None:
    a, b = world.sleeper(), world.sleeper()
    assert world.readlink(a, "/proc/self") == str(a.process.pid)
    assert world.readlink(b, "/proc/thread-self") == f"{b.process.pid}/task/{b.tid}"
    assert world.read(b, "/proc/self/status").splitlines()[5] == b"Pid:\t%d" % b.process.pid
    fails(errno.ENOENT, world.lookup, world.vfs.local, "/proc/self", True)


def test_a_dead_process_is_gone_and_its_open_files_say_so(world: World) -> None:
    watcher = world.sleeper()
    task, child = world.python("")
    file = world.open(watcher, f"/proc/{child.pid}/stat")
    assert isinstance(file, OpenFile)
    world.end(child)
    assert str(child.pid) not in world.names(watcher, "/proc")
    fails(errno.ENOENT, world.lookup, watcher, f"/proc/{child.pid}")
    fails(errno.ESRCH, file.do_read, watcher, 100)


def test_a_zombie_keeps_its_status_and_loses_its_memory(world: World) -> None:
    watcher = world.sleeper()
    task, child = world.python("")
    task.process.cmdline = b"python\0"
    task.process.exe = world.vfs.root
    assert world.readlink(watcher, f"/proc/{child.pid}/exe") == "/"
    world.end(child, wait=False)
    assert world.read(watcher, f"/proc/{child.pid}/stat").split()[2] == b"Z"
    assert b"State:\tZ (zombie)" in world.read(watcher, f"/proc/{child.pid}/status")
    assert world.read(watcher, f"/proc/{child.pid}/cmdline") == b""
    assert world.read(watcher, f"/proc/{child.pid}/maps") == b""
    fails(errno.ENOENT, world.readlink, watcher, f"/proc/{child.pid}/exe")


def test_threads(world: World) -> None:
    task, child = world.python(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    tids = world.names(task, f"/proc/{child.pid}/task")
    assert len(tids) == 2 and str(child.pid) in tids
    other = next(tid for tid in tids if tid != str(child.pid))
    text = world.read(task, f"/proc/self/task/{other}/status")
    assert b"\nPid:\t%s\n" % other.encode() in text and b"\nTgid:\t%d\n" % child.pid in text
    assert int(world.read(task, f"/proc/self/task/{other}/stat").split()[0]) == int(other)
    assert world.lookup(task, "/proc/self/task", True).getattr().nlink == 4
    fails(errno.ENOENT, world.lookup, task, f"/proc/self/task/{os.getpid()}")


def test_permissions_between_users(world: World) -> None:
    mine, theirs, root = world.sleeper(1000), world.sleeper(1001), world.sleeper(0)
    private = ("environ", "auxv", "io", "mem", "mountstats")
    for name in private:
        fails(errno.EACCES, world.open, mine, f"/proc/{theirs.process.pid}/{name}")
        assert isinstance(world.open(root, f"/proc/{theirs.process.pid}/{name}"), OpenFile)
    fails(errno.EACCES, world.open, mine, f"/proc/{theirs.process.pid}/fd")
    for link in ("exe", "cwd", "root", "ns/mnt"):
        fails(errno.EACCES, world.readlink, mine, f"/proc/{theirs.process.pid}/{link}")
    fails(errno.EACCES, world.read, mine, f"/proc/{theirs.process.pid}/maps")
    assert world.read(mine, f"/proc/{theirs.process.pid}/status")
    assert world.lookup(root, f"/proc/{theirs.process.pid}").getattr().uid == 1001


# -- the shape is the host's -----------------------------------------------------------------------

#: What the host has and a sandbox has not: the kernel's own memory and internals, and what takes privilege.
ABSENT = {"clear_refs", "map_files", "numa_maps", "pagemap", "stack", "stat_children", "patch_state"}


def test_every_entry_of_a_process_has_the_hosts_type_and_mode(world: World) -> None:
    task = world.sleeper()
    pid = task.process.pid
    for ours in (f"/proc/{pid}", f"/proc/{pid}/task/{pid}", f"/proc/{pid}/ns", f"/proc/{pid}/attr"):
        names = world.names(task, ours)
        host_names = os.listdir(ours)
        for name in names:
            if name not in host_names:
                continue  # an older kernel, or one without this option
            mode = world.lookup(task, f"{ours}/{name}").getattr().mode
            assert oct(mode) == oct(os.lstat(f"{ours}/{name}").st_mode), f"{ours}/{name}"
        if not ours.endswith(("ns", "attr")):
            assert set(host_names) - set(names) <= ABSENT, set(host_names) - set(names)


def test_every_system_file_has_the_hosts_type_and_mode(world: World) -> None:
    def walk(path: str) -> Iterator[str]:
        for name, _, kind in world.lookup(task, path, True).readdir():
            full = f"{path}/{name.decode()}"
            if name.isdigit() or kind == stat.S_IFLNK:
                continue
            if kind == stat.S_IFDIR:
                yield from walk(full)
            yield full

    task = world.sleeper()
    seen = 0
    for path in walk("/proc"):
        try:
            expected = os.lstat(path).st_mode
        except OSError:
            continue
        mode = world.lookup(task, path).getattr().mode
        assert oct(mode) == oct(expected), path
        seen += 1
    assert seen > 100


def test_listed_inode_numbers_are_those_of_the_entries(world: World) -> None:
    task = world.sleeper()
    pid = task.process.pid
    below = ("", "/task", "/fd", "/fdinfo", "/net", "/attr", "/ns", f"/task/{pid}")
    for directory in ["/proc", *(f"/proc/{pid}{part}" for part in below)]:
        numbers = []
        for name, ino, kind in world.lookup(task, directory, True).readdir():
            inode = world.lookup(task, f"{directory}/{name.decode()}")
            assert (inode.ino, inode.kind) == (ino, kind), f"{directory}/{name.decode()}"
            numbers.append(ino)
        numbers.append(world.lookup(task, directory, True).ino)
        assert len(set(numbers)) == len(numbers), directory


def test_status_has_the_hosts_fields_and_the_guests_values(world: World) -> None:
    task = world.sleeper(1000)
    pid = task.process.pid
    ours, theirs = world.read(task, "/proc/self/status"), host(f"/proc/{pid}/status")
    assert keys(ours) == keys(theirs)
    values = dict(line.split(b":\t", 1) for line in ours.splitlines())
    assert values[b"Uid"] == b"1000\t1000\t1000\t1000" and values[b"CapEff"] == b"0" * 16
    assert (values[b"PPid"], values[b"Seccomp"], values[b"TracerPid"]) == (b"0", b"0", b"0")
    assert values[b"State"] == b"R (running)"  # who reads about itself runs
    watcher = world.sleeper(0)
    values = dict(line.split(b":\t", 1) for line in world.read(watcher, f"/proc/{pid}/status").splitlines())
    assert values[b"State"].startswith(b"S")
    values = dict(line.split(b":\t", 1) for line in world.read(watcher, "/proc/self/status").splitlines())
    assert int(values[b"CapEff"], 16) == int(values[b"CapBnd"], 16) != 0


def test_stat_has_the_hosts_fields(world: World) -> None:
    task, child = world.python("open('/proc/self/comm', 'w').write('a) b (')")
    ours, theirs = world.read(task, "/proc/self/stat"), host(f"/proc/{child.pid}/stat")
    assert len(rewrite.split_stat(ours)[2]) == len(rewrite.split_stat(theirs)[2])
    pid, comm, rest = rewrite.split_stat(ours)
    assert (int(pid), comm, rest[0], rest[1]) == (child.pid, b"a) b (", b"R", b"0")
    assert world.read(task, "/proc/self/comm") == b"a) b (\n"


def test_parents(world: World) -> None:
    parent = world.sleeper()
    child, popen = world.python("")
    child.process.initial, child.process.parent = False, parent.process
    assert world.read(child, "/proc/self/stat").split()[3] == b"%d" % parent.process.pid
    assert world.read(parent, f"/proc/self/task/{parent.tid}/children") == b"%d " % popen.pid


@pytest.mark.parametrize(
    "name",
    "statm schedstat io limits smaps smaps_rollup oom_score_adj personality maps fdinfo/0 uid_map".split(),
)
def test_lines_have_the_hosts_shape(world: World, name: str) -> None:
    task = world.sleeper()
    try:
        theirs = host(f"/proc/{task.process.pid}/{name}")
    except OSError as e:
        pytest.skip(f"the host has no /proc/PID/{name}: {e}")
    ours = world.read(task, f"/proc/self/{name}")
    shape = [
        (len(line.split()), line.partition(b":")[0] if b":" in line else b"") for line in ours.splitlines()
    ]
    if name in ("maps", "smaps"):
        # but for the host's vDSO, which guests do not see: its mappings come in one piece with their details
        first = [line.split()[-1] for line in theirs.splitlines() if b"-" in line.split()[0]]
        hidden = sum(name in (b"[vdso]", b"[vvar]", b"[vvar_vclock]") for name in first)
        each = len(theirs.splitlines()) // len(first)
        assert hidden and len(ours.splitlines()) == len(theirs.splitlines()) - hidden * each
        return
    assert shape == [
        (len(x.split()), x.partition(b":")[0] if b":" in x else b"") for x in theirs.splitlines()
    ]


@pytest.mark.parametrize("name", ["meminfo", "cpuinfo", "vmstat", "stat", "devices", "swaps", "version"])
def test_machine_files_have_the_hosts_fields(world: World, name: str) -> None:
    task = world.sleeper()
    first = [line.split()[:1] for line in world.read(task, f"/proc/{name}").splitlines()]
    assert first == [line.split()[:1] for line in host(f"/proc/{name}").splitlines()]


def test_loadavg_and_uptime(world: World) -> None:
    task = world.sleeper()
    fields = world.read(task, "/proc/loadavg").split()
    assert len(fields) == 5 and [float(x) for x in fields[:3]]
    assert int(fields[4]) == task.process.pid and int(fields[3].split(b"/")[1]) == 1
    up, idle = world.read(task, "/proc/uptime").split()
    assert abs(float(up) - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5


@pytest.mark.parametrize(
    "name", "arp dev icmp igmp netlink packet protocols ptype raw raw6 route tcp tcp6 udp udp6 unix".split()
)
def test_network_tables_have_the_hosts_headings_and_none_of_its_rows(world: World, name: str) -> None:
    task = world.sleeper()
    ours = world.read(task, f"/proc/net/{name}")
    try:
        theirs = host(f"/proc/net/{name}")
    except OSError as e:
        pytest.skip(f"the host has no /proc/net/{name}: {e}")
    assert ours.splitlines()[0].split() == theirs.splitlines()[0].split()
    assert len(ours.splitlines()) <= {"dev": 4, "route": 2, "igmp": 5}.get(name, 1)  # lo and eth0, each in all-hosts


# -- memory, arguments, descriptors ----------------------------------------------------------------


def test_cmdline_follows_what_the_program_writes_over_it(world: World) -> None:
    task, child = world.python(
        "import re\n"
        "stat = open('/proc/self/stat').read().rsplit(')', 1)[1].split()\n"
        "start, end = int(stat[45]), int(stat[46])\n"
        "with open('/proc/self/mem', 'r+b', buffering=0) as f:\n"
        "    f.seek(start); f.write(b'renamed'.ljust(end - start, b'!'))"
    )
    task.process.cmdline = b"as started\0"
    assert world.read(task, "/proc/self/cmdline") == b"as started\0"
    fields = host(f"/proc/{child.pid}/stat").rsplit(b")", 1)[1].split()
    mm = MmLayout.__new__(MmLayout)
    for name in MmLayout.__slots__:
        setattr(mm, name, 0)
    mm.arg_start, mm.arg_end, mm.env_start, mm.env_end = (int(x) for x in fields[45:49])
    task.process.mm = mm
    ours = world.read(task, "/proc/self/cmdline")
    assert ours == host(f"/proc/{child.pid}/cmdline") and ours.startswith(b"renamed!!")
    assert world.read(task, "/proc/self/environ") == host(f"/proc/{child.pid}/environ")


def test_mem_reads_memory_but_never_the_cores(world: World) -> None:
    task, child = world.python("")
    start = int(host(f"/proc/{child.pid}/maps").split(b"-")[0], 16)
    file = world.open(task, "/proc/self/mem")
    assert isinstance(file, OpenFile)
    assert file.do_read(task, 4, start) == b"\x7fELF"
    fails(errno.EIO, file.do_read, task, 8, 0x210000000000)
    fails(errno.EIO, file.do_read, task, 8, 0)
    assert file.seek(1 << 62, os.SEEK_SET) == 1 << 62


def test_maps_names_a_memory_file_by_its_guest_path(world: World) -> None:
    fd = world.open(world.vfs.local, "/lib.so", os.O_RDWR | os.O_CREAT, 0o644)
    assert isinstance(fd, int)
    os.write(fd, b"x" * 8192)
    task, child = world.python(
        f"import mmap\nm = mmap.mmap({fd}, 8192, mmap.MAP_SHARED, mmap.PROT_READ)", pass_fds=(fd,)
    )
    st = world.lookup(task, "/lib.so").getattr()
    line = next(x for x in world.read(task, "/proc/self/maps").splitlines() if x.endswith(b" /lib.so"))
    assert line.split()[3:5] == [b"%02x:%02x" % (os.major(st.dev), os.minor(st.dev)), b"%d" % st.ino]
    assert world.readlink(task, f"/proc/self/fd/{fd}") == "/lib.so"
    assert world.lookup(task, f"/proc/self/fd/{fd}", True).ino == st.ino
    os.close(fd)


def test_descriptor_links(world: World) -> None:
    placeholder = world.open(world.vfs.local, "/proc", os.O_RDONLY | os.O_DIRECTORY)
    assert isinstance(placeholder, OpenFile)
    directory = world._placeholders[-1]
    task, child = world.python(
        "import os, socket, sys\nos.dup2(os.pipe()[0], 940)\ns = socket.socket()\nos.dup2(s.fileno(), 941)\n"
        "os.dup2(os.eventfd(0), 942)\nos.dup2(os.memfd_create('mine'), 943)",
        pass_fds=(directory,),
    )
    links = {fd: world.readlink(task, f"/proc/self/fd/{fd}") for fd in (940, 941, 942, 943, directory)}
    assert links == {
        **{fd: os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in (940, 941, 942, 943)},
        directory: "/proc",
    }
    assert links[940].startswith("pipe:[") and links[943] == "/memfd:mine (deleted)"
    info = dict(
        line.split(b":\t", 1) for line in world.read(task, f"/proc/self/fdinfo/{directory}").splitlines()
    )
    assert int(info[b"flags"], 8) & os.O_DIRECTORY and int(info[b"ino"]) == 1
    assert stat.S_IMODE(world.lookup(task, "/proc/self/fd/940").mode) == 0o500
    assert stat.S_IMODE(world.lookup(task, "/proc/self/fd/941").mode) == 0o700
    assert world.lookup(task, f"/proc/self/fd/{directory}", True).ino == 1
    for missing in ("999", "-1", "007", "x"):
        fails(errno.ENOENT, world.lookup, task, f"/proc/self/fd/{missing}")


def test_a_link_to_a_native_object_opens_it_anew(world: World) -> None:
    task, child = world.python(
        "import os\nr, w = os.pipe()\nos.dup2(r, 40)\nos.dup2(w, 41)\nos.dup2(os.eventfd(0), 42)\n"
        "os.dup2(os.open('/dev/null', os.O_RDONLY), 44)"
    )
    reader, writer = world.open(task, "/proc/self/fd/40"), world.open(task, "/proc/self/fd/41", os.O_WRONLY)
    assert isinstance(reader, int) and isinstance(writer, int)
    os.write(writer, b"through")
    assert os.read(reader, 10) == b"through"
    os.close(reader)
    os.close(writer)
    eventfd = os.eventfd(0)  # the anonymous inode is root's: for others, open(2) of it says EACCES
    with pytest.raises(OSError) as caught:
        os.open(f"/proc/self/fd/{eventfd}", os.O_RDONLY)
    os.close(eventfd)
    fails(caught.value.errno or 0, world.open, task, "/proc/self/fd/42")
    null = world.open(task, "/proc/self/fd/44", os.O_RDWR)
    assert isinstance(null, int)
    os.close(null)
    assert world.lookup(task, "/proc/self/fd/40", True).kind == stat.S_IFIFO


def test_the_cores_descriptors_are_hidden(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task, child = world.python("import os\nos.dup2(0, 50)\nos.dup2(0, 51)")
    assert {"50", "51"} <= set(world.names(task, "/proc/self/fd"))
    monkeypatch.setattr(type(task.process), "core_fds", (50, 51))
    assert not {"50", "51"} & set(world.names(task, "/proc/self/fd"))
    assert not {"50", "51"} & set(world.names(task, "/proc/self/fdinfo"))
    fails(errno.ENOENT, world.lookup, task, "/proc/self/fd/50")
    assert b"FDSize:\t64\n" in world.read(task, "/proc/self/status")


def test_a_removed_directory_is_shown_as_deleted(world: World) -> None:
    task = world.sleeper()
    root = world.vfs.root.inode
    root.mkdir(b"gone", 0o755, 0, 0)
    task.fs.cwd = world.vfs.lookup(task, None, b"/gone")
    assert world.readlink(task, "/proc/self/cwd") == "/gone"
    task.fs.cwd.dentry.drop()
    assert world.readlink(task, "/proc/self/cwd") == "/gone (deleted)"
    assert world.vfs.lookup(task, None, b"/proc/self/cwd") == task.fs.cwd


# -- mounts ----------------------------------------------------------------------------------------


def test_mount_tables(world: World) -> None:
    task = world.sleeper()
    root = world.vfs.root.inode
    root.mkdir(b"a b", 0o755, 0, 0)
    from ring3.vfs.memfs import MemoryFS

    world.vfs.mount(MemoryFS("my disk"), b"/a b")
    lines = [line.split(b" ") for line in world.read(task, "/proc/mounts").splitlines()]
    assert all(len(line) == 6 and line[4:] == [b"0", b"0"] for line in lines)
    assert [line[1] for line in lines] == [
        b"/",
        b"/dev",
        b"/dev/pts",
        b"/dev/shm",
        b"/proc",
        b"/sys",
        rb"/a\040b",
    ]
    assert lines[-1][0] == rb"my\040disk"
    assert {line[1]: line[2] for line in lines}[b"/proc"] == b"proc"
    info = [line.split(b" ") for line in world.read(task, "/proc/self/mountinfo").splitlines()]
    assert [line[4] for line in info] == [line[1] for line in lines] and all(line[6] == b"-" for line in info)
    ids = {line[0] for line in info}
    assert all(line[1] in ids for line in info[1:]) and info[0][1] not in ids
    st = world.lookup(task, "/proc").getattr()
    assert info[4][2] == b"%d:%d" % (os.major(st.dev), os.minor(st.dev))
    # After chroot(2) only what lies beneath is there.
    task.fs.root = world.vfs.lookup(task, None, b"/dev")
    text = world.read(world.sleeper(), f"/proc/{task.process.pid}/mounts")
    assert [line.split()[1] for line in text.splitlines()] == [b"/", b"/pts", b"/shm"]


# -- what can be written ---------------------------------------------------------------------------


def test_comm_is_for_the_process_itself_to_change(world: World) -> None:
    mine, other = world.sleeper(), world.sleeper()
    assert world.write(mine, "/proc/self/comm", b"a rather long name") == 18
    assert world.read(other, f"/proc/{mine.process.pid}/comm") == b"a rather long n\n"
    assert rewrite.split_stat(world.read(mine, "/proc/self/stat"))[1] == b"a rather long n"
    fails(errno.EINVAL, world.write, other, f"/proc/{mine.process.pid}/comm", b"x")


def test_knobs_of_the_process_reach_the_host(world: World) -> None:
    task = world.sleeper()
    world.write(task, "/proc/self/oom_score_adj", b"500")
    assert (
        host(f"/proc/{task.process.pid}/oom_score_adj")
        == b"500\n"
        == world.read(task, "/proc/self/oom_score_adj")
    )
    fails(errno.EINVAL, world.write, task, "/proc/self/oom_score_adj", b"5000")


def test_loginuid(world: World) -> None:
    task = world.sleeper()
    assert world.read(task, "/proc/self/loginuid") == b"4294967295"
    world.write(task, "/proc/self/loginuid", b"1000")
    assert world.read(task, "/proc/self/loginuid") == b"1000"
    fails(errno.EINVAL, world.write, task, "/proc/self/loginuid", b"nobody")


def test_the_hosts_sysctls_cannot_be_changed(world: World) -> None:
    root, user = world.sleeper(0), world.sleeper(1000)
    fails(errno.EROFS, world.open, root, "/proc/sys/vm/overcommit_memory", os.O_WRONLY)
    fails(errno.EACCES, world.open, user, "/proc/sys/vm/overcommit_memory", os.O_WRONLY)
    fails(errno.EACCES, world.open, user, "/proc/meminfo", os.O_WRONLY)
    with pytest.raises(PermissionError):
        world.lookup(root, "/proc/meminfo").setattr(mode=0o666)


def test_hostname(world: World) -> None:
    task = world.sleeper()
    assert world.read(task, "/proc/sys/kernel/hostname") == b"box\n"
    world.write(task, "/proc/sys/kernel/hostname", b"other\n")
    assert world.kernel.hostname == "other" and world.uts_written == 1
    assert world.read(task, "/proc/sys/kernel/hostname") == b"other\n"


def test_values_that_are_the_sandboxs_own(world: World) -> None:
    task = world.sleeper()
    import uuid

    first = world.read(task, "/proc/sys/kernel/random/uuid").decode().strip()
    assert uuid.UUID(first).version == 4 and first.encode() not in world.read(
        task, "/proc/sys/kernel/random/uuid"
    )
    assert world.read(task, "/proc/cmdline") == b"\n"
    assert world.read(task, "/proc/sys/kernel/core_pattern") == b"core\n"
    assert world.read(task, "/proc/sys/kernel/osrelease").strip().decode() == os.uname().release
    assert world.read(task, "/proc/self/cgroup") == b"0::/\n"
    assert b"nodev\tproc\n" in world.read(task, "/proc/filesystems")


def test_a_file_is_made_when_it_is_read_from_the_start(world: World) -> None:
    task = world.sleeper()
    file = world.open(task, "/proc/sys/kernel/hostname")
    assert isinstance(file, OpenFile)
    assert file.do_read(task, 2) == b"bo"
    world.kernel.hostname = "new"
    assert file.do_read(task, 10) == b"x\n"  # the rest of what was made
    file.seek(0, os.SEEK_SET)
    assert file.do_read(task, 10) == b"new\n"
