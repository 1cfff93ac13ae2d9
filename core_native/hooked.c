/*
 * Calls that somebody wants to hear of: Python's hooks and traces before and after a call, native hooks around both.
 * Layer: above dispatch.  Touches: the slot; pages that it lends the guest for a hook's own arguments.
 */
#include "core.h"

/* A vector of offsets into its own buffer becomes one of pointers (argv, envp). */
static void point_into(u64 buffer, u32 size)
{
	for (u64 at = buffer, word; at + 8 <= buffer + size; at += 8) {
		memcpy(&word, (void *)at, 8);
		if (!word)
			return;
		word += buffer;
		memcpy((void *)at, &word, 8);
	}
}

/* Bytes that a hook gave for arguments lie in pages of the guest's own for as long as the call lasts. */
static s64 lend_buffers(struct thread *t, struct call *c, u64 *at, u64 *size)
{
	struct ring3_slot *s = t->slot;
	u32 n = s->r_nout;
	*size = RING3_SLOT_DATA_SIZE;
	s64 r = sys(NR_mmap, 0, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r < 0)
		return r;
	*at = r;
	for (u32 i = 0; i < n && i < RING3_MAX_OUT; i++) {
		u32 off = s->out_off[i], len = s->out_len[i], arg = s->out_addr[i] & ~BUFFER_VECTOR;
		if (off > RING3_SLOT_DATA_SIZE || len > RING3_SLOT_DATA_SIZE - off || arg > 5)
			continue;
		memcpy((void *)(r + off), slot_data(t) + off, len);
		c->a[arg] = r + off;
		if (s->out_addr[i] & BUFFER_VECTOR)
			point_into(r + off, len);
	}
	return 0;
}

/* What a hook decided: the call as it was made, the call as the hook changed it, or the hook's own answer. */
static s64 hook_decides(struct thread *t, struct call *c, s64 action)
{
	u64 buffers = 0, size = 0;
	s64 bad = 0;
	if ((action & 0xff) == ACT_NATIVE_ARGS && !(action & ACT_HANDLED)) {
		c->nr = t->slot->r_nr;
		for (int i = 0; i < 6; i++)
			c->a[i] = t->slot->r_args[i];
		if (action & ACT_BUFFERS)
			bad = lend_buffers(t, c, &buffers, &size);
	} else if ((action & 0xff) != ACT_NATIVE || (action & ACT_HANDLED)) {
		return ask_finish(t, c, action);
	}
	s64 result = bad ? bad : run_lane(t, c);
	if (buffers)
		sys(NR_munmap, buffers, size);
	return result;
}

static int forks(s64 nr)
{
	return nr == NR_clone || nr == NR_fork || nr == NR_vfork || nr == NR_clone3;
}

/*
 * A hooked call: the supervisor hears of it before and, when its answer asks for that, after.  It is told whether the
 * arguments could be read, in `result`.  rt_sigreturn has no result and cannot be prevented; a forked child has only the
 * parent's to tell, and tells nothing.
 */
static s64 hooked_call(struct thread *t, struct call *c)
{
	if (t->pending)
		return -ERESTARTSYS;
	struct call made = *c;
	t->slot->result = marshal(t, c);
	s64 action = ask(t, REQ_ENTER);
	if (made.nr == NR_rt_sigreturn)
		return run_lane(t, c);
	s64 result = hook_decides(t, c, action);
	int child = forks(c->nr) && result == 0;
	*c = made;
	if (!(action & ACT_REPORT) || child)
		return result;
	t->slot->nr = made.nr;
	t->slot->result = result;
	action = ask(t, REQ_EXIT);
	return result == -ERESTARTSYS ? result : ask_finish(t, c, action);
}

static s64 python_hooks(struct thread *t, struct call *c)
{
	const struct ring3_world *w = world();
	if (!((u64)c->nr < 512 ? bit_of(w->hook_enter, c->nr) : w->hook_flags & HOOK_UNKNOWN))
		return run_lane(t, c);
	return w->hook_flags & HOOK_COUNT ? counted_call(t, c) : hooked_call(t, c);
}

/* A call for which somebody_listens(). */
s64 hooked_dispatch(struct thread *t, struct call *c)
{
	if (natively_hooked(c->nr))
		return native_hook(t, c, python_hooks);
	return python_hooks(t, c);
}
