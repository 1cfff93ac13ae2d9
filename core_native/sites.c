/*
 * System call sites that trap: each is counted, and the supervisor hears of it once, so that it learns the site.
 * Layer: beside the trap.  Touches: mm.trapped, the process's page of the channel, the process's socket.
 *
 * A site has one place in mm.trapped for as long as its text is mapped; its count has the same place in the page of
 * every process that shares the memory or was forked from it.  Where the table is full, further sites go uncounted.
 */
#include "core.h"

#define PROBES 24
#define GONE 1UL /* the text of the site that was here is unmapped */

/* The place of `site`; -1 where there is no room. */
static int place_of(u64 site, int *fresh)
{
	u32 at = (site * 0x9e3779b97f4a7c15UL) >> 32;
	for (u32 i = 0; i < PROBES; i++, at++) {
		u64 *entry = &mm.trapped[at % RING3_TRAP_SITES], seen = __atomic_load_n(entry, __ATOMIC_RELAXED);
		if (!seen && __atomic_compare_exchange_n(entry, &seen, site, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			*fresh = 1;
			return at % RING3_TRAP_SITES;
		}
		if (seen == site)
			return at % RING3_TRAP_SITES;
	}
	return -1;
}

static void widen(u64 site)
{
	lock(&mm.lock);
	if (!mm.trapped_high || site < mm.trapped_low)
		mm.trapped_low = site;
	if (site >= mm.trapped_high)
		mm.trapped_high = site + 1;
	unlock(&mm.lock);
}

/* The syscall instruction at `site` trapped, at its own place or (`rewritten`) in its trampoline. */
void note_trap(struct thread *t, u64 site, int rewritten)
{
	u32 wanted = ((struct ring3_world *)WORLD_ADDR)->trap_reports;
	int fresh = 0;
	if (!(wanted & (rewritten ? TRAPS_ALL : TRAPS_NEW)))
		return;
	int place = place_of(site, &fresh);
	if (place < 0)
		return;
	struct ring3_proc_page *page = (struct ring3_proc_page *)t->proc->chan;
	page->trap_site[place] = site;
	__atomic_fetch_add(&page->trap_count[place], 1, __ATOMIC_RELAXED);
	if (unlikely(fresh)) {
		widen(site);
		t->slot->args[0] = site;
		t->slot->args[1] = (u64)place | (u64)rewritten << 32;
		t->slot->id_fd[0] = t->slot->id_fd[1] = -1;
		ask(t, REQ_SITE); /* and wait: what lies where can be looked up only while we live */
	}
}

/* [addr, addr + size) is no longer what it was. */
void traps_forget(u64 addr, u64 size)
{
	if (likely(addr >= mm.trapped_high || addr + size <= mm.trapped_low))
		return;
	for (u32 i = 0; i < RING3_TRAP_SITES; i++)
		if (mm.trapped[i] >= addr && mm.trapped[i] < addr + size)
			mm.trapped[i] = GONE;
}
