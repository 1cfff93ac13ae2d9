"""Names of numbers: the flags and enumerations of Linux's user API, in the order in which strace writes them.

Layer: the pretend kernel, trace.  May touch: nothing.  Numbers: include/uapi of Linux 6.18, x86-64.
"""

from __future__ import annotations

import errno
import signal


def _table(text: str) -> dict[int, str]:
    """`NAME=0x10 NAME NAME`: without a number, the next one."""
    out: dict[int, str] = {}
    number = -1
    for word in text.split():
        name, equals, value = word.partition("=")
        number = int(value, 0) if equals else number + 1
        out.setdefault(number, name)
    return out


def _prefixed(prefix: str, text: str) -> dict[int, str]:
    return {number: prefix + name for number, name in _table(text).items()}


TABLES: dict[str, dict[int, str]] = {
    "whence": _prefixed("SEEK_", "SET=0 CUR END DATA HOLE"),
    "open": _prefixed(
        "O_",
        "CREAT=0x40 EXCL=0x80 NOCTTY=0x100 TRUNC=0x200 APPEND=0x400 NONBLOCK=0x800 SYNC=0x101000 DSYNC=0x1000"
        " DIRECT=0x4000 LARGEFILE=0x8000 NOFOLLOW=0x20000 NOATIME=0x40000 CLOEXEC=0x80000 PATH=0x200000"
        " TMPFILE=0x410000 DIRECTORY=0x10000 FASYNC=0x2000",
    ),
    "openflags": _prefixed("O_", "NONBLOCK=0x800 DIRECT=0x4000 CLOEXEC=0x80000"),
    "at": _prefixed(
        "AT_",
        "SYMLINK_NOFOLLOW=0x100 REMOVEDIR=0x200 SYMLINK_FOLLOW=0x400 NO_AUTOMOUNT=0x800 EMPTY_PATH=0x1000",
    ),
    "at_access": _prefixed("AT_", "SYMLINK_NOFOLLOW=0x100 EACCESS=0x200 EMPTY_PATH=0x1000"),
    "at_unlink": _prefixed("AT_", "REMOVEDIR=0x200"),
    "rwf": _prefixed("RWF_", "HIPRI=1 DSYNC=2 SYNC=4 NOWAIT=8 APPEND=16"),
    "splice": _prefixed("SPLICE_F_", "MOVE=1 NONBLOCK=2 MORE=4 GIFT=8"),
    "fadvise": _prefixed("POSIX_FADV_", "NORMAL=0 RANDOM SEQUENTIAL WILLNEED DONTNEED NOREUSE"),
    "sync_range": _prefixed("SYNC_FILE_RANGE_", "WAIT_BEFORE=1 WRITE=2 WAIT_AFTER=4"),
    "falloc": _prefixed(
        "FALLOC_FL_",
        "KEEP_SIZE=1 PUNCH_HOLE=2 NO_HIDE_STALE=4 COLLAPSE_RANGE=8 ZERO_RANGE=16 INSERT_RANGE=32 UNSHARE_RANGE=64",
    ),
    "flock": _prefixed("LOCK_", "SH=1 EX=2 NB=4 UN=8 MAND=32 READ=64 WRITE=128"),
    "close_range": _prefixed("CLOSE_RANGE_", "UNSHARE=2 CLOEXEC=4"),
    "fcntl": _prefixed(
        "F_",
        "DUPFD=0 GETFD SETFD GETFL SETFL GETLK SETLK SETLKW SETOWN GETOWN SETSIG GETSIG SETOWN_EX=15 GETOWN_EX"
        " OFD_GETLK=36 OFD_SETLK OFD_SETLKW SETLEASE=1024 GETLEASE NOTIFY CANCELLK=1029 DUPFD_CLOEXEC SETPIPE_SZ"
        " GETPIPE_SZ ADD_SEALS GET_SEALS GET_RW_HINT=1035 SET_RW_HINT GET_FILE_RW_HINT SET_FILE_RW_HINT",
    ),
    "seals": _prefixed("F_SEAL_", "SEAL=1 SHRINK=2 GROW=4 WRITE=8 FUTURE_WRITE=16 EXEC=32"),
    "lock": _prefixed("F_", "RDLCK=0 WRLCK UNLCK"),
    "efd": _prefixed("EFD_", "SEMAPHORE=1 NONBLOCK=0x800 CLOEXEC=0x80000"),
    "tfd": _prefixed("TFD_", "NONBLOCK=0x800 CLOEXEC=0x80000"),
    "tfd_timer": _prefixed("TFD_TIMER_", "ABSTIME=1 CANCEL_ON_SET=2"),
    "mfd": _prefixed("MFD_", "CLOEXEC=1 ALLOW_SEALING=2 HUGETLB=4 NOEXEC_SEAL=8 EXEC=16"),
    "poll": _table(
        "POLLIN=1 POLLPRI=2 POLLOUT=4 POLLRDNORM=0x40 POLLRDBAND=0x80 POLLWRNORM=0x100 POLLWRBAND=0x200 POLLMSG=0x400"
        " POLLREMOVE=0x1000 POLLRDHUP=0x2000 POLLERR=8 POLLHUP=0x10 POLLNVAL=0x20"
    ),
    "epoll": _prefixed(
        "EPOLL",
        "IN=1 PRI=2 OUT=4 RDNORM=0x40 RDBAND=0x80 WRNORM=0x100 WRBAND=0x200 MSG=0x400 ERR=8 HUP=0x10 RDHUP=0x2000"
        " EXCLUSIVE=0x10000000 WAKEUP=0x20000000 ONESHOT=0x40000000 ET=0x80000000",
    ),
    "epoll_create": _table("EPOLL_CLOEXEC=0x80000"),
    "epoll_ctl": _prefixed("EPOLL_CTL_", "ADD=1 DEL MOD"),
    "access": _table("R_OK=4 W_OK=2 X_OK=1"),
    "rename": _prefixed("RENAME_", "NOREPLACE=1 EXCHANGE=2 WHITEOUT=4"),
    "xattr": _prefixed("XATTR_", "CREATE=1 REPLACE=2"),
    "statx": _prefixed(
        "STATX_",
        "ALL=0xfff BASIC_STATS=0x7ff TYPE=1 MODE=2 NLINK=4 UID=8 GID=0x10 ATIME=0x20 MTIME=0x40 CTIME=0x80 INO=0x100"
        " SIZE=0x200 BLOCKS=0x400 BTIME=0x800 MNT_ID=0x1000 DIOALIGN=0x2000 MNT_ID_UNIQUE=0x4000 SUBVOL=0x8000",
    ),
    "statx_attr": _prefixed(
        "STATX_ATTR_",
        "COMPRESSED=4 IMMUTABLE=0x10 APPEND=0x20 NODUMP=0x40 ENCRYPTED=0x800 AUTOMOUNT=0x1000 MOUNT_ROOT=0x2000"
        " VERITY=0x100000 DAX=0x200000",
    ),
    "file_type": _table(
        "S_IFSOCK=0o140000 S_IFLNK=0o120000 S_IFREG=0o100000 S_IFBLK=0o60000 S_IFDIR=0o40000 S_IFCHR=0o20000"
        " S_IFIFO=0o10000"
    ),
    "prot": _prefixed("PROT_", "READ=1 WRITE=2 EXEC=4 SEM=8 GROWSDOWN=0x1000000 GROWSUP=0x2000000"),
    "map_type": _prefixed("MAP_", "SHARED=1 PRIVATE SHARED_VALIDATE"),
    "map": _prefixed(
        "MAP_",
        "FIXED=0x10 ANONYMOUS=0x20 32BIT=0x40 GROWSDOWN=0x100 DENYWRITE=0x800 EXECUTABLE=0x1000 LOCKED=0x2000"
        " NORESERVE=0x4000 POPULATE=0x8000 NONBLOCK=0x10000 STACK=0x20000 HUGETLB=0x40000 SYNC=0x80000"
        " FIXED_NOREPLACE=0x100000",
    ),
    "mremap": _prefixed("MREMAP_", "MAYMOVE=1 FIXED=2 DONTUNMAP=4"),
    "msync": _prefixed("MS_", "ASYNC=1 INVALIDATE=2 SYNC=4"),
    "madvise": _prefixed(
        "MADV_",
        "NORMAL=0 RANDOM SEQUENTIAL WILLNEED DONTNEED FREE=8 REMOVE DONTFORK DOFORK MERGEABLE UNMERGEABLE HUGEPAGE"
        " NOHUGEPAGE DONTDUMP DODUMP WIPEONFORK KEEPONFORK COLD PAGEOUT POPULATE_READ POPULATE_WRITE DONTNEED_LOCKED"
        " COLLAPSE HWPOISON=100 SOFT_OFFLINE GUARD_INSTALL GUARD_REMOVE",
    ),
    "mlockall": _prefixed("MCL_", "CURRENT=1 FUTURE=2 ONFAULT=4"),
    "clone": _prefixed(
        "CLONE_",
        "VM=0x100 FS=0x200 FILES=0x400 SIGHAND=0x800 PIDFD=0x1000 PTRACE=0x2000 VFORK=0x4000 PARENT=0x8000"
        " THREAD=0x10000 NEWNS=0x20000 SYSVSEM=0x40000 SETTLS=0x80000 PARENT_SETTID=0x100000 CHILD_CLEARTID=0x200000"
        " DETACHED=0x400000 UNTRACED=0x800000 CHILD_SETTID=0x1000000 NEWCGROUP=0x2000000 NEWUTS=0x4000000"
        " NEWIPC=0x8000000 NEWUSER=0x10000000 NEWPID=0x20000000 NEWNET=0x40000000 IO=0x80000000"
        " CLEAR_SIGHAND=0x100000000 INTO_CGROUP=0x200000000",
    ),
    "wait": _table(
        "WNOHANG=1 WSTOPPED=2 WEXITED=4 WCONTINUED=8 WNOWAIT=0x1000000 __WCLONE=0x80000000 __WALL=0x40000000"
        " __WNOTHREAD=0x20000000"
    ),
    "wait4": _table(
        "WNOHANG=1 WUNTRACED=2 WCONTINUED=8 __WCLONE=0x80000000 __WALL=0x40000000 __WNOTHREAD=0x20000000"
    ),
    "idtype": _prefixed("P_", "ALL=0 PID PGID PIDFD"),
    "prctl": _prefixed(
        "PR_",
        "SET_PDEATHSIG=1 GET_PDEATHSIG GET_DUMPABLE SET_DUMPABLE GET_UNALIGN SET_UNALIGN GET_KEEPCAPS SET_KEEPCAPS"
        " GET_FPEMU SET_FPEMU GET_FPEXC SET_FPEXC GET_TIMING SET_TIMING SET_NAME GET_NAME GET_SECCOMP=21 SET_SECCOMP"
        " CAPBSET_READ CAPBSET_DROP GET_TSC SET_TSC GET_SECUREBITS SET_SECUREBITS SET_TIMERSLACK GET_TIMERSLACK"
        " SET_MM=35 SET_CHILD_SUBREAPER GET_CHILD_SUBREAPER SET_NO_NEW_PRIVS GET_NO_NEW_PRIVS GET_TID_ADDRESS"
        " SET_THP_DISABLE GET_THP_DISABLE CAP_AMBIENT=47 SET_SYSCALL_USER_DISPATCH=59 SET_VMA=0x53564d41"
        " SET_PTRACER=0x59616d61",
    ),
    "arch_prctl": _prefixed(
        "ARCH_",
        "SET_GS=0x1001 SET_FS GET_FS GET_GS GET_CPUID=0x1011 SET_CPUID GET_XCOMP_SUPP=0x1021 GET_XCOMP_PERM"
        " REQ_XCOMP_PERM CET_STATUS=0x3001",
    ),
    "pidfd": _prefixed("PIDFD_", "NONBLOCK=0x800 THREAD=0x80"),
    "futex": _prefixed(
        "FUTEX_",
        "WAIT=0 WAKE FD REQUEUE CMP_REQUEUE WAKE_OP LOCK_PI UNLOCK_PI TRYLOCK_PI WAIT_BITSET WAKE_BITSET"
        " WAIT_REQUEUE_PI CMP_REQUEUE_PI LOCK_PI2",
    ),
    "membarrier": _prefixed(
        "MEMBARRIER_CMD_",
        "QUERY=0 GLOBAL=1 GLOBAL_EXPEDITED=2 REGISTER_GLOBAL_EXPEDITED=4 PRIVATE_EXPEDITED=8"
        " REGISTER_PRIVATE_EXPEDITED=16 PRIVATE_EXPEDITED_SYNC_CORE=32 REGISTER_PRIVATE_EXPEDITED_SYNC_CORE=64"
        " PRIVATE_EXPEDITED_RSEQ=128 REGISTER_PRIVATE_EXPEDITED_RSEQ=256",
    ),
    "sig_how": _prefixed("SIG_", "BLOCK=0 UNBLOCK SETMASK"),
    "sa": _prefixed(
        "SA_",
        "RESTORER=0x4000000 ONSTACK=0x8000000 RESTART=0x10000000 NODEFER=0x40000000 RESETHAND=0x80000000 SIGINFO=4"
        " NOCLDSTOP=1 NOCLDWAIT=2",
    ),
    "ss": _prefixed("SS_", "ONSTACK=1 DISABLE=2 AUTODISARM=0x80000000"),
    "clock": _prefixed(
        "CLOCK_",
        "REALTIME=0 MONOTONIC PROCESS_CPUTIME_ID THREAD_CPUTIME_ID MONOTONIC_RAW REALTIME_COARSE MONOTONIC_COARSE"
        " BOOTTIME REALTIME_ALARM BOOTTIME_ALARM SGI_CYCLE TAI",
    ),
    "sigev": _prefixed("SIGEV_", "SIGNAL=0 NONE THREAD THREAD_ID=4"),
    "sfd": _prefixed("SFD_", "NONBLOCK=0x800 CLOEXEC=0x80000"),
    "timer": _table("TIMER_ABSTIME=1"),
    "itimer": _prefixed("ITIMER_", "REAL=0 VIRTUAL PROF"),
    "sched": _prefixed("SCHED_", "OTHER=0 FIFO RR BATCH IDLE=5 DEADLINE EXT"),
    "prio": _prefixed("PRIO_", "PROCESS=0 PGRP USER"),
    "rlimit": _prefixed(
        "RLIMIT_",
        "CPU=0 FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME",
    ),
    "rusage": _prefixed("RUSAGE_", "CHILDREN=-1 SELF THREAD"),
    "grnd": _prefixed("GRND_", "NONBLOCK=1 RANDOM=2 INSECURE=4"),
    "af": _prefixed(
        "AF_",
        "UNSPEC=0 UNIX INET AX25 IPX APPLETALK NETROM BRIDGE ATMPVC X25 INET6 ROSE DECnet NETBEUI SECURITY KEY NETLINK"
        " PACKET ALG=38 VSOCK=40 XDP=44",
    ),
    "sock_type": _prefixed("SOCK_", "STREAM=1 DGRAM RAW RDM SEQPACKET DCCP PACKET=10"),
    "sock": _prefixed("SOCK_", "CLOEXEC=0x80000 NONBLOCK=0x800"),
    "ipproto": _prefixed(
        "IPPROTO_", "IP=0 ICMP IGMP TCP=6 UDP=17 IPV6=41 ICMPV6=58 SCTP=132 UDPLITE=136 RAW=255 MPTCP=262"
    ),
    "netlink": _prefixed(
        "NETLINK_", "ROUTE=0 USERSOCK=2 FIREWALL SOCK_DIAG AUDIT=9 KOBJECT_UEVENT=15 GENERIC"
    ),
    "shut": _prefixed("SHUT_", "RD=0 WR RDWR"),
    "msg": _prefixed(
        "MSG_",
        "OOB=1 PEEK=2 DONTROUTE=4 CTRUNC=8 PROBE=0x10 TRUNC=0x20 DONTWAIT=0x40 EOR=0x80 WAITALL=0x100 FIN=0x200"
        " SYN=0x400 CONFIRM=0x800 RST=0x1000 ERRQUEUE=0x2000 NOSIGNAL=0x4000 MORE=0x8000 WAITFORONE=0x10000"
        " ZEROCOPY=0x4000000 FASTOPEN=0x20000000 CMSG_CLOEXEC=0x40000000",
    ),
    "sol": _prefixed("SOL_", "IP=0 SOCKET=1 TCP=6 UDP=17 IPV6=41 RAW=255 NETLINK=270"),
    "opt1": _prefixed(
        "SO_",
        "DEBUG=1 REUSEADDR TYPE ERROR DONTROUTE BROADCAST SNDBUF RCVBUF KEEPALIVE OOBINLINE NO_CHECK PRIORITY LINGER"
        " BSDCOMPAT REUSEPORT PASSCRED PEERCRED RCVLOWAT SNDLOWAT RCVTIMEO_OLD SNDTIMEO_OLD BINDTODEVICE=25"
        " ATTACH_FILTER DETACH_FILTER PEERNAME TIMESTAMP_OLD ACCEPTCONN PEERSEC SNDBUFFORCE RCVBUFFORCE PASSSEC"
        " TIMESTAMPNS_OLD MARK TIMESTAMPING_OLD PROTOCOL DOMAIN RXQ_OVFL WIFI_STATUS PEEK_OFF INCOMING_CPU=49"
        " ZEROCOPY=60 PEERPIDFD=77",
    ),
    "opt6": _prefixed(
        "TCP_",
        "NODELAY=1 MAXSEG CORK KEEPIDLE KEEPINTVL KEEPCNT SYNCNT LINGER2 DEFER_ACCEPT WINDOW_CLAMP INFO QUICKACK"
        " CONGESTION MD5SIG USER_TIMEOUT=18 FASTOPEN=23",
    ),
    "opt0": _prefixed(
        "IP_",
        "TOS=1 TTL HDRINCL OPTIONS ROUTER_ALERT RECVOPTS RETOPTS PKTINFO PKTOPTIONS MTU_DISCOVER RECVERR RECVTTL"
        " RECVTOS MTU FREEBIND BIND_ADDRESS_NO_PORT=24 MULTICAST_IF=32 MULTICAST_TTL MULTICAST_LOOP ADD_MEMBERSHIP",
    ),
    "opt41": _prefixed(
        "IPV6_",
        "ADDRFORM=1 2292PKTINFO UNICAST_HOPS=16 MULTICAST_IF MULTICAST_HOPS MULTICAST_LOOP MTU_DISCOVER=23 MTU RECVERR"
        " V6ONLY RECVPKTINFO=49 PKTINFO",
    ),
    "ioctl": _table(
        "TCGETS=0x5401 TCSETS TCSETSW TCSETSF TCGETA TCSETA TCSETAW TCSETAF TCSBRK TCXONC TCFLSH TIOCEXCL TIOCNXCL"
        " TIOCSCTTY TIOCGPGRP TIOCSPGRP TIOCOUTQ TIOCSTI TIOCGWINSZ TIOCSWINSZ TIOCMGET TIOCMBIS TIOCMBIC TIOCMSET"
        " TIOCGSOFTCAR TIOCSSOFTCAR FIONREAD TIOCLINUX TIOCCONS TIOCGSERIAL TIOCSSERIAL TIOCPKT FIONBIO TIOCNOTTY"
        " TIOCSETD TIOCGETD TCSBRKP TIOCGSID=0x5429 FIONCLEX=0x5450 FIOCLEX FIOASYNC FIOQSIZE=0x5460"
        " TCGETS2=0x802c542a TCSETS2=0x402c542b TIOCGPTN=0x80045430 TIOCSPTLCK=0x40045431 TIOCGPTPEER=0x5441"
        " BLKGETSIZE64=0x80081272 FICLONERANGE=0x4020940d FS_IOC_GETFLAGS=0x80086601"
        " FS_IOC_SETFLAGS=0x40086602 FS_IOC_FIEMAP=0xc020660b SIOCGIFCONF=0x8912 SIOCGIFFLAGS=0x8913"
        " SIOCGIFADDR=0x8915 SIOCGIFINDEX=0x8933 SIOCATMARK=0x8905"
    ),
    "fs_magic": _table(
        "TMPFS_MAGIC=0x01021994 EXT2_SUPER_MAGIC=0xef53 PROC_SUPER_MAGIC=0x9fa0 SYSFS_MAGIC=0x62656572"
        " DEVPTS_SUPER_MAGIC=0x1cd1 OVERLAYFS_SUPER_MAGIC=0x794c7630 XFS_SUPER_MAGIC=0x58465342"
        " BTRFS_SUPER_MAGIC=0x9123683e RAMFS_MAGIC=0x858458f6 PIPEFS_MAGIC=0x50495045 SOCKFS_MAGIC=0x534f434b"
        " NFS_SUPER_MAGIC=0x6969 FUSE_SUPER_MAGIC=0x65735546"
    ),
    "si_code": _prefixed(
        "SI_",
        "USER=0 KERNEL=0x80 QUEUE=-1 TIMER=-2 MESGQ=-3 ASYNCIO=-4 SIGIO=-5 TKILL=-6 DETHREAD=-7 ASYNCNL=-60",
    ),
    "cld": _prefixed("CLD_", "EXITED=1 KILLED DUMPED TRAPPED STOPPED CONTINUED"),
    "segv": _prefixed("SEGV_", "MAPERR=1 ACCERR BNDERR PKUERR"),
    "bus": _prefixed("BUS_", "ADRALN=1 ADRERR OBJERR MCEERR_AR MCEERR_AO"),
    "fpe": _prefixed("FPE_", "INTDIV=1 INTOVF FLTDIV FLTOVF FLTUND FLTRES FLTINV FLTSUB"),
    "ill": _prefixed("ILL_", "ILLOPC=1 ILLOPN ILLADR ILLTRP PRVOPC PRVREG COPROC BADSTK"),
    "trap": _prefixed("TRAP_", "BRKPT=1 TRACE BRANCH HWBKPT UNK"),
}

TABLES["ioctl"] |= {
    0x5402: "SNDCTL_TMR_START or TCSETS",
    0x5403: "SNDCTL_TMR_STOP or TCSETSW",
    0x5404: "SNDCTL_TMR_CONTINUE or TCSETSF",
}
TABLES["ioctl"][0x40049409] = "BTRFS_IOC_CLONE or FICLONE"


def flags(table: str, value: int, zero: str = "0") -> str:
    """Flags joined with |, the unknown rest in hexadecimal."""
    names = []
    rest = value
    for bits, name in TABLES[table].items():
        if bits and rest & bits == bits:
            names.append(name)
            rest &= ~bits
    if rest:
        names.append(hex(rest) if names else f"{rest:#x} /* {_unknown(table)} */")
    return "|".join(names) or zero


def one(table: str, value: int) -> str:
    """The name of one value, or `0x5 /* AF_??? */`."""
    name = TABLES[table].get(value)
    return name if name is not None else f"{value:#x} /* {_unknown(table)} */"


def _unknown(table: str) -> str:
    names = list(TABLES[table].values())
    return names[0].partition("_")[0] + "_???"


_SIGNALS = {int(s): s.name for s in signal.Signals} | {6: "SIGABRT", 29: "SIGIO", 17: "SIGCHLD"}
SIGRTMIN = 32  # the kernel's: libc keeps the first two for itself


def signal_name(number: int) -> str:
    """SIGCHLD, SIGRT_5, or the number."""
    if 32 <= number <= 64:
        return "SIGRTMIN" if number == SIGRTMIN else f"SIGRT_{number - SIGRTMIN}"
    return _SIGNALS.get(number, str(number))


def signal_set(mask: int) -> str:
    """[INT CHLD], ~[KILL STOP], as strace writes a sigset."""
    inverted = bin(mask & (1 << 64) - 1).count("1") >= 64 * 2 // 3
    names = [
        signal_name(n).removeprefix("SIG") for n in range(1, 65) if bool(mask >> (n - 1) & 1) != inverted
    ]
    return ("~" if inverted else "") + "[" + " ".join(names) + "]"


def errno_name(number: int) -> str:
    return errno.errorcode.get(number, f"ERRNO_{number}") if number != errno.EAGAIN else "EAGAIN"
