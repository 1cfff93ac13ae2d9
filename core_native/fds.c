/*
 * Descriptors: closing, duplicating, fcntl, ioctl, limits, and the two that belong to the core.
 * Layer: core functions.  Touches: the class cache of the process and the host's RLIMIT_NOFILE.
 *
 * The core's socket and executable live just above the soft limit, where the kernel gives nothing out; raising the
 * limit moves them.
 */
#include "core.h"

static void forget(struct thread *t, int fd)
{
	if (fd >= 0 && fd < FD_TABLE)
		t->proc->fd_class[fd] = FD_UNKNOWN;
}

/* What `fd` was is about to end. */
static void ends(struct thread *t, int fd)
{
	if (t->proc->has_tcp && fd >= 0 && fd < FD_TABLE && t->proc->fd_class[fd] == (FD_NATIVE | CLASS_TCP))
		tcp_ends(t, fd);
}

static void same_class(struct thread *t, int from, s64 to)
{
	if (to < 0 || to >= FD_TABLE)
		return;
	u8 class = (u32)from < FD_TABLE ? t->proc->fd_class[from] : FD_UNKNOWN;
	t->proc->fd_class[to] = class;
	if (class & CLASS_VDIR)
		vdir_same(t->proc, from, to);
}

s64 fn_close(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	s64 result;
	if (is_core_fd(t, fd))
		return -EBADF;
	if (kept_close(t->proc, fd, &result))
		return result;
	ends(t, fd);
	vdir_closed(t->proc, fd, fd);
	forget(t, fd);
	/* close(2) must not be started twice: it is never restarted, also where a signal is recorded. */
	return sys(NR_close, fd);
}

s64 fn_close_range(struct thread *t, struct call *c)
{
	u32 first = c->a[0], last = c->a[1], flags = c->a[2];
	if (first > last || (flags & ~6U))
		return -EINVAL;
	if (flags & 2) { /* CLOSE_RANGE_UNSHARE: one thread has them for itself anyway */
		for (u32 i = 0; i < RING3_SLOT_COUNT; i++)
			if (i != t->slot_nr && bit_of(t->proc->slots, i))
				return -EINVAL;
		flags &= ~2U;
	}
	gifts_drop(t->proc);
	kept_drop(t->proc);
	if (!(flags & 4))
		vdir_closed(t->proc, first, last);
	u32 own[2] = {t->proc->sock, t->proc->exe};
	if (own[0] > own[1]) {
		u32 swap = own[0];
		own[0] = own[1];
		own[1] = swap;
	}
	if (!(flags & 4))
		for (u32 fd = first; fd <= last && fd < FD_TABLE; fd++)
			t->proc->fd_class[fd] = FD_UNKNOWN;
	s64 r = 0;
	for (int i = 0; i < 2 && !r; i++) {
		if (own[i] < first || own[i] > last)
			continue;
		if (own[i] > first)
			r = sys(NR_close_range, first, own[i] - 1, flags);
		first = own[i] + 1;
	}
	return r || first > last ? r : sys(NR_close_range, first, last, flags);
}

s64 fn_dup(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	if (is_core_fd(t, fd))
		return -EBADF;
	kept_leave(t->proc, fd);
	s64 r = vdir_room(t, fd);
	if (r)
		return r;
	r = native(t, c);
	same_class(t, fd, r);
	return r;
}

s64 fn_dup2(struct thread *t, struct call *c)
{
	int from = (int)c->a[0], to = (int)c->a[1];
	if (is_core_fd(t, from) || is_core_fd(t, to))
		return -EBADF;
	kept_leave(t->proc, from);
	kept_leave(t->proc, to);
	s64 r = vdir_room(t, from);
	if (r)
		return r;
	if (from != to)
		ends(t, to);
	r = native(t, c);
	if (r >= 0 && from != to) {
		vdir_closed(t->proc, to, to);
		same_class(t, from, r);
	}
	return r;
}
s64 fn_dup3(struct thread *t, struct call *c) { return fn_dup2(t, c); }

/* What is kept must not be in the way of what a fcntl(2) does. */
static void make_way(struct proc *p, int fd, int command)
{
	if (command == F_SETLK || command == F_SETLKW) {
		kept_never(p);
		draft_leave(p, fd);
		drafts_settle(p);
	} else if (command != F_GETFD && command != F_SETFD && command != F_GETFL)
		kept_leave(p, fd);
}

s64 fn_fcntl(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	if (is_core_fd(t, fd))
		return -EBADF;
	make_way(t->proc, fd, (int)c->a[1]);
	switch ((int)c->a[1]) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC: {
		s64 r = vdir_room(t, fd);
		if (r)
			return r;
		r = native(t, c);
		same_class(t, fd, r);
		return r;
	}
	case F_GETFD:
	case F_SETFD:
		return native(t, c);
	case F_SETOWN:
		if (((s32)c->a[2] == t->proc->pid || !(s32)c->a[2]) && fd_class(t, fd) != FD_PLACEHOLDER)
			return native(t, c);
		/* fallthrough */
	case 15: /* F_SETOWN_EX: signals to whom the guest may not signal */
		return supervise(t, c, REQ_CALL);
	case F_GETFL: {
		u32 known = vdir_flags(t->proc, fd);
		if (known)
			return known;
		if (fd_class(t, fd) == FD_PLACEHOLDER)
			return supervise(t, c, REQ_CALL);
		s64 flags = native(t, c);
		/* How the supervisor opened a host file is not the guest's affair. */
		return flags < 0 ? flags : flags & ~(O_NOATIME | O_NOFOLLOW);
	}
	case 1036: /* F_SET_RW_HINT: of the inode */
		return supervise(t, c, REQ_CALL);
	case F_SETFL:
		/* Who may have it depends on the file's owner, which for the host kernel is another one. */
		if (c->a[2] & O_NOATIME)
			return supervise(t, c, REQ_CALL);
		break;
	case F_SETLEASE:
	case F_NOTIFY:
		return supervise(t, c, REQ_CALL);
	}
	return fd_class(t, fd) == FD_PLACEHOLDER ? supervise(t, c, REQ_CALL) : native(t, c);
}

/* FS_IOC_GETFLAGS, _SETFLAGS, _FSGETXATTR, _FSSETXATTR: of an inode, which is the supervisor's. */
static int is_flags_request(u32 request)
{
	return request == 0x80086601 || request == 0x40086602 || request == 0x801c581f || request == 0x401c5820;
}

/* FIGETBSZ: whatever has an inode has blocks. */
static s64 block_size(int fd, u64 to)
{
	struct kstat_ st;
	s64 r = sys(NR_fstat, fd, &st);
	s32 size = (s32)st.blksize;
	return r < 0 ? r : copy_out(to, &size, 4) ? -EFAULT : 0;
}

/*
 * ioctl(2) on a kernel object: terminals, pipes and sockets have theirs; everything else is ENOTTY, since a host
 * file that is open for reading must not be changed through one.
 */
s64 fn_ioctl(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	u32 request = c->a[1];
	if (is_core_fd(t, fd))
		return -EBADF;
	if (request == 0x5450 || request == 0x5451) /* FIONCLEX, FIOCLEX: not of an O_PATH descriptor */
		return fd_class(t, fd) == FD_PLACEHOLDER ? supervise(t, c, REQ_CALL) : native(t, c);
	if (request == 0x5421 || request == 0x5452) /* FIONBIO, FIOASYNC */
		kept_leave(t->proc, fd);
	if (request == 0x541b && (fd_bits(t, fd) & CLASS_DATAGRAM)) /* FIONREAD */
		return net_fionread(fd, c->a[2]);
	if (request == 2 && (fd_class(t, fd) != FD_PLACEHOLDER || (fd_bits(t, fd) & CLASS_SOCKET)))
		return block_size(fd, c->a[2]);
	if (fd_class(t, fd) == FD_PLACEHOLDER || request >> 8 == 0x89 || is_flags_request(request))
		return supervise(t, c, REQ_CALL);
	if (request == 0x5412 || request == 0x541c) /* TIOCSTI, TIOCLINUX: typing into the caller's terminal */
		return -EPERM;
	if (is_group_request(request))
		return group_ioctl(t, c);
	if ((request >> 8) == 0x54 || (request & 0xffff00ff) >> 8 == 0x800054 || (request >> 8 & 0xff) == 'T')
		return native(t, c);
	if ((request >> 8 & 0xff) == 0x52 || request == 0x80085210)
		return native(t, c); /* RND*: entropy counts of the random devices */
	/* The kernel's own errno for a descriptor that is not open. */
	s64 r = sys(NR_fcntl, fd, F_GETFD);
	if (r < 0)
		return r;
	/* FICLONE, FICLONERANGE, FIDEDUPERANGE: no filesystem here shares blocks. */
	return request == 0x40049409 || request == 0x4020940d || request == 0xc0189436 ? -EOPNOTSUPP : -ENOTTY;
}

/* Give the kernel's soft limit the value `soft` (clamped to what the host's hard limit allows). */
void set_nofile(u64 soft)
{
	struct rlimit_ lim;
	sys(NR_prlimit64, 0, RLIMIT_NOFILE, NULL, &lim);
	lim.cur = soft < lim.max ? soft : lim.max;
	sys(NR_prlimit64, 0, RLIMIT_NOFILE, &lim, NULL);
}

/* Move a descriptor of ours above the soft limit, which stays what it is.  Returns the new number. */
int fd_to_top(struct proc *p, int fd)
{
	set_nofile(p->soft_nofile + RING3_RESERVED_FDS);
	s64 r = sys(NR_fcntl, fd, F_DUPFD, p->soft_nofile);
	set_nofile(p->soft_nofile);
	if (r < 0)
		return fd;
	sys(NR_close, fd);
	return r;
}

/* RLIMIT_NOFILE as the guest sees it: the hard limit without our reserve. */
static void virtual_limit(struct thread *t, struct rlimit_ *lim)
{
	lim->cur = t->proc->soft_nofile;
	lim->max = lim->max >= RING3_RESERVED_FDS ? lim->max - RING3_RESERVED_FDS : lim->max;
	if (lim->cur > lim->max)
		lim->cur = lim->max;
}

static s64 nofile_limit(struct thread *t, const struct rlimit_ *set, struct rlimit_ *old)
{
	struct rlimit_ host, seen;
	sys(NR_prlimit64, 0, RLIMIT_NOFILE, NULL, &host);
	seen = host;
	virtual_limit(t, &seen);
	*old = seen;
	if (!set)
		return 0;
	if (set->cur > set->max)
		return -EINVAL;
	if (set->max > seen.max && (t->creds[1] != 0 || set->max > 1048576))
		return -EPERM;
	struct proc *p = t->proc;
	gifts_drop(p);
	kept_drop(p);
	u64 want = set->cur < seen.max ? set->cur : seen.max;
	lock(&p->rx_lock);
	if (set->max < seen.max) {
		struct rlimit_ lower = {want, set->max + RING3_RESERVED_FDS};
		sys(NR_prlimit64, 0, RLIMIT_NOFILE, &lower, NULL);
	}
	if (want > p->soft_nofile) {
		u32 before = p->soft_nofile;
		p->soft_nofile = want;
		int sock = p->sock, exe = p->exe;
		if ((u32)sock >= before && (u32)sock < want) {
			set_nofile(want + RING3_RESERVED_FDS);
			s64 s = sys(NR_fcntl, sock, F_DUPFD, want), e = sys(NR_fcntl, exe, F_DUPFD, want);
			if (s >= 0)
				__atomic_store_n(&p->sock, s, __ATOMIC_RELEASE);
			if (e >= 0)
				__atomic_store_n(&p->exe, e, __ATOMIC_RELEASE);
			if (s >= 0)
				sys(NR_close, sock);
			if (e >= 0)
				sys(NR_close, exe);
		}
	}
	p->soft_nofile = want;
	set_nofile(want);
	unlock(&p->rx_lock);
	return 0;
}

static s64 limit(struct thread *t, struct call *c, u64 new, u64 old)
{
	struct rlimit_ set, was;
	if ((u32)c->a[0] != RLIMIT_NOFILE)
		return -ENOSYS;
	if (new && copy_in(&set, new, sizeof set))
		return -EFAULT;
	s64 r = nofile_limit(t, new ? &set : NULL, &was);
	if (!r && old && copy_out(old, &was, sizeof was))
		return -EFAULT;
	return r;
}

s64 fn_getrlimit(struct thread *t, struct call *c)
{
	if ((u32)c->a[0] == RLIMIT_NOFILE && c->a[1])
		return limit(t, c, 0, c->a[1]);
	return !c->a[1] || in_core(c->a[1]) ? -EFAULT : native(t, c);
}

s64 fn_setrlimit(struct thread *t, struct call *c)
{
	return (u32)c->a[0] == RLIMIT_NOFILE ? limit(t, c, c->a[1], 0) : native(t, c);
}

s64 fn_prlimit64(struct thread *t, struct call *c)
{
	s32 pid = (s32)c->a[0];
	if (pid && pid != t->proc->pid && pid != t->tid)
		return supervise(t, c, REQ_CALL);
	c->a[0] = 0; /* the filter lets nobody name another process (lockdown.c) */
	if ((u32)c->a[1] != RLIMIT_NOFILE)
		return in_core(c->a[2]) || in_core(c->a[3]) ? -EFAULT : native(t, c);
	struct call shifted = *c;
	shifted.a[0] = RLIMIT_NOFILE;
	return limit(t, &shifted, c->a[2], c->a[3]);
}
