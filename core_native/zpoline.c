/*
 * Page zero (--rewrite=zpoline): a rewritten site is `call *%rax`, and rax the number of a call, so page zero is a slide of nops
 * that ends in a jump to zp_entry (entry.S).  Yasukata, Tazaki, Aublin, Ishiguro, "zpoline", USENIX ATC 2023.
 * Layer: beside tramps.  Touches: page zero, registers of interrupted guest code.
 *
 * What calls or jumps there from anywhere but a known site gets what Linux gives it, SIGSEGV at that address; a site's call that
 * finds no stack is made by way of the trap.  Every such site has a trampoline too, whose `syscall` is its slow way.
 */
#include "core.h"

#define NUMBERS 512U
#define TRAP_AT 33
enum { SEGV_MAPERR = 1, SEGV_ACCERR = 2, SEGV_PKUERR = 4, FETCH_FAULT = 0x14, PAGE_FAULT = 14 };

/* Before the program is mapped.  Execute-only where the processor can (pkeys(7)); whether it can is for the supervisor to say. */
void map_page_zero(void)
{
	u64 entry = (u64)zp_entry;
	if (sys(NR_mmap, NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0))
		die("page zero cannot be mapped:", 0);
	u8 *page;
	__asm__("xor %k0, %k0" : "=r"(page)); /* the compiler knows of no object at null */
	for (u32 i = 0; i < PAGE; i++)
		page[i] = i < NUMBERS ? 0x90 : 0xf4; /* nop; hlt, which faults */
	page[NUMBERS] = 0xff; /* jmp *0(%rip) */
	page[NUMBERS + 1] = 0x25;
	for (u32 i = 2; i < 6; i++)
		page[NUMBERS + i] = 0;
	for (u32 i = 0; i < 8; i++)
		page[NUMBERS + 6 + i] = entry >> 8 * i;
	if (sys(NR_mprotect, NULL, PAGE, PROT_EXEC))
		die("page zero cannot be made executable:", 0);
	mm.page_zero = 1;
}

/* The trap of the known site whose call returns to `ret`; 0 if there is none. */
u64 zp_trap_of(u64 ret)
{
	u64 base = zp_trampoline(ret);
	return base ? base + TRAP_AT : 0;
}

/* Where an instruction that leads to page zero leads: told by the register that it names, if it is a call that does. */
static u64 destination(const struct sigcontext_ *r, u64 ret)
{
	const u64 regs[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
			      r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
	u8 code[3];
	if (copy_in(code, ret - 3, 3) || code[1] != 0xff || (code[2] & 0xf8) != 0xd0)
		return 0;
	u64 to = regs[(code[2] & 7) | ((code[0] & 0xf1) == 0x41 ? 8 : 0)];
	return to < PAGE ? to : 0;
}

static void null_fetch(struct siginfo_ *info, struct sigcontext_ *r, u64 at)
{
	info->si_code = SEGV_MAPERR;
	info->fault.addr = r->cr2 = r->rip = at;
	r->err = FETCH_FAULT;
	r->trapno = PAGE_FAULT;
}

/* At one of our instructions that fault on purpose, or in page zero behind the numbers: 1 if the call is made by trapping. */
static int arrived(struct siginfo_ *info, struct sigcontext_ *r)
{
	u64 ret, at = r->rip < PAGE ? r->rip : 0;
	if (copy_in(&ret, r->rsp, 8)) {
		null_fetch(info, r, at);
		return 0;
	}
	u64 trap = r->rip == (u64)zp_slow ? zp_trap_of(ret) : 0;
	if (trap) {
		r->rip = trap;
		r->rsp += 8;
		return 1;
	}
	null_fetch(info, r, at ? at : destination(r, ret));
	return 0;
}

/* A signal met the guest: undo what is ours in its state.  Non-zero: there is nothing to deliver, it goes on. */
int zp_signal(struct thread *t, struct siginfo_ *info, struct ucontext_ *uc, int fault)
{
	struct sigcontext_ *r = &uc->mc;
	u64 ret, trap;
	if (fault && r->rip == (u64)zp_load) { /* no stack: nobody called */
		r->rcx = t->zp_rcx;
		r->r11 = t->zp_r11;
		null_fetch(info, r, 0);
		return 0;
	}
	if (fault && (r->rip == (u64)zp_slow || r->rip == (u64)zp_null_end || r->rip < PAGE)) {
		if (r->rip == (u64)zp_null_end && t->pending)
			uc->sigmask = t->pend_mask & ~NEVER_BLOCKED; /* recorded on the way here: after this one's handler */
		return arrived(info, r);
	}
	if (fault && (trap = zp_trap_of(r->rip + 2))) { /* the call found no stack to push on */
		r->rip = trap;
		return 1;
	}
	if (fault && info->fault.addr < PAGE && (info->si_code == SEGV_ACCERR || info->si_code == SEGV_PKUERR)) {
		info->si_code = SEGV_MAPERR;
		r->err &= ~0x21UL;
	} else if (!fault && r->rip < PAGE && !copy_in(&ret, r->rsp, 8) && zp_trap_of(ret)) {
		r->rip = ret - 2;
		r->rsp += 8;
	}
	return 0;
}
