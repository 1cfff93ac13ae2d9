/* The core's memory: taken away, moved, written over; from guest text, where the core refuses, and past the core, where a
 * program takes over or loses its own process and nothing else. */
#include "hostile.h"
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/uio.h>

#define CORE_CALLS(call_on) \
	do { \
		REFUSED(call_on(CORE_BASE)); \
		REFUSED(call_on(CORE_TEXT)); \
		REFUSED(call_on(PROC_BASE)); \
		REFUSED(call_on(CHANNEL)); \
	} while (0)

#define UNMAP(at) munmap((void *)(at), 4096)
CASE(munmap_the_core, "munmap(2) of the core's text, data and channel", "the core refuses")
{
	CORE_CALLS(UNMAP);
	REFUSED(munmap((void *)(CORE_BASE - 4096), 1UL << 40));
	still_served();
}
#define PROTECT(at) mprotect((void *)(at), 4096, PROT_READ | PROT_WRITE | PROT_EXEC)
CASE(mprotect_the_core, "mprotect(2) of the core to rwx", "the core refuses")
{
	CORE_CALLS(PROTECT);
	still_served();
}
#define MOVE(at) (mremap((void *)(at), 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, fresh) == MAP_FAILED ? -1 : 0)
CASE(mremap_the_core, "mremap(2) of the core elsewhere, and of something onto it", "the core refuses")
{
	void *fresh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CORE_CALLS(MOVE);
	if (mremap(fresh, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)CORE_TEXT) != MAP_FAILED)
		broken("moved onto the core");
	still_served();
}
#define OVER(at) (mmap((void *)(at), 4096, 7, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0)
CASE(mmap_over_the_core, "mmap(2), MAP_FIXED, onto the core", "the core refuses")
{
	CORE_CALLS(OVER);
	if (mmap((void *)(CORE_BASE - (1 << 20)), 1 << 24, 3, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		broken("mapped across the core");
	still_served();
}
#define FORGET(at) madvise((void *)(at), 4096, MADV_DONTNEED)
CASE(madvise_the_core, "madvise(2), MADV_DONTNEED and MADV_REMOVE, on the core", "the core refuses")
{
	CORE_CALLS(FORGET);
	REFUSED(madvise((void *)CHANNEL, 4096, MADV_REMOVE));
	REFUSED(madvise((void *)CORE_TEXT, 4096, 102 /* MADV_GUARD_INSTALL */));
	still_served();
}
#define KEY(at) syscall(SYS_pkey_mprotect, at, 4096, 0, -1)
CASE(pkey_mprotect_the_core, "pkey_mprotect(2) on the core", "the core refuses")
{
	CORE_CALLS(KEY);
	still_served();
}
#define SEAL(at) syscall(462, at, 4096, 0)
CASE(mseal_the_core, "mseal(2) on the core, so that it can do nothing with its memory", "the core refuses")
{
	CORE_CALLS(SEAL);
	still_served();
}
#define PAGES(at) syscall(SYS_remap_file_pages, at, 4096, 0, 0, 0)
CASE(remap_file_pages_of_the_core, "remap_file_pages(2) on the channel", "the core refuses")
{
	CORE_CALLS(PAGES);
	still_served();
}
CASE(shmat_onto_the_core, "shmat(2), SHM_REMAP, onto the core", "the supervisor refuses")
{
	int id = shmget(IPC_PRIVATE, 4096, 0600);
	if (id < 0)
		skip("no shared memory");
	if (shmat(id, (void *)CORE_TEXT, SHM_REMAP) != (void *)-1 || shmat(id, (void *)CHANNEL, SHM_REMAP) != (void *)-1)
		broken("attached onto the core");
	shmctl(id, IPC_RMID, NULL);
	still_served();
}
CASE(brk_into_the_core, "brk(2) and a growing stack that reach for the core", "the core refuses")
{
	static const unsigned long ends[] = {CORE_TEXT, CHANNEL, CORE_BASE - 1, CORE_END + 4096, -1UL};
	for (int i = 0; i < 5; i++) {
		unsigned long end = (unsigned long)syscall(SYS_brk, ends[i]);
		if (end >= CORE_BASE && end <= CORE_END)
			broken("the break is in the core");
	}
	still_served();
}
CASE(read_into_the_core_text, "read(2) and pread(2) into the core's text", "it is not writable")
{
	int fd = open("/dev/zero", O_RDONLY);
	REFUSED(read(fd, (void *)CORE_TEXT, 64));
	struct iovec one = {(void *)CORE_TEXT, 64};
	REFUSED(readv(fd, &one, 1));
	still_served();
}
CASE(stat_into_the_core, "stat(2), getcwd(2), readlink(2), getdents64(2) with buffers in the core", "the core does not copy there")
{
	int fd = open("/", O_RDONLY | O_DIRECTORY);
	REFUSED(syscall(SYS_stat, "/", PROC_BASE));
	REFUSED(syscall(SYS_getcwd, CHANNEL, 4096));
	REFUSED(syscall(SYS_readlink, "/proc/self/exe", CHANNEL, 4096));
	REFUSED(syscall(SYS_getdents64, fd, CHANNEL, 4096));
	REFUSED(syscall(SYS_uname, PROC_BASE));
	still_served();
}
CASE(read_from_the_core, "write(2) of a path that lies in the core; open(2) of it", "the core does not copy from there")
{
	REFUSED(open((char *)CHANNEL, O_RDONLY));
	REFUSED(syscall(SYS_execve, CORE_TEXT, NULL, NULL));
	still_served();
}
CASE(write_proc_self_mem, "/proc/self/mem written at the core's text, data and channel", "the supervisor refuses")
{
	int fd = open("/proc/self/mem", O_RDWR);
	unsigned long where[] = {CORE_TEXT, PROC_BASE, CHANNEL, CORE_BASE};
	for (int i = 0; fd >= 0 && i < 4; i++)
		if (pwrite(fd, "\xcc", 1, where[i]) == 1)
			broken("wrote at %#lx", where[i]);
	still_served();
}
CASE(read_proc_self_mem, "/proc/self/mem read at the core: its channel, its socket's number", "the supervisor refuses")
{
	char byte;
	int fd = open("/proc/self/mem", O_RDONLY);
	if (fd >= 0 && pread(fd, &byte, 1, CHANNEL) == 1)
		broken("read the channel");
	still_served();
}
CASE(maps_show_no_core, "/proc/self/maps and smaps looked through for the core", "the supervisor hides it")
{
	static const char *const files[] = {"/proc/self/maps", "/proc/self/smaps", "/proc/self/numa_maps"};
	char line[4096];
	for (int i = 0; i < 3; i++) {
		FILE *file = fopen(files[i], "r");
		while (file && fgets(line, sizeof line, file)) {
			unsigned long start = strtoul(line, NULL, 16);
			if (start >= CORE_BASE && start < CORE_END)
				broken("%s shows %s", files[i], line);
		}
		if (file)
			fclose(file);
	}
}
CASE(process_vm_writev_self, "process_vm_writev(2) of the process itself", "the core refuses the call")
{
	char byte = 0xcc;
	struct iovec here = {&byte, 1}, there = {(void *)CORE_TEXT, 1};
	REFUSED(process_vm_writev(getpid(), &here, 1, &there, 1, 0));
	still_served();
}
CASE(ptrace_poke, "ptrace(2) of its own child, to write into its core", "the core refuses the call")
{
	REFUSED(ptrace(PTRACE_TRACEME, 0, 0, 0));
	pid_t pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	REFUSED(ptrace(PTRACE_SEIZE, pid, 0, 0));
	REFUSED(ptrace(PTRACE_ATTACH, pid, 0, 0));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* -- past the core -------------------------------------------------------------------------------------------- */

static void gate_unmaps(void *at)
{
	gate(SYS_munmap, at, 4096);
	getppid();
	struct stat st;
	stat("/", &st);
}
CASE(gate_munmap_text, "the core's text unmapped by its own instruction", "only the process ends")
{
	apart(gate_unmaps, (void *)CORE_TEXT);
	still_served();
}
CASE(gate_munmap_data, "the core's data unmapped by its own instruction", "only the process ends")
{
	apart(gate_unmaps, (void *)PROC_BASE);
	still_served();
}
CASE(gate_munmap_channel, "the channel unmapped by the core's own instruction", "only the process ends")
{
	apart(gate_unmaps, (void *)CHANNEL);
	apart(gate_unmaps, (void *)(CHANNEL + 32768));
	still_served();
}
static void gate_munmaps_all(void *unused)
{
	(void)unused;
	gate(SYS_munmap, CORE_BASE, CORE_END - CORE_BASE);
}
CASE(gate_munmap_everything, "the whole core unmapped at once", "only the process ends")
{
	apart(gate_munmaps_all, NULL);
	still_served();
}

/* The page of the gate with text of one's own in it: calls from there pass as the core's. */
static void own_core(void *nr)
{
	static unsigned char copy[4096] __attribute__((aligned(4096)));
	unsigned long page = (unsigned long)the_gate() & -4096UL;
	memcpy(copy, (void *)page, sizeof copy);
	gate(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	memset((void *)(((unsigned long)the_gate() & -4096UL) + (((unsigned long)the_gate() & 4095) > 2048 ? 0 : 3000)), 0x90, 64);
	gate((long)nr, "/etc/passwd", 0, 0);
}
CASE(own_core_open, "the core's text made writable and written over, then open(2) from it", "the filter: what it lets through does not depend on the text")
{
	must_end(own_core, (void *)SYS_open);
}
CASE(own_core_socket, "the same with socket(2)", "the filter")
{
	must_end(own_core, (void *)SYS_socket);
}
CASE(own_core_execve, "the same with execve(2)", "the filter")
{
	must_end(own_core, (void *)SYS_execve);
}
CASE(own_core_ptrace, "the same with ptrace(2)", "the filter")
{
	must_end(own_core, (void *)SYS_ptrace);
}

static void moved_core(void *unused)
{
	(void)unused;
	unsigned long page = (unsigned long)the_gate() & -4096UL;
	unsigned char *elsewhere = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(elsewhere, (void *)page, 4096);
	const unsigned char *old = the_gate();
	gate(SYS_prctl, 59, 0); /* dispatch off */
	long r = SYS_getpid;
	__asm__ volatile("call *%1" : "+a"(r) : "r"(elsewhere + (old - (unsigned char *)page)) : "rcx", "r11", "memory");
}
CASE(copied_gate, "a copy of the core's instruction elsewhere, dispatch off", "the filter: only from the core's addresses")
{
	must_end(moved_core, NULL);
}

static void scribble(void *range)
{
	unsigned long *r = range, seed = (unsigned long)getpid() * 0x9e3779b97f4a7c15UL;
	for (int i = 0; i < 4096; i++) {
		seed = seed * 6364136223846793005UL + 1;
		*(volatile unsigned long *)(r[0] + (seed >> 20) % (r[1] / 8) * 8) = seed;
	}
	struct stat st;
	for (int i = 0; i < 8; i++)
		stat("/", &st);
}
CASE(scribble_the_core, "random words written over the core's data", "only the process suffers")
{
	unsigned long range[2] = {PROC_BASE, 65536};
	patience = 100;
	for (int i = 0; i < 20; i++)
		apart(scribble, range);
	still_served();
}
CASE(scribble_the_channel, "random words written over the channel's head and first slots", "every word is data to the supervisor")
{
	unsigned long range[2] = {CHANNEL, 3 * 32768};
	patience = 100;
	for (int i = 0; i < 20; i++)
		apart(scribble, range);
	still_served();
}

static void world_page(void *unused)
{
	(void)unused;
	*(volatile int *)0x210f00000000UL = 0;
	broken("the world page is writable");
}
static void world_page_by_gate(void *unused)
{
	if (gate(SYS_mprotect, 0x210f00000000UL, 4096, PROT_READ | PROT_WRITE) == 0)
		world_page(unused);
}
CASE(world_page, "a write to the world page, which all guests read", "it is mapped from a read-only descriptor")
{
	must_not_succeed(world_page, NULL);
	must_not_succeed(world_page_by_gate, NULL);
}
CASE(channel_punched, "holes punched into the channel's memory, and its size changed", "its seals; a hole is zeros")
{
	still_served();
	gate(SYS_madvise, CHANNEL, 64 << 20, MADV_REMOVE);
	still_served();
}
