/*
 * Trampolines: where they are, what the guest knows of them, and how its text becomes again what it was.
 * Layer: beside the trap and mem.  Touches: mm.tramp, trampoline pages (read), rewritten text when the guest wants to write it.
 *
 * loader/trampoline.py lays one out:
 *   +0 the displaced mov, or a nop   +5 lea ret,%rcx   +12 lea trap,%r11   +19 jmp *fast_entry   +33 syscall   +35 jmp ret
 *   +48 the site (a vaddr of the file)   +56 its form   +60 how many bytes are copied here   +62 how many of them the
 *   jump to here overwrites
 * A site whose preceding instructions are displaced has two: they and a jump to +5 of the next one come first, and at +46
 * and +47 is where among them displacements from rip are.
 */
#include "core.h"

#define TRAP_AT 33
enum { FORM_MOV = 1, FORM_HOP, FORM_BEFORE, FORM_ZPOLINE };

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

static u32 form_at(u64 base)
{
	return *(u32 *)(base + 56);
}

static u32 displaced_at(u64 base)
{
	return *(u16 *)(base + 60);
}

static u32 head_at(u64 base)
{
	return *(u16 *)(base + 62);
}

/*
 * Is the guest between two instructions whose own places are overwritten?  There is no address to show for that.  The few that
 * remain change registers only and lead to a call, so a signal may wait for that.
 */
int must_go_on(u64 rip)
{
	u64 base = ALIGN_DOWN(rip, RING3_TRAMPOLINE_SIZE);
	return region_of(rip) && form_at(base) == FORM_BEFORE && rip > base && rip - base < head_at(base);
}

/* The address that the guest knows for a place in the trampoline at `base`. */
static u64 place_in_trampoline(u64 base, u64 at)
{
	u32 displaced = displaced_at(base);
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

/* [start, start + size) are the trampolines of the text [text, text_end).  0 where there is no place to note it. */
int tramp_add(u64 start, u64 size, u64 text, u64 text_end)
{
	u32 i;
	lock(&mm.lock);
	for (i = 0; i < mm.tramps && mm.tramp[i].end; i++)
		;
	if (i < TRAMP_MAX) {
		mm.tramp[i] = (struct tramp_region){start, start + size, text, text_end};
		if (i == mm.tramps)
			__atomic_store_n(&mm.tramps, i + 1, __ATOMIC_RELEASE);
	}
	unlock(&mm.lock);
	return i < TRAMP_MAX;
}

/* The vaddr in its file of the site that the trampoline at `base` is for. */
static u64 vaddr_at(u64 base)
{
	return *(u64 *)(base + 48);
}

/* The trampoline of the site that calls page zero and goes on at `ret`; 0 if there is none.  They are in the sites' order. */
u64 zp_trampoline(u64 ret)
{
	for (u32 i = 0; i < mm.tramps; i++) {
		struct tramp_region r = mm.tramp[i];
		if (!r.end || ret - 2 < r.text || ret > r.text_end)
			continue;
		u64 first = r.start, low = 0, high = (r.end - r.start) / RING3_TRAMPOLINE_SIZE;
		if (form_at(first) == FORM_BEFORE && head_at(first))
			first += RING3_TRAMPOLINE_SIZE;
		u64 wanted = ret - 2 - (site_return(first) - 2 - vaddr_at(first));
		while (low < high) {
			u64 middle = (low + high) / 2, base = r.start + middle * RING3_TRAMPOLINE_SIZE;
			if (vaddr_at(base) == wanted)
				return form_at(base) == FORM_ZPOLINE ? base : 0;
			if (vaddr_at(base) < wanted)
				low = middle + 1;
			else
				high = middle;
		}
	}
	return 0;
}

static int overlap(u64 a, u64 a_end, u64 b, u64 b_end)
{
	return a < b_end && b < a_end;
}

/*
 * The first trampolines in [addr, addr + size) whose text is not there too: nothing else may take their place, since the text
 * goes on jumping to them.  NULL if there are none.
 */
static struct tramp_region *needed(u64 addr, u64 size)
{
	struct tramp_region *found = NULL;
	for (u32 i = 0; i < mm.tramps; i++) {
		struct tramp_region *r = &mm.tramp[i];
		if (r->end && overlap(addr, addr + size, r->start, r->end) && (r->text < addr || r->text_end > addr + size) &&
		    (!found || r->start < found->start))
			found = r;
	}
	return found;
}

u64 tramps_needed(u64 addr, u64 size)
{
	struct tramp_region *r = likely(!mm.tramps) ? NULL : needed(addr, size);
	return r ? r->start : 0;
}

/* The guest has unmapped [addr, addr + size): trampolines whose text is gone go too.  mm.lock is held. */
static void unmapped(u64 addr, u64 size)
{
	u64 end = addr + ALIGN_UP(size, PAGE);
	for (u32 i = 0; i < mm.tramps; i++) {
		struct tramp_region *r = &mm.tramp[i];
		if (!r->end || !overlap(addr, end, r->text, r->text_end))
			continue;
		if (addr <= r->text)
			r->text = end;
		else if (end >= r->text_end)
			r->text_end = addr;
		if (r->text < r->text_end)
			continue;
		u64 start = r->start, length = r->end - start;
		*r = (struct tramp_region){0};
		sys(NR_munmap, start, length);
	}
}

/*
 * munmap(2) around the trampolines of text that stays.  Under the lock: once the pages are free another thread may get a library
 * there, whose trampolines must not be taken for those of what was there before.
 */
s64 unmap_around(struct thread *t, struct call *c)
{
	u64 addr = c->a[0], end = addr + ALIGN_UP(c->a[1], PAGE);
	if (unlikely(!mm.tramps) || addr % PAGE || end <= addr)
		return native(t, c);
	s64 r = 0;
	lock(&mm.lock);
	while (!r && addr < end) {
		struct tramp_region *keep = needed(addr, end - addr);
		u64 to = keep ? (keep->start > addr ? keep->start : addr) : end;
		if (to > addr)
			r = sys(NR_munmap, addr, to - addr);
		if (!r)
			unmapped(addr, to - addr);
		addr = keep ? keep->end : end;
	}
	unlock(&mm.lock);
	return r;
}

/* Does [addr, addr + size) hold text that jumps to trampolines?  It cannot do so from anywhere else. */
int is_rewritten(u64 addr, u64 size)
{
	for (u32 i = 0; i < mm.tramps; i++)
		if (mm.tramp[i].end && overlap(addr, addr + size, mm.tramp[i].text, mm.tramp[i].text_end))
			return 1;
	return 0;
}

/*
 * Replace the first bytes of a patch under the feet of threads that may run it: by one store where a cache line holds it
 * (Intel SDM vol. 3A, 9.1.1), else a jump to itself stands there meanwhile.
 */
static void put_back(u8 *at, const u8 *code, u32 n)
{
	u64 word;
	u16 self = 0xfeeb;
	if (n > 8) {
		memcpy(at + 8, code + 8, n - 8); /* nobody comes here: the patch is a jump of five bytes */
		n = 8;
	}
	if (n == 2) {
		memcpy(&self, code, 2);
		__atomic_store_n((u16 *)at, self, __ATOMIC_RELEASE);
	} else if (((u64)at & 63) <= 56) {
		memcpy(&word, at, 8);
		memcpy(&word, code, n);
		__atomic_store_n((u64 *)at, word, __ATOMIC_RELEASE);
	} else {
		__atomic_store_n((u16 *)at, self, __ATOMIC_RELEASE);
		memcpy(at + 2, code + 2, n - 2);
		memcpy(&self, code, 2);
		__atomic_store_n((u16 *)at, self, __ATOMIC_RELEASE);
	}
}

/* The bytes that the trampoline at `base` stands for and where they were; returns how many, 0 if none (a second one). */
static u32 original(u64 base, u8 *code, u64 *at)
{
	u32 n = head_at(base);
	switch (form_at(base)) {
	case FORM_HOP:
	case FORM_ZPOLINE:
		*at = site_return(base) - 2;
		code[0] = 0x0f;
		code[1] = 0x05;
		return 2;
	case FORM_MOV:
		*at = site_return(base) - 2 - n;
		memcpy(code, (void *)base, 5);
		if (n == 7) {
			memcpy(code + 3, (void *)(base + 1), 4);
			code[0] = 0x48;
			code[1] = 0xc7;
			code[2] = 0xc0;
		}
		return n;
	case FORM_BEFORE:
		if (!n)
			return 0;
		*at = site_return(base + RING3_TRAMPOLINE_SIZE) - 2 - displaced_at(base);
		memcpy(code, (void *)base, n);
		for (u32 i = 46; i < 48; i++) {
			u32 rip = *(u8 *)(base + i);
			if (rip && rip + 4 <= n) {
				s32 distance;
				memcpy(&distance, code + rip, 4);
				distance += (s64)(base - *at);
				memcpy(code + rip, &distance, 4);
			}
		}
		return n;
	}
	return 0;
}

/*
 * The guest is about to make [addr, addr + size) writable: rewritten text there becomes what its file holds, so that what the
 * guest reads and changes is its own.  Its calls trap from then on.  Jumps in padding stay, for who is just there.
 */
void tramp_restore(u64 addr, u64 size)
{
	u64 end = addr + ALIGN_UP(size, PAGE);
	for (u32 i = 0; i < mm.tramps; i++) {
		struct tramp_region r = mm.tramp[i];
		if (!r.end || !overlap(addr, end, r.text, r.text_end))
			continue;
		for (u64 base = r.start; base < r.end; base += RING3_TRAMPOLINE_SIZE) {
			u8 code[64], now;
			u64 at, n = original(base, code, &at);
			if (!n || !overlap(addr, end, at, at + n))
				continue;
			u64 first = ALIGN_DOWN(at, PAGE), pages = ALIGN_UP(at + n, PAGE) - first;
			if (copy_in(&now, at, 1) || now != (form_at(base) == FORM_ZPOLINE ? 0xff : n == 2 ? 0xeb : 0xe9)) /* the guest's own, or done before */
				continue;
			if (sys(NR_mprotect, first, pages, PROT_READ | PROT_WRITE | PROT_EXEC))
				continue;
			put_back((u8 *)at, code, n);
			sys(NR_mprotect, first, pages, PROT_READ | PROT_EXEC);
		}
	}
}
