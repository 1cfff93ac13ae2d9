/*
 * Directories that the guest has open without the supervisor: finding and listing them is what programs that walk a tree
 * do all the time, and what the core has answers for.
 * Layer: between dispatch and the channel.  Touches: descriptors of the guest; kernel/directories.py gives the numbers.
 *
 * Such a descriptor is a duplicate of one of the core's own, which nobody gets to see: the calls that a walk makes are
 * answered by the directory's number, from the table or by the supervisor. Before any other call, and before another
 * process may get it (fork, execve, SCM_RIGHTS), it is made real: the supervisor opens the directory as it is open here,
 * and what it gives takes the place of every duplicate. The process's page tells the supervisor of all that there are.
 */
#include "core.h"

static struct ring3_proc_page *page_of(struct proc *p)
{
	return (struct ring3_proc_page *)p->chan;
}

static int is_vdir(const struct proc *p, int fd)
{
	return fd >= 0 && fd < FD_TABLE && p->fd_class[fd] & CLASS_VDIR;
}

/* The entry of `fd`, -1 if there is none; with the lock held. */
static int entry_of(struct proc *p, int fd)
{
	for (int i = 0; i < RING3_VDIRS; i++)
		if (page_of(p)->vdir_fd[i] == (u32)fd + 1)
			return i;
	return -1;
}

/* What `fd` is, NULL if it is none; with the lock held. */
static struct vdir *vdir_of(struct proc *p, int fd)
{
	int i = is_vdir(p, fd) ? entry_of(p, fd) : -1;
	return i < 0 ? NULL : &p->vdirs[p->vdir_at[i]];
}

static void add(struct proc *p, int fd, struct vdir *v)
{
	for (int i = 0; i < RING3_VDIRS; i++) {
		if (page_of(p)->vdir_fd[i])
			continue;
		p->vdir_at[i] = v - p->vdirs;
		page_of(p)->vdir_number[i] = v->number;
		page_of(p)->vdir_flags[i] = v->flags;
		page_of(p)->vdir_fd[i] = fd + 1;
		p->fd_class[fd] = FD_PLACEHOLDER | CLASS_VDIR;
		v->fds++;
		p->nvdirs++;
		return;
	}
}

static void take_away(struct proc *p, int i)
{
	page_of(p)->vdir_fd[i] = 0;
	p->vdirs[p->vdir_at[i]].fds--;
	p->nvdirs--;
}

static struct vdir *unused(struct proc *p)
{
	for (int i = 0; i < RING3_VDIRS; i++)
		if (!p->vdirs[i].fds)
			return &p->vdirs[i];
	return NULL;
}

/* The number of the directory, 0 for any other descriptor. */
u32 vdir_number(struct proc *p, int fd)
{
	if (likely(!is_vdir(p, fd)))
		return 0;
	lock(&p->vdir_lock);
	struct vdir *v = vdir_of(p, fd);
	u32 number = v ? v->number : 0;
	unlock(&p->vdir_lock);
	return number;
}

/* A duplicate at the lowest free number, as dup(2) and open(2) say it. */
static s64 another(int fd, int cloexec)
{
	s64 r = sys(NR_fcntl, fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	return r == -EINVAL ? -EMFILE : r; /* F_DUPFD's word for a limit of no descriptors */
}

/* The supervisor's descriptor of a directory, at the lowest number, or an error. */
static s64 ask_for(struct thread *t, const struct vdir *v)
{
	struct ring3_slot *s = t->slot;
	u32 flags;
	int real;
	s->args[0] = v->number;
	s->args[1] = v->flags;
	s->args[2] = v->ended;
	s->id_fd[0] = s->id_fd[1] = -1;
	s64 action = ask(t, REQ_DIR);
	if (action < 0)
		return action;
	if ((action & 0xff) != ACT_FD)
		return s->r_result < 0 ? s->r_result : -EIO;
	set_nofile(t->proc->soft_nofile + RING3_RESERVED_FDS); /* also where the guest's table is full */
	s64 r = receive_fds(t, &real, 1, &flags);
	set_nofile(t->proc->soft_nofile);
	return r == 1 ? real : r < 0 ? r : -EIO;
}

/* Where there is no room for one more: open(2) by the supervisor. */
static s64 open_real(struct thread *t, const struct vdir *v, int cloexec)
{
	s64 fd = ask_for(t, v);
	if (fd >= (s64)t->proc->soft_nofile) {
		sys(NR_close, fd);
		return -EMFILE;
	}
	if (fd >= 0 && !cloexec)
		sys(NR_fcntl, fd, F_SETFD, 0);
	if (fd >= 0 && fd < FD_TABLE)
		t->proc->fd_class[fd] = FD_PLACEHOLDER;
	return fd;
}

/* open(2) of a directory whose number is known: a descriptor or an error. */
s64 vdir_open(struct thread *t, u32 number, u32 flags)
{
	struct proc *p = t->proc;
	int cloexec = (flags & O_CLOEXEC) != 0;
	s64 fd = FD_TABLE; /* none of ours */
	lock(&p->vdir_lock);
	struct vdir *v = unused(p), made = {.turn = ++p->vdir_turn, .number = number};
	made.flags = (flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)) | O_LARGEFILE;
	if (v && p->nvdirs < RING3_VDIRS && !p->vdir_stopped)
		fd = another(p->exe, cloexec);
	if (fd >= 0 && fd < FD_TABLE) {
		*v = made;
		add(p, fd, v);
	} else if (fd > FD_TABLE) {
		sys(NR_close, fd);
	}
	unlock(&p->vdir_lock);
	return fd < FD_TABLE ? fd : open_real(t, &made, cloexec);
}

/* `to` has just become a duplicate of `from`. */
void vdir_same(struct proc *p, int from, int to)
{
	lock(&p->vdir_lock);
	struct vdir *v = vdir_of(p, from);
	if (v)
		add(p, to, v);
	unlock(&p->vdir_lock);
}

/* A duplicate of `fd` is about to be made: if there is no room for one, it has to be real. */
s64 vdir_room(struct thread *t, int fd)
{
	return is_vdir(t->proc, fd) && t->proc->nvdirs >= RING3_VDIRS ? vdir_real(t, fd) : 0;
}

/* These descriptors are about to be closed. */
void vdir_closed(struct proc *p, u32 first, u32 last)
{
	if (likely(!p->nvdirs))
		return;
	lock(&p->vdir_lock);
	for (int i = 0; i < RING3_VDIRS; i++) {
		u32 fd = page_of(p)->vdir_fd[i] - 1;
		if (page_of(p)->vdir_fd[i] && fd >= first && fd <= last)
			take_away(p, i);
	}
	unlock(&p->vdir_lock);
}

/* What F_GETFL says of it, 0 for any other descriptor. */
u32 vdir_flags(struct proc *p, int fd)
{
	if (likely(!is_vdir(p, fd)))
		return 0;
	lock(&p->vdir_lock);
	struct vdir *v = vdir_of(p, fd);
	u32 flags = v ? v->flags : 0;
	unlock(&p->vdir_lock);
	return flags;
}

/* Put `real` in the place of every descriptor of what was open here at that `turn`. */
static void replace(struct proc *p, u32 turn, int real)
{
	lock(&p->vdir_lock);
	for (int i = 0; i < RING3_VDIRS; i++) {
		int fd = (int)page_of(p)->vdir_fd[i] - 1;
		if (fd < 0 || p->vdirs[p->vdir_at[i]].turn != turn)
			continue;
		sys(NR_dup3, real, fd, sys(NR_fcntl, fd, F_GETFD) & 1 ? O_CLOEXEC : 0);
		p->fd_class[fd] = FD_PLACEHOLDER;
		take_away(p, i);
	}
	unlock(&p->vdir_lock);
}

/* Have the supervisor open what `fd` is, if it is a directory of ours. */
s64 vdir_real(struct thread *t, int fd)
{
	struct proc *p = t->proc;
	if (likely(!is_vdir(p, fd)))
		return 0;
	lock(&p->vdir_lock);
	struct vdir *found = vdir_of(p, fd), v = {0};
	if (found)
		v = *found;
	unlock(&p->vdir_lock);
	if (!v.number)
		return 0;
	s64 real = ask_for(t, &v);
	if (real < 0)
		return real;
	replace(p, v.turn, real);
	sys(NR_close, real);
	return 0;
}

/* The same of those that a program which is executed gets (`inherited`), or of all. */
s64 vdirs_real(struct thread *t, int inherited)
{
	struct proc *p = t->proc;
	s64 r = 0;
	for (int i = 0; i < RING3_VDIRS && p->nvdirs && !r; i++) {
		int fd = (int)page_of(p)->vdir_fd[i] - 1;
		if (fd >= 0 && !(inherited && sys(NR_fcntl, fd, F_GETFD) & 1))
			r = vdir_real(t, fd);
	}
	return r;
}

/* Calls that say the same of every open file description of a directory. */
static int is_by_number(s64 nr)
{
	switch (nr) {
	case NR_fstat: case NR_fstatfs: case NR_fchdir: case NR_getdents64: case NR_fsync: case NR_fdatasync:
		return 1;
	}
	return 0;
}

/* A call is about to be put to the supervisor: which of its descriptors have to be real? */
s64 vdir_real_for(struct thread *t, const struct call *c, const u8 *kinds, u32 argc)
{
	s64 r = 0;
	for (u32 i = 0; i < argc && !r && !is_by_number(c->nr); i++)
		if (kinds[i] == K_FD)
			r = vdir_real(t, (int)c->a[i]);
	return r;
}

/* Another process is about to get the descriptors: none is ours any more, nor will be until vdirs_start(). */
s64 vdirs_stop(struct thread *t)
{
	__atomic_fetch_add(&t->proc->vdir_stopped, 1, __ATOMIC_ACQ_REL);
	s64 r = vdirs_real(t, 0);
	if (r)
		vdirs_start(t->proc);
	return r;
}

void vdirs_start(struct proc *p)
{
	__atomic_fetch_sub(&p->vdir_stopped, 1, __ATOMIC_RELEASE);
}

/* A process that was just made, and has its own page. */
void vdirs_fresh(struct proc *p, int shared)
{
	p->vdir_lock = p->nvdirs = 0;
	p->vdir_stopped = shared;
	memset(p->vdirs, 0, sizeof p->vdirs);
}

static void note_end(struct proc *p, int fd)
{
	lock(&p->vdir_lock);
	struct vdir *v = vdir_of(p, fd);
	if (v)
		v->ended = 1;
	unlock(&p->vdir_lock);
}

/* Has it been read to its end? */
static int at_end(struct proc *p, int fd)
{
	lock(&p->vdir_lock);
	struct vdir *v = vdir_of(p, fd);
	int ended = v && v->ended;
	unlock(&p->vdir_lock);
	return ended;
}

s64 fn_getdents64(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	u32 number = vdir_number(t->proc, fd);
	if (!number)
		return supervise(t, c, REQ_CALL);
	if (at_end(t->proc, fd))
		return 0;
	s64 result;
	if (!listing_known(t, c, number, &result))
		result = supervise(t, c, REQ_CALL); /* if it is too long for one answer, it is no directory of ours afterwards */
	if (result > 0)
		note_end(t->proc, fd);
	return result;
}
