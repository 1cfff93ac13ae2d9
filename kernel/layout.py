"""The structures shared between the supervisor (Python) and the guest core (C), declared once.

Layer: the channel, below everything else.  May touch: nothing (pure data; importable on its own, because
the build loads it by path to write the C header).

`C_STRUCTS` is the only declaration.  `c_header()` turns it into C with a `_Static_assert` for each
offset; the Python side takes its offsets from `offset()`.  Both sides compare `VERSION` at start.
"""

from __future__ import annotations

VERSION = 2

#: The core is linked at CORE_BASE; [CORE_BASE, CORE_END) of every guest belongs to the core alone.
CORE_BASE = 0x2100_0000_0000
CORE_END = 0x2110_0000_0000

#: where rewritten sites enter the core, and the size of the trampoline that each of them jumps through
FAST_ENTRY = CORE_BASE + 0x1000
TRAMPOLINE_SIZE = 64
#: pages that the guest's vDSO reads: the world page, and the addresses of the host vDSO's functions
WORLD_ADDR = CORE_BASE + 0xF_0000_0000
VDSO_TABLE = CORE_BASE + 0xF_2000_0000
#: where a native hook lies (kernel/native_hook.py links it for this address)
NATIVE_HOOK, NATIVE_HOOK_SIZE = CORE_BASE + 0xF_3000_0000, 1 << 24

SLOT_SIZE = 32768
SLOT_COUNT = 2048
SLOT_DATA = 1536
SLOT_DATA_SIZE = SLOT_SIZE - SLOT_DATA
DRAFT_NAMES_OFFSET = SLOT_SIZE * (SLOT_COUNT + 1)  # the first slot-sized unit is the process header
#: files that a process may make without asking (kernel/drafts.py), the longest name that such a file has, the length of
#: what may stand before it, and bits, a prime number of them, that say which names there may be (behind the slots)
DRAFTS, DRAFT_NAME, DRAFT_PREFIX, DRAFT_BITS = 28, 128, 256, (1 << 17) - 1
DRAFT_NAMES_SIZE = (DRAFT_BITS + 1) // 8
CHANNEL_SIZE = DRAFT_NAMES_OFFSET + DRAFT_NAMES_SIZE
MAX_OUT = 32
#: where in a channel the plan of a program that starts lies: in the first slot's data, and if it is too large for that
#: among slots that hardly anybody uses
PLAN_OFFSET, LARGE_PLAN_OFFSET = SLOT_SIZE + SLOT_DATA, CHANNEL_SIZE // 2
TRAP_SITES = 512
#: TCP sockets whose end is remembered, for each process: a power of two
CLOSED_SOCKETS = 128
#: the table of kernel/answers.py: entries, and where they begin behind the world page
ANSWERS, ANSWERS_OFFSET = 65536, 4096
#: where an answer may be: at the place that its hash says, or at that number with some lower bits turned
ANSWER_PLACES = 8
#: behind it the listings of directories (kernel/directories.py): bytes
LISTINGS_SIZE = 4 << 20
#: descriptors of directories that a process has without the supervisor (core_native/vdir.c)
VDIRS = 32
#: the device that stands for these in a request; its inode numbers are those of kernel/directories.py
VDIR_DEV = (1 << 64) - 1
#: files that are opened ahead for a program: kernel/gifts.py
MAX_GIFTS = 80
#: where in a channel the drafts are: behind the process's page
DRAFTS_OFFSET = 23040
#: descriptors that every guest process keeps for the core above its limit; what finds no room there is not opened ahead
RESERVED_FDS = 128

#: (field, C type, count); sizes by type below.  Every struct is packed by hand: natural alignment only.
_SIZES = {"u8": 1, "u16": 2, "u32": 4, "s32": 4, "u64": 8, "s64": 8}

Field = tuple[str, str, int]

C_STRUCTS: dict[str, list[Field]] = {
    # The head of a process's channel: written by the core, read by the supervisor (never trusted).
    "ring3_proc_page": [
        ("version", "u32", 1),
        ("pid", "u32", 1),
        ("brk_start", "u64", 1),
        ("brk_end", "u64", 1),
        ("core_fds", "s32", 2),
        ("ends", "u32", 1),  # it is about to call exit_group(2)
        ("posted", "u32", 1),  # messages sent that are no doorbells: they come before later requests
        ("gifts_used", "u64", 2),  # which of the gifts were opened, by bits
        # sums by number of the call, while HOOK_COUNT is set
        ("calls", "u64", 512),
        ("errors", "u64", 512),
        ("ns", "u64", 512),
        # system call sites that trapped (core_native/sites.c): where they are and how often; 0 where there is none
        ("trap_site", "u64", TRAP_SITES),
        ("trap_count", "u64", TRAP_SITES),
        # a ring of the TCP sockets that were closed last (core_native/tcp.c): inode numbers, and when (CLOCK_MONOTONIC,
        # nanoseconds) with bit 0 for one that ended its connection first
        ("closed_count", "u64", 1),
        ("closed_ino", "u64", CLOSED_SOCKETS),
        ("closed_at", "u64", CLOSED_SOCKETS),
        # descriptors of directories that the core made by itself (core_native/vdir.c): 1 more than the number, 0: none
        ("vdir_fd", "u32", VDIRS),
        ("vdir_number", "u32", VDIRS),
        ("vdir_flags", "u32", VDIRS),  # as F_GETFL gives them
    ],
    # The directory that is lent to a process (kernel/drafts.py), in its channel at DRAFTS_OFFSET. Which names there may
    # be is at DRAFT_NAMES_OFFSET: bit (the name as a big-endian number) % DRAFT_BITS.
    "ring3_drafts": [
        # written by the core: which of the files are made (by bits), when the directory was changed last (ns), a number
        # for each file that is made
        ("made", "u32", 1),
        ("turn", "u32", 1),
        ("changed", "s64", 1),
        ("dropped", "u32", 1),  # it has closed all that it was given
        ("pad0", "u8", 44),
        # written by the supervisor
        ("live", "u32", 1),  # 0: it is lent no more
        ("taken", "u32", 1),  # which of the files it has made its own
        ("context", "u32", 1),  # whose it is, and ...
        ("cwd", "u32", 1),  # ... where names begin, as in ring3_slot; 0: at the root
        ("flags", "u32", 1),  # open(2)'s access mode and status flags that the files are for
        ("umask", "u32", 1),
        ("uid", "u32", 1),  # of new files
        ("gid", "u32", 1),
        ("any_owner", "u32", 1),  # may they be given to others?
        ("prefix_len", "u32", 1),
        ("serial", "u32", 1),  # another one whenever new files were sent
        ("pad1", "u32", 1),
        ("dev", "u64", 1),
        ("ino", "u64", DRAFTS),  # 0: there is no such file
        ("prefix", "u8", DRAFT_PREFIX),  # what stands before a name
    ],
    # Behind it: what the core did with the files, DRAFTS times.
    "ring3_draft": [
        ("turn", "u32", 1),
        ("mode", "u32", 1),
        ("uid", "u32", 1),
        ("gid", "u32", 1),
        ("timed", "u32", 1),  # utimensat(2) has set atime and mtime, when the memfd's were base_atime and base_mtime
        ("name_len", "u32", 1),
        ("born", "s64", 1),  # times: ns
        ("ctime", "s64", 1),
        ("atime", "s64", 1),
        ("mtime", "s64", 1),
        ("base_atime", "s64", 1),
        ("base_mtime", "s64", 1),
        ("name", "u8", DRAFT_NAME),
    ],
    # One per thread.  Words are grouped by writer, one cache line apart.
    "ring3_slot": [
        ("req", "u32", 1),  # guest: number of the latest request
        ("tid", "u32", 1),
        ("sleeping", "u32", 1),  # guest: nobody looks at `rep` any more, it wants to be woken
        ("pad0", "u8", 52),
        ("rep", "u32", 1),  # supervisor: number of the latest reply; the futex word
        ("watched", "u32", 1),  # supervisor: it looks at `req` by itself, no doorbell is needed
        ("context", "u32", 1),  # supervisor, see kernel/answers.py: whose answers this thread may use, 0: none, and ...
        ("cwd", "u32", 1),  # ... where its relative paths start
        ("pad1", "u8", 48),
        # request, written by the guest (offset 128)
        ("kind", "u32", 1),
        ("pad2", "u32", 1),
        ("nr", "s64", 1),
        ("args", "u64", 6),
        ("ip", "u64", 1),
        ("sp", "u64", 1),
        ("result", "s64", 1),
        ("in_off", "u32", 6),
        ("in_len", "u32", 6),  # 0xffffffff: the pointer was NULL
        ("id_fd", "s32", 2),
        ("id_mode", "u32", 2),
        ("id_dev", "u64", 2),
        ("id_ino", "u64", 2),
        ("hash", "u32", 1),  # of a call that answers.c looked for
        ("pad3", "u8", 196),
        # reply, written by the supervisor (offset 512)
        ("r_result", "s64", 1),
        ("r_action", "u32", 1),
        ("r_nout", "u32", 1),
        ("r_nr", "s64", 1),
        ("r_args", "u64", 6),
        ("r_creds", "u32", 4),  # uid, euid, gid, egid; valid with ACT_CREDS
        ("out_addr", "u64", MAX_OUT),
        ("out_off", "u32", MAX_OUT),
        ("out_len", "u32", MAX_OUT),
    ],
    # One page per sandbox, read-only in every guest.
    "ring3_world": [
        ("version", "u32", 1),
        ("init_pid", "u32", 1),
        ("hook_enter", "u64", 8),  # bitmap over syscall numbers 0..511
        ("hook_flags", "u64", 1),  # HOOK_*
        ("uts", "u8", 390),
        ("pad", "u8", 2),
        ("native_calls", "u64", 8),  # bitmap of the calls that go through the native hook
        ("native_before", "u64", 1),  # its functions, 0 where it has none
        ("native_after", "u64", 1),
        ("native_beyond", "u64", 1),  # numbers outside of [0, 512) go through it too
        ("virtual_uids", "u32", 1),  # the host's uid of some guest is not the one that guests see
        ("trap_reports", "u32", 1),  # TRAPS_*
        ("page_zero", "u32", 1),  # programs that start get the slide of core_native/zpoline.c
        ("epoch", "u32", 1),  # of the answers that count
        ("check_answers", "u32", 1),  # ask in spite of them, and compare
        ("changes", "u32", 1),  # how often an answer was, or might have been, taken back
    ],
    # An answer that the core may give again (kernel/answers.py); `seq` is odd while it is written.
    "ring3_answer": [
        ("seq", "u32", 1),
        ("epoch", "u32", 1),
        ("nr", "u32", 1),
        ("key", "u32", 2),
        ("context", "u32", 1),
        ("cwd", "u32", 1),
        ("path_len", "u32", 1),
        ("out_len", "u32", 1),
        ("live", "u32", 1),  # `out` is a struct stat, and struct ring3_live is behind it
        ("result", "s64", 1),
        ("path", "u8", 208),
        ("out", "u8", 256),
    ],
    # Where the size and the times of a file that is in use are: the memfd with its bytes; and the change time that it
    # had when that of the file was known.
    "ring3_live": [
        ("dev", "u64", 1),
        ("ino", "u64", 1),
        ("ctime", "u64", 2),  # seconds, nanoseconds
    ],
    # Guest to supervisor over the process's socket.
    "ring3_msg": [
        ("kind", "u32", 1),
        ("slot", "u32", 1),
        ("a", "u64", 1),
        ("b", "u64", 1),
        ("c", "u64", 1),
        ("d", "u64", 1),
    ],
    # Supervisor to guest over the process's socket: descriptors travel with it.  With a plan, `flags` is its offset.
    "ring3_fdmsg": [
        ("kind", "u32", 1),
        ("slot", "u32", 1),
        ("flags", "u32", 1),
        ("count", "u32", 1),
    ],
    # The head of a plan (in the channel): then nseg segments, nzero zero ranges, the stack image.
    "ring3_plan": [
        ("version", "u32", 1),
        ("nseg", "u32", 1),
        ("nzero", "u32", 1),
        ("exec_stack", "u32", 1),
        ("entry", "u64", 1),
        ("sp", "u64", 1),
        ("brk", "u64", 1),
        ("stack_off", "u64", 1),
        ("stack_len", "u64", 1),
        ("comm", "u8", 16),
        ("creds", "u32", 4),
        ("initial", "u32", 1),
        ("native_hook", "u32", 1),  # the program has the native hook
        ("no_new_privs", "u32", 1),
        ("stop", "u32", 1),  # stop (SIGSTOP) before the first instruction, for a debugger
        # What the host's tools are told of the process (PR_SET_MM_MAP): the auxiliary vector in the stack image, ...
        ("auxv", "u64", 1),
        ("auxv_len", "u64", 1),
        ("arg_start", "u64", 1),
        ("arg_end", "u64", 1),
        ("env_end", "u64", 1),
        ("ngifts", "u32", 1),
        ("gifts_off", "u32", 1),
        ("gifts_epoch", "u32", 1),
        ("pad2", "u32", 1),
    ],
    # A file that was opened ahead: the open(2) that it is for, and its rewritten text, if there is one.
    "ring3_gift": [
        ("file", "s32", 1),  # indices into the files that came with the plan
        ("image", "s32", 1),
        ("flags", "u32", 1),
        ("rewritable", "u32", 1),
        ("dev", "u64", 1),
        ("ino", "u64", 1),
        ("start", "u64", 1),  # an executable segment: offset in the file, length, vaddr; then as REQ_IMAGE answers
        ("length", "u64", 1),
        ("vaddr", "u64", 1),
        ("delta", "u64", 1),
        ("tramp_offset", "u64", 1),
        ("tramp_length", "u64", 1),
        ("uses_gs", "u32", 1),
        ("cwd", "u32", 1),  # the number of the directory that the path is relative to, 0 for an absolute one
        ("path_len", "u32", 1),
        ("path", "u8", 164),
    ],
    "ring3_seg": [
        ("addr", "u64", 1),
        ("length", "u64", 1),
        ("offset", "u64", 1),
        ("prot", "u32", 1),
        ("flags", "u32", 1),
        ("file", "s32", 1),
        ("trampolines", "u32", 1),
    ],
    "ring3_zero": [("addr", "u64", 1), ("length", "u64", 1)],
    # Before each datagram, and each connection on a listener's pair: whom it is from.
    "ring3_peer": [
        ("len", "u32", 1),
        ("error", "u32", 1),
        ("addr", "u8", 128),
        ("control_len", "u64", 1),
        ("control", "u8", 120),  # control messages for the receiver, whole and aligned
    ],
    # Supervisor to init: start a guest.  Descriptors: stdin, stdout, stderr, its socket.
    "ring3_spawn": [
        ("kind", "u32", 1),
        ("token", "u32", 1),
        ("flags", "u32", 1),
        ("soft_nofile", "u32", 1),
        ("ignored", "u64", 1),
        ("blocked", "u64", 1),
    ],
    # Init to supervisor.
    "ring3_event": [
        ("kind", "u32", 1),
        ("token", "u32", 1),
        ("pid", "s32", 1),
        ("status", "s32", 1),
    ],
}

CONSTANTS: dict[str, int] = {
    "RING3_VERSION": VERSION,
    "RING3_CORE_BASE": CORE_BASE,
    "RING3_CORE_END": CORE_END,
    "RING3_FAST_ENTRY": FAST_ENTRY,
    "RING3_TRAMPOLINE_SIZE": TRAMPOLINE_SIZE,
    "RING3_WORLD_ADDR": WORLD_ADDR,
    "RING3_VDSO_TABLE": VDSO_TABLE,
    "RING3_NATIVE_HOOK": NATIVE_HOOK,
    "RING3_NATIVE_HOOK_END": NATIVE_HOOK + NATIVE_HOOK_SIZE,
    "RING3_SLOT_SIZE": SLOT_SIZE,
    "RING3_SLOT_COUNT": SLOT_COUNT,
    "RING3_SLOT_DATA": SLOT_DATA,
    "RING3_SLOT_DATA_SIZE": SLOT_DATA_SIZE,
    "RING3_CHANNEL_SIZE": CHANNEL_SIZE,
    "RING3_MAX_OUT": MAX_OUT,
    "RING3_LARGE_PLAN_OFFSET": LARGE_PLAN_OFFSET,
    "RING3_TRAP_SITES": TRAP_SITES,
    "RING3_CLOSED_SOCKETS": CLOSED_SOCKETS,
    "RING3_ANSWERS": ANSWERS,
    "RING3_ANSWER_PLACES": ANSWER_PLACES,
    "RING3_MAX_GIFTS": MAX_GIFTS,
    "RING3_RESERVED_FDS": RESERVED_FDS,
    "RING3_DRAFTS": DRAFTS,
    "RING3_DRAFT_NAME": DRAFT_NAME,
    "RING3_DRAFT_PREFIX": DRAFT_PREFIX,
    "RING3_DRAFT_BITS": DRAFT_BITS,
    "RING3_DRAFT_NAMES_OFFSET": DRAFT_NAMES_OFFSET,
    "RING3_DRAFT_NAMES_SIZE": DRAFT_NAMES_SIZE,
    "RING3_DRAFTS_OFFSET": DRAFTS_OFFSET,
    "RING3_STAT_SIZE": 144,  # struct stat
    "RING3_VDIRS": VDIRS,
    "RING3_VDIR_DEV": VDIR_DEV,
    "RING3_LISTINGS_SIZE": LISTINGS_SIZE,
    "RING3_ANSWERS_OFFSET": ANSWERS_OFFSET,
    "RING3_NULL": 0xFFFFFFFF,
    # request kinds
    "REQ_CALL": 1,
    "REQ_ENTER": 2,  # a hooked or traced call is about to be made
    "REQ_EXIT": 3,  # ... was made; `result` holds what it gave
    "REQ_CLASSIFY": 4,  # is descriptor id[0] a placeholder?
    "REQ_FORK": 5,  # args: clone flags; two descriptors come back
    "REQ_EXEC_ARGS": 6,  # a further piece of argv/envp
    "REQ_UID": 8,  # the virtual uid of process args[0], for a siginfo
    "REQ_IMAGE": 7,  # the rewritten text of file id[0], which is mapped executable at file offset args[0]
    "REQ_THREAD": 10,  # a thread is about to be made: its slot args[0], by clone flags args[1]
    "REQ_SITE": 9,  # the site args[0] trapped for the first time; args[1]: its place in trap_site, and from bit 32
    # on whether it is rewritten
    "REQ_MAP": 11,  # file id[0], which Python serves, is mapped: args are those of mmap(2); a descriptor comes back
    "REQ_DIR": 12,  # directory number args[0], opened with the flags args[1] and, if args[2], read to its end, is to
    # have a descriptor of the supervisor's; it comes back
    "REQ_DRAFTS": 13,  # the directory is lent no more: did the supervisor see file args[0] made?
    "RING3_DELIVER": 0x7FFFFFF3,  # not a call: a trap that only delivers a recorded signal (entry.S)
    # reply actions (low byte) and flags
    "ACT_RESULT": 0,
    "ACT_NATIVE": 1,
    "ACT_NATIVE_ARGS": 2,
    "ACT_FD": 3,
    "ACT_KILL_LIST": 4,
    "ACT_EXEC": 5,
    "ACT_NET": 6,  # the core does the call on its own; `result` is the class to set
    "ACT_VIA": 7,  # a datagram: send it over the descriptor that comes along, behind the header in `data`
    "ACT_DIR": 8,  # open(2) of a directory, which `result` is the number of: the core makes the descriptor (vdir.c)
    "ACT_REAL": 9,  # it has to be the supervisor's (REQ_DIR), then the call is made again
    "ACT_CREDS": 0x100,
    "ACT_REPORT": 0x10000,  # of a hooked call: tell its result (REQ_EXIT)
    "ACT_BUFFERS": 0x20000,  # with ACT_NATIVE_ARGS: out_addr names the arguments that the bytes are for
    "ACT_HANDLED": 0x40000,  # of a hooked call: the handler has run already
    # hook_flags of the world page
    "HOOK_UNKNOWN": 1,  # numbers outside 0..511 are hooked
    "HOOK_COUNT": 4,  # no hook: the core only counts
    "HOOK_SIGNALS": 2,  # MSG_SIGNAL for each signal that a handler gets
    "BUFFER_VECTOR": 0x100,  # with ACT_BUFFERS: the argument is a vector of offsets into its buffer, which ends with 0
    "ACT_NATIVE_FD": 0x200,  # the descriptor in argument 0 is native from now on
    "ACT_SIGPIPE": 0x400,
    # trap_reports of the world page
    "TRAPS_NEW": 1,  # REQ_SITE for each site that traps for the first time
    "TRAPS_ALL": 2,  # and for those that trap although they are rewritten
    # classes of a descriptor (a byte): the low bits, then what kind of socket a supervised one is
    "CLASS_NATIVE": 1,
    "CLASS_SUPERVISED": 2,
    "CLASS_MASK": 3,
    "CLASS_SOCKET": 4,
    "CLASS_LISTENER": 8,
    "CLASS_DATAGRAM": 16,
    "CLASS_TCP": 32,  # also of a native one: an AF_INET or AF_INET6 stream
    "CLASS_KEPT": 64,  # of a native one: core_native/kept.c has it too
    "CLASS_VDIR": 128,  # of a supervised one: it is a directory that only the core knows of (core_native/vdir.c)
    # messages, guest to supervisor
    "MSG_RING": 1,
    "MSG_CANCEL": 2,
    "MSG_HELLO": 3,
    "MSG_FORKED": 4,
    "MSG_CHILD": 5,
    "MSG_INT80": 6,
    "MSG_UNSUPPORTED": 8,  # the core refuses what a: UNSUPPORTED_*
    "UNSUPPORTED_LISTENER": 1,
    "MSG_SIGNAL": 7,
    # kinds of a descriptor message
    "FDS_ANSWER": 0,  # for the request of a slot
    "FDS_DRAFTS": 1,  # files that may be made without asking; `flags` has their numbers, by bits
    "FDS_PLAN": 2,  # of a program that starts; `flags`: where its plan is. Without any: ask for it
    # descriptor message flags
    "FD_CLOEXEC": 1,
    "FD_SUPERVISED": 2,
    "FD_CTTY": 4,
    "FD_CLASS_SHIFT": 8,  # above it: the class, when FD_SUPERVISED
    "FD_REWRITABLE_FILE": 8,
    "FD_KEEP": 16,  # it may be kept when the guest closes it; `result` is the epoch
    # spawn and event kinds and flags
    "SPAWN_START": 1,
    "SPAWN_NEW_SESSION": 1,
    "SPAWN_CTTY": 2,
    "SPAWN_NEW_PGRP": 4,
    "SPAWN_FOREGROUND": 8,
    "EVENT_STARTED": 1,
    "EVENT_EXITED": 2,
    "SPAWN_WITNESS": 2,  # no program: which signals has init seen?  EVENT_SIGNAL for each, then EVENT_WITNESSED
    "EVENT_SIGNAL": 3,  # pid: who sent it, status: its number
    "EVENT_WITNESSED": 4,
    "EVENT_LOCKED": 5,  # status: LOCKED_*; pid: a child of the supervisor's that has ended, 0 for none.  With
    # LOCKED_PIDS comes the directory /proc of the namespace, in which init is process 1
    # what the lock-down has come to (core_native/lockdown.c)
    "LOCKED_FILTER": 1,  # the seccomp filter
    "LOCKED_RIGHTS": 2,  # no capability, and no way to one
    "LOCKED_PATHS": 4,  # Landlock: no path, no port
    "LOCKED_SCOPE": 8,  # Landlock: no signal to others, no abstract socket of others
    "LOCKED_ROOT": 16,  # an empty root directory
    "LOCKED_SPACES": 32,  # namespaces of its own: network, IPC, UTS, cgroup
    "LOCKED_PIDS": 64,  # a PID namespace of its own
    # the process group and session that lie outside of the PID namespace: the pid of a process that init has used up
    "PGRP_OUTSIDE": 2,
}


def _offsets(fields: list[Field]) -> tuple[dict[str, int], int]:
    at, out, widest = 0, {}, 1
    for name, ctype, count in fields:
        size = _SIZES[ctype]
        at = (at + size - 1) // size * size
        out[name] = at
        at += size * count
        widest = max(widest, size)
    return out, (at + widest - 1) // widest * widest


OFFSETS: dict[str, dict[str, int]] = {}
SIZES: dict[str, int] = {}
for _name, _fields in C_STRUCTS.items():
    OFFSETS[_name], SIZES[_name] = _offsets(_fields)

assert SIZES["ring3_proc_page"] <= DRAFTS_OFFSET
assert DRAFTS_OFFSET + SIZES["ring3_drafts"] + DRAFTS * SIZES["ring3_draft"] <= SLOT_SIZE

#: where the listings begin behind the world page
LISTINGS_OFFSET = ANSWERS_OFFSET + ANSWERS * SIZES["ring3_answer"]
CONSTANTS["RING3_LISTINGS_OFFSET"] = LISTINGS_OFFSET


def offset(struct: str, field: str) -> int:
    """Byte offset of `field` in `struct`.  Raises KeyError for a name that is not declared."""
    return OFFSETS[struct][field]


def asm_header() -> str:
    """The constants alone, for the assembler."""
    hooks = WORLD_ADDR + OFFSETS["ring3_world"]["hook_enter"]
    values = {**CONSTANTS, "RING3_WORLD_HOOKS": hooks}
    return "".join(f"#define {name} {value:#x}\n" for name, value in values.items())


def c_header() -> str:
    """The C header of everything declared here, with an assertion for each offset and size."""
    lines = ["/* Written by core_native/gen.py from kernel/layout.py. */", "#pragma once", ""]
    for name, value in CONSTANTS.items():
        lines.append(f"#define {name} {value:#x}{'UL' if value > 0xFFFFFFFF else ''}")
    for name, fields in C_STRUCTS.items():
        lines.append(f"\nstruct {name} {{")
        for field, ctype, count in fields:
            lines.append(f"\t{ctype} {field}{f'[{count}]' if count > 1 else ''};")
        lines.append("};")
        for field, at in OFFSETS[name].items():
            lines.append(
                f'_Static_assert(__builtin_offsetof(struct {name}, {field}) == {at}, "{name}.{field}");'
            )
        lines.append(f'_Static_assert(sizeof(struct {name}) == {SIZES[name]}, "{name}");')
    return "\n".join(lines) + "\n"
