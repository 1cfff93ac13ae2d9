/*
 * The vDSO: the host's is found and kept, unnamed; the guest's is mapped from the core's own file.
 * Layer: start of a guest.  Touches: the table page that the guest's vDSO jumps through.
 */
#include "core.h"

extern const u8 vdso_image[], vdso_image_end[];

struct ehdr {
	u8 ident[16];
	u16 type, machine;
	u32 version;
	u64 entry, phoff, shoff;
	u32 flags;
	u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct phdr {
	u32 type, flags;
	u64 offset, vaddr, paddr, filesz, memsz, align;
};
struct dyn {
	s64 tag;
	u64 value;
};
struct symbol {
	u32 name;
	u8 info, other;
	u16 shndx;
	u64 value, size;
};

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* Fill `table` with the addresses of the host vDSO's functions, in the order of vdso/vdso.S. */
static void find_functions(u64 base, u64 *table)
{
	static const char *const names[] = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time",
					    "__vdso_clock_getres", "__vdso_getcpu"};
	const struct ehdr *e = (void *)base;
	const struct phdr *p = (void *)(base + e->phoff);
	const struct dyn *d = NULL;
	u64 bias = base, symbols = 0, strings = 0, hash = 0;
	for (u32 i = 0; i < e->phnum; i++) {
		if (p[i].type == 1)
			bias = base - p[i].vaddr;
		else if (p[i].type == 2)
			d = (void *)(base + p[i].offset);
	}
	for (; d && d->tag; d++) {
		if (d->tag == 4)
			hash = bias + d->value;
		else if (d->tag == 5)
			strings = bias + d->value;
		else if (d->tag == 6)
			symbols = bias + d->value;
	}
	if (!symbols || !strings)
		return;
	/* Without the old hash table nothing counts the symbols; the string table follows them, as every linker has it. */
	u64 count = hash ? ((u32 *)hash)[1] : strings > symbols ? (strings - symbols) / sizeof(struct symbol) : 0;
	const struct symbol *s = (void *)symbols;
	for (u64 i = 0; i < count; i++)
		for (u32 k = 0; k < COUNT(names); k++)
			if (s[i].shndx && same((char *)strings + s[i].name, names[k]))
				table[k] = bias + s[i].value;
}

/* Map the guest's vDSO near the top of the mmap area.  Its address, or 0 when the guest has to do without. */
u64 map_vdso(int exe, u64 host)
{
	u64 size = vdso_image_end - vdso_image;
	u64 *table = (u64 *)RING3_VDSO_TABLE;
	s64 r = sys(NR_mmap, table, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (r < 0)
		return 0;
	if (host)
		find_functions(host, table);
	/* The core's file has its pages at the offsets that they have in memory (core.ld). */
	r = sys(NR_mmap, NULL, size, PROT_READ | PROT_EXEC, MAP_PRIVATE, exe, (u64)vdso_image - RING3_CORE_BASE);
	return r < 0 ? 0 : (u64)r;
}
