/* Descriptors: the core's own, those that are handed about, and what may be done with one that is held. */
#include "forging.h"
#include <elf.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <termios.h>

static struct proc_head *head(void)
{
	return (struct proc_head *)PROC_BASE;
}

CASE(close_the_cores, "close(2), close_range(2) of every number", "the core's own are not there")
{
	for (int fd = 3; fd < 2048; fd++)
		close(fd);
	syscall(SYS_close_range, 3, ~0U, 0);
	still_served();
}
CASE(dup_over_the_cores, "dup2(2), dup3(2) onto the core's numbers", "EBADF")
{
	REFUSED(dup2(0, head()->sock));
	REFUSED(dup2(0, head()->exe));
	REFUSED(dup3(0, head()->sock, O_CLOEXEC));
	still_served();
}
CASE(use_the_cores, "read, write, mmap, fstat, fcntl, ioctl, send, dup of the core's numbers", "EBADF")
{
	int fds[] = {head()->sock, head()->exe};
	char byte;
	struct stat st;
	for (int i = 0; i < 2; i++) {
		REFUSED(dup(fds[i]));
		REFUSED(fcntl(fds[i], F_DUPFD, 0));
		REFUSED(fcntl(fds[i], F_SETFL, O_NONBLOCK));
		REFUSED(fcntl(fds[i], F_SETFD, FD_CLOEXEC));
		REFUSED(read(fds[i], &byte, 1));
		REFUSED(write(fds[i], &byte, 1));
		REFUSED(fstat(fds[i], &st));
		REFUSED(send(fds[i], &byte, 1, 0));
		REFUSED(ftruncate(fds[i], 0));
		if (mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fds[i], 0) != MAP_FAILED)
			broken("mapped");
	}
	still_served();
}
CASE(cores_in_proc, "/proc/self/fd and fdinfo looked through for the core's numbers", "the supervisor hides them")
{
	char name[64], to[256];
	int fds[] = {head()->sock, head()->exe};
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof name, "/proc/self/fd/%d", fds[i]);
		REFUSED(readlink(name, to, sizeof to));
		REFUSED(open(name, O_RDONLY));
		snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fds[i]);
		REFUSED(open(name, O_RDONLY));
	}
}
CASE(limits_around_the_cores, "RLIMIT_NOFILE up and down while descriptors are stuffed", "the core moves its own out of the way")
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	for (rlim_t n = 8; n < 4096 && n <= limit.rlim_max; n = n * 3 / 2) {
		struct rlimit now = {n, limit.rlim_max};
		setrlimit(RLIMIT_NOFILE, &now);
		while (dup(0) >= 0) { }
		syscall(SYS_close_range, 3, ~0U, 0);
		still_served();
	}
}
CASE(table_stuffed, "a full table of descriptors, then fork, exec, open", "EMFILE, and fork goes on")
{
	while (dup(0) >= 0) { }
	REFUSED(open("/", O_RDONLY));
	int status;
	pid_t pid = fork();
	if (!pid)
		_exit(access("/", F_OK) ? 1 : 7);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 7)
		broken("fork: %d", status);
	still_served();
}

/* -- past the core -------------------------------------------------------------------------------------------- */

static void gate_closes(void *unused)
{
	(void)unused;
	gate(SYS_close_range, 3, ~0U, 0);
	struct stat st;
	stat("/hostile", &st);
	fork();
}
CASE(gate_close_all, "everything closed past the core, its socket included", "only the process ends")
{
	patience = 300;
	apart(gate_closes, NULL);
	still_served();
}
static void gate_dups(void *unused)
{
	(void)unused;
	int pair[2];
	gate(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET, 0, pair);
	gate(SYS_dup2, pair[0], head()->sock);
	struct stat st;
	stat("/hostile", &st);
}
CASE(gate_dup_over, "the core's socket replaced by one of the program's own", "only the process suffers")
{
	patience = 300;
	apart(gate_dups, NULL);
	still_served();
}
static void leaves_its_socket(void *pair)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov = {"x", 1};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	memcpy(CMSG_DATA(&control.head), &head()->sock, sizeof(int));
	gate(SYS_sendmsg, ((int *)pair)[0], &hdr, 0);
}
CASE(socket_of_the_dead, "a process gives its socket to another and ends; the other speaks in its name", "the end of a process is its pidfd's word")
{
	int pair[2], fd;
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	apart(leaves_its_socket, pair);
	char room[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = {&byte, 1};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	if (gate(SYS_recvmsg, pair[1], &hdr, 0) != 1 || hdr.msg_controllen < CMSG_LEN(sizeof(int)))
		broken("nothing came");
	memcpy(&fd, CMSG_DATA((struct cmsghdr *)room), sizeof fd);
	struct channel dead = {fd, (u8 *)CHANNEL};
	if (!is_closed(&dead))
		broken("it lives on");
	still_served();
}
static const unsigned char *elf_that_calls(long nr, size_t *size)
{
	static unsigned char file[4096];
	Elf64_Ehdr *e = (void *)file;
	Elf64_Phdr *p = (void *)(file + sizeof *e);
	memcpy(e->e_ident, "\177ELF\2\1\1", 7);
	*e = (Elf64_Ehdr){.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1, .e_entry = 0x400100, .e_phoff = sizeof *e,
			  .e_ehsize = sizeof *e, .e_phentsize = sizeof *p, .e_phnum = 1};
	memcpy(e->e_ident, "\177ELF\2\1\1", 7);
	*p = (Elf64_Phdr){PT_LOAD, PF_R | PF_X, 0, 0x400000, 0x400000, 4096, 4096, 4096};
	unsigned char *text = file + 0x100;
	text[0] = 0xb8; /* mov $nr, %eax; syscall; mov $60, %eax; xor %edi, %edi; syscall */
	memcpy(text + 1, &(int){(int)nr}, 4);
	memcpy(text + 5, "\x0f\x05\xb8\x3c\0\0\0\x31\xff\x0f\x05", 11);
	*size = sizeof file;
	return file;
}
static void executes_its_own(void *nr)
{
	static char *const none[] = {NULL};
	size_t size;
	const unsigned char *file = elf_that_calls((long)nr, &size);
	int fd = memfd_create("own", 0);
	if (write(fd, file, size) != (ssize_t)size)
		broken("no file");
	gate(SYS_execveat, fd, "", none, none, AT_EMPTY_PATH);
	broken("not executed");
}
CASE(executes_a_memfd, "execveat(2) past the core of a program of its own", "the filter outlives it: not from the core's text")
{
	must_end(executes_its_own, (void *)SYS_getpid);
}
CASE(executes_a_memfd_to_open, "the same, which opens a file", "the filter outlives it")
{
	must_end(executes_its_own, (void *)SYS_open);
}
static void executes_the_core(void *words)
{
	static char *const none[] = {NULL};
	gate(SYS_execveat, head()->exe, "", words, none, AT_EMPTY_PATH);
}
CASE(core_as_init, "the core executed as init, without and with a lock-down of its own", "it has no control socket; rights do not come back")
{
	patience = 300;
	char *words[] = {"ring3-init", "init", NULL}, *kept[] = {"ring3-init", "init", "-1", NULL};
	apart(executes_the_core, words);
	apart(executes_the_core, kept);
	still_served();
}
CASE(core_with_other_arguments, "the core executed with no arguments, strange numbers, thousands of words", "only the process suffers")
{
	patience = 300;
	char *none[] = {NULL}, *one[] = {"ring3", NULL}, *odd[] = {"ring3", "guest", "-1", "-1", "-1", "-1", "-1", "-1", NULL};
	char *far[] = {"ring3", "guest", "99999999999999999999", "0", "x", "", "0", "-1", NULL};
	char *other[] = {"ring3", "guest", "0", "1", "0", "0", "0", "2", NULL}, *many[2001];
	for (int i = 0; i < 2000; i++)
		many[i] = "guest";
	many[2000] = NULL;
	char **all[] = {none, one, odd, far, other, many};
	for (int i = 0; i < 6; i++)
		apart(executes_the_core, all[i]);
	still_served();
}
static void executes_itself_again(void *unused)
{
	(void)unused;
	char sock[16], exe[16];
	snprintf(sock, sizeof sock, "%d", head()->sock);
	snprintf(exe, sizeof exe, "%d", head()->exe);
	char *words[] = {"ring3", "guest", sock, exe, "0", "0", "0", "-1", NULL};
	executes_the_core(words);
}
CASE(core_without_an_exec, "the core executed as exec does it, but nobody asked the supervisor", "it asks for a program out of turn, and is ended")
{
	apart(executes_itself_again, NULL);
	still_served();
}
static void executes_with_environment(void *unused)
{
	(void)unused;
	static char *const words[] = {"ring3", "guest", "3", "4", "0", "0", "0", "-1", NULL};
	static char *const env[] = {"LD_PRELOAD=/tmp/x.so", "LD_AUDIT=/tmp/x.so", "GLIBC_TUNABLES=glibc.malloc.check=3", "PATH=", NULL};
	gate(SYS_execveat, head()->exe, "", words, env, AT_EMPTY_PATH);
}
CASE(core_with_an_environment, "the core executed with LD_PRELOAD and its like", "it has no libc that would read them")
{
	patience = 300;
	apart(executes_with_environment, NULL);
	still_served();
}

/* -- what is held ------------------------------------------------------------------------------------------- */

static int host_file(void)
{
	int fd = open("precious", O_RDONLY);
	if (fd < 0)
		skip("run by tests/hostile/test_battery.py only");
	return fd;
}
CASE(host_file_written, "a host file that is open for reading: write, truncate, map for writing, allocate", "it is open for reading")
{
	int fd = host_file();
	if (gate(SYS_write, fd, "x", 1) >= 0 || gate(SYS_pwrite64, fd, "x", 1, 0) >= 0 || gate(SYS_ftruncate, fd, 0) >= 0 ||
	    gate(SYS_fallocate, fd, 0, 0, 4096) >= 0)
		broken("written");
	long at = gate(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at >= 0)
		broken("mapped for writing");
	at = gate(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (at > 0 && gate(SYS_mprotect, at, 4096, PROT_READ | PROT_WRITE) == 0)
		broken("made writable");
}
static void sets_attribute(void *name)
{
	int fd = host_file();
	static const unsigned char acl[] = {2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255,
					    32, 0, 7, 0, 255, 255, 255, 255};
	if (gate(SYS_fsetxattr, fd, name, acl, sizeof acl, 0) == 0)
		broken("%s is set", (char *)name);
}
CASE(host_file_attribute, "fsetxattr(2) of a host file that is open for reading: user.x", "the filter")
{
	must_end(sets_attribute, "user.x");
}
CASE(host_file_acl, "an access control list, and so the mode, of a host file", "the filter")
{
	must_end(sets_attribute, "system.posix_acl_access");
}
static void removes_attribute(void *unused)
{
	(void)unused;
	gate(SYS_fremovexattr, host_file(), "user.x");
}
CASE(host_file_attribute_removed, "fremovexattr(2) of a host file", "the filter")
{
	must_end(removes_attribute, NULL);
}
CASE(host_file_flags, "F_SETFL, O_NOATIME and O_APPEND, leases, hints and seals of a host file", "they change nothing on the disk; EPERM, EINVAL")
{
	int fd = host_file();
	gate(SYS_fcntl, fd, F_SETFL, O_APPEND);
	if (gate(SYS_write, fd, "x", 1) >= 0)
		broken("written");
	if (gate(SYS_fcntl, fd, F_SETLEASE, F_RDLCK) >= 0 || gate(SYS_fcntl, fd, F_ADD_SEALS, 1) >= 0)
		broken("a lease or a seal");
}
CASE(host_file_reopened, "/proc/self/fd/N of a host file opened for writing", "the supervisor: it is another file then, in memory")
{
	char name[64];
	snprintf(name, sizeof name, "/proc/self/fd/%d", host_file());
	int fd = open(name, O_RDWR | O_TRUNC);
	if (fd >= 0 && write(fd, "mine", 4) != 4)
		broken("not even in memory");
}
CASE(host_file_ioctls, "ioctl(2) that change a host file: flags, versions, clones, encryption", "the filter: EPERM")
{
	static const unsigned long commands[] = {0x40086602, 0x40087602, 0x40049409, 0x401c5820, 0x800c6613, 0xc0185879, 0x4004f50f, 1, 2};
	int fd = host_file(), room[64] = {0};
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (gate(SYS_ioctl, fd, commands[i], room) >= 0)
			broken("ioctl %#lx", commands[i]);
}
CASE(memfd_reopened, "a memfd opened again by /proc/self/fd with more rights; sealed ones written", "as on Linux; nothing of the host's")
{
	char name[64];
	int fd = memfd_create("x", MFD_ALLOW_SEALING);
	if (write(fd, "abc", 3) != 3 || fcntl(fd, F_ADD_SEALS, 8 /* F_SEAL_WRITE */))
		broken("no memfd");
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	int again = open(name, O_RDWR);
	if (again >= 0)
		REFUSED(write(again, "x", 1));
	if (gate(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) >= 0)
		broken("a sealed memfd is mapped for writing");
}
static void writes_libraries(void *unused)
{
	(void)unused;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	static unsigned long found[64];
	int n = 0;
	while (maps && n < 64 && fgets(line, sizeof line, maps))
		if (strstr(line, "r-xp") && strstr(line, ".so"))
			found[n++] = strtoul(line, NULL, 16);
	for (int i = 0; i < n; i++)
		if (gate(SYS_mprotect, found[i], 4096, PROT_READ | PROT_WRITE) == 0)
			memset((void *)found[i], 0xcc, 4096); /* its own copy */
	gate(SYS_exit_group, 0);
}
CASE(library_written, "the text of a library, which all guests share, written past the core", "sealed, or open for reading")
{
	apart(writes_libraries, NULL);
	still_served(); /* and the bystander has the same libraries */
}
CASE(directory_descriptors, "what openat(2) gave for a directory, used past the core as one of the host's", "a placeholder is a socket")
{
	int fd = open("/", O_RDONLY | O_DIRECTORY), path = open("/etc", O_PATH);
	char room[512];
	if (gate(SYS_read, fd, room, 0) == -EISDIR || gate(SYS_fstat, fd, room) < 0)
		broken("a directory of the host's");
	struct stat *st = (void *)room;
	gate(SYS_fstat, fd, room);
	if (S_ISDIR(st->st_mode))
		broken("a directory of the host's");
	gate(SYS_fstat, path, room);
	if (S_ISDIR(st->st_mode))
		broken("a directory of the host's");
}
static void host_chmod(void *unused)
{
	(void)unused;
	gate(SYS_fchmod, host_file(), 0777);
}
CASE(host_file_mode, "fchmod(2) of a host file past the core", "the filter")
{
	must_end(host_chmod, NULL);
}
CASE(terminal_typing, "TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD on a terminal, by the core and past it", "EPERM")
{
	static const unsigned long commands[] = {0x5412, 0x541c, 0x541d, 0x5423};
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), room = 2;
	for (int i = 0; i < 4; i++) {
		if (ioctl(0, commands[i], &room) != -1 || (master >= 0 && i != 3 && ioctl(master, commands[i], &room) != -1))
			broken("ioctl %#lx", commands[i]);
		if (gate(SYS_ioctl, 0, commands[i], &room) != -EPERM)
			broken("ioctl %#lx past the core", commands[i]);
		if (gate(SYS_ioctl, 0, commands[i] | 1UL << 32, &room) >= 0)
			broken("ioctl %#lx with a high half", commands[i]);
	}
}
CASE(terminal_stolen, "TIOCSCTTY with the right to steal", "EPERM: nobody has the capability")
{
	if (gate(SYS_ioctl, 0, TIOCSCTTY, 1) >= 0)
		broken("stolen");
}
