/*
 * Files that the guest makes and removes without asking, in a directory that the supervisor has lent to its process.
 * Layer: between dispatch and the channel.  Touches: the process's page behind RING3_DRAFTS_OFFSET, descriptors above the
 * guest's limit; kernel/drafts.py lends, and says what may be.
 *
 * A draft is a memfd that is open here under a number of the core's own.  When the guest makes a file, it gets a duplicate,
 * and the page says what the file is.  What is made is one bit of the page (`made`); the supervisor makes it true for
 * everybody before anybody else can look, and says so (`taken`).  When the guest has closed a file and removes it, the memfd
 * serves again. Before the guest does anything by which others may get its descriptor, ours is closed, and it is like any
 * other; what was made stays made.
 *
 * Only a process of one thread has drafts, so nobody but the supervisor is to be reckoned with: it stores 0 in `live`, then
 * reads `made`; we change `made`, then read `live` (Dekker's protocol).  Whoever finds `live` gone asks what was seen.
 */
#include "core.h"

static struct ring3_drafts *page_of(const struct proc *p)
{
	return (struct ring3_drafts *)(p->chan + RING3_DRAFTS_OFFSET);
}

static struct ring3_draft *notes_of(const struct proc *p)
{
	return (struct ring3_draft *)(page_of(p) + 1);
}

static int is_live(const struct proc *p)
{
	return __atomic_load_n(&page_of(p)->live, __ATOMIC_SEQ_CST) != 0;
}

/* Drafts that are made and that the supervisor does not know of. */
static u32 made_by(const struct proc *p)
{
	return page_of(p)->made & ~page_of(p)->taken;
}

/* Close our own descriptor: the guest's is like any other. */
static void let_go(struct proc *p, int i)
{
	struct draft *d = &p->drafts[i];
	if (!d->fd)
		return;
	if (d->lent >= 0)
		p->fd_class[d->lent] &= ~CLASS_KEPT;
	sys(NR_close, d->fd);
	d->fd = 0;
	p->ndrafts--;
}

void drafts_drop(struct proc *p)
{
	if (p->ndrafts)
		page_of(p)->dropped = 1;
	for (int i = 0; i < RING3_DRAFTS && p->ndrafts; i++)
		let_go(p, i);
}

/* What the supervisor has taken is everybody's, or may be, when the directory is lent no more. */
static void let_go_taken(struct proc *p)
{
	u32 taken = page_of(p)->taken | (is_live(p) ? 0 : page_of(p)->made);
	for (int i = 0; i < RING3_DRAFTS; i++)
		if (taken >> i & 1)
			let_go(p, i);
}

/* The guest is about to lock a file by fcntl(2): the close of any descriptor of that file would take the lock away. */
void drafts_settle(struct proc *p)
{
	if (p->ndrafts)
		let_go_taken(p);
}

int draft_owns(struct proc *p, int fd)
{
	for (int i = 0; i < RING3_DRAFTS; i++)
		if (p->drafts[i].fd == fd)
			return 1;
	return 0;
}

/* The draft that the guest has as `fd`, -1 if there is none. */
static int draft_of(struct proc *p, int fd)
{
	if (fd < 0 || fd >= FD_TABLE || !(p->fd_class[fd] & CLASS_KEPT))
		return -1;
	for (int i = 0; i < RING3_DRAFTS; i++)
		if (p->drafts[i].fd && p->drafts[i].lent == fd)
			return i;
	return -1;
}

void draft_leave(struct proc *p, int fd)
{
	int i = p->ndrafts ? draft_of(p, fd) : -1;
	if (i >= 0)
		let_go(p, i);
}

void draft_closed(struct proc *p, int fd)
{
	int i = p->ndrafts ? draft_of(p, fd) : -1;
	if (i >= 0)
		p->drafts[i].lent = -1;
}

static int is_alone(const struct proc *p)
{
	u32 words = 0;
	for (u32 i = 0; i < COUNT(p->slots); i++) {
		if (p->slots[i] & (p->slots[i] - 1))
			return 0;
		words += p->slots[i] != 0;
	}
	return words == 1;
}

/* Descriptors that the supervisor sent: those of the drafts whose bits are set. */
void drafts_receive(struct proc *p, const int *fds, u32 count, u32 bits)
{
	p->drafts_serial = page_of(p)->serial;
	int wanted = is_alone(p) && !p->no_drafts && !(p->kept_stopped & ~KEPT_NEVER);
	u32 n = 0;
	set_nofile(p->soft_nofile + RING3_RESERVED_FDS);
	for (int i = 0; i < RING3_DRAFTS; i++) {
		if (!(bits >> i & 1))
			continue;
		let_go(p, i);
		if (n >= count)
			continue;
		s64 own = wanted ? sys(NR_fcntl, fds[n], F_DUPFD_CLOEXEC, p->soft_nofile) : -1;
		if (own > 0) {
			p->drafts[i] = (struct draft){.fd = own, .lent = -1};
			p->ndrafts++;
		}
		sys(NR_close, fds[n++]);
	}
	set_nofile(p->soft_nofile);
	if (!p->ndrafts)
		page_of(p)->dropped = 1;
}

/* -- names */

/* A call that names a file: what stands for it in the page. */
struct wanted {
	const u8 *name;
	u32 length;
	int found; /* the draft of this name, -1 */
	int absent; /* there is certainly no such file */
};

static int may_be(const struct proc *p, const u8 *name, u32 length)
{
	const u8 *names = (const u8 *)(p->chan + RING3_DRAFT_NAMES_OFFSET);
	u32 h = 0;
	for (u32 i = 0; i < length; i++)
		h = (h << 8 | name[i]) % RING3_DRAFT_BITS;
	return names[h / 8] >> h % 8 & 1;
}

/* Is it a name in the directory that is lent?  The path goes into the slot. */
static int look(struct thread *t, u64 path, int dirfd, struct wanted *w)
{
	struct proc *p = t->proc;
	const struct ring3_drafts *d = page_of(p);
	u8 *text = slot_data(t);
	u32 prefix = d->prefix_len;
	if (!is_live(p) || !d->context || d->context != t->slot->context || prefix > RING3_DRAFT_PREFIX)
		return 0;
	s64 length = copy_str((char *)text, path, RING3_DRAFT_PREFIX + RING3_DRAFT_NAME + 1);
	if (length <= (s64)prefix || length > (s64)prefix + RING3_DRAFT_NAME || !same_bytes(text, d->prefix, prefix))
		return 0;
	u32 start = *text == '/' ? 0 : dirfd == AT_FDCWD ? t->slot->cwd : vdir_number(p, dirfd);
	if (start != d->cwd || (*text != '/' && !start))
		return 0;
	*w = (struct wanted){text + prefix, length - prefix, -1, 0};
	for (u32 i = 0; i < w->length; i++)
		if (w->name[i] == '/')
			return 0;
	if (*w->name == '.' && (w->length == 1 || (w->length == 2 && w->name[1] == '.')))
		return 0;
	for (u32 i = 0, made = made_by(p); i < RING3_DRAFTS; i++)
		if (made >> i & 1 && notes_of(p)[i].name_len == w->length && same_bytes(notes_of(p)[i].name, w->name, w->length))
			w->found = i;
	w->absent = w->found < 0 && !may_be(p, w->name, w->length);
	return 1;
}

/* The directory is lent no more: did the supervisor see this one made? */
static int was_seen(struct thread *t, int i)
{
	t->slot->args[0] = i;
	t->slot->nr = -1;
	t->slot->id_fd[0] = t->slot->id_fd[1] = -1;
	s64 action = ask(t, REQ_DRAFTS);
	return action == ACT_RESULT && t->slot->r_result == 1;
}

static s64 in_ns(const u64 *time)
{
	return (s64)(time[0] * 1000000000 + time[1]);
}

static s64 now(void)
{
	u64 clock[2];
	sys(NR_clock_gettime, 5 /* CLOCK_REALTIME_COARSE, which files' times are of */, clock);
	return in_ns(clock);
}

/* -- making and removing */

static int unused(struct proc *p)
{
	const struct ring3_drafts *d = page_of(p);
	for (int i = 0; i < RING3_DRAFTS; i++)
		if (p->drafts[i].fd && p->drafts[i].lent < 0 && d->ino[i] && !(d->made >> i & 1))
			return i;
	return -1;
}

static void write_note(struct thread *t, int i, const struct wanted *w, u32 mode, s64 born)
{
	struct ring3_drafts *d = page_of(t->proc);
	struct ring3_draft *n = &notes_of(t->proc)[i];
	memset(n, 0, sizeof *n);
	n->turn = d->turn++;
	n->mode = mode & ~d->umask & 0777;
	n->uid = d->uid;
	n->gid = d->gid;
	n->born = n->ctime = born;
	n->name_len = w->length;
	memcpy(n->name, w->name, w->length);
	d->changed = born;
}

/* open(2) that makes a file.  0: ask. */
static int make(struct thread *t, const struct wanted *w, u32 flags, u32 mode, s64 *result)
{
	struct proc *p = t->proc;
	struct ring3_drafts *d = page_of(p);
	struct kstat_ st;
	u32 ignored = O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_LARGEFILE;
	int i = unused(p);
	if (i < 0 || mode & 07000 || (flags & ~ignored) != d->flags)
		return 0;
	/* Emptied, with the times of now. */
	if (sys(NR_ftruncate, p->drafts[i].fd, 0) || sys(NR_fstat, p->drafts[i].fd, &st))
		return 0;
	if (p->drafts[i].used)
		sys(NR_lseek, p->drafts[i].fd, 0, SEEK_SET);
	s64 fd = sys(NR_fcntl, p->drafts[i].fd, flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (fd >= FD_TABLE)
		sys(NR_close, fd);
	if (fd < 0 || fd >= FD_TABLE)
		return 0;
	write_note(t, i, w, mode, in_ns(st.mtime));
	__atomic_or_fetch(&d->made, 1U << i, __ATOMIC_SEQ_CST);
	if (unlikely(!is_live(p)) && !was_seen(t, i)) {
		sys(NR_close, fd);
		drafts_drop(p);
		return 0;
	}
	p->drafts[i].lent = fd;
	p->drafts[i].used = 1;
	p->fd_class[fd] = FD_NATIVE | CLASS_KEPT;
	note_writer(p, fd);
	*result = fd;
	return 1;
}

/* unlink(2).  0: ask. */
static int remove(struct thread *t, int i, s64 *result)
{
	struct proc *p = t->proc;
	if (!p->drafts[i].fd || p->drafts[i].lent >= 0)
		return 0;
	s64 when = now();
	if (when > page_of(p)->changed) /* files' times may be finer than that clock */
		page_of(p)->changed = when;
	__atomic_and_fetch(&page_of(p)->made, ~(1U << i), __ATOMIC_SEQ_CST);
	if (unlikely(!is_live(p))) {
		int seen = was_seen(t, i);
		drafts_drop(p);
		if (seen)
			return 0;
	}
	*result = 0;
	return 1;
}

/* -- attributes of one that is open */

/* fstat(2) */
static int show(struct proc *p, int i, u64 to, s64 *result)
{
	const struct ring3_drafts *d = page_of(p);
	const struct ring3_draft *n = &notes_of(p)[i];
	struct kstat_ st;
	if (n->timed || sys(NR_fstat, p->drafts[i].fd, &st))
		return 0;
	st.dev = d->dev;
	st.ino = d->ino[i];
	st.mode = 0100000 | n->mode;
	st.nlink = 1;
	st.uid = n->uid;
	st.gid = n->gid;
	if (in_ns(st.atime) < n->born) {
		st.atime[0] = n->born / 1000000000;
		st.atime[1] = n->born % 1000000000;
	}
	if (in_ns(st.ctime) < n->ctime) {
		st.ctime[0] = n->ctime / 1000000000;
		st.ctime[1] = n->ctime % 1000000000;
	}
	*result = copy_out(to, &st, RING3_STAT_SIZE) ? -EFAULT : 0;
	return 1;
}

static int may_own(const struct ring3_drafts *d, u32 now, u32 wanted)
{
	return wanted == ~0U || wanted == now || d->any_owner;
}

/* fchown(2) */
static int give(struct proc *p, int i, u32 uid, u32 gid)
{
	const struct ring3_drafts *d = page_of(p);
	struct ring3_draft *n = &notes_of(p)[i];
	if (!may_own(d, n->uid, uid) || !may_own(d, n->gid, gid))
		return 0;
	n->uid = uid == ~0U ? n->uid : uid;
	n->gid = gid == ~0U ? n->gid : gid;
	n->ctime = now();
	return 1;
}

/* One of utimensat(2)'s times, in ns; `old` if it is to stay.  -1: let the supervisor look at it. */
static s64 time_of(const u64 *time, s64 old)
{
	if (time[1] == 0x3fffffff) /* UTIME_NOW */
		return now();
	if (time[1] == 0x3ffffffe) /* UTIME_OMIT */
		return old;
	return time[1] < 1000000000 && time[0] < 1UL << 33 ? in_ns(time) : -1;
}

/* utimensat(2) without a path: futimens(3) */
static int set_times(struct proc *p, int i, u64 from)
{
	struct ring3_draft *n = &notes_of(p)[i];
	struct kstat_ st;
	u64 times[4] = {0, 0x3fffffff, 0, 0x3fffffff};
	if (n->timed || (from && copy_in(times, from, sizeof times)) || sys(NR_fstat, p->drafts[i].fd, &st))
		return 0;
	s64 seen = in_ns(st.atime) > n->born ? in_ns(st.atime) : n->born;
	s64 atime = time_of(times, seen), mtime = time_of(times + 2, in_ns(st.mtime));
	if (atime < 0 || mtime < 0)
		return 0;
	n->atime = atime;
	n->mtime = mtime;
	n->base_atime = in_ns(st.atime);
	n->base_mtime = in_ns(st.mtime);
	n->timed = 1;
	n->ctime = now();
	return 1;
}

/* A change of attributes is done if the directory was lent all the while; else it is made again, by the supervisor. */
static int settled(const struct proc *p, int done, s64 *result)
{
	*result = 0;
	return done && is_live(p);
}

static int on_descriptor(struct thread *t, struct call *c, s64 *result)
{
	struct proc *p = t->proc;
	int i = draft_of(p, (int)c->a[0]);
	if (i < 0)
		return 0;
	switch (c->nr) {
	case NR_fstat:
		return show(p, i, c->a[1], result);
	case NR_newfstatat: {
		u8 first = 1;
		return c->a[3] == AT_EMPTY_PATH && !copy_in(&first, c->a[1], 1) && !first && show(p, i, c->a[2], result);
	}
	case NR_fchmod:
		if (c->a[1] & 07000)
			return 0;
		notes_of(p)[i].mode = c->a[1] & 0777;
		notes_of(p)[i].ctime = now();
		return settled(p, 1, result);
	case NR_fchown:
		return settled(p, give(p, i, c->a[1], c->a[2]), result);
	case NR_utimensat:
		return !c->a[1] && !c->a[3] && settled(p, set_times(p, i, c->a[2]), result);
	}
	return 0;
}

/* -- calls */

/* Flags of open(2) with which the answer for a name that is missing is ENOENT, whatever else. */
#define PLAIN_OPEN (O_ACCMODE | O_CLOEXEC | O_NOFOLLOW | O_LARGEFILE | O_NONBLOCK | O_NOCTTY | O_TRUNC)

static int open_named(struct thread *t, u64 path, int dirfd, u32 flags, u32 mode, s64 *result)
{
	struct wanted w;
	if (!(flags & O_CREAT) && flags & ~PLAIN_OPEN)
		return 0;
	if (!look(t, path, dirfd, &w) || !w.absent)
		return 0;
	if (flags & O_CREAT)
		return make(t, &w, flags, mode, result);
	*result = -ENOENT;
	return 1;
}

/* A call that only looks: it is answered if there is no such name. */
static int is_missing(struct thread *t, u64 path, int dirfd, s64 *result)
{
	struct wanted w;
	*result = -ENOENT;
	return look(t, path, dirfd, &w) && w.absent;
}

static int unlink_named(struct thread *t, u64 path, int dirfd, s64 *result)
{
	struct wanted w;
	if (!look(t, path, dirfd, &w))
		return 0;
	*result = -ENOENT;
	return w.found >= 0 ? remove(t, w.found, result) : w.absent;
}

/* 1: the call is done, with this result. */
int draft_call(struct thread *t, struct call *c, s64 *result)
{
	struct proc *p = t->proc;
	if (unlikely(page_of(p)->serial != p->drafts_serial)) /* files were sent that did not arrive */
		drafts_drop(p);
	if (unlikely(page_of(p)->taken || !is_live(p)))
		let_go_taken(p);
	if (!p->ndrafts || !is_live(p))
		return 0;
	switch (c->nr) {
	case NR_open:
		return open_named(t, c->a[0], AT_FDCWD, c->a[1], c->a[2], result);
	case NR_openat:
		return open_named(t, c->a[1], (int)c->a[0], c->a[2], c->a[3], result);
	case NR_unlink:
		return unlink_named(t, c->a[0], AT_FDCWD, result);
	case NR_unlinkat:
		return !(u32)c->a[2] && unlink_named(t, c->a[1], (int)c->a[0], result);
	case NR_stat: case NR_lstat:
		return is_missing(t, c->a[0], AT_FDCWD, result);
	case NR_access:
		return (u32)c->a[1] < 8 && is_missing(t, c->a[0], AT_FDCWD, result);
	case NR_faccessat:
		return (u32)c->a[2] < 8 && is_missing(t, c->a[1], (int)c->a[0], result);
	case NR_newfstatat:
		if (!((u32)c->a[3] & ~0x100U /* AT_SYMLINK_NOFOLLOW */) && is_missing(t, c->a[1], (int)c->a[0], result))
			return 1;
	}
	return on_descriptor(t, c, result);
}
