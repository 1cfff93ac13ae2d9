/* Forged words in the channel: what the supervisor reads there and on the socket is data to it, whatever it says. */
#include "forging.h"
#include <dirent.h>
#include <sys/file.h>
#include <sys/inotify.h>

enum { SLOT = 7 }; /* one that the core does not use */

static void put_path(const struct channel *c, u32 i, const void *path, u32 length)
{
	struct ring3_slot *s = slot_of(c, SLOT);
	memcpy(data_of(c, SLOT), path, length < RING3_SLOT_DATA_SIZE ? length : 0);
	s->in_off[i] = 0;
	s->in_len[i] = length;
}

/* -- who one is --------------------------------------------------------------------------------------------- */

/* A process that was announced claims to be `pid`; by whose word does not matter. */
static void claim(long pid, int who)
{
	struct channel c = own_channel();
	u64 token = 0;
	struct channel child = fork_channel(&c, SLOT, &token);
	if (!child.base)
		broken("no fork");
	if (who == MSG_FORKED)
		post(&c, MSG_FORKED, SLOT, pid, token, 0, 0);
	else if (who == MSG_CHILD)
		post(&child, MSG_CHILD, SLOT, pid, token, 0, 0);
	else
		post(&child, MSG_HELLO, 0, 0x7fff00000000, 0x7f0000000000, pid, 0);
	if (!is_closed(&child))
		broken("it may be process %ld", pid);
	still_served();
}

CASE(claims_the_supervisor, "a process says that it is the supervisor, whose descriptors would be its own then", "it has to be a child of init's")
{
	claim(given("SUPERVISOR"), MSG_CHILD);
}
CASE(claims_the_supervisor_by_parent, "its parent says so", "it has to be a child of init's")
{
	claim(given("SUPERVISOR"), MSG_FORKED);
}
CASE(claims_a_host_process, "a process says that it is one of the host's", "it has to be a child of init's")
{
	claim(given("VICTIM"), MSG_CHILD);
}
CASE(claims_a_host_process_by_hello, "a fresh core says so", "it has to be a child of init's")
{
	claim(given("VICTIM"), MSG_HELLO);
}
CASE(claims_a_host_process_by_parent, "its parent says so", "it has to be a child of init's")
{
	claim(given("VICTIM"), MSG_FORKED);
}
CASE(claims_process_one, "a process says that it is the host's first", "it has to be a child of init's")
{
	claim(1, MSG_CHILD);
}
CASE(claims_init, "a process says that it is the sandbox's init", "init is no child of its own")
{
	claim(gate(SYS_getppid), MSG_CHILD);
}
CASE(claims_its_parent, "a process says that it is one that is there already", "two cannot be one")
{
	claim(getpid(), MSG_CHILD);
}
CASE(claims_nonsense, "pids that there cannot be", "nothing comes of it")
{
	struct channel c = own_channel();
	u64 token = 0, pids[] = {1UL << 40, -1UL, 1UL << 32, 0x7fffffff, 1UL << 63};
	struct channel child = fork_channel(&c, SLOT, &token);
	for (int i = 0; i < 5; i++) {
		post(&c, MSG_FORKED, SLOT, pids[i], token, 0, 0);
		post(&child, MSG_CHILD, SLOT, pids[i], token, 0, 0);
	}
	post(&c, MSG_FORKED, SLOT, 0, token, 0, 0);
	if (!is_closed(&child))
		broken("it lives on");
	still_served();
}
CASE(forked_by_somebody_else, "MSG_FORKED with the token of another's fork", "only who forked may say so")
{
	struct channel c = own_channel();
	for (u64 token = 0; token < 4096; token++)
		post(&c, MSG_FORKED, SLOT, 0, token, 0, 0);
	still_served();
}
CASE(tid_of_the_supervisor, "a slot whose thread says it is the supervisor, then kill(2) of that", "the filter and Landlock have the last word")
{
	struct channel c = own_channel();
	struct ring3_slot *s = slot_of(&c, SLOT);
	s->args[0] = given("SUPERVISOR");
	make_request(&c, SLOT, REQ_CALL, SYS_getpid);
	u32 number = s->req + 1;
	s->tid = given("SUPERVISOR");
	s->req = number;
	post(&c, MSG_RING, SLOT, number, 0, 0, 0);
	answered(&c, SLOT, number);
	needs_out_of_reach(given("SUPERVISOR"));
	REFUSED(kill((pid_t)given("SUPERVISOR"), 0));
}

/* -- out of turn -------------------------------------------------------------------------------------------- */

static void says_hello(void *unused)
{
	(void)unused;
	struct channel c = own_channel();
	post(&c, MSG_HELLO, 0, 0, 0, getpid(), 0);
	if (!is_closed(&c))
		broken("it was given a program");
}
CASE(hello_out_of_turn, "a running program asks for a plan", "the process is ended")
{
	must_not_succeed(says_hello, NULL);
	still_served();
}
static void says_hello_in_an_exec(void *numbers)
{
	u64 *n = numbers;
	struct channel c = own_channel();
	put_path(&c, 0, "/bin/true", 9);
	slot_of(&c, SLOT)->in_len[1] = slot_of(&c, SLOT)->in_len[2] = 0;
	make_request(&c, SLOT, REQ_CALL, SYS_execve);
	for (int i = 0; i < 3; i++)
		post(&c, MSG_HELLO, (u32)n[3], n[0], n[1], getpid(), n[2]);
	is_closed(&c);
}
CASE(hello_with_strange_numbers, "an exec whose fresh core lies about its address space", "a plan that nobody can use, or an error")
{
	static u64 numbers[][4] = {{0, 0, 0, 0}, {-1UL, -1UL, -1UL, -1U}, {1, 2, 3, 4}, {1UL << 63, 1UL << 47, 1, 0x40000},
				   {0x7fff00000000, -1UL, 0, 0}, {4096, 8192, 1UL << 40, 0x8000000}};
	for (int i = 0; i < 6; i++)
		apart(says_hello_in_an_exec, numbers[i]);
	still_served();
}
static void takes_no_plan(void *unused)
{
	(void)unused;
	struct channel c = own_channel();
	struct ring3_fdmsg msg;
	int plans = 0;
	for (int i = 0; i < 500; i++) {
		put_path(&c, 0, "/bin/true", 9);
		slot_of(&c, SLOT)->in_len[1] = slot_of(&c, SLOT)->in_len[2] = 0;
		slot_of(&c, SLOT)->args[5] = 1;
		make_request(&c, SLOT, REQ_CALL, SYS_execve);
	}
	while (gate(SYS_recvfrom, c.sock, &msg, sizeof msg, MSG_DONTWAIT, NULL, NULL) == sizeof msg)
		plans += msg.kind == FDS_PLAN;
	if (plans != 1)
		broken("%d plans were sent", plans);
}
CASE(plans_that_nobody_takes, "execs with the plan sent ahead, one after the other, of which none is made", "one plan is in flight")
{
	apart(takes_no_plan, NULL);
	still_served();
}
static void lies_about_its_plan(void *numbers)
{
	u64 *n = numbers;
	struct channel c = own_channel();
	put_path(&c, 0, "/bin/true", 9);
	slot_of(&c, SLOT)->in_len[1] = slot_of(&c, SLOT)->in_len[2] = 0;
	slot_of(&c, SLOT)->args[5] = 1;
	make_request(&c, SLOT, REQ_CALL, SYS_execve);
	for (int i = 0; i < 3; i++) {
		post(&c, MSG_HELLO, (u32)n[3], n[0], n[1], getpid(), n[2]);
		hand_over(&c, SLOT, REQ_CALL);
	}
	is_closed(&c);
}
CASE(hello_after_the_plan, "a core that has its plan lies about its address space, again and again", "wrong numbers in its own /proc, or its end")
{
	static u64 numbers[][4] = {{0, 0, 0, 0}, {-1UL, -1UL, -1UL, -1U}, {1UL << 40, 2, 3, 4}, {0x7fff00000000, 0x7f0000000000, 0, 0},
				   {(1UL << 47) - 4097, 0, (1UL << 47) - 4097, 0x40000}};
	for (int i = 0; i < 5; i++)
		apart(lies_about_its_plan, numbers[i]);
	still_served();
}
CASE(hooks_that_are_not_there, "REQ_ENTER, REQ_EXIT, REQ_SITE and kinds that do not exist", "EIO")
{
	struct channel c = own_channel();
	for (u32 kind = 0; kind < 40; kind++)
		if (kind != REQ_FORK)
			make_request(&c, SLOT, kind, SYS_getpid);
	make_request(&c, SLOT, 0xffffffff, -1);
	still_served();
}
CASE(numbers_of_calls, "every number from -10 to 700 as a request, its arguments zeros", "ENOSYS, or what the handler says")
{
	struct channel c = own_channel();
	memset(slot_of(&c, SLOT)->args, 0, sizeof slot_of(&c, SLOT)->args);
	for (int i = 0; i < 6; i++)
		slot_of(&c, SLOT)->in_len[i] = RING3_NULL;
	for (s64 nr = -10; nr < 700; nr++)
		if (nr != SYS_exit && nr != SYS_exit_group)
			hand_over(&c, SLOT, (slot_of(&c, SLOT)->nr = nr, REQ_CALL)), answered(&c, SLOT, slot_of(&c, SLOT)->req);
	still_served();
}

/* -- lengths, offsets, descriptors ---------------------------------------------------------------------------- */

static s64 open_with(const struct channel *c, u32 off, u32 len)
{
	struct ring3_slot *s = slot_of(c, SLOT);
	s->in_off[0] = off;
	s->in_len[0] = len;
	return make_request(c, SLOT, REQ_CALL, SYS_chdir);
}
CASE(offsets_beyond_the_slot, "a path whose offset or length lies outside of the slot", "EFAULT")
{
	struct channel c = own_channel();
	static const u32 bad[][2] = {{0, 0x7fffffff}, {0xffffffff, 1}, {RING3_SLOT_DATA_SIZE, 1}, {RING3_SLOT_DATA_SIZE + 1, 0},
				     {1, RING3_SLOT_DATA_SIZE}, {0x80000000, 0x80000000}, {0, 0xfffffffe}, {4, 0xfffffffc}};
	for (int i = 0; i < 8; i++)
		if (open_with(&c, bad[i][0], bad[i][1]) >= 0)
			broken("offset %#x, length %#x", bad[i][0], bad[i][1]);
	still_served();
}
CASE(path_as_long_as_the_slot, "a path of 31 KiB", "ENAMETOOLONG")
{
	struct channel c = own_channel();
	memset(data_of(&c, SLOT), 'a', RING3_SLOT_DATA_SIZE);
	if (open_with(&c, 0, RING3_SLOT_DATA_SIZE) != -ENAMETOOLONG)
		broken("it is taken");
	for (u32 i = 0; i < RING3_SLOT_DATA_SIZE; i += 2)
		data_of(&c, SLOT)[i] = '/';
	if (open_with(&c, 0, RING3_SLOT_DATA_SIZE) != -ENAMETOOLONG)
		broken("it is taken");
}
CASE(path_with_nul, "a path with a NUL in it", "EINVAL")
{
	struct channel c = own_channel();
	put_path(&c, 0, "/tmp\0/../etc", 12);
	if (make_request(&c, SLOT, REQ_CALL, SYS_chdir) != -EINVAL)
		broken("it is taken");
	put_path(&c, 0, "", 0);
	if (make_request(&c, SLOT, REQ_CALL, SYS_chdir) != -ENOENT)
		broken("the empty one");
}
CASE(no_path, "calls that need a path, with NULL", "EFAULT")
{
	static const int calls[] = {SYS_chdir, SYS_mkdir, SYS_unlink, SYS_rename, SYS_open, SYS_stat, SYS_symlink, SYS_mount,
				    SYS_chroot, SYS_execve, SYS_truncate, SYS_setxattr};
	struct channel c = own_channel();
	for (int i = 0; i < 6; i++)
		slot_of(&c, SLOT)->in_len[i] = RING3_NULL;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (make_request(&c, SLOT, REQ_CALL, calls[i]) >= 0)
			broken("call %d", calls[i]);
	still_served();
}
CASE(descriptors_that_are_none, "calls on descriptor -100, -1, 2^31 and the core's own", "EBADF, or the error that they would have")
{
	static const int calls[] = {SYS_fstat, SYS_fchmod, SYS_fchdir, SYS_getdents64, SYS_ftruncate, SYS_flock, SYS_fsetxattr,
				    SYS_read, SYS_pwrite64, SYS_fcntl, SYS_ioctl, SYS_sendfile, SYS_copy_file_range, SYS_lseek};
	struct channel c = own_channel();
	struct ring3_slot *s = slot_of(&c, SLOT);
	int fds[] = {-100, -1, 0x7fffffff, -2147483647, c.sock, ((struct proc_head *)PROC_BASE)->exe};
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		for (int j = 0; j < 6; j++) {
			s->id_fd[0] = s->id_fd[1] = fds[j];
			s->args[0] = s->args[1] = (u64)fds[j];
			make_request(&c, SLOT, REQ_CALL, calls[i]);
		}
	still_served();
}
CASE(another_files_identity, "a descriptor with the identity of an object that is not the process's", "what it is comes from the supervisor's own table")
{
	struct channel c = own_channel();
	struct ring3_slot *s = slot_of(&c, SLOT);
	struct stat st;
	int fd = open("/", O_RDONLY | O_DIRECTORY);
	fstat(fd, &st);
	for (u64 ino = 0; ino < 3000; ino++) {
		s->id_fd[0] = 0;
		s->id_dev[0] = ino & 1 ? st.st_dev : ino % 64;
		s->id_ino[0] = ino;
		s->id_mode[0] = S_IFSOCK | 0600;
		s->nr = ino % 3 ? SYS_getdents64 : SYS_getsockname;
		s->args[0] = 0;
		s->args[1] = 0x1000;
		s->args[2] = 4096;
		answered(&c, SLOT, hand_over(&c, SLOT, REQ_CALL));
	}
	still_served();
}
CASE(huge_reads_of_memory, "calls whose handlers read the guest's memory, with lengths up to 2^63", "bounded; EFAULT")
{
	static const int calls[] = {SYS_setgroups, SYS_writev, SYS_capset, SYS_pwritev2, SYS_fcntl, SYS_ioctl, 463, 469, SYS_shmctl,
				    SYS_name_to_handle_at, SYS_open_by_handle_at};
	struct channel c = own_channel();
	struct ring3_slot *s = slot_of(&c, SLOT);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		for (int shift = 0; shift < 64; shift += 3) {
			for (int j = 0; j < 6; j++) {
				s->args[j] = 1UL << shift;
				s->in_len[j] = shift % 2 ? RING3_NULL : 64;
				s->in_off[j] = 0;
			}
			((u64 *)data_of(&c, SLOT))[1] = 1UL << shift;
			make_request(&c, SLOT, REQ_CALL, calls[i]);
		}
	still_served();
}

/* -- floods -------------------------------------------------------------------------------------------------- */

CASE(exec_arguments_without_end, "60 MB of argv in pieces", "E2BIG")
{
	struct channel c = own_channel();
	struct ring3_slot *s = slot_of(&c, SLOT);
	s64 r = 0;
	for (int i = 0; i < 2000 && !r; i++) {
		s->in_off[0] = 0;
		s->in_len[0] = RING3_SLOT_DATA_SIZE;
		s->args[0] = 0;
		r = make_request(&c, SLOT, REQ_EXEC_ARGS, SYS_execve);
	}
	if (r != -E2BIG)
		broken("%ld", (long)r);
}
CASE(forks_without_children, "requests for forks that are never made", "--pids")
{
	struct channel c = own_channel();
	u64 token;
	int made = 0;
	for (; made < 2000; made++)
		if (!fork_channel(&c, SLOT, &token).base)
			break;
	if (made == 2000)
		broken("no limit");
	still_served();
}
CASE(requests_that_nobody_waits_for, "20,000 requests, none of which is waited for", "each takes its turn")
{
	struct channel c = own_channel();
	for (int i = 0; i < 20000; i++) {
		slot_of(&c, SLOT)->nr = SYS_getcwd;
		hand_over(&c, SLOT, REQ_CALL);
	}
	still_served();
}
CASE(doorbells_for_nothing, "50,000 doorbells of slots that ask nothing, and of slots that there are not", "passed over")
{
	struct channel c = own_channel();
	for (u32 i = 0; i < 50000; i++)
		post(&c, MSG_RING, i & 1 ? i * 2654435761U : SLOT, i, 0, 0, 0);
	still_served();
}
CASE(blocked_calls_in_a_heap, "one slot waits in thousands of calls at once", "who asks again does not wait any more")
{
	int fd = inotify_init1(0);
	struct stat st;
	struct channel c = own_channel();
	struct ring3_slot *s = slot_of(&c, SLOT);
	syscall(SYS_fstat, fd, &st);
	s->id_fd[0] = fd;
	s->id_dev[0] = st.st_dev;
	s->id_ino[0] = st.st_ino;
	s->id_mode[0] = st.st_mode;
	s->args[1] = 0x1000;
	s->args[2] = 4096;
	for (int i = 0; i < 5000; i++) {
		s->nr = SYS_read;
		hand_over(&c, SLOT, REQ_CALL);
	}
	still_served();
}
CASE(cancels_of_nothing, "20,000 cancellations", "passed over")
{
	struct channel c = own_channel();
	for (u32 i = 0; i < 20000; i++)
		post(&c, MSG_CANCEL, i % 4096, i % 64, 0, 0, 0);
	still_served();
}
static void wrong_sizes(void *size)
{
	struct channel c = own_channel();
	static char data[65536];
	gate(SYS_sendto, c.sock, data, size, MSG_NOSIGNAL);
	if (!is_closed(&c))
		broken("a message of %ld bytes was taken", (long)size);
}
CASE(messages_of_other_sizes, "messages of 0, 1, 39, 41 and 65,536 bytes", "the process is ended")
{
	static const long sizes[] = {1, 39};
	for (int i = 0; i < 2; i++)
		must_not_succeed(wrong_sizes, (void *)sizes[i]);
	struct channel c = own_channel();
	static char data[65536];
	gate(SYS_sendto, c.sock, data, 41, MSG_NOSIGNAL);
	gate(SYS_sendto, c.sock, data, 65536, MSG_NOSIGNAL);
	still_served();
}
CASE(descriptors_sent_to_the_supervisor, "messages that carry 200 descriptors each", "it receives none")
{
	struct channel c = own_channel();
	struct ring3_msg msg = {99, 0, 0, 0, 0, 0};
	struct iovec iov = {&msg, sizeof msg};
	static union {
		struct cmsghdr head;
		char room[CMSG_SPACE(200 * sizeof(int))];
	} control;
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	control.head.cmsg_len = CMSG_LEN(200 * sizeof(int));
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	for (int i = 0; i < 200; i++)
		((int *)CMSG_DATA(&control.head))[i] = c.sock;
	for (int i = 0; i < 500; i++)
		gate(SYS_sendmsg, c.sock, &hdr, MSG_NOSIGNAL);
	still_served();
}
static void takes_no_descriptor(void *unused)
{
	(void)unused;
	struct channel c = own_channel();
	for (int i = 0; i < 3000; i++) {
		slot_of(&c, SLOT)->args[1] = O_RDONLY | O_DIRECTORY;
		put_path(&c, 0, "/", 1);
		slot_of(&c, SLOT)->nr = SYS_open;
		answered(&c, SLOT, hand_over(&c, SLOT, REQ_CALL));
	}
}
CASE(descriptors_never_taken, "3,000 opens whose descriptors are left in the socket", "its queue is bounded: EAGAIN")
{
	apart(takes_no_descriptor, NULL);
	still_served();
}

/* -- words that change -------------------------------------------------------------------------------------- */

static volatile int stop_flipping;

static void *flip(void *what)
{
	struct ring3_slot *s = what;
	u8 *data = (u8 *)s + RING3_SLOT_DATA;
	u64 state = 88172645463325252UL;
	while (!stop_flipping) {
		u64 r = random_word(&state);
		s->in_len[r & 1] = r & 2 ? 5 : r & 4 ? 0xfffffff0 : 31232;
		s->in_off[r & 1] = r & 8 ? 0 : (u32)(r >> 32);
		s->kind = r & 16 ? 1 : (u32)(r >> 40) % 16;
		s->nr = r & 32 ? SYS_openat : (s64)(r >> 44) % 470;
		s->id_fd[0] = r & 64 ? 0 : (s32)(r >> 20) % 40 - 100;
		memcpy(data, r & 128 ? "/tmp\0" : "/../..", 6);
	}
	return NULL;
}
static void race(void *unused)
{
	(void)unused;
	struct channel c = own_channel();
	pthread_t other;
	pthread_create(&other, NULL, flip, slot_of(&c, SLOT));
	for (int i = 0; i < 4000; i++) {
		u32 number = slot_of(&c, SLOT)->req + 1;
		__atomic_store_n(&slot_of(&c, SLOT)->req, number, __ATOMIC_SEQ_CST);
		post(&c, MSG_RING, SLOT, number, 0, 0, 0);
		struct msghdr none = {0};
		gate(SYS_recvmsg, c.sock, &none, MSG_DONTWAIT);
	}
	stop_flipping = 1;
	_exit(0);
}
CASE(double_fetches, "a second thread changes the words of a request while it is served", "each is read once")
{
	for (int i = 0; i < 3; i++)
		apart(race, NULL);
	still_served();
}
static void *flip_numbers(void *what)
{
	volatile struct ring3_slot *s = what;
	while (!stop_flipping) {
		s->req++;
		s->rep = s->req;
		s->watched = s->req & 1;
		s->sleeping = 1;
	}
	return NULL;
}
static void all_slots(void *unused)
{
	(void)unused;
	struct channel c = own_channel();
	pthread_t other[2];
	for (u32 i = 0; i < 64; i++) {
		slot_of(&c, i + SLOT)->nr = SYS_getcwd;
		slot_of(&c, i + SLOT)->kind = REQ_CALL;
	}
	for (int i = 0; i < 2; i++)
		pthread_create(&other[i], NULL, flip_numbers, slot_of(&c, SLOT + i));
	for (u32 i = 0; i < 20000; i++) {
		struct ring3_slot *s = slot_of(&c, SLOT + i % 64);
		s->req++;
		post(&c, MSG_RING, SLOT + i % 64, s->req, 0, 0, 0);
		((struct ring3_proc_page *)c.base)->posted = i;
	}
	_exit(0);
}
CASE(numbers_that_run, "64 slots ask without end, their numbers and the supervisor's own words change all the time", "one request of a process at a time")
{
	apart(all_slots, NULL);
	still_served();
}
CASE(lies_about_memory, "the channel's head lies about the break, the core's descriptors, sockets, sites; then /proc is read", "numbers are only shown")
{
	struct channel c = own_channel();
	u64 state = 4101842887655102017UL;
	static const char *const files[] = {"/proc/self/maps", "/proc/self/status", "/proc/self/stat", "/proc/net/tcp",
					    "/proc/self/fdinfo/0", "/proc/self/smaps"};
	for (int i = 0; i < 30; i++) {
		for (u64 *at = (u64 *)(c.base + 8); at < (u64 *)(c.base + sizeof(struct ring3_proc_page)); at++)
			*at = random_word(&state);
		int fd = open(files[i % 6], O_RDONLY);
		char text[512];
		while (fd >= 0 && read(fd, text, sizeof text) > 0) { }
		close(fd);
	}
	still_served();
}

/* -- directories that are lent -------------------------------------------------------------------------------- */

static struct ring3_drafts *lent(const struct channel *c)
{
	return (void *)(c->base + RING3_DRAFTS_OFFSET);
}

static void make_file(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0600);
	if (fd >= 0)
		close(fd);
}

/* Make files until the process is lent the directory. */
static void borrow(const struct channel *c)
{
	static char name[64] = "/tmp/lentXXXXXX";
	if (*name == '/' && (!mkdtemp(name) || chdir(name) || mkdir("below", 0700)))
		broken("no directory");
	make_file("mine");
	for (int i = 0; i < 4 || (i < 400 && !lent(c)->live); i++) { /* others have it taken back, too */
		snprintf(name, sizeof name, "w%d", i % 4);
		unlink(name);
		make_file(name);
	}
	if (!lent(c)->live)
		skip("nothing is lent here");
}

/* All drafts are made, by these names. */
static void claim_files(const struct channel *c, const char *const *some, u32 count, u32 length)
{
	struct ring3_draft *n = (void *)(lent(c) + 1);
	for (u32 i = 0; i < RING3_DRAFTS; i++) {
		const char *name = some[i % count];
		n[i] = (struct ring3_draft){.turn = i, .mode = ~0U, .timed = 1, .born = -1, .ctime = 1L << 62, .atime = -5, .mtime = 1L << 62};
		n[i].name_len = length ? length : strlen(name);
		memcpy(n[i].name, name, strlen(name));
	}
	lent(c)->changed = -1;
	__atomic_store_n(&lent(c)->made, ~0U, __ATOMIC_SEQ_CST);
}

/* What there is, is what there was. */
static void nothing_new(void)
{
	struct stat st;
	DIR *d = opendir(".");
	int n = 0;
	for (struct dirent *e; (e = readdir(d)); n++)
		if (strchr(e->d_name, '/') || !*e->d_name || lstat(e->d_name, &st))
			broken("there is a name %s", e->d_name);
	closedir(d);
	if (n > 8) /* mine, below, w0 to w3, "." and ".."; those that were not yet true are lost */
		broken("there are %d entries", n);
	if (!access("/tmp/escaped", F_OK) || !access("below/x", F_OK))
		broken("a file elsewhere");
	if (stat("mine", &st) || (st.st_mode & 07777) != 0600 || st.st_uid != getuid())
		broken("another's attributes");
}

CASE(drafts_with_odd_names, "files that were made without asking, by names like ../escaped, a/b, . and none", "each name is looked at")
{
	static const char *const odd[] = {"../escaped", "below/x", ".", "..", "", "/tmp/escaped", "a\0b"};
	struct channel c = own_channel();
	borrow(&c);
	claim_files(&c, odd, 6, 0);
	access("/tmp/none", F_OK);
	nothing_new();
	borrow(&c);
	claim_files(&c, odd + 6, 1, 3);
	access("/tmp/none", F_OK);
	borrow(&c);
	claim_files(&c, odd, 6, ~0U);
	access("/tmp/none", F_OK);
	nothing_new();
	still_served();
}
CASE(drafts_over_what_is_there, "files by the names of others", "who has the name keeps it")
{
	static const char *const there[] = {"mine", "below", "w1"};
	struct channel c = own_channel();
	borrow(&c);
	claim_files(&c, there, 3, 0);
	access("/tmp/none", F_OK);
	nothing_new();
	still_served();
}
CASE(drafts_of_somebody_else, "files with mode 07777, of another owner, and times that there are not", "a file's owner is who may make it, its mode has no set-id bits")
{
	static const char *const odd[] = {"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "xa", "xb", "xc", "xd", "xe", "xf"};
	struct channel c = own_channel();
	struct stat st;
	if (!getuid() && setresuid(65534, 65534, 65534))
		broken("no other user");
	borrow(&c);
	claim_files(&c, odd, 16, 0);
	for (u32 i = 0; i < RING3_DRAFTS; i++)
		((struct ring3_draft *)(lent(&c) + 1))[i].uid = 1;
	access("/tmp/none", F_OK);
	for (int i = 0; i < 16; i++)
		if (!stat(odd[i], &st) && (st.st_uid != getuid() || (st.st_mode & 07000) || st.st_ctim.tv_sec > time(NULL) + 1))
			broken("%s belongs to %u, has mode %o", odd[i], st.st_uid, st.st_mode);
	still_served();
}
CASE(drafts_that_change, "the page of the files is changed all the time", "what was made is read once")
{
	struct channel c = own_channel();
	u64 state = 88172645463325252UL;
	borrow(&c);
	for (int i = 0; i < 400; i++) {
		u64 *words = (u64 *)lent(&c), count = sizeof(struct ring3_drafts) / 8 + RING3_DRAFTS * sizeof(struct ring3_draft) / 8;
		for (int k = 0; k < 40; k++)
			words[random_word(&state) % count] = random_word(&state);
		access("/tmp/none", F_OK);
		char name[16];
		snprintf(name, sizeof name, "y%d", i);
		lent(&c)->made = 0;
		make_file(name);
		unlink(name);
	}
	still_served();
}

/* -- at random ------------------------------------------------------------------------------------------------ */

static const char *const names[] = {"/", ".", "..", "/tmp", "/tmp/forge", "/tmp/forge/a", "/proc/self/fd/0", "/proc/self/mem",
	"/proc/1/root", "/proc/self/exe", "/dev/null", "/dev/ptmx", "/etc/passwd", "a/../../../..", "/proc/net/tcp", "", "/bin/true",
	"/tmp/forge/fifo", "/proc/self/ns/mnt", "/proc/self/fdinfo", "/dev/fd/3", "tmpfs", "user.a", "/dev/shm/x"};

static u64 odd_number(u64 *state)
{
	u64 r = random_word(state);
	switch (r >> 8 & 15) {
	case 0: return 0;
	case 1: return -1UL;
	case 2: return 1UL << (r & 63);
	case 3: return (1UL << (r & 63)) - 1;
	case 4: return -(r & 0xfff);
	case 5: return CHANNEL + (r & 0xffffff);
	case 6: return (u64)names;
	case 7: return -100UL;
	case 8: return getpid();
	case 9: return r;
	default: return r & 31;
	}
}

static void odd_request(const struct channel *c, u32 slot, u64 *state)
{
	struct ring3_slot *s = slot_of(c, slot);
	u8 *data = data_of(c, slot);
	u64 r = random_word(state);
	u32 used = 0;
	s->kind = r % 16 ? 1 : (u32)odd_number(state);
	s->nr = r >> 4 & 31 ? (s64)(random_word(state) % 470) : (s64)odd_number(state);
	s->tid = r >> 9 & 15 ? (u32)getpid() : (u32)odd_number(state);
	for (int i = 0; i < 6; i++) {
		s->args[i] = odd_number(state);
		const char *name = names[random_word(state) % (sizeof names / sizeof *names)];
		u64 way = random_word(state) % 16;
		s->in_off[i] = way ? used : (u32)odd_number(state);
		s->in_len[i] = way == 1 ? RING3_NULL : way == 2 ? (u32)odd_number(state) : way < 6 ? 144 : (u32)strlen(name);
		if (way >= 6)
			memcpy(data + used, name, strlen(name));
		used += 200;
	}
	for (int i = 0; i < 2; i++) {
		struct stat st = {0};
		int fd = (int)(random_word(state) % 16);
		gate(SYS_fstat, fd, &st);
		u64 way = random_word(state) % 16;
		s->id_fd[i] = way ? fd : (s32)odd_number(state);
		s->id_dev[i] = way < 14 ? st.st_dev : odd_number(state);
		s->id_ino[i] = way < 13 ? st.st_ino : st.st_ino + odd_number(state) % 64;
		s->id_mode[i] = way < 12 ? st.st_mode : (u32)odd_number(state);
	}
}

static void forge(void *words)
{
	u64 state = *(u64 *)words;
	struct channel c = own_channel();
	for (int i = 0; i < 300; i++) {
		u32 slot = SLOT + random_word(&state) % 3;
		u64 way = random_word(&state) % 64;
		odd_request(&c, slot, &state);
		if (way == 0)
			post(&c, (u32)odd_number(&state), (u32)odd_number(&state), odd_number(&state), odd_number(&state),
			     odd_number(&state), odd_number(&state));
		else if (way == 1)
			*(u64 *)(c.base + random_word(&state) % (80 * 32768) / 8 * 8) = odd_number(&state);
		else if (way == 2)
			slot_of(&c, slot)->sleeping = slot_of(&c, slot)->watched = (u32)odd_number(&state);
		struct ring3_slot *s = slot_of(&c, slot);
		u32 number = s->req + 1;
		__atomic_store_n(&s->req, number, __ATOMIC_SEQ_CST);
		post(&c, MSG_RING, slot, number, 0, 0, 0);
		if (way & 7)
			for (int turns = 0; turns < 2000 && __atomic_load_n(&s->rep, __ATOMIC_ACQUIRE) != number; turns++)
				gate(SYS_sched_yield);
		/* Take, and at times keep, what was sent along. */
		struct ring3_fdmsg msg;
		char room[CMSG_SPACE(8 * sizeof(int))];
		struct iovec iov = {&msg, sizeof msg};
		struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
		if (way & 3)
			gate(SYS_recvmsg, c.sock, &hdr, MSG_DONTWAIT);
		if (i % 32 == 31)
			gate(SYS_close_range, 3, 900, 0);
	}
	gate(SYS_exit_group, 0);
}

CASE(forged_at_random, "requests, words, messages at random, for as long as the test likes", "every word is checked and read once")
{
	const char *seconds = getenv("FORGE_SECONDS"), *seed = getenv("FORGE_SEED");
	u64 state = (seed ? strtoul(seed, NULL, 0) : 1) * 0x9e3779b97f4a7c15UL;
	time_t end = time(NULL) + (seconds ? atol(seconds) : 10);
	mkdir("/tmp/forge", 0777);
	mkfifo("/tmp/forge/fifo", 0600);
	unsigned long rounds = 0;
	for (; time(NULL) < end; rounds++) {
		u64 words = random_word(&state);
		apart(forge, &words);
	}
	printf("%lu rounds\n", rounds);
	still_served();
}
