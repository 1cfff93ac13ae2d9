/*
 * Files that the supervisor opened ahead, since the program opened them when it ran last (kernel/gifts.py).
 * Layer: beside the channel.  Touches: descriptors above the guest's limit, until the guest opens what they stand for.
 *
 * A gift counts as long as nobody has changed a name or an attribute since it was made (the epoch of the answers), for
 * whoever has the context that it was made for. Whoever forks, or changes the limit of descriptors, has none left.
 */
#include "core.h"

/* Take over what came with the plan; the descriptors move above the limit, which the caller has raised. */
void gifts_take_over(struct thread *t, const struct ring3_plan *plan, const int *files)
{
	struct proc *p = t->proc;
	const struct ring3_gift *from = (const void *)((const u8 *)plan + plan->gifts_off);
	for (u32 i = 0; i < plan->ngifts && i < RING3_MAX_GIFTS; i++) {
		struct gift *g = &p->gifts[i];
		g->known = from[i];
		g->fd = sys(NR_fcntl, files[from[i].file], F_DUPFD_CLOEXEC, p->soft_nofile);
		g->image = from[i].image < 0 ? -1 : (int)sys(NR_fcntl, files[from[i].image], F_DUPFD_CLOEXEC, p->soft_nofile);
	}
	p->ngifts = plan->ngifts;
	p->gifts_epoch = plan->gifts_epoch;
	p->gifts_context = t->slot->context;
}

static int take(int *place)
{
	return __atomic_exchange_n(place, -1, __ATOMIC_ACQ_REL);
}

/* Nobody gets one any more. */
void gifts_drop(struct proc *p)
{
	u32 n = __atomic_exchange_n(&p->ngifts, 0, __ATOMIC_ACQ_REL);
	for (u32 i = 0; i < n; i++) {
		int fd = take(&p->gifts[i].fd), image = take(&p->gifts[i].image);
		if (fd >= 0)
			sys(NR_close, fd);
		if (image >= 0)
			sys(NR_close, image);
	}
}

int gift_owns(struct proc *p, int fd)
{
	for (u32 i = 0; i < p->ngifts; i++)
		if (fd == p->gifts[i].fd || fd == p->gifts[i].image)
			return 1;
	return 0;
}

static int matches(const struct gift *g, const u8 *path, u32 length, u32 cwd, u32 flags)
{
	return g->known.flags == flags && g->known.cwd == cwd && g->known.path_len == length &&
	       same_bytes(g->known.path, path, length);
}

/* open(2) of an absolute path, or of one that begins at the directory `cwd`.  1: done, with this result. */
int gift_open(struct thread *t, const u8 *path, u32 length, u32 cwd, u32 flags, s64 *result)
{
	struct proc *p = t->proc;
	if (likely(!p->ngifts) || p->gifts_context != t->slot->context ||
	    p->gifts_epoch != current_epoch())
		return 0;
	for (u32 i = 0; i < p->ngifts; i++) {
		struct gift *g = &p->gifts[i];
		if (g->fd < 0 || !matches(g, path, length, cwd, flags))
			continue;
		int fd = take(&g->fd);
		if (fd < 0)
			continue;
		*result = sys(NR_fcntl, fd, flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
		sys(NR_close, fd);
		if (*result == -EINVAL) /* F_DUPFD's word for a limit of no descriptors */
			*result = -EMFILE;
		if (*result >= 0 && *result < FD_TABLE)
			p->fd_class[*result] = g->known.rewritable ? FD_REWRITABLE : FD_NATIVE;
		((struct ring3_proc_page *)p->chan)->gifts_used[i / 64] |= 1UL << i % 64;
		return 1;
	}
	return 0;
}

/* The rewritten text of a file that is mapped executable, into the slot as REQ_IMAGE answers it.  Its descriptor or -1. */
int gift_image(struct thread *t, int fd, u64 offset)
{
	struct proc *p = t->proc;
	struct kstat_ st;
	if (likely(!p->ngifts) || sys(NR_fstat, fd, &st))
		return -1;
	for (u32 i = 0; i < p->ngifts; i++) {
		const struct ring3_gift *g = &p->gifts[i].known;
		if (p->gifts[i].image < 0 || g->dev != st.dev || g->ino != st.ino ||
		    offset < ALIGN_DOWN(g->start, PAGE) || offset >= g->start + g->length)
			continue;
		u64 *answer = t->slot->r_args;
		answer[0] = g->vaddr + offset - g->start;
		answer[1] = g->delta;
		answer[2] = g->tramp_offset;
		answer[3] = g->tramp_length;
		answer[4] = g->uses_gs;
		return take(&p->gifts[i].image);
	}
	return -1;
}
