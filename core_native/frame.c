/*
 * Signal frames as the guest sees them: pushed on its stack for a handler, popped by rt_sigreturn; its alternate stack.
 * Layer: beneath signal.c.  Touches: the guest's stack, the register frame of the trap.
 * The layout is that of arch/x86/kernel/signal_64.c and arch/x86/kernel/fpu/signal.c.
 */
#include "core.h"

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
		int same = new.sp == t->altstack.sp && new.size == t->altstack.size && new.flags == t->altstack.flags;
		if (mode == SS_DISABLE)
			new.sp = new.size = 0;
		else if (!same && new.size < 2048) /* who changes nothing is not asked: do_sigaltstack() */
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
s64 push_frame(struct thread *t, struct ucontext_ *uc, const struct siginfo_ *info, const struct ksigaction *act,
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
	return 0;
bad:
	force_segv(t, uc);
	return 0;
}
