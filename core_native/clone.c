/*
 * fork, vfork, clone, clone3, exit: new threads and processes, each under interception before its first instruction.
 * Layer: core functions.  Touches: thread and proc blocks, host signal masks, descriptors of the channel.
 *
 * A child that shares memory runs on a core stack of its own and starts by returning from a copy of its creator's trap
 * frame; one that does not simply goes on in its copy of the stack.  Everything is blocked meanwhile; the return to the
 * guest restores the mask that the frame carries.
 */
#include "core.h"

static u64 block_base(u32 index)
{
	return THREAD_BASE + index * THREAD_SIZE;
}

/* A thread block: guard page, core stack, struct thread.  NULL when there is no room or no slot. */
struct thread *thread_new(struct proc *p)
{
	int slot = bitmap_take(p->slots, RING3_SLOT_COUNT);
	if (slot < 0)
		return NULL;
	for (u32 i = 0; i < THREAD_MAX; i++) {
		u32 seen = __atomic_load_n(&mm.thread_state[i], __ATOMIC_ACQUIRE);
		if (seen == 1 ||
		    !__atomic_compare_exchange_n(&mm.thread_state[i], &seen, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		u64 base = block_base(i);
		if (seen == 0 && sys(NR_mmap, base + PAGE, THREAD_SIZE - PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) < 0) {
			__atomic_store_n(&mm.thread_state[i], 0, __ATOMIC_RELEASE);
			break;
		}
		struct thread *t = thread_of(base + PAGE);
		memset(t, 0, sizeof *t);
		t->index = i;
		t->proc = p;
		t->sighand = &p->sighand;
		t->slot_nr = slot;
		p->mailboxes[slot].full = 0;
		t->slot = (struct ring3_slot *)(p->chan + (slot + 1UL) * RING3_SLOT_SIZE);
		return t;
	}
	bitmap_drop(p->slots, slot);
	return NULL;
}

void thread_free(struct thread *t)
{
	bitmap_drop(t->proc->slots, t->slot_nr);
	__atomic_store_n(&mm.thread_state[t->index], 2, __ATOMIC_RELEASE);
}

struct proc *proc_new(void)
{
	int i = bitmap_take(mm.procs, PROC_MAX);
	if (i < 0)
		return NULL;
	u64 at = PROC_BASE + i * PROC_STRIDE;
	if (sys(NR_mmap, at, ALIGN_UP(sizeof(struct proc), PAGE), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) < 0) {
		bitmap_drop(mm.procs, i);
		return NULL;
	}
	struct proc *p = (struct proc *)at;
	p->chan = at + PROC_CHANNEL;
	return p;
}

static void proc_free(struct proc *p)
{
	u64 at = (u64)p;
	sys(NR_munmap, at, PROC_CHANNEL + RING3_CHANNEL_SIZE);
	bitmap_drop(mm.procs, (at - PROC_BASE) / PROC_STRIDE);
}

/* Every system call of this thread that is not the core's becomes a SIGSYS (admin-guide/syscall-user-dispatch). */
void arm(void)
{
	u64 text = (u64)core_text_start;
	s64 r = sys(NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, text, (u64)core_text_end - text, 0);
	if (r)
		die("this kernel has no Syscall User Dispatch:", r);
}

void tell_brk(struct proc *p)
{
	struct ring3_proc_page *page = (struct ring3_proc_page *)p->chan;
	page->brk_start = mm.brk_start;
	page->brk_end = mm.brk;
}

/* Map a channel; a forked child must not inherit it, or it could reach its parent's slots. */
void adopt_channel(struct proc *p, int chan)
{
	if (sys(NR_mmap, p->chan, RING3_CHANNEL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, chan, 0) < 0)
		die("cannot map the channel", chan);
	sys(NR_madvise, p->chan, RING3_CHANNEL_SIZE, 10 /* MADV_DONTFORK */);
	sys(NR_close, chan);
	struct ring3_proc_page *page = (struct ring3_proc_page *)p->chan;
	page->version = RING3_VERSION;
	page->pid = p->pid;
	tell_brk(p);
	page->core_fds[0] = p->sock;
	page->core_fds[1] = p->exe;
}

/* The child of a process-like clone: take over the socket and the channel that were made for it. */
static void become_process(struct thread *t, int sock, int chan, u64 token, u64 flags)
{
	struct proc *p = t->proc;
	p->pid = sys(NR_getpid);
	p->rx_lock = 0;
	p->kept_lock = 0;
	p->kept_stopped = (flags & CLONE_FILES) != 0;
	vdirs_fresh(p, (flags & CLONE_FILES) != 0);
	p->initial = 0;
	t->tid = p->pid;
	if (!(flags & CLONE_FILES))
		sys(NR_close, p->sock);
	p->sock = fd_to_top(p, sock);
	adopt_channel(p, chan);
	arm();
	ring(t, MSG_CHILD, p->pid, token, -1);
}

/* What a child that shares memory needs before its first instruction; lies on its own core stack. */
struct start {
	struct thread *t;
	struct ucontext_ *uc;
	u64 flags, token;
	int sock, chan;
};

static void child_entry(struct thread *arg)
{
	struct start *s = (struct start *)arg;
	struct thread *t = s->t;
	use_gs(t);
	if (s->flags & CLONE_THREAD) {
		t->tid = sys(NR_gettid);
		arm();
	} else {
		become_process(t, s->sock, s->chan, s->token, s->flags);
		if (s->flags & CLONE_CLEAR_SIGHAND)
			clear_handlers(t->sighand);
	}
	sigreturn_to(s->uc);
}

/* Copy the trap frame to the top of the child's core stack; returns the start record below it. */
static struct start *prepare_stack(struct thread *nt, struct ucontext_ *uc, struct clone_args *a)
{
	u64 top = (u64)nt, fp = uc->mc.fpstate;
	struct start *s;
	u32 size = 0;
	if (fp) {
		memcpy(&size, (u8 *)fp + 468, 4);
		if (size < 512 || size > 32768)
			size = 512;
		top = ALIGN_DOWN(top - size, 64);
		memcpy((void *)top, (void *)fp, size);
		fp = top;
	}
	struct ucontext_ *copy = (struct ucontext_ *)ALIGN_DOWN(top - sizeof *copy - 64, 64);
	*copy = *uc;
	copy->mc.fpstate = fp;
	copy->mc.rax = 0;
	copy->mc.rsp = a->stack ? a->stack + a->stack_size : uc->mc.rsp;
	copy->stack.sp = ALIGN_DOWN((u64)nt, THREAD_SIZE) + PAGE;
	copy->stack.size = (u64)nt - copy->stack.sp;
	copy->stack.flags = 0;
	s = (struct start *)ALIGN_DOWN((u64)copy - sizeof *s - 64, 64);
	s->t = nt;
	s->uc = copy;
	return s;
}

static void inherit(struct thread *nt, struct thread *t, u64 flags)
{
	nt->vmask = t->vmask;
	filters_inherit(nt, t);
	nt->no_new_privs = t->no_new_privs;
	nt->is_as_executed = t->is_as_executed;
	for (int i = 0; i < 4; i++)
		nt->creds[i] = t->creds[i];
	if (flags & CLONE_VFORK)
		nt->altstack = t->altstack;
	if (flags & CLONE_SIGHAND) {
		nt->sighand = t->sighand;
		return;
	}
	lock(&t->sighand->lock);
	*nt->sighand = *t->sighand;
	unlock(&t->sighand->lock);
	nt->sighand->lock = 0;
}

/* The kernel makes the pidfd while descriptors of ours are open: give it the lowest number, as without us. */
static s64 lower_pidfd(const struct clone_args *a, s64 result)
{
	s32 fd, low;
	if (result <= 0 || !(a->flags & CLONE_PIDFD) || copy_in(&fd, a->pidfd, sizeof fd))
		return result;
	low = (s32)sys(NR_fcntl, fd, F_DUPFD_CLOEXEC, 0);
	if (low < 0 || low > fd || copy_out(a->pidfd, &low, sizeof low))
		sys(NR_close, low < 0 ? -1 : low);
	else
		sys(NR_close, fd);
	return result;
}

/* clone(2) has one place for the pidfd and the parent's copy of the tid; who wants both gets the latter from us. */
static s64 clone_both(const struct clone_args *args, void (*child)(struct thread *), struct thread *arg)
{
	struct clone_args one = *args;
	int both = (one.flags & CLONE_PIDFD) && (one.flags & CLONE_PARENT_SETTID);
	if (both)
		one.flags &= ~CLONE_PARENT_SETTID;
	s64 r = clone_call(&one, child, arg);
	u32 tid = r;
	if (both && r > 0)
		copy_out(args->parent_tid, &tid, 4);
	return r;
}

/* The kernel's clone for a child on a core stack of its own. */
static s64 clone_sharing(struct thread *t, struct call *c, struct clone_args *a, struct thread *nt, int sock, int chan,
			 u64 token)
{
	struct clone_args host = *a;
	host.flags &= ~CLONE_CLEAR_SIGHAND; /* SIGSYS is ours; the child does it by itself */
	struct start *s = prepare_stack(nt, c->uc, a);
	inherit(nt, t, a->flags);
	s->flags = a->flags;
	s->token = token;
	s->sock = sock;
	s->chan = chan;
	host.stack = ALIGN_DOWN((u64)nt, THREAD_SIZE) + PAGE;
	host.stack_size = (u64)s - 64 - host.stack;
	return clone_both(&host, child_entry, (struct thread *)s);
}

static s64 clone_thread(struct thread *t, struct call *c, struct clone_args *a)
{
	drafts_drop(t->proc);
	t->proc->no_drafts = 1;
	struct thread *nt = thread_new(t->proc);
	if (!nt)
		return -EAGAIN;
	nt->slot->context = 0; /* of the thread that had the slot before */
	if (t->proc->split || !(a->flags & CLONE_FS)) {
		t->slot->args[0] = nt->slot_nr;
		t->slot->args[1] = a->flags;
		ask(t, REQ_THREAD);
	}
	s64 r = clone_sharing(t, c, a, nt, -1, -1, 0);
	if (r < 0)
		thread_free(nt);
	return r;
}

/* A process that shares memory: its own proc block; a vfork child's is freed when it has left the memory. */
static s64 clone_vm_process(struct thread *t, struct call *c, struct clone_args *a, int sock, int chan, u64 token)
{
	struct proc *np = proc_new();
	if (!np)
		return -EAGAIN;
	struct proc *p = t->proc;
	np->exe = p->exe;
	np->sock = p->sock;
	np->soft_nofile = p->soft_nofile;
	np->has_tcp = p->has_tcp;
	memcpy(np->fd_class, p->fd_class, p->soft_nofile < FD_TABLE ? p->soft_nofile : FD_TABLE);
	struct thread *nt = thread_new(np);
	s64 r = -EAGAIN;
	if (nt) {
		r = clone_sharing(t, c, a, nt, sock, chan, token);
		if (r < 0 || (a->flags & CLONE_VFORK))
			thread_free(nt);
	}
	if (r < 0 || (a->flags & CLONE_VFORK))
		proc_free(np);
	return r;
}

/* In a forked child: everything that other threads of the parent may have held or owned is gone. */
static void forget_siblings(struct thread *t)
{
	mm.lock = 0;
	mm.filter_lock = 0;
	t->dispatch = 0;
	t->sighand->lock = 0;
	for (u32 i = 0; i < THREAD_MAX && mm.thread_state[i]; i++)
		if (i != t->index)
			mm.thread_state[i] = 2;
	memset(mm.procs, 0, sizeof mm.procs);
	mm.procs[((u64)t->proc - PROC_BASE) / PROC_STRIDE / 64] |= 1UL << ((u64)t->proc - PROC_BASE) / PROC_STRIDE % 64;
	memset(t->proc->slots, 0, sizeof t->proc->slots);
	t->proc->slots[0] = 1;
	t->proc->mailboxes[0].full = 0; /* the others': thread_new() */
	t->slot_nr = 0;
	t->slot = (struct ring3_slot *)(t->proc->chan + RING3_SLOT_SIZE);
}

static s64 clone_copy(struct thread *t, struct call *c, struct clone_args *a, int sock, int chan, u64 token)
{
	struct clone_args host = *a;
	host.stack = host.stack_size = 0;
	host.flags &= ~CLONE_CLEAR_SIGHAND;
	s64 r = clone_both(&host, NULL, NULL);
	if (r)
		return r;
	forget_siblings(t);
	if (t->sighand != &t->proc->sighand) {
		t->proc->sighand = *t->sighand;
		t->sighand = &t->proc->sighand;
	}
	t->pending = 0;
	t->vpending = 0;
	if (a->flags & CLONE_CLEAR_SIGHAND)
		clear_handlers(t->sighand);
	if (a->stack)
		c->uc->mc.rsp = a->stack + a->stack_size;
	become_process(t, sock, chan, token, a->flags);
	return 0;
}

static s64 clone_process(struct thread *t, struct call *c, struct clone_args *a)
{
	struct ring3_slot *s = t->slot;
	int fds[2];
	u32 ignored;
	gifts_drop(t->proc);
	s->nr = NR_clone;
	s->args[0] = a->flags;
	s64 action = ask(t, REQ_FORK);
	a->flags &= ~CLONE_NEWNS; /* the supervisor's affair */
	if ((action & 0xff) != ACT_FD)
		return action < 0 ? action : s->r_result < 0 ? s->r_result : -EAGAIN;
	u64 token = s->r_result;
	/* Room for what is ours, also where the guest's table is full. */
	set_nofile(t->proc->soft_nofile + RING3_RESERVED_FDS);
	s64 r = receive_fds(t, fds, 2, &ignored);
	if (r != 2) {
		set_nofile(t->proc->soft_nofile);
		return -EAGAIN;
	}
	block_all();
	r = t->pending ? -ERESTARTSYS
	    : a->flags & CLONE_VM ? clone_vm_process(t, c, a, fds[0], fds[1], token)
				  : clone_copy(t, c, a, fds[0], fds[1], token);
	if (r == 0)
		return 0;
	set_nofile(t->proc->soft_nofile);
	if (r < 0 || !(a->flags & CLONE_FILES)) { /* a child that shares the table closes them when it has used them */
		sys(NR_close, fds[0]);
		sys(NR_close, fds[1]);
	}
	ring(t, MSG_FORKED, r < 0 ? 0 : r, token, -1);
	return r;
}

/* A child that gets a copy of the descriptors must not get what is kept; nor is anything kept where a table is shared. */
static s64 clone_apart(struct thread *t, struct call *c, struct clone_args *a)
{
	int shared = (a->flags & CLONE_FILES) != 0;
	s64 r = vdirs_stop(t);
	if (r)
		return r;
	kept_stop(t->proc);
	r = clone_process(t, c, a);
	if (r < 0 || (r > 0 && !shared)) {
		kept_start(t->proc);
		vdirs_start(t->proc);
	}
	return r;
}

static s64 do_clone(struct thread *t, struct call *c, struct clone_args *a)
{
	if (a->flags & CLONE_NEW_OTHER)
		return -EPERM;
	if ((a->flags & CLONE_NEWNS) && (a->flags & (CLONE_FS | CLONE_THREAD)))
		return -EINVAL;
	if ((a->flags & CLONE_THREAD) && (a->flags & (CLONE_VM | CLONE_SIGHAND)) != (CLONE_VM | CLONE_SIGHAND))
		return -EINVAL;
	if ((a->flags & CLONE_SIGHAND) && !(a->flags & CLONE_VM))
		return -EINVAL;
	if (t->pending)
		return -ERESTARTSYS;
	if (a->flags & CLONE_THREAD) {
		block_all();
		return t->pending ? -ERESTARTSYS : clone_thread(t, c, a);
	}
	return lower_pidfd(a, clone_apart(t, c, a));
}

s64 fn_clone(struct thread *t, struct call *c)
{
	u64 flags = c->a[0] & 0xffffffff;
	struct clone_args a;
	memset(&a, 0, sizeof a);
	a.flags = flags & ~CSIGNAL & ~CLONE_DETACHED & ~CLONE_UNTRACED;
	a.exit_signal = flags & CLONE_THREAD ? 0 : flags & CSIGNAL;
	a.stack = c->a[1];
	a.parent_tid = a.pidfd = c->a[2];
	a.child_tid = c->a[3];
	a.tls = c->a[4];
	if ((flags & CLONE_PIDFD) && (flags & CLONE_PARENT_SETTID))
		return -EINVAL;
	if (flags & CLONE_NEWTIME & ~CSIGNAL)
		return -EINVAL;
	return do_clone(t, c, &a);
}

s64 fn_fork(struct thread *t, struct call *c)
{
	struct clone_args a;
	memset(&a, 0, sizeof a);
	a.exit_signal = SIGCHLD;
	return do_clone(t, c, &a);
}

s64 fn_vfork(struct thread *t, struct call *c)
{
	struct clone_args a;
	memset(&a, 0, sizeof a);
	a.flags = CLONE_VM | CLONE_VFORK;
	a.exit_signal = SIGCHLD;
	return do_clone(t, c, &a);
}

s64 fn_clone3(struct thread *t, struct call *c)
{
	struct clone_args a;
	u64 size = c->a[1];
	if (size > PAGE)
		return -E2BIG;
	if (size < 64)
		return -EINVAL;
	memset(&a, 0, sizeof a);
	if (copy_in(&a, c->a[0], size < sizeof a ? size : sizeof a))
		return -EFAULT;
	for (u64 at = sizeof a; at < size; at++) { /* copy_struct_from_user(): bytes that we do not know must be 0 */
		u8 byte;
		if (copy_in(&byte, c->a[0] + at, 1))
			return -EFAULT;
		if (byte)
			return -E2BIG;
	}
	if (a.set_tid_size)
		return -EPERM;
	if (a.flags & CLONE_INTO_CGROUP)
		return -EOPNOTSUPP;
	if ((a.flags & (CSIGNAL & ~CLONE_NEWTIME)) || (a.flags & CLONE_DETACHED) || a.exit_signal > 64)
		return -EINVAL;
	if (!a.stack != !a.stack_size || a.flags >> 34)
		return -EINVAL;
	if ((a.flags & (CLONE_THREAD | CLONE_PARENT)) && a.exit_signal)
		return -EINVAL;
	if ((a.flags & CLONE_SIGHAND) && (a.flags & CLONE_CLEAR_SIGHAND))
		return -EINVAL;
	return do_clone(t, c, &a);
}

s64 fn_exit(struct thread *t, struct call *c)
{
	block_all();
	bitmap_drop(t->proc->slots, t->slot_nr);
	exit_thread(&mm.thread_state[t->index], (int)c->a[0]);
}
