/*
 * Counting calls for `ring3 trace -c`: the supervisor is not asked, it reads the sums in the channel's first page.
 * Layer: beside dispatch.  Touches: the process's page of the channel, which all of its threads add to.
 */
#include "core.h"

static void add(u64 *word, u64 n)
{
	__atomic_fetch_add(word, n, __ATOMIC_RELAXED);
}

s64 counted_call(struct thread *t, struct call *c)
{
	struct ring3_proc_page *page = (struct ring3_proc_page *)t->proc->chan;
	s64 nr = c->nr;
	if (nr < 0 || nr >= 512)
		return run_lane(t, c);
	add(&page->calls[nr], 1);
	u64 begun = clock_ns();
	s64 result = run_lane(t, c);
	/* A forked child returns here too, with a page of its own: the call was its parent's. */
	if (page != (struct ring3_proc_page *)t->proc->chan || (result == 0 && (nr == NR_fork || nr == NR_clone || nr == NR_clone3)))
		return result;
	add(&page->ns[nr], clock_ns() - begun);
	if (result < 0 && result >= -4095 && nr != NR_rt_sigreturn)
		add(&page->errors[nr], 1);
	return result;
}
