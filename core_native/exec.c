/*
 * execve and execveat: the arguments go to the supervisor, which checks everything that can fail; then the core executes
 * itself, so that the host kernel ends the other threads, frees the memory, wakes a vfork parent and applies CLOEXEC.
 * Layer: core functions.
 */
#include "core.h"

#define MAX_STRING (32 * PAGE)	   /* MAX_ARG_STRLEN, include/uapi/linux/binfmts.h */
#define MAX_STACK_AHEAD (64UL << 30)
#define MAX_TOTAL (6UL * 1024 * 1024) /* bprm_stack_limits(): three quarters of _STK_LIM, and then some */

/* Strings flow through the slot's data area; a piece that is full is handed over and the area used anew. */
struct stream {
	struct thread *t;
	u32 base, used;
	u32 which;
	u32 pieces; /* whether overflowing is allowed */
	u64 total;
};

static s64 flush(struct stream *s)
{
	struct ring3_slot *slot = s->t->slot;
	slot->nr = NR_execve;
	slot->args[0] = s->which;
	slot->in_off[0] = 0;
	slot->in_len[0] = s->used;
	s->used = 0;
	s64 action = ask(s->t, REQ_EXEC_ARGS);
	return action < 0 ? action : slot->r_result;
}

static s64 put_string(struct stream *s, u64 from)
{
	u64 length = 0;
	for (;;) {
		u32 room = RING3_SLOT_DATA_SIZE - s->used;
		s64 n = room ? copy_str((char *)slot_data(s->t) + s->used, from, room) : 0;
		if (n < 0)
			return n;
		length += n;
		s->total += n + 8;
		if (length > MAX_STRING || s->total > MAX_TOTAL)
			return -E2BIG;
		if (n < room) {
			s->used += n + 1;
			return 0;
		}
		s->used += n;
		from += n;
		if (!s->pieces)
			return 1;
		s64 r = flush(s);
		if (r)
			return r;
	}
}

/* A vector of strings.  0, 1 when it does not fit and pieces are not allowed, or an error. */
static s64 put_vector(struct stream *s, u64 vector)
{
	for (; vector; vector += 8) {
		u64 at;
		if (copy_in(&at, vector, 8))
			return -EFAULT;
		if (!at)
			break;
		s64 r = put_string(s, at);
		if (r)
			return r;
	}
	return 0;
}

static s64 put_inline(struct thread *t, u32 arg, u64 vector, u32 *used)
{
	struct stream s = {t, *used, *used, 0, 0, 0};
	s64 r = put_vector(&s, vector);
	if (r)
		return r;
	t->slot->in_off[arg] = *used;
	t->slot->in_len[arg] = s.used - *used;
	*used = s.used;
	return 0;
}

static s64 put_pieces(struct thread *t, u32 which, u64 vector)
{
	struct stream s = {t, 0, 0, which, 1, 0};
	s64 r = put_vector(&s, vector);
	return r ? r : flush(&s);
}

static s64 put_path(struct thread *t, struct call *c, u32 arg, u32 *used)
{
	s64 n = copy_str((char *)slot_data(t) + *used, c->a[arg], 4096);
	if (n < 0)
		return n;
	if (n == 4096)
		return -ENAMETOOLONG;
	t->slot->in_off[arg] = *used;
	t->slot->in_len[arg] = n;
	*used += n + 1;
	return 0;
}

static void become_core(struct thread *t, u64 mask, u64 ignored)
{
	char numbers[6][24];
	int filters = filters_save(t);
	const s64 values[6] = {t->proc->sock, t->proc->exe, mask & 0x7fffffffffffffff, mask >> 63, ignored, filters};
	char *argv[9] = {"ring3", "guest"};
	char *envp[1] = {NULL};
	for (int i = 0; i < 6; i++) {
		format_number(numbers[i], values[i]);
		argv[i + 2] = numbers[i];
	}
	argv[8] = NULL;
	sys(NR_execveat, t->proc->exe, "", argv, envp, AT_EMPTY_PATH);
	if (filters >= 0)
		sys(NR_close, filters);
}

/*
 * May the plan be sent before the fresh core has said where its stack and its mappings are?  It then comes while the host
 * kernel executes the core, relative to both (main.c).  They have to be where they usually are, and no other thread may
 * be waiting at the socket, for which the plan would be lost.
 */
static int takes_plan_ahead(struct thread *t)
{
	struct rlimit_ stack;
	u64 others = 0;
	for (u32 i = 0; i < COUNT(t->proc->slots); i++)
		others |= t->proc->slots[i] & ~(t->slot_nr / 64 == i ? 1UL << t->slot_nr % 64 : 0);
	return !others && sys(NR_personality, 0xffffffff) == 0 &&
	       sys(NR_prlimit64, 0, RLIMIT_STACK, NULL, &stack) == 0 && stack.cur <= MAX_STACK_AHEAD;
}

/* The exec does not come about; the plan, which was sent or will be, is of no use. */
static s64 give_up(struct thread *t, int ahead, s64 why)
{
	if (ahead)
		discard_plan(t);
	return why;
}

static s64 do_exec(struct thread *t, struct call *c, u32 path)
{
	struct ring3_slot *s = t->slot;
	u32 used = 0;
	if (t->pending)
		return -ERESTARTSYS;
	s64 r = 0;
	static const u8 kinds[1] = {K_PATH};
	if (path == 0 && answer_known(t, c, kinds, 1, &r)) /* there is none: execvp(3) tries every directory */
		return r;
	drafts_drop(t->proc);
	r = vdirs_real(t, 1);
	if (!r)
		r = put_path(t, c, path, &used);
	if (r)
		return r;
	r = put_inline(t, path + 1, c->a[path + 1], &used);
	if (!r)
		r = put_inline(t, path + 2, c->a[path + 2], &used);
	if (r < 0)
		return r;
	if (r == 1) {
		r = put_pieces(t, 0, c->a[path + 1]);
		if (!r)
			r = put_pieces(t, 1, c->a[path + 2]);
		if (r)
			return r;
		used = 0;
		r = put_path(t, c, path, &used);
		if (r)
			return r;
		s->in_len[path + 1] = s->in_len[path + 2] = RING3_NULL;
	}
	s->nr = c->nr;
	for (int i = 0; i < 5; i++)
		s->args[i] = c->a[i];
	s->args[5] = takes_plan_ahead(t);
	s->id_fd[0] = s->id_fd[1] = -1;
	if (path == 1) {
		int fd = (int)c->a[0];
		s->id_fd[0] = fd;
		if (fd != AT_FDCWD && slot_data(t)[s->in_off[path]] != '/' && identify(t, 0, fd))
			return -EBADF;
	}
	s64 action = ask(t, REQ_CALL);
	if ((action & 0xff) != ACT_EXEC)
		return ask_finish(t, c, action);
	int ahead = s->r_result == 1;
	block_all();
	if (t->pending)
		return give_up(t, ahead, -ERESTARTSYS);
	u64 ignored = 0;
	static const int three[3] = {SIGBUS, SIGSEGV, SIGSYS};
	for (int i = 0; i < 3; i++)
		if (t->sighand->act[three[i]].handler == SIG_IGN)
			ignored |= SIGBIT(three[i]);
	become_core(t, guest_mask(t, c->uc), ignored);
	return give_up(t, ahead, -ENOMEM);
}

s64 fn_execve(struct thread *t, struct call *c) { return do_exec(t, c, 0); }
s64 fn_execveat(struct thread *t, struct call *c) { return do_exec(t, c, 1); }
