/*
 * Calls that the supervisor has answered before, answered again from the table behind the world page.
 * Layer: between dispatch and the channel.  Touches: the table (read-only), the slot's data area.
 *
 * kernel/answers.py writes the table and says what may be in it, and how long.
 */
#include "core.h"

/* A call that takes part, as the table knows it. */
struct question {
	u32 nr, key[2], cwd;
	u32 length, hash;
	int nowhere; /* relative to a working directory that has no number yet */
	int fd;      /* instead of a path */
	const u8 *path;
	u64 out;
};

/* kernel/ahead.py knows it too. */
static u32 hash_of(const struct question *q)
{
	u64 h = q->nr * 0x9e3779b97f4a7c15UL ^ q->key[0] ^ (u64)q->key[1] << 32;
	for (u32 i = 0; i < q->length; i += 8) { /* NULs at the end */
		u64 word = 0;
		memcpy(&word, q->path + i, q->length - i < 8 ? q->length - i : 8);
		h = (h ^ word) * 0xff51afd7ed558ccdUL;
		h ^= h >> 32;
	}
	h *= 0xc4ceb9fe1a85ec53UL;
	return h >> 32;
}

/* The object that a descriptor stands for, in place of a path: a directory's number, or device and inode (no path has a
 * NUL in it, and no device number has none). */
static int by_descriptor(struct thread *t, int fd, struct question *q)
{
	struct kstat_ st;
	q->cwd = vdir_number(t->proc, fd);
	if (q->cwd) {
		q->hash = hash_of(q);
		return 1;
	}
	if (is_core_fd(t, fd) || sys(NR_fstat, fd, &st))
		return 0;
	memcpy((u8 *)q->path, &st.dev, 8);
	memcpy((u8 *)q->path + 8, &st.ino, 8);
	q->length = 16;
	q->fd = fd;
	q->hash = hash_of(q);
	return 1;
}

/* What the working directory alone decides. */
static int by_place(struct thread *t, struct question *q)
{
	q->cwd = t->slot->cwd;
	q->nowhere = !q->cwd;
	q->hash = hash_of(q);
	return 1;
}

/* Another string of the call, behind the path and its NUL. */
static int append(struct question *q, u64 text)
{
	u64 room = sizeof ((struct ring3_answer *)0)->path - q->length;
	s64 length = copy_str((char *)q->path + q->length + 1, text, room);
	if (length <= 0 || length >= (s64)room)
		return 0;
	q->length += 1 + length;
	return 1;
}

/* The call's arguments by their kinds (kernel/table.py); the path goes into the slot.  0: this one does not take part. */
static int read_question(struct thread *t, const struct call *c, const u8 *kinds, u32 argc, struct question *q)
{
	u32 keys = 0;
	u64 path = 0, text = 0;
	int dirfd = AT_FDCWD;
	*q = (struct question){.nr = c->nr, .fd = -1};
	for (u32 i = 0; i < argc; i++) {
		switch (kinds[i]) {
		case K_FD: case K_DIRFD: dirfd = (int)c->a[i]; break;
		case K_PTR: q->out = c->a[i]; break;
		case K_PATH: case K_PATH_NULL: path = c->a[i]; break;
		case K_STR: text = c->a[i]; break;
		default: q->key[keys++ & 1] = (u32)c->a[i];
		}
	}
	q->path = slot_data(t);
	s64 length = path ? copy_str((char *)q->path, path, sizeof ((struct ring3_answer *)0)->path + 1) : 0;
	if (length == 0 && dirfd >= 0)
		return by_descriptor(t, dirfd, q);
	if (c->nr == NR_getcwd)
		return by_place(t, q);
	if (length <= 0 || length > (s64)sizeof ((struct ring3_answer *)0)->path)
		return 0;
	q->length = length;
	if (text && !append(q, text))
		return 0;
	if (*q->path != '/') {
		q->cwd = dirfd == AT_FDCWD ? t->slot->cwd : vdir_number(t->proc, dirfd);
		q->nowhere = !q->cwd;
	}
	q->hash = hash_of(q);
	return 1;
}

static int is_answer(const struct ring3_answer *a, const struct question *q, u32 epoch, u32 context)
{
	return a->epoch == epoch && a->nr == q->nr && a->key[0] == q->key[0] && a->key[1] == q->key[1] &&
	       a->context == context && a->cwd == q->cwd && a->path_len == q->length &&
	       same_bytes(a->path, q->path, q->length);
}

/* Copy an entry's answer out, if it is one and nobody wrote meanwhile. */
static int take(const struct ring3_answer *a, const struct question *q, u32 epoch, u32 context, u8 *out, u32 *length,
		s64 *result, int *live)
{
	u32 seq = __atomic_load_n(&a->seq, __ATOMIC_ACQUIRE);
	if (seq & 1 || !is_answer(a, q, epoch, context))
		return 0;
	*result = a->result;
	*length = a->out_len;
	*live = a->live;
	if (*length > sizeof a->out)
		return 0;
	memcpy(out, a->out, *length);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&a->seq, __ATOMIC_RELAXED) == seq;
}

static int is_of(int fd, const struct ring3_live *file, struct kstat_ *now)
{
	return fd >= 0 && !sys(NR_fstat, fd, now) && now->dev == file->dev && now->ino == file->ino;
}

/* A file was opened to be written to.  One that is made and closed again and again has one place, not all. */
void note_writer(struct proc *p, int fd)
{
	for (u32 i = 0; i < LIVE_FDS; i++)
		if (__atomic_load_n(&p->live_fds[i], __ATOMIC_RELAXED) == fd + 1)
			return;
	u32 turn = __atomic_fetch_add(&p->live_turn, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&p->live_fds[turn % LIVE_FDS], fd + 1, __ATOMIC_RELAXED);
}

/* What the host kernel knows of a file that is in use, by the descriptor that was asked about or one of the last writers. */
static int look_at(struct proc *p, int fd, const struct ring3_live *file, struct kstat_ *now)
{
	if (fd >= 0)
		return is_of(fd, file, now);
	for (u32 i = 0; i < LIVE_FDS; i++)
		if (is_of(__atomic_load_n(&p->live_fds[i], __ATOMIC_RELAXED) - 1, file, now))
			return 1;
	return 0;
}

static int later(const u64 *a, const u64 *b)
{
	return a[0] > b[0] || (a[0] == b[0] && a[1] > b[1]);
}

/*
 * A struct stat of a file that somebody may write to: its size and times are those of the memfd that has its bytes. The
 * change time is the later of that and what the supervisor knew, unless the memfd has not changed since then.
 * 0: no descriptor of it is known here.
 */
static int bring_up_to_date(struct proc *p, int fd, u8 *out)
{
	struct kstat_ *st = (void *)out, now;
	struct ring3_live file;
	memcpy(&file, out + RING3_STAT_SIZE, sizeof file);
	if (!look_at(p, fd, &file, &now))
		return 0;
	st->size = now.size;
	st->blocks = now.blocks;
	memcpy(st->atime, now.atime, 32); /* and mtime */
	if ((now.ctime[0] != file.ctime[0] || now.ctime[1] != file.ctime[1]) && later(now.ctime, st->ctime))
		memcpy(st->ctime, now.ctime, 16);
	return 1;
}

/* For who looks for mistakes: would the supervisor have said the same?  Unless something has changed meanwhile. */
static void check_answer(struct thread *t, struct call *c, const struct question *q, u32 changes, const u8 *out,
			 u32 length, s64 result)
{
	u8 theirs[sizeof ((struct ring3_answer *)0)->out];
	struct call again = *c;
	s64 asked = supervise(t, &again, REQ_CALL);
	if (asked == -ERESTARTSYS || __atomic_load_n(&world()->changes, __ATOMIC_ACQUIRE) != changes)
		return;
	if (asked != result || (length && !copy_in(theirs, q->out, length) && !same_bytes(theirs, out, length)))
		die("an answer differs from the supervisor's, of call", c->nr);
}

/* Where in the table the answer to a question may be, RING3_ANSWER_PLACES places. */
static const struct ring3_answer *place_of(const struct question *q, u32 context, u32 i)
{
	const struct ring3_answer *table = (const void *)(WORLD_ADDR + RING3_ANSWERS_OFFSET);
	u32 first = (q->hash + context * 0x9e3779b1U + q->cwd * 0x85ebca6bU) % RING3_ANSWERS;
	return &table[first ^ i];
}

static int is_open(const struct call *c)
{
	return c->nr == NR_openat || c->nr == NR_open;
}

/* 1: the call is answered, by `result`.  0: ask; the slot has the hash, for the supervisor to remember the answer by. */
int answer_known(struct thread *t, struct call *c, const u8 *kinds, u32 argc, s64 *result)
{
	struct question q;
	u8 out[sizeof ((struct ring3_answer *)0)->out];
	u32 length;
	if (!read_question(t, c, kinds, argc, &q))
		return 0;
	t->slot->hash = q.hash;
	u32 context = t->slot->context;
	if (!context || q.nowhere)
		return 0;
	if (is_open(c) &&
	    (gift_open(t, q.path, q.length, q.cwd, q.key[0], result) ||
	     kept_open(t->proc, &(struct kept_key){q.hash, q.key[0], q.cwd, context, q.length, q.path}, result)))
		return 1;
	u32 epoch = current_epoch(), changes = __atomic_load_n(&world()->changes, __ATOMIC_ACQUIRE);
	for (u32 i = 0; i < RING3_ANSWER_PLACES; i++) {
		int live;
		if (!take(place_of(&q, context, i), &q, epoch, context, out, &length, result, &live))
			continue;
		if (live) {
			if (!bring_up_to_date(t->proc, q.fd, out))
				return 0;
			length = RING3_STAT_SIZE;
		}
		if (is_open(c) && *result > 0) { /* a directory's number */
			if (unlikely(world()->check_answers))
				return 0;
			*result = vdir_open(t, *result, q.key[0]);
		} else if (length && copy_out(q.out, out, length)) {
			*result = -EFAULT;
		} else if (unlikely(world()->check_answers)) {
			check_answer(t, c, &q, changes, out, length, *result);
		}
		return 1;
	}
	return 0;
}

/* A listing straight from the supervisor's memory into the guest's.  0: there is none, or it does not fit. */
static int copy_listing(const struct ring3_answer *a, const struct question *q, u32 context, u64 room, s64 *result)
{
	u32 seq = __atomic_load_n(&a->seq, __ATOMIC_ACQUIRE), at;
	if (seq & 1 || !is_answer(a, q, current_epoch(), context))
		return 0;
	s64 length = a->result;
	memcpy(&at, a->out, 4);
	if (length < 0 || (u64)length > room || at > RING3_LISTINGS_SIZE || length > RING3_LISTINGS_SIZE - at)
		return 0;
	s64 bad = copy_out(q->out, (const void *)(WORLD_ADDR + RING3_LISTINGS_OFFSET + at), length);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*result = bad ? -EFAULT : length;
	return __atomic_load_n(&a->seq, __ATOMIC_RELAXED) == seq;
}

/* The same for getdents64(2) of the directory `number` from its start, when all of it was read before. */
int listing_known(struct thread *t, struct call *c, u32 number, s64 *result)
{
	struct question q = {.nr = c->nr, .cwd = number, .path = slot_data(t), .out = c->a[1]};
	u32 context = t->slot->context;
	t->slot->hash = q.hash = hash_of(&q);
	for (u32 i = 0; context && !world()->check_answers && i < RING3_ANSWER_PLACES; i++)
		if (copy_listing(place_of(&q, context, i), &q, context, (u32)c->a[2], result))
			return 1;
	return 0;
}
