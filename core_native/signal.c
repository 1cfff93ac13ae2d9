/*
 * Virtual signals, and the trap that Syscall User Dispatch makes.
 * Layer: entered from entry.S.  Touches: the guest's register frame and stack, the host's dispositions and masks.
 *
 * A disposition of default or ignore is the host kernel's own.  Only handlers are virtual: the host runs signal_entry,
 * which either delivers at once (guest code was interrupted) or records the signal in the thread and has everything else
 * blocked until the boundary (the core was).  What the host kernel decides about a sleeping call it decides
 * for us: the host handler carries the guest's SA_RESTART, so a restart shows as rip back at safe_insn, and EINTR as EINTR.
 * Frames follow arch/x86/kernel/signal_64.c.
 */
#include "core.h"

s64 block_all(void)
{
	u64 all = FULL_MASK;
	return sys(NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
}

u64 guest_mask(struct thread *t, struct ucontext_ *uc)
{
	return (uc->sigmask & ~NEVER_BLOCKED) | t->vmask;
}

/* One of the never blocked, which was sent while the guest believed to block it, is recorded now. */
static void record_waiting(struct thread *t)
{
	int sig = __builtin_ctzl(t->vpending & ~t->vmask) + 1, i = sig == SIGBUS ? 0 : sig == SIGSEGV ? 1 : 2;
	t->vpending &= ~SIGBIT(sig);
	memcpy(t->pend_info, t->vinfo[i], 128);
	t->pending = 1;
}

void set_guest_mask(struct thread *t, struct ucontext_ *uc, u64 mask)
{
	mask &= ~UNBLOCKABLE;
	t->vmask = mask & NEVER_BLOCKED;
	uc->sigmask = mask & ~NEVER_BLOCKED;
	if (unlikely(t->vpending & ~t->vmask) && !t->pending)
		record_waiting(t);
}

/* The guest's action for `sig`; after an exec the host's disposition is the truth until the guest sets one. */
static struct ksigaction *action(struct sighand *h, int sig)
{
	if (!(h->known & SIGBIT(sig))) {
		struct ksigaction host;
		memset(&host, 0, sizeof host);
		if (!(NEVER_BLOCKED & SIGBIT(sig)))
			sys(NR_rt_sigaction, sig, NULL, &host, 8);
		h->act[sig] = (struct ksigaction){host.handler == SIG_IGN ? SIG_IGN : SIG_DFL, 0, 0, 0};
		h->known |= SIGBIT(sig);
	}
	return &h->act[sig];
}

/* Does the recorded signal restart a call that it interrupted (signal(7))? */
int signal_restarts(struct thread *t)
{
	s32 sig;
	memcpy(&sig, t->pend_info, 4);
	struct ksigaction *act = &t->sighand->act[sig];
	return !t->pending || act->handler <= SIG_IGN || (act->flags & SA_RESTART);
}

static void host_action(int sig, const struct ksigaction *guest)
{
	struct ksigaction host = {guest->handler, guest->flags, 0, 0};
	if (NEVER_BLOCKED & SIGBIT(sig)) {
		host.handler = sig == SIGSYS ? (u64)sigsys_entry : (u64)signal_entry;
		host.flags = SA_NODEFER;
	}
	if (host.handler > SIG_IGN) {
		if (sig != SIGSYS)
			host.handler = (u64)signal_entry;
		host.flags &= SA_NOCLDSTOP | SA_NOCLDWAIT | SA_RESTART | SA_NODEFER;
		host.flags |= SA_SIGINFO | SA_ONSTACK | SA_RESTORER | SA_NODEFER;
		host.restorer = (u64)tail_start; /* never used: the entries return by themselves */
		host.mask = sig == SIGSYS ? 0 : FULL_MASK;
	} else {
		host.flags &= SA_NOCLDSTOP | SA_NOCLDWAIT;
		host.flags |= SA_RESTORER;
		host.restorer = (u64)tail_start;
	}
	sys(NR_rt_sigaction, sig, &host, NULL, 8);
}

/* CLONE_CLEAR_SIGHAND, by the child itself. */
void clear_handlers(struct sighand *h)
{
	for (int sig = 1; sig <= 64; sig++) {
		if (!(h->known & SIGBIT(sig)) || h->act[sig].handler <= SIG_IGN)
			continue;
		h->act[sig] = (struct ksigaction){SIG_DFL, 0, 0, 0};
		host_action(sig, &h->act[sig]);
	}
}

void signals_start(void)
{
	static const struct ksigaction none;
	host_action(SIGSYS, &none);
	host_action(SIGSEGV, &none);
	host_action(SIGBUS, &none);
}

s64 fn_sigaction(struct thread *t, struct call *c)
{
	int sig = (int)c->a[0];
	struct ksigaction new, old;
	if (c->a[3] != 8 || sig < 1 || sig > 64)
		return -EINVAL;
	if (c->a[1] && copy_in(&new, c->a[1], sizeof new))
		return -EFAULT;
	if (c->a[1] && (UNBLOCKABLE & SIGBIT(sig)))
		return -EINVAL;
	struct sighand *h = t->sighand;
	lock(&h->lock);
	old = *action(h, sig);
	if (c->a[1]) {
		new.mask &= ~UNBLOCKABLE;
		new.flags &= ~SA_EXPOSE_TAGBITS & (0xffffffffUL); /* the kernel knows no more */
		h->act[sig] = new;
		host_action(sig, &new);
	}
	unlock(&h->lock);
	return c->a[2] && copy_out(c->a[2], &old, sizeof old) ? -EFAULT : 0;
}

/* The new mask that sigprocmask(2) asks for, from the old one.  0 or -EINVAL. */
static s64 changed_mask(int how, u64 old, u64 *set)
{
	switch (how) {
	case SIG_BLOCK:
		*set |= old;
		return 0;
	case SIG_UNBLOCK:
		*set = old & ~*set;
		return 0;
	case SIG_SETMASK:
		return 0;
	}
	return -EINVAL;
}

/*
 * On the fast way the mask is the host's own, and not in a frame.  All is blocked meanwhile, so that no signal is recorded
 * between the look at `pending` and the change; one that was recorded before keeps all blocked until it is delivered.
 */
static s64 fast_sigprocmask(struct thread *t, const struct call *c, u64 set)
{
	u64 all = FULL_MASK, host = 0, old;
	sys(NR_rt_sigprocmask, SIG_SETMASK, &all, &host, 8);
	old = t->pending ? t->pend_mask : (host & ~NEVER_BLOCKED) | t->vmask;
	s64 r = c->a[1] ? changed_mask((int)c->a[0], old, &set) : 0;
	if (c->a[1] && !r) {
		set &= ~UNBLOCKABLE;
		t->vmask = set & NEVER_BLOCKED;
		host = set & ~NEVER_BLOCKED;
		if (t->pending)
			t->pend_mask = set;
		else if (t->vpending & ~t->vmask) {
			record_waiting(t);
			t->pend_mask = set;
		}
	}
	if (!t->pending)
		sys(NR_rt_sigprocmask, SIG_SETMASK, &host, NULL, 8);
	return r ? r : c->a[2] && copy_out(c->a[2], &old, 8) ? -EFAULT : 0;
}

s64 fn_sigprocmask(struct thread *t, struct call *c)
{
	u64 set = 0;
	if (c->a[3] != 8)
		return -EINVAL;
	if (c->a[1] && copy_in(&set, c->a[1], 8))
		return -EFAULT;
	if (!c->uc)
		return fast_sigprocmask(t, c, set);
	u64 old = guest_mask(t, c->uc);
	if (c->a[1]) {
		s64 r = changed_mask((int)c->a[0], old, &set);
		if (r)
			return r;
		/* A signal recorded in this very call keeps its place: it interrupts with the new mask saved. */
		set_guest_mask(t, c->uc, set);
	}
	return c->a[2] && copy_out(c->a[2], &old, 8) ? -EFAULT : 0;
}

s64 fn_sigpending(struct thread *t, struct call *c)
{
	u64 set = 0;
	if (c->a[1] > 8)
		return -EINVAL;
	sys(NR_rt_sigpending, &set, 8);
	set |= t->vpending;
	return copy_out(c->a[0], &set, c->a[1]) ? -EFAULT : 0;
}

/* Die of `sig` as the guest would: the host's default action, with nothing of ours in between. */
void die_of(struct thread *t, int sig)
{
	struct ksigaction dfl = {SIG_DFL, SA_RESTORER, (u64)tail_start, 0};
	u64 only = ~SIGBIT(sig);
	sys(NR_rt_sigaction, sig, &dfl, NULL, 8);
	sys(NR_rt_sigprocmask, SIG_SETMASK, &only, NULL, 8);
	sys(NR_tgkill, t->proc->pid, t->tid, sig);
	for (;;)
		sys(NR_exit_group, 128 + sig);
}

/*
 * A signal that the call itself brings, before the return to the guest: force_sig_info().  Non-zero: another one was
 * recorded, which comes first.
 */
int force_at_boundary(struct thread *t, struct ucontext_ *uc, const struct siginfo_ *info)
{
	block_all();
	if (t->pending)
		return 1;
	if ((guest_mask(t, uc) & SIGBIT(info->si_signo)) || t->sighand->act[info->si_signo].handler <= SIG_IGN)
		die_of(t, info->si_signo);
	memcpy(t->pend_info, info, sizeof *info);
	t->pending = 1;
	return 0;
}

/* The sender's uid as guests see it.  The slot is free: no call of this thread is under way where signals are delivered. */
void show_virtual_uid(struct thread *t, struct siginfo_ *info)
{
	int user = info->si_code <= 0 && info->si_code != -2 /* SI_TIMER */ && info->si_code != SI_SIGIO;
	if (!((struct ring3_world *)WORLD_ADDR)->virtual_uids || !(user || info->si_signo == SIGCHLD))
		return;
	t->slot->args[0] = info->kill.pid;
	t->slot->nr = -1;
	if (ask(t, REQ_UID) == ACT_RESULT)
		info->kill.uid = t->slot->r_result;
}

/* What only the kernel may say of a signal, the supervisor writes elsewhere. */
static void from_supervisor(struct siginfo_ *info)
{
	if (info->si_code == SI_SIGIO && (info->si_errno & ~0xff) == RING3_SI_CODE) {
		info->si_code = info->si_errno & 0xff;
		info->si_errno = 0;
	}
}

/* Deliver a signal to the guest whose state is `uc`, `mask` being what its frame restores. */
static void deliver(struct thread *t, struct ucontext_ *uc, const struct siginfo_ *info, u64 mask)
{
	int sig = info->si_signo;
	struct sighand *h = t->sighand;
	lock(&h->lock);
	struct ksigaction act = *action(h, sig);
	if (act.handler > SIG_IGN && (act.flags & SA_RESETHAND)) {
		h->act[sig].handler = SIG_DFL;
		host_action(sig, &h->act[sig]);
	}
	unlock(&h->lock);
	if (act.handler == SIG_IGN) {
		set_guest_mask(t, uc, mask);
		return;
	}
	note_signal(t, info);
	if (act.handler == SIG_DFL) {
		/* It was a handler when the host sent it and is none any more, or it is one of the never blocked. */
		set_guest_mask(t, uc, mask);
		if (!(NEVER_BLOCKED & SIGBIT(sig)))
			sys(NR_tgkill, t->proc->pid, t->tid, sig);
		else
			die_of(t, sig);
		return;
	}
	struct siginfo_ shown = *info;
	from_supervisor(&shown);
	if (act.flags & SA_SIGINFO)
		show_virtual_uid(t, &shown);
	if (push_frame(t, uc, &shown, &act, mask)) {
		if (sig == SIGSEGV)
			die_of(t, sig);
		set_guest_mask(t, uc, mask);
		force_segv(t, uc);
		return;
	}
	set_guest_mask(t, uc, mask | act.mask | (act.flags & SA_NODEFER ? 0 : SIGBIT(sig)));
}

/* The kernel could not go on with the guest's stack or frame: force_sig(SIGSEGV). */
void force_segv(struct thread *t, struct ucontext_ *uc)
{
	struct siginfo_ info;
	memset(&info, 0, sizeof info);
	info.si_signo = SIGSEGV;
	info.si_code = SI_KERNEL;
	u64 mask = guest_mask(t, uc);
	if (mask & SIGBIT(SIGSEGV))
		die_of(t, SIGSEGV);
	deliver(t, uc, &info, mask);
}

/*
 * Before the return to the guest: deliver what was recorded.  The mask that the handler's frame restores is the one that
 * this return would have restored, and not the one at the time of the recording: the call (sigprocmask, sigreturn) may have
 * set another one, and a signal may come at any moment after it did.
 */
void core_boundary(struct ucontext_ *uc)
{
	struct thread *t = thread_of((u64)uc);
	struct siginfo_ info;
	memcpy(&info, t->pend_info, sizeof info);
	t->pending = 0;
	deliver(t, uc, &info, guest_mask(t, uc));
}

static void record(struct thread *t, const struct siginfo_ *info, struct ucontext_ *uc)
{
	/* Only one of the never blocked can come second, or while the guest believes to block it. */
	if (t->pending || (SIGBIT(info->si_signo) & t->vmask)) {
		int i = info->si_signo == SIGBUS ? 0 : info->si_signo == SIGSEGV ? 1 : 2;
		memcpy(t->vinfo[i], info, 128);
		t->vpending |= SIGBIT(info->si_signo);
		return;
	}
	memcpy(t->pend_info, info, 128);
	t->pend_mask = guest_mask(t, uc);
	__atomic_store_n(&t->pending, 1, __ATOMIC_RELEASE);
	uc->sigmask = FULL_MASK;
	if (uc->mc.rip >= (u64)safe_begin && uc->mc.rip <= (u64)safe_insn)
		uc->mc.rip = (u64)safe_abort;
	else if (uc->mc.rip >= (u64)tail_start && uc->mc.rip < (u64)tail_end)
		uc->mc.rip = (u64)tail_start;
	else if (uc->mc.rip >= (u64)fast_tail && uc->mc.rip < (u64)fast_last)
		uc->mc.rip = (u64)fast_tail;
}

static int in_text(u64 rip)
{
	if (rip >= (u64)core_text_start && rip < (u64)core_text_end)
		return 1;
	return rip >= RING3_NATIVE_HOOK && rip < RING3_NATIVE_HOOK_END; /* the user's hook is part of the core */
}

/* Any signal but a dispatched system call. */
void core_signal(int sig, struct siginfo_ *info, struct ucontext_ *uc)
{
	struct thread *t = thread_of((u64)uc);
	int fault = (sig == SIGSEGV || sig == SIGBUS) && info->si_code > 0;
	if (unlikely(mm.page_zero) && zp_signal(t, info, uc, fault))
		return;
	if (uc->mc.rip == (u64)fast_last) /* everything is the guest's again, but for the jump */
		uc->mc.rip = uc->mc.rcx;
	else if (mm.tramps) {
		if (unlikely(must_go_on(uc->mc.rip))) {
			record(t, info, uc);
			return;
		}
		uc->mc.rip = guest_rip(uc->mc.rip);
	}
	if (in_text(uc->mc.rip)) {
		if (fault && uc->mc.rip >= (u64)copy_begin && uc->mc.rip < (u64)copy_end)
			uc->mc.rip = (u64)copy_fault;
		else if (fault)
			die("a fault of our own at", uc->mc.rip);
		else
			record(t, info, uc);
		return;
	}
	u64 mask = guest_mask(t, uc);
	if (SIGBIT(sig) & t->vmask) {
		if (info->si_code > 0) /* force_sig(): a fault while blocked kills */
			die_of(t, sig);
		int i = sig == SIGBUS ? 0 : sig == SIGSEGV ? 1 : 2;
		memcpy(t->vinfo[i], info, 128);
		t->vpending |= SIGBIT(sig);
		return;
	}
	struct ksigaction *act = &t->sighand->act[sig];
	if (fault && act->handler == SIG_IGN)
		die_of(t, sig);
	deliver(t, uc, info, mask);
}

/* A signal was recorded on the fast way, before this trap or just for it: the call is over, or has not begun. */
static void trapped_signal(struct thread *t, struct ucontext_ *uc)
{
	struct sigcontext_ *r = &uc->mc;
	uc->sigmask = t->pend_mask & ~NEVER_BLOCKED;
	if ((int)r->rax == RING3_DELIVER && t->fast_result != -ERESTARTSYS) {
		r->rax = t->fast_result;
		return;
	}
	if ((int)r->rax == RING3_DELIVER)
		r->rax = t->fast_nr;
	r->rip -= 2;
}

static void trapped_call(struct thread *t, struct ucontext_ *uc)
{
	struct sigcontext_ *r = &uc->mc;
	u64 ret = mm.tramps ? tramp_return(r->rip) : 0;
	if (ret)
		r->rip = r->rcx = ret;
	if (t->pending) {
		trapped_signal(t, uc);
		return;
	}
	note_trap(t, r->rip - 2, ret != 0);
	if (unlikely(t->dispatch) && user_dispatched(t, uc, r->rip, (int)r->rax, AUDIT_ARCH_X86_64))
		return;
	struct call c = {(int)r->rax, {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9}, r->rip, r->rsp, uc};
	s64 nr = c.nr, result = dispatch(t, &c);
	if (nr == NR_rt_sigreturn)
		return;
	if (result == -ERESTARTSYS) /* anew, after the handler: rax still holds the number */
		r->rip -= 2;
	else
		r->rax = result;
}

/* int 0x80 is another kernel interface, which is not there; the guest's own filters may have their say. */
static void int80(struct thread *t, struct ucontext_ *uc, u32 arch)
{
	struct sigcontext_ *r = &uc->mc;
	struct call c = {(int)r->rax, {(u32)r->rbx, (u32)r->rcx, (u32)r->rdx, (u32)r->rsi, (u32)r->rdi, (u32)r->rbp}, r->rip,
			 r->rsp, uc};
	s64 result = -ENOSYS;
	if (t->dispatch && user_dispatched(t, uc, r->rip, c.nr, arch))
		return;
	if (!t->guarded || seccomp_allows(t, &c, arch, &result))
		ring(t, MSG_INT80, r->rip, 0, -1);
	if (result == -ERESTARTSYS)
		r->rip -= 2;
	else
		r->rax = result;
}

/* SIGSYS: a system call of the guest's, unless somebody sent the signal.  Non-zero: return plainly, without the tail. */
int core_sigsys(int sig, struct siginfo_ *info, struct ucontext_ *uc)
{
	if (info->si_code != SYS_USER_DISPATCH) {
		core_signal(sig, info, uc);
		return 1;
	}
	if (info->sys.arch != AUDIT_ARCH_X86_64)
		int80(thread_of((u64)uc), uc, info->sys.arch);
	else
		trapped_call(thread_of((u64)uc), uc);
	return 0;
}
