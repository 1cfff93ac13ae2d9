/*
 * What a process of the sandbox may ask of the host, whatever runs in it: no privilege, and the filter of
 * kernel/lockdown.py.  Layer: init, before the first guest.  Touches: init's own rights, which its children inherit.
 *
 * The filter goes beneath Syscall User Dispatch: a call of the guest's text never comes to it, unless the guest has got
 * around that, and then it ends the process.
 */
#include "core.h"
#include "gen_lockdown.h"

static struct sock_filter_ program[] = {LOCKDOWN_FILTER};

/* The ends of the core's text, which only the linker knows. */
static void put_text(void)
{
	u64 start = (u64)core_text_start, end = (u64)core_text_end;
	for (u32 i = 0; i < sizeof program / sizeof *program; i++) {
		u32 *k = &program[i].k;
		*k = *k == TEXT_HIGH ? start >> 32 : *k == TEXT_START ? (u32)start : *k == TEXT_END ? (u32)end : *k;
	}
}

static void put_file(const char *path, const char *text)
{
	s64 fd = sys(NR_open, path, 1 /* O_WRONLY */, 0);
	if (fd < 0)
		return;
	sys(NR_write, fd, text, strlen(text));
	sys(NR_close, fd);
}

/* "N N 1": what a user may map by himself into a namespace of his own (user_namespaces(7)). */
static void map_id(const char *path, s64 id)
{
	char line[64], *at = format_number(line, id);
	*at++ = ' ';
	at = format_number(at, id);
	memcpy(at, " 1", 3);
	put_file(path, line);
}

/* Who has not the privilege gets it in a user namespace, where the host allows one. */
static void own_user_namespace(void)
{
	s64 uid = sys(NR_geteuid), gid = sys(NR_getegid);
	/* /proc is mounted by who may do so in his mount namespace */
	if (sys(NR_unshare, CLONE_NEWUSER | CLONE_NEWNS) && sys(NR_unshare, CLONE_NEWUSER))
		return;
	put_file("/proc/self/setgroups", "deny");
	map_id("/proc/self/uid_map", uid);
	map_id("/proc/self/gid_map", gid);
}

/* No interface, no abstract name, no System V object, no host name, no path of a cgroup of the host's. */
u32 own_namespaces(void)
{
	const u64 spaces = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
	if (!sys(NR_unshare, spaces))
		return LOCKED_SPACES;
	own_user_namespace();
	return sys(NR_unshare, spaces) ? 0 : LOCKED_SPACES;
}

/* Can the supervisor ask the host which process a number of a PID namespace means?  (ioctl_nsfs(2), Linux 6.11) */
static int pids_translate(void)
{
	s64 fd = sys(NR_open, "/proc/self/ns/pid", O_CLOEXEC, 0);
	s64 r = sys(NR_ioctl, fd, 0x8004b708 /* NS_GET_PID_IN_PIDNS */, sys(NR_getpid));
	sys(NR_close, fd);
	return r > 0;
}

/* The directory /proc of our PID namespace, mounted nowhere. */
static s64 own_proc(void)
{
	s64 fs = sys(NR_fsopen, "proc", 1 /* FSOPEN_CLOEXEC */);
	if (fs < 0)
		return fs;
	s64 r = sys(NR_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0);
	r = r ? r : sys(NR_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, 0xe /* nosuid, nodev, noexec */);
	sys(NR_close, fs);
	return r;
}

/*
 * Go on as process 1 of a PID namespace, a child of our parent's, and end as the process that was called.  Returns the
 * namespace's /proc; -1 where the host refuses, and then a child of our parent's may have `ended`.
 */
int own_pids(int *ended)
{
	struct clone_args args;
	int pipe[2];
	u8 byte = 0;
	if (!pids_translate() || sys(NR_pipe2, pipe, O_CLOEXEC))
		return -1;
	memset(&args, 0, sizeof args);
	args.flags = CLONE_NEWPID | CLONE_PARENT;
	s64 pid = clone_call(&args, NULL, NULL), proc = -1;
	if (pid == 0) {
		if ((proc = own_proc()) < 0)
			sys(NR_exit_group, 1);
		sys(NR_write, pipe[1], &byte, 1);
	}
	sys(NR_close, pipe[1]);
	if (pid > 0 && sys(NR_read, pipe[0], &byte, 1) == 1)
		sys(NR_exit_group, 0);
	sys(NR_close, pipe[0]);
	*ended = pid > 0 ? pid : 0;
	return proc;
}

/* A root directory that is empty and stays so: one of a process that is gone.  0: there is none. */
static int empty_root(void)
{
	struct clone_args args;
	int status = -1;
	memset(&args, 0, sizeof args);
	args.flags = CLONE_FS;
	args.exit_signal = SIGCHLD;
	s64 pid = clone_call(&args, NULL, NULL);
	if (pid == 0)
		sys(NR_exit_group, sys(NR_chroot, "/proc/self/fdinfo") || sys(NR_chdir, "/"));
	return pid > 0 && sys(NR_wait4, pid, &status, 0, NULL) == pid && status == 0;
}

/* Whoever executes the core again gets no capability back either: no_new_privs sees to it (prctl(2)). */
static int drop_capabilities(u64 kept)
{
	struct {
		u32 version;
		int pid;
	} head = {0x20080522, 0};
	struct {
		u32 effective, permitted, inheritable;
	} sets[2] = {{0, 0, 0}, {0, 0, 0}};
	sys(NR_capget, &head, sets);
	for (u64 cap = 0; cap < 64; cap++)
		if (!(kept >> cap & 1))
			sys(NR_prctl, 24 /* PR_CAPBSET_DROP */, cap, 0, 0, 0);
	for (int i = 0; i < 2; i++) {
		sets[i].permitted &= kept >> 32 * i;
		sets[i].effective = sets[i].permitted;
		sets[i].inheritable = 0;
	}
	return !sys(NR_capset, &head, sets);
}

/*
 * Landlock, where the host has it: no path is opened, no port bound or reached, and neither signals nor names of abstract
 * sockets cross the sandbox's border (from its sixth version on).  But the core may be executed.
 */
static u32 enter_landlock(int exe)
{
	struct {
		u64 files, net, scoped;
	} rules = {(1UL << 13) - 1, 3, 3};
	struct {
		u64 access;
		int fd;
	} __attribute__((packed)) core = {1 /* EXECUTE */ | 4 /* READ_FILE */, exe};
	s64 version = sys(NR_landlock_create_ruleset, NULL, 0, 1), size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
	if (version < 1)
		return 0;
	s64 fd = sys(NR_landlock_create_ruleset, &rules, size, 0);
	if (fd < 0)
		return 0;
	s64 r = sys(NR_landlock_add_rule, fd, 1 /* PATH_BENEATH */, &core, 0);
	r = r ? r : sys(NR_landlock_restrict_self, fd, 0);
	sys(NR_close, fd);
	return r ? 0 : version >= 6 ? LOCKED_PATHS | LOCKED_SCOPE : LOCKED_PATHS;
}

/* `exe` is the core's executable; `kept` the capabilities that stay, as bits (page zero takes one).  LOCKED_*: what the
 * host has let us do. */
u32 lock_down(int exe, u64 kept)
{
	struct sock_fprog_ filter = {sizeof program / sizeof *program, {0}, (u64)program};
	u32 done = 0;
	if (empty_root())
		done |= LOCKED_ROOT;
	if (!sys(NR_prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0)) {
		done |= enter_landlock(exe);
		if (drop_capabilities(kept))
			done |= LOCKED_RIGHTS;
		put_text();
		if (!sys(NR_seccomp, 1 /* SET_MODE_FILTER */, 4 /* SPEC_ALLOW */, &filter))
			done |= LOCKED_FILTER;
	}
	return done;
}
