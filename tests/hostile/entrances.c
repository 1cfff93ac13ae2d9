/* Every entrance of the processor into the kernel, every number, from every text. */
#include "hostile.h"
#include <sys/time.h>

typedef long (*caller)(long nr, const long *args);

static long from_text(long nr, const long *a)
{
	return syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static long from_gate(long nr, const long *a)
{
	return gate6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Code that nobody has seen before: "mov %rdi, %rax; mov ...; syscall; ret" in memory that the program makes. */
static long from_made(long nr, const long *a)
{
	static const unsigned char text[] = {
		0x48, 0x89, 0xf8, 0x48, 0x89, 0xf1,			      /* mov %rdi, %rax; mov %rsi, %rcx */
		0x48, 0x8b, 0x39, 0x48, 0x8b, 0x71, 0x08, 0x48, 0x8b, 0x51, 0x10, /* mov 0(%rcx), %rdi; 8 %rsi; 16 %rdx */
		0x4c, 0x8b, 0x51, 0x18, 0x4c, 0x8b, 0x41, 0x20, 0x4c, 0x8b, 0x49, 0x28, /* %r10, %r8, %r9 */
		0x0f, 0x05, 0xc3};
	static long (*made)(long, const long *);
	if (!made) {
		void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memcpy(page, text, sizeof text);
		memcpy(&made, &page, sizeof made);
	}
	return made(nr, a);
}

struct sweep {
	caller call;
	const long *args;
	long nr;
};

static void one_number(void *what)
{
	struct sweep *s = what;
	struct itimerval soon = {{0, 0}, {0, 20000}};
	setitimer(ITIMER_REAL, &soon, NULL);
	s->call(s->nr, s->args);
	gate(SYS_exit_group, 0);
}

/* Every number from 0 to 600; what comes of each is Linux's affair, that nobody else suffers is ours. */
static void every_number(caller call, const long *args)
{
	struct sweep s = {call, args, 0};
	from_made(SYS_getpid, args);
	for (s.nr = 0; s.nr <= 600; s.nr++)
		apart(one_number, &s);
	still_served();
}

static char room[1 << 16];
#define ALL(x) (const long[6]){(long)(x), (long)(x), (long)(x), (long)(x), (long)(x), (long)(x)}

CASE(every_number_of_minus_ones, "every call of 0..600 from its own text, arguments -1", "the core and the supervisor answer")
{
	every_number(from_text, ALL(-1));
}
CASE(every_number_of_zeros, "every call of 0..600 from its own text, arguments 0", "the core and the supervisor answer")
{
	every_number(from_text, ALL(0));
}
CASE(every_number_into_the_core, "every call of 0..600 with pointers into the core's data", "the core does not copy there")
{
	every_number(from_text, ALL(PROC_BASE));
}
CASE(every_number_on_a_buffer, "every call of 0..600 with a writable buffer for everything", "the core and the supervisor answer")
{
	every_number(from_text, ALL(room));
}
CASE(every_number_from_made_code, "every call of 0..600 from code that the program has made", "Syscall User Dispatch traps it")
{
	every_number(from_made, ALL(-1));
}
CASE(every_number_by_the_gate, "every call of 0..600 by the core's own instruction", "the filter")
{
	every_number(from_gate, ALL(-1));
}
CASE(every_number_by_the_gate_on_a_buffer, "the same with a writable buffer for everything", "the filter")
{
	every_number(from_gate, ALL(room));
}
CASE(every_number_of_x32, "every call of 0..600 with bit 30, from its own text", "the core: ENOSYS")
{
	struct sweep s = {from_text, ALL(-1), 0};
	for (s.nr = 0x40000000; s.nr <= 0x40000000 + 600; s.nr += 7)
		apart(one_number, &s);
	if (syscall(0x40000000 | SYS_getpid) != -1 || errno != ENOSYS)
		broken("x32's getpid");
}
CASE(numbers_out_of_range, "negative and huge numbers", "the core: ENOSYS")
{
	static const long numbers[] = {-1, -2, 0x7fffffff, 0x80000000, 0xffffffff, 1L << 32, 1L << 62, 512, 1023, 1 << 20};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (syscall(numbers[i], -1, -1, -1) != -1)
			broken("number %#lx", numbers[i]);
}

/* -- without Syscall User Dispatch ------------------------------------------------------------------------ */

static void dispatch_off(void)
{
	gate(SYS_prctl, 59 /* PR_SET_SYSCALL_USER_DISPATCH */, 0);
}

/* By an instruction that has not been rewritten: text that the program makes. */
static void by_own_text(void *nr)
{
	static const long args[6];
	from_made(SYS_getpid, args);
	dispatch_off();
	from_made((long)nr, args);
}
CASE(dispatch_off, "Syscall User Dispatch switched off by the gate, then getpid(2) from its own text", "the filter: not from there")
{
	must_end(by_own_text, (void *)SYS_getpid);
}
CASE(dispatch_off_open, "the same with open(2)", "the filter")
{
	must_end(by_own_text, (void *)SYS_open);
}
CASE(dispatch_off_x32, "the same with x32's getpid", "the filter")
{
	must_end(by_own_text, (void *)(SYS_getpid | 0x40000000L));
}
static void guest_turns_off(void *unused)
{
	(void)unused;
	static const long args[6];
	prctl(59, 0, 0, 0, 0);
	if (from_made(SYS_getpid, args) != getpid() || from_made(SYS_mount, args) != -EFAULT)
		broken("the core does not answer");
}
CASE(dispatch_off_guest, "prctl(PR_SET_SYSCALL_USER_DISPATCH, OFF) as a program does it", "is virtual: calls still come to the core")
{
	must_not_succeed(guest_turns_off, NULL);
	still_served();
}
static void selector_allows(void *unused)
{
	(void)unused;
	static char allow;
	static const long args[6];
	from_made(SYS_getpid, args);
	gate(SYS_prctl, 59, 1, 0, 0, (long)&allow); /* its own selector byte: 0 lets every call through */
	from_made(SYS_getpid, args);
}
CASE(dispatch_selector, "Syscall User Dispatch armed anew with a selector of its own", "the filter")
{
	must_end(selector_allows, NULL);
}

static void int80(void *off)
{
	long r = 20; /* getpid of i386 */
	if (off)
		dispatch_off();
	__asm__ volatile("int $0x80" : "+a"(r) : : "r8", "r9", "r10", "r11", "memory");
	if (r != -ENOSYS)
		broken("int 0x80 gave %ld", r);
}
CASE(int80, "int 0x80 from its own text", "the core: ENOSYS")
{
	int80(NULL);
}
CASE(int80_dispatch_off, "int 0x80 with Syscall User Dispatch off", "the filter: another architecture")
{
	must_end(int80, "off");
}
static void int80_numbers(void *nr)
{
	dispatch_off();
	long r = (long)nr;
	__asm__ volatile("int $0x80" : "+a"(r) : "b"(0), "c"(0), "d"(0) : "r8", "r9", "r10", "r11", "memory");
}
CASE(int80_every_number, "int 0x80 with Syscall User Dispatch off, every ninth number", "the filter")
{
	for (long nr = 0; nr < 460; nr += 9)
		must_end(int80_numbers, (void *)nr);
}

/* 32-bit code: a far call to the compatibility segment, which lies below 4 GiB. */
static void compatible(void *how)
{
	unsigned char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	static const unsigned char int_80[] = {0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xcb}; /* mov $20, %eax; int $0x80; lret */
	static const unsigned char enter[] = {0xb8, 20, 0, 0, 0, 0x89, 0xe5, 0x0f, 0x34, 0xcb};
	static const unsigned char call[] = {0xb8, 20, 0, 0, 0, 0x0f, 0x05, 0xcb};
	memcpy(page, *(char *)how == 'i' ? int_80 : *(char *)how == 'e' ? enter : call, 8 + 2 * (*(char *)how == 'e'));
	struct {
		uint32_t ip;
		uint16_t cs;
	} __attribute__((packed)) to = {(uint32_t)(uintptr_t)page, 0x23};
	dispatch_off();
	__asm__ volatile("mov %%rsp, %%rbx; lea 8000(%1), %%rsp; lcall *(%0); mov %%rbx, %%rsp"
			 :
			 : "r"(&to), "r"(page)
			 : "rax", "rbx", "rcx", "rdx", "rbp", "r8", "r9", "r10", "r11", "memory");
}
static void no_compatible_call(char *how)
{
	int status = apart(compatible, how);
	if (!WIFSIGNALED(status)) /* SIGSYS, or SIGSEGV and SIGILL where the processor has no such entrance */
		broken("32-bit code made a call: %#x", status);
}
CASE(compat_int80, "int 0x80 from 32-bit code", "the filter")
{
	no_compatible_call("i");
}
CASE(compat_sysenter, "sysenter from 32-bit code", "the filter")
{
	no_compatible_call("e");
}
CASE(compat_syscall, "syscall from 32-bit code", "the filter")
{
	no_compatible_call("s");
}
CASE(sysenter, "sysenter from 64-bit code", "the processor or the filter")
{
	int status = apart((void (*)(void *))(uintptr_t)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), NULL);
	if (!WIFSIGNALED(status))
		broken("ran zeros");
	unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, (unsigned char[]){0xb8, 20, 0, 0, 0, 0x0f, 0x34, 0xc3}, 8);
	void (*enter)(void *);
	memcpy(&enter, &page, sizeof enter);
	status = apart(enter, NULL);
	if (!WIFSIGNALED(status))
		broken("sysenter came back: %#x", status);
}

/* -- into the core ------------------------------------------------------------------------------------------ */

/* Jump to an address with registers that would hurt where they meet a system call. */
__attribute__((noreturn)) static void jump(unsigned long to, long nr, long first)
{
	static long stack[4096];
	__asm__ volatile("mov %0, %%rcx; mov %1, %%rax; mov %2, %%rdi; mov $9, %%esi; lea %3, %%rsp; mov %%rdi, %%rbx;"
			 "mov %%rdi, %%rdx; mov %%rdi, %%r8; mov %%rdi, %%r9; mov %%rdi, %%r10; xor %%ebp, %%ebp; jmp *%%rcx"
			 :
			 : "r"(to), "r"(nr), "r"(first), "m"(stack[2048])
			 : "rcx", "rax", "rdi", "rsi", "memory");
	__builtin_unreachable();
}

static unsigned long core_text_size(void)
{
	unsigned char there;
	unsigned long pages = 0;
	while (!gate(SYS_mincore, CORE_TEXT + 4096 * pages, 4096, &there) && pages < 64)
		pages++;
	return pages * 4096;
}

/* Wait for the end of a process; whoever takes a few milliseconds too long is ended. */
static void end_soon(long pid)
{
	struct pollfd end = {(int)gate(SYS_pidfd_open, pid), POLLIN, 0};
	if (gate(SYS_poll, &end, 1, 5) == 0)
		gate(SYS_kill, pid, SIGKILL);
	gate(SYS_close, end.fd);
	gate(SYS_wait4, pid, NULL, __WALL, NULL);
}

/* In a process without a channel of its own, so that it costs little. */
static void jump_apart(unsigned long to, long nr, long first)
{
	long pid = gate(SYS_clone, SIGCHLD);
	if (!pid) {
		gate(SYS_setsid); /* it may come upon kill(0), and everybody in the sandbox has the right to that */
		((int *)PROC_BASE)[6] = (int)gate(SYS_getpid); /* struct proc's: whom the core ends when it fails */
		gate(SYS_close, ((int *)PROC_BASE)[4]); /* its parent's socket: it would speak in its parent's name */
		jump(to, nr, first);
	}
	end_soon(pid);
}

static void jump_everywhere(long nr, long first, unsigned long from)
{
	const char *step = getenv("HOSTILE_STEP");
	unsigned long size = core_text_size(), by = step ? strtoul(step, NULL, 0) : 211;
	if (!size)
		broken("no core");
	for (unsigned long at = from; at < size; at += by)
		jump_apart(CORE_TEXT + at, nr, first);
	still_served();
}
CASE(jump_into_the_core_to_kill, "jumps to the bytes of the core's text with kill(supervisor, 9) in the registers", "the filter and Landlock")
{
	long supervisor = given("SUPERVISOR");
	needs_out_of_reach(supervisor);
	jump_everywhere(SYS_kill, supervisor, 0);
}
CASE(jump_into_the_core_to_open, "the same with open(2)", "the filter")
{
	jump_everywhere(SYS_open, (long)"/etc/passwd", 17);
}
CASE(jump_into_the_core_to_execute, "the same with execve(2)", "the filter")
{
	jump_everywhere(SYS_execve, (long)"/bin/sh", 31);
}
CASE(jump_into_the_core_with_a_channel, "jumps into the core of a process that the supervisor serves", "only the process suffers")
{
	unsigned long size = core_text_size();
	for (unsigned long at = 5; at < size; at += 997) {
		pid_t pid = fork();
		if (!pid) {
			setsid();
			jump(CORE_TEXT + at, SYS_getpid, -1);
		}
		end_soon(pid);
	}
	still_served();
}
