/*
 * The pieces of Linux's user ABI that the core needs (include/uapi and arch/x86/include/uapi of the kernel
 * describe them), and the raw system call.  Layer: lowest.  Touches: nothing.
 */
#pragma once

enum {
	EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, E2BIG = 7, ENOEXEC = 8, EBADF = 9, EAGAIN = 11, ENOMEM = 12,
	EACCES = 13, EFAULT = 14, EINVAL = 22, EMFILE = 24, ENOTTY = 25, ENAMETOOLONG = 36, ENOSYS = 38, ENODEV = 19, EOVERFLOW = 75,
	EEXIST = 17, ENOTSOCK = 88, EOPNOTSUPP = 95, EISCONN = 106, ERESTARTSYS = 512, EPIPE = 32, ECONNRESET = 104, ENOTCONN = 107,
};

enum {
	SIGHUP = 1, SIGINT = 2, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9, SIGSEGV = 11,
	SIGPIPE = 13, SIGTERM = 15, SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22,
	SIGURG = 23, SIGWINCH = 28, SIGSYS = 31,
};

#define SIG_DFL 0UL
#define SIG_IGN 1UL
#define SA_NOCLDSTOP 1UL
#define SA_NOCLDWAIT 2UL
#define SA_SIGINFO 4UL
#define SA_EXPOSE_TAGBITS 0x800UL
#define SA_RESTORER 0x04000000UL
#define SA_ONSTACK 0x08000000UL
#define SA_RESTART 0x10000000UL
#define SA_NODEFER 0x40000000UL
#define SA_RESETHAND 0x80000000UL
#define SS_ONSTACK 1
#define SS_DISABLE 2
#define SS_AUTODISARM (1 << 31)
#define SIG_BLOCK 0
#define SIG_UNBLOCK 1
#define SIG_SETMASK 2
#define SI_USER 0
#define SI_KERNEL 0x80
#define SI_SIGIO -5
#define RING3_SI_CODE 0x52330000 /* si_errno of an SI_SIGIO of the supervisor's, with the si_code meant: kernel/dnotify.py */
#define SYS_USER_DISPATCH 2
#define AUDIT_ARCH_X86_64 0xc000003eU

#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define PROT_GROWSDOWN 0x01000000
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MAP_NORESERVE 0x4000
#define MAP_FIXED_NOREPLACE 0x100000
#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED 2
#define MREMAP_DONTUNMAP 4

/* include/uapi/linux/auxvec.h */
#define AT_PHDR 3
#define AT_BASE 7
#define AT_ENTRY 9
#define AT_PLATFORM 15
#define AT_RANDOM 25
#define AT_EXECFN 31
#define AT_SYSINFO_EHDR 33

#define AT_FDCWD (-100)
#define AT_EMPTY_PATH 0x1000
#define O_CREAT 0100
#define O_EXCL 0200
#define O_NOCTTY 0400
#define O_TRUNC 01000
#define O_NONBLOCK 04000
#define O_LARGEFILE 0100000
#define O_CLOEXEC 02000000
#define O_ACCMODE 3
#define O_RDONLY 0
#define O_WRONLY 1
#define O_PATH 010000000
#define O_NOATIME 01000000
#define O_NOFOLLOW 0400000
#define F_DUPFD 0
#define F_GETFD 1
#define F_SETFD 2
#define F_GETFL 3
#define F_SETFL 4
#define F_SETOWN 8
#define F_DUPFD_CLOEXEC 1030
#define F_NOTIFY 1026
#define SEEK_SET 0
#define F_SETLK 6
#define F_SETLKW 7
#define F_SETLEASE 1024
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFDIR 0040000

#define CLONE_VM 0x100UL
#define CLONE_FS 0x200UL
#define CLONE_FILES 0x400UL
#define CLONE_SIGHAND 0x800UL
#define CLONE_PIDFD 0x1000UL
#define CLONE_VFORK 0x4000UL
#define CLONE_PARENT 0x8000UL
#define CLONE_THREAD 0x10000UL
#define CLONE_NEWNS 0x20000UL
#define CLONE_SYSVSEM 0x40000UL
#define CLONE_SETTLS 0x80000UL
#define CLONE_PARENT_SETTID 0x100000UL
#define CLONE_CHILD_CLEARTID 0x200000UL
#define CLONE_DETACHED 0x400000UL
#define CLONE_UNTRACED 0x800000UL
#define CLONE_CHILD_SETTID 0x1000000UL
#define CLONE_NEW_OTHER 0x7e000080UL /* every CLONE_NEW* but CLONE_NEWNS, CLONE_NEWTIME among them */
#define CLONE_NEWTIME 0x80UL
#define CLONE_CLEAR_SIGHAND 0x100000000UL
#define CLONE_NEWCGROUP 0x02000000UL
#define CLONE_NEWUTS 0x04000000UL
#define CLONE_NEWIPC 0x08000000UL
#define CLONE_NEWUSER 0x10000000UL
#define CLONE_NEWPID 0x20000000UL
#define CLONE_NEWNET 0x40000000UL
#define CLONE_INTO_CGROUP 0x200000000UL
#define CSIGNAL 0xffUL

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define FUTEX_PRIVATE_FLAG 128

#define PR_SET_PDEATHSIG 1
#define PR_SET_NAME 15
#define PR_SET_CHILD_SUBREAPER 36
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1

#define RLIMIT_STACK 3
#define RLIMIT_NOFILE 7
#define SOL_SOCKET 1
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define UIO_MAXIOV 1024
#define SCM_RIGHTS 1
#define MSG_OOB 1
#define MSG_PEEK 2
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_WAITALL 0x100
#define MSG_NOSIGNAL 0x4000
#define MSG_CTRUNC 8
#define MSG_CMSG_CLOEXEC 0x40000000

#define FP_XSTATE_MAGIC1 0x46505853U

struct siginfo_ {
	s32 si_signo, si_errno, si_code, pad;
	union {
		struct {
			s32 pid;
			u32 uid;
		} kill;
		struct {
			u64 addr;
		} fault;
		struct {
			u64 call_addr;
			s32 syscall;
			u32 arch;
		} sys;
		u8 raw[112];
	};
};
_Static_assert(sizeof(struct siginfo_) == 128, "siginfo");

struct sigcontext_ {
	u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
	u16 cs, gs, fs, ss;
	u64 err, trapno, oldmask, cr2, fpstate, reserved[8];
};

struct ucontext_ {
	u64 flags, link;
	struct {
		u64 sp;
		s32 flags, pad;
		u64 size;
	} stack;
	struct sigcontext_ mc;
	u64 sigmask;
};
_Static_assert(sizeof(struct ucontext_) == 304, "ucontext");

struct sigframe_ {
	u64 pretcode;
	struct ucontext_ uc;
	struct siginfo_ info;
};

struct clone_args {
	u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

struct iovec_ {
	u64 base, len;
};

struct msghdr_ {
	u64 name;
	u32 namelen, pad;
	u64 iov, iovlen, control, controllen;
	s32 flags, pad2;
};

struct cmsghdr_ {
	u64 len;
	s32 level, type;
};

struct pollfd_ {
	int fd;
	short events, revents;
};

struct kstat_ {
	u64 dev, ino, nlink;
	u32 mode, uid, gid, pad;
	u64 rdev, size, blksize, blocks;
	u64 atime[2], mtime[2], ctime[2]; /* seconds, nanoseconds */
	u64 rest[4];
};
_Static_assert(sizeof(struct kstat_) == 152, "stat"); /* 144 in the kernel; a spare word for safety */

struct rlimit_ {
	u64 cur, max;
};

struct sock_filter_ { /* an instruction of a seccomp filter */
	u16 code;
	u8 jt, jf;
	u32 k;
};
_Static_assert(sizeof(struct sock_filter_) == 8, "sock_filter");

struct sock_fprog_ {
	u16 length, pad[3];
	u64 insns;
};

static inline s64 raw6(s64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	register u64 r10 __asm__("r10") = d;
	register u64 r8 __asm__("r8") = e;
	register u64 r9 __asm__("r9") = f;
	s64 ret;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#define RAW_PICK(_0, _1, _2, _3, _4, _5, _6, name, ...) name
#define RAW0(n) raw6(n, 0, 0, 0, 0, 0, 0)
#define RAW1(n, a) raw6(n, (u64)(a), 0, 0, 0, 0, 0)
#define RAW2(n, a, b) raw6(n, (u64)(a), (u64)(b), 0, 0, 0, 0)
#define RAW3(n, a, b, c) raw6(n, (u64)(a), (u64)(b), (u64)(c), 0, 0, 0)
#define RAW4(n, a, b, c, d) raw6(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), 0, 0)
#define RAW5(n, a, b, c, d, e) raw6(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), 0)
#define RAW6(n, a, b, c, d, e, f) raw6(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))
#define sys(...) RAW_PICK(__VA_ARGS__, RAW6, RAW5, RAW4, RAW3, RAW2, RAW1, RAW0)(__VA_ARGS__)
