/*
 * The init of a sandbox: parent of its first guests, reaper of its orphans, and the one who ends them all when the
 * supervisor is gone.  Layer: a process of its own, not inside a guest.  Touches: its control socket and its children.
 *
 * Descriptor 3 is the control socket (struct ring3_spawn in, struct ring3_event out), 4 the core's executable.
 */
#include "core.h"

#define CONTROL 3
#define EXE 4

static void report(u32 kind, u32 token, int pid, int status)
{
	struct ring3_event event = {kind, token, pid, status};
	sys(NR_sendto, CONTROL, &event, sizeof event, MSG_NOSIGNAL, NULL, 0);
}

/* EVENT_LOCKED, and the descriptor that goes with it. */
static void report_locked(u32 done, int ended, int proc)
{
	struct ring3_event event = {EVENT_LOCKED, 0, ended, done};
	struct iovec_ iov = {(u64)&event, sizeof event};
	struct {
		struct cmsghdr_ head;
		int fd;
	} control = {{sizeof control.head + sizeof(int), SOL_SOCKET, SCM_RIGHTS}, proc};
	struct msghdr_ hdr = {.iov = (u64)&iov, .iovlen = 1};
	if (proc >= 0) {
		hdr.control = (u64)&control;
		hdr.controllen = sizeof control;
	}
	sys(NR_sendmsg, CONTROL, &hdr, MSG_NOSIGNAL);
}

static void reap(void)
{
	int status;
	s64 pid;
	while ((pid = sys(NR_wait4, -1, &status, 1 /* WNOHANG */, NULL)) > 0)
		report(EVENT_EXITED, 0, pid, status);
}

/* The list of our children, opened while paths can be. */
static int open_children(void)
{
	return sys(NR_open, "/proc/thread-self/children", O_CLOEXEC, 0);
}

/* Kill every descendant: children are killed, theirs become ours, until there is none. */
static void end_all(int children)
{
	for (;;) {
		char text[4096];
		int status;
		s64 n = sys(NR_pread64, children, text, sizeof text - 1, 0);
		text[n > 0 ? n : 0] = 0;
		for (char *s = text; *s;) {
			s64 pid = parse_number(s);
			if (pid > 1)
				sys(NR_kill, pid, SIGKILL);
			while (*s && *s != ' ')
				s++;
			while (*s == ' ')
				s++;
		}
		s64 r = sys(NR_wait4, -1, &status, n > 0 ? 0 : 1, NULL);
		if (r <= 0 && r != -EINTR)
			break;
	}
}

/*
 * What came meanwhile: ends of children are reaped, other signals told of.  Init is in the supervisor's process group and has
 * everything blocked: what it gets, the group got, and not the supervisor alone. (Of what the terminal sends nobody asks.)
 */
static void drain(int sfd)
{
	struct {
		u32 signo, error, code, pid;
		u8 rest[112];
	} info;
	int ended = 0;
	while (sys(NR_read, sfd, &info, sizeof info) == sizeof info) {
		if (info.signo == SIGCHLD)
			ended = 1;
		else if (info.code != 0x80 /* SI_KERNEL */)
			report(EVENT_SIGNAL, 0, info.pid, info.signo);
	}
	if (ended)
		reap();
}

static void restore_signals(u64 ignored)
{
	for (int sig = 1; sig <= 64; sig++) {
		struct ksigaction act = {ignored & SIGBIT(sig) ? SIG_IGN : SIG_DFL, 0, 0, 0};
		sys(NR_rt_sigaction, sig, &act, NULL, 8);
	}
}

/* In the new process: its descriptors, session and signals, then the core as a guest. */
__attribute__((noreturn)) static void become_guest(const struct ring3_spawn *spawn, const int *fds)
{
	u64 none = 0, soft = spawn->soft_nofile;
	if (spawn->flags & SPAWN_NEW_SESSION)
		sys(NR_setsid);
	if (spawn->flags & SPAWN_NEW_PGRP)
		sys(NR_setpgid, 0, 0);
	/* The received ones lie above 4; the three standard ones cannot overlap them. */
	for (int i = 0; i < 3; i++)
		sys(NR_dup2, fds[i], i);
	set_nofile(spawn->soft_nofile + RING3_RESERVED_FDS);
	s64 sock = sys(NR_fcntl, fds[3], F_DUPFD, soft), exe = sys(NR_fcntl, EXE, F_DUPFD, soft);
	if (sock < 0 || exe < 0)
		die("no room for the core's descriptors above", soft);
	sys(NR_close_range, 3, soft - 1, 0);
	set_nofile(spawn->soft_nofile);
	if (spawn->flags & SPAWN_CTTY)
		sys(NR_ioctl, 0, 0x540e /* TIOCSCTTY */, 0);
	if (spawn->flags & SPAWN_FOREGROUND) {
		int pgrp = sys(NR_getpgrp);
		sys(NR_ioctl, 0, 0x5410 /* TIOCSPGRP */, &pgrp);
	}
	restore_signals(spawn->ignored);
	sys(NR_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
	char numbers[4][24];
	const s64 values[4] = {sock, exe, spawn->blocked & 0x7fffffffffffffff, spawn->blocked >> 63};
	char *argv[9] = {"ring3", "guest"};
	char *envp[1] = {NULL};
	for (int i = 0; i < 4; i++) {
		format_number(numbers[i], values[i]);
		argv[i + 2] = numbers[i];
	}
	argv[6] = "0";
	argv[7] = "-1";
	argv[8] = NULL;
	sys(NR_execveat, exe, "", argv, envp, AT_EMPTY_PATH);
	die("cannot execute the core", exe);
}

static void spawn_guest(const struct ring3_spawn *spawn, const int *fds)
{
	struct clone_args args;
	memset(&args, 0, sizeof args);
	args.exit_signal = SIGCHLD;
	s64 pid = clone_call(&args, NULL, NULL);
	if (pid == 0)
		become_guest(spawn, fds);
	report(EVENT_STARTED, spawn->token, pid, pid < 0 ? (int)pid : 0);
}

/* One request.  Returns 0 when the supervisor has closed its end. */
static int serve(int sfd)
{
	struct ring3_spawn spawn;
	struct iovec_ iov = {(u64)&spawn, sizeof spawn};
	struct {
		struct cmsghdr_ head;
		int fd[4];
	} control;
	struct msghdr_ hdr = {.iov = (u64)&iov, .iovlen = 1, .control = (u64)&control, .controllen = sizeof control};
	s64 r = sys(NR_recvmsg, CONTROL, &hdr, MSG_CMSG_CLOEXEC);
	if (r == -EINTR || r == -EAGAIN)
		return 1;
	if (r != sizeof spawn)
		return 0;
	if (r == sizeof spawn && spawn.kind == SPAWN_WITNESS) {
		drain(sfd);
		report(EVENT_WITNESSED, spawn.token, 0, 0);
		return 1;
	}
	u32 n = hdr.controllen >= sizeof control.head ? (control.head.len - sizeof control.head) / sizeof(int) : 0;
	if (n == 4)
		spawn_guest(&spawn, control.fd);
	else
		report(EVENT_STARTED, spawn.token, -EMFILE, -EMFILE);
	for (u32 i = 0; i < n; i++)
		sys(NR_close, control.fd[i]);
	return 1;
}

/* `kept`: as for lock_down().  Returns whether we are process 1 of a PID namespace now. */
static int confine(u64 kept)
{
	int ended = 0;
	u32 done = own_namespaces();
	int proc = own_pids(&ended);
	if (proc >= 0)
		done |= LOCKED_PIDS;
	done |= lock_down(EXE, kept);
	report_locked(done, ended, proc);
	if (proc < 0)
		return 0;
	sys(NR_close, proc);
	sys(NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* a copy of the supervisor may hold the control socket, too */
	return 1;
}

void init_main(int argc, char **argv)
{
	u64 all = ~0UL;
	sys(NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
	sys(NR_close_range, 5, ~0U, 0);
	for (int fd = 0; fd < 3; fd++)
		sys(NR_close, fd);
	sys(NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sys(NR_prctl, PR_SET_NAME, "ring3-init");
	for (int fd = 0; fd < 3; fd++) /* so that no received descriptor is a standard one */
		sys(NR_open, "/dev/null", 2 | O_CLOEXEC, 0);
	int children = open_children();
	int alone = argc > 2 && confine(parse_number(argv[2]));
	int sfd = sys(NR_signalfd4, -1, &all, 8, 02004000 /* SFD_CLOEXEC | SFD_NONBLOCK */);
	struct pollfd_ wait[2] = {{CONTROL, 1, 0}, {sfd, 1, 0}};
	for (;;) {
		sys(NR_poll, wait, 2, -1);
		if (wait[1].revents)
			drain(sfd);
		if (wait[0].revents && !serve(sfd))
			break;
	}
	if (!alone) /* else the kernel ends everybody with us (pid_namespaces(7)) */
		end_all(children);
	sys(NR_exit_group, 0);
	__builtin_unreachable();
}
