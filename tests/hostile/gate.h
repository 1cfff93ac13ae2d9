/* Calls by the core's own system call instruction, which Syscall User Dispatch lets through: what a guest makes that has
 * got around the core. */
#pragma once
#include <string.h>

#define CORE_TEXT 0x210000001000UL

/* "syscall; ret" in the core's text. */
static const unsigned char *the_gate(void)
{
	static const unsigned char *found;
	if (!found)
		for (found = (void *)CORE_TEXT; memcmp(found, "\x0f\x05\xc3", 3); found++) { }
	return found;
}

static long gate6(long nr, long a, long b, long c, long d, long e, long f)
{
	long r = nr;
	const unsigned char *found = the_gate(); /* before registers are taken */
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	register const unsigned char *to __asm__("rbx") = found;
	__asm__ volatile("call *%%rbx"
			 : "+a"(r)
			 : "r"(to), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}
#define GATE_(nr, a, b, c, d, e, f, ...) gate6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
/* A call of the host's, past the core: a result or -errno. */
#define gate(...) GATE_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
