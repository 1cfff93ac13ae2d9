"""The declarative table: every x86-64 system call of Linux up to 6.18, one line each.

Layer: shared by the core (through the header that `core_native/gen.py` writes), the supervisor and the
docs.  May touch: nothing (pure data; importable on its own, because the build loads it by path).

A line says which lane answers the call and how its arguments are marshalled:

    S("openat", 257, SUP, "dirfd path int int", "file desc")

Lanes: CORE (a function of the core, named by `fn=`, else after the call), KERNEL (the host kernel, unless an `fd`
argument is a placeholder or a `pid` argument is not the caller's own: then the supervisor is asked), SUP (the
supervisor), REFUSE (the supervisor logs one line and the guest gets `err`).

Argument kinds: int (32 bits, signed), long (64 bits, signed), u32 (32 bits), uint (64 bits),
ptr;
fd, dirfd (AT_FDCWD allowed); path, path? (NULL allowed); str, str?;
in:N (a struct of N bytes, NULL allowed); inout:N (the same and its address, since it is written
back); inbuf:K (bytes, as many as argument K says); small:K (the same with an int length, None if that is negative);
iov:K (an array of K iovecs); pid; strv (argv, envp).  Numbers are those of arch/x86/entry/syscalls/syscall_64.tbl.
"""

from __future__ import annotations

CORE, KERNEL, SUP, REFUSE = range(4)
LANES = ("core", "kernel", "supervisor", "refused")

KINDS = (
    "int",
    "long",
    "u32",
    "uint",
    "ptr",
    "fd",
    "dirfd",
    "path",
    "path?",
    "str",
    "str?",
    "in",
    "inout",
    "inbuf",
    "small",
    "iov",
    "pid",
    "strv",
)


class Sys:
    """One system call: `name`, `nr`, `lane`, `args` [(kind, parameter)], `classes` (strace's %class names),
    `fn` (the core's function), `err` (errno when refused), `why` (of a refusal or a gap, for the docs), `remember` (the
    core may give an answer again, kernel/answers.py: it has at most a path, a str, a dirfd or fd, a ptr to write to and
    two numbers)."""

    __slots__ = ("name", "nr", "lane", "args", "classes", "fn", "err", "why", "remember")

    def __init__(
        self, name: str, nr: int, lane: int, args: str, classes: str, fn: str, err: int, why: str,
        remember: bool,
    ) -> None:
        self.name, self.nr, self.lane, self.fn, self.err, self.why = name, nr, lane, fn, err, why
        self.remember = remember
        self.classes = tuple(classes.split())
        self.args: list[tuple[str, int]] = []
        for word in args.split():
            kind, _, parameter = word.partition(":")
            if kind not in KINDS:
                raise ValueError(f"{name}: no argument kind {kind!r}")
            self.args.append((kind, int(parameter or 0)))


TABLE: dict[int, Sys] = {}
BY_NAME: dict[str, Sys] = {}


def S(
    name: str,
    nr: int,
    lane: int,
    args: str = "",
    cls: str = "",
    *,
    fn: str = "",
    err: int = 38,
    why: str = "",
    remember: bool = False,
) -> None:
    """Declare one call.  `err` defaults to ENOSYS."""
    if nr in TABLE or name in BY_NAME:
        raise ValueError(f"{name} ({nr}) is declared twice")
    TABLE[nr] = BY_NAME[name] = Sys(name, nr, lane, args, cls, fn or name, err, why, remember)


EPERM, EACCES, EOPNOTSUPP, EINVAL = 1, 13, 95, 22

# --- reading and writing -------------------------------------------------------------------------------
S("read", 0, KERNEL, "fd ptr uint", "desc")
S("write", 1, KERNEL, "fd inbuf:2 uint", "desc")
S("lseek", 8, KERNEL, "fd long int", "desc")
S("pread64", 17, KERNEL, "fd ptr uint long", "desc")
S("pwrite64", 18, KERNEL, "fd inbuf:2 uint long", "desc")
S("readv", 19, KERNEL, "fd iov:2 int", "desc")
S("writev", 20, KERNEL, "fd iov:2 int", "desc")
S("preadv", 295, KERNEL, "fd iov:2 int long long", "desc")
S("pwritev", 296, KERNEL, "fd iov:2 int long long", "desc")
S("preadv2", 327, KERNEL, "fd iov:2 int long long int", "desc")
S("pwritev2", 328, KERNEL, "fd iov:2 int long long int", "desc")
S("sendfile", 40, KERNEL, "fd fd ptr uint", "desc network")
S("splice", 275, KERNEL, "fd ptr fd ptr uint u32", "desc")
S("tee", 276, KERNEL, "fd fd uint u32", "desc")
S("vmsplice", 278, KERNEL, "fd ptr uint u32", "desc")
S("copy_file_range", 326, SUP, "fd ptr fd ptr uint u32", "desc")
S("ioctl", 16, CORE, "fd uint ptr", "desc")
S("readahead", 187, KERNEL, "fd long uint", "desc")
S("fadvise64", 221, KERNEL, "fd long long int", "desc")
S("cachestat", 451, KERNEL, "fd ptr ptr u32", "desc")
S("fsync", 74, KERNEL, "fd", "desc")
S("fdatasync", 75, KERNEL, "fd", "desc")
S("sync_file_range", 277, KERNEL, "fd long long u32", "desc")
S("sync", 162, CORE, "", "", fn="zero", why="everything is in memory; the host is not flushed")
S("syncfs", 306, SUP, "fd", "desc")
S("ftruncate", 77, KERNEL, "fd long", "desc")
S("fallocate", 285, KERNEL, "fd int long long", "desc")
S("flock", 73, KERNEL, "fd int", "desc")

# --- descriptors ---------------------------------------------------------------------------------------
S("close", 3, CORE, "fd", "desc")
S("close_range", 436, CORE, "uint uint uint", "desc")
S("dup", 32, CORE, "fd", "desc")
S("dup2", 33, CORE, "fd int", "desc")
S("dup3", 292, CORE, "fd int int", "desc")
S("fcntl", 72, CORE, "fd int uint", "desc")
S("pipe", 22, KERNEL, "ptr", "desc")
S("pipe2", 293, KERNEL, "ptr int", "desc")
S("eventfd", 284, KERNEL, "uint", "desc")
S("eventfd2", 290, KERNEL, "uint int", "desc")
S("signalfd", 282, CORE, "int ptr uint", "desc signal")
S("signalfd4", 289, CORE, "int ptr uint int", "desc signal")
S("timerfd_create", 283, KERNEL, "int int", "desc")
S("timerfd_settime", 286, KERNEL, "fd int ptr ptr", "desc")
S("timerfd_gettime", 287, KERNEL, "fd ptr", "desc")
S("memfd_create", 319, SUP, "path u32", "desc")
S("memfd_secret", 447, REFUSE, "uint", "desc")
S("poll", 7, KERNEL, "ptr uint int", "desc")
S("select", 23, KERNEL, "int ptr ptr ptr ptr", "desc")
S("pselect6", 270, CORE, "int ptr ptr ptr ptr ptr", "desc")
S("ppoll", 271, CORE, "ptr uint ptr ptr uint", "desc")
S("epoll_create", 213, KERNEL, "int", "desc")
S("epoll_create1", 291, KERNEL, "int", "desc")
S("epoll_ctl", 233, KERNEL, "fd int fd ptr", "desc")
S("epoll_wait", 232, KERNEL, "int ptr int int", "desc")
S("epoll_pwait", 281, CORE, "int ptr int int ptr uint", "desc")
S("epoll_pwait2", 441, CORE, "int ptr int ptr ptr uint", "desc")
S("epoll_ctl_old", 214, REFUSE, "")
S("epoll_wait_old", 215, REFUSE, "")
S("inotify_init", 253, SUP, "", "desc")
S("inotify_init1", 294, SUP, "int", "desc")
S("inotify_add_watch", 254, SUP, "fd path u32", "file desc")
S("inotify_rm_watch", 255, SUP, "fd int", "desc")
S("fanotify_init", 300, REFUSE, "uint uint", "desc", err=EPERM, why="inotify is there")
S("fanotify_mark", 301, REFUSE, "int uint uint int ptr", "file desc", err=9)

# --- names ---------------------------------------------------------------------------------------------
S("open", 2, SUP, "path int int", "file desc", remember=True)
S("openat", 257, SUP, "dirfd path int int", "file desc", remember=True)
S("openat2", 437, SUP, "dirfd path inbuf:3 uint", "file desc")
S("creat", 85, SUP, "path int", "file desc")
S("stat", 4, SUP, "path ptr", "file", remember=True)
S("fstat", 5, SUP, "fd ptr", "desc", remember=True)
S("lstat", 6, SUP, "path ptr", "file", remember=True)
S("newfstatat", 262, SUP, "dirfd path? ptr int", "file desc", remember=True)
S("statx", 332, SUP, "dirfd path? int uint ptr", "file desc", remember=True)
S("access", 21, SUP, "path int", "file", remember=True)
S("faccessat", 269, SUP, "dirfd path int", "file desc", remember=True)
S("faccessat2", 439, SUP, "dirfd path int int", "file desc", remember=True)
S("readlink", 89, SUP, "path ptr int", "file", remember=True)
S("readlinkat", 267, SUP, "dirfd path ptr int", "file desc", remember=True)
S("statfs", 137, SUP, "path ptr", "file", remember=True)
S("fstatfs", 138, SUP, "fd ptr", "desc")
S("ustat", 136, REFUSE, "int ptr")
S("getcwd", 79, SUP, "ptr uint", "file", remember=True)
S("chdir", 80, SUP, "path", "file")
S("fchdir", 81, SUP, "fd", "desc")
S("chroot", 161, SUP, "path", "file")
S("getdents", 78, SUP, "fd ptr int", "desc")
S("getdents64", 217, CORE, "fd ptr int", "desc", remember=True)
S("mkdir", 83, SUP, "path int", "file")
S("mkdirat", 258, SUP, "dirfd path int", "file desc")
S("rmdir", 84, SUP, "path", "file")
S("unlink", 87, SUP, "path", "file")
S("unlinkat", 263, SUP, "dirfd path int", "file desc")
S("rename", 82, SUP, "path path", "file")
S("renameat", 264, SUP, "dirfd path dirfd path", "file desc")
S("renameat2", 316, SUP, "dirfd path dirfd path u32", "file desc")
S("link", 86, SUP, "path path", "file")
S("linkat", 265, SUP, "dirfd path dirfd path int", "file desc")
S("symlink", 88, SUP, "path path", "file")
S("symlinkat", 266, SUP, "path dirfd path", "file desc")
S("mknod", 133, SUP, "path int u32", "file")
S("mknodat", 259, SUP, "dirfd path int u32", "file desc")
S("chmod", 90, SUP, "path int", "file")
S("fchmod", 91, SUP, "fd int", "desc")
S("fchmodat", 268, SUP, "dirfd path int", "file desc")
S("fchmodat2", 452, SUP, "dirfd path int int", "file desc")
S("chown", 92, SUP, "path int int", "file")
S("lchown", 94, SUP, "path int int", "file")
S("fchown", 93, SUP, "fd int int", "desc")
S("fchownat", 260, SUP, "dirfd path int int int", "file desc")
S("utime", 132, SUP, "path in:16", "file")
S("utimes", 235, SUP, "path in:32", "file")
S("futimesat", 261, SUP, "dirfd path? in:32", "file desc")
S("utimensat", 280, SUP, "dirfd path? in:32 int", "file desc")
S("truncate", 76, SUP, "path long", "file")
S("umask", 95, SUP, "int", "")
S("setxattr", 188, SUP, "path str inbuf:3 uint int", "file")
S("lsetxattr", 189, SUP, "path str inbuf:3 uint int", "file")
S("fsetxattr", 190, SUP, "fd str inbuf:3 uint int", "desc")
S("getxattr", 191, SUP, "path str ptr uint", "file", remember=True)
S("lgetxattr", 192, SUP, "path str ptr uint", "file", remember=True)
S("fgetxattr", 193, SUP, "fd str ptr uint", "desc")
S("listxattr", 194, SUP, "path ptr uint", "file")
S("llistxattr", 195, SUP, "path ptr uint", "file")
S("flistxattr", 196, SUP, "fd ptr uint", "desc")
S("removexattr", 197, SUP, "path str", "file")
S("lremovexattr", 198, SUP, "path str", "file")
S("fremovexattr", 199, SUP, "fd str", "desc")
S("setxattrat", 463, SUP, "dirfd path? u32 str inbuf:5 uint", "file desc")
S("getxattrat", 464, SUP, "dirfd path? u32 str inbuf:5 uint", "file desc")
S("listxattrat", 465, SUP, "dirfd path? u32 ptr uint", "file desc")
S("removexattrat", 466, SUP, "dirfd path? u32 str", "file desc")
S("file_getattr", 468, SUP, "dirfd path? ptr uint u32", "file desc")
S("file_setattr", 469, SUP, "dirfd path? ptr uint u32", "file desc")
S("name_to_handle_at", 303, SUP, "dirfd path inout:8 ptr int", "file desc")
S("open_by_handle_at", 304, SUP, "dirfd inout:8 int", "file desc")

# --- mounts --------------------------------------------------------------------------------------------
S("mount", 165, SUP, "path? path path? uint path?", "file")
S("umount2", 166, SUP, "path int", "file")
S("pivot_root", 155, SUP, "path path", "file")
S("open_tree", 428, SUP, "dirfd path u32", "file desc")
S("open_tree_attr", 467, SUP, "dirfd path u32 inbuf:4 uint", "file desc")
S("move_mount", 429, SUP, "dirfd path dirfd path u32", "file desc", why="not MOVE_MOUNT_BENEATH, MOVE_MOUNT_SET_GROUP")
S("fsopen", 430, SUP, "path u32", "desc")
S("fsconfig", 431, SUP, "fd u32 path? path? int", "file desc")
S("fsmount", 432, SUP, "fd u32 u32", "desc")
S("fspick", 433, SUP, "dirfd path u32", "file desc")
S("mount_setattr", 442, SUP, "dirfd path u32 inbuf:4 uint", "file desc", why="not MOUNT_ATTR_IDMAP")
S("statmount", 457, SUP, "inout:24 ptr uint u32", "")
S("listmount", 458, SUP, "inout:24 ptr uint u32", "")
S("swapon", 167, REFUSE, "ptr int", "file", err=EPERM)
S("swapoff", 168, REFUSE, "ptr", "file", err=EPERM)
S("quotactl", 179, REFUSE, "int ptr int ptr", "file")
S("quotactl_fd", 443, REFUSE, "int int int ptr", "desc")
S("acct", 163, REFUSE, "ptr", "file", err=EPERM)
S("sysfs", 139, REFUSE, "int uint uint", "")

# --- memory --------------------------------------------------------------------------------------------
S("mmap", 9, CORE, "ptr uint int int int int", "memory desc")
S("mprotect", 10, CORE, "ptr uint int", "memory")
S("munmap", 11, CORE, "ptr uint", "memory")
S("brk", 12, CORE, "ptr", "memory")
S("mremap", 25, CORE, "ptr uint uint int ptr", "memory")
S("msync", 26, KERNEL, "ptr uint int", "memory")
S("mincore", 27, KERNEL, "ptr uint ptr", "memory")
S("madvise", 28, CORE, "ptr uint int", "memory", fn="range")
S("mlock", 149, KERNEL, "ptr uint", "memory")
S("munlock", 150, KERNEL, "ptr uint", "memory")
S("mlockall", 151, KERNEL, "int", "memory")
S("munlockall", 152, KERNEL, "", "memory")
S("mlock2", 325, KERNEL, "ptr uint int", "memory")
S("remap_file_pages", 216, CORE, "ptr uint int uint int", "memory", fn="range")
S("mbind", 237, CORE, "ptr uint int ptr uint int", "memory", fn="range")
S("set_mempolicy", 238, KERNEL, "int ptr uint", "memory")
S("get_mempolicy", 239, KERNEL, "ptr ptr uint ptr uint", "memory")
S("set_mempolicy_home_node", 450, KERNEL, "uint uint uint uint", "memory")
S("migrate_pages", 256, REFUSE, "int uint ptr ptr", "memory", err=EPERM)
S("move_pages", 279, REFUSE, "int uint ptr ptr ptr int", "memory", err=EPERM)
S("pkey_mprotect", 329, CORE, "ptr uint int int", "memory", fn="range")
S("pkey_alloc", 330, KERNEL, "uint uint", "")
S("pkey_free", 331, KERNEL, "int", "")
S("mseal", 462, CORE, "ptr uint uint", "memory", fn="range")
S("map_shadow_stack", 453, REFUSE, "uint uint uint", "memory")
S("process_madvise", 440, REFUSE, "int ptr uint int uint", "desc memory", err=EPERM)
S("process_mrelease", 448, REFUSE, "int uint", "desc", err=EPERM)
S("userfaultfd", 323, REFUSE, "int", "desc", err=EPERM)

# --- processes -----------------------------------------------------------------------------------------
S("fork", 57, CORE, "", "process")
S("vfork", 58, CORE, "", "process")
S("clone", 56, CORE, "uint ptr ptr ptr ptr", "process")
S("clone3", 435, CORE, "ptr uint", "process")
S("execve", 59, CORE, "path strv strv", "file process", remember=True)
S("execveat", 322, CORE, "dirfd path strv strv int", "file desc process")
S("exit", 60, CORE, "int", "process")
S("exit_group", 231, CORE, "int", "process")
S("wait4", 61, CORE, "int ptr int ptr", "process", fn="wait4")
S("waitid", 247, CORE, "int int ptr int ptr", "process")
S("getpid", 39, CORE, "", "pure")
S("gettid", 186, CORE, "", "pure")
S("getppid", 110, CORE, "", "pure")
S("getpgid", 121, CORE, "pid", "", fn="group_of")
S("getpgrp", 111, CORE, "", "pure", fn="group_of")
S("setpgid", 109, CORE, "pid int", "", fn="setpgid")
S("getsid", 124, CORE, "pid", "", fn="group_of")
S("setsid", 112, KERNEL, "", "")
S("set_tid_address", 218, KERNEL, "ptr", "")
S("prctl", 157, CORE, "int uint uint uint uint", "")
S("arch_prctl", 158, CORE, "int uint", "")
S("personality", 135, KERNEL, "uint", "")
S("ptrace", 101, REFUSE, "int int ptr ptr", "", err=EPERM, why="no tracing inside a sandbox yet")
S("kcmp", 312, REFUSE, "int int int uint uint", "", err=EPERM)
S("process_vm_readv", 310, REFUSE, "int ptr uint ptr uint uint", "", err=EPERM)
S("process_vm_writev", 311, REFUSE, "int ptr uint ptr uint uint", "", err=EPERM)
S("pidfd_open", 434, KERNEL, "pid uint", "desc")
S("pidfd_send_signal", 424, SUP, "int int ptr u32", "desc signal process")
S("pidfd_getfd", 438, REFUSE, "int int uint", "desc", err=EPERM)
S("unshare", 272, SUP, "uint", "process", why="CLONE_FS and CLONE_NEWNS; other namespaces are refused (EPERM)")
S("setns", 308, SUP, "fd int", "desc", why="mount namespaces; others are refused (EPERM)")
S("futex", 202, KERNEL, "ptr int uint ptr ptr uint", "")
S("futex_waitv", 449, KERNEL, "ptr uint uint ptr int", "")
S("futex_wake", 454, KERNEL, "ptr uint int uint", "")
S("futex_wait", 455, KERNEL, "ptr uint uint uint ptr int", "")
S("futex_requeue", 456, KERNEL, "ptr uint int int", "")
S("set_robust_list", 273, KERNEL, "ptr uint", "")
S("get_robust_list", 274, KERNEL, "pid ptr ptr", "")
S("rseq", 334, KERNEL, "ptr uint int uint", "")
S("membarrier", 324, KERNEL, "int uint int", "")
S("restart_syscall", 219, CORE, "", "", fn="eintr")
S("uretprobe", 335, REFUSE, "", "")
S("uprobe", 336, REFUSE, "", "")
S("modify_ldt", 154, REFUSE, "int ptr uint", "", why="16-bit and 32-bit segments are not supported")
S("set_thread_area", 205, REFUSE, "ptr", "")
S("get_thread_area", 211, REFUSE, "ptr", "")
S("iopl", 172, REFUSE, "int", "", err=EPERM)
S("ioperm", 173, REFUSE, "uint uint int", "", err=EPERM)
S("seccomp", 317, CORE, "uint uint ptr", "", why="emulated by the core; no listener (SECCOMP_RET_USER_NOTIF)")
S("landlock_create_ruleset", 444, REFUSE, "ptr uint uint", "desc")
S("landlock_add_rule", 445, REFUSE, "int int ptr uint", "desc")
S("landlock_restrict_self", 446, REFUSE, "int uint", "desc")
S("lsm_get_self_attr", 459, REFUSE, "uint ptr ptr uint", "")
S("lsm_set_self_attr", 460, REFUSE, "uint ptr uint uint", "")
S("lsm_list_modules", 461, REFUSE, "ptr ptr uint", "")

# --- signals -------------------------------------------------------------------------------------------
S("rt_sigaction", 13, CORE, "int ptr ptr uint", "signal", fn="sigaction")
S("rt_sigprocmask", 14, CORE, "int ptr ptr uint", "signal", fn="sigprocmask")
S("rt_sigreturn", 15, CORE, "", "signal", fn="sigreturn")
S("rt_sigpending", 127, CORE, "ptr uint", "signal", fn="sigpending")
S("rt_sigtimedwait", 128, CORE, "ptr ptr ptr uint", "signal", fn="sigtimedwait")
S("rt_sigsuspend", 130, CORE, "ptr uint", "signal", fn="sigsuspend")
S("sigaltstack", 131, CORE, "ptr ptr", "signal")
S("pause", 34, KERNEL, "", "signal")
S("kill", 62, KERNEL, "pid int", "signal process")
S("tkill", 200, KERNEL, "pid int", "signal process")
S("tgkill", 234, KERNEL, "pid int int", "signal process")
S("rt_sigqueueinfo", 129, KERNEL, "pid int ptr", "signal process")
S("rt_tgsigqueueinfo", 297, KERNEL, "pid int int ptr", "signal process")

# --- time ----------------------------------------------------------------------------------------------
S("nanosleep", 35, KERNEL, "ptr ptr", "")
S("clock_nanosleep", 230, KERNEL, "int int ptr ptr", "")
S("clock_gettime", 228, KERNEL, "int ptr", "clock")
S("clock_getres", 229, KERNEL, "int ptr", "clock")
S("clock_settime", 227, REFUSE, "int ptr", "clock", err=EPERM)
S("clock_adjtime", 305, SUP, "int in:208", "clock")
S("adjtimex", 159, SUP, "in:208", "clock")
S("gettimeofday", 96, KERNEL, "ptr ptr", "clock")
S("settimeofday", 164, REFUSE, "ptr ptr", "clock", err=EPERM)
S("time", 201, KERNEL, "ptr", "clock")
S("times", 100, KERNEL, "ptr", "")
S("alarm", 37, KERNEL, "uint", "")
S("getitimer", 36, KERNEL, "int ptr", "")
S("setitimer", 38, KERNEL, "int ptr ptr", "")
S("timer_create", 222, KERNEL, "int ptr ptr", "")
S("timer_settime", 223, KERNEL, "int int ptr ptr", "")
S("timer_gettime", 224, KERNEL, "int ptr", "")
S("timer_getoverrun", 225, KERNEL, "int", "")
S("timer_delete", 226, KERNEL, "int", "")

# --- scheduling, limits, the machine ---------------------------------------------------------------------
S("sched_yield", 24, KERNEL, "", "")
S("sched_setparam", 142, KERNEL, "pid ptr", "")
S("sched_getparam", 143, KERNEL, "pid ptr", "")
S("sched_setscheduler", 144, KERNEL, "pid int ptr", "")
S("sched_getscheduler", 145, KERNEL, "pid", "")
S("sched_get_priority_max", 146, KERNEL, "int", "")
S("sched_get_priority_min", 147, KERNEL, "int", "")
S("sched_rr_get_interval", 148, KERNEL, "pid ptr", "")
S("sched_setaffinity", 203, KERNEL, "pid uint ptr", "")
S("sched_getaffinity", 204, KERNEL, "pid uint ptr", "")
S("sched_setattr", 314, KERNEL, "pid ptr uint", "")
S("sched_getattr", 315, KERNEL, "pid ptr uint uint", "")
S("getpriority", 140, SUP, "int int", "")
S("setpriority", 141, SUP, "int int int", "")
S("ioprio_set", 251, SUP, "int int int", "")
S("ioprio_get", 252, SUP, "int int", "")
S("getcpu", 309, KERNEL, "ptr ptr ptr", "")
S("getrlimit", 97, CORE, "uint ptr", "", fn="getrlimit")
S("setrlimit", 160, CORE, "uint ptr", "", fn="setrlimit")
S("prlimit64", 302, CORE, "pid uint ptr ptr", "", fn="prlimit64")
S("getrusage", 98, KERNEL, "int ptr", "")
S("sysinfo", 99, KERNEL, "ptr", "")
S("uname", 63, CORE, "ptr", "")
S("sethostname", 170, SUP, "inbuf:1 int", "")
S("setdomainname", 171, SUP, "inbuf:1 int", "")
S("getrandom", 318, KERNEL, "ptr uint uint", "")
S("syslog", 103, REFUSE, "int ptr int", "", err=EPERM)
S("vhangup", 153, REFUSE, "", "", err=EPERM)
S("reboot", 169, REFUSE, "int int int ptr", "", err=EPERM)
S("kexec_load", 246, REFUSE, "uint uint ptr uint", "", err=EPERM)
S("kexec_file_load", 320, REFUSE, "int int uint ptr uint", "desc", err=EPERM)
S("init_module", 175, REFUSE, "ptr uint ptr", "", err=EPERM)
S("delete_module", 176, REFUSE, "ptr uint", "", err=EPERM)
S("finit_module", 313, REFUSE, "int ptr int", "desc", err=EPERM)
S("perf_event_open", 298, REFUSE, "ptr int int int uint", "desc", err=EACCES)
S("bpf", 321, REFUSE, "int ptr uint", "desc", err=EPERM)
S("lookup_dcookie", 212, REFUSE, "uint ptr uint", "")

# --- identity ------------------------------------------------------------------------------------------
S("getuid", 102, CORE, "", "creds pure")
S("geteuid", 107, CORE, "", "creds pure")
S("getgid", 104, CORE, "", "creds pure")
S("getegid", 108, CORE, "", "creds pure")
S("getresuid", 118, SUP, "ptr ptr ptr", "creds")
S("getresgid", 120, SUP, "ptr ptr ptr", "creds")
S("setuid", 105, SUP, "uint", "creds")
S("setgid", 106, SUP, "uint", "creds")
S("setreuid", 113, SUP, "uint uint", "creds")
S("setregid", 114, SUP, "uint uint", "creds")
S("setresuid", 117, CORE, "uint uint uint", "creds")
S("setresgid", 119, CORE, "uint uint uint", "creds")
S("setfsuid", 122, SUP, "uint", "creds")
S("setfsgid", 123, SUP, "uint", "creds")
S("getgroups", 115, SUP, "int ptr", "creds")
S("setgroups", 116, SUP, "int ptr", "creds")
S("capget", 125, SUP, "ptr ptr", "creds")
S("capset", 126, SUP, "ptr ptr", "creds")
S("add_key", 248, REFUSE, "ptr ptr ptr uint int", "")
S("request_key", 249, REFUSE, "ptr ptr ptr int", "")
S("keyctl", 250, REFUSE, "int uint uint uint uint", "")

# --- sockets: what is connected is the kernel's; names and options are the supervisor's --------------------
S("socketpair", 53, KERNEL, "int int int ptr", "network")
S("socket", 41, SUP, "int int int", "network")
S("connect", 42, CORE, "fd small:2 int", "network")
S("bind", 49, SUP, "fd small:2 int", "network")
S("listen", 50, SUP, "fd int", "network")
S("accept", 43, CORE, "fd ptr ptr", "network")
S("accept4", 288, CORE, "fd ptr ptr int", "network")
S("sendto", 44, CORE, "fd ptr uint int small:5 int", "network")
S("sendmsg", 46, CORE, "fd ptr int", "network")
S("sendmmsg", 307, CORE, "fd ptr uint uint", "network")
S("recvfrom", 45, KERNEL, "fd ptr uint uint ptr ptr", "network")
S("recvmsg", 47, KERNEL, "fd ptr uint", "network")
S("recvmmsg", 299, KERNEL, "fd ptr uint uint ptr", "network")
S("shutdown", 48, KERNEL, "fd int", "network")
S("getsockname", 51, SUP, "fd ptr inout:4", "network")
S("getpeername", 52, CORE, "fd ptr inout:4", "network")
S("setsockopt", 54, CORE, "fd int int small:4 int", "network")
S("getsockopt", 55, CORE, "fd int int ptr inout:4", "network")

# --- System V and POSIX IPC: host-wide names, so refused where they are not virtual ---------------------------
S("shmget", 29, SUP, "int uint int", "ipc")
S("shmat", 30, CORE, "int ptr int", "ipc")
S("shmctl", 31, SUP, "int int ptr", "ipc")
S("shmdt", 67, SUP, "ptr", "ipc")
for _name, _nr in (
    ("semget", 64), ("semop", 65), ("semctl", 66),
    ("semtimedop", 220), ("msgget", 68), ("msgsnd", 69), ("msgrcv", 70), ("msgctl", 71),
    ("mq_open", 240), ("mq_unlink", 241), ("mq_timedsend", 242), ("mq_timedreceive", 243), ("mq_notify", 244),
    ("mq_getsetattr", 245),
):  # fmt: skip
    S(_name, _nr, REFUSE, "", "ipc", why="semaphores and message queues are host-wide names; not virtual yet")

# --- asynchronous I/O: a second entrance to the kernel ---------------------------------------------------------
for _name, _nr in (
    ("io_setup", 206), ("io_destroy", 207), ("io_getevents", 208), ("io_submit", 209), ("io_cancel", 210),
    ("io_pgetevents", 333), ("io_uring_setup", 425), ("io_uring_enter", 426), ("io_uring_register", 427),
):  # fmt: skip
    S(_name, _nr, REFUSE, "", "desc", why="calls made through a ring would not pass the core")

# --- numbers that Linux reserves but does not implement (sys_ni_syscall) ---------------------------------------
for _name, _nr in (
    ("uselib", 134), ("_sysctl", 156), ("create_module", 174), ("get_kernel_syms", 177), ("query_module", 178),
    ("nfsservctl", 180), ("getpmsg", 181), ("putpmsg", 182), ("afs_syscall", 183), ("tuxcall", 184),
    ("security", 185), ("vserver", 236),
):  # fmt: skip
    S(_name, _nr, CORE, "", "", fn="enosys")

NR_MAX = max(TABLE) + 1


def c_header() -> str:
    """The table as C: one initialiser per call, and the enumeration of the core's functions."""
    functions = sorted({s.fn for s in TABLE.values() if s.lane == CORE})
    lines = ["/* Written by core_native/gen.py from kernel/table.py. */", "#pragma once", ""]
    lines += [f"#define NR_TABLE {NR_MAX}"]
    lines += [f"enum {{ {', '.join(f'K_{k.upper()}'.replace('?', '_NULL') for k in KINDS)} }};"]
    lines += ["enum { LANE_CORE, LANE_KERNEL, LANE_SUP, LANE_REFUSE };"]
    lines += [f"enum {{ {', '.join('FN_' + f for f in functions)} }};"]
    lines += [f"#define CORE_FUNCTIONS(X) {' '.join(f'X({f})' for f in functions)}"]
    lines += [f"#define NR_{s.name} {s.nr}" for s in TABLE.values()]
    lines += ["#define SYSCALL_TABLE \\"]
    for s in TABLE.values():
        kinds = ", ".join(f"K_{k.upper()}".replace("?", "_NULL") for k, _ in s.args)
        params = ", ".join(str(p) for _, p in s.args)
        fn = f"FN_{s.fn}" if s.lane == CORE else "0"
        lane = ("LANE_CORE", "LANE_KERNEL", "LANE_SUP", "LANE_REFUSE")[s.lane]
        numbers = f"1, {lane}, {fn}, {len(s.args)}, {int(s.remember)}"
        lines.append(f"\t[{s.nr}] = {{{numbers}, {{{kinds}}}, {{{params}}}}}, \\")
    lines.append("")
    return "\n".join(lines) + "\n"
