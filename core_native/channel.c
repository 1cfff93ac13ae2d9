/*
 * The channel: one request at a time per thread, through its slot in the process's shared memory.
 * Layer: between dispatch and the supervisor.  Touches: the slot, the process's socket, descriptors that arrive on it.
 *
 * The guest fills the slot, sends a doorbell over the socket unless the supervisor is looking at the slot anyway
 * (`watched`), looks at the slot's `rep` word for a while and then sleeps on it (`sleeping`).  Descriptors come
 * over the socket before the reply is published; several threads may wait for theirs at once, so whoever
 * reads a message meant for another thread leaves it in that thread's mailbox.
 */
#include "core.h"

u8 *slot_data(struct thread *t)
{
	return (u8 *)t->slot + RING3_SLOT_DATA;
}

/* Send one message to the supervisor, with a descriptor unless fd is negative. */
static void post(struct thread *t, struct ring3_msg *msg, int fd)
{
	struct iovec_ iov = {(u64)msg, sizeof *msg};
	struct {
		struct cmsghdr_ head;
		int fd, pad;
	} control = {{sizeof(struct cmsghdr_) + sizeof(int), SOL_SOCKET, SCM_RIGHTS}, fd, 0};
	struct msghdr_ hdr = {.iov = (u64)&iov, .iovlen = 1};
	if (fd >= 0) {
		hdr.control = (u64)&control;
		hdr.controllen = sizeof control;
	}
	for (;;) {
		/* The process's socket may have been moved by another thread (setrlimit): read it anew. */
		s64 r = sys(NR_sendmsg, __atomic_load_n(&t->proc->sock, __ATOMIC_ACQUIRE), &hdr, MSG_NOSIGNAL);
		if (likely(r > 0))
			return;
		if (r == -EINTR || r == -EAGAIN || r == -EBADF)
			continue;
		sys(NR_exit_group, 125); /* the supervisor is gone, and so is the world */
	}
}

/* Whoever looks at the slots must read this message before a later request: see kernel/watch.py. */
static void announce(struct thread *t)
{
	__atomic_add_fetch(&((struct ring3_proc_page *)t->proc->chan)->posted, 1, __ATOMIC_SEQ_CST);
}

void ring(struct thread *t, u32 kind, u64 a, u64 b, int fd)
{
	struct ring3_msg msg = {.kind = kind, .slot = t->slot_nr, .a = a, .b = b};
	if (kind != MSG_RING)
		announce(t);
	post(t, &msg, fd);
}

/* A trace wants to know of each signal that a handler gets: the head of its siginfo. */
void note_signal(struct thread *t, const struct siginfo_ *info)
{
	if (likely(!(world()->hook_flags & HOOK_SIGNALS)))
		return;
	struct ring3_msg msg = {.kind = MSG_SIGNAL, .slot = t->slot_nr};
	msg.a = (u32)info->si_signo | (u64)(u32)info->si_code << 32;
	memcpy(&msg.b, info->raw, 8);
	memcpy(&msg.c, info->raw + 8, 8);
	msg.d = t->tid;
	announce(t);
	post(t, &msg, -1);
}

/*
 * Waking a sleeper on an idle CPU costs more than most answers take (docs/design.md), so look for the answer a while
 * before sleeping: in rounds, each of which lets others run.  After looks in vain, ever more calls sleep at once; but
 * those that do look, look for the whole time, or a slow answer or two would end all looking.
 *
 * Where the CPU is shared with a thread that does not yield, a supervisor with much to do or a program that computes, a
 * round may take until the scheduler's next tick.  Then many calls sleep: who is woken runs at once, elsewhere if need be.
 */
#define SPIN_ROUNDS 96
#define SPIN_SKIP_MAX 32
#define SPIN_SKIP_MAX_SHARED 1024
#define SPIN_LOST_NS 500000
static int spin(struct thread *t, struct ring3_slot *s, u32 request)
{
	if (t->spin_skip) {
		t->spin_skip--;
		return 0;
	}
	u32 vain = t->spin_vain ? t->spin_vain * 2 : 1, most = SPIN_SKIP_MAX;
	u64 then = clock_ns();
	for (u32 i = 0; i < SPIN_ROUNDS && !t->pending; i++) {
		for (int j = 0; j < 16; j++) {
			if (__atomic_load_n(&s->rep, __ATOMIC_ACQUIRE) == request) {
				t->spin_vain = 0;
				return 1;
			}
			__builtin_ia32_pause();
		}
		sys(NR_sched_yield);
		u64 now = clock_ns();
		if (now - then > SPIN_LOST_NS) {
			vain = vain < SPIN_SKIP_MAX ? SPIN_SKIP_MAX : vain;
			most = SPIN_SKIP_MAX_SHARED;
			break;
		}
		then = now;
	}
	t->spin_vain = vain < most ? vain : most;
	t->spin_skip = t->spin_vain - 1;
	return 0;
}

/* Make one request and wait for its reply.  Returns the reply's action; -ERESTARTSYS when a signal came first. */
s64 ask(struct thread *t, u32 kind)
{
	struct ring3_slot *s = t->slot;
	u32 request = __atomic_load_n(&s->rep, __ATOMIC_RELAXED) + 1; /* not our own count: slots are used again */
	s->kind = kind;
	s->tid = t->tid;
	s->sleeping = 0;
	t->cancelled = 0;
	/* An exchange is a full barrier: either the supervisor sees the request, or we see that it looks no more. */
	__atomic_exchange_n(&s->req, request, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&s->watched, __ATOMIC_ACQUIRE))
		ring(t, MSG_RING, request, 0, -1);
	if (spin(t, s, request))
		return s->r_action;
	__atomic_exchange_n(&s->sleeping, 1, __ATOMIC_SEQ_CST); /* likewise, for `rep` and the wake-up */
	for (;;) {
		u32 seen = __atomic_load_n(&s->rep, __ATOMIC_ACQUIRE);
		if (seen == request) {
			s->sleeping = 0;
			return s->r_action;
		}
		/* An interrupted wait: tell the supervisor once; it answers, either way. */
		if (t->pending && !t->cancelled) {
			t->cancelled = 1;
			ring(t, MSG_CANCEL, request, 0, -1);
		}
		u64 args[6] = {(u64)&s->rep, FUTEX_WAIT, seen, 0, 0, 0};
		if (t->cancelled)
			sys(NR_futex, args[0], args[1], args[2], 0);
		else
			safe_syscall(NR_futex, args, &t->pending);
	}
}

/* Copy the reply's bytes into guest memory. */
static s64 reply_out(struct thread *t)
{
	struct ring3_slot *s = t->slot;
	u32 n = s->r_nout;
	for (u32 i = 0; i < n && i < RING3_MAX_OUT; i++) {
		u32 off = s->out_off[i], len = s->out_len[i];
		if (off > RING3_SLOT_DATA_SIZE || len > RING3_SLOT_DATA_SIZE - off)
			return -EFAULT;
		if (copy_out(s->out_addr[i], slot_data(t) + off, len))
			return -EFAULT;
	}
	return 0;
}

static s64 receive_one(struct thread *t, struct ring3_fdmsg *msg, int *fds, u32 max)
{
	struct iovec_ iov = {(u64)msg, sizeof *msg};
	struct {
		struct cmsghdr_ head;
		int fd[RING3_DRAFTS + 2];
	} control;
	struct msghdr_ hdr = {.iov = (u64)&iov, .iovlen = 1, .control = (u64)&control, .controllen = sizeof control};
	memset(&control, 0, sizeof control);
	s64 r;
	do
		r = sys(NR_recvmsg, t->proc->sock, &hdr, MSG_CMSG_CLOEXEC);
	while (r == -EINTR);
	if (r != sizeof *msg)
		die("the supervisor's descriptor message is malformed", r);
	u32 got = 0;
	if (hdr.controllen >= sizeof(struct cmsghdr_) && control.head.type == SCM_RIGHTS)
		got = (control.head.len - sizeof(struct cmsghdr_)) / sizeof(int);
	for (u32 i = 0; i < got && i < max; i++)
		fds[i] = control.fd[i];
	for (u32 i = max; i < got; i++)
		sys(NR_close, control.fd[i]);
	/* Fewer than were sent: the descriptor table is full (unix(7), MSG_CTRUNC). */
	if (got < msg->count || got > max) {
		for (u32 i = 0; i < got && i < max; i++)
			sys(NR_close, fds[i]);
		return -EMFILE;
	}
	return got;
}

/* Receive the descriptors that the supervisor sent for this thread's request.  Returns the count or -EMFILE. */
s64 receive_fds(struct thread *t, int *fds, u32 want, u32 *flags)
{
	struct mailbox *mine = &t->proc->mailboxes[t->slot_nr];
	s64 result = -EIO;
	lock(&t->proc->rx_lock);
	while (!mine->full) {
		struct ring3_fdmsg msg;
		int got[RING3_DRAFTS];
		s64 n = receive_one(t, &msg, got, COUNT(got));
		if (msg.kind == FDS_DRAFTS) {
			drafts_receive(t->proc, got, n < 0 ? 0 : n, msg.flags);
			continue;
		}
		struct mailbox *box = &t->proc->mailboxes[msg.slot % RING3_SLOT_COUNT];
		box->flags = msg.flags;
		box->count = n < 0 ? 0xffffffff : (u32)n;
		for (s64 i = 0; i < n && i < (s64)COUNT(box->fds); i++)
			box->fds[i] = got[i];
		box->full = 1;
	}
	mine->full = 0;
	result = mine->count == 0xffffffff ? -EMFILE : (s64)mine->count;
	for (u32 i = 0; i < want && (s64)i < result; i++)
		fds[i] = mine->fds[i];
	*flags = mine->flags;
	unlock(&t->proc->rx_lock);
	return result;
}

/* Receive the plan of an exec that does not come about, and close what came with it. */
void discard_plan(struct thread *t)
{
	struct ring3_fdmsg msg;
	int got[RING3_DRAFTS];
	s64 n;
	lock(&t->proc->rx_lock);
	do {
		n = receive_one(t, &msg, got, COUNT(got));
		for (s64 i = 0; i < n; i++)
			sys(NR_close, got[i]);
	} while (msg.kind != FDS_PLAN);
	unlock(&t->proc->rx_lock);
}

/* A file was opened that may be kept open when the guest closes it. */
static void note_kept(struct thread *t, const struct call *c, int fd)
{
	struct ring3_slot *s = t->slot;
	u32 i = c->nr == NR_openat;
	u32 offset = s->in_off[i], length = s->in_len[i];
	if (offset > RING3_SLOT_DATA_SIZE || length > RING3_SLOT_DATA_SIZE - offset)
		return; /* another thread has written there */
	const u8 *path = slot_data(t) + offset;
	u32 cwd = *path == '/' ? 0 : s->cwd;
	kept_note(t->proc, &(struct kept_key){s->hash, c->a[i + 1], cwd, s->context, length, path}, fd, s->r_result);
}

/* ACT_FD: install one descriptor, with the flags that came with it. */
static s64 install_fd(struct thread *t, const struct call *c)
{
	int fd = -1;
	u32 flags;
	s64 r = receive_fds(t, &fd, 1, &flags);
	if (r < 1 || fd < 0)
		return r < 0 ? r : -EIO;
	if (fd < FD_TABLE)
		t->proc->fd_class[fd] = flags & FD_SUPERVISED ? (flags >> FD_CLASS_SHIFT & 0xff)
					     : flags & FD_REWRITABLE_FILE ? FD_REWRITABLE
									  : FD_NATIVE;
	if (!(flags & FD_CLOEXEC))
		sys(NR_fcntl, fd, F_SETFD, 0);
	if (flags & FD_CTTY)
		sys(NR_ioctl, fd, 0x540e /* TIOCSCTTY */, 0); /* a session leader's first terminal: tty_open() */
	if (flags & FD_KEEP)
		note_kept(t, c, fd);
	if ((c->nr == NR_openat && c->a[2] & O_ACCMODE) || (c->nr == NR_open && c->a[1] & O_ACCMODE))
		note_writer(t->proc, fd);
	return fd;
}

/* kill(2) of a group or of all: the supervisor names the members, we send, so that si_pid is the guest's. */
static s64 kill_list(struct thread *t, struct call *c)
{
	u32 n = t->slot->r_nout, *pids = (u32 *)slot_data(t);
	s64 result = -ESRCH;
	for (u32 i = 0; i < n && i < RING3_SLOT_DATA_SIZE / 4; i++) {
		s64 r = sys(NR_kill, pids[i], c->a[1]);
		if (r == 0 || result == -ESRCH)
			result = r;
	}
	return result;
}

/* Act on a reply: `action` is what ask() returned. */
s64 ask_finish(struct thread *t, struct call *c, s64 action)
{
	struct ring3_slot *s = t->slot;
	if (action < 0)
		return action;
	if (action & ACT_CREDS) {
		t->proc->split = 1;
		t->is_as_executed = 0;
		for (int i = 0; i < 4; i++)
			t->creds[i] = s->r_creds[i];
	}
	if ((action & ACT_NATIVE_FD) && c->a[0] < FD_TABLE)
		fd_connected(t, c->a[0]);
	if (action & ACT_SIGPIPE)
		sys(NR_tgkill, t->proc->pid, t->tid, SIGPIPE);
	switch (action & 0xff) {
	case ACT_RESULT: {
		s64 result = s->r_result, bad = reply_out(t);
		if (result == -ERESTARTSYS && !signal_restarts(t))
			return -EINTR;
		return bad && result >= 0 ? bad : result;
	}
	case ACT_NATIVE_ARGS:
		c->nr = s->r_nr;
		for (int i = 0; i < 6; i++)
			c->a[i] = s->r_args[i];
		return native(t, c);
	case ACT_NATIVE:
		return native(t, c);
	case ACT_FD:
		return install_fd(t, c);
	case ACT_REAL: {
		s64 r = vdir_real(t, (int)c->a[0]);
		return r ? r : supervise(t, c, REQ_CALL);
	}
	case ACT_DIR:
		return vdir_open(t, s->r_result, c->nr == NR_openat ? c->a[2] : c->a[1]);
	case ACT_NET:
		if (c->a[0] < FD_TABLE)
			t->proc->fd_class[c->a[0]] = s->r_result;
		return net_call(t, c);
	case ACT_KILL_LIST:
		return kill_list(t, c);
	}
	return -EIO;
}
