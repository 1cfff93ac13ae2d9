/*
 * Process groups and sessions: those that a program was started in may lie outside of its PID namespace, and the kernel
 * calls them 0 then, which no program expects.  They are called PGRP_OUTSIDE here.
 * Layer: core functions.  Touches: nothing.
 *
 * Where there is no such namespace the kernel never says 0, and nobody has that number.
 */
#include "core.h"

#define TIOCGPGRP 0x540f
#define TIOCSPGRP 0x5410
#define TIOCGSID 0x5429
#define TIOCGPTN 0x80045430

static int in_outside_group(void)
{
	return sys(NR_getpgrp) == 0;
}

/* getpgrp(2), getpgid(2), getsid(2) */
s64 fn_group_of(struct thread *t, struct call *c)
{
	s64 r = native_checked(t, c);
	return r ? r : PGRP_OUTSIDE;
}

/* setpgid(2): who has left the group outside cannot come back (EPERM). */
s64 fn_setpgid(struct thread *t, struct call *c)
{
	s64 r = native_checked(t, c);
	return r == -EPERM && (int)c->a[1] == PGRP_OUTSIDE && sys(NR_getpgid, (int)c->a[0]) == 0 ? 0 : r;
}

s64 fn_wait4(struct thread *t, struct call *c)
{
	if ((int)c->a[0] == -PGRP_OUTSIDE && in_outside_group())
		c->a[0] = 0;
	return native_checked(t, c);
}

/* waitid(2): P_PGID 0 is one's own group. */
void wait_for_group(struct call *c)
{
	if ((int)c->a[0] == 2 && (int)c->a[1] == PGRP_OUTSIDE && in_outside_group())
		c->a[1] = 0;
}

int is_group_request(u32 request)
{
	return request == TIOCGPGRP || request == TIOCSPGRP || request == TIOCGSID;
}

/*
 * ioctl(2) about the group in a terminal's foreground, and its session.  Which of the groups outside it is, and making it
 * that of the sandbox, is the supervisor's affair.  (The other side of a terminal that nobody has says 0, too.)
 */
s64 group_ioctl(struct thread *t, struct call *c)
{
	u32 request = c->a[1];
	int number;
	s64 r = native(t, c);
	if (request == TIOCSPGRP)
		return r == -ESRCH && !copy_in(&number, c->a[2], sizeof number) && number == PGRP_OUTSIDE &&
				       sys(NR_getsid, 0) == 0
			       ? supervise(t, c, REQ_CALL)
			       : r;
	if (r || copy_in(&number, c->a[2], sizeof number) || number || !sys(NR_ioctl, c->a[0], TIOCGPTN, &number))
		return r;
	if (request == TIOCGPGRP)
		return supervise(t, c, REQ_CALL);
	number = PGRP_OUTSIDE;
	return copy_out(c->a[2], &number, sizeof number) ? -EFAULT : 0;
}
