/*
 * Rewritten text: the fast entry's C side, and the mapping of text that the supervisor has rewritten.
 * Layer: beside dispatch and mem.  Touches: GS, trampoline pages, the guest's executable mappings.
 *
 * loader/rewrite.py lays a trampoline out:
 *   +0 the displaced mov, or a nop   +5 lea ret,%rcx   +12 lea trap,%r11   +19 jmp *fast_entry   +33 syscall   +35 jmp ret
 *   +48 the site (a vaddr of the file)   +56 its form   +60 how many bytes are copied here   +62 how many of them the
 *   jump to here overwrites
 * A site whose preceding instructions are displaced has two: they and a jump to +5 of the next one come first.
 */
#include "core.h"

#define TRAP_AT 33

/* The address that a trampoline at `base` returns to: the instruction after the site's syscall. */
static u64 site_return(u64 base)
{
	s32 rel;
	memcpy(&rel, (void *)(base + TRAP_AT + 3), 4);
	return base + TRAP_AT + 7 + rel;
}

static struct tramp_region *region_of(u64 rip)
{
	for (u32 i = 0; i < mm.tramps; i++)
		if (rip >= mm.tramp[i].start && rip < mm.tramp[i].end)
			return &mm.tramp[i];
	return NULL;
}

/* Where a call that trapped at `rip` returns to, if it did so in a trampoline; else 0. */
u64 tramp_return(u64 rip)
{
	return region_of(rip) ? site_return(ALIGN_DOWN(rip, RING3_TRAMPOLINE_SIZE)) : 0;
}

enum { FORM_MOV = 1, FORM_HOP, FORM_BEFORE };

static u32 form_at(u64 base)
{
	return *(u32 *)(base + 56);
}

/* Is `at` in the trampoline at `base` behind the first of several instructions that were overwritten? */
static int is_head(u64 base, u64 at)
{
	return form_at(base) == FORM_BEFORE && at && at < *(u16 *)(base + 62);
}

/*
 * Is the guest between two instructions whose own places are overwritten?  There is no address to show for that.  The few that
 * remain change registers only and lead to a call, so a signal may wait for that.
 */
int must_go_on(u64 rip)
{
	u64 base = ALIGN_DOWN(rip, RING3_TRAMPOLINE_SIZE);
	return region_of(rip) && is_head(base, rip - base);
}

/* The address that the guest knows for a place in the trampoline at `base`. */
static u64 place_in_trampoline(u64 base, u64 at)
{
	u32 displaced = *(u16 *)(base + 60);
	if (form_at(base) == FORM_BEFORE && displaced) {
		u64 site = site_return(base + RING3_TRAMPOLINE_SIZE) - 2;
		return at < displaced ? site - displaced + at : site;
	}
	u64 ret = site_return(base);
	if (at == TRAP_AT + 2)
		return ret;
	return at == 0 && displaced ? ret - 2 - displaced : ret - 2;
}

/* The address that the guest knows for an instruction of ours that was interrupted. */
u64 guest_rip(u64 rip)
{
	u64 base = ALIGN_DOWN(rip, RING3_TRAMPOLINE_SIZE);
	if (region_of(rip))
		return place_in_trampoline(base, rip - base);
	/* The jump in the padding between functions that a two-byte hop leads to; every other stands where it was put. */
	u8 code[5];
	s32 rel;
	if (copy_in(code, rip, 5) || code[0] != 0xe9)
		return rip;
	memcpy(&rel, code + 1, 4);
	base = rip + 5 + rel;
	if (base % RING3_TRAMPOLINE_SIZE || !region_of(base) || form_at(base) != FORM_HOP)
		return rip;
	return site_return(base) - 2;
}

void tramp_add(u64 start, u64 size)
{
	lock(&mm.lock);
	if (mm.tramps < TRAMP_MAX)
		mm.tramp[mm.tramps++] = (struct tramp_region){start, start + size};
	unlock(&mm.lock);
}

/* The guest unmaps or maps over [addr, addr + size): trampolines there, or of an image that ends there, go. */
void tramp_forget(u64 addr, u64 size)
{
	if (likely(!mm.tramps))
		return;
	lock(&mm.lock);
	for (u32 i = 0; i < mm.tramps; i++) {
		struct tramp_region *r = &mm.tramp[i];
		int behind = r->start == ALIGN_UP(addr + size, PAGE);
		if (!behind && (r->end <= addr || r->start >= addr + size))
			continue;
		if (behind)
			sys(NR_munmap, r->start, r->end - r->start);
		*r = mm.tramp[--mm.tramps];
		i--;
	}
	unlock(&mm.lock);
}

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
}

void guest_takes_gs(void)
{
	no_fast_entry();
	mm.gs_taken = 1;
}

/* A call through the fast entry.  0: done; 1: it needs the frame that only a trap makes. */
int core_fast(struct fast_frame *f)
{
	struct thread *t = thread_of((u64)f);
	struct call c = {(int)f->rax, {f->rdi, f->rsi, f->rdx, f->r10, f->r8, f->r9}, f->ret, t->guest_sp, NULL};
	if (needs_frame(c.nr))
		return 1;
	t->fast_nr = f->rax;
	do
		f->rax = dispatch(t, &c);
	while (unlikely((s64)f->rax == -ERESTARTSYS && !t->pending));
	t->fast_result = f->rax;
	return 0;
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
	int fd = -1;
	u32 flags;
	if (!placed_by_us(c))
		return native(t, c);
	if (t->pending)
		return -ERESTARTSYS;
	if (request_image(t, (int)c->a[4], c->a[5]) || receive_fds(t, &fd, 1, &flags) != 1)
		return native(t, c);
	u64 vaddr = s->r_args[0], delta = s->r_args[1], offset = s->r_args[2], size = s->r_args[3];
	if (s->r_args[4])
		guest_takes_gs();
	s64 r = sys(NR_mmap, c->a[0], c->a[1], c->a[2], c->a[3], fd, c->a[5]);
	if (r > 0) {
		u64 at = r - vaddr + delta;
		if (!touches_core(at, size) && sys(NR_mmap, at, size, PROT_READ | PROT_EXEC,
						   MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, offset) == (s64)at)
			tramp_add(at, size);
		else /* no room within reach: the text as it is, on the trap */
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
			(struct tramp_region){r, r + size};
	return r;
}
