// Bad pointers give EFAULT, in calls of every lane: unmapped, forbidden, half mapped, write to read-only.
#include "check.h"
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>

static char *edge, *read_only, *none; /* edge: the address right behind the last mapped byte */

#define RAW(...) FAILS(syscall(__VA_ARGS__), EFAULT)

static void inputs(void *bad) {
    int fd = (int)OK(open("file", O_RDWR | O_CREAT, 0600)), p[2];
    OK(pipe(p));
    RAW(SYS_open, bad, O_RDONLY);
    RAW(SYS_openat, AT_FDCWD, bad, O_RDONLY);
    RAW(SYS_stat, bad, NULL);
    RAW(SYS_access, bad, 0);
    RAW(SYS_mkdir, bad, 0700);
    RAW(SYS_rmdir, bad);
    RAW(SYS_unlink, bad);
    RAW(SYS_rename, bad, "x");
    RAW(SYS_rename, "file", bad);
    RAW(SYS_symlink, bad, "x");
    RAW(SYS_symlink, "x", bad);
    RAW(SYS_link, "file", bad);
    RAW(SYS_chdir, bad);
    RAW(SYS_chmod, bad, 0600);
    RAW(SYS_chown, bad, 0, 0);
    RAW(SYS_truncate, bad, 0);
    RAW(SYS_utimensat, AT_FDCWD, "file", bad, 0);
    RAW(SYS_utimensat, AT_FDCWD, bad, NULL, 0);
    RAW(SYS_execve, bad, NULL, NULL);
    RAW(SYS_write, p[1], bad, 1);
    RAW(SYS_pwrite64, fd, bad, 1, 0);
    RAW(SYS_writev, p[1], bad, 1);
    struct iovec v = {bad, 1};
    RAW(SYS_writev, p[1], &v, 1);
    RAW(SYS_nanosleep, bad, NULL);
    RAW(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, bad, NULL);
    RAW(SYS_rt_sigprocmask, SIG_BLOCK, bad, NULL, 8);
    RAW(SYS_rt_sigaction, SIGUSR1, bad, NULL, 8);
    RAW(SYS_rt_sigsuspend, bad, 8);
    RAW(SYS_rt_sigtimedwait, bad, NULL, NULL, 8);
    RAW(SYS_sigaltstack, bad, NULL);
    RAW(SYS_setitimer, ITIMER_REAL, bad, NULL);
    RAW(SYS_setrlimit, RLIMIT_CORE, bad);
    RAW(SYS_prlimit64, 0, RLIMIT_CORE, bad, NULL);
    RAW(SYS_poll, bad, 1, 0);
    RAW(SYS_ppoll, NULL, 0, bad, NULL, 8);
    RAW(SYS_select, 1, bad, NULL, NULL, NULL);
    int ep = (int)OK(epoll_create1(0));
    RAW(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, p[0], bad);
    RAW(SYS_futex, bad, 0, 0, NULL, NULL, 0);
    RAW(SYS_sendfile, p[1], fd, bad, 1);
    RAW(SYS_setgroups, 1, bad);
    RAW(SYS_statfs, bad, NULL);
    RAW(SYS_readlink, bad, NULL, 10);
    RAW(SYS_mknod, bad, 0, 0);
    RAW(SYS_bind, (int)OK(socket(AF_UNIX, SOCK_STREAM, 0)), bad, 20);
    RAW(SYS_fcntl, fd, F_SETLK, bad);
    RAW(SYS_memfd_create, bad, 0);
    RAW(SYS_setxattr, bad, "user.x", "", 0, 0);
    for (int i = 3; i < 40; i++) close(i);
}

static void outputs(void *bad) {
    int fd = (int)OK(open("file", O_RDWR | O_CREAT, 0600)), p[2];
    EQ(pwrite(fd, "0123456789", 10, 0), 10);
    OK(pipe(p));
    EQ(write(p[1], "abc", 3), 3);
    unlink("sl");
    OK(symlink("target", "sl"));
    RAW(SYS_stat, "/", bad);
    RAW(SYS_lstat, "/", bad);
    RAW(SYS_fstat, fd, bad);
    RAW(SYS_fstat, (int)OK(open(".", O_RDONLY)), bad);
    RAW(SYS_newfstatat, AT_FDCWD, "file", bad, 0);
    RAW(SYS_statx, AT_FDCWD, "file", 0, 0x7ff, bad);
    RAW(SYS_statfs, "/", bad);
    RAW(SYS_fstatfs, fd, bad);
    RAW(SYS_readlink, "sl", bad, 10);
    RAW(SYS_getcwd, bad, 4096);
    RAW(SYS_getdents64, (int)OK(open(".", O_RDONLY)), bad, 4096);
    RAW(SYS_read, p[0], bad, 3);
    struct iovec v = {bad, 3};
    if (bad != edge - 1) { /* these are merely short there */
        int status = (int)OK(open("/proc/self/status", O_RDONLY)), zeros = (int)OK(open("/dev/zero", O_RDONLY));
        RAW(SYS_pread64, fd, bad, 3, 0);
        RAW(SYS_preadv, fd, &v, 1, 0, 0);
        RAW(SYS_read, status, bad, 100);
        RAW(SYS_read, zeros, bad, 100);
        RAW(SYS_getrandom, bad, 16, 0);
    }
    RAW(SYS_pipe, bad);
    RAW(SYS_pipe2, bad, 0);
    RAW(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, bad);
    RAW(SYS_uname, bad);
    RAW(SYS_sysinfo, bad);
    RAW(SYS_times, bad);
    RAW(SYS_getrusage, RUSAGE_SELF, bad);
    RAW(SYS_getrlimit, RLIMIT_NOFILE, bad);
    RAW(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, bad);
    RAW(SYS_prlimit64, 0, RLIMIT_STACK, NULL, bad);
    RAW(SYS_clock_gettime, CLOCK_TAI, bad);
    RAW(SYS_clock_getres, CLOCK_MONOTONIC, bad);
    RAW(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, bad);
    RAW(SYS_gettimeofday, bad, NULL);
    RAW(SYS_time, bad);
    RAW(SYS_getitimer, ITIMER_REAL, bad);
    RAW(SYS_rt_sigprocmask, SIG_BLOCK, NULL, bad, 8);
    RAW(SYS_rt_sigaction, SIGUSR1, NULL, bad, 8);
    RAW(SYS_rt_sigpending, bad, 8);
    RAW(SYS_sigaltstack, NULL, bad);
    RAW(SYS_sched_getaffinity, 0, 128, bad);
    RAW(SYS_getresuid, bad, bad, bad);
    RAW(SYS_getresgid, bad, bad, bad);
    RAW(SYS_getcpu, bad, NULL, NULL);
    RAW(SYS_ioctl, p[0], 0x541b /* FIONREAD */, bad);
    RAW(SYS_getsockopt, (int)OK(socket(AF_UNIX, SOCK_STREAM, 0)), SOL_SOCKET, SO_TYPE, bad, bad);
    for (int i = 3; i < 40; i++) close(i);
}
#undef RAW

/* wait4 reaps and then fails */
static void wait_status(void) {
    pid_t pid = fork();
    if (!pid) _exit(0);
    FAILS(syscall(SYS_wait4, pid, (void *)8, 0, NULL), EFAULT);
    FAILS(waitpid(pid, NULL, 0), ECHILD);
}

static void unmapped(void) { inputs((void *)8); }
static void kernel_half(void) { inputs((void *)0xffff800000000000); }
static void prot_none(void) { inputs(none); }
static void out_unmapped(void) { outputs((void *)8); }
static void out_kernel_half(void) { outputs((void *)0xffffffff80000000); }
static void out_read_only(void) { outputs(read_only); }
static void out_half(void) { outputs(edge - 1); }

static void at_the_edge(void) {
    /* what just fits, fits; a string that runs into the hole does not */
    struct stat *st = (struct stat *)(edge - sizeof *st);
    OK(stat("/", st));
    CHECK(S_ISDIR(st->st_mode));
    strcpy(edge - 2, "/");
    OK(access(edge - 2, F_OK));
    edge[-1] = 'x';
    edge[-2] = 'x';
    FAILS(access(edge - 2, F_OK), EFAULT);
    FAILS(open(edge - 2, O_RDONLY | O_CREAT, 0600), EFAULT);
    int p[2];
    OK(pipe(p));
    EQ(write(p[1], "abcdef", 6), 6);
    EQ(read(p[0], edge - 6, 6), 6);
    EQ(memcmp(edge - 6, "abcdef", 6), 0);
    close(p[0]);
    close(p[1]);
    int fd = (int)OK(open("edge", O_CREAT | O_RDWR, 0600));
    EQ(write(fd, edge - 4, 8), 4); /* a write that runs into the hole is short */
    close(fd);
}

int main(int argc, char **argv) {
    edge = (char *)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 4096;
    mprotect(edge, 4096, PROT_NONE);
    read_only = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const struct check_case cases[] = {
        CASE(unmapped), CASE(kernel_half), CASE(prot_none), CASE(out_unmapped), CASE(out_kernel_half),
        CASE(out_read_only), CASE(out_half), CASE(wait_status), CASE(at_the_edge)};
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
