/* Names: out of the sandbox by a path, and names that would keep the supervisor busy for ever. */
#include "hostile.h"
#include <dirent.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static char place[64];

/* A directory of one's own, which is the current one. */
static void own_place(void)
{
	snprintf(place, sizeof place, "/tmp/hostile-%d", getpid());
	if (mkdir(place, 0700) || chdir(place))
		broken("no place: %s", strerror(errno));
}
static void root_only(void)
{
	if (getuid())
		skip("needs a sandbox of root's");
}

CASE(dot_dot, "thousands of '..' from everywhere", "the root's parent is the root")
{
	struct stat root, up;
	char path[4000] = "";
	for (int i = 0; i < 1200; i++)
		strcat(path, "../");
	stat("/", &root);
	if (stat(path, &up) || up.st_ino != root.st_ino || up.st_dev != root.st_dev)
		broken("above the root");
	int fd = open("/proc", O_RDONLY | O_DIRECTORY);
	if (fstatat(fd, path, &up, 0) || up.st_ino != root.st_ino)
		broken("above the root");
}
CASE(symlink_cycle, "symbolic links that lead to themselves, in circles of 1, 2 and 1,000", "ELOOP")
{
	own_place();
	char from[32], to[32];
	struct stat st;
	for (int i = 0; i < 1000; i++) {
		snprintf(from, sizeof from, "l%d", i);
		snprintf(to, sizeof to, "l%d", (i + 1) % 1000);
		if (symlink(to, from))
			broken("symlink");
	}
	if (symlink("self", "self") || symlink("b/x", "a") || symlink("a/x", "b"))
		broken("symlink");
	if (stat("l0", &st) != -1 || errno != ELOOP || stat("self/x", &st) != -1 || errno != ELOOP || stat("a", &st) != -1 ||
	    errno != ELOOP || open("l7", O_CREAT | O_RDWR, 0600) != -1 || errno != ELOOP)
		broken("%s", strerror(errno));
}
CASE(symlink_tower, "forty links of forty parts each, which unfold to 2^40 names", "ELOOP after forty")
{
	own_place();
	char name[32], to[256];
	struct stat st;
	if (mkdir("l0", 0700))
		broken("mkdir");
	for (int i = 1; i < 40; i++) {
		snprintf(name, sizeof name, "l%d", i);
		snprintf(to, sizeof to, "l%d/../l%d/../l%d/../l%d", i - 1, i - 1, i - 1, i - 1);
		symlink(to, name);
	}
	if (stat("l39", &st) != -1 || errno != ELOOP)
		broken("it unfolds");
}
CASE(deep_directories, "3,000 directories in each other, then their names and their end", "as on Linux")
{
	own_place();
	for (int i = 0; i < 3000; i++)
		if (mkdir("d", 0700) || chdir("d"))
			broken("at %d", i);
	char path[8192];
	if (syscall(SYS_getcwd, path, sizeof path) != -1 && strlen(path) < 6000)
		broken("getcwd");
	for (int i = 0; i < 3000; i++)
		if (chdir("..") || rmdir("d"))
			broken("back at %d", i);
	still_served();
}
CASE(long_names, "paths of 4,095, 4,096 and 100,000 bytes; names of 255 and 256", "ENAMETOOLONG")
{
	static char path[100001];
	struct stat st;
	own_place();
	memset(path, 'a', sizeof path - 1);
	REFUSED(stat(path, &st));
	path[4096] = 0;
	REFUSED(stat(path, &st));
	for (int i = 0; i < 4096; i += 2)
		path[i] = '.', path[i + 1] = '/';
	path[4095] = 0;
	if (stat(path, &st))
		broken("4,095 bytes");
	path[4095] = '/';
	REFUSED(stat(path, &st));
	memset(path, 'b', 256);
	path[256] = 0;
	REFUSED(mkdir(path, 0700));
	path[255] = 0;
	if (mkdir(path, 0700))
		broken("255 bytes");
}
CASE(odd_names, "names of every byte, of newlines, of invalid UTF-8, then a listing", "bytes are bytes")
{
	own_place();
	int made = 0, seen = 0;
	for (int c = 1; c < 256; c++) {
		char name[] = {'x', (char)c, '\n', (char)0xff, (char)c, 0};
		if (c != '/' && close(open(name, O_CREAT | O_WRONLY, 0600)) == 0)
			made++;
	}
	DIR *here = opendir(".");
	while (readdir(here))
		seen++;
	if (seen != made + 2)
		broken("%d of %d", seen, made);
}
CASE(proc_links_out, "/proc/self/root, cwd, exe, fd and /proc/1/root followed with '..'", "the world is the sandbox's")
{
	static const char *const ways[] = {"/proc/self/root/../..", "/proc/self/cwd/../../../../../../..", "/proc/1/root/..",
					   "/proc/self/task/self/root/..", "/proc/thread-self/root/.."};
	struct stat root, st;
	stat("/", &root);
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		if (stat(ways[i], &st) == 0 && (st.st_ino != root.st_ino || st.st_dev != root.st_dev) && i != 1)
			broken("%s", ways[i]);
}
CASE(chroot_escape, "the classic way out of chroot(2): a directory kept open, fchdir, '..'", "there is nothing outside of the sandbox's root")
{
	root_only();
	own_place();
	struct stat root, st;
	stat("/", &root);
	int fd = open("/", O_RDONLY | O_DIRECTORY);
	mkdir("jail", 0700);
	if (chroot("jail") || fchdir(fd))
		broken("chroot: %s", strerror(errno));
	for (int i = 0; i < 100; i++)
		if (chdir(".."))
			break;
	if (stat(".", &st) || st.st_ino != root.st_ino)
		broken("somewhere else");
}
CASE(pivot_escape, "pivot_root(2), then the old root unmounted and looked for", "it is the sandbox's own tree")
{
	root_only();
	struct stat st;
	if (unshare(CLONE_NEWNS))
		skip("no mount namespaces");
	own_place();
	if (mount("none", ".", "tmpfs", 0, NULL) || chdir(place) || mkdir("old", 0700))
		broken("mount: %s", strerror(errno));
	if (!syscall(SYS_pivot_root, ".", "old")) {
		chdir("/");
		umount2("old", MNT_DETACH);
		if (stat("/etc/passwd", &st) == 0)
			broken("still there");
	}
}
CASE(mount_the_host, "mount(2) of devices, of proc, sysfs, cgroups, overlays of the host's directories", "the pretend kernel's own, or refused")
{
	root_only();
	if (unshare(CLONE_NEWNS))
		skip("no mount namespaces");
	own_place();
	static const char *const types[] = {"ext4", "vfat", "nfs", "9p", "fuse", "debugfs", "tracefs", "securityfs", "bpf", "binfmt_misc"};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		REFUSED(mount("/dev/sda", ".", types[i], 0, NULL));
	if (!mount("proc", ".", "proc", 0, NULL)) {
		char path[128];
		struct stat st;
		snprintf(path, sizeof path, "%s/%ld", place, given("SUPERVISOR"));
		REFUSED(stat(path, &st));
	}
}
CASE(mount_loops, "a directory bound onto itself and into itself, 300 times", "as on Linux, and it can be left")
{
	root_only();
	if (unshare(CLONE_NEWNS))
		skip("no mount namespaces");
	own_place();
	mkdir("in", 0700);
	struct stat st;
	for (int i = 0; i < 300; i++) {
		mount(".", ".", NULL, MS_BIND | (i & 1 ? MS_REC : 0), NULL);
		if (i % 60 == 0)
			mount(".", "in", NULL, MS_BIND, NULL);
	}
	char path[4096] = ".";
	for (int i = 0; i < 1000; i++)
		strcat(path, "/in");
	stat(path, &st);
	still_served();
}
CASE(recursive_binds, "mounts bound recursively into themselves, which double each time", "bounded, as fs.mount-max is")
{
	root_only();
	if (unshare(CLONE_NEWNS))
		skip("no mount namespaces");
	own_place();
	char name[16];
	int i = 0;
	mount(place, place, NULL, MS_BIND, NULL);
	chdir(place);
	for (; i < 24; i++) {
		snprintf(name, sizeof name, "m%d", i);
		mkdir(name, 0700);
		if (mount(".", name, NULL, MS_BIND | MS_REC, NULL))
			break;
	}
	if (i == 24)
		broken("2^24 mounts");
	still_served();
}

struct renamer {
	const char *one, *other;
	volatile int stop;
};
static void *renames(void *what)
{
	struct renamer *r = what;
	while (!r->stop) {
		syscall(SYS_renameat2, AT_FDCWD, r->one, AT_FDCWD, r->other, 2 /* RENAME_EXCHANGE */);
	}
	return NULL;
}
CASE(rename_race, "a directory and a link to the root exchanged while a path is walked through them", "one walk, one world")
{
	own_place();
	struct renamer r = {"here", "link", 0};
	pthread_t other;
	struct stat root, st;
	stat("/", &root);
	mkdir("here", 0700);
	symlink("/", "link");
	pthread_create(&other, NULL, renames, &r);
	for (int i = 0; i < 3000; i++) {
		int fd = open("here/../../../../../..", O_RDONLY | O_DIRECTORY);
		if (fd >= 0 && !fstat(fd, &st) && (st.st_ino != root.st_ino || st.st_dev != root.st_dev))
			broken("outside");
		close(fd);
	}
	r.stop = 1;
	pthread_join(other, NULL);
}
CASE(write_through_links, "a host file written by way of links, of O_TRUNC, of rename over it", "copy-on-write: the host's stays")
{
	char here[512];
	if (!getcwd(here, sizeof here) || access("precious", F_OK))
		skip("run by tests/hostile/test_battery.py only");
	symlink("precious", "via");
	int fd = open("via", O_WRONLY | O_TRUNC);
	if (fd < 0 || write(fd, "mine", 4) != 4)
		broken("not even in memory");
	close(fd);
	rename("precious", "other");
	link("other", "precious");
	truncate("other", 1);
	chmod("other", 0);
	unlink("other");
	unlink("precious");
	unlink("via");
	fd = open("precious", O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (fd < 0)
		broken("%s", strerror(errno));
	/* For those who come after: as it was. */
	write(fd, "what the host has\n", 18);
}
CASE(devices, "device nodes of the host's disks and memory made and opened", "they are names only")
{
	root_only();
	own_place();
	static const dev_t devices[] = {0x101 /* mem */, 0x102, 0x800 /* sda */, 0x10300 /* nvme */, 0xfe00, 0xa00 | 200, 0x700};
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		for (int block = 0; block < 2; block++) {
			unlink("node");
			if (mknod("node", (block ? S_IFBLK : S_IFCHR) | 0600, devices[i]))
				continue;
			int fd = open("node", O_RDWR);
			if (fd >= 0)
				broken("device %#lx", (unsigned long)devices[i]);
		}
}
CASE(secrets_of_proc, "/proc/kcore, kmem, kallsyms' addresses, sysrq-trigger, /proc/sys written, /sys/kernel", "the sandbox's own /proc and /sys")
{
	static const char *const files[] = {"/proc/kcore", "/dev/mem", "/dev/kmem", "/proc/sysrq-trigger", "/dev/kmsg", "/proc/kmsg",
					    "/sys/kernel/uevent_helper", "/proc/sys/kernel/core_pattern", "/sys/power/state",
					    "/proc/sys/kernel/modprobe", "/sys/kernel/debug/x", "/sys/fs/cgroup/release_agent"};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		int fd = open(files[i], O_WRONLY);
		if (fd >= 0 && write(fd, "c", 1) == 1)
			broken("%s written", files[i]);
	}
}
CASE(fifo_of_nobody, "a FIFO opened by a process that then ends, hundreds at once", "an open that waits is the process's own affair")
{
	own_place();
	mkfifo("fifo", 0600);
	pid_t pids[40];
	for (int i = 0; i < 40; i++) {
		pids[i] = fork();
		if (!pids[i])
			_exit(open("fifo", O_RDONLY));
	}
	still_served();
	for (int i = 0; i < 40; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	still_served();
}
CASE(scripts_in_a_ring, "scripts whose interpreters are each other, and one with an endless first line", "ELOOP, ENOEXEC")
{
	own_place();
	char text[128];
	static char *const words[] = {"x", NULL};
	for (int i = 0; i < 8; i++) {
		char name[8] = {'s', (char)('0' + i), 0};
		int fd = open(name, O_CREAT | O_WRONLY, 0700);
		snprintf(text, sizeof text, "#!%s/s%d x\n", place, (i + 1) % 8);
		if (write(fd, text, strlen(text)) < 0)
			broken("write");
		close(fd);
	}
	REFUSED(execv("s0", words));
	int fd = open("long", O_CREAT | O_WRONLY, 0700);
	if (write(fd, "#!", 2) != 2 || ftruncate(fd, 1UL << 40))
		broken("no file");
	close(fd);
	REFUSED(execv("long", words));
	still_served();
}
static void executes(void *name)
{
	static char *const words[] = {"x", NULL};
	execv(name, words);
}
CASE(programs_that_lie, "ELF files whose headers name terabytes, overlap the core, have 65,535 segments", "ENOEXEC, or only they end")
{
	own_place();
	unsigned char head[64 + 56 * 3] = "\177ELF\2\1\1";
	static const unsigned long sizes[] = {1UL << 40, 1UL << 62, -1UL, 0x210000000000UL, 4096};
	static const unsigned long places[] = {0, 0x210000001000UL, CHANNEL, -4096UL, 0x7fffffffe000UL, 0x400000};
	for (int i = 0; i < 30; i++) {
		*(uint16_t *)(head + 16) = 2 + i % 2;
		*(uint16_t *)(head + 18) = 62;
		*(uint64_t *)(head + 24) = places[i % 6];
		*(uint64_t *)(head + 32) = i == 7 ? 1UL << 50 : 64;
		*(uint16_t *)(head + 54) = 56;
		*(uint16_t *)(head + 56) = i % 7 == 3 ? 65535 : 3;
		for (int j = 0; j < 3; j++) {
			unsigned char *p = head + 64 + 56 * j;
			*(uint32_t *)p = j == 2 ? 3 : 1;
			*(uint32_t *)(p + 4) = 7;
			*(uint64_t *)(p + 8) = j ? sizes[(i + j) % 5] : 0;
			*(uint64_t *)(p + 16) = places[(i + j) % 6];
			*(uint64_t *)(p + 32) = sizes[i % 5];
			*(uint64_t *)(p + 40) = sizes[(i + 1) % 5];
			*(uint64_t *)(p + 48) = 4096;
		}
		int fd = open("lie", O_CREAT | O_TRUNC | O_WRONLY, 0700);
		if (write(fd, head, sizeof head) != sizeof head || ftruncate(fd, 1UL << 33))
			broken("no file");
		close(fd);
		apart(executes, "lie");
	}
	still_served();
}
