/*
 * Calls that wait with another signal mask: sigsuspend, sigtimedwait, ppoll, pselect, epoll_pwait; and signalfd.
 * Layer: core functions.  Touches: nothing but their mask argument, which must not block what the core needs.
 */
#include "core.h"

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
		t->vmask = old & NEVER_BLOCKED; /* what the handler's frame restores */
		c->uc->sigmask = old & ~NEVER_BLOCKED;
		return -EINTR;
	}
	s64 r = with_mask(t, c, 0, c->a[1]);
	return r == -ERESTARTSYS ? -EINTR : r;
}

s64 fn_sigtimedwait(struct thread *t, struct call *c)
{
	struct siginfo_ info;
	s64 r = with_mask(t, c, 0, c->a[3]);
	if (r <= 0 || !c->a[1] || !((struct ring3_world *)WORLD_ADDR)->virtual_uids || copy_in(&info, c->a[1], sizeof info))
		return r;
	show_virtual_uid(t, &info);
	copy_out(c->a[1], &info, sizeof info);
	return r;
}

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
