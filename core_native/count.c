/*
 * Counting calls for `ring3 trace -c`: the supervisor is not asked, it reads the sums in the channel's first page.
 * Layer: beside dispatch.  Touches: the process's page of the channel, which all of its threads add to.
 */
#include "core.h"

static u64 ticks(void)
{
	u32 low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return low | (u64)high << 32;
}

static void add(u64 *word, u64 n)
{
	__atomic_fetch_add(word, n, __ATOMIC_RELAXED);
}

/* A pair of clocks, so that the supervisor can turn ticks into seconds. */
static void stamp(struct ring3_proc_page *page, int i)
{
	u64 now[2];
	sys(NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, now);
	page->clock_ticks[i] = ticks();
	page->clock_ns[i] = now[0] * 1000000000 + now[1];
}

s64 counted_call(struct thread *t, struct call *c)
{
	struct ring3_proc_page *page = (struct ring3_proc_page *)t->proc->chan;
	s64 nr = c->nr;
	if (nr < 0 || nr >= 512)
		return run_lane(t, c);
	if (!page->clock_ticks[0])
		stamp(page, 0);
	if (nr == NR_exit_group || nr == NR_execve)
		stamp(page, 1);
	add(&page->calls[nr], 1);
	u64 begun = ticks();
	s64 result = run_lane(t, c);
	/* A forked child returns here too, with a page of its own: the call was its parent's. */
	if (page != (struct ring3_proc_page *)t->proc->chan || (result == 0 && (nr == NR_fork || nr == NR_clone || nr == NR_clone3)))
		return result;
	add(&page->ticks[nr], ticks() - begun);
	if (result < 0 && result >= -4095 && nr != NR_rt_sigreturn)
		add(&page->errors[nr], 1);
	return result;
}
