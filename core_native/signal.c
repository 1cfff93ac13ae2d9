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

#define FULL_MASK (~(NEVER_BLOCKED | UNBLOCKABLE))

s64 block_all(void)
{
	u64 all = FULL_MASK;
	return sys(NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
}

u64 guest_mask(struct thread *t, struct ucontext_ *uc)
{
	return (uc->sigmask & ~NEVER_BLOCKED) | t->vmask;
}

void set_guest_mask(struct thread *t, struct ucontext_ *uc, u64 mask)
{
	mask &= ~UNBLOCKABLE;
	t->vmask = mask & NEVER_BLOCKED;
	uc->sigmask = mask & ~NEVER_BLOCKED;
	u64 ready = t->vpending & ~t->vmask;
	if (unlikely(ready) && !t->pending) {
		int sig = __builtin_ctzl(ready) + 1, i = sig == SIGBUS ? 0 : sig == SIGSEGV ? 1 : 2;
		t->vpending &= ~SIGBIT(sig);
		memcpy(t->pend_info, t->vinfo[i], 128);
		t->pend_mask = mask;
		t->pending = 1;
	}
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

s64 fn_sigprocmask(struct thread *t, struct call *c)
{
	u64 set, old = guest_mask(t, c->uc);
	if (c->a[3] != 8)
		return -EINVAL;
	if (c->a[1]) {
		if (copy_in(&set, c->a[1], 8))
			return -EFAULT;
		switch ((int)c->a[0]) {
		case SIG_BLOCK:
			set |= old;
			break;
		case SIG_UNBLOCK:
			set = old & ~set;
			break;
		case SIG_SETMASK:
			break;
		default:
			return -EINVAL;
		}
		/* A signal recorded in this very call keeps its place: it interrupts with the new mask saved. */
		set_guest_mask(t, c->uc, set);
		if (t->pending)
			t->pend_mask = set & ~UNBLOCKABLE;
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

/* A signal set in argument i is copied into *set without what the host must never block, and the argument repointed. */
static s64 local_mask(struct call *c, int i, u64 size, u64 *set)
{
	if (!c->a[i])
		return 0;
	if (size != 8)
		return -EINVAL;
	if (copy_in(set, c->a[i], 8))
		return -EFAULT;
	*set &= ~NEVER_BLOCKED;
	c->a[i] = (u64)set;
	return 0;
}

static s64 with_mask(struct thread *t, struct call *c, int i, u64 size)
{
	u64 set, keep = c->a[i];
	s64 r = local_mask(c, i, size, &set);
	if (!r)
		r = native(t, c);
	c->a[i] = keep;
	return r;
}

s64 fn_sigsuspend(struct thread *t, struct call *c)
{
	u64 set;
	if (c->a[1] != 8)
		return -EINVAL;
	if (copy_in(&set, c->a[0], 8))
		return -EFAULT;
	u64 ready = t->vpending & ~set;
	if (ready) { /* one of the three was waiting for just this */
		u64 old = guest_mask(t, c->uc);
		set_guest_mask(t, c->uc, set);
		t->pend_mask = old;
		return -EINTR;
	}
	s64 r = with_mask(t, c, 0, c->a[1]);
	return r == -ERESTARTSYS ? -EINTR : r;
}

s64 fn_sigtimedwait(struct thread *t, struct call *c) { return with_mask(t, c, 0, c->a[3]); }
s64 fn_ppoll(struct thread *t, struct call *c) { return with_mask(t, c, 3, c->a[4]); }
s64 fn_epoll_pwait(struct thread *t, struct call *c) { return with_mask(t, c, 4, c->a[5]); }
s64 fn_epoll_pwait2(struct thread *t, struct call *c) { return with_mask(t, c, 4, c->a[5]); }

s64 fn_signalfd4(struct thread *t, struct call *c)
{
	if ((int)c->a[0] >= 0 && is_core_fd(t, (int)c->a[0]))
		return -EBADF;
	return with_mask(t, c, 1, c->a[2]);
}
s64 fn_signalfd(struct thread *t, struct call *c) { return fn_signalfd4(t, c); }

s64 fn_pselect6(struct thread *t, struct call *c)
{
	struct {
		u64 set, size;
	} pack;
	u64 set, keep = c->a[5];
	if (!keep)
		return native(t, c);
	if (copy_in(&pack, keep, sizeof pack))
		return -EFAULT;
	if (pack.set) {
		if (pack.size != 8)
			return -EINVAL;
		if (copy_in(&set, pack.set, 8))
			return -EFAULT;
		set &= ~NEVER_BLOCKED;
		pack.set = (u64)&set;
	}
	c->a[5] = (u64)&pack;
	s64 r = native(t, c);
	c->a[5] = keep;
	return r;
}

static int on_altstack(const struct stack_t_ *ss, u64 sp)
{
	return ss->size && !(ss->flags & SS_AUTODISARM) && sp > ss->sp && sp - ss->sp <= ss->size;
}

s64 fn_sigaltstack(struct thread *t, struct call *c)
{
	struct stack_t_ new, old = t->altstack;
	old.flags = !old.size ? SS_DISABLE : (old.flags & SS_AUTODISARM) | (on_altstack(&old, c->sp) ? SS_ONSTACK : 0);
	if (c->a[0]) {
		if (copy_in(&new, c->a[0], sizeof new))
			return -EFAULT;
		if (on_altstack(&t->altstack, c->sp))
			return -EPERM;
		s32 mode = new.flags & ~SS_AUTODISARM;
		if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK)
			return -EINVAL;
		if (mode == SS_DISABLE)
			new.sp = new.size = 0;
		else if (new.size < 2048)
			return -ENOMEM;
		t->altstack = new;
	}
	return c->a[1] && copy_out(c->a[1], &old, sizeof old) ? -EFAULT : 0;
}

/* Size of the vector state that fpstate points to (arch/x86/include/uapi/asm/sigcontext.h, struct _fpx_sw_bytes). */
static u64 fpstate_size(const u8 *fp)
{
	u32 magic, size;
	memcpy(&magic, fp + 464, 4);
	memcpy(&size, fp + 468, 4);
	return magic == FP_XSTATE_MAGIC1 && size >= 512 && size <= 32768 ? size : 512;
}

/* Build the guest's frame for a handler and point `uc` at the handler.  -EFAULT when the stack will not take it. */
static s64 push_frame(struct thread *t, struct ucontext_ *uc, const struct siginfo_ *info, const struct ksigaction *act,
		      u64 mask)
{
	struct sigframe_ frame;
	u64 sp = uc->mc.rsp - 128, fp = uc->mc.fpstate;
	if ((act->flags & SA_ONSTACK) && t->altstack.size && !on_altstack(&t->altstack, uc->mc.rsp))
		sp = t->altstack.sp + t->altstack.size;
	else if (on_altstack(&t->altstack, uc->mc.rsp) && sp <= t->altstack.sp)
		return -EFAULT;
	u64 fpsize = fp ? fpstate_size((u8 *)fp) : 0;
	sp = ALIGN_DOWN(sp - fpsize, 64);
	u64 guest_fp = fp ? sp : 0;
	sp = ALIGN_DOWN(sp - sizeof frame, 16) - 8;
	frame.pretcode = act->restorer;
	frame.uc = *uc;
	frame.uc.mc.fpstate = guest_fp;
	frame.uc.sigmask = mask;
	frame.uc.stack.sp = t->altstack.sp;
	frame.uc.stack.size = t->altstack.size;
	frame.uc.stack.flags = !t->altstack.size ? SS_DISABLE
						 : (t->altstack.flags & SS_AUTODISARM) |
							   (on_altstack(&t->altstack, uc->mc.rsp) ? SS_ONSTACK : 0);
	frame.info = *info;
	if ((guest_fp && copy_out(guest_fp, (void *)fp, fpsize)) || copy_out(sp, &frame, sizeof frame))
		return -EFAULT;
	if (t->altstack.flags & SS_AUTODISARM)
		t->altstack = (struct stack_t_){0, 0, 0, 0};
	uc->mc.rdi = info->si_signo;
	uc->mc.rsi = sp + __builtin_offsetof(struct sigframe_, info);
	uc->mc.rdx = sp + __builtin_offsetof(struct sigframe_, uc);
	uc->mc.rax = 0;
	uc->mc.rsp = sp;
	uc->mc.rip = act->handler;
	uc->mc.eflags &= ~(0x400UL | 0x10000UL | 0x100UL); /* DF, RF, TF */
	uc->mc.fpstate = 0;				   /* rt_sigreturn then gives the initial vector state */
	return 0;
}

/* Die of `sig` as the guest would: the host's default action, with nothing of ours in between. */
static void die_of(struct thread *t, int sig)
{
	struct ksigaction dfl = {SIG_DFL, SA_RESTORER, (u64)tail_start, 0};
	u64 only = ~SIGBIT(sig);
	sys(NR_rt_sigaction, sig, &dfl, NULL, 8);
	sys(NR_rt_sigprocmask, SIG_SETMASK, &only, NULL, 8);
	sys(NR_tgkill, t->proc->pid, t->tid, sig);
	sys(NR_exit_group, 128 + sig);
}

/* The sender's uid as guests see it.  The slot is free: no call of this thread is under way where signals are delivered. */
void show_virtual_uid(struct thread *t, struct siginfo_ *info)
{
	int user = info->si_code <= 0 && info->si_code != -2 /* SI_TIMER */ && info->si_code != -5 /* SI_SIGIO */;
	if (!((struct ring3_world *)WORLD_ADDR)->virtual_uids || !(user || info->si_signo == SIGCHLD))
		return;
	t->slot->args[0] = info->kill.pid;
	t->slot->nr = -1;
	if (ask(t, REQ_UID) == ACT_RESULT)
		info->kill.uid = t->slot->r_result;
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

/* Before the return to the guest: deliver what was recorded. */
void core_boundary(struct ucontext_ *uc)
{
	struct thread *t = thread_of((u64)uc);
	struct siginfo_ info;
	memcpy(&info, t->pend_info, sizeof info);
	u64 mask = t->pend_mask;
	t->pending = 0;
	deliver(t, uc, &info, mask);
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
	if (uc->mc.rip == (u64)fast_last) /* everything is the guest's again, but for the jump */
		uc->mc.rip = uc->mc.rcx;
	else if (mm.tramps)
		uc->mc.rip = guest_rip(uc->mc.rip);
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
	struct call c = {(int)r->rax, {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9}, r->rip, r->rsp, uc};
	s64 nr = c.nr, result = dispatch(t, &c);
	if (nr == NR_rt_sigreturn)
		return;
	if (result == -ERESTARTSYS) /* anew, after the handler: rax still holds the number */
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
	if (info->sys.arch != 0xc000003e) { /* AUDIT_ARCH_X86_64: int 0x80 is another kernel interface */
		ring(thread_of((u64)uc), MSG_INT80, uc->mc.rip, 0, -1);
		uc->mc.rax = (u64)-ENOSYS;
	} else
		trapped_call(thread_of((u64)uc), uc);
	return 0;
}

/* rt_sigreturn: the guest's frame becomes the state that this trap returns to. */
s64 fn_sigreturn(struct thread *t, struct call *c)
{
	struct ucontext_ *uc = c->uc, in;
	u64 at = c->sp; /* the handler's ret has popped pretcode */
	if (copy_in(&in, at, sizeof in))
		goto bad;
	u8 *host_fp = (u8 *)uc->mc.fpstate;
	u64 room = host_fp ? fpstate_size(host_fp) : 0, keep_fp = uc->mc.fpstate;
	if (in.mc.fpstate && room) {
		u8 head[512];
		if (copy_in(head, in.mc.fpstate, sizeof head))
			goto bad;
		u64 size = fpstate_size(head);
		if (size > room)
			goto bad;
		if (copy_in(host_fp, in.mc.fpstate, size))
			goto bad;
	}
	struct ucontext_ keep = *uc;
	uc->mc = in.mc;
	uc->mc.fpstate = in.mc.fpstate ? keep_fp : 0;
	uc->mc.cs = keep.mc.cs;
	uc->mc.ss = in.flags & 4 /* UC_STRICT_RESTORE_SS */ ? in.mc.ss : keep.mc.ss;
	t->altstack.sp = in.stack.sp;
	t->altstack.size = in.stack.flags & SS_DISABLE ? 0 : in.stack.size;
	t->altstack.flags = in.stack.flags & SS_AUTODISARM;
	set_guest_mask(t, uc, in.sigmask);
	if (t->pending)
		t->pend_mask = in.sigmask & ~UNBLOCKABLE;
	return 0;
bad:
	force_segv(t, uc);
	return 0;
}
