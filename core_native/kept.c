/*
 * Files that the guest opens for reading again and again: their descriptors are kept and given out without asking.
 * Layer: between dispatch and the channel.  Touches: descriptors above the guest's limit; kernel/kept.py says which.
 *
 * An entry holds one open file description under a number of the core's own, and lends it to the guest under a number of
 * the guest's. When the guest closes that, nobody has the description but we, and with its offset at 0 it is as good
 * as new. Before the guest does anything by which it could be told from a new one (a duplicate, a lock, another flag, a
 * fork that shares it), ours is closed, and the guest's is like any other. As with the answers, an entry counts until
 * anybody changes a name or an attribute.
 */
#include "core.h"

/* The guest's descriptor, if it has one, is like any other from now on. */
static void drop(struct proc *p, struct kept *k)
{
	if (!k->fd)
		return;
	if (k->lent >= 0)
		p->fd_class[k->lent] &= ~CLASS_KEPT;
	sys(NR_close, k->fd);
	k->fd = 0;
	p->nkept--;
}

static void drop_all(struct proc *p)
{
	for (u32 i = 0; i < MAX_KEPT; i++)
		drop(p, &p->kept[i]);
}

/* Nothing is kept any more. */
void kept_drop(struct proc *p)
{
	drafts_drop(p);
	if (!p->nkept)
		return;
	lock(&p->kept_lock);
	drop_all(p);
	unlock(&p->kept_lock);
}

static void stop(struct proc *p, u32 why)
{
	lock(&p->kept_lock);
	drop_all(p);
	p->kept_stopped += why;
	unlock(&p->kept_lock);
}

/* ... nor will be until kept_start(): another process is about to get the descriptions too. */
void kept_stop(struct proc *p)
{
	drafts_drop(p);
	stop(p, 1);
}

/* ... nor ever: the process gets locks that the close of any of the file's descriptors takes away (fcntl_locking(2)). */
void kept_never(struct proc *p)
{
	if (!(p->kept_stopped & KEPT_NEVER))
		stop(p, KEPT_NEVER);
}

void kept_start(struct proc *p)
{
	__atomic_fetch_sub(&p->kept_stopped, 1, __ATOMIC_RELEASE);
}

int kept_owns(struct proc *p, int fd)
{
	for (u32 i = 0; i < MAX_KEPT; i++)
		if (p->kept[i].fd == fd)
			return 1;
	return 0;
}

/* The entry that lent `fd`, with the lock held. */
static struct kept *lender(struct proc *p, int fd)
{
	for (u32 i = 0; i < MAX_KEPT; i++)
		if (p->kept[i].fd && p->kept[i].lent == fd)
			return &p->kept[i];
	return NULL;
}

static int is_kept(struct proc *p, int fd)
{
	return fd >= 0 && fd < FD_TABLE && p->fd_class[fd] & CLASS_KEPT;
}

/* The guest is about to do with a descriptor what only its own description may get. */
void kept_leave(struct proc *p, int fd)
{
	if (likely(!is_kept(p, fd)))
		return;
	lock(&p->kept_lock);
	struct kept *k = lender(p, fd);
	if (k)
		drop(p, k);
	unlock(&p->kept_lock);
	draft_leave(p, fd);
}

/* Does a call leave an open file description as it was, but for the offset? */
static int is_harmless(s64 nr)
{
	switch (nr) {
	case NR_read: case NR_pread64: case NR_readv: case NR_preadv: case NR_preadv2: case NR_lseek: case NR_sendfile:
	case NR_readahead: case NR_fstat: case NR_write: case NR_pwrite64: case NR_writev: case NR_pwritev: case NR_pwritev2:
	case NR_ftruncate: case NR_fallocate: case NR_fsync: case NR_fdatasync:
		return 1;
	}
	return 0;
}

/* A call of another lane than the core's is made with these arguments. */
void kept_used(struct proc *p, const struct call *c, const u8 *kinds, u32 argc)
{
	if (is_harmless(c->nr))
		return;
	for (u32 i = 0; i < argc; i++)
		if (kinds[i] == K_FD)
			kept_leave(p, (int)c->a[i]);
}

/* close(2) of a descriptor that is lent.  1: done, with this result. */
int kept_close(struct proc *p, int fd, s64 *result)
{
	if (likely(!is_kept(p, fd)))
		return 0;
	lock(&p->kept_lock);
	struct kept *k = lender(p, fd);
	draft_closed(p, fd);
	p->fd_class[fd] = FD_UNKNOWN;
	*result = sys(NR_close, fd);
	if (k) {
		k->lent = -1;
		if (k->epoch != current_epoch())
			drop(p, k);
	}
	unlock(&p->kept_lock);
	return 1;
}

static int matches(const struct kept *k, const struct kept_key *key)
{
	return k->lent < 0 && k->key.hash == key->hash && k->key.flags == key->flags && k->key.context == key->context &&
	       k->key.cwd == key->cwd && k->key.length == key->length && same_bytes(k->key.path, key->path, k->key.length);
}

static s64 lend(struct proc *p, struct kept *k)
{
	sys(NR_lseek, k->fd, 0, SEEK_SET);
	s64 fd = sys(NR_fcntl, k->fd, k->key.flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (fd < 0)
		return fd == -EINVAL ? -EMFILE : fd; /* F_DUPFD's word for a limit of no descriptors */
	if (fd >= FD_TABLE) {
		drop(p, k);
		return fd;
	}
	k->lent = fd;
	p->fd_class[fd] = k->class | CLASS_KEPT;
	return fd;
}

/* open(2).  1: done, with this result. */
int kept_open(struct proc *p, const struct kept_key *key, s64 *result)
{
	int found = 0;
	if (likely(!p->nkept))
		return 0;
	lock(&p->kept_lock);
	for (u32 i = 0; i < MAX_KEPT && !found; i++) {
		struct kept *k = &p->kept[i];
		if (k->fd && k->epoch != current_epoch())
			drop(p, k);
		else if (k->fd && matches(k, key)) {
			*result = lend(p, k);
			found = 1;
		}
	}
	unlock(&p->kept_lock);
	return found;
}

/* A free entry: one that is empty, or else the next in turn. */
static struct kept *room(struct proc *p)
{
	for (u32 i = 0; i < MAX_KEPT; i++)
		if (!p->kept[i].fd)
			return &p->kept[i];
	struct kept *k = &p->kept[p->kept_turn++ % MAX_KEPT];
	drop(p, k);
	return k;
}

/* The supervisor has opened a file for us, `fd`, that may be kept while the epoch lasts. */
void kept_note(struct proc *p, const struct kept_key *key, int fd, u32 epoch)
{
	if (fd >= FD_TABLE || !key->context || key->length > sizeof p->kept[0].path)
		return;
	lock(&p->kept_lock);
	if (!p->kept_stopped) {
		struct kept *k = room(p);
		set_nofile(p->soft_nofile + RING3_RESERVED_FDS);
		s64 own = sys(NR_fcntl, fd, F_DUPFD_CLOEXEC, p->soft_nofile);
		set_nofile(p->soft_nofile);
		if (own > 0) {
			k->fd = own;
			k->lent = fd;
			k->epoch = epoch;
			k->class = p->fd_class[fd];
			k->key = *key;
			k->key.path = k->path;
			memcpy(k->path, key->path, key->length);
			p->fd_class[fd] |= CLASS_KEPT;
			p->nkept++;
		}
	}
	unlock(&p->kept_lock);
}
