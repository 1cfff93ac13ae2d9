/* Other processes: the supervisor, the host's, other users in the sandbox; and what the host shares by name. */
#include "hostile.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/uio.h>

static char room[4096];

/* The host's processes do not exist: a file of /proc is not there, a call says ESRCH. */
static void not_there(long pid, const char *name)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
	int fd = open(path, O_RDONLY);
	if (fd >= 0)
		broken("%s can be opened", path);
	if (readlink(path, room, sizeof room) >= 0)
		broken("%s can be read", path);
}
static void nothing_in_proc(long pid)
{
	static const char *const files[] = {"mem", "maps", "environ", "cmdline", "fd/0", "fd/1", "root", "cwd", "exe", "status",
					    "task", "ns/mnt", "attr/current", "oom_score_adj", "auxv", "stack"};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		not_there(pid, files[i]);
}
CASE(proc_of_the_supervisor, "/proc/SUPERVISOR/mem, maps, environ, fd, root and so on", "it is not in the sandbox's /proc")
{
	nothing_in_proc(given("SUPERVISOR"));
}
CASE(proc_of_the_host, "the same of a process of the host's, and of its first", "it is not there")
{
	nothing_in_proc(given("VICTIM"));
	char what[256] = "";
	int fd = open("/proc/1/cmdline", O_RDONLY);
	if (fd >= 0 && read(fd, what, sizeof what - 1) > 0 && !strstr(what, "init"))
		broken("process 1 is %s", what);
	REFUSED(open("/proc/1/mem", O_RDWR));
}
CASE(proc_is_no_listing_of_the_host, "a listing of /proc looked through for the supervisor", "only the sandbox's processes")
{
	long supervisor = given("SUPERVISOR"), victim = given("VICTIM");
	char path[64];
	struct stat st;
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "/proc/%ld", i ? supervisor : victim);
		REFUSED(stat(path, &st));
	}
}

/* -- signals ------------------------------------------------------------------------------------------------ */

static void no_signal(long pid)
{
	REFUSED(kill((pid_t)pid, SIGKILL));
	REFUSED(syscall(SYS_tkill, pid, SIGKILL));
	REFUSED(syscall(SYS_tgkill, pid, pid, SIGKILL));
	siginfo_t info = {.si_signo = SIGTERM, .si_code = SI_QUEUE};
	REFUSED(syscall(SYS_rt_sigqueueinfo, pid, SIGTERM, &info));
	REFUSED(syscall(SYS_rt_tgsigqueueinfo, pid, pid, SIGTERM, &info));
	REFUSED(syscall(SYS_pidfd_open, pid, 0));
}
CASE(signal_the_supervisor, "kill(2) and its kin to the supervisor", "ESRCH")
{
	no_signal(given("SUPERVISOR"));
}
CASE(signal_the_host, "kill(2) and its kin to a process of the host's", "ESRCH")
{
	no_signal(given("VICTIM"));
	no_signal(-given("VICTIM"));
}
static void gate_no_signal(long pid)
{
	siginfo_t info = {.si_signo = SIGTERM, .si_code = SI_QUEUE};
	needs_out_of_reach(pid);
	if (!refused(gate(SYS_kill, pid, SIGTERM)) || !refused(gate(SYS_tkill, pid, SIGTERM)) ||
	    !refused(gate(SYS_tgkill, pid, pid, SIGTERM)) || gate(SYS_rt_sigqueueinfo, pid, SIGTERM, &info) >= 0)
		broken("signalled");
	long fd = gate(SYS_pidfd_open, pid);
	if (fd >= 0 && !refused(gate(424 /* pidfd_send_signal */, fd, SIGTERM)))
		broken("signalled by a pidfd");
}
CASE(gate_signal_the_supervisor, "the same past the core", "Landlock")
{
	gate_no_signal(given("SUPERVISOR"));
}
CASE(gate_signal_the_host, "the same past the core", "Landlock")
{
	gate_no_signal(given("VICTIM"));
}
CASE(gate_signal_everybody, "kill(2) past the core of all processes, and of its group", "the filter: one process at a time")
{
	for (int group = -2; group <= 0; group++)
		if (gate(SYS_kill, group, SIGKILL) != -EPERM)
			broken("kill(%d)", group);
}
CASE(signal_by_socket_owner, "F_SETOWN of a socket to the supervisor, then SIGIO", "the core asks; Landlock past it")
{
	int pair[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	REFUSED(fcntl(pair[0], F_SETOWN, given("SUPERVISOR")));
	int owner[2] = {1 /* F_OWNER_PID */, (int)given("SUPERVISOR")};
	REFUSED(fcntl(pair[0], 15 /* F_SETOWN_EX */, owner));
	gate(SYS_fcntl, pair[0], F_SETOWN, given("VICTIM"));
	gate(SYS_fcntl, pair[0], 10 /* F_SETSIG */, SIGTERM);
	gate(SYS_fcntl, pair[0], F_SETFL, O_ASYNC);
	if (write(pair[1], "x", 1) != 1) /* the test looks whether it still lives */
		broken("no write");
}
CASE(signal_by_timer, "timer_create(2), SIGEV_THREAD_ID of another process", "the host: only one's own threads")
{
	struct sigevent event = {.sigev_notify = 4, .sigev_signo = SIGTERM};
	event._sigev_un._tid = (int)given("VICTIM");
	int timer;
	if (gate(SYS_timer_create, 0, &event, &timer) >= 0 || syscall(SYS_timer_create, 0, &event, &timer) != -1)
		broken("made");
}

/* -- what else one may do to a process by its number ---------------------------------------------------------- */

static void priority(void *what)
{
	long which = (long)what, victim = given("VICTIM"), r = 0;
	static const struct sched_param none;
	static unsigned long mask[16] = {1};
	static struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {48, 5 /* SCHED_IDLE */, 0, 0, 0, 0, 0, 0};
	switch (which) {
	case 0: r = gate(SYS_setpriority, 0, victim, 19); break;
	case 1: r = gate(SYS_sched_setscheduler, victim, 5, &none); break;
	case 2: r = gate(SYS_sched_setaffinity, victim, sizeof mask, mask); break;
	case 3: r = gate(SYS_sched_setattr, victim, &attr, 0); break;
	case 4: r = gate(SYS_sched_setparam, victim, &none); break;
	case 5: r = gate(SYS_ioprio_set, 1, victim, 3 << 13); break;
	case 6: r = gate(SYS_setpriority, 2 /* PRIO_USER */, 0, 19); break;
	case 7: r = gate(SYS_ioprio_set, 3, 0, 3 << 13); break;
	default: r = gate(SYS_setpriority, 1 /* PRIO_PGRP */, gate(SYS_getpgid, victim), 19); break;
	}
	if (r >= 0)
		broken("way %ld gave %ld", which, r);
}
CASE(host_priority, "setpriority(2) past the core of a host process", "the filter: only of oneself")
{
	must_not_succeed(priority, (void *)0L);
}
CASE(host_policy, "sched_setscheduler(2) past the core of a host process", "the filter: only of oneself")
{
	must_not_succeed(priority, (void *)1L);
}
CASE(host_affinity, "sched_setaffinity(2) past the core of a host process", "the filter: only of oneself")
{
	must_not_succeed(priority, (void *)2L);
}
CASE(host_attributes, "sched_setattr(2) past the core of a host process", "the filter: only of oneself")
{
	must_not_succeed(priority, (void *)3L);
}
CASE(host_parameters, "sched_setparam(2) past the core of a host process", "the filter: only of oneself")
{
	must_not_succeed(priority, (void *)4L);
}
CASE(host_io_priority, "ioprio_set(2) past the core of a host process", "the filter: only of oneself")
{
	must_not_succeed(priority, (void *)5L);
}
CASE(host_priority_of_all, "setpriority(2) and ioprio_set(2) past the core of all processes of the user, or of a group", "the filter: only of oneself")
{
	for (long way = 6; way < 9; way++)
		must_not_succeed(priority, (void *)way);
}
CASE(limits_of_others, "prlimit(2) of the supervisor and of a host process", "ESRCH; the filter past the core")
{
	struct rlimit limit = {16, 16};
	REFUSED(prlimit((pid_t)given("SUPERVISOR"), RLIMIT_NOFILE, &limit, NULL));
	if (gate(SYS_prlimit64, given("SUPERVISOR"), RLIMIT_NOFILE, &limit, 0) != -EPERM)
		broken("past the core");
}
CASE(groups_of_others, "setpgid(2) of a host process, past the core too", "ESRCH")
{
	REFUSED(setpgid((pid_t)given("VICTIM"), 0));
	if (gate(SYS_setpgid, given("VICTIM"), 0) >= 0)
		broken("past the core");
}

static void by_gate(void *what)
{
	long *call = what;
	gate(call[0], call[1], call[2], call[3], call[4], call[5]);
}
#define ENDS(...) must_end(by_gate, (long[7]){__VA_ARGS__})
CASE(ptrace_others, "ptrace(2) of the supervisor and of a host process", "EPERM; the filter past the core")
{
	REFUSED(ptrace(PTRACE_ATTACH, (pid_t)given("SUPERVISOR"), 0, 0));
	REFUSED(ptrace(PTRACE_SEIZE, (pid_t)given("VICTIM"), 0, 0));
	ENDS(SYS_ptrace, PTRACE_SEIZE, given("VICTIM"));
}
CASE(memory_of_others, "process_vm_readv(2), process_vm_writev(2), process_madvise(2), process_mrelease(2)", "EPERM; the filter past the core")
{
	struct iovec one = {room, 1};
	REFUSED(process_vm_readv((pid_t)given("SUPERVISOR"), &one, 1, &one, 1, 0));
	ENDS(SYS_process_vm_readv, given("VICTIM"), (long)&one, 1, (long)&one, 1);
	ENDS(SYS_process_vm_writev, given("VICTIM"), (long)&one, 1, (long)&one, 1);
	ENDS(440, given("VICTIM"), (long)&one, 1, 4);
	ENDS(448, given("VICTIM"), 0);
	ENDS(SYS_migrate_pages, given("VICTIM"), 0, 0, 0);
}
CASE(descriptors_of_others, "pidfd_getfd(2), kcmp(2) of the supervisor", "EPERM; the filter past the core")
{
	REFUSED(syscall(438, 0, 0, 0));
	REFUSED(syscall(SYS_kcmp, given("SUPERVISOR"), getpid(), 0, 0, 0));
	ENDS(438, gate(SYS_pidfd_open, given("VICTIM")), 0, 0);
	ENDS(SYS_kcmp, given("VICTIM"), getpid(), 0, 0, 0);
}
CASE(namespaces_of_others, "setns(2), unshare(2), clone(2) and clone3(2) into new namespaces", "EPERM; the filter past the core")
{
	REFUSED(unshare(CLONE_NEWUSER));
	REFUSED(unshare(CLONE_NEWNET | CLONE_NEWPID));
	ENDS(SYS_setns, gate(SYS_pidfd_open, given("VICTIM")), CLONE_NEWNET);
	ENDS(SYS_unshare, CLONE_NEWUSER);
	ENDS(SYS_clone3, (long)room, 88);
	if (gate(SYS_clone, CLONE_NEWUSER | SIGCHLD) != -EPERM || gate(SYS_clone, CLONE_NEWNS | SIGCHLD) != -EPERM)
		broken("a namespace past the core");
}

/* -- a neighbour who is somebody else ------------------------------------------------------------------------- */

/* A child of root's, waiting, and this process as nobody: what can it do to the child? */
static void as_another(void (*f)(long))
{
	if (getuid())
		skip("needs a sandbox of root's");
	int pair[2];
	char byte;
	if (pipe(pair))
		broken("no pipe");
	pid_t other = fork();
	if (!other) {
		close(pair[1]);
		_exit(read(pair[0], &byte, 1) != 0);
	}
	pid_t me = fork();
	if (!me) {
		if (setgid(65534) || setuid(65534))
			broken("not somebody else");
		f(other);
		_exit(0);
	}
	int status;
	waitpid(me, &status, 0);
	close(pair[1]);
	int its;
	waitpid(other, &its, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		_exit(77);
	if (!WIFEXITED(status) || WEXITSTATUS(status) || !WIFEXITED(its))
		_exit(1);
}
static void reads_proc(long pid)
{
	static const char *const files[] = {"mem", "environ", "maps", "auxv", "fd/0", "root", "cwd", "exe"};
	char path[64];
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "/proc/%ld/%s", pid, files[i]);
		int fd = open(path, O_RDONLY);
		if (fd >= 0 && read(fd, room, 16) > 0)
			broken("%s can be read", path);
	}
}
CASE(proc_of_a_neighbour, "/proc/PID/mem, environ, maps, fd of a process of another user's", "EACCES, as on Linux")
{
	as_another(reads_proc);
}
static void signals(long pid)
{
	REFUSED(kill((pid_t)pid, SIGKILL));
	REFUSED(kill((pid_t)pid, 0));
	REFUSED(syscall(SYS_tgkill, pid, pid, SIGKILL));
	REFUSED(syscall(SYS_tkill, pid, SIGKILL));
	siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE};
	REFUSED(syscall(SYS_rt_sigqueueinfo, pid, SIGKILL, &info));
	REFUSED(syscall(424 /* pidfd_send_signal */, syscall(SYS_pidfd_open, pid, 0), SIGKILL, NULL, 0));
	REFUSED(kill(-1, SIGKILL) == 0 && kill((pid_t)pid, 0) == 0 ? 0 : -1);
}
CASE(signal_a_neighbour, "kill(2) of a process of another user's", "EPERM, as on Linux")
{
	as_another(signals);
}
static void traces(long pid)
{
	struct iovec one = {room, 1}, there = {room, 1};
	REFUSED(ptrace(PTRACE_ATTACH, (pid_t)pid, 0, 0));
	REFUSED(process_vm_readv((pid_t)pid, &one, 1, &there, 1, 0));
	REFUSED(syscall(438, syscall(SYS_pidfd_open, pid, 0), 0, 0));
}
CASE(trace_a_neighbour, "ptrace(2), process_vm_readv(2), pidfd_getfd(2) of one", "EPERM")
{
	as_another(traces);
}

/* -- names that the whole host shares --------------------------------------------------------------------------- */

CASE(abstract_socket, "the host's abstract sockets, connected to and sent to", "the pretend kernel has its own; Landlock past it")
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const char *name = getenv("ABSTRACT");
	if (!name)
		skip("run by tests/hostile/test_battery.py only");
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	strcpy(to.sun_path + 1, name);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0), pair[2];
	REFUSED(sendto(fd, "out", 3, 0, (void *)&to, length));
	REFUSED(connect(fd, (void *)&to, length));
	if (gate(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, pair))
		broken("no pair");
	needs_out_of_reach(given("SUPERVISOR"));
	if (gate(SYS_sendto, pair[0], "out", 3, 0, &to, length) >= 0)
		broken("sent past the core");
	struct iovec iov = {"out", 3};
	struct msghdr hdr = {.msg_name = &to, .msg_namelen = length, .msg_iov = &iov, .msg_iovlen = 1};
	if (gate(SYS_sendmsg, pair[0], &hdr, 0) >= 0)
		broken("sent past the core");
}
CASE(socket_by_path, "a datagram past the core to a socket of the host's at a path", "the root directory is empty")
{
	struct sockaddr_un to = {AF_UNIX, "/run/systemd/journal/dev-log"};
	int pair[2];
	gate(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, pair);
	if (gate(SYS_sendto, pair[0], "x", 1, 0, &to, sizeof to) >= 0)
		broken("sent");
}
CASE(system_v, "System V segments, semaphores and queues of the host's", "the pretend kernel has its own; the filter past it")
{
	int id = shmget(0x52337e57, 4096, IPC_CREAT | 0600);
	if (id >= 0)
		shmctl(id, IPC_RMID, NULL);
	REFUSED(semget(0x52337e57, 1, 0));
	REFUSED(msgget(0x52337e57, 0));
	ENDS(SYS_shmget, 0x52337e57, 4096, 0);
	ENDS(SYS_shmat, 0, 0, 0);
	ENDS(SYS_semget, 0x52337e57, 1, 0);
	ENDS(SYS_msgget, 0x52337e57, 0);
	ENDS(SYS_mq_open, (long)"x", 0);
}
CASE(posix_shared_memory, "a file in /dev/shm", "it is the sandbox's")
{
	int fd = open("/dev/shm/hostile-battery", O_CREAT | O_RDWR, 0600);
	if (fd >= 0 && (write(fd, "x", 1) != 1 || unlink("/dev/shm/hostile-battery")))
		broken("half there");
}
CASE(keys, "keyctl(2), add_key(2), request_key(2)", "ENOSYS; the filter past the core")
{
	REFUSED(syscall(SYS_keyctl, 0, -3, 0));
	REFUSED(syscall(SYS_add_key, "user", "x", "y", 1, -3));
	ENDS(SYS_keyctl, 0, -3, 0);
	ENDS(SYS_request_key, (long)"user", (long)"x", 0, 0);
}
CASE(rings_and_programs, "io_uring, bpf, userfaultfd, perf_event_open, fanotify, io_setup", "refused; the filter past the core")
{
	static const long calls[] = {425, SYS_bpf, SYS_userfaultfd, SYS_perf_event_open, SYS_fanotify_init, SYS_io_setup};
	for (int i = 0; i < 6; i++) {
		REFUSED(syscall(calls[i], room, room, 64, -1, -1));
		ENDS(calls[i], (long)room, (long)room, 64, -1, -1);
	}
}
CASE(handles, "name_to_handle_at(2) and open_by_handle_at(2) past the core", "the filter")
{
	ENDS(SYS_name_to_handle_at, AT_FDCWD, (long)"/", (long)room, (long)room, 0);
	ENDS(SYS_open_by_handle_at, AT_FDCWD, (long)room, 0);
}
static void dumps(void *unused)
{
	(void)unused;
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	setrlimit(RLIMIT_CORE, &all);
	all.rlim_max = all.rlim_cur = 1 << 20;
	gate(SYS_setrlimit, RLIMIT_CORE, &all);
	gate(SYS_exit_group, gate(SYS_kill, getpid(), SIGSEGV));
}
CASE(core_dump, "a crash with RLIMIT_CORE raised, in the directory of the caller", "no file is made on the host")
{
	apart(dumps, NULL); /* the test compares the host's directory */
}
CASE(clocks_and_names, "settimeofday, clock_settime, adjtimex, sethostname, syslog, reboot, swapon, acct past the core", "the filter, or nobody has the right")
{
	ENDS(SYS_settimeofday, (long)room, 0);
	ENDS(SYS_clock_settime, 0, (long)room);
	ENDS(SYS_sethostname, (long)"x", 1);
	ENDS(SYS_syslog, 5, 0, 0);
	ENDS(SYS_reboot, 0xfee1dead, 672274793, 0x1234567);
	ENDS(SYS_swapon, (long)"", 0);
	ENDS(SYS_acct, (long)"");
	static struct {
		unsigned modes;
		char rest[400];
	} timex = {0x8000, ""};
	if (gate(SYS_adjtimex, &timex) >= 0)
		broken("the clock is set");
}
CASE(modules, "init_module, kexec, iopl, ioperm, modify_ldt past the core", "the filter")
{
	ENDS(SYS_init_module, (long)room, 1, (long)"");
	ENDS(SYS_finit_module, 0, (long)"", 0);
	ENDS(SYS_kexec_load, 0, 0, 0, 0);
	ENDS(SYS_iopl, 3);
	ENDS(SYS_ioperm, 0, 1, 1);
	ENDS(SYS_modify_ldt, 1, (long)room, 16);
}
CASE(rights_back, "setuid, capset, PR_SET_SECCOMP, PR_SET_DUMPABLE, PR_CAP_AMBIENT, a new filter past the core", "the filter; rights do not come back")
{
	ENDS(SYS_setuid, 0);
	ENDS(SYS_setresuid, 0, 0, 0);
	ENDS(SYS_capset, (long)room, (long)room);
	ENDS(SYS_seccomp, 1, 0, (long)room);
	static const long options[] = {4, 8, 22, 24, 28, 47, 0x41555856};
	for (int i = 0; i < 7; i++)
		if (gate(SYS_prctl, options[i], 1, 2, 0, 0) != -EPERM)
			broken("prctl %ld", options[i]);
}

/* Not one of the list: who starts it does not wait for its end, of which nobody hears any more. */
#define BY_ITSELF CASE
BY_ITSELF(stop_init, "SIGSTOP for the sandbox's init, again and again", "the supervisor tells it to go on when it is to end")
{
	long init = gate(SYS_getppid);
	for (int i = 0;; i++) {
		gate(SYS_kill, init, SIGSTOP);
		if (i == 3) {
			puts("stopped");
			fflush(stdout);
		}
		struct timespec pause = {0, 20000000};
		nanosleep(&pause, NULL);
	}
}
