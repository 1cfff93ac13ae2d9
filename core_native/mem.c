/* Memory calls: the host kernel's, but for the core's own range and the program break.  Layer: core functions. */
#include "core.h"

/* Calls whose first two arguments are an address range: refused where they touch the core. */
s64 fn_range(struct thread *t, struct call *c)
{
	return touches_core(c->a[0], c->a[1]) ? -ENOMEM : native(t, c);
}

s64 fn_mprotect(struct thread *t, struct call *c)
{
	u64 tramps = tramps_needed(c->a[0], c->a[1]);
	if (unlikely(tramps)) { /* where the guest knows of nothing: Linux gets as far as the hole */
		c->a[1] = tramps > c->a[0] ? tramps - c->a[0] : 0;
		s64 r = c->a[1] ? fn_mprotect(t, c) : 0;
		return r ? r : -ENOMEM;
	}
	if ((c->a[2] & PROT_WRITE) && unlikely(is_rewritten(c->a[0], c->a[1])) && c->a[0] % PAGE == 0)
		tramp_restore(c->a[0], c->a[1]);
	return fn_range(t, c);
}

s64 fn_munmap(struct thread *t, struct call *c)
{
	if (touches_core(c->a[0], c->a[1]))
		return -EINVAL;
	s64 r = unmap_around(t, c);
	if (!r)
		traps_forget(c->a[0], c->a[1]);
	return r;
}

/* A file that Python serves: it may have something else to be mapped in its place. */
static s64 map_placeholder(struct thread *t, struct call *c)
{
	int fd;
	u32 flags;
	s64 r = request_map(t, c);
	if (r)
		return r;
	if (receive_fds(t, &fd, 1, &flags) != 1)
		return -ENOMEM;
	r = sys(NR_mmap, c->a[0], c->a[1], c->a[2], c->a[3], fd, c->a[5]);
	sys(NR_close, fd);
	return r;
}

/* What mmap(2) asks before it asks the file (do_mmap() in mm/mmap.c); 0: nothing is wrong. */
static s64 check_map(const struct call *c)
{
	u64 length = ALIGN_UP(c->a[1], PAGE);
	if (c->a[5] % PAGE || !c->a[1])
		return -EINVAL;
	if (!length || length > TASK_SIZE)
		return -ENOMEM;
	return c->a[5] / PAGE > (~0UL - length) / PAGE ? -EOVERFLOW : 0;
}

s64 fn_mmap(struct thread *t, struct call *c)
{
	int fd = (int)c->a[4];
	if ((c->a[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)) && touches_core(c->a[0], c->a[1]))
		return -ENOMEM;
	if (touches_core(c->a[0], c->a[1]))
		c->a[0] = 0; /* a hint that cannot be met */
	if (c->a[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (unlikely(tramps_needed(c->a[0], c->a[1])))
			return c->a[3] & MAP_FIXED_NOREPLACE ? -EEXIST : -ENOMEM;
		traps_forget(c->a[0], c->a[1]);
	}
	if (!(c->a[3] & MAP_ANONYMOUS)) {
		if (is_core_fd(t, fd))
			return -EBADF;
		draft_leave(t->proc, fd);
		u32 class = fd_class(t, fd);
		if (class == FD_PLACEHOLDER) {
			s64 bad = check_map(c);
			return bad ? bad : map_placeholder(t, c);
		}
		if (class == FD_REWRITABLE && (c->a[3] & 0xf) == MAP_PRIVATE) {
			if (c->a[2] & PROT_EXEC)
				return map_executable(t, c);
			if (!c->a[0] && !c->a[5])
				return map_with_room(t, c);
		}
	}
	return native(t, c);
}

s64 fn_mremap(struct thread *t, struct call *c)
{
	if (touches_core(c->a[0], c->a[1]) || ((c->a[3] & MREMAP_FIXED) && touches_core(c->a[4], c->a[2])))
		return -EFAULT;
	/* Rewritten text works only where it is. */
	if (is_rewritten(c->a[0], c->a[1])) {
		if (c->a[3] & (MREMAP_FIXED | MREMAP_DONTUNMAP))
			return -ENOMEM;
		c->a[3] &= ~(u64)MREMAP_MAYMOVE;
	}
	if (tramps_needed(c->a[0], c->a[1]) || ((c->a[3] & MREMAP_FIXED) && tramps_needed(c->a[4], c->a[2])))
		return -ENOMEM;
	return native(t, c);
}

/* brk(2) without the kernel's brk, which would lie behind the core: pages that are mapped and unmapped by hand. */
s64 fn_brk(struct thread *t, struct call *c)
{
	u64 want = c->a[0];
	lock(&mm.lock);
	u64 have = ALIGN_UP(mm.brk, PAGE), need = ALIGN_UP(want, PAGE);
	if (want < mm.brk_start || need < want)
		goto out;
	if (need > have) {
		s64 r = sys(NR_mmap, have, need - have, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (r != (s64)have) {
			if (r > 0)
				sys(NR_munmap, r, need - have);
			goto out;
		}
	} else if (need < have) {
		sys(NR_munmap, need, have - need);
	}
	mm.brk = want;
	((struct ring3_proc_page *)t->proc->chan)->brk_end = want;
out:
	want = mm.brk;
	unlock(&mm.lock);
	return want;
}

#define SHM_RDONLY 010000
#define SHM_RND 020000
#define SHM_REMAP 040000
#define SHM_EXEC 0100000

/* shmat(2): the supervisor gives the segment's memfd, which is mapped here (do_shmat() in ipc/shm.c). */
s64 fn_shmat(struct thread *t, struct call *c)
{
	u64 address = c->a[1], flags = c->a[2];
	u32 ignored;
	int fd;
	if (address % PAGE && !(flags & SHM_RND))
		return -EINVAL;
	address &= ~(PAGE - 1);
	if (!address && (c->a[1] || (flags & SHM_REMAP)))
		return -EINVAL;
	s64 action = put_call(t, c, REQ_CALL);
	if (action < 0 || (action & 0xff) != ACT_FD)
		return ask_finish(t, c, action);
	if (receive_fds(t, &fd, 1, &ignored) != 1)
		return -ENOMEM;
	s64 r = sys(NR_lseek, fd, 0, 2 /* SEEK_END */);
	u64 size = ALIGN_UP(r < 0 ? 0 : r, PAGE), prot = PROT_READ | (flags & SHM_RDONLY ? 0 : PROT_WRITE);
	if (r >= 0 && address && touches_core(address, size))
		r = -EINVAL;
	if (r >= 0)
		r = sys(NR_mmap, address, size, prot | (flags & SHM_EXEC ? PROT_EXEC : 0),
			MAP_SHARED | (!address ? 0 : flags & SHM_REMAP ? MAP_FIXED : MAP_FIXED_NOREPLACE), fd, 0);
	sys(NR_close, fd);
	return r == -EEXIST ? -EINVAL : r;
}
