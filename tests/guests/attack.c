// A guest that aims at what stands over it: the core's pages, dispatch, its fds. All refused or harmless; after
// every attempt a directory is made: on the host's disk, where the test looks, only if interception was lost.
// users: root nobody
#include "check.h"
#include <sys/uio.h>

#define CORE 0x210000000000ul
#define CORE_SIZE 0x1000000000ul

static int made;
static void still_ours(void) {
    char name[32];
    snprintf(name, sizeof name, "attack-%d-%d", getpid(), made++);
    OK(mkdir(name, 0700));
    struct stat st;
    OK(stat(name, &st));
    EQ(getpid() > 0, 1);
    EQ(syscall(SYS_getppid) >= 0, 1);
}

static void try(long r) {
    (void)r; /* natively nothing is there, so some of these succeed; under ring3 the errno is not the point */
    still_ours();
}

static void unmap(void) {
    if (!under_ring3()) return;
    FAILS(munmap((void *)CORE, 4096), EINVAL);
    still_ours();
    try(munmap((void *)CORE, CORE_SIZE));
    try(munmap((void *)(CORE - (1 << 20)), 2 << 20));
    for (unsigned long at = CORE; at < CORE + (64 << 20); at += 1 << 20) {
        munmap((void *)at, 1 << 20);
        madvise((void *)at, 1 << 20, MADV_DONTNEED);
        mprotect((void *)at, 1 << 20, PROT_NONE);
    }
    still_ours();
}

static void map_over(void) {
    if (!under_ring3()) return;
    CHECK(mmap((void *)CORE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == MAP_FAILED);
    still_ours();
    try((long)mmap((void *)(CORE - 4096), 1 << 24, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    try((long)mmap((void *)(CORE + 4096), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    void *hint = mmap((void *)CORE, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(hint != MAP_FAILED); /* a hint is only a hint */
    CHECK((unsigned long)hint < CORE || (unsigned long)hint >= CORE + CORE_SIZE);
    still_ours();
}

static void protect(void) {
    if (!under_ring3()) return;
    int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE | PROT_EXEC};
    for (int i = 0; i < 4; i++) {
        try(mprotect((void *)CORE, 4096, prots[i]));
        try(mprotect((void *)CORE, CORE_SIZE, prots[i]));
        try(mprotect((void *)(CORE + (1 << 20)), 1 << 20, prots[i]));
        try(syscall(SYS_pkey_mprotect, CORE, 4096, prots[i], -1));
    }
}

static void remap(void) {
    void *mine = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (under_ring3()) {
        CHECK(mremap(mine, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)CORE) == MAP_FAILED);
        CHECK(mremap((void *)CORE, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, mine) == MAP_FAILED);
        CHECK(mremap((void *)CORE, 4096, 1 << 20, MREMAP_MAYMOVE) == MAP_FAILED);
        try((long)mremap((void *)CORE, 0, 4096, MREMAP_MAYMOVE));
        try(syscall(SYS_remap_file_pages, CORE, 4096, 0, 0, 0));
        try(madvise((void *)CORE, CORE_SIZE, MADV_DONTNEED));
        try(madvise((void *)CORE, 1 << 24, MADV_FREE));
        try(madvise((void *)CORE, CORE_SIZE, MADV_REMOVE));
        try(madvise((void *)CORE, CORE_SIZE, MADV_DONTFORK));
        try(madvise((void *)CORE, CORE_SIZE, MADV_WIPEONFORK));
        pid_t pid = fork();
        if (!pid) {
            still_ours();
            _exit(check_bad ? 1 : 0);
        }
        EXITED(pid, 0);
    }
    still_ours();
    OK(munmap(mine, 8192));
}

static void as_a_buffer(void) {
    int fd = (int)OK(open("/dev/zero", O_RDONLY)), p[2];
    FAILS(read(fd, (void *)CORE, 4096), EFAULT);
    FAILS(read(fd, (void *)(CORE + 0x10000), 4096), EFAULT);
    OK(pipe(p));
    EQ(write(p[1], "junkjunkjunkjunk", 16), 16);
    FAILS(read(p[0], (void *)CORE, 16), EFAULT);
    struct iovec v = {(void *)CORE, 16};
    FAILS(readv(p[0], &v, 1), EFAULT);
    FAILS(stat("/", (void *)CORE), EFAULT);
    FAILS(syscall(SYS_getrandom, CORE, 4096, 0), EFAULT);
    FAILS(syscall(SYS_clock_gettime, 11, CORE), EFAULT);
    FAILS(syscall(SYS_getcwd, CORE, 4096), EFAULT);
    FAILS(syscall(SYS_uname, CORE), EFAULT);
    close(fd);
    close(p[0]);
    close(p[1]);
    still_ours();
}

static void by_proc_mem(void) {
    int fd = open("/proc/self/mem", O_RDWR);
    if (fd >= 0) {
        char junk[64] = {0};
        CHECK(pwrite(fd, junk, sizeof junk, CORE) <= 0);
        CHECK(pwrite(fd, junk, sizeof junk, CORE + 0x1000) <= 0);
        close(fd);
    }
    struct iovec l = {&fd, 4}, r = {(void *)CORE, 4};
    CHECK(syscall(SYS_process_vm_writev, getpid(), &l, 1, &r, 1, 0) == -1);
    CHECK(syscall(SYS_process_vm_readv, getppid(), &l, 1, &r, 1, 0) == -1);
    still_ours();
}

#define PR_SET_SYSCALL_USER_DISPATCH 59

static void dispatch_off(void) {
    if (under_ring3()) { /* a dispatcher of the guest's own is emulated; ours stays */
        OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0));
        still_ours();
        static char selector;
        try(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector));
        try(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, ~0ul, 0));
        try(prctl(PR_SET_SYSCALL_USER_DISPATCH, 2, 0x1000, 0x7ffffffff000, &selector));
        try(syscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH | 0x500000000, 0, 0, 0, 0));
        still_ours();
    }
    still_ours();
}

static void its_fds(void) {
    /* whatever sits above the limit is not there for the guest: closing everything leaves it working */
    IN_CHILD({
        struct rlimit rl;
        OK(getrlimit(RLIMIT_NOFILE, &rl));
        for (long fd = 3; fd < (long)rl.rlim_max && fd < 1 << 17; fd++) close((int)fd);
        still_ours();
        OK(syscall(SYS_close_range, 3, ~0u, 0));
        still_ours();
        syscall(SYS_close_range, 3, ~0u, 4 /* CLOEXEC */);
        still_ours();
        for (int fd = (int)rl.rlim_max - 64; fd < (int)rl.rlim_max + 64; fd++) {
            dup2(1, fd);
            fcntl(fd, F_SETFL, O_NONBLOCK);
        }
        still_ours();
        pid_t pid = fork();
        if (!pid) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        EXITED(pid, 0);
    });
    IN_CHILD({
        struct rlimit rl = {8, 8};
        OK(setrlimit(RLIMIT_NOFILE, &rl));
        still_ours();
        pid_t pid = fork();
        if (!pid) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        EXITED(pid, 0);
    });
}

static void other_doors(void) {
    struct { const char *name; long r; } all[] = {
        {"ptrace", syscall(SYS_ptrace, 16 /* ATTACH */, 1, 0, 0)},
        {"io_uring_setup", under_ring3() ? syscall(425, 8, NULL) : -1},
        {"perf_event_open", under_ring3() ? syscall(298, NULL, 0, -1, -1, 0) : -1},
        {"bpf", syscall(321, 9999, NULL, 0)},
        {"kexec_load", syscall(246, 0, 0, NULL, ~0ul)},
        {"init_module", syscall(175, NULL, 0, "")},
        {"reboot", syscall(169, 0, 0, 0, NULL)},
        {"open_by_handle_at", syscall(304, -1, NULL, 0)},
        {"pidfd_open 1", geteuid() ? -1 : under_ring3() ? syscall(434, 2, 0) : -1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].r != -1) COMPLAIN("%s gave %ld", all[i].name, all[i].r);
        still_ours();
    }
}

static void many_maps(void) {
    /* eat address space: the area is never handed out */
    for (int i = 0; i < 200; i++) {
        char *m = mmap(NULL, 1ul << 33, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m == MAP_FAILED) break;
        if ((unsigned long)m + (1ul << 33) > CORE && (unsigned long)m < CORE + CORE_SIZE) COMPLAIN("%p", (void *)m);
    }
    still_ours();
}

MAIN(CASE(unmap), CASE(map_over), CASE(protect), CASE(remap), CASE(as_a_buffer), CASE(by_proc_mem),
     CASE(dispatch_off), CASE(its_fds), CASE(other_doors), CASE(many_maps))
