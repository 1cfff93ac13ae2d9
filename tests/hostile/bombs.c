/* Bombs: as much as there is of everything. Each hits a wall of its own, and when it is over all is free again. The sandbox has the limits
 * of battery.py: 64 processes, memory, descriptors. */
#include "hostile.h"
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/shm.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>

CASE(fork_bomb, "fork(2) without end", "--pids: EAGAIN")
{
	int n = 0, status;
	pid_t pid;
	pid_t group = 0;
	while (n < 4000 && (pid = fork()) >= 0) {
		if (!pid) {
			pause();
			_exit(0);
		}
		group = group ? group : pid;
		setpgid(pid, group);
		n++;
	}
	int why = errno;
	kill(-group, SIGKILL);
	while (wait(&status) > 0) { }
	if (n == 4000 || why != EAGAIN)
		broken("%d processes: %s", n, strerror(why));
	still_served();
}
static void forks_on(void *unused)
{
	(void)unused;
	for (;;)
		fork();
}
CASE(fork_bomb_that_grows, "fork(2) without end by everybody", "--pids; they end with their group")
{
	pid_t pid = fork();
	if (!pid) {
		setpgid(0, 0);
		forks_on(NULL);
	}
	setpgid(pid, pid);
	struct timespec pause = {0, 500000000};
	nanosleep(&pause, NULL);
	while (kill(-pid, SIGKILL) == 0) { }
	while (wait(NULL) > 0) { }
	still_served();
}
static void *sleeps(void *unused)
{
	pause();
	return unused;
}
static void makes_threads(void *unused)
{
	(void)unused;
	pthread_attr_t small;
	pthread_t one;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int i = 0; i < 100000; i++)
		if (pthread_create(&one, &small, sleeps, NULL))
			_exit(0);
	_exit(3);
}
CASE(thread_bomb, "pthread_create(3) without end", "the slots of a channel: EAGAIN")
{
	if (WEXITSTATUS(apart(makes_threads, NULL)) == 3)
		broken("100,000 threads");
	still_served();
}
CASE(open_bomb, "files and directories opened until there is no descriptor left, by four processes", "EMFILE; they are closed with their process")
{
	pid_t pids[4];
	int full[2];
	if (pipe(full))
		broken("pipe");
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			while (open(i & 1 ? "/" : "/proc/self/status", O_RDONLY) >= 0) { }
			if (write(full[1], "x", 1) == 1)
				pause();
			_exit(0);
		}
	}
	char byte;
	for (int i = 0; i < 4; i++)
		if (read(full[0], &byte, 1) != 1)
			broken("read");
	still_served();
	for (int i = 0; i < 4; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	still_served();
}
CASE(in_flight, "descriptors of directories sent and never received, sockets within sockets", "the host's limit; freed when the sockets are")
{
	int pair[2], other[2], sent = 0, dir = open("/", O_RDONLY | O_DIRECTORY);
	socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
	socketpair(AF_UNIX, SOCK_DGRAM, 0, other);
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(3 * sizeof(int))];
	} control = {.head = {CMSG_LEN(3 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	int fds[] = {dir, other[0], pair[1]};
	memcpy(CMSG_DATA(&control.head), fds, sizeof fds);
	struct iovec iov = {"x", 1};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	for (int i = 0; i < 20000; i++) {
		if (sendmsg(pair[0], &hdr, MSG_DONTWAIT) == 1)
			sent++;
		else {
			close(pair[0]);
			close(pair[1]);
			if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
				break;
			fds[2] = pair[1];
			memcpy(CMSG_DATA(&control.head), fds, sizeof fds);
			if (i > 2000)
				break;
		}
	}
	if (!sent)
		broken("nothing sent");
	still_served();
}
CASE(inode_bomb, "1,500 files and directories in memory", "they cost what they are; others are served meanwhile")
{
	char name[64];
	snprintf(name, sizeof name, "/tmp/inodes-%d", getpid());
	if (mkdir(name, 0700) || chdir(name))
		broken("mkdir");
	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof name, "%d", i);
		if (i & 1 ? mkdir(name, 0700) : mknod(name, S_IFREG | 0600, 0))
			break;
	}
	still_served();
}
CASE(file_bomb, "files of 2^62 bytes, sparse; then their contents asked for", "EFBIG, or a hole costs nothing")
{
	char byte;
	int fd = open("/tmp/huge", O_CREAT | O_RDWR | O_TRUNC, 0600);
	for (int shift = 30; shift < 63; shift += 4)
		if (ftruncate(fd, 1L << shift) == 0 && pread(fd, &byte, 1, (1L << shift) - 1) != 1)
			broken("2^%d", shift);
	ftruncate(fd, 1L << 42);
	chmod("/tmp/huge", 0700);
	static char *const words[] = {"x", NULL};
	REFUSED(execv("/tmp/huge", words));
	unlink("/tmp/huge");
	still_served();
}
static void eats(void *unused)
{
	(void)unused;
	for (size_t i = 0; i < 4096; i++) {
		char *piece = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (piece == MAP_FAILED)
			_exit(7);
		memset(piece, 1, 16 << 20);
	}
}
CASE(memory_bomb, "memory taken and written without end", "--memory: ENOMEM, or it is killed as the largest")
{
	struct rlimit limit;
	getrlimit(RLIMIT_DATA, &limit);
	if (limit.rlim_max == RLIM_INFINITY)
		skip("no limit of memory");
	int status = apart(eats, NULL);
	if (status != 7 << 8 && status != SIGKILL)
		broken("status %#x", status);
	limit.rlim_cur = limit.rlim_max = RLIM_INFINITY;
	REFUSED(setrlimit(RLIMIT_DATA, &limit));
	if (gate(SYS_setrlimit, RLIMIT_DATA, &limit) >= 0)
		broken("the limit is raised past the core");
}
CASE(socket_bomb, "5,000 sockets of every family, bound and listening", "EMFILE; freed with the process")
{
	int n = 0;
	for (int i = 0; i < 5000; i++) {
		int fd = socket(i % 3 ? AF_INET : AF_UNIX, i % 2 ? SOCK_STREAM : SOCK_DGRAM, 0);
		if (fd < 0)
			break;
		struct sockaddr_in any = {.sin_family = AF_INET};
		if (i % 3 && !bind(fd, (void *)&any, sizeof any) && i % 2)
			listen(fd, 1 << 30);
		n++;
	}
	if (n == 5000)
		broken("no limit");
	still_served();
}
CASE(signal_bomb, "100,000 signals queued to itself and to a child", "RLIMIT_SIGPENDING: EAGAIN")
{
	union sigval value = {0};
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	int n = 0;
	while (n < 1000000 && !sigqueue(getpid(), SIGRTMIN, value))
		n++;
	if (n == 1000000)
		skip("no limit of pending signals");
	still_served();
}
CASE(signal_storm, "a child signalled 4,000 times while it asks the supervisor", "each call is answered or begins again")
{
	pid_t pid = fork();
	if (!pid) {
		signal(SIGUSR1, (void (*)(int))still_served);
		struct stat st;
		for (;;)
			stat("/nowhere", &st);
	}
	for (int i = 0; i < 4000; i++)
		kill(pid, SIGUSR2 + i % 2 * (SIGCHLD - SIGUSR2));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	still_served();
}
CASE(lock_bomb, "4,000 record locks and thousands of flocks that wait for each other", "they cost what they are; EDEADLK")
{
	int fd = open("/tmp/locks", O_CREAT | O_RDWR, 0600);
	for (int i = 0; i < 1500; i++) {
		struct flock lock = {.l_type = i & 1 ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET, .l_start = 3L * i, .l_len = 1};
		if (fcntl(fd, F_SETLK, &lock))
			break;
	}
	int dir = open("/tmp", O_RDONLY | O_DIRECTORY);
	flock(dir, LOCK_EX);
	pid_t pids[30];
	for (int i = 0; i < 30; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			int other = open("/tmp", O_RDONLY | O_DIRECTORY);
			_exit(flock(other, LOCK_EX));
		}
	}
	still_served();
	for (int i = 0; i < 30; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	unlink("/tmp/locks");
	still_served();
}
CASE(watch_bomb, "inotify(7) instances and watches without end", "EMFILE, ENOSPC")
{
	char name[64];
	int n = 0, fd = inotify_init1(IN_NONBLOCK);
	snprintf(name, sizeof name, "/tmp/watches-%d", getpid());
	mkdir(name, 0700);
	chdir(name);
	while (n < 5000 && inotify_init1(0) >= 0)
		n++;
	if (n == 5000)
		broken("no limit of instances");
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof name, "%d", i);
		mkdir(name, 0700);
		if (inotify_add_watch(fd, name, IN_ALL_EVENTS) < 0)
			break;
	}
	still_served();
}
CASE(event_bomb, "an inotify queue that nobody reads", "its length is bounded: IN_Q_OVERFLOW")
{
	int fd = inotify_init1(IN_NONBLOCK);
	char name[64];
	snprintf(name, sizeof name, "/tmp/events-%d", getpid());
	mkdir(name, 0700);
	inotify_add_watch(fd, name, IN_ALL_EVENTS);
	chdir(name);
	for (int i = 0; i < 3000; i++) {
		mkdir("x", 0700);
		rmdir("x");
	}
	still_served();
}
CASE(attribute_bomb, "extended attributes of 64 KiB without end on one file", "E2BIG, ENOSPC, or what they are")
{
	static char value[65536];
	char name[32];
	int fd = open("/tmp/attributes", O_CREAT | O_RDWR, 0600);
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof name, "user.%d", i);
		if (fsetxattr(fd, name, value, sizeof value, 0))
			break;
		if (i == 1999)
			broken("128 MiB of attributes");
	}
	unlink("/tmp/attributes");
	still_served();
}
CASE(timer_bomb, "timers without end, all of them due at once", "RLIMIT_SIGPENDING, EMFILE")
{
	struct itimerspec soon = {{0, 1000}, {0, 1000}};
	int n = 0;
	for (; n < 5000; n++) {
		int fd = timerfd_create(CLOCK_MONOTONIC, 0);
		if (fd < 0)
			break;
		timerfd_settime(fd, 0, &soon, NULL);
	}
	if (n == 5000)
		broken("no limit");
	still_served();
}
CASE(epoll_nest, "epoll instances in each other, in circles and chains", "ELOOP, EINVAL")
{
	int chain[64];
	struct epoll_event event = {EPOLLIN, {0}};
	for (int i = 0; i < 64; i++)
		chain[i] = epoll_create1(0);
	REFUSED(epoll_ctl(chain[0], EPOLL_CTL_ADD, chain[0], &event));
	int i = 1;
	while (i < 64 && !epoll_ctl(chain[i], EPOLL_CTL_ADD, chain[i - 1], &event))
		i++;
	if (i == 64)
		broken("a chain of 64");
	still_served();
}
CASE(pipe_bomb, "pipes of the greatest size, all of them full", "EMFILE, and the host's limit of pages")
{
	static char page[65536];
	int ends[2], n = 0;
	while (n < 5000 && !pipe2(ends, O_NONBLOCK)) {
		fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
		while (n < 60 && write(ends[1], page, sizeof page) > 0) { }
		n++;
	}
	if (n == 5000)
		broken("no limit");
	still_served();
}
CASE(shared_memory_bomb, "System V segments without end", "ENOSPC, as SHMMNI is")
{
	int made[5000], n = 0;
	while (n < 5000 && (made[n] = shmget(IPC_PRIVATE, 4096, 0600)) >= 0)
		n++;
	for (int i = 0; i < n; i++)
		shmctl(made[i], IPC_RMID, NULL);
	if (n == 5000)
		broken("no limit");
	still_served();
}
CASE(huge_segments, "System V segments of any size, the largest included", "EINVAL, ENOMEM, or a file without bytes")
{
	for (int bit = 0; bit < 64; bit++) {
		shmctl(shmget(IPC_PRIVATE, 1UL << bit, 0600), IPC_RMID, NULL);
		shmctl(shmget(IPC_PRIVATE, ~0UL << bit, 0600 | SHM_HUGETLB * (bit & 1)), IPC_RMID, NULL);
	}
	still_served();
}
CASE(exec_bomb, "exec with the longest arguments, 40 times", "E2BIG beyond what Linux takes")
{
	static char word[130000];
	memset(word, 'a', sizeof word - 1);
	char *words[50] = {"/bin/true"};
	for (int i = 1; i < 40; i++)
		words[i] = word;
	for (int i = 0; i < 4; i++) {
		pid_t pid = fork();
		if (!pid) {
			execv("/bin/true", words);
			_exit(errno == E2BIG ? 0 : 1);
		}
		int status;
		waitpid(pid, &status, 0);
		if (status)
			broken("status %#x", status);
	}
	still_served();
}
CASE(name_bomb, "one directory of 2,000 names listed by twenty processes at once", "each takes its turn")
{
	char name[64];
	snprintf(name, sizeof name, "/tmp/names-%d", getpid());
	mkdir(name, 0700);
	chdir(name);
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof name, "a-rather-long-name-of-a-file-%d", i);
		mknod(name, S_IFREG | 0600, 0);
	}
	for (int i = 0; i < 20; i++)
		if (!fork()) {
			char room[32768];
			int fd = open(".", O_RDONLY | O_DIRECTORY);
			while (syscall(SYS_getdents64, fd, room, sizeof room) > 0) { }
			_exit(0);
		}
	while (wait(NULL) > 0) { }
	still_served();
}
static void spins(void *unused)
{
	(void)unused;
	for (;;)
		__asm__ volatile("");
}
CASE(time_bomb, "a loop without end with RLIMIT_CPU", "SIGXCPU, then SIGKILL")
{
	struct rlimit limit = {1, 2};
	setrlimit(RLIMIT_CPU, &limit);
	int status = apart(spins, NULL);
	if (!WIFSIGNALED(status))
		broken("status %#x", status);
}
