/*
 * A guest's own filters: seccomp(2) in both modes, and its Syscall User Dispatch.
 * Layer: core functions, and a check before a call is served.  Touches: filters in pages of the core, the calling thread.
 *
 * The host kernel knows nothing of them: it would judge the core's own calls too.  A filter is classic BPF over struct
 * seccomp_data (kernel/seccomp.c: seccomp_check_filter, seccomp_run_filters; net/core/filter.c: bpf_check_classic).
 * A filter belongs to threads, is inherited by fork and exec and never goes; its memory is the process's until the end.
 * From the first one on, every call of the process traps: the fast entry knows no filters.
 */
#include "core.h"

#define FILTER_BASE (RING3_CORE_BASE + 0xf20000000UL)
#define FILTER_END (RING3_CORE_END - 0x10000000UL)
#define MAX_INSNS 4096U		  /* BPF_MAXINSNS */
#define MAX_INSNS_PER_PATH 32768U /* of all filters of a thread, as the kernel translates them; each counts 4 more */

enum {
	RET_KILL_PROCESS = (s32)0x80000000, RET_KILL_THREAD = 0, RET_TRAP = 0x30000, RET_ERRNO = 0x50000,
	RET_USER_NOTIF = 0x7fc00000, RET_TRACE = 0x7ff00000, RET_LOG = 0x7ffc0000, RET_ALLOW = 0x7fff0000,
};
enum { FLAG_TSYNC = 1, FLAG_LOG = 2, FLAG_SPEC_ALLOW = 4, FLAG_NEW_LISTENER = 8, FLAG_TSYNC_ESRCH = 16 };

struct filter {
	struct filter *before; /* the one that was installed before it */
	u32 length, total;     /* instructions; what the chain counts to MAX_INSNS_PER_PATH */
	struct sock_filter_ insns[];
};

struct seccomp_data {
	s32 nr;
	u32 arch;
	u64 ip, args[6];
};
_Static_assert(sizeof(struct seccomp_data) == 64, "seccomp_data");

/* What an instruction's code is made of (linux/bpf_common.h). */
enum { LD = 0, LDX = 1, ST = 2, STX = 3, ALU = 4, JMP = 5, RET = 6, MISC = 7 };
enum { IMM = 0, ABS = 0x20, MEM = 0x60, LEN = 0x80 };
enum { ADD = 0, SUB = 0x10, MUL = 0x20, DIV = 0x30, OR = 0x40, AND = 0x50, LSH = 0x60, RSH = 0x70, NEG = 0x80, XOR = 0xa0 };
enum { JA = 0, JEQ = 0x10, JGT = 0x20, JGE = 0x30, JSET = 0x40 };
enum { K = 0, X = 8, A = 0x10, TAX = 0, TXA = 0x80 };

static int known_alu(u32 op)
{
	return op == ADD || op == SUB || op == MUL || op == DIV || op == OR || op == AND || op == LSH || op == RSH || op == XOR;
}

/* Is this one instruction at `pc` of `n` allowed, by itself? */
static int insn_ok(const struct sock_filter_ *in, u32 pc, u32 n)
{
	u32 op = in->code & 0xf0, k = in->k;
	switch (in->code) {
	case LD | ABS:
		return !(k & 3) && k < sizeof(struct seccomp_data);
	case LD | LEN: case LDX | LEN: case LD | IMM: case LDX | IMM: case RET | K: case RET | A: case ALU | NEG:
	case MISC | TAX: case MISC | TXA:
		return 1;
	case LD | MEM: case LDX | MEM: case ST: case STX:
		return k < 16;
	case JMP | JA:
		return k < n - pc - 1;
	case JMP | JEQ | K: case JMP | JEQ | X: case JMP | JGT | K: case JMP | JGT | X: case JMP | JGE | K: case JMP | JGE | X:
	case JMP | JSET | K: case JMP | JSET | X:
		return pc + in->jt + 1 < n && pc + in->jf + 1 < n;
	}
	if ((in->code & ~0xf8U) != ALU || !known_alu(op))
		return 0;
	if (in->code & X)
		return 1;
	return !(op == DIV && !k) && !((op == LSH || op == RSH) && k >= 32);
}

/* No cell of the scratch memory is read before it was written on every way there (check_load_and_stores()). */
static int cells_ok(const struct sock_filter_ *in, u32 n)
{
	u16 masks[MAX_INSNS], valid = 0;
	memset(masks, 0xff, sizeof masks);
	for (u32 pc = 0; pc < n; pc++, in++) {
		valid &= masks[pc];
		if (in->code == ST || in->code == STX)
			valid |= 1U << in->k;
		else if ((in->code == (LD | MEM) || in->code == (LDX | MEM)) && !(valid & 1U << in->k))
			return 0;
		else if (in->code == (JMP | JA)) {
			masks[pc + 1 + in->k] &= valid;
			valid = 0xffff;
		} else if ((in->code & 7) == JMP) {
			masks[pc + 1 + in->jt] &= valid;
			masks[pc + 1 + in->jf] &= valid;
			valid = 0xffff;
		}
	}
	return 1;
}

static int program_ok(const struct sock_filter_ *insns, u32 n)
{
	for (u32 pc = 0; pc < n; pc++)
		if (!insn_ok(&insns[pc], pc, n))
			return 0;
	return (insns[n - 1].code == (RET | K) || insns[n - 1].code == (RET | A)) && cells_ok(insns, n);
}

/* How many instructions the kernel makes of one (bpf_convert_filter()): the limit of a chain is in those. */
static u32 translated(const struct sock_filter_ *in)
{
	if (in->code == (RET | K))
		return 2;
	if (in->code == (ALU | DIV | X))
		return 5;
	if ((in->code & 7) != JMP || in->code == (JMP | JA))
		return 1;
	u32 both = in->jf && (in->jt || (in->code & 0xf0) == JSET);
	return 1 + both + (!(in->code & X) && (s32)in->k < 0);
}

static u32 cost(const struct filter *f)
{
	u32 sum = 3 + 4;
	for (u32 i = 0; i < f->length; i++)
		sum += translated(&f->insns[i]);
	return sum;
}

static u32 alu(u32 op, u32 a, u32 b)
{
	switch (op) {
	case ADD: return a + b;
	case SUB: return a - b;
	case MUL: return a * b;
	case DIV: return a / b;
	case OR: return a | b;
	case AND: return a & b;
	case LSH: return a << (b & 31);
	case RSH: return a >> (b & 31);
	case XOR: return a ^ b;
	}
	return -a; /* NEG */
}

static int compare(u32 op, u32 a, u32 b)
{
	return op == JEQ ? a == b : op == JGT ? a > b : op == JGE ? a >= b : (a & b) != 0;
}

/* The program is known to be right: it goes forward only, stays inside and ends with a return. */
static u32 run(const struct filter *f, const struct seccomp_data *data)
{
	u32 a = 0, x = 0, mem[16];
	for (const struct sock_filter_ *in = f->insns;; in++) {
		u32 k = in->k, operand = in->code & X ? x : k;
		switch (in->code & 7) {
		case LD:
			if ((in->code & 0xe0) == ABS)
				memcpy(&a, (const u8 *)data + k, 4);
			else
				a = in->code == (LD | MEM) ? mem[k] : in->code == (LD | LEN) ? sizeof *data : k;
			break;
		case LDX:
			x = in->code == (LDX | MEM) ? mem[k] : in->code == (LDX | LEN) ? sizeof *data : k;
			break;
		case ST:
			mem[k] = a;
			break;
		case STX:
			mem[k] = x;
			break;
		case ALU:
			if ((in->code & 0xf0) == DIV && !operand)
				return RET_KILL_THREAD;
			a = alu(in->code & 0xf0, a, operand);
			break;
		case JMP:
			if (in->code == (JMP | JA))
				in += k;
			else
				in += compare(in->code & 0xf0, a, operand) ? in->jt : in->jf;
			break;
		case RET:
			return in->code == (RET | A) ? a : k;
		case MISC:
			if (in->code == (MISC | TAX))
				x = a;
			else
				a = x;
		}
	}
}

/* Memory for a filter of n instructions, writable until filter_ready().  NULL without room. */
static struct filter *filter_new(u32 n)
{
	u64 size = ALIGN_UP(sizeof(struct filter) + n * sizeof(struct sock_filter_), PAGE);
	u64 at = FILTER_BASE + __atomic_fetch_add(&mm.filter_bytes, size, __ATOMIC_RELAXED);
	if (at + size > FILTER_END ||
	    sys(NR_mmap, at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) < 0)
		return NULL;
	struct filter *f = (struct filter *)at;
	f->length = n;
	return f;
}

static void filter_ready(struct filter *f, struct filter *before)
{
	f->before = before;
	f->total = cost(f) + (before ? before->total : 0);
	sys(NR_mprotect, f, ALIGN_UP(sizeof *f + f->length * sizeof(struct sock_filter_), PAGE), PROT_READ);
	no_fast_entry();
}

/* Has every filter of `old`, or is as it: `new` may take its place. */
static int descends(const struct filter *new, const struct filter *old)
{
	while (new && new != old)
		new = new->before;
	return new == old;
}

static struct thread *thread_nr(struct thread *t, u32 i)
{
	if (__atomic_load_n(&mm.thread_state[i], __ATOMIC_ACQUIRE) != 1)
		return NULL;
	struct thread *other = thread_of(THREAD_BASE + i * THREAD_SIZE + PAGE);
	return other->proc == t->proc ? other : NULL;
}

static void give(struct thread *t, struct filter *chain)
{
	__atomic_store_n(&t->filters, chain, __ATOMIC_RELEASE);
	__atomic_store_n(&t->guarded, 1, __ATOMIC_RELEASE);
}

/* SECCOMP_FILTER_FLAG_TSYNC: every thread of the process gets the chain, or none; the tid of one that cannot. */
static s64 assign_all(struct thread *t, struct filter *new)
{
	struct thread *other;
	for (u32 i = 0; i < THREAD_MAX && mm.thread_state[i]; i++)
		if ((other = thread_nr(t, i)) && !descends(t->filters, other->filters))
			return other->tid;
	for (u32 i = 0; i < THREAD_MAX && mm.thread_state[i]; i++)
		if ((other = thread_nr(t, i)))
			give(other, new);
	return 0;
}

static s64 set_filter(struct thread *t, u64 flags, u64 program)
{
	struct sock_fprog_ head;
	if (flags & ~(u64)(FLAG_TSYNC | FLAG_LOG | FLAG_SPEC_ALLOW | FLAG_TSYNC_ESRCH | FLAG_NEW_LISTENER))
		return -EINVAL;
	if (flags & FLAG_NEW_LISTENER) {
		ring(t, MSG_UNSUPPORTED, UNSUPPORTED_LISTENER, 0, -1);
		return -EINVAL;
	}
	if (copy_in(&head, program, sizeof head))
		return -EFAULT;
	if (!head.length || head.length > MAX_INSNS || !head.insns)
		return -EINVAL;
	if (t->creds[1] != 0 && !t->no_new_privs)
		return -EACCES;
	struct filter *f = filter_new(head.length);
	if (!f)
		return -ENOMEM;
	if (copy_in(f->insns, head.insns, head.length * sizeof(struct sock_filter_)))
		return -EFAULT;
	if (!program_ok(f->insns, head.length) || t->strict)
		return -EINVAL;
	s64 r = 0;
	lock(&mm.filter_lock);
	if (cost(f) + (t->filters ? t->filters->total : 0) > MAX_INSNS_PER_PATH) {
		r = -ENOMEM;
	} else {
		filter_ready(f, t->filters);
		if (!(flags & FLAG_TSYNC))
			give(t, f);
		else if ((r = assign_all(t, f)) && (flags & FLAG_TSYNC_ESRCH))
			r = -ESRCH;
	}
	unlock(&mm.filter_lock);
	return r;
}

static s64 set_strict(struct thread *t)
{
	if (t->filters)
		return -EINVAL;
	no_fast_entry();
	t->strict = t->guarded = 1;
	return 0;
}

static s64 action_available(u64 at)
{
	u32 action;
	if (copy_in(&action, at, sizeof action))
		return -EFAULT;
	switch ((s32)action) {
	case RET_KILL_PROCESS: case RET_KILL_THREAD: case RET_TRAP: case RET_ERRNO: case RET_TRACE: case RET_LOG: case RET_ALLOW:
		return 0;
	}
	return -EOPNOTSUPP;
}

s64 fn_seccomp(struct thread *t, struct call *c)
{
	u32 flags = c->a[1];
	switch ((u32)c->a[0]) {
	case 0: /* SET_MODE_STRICT */
		return flags || c->a[2] ? -EINVAL : set_strict(t);
	case 1:
		return set_filter(t, flags, c->a[2]);
	case 2: /* GET_ACTION_AVAIL */
		return flags ? -EINVAL : action_available(c->a[2]);
	}
	return -EINVAL;
}

/* prctl(PR_SET_SECCOMP) */
s64 seccomp_prctl(struct thread *t, struct call *c)
{
	return c->a[1] == 1 ? set_strict(t) : c->a[1] == 2 ? set_filter(t, 0, c->a[2]) : -EINVAL;
}

void filters_inherit(struct thread *nt, struct thread *t)
{
	lock(&mm.filter_lock); /* or another thread's TSYNC might miss it */
	nt->filters = t->filters;
	nt->strict = t->strict;
	nt->guarded = t->guarded;
	unlock(&mm.filter_lock);
}

/* This thread ends here and alone, unless it is the last: then the process dies of `sig` (do_exit(), force_sig_info()). */
__attribute__((noreturn)) static void kill_thread(struct thread *t, int sig)
{
	u32 alive = 0;
	for (u32 i = 0; i < THREAD_MAX && mm.thread_state[i]; i++)
		alive += thread_nr(t, i) != NULL;
	if (alive <= 1)
		die_of(t, sig);
	block_all();
	bitmap_drop(t->proc->slots, t->slot_nr);
	exit_thread(&mm.thread_state[t->index], sig);
}

static u32 verdict(struct thread *t, struct call *c, u32 arch)
{
	struct seccomp_data data = {(s32)c->nr, arch, c->ip, {0}};
	memcpy(data.args, c->a, sizeof data.args);
	u32 result = RET_ALLOW;
	for (struct filter *f = __atomic_load_n(&t->filters, __ATOMIC_ACQUIRE); f; f = f->before) {
		u32 one = run(f, &data);
		if ((s32)(one & 0xffff0000) < (s32)(result & 0xffff0000))
			result = one;
	}
	return result;
}

/* SIGSYS for the call, which is not made: rax holds its number again (syscall_rollback()). */
static s64 trap(struct thread *t, struct call *c, u32 arch, u32 data)
{
	struct siginfo_ info;
	memset(&info, 0, sizeof info);
	info.si_signo = SIGSYS;
	info.si_errno = data;
	info.si_code = 1; /* SYS_SECCOMP */
	info.sys.call_addr = c->ip;
	info.sys.syscall = c->nr;
	info.sys.arch = arch;
	return force_at_boundary(t, c->uc, &info) ? -ERESTARTSYS : c->nr;
}

/* May this call be made?  1, or 0 with *result its answer.  May not return at all. */
int seccomp_allows(struct thread *t, struct call *c, u32 arch, s64 *result)
{
	if (!c->uc) /* it came by the fast entry, before the filter that another thread has just given us */
		return 1;
	if (t->pending) {
		*result = -ERESTARTSYS;
		return 0;
	}
	if (t->strict) {
		if (c->nr != NR_read && c->nr != NR_write && c->nr != NR_exit && c->nr != NR_rt_sigreturn)
			kill_thread(t, SIGKILL);
		return 1;
	}
	u32 said = verdict(t, c, arch), data = said & 0xffff;
	switch ((s32)(said & 0xffff0000)) {
	case RET_ALLOW:
	case RET_LOG:
		return 1;
	case RET_ERRNO:
		*result = -(s64)(data < 4095 ? data : 4095);
		return 0;
	case RET_TRAP:
		*result = trap(t, c, arch, data);
		return 0;
	case RET_TRACE: /* nobody traces, nobody listens */
	case RET_USER_NOTIF:
		*result = -ENOSYS;
		return 0;
	case RET_KILL_THREAD:
		kill_thread(t, SIGSYS);
	}
	die_of(t, SIGSYS);
}

/* The chain for the next program: a descriptor above the guest's limit that lives through the exec, or -1 for none. */
int filters_save(struct thread *t)
{
	if (!t->filters && !t->strict)
		return -1;
	set_nofile(t->proc->soft_nofile + RING3_RESERVED_FDS);
	s64 fd = sys(NR_memfd_create, "ring3-seccomp", 0);
	s64 high = fd < 0 ? fd : sys(NR_fcntl, fd, F_DUPFD, t->proc->soft_nofile);
	set_nofile(t->proc->soft_nofile);
	if (fd >= 0)
		sys(NR_close, fd);
	if (high < 0)
		die("cannot keep the guest's seccomp filters over an exec:", high);
	sys(NR_write, high, &t->strict, sizeof t->strict);
	for (struct filter *f = t->filters; f; f = f->before) {
		sys(NR_write, high, &f->length, sizeof f->length);
		sys(NR_write, high, f->insns, f->length * sizeof(struct sock_filter_));
	}
	return (int)high;
}

/* In the new core.  The newest comes first in the file, so the chain is put together from its end. */
void filters_restore(struct thread *t, int fd)
{
	if (fd < 0)
		return;
	struct filter *chain = NULL;
	u32 n;
	sys(NR_lseek, fd, 0, 0);
	if (sys(NR_read, fd, &t->strict, sizeof t->strict) != sizeof t->strict)
		die("the guest's seccomp filters are lost", fd);
	while (sys(NR_read, fd, &n, sizeof n) == sizeof n) {
		struct filter *f = n && n <= MAX_INSNS ? filter_new(n) : NULL;
		if (!f || sys(NR_read, fd, f->insns, n * sizeof(struct sock_filter_)) != (s64)(n * sizeof(struct sock_filter_)))
			die("the guest's seccomp filters are lost", fd);
		f->before = chain; /* backwards as yet */
		chain = f;
	}
	sys(NR_close, fd);
	for (struct filter *f = chain, *after; f; f = after) {
		after = f->before;
		filter_ready(f, t->filters);
		give(t, f);
	}
	if (t->strict)
		set_strict(t);
}

/* prctl(PR_SET_SYSCALL_USER_DISPATCH): kernel/entry/syscall_user_dispatch.c */
s64 user_dispatch_prctl(struct thread *t, struct call *c)
{
	u64 mode = c->a[1], start = c->a[2], size = c->a[3], selector = c->a[4];
	switch (mode) {
	case 0:
		if (start || size || selector)
			return -EINVAL;
		break;
	case 1: /* all but [start, start + size) */
		if (start && start + size <= start)
			return -EINVAL;
		break;
	case 2: /* nothing but it */
		if (!size || start + size <= start)
			return -EINVAL;
		start += size;
		size = -size;
		break;
	default:
		return -EINVAL;
	}
	if (mode && selector >= 0x7ffffffff000UL)
		return -EFAULT;
	no_fast_entry();
	t->dispatch_start = start;
	t->dispatch_size = size;
	t->dispatch_selector = selector;
	t->dispatch = mode != 0;
	return 0;
}

/* Does the guest's own dispatcher want this call?  Then SIGSYS is on its way into `uc`. */
int user_dispatched(struct thread *t, struct ucontext_ *uc, u64 ip, s64 nr, u32 arch)
{
	u8 state;
	if (ip - t->dispatch_start < t->dispatch_size)
		return 0;
	if (t->dispatch_selector) {
		if (copy_in(&state, t->dispatch_selector, 1))
			die_of(t, SIGSEGV);
		if (state == 0) /* SYSCALL_DISPATCH_FILTER_ALLOW */
			return 0;
		if (state != 1)
			die_of(t, SIGSYS);
	}
	struct siginfo_ info;
	memset(&info, 0, sizeof info);
	info.si_signo = SIGSYS;
	info.si_code = SYS_USER_DISPATCH;
	info.sys.call_addr = ip;
	info.sys.syscall = nr;
	info.sys.arch = arch;
	if (force_at_boundary(t, uc, &info)) /* another signal comes first, then the call again */
		uc->mc.rip -= 2;
	return 1;
}
