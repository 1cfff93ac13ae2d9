"""/proc/sys: what programs read to size themselves (sysctl(8), proc_sys(5)).

Layer: vfs/procfs, entries. May touch: the host's /proc/sys, for reading; the sandbox's host name.

KNOBS is the declaration: the host's value is shown where it has one, for the same kernel serves the guest;
the value given here otherwise (none: the file is absent then). They are not for a guest to change: opening
one for writing is EROFS, as in a container whose /proc/sys is read-only.
"""

from __future__ import annotations

import errno
import os

from ..inode import err
from . import host
from .table import Scope, system_file

#: directory: names, each with a default after "=" and, after ":", the permission bits that go with it
#: (a comma in it is a tab)
KNOBS = {
    "fs": """
        aio-max-nr aio-nr dentry-state dir-notify-enable file-max=9223372036854775807 file-nr
        inode-nr inode-state lease-break-time leases-enable mount-max nr_open=1048576 overflowgid
        overflowuid pipe-max-size=1048576 pipe-user-pages-hard pipe-user-pages-soft protected_fifos
        protected_hardlinks protected_regular protected_symlinks suid_dumpable
    """,
    "fs/epoll": "max_user_watches",
    "fs/inotify": "max_queued_events max_user_instances max_user_watches",
    "fs/fanotify": "max_queued_events max_user_groups max_user_marks",
    "fs/mqueue": "msg_default msg_max msgsize_default msgsize_max queues_max",
    "kernel": """
        acct auto_msgmni cap_last_cap:444=40 core_uses_pid ctrl-alt-del dmesg_restrict io_uring_group
        kptr_restrict max_lock_depth modules_disabled msg_next_id msgmax msgmnb msgmni ngroups_max:444=65536
        numa_balancing osrelease ostype:444=Linux overflowgid=65534 overflowuid=65534 panic
        panic_on_oops panic_on_warn perf_event_max_sample_rate perf_event_mlock_kb perf_event_paranoid
        pid_max=4194304 print-fatal-signals printk printk_delay printk_ratelimit printk_ratelimit_burst
        randomize_va_space=2 sched_autogroup_enabled sched_cfs_bandwidth_slice_us sched_child_runs_first
        sched_deadline_period_max_us sched_deadline_period_min_us sched_rr_timeslice_ms sched_rt_period_us
        sched_rt_runtime_us sem sem_next_id shm_next_id shm_rmid_forced shmall shmmax shmmni
        sysctl_writes_strict tainted threads-max=65536 timer_migration unprivileged_bpf_disabled
        unprivileged_userns_apparmor_policy unprivileged_userns_clone version watchdog watchdog_thresh
    """,
    "kernel/keys": "maxbytes maxkeys root_maxbytes root_maxkeys",
    "kernel/pty": "max nr reserve",
    "kernel/random": """
        boot_id entropy_avail:444=256 poolsize:444=256 urandom_min_reseed_secs write_wakeup_threshold
    """,
    "kernel/seccomp": "actions_avail actions_logged",
    "kernel/yama": "ptrace_scope",
    "user": """
        max_cgroup_namespaces max_fanotify_groups max_fanotify_marks max_inotify_instances
        max_inotify_watches max_ipc_namespaces max_mnt_namespaces max_net_namespaces max_pid_namespaces
        max_time_namespaces max_user_namespaces max_uts_namespaces
    """,
    "vm": """
        admin_reserve_kbytes compaction_proactiveness dirty_background_bytes dirty_background_ratio
        dirty_bytes dirty_expire_centisecs dirty_ratio dirty_writeback_centisecs dirtytime_expire_seconds
        extfrag_threshold hugetlb_shm_group laptop_mode legacy_va_layout lowmem_reserve_ratio
        max_map_count=65530 memory_failure_early_kill memory_failure_recovery min_free_kbytes
        mmap_min_addr=65536 mmap_rnd_bits mmap_rnd_compat_bits nr_hugepages nr_overcommit_hugepages
        numa_zonelist_order oom_dump_tasks oom_kill_allocating_task overcommit_kbytes overcommit_memory=0
        overcommit_ratio=50 page-cluster panic_on_oom swappiness stat_interval unprivileged_userfaultfd
        user_reserve_kbytes vfs_cache_pressure watermark_boost_factor watermark_scale_factor
        zone_reclaim_mode
    """,
    "net/core": """
        busy_poll busy_read default_qdisc dev_weight message_burst message_cost netdev_budget
        netdev_max_backlog optmem_max=131072 rmem_default=212992 rmem_max=212992 somaxconn=4096
        wmem_default=212992 wmem_max=212992
    """,
    "net/ipv4": """
        icmp_echo_ignore_all ip_default_ttl=64 ip_forward=0 ip_local_port_range=32768,60999
        ip_local_reserved_ports ip_nonlocal_bind ip_unprivileged_port_start=1024
        tcp_allowed_congestion_control tcp_available_congestion_control tcp_base_mss
        tcp_congestion_control tcp_ecn tcp_fastopen tcp_fin_timeout=60 tcp_keepalive_intvl=75
        tcp_keepalive_probes=9 tcp_keepalive_time=7200 tcp_max_orphans tcp_max_syn_backlog
        tcp_max_tw_buckets tcp_mem tcp_moderate_rcvbuf tcp_mtu_probing tcp_no_metrics_save
        tcp_orphan_retries tcp_retries1 tcp_retries2 tcp_rfc1337 tcp_rmem=4096,131072,6291456 tcp_sack
        tcp_slow_start_after_idle tcp_syn_retries tcp_synack_retries tcp_syncookies tcp_timestamps
        tcp_tw_reuse tcp_window_scaling tcp_wmem=4096,16384,4194304 udp_mem udp_rmem_min udp_wmem_min
    """,
    "net/ipv4/conf/all": "accept_redirects arp_ignore forwarding rp_filter",
    "net/ipv4/conf/default": "accept_redirects arp_ignore forwarding rp_filter",
    "net/ipv4/conf/lo": "accept_redirects arp_ignore forwarding rp_filter",
    "net/ipv6": "bindv6only",
    "net/ipv6/conf/all": "disable_ipv6 forwarding",
    "net/ipv6/conf/default": "disable_ipv6 forwarding",
    "net/ipv6/conf/lo": "disable_ipv6 forwarding",
    "net/unix": "max_dgram_qlen",
}


def _knob(path: str, mode: int, default: str) -> None:
    """Declare one value of KNOBS, if there is one to show."""
    source = "/proc/sys/" + path
    try:
        mode = os.stat(source).st_mode & 0o777
    except OSError:
        if not default:
            return
    text = default.replace(",", "\t").encode() + b"\n"

    @system_file("sys/" + path, mode=mode)
    def read(scope: Scope) -> bytes:
        return host.read_or(source, text)


def _declare() -> None:
    for directory, names in KNOBS.items():
        for word in names.split():
            head, _, default = word.partition("=")
            name, _, mode = head.partition(":")
            _knob(f"{directory}/{name}", int(mode or "644", 8), default)


_declare()


@system_file("sys/net/ipv4/ping_group_range", mode=0o644)
def _ping_group_range(scope: Scope) -> bytes:
    """Who may have ICMP's datagram sockets: everybody, or nobody."""
    kernel = scope.fs.sandbox
    return b"0\t2147483647\n" if kernel is not None and kernel.net.raw else b"1\t0\n"


def _one_line(data: bytes, longest: int) -> bytes:
    """The value that a write sets: up to the first newline or NUL (proc_dostring)."""
    return data.partition(b"\0")[0].partition(b"\n")[0][:longest]


def _write_hostname(scope: Scope, data: bytes) -> int:
    """sethostname(2) by another door: it needs CAP_SYS_ADMIN as well as permission to open the file."""
    reader = scope.reader
    if reader is not None and not reader.creds.capable(21):
        raise err(errno.EPERM)
    kernel = scope.fs.sandbox
    if kernel is None:
        raise err(errno.EROFS)
    kernel.hostname = os.fsdecode(_one_line(data, 64))
    kernel.write_uts()
    return len(data)


@system_file("sys/kernel/hostname", mode=0o644, write=_write_hostname)
def hostname(scope: Scope) -> bytes:
    """The sandbox's host name, as uname(2) gives it."""
    kernel = scope.fs.sandbox
    return os.fsencode(kernel.hostname if kernel is not None else os.uname().nodename) + b"\n"


@system_file("sys/kernel/domainname", mode=0o644)
def domainname(scope: Scope) -> bytes:
    """The NIS domain name; "(none)" is what Linux starts with."""
    kernel = scope.fs.sandbox
    return os.fsencode(kernel.domainname if kernel is not None else "(none)") + b"\n"


@system_file("sys/kernel/random/uuid")
def uuid(scope: Scope) -> bytes:
    """A new random (version 4) UUID at each reading."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])).encode() + b"\n"


@system_file("sys/kernel/core_pattern", mode=0o644)
def core_pattern(scope: Scope) -> bytes:
    """Core files are not written into the sandbox; the host's pattern would name a program of the host."""
    return b"core\n"


@system_file("sys/kernel/core_pipe_limit", mode=0o644)
def core_pipe_limit(scope: Scope) -> bytes:
    """No core dump is piped."""
    return b"0\n"


@system_file("sys/kernel/io_uring_disabled", mode=0o644)
def io_uring_disabled(scope: Scope) -> bytes:
    """2: nobody may make a ring, which is what io_uring_setup(2) answers here."""
    return b"2\n"


@system_file("sys/kernel/ns_last_pid", mode=0o666)
def ns_last_pid(scope: Scope) -> bytes:
    """The newest pid of the sandbox."""
    return b"%d\n" % max(scope.fs.processes, default=0)
