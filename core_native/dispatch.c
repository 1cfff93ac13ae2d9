/*
 * The three lanes: which of them answers a call, and the marshalling that the table asks for.
 * Layer: above the channel, below the trap.  Touches: the request half of the slot.
 */
#include "core.h"

struct sysdesc {
	u8 known, lane, fn, argc, remember;
	u8 kind[6];
	u16 param[6];
};
static const struct sysdesc table[NR_TABLE] = {SYSCALL_TABLE};

typedef s64 core_fn(struct thread *, struct call *);
#define ENTRY(f) [FN_##f] = fn_##f,
static core_fn *const functions[] = {CORE_FUNCTIONS(ENTRY)};
#undef ENTRY

int is_core_fd(struct thread *t, int fd)
{
	struct proc *p = t->proc;
	if (fd < 0)
		return 0;
	return fd == p->sock || fd == p->exe ||
	       (unlikely((p->ngifts || p->nkept || p->ndrafts) && fd >= (int)p->soft_nofile) &&
		(gift_owns(p, fd) || kept_owns(p, fd) || draft_owns(p, fd)));
}

/* The call exactly as the guest made it; -ERESTARTSYS when a signal is recorded first. */
s64 native(struct thread *t, struct call *c)
{
	return safe_syscall(c->nr, c->a, &t->pending);
}

/* The identity of a descriptor into the request.  0 or -EBADF. */
s64 identify(struct thread *t, u32 i, int fd)
{
	struct kstat_ st;
	u32 directory = vdir_number(t->proc, fd);
	if (directory) {
		t->slot->id_fd[i] = fd;
		t->slot->id_mode[i] = S_IFDIR;
		t->slot->id_dev[i] = RING3_VDIR_DEV;
		t->slot->id_ino[i] = directory;
		return 0;
	}
	s64 r = is_core_fd(t, fd) ? -EBADF : sys(NR_fstat, fd, &st);
	t->slot->id_fd[i] = fd;
	t->slot->id_mode[i] = 0;
	t->slot->id_dev[i] = t->slot->id_ino[i] = 0;
	if (r)
		return -EBADF;
	t->slot->id_mode[i] = st.mode;
	/* connect(2) depends on it, and nobody but the host kernel keeps it. */
	if ((st.mode & S_IFMT) == S_IFSOCK && (sys(NR_fcntl, fd, F_GETFL) & O_NONBLOCK))
		t->slot->id_mode[i] |= 1U << 31;
	t->slot->id_dev[i] = st.dev;
	t->slot->id_ino[i] = st.ino;
	return 0;
}

/* CLASS_* of a descriptor.  One that is not open counts as native: the kernel says EBADF. */
u32 fd_bits(struct thread *t, int fd)
{
	u8 *cached = fd >= 0 && fd < FD_TABLE ? &t->proc->fd_class[fd] : NULL;
	if (cached && *cached)
		return *cached;
	struct kstat_ st;
	if (sys(NR_fstat, fd, &st))
		return FD_NATIVE;
	u32 found = FD_NATIVE;
	if ((st.mode & S_IFMT) == S_IFSOCK) {
		identify(t, 0, fd);
		t->slot->id_fd[1] = -1;
		if (ask(t, REQ_CLASSIFY) == ACT_RESULT && t->slot->r_result)
			found = t->slot->r_result;
	}
	if (cached)
		*cached = found;
	return found;
}

/* A socket is connected: the host kernel's from now on. */
void fd_connected(struct thread *t, u64 fd)
{
	u8 tcp = t->proc->fd_class[fd] & CLASS_TCP;
	t->proc->has_tcp |= tcp;
	t->proc->fd_class[fd] = FD_NATIVE | tcp;
}

u32 fd_class(struct thread *t, int fd)
{
	return fd_bits(t, fd) & CLASS_MASK;
}

/* Copy `n` bytes of guest memory into the slot's data area as argument i. */
static s64 marshal_bytes(struct thread *t, u32 i, u64 from, u64 n, u32 *used)
{
	struct ring3_slot *s = t->slot;
	if (!from && !n)
		n = 0;
	if (n > RING3_SLOT_DATA_SIZE - *used)
		n = RING3_SLOT_DATA_SIZE - *used;
	s->in_off[i] = *used;
	s->in_len[i] = n;
	if (n && copy_in(slot_data(t) + *used, from, n))
		return -EFAULT;
	*used += ALIGN_UP(n, 8);
	return 0;
}

static s64 marshal_string(struct thread *t, u32 i, u64 from, u32 max, u32 *used)
{
	struct ring3_slot *s = t->slot;
	s64 n = copy_str((char *)slot_data(t) + *used, from, max);
	if (n < 0)
		return n;
	if (n == max)
		return -ENAMETOOLONG;
	s->in_off[i] = *used;
	s->in_len[i] = n;
	*used += ALIGN_UP(n + 1, 8);
	return 0;
}

static s64 marshal_one(struct thread *t, struct call *c, const struct sysdesc *d, u32 i, u32 *used)
{
	u64 value = c->a[i];
	t->slot->in_len[i] = RING3_NULL;
	switch (d->kind[i]) {
	case K_PATH_NULL:
	case K_STR_NULL:
		if (!value)
			return 0;
		/* fallthrough */
	case K_PATH:
		return marshal_string(t, i, value, 4096, used);
	case K_STR: {
		s64 r = marshal_string(t, i, value, 257, used);
		return r == -ENAMETOOLONG ? -34 /* ERANGE: xattr(7) names */ : r;
	}
	case K_IN:
	case K_INOUT:
		return value ? marshal_bytes(t, i, value, d->param[i], used) : 0;
	case K_SMALL:
		return (s32)c->a[d->param[i]] < 0 ? 0 : marshal_bytes(t, i, value, (u32)c->a[d->param[i]], used);
	case K_INBUF:
		return marshal_bytes(t, i, value, c->a[d->param[i]], used);
	case K_IOV:
		if ((u32)c->a[d->param[i]] > 1024) /* import_iovec() takes 32 bits of it */
			return -EINVAL;
		return marshal_bytes(t, i, value, (u32)c->a[d->param[i]] * sizeof(struct iovec_), used);
	}
	return 0;
}

/* Descriptors after names, as Linux looks at them; a dirfd only where its path is relative. A dirfd that is not open
 * goes on as one without a type: whether another argument is wrong in an earlier place, the supervisor finds out. So
 * does the other descriptor of a call that only a placeholder brought to the supervisor. */
static s64 marshal_fds(struct thread *t, struct call *c, const struct sysdesc *d)
{
	s64 result = 0;
	u32 ids = 0;
	t->slot->id_fd[0] = t->slot->id_fd[1] = -1;
	for (u32 i = 0; i < d->argc; i++) {
		if (d->kind[i] != K_FD && d->kind[i] != K_DIRFD)
			continue;
		int fd = (int)c->a[i];
		if (d->kind[i] == K_DIRFD) {
			u32 len = t->slot->in_len[i + 1];
			int absolute = len != RING3_NULL && len && slot_data(t)[t->slot->in_off[i + 1]] == '/';
			/* RESOLVE_IN_ROOT makes a dirfd matter for an absolute path too. */
			if (absolute && c->nr == NR_openat2 && fd != AT_FDCWD) {
				identify(t, ids++, fd);
				continue;
			}
			if (fd == AT_FDCWD || absolute) {
				t->slot->id_fd[ids++] = AT_FDCWD;
				continue;
			}
		}
		if (identify(t, ids, fd) && d->kind[i] == K_FD) {
			t->slot->id_fd[ids] = -1; /* whatever number it was: AT_FDCWD means something */
			if (d->lane != LANE_KERNEL)
				result = -EBADF;
		}
		ids++;
	}
	return result;
}

/* The request half of the slot.  The first error is returned; what could not be read is NULL there. */
static s64 marshal_call(struct thread *t, struct call *c, const struct sysdesc *d)
{
	u32 used = 0;
	s64 result = 0;
	struct ring3_slot *s = t->slot;
	s->nr = c->nr;
	s->ip = c->ip;
	s->sp = c->sp;
	for (u32 i = 0; i < 6; i++)
		s->args[i] = c->a[i];
	for (u32 i = 0; i < d->argc; i++) {
		s64 r = marshal_one(t, c, d, i, &used);
		if (r)
			s->in_len[i] = RING3_NULL;
		if (!result)
			result = r;
	}
	s64 r = marshal_fds(t, c, d);
	return result ? result : r;
}

static const struct sysdesc unknown_call = {0, LANE_CORE, FN_enosys, 6, 0, {0}, {0}};
static const struct sysdesc *describe(s64 nr)
{
	return nr >= 0 && nr < NR_TABLE && table[nr].known ? &table[nr] : &unknown_call;
}

s64 marshal(struct thread *t, struct call *c)
{
	return marshal_call(t, c, describe(c->nr));
}

/* Put the call to the supervisor: the action that it answers, or a negative errno. */
s64 put_call(struct thread *t, struct call *c, u32 kind)
{
	if (t->pending && !t->heedless)
		return -ERESTARTSYS;
	const struct sysdesc *d = describe(c->nr);
	s64 r = unlikely(t->proc->nvdirs) ? vdir_real_for(t, c, d->kind, d->argc) : 0;
	if (!r)
		r = marshal_call(t, c, d);
	return r ? r : ask(t, kind);
}

/* Put the call to the supervisor and do what it says. */
s64 supervise(struct thread *t, struct call *c, u32 kind)
{
	return ask_finish(t, c, put_call(t, c, kind));
}

static int wants_frame(const struct sysdesc *d)
{
	if (d->lane != LANE_CORE)
		return 0;
	switch (d->fn) {
	case FN_fork: case FN_vfork: case FN_clone: case FN_clone3: case FN_execve: case FN_execveat:
	case FN_sigreturn: case FN_sigsuspend: case FN_sigprocmask:
	case FN_arch_prctl: /* the fast tail needs GS as it was */
		return 1;
	}
	return 0;
}

/* Those of them that every program's start makes have a way of their own without one. */
static int does_without(const struct sysdesc *d, const struct call *c)
{
	return d->fn == FN_sigprocmask || (d->fn == FN_arch_prctl && (int)c->a[0] == 0x1002 /* ARCH_SET_FS */);
}

/* Calls that read or change the trap's frame: they take the slow way. */
int needs_frame(s64 nr)
{
	return wants_frame(describe(nr));
}

/* Ask for the rewritten text of a file.  0 when a descriptor for it is on its way. */
s64 request_image(struct thread *t, int fd, u64 offset)
{
	if (identify(t, 0, fd))
		return -EBADF;
	t->slot->id_fd[1] = -1;
	t->slot->args[0] = offset;
	s64 action = ask(t, REQ_IMAGE);
	return action == ACT_FD ? 0 : -ENOENT;
}

/* Ask for what is to be mapped instead of a file that Python serves.  0 when a descriptor is on its way. */
s64 request_map(struct thread *t, const struct call *c)
{
	s64 r = vdir_real(t, (int)c->a[4]);
	if (r)
		return r;
	if (identify(t, 0, (int)c->a[4]))
		return -EBADF;
	t->slot->id_fd[1] = -1;
	for (int i = 0; i < 6; i++)
		t->slot->args[i] = c->a[i];
	s64 action = ask(t, REQ_MAP);
	if (action < 0)
		return action;
	return (action & 0xff) == ACT_FD ? 0 : (action & 0xff) == ACT_RESULT && (s64)t->slot->r_result < 0 ? t->slot->r_result : -EIO;
}

static int changes_schedule(s64 nr)
{
	return nr == NR_sched_setparam || nr == NR_sched_setscheduler || nr == NR_sched_setaffinity || nr == NR_sched_setattr;
}

static s64 kernel_lane(struct thread *t, struct call *c, const struct sysdesc *d)
{
	if (unlikely(c->nr == NR_socketpair && (int)c->a[0] != AF_UNIX))
		return supervise(t, c, REQ_CALL); /* which knows what the host says to that, and no guest may ask */
	for (u32 i = 0; i < d->argc; i++) {
		int value = (int)c->a[i];
		switch (d->kind[i]) {
		case K_FD:
			if (unlikely(is_core_fd(t, value)))
				return -EBADF;
			c->a[i] = (u32)value; /* the kernel looks at no more of it */
			u32 bits = fd_bits(t, value);
			if (unlikely((bits & CLASS_MASK) == FD_PLACEHOLDER))
				return bits & CLASS_SOCKET ? net_call(t, c) : supervise(t, c, REQ_CALL);
			if (unlikely(bits & CLASS_TCP) && (c->nr == NR_write || c->nr == NR_writev))
				return tcp_send(t, c);
			if (unlikely(bits & CLASS_TCP) && c->nr == NR_shutdown)
				return tcp_shutdown(t, c);
			if (unlikely(bits & CLASS_TCP) && c->nr == NR_recvfrom && (c->a[3] & MSG_TRUNC))
				return tcp_skip(t, c);
			break;
		case K_PTR:
		case K_INBUF:
		case K_IOV:
			if (unlikely(in_core(c->a[i])))
				return -EFAULT;
			break;
		case K_PID:
			/* The filter lets nobody but the thread itself be changed: of another one the supervisor does it. */
			if (changes_schedule(c->nr) && value == t->tid)
				value = c->a[i] = 0;
			else if (changes_schedule(c->nr) && value != 0)
				return supervise(t, c, REQ_CALL);
			if (value < 0 && c->nr != NR_kill) /* no process has it: the kernel's own errno */
				break;
			if (value != 0 && value != t->proc->pid && value != t->tid)
				return supervise(t, c, REQ_CALL);
			/* kill(0) would reach the supervisor's process group */
			if (value == 0 && c->nr == NR_kill)
				return supervise(t, c, REQ_CALL);
			break;
		}
	}
	s64 r = native(t, c);
	if (unlikely(r == -ECONNRESET) && c->a[0] < FD_TABLE && (t->proc->fd_class[c->a[0]] & CLASS_TCP))
		tcp_was_reset((int)c->a[0]);
	return r;
}

/* For functions of the core: the call in the kernel's lane. */
s64 native_checked(struct thread *t, struct call *c)
{
	return kernel_lane(t, c, describe(c->nr));
}

static inline s64 run_described(struct thread *t, struct call *c, const struct sysdesc *d)
{
	s64 result;
	if (unlikely(t->guarded) && !seccomp_allows(t, c, AUDIT_ARCH_X86_64, &result))
		return result;
	switch (d->lane) {
	case LANE_CORE:
		return functions[d->fn](t, c);
	}
	if (unlikely(t->proc->ndrafts) && d->lane == LANE_SUP && draft_call(t, c, &result))
		return result;
	if (unlikely(t->proc->nkept || t->proc->ndrafts))
		kept_used(t->proc, c, d->kind, d->argc);
	if (d->lane == LANE_KERNEL)
		return kernel_lane(t, c, d);
	if (d->remember && answer_known(t, c, d->kind, d->argc, &result))
		return result;
	return supervise(t, c, REQ_CALL);
}

s64 run_lane(struct thread *t, struct call *c)
{
	return run_described(t, c, describe(c->nr));
}

s64 dispatch(struct thread *t, struct call *c)
{
	return unlikely(somebody_listens(c->nr)) ? hooked_dispatch(t, c) : run_lane(t, c);
}

/* A call through the fast entry.  0: done; 1: it needs the frame that only a trap makes. */
int core_fast(struct fast_frame *f)
{
	struct thread *t = thread_of((u64)f);
	if (unlikely(f->trap == (u64)zp_mark)) {
		u64 trap = zp_trap_of(f->ret);
		f->trap = trap ? trap : (u64)zp_null;
		if (!trap)
			return 1;
		t->guest_sp += 8;
	}
	struct call c = {(int)f->rax, {f->rdi, f->rsi, f->rdx, f->r10, f->r8, f->r9}, f->ret, t->guest_sp, NULL};
	const struct sysdesc *d = describe(c.nr);
	if (wants_frame(d) && !does_without(d, &c))
		return 1;
	t->fast_nr = f->rax;
	do
		f->rax = unlikely(somebody_listens(c.nr)) ? hooked_dispatch(t, &c) : run_described(t, &c, d);
	while (unlikely((s64)f->rax == -ERESTARTSYS && !t->pending));
	t->fast_result = f->rax;
	return 0;
}
