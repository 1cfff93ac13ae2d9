/*
 * Native hooks: the user's C, called around the calls that the world page names.
 * Layer: above dispatch.  Touches: nothing but the call.
 */
#include "core.h"
#include "ring3_hook.h"

struct inside {
	struct thread *t;
	struct call *c;
};

static long hook_syscall(struct ring3_call *call, long nr, const unsigned long args[6])
{
	struct inside *in = call->core;
	struct call made = *in->c;
	made.nr = (s32)nr;
	for (int i = 0; i < 6; i++)
		made.a[i] = args[i];
	/* What reads or changes the trap's frame is the guest's to make, not a hook's. */
	return needs_frame(made.nr) ? -ENOSYS : run_lane(in->t, &made);
}

static long hook_read(void *to, unsigned long guest, unsigned long size) { return copy_in(to, guest, size); }
static long hook_write(unsigned long guest, const void *from, unsigned long size) { return copy_out(guest, from, size); }

int natively_hooked(s64 nr)
{
	struct ring3_world *w = (struct ring3_world *)WORLD_ADDR;
	u64 named = (u64)nr < 512 ? w->native_calls[nr / 64] >> (nr % 64) & 1 : w->native_beyond;
	return unlikely(named) && mm.native_hook; /* which not every program has */
}

/* A call with hooks around it; `go_on` makes it. */
s64 native_hook(struct thread *t, struct call *c, s64 (*go_on)(struct thread *, struct call *))
{
	struct ring3_world *w = (struct ring3_world *)WORLD_ADDR;
	int (*before)(struct ring3_call *) = (void *)w->native_before;
	void (*after)(struct ring3_call *) = (void *)w->native_after;
	struct inside in = {t, c};
	struct ring3_call call = {.nr = c->nr, .ip = c->ip, .pid = t->proc->pid, .tid = t->tid,
				  .syscall = hook_syscall, .read = hook_read, .write = hook_write, .core = &in};
	for (int i = 0; i < 6; i++)
		call.args[i] = c->a[i];
	if (before && before(&call) == RING3_ANSWERED)
		return call.result;
	struct call made = *c;
	made.nr = (s32)call.nr;
	for (int i = 0; i < 6; i++)
		made.a[i] = call.args[i];
	call.result = go_on(t, &made);
	if (after && call.result != -ERESTARTSYS && !needs_frame(made.nr))
		after(&call);
	return call.result;
}
