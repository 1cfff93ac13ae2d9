/* The core's C files in an ordinary process, with AddressSanitizer and UndefinedBehaviorSanitizer: calls with random
 * arguments, answered at random by a harness that plays the host kernel, the guest's memory and the supervisor.
 *
 *     harness SEED CALLS
 *
 * Layer: tests. Thread, process, channel and guest memory are each a block of their own, so that a step beyond one is
 * seen. A core that gives up (die(), exit_group) goes on with the next call.
 */
#include "shim.h"

#pragma GCC visibility push(default)
void *malloc(size_t);
void __asan_poison_memory_region(void const volatile *, size_t);
void *calloc(size_t, size_t);
void *mmap(void *, size_t, int, int, int, long);
int printf(const char *, ...);
int atoi(const char *);
int _setjmp(void *);
__attribute__((noreturn)) void longjmp(void *, int);
#pragma GCC visibility pop

enum { GUEST = 64 << 10, CONTROL_MAX = 24 };
static u8 *guest;
static struct thread *t;
static struct call *current;
static u64 state;
static void *back[64];
static u64 made, gave_up;
static u32 patience; /* host calls until a call counts as one that never ends */
static int stuck;

void *memcpy(void *to, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((u8 *)to)[i] = ((const u8 *)from)[i];
	return to;
}

void *memset(void *to, int c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((u8 *)to)[i] = c;
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t at = (u64)to < (u64)from ? i : n - 1 - i;
		((u8 *)to)[at] = ((const u8 *)from)[at];
	}
	return to;
}

size_t strlen(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

static u64 random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static u64 below(u64 n) { return random64() % n; }
static void fill(void *to, u64 n)
{
	for (u8 *at = to; n--; at++)
		*at = random64() >> 24;
}

static u64 odd(void)
{
	static const u64 all[] = {0, 1, 2, 3, 8, 16, 255, 4096, 30000, 31232, 65535, 1UL << 31, 0xffffffff, 1UL << 32, 1UL << 63, ~0UL, -100UL};
	return below(3) ? all[below(COUNT(all))] : below(2) ? below(64) : random64();
}

static u64 pointer(void)
{
	switch (below(8)) {
	case 0: return odd();
	case 1: return (u64)guest + GUEST - below(64);
	case 2: return RING3_CORE_BASE + below(1 << 20);
	default: return (u64)guest + below(GUEST);
	}
}

/* -- the supervisor ------------------------------------------------------------------------------------------------- */

static void answer(void)
{
	struct ring3_slot *s = t->slot;
	static const u32 actions[] = {ACT_RESULT, ACT_NATIVE, ACT_NATIVE_ARGS, ACT_FD, ACT_KILL_LIST, ACT_EXEC, ACT_NET, ACT_VIA};
	s->r_action = actions[below(COUNT(actions))];
	if (!below(3))
		s->r_action |= 1U << below(20);
	s->r_result = below(3) ? (s64)below(64) - 32 : (s64)odd();
	s->r_nout = below(4) ? below(RING3_MAX_OUT + 2) : (u32)odd();
	s->r_nr = below(NR_TABLE);
	for (int i = 0; i < 6; i++)
		s->r_args[i] = pointer();
	for (int i = 0; i < 4; i++)
		s->r_creds[i] = odd();
	for (u32 i = 0; i < RING3_MAX_OUT; i++) {
		s->out_addr[i] = pointer();
		s->out_off[i] = below(5) ? below(RING3_SLOT_DATA_SIZE) : (u32)odd();
		s->out_len[i] = below(5) ? below(2000) : (u32)odd();
	}
	if (!below(4)) /* its own half is a guest's to write */
		fill(&s->kind, (u8 *)&s->r_result - (u8 *)&s->kind);
	if (below(2))
		fill((u8 *)s + RING3_SLOT_DATA, 512);
	s->watched = below(2);
	__atomic_store_n(&s->rep, s->req, __ATOMIC_RELEASE);
}

static s64 receive(struct msghdr_ *h)
{
	struct ring3_fdmsg *m = (void *)((struct iovec_ *)h->iov)->base;
	if (((struct iovec_ *)h->iov)->len != sizeof *m) { /* another's message: of a datagram, say */
		fill(m, ((struct iovec_ *)h->iov)->len);
		return below(((struct iovec_ *)h->iov)->len + 1);
	}
	u32 room = h->controllen > sizeof(struct cmsghdr_) ? (h->controllen - sizeof(struct cmsghdr_)) / 4 : 0;
	u32 n = room ? below(room + 1) : 0;
	*m = (struct ring3_fdmsg){odd(), below(4) ? t->slot_nr : below(RING3_SLOT_COUNT), odd(), below(2) ? n : below(9)};
	struct cmsghdr_ *c = (void *)h->control;
	if (n && c) {
		*c = (struct cmsghdr_){sizeof *c + 4 * n, SOL_SOCKET, SCM_RIGHTS};
		for (u32 i = 0; i < n; i++)
			((int *)(c + 1))[i] = below(2) ? below(FD_TABLE) : below(100);
	} else
		h->controllen = 0;
	return below(50) ? (s64)sizeof *m : (s64)below(20);
}

/* -- the host kernel ------------------------------------------------------------------------------------------------ */

s64 host_call(s64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	(void)a, (void)c, (void)d, (void)e, (void)f;
	if (!--patience) {
		stuck = 1;
		longjmp(back, 1);
	}
	switch (nr) {
	case NR_exit_group:
	case NR_exit:
	case NR_kill:
		if (nr == NR_kill && current->nr == NR_kill)
			return -(s64)below(2);
		longjmp(back, 1);
	case NR_sendmsg:
		answer();
		return below(20) ? 1 : -EINTR;
	case NR_futex:
		answer();
		return 0;
	case NR_sched_yield:
		if (!below(4))
			answer();
		return 0;
	case NR_recvmsg:
		return receive((struct msghdr_ *)b);
	case NR_fstat: {
		struct kstat_ *st = (void *)b;
		fill(st, sizeof *st);
		st->mode = below(2) ? S_IFSOCK : st->mode;
		return below(5) ? 0 : -EBADF;
	}
	case NR_dup3:
		if ((s32)b < 0)
			return -EBADF;
		break;
	case NR_getsockopt:
		if (below(2))
			*(u32 *)d = odd();
		return -(s64)below(2);
	}
	return below(3) ? (s64)below(200) : -(s64)below(134);
}

s64 safe_syscall(s64 nr, const u64 *args, const u32 *pending)
{
	if (*pending)
		return -ERESTARTSYS;
	/* what the guest asked for reaches the guest's memory alone; the core's own arguments lie on its stack */
	if (nr != NR_futex && (u64)&nr - args[1] + (1 << 20) > 2 << 20)
		return below(3) ? (s64)below(200) : -(s64)below(134);
	return host_call(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

/* -- the guest's memory --------------------------------------------------------------------------------------------- */

static int inside(const void *p, u64 n)
{
	return (u64)p >= (u64)guest && n <= GUEST && (u64)p - (u64)guest <= GUEST - n;
}

/* Where the guest is on one side, a fault is its own; the other side is ours, and the sanitizer's to check. */
s64 copy_bytes(void *to, const void *from, u64 n)
{
	u64 g = (u64)guest;
	int writes = (u64)to - g < GUEST, reads = (u64)from - g < GUEST;
	if ((writes && !inside(to, n)) || (reads && !inside(from, n)) || (!writes && !reads))
		return -EFAULT;
	memmove(to, from, n);
	return 0;
}

s64 copy_string(char *to, const char *from, u64 max)
{
	for (u64 i = 0; i < max; i++) {
		if (!inside(from + i, 1))
			return -EFAULT;
		if (!(to[i] = from[i]))
			return i;
	}
	return max;
}

/* -- what is not built here ------------------------------------------------------------------------------------------ */

#define STUB(f) __attribute__((weak)) s64 fn_##f(struct thread *x, struct call *c) { (void)x, (void)c; return -ENOSYS; }
CORE_FUNCTIONS(STUB)
__attribute__((weak)) int signal_restarts(struct thread *x) { (void)x; return below(2); }
__attribute__((weak)) s64 native_hook(struct thread *x, struct call *c, s64 (*go_on)(struct thread *, struct call *)) { return go_on(x, c); }
__attribute__((weak)) int natively_hooked(s64 nr) { (void)nr; return 0; }
__attribute__((weak)) u64 zp_trap_of(u64 ret) { (void)ret; return 0; }
__attribute__((weak)) char zp_null[1], zp_mark[1];
__attribute__((weak)) s64 counted_call(struct thread *x, struct call *c) { return run_lane(x, c); }
__attribute__((weak)) s64 block_all(void) { return 0; }
__attribute__((weak)) int is_rewritten(u64 a, u64 n) { (void)a, (void)n; return 0; }
__attribute__((weak)) void die_of(struct thread *x, int sig) { (void)x, (void)sig; longjmp(back, 1); }
__attribute__((weak)) int force_at_boundary(struct thread *x, struct ucontext_ *u, const struct siginfo_ *i) { (void)x, (void)u, (void)i; return 0; }
__attribute__((weak)) int fd_to_top(struct proc *p, int fd) { (void)p; return fd; }

__attribute__((weak)) void no_fast_entry(void) {}
__attribute__((weak)) void guest_takes_gs(void) {}
__attribute__((weak)) void exit_thread(u32 *word, int status) { (void)word, (void)status; longjmp(back, 1); }
__attribute__((weak)) void show_virtual_uid(struct thread *x, struct siginfo_ *i) { (void)x, (void)i; }
__attribute__((weak)) u64 guest_mask(struct thread *x, struct ucontext_ *u) { (void)x, (void)u; return random64(); }
__attribute__((weak)) void set_guest_mask(struct thread *x, struct ucontext_ *u, u64 mask) { (void)x, (void)u, (void)mask; }

static struct proc *process(void)
{
	struct proc *p = calloc(1, sizeof *p);
	p->chan = (u64)calloc(1, RING3_CHANNEL_SIZE);
	__asan_poison_memory_region((u8 *)p->chan + RING3_SLOT_SIZE, RING3_DRAFT_NAMES_OFFSET - RING3_SLOT_SIZE);
	p->sock = 1000;
	p->exe = 1001;
	p->pid = 7;
	p->soft_nofile = 1000;
	return p;
}

static void begin(void)
{
	guest = malloc(GUEST);
	fill(guest, GUEST);
	t = calloc(1, sizeof *t);
	t->proc = process();
	t->sighand = &t->proc->sighand;
	t->slot = calloc(1, RING3_SLOT_SIZE);
	t->slot_nr = 3;
	t->proc->slots[0] = 1 << 3;
	t->tid = 8;
	void *world = mmap((void *)WORLD_ADDR, ALIGN_UP(WORLD_SIZE, PAGE), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (world != (void *)WORLD_ADDR)
		die("no place for the world page", 0);
}

/* Files that may be made without asking, on terms that the guest may hit. */
static void lend(void)
{
	struct ring3_drafts *d = (void *)(t->proc->chan + RING3_DRAFTS_OFFSET);
	int fds[RING3_DRAFTS];
	for (int i = 0; i < RING3_DRAFTS; i++)
		fds[i] = 200 + i;
	if (!below(4))
		drafts_receive(t->proc, fds, below(RING3_DRAFTS + 1), odd());
	if (!below(4))
		fill(d, below(2) ? sizeof *d : sizeof *d + RING3_DRAFTS * sizeof(struct ring3_draft));
	d->live = !!below(4);
	d->serial = below(8) ? t->proc->drafts_serial : odd();
	d->context = t->slot->context = 1;
	d->cwd = t->slot->cwd = below(3);
	d->flags = below(2);
	d->prefix_len = below(8) ? below(3) : odd();
	if (below(2))
		d->taken = 0;
	if (below(2))
		memset((u8 *)t->proc->chan + RING3_DRAFT_NAMES_OFFSET, 0, RING3_DRAFT_NAMES_SIZE);
	else if (!below(4))
		fill((u8 *)t->proc->chan + RING3_DRAFT_NAMES_OFFSET, RING3_DRAFT_NAMES_SIZE);
}

static void one(void)
{
	struct call c = {.nr = below(40) ? (s64)below(NR_TABLE) : (s64)odd()};
	for (int i = 0; i < 6; i++)
		c.a[i] = below(2) ? pointer() : odd();
	if (below(3)) /* a descriptor that may be one */
		c.a[0] = below(2) ? below(100) : 998 + below(6);
	if (c.nr == NR_exit || c.nr == NR_exit_group)
		return;
	current = &c;
	patience = 20000;
	t->pending = !below(30);
	t->guarded = 0;
	struct ring3_world *w = (void *)WORLD_ADDR;
	w->epoch = below(3);
	fill(guest + below(GUEST - 256), 256);
	if (!below(8))
		lend();
	made++;
	if (_setjmp(back)) {
		gave_up++;
		t->proc->rx_lock = t->proc->kept_lock = mm.filter_lock = mm.lock = 0;
		return;
	}
	if (below(4))
		dispatch(t, &c);
	else
		supervise(t, &c, REQ_CALL);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	state = atoi(argv[1]) * 0x9e3779b97f4a7c15UL + 1;
	begin();
	for (int n = atoi(argv[2]); n; n--) {
		one();
		if (stuck) {
			printf("call %ld never ends\n", current->nr);
			return 1;
		}
	}
	printf("%lu calls, the core gave up %lu times\n", made, gave_up);
	return 0;
}
