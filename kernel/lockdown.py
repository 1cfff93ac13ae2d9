"""The host's system calls that a guest's processes may make, whatever runs in them: the filter beneath everything.

Layer: the pretend kernel; at build time only (core_native/gen.py makes the filter of it, docs/make_host_calls.py the
document).  May touch: nothing.

Init installs the filter before the first guest (core_native/lockdown.c), and fork and exec pass it on. A call is let
through from the core's text only (but for HOT), by its number and by those of its arguments that are numbers. What lies
behind a pointer a filter cannot see, so no call is in here whose harm depends on that (clone3, openat2, connect). What
is not in here ends the process; arguments that are not are an error.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = 0xFFFFFFFF


class Test(NamedTuple):
    """`argument & mask` is among `values` (its low 32 bits), or, if not `among`, it is none of them."""

    argument: int
    mask: int
    values: tuple[int, ...]
    among: bool = True


#: calls without a look at their arguments, by reason
PLAIN = {
    "the bytes of objects that the process holds": """
        read write lseek pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 sendfile splice tee vmsplice
        copy_file_range readahead fadvise64 cachestat fsync fdatasync sync_file_range ftruncate fallocate flock
        fstat fstatfs fgetxattr flistxattr""",
    "descriptors": "close close_range dup dup2 dup3",
    "pipes, events, timers and waiting for them": """
        pipe pipe2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4 poll ppoll select
        pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2""",
    "the memory of the process": """
        mmap munmap mprotect mremap madvise brk msync mincore mlock munlock mlockall munlockall mlock2 mbind
        set_mempolicy get_mempolicy set_mempolicy_home_node pkey_mprotect pkey_alloc pkey_free
        remap_file_pages mseal memfd_create""",
    "threads": """
        exit exit_group gettid getpid getppid set_tid_address futex futex_waitv futex_wake futex_wait futex_requeue
        set_robust_list get_robust_list rseq membarrier sched_yield arch_prctl personality getcpu""",
    "children, process groups and sessions": "wait4 waitid getpgid getpgrp setpgid getsid setsid",
    "signals; how far they reach depends on the level": """
        rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pause
        restart_syscall tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal""",
    "time; nobody has the right to set it": """
        nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times alarm getitimer setitimer
        timer_create timer_settime timer_gettime timer_getoverrun timer_delete adjtimex clock_adjtime""",
    "scheduling; nobody has the right to be before others": """
        sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
        sched_getaffinity sched_getattr getpriority ioprio_get""",
    "what the process uses, and random numbers": "getrusage sysinfo getrandom getrlimit setrlimit",
    "sockets that the process holds": """
        sendto sendmsg recvfrom recvmsg recvmmsg shutdown getsockopt getsockname getpeername accept accept4""",
}
#: Of these, those that are made so often that 60 ns count. What looks at nothing but the number the host kernel does
#: not run again for each call (seccomp_cache_check_allow() in kernel/seccomp.c), so they may come from any text.
HOT = """
    read write pread64 pwrite64 readv writev lseek futex recvfrom sendto recvmsg sendmsg epoll_wait epoll_pwait poll
"""
_CLONE_NEW = 0x7E020080 | 0x2000  # CLONE_NEW* and CLONE_PTRACE
_AT_EMPTY_PATH = 0x1000
# F_DUPFD to F_GETSIG, F_SETOWN_EX to F_GETOWNER_UIDS, locks of descriptions, F_GETLEASE, F_DUPFD_QUERY to the hints
_FCNTL = (*range(12), 15, 16, 17, 36, 37, 38, 1025, *range(1027, 1041))
# PDEATHSIG TIMING NAME TSC TIMERSLACK MCE_KILL SET_MM CHILD_SUBREAPER NO_NEW_PRIVS GET_TID_ADDRESS THP_DISABLE
# SYSCALL_USER_DISPATCH SET_VMA SET_PTRACER
_PRCTL = (
    1,
    2,
    13,
    14,
    15,
    16,
    25,
    26,
    29,
    30,
    33,
    34,
    35,
    36,
    37,
    38,
    39,
    40,
    41,
    42,
    59,
    0x53564D41,
    0x59616D61,
)
_TYPING = (0x5412, 0x541C, 0x541D, 0x5423)  # TIOCSTI TIOCLINUX TIOCCONS TIOCSETD
_OWNER = (0x8901, 0x8902, 0x8903, 0x8904, 0x8905)  # FIOSETOWN SIOCSPGRP FIOGETOWN SIOCGPGRP SIOCATMARK
#: by name: alternatives, of which one has to hold, each of tests that all have to; and why the call is needed
CHECKED: dict[str, tuple[tuple[tuple[Test, ...], ...], str]] = {
    "clone": (((Test(0, _CLONE_NEW, (0,)),),), "threads and processes; no new namespace, no tracer's child"),
    "execveat": (((Test(4, ALL, (_AT_EMPTY_PATH,)),),), "the core, by the descriptor that each process has; no path"),
    "fcntl": (((Test(1, ALL, _FCNTL),),), "flags, duplicates, locks, seals; no lease, no notification"),
    "ioctl": (
        (
            (Test(1, 0xFF00, (0x5400, 0x5200)), Test(1, ALL, _TYPING, False)),
            (Test(1, ALL, _OWNER),),
        ),
        "terminals (no typing into them, no line discipline), pipes, random devices; whom a socket signals",
    ),
    "kill": (
        ((Test(0, ALL, (0,), False), Test(0, 1 << 31, (0,))),),
        "signals to one process; to groups and to all of them only one by one, as the supervisor says",
    ),
    "prctl": (((Test(0, ALL, _PRCTL),),), "the name of a thread, Syscall User Dispatch, the thread's own affairs"),
    "prlimit64": (((Test(0, ALL, (0,)),),), "limits of the process itself"),
    **{
        name: (((Test(0, ALL, (0,)),),), "scheduling of the thread itself; for others the supervisor does it")
        for name in ("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr")
    },
    "setpriority": (((Test(0, ALL, (0,)), Test(1, ALL, (0,))),), "nice values of the thread itself"),
    "ioprio_set": (((Test(0, ALL, (1,)), Test(1, ALL, (0,))),), "priorities of the thread itself"),
    "socketpair": (((Test(0, ALL, (1,)),),), "pairs of AF_UNIX"),
    "setsockopt": (((Test(1, ALL, (1, 6)),),), "options of SOL_SOCKET and of TCP, of sockets that the process holds"),
}  # fmt: skip

#: what a call gets whose arguments are others, if not EPERM: a number that means nothing to Linux either
_ERRNO = {"fcntl": 22}  # EINVAL


def allowed() -> dict[str, str]:
    """Each call that the filter lets through, and why."""
    plain = {name: why for why, names in PLAIN.items() for name in names.split()}
    return plain | {name: why for name, (_, why) in CHECKED.items()}


# -- the program (Documentation/networking/filter.rst) ------------------------------------------------------

_LD, _AND, _JEQ, _JGT, _JGE, _JA, _RET = 0x20, 0x54, 0x15, 0x25, 0x35, 0x05, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _IP, _ARGS = 0, 4, 8, 16  # struct seccomp_data
_X86_64 = 0xC000003E
#: the text of the core: the high halves of both ends are the same; lockdown.c puts the real numbers in
TEXT_HIGH, TEXT_START, TEXT_END = 0x7E570001, 0x7E570002, 0x7E570003

#: (code, jump if true, jump if false, constant)
Insn = tuple[int, int, int, int]


def _checks(alternatives: tuple[tuple[Test, ...], ...], errno: int) -> list[Insn]:
    """Instructions that return: ALLOW if one of the alternatives holds, else the errno."""
    code: list[Insn] = [(_RET, 0, 0, _REFUSE | errno)]
    for tests in reversed(alternatives):
        part: list[Insn] = [(_RET, 0, 0, _ALLOW)]
        for test in reversed(tests):
            head: list[Insn] = [(_LD, 0, 0, _ARGS + 8 * test.argument)]
            if test.mask != ALL:
                head.append((_AND, 0, 0, test.mask))
            count = len(test.values)
            for i, value in enumerate(test.values):
                after = count - 1 - i  # comparisons that follow
                equal, other = (after, 0) if test.among else (after + len(part), 0)
                if test.among and after == 0:
                    other = len(part)  # to the next alternative
                head.append((_JEQ, equal, other, value))
            part = head + part
        code = part + code
    return code


def _tree(calls: list[tuple[int, list[Insn]]]) -> list[Insn]:
    """Binary search by number; every leaf returns."""
    if len(calls) <= 3:
        code: list[Insn] = []
        for nr, body in calls:
            code += [(_JEQ, 0, len(body), nr), *body]
        return [*code, (_RET, 0, 0, _KILL)]
    half = len(calls) // 2
    low, high = _tree(calls[:half]), _tree(calls[half:])
    return [(_JGE, 0, 1, calls[half][0]), (_JA, 0, 0, len(low)), *low, *high]


def _first(numbers: list[int]) -> list[Insn]:
    """ALLOW for these, else on."""
    last = len(numbers) - 1
    return [*((_JEQ, last - i, int(i == last), nr) for i, nr in enumerate(numbers)), (_RET, 0, 0, _ALLOW)]


def program(numbers: Mapping[str, int]) -> list[Insn]:
    """The filter, in which the ends of the core's text are still TEXT_*; `numbers` are the calls' by name."""
    hot = [numbers[name] for name in HOT.split()]
    plain = (numbers[name] for names in PLAIN.values() for name in names.split())
    calls = [(nr, [(_RET, 0, 0, _ALLOW)]) for nr in plain if nr not in hot]
    for name, (alternatives, _) in CHECKED.items():
        calls.append((numbers[name], _checks(alternatives, _ERRNO.get(name, 1))))
    kill: Insn = (_RET, 0, 0, _KILL)
    return [
        (_LD, 0, 0, _ARCH), (_JEQ, 1, 0, _X86_64), kill,
        (_LD, 0, 0, _NR), *_first(hot),
        (_LD, 0, 0, _IP + 4), (_JEQ, 1, 0, TEXT_HIGH), kill,
        (_LD, 0, 0, _IP), (_JGE, 1, 0, TEXT_START), kill, (_JGT, 0, 1, TEXT_END), kill,
        (_LD, 0, 0, _NR), *_tree(sorted(calls)),
    ]  # fmt: skip


def c_header(numbers: Mapping[str, int]) -> str:
    """The filter as C."""
    rows = [f"\t{{{code:#x}, {yes}, {no}, {k:#x}}}," for code, yes, no, k in program(numbers)]
    return (
        "\n".join(
            [
                "/* Written by core_native/gen.py from kernel/lockdown.py. */",
                "#pragma once",
                *(
                    f"#define {name} {globals()[name]:#x}U"
                    for name in ("TEXT_HIGH", "TEXT_START", "TEXT_END")
                ),
                "#define LOCKDOWN_FILTER \\",
                *(row + " \\" for row in rows),
                "",
            ]
        )
        + "\n"
    )
