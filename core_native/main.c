/*
 * The start of a core process: init of a sandbox, or a guest that fetches its plan and becomes the program.
 * Layer: entered from entry.S.  Touches: the whole address space, while nobody else lives in it.
 */
#include "core.h"

/* Where to put what the kernel would put at the top of the mmap area: just below a page that it picks for us. */
static u64 probe_mmap_top(void)
{
	u64 at = sys(NR_mmap, NULL, PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	sys(NR_munmap, at, PAGE);
	return at + PAGE;
}

/* The plan is there soon, and waking a sleeper takes long (channel.c): look for it a while. */
static s64 receive_plan(int sock, struct msghdr_ *hdr)
{
	s64 r;
	for (int i = 0; i < 150; i++) {
		r = sys(NR_recvmsg, sock, hdr, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (r != -EAGAIN && r != -EINTR)
			return r;
		for (int j = 0; j < 32; j++)
			__builtin_ia32_pause();
		sys(NR_sched_yield);
	}
	do
		r = sys(NR_recvmsg, sock, hdr, MSG_CMSG_CLOEXEC);
	while (r == -EINTR);
	return r;
}

/* Descriptors that may come: six for the program and a native hook (kernel/sys_exec.py), and those of the gifts. */
#define MAX_FDS (8 + 2 * RING3_MAX_GIFTS)

/* Ask for the plan, which is in the channel: the descriptors are that, the world page and the files to map. */
static u32 say_hello(struct proc *p, const struct ring3_msg *hello, int *fds, u32 *plan)
{
	struct ring3_fdmsg reply;
	struct iovec_ iov = {(u64)&reply, sizeof reply};
	struct {
		struct cmsghdr_ head;
		int fd[MAX_FDS];
	} control;
	struct msghdr_ hdr = {.iov = (u64)&iov, .iovlen = 1, .control = (u64)&control, .controllen = sizeof control};
	/* A guest that starts with a full table still needs a few: they are closed before it runs. */
	set_nofile(p->soft_nofile + RING3_RESERVED_FDS);
	if (sys(NR_sendto, p->sock, hello, sizeof *hello, MSG_NOSIGNAL, NULL, 0) < 0)
		sys(NR_exit_group, 125);
	u32 n;
	for (;;) {
		control.head.len = sizeof control.head;
		hdr.controllen = sizeof control;
		s64 r = receive_plan(p->sock, &hdr);
		if (r != sizeof reply)
			sys(NR_exit_group, 125); /* the supervisor refused or is gone */
		n = (control.head.len - sizeof control.head) / sizeof(int);
		if (reply.kind == FDS_PLAN && reply.count)
			break;
		for (u32 i = 0; i < n; i++) /* of the old program, or there was no plan before we asked */
			sys(NR_close, control.fd[i]);
	}
	if (n < 2 || n > MAX_FDS || n != reply.count)
		die("the plan came without its descriptors", n);
	for (u32 i = 0; i < n; i++)
		fds[i] = control.fd[i];
	*plan = reply.flags;
	return n;
}

/* AT_SYSINFO_EHDR of the core itself: the host's vDSO. */
static u64 host_vdso(const u64 *stack)
{
	const u64 *at = stack + 1 + stack[0] + 1;
	while (*at++)
		;
	for (; at[0]; at += 2)
		if (at[0] == AT_SYSINFO_EHDR)
			return at[1];
	return 0;
}

static u64 map_at(u64 addr, u64 size, u32 prot, u32 flags, int fd, u64 offset)
{
	s64 r = sys(NR_mmap, addr, size, prot, flags, fd, offset);
	if (r < 0)
		die("cannot map a segment of the program:", r);
	return r;
}

/* The text of the file that the trampolines `seg` belong to comes from the same descriptor. */
static void note_trampolines(const struct ring3_plan *plan, const struct ring3_seg *seg)
{
	const struct ring3_seg *s = (const struct ring3_seg *)(plan + 1);
	u64 start = ~0UL, end = 0;
	for (u32 i = 0; i < plan->nseg; i++) {
		if (s[i].file != seg->file || s[i].trampolines)
			continue;
		start = s[i].addr < start ? s[i].addr : start;
		end = s[i].addr + s[i].length > end ? s[i].addr + s[i].length : end;
	}
	tramp_add(seg->addr, seg->length, start, ALIGN_UP(end, PAGE));
}

/* An address of a plan: one that is negative counts from what the supervisor did not know when it made the plan. */
static u64 placed(u64 address, u64 origin)
{
	return (s64)address < 0 ? address + origin : address;
}

/* Put the words of the initial stack where they belong: pointers to strings, and what the auxiliary vector says. */
static void settle_stack(u64 *word, u64 stack_top, u64 mmap_top, u64 vdso)
{
	for (int vector = 0; vector < 2; vector++) {
		while (*++word)
			*word = placed(*word, stack_top);
	}
	for (word++; word[0]; word += 2) {
		switch (word[0]) {
		case AT_SYSINFO_EHDR:
			word[1] = vdso;
			break;
		case AT_PHDR:
		case AT_BASE:
		case AT_ENTRY:
			word[1] = placed(word[1], mmap_top);
			break;
		case AT_RANDOM:
		case AT_EXECFN:
		case AT_PLATFORM:
			word[1] = placed(word[1], stack_top);
			break;
		}
	}
}

/* A plan that was made before we said hello: see takes_plan_ahead() in exec.c. */
static void settle(struct ring3_plan *plan, const struct ring3_msg *hello)
{
	u64 stack_top = hello->a, mmap_top = hello->b;
	struct ring3_seg *seg = (struct ring3_seg *)(plan + 1);
	u64 *on_stack[5] = {&plan->sp, &plan->auxv, &plan->arg_start, &plan->arg_end, &plan->env_end};
	if ((s64)plan->sp >= 0)
		return;
	for (u32 i = 0; i < COUNT(on_stack); i++)
		*on_stack[i] = placed(*on_stack[i], stack_top);
	plan->entry = placed(plan->entry, mmap_top);
	for (u32 i = 0; i < plan->nseg; i++, seg++)
		seg->addr = placed(seg->addr, mmap_top);
	struct ring3_zero *zero = (struct ring3_zero *)seg;
	for (u32 i = 0; i < plan->nzero; i++, zero++)
		zero->addr = placed(zero->addr, mmap_top);
	settle_stack((u64 *)((u8 *)plan + plan->stack_off), stack_top, mmap_top, hello->d);
}

static void map_segments(const struct ring3_plan *plan, const struct ring3_seg *seg, const int *files)
{
	for (u32 i = 0; i < plan->nseg; i++, seg++) {
		s64 r = sys(NR_mmap, seg->addr, seg->length, seg->prot, seg->flags, seg->file < 0 ? -1 : files[seg->file],
			    seg->offset);
		if (r != (s64)seg->addr)
			die("cannot map a segment of the program:", r);
		if (seg->trampolines)
			note_trampolines(plan, seg);
	}
	const struct ring3_zero *zero = (const struct ring3_zero *)seg;
	for (u32 i = 0; i < plan->nzero; i++, zero++)
		memset((void *)zero->addr, 0, zero->length);
	if (plan->exec_stack)
		sys(NR_mprotect, ALIGN_DOWN(plan->sp, PAGE), PAGE, PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN);
	memcpy((void *)plan->sp, (const u8 *)plan + plan->stack_off, plan->stack_len);
}

/*
 * Tell the host whose program this is: ps, gdb and /proc/PID/auxv then show the guest's and not the core's.  A kernel
 * without CONFIG_CHECKPOINT_RESTORE refuses, and nothing depends on it.
 */
static void describe_to_host(const struct ring3_plan *plan)
{
	u64 brk = sys(NR_brk, 0); /* never moved: its start is its end */
	struct {
		u64 start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
		u64 arg_start, arg_end, env_start, env_end, auxv;
		u32 auxv_size, exe_fd;
	} map = {(u64)core_text_start, (u64)core_text_end, (u64)core_text_end, (u64)core_text_end, brk, brk, plan->sp,
		 plan->arg_start, plan->arg_end, plan->arg_end, plan->env_end, plan->auxv, plan->auxv_len, -1U};
	if (plan->auxv)
		sys(NR_prctl, 35 /* PR_SET_MM */, 14 /* PR_SET_MM_MAP */, &map, sizeof map, 0);
}

/* Set by the debugger (ring3/gdb_command.py). */
static u32 debugger_is_there;

/* Stop, so that everybody sees that the program is ready; then wait for a debugger, which need not be an ancestor. */
static void wait_for_debugger(struct proc *p)
{
	static const u64 second[2] = {1, 0};
	sys(NR_prctl, 0x59616d61 /* PR_SET_PTRACER: Yama's ptrace_scope */, -1L, 0, 0, 0);
	sys(NR_kill, p->pid, SIGSTOP);
	while (!__atomic_load_n(&debugger_is_there, __ATOMIC_ACQUIRE))
		sys(NR_futex, &debugger_is_there, 0 /* FUTEX_WAIT */, 0, second);
}

static struct proc *first_proc(int sock, int exe)
{
	struct proc *p = proc_new();
	struct rlimit_ lim;
	if (!p)
		die("no memory for the core", 0);
	sys(NR_prlimit64, 0, RLIMIT_NOFILE, NULL, &lim);
	p->soft_nofile = lim.cur;
	p->sock = sock;
	p->exe = exe;
	p->pid = sys(NR_getpid);
	return p;
}

static void set_core_stack(struct thread *t)
{
	struct stack_t_ ss = {ALIGN_DOWN((u64)t, THREAD_SIZE) + PAGE, 0, 0, 0};
	ss.size = (u64)t - ss.sp;
	sys(NR_sigaltstack, &ss, NULL);
}

void guest_main(int argc, char **argv, u64 stack_top)
{
	int fds[MAX_FDS];
	if (argc < 8)
		die("a guest is started by the supervisor only", argc);
	struct proc *p = first_proc(parse_number(argv[2]), parse_number(argv[3]));
	u64 mask = (u64)parse_number(argv[4]) | (u64)parse_number(argv[5]) << 63;
	u64 ignored = parse_number(argv[6]);
	u64 vdso = map_vdso(p->exe, host_vdso((u64 *)stack_top));
	const struct ring3_msg hello = {.kind = MSG_HELLO, .slot = sys(NR_personality, 0xffffffff), .a = stack_top,
					.b = probe_mmap_top(), .c = p->pid, .d = vdso};
	u32 plan_at, n = say_hello(p, &hello, fds, &plan_at);
	adopt_channel(p, fds[0]);
	struct ring3_plan *plan = (void *)(p->chan + plan_at);
	if (plan->version != RING3_VERSION)
		die("the supervisor speaks another version of the channel:", plan->version);
	settle(plan, &hello);
	map_at(WORLD_ADDR, WORLD_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fds[1], 0);
	mm.init_pid = ((struct ring3_world *)WORLD_ADDR)->init_pid;
	mm.brk_start = mm.brk = plan->brk;
	p->initial = plan->initial;
	mm.native_hook = plan->native_hook;
	tell_brk(p);
	struct thread *t = thread_new(p);
	if (!t)
		die("no memory for the first thread", 0);
	t->tid = p->pid;
	t->vmask = mask & NEVER_BLOCKED;
	t->is_as_executed = 1;
	for (int i = 0; i < 4; i++)
		t->creds[i] = plan->creds[i];
	for (int sig = 1; sig <= 64; sig++)
		if (ignored & SIGBIT(sig)) {
			t->sighand->act[sig].handler = SIG_IGN;
			t->sighand->known |= SIGBIT(sig);
		}
	t->no_new_privs = plan->no_new_privs;
	filters_restore(t, parse_number(argv[7]));
	if (((struct ring3_world *)WORLD_ADDR)->page_zero)
		map_page_zero();
	map_segments(plan, (const struct ring3_seg *)(plan + 1), fds + 2);
	gifts_take_over(t, plan, fds + 2);
	set_nofile(p->soft_nofile);
	describe_to_host(plan);
	u32 stop = plan->stop;
	for (u32 i = 1; i < n; i++)
		sys(NR_close, fds[i]);
	sys(NR_prctl, PR_SET_NAME, plan->comm);
	u64 entry = plan->entry, sp = plan->sp;
	if (plan_at == RING3_LARGE_PLAN_OFFSET)
		sys(NR_madvise, plan, ALIGN_UP(plan->stack_off + plan->stack_len, PAGE), 9 /* MADV_REMOVE */);
	set_core_stack(t);
	use_gs(t);
	signals_start();
	mask &= ~NEVER_BLOCKED;
	arm();
	sys(NR_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
	if (stop)
		wait_for_debugger(p);
	enter_guest(entry, sp);
}

/* Called by _start with the stack as the kernel left it. */
__attribute__((noreturn)) void core_start(u64 *stack)
{
	int argc = (int)stack[0];
	char **argv = (char **)(stack + 1);
	if (argc > 1 && argv[1][0] == 'i')
		init_main(argc, argv);
	if (argc > 1 && argv[1][0] == 'g')
		guest_main(argc, argv, (u64)stack);
	die("this is a part of ring3; run `ring3`. Arguments:", argc);
}
