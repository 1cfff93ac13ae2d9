/*
 * Rewritten text: who may use the fast entry, and the mapping of text that the supervisor has rewritten.
 * Layer: beside dispatch and mem.  Touches: GS, the guest's executable mappings.  Trampolines: tramps.c.
 */
#include "core.h"

/* GS finds the thread, as long as the guest leaves it alone. */
void use_gs(struct thread *t)
{
	t->core_sp = (u64)t;
	if (!mm.gs_taken)
		sys(NR_arch_prctl, 0x1001 /* ARCH_SET_GS */, t);
}

/* From now on every call of the process traps. */
void no_fast_entry(void)
{
	__atomic_store_n(&fast_target, (u64)fast_slow, __ATOMIC_RELEASE);
	__atomic_store_n(&zp_target, (u64)zp_slow, __ATOMIC_RELEASE);
}

void guest_takes_gs(void)
{
	no_fast_entry();
	mm.gs_taken = 1;
}

/*
 * Text that goes to a fixed place outside of an image that map_with_room() placed is put there by somebody with a map of
 * his own of the address space, who does not run it as it is: valgrind translates it, and knows no trampolines.
 */
static int placed_by_us(const struct call *c)
{
	if (!(c->a[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
		return 1;
	for (u32 i = 0; i < ROOMY_MAX; i++)
		if (c->a[0] >= mm.roomy[i].start && c->a[0] + c->a[1] <= mm.roomy[i].end)
			return 1;
	return 0;
}

/* mmap of a file's text: its rewritten form instead, with its trampolines behind the image; the file itself on any doubt. */
s64 map_executable(struct thread *t, struct call *c)
{
	struct ring3_slot *s = t->slot;
	int fd;
	u32 flags;
	if (!placed_by_us(c))
		return native(t, c);
	if (t->pending)
		return -ERESTARTSYS;
	fd = gift_image(t, (int)c->a[4], c->a[5]);
	if (fd < 0 && (request_image(t, (int)c->a[4], c->a[5]) || receive_fds(t, &fd, 1, &flags) != 1))
		return native(t, c);
	u64 vaddr = s->r_args[0], delta = s->r_args[1], offset = s->r_args[2], size = s->r_args[3];
	if (s->r_args[4])
		guest_takes_gs();
	s64 r = sys(NR_mmap, c->a[0], c->a[1], c->a[2], c->a[3], fd, c->a[5]);
	if (r > 0) {
		u64 at = r - vaddr + delta;
		int done = !touches_core(at, size) && sys(NR_mmap, at, size, PROT_READ | PROT_EXEC,
							  MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, offset) == (s64)at;
		if (done && !tramp_add(at, size, r, r + ALIGN_UP(c->a[1], PAGE))) {
			sys(NR_munmap, at, size);
			done = 0;
		}
		if (!done) /* no room within reach: the text as it is, on the trap */
			r = sys(NR_mmap, r, c->a[1], c->a[2], c->a[3] | MAP_FIXED, (int)c->a[4], c->a[5]);
	}
	sys(NR_close, fd);
	return r;
}

/* The first mapping of a rewritable image, which spans all of it: leave room for trampolines behind. */
#define ROOM (256UL * 1024)
s64 map_with_room(struct thread *t, struct call *c)
{
	u64 size = ALIGN_UP(c->a[1], PAGE);
	s64 at = sys(NR_mmap, 0, size + ROOM, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at < 0)
		return native(t, c);
	s64 r = sys(NR_mmap, at, c->a[1], c->a[2], c->a[3] | MAP_FIXED, (int)c->a[4], c->a[5]);
	sys(NR_munmap, at + size, ROOM);
	if (r < 0)
		sys(NR_munmap, at, size);
	else
		mm.roomy[__atomic_fetch_add(&mm.roomy_next, 1, __ATOMIC_RELAXED) % ROOMY_MAX] =
			(struct range){r, r + size};
	return r;
}
