/* Small calls that the core answers: identity, uname, prctl, arch_prctl.  Layer: core functions.  Touches: nothing else. */
#include "core.h"

s64 fn_getpid(struct thread *t, struct call *c)
{
	(void)c;
	return t->proc->pid;
}
s64 fn_gettid(struct thread *t, struct call *c)
{
	(void)c;
	return t->tid;
}
s64 fn_getuid(struct thread *t, struct call *c)
{
	(void)c;
	return t->creds[0];
}
s64 fn_geteuid(struct thread *t, struct call *c)
{
	(void)c;
	return t->creds[1];
}
s64 fn_getgid(struct thread *t, struct call *c)
{
	(void)c;
	return t->creds[2];
}
s64 fn_getegid(struct thread *t, struct call *c)
{
	(void)c;
	return t->creds[3];
}

/* To set ids to what they all are changes nothing: make does so in each of its children. */
static s64 set_ids(struct thread *t, struct call *c, u32 real, u32 effective)
{
	int same = t->is_as_executed && real == effective;
	for (int i = 0; i < 3; i++)
		same &= (u32)c->a[i] == ~0U || (u32)c->a[i] == real;
	return same ? 0 : supervise(t, c, REQ_CALL);
}

s64 fn_setresuid(struct thread *t, struct call *c) { return set_ids(t, c, t->creds[0], t->creds[1]); }
s64 fn_setresgid(struct thread *t, struct call *c) { return set_ids(t, c, t->creds[2], t->creds[3]); }

/* The sandbox's init is invisible: its own children have no parent, and orphans have process 1. */
s64 fn_getppid(struct thread *t, struct call *c)
{
	s64 ppid = native(t, c);
	if (ppid == mm.init_pid)
		return t->proc->initial ? 0 : 1;
	return ppid;
}

/* waitid(2) tells the child's uid. */
s64 fn_waitid(struct thread *t, struct call *c)
{
	struct siginfo_ info;
	wait_for_group(c);
	s64 r = native(t, c);
	if (r || !c->a[2] || !((struct ring3_world *)WORLD_ADDR)->virtual_uids || copy_in(&info, c->a[2], sizeof info) ||
	    !info.si_signo)
		return r;
	show_virtual_uid(t, &info);
	copy_out(c->a[2], &info, sizeof info);
	return r;
}

s64 fn_zero(struct thread *t, struct call *c)
{
	(void)t, (void)c;
	return 0;
}
s64 fn_enosys(struct thread *t, struct call *c)
{
	(void)t, (void)c;
	return -ENOSYS;
}
s64 fn_eintr(struct thread *t, struct call *c)
{
	(void)t, (void)c;
	return -EINTR;
}

s64 fn_uname(struct thread *t, struct call *c)
{
	(void)t;
	return copy_out(c->a[0], ((struct ring3_world *)WORLD_ADDR)->uts, 390) ? -EFAULT : 0;
}

/* What would turn interception off or reach beyond the sandbox is refused; what is the thread's own affair is the host's. */
s64 fn_prctl(struct thread *t, struct call *c)
{
	switch ((int)c->a[0]) {
	case 1: case 2:	  /* PDEATHSIG */
	case 13: case 14: /* TIMING */
	case 15: case 16: /* NAME */
	case 29: case 30: /* TIMERSLACK */
	case 33: case 34: /* MCE_KILL */
	case 36: case 37: /* CHILD_SUBREAPER */
	case 40:	  /* GET_TID_ADDRESS */
	case 41: case 42: /* THP_DISABLE */
	case 25: case 26: /* TSC */
	case 0x53564d41:  /* SET_VMA */
		return native(t, c);
	case 38: /* SET_NO_NEW_PRIVS: on the host it is set, the guest's own is virtual */
		if (c->a[1] != 1 || c->a[2] || c->a[3] || c->a[4])
			return -EINVAL;
		t->no_new_privs = 1;
		return supervise(t, c, REQ_CALL);
	case 39: /* GET_NO_NEW_PRIVS */
		return c->a[1] || c->a[2] || c->a[3] || c->a[4] ? -EINVAL : (s64)t->no_new_privs;
	case 59: /* SYSCALL_USER_DISPATCH */
		return user_dispatch_prctl(t, c);
	case 22: /* SECCOMP */
		return seccomp_prctl(t, c);
	case 21: /* GET_SECCOMP: whoever is in strict mode cannot ask */
		return t->filters ? 2 : 0;
	}
	return supervise(t, c, REQ_CALL);
}

s64 fn_arch_prctl(struct thread *t, struct call *c)
{
	switch ((int)c->a[0]) {
	case 0x1001: /* SET_GS */
		if (in_core(c->a[1]))
			return -EPERM;
		guest_takes_gs();
		return native(t, c);
	case 0x1004: /* GET_GS */
		if (!mm.gs_taken) { /* what is there is ours; the guest has never set it */
			u64 none = 0;
			return copy_out(c->a[1], &none, 8);
		}
		return native(t, c);
	case 0x1002: /* SET_FS */
		return in_core(c->a[1]) ? -EPERM : native(t, c);
	case 0x1003: /* GET_FS */
	case 0x1011:		  /* GET_CPUID */
	case 0x1021: case 0x1022: case 0x1023: case 0x1024: case 0x1025: /* XCOMP */
		return native(t, c);
	}
	return -EINVAL;
}
